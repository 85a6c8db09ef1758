#include "schema/role.h"
#include "runtime/cleanup.h"
#include "schema/sql.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define ALL  "SELECT, INSERT, UPDATE, DELETE"
#define KEEP "SELECT, INSERT, UPDATE"

/* What a role may do to a table; ddl has the rights of owner by membership. To lock a table as a
 * removal does (ACCESS EXCLUSIVE) takes UPDATE or DELETE, to lock rows (FOR KEY SHARE) UPDATE of
 * some column, which is why there is one for the rows of tenants.
 *
 * Not by default privileges of owner: those hold in every schema, so that what a tenant's tables
 * need would be given on the admin's, too. */
static const struct {
    cm_role_scope_t scope;
    const char *table, *to_writer, *to_purger, *to_dash, *to_audit_writer; /* NULL: nothing */
} grants[] = {
    {CM_ROLE_ADMIN, "schema_migrations", "SELECT", "SELECT", "SELECT", "SELECT"},
    {CM_ROLE_ADMIN, "tenants", "SELECT, UPDATE (created_at)", "SELECT, UPDATE (created_at)",
     "SELECT", NULL},
    {CM_ROLE_ADMIN, "dead_letters", KEEP, "SELECT, DELETE",
     "SELECT (id, tenant, error_class, error_code, error_message, errors_topic, origin_topic,"
     " origin_message_id, first_failed_at, last_failed_at, kept_at, replayed_at, retry_count,"
     " kept_replay_count, replay_count)",
     NULL},
    {CM_ROLE_ADMIN, "dead_letters_id_seq", "USAGE", NULL, NULL, NULL},
    {CM_ROLE_ADMIN, "audit_log", NULL, NULL, NULL, "SELECT, INSERT"},
    {CM_ROLE_ADMIN, "push_brakes", ALL, NULL, "SELECT", NULL},
    {CM_ROLE_ADMIN, "erasure_key", "SELECT, INSERT", "SELECT, INSERT", NULL, NULL},
    {CM_ROLE_ADMIN, "erasures_pending", "SELECT, INSERT", "SELECT, INSERT", NULL, NULL},
    {CM_ROLE_ADMIN, "tenant_deletions", "SELECT", "SELECT", "SELECT", NULL},
    {CM_ROLE_ADMIN, "leases", NULL, KEEP, KEEP, NULL},
    {CM_ROLE_ADMIN, "jobs", NULL, KEEP, KEEP, NULL},
    {CM_ROLE_ADMIN, "job_runs", NULL, ALL, ALL, NULL},
    {CM_ROLE_ADMIN, "job_run_tenants", NULL, KEEP, KEEP, NULL},
    {CM_ROLE_ADMIN, "job_checkpoints", NULL, ALL, ALL, NULL},
    {CM_ROLE_ADMIN, "orphan_rules", NULL, "SELECT", "SELECT", NULL},
    {CM_ROLE_ADMIN, "dashboard_tenant_metrics", NULL, NULL, ALL, NULL},
    {CM_ROLE_ADMIN, "dashboard_tenant_metrics_history", NULL, NULL, ALL, NULL},
    {CM_ROLE_ADMIN, "dashboard_sync_reference", NULL, NULL, ALL, NULL},
    {CM_ROLE_TENANT, "devices", ALL, "SELECT, UPDATE, DELETE", "SELECT", NULL},
    {CM_ROLE_TENANT, "tombstones", KEEP, ALL, NULL, NULL},
    {CM_ROLE_TENANT, "push_verdicts_held", ALL, ALL, NULL, NULL},
};

/* Those that rights are given to; in the order of the columns above. */
static const cm_role_t grantees[] = {CM_ROLE_WRITER, CM_ROLE_PURGER, CM_ROLE_DASH,
                                     CM_ROLE_AUDIT_WRITER};

static const char *privileges_of(size_t row, size_t grantee)
{
    const char *columns[] = {grants[row].to_writer, grants[row].to_purger, grants[row].to_dash,
                             grants[row].to_audit_writer};
    _Static_assert(CM_LENGTH(columns) == CM_LENGTH(grantees), "a column for each");
    return columns[grantee];
}

/* ---- names ---------------------------------------------------------------------------------- */

static const char *const suffixes[CM_ROLE_COUNT] = {"",       "owner", "ddl",     "writer",
                                                    "purger", "dash",  "audit_w", "audit_owner"};

const char *cm_role_suffix(cm_role_t role)
{
    return suffixes[role];
}

const char *cm_role_name(const char *prefix, cm_role_t role, char name[CM_ROLE_NAME_MAX])
{
    assert(cm_role_prefix_is_good(prefix));
    *name = '\0';
    if (role != CM_ROLE_NONE)
        snprintf(name, CM_ROLE_NAME_MAX, "%s_%s", prefix, suffixes[role]);
    return name;
}

bool cm_role_prefix_is_good(const char *prefix)
{
    size_t len = strlen(prefix);
    return len > 0 && len <= CM_ROLE_PREFIX_MAX && *prefix >= 'a' && *prefix <= 'z' &&
           strspn(prefix, "abcdefghijklmnopqrstuvwxyz0123456789_") == len &&
           strncmp(prefix, "pg_", 3) != 0;
}

static void append_role(cm_buffer_t *sql, const char *prefix, cm_role_t role)
{
    char name[CM_ROLE_NAME_MAX], quoted[CM_SQL_IDENTIFIER_MAX];
    cm_role_name(prefix, role, name);
    cm_buffer_printf(sql, "%s", cm_sql_identifier(name, quoted));
}

static void append_grantees(cm_buffer_t *sql, const char *prefix, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        cm_buffer_printf(sql, "%s", i ? ", " : "");
        append_role(sql, prefix, grantees[i]);
    }
}

/* ---- a database that was prepared ----------------------------------------------------------- */

cm_status_t cm_role_find_prefix(cm_pg_t *pg, const char *admin_schema,
                                char prefix[CM_ROLE_NAME_MAX], cm_error_t *err)
{
    const char *values[] = {admin_schema};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    *prefix = '\0';
    cm_status_t status = cm_pg_query(
        pg,
        "SELECT left(rolname, -length('_owner')) FROM pg_class AS c"
        " JOIN pg_namespace AS n ON n.oid = c.relnamespace JOIN pg_roles AS r ON r.oid = c.relowner"
        " WHERE nspname = $1 AND relname = 'tenants' AND rolname LIKE '%\\_owner'"
        " AND NOT rolcanlogin",
        1, values, &result, err);
    if (status == CM_OK && PQntuples(result) == 1 &&
        cm_role_prefix_is_good(cm_pg_text(result, 0, 0)))
        snprintf(prefix, CM_ROLE_NAME_MAX, "%s", cm_pg_text(result, 0, 0));
    return status;
}

cm_status_t cm_role_begin_ddl(cm_pg_t *pg, const char *admin_schema, char prefix[CM_ROLE_NAME_MAX],
                              cm_error_t *err)
{
    cm_status_t status = cm_role_find_prefix(pg, admin_schema, prefix, err);
    if (status != CM_OK || !*prefix)
        return status;
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t sql = {0};
    cm_buffer_printf(&sql, "SET LOCAL ROLE ");
    append_role(&sql, prefix, CM_ROLE_OWNER);
    return cm_pg_exec(pg, cm_buffer_text(&sql), err);
}

cm_status_t cm_role_end_ddl(cm_pg_t *pg, const char *prefix, const char *schema, cm_error_t *err)
{
    if (!*prefix)
        return CM_OK;
    cm_status_t status = cm_role_grant(pg, prefix, CM_ROLE_TENANT, schema, err);
    return status == CM_OK ? cm_pg_exec(pg, "RESET ROLE", err) : status; /* to the connection's */
}

/* ---- granting ------------------------------------------------------------------------------- */

/* Tables, and the sequences that have a row above. Devices first, then as writers lock. Asked of
 * pg_depend, because no index of pg_class finds the relations of a schema. */
static cm_status_t list_relations(cm_pg_t *pg, const char *schema, const char *kinds,
                                  PGresult **ret_result, cm_error_t *err)
{
    const char *values[] = {schema, kinds};
    return cm_pg_query(pg,
                       "SELECT relname, pg_get_userbyid(relowner) FROM pg_namespace AS n"
                       " JOIN pg_depend AS d ON refclassid = 'pg_namespace'::regclass"
                       " AND refobjid = n.oid AND classid = 'pg_class'::regclass"
                       " JOIN pg_class AS c ON c.oid = objid"
                       " WHERE nspname = $1 AND relkind::text = ANY(string_to_array($2, NULL))"
                       " ORDER BY array_position(ARRAY['devices', 'tombstones',"
                       " 'push_verdicts_held'], relname::text), relname",
                       2, values, ret_result, err);
}

static void append_grants(cm_buffer_t *sql, const char *prefix, size_t row, const char *quoted)
{
    cm_buffer_printf(sql, "REVOKE ALL ON @schema@.%s FROM ", quoted);
    append_grantees(sql, prefix, CM_LENGTH(grantees));
    cm_buffer_printf(sql, ";\n");
    for (size_t i = 0; i < CM_LENGTH(grantees); i++) {
        if (!privileges_of(row, i))
            continue;
        cm_buffer_printf(sql, "GRANT %s ON @schema@.%s TO ", privileges_of(row, i), quoted);
        append_role(sql, prefix, grantees[i]);
        cm_buffer_printf(sql, ";\n");
    }
}

cm_status_t cm_role_grant(cm_pg_t *pg, const char *prefix, cm_role_scope_t scope,
                          const char *schema, cm_error_t *err)
{
    CM_CLEANUP(cm_pg_clear) PGresult *relations = NULL;
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t sql = {0};
    cm_status_t status = list_relations(pg, schema, "rpS", &relations, err);
    if (status != CM_OK)
        return status;
    cm_buffer_printf(&sql, "GRANT USAGE ON SCHEMA @schema@ TO ");
    append_grantees(&sql, prefix, CM_LENGTH(grantees) - (scope == CM_ROLE_TENANT));
    cm_buffer_printf(&sql, ";\n");
    for (int i = 0; i < PQntuples(relations); i++) {
        char quoted[CM_SQL_IDENTIFIER_MAX];
        const char *table = cm_pg_text(relations, i, 0);
        for (size_t row = 0; row < CM_LENGTH(grants); row++)
            if (grants[row].scope == scope && strcmp(grants[row].table, table) == 0)
                append_grants(&sql, prefix, row, cm_sql_identifier(table, quoted));
    }
    return cm_sql_exec(pg, cm_buffer_text(&sql), schema, err);
}

cm_status_t cm_role_adopt(cm_pg_t *pg, const char *prefix, const char *schema, cm_error_t *err)
{
    CM_CLEANUP(cm_pg_clear) PGresult *relations = NULL;
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t sql = {0};
    char owner[CM_ROLE_NAME_MAX];
    cm_role_name(prefix, CM_ROLE_OWNER, owner);
    cm_status_t status = list_relations(pg, schema, "rp", &relations, err);
    if (status != CM_OK)
        return status;
    cm_buffer_printf(&sql, "ALTER SCHEMA @schema@ OWNER TO \"%s\";\n", owner);
    for (int i = 0; i < PQntuples(relations); i++) {
        char quoted[CM_SQL_IDENTIFIER_MAX];
        if (strcmp(cm_pg_text(relations, i, 1), owner) != 0)
            cm_buffer_printf(&sql, "ALTER TABLE @schema@.%s OWNER TO \"%s\";\n",
                             cm_sql_identifier(cm_pg_text(relations, i, 0), quoted), owner);
    }
    status = cm_sql_exec(pg, cm_buffer_text(&sql), schema, err);
    return status == CM_OK ? cm_role_grant(pg, prefix, CM_ROLE_TENANT, schema, err) : status;
}

void cm_role_tenant_grants(cm_buffer_t *out, const char *prefix)
{
    bool first = true;
    for (size_t row = 0; row < CM_LENGTH(grants); row++) {
        for (size_t i = 0; i < CM_LENGTH(grantees); i++) {
            char name[CM_ROLE_NAME_MAX];
            if (grants[row].scope != CM_ROLE_TENANT || !privileges_of(row, i))
                continue;
            cm_buffer_printf(out, "%s('%s', '%s', '%s')", first ? "" : ", ", grants[row].table,
                             cm_role_name(prefix, grantees[i], name), privileges_of(row, i));
            first = false;
        }
    }
}
