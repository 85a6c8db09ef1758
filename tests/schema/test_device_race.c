/* What two connections do to one tenant at the same time. */
#include "runtime/clock.h"
#include "schema/contact_store.h"
#include "schema/erasure.h"
#include "tests/schema/store_case.h"

#include <pthread.h>
#include <stdatomic.h>

enum { ROUNDS = 3000, TENANTS = 3, ROWS_EACH = 40 };

TestSuite(device_race, .timeout = 120, .fini = cm_test_database_drop);

typedef struct {
    const char *uri;
    pthread_barrier_t *barrier;
    cm_device_change_t (*change)(size_t round, const char *client_id);
    uint64_t random;
    atomic_size_t failed;
} racer_t;

static void write_or_count(racer_t *self, cm_device_store_t *store, cm_store_tenant_t *tenants,
                           size_t count)
{
    cm_error_t err = {0};
    if (cm_device_store_write(store, tenants, count, &err) != CM_OK)
        atomic_fetch_add(&self->failed, 1);
    for (size_t t = 0; t < count; t++)
        for (size_t i = 0; i < tenants[t].count; i++)
            if (tenants[t].items[i].result == CM_CHANGE_FAILED)
                atomic_fetch_add(&self->failed, 1);
}

/* Both racers start a round together, give or take some microseconds. */
static void start_together(racer_t *self)
{
    pthread_barrier_wait(self->barrier);
    int64_t until = cm_clock_mono_us() + (int64_t)cm_random_below(&self->random, 300);
    while (cm_clock_mono_us() < until)
        ;
}

static void *race_for_one_device(void *ctx)
{
    racer_t *self = ctx;
    cm_pg_t *pg = cm_test_connect(self->uri);
    cm_device_store_t *store = cm_device_store_new(pg, CM_TEST_ADMIN);
    for (size_t round = 0; round < ROUNDS; round++) {
        char name[32];
        cm_store_item_t item = {.change = self->change(round, client_name(name, round))};
        cm_store_tenant_t tenant = {.tenant = "a", .items = &item, .count = 1};
        start_together(self);
        write_or_count(self, store, &tenant, 1);
    }
    cm_device_store_destroy(&store);
    cm_pg_destroy(&pg);
    return NULL;
}

static cm_device_change_t older_device(size_t round, const char *client_id)
{
    (void)round;
    return device_of(client_id, 10, "ios");
}

static cm_device_change_t newer_removal(size_t round, const char *client_id)
{
    (void)round;
    return removal_of(client_id, 20);
}

static size_t race(store_world_t *world, void *(*body)(void *),
                   cm_device_change_t (*one)(size_t, const char *),
                   cm_device_change_t (*two)(size_t, const char *))
{
    pthread_barrier_t barrier;
    pthread_t threads[2];
    racer_t racers[2] = {{world->uri, &barrier, one, 1, 0}, {world->uri, &barrier, two, 2, 0}};
    pthread_barrier_init(&barrier, NULL, 2);
    for (int i = 0; i < 2; i++)
        cr_assert(eq(int, pthread_create(&threads[i], NULL, body, &racers[i]), 0));
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&barrier);
    return racers[0].failed + racers[1].failed;
}

Test(device_race, an_older_change_never_slips_in_beside_a_removal)
{
    store_world_t world = {0};
    store_set_up(&world);
    cr_expect(eq(sz, race(&world, race_for_one_device, older_device, newer_removal), 0));
    cr_expect(eq(i64, cm_test_number(world.other, "SELECT count(*) FROM tenant_a.devices"), 0));
    cr_expect(
        eq(i64, cm_test_number(world.other, "SELECT count(*) FROM tenant_a.tombstones"), ROUNDS));
    store_tear_down(&world);
}

static cm_device_change_t older_link(size_t round, const char *client_id)
{
    cm_device_change_t change = contact_of(client_id, 10, (int64_t)round);
    cm_device_change_t push = push_of(client_id, 10, "token");
    cm_device_change_merge(&change, &push);
    return change;
}

/* A racer without changes deletes the contact of each round. */
static void *race_for_one_contact(void *ctx)
{
    racer_t *self = ctx;
    if (self->change)
        return race_for_one_device(ctx);
    const cm_contact_place_t place = {CM_TEST_ADMIN, ""};
    cm_pg_t *pg = cm_test_connect(self->uri);
    for (size_t round = 0; round < ROUNDS; round++) {
        cm_error_t err = {0};
        cm_contact_totals_t totals = {0};
        cm_contact_item_t item = {.contact_id = (int64_t)round, .deleted_ms = 20};
        cm_contact_tenant_t tenant = {"a", &item, 1};
        start_together(self);
        if (cm_contact_store_delete(pg, &place, &tenant, 1, &totals, &err) != CM_OK ||
            item.result != CM_CONTACT_APPLIED)
            atomic_fetch_add(&self->failed, 1);
    }
    cm_pg_destroy(&pg);
    return NULL;
}

Test(device_race, a_late_link_never_slips_in_beside_the_deletion_of_its_contact)
{
    store_world_t world = {0};
    store_set_up(&world);
    cr_expect(eq(sz, race(&world, race_for_one_contact, older_link, NULL), 0));
    cr_expect(eq(i64, cm_test_number(world.other, "SELECT count(*) FROM tenant_a.devices"), 0));
    cr_expect(
        eq(i64,
           cm_test_number(
               world.other,
               "SELECT count(*) FROM tenant_a.tombstones"
               " WHERE application_code <> '' AND removed_at = 'epoch'::timestamptz + interval"
               " '20 ms'"),
           ROUNDS));
    store_tear_down(&world);
}

/* A sweep that rewrites the tables again and again under the writer and the deletion of contacts.
 */
static void *sweep_while(void *ctx)
{
    racer_t *self = ctx;
    if (self->change)
        return race_for_one_device(ctx);
    const cm_erasure_choice_t choice = {
        .only = "a", .noted_or_not = true, .key = "", .lock_ms = 10000};
    cm_pg_t *pg = cm_test_connect(self->uri);
    for (size_t round = 0; round < ROUNDS; round++) {
        char tenant[CM_TENANT_ID_MAX];
        cm_error_t err = {0};
        cm_erasure_step_t step = CM_ERASURE_REWRITTEN;
        start_together(self);
        if (round % 50 == 0 &&
            cm_erasure_sweep_next(pg, CM_TEST_ADMIN, &choice, tenant, &step, &err) != CM_OK)
            atomic_fetch_add(&self->failed, 1);
    }
    cm_pg_destroy(&pg);
    return NULL;
}

Test(device_race, a_sweep_loses_no_row_that_is_written_beside_it)
{
    store_world_t world = {0};
    store_set_up(&world);
    cr_expect(eq(sz, race(&world, sweep_while, older_link, NULL), 0));
    cr_expect(
        eq(i64, cm_test_number(world.other, "SELECT count(*) FROM tenant_a.devices"), ROUNDS));
    store_tear_down(&world);
}

static cm_device_change_t even_older(size_t round, const char *client_id)
{
    return push_of(client_id, 10 + (int64_t)(round % 2), "even");
}

static cm_device_change_t odd_older(size_t round, const char *client_id)
{
    return push_of(client_id, 11 - (int64_t)(round % 2), "odd");
}

Test(device_race, of_two_writers_the_newer_wins)
{
    store_world_t world = {0};
    store_set_up(&world);
    cr_expect(eq(sz, race(&world, race_for_one_device, even_older, odd_older), 0));
    cr_expect(
        eq(i64,
           cm_test_number(world.other, "SELECT count(*) FROM tenant_a.devices WHERE push_token ="
                                       " CASE WHEN substr(client_id, 2)::int %% 2 = 0 THEN 'odd'"
                                       " ELSE 'even' END"),
           ROUNDS));
    store_tear_down(&world);
}

/* Removals and updates of the same devices of several tenants, mixed at random. */
static void *race_through_tenants(void *ctx)
{
    racer_t *self = ctx;
    cm_pg_t *pg = cm_test_connect(self->uri);
    cm_device_store_t *store = cm_device_store_new(pg, CM_TEST_ADMIN);
    char names[ROWS_EACH][32];
    for (size_t i = 0; i < ROWS_EACH; i++)
        client_name(names[i], i);
    for (int64_t round = 0; round < ROUNDS / 10; round++) {
        cm_store_item_t items[TENANTS][ROWS_EACH];
        cm_store_tenant_t tenants[TENANTS];
        for (size_t t = 0; t < TENANTS; t++) {
            tenants[t] = (cm_store_tenant_t){.items = items[t], .count = ROWS_EACH};
            tenants[t].tenant[0] = (char)('a' + t);
            bool removes = cm_random_below(&self->random, 3) == 0;
            for (size_t i = 0; i < ROWS_EACH; i++) {
                bool removal = removes && cm_random_below(&self->random, 4) == 0;
                int64_t ms = round + (int64_t)cm_random_below(&self->random, 10);
                items[t][i] = (cm_store_item_t){.change = removal ? removal_of(names[i], ms)
                                                                  : device_of(names[i], ms, "x")};
            }
        }
        start_together(self);
        write_or_count(self, store, tenants, TENANTS);
    }
    atomic_fetch_add(&self->failed, cm_device_store_stats(store).isolations);
    cm_device_store_destroy(&store);
    cm_pg_destroy(&pg);
    return NULL;
}

Test(device_race, writers_of_the_same_tenants_never_deadlock)
{
    store_world_t world = {0};
    store_set_up(&world);
    cm_test_tenant(world.other, "b");
    cm_test_tenant(world.other, "c");
    cr_expect(eq(sz, race(&world, race_through_tenants, NULL, NULL), 0));
    cr_expect(
        eq(i64,
           cm_test_number(world.other, "SELECT count(*) FROM tenant_b.devices JOIN"
                                       " tenant_b.tombstones USING (application_code, client_id)"
                                       " WHERE device_at <= removed_at"),
           0));
    store_tear_down(&world);
}
