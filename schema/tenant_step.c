#include "schema/tenant_step.h"
#include "runtime/backoff.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "schema/sql.h"

#include <string.h>
#include <time.h>

enum { TRIES_MAX = 8, RETRY_BASE_MS = 10, RETRY_CAP_MS = 200 };

static cm_status_t lock_tenant(cm_tenant_step_t *step, cm_error_t *err)
{
    /* What is read below must be newer than the lock, whatever the server's default is. */
    cm_status_t status =
        cm_pg_exec(step->pg, "SET TRANSACTION ISOLATION LEVEL READ COMMITTED", err);
    const char *values[] = {step->id};
    if (status == CM_OK)
        status = cm_pg_exec(step->pg, "SET LOCAL lock_timeout = '2s'", err);
    return status == CM_OK
               ? cm_pg_query(step->pg,
                             "SELECT pg_advisory_xact_lock(hashtextextended('cm:' || $1, 0))", 1,
                             values, NULL, err)
               : status;
}

/* Asked of the table: to_regnamespace() may answer from a cache older than the lock. */
static cm_status_t find_schema(cm_tenant_step_t *step, cm_error_t *err)
{
    const char *values[] = {step->schema};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_status_t status = cm_pg_query(step->pg, "SELECT FROM pg_namespace WHERE nspname = $1", 1,
                                     values, &result, err);
    if (status == CM_OK)
        step->schema_is_there = PQntuples(result) > 0;
    return status;
}

static cm_status_t read_registry(cm_tenant_step_t *step, cm_error_t *err)
{
    const char *values[] = {step->id};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    step->row = (cm_tenant_t){.state = CM_TENANT_ABSENT};
    step->deleted_ms = INT64_MIN;
    step->held = step->unfinished = false;
    cm_status_t status = cm_sql_query(
        step->pg,
        "SELECT " CM_SQL_TO_MS(
            "deleted_at") ", held_at IS NOT NULL, EXISTS (SELECT"
                          " FROM @schema@.tenant_deletions AS d WHERE d.tenant = t.id AND"
                          " d.generation = t.generation AND verified_at IS NULL)"
                          " FROM @schema@.tenants AS t WHERE id = $1 FOR UPDATE",
        step->admin_schema, 1, values, &result, err);
    if (status != CM_OK || PQntuples(result) == 0)
        return status;
    if (!PQgetisnull(result, 0, 0))
        step->deleted_ms = cm_pg_i64(result, 0, 0);
    step->held = strcmp(cm_pg_text(result, 0, 1), "t") == 0;
    step->unfinished = strcmp(cm_pg_text(result, 0, 2), "t") == 0;
    return cm_tenant_registry_get(step->pg, step->admin_schema, step->id, &step->row, err);
}

static cm_status_t try_step(cm_tenant_step_t *step, cm_tenant_step_fn *body, cm_error_t *err)
{
    cm_status_t status = cm_pg_begin(step->pg, err);
    if (status == CM_OK)
        status = lock_tenant(step, err);
    if (status == CM_OK)
        status = find_schema(step, err);
    if (status == CM_OK)
        status = read_registry(step, err);
    if (status == CM_OK)
        status = body(step, err);
    if (status == CM_OK)
        status = cm_pg_commit(step->pg, err);
    if (status != CM_OK)
        cm_pg_rollback(step->pg);
    return status;
}

/* Races of two who create, a deadlock with a writer, a table somebody holds: all pass. */
static bool passes(const cm_error_t *err)
{
    return err->status == CM_TRANSIENT &&
           (cm_pg_is_quick_retry(err->code) || strcmp(err->code, "23505") == 0 ||
            strcmp(err->code, "55P03") == 0);
}

cm_status_t cm_tenant_step_run(cm_tenant_step_t *step, cm_tenant_step_fn *body, cm_error_t *err)
{
    cm_error_t failure = {0};
    cm_backoff_t backoff;
    cm_backoff_init(&backoff, RETRY_BASE_MS, RETRY_CAP_MS, cm_random_u64());
    cm_tenant_id_schema(step->id, step->schema);
    cm_status_t status = CM_OK;
    for (int tries = 0; tries < TRIES_MAX; tries++) {
        if (tries > 0) {
            int wait_ms = cm_backoff_next_ms(&backoff);
            nanosleep(&(struct timespec){.tv_nsec = wait_ms * 1000000L}, NULL);
        }
        if (step->audit)
            step->audit->head = (cm_audit_head_t){0};
        status = try_step(step, body, &failure);
        if (status == CM_OK || !passes(&failure))
            break;
    }
    if (status != CM_OK && step->audit)
        step->audit->head = (cm_audit_head_t){0};
    if (status != CM_OK && err)
        *err = failure;
    return status;
}

cm_status_t cm_tenant_step_tell(const cm_tenant_step_t *step, const char *action,
                                int64_t generation, const char *detail, cm_error_t *err)
{
    if (!step->audit)
        return CM_OK;
    cm_audit_entry_t entry = {step->audit->actor, action, step->id, generation, detail};
    return cm_audit_append(step->pg, step->admin_schema, step->audit->key, &entry,
                           &step->audit->head, err);
}
