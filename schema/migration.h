/* migration - ordered SQL files, embedded at build, applied once each.
 *
 * Files: schema/admin/NNNN_name.sql and schema/tenant/NNNN_name.sql; the text "@schema@" in them is
 * replaced by the quoted schema name. Each runs in the caller's transaction. Never change a file
 * that was released: add the next number. Its first line, `-- compatible-with: N`, names the oldest
 * version whose programs work on after it; without it, only its own do.
 */
#ifndef CM_SCHEMA_MIGRATION_H
#define CM_SCHEMA_MIGRATION_H
#include "runtime/pg.h"

typedef struct {
    int version;         /* from 1, without gaps */
    int compatible_with; /* the oldest version whose programs work with this one */
    const char *name, *sql;
} cm_migration_t;

typedef struct {
    const cm_migration_t *items;
    int count; /* = newest version */
} cm_migration_set_t;

extern const cm_migration_set_t cm_migrations_admin, cm_migrations_tenant; /* generated */

/* Run the migrations from `from` + 1 up to the newest in schema (unquoted name), inside the open
 * transaction. *ret_version: the newest. Errors are prefixed with the file's name. */
cm_status_t cm_migration_apply(cm_pg_t *pg, const cm_migration_set_t *set, const char *schema,
                               int from, int *ret_version, cm_error_t *err);

/* Bring the admin schema to the newest version: creates it when absent, under an advisory lock, so
 * that any number of instances may start at once. Idempotent; one query when nothing is to do.
 * A newer schema is left as it is when it is compatible with this program. CM_MISCONFIGURED when it
 * is not ("schema-newer") or a right is missing. */
cm_status_t cm_admin_prepare(cm_pg_t *pg, const char *admin_schema, cm_error_t *err);

/* The same inside the open transaction, which the caller commits. *ret_from: the version that was
 * there, 0 for none; *ret_to: the one that is. */
cm_status_t cm_admin_prepare_within(cm_pg_t *pg, const char *admin_schema, int *ret_from,
                                    int *ret_to, cm_error_t *err);

/* The version with which tables came, for whoever only reads them. */
enum {
    CM_ADMIN_BASE = 1,
    CM_ADMIN_AUDIT_LOG = 2,
    CM_ADMIN_PUSH_BRAKES = 3,
    CM_ADMIN_ERASURE = 4,
    CM_ADMIN_DELETIONS = 5,
    CM_ADMIN_JOBS = 7
};
/* Can the admin schema be read as of version `needed`? One query, changes nothing.
 * CM_MISCONFIGURED: "schema-absent", "schema-older", "schema-newer", or a right is missing. */
cm_status_t cm_admin_check(cm_pg_t *pg, const char *admin_schema, int needed, cm_error_t *err);
#endif
