/* pg_case - a database with one table and a pipeline to write through, for the tests of runtime/pg
 * that look into it. */
#ifndef CM_TESTS_INTEGRATION_PG_CASE_H
#define CM_TESTS_INTEGRATION_PG_CASE_H
#include "runtime/cleanup.h"
#include "runtime/pg.h"
#include "tests/support/fixture.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <string.h>

enum { INT4 = 23, INT4_ARRAY = 1007, TEXT_ARRAY = 1009 }; /* pg_type.oid */

typedef struct { /* what on_result was told */
    int calls, failures;
    size_t last_index;
    bool in_order;
    cm_status_t last_status;
    char last_value[64], last_code[CM_ERROR_CODE_MAX];
    size_t bytes;
} heard_t;

static inline void hear(void *ctx, size_t index, cm_status_t status, const PGresult *result,
                        const cm_error_t *err)
{
    heard_t *heard = ctx;
    heard->in_order = heard->calls == 0 ? index == 0 : heard->in_order && index > heard->last_index;
    heard->calls++;
    heard->failures += status != CM_OK;
    heard->last_index = index;
    heard->last_status = status;
    snprintf(heard->last_code, sizeof heard->last_code, "%s", err->code);
    for (int row = 0; row < PQntuples(result); row++)
        heard->bytes += (size_t)PQgetlength(result, row, 0);
    if (PQntuples(result) > 0)
        snprintf(heard->last_value, sizeof heard->last_value, "%s", PQgetvalue(result, 0, 0));
}

typedef struct {
    char uri[CM_TEST_URI_MAX];
    cm_pg_t *pg, *other;
    heard_t heard;
    cm_error_t err;
    int failed;
} world_t;

static inline cm_pg_t *connected(const char *uri, size_t prepared_max)
{
    cm_error_t err = {0};
    cm_pg_t *pg = cm_pg_new(&(cm_pg_options_t){.uri = uri,
                                               .application_name = "test_pg_pipeline",
                                               .statement_timeout_ms = 20000,
                                               .lock_timeout_ms = 5000,
                                               .prepared_max = prepared_max});
    cr_assert(eq(int, cm_pg_connect(pg, NULL, &err), CM_OK), "%s %s", err.code, err.message);
    return pg;
}

static inline void must(cm_pg_t *pg, const char *sql)
{
    cm_error_t err = {0};
    cr_assert(eq(int, cm_pg_exec(pg, sql, &err), CM_OK), "%s: %s %s", sql, err.code, err.message);
}

static inline void set_up(world_t *self, size_t prepared_max)
{
    cm_test_database(self->uri);
    self->pg = connected(self->uri, prepared_max);
    self->other = connected(self->uri, 0);
    must(self->other, "CREATE TABLE public.t (a int PRIMARY KEY, b text)");
}

static inline void tear_down(world_t *self)
{
    cm_pg_destroy(&self->pg);
    cm_pg_destroy(&self->other);
}

static inline int64_t ask(cm_pg_t *pg, const char *sql)
{
    cm_error_t err = {0};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cr_assert(eq(int, cm_pg_query(pg, sql, 0, NULL, &result, &err), CM_OK), "%s: %s", sql,
              err.message);
    return cm_pg_i64(result, 0, 0);
}

static inline void begin(world_t *self)
{
    self->heard = (heard_t){0};
    self->err = (cm_error_t){0};
    self->failed = -2;
    cr_assert(eq(int, cm_pg_pipeline_begin(self->pg, hear, &self->heard, &self->err), CM_OK), "%s",
              self->err.message);
}

static inline void add(world_t *self, const char *key, const char *sql)
{
    cm_pg_statement_t statement = {.key = key, .sql = sql};
    cr_assert(eq(int, cm_pg_pipeline_add(self->pg, &statement, &self->err), CM_OK), "%s",
              self->err.message);
}

/* INSERT of one row with its number as a binary parameter. */
static inline void add_row(world_t *self, const char *key, int number)
{
    uint32_t network = htonl((uint32_t)number);
    const char *values[] = {(const char *)&network};
    cm_pg_statement_t statement = {.key = key,
                                   .sql = "INSERT INTO public.t VALUES ($1) RETURNING a",
                                   .count = 1,
                                   .types = (const Oid[]){INT4},
                                   .values = values,
                                   .lengths = (const int[]){4},
                                   .formats = (const int[]){1}};
    cr_assert(eq(int, cm_pg_pipeline_add(self->pg, &statement, &self->err), CM_OK), "%s",
              self->err.message);
    network = 0; /* values are copied */
}

static inline cm_status_t run(world_t *self)
{
    cm_status_t status = cm_pg_pipeline_send(self->pg, &self->err);
    return status == CM_OK ? cm_pg_pipeline_wait(self->pg, &self->failed, &self->err) : status;
}

static inline void usable(world_t *self)
{
    cr_assert(cm_pg_is_connected(self->pg));
    begin(self);
    add(self, NULL, "SELECT 'still here'");
    cr_expect(eq(int, run(self), CM_OK), "%s", self->err.message);
    cr_expect(eq(str, self->heard.last_value, "still here"));
    must(self->pg, "SELECT 1");
}
#endif
