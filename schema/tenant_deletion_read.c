#include "runtime/cleanup.h"
#include "schema/sql.h"
#include "schema/tenant_deletion.h"

#include <inttypes.h>
#include <stdio.h>

#define OPEN                                                                                       \
    " FROM @schema@.tenant_deletions AS d JOIN @schema@.tenants AS t"                              \
    " ON t.id = d.tenant AND t.generation = d.generation WHERE verified_at IS NULL"
#define HELD "(t.held_at IS NOT NULL AND t.state <> 'deleted')"

cm_status_t cm_tenant_deletion_next(cm_pg_t *pg, const char *admin_schema, const char *after,
                                    char ret_tenant[CM_TENANT_ID_MAX], cm_error_t *err)
{
    const char *values[] = {after};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    ret_tenant[0] = '\0';
    cm_status_t status = cm_sql_query(pg,
                                      "SELECT d.tenant" OPEN " AND NOT " HELD " AND d.tenant > $1"
                                      " ORDER BY d.tenant LIMIT 1",
                                      admin_schema, 1, values, &result, err);
    if (status == CM_OK && PQntuples(result) > 0)
        snprintf(ret_tenant, CM_TENANT_ID_MAX, "%s", cm_pg_text(result, 0, 0));
    return status;
}

cm_status_t cm_tenant_deletion_census(cm_pg_t *pg, const char *admin_schema,
                                      cm_deletion_census_t *ret_census, cm_error_t *err)
{
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_status_t status = cm_sql_query(
        pg,
        "SELECT count(*) FILTER (WHERE NOT " HELD "), count(*) FILTER (WHERE " HELD "),"
        " coalesce(extract(epoch FROM now() - min(requested_at) FILTER (WHERE NOT " HELD
        ")), 0)::bigint" OPEN,
        admin_schema, 0, NULL, &result, err);
    if (status == CM_OK)
        *ret_census = (cm_deletion_census_t){.unfinished = cm_pg_i64(result, 0, 0),
                                             .held = cm_pg_i64(result, 0, 1),
                                             .oldest_s = cm_pg_i64(result, 0, 2)};
    return status;
}

static const char *keep(cm_arena_t *arena, const PGresult *result, int column)
{
    return cm_arena_copy(arena, cm_str(cm_pg_text(result, 0, column))).ptr;
}

cm_status_t cm_tenant_deletion_get(cm_pg_t *pg, const char *admin_schema, const char *tenant,
                                   int64_t generation, cm_arena_t *arena,
                                   cm_deletion_record_t *ret_record, cm_error_t *err)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRId64, generation);
    const char *values[] = {tenant, generation < 0 ? NULL : text};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_status_t status = cm_sql_query(
        pg,
        "SELECT generation, dead_letters, push_brakes, " CM_SQL_TO_MS("event_at") ", " CM_SQL_TO_MS("requested_at") ", " CM_SQL_TO_MS("blocked_at") ", " CM_SQL_TO_MS(
            "dropped_at") ", " CM_SQL_TO_MS("purged_at") ", " CM_SQL_TO_MS("verified_at") ", "
                                                                                          "requeste"
                                                                                          "d_by, "
                                                                                          "reason, "
                                                                                          "counts, "
                                                                                          "checks, "
                                                                                          "current_"
                                                                                          "database"
                                                                                          "()"
                                                                                          " FROM "
                                                                                          "@schema@"
                                                                                          ".tenant_"
                                                                                          "deletion"
                                                                                          "s WHERE "
                                                                                          "tenant "
                                                                                          "= $1 "
                                                                                          "AND "
                                                                                          "generati"
                                                                                          "on ="
                                                                                          " coalesc"
                                                                                          "e($2::"
                                                                                          "bigint, "
                                                                                          "generati"
                                                                                          "on) "
                                                                                          "ORDER "
                                                                                          "BY "
                                                                                          "generati"
                                                                                          "on DESC "
                                                                                          "LIMIT 1",
        admin_schema, 2, values, &result, err);
    if (status != CM_OK)
        return status;
    if (PQntuples(result) == 0)
        return cm_error_set(err, CM_MISSING, "deletion-missing", "no such deletion of tenant %s",
                            tenant);
    *ret_record = (cm_deletion_record_t){.generation = cm_pg_i64(result, 0, 0),
                                         .dead_letters = cm_pg_i64(result, 0, 1),
                                         .push_brakes = cm_pg_i64(result, 0, 2),
                                         .event_ms = cm_pg_i64(result, 0, 3),
                                         .requested_ms = cm_pg_i64(result, 0, 4),
                                         .blocked_ms = cm_pg_i64(result, 0, 5),
                                         .dropped_ms = cm_pg_i64(result, 0, 6),
                                         .purged_ms = cm_pg_i64(result, 0, 7),
                                         .verified_ms = cm_pg_i64(result, 0, 8),
                                         .requested_by = keep(arena, result, 9),
                                         .reason = keep(arena, result, 10),
                                         .counts = keep(arena, result, 11),
                                         .checks = keep(arena, result, 12),
                                         .database = keep(arena, result, 13)};
    return CM_OK;
}
