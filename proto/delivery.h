/* delivery - a batch of deliveries on its way from the gateway to a sub-worker, as one frame.
 *
 * Frame: MessagePack array [version=1, batch id, subscription, [delivery...]], a delivery being
 * [lease, message id, publish ms, attempt, [name, value, ...], body]; texts and body as bin.
 * A message's ordering key stays behind: a retry that waits must hold up no other message.
 * One frame a batch: 0.2 microseconds an event (DESIGN section 2).
 */
#ifndef CM_PROTO_DELIVERY_H
#define CM_PROTO_DELIVERY_H
#include "proto/subscription.h"
#include "proto/tenant_id.h"
#include "runtime/broker/broker.h"
#include "runtime/buffer.h"
#include "runtime/status.h"
#include "runtime/str.h"

#include <stdint.h>

/* ---- writing: the gateway ------------------------------------------------------------------ */

typedef struct {
    cm_buffer_t frame;
    size_t count;
    int64_t first_ms;    /* monotonic time of the first delivery added; 0 when empty */
} cm_delivery_builder_t; /* zero-initialise */

void cm_delivery_builder_add(cm_delivery_builder_t *self, cm_broker_lease_t lease,
                             const cm_broker_delivery_t *delivery, int64_t now_ms);
/* Complete the frame; *ret_frame takes the bytes over (cm_buffer_destroy) and self is empty again.
 */
void cm_delivery_builder_seal(cm_delivery_builder_t *self, uint64_t batch_id,
                              cm_subscription_id_t subscription, cm_buffer_t *ret_frame);
void cm_delivery_builder_destroy(cm_delivery_builder_t *self);

/* ---- reading: a sub-worker ----------------------------------------------------------------- */

typedef struct {
    cm_broker_lease_t lease;
    cm_str_t message_id;
    int64_t publish_ms;
    int attempt;
    const cm_attribute_t *attributes;
    size_t attribute_count;
    cm_str_t body;
} cm_delivery_t; /* points into the frame and the arena */

typedef struct {
    uint64_t batch_id;
    cm_subscription_id_t subscription;
    size_t count;
    cm_delivery_t *items; /* in the arena */
} cm_delivery_batch_t;

/* Decode a frame; it and arena must outlive *ret_batch. CM_PERMANENT / "malformed" with the offset
 * when it is not such a frame; memory use is bounded by the frame's length whatever it claims. */
cm_status_t cm_delivery_batch_decode(const void *frame, size_t len, cm_arena_t *arena,
                                     cm_delivery_batch_t *ret_batch, cm_error_t *err);
/* The tenant that its attribute customerId names, canonical, into id; false and "" for none. What
 * its body tells goes before it. */
bool cm_delivery_tenant(const cm_delivery_t *self, char id[CM_TENANT_ID_MAX]);
#endif
