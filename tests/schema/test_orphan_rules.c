/* What keeps the orphan deletion from a tenant: guard, age, dry run, rules. */
#include "tests/schema/orphan_case.h"

TestSuite(orphan_rules, .timeout = 60, .fini = cm_test_database_drop);

/* ---- guard, age, dry run -------------------------------------------------------------------- */

Test(orphan_rules, the_guard_stops_a_tenant_of_which_too_much_would_go)
{
    orphan_world_t world = {0};
    set_up(&world);
    put_devices(&world, 120, 30);
    RUNS(CM_PERMANENT);
    cr_expect(eq(str, world.base.err.code, "orphan-guard"));
    cr_expect(
        eq(str, world.base.err.message, "30 of 120 devices would go, at most 20 % may in a run"));
    cr_expect(world.result.guarded);
    cr_expect(eq(i64, world.result.deleted, 0));
    world.options.force = true;
    RUNS(CM_OK);
    cr_expect(eq(i64, world.result.deleted, 30));
    tear_down(&world);
}

Test(orphan_rules, the_guard_lets_go_what_is_exactly_its_share)
{
    orphan_world_t world = {0};
    set_up(&world);
    put_devices(&world, 150, 30);
    RUNS(CM_OK);
    cr_expect(eq(i64, world.result.deleted, 30));
    tear_down(&world);
}

Test(orphan_rules, the_guard_does_not_mind_a_small_tenant)
{
    orphan_world_t world = {0};
    set_up(&world);
    put_devices(&world, 100, 100);
    RUNS(CM_OK);
    cr_expect(eq(i64, world.result.deleted, 100));
    tear_down(&world);
}

static bool age_all(void *ctx)
{
    orphan_world_t *self = ctx;
    cm_test_sql(self->base.other,
                "UPDATE tenant_a.devices SET created_at = now() - interval '40 days'");
    return true;
}

Test(orphan_rules, the_guard_holds_when_orphans_become_more_after_the_count)
{
    orphan_world_t world = {0};
    set_up(&world);
    put_devices(&world, 120, 12);
    world.options.batch_max = 10;
    world.on_pace = age_all;
    RUNS(CM_PERMANENT);
    cr_expect(eq(str, world.base.err.code, "orphan-guard"));
    cr_expect(eq(i64, world.result.deleted, 20));
    tear_down(&world);
}

Test(orphan_rules, an_age_below_a_day_needs_force)
{
    orphan_world_t world = {0};
    set_up(&world);
    put_device(&world, "hours", 0.5);
    world.options.age_s = CM_ORPHAN_DAY_S - 1;
    RUNS(CM_MISCONFIGURED);
    cr_expect(eq(str, world.base.err.code, "orphan-age"));
    LEFT("hours");
    world.options.age_s = 3600;
    world.options.force = true;
    RUNS(CM_OK);
    LEFT("");
    tear_down(&world);
}

Test(orphan_rules, a_dry_run_counts_and_says_what_the_guard_would)
{
    orphan_world_t world = {0};
    set_up(&world);
    put_devices(&world, 120, 30);
    world.options.dry_run = true;
    RUNS(CM_OK);
    cr_expect(eq(i64, world.result.devices, 120));
    cr_expect(eq(i64, world.result.orphans, 30));
    cr_expect(world.result.guarded);
    cr_expect(eq(i64, world.result.deleted, 0));
    cr_expect(eq(int, world.fences, 0));
    tear_down(&world);
}

/* ---- rules ---------------------------------------------------------------------------------- */

Test(orphan_rules, tenants_excluded_by_table_or_by_list_are_not_touched)
{
    orphan_world_t world = {0};
    set_up(&world);
    put_device(&world, "old", 40);
    load_rules(&world, (const char *[]){"zebra", "a"}, 2);
    RUNS(CM_OK);
    cr_expect(world.result.excluded);
    load_rules(&world, NULL, 0);
    cm_test_sql(world.base.other,
                "INSERT INTO " CM_TEST_ADMIN ".orphan_rules (tenant, excluded) VALUES ('a', true)");
    load_rules(&world, NULL, 0);
    RUNS(CM_OK);
    cr_expect(world.result.excluded);
    LEFT("old");
    tear_down(&world);
}

Test(orphan_rules, a_listed_id_is_taken_in_any_form)
{
    orphan_world_t world = {0};
    set_up(&world);
    load_rules(&world, (const char *[]){"0A000000-0000-4000-8000-00000000000F"}, 1);
    cr_expect(cm_orphan_rules_excludes(world.rules, "0a00000000004000800000000000000f"));
    cr_expect(not(cm_orphan_rules_excludes(world.rules, "a")));
    tear_down(&world);
}

Test(orphan_rules, a_tenant_can_have_an_age_of_its_own)
{
    orphan_world_t world = {0};
    set_up(&world);
    put_device(&world, "days4", 4);
    put_device(&world, "days2", 2);
    cm_test_sql(world.base.other,
                "INSERT INTO " CM_TEST_ADMIN ".orphan_rules (tenant, age_days) VALUES ('a', 3)");
    load_rules(&world, NULL, 0);
    RUNS(CM_OK);
    LEFT("days2");
    tear_down(&world);
}

Test(orphan_rules, rules_that_cannot_be_read_stop_the_job)
{
    orphan_world_t world = {0};
    cm_orphan_rules_t *rules = NULL;
    set_up(&world);
    cm_error_t *err = &world.base.err;
    cr_expect(eq(int,
                 cm_orphan_rules_load(world.base.pg, CM_TEST_ADMIN, (const char *[]){"no id!"}, 1,
                                      &rules, err),
                 CM_MISCONFIGURED));
    cr_expect(eq(str, err->code, "orphan-rules"));
    cm_test_sql(world.base.other, "DROP TABLE " CM_TEST_ADMIN ".orphan_rules");
    cr_expect(eq(int, cm_orphan_rules_load(world.base.pg, CM_TEST_ADMIN, NULL, 0, &rules, err),
                 CM_MISCONFIGURED));
    cr_expect(eq(str, err->code, "orphan-rules"));
    cm_pg_close(world.base.pg);
    cr_expect(eq(int, cm_orphan_rules_load(world.base.pg, CM_TEST_ADMIN, NULL, 0, &rules, err),
                 CM_UNAVAILABLE));
    cr_expect(eq(ptr, rules, NULL));
    tear_down(&world);
}
