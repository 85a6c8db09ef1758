/* job run: a batch job by hand or from an external scheduler, beside the service or without one. */
#include "actors/command_job.h"
#include "actors/batch_runner.h"
#include "actors/progress.h"
#include "actors/table.h"
#include "proto/tenant_id.h"
#include "runtime/cleanup.h"
#include "runtime/supervisor.h"
#include "schema/migration.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { WAIT_STEP_MS = 500, MORE_MAX = 96, SIGNAL_BASE = 128 };

const cm_batch_job_t *cm_command_job_find(const cm_invocation_t *invocation, const char *name)
{
    const cm_batch_job_t *job = cm_batch_job_find(name);
    if (job)
        return job;
    fprintf(stderr, "client-manager %s: there is no job \"%s\"; give one of\n",
            invocation->command->name, name);
    for (size_t i = 0; i < cm_batch_job_count; i++)
        fprintf(stderr, "  %-18s %s\n", cm_batch_jobs[i].name, cm_batch_jobs[i].what);
    return NULL;
}

typedef struct {
    const cm_invocation_t *invocation;
    const cm_batch_job_t *job;
    char tenant[CM_TENANT_ID_MAX];
    char by[CM_OPERATOR_MAX];
    char holder[CM_LEASE_HOLDER_MAX];
    cm_job_schedule_t schedule;
    cm_batch_runner_t *runner;
    cm_batch_result_t result;
    cm_progress_t progress;
    bool told_wait;
    int stopped; /* by which signal; 0: not */
} job_run_t;

/* ---- while it works ------------------------------------------------------------------------- */

/* A signal that came within ms stops us; one more ends us where we stand, as a crash would. */
static bool stopped_within(job_run_t *self, int ms)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    struct timespec time = {ms / 1000, (ms % 1000) * 1000000L};
    int number = self->stopped && ms ? 0 : sigtimedwait(&set, NULL, &time);
    if (number <= 0)
        return self->stopped;
    if (self->stopped)
        _exit(SIGNAL_BASE + number);
    self->stopped = number;
    cm_progress_say(&self->progress, "stopping at the next step; a second signal ends it at once");
    return true;
}

static bool is_ending(void *ctx)
{
    return stopped_within(ctx, 0);
}

static const char *more_of(const job_run_t *self, const cm_batch_progress_t *progress,
                           char more[MORE_MAX])
{
    int used = snprintf(more, MORE_MAX, "%" PRIu64 " %s", progress->rows, self->job->rows);
    if (progress->failed && used < MORE_MAX)
        snprintf(more + used, (size_t)(MORE_MAX - used), ", %" PRIu64 " failed", progress->failed);
    return more;
}

static void show(void *ctx, const cm_batch_progress_t *progress)
{
    job_run_t *self = ctx;
    char more[MORE_MAX];
    cm_progress_update(&self->progress, progress->done, progress->total,
                       more_of(self, progress, more));
}

static void on_event(void *ctx, const cm_batch_event_t *event)
{
    job_run_t *self = ctx;
    char more[MORE_MAX];
    if (event->what == CM_BATCH_BEGUN)
        cm_progress_say(&self->progress, "run %" PRId64 " of %s begun", event->run_id,
                        self->job->name);
    else if (event->what == CM_BATCH_RESUMED)
        cm_progress_say(&self->progress, "run %" PRId64 " of %s resumed, attempt %d", event->run_id,
                        self->job->name, event->attempt);
    else if (event->what == CM_BATCH_ENDED && !event->progress) /* one that was left */
        cm_progress_say(&self->progress, "run %" PRId64 " of %s was left unfinished: it is %s now",
                        event->run_id, self->job->name, cm_run_state_name(event->state));
    else if (event->progress)
        cm_progress_end(&self->progress, event->progress->done, event->progress->total,
                        more_of(self, event->progress, more));
}

/* ---- what became of it ---------------------------------------------------------------------- */

static const char *state_of(const job_run_t *self)
{
    return self->result.state == CM_RUN_RUNNING ? "unfinished"
                                                : cm_run_state_name(self->result.state);
}

static void print_text(const char *name, const char *text)
{
    printf(", \"%s\": ", name);
    cm_json_print_text(text, strlen(text));
}

static void print_json(job_run_t *self)
{
    cm_batch_result_t *result = &self->result;
    printf("{\"job\": \"%s\", \"run\": ", self->job->name);
    if (result->run_id)
        printf("%" PRId64, result->run_id);
    else
        printf("null");
    printf(", \"state\": \"%s\", \"resumed\": %s, \"dry_run\": %s", state_of(self),
           result->resumed ? "true" : "false",
           cm_flag_given(self->invocation, "dry-run") ? "true" : "false");
    if (*self->tenant)
        print_text("tenant", self->tenant);
    printf(", \"seconds\": %.3f, \"tenants\": {\"total\": %" PRIu64 ", \"done\": %" PRIu64
           ", \"failed\": %" PRIu64 "}, \"rows\": %" PRIu64,
           (double)result->took_ms / 1000, result->progress.total, result->progress.done,
           result->progress.failed, result->progress.rows);
    if (result->why.status != CM_OK) {
        print_text("error_code", result->why.code);
        print_text("error_message", result->why.message);
    }
    printf(", \"summary\": %s}\n", cm_buffer_text(&result->summary));
}

static void print_table(const job_run_t *self)
{
    const cm_column_t columns[] = {{"job", false},    {"run", true},    {"state", false},
                                   {"tenants", true}, {"failed", true}, {self->job->rows, true},
                                   {"seconds", true}};
    const cm_batch_result_t *result = &self->result;
    cm_table_t table;
    cm_table_start(&table, columns, CM_LENGTH(columns), false);
    cm_table_cell(&table, self->job->name);
    if (result->run_id)
        cm_table_cell_i64(&table, result->run_id);
    else
        cm_table_cell(&table, "");
    cm_table_cell(&table, state_of(self));
    cm_table_cell_i64(&table, (int64_t)result->progress.done);
    cm_table_cell_i64(&table, (int64_t)result->progress.failed);
    cm_table_cell_i64(&table, (int64_t)result->progress.rows);
    cm_table_cell_i64(&table, result->took_ms / 1000);
    cm_table_end(&table);
}

/* As the README tells it: 75 is for a job that is at work elsewhere. */
static int exit_code_left(const job_run_t *self, int code)
{
    cm_status_t status = self->result.why.status;
    if (self->stopped)
        return SIGNAL_BASE + self->stopped;
    return status == CM_UNAVAILABLE || status == CM_TRANSIENT ? CM_EXIT_UNAVAILABLE : code;
}

static int exit_code(const job_run_t *self)
{
    const cm_batch_result_t *result = &self->result;
    int code = result->why.status == CM_OK || result->why.status == CM_CANCELLED
                   ? CM_EXIT_FAILED
                   : cm_command_fail(self->invocation, &result->why);
    switch (result->state) {
    case CM_RUN_DONE:
        return CM_EXIT_OK;
    case CM_RUN_PARTIAL:
        if (result->run_id)
            fprintf(stderr, "which tenants failed: client-manager job show %" PRId64 "\n",
                    result->run_id);
        return CM_EXIT_PARTIAL;
    case CM_RUN_RUNNING:
        if (result->run_id)
            fprintf(stderr,
                    "run %" PRId64 " is left unfinished; the next `job run %s` or a scheduler "
                    "goes on with it, `job cancel %" PRId64 "` ends it\n",
                    result->run_id, self->job->name, result->run_id);
        return exit_code_left(self, code);
    default:
        return CM_EXIT_FAILED;
    }
}

/* ---- the command ---------------------------------------------------------------------------- */

static int detach(job_run_t *self, cm_pg_t *pg)
{
    const char *admin = self->invocation->options->postgres.admin_schema;
    static const cm_column_t columns[] = {{"job", false}, {"requested_at", false}};
    cm_error_t err = {0};
    int64_t requested_ms = 0;
    cm_status_t status = cm_job_register(pg, admin, self->job->name, &err);
    if (status == CM_OK)
        status = cm_job_request(pg, admin, self->job->name, self->by, &requested_ms, &err);
    if (status != CM_OK)
        return cm_command_fail(self->invocation, &err);
    cm_table_t table;
    cm_table_start(&table, columns, CM_LENGTH(columns), self->invocation->json);
    cm_table_cell(&table, self->job->name);
    cm_table_cell_time(&table, requested_ms);
    cm_table_end(&table);
    fprintf(stderr, "a scheduler begins it within %" PRId64 " s of its next look; see `job list`\n",
            self->invocation->options->scheduler.poll_seconds);
    return CM_EXIT_OK;
}

/* --wait: as long as another one works at it. */
static cm_status_t run_or_wait(job_run_t *self, const cm_batch_request_t *request, cm_error_t *err)
{
    bool waits = cm_flag_given(self->invocation, "wait");
    for (;;) {
        cm_status_t status = cm_batch_runner_once(self->runner, request, &self->result, err);
        if (!waits || status != CM_TRANSIENT)
            return status;
        if (!self->told_wait)
            cm_progress_say(&self->progress, "%s; waiting", err->message);
        self->told_wait = true;
        if (stopped_within(self, WAIT_STEP_MS))
            return cm_error_set(err, CM_CANCELLED, "stopped", "stopped while waiting");
    }
}

static int run_here(job_run_t *self)
{
    const cm_options_t *options = self->invocation->options;
    cm_batch_request_t request = {.by = self->by,
                                  .tenant = *self->tenant ? self->tenant : NULL,
                                  .dry_run = cm_flag_given(self->invocation, "dry-run")};
    cm_error_t err = {0};
    if (cm_job_schedule_open(&self->schedule, self->job->name,
                             cm_batch_job_schedule(self->job, options), &err) != CM_OK)
        return cm_command_fail(self->invocation, &err);
    cm_progress_start(&self->progress, "tenants", self->invocation->terminal);
    self->runner =
        cm_batch_runner_new(&(cm_batch_runner_args_t){.options = options,
                                                      .job = self->job,
                                                      .schedule = &self->schedule,
                                                      .holder = cm_batch_holder(self->holder),
                                                      .ending = is_ending,
                                                      .show = show,
                                                      .told = on_event,
                                                      .ctx = self});
    cm_status_t status = run_or_wait(self, &request, &err);
    if (status == CM_CANCELLED && self->stopped)
        return SIGNAL_BASE + self->stopped;
    if (status != CM_OK)
        return cm_command_fail(self->invocation, &err);
    if (self->invocation->json)
        print_json(self);
    else
        print_table(self);
    fflush(stdout);
    return exit_code(self);
}

static bool check_flags(job_run_t *self)
{
    const cm_invocation_t *invocation = self->invocation;
    const char *tenant = cm_flag_text(invocation, "tenant");
    const char *wrong = NULL;
    cm_error_t err = {0};
    bool dry = cm_flag_given(invocation, "dry-run");
    if (cm_flag_given(invocation, "detach") && (dry || tenant || cm_flag_given(invocation, "wait")))
        wrong = "--detach asks the service for a whole run; give no other flag";
    else if (dry && !self->job->has_dry_run)
        wrong = "this job has no dry run";
    if (wrong) {
        fprintf(stderr, "client-manager %s: %s\n", invocation->command->name, wrong);
        return false;
    }
    if (tenant && cm_tenant_id_canonical(cm_str(tenant), self->tenant, &err) != CM_OK) {
        fprintf(stderr, "client-manager %s: \"%s\" is no tenant id: %s\n",
                invocation->command->name, tenant, err.message);
        return false;
    }
    return true;
}

static int run_job(const cm_invocation_t *invocation, const char *name)
{
    job_run_t self = {.invocation = invocation, .job = cm_command_job_find(invocation, name)};
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = NULL;
    cm_error_t err = {0};
    if (!self.job || !check_flags(&self))
        return CM_EXIT_USAGE;
    cm_command_operator(self.by);
    if (cm_command_admin_write(invocation, "client-manager job", &pg, &err) != CM_OK)
        return cm_command_fail(invocation, &err);
    if (cm_flag_given(invocation, "detach"))
        return detach(&self, pg);
    cm_pg_close(pg);
    cm_supervisor_block_signals(); /* before the keeper's thread; from here on we look for them */
    int code = run_here(&self);
    cm_batch_runner_destroy(&self.runner);
    cm_job_schedule_close(&self.schedule);
    cm_buffer_destroy(&self.result.summary);
    return code;
}

int cm_command_job_run(const cm_invocation_t *invocation)
{
    return run_job(invocation, invocation->args[0]);
}

/* "job dashboard" is "job run dashboard". */
int cm_command_job_named(const cm_invocation_t *invocation)
{
    return run_job(invocation, strchr(invocation->command->name, ' ') + 1);
}
