/* The table of jobs. A row here is a job; what it does is its body, in a file of its own. */
#include "actors/batch_job.h"
#include "actors/job_contact_deletion.h"
#include "actors/job_dashboard.h"
#include "actors/job_orphan_deletion.h"
#include "runtime/cleanup.h"

#include <stddef.h>

const cm_batch_job_t cm_batch_jobs[] = {
    {"dashboard", "count the devices of every tenant, for people and Grafana", "devices counted",
     "dashboard_job", offsetof(cm_options_t, dashboard_job.schedule), CM_ROLE_DASH, false,
     cm_job_dashboard},
    {"contact-deletion", "publish contacts that were deleted elsewhere", "contacts published",
     "contact_job", offsetof(cm_options_t, contact_job.schedule), CM_ROLE_DASH, true,
     cm_job_contact_deletion},
    {"orphan-deletion", "delete devices that have had no contact for long", "devices deleted",
     "orphan_job", offsetof(cm_options_t, orphan_job.schedule), CM_ROLE_PURGER, true,
     cm_job_orphan_deletion},
};
const size_t cm_batch_job_count = CM_LENGTH(cm_batch_jobs);
