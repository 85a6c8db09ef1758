/* Verdicts beside the writer, and beside a brake of another instance. */
#include "runtime/clock.h"
#include "schema/push_brake_store.h"
#include "tests/schema/verdict_case.h"

#include <pthread.h>
#include <stdatomic.h>

enum { ROUNDS = 400, ROWS = 60, BRAKE_ROUNDS = 150, BRAKE_ROWS = 20 };

TestSuite(token_status_race, .timeout = 240, .fini = cm_test_database_drop);

typedef struct {
    const char *uri;
    pthread_barrier_t *barrier;
    uint64_t random;
    atomic_size_t failed;
    uint64_t isolations;
} racer_t;

static void start_together(racer_t *self)
{
    pthread_barrier_wait(self->barrier);
    int64_t until = cm_clock_mono_us() + (int64_t)cm_random_below(&self->random, 300);
    while (cm_clock_mono_us() < until)
        ;
}

typedef char name_t[16];

static void fill_names(name_t names[ROWS])
{
    for (int i = 0; i < ROWS; i++)
        snprintf(names[i], sizeof names[i], "c%03d", i);
}

static int64_t time_of(int64_t round, racer_t *self)
{
    return 100 + round * 10 + (int64_t)cm_random_below(&self->random, 20);
}

/* Registrations of the same devices, in order of the key, some moving tokens between them. */
static void *register_devices(void *ctx)
{
    racer_t *self = ctx;
    name_t names[ROWS];
    cm_pg_t *pg = cm_test_connect(self->uri);
    cm_device_store_t *store = cm_device_store_new(pg, CM_TEST_ADMIN);
    fill_names(names);
    for (int64_t round = 0; round < ROUNDS; round++) {
        cm_store_item_t items[ROWS];
        cm_store_tenant_t tenant = {.tenant = "a", .items = items, .count = ROWS};
        cm_error_t err = {0};
        for (int i = 0; i < ROWS; i++)
            items[i].change = (cm_device_change_t){
                .application_code = CM_STR("app"),
                .client_id = cm_str(names[i]),
                .device_ms = CM_TIME_NONE,
                .push_ms = time_of(round, self),
                .push_token = cm_str(names[cm_random_below(&self->random, ROWS)]),
                .push_address_type = CM_STR("fcm"),
                .contact_ms = CM_TIME_NONE,
                .removed_ms = CM_TIME_NONE};
        start_together(self);
        if (cm_device_store_write(store, &tenant, 1, &err) != CM_OK)
            atomic_fetch_add(&self->failed, 1);
    }
    self->isolations = cm_device_store_stats(store).isolations;
    cm_device_store_destroy(&store);
    cm_pg_destroy(&pg);
    return NULL;
}

/* Verdicts about them in reverse order, by client id, by token, and both. */
static void *judge_tokens(void *ctx)
{
    racer_t *self = ctx;
    name_t names[ROWS];
    cm_pg_t *pg = cm_test_connect(self->uri);
    cm_token_status_store_t *store = cm_token_status_store_new(pg, CM_TEST_ADMIN);
    fill_names(names);
    for (int64_t round = 0; round < ROUNDS; round++) {
        cm_token_verdict_t verdicts[ROWS];
        cm_token_tenant_t tenant = {.tenant = "a", .verdicts = verdicts, .count = ROWS};
        cm_error_t err = {0};
        for (int i = 0; i < ROWS; i++) {
            const char *name = names[ROWS - 1 - i];
            unsigned form = (unsigned)cm_random_below(&self->random, 3);
            verdicts[i] = by_both(form != 1 ? name : NULL, form != 0 ? name : NULL,
                                  (int)cm_random_below(&self->random, 2), time_of(round, self));
        }
        start_together(self);
        if (cm_token_status_store_write(store, &tenant, 1, &err) != CM_OK)
            atomic_fetch_add(&self->failed, 1);
        for (int i = 0; i < ROWS; i++)
            if (verdicts[i].result == CM_TOKEN_FAILED)
                atomic_fetch_add(&self->failed, 1);
    }
    self->isolations = cm_token_status_store_stats(store).isolations;
    cm_token_status_store_destroy(&store);
    cm_pg_destroy(&pg);
    return NULL;
}

static void race(verdict_world_t *world, void *(*const bodies[])(void *), racer_t *racers,
                 size_t count)
{
    pthread_barrier_t barrier;
    pthread_t threads[4];
    pthread_barrier_init(&barrier, NULL, (unsigned)count);
    for (size_t i = 0; i < count; i++) {
        racers[i] = (racer_t){.uri = world->uri, .barrier = &barrier, .random = i + 1};
        cr_assert(eq(int, pthread_create(&threads[i], NULL, bodies[i], &racers[i]), 0));
    }
    for (size_t i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&barrier);
}

/* isolations counts whatever went wrong at first: a deadlock would be among it. */
Test(token_status_race, verdicts_never_deadlock_with_a_writer_or_with_each_other)
{
    verdict_world_t world;
    racer_t racers[3];
    void *(*const bodies[])(void *) = {register_devices, judge_tokens, judge_tokens};
    verdict_set_up(&world);
    race(&world, bodies, racers, 3);
    for (int i = 0; i < 3; i++) {
        cr_expect(eq(sz, atomic_load(&racers[i].failed), 0));
        cr_expect(eq(u64, racers[i].isolations, 0), "racer %d", i);
    }
    cr_expect(eq(i64, cm_test_number(world.other, "SELECT count(*) FROM tenant_a.devices"), ROWS));
    cr_expect(eq(i64,
                 cm_test_number(world.other, "SELECT count(*) FROM tenant_a.devices"
                                             " WHERE push_status_at < push_at"),
                 0));
    verdict_tear_down(&world);
}

/* ---- a brake beside a verdict --------------------------------------------------------------- */

static const char *round_name(char name[32], int64_t round, int row)
{
    snprintf(name, 32, "r%03d-%02d", (int)round, row);
    return name;
}

static void *judge_gone(void *ctx)
{
    racer_t *self = ctx;
    cm_pg_t *pg = cm_test_connect(self->uri);
    cm_token_status_store_t *store = cm_token_status_store_new(pg, CM_TEST_ADMIN);
    for (int64_t round = 0; round < BRAKE_ROUNDS; round++) {
        char names[BRAKE_ROWS][32];
        cm_token_verdict_t verdicts[BRAKE_ROWS];
        cm_token_tenant_t tenant = {.tenant = "a", .verdicts = verdicts, .count = BRAKE_ROWS};
        cm_error_t err = {0};
        for (int i = 0; i < BRAKE_ROWS; i++)
            verdicts[i] = by_client(round_name(names[i], round, i), GONE, 1000);
        start_together(self);
        if (cm_token_status_store_write(store, &tenant, 1, &err) != CM_OK)
            atomic_fetch_add(&self->failed, 1);
        for (int i = 0; i < BRAKE_ROWS; i++)
            if (verdicts[i].result != CM_TOKEN_APPLIED && verdicts[i].result != CM_TOKEN_HELD)
                atomic_fetch_add(&self->failed, 1);
        pthread_barrier_wait(self->barrier); /* the round is over */
        pthread_barrier_wait(self->barrier); /* the next one is made */
    }
    cm_token_status_store_destroy(&store);
    cm_pg_destroy(&pg);
    return NULL;
}

/* Puts the brake on, looks what came of the round, takes it off. */
static void *brake(void *ctx)
{
    racer_t *self = ctx;
    cm_pg_t *pg = cm_test_connect(self->uri);
    cm_token_status_store_t *store = cm_token_status_store_new(pg, CM_TEST_ADMIN);
    for (int64_t round = 0; round < BRAKE_ROUNDS; round++) {
        cm_token_trip_t trip = {.application_code = CM_STR("app"),
                                .provider = "fcm",
                                .judged = 1,
                                .gone = 1,
                                .since_ms = 3600000};
        cm_token_tenant_t tenant = {.tenant = "a", .trips = &trip, .trip_count = 1};
        cm_error_t err = {0};
        start_together(self);
        if (cm_token_status_store_write(store, &tenant, 1, &err) != CM_OK || !trip.is_new)
            atomic_fetch_add(&self->failed, 1);
        pthread_barrier_wait(self->barrier);
        if (cm_test_number(pg, "SELECT count(*) FROM tenant_a.devices"
                               " WHERE push_status IS NOT NULL") != 0 ||
            cm_test_number(pg, "SELECT count(*) FROM tenant_a.push_verdicts_held WHERE held") !=
                BRAKE_ROWS)
            atomic_fetch_add(&self->failed, 1);
        cm_test_sql(pg, "DELETE FROM " CM_TEST_ADMIN ".push_brakes");
        cm_test_sql(pg, "DELETE FROM tenant_a.push_verdicts_held");
        pthread_barrier_wait(self->barrier);
    }
    cm_token_status_store_destroy(&store);
    cm_pg_destroy(&pg);
    return NULL;
}

/* The devices of all rounds. */
static void insert_rounds(verdict_world_t *world)
{
    cm_test_sql(world->other,
                "INSERT INTO tenant_a.devices (application_code, client_id, push_at, push_token)"
                " SELECT 'app', format('r%%s-%%s', lpad(r::text, 3, '0'), lpad(i::text, 2, '0')),"
                " to_timestamp(0.010), 'tok' FROM generate_series(0, %d) AS r,"
                " generate_series(0, %d) AS i",
                BRAKE_ROUNDS - 1, BRAKE_ROWS - 1);
}

Test(token_status_race, no_instance_slips_past_a_brake_that_another_one_puts_on)
{
    verdict_world_t world;
    racer_t racers[2];
    void *(*const bodies[])(void *) = {judge_gone, brake};
    verdict_set_up(&world);
    insert_rounds(&world);
    race(&world, bodies, racers, 2);
    cr_expect(eq(sz, atomic_load(&racers[0].failed), 0));
    cr_expect(eq(sz, atomic_load(&racers[1].failed), 0));
    verdict_tear_down(&world);
}

/* Puts a brake on, releases it while verdicts are held, looks what came of the round. */
static void *release(void *ctx)
{
    racer_t *self = ctx;
    cm_pg_t *pg = cm_test_connect(self->uri);
    cm_push_brake_decision_t decision = {"a", "app", "fcm", true};
    cm_audit_trail_t audit = {.actor = "test"};
    for (int64_t round = 0; round < BRAKE_ROUNDS; round++) {
        cm_push_brake_step_t step = {0};
        cm_error_t err = {0};
        cm_test_sql(pg, "INSERT INTO " CM_TEST_ADMIN ".push_brakes (tenant, application_code,"
                        " provider, judged, gone) VALUES ('a', 'app', 'fcm', 1, 1)");
        start_together(self);
        while (!step.is_over)
            if (cm_push_brake_decide(pg, CM_TEST_ADMIN, &decision, 5, &audit, &step, &err) !=
                CM_OK) {
                atomic_fetch_add(&self->failed, 1);
                break;
            }
        pthread_barrier_wait(self->barrier);
        if (cm_test_number(pg, "SELECT count(*) FROM tenant_a.devices"
                               " WHERE push_status = 'invalid'") != (round + 1) * BRAKE_ROWS ||
            cm_test_number(pg, "SELECT count(*) FROM tenant_a.push_verdicts_held WHERE held") != 0)
            atomic_fetch_add(&self->failed, 1);
        pthread_barrier_wait(self->barrier);
    }
    cm_pg_destroy(&pg);
    return NULL;
}

Test(token_status_race, nothing_is_held_behind_the_back_of_a_release)
{
    verdict_world_t world;
    racer_t racers[2];
    void *(*const bodies[])(void *) = {judge_gone, release};
    verdict_set_up(&world);
    insert_rounds(&world);
    race(&world, bodies, racers, 2);
    cr_expect(eq(sz, atomic_load(&racers[0].failed), 0));
    cr_expect(eq(sz, atomic_load(&racers[1].failed), 0));
    verdict_tear_down(&world);
}
