#include "schema/push_brake_store.h"
#include "proto/tenant_id.h"
#include "runtime/cleanup.h"
#include "schema/sql.h"
#include "schema/token_status_sql.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- looking -------------------------------------------------------------------------------- */

static cm_status_t count_held(cm_pg_t *pg, cm_push_brake_t *brake, cm_error_t *err)
{
    char schema[CM_TENANT_SCHEMA_MAX];
    const char *values[] = {brake->application_code.ptr, brake->provider.ptr};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_status_t status =
        cm_sql_query(pg,
                     "SELECT count(*) FROM @schema@.push_verdicts_held"
                     " WHERE application_code = $1 AND provider = $2 AND held",
                     cm_tenant_id_schema(brake->tenant.ptr, schema), 2, values, &result, err);
    if (status == CM_OK)
        brake->held = cm_pg_i64(result, 0, 0);
    return status == CM_MISSING ? CM_OK : status;
}

static cm_str_t keep(cm_arena_t *arena, const PGresult *result, int row, int column)
{
    return cm_arena_printf(arena, "%s", cm_pg_text(result, row, column));
}

cm_status_t cm_push_brake_list(cm_pg_t *pg, const char *admin_schema, const char *tenant,
                               cm_arena_t *arena, cm_push_brake_t **ret_brakes, size_t *ret_count,
                               cm_error_t *err)
{
    const char *values[] = {tenant};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_status_t status =
        cm_sql_query(pg,
                     "SELECT tenant, application_code, provider, " CM_SQL_TO_MS(
                         "tripped_at") ","
                                       " judged, gone FROM @schema@.push_brakes"
                                       " WHERE $1::text IS NULL OR tenant = $1 ORDER BY 1, 2, 3",
                     admin_schema, 1, values, &result, err);
    if (status != CM_OK)
        return status;
    size_t count = (size_t)PQntuples(result);
    cm_push_brake_t *brakes = cm_arena_alloc(arena, (count + 1) * sizeof *brakes);
    for (int i = 0; status == CM_OK && i < (int)count; i++) {
        brakes[i] = (cm_push_brake_t){.tenant = keep(arena, result, i, 0),
                                      .application_code = keep(arena, result, i, 1),
                                      .provider = keep(arena, result, i, 2),
                                      .tripped_ms = cm_pg_i64(result, i, 3),
                                      .judged = cm_pg_i64(result, i, 4),
                                      .gone = cm_pg_i64(result, i, 5)};
        status = count_held(pg, &brakes[i], err);
    }
    *ret_brakes = brakes;
    *ret_count = count;
    return status;
}

cm_status_t cm_push_brake_totals(cm_pg_t *pg, const char *admin_schema, int64_t *ret_brakes,
                                 int64_t *ret_held, cm_error_t *err)
{
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(16 * 1024);
    cm_push_brake_t *brakes = NULL;
    size_t count = 0;
    cm_status_t status = cm_push_brake_list(pg, admin_schema, NULL, arena, &brakes, &count, err);
    if (status != CM_OK)
        return status;
    *ret_brakes = (int64_t)count;
    *ret_held = 0;
    for (size_t i = 0; i < count; i++)
        *ret_held += brakes[i].held;
    return CM_OK;
}

/* ---- deciding ------------------------------------------------------------------------------- */

typedef struct {
    cm_pg_t *pg;
    const char *admin_schema, *schema;
    const cm_push_brake_decision_t *decision;
    int64_t chunk;
} step_t;

static cm_status_t lock(const step_t *step, cm_error_t *err)
{
    cm_status_t status = cm_sql_exec(step->pg, cm_token_status_sql_lock_devices, step->schema, err);
    return status == CM_OK ? cm_sql_exec(step->pg, cm_token_status_sql_lock_held, step->schema, err)
                           : status;
}

static cm_status_t take_chunk(const step_t *step, cm_push_brake_step_t *ret_step, cm_error_t *err)
{
    char limit[24];
    snprintf(limit, sizeof limit, "%" PRId64, step->chunk);
    const char *values[] = {step->decision->application_code, step->decision->provider, limit};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_status_t status = cm_sql_query(step->pg,
                                      step->decision->applies ? cm_token_status_sql_release
                                                              : cm_token_status_sql_discard,
                                      step->schema, 3, values, &result, err);
    if (status != CM_OK)
        return status;
    ret_step->taken = cm_pg_i64(result, 0, 0);
    ret_step->applied = cm_pg_i64(result, 0, 1);
    return CM_OK;
}

/* Are fewer held than a chunk, so that this one would be the last? */
static cm_status_t is_last(const step_t *step, bool *ret_last, cm_error_t *err)
{
    char limit[24];
    snprintf(limit, sizeof limit, "%" PRId64, step->chunk);
    const char *values[] = {step->decision->application_code, step->decision->provider, limit};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_status_t status = cm_sql_query(step->pg,
                                      "SELECT FROM @schema@.push_verdicts_held"
                                      " WHERE application_code = $1 AND provider = $2 AND held"
                                      " LIMIT $3::bigint",
                                      step->schema, 3, values, &result, err);
    if (status == CM_OK)
        *ret_last = PQntuples(result) < step->chunk;
    return status;
}

static cm_status_t take_off(const step_t *step, cm_push_brake_step_t *ret_step, cm_error_t *err)
{
    const cm_push_brake_decision_t *decision = step->decision;
    const char *values[] = {decision->tenant, decision->application_code, decision->provider};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_status_t status = cm_sql_query(step->pg,
                                      "DELETE FROM @schema@.push_brakes WHERE tenant = $1"
                                      " AND application_code = $2 AND provider = $3 RETURNING 1",
                                      step->admin_schema, 3, values, &result, err);
    if (status != CM_OK)
        return status;
    ret_step->is_over = true;
    ret_step->was_on = PQntuples(result) > 0;
    return CM_OK;
}

static cm_status_t tell_audit(const step_t *step, cm_audit_trail_t *audit,
                              const cm_push_brake_step_t *done, cm_audit_head_t *ret_head,
                              cm_error_t *err)
{
    const cm_push_brake_decision_t *decision = step->decision;
    json_t *detail =
        json_pack("{s:s, s:s, s:I, s:I, s:b}", "application", decision->application_code,
                  "provider", decision->provider, "verdicts", (json_int_t)done->taken, "applied",
                  (json_int_t)done->applied, "over", (int)done->is_over);
    CM_CLEANUP(cm_free) char *text = detail ? json_dumps(detail, 0) : NULL;
    json_decref(detail);
    cm_audit_entry_t entry = {.actor = audit->actor,
                              .action = decision->applies ? "push-brake-released"
                                                          : "push-brake-discarded",
                              .tenant = decision->tenant,
                              .detail = text};
    return cm_audit_append(step->pg, step->admin_schema, audit->key, &entry, ret_head, err);
}

/* The lock is for the last chunk alone, and comes before any row is locked: a verdict that is being
 * written has its lock first and may want the same rows. More may have been held until it is got.
 */
static cm_status_t work(const step_t *step, cm_push_brake_step_t *ret_step, cm_error_t *err)
{
    bool last = false;
    cm_status_t status = is_last(step, &last, err);
    if (status == CM_OK && last)
        status = lock(step, err);
    if (status == CM_OK && last)
        status = is_last(step, &last, err);
    if (status == CM_OK)
        status = take_chunk(step, ret_step, err);
    return status == CM_OK && last ? take_off(step, ret_step, err) : status;
}

cm_status_t cm_push_brake_decide(cm_pg_t *pg, const char *admin_schema,
                                 const cm_push_brake_decision_t *decision, int64_t chunk,
                                 cm_audit_trail_t *audit, cm_push_brake_step_t *ret_step,
                                 cm_error_t *err)
{
    char schema[CM_TENANT_SCHEMA_MAX];
    cm_audit_head_t head = {0};
    step_t step = {pg, admin_schema, cm_tenant_id_schema(decision->tenant, schema), decision,
                   chunk};
    *ret_step = (cm_push_brake_step_t){0};
    cm_status_t status = cm_pg_begin(pg, err);
    if (status == CM_OK)
        status = cm_pg_exec(pg, "SET TRANSACTION ISOLATION LEVEL READ COMMITTED", err);
    if (status == CM_OK)
        status = work(&step, ret_step, err);
    if (status == CM_OK && (ret_step->taken || ret_step->was_on))
        status = tell_audit(&step, audit, ret_step, &head, err);
    if (status == CM_OK)
        status = cm_pg_commit(pg, err);
    if (status != CM_OK) {
        cm_pg_rollback(pg);
        *ret_step = (cm_push_brake_step_t){0};
        return status;
    }
    if (head.position)
        audit->head = head;
    return CM_OK;
}
