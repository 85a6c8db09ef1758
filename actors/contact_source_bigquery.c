/* contact_source_bigquery - deleted contacts from a query job of BigQuery. */
#include "actors/contact_source_private.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

typedef struct {
    cm_contact_t contact;
    int64_t row; /* of the result, from 1 */
} read_t;

typedef struct {
    cm_contact_source_t *source;
    cm_bigquery_t *client;
    size_t column_of[CM_CONTACT_VALUES];
    bool is_timestamp; /* deleted_at is epoch microseconds */
    int64_t now_ms, row;
    read_t *waiting; /* one read of the socket brings more than a batch */
    size_t from, to, cap;
    cm_status_t status; /* of the rows read so far; the first failure stays */
    cm_error_t err;
    bool at_end;
} driver_t;

static cm_status_t open_driver(cm_contact_source_t *source, cm_error_t *err)
{
    driver_t *self = calloc(1, sizeof *self);
    if (!self)
        abort();
    self->source = source;
    source->driver = self;
    if (!source->options.query || !source->options.query[0])
        return cm_error_set(err, CM_MISCONFIGURED, "query", "there is no query");
    cm_bigquery_options_t options = source->options.bigquery;
    options.stopped = source->options.stopped;
    options.ctx = source->options.ctx;
    return cm_bigquery_open(&self->client, &options, err);
}

static void close_driver(cm_contact_source_t *source)
{
    driver_t *self = source->driver;
    cm_bigquery_close(&self->client);
    free(self->waiting);
    free(self);
}

/* ---- where it stands ------------------------------------------------------------------------- */

#define CHECKPOINT "bigquery %" PRId64 " %s %s"

static void set_checkpoint(driver_t *self, int64_t row)
{
    cm_bigquery_position_t at = cm_bigquery_position(self->client);
    snprintf(self->source->checkpoint, sizeof self->source->checkpoint, CHECKPOINT, row,
             at.location, at.job);
}

static bool read_checkpoint(const char *text, cm_bigquery_position_t *at)
{
    int len = 0;
    *at = (cm_bigquery_position_t){0};
    return sscanf(text, "bigquery %" SCNd64 " %63s %63s%n", &at->row, at->location, at->job,
                  &len) == 3 &&
           text[len] == '\0';
}

/* ---- begin ----------------------------------------------------------------------------------- */

static cm_status_t find_columns(driver_t *self, cm_error_t *err)
{
    static const char *const names[] = {"customer_id", "contact_id", "deleted_at"};
    const cm_bigquery_column_t *columns;
    size_t count = cm_bigquery_columns(self->client, &columns);
    bool has[CM_CONTACT_VALUES] = {false};
    for (size_t i = 0; i < count; i++) {
        int which = cm_contact_column(cm_str(columns[i].name));
        if (which < 0)
            continue;
        has[which] = true;
        self->column_of[which] = i;
        if (which == CM_CONTACT_DELETED_AT)
            self->is_timestamp = strcmp(columns[i].type, "TIMESTAMP") == 0;
    }
    for (int i = 0; i < CM_CONTACT_VALUES; i++)
        if (!has[i])
            return cm_error_set(err, CM_MISCONFIGURED, "columns", "the query gives no column %s",
                                names[i]);
    return CM_OK;
}

static cm_status_t run(driver_t *self, cm_error_t *err)
{
    char since[CM_TIME_TEXT_MAX];
    const cm_contact_source_t *source = self->source;
    cm_bigquery_parameter_t parameters[] = {
        {"customer", CM_BIGQUERY_STRING, cm_contact_customer(source)},
        {"since", CM_BIGQUERY_TIMESTAMP, cm_clock_format(source->since_ms, since)}};
    cm_bigquery_query_t query = {.sql = source->options.query,
                                 .location = source->options.location,
                                 .parameters = parameters,
                                 .parameter_count = CM_LENGTH(parameters),
                                 .maximum_bytes_billed = source->options.maximum_bytes_billed};
    cm_status_t status = cm_bigquery_run(self->client, &query, err);
    cm_error_t ignored = {0}; /* the contacts matter, not what they cost */
    if (status == CM_OK)
        cm_bigquery_billed(self->client, &self->source->billed, &ignored);
    return status;
}

/* CM_OK without source->resumed: there is nothing to go on with. */
static cm_status_t resume(driver_t *self, const char *checkpoint, cm_error_t *err)
{
    cm_bigquery_position_t at;
    if (!read_checkpoint(checkpoint, &at))
        return CM_OK;
    cm_status_t status = cm_bigquery_resume(self->client, &at, err);
    self->source->resumed = status == CM_OK;
    /* Its failure is of then: a job that is gone or has failed is run anew. */
    bool is_of_job = status == CM_TRANSIENT || status == CM_PERMANENT;
    return is_of_job ? CM_OK : status;
}

static cm_status_t begin(cm_contact_source_t *source, const char *checkpoint, cm_error_t *err)
{
    driver_t *self = source->driver;
    self->from = self->to = 0;
    self->status = CM_OK;
    self->at_end = false;
    cm_status_t status = resume(self, checkpoint, err);
    if (status == CM_OK && !source->resumed)
        status = run(self, err);
    if (status == CM_OK)
        status = find_columns(self, err);
    if (status != CM_OK)
        return status;
    self->row = cm_bigquery_position(self->client).row;
    set_checkpoint(self, self->row);
    return CM_OK;
}

/* ---- next ------------------------------------------------------------------------------------ */

static void keep(driver_t *self, const cm_contact_t *contact)
{
    if (self->to == self->cap) {
        self->cap = self->cap ? self->cap * 2 : 1024;
        self->waiting = realloc(self->waiting, self->cap * sizeof *self->waiting);
        if (!self->waiting)
            abort();
    }
    self->waiting[self->to++] = (read_t){*contact, self->row};
}

/* Microseconds as a text become milliseconds as one. */
static void to_ms(cm_str_t *us, char text[24])
{
    int64_t value;
    if (!us->ptr || !cm_str_to_i64(*us, &value))
        return;
    snprintf(text, 24, "%" PRId64, value / 1000 - (value % 1000 < 0));
    *us = cm_str(text);
}

static void on_row(void *ctx, const cm_str_t *values)
{
    driver_t *self = ctx;
    char text[24];
    cm_str_t texts[CM_CONTACT_VALUES];
    cm_contact_t contact = {0};
    cm_error_t why = {0};
    self->row++;
    if (self->status != CM_OK)
        return;
    for (int i = 0; i < CM_CONTACT_VALUES; i++)
        texts[i] = values[self->column_of[i]];
    if (self->is_timestamp)
        to_ms(&texts[CM_CONTACT_DELETED_AT], text);
    if (cm_contact_from_texts(texts, self->now_ms, &contact, &why) != CM_OK)
        self->status = cm_contact_pass_over(self->source, "row", self->row, &why, &self->err);
    else
        self->status = cm_contact_check_customer(self->source, &contact, &self->err);
    if (self->status == CM_OK && !why.status)
        keep(self, &contact);
}

/* Behind what was given last; nothing is before the first. */
static void set_checkpoint_of(driver_t *self)
{
    if (self->from > 0)
        set_checkpoint(self, self->waiting[self->from - 1].row);
}

static cm_status_t read_more(driver_t *self, cm_error_t *err)
{
    self->from = self->to = 0;
    self->now_ms = cm_clock_epoch_ms();
    cm_status_t status = CM_OK;
    while (status == CM_OK && self->status == CM_OK && self->to == 0 && !self->at_end)
        status = cm_bigquery_next(self->client, on_row, self, &self->at_end, err);
    return status;
}

static cm_status_t next(cm_contact_source_t *source, size_t max, cm_error_t *err)
{
    driver_t *self = source->driver;
    cm_status_t status = CM_OK;
    while (source->count < max && status == CM_OK) {
        if (self->from < self->to) {
            cm_contact_batch_add(source, &self->waiting[self->from++].contact);
        } else if (self->status != CM_OK) {
            *err = self->err;
            status = self->status;
        } else if (self->at_end) {
            break;
        } else {
            set_checkpoint_of(self);
            status = read_more(self, err);
        }
    }
    set_checkpoint_of(self);
    return status;
}

const cm_contact_driver_t cm_contact_bigquery = {"bigquery", open_driver, close_driver, begin,
                                                 next};
