#include "runtime/buffer.h"
#include "runtime/cleanup.h"
#include "runtime/pg.h"
#include "tests/support/fixture.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

enum { INT4 = 23, INT4_ARRAY = 1007, TEXT_ARRAY = 1009 }; /* pg_type.oid */

typedef struct { /* what on_result was told */
    int calls, failures;
    size_t last_index;
    bool in_order;
    cm_status_t last_status;
    char last_value[64], last_code[CM_ERROR_CODE_MAX];
    size_t bytes;
} heard_t;

static void hear(void *ctx, size_t index, cm_status_t status, const PGresult *result,
                 const cm_error_t *err)
{
    heard_t *heard = ctx;
    heard->in_order = heard->calls == 0 ? index == 0 : heard->in_order && index > heard->last_index;
    heard->calls++;
    heard->failures += status != CM_OK;
    heard->last_index = index;
    heard->last_status = status;
    snprintf(heard->last_code, sizeof heard->last_code, "%s", err->code);
    for (int row = 0; row < PQntuples(result); row++)
        heard->bytes += (size_t)PQgetlength(result, row, 0);
    if (PQntuples(result) > 0)
        snprintf(heard->last_value, sizeof heard->last_value, "%s", PQgetvalue(result, 0, 0));
}

typedef struct {
    char uri[CM_TEST_URI_MAX];
    cm_pg_t *pg, *other;
    heard_t heard;
    cm_error_t err;
    int failed;
} world_t;

static cm_pg_t *connected(const char *uri, size_t prepared_max)
{
    cm_error_t err = {0};
    cm_pg_t *pg = cm_pg_new(&(cm_pg_options_t){.uri = uri,
                                               .application_name = "test_pg_pipeline",
                                               .statement_timeout_ms = 20000,
                                               .lock_timeout_ms = 5000,
                                               .prepared_max = prepared_max});
    cr_assert(eq(int, cm_pg_connect(pg, NULL, &err), CM_OK), "%s %s", err.code, err.message);
    return pg;
}

static void must(cm_pg_t *pg, const char *sql)
{
    cm_error_t err = {0};
    cr_assert(eq(int, cm_pg_exec(pg, sql, &err), CM_OK), "%s: %s %s", sql, err.code, err.message);
}

static void set_up(world_t *self, size_t prepared_max)
{
    cm_test_database(self->uri);
    self->pg = connected(self->uri, prepared_max);
    self->other = connected(self->uri, 0);
    must(self->other, "CREATE TABLE public.t (a int PRIMARY KEY, b text)");
}

static void tear_down(world_t *self)
{
    cm_pg_destroy(&self->pg);
    cm_pg_destroy(&self->other);
}

static int64_t ask(cm_pg_t *pg, const char *sql)
{
    cm_error_t err = {0};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cr_assert(eq(int, cm_pg_query(pg, sql, 0, NULL, &result, &err), CM_OK), "%s: %s", sql,
              err.message);
    return cm_pg_i64(result, 0, 0);
}

static void begin(world_t *self)
{
    self->heard = (heard_t){0};
    self->err = (cm_error_t){0};
    self->failed = -2;
    cr_assert(eq(int, cm_pg_pipeline_begin(self->pg, hear, &self->heard, &self->err), CM_OK), "%s",
              self->err.message);
}

static void add(world_t *self, const char *key, const char *sql)
{
    cm_pg_statement_t statement = {.key = key, .sql = sql};
    cr_assert(eq(int, cm_pg_pipeline_add(self->pg, &statement, &self->err), CM_OK), "%s",
              self->err.message);
}

/* INSERT of one row with its number as a binary parameter. */
static void add_row(world_t *self, const char *key, int number)
{
    uint32_t network = htonl((uint32_t)number);
    const char *values[] = {(const char *)&network};
    cm_pg_statement_t statement = {.key = key,
                                   .sql = "INSERT INTO public.t VALUES ($1) RETURNING a",
                                   .count = 1,
                                   .types = (const Oid[]){INT4},
                                   .values = values,
                                   .lengths = (const int[]){4},
                                   .formats = (const int[]){1}};
    cr_assert(eq(int, cm_pg_pipeline_add(self->pg, &statement, &self->err), CM_OK), "%s",
              self->err.message);
    network = 0; /* values are copied */
}

static cm_status_t run(world_t *self)
{
    cm_status_t status = cm_pg_pipeline_send(self->pg, &self->err);
    return status == CM_OK ? cm_pg_pipeline_wait(self->pg, &self->failed, &self->err) : status;
}

static void usable(world_t *self)
{
    cr_assert(cm_pg_is_connected(self->pg));
    begin(self);
    add(self, NULL, "SELECT 'still here'");
    cr_expect(eq(int, run(self), CM_OK), "%s", self->err.message);
    cr_expect(eq(str, self->heard.last_value, "still here"));
    must(self->pg, "SELECT 1");
}

/* ---- success ------------------------------------------------------------------------------- */

Test(pg_pipeline, commits_and_tells_each_result_in_order, .timeout = 30)
{
    CM_CLEANUP(tear_down) world_t world = {0};
    set_up(&world, 8);
    begin(&world);
    for (int i = 0; i < 100; i++)
        add_row(&world, i % 2 ? "insert" : NULL, i);
    cr_expect(eq(int, run(&world), CM_OK), "%s", world.err.message);
    cr_expect(eq(int, world.failed, -1));
    cr_expect(eq(int, world.heard.calls, 100));
    cr_expect(world.heard.in_order);
    cr_expect(eq(int, world.heard.failures, 0));
    cr_expect(eq(str, world.heard.last_value, "99"));
    cr_expect(eq(i64, ask(world.other, "SELECT count(*) FROM public.t"), 100));
    usable(&world);
}

Test(pg_pipeline, may_be_empty_and_may_have_no_listener, .timeout = 30)
{
    CM_CLEANUP(tear_down) world_t world = {0};
    set_up(&world, 8);
    begin(&world);
    cr_expect(eq(int, run(&world), CM_OK));
    cr_assert(eq(int, cm_pg_pipeline_begin(world.pg, NULL, NULL, NULL), CM_OK));
    add_row(&world, NULL, 1);
    cr_expect(eq(int, run(&world), CM_OK));
    cr_expect(eq(i64, ask(world.other, "SELECT count(*) FROM public.t"), 1));
}

Test(pg_pipeline, pump_never_waits, .timeout = 30)
{
    CM_CLEANUP(tear_down) world_t world = {0};
    set_up(&world, 8);
    must(world.other, "BEGIN; LOCK TABLE public.t");
    begin(&world);
    add_row(&world, "insert", 1);
    cr_assert(eq(int, cm_pg_pipeline_send(world.pg, &world.err), CM_OK));
    bool done = true;
    cr_expect(eq(int, cm_pg_pipeline_pump(world.pg, &done, &world.failed, &world.err), CM_OK));
    cr_expect(not(done)); /* the lock is ours until the next line */
    must(world.other, "COMMIT");
    while (!done) {
        struct pollfd item = {.fd = cm_pg_fd(world.pg), .events = POLLIN};
        if (cm_pg_pipeline_wants_write(world.pg))
            item.events |= POLLOUT;
        cr_assert(eq(int, poll(&item, 1, 10000), 1));
        cr_assert(eq(int, cm_pg_pipeline_pump(world.pg, &done, &world.failed, &world.err), CM_OK));
    }
    cr_expect(eq(i64, ask(world.other, "SELECT count(*) FROM public.t"), 1));
}

/* A one-dimensional binary array: dimensions, has nulls, element type; length, lower bound; items.
 */
static void put_u32(cm_buffer_t *buffer, uint32_t value)
{
    value = htonl(value);
    cm_buffer_append(buffer, &value, sizeof value);
}

static void array_header(cm_buffer_t *buffer, Oid type, int count)
{
    put_u32(buffer, 1);
    put_u32(buffer, 0);
    put_u32(buffer, type);
    put_u32(buffer, (uint32_t)count);
    put_u32(buffer, 1);
}

static void make_arrays(cm_buffer_t *numbers, cm_buffer_t *texts, int first, int count)
{
    char text[1000];
    memset(text, 'x', sizeof text);
    array_header(numbers, INT4, count);
    array_header(texts, 25, count);
    for (int i = 0; i < count; i++) {
        put_u32(numbers, 4);
        put_u32(numbers, (uint32_t)(first + i));
        put_u32(texts, sizeof text);
        cm_buffer_append(texts, text, sizeof text);
    }
}

Test(pg_pipeline, megabytes_both_ways_do_not_block_each_other, .timeout = 60)
{
    enum { STATEMENTS = 3, ROWS = 5000 };
    CM_CLEANUP(tear_down) world_t world = {0};
    set_up(&world, 8);
    begin(&world);
    for (int i = 0; i < STATEMENTS; i++) {
        CM_CLEANUP(cm_buffer_destroy) cm_buffer_t numbers = {0}, texts = {0};
        make_arrays(&numbers, &texts, i * ROWS, ROWS);
        const char *values[] = {numbers.data, texts.data};
        const int lengths[] = {(int)numbers.len, (int)texts.len};
        cm_pg_statement_t statement = {
            .key = "unnest",
            .sql = "INSERT INTO public.t SELECT * FROM unnest($1::int[], $2::text[]) RETURNING b",
            .count = 2,
            .types = (const Oid[]){INT4_ARRAY, TEXT_ARRAY},
            .values = values,
            .lengths = lengths,
            .formats = (const int[]){1, 1},
            .result_format = 1};
        cr_assert(eq(int, cm_pg_pipeline_add(world.pg, &statement, &world.err), CM_OK));
    }
    cr_expect(eq(int, run(&world), CM_OK), "%s", world.err.message);
    cr_expect(eq(int, world.heard.calls, STATEMENTS));
    cr_expect(eq(sz, world.heard.bytes, (size_t)STATEMENTS * ROWS * 1000));
    cr_expect(eq(i64, ask(world.other, "SELECT count(*) FROM public.t"), STATEMENTS * ROWS));
}

/* ---- failures ------------------------------------------------------------------------------ */

static void fails_at(world_t *world, int bad, int count, const char *key)
{
    begin(world);
    for (int i = 0; i < count; i++)
        add_row(world, key, i == bad ? -1 : 1000 + i);
    cr_expect(eq(int, run(world), CM_PERMANENT));
    cr_expect(eq(int, world->failed, bad));
    cr_expect(eq(str, world->err.code, "23505"));
    cr_expect(eq(int, world->heard.calls, bad + 1));
    cr_expect(world->heard.in_order);
    cr_expect(eq(int, world->heard.failures, 1));
    cr_expect(eq(int, world->heard.last_status, CM_PERMANENT));
    cr_expect(eq(str, world->heard.last_code, "23505"));
    cr_expect(eq(i64, ask(world->other, "SELECT count(*) FROM public.t WHERE a > 0"), 0));
    usable(world);
}

Test(pg_pipeline, tells_which_statement_failed, .timeout = 30)
{
    CM_CLEANUP(tear_down) world_t world = {0};
    set_up(&world, 8);
    must(world.other, "INSERT INTO public.t VALUES (-1)");
    static const char *const keys[] = {NULL, "insert"};
    for (size_t k = 0; k < CM_LENGTH(keys); k++) {
        fails_at(&world, 0, 100, keys[k]);
        fails_at(&world, 50, 100, keys[k]);
        fails_at(&world, 99, 100, keys[k]);
    }
}

Test(pg_pipeline, statement_that_cannot_be_prepared_has_failed, .timeout = 30)
{
    CM_CLEANUP(tear_down) world_t world = {0};
    set_up(&world, 8);
    begin(&world);
    add_row(&world, "insert", 1);
    add(&world, "missing", "SELECT * FROM tenant_9.devices");
    add(&world, "after", "SELECT 1");
    cr_expect(eq(int, run(&world), CM_MISSING));
    cr_expect(eq(int, world.failed, 1));
    cr_expect(eq(str, world.err.code, "42P01"));
    cr_expect(eq(int, world.heard.calls, 2));
    usable(&world);
    cr_expect(eq(i64, ask(world.pg, "SELECT count(*) FROM pg_prepared_statements"), 1));
    must(world.other, "CREATE SCHEMA tenant_9; CREATE TABLE tenant_9.devices (a int)");
    begin(&world);
    add(&world, "after", "SELECT 1");
    add(&world, "missing", "SELECT * FROM tenant_9.devices");
    cr_expect(eq(int, run(&world), CM_OK), "%s", world.err.message);
}

Test(pg_pipeline, failure_of_the_commit_belongs_to_no_statement, .timeout = 30)
{
    CM_CLEANUP(tear_down) world_t world = {0};
    set_up(&world, 8);
    must(world.other, "ALTER TABLE public.t ADD FOREIGN KEY (a) REFERENCES public.t (a);"
                      "CREATE TABLE public.child (a int REFERENCES public.t (a)"
                      " DEFERRABLE INITIALLY DEFERRED)");
    begin(&world);
    add(&world, NULL, "INSERT INTO public.child VALUES (5)");
    cr_expect(eq(int, run(&world), CM_PERMANENT));
    cr_expect(eq(int, world.failed, -1));
    cr_expect(eq(str, world.err.code, "23503"));
    cr_expect(eq(int, world.heard.failures, 0));
    usable(&world);
}

Test(pg_pipeline, copy_is_refused_and_closes, .timeout = 30)
{
    CM_CLEANUP(tear_down) world_t world = {0};
    set_up(&world, 8);
    begin(&world);
    add(&world, NULL, "COPY public.t FROM STDIN");
    cr_expect(eq(int, run(&world), CM_PERMANENT), "%s", world.err.message);
    cr_expect(eq(str, world.err.code, "copy"));
    cr_expect(not(cm_pg_is_connected(world.pg)));
}

Test(pg_pipeline, write_to_a_read_only_server_is_unavailable_and_closes, .timeout = 30)
{
    CM_CLEANUP(tear_down) world_t world = {0};
    set_up(&world, 8);
    must(world.pg, "SET default_transaction_read_only = on");
    begin(&world);
    add_row(&world, "insert", 1);
    cr_expect(eq(int, run(&world), CM_UNAVAILABLE));
    cr_expect(eq(str, world.err.code, "25006"));
    cr_expect(not(cm_pg_is_connected(world.pg)));
}

static bool is_sleeping(void *ctx)
{
    world_t *world = ctx;
    return ask(world->other, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE "
                             "'SELECT pg_sleep%' AND state = 'active'") == 1;
}

Test(pg_pipeline, terminated_session_is_unavailable_and_reconnects, .timeout = 30)
{
    CM_CLEANUP(tear_down) world_t world = {0};
    set_up(&world, 8);
    begin(&world);
    add_row(&world, "insert", 1);
    add(&world, NULL, "SELECT pg_sleep(15)");
    add_row(&world, "insert", 2);
    cr_assert(eq(int, cm_pg_pipeline_send(world.pg, &world.err), CM_OK));
    cr_assert(cm_test_wait(is_sleeping, &world, 10000));
    must(world.other, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE "
                      "'SELECT pg_sleep%' AND state = 'active' AND pid <> pg_backend_pid()");
    cr_expect(eq(int, cm_pg_pipeline_wait(world.pg, &world.failed, &world.err), CM_UNAVAILABLE));
    cr_expect(eq(int, world.failed, -1));
    cr_expect(eq(str, world.err.code, "57P01"));
    cr_expect(eq(int, world.heard.calls, 1));
    cr_expect(not(cm_pg_is_connected(world.pg)));
    cr_assert(eq(int, cm_pg_connect(world.pg, NULL, &world.err), CM_OK));
    begin(&world);
    add_row(&world, "insert", 2);
    cr_expect(eq(int, run(&world), CM_OK), "%s", world.err.message);
    cr_expect(eq(i64, ask(world.other, "SELECT count(*) FROM public.t"), 1));
}

Test(pg_pipeline, cut_link_is_unavailable, .timeout = 30)
{
    CM_CLEANUP(tear_down) world_t world = {0};
    set_up(&world, 8);
    begin(&world);
    for (int i = 0; i < 1000; i++)
        add_row(&world, "insert", i);
    shutdown(cm_pg_fd(world.pg), SHUT_RDWR);
    cr_expect(eq(int, run(&world), CM_UNAVAILABLE));
    cr_expect(eq(str, world.err.code, "link"));
    cr_expect(not(cm_pg_is_connected(world.pg)));
    cr_expect(eq(int, cm_pg_fd(world.pg), -1));
}

Test(pg_pipeline, every_call_on_a_closed_connection_says_so, .timeout = 30)
{
    CM_CLEANUP(tear_down) world_t world = {0};
    set_up(&world, 8);
    begin(&world);
    cm_pg_close(world.pg);
    cm_pg_statement_t statement = {.sql = "SELECT 1"};
    bool done;
    cr_expect(eq(int, cm_pg_pipeline_add(world.pg, &statement, NULL), CM_UNAVAILABLE));
    cr_expect(eq(int, cm_pg_pipeline_send(world.pg, NULL), CM_UNAVAILABLE));
    cr_expect(eq(int, cm_pg_pipeline_pump(world.pg, &done, &world.failed, NULL), CM_UNAVAILABLE));
    cr_expect(eq(int, cm_pg_pipeline_begin(world.pg, NULL, NULL, NULL), CM_UNAVAILABLE));
    cr_expect(not(cm_pg_pipeline_wants_write(world.pg)));
}

Test(pg_pipeline, open_transaction_is_not_joined, .timeout = 30)
{
    CM_CLEANUP(tear_down) world_t world = {0};
    set_up(&world, 8);
    cr_assert(eq(int, cm_pg_begin(world.pg, NULL), CM_OK));
    cr_expect(eq(int, cm_pg_pipeline_begin(world.pg, NULL, NULL, &world.err), CM_TRANSIENT));
    cr_expect(eq(str, world.err.code, "25001"));
    cr_expect(not(cm_pg_is_connected(world.pg)));
}

Test(pg_pipeline, server_that_hangs_is_given_up, .timeout = 60)
{
    CM_CLEANUP(tear_down) world_t world = {0};
    set_up(&world, 8);
    cm_pg_destroy(&world.pg);
    world.pg = cm_pg_new(&(cm_pg_options_t){.uri = world.uri, .statement_timeout_ms = 100});
    cr_assert(eq(int, cm_pg_connect(world.pg, NULL, &world.err), CM_OK));
    pid_t pid = (pid_t)ask(world.pg, "SELECT pg_backend_pid()");
    kill(pid, SIGSTOP);
    begin(&world);
    add_row(&world, "insert", 1);
    cr_expect(eq(int, run(&world), CM_UNAVAILABLE));
    cr_expect(eq(str, world.err.code, "link"));
    cr_expect(eq(int, world.failed, -1));
    cr_expect(not(cm_pg_is_connected(world.pg)));
    kill(pid, SIGCONT);
}

Test(pg_pipeline, slow_statements_whose_answers_the_server_keeps_back_are_no_silence, .timeout = 60)
{
    CM_CLEANUP(tear_down) world_t world = {0};
    set_up(&world, 8);
    cm_pg_destroy(&world.pg);
    world.pg = cm_pg_new(&(cm_pg_options_t){.uri = world.uri, .statement_timeout_ms = 1000});
    cr_assert(eq(int, cm_pg_connect(world.pg, NULL, &world.err), CM_OK));
    begin(&world);
    for (int i = 0; i < 6; i++) /* 3 s in all; one statement alone may be silent for 2 s */
        add(&world, NULL, "SELECT pg_sleep(0.5)");
    cr_expect(eq(int, run(&world), CM_OK), "%s", world.err.message);
    cr_expect(eq(int, world.heard.calls, 6));
}

/* ---- prepared statements ------------------------------------------------------------------- */

static int64_t prepared(world_t *world)
{
    return ask(world->pg, "SELECT count(*) FROM pg_prepared_statements");
}

Test(pg_prepared, statement_is_prepared_once, .timeout = 30)
{
    CM_CLEANUP(tear_down) world_t world = {0};
    set_up(&world, 8);
    for (int round = 0; round < 3; round++) {
        begin(&world);
        for (int i = 0; i < 5; i++)
            add_row(&world, "insert", round * 5 + i);
        cr_expect(eq(int, run(&world), CM_OK));
        cr_expect(eq(i64, prepared(&world), 1));
    }
    cr_expect(eq(
        i64, ask(world.pg, "SELECT generic_plans + custom_plans FROM pg_prepared_statements"), 15));
}

static const char *count_text(void *ctx)
{
    (*(int *)ctx)++;
    return "SELECT 'made'";
}

Test(pg_prepared, the_text_is_asked_for_only_when_it_is_needed, .timeout = 30)
{
    CM_CLEANUP(tear_down) world_t world = {0};
    set_up(&world, 8);
    int asked = 0;
    for (int i = 0; i < 3; i++) {
        begin(&world);
        cm_pg_statement_t statement = {.key = "made", .text = count_text, .ctx = &asked};
        cr_assert(eq(int, cm_pg_pipeline_add(world.pg, &statement, &world.err), CM_OK));
        cr_assert(eq(int, run(&world), CM_OK), "%s", world.err.message);
        cr_expect(eq(str, world.heard.last_value, "made"));
    }
    cr_expect(eq(int, asked, 1));
}

Test(pg_prepared, nothing_is_kept_when_none_may_be, .timeout = 30)
{
    CM_CLEANUP(tear_down) world_t world = {0};
    set_up(&world, 0);
    begin(&world);
    add_row(&world, "insert", 1);
    cr_expect(eq(int, run(&world), CM_OK));
    cr_expect(eq(i64, prepared(&world), 0));
}

static void select_number(world_t *world, int number)
{
    char key[16], sql[32];
    snprintf(key, sizeof key, "select %d", number);
    snprintf(sql, sizeof sql, "SELECT %d AS x", number);
    add(world, key, sql);
}

static void select_numbers(world_t *world, const int *numbers, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        begin(world);
        select_number(world, numbers[i]);
        cr_expect(eq(int, run(world), CM_OK));
    }
}

static bool is_prepared(world_t *world, int number)
{
    char sql[128];
    snprintf(sql, sizeof sql,
             "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'SELECT %d %%'",
             number);
    return ask(world->pg, sql) == 1;
}

Test(pg_prepared, least_recently_used_makes_room, .timeout = 30)
{
    CM_CLEANUP(tear_down) world_t world = {0};
    set_up(&world, 3);
    select_numbers(&world, (int[]){1, 2, 3}, 3);
    for (int i = 0; i < 10; i++) /* 2 is not needed for long */
        select_numbers(&world, (int[]){1, 3}, 2);
    select_numbers(&world, (int[]){4}, 1);
    cr_expect(eq(i64, prepared(&world), 3));
    cr_expect(not(is_prepared(&world, 2)));
    cr_expect(is_prepared(&world, 4));
}

Test(pg_prepared, what_is_in_use_makes_no_room, .timeout = 30)
{
    CM_CLEANUP(tear_down) world_t world = {0};
    set_up(&world, 3);
    for (int i = 0; i < 10; i++)
        select_numbers(&world, (int[]){1, 2, 3, 4}, 4);
    for (int number = 1; number <= 4; number++)
        cr_expect(eq(int, is_prepared(&world, number), number < 4));
}

Test(pg_prepared, more_statements_than_may_be_kept_run_in_one_pipeline, .timeout = 30)
{
    CM_CLEANUP(tear_down) world_t world = {0};
    set_up(&world, 3);
    for (int round = 0; round < 2; round++) {
        begin(&world);
        for (int i = 0; i < 100; i++)
            select_number(&world, i % 10);
        cr_expect(eq(int, run(&world), CM_OK), "%s", world.err.message);
        cr_expect(eq(int, world.heard.calls, 100));
        cr_expect(eq(i64, prepared(&world), 3));
    }
}

/* Wherever a pipeline breaks off, the server and we agree on what is prepared. */
Test(pg_prepared, cache_stays_true_when_pipelines_fail, .timeout = 60)
{
    CM_CLEANUP(tear_down) world_t world = {0};
    set_up(&world, 3);
    for (int bad = 0; bad <= 12; bad++) {
        begin(&world);
        for (int i = 0; i <= 12; i++)
            if (i == bad)
                add(&world, bad % 2 ? "division" : NULL, "SELECT 1 / 0");
            else
                select_number(&world, (bad + i) % 6);
        cr_expect(eq(int, run(&world), CM_PERMANENT));
        cr_expect(eq(int, world.failed, bad));
        begin(&world);
        for (int i = 0; i < 6; i++)
            select_number(&world, i);
        cr_expect(eq(int, run(&world), CM_OK), "after %d: %s", bad, world.err.message);
        cr_expect(eq(i64, prepared(&world), 3));
    }
}

Test(pg_prepared, statements_lost_by_the_server_are_prepared_again, .timeout = 30)
{
    CM_CLEANUP(tear_down) world_t world = {0};
    set_up(&world, 8);
    for (int round = 0; round < 2; round++) {
        begin(&world);
        select_number(&world, 1);
        select_number(&world, 2);
        cr_expect(eq(int, run(&world), CM_OK), "%s", world.err.message);
        cr_expect(eq(i64, prepared(&world), 2));
        must(world.pg, "DEALLOCATE ALL");
        begin(&world);
        select_number(&world, 3);
        select_number(&world, 2);
        cr_expect(eq(int, run(&world), CM_TRANSIENT));
        cr_expect(eq(str, world.err.code, "26000"));
        cr_expect(eq(int, world.failed, 1));
        cr_expect(cm_pg_is_quick_retry(world.err.code));
    }
}

Test(pg_prepared, stale_plan_is_prepared_again, .timeout = 30)
{
    CM_CLEANUP(tear_down) world_t world = {0};
    set_up(&world, 8);
    begin(&world);
    select_number(&world, 1);
    add(&world, "all", "SELECT * FROM public.t");
    cr_expect(eq(int, run(&world), CM_OK));
    must(world.other, "ALTER TABLE public.t ADD COLUMN c int");
    begin(&world);
    add(&world, "all", "SELECT * FROM public.t");
    cr_expect(eq(int, run(&world), CM_TRANSIENT));
    cr_expect(eq(str, world.err.code, "0A000"));
    cr_expect(eq(int, world.failed, 0));
    cr_expect(cm_pg_is_quick_retry(world.err.code));
    begin(&world);
    add(&world, "all", "SELECT * FROM public.t");
    cr_expect(eq(int, run(&world), CM_OK), "%s", world.err.message);
    cr_expect(eq(i64, prepared(&world), 2));
}
