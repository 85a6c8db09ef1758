#include "runtime/cleanup.h"
#include "schema/tenant_schema.h"
#include "tests/schema/audit_case.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

TestSuite(audit_log, .timeout = 60, .fini = cm_test_database_drop);

/* ---- append --------------------------------------------------------------------------------- */

Test(audit_log, an_entry_comes_back_whole)
{
    world_t world = {0};
    set_up(&world);
    cm_audit_entry_t entry = {"tenant-activator", "tenant-activated", "42", 3,
                              "{\"b\" : 1.50,  \"a\": \"\\u00e4\"}"};
    cr_assert(eq(int, append(&world, KEY, &entry), CM_OK), "%s", world.err.message);
    CM_CLEANUP(cm_free)
    char *rows =
        cm_test_rows(world.pg, "SELECT position, actor, action, tenant, generation, detail,"
                               " now() - at < interval '1 minute' FROM " TABLE);
    cr_expect(eq(str, rows,
                 "1|tenant-activator|tenant-activated|42|3|{\"b\" : 1.50,  \"a\": \"\\u00e4\"}|t"));
    tear_down(&world);
}

Test(audit_log, the_head_that_append_tells_is_the_last_row)
{
    world_t world = {0};
    set_up(&world);
    append_many(&world, KEY, 3);
    char text[CM_AUDIT_HEAD_TEXT_MAX];
    CM_CLEANUP(cm_free)
    char *rows = cm_test_rows(world.pg, "SELECT position || ':' || encode(hash, 'hex') FROM " TABLE
                                        " ORDER BY position DESC LIMIT 1");
    cr_expect(eq(str, rows, (char *)cm_audit_head_text(&world.head, text)));
    cr_expect(eq(i64, world.head.position, 3));
    tear_down(&world);
}

Test(audit_log, an_entry_goes_with_its_transaction)
{
    world_t world = {0};
    set_up(&world);
    append_many(&world, KEY, 1);
    cm_audit_entry_t entry = {.actor = "a", .action = "b"};
    cr_assert(eq(int, cm_pg_begin(world.pg, &world.err), CM_OK));
    cr_assert(
        eq(int, cm_audit_append(world.pg, CM_TEST_ADMIN, KEY, &entry, NULL, &world.err), CM_OK));
    cm_pg_rollback(world.pg);
    append_many(&world, KEY, 1);
    cr_expect(eq(i64, world.head.position, 2));
    verify(&world, KEY, (cm_audit_verify_t){0});
    expect_fault(&world, CM_AUDIT_INTACT, 0);
    tear_down(&world);
}

Test(audit_log, two_entries_of_one_transaction_are_chained)
{
    world_t world = {0};
    set_up(&world);
    cm_audit_entry_t entry = {.actor = "a", .action = "b"};
    cr_assert(eq(int, cm_pg_begin(world.pg, &world.err), CM_OK));
    for (int i = 0; i < 2; i++)
        cr_assert(eq(int, cm_audit_append(world.pg, CM_TEST_ADMIN, KEY, &entry, NULL, &world.err),
                     CM_OK));
    cr_assert(eq(int, cm_pg_commit(world.pg, &world.err), CM_OK));
    verify(&world, KEY, (cm_audit_verify_t){0});
    expect_fault(&world, CM_AUDIT_INTACT, 0);
    cr_expect(eq(i64, world.report.rows, 2));
    tear_down(&world);
}

Test(audit_log, a_detail_that_is_no_json_object_is_refused)
{
    world_t world = {0};
    set_up(&world);
    cm_audit_entry_t entry = {.actor = "a", .action = "b", .detail = "{"};
    cr_expect(eq(int, append(&world, KEY, &entry), CM_PERMANENT));
    cr_expect(eq(str, world.err.code, "22P02"));
    entry.detail = "[1]";
    cr_expect(eq(int, append(&world, KEY, &entry), CM_PERMANENT));
    cr_expect(eq(str, world.err.code, "23514"));
    tear_down(&world);
}

Test(audit_log, a_transaction_that_would_not_see_others_is_refused)
{
    world_t world = {0};
    set_up(&world);
    cm_audit_entry_t entry = {.actor = "a", .action = "b"};
    cr_expect(eq(int,
                 append_in(&world, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", KEY, &entry),
                 CM_PERMANENT));
    cr_expect(eq(str, world.err.code, "audit-isolation"));
    tear_down(&world);
}

Test(audit_log, another_key_or_none_cannot_go_on_with_the_chain)
{
    world_t world = {0};
    set_up(&world);
    append_many(&world, KEY, 1);
    cm_audit_entry_t entry = {.actor = "a", .action = "b"};
    cr_expect(eq(int, append(&world, "another key, as long as this", &entry), CM_MISCONFIGURED));
    cr_expect(eq(str, world.err.code, "audit-key"));
    cr_expect(eq(int, append(&world, NULL, &entry), CM_MISCONFIGURED));
    cr_expect(eq(str, world.err.code, "audit-key"));
    tear_down(&world);
}

Test(audit_log, whoever_waits_too_long_for_the_end_may_try_again)
{
    world_t world = {0};
    set_up(&world);
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *other = cm_test_connect(world.uri);
    cm_audit_entry_t entry = {.actor = "a", .action = "b"};
    cr_assert(eq(int, cm_pg_begin(other, &world.err), CM_OK));
    cr_assert(eq(int, cm_audit_append(other, CM_TEST_ADMIN, KEY, &entry, NULL, &world.err), CM_OK));
    cr_expect(
        eq(int, append_in(&world, "SET LOCAL lock_timeout = '50ms'", KEY, &entry), CM_TRANSIENT));
    cr_expect(eq(str, world.err.code, "55P03"));
    tear_down(&world);
}

/* ---- many at once --------------------------------------------------------------------------- */

enum { CONNECTIONS = 8, APPENDS = 200, ROLLED_BACK_EVERY = 7 };

typedef struct {
    const char *uri;
    int number, committed, failed;
} appender_t;

static void *append_at_once(void *arg)
{
    appender_t *self = arg;
    cm_error_t err = {0};
    cm_pg_t *pg = cm_test_connect(self->uri);
    for (int i = 0; i < APPENDS; i++) {
        char detail[32];
        snprintf(detail, sizeof detail, "{\"number\":%d}", i);
        cm_audit_entry_t entry = {"many", "appended", "1", self->number, detail};
        cm_status_t status = cm_pg_begin(pg, &err);
        if (status == CM_OK)
            status = cm_audit_append(pg, CM_TEST_ADMIN, KEY, &entry, NULL, &err);
        bool give_up = i % ROLLED_BACK_EVERY == 0;
        if (status == CM_OK && !give_up)
            status = cm_pg_commit(pg, &err);
        if (status != CM_OK || give_up)
            cm_pg_rollback(pg);
        self->failed += status != CM_OK;
        self->committed += status == CM_OK && !give_up;
    }
    cm_pg_destroy(&pg);
    return NULL;
}

Test(audit_log, appends_of_eight_connections_leave_no_gap, .timeout = 180)
{
    world_t world = {0};
    set_up(&world);
    pthread_t threads[CONNECTIONS];
    appender_t appenders[CONNECTIONS];
    int64_t committed = 0;
    for (int i = 0; i < CONNECTIONS; i++) {
        appenders[i] = (appender_t){.uri = world.uri, .number = i + 1};
        cr_assert(eq(int, pthread_create(&threads[i], NULL, append_at_once, &appenders[i]), 0));
    }
    for (int i = 0; i < CONNECTIONS; i++) {
        pthread_join(threads[i], NULL);
        cr_expect(eq(int, appenders[i].failed, 0));
        committed += appenders[i].committed;
    }
    cr_expect(gt(i64, committed, 0));
    verify(&world, KEY, (cm_audit_verify_t){0});
    expect_fault(&world, CM_AUDIT_INTACT, 0);
    cr_expect(eq(i64, world.report.rows, committed));
    cr_expect(eq(i64, world.report.head.position, committed));
    cr_expect(eq(i64, world.report.clock_back, 0));
    tear_down(&world);
}

/* ---- what the table refuses ----------------------------------------------------------------- */

static void expect_refused(world_t *self, const char *sql, const char *code)
{
    cr_expect(ne(int, cm_pg_exec(self->pg, sql, &self->err), CM_OK), "%s", sql);
    cr_expect(eq(str, self->err.code, (char *)code), "%s", sql);
}

Test(audit_log, nobody_changes_a_row_not_even_a_superuser)
{
    world_t world = {0};
    set_up(&world);
    append_many(&world, KEY, 2);
    cm_test_sql(world.pg, "SET session_replication_role = replica");
    expect_refused(&world, "UPDATE " TABLE " SET actor = 'x'", "42501");
    expect_refused(&world, "UPDATE " TABLE " SET actor = 'x' WHERE false", "42501");
    expect_refused(&world, "DELETE FROM " TABLE " WHERE position = 2", "42501");
    expect_refused(&world, "TRUNCATE " TABLE, "42501");
    expect_refused(&world,
                   "INSERT INTO " TABLE " SELECT * FROM " TABLE
                   " ON CONFLICT (position) DO UPDATE SET actor = 'x'",
                   "42501");
    verify(&world, KEY, (cm_audit_verify_t){0});
    expect_fault(&world, CM_AUDIT_INTACT, 0);
    tear_down(&world);
}

Test(audit_log, a_row_is_added_by_hand_at_the_end_or_not_at_all)
{
    world_t world = {0};
    set_up(&world);
    append_many(&world, KEY, 2);
    expect_refused(&world,
                   "INSERT INTO " TABLE " (position, at, actor, action, tenant, generation, detail,"
                   " key_id, previous_hash, hash) SELECT 4, at, actor, action, tenant, generation,"
                   " detail, key_id, hash, hash FROM " TABLE " WHERE position = 2",
                   "23514");
    expect_refused(&world,
                   "INSERT INTO " TABLE " (position, at, actor, action, tenant, generation, detail,"
                   " key_id, previous_hash, hash) SELECT 3, at, actor, action, tenant, generation,"
                   " detail, key_id, previous_hash, hash FROM " TABLE " WHERE position = 2",
                   "23514");
    tear_down(&world);
}

/* ---- each ----------------------------------------------------------------------------------- */

typedef struct {
    char positions[64];
    int left;
} seen_t;

static bool see(void *ctx, const cm_audit_row_t *row)
{
    seen_t *self = ctx;
    size_t len = strlen(self->positions);
    snprintf(self->positions + len, sizeof self->positions - len, "%" PRId64 " ", row->position);
    return --self->left > 0;
}

static void expect_each(world_t *self, cm_audit_filter_t filter, int most, const char *positions)
{
    seen_t seen = {.left = most};
    cr_assert(
        eq(int, cm_audit_each(self->pg, CM_TEST_ADMIN, &filter, see, &seen, &self->err), CM_OK),
        "%s", self->err.message);
    cr_expect(eq(str, seen.positions, (char *)positions));
}

Test(audit_log, each_filter_narrows_what_is_read)
{
    world_t world = {0};
    set_up(&world);
    fill(&world, 4); /* at 1 s, 2 s, ... */
    cm_test_sql(world.pg, "UPDATE " TABLE " SET tenant = '8' WHERE position = 2");
    cm_test_sql(world.pg, "UPDATE " TABLE " SET action = 'else' WHERE position >= 3");
    expect_each(&world, (cm_audit_filter_t){0}, 9, "1 2 3 4 ");
    expect_each(&world, (cm_audit_filter_t){.newest_first = true, .limit = 2}, 9, "4 3 ");
    expect_each(&world, (cm_audit_filter_t){.tenant = "8"}, 9, "2 ");
    expect_each(&world, (cm_audit_filter_t){.tenant = "7", .action = "else"}, 9, "3 4 ");
    expect_each(&world, (cm_audit_filter_t){.since_ms = 2000, .until_ms = 4000}, 9, "2 3 ");
    expect_each(
        &world,
        (cm_audit_filter_t){.tenant = "7", .action = "filled", .since_ms = 1, .until_ms = 1001}, 9,
        "1 ");
    tear_down(&world);
}

Test(audit_log, reading_ends_when_the_reader_has_enough)
{
    world_t world = {0};
    set_up(&world);
    fill(&world, 4);
    expect_each(&world, (cm_audit_filter_t){0}, 2, "1 2 ");
    expect_each(&world, (cm_audit_filter_t){0}, 9, "1 2 3 4 ");
    tear_down(&world);
}

/* ---- who tells it --------------------------------------------------------------------------- */

Test(audit_log, each_new_generation_of_a_tenant_is_told)
{
    world_t world = {0};
    set_up(&world);
    cm_tenant_change_t change;
    cm_audit_trail_t audit = {.actor = "a test"};
    static const int64_t times[] = {1000, 1000, 1500, 3000}; /* deleted before the last */
    static const int64_t positions[] = {1, 0, 0, 5};
    for (size_t i = 0; i < CM_LENGTH(times); i++) {
        if (i == 3)
            cm_test_delete(world.pg, "42", 2000);
        cr_assert(eq(int,
                     cm_tenant_schema_activate(world.pg, CM_TEST_ADMIN, "42", "", times[i], &audit,
                                               &change, &world.err),
                     CM_OK));
        cr_expect(eq(i64, audit.head.position, positions[i]));
    }
    CM_CLEANUP(cm_free)
    char *rows = cm_test_rows(world.pg, "SELECT actor, action, tenant, generation,"
                                        " detail->>'event_ms' FROM " CM_TEST_ADMIN ".audit_log"
                                        " WHERE action = 'tenant-activated' ORDER BY position");
    cr_expect(
        eq(str, rows, "a test|tenant-activated|42|1|1000\na test|tenant-activated|42|2|3000"));
    tear_down(&world);
}
