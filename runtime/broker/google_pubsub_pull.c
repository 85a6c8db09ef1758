#include "runtime/broker/google_pubsub_private.h"
#include "runtime/clock.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

enum {
    PULLS_START = 2,
    ANSWER_BYTES_MAX = 32 << 20, /* one message takes up to 13.4 MB of JSON */
    SOON_MS = 250,               /* an answer that came so soon was waiting for us */
    LONG_MS = 2000,              /* one that took so long: there are enough of us */
};

/* ---- the caller's pull ----------------------------------------------------------------------- */

void cm_pubsub_pull_open(cm_pubsub_sub_t *sub, size_t max)
{
    assert(!sub->open);
    int64_t now = cm_clock_mono_ms();
    if (sub->draining || sub->seen_at < 0)
        sub->delivered_at = sub->answered_at = now; /* the watchdog begins to count */
    sub->draining = false;
    sub->open = true;
    sub->max = max;
    sub->deadline = now + sub->driver->options.poll_ms;
    sub->seen_at = now;
    sub->driver->open_pulls++;
    cm_pubsub_wake(sub->driver);
}

static void finish(cm_pubsub_sub_t *sub, int64_t now, size_t received)
{
    cm_pubsub_t *self = sub->driver;
    sub->open = false;
    sub->seen_at = now;
    self->open_pulls--;
    self->events.on_pulled(self->events.ctx, sub->number, received);
}

/* ---- the buffer ------------------------------------------------------------------------------ */

static void buffer_add(cm_pubsub_sub_t *sub, uint32_t index)
{
    cm_pubsub_t *self = sub->driver;
    if (sub->first == CM_PUBSUB_NO_SLOT)
        sub->first = index;
    else
        self->slots[sub->last].next = index;
    sub->last = index;
    sub->buffered++;
    sub->buffered_bytes += (int64_t)self->slots[index].bytes;
    self->buffered++;
}

static uint32_t buffer_take(cm_pubsub_sub_t *sub)
{
    cm_pubsub_t *self = sub->driver;
    uint32_t index = sub->first;
    cm_pubsub_slot_t *slot = &self->slots[index];
    sub->first = slot->next;
    slot->next = CM_PUBSUB_NO_SLOT;
    sub->buffered--;
    sub->buffered_bytes -= (int64_t)slot->bytes;
    self->buffered--;
    return index;
}

static bool lapsed(cm_pubsub_sub_t *sub, uint32_t index, int64_t now)
{
    cm_pubsub_t *self = sub->driver;
    cm_broker_lease_t lease = cm_pubsub_lease_of(self, index);
    if (now < self->slots[index].until)
        return false;
    cm_pubsub_slot_free(self, &self->slots[index]);
    self->events.on_lapsed(self->events.ctx, lease); /* to be counted */
    return true;
}

static void deliver(cm_pubsub_sub_t *sub, uint32_t index)
{
    cm_pubsub_t *self = sub->driver;
    cm_pubsub_slot_t *slot = &self->slots[index];
    const cm_pubsub_message_t *message = slot->message;
    cm_pubsub_answer_t *answer = slot->answer;
    slot->state = CM_PUBSUB_HELD;
    slot->message = NULL;
    slot->answer = NULL;
    cm_broker_delivery_t delivery = {
        .lease = cm_pubsub_lease_of(self, index),
        .subscription = sub->number,
        .message_id = message->message_id,
        .publish_ms = message->publish_ms,
        .attempt = message->attempt,
        .message = message->message,
    };
    self->events.on_delivery(self->events.ctx, &delivery);
    cm_pubsub_answer_unuse(answer);
}

static void deliver_buffered(cm_pubsub_sub_t *sub, int64_t now)
{
    size_t delivered = 0;
    while (!sub->stopped && sub->buffered && delivered < sub->max) {
        uint32_t index = buffer_take(sub);
        if (lapsed(sub, index, now))
            continue;
        deliver(sub, index);
        delivered++;
    }
    if (delivered)
        finish(sub, now, delivered);
}

/* Others may have what waits here. */
static void give_back(cm_pubsub_sub_t *sub, int64_t now)
{
    cm_pubsub_t *self = sub->driver;
    while (sub->buffered) {
        uint32_t index = buffer_take(sub);
        if (lapsed(sub, index, now))
            continue;
        cm_pubsub_slot_t *slot = &self->slots[index];
        cm_pubsub_answer_unuse(slot->answer);
        slot->answer = NULL;
        slot->message = NULL;
        slot->state = CM_PUBSUB_HELD;
        cm_pubsub_give(self, cm_pubsub_lease_of(self, index), CM_PUBSUB_RELEASING, 0);
    }
}

/* Nobody pulls: others may have what would still come as well. */
static void drain(cm_pubsub_sub_t *sub, int64_t now)
{
    if (sub->draining) {
        give_back(sub, now);
        return;
    }
    sub->draining = true;
    cm_pubsub_pull_cancel(sub); /* the next tick gives back: the service then knows that we do not
                                   wait */
}

static bool is_idle(const cm_pubsub_sub_t *sub, int64_t now)
{
    return !sub->open && now - sub->seen_at > 2 * sub->driver->options.poll_ms + 1000;
}

void cm_pubsub_pull_tick(cm_pubsub_sub_t *sub, int64_t now)
{
    if (sub->open && now >= sub->deadline) {
        deliver_buffered(sub, now);
        if (sub->open && now >= sub->deadline)
            finish(sub, now, 0);
    }
    if (is_idle(sub, now) && sub->seen_at >= 0)
        drain(sub, now);
    else if (sub->stopped)
        give_back(sub, now);
}

/* ---- refusals -------------------------------------------------------------------------------- */

static void explain(const cm_pubsub_sub_t *sub, const cm_error_t *err, cm_error_t *ret_told)
{
    const cm_pubsub_t *self = sub->driver;
    bool missing = strcmp(err->code, "http-404") == 0, right = strcmp(err->code, "http-403") == 0;
    if (missing)
        cm_error_set(ret_told, CM_MISCONFIGURED, err->code,
                     "subscription %.60s is missing in project %.40s (pubsub.project); run: "
                     "client-manager broker create",
                     sub->name, self->address.project);
    else if (right)
        cm_error_set(ret_told, CM_MISCONFIGURED, err->code,
                     "no right to subscription %.60s of project %.40s; grant %.60s "
                     "(pubsub.credentials_file) roles/pubsub.subscriber",
                     sub->name, self->address.project,
                     self->credentials ? cm_google_credentials_name(self->credentials)
                                       : "this instance");
    else
        cm_error_set(ret_told, CM_MISCONFIGURED, err->code, "subscription %.60s: %s", sub->name,
                     err->message);
}

static bool is_told(const cm_pubsub_sub_t *sub, int64_t now)
{
    return sub->told_at && now - sub->told_at < sub->driver->own.refused_ms / 2;
}

static void tell_refused(cm_pubsub_sub_t *sub, int64_t now)
{
    cm_pubsub_t *self = sub->driver;
    sub->told_at = now;
    self->events.on_refused(self->events.ctx, sub->number, &sub->refusal);
}

void cm_pubsub_refuse(cm_pubsub_sub_t *sub, cm_pubsub_refusal_t *kind, int64_t sent_at,
                      const cm_error_t *err)
{
    int64_t now = cm_clock_mono_ms();
    cm_pubsub_refusal_t refusal = {.at = now, .until = now + sub->driver->own.refused_ms};
    if (sent_at <= kind->at)
        return; /* it was under way then */
    *kind = refusal;
    if (!sub->stopped || kind == &sub->refused) { /* else pulls keep their turn */
        sub->refused = refusal;
        sub->stopped = true;
        cm_pubsub_pull_cancel(sub);
    }
    explain(sub, err, &sub->refusal);
    if (!is_told(sub, now)) /* for another call of this try */
        tell_refused(sub, now);
}

/* The pull that was answered was sent since then: those before were cut. */
static void serve_again(cm_pubsub_sub_t *sub)
{
    sub->stopped = false;
    sub->told_at = 0; /* the next refusal is news */
}

/* ---- answers --------------------------------------------------------------------------------- */

static void land(cm_pubsub_pull_t *pull)
{
    cm_pubsub_sub_t *sub = pull->sub;
    DL_DELETE(sub->pulls, pull);
    sub->in_flight--;
    sub->reserved -= pull->asked;
}

void cm_pubsub_pull_cancel(cm_pubsub_sub_t *sub)
{
    cm_pubsub_pull_t *pull, *after;
    DL_FOREACH_SAFE(sub->pulls, pull, after)
    {
        cm_http_cancel(sub->driver->pulls, pull->call);
        land(pull);
        free(pull);
    }
    sub->wanted = PULLS_START;
}

static void note_answer(cm_pubsub_sub_t *sub, const cm_pubsub_pull_t *pull, size_t count,
                        int64_t now)
{
    int64_t took = now - pull->sent_at;
    size_t most = (size_t)sub->driver->own.pulls_max;
    sub->answered_at = now;
    cm_backoff_reset(&sub->pull_backoff);
    if (count == 0) {
        sub->wanted = sub->wanted > PULLS_START ? PULLS_START : 1;
        if (took < SOON_MS) /* no hot loop over a service that does not hold them */
            sub->pull_at = now + cm_backoff_next_ms(&sub->pull_backoff);
        return;
    }
    sub->delivered_at = now;
    if (sub->ask_max < CM_PUBSUB_ASK_MAX)
        sub->ask_max *= 2;
    if (took <= SOON_MS || count == pull->asked || sub->wanted < PULLS_START)
        sub->wanted += sub->wanted < most;
    else if (took >= LONG_MS && sub->wanted > PULLS_START)
        sub->wanted--;
}

/* Read an answer into the buffer. */
static cm_status_t take_answer(cm_pubsub_pull_t *pull, const cm_http_answer_t *http, int64_t now,
                               cm_error_t *err)
{
    cm_pubsub_sub_t *sub = pull->sub;
    cm_pubsub_t *self = sub->driver;
    cm_pubsub_message_t *messages = NULL;
    size_t count = 0;
    cm_pubsub_answer_t *answer = malloc(sizeof *answer);
    if (!answer)
        abort();
    *answer = (cm_pubsub_answer_t){.arena = cm_arena_new(http->body.len + 4096), .users = 1};
    cm_status_t status =
        cm_pubsub_read_pull(http->body, pull->asked, answer->arena, &messages, &count, err);
    int64_t begin = cm_pubsub_begin_of(self, now, http->receiving_ms), bytes = 0;
    for (size_t i = 0; status == CM_OK && i < count; i++) {
        buffer_add(sub, cm_pubsub_slot_new(sub, &messages[i], answer, begin, now));
        bytes += (int64_t)messages[i].bytes;
    }
    cm_pubsub_answer_unuse(answer);
    if (status == CM_OK)
        note_answer(sub, pull, count, now);
    if (count)
        sub->average_bytes = (3 * sub->average_bytes + bytes / (int64_t)count) / 4 + 1;
    return status;
}

/* Its messages come again when their leases lapse. Too large: then in smaller portions. */
static void unreadable(cm_pubsub_sub_t *sub, const cm_pubsub_pull_t *pull, int64_t now,
                       const cm_error_t *err)
{
    char text[CM_ERROR_MESSAGE_MAX + 128];
    sub->pull_at = now + cm_backoff_next_ms(&sub->pull_backoff);
    sub->answered_at = now;
    if (pull->asked > 1 && strcmp(err->code, "answer-too-large") == 0)
        sub->ask_max = pull->asked / 2;
    snprintf(text, sizeof text, "pubsub: an answer to a pull of %.60s cannot be read: %s",
             sub->name, err->message);
    cm_pubsub_warn(sub->driver, text);
}

static void on_answer(void *ctx, const cm_http_answer_t *answer)
{
    cm_pubsub_pull_t *pull = ctx;
    cm_pubsub_sub_t *sub = pull->sub;
    cm_pubsub_t *self = sub->driver;
    int64_t now = cm_clock_mono_ms();
    cm_pubsub_fault_t fault;
    cm_error_t err = {0};
    land(pull);
    switch (cm_pubsub_judge(self, answer, &self->pull_gate, pull->token, &fault, &err)) {
    case CM_PUBSUB_FINE:
        serve_again(sub);
        if (take_answer(pull, answer, now, &err) != CM_OK)
            unreadable(sub, pull, now, &err);
        break;
    case CM_PUBSUB_LATER:
        break;
    case CM_PUBSUB_REFUSED:
        cm_pubsub_refuse(sub, &sub->refused, pull->sent_at, &err);
        break;
    case CM_PUBSUB_BAD:
        if (answer->http >= 400)
            cm_pubsub_refuse(sub, &sub->refused, pull->sent_at, &err);
        else
            unreadable(sub, pull, now, &err);
        break;
    }
    free(pull);
    cm_pubsub_wake(self);
}

/* ---- requests -------------------------------------------------------------------------------- */

/* Each of the requests wanted gets its share, so that there is room for all; a smaller rest is not
 * worth one while others are under way. */
size_t cm_pubsub_ask(const cm_pubsub_sub_t *sub)
{
    const cm_pubsub_options_t *own = &sub->driver->own;
    size_t used = sub->reserved + sub->buffered, most = (size_t)own->messages_max;
    int64_t bytes_used = sub->buffered_bytes + (int64_t)sub->reserved * sub->average_bytes;
    if (used >= most || sub->buffered_bytes >= own->bytes_max)
        return 0;
    size_t share = most / (sub->wanted ? sub->wanted : 1);
    if (share > sub->ask_max)
        share = sub->ask_max;
    if (share == 0)
        share = 1;
    size_t room = most - used;
    int64_t bytes_room = (own->bytes_max - bytes_used) / sub->average_bytes;
    if (bytes_room < (int64_t)room)
        room = bytes_room > 0 ? (size_t)bytes_room : 0;
    if (room < share && sub->in_flight)
        return 0;
    if (room == 0)
        room = 1; /* nothing is under way: one message, whatever its size, must be possible */
    return room < share ? room : share;
}

static void send_pull(cm_pubsub_sub_t *sub, size_t ask, int64_t now)
{
    cm_pubsub_t *self = sub->driver;
    cm_pubsub_pull_t *pull = calloc(1, sizeof *pull);
    if (!pull)
        abort();
    pull->sub = sub;
    pull->asked = ask;
    pull->sent_at = now;
    pull->token = self->link.token;
    cm_buffer_clear(&self->body);
    cm_pubsub_put_pull(&self->body, ask);
    cm_buffer_clear(&self->url);
    cm_buffer_printf(&self->url, "%s:pull", sub->url);
    cm_http_request_t request = {
        .method = CM_HTTP_POST,
        .url = cm_buffer_text(&self->url),
        .bearer = cm_pubsub_bearer(self),
        .body = {self->body.data, self->body.len},
        .timeout_ms = CM_PUBSUB_PULL_MS,
        .body_max = ANSWER_BYTES_MAX,
        .done = on_answer,
        .ctx = pull,
    };
    DL_APPEND(sub->pulls, pull);
    sub->in_flight++;
    sub->reserved += ask;
    pull->call = cm_http_send(self->pulls, &request);
}

void cm_pubsub_pull_serve(cm_pubsub_sub_t *sub, int64_t now)
{
    cm_pubsub_t *self = sub->driver;
    bool may = !sub->draining && !is_idle(sub, now) && now >= sub->refused.until &&
               now >= sub->pull_at && now >= self->pull_gate.until && cm_pubsub_may_send(self);
    size_t ask;
    if (sub->open)
        deliver_buffered(sub, now);
    while (may && sub->in_flight < sub->wanted && (ask = cm_pubsub_ask(sub)))
        send_pull(sub, ask, now);
    if (sub->stopped && sub->in_flight == 0 && !is_told(sub, now))
        tell_refused(sub, now); /* silence would mean that it is served again */
}
