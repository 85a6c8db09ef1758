#include "schema/tenant_drop.h"
#include "runtime/cleanup.h"
#include "runtime/crash.h"
#include "schema/sql.h"
#include "schema/tenant_purge.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* The tables in the order in which writers lock them, so that a drop can wait for a writer without
 * a deadlock; one may be missing, or another be there, when somebody else had his hands in. What
 * belongs to somebody whose rights we do not have can be neither locked nor counted: nothing of
 * ours writes it, and it goes with the schema. */
static cm_status_t list_tables(cm_tenant_step_t *step, PGresult **ret_result, cm_error_t *err)
{
    const char *values[] = {step->schema};
    return cm_pg_query(
        step->pg,
        "SELECT relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
        " WHERE nspname = $1 AND relkind IN ('r', 'p') AND pg_has_role(relowner, 'USAGE') ORDER BY "
        "array_position(ARRAY['devices',"
        " 'tombstones', 'push_verdicts_held'], relname::text),"
        " relname COLLATE \"C\"",
        1, values, ret_result, err);
}

static cm_status_t lock(cm_tenant_step_t *step, const char *table, cm_error_t *err)
{
    char sql[CM_SQL_IDENTIFIER_MAX + 32], name[CM_SQL_IDENTIFIER_MAX];
    snprintf(sql, sizeof sql, "LOCK TABLE @schema@.%s", cm_sql_identifier(table, name));
    return cm_sql_exec(step->pg, sql, step->schema, err);
}

/* In pieces, so that no statement takes as long as the table is large. */
static cm_status_t count(cm_tenant_step_t *step, const char *table, int64_t *ret_rows,
                         cm_error_t *err)
{
    char sql[CM_SQL_IDENTIFIER_MAX + 96], name[CM_SQL_IDENTIFIER_MAX];
    snprintf(sql, sizeof sql, "DECLARE counted NO SCROLL CURSOR FOR SELECT FROM ONLY @schema@.%s",
             cm_sql_identifier(table, name));
    cm_status_t status = cm_sql_exec(step->pg, sql, step->schema, err);
    int64_t moved = 1;
    *ret_rows = 0;
    while (status == CM_OK && moved > 0) {
        CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
        status = cm_pg_query(step->pg, "MOVE FORWARD 1000000 IN counted", 0, NULL, &result, err);
        moved = status == CM_OK ? strtoll(PQcmdTuples(result), NULL, 10) : 0;
        *ret_rows += moved;
    }
    return status == CM_OK ? cm_pg_exec(step->pg, "CLOSE counted", err) : status;
}

static cm_status_t record_count(cm_tenant_step_t *step, const char *table, cm_error_t *err)
{
    int64_t rows = 0;
    char generation[24], text[24];
    cm_status_t status = count(step, table, &rows, err);
    snprintf(generation, sizeof generation, "%" PRId64, step->row.generation);
    snprintf(text, sizeof text, "%" PRId64, rows);
    const char *values[] = {step->id, generation, table, text};
    return status == CM_OK ? cm_sql_query(step->pg,
                                          "UPDATE @schema@.tenant_deletions SET counts ="
                                          " counts || jsonb_build_object($3::text, $4::bigint)"
                                          " WHERE tenant = $1 AND generation = $2",
                                          step->admin_schema, 4, values, NULL, err)
                           : status;
}

/* The schema first, then what is in it. */
static cm_status_t record_objects(cm_tenant_step_t *step, cm_error_t *err)
{
    char generation[24];
    snprintf(generation, sizeof generation, "%" PRId64, step->row.generation);
    const char *values[] = {step->id, generation, step->schema};
    return cm_sql_query(step->pg,
                        "UPDATE @schema@.tenant_deletions SET object_oids = (SELECT n.oid ||"
                        " ARRAY(SELECT c.oid FROM pg_class AS c WHERE relnamespace = n.oid)"
                        " FROM pg_namespace AS n WHERE nspname = $3)"
                        " WHERE tenant = $1 AND generation = $2",
                        step->admin_schema, 3, values, NULL, err);
}

cm_status_t cm_tenant_drop_schema(cm_tenant_step_t *step, cm_error_t *err)
{
    CM_CLEANUP(cm_pg_clear) PGresult *tables = NULL;
    cm_status_t status = list_tables(step, &tables, err);
    for (int i = 0; status == CM_OK && i < PQntuples(tables); i++)
        status = lock(step, cm_pg_text(tables, i, 0), err);
    for (int i = 0; status == CM_OK && i < PQntuples(tables); i++)
        status = record_count(step, cm_pg_text(tables, i, 0), err);
    if (status == CM_OK)
        status = record_objects(step, err);
    cm_crash_point("deletion-count");
    return status == CM_OK
               ? cm_sql_exec(step->pg, "DROP SCHEMA @schema@ CASCADE", step->schema, err)
               : status;
}

#define LEFT(place, from) "SELECT '" place "', count(*) FROM " from
#define OR_LEFT(table)                                                                             \
    " UNION ALL SELECT '" #table "', count(*) FROM @schema@." #table " WHERE tenant = $1"
#define SCHEMA_OID  "(SELECT object_oids[1] FROM deletion)"
#define OBJECT_OIDS "(SELECT unnest(object_oids) FROM deletion)"

cm_status_t cm_tenant_drop_verify(cm_tenant_step_t *step, PGresult **ret_result, cm_error_t *err)
{
    char generation[24];
    snprintf(generation, sizeof generation, "%" PRId64, step->row.generation);
    const char *values[] = {step->id, generation, step->schema};
    return cm_sql_query(step->pg,
                        "WITH deletion AS (SELECT * FROM @schema@.tenant_deletions"
                        " WHERE tenant = $1 AND generation = $2), found (place, n) AS ("
                        /* clang-format off */
        LEFT("pg_namespace", "pg_namespace WHERE nspname = $3 OR oid = " SCHEMA_OID) " UNION ALL "
        LEFT("pg_class", "pg_class WHERE relnamespace = " SCHEMA_OID " OR oid IN " OBJECT_OIDS) " UNION ALL "
        LEFT("pg_proc", "pg_proc WHERE pronamespace = " SCHEMA_OID) " UNION ALL "
        LEFT("pg_type", "pg_type WHERE typnamespace = " SCHEMA_OID) " UNION ALL "
        LEFT("pg_default_acl", "pg_default_acl WHERE defaclnamespace = " SCHEMA_OID) " UNION ALL "
        LEFT("pg_depend", "pg_depend WHERE refclassid = 'pg_namespace'::regclass AND refobjid = " SCHEMA_OID)
        " UNION ALL "
        LEFT("pg_shdepend", "pg_shdepend AS s JOIN pg_database AS b ON b.oid = s.dbid"
             " WHERE datname = current_database() AND ((classid = 'pg_namespace'::regclass"
             " AND objid = " SCHEMA_OID ") OR (classid = 'pg_class'::regclass AND objid IN " OBJECT_OIDS "))")
        " UNION ALL "
        LEFT("tenants", "@schema@.tenants WHERE id = $1 AND state <> 'deleted'")
        CM_TENANT_PURGED(OR_LEFT)
                        /* clang-format on */
                        "), left_over (checks, n) AS (SELECT jsonb_object_agg(place, n), sum(n) "
                        "FROM found)"
                        " SELECT checks, n = 0, checks <> (SELECT d.checks FROM deletion AS d) "
                        "FROM left_over",
                        step->admin_schema, 3, values, ret_result, err);
}
