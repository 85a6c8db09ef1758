#include "runtime/cleanup.h"
#include "schema/sql.h"
#include "tests/schema/audit_case.h"

#include <string.h>

TestSuite(audit_verify, .timeout = 60, .fini = cm_test_database_drop);

Test(audit_verify, an_empty_log_is_intact)
{
    world_t world = {0};
    set_up(&world);
    verify(&world, KEY, (cm_audit_verify_t){0});
    expect_fault(&world, CM_AUDIT_INTACT, 0);
    cr_expect(eq(i64, world.report.rows, 0));
    tear_down(&world);
}

Test(audit_verify, a_log_that_is_not_there_is_missing)
{
    world_t world = {0};
    set_up(&world);
    cm_audit_verify_t how = {0};
    cr_expect(eq(int, cm_audit_verify(world.pg, "elsewhere", KEY, &how, &world.report, &world.err),
                 CM_MISSING));
    cr_expect(eq(str, world.err.code, "42P01"));
    tear_down(&world);
}

Test(audit_verify, verify_tells_the_head_that_append_told)
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

Test(audit_verify, a_log_of_several_pages_is_verified_to_its_end)
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

Test(audit_verify, every_tampering_is_found_where_it_is, .timeout = 120)
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

Test(audit_verify, a_cut_off_end_is_found_by_a_head_from_elsewhere)
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
Test(audit_verify, another_history_is_found_by_a_head_from_elsewhere)
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

Test(audit_verify, a_wrong_key_is_found_in_the_first_row)
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

Test(audit_verify, a_log_begun_without_key_goes_on_with_one)
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

Test(audit_verify, a_log_without_key_does_not_pass_for_one_with)
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
Test(audit_verify, a_clock_that_was_set_back_is_told)
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
