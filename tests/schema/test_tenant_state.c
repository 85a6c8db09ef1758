#include "runtime/cleanup.h"
#include "schema/tenant_state.h"
#include "tests/support/schema_fixture.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

TestSuite(tenant_state, .timeout = 60, .fini = cm_test_database_drop);

typedef cm_status_t(change_fn)(cm_pg_t *pg, const char *admin_schema, const char *id,
                               cm_audit_trail_t *audit, cm_tenant_change_t *ret_change,
                               cm_error_t *err);

static cm_status_t hold(cm_pg_t *pg, const char *admin_schema, const char *id,
                        cm_audit_trail_t *audit, cm_tenant_change_t *ret_change, cm_error_t *err)
{
    return cm_tenant_hold(pg, admin_schema, id, "a lawsuit of Jane Doe", audit, ret_change, err);
}

static cm_status_t release(cm_pg_t *pg, const char *admin_schema, const char *id,
                           cm_audit_trail_t *audit, cm_tenant_change_t *ret_change, cm_error_t *err)
{
    return cm_tenant_release(pg, admin_schema, id, audit, ret_change, NULL, err);
}

/* Twice: the second time it is so already, and nothing is told. */
static void change_twice(cm_pg_t *pg, change_fn *change, const char *expected)
{
    cm_error_t err = {0};
    cm_tenant_change_t done;
    cm_audit_trail_t audit = {.actor = "a test"};
    cr_assert(eq(int, change(pg, CM_TEST_ADMIN, "42", &audit, &done, &err), CM_OK), "%s",
              err.message);
    cr_expect(eq(int, done, CM_TENANT_CHANGED));
    cr_expect(gt(i64, audit.head.position, 0));
    cr_assert(eq(int, change(pg, CM_TEST_ADMIN, "42", &audit, &done, &err), CM_OK));
    cr_expect(eq(int, done, CM_TENANT_UNCHANGED));
    cr_expect(eq(i64, audit.head.position, 0));
    CM_CLEANUP(cm_free)
    char *found = cm_test_rows(pg, "SELECT state, held_at IS NOT NULL, hold_reason,"
                                   " changed_at > now() - interval '1 min'"
                                   " FROM " CM_TEST_ADMIN ".tenants WHERE id = '42'");
    cr_expect(eq(str, found, (char *)expected));
}

Test(tenant_state, suspend_and_resume_change_the_state_once)
{
    char uri[CM_TEST_URI_MAX];
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = cm_test_admin(uri);
    cm_test_tenant(pg, "42");
    cm_test_sql(pg, "UPDATE " CM_TEST_ADMIN ".tenants SET changed_at = 'epoch'");
    change_twice(pg, cm_tenant_suspend, "suspended|f||t");
    cm_test_sql(pg, "UPDATE " CM_TEST_ADMIN ".tenants SET changed_at = 'epoch'");
    change_twice(pg, cm_tenant_resume, "active|f||t");
}

Test(tenant_state, a_hold_leaves_the_state_and_is_released_once)
{
    char uri[CM_TEST_URI_MAX];
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = cm_test_admin(uri);
    cm_test_tenant(pg, "42");
    change_twice(pg, hold, "active|t|a lawsuit of Jane Doe|t");
    change_twice(pg, release, "active|f||t");
}

Test(tenant_state, the_log_tells_who_did_it_and_not_why)
{
    char uri[CM_TEST_URI_MAX];
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = cm_test_admin(uri);
    cm_error_t err = {0};
    cm_tenant_change_t done;
    cm_audit_trail_t audit = {.actor = "a test"};
    static change_fn *const changes[] = {cm_tenant_suspend, cm_tenant_resume, hold, release};
    cm_test_tenant(pg, "42");
    for (size_t i = 0; i < CM_LENGTH(changes); i++)
        cr_assert(eq(int, changes[i](pg, CM_TEST_ADMIN, "42", &audit, &done, &err), CM_OK));
    CM_CLEANUP(cm_free)
    char *told = cm_test_rows(pg, "SELECT actor, action, generation, detail FROM " CM_TEST_ADMIN
                                  ".audit_log ORDER BY position");
    cr_expect(eq(str, told,
                 "a test|tenant-suspended|1|{}\na test|tenant-resumed|1|{}\n"
                 "a test|legal-hold-placed|1|{}\na test|legal-hold-released|1|{}"));
}

static void expect_refused(cm_pg_t *pg, change_fn *change, cm_status_t status, const char *code)
{
    cm_error_t err = {0};
    cm_tenant_change_t done;
    cm_audit_trail_t audit = {.actor = "a test"};
    cr_expect(eq(int, change(pg, CM_TEST_ADMIN, "42", &audit, &done, &err), status));
    cr_expect(eq(str, err.code, (char *)code));
}

Test(tenant_state, an_unknown_tenant_is_missing)
{
    char uri[CM_TEST_URI_MAX];
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = cm_test_admin(uri);
    static change_fn *const changes[] = {cm_tenant_suspend, cm_tenant_resume, hold, release};
    for (size_t i = 0; i < CM_LENGTH(changes); i++)
        expect_refused(pg, changes[i], CM_MISSING, "tenant-missing");
}

Test(tenant_state, a_deleted_tenant_is_left_alone)
{
    char uri[CM_TEST_URI_MAX];
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = cm_test_admin(uri);
    cm_test_tenant(pg, "42");
    cm_test_delete(pg, "42", 2000);
    expect_refused(pg, cm_tenant_suspend, CM_PERMANENT, "tenant-deleted");
    expect_refused(pg, cm_tenant_resume, CM_PERMANENT, "tenant-deleted");
    expect_refused(pg, hold, CM_PERMANENT, "tenant-deleted");
}

/* ---- the fence ------------------------------------------------------------------------------ */

static cm_status_t fence(cm_pg_t *pg, const char *id, cm_error_t *err)
{
    *err = (cm_error_t){0};
    cm_test_sql(pg, "BEGIN");
    cm_status_t status = cm_tenant_fence(pg, CM_TEST_ADMIN, id, err);
    cm_pg_rollback(pg);
    return status;
}

static void expect_resting(cm_pg_t *pg, const char *id)
{
    cm_error_t err;
    cr_expect(eq(int, fence(pg, id, &err), CM_MISSING));
    cr_expect(eq(str, err.code, "tenant-resting"));
}

Test(tenant_state, the_fence_lets_an_active_tenant_through_and_no_other)
{
    char uri[CM_TEST_URI_MAX];
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = cm_test_admin(uri);
    cm_error_t err;
    cm_tenant_change_t done;
    cm_test_tenant(pg, "42");
    cr_expect(eq(int, fence(pg, "42", &err), CM_OK), "%s", err.message);
    expect_resting(pg, "43");
    cr_assert(eq(int, hold(pg, CM_TEST_ADMIN, "42", NULL, &done, &err), CM_OK));
    expect_resting(pg, "42");
    cr_assert(eq(int, release(pg, CM_TEST_ADMIN, "42", NULL, &done, &err), CM_OK));
    cr_expect(eq(int, fence(pg, "42", &err), CM_OK));
    cr_assert(eq(int, cm_tenant_suspend(pg, CM_TEST_ADMIN, "42", NULL, &done, &err), CM_OK));
    expect_resting(pg, "42");
    cm_test_delete(pg, "42", 2000);
    expect_resting(pg, "42");
}

Test(tenant_state, a_step_waits_for_the_fence_and_the_fence_for_a_step)
{
    char uri[CM_TEST_URI_MAX];
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = cm_test_admin(uri);
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *other = cm_test_connect(uri);
    cm_error_t err = {0};
    cm_test_tenant(pg, "42");
    cm_test_sql(pg, "BEGIN");
    cr_assert(eq(int, cm_tenant_fence(pg, CM_TEST_ADMIN, "42", &err), CM_OK));
    cm_test_sql(other, "BEGIN");
    cr_expect(eq(int,
                 cm_pg_exec(other,
                            "SELECT FROM " CM_TEST_ADMIN ".tenants WHERE id = '42'"
                            " FOR UPDATE NOWAIT",
                            &err),
                 CM_TRANSIENT));
    cr_expect(eq(str, err.code, "55P03"));
    cm_pg_rollback(other);
    cm_pg_rollback(pg);

    cm_test_sql(other, "BEGIN");
    cm_test_sql(other, "UPDATE " CM_TEST_ADMIN ".tenants SET held_at = now() WHERE id = '42'");
    cm_test_sql(other, "SELECT FROM " CM_TEST_ADMIN ".tenants WHERE id = '42' FOR UPDATE");
    cm_test_sql(pg, "SET lock_timeout = 1");
    cr_expect(eq(int, fence(pg, "42", &err), CM_TRANSIENT));
    cr_expect(eq(str, err.code, "55P03"));
    cm_test_sql(other, "COMMIT");
    expect_resting(pg, "42");
}
