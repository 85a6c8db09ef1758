#include "proto/schedule.h"

#include <assert.h>
#include <string.h>
#include <xxhash.h>

enum { SECOND = 1000 };

const char *cm_run_kind_name(cm_run_kind_t kind)
{
    static const char *const names[CM_RUN_KINDS] = {"scheduled", "missed", "requested"};
    return names[kind];
}

int64_t cm_schedule_due_ms(const cm_schedule_t *self, int64_t tick_ms)
{
    int64_t next = cm_cron_next_s(&self->cron, self->zone, tick_ms / SECOND);
    int64_t room = next == CM_CRON_NEVER ? INT64_MAX : next * SECOND - tick_ms;
    int64_t bound = self->jitter_ms < room ? self->jitter_ms + 1 : room;
    uint64_t hash = XXH3_64bits_withSeed(self->job, strlen(self->job), (uint64_t)tick_ms);
    return tick_ms + (int64_t)(hash % (uint64_t)bound);
}

/* The newest tick that is due, in seconds; CM_CRON_NEVER: none. *ret_wake_ms: when the next is. */
static int64_t newest_due(const cm_schedule_t *self, int64_t last_s, int64_t now_ms,
                          int64_t *ret_wake_ms)
{
    int64_t newest = cm_cron_last_s(&self->cron, self->zone, last_s, now_ms / SECOND);
    if (newest != CM_CRON_NEVER) {
        *ret_wake_ms = cm_schedule_due_ms(self, newest * SECOND);
        if (*ret_wake_ms > now_ms) /* the one before it is due: jitter ends before the next tick */
            return cm_cron_last_s(&self->cron, self->zone, last_s, newest - 1);
    }
    int64_t after = now_ms / SECOND > last_s ? now_ms / SECOND : last_s;
    int64_t next = cm_cron_next_s(&self->cron, self->zone, after);
    *ret_wake_ms =
        next == CM_CRON_NEVER ? CM_SCHEDULE_NEVER : cm_schedule_due_ms(self, next * SECOND);
    return newest;
}

static bool is_missed(const cm_schedule_t *self, int64_t tick_s, int64_t now_ms)
{
    return now_ms - cm_schedule_due_ms(self, tick_s * SECOND) > self->grace_ms;
}

/* How many ticks there are, after < t <= until; counted up to CM_SCHEDULE_TICKS_MAX. */
static int count_ticks(const cm_schedule_t *self, int64_t after_s, int64_t until_s)
{
    int count = 0;
    while (count < CM_SCHEDULE_TICKS_MAX &&
           (after_s = cm_cron_next_s(&self->cron, self->zone, after_s)) <= until_s)
        count++;
    return count;
}

/* The newest of the due ticks that is to pass; CM_CRON_NEVER: none of them. */
static int64_t newest_to_pass(const cm_schedule_t *self, int64_t last_s, int64_t newest_s,
                              int64_t now_ms)
{
    if (self->missed == CM_MISSED_SKIP && is_missed(self, newest_s, now_ms))
        return newest_s;
    int kept = self->missed == CM_MISSED_ALL ? self->missed_max : 1;
    assert(kept > 0 && kept <= CM_SCHEDULE_TICKS_MAX);
    for (int64_t tick = newest_s; kept > 0 && tick != CM_CRON_NEVER; kept--)
        newest_s = tick = cm_cron_last_s(&self->cron, self->zone, last_s, tick - 1);
    return newest_s;
}

static void decide_unfinished(const cm_schedule_t *self, const cm_schedule_state_t *state,
                              cm_schedule_decision_t *decision)
{
    decision->tick_ms = state->unfinished_tick_ms;
    if (state->unfinished_cancelled)
        decision->action = CM_SCHEDULE_CANCEL;
    else if (state->unfinished_attempts >= self->attempts_max)
        decision->action = CM_SCHEDULE_GIVE_UP;
    else if (!state->paused || state->requested_ms)
        decision->action = CM_SCHEDULE_RESUME;
}

static void decide_schedule(const cm_schedule_t *self, const cm_schedule_state_t *state,
                            cm_schedule_decision_t *decision)
{
    int64_t last = state->last_tick_ms / SECOND;
    int64_t newest = newest_due(self, last, state->now_ms, &decision->wake_ms);
    if (newest == CM_CRON_NEVER)
        return;
    int64_t passing = newest_to_pass(self, last, newest, state->now_ms);
    int64_t first = cm_cron_next_s(&self->cron, self->zone, last);
    if (passing != CM_CRON_NEVER) {
        decision->action = CM_SCHEDULE_PASS;
        decision->first_tick_ms = first * SECOND;
        decision->tick_ms = passing * SECOND;
        decision->ticks = count_ticks(self, last, passing);
        return;
    }
    decision->action = CM_SCHEDULE_START;
    decision->tick_ms = first * SECOND;
    decision->kind = is_missed(self, first, state->now_ms) ? CM_RUN_MISSED : CM_RUN_SCHEDULED;
}

void cm_schedule_decide(const cm_schedule_t *self, const cm_schedule_state_t *state,
                        cm_schedule_decision_t *ret_decision)
{
    *ret_decision =
        (cm_schedule_decision_t){.action = CM_SCHEDULE_WAIT, .wake_ms = CM_SCHEDULE_NEVER};
    if (state->unfinished_tick_ms) {
        decide_unfinished(self, state, ret_decision);
    } else if (state->requested_ms) {
        ret_decision->action = CM_SCHEDULE_START;
        ret_decision->kind = CM_RUN_REQUESTED;
        ret_decision->tick_ms = state->requested_ms;
    } else if (state->paused) {
        return;
    } else if (state->last_tick_ms - state->now_ms >= CM_SCHEDULE_CLOCK_BACK_MS) {
        ret_decision->action = CM_SCHEDULE_RESET;
        ret_decision->tick_ms = state->now_ms;
    } else {
        decide_schedule(self, state, ret_decision);
    }
}
