/* bigquery_page - one answer of getQueryResults, read as it comes: each row is told when it is
 * complete, nothing of it is kept. yajl inside.
 *
 * Memory: one row. Read strictly: JSON of the documented shape, valid UTF-8, in each row as many
 * cells as there are columns, each of them a text or null; members of no interest are skipped.
 * Bounds: CM_BIGQUERY_COLUMNS_MAX columns, CM_BIGQUERY_ROW_BYTES_MAX bytes of a row, 32 levels.
 * Rule: pubsub-bigquery, part B, "Rows" and "Pages".
 */
#ifndef CM_RUNTIME_BIGQUERY_PAGE_H
#define CM_RUNTIME_BIGQUERY_PAGE_H
#include "runtime/status.h"
#include "runtime/str.h"

enum {
    CM_BIGQUERY_COLUMNS_MAX = 64,
    CM_BIGQUERY_ROW_BYTES_MAX = 1 << 20,
    CM_BIGQUERY_TOKEN_MAX = 4096 /* of a page token, with the NUL */
};

/* A row: as many values as columns, by their position; absent = NULL. Borrowed for the call, which
 * must not call the reader or the client that tells it. */
typedef void(cm_bigquery_row_fn)(void *ctx, const cm_str_t *values);

typedef struct {
    bool complete;      /* the job was done: jobComplete */
    int64_t total_rows; /* of the whole result; -1 = not told */
    const char *token;  /* of the next page; "" = this is the last; borrowed from the reader */
    int64_t row_count;  /* told so far */
} cm_bigquery_page_info_t;

typedef struct cm_bigquery_page cm_bigquery_page_t;

cm_bigquery_page_t *cm_bigquery_page_new(size_t columns, cm_bigquery_row_fn *on_row, void *ctx);
void cm_bigquery_page_destroy(cm_bigquery_page_t **self_p);
void cm_bigquery_page_reset(cm_bigquery_page_t *self); /* for the next page */

/* The next bytes of the answer. CM_PERMANENT / "malformed": no further bytes are taken. */
cm_status_t cm_bigquery_page_feed(cm_bigquery_page_t *self, cm_str_t bytes, cm_error_t *err);
/* The answer is at its end. CM_PERMANENT / "malformed" when it is cut off. */
cm_status_t cm_bigquery_page_end(cm_bigquery_page_t *self, cm_error_t *err);
cm_bigquery_page_info_t cm_bigquery_page_info(const cm_bigquery_page_t *self);
#endif
