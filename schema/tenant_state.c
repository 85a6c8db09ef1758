#include "schema/tenant_state.h"
#include "runtime/cleanup.h"
#include "schema/sql.h"
#include "schema/tenant_step.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *reason;
    cm_tenant_change_t change;
} wish_t;

static cm_status_t refuse(const cm_tenant_step_t *step, cm_error_t *err)
{
    if (step->row.state == CM_TENANT_ABSENT)
        return cm_error_set(err, CM_MISSING, "tenant-missing", "tenant %s is not in the registry",
                            step->id);
    return cm_error_set(err, CM_PERMANENT, "tenant-deleted", "tenant %s is %s", step->id,
                        cm_tenant_state_name(step->row.state));
}

static cm_status_t set(cm_tenant_step_t *step, const char *sql, const char *action, cm_error_t *err)
{
    wish_t *wish = step->ctx;
    const char *values[] = {step->id, wish->reason};
    wish->change = CM_TENANT_CHANGED;
    cm_status_t status =
        cm_sql_query(step->pg, sql, step->admin_schema, wish->reason ? 2 : 1, values, NULL, err);
    return status == CM_OK ? cm_tenant_step_tell(step, action, step->row.generation, "{}", err)
                           : status;
}

static cm_status_t suspend(cm_tenant_step_t *step, cm_error_t *err)
{
    if (step->row.state == CM_TENANT_SUSPENDED)
        return CM_OK;
    if (step->row.state != CM_TENANT_ACTIVE)
        return refuse(step, err);
    return set(step,
               "UPDATE @schema@.tenants SET state = 'suspended', changed_at = now() WHERE id = $1",
               "tenant-suspended", err);
}

static cm_status_t resume(cm_tenant_step_t *step, cm_error_t *err)
{
    if (step->row.state == CM_TENANT_ACTIVE)
        return CM_OK;
    if (step->row.state != CM_TENANT_SUSPENDED)
        return refuse(step, err);
    return set(step,
               "UPDATE @schema@.tenants SET state = 'active', changed_at = now() WHERE id = $1",
               "tenant-resumed", err);
}

static cm_status_t hold(cm_tenant_step_t *step, cm_error_t *err)
{
    if (step->row.state == CM_TENANT_ABSENT || step->row.state == CM_TENANT_DELETED)
        return refuse(step, err);
    if (step->held)
        return CM_OK;
    return set(step, "UPDATE @schema@.tenants SET held_at = now(), hold_reason = $2 WHERE id = $1",
               "legal-hold-placed", err);
}

static cm_status_t release(cm_tenant_step_t *step, cm_error_t *err)
{
    if (step->row.state == CM_TENANT_ABSENT)
        return refuse(step, err);
    if (!step->held)
        return CM_OK;
    return set(step, "UPDATE @schema@.tenants SET held_at = NULL, hold_reason = '' WHERE id = $1",
               "legal-hold-released", err);
}

static cm_status_t run(cm_tenant_step_t *step, cm_tenant_step_fn *body, const char *reason,
                       cm_tenant_change_t *ret_change, cm_error_t *err)
{
    wish_t wish = {.reason = reason, .change = CM_TENANT_UNCHANGED};
    step->ctx = &wish;
    cm_status_t status = cm_tenant_step_run(step, body, err);
    *ret_change = status == CM_OK ? wish.change : CM_TENANT_UNCHANGED;
    return status;
}

cm_status_t cm_tenant_suspend(cm_pg_t *pg, const char *admin_schema, const char *id,
                              cm_audit_trail_t *audit, cm_tenant_change_t *ret_change,
                              cm_error_t *err)
{
    cm_tenant_step_t step = {.pg = pg, .admin_schema = admin_schema, .id = id, .audit = audit};
    return run(&step, suspend, NULL, ret_change, err);
}

cm_status_t cm_tenant_resume(cm_pg_t *pg, const char *admin_schema, const char *id,
                             cm_audit_trail_t *audit, cm_tenant_change_t *ret_change,
                             cm_error_t *err)
{
    cm_tenant_step_t step = {.pg = pg, .admin_schema = admin_schema, .id = id, .audit = audit};
    return run(&step, resume, NULL, ret_change, err);
}

cm_status_t cm_tenant_hold(cm_pg_t *pg, const char *admin_schema, const char *id,
                           const char *reason, cm_audit_trail_t *audit,
                           cm_tenant_change_t *ret_change, cm_error_t *err)
{
    cm_tenant_step_t step = {.pg = pg, .admin_schema = admin_schema, .id = id, .audit = audit};
    return run(&step, hold, reason, ret_change, err);
}

cm_status_t cm_tenant_hold_get(cm_pg_t *pg, const char *admin_schema, const char *id,
                               int64_t *ret_held_ms, char **ret_reason, cm_error_t *err)
{
    const char *values[] = {id};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_status_t status =
        cm_sql_query(pg,
                     "SELECT coalesce(" CM_SQL_TO_MS(
                         "held_at") ", 0), hold_reason FROM @schema@.tenants WHERE id = $1",
                     admin_schema, 1, values, &result, err);
    if (status != CM_OK)
        return status;
    if (PQntuples(result) == 0)
        return cm_error_set(err, CM_MISSING, "tenant-missing", "tenant %s is not in the registry",
                            id);
    *ret_held_ms = cm_pg_i64(result, 0, 0);
    *ret_reason = strdup(cm_pg_text(result, 0, 1));
    if (!*ret_reason)
        abort();
    return CM_OK;
}

cm_status_t cm_tenant_fence(cm_pg_t *pg, const char *admin_schema, const char *id, cm_error_t *err)
{
    const char *values[] = {id};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    assert(!cm_pg_is_connected(pg) || PQtransactionStatus(cm_pg_raw(pg)) == PQTRANS_INTRANS);
    cm_status_t status = cm_sql_query(pg,
                                      "SELECT FROM @schema@.tenants WHERE id = $1"
                                      " AND state = 'active' AND held_at IS NULL FOR KEY SHARE",
                                      admin_schema, 1, values, &result, err);
    if (status != CM_OK || PQntuples(result) > 0)
        return status;
    return cm_error_set(err, CM_MISSING, "tenant-resting",
                        "tenant %s is not active, or under legal hold", id);
}

cm_status_t cm_tenant_release(cm_pg_t *pg, const char *admin_schema, const char *id,
                              cm_audit_trail_t *audit, cm_tenant_change_t *ret_change,
                              bool *ret_waits, cm_error_t *err)
{
    cm_tenant_step_t step = {.pg = pg, .admin_schema = admin_schema, .id = id, .audit = audit};
    cm_status_t status = run(&step, release, NULL, ret_change, err);
    if (ret_waits)
        *ret_waits = status == CM_OK && step.unfinished;
    return status;
}
