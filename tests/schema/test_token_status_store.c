/* Push verdicts on a real PostgreSQL: what each does to its rows, and what is said of it. */
#include "tests/schema/verdict_case.h"

TestSuite(token_status, .timeout = 60, .fini = cm_test_database_drop);

/* ---- one verdict, one row ------------------------------------------------------------------- */

Test(token_status, a_verdict_is_applied_then_a_duplicate_then_older_ones_are_stale)
{
    verdict_world_t world;
    verdict_set_up(&world);
    device(&world, "c1", "tok1", 10);
    cr_expect(eq(int, write_one(&world, by_client("c1", GONE, 20)), CM_TOKEN_APPLIED));
    expect_status(&world, "c1", "invalid@20");
    cr_expect(eq(int, write_one(&world, by_client("c1", GONE, 20)), CM_TOKEN_DUPLICATE));
    cr_expect(eq(int, write_one(&world, by_client("c1", GONE, 15)), CM_TOKEN_STALE));
    cr_expect(eq(int, write_one(&world, by_client("c1", VALID, 19)), CM_TOKEN_STALE));
    expect_status(&world, "c1", "invalid@20");
    cr_expect(eq(int, write_one(&world, by_client("c1", VALID, 30)), CM_TOKEN_APPLIED));
    expect_status(&world, "c1", "valid@30");
    verdict_tear_down(&world);
}

Test(token_status, at_equal_times_valid_wins_in_either_order)
{
    verdict_world_t world;
    verdict_set_up(&world);
    device(&world, "c1", "tok1", 10);
    device(&world, "c2", "tok2", 10);
    write_one(&world, by_client("c1", VALID, 20));
    cr_expect(eq(int, write_one(&world, by_client("c1", GONE, 20)), CM_TOKEN_STALE));
    write_one(&world, by_client("c2", GONE, 20));
    cr_expect(eq(int, write_one(&world, by_client("c2", VALID, 20)), CM_TOKEN_APPLIED));
    expect_status(&world, "c1", "valid@20");
    expect_status(&world, "c2", "valid@20");
    verdict_tear_down(&world);
}

Test(token_status, one_older_than_the_registration_is_stale_and_one_as_old_counts)
{
    verdict_world_t world;
    verdict_set_up(&world);
    device(&world, "c1", "tok1", 10);
    cr_expect(eq(int, write_one(&world, by_client("c1", GONE, 9)), CM_TOKEN_STALE));
    expect_status(&world, "c1", "-");
    cr_expect(eq(int, write_one(&world, by_client("c1", GONE, 10)), CM_TOKEN_APPLIED));
    expect_status(&world, "c1", "invalid@10");
    verdict_tear_down(&world);
}

Test(token_status, a_newer_registration_makes_the_status_unknown_and_the_older_verdict_stale)
{
    verdict_world_t world;
    verdict_set_up(&world);
    device(&world, "c1", "tok1", 10);
    write_one(&world, by_client("c1", GONE, 20));
    device(&world, "c1", "tok2", 30);
    expect_status(&world, "c1", "-");
    cr_expect(eq(int, write_one(&world, by_client("c1", GONE, 25)), CM_TOKEN_STALE));
    expect_status(&world, "c1", "-");
    verdict_tear_down(&world);
}

Test(token_status, a_registration_of_the_very_token_keeps_a_verdict_that_is_newer_still)
{
    verdict_world_t world;
    verdict_set_up(&world);
    device(&world, "c1", "tok1", 10);
    write_one(&world, by_token("tok1", GONE, 40));
    device(&world, "c1", "tok1", 30);
    expect_status(&world, "c1", "invalid@40");
    verdict_tear_down(&world);
}

Test(token_status, without_a_row_or_a_token_in_it_a_verdict_is_stale)
{
    verdict_world_t world;
    verdict_set_up(&world);
    device(&world, "c1", NULL, 10);
    cr_expect(eq(int, write_one(&world, by_client("c1", GONE, 20)), CM_TOKEN_STALE));
    cr_expect(eq(int, write_one(&world, by_client("nobody", GONE, 20)), CM_TOKEN_STALE));
    cr_expect(eq(int, write_one(&world, by_token("nothing", GONE, 20)), CM_TOKEN_STALE));
    expect_status(&world, "c1", "-");
    verdict_tear_down(&world);
}

/* ---- addresses ------------------------------------------------------------------------------ */

Test(token_status, with_client_id_and_token_the_row_must_hold_that_very_token)
{
    verdict_world_t world;
    verdict_set_up(&world);
    device(&world, "c1", "tok1", 10);
    cr_expect(eq(int, write_one(&world, by_both("c1", "other", GONE, 20)), CM_TOKEN_STALE));
    expect_status(&world, "c1", "-");
    cr_expect(eq(int, write_one(&world, by_both("c1", "tok1", GONE, 20)), CM_TOKEN_APPLIED));
    expect_status(&world, "c1", "invalid@20");
    verdict_tear_down(&world);
}

Test(token_status, by_token_every_row_of_the_application_that_holds_it_is_meant)
{
    verdict_world_t world;
    verdict_set_up(&world);
    device(&world, "c1", "shared", 10);
    device(&world, "c2", "shared", 30);
    device(&world, "c3", "other", 10);
    device_of_application(&world, "app2", "c1", "shared", 10);
    cr_expect(eq(int, write_one(&world, by_token("shared", GONE, 20)), CM_TOKEN_APPLIED));
    expect_status(&world, "c1", "invalid@20");
    expect_status(&world, "c2", "-"); /* registered later */
    expect_status(&world, "c3", "-");
    cr_expect(eq(i64,
                 cm_test_number(world.other, "SELECT count(*) FROM tenant_a.devices"
                                             " WHERE push_status IS NOT NULL"),
                 1));
    cr_expect(eq(int, write_one(&world, by_token("shared", GONE, 40)), CM_TOKEN_APPLIED));
    expect_status(&world, "c2", "invalid@40");
    verdict_tear_down(&world);
}

Test(token_status, a_token_as_long_as_they_come_is_found)
{
    verdict_world_t world;
    char token[4097];
    verdict_set_up(&world);
    memset(token, 'x', sizeof token - 1);
    token[sizeof token - 1] = '\0';
    device(&world, "c1", token, 10);
    cr_expect(eq(int, write_one(&world, by_token(token, GONE, 20)), CM_TOKEN_APPLIED));
    verdict_tear_down(&world);
}

Test(token_status, a_token_is_looked_for_by_its_index)
{
    verdict_world_t world;
    verdict_set_up(&world);
    cm_test_sql(
        world.other,
        "INSERT INTO tenant_a.devices (application_code, client_id, push_at, push_token)"
        " SELECT 'app', 'c' || g, to_timestamp(1), 'tok' || g FROM generate_series(1, 20000)"
        " AS g");
    cm_test_sql(world.other, "ANALYZE tenant_a.devices");
    cm_test_sql(world.pg, "SELECT pg_stat_reset()");
    for (int i = 0; i < 20; i++)
        cr_expect(eq(int, write_one(&world, by_token("tok77", VALID, 2000 + i)), CM_TOKEN_APPLIED));
    cm_test_sql(world.pg, "SELECT pg_stat_force_next_flush()");
    cr_expect(eq(i64,
                 cm_test_number(world.other, "SELECT seq_scan FROM pg_stat_user_tables WHERE"
                                             " relname = 'devices' AND schemaname = 'tenant_a'"),
                 0));
    cr_expect(ge(i64,
                 cm_test_number(world.other, "SELECT idx_scan FROM pg_stat_user_indexes WHERE"
                                             " indexrelname = 'devices_push_token'"),
                 20));
    verdict_tear_down(&world);
}

Test(token_status, updates_stay_heap_only)
{
    verdict_world_t world;
    verdict_set_up(&world);
    device(&world, "c1", "tok1", 10);
    for (int i = 0; i < 10; i++)
        write_one(&world, by_token("tok1", i % 2 ? GONE : VALID, 20 + i));
    cm_test_sql(world.pg, "SELECT pg_stat_force_next_flush()");
    char *rows =
        cm_test_rows(world.other, "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables"
                                  " WHERE relname = 'devices'");
    cr_expect(eq(str, rows, "10|10"));
    free(rows);
    verdict_tear_down(&world);
}

/* ---- many in a batch ------------------------------------------------------------------------ */

Test(token_status, of_several_about_one_row_the_newest_is_written)
{
    verdict_world_t world;
    verdict_set_up(&world);
    device(&world, "c1", "tok1", 10);
    cm_token_verdict_t verdicts[] = {by_client("c1", GONE, 20), by_token("tok1", GONE, 30),
                                     by_both("c1", "tok1", VALID, 25), by_client("c1", GONE, 30),
                                     by_client("c1", GONE, 5)};
    write_many(&world, verdicts, 5);
    cr_expect(eq(int, verdicts[0].result, CM_TOKEN_STALE));
    cr_expect(eq(int, verdicts[1].result, CM_TOKEN_APPLIED));
    cr_expect(eq(int, verdicts[2].result, CM_TOKEN_STALE));
    cr_expect(eq(int, verdicts[3].result, CM_TOKEN_DUPLICATE));
    cr_expect(eq(int, verdicts[4].result, CM_TOKEN_STALE));
    expect_status(&world, "c1", "invalid@30");
    verdict_tear_down(&world);
}

Test(token_status, tenants_go_in_one_transaction)
{
    verdict_world_t world;
    verdict_set_up(&world);
    cm_test_tenant(world.other, "b");
    device(&world, "c1", "tok1", 10);
    cm_test_sql(world.other,
                "INSERT INTO tenant_b.devices (application_code, client_id, push_at, push_token)"
                " VALUES ('app', 'c1', to_timestamp(0.010), 'tok1')");
    cm_token_verdict_t a = by_client("c1", GONE, 20), b = by_client("c1", VALID, 20);
    cm_token_tenant_t tenants[] = {{.tenant = "a", .verdicts = &a, .count = 1},
                                   {.tenant = "b", .verdicts = &b, .count = 1}};
    cr_assert(eq(int, cm_token_status_store_write(world.store, tenants, 2, &world.err), CM_OK));
    cr_expect(eq(u64, cm_token_status_store_stats(world.store).transactions, 1));
    cr_expect(eq(u64, cm_token_status_store_stats(world.store).statements, 2));
    expect_status(&world, "c1", "invalid@20");
    cr_expect(eq(i64,
                 cm_test_number(world.other, "SELECT count(*) FROM tenant_b.devices"
                                             " WHERE push_status = 'valid'"),
                 1));
    verdict_tear_down(&world);
}

/* ---- failures ------------------------------------------------------------------------------- */

Test(token_status, a_missing_schema_concerns_its_tenant_alone)
{
    verdict_world_t world;
    verdict_set_up(&world);
    device(&world, "c1", "tok1", 10);
    cm_token_verdict_t a = by_client("c1", GONE, 20), b = by_client("c1", GONE, 20);
    cm_token_tenant_t tenants[] = {{.tenant = "0", .verdicts = &b, .count = 1},
                                   {.tenant = "a", .verdicts = &a, .count = 1}};
    cr_assert(eq(int, cm_token_status_store_write(world.store, tenants, 2, &world.err), CM_OK));
    cr_expect(eq(int, a.result, CM_TOKEN_APPLIED));
    cr_expect(eq(int, b.result, CM_TOKEN_FAILED));
    cr_expect(eq(int, b.error->status, CM_MISSING));
    verdict_tear_down(&world);
}

Test(token_status, a_locked_row_concerns_its_tenant_alone)
{
    verdict_world_t world;
    verdict_set_up(&world);
    cm_test_tenant(world.other, "b");
    device(&world, "c1", "tok1", 10);
    cm_test_sql(world.pg, "SET lock_timeout = 50");
    cm_test_sql(world.other, "BEGIN");
    cm_test_sql(world.other, "LOCK TABLE tenant_b.devices");
    cm_token_verdict_t a = by_client("c1", GONE, 20), b = by_client("c1", GONE, 20);
    cm_token_tenant_t tenants[] = {{.tenant = "a", .verdicts = &a, .count = 1},
                                   {.tenant = "b", .verdicts = &b, .count = 1}};
    cr_assert(eq(int, cm_token_status_store_write(world.store, tenants, 2, &world.err), CM_OK));
    cr_expect(eq(int, a.result, CM_TOKEN_APPLIED));
    cr_expect(eq(int, b.result, CM_TOKEN_FAILED));
    cr_expect(eq(int, b.error->status, CM_TRANSIENT));
    cr_expect(eq(str, (char *)b.error->code, "55P03"));
    cm_test_sql(world.other, "ROLLBACK");
    verdict_tear_down(&world);
}

Test(token_status, a_bad_verdict_is_found_alone)
{
    enum { N = 100, BAD = 37 };
    verdict_world_t world;
    cm_token_verdict_t verdicts[N];
    char names[N][16];
    verdict_set_up(&world);
    cm_test_sql(world.other, "ALTER TABLE tenant_a.devices ADD CHECK (client_id <> 'c37' OR"
                             " push_status IS NULL)");
    for (int i = 0; i < N; i++) {
        snprintf(names[i], sizeof names[i], "c%d", i);
        device(&world, names[i], names[i], 10);
        verdicts[i] = by_client(names[i], GONE, 20);
    }
    write_many(&world, verdicts, N);
    for (int i = 0; i < N; i++)
        cr_expect(eq(int, verdicts[i].result, i == BAD ? CM_TOKEN_FAILED : CM_TOKEN_APPLIED), "%d",
                  i);
    cr_assert(eq(int, verdicts[BAD].result, CM_TOKEN_FAILED));
    cr_expect(eq(int, verdicts[BAD].error->status, CM_PERMANENT));
    cr_expect(eq(str, (char *)verdicts[BAD].error->code, "23514"));
    verdict_tear_down(&world);
}

Test(token_status, a_tenant_without_the_newest_table_concerns_itself_alone)
{
    verdict_world_t world;
    verdict_set_up(&world);
    device(&world, "c1", "tok1", 10);
    cm_test_sql(world.other, "DROP TABLE tenant_a.push_verdicts_held");
    cm_token_verdict_t verdict = by_client("c1", GONE, 20);
    write_many(&world, &verdict, 1);
    cr_expect(eq(int, verdict.result, CM_TOKEN_FAILED));
    cr_expect(eq(int, verdict.error->status, CM_MISSING));
    verdict_tear_down(&world);
}

Test(token_status, without_a_connection_nothing_is_known)
{
    verdict_world_t world;
    verdict_set_up(&world);
    cm_pg_close(world.pg);
    cm_token_verdict_t verdict = by_client("c1", GONE, 20);
    cm_token_tenant_t tenant = {.tenant = "a", .verdicts = &verdict, .count = 1};
    cr_expect(
        eq(int, cm_token_status_store_write(world.store, &tenant, 1, &world.err), CM_UNAVAILABLE));
    verdict_tear_down(&world);
}
