#include "actors/job_schedule.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

enum { NOON = 1795262400 }; /* 2026-11-21 12:00:00 UTC */
static const int64_t noon_ms = NOON * INT64_C(1000);

static cm_job_schedule_t opened(const char *cron)
{
    cm_job_schedule_t schedule;
    cm_error_t err = {0};
    cm_job_schedule_options_t options = {.cron = cron,
                                         .time_zone = "UTC",
                                         .missed = CM_MISSED_ONCE,
                                         .missed_max = 1,
                                         .grace_seconds = 300,
                                         .jitter_seconds = 0,
                                         .attempts = 3};
    if (cm_job_schedule_open(&schedule, "job", &options, &err) != CM_OK)
        cr_fatal("%s", err.message);
    return schedule;
}

static cm_schedule_decision_t decide(const char *cron, cm_schedule_state_t state)
{
    cm_job_schedule_t schedule = opened(cron);
    cm_schedule_decision_t decision;
    cm_job_schedule_decide(&schedule, &state, &decision);
    cm_job_schedule_close(&schedule);
    return decision;
}

Test(job_schedule, without_an_expression_nothing_is_ever_due)
{
    cm_schedule_decision_t decision =
        decide("", (cm_schedule_state_t){.now_ms = noon_ms, .last_tick_ms = 1000});
    cr_expect(eq(int, decision.action, CM_SCHEDULE_WAIT));
    cr_expect(eq(i64, decision.wake_ms, CM_SCHEDULE_NEVER));
}

Test(job_schedule, without_an_expression_what_is_asked_for_is_run)
{
    cm_schedule_decision_t decision = decide(
        "", (cm_schedule_state_t){.now_ms = noon_ms, .last_tick_ms = 1000, .requested_ms = 5000});
    cr_expect(eq(int, decision.action, CM_SCHEDULE_START));
    cr_expect(eq(i64, decision.tick_ms, 5000));
}

Test(job_schedule, without_an_expression_what_was_left_is_resumed)
{
    cm_schedule_decision_t decision =
        decide("", (cm_schedule_state_t){
                       .now_ms = noon_ms, .unfinished_tick_ms = 5000, .unfinished_attempts = 1});
    cr_expect(eq(int, decision.action, CM_SCHEDULE_RESUME));
}

Test(job_schedule, with_an_expression_its_ticks_are_due)
{
    cm_schedule_decision_t decision = decide(
        "@hourly", (cm_schedule_state_t){.now_ms = noon_ms + 1000, .last_tick_ms = noon_ms - 1});
    cr_expect(eq(int, decision.action, CM_SCHEDULE_START));
    cr_expect(eq(i64, decision.tick_ms, noon_ms));
}

Test(job_schedule, the_next_time_is_that_of_the_first_tick_that_is_not_done)
{
    cm_job_schedule_t hourly = opened("@hourly"), none = opened("");
    cm_schedule_state_t state = {.now_ms = noon_ms + 1000, .last_tick_ms = noon_ms - 1};
    cr_expect(eq(i64, cm_job_schedule_next_ms(&hourly, &state), noon_ms));
    state.last_tick_ms = noon_ms;
    cr_expect(eq(i64, cm_job_schedule_next_ms(&hourly, &state), noon_ms + 3600000));
    cr_expect(eq(i64, cm_job_schedule_next_ms(&none, &state), CM_SCHEDULE_NEVER));
    cm_job_schedule_close(&hourly);
    cm_job_schedule_close(&none);
}

Test(job_schedule, a_bad_expression_or_zone_opens_nothing)
{
    cm_job_schedule_t schedule;
    cm_error_t err = {0};
    cm_job_schedule_options_t options = {.cron = "61 * * * *", .time_zone = "UTC"};
    cr_expect(eq(int, cm_job_schedule_open(&schedule, "job", &options, &err), CM_MISCONFIGURED));
    cr_expect(eq(str, err.code, "bad-cron"));
    cm_job_schedule_close(&schedule);
    options = (cm_job_schedule_options_t){.cron = "@daily", .time_zone = "Mars/Olympus"};
    cr_expect(eq(int, cm_job_schedule_open(&schedule, "job", &options, &err), CM_MISCONFIGURED));
    cr_expect(eq(str, err.code, "bad-time-zone"));
    cm_job_schedule_close(&schedule);
}
