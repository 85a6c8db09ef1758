#include "schema/job_store.h"
#include "runtime/cleanup.h"
#include "schema/sql.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { NUMBER_MAX = 24 };

/* The database's clock, as fine as what is handed out: a request is found again by its time. */
#define NOW "date_trunc('milliseconds', clock_timestamp())"

static cm_status_t no_job(const char *job, cm_error_t *err)
{
    return cm_error_set(err, CM_PERMANENT, "not-found", "there is no job %s", job);
}

cm_status_t cm_job_register(cm_pg_t *pg, const char *admin_schema, const char *job, cm_error_t *err)
{
    const char *values[] = {job};
    assert(*job && strlen(job) < CM_LEASE_NAME_MAX);
    return cm_sql_query(pg,
                        "INSERT INTO @schema@.jobs (name, last_tick) VALUES ($1, " NOW ")"
                        " ON CONFLICT DO NOTHING",
                        admin_schema, 1, values, NULL, err);
}

cm_status_t cm_job_register_schedule(cm_pg_t *pg, const char *admin_schema, const char *job,
                                     const char *schedule, cm_error_t *err)
{
    const char *values[] = {job, schedule};
    assert(*job && strlen(job) < CM_LEASE_NAME_MAX);
    return cm_sql_query(
        pg,
        "INSERT INTO @schema@.jobs AS j (name, last_tick, schedule) VALUES ($1, " NOW ", $2)"
        " ON CONFLICT (name) DO UPDATE SET schedule = excluded.schedule, last_tick ="
        " CASE j.schedule WHEN '' THEN greatest(j.last_tick, " NOW ") ELSE j.last_tick END"
        " WHERE j.schedule <> excluded.schedule",
        admin_schema, 2, values, NULL, err);
}

/* clang-format off */
static const char load_sql[] =
    "SELECT " CM_SQL_TO_MS(NOW) ", " CM_SQL_TO_MS("j.last_tick") ", "
    CM_SQL_TO_MS("j.requested_at") ", (j.paused_at IS NOT NULL)::int,"
    " r.id, " CM_SQL_TO_MS("r.tick") ", r.attempts, (r.cancel_requested_at IS NOT NULL)::int,"
    " j.paused_by, j.requested_by, "
    CM_SQL_TO_MS("(SELECT d.ended_at FROM @schema@.job_runs AS d WHERE d.job = j.name"
                 " AND d.state = 'done' ORDER BY d.id DESC LIMIT 1)") ", "
    CM_SQL_TO_MS("(SELECT e.ended_at - e.started_at FROM @schema@.job_runs AS e WHERE e.job = j.name"
                 " AND e.state NOT IN ('running', 'passed') ORDER BY e.id DESC LIMIT 1)")
    " FROM @schema@.jobs AS j"
    " LEFT JOIN @schema@.job_runs AS r ON r.job = j.name AND r.state = 'running'"
    " WHERE j.name = $1";
/* clang-format on */

cm_status_t cm_job_load(cm_pg_t *pg, const char *admin_schema, const char *job, cm_job_t *ret_job,
                        cm_error_t *err)
{
    const char *values[] = {job};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_status_t status = cm_sql_query(pg, load_sql, admin_schema, 1, values, &result, err);
    if (status != CM_OK)
        return status;
    if (PQntuples(result) == 0)
        return no_job(job, err);
    *ret_job = (cm_job_t){
        .schedule = {.now_ms = cm_pg_i64(result, 0, 0),
                     .last_tick_ms = cm_pg_i64(result, 0, 1),
                     .requested_ms = cm_pg_i64(result, 0, 2),
                     .paused = cm_pg_i64(result, 0, 3),
                     .unfinished_tick_ms = cm_pg_i64(result, 0, 5),
                     .unfinished_attempts = (int)cm_pg_i64(result, 0, 6),
                     .unfinished_cancelled = cm_pg_i64(result, 0, 7)},
        .unfinished_id = cm_pg_i64(result, 0, 4),
        .last_done_ms = cm_pg_i64(result, 0, 10),
        .last_took_ms = cm_pg_i64(result, 0, 11),
    };
    snprintf(ret_job->name, sizeof ret_job->name, "%s", job);
    snprintf(ret_job->paused_by, CM_JOB_BY_MAX, "%s", cm_pg_text(result, 0, 8));
    snprintf(ret_job->requested_by, CM_JOB_BY_MAX, "%s", cm_pg_text(result, 0, 9));
    return CM_OK;
}

/* ---- requests ------------------------------------------------------------------------------- */

/* A change of one job that returns its row. */
static cm_status_t change(cm_pg_t *pg, const char *schema, const char *sql, int count,
                          const char *const *values, PGresult **ret_result, cm_error_t *err)
{
    cm_status_t status = cm_sql_query(pg, sql, schema, count, values, ret_result, err);
    return status == CM_OK && PQntuples(*ret_result) == 0 ? no_job(values[0], err) : status;
}

cm_status_t cm_job_pause(cm_pg_t *pg, const char *admin_schema, const char *job, const char *by,
                         cm_error_t *err)
{
    const char *values[] = {job, by};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    return change(pg, admin_schema,
                  "UPDATE @schema@.jobs SET paused_at = coalesce(paused_at, " NOW "), paused_by ="
                  " CASE WHEN paused_at IS NULL THEN $2 ELSE paused_by END WHERE name = $1"
                  " RETURNING 1",
                  2, values, &result, err);
}

cm_status_t cm_job_unpause(cm_pg_t *pg, const char *admin_schema, const char *job, cm_error_t *err)
{
    const char *values[] = {job};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    return change(pg, admin_schema,
                  "UPDATE @schema@.jobs SET last_tick = CASE WHEN paused_at IS NULL THEN last_tick"
                  " ELSE greatest(last_tick, " NOW ") END, paused_at = NULL, paused_by = ''"
                  " WHERE name = $1 RETURNING 1",
                  1, values, &result, err);
}

cm_status_t cm_job_request(cm_pg_t *pg, const char *admin_schema, const char *job, const char *by,
                           int64_t *ret_requested_ms, cm_error_t *err)
{
    const char *values[] = {job, by};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_status_t status =
        change(pg, admin_schema,
               "UPDATE @schema@.jobs SET requested_at = coalesce(requested_at, " NOW "),"
               " requested_by = CASE WHEN requested_at IS NULL THEN $2 ELSE requested_by END"
               " WHERE name = $1 RETURNING " CM_SQL_TO_MS("requested_at"),
               2, values, &result, err);
    if (status == CM_OK)
        *ret_requested_ms = cm_pg_i64(result, 0, 0);
    return status;
}

cm_status_t cm_job_cancel(cm_pg_t *pg, const char *admin_schema, int64_t run_id, const char *by,
                          cm_error_t *err)
{
    char id[NUMBER_MAX];
    const char *values[] = {id, by};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    bool cancelled = false;
    snprintf(id, sizeof id, "%" PRId64, run_id);
    cm_status_t status =
        cm_sql_query(pg,
                     "UPDATE @schema@.job_runs SET cancel_requested_by = CASE WHEN"
                     " cancel_requested_at IS NULL THEN $2 ELSE cancel_requested_by END,"
                     " cancel_requested_at = coalesce(cancel_requested_at, " NOW ")"
                     " WHERE id = $1 AND state = 'running' RETURNING 1",
                     admin_schema, 2, values, &result, err);
    if (status != CM_OK || PQntuples(result) == 1)
        return status;
    status = cm_job_run_cancelled(pg, admin_schema, run_id, &cancelled, err); /* is there one? */
    if (status != CM_OK)
        return status;
    return cm_error_set(err, CM_PERMANENT, "not-running", "run %" PRId64 " has ended", run_id);
}
