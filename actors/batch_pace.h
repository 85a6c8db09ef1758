/* batch_pace - let a job over all tenants leave the database to the others.
 *
 * The job works for a share of the time only: it rests after each step in proportion to how long
 * the step took. So it goes slower by itself when the database is loaded, since then its steps take
 * longer. Each time it could not have a lock, it rests longer; each step that went well takes some
 * of that back. One thread.
 */
#ifndef CM_ACTORS_BATCH_PACE_H
#define CM_ACTORS_BATCH_PACE_H
#include "actors/batch_job.h"

typedef enum {
    CM_PACE_READ,   /* a step that took no lock others wait for */
    CM_PACE_WRITE,  /* one that did, at least pause_ms before the next */
    CM_PACE_WAITED, /* a lock was not to be had */
} cm_pace_step_t;

typedef struct {
    int busy_percent; /* 1 to 100; 100: no rest */
    int64_t pause_us;
    int64_t lock_us;  /* rest for locks that were not to be had */
    int64_t owed_us;  /* too short to rest yet */
    int64_t since_us; /* monotonic: when the last rest ended */
} cm_batch_pace_t;

void cm_batch_pace_init(cm_batch_pace_t *self, int64_t busy_percent, int64_t pause_ms);
/* Another tenant's turn: its tables have locks of their own. */
void cm_batch_pace_next(cm_batch_pace_t *self);
/* How long to rest after a step that took worked_us, in microseconds; counts the step. */
int64_t cm_batch_pace_rest_us(cm_batch_pace_t *self, cm_pace_step_t step, int64_t worked_us);
/* Rest after a step, from the end of the last rest to now; false when the run is to stop. */
bool cm_batch_pace_step(cm_batch_pace_t *self, cm_batch_run_t *run, cm_pace_step_t step);
/* Rest so long; false as soon as the run is to stop. */
bool cm_batch_rest(cm_batch_run_t *run, int64_t rest_ms);
#endif
