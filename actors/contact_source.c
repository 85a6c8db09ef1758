#include "actors/contact_source_private.h"

#include "runtime/cleanup.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const cm_contact_driver_t *const drivers[] = {&cm_contact_bigquery, &cm_contact_postgres,
                                                     &cm_contact_file};

cm_status_t cm_contact_source_open(cm_contact_source_t **ret_self,
                                   const cm_contact_source_options_t *options, cm_error_t *err)
{
    assert((size_t)options->kind < CM_LENGTH(drivers));
    CM_CLEANUP(cm_contact_source_close) cm_contact_source_t *self = calloc(1, sizeof *self);
    if (!self)
        abort();
    self->options = *options;
    self->kind = drivers[options->kind];
    cm_status_t status = self->kind->open(self, err);
    if (status != CM_OK)
        return cm_error_prefix(err, "contact source %s", self->kind->name);
    *ret_self = CM_TAKE(self);
    return CM_OK;
}

void cm_contact_source_close(cm_contact_source_t **self_p)
{
    cm_contact_source_t *self = *self_p;
    if (!self)
        return;
    if (self->driver)
        self->kind->close(self);
    free(self->batch);
    free(self);
    *self_p = NULL;
}

cm_status_t cm_contact_source_begin(cm_contact_source_t *self, const char *customer_id,
                                    int64_t since_ms, const char *checkpoint, cm_error_t *err)
{
    assert(!customer_id || strlen(customer_id) < sizeof self->customer_id);
    snprintf(self->customer_id, sizeof self->customer_id, "%s", customer_id ? customer_id : "");
    self->since_ms = since_ms;
    self->resumed = false;
    self->failure = (cm_error_t){0};
    self->count = 0;
    self->malformed = 0;
    self->billed = -1;
    self->first_malformed[0] = self->checkpoint[0] = '\0';
    cm_status_t status = cm_contact_check_stop(self, err);
    if (status == CM_OK)
        status = self->kind->begin(self, checkpoint ? checkpoint : "", err);
    self->begun = status == CM_OK;
    return status == CM_OK ? CM_OK : cm_error_prefix(err, "contact source %s", self->kind->name);
}

/* A stop may be followed by a further try, all else is the end. */
static cm_status_t fail(cm_contact_source_t *self, cm_error_t *err)
{
    *err = self->failure;
    if (err->status == CM_CANCELLED)
        self->failure = (cm_error_t){0};
    return cm_error_prefix(err, "contact source %s", self->kind->name);
}

cm_status_t cm_contact_source_next(cm_contact_source_t *self, size_t max,
                                   const cm_contact_t **ret_contacts, size_t *ret_count,
                                   cm_error_t *err)
{
    assert(self->begun && max > 0);
    self->count = 0;
    *ret_count = 0;
    if (self->failure.status != CM_OK)
        return fail(self, err);
    cm_status_t status = cm_contact_check_stop(self, &self->failure);
    if (status == CM_OK)
        status = self->kind->next(self, max < CM_CONTACT_BATCH_MAX ? max : CM_CONTACT_BATCH_MAX,
                                  &self->failure);
    if (status != CM_OK && self->count == 0)
        return fail(self, err);
    *ret_contacts = self->batch;
    *ret_count = self->count;
    return CM_OK;
}

const char *cm_contact_source_checkpoint(const cm_contact_source_t *self)
{
    return self->checkpoint;
}

bool cm_contact_source_resumed(const cm_contact_source_t *self)
{
    return self->resumed;
}

int64_t cm_contact_source_billed(const cm_contact_source_t *self)
{
    return self->billed;
}

int64_t cm_contact_source_malformed(const cm_contact_source_t *self, const char **ret_first)
{
    *ret_first = self->first_malformed;
    return self->malformed;
}

const char *cm_contact_source_kind_name(cm_contact_source_kind_t kind)
{
    return drivers[kind]->name;
}

/* ---- for the drivers ------------------------------------------------------------------------- */

void cm_contact_batch_add(cm_contact_source_t *self, const cm_contact_t *contact)
{
    if (self->count == self->cap) {
        self->cap = self->cap ? self->cap * 2 : 256;
        self->batch = realloc(self->batch, self->cap * sizeof *self->batch);
        if (!self->batch)
            abort();
    }
    self->batch[self->count++] = *contact;
}

const char *cm_contact_customer(const cm_contact_source_t *self)
{
    return self->customer_id[0] ? self->customer_id : NULL;
}

cm_status_t cm_contact_check_customer(const cm_contact_source_t *self, const cm_contact_t *contact,
                                      cm_error_t *err)
{
    if (!self->customer_id[0] || strcmp(self->customer_id, contact->customer_id) == 0)
        return CM_OK;
    return cm_error_set(err, CM_MISCONFIGURED, "foreign-customer",
                        "asked for customer %s, the query gives rows of %s", self->customer_id,
                        contact->customer_id);
}

cm_status_t cm_contact_pass_over(cm_contact_source_t *self, const char *kind, int64_t number,
                                 const cm_error_t *why, cm_error_t *err)
{
    char text[CM_ERROR_MESSAGE_MAX];
    snprintf(text, sizeof text, "%s %" PRId64 ": %.200s", kind, number, why->message);
    if (self->malformed++ == 0)
        snprintf(self->first_malformed, sizeof self->first_malformed, "%s", text);
    if (self->malformed <= self->options.malformed_max)
        return CM_OK;
    return cm_error_set(err, CM_PERMANENT, "malformed", "%s; more than %" PRId64 " such", text,
                        self->options.malformed_max);
}

cm_status_t cm_contact_check_stop(const cm_contact_source_t *self, cm_error_t *err)
{
    if (self->options.stopped && self->options.stopped(self->options.ctx))
        return cm_error_set(err, CM_CANCELLED, "stopped", "stopped");
    return CM_OK;
}
