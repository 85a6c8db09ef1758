/* The orphan deletion as an operator meets it: the built program, a real server. */
#include "runtime/cleanup.h"
#include "schema/migration.h"
#include "schema/tenant_schema.h"
#include "tests/support/program.h"
#include "tests/support/schema_fixture.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <string.h>

TestSuite(orphan_command, .timeout = 120, .fini = cm_test_database_drop);

#define RUN(...)                                                                                   \
    (const char *const[])                                                                          \
    {                                                                                              \
        "job", "run", "orphan-deletion", "-o", "json", __VA_ARGS__, NULL                           \
    }

typedef struct {
    char uri[CM_TEST_URI_MAX], uri_variable[CM_TEST_URI_MAX + 32];
    cm_pg_t *pg;
    cm_program_t program;
} world_t;

/* Tenant 7 loses 3 devices of 10; of tenant 8 the guard keeps all 200. */
static void world_open(world_t *self)
{
    static const char *const ids[] = {"7", "8"};
    cm_error_t err = {0};
    cm_tenant_change_t change;
    *self = (world_t){0};
    cm_test_database(self->uri);
    snprintf(self->uri_variable, sizeof self->uri_variable, "CM_POSTGRES_URI=%s", self->uri);
    self->pg = cm_test_connect(self->uri);
    cr_assert(eq(int, cm_admin_prepare(self->pg, "client_manager", &err), CM_OK));
    for (size_t i = 0; i < CM_LENGTH(ids); i++) {
        cr_assert(eq(int,
                     cm_tenant_schema_activate(self->pg, "client_manager", ids[i], "", 1000, NULL,
                                               &change, &err),
                     CM_OK));
        cm_test_sql(self->pg,
                    "INSERT INTO tenant_%s.devices (application_code, client_id, created_at)"
                    " SELECT 'app', i::text, now() - CASE WHEN i <= %d THEN interval '40 days'"
                    " ELSE interval '1 day' END FROM generate_series(1, %d) AS i",
                    ids[i], i ? 90 : 3, i ? 200 : 10);
    }
}

static void world_close(world_t *self)
{
    cm_pg_destroy(&self->pg);
    if (self->program.out)
        cm_program_destroy(&self->program);
}

static const cm_program_t *manager(world_t *self, const char *const *argv)
{
    const char *env[] = {self->uri_variable, "CM_LOG_FORMAT=json", NULL};
    if (self->program.out)
        cm_program_destroy(&self->program);
    cm_program_run(&self->program, NULL, env, argv);
    return &self->program;
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
