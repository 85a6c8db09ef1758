#include "runtime/broker/google_pubsub_private.h"
#include "runtime/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    ANSWER_MS = 15000,
    AGAIN_MS = 1000,     /* after an answer without a value */
    WINDOW_MS = 600000,  /* the service samples every minute and lags by up to four */
    REFUSED_MS = 600000, /* between two tries to read what we may not */
    SAMPLED_MS = 60000,  /* how often the service has a new value: asking sooner is in vain */
};

/* ---- Cloud Monitoring ------------------------------------------------------------------------ */

static int64_t pending(const cm_pubsub_sub_t *sub)
{
    const cm_pubsub_t *self = sub->driver;
    int64_t count = 0;
    for (size_t i = 0; i < self->slot_count; i++)
        count += self->slots[i].state != CM_PUBSUB_FREE && self->slots[i].sub == sub->number;
    return count;
}

/* The service counts what is not acknowledged, held by whomever; what others hold or deferred is
 * therefore told as ready. */
static void tell(cm_pubsub_sub_t *sub, int64_t now)
{
    cm_pubsub_t *self = sub->driver;
    cm_broker_depth_t depth = {.pending = pending(sub), .deferred = cm_pubsub_deferred(sub, now)};
    depth.ready = sub->undelivered.value - depth.pending - depth.deferred;
    if (depth.ready < 0)
        depth.ready = 0;
    if (sub->undelivered.value > 0)
        depth.oldest_ms = cm_clock_epoch_ms() - (now - sub->known_at) - sub->age.value * 1000;
    if (sub->known_at == now)
        sub->backlog = depth.ready;
    if (!sub->depth_wanted)
        return; /* asked by the watchdog */
    sub->depth_wanted = false;
    self->events.on_depth(self->events.ctx, sub->number, &depth);
}

static bool under_way(const cm_pubsub_sub_t *sub)
{
    return sub->undelivered.call || sub->age.call;
}

static bool is_known(const cm_pubsub_sub_t *sub)
{
    return sub->undelivered.known && sub->age.known;
}

static void refused(cm_pubsub_t *self, int64_t now, const cm_error_t *err)
{
    char text[CM_ERROR_MESSAGE_MAX + 160];
    self->depth_gate.until = now + REFUSED_MS;
    if (self->address.emulator && strcmp(err->code, "http-404") == 0) { /* emulators have none */
        free(self->monitoring);
        self->monitoring = NULL;
    }
    if (self->depth_refused || !self->monitoring)
        return;
    self->depth_refused = true;
    snprintf(text, sizeof text,
             "pubsub: the depth of subscriptions is unknown, Cloud Monitoring refuses to tell; "
             "grant roles/monitoring.viewer, or set pubsub.monitoring to nothing (%s)",
             err->message);
    cm_pubsub_warn(self, text);
}

/* Another service than Pub/Sub: how it fares says nothing about the link, nor of the token. */
static cm_pubsub_verdict_t judge(cm_pubsub_t *self, const cm_http_answer_t *answer, int64_t now,
                                 cm_error_t *err)
{
    cm_pubsub_gate_t *gate = &self->depth_gate;
    cm_pubsub_fault_t fault = {0};
    *err = answer->error;
    if (answer->status == CM_OK) {
        cm_backoff_reset(&gate->backoff);
        return CM_PUBSUB_FINE;
    }
    if (answer->status == CM_UNAVAILABLE) {
        int wait_ms = cm_backoff_next_ms(&gate->backoff);
        gate->until = now + (wait_ms > answer->retry_after_ms ? wait_ms : answer->retry_after_ms);
        return CM_PUBSUB_LATER;
    }
    cm_arena_reset(self->arena);
    cm_pubsub_read_fault(answer->body, self->arena, &fault);
    if (fault.message[0])
        cm_error_set(err, answer->status, answer->error.code, "%s", fault.message);
    return CM_PUBSUB_REFUSED;
}

static void on_metric(cm_pubsub_sub_t *sub, cm_pubsub_metric_t *metric,
                      const cm_http_answer_t *answer)
{
    cm_pubsub_t *self = sub->driver;
    int64_t now = cm_clock_mono_ms();
    cm_error_t err = {0};
    metric->call = NULL;
    switch (judge(self, answer, now, &err)) {
    case CM_PUBSUB_FINE:
        self->depth_refused = false;
        metric->known = cm_pubsub_read_metric(answer->body, &metric->value);
        break;
    case CM_PUBSUB_LATER:
        break;
    case CM_PUBSUB_REFUSED:
    case CM_PUBSUB_BAD:
        refused(self, now, &err);
        break;
    }
    if (under_way(sub))
        return;
    if (is_known(sub)) {
        sub->known_at = now;
        tell(sub, now);
    } else if (sub->depth_at < now + AGAIN_MS) {
        sub->depth_at = now + AGAIN_MS;
    }
}

static void on_undelivered(void *ctx, const cm_http_answer_t *answer)
{
    cm_pubsub_sub_t *sub = ctx;
    on_metric(sub, &sub->undelivered, answer);
}

static void on_age(void *ctx, const cm_http_answer_t *answer)
{
    cm_pubsub_sub_t *sub = ctx;
    on_metric(sub, &sub->age, answer);
}

static void ask(cm_pubsub_sub_t *sub, cm_pubsub_metric_t *metric, const char *name,
                cm_http_done_fn *done)
{
    cm_pubsub_t *self = sub->driver;
    cm_buffer_t *url = &self->url, filter = {0};
    char from[CM_TIME_TEXT_MAX], to[CM_TIME_TEXT_MAX];
    int64_t now_ms = cm_clock_epoch_ms();
    cm_buffer_printf(&filter,
                     "metric.type = \"pubsub.googleapis.com/subscription/%s\" AND "
                     "resource.type = \"pubsub_subscription\" AND "
                     "resource.labels.subscription_id = \"%s\"",
                     name, sub->name);
    cm_buffer_clear(url);
    cm_buffer_printf(url, "%s/v3/projects/%s/timeSeries?filter=", self->monitoring,
                     self->address.project);
    cm_pubsub_put_escaped(url, (cm_str_t){filter.data, filter.len});
    cm_buffer_destroy(&filter);
    cm_buffer_printf(url, "&interval.startTime=%s&interval.endTime=%s&view=FULL",
                     cm_clock_format(now_ms - WINDOW_MS, from), cm_clock_format(now_ms, to));
    metric->known = false;
    metric->call = cm_pubsub_send(self, CM_HTTP_GET, cm_buffer_text(url), ANSWER_MS, done, sub);
}

/* ---- the watchdog ---------------------------------------------------------------------------- */

/* Pulls wait and bring nothing, though there is something: it happens that a connection, or the
 * service behind it, is stuck. Begin anew on others. */
static void renew(cm_pubsub_sub_t *sub, int64_t now)
{
    cm_pubsub_t *self = sub->driver;
    char text[256];
    bool silent = now - sub->answered_at >= 2 * CM_PUBSUB_HOLD_MS;
    sub->renewals++;
    snprintf(text, sizeof text,
             "pubsub: nothing was delivered from %.60s for %" PRId64
             " s, though %s; its requests are begun anew (%u times by now)",
             sub->name, (now - sub->delivered_at) / 1000,
             silent ? "requests wait at the service" : "there is a backlog", sub->renewals);
    sub->delivered_at = sub->answered_at = now;
    cm_pubsub_pull_cancel(sub);
    cm_http_renew(self->pulls);
    cm_pubsub_wake(self);
    cm_pubsub_warn(self, text);
}

static void watch(cm_pubsub_sub_t *sub, int64_t now)
{
    const cm_pubsub_t *self = sub->driver;
    int64_t quiet = now - sub->delivered_at;
    if (sub->in_flight == 0 || sub->buffered) {
        sub->delivered_at = now; /* nobody pulls, or has not taken what came */
        return;
    }
    bool backlog = sub->backlog > 0 && sub->known_at > sub->delivered_at;
    bool silent = now - sub->answered_at >= 2 * CM_PUBSUB_HOLD_MS;
    if (quiet >= self->own.watchdog_ms && (backlog || silent))
        renew(sub, now);
}

/* Asked half way to the alarm, so that the answer is about the silence. */
static bool watchdog_asks(const cm_pubsub_sub_t *sub, int64_t now)
{
    int64_t half = sub->driver->own.watchdog_ms / 2;
    return sub->in_flight && now - sub->delivered_at >= half && now - sub->known_at >= half;
}

/* The real service counts and bounds such calls, and its values are a minute old at best: one call
 * for each in that time, and in between the last value. An emulator, told by http://, knows what is
 * so now. */
static void ask_both(cm_pubsub_sub_t *sub, int64_t now)
{
    if (strncmp(sub->driver->monitoring, "https://", 8) == 0)
        sub->depth_at = now + SAMPLED_MS;
    ask(sub, &sub->undelivered, "num_undelivered_messages", on_undelivered);
    ask(sub, &sub->age, "oldest_unacked_message_age", on_age);
}

void cm_pubsub_depth_tick(cm_pubsub_sub_t *sub, int64_t now)
{
    const cm_pubsub_t *self = sub->driver;
    watch(sub, now);
    if (!self->monitoring || under_way(sub))
        return;
    if (now < sub->depth_at) {
        if (sub->depth_wanted && is_known(sub))
            tell(sub, now);
        return;
    }
    if (now < self->depth_gate.until || !cm_pubsub_may_send(self))
        return;
    if (sub->depth_wanted || watchdog_asks(sub, now))
        ask_both(sub, now);
}
