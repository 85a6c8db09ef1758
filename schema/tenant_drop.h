/* tenant_drop - the DDL of a deletion: count and drop a schema, look for what is left of it.
 * Private to tenant_deletion, inside its transactions. Rule: reliability sections 4.2, 4.3.
 */
#ifndef CM_SCHEMA_TENANT_DROP_H
#define CM_SCHEMA_TENANT_DROP_H
#include "schema/tenant_step.h"

/* Lock the tables as writers do, record their exact counts and the ids of all objects with the
 * deletion, drop the schema. */
cm_status_t cm_tenant_drop_schema(cm_tenant_step_t *step, cm_error_t *err);
/* One row: what is left by place, as JSON; is it nothing; is it unlike what was found last time. */
cm_status_t cm_tenant_drop_verify(cm_tenant_step_t *step, PGresult **ret_result, cm_error_t *err);
#endif
