/* metrics - counters, gauges and histograms kept by one actor, shown for all by the monitor.
 *
 * Share nothing: each actor counts in its own cm_metrics_t, and sends a snapshot frame to the
 * monitor now and then; the monitor's board keeps the latest snapshot of each source, sums series
 * of the same name and labels over all sources, and renders Prometheus text. A snapshot is a beat
 * of its actor too. Names carry the prefix "client_manager_", base units and "_total" as in the
 * specification.
 */
#ifndef CM_RUNTIME_METRICS_H
#define CM_RUNTIME_METRICS_H
#include "runtime/buffer.h"
#include "runtime/status.h"

#include <stdint.h>

typedef struct cm_metrics cm_metrics_t;
typedef struct cm_metric cm_metric_t; /* borrowed from its cm_metrics_t, valid as long as that */

cm_metrics_t *cm_metrics_new(const char *source); /* unique per actor: "writer/0"; copied */
void cm_metrics_destroy(cm_metrics_t **self_p);

/* Register or find a series. labels: `subscription="writer",outcome="applied"` or "" (copied,
 * values already escaped). The same name must keep its kind and help. Never NULL. */
cm_metric_t *cm_metrics_counter(cm_metrics_t *self, const char *name, const char *help,
                                const char *labels);
cm_metric_t *cm_metrics_gauge(cm_metrics_t *self, const char *name, const char *help,
                              const char *labels);
/* Seconds; buckets 0.005 .. 10 as in the OpenTelemetry messaging convention. */
cm_metric_t *cm_metrics_histogram(cm_metrics_t *self, const char *name, const char *help,
                                  const char *labels);
/* Append `name="value"` to labels, after a comma if need be, with what the text format wants
 * escaped. */
void cm_metrics_label(cm_buffer_t *labels, const char *name, const char *value);

void cm_metric_add(cm_metric_t *self, uint64_t count);     /* counter */
void cm_metric_set(cm_metric_t *self, double value);       /* gauge */
void cm_metric_observe(cm_metric_t *self, double seconds); /* histogram, one value */
uint64_t cm_metric_count(const cm_metric_t *self); /* counter value, or histogram observations */

/* The whole of self as one MessagePack frame, appended to out. */
void cm_metrics_encode(const cm_metrics_t *self, cm_buffer_t *out);

typedef struct cm_metrics_board cm_metrics_board_t;
cm_metrics_board_t *cm_metrics_board_new(void);
void cm_metrics_board_destroy(cm_metrics_board_t **self_p);
/* Take a snapshot frame; it replaces the former one of its source. CM_PERMANENT when malformed.
 * A counter that went back (its actor was restarted) goes on from its former value. */
cm_status_t cm_metrics_board_put(cm_metrics_board_t *self, const void *frame, size_t len,
                                 int64_t now_ms, cm_error_t *err);
/* Milliseconds since the source's last snapshot; -1 when never seen. */
int64_t cm_metrics_board_age_ms(const cm_metrics_board_t *self, const char *source, int64_t now_ms);
/* Sum of one series over all sources; 0 when unknown. labels as at registration. */
double cm_metrics_board_value(const cm_metrics_board_t *self, const char *name, const char *labels);
/* Prometheus text format 0.0.4, families sorted by name; openmetrics adds "# EOF". */
void cm_metrics_board_render(const cm_metrics_board_t *self, int openmetrics, cm_buffer_t *out);
#endif
