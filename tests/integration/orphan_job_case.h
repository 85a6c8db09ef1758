/* orphan_job_case - tenants a, b and c, a run of the orphan deletion with its lease held, and hooks
 * where a runner would be asked. */
#ifndef CM_TESTS_INTEGRATION_ORPHAN_JOB_CASE_H
#define CM_TESTS_INTEGRATION_ORPHAN_JOB_CASE_H
#include "actors/job_orphan_deletion.h"
#include "runtime/cleanup.h"
#include "tests/support/schema_fixture.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <jansson.h>
#include <string.h>

#define JOB "orphan-deletion"

typedef struct {
    char uri[CM_TEST_URI_MAX];
    cm_pg_t *pg, *other; /* the job's, the test's */
    cm_options_t options;
    cm_lease_t lease;
    cm_buffer_t summary;
    cm_batch_run_t run;
    cm_error_t err;
    int asked;
    bool (*on_asked)(void *world); /* true: stop */
    void (*on_shown)(void *world);
} world_t;

static inline bool asked(void *ctx)
{
    world_t *self = ctx;
    self->asked++;
    return self->on_asked && self->on_asked(self);
}

static inline void shown(void *ctx, const cm_batch_progress_t *progress)
{
    world_t *self = ctx;
    (void)progress;
    if (self->on_shown)
        self->on_shown(self);
}

/* As the runner does it; pg is that of the job. */
static inline void take_lease(world_t *self)
{
    bool acquired = false;
    cm_test_sql(self->other, "UPDATE " CM_TEST_ADMIN ".leases SET expires_at = clock_timestamp()");
    if (cm_lease_acquire(self->pg, CM_TEST_ADMIN, JOB, "a test", 3600 * 1000, &acquired,
                         &self->lease, &self->err) != CM_OK ||
        !acquired)
        cr_fatal("lease: %s", self->err.message);
    self->run.lease = &self->lease;
}

static inline void begin_run(world_t *self)
{
    bool begun = false;
    int64_t tick_ms = 0;
    if (cm_job_register(self->pg, CM_TEST_ADMIN, JOB, &self->err) != CM_OK ||
        cm_job_request(self->pg, CM_TEST_ADMIN, JOB, "a test", &tick_ms, &self->err) != CM_OK)
        cr_fatal("job: %s", self->err.message);
    take_lease(self);
    if (cm_job_run_begin(self->pg, CM_TEST_ADMIN, &self->lease, CM_RUN_REQUESTED, tick_ms, &begun,
                         &self->run.run_id, &self->err) != CM_OK ||
        !begun)
        cr_fatal("begin: %s", self->err.message);
}

/* uri is set, admin schema made; the job works on pg. */
static inline void world_use(world_t *self, cm_pg_t *pg, cm_pg_t *other)
{
    self->pg = pg;
    self->other = other;
    self->options.postgres.admin_schema = CM_TEST_ADMIN;
    self->options.orphan_job.exclude = "";
    self->options.orphan_job.age_days = 30;
    self->options.orphan_job.guard_percent = 20;
    self->options.orphan_job.guard_above = 100;
    self->options.orphan_job.batch_max = 1000;
    self->options.orphan_job.busy_percent = 100;
    self->options.orphan_job.retry_rounds = 2;
    self->run = (cm_batch_run_t){.options = &self->options,
                                 .name = "job/" JOB,
                                 .pg = pg,
                                 .summary = &self->summary,
                                 .stopped = asked,
                                 .show = shown,
                                 .ctx = self};
    begin_run(self);
}

static inline void world_open(world_t *self)
{
    *self = (world_t){0};
    cm_pg_t *pg = cm_test_admin(self->uri);
    for (const char *id = "abc"; *id; id++)
        cm_test_tenant(pg, (char[]){*id, '\0'});
    world_use(self, pg, cm_test_connect(self->uri));
}

static inline void world_close(world_t *self)
{
    cm_buffer_destroy(&self->summary);
    cm_pg_destroy(&self->pg);
    cm_pg_destroy(&self->other);
}

/* The next attempt of the same run, by another holder. */
static inline void resume(world_t *self)
{
    take_lease(self);
    if (cm_job_run_resume(self->pg, CM_TEST_ADMIN, &self->lease, self->run.run_id, &self->err) !=
        CM_OK)
        cr_fatal("resume: %s", self->err.message);
    self->run.resumed = true;
    self->run.progress = (cm_batch_progress_t){0};
}

static inline cm_status_t work(world_t *self)
{
    self->err = (cm_error_t){0};
    return cm_job_orphan_deletion(&self->run, &self->err);
}

/* Of count devices the first `orphans` have had no contact for 40 days. */
static inline void put(world_t *self, const char *tenant, int count, int orphans)
{
    cm_test_sql(self->other,
                "INSERT INTO tenant_%s.devices (application_code, client_id, device_at, created_at)"
                " SELECT 'app', to_char(i, 'FM000000'), t, t FROM generate_series(1, %d) AS i,"
                " LATERAL (SELECT now() - CASE WHEN i <= %d THEN interval '40 days'"
                " ELSE interval '1 day' END) AS x(t)",
                tenant, count, orphans);
}

static inline int64_t left(world_t *self, const char *tenant)
{
    return cm_test_number(self->other, "SELECT count(*) FROM tenant_%s.devices", tenant);
}

static inline int64_t figure(world_t *self, const char *name)
{
    json_t *root = json_loadb(self->summary.data, self->summary.len, 0, NULL);
    cr_assert(ne(ptr, json_object_get(root, name), NULL), "%s in %s", name,
              cm_buffer_text(&self->summary));
    int64_t value = json_integer_value(json_object_get(root, name));
    json_decref(root);
    return value;
}

#define WORKS(status)                                                                              \
    cr_assert(eq(int, work(&world), status), "%s %s", world.err.code, world.err.message)
#define LEFT(tenant, count)  cr_expect(eq(i64, left(&world, tenant), count), "of %s", tenant)
#define FIGURE(name, number) cr_expect(eq(i64, figure(&world, name), number), "%s", name)
/* "a|done|" a line: results of the run. */
#define NOTED(text)                                                                                \
    do {                                                                                           \
        CM_CLEANUP(cm_free)                                                                        \
        char *noted_ =                                                                             \
            cm_test_rows(world.other, "SELECT tenant, state, error_code FROM " CM_TEST_ADMIN       \
                                      ".job_run_tenants ORDER BY tenant");                         \
        cr_expect(eq(str, noted_, text));                                                          \
    } while (0)
#endif
