/* batch_job - a scheduled job over all tenants: how one is written, and what it may ask.
 *
 * A job is a row in batch_jobs.c and one function. It is called with the job's lease held and its
 * run begun or resumed (schema/job_store.h), on a thread of its own, and works until all tenants
 * are dealt with; it may block. What goes wrong with one tenant is noted and holds up no other. It
 * must stand being killed anywhere and called again: what is done stays done, what is not is found
 * by a checkpoint, or by looking.
 *
 * Who calls it is the scheduler (actors/scheduler.h) or `client-manager job run`: both through
 * actors/batch_runner.h, so that lease, history, cancelling and the summary are the same.
 * Rule: DESIGN section 9.
 */
#ifndef CM_ACTORS_BATCH_JOB_H
#define CM_ACTORS_BATCH_JOB_H
#include "actors/options.h"
#include "runtime/buffer.h"
#include "schema/job_store.h"

typedef struct {
    uint64_t done, total; /* tenants; total 0 = not known yet */
    uint64_t failed;      /* of those done */
    uint64_t rows;        /* what the job counts: contacts published, devices deleted, measured */
} cm_batch_progress_t;

typedef struct cm_batch_run { /* borrowed for the call */
    const cm_options_t *options;
    const char
        *name;   /* "job/orphan-deletion": for logs and further connections, borrowed for life */
    cm_pg_t *pg; /* connected, as the job's role; no transaction open. The job's to use */
    const cm_lease_t *lease; /* NULL: a dry run, which takes none */
    int64_t run_id;     /* 0: a dry run, or one of a single tenant by hand, which are no part of the
                           history: cm_batch_note() keeps nothing then */
    bool resumed;       /* begun before, and left in the middle */
    bool dry_run;       /* tell what would be done, change nothing */
    const char *tenant; /* only this one, canonical; NULL = all */
    cm_batch_progress_t progress;
    cm_buffer_t *summary; /* for one JSON object, CM_JOB_SUMMARY_MAX bytes at most; free of personal
                             data. Empty: {} */
    /* Of the caller's; use the functions below. */
    bool (*stopped)(void *ctx);
    void (*show)(void *ctx, const cm_batch_progress_t *progress);
    void *ctx;
} cm_batch_run_t;

/* Is it to stop: the lease is lost, someone has cancelled the run, or the process ends? Ask between
 * steps, which take seconds at the most; then return CM_CANCELLED. */
bool cm_batch_stopped(const cm_batch_run_t *run);
/* The progress has changed: draw or report it, and tell that the job lives. Cheap; call it often.
 */
void cm_batch_show(cm_batch_run_t *run);
/* First in every transaction that writes for this run: cm_lease_check(). run: cm_batch_run_t *, as
 * the fence of a store wants it. */
cm_status_t cm_batch_fence(void *run, cm_pg_t *pg, cm_error_t *err);
/* Keep a tenant's result with the run (schema/job_store.h): failure NULL = done. detail: JSON or
 * NULL. Counts it in progress.done and .failed; not skipped ones as failed. Before a tenant that
 * was noted is tried again, take it out of both. In a transaction of the caller's it is kept with
 * that one; in one of its own it is tried a few times, since whoever deletes a tenant holds the
 * table for a moment. */
cm_status_t cm_batch_note(cm_batch_run_t *run, const char *tenant, cm_run_tenant_t state,
                          const char *detail, const cm_error_t *failure, cm_error_t *err);

/* The body. CM_OK: every tenant is dealt with, those that failed are noted and counted.
 * CM_CANCELLED: it was asked to stop. CM_UNAVAILABLE, CM_TRANSIENT: it could not go on; the run
 * stays unfinished and is resumed later. Anything else: the run has failed, err tells why. */
typedef cm_status_t(cm_batch_fn)(cm_batch_run_t *run, cm_error_t *err);

typedef struct {
    const char *name;    /* of job, lease and command: "orphan-deletion" */
    const char *what;    /* for help: one line */
    const char *rows;    /* what progress.rows counts: "devices deleted" */
    const char *section; /* of the configuration: "orphan_job" */
    size_t schedule;     /* offset of its cm_job_schedule_options_t in cm_options_t */
    cm_role_t role;      /* of run->pg, while postgres.roles is on */
    bool has_dry_run;
    cm_batch_fn *body;
} cm_batch_job_t;

extern const cm_batch_job_t cm_batch_jobs[];
extern const size_t cm_batch_job_count;
const cm_batch_job_t *cm_batch_job_find(const char *name); /* NULL: there is none */
const cm_job_schedule_options_t *cm_batch_job_schedule(const cm_batch_job_t *job,
                                                       const cm_options_t *options);
#endif
