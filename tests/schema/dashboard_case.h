/* dashboard_case - a store of figures and tenants with random devices. */
#ifndef CM_TESTS_SCHEMA_DASHBOARD_CASE_H
#define CM_TESTS_SCHEMA_DASHBOARD_CASE_H
#include "schema/dashboard_store.h"
#include "tests/schema/store_case.h"

#define METRICS CM_TEST_ADMIN ".dashboard_tenant_metrics"
#define HISTORY CM_TEST_ADMIN ".dashboard_tenant_metrics_history"

typedef struct {
    store_world_t base;
    cm_dashboard_options_t options;
    cm_dashboard_t *store;
    int fences;
    cm_pg_t *other; /* of base, for ROWS() */
} dashboard_world_t;

static inline cm_status_t count_fence(void *ctx, cm_pg_t *pg, cm_error_t *err)
{
    dashboard_world_t *self = ctx;
    (void)err;
    cr_expect(eq(int, PQtransactionStatus(cm_pg_raw(pg)), PQTRANS_INTRANS));
    self->fences++;
    return CM_OK;
}

static inline void open_store(dashboard_world_t *self)
{
    cm_dashboard_destroy(&self->store);
    self->store = cm_dashboard_new(self->base.pg, &self->options);
}

static inline void set_up(dashboard_world_t *self) /* with a tenant a */
{
    store_set_up(&self->base);
    self->other = self->base.other;
    self->options =
        (cm_dashboard_options_t){.admin_schema = CM_TEST_ADMIN, .fence = count_fence, .ctx = self};
    open_store(self);
}

static inline void tear_down(dashboard_world_t *self)
{
    cm_dashboard_destroy(&self->store);
    store_tear_down(&self->base);
}

#define DOES(call)                                                                                 \
    cr_assert(eq(int, call, CM_OK), "%s %s", world.base.err.code, world.base.err.message)

/* A whole run; returns how many tenants had no tables. */
static inline int run_all(dashboard_world_t *self)
{
    cm_error_t *err = &self->base.err;
    cm_dashboard_tenant_t *tenants = NULL;
    size_t count = 0;
    int missing = 0;
    cr_assert(eq(int, cm_dashboard_begin(self->store, &self->base.pg, 1, err), CM_OK), "%s %s",
              err->code, err->message);
    cr_assert(eq(int, cm_dashboard_tenants(self->store, "", 1000, &tenants, &count, err), CM_OK));
    for (size_t i = 0; i < count; i++) {
        cm_status_t status = cm_dashboard_measure(self->store, self->base.pg, tenants[i].id, err);
        cr_assert(status == CM_OK || status == CM_MISSING, "%s %s", err->code, err->message);
        missing += status == CM_MISSING;
    }
    free(tenants);
    cr_assert(eq(int, cm_dashboard_finish(self->store, err), CM_OK), "%s %s", err->code,
              err->message);
    return missing;
}

/* Devices of every kind there is, at random; a fixed seed. */
static inline void put_random_devices(dashboard_world_t *self, const char *tenant, int count)
{
    cm_test_sql(self->base.other, "SELECT setseed(0.42)");
    cm_test_sql(self->base.other,
                "INSERT INTO tenant_%s.devices (application_code, client_id, device_at, platform,"
                " sdk_version, application_version, push_at, push_token, push_status, contact_at,"
                " contact_id, created_at) SELECT 'app' || i %% 3, 'c' || i,"
                " CASE WHEN random() < 0.9 THEN now() - random() * interval '60 days' END,"
                " (ARRAY['ios', 'android', 'web', NULL])[1 + floor(random() * 4)],"
                " '3.' || floor(random() * 20), '1.' || floor(power(random(), 2) * 50),"
                " now() - random() * interval '60 days',"
                " CASE WHEN random() < 0.8 THEN 'token' || i END,"
                " (ARRAY['valid', 'invalid', NULL])[1 + floor(random() * 3)],"
                " CASE WHEN random() < 0.5 THEN now() - random() * interval '60 days' END,"
                " CASE WHEN random() < 0.6 THEN i END, now() - random() * interval '60 days'"
                " FROM generate_series(1, %d) AS i",
                tenant, count);
}
#endif
