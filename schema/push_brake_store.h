/* push_brake_store - the brakes of push verdicts that are on, and the operator's decision on them.
 *
 * A brake is put on by schema/token_status_store and stays on until it is released (what it held is
 * applied by the rule of every day; what is stale by now falls out) or discarded (what it held is
 * forgotten). Both go on in chunks, each with its audit entry in one transaction, and take the
 * brake away in the last one, under a lock that lets no verdict be held beside it: ended in the
 * middle, they are begun again. Rule: reliability, sections 4.1 and 4.5.
 */
#ifndef CM_SCHEMA_PUSH_BRAKE_STORE_H
#define CM_SCHEMA_PUSH_BRAKE_STORE_H
#include "runtime/pg.h"
#include "runtime/str.h"
#include "schema/audit_log.h"

#include <stdbool.h>

typedef struct {
    cm_str_t tenant, application_code, provider; /* provider "": the sender named none */
    int64_t tripped_ms;                          /* epoch */
    int64_t judged, gone;                        /* of the window that tripped it */
    int64_t held;                                /* now, counted in the tenant's schema */
} cm_push_brake_t;                               /* texts are the arena's */

/* The brakes that are on, of one tenant or (NULL) of all, in order of the key. What is held counts
 * as 0 in a schema that is not there. */
cm_status_t cm_push_brake_list(cm_pg_t *pg, const char *admin_schema, const char *tenant,
                               cm_arena_t *arena, cm_push_brake_t **ret_brakes, size_t *ret_count,
                               cm_error_t *err);
/* How many are on in all, and how many verdicts they hold. */
cm_status_t cm_push_brake_totals(cm_pg_t *pg, const char *admin_schema, int64_t *ret_brakes,
                                 int64_t *ret_held, cm_error_t *err);

typedef struct {
    const char *tenant, *application_code, *provider;
    bool applies; /* release, else discard */
} cm_push_brake_decision_t;

typedef struct {
    bool is_over;    /* the brake is off and nothing is held */
    bool was_on;     /* it was on until this step */
    int64_t taken;   /* verdicts out of what was held */
    int64_t applied; /* of these, how many changed a device */
} cm_push_brake_step_t;

/* One chunk of at most chunk verdicts, one transaction; call it until is_over. The brake goes off
 * with the last one, in which others of the tenant wait. A chunk that changes nothing is not
 * audited. CM_MISSING: the tenant's schema or table is not there. CM_TRANSIENT with 55P03: a lock
 * took too long; try again. */
cm_status_t cm_push_brake_decide(cm_pg_t *pg, const char *admin_schema,
                                 const cm_push_brake_decision_t *decision, int64_t chunk,
                                 cm_audit_trail_t *audit, cm_push_brake_step_t *ret_step,
                                 cm_error_t *err);
#endif
