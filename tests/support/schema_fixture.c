#include "tests/support/schema_fixture.h"
#include "runtime/buffer.h"
#include "runtime/cleanup.h"
#include "schema/migration.h"
#include "schema/tenant_deletion.h"
#include "schema/tenant_schema.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

cm_pg_t *cm_test_connect(const char *uri)
{
    cm_error_t err = {0};
    cm_pg_t *pg = cm_pg_new(&(cm_pg_options_t){.uri = uri,
                                               .application_name = "test",
                                               .statement_timeout_ms = 60000,
                                               .lock_timeout_ms = 20000,
                                               .prepared_max = 512});
    if (cm_pg_connect(pg, NULL, &err) != CM_OK)
        cr_fatal("connect: %s %s", err.code, err.message);
    return pg;
}

cm_pg_t *cm_test_admin(char uri[CM_TEST_URI_MAX])
{
    cm_error_t err = {0};
    cm_test_database(uri);
    cm_pg_t *pg = cm_test_connect(uri);
    if (cm_admin_prepare(pg, CM_TEST_ADMIN, &err) != CM_OK)
        cr_fatal("admin schema: %s %s", err.code, err.message);
    return pg;
}

void cm_test_tenant(cm_pg_t *pg, const char *id)
{
    cm_error_t err = {0};
    cm_tenant_change_t change;
    if (cm_tenant_schema_activate(pg, CM_TEST_ADMIN, id, "", 1000, NULL, &change, &err) != CM_OK)
        cr_fatal("tenant %s: %s %s", id, err.code, err.message);
}

static PGresult *run(cm_pg_t *pg, const char *format, va_list args)
    __attribute__((format(printf, 2, 0)));

static PGresult *run(cm_pg_t *pg, const char *format, va_list args)
{
    cm_error_t err = {0};
    char *sql = NULL;
    PGresult *result = NULL;
    if (vasprintf(&sql, format, args) == -1)
        abort();
    if (cm_pg_query(pg, sql, 0, NULL, &result, &err) != CM_OK)
        cr_fatal("%.300s: %s %s", sql, err.code, err.message);
    free(sql);
    return result;
}

int cm_test_delete(cm_pg_t *pg, const char *id, int64_t event_ms)
{
    cm_error_t err = {0};
    cm_audit_trail_t audit = {.actor = "a test"};
    cm_deletion_step_t step;
    cm_deletion_request_t request = {id, event_ms, "somebody", "a test"};
    cm_status_t status =
        cm_tenant_deletion_request(pg, CM_TEST_ADMIN, &request, &audit, &step, &err);
    int steps = status == CM_OK && step != CM_DELETION_NONE;
    do {
        if (status == CM_OK)
            status = cm_tenant_deletion_advance(pg, CM_TEST_ADMIN, id, &audit, &step, &err);
        cr_assert(eq(int, status, CM_OK), "%s %s", err.code, err.message);
        steps += step != CM_DELETION_NONE;
    } while (step != CM_DELETION_NONE && step != CM_DELETION_BLOCKED &&
             step != CM_DELETION_UNVERIFIED);
    return steps;
}

void cm_test_sql(cm_pg_t *pg, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    PGresult *result = run(pg, format, args);
    va_end(args);
    cm_pg_clear(&result);
}

int64_t cm_test_number(cm_pg_t *pg, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    CM_CLEANUP(cm_pg_clear) PGresult *result = run(pg, format, args);
    va_end(args);
    if (PQntuples(result) == 0)
        cr_fatal("no row: %.300s", format);
    return cm_pg_i64(result, 0, 0);
}

char *cm_test_rows(cm_pg_t *pg, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    CM_CLEANUP(cm_pg_clear) PGresult *result = run(pg, format, args);
    va_end(args);
    cm_buffer_t text = {0};
    for (int row = 0; row < PQntuples(result); row++)
        for (int column = 0; column < PQnfields(result); column++)
            cm_buffer_printf(&text, "%s%s",
                             column ? "|"
                             : row  ? "\n"
                                    : "",
                             PQgetisnull(result, row, column) ? "-"
                                                              : cm_pg_text(result, row, column));
    cm_buffer_text(&text);
    return text.data;
}
