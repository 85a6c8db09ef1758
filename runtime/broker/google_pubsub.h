/* google_pubsub - options of the Google Pub/Sub driver (REST v1); the driver is in broker.h.
 *
 * Address: BASE/projects/PROJECT, as https://pubsub.googleapis.com/projects/my-project. A base of
 * http:// is an emulator: no credentials are fetched or sent. Topic t and subscription t are
 * projects/PROJECT/topics/t and .../subscriptions/t.
 *
 * What differs from a broker that counts: a pull of the caller is served from answers of several
 * requests that wait at the service at once; defer is a lease of up to 600 s that is not extended;
 * depth comes from Cloud Monitoring and is unknown (not told) without it, and of what is pending
 * and deferred it knows only our own; attempt is 1 unless the subscription has a dead-letter
 * policy, and then counts what was released too. What waits here while nobody pulls (two poll_ms
 * and a second), or while the service refuses the subscription, is given back and the waiting
 * requests are cut; what the service was just sending comes again when its lease lapses.
 *
 * Two things are not carried as they are: attributes whose names start with "goog" are the
 * service's own and left out (except "googclient_..."), and a message with neither body nor
 * attributes, which the service refuses, travels with an attribute "cm-empty", hidden on receipt.
 * Rule: pubsub-bigquery, part A and C.
 */
#ifndef CM_RUNTIME_BROKER_GOOGLE_PUBSUB_H
#define CM_RUNTIME_BROKER_GOOGLE_PUBSUB_H
#include "runtime/broker/broker.h"

typedef struct {                  /* cm_broker_options_t.driver; NULL there = all defaults */
    const char *credentials_file; /* NULL or "" = metadata server */
    const char *metadata_host;    /* NULL or "" = metadata.google.internal */
    const char *ca_file;          /* PEM; NULL or "" = the system's */
    const char *monitoring; /* base of Cloud Monitoring; NULL = https://monitoring.googleapis.com,
                               or the base itself when that is http://; "" = do not ask */
    int pulls_max;          /* requests waiting at the service, per subscription; 0 = 32 */
    int connections_max;    /* for pulls; 0 = 8. Acknowledge and publish have 4 of their own */
    int messages_max;       /* reserved by requests or held unstarted, per subscription; 0 = 4000 */
    int64_t bytes_max;      /* the same in bytes of bodies; 0 = 64 MiB */
    int watchdog_ms; /* backlog and no delivery for so long: told, pulls renewed; 0 = 5 min */
    int answer_ms;   /* an acknowledgement not answered for so long is sent again; 0 = 15 s */
    int refused_ms;  /* until what a person must mend is tried again; 0 = 1 min */
} cm_pubsub_options_t;
#endif
