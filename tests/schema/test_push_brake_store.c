/* Brakes on a real PostgreSQL: what they hold and take back, and what an operator decides. */
#include "schema/push_brake_store.h"
#include "tests/schema/verdict_case.h"

TestSuite(push_brake, .timeout = 60, .fini = cm_test_database_drop);

#define HELD                                                                                       \
    "SELECT client_id, provider, push_token, (extract(epoch FROM verdict_at) * 1000)::bigint"      \
    " FROM tenant_a.push_verdicts_held WHERE held ORDER BY 1, 2"

static void expect_rows(verdict_world_t *world, const char *sql, const char *expected)
{
    CM_CLEANUP(cm_free) char *rows = cm_test_rows(world->other, "%s", sql);
    cr_expect(eq(str, rows, (char *)expected));
}

static cm_token_trip_t trip(const char *provider, int64_t since_ms)
{
    return (cm_token_trip_t){.application_code = CM_STR("app"),
                             .provider = provider,
                             .judged = 100,
                             .gone = 90,
                             .since_ms = since_ms};
}

static void put_on(verdict_world_t *world, const char *provider)
{
    cm_token_trip_t one = trip(provider, 60000);
    write_with(world, NULL, 0, &one, 1);
}

static cm_push_brake_step_t decide(verdict_world_t *world, const char *provider, bool applies,
                                   int64_t chunk)
{
    cm_push_brake_step_t step;
    cm_push_brake_decision_t decision = {"a", "app", provider, applies};
    cm_audit_trail_t audit = {.actor = "operator:1"};
    cr_assert(eq(int,
                 cm_push_brake_decide(world->other, CM_TEST_ADMIN, &decision, chunk, &audit, &step,
                                      &world->err),
                 CM_OK),
              "%s %s", world->err.code, world->err.message);
    return step;
}

Test(push_brake, holds_what_is_gone_and_lets_valid_ones_through)
{
    verdict_world_t world;
    verdict_set_up(&world);
    device(&world, "c1", "tok1", 10);
    device(&world, "c2", "tok2", 10);
    put_on(&world, "fcm");
    cm_token_verdict_t verdicts[] = {by_token("tok1", GONE, 20), by_client("c2", VALID, 20),
                                     by_client("nobody", GONE, 20)};
    write_many(&world, verdicts, 3);
    cr_expect(eq(int, verdicts[0].result, CM_TOKEN_HELD));
    cr_expect(eq(int, verdicts[1].result, CM_TOKEN_APPLIED));
    cr_expect(eq(int, verdicts[2].result, CM_TOKEN_STALE));
    cr_expect(verdicts[0].is_braked && !verdicts[1].is_braked && verdicts[2].is_braked);
    expect_status(&world, "c1", "-");
    expect_status(&world, "c2", "valid@20");
    expect_rows(&world, HELD, "c1|fcm|tok1|20");
    verdict_tear_down(&world);
}

Test(push_brake, is_for_its_tenant_application_and_provider_alone)
{
    verdict_world_t world;
    verdict_set_up(&world);
    cm_test_tenant(world.other, "b");
    device(&world, "c1", "tok1", 10);
    device_of_application(&world, "app2", "c1", "tok1", 10);
    cm_test_sql(world.other,
                "INSERT INTO tenant_b.devices (application_code, client_id, push_at, push_token)"
                " VALUES ('app', 'c1', to_timestamp(0.010), 'tok1')");
    put_on(&world, "fcm");
    cm_token_verdict_t mine[] = {by_client("c1", GONE, 20), by_client("c1", GONE, 20)};
    mine[0].application_code = CM_STR("app2");
    mine[1].provider = "";
    cm_token_verdict_t other = by_client("c1", GONE, 20);
    cm_token_tenant_t tenants[] = {{.tenant = "a", .verdicts = mine, .count = 2},
                                   {.tenant = "b", .verdicts = &other, .count = 1}};
    cr_assert(eq(int, cm_token_status_store_write(world.store, tenants, 2, &world.err), CM_OK));
    cr_expect(eq(int, mine[0].result, CM_TOKEN_APPLIED));
    cr_expect(eq(int, mine[1].result, CM_TOKEN_APPLIED));
    cr_expect(eq(int, other.result, CM_TOKEN_APPLIED));
    verdict_tear_down(&world);
}

Test(push_brake, holds_one_verdict_of_a_device_the_newest)
{
    verdict_world_t world;
    verdict_set_up(&world);
    device(&world, "c1", "tok1", 10);
    put_on(&world, "fcm");
    cr_expect(eq(int, write_one(&world, by_client("c1", GONE, 20)), CM_TOKEN_HELD));
    cr_expect(eq(int, write_one(&world, by_client("c1", GONE, 20)), CM_TOKEN_DUPLICATE));
    cr_expect(eq(int, write_one(&world, by_client("c1", GONE, 15)), CM_TOKEN_DUPLICATE));
    cr_expect(eq(int, write_one(&world, by_client("c1", GONE, 30)), CM_TOKEN_HELD));
    expect_rows(&world, HELD, "c1|fcm|tok1|30");
    verdict_tear_down(&world);
}

Test(push_brake, of_one_batch_it_holds_the_best_unless_a_newer_valid_one_is_beside_it)
{
    verdict_world_t world;
    verdict_set_up(&world);
    device(&world, "c1", "tok1", 10);
    device(&world, "c2", "tok2", 10);
    put_on(&world, "fcm");
    cm_token_verdict_t verdicts[] = {by_client("c1", GONE, 20), by_client("c1", GONE, 30),
                                     by_client("c1", GONE, 30), by_client("c2", GONE, 20),
                                     by_client("c2", VALID, 20)};
    write_many(&world, verdicts, 5);
    cr_expect(eq(int, verdicts[0].result, CM_TOKEN_STALE));
    cr_expect(eq(int, verdicts[1].result, CM_TOKEN_HELD));
    cr_expect(eq(int, verdicts[2].result, CM_TOKEN_DUPLICATE));
    cr_expect(eq(int, verdicts[3].result, CM_TOKEN_STALE));
    cr_expect(eq(int, verdicts[4].result, CM_TOKEN_APPLIED));
    expect_rows(&world, HELD, "c1|fcm|tok1|30");
    verdict_tear_down(&world);
}

Test(push_brake, takes_back_what_was_applied_lately_when_it_goes_on)
{
    verdict_world_t world;
    verdict_set_up(&world);
    for (int i = 1; i <= 4; i++) {
        char name[8];
        snprintf(name, sizeof name, "c%d", i);
        device(&world, name, name, 10);
        write_one(&world, by_client(name, GONE, 20));
    }
    cm_test_sql(world.other, "UPDATE tenant_a.push_verdicts_held SET kept_at = now() -"
                             " interval '2 minutes' WHERE client_id = 'c2'");
    write_one(&world, by_client("c3", VALID, 30)); /* came over it */
    cm_token_trip_t one = trip("fcm", 60000);
    cm_token_verdict_t beside = by_client("c4", GONE, 40);
    write_with(&world, &beside, 1, &one, 1);
    cr_expect(one.is_new);
    cr_expect(eq(i64, one.taken_back, 2));
    cr_expect(eq(int, beside.result, CM_TOKEN_HELD));
    expect_status(&world, "c1", "-");
    expect_status(&world, "c2", "invalid@20"); /* applied before the window */
    expect_status(&world, "c3", "valid@30");
    expect_status(&world, "c4", "-");
    expect_rows(&world, HELD, "c1|fcm|c1|20\nc4|fcm|c4|40");
    verdict_tear_down(&world);
}

Test(push_brake, takes_back_the_newest_however_long_ago_they_were_applied)
{
    verdict_world_t world;
    verdict_set_up(&world);
    for (int i = 1; i <= 5; i++) {
        char name[8];
        snprintf(name, sizeof name, "c%d", i);
        device(&world, name, name, 10);
        write_one(&world, by_client(name, GONE, 20));
        cm_test_sql(world.other,
                    "UPDATE tenant_a.push_verdicts_held SET kept_at = now() - interval '%d hours'"
                    " WHERE client_id = '%s'",
                    i, name);
    }
    cm_token_trip_t one = trip("fcm", 60000);
    one.newest = 2;
    write_with(&world, NULL, 0, &one, 1);
    cr_expect(eq(i64, one.taken_back, 2));
    expect_rows(&world, HELD, "c1|fcm|c1|20\nc2|fcm|c2|20");
    verdict_tear_down(&world);
}

Test(push_brake, that_is_on_already_takes_back_what_is_left_and_is_no_new_one)
{
    verdict_world_t world;
    verdict_set_up(&world);
    device(&world, "c1", "tok1", 10);
    write_one(&world, by_client("c1", GONE, 20));
    cm_test_sql(world.other, "INSERT INTO " CM_TEST_ADMIN ".push_brakes (tenant, application_code,"
                             " provider, judged, gone) VALUES ('a', 'app', 'fcm', 1, 1)");
    cm_token_trip_t one = trip("fcm", 60000);
    write_with(&world, NULL, 0, &one, 1);
    cr_expect(not(one.is_new));
    cr_expect(eq(i64, one.taken_back, 1));
    verdict_tear_down(&world);
}

Test(push_brake, release_applies_what_is_not_stale_by_now_and_takes_it_off)
{
    verdict_world_t world;
    verdict_set_up(&world);
    static const char *const names[] = {"c1", "c2", "c3", "c4"};
    put_on(&world, "fcm");
    for (size_t i = 0; i < 4; i++) {
        device(&world, names[i], names[i], 10);
        cr_expect(eq(int, write_one(&world, by_client(names[i], GONE, 20)), CM_TOKEN_HELD));
    }
    device(&world, "c2", "anew", 30);
    write_one(&world, by_client("c3", VALID, 25));
    cm_push_brake_step_t step = decide(&world, "fcm", true, 100);
    cr_expect(step.is_over && step.was_on);
    cr_expect(eq(i64, step.taken, 4));
    cr_expect(eq(i64, step.applied, 2));
    expect_status(&world, "c1", "invalid@20");
    expect_status(&world, "c2", "-");
    expect_status(&world, "c3", "valid@25");
    expect_status(&world, "c4", "invalid@20");
    expect_rows(&world, "SELECT count(*) FROM tenant_a.push_verdicts_held", "0");
    cr_expect(eq(int, write_one(&world, by_client("c2", GONE, 40)), CM_TOKEN_APPLIED));
    verdict_tear_down(&world);
}

Test(push_brake, discard_changes_no_device)
{
    verdict_world_t world;
    verdict_set_up(&world);
    device(&world, "c1", "tok1", 10);
    put_on(&world, "fcm");
    write_one(&world, by_client("c1", GONE, 20));
    cm_push_brake_step_t step = decide(&world, "fcm", false, 100);
    cr_expect(step.is_over && step.was_on);
    cr_expect(eq(i64, step.taken, 1));
    cr_expect(eq(i64, step.applied, 0));
    expect_status(&world, "c1", "-");
    expect_rows(&world, HELD, "");
    verdict_tear_down(&world);
}

Test(push_brake, a_decision_goes_on_in_chunks_and_twice_is_as_good_as_once)
{
    enum { N = 25 };
    verdict_world_t world;
    verdict_set_up(&world);
    put_on(&world, "fcm");
    for (int i = 0; i < N; i++) {
        char name[16];
        snprintf(name, sizeof name, "c%02d", i);
        device(&world, name, name, 10);
        write_one(&world, by_client(name, GONE, 20));
    }
    cm_push_brake_step_t step = decide(&world, "fcm", true, 10);
    cr_expect(not(step.is_over));
    cr_expect(eq(i64, step.taken, 10));
    cr_expect(eq(int, write_one(&world, by_client("c00", GONE, 30)), CM_TOKEN_HELD)); /* still on */
    for (int rounds = 0; !step.is_over && rounds < 10; rounds++)
        step = decide(&world, "fcm", true, 10);
    cr_expect(step.is_over && step.was_on);
    step = decide(&world, "fcm", true, 10);
    cr_expect(step.is_over && !step.was_on);
    cr_expect(eq(i64, step.taken, 0));
    cr_expect(eq(i64,
                 cm_test_number(world.other, "SELECT count(*) FROM tenant_a.devices WHERE"
                                             " push_status = 'invalid'"),
                 N));
    expect_rows(&world,
                "SELECT action, actor, tenant, sum((detail->>'verdicts')::int),"
                " count(*) FILTER (WHERE (detail->>'over')::boolean)"
                " FROM " CM_TEST_ADMIN ".audit_log GROUP BY 1, 2, 3",
                "push-brake-released|operator:1|a|26|1");
    verdict_tear_down(&world);
}

Test(push_brake, list_and_totals_count_what_is_held_now)
{
    verdict_world_t world;
    cm_push_brake_t *brakes = NULL;
    size_t count = 0;
    int64_t on = 0, held = 0;
    verdict_set_up(&world);
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(4096);
    device(&world, "c1", "tok1", 10);
    put_on(&world, "fcm");
    put_on(&world, "");
    write_one(&world, by_client("c1", GONE, 20));
    cm_test_sql(world.other, "INSERT INTO " CM_TEST_ADMIN ".push_brakes (tenant, application_code,"
                             " provider, judged, gone) VALUES ('dropped', 'app', 'fcm', 1, 1)");
    cr_assert(
        eq(int,
           cm_push_brake_list(world.other, CM_TEST_ADMIN, "a", arena, &brakes, &count, &world.err),
           CM_OK));
    cr_assert(eq(sz, count, 2));
    cr_expect(cm_str_is(brakes[0].provider, ""));
    cr_expect(eq(i64, brakes[0].held, 0));
    cr_expect(cm_str_is(brakes[1].provider, "fcm"));
    cr_expect(eq(i64, brakes[1].held, 1));
    cr_expect(eq(i64, brakes[1].judged, 100));
    cr_expect(eq(i64, brakes[1].gone, 90));
    cr_expect(gt(i64, brakes[1].tripped_ms, 0));
    cr_assert(
        eq(int, cm_push_brake_totals(world.other, CM_TEST_ADMIN, &on, &held, &world.err), CM_OK));
    cr_expect(eq(i64, on, 3));
    cr_expect(eq(i64, held, 1));
    verdict_tear_down(&world);
}

Test(push_brake, a_decision_for_a_schema_that_is_not_there_says_so)
{
    verdict_world_t world;
    cm_push_brake_step_t step;
    cm_push_brake_decision_t decision = {"nobody", "app", "fcm", true};
    cm_audit_trail_t audit = {.actor = "operator:1"};
    verdict_set_up(&world);
    cr_expect(eq(
        int,
        cm_push_brake_decide(world.other, CM_TEST_ADMIN, &decision, 10, &audit, &step, &world.err),
        CM_MISSING));
    verdict_tear_down(&world);
}

/* ---- what is old ---------------------------------------------------------------------------- */

/* In tenant a: `old` verdicts that no brake takes back any more, one that it may, one that is held.
 */
static void note_old(verdict_world_t *world, int old)
{
    cm_test_sql(world->other,
                "INSERT INTO tenant_a.push_verdicts_held (application_code, client_id, provider,"
                " verdict_at, held, kept_at) SELECT 'app', 'old' || i, 'fcm', now(), false,"
                " now() - interval '26 hours' FROM generate_series(1, %d) AS i UNION ALL VALUES"
                " ('app', 'late', 'fcm', now(), false, now() - interval '24 hours'),"
                " ('app', 'held', 'fcm', now(), true, now() - interval '26 hours')",
                old);
}

/* How many are forgotten of the first tenant behind `after`, which must be this one. */
static int64_t prune(verdict_world_t *world, const char *after, int64_t most, const char *expected)
{
    char tenant[CM_TENANT_ID_MAX];
    int64_t forgotten = -1;
    cr_assert(eq(int,
                 cm_token_status_prune_next(world->pg, CM_TEST_ADMIN, after, most, tenant,
                                            &forgotten, &world->err),
                 CM_OK),
              "%s %s", world->err.code, world->err.message);
    cr_expect(eq(str, tenant, (char *)expected));
    return forgotten;
}

#define KEPT "SELECT client_id FROM tenant_a.push_verdicts_held ORDER BY 1"

Test(push_brake, what_was_applied_long_ago_is_forgotten_some_at_a_time)
{
    verdict_world_t world;
    verdict_set_up(&world);
    note_old(&world, 5);
    cr_expect(eq(i64, prune(&world, "", 3, "a"), 3));
    cr_expect(eq(i64, prune(&world, "", 3, "a"), 2));
    cr_expect(eq(i64, prune(&world, "", 3, "a"), 0));
    expect_rows(&world, KEPT, "held\nlate");
    verdict_tear_down(&world);
}

Test(push_brake, one_tenant_after_the_other_is_looked_at_but_for_deleted_ones)
{
    verdict_world_t world;
    verdict_set_up(&world);
    cm_test_tenant(world.other, "x1");
    cm_test_tenant(world.other, "x2");
    cm_test_delete(world.other, "x1", 5000);
    cm_test_sql(world.other, "UPDATE " CM_TEST_ADMIN ".tenants SET state = 'suspended'"
                             " WHERE id = 'x2'");
    prune(&world, "wzz", 3, "x2");
    prune(&world, "x2", 3, "");
    verdict_tear_down(&world);
}

/* A verdict that is being written may have it in hand, and other rows to come. */
Test(push_brake, what_somebody_has_locked_is_not_waited_for)
{
    verdict_world_t world;
    char tenant[CM_TENANT_ID_MAX];
    int64_t forgotten = -1;
    verdict_set_up(&world);
    note_old(&world, 2);
    cm_test_sql(world.other, "BEGIN");
    cm_test_sql(world.other, "UPDATE tenant_a.push_verdicts_held SET kept_at = now()"
                             " WHERE client_id = 'old1'");
    cr_expect(eq(i64, prune(&world, "", 10, "a"), 1));
    cm_test_sql(world.other, "COMMIT");
    expect_rows(&world, KEPT, "held\nlate\nold1");
    cm_test_sql(world.other, "BEGIN");
    cm_test_sql(world.other, "LOCK TABLE tenant_a.push_verdicts_held");
    cr_expect(eq(
        int,
        cm_token_status_prune_next(world.pg, CM_TEST_ADMIN, "", 10, tenant, &forgotten, &world.err),
        CM_TRANSIENT));
    cr_expect(eq(str, world.err.code, "55P03"));
    cr_expect(eq(str, tenant, "a"));
    cr_expect(eq(i64, forgotten, 0));
    cm_test_sql(world.other, "ROLLBACK");
    prune(&world, "", 10, "a");
    verdict_tear_down(&world);
}
