/* job_checkpoint - the checkpoints of a job with all its tenants at once.
 *
 * What cm_job_checkpoint_get() and cm_job_checkpoint_set() do for one tenant, in one statement for
 * any number. Rule: schema/job_store.h.
 */
#ifndef CM_SCHEMA_JOB_CHECKPOINT_H
#define CM_SCHEMA_JOB_CHECKPOINT_H
#include "runtime/str.h"
#include "schema/job_store.h"

typedef struct {
    cm_str_t tenant; /* "": of the job as a whole */
    cm_str_t checkpoint;
} cm_job_checkpoint_t;

/* All of them, in no order; memory is arena's. */
cm_status_t cm_job_checkpoints_load(cm_pg_t *pg, const char *admin_schema, const char *job,
                                    cm_arena_t *arena, cm_job_checkpoint_t **ret_checkpoints,
                                    size_t *ret_count, cm_error_t *err);
/* Set those of lease->name, each tenant once, but for deleted ones; fenced. The errors of
 * cm_job_checkpoint_set(), and as there a transaction of the caller's is that of
 * cm_job_write_begin(). */
cm_status_t cm_job_checkpoints_save(cm_pg_t *pg, const char *admin_schema, const cm_lease_t *lease,
                                    const cm_job_checkpoint_t *checkpoints, size_t count,
                                    cm_error_t *err);
#endif
