/* orphan_case - a tenant a with devices of any age, and one orphan deletion after another. */
#ifndef CM_TESTS_SCHEMA_ORPHAN_CASE_H
#define CM_TESTS_SCHEMA_ORPHAN_CASE_H
#include "schema/orphan_store.h"
#include "tests/schema/store_case.h"

typedef struct {
    store_world_t base;
    cm_orphan_rules_t *rules;
    cm_orphan_options_t options;
    cm_orphan_result_t result;
    int fences, paces, waits; /* calls */
    bool (*on_pace)(void *world);
} orphan_world_t;

static inline cm_status_t count_fence(void *ctx, cm_pg_t *pg, cm_error_t *err)
{
    orphan_world_t *self = ctx;
    (void)err;
    cr_expect(eq(int, PQtransactionStatus(cm_pg_raw(pg)), PQTRANS_INTRANS));
    self->fences++;
    return CM_OK;
}

static inline bool count_pace(void *ctx, const cm_orphan_result_t *so_far, bool waited)
{
    orphan_world_t *self = ctx;
    (void)so_far;
    self->paces++;
    self->waits += waited;
    return !self->on_pace || self->on_pace(self);
}

static inline void load_rules(orphan_world_t *self, const char *const *excluded, size_t count)
{
    cm_orphan_rules_destroy(&self->rules);
    cr_assert(eq(int,
                 cm_orphan_rules_load(self->base.pg, CM_TEST_ADMIN, excluded, count, &self->rules,
                                      &self->base.err),
                 CM_OK),
              "%s", self->base.err.message);
    self->options.rules = self->rules;
}

static inline void set_up(orphan_world_t *self)
{
    store_set_up(&self->base);
    self->options = (cm_orphan_options_t){.fence = count_fence, .pace = count_pace, .ctx = self};
    load_rules(self, NULL, 0);
}

static inline void tear_down(orphan_world_t *self)
{
    cm_orphan_rules_destroy(&self->rules);
    store_tear_down(&self->base);
}

static inline cm_status_t run_orphans(orphan_world_t *self)
{
    return cm_orphan_delete(self->base.pg, "a", &self->options, &self->result, &self->base.err);
}

#define RUNS(status)                                                                               \
    cr_assert(eq(int, run_orphans(&world), status), "%s %s", world.base.err.code,                  \
              world.base.err.message)
#define LEFT(text)                                                                                 \
    do {                                                                                           \
        CM_CLEANUP(cm_free)                                                                        \
        char *left_ = cm_test_rows(world.base.other,                                               \
                                   "SELECT client_id FROM tenant_a.devices ORDER BY client_id");   \
        cr_expect(eq(str, left_, text));                                                           \
    } while (0)

/* Sessions of this test's database that wait for a lock. */
static inline int64_t waiters(cm_pg_t *pg)
{
    return cm_test_number(pg, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                              " AND datname = current_database()");
}

/* A device whose registers and row are `days` old, without contact. */
static inline void put_device(orphan_world_t *self, const char *client_id, double days)
{
    cm_test_sql(self->base.other,
                "INSERT INTO tenant_a.devices (application_code, client_id, device_at, platform,"
                " created_at) SELECT 'app', '%s', t, 'ios', t"
                " FROM (SELECT now() - %f * interval '1 day') AS x(t)",
                client_id, days);
}

static inline void put_devices(orphan_world_t *self, int count, int orphans)
{
    cm_test_sql(self->base.other,
                "INSERT INTO tenant_a.devices (application_code, client_id, device_at, created_at)"
                " SELECT 'app', to_char(i, 'FM000000'), t, t FROM generate_series(1, %d) AS i,"
                " LATERAL (SELECT now() - CASE WHEN i %% (%d / %d) = 0 THEN interval '40 days'"
                " ELSE interval '1 day' END) AS x(t)",
                count, count, orphans);
}
#endif
