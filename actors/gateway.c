#include "actors/gateway.h"
#include "actors/gateway_private.h"
#include "proto/endpoint.h"
#include "runtime/actor.h"
#include "runtime/clock.h"
#include "runtime/frame.h"

#include <string.h>

/* A driver tries a refused subscription again and again, and says so every time: twice a minute. */
enum { TICK_MS = 100, DEPTH_INTERVAL_MS = 1000, SETTLE_MS = 3000, REFUSED_MS = 45000 };
enum { FIRST_WORD_MS = 5000 }; /* below the supervisor's patience with a start */

/* ---- the state ------------------------------------------------------------------------------ */

/* Why a person must act though the link is up; NULL when nothing is refused. */
static const char *refusal(const gateway_t *self)
{
    for (size_t i = 0; i < self->source_count; i++)
        if (self->sources[i].refused_until_ms)
            return self->sources[i].refusal;
    return self->publish_refused ? self->publish_refusal : NULL;
}

void cm_gateway_show_state(gateway_t *self)
{
    const char *refused = refusal(self);
    const char *why = !self->link_up ? self->link_error.message : refused ? refused : "";
    cm_actor_state_t state = refused ? CM_ACTOR_STOPPED : CM_ACTOR_RUNNING;
    if (!self->link_up)
        state = self->link_error.status == CM_MISCONFIGURED ? CM_ACTOR_STOPPED
                : self->link_error.status == CM_OK          ? CM_ACTOR_STARTING
                                                            : CM_ACTOR_PAUSED;
    cm_reporter_state(&self->reporter, self->draining ? CM_ACTOR_DRAINING : state, why);
}

/* ---- events of the broker ------------------------------------------------------------------- */

static source_t *source_of(gateway_t *self, int number)
{
    for (size_t i = 0; i < self->source_count; i++)
        if (self->sources[i].number == number)
            return &self->sources[i];
    return NULL;
}

static void on_delivery(void *ctx, const cm_broker_delivery_t *delivery)
{
    cm_gateway_take(ctx, delivery);
}

static void on_pulled(void *ctx, int subscription, size_t received)
{
    gateway_t *self = ctx;
    source_t *source = source_of(self, subscription);
    source->pulling = false;
    if (received) { /* rises at once, falls slowly: a burst of large messages must not surprise */
        size_t average = source->pulled_bytes / received + 128;
        size_t decayed = source->size_estimate - source->size_estimate / 16;
        source->size_estimate = average > decayed ? average : decayed;
        if (received >= source->pull_limit && received < (size_t)self->options->gateway.pull_max)
            source->pull_limit *= 2;
        if (source->refused_until_ms)
            source->refused_until_ms = cm_clock_mono_ms();
    }
    cm_gateway_pump(self);
}

static void on_published(void *ctx, uint64_t token, cm_status_t status, const cm_error_t *err)
{
    cm_gateway_published(ctx, token, status, err);
}

static void on_lapsed(void *ctx, cm_broker_lease_t lease)
{
    gateway_t *self = ctx;
    cm_gateway_lapsed(self,
                      lease); /* in the hands of a shard it is harmless: its ack does nothing */
    cm_metric_add(self->lapsed, 1);
    unsigned withheld = 0;
    if (cm_log_allowed(&self->lapsed_log, 1000, &withheld))
        cm_log(CM_LOG_WARN, "gateway", "lease lapsed while held", "withheld=%u", withheld);
}

static void on_lost(void *ctx, int subscription, uint64_t count, const char *why)
{
    gateway_t *self = ctx;
    cm_metric_add(self->lost, count);
    cm_metric_add(self->losses, 1);
    cm_log(CM_LOG_ERROR, "gateway", "the broker lost messages",
           "subscription=%s count=%" PRIu64 " cause=\"%s\"",
           source_of(self, subscription)->table->suffix, count, why);
}

/* A broker that is away is waited for while we run. One that refuses us from the start is for a
 * person to mend, and ends the process as such a database does. */
static void report_start(gateway_t *self, const cm_error_t *refusal)
{
    cm_error_t none = {0};
    if (self->reported)
        return;
    self->reported = true;
    self->refused = refusal != NULL;
    cm_actor_report(self->pipe, refusal ? refusal->status : CM_OK, refusal ? refusal : &none);
}

static void on_link(void *ctx, bool up, const cm_error_t *err)
{
    gateway_t *self = ctx;
    self->link_up = up;
    self->link_error = up ? (cm_error_t){0} : *err;
    cm_gateway_show_state(self);
    report_start(self, !up && err->status == CM_MISCONFIGURED ? err : NULL);
    if (up) {
        cm_log(CM_LOG_INFO, "gateway", "broker link up", NULL);
        cm_gateway_pump(self);
        return;
    }
    cm_log(CM_LOG_WARN, "gateway", "broker link down", "code=\"%s\" cause=\"%s\"", err->code,
           err->message);
}

static void on_refused(void *ctx, int subscription, const cm_error_t *err)
{
    gateway_t *self = ctx;
    source_t *source = source_of(self, subscription);
    cm_log(CM_LOG_ERROR, "gateway", "subscription refused",
           "subscription=%s code=\"%s\" cause=\"%s\"", source->table->suffix, err->code,
           err->message);
    source->refused_until_ms = cm_clock_mono_ms() + REFUSED_MS;
    snprintf(source->refusal, sizeof source->refusal, "%s", err->message);
    cm_gateway_show_state(self);
}

/* Nobody tells that a subscription is refused no longer: it delivers, or is silent for long. */
static void forget_refusals(gateway_t *self)
{
    for (size_t i = 0; i < self->source_count; i++) {
        source_t *source = &self->sources[i];
        if (!source->refused_until_ms || cm_clock_mono_ms() < source->refused_until_ms)
            continue;
        source->refused_until_ms = 0;
        cm_log(CM_LOG_INFO, "gateway", "subscription accepted again", "subscription=%s",
               source->table->suffix);
        cm_gateway_show_state(self);
    }
}

static void on_warning(void *ctx, const char *text)
{
    (void)ctx;
    cm_log(CM_LOG_WARN, "gateway", "broker warns", "cause=\"%s\"", text);
}

static void on_depth(void *ctx, int subscription, const cm_broker_depth_t *depth)
{
    source_t *source = source_of(ctx, subscription);
    int64_t age_ms = depth->oldest_ms ? cm_clock_epoch_ms() - depth->oldest_ms : 0;
    cm_metric_set(source->ready, (double)depth->ready);
    cm_metric_set(source->unacked, (double)depth->pending);
    cm_metric_set(source->deferred, (double)depth->deferred);
    cm_metric_set(source->oldest, age_ms > 0 ? (double)age_ms / 1000 : 0);
}

/* ---- the loop ------------------------------------------------------------------------------- */

static int on_outcomes(zloop_t *loop, zsock_t *socket, void *arg)
{
    (void)loop;
    zmq_msg_t frame;
    if (cm_frame_receive(socket, &frame, ZMQ_DONTWAIT)) {
        cm_gateway_outcomes(arg, zmq_msg_data(&frame), zmq_msg_size(&frame));
        zmq_msg_close(&frame);
    }
    return 0;
}

/* Nothing in hand and nothing on its way to the broker: the drain is over. */
static void check_drained(gateway_t *self)
{
    cm_in_hand_t in_hand;
    if (!self->draining || self->drained || cm_gateway_in_hand(self, &in_hand) ||
        !cm_broker_settled(self->broker))
        return;
    self->drained = true;
    zstr_send(self->pipe, "DRAINED");
}

static int on_tick(zloop_t *loop, int timer, void *arg)
{
    (void)loop;
    (void)timer;
    gateway_t *self = arg;
    if (cm_clock_mono_ms() >= self->first_word_ms)
        report_start(self, NULL);
    if (self->refused)
        return -1;
    forget_refusals(self);
    cm_gateway_republish(self);
    cm_gateway_pump(self);
    if (self->link_up && cm_clock_mono_ms() >= self->next_depth_ms) {
        self->next_depth_ms = cm_clock_mono_ms() + DEPTH_INTERVAL_MS;
        for (size_t i = 0; i < self->source_count; i++)
            cm_broker_depth(self->broker, self->sources[i].number);
    }
    cm_gateway_ledger_report(self);
    cm_reporter_tick(&self->reporter);
    check_drained(self);
    return 0;
}

static int on_pipe(zloop_t *loop, zsock_t *pipe, void *arg)
{
    (void)loop;
    gateway_t *self = arg;
    char *command = zstr_recv(pipe);
    bool stop = !command || strcmp(command, "$TERM") == 0;
    if (command && strcmp(command, "DRAIN") == 0) {
        self->draining = true;
        cm_gateway_show_state(self);
        cm_gateway_pump(self);
    }
    zstr_free(&command);
    return stop ? -1 : 0;
}

/* ---- open and close ------------------------------------------------------------------------- */

static cm_metric_t *labelled(gateway_t *self, const source_t *source, bool counter,
                             const char *name, const char *help, const char *more)
{
    char labels[128];
    snprintf(labels, sizeof labels, "subscription=\"%s\"%s", source->table->suffix, more);
    return counter ? cm_metrics_counter(self->reporter.metrics, name, help, labels)
                   : cm_metrics_gauge(self->reporter.metrics, name, help, labels);
}

static void open_source_metrics(gateway_t *self, source_t *source)
{
    char labels[128];
    source->received = labelled(self, source, true, "client_manager_deliveries_received_total",
                                "Messages taken from the broker.", "");
    for (int kind = 0; kind < CM_OUTCOME_COUNT; kind++) {
        snprintf(labels, sizeof labels, ",outcome=\"%s\"",
                 cm_outcome_name((cm_outcome_kind_t)kind));
        source->outcomes[kind] = labelled(self, source, true, "client_manager_deliveries_total",
                                          "Deliveries by what became of them.", labels);
    }
    source->ready = labelled(self, source, false, "client_manager_subscription_ready",
                             "Messages not delivered yet.", "");
    source->unacked = labelled(self, source, false, "client_manager_subscription_unacked",
                               "Messages delivered and not acknowledged, all instances.", "");
    source->deferred = labelled(self, source, false, "client_manager_subscription_deferred",
                                "Messages waiting for their time.", "");
    source->oldest = labelled(self, source, false, "client_manager_subscription_oldest_seconds",
                              "Age of the oldest message not acknowledged.", "");
    snprintf(labels, sizeof labels, "subscription=\"%s\"", source->table->suffix);
    source->seconds =
        cm_metrics_histogram(self->reporter.metrics, "client_manager_delivery_seconds",
                             "From publish to commit, deliveries acknowledged.", labels);
}

static void open_metrics(gateway_t *self)
{
    cm_metrics_t *metrics = self->reporter.metrics;
    self->lost = cm_metrics_counter(metrics, "client_manager_broker_lost_total",
                                    "Messages the broker lost after accepting them, as far as they "
                                    "can be counted: what a vanished stream held cannot.",
                                    "");
    self->losses = cm_metrics_counter(metrics, "client_manager_broker_losses_total",
                                      "Times the broker was found to have lost messages, "
                                      "be they countable or not; alert on this one.",
                                      "");
    self->lapsed = cm_metrics_counter(metrics, "client_manager_leases_lapsed_total",
                                      "Leases that ran out while the delivery was held.", "");
    self->publish_failures = cm_metrics_counter(metrics, "client_manager_publish_failures_total",
                                                "Publishes not confirmed and repeated.", "");
    self->publishes_unfit =
        cm_metrics_counter(metrics, "client_manager_publish_refused_total",
                           "Retries and dead letters that the broker will not store as they are; "
                           "their deliveries are deferred.",
                           "");
    self->publishing = cm_metrics_gauge(metrics, "client_manager_publishes_pending",
                                        "Retries and dead letters awaiting confirmation.", "");
    self->batches = cm_metrics_counter(metrics, "client_manager_batches_total",
                                       "Batches handed to shards.", "");
    self->batch_rows = cm_metrics_counter(metrics, "client_manager_batched_deliveries_total",
                                          "Deliveries in batches handed to shards.", "");
    for (size_t i = 0; i < self->source_count; i++)
        open_source_metrics(self, &self->sources[i]);
}

static cm_status_t open_broker(gateway_t *self, cm_error_t *err)
{
    cm_broker_choose(&self->choice, self->options, self->args->consumer);
    cm_broker_events_t events = {.ctx = self,
                                 .on_delivery = on_delivery,
                                 .on_pulled = on_pulled,
                                 .on_published = on_published,
                                 .on_lapsed = on_lapsed,
                                 .on_lost = on_lost,
                                 .on_link = on_link,
                                 .on_refused = on_refused,
                                 .on_warning = on_warning,
                                 .on_depth = on_depth};
    cm_status_t status = cm_broker_open(&self->broker, self->args->driver, self->loop,
                                        &self->choice.options, &events, err);
    for (size_t i = 0; status == CM_OK && i < self->source_count; i++) {
        char topic[CM_TOPIC_NAME_MAX];
        cm_subscription_topic(self->sources[i].table->id, self->options->broker.prefix, topic);
        self->sources[i].number = cm_broker_subscribe(self->broker, topic);
    }
    return status;
}

static cm_status_t open_all(gateway_t *self, cm_error_t *err)
{
    self->options = self->args->options;
    self->arena = cm_arena_new(256 * 1024);
    self->loop = zloop_new();
    zloop_set_nonstop(self->loop, true);
    self->outcomes = zsock_new(ZMQ_PULL);
    if (zsock_bind(self->outcomes, "%s", CM_ENDPOINT_OUTCOMES) < 0)
        return cm_error_set(err, CM_MISCONFIGURED, "socket", "cannot bind %s",
                            CM_ENDPOINT_OUTCOMES);
    cm_status_t status = cm_reporter_open(&self->reporter, self->args->reports, "gateway", err);
    if (status == CM_OK)
        status = cm_gateway_open_routes(self, err);
    if (status != CM_OK)
        return status;
    open_metrics(self);
    zloop_reader(self->loop, self->pipe, on_pipe, self);
    zloop_reader(self->loop, self->outcomes, on_outcomes, self);
    zloop_timer(self->loop, TICK_MS, 0, on_tick, self);
    return open_broker(self, err);
}

/* After the loop: outcomes that arrived meanwhile count, the rest is given back. */
static int on_last_tick(zloop_t *loop, int timer, void *arg)
{
    (void)loop;
    (void)timer;
    return cm_broker_settled(((gateway_t *)arg)->broker) ? -1 : 0;
}

static int on_deadline(zloop_t *loop, int timer, void *arg)
{
    (void)loop;
    (void)timer;
    (void)arg;
    return -1;
}

static void give_back(gateway_t *self)
{
    self->draining = true;
    zmq_msg_t frame;
    while (cm_frame_receive(self->outcomes, &frame, ZMQ_DONTWAIT)) {
        cm_gateway_outcomes(self, zmq_msg_data(&frame), zmq_msg_size(&frame));
        zmq_msg_close(&frame);
    }
    for (size_t w = 0; w < self->worker_count; w++)
        for (unsigned s = 0; s < self->workers[w].shard_count; s++) {
            cm_gateway_release_pending(self, &self->workers[w].shards[s]);
            cm_gateway_release_batches(self, &self->workers[w].shards[s]);
        }
    zloop_reader_end(self->loop, self->pipe);
    zloop_timer(self->loop, 20, 0, on_last_tick, self);
    zloop_timer(self->loop, SETTLE_MS, 1, on_deadline, self);
    if (self->link_up && !cm_broker_settled(self->broker))
        zloop_start(self->loop);
    cm_gateway_ledger_report(self);
}

void cm_gateway_actor(zsock_t *pipe, void *args)
{
    gateway_t self = {.args = args, .pipe = pipe};
    cm_error_t err = {0};
    zsock_signal(pipe, 0);
    if (open_all(&self, &err) == CM_OK) {
        self.first_word_ms = cm_clock_mono_ms() + FIRST_WORD_MS;
        zloop_start(self.loop);
        if (!self.refused)
            give_back(&self);
    } else {
        cm_actor_report(pipe, err.status, &err);
    }
    cm_broker_close(&self.broker);
    cm_gateway_forget_publishes(&self);
    cm_gateway_close_routes(&self);
    cm_reporter_close(&self.reporter);
    zloop_destroy(&self.loop);
    zsock_destroy(&self.outcomes);
    cm_arena_destroy(&self.arena);
}
