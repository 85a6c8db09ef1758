/* checkup - what `doctor` asks of a database: version, rights, settings, roles. Changes nothing. */
#ifndef CM_SCHEMA_CHECKUP_H
#define CM_SCHEMA_CHECKUP_H
#include "runtime/pg.h"

enum { CM_CHECKUP_MAX = 16 };

typedef struct {
    const char *what; /* "postgres version" */
    char found[128];
    bool good, required;
    const char *mend; /* what would make it good */
} cm_checkup_t;

cm_status_t cm_checkup_run(cm_pg_t *pg, const char *admin_schema,
                           cm_checkup_t items[CM_CHECKUP_MAX], size_t *ret_count, cm_error_t *err);

/* Whether the database has the roles of schema/role.h and this session's login may work as them.
 * Asked by a session whose role is ddl. */
cm_status_t cm_checkup_roles(cm_pg_t *pg, const char *admin_schema, const char *prefix,
                             cm_checkup_t items[CM_CHECKUP_MAX], size_t *ret_count,
                             cm_error_t *err);
#endif
