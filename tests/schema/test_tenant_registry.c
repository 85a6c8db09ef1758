#include "runtime/cleanup.h"
#include "schema/migration.h"
#include "schema/tenant_registry.h"
#include "schema/tenant_schema.h"
#include "tests/support/schema_fixture.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdlib.h>
#include <string.h>

TestSuite(tenant_registry, .timeout = 30, .fini = cm_test_database_drop);

typedef struct {
    char uri[CM_TEST_URI_MAX];
    cm_pg_t *pg;
    cm_error_t err;
} world_t;

static void add(world_t *self, const char *id, const char *state, int version)
{
    cm_test_sql(self->pg,
                "INSERT INTO " CM_TEST_ADMIN ".tenants (id, schema_name, name, state, generation,"
                " schema_version, activated_at, changed_at)"
                " VALUES ('%s', 'tenant_%s', 'name of %s', '%s', 2, %d, 'epoch'::timestamptz +"
                " interval '1.234 s', 'epoch'::timestamptz + interval '5 s')",
                id, id, id, state, version);
}

static void set_up(world_t *self)
{
    self->pg = cm_test_admin(self->uri);
    add(self, "b", "active", CM_TENANT_SCHEMA_NEEDED);
    add(self, "B", "suspended", 1);
    add(self, "a", "deleted", 0);
    add(self, "NULL", "activating", 0);
    add(self, "c-1", "deleting", 1);
    add(self, "d_2", "active", 0);
}

static void tear_down(world_t *self)
{
    cm_pg_destroy(&self->pg);
}

Test(tenant_registry, every_state_has_a_name)
{
    cr_expect(eq(str, (char *)cm_tenant_state_name(CM_TENANT_ABSENT), "absent"));
    cr_expect(eq(str, (char *)cm_tenant_state_name(CM_TENANT_DELETED), "deleted"));
    cr_expect(eq(str, (char *)cm_tenant_state_name((cm_tenant_state_t)99), "unknown"));
}

Test(tenant_registry, states_are_told_in_the_order_asked)
{
    world_t world = {0};
    set_up(&world);
    const char ids[][CM_TENANT_ID_MAX] = {"c-1", "none", "NULL", "b", "a", "B", "b", "\"},{\\"};
    const cm_tenant_state_t expected[] = {
        CM_TENANT_DELETING, CM_TENANT_ABSENT,    CM_TENANT_ACTIVATING, CM_TENANT_ACTIVE,
        CM_TENANT_DELETED,  CM_TENANT_SUSPENDED, CM_TENANT_ACTIVE,     CM_TENANT_ABSENT};
    cm_tenant_state_t states[8];
    cr_assert(eq(int,
                 cm_tenant_registry_states(world.pg, CM_TEST_ADMIN, ids, 8, states, &world.err),
                 CM_OK),
              "%s", world.err.message);
    for (size_t i = 0; i < 8; i++)
        cr_expect(eq(int, states[i], expected[i]), "%s", ids[i]);
    tear_down(&world);
}

Test(tenant_registry, a_state_of_a_newer_program_is_not_ready)
{
    world_t world = {0};
    set_up(&world);
    cm_test_sql(world.pg,
                "ALTER TABLE " CM_TEST_ADMIN ".tenants DROP CONSTRAINT tenants_state_check");
    cm_test_sql(world.pg, "UPDATE " CM_TEST_ADMIN ".tenants SET state = 'moving' WHERE id = 'b'");
    cm_tenant_t tenant;
    cr_assert(
        eq(int, cm_tenant_registry_get(world.pg, CM_TEST_ADMIN, "b", &tenant, &world.err), CM_OK));
    cr_expect(eq(int, tenant.state, CM_TENANT_UNREADY));
    tear_down(&world);
}

Test(tenant_registry, one_tenant_is_read_whole)
{
    world_t world = {0};
    set_up(&world);
    cm_tenant_t tenant;
    cr_assert(
        eq(int, cm_tenant_registry_get(world.pg, CM_TEST_ADMIN, "B", &tenant, &world.err), CM_OK));
    cr_expect(eq(str, tenant.id, "B"));
    cr_expect(eq(str, tenant.name, "name of B"));
    cr_expect(eq(str, tenant.schema, "tenant_B"));
    cr_expect(eq(int, tenant.state, CM_TENANT_SUSPENDED));
    cr_expect(eq(i64, tenant.generation, 2));
    cr_expect(eq(int, tenant.schema_version, 1));
    cr_expect(eq(i64, tenant.activated_ms, 1234));
    cr_expect(eq(i64, tenant.changed_ms, 5000));
    tear_down(&world);
}

Test(tenant_registry, a_tenant_that_is_not_there_is_missing)
{
    world_t world = {0};
    set_up(&world);
    cm_tenant_t tenant;
    cr_expect(eq(int, cm_tenant_registry_get(world.pg, CM_TEST_ADMIN, "x", &tenant, &world.err),
                 CM_MISSING));
    cr_expect(eq(str, world.err.code, "tenant-missing"));
    tear_down(&world);
}

Test(tenant_registry, pages_follow_the_bytes_of_the_id)
{
    world_t world = {0};
    set_up(&world);
    const char *expected[] = {"B", "NULL", "a", "b", "c-1", "d_2"};
    char after[CM_TENANT_ID_MAX] = "";
    size_t seen = 0;
    for (;;) {
        CM_CLEANUP(cm_free) cm_tenant_t *tenants = NULL;
        size_t count = 0;
        cr_assert(eq(int,
                     cm_tenant_registry_list(world.pg, CM_TEST_ADMIN, false, 0, after, 4, &tenants,
                                             &count, &world.err),
                     CM_OK));
        if (count == 0)
            break;
        for (size_t i = 0; i < count; i++, seen++)
            cr_assert(eq(str, tenants[i].id, (char *)expected[seen]));
        memcpy(after, tenants[count - 1].id, sizeof after);
    }
    cr_expect(eq(sz, seen, 6));
    tear_down(&world);
}

Test(tenant_registry, a_list_can_be_of_one_state)
{
    world_t world = {0};
    set_up(&world);
    CM_CLEANUP(cm_free) cm_tenant_t *tenants = NULL;
    size_t count = 0;
    cr_assert(eq(int,
                 cm_tenant_registry_list(world.pg, CM_TEST_ADMIN, true, CM_TENANT_ACTIVE, "",
                                         SIZE_MAX, &tenants, &count, &world.err),
                 CM_OK));
    cr_assert(eq(sz, count, 2));
    cr_expect(eq(str, tenants[0].id, "b"));
    cr_expect(eq(str, tenants[1].id, "d_2"));
    tear_down(&world);
}

static cm_tenant_state_t state_of(world_t *self, const char *id)
{
    char ids[1][CM_TENANT_ID_MAX] = {""};
    cm_tenant_state_t state = CM_TENANT_ABSENT;
    strcpy(ids[0], id);
    cr_assert(
        eq(int,
           cm_tenant_registry_states(self->pg, CM_TEST_ADMIN, (const char(*)[CM_TENANT_ID_MAX])ids,
                                     1, &state, &self->err),
           CM_OK));
    return state;
}

Test(tenant_registry, an_active_tenant_with_an_older_schema_is_not_ready)
{
    world_t world = {0};
    set_up(&world);
    add(&world, "old", "active", CM_TENANT_SCHEMA_NEEDED - 1);
    cr_expect(eq(int, state_of(&world, "old"), CM_TENANT_UNREADY));
    cm_test_sql(world.pg,
                "UPDATE " CM_TEST_ADMIN ".tenants SET schema_version = %d WHERE id = 'old'",
                CM_TENANT_SCHEMA_NEEDED);
    cr_expect(eq(int, state_of(&world, "old"), CM_TENANT_ACTIVE));
    cr_expect(le(int, CM_TENANT_SCHEMA_NEEDED, cm_migrations_tenant.count));
    tear_down(&world);
}

Test(tenant_registry, tenants_are_counted_by_state_and_version)
{
    world_t world = {0};
    set_up(&world);
    CM_CLEANUP(cm_free) cm_tenant_count_t *counts = NULL;
    size_t count = 0;
    cr_assert(eq(int,
                 cm_tenant_registry_counts(world.pg, CM_TEST_ADMIN, &counts, &count, &world.err),
                 CM_OK));
    cr_assert(eq(sz, count, 6));
    cr_expect(eq(int, counts[0].state, CM_TENANT_ACTIVATING));
    cr_expect(eq(int, counts[1].state, CM_TENANT_ACTIVE));
    cr_expect(eq(int, counts[1].schema_version, 0));
    cr_expect(eq(int, counts[2].schema_version, CM_TENANT_SCHEMA_NEEDED));
    cr_expect(eq(i64, counts[2].tenants, 1));
    cr_expect(eq(int, counts[5].state, CM_TENANT_DELETED));
    tear_down(&world);
}

Test(tenant_registry, without_the_admin_schema_everything_is_missing)
{
    world_t world = {0};
    set_up(&world);
    cm_tenant_t tenant;
    cr_expect(eq(int, cm_tenant_registry_get(world.pg, "elsewhere", "b", &tenant, &world.err),
                 CM_MISSING));
    cr_expect(eq(str, world.err.code, "42P01"));
    tear_down(&world);
}
