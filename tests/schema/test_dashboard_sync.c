#include "tests/schema/dashboard_case.h"

#include <unistd.h>

TestSuite(dashboard_sync, .timeout = 120, .fini = cm_test_database_drop);

static void put_reference(dashboard_world_t *self, int64_t devices, bool has_checksum,
                          int64_t checksum)
{
    cm_sync_reference_t reference = {
        .tenant = "a", .devices = devices, .has_checksum = has_checksum, .checksum = checksum};
    cr_assert(
        eq(int, cm_dashboard_reference_put(self->store, &reference, 1, &self->base.err), CM_OK),
        "%s", self->base.err.message);
}

/* The rule of the header, in words of its own: from the hexadecimal digits. */
static int64_t direct_checksum(dashboard_world_t *self, int sample)
{
    return cm_test_number(
        self->base.other,
        "SELECT coalesce(sum(('x' || lpad(substr(h, 3, 10), 16, '0'))::bit(64)::bigint), 0)"
        " FROM (SELECT encode(sha256(convert_to(application_code, 'UTF8') || '\\x1f'::bytea ||"
        " convert_to(client_id, 'UTF8')), 'hex') AS h FROM tenant_a.devices) AS k"
        " WHERE ('x' || lpad(left(h, 2), 8, '0'))::bit(32)::integer < %d",
        sample);
}

#define SYNC(text)                                                                                 \
    do {                                                                                           \
        run_all(&world);                                                                           \
        ROWS(text, "SELECT sync_state, sync_drift, sync_matched_at = collected_at FROM " METRICS); \
    } while (0)

Test(dashboard_sync, counts_are_held_against_the_publishers)
{
    dashboard_world_t world = {0};
    set_up(&world);
    put_random_devices(&world, "a", 100);
    SYNC("none|-|-");
    put_reference(&world, 103, false, 0);
    SYNC("drift|-3|-");
    put_reference(&world, 100, false, 0);
    SYNC("match|0|t");
    put_reference(&world, 99, false, 0);
    SYNC("drift|1|f"); /* the time of the last match stays */
    tear_down(&world);
}

Test(dashboard_sync, a_reference_that_is_too_old_is_stale)
{
    dashboard_world_t world = {0};
    set_up(&world);
    put_reference(&world, 0, false, 0);
    cm_test_sql(world.other, "UPDATE " CM_TEST_ADMIN ".dashboard_sync_reference"
                             " SET counted_at = now() - interval '25 hours'");
    SYNC("stale|0|-");
    world.options.reference_max_age_s = 26 * 3600;
    open_store(&world);
    SYNC("match|0|t");
    tear_down(&world);
}

Test(dashboard_sync, the_checksum_finds_what_the_count_does_not)
{
    dashboard_world_t world = {0};
    set_up(&world);
    put_random_devices(&world, "a", 5000);
    world.options.sample = 16;
    open_store(&world);
    int64_t checksum = direct_checksum(&world, 16);
    cr_assert(ne(i64, checksum, direct_checksum(&world, 17)));
    put_reference(&world, 5000, true, checksum);
    SYNC("match|0|t");
    put_reference(&world, 5000, true, checksum + 1);
    SYNC("drift|0|f");
    world.options.sample = 0; /* not asked for: the count decides */
    open_store(&world);
    SYNC("match|0|t");
    tear_down(&world);
}

Test(dashboard_sync, references_come_from_a_query_that_cannot_write)
{
    dashboard_world_t world = {0};
    size_t count = 0;
    set_up(&world);
    cm_error_t *err = &world.base.err;
    DOES(
        cm_dashboard_reference_query(world.store, world.other,
                                     "SELECT 'a', 7, NULL::bigint, NULL::timestamptz UNION ALL"
                                     " SELECT 'b', 8, -5, '2026-01-01T00:00:00Z' -- as of new year",
                                     &count, err));
    cr_expect(eq(sz, count, 2));
    ROWS("a|7|-|t\nb|8|-5|f",
         "SELECT tenant, devices, checksum, counted_at > now() - interval '1 h'"
         " FROM " CM_TEST_ADMIN ".dashboard_sync_reference ORDER BY 1");
    const char *bad[] = {"SELECT 1", "SELECT FROM nowhere", "SELECT 'a', 1, 2, now()) AS q; COMMIT",
                         "WITH w AS (DELETE FROM " METRICS " RETURNING tenant) SELECT tenant, 1, 1,"
                         " now() FROM w",
                         "SELECT 'a', 1, nextval('" CM_TEST_ADMIN ".dead_letters_id_seq'), now()"};
    for (size_t i = 0; i < CM_LENGTH(bad); i++) {
        cr_expect(eq(int,
                     cm_dashboard_reference_query(world.store, world.other, bad[i], &count, err),
                     CM_MISCONFIGURED),
                  "%s", bad[i]);
        cr_expect(eq(str, err->code, "sync-query"));
    }
    tear_down(&world);
}

Test(dashboard_sync, a_row_of_a_query_without_tenant_or_count_is_refused_and_nothing_is_put)
{
    dashboard_world_t world = {0};
    size_t count = 0;
    set_up(&world);
    const char *bad[] = {"('a', 1, NULL, NULL), ('no id!', 1, NULL, NULL)",
                         "('a', 1, NULL, NULL), ('b', NULL, NULL, NULL)",
                         "('a', 1, NULL, NULL), ('b', -1, NULL, NULL)"};
    for (size_t i = 0; i < CM_LENGTH(bad); i++) {
        char sql[128];
        snprintf(sql, sizeof sql, "VALUES %s", bad[i]);
        cr_expect(
            eq(int,
               cm_dashboard_reference_query(world.store, world.other, sql, &count, &world.base.err),
               CM_PERMANENT),
            "%s", bad[i]);
        cr_expect(eq(str, world.base.err.code, "sync-reference"));
    }
    ROWS("", "SELECT tenant FROM " CM_TEST_ADMIN ".dashboard_sync_reference");
    tear_down(&world);
}

static void write_file(char path[64], const char *text)
{
    snprintf(path, 64, "/tmp/cm-reference-XXXXXX");
    int file = mkstemp(path);
    cr_assert(ge(int, file, 0));
    cr_assert(eq(i64, write(file, text, strlen(text)), (int64_t)strlen(text)));
    close(file);
}

Test(dashboard_sync, references_come_from_a_file)
{
    dashboard_world_t world = {0};
    char path[64];
    size_t count = 0;
    set_up(&world);
    write_file(path, "tenant,devices,checksum,counted_at\n# a comment\na,7\nb, 8 ,9,86400000\r\n"
                     "a,6,,86400000\n\nc,1");
    DOES(cm_dashboard_reference_file(world.store, path, &count, &world.base.err));
    unlink(path);
    cr_expect(eq(sz, count, 4));
    ROWS("a|7|-|f\nb|8|9|t\nc|1|-|f",
         "SELECT tenant, devices, checksum, counted_at = '1970-01-02T00:00:00Z'"
         " FROM " CM_TEST_ADMIN ".dashboard_sync_reference ORDER BY 1");
    tear_down(&world);
}

Test(dashboard_sync, a_file_with_a_wrong_line_is_refused_with_its_number)
{
    dashboard_world_t world = {0};
    char path[64];
    size_t count = 0;
    set_up(&world);
    write_file(path, "a,7\nb,eight\n");
    cr_expect(eq(int, cm_dashboard_reference_file(world.store, path, &count, &world.base.err),
                 CM_PERMANENT));
    unlink(path);
    cr_expect(eq(str, world.base.err.message,
                 "line 2 of the file of counts: the second value is no count"));
    ROWS("", "SELECT tenant FROM " CM_TEST_ADMIN ".dashboard_sync_reference");
    cr_expect(eq(int, cm_dashboard_reference_file(world.store, "/nowhere", &count, &world.base.err),
                 CM_MISCONFIGURED));
    cr_expect(eq(str, world.base.err.code, "sync-file"));
    tear_down(&world);
}
