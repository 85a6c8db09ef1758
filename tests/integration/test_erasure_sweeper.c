/* The sweeper as the service runs it, on a real server. Its clock can be put forward, so that a
 * minute between two looks is none for the test. */
#include "actors/erasure_sweeper.h"
#include "actors/subworker.h"
#include "proto/report.h"
#include "runtime/actor.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "runtime/frame.h"
#include "schema/erasure.h"
#include "tests/support/schema_fixture.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdatomic.h>
#include <unistd.h>

TestSuite(erasure_sweeper, .timeout = 60, .fini = cm_test_database_drop);

#define REPORTS   "inproc://sweeper-reports"
#define SESSION   "client-manager erasure-sweeper"
#define PENDING   "client_manager_erasures_pending"
#define OLDEST    "client_manager_erasures_pending_oldest_seconds"
#define REWRITTEN "client_manager_erasure_rewrites_total"
#define FAILED    "client_manager_erasure_rewrites_failed_total"

enum { WAIT_MS = 20000, BETWEEN_LOOKS_MS = 60000 };

/* ---- the clock (linked with --wrap=cm_clock_mono_ms) ---------------------------------------- */

static atomic_llong ahead_ms;

int64_t __real_cm_clock_mono_ms(void);
int64_t __wrap_cm_clock_mono_ms(void);
int64_t __wrap_cm_clock_mono_ms(void)
{
    return __real_cm_clock_mono_ms() + atomic_load(&ahead_ms);
}

/* ---- a sweeper and its database ------------------------------------------------------------- */

typedef struct {
    char uri[CM_TEST_URI_MAX];
    cm_pg_t *pg;
    cm_options_t options;
    cm_subworker_args_t args;
    zsock_t *reports;
    cm_metrics_board_t *board;
    zactor_t *actor;
} world_t;

/* Tenants "a" and "b", with a device each. */
static void world_open(world_t *self)
{
    *self = (world_t){.board = cm_metrics_board_new()};
    self->pg = cm_test_admin(self->uri);
    for (const char *tenant = "a"; tenant; tenant = *tenant == 'a' ? "b" : NULL) {
        cm_test_tenant(self->pg, tenant);
        cm_test_sql(self->pg,
                    "INSERT INTO tenant_%s.devices (application_code, client_id)"
                    " VALUES ('app', 'c1')",
                    tenant);
    }
    self->options.postgres.admin_schema = CM_TEST_ADMIN;
    self->options.erasure.key = "";
    self->options.erasure.sweep_minutes = 60;
    self->reports = zsock_new(ZMQ_PULL);
    zsock_bind(self->reports, "%s", REPORTS);
}

static void world_start(world_t *self)
{
    cm_error_t err = {0};
    self->options.postgres.uri = self->uri;
    self->args = (cm_subworker_args_t){.name = "erasure-sweeper",
                                       .subworker = "erasure-sweeper",
                                       .options = &self->options,
                                       .reports = REPORTS};
    cm_status_t status =
        cm_actor_start(&self->actor, cm_erasure_sweeper_actor, &self->args, WAIT_MS, &err);
    cr_assert(eq(int, status, CM_OK), "%s", err.message);
}

static void world_close(world_t *self)
{
    if (self->actor)
        cr_expect(cm_actor_stop(&self->actor, WAIT_MS), "it does not end");
    zsock_destroy(&self->reports);
    cm_metrics_board_destroy(&self->board);
    cm_pg_destroy(&self->pg);
}

static void note(world_t *self, const char *tenant, int minutes_ago)
{
    cm_test_sql(self->pg,
                "INSERT INTO " CM_TEST_ADMIN ".erasures_pending (tenant, requested_at)"
                " VALUES ('%s', now() - interval '%d minutes')",
                tenant, minutes_ago);
}

/* The sweeper finds that it is time for its next look. */
static void let_it_look(void)
{
    atomic_fetch_add(&ahead_ms, BETWEEN_LOOKS_MS);
}

static double metric(world_t *self, const char *name)
{
    return cm_metrics_board_value(self->board, name, "");
}

static void take_report(world_t *self)
{
    zmq_msg_t frame;
    cm_report_t report = {.kind = CM_REPORT_STATE};
    zsock_set_rcvtimeo(self->reports, WAIT_MS);
    while (report.kind != CM_REPORT_METRICS) {
        cr_assert(cm_frame_receive(self->reports, &frame, 0), "it reports nothing");
        cm_status_t status =
            cm_report_decode(zmq_msg_data(&frame), zmq_msg_size(&frame), &report, NULL);
        cr_assert(eq(int, status, CM_OK));
        if (report.kind == CM_REPORT_METRICS)
            cm_metrics_board_put(self->board, report.metrics.ptr, report.metrics.len, 0, NULL);
        zmq_msg_close(&frame);
    }
}

/* Wait for a report with this value. What a look counts as pending is known at its end, and is
 * reported after the next one's time is set: then let_it_look() may follow. */
static void await(world_t *self, const char *name, double value)
{
    int64_t end_ms = cm_clock_mono_ms() + WAIT_MS;
    while (metric(self, name) != value) {
        cr_assert(lt(i64, cm_clock_mono_ms(), end_ms), "%s is %g", name, metric(self, name));
        take_report(self);
    }
}

/* The files of a tenant's tables have other names after a rewrite. */
static int64_t file_of(world_t *self, const char *tenant)
{
    return cm_test_number(self->pg, "SELECT pg_relation_filenode('tenant_%s.devices')", tenant);
}

static bool is_noted(world_t *self, const char *tenant)
{
    return cm_test_number(self->pg,
                          "SELECT count(*) FROM " CM_TEST_ADMIN ".erasures_pending"
                          " WHERE tenant = '%s'",
                          tenant) > 0;
}

static bool has_no_session(void *ctx)
{
    world_t *self = ctx;
    return cm_test_number(self->pg, "SELECT count(*) FROM pg_stat_activity"
                                    " WHERE application_name = '" SESSION "'"
                                    " AND datname = current_database()") == 0;
}

/* ---- what is swept -------------------------------------------------------------------------- */

Test(erasure_sweeper, what_was_noted_long_enough_ago_is_rewritten_by_itself)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    int64_t before = file_of(&world, "a"), other = file_of(&world, "b");
    note(&world, "a", 61);
    world_start(&world);
    let_it_look();
    await(&world, REWRITTEN, 1);
    cr_expect(not(is_noted(&world, "a")));
    cr_expect(ne(i64, file_of(&world, "a"), before));
    cr_expect(eq(i64, file_of(&world, "b"), other));
    cr_expect(eq(i64, cm_test_number(world.pg, "SELECT count(*) FROM tenant_a.devices"), 1));
    cr_expect(eq(dbl, metric(&world, FAILED), 0));
}

Test(erasure_sweeper, what_was_noted_lately_is_left_and_told_with_its_age)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    int64_t before = file_of(&world, "b");
    note(&world, "a", 61);
    note(&world, "b", 58);
    world_start(&world);
    let_it_look();
    await(&world, PENDING, 1);
    cr_expect(eq(dbl, metric(&world, REWRITTEN), 1));
    cr_expect(ge(dbl, metric(&world, OLDEST), 58 * 60));
    cr_expect(lt(dbl, metric(&world, OLDEST), 60 * 60));
    cr_expect(is_noted(&world, "b"));
    cr_expect(eq(i64, file_of(&world, "b"), before));
}

Test(erasure_sweeper, the_time_of_a_note_is_what_the_options_say)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    world.options.erasure.sweep_minutes = 1;
    note(&world, "a", 2);
    note(&world, "b", 2);
    world_start(&world);
    let_it_look();
    await(&world, REWRITTEN, 2);
}

Test(erasure_sweeper, a_tenant_that_is_gone_is_forgotten_and_not_counted)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    note(&world, "Gone", 61);
    note(&world, "b", 61);
    world_start(&world);
    let_it_look();
    await(&world, REWRITTEN, 1);
    cr_expect(not(is_noted(&world, "Gone")));
    cr_expect(not(is_noted(&world, "b")));
    cr_expect(eq(dbl, metric(&world, FAILED), 0));
}

Test(erasure_sweeper, the_dead_letters_are_rewritten_too)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    note(&world, "", 61);
    world_start(&world);
    let_it_look();
    await(&world, REWRITTEN, 1);
    cr_expect(not(is_noted(&world, "")));
}

Test(erasure_sweeper, what_comes_later_is_found_by_a_later_look)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    note(&world, "b", 1);
    world_start(&world);
    let_it_look();
    await(&world, PENDING, 1);
    note(&world, "a", 61);
    let_it_look();
    await(&world, REWRITTEN, 1);
    cr_expect(not(is_noted(&world, "a")));
    cr_expect(is_noted(&world, "b"));
}

/* ---- what cannot be swept now --------------------------------------------------------------- */

/* What the log says goes to a file, so that the test can read it. */
static FILE *catch_stderr(void)
{
    FILE *file = tmpfile();
    cr_assert(file != NULL && dup2(fileno(file), STDERR_FILENO) == STDERR_FILENO);
    return file;
}

static void expect_caught(FILE *file, const char *first, const char *second)
{
    char line[2100];
    bool found = false;
    rewind(file);
    while (fgets(line, sizeof line, file))
        found |= strstr(line, first) && strstr(line, second);
    fclose(file);
    cr_expect(found, "no line with %s and %s", first, second);
}

Test(erasure_sweeper, a_busy_table_stays_noted_is_told_and_holds_up_no_other)
{
    CM_CLEANUP(world_close) world_t world;
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *reader = NULL;
    world_open(&world);
    FILE *said = catch_stderr();
    reader = cm_test_connect(world.uri);
    cm_test_sql(reader, "BEGIN");
    cm_test_sql(reader, "SELECT count(*) FROM tenant_a.devices");
    note(&world, "a", 61);
    note(&world, "b", 61);
    world_start(&world);
    let_it_look();
    await(&world, PENDING, 1);
    cr_expect(eq(dbl, metric(&world, FAILED), 1));
    cr_expect(eq(dbl, metric(&world, REWRITTEN), 1));
    cr_expect(is_noted(&world, "a"));
    cr_expect(not(is_noted(&world, "b")));
    cm_test_sql(reader, "ROLLBACK");
    let_it_look();
    await(&world, REWRITTEN, 2);
    cr_expect(not(is_noted(&world, "a")));
    expect_caught(said, "\"tenant\":\"a\"", "\"code\":\"55P03\"");
}

/* An index over what cannot be reckoned stands for whatever makes one tenant's rewrite fail. */
Test(erasure_sweeper, a_tenant_that_always_fails_holds_up_no_other)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    cm_test_sql(world.pg, "CREATE FUNCTION public.refuses(text) RETURNS int IMMUTABLE LANGUAGE"
                          " plpgsql AS $$ BEGIN IF current_setting('application_name') = '" SESSION
                          "' THEN RETURN 1/0; END IF; RETURN 1; END $$");
    cm_test_sql(world.pg, "CREATE INDEX ON tenant_a.devices (public.refuses(client_id))");
    note(&world, "a", 61);
    note(&world, "b", 61);
    note(&world, "", 61);
    world_start(&world);
    let_it_look();
    await(&world, PENDING, 1);
    cr_expect(is_noted(&world, "a"));
    cr_expect(not(is_noted(&world, "b")));
    cr_expect(not(is_noted(&world, "")));
    cr_expect(eq(dbl, metric(&world, FAILED), 1));
}

/* ---- the database --------------------------------------------------------------------------- */

static void allow_connections(const world_t *self, bool allowed)
{
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *server = cm_test_connect(cm_test_pg_uri());
    cm_test_sql(server, "ALTER DATABASE %s ALLOW_CONNECTIONS %s", PQdb(cm_pg_raw(self->pg)),
                allowed ? "true" : "false");
}

Test(erasure_sweeper, it_goes_on_after_the_database_was_away)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    note(&world, "a", 61);
    allow_connections(&world, false);
    world_start(&world);
    let_it_look();
    await(&world, FAILED, 1);
    allow_connections(&world, true);
    let_it_look();
    await(&world, REWRITTEN, 1);
    cr_expect(not(is_noted(&world, "a")));
}

static bool sleeps_in_a_rewrite(void *ctx)
{
    world_t *self = ctx;
    return cm_test_number(self->pg,
                          "SELECT count(*) FROM pg_stat_activity"
                          " WHERE application_name = '" SESSION "' AND wait_event = 'PgSleep'"
                          " AND datname = current_database()") > 0;
}

/* The rewrite of tenant "a" takes long while the table public.slow is there. */
static void make_slow(world_t *self)
{
    cm_test_sql(self->pg, "CREATE TABLE public.slow AS SELECT 1");
    cm_test_sql(self->pg, "CREATE FUNCTION public.sleeps(text) RETURNS int IMMUTABLE LANGUAGE"
                          " plpgsql AS $$ BEGIN IF current_setting('application_name') = '" SESSION
                          "' AND to_regclass('public.slow') IS NOT NULL"
                          " THEN PERFORM pg_sleep(50); END IF; RETURN 1; END $$");
    cm_test_sql(self->pg, "CREATE INDEX ON tenant_a.devices (public.sleeps(client_id))");
}

/* Only a stop of the whole statement ends it, so what is reported meanwhile comes from within. */
Test(erasure_sweeper, it_shows_life_during_a_rewrite_that_takes_long)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    make_slow(&world);
    note(&world, "a", 61);
    world_start(&world);
    let_it_look();
    cr_assert(cm_test_wait(sleeps_in_a_rewrite, &world, WAIT_MS));
    while (zsock_events(world.reports) & ZMQ_POLLIN)
        take_report(&world);
    take_report(&world);
    cr_expect(sleeps_in_a_rewrite(&world));
    cm_test_sql(world.pg, "DROP TABLE public.slow");
    cm_test_sql(world.pg,
                "SELECT pg_cancel_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = '" SESSION "' AND datname = current_database()");
    await(&world, FAILED, 1);
}

Test(erasure_sweeper, a_connection_lost_in_a_rewrite_costs_that_look_only_and_is_told_once)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    int64_t before = file_of(&world, "a");
    make_slow(&world);
    note(&world, "a", 61);
    note(&world, "", 61);
    world_start(&world);
    let_it_look();
    cr_assert(cm_test_wait(sleeps_in_a_rewrite, &world, WAIT_MS));
    cm_test_sql(world.pg, "DROP TABLE public.slow");
    cm_test_sql(world.pg,
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
                " WHERE application_name = '" SESSION "' AND datname = current_database()");
    await(&world, FAILED, 1);
    cr_expect(is_noted(&world, "a"));
    cr_expect(eq(i64, file_of(&world, "a"), before));
    take_report(&world); /* the look is over */
    cr_expect(eq(dbl, metric(&world, FAILED), 1));
    let_it_look();
    await(&world, REWRITTEN, 2);
    cr_expect(not(is_noted(&world, "a")));
}

Test(erasure_sweeper, between_two_looks_it_has_no_connection)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    note(&world, "a", 1);
    world_start(&world);
    let_it_look();
    await(&world, PENDING, 1);
    cr_expect(cm_test_wait(has_no_session, &world, WAIT_MS));
}

/* ---- the pipe ------------------------------------------------------------------------------- */

Test(erasure_sweeper, it_ends_when_it_is_asked_to)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    world_start(&world);
    cr_expect(cm_actor_stop(&world.actor, WAIT_MS));
    cr_expect(eq(ptr, world.actor, NULL));
}

/* It holds no delivery, so nobody waits for it to drain. */
Test(erasure_sweeper, a_word_that_is_not_for_it_stops_nothing)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    note(&world, "a", 61);
    world_start(&world);
    zstr_send(world.actor, "DRAIN");
    let_it_look();
    await(&world, REWRITTEN, 1);
    cr_expect(cm_actor_stop(&world.actor, WAIT_MS));
}
