/* The activator between its gateway, which the test plays, and a real server. */
#include "actors/tenant_activator.h"
#include "proto/attributes.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "schema/dead_letter_store.h"
#include "schema/tenant_deletion.h"
#include "tests/support/schema_fixture.h"
#include "tests/support/subworker_mesh.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdlib.h>

TestSuite(tenant_activator, .timeout = 60, .fini = cm_test_database_drop);

#define ACTIVATION(id, ms) "{\"customerId\":" id ",\"name\":\"ACME\",\"eventTime\":" #ms "}"
/* Its name is no text; whose it is can be read, and that it is newer than the deletion below. */
#define MALFORMED "{\"customerId\":42,\"name\":7,\"eventTime\":3000}"

typedef struct {
    char uri[CM_TEST_URI_MAX];
    cm_pg_t *pg;
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame; /* of the last batch */
} world_t;

static void world_open(world_t *self)
{
    *self = (world_t){0};
    self->pg = cm_test_admin(self->uri);
    cm_options_t options = {.postgres = {.uri = self->uri, .admin_schema = CM_TEST_ADMIN}};
    cm_mesh_start_with(&self->mesh, "tenant-activator", CM_SUBSCRIPTION_ACTIVATE_CUSTOMER,
                       cm_tenant_activator_actor, &options);
    cm_mesh_expect_ready(&self->mesh);
}

static void world_close(world_t *self)
{
    cm_mesh_stop(&self->mesh);
    cm_pg_destroy(&self->pg);
}

static void hand_over(world_t *self)
{
    cm_mesh_expect_batch(&self->mesh, cm_mesh_send(&self->mesh), &self->frame);
}

static const cm_outcome_t *outcome_of(world_t *self, const char *body)
{
    cm_mesh_add(&self->mesh, body, NULL, 0);
    hand_over(self);
    cr_assert(eq(sz, self->frame.count, 1));
    return &self->frame.items[0];
}

static void expect_rows(world_t *self, const char *expected, const char *query)
{
    CM_CLEANUP(cm_free) char *rows = cm_test_rows(self->pg, "%s", query);
    cr_expect(eq(str, rows, (char *)expected), "%s", query);
}

static void expect_registry(world_t *self, const char *expected)
{
    expect_rows(self, expected,
                "SELECT id, name, state, generation FROM " CM_TEST_ADMIN ".tenants ORDER BY id");
}

static void request_deletion(world_t *self, int64_t event_ms)
{
    cm_error_t err = {0};
    cm_audit_trail_t audit = {.actor = "a test"};
    cm_deletion_step_t step;
    cm_deletion_request_t request = {"42", event_ms, "somebody", "a test"};
    cr_assert(eq(int,
                 cm_tenant_deletion_request(self->pg, CM_TEST_ADMIN, &request, &audit, &step, &err),
                 CM_OK),
              "%s", err.message);
    cr_assert(eq(int, step, CM_DELETION_REQUESTED));
}

/* ---- what is done --------------------------------------------------------------------------- */

Test(tenant_activator, an_activation_makes_the_schema_and_is_told_once)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    cr_expect(eq(int, outcome_of(&world, ACTIVATION("42", 1000))->kind, CM_OUTCOME_APPLIED));
    expect_registry(&world, "42|ACME|active|1");
    expect_rows(&world, "0", "SELECT count(*) FROM tenant_42.devices");
    expect_rows(&world, "tenant-activator|tenant-activated|42|1",
                "SELECT actor, action, tenant, generation FROM " CM_TEST_ADMIN ".audit_log");
}

Test(tenant_activator, one_delivered_again_is_a_duplicate)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    cm_mesh_add(&world.mesh, ACTIVATION("42", 1000), NULL, 0);
    cm_mesh_add(&world.mesh, ACTIVATION("\"42\"", 1000), NULL, 0);
    hand_over(&world);
    cr_expect(eq(int, world.frame.items[0].kind, CM_OUTCOME_APPLIED));
    cr_expect(eq(int, world.frame.items[1].kind, CM_OUTCOME_DUPLICATE));
    cr_expect(eq(int, outcome_of(&world, ACTIVATION("42", 1000))->kind, CM_OUTCOME_DUPLICATE));
    expect_rows(&world, "1", "SELECT count(*) FROM " CM_TEST_ADMIN ".audit_log");
}

Test(tenant_activator, a_malformed_one_is_rejected_alone_with_its_fault)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    cm_mesh_add(&world.mesh, MALFORMED, NULL, 0);
    cm_mesh_add(&world.mesh, "{", NULL, 0);
    cm_mesh_add(&world.mesh, ACTIVATION("7", 1000), NULL, 0);
    hand_over(&world);
    for (size_t i = 0; i < 2; i++) {
        const cm_outcome_t *outcome = &world.frame.items[i];
        cr_expect(eq(int, outcome->kind, CM_OUTCOME_REJECT));
        cr_expect(cm_str_is(cm_mesh_attribute(outcome, CM_ATTRIBUTE_ERROR_CODE), "malformed"));
        cr_expect(cm_str_is(cm_mesh_attribute(outcome, CM_ATTRIBUTE_ERROR_CLASS), "permanent"));
        cr_expect(cm_str_is(cm_mesh_attribute(outcome, CM_ATTRIBUTE_ORIGIN_TOPIC),
                            "t.activate-customer"));
    }
    cr_expect(cm_str_is(world.frame.items[0].message.body, MALFORMED));
    cr_expect(eq(int, world.frame.items[2].kind, CM_OUTCOME_APPLIED));
    expect_registry(&world, "7|ACME|active|1");
}

Test(tenant_activator, tables_that_are_somebody_elses_are_not_touched)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    cm_test_sql(world.pg, "CREATE SCHEMA tenant_42");
    const cm_outcome_t *outcome = outcome_of(&world, ACTIVATION("42", 1000));
    cr_expect(eq(int, outcome->kind, CM_OUTCOME_REJECT));
    cr_expect(cm_str_is(cm_mesh_attribute(outcome, CM_ATTRIBUTE_ERROR_CODE), "schema-exists"));
    expect_rows(&world, "0",
                "SELECT count(*) FROM pg_class WHERE relnamespace = 'tenant_42'::regnamespace");
}

/* ---- a tenant that is deleted --------------------------------------------------------------- */

Test(tenant_activator, one_newer_than_a_deletion_at_work_waits_for_its_end)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    cm_test_tenant(world.pg, "42");
    request_deletion(&world, 2000);
    int64_t before_ms = cm_clock_epoch_ms();
    const cm_outcome_t *outcome = outcome_of(&world, ACTIVATION("42", 3000));
    cr_expect(eq(int, outcome->kind, CM_OUTCOME_DEFER));
    cr_expect(ge(i64, outcome->until_ms, before_ms + 1000));
    cr_expect(lt(i64, outcome->until_ms, cm_clock_epoch_ms() + 5000));
    expect_registry(&world, "42||deleting|1");
    cm_test_delete(world.pg, "42", 2000);
    expect_registry(&world, "42||deleted|1");
    cr_expect(eq(int, outcome_of(&world, ACTIVATION("42", 3000))->kind, CM_OUTCOME_APPLIED));
    expect_registry(&world, "42|ACME|active|2");
    expect_rows(
        &world, "||2000",
        "SELECT application_code, client_id, (extract(epoch FROM removed_at) * 1000)::bigint"
        " FROM tenant_42.tombstones");
}

Test(tenant_activator, one_no_newer_than_the_deletion_brings_nothing_back)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    cm_test_tenant(world.pg, "42");
    request_deletion(&world, 2000);
    cr_expect(eq(int, outcome_of(&world, ACTIVATION("42", 2000))->kind, CM_OUTCOME_DUPLICATE));
    cm_test_delete(world.pg, "42", 2000);
    cr_expect(eq(int, outcome_of(&world, ACTIVATION("42", 1000))->kind, CM_OUTCOME_DUPLICATE));
    cr_expect(eq(int, outcome_of(&world, ACTIVATION("42", 2000))->kind, CM_OUTCOME_DUPLICATE));
    expect_registry(&world, "42||deleted|1");
    expect_rows(&world, "0", "SELECT count(*) FROM pg_namespace WHERE nspname = 'tenant_42'");
}

/* What becomes of it as a dead letter. */
static cm_letter_result_t keep(world_t *self, const cm_outcome_t *rejected)
{
    cm_error_t err = {0};
    cm_letter_result_t result = CM_LETTER_BUSY;
    cm_dead_letter_place_t place = {CM_TEST_ADMIN, ""};
    cm_delivery_t delivery = {.message_id = CM_STR("1-1"),
                              .publish_ms = cm_clock_epoch_ms(),
                              .body = rejected->message.body,
                              .attributes = rejected->message.attributes,
                              .attribute_count = rejected->message.attribute_count};
    cr_assert(
        eq(int,
           cm_dead_letter_keep(self->pg, &place, "t.writer-errors", &delivery, 1, &result, &err),
           CM_OK),
        "%s", err.message);
    return result;
}

Test(tenant_activator, a_malformed_one_is_kept_as_a_dead_letter)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    cr_expect(eq(int, keep(&world, outcome_of(&world, MALFORMED)), CM_LETTER_KEPT));
    expect_rows(&world, "42|malformed|t.activate-customer",
                "SELECT tenant, error_code, origin_topic FROM " CM_TEST_ADMIN ".dead_letters");
}

/* A dead letter of it would be dropped, too; but it does not get that far. */
Test(tenant_activator, a_malformed_one_of_a_deleted_tenant_is_dropped)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    cm_test_tenant(world.pg, "42");
    const cm_outcome_t *outcome = outcome_of(&world, MALFORMED);
    cr_assert(eq(int, outcome->kind, CM_OUTCOME_REJECT));
    cm_test_delete(world.pg, "42", 2000);
    cr_expect(eq(int, keep(&world, outcome), CM_LETTER_DROPPED));
    cr_expect(eq(int, outcome_of(&world, MALFORMED)->kind, CM_OUTCOME_DROPPED));
    cm_mesh_add(&world.mesh, "{", &(cm_attribute_t){CM_STR("customerId"), CM_STR("42")}, 1);
    hand_over(&world);
    cr_expect(eq(int, world.frame.items[0].kind, CM_OUTCOME_DROPPED));
    expect_rows(&world, "0", "SELECT count(*) FROM " CM_TEST_ADMIN ".dead_letters");
    expect_registry(&world, "42||deleted|1");
}
