#include "schema/tenant_schema.h"
#include "tests/schema/dashboard_case.h"

TestSuite(dashboard_store, .timeout = 120, .fini = cm_test_database_drop);

/* ---- the figures ---------------------------------------------------------------------------- */

typedef struct {
    const char *column, *condition;
} figure_t;

static const figure_t figures[] = {
    {"devices", "true"},
    {"token_valid", "push_token IS NOT NULL AND push_status = 'valid'"},
    {"token_invalid", "push_token IS NOT NULL AND push_status = 'invalid'"},
    {"token_unknown", "push_token IS NOT NULL AND push_status IS NULL"},
    {"token_none", "push_token IS NULL"},
    {"with_contact", "contact_id IS NOT NULL"},
    {"orphaned", "contact_id IS NULL AND created_at < now() - interval '30 days'"
                 " AND coalesce(contact_at < now() - interval '30 days', true)"},
    {"registered_1d", "now() - created_at < interval '1 day'"},
    {"registered_7d", "now() - created_at < interval '7 days'"},
    {"registered_30d", "now() - created_at < interval '30 days'"},
    {"seen_1d", "device_at > now() - interval '1 day' OR push_at > now() - interval '1 day'"
                " OR contact_at > now() - interval '1 day'"},
    {"seen_7d", "device_at > now() - interval '7 days' OR push_at > now() - interval '7 days'"
                " OR contact_at > now() - interval '7 days'"},
    {"seen_30d", "device_at > now() - interval '30 days' OR push_at > now() - interval '30 days'"
                 " OR contact_at > now() - interval '30 days'"},
};

Test(dashboard_store, every_figure_equals_a_direct_count)
{
    dashboard_world_t world = {0};
    set_up(&world);
    put_random_devices(&world, "a", 5000);
    cr_expect(eq(int, run_all(&world), 0));
    for (size_t i = 0; i < CM_LENGTH(figures); i++) {
        int64_t direct = cm_test_number(
            world.other, "SELECT count(*) FROM tenant_a.devices WHERE %s", figures[i].condition);
        cr_expect(eq(i64, cm_test_number(world.other, "SELECT %s FROM " METRICS, figures[i].column),
                     direct),
                  "%s", figures[i].column);
        cr_expect(gt(i64, direct, 0), "%s", figures[i].column);
    }
    cr_expect(eq(i64, cm_dashboard_totals(world.store).devices, 5000));
    tear_down(&world);
}

Test(dashboard_store, platforms_are_all_counted_and_unknown_when_not_said)
{
    dashboard_world_t world = {0};
    set_up(&world);
    put_random_devices(&world, "a", 500);
    run_all(&world);
    cr_expect(eq(i64,
                 cm_test_number(world.other,
                                "SELECT count(*) FROM (SELECT coalesce(platform, 'unknown') AS p,"
                                " count(*) AS n FROM tenant_a.devices GROUP BY 1) AS d FULL JOIN"
                                " (SELECT j.key, j.value::bigint FROM " METRICS ","
                                " jsonb_each_text(platforms) AS j) AS j ON j.key = d.p"
                                " WHERE j.value IS DISTINCT FROM d.n"),
                 0));
    tear_down(&world);
}

Test(dashboard_store, versions_are_the_most_frequent_and_the_rest_as_one)
{
    dashboard_world_t world = {0};
    set_up(&world);
    world.options.top = 2;
    open_store(&world);
    cm_test_sql(world.other, "INSERT INTO tenant_a.devices (application_code, client_id,"
                             " sdk_version) SELECT 'app', 'c' || i, v FROM unnest(ARRAY['1', '1',"
                             " '1', '2', '2', '3', '4', repeat('x', 100)]) WITH ORDINALITY AS x(v,"
                             " i)");
    run_all(&world);
    ROWS("{\"1\": 3, \"2\": 2, \"other\": 3}", "SELECT sdk_versions FROM " METRICS);
    tear_down(&world);
}

Test(dashboard_store, a_tenant_without_devices_has_zeros)
{
    dashboard_world_t world = {0};
    set_up(&world);
    run_all(&world);
    ROWS("0|0|{}|t", "SELECT devices, seen_30d, platforms, collected_at IS NOT NULL FROM " METRICS);
    tear_down(&world);
}

Test(dashboard_store, the_registry_the_catalog_and_the_dead_letters_are_told)
{
    dashboard_world_t world = {0};
    set_up(&world);
    put_random_devices(&world, "a", 1000);
    cm_test_sql(world.other, "ANALYZE tenant_a.devices");
    cm_test_sql(world.other,
                "INSERT INTO " CM_TEST_ADMIN ".dead_letters (tenant, error_class, error_code,"
                " error_message, errors_topic, origin_topic, origin_message_id, last_failed_at,"
                " retry_count, kept_replay_count, replay_count, attributes, body)"
                " SELECT 'a', 'permanent', 'x', '', 't', 't', i, now() - i * interval '20 hours',"
                " i, 0, 1, '{}', '' FROM generate_series(1, 3) AS i");
    run_all(&world);
    ROWS("active|1|3|1|6|3|t|",
         "SELECT state, generation, dead_letters, dead_letters_1d, dead_letters_retries,"
         " dead_letters_replays, bytes >= pg_relation_size('tenant_a.devices'), problem"
         " FROM " METRICS);
    cr_expect(gt(i64, cm_test_number(world.other, "SELECT schema_version FROM " METRICS), 0));
    tear_down(&world);
}

/* ---- runs ----------------------------------------------------------------------------------- */

Test(dashboard_store, a_second_run_costs_the_same_queries_one_a_tenant)
{
    dashboard_world_t world = {0};
    set_up(&world);
    int64_t queries[3];
    for (int i = 0; i < 20; i++) {
        char id[16];
        snprintf(id, sizeof id, "t%d", i);
        cm_test_tenant(world.other, id);
    }
    for (int i = 0; i < 3; i++) {
        open_store(&world);
        run_all(&world);
        queries[i] = cm_dashboard_totals(world.store).queries;
        cr_expect(eq(i64, cm_dashboard_totals(world.store).tenants, 21));
    }
    cr_expect(eq(i64, queries[1], queries[0]));
    cr_expect(eq(i64, queries[2], queries[0]));
    cr_expect(eq(i64, queries[0], 21 + 7));
    tear_down(&world);
}

Test(dashboard_store, tenants_are_counted_before_they_are_measured)
{
    dashboard_world_t world = {0};
    cm_dashboard_census_t census;
    set_up(&world);
    cm_test_tenant(world.other, "b");
    cm_test_tenant(world.other, "c");
    cm_sync_reference_t references[] = {{.tenant = "a", .devices = 1},
                                        {.tenant = "b", .devices = 0},
                                        {.tenant = "c", .devices = 0, .counted_ms = 1000}};
    DOES(cm_dashboard_reference_put(world.store, references, 3, &world.base.err));
    run_all(&world);
    DOES(cm_dashboard_census(world.store, "b", &census, &world.base.err));
    cr_expect(eq(i64, census.tenants, 3));
    cr_expect(eq(i64, census.before, 2));
    cr_expect(eq(i64, census.drifting, 1));
    cr_expect(eq(i64, census.stale, 1));
    tear_down(&world);
}

Test(dashboard_store, one_tenant_alone_can_be_asked_for)
{
    dashboard_world_t world = {0};
    cm_dashboard_census_t census;
    cm_dashboard_tenant_t *tenants = NULL;
    size_t count = 0;
    set_up(&world);
    cm_test_tenant(world.other, "b");
    world.options.only = "b";
    open_store(&world);
    DOES(cm_dashboard_begin(world.store, &world.base.pg, 1, &world.base.err));
    DOES(cm_dashboard_tenants(world.store, "", 10, &tenants, &count, &world.base.err));
    cr_assert(eq(sz, count, 1));
    cr_expect(eq(str, tenants[0].id, "b"));
    free(tenants);
    DOES(cm_dashboard_census(world.store, "", &census, &world.base.err));
    cr_expect(eq(i64, census.tenants, 1));
    tear_down(&world);
}

Test(dashboard_store, what_was_measured_is_committed_in_portions)
{
    dashboard_world_t world = {0};
    cm_error_t err = {0};
    set_up(&world);
    cm_test_sql(world.other,
                "INSERT INTO " CM_TEST_ADMIN ".tenants (id, schema_name, state)"
                " SELECT 'x' || i, 'tenant_x' || i, 'active'"
                " FROM generate_series(1, %d) AS i",
                CM_DASHBOARD_FLUSH_AT);
    DOES(cm_dashboard_begin(world.store, &world.base.pg, 1, &world.base.err));
    for (int i = 1; i <= CM_DASHBOARD_FLUSH_AT; i++)
        DOES(cm_dashboard_measure(world.store, world.base.pg, "a", &err));
    cr_expect(eq(i64, cm_dashboard_totals(world.store).tenants, CM_DASHBOARD_FLUSH_AT));
    cr_expect(eq(i64,
                 cm_test_number(world.other,
                                "SELECT count(*) FROM " METRICS " WHERE collected_at IS NOT NULL"),
                 1));
    tear_down(&world);
}

Test(dashboard_store, a_tenant_without_tables_is_told_and_the_others_are_counted)
{
    dashboard_world_t world = {0};
    set_up(&world);
    cm_test_tenant(world.other, "b");
    cm_test_tenant(world.other, "c");
    run_all(&world);
    put_random_devices(&world, "b", 10);
    cm_test_sql(world.other, "DROP SCHEMA tenant_a CASCADE");
    cm_test_sql(world.other, "DROP TABLE tenant_c.devices");
    cr_expect(eq(int, run_all(&world), 2));
    ROWS("a|schema-missing|0\nb||10\nc|tables-missing|0",
         "SELECT tenant, problem, devices FROM " METRICS " ORDER BY tenant");
    tear_down(&world);
}

Test(dashboard_store, tables_lost_after_the_catalog_was_read_are_a_problem_too)
{
    dashboard_world_t world = {0};
    cm_dashboard_tenant_t *tenants = NULL;
    size_t count = 0;
    set_up(&world);
    DOES(cm_dashboard_begin(world.store, &world.base.pg, 1, &world.base.err));
    DOES(cm_dashboard_tenants(world.store, "", 10, &tenants, &count, &world.base.err));
    cr_assert(eq(sz, count, 1));
    cr_expect(tenants[0].is_whole);
    cr_expect(eq(int, tenants[0].state, CM_TENANT_ACTIVE));
    free(tenants);
    cm_test_sql(world.other, "DROP TABLE tenant_a.devices");
    cr_expect(eq(int, cm_dashboard_measure(world.store, world.base.pg, "a", &world.base.err),
                 CM_MISSING));
    DOES(cm_dashboard_finish(world.store, &world.base.err));
    ROWS("tables-missing", "SELECT problem FROM " METRICS);
    cr_expect(eq(i64, cm_dashboard_totals(world.store).problems, 1));
    tear_down(&world);
}

Test(dashboard_store, a_tenant_that_was_mended_has_no_problem_any_more)
{
    dashboard_world_t world = {0};
    set_up(&world);
    cm_test_sql(world.other, "DROP SCHEMA tenant_a CASCADE");
    run_all(&world);
    ROWS("schema-missing", "SELECT problem FROM " METRICS);
    cm_test_tenant(world.other, "a");
    run_all(&world);
    ROWS("", "SELECT problem FROM " METRICS);
    tear_down(&world);
}

Test(dashboard_store, a_locked_tenant_is_transient_and_keeps_its_former_figures)
{
    dashboard_world_t world = {0};
    set_up(&world);
    put_random_devices(&world, "a", 10);
    run_all(&world);
    cm_test_sql(world.other, "BEGIN");
    cm_test_sql(world.other, "LOCK TABLE tenant_a.devices");
    cm_test_sql(world.base.pg, "SET lock_timeout = '1ms'");
    DOES(cm_dashboard_begin(world.store, &world.base.pg, 1, &world.base.err));
    cr_expect(eq(int, cm_dashboard_measure(world.store, world.base.pg, "a", &world.base.err),
                 CM_TRANSIENT));
    DOES(cm_dashboard_finish(world.store, &world.base.err));
    cm_test_sql(world.other, "COMMIT");
    ROWS("10|", "SELECT devices, problem FROM " METRICS);
    tear_down(&world);
}

Test(dashboard_store, a_deleted_tenant_leaves_nothing_and_does_not_come_back)
{
    dashboard_world_t world = {0};
    set_up(&world);
    run_all(&world);
    DOES(cm_dashboard_measure(world.store, world.base.pg, "a", &world.base.err));
    cm_test_delete(world.other, "a", 2000);
    DOES(cm_dashboard_begin(world.store, &world.base.pg, 1, &world.base.err));
    DOES(cm_dashboard_finish(world.store, &world.base.err));
    ROWS("", "SELECT tenant FROM " METRICS " UNION ALL SELECT tenant FROM " HISTORY);
    tear_down(&world);
}

Test(dashboard_store, a_new_generation_starts_anew)
{
    dashboard_world_t world = {0};
    set_up(&world);
    put_random_devices(&world, "a", 10);
    run_all(&world);
    cm_test_sql(world.other, "UPDATE " CM_TEST_ADMIN ".tenants SET generation = 2");
    DOES(cm_dashboard_begin(world.store, &world.base.pg, 1, &world.base.err));
    ROWS("2|0|-", "SELECT generation, devices, collected_at FROM " METRICS);
    ROWS("", "SELECT tenant FROM " HISTORY);
    tear_down(&world);
}

static cm_status_t lost_lease(void *ctx, cm_pg_t *pg, cm_error_t *err)
{
    (void)ctx, (void)pg;
    return cm_error_set(err, CM_PERMANENT, "lease-lost", "another instance has the lease");
}

Test(dashboard_store, whoever_lost_the_lease_writes_nothing)
{
    dashboard_world_t world = {0};
    set_up(&world);
    run_all(&world);
    cr_expect(eq(int, world.fences, 4)); /* list, rows, history, pruning */
    put_random_devices(&world, "a", 10);
    world.options.fence = lost_lease;
    open_store(&world);
    cr_expect(
        eq(int, cm_dashboard_begin(world.store, &world.base.pg, 1, &world.base.err), CM_PERMANENT));
    cr_expect(eq(str, world.base.err.code, "lease-lost"));
    DOES(cm_dashboard_measure(world.store, world.base.pg, "a", &world.base.err));
    cr_expect(eq(int, cm_dashboard_finish(world.store, &world.base.err), CM_PERMANENT));
    ROWS("0", "SELECT devices FROM " METRICS);
    tear_down(&world);
}

static cm_status_t fail_while_told(void *ctx, cm_pg_t *pg, cm_error_t *err)
{
    dashboard_world_t *self = ctx;
    (void)pg;
    return self->fences-- > 0 ? cm_error_set(err, CM_TRANSIENT, "40001", "for once") : CM_OK;
}

Test(dashboard_store, what_could_not_be_committed_is_with_the_next)
{
    dashboard_world_t world = {0};
    set_up(&world);
    cm_test_tenant(world.other, "b");
    put_random_devices(&world, "a", 3);
    put_random_devices(&world, "b", 4);
    DOES(cm_dashboard_begin(world.store, &world.base.pg, 1, &world.base.err));
    world.options.fence = fail_while_told;
    open_store(&world);
    world.fences = 1;
    DOES(cm_dashboard_measure(world.store, world.base.pg, "a", &world.base.err));
    cr_expect(eq(int, cm_dashboard_measure(world.store, world.base.pg, "x", &world.base.err),
                 CM_MISSING));
    cr_expect(eq(int, cm_dashboard_flush(world.store, &world.base.err), CM_TRANSIENT));
    DOES(cm_dashboard_measure(world.store, world.base.pg, "b", &world.base.err));
    DOES(cm_dashboard_flush(world.store, &world.base.err));
    ROWS("a|3\nb|4", "SELECT tenant, devices FROM " METRICS " ORDER BY 1");
    cr_expect(eq(i64, cm_dashboard_totals(world.store).devices, 7));
    tear_down(&world);
}

/* ---- the history ---------------------------------------------------------------------------- */

Test(dashboard_store, each_counting_is_in_the_history_once_and_the_day_has_the_last)
{
    dashboard_world_t world = {0};
    set_up(&world);
    run_all(&world);
    put_random_devices(&world, "a", 10);
    run_all(&world);
    DOES(cm_dashboard_finish(world.store, &world.base.err));
    cm_test_sql(world.other, "UPDATE " HISTORY " SET at = at - interval '1 day'"
                             " WHERE resolution = 'day' AND devices = 0"); /* midnight in between */
    ROWS("day|10\nrun|0\nrun|10",
         "SELECT resolution, devices FROM " HISTORY
         " WHERE at > now() - interval '24 h' OR resolution = 'run' ORDER BY 1, 2");
    ROWS("t", "SELECT bool_and(at = date_trunc('day', at, 'UTC')) FROM " HISTORY
              " WHERE resolution = 'day'");
    tear_down(&world);
}

/* Figures of a tenant counted at another time than now. */
static void count_at(dashboard_world_t *self, const char *at, int devices)
{
    cm_test_sql(self->other, "UPDATE " METRICS " SET collected_at = '%s', devices = %d", at,
                devices);
    cr_assert(eq(int, cm_dashboard_finish(self->store, &self->base.err), CM_OK));
}

Test(dashboard_store, days_are_those_of_utc)
{
    dashboard_world_t world = {0};
    set_up(&world);
    world.options.keep_runs_days = world.options.keep_days = 100000;
    open_store(&world);
    DOES(cm_dashboard_begin(world.store, &world.base.pg, 1, &world.base.err));
    count_at(&world, "2026-03-01T23:59:59.9Z", 1);
    count_at(&world, "2026-03-02T00:00:00Z", 2);
    count_at(&world, "2026-03-03T00:30:00+01:00", 3);
    ROWS("2026-03-01 00:00:00+00|1\n2026-03-02 00:00:00+00|3",
         "SELECT at, devices FROM " HISTORY " WHERE resolution = 'day' ORDER BY at");
    tear_down(&world);
}

/* Runs every six hours and the last of each day, for `days` days. */
static void put_history(dashboard_world_t *self, int days)
{
    cm_test_sql(self->base.other,
                "INSERT INTO " HISTORY " SELECT 'a', r, date_trunc('day', now(), 'UTC')"
                " - d * interval '24 h' + h * interval '6 h', d, 0, 0, 0, 0, 0, 0, 0, 0,"
                " 0, 0, 0, 0, 1, '{}', 'none', NULL"
                " FROM generate_series(1, %d) AS d, generate_series(0, 3) AS h,"
                " unnest(ARRAY['run', 'day']) AS r WHERE r = 'run' OR h = 0",
                days);
}

Test(dashboard_store, runs_go_before_days_do)
{
    dashboard_world_t world = {0};
    set_up(&world);
    put_history(&world, 500);
    for (int i = 0; i < 2; i++) {
        DOES(cm_dashboard_finish(world.store, &world.base.err));
        cr_expect(eq(i64, cm_dashboard_totals(world.store).pruned, 4 * (500 - 14) + 100));
        ROWS("day|400|400\nrun|56|14",
             "SELECT resolution, count(*), max(devices) FROM " HISTORY " GROUP BY 1 ORDER BY 1");
    }
    tear_down(&world);
}

Test(dashboard_store, how_long_history_is_kept_can_be_told)
{
    dashboard_world_t world = {0};
    set_up(&world);
    put_history(&world, 20);
    world.options.keep_runs_days = 5;
    world.options.keep_days = 10;
    open_store(&world);
    DOES(cm_dashboard_finish(world.store, &world.base.err));
    ROWS("day|10\nrun|20", "SELECT resolution, count(*) FROM " HISTORY " GROUP BY 1 ORDER BY 1");
    tear_down(&world);
}
