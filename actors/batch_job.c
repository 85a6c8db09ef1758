#include "actors/batch_job.h"
#include "runtime/backoff.h"
#include "runtime/clock.h"

#include <assert.h>
#include <string.h>

enum { NOTE_TRIES = 5, NOTE_AGAIN_MIN_MS = 50, NOTE_AGAIN_MAX_MS = 1000 };

const cm_batch_job_t *cm_batch_job_find(const char *name)
{
    for (size_t i = 0; i < cm_batch_job_count; i++)
        if (strcmp(cm_batch_jobs[i].name, name) == 0)
            return &cm_batch_jobs[i];
    return NULL;
}

const cm_job_schedule_options_t *cm_batch_job_schedule(const cm_batch_job_t *job,
                                                       const cm_options_t *options)
{
    return (const cm_job_schedule_options_t *)(const void *)((const char *)options + job->schedule);
}

bool cm_batch_stopped(const cm_batch_run_t *run)
{
    return run->stopped && run->stopped(run->ctx);
}

void cm_batch_show(cm_batch_run_t *run)
{
    if (run->show)
        run->show(run->ctx, &run->progress);
}

cm_status_t cm_batch_fence(void *run, cm_pg_t *pg, cm_error_t *err)
{
    const cm_batch_run_t *self = run;
    assert(self->lease); /* a dry run has none, and writes nothing */
    return cm_lease_check(pg, self->options->postgres.admin_schema, self->lease, err);
}

static cm_status_t keep_result(cm_batch_run_t *run, const char *tenant, cm_run_tenant_t state,
                               const char *detail, const cm_error_t *failure, cm_error_t *err)
{
    cm_job_tenant_result_t result = {
        .tenant = cm_str(tenant),
        .state = state,
        .detail = cm_str(detail),
        .error_code = cm_str(failure ? failure->code : NULL),
        .error_message = cm_str(failure ? failure->message : NULL),
    };
    return cm_job_run_note(run->pg, run->options->postgres.admin_schema, run->lease, run->run_id,
                           &result, err);
}

static cm_status_t keep_patiently(cm_batch_run_t *run, const char *tenant, cm_run_tenant_t state,
                                  const char *detail, const cm_error_t *failure, cm_error_t *err)
{
    cm_backoff_t backoff;
    PGconn *conn = cm_pg_raw(run->pg);
    int tries = conn && PQtransactionStatus(conn) == PQTRANS_IDLE ? NOTE_TRIES : 1;
    cm_status_t status = keep_result(run, tenant, state, detail, failure, err);
    cm_backoff_init(&backoff, NOTE_AGAIN_MIN_MS, NOTE_AGAIN_MAX_MS, cm_random_u64());
    while (status == CM_TRANSIENT && --tries > 0 && !cm_batch_stopped(run)) {
        cm_batch_show(run);
        zclock_sleep(cm_backoff_next_ms(&backoff));
        status = keep_result(run, tenant, state, detail, failure, err);
    }
    return status;
}

cm_status_t cm_batch_note(cm_batch_run_t *run, const char *tenant, cm_run_tenant_t state,
                          const char *detail, const cm_error_t *failure, cm_error_t *err)
{
    cm_status_t status =
        run->run_id ? keep_patiently(run, tenant, state, detail, failure, err) : CM_OK;
    if (status != CM_OK)
        return status;
    run->progress.done++;
    if (state == CM_RUN_TENANT_FAILED)
        run->progress.failed++;
    cm_batch_show(run);
    return CM_OK;
}
