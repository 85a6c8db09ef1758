/* The job commands as an operator meets them: the program with the jobs of fake_batch_jobs.c, a
 * real server. */
#define COMMAND_PROGRAM CM_JOB_PROGRAM
#include "schema/job_store.h"
#include "tests/integration/command_case.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

TestSuite(job_commands, .timeout = 120, .fini = cm_test_database_drop);

#define RUN(...) ARGS("job", "run", "orphan-deletion", "-o", "json", __VA_ARGS__)
#define ADM      "client_manager"
#define RUNS     "SELECT kind, state, attempts FROM " ADM ".job_runs ORDER BY id"
enum { WAIT_MS = 30000 };

static void world_open(world_t *self, int tenants, int step_ms, const char *fails)
{
    command_set_up(self, NULL);
    cm_test_sql(self->pg, "CREATE TABLE public.job_plan (job text PRIMARY KEY, tenants int,"
                          " step_ms int, hold_ms int, fails text)");
    cm_test_sql(self->pg, "CREATE TABLE public.job_steps (job text, run_id bigint, tenant text,"
                          " holder text, term bigint, at timestamptz)");
    cm_test_sql(self->pg, "CREATE TABLE public.job_refused (job text, run_id bigint, holder text,"
                          " term bigint)");
    cm_test_sql(self->pg, "INSERT INTO public.job_plan VALUES ('orphan-deletion', %d, %d, 0, '%s')",
                tenants, step_ms, fails);
}

static void expect_says(const char *where, const char *what)
{
    cr_expect(ne(ptr, strstr(where, what), NULL), "\"%s\" is not in: %s", what, where);
}

static void expect_rows(world_t *self, const char *sql, const char *expected)
{
    CM_CLEANUP(cm_free) char *rows = cm_test_rows(self->pg, "%s", sql);
    cr_expect(eq(str, rows, expected), "%s", sql);
}

static bool has_steps(void *ctx)
{
    return cm_test_number(((world_t *)ctx)->pg, "SELECT count(*) FROM public.job_steps") > 1;
}

/* ---- run ------------------------------------------------------------------------------------ */

Test(job_commands, run_prints_its_summary_and_keeps_the_run)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, 3, 0, "");
    const cm_program_t *done = manager(&world, RUN("--no-color"));
    cr_expect(eq(int, done->code, 0), "%s", done->err);
    expect_says(done->out, "{\"job\": \"orphan-deletion\", \"run\": 1, \"state\": \"done\", "
                           "\"resumed\": false, \"dry_run\": false, \"seconds\": ");
    expect_says(done->out, "\"tenants\": {\"total\": 3, \"done\": 3, \"failed\": 0}, \"rows\": 3, "
                           "\"summary\": {\"steps\": 3}}\n");
    expect_says(done->err, "run 1 of orphan-deletion begun\n");
    expect_says(done->err, "tenants 3/3");
    expect_says(done->err, "3 steps");
    expect_rows(&world, RUNS, "requested|done|1");
    expect_rows(&world, "SELECT requested_by LIKE 'operator:%' FROM " ADM ".job_runs", "t");
}

Test(job_commands, the_short_form_is_the_same)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, 1, 0, "");
    const cm_program_t *done = manager(&world, ARGS("job", "orphan-deletion"));
    cr_expect(eq(int, done->code, 0), "%s", done->err);
    expect_says(done->out, "orphan-deletion");
    expect_rows(&world, RUNS, "requested|done|1");
}

Test(job_commands, run_with_a_failed_tenant_exits_3_and_show_tells_which)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, 3, 0, "tenant");
    const cm_program_t *done = manager(&world, RUN("--no-color"));
    cr_expect(eq(int, done->code, 3), "%s", done->err);
    expect_says(done->out, "\"state\": \"partial\"");
    expect_says(done->err, "job show 1");
    done = manager(&world, ARGS("job", "show", "1", "--failed", "-o", "json"));
    cr_expect(eq(int, done->code, 0), "%s", done->err);
    expect_says(done->out, "{\"tenant\": \"3\", \"state\": \"failed\", \"attempts\": 1");
    cr_expect(eq(ptr, strchr(done->out, '\n'), done->out + strlen(done->out) - 1), "one line");
    expect_says(done->err, "partial");
}

Test(job_commands, a_run_that_fails_exits_1_and_tells_why)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, 3, 0, "misconfigured");
    const cm_program_t *done = manager(&world, RUN("--no-color"));
    cr_expect(eq(int, done->code, 1));
    expect_says(done->err, "it was planned to fail (planned)");
    expect_says(done->out, "\"state\": \"failed\"");
    expect_says(done->out, "\"error_code\": \"planned\"");
}

Test(job_commands, a_run_that_cannot_go_on_exits_69_and_is_left)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, 3, 0, "unavailable");
    const cm_program_t *done = manager(&world, RUN("--no-color"));
    cr_expect(eq(int, done->code, 69));
    expect_says(done->err, "run 1 is left unfinished");
    cm_test_sql(world.pg, "UPDATE public.job_plan SET fails = 'transient'");
    done = manager(&world, RUN("--no-color"));
    cr_expect(eq(int, done->code, 69), "and not 75, which is for a job at work elsewhere");
    expect_says(done->err, "run 1 is left unfinished");
    cm_test_sql(world.pg, "UPDATE public.job_plan SET fails = ''");
    done = manager(&world, RUN("--no-color"));
    cr_expect(eq(int, done->code, 0), "%s", done->err);
    expect_says(done->out, "\"run\": 1, \"state\": \"done\", \"resumed\": true");
}

Test(job_commands, a_signal_stops_it_at_the_next_step_and_the_next_goes_on)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, 200, 30, "");
    begin(&world, RUN("--no-color"));
    cr_assert(cm_test_wait(has_steps, &world, WAIT_MS));
    kill(world.program.pid, SIGTERM);
    cm_program_finish(&world.program);
    cr_expect(eq(int, world.program.code, 128 + SIGTERM), "%s", world.program.err);
    expect_says(world.program.err, "stopping at the next step");
    expect_says(world.program.out, "\"state\": \"unfinished\"");
    cm_test_sql(world.pg, "UPDATE public.job_plan SET step_ms = 0");
    const cm_program_t *done = manager(&world, RUN("--no-color"));
    cr_expect(eq(int, done->code, 0), "%s", done->err);
    expect_rows(&world, RUNS, "requested|done|1");
    expect_rows(&world, "SELECT count(*), count(DISTINCT tenant) FROM public.job_steps", "200|200");
}

/* A server whose connections are taken and never answered. */
static int silent_server(char *variable, size_t size)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    cr_assert(zero(int, bind(fd, (struct sockaddr *)&address, len)));
    cr_assert(zero(int, listen(fd, 8)));
    cr_assert(zero(int, getsockname(fd, (struct sockaddr *)&address, &len)));
    snprintf(variable, size, "CM_POSTGRES_URI=postgresql://me@127.0.0.1:%d/x?sslmode=disable",
             ntohs(address.sin_port));
    return fd;
}

/* Nobody looks for a signal yet, so it does what it does to any program. */
Test(job_commands, a_signal_before_the_job_is_begun_ends_it_at_once)
{
    world_t world = {0};
    int fd = silent_server(world.uri_variable, sizeof world.uri_variable);
    world.env[0] = world.uri_variable;
    world.env[1] = "CM_POSTGRES_CONNECT_TIMEOUT_MS=60000";
    begin(&world, RUN("--no-color"));
    int link = accept(fd, NULL, NULL); /* it waits for an answer */
    cr_assert(ge(int, link, 0));
    kill(world.program.pid, SIGTERM);
    cm_program_finish(&world.program);
    cr_expect(eq(int, world.program.code, 128 + SIGTERM), "%s", world.program.err);
    close(link);
    close(fd);
    world_close(&world);
}

Test(job_commands, a_run_that_was_killed_is_gone_on_with_when_its_lease_is_over)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, 200, 30, "");
    begin(&world, RUN("--set", "scheduler.lease_seconds=2"));
    cr_assert(cm_test_wait(has_steps, &world, WAIT_MS));
    kill(world.program.pid, SIGKILL);
    cm_program_finish(&world.program);
    cm_test_sql(world.pg, "UPDATE public.job_plan SET step_ms = 0");
    const cm_program_t *done = manager(&world, RUN("--no-color"));
    cr_expect(eq(int, done->code, 75));
    expect_says(done->err, "orphan-deletion is at work at ");
    done = manager(&world, RUN("--wait"));
    cr_expect(eq(int, done->code, 0), "%s", done->err);
    expect_says(done->err, "; waiting\n");
    expect_rows(&world, RUNS, "requested|done|2");
    expect_rows(&world, "SELECT count(*), count(DISTINCT tenant) FROM public.job_steps", "200|200");
}

Test(job_commands, cancel_ends_a_run_that_works_elsewhere)
{
    CM_CLEANUP(world_close) world_t world;
    cm_program_t cancel;
    world_open(&world, 2000, 30, "");
    begin(&world, RUN("--set", "scheduler.lease_seconds=3"));
    cr_assert(cm_test_wait(has_steps, &world, WAIT_MS));
    cm_program_start_at(&cancel, CM_JOB_PROGRAM, NULL, world.env, ARGS("job", "cancel", "1"));
    cm_program_finish(&cancel);
    cr_expect(eq(int, cancel.code, 0), "%s", cancel.err);
    cm_program_destroy(&cancel);
    cm_program_finish(&world.program);
    cr_expect(eq(int, world.program.code, 1), "%s", world.program.err);
    expect_says(world.program.out, "\"state\": \"cancelled\"");
    expect_rows(&world, "SELECT state, cancel_requested_by LIKE 'operator:%' FROM " ADM ".job_runs",
                "cancelled|t");
    cr_expect(eq(int, manager(&world, ARGS("job", "cancel", "1"))->code, 1));
    cr_expect(eq(int, manager(&world, ARGS("job", "cancel", "0"))->code, 2));
}

Test(job_commands, a_dry_run_and_one_tenant_leave_no_run)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, 3, 0, "");
    const cm_program_t *done = manager(&world, RUN("--dry-run"));
    cr_expect(eq(int, done->code, 0), "%s", done->err);
    expect_says(done->out, "\"run\": null, \"state\": \"done\", \"resumed\": false, "
                           "\"dry_run\": true");
    expect_rows(&world, "SELECT count(*) FROM public.job_steps", "0");
    done = manager(&world, RUN("--tenant", "2"));
    cr_expect(eq(int, done->code, 0), "%s", done->err);
    expect_says(done->out, "\"tenant\": \"2\"");
    expect_rows(&world, "SELECT tenant FROM public.job_steps", "2");
    expect_rows(&world, RUNS, "");
}

Test(job_commands, what_makes_no_sense_is_a_fault_of_usage)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, 1, 0, "");
    const cm_program_t *done = manager(&world, ARGS("job", "run", "orphans"));
    cr_expect(eq(int, done->code, 2));
    expect_says(done->err, "there is no job \"orphans\"; give one of\n");
    expect_says(done->err, "  orphan-deletion    steps of a test\n");
    cr_expect(eq(int, manager(&world, RUN("--detach", "--dry-run"))->code, 2));
    cr_expect(eq(int, manager(&world, RUN("--tenant", "x y"))->code, 2));
    cr_expect(eq(int, manager(&world, ARGS("job", "show", "x"))->code, 2));
    cr_expect(eq(int, manager(&world, ARGS("job", "pause", "x"))->code, 2));
    expect_rows(&world, RUNS, "");
}

Test(job_commands, detach_asks_the_service)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, 1, 0, "");
    const cm_program_t *done = manager(&world, RUN("--detach"));
    cr_expect(eq(int, done->code, 0), "%s", done->err);
    expect_says(done->out, "{\"job\": \"orphan-deletion\", \"requested_at\": \"20");
    expect_rows(&world,
                "SELECT requested_at IS NOT NULL, requested_by LIKE 'operator:%'"
                " FROM " ADM ".jobs",
                "t|t");
    expect_rows(&world, RUNS, "");
}

/* ---- list, history -------------------------------------------------------------------------- */

Test(job_commands, list_tells_schedule_state_and_last_run)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, 1, 0, "");
    world.env[1] = "CM_ORPHAN_JOB_SCHEDULE=30 3 * * *";
    world.env[2] = "CM_ORPHAN_JOB_TIME_ZONE=Europe/Berlin";
    const cm_program_t *done = manager(&world, ARGS("job", "list", "-o", "json"));
    cr_expect(eq(int, done->code, 0), "%s", done->err);
    expect_says(done->out, "{\"job\": \"orphan-deletion\", \"schedule\": \"30 3 * * *\", "
                           "\"time_zone\": \"Europe/Berlin\", \"state\": \"never seen\"");
    expect_says(done->out, "{\"job\": \"contact-deletion\", \"schedule\": \"\", "
                           "\"time_zone\": \"\"");
    cr_expect(eq(int, manager(&world, RUN("--no-color"))->code, 0));
    done = manager(&world, ARGS("job", "list", "-o", "json"));
    expect_says(done->out, "\"state\": \"idle\", \"holder\": \"\", \"next_at\": \"20");
    expect_says(done->out, "\"last_run\": 1, \"last_state\": \"done\"");
    cr_expect(eq(int, manager(&world, ARGS("job", "pause", "orphan-deletion"))->code, 0));
    done = manager(&world, ARGS("job", "list", "-o", "json"));
    expect_says(done->out, "\"state\": \"paused\", \"holder\": \"\", \"next_at\": \"\"");
    expect_says(done->out, "\"paused_by\": \"operator:");
    cr_expect(eq(int, manager(&world, ARGS("job", "resume", "orphan-deletion"))->code, 0));
    expect_rows(&world, "SELECT paused_at IS NULL FROM " ADM ".jobs", "t");
}

Test(job_commands, history_has_the_newest_run_first)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, 1, 0, "");
    for (int i = 0; i < 3; i++)
        cr_expect(eq(int, manager(&world, RUN("--no-color"))->code, 0));
    const cm_program_t *done =
        manager(&world, ARGS("job", "history", "orphan-deletion", "-n", "2", "-o", "json"));
    cr_expect(eq(int, done->code, 0), "%s", done->err);
    const char *third = strstr(done->out, "{\"run\": 3"),
               *second = strstr(done->out, "{\"run\": 2");
    cr_expect(third && second && third < second, "%s", done->out);
    cr_expect(eq(ptr, strstr(done->out, "{\"run\": 1"), NULL));
    cr_expect(eq(str, manager(&world, ARGS("job", "history", "dashboard", "-o", "json"))->out, ""));
    done = manager(&world, ARGS("job", "history"));
    expect_says(done->out, "requested");
}
