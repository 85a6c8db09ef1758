#include "tests/fakes/fake_broker.h"
#include "runtime/cleanup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUBSCRIPTIONS = 8, QUEUE = 10000 };

typedef struct {
    char *body;
    int subscription;
} waiting_t;

typedef struct {
    zloop_t *loop;
    cm_broker_events_t events;
    zsock_t *in, *out;
    char *topics[SUBSCRIPTIONS];
    int topic_count;
    size_t wanted[SUBSCRIPTIONS];
    waiting_t queue[QUEUE];
    size_t queued;
    uint64_t publishes[QUEUE];
    size_t published;
    cm_status_t first; /* of the link */
    cm_broker_lease_t next_lease;
} fake_t;

/* Deliver what a pull is open for, in order; then end the pull. */
static void deliver(fake_t *self)
{
    for (int s = 0; s < self->topic_count; s++) {
        size_t given = 0, kept = 0;
        for (size_t i = 0; i < self->queued; i++) {
            waiting_t *item = &self->queue[i];
            if (item->subscription != s || given >= self->wanted[s]) {
                self->queue[kept++] = *item;
                continue;
            }
            cm_broker_delivery_t delivery = {.lease = ++self->next_lease,
                                             .subscription = s,
                                             .message_id = CM_STR("1-1"),
                                             .publish_ms = 1,
                                             .attempt = 1,
                                             .message = {cm_str(item->body), NULL, 0}};
            self->events.on_delivery(self->events.ctx, &delivery);
            free(item->body);
            given++;
        }
        self->queued = kept;
        if (given) {
            self->wanted[s] = 0;
            self->events.on_pulled(self->events.ctx, s, given);
        }
    }
}

static void end_publish(fake_t *self, cm_status_t status)
{
    cm_error_t err = {.status = status, .code = "OOM", .message = "refused by the test"};
    if (!self->published)
        return;
    uint64_t token = self->publishes[0];
    memmove(self->publishes, self->publishes + 1, --self->published * sizeof token);
    self->events.on_published(self->events.ctx, token, status, &err);
}

static int on_command(zloop_t *loop, zsock_t *socket, void *arg)
{
    (void)loop;
    fake_t *self = arg;
    CM_CLEANUP(zstr_free) char *word = NULL, *topic = NULL, *body = NULL;
    cm_error_t err = {.status = CM_UNAVAILABLE, .message = "link cut by the test"};
    if (zstr_recvx(socket, &word, &topic, &body, NULL) == -1)
        return 0;
    if (strcmp(word, "lapse") == 0) {
        self->events.on_lapsed(self->events.ctx, strtoull(topic, NULL, 10));
    } else if (strcmp(word, "deliver") == 0) {
        for (int s = 0; s < self->topic_count; s++)
            if (strcmp(self->topics[s], topic) == 0)
                self->queue[self->queued++] = (waiting_t){CM_TAKE(body), s};
        deliver(self);
    } else if (strcmp(word, "forbid") == 0) {
        cm_error_set(&err, CM_MISCONFIGURED, "NOPERM", "forbidden by the test");
        for (int s = 0; s < self->topic_count; s++)
            if (strcmp(self->topics[s], topic) == 0)
                self->events.on_refused(self->events.ctx, s, &err);
    } else if (strcmp(word, "confirm") == 0) {
        end_publish(self, CM_OK);
    } else if (strcmp(word, "spoil") == 0) {
        end_publish(self, CM_PERMANENT);
    } else if (strcmp(word, "lose") == 0) {
        for (int s = 0; s < self->topic_count; s++)
            if (strcmp(self->topics[s], topic) == 0)
                self->events.on_lost(self->events.ctx, s, 0, "lost by the test");
    } else if (strcmp(word, "deny") == 0) {
        end_publish(self, CM_MISCONFIGURED);
    } else if (strcmp(word, "refuse") == 0) {
        end_publish(self, CM_UNAVAILABLE);
    } else {
        self->events.on_link(self->events.ctx, strcmp(word, "up") == 0, &err);
    }
    return 0;
}

static int on_open(zloop_t *loop, int timer, void *arg)
{
    (void)loop;
    (void)timer;
    fake_t *self = arg;
    cm_error_t err = {.status = self->first, .code = "first", .message = "refused by the test"};
    self->events.on_link(self->events.ctx, self->first == CM_OK, &err);
    return 0;
}

static cm_status_t fake_open(void **ret_self, zloop_t *loop, const cm_broker_options_t *options,
                             const cm_broker_events_t *events, cm_error_t *err)
{
    (void)err;
    fake_t *self = calloc(1, sizeof *self);
    self->loop = loop;
    self->events = *events;
    self->in = zsock_new_pull(">" CM_FAKE_BROKER_IN);
    self->out = zsock_new_push(">" CM_FAKE_BROKER_OUT);
    zloop_reader(loop, self->in, on_command, self);
    bool refuses = strcmp(options->uri, CM_FAKE_BROKER_REFUSES) == 0;
    bool away = strcmp(options->uri, CM_FAKE_BROKER_AWAY) == 0;
    self->first = refuses ? CM_MISCONFIGURED : away ? CM_UNAVAILABLE : CM_OK;
    if (strcmp(options->uri, CM_FAKE_BROKER_SILENT) != 0)
        zloop_timer(loop, 1, 1, on_open, self);
    *ret_self = self;
    return CM_OK;
}

static void fake_close(void **self_p)
{
    fake_t *self = *self_p;
    for (size_t i = 0; i < self->queued; i++)
        free(self->queue[i].body);
    for (int i = 0; i < self->topic_count; i++)
        free(self->topics[i]);
    zsock_set_linger(self->out, 0);
    zsock_destroy(&self->in);
    zsock_destroy(&self->out);
    free(self);
    *self_p = NULL;
}

static int fake_subscribe(void *arg, const char *subscription)
{
    fake_t *self = arg;
    self->topics[self->topic_count] = strdup(subscription);
    zstr_sendf(self->out, "subscribe %s", subscription);
    return self->topic_count++;
}

static int on_pull(zloop_t *loop, int timer, void *arg)
{
    (void)loop;
    (void)timer;
    deliver(arg);
    return 0;
}

static void fake_pull(void *arg, int subscription, size_t max)
{
    fake_t *self = arg;
    self->wanted[subscription] = max;
    zloop_timer(self->loop, 0, 1, on_pull, self); /* never from inside the call */
}

static void say_leases(fake_t *self, const char *word, const cm_broker_lease_t *leases,
                       size_t count)
{
    for (size_t i = 0; i < count; i++)
        zstr_sendf(self->out, "%s %llu", word, (unsigned long long)leases[i]);
}

static void fake_ack(void *self, const cm_broker_lease_t *leases, size_t count)
{
    say_leases(self, "ack", leases, count);
}

static void fake_defer(void *self, cm_broker_lease_t lease, int64_t until_ms)
{
    (void)until_ms;
    say_leases(self, "defer", &lease, 1);
}

static void fake_release(void *self, const cm_broker_lease_t *leases, size_t count)
{
    say_leases(self, "release", leases, count);
}

static void fake_publish(void *arg, const char *topic, const cm_message_t *message, uint64_t token)
{
    fake_t *self = arg;
    self->publishes[self->published++] = token;
    zstr_sendf(self->out, "publish %s %.*s", topic, CM_STR_ARG(message->body));
}

static void fake_depth(void *self, int subscription)
{
    (void)self;
    (void)subscription;
}

static bool fake_settled(void *self)
{
    return ((fake_t *)self)->published == 0;
}

const cm_broker_driver_t cm_broker_fake = {"fake",       fake_open,  fake_close,  fake_subscribe,
                                           fake_pull,    fake_ack,   fake_defer,  fake_release,
                                           fake_publish, fake_depth, fake_settled};
