#include "runtime/cleanup.h"
#include "runtime/config.h"
#include "runtime/config_private.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

typedef struct {
    const char *uri, *password, *prefix;
    int64_t shards, port;
    bool drain;
    int format;
    cm_config_list_t delays;
} values_t;

#define AT(member) offsetof(values_t, member)

static const cm_config_key_t keys[] = {
    {"postgres.uri", CM_CONFIG_TEXT, AT(uri), NULL, 0, 0, NULL, false, "Where."},
    {"postgres.password", CM_CONFIG_TEXT, AT(password), NULL, 4, 70000, NULL, true, "Secret."},
    {"broker.prefix", CM_CONFIG_TEXT, AT(prefix), "client-manager", 1, 20, NULL, false, "Topics."},
    {"writer.shards", CM_CONFIG_INT, AT(shards), "4", 1, 64, NULL, false, "Threads."},
    {"writer.port", CM_CONFIG_INT, AT(port), NULL, 0, 0, NULL, false, "Port."},
    {"writer.drain-first", CM_CONFIG_BOOL, AT(drain), "yes", 0, 0, NULL, false, "Drain."},
    {"log.format", CM_CONFIG_CHOICE, AT(format), "json", 0, 0, "auto|json|text", false, "Format."},
    {"retry.delays", CM_CONFIG_INT_LIST, AT(delays), "5,15,45", 1, 600, NULL, false, "Seconds."},
};
static const cm_config_table_t table = {keys, CM_LENGTH(keys), sizeof(values_t)};

/* One loading: what it is given, and what came of it. */
typedef struct {
    const char *file, *environ_[4], *flags[4];
    cm_config_t *config;
    cm_buffer_t faults;
    cm_error_t err;
} load_t;

static cm_status_t load(load_t *self)
{
    static const cm_config_alias_t aliases[] = {{"writer.port", "COMMON_PORT"}};
    cm_config_sources_t sources = {.file = self->file,
                                   .environ_ = self->environ_,
                                   .flags = self->flags,
                                   .aliases = aliases,
                                   .alias_count = CM_LENGTH(aliases)};
    while (sources.flag_count < 4 && self->flags[sources.flag_count])
        sources.flag_count++;
    return cm_config_load(&self->config, &table, &sources, &self->faults, &self->err);
}

static void load_destroy(load_t *self)
{
    cm_config_destroy(&self->config);
    cm_buffer_destroy(&self->faults);
}

static const values_t *loaded(load_t *self)
{
    cr_assert(eq(int, load(self), CM_OK), "%s", self->err.message);
    return cm_config_values(self->config);
}

/* The faults must be exactly these lines; ^ in them stands for the file. */
static void expect_faults(load_t *self, const char *expected)
{
    cr_assert(eq(int, load(self), CM_MISCONFIGURED));
    cr_expect(eq(ptr, self->config, NULL));
    cr_expect(eq(str, self->err.code, "config"));
    const char *got = cm_buffer_text(&self->faults);
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t wanted = {0};
    for (const char *c = expected; *c; c++)
        if (*c == '^')
            cm_buffer_append(&wanted, self->file, strlen(self->file));
        else
            cm_buffer_append(&wanted, c, 1);
    cr_expect(eq(str, (char *)got, (char *)cm_buffer_text(&wanted)));
    cr_expect(zero(int, strncmp(self->err.message, got, strlen(self->err.message))));
}

/* A temporary file, gone with the local. */
typedef struct {
    char path[40];
} file_t;

static file_t new_file(const void *bytes, size_t len)
{
    file_t file = {"/tmp/cm-test-config-XXXXXX"};
    int fd = mkstemp(file.path);
    cr_assert(ge(int, fd, 0));
    cr_assert(eq(sz, (size_t)write(fd, bytes, len), len));
    close(fd);
    return file;
}

static void file_destroy(file_t *self)
{
    unlink(self->path);
}

#define YAML(text)                                                                                 \
    CM_CLEANUP(file_destroy) file_t file = new_file((text), strlen(text));                         \
    CM_CLEANUP(load_destroy) load_t run = {.file = file.path}

static char *value_text(const cm_config_t *config, const char *path, cm_buffer_t *out)
{
    cm_buffer_clear(out);
    for (size_t i = 0; i < CM_LENGTH(keys); i++)
        if (strcmp(keys[i].path, path) == 0)
            cm_config_value_text(config, &keys[i], out);
    return (char *)cm_buffer_text(out);
}

/* ---- values --------------------------------------------------------------------------------- */

Test(config, without_sources_every_key_has_its_default)
{
    CM_CLEANUP(load_destroy) load_t run = {0};
    const values_t *values = loaded(&run);
    cr_expect(eq(str, (char *)values->uri, ""));
    cr_expect(eq(str, (char *)values->prefix, "client-manager"));
    cr_expect(eq(i64, values->shards, 4));
    cr_expect(eq(i64, values->port, 0));
    cr_expect(values->drain);
    cr_expect(eq(int, values->format, 1));
    cr_expect(eq(sz, values->delays.count, 3));
    cr_expect(eq(i64, values->delays.value[2], 45));
    cr_expect(eq(str, (char *)cm_config_origin(run.config, "writer.shards"), "default"));
}

Test(config, a_file_sets_every_type)
{
    YAML("# comment\n"
         "postgres:\n"
         "  uri: postgres://db/x\n"
         "writer: {shards: 8, port: \"-1\", drain-first: Off}\n"
         "log:\n"
         "  format: text\n"
         "retry:\n"
         "  delays: [1, 2]\n");
    const values_t *values = loaded(&run);
    cr_expect(eq(str, (char *)values->uri, "postgres://db/x"));
    cr_expect(eq(i64, values->shards, 8));
    cr_expect(eq(i64, values->port, -1));
    cr_expect(not(values->drain));
    cr_expect(eq(int, values->format, 2));
    cr_expect(eq(sz, values->delays.count, 2));
    cr_expect(eq(i64, values->delays.value[1], 2));
    cr_expect(eq(str, (char *)cm_config_origin(run.config, "postgres.uri"), "file:3"));
}

Test(config, a_flag_wins_over_the_environment_over_the_file)
{
    YAML("writer:\n  shards: 8\n  port: 8\nretry:\n  delays: 8\n");
    run.environ_[0] = "CM_WRITER_SHARDS=9";
    run.environ_[1] = "CM_WRITER_PORT=9";
    run.environ_[2] = "PATH=/bin";
    run.flags[0] = "writer.shards=10";
    const values_t *values = loaded(&run);
    cr_expect(eq(i64, values->shards, 10));
    cr_expect(eq(i64, values->port, 9));
    cr_expect(eq(i64, values->delays.value[0], 8));
    cr_expect(eq(str, (char *)cm_config_origin(run.config, "writer.shards"), "flag"));
    cr_expect(eq(str, (char *)cm_config_origin(run.config, "writer.port"), "CM_WRITER_PORT"));
    cr_expect(eq(str, (char *)cm_config_origin(run.config, "retry.delays"), "file:5"));
}

Test(config, dots_and_dashes_of_a_key_are_underscores_in_its_variable)
{
    CM_CLEANUP(load_destroy) load_t run = {.environ_ = {"CM_WRITER_DRAIN_FIRST=no"}};
    cr_expect(not(loaded(&run)->drain));
}

Test(config, a_value_may_hold_equal_signs_or_nothing)
{
    CM_CLEANUP(load_destroy) load_t run = {.environ_ = {"CM_POSTGRES_URI=host=a port=1"}};
    cr_expect(eq(str, (char *)loaded(&run)->uri, "host=a port=1"));
    CM_CLEANUP(load_destroy) load_t empty = {.flags = {"postgres.uri=", "retry.delays="}};
    const values_t *values = loaded(&empty);
    cr_expect(eq(str, (char *)values->uri, ""));
    cr_expect(eq(sz, values->delays.count, 0));
}

Test(config, the_last_of_equal_flags_wins)
{
    CM_CLEANUP(load_destroy) load_t run = {.flags = {"writer.shards=5", "writer.shards=6"}};
    cr_expect(eq(i64, loaded(&run)->shards, 6));
}

Test(config, a_list_may_be_text_with_spaces)
{
    CM_CLEANUP(load_destroy) load_t run = {.environ_ = {"CM_RETRY_DELAYS= 1, 2 ,600"}};
    const values_t *values = loaded(&run);
    cr_expect(eq(sz, values->delays.count, 3));
    cr_expect(eq(i64, values->delays.value[2], 600));
}

Test(config, bounds_are_inclusive)
{
    CM_CLEANUP(load_destroy)
    load_t run = {
        .flags = {"writer.shards=1", "retry.delays=1,600", "broker.prefix=12345678901234567890"}};
    cr_expect(eq(i64, loaded(&run)->shards, 1));
    CM_CLEANUP(load_destroy) load_t most = {.flags = {"writer.shards=64", "broker.prefix=1"}};
    cr_expect(eq(i64, loaded(&most)->shards, 64));
}

Test(config, a_common_variable_is_stronger_than_the_file_and_weaker_than_our_own)
{
    YAML("writer:\n  port: 7\n");
    run.environ_[0] = "COMMON_PORT=8";
    cr_expect(eq(i64, loaded(&run)->port, 8));
    cr_expect(eq(str, (char *)cm_config_origin(run.config, "writer.port"), "COMMON_PORT"));
    CM_CLEANUP(load_destroy) load_t both = {.environ_ = {"CM_WRITER_PORT=9", "COMMON_PORT=8"}};
    cr_expect(eq(i64, loaded(&both)->port, 9));
    CM_CLEANUP(load_destroy) load_t empty = {.environ_ = {"COMMON_PORT="}};
    cr_expect(eq(i64, loaded(&empty)->port, 0));
}

Test(config, an_empty_file_or_section_changes_nothing)
{
    static const char *const texts[] = {
        "", "# only a comment\n", "---\n", "~\n", "writer:\n", "writer:\n  # shards: 2\nlog: {}\n"};
    for (size_t i = 0; i < CM_LENGTH(texts); i++) {
        YAML(texts[i]);
        cr_expect(eq(i64, loaded(&run)->shards, 4), "%s", texts[i]);
    }
}

Test(config, anchors_and_aliases_work)
{
    YAML("writer:\n  shards: &many 12\n  port: *many\n");
    cr_expect(eq(i64, loaded(&run)->port, 12));
}

/* ---- faults in the file --------------------------------------------------------------------- */

Test(config, an_unknown_key_is_a_fault_with_its_line_and_the_likely_one)
{
    YAML("writer:\n  shrads: 8\n  threads: 8\n");
    expect_faults(&run, "^:2: there is no key writer.shrads; did you mean writer.shards?\n"
                        "^:3: there is no key writer.threads\n");
}

Test(config, an_unknown_section_is_one_fault)
{
    YAML("wirter:\n  shards: 8\n  port: 7\nsomething: 1\n");
    expect_faults(&run, "^:1: there is no section wirter; did you mean writer?\n"
                        "^:4: there is no section something\n");
}

Test(config, a_value_of_the_wrong_type_is_a_fault)
{
    YAML("writer:\n"
         "  shards: many\n"
         "  port: [1]\n"
         "  drain-first: perhaps\n"
         "log:\n"
         "  format: {a: b}\n"
         "retry:\n"
         "  delays: [1, [2]]\n");
    expect_faults(&run, "^:2: writer.shards is \"many\"; it must be an integer from 1 to 64\n"
                        "^:3: writer.port is a sequence; it must be an integer\n"
                        "^:4: writer.drain-first is \"perhaps\"; it must be true or false\n"
                        "^:6: log.format is a mapping; it must be one of auto, json, text\n"
                        "^:8: retry.delays is a sequence; it must be at most 16 integers from 1 to "
                        "600\n");
}

Test(config, a_value_out_of_range_is_a_fault)
{
    YAML("writer:\n"
         "  shards: 65\n"
         "  port: 9223372036854775808\n"
         "log:\n"
         "  format: xml\n"
         "retry:\n"
         "  delays: [0]\n"
         "broker:\n"
         "  prefix: 123456789012345678901\n");
    expect_faults(&run,
                  "^:2: writer.shards is \"65\"; it must be an integer from 1 to 64\n"
                  "^:3: writer.port is \"9223372036854775808\"; it must be an integer\n"
                  "^:5: log.format is \"xml\"; it must be one of auto, json, text\n"
                  "^:7: retry.delays is \"0\"; it must be at most 16 integers from 1 to 600\n"
                  "^:9: broker.prefix is \"123456789012345678901\"; it must be a text of 1 to "
                  "20 bytes\n");
}

Test(config, a_list_of_seventeen_is_too_long)
{
    CM_CLEANUP(load_destroy)
    load_t run = {.flags = {"retry.delays=1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7"}};
    cr_expect(eq(sz, loaded(&run)->delays.count, 16));
    CM_CLEANUP(load_destroy)
    load_t more = {.flags = {"retry.delays=1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8"}};
    cr_expect(eq(int, load(&more), CM_MISCONFIGURED));
}

Test(config, a_key_or_section_given_twice_is_a_fault)
{
    YAML("writer:\n  shards: 8\n  shards: 9\nlog:\n  format: text\nwriter:\n  port: 1\n");
    expect_faults(&run, "^:3: writer.shards is given twice, first in line 2\n"
                        "^:6: writer is given twice, first in line 1\n");
}

Test(config, a_key_without_a_value_is_a_fault)
{
    YAML("writer:\n  shards:\n  port: ~\n");
    expect_faults(&run, "^:2: writer.shards has no value; leave the line out for the default\n"
                        "^:3: writer.port has no value; leave the line out for the default\n");
}

Test(config, what_is_no_mapping_is_a_fault)
{
    YAML("- writer\n");
    expect_faults(&run, "^:1: the file is a sequence; it must be a mapping of sections\n");
}

Test(config, a_section_that_is_no_mapping_and_odd_keys_are_faults)
{
    YAML("writer: 5\n? [a]\n: 1\nlog:\n  ? {b: 1}\n  : 1\n");
    expect_faults(&run, "^:1: writer is a single value; it must be a mapping, a section of keys\n"
                        "^:2: a sequence stands for the name of a section\n"
                        "^:5: log has a mapping for a key\n");
}

Test(config, broken_yaml_is_a_fault_with_its_line)
{
    YAML("writer:\n  shards: 8\n port: 1\n");
    cr_assert(eq(int, load(&run), CM_MISCONFIGURED));
    cr_expect(ne(ptr, strstr(run.err.message, ":3: not YAML: "), NULL), "%s", run.err.message);
}

Test(config, bytes_that_are_no_text_are_a_fault_with_their_line)
{
    YAML("writer:\n  shards: 8\n  port: \xff\n");
    cr_assert(eq(int, load(&run), CM_MISCONFIGURED));
    cr_expect(ne(ptr, strstr(run.err.message, ":3: not YAML: "), NULL), "%s", run.err.message);
}

Test(config, a_second_document_is_a_fault)
{
    YAML("writer:\n  shards: 8\n---\nwriter:\n  shards: 9\n");
    expect_faults(&run, "^:3: a second document; one file holds one\n");
}

Test(config, a_file_that_cannot_be_read_is_a_fault)
{
    CM_CLEANUP(load_destroy) load_t run = {.file = "/nonexistent/cm.yaml"};
    expect_faults(&run, "configuration: cannot open /nonexistent/cm.yaml: No such file or "
                        "directory\n");
    CM_CLEANUP(load_destroy) load_t folder = {.file = "/tmp"};
    expect_faults(&folder, "configuration: cannot read /tmp: Is a directory\n");
}

Test(config, all_faults_of_all_sources_are_told_each_on_a_line)
{
    YAML("writer:\n  shards: 0\n  \"po\\nrt\": 1\n");
    run.environ_[0] = "CM_WRITER_SHARDS=x";
    run.flags[0] = "writer.shards=y";
    expect_faults(&run,
                  "^:2: writer.shards is \"0\"; it must be an integer from 1 to 64\n"
                  "^:3: there is no key writer.po?rt; did you mean writer.port?\n"
                  "CM_WRITER_SHARDS: writer.shards is \"x\"; it must be an integer from 1 to 64\n"
                  "flag: writer.shards is \"y\"; it must be an integer from 1 to 64\n");
}

Test(config, a_nul_byte_in_a_text_is_a_fault)
{
    YAML("postgres:\n  uri: \"a\\0b\"\nretry:\n  delays: [\"5\\0\"]\n");
    expect_faults(&run, "^:2: postgres.uri holds a NUL byte\n"
                        "^:4: retry.delays holds a NUL byte\n");
}

/* ---- environment and flags ------------------------------------------------------------------ */

Test(config, an_unknown_variable_of_ours_is_a_fault)
{
    CM_CLEANUP(load_destroy)
    load_t run = {.environ_ = {"CM_POSTGRES_URL=x", "CMAKE=x", "CM_=", "CM_POSTGRES_URL_FILE=x"}};
    expect_faults(&run, "environment: there is no variable CM_POSTGRES_URL; did you mean "
                        "CM_POSTGRES_URI?\n"
                        "environment: there is no variable CM_\n"
                        "environment: there is no variable CM_POSTGRES_URL_FILE; did you mean "
                        "CM_POSTGRES_URI_FILE?\n");
}

Test(config, reserved_variables_are_left_alone)
{
    CM_CLEANUP(load_destroy)
    load_t run = {.environ_ = {"CM_CRASH=ddl-step:1", "CM_CONFIG=/etc/cm.yaml", "CM_TEST_SEED=1"}};
    loaded(&run);
}

Test(config, a_flag_must_name_a_key_and_a_value)
{
    CM_CLEANUP(load_destroy)
    load_t run = {.flags = {"writer.shard=1", "writer.shards", "nonsense=1", "=1"}};
    expect_faults(&run, "flag: there is no key writer.shard; did you mean writer.shards?\n"
                        "flag: writer.shards has no value; write writer.shards=VALUE\n"
                        "flag: there is no key nonsense\n"
                        "flag: there is no key \n");
}

static void expect_password_from_file(const char *bytes, size_t len, const char *expected)
{
    CM_CLEANUP(file_destroy) file_t file = new_file(bytes, len);
    CM_CLEANUP(load_destroy) load_t run = {0};
    char variable[80];
    snprintf(variable, sizeof variable, "CM_POSTGRES_PASSWORD_FILE=%s", file.path);
    run.environ_[0] = variable;
    cr_expect(eq(str, (char *)loaded(&run)->password, (char *)expected));
    cr_expect(eq(str, (char *)cm_config_origin(run.config, "postgres.password"),
                 "CM_POSTGRES_PASSWORD_FILE"));
}

Test(config, a_secret_is_read_from_a_file_without_one_last_line_break)
{
    expect_password_from_file("geheim", 6, "geheim");
    expect_password_from_file("geheim\n", 7, "geheim");
    expect_password_from_file("geheim\n\n", 8, "geheim\n");
    expect_password_from_file(" geheim ", 8, " geheim ");
}

static void load_password_of(size_t len, load_t *run)
{
    static char bytes[70000], variable[80];
    memset(bytes, 'x', sizeof bytes);
    CM_CLEANUP(file_destroy) file_t file = new_file(bytes, len);
    snprintf(variable, sizeof variable, "CM_POSTGRES_PASSWORD_FILE=%s", file.path);
    run->environ_[0] = variable;
    load(run);
}

Test(config, a_value_file_may_hold_64_kib_and_no_more)
{
    CM_CLEANUP(load_destroy) load_t run = {0}, more = {0};
    load_password_of(65536, &run);
    cr_assert(ne(ptr, run.config, NULL), "%s", run.err.message);
    load_password_of(65537, &more);
    cr_assert(eq(ptr, more.config, NULL));
    cr_expect(ne(ptr, strstr(more.err.message, "is longer than 64 KiB"), NULL));
}

Test(config, a_value_file_that_cannot_be_read_is_a_fault)
{
    CM_CLEANUP(load_destroy) load_t run = {.environ_ = {"CM_WRITER_SHARDS_FILE=/nonexistent/x"}};
    expect_faults(&run, "CM_WRITER_SHARDS_FILE: cannot open /nonexistent/x: No such file or "
                        "directory\n");
}

Test(config, a_variable_and_its_file_together_are_a_fault)
{
    CM_CLEANUP(load_destroy)
    load_t run = {.environ_ = {"CM_WRITER_SHARDS=4", "CM_WRITER_SHARDS_FILE=/nonexistent/x"}};
    expect_faults(&run, "CM_WRITER_SHARDS_FILE: CM_WRITER_SHARDS is set as well; set one of the "
                        "two\n");
}

/* ---- values as text ------------------------------------------------------------------------- */

Test(config, values_are_told_as_they_would_be_written)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t text = {0};
    CM_CLEANUP(load_destroy) load_t run = {.flags = {"writer.port=-5", "log.format=auto"}};
    loaded(&run);
    cr_expect(eq(str, value_text(run.config, "writer.port", &text), "-5"));
    cr_expect(eq(str, value_text(run.config, "log.format", &text), "auto"));
    cr_expect(eq(str, value_text(run.config, "writer.drain-first", &text), "true"));
    cr_expect(eq(str, value_text(run.config, "retry.delays", &text), "5,15,45"));
    cr_expect(eq(str, value_text(run.config, "broker.prefix", &text), "client-manager"));
    cr_expect(eq(str, value_text(run.config, "postgres.uri", &text), ""));
}

Test(config, a_secret_is_never_told)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t text = {0};
    CM_CLEANUP(load_destroy) load_t unset = {0}, set = {.flags = {"postgres.password=geheim"}};
    loaded(&unset);
    loaded(&set);
    cr_expect(eq(str, value_text(unset.config, "postgres.password", &text), ""));
    cr_expect(eq(str, value_text(set.config, "postgres.password", &text), "***"));
    CM_CLEANUP(load_destroy) load_t wrong = {.flags = {"postgres.password=abc"}};
    expect_faults(&wrong, "flag: postgres.password is \"***\"; it must be a text of 4 to 70000 "
                          "bytes\n");
}

Test(config, passwords_inside_uris_and_connection_strings_are_hidden)
{
    static const struct {
        const char *text, *shown;
    } cases[] = {
        {"postgres://user:pw@host:5432/db", "postgres://user:***@host:5432/db"},
        {"postgres://user:p@w@host/db?a=b@c", "postgres://user:***@host/db?a=b@c"},
        {"postgres://user:p/w@host/db", "postgres://user:***@host/db"},
        {"postgres://user:p w@host/db", "postgres://user:***@host/db"},
        {"postgres://user:p?w#@host", "postgres://user:***@host"},
        {"redis://:pw@host:6379/0", "redis://:***@host:6379/0"},
        {"postgres://host:5432/db", "postgres://host:5432/db"},
        {"postgres://user@host:5432/db", "postgres://user@host:5432/db"},
        {"postgres://h/db?password=a%20b&sslmode=on", "postgres://h/db?password=***&sslmode=on"},
        {"postgres://u:a@h/db?sslpassword=b", "postgres://u:***@h/db?sslpassword=***"},
        {"http://a:b@h/,http://c:d@i/", "http://a:***@h/,http://c:***@i/"},
        {"host=h password=a&b user=u", "host=h password=*** user=u"},
        {"host=h PassWord = 'a b\\' c' user=u", "host=h PassWord = *** user=u"},
        {"password=a\\ b user=u", "password=*** user=u"},
        {"password='open", "password=***"},
        {"password=", "password="},
        {"passfile=/x sslmode=on", "passfile=/x sslmode=on"},
        {"://", "://"},
        {"=", "="},
        {"unix:///run/redis.sock", "unix:///run/redis.sock"},
    };
    for (size_t i = 0; i < CM_LENGTH(cases); i++) {
        CM_CLEANUP(cm_buffer_destroy) cm_buffer_t shown = {0};
        cm_config_redact(cm_str(cases[i].text), &shown);
        cr_expect(eq(str, (char *)cm_buffer_text(&shown), (char *)cases[i].shown));
    }
}

Test(config, a_wrong_text_is_told_without_its_password)
{
    CM_CLEANUP(load_destroy) load_t run = {.flags = {"broker.prefix=redis://:geheim@host"}};
    loaded(&run);
    CM_CLEANUP(load_destroy) load_t wrong = {.flags = {"broker.prefix=redis://:geheim@hosts"}};
    expect_faults(&wrong, "flag: broker.prefix is \"redis://:***@hosts\"; it must be a text of 1 "
                          "to 20 bytes\n");
}

Test(config, suggestions_reach_two_edits_and_prefer_the_nearest)
{
    cm_config_guess_t guess = {.word = CM_STR("shards")};
    cm_config_guess_offer(&guess, CM_STR("sha"));
    cr_expect(eq(ptr, (void *)guess.best.ptr, NULL));
    cm_config_guess_offer(&guess, CM_STR("shar"));
    cr_expect(cm_str_is(guess.best, "shar"));
    cm_config_guess_offer(&guess, CM_STR("hsards"));
    cr_expect(cm_str_is(guess.best, "hsards"));
    cr_expect(eq(sz, guess.distance, 1));
    cm_config_guess_offer(&guess, CM_STR("shardss"));
    cr_expect(cm_str_is(guess.best, "hsards"));
    cm_config_guess_offer(&guess, CM_STR("shards"));
    cr_expect(eq(sz, guess.distance, 0));
}
