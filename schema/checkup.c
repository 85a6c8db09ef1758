#include "schema/checkup.h"
#include "runtime/cleanup.h"
#include "schema/database_prepare.h"
#include "schema/migration.h"

#include <stdio.h>
#include <string.h>

/* Each check is one expression that yields what was found, and one that yields whether it is good.
 */
static const struct {
    const char *what, *found, *good;
    bool required;
    const char *mend;
} checks[] = {
    {"postgres version", "current_setting('server_version')",
     "current_setting('server_version_num')::int >= 150000", true, "use PostgreSQL 15 or newer"},
    {"right to create schemas",
     "CASE WHEN has_database_privilege(current_database(), 'CREATE') THEN 'granted' "
     "ELSE 'missing' END",
     "has_database_privilege(current_database(), 'CREATE')", true,
     "GRANT CREATE ON DATABASE ... TO the role of postgres.uri"},
    {"server encoding", "current_setting('server_encoding')",
     "current_setting('server_encoding') = 'UTF8'", true, "create the database with UTF8"},
    {"fsync", "current_setting('fsync')", "current_setting('fsync') = 'on'", true,
     "set fsync = on: without it a crash of the machine loses what was acknowledged"},
    {"synchronous_commit", "current_setting('synchronous_commit')",
     "current_setting('synchronous_commit') <> 'off'", true,
     "set synchronous_commit = on: batching makes it nearly free"},
    {"recovery_init_sync_method", "current_setting('recovery_init_sync_method')",
     "current_setting('recovery_init_sync_method') = 'syncfs'", false,
     "set it to syncfs: with thousands of tenants a crash costs seconds instead of minutes"},
    {"max_locks_per_transaction", "current_setting('max_locks_per_transaction')",
     "current_setting('max_locks_per_transaction')::int >= 256", false,
     "set it to 256: dropping and migrating many tenants takes many locks"},
    {"client_connection_check_interval", "current_setting('client_connection_check_interval')",
     "current_setting('client_connection_check_interval') <> '0'", false,
     "set it to 1s: the server then stops working for clients that died"},
};

static cm_status_t check_version(cm_pg_t *pg, const char *admin_schema, cm_checkup_t *item,
                                 cm_error_t *err)
{
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    const char *values[] = {admin_schema};
    cm_status_t status =
        cm_pg_query(pg, "SELECT to_regclass(quote_ident($1) || '.schema_migrations') IS NOT NULL",
                    1, values, &result, err);
    if (status != CM_OK)
        return status;
    bool there = strcmp(cm_pg_text(result, 0, 0), "t") == 0;
    *item = (cm_checkup_t){.what = "admin schema",
                           .good = there,
                           .required = false,
                           .mend = "none: the first run creates it"};
    snprintf(item->found, sizeof item->found, "%s %s", admin_schema,
             there ? "is there" : "is not there yet");
    return CM_OK;
}

cm_status_t cm_checkup_run(cm_pg_t *pg, const char *admin_schema,
                           cm_checkup_t items[CM_CHECKUP_MAX], size_t *ret_count, cm_error_t *err)
{
    size_t count = 0;
    for (; count < CM_LENGTH(checks); count++) {
        char sql[512];
        CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
        snprintf(sql, sizeof sql, "SELECT %s, %s", checks[count].found, checks[count].good);
        cm_status_t status = cm_pg_query(pg, sql, 0, NULL, &result, err);
        if (status != CM_OK)
            return status;
        items[count] = (cm_checkup_t){.what = checks[count].what,
                                      .good = strcmp(cm_pg_text(result, 0, 1), "t") == 0,
                                      .required = checks[count].required,
                                      .mend = checks[count].mend};
        snprintf(items[count].found, sizeof items[count].found, "%s", cm_pg_text(result, 0, 0));
    }
    cm_status_t status = check_version(pg, admin_schema, &items[count], err);
    *ret_count = count + 1;
    return status;
}

/* ---- roles ---------------------------------------------------------------------------------- */

/* $1: the prefix with its '_', $2: the admin schema. */
static const struct {
    const char *what, *found, *good;
    bool required;
    const char *mend;
} role_checks[] = {
    {"database roles",
     "coalesce((SELECT string_agg($1 || s, ', ') || ' missing' FROM unnest(ARRAY['owner', 'ddl',"
     " 'writer', 'purger', 'dash', 'audit_w', 'audit_owner']) AS s WHERE NOT EXISTS"
     " (SELECT FROM pg_roles WHERE rolname = $1 || s)), 'all there')",
     "(SELECT count(*) = 7 FROM pg_roles WHERE rolname = ANY(ARRAY[$1 || 'owner', $1 || 'ddl',"
     " $1 || 'writer', $1 || 'purger', $1 || 'dash', $1 || 'audit_w', $1 || 'audit_owner']))",
     true, "client-manager database prepare --roles"},
    {"roles of the login",
     "(SELECT count(*) || ' of 5 granted to ' || session_user FROM pg_roles WHERE rolname = ANY("
     "ARRAY[$1 || 'ddl', $1 || 'writer', $1 || 'purger', $1 || 'dash', $1 || 'audit_w'])"
     " AND pg_has_role(session_user, oid, 'MEMBER'))",
     "(SELECT count(*) = 5 FROM pg_roles WHERE rolname = ANY(ARRAY[$1 || 'ddl', $1 || 'writer',"
     " $1 || 'purger', $1 || 'dash', $1 || 'audit_w'])"
     " AND pg_has_role(session_user, oid, 'MEMBER'))",
     true, "client-manager database prepare --roles --login LOGIN"},
    {"rights of the login",
     "(SELECT CASE WHEN rolsuper THEN 'superuser' WHEN rolcreaterole THEN 'may create roles'"
     " WHEN has_database_privilege(oid, current_database(), 'CREATE') THEN 'may create schemas'"
     " WHEN rolinherit THEN 'inherits' ELSE 'none of its own' END"
     " FROM pg_roles WHERE rolname = session_user)",
     "(SELECT NOT (rolsuper OR rolcreaterole OR rolinherit"
     " OR has_database_privilege(oid, current_database(), 'CREATE'))"
     " FROM pg_roles WHERE rolname = session_user)",
     false, "a login with nothing but the roles: LOGIN NOINHERIT"},
    {"owners of the admin schema",
     "coalesce((SELECT string_agg(DISTINCT pg_get_userbyid(relowner), ', ') FROM pg_class AS c"
     " JOIN pg_namespace AS n ON n.oid = relnamespace WHERE nspname = $2 AND relkind = 'r'),"
     " 'no table')",
     "(SELECT bool_and(pg_get_userbyid(relowner) = $1 || CASE WHEN relname = 'audit_log'"
     " THEN 'audit_owner' ELSE 'owner' END) FROM pg_class AS c"
     " JOIN pg_namespace AS n ON n.oid = relnamespace WHERE nspname = $2 AND relkind = 'r')",
     true, "client-manager database prepare --roles"},
    {"statements in the server's log",
     "format('log_min_error_statement %s, log_error_verbosity %s, log_parameter_max_length %s',"
     " current_setting('log_min_error_statement'), current_setting('log_error_verbosity'),"
     " current_setting('log_parameter_max_length'))",
     "current_setting('log_min_error_statement') = 'panic'"
     " AND current_setting('log_error_verbosity') = 'terse'"
     " AND current_setting('log_parameter_max_length') = '0'",
     false,
     "client-manager database prepare --roles --login LOGIN, as a superuser: else push "
     "tokens can get into the log"},
};

static cm_status_t check_role(cm_pg_t *pg, size_t index, const char *const values[2],
                              cm_checkup_t *item, cm_error_t *err)
{
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t sql = {0};
    cm_buffer_printf(&sql, "SELECT %s, coalesce(%s, false), $1::text, $2::text",
                     role_checks[index].found, role_checks[index].good);
    cm_status_t status = cm_pg_query(pg, cm_buffer_text(&sql), 2, values, &result, err);
    if (status != CM_OK)
        return status;
    *item = (cm_checkup_t){.what = role_checks[index].what,
                           .good = strcmp(cm_pg_text(result, 0, 1), "t") == 0,
                           .required = role_checks[index].required,
                           .mend = role_checks[index].mend};
    snprintf(item->found, sizeof item->found, "%s", cm_pg_text(result, 0, 0));
    return CM_OK;
}

static cm_status_t check_outside(cm_pg_t *pg, const char *admin_schema, const char *prefix,
                                 cm_checkup_t *item, cm_error_t *err)
{
    CM_CLEANUP(cm_pg_clear) PGresult *ids = NULL;
    cm_status_t status = cm_database_list_outside(pg, admin_schema, prefix, &ids, err);
    if (status != CM_OK)
        return status;
    *item = (cm_checkup_t){.what = "tenant schemas outside the roles",
                           .good = PQntuples(ids) == 0,
                           .required = true,
                           .mend = "client-manager database prepare --roles"};
    snprintf(item->found, sizeof item->found, "%d%s%s", PQntuples(ids),
             PQntuples(ids) ? ", the first is tenant " : "",
             PQntuples(ids) ? cm_pg_text(ids, 0, 0) : "");
    return CM_OK;
}

cm_status_t cm_checkup_roles(cm_pg_t *pg, const char *admin_schema, const char *prefix,
                             cm_checkup_t items[CM_CHECKUP_MAX], size_t *ret_count, cm_error_t *err)
{
    char with_mark[CM_ROLE_NAME_MAX];
    snprintf(with_mark, sizeof with_mark, "%s_", prefix);
    const char *values[2] = {with_mark, admin_schema};
    cm_status_t status = CM_OK;
    size_t count = 0;
    for (; status == CM_OK && count < CM_LENGTH(role_checks); count++)
        status = check_role(pg, count, values, &items[count], err);
    if (status == CM_OK && items[3].good) /* else it may not even be asked */
        status = check_outside(pg, admin_schema, prefix, &items[count++], err);
    *ret_count = status == CM_OK ? count : 0;
    return status;
}
