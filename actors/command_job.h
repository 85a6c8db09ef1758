/* command_job - what the commands about batch jobs share. */
#ifndef CM_ACTORS_COMMAND_JOB_H
#define CM_ACTORS_COMMAND_JOB_H
#include "actors/batch_job.h"
#include "actors/command.h"

/* The job of that name; NULL: there is none, which is told on stderr with those that are. */
const cm_batch_job_t *cm_command_job_find(const cm_invocation_t *invocation, const char *name);
#endif
