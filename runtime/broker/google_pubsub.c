#include "runtime/broker/google_pubsub_private.h"
#include "runtime/clock.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum {
    CONNECT_MS = 5000,
    CALL_CONNECTIONS = 4,
    EMULATOR_CALL_CONNECTIONS = 16, /* HTTP/1.1 carries one request at a time */
    EMULATOR_PULL_CONNECTIONS = 1024,
    SWEEP_MAX_MS = 500,
};

/* ---- the clockwork --------------------------------------------------------------------------- */

void cm_pubsub_wake(cm_pubsub_t *self)
{
    if (self->awake)
        return;
    self->awake = true;
    (void)!eventfd_write(self->wake_fd, 1);
}

void cm_pubsub_warn(const cm_pubsub_t *self, const char *text)
{
    if (self->events.on_warning)
        self->events.on_warning(self->events.ctx, text);
}

/* Leases first: what is to be delivered must not have lapsed. */
static void serve(cm_pubsub_t *self, int64_t now)
{
    cm_pubsub_tell_untold(self);
    cm_pubsub_flush_leases(self, now);
    for (size_t i = 0; i < self->sub_count; i++)
        cm_pubsub_pull_serve(self->subs[i], now);
    cm_pubsub_flush_leases(self, now); /* asked for while it was delivered */
    cm_pubsub_flush_publishes(self, now);
}

static int on_wake(zloop_t *loop, zmq_pollitem_t *item, void *arg)
{
    (void)loop, (void)item;
    cm_pubsub_t *self = arg;
    eventfd_t value;
    (void)!eventfd_read(self->wake_fd, &value);
    self->awake = false;
    serve(self, cm_clock_mono_ms());
    return 0;
}

/* A loop that did not run for more than two ticks was stopped, or busy elsewhere. */
static bool was_paused(const cm_pubsub_t *self, int64_t now)
{
    return now - self->tick_at > 2 * CM_PUBSUB_TICK_MS;
}

static void note_pause(cm_pubsub_t *self, int64_t now)
{
    self->pause_from = self->tick_at;
    self->pause_to = now;
    int64_t gap = now - self->tick_at;
    for (size_t i = 0; i < self->sub_count; i++)
        self->subs[i]->seen_at += gap; /* the caller did not run either */
}

/* What came within two ticks may have lain in the socket since the tick before; what came right
 * after a pause, since the pause began. */
int64_t cm_pubsub_begin_of(const cm_pubsub_t *self, int64_t now, int64_t receiving_ms)
{
    int64_t begin = now - receiving_ms - 2 * CM_PUBSUB_TICK_MS;
    int64_t from = self->pause_from, to = self->pause_to;
    if (was_paused(self, now)) { /* an answer is served before the tick that notices */
        from = self->tick_at;
        to = now;
    }
    return begin >= from && begin <= to + 2 * CM_PUBSUB_TICK_MS ? from : begin;
}

static int on_tick(zloop_t *loop, zmq_pollitem_t *item, void *arg)
{
    (void)loop, (void)item;
    cm_pubsub_t *self = arg;
    uint64_t expirations;
    (void)!read(self->tick_fd, &expirations, sizeof expirations);
    int64_t now = cm_clock_mono_ms();
    if (was_paused(self, now)) {
        note_pause(self, now);
        self->sweep_at = now;
    }
    self->tick_at = now;
    if (now >= self->sweep_at) {
        int64_t interval = cm_pubsub_lease_seconds(self) * 1000 / 16;
        self->sweep_at = now + (interval < SWEEP_MAX_MS ? interval : SWEEP_MAX_MS);
        cm_pubsub_sweep(self, now);
    }
    cm_pubsub_link_tick(self, now);
    for (size_t i = 0; i < self->sub_count; i++) {
        cm_pubsub_pull_tick(self->subs[i], now);
        cm_pubsub_depth_tick(self->subs[i], now);
    }
    serve(self, now);
    return 0;
}

cm_http_call_t *cm_pubsub_send(cm_pubsub_t *self, cm_http_method_t method, const char *url,
                               int timeout_ms, cm_http_done_fn *done, void *ctx)
{
    cm_http_request_t request = {
        .method = method,
        .url = url,
        .bearer = cm_pubsub_bearer(self),
        .body = method == CM_HTTP_GET ? CM_STR_NONE : (cm_str_t){self->body.data, self->body.len},
        .timeout_ms = timeout_ms,
        .body_max = CM_PUBSUB_FAULT_MAX,
        .done = done,
        .ctx = ctx,
    };
    return cm_http_send(self->calls, &request);
}

/* ---- open and close -------------------------------------------------------------------------- */

static void watch(cm_pubsub_t *self, int fd, zloop_fn *handler)
{
    zmq_pollitem_t item = {.fd = fd, .events = ZMQ_POLLIN};
    zloop_poller(self->loop, &item, handler, self);
}

static void unwatch(cm_pubsub_t *self, int fd)
{
    if (fd == -1)
        return;
    zmq_pollitem_t item = {.fd = fd, .events = ZMQ_POLLIN};
    zloop_poller_end(self->loop, &item);
    close(fd);
}

/* Descriptors instead of loop timers: a cancelled timer of a zloop may fire once more, and then on
 * freed memory. */
static cm_status_t open_clocks(cm_pubsub_t *self, cm_error_t *err)
{
    self->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    self->tick_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (self->wake_fd == -1 || self->tick_fd == -1)
        return cm_error_set(err, CM_UNAVAILABLE, "descriptors", "no more file descriptors");
    struct itimerspec every = {.it_interval = {.tv_nsec = CM_PUBSUB_TICK_MS * 1000000},
                               .it_value = {.tv_nsec = 1}};
    timerfd_settime(self->tick_fd, 0, &every, NULL);
    watch(self, self->wake_fd, on_wake);
    watch(self, self->tick_fd, on_tick);
    return CM_OK;
}

static int or_default(int value, int by_default)
{
    return value > 0 ? value : by_default;
}

static void set_options(cm_pubsub_t *self, const cm_broker_options_t *options)
{
    static const cm_pubsub_options_t none;
    const cm_pubsub_options_t *given = options->driver ? options->driver : &none;
    self->options = *options;
    self->own = *given;
    self->own.pulls_max = or_default(given->pulls_max, 32);
    self->own.connections_max = or_default(given->connections_max, 8);
    self->own.messages_max = or_default(given->messages_max, 4000);
    self->own.bytes_max = given->bytes_max > 0 ? given->bytes_max : 64 << 20;
    self->own.watchdog_ms = or_default(given->watchdog_ms, 300000);
    self->own.answer_ms = or_default(given->answer_ms, 15000);
    self->own.refused_ms = or_default(given->refused_ms, 60000);
    const char *base = given->monitoring;
    if (!base)
        base = self->address.emulator ? self->address.base : "https://monitoring.googleapis.com";
    if (base[0] && !(self->monitoring = strdup(base)))
        abort();
}

static void open_pools(cm_pubsub_t *self)
{
    bool emulator = self->address.emulator;
    const char *ca = self->own.ca_file && self->own.ca_file[0] ? self->own.ca_file : NULL;
    cm_http_options_t options = {
        .connections_max = emulator ? EMULATOR_PULL_CONNECTIONS : self->own.connections_max,
        .connect_timeout_ms = CONNECT_MS,
        .ca_file = ca,
    };
    self->pulls = cm_http_new(self->loop, &options);
    options.connections_max = emulator ? EMULATOR_CALL_CONNECTIONS : CALL_CONNECTIONS;
    self->calls = cm_http_new(self->loop, &options);
    cm_pubsub_gate_init(self, &self->pull_gate, 100, 60000);
    cm_pubsub_gate_init(self, &self->lease_gate, 100, 2000); /* leases do not wait for long */
    cm_pubsub_gate_init(self, &self->publish_gate, 100, 10000);
    cm_pubsub_gate_init(self, &self->depth_gate, 1000, 60000);
}

static void sub_destroy(cm_pubsub_sub_t *sub)
{
    cm_pubsub_pull_cancel(sub);
    cm_pubsub_ops_destroy(sub);
    free(sub->due);
    free(sub->name);
    free(sub->url);
    free(sub);
}

static void pubsub_close(void **self_p)
{
    cm_pubsub_t *self = *self_p;
    unwatch(self, self->wake_fd);
    unwatch(self, self->tick_fd);
    for (size_t i = 0; i < self->sub_count; i++)
        sub_destroy(self->subs[i]);
    free(self->subs);
    cm_pubsub_held_destroy(self);
    cm_pubsub_topics_destroy(self);
    cm_google_credentials_close(&self->credentials);
    if (self->pulls)
        cm_http_destroy(&self->pulls);
    if (self->calls)
        cm_http_destroy(&self->calls);
    free(self->untold);
    free(self->monitoring);
    cm_pubsub_address_destroy(&self->address);
    cm_buffer_destroy(&self->body);
    cm_buffer_destroy(&self->url);
    cm_arena_destroy(&self->arena);
    free(self);
    *self_p = NULL;
}

static cm_status_t pubsub_open(void **ret_self, zloop_t *loop, const cm_broker_options_t *options,
                               const cm_broker_events_t *events, cm_error_t *err)
{
    cm_pubsub_address_t address;
    cm_status_t status = cm_pubsub_address_parse(options->uri, &address, err);
    if (status != CM_OK)
        return status;
    cm_pubsub_t *self = calloc(1, sizeof *self);
    if (!self)
        abort();
    self->loop = loop;
    self->events = *events;
    self->address = address;
    self->random = cm_random_u64();
    self->slot_free = CM_PUBSUB_NO_SLOT;
    self->tick_at = cm_clock_mono_ms();
    self->pause_from = self->pause_to = INT64_MIN / 2;
    self->arena = cm_arena_new(16384);
    self->wake_fd = self->tick_fd = -1;
    set_options(self, options);
    open_pools(self);
    status = open_clocks(self, err);
    if (status == CM_OK)
        status = cm_pubsub_link_open(self, err);
    void *opened = self;
    if (status == CM_OK)
        *ret_self = self;
    else
        pubsub_close(&opened);
    return status;
}

/* ---- the driver ------------------------------------------------------------------------------ */

static int pubsub_subscribe(void *self_p, const char *subscription)
{
    cm_pubsub_t *self = self_p;
    assert(self->sub_count < UINT16_MAX);
    cm_pubsub_sub_t *sub = calloc(1, sizeof *sub);
    self->subs = realloc(self->subs, (self->sub_count + 1) * sizeof *self->subs);
    if (!sub || !self->subs || !(sub->name = strdup(subscription)))
        abort();
    cm_buffer_t url = {0};
    cm_buffer_printf(&url, "%s/v1/projects/%s/subscriptions/", self->address.base,
                     self->address.project);
    cm_pubsub_put_escaped(&url, cm_str(subscription));
    cm_buffer_text(&url);
    sub->url = url.data;
    sub->driver = self;
    sub->number = (int)self->sub_count;
    sub->first = sub->last = CM_PUBSUB_NO_SLOT;
    sub->wanted = 2;
    sub->ask_max = CM_PUBSUB_ASK_MAX;
    sub->average_bytes = 1024;
    sub->seen_at = INT64_MIN / 2; /* never */
    sub->delivered_at = sub->answered_at = cm_clock_mono_ms();
    cm_backoff_init(&sub->pull_backoff, 250, 60000, cm_random_next(&self->random));
    self->subs[self->sub_count++] = sub;
    return sub->number;
}

static cm_pubsub_sub_t *sub_of(cm_pubsub_t *self, int subscription)
{
    assert((size_t)subscription < self->sub_count);
    return self->subs[subscription];
}

static void pubsub_pull(void *self_p, int subscription, size_t max)
{
    cm_pubsub_pull_open(sub_of(self_p, subscription), max);
}

static void pubsub_ack(void *self_p, const cm_broker_lease_t *leases, size_t count)
{
    for (size_t i = 0; i < count; i++)
        cm_pubsub_give(self_p, leases[i], CM_PUBSUB_ACKING, 0);
}

static void pubsub_defer(void *self_p, cm_broker_lease_t lease, int64_t until_ms)
{
    cm_pubsub_give(self_p, lease, CM_PUBSUB_DEFERRING, until_ms);
}

static void pubsub_release(void *self_p, const cm_broker_lease_t *leases, size_t count)
{
    for (size_t i = 0; i < count; i++)
        cm_pubsub_give(self_p, leases[i], CM_PUBSUB_RELEASING, 0);
}

static void pubsub_publish(void *self_p, const char *topic, const cm_message_t *message,
                           uint64_t token)
{
    cm_pubsub_publish(self_p, topic, message, token);
}

static void pubsub_depth(void *self_p, int subscription)
{
    cm_pubsub_sub_t *sub = sub_of(self_p, subscription);
    sub->depth_wanted = sub->driver->monitoring;
}

static bool pubsub_settled(void *self_p)
{
    const cm_pubsub_t *self = self_p;
    return self->unsettled == 0 && self->open_pulls == 0 && self->buffered == 0;
}

const cm_broker_driver_t cm_broker_google_pubsub = {
    .name = "pubsub",
    .open = pubsub_open,
    .close = pubsub_close,
    .subscribe = pubsub_subscribe,
    .pull = pubsub_pull,
    .ack = pubsub_ack,
    .defer = pubsub_defer,
    .release = pubsub_release,
    .publish = pubsub_publish,
    .depth = pubsub_depth,
    .settled = pubsub_settled,
};
