/* `database prepare`: again, at once, half done, by who may and who may not. */
#include "schema/migration.h"
#include "tests/schema/role_case.h"

#include <pthread.h>

enum { AT_ONCE = 6 };

static cm_status_t prepare(role_world_t *world, cm_pg_t *pg, const cm_database_plan_t *plan)
{
    return cm_database_prepare(pg, plan, &world->notes, &world->outside, &world->err);
}

/* A login of its own that prepares; may be dropped once its database is gone. */
typedef struct {
    char name[CM_TEST_NAME_MAX], uri[CM_TEST_URI_MAX + 128];
    cm_pg_t *pg;
} admin_t;

static void admin_open(admin_t *self, role_world_t *world, const char *attributes)
{
    cm_test_unique(self->name, "dba");
    cm_test_sql(world->pg, "CREATE ROLE %s LOGIN %s", self->name, attributes);
    uri_of_login(self->uri, sizeof self->uri, world->uri, self->name);
    self->pg = cm_test_connect(self->uri);
}

/* Closes the world, too. */
static void admin_close(admin_t *self, role_world_t *world)
{
    cm_pg_destroy(&self->pg);
    cm_pg_destroy(&world->pg);
    cm_test_database_drop();
    cm_pg_t *server = cm_test_connect(cm_test_pg_uri());
    drop_role(server, self->name);
    cm_pg_destroy(&server);
    role_world_close(world);
}

/* The database, the admin schema and what is in it belong to admin. */
static void hand_database_to(role_world_t *world, const char *admin)
{
    cm_test_sql(world->pg, "ALTER DATABASE %s OWNER TO %s", PQdb(cm_pg_raw(world->pg)), admin);
    cm_test_sql(world->pg, "DROP SCHEMA " CM_TEST_ADMIN " CASCADE");
}

/* ---- what it does --------------------------------------------------------------------------- */

Test(database_prepare, an_empty_database_gets_schema_and_roles, .timeout = 60)
{
    role_world_t world;
    role_world_open(&world);
    cm_test_sql(world.pg, "DROP SCHEMA " CM_TEST_ADMIN " CASCADE");
    role_prepare_all(&world, world.pg);
    cr_expect(ne(ptr, (void *)role_note(&world, "brought from version 0 to"), NULL));
    cr_expect(eq(i64,
                 cm_test_number(world.pg,
                                "SELECT count(*) FROM pg_roles WHERE rolname LIKE"
                                " '%s\\_%%' AND NOT rolcanlogin",
                                world.prefix),
                 CM_ROLE_COUNT - CM_ROLE_OWNER));
    role_world_close(&world);
}

Test(database_prepare, done_again_it_has_nothing_to_do, .timeout = 60)
{
    role_world_t world;
    role_world_open(&world);
    cm_test_tenant(world.pg, "1");
    cr_expect(eq(sz, role_prepare_all(&world, world.pg).changed, 1));
    cr_expect(eq(sz, role_prepare_all(&world, world.pg).total, 0));
    cr_expect(eq(sz, world.notes.count, 0), "%s",
              world.notes.count ? world.notes.items[0].what : "");
    role_world_close(&world);
}

Test(database_prepare, a_dry_run_tells_it_and_changes_nothing, .timeout = 60)
{
    role_world_t world;
    role_world_open(&world);
    cm_test_tenant(world.pg, "1");
    const char *logins[] = {world.login};
    cm_database_plan_t plan = role_plan(&world, logins);
    plan.dry_run = true;
    cr_assert(eq(int, prepare(&world, world.pg, &plan), CM_OK), "%s", world.err.message);
    cr_expect(eq(i64, world.outside, 1));
    cr_expect(eq(i64,
                 cm_test_number(world.pg,
                                "SELECT count(*) FROM pg_roles WHERE rolname LIKE"
                                " '%s\\_%%'",
                                world.prefix),
                 0));
    size_t told = world.notes.count;
    plan.dry_run = false;
    cr_assert(eq(int, prepare(&world, world.pg, &plan), CM_OK));
    cr_expect(eq(sz, world.notes.count, told));
    role_world_close(&world);
}

Test(database_prepare, without_roles_it_only_migrates, .timeout = 60)
{
    role_world_t world;
    role_world_open(&world);
    cm_test_sql(world.pg, "DROP SCHEMA " CM_TEST_ADMIN " CASCADE");
    cm_database_plan_t plan = {.admin_schema = CM_TEST_ADMIN};
    cr_assert(eq(int, prepare(&world, world.pg, &plan), CM_OK), "%s", world.err.message);
    cr_expect(eq(sz, world.notes.count, 1));
    cr_expect(eq(int,
                 cm_admin_check(world.pg, CM_TEST_ADMIN, cm_migrations_admin.count, &world.err),
                 CM_OK));
    role_world_close(&world);
}

Test(database_prepare, a_right_that_somebody_gave_or_took_is_set_right, .timeout = 60)
{
    role_world_t world;
    role_world_open(&world);
    cm_test_tenant(world.pg, "1");
    cm_test_tenant(world.pg, "2");
    cm_test_tenant(world.pg, "3");
    role_prepare_all(&world, world.pg);
    cm_test_sql(world.pg, "GRANT DELETE ON tenant_1.tombstones TO %s_writer", world.prefix);
    cm_test_sql(world.pg, "REVOKE INSERT ON tenant_2.devices FROM %s_writer", world.prefix);
    cr_expect(eq(i64, role_outside(&world), 2));
    cr_expect(eq(sz, role_prepare_all(&world, world.pg).changed, 2));
    cr_expect(eq(i64, role_outside(&world), 0));
    role_world_close(&world);
}

Test(database_prepare, a_tenant_older_than_the_program_is_brought_under_the_roles, .timeout = 60)
{
    role_world_t world;
    role_world_open(&world);
    cm_test_tenant(world.pg, "1");
    cm_test_sql(world.pg, "DROP TABLE tenant_1.push_verdicts_held");
    cr_expect(eq(sz, role_prepare_all(&world, world.pg).changed, 1));
    cr_expect(eq(i64, role_outside(&world), 0));
    role_world_close(&world);
}

Test(database_prepare, public_is_closed_only_when_asked, .timeout = 60)
{
    static const char open[] = "SELECT has_schema_privilege('public', 'public', 'CREATE')::int";
    role_world_t world;
    role_world_open(&world);
    cm_test_sql(world.pg, "GRANT CREATE ON SCHEMA public TO PUBLIC");
    cm_database_plan_t plan = role_plan(&world, NULL);
    cr_assert(eq(int, prepare(&world, world.pg, &plan), CM_OK), "%s", world.err.message);
    const cm_database_note_t *note = role_note(&world, "everybody may create");
    cr_assert(ne(ptr, (void *)note, NULL));
    cr_expect(ne(ptr, strstr(note->mend, "--revoke-public"), NULL));
    cr_expect(eq(i64, cm_test_number(world.pg, open), 1));
    plan.revoke_public = true;
    cr_assert(eq(int, prepare(&world, world.pg, &plan), CM_OK));
    cr_expect(eq(i64, cm_test_number(world.pg, open), 0));
    role_world_close(&world);
}

Test(database_prepare, a_login_keeps_push_tokens_out_of_the_servers_log, .timeout = 60)
{
    role_world_t world;
    role_world_open(&world);
    role_prepare_all(&world, world.pg);
    {
        CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = role_session(&world, CM_ROLE_WRITER);
        CM_CLEANUP(cm_free)
        char *found = cm_test_rows(pg, "SELECT current_setting('log_min_error_statement'),"
                                       " current_setting('log_error_verbosity'),"
                                       " current_setting('log_parameter_max_length'),"
                                       " current_setting('log_parameter_max_length_on_error')");
        cr_expect(eq(str, found, "panic|terse|0|0"));
    }
    role_world_close(&world);
}

/* ---- at once -------------------------------------------------------------------------------- */

typedef struct {
    const role_world_t *world;
    const char *uri;
    pthread_barrier_t *barrier;
    cm_error_t err;
} racer_t;

static void *race(void *ctx)
{
    racer_t *self = ctx;
    int64_t outside = 0;
    CM_CLEANUP(cm_database_notes_destroy) cm_database_notes_t notes = {0};
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = cm_test_connect(self->uri);
    const char *logins[] = {self->world->login};
    cm_database_plan_t plan = role_plan(self->world, logins);
    pthread_barrier_wait(self->barrier);
    self->err.status = cm_database_prepare(pg, &plan, &notes, &outside, &self->err);
    return NULL;
}

static void race_all(role_world_t *world, const char *const *uris)
{
    pthread_t threads[AT_ONCE];
    racer_t racers[AT_ONCE];
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, AT_ONCE);
    for (int i = 0; i < AT_ONCE; i++) {
        racers[i] = (racer_t){.world = world, .uri = uris[i], .barrier = &barrier};
        cr_assert(eq(int, pthread_create(&threads[i], NULL, race, &racers[i]), 0));
    }
    for (int i = 0; i < AT_ONCE; i++) {
        pthread_join(threads[i], NULL);
        cr_expect(eq(int, racers[i].err.status, CM_OK), "%s %s", racers[i].err.code,
                  racers[i].err.message);
    }
    pthread_barrier_destroy(&barrier);
}

Test(database_prepare, many_may_prepare_one_database_at_once, .timeout = 120)
{
    role_world_t world;
    role_world_open(&world);
    const char *uris[AT_ONCE];
    for (int i = 0; i < AT_ONCE; i++)
        uris[i] = world.uri;
    race_all(&world, uris);
    role_world_close(&world);
}

Test(database_prepare, databases_of_one_server_may_be_prepared_at_once, .timeout = 120)
{
    role_world_t world;
    char other[CM_TEST_URI_MAX];
    role_world_open(&world);
    cm_test_database(other);
    const char *uris[AT_ONCE];
    for (int i = 0; i < AT_ONCE; i++)
        uris[i] = i % 2 ? other : world.uri;
    race_all(&world, uris);
    role_world_close(&world);
}

/* ---- who may -------------------------------------------------------------------------------- */

static void expect_refused(role_world_t *world, cm_pg_t *pg, const char *code, const char *words)
{
    const char *logins[] = {world->login};
    cm_database_plan_t plan = role_plan(world, logins);
    cr_expect(eq(int, prepare(world, pg, &plan), CM_MISCONFIGURED));
    cr_expect(eq(str, world->err.code, (char *)code), "%s", world->err.message);
    cr_expect(ne(ptr, strstr(world->err.message, words), NULL), "%s", world->err.message);
}

Test(database_prepare, who_may_not_create_roles_is_told_what_grants_it, .timeout = 60)
{
    role_world_t world;
    admin_t admin;
    role_world_open(&world);
    admin_open(&admin, &world, "");
    expect_refused(&world, admin.pg, "role-rights", "CREATEROLE");
    admin_close(&admin, &world);
}

Test(database_prepare, who_does_not_own_the_database_is_told_what_grants_it, .timeout = 60)
{
    role_world_t world;
    admin_t admin;
    role_world_open(&world);
    admin_open(&admin, &world, "CREATEROLE");
    expect_refused(&world, admin.pg, "role-rights", "database");
    admin_close(&admin, &world);
}

Test(database_prepare, who_has_not_the_rights_of_an_owner_is_told_whose, .timeout = 60)
{
    role_world_t world;
    admin_t admin;
    role_world_open(&world);
    admin_open(&admin, &world, "CREATEROLE");
    hand_database_to(&world, admin.name);
    cm_admin_prepare(world.pg, CM_TEST_ADMIN, &world.err); /* a superuser's */
    cm_test_sql(world.pg, "GRANT USAGE ON SCHEMA " CM_TEST_ADMIN " TO %s", admin.name);
    cm_test_sql(world.pg, "GRANT SELECT ON ALL TABLES IN SCHEMA " CM_TEST_ADMIN " TO %s",
                admin.name);
    expect_refused(&world, admin.pg, "role-rights", "has not the rights of the owner of schema");
    admin_close(&admin, &world);
}

Test(database_prepare, one_with_createrole_who_owns_it_all_prepares_and_keeps_no_role,
     .timeout = 60)
{
    role_world_t world;
    admin_t admin;
    role_world_open(&world);
    admin_open(&admin, &world, "CREATEROLE");
    hand_database_to(&world, admin.name);
    cr_assert(eq(int, cm_admin_prepare(admin.pg, CM_TEST_ADMIN, &world.err), CM_OK));
    cm_test_tenant(admin.pg, "1");
    for (int i = 0; i < 2; i++) { /* the second time what is there belongs to the roles */
        role_prepare_all(&world, admin.pg);
        cr_expect(eq(i64, role_outside(&world), 0));
        cr_expect(eq(i64,
                     cm_test_number(world.pg,
                                    "SELECT count(*) FROM pg_auth_members WHERE member ="
                                    " '%s'::regrole",
                                    admin.name),
                     0));
    }
    const cm_database_note_t *note = role_note(&world, "log_min_error_statement");
    cr_assert(ne(ptr, (void *)note, NULL));
    cr_expect(eq(int, strncmp(note->mend, "as a superuser: ", 16), 0), "%s", note->mend);
    admin_close(&admin, &world);
}

/* ---- what is in the way --------------------------------------------------------------------- */

Test(database_prepare, a_role_that_is_none_of_ours_is_not_used, .timeout = 60)
{
    role_world_t world;
    role_world_open(&world);
    cm_test_sql(world.pg, "CREATE ROLE %s_writer LOGIN", world.prefix);
    expect_refused(&world, world.pg, "role-taken", "role_prefix");
    role_world_close(&world);
}

Test(database_prepare, a_login_that_does_not_exist_is_not_made, .timeout = 60)
{
    role_world_t world;
    role_world_open(&world);
    cm_test_sql(world.pg, "DROP ROLE %s", world.login);
    expect_refused(&world, world.pg, "role-login", "CREATE ROLE");
    role_world_close(&world);
}

Test(database_prepare, the_login_that_prepares_is_not_the_services, .timeout = 60)
{
    role_world_t world;
    role_world_open(&world);
    CM_CLEANUP(cm_free) char *superuser = cm_test_rows(world.pg, "SELECT current_user");
    const char *logins[] = {superuser};
    cm_database_plan_t plan = role_plan(&world, logins);
    cr_expect(eq(int, prepare(&world, world.pg, &plan), CM_MISCONFIGURED));
    cr_expect(eq(str, world.err.code, "role-login"));
    role_world_close(&world);
}

Test(database_prepare, a_login_with_rights_of_its_own_is_told, .timeout = 60)
{
    role_world_t world;
    role_world_open(&world);
    cm_test_sql(world.pg, "GRANT CREATE ON DATABASE %s TO %s", PQdb(cm_pg_raw(world.pg)),
                world.login);
    role_prepare_all(&world, world.pg);
    const cm_database_note_t *note = role_note(&world, "may create schemas on its own");
    cr_assert(ne(ptr, (void *)note, NULL));
    cr_expect(eq(int, strncmp(note->mend, "REVOKE CREATE ON DATABASE", 25), 0), "%s", note->mend);
    role_world_close(&world);
}

Test(database_prepare, a_tenant_that_fails_is_left_and_the_others_are_done, .timeout = 60)
{
    role_world_t world;
    admin_t admin;
    role_world_open(&world);
    admin_open(&admin, &world, "CREATEROLE");
    hand_database_to(&world, admin.name);
    cr_assert(eq(int, cm_admin_prepare(admin.pg, CM_TEST_ADMIN, &world.err), CM_OK));
    cm_test_tenant(admin.pg, "1");
    cm_test_tenant(admin.pg, "2");
    cm_test_tenant(admin.pg, "3");
    cm_test_sql(world.pg, "ALTER TABLE tenant_2.devices OWNER TO CURRENT_USER");
    cm_migrate_progress_t done = role_prepare_all(&world, admin.pg);
    cr_expect(eq(sz, done.total, 3));
    cr_expect(eq(sz, done.changed, 2));
    cr_expect(eq(sz, done.failed, 1));
    cr_expect(eq(i64, role_outside(&world), 1));
    cm_test_sql(world.pg, "ALTER TABLE tenant_2.devices OWNER TO %s", admin.name);
    done = role_prepare_all(&world, admin.pg);
    cr_expect(eq(sz, done.total, 1));
    cr_expect(eq(i64, role_outside(&world), 0));
    admin_close(&admin, &world);
}
