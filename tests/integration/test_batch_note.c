/* A tenant's result, while whoever deletes a tenant holds the table that keeps it. */
#include "actors/batch_job.h"
#include "runtime/cleanup.h"
#include "tests/support/schema_fixture.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

TestSuite(batch_note, .timeout = 60, .fini = cm_test_database_drop);

#define ADMIN   CM_TEST_ADMIN
#define JOB     "orphan-deletion"
#define RESULTS "SELECT tenant, state, attempts FROM " ADMIN ".job_run_tenants"

enum { LEASE_MS = 3600 * 1000, LOCK_MS = 50, NEVER = 1000 };

typedef struct {
    char uri[CM_TEST_URI_MAX];
    cm_pg_t *other, *pg; /* the test's, which locks; the job's */
    cm_options_t options;
    cm_lease_t lease;
    cm_batch_run_t run;
    cm_error_t err;
    int shows, release_at; /* at which show the table is let go of */
    int asks, stop_at;
} world_t;

static void shown(void *ctx, const cm_batch_progress_t *progress)
{
    world_t *self = ctx;
    (void)progress;
    if (++self->shows == self->release_at)
        cm_test_sql(self->other, "ROLLBACK");
}

static bool stopped(void *ctx)
{
    world_t *self = ctx;
    return ++self->asks == self->stop_at;
}

/* The table is locked as the deletion of a tenant does it. */
static void world_open(world_t *self, int release_at)
{
    bool acquired = false, begun = false;
    *self = (world_t){.release_at = release_at};
    self->other = cm_test_admin(self->uri);
    self->options.postgres.admin_schema = ADMIN;
    self->pg = cm_pg_new(&(cm_pg_options_t){.uri = self->uri, .lock_timeout_ms = LOCK_MS});
    self->run = (cm_batch_run_t){.options = &self->options,
                                 .pg = self->pg,
                                 .lease = &self->lease,
                                 .show = shown,
                                 .stopped = stopped,
                                 .ctx = self};
    if (cm_pg_connect(self->pg, NULL, &self->err) != CM_OK ||
        cm_job_register(self->pg, ADMIN, JOB, &self->err) != CM_OK ||
        cm_lease_acquire(self->pg, ADMIN, JOB, "a", LEASE_MS, &acquired, &self->lease,
                         &self->err) != CM_OK ||
        cm_job_run_begin(self->pg, ADMIN, &self->lease, CM_RUN_SCHEDULED, 60000, &begun,
                         &self->run.run_id, &self->err) != CM_OK)
        cr_fatal("%s %s", self->err.code, self->err.message);
    cm_test_sql(self->other, "BEGIN");
    cm_test_sql(self->other, "LOCK TABLE " ADMIN ".job_run_tenants IN SHARE ROW EXCLUSIVE MODE");
}

static void world_close(world_t *self)
{
    cm_pg_destroy(&self->pg);
    cm_pg_destroy(&self->other);
}

static cm_status_t note(world_t *self)
{
    return cm_batch_note(&self->run, "42", CM_RUN_TENANT_DONE, NULL, NULL, &self->err);
}

static void expect_results(world_t *self, const char *expected)
{
    CM_CLEANUP(cm_free) char *rows = cm_test_rows(self->other, RESULTS);
    cr_expect(eq(str, rows, expected));
}

Test(batch_note, a_purge_that_takes_longer_than_a_lock_is_waited_for_is_sat_out)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, 2);
    cr_expect(eq(int, note(&world), CM_OK), "%s", world.err.message);
    cr_expect(eq(u64, world.run.progress.done, 1));
    cr_expect(eq(int, world.shows, 3), "a sign of life for each pause, and what has changed");
    expect_results(&world, "42|done|1");
}

Test(batch_note, a_table_that_stays_locked_is_given_up)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, NEVER);
    cr_expect(eq(int, note(&world), CM_TRANSIENT));
    cr_expect(eq(str, world.err.code, "55P03"));
    cr_expect(eq(u64, world.run.progress.done, 0));
    cr_expect(eq(int, world.shows, 4), "five tries");
}

Test(batch_note, who_is_to_stop_tries_no_more)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, NEVER);
    world.stop_at = 2;
    cr_expect(eq(int, note(&world), CM_TRANSIENT));
    cr_expect(eq(int, world.shows, 1));
}

/* Which must be rolled back as a whole. */
Test(batch_note, in_a_transaction_of_the_caller_it_is_tried_once)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, NEVER);
    cr_assert(eq(int, cm_pg_begin(world.pg, &world.err), CM_OK));
    cr_expect(eq(int, note(&world), CM_TRANSIENT));
    cr_expect(eq(str, world.err.code, "55P03"));
    cr_expect(eq(int, world.shows, 0));
    cm_pg_rollback(world.pg);
}
