/* What the service does to a database that was prepared, as the roles that do it. */
#include "schema/audit_log.h"
#include "schema/device_store.h"
#include "schema/migration.h"
#include "schema/tenant_deletion.h"
#include "tests/schema/role_case.h"

static void must(cm_pg_t *pg, const char *sql)
{
    cm_error_t err = {0};
    cr_expect(eq(int, cm_pg_exec(pg, sql, &err), CM_OK), "%s: %s %s", sql, err.code, err.message);
}

static void must_not(cm_pg_t *pg, const char *sql)
{
    cm_error_t err = {0};
    cr_expect(eq(int, cm_pg_exec(pg, sql, &err), CM_MISCONFIGURED), "%s", sql);
    cr_expect(eq(str, err.code, "42501"));
}

static void open_prepared(role_world_t *world)
{
    role_world_open(world);
    cm_test_tenant(world->pg, "1");
    role_prepare_all(world, world->pg);
}

/* ---- names ---------------------------------------------------------------------------------- */

Test(role, names_are_the_prefix_and_what_the_role_is)
{
    char name[CM_ROLE_NAME_MAX];
    cr_expect(eq(str, cm_role_name("cm", CM_ROLE_AUDIT_WRITER, name), "cm_audit_w"));
    cr_expect(eq(str, cm_role_name("eu_1", CM_ROLE_OWNER, name), "eu_1_owner"));
    cr_expect(eq(str, cm_role_name("cm", CM_ROLE_NONE, name), ""));
}

Test(role, a_prefix_is_lower_case_and_short_and_none_of_the_servers)
{
    const char *bad[] = {
        "",    "Cm",  "1cm",  "_cm",      "c-m",
        "c m", "c\"", "pg_x", "\xc3\xa4", "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddX"};
    for (size_t i = 0; i < CM_LENGTH(bad); i++)
        cr_expect(eq(int, cm_role_prefix_is_good(bad[i]), false), "%s", bad[i]);
    cr_expect(cm_role_prefix_is_good("a"));
    cr_expect(cm_role_prefix_is_good("aaaaaaaaaabbbbbbbbbbccccccccccdddddddddd"));
}

/* ---- the sessions --------------------------------------------------------------------------- */

Test(role, a_session_works_as_its_role_from_the_start, .timeout = 60)
{
    role_world_t world;
    open_prepared(&world);
    {
        CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = role_session(&world, CM_ROLE_WRITER);
        CM_CLEANUP(cm_free) char *user = cm_test_rows(pg, "SELECT current_user, session_user");
        char expected[2 * CM_TEST_NAME_MAX + 16];
        snprintf(expected, sizeof expected, "%s_writer|%s", world.prefix, world.login);
        cr_expect(eq(str, user, expected));
    }
    role_world_close(&world);
}

static void expect_refusal(role_world_t *world, const char *role, const char *message)
{
    cm_pg_options_t options = {.uri = world->login_uri, .role_mend = "grant-it"};
    snprintf(options.role, sizeof options.role, "%s", role);
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = cm_pg_new(&options);
    cr_expect(eq(int, cm_pg_connect(pg, NULL, &world->err), CM_MISCONFIGURED));
    cr_expect(eq(str, world->err.code, "role"));
    cr_expect(eq(str, world->err.message, (char *)message));
}

Test(role, one_that_is_missing_or_not_granted_is_named_with_what_mends_it, .timeout = 60)
{
    role_world_t world;
    char message[CM_ERROR_MESSAGE_MAX], name[CM_ROLE_NAME_MAX];
    open_prepared(&world);
    snprintf(message, sizeof message, "role nobody_writer does not exist; run `grant-it %s`",
             world.login);
    expect_refusal(&world, "nobody_writer", message);
    cm_role_name(world.prefix, CM_ROLE_OWNER, name);
    cm_test_sql(world.pg, "REVOKE %s_ddl FROM %s", world.prefix, world.login);
    snprintf(message, sizeof message, "role %s is not granted to login %s; run `grant-it %s`", name,
             world.login, world.login);
    expect_refusal(&world, name, message);
    role_world_close(&world);
}

Test(role, the_uri_cannot_choose_another, .timeout = 60)
{
    role_world_t world;
    open_prepared(&world);
    {
        char uri[sizeof world.login_uri + 128];
        cm_pg_options_t options = {.uri = uri};
        snprintf(uri, sizeof uri, "%s&options=-c%%20role%%3D%s_ddl", world.login_uri, world.prefix);
        cm_role_name(world.prefix, CM_ROLE_DASH, options.role);
        CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = cm_pg_new(&options);
        cr_assert(eq(int, cm_pg_connect(pg, NULL, &world.err), CM_OK), "%s", world.err.message);
        cr_expect(
            eq(i64, cm_test_number(pg, "SELECT (current_user = '%s')::int", options.role), 1));
    }
    role_world_close(&world);
}

/* ---- tenant schemas ------------------------------------------------------------------------- */

static int64_t not_owned(role_world_t *world, const char *schema)
{
    return cm_test_number(world->pg,
                          "SELECT count(*) FROM pg_class AS c JOIN pg_namespace AS n"
                          " ON n.oid = relnamespace WHERE nspname = '%s' AND relkind IN ('r', 'S')"
                          " AND pg_get_userbyid(relowner) <> '%s_owner'",
                          schema, world->prefix);
}

Test(role, ddl_makes_a_schema_for_the_owner_and_tells_it_in_the_audit_log, .timeout = 60)
{
    role_world_t world;
    open_prepared(&world);
    {
        CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = role_session(&world, CM_ROLE_DDL);
        cm_audit_trail_t audit = {.key = "", .actor = "test"};
        cm_tenant_change_t change;
        cr_assert(eq(int,
                     cm_tenant_schema_activate(pg, CM_TEST_ADMIN, "2", "", 1000, &audit, &change,
                                               &world.err),
                     CM_OK),
                  "%s %s", world.err.code, world.err.message);
        cr_expect(eq(i64, audit.head.position, 1));
        cr_expect(eq(i64, not_owned(&world, "tenant_2"), 0));
        cr_expect(eq(i64, role_outside(&world), 0));
        /* The session is again what it was. */
        cr_expect(
            eq(i64, cm_test_number(pg, "SELECT (current_user = '%s_ddl')::int", world.prefix), 1));
    }
    role_world_close(&world);
}

Test(role, a_superuser_makes_a_schema_that_comes_out_the_same, .timeout = 60)
{
    role_world_t world;
    open_prepared(&world);
    cm_test_tenant(world.pg, "2");
    cr_expect(eq(i64, not_owned(&world, "tenant_2"), 0));
    cr_expect(eq(i64, role_outside(&world), 0));
    role_world_close(&world);
}

Test(role, a_migration_grants_what_it_adds, .timeout = 60)
{
    role_world_t world;
    open_prepared(&world);
    cm_test_sql(world.pg, "DROP TABLE tenant_1.push_verdicts_held");
    cm_test_sql(world.pg, "UPDATE " CM_TEST_ADMIN ".tenants SET schema_version = 1");
    {
        CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = role_session(&world, CM_ROLE_DDL);
        cm_tenant_change_t change;
        cr_assert(
            eq(int, cm_tenant_schema_migrate(pg, CM_TEST_ADMIN, "1", &change, &world.err), CM_OK),
            "%s %s", world.err.code, world.err.message);
        cr_expect(eq(int, change, CM_TENANT_CHANGED));
    }
    cr_expect(eq(i64, not_owned(&world, "tenant_1"), 0));
    cr_expect(eq(i64, role_outside(&world), 0));
    role_world_close(&world);
}

Test(role, who_may_not_become_the_owner_makes_no_schema, .timeout = 60)
{
    role_world_t world;
    open_prepared(&world);
    cm_test_sql(world.pg, "GRANT CREATE ON DATABASE %s TO %s", PQdb(cm_pg_raw(world.pg)),
                world.login);
    cm_test_sql(world.pg, "GRANT USAGE ON SCHEMA " CM_TEST_ADMIN " TO %s", world.login);
    cm_test_sql(world.pg, "GRANT SELECT, UPDATE ON " CM_TEST_ADMIN ".tenants TO %s", world.login);
    cm_test_sql(world.pg, "REVOKE %s_ddl FROM %s", world.prefix, world.login);
    {
        CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = role_session(&world, CM_ROLE_NONE);
        cm_tenant_change_t change;
        cr_expect(eq(
            int,
            cm_tenant_schema_activate(pg, CM_TEST_ADMIN, "2", "", 1000, NULL, &change, &world.err),
            CM_MISCONFIGURED));
        cr_expect(eq(str, world.err.code, "42501"));
    }
    cm_test_sql(world.pg, "DROP OWNED BY %s", world.login);
    role_world_close(&world);
}

/* ---- what the sub-workers send -------------------------------------------------------------- */

Test(role, the_writer_registers_and_removes_devices, .timeout = 60)
{
    role_world_t world;
    open_prepared(&world);
    {
        CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = role_session(&world, CM_ROLE_WRITER);
        CM_CLEANUP(cm_device_store_destroy)
        cm_device_store_t *store = cm_device_store_new(pg, CM_TEST_ADMIN);
        cm_device_change_t change = {.application_code = CM_STR("app"),
                                     .client_id = CM_STR("c"),
                                     .device_ms = 1000,
                                     .push_ms = CM_TIME_NONE,
                                     .contact_ms = CM_TIME_NONE,
                                     .removed_ms = CM_TIME_NONE};
        cm_store_item_t item = {.change = change};
        cm_store_tenant_t tenant = {.tenant = "1", .items = &item, .count = 1};
        cr_assert(eq(int, cm_device_store_try_lock(store, "1", &world.err), CM_OK), "%s",
                  world.err.message);
        cr_assert(eq(int, cm_device_store_write(store, &tenant, 1, &world.err), CM_OK), "%s",
                  world.err.message);
        item.change.device_ms = CM_TIME_NONE;
        item.change.removed_ms = 2000; /* takes ACCESS EXCLUSIVE */
        cr_assert(eq(int, cm_device_store_write(store, &tenant, 1, &world.err), CM_OK), "%s",
                  world.err.message);
        cr_expect(eq(int, item.result, CM_CHANGE_APPLIED));
        must_not(pg, "DELETE FROM tenant_1.tombstones");
    }
    cr_expect(eq(i64, cm_test_number(world.pg, "SELECT count(*) FROM tenant_1.tombstones"), 1));
    role_world_close(&world);
}

Test(role, the_writer_judges_tokens_and_brakes, .timeout = 60)
{
    role_world_t world;
    open_prepared(&world);
    {
        CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = role_session(&world, CM_ROLE_WRITER);
        must(pg, "UPDATE tenant_1.devices SET push_status = 'invalid', push_status_at = now()");
        must(pg, "BEGIN; LOCK TABLE tenant_1.devices IN ROW EXCLUSIVE MODE; COMMIT");
        must(pg, "INSERT INTO " CM_TEST_ADMIN ".push_brakes VALUES ('1', 'a', 'fcm', now(), 2, 1)"
                 " ON CONFLICT (tenant, application_code, provider) DO UPDATE SET gone = 2");
        must(pg, "SELECT FROM " CM_TEST_ADMIN ".push_brakes FOR UPDATE");
        must(pg, "DELETE FROM " CM_TEST_ADMIN ".push_brakes");
        must(pg, "DELETE FROM tenant_1.push_verdicts_held");
        must(pg, "SELECT FROM " CM_TEST_ADMIN ".tenants WHERE id = '1' FOR KEY SHARE");
        must(pg, "SELECT * FROM " CM_TEST_ADMIN ".erasure_key");
    }
    role_world_close(&world);
}

Test(role, the_purger_locks_as_it_must_and_erases, .timeout = 60)
{
    role_world_t world;
    open_prepared(&world);
    {
        CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = role_session(&world, CM_ROLE_PURGER);
        must(pg,
             "BEGIN; LOCK TABLE tenant_1.devices IN ROW EXCLUSIVE MODE;"
             "LOCK TABLE tenant_1.tombstones, tenant_1.push_verdicts_held IN ACCESS EXCLUSIVE MODE;"
             "SELECT FROM " CM_TEST_ADMIN ".tenants WHERE id = '1' FOR KEY SHARE;"
             "INSERT INTO " CM_TEST_ADMIN ".erasure_key (key_id) VALUES ('k')"
             " ON CONFLICT DO NOTHING;"
             "INSERT INTO tenant_1.tombstones VALUES ('a', 'c', now())"
             " ON CONFLICT (application_code, client_id) DO UPDATE SET removed_at = now();"
             "DELETE FROM tenant_1.devices WHERE contact_id = 1;"
             "UPDATE tenant_1.devices SET contact_id = NULL WHERE contact_id = 1;"
             "DELETE FROM tenant_1.push_verdicts_held WHERE client_id = 'c';"
             "DELETE FROM " CM_TEST_ADMIN ".dead_letters WHERE tenant = '1'; COMMIT");
        must_not(pg, "UPDATE " CM_TEST_ADMIN ".tenants SET state = 'deleted'");
        must_not(pg, "TRUNCATE tenant_1.devices");
    }
    role_world_close(&world);
}

/* VACUUM of what one does not own is a warning and nothing more, so the file is looked at. */
Test(role, ddl_rewrites_a_tenants_tables, .timeout = 60)
{
    role_world_t world;
    static const char file[] = "SELECT relfilenode::bigint FROM pg_class"
                               " WHERE oid = 'tenant_1.devices'::regclass";
    open_prepared(&world);
    int64_t before = cm_test_number(world.pg, file);
    {
        CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = role_session(&world, CM_ROLE_DDL);
        must(pg, "VACUUM (FULL) tenant_1.devices");
    }
    cr_expect(ne(i64, cm_test_number(world.pg, file), before));
    role_world_close(&world);
}

Test(role, dash_sees_no_body_of_a_dead_letter, .timeout = 60)
{
    role_world_t world;
    open_prepared(&world);
    {
        CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = role_session(&world, CM_ROLE_DASH);
        must(pg, "SELECT tenant, error_class, count(*) FROM " CM_TEST_ADMIN
                 ".dead_letters GROUP BY tenant, error_class");
        must_not(pg, "SELECT body FROM " CM_TEST_ADMIN ".dead_letters");
        must_not(pg, "SELECT attributes FROM " CM_TEST_ADMIN ".dead_letters");
    }
    role_world_close(&world);
}

Test(role, every_role_can_tell_whether_the_admin_schema_is_there, .timeout = 60)
{
    static const cm_role_t worked_as[] = {CM_ROLE_DDL, CM_ROLE_WRITER, CM_ROLE_PURGER, CM_ROLE_DASH,
                                          CM_ROLE_AUDIT_WRITER};
    role_world_t world;
    open_prepared(&world);
    for (size_t i = 0; i < CM_LENGTH(worked_as); i++) {
        CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = role_session(&world, worked_as[i]);
        cr_expect(eq(int, cm_admin_check(pg, CM_TEST_ADMIN, cm_migrations_admin.count, &world.err),
                     CM_OK),
                  "%s: %s", cm_role_suffix(worked_as[i]), world.err.message);
    }
    role_world_close(&world);
}

/* A table without a row in role.c is one that no sub-worker can use. */
Test(role, every_table_is_granted_to_somebody, .timeout = 60)
{
    role_world_t world;
    open_prepared(&world);
    CM_CLEANUP(cm_free)
    char *forgotten = cm_test_rows(
        world.pg,
        "SELECT relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace"
        " WHERE nspname IN ('" CM_TEST_ADMIN "', 'tenant_1') AND relkind IN ('r', 'p')"
        " AND NOT EXISTS (SELECT FROM aclexplode(relacl) AS a WHERE a.grantee <> relowner)");
    cr_expect(eq(str, forgotten, ""), "without a row in schema/role.c: %s", forgotten);
    role_world_close(&world);
}

/* An export, a copy made by hand: nothing of ours writes it, and it goes with the schema. */
Test(role, somebody_elses_table_does_not_keep_a_tenant_from_being_deleted, .timeout = 60)
{
    role_world_t world;
    open_prepared(&world);
    cm_test_sql(world.pg, "CREATE TABLE tenant_1.export AS SELECT 1 AS x");
    {
        CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = role_session(&world, CM_ROLE_DDL);
        cm_error_t err = {0};
        cm_audit_trail_t audit = {.actor = "a test"};
        cm_deletion_step_t step;
        cm_deletion_request_t request = {"1", 99999, "somebody", "a test"};
        cr_expect(eq(int,
                     cm_tenant_deletion_request(pg, CM_TEST_ADMIN, &request, &audit, &step, &err),
                     CM_OK),
                  "%s", err.message);
        cr_expect(
            eq(int, cm_tenant_deletion_advance(pg, CM_TEST_ADMIN, "1", &audit, &step, &err), CM_OK),
            "%s %s", err.code, err.message);
        cr_expect(eq(int, step, CM_DELETION_DROPPED));
    }
    role_world_close(&world);
}
