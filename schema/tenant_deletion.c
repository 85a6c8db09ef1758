#include "schema/tenant_deletion.h"
#include "runtime/cleanup.h"
#include "runtime/crash.h"
#include "schema/sql.h"
#include "schema/tenant_drop.h"
#include "schema/tenant_generation.h"
#include "schema/tenant_purge.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

typedef struct {
    const cm_deletion_request_t *request; /* NULL: go on with what is recorded */
    cm_deletion_step_t done;
} work_t;

const char *cm_deletion_step_name(cm_deletion_step_t step)
{
    static const char *const names[] = {"nothing left",      "requested",   "blocked by hold",
                                        "nothing to delete", "dropped",     "purged",
                                        "verified",          "not verified"};
    return (size_t)step < CM_LENGTH(names) ? names[step] : "unknown";
}

static const char *decimal(char text[24], int64_t value)
{
    snprintf(text, 24, "%" PRId64, value);
    return text;
}

static bool is_live(cm_tenant_state_t state)
{
    return state != CM_TENANT_DELETING && state != CM_TENANT_DELETED;
}

/* ---- request -------------------------------------------------------------------------------- */

static cm_status_t record(cm_tenant_step_t *step, const cm_deletion_request_t *request,
                          cm_error_t *err)
{
    char generation[24], event[24];
    const char *values[] = {step->id, decimal(generation, step->row.generation),
                            decimal(event, request->event_ms), request->requested_by,
                            request->reason};
    return cm_sql_query(step->pg,
                        "INSERT INTO @schema@.tenant_deletions"
                        " (tenant, generation, event_at, requested_by, reason)"
                        " VALUES ($1, $2, " CM_SQL_FROM_MS("$3") ", $4, $5)",
                        step->admin_schema, CM_LENGTH(values), values, NULL, err);
}

/* The newest deletion is the tombstone's time, also of one that is under way or done. */
static cm_status_t raise_time(cm_tenant_step_t *step, int64_t event_ms, cm_error_t *err)
{
    char generation[24], event[24];
    const char *values[] = {step->id, decimal(event, event_ms),
                            decimal(generation, step->row.generation)};
    cm_status_t status = cm_sql_query(
        step->pg,
        "UPDATE @schema@.tenant_deletions SET event_at ="
        " greatest(event_at, " CM_SQL_FROM_MS("$2") ")"
                                                    " WHERE tenant = $1 AND generation = $3",
        step->admin_schema, 3, values, NULL, err);
    if (status != CM_OK || is_live(step->row.state))
        return status;
    return cm_sql_query(step->pg,
                        "UPDATE @schema@.tenants SET deleted_at ="
                        " greatest(deleted_at, " CM_SQL_FROM_MS("$2") ") WHERE id = $1",
                        step->admin_schema, 2, values, NULL, err);
}

/* deleting or deleted, with the time of the recorded deletion. */
static cm_status_t set_state(cm_tenant_step_t *step, const char *state, cm_error_t *err)
{
    char generation[24];
    const char *values[] = {step->id, step->schema, state,
                            decimal(generation, step->row.generation)};
    return cm_sql_query(
        step->pg,
        "INSERT INTO @schema@.tenants AS t (id, schema_name, state, deleted_at)"
        " SELECT $1, $2, $3, event_at FROM @schema@.tenant_deletions"
        " WHERE tenant = $1 AND generation = $4::bigint"
        " ON CONFLICT (id) DO UPDATE SET state = excluded.state,"
        " name = CASE WHEN excluded.state = 'deleted' AND coalesce(t.activated_at <="
        " greatest(t.deleted_at, excluded.deleted_at), true) THEN '' ELSE t.name END,"
        " schema_version = CASE WHEN excluded.state = 'deleted' THEN 0 ELSE t.schema_version END,"
        " deleted_at = greatest(t.deleted_at, excluded.deleted_at), changed_at = now()",
        step->admin_schema, 4, values, NULL, err);
}

/* Set a time of the recorded deletion to now. */
static cm_status_t stamp(cm_tenant_step_t *step, const char *column, cm_error_t *err)
{
    char sql[160], generation[24];
    const char *values[] = {step->id, decimal(generation, step->row.generation)};
    snprintf(sql, sizeof sql,
             "UPDATE @schema@.tenant_deletions SET %s = now() WHERE tenant = $1 AND generation ="
             " $2",
             column);
    return cm_sql_query(step->pg, sql, step->admin_schema, 2, values, NULL, err);
}

/* The tombstone's time is of use to whoever reads the log, and nobody's personal data. */
static cm_status_t tell_time(cm_tenant_step_t *step, const char *action, cm_error_t *err)
{
    char generation[24];
    const char *values[] = {step->id, decimal(generation, step->row.generation)};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_status_t status = cm_sql_query(
        step->pg,
        "SELECT json_build_object('event_ms', " CM_SQL_TO_MS(
            "event_at") ")"
                        " FROM @schema@.tenant_deletions WHERE tenant = $1 AND generation = $2",
        step->admin_schema, 2, values, &result, err);
    return status == CM_OK ? cm_tenant_step_tell(step, action, step->row.generation,
                                                 cm_pg_text(result, 0, 0), err)
                           : status;
}

static cm_status_t begin(cm_tenant_step_t *step, work_t *work, cm_error_t *err)
{
    work->done = CM_DELETION_REQUESTED;
    cm_status_t status = set_state(step, "deleting", err);
    if (status == CM_OK)
        status = tell_time(step, "deletion-requested", err);
    cm_crash_point("deletion-request");
    return status;
}

static cm_status_t block(cm_tenant_step_t *step, work_t *work, bool news, cm_error_t *err)
{
    work->done = CM_DELETION_BLOCKED;
    cm_status_t status = news ? stamp(step, "blocked_at", err) : CM_OK;
    if (status == CM_OK && news)
        status = tell_time(step, "deletion-blocked-by-hold", err);
    cm_crash_point("deletion-request");
    return status;
}

static cm_status_t note_unknown(cm_tenant_step_t *step, work_t *work, cm_error_t *err)
{
    work->done = CM_DELETION_NOTHING;
    cm_status_t status = stamp(step, "dropped_at", err);
    if (status == CM_OK)
        status = set_state(step, "deleted", err);
    if (status == CM_OK)
        status = tell_time(step, "nothing-to-delete", err);
    cm_crash_point("deletion-request");
    return status;
}

static cm_status_t request_step(cm_tenant_step_t *step, cm_error_t *err)
{
    work_t *work = step->ctx;
    work->done = CM_DELETION_NONE;
    int64_t event_ms = work->request->event_ms;
    bool live = is_live(step->row.state);
    if (live && step->deleted_ms >= event_ms) /* of an earlier generation, carried out */
        return CM_OK;
    if (!live && !step->unfinished && step->schema_is_there)
        return cm_error_set(err, CM_PERMANENT, "schema-exists",
                            "tenant %s is deleted and has a schema again", step->id);
    if (!live || step->unfinished)
        return raise_time(step, event_ms, err);
    cm_status_t status = record(step, work->request, err);
    if (status != CM_OK)
        return status;
    if (step->row.state == CM_TENANT_ABSENT && !step->schema_is_there)
        return note_unknown(step, work, err);
    return step->held ? block(step, work, true, err) : begin(step, work, err);
}

/* ---- drop, purge, verify -------------------------------------------------------------------- */

static cm_status_t drop(cm_tenant_step_t *step, work_t *work, cm_error_t *err)
{
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    char generation[24];
    const char *values[] = {step->id, decimal(generation, step->row.generation)};
    work->done = CM_DELETION_DROPPED;
    cm_status_t status = step->schema_is_there ? cm_tenant_drop_schema(step, err) : CM_OK;
    if (status == CM_OK)
        status = set_state(step, "deleted", err);
    if (status == CM_OK)
        status = cm_sql_query(step->pg,
                              "UPDATE @schema@.tenant_deletions SET dropped_at = now()"
                              " WHERE tenant = $1 AND generation = $2"
                              " RETURNING json_build_object('rows', counts)",
                              step->admin_schema, 2, values, &result, err);
    if (status == CM_OK)
        status = cm_tenant_step_tell(step, "deletion-dropped", step->row.generation,
                                     cm_pg_text(result, 0, 0), err);
    cm_crash_point("deletion-drop");
    return status;
}

static cm_status_t purge(cm_tenant_step_t *step, work_t *work, cm_error_t *err)
{
    work->done = CM_DELETION_PURGED;
    cm_status_t status = cm_tenant_purge(step, err);
    cm_crash_point("deletion-purge");
    return status;
}

/* Told anew only when it differs from what was found before. */
static cm_status_t tell_findings(cm_tenant_step_t *step, const char *checks, bool news,
                                 cm_error_t *err)
{
    char generation[24];
    const char *values[] = {step->id, decimal(generation, step->row.generation), checks};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_status_t status = cm_sql_query(
        step->pg,
        "UPDATE @schema@.tenant_deletions SET checks = $3::jsonb, purged_at ="
        " CASE WHEN NOT EXISTS (SELECT FROM jsonb_each_text($3::jsonb) AS c WHERE c.value <> '0'"
        " AND c.key <> 'tenants' AND c.key NOT LIKE 'pg\\_%') THEN purged_at END WHERE tenant = $1 "
        "AND generation = $2"
        " RETURNING json_build_object('left', checks)",
        step->admin_schema, 3, values, &result, err);
    return status == CM_OK && news
               ? cm_tenant_step_tell(step, "deletion-verification-failed", step->row.generation,
                                     cm_pg_text(result, 0, 0), err)
               : status;
}

static cm_status_t tell_verified(cm_tenant_step_t *step, const char *checks, cm_error_t *err)
{
    char generation[24];
    const char *values[] = {step->id, decimal(generation, step->row.generation), checks};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_status_t status =
        cm_sql_query(step->pg,
                     "UPDATE @schema@.tenant_deletions SET checks = $3::jsonb, verified_at = now()"
                     " WHERE tenant = $1 AND generation = $2 RETURNING json_build_object("
                     "'dead_letters', dead_letters, 'push_brakes', push_brakes, 'left', checks)",
                     step->admin_schema, 3, values, &result, err);
    return status == CM_OK ? cm_tenant_step_tell(step, "deletion-verified", step->row.generation,
                                                 cm_pg_text(result, 0, 0), err)
                           : status;
}

/* The tenant was activated at a later time than it was deleted, and the activation came first: it
 * begins anew, in the same commit. */
static cm_status_t finish(cm_tenant_step_t *step, const char *checks, cm_error_t *err)
{
    bool anew = step->row.activated_ms > step->deleted_ms;
    step->event_ms = step->row.activated_ms;
    cm_status_t status = anew ? cm_tenant_generation_make(step, step->row.name, err) : CM_OK;
    if (status == CM_OK)
        status = tell_verified(step, checks, err);
    return status == CM_OK && anew ? cm_tenant_generation_tell(step, err) : status;
}

static cm_status_t verify(cm_tenant_step_t *step, work_t *work, cm_error_t *err)
{
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_status_t status = cm_tenant_drop_verify(step, &result, err);
    if (status != CM_OK)
        return status;
    const char *checks = cm_pg_text(result, 0, 0);
    bool clean = strcmp(cm_pg_text(result, 0, 1), "t") == 0;
    bool news = strcmp(cm_pg_text(result, 0, 2), "t") == 0;
    work->done = clean ? CM_DELETION_VERIFIED : CM_DELETION_UNVERIFIED;
    status = clean ? finish(step, checks, err) : tell_findings(step, checks, news, err);
    cm_crash_point("deletion-verify");
    return status;
}

static cm_status_t advance_step(cm_tenant_step_t *step, cm_error_t *err)
{
    work_t *work = step->ctx;
    char generation[24];
    const char *values[] = {step->id, decimal(generation, step->row.generation)};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    work->done = CM_DELETION_NONE;
    if (!step->unfinished)
        return CM_OK;
    cm_status_t status =
        cm_sql_query(step->pg,
                     "SELECT blocked_at IS NULL, purged_at IS NULL"
                     " FROM @schema@.tenant_deletions WHERE tenant = $1 AND generation = $2",
                     step->admin_schema, 2, values, &result, err);
    if (status != CM_OK)
        return status;
    bool unblocked = strcmp(cm_pg_text(result, 0, 0), "t") == 0;
    bool unpurged = strcmp(cm_pg_text(result, 0, 1), "t") == 0;
    if (step->row.state == CM_TENANT_DELETED)
        return unpurged ? purge(step, work, err) : verify(step, work, err);
    if (step->held)
        return block(step, work, unblocked, err);
    return is_live(step->row.state) ? begin(step, work, err) : drop(step, work, err);
}

/* ---- the interface -------------------------------------------------------------------------- */

static void pass_crash_point(cm_deletion_step_t done)
{
    static const char *const points[] = {
        [CM_DELETION_REQUESTED] = "deletion-requested",
        [CM_DELETION_BLOCKED] = "deletion-requested",
        [CM_DELETION_NOTHING] = "deletion-requested",
        [CM_DELETION_DROPPED] = "after-drop",
        [CM_DELETION_PURGED] = "deletion-purged",
        [CM_DELETION_VERIFIED] = "deletion-verified",
        [CM_DELETION_UNVERIFIED] = "deletion-verified",
    };
    if (points[done])
        cm_crash_point(points[done]);
}

static cm_status_t run(cm_tenant_step_t *step, work_t *work, cm_tenant_step_fn *body,
                       cm_deletion_step_t *ret_step, cm_error_t *err)
{
    step->ctx = work;
    cm_status_t status = cm_tenant_step_run(step, body, err);
    *ret_step = status == CM_OK ? work->done : CM_DELETION_NONE;
    pass_crash_point(*ret_step);
    return status;
}

cm_status_t cm_tenant_deletion_request(cm_pg_t *pg, const char *admin_schema,
                                       const cm_deletion_request_t *request,
                                       cm_audit_trail_t *audit, cm_deletion_step_t *ret_step,
                                       cm_error_t *err)
{
    work_t work = {.request = request};
    cm_tenant_step_t step = {
        .pg = pg, .admin_schema = admin_schema, .id = request->tenant, .audit = audit};
    return run(&step, &work, request_step, ret_step, err);
}

cm_status_t cm_tenant_deletion_advance(cm_pg_t *pg, const char *admin_schema, const char *tenant,
                                       cm_audit_trail_t *audit, cm_deletion_step_t *ret_step,
                                       cm_error_t *err)
{
    work_t work = {0};
    cm_tenant_step_t step = {.pg = pg, .admin_schema = admin_schema, .id = tenant, .audit = audit};
    return run(&step, &work, advance_step, ret_step, err);
}
