#include "proto/schedule.h"
#include "runtime/zone.h"
#include "schema/job_store.h"
#include "tests/schema/job_case.h"

TestSuite(job_run, .timeout = 30, .fini = cm_test_database_drop);

#define IS(actual, expected) cr_expect(cm_str_is(actual, expected), "%.*s", CM_STR_ARG(actual))

Test(job_run, a_run_is_begun_and_ended_with_what_came_of_it)
{
    world_t world = {0};
    set_up(&world);
    GOOD(cm_job_count_from(HELD, 1000, ERR));
    cr_assert(begin(&world, CM_RUN_MISSED, tick_ms));
    find(&world);
    cr_expect(eq(int, world.run.state, CM_RUN_RUNNING));
    cr_expect(eq(i64, world.run.ended_ms, 0));
    cm_error_t why = {.code = "lock", .message = "twenty tenants were locked"};
    GOOD(cm_job_run_finish(HELD, world.run_id, CM_RUN_PARTIAL, "{\"tenants\": 3}", &why, ERR));
    find(&world);
    cr_expect(eq(int, world.run.state, CM_RUN_PARTIAL));
    cr_expect(eq(int, world.run.kind, CM_RUN_MISSED));
    cr_expect(eq(i64, world.run.tick_ms, tick_ms));
    cr_expect(eq(i64, world.run.first_tick_ms, tick_ms));
    cr_expect(eq(i64, world.run.ticks, 1));
    cr_expect(eq(i64, world.run.term, world.lease.term));
    cr_expect(eq(int, world.run.attempts, 1));
    cr_expect(gt(i64, world.run.started_ms, 0));
    cr_expect(ge(i64, world.run.ended_ms, world.run.started_ms));
    cr_expect(eq(i64, world.run.cancel_requested_ms, 0));
    IS(world.run.holder, "a");
    IS(world.run.summary, "{\"tenants\": 3}");
    IS(world.run.error_code, "lock");
    IS(world.run.error_message, "twenty tenants were locked");
    load(&world);
    cr_expect(eq(i64, world.job.schedule.last_tick_ms, tick_ms));
    cr_expect(eq(i64, world.job.unfinished_id, 0));
    tear_down(&world);
}

Test(job_run, a_tick_is_run_once_whoever_holds_the_lease)
{
    world_t world = {0};
    set_up(&world);
    cr_assert(begin(&world, CM_RUN_SCHEDULED, tick_ms));
    int64_t first = world.run_id;
    GOOD(cm_job_run_finish(HELD, world.run_id, CM_RUN_FAILED, NULL, NULL, ERR));
    GOOD(cm_job_count_from(HELD, 1000, ERR));
    take_lease(&world, "b");
    cr_expect(not(begin(&world, CM_RUN_MISSED, tick_ms)));
    cr_expect(eq(i64, world.run_id, first));
    load(&world); /* and it is behind us all the same */
    cr_expect(eq(i64, world.job.schedule.last_tick_ms, tick_ms));
    tear_down(&world);
}

Test(job_run, a_second_run_waits_for_the_unfinished_one)
{
    world_t world = {0};
    bool begun;
    set_up(&world);
    GOOD(cm_job_count_from(HELD, 1000, ERR));
    cr_assert(begin(&world, CM_RUN_SCHEDULED, tick_ms));
    FAILS(cm_job_run_begin(HELD, CM_RUN_SCHEDULED, tick_ms + 60000, &begun, &world.run_id, ERR),
          CM_PERMANENT, "run-unfinished");
    load(&world);
    cr_expect(eq(i64, world.job.schedule.last_tick_ms, tick_ms));
    tear_down(&world);
}

Test(job_run, a_job_that_nobody_registered_has_no_runs)
{
    world_t world = {0};
    bool begun, acquired;
    set_up(&world);
    GOOD(cm_lease_acquire(AT, "other", "a", LEASE_MS, &acquired, &world.lease, ERR));
    FAILS(cm_job_run_begin(HELD, CM_RUN_SCHEDULED, tick_ms, &begun, &world.run_id, ERR),
          CM_PERMANENT, "not-found");
    tear_down(&world);
}

Test(job_run, an_unfinished_run_is_taken_on_by_the_next_holder)
{
    world_t world = {0};
    set_up(&world);
    cr_assert(begin(&world, CM_RUN_SCHEDULED, tick_ms));
    int64_t id = world.run_id;
    take_lease(&world, "b");
    load(&world);
    cr_expect(eq(i64, world.job.unfinished_id, id));
    cr_expect(eq(i64, world.job.schedule.unfinished_tick_ms, tick_ms));
    cr_expect(eq(int, world.job.schedule.unfinished_attempts, 1));
    GOOD(cm_job_run_resume(HELD, id, ERR));
    find(&world);
    cr_expect(eq(int, world.run.attempts, 2));
    cr_expect(eq(i64, world.run.term, world.lease.term));
    IS(world.run.holder, "b");
    GOOD(cm_job_run_finish(HELD, id, CM_RUN_DONE, NULL, NULL, ERR));
    FAILS(cm_job_run_resume(HELD, id, ERR), CM_PERMANENT, "not-running");
    tear_down(&world);
}

Test(job_run, an_attempt_that_is_left_in_good_order_does_not_count)
{
    world_t world = {0};
    set_up(&world);
    cr_assert(begin(&world, CM_RUN_SCHEDULED, tick_ms));
    int64_t id = world.run_id;
    GOOD(cm_job_run_leave(HELD, id, ERR));
    load(&world);
    cr_expect(eq(i64, world.job.unfinished_id, id));
    cr_expect(eq(int, world.job.schedule.unfinished_attempts, 0));
    take_lease(&world, "b");
    FAILS(cm_job_run_leave(HELD, id, ERR), CM_PERMANENT, "not-running"); /* not of this term yet */
    GOOD(cm_job_run_resume(HELD, id, ERR));
    find(&world);
    cr_expect(eq(int, world.run.attempts, 1));
    GOOD(cm_job_run_finish(HELD, id, CM_RUN_DONE, NULL, NULL, ERR));
    FAILS(cm_job_run_leave(HELD, id, ERR), CM_PERMANENT, "not-running");
    tear_down(&world);
}

Test(job_run, a_run_not_yet_taken_on_is_not_written_by_the_next_holder)
{
    world_t world = {0};
    cm_job_tenant_result_t result = {.tenant = CM_STR("42")};
    set_up(&world);
    cr_assert(begin(&world, CM_RUN_SCHEDULED, tick_ms));
    take_lease(&world, "b");
    FAILS(cm_job_run_note(HELD, world.run_id, &result, ERR), CM_PERMANENT, "not-running");
    FAILS(cm_job_run_finish(HELD, world.run_id, CM_RUN_DONE, NULL, NULL, ERR), CM_PERMANENT,
          "not-running");
    tear_down(&world);
}

Test(job_run, whoever_lost_the_lease_writes_nothing)
{
    world_t world = {0};
    bool begun;
    set_up(&world);
    cr_assert(begin(&world, CM_RUN_SCHEDULED, tick_ms));
    cm_lease_t old = world.lease;
    take_lease(&world, "b");
    GOOD(cm_job_run_resume(HELD, world.run_id, ERR));
    CM_CLEANUP(cm_free)
    char *before =
        cm_test_rows(world.pg, "SELECT r::text, j::text, (SELECT count(*) FROM " CM_TEST_ADMIN
                               ".job_checkpoints) FROM " CM_TEST_ADMIN
                               ".job_runs AS r, " CM_TEST_ADMIN ".jobs AS j");
    cm_job_tenant_result_t result = {.tenant = CM_STR("42")};
#define LOST(call) FAILS(call, CM_PERMANENT, "lease-lost")
    LOST(cm_job_run_begin(AT, &old, CM_RUN_SCHEDULED, tick_ms + 60000, &begun, &world.run_id, ERR));
    LOST(cm_job_run_resume(AT, &old, world.run_id, ERR));
    LOST(cm_job_run_note(AT, &old, world.run_id, &result, ERR));
    LOST(cm_job_run_finish(AT, &old, world.run_id, CM_RUN_DONE, NULL, NULL, ERR));
    LOST(cm_job_pass(AT, &old, tick_ms, tick_ms + 60000, 2, ERR));
    LOST(cm_job_count_from(AT, &old, 1000, ERR));
    LOST(cm_job_checkpoint_set(AT, &old, "42", CM_STR("page 7"), ERR));
    CM_CLEANUP(cm_free)
    char *after =
        cm_test_rows(world.pg, "SELECT r::text, j::text, (SELECT count(*) FROM " CM_TEST_ADMIN
                               ".job_checkpoints) FROM " CM_TEST_ADMIN
                               ".job_runs AS r, " CM_TEST_ADMIN ".jobs AS j");
    cr_expect(eq(str, after, before));
    tear_down(&world);
}

/* ---- ticks ---------------------------------------------------------------------------------- */

Test(job_run, ticks_that_pass_are_one_row)
{
    world_t world = {0};
    set_up(&world);
    GOOD(cm_job_count_from(HELD, 1000, ERR));
    GOOD(cm_job_pass(HELD, tick_ms, tick_ms + 120000, 3, ERR));
    cr_expect(not(begin(&world, CM_RUN_MISSED, tick_ms + 120000)));
    find(&world);
    cr_expect(eq(int, world.run.state, CM_RUN_PASSED));
    cr_expect(eq(i64, world.run.first_tick_ms, tick_ms));
    cr_expect(eq(i64, world.run.tick_ms, tick_ms + 120000));
    cr_expect(eq(i64, world.run.ticks, 3));
    load(&world);
    cr_expect(eq(i64, world.job.schedule.last_tick_ms, tick_ms + 120000));
    tear_down(&world);
}

Test(job_run, ticks_may_pass_while_their_last_one_has_a_run)
{
    world_t world = {0};
    set_up(&world);
    cr_assert(begin(&world, CM_RUN_SCHEDULED, tick_ms));
    GOOD(cm_job_run_finish(HELD, world.run_id, CM_RUN_DONE, NULL, NULL, ERR));
    GOOD(cm_job_pass(HELD, tick_ms - 60000, tick_ms, 2, ERR));
    find(&world);
    cr_expect(eq(int, world.run.state, CM_RUN_DONE));
    tear_down(&world);
}

Test(job_run, counting_may_begin_at_an_earlier_time)
{
    world_t world = {0};
    set_up(&world);
    GOOD(cm_job_pass(HELD, tick_ms, tick_ms, 1, ERR));
    GOOD(cm_job_count_from(HELD, 1000, ERR));
    load(&world);
    cr_expect(eq(i64, world.job.schedule.last_tick_ms, 1000));
    tear_down(&world);
}

/* ---- tenants -------------------------------------------------------------------------------- */

Test(job_run, results_of_tenants_are_kept_replaced_and_read_in_pages)
{
    world_t world = {0};
    cm_job_tenant_result_t *results;
    size_t count;
    set_up(&world);
    cr_assert(begin(&world, CM_RUN_SCHEDULED, tick_ms));
    cm_job_tenant_result_t failed = {.tenant = {"42|", 2},
                                     .state = CM_RUN_TENANT_FAILED,
                                     .error_code = CM_STR("55P03"),
                                     .error_message = CM_STR("locked")};
    cm_job_tenant_result_t done = {.tenant = CM_STR("42"), .detail = CM_STR("{\"deleted\": 7}")};
    cm_job_tenant_result_t skipped = {.tenant = CM_STR("A"), .state = CM_RUN_TENANT_SKIPPED};
    GOOD(cm_job_run_note(HELD, world.run_id, &skipped, ERR));
    GOOD(cm_job_run_note(HELD, world.run_id, &failed, ERR));
    GOOD(cm_job_run_tenants(AT, world.run_id, "", 1, world.arena, &results, &count, ERR));
    cr_assert(eq(sz, count, 1));
    cr_expect(eq(int, results[0].state, CM_RUN_TENANT_FAILED));
    IS(results[0].tenant, "42");
    IS(results[0].detail, "{}");
    IS(results[0].error_code, "55P03");
    IS(results[0].error_message, "locked");
    GOOD(cm_job_run_note(HELD, world.run_id, &done, ERR));
    GOOD(cm_job_run_tenants(AT, world.run_id, "", 9, world.arena, &results, &count, ERR));
    cr_assert(eq(sz, count, 2));
    cr_expect(eq(int, results[0].state, CM_RUN_TENANT_DONE));
    cr_expect(eq(int, results[0].attempts, 2));
    cr_expect(gt(i64, results[0].at_ms, 0));
    IS(results[0].detail, "{\"deleted\": 7}");
    IS(results[0].error_code, "");
    GOOD(cm_job_run_tenants(AT, world.run_id, "42", 9, world.arena, &results, &count, ERR));
    cr_assert(eq(sz, count, 1));
    cr_expect(eq(int, results[0].state, CM_RUN_TENANT_SKIPPED));
    tear_down(&world);
}

Test(job_run, a_result_that_is_no_json_or_too_long_is_refused)
{
    world_t world = {0};
    char text[CM_JOB_DETAIL_MAX + 2];
    set_up(&world);
    cr_assert(begin(&world, CM_RUN_SCHEDULED, tick_ms));
    cm_job_tenant_result_t result = {.tenant = CM_STR("42"), .detail = CM_STR("no JSON")};
    FAILS(cm_job_run_note(HELD, world.run_id, &result, ERR), CM_PERMANENT, "22P02");
    memset(text, ' ', sizeof text);
    memcpy(text, "{}", 2);
    result.detail = (cm_str_t){text, CM_JOB_DETAIL_MAX + 1};
    FAILS(cm_job_run_note(HELD, world.run_id, &result, ERR), CM_PERMANENT, "23514");
    result.detail.len--;
    GOOD(cm_job_run_note(HELD, world.run_id, &result, ERR));
    tear_down(&world);
}

Test(job_run, a_summary_that_is_no_json_or_too_long_is_refused)
{
    world_t world = {0};
    static char text[CM_JOB_SUMMARY_MAX + 2];
    set_up(&world);
    cr_assert(begin(&world, CM_RUN_SCHEDULED, tick_ms));
    FAILS(cm_job_run_finish(HELD, world.run_id, CM_RUN_DONE, "{", NULL, ERR), CM_PERMANENT,
          "22P02");
    memset(text, ' ', sizeof text - 1);
    memcpy(text, "{}", 2);
    FAILS(cm_job_run_finish(HELD, world.run_id, CM_RUN_DONE, text, NULL, ERR), CM_PERMANENT,
          "23514");
    text[CM_JOB_SUMMARY_MAX] = '\0';
    GOOD(cm_job_run_finish(HELD, world.run_id, CM_RUN_DONE, text, NULL, ERR));
    tear_down(&world);
}

Test(job_run, a_checkpoint_outlives_its_run_and_is_forgotten_on_demand)
{
    world_t world = {0};
    cm_str_t text;
    set_up(&world);
    GOOD(cm_job_checkpoint_get(AT, JOB, "42", world.arena, &text, ERR));
    cr_expect(text.ptr == NULL);
    GOOD(cm_job_checkpoint_set(HELD, "42", CM_STR("page 7"), ERR));
    GOOD(cm_job_checkpoint_set(HELD, "42", CM_STR("page 8"), ERR));
    GOOD(cm_job_checkpoint_set(HELD, "", CM_STR(""), ERR));
    take_lease(&world, "b");
    GOOD(cm_job_checkpoint_get(AT, JOB, "42", world.arena, &text, ERR));
    IS(text, "page 8");
    GOOD(cm_job_checkpoint_get(AT, JOB, "", world.arena, &text, ERR));
    IS(text, "");
    GOOD(cm_job_checkpoint_set(HELD, "42", CM_STR_NONE, ERR));
    GOOD(cm_job_checkpoint_get(AT, JOB, "42", world.arena, &text, ERR));
    cr_expect(text.ptr == NULL);
    tear_down(&world);
}

Test(job_run, a_checkpoint_too_long_is_refused)
{
    world_t world = {0};
    char text[CM_JOB_CHECKPOINT_MAX + 1];
    set_up(&world);
    memset(text, 'x', sizeof text);
    FAILS(cm_job_checkpoint_set(HELD, "42", (cm_str_t){text, sizeof text}, ERR), CM_PERMANENT,
          "23514");
    GOOD(cm_job_checkpoint_set(HELD, "42", (cm_str_t){text, sizeof text - 1}, ERR));
    tear_down(&world);
}

Test(job_run, a_checkpoint_is_committed_with_what_it_tells_of_or_not_at_all)
{
    world_t world = {0};
    cm_str_t text;
    set_up(&world);
    GOOD(cm_pg_begin(world.pg, ERR));
    GOOD(cm_job_checkpoint_set(HELD, "42", CM_STR("page 7"), ERR));
    cm_pg_rollback(world.pg);
    GOOD(cm_job_checkpoint_get(AT, JOB, "42", world.arena, &text, ERR));
    cr_expect(text.ptr == NULL);
    GOOD(cm_pg_begin(world.pg, ERR));
    GOOD(cm_job_checkpoint_set(HELD, "42", CM_STR("page 7"), ERR));
    GOOD(cm_pg_commit(world.pg, ERR));
    GOOD(cm_job_checkpoint_get(AT, JOB, "42", world.arena, &text, ERR));
    IS(text, "page 7");
    tear_down(&world);
}

/* ---- with the schedule ---------------------------------------------------------------------- */

/* One step of an instance: load, decide, do. False: it is to wait. */
static bool step(world_t *self, const cm_schedule_t *schedule, int *ran, int *passed)
{
    cm_schedule_decision_t decision;
    cm_status_t status = CM_OK;
    load(self);
    cm_schedule_decide(schedule, &self->job.schedule, &decision);
    if (decision.action == CM_SCHEDULE_PASS) {
        *passed += decision.ticks;
        status = cm_job_pass(self->pg, CM_TEST_ADMIN, &self->lease, decision.first_tick_ms,
                             decision.tick_ms, decision.ticks, &self->err);
    } else if (decision.action == CM_SCHEDULE_START) {
        *ran += begin(self, decision.kind, decision.tick_ms);
    } else if (decision.action == CM_SCHEDULE_RESUME) {
        status = cm_job_run_resume(self->pg, CM_TEST_ADMIN, &self->lease, self->job.unfinished_id,
                                   &self->err);
        self->run_id = self->job.unfinished_id;
    } else {
        cr_assert(eq(int, decision.action, CM_SCHEDULE_WAIT));
        return false;
    }
    cr_assert(eq(int, status, CM_OK), "%s", self->err.message);
    return true;
}

/* Each holder dies after one step, in the middle of its run: the next goes on with it. */
Test(job_run, each_tick_runs_once_though_every_holder_dies)
{
    world_t world = {0};
    int ran = 0, passed = 0;
    CM_CLEANUP(cm_zone_destroy) cm_zone_t *zone = NULL;
    cm_schedule_t schedule = {
        .job = JOB, .missed = CM_MISSED_ALL, .missed_max = 6, .attempts_max = 5};
    set_up(&world);
    GOOD(cm_zone_open(&zone, "UTC", ERR));
    GOOD(cm_cron_parse(&schedule.cron, CM_STR("0 * * * *"), ERR));
    schedule.zone = zone;
    load(&world);
    GOOD(cm_job_count_from(HELD, world.job.schedule.now_ms - 10 * INT64_C(3600000), ERR));
    for (int steps = 0; step(&world, &schedule, &ran, &passed); steps++) {
        cr_assert(lt(int, steps, 40));
        take_lease(&world, steps % 2 ? "a" : "b");
        load(&world);
        if (world.job.unfinished_id && world.job.schedule.unfinished_attempts == 2)
            GOOD(cm_job_run_resume(HELD, world.job.unfinished_id, ERR));
        if (world.job.unfinished_id && world.job.schedule.unfinished_attempts == 2)
            GOOD(cm_job_run_finish(HELD, world.job.unfinished_id, CM_RUN_DONE, NULL, NULL, ERR));
    }
    cr_expect(ge(int, ran, 6)); /* one more when the hour ends meanwhile */
    cr_expect(eq(i64,
                 cm_test_number(world.pg, "SELECT count(*) FROM " CM_TEST_ADMIN
                                          ".job_runs WHERE state = 'done'"),
                 ran));
    cr_expect(ge(int, ran + passed, 10));
    tear_down(&world);
}

Test(job_run, results_are_counted_by_their_state)
{
    world_t world = {0};
    cm_job_tenant_counts_t counts = {0};
    set_up(&world);
    cr_assert(begin(&world, CM_RUN_SCHEDULED, tick_ms));
    GOOD(cm_job_run_count(AT, world.run_id, &counts, ERR));
    cr_expect(eq(i64, counts.done + counts.failed + counts.skipped, 0));
    static const cm_run_tenant_t states[] = {CM_RUN_TENANT_DONE,   CM_RUN_TENANT_DONE,
                                             CM_RUN_TENANT_DONE,   CM_RUN_TENANT_FAILED,
                                             CM_RUN_TENANT_FAILED, CM_RUN_TENANT_SKIPPED};
    for (size_t i = 0; i < CM_LENGTH(states); i++) {
        char tenant[] = {(char)('a' + i), 0};
        GOOD(cm_job_run_note(
            HELD, world.run_id,
            &(cm_job_tenant_result_t){.tenant = cm_str(tenant), .state = states[i]}, ERR));
    }
    GOOD(cm_job_run_count(AT, world.run_id, &counts, ERR));
    cr_expect(eq(i64, counts.done, 3));
    cr_expect(eq(i64, counts.failed, 2));
    cr_expect(eq(i64, counts.skipped, 1));
    tear_down(&world);
}

Test(job_run, a_job_tells_its_last_success_and_how_long_the_last_run_took)
{
    world_t world = {0};
    set_up(&world);
    load(&world);
    cr_expect(eq(i64, world.job.last_done_ms, 0));
    cr_expect(eq(i64, world.job.last_took_ms, 0));
    cr_assert(begin(&world, CM_RUN_SCHEDULED, tick_ms));
    GOOD(cm_job_run_finish(HELD, world.run_id, CM_RUN_DONE, NULL, NULL, ERR));
    cm_test_sql(world.pg, "UPDATE " CM_TEST_ADMIN ".job_runs SET started_at = 'epoch',"
                          " ended_at = 'epoch'::timestamptz + interval '70 seconds'");
    cr_assert(begin(&world, CM_RUN_SCHEDULED, tick_ms + 60000));
    GOOD(cm_job_run_finish(HELD, world.run_id, CM_RUN_PARTIAL, NULL, NULL, ERR));
    cm_test_sql(world.pg,
                "UPDATE " CM_TEST_ADMIN ".job_runs SET ended_at = started_at + interval '5 seconds'"
                " WHERE state = 'partial'");
    GOOD(cm_job_pass(HELD, tick_ms + 120000, tick_ms + 120000, 1, ERR));
    load(&world);
    cr_expect(eq(i64, world.job.last_done_ms, 70000), "what failed in part is no success");
    cr_expect(eq(i64, world.job.last_took_ms, 5000), "and what passed took no time");
    tear_down(&world);
}
