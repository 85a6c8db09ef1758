/* Database roles as an operator meets them: the built program, logins that are no superuser. */
#include "runtime/cleanup.h"
#include "tests/schema/role_case.h"
#include "tests/support/program.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#define ARGS(...)                                                                                  \
    (const char *const[])                                                                          \
    {                                                                                              \
        __VA_ARGS__, NULL                                                                          \
    }

enum { SETTING_MAX = CM_TEST_URI_MAX + 160 };

typedef struct {
    role_world_t roles;
    char superuser[SETTING_MAX], login[SETTING_MAX], redis[SETTING_MAX];
    char prefix[CM_TEST_NAME_MAX + 32], topics[2 * CM_TEST_NAME_MAX];
    cm_program_t program;
} world_t;

static void world_open(world_t *self)
{
    *self = (world_t){0};
    role_world_open(&self->roles);
    snprintf(self->superuser, SETTING_MAX, "CM_POSTGRES_URI=%s", self->roles.uri);
    snprintf(self->login, SETTING_MAX, "CM_POSTGRES_URI=%s", self->roles.login_uri);
    snprintf(self->redis, SETTING_MAX, "CM_REDIS_URI=%s", cm_test_redis_uri());
    snprintf(self->prefix, sizeof self->prefix, "CM_POSTGRES_ROLE_PREFIX=%s", self->roles.prefix);
    snprintf(self->topics, sizeof self->topics, "CM_BROKER_PREFIX=%s", self->roles.prefix);
}

static void world_close(world_t *self)
{
    if (self->program.out)
        cm_program_destroy(&self->program);
    role_world_close(&self->roles);
}

/* Run a command with the URI of somebody and roles on or off. */
static const cm_program_t *manager(world_t *self, const char *uri, bool roles,
                                   const char *const *argv)
{
    if (self->program.out)
        cm_program_destroy(&self->program);
    cm_program_run(&self->program, NULL,
                   ARGS(uri, self->redis, self->prefix, self->topics,
                        "CM_POSTGRES_ADMIN_SCHEMA=" CM_TEST_ADMIN,
                        roles ? "CM_POSTGRES_ROLES=true" : "CM_POSTGRES_ROLES=false"),
                   argv);
    return &self->program;
}

static void expect_says(const char *said, const char *words)
{
    cr_expect(ne(ptr, strstr(said, words), NULL), "not \"%s\": %s", words, said);
}

static void prepare(world_t *self)
{
    const cm_program_t *done =
        manager(self, self->superuser, false,
                ARGS("database", "prepare", "--roles", "--login", self->roles.login));
    cr_assert(eq(int, done->code, 0), "%s", done->err);
}

Test(command_database, prepare_tells_what_it_did_and_then_that_all_is_done, .timeout = 120)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    cm_test_tenant(world.roles.pg, "1");
    const cm_program_t *done =
        manager(&world, world.superuser, false,
                ARGS("database", "prepare", "--roles", "--login", world.roles.login));
    cr_expect(eq(int, done->code, 0), "%s", done->err);
    expect_says(done->out, "_writer created");
    expect_says(done->err, "tenants 1/1");
    done = manager(&world, world.superuser, false, ARGS("database", "prepare", "--roles"));
    cr_expect(eq(int, done->code, 0));
    cr_expect(eq(str, done->err, "all is as it should be already\n"));
}

Test(command_database, a_dry_run_would_do_it, .timeout = 120)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    cm_test_tenant(world.roles.pg, "1");
    const cm_program_t *done =
        manager(&world, world.superuser, true, ARGS("database", "prepare", "--dry-run"));
    cr_expect(eq(int, done->code, 0), "%s", done->err);
    expect_says(done->out, "would   role");
    expect_says(done->err, "1 tenant schemas would be brought under the roles");
    cr_expect(eq(i64,
                 cm_test_number(world.roles.pg,
                                "SELECT count(*) FROM pg_roles WHERE rolname LIKE '%s\\_%%'",
                                world.roles.prefix),
                 0));
}

Test(command_database, who_may_not_is_told_what_grants_it, .timeout = 120)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    const cm_program_t *done =
        manager(&world, world.login, false, ARGS("database", "prepare", "--roles"));
    cr_expect(eq(int, done->code, 78));
    cr_expect(eq(str, done->out, ""));
    expect_says(done->err, "CREATEROLE");
}

Test(command_database, every_command_works_as_a_role_of_the_login, .timeout = 120)
{
    static const char *const commands[][4] = {
        {"tenant", "activate", "5"},
        {"tenant", "list"},
        {"tenant", "show", "5"},
        {"tenant", "status"},
        {"tenant", "migrate", "5"},
        {"dead-letters", "list"},
        {"dead-letters", "replay", "--all"},
        {"dead-letters", "purge", "--all", "--yes"},
        {"audit", "list"},
        {"audit", "verify"},
        {"audit", "export"},
    };
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    prepare(&world);
    for (size_t i = 0; i < CM_LENGTH(commands); i++) {
        const char *const argv[] = {commands[i][0], commands[i][1], commands[i][2], commands[i][3],
                                    NULL};
        const cm_program_t *done = manager(&world, world.login, true, argv);
        cr_expect(eq(int, done->code, 0), "%s %s: %s", argv[0], argv[1], done->err);
    }
}

Test(command_database, without_its_roles_the_login_can_do_nothing, .timeout = 120)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    prepare(&world);
    const cm_program_t *done = manager(&world, world.login, false, ARGS("tenant", "list"));
    cr_expect(eq(int, done->code, 78));
    expect_says(done->err, "permission denied");
    done = manager(&world, world.login, false, ARGS("run", "--set", "monitor.listen="));
    cr_expect(eq(int, done->code, 78));
    expect_says(done->err, "permission denied");
}

Test(command_database, a_service_whose_roles_were_never_made_says_which_command_makes_them,
     .timeout = 120)
{
    char words[2 * CM_TEST_NAME_MAX + 96];
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    const cm_program_t *done =
        manager(&world, world.login, true, ARGS("run", "--set", "monitor.listen="));
    cr_expect(eq(int, done->code, 78));
    snprintf(words, sizeof words,
             "role %s_writer does not exist; run `client-manager database prepare --roles --login "
             "%s`",
             world.roles.prefix, world.roles.login);
    expect_says(done->err, words);
}

Test(command_database, a_service_newer_than_the_admin_schema_does_not_migrate_it, .timeout = 120)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    prepare(&world);
    cm_test_sql(world.roles.pg,
                "DELETE FROM " CM_TEST_ADMIN ".schema_migrations WHERE version > 1");
    const char *const *const commands[] = {ARGS("run", "--set", "monitor.listen="),
                                           ARGS("tenant", "activate", "5")};
    for (size_t i = 0; i < CM_LENGTH(commands); i++) {
        const cm_program_t *done = manager(&world, world.login, true, commands[i]);
        cr_expect(eq(int, done->code, 78));
        expect_says(done->err, "run `client-manager database prepare --roles`");
    }
}

/* ---- doctor --------------------------------------------------------------------------------- */

Test(command_database, doctor_finds_nothing_wrong_with_what_was_prepared, .timeout = 120)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    cm_test_tenant(world.roles.pg, "1");
    prepare(&world);
    const cm_program_t *done = manager(&world, world.login, true, ARGS("doctor", "-o", "json"));
    static const char *const checks[] = {"right to create schemas",
                                         "database roles",
                                         "roles of the login",
                                         "rights of the login",
                                         "owners of the admin schema",
                                         "statements in the server's log",
                                         "tenant schemas outside the roles"};
    for (size_t i = 0; i < CM_LENGTH(checks); i++) {
        char row[128];
        snprintf(row, sizeof row, "{\"result\": \"ok\", \"check\": \"%s\"", checks[i]);
        expect_says(done->out, row);
    }
}

Test(command_database, doctor_finds_what_is_not_under_the_roles, .timeout = 120)
{
    char revoked[3 * CM_TEST_NAME_MAX];
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    cm_test_tenant(world.roles.pg, "1");
    prepare(&world);
    cm_test_sql(world.roles.pg, "ALTER TABLE tenant_1.devices OWNER TO CURRENT_USER");
    cm_test_sql(world.roles.pg, "REVOKE %s_purger FROM %s", world.roles.prefix, world.roles.login);
    const cm_program_t *done = manager(&world, world.login, true, ARGS("doctor", "-o", "json"));
    cr_expect(eq(int, done->code, 1));
    expect_says(done->out, "\"FAIL\", \"check\": \"tenant schemas outside the roles\", \"found\": "
                           "\"1, the first is tenant 1\"");
    snprintf(revoked, sizeof revoked, "\"found\": \"4 of 5 granted to %s\"", world.roles.login);
    expect_says(done->out, revoked);
}

Test(command_database, doctor_tells_that_there_are_no_roles, .timeout = 120)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    const cm_program_t *done = manager(&world, world.login, true, ARGS("doctor"));
    cr_expect(eq(int, done->code, 1));
    expect_says(done->out, "_ddl does not exist; run `client-manager database prepare");
}
