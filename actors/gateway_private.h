/* gateway_private - what the parts of the gateway share: state, flow, publishing, ledger. */
#ifndef CM_ACTORS_GATEWAY_PRIVATE_H
#define CM_ACTORS_GATEWAY_PRIVATE_H
#include "actors/broker_choice.h"
#include "actors/gateway.h"
#include "actors/reporter.h"
#include "proto/delivery.h"
#include "proto/outcome.h"
#include "runtime/crash.h"
#include "runtime/hash.h"
#include "runtime/log.h"

enum { CM_BATCHES_IN_FLIGHT = 2, CM_SOURCES_PER_WORKER = 2, CM_PULL_FIRST = 16 };

typedef struct gateway gateway_t;
typedef struct worker worker_t;

typedef struct { /* a batch in the hands of a shard */
    uint64_t id; /* 0 = free place */
    struct source *source;
    size_t count;
    cm_broker_lease_t *leases; /* owned, in the order of the batch */
    int64_t *publish_ms;       /* owned, epoch */
} batch_t;

typedef struct { /* a batch being built */
    cm_delivery_builder_t builder;
    cm_broker_lease_t *leases; /* owned, capacity batch_cap */
    int64_t *publish_ms;
    size_t cap;
    size_t usual_bytes; /* of a batch, decaying maximum: to make room at once */
    bool lapsed;        /* a lease in it is no longer ours */
} pending_t;

typedef struct shard {
    worker_t *worker;
    unsigned number;
    zsock_t *work;
    bool ready; /* false: not started, or its database is away */
    unsigned credits;
    unsigned last_place; /* of the source that was served last */
    batch_t batches[CM_BATCHES_IN_FLIGHT];
    pending_t pending[CM_SOURCES_PER_WORKER];
} shard_t;

struct worker {
    const char *name;
    size_t batch_max;
    int64_t fill_ms; /* 0: whatever is there goes to an idle shard */
    unsigned shard_count;
    shard_t *shards; /* owned */
};

typedef struct source { /* one subscription */
    gateway_t *gateway;
    const cm_subscription_t *table;
    worker_t *worker;
    unsigned place; /* index of its pending batch in each shard */
    int number;     /* at the broker */
    bool pulling, flush_armed;
    char refusal[CM_ERROR_MESSAGE_MAX];
    int64_t refused_until_ms; /* monotonic; the broker says so again before then; 0 = it is not */
    size_t size_estimate;     /* bytes of a message, decaying maximum of recent averages */
    size_t pull_limit;        /* messages in a pull: few until their size is known */
    size_t pulled_bytes;      /* of the pull under way */
    cm_metric_t *received, *outcomes[CM_OUTCOME_COUNT], *seconds;
    cm_metric_t *ready, *unacked, *deferred, *oldest;
} source_t;

typedef struct publish { /* a retry or dead letter on its way, acknowledged once confirmed */
    uint64_t token;
    source_t *source;
    cm_broker_lease_t lease;
    cm_outcome_kind_t kind;
    char topic[CM_TOPIC_NAME_MAX];
    cm_message_t *message; /* owned copy */
    bool waiting;          /* failed; to be repeated at repeat_at_ms */
    bool refused;          /* failed for a reason that a person must set right */
    bool lapsed;           /* its delivery comes again: not to be repeated */
    unsigned failures;
    int64_t publish_ms;   /* epoch: of the delivery */
    int64_t repeat_at_ms; /* monotonic */
    UT_hash_handle hh, by_lease;
} publish_t;

struct gateway {
    const cm_gateway_args_t *args;
    const cm_options_t *options;
    zsock_t *pipe, *outcomes;
    zloop_t *loop;
    cm_broker_choice_t choice;
    cm_broker_t *broker;
    cm_reporter_t reporter;
    cm_arena_t *arena;
    worker_t *workers;
    size_t worker_count;
    source_t sources[CM_SUBSCRIPTION_COUNT];
    size_t source_count;
    publish_t *publishes; /* hash by token */
    publish_t *publishes_by_lease;
    uint64_t next_token, next_batch;
    cm_ledgers_t ledgers; /* retrying and in_flight are worked out for each snapshot */
    int64_t retry_balance;
    bool link_up, draining, drained;
    cm_error_t link_error;  /* why it is down; CM_OK = the broker has not said a word */
    size_t publish_refused; /* publishes that a person must make possible */
    char publish_refusal[CM_ERROR_MESSAGE_MAX];
    bool reported, refused; /* the start; with a broker that refuses us */
    int64_t first_word_ms;  /* monotonic: the broker is not waited for longer */
    cm_metric_t *lost, *losses, *lapsed, *publish_failures, *publishes_unfit, *batches, *batch_rows,
        *publishing;
    cm_log_limit_t publish_log, unfit_log, lapsed_log;
    int64_t next_depth_ms;
};

/* ---- what is told of us (gateway.c) ---------------------------------------------------------- */

/* Work out the actor's state and tell it: after each change of the link, of what is refused, and
 * of draining. */
void cm_gateway_show_state(gateway_t *self);

/* ---- flow: pull, route, send, outcomes (gateway_flow.c) -------------------------------------- */

cm_status_t cm_gateway_open_routes(gateway_t *self, cm_error_t *err);
void cm_gateway_close_routes(gateway_t *self);
void cm_gateway_take(gateway_t *self, const cm_broker_delivery_t *delivery);
void cm_gateway_pump(gateway_t *self); /* send what can be sent, pull what can be taken */
void cm_gateway_outcomes(gateway_t *self, const void *frame, size_t len);
void cm_gateway_lapsed(gateway_t *self, cm_broker_lease_t lease);
void cm_gateway_release_pending(gateway_t *self, shard_t *shard);
void cm_gateway_release_batches(gateway_t *self, shard_t *shard);
/* By flow, and in all. */
typedef struct {
    size_t flows[CM_FLOW_COUNT];
} cm_in_hand_t;
size_t cm_gateway_in_hand(const gateway_t *self, cm_in_hand_t *ret_in_hand);

/* ---- publishing (gateway_publish.c) ---------------------------------------------------------- */

/* publish_ms: of the delivery that it is the outcome of, epoch. */
void cm_gateway_publish(gateway_t *self, source_t *source, const cm_outcome_t *outcome,
                        int64_t publish_ms);
void cm_gateway_published(gateway_t *self, uint64_t token, cm_status_t status,
                          const cm_error_t *err);
void cm_gateway_republish(gateway_t *self); /* what failed before */
/* The lease is another instance's: a publish that waits is given up. False when none has it. */
bool cm_gateway_publish_lapsed(gateway_t *self, cm_broker_lease_t lease);
void cm_gateway_forget_publishes(gateway_t *self);

/* ---- ledger (gateway_ledger.c) ----------------------------------------------------------------
 */

void cm_gateway_ledger_received(gateway_t *self, const source_t *source);
/* A delivery reached its end here: published and acknowledged, acknowledged, or given back. */
void cm_gateway_ledger_ended(gateway_t *self, source_t *source, cm_outcome_kind_t kind,
                             uint64_t count);
void cm_gateway_ledger_balance(gateway_t *self); /* complete self->ledgers */
void cm_gateway_ledger_report(gateway_t *self);
#endif
