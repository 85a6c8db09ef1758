/* The orphan deletion as an operator meets it: the built program, a real server. */
#include "tests/integration/command_case.h"

TestSuite(orphan_command, .timeout = 120, .fini = cm_test_database_drop);

#define RUN(...)                                                                                   \
    (const char *const[])                                                                          \
    {                                                                                              \
        "job", "run", "orphan-deletion", "-o", "json", __VA_ARGS__, NULL                           \
    }

/* Tenant 7 loses 3 devices of 10; of tenant 8 the guard keeps all 200. */
static void world_open(world_t *self)
{
    static const char *const ids[] = {"7", "8"};
    command_set_up(self, "CM_LOG_FORMAT=json");
    for (size_t i = 0; i < CM_LENGTH(ids); i++) {
        command_tenant(self, ids[i]);
        cm_test_sql(self->pg,
                    "INSERT INTO tenant_%s.devices (application_code, client_id, created_at)"
                    " SELECT 'app', i::text, now() - CASE WHEN i <= %d THEN interval '40 days'"
                    " ELSE interval '1 day' END FROM generate_series(1, %d) AS i",
                    ids[i], i ? 90 : 3, i ? 200 : 10);
    }
}

static void expect_says(const char *where, const char *what)
{
    cr_expect(ne(ptr, strstr(where, what), NULL), "\"%s\" is not in: %s", what, where);
}

static int64_t left(world_t *self, const char *tenant)
{
    return cm_test_number(self->pg, "SELECT count(*) FROM tenant_%s.devices", tenant);
}

Test(orphan_command, a_dry_run_tells_what_a_run_would_do_and_does_nothing)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    const cm_program_t *done = manager(&world, RUN("--dry-run"));
    cr_expect(eq(int, done->code, 3), "%s", done->err);
    expect_says(done->out, "\"orphans\": 93, \"deleted\": 0");
    expect_says(done->out, "\"guarded\": [{\"tenant\": \"8\", \"devices\": 200, \"orphans\": 90}]");
    cr_expect(eq(i64, left(&world, "7"), 10));
    cr_expect(eq(i64, left(&world, "8"), 200));
}

Test(orphan_command, what_the_guard_keeps_is_let_through_by_a_key)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    const cm_program_t *done = manager(&world, RUN("--set", "orphan_job.pause_ms=0"));
    cr_expect(eq(int, done->code, 3), "%s", done->err);
    expect_says(done->out, "\"tenants_failed\": 1, \"tenants_guarded\": 1");
    expect_says(done->err, "orphan-guard");
    cr_expect(eq(i64, left(&world, "7"), 7));
    cr_expect(eq(i64, left(&world, "8"), 200));
    done = manager(&world, RUN("--tenant", "8", "--set", "orphan_job.guard_percent=100"));
    cr_expect(eq(int, done->code, 0), "%s", done->err);
    expect_says(done->out, "\"deleted\": 90");
    cr_expect(eq(i64, left(&world, "8"), 110));
}

Test(orphan_command, rules_that_are_not_there_fail_the_run)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    cm_test_sql(world.pg, "DROP TABLE client_manager.orphan_rules");
    const cm_program_t *done = manager(&world, RUN("--set", "orphan_job.exclude=9"));
    cr_expect(eq(int, done->code, 1), "%s", done->err);
    expect_says(done->out, "orphan-rules");
    cr_expect(eq(i64, left(&world, "7"), 10));
    done = manager(&world, RUN("--set", "orphan_job.exclude=9 9"));
    cr_expect(eq(int, done->code, 78), "%s", done->err);
}
