/* The dashboard job and the publisher's counts, on a real server. */
#include "tests/integration/dashboard_job_case.h"

TestSuite(job_dashboard_sync, .timeout = 120, .fini = cm_test_database_drop);

/* ---- the publisher's counts ----------------------------------------------------------------- */

#define SYNC "SELECT tenant, sync_state, sync_drift FROM " METRICS " ORDER BY tenant"

Test(job_dashboard_sync, counts_that_the_publisher_writes_are_used)
{
    world_t world = {0};
    world_open(&world);
    cm_test_sql(world.other,
                "INSERT INTO " ADMIN ".dashboard_sync_reference VALUES ('a', 3), ('b', 4)");
    GOOD(cm_job_dashboard(&world.run, &world.err));
    ROWS("a|match|0\nb|drift|-2", SYNC);
    SUMMARY("drifting", 1);
    SUMMARY("references", 0);
    world_close(&world);
}

Test(job_dashboard_sync, counts_come_from_a_query_here_or_elsewhere)
{
    world_t world = {0};
    char elsewhere[CM_TEST_URI_MAX];
    world_open(&world);
    world.options.dashboard_job.reference = CM_REFERENCE_QUERY;
    world.options.dashboard_job.reference_query = "SELECT id, 3, NULL, NULL FROM " ADMIN ".tenants";
    GOOD(cm_job_dashboard(&world.run, &world.err));
    ROWS("a|match|0\nb|drift|-1", SYNC);
    SUMMARY("references", 2);

    cm_test_database(elsewhere);
    cm_pg_t *publisher = cm_test_connect(elsewhere);
    cm_test_sql(publisher, "CREATE TABLE public.counts AS SELECT 'b' AS t, 2 AS n");
    cm_pg_destroy(&publisher);
    world.options.dashboard_job.reference_uri = elsewhere;
    world.options.dashboard_job.reference_query = "SELECT t, n, NULL, now() FROM public.counts";
    cm_buffer_clear(&world.summary);
    GOOD(cm_job_dashboard(&world.run, &world.err));
    ROWS("a|match|0\nb|match|0", SYNC);
    SUMMARY("references", 1);
    world_close(&world);
}

Test(job_dashboard_sync, counts_come_from_a_file)
{
    world_t world = {0};
    char path[] = "/tmp/counts-XXXXXX";
    world_open(&world);
    FILE *file = fdopen(mkstemp(path), "w");
    fprintf(file, "tenant,devices\na,3\nb,1\n");
    fclose(file);
    world.options.dashboard_job.reference = CM_REFERENCE_FILE;
    world.options.dashboard_job.reference_path = path;
    GOOD(cm_job_dashboard(&world.run, &world.err));
    unlink(path);
    ROWS("a|match|0\nb|drift|1", SYNC);
    world_close(&world);
}

Test(job_dashboard_sync, without_the_counts_all_is_counted_and_then_the_run_fails)
{
    world_t world = {0};
    world_open(&world);
    world.options.dashboard_job.reference = CM_REFERENCE_QUERY;
    world.options.dashboard_job.reference_query = "SELECT nothing FROM nowhere";
    cr_expect(eq(int, cm_job_dashboard(&world.run, &world.err), CM_PERMANENT));
    cr_expect(eq(str, world.err.code, "sync-query"));
    ROWS("a|3\nb|2", "SELECT tenant, devices FROM " METRICS " ORDER BY tenant");
    SUMMARY("tenants", 2);
    world.options.dashboard_job.reference_uri = "host=/nonexistent";
    cr_expect(eq(int, cm_job_dashboard(&world.run, &world.err), CM_PERMANENT));
    world_close(&world);
}
