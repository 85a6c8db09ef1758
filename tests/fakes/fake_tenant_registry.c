#include "tests/fakes/fake_tenant_registry.h"

cm_fake_tenant_registry_t fake_tenant_registry;

const char *cm_tenant_state_name(cm_tenant_state_t state)
{
    return state == CM_TENANT_ABSENT ? "absent" : "other";
}

cm_status_t cm_tenant_registry_states(cm_pg_t *pg, const char *admin_schema,
                                      const char (*ids)[CM_TENANT_ID_MAX], size_t count,
                                      cm_tenant_state_t *ret_states, cm_error_t *err)
{
    (void)pg;
    (void)admin_schema;
    atomic_fetch_add(&fake_tenant_registry.queries, 1);
    atomic_fetch_add(&fake_tenant_registry.asked, (int)count);
    cm_status_t failure = (cm_status_t)atomic_load(&fake_tenant_registry.failure);
    if (failure != CM_OK)
        return cm_error_set(err, failure, "test", "refused by the test");
    for (size_t i = 0; i < count; i++)
        ret_states[i] = ids[i][0] == 'x'
                            ? (cm_tenant_state_t)atomic_load(&fake_tenant_registry.state)
                            : CM_TENANT_ACTIVE;
    return CM_OK;
}

static cm_status_t not_faked(cm_error_t *err)
{
    return cm_error_set(err, CM_PERMANENT, "test", "not faked");
}

cm_status_t cm_tenant_registry_list(cm_pg_t *pg, const char *admin_schema, bool with_state,
                                    cm_tenant_state_t state, const char *after, size_t limit,
                                    cm_tenant_t **ret_tenants, size_t *ret_count, cm_error_t *err)
{
    (void)pg, (void)admin_schema, (void)with_state, (void)state, (void)after, (void)limit;
    (void)ret_tenants, (void)ret_count;
    return not_faked(err);
}

cm_status_t cm_tenant_registry_counts(cm_pg_t *pg, const char *admin_schema,
                                      cm_tenant_count_t **ret_counts, size_t *ret_count,
                                      cm_error_t *err)
{
    (void)pg, (void)admin_schema, (void)ret_counts, (void)ret_count;
    return not_faked(err);
}

cm_status_t cm_tenant_registry_get(cm_pg_t *pg, const char *admin_schema, const char *id,
                                   cm_tenant_t *ret_tenant, cm_error_t *err)
{
    (void)pg, (void)admin_schema, (void)id, (void)ret_tenant;
    return not_faked(err);
}
