/* The commands as an operator uses them: the built program, real servers. */
#include "proto/attributes.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "runtime/redis.h"
#include "schema/dead_letter_store.h"
#include "schema/migration.h"
#include "tests/support/fixture.h"
#include "tests/support/program.h"
#include "tests/support/redis_server.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ARGS(...)                                                                                  \
    (const char *const[])                                                                          \
    {                                                                                              \
        __VA_ARGS__, NULL                                                                          \
    }

enum { DEADLINE_MS = 60000 };

/* ---- a database and a prefix of the broker for each test ------------------------------------ */

typedef struct {
    char postgres[CM_TEST_URI_MAX], variable[CM_TEST_URI_MAX + 32], redis[CM_TEST_URI_MAX + 32];
    char prefix[CM_TEST_NAME_MAX], prefix_variable[CM_TEST_NAME_MAX + 32];
    const char *env[4];
    cm_program_t program;
} world_t;

static void world_open(world_t *self)
{
    *self = (world_t){0};
    cm_test_database(self->postgres);
    cm_test_unique(self->prefix, "cli");
    snprintf(self->variable, sizeof self->variable, "CM_POSTGRES_URI=%s", self->postgres);
    snprintf(self->redis, sizeof self->redis, "CM_REDIS_URI=%s", cm_test_redis_uri());
    snprintf(self->prefix_variable, sizeof self->prefix_variable, "CM_BROKER_PREFIX=%s",
             self->prefix);
    self->env[0] = self->variable;
    self->env[1] = self->redis;
    self->env[2] = self->prefix_variable;
}

/* Run a command; what it said stays until the next one. */
static const cm_program_t *manager(world_t *self, const char *input, const char *const *argv)
{
    if (self->program.out)
        cm_program_destroy(&self->program);
    cm_program_run(&self->program, input, self->env, argv);
    return &self->program;
}

static void world_close(world_t *self)
{
    if (self->program.out)
        cm_program_destroy(&self->program);
    cm_test_database_drop();
}

/* "audit head POSITION:HASH" is all that stderr says; the hash differs each time. */
static void expect_head(const cm_program_t *done, const char *position, const char *out)
{
    char start[64];
    snprintf(start, sizeof start, "audit head %s:", position);
    cr_expect(eq(int, done->code, 0), "stderr: %s", done->err);
    cr_expect(eq(str, done->out, (char *)out));
    cr_expect(eq(int, strncmp(done->err, start, strlen(start)), 0), "stderr: %s", done->err);
    cr_expect(eq(sz, strlen(done->err), strlen(start) + 64 + 1));
}

static void expect_end(const cm_program_t *done, int code, const char *out, const char *err)
{
    cr_expect(eq(int, done->code, code), "stderr: %s", done->err);
    cr_expect(eq(str, done->out, (char *)out));
    cr_expect(eq(str, done->err, (char *)err));
}

/* ---- tenants -------------------------------------------------------------------------------- */

Test(tenant, activating_lists_what_became_of_each, .timeout = 120)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    expect_head(manager(&world, NULL, ARGS("tenant", "activate", "7", "8")), "2",
                "id  result\n7   activated\n8   activated\n");
    expect_end(manager(&world, NULL, ARGS("tenant", "activate", "8", "-o", "json")), 0,
               "{\"id\": \"8\", \"result\": \"unchanged\"}\n", "");
    const cm_program_t *done = manager(&world, NULL, ARGS("tenant", "show", "8", "-o", "json"));
    cr_expect(ne(ptr, strstr(done->out, "{\"id\": \"8\", \"state\": \"active\", \"generation\": 1"),
                 NULL));
    done = manager(&world, NULL, ARGS("tenant", "status", "-o", "json"));
    cr_expect(ne(ptr, strstr(done->out, "\"tenants\": 2}"), NULL));
}

Test(tenant, one_that_is_not_there_is_a_failure, .timeout = 120)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    manager(&world, NULL, ARGS("tenant", "activate", "7"));
    expect_end(manager(&world, NULL, ARGS("tenant", "show", "9")), 1, "",
               "client-manager tenant show: tenant 9 is not in the registry (tenant-missing)\n");
}

Test(tenant, some_that_fail_to_migrate_are_a_partial_success, .timeout = 120)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    manager(&world, NULL, ARGS("tenant", "activate", "7"));
    expect_end(manager(&world, NULL, ARGS("tenant", "migrate", "7", "9")), 3,
               "id  result\n7   unchanged\n9   failed\n",
               "client-manager tenant migrate: tenant 9 is not in the registry (tenant-missing)\n");
    expect_end(manager(&world, NULL, ARGS("tenant", "migrate", "--all")), 0,
               "total  migrated  failed\n    0         0       0\n", "");
}

Test(tenant, a_dry_migration_looks_at_the_named_ones_only, .timeout = 120)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    manager(&world, NULL, ARGS("tenant", "activate", "7"));
    expect_end(manager(&world, NULL, ARGS("tenant", "migrate", "--dry-run", "9")), 1, "",
               "client-manager tenant migrate: tenant 9 is not in the registry (tenant-missing)\n");
}

Test(tenant, looking_makes_no_schema_and_says_who_does, .timeout = 120)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    for (int i = 0; i < 2; i++) {
        const cm_program_t *done = manager(&world, NULL, ARGS("tenant", "list"));
        cr_expect(eq(int, done->code, 78));
        cr_expect(ne(ptr, strstr(done->err, "`client-manager run`"), NULL), "%s", done->err);
        cr_expect(ne(ptr, strstr(done->err, "(schema-absent)"), NULL), "%s", done->err);
    }
}

/* ---- servers that are not there ------------------------------------------------------------- */

Test(servers, a_database_that_is_away_is_exit_code_69, .timeout = 120)
{
    CM_CLEANUP(cm_program_destroy) cm_program_t program;
    cm_program_run(&program, NULL, ARGS("CM_POSTGRES_URI=postgresql://127.0.0.1:1/x"),
                   ARGS("tenant", "list"));
    cr_expect(eq(int, program.code, 69));
    cr_expect(eq(str, program.out, ""));
}

Test(servers, a_database_that_refuses_us_is_exit_code_78, .timeout = 120)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    cm_test_database_drop();
    cr_expect(eq(int, manager(&world, NULL, ARGS("tenant", "list"))->code, 78));
    cr_expect(eq(int, manager(&world, NULL, ARGS("run"))->code, 78));
}

Test(servers, a_redis_that_is_away_is_exit_code_69, .timeout = 120)
{
    CM_CLEANUP(cm_program_destroy) cm_program_t program;
    cm_program_run(&program, "", ARGS("CM_REDIS_URI=redis://127.0.0.1:1"), ARGS("publish"));
    cr_expect(eq(int, program.code, 69));
}

Test(servers, a_start_beside_one_that_migrates_waits_and_says_for_what, .timeout = 120)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    cm_error_t err = {0};
    cm_pg_options_t options = {.uri = world.postgres, .connect_timeout_ms = 5000};
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = cm_pg_new(&options);
    cr_assert(eq(int, cm_pg_connect(pg, NULL, &err), CM_OK));
    cr_assert(
        eq(int,
           cm_pg_exec(pg, "SELECT pg_advisory_lock(hashtextextended('cm-admin:client_manager', 0))",
                      &err),
           CM_OK));
    cm_program_start(&world.program, NULL, world.env,
                     ARGS("run", "--set", "monitor.listen=127.0.0.1:0"));
    cr_expect(cm_program_said(&world.program, "another instance prepares the database", 30000));
    cm_pg_close(pg);
    cr_expect(cm_program_said(&world.program, "\"running\"", 30000));
    kill(world.program.pid, SIGTERM);
    cm_program_finish(&world.program);
    cr_expect(eq(int, world.program.code, 0));
    cr_expect(eq(ptr, strstr(world.program.err, "database away"), NULL));
}

Test(servers, a_redis_that_wants_a_password_is_exit_code_78, .timeout = 120)
{
    char variable[160];
    CM_CLEANUP(cm_test_redis_stop) cm_test_redis_t redis = {0};
    CM_CLEANUP(cm_program_destroy) cm_program_t program;
    cm_test_redis_start(&redis);
    cm_test_redis_run(&redis, "CONFIG SET requirepass geheim");
    snprintf(variable, sizeof variable, "CM_REDIS_URI=%s", redis.uri);
    cm_program_run(&program, "", ARGS(variable), ARGS("publish"));
    cr_expect(eq(int, program.code, 78), "%s", program.err);
}

Test(servers, run_ends_with_78_when_redis_wants_a_password, .timeout = 120)
{
    char variable[160];
    CM_CLEANUP(world_close) world_t world;
    CM_CLEANUP(cm_test_redis_stop) cm_test_redis_t redis = {0};
    world_open(&world);
    cm_test_redis_start(&redis);
    cm_test_redis_run(&redis, "CONFIG SET requirepass geheim");
    snprintf(variable, sizeof variable, "redis.uri=%s", redis.uri);
    cr_expect(
        eq(int,
           manager(&world, NULL, ARGS("run", "--set", variable, "--set", "monitor.listen="))->code,
           78));
}

/* Within seconds: no part of the service waits for the one that did not start. */
Test(servers, run_ends_with_78_when_a_key_of_google_cannot_be_read, .timeout = 25)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    const cm_program_t *done =
        manager(&world, NULL,
                ARGS("run", "--set", "broker.kind=pubsub", "--set", "pubsub.project=p", "--set",
                     "pubsub.credentials_file=/nonexistent/key.json", "--set", "monitor.listen="));
    cr_expect(eq(int, done->code, 78));
    cr_expect(ne(ptr, strstr(done->err, "pubsub.credentials_file"), NULL), "%s", done->err);
}

Test(servers, doctor_names_each_fault_and_fails, .timeout = 120)
{
    CM_CLEANUP(cm_program_destroy) cm_program_t program;
    cm_program_run(
        &program, NULL,
        ARGS("CM_POSTGRES_URI=postgresql://127.0.0.1:1/x", "CM_REDIS_URI=redis://127.0.0.1:1"),
        ARGS("doctor"));
    cr_expect(eq(int, program.code, 1));
    cr_expect(ne(ptr, strstr(program.out, "FAIL    postgres connection"), NULL));
    cr_expect(ne(ptr, strstr(program.out, "FAIL    redis connection"), NULL));
    cr_expect(eq(str, program.err, "2 failed, 1 warnings\n"));
}

/* ---- publish -------------------------------------------------------------------------------- */

#define EVENT                                                                                      \
    "{\"customerId\":7,\"applicationCode\":\"A\",\"clientId\":\"c\",\"eventTime\":1795205000000,"  \
    "\"device\":{\"platform\":\"ios\"}}\n"

static redisContext *connect_redis(void)
{
    cm_redis_address_t address;
    redisContext *context = NULL;
    cr_assert(eq(int, cm_redis_parse(cm_test_redis_uri(), &address, NULL), CM_OK));
    cr_assert(eq(int, cm_redis_connect(&address, 5000, &context, NULL), CM_OK));
    return context;
}

static long long stream_length(const world_t *world, const char *topic)
{
    CM_CLEANUP(cm_redis_free) redisContext *context = connect_redis();
    CM_CLEANUP(cm_redis_free_reply)
    redisReply *reply = redisCommand(context, "XLEN %s.%s", world->prefix, topic);
    cr_assert(ne(ptr, reply, NULL));
    return reply->integer;
}

Test(publish, bad_lines_are_told_with_their_number_and_the_others_go_out, .timeout = 120)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    const cm_program_t *done =
        manager(&world, EVENT "\n{\"bad\":1}\n" EVENT, ARGS("publish", "-o", "json"));
    cr_expect(eq(int, done->code, 3));
    cr_expect(eq(str, done->out, "{\"published\": 2, \"bad\": 1}\n"));
    cr_expect(eq(int, strncmp(done->err, "stdin:3: customerId: is missing (malformed)\n", 44), 0));
    cr_expect(eq(llong, stream_length(&world, "writer"), 2));
}

Test(publish, no_check_sends_a_line_as_it_is, .timeout = 120)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    cr_expect(eq(int, manager(&world, "not json", ARGS("publish", "--no-check"))->code, 0));
    cr_expect(eq(llong, stream_length(&world, "writer"), 1));
}

Test(publish, lines_longer_than_a_read_and_one_without_an_end_go_out, .timeout = 120)
{
    CM_CLEANUP(world_close) world_t world;
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t input = {0};
    world_open(&world);
    for (int line = 0; line < 3; line++) {
        for (int i = 0; i < 10000; i++)
            cm_buffer_append(&input, "0123456789", 10);
        cm_buffer_append(&input, "\n", line < 2);
    }
    const cm_program_t *done =
        manager(&world, cm_buffer_text(&input), ARGS("publish", "--no-check", "-o", "json"));
    cr_expect(eq(str, done->out, "{\"published\": 3, \"bad\": 0}\n"), "%s", done->err);
    cr_expect(eq(llong, stream_length(&world, "writer"), 3));
}

Test(publish, each_attribute_is_given_by_itself_and_may_hold_a_comma, .timeout = 120)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    const cm_program_t *done =
        manager(&world, EVENT, ARGS("publish", "-a", "x=1,y=2", "--attribute", "z=3"));
    cr_expect(eq(int, done->code, 0), "%s", done->err);
    CM_CLEANUP(cm_redis_free) redisContext *context = connect_redis();
    CM_CLEANUP(cm_redis_free_reply)
    redisReply *reply = redisCommand(context, "XRANGE %s.writer - +", world.prefix);
    cr_assert(eq(sz, reply->elements, 1));
    const redisReply *fields = reply->element[0]->element[1];
    bool first = false, second = false;
    for (size_t i = 0; i + 1 < fields->elements; i += 2) {
        const char *name = fields->element[i]->str, *value = fields->element[i + 1]->str;
        first |= strstr(name, "x") && strcmp(value, "1,y=2") == 0;
        second |= strstr(name, "z") && strcmp(value, "3") == 0;
    }
    cr_expect(first && second);
}

/* ---- dead letters --------------------------------------------------------------------------- */

static void keep_one(const world_t *world, const char *id, const char *tenant, const char *error)
{
    const char *class = strcmp(error, "40P01") == 0 ? "exhausted" : "permanent";
    cm_attribute_t attributes[] = {
        {CM_STR(CM_ATTRIBUTE_CUSTOMER_ID), cm_str(tenant)},
        {CM_STR(CM_ATTRIBUTE_ERROR_CLASS), cm_str(class)},
        {CM_STR(CM_ATTRIBUTE_ERROR_CODE), cm_str(error)},
        {CM_STR(CM_ATTRIBUTE_ERROR_MESSAGE), CM_STR("it failed")},
        {CM_STR(CM_ATTRIBUTE_ORIGIN_TOPIC), CM_STR("client-manager.writer")},
        {CM_STR(CM_ATTRIBUTE_ORIGIN_MESSAGE_ID), cm_str(id)},
    };
    cm_delivery_t delivery = {.message_id = cm_str(id),
                              .publish_ms = cm_clock_epoch_ms(),
                              .attempt = 1,
                              .attributes = attributes,
                              .attribute_count = CM_LENGTH(attributes),
                              .body = CM_STR("{\"customerId\":7}")};
    cm_pg_options_t options = {.uri = world->postgres,
                               .connect_timeout_ms = 5000,
                               .statement_timeout_ms = 5000,
                               .lock_timeout_ms = 5000,
                               .tcp_user_timeout_ms = 5000,
                               .prepared_max = 8};
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = cm_pg_new(&options);
    cm_error_t err = {0};
    cm_status_t status = cm_pg_connect(pg, NULL, &err);
    if (status == CM_OK)
        status = cm_admin_prepare(pg, "client_manager", &err);
    if (status == CM_OK)
        status = cm_dead_letter_keep(pg, "client_manager", "client-manager.writer-errors",
                                     &delivery, 1, NULL, &err);
    cr_assert(eq(int, status, CM_OK), "%s", err.message);
}

static void keep_three(world_t *world)
{
    world_open(world);
    keep_one(world, "1-0", "7", "malformed");
    keep_one(world, "2-0", "7", "40P01");
    keep_one(world, "3-0", "8", "malformed");
}

static size_t lines_of(const cm_program_t *done)
{
    size_t lines = 0;
    for (const char *c = done->out; *c; c++)
        lines += *c == '\n';
    return lines;
}

Test(dead_letters, each_filter_narrows_the_list, .timeout = 120)
{
    static const struct {
        const char *flag, *value;
        size_t rows;
    } cases[] = {{"--tenant", "7", 2},   {"--class", "exhausted", 1}, {"--code", "malformed", 2},
                 {"--since", "1h", 3},   {"--until", "1h", 0},        {"--limit", "2", 2},
                 {"--tenant", "none", 0}};
    CM_CLEANUP(world_close) world_t world;
    keep_three(&world);
    for (size_t i = 0; i < CM_LENGTH(cases); i++) {
        const cm_program_t *done =
            manager(&world, NULL,
                    ARGS("dead-letters", "list", "-o", "json", cases[i].flag, cases[i].value));
        cr_expect(eq(int, done->code, 0), "%s", done->err);
        cr_expect(eq(sz, lines_of(done), cases[i].rows), "%s %s", cases[i].flag, cases[i].value);
    }
}

Test(dead_letters, show_is_a_table_for_people_and_one_object_for_programs, .timeout = 120)
{
    CM_CLEANUP(world_close) world_t world;
    keep_three(&world);
    const cm_program_t *done = manager(&world, NULL, ARGS("dead-letters", "show", "1"));
    cr_expect(eq(int, done->code, 0));
    cr_expect(ne(ptr, strstr(done->out, "{\"customerId\":7}\n"), NULL));
    done = manager(&world, NULL, ARGS("dead-letters", "show", "1", "-o", "json"));
    cr_expect(ne(ptr, strstr(done->out, "\"body\": \"{\\\"customerId\\\":7}\""), NULL));
    cr_expect(eq(sz, lines_of(done), 1));
}

Test(dead_letters, a_dry_replay_tells_where_each_would_go_and_publishes_nothing, .timeout = 120)
{
    CM_CLEANUP(world_close) world_t world;
    keep_three(&world);
    expect_end(manager(&world, NULL, ARGS("dead-letters", "replay", "--dry-run", "--tenant", "7")),
               0, "id  tenant  topic\n 1  7       republisher\n 2  7       republisher\n",
               "2 would be replayed, 0 refused\n");
    cr_expect(eq(llong, stream_length(&world, "republisher"), 0));
}

Test(dead_letters, replay_goes_to_the_republisher_and_is_refused_the_fourth_time, .timeout = 120)
{
    CM_CLEANUP(world_close) world_t world;
    keep_three(&world);
    for (int i = 1; i <= 3; i++) {
        expect_end(manager(&world, NULL, ARGS("dead-letters", "replay", "1", "-o", "json")), 0,
                   "{\"replayed\": 1, \"refused\": 0, \"missing\": 0}\n", "");
        cr_expect(eq(llong, stream_length(&world, "republisher"), i));
    }
    expect_end(manager(&world, NULL, ARGS("dead-letters", "replay", "1", "-o", "json")), 1,
               "{\"replayed\": 0, \"refused\": 1, \"missing\": 0}\n",
               "dead letter 1 was replayed 3 times already, refused\n");
    expect_end(manager(&world, NULL, ARGS("dead-letters", "replay", "2", "99", "-o", "json")), 3,
               "{\"replayed\": 1, \"refused\": 0, \"missing\": 1}\n",
               "there is no dead letter 99\n");
    cr_expect(eq(llong, stream_length(&world, "republisher"), 4));
}

Test(dead_letters, one_that_is_refused_does_not_end_a_replay, .timeout = 120)
{
    CM_CLEANUP(world_close) world_t world;
    keep_three(&world);
    cm_error_t err = {0};
    cm_pg_options_t options = {.uri = world.postgres, .connect_timeout_ms = 5000};
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = cm_pg_new(&options);
    cr_assert(eq(int, cm_pg_connect(pg, NULL, &err), CM_OK));
    cr_assert(eq(int,
                 cm_pg_exec(pg,
                            "ALTER TABLE client_manager.dead_letters"
                            " ADD CHECK (id <> 2 OR replayed_at IS NULL)",
                            &err),
                 CM_OK),
              "%s", err.message);
    const cm_program_t *done =
        manager(&world, NULL, ARGS("dead-letters", "replay", "--all", "-o", "json"));
    cr_expect(eq(int, done->code, 3), "%s", done->err);
    cr_expect(eq(str, done->out, "{\"replayed\": 2, \"refused\": 1, \"missing\": 0}\n"));
    cr_expect(ne(ptr, strstr(done->err, "dead letter 2 was published but not marked: "), NULL),
              "%s", done->err);
    cr_expect(ne(ptr, strstr(done->err, "(23514)"), NULL), "%s", done->err);
}

Test(dead_letters, purge_wants_a_yes_where_nobody_can_be_asked, .timeout = 120)
{
    CM_CLEANUP(world_close) world_t world;
    keep_three(&world);
    expect_end(manager(&world, NULL, ARGS("dead-letters", "purge", "--tenant", "7")), 2, "",
               "client-manager dead-letters purge: stdin is no terminal; say --yes\n");
    expect_end(manager(&world, NULL, ARGS("dead-letters", "purge", "--tenant", "7", "--dry-run")),
               0, "matching  removed\n       2        0\n", "");
    expect_head(manager(&world, NULL, ARGS("dead-letters", "purge", "--tenant", "7", "--yes")), "1",
                "matching  removed\n       2        2\n");
    expect_end(manager(&world, NULL, ARGS("dead-letters", "purge", "1", "--yes")), 1,
               "matching  removed\n       0        0\n", "there is no dead letter 1\n");
}

/* ---- dev ------------------------------------------------------------------------------------ */

/* dev against the servers of the tests, so that it starts none of its own. */
static void dev_arguments(const world_t *world, const char *argv[16], const char *more)
{
    const char *words[] = {
        "dev",       "--pg", world->postgres, "--redis",        cm_test_redis_uri(),
        "--tenants", "2",    "--listen",      "127.0.0.1:18089"};
    memcpy(argv, words, sizeof words);
    argv[CM_LENGTH(words)] = more;
    argv[CM_LENGTH(words) + 1] = NULL;
}

Test(dev, ends_by_itself_with_a_balanced_ledger, .timeout = 180)
{
    CM_CLEANUP(world_close) world_t world;
    const char *argv[16];
    world_open(&world);
    dev_arguments(&world, argv, "--exit-when-done");
    argv[10] = "--events=300";
    argv[11] = NULL;
    const cm_program_t *done = manager(&world, NULL, argv);
    cr_expect(eq(int, done->code, 0), "%s", done->err);
    cr_expect(eq(int, strncmp(done->out, "{\"published\": 323, \"received\": 323, ", 36), 0), "%s",
              done->out);
    cr_expect(ne(ptr, strstr(done->out, "\"balanced\": true}\n"), NULL));
    cr_expect(eq(sz, lines_of(done), 1));
}

Test(dev, an_interrupt_ends_it_cleanly_with_the_ledger, .timeout = 180)
{
    CM_CLEANUP(world_close) world_t world;
    const char *argv[16];
    world_open(&world);
    dev_arguments(&world, argv, "--rate=200");
    cm_program_start(&world.program, NULL, world.env, argv);
    cr_assert(cm_program_said(&world.program, "tenants 2/2", DEADLINE_MS));
    kill(world.program.pid, SIGINT);
    cm_program_finish(&world.program);
    cr_expect(eq(int, world.program.code, 0));
    cr_expect(ne(ptr, strstr(world.program.err, "in flight: balanced\n"), NULL), "%s",
              world.program.err);
}

static void expect_untouched(const char *directory, const char *why)
{
    struct stat before, after;
    CM_CLEANUP(cm_program_destroy) cm_program_t program;
    cr_assert(eq(int, stat(directory, &before), 0));
    cm_program_run(&program, NULL, NULL, ARGS("dev", "--keep", directory));
    cr_assert(eq(int, stat(directory, &after), 0));
    cr_expect(eq(int, program.code, 2));
    cr_expect(ne(ptr, strstr(program.err, why), NULL), "%s", program.err);
    cr_expect(eq(u32, after.st_uid, before.st_uid));
    cr_expect(eq(u32, after.st_mode, before.st_mode));
    cr_expect(eq(i64, after.st_mtim.tv_nsec, before.st_mtim.tv_nsec));
}

Test(dev, a_directory_of_others_is_neither_taken_nor_written_to, .timeout = 120)
{
    char directory[] = "/tmp/cm-test-XXXXXX", file[64];
    cr_assert(ne(ptr, mkdtemp(directory), NULL));
    snprintf(file, sizeof file, "%s/theirs", directory);
    fclose(fopen(file, "w"));
    expect_untouched(directory, "it holds other things");
    expect_untouched(file, "Not a directory");
    unlink(file);
    chmod(directory, 0755);
    expect_untouched(directory, "it is open to others");
    rmdir(directory);
}

Test(dev, a_directory_in_use_is_left_to_its_user, .timeout = 180)
{
    char directory[] = "/tmp/cm-test-XXXXXX", command[64];
    cr_assert(ne(ptr, mkdtemp(directory), NULL));
    CM_CLEANUP(cm_program_destroy) cm_program_t first, second;
    cm_program_start(&first, NULL, NULL,
                     ARGS("dev", "--keep", directory, "--tenants", "1", "--rate", "50", "--listen",
                          "127.0.0.1:18189"));
    cr_assert(cm_program_said(&first, "tenants 1/1", DEADLINE_MS));
    cm_program_run(&second, NULL, NULL, ARGS("dev", "--keep", directory));
    cr_expect(eq(int, second.code, 75));
    cr_expect(ne(ptr, strstr(second.err, "is in use by another dev"), NULL));
    kill(first.pid, SIGTERM);
    cm_program_finish(&first);
    cr_expect(eq(int, first.code, 0), "%s", first.err);
    snprintf(command, sizeof command, "rm -r %s", directory);
    cr_expect(eq(int, system(command), 0));
}

/* ---- what is generated ---------------------------------------------------------------------- */

Test(generated, completion_offers_commands_verbs_and_flags, .timeout = 120)
{
    static const char script[] =
        "eval \"$(" CM_PROGRAM " help completion)\"\n"
        "try() { COMP_WORDS=(client-manager \"$@\") COMP_CWORD=$#; _client_manager; echo "
        "\"${COMPREPLY[*]}\"; }\n"
        "try ten; try tenant mi; try tenant list --st; try run wr; try tenant list --state dele\n"
        "try publish -o js; try dev --keep /";
    CM_CLEANUP(cm_free) char *command = NULL;
    char text[512] = "";
    cr_assert(gt(int, asprintf(&command, "bash -c '%s'", script), 0));
    FILE *shell = popen(command, "re");
    cr_assert(gt(sz, fread(text, 1, sizeof text - 1, shell), 0));
    cr_expect(eq(int, pclose(shell), 0));
    cr_expect(eq(str, text, "tenant\nmigrate\n--state\nwriter\ndeleting deleted\njson\n\n"));
}

Test(generated, the_manual_page_has_every_command_and_key, .timeout = 120)
{
    CM_CLEANUP(cm_program_destroy) cm_program_t program;
    cm_program_run(&program, NULL, NULL, ARGS("help", "man"));
    cr_expect(eq(int, program.code, 0));
    cr_expect(ne(ptr, strstr(program.out, ".SS \"dead\\-letters replay [ID...]\"\n"), NULL));
    cr_expect(ne(ptr, strstr(program.out, "\\fBdrain.deadline_ms\\fR\n"), NULL));
    cr_expect(ne(ptr, strstr(program.out, ".SH EXIT STATUS\n"), NULL));
}
