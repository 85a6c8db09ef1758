#include "actors/batch_runner.h"
#include "actors/job_keeper.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "runtime/crash.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    SECOND_MS = 1000,
    TRY_AGAIN_MS = 250,
    PUT_OFF_MIN_MS = 5 * SECOND_MS,
    PUT_OFF_MAX_MS = 300 * SECOND_MS,
    PRUNE_RUNS = 10, /* at once: with each go the results of all its tenants */
    PRUNE_ROUNDS = 100,
};

struct cm_batch_runner {
    cm_batch_runner_args_t args;
    char name[CM_LEASE_NAME_MAX + 8];         /* "job/orphan-deletion" */
    char application[CM_LEASE_NAME_MAX + 32]; /* of the connection */
    char keeper_application[CM_LEASE_NAME_MAX + 40];
    cm_pg_t *pg;
    bool registered;
    cm_lease_t lease;
    int64_t asked_ms;        /* monotonic, before the lease was asked for */
    cm_job_keeper_t *keeper; /* while a body works */
};

const char *cm_batch_holder(char holder[CM_LEASE_HOLDER_MAX])
{
    char host[64] = "host";
    gethostname(host, sizeof host - 1);
    snprintf(holder, CM_LEASE_HOLDER_MAX, "%s:%d:%llx", host, (int)getpid(),
             (unsigned long long)cm_random_u64());
    return holder;
}

static void beat(void *ctx)
{
    const cm_batch_runner_t *self = ctx;
    if (self->args.beat)
        self->args.beat(self->args.ctx);
}

cm_batch_runner_t *cm_batch_runner_new(const cm_batch_runner_args_t *args)
{
    cm_batch_runner_t *self = calloc(1, sizeof *self);
    if (!self)
        abort();
    self->args = *args;
    snprintf(self->name, sizeof self->name, "job/%s", args->job->name);
    snprintf(self->application, sizeof self->application, "client-manager %s", self->name);
    snprintf(self->keeper_application, sizeof self->keeper_application, "client-manager %s keeper",
             self->name);
    cm_pg_options_t pg = cm_options_pg_as(args->options, self->application, args->job->role);
    pg.on_wait = beat;
    pg.wait_ctx = self;
    self->pg = cm_pg_new(&pg);
    return self;
}

void cm_batch_runner_destroy(cm_batch_runner_t **self_p)
{
    if (!*self_p)
        return;
    cm_pg_destroy(&(*self_p)->pg);
    free(*self_p);
    *self_p = NULL;
}

void cm_batch_runner_close(cm_batch_runner_t *self)
{
    cm_pg_close(self->pg);
}

static const char *admin_schema(const cm_batch_runner_t *self)
{
    return self->args.options->postgres.admin_schema;
}

static int64_t lease_ms(const cm_batch_runner_t *self)
{
    return self->args.options->scheduler.lease_seconds * SECOND_MS;
}

static bool is_ending(const cm_batch_runner_t *self)
{
    return self->args.ending(self->args.ctx);
}

static void tell(const cm_batch_runner_t *self, const cm_batch_event_t *event)
{
    if (self->args.told)
        self->args.told(self->args.ctx, event);
}

/* A connection without a transaction. */
static cm_status_t connect_idle(cm_batch_runner_t *self, cm_error_t *err)
{
    if (!cm_pg_is_connected(self->pg))
        return cm_pg_connect(self->pg, self->args.interrupt, err);
    if (PQtransactionStatus(cm_pg_raw(self->pg)) != PQTRANS_IDLE)
        cm_pg_rollback(self->pg); /* which closes it on doubt */
    return cm_pg_is_connected(self->pg) ? CM_OK
                                        : cm_pg_connect(self->pg, self->args.interrupt, err);
}

/* by_hand: it says nothing of the schedule, which may be that of other processes. */
static cm_status_t connect_known(cm_batch_runner_t *self, bool by_hand, cm_error_t *err)
{
    const char *job = self->args.job->name;
    cm_status_t status = connect_idle(self, err);
    if (status != CM_OK || self->registered)
        return status;
    status = by_hand ? cm_job_register(self->pg, admin_schema(self), job, err)
                     : cm_job_register_schedule(
                           self->pg, admin_schema(self), job,
                           cm_batch_job_schedule(self->args.job, self->args.options)->cron, err);
    self->registered = status == CM_OK;
    return status;
}

static cm_status_t load(cm_batch_runner_t *self, cm_job_t *ret_job, cm_error_t *err)
{
    cm_error_t why = {0};
    cm_status_t status =
        cm_job_load(self->pg, admin_schema(self), self->args.job->name, ret_job, &why);
    if (status == CM_OK)
        return status;
    if (strcmp(why.code, "not-found") ==
        0) /* a database from before: the next round says so anew */
        self->registered = false;
    if (err)
        *err = why;
    return status;
}

static cm_status_t acquire(cm_batch_runner_t *self, bool *ret_acquired, cm_error_t *err)
{
    self->asked_ms = cm_clock_mono_ms();
    return cm_lease_acquire(self->pg, admin_schema(self), self->args.job->name, self->args.holder,
                            lease_ms(self), ret_acquired, &self->lease, err);
}

/* One that cannot be given back runs out. */
static void release(cm_batch_runner_t *self)
{
    if (connect_idle(self, NULL) == CM_OK)
        cm_lease_release(self->pg, admin_schema(self), &self->lease, NULL);
}

/* ---- one run -------------------------------------------------------------------------------- */

typedef struct {
    cm_batch_runner_t *runner;
    cm_batch_event_t event; /* what is told of it */
    cm_batch_result_t *result;
    cm_batch_run_t run;
} work_t;

static bool is_stopped(void *ctx)
{
    const work_t *self = ctx;
    const cm_job_keeper_t *keeper = self->runner->keeper;
    beat(self->runner);
    return (keeper && (cm_job_keeper_lost(keeper) || cm_job_keeper_cancelled(keeper))) ||
           is_ending(self->runner);
}

static void show(void *ctx, const cm_batch_progress_t *progress)
{
    const work_t *self = ctx;
    beat(self->runner);
    if (self->runner->args.show)
        self->runner->args.show(self->runner->args.ctx, progress);
}

static bool is_lost(const work_t *self)
{
    return self->runner->keeper && cm_job_keeper_lost(self->runner->keeper);
}

/* The state that a run ends in by what its body said; CM_RUN_RUNNING: it is left, and err tells
 * why. */
static cm_run_state_t state_after(const work_t *self, cm_status_t status, cm_error_t *err)
{
    const cm_batch_runner_t *runner = self->runner;
    if (status == CM_OK)
        return self->run.progress.failed ? CM_RUN_PARTIAL : CM_RUN_DONE;
    if (is_lost(self) || strcmp(err->code, "lease-lost") == 0) {
        cm_error_set(err, CM_PERMANENT, "lease-lost",
                     "the lease was lost: another instance may "
                     "have taken the job over");
        return CM_RUN_RUNNING;
    }
    if (status == CM_CANCELLED && runner->keeper && cm_job_keeper_cancelled(runner->keeper)) {
        *err = (cm_error_t){0};
        return CM_RUN_CANCELLED;
    }
    if (status == CM_CANCELLED) {
        cm_error_set(err, CM_CANCELLED, "stopped", "the process ends");
        return CM_RUN_RUNNING;
    }
    return status == CM_UNAVAILABLE || status == CM_TRANSIENT ? CM_RUN_RUNNING : CM_RUN_FAILED;
}

/* Results are those of all attempts; of a tenant that was tried again the last one counts. */
static cm_status_t count_failed(work_t *self, cm_error_t *err)
{
    cm_job_tenant_counts_t counts = {0};
    cm_status_t status = cm_job_run_count(self->runner->pg, admin_schema(self->runner),
                                          self->run.run_id, &counts, err);
    if (status == CM_OK && self->result->state == CM_RUN_DONE && counts.failed)
        self->result->state = CM_RUN_PARTIAL;
    return status;
}

static cm_status_t write_end(work_t *self, cm_error_t *err)
{
    cm_batch_runner_t *runner = self->runner;
    cm_batch_result_t *result = self->result;
    cm_status_t status = connect_idle(runner, err);
    if (status == CM_OK)
        status = count_failed(self, err);
    if (status == CM_OK)
        status =
            cm_job_run_finish(runner->pg, admin_schema(runner), self->run.lease, self->run.run_id,
                              result->state, cm_buffer_text(&result->summary),
                              result->state == CM_RUN_FAILED ? &result->why : NULL, err);
    return status;
}

/* A server that is away is waited for, as long as the lease is ours and the process goes on. When
 * the end cannot be written, the run is left: resumed, it finds nothing to do. */
static void finish(work_t *self)
{
    cm_error_t err = {0};
    cm_status_t status;
    cm_crash_point("job-body-done");
    while (status = write_end(self, &err), status == CM_UNAVAILABLE || status == CM_TRANSIENT) {
        if (is_lost(self) || is_ending(self->runner))
            break;
        beat(self->runner);
        zclock_sleep(TRY_AGAIN_MS);
    }
    cm_crash_point("job-finished");
    if (status == CM_OK)
        return;
    self->result->state = CM_RUN_RUNNING;
    self->result->why = err;
}

/* Orderly ends of processes are no sign that the run kills them. Otherwise the attempt counts. */
static void leave(work_t *self)
{
    cm_batch_runner_t *runner = self->runner;
    if (connect_idle(runner, NULL) == CM_OK)
        cm_job_run_leave(runner->pg, admin_schema(runner), self->run.lease, self->run.run_id, NULL);
}

/* What is no JSON object, or too long, would be refused with the end of the run. */
static void check_summary(cm_buffer_t *summary)
{
    json_t *object = summary->len && summary->len <= CM_JOB_SUMMARY_MAX
                         ? json_loadb(summary->data, summary->len, 0, NULL)
                         : NULL;
    if (!json_is_object(object)) {
        cm_buffer_clear(summary);
        cm_buffer_printf(summary, "{}");
    }
    json_decref(object);
}

/* Old runs go when one has ended; what fails here is tried again after the next. */
static void prune(cm_batch_runner_t *self)
{
    int64_t deleted = PRUNE_RUNS;
    for (int i = 0; i < PRUNE_ROUNDS && deleted == PRUNE_RUNS && !is_ending(self); i++)
        if (connect_idle(self, NULL) != CM_OK ||
            cm_job_prune(self->pg, admin_schema(self),
                         (int)self->args.options->scheduler.keep_runs_days, PRUNE_RUNS, &deleted,
                         NULL) != CM_OK)
            return;
}

static cm_status_t start_keeper(work_t *self, cm_error_t *err)
{
    cm_batch_runner_t *runner = self->runner;
    cm_job_keeper_args_t args = {.options = runner->args.options,
                                 .name = runner->keeper_application,
                                 .role = runner->args.job->role,
                                 .lease = runner->lease,
                                 .duration_ms = lease_ms(runner),
                                 .run_id = self->run.run_id,
                                 .asked_ms = runner->asked_ms};
    return cm_job_keeper_start(&runner->keeper, &args, err);
}

/* run: what is asked for is set. Whatever comes of it is in result; told is the end. */
static void work(cm_batch_runner_t *runner, cm_batch_run_t run, const cm_batch_event_t *event,
                 cm_batch_result_t *result)
{
    work_t self = {.runner = runner, .event = *event, .result = result, .run = run};
    int64_t started_ms = cm_clock_mono_ms();
    cm_error_t err = {0};
    *result = (cm_batch_result_t){.run_id = run.run_id, .resumed = run.resumed};
    self.run.options = runner->args.options;
    self.run.name = runner->name;
    self.run.pg = runner->pg;
    self.run.lease = run.dry_run ? NULL : &runner->lease;
    self.run.summary = &result->summary;
    self.run.stopped = is_stopped;
    self.run.show = show;
    self.run.ctx = &self;
    cm_status_t status = run.dry_run ? CM_OK : start_keeper(&self, &err);
    if (status == CM_OK)
        status = runner->args.job->body(&self.run, &err);
    result->state = state_after(&self, status, &err);
    result->why = status == CM_OK ? (cm_error_t){0} : err;
    check_summary(&result->summary);
    if (run.run_id && result->state != CM_RUN_RUNNING)
        finish(&self);
    else if (run.run_id && result->why.status == CM_CANCELLED)
        leave(&self);
    if (run.run_id && result->state != CM_RUN_RUNNING)
        prune(runner);
    cm_job_keeper_stop(&runner->keeper);
    result->progress = self.run.progress;
    result->took_ms = cm_clock_mono_ms() - started_ms;
    self.event.what = result->state == CM_RUN_RUNNING ? CM_BATCH_LEFT : CM_BATCH_ENDED;
    self.event.state = result->state;
    self.event.took_ms = result->took_ms;
    self.event.progress = &result->progress;
    self.event.why = &result->why;
    tell(runner, &self.event);
}

/* ---- what a decision means ------------------------------------------------------------------ */

static cm_status_t begin(cm_batch_runner_t *self, const cm_schedule_decision_t *decision,
                         cm_batch_result_t *result, bool *ret_ran, cm_error_t *err)
{
    cm_batch_event_t event = {
        .what = CM_BATCH_BEGUN, .kind = decision->kind, .tick_ms = decision->tick_ms, .attempt = 1};
    cm_status_t status =
        cm_job_run_begin(self->pg, admin_schema(self), &self->lease, decision->kind,
                         decision->tick_ms, ret_ran, &event.run_id, err);
    if (status != CM_OK || !*ret_ran) /* a tick that has a run is counted by this */
        return status;
    cm_crash_point("job-begun");
    tell(self, &event);
    work(self, (cm_batch_run_t){.run_id = event.run_id}, &event, result);
    return CM_OK;
}

static cm_status_t resume(cm_batch_runner_t *self, const cm_job_t *job, cm_batch_result_t *result,
                          cm_error_t *err)
{
    cm_batch_event_t event = {.what = CM_BATCH_RESUMED,
                              .run_id = job->unfinished_id,
                              .tick_ms = job->schedule.unfinished_tick_ms,
                              .attempt = job->schedule.unfinished_attempts + 1};
    cm_status_t status =
        cm_job_run_resume(self->pg, admin_schema(self), &self->lease, job->unfinished_id, err);
    if (status != CM_OK)
        return status;
    tell(self, &event);
    work(self, (cm_batch_run_t){.run_id = event.run_id, .resumed = true}, &event, result);
    return CM_OK;
}

/* A run that nobody works at any more. */
static cm_status_t end_left(cm_batch_runner_t *self, const cm_job_t *job, cm_run_state_t state,
                            cm_error_t *err)
{
    cm_error_t why = {0};
    if (state == CM_RUN_FAILED)
        cm_error_set(&why, CM_PERMANENT, "attempts", "begun or resumed %d times without an end",
                     job->schedule.unfinished_attempts);
    cm_status_t status = cm_job_run_resume(self->pg, admin_schema(self), &self->lease,
                                           job->unfinished_id, err); /* under our term */
    if (status == CM_OK)
        status = cm_job_run_finish(self->pg, admin_schema(self), &self->lease, job->unfinished_id,
                                   state, NULL, state == CM_RUN_FAILED ? &why : NULL, err);
    if (status == CM_OK)
        tell(self, &(cm_batch_event_t){.what = CM_BATCH_ENDED,
                                       .run_id = job->unfinished_id,
                                       .tick_ms = job->schedule.unfinished_tick_ms,
                                       .attempt = job->schedule.unfinished_attempts,
                                       .state = state,
                                       .why = &why});
    return status;
}

static cm_status_t pass(cm_batch_runner_t *self, const cm_schedule_decision_t *decision,
                        cm_error_t *err)
{
    cm_status_t status =
        cm_job_pass(self->pg, admin_schema(self), &self->lease, decision->first_tick_ms,
                    decision->tick_ms, decision->ticks, err);
    if (status == CM_OK)
        tell(self, &(cm_batch_event_t){.what = CM_BATCH_PASSED,
                                       .tick_ms = decision->tick_ms,
                                       .ticks = decision->ticks});
    return status;
}

static cm_status_t count_anew(cm_batch_runner_t *self, const cm_schedule_decision_t *decision,
                              cm_error_t *err)
{
    cm_status_t status =
        cm_job_count_from(self->pg, admin_schema(self), &self->lease, decision->tick_ms, err);
    if (status == CM_OK)
        tell(self, &(cm_batch_event_t){.what = CM_BATCH_RESET, .tick_ms = decision->tick_ms});
    return status;
}

/* *ret_ran: a body was called, and *result tells of it. */
static cm_status_t act(cm_batch_runner_t *self, const cm_job_t *job,
                       const cm_schedule_decision_t *decision, cm_batch_result_t *result,
                       bool *ret_ran, cm_error_t *err)
{
    *ret_ran = decision->action == CM_SCHEDULE_RESUME;
    switch (decision->action) {
    case CM_SCHEDULE_START:
        return begin(self, decision, result, ret_ran, err);
    case CM_SCHEDULE_RESUME:
        return resume(self, job, result, err);
    case CM_SCHEDULE_CANCEL:
        return end_left(self, job, CM_RUN_CANCELLED, err);
    case CM_SCHEDULE_GIVE_UP:
        return end_left(self, job, CM_RUN_FAILED, err);
    case CM_SCHEDULE_PASS:
        return pass(self, decision, err);
    case CM_SCHEDULE_RESET:
        return count_anew(self, decision, err);
    case CM_SCHEDULE_WAIT:
        break;
    }
    return CM_OK;
}

/* ---- by schedule ---------------------------------------------------------------------------- */

static int64_t poll_ms(const cm_batch_runner_t *self)
{
    return self->args.options->scheduler.poll_seconds * SECOND_MS;
}

/* Nobody can take the job while its lease lasts, so all instances wait alike. */
static void put_off(cm_batch_runner_t *self, int attempts)
{
    int64_t wait_ms = PUT_OFF_MIN_MS;
    for (int i = 1; i < attempts && wait_ms < PUT_OFF_MAX_MS; i++)
        wait_ms *= 2;
    if (connect_idle(self, NULL) == CM_OK)
        cm_lease_renew(self->pg, admin_schema(self), &self->lease,
                       wait_ms < PUT_OFF_MAX_MS ? wait_ms : PUT_OFF_MAX_MS, NULL);
}

/* One decision under the lease. *ret_more: there may be another. *ret_keep: do not give it back. */
static cm_status_t step(cm_batch_runner_t *self, cm_job_t *job, cm_schedule_decision_t *decision,
                        bool *ret_more, bool *ret_keep, cm_error_t *err)
{
    cm_batch_result_t result = {0};
    bool ran = false;
    *ret_more = false;
    cm_status_t status = connect_idle(self, err);
    if (status == CM_OK)
        status = load(self, job, err);
    if (status != CM_OK)
        return status;
    cm_job_schedule_decide(self->args.schedule, &job->schedule, decision);
    if (decision->action == CM_SCHEDULE_WAIT)
        return CM_OK;
    status = act(self, job, decision, &result, &ran, err);
    bool left = ran && status == CM_OK && result.state == CM_RUN_RUNNING;
    if (left && !is_ending(self) &&
        (result.why.status == CM_UNAVAILABLE || result.why.status == CM_TRANSIENT)) {
        put_off(self, job->schedule.unfinished_attempts + 1);
        *ret_keep = true;
    }
    *ret_more = status == CM_OK && !left;
    cm_buffer_destroy(&result.summary);
    return status;
}

static int64_t until(const cm_job_t *job, const cm_schedule_decision_t *decision, int64_t most_ms)
{
    int64_t wait_ms = decision->wake_ms - job->schedule.now_ms;
    return decision->action != CM_SCHEDULE_WAIT || wait_ms > most_ms ? most_ms
           : wait_ms > 0                                             ? wait_ms
                                                                     : 0;
}

cm_status_t cm_batch_runner_round(cm_batch_runner_t *self, int64_t *ret_wait_ms, cm_job_t *ret_job,
                                  cm_error_t *err)
{
    cm_schedule_decision_t decision;
    bool acquired = false, more = true, keep = false;
    cm_status_t status = connect_known(self, false, err);
    if (status == CM_OK)
        status = load(self, ret_job, err);
    if (status != CM_OK)
        return status;
    cm_job_schedule_decide(self->args.schedule, &ret_job->schedule, &decision);
    if (decision.action != CM_SCHEDULE_WAIT && !is_ending(self)) {
        status = acquire(self, &acquired, err);
        while (status == CM_OK && acquired && more && !is_ending(self))
            status = step(self, ret_job, &decision, &more, &keep, err);
        if (acquired && (!keep || is_ending(self))) /* or it ends while it puts the run off */
            release(self);
    }
    if (status == CM_OK)
        *ret_wait_ms = until(ret_job, &decision, poll_ms(self));
    return status;
}

/* ---- by hand -------------------------------------------------------------------------------- */

static cm_status_t lease_held(const cm_lease_t *lease, cm_error_t *err)
{
    char until_text[CM_TIME_TEXT_MAX];
    return cm_error_set(err, CM_TRANSIENT, "lease-held",
                        "%s is at work at %s, whose lease lasts "
                        "until %s unless it is renewed",
                        lease->name, lease->holder, cm_clock_format(lease->expires_ms, until_text));
}

/* Under the lease: what is left of an earlier run first. */
static cm_status_t run_whole(cm_batch_runner_t *self, const char *by, cm_batch_result_t *result,
                             cm_error_t *err)
{
    bool ran = false;
    cm_status_t status = CM_OK;
    while (status == CM_OK && !ran) {
        cm_job_t job;
        cm_schedule_decision_t decision = {.action = CM_SCHEDULE_START, .kind = CM_RUN_REQUESTED};
        status = load(self, &job, err);
        if (status != CM_OK)
            return status;
        job.schedule.paused = false;
        if (job.unfinished_id)
            cm_job_schedule_decide(self->args.schedule, &job.schedule, &decision);
        else
            status = cm_job_request(self->pg, admin_schema(self), self->args.job->name, by,
                                    &decision.tick_ms, err);
        if (status == CM_OK)
            status = act(self, &job, &decision, result, &ran, err);
    }
    return status;
}

cm_status_t cm_batch_runner_once(cm_batch_runner_t *self, const cm_batch_request_t *request,
                                 cm_batch_result_t *ret_result, cm_error_t *err)
{
    bool acquired = false;
    cm_batch_run_t alone = {.tenant = request->tenant, .dry_run = request->dry_run};
    cm_batch_event_t event = {.what = CM_BATCH_BEGUN, .kind = CM_RUN_REQUESTED, .attempt = 1};
    cm_status_t status =
        request->dry_run ? connect_idle(self, err) : connect_known(self, true, err);
    if (status == CM_OK && request->dry_run) {
        work(self, alone, &event, ret_result);
        return CM_OK;
    }
    if (status == CM_OK)
        status = acquire(self, &acquired, err);
    if (status != CM_OK)
        return status;
    if (!acquired)
        return lease_held(&self->lease, err);
    if (request->tenant)
        work(self, alone, &event, ret_result);
    else
        status = run_whole(self, request->by, ret_result, err);
    release(self);
    return status;
}
