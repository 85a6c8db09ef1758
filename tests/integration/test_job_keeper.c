/* A lease that is kept, lost, or could not be renewed; a run that is cancelled. */
#include "actors/job_keeper.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "schema/job_store.h"
#include "tests/support/schema_fixture.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

TestSuite(job_keeper, .timeout = 60, .fini = cm_test_database_drop);

#define JOB "dashboard"
enum { WAIT_MS = 20000 };

typedef struct {
    char uri[CM_TEST_URI_MAX];
    cm_pg_t *pg;
    cm_options_t options;
    cm_job_keeper_args_t args;
    cm_job_keeper_t *keeper;
    cm_error_t err;
} world_t;

static void world_open(world_t *self, int64_t duration_ms)
{
    bool acquired = false;
    *self = (world_t){0};
    self->pg = cm_test_admin(self->uri);
    self->options.postgres.uri = self->uri;
    self->options.postgres.admin_schema = CM_TEST_ADMIN;
    self->options.postgres.connect_timeout_ms = 5000;
    self->options.postgres.statement_timeout_ms = 5000;
    self->args = (cm_job_keeper_args_t){.options = &self->options,
                                        .name = "test keeper",
                                        .duration_ms = duration_ms,
                                        .asked_ms = cm_clock_mono_ms()};
    cm_status_t status = cm_lease_acquire(self->pg, CM_TEST_ADMIN, JOB, "me", duration_ms,
                                          &acquired, &self->args.lease, &self->err);
    cr_assert(eq(int, status, CM_OK));
}

static cm_status_t start(world_t *self)
{
    return cm_job_keeper_start(&self->keeper, &self->args, &self->err);
}

static void world_close(world_t *self)
{
    cm_job_keeper_stop(&self->keeper);
    cm_pg_destroy(&self->pg);
}

static bool is_lost(void *ctx)
{
    return cm_job_keeper_lost(((world_t *)ctx)->keeper);
}

static bool is_cancelled(void *ctx)
{
    return cm_job_keeper_cancelled(((world_t *)ctx)->keeper);
}

static bool is_renewed_far(void *ctx) /* three durations after it was acquired */
{
    return cm_test_number(((world_t *)ctx)->pg, "SELECT count(*) FROM " CM_TEST_ADMIN
                                                ".leases WHERE expires_at > acquired_at +"
                                                " interval '3 seconds'") == 1;
}

/* The server learns a little later that a connection was closed. */
static bool is_disconnected(void *ctx)
{
    world_t *world = ctx;
    return cm_test_number(world->pg,
                          "SELECT count(*) FROM pg_stat_activity WHERE datname ="
                          " current_database() AND application_name = 'test keeper'") == 0;
}

Test(job_keeper, a_lease_is_renewed_until_the_keeper_is_stopped)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, 1000);
    cr_assert(eq(int, start(&world), CM_OK), "%s", world.err.message);
    cr_expect(cm_test_wait(is_renewed_far, &world, WAIT_MS));
    cr_expect(not(is_lost(&world)));
    cr_expect(not(is_cancelled(&world)));
    cm_job_keeper_stop(&world.keeper);
    cr_expect(cm_test_wait(is_disconnected, &world, WAIT_MS));
}

Test(job_keeper, a_lease_that_was_taken_is_lost)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, 2000);
    cr_assert(eq(int, start(&world), CM_OK), "%s", world.err.message);
    cm_test_sql(world.pg, "UPDATE " CM_TEST_ADMIN ".leases SET term = term + 1, holder = 'other'");
    cr_expect(cm_test_wait(is_lost, &world, WAIT_MS));
}

Test(job_keeper, a_lease_that_is_lost_already_is_not_kept)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, 2000);
    cm_test_sql(world.pg, "UPDATE " CM_TEST_ADMIN ".leases SET expires_at = clock_timestamp()");
    cr_expect(eq(int, start(&world), CM_PERMANENT));
    cr_expect(eq(str, world.err.code, "lease-lost"));
    cr_expect(eq(ptr, world.keeper, NULL));
}

/* The server does not answer: who holds the lease now nobody knows, so it counts as lost once it
 * may have run out, and stays so. */
Test(job_keeper, a_lease_that_cannot_be_renewed_is_lost_when_its_time_is_over)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, 2000);
    cr_assert(eq(int, start(&world), CM_OK), "%s", world.err.message);
    cr_expect(not(is_lost(&world)));
    cm_test_sql(world.pg, "BEGIN");
    cm_test_sql(world.pg, "LOCK TABLE " CM_TEST_ADMIN ".leases");
    cr_expect(cm_test_wait(is_lost, &world, WAIT_MS));
    cm_test_sql(world.pg, "ROLLBACK");
}

Test(job_keeper, a_lost_link_is_made_anew_and_the_lease_kept)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, 3000);
    cr_assert(eq(int, start(&world), CM_OK), "%s", world.err.message);
    cm_test_sql(world.pg, "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE"
                          " datname = current_database() AND application_name = 'test keeper'");
    cr_expect(cm_test_wait(is_renewed_far, &world, WAIT_MS));
    cr_expect(not(is_lost(&world)));
}

Test(job_keeper, a_run_that_someone_cancels_is_told)
{
    CM_CLEANUP(world_close) world_t world;
    bool begun = false;
    world_open(&world, 60000);
    cr_assert(eq(int, cm_job_register(world.pg, CM_TEST_ADMIN, JOB, &world.err), CM_OK));
    cr_assert(eq(int,
                 cm_job_run_begin(world.pg, CM_TEST_ADMIN, &world.args.lease, CM_RUN_SCHEDULED,
                                  60000, &begun, &world.args.run_id, &world.err),
                 CM_OK));
    cr_assert(eq(int, start(&world), CM_OK), "%s", world.err.message);
    cr_expect(not(is_cancelled(&world)));
    cr_assert(eq(int, cm_job_cancel(world.pg, CM_TEST_ADMIN, world.args.run_id, "me", &world.err),
                 CM_OK));
    cr_expect(cm_test_wait(is_cancelled, &world, WAIT_MS));
    cr_expect(not(is_lost(&world)));
}

Test(job_keeper, a_server_that_is_not_there_keeps_nothing)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, 60000);
    world.options.postgres.uri = "postgresql:///x?host=/nonexistent";
    cr_expect(eq(int, start(&world), CM_UNAVAILABLE));
    cr_expect(eq(ptr, world.keeper, NULL));
}
