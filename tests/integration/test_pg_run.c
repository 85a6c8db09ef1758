#include "tests/integration/pg_case.h"

/* The row's number binary, its text as text, what is answered binary or not. */
static cm_status_t run_row(world_t *world, int number, const char *text, int result_format,
                           PGresult **ret_result)
{
    uint32_t network = htonl((uint32_t)number);
    const char *values[] = {(const char *)&network, text};
    cm_pg_statement_t statement = {.key = "left aside",
                                   .sql = "INSERT INTO public.t VALUES ($1, $2) RETURNING a, b",
                                   .count = 2,
                                   .types = (const Oid[]){INT4, 0},
                                   .values = values,
                                   .lengths = (const int[]){4, 0},
                                   .formats = (const int[]){1, 0},
                                   .result_format = result_format};
    world->err = (cm_error_t){0};
    return cm_pg_run(world->pg, &statement, ret_result, &world->err);
}

Test(pg_run, a_statement_takes_binary_values_and_answers_as_text, .timeout = 30)
{
    CM_CLEANUP(tear_down) world_t world = {0};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    set_up(&world, 8);
    cr_assert(eq(int, run_row(&world, 70000, "seventy", 0, &result), CM_OK), "%s",
              world.err.message);
    cr_expect(eq(i64, cm_pg_i64(result, 0, 0), 70000));
    cr_expect(eq(str, (char *)cm_pg_text(result, 0, 1), "seventy"));
    cr_expect(eq(i64, ask(world.other, "SELECT count(*) FROM public.t WHERE a = 70000"), 1));
}

Test(pg_run, the_answer_is_binary_when_it_is_asked_so, .timeout = 30)
{
    CM_CLEANUP(tear_down) world_t world = {0};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    uint32_t network = 0;
    set_up(&world, 8);
    cr_assert(eq(int, run_row(&world, 70000, NULL, 1, &result), CM_OK), "%s", world.err.message);
    cr_assert(eq(int, PQgetlength(result, 0, 0), 4));
    memcpy(&network, PQgetvalue(result, 0, 0), sizeof network);
    cr_expect(eq(int, (int)ntohl(network), 70000));
    cr_expect(PQgetisnull(result, 0, 1));
}

Test(pg_run, nothing_is_prepared, .timeout = 30)
{
    CM_CLEANUP(tear_down) world_t world = {0};
    set_up(&world, 8);
    for (int i = 0; i < 3; i++)
        cr_expect(eq(int, run_row(&world, i, "", 0, NULL), CM_OK));
    cr_expect(eq(i64, ask(world.pg, "SELECT count(*) FROM pg_prepared_statements"), 0));
    cr_expect(eq(i64, ask(world.other, "SELECT count(*) FROM public.t"), 3));
}

Test(pg_run, it_is_part_of_the_transaction_that_is_open, .timeout = 30)
{
    CM_CLEANUP(tear_down) world_t world = {0};
    set_up(&world, 8);
    cr_assert(eq(int, cm_pg_begin(world.pg, &world.err), CM_OK));
    cr_expect(eq(int, run_row(&world, 1, "", 0, NULL), CM_OK));
    cr_expect(eq(i64, ask(world.other, "SELECT count(*) FROM public.t"), 0));
    cm_pg_rollback(world.pg);
    cr_expect(eq(i64, ask(world.other, "SELECT count(*) FROM public.t"), 0));
    cr_assert(eq(int, cm_pg_begin(world.pg, &world.err), CM_OK));
    cr_expect(eq(int, run_row(&world, 1, "", 0, NULL), CM_OK));
    cr_assert(eq(int, cm_pg_commit(world.pg, &world.err), CM_OK));
    cr_expect(eq(i64, ask(world.other, "SELECT count(*) FROM public.t"), 1));
}

Test(pg_run, a_failure_has_its_class_and_none_of_the_values, .timeout = 30)
{
    CM_CLEANUP(tear_down) world_t world = {0};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    set_up(&world, 8);
    cr_assert(eq(int, run_row(&world, 4711, "secret", 0, NULL), CM_OK));
    cr_expect(eq(int, run_row(&world, 4711, "secret", 0, &result), CM_PERMANENT));
    cr_expect(eq(str, world.err.code, "23505"));
    cr_expect(eq(ptr, strstr(world.err.message, "4711"), NULL), "%s", world.err.message);
    cr_expect(eq(ptr, result, NULL));
    cr_expect(eq(int, run_row(&world, 4712, "", 0, NULL), CM_OK));
}

Test(pg_run, a_lost_or_closed_connection_is_unavailable, .timeout = 30)
{
    CM_CLEANUP(tear_down) world_t world = {0};
    set_up(&world, 8);
    shutdown(cm_pg_fd(world.pg), SHUT_RDWR);
    for (int i = 0; i < 2; i++) {
        cr_expect(eq(int, run_row(&world, 1, "", 0, NULL), CM_UNAVAILABLE));
        cr_expect(eq(str, world.err.code, "link"));
        cr_expect(not(cm_pg_is_connected(world.pg)));
    }
}

/* ---- while it waits ------------------------------------------------------------------------- */

typedef struct {
    cm_pg_t *holder; /* of a lock that the statement waits for */
    int calls;
} waiting_t;

/* Let go when the statement waits for the third time: one that is never told of waits in vain. */
static void let_go(void *ctx)
{
    waiting_t *self = ctx;
    if (++self->calls == 3)
        must(self->holder, "ROLLBACK");
}

static void set_up_waiting(world_t *world, waiting_t *waiting)
{
    set_up(world, 8);
    cm_pg_destroy(&world->pg);
    *waiting = (waiting_t){.holder = world->other};
    world->pg = cm_pg_new(&(cm_pg_options_t){
        .uri = world->uri, .statement_timeout_ms = 20000, .on_wait = let_go, .wait_ctx = waiting});
    cr_assert(eq(int, cm_pg_connect(world->pg, NULL, &world->err), CM_OK));
    must(world->other, "BEGIN; LOCK TABLE public.t");
}

Test(pg_run, whoever_waits_for_an_answer_is_called_again_and_again, .timeout = 60)
{
    CM_CLEANUP(tear_down) world_t world = {0};
    waiting_t waiting;
    set_up_waiting(&world, &waiting);
    cr_expect(eq(int, run_row(&world, 1, "", 0, NULL), CM_OK), "%s", world.err.message);
    cr_expect(ge(int, waiting.calls, 3));
}

Test(pg_run, whoever_waits_for_a_pipeline_is_called_too, .timeout = 60)
{
    CM_CLEANUP(tear_down) world_t world = {0};
    waiting_t waiting;
    set_up_waiting(&world, &waiting);
    begin(&world);
    add_row(&world, NULL, 1);
    cr_expect(eq(int, run(&world), CM_OK), "%s", world.err.message);
    cr_expect(ge(int, waiting.calls, 3));
}

static bool stops(void *ctx)
{
    return ++((waiting_t *)ctx)->calls == 3;
}

Test(pg_run, whoever_is_told_to_stop_waits_no_longer, .timeout = 60)
{
    CM_CLEANUP(tear_down) world_t world = {0};
    waiting_t waiting;
    set_up_waiting(&world, &waiting);
    cm_pg_destroy(&world.pg);
    world.pg = cm_pg_new(&(cm_pg_options_t){
        .uri = world.uri, .statement_timeout_ms = 20000, .stopped = stops, .wait_ctx = &waiting});
    cr_assert(eq(int, cm_pg_connect(world.pg, NULL, &world.err), CM_OK));
    cr_expect(eq(int, run_row(&world, 1, "", 0, NULL), CM_CANCELLED));
    cr_expect(eq(str, world.err.code, "stopped"));
    cr_expect(not(cm_pg_is_connected(world.pg)));
    must(world.other, "ROLLBACK");
    cr_assert(eq(int, cm_pg_connect(world.pg, NULL, &world.err), CM_OK));
    cr_expect(eq(int, run_row(&world, 2, "", 0, NULL), CM_OK), "%s", world.err.message);
}

Test(pg_run, the_connection_pipelines_again_after_it, .timeout = 30)
{
    CM_CLEANUP(tear_down) world_t world = {0};
    set_up(&world, 8);
    cr_expect(eq(int, run_row(&world, 1, "", 0, NULL), CM_OK));
    usable(&world);
    cr_expect(eq(int, run_row(&world, 2, "", 0, NULL), CM_OK));
}
