/* tenant_step - the frame of every step in a tenant's life. Private to the tenant schema manager.
 *
 * BEGIN; pg_advisory_xact_lock(hash of the id); the registry row FOR UPDATE; the body, which checks
 * state, generation and deletion, does its work and updates the row; audit; COMMIT. Whoever waits
 * for a table stops everybody behind him, so locks are waited for 2 s at a time, and the whole step
 * is tried eight times on races and locks. Rule: reliability section 2.6.
 */
#ifndef CM_SCHEMA_TENANT_STEP_H
#define CM_SCHEMA_TENANT_STEP_H
#include "schema/audit_log.h"
#include "schema/tenant_registry.h"

#include <stdbool.h>

typedef struct cm_tenant_step cm_tenant_step_t;

/* Anything but CM_OK rolls back. May be called again with everything it set reset by itself. */
typedef cm_status_t(cm_tenant_step_fn)(cm_tenant_step_t *step, cm_error_t *err);

struct cm_tenant_step {
    cm_pg_t *pg;
    const char *admin_schema, *id;
    int64_t event_ms;
    cm_audit_trail_t *audit; /* NULL: none */
    void *ctx;               /* of the body */
    /* what is found under the locks */
    char schema[CM_TENANT_SCHEMA_MAX];
    bool schema_is_there;
    cm_tenant_t row;    /* state CM_TENANT_ABSENT when there is none */
    int64_t deleted_ms; /* INT64_MIN: never */
    bool held;          /* under legal hold */
    bool unfinished;    /* a deletion of this generation is not verified yet */
};

/* CM_TRANSIENT / 55P03 when a lock is not had in all the tries, some 20 s. */
cm_status_t cm_tenant_step_run(cm_tenant_step_t *step, cm_tenant_step_fn *body, cm_error_t *err);
/* Append to the audit log; the last statement of a body: others wait for the log until the commit.
 * detail: JSON object. Nothing without audit. */
cm_status_t cm_tenant_step_tell(const cm_tenant_step_t *step, const char *action,
                                int64_t generation, const char *detail, cm_error_t *err);
#endif
