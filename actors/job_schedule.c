#include "actors/job_schedule.h"

enum { SECOND_MS = 1000 };

cm_status_t cm_job_schedule_open(cm_job_schedule_t *self, const char *job,
                                 const cm_job_schedule_options_t *options, cm_error_t *err)
{
    *self = (cm_job_schedule_t){.has_ticks = *options->cron};
    self->plan = (cm_schedule_t){
        .job = job,
        .missed = (cm_missed_policy_t)options->missed,
        .missed_max = (int)options->missed_max,
        .grace_ms = options->grace_seconds * SECOND_MS,
        .jitter_ms = options->jitter_seconds * SECOND_MS,
        .attempts_max = (int)options->attempts,
    };
    cm_status_t status = CM_OK;
    if (self->has_ticks)
        status = cm_cron_parse(&self->plan.cron, cm_str(options->cron), err);
    if (status == CM_OK)
        status = cm_zone_open(&self->zone, options->time_zone, err);
    self->plan.zone = self->zone;
    return status;
}

void cm_job_schedule_close(cm_job_schedule_t *self)
{
    cm_zone_destroy(&self->zone);
}

void cm_job_schedule_decide(const cm_job_schedule_t *self, const cm_schedule_state_t *state,
                            cm_schedule_decision_t *ret_decision)
{
    if (self->has_ticks || state->unfinished_tick_ms || state->requested_ms)
        cm_schedule_decide(&self->plan, state, ret_decision); /* of the last two, without ticks */
    else
        *ret_decision =
            (cm_schedule_decision_t){.action = CM_SCHEDULE_WAIT, .wake_ms = CM_SCHEDULE_NEVER};
}

int64_t cm_job_schedule_next_ms(const cm_job_schedule_t *self, const cm_schedule_state_t *state)
{
    if (!self->has_ticks)
        return CM_SCHEDULE_NEVER;
    int64_t next_s = cm_cron_next_s(&self->plan.cron, self->zone, state->last_tick_ms / SECOND_MS);
    return next_s == CM_CRON_NEVER ? CM_SCHEDULE_NEVER
                                   : cm_schedule_due_ms(&self->plan, next_s * SECOND_MS);
}
