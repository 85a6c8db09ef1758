/* bigquery_private - what the sources of the BigQuery client share: bigquery.c jobs and pages,
 * bigquery_call.c one call with its repetitions, bigquery_open.c its life. */
#ifndef CM_RUNTIME_BIGQUERY_PRIVATE_H
#define CM_RUNTIME_BIGQUERY_PRIVATE_H
#include "runtime/backoff.h"
#include "runtime/bigquery.h"
#include "runtime/bigquery_json.h"
#include "runtime/buffer.h"
#include "runtime/google_credentials.h"
#include "runtime/http.h"

typedef struct { /* calls that failed in a row */
    cm_backoff_t backoff;
    int64_t since_ms; /* monotonic; 0 = the last call went well */
    int broken;       /* answers of no use among them */
} cm_bigquery_streak_t;

struct cm_bigquery {
    cm_bigquery_options_t options;
    char *base; /* https://HOST/bigquery/v2/projects/PROJECT/ */
    zloop_t *loop;
    int wake_fd; /* ends a turn of the loop */
    cm_http_t *http;
    cm_google_credentials_t *credentials; /* NULL = none are wanted */
    bool token_failed;
    cm_error_t token_error;

    cm_http_call_t *call; /* under way */
    bool answered;        /* its answer is in: */
    int http_code, retry_after_ms;
    cm_status_t status;
    cm_error_t error;
    cm_buffer_t body; /* of answers that are kept */
    char token[2048]; /* that the call went with */
    cm_bigquery_streak_t streak;

    cm_bigquery_position_t position;
    cm_bigquery_head_t head; /* columns and total of the result */
    cm_bigquery_page_t *page;
    cm_error_t page_error;
    char page_token[CM_BIGQUERY_TOKEN_MAX]; /* "" = go on at position.row */
    int empty_pages;                        /* in a row */
    bool reading, at_end;
    cm_error_t verdict;         /* that the rows are not those of the result: final */
    cm_bigquery_row_fn *on_row; /* of the caller of next */
    void *row_ctx;
};

typedef struct {
    cm_http_method_t method;
    const char *path; /* behind base, with its query */
    cm_str_t body;    /* absent = none */
    cm_http_piece_fn *on_piece;
    size_t body_max;
} cm_bigquery_call_t;

/* One turn of the loop: until an answer or a row is in, at most 100 ms. CM_CANCELLED. */
cm_status_t cm_bigquery_turn(cm_bigquery_t *self, cm_error_t *err);
void cm_bigquery_wake(cm_bigquery_t *self); /* end the turn */
cm_status_t cm_bigquery_wait(cm_bigquery_t *self, int64_t ms, cm_error_t *err);
/* Send a call as soon as there is a token. CM_OK: it is under way. */
cm_status_t cm_bigquery_send(cm_bigquery_t *self, const cm_bigquery_call_t *call, cm_error_t *err);
void cm_bigquery_cut(cm_bigquery_t *self); /* the call under way, if any */
/* What to do about a call that failed: CM_OK to send it again, after the wait that is due. */
cm_status_t cm_bigquery_again(cm_bigquery_t *self, const cm_bigquery_refusal_t *refusal,
                              cm_error_t *err);
void cm_bigquery_went_well(cm_bigquery_t *self);
/* Send a call and wait for its answer in self->body, with all repetitions. An answer that is
 * refused for good: CM_OK too, ret_refusal tells. */
cm_status_t cm_bigquery_ask(cm_bigquery_t *self, const cm_bigquery_call_t *call,
                            cm_bigquery_refusal_t *ret_refusal, cm_error_t *err);
/* Of the call that was answered, and not well. */
void cm_bigquery_refused(cm_bigquery_t *self, cm_bigquery_refusal_t *ret_refusal);
#endif
