#include "runtime/breaker.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

enum { OPEN_AFTER = 5, PROBE_MIN_MS = 500, PROBE_MAX_MS = 30000, START_MS = 1000000 };

static cm_breaker_t new_breaker(void)
{
    cm_breaker_t breaker;
    cm_breaker_init(&breaker, OPEN_AFTER, PROBE_MIN_MS, PROBE_MAX_MS, 1);
    return breaker;
}

static bool record(cm_breaker_t *breaker, cm_status_t status, int64_t now_ms)
{
    return cm_breaker_record(breaker, status, NULL, now_ms);
}

static cm_breaker_t opened_breaker(void)
{
    cm_breaker_t breaker = new_breaker();
    for (int i = 0; i < OPEN_AFTER; i++)
        record(&breaker, CM_UNAVAILABLE, START_MS);
    cr_assert(eq(int, breaker.state, CM_BREAKER_OPEN));
    return breaker;
}

static cm_breaker_t half_open_breaker(void)
{
    cm_breaker_t breaker = opened_breaker();
    cr_assert(cm_breaker_allows(&breaker, breaker.next_probe_ms));
    cr_assert(eq(int, breaker.state, CM_BREAKER_HALF_OPEN));
    return breaker;
}

Test(breaker, a_new_one_is_closed)
{
    cm_breaker_t breaker = new_breaker();
    cr_expect(cm_breaker_allows(&breaker, START_MS));
    cr_expect(eq(int, cm_breaker_wait_ms(&breaker, START_MS), 0));
    cr_expect(eq(i64, breaker.opened_at_ms, 0));
}

Test(breaker, opens_at_the_last_of_the_failures_in_a_row)
{
    cm_breaker_t breaker = new_breaker();
    for (int i = 1; i < OPEN_AFTER; i++) {
        cr_assert(not(record(&breaker, CM_UNAVAILABLE, START_MS + i)));
        cr_assert(cm_breaker_allows(&breaker, START_MS + i));
    }
    cr_expect(record(&breaker, CM_UNAVAILABLE, START_MS + 9));
    cr_expect(not(cm_breaker_allows(&breaker, START_MS + 9)));
    cr_expect(eq(i64, breaker.opened_at_ms, START_MS + 9));
}

Test(breaker, failures_in_a_row_may_lie_far_apart)
{
    cm_breaker_t breaker = new_breaker();
    for (int i = 0; i < OPEN_AFTER; i++)
        record(&breaker, CM_UNAVAILABLE, START_MS + i * 60000);
    cr_expect(eq(int, breaker.state, CM_BREAKER_OPEN));
}

Test(breaker, a_wrong_deployment_counts_as_a_failure)
{
    cm_breaker_t breaker = new_breaker();
    for (int i = 0; i < OPEN_AFTER; i++)
        record(&breaker, CM_MISCONFIGURED, START_MS);
    cr_expect(eq(int, breaker.state, CM_BREAKER_OPEN));
}

Test(breaker, an_answer_about_a_message_is_no_failure)
{
    static const cm_status_t answers[] = {CM_OK, CM_TRANSIENT, CM_PERMANENT, CM_MISSING};
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        cm_breaker_t breaker = new_breaker();
        for (int n = 0; n < 100; n++)
            cr_assert(not(record(&breaker, answers[i], START_MS)), "%s",
                      cm_status_name(answers[i]));
        cr_expect(eq(u32, breaker.failures, 0));
    }
}

Test(breaker, an_answer_ends_the_row_of_failures)
{
    cm_breaker_t breaker = new_breaker();
    for (int i = 1; i < OPEN_AFTER; i++)
        record(&breaker, CM_UNAVAILABLE, START_MS);
    record(&breaker, CM_PERMANENT, START_MS);
    cr_expect(not(record(&breaker, CM_UNAVAILABLE, START_MS)));
    cr_expect(eq(u32, breaker.failures, 1));
}

Test(breaker, a_cancelled_use_says_nothing)
{
    cm_breaker_t breaker = new_breaker();
    for (int i = 1; i < OPEN_AFTER; i++)
        record(&breaker, CM_UNAVAILABLE, START_MS);
    cr_expect(not(record(&breaker, CM_CANCELLED, START_MS)));
    cr_expect(eq(u32, breaker.failures, OPEN_AFTER - 1));
    breaker = half_open_breaker();
    cr_expect(not(record(&breaker, CM_CANCELLED, START_MS)));
    cr_expect(eq(int, breaker.state, CM_BREAKER_HALF_OPEN));
}

/* Failures and answers by turns: never a row, always a half. Answers come first. */
static int results_until_open(cm_breaker_t *breaker, int step_ms)
{
    for (int i = 1; i <= 100; i++)
        if (record(breaker, i % 2 ? CM_OK : CM_UNAVAILABLE, START_MS + i * step_ms))
            return i;
    return 0;
}

Test(breaker, opens_when_half_of_ten_recent_results_failed)
{
    cm_breaker_t breaker = new_breaker();
    cr_expect(eq(int, results_until_open(&breaker, 1), 10));
    cr_expect(eq(int, breaker.state, CM_BREAKER_OPEN));
}

Test(breaker, fewer_than_ten_results_within_ten_seconds_do_not_open_it)
{
    cm_breaker_t breaker = new_breaker();
    cr_expect(eq(int, results_until_open(&breaker, 1200), 0));
}

Test(breaker, a_share_below_half_does_not_open_it)
{
    cm_breaker_t breaker = new_breaker();
    for (int i = 0; i < 200; i++)
        cr_assert(not(record(&breaker, i % 5 < 3 ? CM_OK : CM_UNAVAILABLE, START_MS)), "%d", i);
}

Test(breaker, only_the_last_twenty_results_count)
{
    cm_breaker_t breaker = new_breaker();
    for (int i = 0; i < 100; i++)
        record(&breaker, CM_OK, START_MS);
    /* Nine failures among the last twenty, in pairs, then the tenth. */
    for (int i = 0; i < 18; i++)
        cr_assert(not(record(&breaker, i % 2 ? CM_UNAVAILABLE : CM_OK, START_MS)), "%d", i);
    record(&breaker, CM_OK, START_MS);
    cr_expect(record(&breaker, CM_UNAVAILABLE, START_MS));
}

Test(breaker, results_older_than_ten_seconds_are_forgotten)
{
    cm_breaker_t breaker = new_breaker();
    for (int i = 0; i < 9; i++) /* four failures */
        record(&breaker, i % 2 ? CM_UNAVAILABLE : CM_OK, START_MS);
    cm_breaker_t late = breaker;
    cr_expect(record(&breaker, CM_UNAVAILABLE, START_MS + 10000));
    cr_expect(not(record(&late, CM_UNAVAILABLE, START_MS + 10001)));
}

Test(breaker, the_first_probe_is_due_within_the_shortest_wait)
{
    cm_breaker_t breaker = opened_breaker();
    int wait_ms = cm_breaker_wait_ms(&breaker, START_MS);
    cr_expect(ge(int, wait_ms, 1));
    cr_expect(le(int, wait_ms, PROBE_MIN_MS));
    cr_expect(not(cm_breaker_allows(&breaker, START_MS + wait_ms - 1)));
    cr_expect(eq(int, breaker.state, CM_BREAKER_OPEN));
    cr_expect(cm_breaker_allows(&breaker, START_MS + wait_ms));
    cr_expect(eq(int, breaker.state, CM_BREAKER_HALF_OPEN));
    cr_expect(eq(int, cm_breaker_wait_ms(&breaker, START_MS + wait_ms), 0));
}

Test(breaker, a_failed_probe_opens_again_with_longer_waits)
{
    cm_breaker_t breaker = half_open_breaker();
    int64_t now_ms = breaker.next_probe_ms;
    int longest = 0;
    for (int i = 0; i < 200; i++) {
        cr_assert(record(&breaker, CM_UNAVAILABLE, now_ms));
        cr_assert(eq(int, breaker.state, CM_BREAKER_OPEN));
        int wait_ms = cm_breaker_wait_ms(&breaker, now_ms);
        cr_assert(le(int, wait_ms, PROBE_MAX_MS));
        longest = wait_ms > longest ? wait_ms : longest;
        now_ms += wait_ms;
        cr_assert(cm_breaker_allows(&breaker, now_ms));
    }
    cr_expect(gt(int, longest, PROBE_MAX_MS / 2));
    cr_expect(eq(i64, breaker.opened_at_ms, START_MS), "one outage, one beginning");
}

Test(breaker, a_good_probe_closes_and_forgets_the_outage)
{
    cm_breaker_t breaker = half_open_breaker();
    cr_expect(record(&breaker, CM_OK, START_MS + 600));
    cr_expect(eq(int, breaker.state, CM_BREAKER_CLOSED));
    cr_expect(eq(i64, breaker.opened_at_ms, 0));
    cr_expect(eq(str, breaker.reason, ""));
    cr_expect(eq(u32, breaker.backoff.attempts, 0));
    for (int i = 1; i < OPEN_AFTER; i++)
        cr_expect(not(record(&breaker, CM_UNAVAILABLE, START_MS + 600)), "failure %d", i);
    cr_expect(record(&breaker, CM_UNAVAILABLE, START_MS + 600));
}

Test(breaker, results_that_arrive_while_open_change_nothing)
{
    cm_breaker_t breaker = opened_breaker();
    int64_t due_ms = breaker.next_probe_ms;
    cr_expect(not(record(&breaker, CM_OK, START_MS + 1)));
    cr_expect(not(record(&breaker, CM_UNAVAILABLE, START_MS + 2)));
    cr_expect(eq(int, breaker.state, CM_BREAKER_OPEN));
    cr_expect(eq(i64, breaker.next_probe_ms, due_ms));
}

Test(breaker, the_reason_is_the_last_error_or_else_its_status)
{
    cm_breaker_t breaker = opened_breaker();
    cr_expect(eq(str, breaker.reason, "unavailable"));
    cm_breaker_allows(&breaker, breaker.next_probe_ms);
    cm_error_t err = {0};
    cm_error_set(&err, CM_UNAVAILABLE, "08006", "server is read-only");
    cm_breaker_record(&breaker, err.status, &err, START_MS + 600);
    cr_expect(eq(str, breaker.reason, "server is read-only"));
}

Test(breaker, every_state_has_a_name)
{
    cr_expect(eq(str, cm_breaker_state_name(CM_BREAKER_CLOSED), "closed"));
    cr_expect(eq(str, cm_breaker_state_name(CM_BREAKER_OPEN), "open"));
    cr_expect(eq(str, cm_breaker_state_name(CM_BREAKER_HALF_OPEN), "half-open"));
    cr_expect(eq(str, cm_breaker_state_name((cm_breaker_state_t)9), "unknown"));
}
