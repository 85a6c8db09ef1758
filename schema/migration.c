#include "schema/migration.h"
#include "runtime/cleanup.h"
#include "runtime/crash.h"
#include "schema/sql.h"

#include <stdio.h>
#include <string.h>

cm_status_t cm_migration_apply(cm_pg_t *pg, const cm_migration_set_t *set, const char *schema,
                               int from, int *ret_version, cm_error_t *err)
{
    for (int i = from; i < set->count; i++) {
        cm_status_t status = cm_sql_exec(pg, set->items[i].sql, schema, err);
        if (status != CM_OK) {
            cm_error_prefix(err, "%s", set->items[i].name);
            return status;
        }
        cm_crash_point("ddl-step");
    }
    *ret_version = set->count;
    return CM_OK;
}

/* ---- the admin schema ----------------------------------------------------------------------- */

static cm_status_t refuse_newer(const char *schema, int64_t version, int64_t compatible_with,
                                cm_error_t *err)
{
    if (compatible_with <= cm_migrations_admin.count)
        return CM_OK;
    return cm_error_set(
        err, CM_MISCONFIGURED, "schema-newer",
        "schema %s has version %d, which asks for a program that knows %d; this one "
        "knows %d",
        schema, (int)version, (int)compatible_with, cm_migrations_admin.count);
}

/* Version of the admin schema, 0 when there is none recorded; CM_MISSING without
 * schema_migrations. */
static cm_status_t admin_version(cm_pg_t *pg, const char *schema, int64_t *ret_version,
                                 cm_error_t *err)
{
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    *ret_version = 0;
    cm_status_t status =
        cm_sql_query(pg,
                     "SELECT coalesce(max(version), 0), coalesce(max(compatible_with), 0)"
                     " FROM @schema@.schema_migrations",
                     schema, 0, NULL, &result, err);
    if (status != CM_OK)
        return status;
    *ret_version = cm_pg_i64(result, 0, 0);
    return refuse_newer(schema, *ret_version, cm_pg_i64(result, 0, 1), err);
}

/* Whether sql, asked about schema, has a row. Asked of the catalog's tables: to_regclass() and its
 * like may answer from a cache older than the lock. */
static cm_status_t is_there(cm_pg_t *pg, const char *sql, const char *schema, bool *ret_there,
                            cm_error_t *err)
{
    const char *values[] = {schema};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_status_t status = cm_pg_query(pg, sql, 1, values, &result, err);
    *ret_there = status == CM_OK && PQntuples(result) > 0;
    return status;
}

/* CREATE SCHEMA IF NOT EXISTS asks for the right to create even when there is nothing to do, and a
 * database administrator may have made the schema to withhold that right. */
static cm_status_t create_schema(cm_pg_t *pg, const char *schema, cm_error_t *err)
{
    bool there = false;
    cm_status_t status =
        is_there(pg, "SELECT FROM pg_namespace WHERE nspname = $1", schema, &there, err);
    if (status != CM_OK || there)
        return status;
    return cm_sql_exec(pg, "CREATE SCHEMA @schema@", schema, err);
}

static cm_status_t record(cm_pg_t *pg, const char *schema, int from, cm_error_t *err)
{
    cm_status_t status = CM_OK;
    for (int i = from; status == CM_OK && i < cm_migrations_admin.count; i++) {
        const cm_migration_t *item = &cm_migrations_admin.items[i];
        char version[16], compatible_with[16];
        snprintf(version, sizeof version, "%d", item->version);
        snprintf(compatible_with, sizeof compatible_with, "%d", item->compatible_with);
        const char *values[] = {version, item->name, compatible_with};
        status = cm_sql_query(pg,
                              "INSERT INTO @schema@.schema_migrations"
                              " (version, name, compatible_with) VALUES ($1, $2, $3)",
                              schema, 3, values, NULL, err);
    }
    return status;
}

/* Whoever waited for the lock finds the work done and does nothing. */
cm_status_t cm_admin_prepare_within(cm_pg_t *pg, const char *schema, int *ret_from, int *ret_to,
                                    cm_error_t *err)
{
    const char *values[] = {schema};
    cm_status_t status = cm_pg_exec(pg, "SET TRANSACTION ISOLATION LEVEL READ COMMITTED", err);
    if (status == CM_OK)
        status =
            cm_pg_query(pg, "SELECT pg_advisory_xact_lock(hashtextextended('cm-admin:' || $1, 0))",
                        1, values, NULL, err);
    if (status == CM_OK)
        status = create_schema(pg, schema, err);
    bool there = false;
    if (status == CM_OK)
        status = is_there(pg,
                          "SELECT FROM pg_class AS c JOIN pg_namespace AS n"
                          " ON n.oid = c.relnamespace"
                          " WHERE nspname = $1 AND relname = 'schema_migrations'",
                          schema, &there, err);
    int64_t from = 0;
    if (status == CM_OK && there)
        status = admin_version(pg, schema, &from, err);
    *ret_from = *ret_to = (int)from;
    if (status != CM_OK || from >= cm_migrations_admin.count)
        return status;
    status = cm_migration_apply(pg, &cm_migrations_admin, schema, (int)from, ret_to, err);
    return status == CM_OK ? record(pg, schema, (int)from, err) : status;
}

cm_status_t cm_admin_prepare(cm_pg_t *pg, const char *admin_schema, cm_error_t *err)
{
    int64_t version = 0;
    int from = 0, to = 0;
    cm_status_t status = admin_version(pg, admin_schema, &version, err);
    if (status == CM_MISSING)
        status = CM_OK;
    if (status != CM_OK || version >= cm_migrations_admin.count)
        return status;
    status = cm_pg_begin(pg, err);
    if (status == CM_OK)
        status = cm_admin_prepare_within(pg, admin_schema, &from, &to, err);
    if (status == CM_OK)
        status = cm_pg_commit(pg, err);
    if (status != CM_OK)
        cm_pg_rollback(pg);
    return status;
}

cm_status_t cm_admin_check(cm_pg_t *pg, const char *admin_schema, int needed, cm_error_t *err)
{
    int64_t version = 0;
    cm_status_t status = admin_version(pg, admin_schema, &version, err);
    if (status == CM_MISSING)
        return cm_error_set(err, CM_MISCONFIGURED, "schema-absent",
                            "there is no schema %s with our tables; `client-manager run` or "
                            "`client-manager tenant activate` makes it",
                            admin_schema);
    if (status == CM_OK && version < needed)
        return cm_error_set(err, CM_MISCONFIGURED, "schema-older",
                            "schema %s has version %d, this needs %d; `client-manager run` or "
                            "`client-manager tenant migrate --all` migrates it",
                            admin_schema, (int)version, needed);
    return status;
}
