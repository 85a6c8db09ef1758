/* fakes: batch_jobs */
/* The scheduler as the service runs it, on a real server; the jobs are those of fake_batch_jobs.c.
 */
#include "actors/scheduler.h"
#include "proto/report.h"
#include "runtime/actor.h"
#include "runtime/frame.h"
#include "runtime/metrics.h"
#include "tests/integration/runner_case.h"

TestSuite(scheduler, .timeout = 120, .fini = cm_test_database_drop);

#define REPORTS "inproc://scheduler-reports"
#define LABEL   "job=\"" JOB "\""
#define RUNNING "client_manager_job_running"
#define ENDED   "client_manager_job_runs_total"

typedef struct {
    world_t world;
    cm_scheduler_args_t args;
    zsock_t *reports;
    cm_metrics_board_t *board;
    cm_actor_state_t state;
    char text[64];
    zactor_t *actor;
} stage_t;

static void stage_open(stage_t *self, const char *cron)
{
    *self = (stage_t){.board = cm_metrics_board_new()};
    world_open(&self->world, cron);
    self->reports = zsock_new(ZMQ_PULL);
    zsock_bind(self->reports, "%s", REPORTS);
}

static void stage_start(stage_t *self, const char *holder)
{
    cm_error_t err = {0};
    self->args = (cm_scheduler_args_t){.name = "job/" JOB,
                                       .job = cm_batch_job_find(JOB),
                                       .schedule = self->world.schedule,
                                       .options = &self->world.options,
                                       .holder = holder,
                                       .reports = REPORTS};
    cm_status_t status =
        cm_actor_start(&self->actor, cm_scheduler_actor, &self->args, DEADLINE_MS, &err);
    cr_assert(eq(int, status, CM_OK), "%s", err.message);
}

static void stage_close(stage_t *self)
{
    if (self->actor)
        cr_expect(cm_actor_stop(&self->actor, DEADLINE_MS), "it does not end");
    zsock_destroy(&self->reports);
    cm_metrics_board_destroy(&self->board);
    world_close(&self->world);
}

static double metric(stage_t *self, const char *name, const char *labels)
{
    return cm_metrics_board_value(self->board, name, labels);
}

static void take_report(stage_t *self)
{
    zmq_msg_t frame;
    cm_report_t report = {0};
    zsock_set_rcvtimeo(self->reports, DEADLINE_MS);
    cr_assert(cm_frame_receive(self->reports, &frame, 0), "it reports nothing");
    cr_assert(eq(int, cm_report_decode(zmq_msg_data(&frame), zmq_msg_size(&frame), &report, NULL),
                 CM_OK));
    if (report.kind == CM_REPORT_METRICS) {
        cm_metrics_board_put(self->board, report.metrics.ptr, report.metrics.len, 0, NULL);
    } else if (report.kind == CM_REPORT_STATE) {
        self->state = report.state;
        snprintf(self->text, sizeof self->text, "%.*s", CM_STR_ARG(report.text));
    }
    zmq_msg_close(&frame);
}

static void await(stage_t *self, const char *name, const char *labels, double value)
{
    int64_t end_ms = cm_clock_mono_ms() + DEADLINE_MS;
    while (metric(self, name, labels) != value) {
        cr_assert(lt(i64, cm_clock_mono_ms(), end_ms), "%s is %g", name,
                  metric(self, name, labels));
        take_report(self);
    }
}

Test(scheduler, what_is_asked_for_is_found_and_run)
{
    CM_CLEANUP(stage_close) stage_t stage;
    stage_open(&stage, "");
    world_plan(&stage.world, 3, 0, "");
    stage_start(&stage, "a");
    ask(&stage.world);
    await(&stage, ENDED, LABEL ",state=\"done\"", 1);
    cr_expect(eq(dbl, metric(&stage, "client_manager_job_run_tenants", LABEL), 3));
    cr_expect(eq(dbl, metric(&stage, "client_manager_job_run_tenants_failed", LABEL), 0));
    expect_rows(&stage.world, RUNS, "requested|done|1");
    await(&stage, RUNNING, LABEL, 0);
    cr_expect(eq(int, stage.state, CM_ACTOR_RUNNING));
}

/* Longer than any report interval, and the job says nothing meanwhile: the wait for the server
 * beats. */
Test(scheduler, it_reports_while_a_job_works)
{
    CM_CLEANUP(stage_close) stage_t stage;
    stage_open(&stage, "");
    world_plan(&stage.world, 1, 4000, "");
    ask(&stage.world);
    stage_start(&stage, "a");
    await(&stage, RUNNING, LABEL, 1);
    for (int i = 0; i < 4; i++) {
        take_report(&stage);
        cr_expect(eq(str, stage.text, "a run is under way"));
    }
    await(&stage, ENDED, LABEL ",state=\"done\"", 1);
}

/* The drain is asked for in the middle; another instance finishes the same run. */
Test(scheduler, a_drain_leaves_the_run_to_the_next_instance)
{
    CM_CLEANUP(stage_close) stage_t stage;
    stage_open(&stage, "");
    world_plan(&stage.world, 40, 50, "");
    ask(&stage.world);
    stage_start(&stage, "a");
    await(&stage, RUNNING, LABEL, 1);
    zstr_send(stage.actor, "DRAIN");
    zsock_set_rcvtimeo(zactor_sock(stage.actor), DEADLINE_MS);
    CM_CLEANUP(zstr_free) char *word = zstr_recv(stage.actor);
    cr_expect(eq(str, word, "DRAINED"));
    expect_rows(&stage.world, RUNS, "requested|running|0");
    expect_rows(&stage.world, FREE, "1");
    cr_assert(cm_actor_stop(&stage.actor, DEADLINE_MS));
    world_plan(&stage.world, 40, 0, "");
    stage_start(&stage, "b");
    await(&stage, ENDED, LABEL ",state=\"done\"", 1);
    expect_rows(&stage.world, RUNS, "requested|done|1");
    expect_rows(&stage.world,
                "SELECT count(*), count(DISTINCT tenant), count(DISTINCT holder) FROM"
                " public.job_steps",
                "40|40|2");
}

Test(scheduler, it_tells_when_the_job_is_due_and_when_it_is_paused)
{
    CM_CLEANUP(stage_close) stage_t stage;
    stage_open(&stage, "0 0 1 1 *");
    stage_start(&stage, "a");
    while (metric(&stage, "client_manager_job_next_run_timestamp_seconds", LABEL) == 0)
        take_report(&stage);
    cr_expect(gt(dbl, metric(&stage, "client_manager_job_next_run_timestamp_seconds", LABEL),
                 (double)cm_clock_epoch_ms() / 1000));
    cr_assert(eq(int, cm_job_pause(stage.world.pg, ADM, JOB, "me", &stage.world.err), CM_OK));
    await(&stage, "client_manager_job_paused", LABEL, 1);
    cr_expect(eq(dbl, metric(&stage, "client_manager_job_next_run_timestamp_seconds", LABEL), 0));
}

Test(scheduler, a_server_that_is_away_pauses_it_and_it_comes_back)
{
    CM_CLEANUP(stage_close) stage_t stage;
    stage_open(&stage, "");
    world_plan(&stage.world, 1, 0, "");
    stage.world.options.postgres.uri = "postgresql:///x?host=/nonexistent";
    stage_start(&stage, "a");
    while (stage.state != CM_ACTOR_PAUSED)
        take_report(&stage);
    cr_assert(cm_actor_stop(&stage.actor, DEADLINE_MS));
    stage.world.options.postgres.uri = stage.world.uri;
    ask(&stage.world);
    stage_start(&stage, "a");
    await(&stage, ENDED, LABEL ",state=\"done\"", 1);
    cr_expect(eq(int, stage.state, CM_ACTOR_RUNNING));
}

Test(scheduler, two_instances_run_it_once)
{
    CM_CLEANUP(stage_close) stage_t stage;
    stage_open(&stage, "");
    world_plan(&stage.world, 5, 0, "");
    CM_CLEANUP(cm_batch_runner_destroy) cm_batch_runner_t *other = world_runner(&stage.world, "b");
    stage_start(&stage, "a");
    for (int i = 0; i < 10; i++) {
        int64_t wait_ms;
        cm_job_t job;
        int64_t runs = cm_test_number(stage.world.pg, "SELECT count(*) FROM " ADM ".job_runs"
                                                      " WHERE state = 'done'");
        ask(&stage.world);
        while (cm_test_number(stage.world.pg, "SELECT count(*) FROM " ADM ".job_runs"
                                              " WHERE state = 'done'") == runs)
            cm_batch_runner_round(other, &wait_ms, &job, NULL);
    }
    expect_rows(&stage.world,
                "SELECT count(*), count(*) FILTER (WHERE attempts = 1) FROM " ADM ".job_runs",
                "10|10");
    expect_rows(&stage.world, "SELECT count(*) FROM public.job_steps", "50");
}
