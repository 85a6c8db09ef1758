#include "runtime/buffer.h"
#include "tests/integration/pg_case.h"

#include <poll.h>
#include <signal.h>
#include <sys/socket.h>

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
                             "'SELECT pg_sleep%' AND state = 'active'"
                             " AND datname = current_database()") == 1;
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
                      "'SELECT pg_sleep%' AND state = 'active' AND pid <> pg_backend_pid()"
                      " AND datname = current_database()");
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

/* ---- inside a transaction ------------------------------------------------------------------ */

static void begin_within(world_t *self)
{
    self->heard = (heard_t){0};
    self->err = (cm_error_t){0};
    self->failed = -2;
    cr_assert(eq(int, cm_pg_pipeline_begin_within(self->pg, hear, &self->heard, &self->err), CM_OK),
              "%s", self->err.message);
}

Test(pg_pipeline, within_a_transaction_its_owner_commits, .timeout = 30)
{
    CM_CLEANUP(tear_down) world_t world = {0};
    set_up(&world, 8);
    cr_assert(eq(int, cm_pg_begin(world.pg, NULL), CM_OK));
    for (int round = 0; round < 3; round++) {
        begin_within(&world);
        for (int i = 0; i < 20; i++)
            add_row(&world, i % 2 ? "insert" : NULL, round * 20 + i);
        cr_expect(eq(int, run(&world), CM_OK), "%s", world.err.message);
        cr_expect(eq(int, world.failed, -1));
        cr_expect(eq(int, world.heard.calls, 20));
    }
    cr_expect(eq(i64, ask(world.other, "SELECT count(*) FROM public.t"), 0));
    cr_expect(eq(int, cm_pg_commit(world.pg, &world.err), CM_OK), "%s", world.err.message);
    cr_expect(eq(i64, ask(world.other, "SELECT count(*) FROM public.t"), 60));
    usable(&world);
}

Test(pg_pipeline, within_a_transaction_its_owner_rolls_back, .timeout = 30)
{
    CM_CLEANUP(tear_down) world_t world = {0};
    set_up(&world, 8);
    cr_assert(eq(int, cm_pg_begin(world.pg, NULL), CM_OK));
    begin_within(&world);
    add_row(&world, "insert", 1);
    cr_expect(eq(int, run(&world), CM_OK), "%s", world.err.message);
    cm_pg_rollback(world.pg);
    cr_expect(eq(i64, ask(world.other, "SELECT count(*) FROM public.t"), 0));
    usable(&world);
    cr_expect(eq(i64, ask(world.pg, "SELECT count(*) FROM pg_prepared_statements"), 1));
}

Test(pg_pipeline, failure_within_a_transaction_leaves_it_failed, .timeout = 30)
{
    CM_CLEANUP(tear_down) world_t world = {0};
    set_up(&world, 8);
    must(world.other, "INSERT INTO public.t VALUES (-1)");
    cr_assert(eq(int, cm_pg_begin(world.pg, NULL), CM_OK));
    begin_within(&world);
    add_row(&world, "insert", 1);
    add_row(&world, "insert", -1);
    add(&world, "skipped", "SELECT 1");
    cr_expect(eq(int, run(&world), CM_PERMANENT));
    cr_expect(eq(int, world.failed, 1));
    cr_expect(eq(str, world.err.code, "23505"));
    cr_expect(eq(int, world.heard.calls, 2));
    cr_expect(eq(int, cm_pg_pipeline_begin_within(world.pg, NULL, NULL, &world.err), CM_TRANSIENT));
    cr_expect(eq(str, world.err.code, "25P02"));
    cr_assert(cm_pg_is_connected(world.pg));
    cm_pg_rollback(world.pg);
    usable(&world);
    cr_expect(eq(i64, ask(world.other, "SELECT count(*) FROM public.t"), 1));
}

Test(pg_pipeline, what_was_retired_is_forgotten_within_a_transaction, .timeout = 30)
{
    CM_CLEANUP(tear_down) world_t world = {0};
    set_up(&world, 8);
    must(world.other, "CREATE TABLE public.u (a int)");
    begin(&world);
    add(&world, "stale", "SELECT * FROM public.u");
    cr_expect(eq(int, run(&world), CM_OK));
    must(world.other, "ALTER TABLE public.u ADD COLUMN b int");
    for (int round = 0; round < 2; round++) {
        cr_assert(eq(int, cm_pg_begin(world.pg, NULL), CM_OK));
        begin_within(&world);
        add(&world, "stale", "SELECT * FROM public.u");
        cr_expect(eq(int, run(&world), round ? CM_OK : CM_TRANSIENT), "%s", world.err.message);
        cm_pg_rollback(world.pg);
    }
    cr_expect(eq(i64, ask(world.pg, "SELECT count(*) FROM pg_prepared_statements"), 1));
}

Test(pg_pipeline, outside_a_transaction_there_is_nothing_to_go_on_in, .timeout = 30)
{
    CM_CLEANUP(tear_down) world_t world = {0};
    set_up(&world, 8);
    cr_expect(eq(int, cm_pg_pipeline_begin_within(world.pg, NULL, NULL, &world.err), CM_TRANSIENT));
    cr_expect(eq(str, world.err.code, "25P01"));
    usable(&world);
    cm_pg_close(world.pg);
    cr_expect(eq(int, cm_pg_pipeline_begin_within(world.pg, NULL, NULL, NULL), CM_UNAVAILABLE));
}

Test(pg_pipeline, transaction_ended_inside_the_pipeline_closes, .timeout = 30)
{
    CM_CLEANUP(tear_down) world_t world = {0};
    set_up(&world, 8);
    cr_assert(eq(int, cm_pg_begin(world.pg, NULL), CM_OK));
    begin_within(&world);
    add(&world, NULL, "COMMIT");
    cr_expect(eq(int, run(&world), CM_OK));
    cr_expect(not(cm_pg_is_connected(world.pg)));
}

/* ---- silence ------------------------------------------------------------------------------- */

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
