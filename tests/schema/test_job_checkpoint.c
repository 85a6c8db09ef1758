#include "schema/job_checkpoint.h"
#include "tests/schema/job_case.h"

TestSuite(job_checkpoint, .timeout = 30, .fini = cm_test_database_drop);

static bool is_at(world_t *world, const char *tenant, const char *text)
{
    cm_job_checkpoint_t *found = NULL;
    size_t count = 0;
    if (cm_job_checkpoints_load(world->pg, CM_TEST_ADMIN, JOB, world->arena, &found, &count,
                                &world->err) != CM_OK)
        cr_fatal("load: %s", world->err.message);
    for (size_t i = 0; i < count; i++)
        if (cm_str_is(found[i].tenant, tenant))
            return text && cm_str_is(found[i].checkpoint, text);
    return !text;
}

Test(job_checkpoint, those_of_many_tenants_are_set_and_read_at_once)
{
    world_t world = {0};
    set_up(&world);
    cm_job_checkpoint_t some[] = {{CM_STR(""), CM_STR("whole")},
                                  {CM_STR("1001"), CM_STR("a \"b\", {c}")},
                                  {CM_STR("1002"), CM_STR("NULL")}};
    cr_expect(is_at(&world, "1001", NULL));
    GOOD(cm_job_checkpoints_save(HELD, some, 3, ERR));
    some[1].checkpoint = CM_STR("later");
    GOOD(cm_job_checkpoints_save(HELD, some + 1, 1, ERR));
    GOOD(cm_job_checkpoints_save(HELD, NULL, 0, ERR));
    cr_expect(is_at(&world, "", "whole"));
    cr_expect(is_at(&world, "1001", "later"));
    cr_expect(is_at(&world, "1002", "NULL"));
    cm_str_t one;
    GOOD(cm_job_checkpoint_get(AT, JOB, "1002", world.arena, &one, ERR));
    cr_expect(cm_str_is(one, "NULL"));
    tear_down(&world);
}

Test(job_checkpoint, whoever_lost_the_lease_sets_none)
{
    world_t world = {0};
    set_up(&world);
    cm_lease_t lost = world.lease;
    take_lease(&world, "b");
    cm_job_checkpoint_t one = {CM_STR("1001"), CM_STR("stale")};
    FAILS(cm_job_checkpoints_save(AT, &lost, &one, 1, ERR), CM_PERMANENT, "lease-lost");
    cr_expect(is_at(&world, "1001", NULL));
    tear_down(&world);
}

Test(job_checkpoint, in_a_transaction_they_are_kept_with_it)
{
    world_t world = {0};
    set_up(&world);
    cm_job_checkpoint_t one = {CM_STR("1001"), CM_STR("x")};
    GOOD(cm_pg_begin(world.pg, ERR));
    GOOD(cm_job_checkpoints_save(HELD, &one, 1, ERR));
    cm_pg_rollback(world.pg);
    cr_expect(is_at(&world, "1001", NULL));
    char text[CM_JOB_CHECKPOINT_MAX + 2];
    memset(text, 'x', sizeof text);
    one.checkpoint = (cm_str_t){text, CM_JOB_CHECKPOINT_MAX + 1};
    FAILS(cm_job_checkpoints_save(HELD, &one, 1, ERR), CM_PERMANENT, "23514");
    tear_down(&world);
}
