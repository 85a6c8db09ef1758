#include "tests/fakes/fake_token_status_store.h"

cm_status_t cm_push_brake_totals(cm_pg_t *pg, const char *admin_schema, int64_t *ret_brakes,
                                 int64_t *ret_held, cm_error_t *err)
{
    (void)pg, (void)admin_schema;
    cm_status_t failure = (cm_status_t)atomic_load(&fake_token_status_store.totals_failure);
    *ret_brakes = atomic_load(&fake_token_status_store.braked);
    *ret_held = 0;
    atomic_fetch_add(&fake_token_status_store.totals, 1);
    return failure ? cm_error_set(err, failure, "57014", "refused by the test") : CM_OK;
}

static cm_status_t not_faked(cm_error_t *err)
{
    return cm_error_set(err, CM_PERMANENT, "test", "not faked");
}

cm_status_t cm_push_brake_list(cm_pg_t *pg, const char *admin_schema, const char *tenant,
                               cm_arena_t *arena, cm_push_brake_t **ret_brakes, size_t *ret_count,
                               cm_error_t *err)
{
    (void)pg, (void)admin_schema, (void)tenant, (void)arena, (void)ret_brakes, (void)ret_count;
    return not_faked(err);
}

cm_status_t cm_push_brake_decide(cm_pg_t *pg, const char *admin_schema,
                                 const cm_push_brake_decision_t *decision, int64_t chunk,
                                 cm_audit_trail_t *audit, cm_push_brake_step_t *ret_step,
                                 cm_error_t *err)
{
    (void)pg, (void)admin_schema, (void)decision, (void)chunk, (void)audit, (void)ret_step;
    return not_faked(err);
}
