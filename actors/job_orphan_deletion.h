/* job_orphan_deletion - the batch job that deletes devices without contact, tenant by tenant.
 *
 * What an orphan is and how one tenant is dealt with: schema/orphan_store.h. Here are the active
 * tenants, in order of id; those that orphan_job.exclude or the table orphan_rules exclude, and
 * those under legal hold, are left alone and noted as skipped. Rules that cannot be read fail the
 * run before anything is deleted. Each tenant is looked up in the registry when its turn comes,
 * which may be hours after the list was read, and again in each transaction that deletes: a hold, a
 * suspension or a deletion that comes in between ends its turn, and waits for one batch at the
 * most.
 *
 * A tenant that fails is noted and told, holds up no other, and is tried again after the pass, up
 * to orphan_job.retry_rounds times. The last time it waits for locks so long, 1.5 s, that an
 * autovacuum gives way (schema/orphan_store.h). One that the guard stops is not tried again: only a
 * person can tell whether so many may go. It is noted as failed with code "orphan-guard", told as
 * an error, and let through by
 * client-manager job run orphan-deletion --tenant ID --set orphan_job.guard_percent=100
 *
 * A run that is resumed leaves out the tenants it has done, and counts them as noted; of the one it
 * was killed in, batches committed before are in no figure. No checkpoint: what is left to delete
 * is what still is an orphan.
 *
 * It asks for no rewrite of files (schema/erasure.h). Those are owed to persons whose contact was
 * deleted, and are noted by that deletion, with the devices linked then. An orphan is linked to
 * nobody and goes for its age alone, as by an event that removes it, which notes nothing either; a
 * nightly run would have nearly every tenant's tables rewritten under ACCESS EXCLUSIVE. VACUUM and
 * later rows overwrite the bytes.
 *
 * Summary: tenants_done, tenants_failed (those guarded among them), tenants_excluded, tenants_held,
 * tenants_gone (no longer active), tenants_guarded; devices, orphans, deleted, batches, lock_waits;
 * retry_rounds; guarded: [{tenant, devices, orphans}], the first 100. A dry run tells the same with
 * nothing deleted, and those that the guard would stop as failed.
 * Rule: DESIGN section 9, reliability section 4.5.
 */
#ifndef CM_ACTORS_JOB_ORPHAN_DELETION_H
#define CM_ACTORS_JOB_ORPHAN_DELETION_H
#include "actors/batch_job.h"

/* Beside what a cm_batch_fn returns: CM_MISCONFIGURED / "orphan-rules"; CM_PERMANENT /
 * "not-active": run->tenant is no active one. */
cm_status_t cm_job_orphan_deletion(cm_batch_run_t *run, cm_error_t *err);
#endif
