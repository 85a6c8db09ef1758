#include "runtime/supervisor.h"
#include "runtime/actor.h"
#include "runtime/backoff.h"
#include "runtime/clock.h"

#include <assert.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { BACKOFF_BASE_MS = 500, BACKOFF_CAP_MS = 30000, EXIT_UNCLEAN = 1 };
/* Some send a signal to the process and to its group at once: that is one wish, told twice. */
enum { SAME_SIGNAL_MS = 1000 };
enum { EXIT_UNAVAILABLE = 69, EXIT_MISCONFIGURED = 78, EXIT_SIGNAL = 128 };

typedef enum {
    PHASE_STARTING,
    PHASE_RUNNING,
    PHASE_DRAINING,
    PHASE_STOPPING,
    PHASE_LEAVING
} phase_t;

typedef struct {
    const cm_service_t *service;
    cm_service_state_t state;
    zactor_t *actor;    /* NULL: there is no thread */
    bool opening;       /* there is a thread, but no good report yet */
    bool late;          /* opening, and its failure has been told */
    bool settled;       /* its first start is through, well or not */
    bool drained;       /* it has answered */
    int64_t due_ms;     /* without a thread: next start; opening: its report */
    int64_t running_ms; /* since when */
    cm_error_t error;   /* of the last start */
    cm_backoff_t backoff;
} slot_t;

typedef struct {
    slot_t *slots;
    size_t count, first_starts; /* settled, of count */
    const cm_supervisor_options_t *options;
    zmq_pollitem_t *items; /* one a slot, then the signals */
    int signal_fd, exit_code;
    int signal; /* the first; 0 = none yet */
    int64_t signalled_at_ms;
    phase_t phase;
    int64_t deadline_ms; /* of draining, or of stopping what has stop_order */
    int stop_order;
} supervisor_t;

const char *cm_service_state_name(cm_service_state_t state)
{
    static const char *const names[] = {"waiting", "running", "draining", "stopped", "failed"};
    return (size_t)state < sizeof names / sizeof names[0] ? names[state] : "unknown";
}

static void fill_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGHUP);
}

void cm_supervisor_block_signals(void)
{
    sigset_t set;
    fill_signals(&set);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    zsys_handler_set(NULL);
}

/* ---- one service ---------------------------------------------------------------------------- */

static void tell(supervisor_t *self, slot_t *slot, const cm_error_t *err)
{
    if (self->options->on_state)
        self->options->on_state(self->options->ctx, slot->service, slot->state, err);
}

static void set_state(supervisor_t *self, slot_t *slot, cm_service_state_t state,
                      const cm_error_t *err)
{
    assert(slot->state != CM_SERVICE_STOPPED); /* for good */
    bool news = state != slot->state || err;
    slot->state = state;
    if (news)
        tell(self, slot, err);
}

static bool going_down(const supervisor_t *self)
{
    return self->phase >= PHASE_DRAINING;
}

static void launch(supervisor_t *self, slot_t *slot)
{
    slot->actor = zactor_new(slot->service->body, slot->service->args);
    zsock_set_sndtimeo(zactor_sock(slot->actor), 0); /* a full pipe must not hold us up */
    slot->opening = true;
    slot->late = false;
    slot->error = (cm_error_t){0};
    slot->due_ms = cm_clock_mono_ms() + self->options->start_timeout_ms;
}

static void take_report(supervisor_t *self, slot_t *slot, const cm_error_t *report)
{
    slot->error = *report;
    if (report->status != CM_OK || !slot->opening)
        return; /* a body that failed ends next, and only then can it be started again */
    slot->opening = false;
    slot->running_ms = cm_clock_mono_ms();
    if (going_down(self))
        return;
    slot->settled = true;
    set_state(self, slot, CM_SERVICE_RUNNING, NULL);
}

static void begin_drain(supervisor_t *self);

static void take_end(supervisor_t *self, slot_t *slot)
{
    bool opening = slot->opening;
    cm_actor_release(&slot->actor);
    slot->opening = false;
    if (going_down(self)) {
        set_state(self, slot, CM_SERVICE_STOPPED, NULL);
        return;
    }
    if (slot->error.status == CM_OK)
        cm_error_set(&slot->error, CM_UNAVAILABLE, "ended",
                     opening ? "ended without a report" : "ended by itself");
    if (slot->service->essential && !opening) {
        self->exit_code = EXIT_UNCLEAN;
        set_state(self, slot, CM_SERVICE_WAITING, &slot->error);
        begin_drain(self);
        return;
    }
    /* One that ran for a while starts from short waits again; one that flaps does not. */
    if (!opening && cm_clock_mono_ms() - slot->running_ms >= BACKOFF_CAP_MS)
        cm_backoff_reset(&slot->backoff);
    slot->due_ms = cm_clock_mono_ms() + cm_backoff_next_ms(&slot->backoff);
    slot->settled = true;
    set_state(self, slot, opening ? CM_SERVICE_FAILED : CM_SERVICE_WAITING, &slot->error);
}

static void read_pipe(supervisor_t *self, slot_t *slot)
{
    cm_error_t report = {0};
    char word[CM_ACTOR_WORD_MAX] = "";
    switch (cm_actor_read(slot->actor, &report, word)) {
    case CM_ACTOR_REPORTED:
        take_report(self, slot, &report);
        break;
    case CM_ACTOR_ENDED:
        take_end(self, slot);
        break;
    case CM_ACTOR_SAID:
        if (slot->state == CM_SERVICE_DRAINING && strcmp(word, "DRAINED") == 0)
            slot->drained = true;
        break;
    }
}

/* ---- up ------------------------------------------------------------------------------------- */

static void tell_late(supervisor_t *self, slot_t *slot)
{
    if (slot->error.status == CM_OK)
        cm_error_set(&slot->error, CM_UNAVAILABLE, "timeout", "no report within %d ms",
                     self->options->start_timeout_ms);
    slot->late = true;
    slot->settled = true;
    set_state(self, slot, CM_SERVICE_FAILED, &slot->error);
}

/* Begin the first start after the last one that settled. */
static void continue_first_starts(supervisor_t *self)
{
    while (self->phase == PHASE_STARTING && self->first_starts < self->count) {
        slot_t *slot = &self->slots[self->first_starts];
        if (!slot->settled && !slot->actor)
            launch(self, slot);
        if (!slot->settled)
            return;
        self->first_starts++;
        if (slot->service->required && slot->state == CM_SERVICE_FAILED) {
            bool misconfigured = slot->error.status == CM_MISCONFIGURED;
            self->exit_code = misconfigured ? EXIT_MISCONFIGURED : EXIT_UNAVAILABLE;
            begin_drain(self);
        }
    }
    if (self->phase != PHASE_STARTING)
        return;
    self->phase = PHASE_RUNNING;
    if (self->options->on_ready)
        self->options->on_ready(self->options->ctx);
}

static void advance_up(supervisor_t *self)
{
    int64_t now_ms = cm_clock_mono_ms();
    for (size_t i = 0; i < self->count; i++) {
        slot_t *slot = &self->slots[i];
        if (slot->actor && slot->opening && !slot->late && now_ms >= slot->due_ms)
            tell_late(self, slot);
        else if (!slot->actor && slot->settled && now_ms >= slot->due_ms)
            launch(self, slot);
    }
    continue_first_starts(self);
}

/* ---- down ----------------------------------------------------------------------------------- */

static void begin_drain(supervisor_t *self)
{
    self->phase = PHASE_DRAINING;
    self->deadline_ms = cm_clock_mono_ms() + self->options->drain_ms;
    for (size_t i = 0; i < self->count; i++) {
        slot_t *slot = &self->slots[i];
        if (!slot->actor)
            set_state(self, slot, CM_SERVICE_STOPPED, NULL);
        else if (slot->opening) /* nothing in hand yet, and it must not take anything up */
            zstr_send(slot->actor, "$TERM");
        else if (slot->service->drains && zstr_send(slot->actor, "DRAIN") == 0)
            set_state(self, slot, CM_SERVICE_DRAINING, NULL);
    }
}

static void ask_to_stop(supervisor_t *self, slot_t *slot)
{
    /* Nothing may be unread, or an ending signal would be taken for the answer to the question. */
    zmq_pollitem_t item = {zsock_resolve(slot->actor), 0, ZMQ_POLLIN, 0};
    bool asks = self->options->before_stop && !slot->opening;
    while (asks && slot->actor && zmq_poll(&item, 1, 0) > 0)
        read_pipe(self, slot);
    if (!slot->actor)
        return;
    if (asks)
        self->options->before_stop(self->options->ctx, slot->service, slot->actor);
    zstr_send(slot->actor, "$TERM");
}

/* Ask the next ones in stop order to stop; leave when none is left. */
static void stop_next(supervisor_t *self)
{
    bool found = false;
    self->phase = PHASE_STOPPING;
    for (size_t i = 0; i < self->count; i++) {
        const slot_t *slot = &self->slots[i];
        if (slot->actor && (!found || slot->service->stop_order < self->stop_order)) {
            self->stop_order = slot->service->stop_order;
            found = true;
        }
    }
    if (!found) {
        self->phase = PHASE_LEAVING;
        return;
    }
    for (size_t i = 0; i < self->count; i++)
        if (self->slots[i].actor && self->slots[i].service->stop_order == self->stop_order)
            ask_to_stop(self, &self->slots[i]);
    self->deadline_ms = cm_clock_mono_ms() + self->options->stop_timeout_ms;
}

/* Whether the slot holds up the present step of the way down. */
static bool holds_up(const supervisor_t *self, const slot_t *slot)
{
    if (!slot->actor)
        return false;
    if (self->phase == PHASE_DRAINING)
        return slot->state == CM_SERVICE_DRAINING && !slot->drained;
    return slot->service->stop_order == self->stop_order;
}

static void pass_over(supervisor_t *self, slot_t *slot)
{
    cm_error_t err = {0};
    if (self->exit_code == 0)
        self->exit_code = EXIT_UNCLEAN;
    if (self->phase == PHASE_DRAINING) {
        cm_error_set(&err, CM_UNAVAILABLE, "timeout", "not drained within %d ms",
                     self->options->drain_ms);
        tell(self, slot, &err);
    } else {
        cm_error_set(&err, CM_UNAVAILABLE, "timeout", "did not stop within %d ms",
                     self->options->stop_timeout_ms);
        cm_actor_release(&slot->actor);
        set_state(self, slot, CM_SERVICE_STOPPED, &err);
    }
}

static void advance_down(supervisor_t *self)
{
    bool expired = cm_clock_mono_ms() >= self->deadline_ms, held_up = false;
    for (size_t i = 0; i < self->count; i++) {
        slot_t *slot = &self->slots[i];
        if (!holds_up(self, slot))
            continue;
        if (expired)
            pass_over(self, slot);
        else
            held_up = true;
    }
    if (!held_up)
        stop_next(self);
}

/* ---- the loop ------------------------------------------------------------------------------- */

static void read_signals(supervisor_t *self)
{
    struct signalfd_siginfo info;
    while (read(self->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGHUP)
            continue;
        int64_t now_ms = cm_clock_mono_ms();
        if (!self->signal)
            self->signalled_at_ms = now_ms;
        else if ((int)info.ssi_signo != self->signal ||
                 now_ms - self->signalled_at_ms >= SAME_SIGNAL_MS) {
            self->exit_code = EXIT_SIGNAL + (int)info.ssi_signo;
            self->phase = PHASE_LEAVING;
            return;
        }
        self->signal = (int)info.ssi_signo;
        if (!going_down(self))
            begin_drain(self);
    }
}

/* Milliseconds until time alone changes something; -1 when it does not. */
static long next_due_ms(const supervisor_t *self)
{
    int64_t due_ms = going_down(self) ? self->deadline_ms : INT64_MAX;
    for (size_t i = 0; i < self->count && !going_down(self); i++) {
        const slot_t *slot = &self->slots[i];
        bool timed = slot->actor ? slot->opening && !slot->late : slot->settled;
        if (timed && slot->due_ms < due_ms)
            due_ms = slot->due_ms;
    }
    int64_t left_ms = due_ms - cm_clock_mono_ms();
    return due_ms == INT64_MAX ? -1 : left_ms > 0 ? (long)left_ms : 0;
}

static void wait_and_read(supervisor_t *self)
{
    for (size_t i = 0; i < self->count; i++) {
        zactor_t *actor = self->slots[i].actor; /* poll(2) passes over an fd of -1 */
        self->items[i] = (zmq_pollitem_t){actor ? zsock_resolve(actor) : NULL, -1, ZMQ_POLLIN, 0};
    }
    self->items[self->count] = (zmq_pollitem_t){NULL, self->signal_fd, ZMQ_POLLIN, 0};
    if (zmq_poll(self->items, (int)self->count + 1, next_due_ms(self)) == -1) {
        if (zmq_errno() == EINTR)
            return;
        self->exit_code = EXIT_UNCLEAN; /* the context has been taken away: nothing can be told */
        self->phase = PHASE_LEAVING;
        return;
    }
    for (size_t i = 0; i < self->count; i++)
        if (self->items[i].revents & ZMQ_POLLIN)
            read_pipe(self, &self->slots[i]);
    if (self->items[self->count].revents & ZMQ_POLLIN)
        read_signals(self);
}

static void supervisor_init(supervisor_t *self, const cm_service_t *services)
{
    self->slots = calloc(self->count + 1, sizeof *self->slots);
    self->items = calloc(self->count + 1, sizeof *self->items);
    if (!self->slots || !self->items)
        abort();
    for (size_t i = 0; i < self->count; i++) {
        self->slots[i].service = &services[i];
        cm_backoff_init(&self->slots[i].backoff, BACKOFF_BASE_MS, BACKOFF_CAP_MS, cm_random_u64());
    }
    sigset_t set;
    fill_signals(&set);
    self->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (self->signal_fd == -1)
        abort();
}

int cm_supervisor_run(const cm_service_t *services, size_t count,
                      const cm_supervisor_options_t *options)
{
    supervisor_t self = {.count = count, .options = options};
    supervisor_init(&self, services);
    while (self.phase != PHASE_LEAVING) {
        if (!going_down(&self))
            advance_up(&self);
        if (going_down(&self)) /* perhaps only just now */
            advance_down(&self);
        if (self.phase != PHASE_LEAVING)
            wait_and_read(&self);
    }
    for (size_t i = 0; i < count; i++)
        cm_actor_release(&self.slots[i].actor);
    close(self.signal_fd);
    free(self.items);
    free(self.slots);
    return self.exit_code;
}
