/* monitor_view - what the monitor knows of the actors, and how it tells it. No I/O but /proc.
 *
 * /livez    no expected actor is silent for longer than beat_timeout_ms (counted from the monitor's
 *           own start for one that never spoke). Touches no dependency.
 * /readyz   every expected actor is running; verbose: one line an actor with state, since, last
 * error
 * /metrics  what the actors count, the ledger by flow, states, and the process itself
 * /ledger   JSON: the sum over all flows, and each in "flows"; balanced only if each of them is
 *
 * A source that starts anew counts from zero: what its former life brought to an end stays in the
 * sum; what it only held (in flight, retrying) comes in again as received and is left out.
 */
#ifndef CM_ACTORS_MONITOR_VIEW_H
#define CM_ACTORS_MONITOR_VIEW_H
#include "proto/report.h"
#include "runtime/buffer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct { /* both clocks of one moment; runtime/clock.h */
    int64_t epoch_ms, mono_ms;
} cm_moment_t;

typedef struct cm_monitor_view cm_monitor_view_t;

/* All texts are copied. */
cm_monitor_view_t *cm_monitor_view_new(const char *version, const char *const *expected,
                                       size_t expected_count, int beat_timeout_ms, cm_moment_t now);
void cm_monitor_view_destroy(cm_monitor_view_t **self_p);

/* Take a report in. CM_PERMANENT when its source has no name or its metrics are malformed. */
cm_status_t cm_monitor_view_put(cm_monitor_view_t *self, const cm_report_t *report, cm_moment_t now,
                                cm_error_t *err);
cm_ledgers_t cm_monitor_view_ledgers(const cm_monitor_view_t *self);

/* Each appends its text to out. */
bool cm_monitor_view_live(const cm_monitor_view_t *self, cm_moment_t now, cm_buffer_t *out);
bool cm_monitor_view_ready(const cm_monitor_view_t *self, bool verbose, cm_buffer_t *out);
void cm_monitor_view_ledger_json(const cm_monitor_view_t *self, cm_buffer_t *out);
/* Prometheus text 0.0.4, or OpenMetrics 1.0. */
void cm_monitor_view_metrics(cm_monitor_view_t *self, cm_moment_t now, bool openmetrics,
                             cm_buffer_t *out);
#endif
