#include "proto/report.h"
#include "proto/frame.h"
#include "runtime/cleanup.h"

#include <stddef.h>

/* A LEDGER frame lists the counters of each flow in this order; append only. */
static const size_t ledger_offsets[] = {
    offsetof(cm_ledger_t, received),       offsetof(cm_ledger_t, applied),
    offsetof(cm_ledger_t, stale),          offsetof(cm_ledger_t, duplicate),
    offsetof(cm_ledger_t, dropped),        offsetof(cm_ledger_t, retrying),
    offsetof(cm_ledger_t, dead),           offsetof(cm_ledger_t, in_flight),
    offsetof(cm_ledger_t, deferred_total), offsetof(cm_ledger_t, released_total),
    offsetof(cm_ledger_t, retried_total),
};
_Static_assert(sizeof(cm_ledger_t) == CM_LENGTH(ledger_offsets) * sizeof(uint64_t),
               "every counter of the ledger travels");

enum { COUNTERS = CM_LENGTH(ledger_offsets), ALL_COUNTERS = CM_FLOW_COUNT * COUNTERS };

static uint64_t *counter(const cm_ledger_t *ledger, size_t i)
{
    return (uint64_t *)((char *)ledger + ledger_offsets[i]);
}

static uint64_t *counter_of_all(const cm_ledgers_t *ledgers, size_t i)
{
    return counter(&ledgers->flows[i / COUNTERS], i % COUNTERS);
}

const char *cm_actor_state_name(cm_actor_state_t state)
{
    switch (state) {
    case CM_ACTOR_STARTING:
        return "starting";
    case CM_ACTOR_RUNNING:
        return "running";
    case CM_ACTOR_PAUSED:
        return "paused";
    case CM_ACTOR_STOPPED:
        return "stopped";
    case CM_ACTOR_DRAINING:
        return "draining";
    }
    return "unknown";
}

int64_t cm_ledger_drift(const cm_ledger_t *ledger)
{
    return (int64_t)(ledger->received - ledger->applied - ledger->stale - ledger->duplicate -
                     ledger->dropped - ledger->retrying - ledger->dead - ledger->in_flight);
}

void cm_ledger_add(cm_ledger_t *sum, const cm_ledger_t *more)
{
    for (size_t i = 0; i < COUNTERS; i++)
        *counter(sum, i) += *counter(more, i);
}

cm_ledger_t cm_ledgers_sum(const cm_ledgers_t *ledgers)
{
    cm_ledger_t sum = {0};
    for (int flow = 0; flow < CM_FLOW_COUNT; flow++)
        if (flow != CM_FLOW_DEAD_LETTERS)
            cm_ledger_add(&sum, &ledgers->flows[flow]);
    return sum;
}

bool cm_ledgers_balanced(const cm_ledgers_t *ledgers)
{
    for (int flow = 0; flow < CM_FLOW_COUNT; flow++)
        if (cm_ledger_drift(&ledgers->flows[flow]) != 0)
            return false;
    return true;
}

/* Elements of a frame of this kind: kind and source, then what the kind tells. */
static size_t elements_of(cm_report_kind_t kind)
{
    switch (kind) {
    case CM_REPORT_STATE:
        return 2 + 2;
    case CM_REPORT_LEDGER:
        return 2 + ALL_COUNTERS;
    case CM_REPORT_METRICS:
        break;
    }
    return 2 + 1;
}

void cm_report_encode(const cm_report_t *report, cm_buffer_t *out)
{
    msgpack_packer packer = cm_frame_packer(out);
    msgpack_pack_array(&packer, elements_of(report->kind));
    msgpack_pack_unsigned_int(&packer, report->kind);
    cm_frame_pack_text(&packer, report->source);
    switch (report->kind) {
    case CM_REPORT_STATE:
        msgpack_pack_unsigned_int(&packer, report->state);
        cm_frame_pack_text(&packer, report->text);
        break;
    case CM_REPORT_LEDGER:
        for (size_t i = 0; i < ALL_COUNTERS; i++)
            msgpack_pack_uint64(&packer, *counter_of_all(&report->ledgers, i));
        break;
    case CM_REPORT_METRICS:
        cm_frame_pack_text(&packer, report->metrics);
        break;
    }
}

cm_status_t cm_report_decode(const void *frame, size_t len, cm_report_t *ret_report,
                             cm_error_t *err)
{
    cm_frame_reader_t reader = cm_frame_reader(frame, len);
    cm_report_t report = {0};
    size_t elements = cm_frame_array(&reader, 1);
    report.kind = (cm_report_kind_t)cm_frame_u64(&reader, CM_REPORT_METRICS);
    if (elements != elements_of(report.kind))
        cm_frame_fail(&reader, "as many elements as its kind asks");
    report.source = cm_frame_text(&reader);
    switch (report.kind) {
    case CM_REPORT_STATE:
        report.state = (cm_actor_state_t)cm_frame_u64(&reader, CM_ACTOR_DRAINING);
        report.text = cm_frame_text(&reader);
        break;
    case CM_REPORT_LEDGER:
        for (size_t i = 0; i < ALL_COUNTERS; i++)
            *counter_of_all(&report.ledgers, i) = cm_frame_u64(&reader, UINT64_MAX);
        break;
    case CM_REPORT_METRICS:
        report.metrics = cm_frame_text(&reader);
        break;
    }
    cm_status_t status = cm_frame_end(&reader, "report", err);
    if (status == CM_OK)
        *ret_report = report;
    return status;
}
