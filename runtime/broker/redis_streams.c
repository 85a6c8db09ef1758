#include "runtime/broker/redis_streams.h"
#include "runtime/clock.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { BODY_MAX = 512 << 20 }; /* proto-max-bulk-len: beyond it Redis closes the connection */

_Static_assert(sizeof(void *) >= sizeof(uint64_t), "a publish token travels as a pointer");

/* ---- the clockwork --------------------------------------------------------------------------- */

void cm_streams_wake(cm_streams_t *self)
{
    if (self->awake)
        return;
    self->awake = true;
    (void)!eventfd_write(self->wake_fd, 1);
}

static void tell_unsent(cm_streams_t *self)
{
    cm_streams_unsent_t *unsent = self->unsent;
    size_t count = self->unsent_count;
    self->unsent = NULL; /* an event may publish again */
    self->unsent_count = self->unsent_cap = 0;
    for (size_t i = 0; i < count; i++) {
        cm_error_t err = {0};
        cm_error_set(&err, unsent[i].status, unsent[i].code, "%s", unsent[i].why);
        self->unsettled--;
        self->events.on_published(self->events.ctx, unsent[i].token, err.status, &err);
    }
    free(unsent);
}

static int on_wake(zloop_t *loop, zmq_pollitem_t *item, void *arg)
{
    (void)loop, (void)item;
    cm_streams_t *self = arg;
    eventfd_t value;
    (void)!eventfd_read(self->wake_fd, &value);
    self->awake = false;
    tell_unsent(self);
    cm_streams_flush(self);
    return 0;
}

/* After a pause of the whole process the answers may be waiting in the sockets: count silence from
 * now. */
static void forgive_pause(cm_streams_t *self, int64_t now)
{
    if (now - self->tick_at < 1000)
        return;
    self->link.heard_at = now;
    for (size_t i = 0; i < self->sub_count; i++)
        self->subs[i]->link.heard_at = now;
}

static int on_tick(zloop_t *loop, zmq_pollitem_t *item, void *arg)
{
    (void)loop, (void)item;
    cm_streams_t *self = arg;
    uint64_t expirations;
    (void)!read(self->tick_fd, &expirations, sizeof expirations);
    int64_t now = cm_clock_mono_ms();
    forgive_pause(self, now);
    self->tick_before = self->tick_at;
    self->tick_at = now;
    cm_streams_link_tick(&self->link, now);
    if (now >= self->extend_at) {
        self->extend_at = now + self->options.lease_ms / 6;
        cm_streams_extend(self, now);
    }
    for (size_t i = 0; i < self->sub_count; i++) {
        cm_streams_link_tick(&self->subs[i]->link, now);
        cm_streams_pull_tick(self->subs[i], now);
        cm_streams_upkeep(self->subs[i], now);
    }
    cm_streams_flush(self); /* what was held back after a refusal */
    return 0;
}

void cm_streams_link_changed(cm_streams_t *self, bool up, const cm_error_t *why)
{
    const char *code = up ? "" : why->code;
    bool news = !self->link_told || self->link_was_up != up || strcmp(self->link_code, code) != 0;
    self->link_told = true;
    self->link_was_up = up;
    snprintf(self->link_code, sizeof self->link_code, "%s", code);
    if (up) {
        if (!self->checked && self->events.on_warning)
            cm_streams_check_server(self);
        self->checked = true;
        for (size_t i = 0; i < self->sub_count; i++)
            self->subs[i]->claim_at = 0; /* somebody may have died while we were away */
        cm_streams_flush(self);
    }
    if (news)
        self->events.on_link(self->events.ctx, up, why);
}

/* ---- open and close -------------------------------------------------------------------------- */

static void watch(cm_streams_t *self, int fd, zloop_fn *handler)
{
    zmq_pollitem_t item = {.fd = fd, .events = ZMQ_POLLIN};
    zloop_poller(self->loop, &item, handler, self);
}

static void unwatch(cm_streams_t *self, int fd)
{
    zmq_pollitem_t item = {.fd = fd, .events = ZMQ_POLLIN};
    zloop_poller_end(self->loop, &item);
    close(fd);
}

/* Descriptors instead of loop timers: a cancelled timer of a zloop may fire once more, and then on
 * freed memory. */
static cm_status_t open_clocks(cm_streams_t *self, cm_error_t *err)
{
    self->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    self->tick_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (self->wake_fd == -1 || self->tick_fd == -1) {
        if (self->wake_fd != -1)
            close(self->wake_fd);
        return cm_error_set(err, CM_UNAVAILABLE, "descriptors", "no more file descriptors");
    }
    struct itimerspec every = {.it_interval = {.tv_nsec = CM_STREAMS_TICK_MS * 1000000},
                               .it_value = {.tv_nsec = 1}};
    timerfd_settime(self->tick_fd, 0, &every, NULL);
    watch(self, self->wake_fd, on_wake);
    watch(self, self->tick_fd, on_tick);
    return CM_OK;
}

static cm_status_t streams_open(void **ret_self, zloop_t *loop, const cm_broker_options_t *options,
                                const cm_broker_events_t *events, cm_error_t *err)
{
    cm_redis_address_t address;
    cm_status_t status = cm_redis_parse(options->uri, &address, err);
    if (status != CM_OK)
        return status;
    if (strcmp(options->consumer, CM_STREAMS_RELEASED) == 0)
        return cm_error_set(err, CM_MISCONFIGURED, "consumer", "an instance cannot be called '%s'",
                            options->consumer);
    cm_streams_t *self = calloc(1, sizeof *self);
    if (!self)
        abort();
    self->loop = loop;
    self->options = *options;
    self->events = *events;
    self->address = address;
    self->random = cm_random_u64();
    self->slot_free = CM_STREAMS_NO_SLOT;
    self->tick_at = self->tick_before = cm_clock_mono_ms();
    cm_streams_link_init(&self->link, self, NULL);
    status = open_clocks(self, err);
    if (status == CM_OK) {
        *ret_self = self;
    } else {
        cm_streams_link_close(&self->link);
        free(self);
    }
    return status;
}

static void streams_close(void **self_p)
{
    cm_streams_t *self = *self_p;
    unwatch(self, self->wake_fd);
    unwatch(self, self->tick_fd);
    cm_streams_link_close(&self->link);
    for (size_t i = 0; i < self->sub_count; i++) {
        cm_streams_link_close(&self->subs[i]->link);
        free(self->subs[i]->name);
        free(self->subs[i]->deferred);
        free(self->subs[i]);
    }
    free(self->subs);
    free(self->unsent);
    cm_streams_leases_destroy(self);
    cm_buffer_destroy(&self->command);
    free(self);
    *self_p = NULL;
}

/* ---- subscriptions --------------------------------------------------------------------------- */

static int streams_subscribe(void *self_p, const char *subscription)
{
    cm_streams_t *self = self_p;
    assert(self->sub_count < UINT16_MAX);
    cm_streams_sub_t *sub = calloc(1, sizeof *sub);
    self->subs = realloc(self->subs, (self->sub_count + 1) * sizeof *self->subs);
    if (!sub || !self->subs || asprintf(&sub->name, "%s", subscription) == -1 ||
        asprintf(&sub->deferred, "%s:deferred", subscription) == -1)
        abort();
    sub->driver = self;
    sub->number = (int)self->sub_count;
    sub->group_retry_at = INT64_MAX;
    sub->acks = sub->defers = sub->releases = CM_STREAMS_EMPTY_CHAIN;
    snprintf(sub->cursor, sizeof sub->cursor, "0-0");
    cm_streams_link_init(&sub->link, self, sub);
    self->subs[self->sub_count++] = sub;
    return sub->number;
}

static cm_streams_sub_t *sub_of(cm_streams_t *self, int subscription)
{
    assert((size_t)subscription < self->sub_count);
    return self->subs[subscription];
}

static void streams_pull(void *self_p, int subscription, size_t max)
{
    cm_streams_pull(sub_of(self_p, subscription), max);
}

static void streams_ack(void *self_p, const cm_broker_lease_t *leases, size_t count)
{
    cm_streams_ack(self_p, leases, count);
}

static void streams_defer(void *self_p, cm_broker_lease_t lease, int64_t until_ms)
{
    cm_streams_defer(self_p, lease, until_ms);
}

static void streams_release(void *self_p, const cm_broker_lease_t *leases, size_t count)
{
    cm_streams_release(self_p, leases, count);
}

static void streams_depth(void *self_p, int subscription)
{
    cm_streams_sub_t *sub = sub_of(self_p, subscription);
    sub->depth_wanted = true;
}

static bool streams_settled(void *self_p)
{
    const cm_streams_t *self = self_p;
    return self->unsettled == 0 && self->open_pulls == 0;
}

/* ---- publishing ------------------------------------------------------------------------------ */

static void on_published(redisAsyncContext *context, void *reply_p, void *privdata)
{
    const redisReply *reply = reply_p;
    uint64_t token = (uint64_t)(uintptr_t)privdata;
    cm_streams_link_t *link = cm_streams_heard(context, reply);
    if (!link)
        return;
    cm_streams_t *self = link->driver;
    cm_error_t err = {0};
    cm_status_t status = CM_OK;
    if (!reply || reply->type == REDIS_REPLY_ERROR)
        status = cm_redis_classify(reply ? reply->str : NULL, &err);
    else if (reply->type != REDIS_REPLY_STRING && reply->type != REDIS_REPLY_STATUS)
        status = cm_error_set(&err, CM_UNAVAILABLE, "reply", "redis: odd reply");
    self->unsettled--;
    self->events.on_published(self->events.ctx, token, status, &err);
    if (reply && status != CM_OK)
        cm_streams_link_unfit(link, &err);
}

static void refuse_publish(cm_streams_t *self, uint64_t token, cm_status_t status, const char *code,
                           const char *why)
{
    if (self->unsent_count == self->unsent_cap) {
        self->unsent_cap = self->unsent_cap ? self->unsent_cap * 2 : 16;
        self->unsent = realloc(self->unsent, self->unsent_cap * sizeof *self->unsent);
        if (!self->unsent)
            abort();
    }
    self->unsent[self->unsent_count++] = (cm_streams_unsent_t){token, status, code, why};
    cm_streams_wake(self);
}

/* Why no broker, or this one, can carry message; NULL when it can. */
static const char *unfit(const cm_message_t *message)
{
    if (message->attribute_count > CM_ATTRIBUTES_MAX)
        return "more than 100 attributes";
    if (message->body.len > BODY_MAX)
        return "the body is larger than 512 MiB";
    for (size_t i = 0; i < message->attribute_count; i++)
        if (cm_str_is(message->attributes[i].name, "data") ||
            cm_str_is(message->attributes[i].name, CM_STREAMS_ORIGIN))
            return "an attribute has a reserved name: data, " CM_STREAMS_ORIGIN;
    return NULL;
}

static void streams_publish(void *self_p, const char *topic, const cm_message_t *message,
                            uint64_t token)
{
    cm_streams_t *self = self_p;
    const char *why = unfit(message);
    self->unsettled++;
    if (why) {
        refuse_publish(self, token, CM_PERMANENT, "unfit", why);
        return;
    }
    cm_buffer_t *command = &self->command;
    cm_streams_put_head(command, 5 + 2 * message->attribute_count);
    cm_streams_put(command, CM_STR("XADD"));
    cm_streams_put(command, cm_str(topic));
    cm_streams_put(command, CM_STR("*"));
    for (size_t i = 0; i < message->attribute_count; i++) {
        cm_streams_put(command, message->attributes[i].name);
        cm_streams_put(command, message->attributes[i].value);
    }
    cm_streams_put(command, CM_STR("data"));
    cm_streams_put(command, message->body);
    if (!cm_streams_send(&self->link, on_published, (void *)(uintptr_t)token))
        refuse_publish(self, token, CM_UNAVAILABLE, "link", "redis: not connected");
}

const cm_broker_driver_t cm_broker_redis_streams = {
    .name = "redis",
    .open = streams_open,
    .close = streams_close,
    .subscribe = streams_subscribe,
    .pull = streams_pull,
    .ack = streams_ack,
    .defer = streams_defer,
    .release = streams_release,
    .publish = streams_publish,
    .depth = streams_depth,
    .settled = streams_settled,
};
