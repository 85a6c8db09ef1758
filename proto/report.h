/* report - what actors tell the monitor: state, ledger, metrics.
 *
 * Frame: MessagePack array [kind, source, ...], texts as bin: STATE is followed by state and text,
 * LEDGER by the counters of each flow in the order of cm_ledgers_t, METRICS by the snapshot of
 * runtime/metrics.
 * Each report is a beat of its actor.
 */
#ifndef CM_PROTO_REPORT_H
#define CM_PROTO_REPORT_H
#include "proto/subscription.h"
#include "runtime/buffer.h"
#include "runtime/status.h"
#include "runtime/str.h"

#include <stdbool.h>
#include <stdint.h>

typedef enum { CM_REPORT_STATE, CM_REPORT_LEDGER, CM_REPORT_METRICS } cm_report_kind_t;

typedef enum { /* of an actor, for /readyz */
               CM_ACTOR_STARTING,
               CM_ACTOR_RUNNING,
               CM_ACTOR_PAUSED,  /* a dependency is away; consumption waits */
               CM_ACTOR_STOPPED, /* a deployment fault; a person must act */
               CM_ACTOR_DRAINING
} cm_actor_state_t;
const char *cm_actor_state_name(cm_actor_state_t state);

/* The balance of one flow: received = applied + stale + duplicate + dropped + retrying + dead +
 * in_flight, in every snapshot. Unit: messages. received counts what this instance took and did not
 * give back; retrying counts what it handed to the retry path and has not taken up again (a retry
 * that another instance or an earlier run handed on is received anew). */
typedef struct {
    uint64_t received, applied, stale, duplicate, dropped, retrying, dead, in_flight;
    uint64_t deferred_total, released_total, retried_total; /* beside the balance, cumulative */
} cm_ledger_t;
/* received minus all the buckets; 0 when balanced. */
int64_t cm_ledger_drift(const cm_ledger_t *ledger);
void cm_ledger_add(cm_ledger_t *sum, const cm_ledger_t *more);

typedef struct {
    cm_ledger_t flows[CM_FLOW_COUNT]; /* by cm_flow_t */
} cm_ledgers_t;
/* Over all flows, each message once: without the dead letters, which were counted where they died.
 */
cm_ledger_t cm_ledgers_sum(const cm_ledgers_t *ledgers);
bool cm_ledgers_balanced(const cm_ledgers_t *ledgers); /* is each of them? */

typedef struct {
    cm_report_kind_t kind;
    cm_str_t source;        /* "writer/0" */
    cm_actor_state_t state; /* STATE */
    cm_str_t text;          /* STATE: why */
    cm_ledgers_t ledgers;   /* LEDGER */
    cm_str_t metrics;       /* METRICS: snapshot */
} cm_report_t;              /* texts point into the frame */

void cm_report_encode(const cm_report_t *report, cm_buffer_t *out);
cm_status_t cm_report_decode(const void *frame, size_t len, cm_report_t *ret_report,
                             cm_error_t *err);
#endif
