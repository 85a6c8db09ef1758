/* fakes: dead_letter_store pg */
#include "actors/dead_letter.h"
#include "runtime/clock.h"
#include "tests/fakes/fake_dead_letter_store.h"
#include "tests/support/subworker_mesh.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

static void start(cm_subworker_mesh_t *mesh)
{
    cm_mesh_start(mesh, "dead-letter", CM_SUBSCRIPTION_WRITER_ERRORS, cm_dead_letter_actor, 60000);
    cm_mesh_expect_ready(mesh);
}

Test(dead_letter, a_letter_kept_before_is_a_duplicate, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    start(&mesh);
    cm_mesh_add(&mesh, "new", NULL, 0);
    cm_mesh_add(&mesh, "known", NULL, 0);
    cm_mesh_expect_batch(&mesh, cm_mesh_send(&mesh), &frame);
    cr_expect(eq(int, frame.items[0].kind, CM_OUTCOME_APPLIED));
    cr_expect(eq(int, frame.items[1].kind, CM_OUTCOME_DUPLICATE));
    cm_mesh_stop(&mesh);
}

Test(dead_letter, one_of_what_was_erased_is_dropped_and_of_a_busy_tenant_deferred, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    start(&mesh);
    cm_mesh_add(&mesh, "erased", NULL, 0);
    cm_mesh_add(&mesh, "busy", NULL, 0);
    cm_mesh_add(&mesh, "new", NULL, 0);
    cm_mesh_expect_batch(&mesh, cm_mesh_send(&mesh), &frame);
    cr_expect(eq(int, frame.items[0].kind, CM_OUTCOME_DROPPED));
    cr_expect(eq(int, frame.items[1].kind, CM_OUTCOME_DEFER));
    cr_expect(gt(i64, frame.items[1].until_ms, cm_clock_epoch_ms()));
    cr_expect(eq(int, frame.items[2].kind, CM_OUTCOME_APPLIED));
    cm_mesh_stop(&mesh);
}

Test(dead_letter, one_that_cannot_be_stored_stays_with_the_broker_and_holds_up_no_other,
     .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    start(&mesh);
    for (int i = 0; i < 8; i++)
        cm_mesh_add(&mesh, i == 5 ? "bad" : "new", NULL, 0);
    cm_mesh_expect_batch(&mesh, cm_mesh_send(&mesh), &frame);
    for (size_t i = 0; i < 8; i++)
        cr_expect(eq(int, frame.items[i].kind, i == 5 ? CM_OUTCOME_DEFER : CM_OUTCOME_APPLIED));
    cm_mesh_stop(&mesh);
}

/* Halving would wait for the lock of the table once for each half. */
Test(dead_letter, a_locked_table_defers_the_batch_after_one_try, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    atomic_store(&fake_dead_letter_store.failure, CM_TRANSIENT);
    start(&mesh);
    for (int i = 0; i < 100; i++)
        cm_mesh_add(&mesh, "new", NULL, 0);
    cm_mesh_expect_batch(&mesh, cm_mesh_send(&mesh), &frame);
    for (size_t i = 0; i < 100; i++) {
        cr_expect(eq(int, frame.items[i].kind, CM_OUTCOME_DEFER));
        cr_expect(gt(i64, frame.items[i].until_ms, cm_clock_epoch_ms()));
    }
    cr_expect(eq(int, atomic_load(&fake_dead_letter_store.statements), 1));
    cm_mesh_stop(&mesh);
}
