/* What the admin tables hold of a tenant goes with it, and whoever saw it alive does not bring it
 * back: a collector or a job stands still in the middle of its transaction, the deletion waits. */
#include "schema/dashboard_store.h"
#include "schema/job_checkpoint.h"
#include "schema/tenant_deletion.h"
#include "schema/tenant_schema.h"
#include "tests/schema/job_case.h"

#include <pthread.h>

TestSuite(tenant_purge, .timeout = 120, .fini = cm_test_database_drop);

#define ADMIN CM_TEST_ADMIN

enum { WAIT_MS = 30000 };

/* Tenants a, to be deleted, and b; a run that is under way. */
typedef struct {
    world_t job;
    cm_pg_t *other; /* who looks, and who stands in the way */
    cm_dashboard_t *store;
} purge_world_t;

static void set_up_all(purge_world_t *self)
{
    set_up(&self->job);
    self->other = cm_test_connect(self->job.uri);
    cm_test_tenant(self->other, "a");
    cm_test_tenant(self->other, "b");
    cr_assert(begin(&self->job, CM_RUN_SCHEDULED, tick_ms));
    cm_dashboard_options_t options = {.admin_schema = ADMIN};
    self->store = cm_dashboard_new(self->job.pg, &options);
}

static void tear_down_all(purge_world_t *self)
{
    cm_dashboard_destroy(&self->store);
    cm_pg_destroy(&self->other);
    tear_down(&self->job);
}

#define DOES(call)                                                                                 \
    cr_assert(eq(int, call, CM_OK), "%s %s", world.job.err.code, world.job.err.message)

static void collect(purge_world_t *self)
{
    cm_error_t *err = &self->job.err;
    cr_assert(eq(int, cm_dashboard_begin(self->store, &self->job.pg, 1, err), CM_OK));
    cr_assert(eq(int, cm_dashboard_measure(self->store, self->job.pg, "a", err), CM_OK));
    cr_assert(eq(int, cm_dashboard_measure(self->store, self->job.pg, "b", err), CM_OK));
    cr_assert(eq(int, cm_dashboard_finish(self->store, err), CM_OK));
}

static void note(purge_world_t *self, const char *tenant)
{
    world_t *job = &self->job;
    cm_job_tenant_result_t result = {.tenant = cm_str(tenant), .state = CM_RUN_TENANT_DONE};
    cr_assert(eq(int, cm_job_run_note(job->pg, ADMIN, &job->lease, job->run_id, &result, &job->err),
                 CM_OK),
              "%s %s", job->err.code, job->err.message);
    cr_assert(eq(
        int, cm_job_checkpoint_set(job->pg, ADMIN, &job->lease, tenant, CM_STR("here"), &job->err),
        CM_OK));
}

/* The checkpoints of both tenants at once. */
static void save_both(purge_world_t *self)
{
    world_t *job = &self->job;
    cm_job_checkpoint_t both[] = {{CM_STR("a"), CM_STR("there")}, {CM_STR("b"), CM_STR("there")}};
    cr_assert(
        eq(int, cm_job_checkpoints_save(job->pg, ADMIN, &job->lease, both, 2, &job->err), CM_OK),
        "%s %s", job->err.code, job->err.message);
}

/* Rows that each table holds of a tenant, in all. */
static int64_t rows_of(purge_world_t *self, const char *tenant)
{
    static const char *const tables[] = {
        "dashboard_tenant_metrics", "dashboard_tenant_metrics_history",
        "dashboard_sync_reference", "job_run_tenants",
        "job_checkpoints",          "orphan_rules"};
    int64_t rows = 0;
    for (size_t i = 0; i < CM_LENGTH(tables); i++)
        rows += cm_test_number(self->other, "SELECT count(*) FROM " ADMIN ".%s WHERE tenant = '%s'",
                               tables[i], tenant);
    return rows;
}

static void put_rows(purge_world_t *self)
{
    cm_sync_reference_t references[] = {{.tenant = "a", .devices = 1},
                                        {.tenant = "b", .devices = 1}};
    cr_assert(
        eq(int, cm_dashboard_reference_put(self->store, references, 2, &self->job.err), CM_OK));
    collect(self);
    note(self, "a");
    note(self, "b");
    cm_test_sql(self->other, "INSERT INTO " ADMIN ".orphan_rules (tenant, excluded, reason)"
                             " VALUES ('a', true, 'Jane Doe'), ('b', true, '')");
    cr_assert(eq(i64, rows_of(self, "a"), 7)); /* the history: a run and a day */
    cr_assert(eq(i64, rows_of(self, "b"), 7));
}

/* ---- one after the other -------------------------------------------------------------------- */

Test(tenant_purge, all_rows_of_the_tenant_go_and_no_others)
{
    purge_world_t world = {0};
    set_up_all(&world);
    put_rows(&world);
    cr_expect(eq(int, cm_test_delete(world.other, "a", 2000), 4));
    cr_expect(eq(i64, rows_of(&world, "a"), 0));
    cr_expect(eq(i64, rows_of(&world, "b"), 7));
    tear_down_all(&world);
}

Test(tenant_purge, what_is_written_of_a_deleted_tenant_is_not_kept)
{
    purge_world_t world = {0};
    set_up_all(&world);
    put_rows(&world);
    cm_test_delete(world.other, "a", 2000);
    cm_sync_reference_t reference = {.tenant = "a", .devices = 1};
    DOES(cm_dashboard_reference_put(world.store, &reference, 1, &world.job.err));
    DOES(cm_dashboard_begin(world.store, &world.job.pg, 1, &world.job.err));
    DOES(cm_dashboard_finish(world.store, &world.job.err));
    note(&world, "a");
    save_both(&world);
    cr_expect(eq(i64, rows_of(&world, "a"), 0));
    cr_expect(eq(i64,
                 cm_test_number(world.other, "SELECT count(*) FROM " ADMIN
                                             ".job_checkpoints WHERE checkpoint = 'there'"),
                 1));
    tear_down_all(&world);
}

Test(tenant_purge, a_new_generation_is_noted_again)
{
    purge_world_t world = {0};
    set_up_all(&world);
    cm_tenant_change_t change;
    cm_test_delete(world.other, "a", 2000);
    DOES(cm_tenant_schema_activate(world.other, ADMIN, "a", "", 3000, NULL, &change,
                                   &world.job.err));
    put_rows(&world);
    tear_down_all(&world);
}

Test(tenant_purge, what_came_after_the_purge_is_found_and_purged)
{
    purge_world_t world = {0};
    set_up_all(&world);
    cm_deletion_step_t step;
    cm_audit_trail_t audit = {.actor = "a test"};
    cm_deletion_request_t request = {"a", 2000, "", ""};
    static const cm_deletion_step_t steps[] = {CM_DELETION_DROPPED, CM_DELETION_PURGED,
                                               CM_DELETION_UNVERIFIED, CM_DELETION_PURGED,
                                               CM_DELETION_VERIFIED};
    DOES(cm_tenant_deletion_request(world.other, ADMIN, &request, &audit, &step, &world.job.err));
    for (size_t i = 0; i < CM_LENGTH(steps); i++) {
        if (i == 2)
            cm_test_sql(world.other, "INSERT INTO " ADMIN ".orphan_rules VALUES ('a')");
        DOES(cm_tenant_deletion_advance(world.other, ADMIN, "a", &audit, &step, &world.job.err));
        cr_expect(eq(int, step, steps[i]));
    }
    tear_down_all(&world);
}

Test(tenant_purge, a_reference_that_its_publisher_writes_again_goes_with_the_next_run)
{
    purge_world_t world = {0};
    set_up_all(&world);
    cm_test_delete(world.other, "a", 2000);
    cm_test_sql(world.other, "INSERT INTO " ADMIN
                             ".dashboard_sync_reference VALUES ('a', 1), ('b', 1), ('c', 1)");
    DOES(cm_dashboard_begin(world.store, &world.job.pg, 1, &world.job.err));
    CM_CLEANUP(cm_free)
    char *left = cm_test_rows(world.other, "SELECT tenant FROM " ADMIN ".dashboard_sync_reference"
                                           " ORDER BY tenant");
    cr_expect(eq(str, left, "b\nc"));
    tear_down_all(&world);
}

/* ---- at once -------------------------------------------------------------------------------- */

/* Deletes tenant a to its end, in a thread and on a connection of its own. */
static void *delete_it(void *arg)
{
    cm_pg_t *pg = cm_test_connect(arg);
    cm_test_delete(pg, "a", 2000);
    cm_pg_destroy(&pg);
    return NULL;
}

static bool is_purging(void *arg) /* and waits for a table */
{
    purge_world_t *self = arg;
    return cm_test_number(self->other,
                          "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = "
                          "'relation' AND mode = 'ShareRowExclusiveLock' AND database ="
                          " (SELECT oid FROM pg_database WHERE datname = current_database())") > 0;
}

static void delete_meanwhile(purge_world_t *self, pthread_t *ret_thread)
{
    cr_assert(eq(int, pthread_create(ret_thread, NULL, delete_it, self->job.uri), 0));
    cr_assert(cm_test_wait(is_purging, self, WAIT_MS));
}

Test(tenant_purge, the_results_of_a_job_that_is_not_through_go_too)
{
    purge_world_t world = {0};
    set_up_all(&world);
    pthread_t thread;
    DOES(cm_pg_begin(world.job.pg, &world.job.err));
    note(&world, "a");
    delete_meanwhile(&world, &thread);
    DOES(cm_pg_commit(world.job.pg, &world.job.err));
    pthread_join(thread, NULL);
    cr_expect(eq(i64, rows_of(&world, "a"), 0));
    tear_down_all(&world);
}

/* Events of other tenants wait 200 ms for a lock at the most, the purge 2 s for a job. */
static bool can_be_written(purge_world_t *self, const char *table)
{
    cm_test_sql(self->other, "BEGIN");
    cm_error_t err = {0};
    char sql[128];
    snprintf(sql, sizeof sql, "LOCK TABLE " ADMIN ".%s IN ROW EXCLUSIVE MODE NOWAIT", table);
    bool can = cm_pg_exec(self->other, sql, &err) == CM_OK;
    cm_test_sql(self->other, "ROLLBACK");
    return can;
}

Test(tenant_purge, while_it_waits_for_a_job_events_of_other_tenants_are_written)
{
    static const char *const tables[] = {
        "dashboard_tenant_metrics", "dashboard_sync_reference", "dashboard_tenant_metrics_history",
        "job_run_tenants",          "job_checkpoints",          "orphan_rules"};
    for (size_t i = 0; i < CM_LENGTH(tables); i++) {
        purge_world_t world = {0};
        pthread_t thread;
        set_up_all(&world);
        DOES(cm_pg_begin(world.job.pg, &world.job.err));
        cm_test_sql(world.job.pg, "LOCK TABLE " ADMIN ".%s IN ROW EXCLUSIVE MODE", tables[i]);
        delete_meanwhile(&world, &thread);
        cr_expect(can_be_written(&world, "dead_letters"), "waits for %s", tables[i]);
        cr_expect(can_be_written(&world, "push_brakes"), "waits for %s", tables[i]);
        DOES(cm_pg_commit(world.job.pg, &world.job.err));
        pthread_join(thread, NULL);
        tear_down_all(&world);
        cm_test_database_drop();
    }
}

typedef struct {
    purge_world_t *world;
    cm_status_t (*call)(purge_world_t *world, cm_error_t *err);
    cm_status_t status;
} collector_t;

static void *collect_it(void *arg)
{
    collector_t *self = arg;
    self->status = self->call(self->world, &self->world->job.err);
    return NULL;
}

static cm_status_t list(purge_world_t *self, cm_error_t *err)
{
    return cm_dashboard_begin(self->store, &self->job.pg, 1, err);
}

static cm_status_t remember(purge_world_t *self, cm_error_t *err)
{
    return cm_dashboard_finish(self->store, err);
}

static bool is_collecting(void *arg) /* and waits for the row of b */
{
    purge_world_t *self = arg;
    return cm_test_number(self->other, "SELECT count(*) FROM pg_locks WHERE NOT granted"
                                       " AND locktype IN ('transactionid', 'tuple')") > 0;
}

/* A collector has seen tenant a alive, and waits in the middle of its statement for the row of b;
 * the tenant is deleted meanwhile. */
static void collect_and_delete(purge_world_t *self, const char *table,
                               cm_status_t (*call)(purge_world_t *world, cm_error_t *err))
{
    pthread_t collecting, deleting;
    collector_t collector = {self, call, CM_OK};
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *holder = cm_test_connect(self->job.uri);
    cm_test_sql(holder, "BEGIN");
    cm_test_sql(holder, "SELECT FROM " ADMIN ".%s WHERE tenant = 'b' FOR UPDATE", table);
    cr_assert(eq(int, pthread_create(&collecting, NULL, collect_it, &collector), 0));
    cr_assert(cm_test_wait(is_collecting, self, WAIT_MS));
    delete_meanwhile(self, &deleting);
    cm_test_sql(holder, "COMMIT");
    pthread_join(collecting, NULL);
    pthread_join(deleting, NULL);
    cr_expect(eq(int, collector.status, CM_OK), "%s %s", self->job.err.code, self->job.err.message);
    cr_expect(eq(i64, rows_of(self, "a"), 0));
}

Test(tenant_purge, a_collector_that_lists_the_tenant_does_not_bring_it_back)
{
    purge_world_t world = {0};
    set_up_all(&world);
    collect(&world);
    cm_test_sql(world.other, "DELETE FROM " ADMIN ".dashboard_tenant_metrics WHERE tenant = 'a'");
    collect_and_delete(&world, "dashboard_tenant_metrics", list);
    tear_down_all(&world);
}

Test(tenant_purge, a_collector_that_writes_history_does_not_bring_it_back)
{
    purge_world_t world = {0};
    set_up_all(&world);
    collect(&world);
    cm_test_sql(world.other,
                "DELETE FROM " ADMIN ".dashboard_tenant_metrics_history WHERE tenant = 'a'");
    collect_and_delete(&world, "dashboard_tenant_metrics_history", remember);
    tear_down_all(&world);
}

Test(tenant_purge, figures_counted_before_the_deletion_are_not_written_after_it)
{
    purge_world_t world = {0};
    set_up_all(&world);
    DOES(cm_dashboard_begin(world.store, &world.job.pg, 1, &world.job.err));
    DOES(cm_dashboard_measure(world.store, world.job.pg, "a", &world.job.err));
    cm_test_delete(world.other, "a", 2000);
    DOES(cm_dashboard_finish(world.store, &world.job.err));
    cr_expect(eq(i64, rows_of(&world, "a"), 0));
    tear_down_all(&world);
}

/* The fence is a statement of the same transaction, so its snapshot would be used by the next in a
 * database whose default isolation is stricter. */
static cm_status_t deleted_behind_the_fence(void *ctx, cm_pg_t *pg, cm_error_t *err)
{
    purge_world_t *self = ctx;
    cm_status_t status = cm_lease_check(pg, ADMIN, &self->job.lease, err);
    cm_test_delete(self->other, "a", 2000);
    return status;
}

Test(tenant_purge, what_a_collector_sees_is_newer_than_its_locks_whatever_the_default)
{
    purge_world_t world = {0};
    set_up_all(&world);
    cm_dashboard_options_t options = {
        .admin_schema = ADMIN, .fence = deleted_behind_the_fence, .ctx = &world};
    cm_dashboard_destroy(&world.store);
    world.store = cm_dashboard_new(world.job.pg, &options);
    cm_test_sql(world.job.pg, "SET default_transaction_isolation = 'repeatable read'");
    DOES(cm_dashboard_begin(world.store, &world.job.pg, 1, &world.job.err));
    cr_expect(eq(i64, rows_of(&world, "a"), 0));
    cr_expect(eq(i64, rows_of(&world, "b"), 1));
    tear_down_all(&world);
}
