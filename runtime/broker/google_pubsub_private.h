/* google_pubsub_private - what the sources of the Google Pub/Sub driver share; nobody else
 * includes it.
 *
 *     google_pubsub.c          the driver table, the clockwork, opening and closing
 *     google_pubsub_link.c     link state, tokens, what an answer that failed means
 *     google_pubsub_pull.c     requests that wait at the service, budget, buffer, delivering
 *     google_pubsub_held.c     the table of leases, what the caller asks for, extension, lapses
 *     google_pubsub_lease.c    acknowledge and modifyAckDeadline: batches and their answers
 *     google_pubsub_publish.c  publish: batches and their answers
 *     google_pubsub_depth.c    Cloud Monitoring and the watchdog
 *     google_pubsub_json.c     requests out, answers in (google_pubsub_answer.c: pulls): pure
 *
 * Two pools of connections, since waiting pulls can occupy every stream of one. Whatever is to be
 * sent is queued and sent from the next turn of the loop (cm_pubsub_wake), never from inside a call
 * of the caller or an answer. A call that was not answered well is queued again as it was, until
 * the leases in it lapse.
 */
#ifndef CM_RUNTIME_BROKER_GOOGLE_PUBSUB_PRIVATE_H
#define CM_RUNTIME_BROKER_GOOGLE_PUBSUB_PRIVATE_H
#include "runtime/backoff.h"
#include "runtime/broker/google_pubsub.h"
#include "runtime/broker/google_pubsub_json.h"
#include "runtime/google_credentials.h"
#include "runtime/http.h"

enum {
    CM_PUBSUB_TICK_MS = 50,
    CM_PUBSUB_HOLD_MS = 90000, /* how long the service keeps an idle pull */
    CM_PUBSUB_PULL_MS = 100000,
    CM_PUBSUB_ASK_MAX = 1000,
    CM_PUBSUB_LEASE_MIN_MS = 10000, /* what a subscription grants at least */
    CM_PUBSUB_SECONDS_MAX = 600,
    CM_PUBSUB_IDS_MAX = 1000, /* and bytes of them in one request: the service takes 512 KiB */
    CM_PUBSUB_IDS_BYTES_MAX = 500000,
    CM_PUBSUB_IN_FLIGHT = 4,       /* of one kind, for one subscription or topic */
    CM_PUBSUB_FAULT_MAX = 1 << 20, /* bytes of an answer that is not a pull's */
};

#define CM_PUBSUB_NO_SLOT UINT32_MAX

typedef struct cm_pubsub cm_pubsub_t;
typedef struct cm_pubsub_sub cm_pubsub_sub_t;

/* ---- link, tokens, gates (google_pubsub_link.c) ---------------------------------------------- */

typedef struct { /* when calls of one kind may be sent again */
    int64_t until;
    cm_backoff_t backoff;
} cm_pubsub_gate_t;

typedef struct {       /* a person must act before calls of one kind are served */
    int64_t at, until; /* monotonic: refused; tried again */
} cm_pubsub_refusal_t;

typedef enum { CM_PUBSUB_DOWN, CM_PUBSUB_PROBING, CM_PUBSUB_UP } cm_pubsub_link_state_t;

typedef struct {
    cm_pubsub_link_state_t state;
    cm_backoff_t backoff;
    int64_t retry_at, up_at; /* monotonic */
    unsigned failures;       /* answers of a service in trouble, in a row */
    unsigned unverified;     /* connections without TLS as it must be, in a row */
    bool told, was_up;
    char code[CM_ERROR_CODE_MAX];
    cm_error_t why;    /* it is down */
    bool token_wanted; /* the last one was refused */
    unsigned token;    /* counts them: which one a call was sent with */
} cm_pubsub_link_t;

typedef enum { /* what follows from an answer */
               CM_PUBSUB_FINE,
               CM_PUBSUB_LATER, /* link, token or service in trouble: as it was, when it may be sent
                                   again */
               CM_PUBSUB_REFUSED, /* a person must act */
               CM_PUBSUB_BAD      /* this request will never pass */
} cm_pubsub_verdict_t;

void cm_pubsub_gate_init(cm_pubsub_t *self, cm_pubsub_gate_t *gate, int base_ms, int cap_ms);
cm_status_t cm_pubsub_link_open(cm_pubsub_t *self, cm_error_t *err);
void cm_pubsub_link_tick(cm_pubsub_t *self, int64_t now);
void cm_pubsub_link_down(cm_pubsub_t *self, const cm_error_t *why);
bool cm_pubsub_may_send(const cm_pubsub_t *self);      /* link and token are there */
const char *cm_pubsub_bearer(const cm_pubsub_t *self); /* NULL = none needed */
/* Judge an answer to a call of the kind of gate, sent with token number `token`; does what it means
 * for link, token and gate. fault and err tell what the service said. */
cm_pubsub_verdict_t cm_pubsub_judge(cm_pubsub_t *self, const cm_http_answer_t *answer,
                                    cm_pubsub_gate_t *gate, unsigned token,
                                    cm_pubsub_fault_t *ret_fault, cm_error_t *ret_err);

/* ---- the table of leases (google_pubsub_held.c) ---------------------------------------------- */

typedef enum { /* from ACKING on: asked for by the caller, not confirmed */
               CM_PUBSUB_FREE,
               CM_PUBSUB_BUFFERED,
               CM_PUBSUB_HELD,
               CM_PUBSUB_ACKING,
               CM_PUBSUB_DEFERRING,
               CM_PUBSUB_RELEASING
} cm_pubsub_slot_state_t;

typedef struct { /* of one pull; freed with the last of its messages delivered */
    cm_arena_t *arena;
    size_t users;
} cm_pubsub_answer_t;

typedef struct {
    char *ack_id;                       /* owned */
    const cm_pubsub_message_t *message; /* while buffered */
    cm_pubsub_answer_t *answer;         /* likewise */
    int64_t until;                      /* monotonic: the lease lapses */
    int64_t extend_at, arrived_at;
    int64_t due_ms;      /* epoch, of a defer */
    size_t bytes;        /* while buffered */
    uint32_t generation; /* the upper half of the lease */
    uint32_t next;       /* in the free list or in the buffer */
    uint32_t ack_id_len;
    uint16_t sub;
    uint8_t state;
    bool extending; /* a request is under way: what comes after it must wait for its answer */
} cm_pubsub_slot_t;

void cm_pubsub_held_destroy(cm_pubsub_t *self);
/* A buffered message of answer, its lease begun at begin (monotonic). */
uint32_t cm_pubsub_slot_new(cm_pubsub_sub_t *sub, const cm_pubsub_message_t *message,
                            cm_pubsub_answer_t *answer, int64_t begin, int64_t now);
void cm_pubsub_slot_free(cm_pubsub_t *self, cm_pubsub_slot_t *slot);
cm_broker_lease_t cm_pubsub_lease_of(const cm_pubsub_t *self, uint32_t index);
cm_pubsub_slot_t *cm_pubsub_slot_of(cm_pubsub_t *self,
                                    cm_broker_lease_t lease); /* NULL: no longer */
void cm_pubsub_answer_unuse(cm_pubsub_answer_t *answer);
/* The caller gives lease back; unknown or lapsed: nothing. due_ms (epoch): of a defer. */
void cm_pubsub_give(cm_pubsub_t *self, cm_broker_lease_t lease, cm_pubsub_slot_state_t state,
                    int64_t due_ms);
/* Tell what lapsed and queue the extension of what is due. */
void cm_pubsub_sweep(cm_pubsub_t *self, int64_t now);
int cm_pubsub_lease_seconds(const cm_pubsub_t *self); /* asked for by an extension */

/* ---- acknowledge and modifyAckDeadline (google_pubsub_lease.c) ------------------------------- */

typedef enum {
    CM_PUBSUB_ACK,
    CM_PUBSUB_DEFER,
    CM_PUBSUB_RELEASE,
    CM_PUBSUB_EXTEND,
    CM_PUBSUB_OPS
} cm_pubsub_op_t;

typedef struct cm_pubsub_batch { /* one request, under way or to be sent */
    cm_pubsub_sub_t *sub;
    cm_http_call_t *call;
    cm_pubsub_op_t op;
    int seconds;        /* of the deadline; -1 = acknowledge */
    int64_t not_before; /* monotonic */
    int64_t sent_at;
    unsigned token, tries;
    struct cm_pubsub_batch *prev, *next;
    size_t count;
    cm_broker_lease_t leases[];
} cm_pubsub_batch_t;

typedef struct { /* of one kind, of one subscription */
    cm_pubsub_refusal_t refused;
    cm_broker_lease_t *queue;
    size_t count, cap;
    cm_pubsub_batch_t *waiting, *flying; /* utlist */
    unsigned in_flight;
} cm_pubsub_ops_t;

void cm_pubsub_queue(cm_pubsub_sub_t *sub, cm_pubsub_op_t op, cm_broker_lease_t lease);
void cm_pubsub_flush_leases(cm_pubsub_t *self, int64_t now);
void cm_pubsub_ops_destroy(cm_pubsub_sub_t *sub);
int64_t cm_pubsub_deferred(cm_pubsub_sub_t *sub, int64_t now); /* given back and not due yet */

/* ---- pulls (google_pubsub_pull.c) ------------------------------------------------------------ */

typedef struct cm_pubsub_pull { /* one request that waits at the service */
    cm_pubsub_sub_t *sub;
    cm_http_call_t *call;
    size_t asked;
    int64_t sent_at;
    unsigned token;
    struct cm_pubsub_pull *prev, *next;
} cm_pubsub_pull_t;

void cm_pubsub_pull_open(cm_pubsub_sub_t *sub, size_t max); /* the caller's */
void cm_pubsub_pull_tick(cm_pubsub_sub_t *sub, int64_t now);
void cm_pubsub_pull_serve(cm_pubsub_sub_t *sub, int64_t now); /* deliver, send requests */
void cm_pubsub_pull_cancel(cm_pubsub_sub_t *sub);             /* every request of sub */
/* The service refuses calls of one kind to sub (its pulls: &sub->refused): they are tried again
 * when refused_ms are over. Each kind has its own time, which a call that was under way does not
 * move. Any of them stops sub: what cannot be acknowledged is not taken, and what waits here is
 * given back. That is told, twice in refused_ms, until a pull sent since then is answered well. */
void cm_pubsub_refuse(cm_pubsub_sub_t *sub, cm_pubsub_refusal_t *kind, int64_t sent_at,
                      const cm_error_t *err);
/* How many messages the next pull asks for; 0 = it must not be sent. Pure. */
size_t cm_pubsub_ask(const cm_pubsub_sub_t *sub);

/* ---- publish (google_pubsub_publish.c) ------------------------------------------------------- */

typedef struct cm_pubsub_topic cm_pubsub_topic_t;

typedef struct { /* told in the next turn of the loop */
    uint64_t token;
    cm_error_t error;
} cm_pubsub_untold_t;

void cm_pubsub_publish(cm_pubsub_t *self, const char *topic, const cm_message_t *message,
                       uint64_t token);
void cm_pubsub_flush_publishes(cm_pubsub_t *self, int64_t now);
void cm_pubsub_tell_untold(cm_pubsub_t *self);
void cm_pubsub_topics_destroy(cm_pubsub_t *self);

/* ---- depth and watchdog (google_pubsub_depth.c) ---------------------------------------------- */

typedef struct {
    cm_http_call_t *call; /* under way */
    bool known;
    int64_t value;
} cm_pubsub_metric_t;

void cm_pubsub_depth_tick(cm_pubsub_sub_t *sub, int64_t now);

/* ---- the driver ------------------------------------------------------------------------------ */

struct cm_pubsub_sub {
    cm_pubsub_t *driver;
    int number;
    char *name, *url;            /* "https://.../subscriptions/NAME" */
    cm_pubsub_refusal_t refused; /* pulls */
    bool stopped;                /* until a pull sent since then is answered well */
    cm_error_t refusal;          /* why, as told */
    int64_t told_at;

    bool open; /* the caller's pull */
    size_t max;
    int64_t deadline, seen_at; /* of the open pull; when one was last open */
    bool draining;

    cm_pubsub_pull_t *pulls;  /* utlist */
    size_t in_flight, wanted; /* requests */
    size_t reserved;          /* messages they ask for */
    size_t ask_max;           /* lowered by an answer that was too large */
    int64_t pull_at;          /* not before */
    cm_backoff_t pull_backoff;

    uint32_t first, last; /* the buffer */
    size_t buffered;
    int64_t buffered_bytes, average_bytes;

    cm_pubsub_ops_t ops[CM_PUBSUB_OPS];
    int64_t *due; /* monotonic: of what was deferred */
    size_t due_count, due_cap;

    bool depth_wanted;
    int64_t depth_at;                    /* not before */
    cm_pubsub_metric_t undelivered, age; /* messages, seconds */
    int64_t backlog, known_at;           /* ready, as last known; when */
    int64_t delivered_at, answered_at;   /* a message came; any answer to a pull */
    unsigned renewals;
};

struct cm_pubsub {
    zloop_t *loop;
    cm_broker_options_t options;
    cm_pubsub_options_t own; /* defaults filled in */
    cm_broker_events_t events;
    cm_pubsub_address_t address;
    char *monitoring; /* base; NULL = not asked */
    uint64_t random;
    int tick_fd, wake_fd;
    bool awake;
    int64_t tick_at;              /* of the last */
    int64_t pause_from, pause_to; /* the last time that the loop did not run */
    int64_t sweep_at;

    cm_http_t *pulls, *calls;
    cm_google_credentials_t *credentials; /* NULL: an emulator */
    cm_pubsub_link_t link;
    cm_pubsub_gate_t pull_gate, lease_gate, publish_gate, depth_gate;
    bool depth_refused;

    cm_pubsub_sub_t **subs;
    size_t sub_count;
    cm_pubsub_slot_t *slots;
    size_t slot_count;
    uint32_t slot_free;
    cm_pubsub_topic_t *topics; /* utlist */
    cm_pubsub_untold_t *untold;
    size_t untold_count, untold_cap;
    size_t unsettled; /* slots to be confirmed, publishes to be told */
    size_t open_pulls, buffered;

    cm_arena_t *arena; /* scratch of one answer */
    cm_buffer_t body, url;
};

void cm_pubsub_wake(cm_pubsub_t *self);
void cm_pubsub_warn(const cm_pubsub_t *self, const char *text);
/* When what came in an answer may have left the service, at the earliest. */
int64_t cm_pubsub_begin_of(const cm_pubsub_t *self, int64_t now, int64_t receiving_ms);
/* Start a request of the second pool with body self->body (GET: none). */
cm_http_call_t *cm_pubsub_send(cm_pubsub_t *self, cm_http_method_t method, const char *url,
                               int timeout_ms, cm_http_done_fn *done, void *ctx);
#endif
