/* tenant_schema - the tenant schema manager: create and migrate. The only code that creates one;
 * the only one that drops it is tenant_deletion.
 *
 * Every step is a transaction under the tenant's lock (tenant_step.h). So any number of instances
 * may do it at once, and one killed anywhere leaves either nothing or all of it. DDL races seen as
 * 23505, 42P06, 42P07, 42710 or XX000 are retried in place. In a database that was
 * prepared with roles a schema is made by and for their owner (schema/role.h). Rule: reliability
 * sections 2.6 and 2.7.
 */
#ifndef CM_SCHEMA_TENANT_SCHEMA_H
#define CM_SCHEMA_TENANT_SCHEMA_H
#include "schema/audit_log.h"
#include "schema/tenant_registry.h"

typedef enum {
    CM_TENANT_CHANGED,  /* created, migrated, ... now */
    CM_TENANT_UNCHANGED /* it was so already */
} cm_tenant_change_t;

/* Create and migrate the schema of id, state active. event_ms: time of the activation; a deleted
 * tenant needs one newer than its deletion, then its generation rises; a suspended one needs one
 * newer than its suspension; an older one changes nothing (UNCHANGED). name may be "" (kept); the
 * newest activation names the tenant. A new generation of a deleted tenant begins with a fence: a
 * row of tombstones with empty keys and the time of the deletion. CM_TRANSIENT /
 * "tenant-deleting" for one newer than a deletion that is not verified yet; CM_PERMANENT /
 * "schema-exists" when the schema is there and the registry does not know it. A new generation is
 * told in the audit log, in the same commit, as "tenant-activated"; audit NULL: it is not. */
cm_status_t cm_tenant_schema_activate(cm_pg_t *pg, const char *admin_schema, const char *id,
                                      const char *name, int64_t event_ms, cm_audit_trail_t *audit,
                                      cm_tenant_change_t *ret_change, cm_error_t *err);
/* Bring one active or suspended tenant to the newest version. CM_MISSING when not in the registry.
 */
cm_status_t cm_tenant_schema_migrate(cm_pg_t *pg, const char *admin_schema, const char *id,
                                     cm_tenant_change_t *ret_change, cm_error_t *err);
/* Hand the schema and its tables to <prefix>_owner and give the roles their rights (schema/role.h),
 * whatever the tenant's state; UNCHANGED when there is no schema. */
cm_status_t cm_tenant_schema_adopt(cm_pg_t *pg, const char *admin_schema, const char *prefix,
                                   const char *id, cm_tenant_change_t *ret_change, cm_error_t *err);

typedef struct {
    size_t total, done, changed, failed;
    const char *last_failed; /* tenant id; valid during the call */
    const cm_error_t *last_error;
} cm_migrate_progress_t;

/* Migrate every active and suspended tenant below the newest version, on `connections` connections
 * in threads of their own, going on past failures; resumable, since the registry tells what is
 * left; one query when nothing is. on_progress is called in the caller's thread after each tenant.
 * CM_OK even if tenants failed: look at *ret_progress. When no connection can be had, its status,
 * and what is left is left. pg is the caller's, used for the list. */
cm_status_t
cm_tenant_schema_migrate_all(cm_pg_t *pg, const cm_pg_options_t *options, const char *admin_schema,
                             int connections,
                             void (*on_progress)(void *ctx, const cm_migrate_progress_t *now),
                             void *ctx, cm_migrate_progress_t *ret_progress, cm_error_t *err);
#endif
