/* database_prepare - bring the admin schema to the newest version, and make the database roles of
 * schema/role.h, with all that is there under them.
 *
 * Idempotent, and safe beside others who do the same: one advisory lock in a database; what two
 * databases of one server race for (roles are the server's) is tried again. Everything but the
 * tenants is one transaction, which a dry run rolls back. Tenants are a transaction each; which are
 * left is asked of the catalog, so that it can be ended anywhere and started again.
 *
 * Roles take a superuser, or a login with CREATEROLE that owns the database and what is in it, or
 * has the rights of who does. Such a login is a member of the two owners while it works, not after.
 * Rule: reliability section 5.5.
 */
#ifndef CM_SCHEMA_DATABASE_PREPARE_H
#define CM_SCHEMA_DATABASE_PREPARE_H
#include "schema/role.h"
#include "schema/tenant_schema.h"

typedef struct {               /* something done, or left undone for want of a right or a wish */
    char what[176], mend[192]; /* mend: what would do it; "": it is done */
} cm_database_note_t;

typedef struct {
    cm_database_note_t *items;
    size_t count, cap;
} cm_database_notes_t;
void cm_database_notes_destroy(cm_database_notes_t *self);

typedef struct {
    const char *admin_schema;
    const char *prefix;        /* of the roles; NULL: none are made */
    const char *const *logins; /* that shall work as them; they exist */
    size_t login_count;
    bool revoke_public; /* CREATE on schema public from everybody */
    bool dry_run;
} cm_database_plan_t;

/* Admin schema, roles, memberships, settings of the logins. *notes: what changed, and what was left
 * undone; *ret_tenants: tenant schemas that are not under the roles yet. CM_MISCONFIGURED naming
 * what mends it: "role-rights" (a right is missing), "role-taken" (a role of such a name can do
 * more than ours), "role-login" (a login does not exist, or is the one that prepares). */
cm_status_t cm_database_prepare(cm_pg_t *pg, const cm_database_plan_t *plan,
                                cm_database_notes_t *notes, int64_t *ret_tenants, cm_error_t *err);

/* Bring the tenant schemas that are left under the roles, going on past failures, then leave the
 * owners. Progress and result are those of cm_tenant_schema_migrate_all(). */
cm_status_t
cm_database_adopt_tenants(cm_pg_t *pg, const cm_database_plan_t *plan,
                          void (*on_progress)(void *ctx, const cm_migrate_progress_t *now),
                          void *ctx, cm_migrate_progress_t *ret_progress, cm_error_t *err);

/* Ids of tenants whose schema is there and not under the roles: another owner, or other rights than
 * the table in role.c says. One query. */
cm_status_t cm_database_list_outside(cm_pg_t *pg, const char *admin_schema, const char *prefix,
                                     PGresult **ret_ids, cm_error_t *err);
#endif
