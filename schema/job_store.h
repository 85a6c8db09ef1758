/* job_store - what is known of batch jobs: their runs, how far each came, what people ask of them.
 *
 * A job is known by its name, which is that of its lease, too. A tick (a time of its schedule, or
 * that of a request) has one row, so that it is run once, whoever runs it; a run that its holder
 * left unfinished is resumed by the next holder under the same row. Times are the database's.
 *
 * What a run writes is fenced: each such function takes the lease, runs in the caller's transaction
 * if one is open, else in one of its own, and begins with cm_lease_check(), whose errors it returns
 * ("lease-lost"). So a checkpoint can be committed with what it tells of. After an error in the
 * caller's transaction roll back. Texts must be free of personal data; JSON is an object.
 *
 * What people ask (pause, run now, cancel) needs no lease. Rule: DESIGN section 9.
 */
#ifndef CM_SCHEMA_JOB_STORE_H
#define CM_SCHEMA_JOB_STORE_H
#include "proto/schedule.h"
#include "schema/lease.h"

enum {
    CM_JOB_BY_MAX = 128,            /* who asks: "operator:1000" */
    CM_JOB_CHECKPOINT_MAX = 4096,   /* bytes, without NUL */
    CM_JOB_SUMMARY_MAX = 64 * 1024, /* bytes of JSON */
    CM_JOB_DETAIL_MAX = 4096,
};

/* ---- jobs ----------------------------------------------------------------------------------- */

typedef struct {
    char name[CM_LEASE_NAME_MAX];
    cm_schedule_state_t schedule; /* for cm_schedule_decide() */
    int64_t unfinished_id;        /* of the run left in the middle, or under way; 0 = none */
    int64_t last_done_ms;         /* when a run last ended with every tenant done; 0 = never */
    int64_t last_took_ms;         /* how long the last run took that ended; 0 = none has */
    char paused_by[CM_JOB_BY_MAX], requested_by[CM_JOB_BY_MAX];
} cm_job_t;

/* Make a job known, if it is not. */
cm_status_t cm_job_register(cm_pg_t *pg, const char *admin_schema, const char *job,
                            cm_error_t *err);
/* The same for who runs it by a schedule ("": by none). When it had none before, ticks count from
 * now on: what the schedule would have asked for while nobody knew it is not missed. */
cm_status_t cm_job_register_schedule(cm_pg_t *pg, const char *admin_schema, const char *job,
                                     const char *schedule, cm_error_t *err);
/* CM_PERMANENT / "not-found": it was never registered; so for all below. */
cm_status_t cm_job_load(cm_pg_t *pg, const char *admin_schema, const char *job, cm_job_t *ret_job,
                        cm_error_t *err);

/* Begin nothing but what is asked for. Who paused it first is kept. */
cm_status_t cm_job_pause(cm_pg_t *pg, const char *admin_schema, const char *job, const char *by,
                         cm_error_t *err);
/* End a pause, if there is one: ticks count from now on, those of the pause are not missed. */
cm_status_t cm_job_unpause(cm_pg_t *pg, const char *admin_schema, const char *job, cm_error_t *err);
/* Ask for a run now; one that is asked for and not yet begun serves this request, too. */
cm_status_t cm_job_request(cm_pg_t *pg, const char *admin_schema, const char *job, const char *by,
                           int64_t *ret_requested_ms, cm_error_t *err);
/* Ask a run to stop at its next step. CM_PERMANENT: "not-found", or "not-running": it has ended. */
cm_status_t cm_job_cancel(cm_pg_t *pg, const char *admin_schema, int64_t run_id, const char *by,
                          cm_error_t *err);

/* ---- runs, fenced --------------------------------------------------------------------------- */

typedef enum {
    CM_RUN_RUNNING,
    CM_RUN_DONE,    /* every tenant */
    CM_RUN_PARTIAL, /* some tenants failed */
    CM_RUN_FAILED,
    CM_RUN_CANCELLED,
    CM_RUN_PASSED, /* ticks that were let pass */
    CM_RUN_STATES
} cm_run_state_t;
const char *cm_run_state_name(cm_run_state_t state); /* "running", "done", ... */

/* Begin a transaction for what is kept of tenants with the functions below: READ COMMITTED,
 * whatever the server's default is, so that a tenant that was deleted meanwhile is seen to be. */
cm_status_t cm_job_write_begin(cm_pg_t *pg, cm_error_t *err);

/* Begin the run of a tick of lease->name. A request of that time is taken by it; any other tick
 * moves the job's last tick. *ret_begun false: this tick has a run (or passed), *ret_run_id; there
 * is nothing to do. CM_PERMANENT: "not-found", "run-unfinished": another run is to be resumed
 * first. */
cm_status_t cm_job_run_begin(cm_pg_t *pg, const char *admin_schema, const cm_lease_t *lease,
                             cm_run_kind_t kind, int64_t tick_ms, bool *ret_begun,
                             int64_t *ret_run_id, cm_error_t *err);
/* Go on with an unfinished run, one attempt more. "not-running": it has ended, or is no run of this
 * job; so for the next three, which want to be under the term that began or resumed it. */
cm_status_t cm_job_run_resume(cm_pg_t *pg, const char *admin_schema, const cm_lease_t *lease,
                              int64_t run_id, cm_error_t *err);

/* Leave it unfinished in good order: the attempt under way does not count. Once a begin or resume.
 */
cm_status_t cm_job_run_leave(cm_pg_t *pg, const char *admin_schema, const cm_lease_t *lease,
                             int64_t run_id, cm_error_t *err);

typedef enum { CM_RUN_TENANT_DONE, CM_RUN_TENANT_FAILED, CM_RUN_TENANT_SKIPPED } cm_run_tenant_t;
const char *cm_run_tenant_name(cm_run_tenant_t state); /* "done", "failed", "skipped" */

typedef struct { /* to write: texts may be absent; to read: they are the arena's */
    cm_str_t tenant;
    cm_run_tenant_t state;
    cm_str_t detail; /* JSON; absent: {} */
    cm_str_t error_code, error_message;
    int attempts;  /* read only: how often a result was written */
    int64_t at_ms; /* read only */
} cm_job_tenant_result_t;

/* Write a tenant's result; a later one replaces it. Nothing of a deleted tenant is written, here
 * and below; CM_OK. In a transaction of the caller's: that of cm_job_write_begin(). CM_PERMANENT
 * 22P02: detail is no JSON, 23514: it is too long. */
cm_status_t cm_job_run_note(cm_pg_t *pg, const char *admin_schema, const cm_lease_t *lease,
                            int64_t run_id, const cm_job_tenant_result_t *result, cm_error_t *err);
/* End a run as state, which is neither running nor passed (asserted). summary: JSON, NULL: {};
 * errors as above. why: code and message of a failure, NULL: none. */
cm_status_t cm_job_run_finish(cm_pg_t *pg, const char *admin_schema, const cm_lease_t *lease,
                              int64_t run_id, cm_run_state_t state, const char *summary,
                              const cm_error_t *why, cm_error_t *err);
/* Let ticks pass: one row tells of all of them, unless the last of them has one already. */
cm_status_t cm_job_pass(cm_pg_t *pg, const char *admin_schema, const cm_lease_t *lease,
                        int64_t first_tick_ms, int64_t last_tick_ms, int ticks, cm_error_t *err);
/* Set the job's last tick, back as well: CM_SCHEDULE_RESET. */
cm_status_t cm_job_count_from(cm_pg_t *pg, const char *admin_schema, const cm_lease_t *lease,
                              int64_t tick_ms, cm_error_t *err);

/* How far the job came with a tenant ("": as a whole), in its own words; it outlives the run.
 * CM_PERMANENT 23514: longer than CM_JOB_CHECKPOINT_MAX. checkpoint absent: forget it. */
cm_status_t cm_job_checkpoint_set(cm_pg_t *pg, const char *admin_schema, const cm_lease_t *lease,
                                  const char *tenant, cm_str_t checkpoint, cm_error_t *err);
/* Absent when there is none; memory is arena's. */
cm_status_t cm_job_checkpoint_get(cm_pg_t *pg, const char *admin_schema, const char *job,
                                  const char *tenant, cm_arena_t *arena, cm_str_t *ret_checkpoint,
                                  cm_error_t *err);

/* ---- history -------------------------------------------------------------------------------- */

typedef struct {
    int64_t id, tick_ms, first_tick_ms; /* first_tick_ms: of ticks that passed, else tick_ms */
    int64_t ticks;                      /* that passed, else 1 */
    cm_run_kind_t kind;
    cm_run_state_t state;
    int64_t term;
    int attempts;
    int64_t started_ms, ended_ms, cancel_requested_ms; /* 0 = not */
    cm_str_t job, holder, requested_by, summary, error_code, error_message;
} cm_job_run_t;

/* Has someone asked this run to stop? "not-found". */
cm_status_t cm_job_run_cancelled(cm_pg_t *pg, const char *admin_schema, int64_t run_id,
                                 bool *ret_cancelled, cm_error_t *err);
/* Runs of a job (NULL: of all), the newest first, below before_id (0: from the newest); up to
 * limit. Memory is arena's. */
cm_status_t cm_job_history(cm_pg_t *pg, const char *admin_schema, const char *job,
                           int64_t before_id, size_t limit, cm_arena_t *arena,
                           cm_job_run_t **ret_runs, size_t *ret_count, cm_error_t *err);
cm_status_t cm_job_run_find(cm_pg_t *pg, const char *admin_schema, int64_t run_id,
                            cm_arena_t *arena, cm_job_run_t *ret_run, cm_error_t *err);
typedef struct {
    int64_t done, failed, skipped;
} cm_job_tenant_counts_t;
cm_status_t cm_job_run_count(cm_pg_t *pg, const char *admin_schema, int64_t run_id,
                             cm_job_tenant_counts_t *ret_counts, cm_error_t *err);
/* Results of a run in order of tenant, after a tenant ("": from the first); up to limit. */
cm_status_t cm_job_run_tenants(cm_pg_t *pg, const char *admin_schema, int64_t run_id,
                               const char *after, size_t limit, cm_arena_t *arena,
                               cm_job_tenant_result_t **ret_results, size_t *ret_count,
                               cm_error_t *err);
/* Forget up to limit runs that ended age_days (at least 1, asserted) ago or earlier, with their
 * results; the newest of each job stays. Call again while *ret_deleted is limit. */
cm_status_t cm_job_prune(cm_pg_t *pg, const char *admin_schema, int age_days, int limit,
                         int64_t *ret_deleted, cm_error_t *err);
#endif
