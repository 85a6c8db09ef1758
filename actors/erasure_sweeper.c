#include "actors/erasure_sweeper.h"
#include "actors/subworker.h"
#include "runtime/actor.h"
#include "runtime/clock.h"
#include "runtime/log.h"
#include "schema/erasure.h"

#include <string.h>

enum { LOOK_MS = 60000, FIRST_LOOK_MS = 2000, STATEMENT_MS = 60000, LOCK_MS = 1000, POLL_MS = 200 };

typedef struct {
    const cm_subworker_args_t *args;
    zsock_t *pipe;
    cm_reporter_t reporter;
    cm_pg_t *pg;
    cm_metric_t *pending, *oldest, *rewritten, *failed;
    int64_t next_ms; /* monotonic */
    bool running;
} sweeper_t;

static void poll_pipe(sweeper_t *self, int wait_ms)
{
    zmq_pollitem_t item = {zsock_resolve(self->pipe), 0, ZMQ_POLLIN, 0};
    if (zmq_poll(&item, 1, wait_ms) > 0 && item.revents)
        self->running = !cm_actor_stop_requested(self->pipe);
    cm_reporter_tick(&self->reporter);
}

static void tell_failure(sweeper_t *self, const char *tenant, const cm_error_t *err)
{
    cm_metric_add(self->failed, 1);
    cm_log(CM_LOG_WARN, self->args->name, "tables not rewritten, tried again",
           "tenant=\"%s\" class=%s code=\"%s\" cause=\"%s\"", tenant, cm_status_name(err->status),
           err->code, err->message);
}

/* A rewrite that ran out of time held the tables' locks for all of it. */
static void fail(sweeper_t *self, const char *tenant, const cm_error_t *err)
{
    cm_error_t failure = {0};
    tell_failure(self, tenant, err);
    if (strcmp(err->code, "57014") == 0 &&
        cm_erasure_put_off(self->pg, self->args->options->postgres.admin_schema, tenant,
                           &failure) != CM_OK)
        tell_failure(self, tenant, &failure);
}

/* The dead letters last: what a tenant's rewrite erased of them is then among it. */
static void sweep_notes(sweeper_t *self, bool letters)
{
    const cm_options_t *options = self->args->options;
    char tenant[CM_TENANT_ID_MAX] = "";
    cm_erasure_step_t step = CM_ERASURE_REWRITTEN;
    while (self->running && step != CM_ERASURE_NONE) {
        char after[CM_TENANT_ID_MAX];
        cm_error_t err = {0};
        snprintf(after, sizeof after, "%s", tenant);
        cm_erasure_choice_t choice = {.after = letters ? NULL : after,
                                      .only = letters ? "" : NULL,
                                      .older_ms = options->erasure.sweep_minutes * 60000,
                                      .key = options->erasure.key,
                                      .lock_ms = LOCK_MS};
        cm_status_t status = cm_erasure_sweep_next(self->pg, options->postgres.admin_schema,
                                                   &choice, tenant, &step, &err);
        if (status != CM_OK)
            fail(self, tenant, &err);
        else if (step == CM_ERASURE_REWRITTEN)
            cm_log(CM_LOG_INFO, self->args->name, "tables rewritten", "tenant=\"%s\"", tenant);
        cm_metric_add(self->rewritten, status == CM_OK && step == CM_ERASURE_REWRITTEN);
        if (status != CM_OK) /* the next one may be well */
            step = !letters && tenant[0] && cm_pg_is_connected(self->pg) ? CM_ERASURE_REWRITTEN
                                                                         : CM_ERASURE_NONE;
        poll_pipe(self, 0);
    }
}

static void look(sweeper_t *self)
{
    cm_error_t err = {0};
    cm_erasure_pending_t pending = {0};
    cm_status_t status = cm_pg_connect(self->pg, self->pipe, &err);
    if (status == CM_OK)
        status = cm_erasure_pending(self->pg, self->args->options->postgres.admin_schema, &pending,
                                    &err);
    if (status == CM_OK && pending.tenants > 0) {
        sweep_notes(self, false);
        if (cm_pg_is_connected(self->pg))
            sweep_notes(self, true);
        if (!cm_pg_is_connected(self->pg)) /* which has been told */
            return;
        status = cm_erasure_pending(self->pg, self->args->options->postgres.admin_schema, &pending,
                                    &err);
    }
    if (status == CM_OK) {
        cm_metric_set(self->pending, (double)pending.tenants);
        cm_metric_set(self->oldest, (double)pending.oldest_age_ms / 1000.0);
    } else if (status != CM_CANCELLED) {
        tell_failure(self, "", &err);
    }
    cm_pg_close(self->pg);
}

static cm_status_t open_all(sweeper_t *self, cm_error_t *err)
{
    cm_status_t status =
        cm_reporter_open(&self->reporter, self->args->reports, self->args->name, err);
    if (status != CM_OK)
        return status;
    cm_metrics_t *metrics = self->reporter.metrics;
    self->pending = cm_metrics_gauge(metrics, "client_manager_erasures_pending",
                                     "Tenants whose tables are to be rewritten.", "");
    self->oldest = cm_metrics_gauge(metrics, "client_manager_erasures_pending_oldest_seconds",
                                    "Age of the oldest erasure whose bytes may be in files.", "");
    self->rewritten = cm_metrics_counter(metrics, "client_manager_erasure_rewrites_total",
                                         "Tenants whose tables were rewritten.", "");
    self->failed = cm_metrics_counter(metrics, "client_manager_erasure_rewrites_failed_total",
                                      "Rewrites that failed and are tried again.", "");
    cm_pg_options_t options =
        cm_options_pg_as(self->args->options, "client-manager erasure-sweeper", self->args->role);
    options.statement_timeout_ms = STATEMENT_MS;
    options.lock_timeout_ms = LOCK_MS;
    options.on_wait = cm_reporter_beat;
    options.wait_ctx = &self->reporter;
    self->pg = cm_pg_new(&options);
    return CM_OK;
}

void cm_erasure_sweeper_actor(zsock_t *pipe, void *args)
{
    sweeper_t self = {.args = args, .pipe = pipe};
    cm_error_t err = {0};
    zsock_signal(pipe, 0);
    self.running = cm_actor_report(pipe, open_all(&self, &err), &err) == CM_OK;
    if (self.running) {
        cm_reporter_state(&self.reporter, CM_ACTOR_RUNNING, "");
        self.next_ms = cm_clock_mono_ms() + FIRST_LOOK_MS;
    }
    while (self.running) {
        poll_pipe(&self, POLL_MS);
        if (!self.running || cm_clock_mono_ms() < self.next_ms)
            continue;
        look(&self);
        self.next_ms = cm_clock_mono_ms() + LOOK_MS;
    }
    cm_pg_destroy(&self.pg);
    cm_reporter_close(&self.reporter);
}
