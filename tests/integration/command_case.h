/* command_case - the built program as an operator uses it, on a database of the test's own whose
 * admin schema is there. */
#ifndef CM_TESTS_INTEGRATION_COMMAND_CASE_H
#define CM_TESTS_INTEGRATION_COMMAND_CASE_H
#include "runtime/cleanup.h"
#include "schema/migration.h"
#include "schema/tenant_schema.h"
#include "tests/support/program.h"
#include "tests/support/schema_fixture.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <string.h>

#define ARGS(...)                                                                                  \
    (const char *const[])                                                                          \
    {                                                                                              \
        __VA_ARGS__, NULL                                                                          \
    }

#ifndef COMMAND_PROGRAM /* another one than the one that is shipped */
#define COMMAND_PROGRAM CM_PROGRAM
#endif

typedef struct {
    char uri[CM_TEST_URI_MAX], uri_variable[CM_TEST_URI_MAX + 32];
    const char *env[4]; /* of the program; the first is the URI, the last NULL */
    cm_pg_t *pg;
    cm_program_t program; /* the last one that was run */
} world_t;

/* variable: a further one of the program, NULL for none. */
static inline void command_set_up(world_t *self, const char *variable)
{
    cm_error_t err = {0};
    *self = (world_t){0};
    cm_test_database(self->uri);
    snprintf(self->uri_variable, sizeof self->uri_variable, "CM_POSTGRES_URI=%s", self->uri);
    self->env[0] = self->uri_variable;
    self->env[1] = variable;
    self->pg = cm_test_connect(self->uri);
    cr_assert(eq(int, cm_admin_prepare(self->pg, "client_manager", &err), CM_OK));
}

static inline void command_tenant(world_t *self, const char *id)
{
    cm_error_t err = {0};
    cm_tenant_change_t change;
    cr_assert(
        eq(int,
           cm_tenant_schema_activate(self->pg, "client_manager", id, "", 1000, NULL, &change, &err),
           CM_OK));
}

static inline void world_close(world_t *self)
{
    cm_pg_destroy(&self->pg);
    if (self->program.out)
        cm_program_destroy(&self->program);
}

/* Start the program, and let it end. */
static inline void begin(world_t *self, const char *const *argv)
{
    if (self->program.out)
        cm_program_destroy(&self->program);
    cm_program_start_at(&self->program, COMMAND_PROGRAM, NULL, self->env, argv);
}

static inline const cm_program_t *manager(world_t *self, const char *const *argv)
{
    begin(self, argv);
    cm_program_finish(&self->program);
    return &self->program;
}
#endif
