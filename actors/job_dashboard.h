/* job_dashboard - the batch job that counts the devices of every tenant, for people and Grafana.
 *
 * One pass over the active and suspended tenants: one query each, one of the catalog, a commit for
 * each 100. The schema of an active tenant that has none is created (tenant_schema.h, on a
 * connection of role ddl; of deleted ones never, whatever the catalog said when it was read). The
 * connection that counts is made anew after postgres.recycle_tenants of them. Those
 * that failed are tried once more after the pass. Then the history is written and pruned. What each
 * figure means: schema/dashboard_store.h.
 *
 * Kept with the run are the tenants that failed, and those whose schema was created, not each one
 * that was counted: their row tells it. The checkpoint is the last tenant of a commit; a run that
 * is resumed goes on behind it and tries again those that failed before.
 *
 * The publisher's counts are taken over first, as dashboard_job.reference says. When they cannot
 * be, all is counted and held against the former ones, and then the run fails with that error.
 *
 * Summary: {"tenants" counted, "failed", "created", "gone" (deleted meanwhile), "devices",
 * "drifting", "stale", "references" taken over, "pruned", "statements", "seconds",
 * "seconds_per_tenant"}. Rule: DESIGN section 9.
 */
#ifndef CM_ACTORS_JOB_DASHBOARD_H
#define CM_ACTORS_JOB_DASHBOARD_H
#include "actors/batch_job.h"

cm_batch_fn cm_job_dashboard;
#endif
