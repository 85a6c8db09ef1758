#include "actors/job_keeper.h"
#include "runtime/actor.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "schema/job_store.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
    LOOK_MS = 2000, /* for a cancel, at the most */
    STATEMENT_MIN_MS = 500,
    START_SLACK_MS = 5000,
    STOP_MS = 60000, /* a statement that waits is over long before */
};

/* The counters cross threads, nothing else does. The job reads them at each of its steps, so they
 * are no messages. */
struct cm_job_keeper {
    cm_job_keeper_args_t args;
    zactor_t *actor;
    atomic_bool lost, cancelled;
    atomic_llong holds_until_ms; /* monotonic */
};

typedef struct {
    cm_job_keeper_t *shared;
    cm_lease_t lease;
    cm_pg_t *pg;
    int64_t renew_ms, look_ms; /* monotonic: when it is time */
} keeper_t;

static int64_t third(const keeper_t *self)
{
    return self->shared->args.duration_ms / 3;
}

/* A failure leaves the lease as it was; the next try is soon. */
static cm_status_t renew(keeper_t *self, cm_error_t *err)
{
    const cm_job_keeper_args_t *args = &self->shared->args;
    int64_t asked_ms = cm_clock_mono_ms();
    cm_status_t status = cm_lease_renew(self->pg, args->options->postgres.admin_schema,
                                        &self->lease, args->duration_ms, err);
    if (status == CM_OK) {
        atomic_store(&self->shared->holds_until_ms, asked_ms + args->duration_ms);
        self->renew_ms = asked_ms + third(self);
    } else if (strcmp(err->code, "lease-lost") == 0) {
        atomic_store(&self->shared->lost, true);
    }
    return status;
}

static void look_for_cancel(keeper_t *self)
{
    const cm_job_keeper_args_t *args = &self->shared->args;
    bool cancelled = false;
    if (args->run_id && cm_job_run_cancelled(self->pg, args->options->postgres.admin_schema,
                                             args->run_id, &cancelled, NULL) == CM_OK)
        atomic_store(&self->shared->cancelled, cancelled);
}

/* Not told to anybody: what matters of it is whether the lease is lost, and that the job tells. */
static void keep(keeper_t *self, zsock_t *pipe)
{
    int64_t step_ms = third(self) < LOOK_MS ? third(self) : LOOK_MS;
    cm_error_t err = {0};
    self->look_ms = cm_clock_mono_ms() + step_ms;
    if (!cm_pg_is_connected(self->pg) && cm_pg_connect(self->pg, pipe, &err) != CM_OK)
        return;
    if (cm_clock_mono_ms() >= self->renew_ms && renew(self, &err) != CM_OK)
        return;
    look_for_cancel(self);
}

static cm_status_t open_all(keeper_t *self, zsock_t *pipe, cm_error_t *err)
{
    const cm_job_keeper_args_t *args = &self->shared->args;
    cm_pg_options_t pg = cm_options_pg_as(args->options, args->name, args->role);
    int64_t statement_ms = third(self) > STATEMENT_MIN_MS ? third(self) : STATEMENT_MIN_MS;
    if (!pg.statement_timeout_ms || statement_ms < pg.statement_timeout_ms)
        pg.statement_timeout_ms = (int)statement_ms;
    self->lease = args->lease;
    self->pg = cm_pg_new(&pg);
    cm_status_t status = cm_pg_connect(self->pg, pipe, err);
    return status == CM_OK ? renew(self, err) : status;
}

static void keeper_actor(zsock_t *pipe, void *args)
{
    keeper_t self = {.shared = args};
    cm_error_t err = {0};
    zsock_signal(pipe, 0);
    bool running = cm_actor_report(pipe, open_all(&self, pipe, &err), &err) == CM_OK;
    while (running) {
        int64_t wait_ms = self.look_ms - cm_clock_mono_ms();
        zmq_pollitem_t item = {zsock_resolve(pipe), 0, ZMQ_POLLIN, 0};
        if (zmq_poll(&item, 1, wait_ms > 0 ? wait_ms : 0) > 0)
            running = !cm_actor_stop_requested(pipe);
        else if (!atomic_load(&self.shared->lost))
            keep(&self, pipe);
        else
            self.look_ms = cm_clock_mono_ms() + LOOK_MS;
    }
    cm_pg_destroy(&self.pg);
}

cm_status_t cm_job_keeper_start(cm_job_keeper_t **ret_keeper, const cm_job_keeper_args_t *args,
                                cm_error_t *err)
{
    cm_job_keeper_t *self = calloc(1, sizeof *self);
    if (!self)
        abort();
    self->args = *args;
    atomic_init(&self->holds_until_ms, args->asked_ms + args->duration_ms);
    int timeout_ms = (int)(args->options->postgres.connect_timeout_ms +
                           args->options->postgres.statement_timeout_ms) +
                     START_SLACK_MS;
    cm_status_t status = cm_actor_start(&self->actor, keeper_actor, self, timeout_ms, err);
    if (status == CM_OK)
        *ret_keeper = self;
    else if (strcmp(err->code, "timeout") != 0) /* then the thread may live, and reads it */
        free(self);
    return status;
}

bool cm_job_keeper_lost(const cm_job_keeper_t *self)
{
    return atomic_load(&self->lost) || cm_clock_mono_ms() >= atomic_load(&self->holds_until_ms);
}

bool cm_job_keeper_cancelled(const cm_job_keeper_t *self)
{
    return atomic_load(&self->cancelled);
}

void cm_job_keeper_stop(cm_job_keeper_t **self_p)
{
    if (!*self_p)
        return;
    if (cm_actor_stop(&(*self_p)->actor, STOP_MS))
        free(*self_p); /* else its thread still reads it */
    *self_p = NULL;
}
