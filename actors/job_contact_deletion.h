/* job_contact_deletion - publish what was deleted elsewhere: contacts of active customers, from a
 * contact source to the topic contact-deletion.
 *
 * Contract: actors/batch_job.h. Each contact is published at least once; that it may be published
 * again does no harm, for a deletion has its effect once (actors/contact_deletion.h). One query
 * serves all customers, or each has its own (contact_job.queries); after a kill the reading goes on
 * at the checkpoint of the source, which is saved as soon as the query has run and then whenever
 * the broker has confirmed what was read: after contact_job.page_size contacts or a few seconds.
 *
 * From a customer comes what was deleted since its watermark (actors/contact_marks.h) less
 * contact_job.overlap_minutes: rows may reach the source in another order than they were deleted
 * in, as when it is loaded once a day. The watermark of a customer of whom nothing came follows the
 * newest contact of all by contact_job.lag_hours, so that a silent one does not make every query
 * begin at its last deletion. Rows of customers that are unknown or not active are counted; when
 * such a one becomes active, it is asked for from where its own watermark stands. A customer that
 * is asked for alone while a pass of all is open leaves that pass, and so does one that is not
 * active when the pass is gone on with.
 *
 * What fails for one customer is tried again after the others, contact_job.retries times; with one
 * query for all, from the checkpoint. A source that is misconfigured, or a pass with too many
 * malformed records, fails the run, and the next one begins that pass anew. A dry run reads
 * everything that is new, publishes nothing and keeps nothing; a query of BigQuery is paid for all
 * the same. Memory: one batch of contacts, CM_PUBLISHER_WINDOW messages, and a mark a customer.
 */
#ifndef CM_ACTORS_JOB_CONTACT_DELETION_H
#define CM_ACTORS_JOB_CONTACT_DELETION_H
#include "actors/batch_job.h"

/* A cm_batch_fn. Beyond its statuses: CM_MISCONFIGURED / "no-source": contact_job.source is none;
 * CM_PERMANENT / "not-active": run->tenant is not. Summary: {"source", "queries",
 * "customers":{"done","failed","skipped"}, "contacts", "known", "strangers", "malformed",
 * "first_malformed", "pages", "bytes_billed" (null: not known), "dry_run"}. */
cm_status_t cm_job_contact_deletion(cm_batch_run_t *run, cm_error_t *err);
#endif
