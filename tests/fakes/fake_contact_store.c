#include "tests/fakes/fake_contact_store.h"
#include "schema/contact_store.h"
#include "schema/erasure.h"

cm_fake_contact_store_t fake_contact_store;

cm_status_t cm_erasure_key_check(cm_pg_t *pg, const char *admin_schema, const char *key,
                                 cm_error_t *err)
{
    (void)pg, (void)admin_schema, (void)key;
    if (atomic_load(&fake_contact_store.other_key))
        return cm_error_set(err, CM_MISCONFIGURED, "erasure-key", "another key, says the test");
    return CM_OK;
}

static void decide(cm_contact_item_t *item)
{
    static const cm_status_t failures[] = {CM_TRANSIENT, CM_PERMANENT, CM_MISSING};
    if (item->contact_id >= 1 && item->contact_id <= 3) {
        item->result = (cm_contact_result_t)item->contact_id;
        return;
    }
    item->result = CM_CONTACT_FAILED;
    cm_error_set(&item->error, failures[item->contact_id - 4], "55P03", "refused by the test");
}

cm_status_t cm_contact_store_delete(cm_pg_t *pg, const cm_contact_place_t *place,
                                    cm_contact_tenant_t *tenants, size_t count,
                                    cm_contact_totals_t *totals, cm_error_t *err)
{
    (void)pg, (void)place, (void)totals;
    atomic_fetch_add(&fake_contact_store.calls, 1);
    cm_status_t failure = (cm_status_t)atomic_load(&fake_contact_store.failure);
    if (failure != CM_OK)
        return cm_error_set(err, failure, "link", "refused by the test");
    for (size_t t = 0; t < count; t++) {
        atomic_fetch_add(&fake_contact_store.tenants, 1);
        atomic_fetch_add(&fake_contact_store.items, (int)tenants[t].count);
        for (size_t i = 0; i < tenants[t].count; i++)
            decide(&tenants[t].items[i]);
    }
    return CM_OK;
}
