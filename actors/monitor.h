/* monitor - collect what every actor reports, and show it over HTTP.
 *
 * reports   PULL, bound          [report]     proto/report.h, one frame; each is a beat of its
 * source pipe      "PORT"               answers the bound TCP port as text, "0" without HTTP
 *           "LEDGER"             answers the ledger as JSON text, after every report sent before
 *           "$TERM"              stop; other words are passed over
 * HTTP      GET and HEAD         /livez /healthz /readyz[?verbose] /metrics /ledger; see
 *                                actors/monitor_view.h for what they say
 * Everything runs in the actor's own thread, one request at a time; at most 64 connections, 16 KiB
 * of request head each, closed after 10 s without progress. Owns the reports of all actors.
 * Rule: conventions, "Health" and "Metrics".
 */
#ifndef CM_ACTORS_MONITOR_H
#define CM_ACTORS_MONITOR_H
#include <czmq.h>
#include <stddef.h>

typedef struct {         /* borrowed until cm_actor_start() returns */
    const char *reports; /* endpoint to bind, CM_ENDPOINT_REPORTS */
    const char *listen;  /* "127.0.0.1:8089", "[::1]:0"; port 0 = any free one; "" = no HTTP */
    const char *version;
    const char *const *expected; /* names of the actors that must beat, and run for readiness */
    size_t expected_count;
    int beat_timeout_ms;
} cm_monitor_args_t;

/* Body for cm_actor_start(). Reports CM_MISCONFIGURED for a listen address that cannot be right,
 * and CM_UNAVAILABLE for one, or a reports endpoint, that somebody else has. */
void cm_monitor_actor(zsock_t *pipe, void *args);
#endif
