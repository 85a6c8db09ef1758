#include "tests/integration/pg_case.h"

static int64_t prepared(world_t *world)
{
    return ask(world->pg, "SELECT count(*) FROM pg_prepared_statements");
}

Test(pg_prepared, statement_is_prepared_once, .timeout = 30)
{
    CM_CLEANUP(tear_down) world_t world = {0};
    set_up(&world, 8);
    for (int round = 0; round < 3; round++) {
        begin(&world);
        for (int i = 0; i < 5; i++)
            add_row(&world, "insert", round * 5 + i);
        cr_expect(eq(int, run(&world), CM_OK));
        cr_expect(eq(i64, prepared(&world), 1));
    }
    cr_expect(eq(
        i64, ask(world.pg, "SELECT generic_plans + custom_plans FROM pg_prepared_statements"), 15));
}

static const char *count_text(void *ctx)
{
    (*(int *)ctx)++;
    return "SELECT 'made'";
}

Test(pg_prepared, the_text_is_asked_for_only_when_it_is_needed, .timeout = 30)
{
    CM_CLEANUP(tear_down) world_t world = {0};
    set_up(&world, 8);
    int asked = 0;
    for (int i = 0; i < 3; i++) {
        begin(&world);
        cm_pg_statement_t statement = {.key = "made", .text = count_text, .ctx = &asked};
        cr_assert(eq(int, cm_pg_pipeline_add(world.pg, &statement, &world.err), CM_OK));
        cr_assert(eq(int, run(&world), CM_OK), "%s", world.err.message);
        cr_expect(eq(str, world.heard.last_value, "made"));
    }
    cr_expect(eq(int, asked, 1));
}

Test(pg_prepared, nothing_is_kept_when_none_may_be, .timeout = 30)
{
    CM_CLEANUP(tear_down) world_t world = {0};
    set_up(&world, 0);
    begin(&world);
    add_row(&world, "insert", 1);
    cr_expect(eq(int, run(&world), CM_OK));
    cr_expect(eq(i64, prepared(&world), 0));
}

static void select_number(world_t *world, int number)
{
    char key[16], sql[32];
    snprintf(key, sizeof key, "select %d", number);
    snprintf(sql, sizeof sql, "SELECT %d AS x", number);
    add(world, key, sql);
}

static void select_numbers(world_t *world, const int *numbers, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        begin(world);
        select_number(world, numbers[i]);
        cr_expect(eq(int, run(world), CM_OK));
    }
}

static bool is_prepared(world_t *world, int number)
{
    char sql[128];
    snprintf(sql, sizeof sql,
             "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'SELECT %d %%'",
             number);
    return ask(world->pg, sql) == 1;
}

Test(pg_prepared, least_recently_used_makes_room, .timeout = 30)
{
    CM_CLEANUP(tear_down) world_t world = {0};
    set_up(&world, 3);
    select_numbers(&world, (int[]){1, 2, 3}, 3);
    for (int i = 0; i < 10; i++) /* 2 is not needed for long */
        select_numbers(&world, (int[]){1, 3}, 2);
    select_numbers(&world, (int[]){4}, 1);
    cr_expect(eq(i64, prepared(&world), 3));
    cr_expect(not(is_prepared(&world, 2)));
    cr_expect(is_prepared(&world, 4));
}

Test(pg_prepared, what_is_in_use_makes_no_room, .timeout = 30)
{
    CM_CLEANUP(tear_down) world_t world = {0};
    set_up(&world, 3);
    for (int i = 0; i < 10; i++)
        select_numbers(&world, (int[]){1, 2, 3, 4}, 4);
    for (int number = 1; number <= 4; number++)
        cr_expect(eq(int, is_prepared(&world, number), number < 4));
}

Test(pg_prepared, more_statements_than_may_be_kept_run_in_one_pipeline, .timeout = 30)
{
    CM_CLEANUP(tear_down) world_t world = {0};
    set_up(&world, 3);
    for (int round = 0; round < 2; round++) {
        begin(&world);
        for (int i = 0; i < 100; i++)
            select_number(&world, i % 10);
        cr_expect(eq(int, run(&world), CM_OK), "%s", world.err.message);
        cr_expect(eq(int, world.heard.calls, 100));
        cr_expect(eq(i64, prepared(&world), 3));
    }
}

/* Wherever a pipeline breaks off, the server and we agree on what is prepared. */
Test(pg_prepared, cache_stays_true_when_pipelines_fail, .timeout = 60)
{
    CM_CLEANUP(tear_down) world_t world = {0};
    set_up(&world, 3);
    for (int bad = 0; bad <= 12; bad++) {
        begin(&world);
        for (int i = 0; i <= 12; i++)
            if (i == bad)
                add(&world, bad % 2 ? "division" : NULL, "SELECT 1 / 0");
            else
                select_number(&world, (bad + i) % 6);
        cr_expect(eq(int, run(&world), CM_PERMANENT));
        cr_expect(eq(int, world.failed, bad));
        begin(&world);
        for (int i = 0; i < 6; i++)
            select_number(&world, i);
        cr_expect(eq(int, run(&world), CM_OK), "after %d: %s", bad, world.err.message);
        cr_expect(eq(i64, prepared(&world), 3));
    }
}

Test(pg_prepared, statements_lost_by_the_server_are_prepared_again, .timeout = 30)
{
    CM_CLEANUP(tear_down) world_t world = {0};
    set_up(&world, 8);
    for (int round = 0; round < 2; round++) {
        begin(&world);
        select_number(&world, 1);
        select_number(&world, 2);
        cr_expect(eq(int, run(&world), CM_OK), "%s", world.err.message);
        cr_expect(eq(i64, prepared(&world), 2));
        must(world.pg, "DEALLOCATE ALL");
        begin(&world);
        select_number(&world, 3);
        select_number(&world, 2);
        cr_expect(eq(int, run(&world), CM_TRANSIENT));
        cr_expect(eq(str, world.err.code, "26000"));
        cr_expect(eq(int, world.failed, 1));
        cr_expect(cm_pg_is_quick_retry(world.err.code));
    }
}

Test(pg_prepared, stale_plan_is_prepared_again, .timeout = 30)
{
    CM_CLEANUP(tear_down) world_t world = {0};
    set_up(&world, 8);
    begin(&world);
    select_number(&world, 1);
    add(&world, "all", "SELECT * FROM public.t");
    cr_expect(eq(int, run(&world), CM_OK));
    must(world.other, "ALTER TABLE public.t ADD COLUMN c int");
    begin(&world);
    add(&world, "all", "SELECT * FROM public.t");
    cr_expect(eq(int, run(&world), CM_TRANSIENT));
    cr_expect(eq(str, world.err.code, "0A000"));
    cr_expect(eq(int, world.failed, 0));
    cr_expect(cm_pg_is_quick_retry(world.err.code));
    begin(&world);
    add(&world, "all", "SELECT * FROM public.t");
    cr_expect(eq(int, run(&world), CM_OK), "%s", world.err.message);
    cr_expect(eq(i64, prepared(&world), 2));
}
