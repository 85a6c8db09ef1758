#include "runtime/cleanup.h"
#include "runtime/crash.h"
#include "schema/device_store.h"
#include "schema/migration.h"
#include "schema/tenant_schema.h"
#include "tests/support/schema_fixture.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

TestSuite(tenant_schema, .timeout = 60, .fini = cm_test_database_drop);

typedef struct {
    char uri[CM_TEST_URI_MAX];
    cm_pg_t *pg;
    cm_tenant_change_t change;
    cm_error_t err;
} world_t;

static void set_up(world_t *self)
{
    self->pg = cm_test_admin(self->uri);
}

static void tear_down(world_t *self)
{
    cm_pg_destroy(&self->pg);
}

static cm_status_t activate(world_t *self, const char *id, const char *name, int64_t ms)
{
    return cm_tenant_schema_activate(self->pg, CM_TEST_ADMIN, id, name, ms, NULL, &self->change,
                                     &self->err);
}

static cm_tenant_t get(world_t *self, const char *id)
{
    cm_tenant_t tenant;
    cr_assert(
        eq(int, cm_tenant_registry_get(self->pg, CM_TEST_ADMIN, id, &tenant, &self->err), CM_OK),
        "%s", self->err.message);
    return tenant;
}

static bool is_there(world_t *self, const char *schema)
{
    return cm_test_number(self->pg, "SELECT count(*) FROM pg_namespace WHERE nspname = '%s'",
                          schema) == 1;
}

static void set_state(world_t *self, const char *id, const char *state)
{
    cm_test_sql(self->pg, "UPDATE " CM_TEST_ADMIN ".tenants SET state = '%s' WHERE id = '%s'",
                state, id);
}

#define DOES(call, expected)                                                                       \
    do {                                                                                           \
        cr_assert(eq(int, call, CM_OK), "%s %s", world.err.code, world.err.message);               \
        cr_expect(eq(int, world.change, expected));                                                \
    } while (0)

/* ---- activation ----------------------------------------------------------------------------- */

Test(tenant_schema, activation_creates_the_schema_and_registers_it)
{
    world_t world = {0};
    set_up(&world);
    DOES(activate(&world, "42", "acme", 1000), CM_TENANT_CHANGED);
    cm_tenant_t tenant = get(&world, "42");
    cr_expect(eq(int, tenant.state, CM_TENANT_ACTIVE));
    cr_expect(eq(str, tenant.name, "acme"));
    cr_expect(eq(str, tenant.schema, "tenant_42"));
    cr_expect(eq(i64, tenant.generation, 1));
    cr_expect(eq(int, tenant.schema_version, cm_migrations_tenant.count));
    cr_expect(eq(i64, tenant.activated_ms, 1000));
    cr_expect(eq(i64, cm_test_number(world.pg, "SELECT count(*) FROM tenant_42.devices"), 0));
    tear_down(&world);
}

Test(tenant_schema, activation_is_idempotent)
{
    world_t world = {0};
    set_up(&world);
    DOES(activate(&world, "42", "acme", 1000), CM_TENANT_CHANGED);
    DOES(activate(&world, "42", "acme", 1000), CM_TENANT_UNCHANGED);
    DOES(activate(&world, "42", "", 2000), CM_TENANT_UNCHANGED);
    cr_expect(eq(str, get(&world, "42").name, "acme"));
    tear_down(&world);
}

Test(tenant_schema, the_newest_activation_names_the_tenant)
{
    world_t world = {0};
    set_up(&world);
    DOES(activate(&world, "42", "second", 2000), CM_TENANT_CHANGED);
    DOES(activate(&world, "42", "first", 1000), CM_TENANT_UNCHANGED);
    cr_expect(eq(str, get(&world, "42").name, "second"));
    DOES(activate(&world, "42", "third", 3000), CM_TENANT_CHANGED);
    cr_expect(eq(str, get(&world, "42").name, "third"));
    tear_down(&world);
}

Test(tenant_schema, an_id_with_dashes_and_capitals_has_a_schema_of_its_own)
{
    world_t world = {0};
    set_up(&world);
    const char *ids[] = {"a-b",
                         "A-B",
                         "a_b",
                         "A_b",
                         "L234567890123456789012345678901234567890123456789012345X",
                         "L234567890123456789012345678901234567890123456789012345Y"};
    for (size_t i = 0; i < CM_LENGTH(ids); i++)
        DOES(activate(&world, ids[i], "", 1000), CM_TENANT_CHANGED);
    cr_expect(
        eq(i64,
           cm_test_number(world.pg, "SELECT count(*) FROM pg_class AS c JOIN pg_namespace AS n"
                                    " ON n.oid = relnamespace JOIN " CM_TEST_ADMIN ".tenants"
                                    " ON nspname = schema_name WHERE relname = 'devices'"),
           CM_LENGTH(ids)));
    tear_down(&world);
}

Test(tenant_schema, a_schema_that_the_registry_does_not_know_is_left_alone)
{
    world_t world = {0};
    set_up(&world);
    cm_test_sql(world.pg, "CREATE SCHEMA tenant_42");
    cr_expect(eq(int, activate(&world, "42", "", 1000), CM_PERMANENT));
    cr_expect(eq(str, world.err.code, "schema-exists"));
    cr_expect(eq(
        int, cm_tenant_registry_get(world.pg, CM_TEST_ADMIN, "42", &(cm_tenant_t){0}, &world.err),
        CM_MISSING));
    tear_down(&world);
}

Test(tenant_schema, activation_mends_a_schema_that_was_lost)
{
    world_t world = {0};
    set_up(&world);
    DOES(activate(&world, "42", "", 1000), CM_TENANT_CHANGED);
    cm_test_sql(world.pg, "DROP SCHEMA tenant_42 CASCADE");
    DOES(activate(&world, "42", "", 1000), CM_TENANT_CHANGED);
    cr_expect(eq(i64, cm_test_number(world.pg, "SELECT count(*) FROM tenant_42.devices"), 0));
    cr_expect(eq(i64, get(&world, "42").generation, 1));
    tear_down(&world);
}

Test(tenant_schema, a_suspended_tenant_needs_an_activation_newer_than_the_suspension)
{
    world_t world = {0};
    set_up(&world);
    DOES(activate(&world, "42", "", 1000), CM_TENANT_CHANGED);
    cm_test_sql(world.pg, "UPDATE " CM_TEST_ADMIN ".tenants SET state = 'suspended',"
                          " changed_at = 'epoch'::timestamptz + interval '5 s'");
    DOES(activate(&world, "42", "", 5000), CM_TENANT_UNCHANGED);
    cr_expect(eq(int, get(&world, "42").state, CM_TENANT_SUSPENDED));
    DOES(activate(&world, "42", "", 5001), CM_TENANT_CHANGED);
    cr_expect(eq(int, get(&world, "42").state, CM_TENANT_ACTIVE));
    tear_down(&world);
}

Test(tenant_schema, a_half_made_tenant_is_completed)
{
    world_t world = {0};
    set_up(&world);
    cm_test_sql(world.pg, "INSERT INTO " CM_TEST_ADMIN ".tenants (id, schema_name, state)"
                          " VALUES ('42', 'tenant_42', 'activating')");
    cm_test_sql(world.pg, "CREATE SCHEMA tenant_42");
    DOES(activate(&world, "42", "", 1000), CM_TENANT_CHANGED);
    cr_expect(eq(i64, get(&world, "42").generation, 1));
    tear_down(&world);
}

/* ---- a deleted tenant ----------------------------------------------------------------------- */

Test(tenant_schema, an_activation_not_newer_than_the_deletion_changes_nothing)
{
    world_t world = {0};
    set_up(&world);
    DOES(activate(&world, "42", "", 1000), CM_TENANT_CHANGED);
    cm_test_delete(world.pg, "42", 2000);
    DOES(activate(&world, "42", "", 1000), CM_TENANT_UNCHANGED);
    DOES(activate(&world, "42", "", 2000), CM_TENANT_UNCHANGED);
    cr_expect(not(is_there(&world, "tenant_42")));
    tear_down(&world);
}

Test(tenant_schema, a_newer_activation_raises_the_generation)
{
    world_t world = {0};
    set_up(&world);
    DOES(activate(&world, "42", "", 1000), CM_TENANT_CHANGED);
    cm_test_delete(world.pg, "42", 2000);
    DOES(activate(&world, "42", "", 2001), CM_TENANT_CHANGED);
    cr_expect(eq(i64, get(&world, "42").generation, 2));
    cr_expect(is_there(&world, "tenant_42"));
    tear_down(&world);
}

#define FENCES                                                                                     \
    "SELECT application_code, client_id, extract(epoch FROM removed_at)::integer"                  \
    " FROM tenant_42.tombstones"

Test(tenant_schema, a_new_generation_begins_with_a_fence_at_the_time_of_the_deletion)
{
    world_t world = {0};
    set_up(&world);
    cm_test_delete(world.pg, "42", 1000);
    cm_test_delete(world.pg, "42", 2000);
    DOES(activate(&world, "42", "", 3000), CM_TENANT_CHANGED);
    CM_CLEANUP(cm_free) char *fences = cm_test_rows(world.pg, FENCES);
    cr_expect(eq(str, fences, "||2"));
    tear_down(&world);
}

Test(tenant_schema, a_schema_that_is_mended_gets_its_fence_again)
{
    world_t world = {0};
    set_up(&world);
    cm_test_delete(world.pg, "42", 2000);
    DOES(activate(&world, "42", "", 3000), CM_TENANT_CHANGED);
    cm_test_sql(world.pg, "DROP SCHEMA tenant_42 CASCADE");
    DOES(activate(&world, "42", "", 3000), CM_TENANT_CHANGED);
    CM_CLEANUP(cm_free) char *fences = cm_test_rows(world.pg, FENCES);
    cr_expect(eq(str, fences, "||2"));
    tear_down(&world);
}

Test(tenant_schema, the_first_generation_has_no_fence)
{
    world_t world = {0};
    set_up(&world);
    DOES(activate(&world, "42", "", 3000), CM_TENANT_CHANGED);
    cr_expect(eq(i64, cm_test_number(world.pg, "SELECT count(*) FROM tenant_42.tombstones"), 0));
    tear_down(&world);
}

Test(tenant_schema, while_a_deletion_runs_newer_activations_wait_and_older_ones_are_repetitions)
{
    world_t world = {0};
    set_up(&world);
    DOES(activate(&world, "42", "", 1000), CM_TENANT_CHANGED);
    cm_test_sql(world.pg, "UPDATE " CM_TEST_ADMIN ".tenants SET state = 'deleting',"
                          " deleted_at = 'epoch'::timestamptz + interval '2 s'");
    cr_expect(eq(int, activate(&world, "42", "", 9000), CM_TRANSIENT));
    cr_expect(eq(str, world.err.code, "tenant-deleting"));
    DOES(activate(&world, "42", "", 2000), CM_TENANT_UNCHANGED);
    cr_expect(eq(int, get(&world, "42").state, CM_TENANT_DELETING));
    tear_down(&world);
}

/* ---- migration ------------------------------------------------------------------------------ */

Test(tenant_schema, migration_of_a_tenant_at_the_newest_version_changes_nothing)
{
    world_t world = {0};
    set_up(&world);
    DOES(activate(&world, "42", "", 1000), CM_TENANT_CHANGED);
    DOES(cm_tenant_schema_migrate(world.pg, CM_TEST_ADMIN, "42", &world.change, &world.err),
         CM_TENANT_UNCHANGED);
    tear_down(&world);
}

Test(tenant_schema, migration_of_an_unknown_tenant_is_missing)
{
    world_t world = {0};
    set_up(&world);
    cr_expect(eq(int,
                 cm_tenant_schema_migrate(world.pg, CM_TEST_ADMIN, "42", &world.change, &world.err),
                 CM_MISSING));
    cr_expect(eq(str, world.err.code, "tenant-missing"));
    tear_down(&world);
}

/* Tenants t000 to t<count-1> at version 0: a schema, and no table in it yet. */
static void add_old_tenants(world_t *self, int count)
{
    cm_test_sql(self->pg,
                "INSERT INTO " CM_TEST_ADMIN ".tenants (id, schema_name, state)"
                " SELECT 't' || lpad(i::text, 3, '0'), 'tenant_t' || lpad(i::text, 3, '0'),"
                " (ARRAY['active', 'suspended'])[1 + i %% 2] FROM generate_series(0, %d - 1) AS i",
                count);
    for (int i = 0; i < count; i++)
        cm_test_sql(self->pg, "CREATE SCHEMA tenant_t%03d", i);
}

typedef struct {
    size_t calls, failures;
    char last_failed[64], last_code[CM_ERROR_CODE_MAX];
} followed_t;

static void follow(void *ctx, const cm_migrate_progress_t *now)
{
    followed_t *self = ctx;
    self->calls++;
    if (now->failed == self->failures)
        return;
    self->failures = now->failed;
    snprintf(self->last_failed, sizeof self->last_failed, "%s", now->last_failed);
    snprintf(self->last_code, sizeof self->last_code, "%s", now->last_error->code);
}

static cm_status_t migrate_all(world_t *self, int connections, followed_t *followed,
                               cm_migrate_progress_t *progress)
{
    cm_pg_options_t options = {.uri = self->uri, .connect_timeout_ms = 2000};
    *followed = (followed_t){0};
    return cm_tenant_schema_migrate_all(self->pg, &options, CM_TEST_ADMIN, connections, follow,
                                        followed, progress, &self->err);
}

Test(tenant_schema, all_tenants_are_migrated_in_parallel)
{
    world_t world = {0};
    followed_t followed;
    cm_migrate_progress_t progress;
    set_up(&world);
    add_old_tenants(&world, 60);
    DOES(activate(&world, "new", "", 1000), CM_TENANT_CHANGED);
    cr_assert(eq(int, migrate_all(&world, 4, &followed, &progress), CM_OK));
    cr_expect(eq(sz, progress.total, 60));
    cr_expect(eq(sz, progress.done, 60));
    cr_expect(eq(sz, progress.changed, 60));
    cr_expect(eq(sz, progress.failed, 0));
    cr_expect(eq(sz, followed.calls, 60));
    cr_expect(eq(i64,
                 cm_test_number(world.pg,
                                "SELECT count(*) FROM " CM_TEST_ADMIN ".tenants"
                                " WHERE schema_version = %d",
                                cm_migrations_tenant.count),
                 61));
    cr_assert(eq(int, migrate_all(&world, 4, &followed, &progress), CM_OK));
    cr_expect(eq(sz, progress.total, 0));
    cr_expect(eq(sz, followed.calls, 0));
    tear_down(&world);
}

Test(tenant_schema, migration_goes_on_past_failures_and_resumes)
{
    world_t world = {0};
    followed_t followed;
    cm_migrate_progress_t progress;
    set_up(&world);
    add_old_tenants(&world, 20);
    cm_test_sql(world.pg, "DROP SCHEMA tenant_t007");
    cr_assert(eq(int, migrate_all(&world, 3, &followed, &progress), CM_OK));
    cr_expect(eq(sz, progress.done, 20));
    cr_expect(eq(sz, progress.changed, 19));
    cr_expect(eq(sz, progress.failed, 1));
    cr_expect(eq(str, followed.last_failed, "t007"));
    cr_expect(eq(str, followed.last_code, "3F000"));
    cm_test_sql(world.pg, "CREATE SCHEMA tenant_t007");
    cr_assert(eq(int, migrate_all(&world, 3, &followed, &progress), CM_OK));
    cr_expect(eq(sz, progress.total, 1));
    cr_expect(eq(sz, progress.changed, 1));
    tear_down(&world);
}

Test(tenant_schema, deleted_tenants_are_not_migrated)
{
    world_t world = {0};
    followed_t followed;
    cm_migrate_progress_t progress;
    set_up(&world);
    add_old_tenants(&world, 3);
    set_state(&world, "t000", "deleting");
    set_state(&world, "t001", "deleted");
    cr_assert(eq(int, migrate_all(&world, 100, &followed, &progress), CM_OK));
    cr_expect(eq(sz, progress.total, 1));
    tear_down(&world);
}

Test(tenant_schema, migration_that_cannot_connect_says_so_and_leaves_the_rest)
{
    world_t world = {0};
    followed_t followed;
    cm_migrate_progress_t progress;
    set_up(&world);
    add_old_tenants(&world, 50);
    cm_pg_options_t options = {.uri = "postgresql:///nowhere?host=/nonexistent",
                               .connect_timeout_ms = 1000};
    cr_expect(eq(int,
                 cm_tenant_schema_migrate_all(world.pg, &options, CM_TEST_ADMIN, 2, follow,
                                              &followed, &progress, &world.err),
                 CM_UNAVAILABLE));
    cr_expect(lt(sz, progress.done, 3));
    tear_down(&world);
}

/* ---- at the same time ----------------------------------------------------------------------- */

static int reap(pid_t child)
{
    int status = -1;
    cr_assert(eq(int, waitpid(child, &status, 0), child));
    return status;
}

Test(tenant_schema, eight_processes_may_activate_one_tenant_at_once)
{
    world_t world = {0};
    set_up(&world);
    pid_t children[8];
    int changed = 0;
    for (size_t i = 0; i < CM_LENGTH(children); i++) {
        children[i] = fork();
        if (children[i] == 0) {
            world_t own = {0};
            memcpy(own.uri, world.uri, sizeof own.uri);
            own.pg = cm_test_connect(own.uri);
            _exit(activate(&own, "42", "", 1000) != CM_OK ? 2 : own.change == CM_TENANT_CHANGED);
        }
    }
    for (size_t i = 0; i < CM_LENGTH(children); i++) {
        int status = reap(children[i]);
        bool done = WIFEXITED(status) && WEXITSTATUS(status) < 2;
        cr_assert(done);
        changed += WEXITSTATUS(status);
    }
    cr_expect(eq(int, changed, 1));
    cr_expect(eq(i64, get(&world, "42").generation, 1));
    tear_down(&world);
}

Test(tenant_schema, activations_and_deletions_at_once_leave_a_tenant_with_schema_or_without)
{
    world_t world = {0};
    set_up(&world);
    pid_t children[6];
    for (int i = 0; i < 6; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            world_t own = {0};
            memcpy(own.uri, world.uri, sizeof own.uri);
            own.pg = cm_test_connect(own.uri);
            for (int round = 0; round < 10; round++) {
                int ms = 1000 + (round * 5 + i * 3) % 40;
                if (i % 2)
                    cm_test_delete(own.pg, "42", ms);
                else if (activate(&own, "42", "", ms) != CM_OK &&
                         strcmp(own.err.code, "tenant-deleting") != 0)
                    _exit(1);
            }
            _exit(0);
        }
    }
    for (int i = 0; i < 6; i++)
        cr_expect(eq(int, reap(children[i]), 0));
    cr_expect(eq(i64,
                 cm_test_number(world.pg,
                                "SELECT count(*) FROM " CM_TEST_ADMIN ".tenants WHERE"
                                " (state = 'active') = (to_regnamespace('tenant_42') IS NOT NULL)"),
                 1));
    cr_assert(eq(int, activate(&world, "42", "", 2000), CM_OK));
    cr_expect(eq(int, cm_test_delete(world.pg, "42", 2001), 4));
    tear_down(&world);
}

/* A writer that has no rest until it is told that the tenant is gone. */
static int write_until_missing(const char *uri)
{
    cm_error_t err = {0};
    cm_pg_t *pg = cm_test_connect(uri);
    cm_device_store_t *store = cm_device_store_new(pg, CM_TEST_ADMIN);
    for (int64_t ms = 1; ms < 100000; ms++) {
        cm_store_item_t item = {.change = {.application_code = CM_STR("app"),
                                           .client_id = CM_STR("c"),
                                           .device_ms = ms,
                                           .push_ms = CM_TIME_NONE,
                                           .contact_ms = CM_TIME_NONE,
                                           .removed_ms = ms % 3 ? CM_TIME_NONE : ms - 1}};
        cm_store_tenant_t tenant = {.tenant = "42", .items = &item, .count = 1};
        if (cm_device_store_write(store, &tenant, 1, &err) != CM_OK)
            return 1;
        if (item.result == CM_CHANGE_FAILED)
            return item.error->status == CM_MISSING ? 0 : 2;
    }
    return 3;
}

Test(tenant_schema, a_tenant_can_be_dropped_under_busy_writers)
{
    world_t world = {0};
    set_up(&world);
    for (int round = 0; round < 5; round++) {
        DOES(activate(&world, "42", "", 1000 + 2 * round), CM_TENANT_CHANGED);
        pid_t children[3];
        for (int i = 0; i < 3; i++) {
            children[i] = fork();
            if (children[i] == 0)
                _exit(write_until_missing(world.uri));
        }
        while (cm_test_number(world.pg, "SELECT count(*) FROM tenant_42.devices") == 0)
            cm_test_sql(world.pg, "SELECT pg_sleep(0.01)");
        cr_expect(eq(int, cm_test_delete(world.pg, "42", 1001 + 2 * round), 4));
        for (int i = 0; i < 3; i++)
            cr_expect(eq(int, reap(children[i]), 0));
        cr_expect(not(is_there(&world, "tenant_42")));
    }
    tear_down(&world);
}

#ifdef CM_CRASH_POINTS
/* Kill a process at each arrival at "ddl-step" in turn until none is left: what stands is nothing
 * or all, and the next try completes it. */
static void kill_at_every_step(world_t *world, cm_status_t (*step)(world_t *, const char *id),
                               const char *id)
{
    bool killed = true;
    int points = 0;
    for (int point = 1; killed; point++, points++) {
        pid_t child = fork();
        if (child == 0) {
            char spec[32];
            world_t own = {0};
            snprintf(spec, sizeof spec, "ddl-step:%d", point);
            memcpy(own.uri, world->uri, sizeof own.uri);
            own.pg = cm_test_connect(own.uri);
            if (cm_crash_arm(spec, &own.err) != CM_OK)
                _exit(2);
            _exit(step(&own, id) == CM_OK ? 0 : 1);
        }
        int status = reap(child);
        killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
        bool expected = killed || status == 0;
        cr_assert(expected);
        cr_expect(eq(i64,
                     cm_test_number(world->pg,
                                    "SELECT count(*) FROM pg_namespace AS n WHERE nspname ="
                                    " 'tenant_%s' AND NOT EXISTS (SELECT FROM " CM_TEST_ADMIN
                                    ".tenants WHERE schema_name = nspname AND state = 'active')",
                                    id),
                     0));
    }
    cr_expect(gt(int, points, 2));
}

static cm_status_t activate_newer(world_t *self, const char *id)
{
    return activate(self, id, "", 1000);
}

Test(tenant_schema, killed_anywhere_it_leaves_nothing_or_all)
{
    world_t world = {0};
    set_up(&world);
    kill_at_every_step(&world, activate_newer, "42");
    cr_expect(is_there(&world, "tenant_42"));
    tear_down(&world);
}
#endif
