/* tenant_state - what an operator does to a tenant that lives: suspend and resume it, hold it.
 *
 * Each is a transaction under the tenant's lock (tenant_step.h) with an entry in the audit log, and
 * idempotent: UNCHANGED when it is so already, and then nothing is told. CM_MISSING /
 * "tenant-missing" for one that is not in the registry; CM_PERMANENT / "tenant-deleted" for one
 * whose schema is gone or going.
 */
#ifndef CM_SCHEMA_TENANT_STATE_H
#define CM_SCHEMA_TENANT_STATE_H
#include "schema/tenant_schema.h"

/* Active to suspended: its messages wait at the broker. Audit "tenant-suspended". */
cm_status_t cm_tenant_suspend(cm_pg_t *pg, const char *admin_schema, const char *id,
                              cm_audit_trail_t *audit, cm_tenant_change_t *ret_change,
                              cm_error_t *err);
/* Suspended to active. Audit "tenant-resumed". */
cm_status_t cm_tenant_resume(cm_pg_t *pg, const char *admin_schema, const char *id,
                             cm_audit_trail_t *audit, cm_tenant_change_t *ret_change,
                             cm_error_t *err);
/* Put under legal hold: no deletion is carried out until the release, not even one that is under
 * way and has not dropped the schema yet. reason ("" for none) is kept in the registry, not in the
 * log. Audit "legal-hold-placed". */
cm_status_t cm_tenant_hold(cm_pg_t *pg, const char *admin_schema, const char *id,
                           const char *reason, cm_audit_trail_t *audit,
                           cm_tenant_change_t *ret_change, cm_error_t *err);
/* Since when (epoch, 0: it is under none) and why; *ret_reason is yours (free). One query. */
cm_status_t cm_tenant_hold_get(cm_pg_t *pg, const char *admin_schema, const char *id,
                               int64_t *ret_held_ms, char **ret_reason, cm_error_t *err);
/* The fence of a transaction that deletes of a tenant for another reason than its own deletion: it
 * is active and under no hold, and stays so until the transaction ends, since each step waits for
 * the row, which is held FOR KEY SHARE. Must be open (asserted), READ COMMITTED, and have no lock
 * on the tenant's tables yet. CM_MISSING / "tenant-resting": it is not so; roll back, and ask what
 * it is. CM_TRANSIENT / 55P03 when it waits for a step longer than lock_timeout. */
cm_status_t cm_tenant_fence(cm_pg_t *pg, const char *admin_schema, const char *id, cm_error_t *err);
/* Audit "legal-hold-released". *ret_waits (may be NULL): a deletion waited for it. */
cm_status_t cm_tenant_release(cm_pg_t *pg, const char *admin_schema, const char *id,
                              cm_audit_trail_t *audit, cm_tenant_change_t *ret_change,
                              bool *ret_waits, cm_error_t *err);
#endif
