#include "tests/fakes/fake_tenant_deletion.h"

#include <stdio.h>
#include <string.h>

cm_fake_tenant_deletion_t fake_tenant_deletion;

static cm_status_t do_step(cm_fake_step_t step, cm_audit_trail_t *audit,
                           cm_deletion_step_t *ret_step, cm_error_t *err)
{
    audit->head = (cm_audit_head_t){.position = step.status == CM_OK};
    *ret_step = step.status == CM_OK ? step.step : CM_DELETION_NONE;
    return step.status == CM_OK ? CM_OK : cm_error_set(err, step.status, "test", "by the test");
}

const char *cm_deletion_step_name(cm_deletion_step_t step)
{
    (void)step;
    return "a step";
}

cm_status_t cm_tenant_deletion_request(cm_pg_t *pg, const char *admin_schema,
                                       const cm_deletion_request_t *request,
                                       cm_audit_trail_t *audit, cm_deletion_step_t *ret_step,
                                       cm_error_t *err)
{
    (void)pg, (void)admin_schema;
    cm_fake_tenant_deletion_t *self = &fake_tenant_deletion;
    snprintf(self->tenant, sizeof self->tenant, "%s", request->tenant);
    snprintf(self->requested_by, sizeof self->requested_by, "%s", request->requested_by);
    snprintf(self->reason, sizeof self->reason, "%s", request->reason);
    self->event_ms = request->event_ms;
    atomic_fetch_add(&self->requests, 1);
    return do_step(self->request, audit, ret_step, err);
}

cm_status_t cm_tenant_deletion_advance(cm_pg_t *pg, const char *admin_schema, const char *tenant,
                                       cm_audit_trail_t *audit, cm_deletion_step_t *ret_step,
                                       cm_error_t *err)
{
    (void)pg, (void)admin_schema, (void)tenant;
    int at = atomic_fetch_add(&fake_tenant_deletion.advances, 1);
    cm_fake_step_t none = {CM_OK, CM_DELETION_NONE};
    return do_step(at < CM_FAKE_STEPS_MAX ? fake_tenant_deletion.steps[at] : none, audit, ret_step,
                   err);
}

cm_status_t cm_tenant_deletion_next(cm_pg_t *pg, const char *admin_schema, const char *after,
                                    char ret_tenant[CM_TENANT_ID_MAX], cm_error_t *err)
{
    (void)pg, (void)admin_schema, (void)err;
    const char *found = fake_tenant_deletion.unfinished;
    bool behind = found && strcmp(found, after) > 0;
    snprintf(ret_tenant, CM_TENANT_ID_MAX, "%s", behind ? found : "");
    return CM_OK;
}

cm_status_t cm_tenant_deletion_census(cm_pg_t *pg, const char *admin_schema,
                                      cm_deletion_census_t *ret_census, cm_error_t *err)
{
    (void)pg, (void)admin_schema, (void)err;
    *ret_census = (cm_deletion_census_t){0};
    atomic_fetch_add(&fake_tenant_deletion.censuses, 1);
    return CM_OK;
}
