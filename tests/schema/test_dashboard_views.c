/* The views on the figures, and the Grafana dashboards on the views: CM_GRAFANA is their folder. */
#include "runtime/buffer.h"
#include "tests/schema/dashboard_case.h"

#include <dirent.h>
#include <jansson.h>

TestSuite(dashboard_views, .timeout = 120, .fini = cm_test_database_drop);

/* Tenants a and b with devices, one of each thing that can be wrong, and a day of history. */
static void set_up_figures(dashboard_world_t *self)
{
    set_up(self);
    cm_test_tenant(self->other, "b");
    cm_test_tenant(self->other, "c");
    put_random_devices(self, "a", 300);
    put_random_devices(self, "b", 100);
    cm_test_sql(self->other, "DROP SCHEMA tenant_c CASCADE");
    cm_test_sql(self->other,
                "INSERT INTO " CM_TEST_ADMIN ".dead_letters (tenant, error_class, error_code,"
                " error_message, errors_topic, origin_topic, origin_message_id, last_failed_at,"
                " retry_count, kept_replay_count, replay_count, attributes, body)"
                " SELECT t, 'permanent', 'x', '', 't', 't', t, now(), 0, 0, 0, '{}', ''"
                " FROM unnest(ARRAY['a', 'nobody']) AS t");
    cm_sync_reference_t references[] = {{.tenant = "a", .devices = 290},
                                        {.tenant = "b", .devices = 100}};
    cr_assert(
        eq(int, cm_dashboard_reference_put(self->store, references, 2, &self->base.err), CM_OK));
    run_all(self);
}

Test(dashboard_views, the_fleet_is_the_sum_of_its_tenants)
{
    dashboard_world_t world = {0};
    set_up_figures(&world);
    ROWS("3|3|1|1|400|2", "SELECT tenants, tenants_active, tenants_with_problem,"
                          " tenants_not_collected, devices, dead_letters"
                          " FROM " CM_TEST_ADMIN ".dashboard_fleet");
    ROWS("t", "SELECT f.with_contact = d.n FROM " CM_TEST_ADMIN ".dashboard_fleet AS f,"
              " (SELECT count(*) AS n FROM (TABLE tenant_a.devices UNION ALL SELECT * FROM"
              " tenant_b.devices) AS x WHERE contact_id IS NOT NULL) AS d");
    tear_down(&world);
}

Test(dashboard_views, an_empty_fleet_is_shown_as_one)
{
    dashboard_world_t world = {0};
    set_up(&world);
    ROWS("0|0|0", "SELECT tenants, devices, dead_letters FROM " CM_TEST_ADMIN ".dashboard_fleet");
    ROWS("0|-", "SELECT valid, invalid_percent FROM " CM_TEST_ADMIN ".dashboard_token_validity");
    ROWS("0|0", "SELECT matching, drift FROM " CM_TEST_ADMIN ".dashboard_sync_totals");
    tear_down(&world);
}

Test(dashboard_views, tokens_and_platforms_add_up_to_all_devices)
{
    dashboard_world_t world = {0};
    set_up_figures(&world);
    ROWS("400", "SELECT valid + invalid + unknown + none"
                " FROM " CM_TEST_ADMIN ".dashboard_token_validity");
    ROWS("400", "SELECT sum(devices) FROM " CM_TEST_ADMIN ".dashboard_platform_mix");
    ROWS("400", "SELECT sum(devices) FROM " CM_TEST_ADMIN ".dashboard_sdk_mix");
    ROWS("400|3", "SELECT sum(devices), sum(tenants)"
                  " FROM " CM_TEST_ADMIN ".dashboard_schema_versions");
    tear_down(&world);
}

Test(dashboard_views, drift_is_told_by_tenant_and_in_all)
{
    dashboard_world_t world = {0};
    set_up_figures(&world);
    ROWS("1|1|0|1|10", "SELECT matching, drifting, stale, without_reference, drift"
                       " FROM " CM_TEST_ADMIN ".dashboard_sync_totals");
    ROWS("a|drift|290|10|3.45|-\nb|match|100|0|0.00|t",
         "SELECT tenant, sync_state, reference_devices, sync_drift, drift_percent,"
         " seconds_since_match >= 0 FROM " CM_TEST_ADMIN ".dashboard_sync ORDER BY tenant");
    tear_down(&world);
}

Test(dashboard_views, each_thing_that_is_wrong_ranks_its_tenants)
{
    dashboard_world_t world = {0};
    set_up_figures(&world);
    cm_test_sql(world.other, "UPDATE " METRICS " SET collected_at = now() - interval '2 days'"
                             " WHERE tenant = 'b'");
    ROWS("dead letters|a\ninvalid tokens|a b\nnot collected|b\norphans|a b\nproblem|c\n"
         "sync drift|a",
         "SELECT reason, string_agg(tenant, ' ' ORDER BY tenant)"
         " FROM " CM_TEST_ADMIN ".dashboard_worst_tenants GROUP BY 1 ORDER BY 1");
    ROWS("t", "SELECT (SELECT min(figure) FROM " CM_TEST_ADMIN ".dashboard_worst_tenants WHERE"
              " reason = 'orphans' AND rank = 1) >= (SELECT max(figure)"
              " FROM " CM_TEST_ADMIN ".dashboard_worst_tenants WHERE reason = 'orphans')");
    tear_down(&world);
}

Test(dashboard_views, a_day_of_the_trend_has_the_last_count_of_each_tenant)
{
    dashboard_world_t world = {0};
    set_up(&world);
    cm_test_sql(world.other,
                "INSERT INTO " HISTORY " SELECT t, r, at::timestamptz, n, 0, 0, 0, 0, 0, 0, 0, 0,"
                " 0, 0, 0, 0, 1, '{}', 'none', NULL FROM (VALUES"
                " ('a', 'day', '2026-03-01T00:00Z', 5), ('b', 'day', '2026-03-01T00:00Z', 7),"
                " ('a', 'day', '2026-03-02T00:00Z', 3), ('a', 'run', '2026-03-02T01:00Z', 2),"
                " ('a', 'run', '2026-03-02T23:59Z', 3), ('b', 'day', '2026-03-02T00:00Z', 9)"
                ") AS x(t, r, at, n)");
    ROWS("2026-03-01 00:00:00+00|2|12\n2026-03-02 00:00:00+00|2|12",
         "SELECT day, tenants, devices FROM " CM_TEST_ADMIN ".dashboard_trend ORDER BY day");
    tear_down(&world);
}

/* ---- Grafana -------------------------------------------------------------------------------- */

/* text with every `what` replaced; yours (free). */
static char *replaced(const char *text, const char *what, const char *by)
{
    cm_buffer_t out = {0};
    for (const char *next; (next = strstr(text, what)); text = next + strlen(what))
        cm_buffer_printf(&out, "%.*s%s", (int)(next - text), text, by);
    cm_buffer_printf(&out, "%s", text);
    cm_buffer_text(&out);
    return out.data;
}

/* What Grafana makes of a query before it is sent. */
static char *as_sent(const char *sql)
{
    static const struct {
        const char *what, *by;
    } variables[] = {{"${schema}", CM_TEST_ADMIN},
                     {"${tenant:sqlstring}", "'a'"},
                     {"$__timeFilter(day)", "day BETWEEN '2000-01-01' AND '2100-01-01'"},
                     {"$__timeFilter(at)", "at BETWEEN '2000-01-01' AND '2100-01-01'"}};
    char *text = strdup(sql);
    for (size_t i = 0; i < CM_LENGTH(variables); i++) {
        char *next = replaced(text, variables[i].what, variables[i].by);
        free(text);
        text = next;
    }
    return text;
}

static void run_query(dashboard_world_t *self, const char *title, const char *sql, bool has_time)
{
    CM_CLEANUP(cm_free) char *text = as_sent(sql);
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cr_expect(eq(ptr, strchr(text, '$'), NULL), "%s: a variable that is not known: %s", title,
              text);
    cm_status_t status = cm_pg_query(self->other, text, 0, NULL, &result, &self->base.err);
    cr_expect(eq(int, status, CM_OK), "%s: %s", title, self->base.err.message);
    if (status != CM_OK)
        return;
    cr_expect(gt(int, PQntuples(result), 0), "%s has no row", title);
    cr_expect(eq(int, PQfnumber(result, "time") >= 0, has_time), "%s", title);
}

static int run_panel(dashboard_world_t *self, const json_t *panel)
{
    const char *title = json_string_value(json_object_get(panel, "title"));
    size_t i;
    json_t *target;
    int queries = 0;
    json_array_foreach(json_object_get(panel, "targets"), i, target)
    {
        const char *sql = json_string_value(json_object_get(target, "rawSql"));
        const char *format = json_string_value(json_object_get(target, "format"));
        cr_assert(title && sql && format, "a target without query or format");
        run_query(self, title, sql, strcmp(format, "time_series") == 0);
        queries++;
    }
    return queries;
}

/* Every query of a dashboard: of its variables and its panels. Returns how many. */
static int run_dashboard(dashboard_world_t *self, const json_t *dashboard)
{
    size_t i;
    json_t *item;
    int queries = 0;
    json_array_foreach(json_object_get(json_object_get(dashboard, "templating"), "list"), i, item)
    {
        if (strcmp(json_string_value(json_object_get(item, "type")), "query") != 0)
            continue;
        run_query(self, "a variable", json_string_value(json_object_get(item, "query")), false);
        queries++;
    }
    json_array_foreach(json_object_get(dashboard, "panels"), i, item) queries +=
        run_panel(self, item);
    return queries;
}

static json_t *load(const char *name)
{
    char path[512];
    json_error_t error;
    snprintf(path, sizeof path, "%s/%s", CM_GRAFANA, name);
    json_t *dashboard = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    cr_assert(ne(ptr, dashboard, NULL), "%s: line %d: %s", name, error.line, error.text);
    return dashboard;
}

static bool is_json(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot && strcmp(dot, ".json") == 0;
}

static char *read_whole(const char *path)
{
    cm_buffer_t text = {0};
    FILE *file = fopen(path, "re");
    cr_assert(ne(ptr, file, NULL), "%s", path);
    for (int c; (c = fgetc(file)) != EOF;)
        cm_buffer_append(&text, &(char){(char)c}, 1);
    fclose(file);
    cm_buffer_text(&text);
    return text.data;
}

Test(dashboard_views, every_query_of_every_grafana_dashboard_runs_and_finds_something)
{
    dashboard_world_t world = {0};
    int queries = 0;
    set_up_figures(&world);
    DIR *folder = opendir(CM_GRAFANA);
    cr_assert(ne(ptr, folder, NULL), "%s", CM_GRAFANA);
    for (const struct dirent *entry; (entry = readdir(folder));) {
        if (!is_json(entry->d_name))
            continue;
        json_t *dashboard = load(entry->d_name);
        queries += run_dashboard(&world, dashboard);
        json_decref(dashboard);
    }
    closedir(folder);
    cr_expect(ge(int, queries, 19));
    tear_down(&world);
}

/* The grants are those of deploy/README.md: its text is read. */
Test(dashboard_views, the_role_that_the_readme_makes_for_grafana_can_run_them)
{
    dashboard_world_t world = {0};
    char role[CM_TEST_NAME_MAX], path[512];
    set_up_figures(&world);
    snprintf(path, sizeof path, "%s/../README.md", CM_GRAFANA);
    CM_CLEANUP(cm_free) char *readme = read_whole(path);
    const char *begin = strstr(readme, "GRANT SELECT ON client_manager.");
    const char *end = begin ? strstr(begin, " TO grafana;") : NULL;
    cr_assert(ne(ptr, end, NULL));
    CM_CLEANUP(cm_free) char *grant = strndup(begin, (size_t)(end - begin));
    CM_CLEANUP(cm_free) char *ours = replaced(grant, "client_manager.", CM_TEST_ADMIN ".");
    cm_test_unique(role, "grafana");
    cm_test_sql(world.other, "CREATE ROLE %s", role);
    cm_test_sql(world.other, "GRANT USAGE ON SCHEMA " CM_TEST_ADMIN " TO %s", role);
    cm_test_sql(world.other, "%s TO %s", ours, role);
    cm_test_sql(world.other, "SET ROLE %s", role);
    json_t *dashboard = load("tenants.json");
    cr_expect(gt(int, run_dashboard(&world, dashboard), 0));
    json_decref(dashboard);
    cm_test_sql(world.other, "RESET ROLE");
    cm_test_sql(world.other, "DROP OWNED BY %s", role);
    cm_test_sql(world.other, "DROP ROLE %s", role);
    tear_down(&world);
}

Test(dashboard_views, panels_have_numbers_of_their_own_and_do_not_overlap)
{
    json_t *dashboard = load("tenants.json");
    const json_t *panels = json_object_get(dashboard, "panels");
    bool taken[24][256] = {{false}};
    size_t i;
    json_t *panel;
    cr_assert(gt(sz, json_array_size(panels), 0));
    json_array_foreach(panels, i, panel)
    {
        json_int_t x, y, w, h;
        cr_expect(eq(i64, json_integer_value(json_object_get(panel, "id")), (int64_t)i + 1));
        cr_assert(eq(int,
                     json_unpack(panel, "{s:{s:I,s:I,s:I,s:I}}", "gridPos", "x", &x, "y", &y, "w",
                                 &w, "h", &h),
                     0));
        cr_assert(x >= 0 && x + w <= 24 && y >= 0 && y + h <= 256);
        for (json_int_t column = x; column < x + w; column++)
            for (json_int_t row = y; row < y + h; row++) {
                cr_expect(not(taken[column][row]), "panel %zu", i + 1);
                taken[column][row] = true;
            }
    }
    json_decref(dashboard);
}
