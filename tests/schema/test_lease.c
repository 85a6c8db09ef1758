#include "runtime/cleanup.h"
#include "schema/lease.h"
#include "tests/support/schema_fixture.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

TestSuite(lease, .timeout = 60, .fini = cm_test_database_drop);

enum { LONG_MS = 3600 * 1000, RACERS = 6, ROUNDS = 60 };

/* The wall clock of this process, and of nothing else, as a test sets it. */
static atomic_long clock_ahead_s;

int clock_gettime(clockid_t clock, struct timespec *ret_time)
{
    int status = (int)syscall(SYS_clock_gettime, clock, ret_time);
    if (clock == CLOCK_REALTIME)
        ret_time->tv_sec += clock_ahead_s;
    return status;
}

typedef struct {
    char uri[CM_TEST_URI_MAX];
    cm_pg_t *pg, *other; /* two instances; other waits for a lock 200 ms at most */
    cm_lease_t lease, second;
    cm_error_t err;
} world_t;

static void set_up(world_t *self)
{
    self->pg = cm_test_admin(self->uri);
    self->other = cm_pg_new(&(cm_pg_options_t){.uri = self->uri, .lock_timeout_ms = 200});
    cr_assert(eq(int, cm_pg_connect(self->other, NULL, &self->err), CM_OK));
}

static void tear_down(world_t *self)
{
    cm_pg_destroy(&self->other);
    cm_pg_destroy(&self->pg);
}

static bool acquire(world_t *self, cm_pg_t *pg, const char *holder, cm_lease_t *lease)
{
    bool acquired = false;
    cr_assert(eq(int,
                 cm_lease_acquire(pg, CM_TEST_ADMIN, "job", holder, LONG_MS, &acquired, lease,
                                  &self->err),
                 CM_OK),
              "%s", self->err.message);
    return acquired;
}

/* As if its time had passed. */
static void let_it_run_out(cm_pg_t *pg)
{
    cm_test_sql(pg, "UPDATE " CM_TEST_ADMIN ".leases SET expires_at = clock_timestamp()");
}

static cm_status_t write_fenced(world_t *self, cm_pg_t *pg, const cm_lease_t *lease)
{
    cr_assert(eq(int, cm_pg_begin(pg, &self->err), CM_OK));
    cm_status_t status = cm_lease_check(pg, CM_TEST_ADMIN, lease, &self->err);
    if (status == CM_OK)
        status = cm_pg_exec(pg, "CREATE TABLE IF NOT EXISTS " CM_TEST_ADMIN ".written (); COMMIT",
                            &self->err);
    if (status != CM_OK)
        cm_pg_rollback(pg);
    return status;
}

#define IS_LOST(call)                                                                              \
    do {                                                                                           \
        cr_expect(eq(int, call, CM_PERMANENT));                                                    \
        cr_expect(eq(str, world.err.code, "lease-lost"));                                          \
    } while (0)

Test(lease, the_first_to_ask_gets_it_and_the_second_is_told_who_has_it)
{
    world_t world = {0};
    set_up(&world);
    cr_assert(acquire(&world, world.pg, "a", &world.lease));
    cr_expect(eq(i64, world.lease.term, 1));
    cr_expect(eq(str, world.lease.name, "job"));
    cr_expect(eq(str, world.lease.holder, "a"));
    cr_expect(eq(i64, world.lease.expires_ms - world.lease.acquired_ms, LONG_MS));
    cr_expect(not(acquire(&world, world.other, "b", &world.second)));
    cr_expect(eq(str, world.second.holder, "a"));
    cr_expect(gt(i64, world.second.expires_ms, world.second.now_ms));
    tear_down(&world);
}

Test(lease, it_is_not_given_twice_to_one_holder)
{
    world_t world = {0};
    set_up(&world);
    cr_assert(acquire(&world, world.pg, "a", &world.lease));
    cr_expect(not(acquire(&world, world.pg, "a", &world.second)));
    tear_down(&world);
}

Test(lease, leases_of_different_names_know_nothing_of_each_other)
{
    world_t world = {0};
    bool acquired = false;
    set_up(&world);
    cr_assert(acquire(&world, world.pg, "a", &world.lease));
    cr_expect(eq(int,
                 cm_lease_acquire(world.other, CM_TEST_ADMIN, "another", "b", 1000, &acquired,
                                  &world.second, &world.err),
                 CM_OK));
    cr_expect(acquired);
    tear_down(&world);
}

Test(lease, one_that_ran_out_is_taken_under_a_higher_term)
{
    world_t world = {0};
    set_up(&world);
    cr_assert(acquire(&world, world.pg, "a", &world.lease));
    let_it_run_out(world.pg);
    cr_assert(acquire(&world, world.other, "b", &world.second));
    cr_expect(eq(i64, world.second.term, 2));
    tear_down(&world);
}

Test(lease, a_holder_that_comes_back_after_the_take_over_is_refused_everything)
{
    world_t world = {0};
    set_up(&world);
    cr_assert(acquire(&world, world.pg, "a", &world.lease));
    cr_assert(eq(int, write_fenced(&world, world.pg, &world.lease), CM_OK));
    let_it_run_out(world.pg);
    cr_assert(acquire(&world, world.other, "b", &world.second));
    IS_LOST(write_fenced(&world, world.pg, &world.lease));
    IS_LOST(cm_lease_renew(world.pg, CM_TEST_ADMIN, &world.lease, LONG_MS, &world.err));
    IS_LOST(cm_lease_release(world.pg, CM_TEST_ADMIN, &world.lease, &world.err));
    cr_expect(eq(int, write_fenced(&world, world.other, &world.second), CM_OK));
    tear_down(&world);
}

Test(lease, the_same_holder_under_an_old_term_is_refused)
{
    world_t world = {0};
    set_up(&world);
    cr_assert(acquire(&world, world.pg, "a", &world.lease));
    let_it_run_out(world.pg);
    cr_assert(acquire(&world, world.other, "a", &world.second));
    IS_LOST(write_fenced(&world, world.pg, &world.lease));
    tear_down(&world);
}

Test(lease, one_that_ran_out_is_lost_even_when_nobody_took_it)
{
    world_t world = {0};
    set_up(&world);
    cr_assert(acquire(&world, world.pg, "a", &world.lease));
    let_it_run_out(world.pg);
    IS_LOST(write_fenced(&world, world.pg, &world.lease));
    IS_LOST(cm_lease_renew(world.pg, CM_TEST_ADMIN, &world.lease, LONG_MS, &world.err));
    tear_down(&world);
}

Test(lease, renewing_lets_it_last_from_now_on)
{
    world_t world = {0};
    set_up(&world);
    cr_assert(acquire(&world, world.pg, "a", &world.lease));
    cm_lease_t before = world.lease;
    cr_assert(eq(int,
                 cm_lease_renew(world.pg, CM_TEST_ADMIN, &world.lease, 2 * LONG_MS, &world.err),
                 CM_OK));
    cr_expect(eq(i64, world.lease.term, before.term));
    cr_expect(eq(i64, world.lease.acquired_ms, before.acquired_ms));
    cr_expect(ge(i64, world.lease.expires_ms, before.expires_ms + LONG_MS));
    cr_expect(eq(int, write_fenced(&world, world.pg, &world.lease), CM_OK));
    tear_down(&world);
}

Test(lease, one_given_back_is_free_at_once)
{
    world_t world = {0};
    set_up(&world);
    cr_assert(acquire(&world, world.pg, "a", &world.lease));
    cr_assert(eq(int, cm_lease_release(world.pg, CM_TEST_ADMIN, &world.lease, &world.err), CM_OK));
    IS_LOST(write_fenced(&world, world.pg, &world.lease));
    cr_expect(acquire(&world, world.other, "b", &world.second));
    cr_expect(eq(i64, world.second.term, 2));
    tear_down(&world);
}

Test(lease, who_does_not_hold_it_cannot_give_it_back)
{
    world_t world = {0};
    set_up(&world);
    cr_assert(acquire(&world, world.pg, "a", &world.lease));
    cm_lease_t forged = world.lease;
    snprintf(forged.holder, sizeof forged.holder, "b");
    IS_LOST(cm_lease_release(world.other, CM_TEST_ADMIN, &forged, &world.err));
    cr_expect(eq(int, write_fenced(&world, world.pg, &world.lease), CM_OK));
    tear_down(&world);
}

Test(lease, a_take_over_waits_for_a_write_that_has_begun)
{
    world_t world = {0};
    bool acquired = false;
    set_up(&world);
    cr_assert(acquire(&world, world.pg, "a", &world.lease));
    cr_assert(eq(int, cm_pg_begin(world.pg, &world.err), CM_OK));
    cr_assert(eq(int, cm_lease_check(world.pg, CM_TEST_ADMIN, &world.lease, &world.err), CM_OK));
    let_it_run_out(world.other);
    cr_expect(eq(int,
                 cm_lease_acquire(world.other, CM_TEST_ADMIN, "job", "b", LONG_MS, &acquired,
                                  &world.second, &world.err),
                 CM_TRANSIENT));
    cr_expect(eq(str, world.err.code, "55P03"));
    cr_assert(eq(int, cm_pg_commit(world.pg, &world.err), CM_OK));
    cr_expect(acquire(&world, world.other, "b", &world.second));
    tear_down(&world);
}

Test(lease, a_write_that_has_begun_does_not_keep_the_lease_from_being_renewed)
{
    world_t world = {0};
    set_up(&world);
    cr_assert(acquire(&world, world.pg, "a", &world.lease));
    cr_assert(eq(int, cm_pg_begin(world.pg, &world.err), CM_OK));
    cr_assert(eq(int, cm_lease_check(world.pg, CM_TEST_ADMIN, &world.lease, &world.err), CM_OK));
    cr_expect(eq(int, cm_lease_renew(world.other, CM_TEST_ADMIN, &world.lease, LONG_MS, &world.err),
                 CM_OK));
    cr_expect(eq(int, cm_lease_check(world.pg, CM_TEST_ADMIN, &world.lease, &world.err), CM_OK));
    cr_expect(eq(int, cm_pg_commit(world.pg, &world.err), CM_OK));
    tear_down(&world);
}

Test(lease, a_write_waits_for_a_take_over_and_is_then_refused)
{
    world_t world = {0};
    set_up(&world);
    cr_assert(acquire(&world, world.other, "a", &world.lease));
    cr_assert(eq(int, cm_pg_begin(world.pg, &world.err), CM_OK));
    cm_test_sql(world.pg, "SELECT FROM " CM_TEST_ADMIN ".leases FOR UPDATE"); /* as acquire does */
    cm_test_sql(world.pg, "UPDATE " CM_TEST_ADMIN ".leases SET term = term + 1, holder = 'b'");
    cr_expect(eq(int, write_fenced(&world, world.other, &world.lease), CM_TRANSIENT));
    cr_expect(eq(str, world.err.code, "55P03"));
    cr_assert(eq(int, cm_pg_commit(world.pg, &world.err), CM_OK));
    IS_LOST(write_fenced(&world, world.other, &world.lease));
    tear_down(&world);
}

Test(lease, the_clock_of_an_instance_does_not_matter)
{
    world_t world = {0};
    set_up(&world);
    cr_assert(acquire(&world, world.pg, "a", &world.lease));
    clock_ahead_s = 10L * 365 * 86400;
    cr_expect(gt(i64, time(NULL), 0));
    cr_expect(not(acquire(&world, world.other, "b", &world.second)));
    cr_expect(eq(int, write_fenced(&world, world.pg, &world.lease), CM_OK));
    clock_ahead_s = -10L * 365 * 86400;
    let_it_run_out(world.pg);
    IS_LOST(write_fenced(&world, world.pg, &world.lease));
    cr_expect(acquire(&world, world.other, "b", &world.second));
    cr_expect(lt(i64, world.second.expires_ms, world.lease.now_ms + 2 * LONG_MS));
    tear_down(&world);
}

Test(lease, one_that_nobody_ever_held_is_not_found)
{
    world_t world = {0};
    set_up(&world);
    cr_expect(eq(int, cm_lease_find(world.pg, CM_TEST_ADMIN, "job", &world.lease, &world.err),
                 CM_PERMANENT));
    cr_expect(eq(str, world.err.code, "not-found"));
    tear_down(&world);
}

/* ---- races ---------------------------------------------------------------------------------- */

typedef struct {
    const char *uri;
    pthread_barrier_t *barrier;
    int number, won;
    cm_error_t err;
} racer_t;

/* Rounds in pairs: one over a lease that nobody ever held, one over the same, given back. */
static void *race(void *argument)
{
    racer_t *self = argument;
    char holder[CM_LEASE_HOLDER_MAX], name[CM_LEASE_NAME_MAX];
    cm_pg_t *pg = cm_pg_new(&(cm_pg_options_t){.uri = self->uri});
    bool good = cm_pg_connect(pg, NULL, &self->err) == CM_OK;
    snprintf(holder, sizeof holder, "racer-%d", self->number);
    for (int round = 0; round < ROUNDS; round++) {
        bool acquired = false;
        cm_lease_t lease;
        snprintf(name, sizeof name, "job-%d", round / 2);
        pthread_barrier_wait(self->barrier); /* the lease is free */
        good = good && cm_lease_acquire(pg, CM_TEST_ADMIN, name, holder, LONG_MS, &acquired, &lease,
                                        &self->err) == CM_OK;
        pthread_barrier_wait(self->barrier); /* all have asked */
        if (acquired) {
            good = good && lease.term == round % 2 + 1 &&
                   cm_lease_release(pg, CM_TEST_ADMIN, &lease, &self->err) == CM_OK;
            self->won++;
        }
    }
    cm_pg_destroy(&pg);
    self->won = good ? self->won : -1000;
    return NULL;
}

Test(lease, of_many_who_ask_at_once_one_gets_it)
{
    world_t world = {0};
    set_up(&world);
    pthread_barrier_t barrier;
    pthread_t threads[RACERS];
    racer_t racers[RACERS];
    pthread_barrier_init(&barrier, NULL, RACERS);
    for (int i = 0; i < RACERS; i++) {
        racers[i] = (racer_t){world.uri, &barrier, i, 0, {0}};
        cr_assert(eq(int, pthread_create(&threads[i], NULL, race, &racers[i]), 0));
    }
    int won = 0;
    for (int i = 0; i < RACERS; i++) {
        pthread_join(threads[i], NULL);
        cr_expect(ge(int, racers[i].won, 0), "%s %s", racers[i].err.code, racers[i].err.message);
        won += racers[i].won;
    }
    pthread_barrier_destroy(&barrier);
    cr_expect(eq(int, won, ROUNDS));
    cr_expect(eq(i64,
                 cm_test_number(world.pg, "SELECT sum(term)::bigint FROM " CM_TEST_ADMIN ".leases"),
                 ROUNDS));
    tear_down(&world);
}
