/* contact_source_postgres - deleted contacts from a query of a PostgreSQL database. */
#include "actors/contact_source_private.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "schema/contact_query.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { STATEMENT_TIMEOUT_MS = 600000, CUSTOMER_MAX = 257 };

typedef struct {
    cm_contact_source_t *source;
    cm_pg_t *pg;
    int64_t now_ms, row;                                            /* rows read since begin */
    char customer_id[CUSTOMER_MAX], contact_id[24], deleted_us[24]; /* of the row given last */
    cm_status_t status; /* of the rows of one fetch; the first failure stays */
    cm_error_t err;
    bool at_end;
} driver_t;

static cm_status_t open_driver(cm_contact_source_t *source, cm_error_t *err)
{
    const cm_contact_source_options_t *options = &source->options;
    driver_t *self = calloc(1, sizeof *self);
    if (!self)
        abort();
    self->source = source;
    source->driver = self;
    if (!options->query || !options->query[0])
        return cm_error_set(err, CM_MISCONFIGURED, "query", "there is no query");
    if (!options->postgres_uri || !options->postgres_uri[0])
        return cm_error_set(err, CM_MISCONFIGURED, "uri", "there is no connection URI");
    self->pg = cm_pg_new(&(cm_pg_options_t){
        .uri = options->postgres_uri,
        .stopped = options->stopped, /* its statements take as long as the operator's query */
        .wait_ctx = options->ctx,
        .application_name = "client-manager contact source",
        .statement_timeout_ms = options->statement_timeout_ms > 0 ? options->statement_timeout_ms
                                                                  : STATEMENT_TIMEOUT_MS});
    return CM_OK;
}

static void close_driver(cm_contact_source_t *source)
{
    driver_t *self = source->driver;
    cm_pg_destroy(&self->pg);
    free(self);
}

/* ---- where it stands ------------------------------------------------------------------------- */

/* The customer comes last: it may contain anything. */
static void set_checkpoint(driver_t *self)
{
    snprintf(self->source->checkpoint, sizeof self->source->checkpoint, "postgres %s %s %s",
             self->deleted_us, self->contact_id, self->customer_id);
}

static bool read_checkpoint(driver_t *self, const char *text)
{
    int len = 0;
    int64_t unused;
    bool fits =
        sscanf(text, "postgres %23s %23s %n", self->deleted_us, self->contact_id, &len) == 2 &&
        len > 0 && strlen(text + len) < sizeof self->customer_id &&
        cm_str_to_i64(cm_str(self->deleted_us), &unused) &&
        cm_str_to_i64(cm_str(self->contact_id), &unused);
    if (fits)
        strcpy(self->customer_id, text + len);
    return fits;
}

static cm_status_t begin(cm_contact_source_t *source, const char *checkpoint, cm_error_t *err)
{
    driver_t *self = source->driver;
    cm_status_t status = CM_OK;
    self->row = 0;
    self->status = CM_OK;
    self->at_end = false;
    if (!cm_pg_is_connected(self->pg))
        status = cm_pg_connect(self->pg, NULL, err);
    if (status != CM_OK)
        return status;
    cm_contact_query_close(self->pg); /* of the customer before */
    if (!cm_pg_is_connected(self->pg))
        status = cm_pg_connect(self->pg, NULL, err);
    source->resumed = read_checkpoint(self, checkpoint);
    cm_contact_key_t after = {self->customer_id, self->contact_id, self->deleted_us};
    if (status == CM_OK)
        status = cm_contact_query_open(self->pg, source->options.query, cm_contact_customer(source),
                                       source->since_ms, source->resumed ? &after : NULL, err);
    if (status == CM_OK && source->resumed)
        set_checkpoint(self);
    return status;
}

/* ---- next ------------------------------------------------------------------------------------ */

static void copy_text(char *to, size_t size, cm_str_t from)
{
    snprintf(to, size, "%.*s", CM_STR_ARG(from));
}

static void on_row(void *ctx, const cm_contact_row_t *row)
{
    driver_t *self = ctx;
    char ms[24];
    int64_t us = 0;
    cm_contact_t contact = {0};
    cm_error_t why = {0};
    self->row++;
    if (self->status != CM_OK)
        return;
    cm_str_t texts[] = {row->customer_id, row->contact_id, row->deleted_us};
    if (row->deleted_us.ptr && cm_str_to_i64(row->deleted_us, &us)) {
        snprintf(ms, sizeof ms, "%" PRId64, us / 1000 - (us % 1000 < 0));
        texts[CM_CONTACT_DELETED_AT] = cm_str(ms);
    }
    if (cm_contact_from_texts(texts, self->now_ms, &contact, &why) != CM_OK)
        self->status = cm_contact_pass_over(self->source, "row", self->row, &why, &self->err);
    else
        self->status = cm_contact_check_customer(self->source, &contact, &self->err);
    if (self->status != CM_OK || why.status != CM_OK)
        return;
    cm_contact_batch_add(self->source, &contact);
    copy_text(self->customer_id, sizeof self->customer_id, row->customer_id);
    copy_text(self->contact_id, sizeof self->contact_id, row->contact_id);
    copy_text(self->deleted_us, sizeof self->deleted_us, row->deleted_us);
}

static cm_status_t next(cm_contact_source_t *source, size_t max, cm_error_t *err)
{
    driver_t *self = source->driver;
    cm_status_t status = CM_OK;
    self->now_ms = cm_clock_epoch_ms();
    while (status == CM_OK && source->count < max && !self->at_end) {
        size_t count = 0, wanted = max - source->count;
        status = cm_contact_query_fetch(self->pg, wanted, on_row, self, &count, err);
        self->at_end = status == CM_OK && count < wanted;
        if (status == CM_OK && self->status != CM_OK) {
            *err = self->err;
            status = self->status;
        }
        if (status == CM_OK && !self->at_end)
            status = cm_contact_check_stop(source, err);
    }
    if (source->count > 0)
        set_checkpoint(self);
    if (self->at_end)
        cm_contact_query_close(self->pg); /* its snapshot holds up that database's vacuum */
    return status;
}

const cm_contact_driver_t cm_contact_postgres = {"postgres", open_driver, close_driver, begin,
                                                 next};
