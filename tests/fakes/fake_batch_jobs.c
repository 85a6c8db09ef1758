/* Jobs for tests, in place of the real ones: each does the steps that a table names, one fenced
 * transaction each, and leaves a row for each. The tests make the tables:
 *
 *     public.job_plan  (job, tenants, step_ms, hold_ms, fails)
 *     public.job_steps (job, run_id, tenant, holder, term, at)
 *     public.job_refused (job, run_id, holder, term)   written when the fence refused a step
 *
 * step_ms is waited before each transaction, hold_ms inside, behind the fence and before the
 * commit. fails: what to do at the last tenant, '' for nothing. */
#include "actors/batch_job.h"
#include "runtime/cleanup.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

typedef struct {
    int64_t tenants, step_ms, hold_ms;
    char fails[32];
} plan_t;

static cm_status_t read_plan(cm_batch_run_t *run, const char *job, plan_t *plan, cm_error_t *err)
{
    const char *values[] = {job};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_status_t status = cm_pg_query(
        run->pg, "SELECT tenants, step_ms, hold_ms, fails FROM public.job_plan WHERE job = $1", 1,
        values, &result, err);
    if (status != CM_OK)
        return status;
    if (PQntuples(result) == 0)
        return cm_error_set(err, CM_PERMANENT, "no-plan", "there is no plan for job %s", job);
    plan->tenants = cm_pg_i64(result, 0, 0);
    plan->step_ms = cm_pg_i64(result, 0, 1);
    plan->hold_ms = cm_pg_i64(result, 0, 2);
    snprintf(plan->fails, sizeof plan->fails, "%s", cm_pg_text(result, 0, 3));
    return CM_OK;
}

/* Has an earlier attempt of this run done it? */
static cm_status_t is_done(cm_batch_run_t *run, const char *job, const char *tenant, bool *ret_done,
                           cm_error_t *err)
{
    char id[24];
    const char *values[] = {job, id, tenant};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    snprintf(id, sizeof id, "%" PRId64, run->run_id);
    cm_status_t status = cm_pg_query(
        run->pg, "SELECT 1 FROM public.job_steps WHERE job = $1 AND run_id = $2 AND tenant = $3", 3,
        values, &result, err);
    *ret_done = status == CM_OK && PQntuples(result) > 0;
    return status;
}

static cm_status_t pause_for(cm_batch_run_t *run, int64_t ms, cm_error_t *err)
{
    char sql[48];
    snprintf(sql, sizeof sql, "SELECT pg_sleep(%" PRId64 " / 1000.0)", ms);
    return ms ? cm_pg_exec(run->pg, sql, err) : CM_OK;
}

static void tell_refused(cm_batch_run_t *run, const char *const *values)
{
    cm_pg_query(run->pg,
                "INSERT INTO public.job_refused (job, run_id, holder, term)"
                " SELECT $1, $2::bigint, $4, $5::bigint WHERE $3::text IS NOT NULL",
                5, values, NULL, NULL);
}

static cm_status_t write_step(cm_batch_run_t *run, const char *job, const char *tenant,
                              const plan_t *plan, cm_error_t *err)
{
    char id[24], term[24];
    const char *values[] = {job, id, tenant, run->lease->holder, term};
    snprintf(id, sizeof id, "%" PRId64, run->run_id);
    snprintf(term, sizeof term, "%" PRId64, run->lease->term);
    cm_status_t status = pause_for(run, plan->step_ms, err);
    if (status == CM_OK)
        status = cm_pg_begin(run->pg, err);
    if (status == CM_OK)
        status = cm_batch_fence(run, run->pg, err);
    if (status == CM_OK)
        status = cm_pg_query(run->pg,
                             "INSERT INTO public.job_steps (job, run_id, tenant, holder, term, at)"
                             " VALUES ($1, $2, $3, $4, $5, clock_timestamp())",
                             5, values, NULL, err);
    if (status == CM_OK)
        status = pause_for(run, plan->hold_ms, err);
    if (status == CM_OK)
        status = cm_batch_note(run, tenant, CM_RUN_TENANT_DONE, NULL, NULL, err);
    if (status == CM_OK)
        return cm_pg_commit(run->pg, err);
    cm_pg_rollback(run->pg);
    if (strcmp(err->code, "lease-lost") == 0)
        tell_refused(run, values);
    return status;
}

static cm_status_t fail(cm_batch_run_t *run, const char *tenant, const char *how, cm_error_t *err)
{
    static const struct {
        const char *how;
        cm_status_t status;
    } ways[] = {{"transient", CM_TRANSIENT},
                {"unavailable", CM_UNAVAILABLE},
                {"permanent", CM_PERMANENT},
                {"misconfigured", CM_MISCONFIGURED}};
    for (size_t i = 0; i < CM_LENGTH(ways); i++)
        if (strcmp(how, ways[i].how) == 0)
            return cm_error_set(err, ways[i].status, "planned", "it was planned to fail");
    cm_error_t why = {0};
    cm_error_set(&why, CM_PERMANENT, "planned", "it was planned to fail");
    return cm_batch_note(run, tenant, CM_RUN_TENANT_FAILED, NULL, &why, err); /* "tenant" */
}

static cm_status_t do_tenant(cm_batch_run_t *run, const char *job, const plan_t *plan, int64_t i,
                             cm_error_t *err)
{
    char tenant[24];
    bool done = false;
    snprintf(tenant, sizeof tenant, "%" PRId64, i);
    if (run->tenant && strcmp(run->tenant, tenant) != 0)
        return CM_OK;
    cm_status_t status = run->dry_run ? CM_OK : is_done(run, job, tenant, &done, err);
    if (status == CM_OK && i == plan->tenants && *plan->fails)
        return fail(run, tenant, plan->fails, err);
    if (status == CM_OK && (done || run->dry_run))
        status = cm_batch_note(run, tenant, CM_RUN_TENANT_DONE, NULL, NULL, err);
    else if (status == CM_OK)
        status = write_step(run, job, tenant, plan, err);
    run->progress.rows += status == CM_OK && !done;
    cm_batch_show(run);
    return status;
}

static cm_status_t work(cm_batch_run_t *run, cm_error_t *err)
{
    const char *job = strchr(run->name, '/') + 1;
    plan_t plan = {0};
    cm_status_t status = read_plan(run, job, &plan, err);
    run->progress.total = run->tenant ? 1 : (uint64_t)plan.tenants;
    for (int64_t i = 1; status == CM_OK && i <= plan.tenants; i++)
        status = cm_batch_stopped(run) ? cm_error_set(err, CM_CANCELLED, "stopped", "stopped")
                                       : do_tenant(run, job, &plan, i, err);
    cm_buffer_printf(run->summary, "{\"steps\": %" PRIu64 "}", run->progress.rows);
    return status;
}

#define ROW(name, section)                                                                         \
    {                                                                                              \
        name, "steps of a test", "steps", #section, offsetof(cm_options_t, section.schedule),      \
            CM_ROLE_DASH, true, work                                                               \
    }

const cm_batch_job_t cm_batch_jobs[] = {
    ROW("contact-deletion", contact_job),
    ROW("orphan-deletion", orphan_job),
    ROW("dashboard", dashboard_job),
};
const size_t cm_batch_job_count = CM_LENGTH(cm_batch_jobs);
