/* job_case - a database with one job, and two instances that may hold its lease. */
#ifndef CM_TESTS_SCHEMA_JOB_CASE_H
#define CM_TESTS_SCHEMA_JOB_CASE_H
#include "runtime/cleanup.h"
#include "schema/job_store.h"
#include "tests/support/schema_fixture.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <string.h>

#define JOB "orphan-deletion"

enum { TICK = 1795230000, LEASE_MS = 3600 * 1000 }; /* 2026-11-21 03:00:00 */
static const int64_t tick_ms = TICK * INT64_C(1000);

typedef struct {
    char uri[CM_TEST_URI_MAX];
    cm_pg_t *pg;
    cm_arena_t *arena;
    cm_lease_t lease; /* held */
    cm_job_t job;
    cm_job_run_t run;
    int64_t run_id;
    cm_error_t err;
} world_t;

#define GOOD(call) cr_assert(eq(int, (call), CM_OK), "%s %s", world.err.code, world.err.message)
#define FAILS(call, status, word)                                                                  \
    do {                                                                                           \
        cr_expect(eq(int, (call), status));                                                        \
        cr_expect(eq(str, world.err.code, word));                                                  \
    } while (0)
/* Arguments that all functions begin with. */
#define AT   world.pg, CM_TEST_ADMIN
#define HELD AT, &world.lease
#define ERR  &world.err

static inline void take_lease(world_t *self, const char *holder)
{
    bool acquired = false;
    cm_test_sql(self->pg, "UPDATE " CM_TEST_ADMIN ".leases SET expires_at = clock_timestamp()");
    if (cm_lease_acquire(self->pg, CM_TEST_ADMIN, JOB, holder, LEASE_MS, &acquired, &self->lease,
                         &self->err) != CM_OK ||
        !acquired)
        cr_fatal("lease: %s", self->err.message);
}

static inline void set_up(world_t *self)
{
    self->pg = cm_test_admin(self->uri);
    self->arena = cm_arena_new(4096);
    if (cm_job_register(self->pg, CM_TEST_ADMIN, JOB, &self->err) != CM_OK)
        cr_fatal("job: %s", self->err.message);
    take_lease(self, "a");
}

static inline void tear_down(world_t *self)
{
    cm_arena_destroy(&self->arena);
    cm_pg_destroy(&self->pg);
}

static inline bool begin(world_t *self, cm_run_kind_t kind, int64_t tick)
{
    bool begun = false;
    if (cm_job_run_begin(self->pg, CM_TEST_ADMIN, &self->lease, kind, tick, &begun, &self->run_id,
                         &self->err) != CM_OK)
        cr_fatal("begin: %s %s", self->err.code, self->err.message);
    return begun;
}

static inline void load(world_t *self)
{
    if (cm_job_load(self->pg, CM_TEST_ADMIN, JOB, &self->job, &self->err) != CM_OK)
        cr_fatal("load: %s %s", self->err.code, self->err.message);
}

static inline void find(world_t *self)
{
    if (cm_job_run_find(self->pg, CM_TEST_ADMIN, self->run_id, self->arena, &self->run,
                        &self->err) != CM_OK)
        cr_fatal("find: %s %s", self->err.code, self->err.message);
}
#endif
