/* tenant_generation - begin a new generation of a tenant, inside a step that has checked that it
 * may. Private to the tenant schema manager; the body is in tenant_schema.c.
 */
#ifndef CM_SCHEMA_TENANT_GENERATION_H
#define CM_SCHEMA_TENANT_GENERATION_H
#include "schema/tenant_step.h"

/* The schema with its fence, and the registry row: active, generation + 1, activated at
 * step->event_ms. */
cm_status_t cm_tenant_generation_make(cm_tenant_step_t *step, const char *name, cm_error_t *err);
/* Its entry in the audit log, the last statement. */
cm_status_t cm_tenant_generation_tell(const cm_tenant_step_t *step, cm_error_t *err);
#endif
