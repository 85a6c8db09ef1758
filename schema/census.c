#include "schema/census.h"
#include "proto/tenant_id.h"
#include "runtime/cleanup.h"
#include "schema/tenant_registry.h"

#include <stdio.h>
#include <string.h>

enum { PAGE = 1000, SQL_MAX = 512 };

static cm_status_t count(cm_pg_t *pg, const char *schema, const char *table, const char *condition,
                         int64_t *ret_count, cm_error_t *err)
{
    char sql[SQL_MAX];
    char *quoted = PQescapeIdentifier(cm_pg_raw(pg), schema, strlen(schema));
    if (!quoted)
        return cm_error_set(err, CM_PERMANENT, "invalid-tenant", "a schema name is not text");
    snprintf(sql, sizeof sql, "SELECT count(*) FROM %s.%s WHERE %s", quoted, table, condition);
    PQfreemem(quoted);
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_status_t status = cm_pg_query(pg, sql, 0, NULL, &result, err);
    if (status == CM_OK)
        *ret_count = cm_pg_i64(result, 0, 0);
    return status;
}

cm_status_t cm_census_active_tenants(cm_pg_t *pg, const char *admin_schema, int64_t *ret_count,
                                     cm_error_t *err)
{
    return count(pg, admin_schema, "tenants", "state = 'active'", ret_count, err);
}

cm_status_t cm_census_dead_letters(cm_pg_t *pg, const char *admin_schema, int64_t *ret_count,
                                   cm_error_t *err)
{
    return count(pg, admin_schema, "dead_letters", "true", ret_count, err);
}

cm_status_t cm_census_devices(cm_pg_t *pg, const char *admin_schema, int64_t *ret_count,
                              cm_error_t *err)
{
    char after[CM_TENANT_ID_MAX] = "";
    size_t found = 1;
    cm_status_t status = CM_OK;
    *ret_count = 0;
    while (status == CM_OK && found) {
        CM_CLEANUP(cm_free) cm_tenant_t *tenants = NULL;
        status = cm_tenant_registry_list(pg, admin_schema, true, CM_TENANT_ACTIVE, after, PAGE,
                                         &tenants, &found, err);
        for (size_t i = 0; status == CM_OK && i < found; i++) {
            int64_t devices = 0;
            status = count(pg, tenants[i].schema, "devices", "true", &devices, err);
            *ret_count += devices;
        }
        if (status == CM_OK && found)
            memcpy(after, tenants[found - 1].id, sizeof after);
    }
    return status;
}
