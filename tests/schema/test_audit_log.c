#include "runtime/cleanup.h"
#include "schema/audit_log.h"
#include "schema/sql.h"
#include "tests/support/schema_fixture.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

TestSuite(audit_log, .timeout = 60, .fini = cm_test_database_drop);

#define KEY   "a key of the tests, long enough"
#define TABLE CM_TEST_ADMIN ".audit_log"

typedef struct {
    char uri[CM_TEST_URI_MAX];
    cm_pg_t *pg;
    cm_error_t err;
    cm_audit_head_t head;
    cm_audit_report_t report;
} world_t;

static void set_up(world_t *self)
{
    self->pg = cm_test_admin(self->uri);
}

static void tear_down(world_t *self)
{
    cm_pg_destroy(&self->pg);
}

static cm_status_t append_in(world_t *self, const char *isolation, const char *key,
                             const cm_audit_entry_t *entry)
{
    cm_status_t status = cm_pg_begin(self->pg, &self->err);
    if (status == CM_OK)
        status = cm_pg_exec(self->pg, isolation, &self->err);
    if (status == CM_OK)
        status = cm_audit_append(self->pg, CM_TEST_ADMIN, key, entry, &self->head, &self->err);
    if (status == CM_OK)
        status = cm_pg_commit(self->pg, &self->err);
    if (status != CM_OK)
        cm_pg_rollback(self->pg);
    return status;
}

static cm_status_t append(world_t *self, const char *key, const cm_audit_entry_t *entry)
{
    return append_in(self, "SET TRANSACTION ISOLATION LEVEL READ COMMITTED", key, entry);
}

static void append_many(world_t *self, const char *key, int count)
{
    for (int i = 0; i < count; i++) {
        char tenant[16], detail[32];
        snprintf(tenant, sizeof tenant, "%d", i);
        snprintf(detail, sizeof detail, "{\"number\":  %d}", i);
        cm_audit_entry_t entry = {"a test", "tested", tenant, i, detail};
        cr_assert(eq(int, append(self, key, &entry), CM_OK), "%s", self->err.message);
    }
}

static void verify(world_t *self, const char *key, cm_audit_verify_t how)
{
    cr_assert(eq(int,
                 cm_audit_verify(self->pg, CM_TEST_ADMIN, key, &how, &self->report, &self->err),
                 CM_OK),
              "%s", self->err.message);
}

static void expect_fault(world_t *self, cm_audit_fault_t fault, int64_t position)
{
    cr_expect(eq(str, (char *)cm_audit_fault_name(self->report.fault),
                 (char *)cm_audit_fault_name(fault)));
    cr_expect(eq(i64, self->report.position, position));
}

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

/* ---- verify --------------------------------------------------------------------------------- */

Test(audit_log, an_empty_log_is_intact)
{
    world_t world = {0};
    set_up(&world);
    verify(&world, KEY, (cm_audit_verify_t){0});
    expect_fault(&world, CM_AUDIT_INTACT, 0);
    cr_expect(eq(i64, world.report.rows, 0));
    tear_down(&world);
}

Test(audit_log, a_log_that_is_not_there_is_missing)
{
    world_t world = {0};
    set_up(&world);
    cm_audit_verify_t how = {0};
    cr_expect(eq(int, cm_audit_verify(world.pg, "elsewhere", KEY, &how, &world.report, &world.err),
                 CM_MISSING));
    cr_expect(eq(str, world.err.code, "42P01"));
    tear_down(&world);
}

Test(audit_log, verify_tells_the_head_that_append_told)
{
    world_t world = {0};
    set_up(&world);
    append_many(&world, KEY, 5);
    verify(&world, KEY, (cm_audit_verify_t){.expected = &world.head});
    expect_fault(&world, CM_AUDIT_INTACT, 0);
    cr_expect(eq(i64, world.report.head.position, 5));
    cr_expect(eq(int, memcmp(world.report.head.hash, world.head.hash, sizeof world.head.hash), 0));
    tear_down(&world);
}

static void count_progress(void *ctx, int64_t done, int64_t total)
{
    int *calls = ctx;
    *calls += done == 1000 && total == 4500;
}

/* More rows than a page; computed by cm_audit_append() would take long, so chained in SQL. */
static void fill(world_t *self, int rows)
{
    cm_test_sql(self->pg, "ALTER TABLE " TABLE " DISABLE TRIGGER ALL");
    cm_test_sql(self->pg,
                "DO $$ DECLARE previous bytea := decode(repeat('00', 32), 'hex'); fields bytea[]; "
                "field bytea;"
                " encoded bytea; BEGIN FOR p IN 1..%d LOOP"
                " fields := ARRAY['client-manager audit 1', p::text::bytea, (p * "
                "1000000::bigint)::text::bytea,"
                " 'filler', 'filled', '7', '1', '{}', '', previous]; encoded := '';"
                " FOREACH field IN ARRAY fields LOOP encoded := encoded || int4send(length(field)) "
                "|| field;"
                " END LOOP;"
                " INSERT INTO " TABLE
                " VALUES (p, to_timestamp(p), 'filler', 'filled', '7', 1, '{}', '',"
                " previous, sha256(encoded)); previous := sha256(encoded); END LOOP; END $$",
                rows);
}

Test(audit_log, a_log_of_several_pages_is_verified_to_its_end)
{
    world_t world = {0};
    int calls = 0;
    set_up(&world);
    fill(&world, 4500);
    verify(&world, NULL, (cm_audit_verify_t){.on_progress = count_progress, .ctx = &calls});
    expect_fault(&world, CM_AUDIT_INTACT, 0);
    cr_expect(eq(i64, world.report.rows, 4500));
    cr_expect(eq(i64, world.report.unkeyed, 4500));
    cr_expect(eq(int, calls, 1));
    cm_test_sql(world.pg, "DELETE FROM " TABLE " WHERE position = 2001");
    verify(&world, NULL, (cm_audit_verify_t){0});
    expect_fault(&world, CM_AUDIT_GAP, 2001);
    tear_down(&world);
}

/* ---- tampering ------------------------------------------------------------------------------ */

typedef struct {
    const char *what, *sql; /* @schema@: of the copy that is tampered with */
    cm_audit_fault_t fault;
    int64_t position;
} tampering_t;

/* clang-format off */
#define ALL "actor, action, tenant, generation, detail, key_id, at, previous_hash, hash"
static const tampering_t tamperings[] = {
    {"actor", "UPDATE @schema@.audit_log SET actor = 'x' WHERE position = 4", CM_AUDIT_HASH, 4},
    {"action", "UPDATE @schema@.audit_log SET action = 'x' WHERE position = 1", CM_AUDIT_HASH, 1},
    {"tenant", "UPDATE @schema@.audit_log SET tenant = '77' WHERE position = 9", CM_AUDIT_HASH, 9},
    {"generation", "UPDATE @schema@.audit_log SET generation = 0 WHERE position = 4", CM_AUDIT_HASH, 4},
    {"spaces of the detail", "UPDATE @schema@.audit_log SET detail = '{\"number\": 3}' WHERE position = 4",
     CM_AUDIT_HASH, 4},
    {"a microsecond", "UPDATE @schema@.audit_log SET at = at + interval '1 microsecond' WHERE position = 4",
     CM_AUDIT_HASH, 4},
    {"a time without end", "UPDATE @schema@.audit_log SET at = 'infinity' WHERE position = 4", CM_AUDIT_HASH, 4},
    {"hash", "UPDATE @schema@.audit_log SET hash = sha256('x') WHERE position = 4", CM_AUDIT_HASH, 4},
    {"previous hash", "UPDATE @schema@.audit_log SET previous_hash = sha256('x') WHERE position = 4",
     CM_AUDIT_PREVIOUS, 4},
    {"key taken off", "UPDATE @schema@.audit_log SET key_id = '' WHERE position = 4", CM_AUDIT_UNKEYED, 4},
    {"other key", "UPDATE @schema@.audit_log SET key_id = '0123456789abcdef' WHERE position = 4", CM_AUDIT_KEY, 4},
    {"no tenant", "ALTER TABLE @schema@.audit_log ALTER tenant DROP NOT NULL;"
     "UPDATE @schema@.audit_log SET tenant = NULL WHERE position = 4", CM_AUDIT_HASH, 4},
    {"first row removed", "DELETE FROM @schema@.audit_log WHERE position = 1", CM_AUDIT_GAP, 1},
    {"row removed", "DELETE FROM @schema@.audit_log WHERE position = 5", CM_AUDIT_GAP, 5},
    {"row removed, gap closed", "DELETE FROM @schema@.audit_log WHERE position = 5;"
     "UPDATE @schema@.audit_log SET position = position - 1 WHERE position = 6;"
     "UPDATE @schema@.audit_log SET position = position - 1 WHERE position = 7;"
     "UPDATE @schema@.audit_log SET position = position - 1 WHERE position = 8;"
     "UPDATE @schema@.audit_log SET position = position - 1 WHERE position = 9", CM_AUDIT_PREVIOUS, 5},
    {"rows swapped", "UPDATE @schema@.audit_log SET position = 99 WHERE position = 3;"
     "UPDATE @schema@.audit_log SET position = 3 WHERE position = 6;"
     "UPDATE @schema@.audit_log SET position = 6 WHERE position = 99", CM_AUDIT_PREVIOUS, 3},
    {"contents swapped", "UPDATE @schema@.audit_log AS a SET actor = b.actor, tenant = b.tenant, detail = b.detail,"
     " generation = b.generation FROM @schema@.audit_log AS b WHERE (a.position, b.position) IN ((3, 6), (6, 3))",
     CM_AUDIT_HASH, 3},
    {"row inserted", "UPDATE @schema@.audit_log SET position = position + 100 WHERE position > 4;"
     "UPDATE @schema@.audit_log SET position = position - 99 WHERE position > 100;"
     "INSERT INTO @schema@.audit_log (position, " ALL ") SELECT 5, 'x', action, tenant, generation, detail, key_id,"
     " at, hash, sha256('x') FROM @schema@.audit_log WHERE position = 4", CM_AUDIT_HASH, 5},
    {"row added at the end", "INSERT INTO @schema@.audit_log (position, " ALL ") SELECT 10, 'x', action, tenant,"
     " generation, detail, key_id, at, hash, sha256('x') FROM @schema@.audit_log WHERE position = 9",
     CM_AUDIT_HASH, 10},
    {"row doubled", "ALTER TABLE @schema@.audit_log DROP CONSTRAINT audit_log_pkey;"
     "INSERT INTO @schema@.audit_log SELECT * FROM @schema@.audit_log WHERE position = 4", CM_AUDIT_ORDER, 4},
    {"row put back", "INSERT INTO @schema@.audit_log (position, " ALL ") SELECT 10, " ALL " FROM @schema@.audit_log"
     " WHERE position = 9; DELETE FROM @schema@.audit_log WHERE position = 9", CM_AUDIT_GAP, 9},
};
/* clang-format on */

Test(audit_log, every_tampering_is_found_where_it_is, .timeout = 120)
{
    world_t world = {0};
    set_up(&world);
    append_many(&world, KEY, 9);
    cm_test_sql(world.pg, "ALTER TABLE " TABLE " DISABLE TRIGGER ALL");
    for (size_t i = 0; i < CM_LENGTH(tamperings); i++) {
        const tampering_t *now = &tamperings[i];
        cm_test_sql(world.pg, "DROP SCHEMA IF EXISTS tampered CASCADE");
        cm_test_sql(world.pg, "CREATE SCHEMA tampered");
        cm_test_sql(world.pg, "CREATE TABLE tampered.audit_log (LIKE " TABLE " INCLUDING ALL)");
        cm_test_sql(world.pg, "INSERT INTO tampered.audit_log SELECT * FROM " TABLE);
        cr_assert(eq(int, cm_sql_exec(world.pg, now->sql, "tampered", &world.err), CM_OK), "%s: %s",
                  now->what, world.err.message);
        cm_audit_verify_t how = {0};
        cr_assert(eq(int,
                     cm_audit_verify(world.pg, "tampered", KEY, &how, &world.report, &world.err),
                     CM_OK),
                  "%s: %s", now->what, world.err.message);
        cr_expect(eq(int, world.report.fault, now->fault), "%s: %s", now->what,
                  cm_audit_fault_name(world.report.fault));
        cr_expect(eq(i64, world.report.position, now->position), "%s", now->what);
    }
    tear_down(&world);
}

Test(audit_log, a_cut_off_end_is_found_by_a_head_from_elsewhere)
{
    world_t world = {0};
    set_up(&world);
    append_many(&world, KEY, 9);
    cm_test_sql(world.pg, "ALTER TABLE " TABLE " DISABLE TRIGGER ALL");
    cm_test_sql(world.pg, "DELETE FROM " TABLE " WHERE position > 6");
    verify(&world, KEY, (cm_audit_verify_t){0});
    expect_fault(&world, CM_AUDIT_INTACT, 0);
    verify(&world, KEY, (cm_audit_verify_t){.expected = &world.head});
    expect_fault(&world, CM_AUDIT_TRUNCATED, 7);
    cm_test_sql(world.pg, "TRUNCATE " TABLE);
    verify(&world, KEY, (cm_audit_verify_t){.expected = &world.head});
    expect_fault(&world, CM_AUDIT_TRUNCATED, 1);
    tear_down(&world);
}

/* Whoever has the key, or a log without one, can write another history; a head tells. */
Test(audit_log, another_history_is_found_by_a_head_from_elsewhere)
{
    world_t world = {0};
    set_up(&world);
    append_many(&world, KEY, 4);
    cm_audit_head_t old = world.head;
    cm_test_sql(world.pg, "ALTER TABLE " TABLE " DISABLE TRIGGER ALL");
    cm_test_sql(world.pg, "TRUNCATE " TABLE);
    append_many(&world, KEY, 9);
    verify(&world, KEY, (cm_audit_verify_t){.expected = &old});
    expect_fault(&world, CM_AUDIT_ANCHOR, 4);
    tear_down(&world);
}

Test(audit_log, a_wrong_key_is_found_in_the_first_row)
{
    world_t world = {0};
    set_up(&world);
    append_many(&world, KEY, 3);
    verify(&world, "another key, as long as this", (cm_audit_verify_t){0});
    expect_fault(&world, CM_AUDIT_KEY, 1);
    verify(&world, NULL, (cm_audit_verify_t){0});
    expect_fault(&world, CM_AUDIT_KEY, 1);
    tear_down(&world);
}

Test(audit_log, a_log_begun_without_key_goes_on_with_one)
{
    world_t world = {0};
    set_up(&world);
    append_many(&world, NULL, 3);
    append_many(&world, KEY, 2);
    verify(&world, KEY, (cm_audit_verify_t){.unkeyed_until = 3});
    expect_fault(&world, CM_AUDIT_INTACT, 0);
    cr_expect(eq(i64, world.report.rows, 5));
    cr_expect(eq(i64, world.report.unkeyed, 3));
    tear_down(&world);
}

Test(audit_log, a_log_without_key_does_not_pass_for_one_with)
{
    world_t world = {0};
    set_up(&world);
    append_many(&world, NULL, 3);
    verify(&world, NULL, (cm_audit_verify_t){0});
    expect_fault(&world, CM_AUDIT_INTACT, 0);
    verify(&world, KEY, (cm_audit_verify_t){0});
    expect_fault(&world, CM_AUDIT_UNKEYED, 1);
    verify(&world, KEY, (cm_audit_verify_t){.unkeyed_until = 2});
    expect_fault(&world, CM_AUDIT_UNKEYED, 3);
    tear_down(&world);
}

/* Made by somebody who has the key, or by a server whose clock was set back: no fault of the chain.
 */
Test(audit_log, a_clock_that_was_set_back_is_told)
{
    world_t world = {0};
    set_up(&world);
    fill(&world, 3);
    cm_test_sql(world.pg, "UPDATE " TABLE " SET at = to_timestamp(1) WHERE position = 3");
    cm_test_sql(
        world.pg,
        "UPDATE " TABLE " SET hash = sha256((SELECT string_agg(int4send(length(f)) || f, ''"
        " ORDER BY n) FROM unnest(ARRAY['client-manager audit 1', '3', '1000000', 'filler',"
        " 'filled', '7', '1', '{}', '', previous_hash]::bytea[]) WITH ORDINALITY AS t(f, n)))"
        " WHERE position = 3");
    verify(&world, NULL, (cm_audit_verify_t){0});
    expect_fault(&world, CM_AUDIT_INTACT, 0);
    cr_expect(eq(i64, world.report.clock_back, 1));
    cr_expect(eq(i64, world.report.clock_back_position, 3));
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
