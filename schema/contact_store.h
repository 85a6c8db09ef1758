/* contact_store - deleted contacts: their tombstones, their devices, and what else is kept of them.
 *
 * One transaction for some tenants, in order of id; in each of them, for all its deletions at once:
 * the locks (devices, the tombstones of devices and contacts ACCESS EXCLUSIVE, held verdicts; why,
 * see device_sql.c), the contacts' tombstones, a removal at deleted_at of every device whose
 * contact register holds the contact at or before it, verdicts held for those devices or their
 * tokens, and the dead letters of contact and devices. Then the tenant is noted in erasures_pending
 * until its tables are rewritten (schema/erasure.h). Blocking. Rule: events.md section 4,
 * reliability section 4.4.
 */
#ifndef CM_SCHEMA_CONTACT_STORE_H
#define CM_SCHEMA_CONTACT_STORE_H
#include "proto/tenant_id.h"
#include "runtime/pg.h"

#include <stdbool.h>

typedef enum {
    CM_CONTACT_PENDING,
    CM_CONTACT_APPLIED,   /* its tombstone is new or newer */
    CM_CONTACT_DUPLICATE, /* deleted at this very time before */
    CM_CONTACT_STALE,     /* deleted later than that */
    CM_CONTACT_FAILED     /* see error */
} cm_contact_result_t;

typedef struct {
    int64_t contact_id, deleted_ms; /* epoch */
    cm_contact_result_t result;
    cm_error_t error; /* FAILED: see cm_pg_is_isolable() */
} cm_contact_item_t;

typedef struct {
    char tenant[CM_TENANT_ID_MAX];
    cm_contact_item_t *items; /* sorted by contact id, unique (asserted); caller's memory */
    size_t count;
} cm_contact_tenant_t;

typedef struct { /* what was committed */
    int64_t contacts, devices, verdicts, letters;
    int64_t transactions;
} cm_contact_totals_t;

typedef struct {
    const char *admin_schema, *erasure_key;
} cm_contact_place_t;

/* Delete the contacts of tenants (sorted by id, unique). CM_OK: every item has its result; a fault
 * that is a tenant's own fails its items alone, one that is an item's own that item. What takes
 * longer than statement_timeout is halved, until that has happened four times in a tenant.
 * CM_UNAVAILABLE, CM_MISCONFIGURED: of the connection; do it all again, which is safe. totals is
 * added to. */
cm_status_t cm_contact_store_delete(cm_pg_t *pg, const cm_contact_place_t *place,
                                    cm_contact_tenant_t *tenants, size_t count,
                                    cm_contact_totals_t *totals, cm_error_t *err);
#endif
