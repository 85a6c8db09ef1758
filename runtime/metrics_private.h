/* metrics_private - what the counting side and the board share: kinds, buckets and the frame.
 *
 * frame     [version, source, run, [family...]]     run: random per cm_metrics_t, tells a restart
 * family    [kind, name, help, [[labels, value]...]]
 * value     counter: unsigned; gauge: float; histogram: [sum, count of each bucket...]
 */
#ifndef CM_RUNTIME_METRICS_PRIVATE_H
#define CM_RUNTIME_METRICS_PRIVATE_H
#include "runtime/hash.h"
#include "runtime/str.h"

#include <stdbool.h>
#include <stdint.h>

typedef enum { CM_METRIC_COUNTER, CM_METRIC_GAUGE, CM_METRIC_HISTOGRAM } cm_metric_kind_t;

enum {
    CM_METRICS_FRAME_VERSION = 1,
    CM_METRIC_BOUNDS = 14,
    CM_METRIC_BUCKETS, /* one more: above the last bound */
};

/* Upper bounds in seconds. Rule: OpenTelemetry, semantic conventions for messaging metrics. */
extern const double cm_metric_bounds[CM_METRIC_BOUNDS];

/* May this be the name of a metric? Rule: Prometheus data model. */
bool cm_metric_name_valid(cm_str_t name);

/* Value of a series of any kind: a counter in counts[0], a gauge in number, a histogram in both. */
typedef struct {
    double number;
    uint64_t counts[CM_METRIC_BUCKETS]; /* each bucket by itself, not cumulated */
} cm_metric_value_t;
#endif
