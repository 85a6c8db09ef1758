/* role - the database roles of the service: their names, and what each may do to which table.
 *
 * A login is a member of the roles it works as and has no rights of its own (NOINHERIT); each
 * connection takes one role when it is made (`role` of cm_pg_options_t). Who may do what is one
 * table, in role.c; a new database table is one row there. `client-manager database prepare` makes
 * the roles (schema/database_prepare.h).
 *
 *   owner        owns the admin tables and every tenant schema; nobody logs in or works as it, but
 *                what is created is created as it
 *   ddl          activates, migrates and drops tenants: has the rights of owner, adds to the audit
 *                log
 *   writer       devices, verdicts, dead letters; creates nothing
 *   purger       erases contacts: devices and dead letters go, tombstones come
 *   dash         reads, but no body of a dead letter
 *   audit_w      adds to the audit log and reads it
 *   audit_owner  owns the audit log, and the admin schema: whoever owns a schema may drop what is
 *                in it. It has no member.
 *
 * A database says itself that it was prepared: its registry of tenants is owned by <prefix>_owner,
 * which cannot log in. What makes tenant schemas asks it, so that a schema comes out the same by
 * whatever program and login it is made. Rule: reliability section 5.5.
 */
#ifndef CM_SCHEMA_ROLE_H
#define CM_SCHEMA_ROLE_H
#include "runtime/buffer.h"
#include "runtime/pg.h"

#include <stdbool.h>

typedef enum {
    CM_ROLE_NONE, /* the login itself */
    CM_ROLE_OWNER,
    CM_ROLE_DDL,
    CM_ROLE_WRITER,
    CM_ROLE_PURGER,
    CM_ROLE_DASH,
    CM_ROLE_AUDIT_WRITER,
    CM_ROLE_AUDIT_OWNER,
    CM_ROLE_COUNT
} cm_role_t;

enum { CM_ROLE_PREFIX_MAX = 40, CM_ROLE_NAME_MAX = 64 };

/* "<prefix>_writer", "" for CM_ROLE_NONE; returns name. prefix is a good one (asserted). */
const char *cm_role_name(const char *prefix, cm_role_t role, char name[CM_ROLE_NAME_MAX]);
/* "writer", "audit_w": the name behind the prefix; "" for CM_ROLE_NONE. */
const char *cm_role_suffix(cm_role_t role);
/* Lower-case letters, digits and '_', a letter first, not pg_, at most CM_ROLE_PREFIX_MAX bytes. */
bool cm_role_prefix_is_good(const char *prefix);

/* The prefix of the roles that the database was prepared with, "" when it was not. */
cm_status_t cm_role_find_prefix(cm_pg_t *pg, const char *admin_schema,
                                char prefix[CM_ROLE_NAME_MAX], cm_error_t *err);

/* Around DDL on a tenant schema, inside the transaction: what is created between the two belongs to
 * owner, and the roles get their rights to it. prefix is found by begin and given to end; in a
 * database without roles both do nothing. CM_MISCONFIGURED when the session may not become owner.
 */
cm_status_t cm_role_begin_ddl(cm_pg_t *pg, const char *admin_schema, char prefix[CM_ROLE_NAME_MAX],
                              cm_error_t *err);
cm_status_t cm_role_end_ddl(cm_pg_t *pg, const char *prefix, const char *schema, cm_error_t *err);

/* ---- for preparing ------------------------------------------------------------------------- */

typedef enum { CM_ROLE_ADMIN, CM_ROLE_TENANT } cm_role_scope_t;

/* Give the roles their rights to the tables that schema has, and take every other right to these
 * from them. By the owner of schema and tables, inside a transaction. */
cm_status_t cm_role_grant(cm_pg_t *pg, const char *prefix, cm_role_scope_t scope,
                          const char *schema, cm_error_t *err);
/* Hand a tenant schema and its tables to owner and grant. Inside a transaction; takes the tables in
 * the order in which writers lock them. */
cm_status_t cm_role_adopt(cm_pg_t *pg, const char *prefix, const char *schema, cm_error_t *err);
/* Append one row ('table', 'role', 'SELECT, INSERT') for each right to a tenant's tables. */
void cm_role_tenant_grants(cm_buffer_t *out, const char *prefix);
#endif
