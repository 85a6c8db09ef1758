/* job_run - what a run writes, each under the fence of its lease; declared in job_store.h. */
#include "runtime/cleanup.h"
#include "schema/job_store.h"
#include "schema/sql.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { NUMBER_MAX = 24, VALUES_MAX = 10 };

#define NOW       "date_trunc('milliseconds', clock_timestamp())"
#define SECOND_MS CM_SQL_FROM_MS("$2")
#define THIRD_MS  CM_SQL_FROM_MS("$3")
/* The run $1, if it is under way under our term: $2 job, $3 term. */
#define OURS "id = $1 AND job = $2 AND term = $3 AND state = 'running'"

typedef struct {
    const char *values[VALUES_MAX];
    char room[VALUES_MAX][NUMBER_MAX];
    int count;
} values_t;

static void put_text(values_t *self, const char *text)
{
    assert(self->count < VALUES_MAX);
    self->values[self->count++] = text;
}

static void put_number(values_t *self, int64_t number)
{
    assert(self->count < VALUES_MAX);
    snprintf(self->room[self->count], NUMBER_MAX, "%" PRId64, number);
    put_text(self, self->room[self->count]);
}

static void put_str(values_t *self, cm_str_t text, const char *otherwise, cm_arena_t *arena)
{
    put_text(self, text.ptr ? cm_arena_printf(arena, "%.*s", CM_STR_ARG(text)).ptr : otherwise);
}

static void put_run(values_t *self, const cm_lease_t *lease, int64_t run_id)
{
    put_number(self, run_id);
    put_text(self, lease->name);
    put_number(self, lease->term);
}

/* What is kept of a tenant goes when it is deleted: whoever writes looks at the tenant's state as
 * he does so. The purge waits for those who saw it alive (tenant_purge.c). So what is asked must
 * not be older than the lock on the table, whatever the server's default is. */
#define OF_LIVE(tenant)                                                                            \
    " WHERE NOT EXISTS (SELECT FROM @schema@.tenants AS d"                                         \
    " WHERE d.id = " tenant " AND d.state = 'deleted')"
#define SECOND_LIVES OF_LIVE("$2")
#define FOURTH_LIVES OF_LIVE("$4")

cm_status_t cm_job_write_begin(cm_pg_t *pg, cm_error_t *err)
{
    cm_status_t status = cm_pg_begin(pg, err);
    return status == CM_OK ? cm_pg_exec(pg, "SET TRANSACTION ISOLATION LEVEL READ COMMITTED", err)
                           : status;
}

/* One statement behind the fence, in the caller's transaction or in one of its own. */
static cm_status_t run_fenced(cm_pg_t *pg, const char *schema, const cm_lease_t *lease,
                              const char *sql, const values_t *values, PGresult **ret_result,
                              cm_error_t *err)
{
    bool own = PQtransactionStatus(cm_pg_raw(pg)) != PQTRANS_INTRANS;
    cm_status_t status = own ? cm_job_write_begin(pg, err) : CM_OK;
    if (status == CM_OK)
        status = cm_lease_check(pg, schema, lease, err);
    if (status == CM_OK)
        status = cm_sql_query(pg, sql, schema, values->count, values->values, ret_result, err);
    if (own && status == CM_OK)
        status = cm_pg_commit(pg, err);
    if (own && status != CM_OK)
        cm_pg_rollback(pg);
    return status;
}

/* The same, about a run: it returns a row unless the run is not ours. */
static cm_status_t run_on(cm_pg_t *pg, const char *schema, const cm_lease_t *lease, int64_t run_id,
                          const char *sql, const values_t *values, cm_error_t *err)
{
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_status_t status = run_fenced(pg, schema, lease, sql, values, &result, err);
    if (status == CM_OK && PQntuples(result) == 0)
        return cm_error_set(err, CM_PERMANENT, "not-running",
                            "run %" PRId64 " of job %s is not under way here", run_id, lease->name);
    return status;
}

/* ---- begin and end -------------------------------------------------------------------------- */

const char *cm_run_state_name(cm_run_state_t state)
{
    static const char *const names[CM_RUN_STATES] = {"running", "done",      "partial",
                                                     "failed",  "cancelled", "passed"};
    return names[state];
}

/* Nobody else writes runs of this job meanwhile: all who do hold the lease. The index on what runs
 * makes a second run of the job do nothing here, too. */
static const char begin_sql[] =
    "WITH given AS (SELECT name, " SECOND_MS " AS tick, $3::text AS kind,"
    " $3::text = 'requested' AS asked, requested_by FROM @schema@.jobs WHERE name = $1),"
    " begun AS (INSERT INTO @schema@.job_runs"
    " (job, tick, first_tick, kind, state, term, holder, requested_by, started_at)"
    " SELECT name, tick, tick, kind, 'running', $4, $5,"
    " CASE WHEN asked THEN requested_by ELSE '' END, " NOW
    " FROM given ON CONFLICT DO NOTHING RETURNING id),"
    " known AS (SELECT id FROM begun UNION ALL SELECT r.id FROM @schema@.job_runs AS r"
    " JOIN given AS g ON r.job = g.name AND r.tick = g.tick),"
    " counted AS (UPDATE @schema@.jobs AS j SET last_tick = greatest(j.last_tick, g.tick)"
    " FROM given AS g WHERE j.name = g.name AND NOT g.asked AND EXISTS (SELECT FROM known)),"
    " served AS (UPDATE @schema@.jobs AS j SET requested_at = NULL, requested_by = ''"
    " FROM given AS g WHERE j.name = g.name AND g.asked AND j.requested_at = g.tick"
    " AND EXISTS (SELECT FROM known))"
    " SELECT (SELECT count(*) FROM begun), (SELECT id FROM known),"
    " (SELECT count(*) FROM given)";

cm_status_t cm_job_run_begin(cm_pg_t *pg, const char *admin_schema, const cm_lease_t *lease,
                             cm_run_kind_t kind, int64_t tick_ms, bool *ret_begun,
                             int64_t *ret_run_id, cm_error_t *err)
{
    values_t values = {0};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    put_text(&values, lease->name);
    put_number(&values, tick_ms);
    put_text(&values, cm_run_kind_name(kind));
    put_number(&values, lease->term);
    put_text(&values, lease->holder);
    cm_status_t status = run_fenced(pg, admin_schema, lease, begin_sql, &values, &result, err);
    if (status != CM_OK)
        return status;
    if (cm_pg_i64(result, 0, 2) == 0)
        return cm_error_set(err, CM_PERMANENT, "not-found", "there is no job %s", lease->name);
    if (PQgetisnull(result, 0, 1))
        return cm_error_set(err, CM_PERMANENT, "run-unfinished",
                            "job %s has a run that is to be resumed first", lease->name);
    *ret_begun = cm_pg_i64(result, 0, 0) == 1;
    *ret_run_id = cm_pg_i64(result, 0, 1);
    return CM_OK;
}

cm_status_t cm_job_run_resume(cm_pg_t *pg, const char *admin_schema, const cm_lease_t *lease,
                              int64_t run_id, cm_error_t *err)
{
    values_t values = {0};
    put_run(&values, lease, run_id);
    put_text(&values, lease->holder);
    return run_on(pg, admin_schema, lease, run_id,
                  "UPDATE @schema@.job_runs SET term = $3, holder = $4, attempts = attempts + 1"
                  " WHERE id = $1 AND job = $2 AND state = 'running' RETURNING 1",
                  &values, err);
}

cm_status_t cm_job_run_leave(cm_pg_t *pg, const char *admin_schema, const cm_lease_t *lease,
                             int64_t run_id, cm_error_t *err)
{
    values_t values = {0};
    put_run(&values, lease, run_id);
    return run_on(pg, admin_schema, lease, run_id,
                  "UPDATE @schema@.job_runs SET attempts = greatest(attempts - 1, 0) WHERE " OURS
                  " RETURNING 1",
                  &values, err);
}

cm_status_t cm_job_run_finish(cm_pg_t *pg, const char *admin_schema, const cm_lease_t *lease,
                              int64_t run_id, cm_run_state_t state, const char *summary,
                              const cm_error_t *why, cm_error_t *err)
{
    values_t values = {0};
    assert(state != CM_RUN_RUNNING && state != CM_RUN_PASSED);
    put_run(&values, lease, run_id);
    put_text(&values, cm_run_state_name(state));
    put_text(&values, summary ? summary : "{}");
    put_text(&values, why ? why->code : "");
    put_text(&values, why ? why->message : "");
    return run_on(pg, admin_schema, lease, run_id,
                  "UPDATE @schema@.job_runs SET state = $4, ended_at = " NOW ", summary = $5,"
                  " error_code = $6, error_message = $7 WHERE " OURS " RETURNING 1",
                  &values, err);
}

/* ---- tenants -------------------------------------------------------------------------------- */

const char *cm_run_tenant_name(cm_run_tenant_t state)
{
    static const char *const names[] = {"done", "failed", "skipped"};
    return names[state];
}

cm_status_t cm_job_run_note(cm_pg_t *pg, const char *admin_schema, const cm_lease_t *lease,
                            int64_t run_id, const cm_job_tenant_result_t *result, cm_error_t *err)
{
    values_t values = {0};
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(1024);
    put_run(&values, lease, run_id);
    put_str(&values, result->tenant, "", arena);
    put_text(&values, cm_run_tenant_name(result->state));
    put_str(&values, result->detail, "{}", arena);
    put_str(&values, result->error_code, "", arena);
    put_str(&values, result->error_message, "", arena);
    return run_on(pg, admin_schema, lease, run_id,
                  "WITH run AS (SELECT id FROM @schema@.job_runs WHERE " OURS "),"
                  " kept AS (INSERT INTO @schema@.job_run_tenants AS t"
                  " (run_id, tenant, state, at, detail, error_code, error_message)"
                  " SELECT id, $4, $5, " NOW ", $6::json, $7, $8 FROM run" FOURTH_LIVES
                  " ON CONFLICT (run_id, tenant) DO UPDATE SET attempts = t.attempts + 1,"
                  " state = excluded.state, at = excluded.at, detail = excluded.detail,"
                  " error_code = excluded.error_code, error_message = excluded.error_message)"
                  " SELECT FROM run",
                  &values, err);
}

cm_status_t cm_job_checkpoint_set(cm_pg_t *pg, const char *admin_schema, const cm_lease_t *lease,
                                  const char *tenant, cm_str_t checkpoint, cm_error_t *err)
{
    values_t values = {0};
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(1024);
    put_text(&values, lease->name);
    put_text(&values, tenant);
    if (!checkpoint.ptr)
        return run_fenced(pg, admin_schema, lease,
                          "DELETE FROM @schema@.job_checkpoints WHERE job = $1 AND tenant = $2",
                          &values, NULL, err);
    put_str(&values, checkpoint, "", arena);
    return run_fenced(pg, admin_schema, lease,
                      "INSERT INTO @schema@.job_checkpoints SELECT $1, $2, $3, " NOW SECOND_LIVES
                      " ON CONFLICT (job, tenant) DO UPDATE"
                      " SET checkpoint = excluded.checkpoint, changed_at = excluded.changed_at",
                      &values, NULL, err);
}

/* ---- ticks ---------------------------------------------------------------------------------- */

cm_status_t cm_job_pass(cm_pg_t *pg, const char *admin_schema, const cm_lease_t *lease,
                        int64_t first_tick_ms, int64_t last_tick_ms, int ticks, cm_error_t *err)
{
    static const char sql[] =
        "WITH passed AS (INSERT INTO @schema@.job_runs (job, first_tick, tick, kind, state, ticks,"
        " term, holder, attempts, started_at, ended_at) SELECT $1, " SECOND_MS ", " THIRD_MS
        ", 'missed', 'passed', $4, $5, $6, 0, " NOW ", " NOW " ON CONFLICT (job, tick) DO NOTHING)"
        " UPDATE @schema@.jobs SET last_tick = greatest(last_tick, " THIRD_MS ") WHERE name = $1";
    values_t values = {0};
    put_text(&values, lease->name);
    put_number(&values, first_tick_ms);
    put_number(&values, last_tick_ms);
    put_number(&values, ticks);
    put_number(&values, lease->term);
    put_text(&values, lease->holder);
    return run_fenced(pg, admin_schema, lease, sql, &values, NULL, err);
}

cm_status_t cm_job_count_from(cm_pg_t *pg, const char *admin_schema, const cm_lease_t *lease,
                              int64_t tick_ms, cm_error_t *err)
{
    values_t values = {0};
    put_text(&values, lease->name);
    put_number(&values, tick_ms);
    return run_fenced(pg, admin_schema, lease,
                      "UPDATE @schema@.jobs SET last_tick = " SECOND_MS " WHERE name = $1", &values,
                      NULL, err);
}
