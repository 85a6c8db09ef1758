#include "runtime/cleanup.h"
#include "schema/migration.h"
#include "tests/support/schema_fixture.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct {
    char uri[CM_TEST_URI_MAX];
    cm_pg_t *pg;
    cm_error_t err;
} world_t;

static void set_up(world_t *self)
{
    cm_test_database(self->uri);
    self->pg = cm_test_connect(self->uri);
}

static void tear_down(world_t *self)
{
    cm_pg_destroy(&self->pg);
}

Test(migration, embedded_versions_run_from_one_without_gaps)
{
    const cm_migration_set_t *sets[] = {&cm_migrations_admin, &cm_migrations_tenant};
    for (size_t s = 0; s < CM_LENGTH(sets); s++) {
        cr_assert(gt(int, sets[s]->count, 0));
        for (int i = 0; i < sets[s]->count; i++)
            cr_expect(eq(int, sets[s]->items[i].version, i + 1));
    }
}

Test(migration, admin_schema_is_created_and_recorded, .timeout = 30, .fini = cm_test_database_drop)
{
    world_t world = {0};
    set_up(&world);
    cr_assert(eq(int, cm_admin_prepare(world.pg, "client_manager", &world.err), CM_OK), "%s",
              world.err.message);
    cr_expect(eq(i64, cm_test_number(world.pg, "SELECT count(*) FROM client_manager.tenants"), 0));
    cr_expect(eq(
        i64, cm_test_number(world.pg, "SELECT max(version) FROM client_manager.schema_migrations"),
        cm_migrations_admin.count));
    tear_down(&world);
}

Test(migration, preparing_again_changes_nothing, .timeout = 30, .fini = cm_test_database_drop)
{
    world_t world = {0};
    set_up(&world);
    for (int i = 0; i < 3; i++)
        cr_assert(eq(int, cm_admin_prepare(world.pg, "client_manager", &world.err), CM_OK));
    cr_expect(eq(i64,
                 cm_test_number(world.pg, "SELECT count(*) FROM client_manager.schema_migrations"),
                 cm_migrations_admin.count));
    tear_down(&world);
}

Test(migration, any_name_of_the_admin_schema_is_quoted, .timeout = 30,
     .fini = cm_test_database_drop)
{
    world_t world = {0};
    set_up(&world);
    cr_assert(eq(int, cm_admin_prepare(world.pg, "Odd \"Name\"-1", &world.err), CM_OK), "%s",
              world.err.message);
    cr_expect(eq(
        i64, cm_test_number(world.pg, "SELECT count(*) FROM \"Odd \"\"Name\"\"-1\".tenants"), 0));
    tear_down(&world);
}

Test(migration, a_schema_that_an_administrator_made_is_used, .timeout = 30,
     .fini = cm_test_database_drop)
{
    world_t world = {0};
    set_up(&world);
    cm_test_sql(world.pg, "CREATE SCHEMA client_manager");
    cr_assert(eq(int, cm_admin_prepare(world.pg, "client_manager", &world.err), CM_OK));
    cr_expect(eq(i64, cm_test_number(world.pg, "SELECT count(*) FROM client_manager.tenants"), 0));
    tear_down(&world);
}

Test(migration, a_schema_newer_than_the_program_is_refused, .timeout = 30,
     .fini = cm_test_database_drop)
{
    world_t world = {0};
    set_up(&world);
    cr_assert(eq(int, cm_admin_prepare(world.pg, "client_manager", &world.err), CM_OK));
    cm_test_sql(world.pg,
                "INSERT INTO client_manager.schema_migrations VALUES (9999, 'future', 9999)");
    cr_expect(eq(int, cm_admin_check(world.pg, "client_manager", 1, &world.err), CM_MISCONFIGURED));
    cr_expect(eq(int, cm_admin_prepare(world.pg, "client_manager", &world.err), CM_MISCONFIGURED));
    cr_expect(eq(str, world.err.code, "schema-newer"));
    tear_down(&world);
}

Test(migration, a_newer_schema_that_is_compatible_is_used_as_it_is, .timeout = 30,
     .fini = cm_test_database_drop)
{
    world_t world = {0};
    set_up(&world);
    cr_assert(eq(int, cm_admin_prepare(world.pg, "client_manager", &world.err), CM_OK));
    cm_test_sql(world.pg,
                "INSERT INTO client_manager.schema_migrations VALUES (9999, 'future', %d)",
                cm_migrations_admin.count);
    cr_expect(eq(int, cm_admin_prepare(world.pg, "client_manager", &world.err), CM_OK), "%s",
              world.err.message);
    cr_expect(eq(int, cm_admin_check(world.pg, "client_manager", 1, &world.err), CM_OK));
    cr_expect(eq(i64,
                 cm_test_number(world.pg, "SELECT count(*) FROM client_manager.schema_migrations"),
                 cm_migrations_admin.count + 1));
    tear_down(&world);
}

Test(migration, a_check_makes_nothing_and_names_who_does, .timeout = 30,
     .fini = cm_test_database_drop)
{
    world_t world = {0};
    set_up(&world);
    cr_expect(eq(int, cm_admin_check(world.pg, "client_manager", 1, &world.err), CM_MISCONFIGURED));
    cr_expect(eq(str, world.err.code, "schema-absent"));
    cr_expect(eq(i64,
                 cm_test_number(world.pg, "SELECT count(*) FROM pg_namespace"
                                          " WHERE nspname = 'client_manager'"),
                 0));
    tear_down(&world);
}

Test(migration, a_check_lets_an_older_schema_pass_that_has_what_is_read, .timeout = 30,
     .fini = cm_test_database_drop)
{
    world_t world = {0};
    set_up(&world);
    cr_assert(eq(int, cm_admin_prepare(world.pg, "client_manager", &world.err), CM_OK));
    cm_test_sql(world.pg, "DELETE FROM client_manager.schema_migrations WHERE version > 1");
    cr_expect(
        eq(int, cm_admin_check(world.pg, "client_manager", CM_ADMIN_BASE, &world.err), CM_OK));
    cr_expect(eq(int, cm_admin_check(world.pg, "client_manager", CM_ADMIN_AUDIT_LOG, &world.err),
                 CM_MISCONFIGURED));
    cr_expect(eq(str, world.err.code, "schema-older"));
    tear_down(&world);
}

Test(migration, a_missing_right_is_a_misconfiguration, .timeout = 30, .fini = cm_test_database_drop)
{
    world_t world = {0};
    set_up(&world);
    char role[CM_TEST_NAME_MAX];
    cm_test_unique(role, "cm_role");
    cm_test_sql(world.pg, "CREATE ROLE %s", role);
    cm_test_sql(world.pg, "SET ROLE %s", role);
    cr_expect(eq(int, cm_admin_prepare(world.pg, "client_manager", &world.err), CM_MISCONFIGURED));
    cr_expect(eq(str, world.err.code, "42501"));
    cr_expect(eq(int, PQtransactionStatus(cm_pg_raw(world.pg)), PQTRANS_IDLE));
    cm_test_sql(world.pg, "RESET ROLE");
    cm_test_sql(world.pg, "DROP ROLE %s", role);
    tear_down(&world);
}

Test(migration, a_lost_connection_is_unavailable, .timeout = 30, .fini = cm_test_database_drop)
{
    world_t world = {0};
    set_up(&world);
    cm_pg_close(world.pg);
    cr_expect(eq(int, cm_admin_prepare(world.pg, "client_manager", &world.err), CM_UNAVAILABLE));
    tear_down(&world);
}

Test(migration, eight_processes_may_prepare_at_once, .timeout = 60, .fini = cm_test_database_drop)
{
    world_t world = {0};
    set_up(&world);
    pid_t children[8];
    for (size_t i = 0; i < CM_LENGTH(children); i++) {
        children[i] = fork();
        if (children[i] == 0) {
            cm_error_t err = {0};
            cm_pg_t *pg = cm_test_connect(world.uri);
            _exit(cm_admin_prepare(pg, "client_manager", &err) == CM_OK ? 0 : 1);
        }
    }
    for (size_t i = 0; i < CM_LENGTH(children); i++) {
        int status = -1;
        cr_assert(eq(int, waitpid(children[i], &status, 0), children[i]));
        cr_expect(eq(int, status, 0));
    }
    cr_expect(eq(i64,
                 cm_test_number(world.pg, "SELECT count(*) FROM client_manager.schema_migrations"),
                 cm_migrations_admin.count));
    tear_down(&world);
}

static const cm_migration_t steps[] = {
    {1, 1, "0001_first", "CREATE TABLE @schema@.a (i int); INSERT INTO @schema@.a VALUES (1)"},
    {2, 1, "0002_second", "CREATE TABLE @schema@.b (i int)"},
    {3, 1, "0003_broken", "CREATE TABLE @schema@.a (i int)"},
};

Test(migration, only_what_is_newer_runs, .timeout = 30, .fini = cm_test_database_drop)
{
    world_t world = {0};
    set_up(&world);
    cm_migration_set_t one = {steps, 1}, two = {steps, 2};
    int version = 0;
    cm_test_sql(world.pg, "CREATE SCHEMA \"s-1\"");
    cr_assert(eq(int, cm_migration_apply(world.pg, &one, "s-1", 0, &version, &world.err), CM_OK));
    cr_expect(eq(int, version, 1));
    cr_assert(eq(int, cm_migration_apply(world.pg, &two, "s-1", 1, &version, &world.err), CM_OK));
    cr_expect(eq(int, version, 2));
    cr_expect(eq(i64, cm_test_number(world.pg, "SELECT count(*) FROM \"s-1\".a"), 1));
    tear_down(&world);
}

Test(migration, a_failure_names_its_file, .timeout = 30, .fini = cm_test_database_drop)
{
    world_t world = {0};
    set_up(&world);
    cm_migration_set_t set = {steps, 3};
    int version = 0;
    cm_test_sql(world.pg, "CREATE SCHEMA s");
    cr_assert(ne(int, cm_migration_apply(world.pg, &set, "s", 0, &version, &world.err), CM_OK));
    cr_expect(eq(str, world.err.code, "42P07"));
    cr_expect(eq(int, strncmp(world.err.message, "0003_broken: ", 13), 0), "%s", world.err.message);
    tear_down(&world);
}
