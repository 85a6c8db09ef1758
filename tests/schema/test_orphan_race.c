/* The orphan deletion beside writers of the same tenant, at random. */
#include "runtime/clock.h"
#include "tests/schema/orphan_case.h"

#include <pthread.h>
#include <stdatomic.h>

TestSuite(orphan_race, .timeout = 120, .fini = cm_test_database_drop);

enum { DEVICES = 3000, WRITERS = 2 };

typedef struct {
    const char *uri;
    int number;                          /* writes the devices whose number it divides with */
    cm_change_result_t results[DEVICES]; /* of the newest contact sent */
    atomic_size_t failed;
    atomic_bool begun;
} linker_t;

/* Link every third device to a contact now, and send every third an event from long ago. */
static void *link_devices(void *ctx)
{
    linker_t *self = ctx;
    cm_pg_t *pg = cm_test_connect(self->uri);
    cm_device_store_t *store = cm_device_store_new(pg, CM_TEST_ADMIN);
    for (size_t i = (size_t)self->number; i < DEVICES; i += WRITERS) {
        char name[32];
        cm_error_t err = {0};
        client_name(name, i);
        cm_store_item_t item = {.change = i % 3 == 0 ? contact_of(name, cm_clock_epoch_ms(), 7)
                                                     : push_of(name, 1000, "token")};
        cm_store_tenant_t tenant = {.tenant = "a", .items = &item, .count = 1};
        if (i % 3 == 1)
            continue;
        if (cm_device_store_write(store, &tenant, 1, &err) != CM_OK)
            atomic_fetch_add(&self->failed, 1);
        self->results[i] = item.result;
        atomic_store(&self->begun, true);
    }
    cm_device_store_destroy(&store);
    cm_pg_destroy(&pg);
    return NULL;
}

static void put_orphans(orphan_world_t *self)
{
    cm_test_sql(self->base.other,
                "INSERT INTO tenant_a.devices (application_code, client_id, device_at, created_at)"
                " SELECT 'app', 'c' || to_char(i, 'FM000000'), t, t"
                " FROM generate_series(0, %d) AS i,"
                " LATERAL (SELECT now() - interval '40 days') AS x(t)",
                DEVICES - 1);
}

static int64_t present(orphan_world_t *self, const char *condition)
{
    return cm_test_number(self->base.other, "SELECT count(*) FROM tenant_a.devices WHERE %s",
                          condition);
}

Test(orphan_race, a_contact_that_was_applied_keeps_its_device_and_nothing_old_comes_back)
{
    orphan_world_t world = {0};
    pthread_t threads[WRITERS];
    linker_t linkers[WRITERS] = {{0}};
    set_up(&world);
    put_orphans(&world);
    world.options = (cm_orphan_options_t){.rules = world.rules,
                                          .guard_percent = 100,
                                          .batch_max = 10,
                                          .lock_timeout_ms = 20000,
                                          .lock_tries = 1};
    for (int i = 0; i < WRITERS; i++) {
        linkers[i].uri = world.base.uri;
        linkers[i].number = i;
        cr_assert(eq(int, pthread_create(&threads[i], NULL, link_devices, &linkers[i]), 0));
    }
    while (!atomic_load(&linkers[0].begun))
        ;
    RUNS(CM_OK);
    for (int i = 0; i < WRITERS; i++) {
        pthread_join(threads[i], NULL);
        cr_expect(eq(sz, linkers[i].failed, 0));
    }
    RUNS(CM_OK); /* what a writer touched after its page was read */

    int64_t applied = 0;
    for (size_t i = 0; i < DEVICES; i += 3)
        applied += linkers[i % WRITERS].results[i] == CM_CHANGE_APPLIED;
    cr_expect(gt(i64, applied, 0));
    cr_expect(eq(i64, present(&world, "contact_id = 7"), applied));
    cr_expect(eq(i64, present(&world, "contact_id IS NULL"), 0));
    cr_expect(eq(i64,
                 present(&world, "EXISTS (SELECT FROM tenant_a.tombstones AS t WHERE"
                                 " t.client_id = devices.client_id AND t.removed_at >="
                                 " least(device_at, push_at, contact_at))"),
                 0));
    tear_down(&world);
}

/* ---- one interleaving, held by hand --------------------------------------------------------- */

static void *delete_orphans(void *ctx)
{
    orphan_world_t *self = ctx;
    run_orphans(self);
    return NULL;
}

static void *send_older_event(void *ctx)
{
    orphan_world_t *self = ctx;
    cm_error_t err = {0};
    cm_pg_t *pg = cm_test_connect(self->base.uri);
    cm_device_store_t *store = cm_device_store_new(pg, CM_TEST_ADMIN);
    cm_store_item_t item = {.change = push_of("old", 1000, "token")};
    cm_store_tenant_t tenant = {.tenant = "a", .items = &item, .count = 1};
    cr_expect(eq(int, cm_device_store_write(store, &tenant, 1, &err), CM_OK), "%s", err.message);
    cr_expect(eq(int, item.result, CM_CHANGE_STALE));
    cm_device_store_destroy(&store);
    cm_pg_destroy(&pg);
    return NULL;
}

static void wait_for_waiters(orphan_world_t *self, int64_t count)
{
    while (waiters(self->base.other) < count)
        ; /* the test's time-out is the deadline */
}

/* The deletion is stopped when the row is gone and the tombstone not there yet. With locks on rows
 * alone the writer would now take its snapshot, wait, and insert the device anew. */
Test(orphan_race, an_older_event_that_comes_while_its_device_goes_is_stale)
{
    orphan_world_t world = {0};
    pthread_t deletion, writer;
    set_up(&world);
    put_device(&world, "old", 40);
    cm_test_sql(world.base.other,
                "CREATE FUNCTION tenant_a.stop() RETURNS trigger LANGUAGE plpgsql AS"
                " 'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NEW; END'");
    cm_test_sql(world.base.other, "CREATE TRIGGER stop BEFORE INSERT ON tenant_a.tombstones"
                                  " FOR EACH ROW EXECUTE FUNCTION tenant_a.stop()");
    cm_test_sql(world.base.other, "SELECT pg_advisory_lock(1)");
    world.options.lock_timeout_ms = 30000;
    cr_assert(eq(int, pthread_create(&deletion, NULL, delete_orphans, &world), 0));
    wait_for_waiters(&world, 1);
    cr_assert(eq(int, pthread_create(&writer, NULL, send_older_event, &world), 0));
    wait_for_waiters(&world, 2);
    cm_test_sql(world.base.other, "SELECT pg_advisory_unlock(1)");
    pthread_join(deletion, NULL);
    pthread_join(writer, NULL);
    cr_expect(eq(i64, world.result.deleted, 1));
    cr_expect(eq(i64, present(&world, "true"), 0));
    tear_down(&world);
}
