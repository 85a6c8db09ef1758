#include "runtime/broker/google_pubsub_private.h"
#include "runtime/clock.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* ---- the table ------------------------------------------------------------------------------- */

static void grow(cm_pubsub_t *self)
{
    size_t count = self->slot_count ? self->slot_count * 2 : 1024;
    assert(count < CM_PUBSUB_NO_SLOT);
    self->slots = realloc(self->slots, count * sizeof *self->slots);
    if (!self->slots)
        abort();
    for (size_t i = count; i-- > self->slot_count;) {
        self->slots[i] = (cm_pubsub_slot_t){.next = self->slot_free};
        self->slot_free = (uint32_t)i;
    }
    self->slot_count = count;
}

uint32_t cm_pubsub_slot_new(cm_pubsub_sub_t *sub, const cm_pubsub_message_t *message,
                            cm_pubsub_answer_t *answer, int64_t begin, int64_t now)
{
    cm_pubsub_t *self = sub->driver;
    if (self->slot_free == CM_PUBSUB_NO_SLOT)
        grow(self);
    uint32_t index = self->slot_free;
    cm_pubsub_slot_t *slot = &self->slots[index];
    self->slot_free = slot->next;
    *slot = (cm_pubsub_slot_t){
        .ack_id = strndup(message->ack_id.ptr, message->ack_id.len),
        .ack_id_len = (uint32_t)message->ack_id.len,
        .message = message,
        .answer = answer,
        .until = begin + CM_PUBSUB_LEASE_MIN_MS,
        .extend_at = begin + CM_PUBSUB_LEASE_MIN_MS / 2,
        .arrived_at = now,
        .bytes = message->bytes,
        .generation = slot->generation + 1,
        .next = CM_PUBSUB_NO_SLOT,
        .sub = (uint16_t)sub->number,
        .state = CM_PUBSUB_BUFFERED,
    };
    if (!slot->ack_id)
        abort();
    if (slot->generation == 0) /* a lease is never 0 */
        slot->generation = 1;
    answer->users++;
    return index;
}

void cm_pubsub_answer_unuse(cm_pubsub_answer_t *answer)
{
    if (--answer->users)
        return;
    cm_arena_destroy(&answer->arena);
    free(answer);
}

void cm_pubsub_slot_free(cm_pubsub_t *self, cm_pubsub_slot_t *slot)
{
    if (slot->state >= CM_PUBSUB_ACKING)
        self->unsettled--;
    if (slot->answer)
        cm_pubsub_answer_unuse(slot->answer);
    free(slot->ack_id);
    slot->ack_id = NULL;
    slot->answer = NULL;
    slot->message = NULL;
    slot->state = CM_PUBSUB_FREE;
    slot->next = self->slot_free;
    self->slot_free = (uint32_t)(slot - self->slots);
}

void cm_pubsub_held_destroy(cm_pubsub_t *self)
{
    for (size_t i = 0; i < self->slot_count; i++)
        if (self->slots[i].state != CM_PUBSUB_FREE)
            cm_pubsub_slot_free(self, &self->slots[i]);
    free(self->slots);
    self->slots = NULL;
    self->slot_count = 0;
}

cm_broker_lease_t cm_pubsub_lease_of(const cm_pubsub_t *self, uint32_t index)
{
    return (cm_broker_lease_t)self->slots[index].generation << 32 | index;
}

cm_pubsub_slot_t *cm_pubsub_slot_of(cm_pubsub_t *self, cm_broker_lease_t lease)
{
    uint32_t index = (uint32_t)lease;
    if (index >= self->slot_count)
        return NULL;
    cm_pubsub_slot_t *slot = &self->slots[index];
    return slot->generation == lease >> 32 && slot->state != CM_PUBSUB_FREE ? slot : NULL;
}

/* ---- what the caller asks for ---------------------------------------------------------------- */

void cm_pubsub_give(cm_pubsub_t *self, cm_broker_lease_t lease, cm_pubsub_slot_state_t state,
                    int64_t due_ms)
{
    static const cm_pubsub_op_t ops[] = {
        [CM_PUBSUB_ACKING] = CM_PUBSUB_ACK,
        [CM_PUBSUB_DEFERRING] = CM_PUBSUB_DEFER,
        [CM_PUBSUB_RELEASING] = CM_PUBSUB_RELEASE,
    };
    cm_pubsub_slot_t *slot = cm_pubsub_slot_of(self, lease);
    if (!slot || slot->state != CM_PUBSUB_HELD)
        return;
    slot->state = (uint8_t)state;
    slot->due_ms = due_ms;
    self->unsettled++;
    cm_pubsub_queue(self->subs[slot->sub], ops[state], lease);
    cm_pubsub_wake(self);
}

/* ---- lapses and extension -------------------------------------------------------------------- */

int cm_pubsub_lease_seconds(const cm_pubsub_t *self)
{
    int seconds = self->options.lease_ms / 1000 + (self->options.lease_ms % 1000 > 0);
    return seconds < CM_PUBSUB_SECONDS_MAX ? seconds : CM_PUBSUB_SECONDS_MAX;
}

/* What lapsed is another consumer's by now, or will be: nothing of it is sent any more. What is
 * buffered is dropped where it is delivered, since it stands in the chain. */
static void lapse(cm_pubsub_t *self, uint32_t index)
{
    cm_pubsub_slot_t *slot = &self->slots[index];
    bool held = slot->state == CM_PUBSUB_HELD;
    cm_broker_lease_t lease = cm_pubsub_lease_of(self, index);
    cm_pubsub_slot_free(self, slot);
    if (held)
        self->events.on_lapsed(self->events.ctx, lease);
}

void cm_pubsub_sweep(cm_pubsub_t *self, int64_t now)
{
    for (size_t i = 0; i < self->slot_count; i++) { /* the count may grow in an event */
        cm_pubsub_slot_t *slot = &self->slots[i];
        if (slot->state == CM_PUBSUB_FREE)
            continue;
        if (now >= slot->until) {
            if (slot->state != CM_PUBSUB_BUFFERED)
                lapse(self, (uint32_t)i);
            continue;
        }
        bool ours = slot->state == CM_PUBSUB_HELD || slot->state == CM_PUBSUB_BUFFERED;
        if (!ours || slot->extending || now < slot->extend_at ||
            now - slot->arrived_at >= self->options.hold_max_ms)
            continue;
        slot->extend_at = INT64_MAX; /* until this one is answered */
        cm_pubsub_queue(self->subs[slot->sub], CM_PUBSUB_EXTEND,
                        cm_pubsub_lease_of(self, (uint32_t)i));
    }
    for (size_t i = 0; i < self->sub_count; i++)
        if (self->subs[i]->ops[CM_PUBSUB_EXTEND].count)
            cm_pubsub_wake(self);
}
