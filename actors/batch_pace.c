#include "actors/batch_pace.h"
#include "runtime/clock.h"

#include <time.h>

enum {
    LOCK_FIRST_US = 50 * 1000,
    LOCK_MAX_US = 2 * 1000 * 1000,
    LOCK_FORGET = 4,       /* a step that went well takes one part in so many back */
    SHORTEST_US = 5000,    /* below it a sleep is mostly overhead */
    LONGEST_US = 10000000, /* after one step */
    LOOK_MS = 100
};

void cm_batch_pace_init(cm_batch_pace_t *self, int64_t busy_percent, int64_t pause_ms)
{
    *self = (cm_batch_pace_t){.busy_percent = (int)busy_percent,
                              .pause_us = pause_ms * 1000,
                              .since_us = cm_clock_mono_us()};
}

void cm_batch_pace_next(cm_batch_pace_t *self)
{
    self->lock_us = 0;
}

static void count_lock(cm_batch_pace_t *self, bool waited)
{
    if (!waited)
        self->lock_us -= self->lock_us / LOCK_FORGET;
    else if (self->lock_us < LOCK_FIRST_US)
        self->lock_us = LOCK_FIRST_US;
    else if ((self->lock_us *= 2) > LOCK_MAX_US)
        self->lock_us = LOCK_MAX_US;
    if (self->lock_us < LOCK_FIRST_US / LOCK_FORGET)
        self->lock_us = 0;
}

int64_t cm_batch_pace_rest_us(cm_batch_pace_t *self, cm_pace_step_t step, int64_t worked_us)
{
    if (step != CM_PACE_READ)
        count_lock(self, step == CM_PACE_WAITED);
    if (step == CM_PACE_WAITED) /* which was no work */
        worked_us = 0;
    int64_t rest_us = worked_us * (100 - self->busy_percent) / self->busy_percent;
    if (rest_us > LONGEST_US)
        rest_us = LONGEST_US;
    if (step != CM_PACE_READ && rest_us < self->pause_us)
        rest_us = self->pause_us;
    if (step != CM_PACE_READ && rest_us < self->lock_us)
        rest_us = self->lock_us;
    self->owed_us += rest_us;
    if (self->owed_us < SHORTEST_US)
        return 0;
    rest_us = self->owed_us;
    self->owed_us = 0;
    return rest_us;
}

static bool rest_until(cm_batch_run_t *run, int64_t end_us)
{
    for (int64_t left_us; (left_us = end_us - cm_clock_mono_us()) > 0; cm_batch_show(run)) {
        if (cm_batch_stopped(run))
            return false;
        long nap_us = left_us < LOOK_MS * 1000 ? (long)left_us : LOOK_MS * 1000L;
        nanosleep(&(struct timespec){0, nap_us * 1000}, NULL);
    }
    return !cm_batch_stopped(run);
}

bool cm_batch_pace_step(cm_batch_pace_t *self, cm_batch_run_t *run, cm_pace_step_t step)
{
    int64_t now_us = cm_clock_mono_us();
    int64_t rest_us = cm_batch_pace_rest_us(self, step, now_us - self->since_us);
    cm_batch_show(run);
    bool goes_on = rest_until(run, now_us + rest_us);
    self->since_us = cm_clock_mono_us();
    return goes_on;
}

bool cm_batch_rest(cm_batch_run_t *run, int64_t rest_ms)
{
    return rest_until(run, cm_clock_mono_us() + rest_ms * 1000);
}
