/* fakes: tenant_deletion tenant_registry pg */
#include "actors/account_deletion.h"
#include "runtime/clock.h"
#include "tests/fakes/fake_pg.h"
#include "tests/fakes/fake_tenant_deletion.h"
#include "tests/fakes/fake_tenant_registry.h"
#include "tests/support/subworker_mesh.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#define GOOD                                                                                       \
    "{\"customerId\":42,\"requestedBy\":\"Jane Doe\",\"reason\":\"contract end\",\"eventTime\":7}"

static void start(cm_subworker_mesh_t *mesh)
{
    cm_mesh_start(mesh, "account-deletion", CM_SUBSCRIPTION_ACCOUNT_DELETION,
                  cm_account_deletion_actor, 60000);
    cm_mesh_expect_ready(mesh);
}

/* The outcome of one delivery of body. */
static cm_outcome_t outcome_of(cm_subworker_mesh_t *mesh, const char *body)
{
    cm_outcome_frame_t frame;
    cm_mesh_add(mesh, body, NULL, 0);
    cm_mesh_expect_batch(mesh, cm_mesh_send(mesh), &frame);
    cr_assert(eq(sz, frame.count, 1));
    return frame.items[0];
}

static void plan(cm_deletion_step_t requested, size_t count, const cm_fake_step_t *steps)
{
    fake_tenant_deletion.request.step = requested;
    for (size_t i = 0; i < count; i++)
        fake_tenant_deletion.steps[i] = steps[i];
}

static const cm_fake_step_t all[] = {
    {CM_OK, CM_DELETION_DROPPED}, {CM_OK, CM_DELETION_PURGED}, {CM_OK, CM_DELETION_VERIFIED}};

Test(account_deletion, a_deletion_is_carried_out_to_its_end, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    plan(CM_DELETION_REQUESTED, 3, all);
    start(&mesh);
    cr_expect(eq(int, outcome_of(&mesh, GOOD).kind, CM_OUTCOME_APPLIED));
    cr_expect(eq(int, atomic_load(&fake_tenant_deletion.advances), 4));
    cr_expect(eq(str, fake_tenant_deletion.tenant, "42"));
    cr_expect(eq(str, fake_tenant_deletion.requested_by, "Jane Doe"));
    cr_expect(eq(str, fake_tenant_deletion.reason, "contract end"));
    cr_expect(eq(i64, fake_tenant_deletion.event_ms, 7));
    cm_mesh_stop(&mesh);
}

Test(account_deletion, one_that_was_carried_out_before_is_a_duplicate, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    plan(CM_DELETION_NONE, 0, NULL);
    start(&mesh);
    cr_expect(eq(int, outcome_of(&mesh, GOOD).kind, CM_OUTCOME_DUPLICATE));
    cm_mesh_stop(&mesh);
}

Test(account_deletion, a_redelivery_goes_on_where_the_first_was_killed, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    plan(CM_DELETION_NONE, 3, all);
    start(&mesh);
    cr_expect(eq(int, outcome_of(&mesh, GOOD).kind, CM_OUTCOME_DUPLICATE));
    cr_expect(eq(int, atomic_load(&fake_tenant_deletion.advances), 4));
    cm_mesh_stop(&mesh);
}

Test(account_deletion, one_under_legal_hold_is_acknowledged, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    static const cm_fake_step_t rests = {CM_OK, CM_DELETION_BLOCKED};
    plan(CM_DELETION_BLOCKED, 1, &rests);
    start(&mesh);
    cr_expect(eq(int, outcome_of(&mesh, GOOD).kind, CM_OUTCOME_APPLIED));
    cr_expect(eq(int, atomic_load(&fake_tenant_deletion.advances), 1));
    cm_mesh_stop(&mesh);
}

Test(account_deletion, one_that_cannot_be_recorded_is_deferred, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    fake_tenant_deletion.request.status = CM_TRANSIENT;
    start(&mesh);
    cm_outcome_t outcome = outcome_of(&mesh, GOOD);
    cr_expect(eq(int, outcome.kind, CM_OUTCOME_DEFER));
    cr_expect(gt(i64, outcome.until_ms, cm_clock_epoch_ms()));
    cm_mesh_stop(&mesh);
}

Test(account_deletion, one_whose_tables_are_held_is_deferred_until_they_are_dropped, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    static const cm_fake_step_t locked = {CM_TRANSIENT, CM_DELETION_NONE};
    plan(CM_DELETION_REQUESTED, 1, &locked);
    start(&mesh);
    cr_expect(eq(int, outcome_of(&mesh, GOOD).kind, CM_OUTCOME_DEFER));
    cm_mesh_stop(&mesh);
}

Test(account_deletion, behind_the_drop_a_failure_is_left_to_the_sweeper, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    static const cm_fake_step_t steps[] = {{CM_OK, CM_DELETION_DROPPED},
                                           {CM_TRANSIENT, CM_DELETION_NONE}};
    plan(CM_DELETION_REQUESTED, 2, steps);
    start(&mesh);
    cr_expect(eq(int, outcome_of(&mesh, GOOD).kind, CM_OUTCOME_APPLIED));
    cm_mesh_stop(&mesh);
}

Test(account_deletion, a_failed_verification_is_acknowledged_and_left_to_the_sweeper, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    static const cm_fake_step_t steps[] = {{CM_OK, CM_DELETION_DROPPED},
                                           {CM_OK, CM_DELETION_UNVERIFIED}};
    plan(CM_DELETION_REQUESTED, 2, steps);
    start(&mesh);
    cr_expect(eq(int, outcome_of(&mesh, GOOD).kind, CM_OUTCOME_APPLIED));
    cr_expect(eq(int, atomic_load(&fake_tenant_deletion.advances), 2));
    cm_mesh_stop(&mesh);
}

Test(account_deletion, a_malformed_one_is_rejected_untried, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    start(&mesh);
    cm_outcome_t outcome = outcome_of(&mesh, "{\"customerId\":42}");
    cr_expect(eq(int, outcome.kind, CM_OUTCOME_REJECT));
    cr_expect(cm_str_is(cm_mesh_attribute(&outcome, "errorCode"), "malformed"));
    cr_expect(eq(int, atomic_load(&fake_tenant_deletion.requests), 0));
    cm_mesh_stop(&mesh);
}

Test(account_deletion, a_malformed_one_of_a_deleted_customer_is_dropped, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    atomic_store(&fake_tenant_registry.state, CM_TENANT_DELETED);
    start(&mesh);
    cr_expect(eq(int, outcome_of(&mesh, "{\"customerId\":\"x1\",\"reason\":7}").kind,
                 CM_OUTCOME_DROPPED));
    cm_mesh_stop(&mesh);
}

Test(account_deletion, one_that_met_an_absent_database_is_handled_again, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    static const cm_fake_step_t steps[] = {{CM_UNAVAILABLE, CM_DELETION_NONE},
                                           {CM_OK, CM_DELETION_DROPPED}};
    plan(CM_DELETION_REQUESTED, 2, steps);
    start(&mesh);
    cr_expect(eq(int, outcome_of(&mesh, GOOD).kind, CM_OUTCOME_APPLIED));
    cr_expect(eq(int, atomic_load(&fake_tenant_deletion.requests), 2));
    cm_mesh_stop(&mesh);
}

Test(account_deletion, without_a_delivery_the_sweeper_goes_on_with_what_is_unfinished,
     .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    plan(CM_DELETION_NONE, 3, all);
    fake_tenant_deletion.unfinished = "42";
    start(&mesh);
    cm_mesh_await(&fake_tenant_deletion.advances, 4);
    cm_mesh_await(&fake_tenant_deletion.censuses, 1);
    cr_expect(eq(int, atomic_load(&fake_tenant_deletion.requests), 0));
    cm_mesh_stop(&mesh);
}
