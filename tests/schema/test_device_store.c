#include "tests/schema/store_case.h"

#define DEVICE_MS  "(extract(epoch FROM device_at) * 1000)::bigint"
#define PUSH_MS    "(extract(epoch FROM push_at) * 1000)::bigint"
#define VERDICT_MS "(extract(epoch FROM push_status_at) * 1000)::bigint"
#define CONTACT_MS "(extract(epoch FROM contact_at) * 1000)::bigint"
#define REMOVED_MS "(extract(epoch FROM removed_at) * 1000)::bigint"

TestSuite(device_store, .timeout = 60, .fini = cm_test_database_drop);

/* ---- registers ------------------------------------------------------------------------------ */

Test(device_store, every_field_arrives)
{
    store_world_t world = {0};
    store_set_up(&world);
    cm_device_change_t change = change_of("c1");
    change.device_ms = 1700000000123;
    change.device[CM_DEVICE_PLATFORM] = CM_STR("android");
    change.device[CM_DEVICE_APPLICATION_VERSION] = CM_STR("3.2.1");
    change.device[CM_DEVICE_MODEL] = CM_STR("Pixel \xe2\x82\xac {\"8\",NULL}");
    change.device[CM_DEVICE_OS_VERSION] = CM_STR("15");
    change.device[CM_DEVICE_SDK_VERSION] = CM_STR("3.7.6");
    change.device[CM_DEVICE_LANGUAGE] = CM_STR("en-US");
    change.device[CM_DEVICE_TIMEZONE] = CM_STR("+0100");
    change.device[CM_DEVICE_PUSH_SETTINGS] = CM_STR("{\"b\":1,\"a\":-1000}");
    change.push_ms = 1700000000124;
    change.push_token = CM_STR("token");
    change.push_address_type = CM_STR("fcm");
    change.contact_ms = -1;
    change.has_contact_id = change.has_contact_field_id = true;
    change.contact_id = INT64_MIN;
    change.contact_field_id = INT64_MAX;
    WROTE(change, CM_CHANGE_APPLIED);
    ROWS("app|c1|1700000000123|android|3.2.1|Pixel \xe2\x82\xac {\"8\",NULL}|15|3.7.6|en-US|+0100|"
         "{\"b\":1,\"a\":-1000}|1700000000124|token|fcm|-|-|-1|-9223372036854775808|"
         "9223372036854775807",
         "SELECT application_code, client_id, " DEVICE_MS ", platform,"
         " application_version, device_model, os_version, sdk_version, language, timezone,"
         " push_settings, " PUSH_MS ", push_token, push_address_type, push_status,"
         " push_status_at, " CONTACT_MS ", contact_id, contact_field_id"
         " FROM tenant_a.devices");
    store_tear_down(&world);
}

Test(device_store, a_group_that_is_absent_is_unchanged)
{
    store_world_t world = {0};
    store_set_up(&world);
    WROTE(device_of("c1", 10, "ios"), CM_CHANGE_APPLIED);
    WROTE(push_of("c1", 5, "t"), CM_CHANGE_APPLIED);
    WROTE(contact_of("c1", 1, 7), CM_CHANGE_APPLIED);
    ROWS("10|ios|5|t|1|7", "SELECT " DEVICE_MS ", platform, " PUSH_MS ", push_token, " CONTACT_MS
                           ", contact_id FROM tenant_a.devices");
    store_tear_down(&world);
}

Test(device_store, a_group_that_is_present_replaces_it_whole)
{
    store_world_t world = {0};
    store_set_up(&world);
    cm_device_change_t change = device_of("c1", 10, "ios");
    change.device[CM_DEVICE_LANGUAGE] = CM_STR("de");
    WROTE(change, CM_CHANGE_APPLIED);
    WROTE(push_of("c1", 10, "t"), CM_CHANGE_APPLIED);
    WROTE(device_of("c1", 11, "android"), CM_CHANGE_APPLIED);
    WROTE(push_of("c1", 11, NULL), CM_CHANGE_APPLIED);
    ROWS("11|android|-|11|-|-", "SELECT " DEVICE_MS ", platform, language, " PUSH_MS
                                ", push_token, push_address_type FROM tenant_a.devices");
    store_tear_down(&world);
}

Test(device_store, an_older_register_is_stale_and_writes_nothing)
{
    store_world_t world = {0};
    store_set_up(&world);
    WROTE(device_of("c1", 10, "ios"), CM_CHANGE_APPLIED);
    int64_t before = cm_test_number(world.other, "SELECT xmin::text::bigint FROM tenant_a.devices");
    WROTE(device_of("c1", 9, "android"), CM_CHANGE_STALE);
    cr_expect(eq(i64,
                 cm_test_number(world.other, "SELECT xmin::text::bigint FROM tenant_a.devices"),
                 before));
    ROWS("10|ios", "SELECT " DEVICE_MS ", platform FROM tenant_a.devices");
    store_tear_down(&world);
}

Test(device_store, a_repetition_is_a_duplicate_and_writes_nothing)
{
    store_world_t world = {0};
    store_set_up(&world);
    cm_device_change_t change = push_of("c1", 10, "t");
    change.device_ms = 10;
    change.device[CM_DEVICE_PUSH_SETTINGS] = CM_STR("{ \"x\": 1 }");
    WROTE(change, CM_CHANGE_APPLIED);
    int64_t before = cm_test_number(world.other, "SELECT xmin::text::bigint FROM tenant_a.devices");
    WROTE(change, CM_CHANGE_DUPLICATE);
    cr_expect(eq(i64,
                 cm_test_number(world.other, "SELECT xmin::text::bigint FROM tenant_a.devices"),
                 before));
    store_tear_down(&world);
}

Test(device_store, of_equal_times_the_greater_content_wins)
{
    store_world_t world = {0};
    store_set_up(&world);
    WROTE(device_of("c1", 10, "b"), CM_CHANGE_APPLIED);
    WROTE(device_of("c1", 10, "a"), CM_CHANGE_STALE);
    WROTE(device_of("c1", 10, "B"), CM_CHANGE_STALE); /* bytewise: capitals are lower */
    WROTE(device_of("c1", 10, "c"), CM_CHANGE_APPLIED);
    WROTE(device_of("c1", 10, NULL), CM_CHANGE_STALE);
    WROTE(contact_of("c1", 10, -5), CM_CHANGE_APPLIED);
    WROTE(contact_of("c1", 10, -6), CM_CHANGE_STALE);
    cm_device_change_t unlink = change_of("c1");
    unlink.contact_ms = 10;
    WROTE(unlink, CM_CHANGE_STALE);
    ROWS("c|-5", "SELECT platform, contact_id FROM tenant_a.devices");
    store_tear_down(&world);
}

Test(device_store, newer_and_older_registers_of_one_change_part_ways)
{
    store_world_t world = {0};
    store_set_up(&world);
    cm_device_change_t change = device_of("c1", 10, "old");
    change.push_ms = 10;
    change.push_token = CM_STR("old");
    WROTE(change, CM_CHANGE_APPLIED);
    change.device_ms = 11;
    change.device[CM_DEVICE_PLATFORM] = CM_STR("new");
    change.push_ms = 9;
    change.push_token = CM_STR("never");
    WROTE(change, CM_CHANGE_APPLIED);
    change.device_ms = 12;
    change.push_ms = 10; /* a tie, with greater content */
    change.push_token = CM_STR("tie");
    WROTE(change, CM_CHANGE_APPLIED);
    ROWS("12|new|10|tie",
         "SELECT " DEVICE_MS ", platform, " PUSH_MS ", push_token FROM tenant_a.devices");
    store_tear_down(&world);
}

Test(device_store, empty_and_absent_are_one)
{
    store_world_t world = {0};
    store_set_up(&world);
    cm_device_change_t change = device_of("c1", 10, "");
    change.device[CM_DEVICE_PUSH_SETTINGS] = CM_STR("");
    WROTE(change, CM_CHANGE_APPLIED);
    WROTE(device_of("c1", 10, NULL), CM_CHANGE_DUPLICATE);
    ROWS("-|-", "SELECT platform, push_settings FROM tenant_a.devices");
    store_tear_down(&world);
}

Test(device_store, a_change_of_nothing_is_a_duplicate)
{
    store_world_t world = {0};
    store_set_up(&world);
    WROTE(change_of("c1"), CM_CHANGE_DUPLICATE);
    cr_expect(eq(int, cm_device_store_stats(world.store).statements, 0));
    ROWS("", "SELECT client_id FROM tenant_a.devices");
    store_tear_down(&world);
}

Test(device_store, a_token_of_4096_bytes_fits_its_index)
{
    store_world_t world = {0};
    store_set_up(&world);
    char token[4097];
    uint64_t random = 1;
    for (size_t i = 0; i < sizeof token - 1; i++) { /* not to be compressed */
        random = random * 6364136223846793005u + 1442695040888963407u;
        token[i] = (char)('!' + (random >> 40) % 90);
    }
    token[4096] = '\0';
    WROTE(push_of("c1", 10, token), CM_CHANGE_APPLIED);
    const char *values[] = {token};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cr_assert(eq(int,
                 cm_pg_query(world.other,
                             "SELECT client_id FROM tenant_a.devices WHERE push_token = $1 AND"
                             " hashtextextended(push_token, 0) = hashtextextended($1, 0)",
                             1, values, &result, &world.err),
                 CM_OK));
    cr_expect(eq(int, PQntuples(result), 1));
    store_tear_down(&world);
}

Test(device_store, updates_stay_heap_only)
{
    store_world_t world = {0};
    store_set_up(&world);
    cm_device_change_t change = device_of("c1", 10, "ios");
    change.push_ms = change.contact_ms = 10;
    change.push_token = CM_STR("token");
    change.has_contact_id = true;
    change.contact_id = 77;
    for (int i = 0; i < 20; i++) {
        change.device_ms = change.push_ms = change.contact_ms = 10 + i;
        WROTE(change, CM_CHANGE_APPLIED);
    }
    cm_device_store_destroy(&world.store); /* statistics arrive when the session ends */
    cm_pg_close(world.pg);
    int64_t hot = -1, deadline = 200;
    while (hot != 19 && deadline-- > 0) {
        cm_test_sql(world.other, "SELECT pg_sleep(0.02)");
        hot = cm_test_number(world.other, "SELECT n_tup_hot_upd FROM pg_stat_all_tables"
                                          " WHERE schemaname = 'tenant_a' AND relname = 'devices'");
    }
    cr_expect(eq(i64, hot, 19));
    store_tear_down(&world);
}

/* ---- verdicts ------------------------------------------------------------------------------- */

static void judge(store_world_t *world, int64_t ms)
{
    cm_test_sql(world->other,
                "UPDATE tenant_a.devices SET push_status = 'invalid',"
                " push_status_at = 'epoch'::timestamptz + %lld * interval '1 millisecond'",
                (long long)ms);
}

Test(device_store, a_newer_registration_forgets_the_verdict)
{
    store_world_t world = {0};
    store_set_up(&world);
    WROTE(push_of("c1", 10, "t"), CM_CHANGE_APPLIED);
    judge(&world, 11);
    WROTE(push_of("c1", 12, "t"), CM_CHANGE_APPLIED);
    ROWS("12|t|-|-", "SELECT " PUSH_MS ", push_token, push_status, push_status_at"
                     " FROM tenant_a.devices");
    store_tear_down(&world);
}

Test(device_store, a_verdict_newer_than_a_registration_of_its_token_stays)
{
    store_world_t world = {0};
    store_set_up(&world);
    WROTE(push_of("c1", 10, "t"), CM_CHANGE_APPLIED);
    judge(&world, 20);
    WROTE(push_of("c1", 15, "t"), CM_CHANGE_APPLIED);
    ROWS("15|t|invalid|20",
         "SELECT " PUSH_MS ", push_token, push_status, " VERDICT_MS " FROM tenant_a.devices");
    WROTE(push_of("c1", 16, "other"), CM_CHANGE_APPLIED);
    ROWS("16|other|-|-", "SELECT " PUSH_MS ", push_token, push_status, push_status_at"
                         " FROM tenant_a.devices");
    store_tear_down(&world);
}

Test(device_store, other_registers_leave_the_verdict_alone)
{
    store_world_t world = {0};
    store_set_up(&world);
    WROTE(push_of("c1", 10, "t"), CM_CHANGE_APPLIED);
    judge(&world, 11);
    WROTE(device_of("c1", 20, "ios"), CM_CHANGE_APPLIED);
    cm_device_change_t tie = device_of("c1", 20, "kaios");
    tie.push_ms = 5;
    tie.push_token = CM_STR("older");
    WROTE(tie, CM_CHANGE_APPLIED);
    ROWS("kaios|invalid|11", "SELECT platform, push_status, " VERDICT_MS " FROM tenant_a.devices");
    store_tear_down(&world);
}

/* ---- removals ------------------------------------------------------------------------------- */

Test(device_store, a_removal_deletes_the_row_and_bars_what_is_older)
{
    store_world_t world = {0};
    store_set_up(&world);
    WROTE(device_of("c1", 10, "ios"), CM_CHANGE_APPLIED);
    WROTE(removal_of("c1", 20), CM_CHANGE_APPLIED);
    WROTE(device_of("c1", 19, "ios"), CM_CHANGE_STALE);
    WROTE(push_of("c1", 20, "t"), CM_CHANGE_STALE); /* at its time: the removal wins */
    ROWS("", "SELECT client_id FROM tenant_a.devices");
    ROWS("app|c1|20",
         "SELECT application_code, client_id, " REMOVED_MS " FROM tenant_a.tombstones");
    store_tear_down(&world);
}

Test(device_store, a_removal_clears_the_older_groups_and_keeps_the_newer)
{
    store_world_t world = {0};
    store_set_up(&world);
    WROTE(device_of("c1", 10, "ios"), CM_CHANGE_APPLIED);
    WROTE(push_of("c1", 10, "t"), CM_CHANGE_APPLIED);
    judge(&world, 12);
    WROTE(contact_of("c1", 30, 7), CM_CHANGE_APPLIED);
    WROTE(removal_of("c1", 20), CM_CHANGE_APPLIED);
    ROWS("-|-|-|-|-|-|30|7",
         "SELECT device_at, platform, push_at, push_token, push_status, push_status_at, " CONTACT_MS
         ", contact_id FROM tenant_a.devices");
    store_tear_down(&world);
}

Test(device_store, a_device_may_register_again_after_its_removal)
{
    store_world_t world = {0};
    store_set_up(&world);
    WROTE(removal_of("c1", 20), CM_CHANGE_APPLIED);
    cm_device_change_t change = device_of("c1", 21, "ios");
    change.push_ms = 20;
    change.push_token = CM_STR("removed");
    WROTE(change, CM_CHANGE_APPLIED);
    WROTE(change, CM_CHANGE_STALE); /* in part there already, in part older than the removal */
    WROTE(device_of("c1", 21, "ios"), CM_CHANGE_DUPLICATE);
    ROWS("21|ios|-|-", "SELECT " DEVICE_MS ", platform, push_at, push_token"
                       " FROM tenant_a.devices");
    store_tear_down(&world);
}

Test(device_store, a_removal_repeated_or_older_changes_nothing)
{
    store_world_t world = {0};
    store_set_up(&world);
    WROTE(removal_of("c1", 20), CM_CHANGE_APPLIED);
    WROTE(removal_of("c1", 20), CM_CHANGE_DUPLICATE);
    WROTE(removal_of("c1", 19), CM_CHANGE_STALE);
    WROTE(removal_of("c1", 21), CM_CHANGE_APPLIED);
    ROWS("21", "SELECT " REMOVED_MS " FROM tenant_a.tombstones");
    store_tear_down(&world);
}

Test(device_store, a_removal_with_newer_groups_leaves_only_those)
{
    store_world_t world = {0};
    store_set_up(&world);
    WROTE(push_of("c1", 10, "t"), CM_CHANGE_APPLIED);
    cm_device_change_t change = device_of("c1", 30, "ios");
    change.removed_ms = 20;
    WROTE(change, CM_CHANGE_APPLIED);
    WROTE(change, CM_CHANGE_DUPLICATE);
    ROWS("30|ios|-", "SELECT " DEVICE_MS ", platform, push_at FROM tenant_a.devices");
    store_tear_down(&world);
}

/* ---- many ----------------------------------------------------------------------------------- */

Test(device_store, each_item_of_a_batch_has_its_own_result)
{
    store_world_t world = {0};
    store_set_up(&world);
    cm_store_item_t first[] = {{.change = device_of("c1", 10, "a")},
                               {.change = device_of("c2", 10, "a")},
                               {.change = device_of("c3", 10, "a")}};
    cr_assert(eq(int, write_items(&world, "a", first, 3), CM_OK));
    cm_store_item_t second[] = {
        {.change = device_of("c1", 10, "a")}, {.change = device_of("c2", 9, "a")},
        {.change = device_of("c3", 10, "b")}, {.change = device_of("c4", 1, "a")},
        {.change = removal_of("c5", 5)},      {.change = change_of("c6")}};
    cr_assert(eq(int, write_items(&world, "a", second, 6), CM_OK));
    const cm_change_result_t expected[] = {CM_CHANGE_DUPLICATE, CM_CHANGE_STALE,
                                           CM_CHANGE_APPLIED,   CM_CHANGE_APPLIED,
                                           CM_CHANGE_APPLIED,   CM_CHANGE_DUPLICATE};
    for (size_t i = 0; i < 6; i++)
        cr_expect(eq(int, second[i].result, expected[i]), "item %zu", i);
    store_tear_down(&world);
}

/* Of few rows it is counted how many were written, and the transaction tells which; of many the
 * statement names them. */
Test(device_store, what_an_earlier_batch_wrote_is_not_taken_for_written)
{
    enum { MANY = 40 };
    store_world_t world = {0};
    char names[MANY][32];
    store_set_up(&world);
    cm_store_item_t few[] = {{.change = device_of("c000000", 10, "a")},
                             {.change = device_of("c000001", 10, "a")}};
    cr_assert(eq(int, write_items(&world, "a", few, 2), CM_OK));
    cm_store_item_t many[MANY];
    for (size_t i = 0; i < MANY; i++)
        many[i] = (cm_store_item_t){.change = device_of(client_name(names[i], i), 10, "a")};
    cr_assert(eq(int, write_items(&world, "a", many, MANY), CM_OK));
    for (size_t i = 0; i < MANY; i++)
        cr_expect(eq(int, many[i].result, i < 2 ? CM_CHANGE_DUPLICATE : CM_CHANGE_APPLIED),
                  "item %zu", i);
    cr_assert(eq(int, write_items(&world, "a", few, 2), CM_OK));
    cr_expect(eq(int, few[0].result, CM_CHANGE_DUPLICATE));
    cr_expect(eq(int, few[1].result, CM_CHANGE_DUPLICATE));
    store_tear_down(&world);
}

Test(device_store, tenants_of_a_batch_keep_apart)
{
    store_world_t world = {0};
    store_set_up(&world);
    cm_test_tenant(world.other, "A");
    cm_test_tenant(world.other, "b-1");
    cm_store_item_t items[3] = {{.change = device_of("c1", 10, "1")},
                                {.change = device_of("c1", 10, "2")},
                                {.change = device_of("c1", 10, "3")}};
    cm_store_tenant_t tenants[3] = {
        {"A", &items[0], 1}, {"a", &items[1], 1}, {"b-1", &items[2], 1}};
    cr_assert(eq(int, cm_device_store_write(world.store, tenants, 3, &world.err), CM_OK));
    ROWS("1|2|3", "SELECT x.platform, y.platform, z.platform FROM \"tenant_A\".devices x,"
                  " tenant_a.devices y, \"tenant_b-1\".devices z");
    cr_expect(eq(sz, cm_device_store_stats(world.store).tenants_touched, 3));
    cr_expect(eq(int, cm_device_store_stats(world.store).transactions, 1));
    store_tear_down(&world);
}

Test(device_store, a_usual_batch_is_one_statement_a_tenant)
{
    store_world_t world = {0};
    store_set_up(&world);
    enum { N = 3000 };
    cm_store_item_t *items = calloc(N, sizeof *items);
    char(*names)[32] = calloc(N, sizeof *names);
    for (size_t i = 0; i < N; i++)
        items[i].change = device_of(client_name(names[i], i), 10, "ios");
    cr_assert(eq(int, write_items(&world, "a", items, N), CM_OK));
    for (size_t i = 0; i < N; i++)
        items[i].change.device_ms = 11;
    cr_assert(eq(int, write_items(&world, "a", items, N), CM_OK));
    cm_device_store_stats_t stats = cm_device_store_stats(world.store);
    cr_expect(eq(u64, stats.statements, 2));
    cr_expect(eq(u64, stats.rows, 2 * N));
    cr_expect(eq(u64, stats.transactions, 2));
    cr_expect(eq(u64, stats.isolations, 0));
    cr_expect(eq(i64, cm_test_number(world.other, "SELECT count(*) FROM tenant_a.devices"), N));
    free(items);
    free(names);
    store_tear_down(&world);
}

Test(device_store, an_empty_write_is_done_at_once)
{
    store_world_t world = {0};
    store_set_up(&world);
    cr_expect(eq(int, cm_device_store_write(world.store, NULL, 0, &world.err), CM_OK));
    store_tear_down(&world);
}

/* ---- the connection ------------------------------------------------------------------------- */

Test(device_store, a_closed_connection_is_unavailable_and_the_write_can_be_begun_again)
{
    store_world_t world = {0};
    store_set_up(&world);
    cm_store_item_t item = {.change = device_of("c1", 10, "ios")};
    cm_pg_close(world.pg);
    cr_assert(eq(int, write_items(&world, "a", &item, 1), CM_UNAVAILABLE));
    cr_expect(eq(int, item.result, CM_CHANGE_PENDING));
    cr_assert(eq(int, cm_pg_connect(world.pg, NULL, &world.err), CM_OK));
    cr_assert(eq(int, write_items(&world, "a", &item, 1), CM_OK));
    cr_expect(eq(int, item.result, CM_CHANGE_APPLIED));
    store_tear_down(&world);
}

Test(device_store, a_killed_session_is_unavailable_and_repeating_is_safe)
{
    store_world_t world = {0};
    store_set_up(&world);
    WROTE(device_of("c1", 10, "ios"), CM_CHANGE_APPLIED);
    cm_store_item_t item = {.change = device_of("c1", 11, "ios")};
    cm_store_tenant_t tenant = {.tenant = "a", .items = &item, .count = 1};
    cm_test_sql(world.other, "SELECT pg_terminate_backend(%d, 5000)",
                PQbackendPID(cm_pg_raw(world.pg)));
    cr_assert(eq(int, cm_device_store_write(world.store, &tenant, 1, &world.err), CM_UNAVAILABLE));
    cr_assert(eq(int, cm_pg_connect(world.pg, NULL, &world.err), CM_OK));
    cr_assert(eq(int, cm_device_store_write(world.store, &tenant, 1, &world.err), CM_OK));
    cr_expect(eq(int, item.result, CM_CHANGE_APPLIED));
    cr_expect(eq(sz, cm_device_store_stats(world.store).tenants_touched, 1));
    store_tear_down(&world);
}

Test(device_store, a_right_withdrawn_is_a_misconfiguration_of_the_connection)
{
    store_world_t world = {0};
    store_set_up(&world);
    char role[CM_TEST_NAME_MAX];
    cm_test_unique(role, "cm_role");
    cm_test_sql(world.other, "CREATE ROLE %s", role);
    cm_test_sql(world.pg, "SET ROLE %s", role);
    cm_store_item_t item = {.change = device_of("c1", 10, "ios")};
    cr_expect(eq(int, write_items(&world, "a", &item, 1), CM_MISCONFIGURED));
    cr_expect(eq(str, world.err.code, "42501"));
    cr_expect(eq(int, item.result, CM_CHANGE_PENDING));
    cm_test_sql(world.pg, "RESET ROLE");
    cm_test_sql(world.other, "DROP ROLE %s", role);
    store_tear_down(&world);
}

Test(device_store, tenants_touched_are_those_of_the_present_connection)
{
    store_world_t world = {0};
    store_set_up(&world);
    WROTE(device_of("c1", 10, "ios"), CM_CHANGE_APPLIED);
    cr_expect(eq(sz, cm_device_store_stats(world.store).tenants_touched, 1));
    cm_pg_close(world.pg);
    cr_expect(eq(sz, cm_device_store_stats(world.store).tenants_touched, 0));
    store_tear_down(&world);
}
