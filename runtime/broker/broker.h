/* broker - the one interface to a message broker; every driver passes tests/integration/broker.
 *
 * Lives in one thread, driven by that thread's zloop; no call blocks, results come as events. A
 * delivery is held under a lease from its event until ack, defer or release. The driver extends the
 * leases of everything held, for hold_max_ms at most; one that lapsed all the same (or we were
 * paused) is told by on_lapsed and is then no longer ours. At least once: every delivery may come
 * again. Calls are remembered across a lost link: acks and defers are repeated after reconnecting,
 * publishes end as CM_UNAVAILABLE and are the caller's to repeat. Bounds: at most what pull() asked
 * for is held; publishes are bounded by the caller. Rule: DESIGN section 5.
 */
#ifndef CM_RUNTIME_BROKER_BROKER_H
#define CM_RUNTIME_BROKER_BROKER_H
#include "runtime/status.h"
#include "runtime/str.h"

#include <czmq.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CM_ATTRIBUTES_MAX = 100 }; /* of a message; Pub/Sub's limit, kept for all brokers */

typedef struct {
    cm_str_t name, value;
} cm_attribute_t;

typedef struct { /* all borrowed */
    cm_str_t body;
    const cm_attribute_t *attributes;
    size_t attribute_count;
    cm_str_t ordering_key; /* absent = none; a broker without such keys ignores it */
} cm_message_t;

/* Names one held delivery; never 0; not reused within 2^32 deliveries. */
typedef uint64_t cm_broker_lease_t;

typedef struct { /* borrowed for the time of the event */
    cm_broker_lease_t lease;
    int subscription;    /* as returned by subscribe */
    cm_str_t message_id; /* the broker's id of the message; survives defer */
    int64_t publish_ms;  /* epoch */
    int attempt;         /* 1 = first delivery, as far as the broker tells */
    cm_message_t message;
} cm_broker_delivery_t;

typedef struct {
    int64_t ready;     /* not delivered yet */
    int64_t pending;   /* delivered, not acknowledged, by any consumer */
    int64_t deferred;  /* waiting for their time */
    int64_t oldest_ms; /* epoch publish time of the oldest ready or pending message; 0 = none */
} cm_broker_depth_t;

/* Who only publishes sets on_link and on_published, who never publishes all but on_published. */
typedef struct {
    void *ctx;
    void (*on_delivery)(void *ctx, const cm_broker_delivery_t *delivery);
    /* A pull ended; received may be 0. Another may be asked for now. */
    void (*on_pulled)(void *ctx, int subscription, size_t received);
    /* CM_OK: stored by the broker (confirmed). Else not, or unknown: repeat it. */
    void (*on_published)(void *ctx, uint64_t token, cm_status_t status, const cm_error_t *err);
    /* The lease lapsed while held: another consumer may have it; do not start it. Also told of one
     * that a driver held before it could deliver it. */
    void (*on_lapsed)(void *ctx, cm_broker_lease_t lease);
    /* The broker lost messages it had promised: trimmed or deleted while pending, stream gone.
     * count 0: nobody can know how many, as when all is gone. */
    void (*on_lost)(void *ctx, int subscription, uint64_t count, const char *why);
    /* Link state, also once after open; err tells why it is down (CM_UNAVAILABLE or
     * CM_MISCONFIGURED). */
    void (*on_link)(void *ctx, bool up, const cm_error_t *err);
    /* One subscription cannot be consumed (missing, no right); the others go on. */
    void (*on_refused)(void *ctx, int subscription, const cm_error_t *err);
    void (*on_depth)(void *ctx, int subscription, const cm_broker_depth_t *depth);
    /* Something an operator should know: the broker is set up in a way that can lose messages,
     * answers cannot be read. Told when it is noticed, in plain words. May be NULL. */
    void (*on_warning)(void *ctx, const char *text);
} cm_broker_events_t;

typedef struct {
    const char *uri;      /* driver's address */
    const char *consumer; /* unique name of this instance */
    int lease_ms;         /* how long a delivery is ours without a sign of life, at least 1000 */
    int poll_ms;          /* how long an idle pull waits at the broker */
    int hold_max_ms;      /* a lease is extended no longer than this, then it lapses; 0 = 1 h */
    const void *driver;   /* options of the driver's own, as in its header; NULL = its defaults */
} cm_broker_options_t;

typedef struct cm_broker cm_broker_t;

/* What a driver implements; the functions below check arguments and forward. */
typedef struct {
    const char *name; /* "redis" */
    cm_status_t (*open)(void **ret_self, zloop_t *loop, const cm_broker_options_t *options,
                        const cm_broker_events_t *events, cm_error_t *err);
    void (*close)(void **self_p);
    int (*subscribe)(void *self, const char *subscription);
    void (*pull)(void *self, int subscription, size_t max);
    void (*ack)(void *self, const cm_broker_lease_t *leases, size_t count);
    void (*defer)(void *self, cm_broker_lease_t lease, int64_t until_ms);
    void (*release)(void *self, const cm_broker_lease_t *leases, size_t count);
    void (*publish)(void *self, const char *topic, const cm_message_t *message, uint64_t token);
    void (*depth)(void *self, int subscription);
    bool (*settled)(void *self);
} cm_broker_driver_t;

/* Open a driver on loop. CM_MISCONFIGURED for a bad address; a broker that is away is not an error:
 * the link is retried (full jitter, 0.25 to 5 s) and told by on_link. options and events are
 * copied, their texts borrowed for life. */
cm_status_t cm_broker_open(cm_broker_t **ret_broker, const cm_broker_driver_t *driver,
                           zloop_t *loop, const cm_broker_options_t *options,
                           const cm_broker_events_t *events, cm_error_t *err);
/* Close at once, not from inside an event; what is held becomes available to others when its lease
 * lapses. */
void cm_broker_close(cm_broker_t **self_p);

/* Declare a subscription (name = topic = group) before pulling; creates it where the broker lets us
 * (Redis: XGROUP CREATE id 0 MKSTREAM). Returns its number, counted from 0. */
int cm_broker_subscribe(cm_broker_t *self, const char *subscription);
/* Ask for up to max (1..100000) messages; at most one pull per subscription is open at a time
 * (asserted). Ends with on_pulled after its deliveries, after poll_ms at the latest. */
void cm_broker_pull(cm_broker_t *self, int subscription, size_t max);
void cm_broker_ack(cm_broker_t *self, const cm_broker_lease_t *leases, size_t count);
/* Give back until epoch until_ms; it then comes again with the same message_id and body. */
void cm_broker_defer(cm_broker_t *self, cm_broker_lease_t lease, int64_t until_ms);
/* Give back undelivered: another consumer, or we, may have it at once; its attempt is not counted
 * where the broker allows that. */
void cm_broker_release(cm_broker_t *self, const cm_broker_lease_t *leases, size_t count);
/* Store message in topic; on_published(token) follows. The message is copied. */
void cm_broker_publish(cm_broker_t *self, const char *topic, const cm_message_t *message,
                       uint64_t token);
/* Ask for the depth of a subscription; on_depth follows when the link is up. */
void cm_broker_depth(cm_broker_t *self, int subscription);
/* True when every ack, defer, release and publish asked for has been confirmed by the broker and no
 * pull is open. */
bool cm_broker_settled(cm_broker_t *self);

extern const cm_broker_driver_t cm_broker_redis_streams;
extern const cm_broker_driver_t cm_broker_google_pubsub;
#endif
