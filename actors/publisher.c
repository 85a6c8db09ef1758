#include "actors/publisher.h"
#include "actors/broker_choice.h"
#include "runtime/broker/message.h"
#include "runtime/clock.h"
#include "runtime/hash.h"

#include <signal.h>
#include <stdlib.h>

enum { TICK_MS = 20, SECOND_US = 1000 * 1000 };

typedef struct {
    uint64_t token;
    cm_subscription_id_t topic;
    cm_message_t *message; /* owned */
    bool waiting;          /* not confirmed; to be published again */
    UT_hash_handle hh;
} outstanding_t;

struct cm_publisher {
    const cm_options_t *options;
    zloop_t *loop;
    cm_broker_choice_t choice;
    cm_broker_t *broker;
    outstanding_t *outstanding;
    uint64_t next_token, confirmed;
    size_t target; /* the loop returns when no more than this is outstanding */
    bool link_up, breaking, pacing;
    int64_t patience_ms, progress_ms; /* monotonic time of the last confirmation */
    int64_t rate, started_us, sent;   /* started: moved forward by pauses */
    cm_error_t refused;               /* status CM_OK: none */
    cm_error_t link_error;
};

static int stop_loop(zloop_t *loop, int timer, void *arg)
{
    (void)loop;
    (void)timer;
    ((cm_publisher_t *)arg)->breaking = false;
    return -1;
}

static bool reached(const cm_publisher_t *self)
{
    return !self->pacing && self->link_up && HASH_COUNT(self->outstanding) <= self->target;
}

/* Leave the loop from inside an event, which has no return value of its own. */
static void check(cm_publisher_t *self)
{
    if (!reached(self) || self->breaking)
        return;
    self->breaking = true;
    zloop_timer(self->loop, 0, 1, stop_loop, self);
}

static void forget(cm_publisher_t *self, outstanding_t *item)
{
    HASH_DEL(self->outstanding, item);
    free(item->message);
    free(item);
}

static void on_published(void *ctx, uint64_t token, cm_status_t status, const cm_error_t *err)
{
    cm_publisher_t *self = ctx;
    outstanding_t *item = NULL;
    HASH_FIND(hh, self->outstanding, &token, sizeof token, item);
    if (!item)
        return;
    if (status == CM_UNAVAILABLE) {
        item->waiting = true;
        self->link_error = *err;
        return;
    }
    if (status == CM_OK)
        self->confirmed++;
    else
        self->refused = *err;
    self->progress_ms = cm_clock_mono_ms();
    forget(self, item);
    check(self);
}

static void on_link(void *ctx, bool up, const cm_error_t *err)
{
    cm_publisher_t *self = ctx;
    self->link_up = up;
    if (!up)
        self->link_error = *err;
    check(self);
}

static void send_item(cm_publisher_t *self, outstanding_t *item)
{
    char topic[CM_TOPIC_NAME_MAX];
    item->waiting = false;
    cm_subscription_topic(item->topic, self->options->broker.prefix, topic);
    cm_broker_publish(self->broker, topic, item->message, item->token);
}

/* A broker that refuses us will go on doing so. */
static bool refused_link(const cm_publisher_t *self)
{
    return !self->link_up && self->link_error.status == CM_MISCONFIGURED;
}

static bool stuck(const cm_publisher_t *self)
{
    return refused_link(self) || cm_clock_mono_ms() - self->progress_ms > self->patience_ms;
}

static int on_tick(zloop_t *loop, int timer, void *arg)
{
    (void)loop;
    (void)timer;
    cm_publisher_t *self = arg;
    outstanding_t *item, *next;
    HASH_ITER(hh, self->outstanding, item, next)
    {
        if (item->waiting && self->link_up)
            send_item(self, item);
    }
    return stuck(self) || reached(self) ? -1 : 0;
}

/* Run until at most `target` messages are outstanding and the link is up. */
static cm_status_t run(cm_publisher_t *self, size_t target, cm_error_t *err)
{
    self->target = target;
    self->progress_ms = cm_clock_mono_ms();
    /* A timer armed before may end the loop early. */
    while (!reached(self) && !stuck(self) && self->refused.status == CM_OK)
        zloop_start(self->loop);
    if (self->refused.status != CM_OK) {
        *err = self->refused;
        self->refused = (cm_error_t){0};
        return err->status;
    }
    if (reached(self))
        return CM_OK;
    if (refused_link(self)) {
        cm_error_set(err, CM_MISCONFIGURED, self->link_error.code, "%s", self->link_error.message);
        return CM_MISCONFIGURED;
    }
    return cm_error_set(err, CM_UNAVAILABLE, self->link_error.code,
                        "the broker does not confirm: %s",
                        self->link_error.message[0] ? self->link_error.message : "no answer");
}

cm_status_t cm_publisher_open(cm_publisher_t **ret_publisher, const cm_options_t *options,
                              int64_t rate, cm_error_t *err)
{
    cm_publisher_t *self = calloc(1, sizeof *self);
    if (!self)
        abort();
    signal(SIGPIPE, SIG_IGN); /* a link that broke is an error of that write, as in the service */
    self->options = options;
    self->rate = rate;
    self->patience_ms = CM_PUBLISHER_OPEN_MS;
    self->started_us = cm_clock_mono_us();
    self->loop = zloop_new();
    zloop_set_nonstop(self->loop, true);
    zloop_timer(self->loop, TICK_MS, 0, on_tick, self);
    cm_broker_choose(&self->choice, options, "publisher");
    cm_broker_events_t events = {.ctx = self, .on_published = on_published, .on_link = on_link};
    cm_status_t status = cm_broker_open(&self->broker, self->choice.driver, self->loop,
                                        &self->choice.options, &events, err);
    if (status == CM_OK)
        status = run(self, 0, err);
    self->patience_ms = CM_PUBLISHER_PATIENCE_MS;
    if (status == CM_OK)
        *ret_publisher = self;
    else
        cm_publisher_close(&self);
    return status;
}

void cm_publisher_close(cm_publisher_t **self_p)
{
    cm_publisher_t *self = *self_p;
    if (!self)
        return;
    cm_broker_close(&self->broker);
    outstanding_t *item, *next;
    HASH_ITER(hh, self->outstanding, item, next)
    {
        forget(self, item);
    }
    zloop_destroy(&self->loop);
    free(self);
    *self_p = NULL;
}

/* Let the loop work until the next message is due. */
static cm_status_t pace(cm_publisher_t *self, cm_error_t *err)
{
    if (!self->rate)
        return CM_OK;
    int64_t due_us = self->started_us + self->sent * SECOND_US / self->rate;
    int64_t wait_us = due_us - cm_clock_mono_us();
    if (wait_us < -SECOND_US) /* what a pause let pass is not made up for */
        self->started_us -= wait_us;
    if (wait_us < 1000)
        return CM_OK;
    self->pacing = true;
    for (; wait_us >= 1000; wait_us = due_us - cm_clock_mono_us()) {
        zloop_timer(self->loop, (size_t)(wait_us / 1000), 1, stop_loop, self);
        zloop_start(self->loop);
    }
    self->pacing = false;
    return run(self, CM_PUBLISHER_WINDOW, err);
}

cm_status_t cm_publisher_send(cm_publisher_t *self, cm_subscription_id_t topic,
                              const cm_message_t *message, cm_error_t *err)
{
    cm_status_t status = pace(self, err);
    if (status == CM_OK && HASH_COUNT(self->outstanding) >= CM_PUBLISHER_WINDOW)
        status = run(self, CM_PUBLISHER_WINDOW / 2, err);
    if (status != CM_OK)
        return status;
    outstanding_t *item = calloc(1, sizeof *item);
    if (!item)
        abort();
    item->token = ++self->next_token;
    item->topic = topic;
    item->message = cm_message_copy(message);
    HASH_ADD(hh, self->outstanding, token, sizeof item->token, item);
    self->sent++;
    send_item(self, item);
    return CM_OK;
}

cm_status_t cm_publisher_flush(cm_publisher_t *self, cm_error_t *err)
{
    return run(self, 0, err);
}

uint64_t cm_publisher_confirmed(const cm_publisher_t *self)
{
    return self->confirmed;
}
