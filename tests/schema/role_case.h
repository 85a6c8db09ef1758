/* role_case - a database prepared with roles of its own, and sessions that work as them.
 *
 * Roles are the server's, not the database's, so each test has a prefix and logins of its own and
 * drops them at its end.
 */
#ifndef CM_TESTS_SCHEMA_ROLE_CASE_H
#define CM_TESTS_SCHEMA_ROLE_CASE_H
#include "runtime/cleanup.h"
#include "schema/database_prepare.h"
#include "tests/support/schema_fixture.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <string.h>

typedef struct {
    char uri[CM_TEST_URI_MAX], login_uri[CM_TEST_URI_MAX + 128];
    char prefix[CM_TEST_NAME_MAX], login[CM_TEST_NAME_MAX];
    cm_pg_t *pg; /* a superuser's */
    cm_error_t err;
    cm_database_notes_t notes;
    int64_t outside;
} role_world_t;

/* uri with another user: libpq takes the last of two. */
static inline void uri_of_login(char *uri, size_t size, const char *base, const char *login)
{
    snprintf(uri, size, "%s%suser=%s", base, strchr(base, '?') ? "&" : "?", login);
}

/* A database with an admin schema and a login, not yet prepared. */
static inline void role_world_open(role_world_t *self)
{
    *self = (role_world_t){0};
    self->pg = cm_test_admin(self->uri);
    cm_test_unique(self->prefix, "r");
    cm_test_unique(self->login, "login");
    cm_test_sql(self->pg, "CREATE ROLE %s LOGIN", self->login);
    uri_of_login(self->login_uri, sizeof self->login_uri, self->uri, self->login);
}

static inline void drop_role(cm_pg_t *pg, const char *name)
{
    cm_test_sql(pg, "DROP ROLE IF EXISTS %s", name);
}

/* Further logins are dropped by the test itself, after the databases. */
static inline void role_world_close(role_world_t *self)
{
    char name[CM_ROLE_NAME_MAX];
    cm_pg_destroy(&self->pg);
    cm_test_database_drop();
    cm_pg_t *server = cm_test_connect(cm_test_pg_uri());
    for (int role = CM_ROLE_OWNER; role < CM_ROLE_COUNT; role++)
        drop_role(server, cm_role_name(self->prefix, (cm_role_t)role, name));
    drop_role(server, self->login);
    cm_pg_destroy(&server);
    cm_database_notes_destroy(&self->notes);
}

static inline cm_database_plan_t role_plan(const role_world_t *self, const char *const *logins)
{
    return (cm_database_plan_t){.admin_schema = CM_TEST_ADMIN,
                                .prefix = self->prefix,
                                .logins = logins,
                                .login_count = logins ? 1 : 0};
}

/* Roles, with the login, and every tenant under them; by pg. */
static inline cm_migrate_progress_t role_prepare_all(role_world_t *self, cm_pg_t *pg)
{
    const char *logins[] = {self->login};
    cm_migrate_progress_t result = {0};
    cm_database_plan_t plan = role_plan(self, logins);
    if (cm_database_prepare(pg, &plan, &self->notes, &self->outside, &self->err) != CM_OK ||
        cm_database_adopt_tenants(pg, &plan, NULL, NULL, &result, &self->err) != CM_OK)
        cr_fatal("prepare: %s %s", self->err.code, self->err.message);
    return result;
}

/* A session of the login, as role. */
static inline cm_pg_t *role_session(const role_world_t *self, cm_role_t role)
{
    cm_error_t err = {0};
    cm_pg_options_t options = {.uri = self->login_uri,
                               .application_name = "test",
                               .statement_timeout_ms = 60000,
                               .prepared_max = 16};
    cm_role_name(self->prefix, role, options.role);
    cm_pg_t *pg = cm_pg_new(&options);
    if (cm_pg_connect(pg, NULL, &err) != CM_OK)
        cr_fatal("as %s: %s %s", options.role, err.code, err.message);
    return pg;
}

static inline int64_t role_outside(role_world_t *self)
{
    CM_CLEANUP(cm_pg_clear) PGresult *ids = NULL;
    cr_assert(eq(int,
                 cm_database_list_outside(self->pg, CM_TEST_ADMIN, self->prefix, &ids, &self->err),
                 CM_OK),
              "%s", self->err.message);
    return PQntuples(ids);
}

/* The note that contains text; NULL when there is none. */
static inline const cm_database_note_t *role_note(const role_world_t *self, const char *text)
{
    for (size_t i = 0; i < self->notes.count; i++)
        if (strstr(self->notes.items[i].what, text))
            return &self->notes.items[i];
    return NULL;
}
#endif
