/* outcome - what became of each delivery, on its way back from a sub-worker to the gateway.
 *
 * Frame: MessagePack array [version=1, kind, subworker, shard, batch id, credits, [item...]];
 * kind READY or FRESH (both without items) or BATCH; texts and body as bin. An item is
 * [lease, outcome], and for DEFER also the epoch ms, for RETRY and REJECT also [name, value, ...]
 * and body: the message to publish.
 * Exactly one outcome per delivery, one frame per batch, after the commit. credits is the number of
 * batches the shard can take in addition from now on.
 */
#ifndef CM_PROTO_OUTCOME_H
#define CM_PROTO_OUTCOME_H
#include "proto/attributes.h"
#include "proto/delivery.h"

typedef enum {
    CM_OUTCOME_APPLIED,   /* acknowledge: it changed something */
    CM_OUTCOME_STALE,     /* acknowledge: older than what is there */
    CM_OUTCOME_DUPLICATE, /* acknowledge: already there */
    CM_OUTCOME_DROPPED,   /* acknowledge: its tenant was deleted */
    CM_OUTCOME_RETRY,     /* publish to the retry topic, confirmed, then acknowledge */
    CM_OUTCOME_REJECT,    /* publish to the errors topic, confirmed, then acknowledge */
    CM_OUTCOME_DEFER,     /* give back until its time; spends nothing */
    CM_OUTCOME_RELEASE,   /* give back now; spends nothing */
    CM_OUTCOME_COUNT
} cm_outcome_kind_t;

const char *cm_outcome_name(cm_outcome_kind_t kind); /* "applied", ... */

typedef struct {
    cm_broker_lease_t lease;
    cm_outcome_kind_t kind;
    int64_t until_ms;     /* DEFER: epoch */
    cm_message_t message; /* RETRY, REJECT: borrowed */
} cm_outcome_t;

/* The outcome that a failure's class means for a delivery: CM_TRANSIENT and CM_MISSING -> RETRY,
 * CM_PERMANENT -> REJECT, all else -> RELEASE (the message is not to blame). */
cm_outcome_kind_t cm_outcome_for(cm_status_t status);

/* ---- writing: a sub-worker ----------------------------------------------------------------- */

typedef struct {
    cm_buffer_t frame;
    size_t count;
} cm_outcome_builder_t; /* zero-initialise */

void cm_outcome_builder_add(cm_outcome_builder_t *self, const cm_outcome_t *outcome);
/* subworker as in the subscriptions table. *ret_frame takes the bytes over. */
void cm_outcome_builder_seal(cm_outcome_builder_t *self, const char *subworker, unsigned shard,
                             uint64_t batch_id, unsigned credits, cm_buffer_t *ret_frame);
/* A READY frame: the shard opened (or reconnected) and takes `credits` batches. fresh: it is a new
 * incarnation that holds nothing; whatever was in its hands is given back. */
void cm_outcome_ready(const char *subworker, unsigned shard, unsigned credits, bool fresh,
                      cm_buffer_t *ret_frame);

/* ---- reading: the gateway ------------------------------------------------------------------ */

typedef enum {
    CM_OUTCOME_FRAME_READY,
    CM_OUTCOME_FRAME_FRESH,
    CM_OUTCOME_FRAME_BATCH
} cm_outcome_frame_kind_t;

typedef struct {
    cm_outcome_frame_kind_t kind;
    char subworker[32];
    unsigned shard;
    uint64_t batch_id;
    unsigned credits;
    size_t count;
    cm_outcome_t *items; /* in the arena; messages point into the frame */
} cm_outcome_frame_t;

cm_status_t cm_outcome_frame_decode(const void *frame, size_t len, cm_arena_t *arena,
                                    cm_outcome_frame_t *ret_frame, cm_error_t *err);
#endif
