#include "runtime/broker/redis_streams.h"
#include "runtime/clock.h"

#include <assert.h>
#include <string.h>

enum { GROUP_AGAIN_MS = 1000 }; /* between two tries to create a group that does not stay */

static void go_on(cm_streams_sub_t *sub);

static void finish(cm_streams_sub_t *sub, size_t received)
{
    cm_streams_t *self = sub->driver;
    sub->pull = CM_STREAMS_IDLE;
    self->open_pulls--;
    self->events.on_pulled(self->events.ctx, sub->number, received);
}

/* ---- the group ------------------------------------------------------------------------------- */

void cm_streams_refuse(cm_streams_sub_t *sub, const cm_error_t *err)
{
    cm_streams_t *self = sub->driver;
    sub->group_ready = false;
    sub->group_retry_at = cm_clock_mono_ms() + CM_STREAMS_REFUSED_MS;
    self->events.on_refused(self->events.ctx, sub->number, err);
    if (sub->pull == CM_STREAMS_READING)
        finish(sub, 0);
}

void cm_streams_command_failed(cm_streams_sub_t *sub, const cm_error_t *err)
{
    if (cm_streams_link_unfit(&sub->driver->link, err) || err->status == CM_UNAVAILABLE)
        return;
    if (err->status == CM_MISSING)
        cm_streams_group_vanished(sub);
    else
        cm_streams_refuse(sub, err);
}

void cm_streams_group_vanished(cm_streams_sub_t *sub)
{
    int64_t now = cm_clock_mono_ms(), again = sub->group_asked_at + GROUP_AGAIN_MS;
    sub->group_ready = false;
    sub->group_retry_at = again > now ? again : now;
    if (sub->group_retry_at == now)
        cm_streams_group_create(sub);
}

static void on_group(redisAsyncContext *context, void *reply_p, void *privdata)
{
    const redisReply *reply = reply_p;
    cm_streams_sub_t *sub = privdata;
    cm_streams_link_t *link = cm_streams_heard(context, reply);
    cm_error_t err = {0};
    if (!link || !reply)
        return;
    bool created = reply->type != REDIS_REPLY_ERROR;
    cm_status_t status = created ? CM_OK : cm_redis_classify(reply->str, &err);
    /* Short of memory Redis refuses before it looks; the next read tells whether the group exists.
     */
    bool usable = status == CM_OK || strcmp(err.code, "OOM") == 0;
    if (!usable && status == CM_UNAVAILABLE) {
        cm_streams_link_fail(link, &err);
        return;
    }
    cm_streams_link_up(link);
    if (!usable) {
        cm_streams_refuse(sub, &err);
        return;
    }
    sub->group_ready = true;
    if (created && sub->group_known) {
        cm_streams_orphan_all(sub->driver, sub);
        sub->driver->events.on_lost(sub->driver->events.ctx, sub->number, 0,
                                    "stream or consumer group vanished and was created again");
    }
    sub->group_known |= status == CM_OK;
    cm_streams_pull_resume(sub);
}

/* From its very beginning, id 0: from $ all that was published before would be skipped. */
bool cm_streams_group_create(cm_streams_sub_t *sub)
{
    cm_buffer_t *command = &sub->driver->command;
    sub->group_asked_at = cm_clock_mono_ms();
    sub->group_retry_at = INT64_MAX;
    cm_streams_put_head(command, 6);
    cm_streams_put(command, CM_STR("XGROUP"));
    cm_streams_put(command, CM_STR("CREATE"));
    cm_streams_put(command, cm_str(sub->name));
    cm_streams_put(command, cm_str(sub->name));
    cm_streams_put(command, CM_STR("0"));
    cm_streams_put(command, CM_STR("MKSTREAM"));
    return cm_streams_send(&sub->link, on_group, sub);
}

/* ---- deliveries ------------------------------------------------------------------------------ */

/* When the lease of what just arrived may have begun, at the earliest: after the command was sent,
 * and after the tick before the last, since the loop has looked at the socket meanwhile. So a
 * process that was stopped does not take old replies for new. */
static int64_t lease_begin(const cm_streams_sub_t *sub)
{
    return sub->asked_at > sub->driver->tick_before ? sub->asked_at : sub->driver->tick_before;
}

/* Deliver entries, except those marked in skip (may be NULL). attempts may be NULL: all are first.
 */
static size_t deliver(cm_streams_sub_t *sub, const redisReply *entries, const bool *skip,
                      const redisReply *attempts)
{
    cm_streams_t *self = sub->driver;
    cm_streams_entry_t *entry = &self->entry;
    int64_t begin = lease_begin(sub);
    size_t delivered = 0;
    if (cm_clock_mono_ms() - begin > self->options.lease_ms)
        return 0; /* another consumer may claim them already */
    for (size_t i = 0; i < entries->elements; i++) {
        if ((skip && skip[i]) || !cm_streams_decode(entries->element[i], entry))
            continue;
        const redisReply *tries = attempts && i < attempts->elements ? attempts->element[i] : NULL;
        cm_broker_delivery_t delivery = {
            .lease = cm_streams_lease_new(self, sub, entry->id, begin),
            .subscription = sub->number,
            .message_id = entry->message_id,
            .publish_ms = entry->publish_ms,
            .attempt = tries && tries->integer > 1 && tries->integer <= INT32_MAX
                           ? (int)tries->integer
                           : 1,
            .message = {.body = entry->body,
                        .attributes = entry->attributes,
                        .attribute_count = entry->attribute_count},
        };
        self->events.on_delivery(self->events.ctx, &delivery);
        delivered++;
    }
    return delivered;
}

/* ---- reading --------------------------------------------------------------------------------- */

static void on_read(redisAsyncContext *context, void *reply_p, void *privdata)
{
    const redisReply *reply = reply_p;
    cm_streams_sub_t *sub = privdata;
    cm_streams_link_t *link = cm_streams_heard(context, reply);
    cm_error_t err = {0};
    if (!link || !reply || sub->pull != CM_STREAMS_READING)
        return; /* a lost link ends the pull by itself */
    if (reply->type != REDIS_REPLY_ERROR) {
        const redisReply *entries = cm_streams_read_entries(reply);
        sub->claimed_last = false;
        if (entries)
            finish(sub, deliver(sub, entries, NULL, NULL));
        else
            go_on(sub);
        return;
    }
    cm_status_t status = cm_redis_classify(reply->str, &err);
    if (status == CM_MISSING || strcmp(err.code, "UNBLOCKED") == 0) {
        sub->pull = CM_STREAMS_WAITING;
        cm_streams_group_vanished(sub);
    } else if (status == CM_UNAVAILABLE || strcmp(err.code, "NOAUTH") == 0) {
        cm_streams_link_fail(link, &err);
    } else {
        cm_streams_refuse(sub, &err);
    }
}

/* Wait at the broker no longer than the pull may last and than nothing is to be claimed. */
static void read_new(cm_streams_sub_t *sub, int64_t now)
{
    cm_streams_t *self = sub->driver;
    cm_buffer_t *command = &self->command;
    bool may_claim = self->link.state == CM_STREAMS_UP;
    int64_t until = may_claim && sub->claim_at < sub->deadline ? sub->claim_at : sub->deadline;
    int64_t wait_ms = until - now;
    bool block = wait_ms > 0; /* BLOCK 0 would wait for ever */
    cm_streams_put_head(command, block ? 11 : 9);
    cm_streams_put(command, CM_STR("XREADGROUP"));
    cm_streams_put(command, CM_STR("GROUP"));
    cm_streams_put(command, cm_str(sub->name));
    cm_streams_put(command, cm_str(self->options.consumer));
    cm_streams_put(command, CM_STR("COUNT"));
    cm_streams_put_i64(command, (int64_t)sub->max);
    if (block) {
        cm_streams_put(command, CM_STR("BLOCK"));
        cm_streams_put_i64(command, wait_ms);
    }
    cm_streams_put(command, CM_STR("STREAMS"));
    cm_streams_put(command, cm_str(sub->name));
    cm_streams_put(command, CM_STR(">"));
    sub->asked_at = now;
    sub->link.patience_ms = CM_STREAMS_PATIENCE_MS + (block ? (int)wait_ms : 0);
    sub->pull = cm_streams_send(&sub->link, on_read, sub) ? CM_STREAMS_READING : CM_STREAMS_WAITING;
}

/* ---- claiming what others left behind -------------------------------------------------------- */

/* One step of a pass over all pending entries. XAUTOCLAIM looks at ten times COUNT of them; a small
 * COUNT is repeated here and not over the wire. The attempts come along, because it does not tell
 * them. */
static const char claim_script[] =
    "local cursor, deleted, attempts, r = ARGV[3], {}, {} "
    "for step = 1, math.floor(1000 / ARGV[4]) do "
    "  r = redis.call('XAUTOCLAIM', KEYS[1], KEYS[1], ARGV[1], ARGV[2], cursor, 'COUNT', ARGV[4]) "
    "  cursor = r[1] "
    "  for _, id in ipairs(r[3] or {}) do deleted[#deleted + 1] = id end "
    "  if #r[2] > 0 or cursor == '0-0' then break end "
    "end "
    "for i, entry in ipairs(r[2]) do "
    "  local p = entry and redis.call('XPENDING', KEYS[1], KEYS[1], entry[1], entry[1], 1)[1] "
    "  attempts[i] = p and p[4] or 2 "
    "end "
    "return {cursor, r[2], deleted, attempts}";

static void tell_deleted(cm_streams_sub_t *sub, const redisReply *deleted)
{
    cm_streams_t *self = sub->driver;
    cm_streams_id_t ids[CM_STREAMS_CHUNK];
    bool known[CM_STREAMS_CHUNK];
    size_t count = 0;
    for (size_t i = 0; i < deleted->elements; i++)
        count += cm_streams_parse_id(cm_streams_text(deleted->element[i]), &ids[count]);
    if (count == 0)
        return;
    cm_streams_find_held(self, sub, ids, count, 0, known);
    self->events.on_lost(self->events.ctx, sub->number, count,
                         "deleted from the stream while pending");
}

/* What we hold already, say because its ack is on the way again, is not delivered twice. */
static size_t deliver_claimed(cm_streams_sub_t *sub, const cm_streams_claimed_t *claimed)
{
    cm_streams_id_t ids[CM_STREAMS_CHUNK];
    bool known[CM_STREAMS_CHUNK];
    const redisReply *entries = claimed->entries;
    for (size_t i = 0; i < entries->elements; i++) {
        const redisReply *entry = entries->element[i];
        ids[i] = i ? ids[i - 1] : (cm_streams_id_t){0, 0};
        if (entry && entry->type == REDIS_REPLY_ARRAY && entry->elements)
            cm_streams_parse_id(cm_streams_text(entry->element[0]), &ids[i]);
    }
    cm_streams_find_held(sub->driver, sub, ids, entries->elements, sub->asked_at, known);
    return deliver(sub, entries, known, claimed->attempts);
}

/* Due again in half a lease, so that a message waits for its next consumer 1.5 leases at most; the
 * jitter keeps the instances apart. */
static void complete_pass(cm_streams_sub_t *sub)
{
    int64_t half = sub->driver->options.lease_ms / 2;
    snprintf(sub->cursor, sizeof sub->cursor, "0-0");
    sub->claim_at = cm_clock_mono_ms() + half - half / 8 +
                    (int64_t)cm_random_below(&sub->driver->random, (uint64_t)(half / 8));
}

static void on_claimed(redisAsyncContext *context, void *reply_p, void *privdata)
{
    const redisReply *reply = reply_p;
    cm_streams_sub_t *sub = privdata;
    cm_streams_link_t *link = cm_streams_heard(context, reply);
    cm_streams_claimed_t claimed;
    cm_error_t err = {0};
    if (!link)
        return;
    sub->claimed_last = true; /* so that reading is next, whatever came of this */
    if (!cm_streams_claimed(reply, &claimed)) {
        complete_pass(sub);
        if (reply && reply->type == REDIS_REPLY_ERROR) {
            cm_redis_classify(reply->str, &err);
            cm_streams_command_failed(sub, &err);
        }
        go_on(sub);
        return;
    }
    snprintf(sub->cursor, sizeof sub->cursor, "%.*s", CM_STR_ARG(claimed.cursor));
    if (strcmp(sub->cursor, "0-0") == 0)
        complete_pass(sub);
    else
        sub->claimed_last = claimed.entries->elements > 0; /* nothing here: look further */
    tell_deleted(sub, claimed.deleted);
    size_t delivered = deliver_claimed(sub, &claimed);
    if (delivered)
        finish(sub, delivered);
    else
        go_on(sub);
}

static bool claim(cm_streams_sub_t *sub, int64_t now)
{
    cm_streams_t *self = sub->driver;
    char idle[16], count[16];
    cm_streams_extend(self, now); /* what lapsed must not pass for held */
    cm_streams_flush(self);       /* what is acknowledged must not come again */
    size_t most = sub->max < CM_STREAMS_CHUNK ? sub->max : CM_STREAMS_CHUNK;
    snprintf(idle, sizeof idle, "%d", self->options.lease_ms);
    snprintf(count, sizeof count, "%zu", most);
    const cm_str_t arguments[] = {cm_str(sub->name), cm_str(self->options.consumer), cm_str(idle),
                                  cm_str(sub->cursor), cm_str(count)};
    if (!cm_streams_eval(&self->link, on_claimed, sub, claim_script, arguments, 5, 1))
        return false;
    sub->asked_at = now;
    sub->pull = CM_STREAMS_CLAIMING;
    return true;
}

/* ---- the pull -------------------------------------------------------------------------------- */

/* The next step of an open pull: claim when that is due, else read; end when its time is over. */
static void go_on(cm_streams_sub_t *sub)
{
    int64_t now = cm_clock_mono_ms();
    bool just_began = sub->pull == CM_STREAMS_WAITING;
    sub->pull = CM_STREAMS_WAITING;
    if (sub->link.state != CM_STREAMS_UP || !sub->group_ready)
        return; /* the tick ends it, or cm_streams_pull_resume() goes on */
    if (now >= sub->claim_at && !sub->claimed_last && claim(sub, now))
        return;
    if (now < sub->deadline || just_began || sub->claimed_last)
        read_new(sub, now);
    else
        finish(sub, 0);
}

void cm_streams_pull(cm_streams_sub_t *sub, size_t max)
{
    assert(sub->pull == CM_STREAMS_IDLE);
    sub->driver->open_pulls++;
    sub->max = max;
    sub->deadline = cm_clock_mono_ms() + sub->driver->options.poll_ms;
    sub->pull = CM_STREAMS_WAITING;
    go_on(sub);
}

void cm_streams_pull_resume(cm_streams_sub_t *sub)
{
    if (sub->pull == CM_STREAMS_WAITING)
        go_on(sub);
}

void cm_streams_pull_lost(cm_streams_sub_t *sub)
{
    sub->group_ready = false;
    if (sub->pull == CM_STREAMS_READING)
        finish(sub, 0);
}

void cm_streams_pull_tick(cm_streams_sub_t *sub, int64_t now)
{
    if (sub->link.state == CM_STREAMS_UP && !sub->group_ready && now >= sub->group_retry_at)
        cm_streams_group_create(sub);
    if (sub->pull == CM_STREAMS_WAITING && now >= sub->deadline)
        finish(sub, 0);
}
