#include "proto/report.h"
#include "runtime/cleanup.h"
#include "tests/proto/frame_cases.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

static cm_report_t random_report(cm_arena_t *arena, uint64_t *random)
{
    cm_report_t report = {.kind = (cm_report_kind_t)cm_random_below(random, 3),
                          .source = random_text(arena, random)};
    if (report.kind == CM_REPORT_STATE) {
        report.state = (cm_actor_state_t)cm_random_below(random, CM_ACTOR_DRAINING + 1);
        report.text = random_text(arena, random);
    } else if (report.kind == CM_REPORT_METRICS) {
        report.metrics = random_text(arena, random);
    } else {
        uint64_t *counters = &report.ledgers.flows[0].received;
        for (size_t i = 0; i < sizeof report.ledgers / sizeof *counters; i++)
            counters[i] = random_number(random);
    }
    return report;
}

static void expect_malformed(const void *bytes, size_t len)
{
    CM_CLEANUP(cm_free) void *copy = exact_copy(bytes, len);
    cm_report_t report;
    cm_error_t err = {0};
    cr_expect(eq(int, cm_report_decode(copy, len, &report, &err), CM_PERMANENT));
    cr_expect(eq(str, err.code, "malformed"));
}

Test(report, random_reports_come_out_as_they_went_in, .timeout = 60)
{
    uint64_t random = 3;
    for (int round = 0; round < 2000; round++) {
        CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(1 << 12);
        CM_CLEANUP(cm_buffer_destroy) cm_buffer_t frame = {0};
        cm_report_t sent = random_report(arena, &random), got;
        cm_report_encode(&sent, &frame);
        cr_assert(eq(int, cm_report_decode(frame.data, frame.len, &got, NULL), CM_OK));
        cr_expect(eq(int, got.kind, sent.kind));
        cr_expect(cm_str_eq(got.source, sent.source));
        cr_expect(eq(int, got.state, sent.state));
        cr_expect(cm_str_eq(got.text, sent.text));
        cr_expect(cm_str_eq(got.metrics, sent.metrics));
        cr_expect(memcmp(&got.ledgers, &sent.ledgers, sizeof got.ledgers) == 0);
    }
}

Test(report, every_truncated_frame_and_every_overlong_one_is_refused)
{
    for (int kind = CM_REPORT_STATE; kind <= CM_REPORT_METRICS; kind++) {
        CM_CLEANUP(cm_buffer_destroy) cm_buffer_t frame = {0};
        const cm_report_t report = {.kind = (cm_report_kind_t)kind,
                                    .source = CM_STR("writer/0"),
                                    .text = CM_STR("database is away"),
                                    .metrics = CM_STR("snapshot"),
                                    .ledgers.flows[0] = {.received = 1u << 20}};
        cm_report_encode(&report, &frame);
        for (size_t len = 0; len < frame.len; len++)
            expect_malformed(frame.data, len);
        cm_buffer_append(&frame, "\xc0", 1);
        expect_malformed(frame.data, frame.len);
    }
}

Test(report, unknown_kinds_states_and_shapes_are_refused)
{
    expect_malformed("\x93\x03\xc4\x01w\xc4\x00", 7);     /* kind 3 */
    expect_malformed("\x94\x00\xc4\x01w\x05\xc4\x00", 8); /* state 5 */
    expect_malformed("\x93\x00\xc4\x01w\x01", 6);         /* a STATE without text */
    expect_malformed("\x94\x02\xc4\x01w\xc4\x00\x00", 8); /* METRICS and more */
    expect_malformed("\x90", 1);
    cm_report_t report;
    cr_expect(eq(int, cm_report_decode(NULL, 0, &report, NULL), CM_PERMANENT));
}

Test(report, a_ledger_drifts_by_what_no_bucket_holds)
{
    cm_ledger_t ledger = {.received = 28,
                          .applied = 1,
                          .stale = 2,
                          .duplicate = 3,
                          .dropped = 4,
                          .retrying = 5,
                          .dead = 6,
                          .in_flight = 7,
                          .deferred_total = 100,
                          .released_total = 100,
                          .retried_total = 100};
    cr_expect(eq(i64, cm_ledger_drift(&ledger), 0));
    ledger.received = 30;
    cr_expect(eq(i64, cm_ledger_drift(&ledger), 2));
    ledger.received = 25;
    cr_expect(eq(i64, cm_ledger_drift(&ledger), -3));
}

Test(report, the_sum_counts_a_message_once_and_balances_only_if_each_flow_does)
{
    cm_ledgers_t ledgers = {0};
    for (int flow = 0; flow < CM_FLOW_COUNT; flow++)
        ledgers.flows[flow] = (cm_ledger_t){.received = 3, .applied = 2, .dead = 1};
    cm_ledger_t sum = cm_ledgers_sum(&ledgers);
    cr_expect(eq(u64, sum.received, 3 * (CM_FLOW_COUNT - 1)), "the dead letters are not in it");
    cr_expect(eq(u64, sum.dead, CM_FLOW_COUNT - 1));
    cr_expect(cm_ledgers_balanced(&ledgers));
    ledgers.flows[CM_FLOW_TOKEN_STATUS].applied++;
    ledgers.flows[CM_FLOW_DEVICES].applied--;
    sum = cm_ledgers_sum(&ledgers);
    cr_expect(eq(i64, cm_ledger_drift(&sum), 0));
    cr_expect(not(cm_ledgers_balanced(&ledgers)), "two faults that cancel out are two faults");
}

Test(report, every_state_has_its_name)
{
    static const char *const names[] = {"starting", "running", "paused", "stopped", "draining"};
    for (int state = CM_ACTOR_STARTING; state <= CM_ACTOR_DRAINING; state++)
        cr_expect(
            eq(str, (char *)cm_actor_state_name((cm_actor_state_t)state), (char *)names[state]));
    cr_expect(eq(str, (char *)cm_actor_state_name((cm_actor_state_t)99), "unknown"));
}
