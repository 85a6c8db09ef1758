#include "schema/contact_store.h"
#include "schema/dead_letter_store.h"
#include "schema/erasure.h"
#include "tests/schema/store_case.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

TestSuite(erasure, .timeout = 60, .fini = cm_test_database_drop);

enum { DEVICES = 400, ERASED = 100 };

static const cm_contact_place_t PLACE = {CM_TEST_ADMIN, ""};
static const cm_erasure_choice_t ALL = {.key = "", .lock_ms = 1000};

/* ---- the key -------------------------------------------------------------------------------- */

Test(erasure, the_first_key_is_the_key)
{
    store_world_t world = {0};
    cm_error_t err = {0};
    store_set_up(&world);
    cr_expect(
        eq(int, cm_erasure_key_check(world.pg, CM_TEST_ADMIN, "0123456789abcdef", &err), CM_OK));
    cr_expect(
        eq(int, cm_erasure_key_check(world.pg, CM_TEST_ADMIN, "0123456789abcdef", &err), CM_OK));
    cr_expect(eq(int, cm_erasure_key_check(world.pg, CM_TEST_ADMIN, "", &err), CM_MISCONFIGURED));
    cr_expect(eq(str, err.code, "erasure-key"));
    cr_expect(eq(int, cm_erasure_key_check(world.pg, CM_TEST_ADMIN, "another key of 16+", &err),
                 CM_MISCONFIGURED));
    ROWS("c811559b3094e48d", "SELECT key_id FROM " CM_TEST_ADMIN ".erasure_key");
    store_tear_down(&world);
}

Test(erasure, no_key_is_a_key_too)
{
    store_world_t world = {0};
    cm_error_t err = {0};
    store_set_up(&world);
    cr_expect(eq(int, cm_erasure_key_check(world.pg, CM_TEST_ADMIN, "", &err), CM_OK));
    cr_expect(eq(int, cm_erasure_key_check(world.pg, CM_TEST_ADMIN, "0123456789abcdef", &err),
                 CM_MISCONFIGURED));
    store_tear_down(&world);
}

/* ---- bytes in files ------------------------------------------------------------------------- */

static size_t count_in_file(const char *path, const char *text)
{
    struct stat info;
    size_t found = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &info) != 0 || !S_ISREG(info.st_mode) || info.st_size == 0) {
        if (fd >= 0)
            close(fd);
        return 0;
    }
    char *bytes = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    cr_assert(bytes != MAP_FAILED);
    const char *at = bytes, *end = bytes + info.st_size;
    while ((at = memmem(at, (size_t)(end - at), text, strlen(text)))) {
        found++;
        at++;
    }
    munmap(bytes, (size_t)info.st_size);
    return found;
}

/* How often text stands in the files of the database, after a checkpoint. */
static size_t count_in_files(store_world_t *world, const char *text)
{
    char path[1024];
    size_t found = 0, files = 0;
    cm_test_sql(world->other, "CHECKPOINT");
    CM_CLEANUP(cm_free)
    char *base = cm_test_rows(world->other,
                              "SELECT current_setting('data_directory') || '/base/' || oid FROM"
                              " pg_database WHERE datname = current_database()");
    DIR *directory = opendir(base);
    cr_assert(directory != NULL, "%s", base);
    for (struct dirent *entry; (entry = readdir(directory)); files++) {
        snprintf(path, sizeof path, "%s/%s", base, entry->d_name);
        found += count_in_file(path, text);
    }
    closedir(directory);
    cr_assert(gt(sz, files, 100));
    return found;
}

/* Devices of contacts 1 to ERASED hold secret tokens, long ones among them; the others plain ones.
 */
static void fill(store_world_t *world)
{
    cm_test_sql(
        world->other,
        "INSERT INTO tenant_a.devices (application_code, client_id, push_at, push_token,"
        " contact_at, contact_id) SELECT 'app', to_char(i, 'FM000000'),"
        " 'epoch'::timestamptz + interval '10 ms',"
        " CASE WHEN i %% 4 = 0 THEN 'sEcReT-' ELSE 'plain-' END || i || repeat(md5(i::text),"
        " CASE WHEN i %% 40 = 0 THEN 120 ELSE 1 END),"
        " 'epoch'::timestamptz + interval '10 ms', CASE WHEN i %% 4 = 0 THEN i / 4 ELSE"
        " 100000 + i END FROM generate_series(1, %d) AS i",
        DEVICES);
    /* And once more, so that there are dead versions of the rows, too. */
    cm_test_sql(world->other, "UPDATE tenant_a.devices SET push_token = push_token || 'x'");
}

static void erase(store_world_t *world)
{
    static cm_contact_item_t items[ERASED];
    cm_contact_totals_t totals = {0};
    cm_contact_tenant_t tenant = {"a", items, ERASED};
    for (size_t i = 0; i < ERASED; i++)
        items[i] = (cm_contact_item_t){.contact_id = (int64_t)i + 1, .deleted_ms = 20};
    cr_assert(eq(int, cm_contact_store_delete(world->pg, &PLACE, &tenant, 1, &totals, &world->err),
                 CM_OK),
              "%s", world->err.message);
    cr_assert(eq(i64, totals.devices, ERASED));
}

static cm_erasure_step_t sweep(store_world_t *world, cm_erasure_choice_t choice, char *ret_tenant)
{
    cm_erasure_step_t step = CM_ERASURE_NONE;
    cr_assert(
        eq(int,
           cm_erasure_sweep_next(world->pg, CM_TEST_ADMIN, &choice, ret_tenant, &step, &world->err),
           CM_OK),
        "%s %s", world->err.code, world->err.message);
    return step;
}

Test(erasure, vacuum_leaves_bytes_and_a_sweep_does_not)
{
    store_world_t world = {0};
    char tenant[CM_TENANT_ID_MAX];
    store_set_up(&world);
    fill(&world);
    cm_test_sql(world.other, "ANALYZE tenant_a.devices");
    cr_assert(gt(sz, count_in_files(&world, "sEcReT-"), ERASED - 1));
    erase(&world);
    cm_test_sql(world.other, "VACUUM tenant_a.devices");
    cr_expect(gt(sz, count_in_files(&world, "sEcReT-"), 0));
    cr_expect(eq(int, sweep(&world, ALL, tenant), CM_ERASURE_REWRITTEN));
    cr_expect(eq(str, tenant, "a"));
    cr_expect(eq(sz, count_in_files(&world, "sEcReT-"), 0));
    cr_expect(gt(sz, count_in_files(&world, "plain-"), DEVICES - ERASED - 1));
    ROWS("300|300", "SELECT count(*), count(push_token) FROM tenant_a.devices");
    ROWS("70", "SELECT substring(reloptions::text FROM '[0-9]+') FROM pg_class WHERE oid ="
               " 'tenant_a.devices'::regclass");
    cr_expect(eq(int, sweep(&world, ALL, tenant), CM_ERASURE_NONE));
    store_tear_down(&world);
}

/* VACUUM FULL would copy rows that an old snapshot can see. */
Test(erasure, an_old_snapshot_keeps_no_bytes_back)
{
    store_world_t world = {0};
    char tenant[CM_TENANT_ID_MAX];
    store_set_up(&world);
    fill(&world);
    cm_pg_t *old = cm_test_connect(world.uri);
    cm_test_sql(old, "BEGIN ISOLATION LEVEL REPEATABLE READ");
    cm_test_sql(old, "SELECT count(*) FROM pg_class");
    erase(&world);
    cr_expect(eq(int, sweep(&world, ALL, tenant), CM_ERASURE_REWRITTEN));
    cr_expect(eq(sz, count_in_files(&world, "sEcReT-"), 0));
    cm_test_sql(old, "ROLLBACK");
    cm_pg_destroy(&old);
    store_tear_down(&world);
}

Test(erasure, dead_letters_are_rid_of_their_bytes_too)
{
    store_world_t world = {0};
    char tenant[CM_TENANT_ID_MAX];
    cm_dead_letter_place_t place = {CM_TEST_ADMIN, ""};
    store_set_up(&world);
    for (int i = 0; i < 60; i++) {
        char body[256], id[16];
        snprintf(id, sizeof id, "%d", i);
        snprintf(
            body, sizeof body,
            "{\"customerId\":\"a\",\"applicationCode\":\"app\",\"clientId\":\"x\",\"eventTime\":"
            "15,\"contact\":{\"contactId\":%d},\"x\":\"%s-%d\"}",
            i % 3 ? 5 : 6, i % 3 ? "sEcReT" : "plain", i);
        cm_delivery_t delivery = {.message_id = cm_str(id), .publish_ms = 15, .body = cm_str(body)};
        cr_assert(eq(
            int, cm_dead_letter_keep(world.other, &place, "errors", &delivery, 1, NULL, &world.err),
            CM_OK));
    }
    cm_test_sql(world.other, "ANALYZE " CM_TEST_ADMIN ".dead_letters");
    cm_contact_item_t item = {.contact_id = 5, .deleted_ms = 20};
    cm_contact_totals_t totals = {0};
    cm_contact_tenant_t one = {"a", &item, 1};
    cr_assert(
        eq(int, cm_contact_store_delete(world.pg, &PLACE, &one, 1, &totals, &world.err), CM_OK));
    cr_expect(eq(i64, totals.letters, 40));
    cr_expect(gt(sz, count_in_files(&world, "sEcReT"), 0));
    cr_expect(eq(int, sweep(&world, ALL, tenant), CM_ERASURE_REWRITTEN));
    cr_expect(eq(str, tenant, ""));
    cr_expect(eq(sz, count_in_files(&world, "sEcReT"), 0));
    cr_expect(gt(sz, count_in_files(&world, "plain"), 19));
    ROWS("20", "SELECT count(*) FROM " CM_TEST_ADMIN ".dead_letters");
    store_tear_down(&world);
}

/* ---- what is swept, and when ---------------------------------------------------------------- */

Test(erasure, a_note_waits_for_its_time)
{
    store_world_t world = {0};
    char tenant[CM_TENANT_ID_MAX];
    cm_erasure_pending_t pending;
    store_set_up(&world);
    cm_erasure_choice_t hourly = {.key = "", .lock_ms = 1000, .older_ms = 3600000};
    cr_assert(eq(int, cm_erasure_note(world.pg, CM_TEST_ADMIN, "a", &world.err), CM_OK));
    cr_assert(eq(int, cm_erasure_note(world.pg, CM_TEST_ADMIN, "a", &world.err), CM_OK));
    cr_expect(eq(int, sweep(&world, hourly, tenant), CM_ERASURE_NONE));
    cm_test_sql(world.other, "UPDATE " CM_TEST_ADMIN ".erasures_pending SET requested_at ="
                             " requested_at - interval '61 minutes'");
    cr_assert(eq(int, cm_erasure_pending(world.pg, CM_TEST_ADMIN, &pending, &world.err), CM_OK));
    cr_expect(eq(i64, pending.tenants, 1));
    cr_expect(ge(i64, pending.oldest_age_ms, 61 * 60000));
    cr_expect(eq(int, sweep(&world, hourly, tenant), CM_ERASURE_REWRITTEN));
    cr_assert(eq(int, cm_erasure_pending(world.pg, CM_TEST_ADMIN, &pending, &world.err), CM_OK));
    cr_expect(eq(i64, pending.tenants, 0));
    cr_expect(eq(i64, pending.oldest_age_ms, 0));
    store_tear_down(&world);
}

Test(erasure, what_is_put_off_is_left_alone_but_for_whoever_asks_for_all)
{
    store_world_t world = {0};
    char tenant[CM_TENANT_ID_MAX];
    cm_erasure_choice_t of_the_service = {.key = "", .lock_ms = 1000, .older_ms = 60000};
    store_set_up(&world);
    cm_test_sql(world.other, "INSERT INTO " CM_TEST_ADMIN ".erasures_pending (tenant, requested_at)"
                             " VALUES ('a', now() - interval '1 hour')");
    cr_assert(eq(int, cm_erasure_put_off(world.pg, CM_TEST_ADMIN, "a", &world.err), CM_OK));
    cr_expect(eq(int, sweep(&world, of_the_service, tenant), CM_ERASURE_NONE));
    ROWS("1|t", "SELECT put_off, retry_at BETWEEN now() AND now() + interval '10 minutes' FROM"
                " " CM_TEST_ADMIN ".erasures_pending");
    cr_assert(eq(int, cm_erasure_put_off(world.pg, CM_TEST_ADMIN, "a", &world.err), CM_OK));
    ROWS("2|t", "SELECT put_off, retry_at BETWEEN now() AND now() + interval '20 minutes' FROM"
                " " CM_TEST_ADMIN ".erasures_pending");
    cr_expect(eq(int, sweep(&world, ALL, tenant), CM_ERASURE_REWRITTEN));
    store_tear_down(&world);
}

Test(erasure, a_tenant_that_is_named_is_swept_noted_or_not)
{
    store_world_t world = {0};
    char tenant[CM_TENANT_ID_MAX];
    store_set_up(&world);
    cm_erasure_choice_t named = ALL;
    named.only = "a";
    cr_expect(eq(int, sweep(&world, named, tenant), CM_ERASURE_NONE));
    named.noted_or_not = true;
    cr_expect(eq(int, sweep(&world, named, tenant), CM_ERASURE_REWRITTEN));
    cr_expect(eq(str, tenant, "a"));
    store_tear_down(&world);
}

Test(erasure, a_busy_table_stays_noted_and_tells_whose_it_is)
{
    store_world_t world = {0};
    char tenant[CM_TENANT_ID_MAX];
    cm_erasure_step_t step;
    store_set_up(&world);
    cm_erasure_choice_t choice = ALL;
    choice.lock_ms = 100;
    cr_assert(eq(int, cm_erasure_note(world.pg, CM_TEST_ADMIN, "a", &world.err), CM_OK));
    cm_test_sql(world.other, "BEGIN");
    cm_test_sql(world.other, "SELECT count(*) FROM tenant_a.devices");
    cr_expect(eq(int,
                 cm_erasure_sweep_next(world.pg, CM_TEST_ADMIN, &choice, tenant, &step, &world.err),
                 CM_TRANSIENT));
    cr_expect(eq(str, world.err.code, "55P03"));
    cr_expect(eq(str, tenant, "a"));
    cm_test_sql(world.other, "ROLLBACK");
    cr_expect(eq(int, sweep(&world, choice, tenant), CM_ERASURE_REWRITTEN));
    store_tear_down(&world);
}

Test(erasure, a_tenant_that_is_gone_is_no_longer_noted)
{
    store_world_t world = {0};
    char tenant[CM_TENANT_ID_MAX];
    store_set_up(&world);
    cr_assert(eq(int, cm_erasure_note(world.pg, CM_TEST_ADMIN, "gone", &world.err), CM_OK));
    cr_expect(eq(int, sweep(&world, ALL, tenant), CM_ERASURE_ABSENT));
    cr_expect(eq(str, tenant, "gone"));
    cr_expect(eq(int, sweep(&world, ALL, tenant), CM_ERASURE_NONE));
    store_tear_down(&world);
}

Test(erasure, a_table_that_is_missing_in_a_schema_that_is_there_is_a_fault)
{
    store_world_t world = {0};
    char tenant[CM_TENANT_ID_MAX];
    cm_erasure_step_t step;
    store_set_up(&world);
    cr_assert(eq(int, cm_erasure_note(world.pg, CM_TEST_ADMIN, "a", &world.err), CM_OK));
    cr_assert(eq(int, cm_erasure_note(world.pg, CM_TEST_ADMIN, "", &world.err), CM_OK));
    cm_test_sql(world.other, "DROP TABLE tenant_a.push_verdicts_held");
    cm_test_sql(world.other, "ALTER TABLE " CM_TEST_ADMIN ".dead_letters RENAME TO other");
    for (const char *only = "a"; only; only = *only ? "" : NULL) {
        cm_erasure_choice_t choice = {.only = only, .key = "", .lock_ms = 1000};
        cm_status_t status =
            cm_erasure_sweep_next(world.pg, CM_TEST_ADMIN, &choice, tenant, &step, &world.err);
        cr_expect(eq(int, status, CM_MISSING));
        cr_expect(eq(int, step, CM_ERASURE_NONE));
        cr_expect(eq(str, world.err.code, "42P01"));
        cr_expect(eq(str, tenant, (char *)only));
    }
    ROWS("\na", "SELECT tenant FROM " CM_TEST_ADMIN ".erasures_pending ORDER BY 1");
    store_tear_down(&world);
}

/* The deletion could not know whose device it was: the writer notes it, the sweep completes it. */
Test(erasure, what_was_kept_of_a_device_that_a_late_link_removed_goes_with_the_sweep)
{
    store_world_t world = {0};
    char tenant[CM_TENANT_ID_MAX];
    cm_contact_totals_t totals = {0};
    cm_contact_item_t item = {.contact_id = 7, .deleted_ms = 20};
    cm_contact_tenant_t one = {"a", &item, 1};
    cm_dead_letter_place_t place = {CM_TEST_ADMIN, ""};
    cm_delivery_t delivery = {.message_id = CM_STR("1"),
                              .publish_ms = 15,
                              .body = CM_STR("{\"customerId\":\"a\",\"applicationCode\":\"app\","
                                             "\"clientId\":\"c1\",\"eventTime\":15}")};
    store_set_up(&world);
    cm_device_store_set_erasure_key(world.store, "");
    cr_assert(eq(int,
                 cm_dead_letter_keep(world.other, &place, "errors", &delivery, 1, NULL, &world.err),
                 CM_OK));
    cm_test_sql(world.other,
                "INSERT INTO tenant_a.push_verdicts_held (application_code, provider, client_id,"
                " verdict_at) VALUES ('app', 'fcm', 'c1', 'epoch'), ('app', 'fcm', 'c2', 'epoch')");
    cr_assert(
        eq(int, cm_contact_store_delete(world.other, &PLACE, &one, 1, &totals, &world.err), CM_OK));
    ROWS("", "SELECT tenant FROM " CM_TEST_ADMIN ".erasures_pending");
    WROTE(contact_of("c1", 10, 7), CM_CHANGE_APPLIED);
    ROWS("a", "SELECT tenant FROM " CM_TEST_ADMIN ".erasures_pending");
    cr_expect(eq(int, sweep(&world, ALL, tenant), CM_ERASURE_REWRITTEN));
    ROWS("", "SELECT id FROM " CM_TEST_ADMIN ".dead_letters");
    ROWS("c2", "SELECT client_id FROM tenant_a.push_verdicts_held");
    ROWS("", "SELECT tenant FROM " CM_TEST_ADMIN ".erasures_pending WHERE tenant <> ''");
    store_tear_down(&world);
}
