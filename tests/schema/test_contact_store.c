#include "runtime/clock.h"
#include "schema/contact_store.h"
#include "schema/dead_letter_store.h"
#include "schema/tenant_schema.h"
#include "tests/schema/store_case.h"

TestSuite(contact_store, .timeout = 60, .fini = cm_test_database_drop);

static const cm_contact_place_t PLACE = {CM_TEST_ADMIN, ""};

/* Delete contacts (ascending) of one tenant at one time. */
static cm_contact_totals_t delete_all(store_world_t *world, const char *tenant,
                                      cm_contact_item_t *items, size_t count)
{
    cm_contact_totals_t totals = {0};
    cm_contact_tenant_t one = {.items = items, .count = count};
    snprintf(one.tenant, sizeof one.tenant, "%s", tenant);
    cr_assert(eq(int, cm_contact_store_delete(world->other, &PLACE, &one, 1, &totals, &world->err),
                 CM_OK),
              "%s %s", world->err.code, world->err.message);
    return totals;
}

static cm_contact_result_t delete_one(store_world_t *world, int64_t contact, int64_t ms)
{
    cm_contact_item_t item = {.contact_id = contact, .deleted_ms = ms};
    delete_all(world, "a", &item, 1);
    return item.result;
}

#define DELETED(contact, ms, wanted) cr_expect(eq(int, delete_one(&world, contact, ms), wanted))

static cm_device_change_t full(const char *client_id, int64_t ms, int64_t contact)
{
    cm_device_change_t change = contact_of(client_id, ms, contact);
    cm_device_change_t push = push_of(client_id, ms, "token");
    cm_device_change_merge(&change, &push);
    return change;
}

Test(contact_store, a_deletion_removes_the_devices_of_the_contact_and_no_other)
{
    store_world_t world = {0};
    store_set_up(&world);
    WROTE(full("c1", 10, 7), CM_CHANGE_APPLIED);
    WROTE(full("c2", 20, 7), CM_CHANGE_APPLIED);
    WROTE(full("c3", 10, 8), CM_CHANGE_APPLIED);
    DELETED(7, 20, CM_CONTACT_APPLIED);
    ROWS("c3", "SELECT client_id FROM tenant_a.devices");
    ROWS("c1|20\nc2|20", "SELECT client_id, (extract(epoch FROM removed_at) * 1000)::bigint"
                         " FROM tenant_a.tombstones WHERE application_code <> '' ORDER BY 1");
    ROWS("1|32", "SELECT count(*), max(octet_length(client_id)) FROM tenant_a.tombstones"
                 " WHERE application_code = ''");
    store_tear_down(&world);
}

Test(contact_store, what_is_newer_than_the_deletion_stays)
{
    store_world_t world = {0};
    store_set_up(&world);
    WROTE(full("c1", 10, 7), CM_CHANGE_APPLIED);
    WROTE(device_of("c1", 30, "ios"), CM_CHANGE_APPLIED);
    WROTE(full("c2", 30, 7), CM_CHANGE_APPLIED);
    DELETED(7, 20, CM_CONTACT_APPLIED);
    ROWS("c1|ios|-|-\nc2|-|token|7", "SELECT client_id, platform, push_token, contact_id FROM"
                                     " tenant_a.devices ORDER BY 1");
    ROWS("c1", "SELECT client_id FROM tenant_a.tombstones WHERE application_code <> ''");
    store_tear_down(&world);
}

Test(contact_store, a_repetition_is_a_duplicate_and_an_older_deletion_stale)
{
    store_world_t world = {0};
    store_set_up(&world);
    DELETED(7, 20, CM_CONTACT_APPLIED);
    DELETED(7, 20, CM_CONTACT_DUPLICATE);
    DELETED(7, 10, CM_CONTACT_STALE);
    DELETED(7, 30, CM_CONTACT_APPLIED);
    ROWS("30", "SELECT (extract(epoch FROM removed_at) * 1000)::bigint"
               " FROM tenant_a.tombstones WHERE application_code = ''");
    store_tear_down(&world);
}

Test(contact_store, a_late_link_is_the_removal_of_its_device)
{
    store_world_t world = {0};
    store_set_up(&world);
    WROTE(push_of("c1", 5, "token"), CM_CHANGE_APPLIED);
    DELETED(7, 20, CM_CONTACT_APPLIED);
    WROTE(contact_of("c1", 10, 7), CM_CHANGE_APPLIED);
    WROTE(full("c2", 20, 7), CM_CHANGE_APPLIED);
    ROWS("", "SELECT client_id FROM tenant_a.devices");
    ROWS("c1|20\nc2|20", "SELECT client_id, (extract(epoch FROM removed_at) * 1000)::bigint"
                         " FROM tenant_a.tombstones WHERE application_code <> '' ORDER BY 1");
    WROTE(contact_of("c1", 10, 7), CM_CHANGE_STALE);
    WROTE(push_of("c1", 5, "token"), CM_CHANGE_STALE);
    WROTE(full("c3", 21, 7), CM_CHANGE_APPLIED);
    ROWS("c3|7", "SELECT client_id, contact_id FROM tenant_a.devices");
    store_tear_down(&world);
}

Test(contact_store, of_a_late_link_what_is_newer_is_written)
{
    store_world_t world = {0};
    store_set_up(&world);
    DELETED(7, 20, CM_CONTACT_APPLIED);
    cm_device_change_t change = full("c1", 10, 7), newer = device_of("c1", 30, "ios");
    cm_device_change_merge(&change, &newer);
    WROTE(change, CM_CHANGE_APPLIED);
    ROWS("c1|ios|-|-", "SELECT client_id, platform, push_token, contact_id FROM tenant_a.devices");
    ROWS("c1", "SELECT client_id FROM tenant_a.tombstones WHERE application_code <> ''");
    store_tear_down(&world);
}

/* The device has another contact by now: what it had before is of no account. */
Test(contact_store, a_late_link_that_would_set_nothing_removes_nothing)
{
    store_world_t world = {0};
    store_set_up(&world);
    WROTE(contact_of("c1", 15, 8), CM_CHANGE_APPLIED);
    DELETED(7, 20, CM_CONTACT_APPLIED);
    WROTE(full("c1", 10, 7), CM_CHANGE_APPLIED);
    ROWS("c1|token|8", "SELECT client_id, push_token, contact_id FROM tenant_a.devices");
    WROTE(full("c1", 10, 7), CM_CHANGE_STALE);
    store_tear_down(&world);
}

Test(contact_store, late_links_in_one_batch_each_find_their_deletion)
{
    store_world_t world = {0};
    store_set_up(&world);
    DELETED(1, 20, CM_CONTACT_APPLIED);
    DELETED(3, 30, CM_CONTACT_APPLIED);
    cm_store_item_t items[] = {{.change = full("c1", 10, 1)},
                               {.change = full("c2", 10, 2)},
                               {.change = full("c3", 10, 3)},
                               {.change = removal_of("c4", 5)}};
    cr_assert(eq(int, write_items(&world, "a", items, 4), CM_OK), "%s", world.err.message);
    for (size_t i = 0; i < 4; i++)
        cr_expect(eq(int, items[i].result, CM_CHANGE_APPLIED));
    ROWS("c2", "SELECT client_id FROM tenant_a.devices");
    ROWS("c1|20\nc3|30\nc4|5", "SELECT client_id, (extract(epoch FROM removed_at) * 1000)::bigint"
                               " FROM tenant_a.tombstones WHERE application_code <> '' ORDER BY 1");
    store_tear_down(&world);
}

Test(contact_store, a_tenant_activated_anew_takes_nothing_from_before)
{
    store_world_t world = {0};
    store_set_up(&world);
    cm_test_sql(world.other, "INSERT INTO tenant_a.tombstones VALUES"
                             " ('', '', 'epoch'::timestamptz + interval '20 ms')");
    WROTE(full("c1", 20, 7), CM_CHANGE_STALE);
    cm_device_change_t change = full("c2", 10, 7), newer = device_of("c2", 30, "ios");
    cm_device_change_merge(&change, &newer);
    WROTE(change, CM_CHANGE_APPLIED);
    WROTE(full("c3", 21, 7), CM_CHANGE_APPLIED);
    ROWS("c2|ios|-|-\nc3|-|token|7", "SELECT client_id, platform, push_token, contact_id FROM"
                                     " tenant_a.devices ORDER BY 1");
    store_tear_down(&world);
}

Test(contact_store, held_verdicts_of_device_and_token_go_too)
{
    store_world_t world = {0};
    store_set_up(&world);
    WROTE(full("c1", 10, 7), CM_CHANGE_APPLIED);
    cm_test_sql(
        world.other,
        "INSERT INTO tenant_a.push_verdicts_held (application_code, provider, client_id,"
        " push_token, verdict_at) SELECT a, 'fcm', c, t, 'epoch'::timestamptz + n * interval"
        " '1 ms' FROM (VALUES ('app', 'c1', NULL, 15), ('app', 'c3', 'token', 99),"
        " ('app', 'c2', 'other', 15), ('else', 'c1', 'token', 15)) AS v(a, c, t, n)");
    cm_test_sql(world.other, "INSERT INTO tenant_a.push_verdicts_held (application_code, provider,"
                             " client_id, push_token, verdict_at) VALUES ('app', 'hms', 'c1',"
                             " 'newer', 'epoch'::timestamptz + interval '30 ms')");
    cm_contact_item_t item = {.contact_id = 7, .deleted_ms = 20};
    cm_contact_totals_t totals = delete_all(&world, "a", &item, 1);
    cr_expect(eq(i64, totals.verdicts, 2));
    cr_expect(eq(i64, totals.devices, 1));
    ROWS("app|c1|newer\napp|c2|other\nelse|c1|token",
         "SELECT application_code, client_id, push_token FROM tenant_a.push_verdicts_held ORDER BY"
         " 1, 2");
    store_tear_down(&world);
}

static void keep(store_world_t *world, const char *id, const char *body)
{
    cm_dead_letter_place_t place = {CM_TEST_ADMIN, ""};
    cm_delivery_t delivery = {.message_id = cm_str(id), .publish_ms = 15, .body = cm_str(body)};
    cr_assert(eq(int,
                 cm_dead_letter_keep(world->other, &place, "client-manager.writer-errors",
                                     &delivery, 1, NULL, &world->err),
                 CM_OK),
              "%s", world->err.message);
}

#define BODY(client, rest)                                                                         \
    "{\"customerId\":\"a\",\"applicationCode\":\"app\",\"clientId\":\"" client                     \
    "\",\"eventTime\":15" rest

Test(contact_store, dead_letters_of_the_contact_and_its_devices_go_too)
{
    store_world_t world = {0};
    store_set_up(&world);
    WROTE(full("c1", 10, 77120011), CM_CHANGE_APPLIED);
    keep(&world, "contact", BODY("x", ",\"contact\":{\"contactId\":77120011}}"));
    keep(&world, "device", BODY("c1", "}"));
    keep(&world, "cut", BODY("x", ",\"contact\":{\"contactId\":77120011"));
    keep(&world, "no json", "customerId: {\"customerId\":\"a\" 77120011");
    keep(&world, "its token", "{\"customerId\":\"a\", broken \"token\"");
    keep(&world, "its verdict",
         "{\"customerId\":\"a\",\"applicationCode\":\"app\",\"eventTime\":15,"
         "\"token\":\"token\"}");
    keep(&world, "deletion", "{\"customerId\":\"a\",\"contactId\":77120011,\"deletedAt\":15}");
    keep(&world, "stays: other", BODY("x", ",\"contact\":{\"contactId\":7712001}}"));
    keep(&world, "stays: longer", "{\"customerId\":\"a\", broken 771200110");
    keep(&world, "stays: tenant", "{\"customerId\":\"b\",\"contactId\":77120011,\"deletedAt\":15}");
    cm_contact_item_t item = {.contact_id = 77120011, .deleted_ms = 20};
    cm_contact_totals_t totals = delete_all(&world, "a", &item, 1);
    cr_expect(eq(i64, totals.letters, 7));
    ROWS("stays: other\nstays: longer\nstays: tenant",
         "SELECT origin_message_id FROM " CM_TEST_ADMIN ".dead_letters ORDER BY id");
    ROWS("\na", "SELECT tenant FROM " CM_TEST_ADMIN ".erasures_pending ORDER BY 1");
    store_tear_down(&world);
}

Test(contact_store, a_letter_newer_than_the_deletion_stays)
{
    store_world_t world = {0};
    store_set_up(&world);
    keep(&world, "newer", BODY("x", ",\"contact\":{\"contactId\":77120011}}"));
    DELETED(77120011, 14, CM_CONTACT_APPLIED);
    ROWS("newer", "SELECT origin_message_id FROM " CM_TEST_ADMIN ".dead_letters");
    ROWS("", "SELECT tenant FROM " CM_TEST_ADMIN ".erasures_pending");
    store_tear_down(&world);
}

static cm_letter_result_t keep_result(store_world_t *world, const char *body)
{
    cm_dead_letter_place_t place = {CM_TEST_ADMIN, ""};
    cm_letter_result_t result = CM_LETTER_KEPT;
    cm_delivery_t delivery = {.message_id = cm_str(body), .publish_ms = 15, .body = cm_str(body)};
    cr_assert(
        eq(int,
           cm_dead_letter_keep(world->other, &place, "errors", &delivery, 1, &result, &world->err),
           CM_OK),
        "%s", world->err.message);
    return result;
}

#define KEPT(body, wanted) cr_expect(eq(int, keep_result(&world, body), wanted), "%s", body)

Test(contact_store, letters_of_what_was_erased_are_not_kept)
{
    store_world_t world = {0};
    store_set_up(&world);
    WROTE(full("c1", 10, 7), CM_CHANGE_APPLIED);
    DELETED(7, 20, CM_CONTACT_APPLIED);
    KEPT(BODY("c1", "}"), CM_LETTER_DROPPED);
    KEPT(BODY("x", ",\"contact\":{\"contactId\":7}}"), CM_LETTER_DROPPED);
    KEPT(BODY("c1", " broken"), CM_LETTER_DROPPED);
    KEPT("{\"customerId\":\"a\",\"applicationCode\":\"app\",\"clientId\":\"c1\"",
         CM_LETTER_DROPPED);
    KEPT("{\"customerId\":\"a\",\"contactId\":7}", CM_LETTER_DROPPED);
    KEPT("{\"customerId\":\"a\",\"contactId\":7,\"deletedAt\":21}", CM_LETTER_KEPT);
    KEPT(BODY("x", "}"), CM_LETTER_KEPT);
    KEPT(BODY("x", "}"), CM_LETTER_KEPT_BEFORE);
    KEPT("{\"customerId\":\"unknown\",\"contactId\":7}", CM_LETTER_KEPT);
    store_tear_down(&world);
}

Test(contact_store, letters_of_a_deleted_tenant_are_not_kept_and_of_one_under_way_not_yet)
{
    store_world_t world = {0};
    store_set_up(&world);
    cm_test_tenant(world.other, "b");
    cm_test_delete(world.other, "b", 5000);
    KEPT("{\"customerId\":\"b\",\"contactId\":7}", CM_LETTER_DROPPED);
    cm_test_sql(world.pg, "BEGIN");
    cm_test_sql(world.pg, "SELECT FROM " CM_TEST_ADMIN ".tenants WHERE id = 'a' FOR UPDATE");
    KEPT("{\"customerId\":\"a\",\"contactId\":7}", CM_LETTER_BUSY);
    cm_test_sql(world.pg, "ROLLBACK");
    KEPT("{\"customerId\":\"a\",\"contactId\":7}", CM_LETTER_KEPT);
    store_tear_down(&world);
}

Test(contact_store, tombstones_locked_by_a_deletion_make_letters_wait)
{
    store_world_t world = {0};
    store_set_up(&world);
    cm_test_sql(world.other, "SET lock_timeout = '100ms'");
    cm_test_sql(world.pg, "BEGIN");
    cm_test_sql(world.pg, "LOCK TABLE tenant_a.tombstones IN ACCESS EXCLUSIVE MODE");
    KEPT("{\"customerId\":\"a\",\"contactId\":7}", CM_LETTER_BUSY);
    cm_test_sql(world.pg, "ROLLBACK");
    store_tear_down(&world);
}

Test(contact_store, a_locked_tenant_fails_alone_and_the_others_are_done)
{
    store_world_t world = {0};
    cm_contact_totals_t totals = {0};
    store_set_up(&world);
    cm_test_tenant(world.other, "b");
    cm_test_tenant(world.other, "c");
    cm_test_sql(world.other, "SET lock_timeout = '100ms'");
    cm_test_sql(world.pg, "BEGIN");
    cm_test_sql(world.pg, "LOCK TABLE tenant_b.devices IN ACCESS EXCLUSIVE MODE");
    cm_contact_item_t items[4];
    cm_contact_tenant_t tenants[] = {
        {"a", &items[0], 1}, {"b", &items[1], 1}, {"c", &items[2], 1}, {"d", &items[3], 1}};
    for (size_t i = 0; i < 4; i++)
        items[i] = (cm_contact_item_t){.contact_id = 7, .deleted_ms = 20};
    cr_assert(eq(int, cm_contact_store_delete(world.other, &PLACE, tenants, 4, &totals, &world.err),
                 CM_OK));
    cr_expect(eq(int, items[0].result, CM_CONTACT_APPLIED));
    cr_expect(eq(int, items[1].result, CM_CONTACT_FAILED));
    cr_expect(eq(str, items[1].error.code, "55P03"));
    cr_expect(eq(int, items[2].result, CM_CONTACT_APPLIED));
    cr_expect(eq(int, items[3].result, CM_CONTACT_FAILED));
    cr_expect(eq(int, items[3].error.status, CM_MISSING));
    cr_expect(eq(i64, totals.contacts, 2));
    cm_test_sql(world.pg, "ROLLBACK");
    store_tear_down(&world);
}

/* A time that no column takes; the decoder lets none pass. */
Test(contact_store, a_bad_item_fails_alone)
{
    store_world_t world = {0};
    store_set_up(&world);
    cm_contact_item_t items[5];
    for (size_t i = 0; i < 5; i++)
        items[i] = (cm_contact_item_t){.contact_id = (int64_t)i,
                                       .deleted_ms = i == 3 ? INT64_MAX / 2 : 20};
    delete_all(&world, "a", items, 5);
    for (size_t i = 0; i < 5; i++)
        cr_expect(eq(int, items[i].result, i == 3 ? CM_CONTACT_FAILED : CM_CONTACT_APPLIED));
    cr_expect(eq(int, items[3].error.status, CM_PERMANENT));
    store_tear_down(&world);
}

/* The server refuses to note more than so many deletions in time; how often it was asked is told by
 * a sequence, which no rollback takes back. */
static void refuse_many(store_world_t *world, int more_than)
{
    cm_test_sql(world->other, "CREATE SEQUENCE public.asked");
    cm_test_sql(world->other,
                "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS"
                " $$BEGIN PERFORM nextval('public.asked'); IF (SELECT count(*) FROM n WHERE "
                "application_code = '') > %d THEN"
                " PERFORM pg_sleep(60); END IF; RETURN NULL; END$$",
                more_than);
    cm_test_sql(world->other,
                "CREATE TRIGGER refuse AFTER INSERT ON tenant_a.tombstones REFERENCING NEW"
                " TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION public.refuse()");
    cm_test_sql(world->other, "SET statement_timeout = '1s'");
}

enum { MANY = 16 };

static void expect_each(store_world_t *world, cm_contact_result_t expected)
{
    cm_contact_item_t items[MANY];
    for (size_t i = 0; i < MANY; i++)
        items[i] = (cm_contact_item_t){.contact_id = (int64_t)i, .deleted_ms = 20};
    delete_all(world, "a", items, MANY);
    for (size_t i = 0; i < MANY; i++) {
        cr_expect(eq(int, items[i].result, expected), "item %zu", i);
        if (expected == CM_CONTACT_FAILED)
            cr_expect(eq(str, items[i].error.code, "57014"));
    }
}

Test(contact_store, deletions_that_take_too_long_together_are_halved)
{
    store_world_t world = {0};
    store_set_up(&world);
    refuse_many(&world, MANY / 2);
    expect_each(&world, CM_CONTACT_APPLIED);
    ROWS("3", "SELECT last_value FROM public.asked");
    store_tear_down(&world);
}

Test(contact_store, a_tenant_where_everything_takes_too_long_is_given_up_soon)
{
    store_world_t world = {0};
    store_set_up(&world);
    refuse_many(&world, 0);
    expect_each(&world, CM_CONTACT_FAILED);
    ROWS("4", "SELECT last_value FROM public.asked");
    store_tear_down(&world);
}

/* One table that cannot be read is no outage of the database. */
Test(contact_store, a_damaged_tenant_fails_alone)
{
    store_world_t world = {0};
    cm_contact_totals_t totals = {0};
    store_set_up(&world);
    cm_test_tenant(world.other, "b");
    cm_test_sql(world.other,
                "CREATE FUNCTION public.damage() RETURNS trigger LANGUAGE plpgsql AS"
                " $$BEGIN RAISE EXCEPTION 'invalid page' USING ERRCODE = 'XX001'; END$$");
    cm_test_sql(world.other, "CREATE TRIGGER damage BEFORE INSERT ON tenant_a.tombstones"
                             " FOR EACH ROW EXECUTE FUNCTION public.damage()");
    cm_contact_item_t items[] = {{.contact_id = 7, .deleted_ms = 20},
                                 {.contact_id = 7, .deleted_ms = 20}};
    cm_contact_tenant_t tenants[] = {{"a", &items[0], 1}, {"b", &items[1], 1}};
    cr_assert(eq(int, cm_contact_store_delete(world.other, &PLACE, tenants, 2, &totals, &world.err),
                 CM_OK));
    cr_expect(eq(int, items[0].result, CM_CONTACT_FAILED));
    cr_expect(eq(str, items[0].error.code, "XX001"));
    cr_expect(eq(int, items[1].result, CM_CONTACT_APPLIED));
    store_tear_down(&world);
}

Test(contact_store, a_lost_connection_tells_nothing_of_any_item)
{
    store_world_t world = {0};
    cm_contact_totals_t totals = {0};
    cm_contact_item_t item = {.contact_id = 7, .deleted_ms = 20};
    cm_contact_tenant_t tenant = {"a", &item, 1};
    store_set_up(&world);
    cm_pg_close(world.pg);
    cr_expect(eq(int, cm_contact_store_delete(world.pg, &PLACE, &tenant, 1, &totals, &world.err),
                 CM_UNAVAILABLE));
    cr_expect(eq(int, item.result, CM_CONTACT_PENDING));
    store_tear_down(&world);
}

/* As many as a brake holds on a bad day. Looked at one by one for each device, it takes minutes. */
static void delete_beside_held_verdicts(bool analyzed)
{
    enum { CONTACTS = 500 };
    store_world_t world = {0};
    cm_contact_item_t items[CONTACTS];
    store_set_up(&world);
    cm_test_sql(world.other, "INSERT INTO tenant_a.devices (application_code, client_id, push_at,"
                             " push_token, contact_at, contact_id) SELECT 'app', 'c' || i,"
                             " to_timestamp(1), 't' || i, to_timestamp(1), i"
                             " FROM generate_series(1, 500) AS i");
    cm_test_sql(world.other,
                "INSERT INTO tenant_a.push_verdicts_held (application_code, client_id,"
                " provider, push_token, verdict_at) SELECT 'app', 'd' || i, 'fcm',"
                " 't' || i * 250, to_timestamp(2) FROM generate_series(1, 100000) AS i");
    if (analyzed)
        cm_test_sql(world.other, "ANALYZE tenant_a.devices, tenant_a.push_verdicts_held");
    for (int i = 0; i < CONTACTS; i++)
        items[i] = (cm_contact_item_t){.contact_id = i + 1, .deleted_ms = 1000000};
    cm_test_sql(world.other, "SET statement_timeout = '8s'");
    cr_expect(eq(i64, delete_all(&world, "a", items, CONTACTS).verdicts, 2)); /* t250 and t500 */
    cr_expect(eq(int, items[0].result, CM_CONTACT_APPLIED));
    store_tear_down(&world);
}

Test(contact_store, many_held_verdicts_do_not_hold_up_a_deletion)
{
    delete_beside_held_verdicts(true);
}

Test(contact_store, many_held_verdicts_of_which_the_planner_knows_nothing_do_not_either)
{
    delete_beside_held_verdicts(false);
}
