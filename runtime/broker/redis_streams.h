/* redis_streams - what the sources of the Redis Streams driver share; nobody else includes it.
 *
 *     redis_streams.c         the driver table, the clockwork, publishing
 *     redis_streams_link.c    connections: opening, losing, watching, sending
 *     redis_streams_pull.c    groups, XREADGROUP, claiming what others left behind
 *     redis_streams_lease.c   what is held: ack, defer, release, extension, lapse
 *     redis_streams_upkeep.c  moving due messages, trimming, dead consumers, depth, warnings
 *     redis_streams_entry.c   commands out, replies in: pure functions
 *
 * One connection carries commands and one per subscription the blocking reads, so that a waiting
 * pull never delays an ack. Stream, group and subscription share one name. Deferred messages wait
 * in the sorted set "<stream>:deferred", scored by the time they are due, and if one cannot be read
 * it goes to the list "<stream>:deferred:bad"; what was given back belongs to the pseudo consumer
 * "released" until somebody claims it.
 *
 * Callbacks of hiredis get a NULL reply when their connection ends, each exactly once: that is
 * where unconfirmed work is queued again.
 */
#ifndef CM_RUNTIME_BROKER_REDIS_STREAMS_H
#define CM_RUNTIME_BROKER_REDIS_STREAMS_H
#include "runtime/backoff.h"
#include "runtime/broker/broker.h"
#include "runtime/buffer.h"
#include "runtime/redis.h"

enum {
    CM_STREAMS_CHUNK = 1000,        /* ids in one command; entries in one claim */
    CM_STREAMS_PATIENCE_MS = 10000, /* without an answer a connection counts as dead */
    CM_STREAMS_TICK_MS = 50,
    CM_STREAMS_STABLE_MS = 5000, /* a link that stood so long starts its back-off anew */
    CM_STREAMS_REFUSED_MS = 30000,
};

#define CM_STREAMS_RELEASED "released"
#define CM_STREAMS_ORIGIN   "cm-id" /* hidden field: the first id of a message that was deferred */
#define CM_STREAMS_NO_SLOT  UINT32_MAX

typedef struct cm_streams cm_streams_t;
typedef struct cm_streams_sub cm_streams_sub_t;

typedef struct {
    uint64_t ms, seq;
} cm_streams_id_t;

/* ---- entries (redis_streams_entry.c) --------------------------------------------------------- */

typedef struct { /* borrows from the reply */
    cm_streams_id_t id;
    cm_str_t message_id; /* the hidden field if there is one, else the id */
    int64_t publish_ms;
    cm_str_t body; /* never absent */
    cm_attribute_t attributes[CM_ATTRIBUTES_MAX];
    size_t attribute_count; /* what is beyond CM_ATTRIBUTES_MAX is left out */
} cm_streams_entry_t;

typedef struct {     /* what the claim script answers; borrows from the reply */
    cm_str_t cursor; /* where the next claim goes on; "0-0" = the pass is complete */
    const redisReply *entries;
    const redisReply *deleted; /* ids of pending entries that are no longer in the stream */
    const redisReply *attempts;
} cm_streams_claimed_t;

bool cm_streams_parse_id(cm_str_t text, cm_streams_id_t *ret_id);
int cm_streams_compare_id(cm_streams_id_t a, cm_streams_id_t b);
/* Text of a string or status reply; absent for everything else. */
cm_str_t cm_streams_text(const redisReply *reply);
/* The array of entries of the one stream in an XREADGROUP reply; NULL when there is none. */
const redisReply *cm_streams_read_entries(const redisReply *reply);
bool cm_streams_claimed(const redisReply *reply, cm_streams_claimed_t *ret_claimed);
/* False when entry is no entry (nil, malformed). ret_entry is large: reuse one. */
bool cm_streams_decode(const redisReply *entry, cm_streams_entry_t *ret_entry);

/* Append RESP: the head of a command of argc arguments, then each argument. */
void cm_streams_put_head(cm_buffer_t *command, size_t argc);
void cm_streams_put(cm_buffer_t *command, cm_str_t argument);
void cm_streams_put_i64(cm_buffer_t *command, int64_t value); /* not negative */
void cm_streams_put_id(cm_buffer_t *command, cm_streams_id_t id);

/* ---- links (redis_streams_link.c) ------------------------------------------------------------ */

typedef enum { CM_STREAMS_DOWN, CM_STREAMS_CONNECTING, CM_STREAMS_UP } cm_streams_link_state_t;

typedef struct {
    cm_streams_t *driver;
    cm_streams_sub_t *sub; /* NULL: the link for commands */
    redisAsyncContext *context;
    cm_arena_t *replies;
    cm_streams_link_state_t state;
    cm_backoff_t backoff;
    int64_t retry_at, up_at, heard_at; /* monotonic; up_at 0 = not up */
    unsigned outstanding;              /* commands without an answer */
    int patience_ms;
    cm_error_t why; /* it is down */
} cm_streams_link_t;

void cm_streams_link_init(cm_streams_link_t *self, cm_streams_t *driver, cm_streams_sub_t *sub);
void cm_streams_link_tick(cm_streams_link_t *self, int64_t now); /* connect when due, watch */
void cm_streams_link_up(cm_streams_link_t *self);                /* its probe was answered */
void cm_streams_link_fail(cm_streams_link_t *self, const cm_error_t *why);
void cm_streams_link_close(cm_streams_link_t *self); /* for good, without events */
/* Send driver->command. False when the link cannot take it: then fn is never called. */
bool cm_streams_send(cm_streams_link_t *self, redisCallbackFn *fn, void *privdata);
/* Send an EVAL of script with `keys` keys before the arguments. */
bool cm_streams_eval(cm_streams_link_t *self, redisCallbackFn *fn, void *privdata,
                     const char *script, const cm_str_t *arguments, size_t count, int keys);
/* First line of every callback: the link, or NULL when the driver is being closed. */
cm_streams_link_t *cm_streams_heard(redisAsyncContext *context, const redisReply *reply);
/* What an error reply means for the link: true when it cannot serve us and was failed for it. */
bool cm_streams_link_unfit(cm_streams_link_t *self, const cm_error_t *err);

/* ---- leases (redis_streams_lease.c) ---------------------------------------------------------- */

typedef enum {
    CM_STREAMS_FREE,
    CM_STREAMS_HELD,
    CM_STREAMS_ACKING,
    CM_STREAMS_DEFERRING,
    CM_STREAMS_RELEASING
} cm_streams_slot_state_t;

typedef struct {
    cm_streams_id_t id;
    int64_t held_ms;     /* monotonic: since when it is held */
    int64_t seen_ms;     /* monotonic: when the lease was last known to begin anew */
    int64_t until_ms;    /* of a defer */
    uint32_t generation; /* of the slot: the upper half of the lease */
    uint32_t next;       /* in the free list or in a chain */
    uint16_t sub;
    uint8_t state;
    bool orphan; /* no longer pending at the broker: nothing to extend, nobody to lose it to */
} cm_streams_slot_t;

typedef struct { /* slots waiting for one command or for the answer to it */
    uint32_t first, last;
    size_t count;
} cm_streams_chain_t;

#define CM_STREAMS_EMPTY_CHAIN ((cm_streams_chain_t){CM_STREAMS_NO_SLOT, CM_STREAMS_NO_SLOT, 0})

void cm_streams_leases_destroy(cm_streams_t *self);
cm_broker_lease_t cm_streams_lease_new(cm_streams_t *self, const cm_streams_sub_t *sub,
                                       cm_streams_id_t id, int64_t seen_ms);
void cm_streams_ack(cm_streams_t *self, const cm_broker_lease_t *leases, size_t count);
void cm_streams_defer(cm_streams_t *self, cm_broker_lease_t lease, int64_t until_ms);
void cm_streams_release(cm_streams_t *self, const cm_broker_lease_t *leases, size_t count);
void cm_streams_flush(cm_streams_t *self);               /* send what is queued, if we may */
void cm_streams_extend(cm_streams_t *self, int64_t now); /* tells lapses, extends what is due */
/* The group is gone: what is held of it belongs to nobody else. */
void cm_streams_orphan_all(cm_streams_t *self, const cm_streams_sub_t *sub);
/* For each of count ids (ascending): ret_known[i] = whether a slot has it. The leases of those were
 * seen to begin anew at seen_ms; 0 = their entries are gone, they become orphans. */
void cm_streams_find_held(cm_streams_t *self, const cm_streams_sub_t *sub,
                          const cm_streams_id_t *ids, size_t count, int64_t seen_ms,
                          bool *ret_known);

/* ---- pulls (redis_streams_pull.c) ------------------------------------------------------------ */

typedef enum {
    CM_STREAMS_IDLE,
    CM_STREAMS_WAITING, /* for the link or the group */
    CM_STREAMS_CLAIMING,
    CM_STREAMS_READING
} cm_streams_pull_state_t;

void cm_streams_pull(cm_streams_sub_t *sub, size_t max);
void cm_streams_pull_tick(cm_streams_sub_t *sub, int64_t now);
void cm_streams_pull_resume(cm_streams_sub_t *sub);  /* the group is there */
void cm_streams_pull_lost(cm_streams_sub_t *sub);    /* the reading link went down */
bool cm_streams_group_create(cm_streams_sub_t *sub); /* also the probe of a reading link */
void cm_streams_group_vanished(cm_streams_sub_t *sub);
void cm_streams_refuse(cm_streams_sub_t *sub, const cm_error_t *err);
/* A command about sub that will come round again was answered by an error. */
void cm_streams_command_failed(cm_streams_sub_t *sub, const cm_error_t *err);

/* ---- upkeep (redis_streams_upkeep.c) --------------------------------------------------------- */

void cm_streams_upkeep(cm_streams_sub_t *sub, int64_t now);
void cm_streams_check_server(cm_streams_t *self); /* persistence and eviction; tells warnings */

/* ---- the driver ------------------------------------------------------------------------------ */

struct cm_streams_sub {
    cm_streams_t *driver;
    int number;
    char *name, *deferred; /* keys; name is also the group */
    cm_streams_link_t link;

    bool group_known, group_ready; /* ever seen; usable now */
    int64_t group_asked_at, group_retry_at;

    cm_streams_pull_state_t pull;
    size_t max;
    int64_t deadline, asked_at; /* of the open pull; of its last command */
    int64_t claim_at;           /* when claiming is due again */
    char cursor[48];
    bool claimed_last; /* the last pull delivered claimed entries: read first, so neither starves */

    cm_streams_chain_t acks, defers, releases; /* asked for and not sent */
    int64_t flush_at;                          /* not before: Redis refused the last */
    unsigned extensions;                       /* in flight */
    bool acked;                                /* since the last trim */

    bool moving, depth_wanted, depth_asked;
    int64_t move_at, trim_at, reap_at;
};

typedef struct { /* a publish that failed before it was sent; told in the next turn of the loop */
    uint64_t token;
    cm_status_t status;
    const char *code, *why;
} cm_streams_unsent_t;

struct cm_streams {
    zloop_t *loop;
    cm_broker_options_t options;
    cm_broker_events_t events;
    cm_redis_address_t address;
    uint64_t random;
    int tick_fd, wake_fd;
    bool awake;                   /* wake_fd is set */
    int64_t tick_at, tick_before; /* the last two ticks: what came since was not there before */
    int64_t extend_at;

    cm_streams_link_t link;
    bool link_told, link_was_up, checked;
    char link_code[CM_ERROR_CODE_MAX];

    cm_streams_sub_t **subs;
    size_t sub_count;

    cm_streams_slot_t *slots;
    size_t slot_count;
    uint32_t slot_free;

    cm_streams_unsent_t *unsent;
    size_t unsent_count, unsent_cap;
    size_t unsettled; /* slots to be confirmed, publishes to be told */
    size_t open_pulls;

    cm_buffer_t command;
    cm_streams_entry_t entry; /* scratch of decoding */
};

void cm_streams_wake(cm_streams_t *self); /* serve the queues in the next turn of the loop */
void cm_streams_link_changed(cm_streams_t *self, bool up, const cm_error_t *why);
#endif
