/* The dashboard job as its runner calls it, on a real server. */
#include "tests/integration/dashboard_job_case.h"

TestSuite(job_dashboard, .timeout = 120, .fini = cm_test_database_drop);

/* ---- a run ---------------------------------------------------------------------------------- */

Test(job_dashboard, every_tenant_is_counted_and_the_summary_tells_of_all)
{
    world_t world = {0};
    world_open(&world);
    GOOD(cm_job_dashboard(&world.run, &world.err));
    ROWS("a|3\nb|2", "SELECT tenant, devices FROM " METRICS " ORDER BY tenant");
    ROWS("4", "SELECT count(*) FROM " METRICS "_history");
    SUMMARY("tenants", 2);
    SUMMARY("devices", 5);
    SUMMARY("failed", 0);
    SUMMARY("created", 0);
    cr_expect(gt(dbl, in_summary(&world, "seconds_per_tenant"), 0));
    cr_expect(eq(u64, world.run.progress.total, 2));
    cr_expect(eq(u64, world.run.progress.done, 2));
    cr_expect(eq(u64, world.run.progress.rows, 5));
    ROWS("", "SELECT tenant FROM " ADMIN ".job_run_tenants");
    ROWS("", "SELECT tenant FROM " ADMIN ".job_checkpoints");
    world_close(&world);
}

Test(job_dashboard, a_second_run_costs_the_same)
{
    world_t world = {0};
    world_open(&world);
    GOOD(cm_job_dashboard(&world.run, &world.err));
    double first = in_summary(&world, "statements");
    end_run(&world);
    begin_run(&world, 2000);
    GOOD(cm_job_dashboard(&world.run, &world.err));
    SUMMARY("statements", first);
    world_close(&world);
}

Test(job_dashboard, one_tenant_is_counted_alone_and_an_unknown_one_is_told)
{
    world_t world = {0};
    world_open(&world);
    world.run.tenant = "b";
    GOOD(cm_job_dashboard(&world.run, &world.err));
    ROWS("a|-\nb|2", "SELECT tenant, CASE WHEN collected_at IS NOT NULL THEN devices END"
                     " FROM " METRICS " ORDER BY tenant");
    cr_expect(eq(u64, world.run.progress.total, 1));
    world.run.tenant = "nobody";
    cr_expect(eq(int, cm_job_dashboard(&world.run, &world.err), CM_PERMANENT));
    cr_expect(eq(str, world.err.code, "tenant-missing"));
    world_close(&world);
}

Test(job_dashboard, whoever_lost_the_lease_writes_nothing)
{
    world_t world = {0};
    world_open(&world);
    cm_lease_t former = world.lease;
    take_lease(&world);
    world.run.lease = &former;
    cr_expect(eq(int, cm_job_dashboard(&world.run, &world.err), CM_PERMANENT));
    cr_expect(eq(str, world.err.code, "lease-lost"));
    ROWS("", "SELECT tenant FROM " METRICS);
    world_close(&world);
}

/* ---- tenants without tables ----------------------------------------------------------------- */

Test(job_dashboard, missing_schemas_of_active_tenants_are_created_and_others_are_not)
{
    world_t world = {0};
    world_open(&world);
    cm_tenant_change_t change;
    cm_test_tenant(world.other, "gone");
    cm_test_tenant(world.other, "resting");
    cm_test_delete(world.other, "gone", 2000);
    GOOD(cm_tenant_suspend(world.other, ADMIN, "resting", NULL, &change, &world.err));
    cm_test_sql(world.other, "DROP SCHEMA tenant_b CASCADE");
    cm_test_sql(world.other, "DROP SCHEMA tenant_resting CASCADE");
    GOOD(cm_job_dashboard(&world.run, &world.err));
    ROWS("tenant_a\ntenant_b",
         "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'tenant\\_%%' ORDER BY 1");
    ROWS("a||3\nb||0\nresting|schema-missing|0",
         "SELECT tenant, problem, devices FROM " METRICS " ORDER BY tenant");
    ROWS("a|active|1\nb|active|1\ngone|deleted|1\nresting|suspended|1",
         "SELECT id, state, generation FROM " ADMIN ".tenants ORDER BY id");
    ROWS("b|done|true|\nresting|failed|-|tables-missing",
         "SELECT tenant, state, detail->>'created', error_code"
         " FROM " ADMIN ".job_run_tenants ORDER BY tenant");
    SUMMARY("created", 1);
    SUMMARY("failed", 1);
    SUMMARY("tenants", 2);
    world_close(&world);
}

static void drop_b(void *ctx, const cm_batch_progress_t *progress)
{
    world_t *self = ctx;
    if (progress->total == 2 && progress->done == 0) /* the catalog was read */
        cm_test_sql(self->other, "DROP SCHEMA IF EXISTS tenant_b CASCADE");
}

Test(job_dashboard, a_schema_lost_after_the_catalog_was_read_is_created_too)
{
    world_t world = {0};
    world_open(&world);
    world.on_show = drop_b;
    GOOD(cm_job_dashboard(&world.run, &world.err));
    ROWS("a||3\nb||0", "SELECT tenant, problem, devices FROM " METRICS " ORDER BY tenant");
    SUMMARY("created", 1);
    SUMMARY("failed", 0);
    world_close(&world);
}

static void delete_b(void *ctx, const cm_batch_progress_t *progress)
{
    world_t *self = ctx;
    if (progress->total == 2 && progress->done == 1) /* it is in the page */
        cm_test_delete(self->other, "b", 2000);
}

Test(job_dashboard, a_tenant_deleted_meanwhile_is_no_failure_and_leaves_nothing)
{
    world_t world = {0};
    world_open(&world);
    world.on_show = delete_b;
    GOOD(cm_job_dashboard(&world.run, &world.err));
    ROWS("a", "SELECT tenant FROM " METRICS);
    ROWS("0", "SELECT count(*) FROM " METRICS "_history WHERE tenant = 'b'");
    ROWS("0", "SELECT count(*) FROM pg_namespace WHERE nspname = 'tenant_b'");
    SUMMARY("gone", 1);
    SUMMARY("failed", 0);
    cr_expect(eq(u64, world.run.progress.done, 2));
    world_close(&world);
}

Test(job_dashboard, a_table_that_only_a_person_can_mend_is_a_failure)
{
    world_t world = {0};
    world_open(&world);
    cm_test_sql(world.other, "DROP TABLE tenant_b.devices");
    GOOD(cm_job_dashboard(&world.run, &world.err));
    ROWS("b|tables-missing", "SELECT tenant, problem FROM " METRICS " WHERE problem <> ''");
    ROWS("b|failed|2|tables-missing",
         "SELECT tenant, state, attempts, error_code FROM " ADMIN ".job_run_tenants");
    cr_expect(eq(u64, world.run.progress.failed, 1));
    cr_expect(eq(u64, world.run.progress.done, 2));
    world_close(&world);
}

/* ---- failed tenants ------------------------------------------------------------------------- */

static void lock_a(world_t *self, cm_pg_t **ret_holder)
{
    *ret_holder = cm_test_connect(self->uri);
    cm_test_sql(*ret_holder, "BEGIN");
    cm_test_sql(*ret_holder, "LOCK TABLE tenant_a.devices");
}

static cm_pg_t *holder;

static void release_at_the_end(void *ctx, const cm_batch_progress_t *progress)
{
    (void)ctx;
    if (progress->total == 2 && progress->done == 2)
        cm_pg_destroy(&holder);
}

Test(job_dashboard, a_locked_tenant_is_counted_after_the_pass)
{
    world_t world = {0};
    world_open(&world);
    lock_a(&world, &holder);
    world.on_show = release_at_the_end;
    GOOD(cm_job_dashboard(&world.run, &world.err));
    ROWS("a|3\nb|2", "SELECT tenant, devices FROM " METRICS " ORDER BY tenant");
    ROWS("a|done|2|", "SELECT tenant, state, attempts, error_code FROM " ADMIN ".job_run_tenants");
    SUMMARY("failed", 0);
    cr_expect(eq(u64, world.run.progress.done, 2));
    cr_expect(eq(u64, world.run.progress.failed, 0));
    world_close(&world);
}

Test(job_dashboard, one_that_stays_locked_fails_and_holds_up_no_other)
{
    world_t world = {0};
    world_open(&world);
    lock_a(&world, &holder);
    GOOD(cm_job_dashboard(&world.run, &world.err));
    cm_pg_destroy(&holder);
    ROWS("b", "SELECT tenant FROM " METRICS " WHERE collected_at IS NOT NULL");
    ROWS("a|failed|2|55P03",
         "SELECT tenant, state, attempts, error_code FROM " ADMIN ".job_run_tenants");
    SUMMARY("failed", 1);
    cr_expect(eq(u64, world.run.progress.done, 2));
    cr_expect(eq(u64, world.run.progress.failed, 1));
    world_close(&world);
}

static void damage_a(void *ctx, const cm_batch_progress_t *progress)
{
    world_t *self = ctx;
    if (progress->total != 2) /* the catalog was not read */
        return;
    self->on_show = NULL;
    cm_test_sql(self->other, "CREATE FUNCTION tenant_a.damaged() RETURNS boolean LANGUAGE plpgsql"
                             " AS $$BEGIN RAISE 'invalid page' USING ERRCODE = 'XX001'; END$$");
    cm_test_sql(self->other, "ALTER TABLE tenant_a.devices RENAME TO intact");
    cm_test_sql(self->other, "CREATE VIEW tenant_a.devices AS SELECT * FROM tenant_a.intact"
                             " WHERE tenant_a.damaged()");
}

Test(job_dashboard, one_with_a_damaged_table_fails_and_holds_up_no_other)
{
    world_t world = {0};
    world_open(&world);
    world.on_show = damage_a;
    GOOD(cm_job_dashboard(&world.run, &world.err));
    ROWS("b", "SELECT tenant FROM " METRICS " WHERE collected_at IS NOT NULL");
    ROWS("a|failed|2|XX001",
         "SELECT tenant, state, attempts, error_code FROM " ADMIN ".job_run_tenants");
    SUMMARY("failed", 1);
    cr_expect(eq(u64, world.run.progress.done, 2));
    world_close(&world);
}

/* ---- stopped and resumed -------------------------------------------------------------------- */

enum { MANY = 150 };

static void stop_at_120(void *ctx, const cm_batch_progress_t *progress)
{
    ((world_t *)ctx)->stop = progress->done == 120;
}

static void make_many(world_t *self)
{
    for (int i = 0; i < MANY; i++) {
        char id[16];
        snprintf(id, sizeof id, "t%03d", i);
        cm_test_tenant(self->other, id);
    }
}

static void note_backend(void *ctx, const cm_batch_progress_t *progress)
{
    world_t *self = ctx;
    if (progress->done % 50 == 0)
        cm_test_sql(self->other,
                    "INSERT INTO public.backends SELECT pid FROM pg_stat_activity WHERE"
                    " application_name = 'job/dashboard' AND datname = current_database()"
                    " ON CONFLICT DO NOTHING");
}

Test(job_dashboard, its_connection_is_made_anew_after_so_many_tenants)
{
    world_t world = {0};
    world_open(&world);
    make_many(&world);
    cm_test_sql(world.other, "CREATE TABLE public.backends (pid integer PRIMARY KEY)");
    world.options.postgres.recycle_tenants = 100;
    world.on_show = note_backend;
    GOOD(cm_job_dashboard(&world.run, &world.err));
    SUMMARY("tenants", MANY + 2);
    ROWS("2", "SELECT count(*) FROM public.backends");
    world_close(&world);
}

Test(job_dashboard, a_run_that_was_stopped_goes_on_behind_its_last_commit)
{
    world_t world = {0};
    world_open(&world);
    make_many(&world);
    lock_a(&world, &holder);
    world.on_show = stop_at_120;
    cr_expect(eq(int, cm_job_dashboard(&world.run, &world.err), CM_CANCELLED));
    ROWS("99", "SELECT count(*) FROM " METRICS " WHERE collected_at IS NOT NULL");
    ROWS("a|failed", "SELECT tenant, state FROM " ADMIN ".job_run_tenants");

    cm_pg_destroy(&holder);
    world.stop = false;
    world.on_show = NULL;
    resume_run(&world);
    GOOD(cm_job_dashboard(&world.run, &world.err));
    ROWS("152", "SELECT count(*) FROM " METRICS " WHERE collected_at IS NOT NULL");
    ROWS("a|done|2", "SELECT tenant, state, attempts FROM " ADMIN ".job_run_tenants");
    ROWS("", "SELECT tenant FROM " ADMIN ".job_checkpoints");
    SUMMARY("tenants", 53); /* 52 behind the commit of 100, and a */
    cr_expect(eq(u64, world.run.progress.total, 152));
    cr_expect(eq(u64, world.run.progress.done, 152));
    cr_expect(eq(u64, world.run.progress.failed, 0));
    world_close(&world);
}

/* Every second it shows that it lives; by then the server is busy with it. */
static void stop_while_busy(void *ctx, const cm_batch_progress_t *progress)
{
    world_t *self = ctx;
    (void)progress;
    if (cm_test_number(self->other, "SELECT count(*) FROM pg_stat_activity WHERE datname ="
                                    " current_database() AND application_name = 'job/dashboard'"
                                    " AND state = 'active' AND wait_event IS NOT NULL"
                                    " AND query_start < clock_timestamp() - interval '0.5 s'") > 0)
        self->stop = true;
}

static bool is_gone(void *ctx)
{
    world_t *self = ctx;
    return cm_test_number(self->other, "SELECT count(*) FROM pg_stat_activity WHERE datname ="
                                       " current_database() AND application_name ="
                                       " 'job/dashboard'") == 0;
}

/* A lock that nobody gives back stands for a tenant that takes long. */
Test(job_dashboard, a_count_under_way_is_stopped_and_is_no_failure_of_the_tenant)
{
    world_t world = {0};
    world_open(&world);
    world.options.postgres.lock_timeout_ms = 0;
    world.options.dashboard_job.tenant_timeout_ms = 600000;
    lock_a(&world, &holder);
    world.on_show = stop_while_busy;
    cr_expect(eq(int, cm_job_dashboard(&world.run, &world.err), CM_CANCELLED));
    cr_expect(cm_test_wait(is_gone, &world, 30000), "the server goes on with it");
    ROWS("", "SELECT tenant FROM " ADMIN ".job_run_tenants");
    cm_pg_destroy(&holder);
    world.stop = false;
    world.on_show = NULL;
    resume_run(&world);
    GOOD(cm_job_dashboard(&world.run, &world.err));
    ROWS("a|3\nb|2", "SELECT tenant, devices FROM " METRICS " ORDER BY tenant");
    world_close(&world);
}

Test(job_dashboard, the_query_of_the_publisher_is_stopped_too)
{
    world_t world = {0};
    world_open(&world);
    world.options.dashboard_job.tenant_timeout_ms = 600000;
    world.options.dashboard_job.reference = CM_REFERENCE_QUERY;
    world.options.dashboard_job.reference_query =
        "SELECT id, 3, NULL, NULL FROM " ADMIN ".tenants, pg_sleep(600)";
    world.on_show = stop_while_busy;
    cr_expect(eq(int, cm_job_dashboard(&world.run, &world.err), CM_CANCELLED));
    world.options.dashboard_job.reference_uri = world.uri;
    world.stop = false;
    cr_expect(eq(int, cm_job_dashboard(&world.run, &world.err), CM_CANCELLED));
    world_close(&world);
}

Test(job_dashboard, the_checkpoint_of_another_run_counts_for_nothing)
{
    world_t world = {0};
    world_open(&world);
    cm_test_sql(world.other, "INSERT INTO " ADMIN ".job_checkpoints"
                             " VALUES ('dashboard', '', '999 zzz', now())");
    resume_run(&world);
    GOOD(cm_job_dashboard(&world.run, &world.err));
    SUMMARY("tenants", 2);
    world_close(&world);
}

/* ---- roles ---------------------------------------------------------------------------------- */

Test(job_dashboard, under_its_role_it_counts_and_creates)
{
    role_world_t roles;
    world_t world = {0};
    role_world_open(&roles);
    cm_test_tenant(roles.pg, "a");
    cm_test_tenant(roles.pg, "b");
    role_prepare_all(&roles, roles.pg);
    cm_test_sql(roles.pg, "DROP SCHEMA tenant_b CASCADE");
    memcpy(world.uri, roles.uri, sizeof world.uri);
    world.options.postgres.uri = roles.login_uri;
    world.options.postgres.roles = true;
    world.options.postgres.role_prefix = roles.prefix;
    world.pg = role_session(&roles, CM_ROLE_DASH);
    world_open_on(&world);
    put_devices(&world, "a", 3);
    GOOD(cm_job_dashboard(&world.run, &world.err));
    ROWS("a||3\nb||0", "SELECT tenant, problem, devices FROM " METRICS " ORDER BY tenant");
    SUMMARY("created", 1);
    SUMMARY("failed", 0);
    cr_expect(eq(i64, role_outside(&roles), 0));
    world_close(&world);
    role_world_close(&roles);
}
