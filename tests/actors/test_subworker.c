/* fakes: pg */
/* The loop of the simple sub-workers, around a handler that does what the test says. */
#include "actors/subworker.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "tests/fakes/fake_pg.h"
#include "tests/support/subworker_mesh.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

static atomic_int verdict; /* cm_status_t of the handler */
static atomic_int calls;

static cm_status_t handler_open(void **ret_state, const cm_subworker_args_t *args,
                                cm_metrics_t *metrics, cm_error_t *err)
{
    (void)args, (void)metrics, (void)err;
    *ret_state = calloc(1, 1);
    return CM_OK;
}

static cm_status_t handler_handle(void *state, cm_pg_t *pg, const cm_delivery_batch_t *batch,
                                  cm_outcome_t *outcomes, cm_arena_t *arena, cm_error_t *err)
{
    (void)state, (void)pg, (void)arena;
    cm_status_t status = (cm_status_t)atomic_load(&verdict);
    for (size_t i = 0; i < batch->count; i++)
        outcomes[i].kind = CM_OUTCOME_APPLIED;
    atomic_fetch_add(&calls, 1);
    return status == CM_OK ? CM_OK : cm_error_set(err, status, "53100", "by the test");
}

static void body(zsock_t *pipe, void *args)
{
    static const cm_subworker_handler_t handler = {handler_open, handler_handle, cm_free};
    cm_subworker_run(pipe, args, &handler);
}

static void start(cm_subworker_mesh_t *mesh, int hold_ms)
{
    cm_mesh_start(mesh, "dead-letter", CM_SUBSCRIPTION_WRITER_ERRORS, body, hold_ms);
}

static uint64_t one(cm_subworker_mesh_t *mesh)
{
    cm_mesh_add(mesh, "body", NULL, 0);
    return cm_mesh_send(mesh);
}

Test(subworker, it_takes_nothing_before_the_database_is_there, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    atomic_store(&fake_pg.refuses, CM_MISCONFIGURED);
    start(&mesh, 60000);
    cm_mesh_await(&fake_pg.connects, 4);
    cr_expect(not(cm_mesh_next(&mesh, 0, &frame)));
    atomic_store(&fake_pg.refuses, CM_OK);
    cm_mesh_expect_ready(&mesh);
    cm_mesh_stop(&mesh);
}

Test(subworker, each_batch_gives_its_credit_back, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    start(&mesh, 60000);
    cm_mesh_expect_ready(&mesh);
    one(&mesh);
    one(&mesh);
    for (uint64_t id = 1; id <= 2; id++) {
        cm_mesh_expect_batch(&mesh, id, &frame);
        cr_expect(eq(uint, frame.credits, 1));
        cr_expect(eq(int, frame.items[0].kind, CM_OUTCOME_APPLIED));
    }
    cm_mesh_stop(&mesh);
}

Test(subworker, a_batch_that_met_an_absent_database_is_handled_again, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    atomic_store(&verdict, CM_UNAVAILABLE);
    start(&mesh, 60000);
    cm_mesh_expect_ready(&mesh);
    one(&mesh);
    cm_mesh_await(&calls, 5);
    cr_expect(not(cm_mesh_next(&mesh, 0, &frame)));
    atomic_store(&verdict, CM_OK);
    cm_mesh_expect_batch(&mesh, 1, &frame);
    cr_expect(eq(int, frame.items[0].kind, CM_OUTCOME_APPLIED));
    cm_mesh_stop(&mesh);
}

/* The second one lies in the socket when the first is given back. */
Test(subworker, both_batches_are_given_back_when_the_hold_is_over, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    atomic_store(&verdict, CM_MISCONFIGURED);
    start(&mesh, 200);
    cm_mesh_expect_ready(&mesh);
    one(&mesh);
    one(&mesh);
    for (uint64_t id = 1; id <= 2; id++) {
        do /* the link may have come back in between, and asks for work then */
            cr_assert(cm_mesh_next(&mesh, CM_MESH_WAIT_MS, &frame));
        while (frame.kind == CM_OUTCOME_FRAME_READY);
        cr_expect(eq(u64, frame.batch_id, id));
        cr_expect(eq(uint, frame.credits, 0));
        cr_expect(eq(int, frame.items[0].kind, CM_OUTCOME_RELEASE));
    }
    cm_mesh_stop(&mesh);
}

Test(subworker, a_server_that_refuses_is_asked_at_the_pace_of_the_breaker, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    atomic_store(&verdict, CM_UNAVAILABLE);
    start(&mesh, 60000);
    cm_mesh_expect_ready(&mesh);
    one(&mesh);
    cm_mesh_await(&calls, 3);
    cr_expect(not(cm_mesh_next(&mesh, 300, &frame)));
    cr_expect(lt(int, atomic_load(&calls), 200));
    cm_mesh_stop(&mesh);
}

Test(subworker, what_a_handler_leaves_undecided_is_deferred, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    atomic_store(&verdict, CM_TRANSIENT);
    start(&mesh, 60000);
    cm_mesh_expect_ready(&mesh);
    one(&mesh);
    cm_mesh_expect_batch(&mesh, 1, &frame);
    cr_expect(eq(int, frame.items[0].kind, CM_OUTCOME_DEFER));
    cr_expect(gt(i64, frame.items[0].until_ms, cm_clock_epoch_ms()));
    cm_mesh_stop(&mesh);
}

Test(subworker, a_stop_gives_back_what_is_in_hand, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    atomic_store(&verdict, CM_UNAVAILABLE);
    start(&mesh, 60000);
    cm_mesh_expect_ready(&mesh);
    one(&mesh);
    cm_mesh_await(&calls, 1);
    zactor_destroy(&mesh.actor);
    cm_mesh_expect_batch(&mesh, 1, &frame);
    cr_expect(eq(int, frame.items[0].kind, CM_OUTCOME_RELEASE));
    cm_mesh_stop(&mesh);
}

Test(subworker, an_idle_one_is_drained_at_once, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    start(&mesh, 60000);
    cm_mesh_expect_ready(&mesh);
    zstr_send(mesh.actor, "DRAIN");
    CM_CLEANUP(zstr_free) char *word = zstr_recv(mesh.actor);
    cr_expect(eq(str, word, "DRAINED"));
    cm_mesh_stop(&mesh);
}

Test(subworker, ends_at_a_batch_that_cannot_be_read_so_that_it_is_given_back, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    start(&mesh, 60000);
    cm_mesh_expect_ready(&mesh);
    cm_mesh_expect_end_by_garbage(&mesh);
    cm_mesh_stop(&mesh);
}

/* ---- without a batch ------------------------------------------------------------------------ */

static atomic_int ticks, tick_verdict;

static cm_status_t handler_tick(void *state, cm_pg_t *pg, cm_error_t *err)
{
    (void)state;
    cr_assert(cm_pg_is_connected(pg));
    cm_status_t status = (cm_status_t)atomic_load(&tick_verdict);
    atomic_fetch_add(&ticks, 1);
    return status == CM_OK ? CM_OK : cm_error_set(err, status, "57P01", "by the test");
}

static void ticking_body(zsock_t *pipe, void *args)
{
    static const cm_subworker_handler_t handler = {handler_open, handler_handle, cm_free,
                                                   handler_tick};
    cm_subworker_run(pipe, args, &handler);
}

Test(subworker, a_handler_that_wants_to_is_called_while_there_is_no_batch, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    cm_mesh_start(&mesh, "dead-letter", CM_SUBSCRIPTION_WRITER_ERRORS, ticking_body, 60000);
    cm_mesh_expect_ready(&mesh);
    cm_mesh_await(&ticks, 2);
    cm_mesh_stop(&mesh);
}

Test(subworker, a_database_that_went_away_meanwhile_is_waited_for, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    atomic_store(&tick_verdict, CM_UNAVAILABLE);
    cm_mesh_start(&mesh, "dead-letter", CM_SUBSCRIPTION_WRITER_ERRORS, ticking_body, 60000);
    cm_mesh_expect_ready(&mesh);
    cm_mesh_await(&ticks, 1);
    cm_mesh_expect_ready(&mesh); /* it is back */
    cm_mesh_stop(&mesh);
}
