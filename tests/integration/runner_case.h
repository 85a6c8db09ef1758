/* runner_case - a database with the jobs of fake_batch_jobs.c, and a runner of one of them. */
#ifndef CM_TESTS_INTEGRATION_RUNNER_CASE_H
#define CM_TESTS_INTEGRATION_RUNNER_CASE_H
#include "actors/batch_runner.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "tests/support/schema_fixture.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <string.h>

#define JOB "orphan-deletion"
#define ADM CM_TEST_ADMIN
enum { EVENTS_MAX = 64, DEADLINE_MS = 30000, POLL_MS = 20 };

typedef struct {
    char uri[CM_TEST_URI_MAX];
    cm_pg_t *pg; /* of the test */
    cm_options_t options;
    cm_job_schedule_t schedule;
    cm_batch_runner_t *runner;
    cm_batch_event_t events[EVENTS_MAX];
    cm_error_t why[EVENTS_MAX];
    size_t event_count;
    int questions; /* how often it was asked whether the process ends */
    int end_at;    /* say yes from this question on; 0: never */
    cm_job_t job;
    int64_t wait_ms;
    cm_error_t err;
} world_t;

static inline bool world_ending(void *ctx)
{
    world_t *self = ctx;
    self->questions++;
    return self->end_at && self->questions >= self->end_at;
}

static inline void world_told(void *ctx, const cm_batch_event_t *event)
{
    world_t *self = ctx;
    cr_assert(lt(sz, self->event_count, EVENTS_MAX));
    self->why[self->event_count] = event->why ? *event->why : (cm_error_t){0};
    self->events[self->event_count++] = *event;
}

static inline cm_job_schedule_options_t world_schedule(const char *cron)
{
    return (cm_job_schedule_options_t){.cron = cron,
                                       .time_zone = "UTC",
                                       .missed = CM_MISSED_ONCE,
                                       .missed_max = 24,
                                       .grace_seconds = 300,
                                       .attempts = 20};
}

static inline void world_options(cm_options_t *options, const char *uri)
{
    *options = (cm_options_t){0};
    options->postgres.uri = uri;
    options->postgres.admin_schema = ADM;
    options->postgres.role_prefix = "cm";
    options->postgres.connect_timeout_ms = 5000;
    options->postgres.statement_timeout_ms = 15000;
    options->postgres.lock_timeout_ms = 200;
    options->scheduler.enabled = true;
    options->scheduler.poll_seconds = 1;
    options->scheduler.lease_seconds = 60;
    options->scheduler.keep_runs_days = 90;
    options->contact_job.schedule = world_schedule("");
    options->orphan_job.schedule = world_schedule("");
    options->dashboard_job.schedule = world_schedule("");
}

/* The tables of the fake jobs. */
static inline void world_tables(cm_pg_t *pg)
{
    cm_test_sql(pg, "CREATE TABLE public.job_plan (job text PRIMARY KEY, tenants int NOT NULL,"
                    " step_ms int NOT NULL DEFAULT 0, hold_ms int NOT NULL DEFAULT 0,"
                    " fails text NOT NULL DEFAULT '')");
    cm_test_sql(pg, "CREATE TABLE public.job_steps (job text, run_id bigint, tenant text,"
                    " holder text, term bigint, at timestamptz)");
    cm_test_sql(pg, "CREATE TABLE public.job_refused (job text, run_id bigint, holder text,"
                    " term bigint)");
}

static inline void world_plan(world_t *self, int tenants, int step_ms, const char *fails)
{
    cm_test_sql(self->pg,
                "INSERT INTO public.job_plan (job, tenants, step_ms, fails)"
                " VALUES ('" JOB "', %d, %d, '%s') ON CONFLICT (job) DO UPDATE SET tenants ="
                " excluded.tenants, step_ms = excluded.step_ms, fails = excluded.fails",
                tenants, step_ms, fails);
}

static inline cm_batch_runner_t *world_runner(world_t *self, const char *holder)
{
    return cm_batch_runner_new(&(cm_batch_runner_args_t){.options = &self->options,
                                                         .job = cm_batch_job_find(JOB),
                                                         .schedule = &self->schedule,
                                                         .holder = holder,
                                                         .ending = world_ending,
                                                         .told = world_told,
                                                         .ctx = self});
}

static inline void world_open_schedule(world_t *self)
{
    cm_job_schedule_close(&self->schedule);
    cr_assert(eq(int,
                 cm_job_schedule_open(&self->schedule, JOB, &self->options.orphan_job.schedule,
                                      &self->err),
                 CM_OK),
              "%s", self->err.message);
}

static inline void world_open(world_t *self, const char *cron)
{
    *self = (world_t){0};
    self->pg = cm_test_admin(self->uri);
    world_tables(self->pg);
    world_options(&self->options, self->uri);
    self->options.orphan_job.schedule.cron = cron;
    world_open_schedule(self);
    self->runner = world_runner(self, "a");
}

static inline void world_close(world_t *self)
{
    cm_batch_runner_destroy(&self->runner);
    cm_job_schedule_close(&self->schedule);
    cm_pg_destroy(&self->pg);
}

static inline cm_status_t world_round(world_t *self)
{
    return cm_batch_runner_round(self->runner, &self->wait_ms, &self->job, &self->err);
}

#define GOOD(call) cr_assert(eq(int, (call), CM_OK), "%s %s", world.err.code, world.err.message)

static inline int64_t ask(world_t *self)
{
    int64_t requested_ms = 0;
    if (cm_job_register(self->pg, ADM, JOB, &self->err) != CM_OK ||
        cm_job_request(self->pg, ADM, JOB, "test", &requested_ms, &self->err) != CM_OK)
        cr_fatal("%s", self->err.message);
    return requested_ms;
}

static inline void expect_rows(world_t *self, const char *sql, const char *expected)
{
    CM_CLEANUP(cm_free) char *rows = cm_test_rows(self->pg, "%s", sql);
    cr_expect(eq(str, rows, expected), "%s", sql);
}
#define RUNS "SELECT kind, state, attempts FROM " ADM ".job_runs ORDER BY id"
#define FREE "SELECT count(*) FROM " ADM ".leases WHERE expires_at <= clock_timestamp()"
#endif
