/* dead_letter_fence - which dead letters may be kept: not those of what was erased. Part of
 * dead_letter_keep, inside its transaction. */
#ifndef CM_SCHEMA_DEAD_LETTER_FENCE_H
#define CM_SCHEMA_DEAD_LETTER_FENCE_H
#include "proto/erasure_hash.h"
#include "proto/letter_ids.h"
#include "proto/tenant_id.h"
#include "schema/dead_letter_store.h"

typedef struct { /* a dead letter on its way into the table */
    const cm_delivery_t *delivery;
    cm_str_t tenant; /* canonical, or "" */
    cm_letter_ids_t ids;
    int64_t at_ms; /* epoch: of the event, else of the failure */
    bool has_device, has_contact;
    cm_erasure_hash_t device, contact;
    size_t index; /* of the delivery */
    cm_letter_result_t result;
} cm_letter_t;

/* Set the result of those that are DROPPED or BUSY; sorts letters by tenant. */
cm_status_t cm_dead_letter_fence(cm_pg_t *pg, const cm_dead_letter_place_t *place,
                                 cm_letter_t *letters, size_t count, cm_error_t *err);
#endif
