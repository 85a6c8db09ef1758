/* dashboard_job_case - tenants a and b, of 3 and 2 devices, and a run of the dashboard job that was
 * begun: the test plays the runner. */
#ifndef CM_TESTS_INTEGRATION_DASHBOARD_JOB_CASE_H
#define CM_TESTS_INTEGRATION_DASHBOARD_JOB_CASE_H
#include "actors/job_dashboard.h"
#include "schema/tenant_schema.h"
#include "schema/tenant_state.h"
#include "tests/schema/role_case.h"

#include <jansson.h>
#include <stdlib.h>
#include <unistd.h>

#define ADMIN   CM_TEST_ADMIN
#define METRICS CM_TEST_ADMIN ".dashboard_tenant_metrics"

enum { LEASE_MS = 3600 * 1000, LOCK_MS = 100 };

typedef struct {
    char uri[CM_TEST_URI_MAX];
    cm_pg_t *pg, *other; /* of the run; for looking */
    cm_options_t options;
    cm_lease_t lease;
    cm_buffer_t summary;
    cm_batch_run_t run;
    cm_error_t err;
    void (*on_show)(void *world, const cm_batch_progress_t *progress); /* NULL: nothing */
    int shows;
    bool stop;
} world_t;

#define GOOD(call) cr_assert(eq(int, (call), CM_OK), "%s %s", world.err.code, world.err.message)
#define ROWS(text, ...)                                                                            \
    do {                                                                                           \
        CM_CLEANUP(cm_free) char *rows_ = cm_test_rows(world.other, __VA_ARGS__);                  \
        cr_expect(eq(str, rows_, text));                                                           \
    } while (0)

static inline bool is_stopped(void *ctx)
{
    return ((world_t *)ctx)->stop;
}

static inline void show(void *ctx, const cm_batch_progress_t *progress)
{
    world_t *self = ctx;
    self->shows++;
    if (self->on_show)
        self->on_show(self, progress);
}

static inline void take_lease(world_t *self)
{
    bool acquired = false;
    cm_test_sql(self->other, "UPDATE " ADMIN ".leases SET expires_at = clock_timestamp()");
    if (cm_lease_acquire(self->pg, ADMIN, "dashboard", "a test", LEASE_MS, &acquired, &self->lease,
                         &self->err) != CM_OK ||
        !acquired)
        cr_fatal("lease: %s", self->err.message);
}

static inline void begin_run(world_t *self, int64_t tick_ms)
{
    bool begun = false;
    cm_buffer_clear(&self->summary);
    self->run.progress = (cm_batch_progress_t){0};
    self->run.resumed = false;
    if (cm_job_run_begin(self->pg, ADMIN, &self->lease, CM_RUN_SCHEDULED, tick_ms, &begun,
                         &self->run.run_id, &self->err) != CM_OK ||
        !begun)
        cr_fatal("begin: %s", self->err.message);
}

static inline void end_run(world_t *self)
{
    cr_assert(eq(int,
                 cm_job_run_finish(self->pg, ADMIN, &self->lease, self->run.run_id, CM_RUN_DONE,
                                   NULL, NULL, &self->err),
                 CM_OK));
}

static inline void resume_run(world_t *self)
{
    self->run.progress = (cm_batch_progress_t){0};
    self->run.resumed = true;
    cr_assert(eq(int,
                 cm_job_run_resume(self->pg, ADMIN, &self->lease, self->run.run_id, &self->err),
                 CM_OK));
}

/* With tenants a and b, of 3 and 2 devices, and a run that was begun. */
static inline void world_open_on(world_t *self)
{
    self->other = cm_test_connect(self->uri);
    self->options.postgres.admin_schema = ADMIN;
    self->options.postgres.lock_timeout_ms = LOCK_MS;
    self->options.dashboard_job.tenant_timeout_ms = 60000;
    self->options.dashboard_job.reference_max_age_hours = 24;
    self->options.dashboard_job.reference_uri = "";
    self->run = (cm_batch_run_t){.options = &self->options,
                                 .name = "job/dashboard",
                                 .pg = self->pg,
                                 .lease = &self->lease,
                                 .summary = &self->summary,
                                 .stopped = is_stopped,
                                 .show = show,
                                 .ctx = self};
    if (cm_job_register(self->pg, ADMIN, "dashboard", &self->err) != CM_OK)
        cr_fatal("job: %s", self->err.message);
    take_lease(self);
    begin_run(self, 1000);
}

static inline void put_devices(world_t *self, const char *tenant, int count)
{
    cm_test_sql(self->other,
                "INSERT INTO tenant_%s.devices (application_code, client_id, device_at)"
                " SELECT 'app', 'c' || i, now() FROM generate_series(1, %d) AS i",
                tenant, count);
}

static inline void world_open(world_t *self)
{
    self->pg = cm_test_admin(self->uri);
    self->options.postgres.uri = self->uri;
    cm_test_tenant(self->pg, "a");
    cm_test_tenant(self->pg, "b");
    world_open_on(self);
    put_devices(self, "a", 3);
    put_devices(self, "b", 2);
}

static inline void world_close(world_t *self)
{
    cm_buffer_destroy(&self->summary);
    cm_pg_destroy(&self->other);
    cm_pg_destroy(&self->pg);
}

static inline double in_summary(world_t *self, const char *key)
{
    json_error_t error;
    json_t *root = json_loads(cm_buffer_text(&self->summary), JSON_REJECT_DUPLICATES, &error);
    cr_assert(ne(ptr, root, NULL), "%s", error.text);
    double value = json_number_value(json_object_get(root, key));
    bool is_there = json_is_number(json_object_get(root, key));
    cr_expect(is_there, "%s", key);
    json_decref(root);
    return value;
}

#define SUMMARY(key, value) cr_expect(eq(dbl, in_summary(&world, key), value), "%s", key)
#endif
