#include "actors/scheduler.h"
#include "actors/reporter.h"
#include "runtime/actor.h"
#include "runtime/backoff.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "runtime/log.h"

#include <inttypes.h>
#include <string.h>

enum { POLL_PIPE_MS = 200, AWAY_MIN_MS = 500, AWAY_MAX_MS = 10000 };

typedef struct {
    const cm_scheduler_args_t *args;
    zsock_t *pipe;
    cm_reporter_t reporter;
    cm_batch_runner_t *runner;
    cm_backoff_t backoff; /* while the database is away */
    int64_t next_ms;      /* monotonic: when to look again */
    bool running, draining, drained_told;
    cm_status_t told; /* the trouble that was logged last; CM_OK: none */
    struct {
        cm_metric_t *working, *paused, *next, *last_success, *last_took, *done, *failed, *rows;
        cm_metric_t *left, *ended[CM_RUN_STATES];
    } metrics;
} scheduler_t;

static void poll_pipe(scheduler_t *self, long wait_ms)
{
    zmq_pollitem_t item = {zsock_resolve(self->pipe), 0, ZMQ_POLLIN, 0};
    if (zmq_poll(&item, 1, wait_ms) <= 0)
        return;
    char *word = zstr_recv(self->pipe);
    if (!word || strcmp(word, "$TERM") == 0)
        self->running = false;
    else if (strcmp(word, "DRAIN") == 0)
        self->draining = true;
    zstr_free(&word);
}

/* ---- what the runner asks and tells --------------------------------------------------------- */

static bool is_ending(void *ctx)
{
    scheduler_t *self = ctx;
    poll_pipe(self, 0);
    return self->draining || !self->running;
}

static void beat(void *ctx)
{
    cm_reporter_tick(&((scheduler_t *)ctx)->reporter);
}

static void show(void *ctx, const cm_batch_progress_t *progress)
{
    scheduler_t *self = ctx;
    cm_metric_set(self->metrics.done, (double)progress->done);
    cm_metric_set(self->metrics.failed, (double)progress->failed);
    cm_metric_set(self->metrics.rows, (double)progress->rows);
    cm_reporter_tick(&self->reporter);
}

static void on_begin(scheduler_t *self, const cm_batch_event_t *event)
{
    char tick[CM_TIME_TEXT_MAX];
    show(self, &(cm_batch_progress_t){0});
    cm_metric_set(self->metrics.working, 1);
    cm_reporter_state(&self->reporter, CM_ACTOR_RUNNING, "a run is under way");
    cm_log(CM_LOG_INFO, self->args->name,
           event->what == CM_BATCH_RESUMED ? "run resumed" : "run begun",
           "run=%" PRId64 " tick=\"%s\" attempt=%d", event->run_id,
           cm_clock_format(event->tick_ms, tick), event->attempt);
}

static void on_end(scheduler_t *self, const cm_batch_event_t *event)
{
    static const cm_batch_progress_t nothing = {0};
    const cm_batch_progress_t *progress = event->progress ? event->progress : &nothing;
    bool left = event->what == CM_BATCH_LEFT;
    bool bad = event->why->status != CM_OK && event->why->status != CM_CANCELLED;
    cm_metric_set(self->metrics.working, 0);
    cm_metric_add(left ? self->metrics.left : self->metrics.ended[event->state], 1);
    cm_reporter_state(&self->reporter, CM_ACTOR_RUNNING, "");
    cm_log(bad || progress->failed ? CM_LOG_WARN : CM_LOG_INFO, self->args->name,
           left ? "run left unfinished" : "run ended",
           "run=%" PRId64 " state=%s seconds=%.1f tenants=%" PRIu64 " failed=%" PRIu64
           " rows=%" PRIu64 " code=\"%s\" cause=\"%s\"",
           event->run_id, left ? "unfinished" : cm_run_state_name(event->state),
           (double)event->took_ms / 1000, progress->done, progress->failed, progress->rows,
           event->why->code, event->why->message);
}

static void on_event(void *ctx, const cm_batch_event_t *event)
{
    scheduler_t *self = ctx;
    char tick[CM_TIME_TEXT_MAX];
    switch (event->what) {
    case CM_BATCH_BEGUN:
    case CM_BATCH_RESUMED:
        on_begin(self, event);
        break;
    case CM_BATCH_ENDED:
    case CM_BATCH_LEFT:
        on_end(self, event);
        break;
    case CM_BATCH_PASSED:
        cm_metric_add(self->metrics.ended[CM_RUN_PASSED], (uint64_t)event->ticks);
        cm_log(CM_LOG_WARN, self->args->name, "missed runs are passed over", "ticks=%d last=\"%s\"",
               event->ticks, cm_clock_format(event->tick_ms, tick));
        break;
    case CM_BATCH_RESET:
        cm_log(CM_LOG_WARN, self->args->name, "the last run lies ahead of the database's clock",
               "counting_from=\"%s\"", cm_clock_format(event->tick_ms, tick));
        break;
    }
}

/* ---- looking -------------------------------------------------------------------------------- */

static void set_metrics(scheduler_t *self, const cm_job_t *job)
{
    int64_t next_ms = cm_job_schedule_next_ms(&self->args->schedule, &job->schedule);
    bool never = next_ms == CM_SCHEDULE_NEVER || job->schedule.paused;
    cm_metric_set(self->metrics.paused, job->schedule.paused);
    cm_metric_set(self->metrics.next, never ? 0 : (double)next_ms / 1000);
    cm_metric_set(self->metrics.last_success, (double)job->last_done_ms / 1000);
    cm_metric_set(self->metrics.last_took, (double)job->last_took_ms / 1000);
}

/* Each kind of trouble once, and its end. */
static void tell_trouble(scheduler_t *self, cm_status_t status, const cm_error_t *err)
{
    if (status != self->told && status != CM_OK)
        cm_log(CM_LOG_WARN, self->args->name, "job cannot be looked at, tried again",
               "class=%s code=\"%s\" cause=\"%s\"", cm_status_name(status), err->code,
               err->message);
    else if (status != self->told)
        cm_log(CM_LOG_INFO, self->args->name, "job can be looked at again", NULL);
    self->told = status;
    cm_actor_state_t state = status == CM_UNAVAILABLE     ? CM_ACTOR_PAUSED
                             : status == CM_MISCONFIGURED ? CM_ACTOR_STOPPED
                                                          : CM_ACTOR_RUNNING;
    cm_reporter_state(&self->reporter, state, status == CM_OK ? "" : err->message);
}

static void look(scheduler_t *self)
{
    cm_error_t err = {0};
    cm_job_t job = {0};
    int64_t wait_ms = 0;
    cm_status_t status = cm_batch_runner_round(self->runner, &wait_ms, &job, &err);
    if (status == CM_CANCELLED) /* the pipe has something to say */
        return;
    if (status == CM_OK) {
        set_metrics(self, &job);
        cm_backoff_reset(&self->backoff);
    } else {
        wait_ms = cm_backoff_next_ms(&self->backoff);
    }
    tell_trouble(self, status, &err);
    cm_batch_runner_close(self->runner);
    self->next_ms = cm_clock_mono_ms() + wait_ms;
}

static void step(scheduler_t *self)
{
    int64_t left_ms = self->next_ms - cm_clock_mono_ms();
    if (self->draining && !self->drained_told) {
        self->drained_told = true;
        zstr_send(self->pipe, "DRAINED");
    }
    if (self->draining || left_ms > POLL_PIPE_MS)
        left_ms = POLL_PIPE_MS;
    poll_pipe(self, left_ms > 0 ? left_ms : 0);
    cm_reporter_tick(&self->reporter);
    if (self->running && !self->draining && cm_clock_mono_ms() >= self->next_ms)
        look(self);
}

/* ---- opening -------------------------------------------------------------------------------- */

static cm_metric_t *gauge(scheduler_t *self, const char *labels, const char *name, const char *help)
{
    return cm_metrics_gauge(self->reporter.metrics, name, help, labels);
}

static void open_metrics(scheduler_t *self)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t text = {0};
    cm_metrics_label(&text, "job", self->args->job->name);
    const char *job = cm_buffer_text(&text);
    self->metrics.working =
        gauge(self, job, "client_manager_job_running", "Whether this instance runs the job now.");
    self->metrics.paused =
        gauge(self, job, "client_manager_job_paused", "Whether someone paused the job.");
    self->metrics.next = gauge(self, job, "client_manager_job_next_run_timestamp_seconds",
                               "When the job is due next; 0: not by schedule.");
    self->metrics.last_success =
        gauge(self, job, "client_manager_job_last_success_timestamp_seconds",
              "When a run of the job last ended with every tenant done, by any instance.");
    self->metrics.last_took =
        gauge(self, job, "client_manager_job_last_duration_seconds",
              "How long the last run of the job took that ended, by any instance.");
    self->metrics.done = gauge(self, job, "client_manager_job_run_tenants",
                               "Tenants dealt with in the run under way here, or the last one.");
    self->metrics.failed =
        gauge(self, job, "client_manager_job_run_tenants_failed", "Those of them that failed.");
    self->metrics.rows = gauge(self, job, "client_manager_job_run_rows",
                               "What that run has counted: contacts, devices, tenants.");
    self->metrics.left =
        cm_metrics_counter(self->reporter.metrics, "client_manager_job_runs_left_total",
                           "Runs that stopped here before their end.", job);
    for (int state = CM_RUN_DONE; state < CM_RUN_STATES; state++) {
        cm_buffer_t labels = {0};
        cm_buffer_append(&labels, job, strlen(job));
        cm_metrics_label(&labels, "state", cm_run_state_name((cm_run_state_t)state));
        self->metrics.ended[state] =
            cm_metrics_counter(self->reporter.metrics, "client_manager_job_runs_total",
                               "Runs that ended here; passed: that were missed and not made up.",
                               cm_buffer_text(&labels));
        cm_buffer_destroy(&labels);
    }
}

static cm_status_t open_all(scheduler_t *self, cm_error_t *err)
{
    const cm_scheduler_args_t *args = self->args;
    cm_status_t status = cm_reporter_open(&self->reporter, args->reports, args->name, err);
    if (status != CM_OK)
        return status;
    open_metrics(self);
    cm_backoff_init(&self->backoff, AWAY_MIN_MS, AWAY_MAX_MS, cm_random_u64());
    self->runner = cm_batch_runner_new(&(cm_batch_runner_args_t){.options = args->options,
                                                                 .job = args->job,
                                                                 .schedule = &args->schedule,
                                                                 .holder = args->holder,
                                                                 .interrupt = self->pipe,
                                                                 .ending = is_ending,
                                                                 .show = show,
                                                                 .told = on_event,
                                                                 .beat = beat,
                                                                 .ctx = self});
    return CM_OK;
}

void cm_scheduler_actor(zsock_t *pipe, void *args)
{
    scheduler_t self = {.args = args, .pipe = pipe};
    cm_error_t err = {0};
    zsock_signal(pipe, 0);
    self.running = cm_actor_report(pipe, open_all(&self, &err), &err) == CM_OK;
    if (self.running)
        cm_reporter_state(&self.reporter, CM_ACTOR_RUNNING, "");
    while (self.running)
        step(&self);
    cm_batch_runner_destroy(&self.runner);
    cm_reporter_close(&self.reporter);
}
