#include "schema/tenant_registry.h"
#include "runtime/buffer.h"
#include "runtime/cleanup.h"
#include "schema/sql.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ACTIVATED_MS CM_SQL_TO_MS("activated_at")
#define CHANGED_MS   CM_SQL_TO_MS("changed_at")
#define COLUMNS                                                                                    \
    "id, name, schema_name, state, generation, schema_version, " ACTIVATED_MS ", " CHANGED_MS

static const char *const state_names[] = {"absent",   "activating", "active",   "suspended",
                                          "deleting", "deleted",    "not ready"};

const char *cm_tenant_state_name(cm_tenant_state_t state)
{
    return (size_t)state < CM_LENGTH(state_names) ? state_names[state] : "unknown";
}

/* A state written by a newer program: keep away, decide nothing. */
static cm_tenant_state_t state_of(const char *name)
{
    for (size_t i = 0; i < CM_LENGTH(state_names); i++)
        if (strcmp(name, state_names[i]) == 0)
            return (cm_tenant_state_t)i;
    return CM_TENANT_UNREADY;
}

static void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count ? count : 1, size);
    if (!memory)
        abort();
    return memory;
}

/* Text array literal; quoted, because an id may read "NULL". */
static void append_ids(cm_buffer_t *out, const char (*ids)[CM_TENANT_ID_MAX], size_t count)
{
    for (size_t i = 0; i < count; i++) {
        cm_buffer_append(out, i ? ",\"" : "{\"", 2);
        for (const char *c = ids[i]; *c; c++) {
            if (*c == '"' || *c == '\\')
                cm_buffer_append(out, "\\", 1);
            cm_buffer_append(out, c, 1);
        }
        cm_buffer_append(out, "\"", 1);
    }
    cm_buffer_append(out, "}", 1);
}

cm_status_t cm_tenant_registry_states(cm_pg_t *pg, const char *admin_schema,
                                      const char (*ids)[CM_TENANT_ID_MAX], size_t count,
                                      cm_tenant_state_t *ret_states, cm_error_t *err)
{
    if (count == 0)
        return CM_OK;
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t list = {0};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    append_ids(&list, ids, count);
    char needed[16];
    snprintf(needed, sizeof needed, "%d", CM_TENANT_SCHEMA_NEEDED);
    const char *values[] = {cm_buffer_text(&list), needed};
    cm_status_t status = cm_sql_query(
        pg,
        "SELECT CASE WHEN t.state = 'active' AND t.schema_version < $2::integer THEN 'not ready'"
        " ELSE coalesce(t.state, 'absent') END"
        " FROM unnest($1::text[]) WITH ORDINALITY AS n(id, i)"
        " LEFT JOIN @schema@.tenants AS t ON t.id = n.id ORDER BY n.i",
        admin_schema, 2, values, &result, err);
    if (status != CM_OK)
        return status;
    assert((size_t)PQntuples(result) == count);
    for (size_t i = 0; i < count; i++)
        ret_states[i] = state_of(cm_pg_text(result, (int)i, 0));
    return CM_OK;
}

static void read_tenant(cm_tenant_t *tenant, const PGresult *result, int row)
{
    snprintf(tenant->id, sizeof tenant->id, "%s", cm_pg_text(result, row, 0));
    snprintf(tenant->name, sizeof tenant->name, "%s", cm_pg_text(result, row, 1));
    snprintf(tenant->schema, sizeof tenant->schema, "%s", cm_pg_text(result, row, 2));
    tenant->state = state_of(cm_pg_text(result, row, 3));
    tenant->generation = cm_pg_i64(result, row, 4);
    tenant->schema_version = (int)cm_pg_i64(result, row, 5);
    tenant->activated_ms = cm_pg_i64(result, row, 6);
    tenant->changed_ms = cm_pg_i64(result, row, 7);
}

cm_status_t cm_tenant_registry_list(cm_pg_t *pg, const char *admin_schema, bool with_state,
                                    cm_tenant_state_t state, const char *after, size_t limit,
                                    cm_tenant_t **ret_tenants, size_t *ret_count, cm_error_t *err)
{
    char limit_text[24];
    snprintf(limit_text, sizeof limit_text, "%zu", limit < INT64_MAX ? limit : INT64_MAX);
    const char *values[] = {after, limit_text, with_state ? cm_tenant_state_name(state) : NULL};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_status_t status = cm_sql_query(pg,
                                      "SELECT " COLUMNS " FROM @schema@.tenants"
                                      " WHERE id > $1 AND ($3::text IS NULL OR state = $3)"
                                      " ORDER BY id LIMIT $2::bigint",
                                      admin_schema, 3, values, &result, err);
    if (status != CM_OK)
        return status;
    *ret_count = (size_t)PQntuples(result);
    *ret_tenants = allocate(*ret_count, sizeof **ret_tenants);
    for (size_t i = 0; i < *ret_count; i++)
        read_tenant(&(*ret_tenants)[i], result, (int)i);
    return CM_OK;
}

cm_status_t cm_tenant_registry_counts(cm_pg_t *pg, const char *admin_schema,
                                      cm_tenant_count_t **ret_counts, size_t *ret_count,
                                      cm_error_t *err)
{
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_status_t status =
        cm_sql_query(pg,
                     "SELECT state, schema_version, count(*) FROM @schema@.tenants"
                     " GROUP BY state, schema_version"
                     " ORDER BY array_position(ARRAY['activating', 'active', 'suspended',"
                     " 'deleting', 'deleted'], state), schema_version",
                     admin_schema, 0, NULL, &result, err);
    if (status != CM_OK)
        return status;
    *ret_count = (size_t)PQntuples(result);
    *ret_counts = allocate(*ret_count, sizeof **ret_counts);
    for (size_t i = 0; i < *ret_count; i++)
        (*ret_counts)[i] =
            (cm_tenant_count_t){state_of(cm_pg_text(result, (int)i, 0)),
                                (int)cm_pg_i64(result, (int)i, 1), cm_pg_i64(result, (int)i, 2)};
    return CM_OK;
}

cm_status_t cm_tenant_registry_get(cm_pg_t *pg, const char *admin_schema, const char *id,
                                   cm_tenant_t *ret_tenant, cm_error_t *err)
{
    const char *values[] = {id};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_status_t status = cm_sql_query(pg, "SELECT " COLUMNS " FROM @schema@.tenants WHERE id = $1",
                                      admin_schema, 1, values, &result, err);
    if (status != CM_OK)
        return status;
    if (PQntuples(result) == 0)
        return cm_error_set(err, CM_MISSING, "tenant-missing", "tenant %s is not in the registry",
                            id);
    read_tenant(ret_tenant, result, 0);
    return CM_OK;
}
