#include "schema/job_store.h"
#include "tests/schema/job_case.h"

TestSuite(job_store, .timeout = 30, .fini = cm_test_database_drop);

#define IS(actual, expected) cr_expect(cm_str_is(actual, expected), "%.*s", CM_STR_ARG(actual))

Test(job_store, a_job_counts_from_when_it_is_first_seen)
{
    world_t world = {0};
    set_up(&world);
    load(&world);
    cr_expect(eq(str, world.job.name, JOB));
    cr_expect(gt(i64, world.job.schedule.last_tick_ms, 0));
    cr_expect(le(i64, world.job.schedule.last_tick_ms, world.job.schedule.now_ms));
    cr_expect(eq(i64, world.job.schedule.requested_ms, 0));
    cr_expect(eq(i64, world.job.schedule.unfinished_tick_ms, 0));
    cr_expect(not(world.job.schedule.paused));
    int64_t first = world.job.schedule.last_tick_ms;
    GOOD(cm_job_register(AT, JOB, ERR));
    load(&world);
    cr_expect(eq(i64, world.job.schedule.last_tick_ms, first));
    tear_down(&world);
}

/* Days after the job was first seen, or last run by hand. */
static int64_t last_tick_under(world_t *self, const char *schedule)
{
    cm_test_sql(self->pg, "UPDATE " CM_TEST_ADMIN ".jobs SET last_tick = '2026-11-01'");
    if (cm_job_register_schedule(self->pg, CM_TEST_ADMIN, JOB, schedule, &self->err) != CM_OK)
        cr_fatal("schedule: %s %s", self->err.code, self->err.message);
    load(self);
    return self->job.schedule.last_tick_ms;
}

Test(job_store, ticks_count_from_when_a_job_is_first_seen_with_a_schedule)
{
    world_t world = {0};
    static const int64_t then_ms = 1793491200000; /* 2026-11-01 */
    set_up(&world);
    cr_expect(eq(i64, last_tick_under(&world, ""), then_ms));
    int64_t before_ms = world.job.schedule.now_ms;
    cr_expect(ge(i64, last_tick_under(&world, "30 3 * * *"), before_ms));
    cr_expect(eq(i64, last_tick_under(&world, "30 3 * * *"), then_ms), "it is known");
    cr_expect(eq(i64, last_tick_under(&world, "0 4 * * *"), then_ms), "a change of it");
    cr_expect(eq(i64, last_tick_under(&world, ""), then_ms));
    before_ms = world.job.schedule.now_ms;
    cr_expect(ge(i64, last_tick_under(&world, "0 4 * * *"), before_ms), "after a time without");
    tear_down(&world);
}

Test(job_store, a_schedule_counts_no_ticks_from_before_a_clock_that_went_back)
{
    world_t world = {0};
    set_up(&world);
    cm_test_sql(world.pg,
                "UPDATE " CM_TEST_ADMIN ".jobs SET last_tick = clock_timestamp() + '3 days'");
    GOOD(cm_job_register_schedule(AT, JOB, "0 4 * * *", ERR));
    load(&world);
    cr_expect(gt(i64, world.job.schedule.last_tick_ms, world.job.schedule.now_ms));
    tear_down(&world);
}

Test(job_store, a_job_that_a_scheduler_sees_first_counts_from_then)
{
    world_t world = {0};
    set_up(&world);
    GOOD(cm_job_register_schedule(AT, "other", "0 4 * * *", ERR));
    GOOD(cm_job_load(AT, "other", &world.job, ERR));
    cr_expect(gt(i64, world.job.schedule.last_tick_ms, world.job.schedule.now_ms - 3600000));
    cr_expect(le(i64, world.job.schedule.last_tick_ms, world.job.schedule.now_ms));
    tear_down(&world);
}

Test(job_store, a_job_that_nobody_registered_is_not_found)
{
    world_t world = {0};
    int64_t at_ms;
    set_up(&world);
    FAILS(cm_job_load(AT, "other", &world.job, ERR), CM_PERMANENT, "not-found");
    FAILS(cm_job_pause(AT, "other", "me", ERR), CM_PERMANENT, "not-found");
    FAILS(cm_job_unpause(AT, "other", ERR), CM_PERMANENT, "not-found");
    FAILS(cm_job_request(AT, "other", "me", &at_ms, ERR), CM_PERMANENT, "not-found");
    tear_down(&world);
}

Test(job_store, a_pause_is_kept_with_who_began_it)
{
    world_t world = {0};
    set_up(&world);
    GOOD(cm_job_pause(AT, JOB, "operator:1", ERR));
    GOOD(cm_job_pause(AT, JOB, "operator:2", ERR));
    load(&world);
    cr_expect(world.job.schedule.paused);
    cr_expect(eq(str, world.job.paused_by, "operator:1"));
    tear_down(&world);
}

Test(job_store, ticks_of_a_pause_are_not_missed_when_it_ends)
{
    world_t world = {0};
    set_up(&world);
    GOOD(cm_job_count_from(HELD, 1000, ERR));
    GOOD(cm_job_pause(AT, JOB, "operator:1", ERR));
    GOOD(cm_job_unpause(AT, JOB, ERR));
    load(&world);
    cr_expect(not(world.job.schedule.paused));
    cr_expect(eq(str, world.job.paused_by, ""));
    cr_expect(gt(i64, world.job.schedule.last_tick_ms, tick_ms - 86400 * 1000ll * 3650));
    int64_t ended = world.job.schedule.last_tick_ms;
    GOOD(cm_job_count_from(HELD, 1000, ERR));
    GOOD(cm_job_unpause(AT, JOB, ERR)); /* there is none to end */
    load(&world);
    cr_expect(eq(i64, world.job.schedule.last_tick_ms, 1000));
    cr_expect(gt(i64, ended, 1000));
    tear_down(&world);
}

Test(job_store, a_request_waits_to_be_served_and_serves_a_second_one)
{
    world_t world = {0};
    int64_t first = 0, second = 0;
    set_up(&world);
    GOOD(cm_job_request(AT, JOB, "operator:1", &first, ERR));
    GOOD(cm_job_request(AT, JOB, "operator:2", &second, ERR));
    cr_expect(eq(i64, first, second));
    load(&world);
    cr_expect(eq(i64, world.job.schedule.requested_ms, first));
    cr_expect(eq(str, world.job.requested_by, "operator:1"));
    tear_down(&world);
}

Test(job_store, a_request_is_taken_by_the_run_that_serves_it)
{
    world_t world = {0};
    int64_t at_ms = 0;
    set_up(&world);
    GOOD(cm_job_request(AT, JOB, "operator:1", &at_ms, ERR));
    load(&world);
    int64_t last = world.job.schedule.last_tick_ms;
    cr_assert(begin(&world, CM_RUN_REQUESTED, at_ms));
    load(&world);
    cr_expect(eq(i64, world.job.schedule.requested_ms, 0));
    cr_expect(eq(str, world.job.requested_by, ""));
    cr_expect(eq(i64, world.job.schedule.last_tick_ms, last));
    find(&world);
    cr_expect(eq(int, world.run.kind, CM_RUN_REQUESTED));
    IS(world.run.requested_by, "operator:1");
    tear_down(&world);
}

Test(job_store, a_scheduled_run_leaves_a_request_waiting)
{
    world_t world = {0};
    int64_t at_ms = 0;
    set_up(&world);
    GOOD(cm_job_request(AT, JOB, "operator:1", &at_ms, ERR));
    cr_assert(begin(&world, CM_RUN_SCHEDULED, tick_ms));
    load(&world);
    cr_expect(eq(i64, world.job.schedule.requested_ms, at_ms));
    find(&world);
    IS(world.run.requested_by, "");
    tear_down(&world);
}

Test(job_store, a_run_that_is_to_be_cancelled_says_so)
{
    world_t world = {0};
    bool cancelled = true;
    set_up(&world);
    cr_assert(begin(&world, CM_RUN_SCHEDULED, tick_ms));
    GOOD(cm_job_run_cancelled(AT, world.run_id, &cancelled, ERR));
    cr_expect(not(cancelled));
    GOOD(cm_job_cancel(AT, world.run_id, "operator:1", ERR));
    GOOD(cm_job_cancel(AT, world.run_id, "operator:2", ERR));
    GOOD(cm_job_run_cancelled(AT, world.run_id, &cancelled, ERR));
    cr_expect(cancelled);
    load(&world);
    cr_expect(world.job.schedule.unfinished_cancelled);
    GOOD(cm_job_run_finish(HELD, world.run_id, CM_RUN_CANCELLED, NULL, NULL, ERR));
    FAILS(cm_job_cancel(AT, world.run_id, "operator:1", ERR), CM_PERMANENT, "not-running");
    FAILS(cm_job_cancel(AT, 4711, "operator:1", ERR), CM_PERMANENT, "not-found");
    FAILS(cm_job_run_cancelled(AT, 4711, &cancelled, ERR), CM_PERMANENT, "not-found");
    tear_down(&world);
}

/* ---- history -------------------------------------------------------------------------------- */

static void run_days(world_t *self, int days)
{
    for (int day = 0; day < days; day++) {
        cr_assert(begin(self, CM_RUN_SCHEDULED, tick_ms + day * INT64_C(86400000)));
        cr_assert(eq(int,
                     cm_job_run_finish(self->pg, CM_TEST_ADMIN, &self->lease, self->run_id,
                                       CM_RUN_DONE, NULL, NULL, &self->err),
                     CM_OK));
    }
}

Test(job_store, history_comes_page_by_page_the_newest_first)
{
    world_t world = {0};
    cm_job_run_t *runs;
    size_t count, pages = 0;
    int64_t before = 0, expected = tick_ms + 4 * INT64_C(86400000);
    set_up(&world);
    run_days(&world, 5);
    do {
        GOOD(
            cm_job_history(AT, pages % 2 ? NULL : JOB, before, 2, world.arena, &runs, &count, ERR));
        for (size_t i = 0; i < count; i++, expected -= 86400000) {
            cr_expect(eq(i64, runs[i].tick_ms, expected));
            IS(runs[i].job, JOB);
            before = runs[i].id;
        }
        pages++;
    } while (count == 2);
    cr_expect(eq(sz, pages, 3));
    cr_expect(eq(i64, expected, tick_ms - 86400000));
    GOOD(cm_job_history(AT, "other", 0, 2, world.arena, &runs, &count, ERR));
    cr_expect(eq(sz, count, 0));
    FAILS(cm_job_run_find(AT, 4711, world.arena, &world.run, ERR), CM_PERMANENT, "not-found");
    tear_down(&world);
}

Test(job_store, old_runs_are_forgotten_with_their_results_but_for_the_newest)
{
    world_t world = {0};
    int64_t deleted = -1;
    set_up(&world);
    run_days(&world, 4);
    cr_assert(begin(&world, CM_RUN_SCHEDULED, tick_ms - 86400000));
    GOOD(cm_job_run_note(HELD, world.run_id, &(cm_job_tenant_result_t){.tenant = CM_STR("42")},
                         ERR));
    GOOD(cm_job_run_finish(HELD, world.run_id, CM_RUN_DONE, NULL, NULL, ERR));
    GOOD(cm_job_prune(AT, 1, 100, &deleted, ERR));
    cr_expect(eq(i64, deleted, 0));
    run_days(&world, 0);
    cr_assert(begin(&world, CM_RUN_SCHEDULED, tick_ms - 2 * 86400000));
    GOOD(cm_job_run_finish(HELD, world.run_id, CM_RUN_DONE, NULL, NULL, ERR));
    cm_test_sql(world.pg, "UPDATE " CM_TEST_ADMIN ".job_runs SET ended_at = ended_at - interval"
                          " '25 hours'");
    GOOD(cm_job_prune(AT, 1, 2, &deleted, ERR));
    cr_expect(eq(i64, deleted, 2));
    GOOD(cm_job_prune(AT, 1, 100, &deleted, ERR));
    cr_expect(eq(i64, deleted, 3));
    find(&world); /* the newest */
    cr_expect(eq(i64,
                 cm_test_number(world.pg, "SELECT count(*) FROM " CM_TEST_ADMIN ".job_run_tenants"),
                 0));
    tear_down(&world);
}

Test(job_store, a_run_under_way_is_never_forgotten)
{
    world_t world = {0};
    int64_t deleted = -1;
    set_up(&world);
    cr_assert(begin(&world, CM_RUN_SCHEDULED, tick_ms));
    cm_test_sql(world.pg, "UPDATE " CM_TEST_ADMIN ".job_runs SET started_at = '2000-01-01'");
    GOOD(cm_job_prune(AT, 1, 100, &deleted, ERR));
    cr_expect(eq(i64, deleted, 0));
    tear_down(&world);
}
