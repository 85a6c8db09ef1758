/* contact_marks - how far the contact deletion job came with each customer, and with all together.
 *
 * A mark is kept as the job's checkpoint of that customer (schema/job_checkpoint.h), the one of the
 * job as a whole under "". It holds the watermark: the contacts of the customer that were deleted
 * up to then have been published. A reading that is not at its end (the pass) has the rest: since
 * when it asks, where the source stands, the newest contact so far, and counts. The newest contact
 * becomes the watermark when the pass has ended, not before: a source gives no order. No watermark
 * passes the time at which the pass began, in whatever run: what is deleted from then on its query
 * may not have seen.
 *
 * A mark counts from the first contact again when the source is another one (digest), and when the
 * customer was deleted and came back (generation).
 */
#ifndef CM_ACTORS_CONTACT_MARKS_H
#define CM_ACTORS_CONTACT_MARKS_H
#include "actors/batch_job.h"
#include "schema/tenant_registry.h"

#define CM_CONTACT_JOB "contact-deletion" /* of job and lease */

enum { CM_CONTACT_MS_NONE = -1 };

typedef struct {
    int64_t published; /* and confirmed */
    int64_t known;     /* older than the customer's watermark with its overlap: not published */
    int64_t strangers; /* of customers that are unknown or not active: not published */
    int64_t malformed;
    int64_t pages;  /* checkpoints saved behind contacts */
    int64_t billed; /* bytes; CM_CONTACT_MS_NONE: not known */
} cm_contact_counts_t;

typedef struct {
    char tenant[CM_TENANT_ID_MAX]; /* "": the job as a whole */
    int64_t generation;
    int64_t watermark_ms; /* CM_CONTACT_MS_NONE: from the first; of the whole: the newest of all */
    int64_t done_run;     /* that took it to its end last */
    int64_t pass;         /* the run that began the pass which is not at its end; 0 = there is
                           * none, below: a run without history */
    int64_t resumed;      /* times that the pass was gone on with; a customer that was not active at
                           * one of them lacks it, and is no longer of the pass of all */
    int64_t counted_run;  /* whose counts these are */
    int64_t begun_ms;     /* the database's time when it began */
    int64_t since_ms, newest_ms; /* of the pass; newest: CM_CONTACT_MS_NONE = nothing came yet */
    cm_contact_counts_t counts;
    char *source;        /* its checkpoint, owned; NULL = begin the pass from its first contact */
    bool dirty;          /* not saved yet */
    cm_error_t *failure; /* owned; the last one of this process; NULL = none */
    bool settled;        /* this process need not look at it any more */
} cm_contact_mark_t;

typedef struct {
    cm_contact_mark_t whole;
    cm_contact_mark_t *customers; /* those that are active, in order of their id */
    size_t count;
    uint64_t digest;
} cm_contact_marks_t; /* zero-initialise */

/* Active customers (only: that one, NULL = all) with their marks. CM_PERMANENT / "not-active": only
 * is not. */
cm_status_t cm_contact_marks_load(cm_contact_marks_t *self, cm_pg_t *pg, const char *admin_schema,
                                  const char *only, uint64_t digest, cm_error_t *err);
void cm_contact_marks_destroy(cm_contact_marks_t *self);
cm_contact_mark_t *cm_contact_marks_find(const cm_contact_marks_t *self, const char *customer);
/* Save those that are dirty; fenced, in the caller's transaction or one of its own. */
cm_status_t cm_contact_marks_save(cm_contact_marks_t *self, cm_pg_t *pg, const char *admin_schema,
                                  const cm_lease_t *lease, cm_error_t *err);

void cm_contact_mark_set_source(cm_contact_mark_t *self, const char *checkpoint); /* NULL: none */
/* A pass of this run (0: one without history) begins now, by the database's clock or a little
 * earlier, from since_ms on. */
void cm_contact_mark_begin(cm_contact_mark_t *self, int64_t run_id, int64_t now_ms,
                           int64_t since_ms);
/* The pass goes on in this run: a later one counts anew. */
void cm_contact_mark_go_on(cm_contact_mark_t *self, int64_t run_id);
/* Whether the pass of whole is one of the customer's, too, and has been all the time. */
bool cm_contact_mark_is_of(const cm_contact_mark_t *customer, const cm_contact_mark_t *whole);
/* Leave the pass; the watermark stays. */
void cm_contact_mark_drop(cm_contact_mark_t *self);
/* The watermark rises to that time of a contact, but not beyond the beginning of pass, which came
 * to its end; if it was below. */
void cm_contact_mark_raise(cm_contact_mark_t *self, const cm_contact_mark_t *pass, int64_t ms);
/* The pass is at its end, and with it all up to its newest contact taken. */
void cm_contact_mark_end(cm_contact_mark_t *self, int64_t run_id);
void cm_contact_counts_add(cm_contact_counts_t *self, const cm_contact_counts_t *more);

/* The text of a mark, for CM_JOB_CHECKPOINT_MAX bytes; and back: false, and the mark as it was,
 * when it is none of this digest and generation. */
void cm_contact_mark_put(const cm_contact_mark_t *self, uint64_t digest, cm_buffer_t *out);
bool cm_contact_mark_read(cm_contact_mark_t *self, uint64_t digest, cm_str_t text);
#endif
