/* tenant_registry - the table of tenants in the admin schema: reading it.
 *
 * States: absent -> activating -> active -> suspended -> deleting -> deleted. The registry, never
 * an SQLSTATE, says what a missing schema means. Writing is cm_tenant_schema's. Rule: DESIGN
 * section 8.
 */
#ifndef CM_SCHEMA_TENANT_REGISTRY_H
#define CM_SCHEMA_TENANT_REGISTRY_H
#include "proto/tenant_id.h"
#include "runtime/pg.h"

#include <stdbool.h>

typedef enum {
    CM_TENANT_ABSENT,
    CM_TENANT_ACTIVATING,
    CM_TENANT_ACTIVE,
    CM_TENANT_SUSPENDED,
    CM_TENANT_DELETING,
    CM_TENANT_DELETED,
    CM_TENANT_UNREADY /* in no form that this program can write: see cm_tenant_registry_states() */
} cm_tenant_state_t;
const char *cm_tenant_state_name(cm_tenant_state_t state);

typedef struct {
    char id[CM_TENANT_ID_MAX];
    char name[257]; /* may be "" */
    char schema[CM_TENANT_SCHEMA_MAX];
    cm_tenant_state_t state;
    int64_t generation;               /* rises with each activation after a deletion */
    int schema_version;               /* of tenant migrations */
    int64_t activated_ms, changed_ms; /* epoch; 0 = never */
} cm_tenant_t;

/* The oldest version of a tenant's schema that the statements of this folder work on. */
enum { CM_TENANT_SCHEMA_NEEDED = 2 };

/* States of ids[0..count): writes ret_states[i], CM_TENANT_ABSENT for one not in the table, UNREADY
 * for an active one whose schema is older than needed, or in a state that only a newer program
 * knows: what comes for it waits. One query. */
cm_status_t cm_tenant_registry_states(cm_pg_t *pg, const char *admin_schema,
                                      const char (*ids)[CM_TENANT_ID_MAX], size_t count,
                                      cm_tenant_state_t *ret_states, cm_error_t *err);
/* Tenants in order of id; only those in `state` when with_state. after: start behind this id, ""
 * from the beginning; at most limit. *ret_tenants is yours (free). */
cm_status_t cm_tenant_registry_list(cm_pg_t *pg, const char *admin_schema, bool with_state,
                                    cm_tenant_state_t state, const char *after, size_t limit,
                                    cm_tenant_t **ret_tenants, size_t *ret_count, cm_error_t *err);
typedef struct {
    cm_tenant_state_t state;
    int schema_version;
    int64_t tenants;
} cm_tenant_count_t;

/* Number of tenants by state and schema version, in that order; *ret_counts is yours (free). */
cm_status_t cm_tenant_registry_counts(cm_pg_t *pg, const char *admin_schema,
                                      cm_tenant_count_t **ret_counts, size_t *ret_count,
                                      cm_error_t *err);
/* One tenant; CM_MISSING when it is not in the table. */
cm_status_t cm_tenant_registry_get(cm_pg_t *pg, const char *admin_schema, const char *id,
                                   cm_tenant_t *ret_tenant, cm_error_t *err);
#endif
