#include "runtime/buffer.h"
#include "runtime/cleanup.h"
#include "runtime/log.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <pty.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What was written to stderr between begin and end. A pipe holds 64 KiB: more than a test writes.
 */
typedef struct {
    int saved, reader;
    char text[65536];
} capture_t;

static void capture_begin(capture_t *self)
{
    int ends[2];
    cr_assert(zero(int, pipe(ends)));
    self->reader = ends[0];
    self->saved = dup(STDERR_FILENO);
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
}

static const char *capture_end(capture_t *self)
{
    dup2(self->saved, STDERR_FILENO);
    close(self->saved);
    size_t len = 0;
    ssize_t got;
    while ((got = read(self->reader, self->text + len, sizeof self->text - 1 - len)) > 0)
        len += (size_t)got;
    self->text[len] = '\0';
    close(self->reader);
    return self->text;
}

#define LOGGED(capture, ...)                                                                       \
    (capture_begin(capture), cm_log(CM_LOG_WARN, __VA_ARGS__), capture_end(capture))

/* The line as JSON; jansson is strict: it refuses bad UTF-8, control bytes and double keys. */
static json_t *parse(const char *line)
{
    json_error_t error;
    json_t *json = json_loads(line, JSON_REJECT_DUPLICATES, &error);
    cr_assert(json != NULL, "%s in %s", error.text, line);
    cr_assert(eq(sz, strcspn(line, "\n"), strlen(line) - 1), "one line");
    return json;
}

static const char *text_of(const json_t *json, const char *key)
{
    const char *text = json_string_value(json_object_get(json, key));
    return text ? text : "(not a string)";
}

static bool is_true(const json_t *json, const char *key)
{
    return json_is_true(json_object_get(json, key));
}

static bool digits_like(const char *text, const char *shape)
{
    for (; *shape; shape++, text++)
        if (*shape == '0' ? *text < '0' || *text > '9' : *text != *shape)
            return false;
    return *text == '\0';
}

Test(log, a_json_line_has_the_common_keys_and_each_field)
{
    cm_log_setup(CM_LOG_INFO, CM_LOG_JSON, false);
    capture_t capture;
    const char *line = LOGGED(&capture, "writer", "batch failed", "tenant=%s rows=%d cause=\"%s\"",
                              "acme", 12, "disk is full");
    json_t *json = parse(line);
    cr_expect(digits_like(text_of(json, "ts"), "0000-00-00T00:00:00.000Z"), "%s", line);
    cr_expect(eq(str, text_of(json, "severity"), "WARN"));
    cr_expect(eq(str, text_of(json, "component"), "writer"));
    cr_expect(eq(str, text_of(json, "msg"), "batch failed"));
    cr_expect(eq(str, text_of(json, "tenant"), "acme"));
    cr_expect(eq(i64, json_integer_value(json_object_get(json, "rows")), 12));
    cr_expect(eq(str, text_of(json, "cause"), "disk is full"));
    cr_expect(eq(sz, json_object_size(json), 7));
    json_decref(json);
}

Test(log, fields_may_be_absent)
{
    cm_log_setup(CM_LOG_INFO, CM_LOG_JSON, false);
    capture_t capture;
    json_t *json = parse(LOGGED(&capture, "main", "stopped", NULL));
    cr_expect(eq(sz, json_object_size(json), 4));
    json_decref(json);
}

Test(log, only_bare_integers_become_numbers)
{
    cm_log_setup(CM_LOG_INFO, CM_LOG_JSON, false);
    capture_t capture;
    json_t *json = parse(LOGGED(&capture, "c", "m",
                                "a=0 b=-5 c=9223372036854775807 d=007 e=\"42\" f=1.5 g= h=- "
                                "i=9223372036854775808"));
    cr_expect(eq(i64, json_integer_value(json_object_get(json, "a")), 0));
    cr_expect(eq(i64, json_integer_value(json_object_get(json, "b")), -5));
    cr_expect(eq(i64, json_integer_value(json_object_get(json, "c")), INT64_MAX));
    cr_expect(eq(str, text_of(json, "d"), "007"));
    cr_expect(eq(str, text_of(json, "e"), "42"));
    cr_expect(eq(str, text_of(json, "f"), "1.5"));
    cr_expect(eq(str, text_of(json, "g"), ""));
    cr_expect(eq(str, text_of(json, "h"), "-"));
    cr_expect(eq(str, text_of(json, "i"), "9223372036854775808"));
    json_decref(json);
}

Test(log, quotes_inside_a_quoted_value_belong_to_it)
{
    cm_log_setup(CM_LOG_INFO, CM_LOG_JSON, false);
    capture_t capture;
    json_t *json = parse(LOGGED(&capture, "c", "m", "cause=\"%s\" tenant=acme empty=\"\"",
                                "relation \"devices\" does not exist \"\\\""));
    cr_expect(eq(str, text_of(json, "cause"), "relation \"devices\" does not exist \"\\\""));
    cr_expect(eq(str, text_of(json, "tenant"), "acme"));
    cr_expect(eq(str, text_of(json, "empty"), ""));
    json_decref(json);
}

Test(log, a_key_alone_is_true_and_an_open_quote_ends_with_the_line)
{
    cm_log_setup(CM_LOG_INFO, CM_LOG_JSON, false);
    capture_t capture;
    json_t *json = parse(LOGGED(&capture, "c", "m", "  dry-run   cause=\"no end"));
    cr_expect(is_true(json, "dry-run"));
    cr_expect(eq(str, text_of(json, "cause"), "no end"));
    json_decref(json);
}

Test(log, control_bytes_are_escaped_and_read_back_the_same)
{
    cm_log_setup(CM_LOG_INFO, CM_LOG_JSON, false);
    capture_t capture;
    char value[40] = "";
    for (int i = 1; i < 0x20; i++)
        value[i - 1] = (char)i;
    strcat(value, "\x7f\xc2\x9b"); /* delete, and the one-character CSI of terminals */
    const char *line = LOGGED(&capture, "c", "m", "v=\"%s\"", value);
    for (const char *c = line; *c && *c != '\n'; c++) {
        bool printable = *c >= 0x20 && *c < 0x7f;
        cr_assert(printable, "byte %d", *c);
    }
    json_t *json = parse(line);
    cr_expect(eq(str, text_of(json, "v"), value));
    json_decref(json);
}

Test(log, invalid_utf8_is_replaced_and_valid_utf8_kept)
{
    cm_log_setup(CM_LOG_INFO, CM_LOG_JSON, false);
    capture_t capture;
    json_t *json = parse(LOGGED(&capture, "c", "m", "good=%s bad=%s cut=%s surrogate=%s over=%s",
                                "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80",
                                "a\xff"
                                "b\xc0\x80",
                                "\xe2\x82", "\xed\xa0\x80", "\xf4\x90\x80\x80"));
    cr_expect(eq(str, text_of(json, "good"), "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"));
    cr_expect(eq(str, text_of(json, "bad"),
                 "a\xef\xbf\xbd"
                 "b\xef\xbf\xbd\xef\xbf\xbd"));
    cr_expect(eq(str, text_of(json, "cut"), "\xef\xbf\xbd\xef\xbf\xbd"));
    json_decref(json);
}

Test(log, whatever_the_bytes_the_line_is_valid_json)
{
    cm_log_setup(CM_LOG_INFO, CM_LOG_JSON, false);
    capture_t capture;
    unsigned random = 12345;
    for (int round = 0; round < 3000; round++) {
        static const char alphabet[] = "ab=\"  \\\n\xff\xc3\xa9{}:,0-";
        char fields[120];
        size_t len = (random >> 8) % sizeof fields;
        for (size_t i = 0; i < len; i++) {
            random = random * 1103515245 + 12345;
            fields[i] = alphabet[(random >> 16) % (sizeof alphabet - 1)];
        }
        fields[len] = '\0';
        const char *line = LOGGED(&capture, "c", "m", "%s", fields);
        json_error_t error;
        json_t *json = json_loads(line, 0, &error);
        cr_assert(json != NULL, "%s: %s", error.text, line);
        json_decref(json);
    }
}

Test(log, a_long_line_is_cut_and_still_valid)
{
    cm_log_setup(CM_LOG_INFO, CM_LOG_JSON, false);
    capture_t capture;
    char value[4000];
    static const char *const fills[] = {"x", "\"", "\x01", "\xff", "\xe2\x82\xac", "k=1 "};
    for (size_t f = 0; f < CM_LENGTH(fills); f++) {
        for (size_t shift = 0; shift < 8; shift++) { /* the cut falls on each byte of an escape */
            size_t len = 0;
            memset(value, '-', sizeof value);
            for (len = shift; len + strlen(fills[f]) < sizeof value; len += strlen(fills[f]))
                memcpy(value + len, fills[f], strlen(fills[f]));
            value[len] = '\0';
            const char *line = LOGGED(&capture, "c", "m", "v=%s", value);
            cr_expect(le(sz, strlen(line), 2048));
            cr_expect(gt(sz, strlen(line), 2000));
            json_error_t error;
            json_t *json = json_loads(line, 0, &error);
            cr_assert(json != NULL, "%s: %s", error.text, line);
            cr_expect(is_true(json, "cut"));
            json_decref(json);
        }
    }
}

Test(log, levels_below_the_set_one_are_silent)
{
    cm_log_setup(CM_LOG_WARN, CM_LOG_JSON, false);
    cr_expect(not(cm_log_enabled(CM_LOG_INFO)));
    cr_expect(cm_log_enabled(CM_LOG_WARN));
    capture_t capture;
    capture_begin(&capture);
    cm_log(CM_LOG_INFO, "c", "not seen", NULL);
    cm_log(CM_LOG_ERROR, "c", "seen", NULL);
    json_t *json = parse(capture_end(&capture));
    cr_expect(eq(str, text_of(json, "severity"), "ERROR"));
    json_decref(json);
}

Test(log, text_is_plain_when_stderr_is_no_terminal)
{
    capture_t capture;
    capture_begin(&capture);
    cm_log_setup(CM_LOG_INFO, CM_LOG_TEXT, false);
    cm_log(CM_LOG_WARN, "writer", "batch failed", "tenant=%d cause=\"a\nb\x1b[1m\"", 42);
    const char *line = capture_end(&capture);
    cr_assert(gt(sz, strlen(line), 12));
    cr_expect(
        eq(str, line + 12, " WARN  writer  batch failed  tenant=42 cause=\"a\\nb\\u001b[1m\"\n"));
    cr_expect(line[2] == ':' && line[5] == ':' && line[8] == '.', "%s", line);
}

Test(log, auto_is_json_when_stderr_is_no_terminal)
{
    capture_t capture;
    capture_begin(&capture);
    cm_log_setup(CM_LOG_INFO, CM_LOG_AUTO, false);
    cm_log(CM_LOG_INFO, "main", "started", NULL);
    json_decref(parse(capture_end(&capture)));
}

/* One line as a terminal gets it. */
static void log_to_terminal(bool no_color, char *text, size_t size)
{
    int terminal, inside;
    cr_assert(zero(int, openpty(&terminal, &inside, NULL, NULL, NULL)));
    int saved = dup(STDERR_FILENO);
    dup2(inside, STDERR_FILENO);
    cm_log_setup(CM_LOG_INFO, CM_LOG_AUTO, no_color);
    cm_log(CM_LOG_INFO, "main", "started", "pid=1");
    dup2(saved, STDERR_FILENO);
    close(saved);
    ssize_t len = read(terminal, text, size - 1);
    cr_assert(gt(long, len, 0));
    text[len] = '\0';
    close(inside);
    close(terminal);
}

Test(log, auto_is_coloured_text_on_a_terminal_unless_colours_are_refused, .timeout = 10)
{
    char text[256];
    log_to_terminal(false, text, sizeof text);
    cr_expect(eq(str, text + 12, " \033[32mINFO\033[0m  main  started  pid=1\r\n"));
    log_to_terminal(true, text, sizeof text);
    cr_expect(eq(str, text + 12, " INFO  main  started  pid=1\r\n"));
}

static void *log_many(void *arg)
{
    for (int i = 0; i < 100; i++)
        cm_log(CM_LOG_INFO, "thread", "line", "writer=%d i=%d", *(int *)arg, i);
    return NULL;
}

Test(log, lines_of_two_threads_do_not_mix, .timeout = 20)
{
    cm_log_setup(CM_LOG_INFO, CM_LOG_JSON, false);
    capture_t capture;
    capture_begin(&capture);
    pthread_t threads[2];
    int ids[2] = {0, 1}, lines = 0;
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, log_many, &ids[i]);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    capture_end(&capture);
    for (char *rest = capture.text, *line; (line = strsep(&rest, "\n")) != NULL && *line; lines++) {
        json_error_t error;
        json_t *json = json_loads(line, 0, &error);
        cr_assert(json != NULL, "%s: %s", error.text, line);
        json_decref(json);
    }
    cr_expect(eq(int, lines, 200));
}

Test(log, the_callers_errno_survives)
{
    int saved = dup(STDERR_FILENO);
    close(STDERR_FILENO);
    errno = ENOENT;
    cm_log(CM_LOG_ERROR, "c", "nobody hears this", NULL);
    int after = errno;
    dup2(saved, STDERR_FILENO);
    cr_expect(eq(int, after, ENOENT));
}

Test(log, a_limited_site_logs_once_per_interval_and_tells_what_it_withheld)
{
    cm_log_limit_t limit = {0};
    unsigned withheld = 99;
    cr_assert(cm_log_allowed(&limit, 3600000, &withheld));
    cr_expect(eq(u32, withheld, 0));
    cr_expect(not(cm_log_allowed(&limit, 3600000, &withheld)));
    cr_expect(not(cm_log_allowed(&limit, 3600000, &withheld)));
    limit.last_ms -= 3600000; /* the interval passes */
    cr_assert(cm_log_allowed(&limit, 3600000, &withheld));
    cr_expect(eq(u32, withheld, 2));
    limit.last_ms -= 3600000;
    cr_assert(cm_log_allowed(&limit, 3600000, &withheld));
    cr_expect(eq(u32, withheld, 0));
}
