/* job_schedule - when a job runs, as it is configured, ready to decide by (proto/schedule.h).
 *
 * Opened where the configuration is loaded, before other threads start; read by several threads.
 */
#ifndef CM_ACTORS_JOB_SCHEDULE_H
#define CM_ACTORS_JOB_SCHEDULE_H
#include "actors/options.h"
#include "proto/schedule.h"

typedef struct {
    cm_schedule_t plan;
    cm_zone_t *zone; /* that of plan */
    bool has_ticks;  /* false: it runs only when asked for, and no time of plan means anything */
} cm_job_schedule_t;

/* job is borrowed for life. CM_MISCONFIGURED as cm_options_check(), which has looked before. */
cm_status_t cm_job_schedule_open(cm_job_schedule_t *self, const char *job,
                                 const cm_job_schedule_options_t *options, cm_error_t *err);
void cm_job_schedule_close(cm_job_schedule_t *self);
/* cm_schedule_decide(), for one without ticks as well. */
void cm_job_schedule_decide(const cm_job_schedule_t *self, const cm_schedule_state_t *state,
                            cm_schedule_decision_t *ret_decision);
/* When it is due next, epoch milliseconds: a tick that is due already and not run, or the one to
 * come. CM_SCHEDULE_NEVER: it has no ticks. */
int64_t cm_job_schedule_next_ms(const cm_job_schedule_t *self, const cm_schedule_state_t *state);
#endif
