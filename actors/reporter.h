/* reporter - an actor's side of the monitor: tell state, send metrics and ledger now and then.
 *
 * Never blocks: when the monitor does not keep up, a report is dropped; the next one says all
 * again.
 */
#ifndef CM_ACTORS_REPORTER_H
#define CM_ACTORS_REPORTER_H
#include "proto/report.h"
#include "runtime/metrics.h"

#include <czmq.h>

enum { CM_REPORT_INTERVAL_MS = 250 };

typedef struct {
    char source[64];       /* "writer/0" */
    zsock_t *socket;       /* PUSH to CM_ENDPOINT_REPORTS; NULL: reports go nowhere */
    cm_metrics_t *metrics; /* the actor's own */
    int64_t next_ms;       /* monotonic */
    cm_actor_state_t state;
    char text[CM_ERROR_MESSAGE_MAX]; /* why */
} cm_reporter_t;

/* endpoint NULL: keep metrics, send nothing (tests). */
cm_status_t cm_reporter_open(cm_reporter_t *self, const char *endpoint, const char *source,
                             cm_error_t *err);
void cm_reporter_close(cm_reporter_t *self); /* sends a last snapshot */
/* Tell a state and why ("" = nothing to say), at once when it is news. */
void cm_reporter_state(cm_reporter_t *self, cm_actor_state_t state, const char *text);
/* Is the interval over? Set gauges that are costly to work out only then, before the tick. */
bool cm_reporter_due(const cm_reporter_t *self);
/* Send state and metrics if the interval is over. */
void cm_reporter_tick(cm_reporter_t *self);
void cm_reporter_beat(void *self); /* the same, as cm_pg_options_t wants it */
void cm_reporter_ledgers(cm_reporter_t *self, const cm_ledgers_t *ledgers);
#endif
