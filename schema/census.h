/* census - counts over the whole database, for dev and for tests: exact, not meant to be fast. */
#ifndef CM_SCHEMA_CENSUS_H
#define CM_SCHEMA_CENSUS_H
#include "runtime/pg.h"

cm_status_t cm_census_active_tenants(cm_pg_t *pg, const char *admin_schema, int64_t *ret_count,
                                     cm_error_t *err);
cm_status_t cm_census_dead_letters(cm_pg_t *pg, const char *admin_schema, int64_t *ret_count,
                                   cm_error_t *err);
/* Rows of devices over all active tenants. */
cm_status_t cm_census_devices(cm_pg_t *pg, const char *admin_schema, int64_t *ret_count,
                              cm_error_t *err);
#endif
