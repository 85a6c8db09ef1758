/* tenant_deletion - deletes a tenant for good. The only code that drops a schema.
 *
 * Steps, each a transaction under the tenant's lock (tenant_step.h):
 *
 *   request  state deleting with the tombstone's time, a row of tenant_deletions;
 *            audit "deletion-requested"
 *   drop     the tables locked in the order in which writers lock them, counted exactly, DROP
 *            SCHEMA, state deleted; audit "deletion-dropped" with the counts
 *   purge    what the admin tables hold of it: dead letters, 10,000 at a time, brakes of push
 *            verdicts, figures of the dashboard, results and checkpoints of jobs, rules of the
 *            orphan deletion (tenant_purge.h)
 *   verify   catalogs, registry and side tables are searched; audit "deletion-verified", or
 *            "deletion-verification-failed" with what was found and where
 *
 * Killed anywhere, whoever comes next goes on, and the log has each entry once. A failed
 * verification is tried again and told again only when it finds something else.
 *
 * A tenant that is not known gets its tombstone and "nothing-to-delete" in place of the first two
 * entries. Under legal hold a deletion is recorded, told once as "deletion-blocked-by-hold", and
 * carried out after the release. A deletion at or before the tombstone of an earlier generation was
 * carried out already. One that never was, is, even when a later activation came first: that one
 * then begins a new generation, in the commit of the verification ("tenant-activated").
 *
 * What people wrote (requested_by, reason) stands in tenant_deletions and not in the log: even a
 * hash of it could be found by trying. Rule: reliability sections 4.2, 4.3.
 */
#ifndef CM_SCHEMA_TENANT_DELETION_H
#define CM_SCHEMA_TENANT_DELETION_H
#include "schema/audit_log.h"
#include "schema/tenant_registry.h"

typedef enum {
    CM_DELETION_NONE,      /* nothing is left to do, nothing was done */
    CM_DELETION_REQUESTED, /* recorded, the tenant is deleting */
    CM_DELETION_BLOCKED,   /* recorded, rests until the legal hold is released */
    CM_DELETION_NOTHING,   /* the tenant was not known: tombstone */
    CM_DELETION_DROPPED,
    CM_DELETION_PURGED, /* or a part of it */
    CM_DELETION_VERIFIED,
    CM_DELETION_UNVERIFIED /* something was found; it is purged and looked for again */
} cm_deletion_step_t;
const char *cm_deletion_step_name(cm_deletion_step_t step); /* "dropped" */

typedef struct {
    const char *tenant; /* canonical id */
    int64_t event_ms;
    const char *requested_by, *reason; /* may be "" */
} cm_deletion_request_t;

/* Record a deletion; NONE: it is carried out or under way already (only its time may be news). In
 * each case cm_tenant_deletion_advance() does what is left. audit->head: position 0 when nothing
 * was told. CM_TRANSIENT / 55P03 when a lock is not had in some 20 s; CM_PERMANENT /
 * "schema-exists" when a deleted tenant has a schema again, which a person must explain. */
cm_status_t cm_tenant_deletion_request(cm_pg_t *pg, const char *admin_schema,
                                       const cm_deletion_request_t *request,
                                       cm_audit_trail_t *audit, cm_deletion_step_t *ret_step,
                                       cm_error_t *err);
/* Do and commit the next step of a tenant's deletion. Repeat until NONE, BLOCKED or UNVERIFIED. */
cm_status_t cm_tenant_deletion_advance(cm_pg_t *pg, const char *admin_schema, const char *tenant,
                                       cm_audit_trail_t *audit, cm_deletion_step_t *ret_step,
                                       cm_error_t *err);

/* ---- reading (tenant_deletion_read.c) ------------------------------------------------------- */

/* The first tenant behind `after` ("": from the beginning) whose deletion can go on; "" when there
 * is none. */
cm_status_t cm_tenant_deletion_next(cm_pg_t *pg, const char *admin_schema, const char *after,
                                    char ret_tenant[CM_TENANT_ID_MAX], cm_error_t *err);

typedef struct {
    int64_t unfinished; /* not verified and not held */
    int64_t oldest_s;   /* since the oldest of these was requested; 0: none */
    int64_t held;
} cm_deletion_census_t;
cm_status_t cm_tenant_deletion_census(cm_pg_t *pg, const char *admin_schema,
                                      cm_deletion_census_t *ret_census, cm_error_t *err);

typedef struct {
    int64_t generation, dead_letters, push_brakes;
    int64_t event_ms, requested_ms, blocked_ms, dropped_ms, purged_ms,
        verified_ms; /* epoch; 0: not */
    const char *requested_by, *reason;
    const char *counts, *checks; /* JSON objects: rows by table, findings by place */
    const char *database;
} cm_deletion_record_t;

/* The deletion of this generation, the latest for -1; texts are in arena. CM_MISSING /
 * "deletion-missing" when there is none. */
cm_status_t cm_tenant_deletion_get(cm_pg_t *pg, const char *admin_schema, const char *tenant,
                                   int64_t generation, cm_arena_t *arena,
                                   cm_deletion_record_t *ret_record, cm_error_t *err);
#endif
