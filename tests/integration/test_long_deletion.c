/* An account deletion that takes long, between its gateway, which the test plays, and a real
 * server.
 */
#include "actors/account_deletion.h"
#include "runtime/cleanup.h"
#include "tests/support/schema_fixture.h"
#include "tests/support/subworker_mesh.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

TestSuite(long_deletion, .timeout = 120, .fini = cm_test_database_drop);

enum { WAIT_MS = 20000 };

typedef struct {
    char uri[CM_TEST_URI_MAX];
    cm_pg_t *pg;
    cm_subworker_mesh_t mesh;
} world_t;

/* Dropping a schema takes long while the table public.slow is there. */
static void world_open(world_t *self)
{
    *self = (world_t){0};
    self->pg = cm_test_admin(self->uri);
    cm_test_tenant(self->pg, "42");
    cm_test_sql(self->pg, "CREATE TABLE public.slow AS SELECT 1");
    cm_test_sql(self->pg, "CREATE FUNCTION public.sleeps() RETURNS event_trigger LANGUAGE plpgsql"
                          " AS $$ BEGIN IF to_regclass('public.slow') IS NOT NULL"
                          " THEN PERFORM pg_sleep(50); END IF; END $$");
    cm_test_sql(self->pg, "CREATE EVENT TRIGGER slow ON ddl_command_start WHEN TAG IN"
                          " ('DROP SCHEMA') EXECUTE FUNCTION public.sleeps()");
    cm_options_t options = {.postgres = {.uri = self->uri, .admin_schema = CM_TEST_ADMIN}};
    cm_mesh_start_with(&self->mesh, "account-deletion", CM_SUBSCRIPTION_ACCOUNT_DELETION,
                       cm_account_deletion_actor, &options);
    cm_mesh_expect_ready(&self->mesh);
}

static void world_close(world_t *self)
{
    cm_mesh_stop(&self->mesh);
    cm_pg_destroy(&self->pg);
}

#define SLEEPERS                                                                                   \
    " FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"

static bool sleeps_in_a_drop(void *ctx)
{
    world_t *self = ctx;
    return cm_test_number(self->pg, "SELECT count(*)" SLEEPERS) > 0;
}

static bool is_verified(void *ctx)
{
    world_t *self = ctx;
    return cm_test_number(self->pg, "SELECT count(*) FROM " CM_TEST_ADMIN ".tenant_deletions"
                                    " WHERE verified_at IS NOT NULL") > 0;
}

/* What is reported meanwhile comes from within the one statement. */
static void expect_life_in_the_drop(world_t *self)
{
    cr_assert(cm_test_wait(sleeps_in_a_drop, self, WAIT_MS));
    cm_mesh_expect_life(&self->mesh);
    cr_expect(sleeps_in_a_drop(self));
    cm_test_sql(self->pg, "DROP TABLE public.slow");
    cm_test_sql(self->pg, "SELECT pg_cancel_backend(pid)" SLEEPERS);
}

Test(long_deletion, shows_life_while_a_delivery_is_handled)
{
    CM_CLEANUP(world_close) world_t world;
    cm_outcome_frame_t frame;
    world_open(&world);
    cm_mesh_add(&world.mesh, "{\"customerId\":42,\"eventTime\":7000}", NULL, 0);
    uint64_t batch = cm_mesh_send(&world.mesh);
    expect_life_in_the_drop(&world);
    cm_mesh_expect_batch(&world.mesh, batch, &frame);
    cr_expect(eq(int, frame.items[0].kind, CM_OUTCOME_DEFER)); /* it was cancelled */
    cr_expect(cm_test_wait(is_verified, &world, WAIT_MS));
}

/* What an instance that was killed left behind, taken up by a tick. */
Test(long_deletion, shows_life_while_the_sweeper_is_at_it)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    cm_test_sql(world.pg, "INSERT INTO " CM_TEST_ADMIN ".tenant_deletions (tenant, generation,"
                          " event_at, requested_by, reason) SELECT id, generation, now(), '', ''"
                          " FROM " CM_TEST_ADMIN ".tenants");
    expect_life_in_the_drop(&world);
    cr_expect(cm_test_wait(is_verified, &world, WAIT_MS));
}
