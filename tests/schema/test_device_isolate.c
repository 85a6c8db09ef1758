#include "tests/schema/store_case.h"

#include <math.h>

enum { N = 2000 };

TestSuite(device_isolate, .timeout = 120, .fini = cm_test_database_drop);

typedef struct {
    cm_store_item_t *items;
    char (*names)[32];
} rows_t;

static rows_t make_rows(void)
{
    rows_t rows = {calloc(N, sizeof *rows.items), calloc(N, sizeof *rows.names)};
    for (size_t i = 0; i < N; i++)
        rows.items[i].change = device_of(client_name(rows.names[i], i), 10, "good");
    return rows;
}

static void free_rows(rows_t *rows)
{
    free(rows->items);
    free(rows->names);
}

static void refuse_bad_rows(store_world_t *world, const char *tenant)
{
    cm_test_sql(
        world->other,
        "ALTER TABLE \"tenant_%s\".devices ADD CONSTRAINT is_good CHECK (platform <> 'bad')",
        tenant);
}

/* Write N rows of which those listed are bad: they alone fail, within the budget. */
static void check_bad_rows(const size_t *bad, size_t count)
{
    store_world_t world = {0};
    store_set_up(&world);
    refuse_bad_rows(&world, "a");
    rows_t rows = make_rows();
    for (size_t i = 0; i < count; i++)
        rows.items[bad[i]].change.device[CM_DEVICE_PLATFORM] = CM_STR("bad");
    cr_assert(eq(int, write_items(&world, "a", rows.items, N), CM_OK), "%s", world.err.message);
    for (size_t i = 0, next = 0; i < N; i++) {
        bool is_bad = next < count && bad[next] == i;
        next += is_bad;
        cr_assert(eq(int, rows.items[i].result, is_bad ? CM_CHANGE_FAILED : CM_CHANGE_APPLIED),
                  "row %zu", i);
        if (!is_bad)
            continue;
        cr_expect(eq(int, rows.items[i].error->status, CM_PERMANENT));
        cr_expect(eq(str, (char *)rows.items[i].error->code, "23514"));
    }
    cr_expect(eq(i64, cm_test_number(world.other, "SELECT count(*) FROM tenant_a.devices"),
                 N - (int64_t)count));
    cm_device_store_stats_t stats = cm_device_store_stats(world.store);
    double budget = 2 * (double)count * log2(N) + 1;
    cr_expect(le(dbl, (double)(stats.statements - 1), budget), "%zu bad rows", count);
    cr_expect(eq(u64, stats.isolations, 1));
    free_rows(&rows);
    store_tear_down(&world);
}

Test(device_isolate, the_first_row_is_found)
{
    check_bad_rows((size_t[]){0}, 1);
}

Test(device_isolate, a_middle_row_is_found)
{
    check_bad_rows((size_t[]){N / 2}, 1);
}

Test(device_isolate, the_row_before_the_middle_is_found)
{
    check_bad_rows((size_t[]){N / 2 - 1}, 1);
}

Test(device_isolate, the_last_row_is_found)
{
    check_bad_rows((size_t[]){N - 1}, 1);
}

Test(device_isolate, five_rows_are_found)
{
    check_bad_rows((size_t[]){0, 1, 777, 1300, N - 1}, 5);
}

Test(device_isolate, no_row_costs_more_than_the_budget)
{
    for (size_t i = 3; i < N; i += 211)
        check_bad_rows(&i, 1);
}

Test(device_isolate, a_batch_of_only_bad_rows_rejects_each)
{
    store_world_t world = {0};
    store_set_up(&world);
    refuse_bad_rows(&world, "a");
    cm_store_item_t items[] = {{.change = device_of("c1", 1, "bad")},
                               {.change = device_of("c2", 1, "bad")},
                               {.change = device_of("c3", 1, "bad")}};
    cr_assert(eq(int, write_items(&world, "a", items, 3), CM_OK));
    for (size_t i = 0; i < 3; i++)
        cr_expect(eq(int, items[i].result, CM_CHANGE_FAILED));
    store_tear_down(&world);
}

Test(device_isolate, what_is_no_text_is_rejected_alone)
{
    store_world_t world = {0};
    store_set_up(&world);
    cm_store_item_t items[] = {{.change = device_of("c1", 1, "x")},
                               {.change = device_of("c2", 1, "\xff\xfe")},
                               {.change = device_of("c3", 1, "x")}};
    cr_assert(eq(int, write_items(&world, "a", items, 3), CM_OK));
    cr_expect(eq(int, items[0].result, CM_CHANGE_APPLIED));
    cr_expect(eq(int, items[1].result, CM_CHANGE_FAILED));
    cr_expect(eq(str, (char *)items[1].error->code, "22021"));
    cr_expect(eq(int, items[2].result, CM_CHANGE_APPLIED));
    store_tear_down(&world);
}

Test(device_isolate, a_time_that_postgresql_cannot_hold_is_rejected_alone)
{
    store_world_t world = {0};
    store_set_up(&world);
    cm_store_item_t items[] = {{.change = device_of("c1", INT64_MIN + 1, "x")},
                               {.change = device_of("c2", 1, "x")},
                               {.change = removal_of("c3", INT64_MAX)}};
    cr_assert(eq(int, write_items(&world, "a", items, 3), CM_OK));
    cr_expect(eq(int, items[0].result, CM_CHANGE_FAILED));
    cr_expect(eq(str, (char *)items[0].error->code, "22008"));
    cr_expect(eq(int, items[1].result, CM_CHANGE_APPLIED));
    cr_expect(eq(int, items[2].result, CM_CHANGE_FAILED));
    store_tear_down(&world);
}

Test(device_isolate, a_row_that_only_the_full_rule_writes_is_isolated_too)
{
    store_world_t world = {0};
    store_set_up(&world);
    cm_store_item_t items[] = {{.change = device_of("c1", 1, "a")},
                               {.change = device_of("c2", 1, "a")},
                               {.change = device_of("c3", 1, "a")}};
    cr_assert(eq(int, write_items(&world, "a", items, 3), CM_OK));
    cm_test_sql(world.other, "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS"
                             " $$ BEGIN IF new.platform = 'bad' THEN RAISE 'no'; END IF;"
                             " RETURN new; END $$");
    cm_test_sql(world.other, "CREATE TRIGGER t BEFORE UPDATE ON tenant_a.devices FOR EACH ROW"
                             " EXECUTE FUNCTION public.refuse()");
    items[0].change.device[CM_DEVICE_PLATFORM] = CM_STR("b"); /* ties, all greater */
    items[1].change.device[CM_DEVICE_PLATFORM] = CM_STR("bad");
    items[2].change.device[CM_DEVICE_PLATFORM] = CM_STR("b");
    cr_assert(eq(int, write_items(&world, "a", items, 3), CM_OK));
    cr_expect(eq(int, items[0].result, CM_CHANGE_APPLIED));
    cr_expect(eq(int, items[1].result, CM_CHANGE_FAILED));
    cr_expect(eq(str, (char *)items[1].error->code, "P0001"));
    cr_expect(eq(int, items[2].result, CM_CHANGE_APPLIED));
    store_tear_down(&world);
}

Test(device_isolate, removals_beside_a_bad_row_are_carried_out)
{
    store_world_t world = {0};
    store_set_up(&world);
    WROTE(device_of("c1", 1, "x"), CM_CHANGE_APPLIED);
    refuse_bad_rows(&world, "a");
    cm_store_item_t items[] = {{.change = removal_of("c1", 5)},
                               {.change = device_of("c2", 1, "bad")},
                               {.change = device_of("c3", 1, "x")}};
    cr_assert(eq(int, write_items(&world, "a", items, 3), CM_OK));
    cr_expect(eq(int, items[0].result, CM_CHANGE_APPLIED));
    cr_expect(eq(int, items[1].result, CM_CHANGE_FAILED));
    cr_expect(eq(int, items[2].result, CM_CHANGE_APPLIED));
    ROWS("c3", "SELECT client_id FROM tenant_a.devices");
    store_tear_down(&world);
}

Test(device_isolate, a_removed_device_beside_a_bad_row_stays_removed)
{
    store_world_t world = {0};
    store_set_up(&world);
    WROTE(removal_of("c1", 20), CM_CHANGE_APPLIED);
    refuse_bad_rows(&world, "a");
    cm_store_item_t items[] = {{.change = device_of("c1", 20, "x")},
                               {.change = device_of("c2", 1, "bad")}};
    cr_assert(eq(int, write_items(&world, "a", items, 2), CM_OK));
    cr_expect(eq(int, items[0].result, CM_CHANGE_STALE));
    ROWS("", "SELECT client_id FROM tenant_a.devices");
    store_tear_down(&world);
}

/* ---- tenants -------------------------------------------------------------------------------- */

typedef struct {
    cm_store_item_t items[5];
    cm_store_tenant_t tenants[5];
} five_t;

/* One row for each of the tenants a to e. */
static void five_tenants(store_world_t *world, five_t *five)
{
    for (int i = 0; i < 5; i++) {
        five->tenants[i] = (cm_store_tenant_t){.items = &five->items[i], .count = 1};
        five->tenants[i].tenant[0] = (char)('a' + i);
        five->items[i] = (cm_store_item_t){.change = device_of("c1", 10, "good")};
        if (i > 0)
            cm_test_tenant(world->other, five->tenants[i].tenant);
    }
}

static void expect_results(const five_t *five, const char *expected)
{
    for (size_t i = 0; i < 5; i++)
        cr_expect(eq(int, five->items[i].result,
                     expected[i] == '+' ? CM_CHANGE_APPLIED : CM_CHANGE_FAILED),
                  "tenant %zu", i);
}

Test(device_isolate, a_bad_tenant_does_not_hold_back_the_others)
{
    for (int bad = 0; bad < 5; bad++) {
        store_world_t world = {0};
        store_set_up(&world);
        five_t five;
        five_tenants(&world, &five);
        refuse_bad_rows(&world, five.tenants[bad].tenant);
        five.items[bad].change.device[CM_DEVICE_PLATFORM] = CM_STR("bad");
        cr_assert(eq(int, cm_device_store_write(world.store, five.tenants, 5, &world.err), CM_OK));
        char expected[] = "+++++";
        expected[bad] = '-';
        expect_results(&five, expected);
        store_tear_down(&world);
    }
}

Test(device_isolate, several_bad_tenants_are_told_apart)
{
    store_world_t world = {0};
    store_set_up(&world);
    five_t five;
    five_tenants(&world, &five);
    cm_test_sql(world.other, "DROP SCHEMA tenant_b CASCADE");
    cm_test_sql(world.other, "ALTER TABLE tenant_d.devices DROP COLUMN platform");
    refuse_bad_rows(&world, "e");
    five.items[4].change.device[CM_DEVICE_PLATFORM] = CM_STR("bad");
    cr_assert(eq(int, cm_device_store_write(world.store, five.tenants, 5, &world.err), CM_OK));
    expect_results(&five, "+-+--");
    cr_expect(eq(int, five.items[1].error->status, CM_MISSING));
    cr_expect(eq(int, five.items[3].error->status, CM_MISCONFIGURED));
    cr_expect(eq(str, (char *)five.items[3].error->code, "42703"));
    cr_expect(eq(int, five.items[4].error->status, CM_PERMANENT));
    store_tear_down(&world);
}

Test(device_isolate, a_missing_column_asks_to_isolate_instead_of_stopping_the_worker)
{
    store_world_t world = {0};
    store_set_up(&world);
    cm_test_sql(world.other, "ALTER TABLE tenant_a.devices DROP COLUMN platform");
    cm_store_item_t item = {.change = device_of("c1", 10, "ios")};
    cm_store_tenant_t tenant = {.tenant = "a", .items = &item, .count = 1};
    bool done = false;
    cm_status_t status = cm_device_store_begin(world.store, &tenant, 1, &world.err);
    while (status == CM_OK && !done)
        status = cm_device_store_pump(world.store, &done, &world.err);
    cr_expect(eq(int, status, CM_TRANSIENT));
    cr_expect(eq(str, world.err.code, "42703"));
    cr_assert(eq(int, cm_device_store_isolate(world.store, &world.err), CM_OK));
    cr_expect(eq(int, item.result, CM_CHANGE_FAILED));
    cr_expect(eq(int, item.error->status, CM_MISCONFIGURED));
    store_tear_down(&world);
}

Test(device_isolate, a_locked_tenant_fails_whole_and_alone)
{
    store_world_t world = {0};
    store_set_up(&world);
    five_t five;
    five_tenants(&world, &five);
    cm_test_sql(world.pg, "SET lock_timeout = 200");
    cm_test_sql(world.other, "BEGIN");
    cm_test_sql(world.other, "LOCK TABLE tenant_c.devices");
    cr_assert(eq(int, cm_device_store_write(world.store, five.tenants, 5, &world.err), CM_OK));
    expect_results(&five, "++-++");
    cr_expect(eq(int, five.items[2].error->status, CM_TRANSIENT));
    cr_expect(eq(str, (char *)five.items[2].error->code, "55P03"));
    cm_test_sql(world.other, "ROLLBACK");
    store_tear_down(&world);
}

Test(device_isolate, a_lock_is_noticed_without_waiting_and_without_a_trace)
{
    store_world_t world = {0};
    store_set_up(&world);
    cr_expect(eq(int, cm_device_store_try_lock(world.store, "a", &world.err), CM_OK));
    cm_test_sql(world.other, "BEGIN");
    cm_test_sql(world.other, "LOCK TABLE tenant_a.tombstones"); /* ours is gone */
    cr_expect(eq(int, cm_device_store_try_lock(world.store, "a", &world.err), CM_TRANSIENT));
    cr_expect(eq(str, (char *)world.err.code, "55P03"));
    cm_test_sql(world.other, "ROLLBACK");
    cr_expect(eq(int, cm_device_store_try_lock(world.store, "gone", &world.err), CM_MISSING));
    cr_expect(eq(int, cm_device_store_try_lock(world.store, "a", &world.err), CM_OK));
    store_tear_down(&world);
}

Test(device_isolate, a_commit_that_fails_is_blamed_on_the_right_tenant)
{
    store_world_t world = {0};
    store_set_up(&world);
    five_t five;
    five_tenants(&world, &five);
    cm_test_sql(world.other, "CREATE FUNCTION public.late() RETURNS trigger LANGUAGE plpgsql AS"
                             " $$ BEGIN RAISE 'too late'; END $$");
    cm_test_sql(world.other,
                "CREATE CONSTRAINT TRIGGER t AFTER INSERT ON tenant_b.devices DEFERRABLE"
                " INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.late()");
    cr_assert(eq(int, cm_device_store_write(world.store, five.tenants, 5, &world.err), CM_OK));
    expect_results(&five, "+-+++");
    cr_expect(eq(str, (char *)five.items[1].error->code, "P0001"));
    store_tear_down(&world);
}

/* ---- what passes ---------------------------------------------------------------------------- */

/* A trigger that raises the SQLSTATE for the first `times` statements, counted by a sequence, which
 * no rollback takes back. */
static void fail_at_first(store_world_t *world, const char *sqlstate, int times)
{
    cm_test_sql(world->other, "CREATE SEQUENCE public.calls");
    cm_test_sql(world->other,
                "CREATE FUNCTION public.fail() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN IF nextval('public.calls') <= %d THEN RAISE 'x' USING ERRCODE = '%s';"
                " END IF; RETURN NULL; END $$",
                times, sqlstate);
    cm_test_sql(world->other,
                "CREATE TRIGGER t BEFORE INSERT ON tenant_a.devices FOR EACH STATEMENT"
                " EXECUTE FUNCTION public.fail()");
}

Test(device_isolate, a_deadlock_is_tried_again_in_place)
{
    store_world_t world = {0};
    store_set_up(&world);
    fail_at_first(&world, "40P01", 3);
    WROTE(device_of("c1", 10, "ios"), CM_CHANGE_APPLIED);
    cr_expect(eq(i64, cm_test_number(world.other, "SELECT last_value FROM public.calls"), 4));
    store_tear_down(&world);
}

Test(device_isolate, after_three_tries_a_deadlock_is_transient)
{
    store_world_t world = {0};
    store_set_up(&world);
    fail_at_first(&world, "40P01", 100);
    cm_store_item_t items[] = {{.change = device_of("c1", 10, "ios")},
                               {.change = device_of("c2", 10, "ios")}};
    cr_assert(eq(int, write_items(&world, "a", items, 2), CM_OK));
    for (size_t i = 0; i < 2; i++) {
        cr_expect(eq(int, items[i].result, CM_CHANGE_FAILED));
        cr_expect(eq(int, items[i].error->status, CM_TRANSIENT));
    }
    cr_expect(eq(i64, cm_test_number(world.other, "SELECT last_value FROM public.calls"), 4));
    store_tear_down(&world);
}

/* Rows of this platform are refused with a fault that passes. */
static void refuse_for_now(store_world_t *world, const char *platform)
{
    cm_test_sql(world->other,
                "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
                " IF new.platform = '%s' THEN RAISE EXCEPTION 'no' USING ERRCODE = '53200'; END IF;"
                " RETURN new; END $$",
                platform);
    cm_test_sql(world->other, "CREATE TRIGGER t BEFORE INSERT OR UPDATE ON tenant_a.devices"
                              " FOR EACH ROW EXECUTE FUNCTION public.refuse()");
}

Test(device_isolate, a_passing_fault_of_one_row_takes_no_neighbour_along)
{
    store_world_t world = {0};
    store_set_up(&world);
    refuse_for_now(&world, "bad");
    for (size_t bad = 0; bad < N; bad += N - 1) {
        rows_t rows = make_rows();
        rows.items[bad].change.device[CM_DEVICE_PLATFORM] = CM_STR("bad");
        cr_assert(eq(int, write_items(&world, "a", rows.items, N), CM_OK));
        for (size_t i = 0; i < N; i++)
            cr_assert(eq(int, rows.items[i].result == CM_CHANGE_FAILED, i == bad), "row %zu", i);
        cr_expect(eq(int, rows.items[bad].error->status, CM_TRANSIENT));
        cr_expect(eq(str, (char *)rows.items[bad].error->code, "53200"));
        free_rows(&rows);
    }
    store_tear_down(&world);
}

Test(device_isolate, a_passing_fault_of_all_rows_is_not_looked_for_in_each)
{
    store_world_t world = {0};
    store_set_up(&world);
    refuse_for_now(&world, "good");
    rows_t rows = make_rows();
    cr_assert(eq(int, write_items(&world, "a", rows.items, N), CM_OK));
    for (size_t i = 0; i < N; i++) {
        cr_assert(eq(int, rows.items[i].result, CM_CHANGE_FAILED));
        cr_assert(eq(int, rows.items[i].error->status, CM_TRANSIENT));
    }
    cr_expect(lt(u64, cm_device_store_stats(world.store).statements, 20));
    free_rows(&rows);
    store_tear_down(&world);
}

Test(device_isolate, infrastructure_leaves_every_result_open)
{
    store_world_t world = {0};
    store_set_up(&world);
    fail_at_first(&world, "53100", 100);
    cm_store_item_t item = {.change = device_of("c1", 10, "ios")};
    cr_expect(eq(int, write_items(&world, "a", &item, 1), CM_UNAVAILABLE));
    cr_expect(eq(int, item.result, CM_CHANGE_PENDING));
    store_tear_down(&world);
}

Test(device_isolate, a_statement_time_out_is_halved_until_it_fits)
{
    store_world_t world = {0};
    store_set_up(&world);
    cm_test_sql(world.other, "CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS"
                             " $$ BEGIN PERFORM pg_sleep(0.01); RETURN new; END $$");
    cm_test_sql(world.other, "CREATE TRIGGER t BEFORE INSERT ON tenant_a.devices FOR EACH ROW"
                             " EXECUTE FUNCTION public.slow()");
    cm_device_store_set_patience(world.store, &(cm_device_patience_t){.statement_ms = 1000});
    cm_test_sql(world.pg, "SET statement_timeout = 1000");
    enum { ROWS_OF_160_MS = 160 };
    rows_t rows = make_rows();
    cr_assert(eq(int, write_items(&world, "a", rows.items, ROWS_OF_160_MS), CM_OK));
    for (size_t i = 0; i < ROWS_OF_160_MS; i++)
        cr_assert(eq(int, rows.items[i].result, CM_CHANGE_APPLIED));
    cr_expect(gt(u64, cm_device_store_stats(world.store).statements, 2));
    free_rows(&rows);
    store_tear_down(&world);
}

Test(device_isolate, a_tenant_that_only_times_out_takes_the_retry_path)
{
    store_world_t world = {0};
    store_set_up(&world);
    cm_test_sql(world.other, "CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS"
                             " $$ BEGIN PERFORM pg_sleep(10); RETURN NULL; END $$");
    cm_test_sql(world.other, "CREATE TRIGGER t BEFORE INSERT ON tenant_a.devices FOR EACH STATEMENT"
                             " EXECUTE FUNCTION public.slow()");
    cm_device_store_set_patience(world.store, &(cm_device_patience_t){.statement_ms = 100});
    cm_test_sql(world.pg, "SET statement_timeout = 100");
    rows_t rows = make_rows();
    cr_assert(eq(int, write_items(&world, "a", rows.items, 64), CM_OK));
    for (size_t i = 0; i < 64; i++) {
        cr_assert(eq(int, rows.items[i].result, CM_CHANGE_FAILED));
        cr_expect(eq(int, rows.items[i].error->status, CM_TRANSIENT));
    }
    cr_expect(lt(u64, cm_device_store_stats(world.store).statements, 12));
    free_rows(&rows);
    store_tear_down(&world);
}

/* c0 is refused at once, so that the time-outs of c1 to c3 come to light in the search alone. */
Test(device_isolate, rows_that_were_not_tried_are_not_to_blame)
{
    enum { ROWS_IN_ALL = 8 };
    store_world_t world = {0};
    cm_store_item_t items[ROWS_IN_ALL];
    static char ids[ROWS_IN_ALL][4];
    store_set_up(&world);
    cm_test_sql(world.other,
                "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
                " IF new.client_id = 'c0' THEN RAISE check_violation; END IF;"
                " IF new.client_id < 'c4' THEN PERFORM pg_sleep(10); END IF; RETURN new; END $$");
    cm_test_sql(world.other, "CREATE TRIGGER t BEFORE INSERT ON tenant_a.devices FOR EACH ROW"
                             " EXECUTE FUNCTION public.refuse()");
    cm_device_store_set_patience(world.store, &(cm_device_patience_t){.statement_ms = 500});
    for (int i = 0; i < ROWS_IN_ALL; i++) {
        snprintf(ids[i], sizeof ids[i], "c%d", i);
        items[i] = (cm_store_item_t){.change = device_of(ids[i], 10, "ios")};
    }
    cr_assert(eq(int, write_items(&world, "a", items, ROWS_IN_ALL), CM_OK));
    for (int i = 0; i < ROWS_IN_ALL; i++) {
        cr_assert(eq(int, items[i].result, CM_CHANGE_FAILED));
        cr_expect(eq(int, items[i].error->status, i == 0 ? CM_PERMANENT : CM_TRANSIENT), "c%d", i);
    }
    store_tear_down(&world);
}

/* Statements of this tenant never end. */
static void block_tenant(store_world_t *world, const char *tenant)
{
    cm_test_sql(world->other, "CREATE OR REPLACE FUNCTION public.block() RETURNS trigger LANGUAGE"
                              " plpgsql AS $$ BEGIN PERFORM pg_sleep(3600); RETURN NULL; END $$");
    cm_test_sql(world->other,
                "CREATE TRIGGER t BEFORE INSERT ON \"tenant_%s\".devices"
                " FOR EACH STATEMENT EXECUTE FUNCTION public.block()",
                tenant);
}

/* The connection allows it 60 s; the others must not wait for that. */
Test(device_isolate, a_tenant_on_trial_is_given_little_time_and_tried_once, .timeout = 15)
{
    store_world_t world = {0};
    store_set_up(&world);
    five_t five;
    five_tenants(&world, &five);
    block_tenant(&world, "c");
    five.tenants[2].on_trial = true;
    cm_device_store_set_patience(world.store, &(cm_device_patience_t){.trial_ms = 100});
    cr_assert(eq(int, cm_device_store_write(world.store, five.tenants, 5, &world.err), CM_OK));
    expect_results(&five, "++-++");
    cr_expect(eq(str, (char *)five.items[2].error->code, "57014"));
    cr_expect(eq(int, cm_device_store_write(world.store, five.tenants, 2, &world.err), CM_OK));
    cr_expect(eq(i64,
                 cm_test_number(world.pg, "SELECT setting FROM pg_settings"
                                          " WHERE name = 'statement_timeout'"),
                 60000));
    store_tear_down(&world);
}

Test(device_isolate, what_the_patience_does_not_suffice_for_takes_the_retry_path, .timeout = 60)
{
    store_world_t world = {0};
    store_set_up(&world);
    five_t five;
    five_tenants(&world, &five);
    for (size_t i = 1; i < 4; i++)
        block_tenant(&world, five.tenants[i].tenant);
    cm_device_store_set_patience(world.store,
                                 &(cm_device_patience_t){.statement_ms = 300, .isolate_ms = 1});
    five.tenants[1].on_trial = true; /* so that the first failure comes soon */
    cr_assert(eq(int, cm_device_store_write(world.store, five.tenants, 5, &world.err), CM_OK));
    for (size_t i = 1; i < 5; i++) {
        cr_expect(eq(int, five.items[i].result, CM_CHANGE_FAILED), "tenant %zu", i);
        cr_expect(eq(int, five.items[i].error->status, CM_TRANSIENT));
    }
    cr_expect(eq(str, (char *)five.items[4].error->code, "isolation"));
    store_tear_down(&world);
}

Test(device_isolate, a_damaged_tenant_fails_whole_and_alone)
{
    store_world_t world = {0};
    store_set_up(&world);
    five_t five;
    five_tenants(&world, &five);
    cm_test_sql(world.other,
                "CREATE FUNCTION public.damage() RETURNS trigger LANGUAGE plpgsql AS"
                " $$BEGIN RAISE EXCEPTION 'invalid page' USING ERRCODE = 'XX001'; END$$");
    cm_test_sql(world.other, "CREATE TRIGGER damage BEFORE INSERT ON tenant_c.devices"
                             " FOR EACH ROW EXECUTE FUNCTION public.damage()");
    cr_assert(eq(int, cm_device_store_write(world.store, five.tenants, 5, &world.err), CM_OK));
    expect_results(&five, "++-++");
    cr_expect(eq(int, five.items[2].error->status, CM_UNAVAILABLE));
    cr_expect(eq(str, (char *)five.items[2].error->code, "XX001"));
    store_tear_down(&world);
}
