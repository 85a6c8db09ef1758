#include "actors/subworker.h"
#include "proto/endpoint.h"
#include "runtime/actor.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "runtime/frame.h"
#include "runtime/log.h"

#include <string.h>

enum { IDLE_MS = 250, CREDITS = 2, DEFER_MS = 5000, TICK_MS = 1000 };

cm_status_t cm_subworker_open_sockets(cm_subworker_sockets_t *self, const cm_subworker_args_t *args,
                                      cm_error_t *err)
{
    char endpoint[CM_ENDPOINT_MAX];
    cm_endpoint_work(args->subworker, args->shard, endpoint);
    self->work = zsock_new(ZMQ_PULL);
    self->outcomes = zsock_new(ZMQ_PUSH);
    if (!self->work || !self->outcomes)
        return cm_error_set(err, CM_UNAVAILABLE, "socket", "no more sockets");
    zsock_set_linger(self->outcomes, 1000); /* the last outcomes must outlive the actor */
    if (zsock_connect(self->work, "%s", endpoint) != 0 ||
        zsock_connect(self->outcomes, "%s", CM_ENDPOINT_OUTCOMES) != 0)
        return cm_error_set(err, CM_MISCONFIGURED, "socket", "cannot connect %s", endpoint);
    return CM_OK;
}

void cm_subworker_close_sockets(cm_subworker_sockets_t *self)
{
    zsock_destroy(&self->work);
    zsock_destroy(&self->outcomes);
}

static void tell(cm_subworker_sockets_t *self, const cm_subworker_args_t *args, unsigned credits,
                 bool fresh)
{
    cm_buffer_t frame = {0};
    cm_outcome_ready(args->subworker, args->shard, credits, fresh, &frame);
    cm_frame_send(self->outcomes, &frame, ZMQ_DONTWAIT); /* full only of a gateway that is gone */
}

void cm_subworker_fresh(cm_subworker_sockets_t *self, const cm_subworker_args_t *args)
{
    tell(self, args, 0, true);
}

void cm_subworker_ready(cm_subworker_sockets_t *self, const cm_subworker_args_t *args)
{
    tell(self, args, CREDITS, false);
}

/* ---- the loop of a simple sub-worker -------------------------------------------------------- */

typedef struct {
    const cm_subworker_args_t *args;
    const cm_subworker_handler_t *handler;
    void *state;
    zsock_t *pipe;
    cm_subworker_sockets_t sockets;
    cm_reporter_t reporter;
    cm_pg_link_t link;
    cm_arena_t *arena;
    zmq_msg_t frame;
    cm_delivery_batch_t batch;
    cm_outcome_t *outcomes;
    bool loaded;  /* a batch is in hand */
    bool waiting; /* the gateway knows that we take nothing */
    bool draining, drained_told, running;
    int64_t held_since_ms;
    int64_t next_tick_ms; /* monotonic */
} subworker_t;

static void send_outcomes(subworker_t *self, unsigned credits)
{
    cm_outcome_builder_t builder = {0};
    cm_buffer_t frame = {0};
    for (size_t i = 0; i < self->batch.count; i++)
        cm_outcome_builder_add(&builder, &self->outcomes[i]);
    cm_outcome_builder_seal(&builder, self->args->subworker, self->args->shard,
                            self->batch.batch_id, credits, &frame);
    cm_frame_send(self->sockets.outcomes, &frame, ZMQ_DONTWAIT);
    zmq_msg_close(&self->frame);
    cm_arena_reset(self->arena);
    self->loaded = false;
}

static void reset_outcomes(subworker_t *self)
{
    for (size_t i = 0; i < self->batch.count; i++)
        self->outcomes[i] =
            (cm_outcome_t){.lease = self->batch.items[i].lease, .kind = CM_OUTCOME_RELEASE};
}

static void release(subworker_t *self)
{
    reset_outcomes(self);
    send_outcomes(self, 0);
    self->waiting = true;
}

/* A batch that cannot be read has no leases to answer with. It would stay in our hands, as the
 * gateway sees it, for as long as we live: end, and the next incarnation gives all of it back. */
static void receive(subworker_t *self)
{
    cm_error_t err = {0};
    if (!cm_frame_receive(self->sockets.work, &self->frame, ZMQ_DONTWAIT))
        return;
    if (cm_delivery_batch_decode(zmq_msg_data(&self->frame), zmq_msg_size(&self->frame),
                                 self->arena, &self->batch, &err) != CM_OK) {
        cm_log(CM_LOG_ERROR, self->args->name, "batch refused, starting anew", "cause=\"%s\"",
               err.message);
        self->running = false;
        zmq_msg_close(&self->frame);
        return;
    }
    self->loaded = true;
    self->outcomes = cm_arena_alloc(self->arena, (self->batch.count + 1) * sizeof *self->outcomes);
}

/* A handler should have made outcomes of these; until it does, the batch comes again later. */
static void defer_all(subworker_t *self, const cm_error_t *err)
{
    cm_log(CM_LOG_ERROR, self->args->name, "batch deferred", "class=%s code=\"%s\" cause=\"%s\"",
           cm_status_name(err->status), err->code, err->message);
    int64_t until_ms = cm_clock_epoch_ms() + DEFER_MS;
    for (size_t i = 0; i < self->batch.count; i++)
        self->outcomes[i] = (cm_outcome_t){
            .lease = self->batch.items[i].lease, .kind = CM_OUTCOME_DEFER, .until_ms = until_ms};
}

static void handle(subworker_t *self)
{
    cm_error_t err = {0};
    cm_status_t status = cm_pg_link_up(&self->link, self->pipe, 0, &err);
    if (status == CM_CANCELLED)
        return;
    if (status == CM_OK) {
        reset_outcomes(self);
        status = self->handler->handle(self->state, self->link.pg, &self->batch, self->outcomes,
                                       self->arena, &err);
        cm_pg_link_record(&self->link, status, &err);
        if (status == CM_MISCONFIGURED)
            cm_pg_close(self->link.pg);
        if (status != CM_OK && status != CM_UNAVAILABLE && status != CM_MISCONFIGURED) {
            defer_all(self, &err);
            status = CM_OK;
        }
    }
    if (status == CM_OK) {
        self->held_since_ms = 0;
        send_outcomes(self, 1);
    } else if (!self->held_since_ms) {
        self->held_since_ms = cm_clock_mono_ms();
    }
}

static void on_pipe(subworker_t *self)
{
    char *command = zstr_recv(self->pipe);
    if (!command || strcmp(command, "$TERM") == 0)
        self->running = false;
    else if (strcmp(command, "DRAIN") == 0)
        self->draining = true;
    zstr_free(&command);
}

static void mind_the_link(subworker_t *self)
{
    int64_t held_ms = self->held_since_ms ? cm_clock_mono_ms() - self->held_since_ms : 0;
    if (self->loaded && self->held_since_ms &&
        (self->draining || held_ms >= self->args->options->breaker.hold_ms))
        release(self);
    if (!self->waiting || cm_pg_link_wait_ms(&self->link) > 0)
        return;
    cm_error_t err = {0};
    if (cm_pg_link_up(&self->link, self->pipe, 0, &err) != CM_OK)
        return;
    self->held_since_ms = 0;
    self->waiting = false;
    cm_subworker_ready(&self->sockets, self->args);
}

/* A link that fails here is made anew by the next batch or tick, whichever comes first. */
static void run_tick(subworker_t *self)
{
    cm_error_t err = {0};
    cm_status_t status = cm_pg_link_up(&self->link, self->pipe, 0, &err);
    if (status == CM_OK) {
        status = self->handler->tick(self->state, self->link.pg, &err);
        cm_pg_link_record(&self->link, status, &err);
        if (status == CM_MISCONFIGURED)
            cm_pg_close(self->link.pg);
    }
    self->next_tick_ms = cm_clock_mono_ms() + self->handler->tick_ms;
}

static bool tick_is_due(const subworker_t *self)
{
    return self->handler->tick && !self->loaded && !self->waiting && !self->draining &&
           self->running && cm_clock_mono_ms() >= self->next_tick_ms;
}

static int wait_ms(const subworker_t *self)
{
    if (!self->held_since_ms && !self->waiting)
        return self->loaded ? 0 : IDLE_MS;
    int link_ms = cm_pg_link_wait_ms(&self->link);
    return link_ms < IDLE_MS ? link_ms + 1 : IDLE_MS;
}

static void step(subworker_t *self)
{
    zmq_pollitem_t items[] = {{zsock_resolve(self->pipe), 0, ZMQ_POLLIN, 0},
                              {zsock_resolve(self->sockets.work), 0, ZMQ_POLLIN, 0}};
    if (zmq_poll(items, self->loaded ? 1 : 2, wait_ms(self)) < 0)
        return;
    if (items[0].revents)
        on_pipe(self);
    if (!self->loaded && items[1].revents)
        receive(self);
    if (self->loaded && self->running)
        handle(self);
    if (self->held_since_ms || self->waiting)
        mind_the_link(self);
    if (tick_is_due(self))
        run_tick(self);
    if (self->draining && !self->drained_told && !self->loaded) {
        self->drained_told = true;
        zstr_send(self->pipe, "DRAINED");
    }
    cm_reporter_tick(&self->reporter);
}

static cm_status_t open_all(subworker_t *self, cm_error_t *err)
{
    self->arena = cm_arena_new(256 * 1024);
    cm_status_t status =
        cm_reporter_open(&self->reporter, self->args->reports, self->args->name, err);
    if (status != CM_OK)
        return status;
    cm_pg_link_open(&self->link, self->args->options, self->args->name, self->args->role,
                    &self->reporter);
    status = cm_subworker_open_sockets(&self->sockets, self->args, err);
    if (status == CM_OK)
        status = self->handler->open(&self->state, self->args, self->reporter.metrics, err);
    return status;
}

void cm_subworker_run(zsock_t *pipe, const cm_subworker_args_t *args,
                      const cm_subworker_handler_t *handler)
{
    subworker_t self = {.args = args, .handler = handler, .pipe = pipe, .waiting = true};
    cm_error_t err = {0};
    zsock_signal(pipe, 0);
    self.running = cm_actor_report(pipe, open_all(&self, &err), &err) == CM_OK;
    if (self.running) {
        cm_subworker_fresh(&self.sockets, args);
        cm_reporter_state(&self.reporter, CM_ACTOR_RUNNING, "");
        while (self.running)
            step(&self);
        if (self.loaded)
            release(&self);
    }
    if (self.state)
        handler->close(&self.state);
    cm_pg_link_close(&self.link);
    cm_subworker_close_sockets(&self.sockets);
    cm_reporter_close(&self.reporter);
    cm_arena_destroy(&self.arena);
}
