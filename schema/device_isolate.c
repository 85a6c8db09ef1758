#include "runtime/clock.h"
#include "schema/device_store_private.h"

#include <assert.h>
#include <string.h>
#include <time.h>

/* After so many statement time-outs in one tenant the rest of it takes the retry path: other
 * tenants wait behind each of them. So it does after so many passing faults with no success between
 * them, which are no row's: one row of 2000 is found with eleven. */
enum {
    QUICK_TRIES_MAX = 3,
    QUICK_WAIT_MIN_MS = 5,
    QUICK_WAIT_MAX_MS = 50,
    TIMEOUTS_MAX = 3,
    FAULTS_MAX = 12
};

typedef struct {
    cm_device_store_t *store;
    int timeouts_left; /* below 0: no more tries */
    int faults_left;   /* likewise */
} isolation_t;

static cm_status_t isolate_rows(isolation_t *self, cm_device_group_t rows, cm_error_t failure,
                                cm_error_t *err);

/* Every row of a group takes the failure as its result. */
static void fail_rows(isolation_t *self, const cm_device_group_t *rows, const cm_error_t *failure)
{
    cm_error_t *kept = cm_arena_alloc(self->store->arena, sizeof *kept);
    *kept = *failure;
    for (size_t i = 0; i < rows->count; i++) {
        rows->items[i]->result = CM_CHANGE_FAILED;
        rows->items[i]->error = kept;
    }
}

static bool is_late(const cm_device_store_t *store)
{
    return cm_clock_mono_ms() >= store->isolate_until_ms;
}

/* The patience is over before it was found out which of the rows are to blame: a permanent fault is
 * that of some of them, all the others are known to be. */
static void give_up(isolation_t *self, const cm_device_group_t *rows, const cm_error_t *failure)
{
    cm_error_t untried = {0};
    if (!failure || (failure->status == CM_PERMANENT && rows->count > 1)) {
        cm_error_set(&untried, CM_TRANSIENT, "isolation",
                     "not written: the search for what failed beside it took too long");
        failure = &untried;
    }
    fail_rows(self, rows, failure);
}

static cm_device_group_t part_of(const cm_device_group_t *rows, size_t first, size_t count)
{
    return (cm_device_group_t){.tenant = rows->tenant,
                               .items = rows->items + first,
                               .count = count,
                               .on_trial = rows->on_trial};
}

/* Write rows by the full rule, one statement. On failure *rows is what has no result yet. */
static cm_status_t try_rows(isolation_t *self, cm_device_group_t *rows, cm_error_t *failure)
{
    cm_device_group_t *group = cm_arena_alloc(self->store->arena, sizeof *group);
    *group = *rows;
    cm_status_t status = cm_device_attempt_run(self->store, group, 1, true, failure);
    if (status != CM_OK)
        *rows = self->store->groups[0];
    return status;
}

/* Write rows, and isolate what is to blame when that fails. */
static cm_status_t write_rows(isolation_t *self, cm_device_group_t rows, bool *ret_good,
                              cm_error_t *err)
{
    cm_error_t failure = {0};
    cm_status_t status = try_rows(self, &rows, &failure);
    *ret_good = status == CM_OK;
    if (status != CM_OK)
        return isolate_rows(self, rows, failure, err);
    if (self->faults_left >= 0)
        self->faults_left = FAULTS_MAX;
    return CM_OK;
}

static void wait_a_little(void)
{
    uint64_t span = QUICK_WAIT_MAX_MS - QUICK_WAIT_MIN_MS + 1;
    long wait_ms = QUICK_WAIT_MIN_MS + (long)(cm_random_u64() % span);
    nanosleep(&(struct timespec){.tv_nsec = wait_ms * 1000000L}, NULL);
}

/* Whether some of the rows may be written by themselves. A lock is in the way of all of them, and a
 * deadlock was between all of them and somebody. */
static bool may_be_of_some(isolation_t *self, const cm_error_t *failure)
{
    if (failure->status == CM_PERMANENT)
        return true;
    if (strcmp(failure->code, "57014") == 0)
        return self->timeouts_left-- > 0;
    return failure->status == CM_TRANSIENT && strcmp(failure->code, "55P03") != 0 &&
           !cm_pg_is_quick_retry(failure->code) && self->faults_left-- > 0;
}

/* Halve rows that failed with a fault that may be of some of them. When the first half is good, the
 * fault is in the second, which need not be tried whole to know it. */
static cm_status_t halve(isolation_t *self, const cm_device_group_t *rows,
                         const cm_error_t *failure, cm_error_t *err)
{
    size_t half = rows->count / 2;
    cm_device_group_t second = part_of(rows, half, rows->count - half);
    bool good = false;
    cm_status_t status = write_rows(self, part_of(rows, 0, half), &good, err);
    if (status != CM_OK)
        return status;
    if (self->timeouts_left < 0 || self->faults_left < 0 || is_late(self->store)) {
        give_up(self, &second, failure->status == CM_PERMANENT ? NULL : failure);
        return CM_OK;
    }
    if (good && failure->status == CM_PERMANENT && second.count > 1)
        return isolate_rows(self, second, *failure, err);
    return write_rows(self, second, &good, err);
}

/* Rows that are known to fail, and how. CM_OK: each has its result. */
static cm_status_t isolate_rows(isolation_t *self, cm_device_group_t rows, cm_error_t failure,
                                cm_error_t *err)
{
    for (int tries = 0; tries < QUICK_TRIES_MAX && cm_pg_is_quick_retry(failure.code); tries++) {
        if (is_late(self->store))
            break;
        wait_a_little();
        if (try_rows(self, &rows, &failure) == CM_OK)
            return CM_OK;
    }
    if (!cm_pg_is_isolable(&failure)) {
        *err = failure;
        return failure.status;
    }
    if (is_late(self->store)) {
        give_up(self, &rows, &failure);
        return CM_OK;
    }
    if (may_be_of_some(self, &failure) && rows.count > 1)
        return halve(self, &rows, &failure, err);
    fail_rows(self, &rows, &failure);
    return CM_OK;
}

static cm_status_t isolate_tenant(cm_device_store_t *store, cm_device_group_t group,
                                  cm_error_t failure, cm_error_t *err)
{
    isolation_t self = {store, group.on_trial ? 0 : TIMEOUTS_MAX, FAULTS_MAX};
    return isolate_rows(&self, group, failure, err);
}

/* COMMIT failed, nobody knows by whom: each tenant alone. */
static cm_status_t write_each(cm_device_store_t *store, const cm_device_group_t *groups,
                              size_t count, cm_error_t *err)
{
    cm_status_t status = CM_OK;
    for (size_t i = 0; status == CM_OK && i < count; i++) {
        isolation_t self = {store, groups[i].on_trial ? 0 : TIMEOUTS_MAX, FAULTS_MAX};
        bool good = false;
        if (is_late(store))
            give_up(&self, &groups[i], NULL);
        else
            status = write_rows(&self, groups[i], &good, err);
    }
    return status;
}

static void give_up_groups(cm_device_store_t *store, const cm_device_group_t *groups, size_t count,
                           size_t bad, const cm_error_t *failure)
{
    isolation_t self = {.store = store};
    for (size_t i = 0; i < count; i++)
        give_up(&self, &groups[i], i == bad ? failure : NULL);
}

/* The last attempt has failed: set the tenant to blame apart, write those before it, isolate it, go
 * on behind it. Those before it have just passed, so this rarely goes deep. */
static cm_status_t isolate_groups(cm_device_store_t *store, cm_error_t *err)
{
    cm_status_t status = CM_OK;
    do {
        cm_device_group_t *groups = store->groups;
        size_t count = store->group_count, bad = count == 1 ? 0 : store->failed_group;
        cm_error_t failure = store->failure;
        if (!cm_pg_is_isolable(&failure)) {
            *err = failure;
            return failure.status;
        }
        if (is_late(store)) {
            give_up_groups(store, groups, count, bad, &failure);
            return CM_OK;
        }
        if (bad >= count)
            return write_each(store, groups, count, err);
        if (cm_device_attempt_run(store, groups, bad, false, err) != CM_OK)
            status = isolate_groups(store, err);
        else
            status = CM_OK;
        if (status == CM_OK)
            status = isolate_tenant(store, groups[bad], failure, err);
        if (status != CM_OK)
            return status;
        status = cm_device_attempt_run(store, groups + bad + 1, count - bad - 1, false, err);
    } while (status != CM_OK);
    return CM_OK;
}

cm_status_t cm_device_store_isolate(cm_device_store_t *self, cm_error_t *err)
{
    cm_error_t failure = {0};
    assert(self->phase == CM_DEVICE_PHASE_NONE);
    self->stats.isolations++;
    self->isolate_until_ms = cm_clock_mono_ms() + self->patience.isolate_ms;
    cm_status_t status = isolate_groups(self, &failure);
    self->isolate_until_ms = 0;
    if (status != CM_OK && err)
        *err = failure;
    return status;
}
