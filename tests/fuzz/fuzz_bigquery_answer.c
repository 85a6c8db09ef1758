/* fuzz_bigquery_answer - any bytes as each kind of answer: no fault of memory; a page reads the
 * same wherever its bytes are parted, and tells rows of as many cells as there are columns. The
 * first byte tells where they are parted. */
#include "runtime/bigquery_json.h"
#include "runtime/cleanup.h"
#include "runtime/http.h"

#include <string.h>

enum { COLUMNS = 3 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool what)
{
    if (!what)
        __builtin_trap();
}

typedef struct {
    int64_t rows;
    uint64_t digest;
} told_t;

static void on_row(void *ctx, const cm_str_t *values)
{
    told_t *told = ctx;
    told->rows++;
    for (size_t i = 0; i < COLUMNS; i++) {
        told->digest = told->digest * 31 + (values[i].ptr ? values[i].len + 1 : 0);
        for (size_t k = 0; k < values[i].len; k++)
            told->digest = told->digest * 31 + (unsigned char)values[i].ptr[k];
    }
}

static cm_status_t read_in(cm_str_t body, size_t bytes, told_t *told)
{
    CM_CLEANUP(cm_bigquery_page_destroy)
    cm_bigquery_page_t *page = cm_bigquery_page_new(COLUMNS, on_row, told);
    cm_error_t err = {0};
    cm_status_t status = CM_OK;
    for (size_t at = 0; at < body.len && status == CM_OK; at += bytes)
        status = cm_bigquery_page_feed(
            page, (cm_str_t){body.ptr + at, body.len - at < bytes ? body.len - at : bytes}, &err);
    if (status == CM_OK)
        status = cm_bigquery_page_end(page, &err);
    cm_bigquery_page_info_t info = cm_bigquery_page_info(page);
    require(info.row_count == told->rows && info.total_rows >= -1);
    require(strlen(info.token) < CM_BIGQUERY_TOKEN_MAX);
    require(status == CM_OK || (status == CM_PERMANENT && strcmp(err.code, "malformed") == 0));
    return status;
}

static void try_page(cm_str_t body, size_t bytes)
{
    told_t whole = {0}, parted = {0};
    cm_status_t status = read_in(body, body.len + 1, &whole);
    require(read_in(body, bytes, &parted) == status);
    require(whole.rows == parted.rows && whole.digest == parted.digest);
}

static void try_small(cm_str_t body, int http)
{
    static cm_bigquery_head_t head; /* large */
    cm_bigquery_job_t job;
    cm_bigquery_refusal_t refusal;
    cm_error_t err = {0}, http_error;
    cm_http_classify(http, 0, &http_error);
    cm_bigquery_read_refusal(http, body, &http_error, &refusal);
    require(http < 300 || (refusal.error.status != CM_OK && refusal.error.message[0]));
    if (cm_bigquery_read_job(body, &job, &err) == CM_OK)
        require(!job.failed || job.error.status != CM_OK);
    if (cm_bigquery_read_head(body, &head, &err) == CM_OK && head.complete)
        require(head.total_rows >= 0 && head.column_count >= 1 &&
                head.column_count <= CM_BIGQUERY_COLUMNS_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    cm_str_t body = {(const char *)data + 1, size - 1};
    try_page(body, 1 + data[0] % 64);
    try_small(body, 200 + data[0] * 2);
    return 0;
}
