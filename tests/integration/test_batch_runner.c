/* fakes: batch_jobs */
/* What becomes of runs, on a real server; the jobs are those of fake_batch_jobs.c. */
#include "tests/integration/runner_case.h"

TestSuite(batch_runner, .timeout = 120, .fini = cm_test_database_drop);

#define AN_HOUR 3600000

/* Let the database do something in the commit of a step that the job writes. */
static void on_step(world_t *self, const char *when, const char *what)
{
    cm_test_sql(self->pg,
                "CREATE FUNCTION public.then_do() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN %s; RETURN new; END $$",
                what);
    cm_test_sql(
        self->pg,
        "CREATE CONSTRAINT TRIGGER then_do AFTER INSERT ON public.job_steps"
        " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (%s) EXECUTE FUNCTION public.then_do()",
        when);
}

/* ---- by schedule ---------------------------------------------------------------------------- */

Test(batch_runner, a_job_that_nobody_asks_for_waits_and_takes_no_lease)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, "");
    GOOD(world_round(&world));
    cr_expect(eq(i64, world.wait_ms, 1000), "scheduler.poll_seconds");
    cr_expect(eq(sz, world.event_count, 0));
    expect_rows(&world, "SELECT count(*) FROM " ADM ".leases", "0");
    expect_rows(&world, "SELECT name FROM " ADM ".jobs", JOB);
}

Test(batch_runner, what_is_asked_for_is_run_once_and_the_lease_given_back)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, "");
    world_plan(&world, 3, 0, "");
    ask(&world);
    GOOD(world_round(&world));
    cr_assert(eq(sz, world.event_count, 2));
    cr_expect(eq(int, world.events[0].what, CM_BATCH_BEGUN));
    cr_expect(eq(int, world.events[0].kind, CM_RUN_REQUESTED));
    cr_expect(eq(int, world.events[1].what, CM_BATCH_ENDED));
    cr_expect(eq(int, world.events[1].state, CM_RUN_DONE));
    expect_rows(&world, RUNS, "requested|done|1");
    expect_rows(&world, "SELECT summary, requested_by, error_code FROM " ADM ".job_runs",
                "{\"steps\": 3}|test|");
    expect_rows(&world, "SELECT tenant, state FROM " ADM ".job_run_tenants ORDER BY tenant",
                "1|done\n2|done\n3|done");
    expect_rows(&world, FREE, "1");
    GOOD(world_round(&world));
    cr_expect(eq(sz, world.event_count, 2), "a request is served once");
    cr_expect(gt(i64, world.job.last_done_ms, 0));
}

Test(batch_runner, a_tick_that_is_due_is_run_and_the_next_one_waited_for)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, "* * * * *");
    world_plan(&world, 1, 0, "");
    GOOD(world_round(&world));
    cr_expect(eq(sz, world.event_count, 0), "ticks count from when a job is first seen");
    cr_expect(le(i64, world.wait_ms, 1000));
    cm_test_sql(world.pg, "UPDATE " ADM ".jobs SET last_tick = date_trunc('minute', now())"
                          " - interval '1 minute'");
    GOOD(world_round(&world));
    expect_rows(&world, RUNS, "scheduled|done|1");
    expect_rows(&world,
                "SELECT r.tick = j.last_tick, extract(second FROM tick)::int"
                " FROM " ADM ".job_runs AS r, " ADM ".jobs AS j",
                "t|0");
}

Test(batch_runner, of_missed_ticks_the_newest_is_run_and_the_others_are_told)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, "0 * * * *");
    world_plan(&world, 1, 0, "");
    GOOD(world_round(&world));
    cm_test_sql(world.pg, "UPDATE " ADM ".jobs SET last_tick = date_trunc('hour', now())"
                          " - interval '5 hours'");
    world.options.orphan_job.schedule.grace_seconds = 1;
    world_open_schedule(&world);
    GOOD(world_round(&world));
    cr_assert(eq(sz, world.event_count, 3));
    cr_expect(eq(int, world.events[0].what, CM_BATCH_PASSED));
    cr_expect(eq(int, world.events[0].ticks, 4));
    expect_rows(&world, "SELECT state, ticks FROM " ADM ".job_runs ORDER BY id",
                "passed|4\ndone|1");
}

Test(batch_runner, all_missed_ticks_are_run_in_one_round_when_the_policy_says_so)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, "* * * * *");
    world_plan(&world, 2, 0, "");
    GOOD(world_round(&world));
    cm_test_sql(world.pg, "UPDATE " ADM ".jobs SET last_tick = date_trunc('minute', now())"
                          " - interval '20 minutes'");
    world.options.orphan_job.schedule.missed = CM_MISSED_ALL;
    world_open_schedule(&world);
    GOOD(world_round(&world));
    cr_expect(ge(i64, cm_test_number(world.pg, "SELECT count(*) FROM " ADM ".job_runs"), 20));
    expect_rows(&world,
                "SELECT count(*) - count(DISTINCT tick), count(*) FILTER (WHERE state <> 'done')"
                " FROM " ADM ".job_runs",
                "0|0");
    expect_rows(&world, "SELECT max(term) FROM " ADM ".job_runs", "1");
}

/* Seen by a scheduler without a schedule, run by hand, and given one weeks later: it begins at its
 * next tick, not with the start of the process. */
Test(batch_runner, a_first_schedule_makes_up_for_nothing_from_before_it)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, "");
    world_plan(&world, 1, 0, "");
    GOOD(world_round(&world));
    ask(&world);
    GOOD(world_round(&world));
    cm_test_sql(world.pg, "UPDATE " ADM ".jobs SET last_tick = now() - interval '400 days'");
    world.options.orphan_job.schedule.cron = "@yearly";
    world_open_schedule(&world);
    CM_CLEANUP(cm_batch_runner_destroy) cm_batch_runner_t *next = world_runner(&world, "b");
    GOOD(cm_batch_runner_round(next, &world.wait_ms, &world.job, &world.err));
    expect_rows(&world, RUNS, "requested|done|1");
    expect_rows(&world, "SELECT schedule FROM " ADM ".jobs", "@yearly");
}

/* Another process, whose configuration may know no schedule. */
Test(batch_runner, a_run_by_hand_leaves_the_schedule_alone)
{
    CM_CLEANUP(world_close) world_t world;
    cm_batch_result_t result = {0};
    world_open(&world, "@hourly");
    world_plan(&world, 1, 0, "");
    GOOD(world_round(&world));
    world.options.orphan_job.schedule.cron = "";
    world_open_schedule(&world);
    CM_CLEANUP(cm_batch_runner_destroy) cm_batch_runner_t *other = world_runner(&world, "b");
    GOOD(cm_batch_runner_once(other, &(cm_batch_request_t){.by = "test"}, &result, &world.err));
    cm_buffer_destroy(&result.summary);
    expect_rows(&world, "SELECT schedule FROM " ADM ".jobs", "@hourly");
}

Test(batch_runner, a_clock_that_went_back_makes_ticks_count_anew)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, "* * * * *");
    GOOD(world_round(&world));
    cm_test_sql(world.pg, "UPDATE " ADM ".jobs SET last_tick = now() + interval '3 days'");
    GOOD(world_round(&world));
    cr_assert(eq(sz, world.event_count, 1));
    cr_expect(eq(int, world.events[0].what, CM_BATCH_RESET));
    expect_rows(&world, "SELECT last_tick <= clock_timestamp() FROM " ADM ".jobs", "t");
}

Test(batch_runner, a_paused_job_begins_nothing)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, "* * * * *");
    GOOD(world_round(&world));
    cm_test_sql(world.pg, "UPDATE " ADM ".jobs SET last_tick = now() - interval '1 hour'");
    GOOD(cm_job_pause(world.pg, ADM, JOB, "test", &world.err));
    GOOD(world_round(&world));
    cr_expect(eq(sz, world.event_count, 0));
    cr_expect(world.job.schedule.paused);
}

/* ---- how runs end --------------------------------------------------------------------------- */

Test(batch_runner, a_run_with_a_tenant_that_failed_is_partial)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, "");
    world_plan(&world, 3, 0, "tenant");
    ask(&world);
    GOOD(world_round(&world));
    expect_rows(&world, RUNS, "requested|partial|1");
    expect_rows(&world,
                "SELECT tenant, error_code FROM " ADM ".job_run_tenants WHERE state = 'failed'",
                "3|planned");
}

/* A tenant that failed in an attempt before, and was not tried again, is not forgotten. */
Test(batch_runner, a_failure_of_an_earlier_attempt_counts)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, "");
    world_plan(&world, 2, 0, "unavailable");
    ask(&world);
    GOOD(world_round(&world));
    expect_rows(&world, RUNS, "requested|running|1");
    cm_test_sql(world.pg, "INSERT INTO " ADM ".job_run_tenants (run_id, tenant, state, at)"
                          " SELECT id, '9', 'failed', now() FROM " ADM ".job_runs");
    cm_test_sql(world.pg, "UPDATE " ADM ".leases SET expires_at = clock_timestamp()");
    world_plan(&world, 2, 0, "");
    GOOD(world_round(&world));
    expect_rows(&world, RUNS, "requested|partial|2");
}

Test(batch_runner, a_run_that_fails_tells_why)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, "");
    ask(&world); /* and no plan */
    GOOD(world_round(&world));
    cr_expect(eq(str, world.why[1].code, "no-plan"));
    expect_rows(&world, "SELECT state, error_code FROM " ADM ".job_runs", "failed|no-plan");
}

/* Nobody takes it before the time is over: this one, another instance, or a person. */
Test(batch_runner, a_run_that_cannot_go_on_is_put_off_for_all_and_then_resumed)
{
    CM_CLEANUP(world_close) world_t world;
    cm_batch_result_t result = {0};
    world_open(&world, "");
    world_plan(&world, 2, 0, "unavailable");
    ask(&world);
    GOOD(world_round(&world));
    cr_expect(eq(int, world.events[1].what, CM_BATCH_LEFT));
    cr_expect(eq(int, world.why[1].status, CM_UNAVAILABLE));
    expect_rows(&world, FREE, "0");
    expect_rows(&world,
                "SELECT expires_at < clock_timestamp() + interval '5 seconds' FROM " ADM ".leases",
                "t");
    CM_CLEANUP(cm_batch_runner_destroy) cm_batch_runner_t *other = world_runner(&world, "b");
    GOOD(cm_batch_runner_round(other, &world.wait_ms, &world.job, &world.err));
    cr_expect(eq(sz, world.event_count, 2));
    cr_expect(eq(
        int, cm_batch_runner_once(other, &(cm_batch_request_t){.by = "test"}, &result, &world.err),
        CM_TRANSIENT));
    cr_expect(eq(str, world.err.code, "lease-held"));
    world_plan(&world, 2, 0, "");
    cm_test_sql(world.pg, "UPDATE " ADM ".leases SET expires_at = clock_timestamp()");
    GOOD(cm_batch_runner_round(other, &world.wait_ms, &world.job, &world.err));
    cr_expect(eq(int, world.events[2].what, CM_BATCH_RESUMED));
    expect_rows(&world, RUNS, "requested|done|2");
    expect_rows(&world, "SELECT tenant, holder FROM public.job_steps ORDER BY tenant", "1|a\n2|b");
}

Test(batch_runner, a_process_that_ends_leaves_its_run_for_the_next_at_once)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, "");
    world_plan(&world, 50, 0, "");
    ask(&world);
    world.end_at = 10;
    GOOD(world_round(&world));
    cr_expect(eq(int, world.events[1].what, CM_BATCH_LEFT));
    cr_expect(eq(str, world.why[1].code, "stopped"));
    expect_rows(&world, FREE, "1");
    world.end_at = 0;
    CM_CLEANUP(cm_batch_runner_destroy) cm_batch_runner_t *other = world_runner(&world, "b");
    GOOD(cm_batch_runner_round(other, &world.wait_ms, &world.job, &world.err));
    expect_rows(&world, RUNS, "requested|done|1");
    expect_rows(&world,
                "SELECT count(*), count(DISTINCT tenant), count(DISTINCT holder)"
                " FROM public.job_steps",
                "50|50|2");
}

Test(batch_runner, stops_in_good_order_are_no_attempts)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, "");
    world.options.orphan_job.schedule.attempts = 2;
    world_open_schedule(&world);
    world_plan(&world, 50, 0, "");
    ask(&world);
    for (int i = 0; i < 4; i++) {
        world.end_at = world.questions + 8;
        GOOD(world_round(&world));
        expect_rows(&world, RUNS, "requested|running|0");
    }
    world.end_at = 0;
    GOOD(world_round(&world));
    expect_rows(&world, RUNS, "requested|done|1");
}

/* The put-off is the first that waits for the server once the run is told to be left. */
static void end_when_left(void *ctx)
{
    world_t *self = ctx;
    if (self->event_count == 2 && self->events[1].what == CM_BATCH_LEFT)
        self->end_at = 1;
}

Test(batch_runner, a_process_that_ends_while_it_puts_a_run_off_gives_the_lease_back)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, "");
    cm_batch_runner_destroy(&world.runner);
    world.runner = cm_batch_runner_new(&(cm_batch_runner_args_t){.options = &world.options,
                                                                 .job = cm_batch_job_find(JOB),
                                                                 .schedule = &world.schedule,
                                                                 .holder = "a",
                                                                 .ending = world_ending,
                                                                 .told = world_told,
                                                                 .beat = end_when_left,
                                                                 .ctx = &world});
    world_plan(&world, 2, 0, "unavailable");
    ask(&world);
    GOOD(world_round(&world));
    cr_expect(eq(int, world.end_at, 1));
    expect_rows(&world, RUNS, "requested|running|1");
    expect_rows(&world, FREE, "1");
}

Test(batch_runner, a_run_begun_too_often_has_failed)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, "");
    world.options.orphan_job.schedule.attempts = 2;
    world_open_schedule(&world);
    world_plan(&world, 1, 0, "transient");
    ask(&world);
    for (int i = 0; i < 3; i++) {
        GOOD(world_round(&world));
        cm_test_sql(world.pg, "UPDATE " ADM ".leases SET expires_at = clock_timestamp()");
    }
    expect_rows(&world, "SELECT state, error_code FROM " ADM ".job_runs", "failed|attempts");
    cr_expect(eq(int, world.events[world.event_count - 1].state, CM_RUN_FAILED));
}

Test(batch_runner, a_run_that_was_left_and_is_to_be_cancelled_ends)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, "");
    world_plan(&world, 1, 0, "transient");
    ask(&world);
    GOOD(world_round(&world));
    cm_test_sql(world.pg, "UPDATE " ADM ".leases SET expires_at = clock_timestamp()");
    GOOD(cm_job_cancel(world.pg, ADM, world.events[0].run_id, "test", &world.err));
    GOOD(world_round(&world));
    expect_rows(&world, "SELECT state FROM " ADM ".job_runs", "cancelled");
}

/* By the keeper, which asks about every second; the job has minutes of steps left. */
Test(batch_runner, a_run_under_way_is_cancelled_at_its_next_step)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, "");
    world.options.scheduler.lease_seconds = 3;
    world_plan(&world, 10000, 20, "");
    on_step(&world, "new.tenant = '3'",
            "UPDATE " ADM ".job_runs SET cancel_requested_at = now() WHERE id = new.run_id");
    ask(&world);
    GOOD(world_round(&world));
    cr_expect(eq(int, world.events[1].state, CM_RUN_CANCELLED));
    expect_rows(&world, RUNS, "requested|cancelled|1");
    expect_rows(&world, FREE, "1");
}

/* ---- the lease ------------------------------------------------------------------------------ */

Test(batch_runner, a_job_longer_than_its_lease_keeps_it)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, "");
    world.options.scheduler.lease_seconds = 1;
    world_plan(&world, 6, 500, "");
    ask(&world);
    GOOD(world_round(&world));
    expect_rows(&world, RUNS, "requested|done|1");
    expect_rows(&world, "SELECT max(term) FROM " ADM ".leases", "1");
}

/* Taken by force, as another instance does when this one slept: nothing more is written, the run is
 * the other's, and its end is not ours to tell. */
Test(batch_runner, a_run_whose_lease_is_taken_stops_and_writes_nothing_more)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, "");
    world_plan(&world, 10, 0, "");
    on_step(&world, "new.tenant = '4'",
            "UPDATE " ADM ".leases SET term = term + 1, holder = 'other',"
            " expires_at = now() + interval '1 hour'");
    ask(&world);
    GOOD(world_round(&world));
    cr_expect(eq(int, world.events[1].what, CM_BATCH_LEFT));
    cr_expect(eq(str, world.why[1].code, "lease-lost"));
    expect_rows(&world, RUNS, "requested|running|1");
    expect_rows(&world, "SELECT holder, term FROM " ADM ".leases", "other|2");
}

Test(batch_runner, a_job_at_work_elsewhere_is_left_alone)
{
    CM_CLEANUP(world_close) world_t world;
    bool acquired = false;
    cm_lease_t lease;
    world_open(&world, "");
    world_plan(&world, 1, 0, "");
    ask(&world);
    GOOD(cm_lease_acquire(world.pg, ADM, JOB, "other", AN_HOUR, &acquired, &lease, &world.err));
    GOOD(world_round(&world));
    cr_expect(eq(sz, world.event_count, 0));
    cr_expect(eq(i64, world.wait_ms, 1000));
}

Test(batch_runner, a_job_that_its_database_has_forgotten_is_made_known_anew)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, "");
    GOOD(world_round(&world));
    cm_test_sql(world.pg, "DELETE FROM " ADM ".jobs"); /* as a backup of before is restored */
    cr_expect(eq(int, world_round(&world), CM_PERMANENT));
    cr_expect(eq(str, world.err.code, "not-found"));
    GOOD(world_round(&world));
    expect_rows(&world, "SELECT name FROM " ADM ".jobs", JOB);
}

Test(batch_runner, an_away_server_is_an_error_and_a_later_round_does_it)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, "");
    world_plan(&world, 1, 0, "");
    ask(&world);
    GOOD(world_round(&world));
    ask(&world);
    cm_test_sql(world.pg, "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                          " WHERE datname = current_database() AND application_name ="
                          " 'client-manager job/" JOB "'");
    cr_expect(eq(int, world_round(&world), CM_UNAVAILABLE));
    GOOD(world_round(&world));
    expect_rows(&world, RUNS, "requested|done|1\nrequested|done|1");
}

/* The link goes with the body's last words, so the end is written on a new one. */
Test(batch_runner, the_end_of_a_run_survives_a_lost_link)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, "");
    world_plan(&world, 2, 0, "permanent");
    on_step(&world, "true", "PERFORM pg_terminate_backend(pg_backend_pid())");
    ask(&world);
    GOOD(world_round(&world)); /* the body says unavailable: put off on a new link */
    cr_expect(eq(int, world.events[1].what, CM_BATCH_LEFT));
    cm_test_sql(world.pg, "DROP TRIGGER then_do ON public.job_steps");
    cm_test_sql(world.pg, "UPDATE " ADM ".leases SET expires_at = clock_timestamp()");
    GOOD(world_round(&world));
    expect_rows(&world, "SELECT state, error_code, attempts FROM " ADM ".job_runs",
                "failed|planned|2");
}

/* ---- by hand -------------------------------------------------------------------------------- */

static cm_batch_result_t once(world_t *self, cm_batch_request_t request)
{
    cm_batch_result_t result = {0};
    request.by = "operator:7";
    if (cm_batch_runner_once(self->runner, &request, &result, &self->err) != CM_OK)
        cr_fatal("%s %s", self->err.code, self->err.message);
    cm_buffer_text(&result.summary);
    return result;
}

Test(batch_runner, by_hand_a_run_is_begun_though_the_job_is_paused)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, "");
    world_plan(&world, 2, 0, "");
    GOOD(cm_job_register(world.pg, ADM, JOB, &world.err));
    GOOD(cm_job_pause(world.pg, ADM, JOB, "test", &world.err));
    cm_batch_result_t result = once(&world, (cm_batch_request_t){0});
    cr_expect(eq(int, result.state, CM_RUN_DONE));
    cr_expect(eq(u64, result.progress.done, 2));
    cr_expect(eq(str, result.summary.data, "{\"steps\": 2}"));
    expect_rows(&world, "SELECT kind, state, requested_by FROM " ADM ".job_runs",
                "requested|done|operator:7");
    expect_rows(&world, FREE, "1");
    cm_buffer_destroy(&result.summary);
}

Test(batch_runner, by_hand_a_run_that_was_left_is_gone_on_with_and_no_other_begun)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, "");
    world_plan(&world, 20, 0, "");
    world.end_at = 8;
    cm_batch_result_t first = once(&world, (cm_batch_request_t){0});
    cr_expect(eq(int, first.state, CM_RUN_RUNNING));
    world.end_at = 0;
    cm_batch_result_t second = once(&world, (cm_batch_request_t){0});
    cr_expect(second.resumed);
    cr_expect(eq(i64, second.run_id, first.run_id));
    cr_expect(eq(int, second.state, CM_RUN_DONE));
    expect_rows(&world, RUNS, "requested|done|1");
    cm_buffer_destroy(&first.summary);
    cm_buffer_destroy(&second.summary);
}

Test(batch_runner, by_hand_one_begun_too_often_is_ended_and_a_new_one_begun)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, "");
    world.options.orphan_job.schedule.attempts = 1;
    world_open_schedule(&world);
    world_plan(&world, 1, 0, "unavailable");
    cm_batch_result_t first = once(&world, (cm_batch_request_t){0});
    cr_expect(eq(int, first.why.status, CM_UNAVAILABLE));
    expect_rows(&world, FREE, "1"); /* who ran it by hand decides when to try again */
    world_plan(&world, 1, 0, "");
    cm_batch_result_t second = once(&world, (cm_batch_request_t){0});
    cr_expect(eq(int, second.state, CM_RUN_DONE));
    expect_rows(&world, RUNS, "requested|failed|2\nrequested|done|1");
    cm_buffer_destroy(&first.summary);
    cm_buffer_destroy(&second.summary);
}

Test(batch_runner, a_dry_run_takes_no_lease_and_leaves_no_trace)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, "");
    world_plan(&world, 3, 0, "");
    cm_batch_result_t result = once(&world, (cm_batch_request_t){.dry_run = true});
    cr_expect(eq(int, result.state, CM_RUN_DONE));
    cr_expect(eq(i64, result.run_id, 0));
    cr_expect(eq(u64, result.progress.rows, 3));
    expect_rows(&world,
                "SELECT (SELECT count(*) FROM " ADM ".leases), (SELECT count(*) FROM " ADM
                ".job_runs), (SELECT count(*) FROM " ADM ".jobs), count(*) FROM public.job_steps",
                "0|0|0|0");
    cm_buffer_destroy(&result.summary);
}

Test(batch_runner, a_run_of_one_tenant_is_fenced_but_no_part_of_the_history)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, "");
    world_plan(&world, 3, 0, "");
    cm_batch_result_t result = once(&world, (cm_batch_request_t){.tenant = "2"});
    cr_expect(eq(int, result.state, CM_RUN_DONE));
    expect_rows(&world, "SELECT tenant, term FROM public.job_steps", "2|1");
    expect_rows(&world, "SELECT count(*) FROM " ADM ".job_runs", "0");
    expect_rows(&world, FREE, "1");
    cm_buffer_destroy(&result.summary);
}

/* ---- forgetting ----------------------------------------------------------------------------- */

Test(batch_runner, a_run_that_ends_takes_old_ones_away)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, "");
    world_plan(&world, 1, 0, "");
    world.options.scheduler.keep_runs_days = 2;
    ask(&world);
    GOOD(world_round(&world));
    cm_test_sql(world.pg, "INSERT INTO " ADM ".job_runs (job, tick, first_tick, kind, state, term,"
                          " holder, started_at, ended_at) SELECT '" JOB "', t, t, 'scheduled',"
                          " 'done', 1, 'a', t, t FROM generate_series(now() - interval '40 days',"
                          " now() - interval '1 day', interval '1 day') AS t");
    ask(&world);
    GOOD(world_round(&world));
    expect_rows(&world,
                "SELECT count(*) FROM " ADM ".job_runs WHERE ended_at <"
                " now() - interval '2 days'",
                "0");
    cr_expect(ge(i64, cm_test_number(world.pg, "SELECT count(*) FROM " ADM ".job_runs"), 3));
}
