/* The erasure commands and the erasure key as an operator meets them: the built program, a real
 * server. */
#include "schema/erasure.h"
#include "tests/integration/command_case.h"

TestSuite(erasure_commands, .timeout = 120, .fini = cm_test_database_drop);

#define SWEEP(...) ARGS("erasure", "sweep", "-o", "json", __VA_ARGS__)
#define STATUS     ARGS("erasure", "status", "-o", "json")
#define KEY        "0123456789abcdef0123456789abcdef"
#define OTHER_KEY  "fedcba9876543210fedcba9876543210"

/* Tenants 7 and 8. variable: a further one of the program, NULL for none. */
static void world_open(world_t *self, const char *variable)
{
    command_set_up(self, variable);
    command_tenant(self, "7");
    command_tenant(self, "8");
}

static void expect_says(const char *where, const char *what)
{
    cr_expect(ne(ptr, strstr(where, what), NULL), "\"%s\" is not in: %s", what, where);
}

static void note(world_t *self, const char *tenant, int seconds_ago)
{
    cm_test_sql(self->pg,
                "INSERT INTO client_manager.erasures_pending (tenant, requested_at)"
                " VALUES ('%s', now() - interval '%d seconds')",
                tenant, seconds_ago);
}

static void expect_noted(world_t *self, const char *expected)
{
    CM_CLEANUP(cm_free)
    char *rows = cm_test_rows(self->pg, "SELECT tenant FROM client_manager.erasures_pending"
                                        " ORDER BY tenant");
    cr_expect(eq(str, rows, expected));
}

/* ---- status --------------------------------------------------------------------------------- */

Test(erasure_commands, status_of_nothing_is_nothing)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, NULL);
    const cm_program_t *done = manager(&world, STATUS);
    cr_expect(eq(int, done->code, 0), "%s", done->err);
    cr_expect(eq(str, done->out, "{\"pending\": 0, \"oldest_seconds\": 0}\n"));
    cr_expect(eq(str, done->err, ""));
}

Test(erasure_commands, status_tells_how_many_wait_and_since_when)
{
    int pending = 0, seconds = 0;
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, NULL);
    note(&world, "7", 60);
    note(&world, "", 7200);
    const cm_program_t *done = manager(&world, STATUS);
    cr_expect(eq(int, done->code, 0), "%s", done->err);
    int read = sscanf(done->out, "{\"pending\": %d, \"oldest_seconds\": %d}", &pending, &seconds);
    cr_assert(eq(int, read, 2), "%s", done->out);
    cr_expect(eq(int, pending, 2));
    cr_expect(ge(int, seconds, 7200));
    expect_noted(&world, "\n7");
    expect_says(manager(&world, ARGS("erasure", "status"))->out, "oldest_seconds");
}

/* ---- sweep ---------------------------------------------------------------------------------- */

Test(erasure_commands, sweep_of_all_takes_what_is_noted_however_lately)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, NULL);
    note(&world, "8", 0);
    note(&world, "", 0);
    const cm_program_t *done = manager(&world, SWEEP("--all"));
    cr_expect(eq(int, done->code, 0), "%s", done->err);
    cr_expect(eq(str, done->out,
                 "{\"tenant\": \"8\", \"result\": \"rewritten\"}\n"
                 "{\"tenant\": \"(dead letters)\", \"result\": \"rewritten\"}\n"));
    expect_noted(&world, "");
    done = manager(&world, SWEEP("--all"));
    cr_expect(eq(int, done->code, 0));
    cr_expect(eq(str, done->out, ""));
}

Test(erasure_commands, sweep_of_a_named_tenant_leaves_the_others)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, NULL);
    note(&world, "7", 0);
    note(&world, "8", 0);
    const cm_program_t *done = manager(&world, SWEEP("7"));
    cr_expect(eq(int, done->code, 0), "%s", done->err);
    cr_expect(eq(str, done->out, "{\"tenant\": \"7\", \"result\": \"rewritten\"}\n"));
    expect_noted(&world, "8");
    cr_expect(eq(str, manager(&world, SWEEP("7"))->out,
                 "{\"tenant\": \"7\", \"result\": \"rewritten\"}\n"));
}

Test(erasure_commands, sweep_goes_past_a_busy_tenant_and_says_that_it_is_not_all)
{
    CM_CLEANUP(world_close) world_t world;
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *reader = NULL;
    world_open(&world, NULL);
    reader = cm_test_connect(world.uri);
    cm_test_sql(reader, "BEGIN");
    cm_test_sql(reader, "SELECT count(*) FROM tenant_7.devices");
    note(&world, "7", 0);
    note(&world, "8", 0);
    const cm_program_t *done = manager(&world, SWEEP("--all"));
    cr_expect(eq(int, done->code, 3), "%s", done->err);
    expect_says(done->out, "{\"tenant\": \"7\", \"result\": \"failed\"}");
    expect_says(done->out, "{\"tenant\": \"8\", \"result\": \"rewritten\"}");
    expect_says(done->err, "tenant 7");
    expect_says(done->err, "55P03");
    expect_noted(&world, "7");
}

Test(erasure_commands, sweep_of_a_tenant_that_is_not_there_does_not_claim_to_have_rewritten_it)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, NULL);
    const cm_program_t *done = manager(&world, SWEEP("9", "8"));
    cr_expect(eq(int, done->code, 0), "%s", done->err);
    cr_expect(eq(str, done->out,
                 "{\"tenant\": \"9\", \"result\": \"absent\"}\n"
                 "{\"tenant\": \"8\", \"result\": \"rewritten\"}\n"));
}

Test(erasure_commands, sweep_wants_tenants_or_all)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, NULL);
    cr_expect(eq(int, manager(&world, ARGS("erasure", "sweep"))->code, 2));
    cr_expect(eq(int, manager(&world, SWEEP("--all", "7"))->code, 2));
    const cm_program_t *done = manager(&world, SWEEP("7", "no tenant"));
    cr_expect(eq(int, done->code, 2));
    expect_says(done->err, "\"no tenant\" is no tenant id");
}

/* ---- the key -------------------------------------------------------------------------------- */

Test(erasure_commands, a_key_that_is_too_short_is_refused)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, "CM_ERASURE_KEY=fifteen bytes..");
    const char *const *const commands[] = {ARGS("config", "check"), SWEEP("--all"), STATUS,
                                           ARGS("run")};
    for (size_t i = 0; i < CM_LENGTH(commands); i++) {
        const cm_program_t *done = manager(&world, commands[i]);
        cr_expect(eq(int, done->code, 78), "%s", commands[i][0]);
        expect_says(done->err, "erasure.key (CM_ERASURE_KEY) has 15 bytes; give 16 or more");
        cr_expect(eq(ptr, strstr(done->err, "fifteen"), NULL), "the key is shown");
    }
}

Test(erasure_commands, a_key_of_sixteen_bytes_will_do)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, "CM_ERASURE_KEY=sixteen bytes...");
    cr_expect(eq(int, manager(&world, SWEEP("--all"))->code, 0), "%s", world.program.err);
}

Test(erasure_commands, sweep_with_another_key_rewrites_nothing)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, "CM_ERASURE_KEY=" KEY);
    cr_expect(eq(int, manager(&world, SWEEP("--all"))->code, 0), "%s", world.program.err);
    note(&world, "7", 0);
    for (int i = 0; i < 2; i++) {
        world.env[1] = i == 0 ? "CM_ERASURE_KEY=" OTHER_KEY : NULL;
        const cm_program_t *done = manager(&world, SWEEP("--all"));
        cr_expect(eq(int, done->code, 78), "%s", done->err);
        expect_says(done->err, "(erasure-key)");
        expect_noted(&world, "7");
    }
}

Test(erasure_commands, the_service_does_not_start_with_another_key)
{
    cm_error_t err = {0};
    CM_CLEANUP(world_close) world_t world;
    world_open(&world, "CM_ERASURE_KEY=" OTHER_KEY);
    cr_assert(eq(int, cm_erasure_key_check(world.pg, "client_manager", KEY, &err), CM_OK));
    const cm_program_t *done = manager(&world, ARGS("run", "--set", "monitor.listen="));
    cr_expect(eq(int, done->code, 78), "%s", done->err);
    expect_says(done->err, "erasure.key has the id");
    cr_expect(eq(ptr, strstr(done->err, OTHER_KEY), NULL), "the key is shown");
}
