/* push_token_job - one batch of push verdicts, decoded, judged and grouped; no I/O.
 *
 * Deliveries are grouped by tenant, inside it those that say gone or valid by application and
 * provider: that is what a brake is for. All memory is the batch's arena.
 */
#ifndef CM_ACTORS_PUSH_TOKEN_JOB_H
#define CM_ACTORS_PUSH_TOKEN_JOB_H
#include "proto/delivery.h"
#include "proto/token_status_event.h"
#include "schema/token_status_store.h"

typedef struct {
    size_t index;                  /* of the delivery */
    cm_status_t status;            /* of decoding */
    cm_error_t *failure;           /* when it failed */
    cm_token_status_event_t event; /* its tenant is set on failure, too, when it could be read */
    cm_push_judgement_t judgement;
    bool changes_token;                /* it says gone or valid */
    unsigned provider;                 /* cm_push_provider_t, or CM_PUSH_NO_PROVIDER */
    const cm_token_verdict_t *verdict; /* changes_token: as the store sees it */
} cm_push_entry_t;

typedef struct { /* verdicts of one application and provider */
    cm_token_verdict_t *verdicts;
    size_t count;
    const cm_token_trip_t *trip; /* NULL: its brake does not go on now */
} cm_push_group_t;

typedef struct {
    char id[CM_TENANT_ID_MAX];
    cm_push_entry_t **entries; /* with those that cannot be decoded */
    size_t count;
    cm_token_verdict_t *verdicts;
    size_t verdict_count;
    cm_push_group_t *groups; /* parts of verdicts */
    size_t group_count;
    bool settled;               /* all of it is decided */
    cm_token_tenant_t *written; /* NULL: nothing of it was to be written */
} cm_push_tenant_t;

typedef struct {
    cm_push_entry_t *entries; /* in the order of the batch */
    cm_push_entry_t **order;  /* by tenant; those without tenant come first */
    size_t count, without_tenant;
    cm_push_tenant_t *tenants; /* sorted by id */
    size_t tenant_count;
} cm_push_job_t;

void cm_push_job_load(cm_push_job_t *self, const cm_delivery_batch_t *batch, int64_t now_ms,
                      cm_arena_t *arena);
#endif
