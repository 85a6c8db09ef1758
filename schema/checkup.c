#include "schema/checkup.h"
#include "runtime/cleanup.h"
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
