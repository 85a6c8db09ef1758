/* contact_pass - one reading of a contact source to its end: each contact published, and the
 * checkpoint saved behind what the broker has confirmed.
 *
 * Part of job_contact_deletion, which says what is asked for and what a failure means.
 */
#ifndef CM_ACTORS_CONTACT_PASS_H
#define CM_ACTORS_CONTACT_PASS_H
#include "actors/contact_marks.h"
#include "actors/contact_source.h"
#include "actors/publisher.h"

/* All but what is marked is the caller's to set. */
typedef struct {
    cm_batch_run_t *run;
    const cm_options_t *options;
    cm_contact_source_t *source;
    cm_publisher_t *publisher; /* NULL: a dry run */
    cm_contact_marks_t marks;
    int64_t now_ms;          /* the database's, before anything is asked for */
    bool asks_once;          /* for all customers at once */
    cm_contact_mark_t *open; /* whose pass it is: the whole's, or a customer's */
    uint64_t sent;           /* messages, confirmed or not */
    char first_malformed[CM_ERROR_MESSAGE_MAX];
    int64_t anew; /* times the source has begun at its first contact; the caller's to reset */
    /* Of the reading since the source was begun last: */
    int64_t read;    /* contacts that it gave */
    int64_t unsaved; /* of those, behind the last checkpoint */
    bool outside;    /* it failed for a reason that is not the source's */
    bool broken_off; /* in a batch: the source stands behind contacts that were not published */
    int64_t malformed_before;
    int64_t saved_ms, told_ms; /* monotonic; told: that the run lives */
    cm_buffer_t body;          /* of the message in hand, owned */
} cm_contact_pass_t;

/* Read what self->open asks for: go on with its pass, or begin one. Whatever the source ends with,
 * what it gave before is published, confirmed and saved; after a stop in the middle of a batch,
 * what came before the last checkpoint is. The statuses of the source, of the publisher and of our
 * database; the last two with `outside` set. CM_CANCELLED: asked to stop. */
cm_status_t cm_contact_pass_read(cm_contact_pass_t *self, cm_error_t *err);
/* CM_CANCELLED when the run is to stop. */
cm_status_t cm_contact_pass_check_stop(const cm_contact_pass_t *self, cm_error_t *err);
/* Save the marks that have changed, in the caller's transaction or one of its own; not in a dry
 * run. */
cm_status_t cm_contact_pass_save(cm_contact_pass_t *self, cm_error_t *err);
#endif
