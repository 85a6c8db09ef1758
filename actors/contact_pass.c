#include "actors/contact_pass.h"

#include "runtime/cleanup.h"
#include "runtime/clock.h"

#include <inttypes.h>
#include <stdio.h>

enum {
    BATCH = 2000,         /* contacts read at once */
    SAVE_AFTER_MS = 5000, /* without a checkpoint */
    TELL_AFTER_MS = 1000, /* without a sign of life, in the middle of a batch */
    MINUTE_MS = 60 * 1000,
};

cm_status_t cm_contact_pass_check_stop(const cm_contact_pass_t *self, cm_error_t *err)
{
    return cm_batch_stopped(self->run) ? cm_error_set(err, CM_CANCELLED, "stopped", "stopped")
                                       : CM_OK;
}

/* ---- one contact ----------------------------------------------------------------------------- */

static int64_t since_of(const cm_contact_pass_t *self, const cm_contact_mark_t *customer)
{
    int64_t since_ms =
        customer->watermark_ms - self->options->contact_job.overlap_minutes * MINUTE_MS;
    return since_ms > 0 ? since_ms : 0;
}

static cm_status_t publish(cm_contact_pass_t *self, const cm_contact_t *contact, cm_error_t *err)
{
    if (!self->publisher)
        return CM_OK;
    cm_buffer_clear(&self->body);
    cm_buffer_printf(&self->body,
                     "{\"customerId\":\"%s\",\"contactId\":%" PRId64 ",\"deletedAt\":%" PRId64 "}",
                     contact->customer_id, contact->contact_id, contact->deleted_ms);
    cm_message_t message = {.body = {self->body.data, self->body.len}};
    cm_status_t status =
        cm_publisher_send(self->publisher, CM_SUBSCRIPTION_CONTACT_DELETION, &message, err);
    self->sent += status == CM_OK;
    self->outside = status != CM_OK;
    return status;
}

static void count_published(cm_contact_mark_t *mark, const cm_contact_t *contact)
{
    mark->counts.published++;
    mark->dirty = true;
    if (contact->deleted_ms > mark->newest_ms)
        mark->newest_ms = contact->deleted_ms;
}

static cm_status_t take(cm_contact_pass_t *self, const cm_contact_t *contact, cm_error_t *err)
{
    cm_contact_mark_t *customer =
        self->asks_once ? cm_contact_marks_find(&self->marks, contact->customer_id) : self->open;
    if (!customer) {
        self->open->counts.strangers++;
        return CM_OK;
    }
    if (contact->deleted_ms < since_of(self, customer)) {
        self->open->counts.known++;
        return CM_OK;
    }
    cm_status_t status = publish(self, contact, err);
    if (status != CM_OK)
        return status;
    count_published(self->open, contact);
    if (customer != self->open && cm_contact_mark_is_of(customer, self->open))
        count_published(customer, contact);
    self->run->progress.rows++;
    return CM_OK;
}

/* ---- checkpoints ----------------------------------------------------------------------------- */

cm_status_t cm_contact_pass_save(cm_contact_pass_t *self, cm_error_t *err)
{
    if (self->run->dry_run)
        return CM_OK;
    cm_status_t status = cm_contact_marks_save(
        &self->marks, self->run->pg, self->options->postgres.admin_schema, self->run->lease, err);
    self->outside |= status != CM_OK;
    return status;
}

static void count_malformed(cm_contact_pass_t *self)
{
    const char *first;
    self->open->counts.malformed =
        self->malformed_before + cm_contact_source_malformed(self->source, &first);
    if (!self->first_malformed[0])
        snprintf(self->first_malformed, sizeof self->first_malformed, "%s", first);
}

/* All that was read is confirmed, and will not be read again. */
static cm_status_t checkpoint(cm_contact_pass_t *self, cm_error_t *err)
{
    cm_status_t status = self->publisher ? cm_publisher_flush(self->publisher, err) : CM_OK;
    self->outside |= status != CM_OK;
    if (status != CM_OK)
        return status;
    count_malformed(self);
    self->open->counts.pages += self->unsaved > 0;
    cm_contact_mark_set_source(self->open, cm_contact_source_checkpoint(self->source));
    status = cm_contact_pass_save(self, err);
    self->unsaved = 0;
    self->saved_ms = cm_clock_mono_ms();
    return status;
}

static cm_status_t checkpoint_if_due(cm_contact_pass_t *self, cm_error_t *err)
{
    bool is_due = self->unsaved >= self->options->contact_job.page_size ||
                  cm_clock_mono_ms() - self->saved_ms >= SAVE_AFTER_MS;
    return is_due ? checkpoint(self, err) : CM_OK;
}

/* ---- a pass ---------------------------------------------------------------------------------- */

/* All customers together: from where the one that is furthest behind stands. */
static void begin_whole(cm_contact_pass_t *self)
{
    cm_contact_marks_t *marks = &self->marks;
    int64_t since_ms = INT64_MAX;
    for (size_t i = 0; i < marks->count; i++) {
        int64_t own_ms = since_of(self, &marks->customers[i]);
        cm_contact_mark_begin(&marks->customers[i], self->run->run_id, self->now_ms, own_ms);
        since_ms = own_ms < since_ms ? own_ms : since_ms;
    }
    cm_contact_mark_begin(&marks->whole, self->run->run_id, self->now_ms, since_ms);
}

/* One that was left takes its customers along: who has come since is not of it, nor who was away
 * for a part of it. */
static void go_on(cm_contact_pass_t *self)
{
    cm_contact_marks_t *marks = &self->marks;
    for (size_t i = 0; self->asks_once && i < marks->count; i++)
        if (cm_contact_mark_is_of(&marks->customers[i], &marks->whole))
            cm_contact_mark_go_on(&marks->customers[i], self->run->run_id);
    cm_contact_mark_go_on(self->open, self->run->run_id);
}

/* A customer's part in the pass of all is none to go on with, and leaves that one: its query is
 * older than ours. */
static bool may_go_on(const cm_contact_pass_t *self)
{
    return self->open->pass && !self->run->dry_run &&
           (self->asks_once || self->open->pass != self->marks.whole.pass);
}

static cm_status_t begin_pass(cm_contact_pass_t *self, cm_error_t *err)
{
    cm_contact_mark_t *open = self->open;
    if (may_go_on(self))
        go_on(self);
    else if (self->asks_once)
        begin_whole(self);
    else
        cm_contact_mark_begin(open, self->run->run_id, self->now_ms, since_of(self, open));
    self->read = self->unsaved = 0;
    self->broken_off = false;
    cm_status_t status = cm_contact_source_begin(
        self->source, self->asks_once ? NULL : open->tenant, open->since_ms, open->source, err);
    if (status != CM_OK)
        return status;
    if (!cm_contact_source_resumed(self->source)) {
        self->anew++;
        open->counts.malformed = 0;
    }
    self->malformed_before = open->counts.malformed;
    cm_contact_counts_add(&open->counts,
                          &(cm_contact_counts_t){.billed = cm_contact_source_billed(self->source)});
    return checkpoint(self, err); /* a query that has run is paid for */
}

/* The source bounds them after each beginning. */
static cm_status_t check_malformed(const cm_contact_pass_t *self, cm_error_t *err)
{
    if (self->open->counts.malformed <= self->options->contact_job.malformed_max)
        return CM_OK;
    return cm_error_set(err, CM_PERMANENT, "malformed",
                        "%" PRId64 " records are malformed, at first %.150s",
                        self->open->counts.malformed, self->first_malformed);
}

/* At a low rate, or with a slow broker, a batch takes long. */
static cm_status_t tell(cm_contact_pass_t *self, cm_error_t *err)
{
    if (cm_clock_mono_ms() - self->told_ms < TELL_AFTER_MS)
        return CM_OK;
    self->told_ms = cm_clock_mono_ms();
    cm_batch_show(self->run);
    return cm_contact_pass_check_stop(self, err);
}

static cm_status_t take_all(cm_contact_pass_t *self, const cm_contact_t *contacts, size_t count,
                            cm_error_t *err)
{
    cm_status_t status = CM_OK;
    self->told_ms = cm_clock_mono_ms();
    for (size_t i = 0; status == CM_OK && i < count; i++) {
        status = take(self, &contacts[i], err);
        if (status == CM_OK && i + 1 < count)
            status = tell(self, err);
    }
    self->broken_off = status != CM_OK;
    return status;
}

static cm_status_t take_batch(cm_contact_pass_t *self, size_t max, size_t *ret_count,
                              cm_error_t *err)
{
    const cm_contact_t *contacts;
    cm_status_t status = cm_contact_source_next(self->source, max, &contacts, ret_count, err);
    if (status == CM_OK)
        status = take_all(self, contacts, *ret_count, err);
    if (status != CM_OK)
        return status;
    self->read += (int64_t)*ret_count;
    self->unsaved += (int64_t)*ret_count;
    cm_batch_show(self->run);
    count_malformed(self);
    return check_malformed(self, err);
}

/* No more than page_size allows, and what is published until the next checkpoint is due. */
static size_t batch_of(const cm_contact_pass_t *self)
{
    int64_t room = self->options->contact_job.page_size - self->unsaved;
    int64_t rate = self->options->contact_job.rate;
    int64_t most = rate && self->publisher ? rate * SAVE_AFTER_MS / 1000 : BATCH;
    most = most < BATCH ? most : BATCH;
    return (size_t)(room < most ? room : most);
}

static cm_status_t read_on(cm_contact_pass_t *self, cm_error_t *err)
{
    cm_status_t status = CM_OK;
    for (size_t count = 1; status == CM_OK && count;) {
        status = cm_contact_pass_check_stop(self, err);
        if (status == CM_OK)
            status = take_batch(self, batch_of(self), &count, err);
        if (status == CM_OK)
            status = checkpoint_if_due(self, err);
    }
    return status;
}

cm_status_t cm_contact_pass_read(cm_contact_pass_t *self, cm_error_t *err)
{
    cm_error_t more = {0};
    self->outside = false;
    cm_status_t status = begin_pass(self, err);
    if (status != CM_OK)
        return status;
    status = read_on(self, err);
    if (self->outside || self->broken_off || self->unsaved == 0 ||
        checkpoint(self, &more) == CM_OK || status == CM_CANCELLED)
        return status;
    *err = more;
    return err->status;
}
