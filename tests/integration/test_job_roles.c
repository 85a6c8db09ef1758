/* The job commands under database roles: a login that has nothing else. */
#include "tests/schema/role_case.h"
#include "tests/support/program.h"

TestSuite(job_roles, .timeout = 120);

#define ARGS(...)                                                                                  \
    (const char *const[])                                                                          \
    {                                                                                              \
        __VA_ARGS__, NULL                                                                          \
    }

typedef struct {
    role_world_t roles;
    char superuser[CM_TEST_URI_MAX + 32], login[CM_TEST_URI_MAX + 160];
    char prefix[CM_TEST_NAME_MAX + 32];
    cm_program_t program;
} world_t;

static const cm_program_t *manager(world_t *self, const char *uri, const char *roles,
                                   const char *const *argv)
{
    if (self->program.out)
        cm_program_destroy(&self->program);
    cm_program_start_at(&self->program, CM_JOB_PROGRAM, NULL,
                        ARGS(uri, self->prefix, roles, "CM_POSTGRES_ADMIN_SCHEMA=" CM_TEST_ADMIN),
                        argv);
    cm_program_finish(&self->program);
    return &self->program;
}

/* The steps of the jobs are tables of the test, for everybody. */
static void world_open(world_t *self)
{
    *self = (world_t){0};
    role_world_open(&self->roles);
    snprintf(self->superuser, sizeof self->superuser, "CM_POSTGRES_URI=%s", self->roles.uri);
    snprintf(self->login, sizeof self->login, "CM_POSTGRES_URI=%s", self->roles.login_uri);
    snprintf(self->prefix, sizeof self->prefix, "CM_POSTGRES_ROLE_PREFIX=%s", self->roles.prefix);
    cm_test_sql(self->roles.pg, "CREATE TABLE public.job_plan (job text PRIMARY KEY, tenants int,"
                                " step_ms int, hold_ms int, fails text)");
    cm_test_sql(self->roles.pg, "CREATE TABLE public.job_steps (job text, run_id bigint,"
                                " tenant text, holder text, term bigint, at timestamptz,"
                                " role text DEFAULT current_user)");
    cm_test_sql(self->roles.pg, "GRANT ALL ON public.job_plan, public.job_steps TO PUBLIC");
    cm_test_sql(self->roles.pg, "INSERT INTO public.job_plan VALUES ('orphan-deletion', 3, 0, 0,"
                                " '')");
    const cm_program_t *done =
        manager(self, self->superuser, "CM_POSTGRES_ROLES=false",
                ARGS("database", "prepare", "--roles", "--login", self->roles.login));
    cr_assert(eq(int, done->code, 0), "%s", done->err);
}

static void world_close(world_t *self)
{
    if (self->program.out)
        cm_program_destroy(&self->program);
    role_world_close(&self->roles);
}

static void expect_code(world_t *self, int code, const char *const *argv)
{
    const cm_program_t *done = manager(self, self->login, "CM_POSTGRES_ROLES=true", argv);
    cr_expect(eq(int, done->code, code), "%s %s: %s", argv[0], argv[1], done->err);
}

Test(job_roles, a_job_works_as_its_role_and_forgets_old_runs_as_it)
{
    char role[CM_ROLE_NAME_MAX];
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    expect_code(&world, 0, ARGS("job", "run", "orphan-deletion"));
    CM_CLEANUP(cm_free)
    char *roles = cm_test_rows(world.roles.pg, "SELECT DISTINCT role FROM public.job_steps");
    cr_expect(eq(str, roles, (char *)cm_role_name(world.roles.prefix, CM_ROLE_DASH, role)));
    cm_test_sql(world.roles.pg,
                "UPDATE " CM_TEST_ADMIN ".job_runs SET ended_at = now() - interval '99 days'");
    expect_code(&world, 0, ARGS("job", "run", "orphan-deletion"));
    cr_expect(eq(
        i64, cm_test_number(world.roles.pg, "SELECT count(*) FROM " CM_TEST_ADMIN ".job_runs"), 1));
    cr_expect(
        eq(i64,
           cm_test_number(world.roles.pg, "SELECT count(*) FROM " CM_TEST_ADMIN ".job_run_tenants"),
           3));
}

Test(job_roles, every_command_has_the_rights_it_needs)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    expect_code(&world, 0, ARGS("job", "list"));
    expect_code(&world, 0, ARGS("job", "run", "orphan-deletion", "--dry-run"));
    expect_code(&world, 0, ARGS("job", "run", "orphan-deletion", "--tenant", "1"));
    expect_code(&world, 0, ARGS("job", "run", "orphan-deletion", "--detach"));
    expect_code(&world, 0, ARGS("job", "pause", "orphan-deletion"));
    expect_code(&world, 0, ARGS("job", "resume", "orphan-deletion"));
    expect_code(&world, 0, ARGS("job", "orphan-deletion"));
    expect_code(&world, 0, ARGS("job", "history"));
    expect_code(&world, 0, ARGS("job", "show", "1"));
    expect_code(&world, 1, ARGS("job", "cancel", "1"));
    cr_expect(ne(ptr, strstr(world.program.err, "run 1 has ended"), NULL), "%s", world.program.err);
}
