/* job_keeper - hold a job's lease while its run works, and hear when someone cancels the run.
 *
 * A thread and a connection of its own, so that a job may block as long as it likes. It renews
 * every third of the duration and looks every second or two whether the run is to be cancelled. A
 * lease counts as lost when the server says so, and when it could not be renewed for its whole
 * duration by our own clock, counted from before the last renewal was asked for. Then the job is to
 * stop; what it still writes the fence refuses (schema/lease.h).
 * Rule: DESIGN section 9.
 */
#ifndef CM_ACTORS_JOB_KEEPER_H
#define CM_ACTORS_JOB_KEEPER_H
#include "actors/options.h"
#include "schema/lease.h"

typedef struct { /* borrowed texts outlive the keeper */
    const cm_options_t *options;
    const char *name; /* "client-manager job/dashboard keeper": of the connection */
    cm_role_t role;
    cm_lease_t lease; /* copied */
    int64_t duration_ms;
    int64_t run_id;   /* 0: there is no run to cancel */
    int64_t asked_ms; /* monotonic, from before the lease was acquired or last renewed */
} cm_job_keeper_args_t;

typedef struct cm_job_keeper cm_job_keeper_t;

/* Returns when it is connected and has renewed once. CM_PERMANENT / "lease-lost"; CM_UNAVAILABLE,
 * CM_MISCONFIGURED: no connection. */
cm_status_t cm_job_keeper_start(cm_job_keeper_t **ret_keeper, const cm_job_keeper_args_t *args,
                                cm_error_t *err);
/* From the thread of the job; both stay true. */
bool cm_job_keeper_lost(const cm_job_keeper_t *self);
bool cm_job_keeper_cancelled(const cm_job_keeper_t *self);
/* It renews no more; the lease stays as it is. Accepts NULL. */
void cm_job_keeper_stop(cm_job_keeper_t **self_p);
#endif
