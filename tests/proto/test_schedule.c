#include "proto/schedule.h"
#include "runtime/cleanup.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static cm_schedule_t schedule;
static cm_schedule_state_t state;
static cm_schedule_decision_t decision;
static cm_zone_t *zone;

static int64_t at(const char *text) /* "2026-03-28 01:30:00", UTC; milliseconds */
{
    struct tm tm = {0};
    if (!strptime(text, "%Y-%m-%d %H:%M:%S", &tm))
        cr_fatal("no time: %s", text);
    return timegm(&tm) * INT64_C(1000);
}

static const char *told(int64_t epoch_ms)
{
    static char text[32];
    struct tm tm;
    time_t time = epoch_ms / 1000;
    strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", gmtime_r(&time, &tm));
    return text;
}

static void use(const char *cron, const char *zone_name)
{
    cm_error_t err = {0};
    cm_zone_destroy(&zone);
    if (cm_cron_parse(&schedule.cron, cm_str(cron), &err) != CM_OK ||
        cm_zone_open(&zone, zone_name, &err) != CM_OK)
        cr_fatal("%s", err.message);
    schedule.zone = zone;
}

static void set_up(void)
{
    schedule = (cm_schedule_t){
        .job = "orphan-deletion", .missed_max = 3, .grace_ms = 60 * 1000, .attempts_max = 3};
    state = (cm_schedule_state_t){.last_tick_ms = at("2026-11-20 03:00:00")};
    use("0 3 * * *", "UTC");
}

static void tear_down(void)
{
    cm_zone_destroy(&zone);
}

TestSuite(schedule, .init = set_up, .fini = tear_down, .timeout = 20);

static void decide(const char *now)
{
    state.now_ms = at(now);
    cm_schedule_decide(&schedule, &state, &decision);
}

static void expect_start(cm_run_kind_t kind, const char *tick)
{
    cr_assert(eq(int, decision.action, CM_SCHEDULE_START));
    cr_expect(eq(str, (char *)cm_run_kind_name(decision.kind), (char *)cm_run_kind_name(kind)));
    cr_expect(eq(str, (char *)told(decision.tick_ms), (char *)tick));
}

static void expect_pass(int ticks, const char *first, const char *last)
{
    cr_assert(eq(int, decision.action, CM_SCHEDULE_PASS));
    cr_expect(eq(int, decision.ticks, ticks));
    cr_expect(eq(str, (char *)told(decision.first_tick_ms), (char *)first));
    cr_expect(eq(str, (char *)told(decision.tick_ms), (char *)last));
    state.last_tick_ms = decision.tick_ms;
}

/* ---- on time -------------------------------------------------------------------------------- */

Test(schedule, before_the_next_tick_it_waits_until_then)
{
    decide("2026-11-21 02:59:59");
    cr_expect(eq(int, decision.action, CM_SCHEDULE_WAIT));
    cr_expect(eq(i64, decision.wake_ms, at("2026-11-21 03:00:00")));
}

Test(schedule, at_its_time_a_tick_is_run_whatever_the_policy)
{
    for (schedule.missed = CM_MISSED_SKIP; schedule.missed <= CM_MISSED_ALL; schedule.missed++) {
        decide("2026-11-21 03:00:00");
        expect_start(CM_RUN_SCHEDULED, "2026-11-21 03:00:00");
        decide("2026-11-21 03:01:00");
        expect_start(CM_RUN_SCHEDULED, "2026-11-21 03:00:00");
    }
}

Test(schedule, a_tick_that_was_done_is_not_run_again)
{
    state.last_tick_ms = at("2026-11-21 03:00:00");
    decide("2026-11-21 03:00:00");
    cr_expect(eq(int, decision.action, CM_SCHEDULE_WAIT));
    cr_expect(eq(i64, decision.wake_ms, at("2026-11-22 03:00:00")));
}

Test(schedule, a_job_first_seen_between_ticks_counts_from_then)
{
    state.last_tick_ms = at("2026-11-21 02:59:59") + 999;
    decide("2026-11-21 03:00:00");
    expect_start(CM_RUN_SCHEDULED, "2026-11-21 03:00:00");
    state.last_tick_ms = at("2026-11-21 03:00:00") + 1;
    decide("2026-11-21 03:00:01");
    cr_expect(eq(int, decision.action, CM_SCHEDULE_WAIT));
}

/* ---- missed --------------------------------------------------------------------------------- */

Test(schedule, skip_lets_a_missed_tick_pass)
{
    schedule.missed = CM_MISSED_SKIP;
    decide("2026-11-21 03:01:01");
    expect_pass(1, "2026-11-21 03:00:00", "2026-11-21 03:00:00");
    decide("2026-11-21 03:01:01");
    cr_expect(eq(int, decision.action, CM_SCHEDULE_WAIT));
}

Test(schedule, skip_runs_the_tick_that_is_on_time_after_those_missed)
{
    schedule.missed = CM_MISSED_SKIP;
    decide("2026-11-24 03:00:30");
    expect_pass(3, "2026-11-21 03:00:00", "2026-11-23 03:00:00");
    decide("2026-11-24 03:00:30");
    expect_start(CM_RUN_SCHEDULED, "2026-11-24 03:00:00");
}

Test(schedule, once_runs_the_newest_of_those_missed)
{
    schedule.missed = CM_MISSED_ONCE;
    decide("2026-11-24 12:00:00");
    expect_pass(3, "2026-11-21 03:00:00", "2026-11-23 03:00:00");
    decide("2026-11-24 12:00:00");
    expect_start(CM_RUN_MISSED, "2026-11-24 03:00:00");
    state.last_tick_ms = decision.tick_ms;
    decide("2026-11-24 12:00:00");
    cr_expect(eq(int, decision.action, CM_SCHEDULE_WAIT));
}

Test(schedule, all_runs_the_newest_few_the_oldest_first)
{
    schedule.missed = CM_MISSED_ALL;
    decide("2026-11-25 12:00:00"); /* five are due, three are to be run */
    expect_pass(2, "2026-11-21 03:00:00", "2026-11-22 03:00:00");
    for (int day = 23; day <= 25; day++) {
        char tick[32];
        snprintf(tick, sizeof tick, "2026-11-%d 03:00:00", day);
        decide("2026-11-25 12:00:00");
        expect_start(CM_RUN_MISSED, tick);
        state.last_tick_ms = decision.tick_ms;
    }
    decide("2026-11-25 12:00:00");
    cr_expect(eq(int, decision.action, CM_SCHEDULE_WAIT));
}

Test(schedule, all_passes_none_while_there_are_few)
{
    schedule.missed = CM_MISSED_ALL;
    decide("2026-11-23 12:00:00");
    expect_start(CM_RUN_MISSED, "2026-11-21 03:00:00");
}

Test(schedule, ten_years_without_an_instance_are_over_soon)
{
    use("* * * * *", "Europe/Berlin");
    schedule.missed = CM_MISSED_ALL;
    schedule.missed_max = CM_SCHEDULE_TICKS_MAX;
    state.last_tick_ms = at("2016-11-20 00:00:00");
    decide("2026-11-20 00:00:30");
    expect_pass(CM_SCHEDULE_TICKS_MAX, "2016-11-20 00:01:00", "2026-11-19 07:20:00");
    decide("2026-11-20 00:00:30");
    expect_start(CM_RUN_MISSED, "2026-11-19 07:21:00");
}

Test(schedule, a_run_longer_than_its_period_makes_the_next_one_missed)
{
    use("*/5 * * * *", "UTC");
    schedule.missed = CM_MISSED_SKIP;
    state.last_tick_ms = at("2026-11-20 03:00:00"); /* took until 03:12 */
    decide("2026-11-20 03:12:00");
    expect_pass(2, "2026-11-20 03:05:00", "2026-11-20 03:10:00");
    decide("2026-11-20 03:12:00");
    cr_expect(eq(i64, decision.wake_ms, at("2026-11-20 03:15:00")));
}

/* ---- asked for, paused ---------------------------------------------------------------------- */

Test(schedule, a_run_asked_for_comes_before_the_schedule)
{
    state.requested_ms = at("2026-11-21 02:00:00") + 123;
    decide("2026-11-21 03:00:00");
    cr_assert(eq(int, decision.action, CM_SCHEDULE_START));
    cr_expect(eq(int, decision.kind, CM_RUN_REQUESTED));
    cr_expect(eq(i64, decision.tick_ms, state.requested_ms));
}

Test(schedule, a_paused_job_begins_nothing)
{
    state.paused = true;
    decide("2026-11-21 03:00:00");
    cr_expect(eq(int, decision.action, CM_SCHEDULE_WAIT));
    cr_expect(eq(i64, decision.wake_ms, CM_SCHEDULE_NEVER));
}

Test(schedule, a_paused_job_does_what_it_is_asked_for)
{
    state.paused = true;
    state.requested_ms = at("2026-11-21 02:00:00");
    decide("2026-11-21 03:00:00");
    expect_start(CM_RUN_REQUESTED, "2026-11-21 02:00:00");
}

/* ---- unfinished ----------------------------------------------------------------------------- */

Test(schedule, an_unfinished_run_comes_first)
{
    state.unfinished_tick_ms = at("2026-11-20 03:00:00");
    state.unfinished_attempts = 2;
    state.requested_ms = at("2026-11-21 02:00:00");
    decide("2026-11-21 03:00:00");
    cr_expect(eq(int, decision.action, CM_SCHEDULE_RESUME));
    cr_expect(eq(i64, decision.tick_ms, state.unfinished_tick_ms));
}

Test(schedule, an_unfinished_run_of_a_paused_job_stays_as_it_is)
{
    state.unfinished_tick_ms = at("2026-11-20 03:00:00");
    state.paused = true;
    decide("2026-11-21 03:00:00");
    cr_expect(eq(int, decision.action, CM_SCHEDULE_WAIT));
}

Test(schedule, a_run_begun_too_often_is_given_up)
{
    state.unfinished_tick_ms = at("2026-11-20 03:00:00");
    state.unfinished_attempts = 3;
    decide("2026-11-21 03:00:00");
    cr_expect(eq(int, decision.action, CM_SCHEDULE_GIVE_UP));
    cr_expect(eq(i64, decision.tick_ms, state.unfinished_tick_ms));
}

Test(schedule, an_unfinished_run_that_was_cancelled_ends_so_even_while_paused)
{
    state.unfinished_tick_ms = at("2026-11-20 03:00:00");
    state.unfinished_attempts = 3;
    state.unfinished_cancelled = state.paused = true;
    decide("2026-11-21 03:00:00");
    cr_expect(eq(int, decision.action, CM_SCHEDULE_CANCEL));
    cr_expect(eq(i64, decision.tick_ms, state.unfinished_tick_ms));
}

/* ---- clocks --------------------------------------------------------------------------------- */

Test(schedule, a_clock_set_back_a_little_repeats_nothing)
{
    state.last_tick_ms = at("2026-11-21 03:00:00");
    decide("2026-11-21 02:59:00");
    cr_expect(eq(int, decision.action, CM_SCHEDULE_WAIT));
    cr_expect(eq(i64, decision.wake_ms, at("2026-11-22 03:00:00")));
}

Test(schedule, a_clock_set_back_a_day_or_more_is_counted_from_anew)
{
    state.last_tick_ms = at("2036-11-21 03:00:00");
    decide("2026-11-21 02:59:00");
    cr_assert(eq(int, decision.action, CM_SCHEDULE_RESET));
    cr_expect(eq(i64, decision.tick_ms, state.now_ms));
    state.last_tick_ms = decision.tick_ms;
    decide("2026-11-21 03:00:00");
    expect_start(CM_RUN_SCHEDULED, "2026-11-21 03:00:00");
}

Test(schedule, a_clock_set_forward_misses_ticks_by_the_policy)
{
    schedule.missed = CM_MISSED_ONCE;
    decide("2026-11-23 04:00:00");
    expect_pass(2, "2026-11-21 03:00:00", "2026-11-22 03:00:00");
    decide("2026-11-23 04:00:00");
    expect_start(CM_RUN_MISSED, "2026-11-23 03:00:00");
}

Test(schedule, a_job_of_29_february_waits_for_its_year)
{
    use("30 5 29 2 *", "Europe/Berlin");
    state.last_tick_ms = at("2024-02-29 04:30:00");
    decide("2026-02-28 12:00:00");
    cr_assert(eq(int, decision.action, CM_SCHEDULE_WAIT));
    cr_expect(eq(i64, decision.wake_ms, at("2028-02-29 04:30:00")));
    decide("2028-02-29 04:30:00");
    expect_start(CM_RUN_SCHEDULED, "2028-02-29 04:30:00");
}

Test(schedule, a_daily_job_runs_once_on_the_day_clocks_go_forward)
{
    use("30 2 * * *", "Europe/Berlin");
    state.last_tick_ms = at("2026-03-28 01:30:00");
    decide("2026-03-29 00:59:59");
    cr_assert(eq(int, decision.action, CM_SCHEDULE_WAIT));
    decide("2026-03-29 01:00:00");
    expect_start(CM_RUN_SCHEDULED, "2026-03-29 01:00:00");
    state.last_tick_ms = decision.tick_ms;
    decide("2026-03-29 01:30:00");
    cr_assert(eq(int, decision.action, CM_SCHEDULE_WAIT));
    cr_expect(eq(i64, decision.wake_ms, at("2026-03-30 00:30:00")));
}

Test(schedule, a_daily_job_runs_once_on_the_day_clocks_go_back)
{
    use("30 2 * * *", "Europe/Berlin");
    state.last_tick_ms = at("2026-10-24 00:30:00");
    decide("2026-10-25 00:30:00");
    expect_start(CM_RUN_SCHEDULED, "2026-10-25 00:30:00");
    state.last_tick_ms = decision.tick_ms;
    decide("2026-10-25 01:30:00");
    cr_assert(eq(int, decision.action, CM_SCHEDULE_WAIT));
    cr_expect(eq(i64, decision.wake_ms, at("2026-10-26 01:30:00")));
}

/* ---- jitter --------------------------------------------------------------------------------- */

Test(schedule, jitter_delays_a_tick_and_ends_before_the_next)
{
    use("*/5 * * * *", "UTC");
    schedule.jitter_ms = 3600 * 1000;
    for (int64_t tick = at("2026-11-20 03:00:00"); tick < at("2026-11-20 09:00:00");
         tick += 300000) {
        int64_t due = cm_schedule_due_ms(&schedule, tick);
        cr_assert(due >= tick && due < tick + 300000);
    }
}

Test(schedule, jitter_is_the_same_everywhere_and_differs_by_job_and_tick)
{
    schedule.jitter_ms = 3600 * 1000;
    int64_t tick = at("2026-11-21 03:00:00"), first = cm_schedule_due_ms(&schedule, tick);
    cr_expect(eq(i64, first - tick, 589824)); /* of this job and tick, on every machine */
    cr_expect(ne(i64, cm_schedule_due_ms(&schedule, tick + 86400000) - 86400000, first));
    schedule.job = "contact-deletion";
    cr_expect(ne(i64, cm_schedule_due_ms(&schedule, tick), first));
    schedule.jitter_ms = 0;
    cr_expect(eq(i64, cm_schedule_due_ms(&schedule, tick), tick));
}

Test(schedule, a_tick_is_run_when_its_jitter_is_over)
{
    schedule.jitter_ms = 3600 * 1000;
    state.now_ms = cm_schedule_due_ms(&schedule, at("2026-11-21 03:00:00"));
    state.now_ms--;
    cm_schedule_decide(&schedule, &state, &decision);
    cr_assert(eq(int, decision.action, CM_SCHEDULE_WAIT));
    cr_expect(eq(i64, decision.wake_ms, state.now_ms + 1));
    state.now_ms++;
    cm_schedule_decide(&schedule, &state, &decision);
    expect_start(CM_RUN_SCHEDULED, "2026-11-21 03:00:00");
    state.now_ms += schedule.grace_ms; /* grace begins when it is due */
    cm_schedule_decide(&schedule, &state, &decision);
    expect_start(CM_RUN_SCHEDULED, "2026-11-21 03:00:00");
}

/* ---- all of it ------------------------------------------------------------------------------ */

/* Instances that look at odd moments: each tick of a month is run or passed, once and in order. */
Test(schedule, every_tick_is_run_or_passed_exactly_once)
{
    use("*/20 1-3 * * *", "Europe/Berlin");
    schedule.jitter_ms = 1500 * 1000;
    for (schedule.missed = CM_MISSED_SKIP; schedule.missed <= CM_MISSED_ALL; schedule.missed++) {
        int64_t from = at("2026-10-01 00:00:00"), until = at("2026-11-01 12:00:00");
        int accounted = 0, expected = 0;
        uint64_t random = 7;
        state.last_tick_ms = from;
        for (state.now_ms = from; state.now_ms < until;) {
            cm_schedule_decide(&schedule, &state, &decision);
            if (decision.action == CM_SCHEDULE_WAIT) {
                cr_assert(gt(i64, decision.wake_ms, state.now_ms));
                random = random * 6364136223846793005u + 1442695040888963407u;
                state.now_ms = decision.wake_ms + (int64_t)(random >> 40) % 7200000;
                continue;
            }
            cr_assert(gt(i64, decision.tick_ms, state.last_tick_ms));
            accounted += decision.action == CM_SCHEDULE_PASS ? decision.ticks : 1;
            state.last_tick_ms = decision.tick_ms;
        }
        for (int64_t tick = from / 1000;
             (tick = cm_cron_next_s(&schedule.cron, zone, tick)) * 1000 <= state.last_tick_ms;)
            expected++;
        cr_expect(eq(int, accounted, expected));
        cr_expect(gt(int, expected, 31 * 8));
    }
}
