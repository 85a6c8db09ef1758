#include "runtime/bigquery_page.h"

#include "runtime/buffer.h"
#include "runtime/cleanup.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <yajl/yajl_parse.h>

enum { DEPTH_MAX = 32 }; /* of what is skipped */

typedef enum { OUTSIDE, TOP, ROWS, ROW, CELLS, CELL, DONE } place_t;
typedef enum { OTHER, COMPLETE, TOTAL, TOKEN, ROW_LIST, F, V } member_t;

struct cm_bigquery_page {
    size_t columns;
    cm_bigquery_row_fn *on_row;
    void *ctx;
    yajl_handle yajl;
    place_t place;
    member_t key;    /* of the member whose value comes next */
    unsigned seen;   /* members of the answer, a bit each */
    size_t skipping; /* depth within a member of no interest */
    const char *fault;
    size_t silent; /* bytes fed since yajl called last: a text that does not end */
    bool complete, has_cells, has_value;
    int64_t total_rows, row_count;
    char token[CM_BIGQUERY_TOKEN_MAX];
    size_t cell_count;
    cm_buffer_t bytes; /* of the cells of the row being read */
    cm_str_t cells[CM_BIGQUERY_COLUMNS_MAX];
    size_t offsets[CM_BIGQUERY_COLUMNS_MAX]; /* bytes may move while a row grows */
};

static const struct {
    place_t place;
    const char *name;
    member_t key;
} members[] = {{TOP, "jobComplete", COMPLETE},
               {TOP, "totalRows", TOTAL},
               {TOP, "pageToken", TOKEN},
               {TOP, "rows", ROW_LIST},
               {ROW, "f", F},
               {CELL, "v", V}};

static int fail(cm_bigquery_page_t *self, const char *fault)
{
    self->fault = fault;
    return 0; /* yajl stops */
}

/* ---- values ---------------------------------------------------------------------------------- */

static int add_cell(cm_bigquery_page_t *self, cm_str_t value)
{
    if (self->has_value || self->cell_count == self->columns)
        return fail(self, "a row has more cells than there are columns");
    if (self->bytes.len + value.len > CM_BIGQUERY_ROW_BYTES_MAX)
        return fail(self, "a row is too large");
    self->has_value = true;
    self->offsets[self->cell_count] = self->bytes.len;
    self->cells[self->cell_count++] = value; /* placed once the row is whole */
    if (value.len)
        cm_buffer_append(&self->bytes, value.ptr, value.len);
    return 1;
}

static int end_row(cm_bigquery_page_t *self)
{
    if (!self->has_cells || self->cell_count != self->columns)
        return fail(self, "a row has fewer cells than there are columns");
    for (size_t i = 0; i < self->cell_count; i++) {
        cm_str_t *cell = &self->cells[i];
        if (cell->ptr)
            cell->ptr = cell->len ? self->bytes.data + self->offsets[i] : "";
    }
    self->row_count++;
    self->place = ROWS;
    self->on_row(self->ctx, self->cells);
    return 1;
}

static int set_total(cm_bigquery_page_t *self, cm_str_t text)
{
    int64_t total;
    if (!cm_str_to_i64(text, &total) || total < 0)
        return fail(self, "totalRows is no number");
    self->total_rows = total;
    return 1;
}

/* It becomes part of an address, escaped. */
static int set_token(cm_bigquery_page_t *self, cm_str_t text)
{
    if (text.len == 0 || text.len >= sizeof self->token || memchr(text.ptr, '\0', text.len))
        return fail(self, "pageToken is of no use");
    memcpy(self->token, text.ptr, text.len);
    self->token[text.len] = '\0';
    return 1;
}

/* ---- what yajl calls ------------------------------------------------------------------------- */

/* A value of no interest; true when it is one and may pass. */
static bool passes(const cm_bigquery_page_t *self)
{
    return self->skipping || (self->key == OTHER &&
                              (self->place == TOP || self->place == ROW || self->place == CELL));
}

static int on_null(void *ctx)
{
    cm_bigquery_page_t *self = ctx;
    self->silent = 0;
    if (passes(self) || self->place == TOP)
        return 1;
    if (self->place == CELL)
        return add_cell(self, CM_STR_NONE);
    return fail(self, "null in place of a row");
}

static int on_boolean(void *ctx, int value)
{
    cm_bigquery_page_t *self = ctx;
    self->silent = 0;
    if (passes(self))
        return 1;
    if (self->place != TOP || self->key != COMPLETE)
        return fail(self, "a boolean in place of something else");
    self->complete = value;
    return 1;
}

static int on_number(void *ctx, const char *ptr, size_t len)
{
    cm_bigquery_page_t *self = ctx;
    self->silent = 0;
    if (passes(self))
        return 1;
    if (self->place == TOP && self->key == TOTAL)
        return set_total(self, (cm_str_t){ptr, len});
    return fail(self, "a number in place of something else");
}

static int on_string(void *ctx, const unsigned char *ptr, size_t len)
{
    cm_bigquery_page_t *self = ctx;
    cm_str_t text = {len ? (const char *)ptr : "", len};
    self->silent = 0;
    if (passes(self))
        return 1;
    if (self->place == CELL)
        return add_cell(self, text);
    if (self->place == TOP && self->key == TOTAL)
        return set_total(self, text);
    if (self->place == TOP && self->key == TOKEN)
        return set_token(self, text);
    return fail(self, "a text in place of something else");
}

static int begin_row(cm_bigquery_page_t *self)
{
    self->place = ROW;
    self->key = OTHER;
    self->has_cells = false;
    self->cell_count = 0;
    cm_buffer_clear(&self->bytes);
    return 1;
}

static int on_start_map(void *ctx)
{
    cm_bigquery_page_t *self = ctx;
    self->silent = 0;
    if (passes(self))
        return ++self->skipping <= DEPTH_MAX ? 1 : fail(self, "nested too deep");
    if (self->place == ROWS)
        return begin_row(self);
    if (self->place != OUTSIDE && self->place != CELLS)
        return fail(self, "an object in place of something else");
    self->place = self->place == OUTSIDE ? TOP : CELL;
    self->key = OTHER;
    self->has_value = false;
    return 1;
}

static int on_end_map(void *ctx)
{
    cm_bigquery_page_t *self = ctx;
    self->silent = 0;
    if (self->skipping) {
        self->skipping--;
        return 1;
    }
    if (self->place == ROW)
        return end_row(self);
    if (self->place == CELL && !self->has_value)
        return fail(self, "a cell without a value");
    self->place = self->place == CELL ? CELLS : DONE;
    return 1;
}

static int on_start_array(void *ctx)
{
    cm_bigquery_page_t *self = ctx;
    self->silent = 0;
    if (passes(self))
        return ++self->skipping <= DEPTH_MAX ? 1 : fail(self, "nested too deep");
    if (self->place == TOP && self->key == ROW_LIST) {
        self->place = ROWS;
    } else if (self->place == ROW && self->key == F && !self->has_cells) {
        self->place = CELLS;
        self->has_cells = true;
    } else {
        return fail(self, "a list in place of something else");
    }
    return 1;
}

static int on_end_array(void *ctx)
{
    cm_bigquery_page_t *self = ctx;
    self->silent = 0;
    if (self->skipping) {
        self->skipping--;
        return 1;
    }
    self->place = self->place == ROWS ? TOP : ROW;
    self->key = OTHER;
    return 1;
}

static int on_map_key(void *ctx, const unsigned char *ptr, size_t len)
{
    cm_bigquery_page_t *self = ctx;
    cm_str_t name = {(const char *)ptr, len};
    self->silent = 0;
    if (self->skipping)
        return 1;
    self->key = OTHER;
    for (size_t i = 0; i < CM_LENGTH(members); i++)
        if (members[i].place == self->place && cm_str_is(name, members[i].name))
            self->key = members[i].key;
    unsigned bit = self->place == TOP && self->key != OTHER ? 1U << self->key : 0;
    if (self->seen & bit)
        return fail(self, "a member is repeated");
    self->seen |= bit;
    return 1;
}

/* ---- reading --------------------------------------------------------------------------------- */

static const yajl_callbacks callbacks = {.yajl_null = on_null,
                                         .yajl_boolean = on_boolean,
                                         .yajl_number = on_number,
                                         .yajl_string = on_string,
                                         .yajl_start_map = on_start_map,
                                         .yajl_map_key = on_map_key,
                                         .yajl_end_map = on_end_map,
                                         .yajl_start_array = on_start_array,
                                         .yajl_end_array = on_end_array};

static cm_status_t malformed(const cm_bigquery_page_t *self, cm_error_t *err)
{
    return cm_error_set(err, CM_PERMANENT, "malformed", "the answer is malformed: %s",
                        self->fault ? self->fault : "no JSON");
}

cm_bigquery_page_t *cm_bigquery_page_new(size_t columns, cm_bigquery_row_fn *on_row, void *ctx)
{
    assert(columns <= CM_BIGQUERY_COLUMNS_MAX);
    cm_bigquery_page_t *self = calloc(1, sizeof *self);
    if (!self)
        abort();
    self->columns = columns;
    self->on_row = on_row;
    self->ctx = ctx;
    cm_bigquery_page_reset(self);
    return self;
}

void cm_bigquery_page_reset(cm_bigquery_page_t *self)
{
    if (self->yajl)
        yajl_free(self->yajl);
    self->yajl = yajl_alloc(&callbacks, NULL, self);
    if (!self->yajl)
        abort();
    self->place = OUTSIDE;
    self->key = OTHER;
    self->seen = 0;
    self->skipping = self->silent = 0;
    self->fault = NULL;
    self->complete = false;
    self->total_rows = -1;
    self->row_count = 0;
    self->token[0] = '\0';
}

void cm_bigquery_page_destroy(cm_bigquery_page_t **self_p)
{
    cm_bigquery_page_t *self = *self_p;
    if (!self)
        return;
    yajl_free(self->yajl);
    cm_buffer_destroy(&self->bytes);
    free(self);
    *self_p = NULL;
}

cm_status_t cm_bigquery_page_feed(cm_bigquery_page_t *self, cm_str_t bytes, cm_error_t *err)
{
    if (self->fault)
        return malformed(self, err);
    self->silent +=
        bytes.len; /* what yajl calls sets it back, so it may be too small, not too big */
    if (yajl_parse(self->yajl, (const unsigned char *)bytes.ptr, bytes.len) != yajl_status_ok &&
        !self->fault)
        self->fault = self->place == DONE ? "bytes after the object" : "no JSON";
    if (!self->fault && self->silent > CM_BIGQUERY_ROW_BYTES_MAX)
        self->fault = "a text is too large";
    return self->fault ? malformed(self, err) : CM_OK;
}

cm_status_t cm_bigquery_page_end(cm_bigquery_page_t *self, cm_error_t *err)
{
    if (!self->fault && yajl_complete_parse(self->yajl) != yajl_status_ok && !self->fault)
        self->fault = "it ends before it is complete";
    if (!self->fault && self->place != DONE)
        self->fault = "it ends before it is complete";
    return self->fault ? malformed(self, err) : CM_OK;
}

cm_bigquery_page_info_t cm_bigquery_page_info(const cm_bigquery_page_t *self)
{
    return (cm_bigquery_page_info_t){.complete = self->complete,
                                     .total_rows = self->total_rows,
                                     .token = self->token,
                                     .row_count = self->row_count};
}
