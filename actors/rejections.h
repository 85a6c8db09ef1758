/* rejections - deliveries of one batch that are to become dead letters, none of a deleted tenant.
 *
 * Added while the batch is handled, settled at its end: the registry is asked anew, whatever was
 * believed before, in one query; what is of a tenant that is deleted, or being so, is DROPPED,
 * since a dead letter would keep data of an erased customer. Rule: events.md section 6. For
 * handlers of actors/subworker.h; device_actor has the same rule in its job.
 */
#ifndef CM_ACTORS_REJECTIONS_H
#define CM_ACTORS_REJECTIONS_H
#include "actors/subworker.h"

typedef struct { /* of the caller are the first four; the rest is zero at first */
    const cm_subworker_args_t *args;
    const cm_delivery_batch_t *batch;
    cm_outcome_t *outcomes; /* of batch */
    cm_arena_t *arena;
    size_t *indexes;
    char (*tenants)[CM_TENANT_ID_MAX]; /* "" when nobody can tell whose it is */
    size_t count, known;
} cm_rejections_t;

/* Reject delivery index for err, at most once each. tenant: canonical; "" when its body did not
 * tell, then its attribute may. */
void cm_rejections_add(cm_rejections_t *self, size_t index, const char *tenant,
                       const cm_error_t *err);
/* CM_OK, or as of cm_tenant_directory_states() when the registry cannot be asked. */
cm_status_t cm_rejections_settle(cm_rejections_t *self, cm_pg_t *pg, cm_error_t *err);
#endif
