#include "runtime/broker/google_pubsub_private.h"
#include "runtime/clock.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

enum {
    AGAIN_MS = 1000, /* after the service asked for one id again; doubling */
    AGAIN_MAX_MS = 64000,
};

static void send_batch(cm_pubsub_batch_t *batch, int64_t now);

/* ---- the queues ------------------------------------------------------------------------------ */

void cm_pubsub_queue(cm_pubsub_sub_t *sub, cm_pubsub_op_t op, cm_broker_lease_t lease)
{
    cm_pubsub_ops_t *ops = &sub->ops[op];
    if (ops->count == ops->cap) {
        ops->cap = ops->cap ? ops->cap * 2 : 64;
        ops->queue = realloc(ops->queue, ops->cap * sizeof *ops->queue);
        if (!ops->queue)
            abort();
    }
    ops->queue[ops->count++] = lease;
}

static void drop_batches(cm_pubsub_t *self, cm_pubsub_batch_t **list)
{
    cm_pubsub_batch_t *batch, *after;
    DL_FOREACH_SAFE(*list, batch, after)
    {
        if (batch->call)
            cm_http_cancel(self->calls, batch->call);
        DL_DELETE(*list, batch);
        free(batch);
    }
}

void cm_pubsub_ops_destroy(cm_pubsub_sub_t *sub)
{
    for (int op = 0; op < CM_PUBSUB_OPS; op++) {
        free(sub->ops[op].queue);
        drop_batches(sub->driver, &sub->ops[op].waiting);
        drop_batches(sub->driver, &sub->ops[op].flying);
    }
}

static cm_pubsub_batch_t *batch_new(cm_pubsub_sub_t *sub, cm_pubsub_op_t op, size_t room)
{
    cm_pubsub_batch_t *batch = calloc(1, sizeof *batch + room * sizeof batch->leases[0]);
    if (!batch)
        abort();
    batch->sub = sub;
    batch->op = op;
    return batch;
}

/* The slot of lease if it is still to be sent for op. What was given back and has lapsed is
 * forgotten: it comes again, here or elsewhere. */
static cm_pubsub_slot_t *wanted(cm_pubsub_t *self, cm_pubsub_op_t op, cm_broker_lease_t lease,
                                int64_t now)
{
    static const cm_pubsub_slot_state_t states[] = {
        [CM_PUBSUB_ACK] = CM_PUBSUB_ACKING,
        [CM_PUBSUB_DEFER] = CM_PUBSUB_DEFERRING,
        [CM_PUBSUB_RELEASE] = CM_PUBSUB_RELEASING,
        [CM_PUBSUB_EXTEND] = CM_PUBSUB_HELD,
    };
    cm_pubsub_slot_t *slot = cm_pubsub_slot_of(self, lease);
    if (!slot)
        return NULL;
    bool buffered = op == CM_PUBSUB_EXTEND && slot->state == CM_PUBSUB_BUFFERED;
    if (slot->state != states[op] && !buffered)
        return NULL;
    if (now < slot->until)
        return slot;
    if (op != CM_PUBSUB_EXTEND)
        cm_pubsub_slot_free(self, slot);
    return NULL;
}

/* Whole seconds from now until slot is due, never less. */
static int seconds_to(const cm_pubsub_slot_t *slot, int64_t epoch_ms)
{
    int64_t ms = slot->due_ms - epoch_ms;
    int64_t seconds = ms > 0 ? (ms + 999) / 1000 : 0;
    return seconds < CM_PUBSUB_SECONDS_MAX ? (int)seconds : CM_PUBSUB_SECONDS_MAX;
}

/* One request has one deadline: defers that are due within 1/64 of the same time go together, and
 * the earlier ones come that much late. */
static bool same_time(int first, int seconds)
{
    return seconds <= first && seconds >= first - first / 64;
}

/* The next request of what is queued; NULL when nothing of it can be sent now. */
static cm_pubsub_batch_t *take(cm_pubsub_sub_t *sub, cm_pubsub_op_t op, int64_t now)
{
    cm_pubsub_t *self = sub->driver;
    cm_pubsub_ops_t *ops = &sub->ops[op];
    size_t room = ops->count < CM_PUBSUB_IDS_MAX ? ops->count : CM_PUBSUB_IDS_MAX;
    if (room == 0)
        return NULL;
    cm_pubsub_batch_t *batch = batch_new(sub, op, room);
    int64_t epoch_ms = cm_clock_epoch_ms();
    size_t kept = 0, bytes = 0, i = 0;
    int first = -1;
    for (; i < ops->count && batch->count < room && bytes < CM_PUBSUB_IDS_BYTES_MAX; i++) {
        const cm_pubsub_slot_t *slot = wanted(self, op, ops->queue[i], now);
        if (!slot)
            continue;
        int seconds = op == CM_PUBSUB_DEFER ? seconds_to(slot, epoch_ms) : 0;
        size_t more = slot->ack_id_len + 3;
        bool fits = bytes + more <= CM_PUBSUB_IDS_BYTES_MAX || batch->count == 0;
        /* An extension under way could arrive after this, and undo it. */
        if (slot->extending || !fits || (first >= 0 && !same_time(first, seconds))) {
            ops->queue[kept++] = ops->queue[i];
            continue;
        }
        if (first < 0)
            first = seconds;
        batch->leases[batch->count++] = ops->queue[i];
        bytes += more;
    }
    memmove(ops->queue + kept, ops->queue + i, (ops->count - i) * sizeof *ops->queue);
    ops->count -= i - kept;
    if (batch->count)
        return batch;
    free(batch);
    return NULL;
}

/* ---- answers --------------------------------------------------------------------------------- */

/* Put part of batch back in line. */
static void requeue(const cm_pubsub_batch_t *batch, size_t from, size_t count, int64_t not_before)
{
    cm_pubsub_ops_t *ops = &batch->sub->ops[batch->op];
    cm_pubsub_batch_t *again = batch_new(batch->sub, batch->op, count);
    again->not_before = not_before;
    again->tries = batch->tries;
    again->count = count;
    memcpy(again->leases, batch->leases + from, count * sizeof batch->leases[0]);
    DL_APPEND(ops->waiting, again);
}

static void note_due(cm_pubsub_sub_t *sub, int64_t due, int64_t now)
{
    if (sub->due_count == sub->due_cap) {
        cm_pubsub_deferred(sub, now); /* forgets those past */
        if (sub->due_count * 2 >= sub->due_cap) {
            sub->due_cap = sub->due_cap ? sub->due_cap * 2 : 64;
            sub->due = realloc(sub->due, sub->due_cap * sizeof *sub->due);
            if (!sub->due)
                abort();
        }
    }
    sub->due[sub->due_count++] = due;
}

int64_t cm_pubsub_deferred(cm_pubsub_sub_t *sub, int64_t now)
{
    size_t kept = 0;
    for (size_t i = 0; i < sub->due_count; i++)
        if (sub->due[i] > now)
            sub->due[kept++] = sub->due[i];
    sub->due_count = kept;
    return (int64_t)kept;
}

static void confirm(const cm_pubsub_batch_t *batch, cm_broker_lease_t lease, int64_t now)
{
    cm_pubsub_t *self = batch->sub->driver;
    cm_pubsub_slot_t *slot = cm_pubsub_slot_of(self, lease);
    if (!slot)
        return;
    if (batch->op == CM_PUBSUB_EXTEND) {
        slot->until = batch->sent_at + batch->seconds * 1000;
        slot->extend_at = batch->sent_at + batch->seconds * 500;
        return;
    }
    if (batch->op == CM_PUBSUB_DEFER)
        note_due(batch->sub, batch->sent_at + batch->seconds * 1000, now);
    cm_pubsub_slot_free(self, slot);
}

/* The service does not know this id any more: the message is not ours, and comes again. */
static void forget(const cm_pubsub_batch_t *batch, cm_broker_lease_t lease)
{
    cm_pubsub_t *self = batch->sub->driver;
    cm_pubsub_slot_t *slot = cm_pubsub_slot_of(self, lease);
    if (!slot)
        return;
    if (batch->op != CM_PUBSUB_EXTEND)
        cm_pubsub_slot_free(self, slot);
    else
        slot->until = 0; /* the next sweep tells, or its delivery drops it */
}

/* Exactly-once delivery: each id has its own answer. */
static void settle_ids(cm_pubsub_batch_t *batch, const cm_pubsub_fault_t *fault, int64_t now)
{
    cm_pubsub_t *self = batch->sub->driver;
    size_t again = 0;
    for (size_t i = 0; i < batch->count; i++) {
        const cm_pubsub_slot_t *slot = cm_pubsub_slot_of(self, batch->leases[i]);
        cm_pubsub_id_fate_t fate =
            slot ? cm_pubsub_id_fate(fault, (cm_str_t){slot->ack_id, slot->ack_id_len})
                 : CM_PUBSUB_ID_DONE;
        if (fate == CM_PUBSUB_ID_AGAIN)
            batch->leases[again++] = batch->leases[i];
        else if (fate == CM_PUBSUB_ID_GONE)
            forget(batch, batch->leases[i]);
        else
            confirm(batch, batch->leases[i], now);
    }
    int64_t wait = AGAIN_MS;
    for (unsigned i = 0; i < batch->tries && wait < AGAIN_MAX_MS; i++)
        wait *= 2;
    batch->tries++;
    if (again)
        requeue(batch, 0, again, now + wait);
}

/* Refused without a word on which id is to blame: halve until it is alone. */
static void bisect(const cm_pubsub_batch_t *batch)
{
    size_t half = batch->count / 2;
    if (half == 0) {
        forget(batch, batch->leases[0]);
        return;
    }
    requeue(batch, 0, half, 0);
    requeue(batch, half, batch->count - half, 0);
}

static void land(cm_pubsub_batch_t *batch)
{
    cm_pubsub_t *self = batch->sub->driver;
    cm_pubsub_ops_t *ops = &batch->sub->ops[batch->op];
    DL_DELETE(ops->flying, batch);
    ops->in_flight--;
    for (size_t i = 0; batch->op == CM_PUBSUB_EXTEND && i < batch->count; i++) {
        cm_pubsub_slot_t *slot = cm_pubsub_slot_of(self, batch->leases[i]);
        if (slot)
            slot->extending = false;
    }
}

static void on_answer(void *ctx, const cm_http_answer_t *answer)
{
    cm_pubsub_batch_t *batch = ctx;
    cm_pubsub_t *self = batch->sub->driver;
    int64_t now = cm_clock_mono_ms();
    cm_pubsub_fault_t fault;
    cm_error_t err = {0};
    land(batch);
    switch (cm_pubsub_judge(self, answer, &self->lease_gate, batch->token, &fault, &err)) {
    case CM_PUBSUB_FINE:
        for (size_t i = 0; i < batch->count; i++)
            confirm(batch, batch->leases[i], now);
        break;
    case CM_PUBSUB_LATER:
        requeue(batch, 0, batch->count, 0);
        break;
    case CM_PUBSUB_REFUSED:
        requeue(batch, 0, batch->count, 0);
        cm_pubsub_refuse(batch->sub, &batch->sub->ops[batch->op].refused, batch->sent_at, &err);
        break;
    case CM_PUBSUB_BAD:
        if (fault.id_count)
            settle_ids(batch, &fault, now);
        else
            bisect(batch);
        break;
    }
    free(batch);
    cm_pubsub_wake(self);
}

/* ---- requests -------------------------------------------------------------------------------- */

/* Until the answer is there an extension may have been carried out, and may have shortened the
 * lease that the subscription grants. */
static void begin_extension(cm_pubsub_slot_t *slot, int64_t until)
{
    slot->extending = true;
    if (slot->until > until)
        slot->until = until;
}

/* Write the body; leaves out what is no longer wanted. */
static void write_batch(cm_pubsub_batch_t *batch, int64_t now)
{
    cm_pubsub_t *self = batch->sub->driver;
    int64_t epoch_ms = cm_clock_epoch_ms();
    size_t kept = 0;
    int lease_seconds = cm_pubsub_lease_seconds(self);
    batch->seconds = batch->op == CM_PUBSUB_ACK      ? -1
                     : batch->op == CM_PUBSUB_EXTEND ? lease_seconds
                                                     : 0;
    cm_buffer_clear(&self->body);
    cm_pubsub_ids_begin(&self->body);
    for (size_t i = 0; i < batch->count; i++) {
        cm_pubsub_slot_t *slot = wanted(self, batch->op, batch->leases[i], now);
        if (!slot)
            continue;
        batch->leases[kept++] = batch->leases[i];
        cm_pubsub_put_id(&self->body, (cm_str_t){slot->ack_id, slot->ack_id_len});
        if (batch->op == CM_PUBSUB_EXTEND)
            begin_extension(slot, now + lease_seconds * 1000);
        int seconds = batch->op == CM_PUBSUB_DEFER ? seconds_to(slot, epoch_ms) : -1;
        if (seconds > batch->seconds)
            batch->seconds = seconds;
    }
    batch->count = kept;
    cm_pubsub_ids_end(&self->body, batch->seconds);
}

static void send_batch(cm_pubsub_batch_t *batch, int64_t now)
{
    cm_pubsub_t *self = batch->sub->driver;
    cm_pubsub_ops_t *ops = &batch->sub->ops[batch->op];
    write_batch(batch, now);
    if (batch->count == 0) {
        free(batch);
        return;
    }
    cm_buffer_clear(&self->url);
    cm_buffer_printf(&self->url, "%s:%s", batch->sub->url,
                     batch->op == CM_PUBSUB_ACK ? "acknowledge" : "modifyAckDeadline");
    batch->sent_at = now;
    batch->token = self->link.token;
    DL_APPEND(ops->flying, batch);
    ops->in_flight++;
    batch->call = cm_pubsub_send(self, CM_HTTP_POST, cm_buffer_text(&self->url),
                                 self->own.answer_ms, on_answer, batch);
}

static void flush_op(cm_pubsub_sub_t *sub, cm_pubsub_op_t op, int64_t now)
{
    cm_pubsub_ops_t *ops = &sub->ops[op];
    cm_pubsub_batch_t *batch, *after;
    DL_FOREACH_SAFE(ops->waiting, batch, after)
    {
        if (ops->in_flight == CM_PUBSUB_IN_FLIGHT)
            return;
        if (now < batch->not_before)
            continue;
        DL_DELETE(ops->waiting, batch);
        send_batch(batch, now);
    }
    while (ops->in_flight < CM_PUBSUB_IN_FLIGHT && (batch = take(sub, op, now)))
        send_batch(batch, now);
}

void cm_pubsub_flush_leases(cm_pubsub_t *self, int64_t now)
{
    if (!cm_pubsub_may_send(self) || now < self->lease_gate.until)
        return;
    for (size_t i = 0; i < self->sub_count; i++) {
        cm_pubsub_sub_t *sub = self->subs[i];
        for (int op = 0; op < CM_PUBSUB_OPS; op++)
            if (now >= sub->ops[op].refused.until)
                flush_op(sub, (cm_pubsub_op_t)op, now);
    }
}
