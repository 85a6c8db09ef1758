/* schedule - what to do about a batch job now: nothing, begin a run, go on with one, let ticks
 * pass.
 *
 * Pure: all that matters is in the arguments, the time too, and all instances decide alike. The
 * caller, who holds the job's lease and runs nothing of this job, does what is decided, loads the
 * state anew and asks again until the answer is to wait.
 *
 * In this order: a run that its holder left unfinished, a run that someone asked for, the schedule.
 * A tick is due at its time plus jitter, which depends on job and tick alone and ends before the
 * next tick. One found later than grace_ms after that is missed, because no instance ran or the run
 * before it took too long, and the policy says what becomes of it:
 *
 *     skip   it passes
 *     once   of all that are due the newest is run, once; the older ones pass
 *     all    of all that are due the newest missed_max are run, the oldest first; the others pass
 *
 * A paused job begins nothing that is not asked for; ticks of a pause neither run nor count as
 * missed: whoever ends it sets last_tick (schema/job_store.h). Rule: DESIGN section 9.
 */
#ifndef CM_PROTO_SCHEDULE_H
#define CM_PROTO_SCHEDULE_H
#include "proto/cron.h"

typedef enum { CM_MISSED_SKIP, CM_MISSED_ONCE, CM_MISSED_ALL } cm_missed_policy_t;

typedef enum {
    CM_RUN_SCHEDULED,
    CM_RUN_MISSED,    /* begun later than the grace allows */
    CM_RUN_REQUESTED, /* by a person, or by a scheduler outside */
    CM_RUN_KINDS
} cm_run_kind_t;
const char *cm_run_kind_name(cm_run_kind_t kind); /* "scheduled", "missed", "requested" */

enum {
    CM_SCHEDULE_TICKS_MAX = 1000,             /* counted and run at most at a time */
    CM_SCHEDULE_CLOCK_BACK_MS = 24 * 3600000, /* see CM_SCHEDULE_RESET */
};
#define CM_SCHEDULE_NEVER INT64_MAX

typedef struct {
    const char *job; /* its name, which seeds the jitter */
    cm_cron_t cron;
    const cm_zone_t *zone;
    cm_missed_policy_t missed;
    int missed_max; /* of CM_MISSED_ALL, 1 to CM_SCHEDULE_TICKS_MAX */
    int64_t grace_ms, jitter_ms;
    int attempts_max; /* a run begun so often ends as failed: it may be what kills its process */
} cm_schedule_t;

typedef struct { /* epoch milliseconds of the database's clock; 0 = none */
    int64_t now_ms;
    int64_t last_tick_ms; /* up to here all is done or passed over */
    int64_t requested_ms; /* when someone asked for a run */
    bool paused;
    int64_t unfinished_tick_ms; /* of a run that was left in the middle */
    int unfinished_attempts;    /* how often that was begun */
    bool unfinished_cancelled;  /* someone asked to cancel it */
} cm_schedule_state_t;

typedef enum {
    CM_SCHEDULE_WAIT,    /* until wake_ms, or until the state changes */
    CM_SCHEDULE_START,   /* a run of kind for tick_ms */
    CM_SCHEDULE_RESUME,  /* the unfinished run, of tick_ms */
    CM_SCHEDULE_CANCEL,  /* end the unfinished run, of tick_ms, as cancelled */
    CM_SCHEDULE_GIVE_UP, /* end it as failed */
    CM_SCHEDULE_PASS,    /* ticks from first_tick_ms to tick_ms without a run */
    /* last_tick lies a day or more ahead, so the clock was wrong then: count from tick_ms, which is
     * now. What was run is not run again for that: a tick has one row (schema/job_store.h). */
    CM_SCHEDULE_RESET,
} cm_schedule_action_t;

typedef struct {
    cm_schedule_action_t action;
    cm_run_kind_t kind;
    int64_t tick_ms, first_tick_ms;
    int ticks;       /* of a pass; CM_SCHEDULE_TICKS_MAX stands for as many or more */
    int64_t wake_ms; /* CM_SCHEDULE_NEVER: only when the state changes */
} cm_schedule_decision_t;

void cm_schedule_decide(const cm_schedule_t *self, const cm_schedule_state_t *state,
                        cm_schedule_decision_t *ret_decision);

/* When a tick is due: its time and its jitter. */
int64_t cm_schedule_due_ms(const cm_schedule_t *self, int64_t tick_ms);
#endif
