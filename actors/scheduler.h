/* scheduler - run one batch job at its times, once across all instances.
 *
 * reports   PUSH to monitor     [report]
 * pipe      "DRAIN"             stop the job at its next step; "DRAINED" when it has stopped
 *           "$TERM"             the same, then exit
 * One of these for each job; the job works on its thread. It looks when the next tick is due, and
 * every scheduler.poll_seconds for what people ask and for a run that an instance left. A job that
 * is stopped by a drain leaves its run unfinished and gives the lease back, so that another
 * instance goes on at once. Owns a connection while it looks or works, and the keeper's while it
 * works. It beats while a job works, as long as the job asks whether it is to stop, shows its
 * progress, or waits for the server. Rule: DESIGN section 9.
 */
#ifndef CM_ACTORS_SCHEDULER_H
#define CM_ACTORS_SCHEDULER_H
#include "actors/batch_runner.h"

enum { CM_SCHEDULER_NAME_MAX = CM_LEASE_NAME_MAX + 8 };

typedef struct {                      /* borrowed for the run */
    char name[CM_SCHEDULER_NAME_MAX]; /* "job/orphan-deletion" */
    const cm_batch_job_t *job;
    cm_job_schedule_t schedule;
    const cm_options_t *options;
    const char *holder, *reports;
} cm_scheduler_args_t;

void cm_scheduler_actor(zsock_t *pipe, void *args); /* args: const cm_scheduler_args_t * */
#endif
