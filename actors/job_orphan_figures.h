/* job_orphan_figures - what the orphan deletion tells of a tenant, and of all of them together.
 *
 * A tenant's figures are kept with the run as JSON, so that a run that is resumed can count those
 * it had done. Inside of job_orphan_deletion.
 */
#ifndef CM_ACTORS_JOB_ORPHAN_FIGURES_H
#define CM_ACTORS_JOB_ORPHAN_FIGURES_H
#include "proto/tenant_id.h"
#include "runtime/buffer.h"
#include "schema/orphan_store.h"

typedef enum {
    CM_ORPHAN_DONE,
    CM_ORPHAN_FAILED,
    CM_ORPHAN_GUARDED, /* failed, too */
    CM_ORPHAN_EXCLUDED,
    CM_ORPHAN_HELD, /* under legal hold */
    CM_ORPHAN_GONE, /* no longer active */
    CM_ORPHAN_ENDS
} cm_orphan_end_t;

typedef struct {
    char id[CM_TENANT_ID_MAX];
    cm_orphan_result_t result; /* of all attempts so far */
} cm_orphan_tenant_t;

typedef struct { /* grows; zero-initialise */
    cm_orphan_tenant_t *items;
    size_t count, cap;
} cm_orphan_tenants_t;

void cm_orphan_tenants_add(cm_orphan_tenants_t *self, const cm_orphan_tenant_t *tenant);
void cm_orphan_tenants_destroy(cm_orphan_tenants_t *self); /* safe twice */

typedef struct { /* zero-initialise */
    uint64_t tenants[CM_ORPHAN_ENDS];
    cm_orphan_result_t sum;
    cm_orphan_tenants_t guarded; /* the first 100 */
    int rounds;
} cm_orphan_figures_t;

void cm_orphan_result_add(cm_orphan_result_t *sum, const cm_orphan_result_t *result);
/* Add an attempt to those before, which it counts as gone. */
void cm_orphan_attempt_add(cm_orphan_result_t *all, const cm_orphan_result_t *attempt);
void cm_orphan_figures_add(cm_orphan_figures_t *self, cm_orphan_end_t end,
                           const cm_orphan_tenant_t *tenant);
/* Take one back that is tried again. */
void cm_orphan_figures_take(cm_orphan_figures_t *self, cm_orphan_end_t end,
                            const cm_orphan_tenant_t *tenant);
void cm_orphan_figures_destroy(cm_orphan_figures_t *self);

/* {"end": "done", "devices": 1, ...} */
void cm_orphan_detail_write(cm_buffer_t *out, cm_orphan_end_t end,
                            const cm_orphan_result_t *result);
/* What is missing or no JSON: zeros, and CM_ORPHAN_DONE. */
void cm_orphan_detail_read(cm_str_t detail, cm_orphan_end_t *ret_end,
                           cm_orphan_result_t *ret_result);
void cm_orphan_summary_write(cm_buffer_t *out, const cm_orphan_figures_t *self);
#endif
