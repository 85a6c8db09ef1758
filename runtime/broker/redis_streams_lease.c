#include "runtime/broker/redis_streams.h"
#include "runtime/clock.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
    DEFERS_A_COMMAND = 100, /* each carries its body through the script */
    RETRY_MS = 1000,        /* after a refusal that may pass: memory, disk */
};

/* ---- the table ------------------------------------------------------------------------------- */

void cm_streams_leases_destroy(cm_streams_t *self)
{
    free(self->slots);
    self->slots = NULL;
    self->slot_count = 0;
}

static void grow(cm_streams_t *self)
{
    size_t count = self->slot_count ? self->slot_count * 2 : 1024;
    assert(count < CM_STREAMS_NO_SLOT);
    self->slots = realloc(self->slots, count * sizeof *self->slots);
    if (!self->slots)
        abort();
    for (size_t i = count; i-- > self->slot_count;) {
        self->slots[i] = (cm_streams_slot_t){.next = self->slot_free};
        self->slot_free = (uint32_t)i;
    }
    self->slot_count = count;
}

cm_broker_lease_t cm_streams_lease_new(cm_streams_t *self, const cm_streams_sub_t *sub,
                                       cm_streams_id_t id, int64_t seen_ms)
{
    if (self->slot_free == CM_STREAMS_NO_SLOT)
        grow(self);
    uint32_t index = self->slot_free;
    cm_streams_slot_t *slot = &self->slots[index];
    self->slot_free = slot->next;
    *slot = (cm_streams_slot_t){
        .id = id,
        .held_ms = seen_ms,
        .seen_ms = seen_ms,
        .generation = slot->generation + 1,
        .next = CM_STREAMS_NO_SLOT,
        .sub = (uint16_t)sub->number,
        .state = CM_STREAMS_HELD,
    };
    if (slot->generation == 0) /* a lease is never 0 */
        slot->generation = 1;
    return (cm_broker_lease_t)slot->generation << 32 | index;
}

static cm_broker_lease_t lease_of(const cm_streams_t *self, uint32_t index)
{
    return (cm_broker_lease_t)self->slots[index].generation << 32 | index;
}

/* The slot of a lease that is held; NULL for one that lapsed or was given back before. */
static cm_streams_slot_t *held(cm_streams_t *self, cm_broker_lease_t lease)
{
    uint32_t index = (uint32_t)lease;
    if (index >= self->slot_count)
        return NULL;
    cm_streams_slot_t *slot = &self->slots[index];
    bool valid = slot->generation == lease >> 32 && slot->state == CM_STREAMS_HELD;
    return valid ? slot : NULL;
}

static void free_slot(cm_streams_t *self, cm_streams_slot_t *slot)
{
    slot->state = CM_STREAMS_FREE;
    slot->next = self->slot_free;
    self->slot_free = (uint32_t)(slot - self->slots);
}

/* ---- chains ---------------------------------------------------------------------------------- */

static void chain_add(cm_streams_t *self, cm_streams_chain_t *chain, cm_streams_slot_t *slot)
{
    uint32_t index = (uint32_t)(slot - self->slots);
    slot->next = CM_STREAMS_NO_SLOT;
    if (chain->count++ == 0)
        chain->first = index;
    else
        self->slots[chain->last].next = index;
    chain->last = index;
}

/* Take up to `most` slots off the front of chain. */
static cm_streams_chain_t chain_take(cm_streams_t *self, cm_streams_chain_t *chain, size_t most)
{
    cm_streams_chain_t taken = *chain;
    if (chain->count <= most) {
        *chain = CM_STREAMS_EMPTY_CHAIN;
        return taken;
    }
    uint32_t last = chain->first;
    for (size_t i = 1; i < most; i++)
        last = self->slots[last].next;
    chain->first = self->slots[last].next;
    chain->count -= most;
    self->slots[last].next = CM_STREAMS_NO_SLOT;
    taken.last = last;
    taken.count = most;
    return taken;
}

static void chain_append(cm_streams_t *self, cm_streams_chain_t *to, const cm_streams_chain_t *more)
{
    if (more->count == 0)
        return;
    if (to->count == 0) {
        *to = *more;
        return;
    }
    self->slots[to->last].next = more->first;
    to->last = more->last;
    to->count += more->count;
}

static void chain_free(cm_streams_t *self, const cm_streams_chain_t *chain)
{
    uint32_t index = chain->first;
    for (size_t i = 0; i < chain->count; i++) {
        uint32_t next = self->slots[index].next;
        free_slot(self, &self->slots[index]);
        index = next;
    }
    self->unsettled -= chain->count;
}

/* ---- what the caller asks for ---------------------------------------------------------------- */

static void queue(cm_streams_t *self, cm_streams_slot_t *slot, cm_streams_slot_state_t state)
{
    cm_streams_sub_t *sub = self->subs[slot->sub];
    slot->state = (uint8_t)state;
    self->unsettled++;
    chain_add(self,
              state == CM_STREAMS_ACKING      ? &sub->acks
              : state == CM_STREAMS_DEFERRING ? &sub->defers
                                              : &sub->releases,
              slot);
    cm_streams_wake(self);
}

void cm_streams_ack(cm_streams_t *self, const cm_broker_lease_t *leases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        cm_streams_slot_t *slot = held(self, leases[i]);
        if (slot)
            queue(self, slot, CM_STREAMS_ACKING);
    }
}

void cm_streams_defer(cm_streams_t *self, cm_broker_lease_t lease, int64_t until_ms)
{
    cm_streams_slot_t *slot = held(self, lease);
    if (!slot)
        return;
    slot->until_ms = until_ms;
    queue(self, slot, CM_STREAMS_DEFERRING);
}

void cm_streams_release(cm_streams_t *self, const cm_broker_lease_t *leases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        cm_streams_slot_t *slot = held(self, leases[i]);
        if (slot)
            queue(self, slot, CM_STREAMS_RELEASING);
    }
}

/* ---- commands and their answers -------------------------------------------------------------- */

typedef struct { /* one command under way */
    cm_streams_sub_t *sub;
    cm_streams_chain_t *queue; /* where its slots go back to when it is not confirmed */
    cm_streams_chain_t chain;
} batch_t;

/* Only for those still pending with this consumer: after a lapse another may hold them, and a
 * command repeated after a lost link must change nothing. Both answer how many they found pending
 * but gone from the stream. ZADD comes before XACK: short of memory, Redis refuses the first write
 * of a script and lets later ones pass. An entry of thousands of fields could not be unpacked
 * again; it stays pending and comes back when its lease lapses. */
static const char defer_script[] =
    "local lost = 0 "
    "for i = 2, #ARGV, 2 do "
    "  local id = ARGV[i] "
    "  if redis.call('XPENDING', KEYS[1], KEYS[1], id, id, 1, ARGV[1])[1] then "
    "    local entry = redis.call('XRANGE', KEYS[1], id, id)[1] "
    "    if not entry then "
    "      lost = lost + redis.call('XACK', KEYS[1], KEYS[1], id) "
    "    elseif #entry[2] < 7000 then "
    "      local fields, origin = entry[2], false "
    "      for f = 1, #fields, 2 do origin = origin or fields[f] == 'cm-id' end "
    "      if not origin then fields[#fields + 1] = 'cm-id' fields[#fields + 1] = id end "
    "      redis.call('ZADD', KEYS[2], ARGV[i + 1], cmsgpack.pack(fields)) "
    "      redis.call('XACK', KEYS[1], KEYS[1], id) "
    "    end "
    "  end "
    "end "
    "return lost";

/* TIME 1 makes them idle since 1970: any claim takes them at once, and counts the attempt again. */
static const char release_script[] =
    "local lost = 0 "
    "for i = 2, #ARGV do "
    "  local id = ARGV[i] "
    "  local p = redis.call('XPENDING', KEYS[1], KEYS[1], id, id, 1, ARGV[1])[1] "
    "  if p and #redis.call('XCLAIM', KEYS[1], KEYS[1], '" CM_STREAMS_RELEASED "', 0, id, "
    "      'TIME', 1, 'RETRYCOUNT', math.max(p[4] - 1, 0), 'JUSTID') == 0 then "
    "    lost = lost + 1 "
    "  end "
    "end "
    "return lost";

/* The batch of an answered command. NULL when there is nothing more to do: the driver is closing.
 */
static cm_streams_t *open_answer(redisAsyncContext *context, const redisReply *reply,
                                 void *privdata, batch_t *ret_batch)
{
    *ret_batch = *(batch_t *)privdata;
    free(privdata);
    cm_streams_link_t *link = cm_streams_heard(context, reply);
    return link ? link->driver : NULL;
}

static void warn(const cm_streams_t *self, const char *text)
{
    if (self->events.on_warning)
        self->events.on_warning(self->events.ctx, text);
}

/* True when the command was carried out. Otherwise its slots are queued again, or given up: then
 * their messages come again when their leases lapse. */
static bool confirmed(cm_streams_t *self, const batch_t *batch, const redisReply *reply)
{
    cm_error_t err = {0};
    if (reply && reply->type == REDIS_REPLY_INTEGER)
        return true;
    if (!reply) {
        chain_append(self, batch->queue, &batch->chain);
        return false;
    }
    cm_status_t status = reply->type == REDIS_REPLY_ERROR
                             ? cm_redis_classify(reply->str, &err)
                             : cm_error_set(&err, CM_PERMANENT, "reply", "redis: odd reply");
    switch (status) {
    case CM_MISSING:
        chain_free(self, &batch->chain);
        cm_streams_group_vanished(batch->sub);
        break;
    case CM_PERMANENT:
        chain_free(self, &batch->chain);
        warn(self, err.message);
        break;
    case CM_MISCONFIGURED:
        chain_append(self, batch->queue, &batch->chain);
        batch->sub->flush_at = cm_clock_mono_ms() + CM_STREAMS_REFUSED_MS;
        if (!cm_streams_link_unfit(&self->link, &err))
            self->events.on_refused(self->events.ctx, batch->sub->number, &err);
        break;
    default:
        chain_append(self, batch->queue, &batch->chain);
        batch->sub->flush_at = cm_clock_mono_ms() + RETRY_MS;
        cm_streams_link_unfit(&self->link, &err);
        break;
    }
    return false;
}

static void on_acked(redisAsyncContext *context, void *reply, void *privdata)
{
    batch_t batch;
    cm_streams_t *self = open_answer(context, reply, privdata, &batch);
    if (!self || !confirmed(self, &batch, reply))
        return;
    chain_free(self, &batch.chain);
    batch.sub->acked = true;
}

static void tell_lost(cm_streams_t *self, const cm_streams_sub_t *sub, long long count)
{
    if (count > 0)
        self->events.on_lost(self->events.ctx, sub->number, (uint64_t)count,
                             "deleted from the stream while pending");
}

static void on_deferred(redisAsyncContext *context, void *reply_p, void *privdata)
{
    batch_t batch;
    const redisReply *reply = reply_p;
    cm_streams_t *self = open_answer(context, reply, privdata, &batch);
    if (!self || !confirmed(self, &batch, reply))
        return;
    chain_free(self, &batch.chain);
    batch.sub->acked = true;
    batch.sub->move_at = 0; /* the set is not empty now */
    tell_lost(self, batch.sub, reply->integer);
}

static void on_released(redisAsyncContext *context, void *reply_p, void *privdata)
{
    batch_t batch;
    const redisReply *reply = reply_p;
    cm_streams_t *self = open_answer(context, reply, privdata, &batch);
    if (!self || !confirmed(self, &batch, reply))
        return;
    chain_free(self, &batch.chain);
    batch.sub->claim_at = 0; /* whoever pulls may have them, we too */
    tell_lost(self, batch.sub, reply->integer);
}

static void put_chain(cm_streams_t *self, const cm_streams_chain_t *chain, bool with_time)
{
    uint32_t index = chain->first;
    for (size_t i = 0; i < chain->count; i++) {
        const cm_streams_slot_t *slot = &self->slots[index];
        cm_streams_put_id(&self->command, slot->id);
        if (with_time)
            cm_streams_put_i64(&self->command, slot->until_ms);
        index = slot->next;
    }
}

static void put_ack(cm_streams_sub_t *sub, const cm_streams_chain_t *chain)
{
    cm_buffer_t *command = &sub->driver->command;
    cm_streams_put_head(command, 3 + chain->count);
    cm_streams_put(command, CM_STR("XACK"));
    cm_streams_put(command, cm_str(sub->name));
    cm_streams_put(command, cm_str(sub->name));
    put_chain(sub->driver, chain, false);
}

static void put_script(cm_streams_sub_t *sub, const cm_streams_chain_t *chain, const char *script,
                       bool with_time)
{
    cm_buffer_t *command = &sub->driver->command;
    cm_streams_put_head(command, 6 + chain->count * (with_time ? 2 : 1));
    cm_streams_put(command, CM_STR("EVAL"));
    cm_streams_put(command, cm_str(script));
    cm_streams_put_i64(command, 2);
    cm_streams_put(command, cm_str(sub->name));
    cm_streams_put(command, cm_str(sub->deferred));
    cm_streams_put(command, cm_str(sub->driver->options.consumer));
    put_chain(sub->driver, chain, with_time);
}

/* Send all of one queue; false when the link takes no more. */
static bool flush_queue(cm_streams_sub_t *sub, cm_streams_chain_t *waiting)
{
    cm_streams_t *self = sub->driver;
    bool defers = waiting == &sub->defers, acks = waiting == &sub->acks;
    while (waiting->count) {
        batch_t *batch = malloc(sizeof *batch);
        if (!batch)
            abort();
        *batch = (batch_t){
            .sub = sub,
            .queue = waiting,
            .chain = chain_take(self, waiting, defers ? DEFERS_A_COMMAND : CM_STREAMS_CHUNK)};
        if (acks)
            put_ack(sub, &batch->chain);
        else
            put_script(sub, &batch->chain, defers ? defer_script : release_script, defers);
        if (!cm_streams_send(&self->link,
                             acks     ? on_acked
                             : defers ? on_deferred
                                      : on_released,
                             batch)) {
            chain_append(self, waiting, &batch->chain);
            free(batch);
            return false;
        }
    }
    return true;
}

void cm_streams_flush(cm_streams_t *self)
{
    if (self->link.state != CM_STREAMS_UP)
        return;
    int64_t now = cm_clock_mono_ms();
    for (size_t i = 0; i < self->sub_count; i++) {
        cm_streams_sub_t *sub = self->subs[i];
        if (now < sub->flush_at)
            continue;
        if (!flush_queue(sub, &sub->acks) || !flush_queue(sub, &sub->defers) ||
            !flush_queue(sub, &sub->releases))
            return;
    }
}

/* ---- extension ------------------------------------------------------------------------------- */

typedef struct {
    cm_streams_sub_t *sub;
    int64_t sent_ms;
    size_t count;
    struct {
        cm_broker_lease_t lease;
        cm_streams_id_t id;
    } items[CM_STREAMS_CHUNK];
} extension_t;

/* ids has those of the items that are still pending, in their order. */
static size_t settle_extension(cm_streams_t *self, const extension_t *extension,
                               const redisReply *ids)
{
    size_t lost = 0, at = 0;
    for (size_t i = 0; i < extension->count; i++) {
        cm_streams_id_t id;
        bool pending = at < ids->elements &&
                       cm_streams_parse_id(cm_streams_text(ids->element[at]), &id) &&
                       cm_streams_compare_id(id, extension->items[i].id) == 0;
        if (pending)
            at++;
        cm_streams_slot_t *slot = held(self, extension->items[i].lease);
        if (!slot)
            continue;
        if (pending) {
            slot->seen_ms = extension->sent_ms;
        } else {
            slot->orphan = true;
            lost++;
        }
    }
    return lost;
}

static void on_extended(redisAsyncContext *context, void *reply_p, void *privdata)
{
    const redisReply *reply = reply_p;
    extension_t *extension = privdata;
    cm_streams_link_t *link = cm_streams_heard(context, reply);
    if (link) {
        cm_streams_sub_t *sub = extension->sub;
        cm_error_t err = {0};
        sub->extensions--;
        if (reply && reply->type == REDIS_REPLY_ARRAY) {
            size_t lost = settle_extension(link->driver, extension, reply);
            if (lost)
                link->driver->events.on_lost(
                    link->driver->events.ctx, sub->number, lost,
                    "held here, but deleted from the stream or acknowledged elsewhere");
        } else if (reply && reply->type == REDIS_REPLY_ERROR) {
            cm_redis_classify(reply->str, &err);
            cm_streams_command_failed(sub, &err);
        }
    }
    free(extension);
}

/* XCLAIM to ourselves with IDLE 0 begins the lease anew; JUSTID leaves the attempts alone. */
static void send_extension(extension_t *extension)
{
    cm_streams_sub_t *sub = extension->sub;
    cm_streams_t *self = sub->driver;
    cm_streams_put_head(&self->command, 8 + extension->count);
    cm_streams_put(&self->command, CM_STR("XCLAIM"));
    cm_streams_put(&self->command, cm_str(sub->name));
    cm_streams_put(&self->command, cm_str(sub->name));
    cm_streams_put(&self->command, cm_str(self->options.consumer));
    cm_streams_put(&self->command, CM_STR("0"));
    for (size_t i = 0; i < extension->count; i++)
        cm_streams_put_id(&self->command, extension->items[i].id);
    cm_streams_put(&self->command, CM_STR("IDLE"));
    cm_streams_put(&self->command, CM_STR("0"));
    cm_streams_put(&self->command, CM_STR("JUSTID"));
    if (cm_streams_send(&self->link, on_extended, extension))
        sub->extensions++;
    else
        free(extension);
}

/* What is due for extension of one subscription; a round still under way is waited for. */
static void extend_sub(cm_streams_t *self, cm_streams_sub_t *sub, int64_t now)
{
    extension_t *extension = NULL;
    for (size_t i = 0; i < self->slot_count; i++) {
        const cm_streams_slot_t *slot = &self->slots[i];
        if (slot->state != CM_STREAMS_HELD || slot->sub != sub->number || slot->orphan ||
            now - slot->seen_ms < self->options.lease_ms / 3 ||
            now - slot->held_ms >= self->options.hold_max_ms)
            continue;
        if (!extension) {
            extension = malloc(sizeof *extension);
            if (!extension)
                abort();
            extension->sub = sub;
            extension->sent_ms = now;
            extension->count = 0;
        }
        extension->items[extension->count].lease = lease_of(self, (uint32_t)i);
        extension->items[extension->count++].id = slot->id;
        if (extension->count == CM_STREAMS_CHUNK) {
            send_extension(extension);
            extension = NULL;
        }
    }
    if (extension)
        send_extension(extension);
}

void cm_streams_extend(cm_streams_t *self, int64_t now)
{
    bool any = false;
    for (size_t i = 0; i < self->slot_count; i++) { /* the count may grow in an event */
        cm_streams_slot_t *slot = &self->slots[i];
        if (slot->state == CM_STREAMS_FREE)
            continue;
        any = true;
        /* Late, so maybe another consumer's by now: claiming it back would take it from them. */
        if (slot->state == CM_STREAMS_HELD && !slot->orphan &&
            now - slot->seen_ms > self->options.lease_ms) {
            cm_broker_lease_t lease = lease_of(self, (uint32_t)i);
            free_slot(self, slot);
            self->events.on_lapsed(self->events.ctx, lease);
        }
    }
    for (size_t i = 0; any && i < self->sub_count; i++)
        if (self->link.state == CM_STREAMS_UP && self->subs[i]->extensions == 0)
            extend_sub(self, self->subs[i], now);
}

void cm_streams_orphan_all(cm_streams_t *self, const cm_streams_sub_t *sub)
{
    for (size_t i = 0; i < self->slot_count; i++)
        if (self->slots[i].state != CM_STREAMS_FREE && self->slots[i].sub == sub->number)
            self->slots[i].orphan = true;
}

void cm_streams_find_held(cm_streams_t *self, const cm_streams_sub_t *sub,
                          const cm_streams_id_t *ids, size_t count, int64_t seen_ms,
                          bool *ret_known)
{
    memset(ret_known, 0, count * sizeof *ret_known);
    for (size_t i = 0; count && i < self->slot_count; i++) {
        cm_streams_slot_t *slot = &self->slots[i];
        if (slot->state == CM_STREAMS_FREE || slot->sub != sub->number)
            continue;
        size_t low = 0, high = count;
        while (low < high) {
            size_t middle = (low + high) / 2;
            if (cm_streams_compare_id(ids[middle], slot->id) < 0)
                low = middle + 1;
            else
                high = middle;
        }
        if (low == count || cm_streams_compare_id(ids[low], slot->id) != 0)
            continue;
        ret_known[low] = true;
        if (seen_ms)
            slot->seen_ms = seen_ms;
        else
            slot->orphan = true;
    }
}
