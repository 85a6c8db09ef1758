/* bigquery_json - BigQuery REST v2: requests out, small answers in; pure functions.
 *
 * Answers are bounded by the caller (pages of rows are read by bigquery_page). Error bodies are
 * optional: a proxy answers HTML or nothing. Rule: pubsub-bigquery, part B.
 */
#ifndef CM_RUNTIME_BIGQUERY_JSON_H
#define CM_RUNTIME_BIGQUERY_JSON_H
#include "runtime/bigquery.h"
#include "runtime/buffer.h"

/* ---- requests -------------------------------------------------------------------------------- */

/* The body of jobs.insert. job NULL: a dry run. */
void cm_bigquery_put_job(cm_buffer_t *body, const cm_bigquery_query_t *query, const char *job,
                         const char *location);
/* "&name=value", with every byte of value but letters, digits and "-_.~" as %XX. */
void cm_bigquery_put_parameter(cm_buffer_t *url, const char *name, const char *value);

/* ---- answers --------------------------------------------------------------------------------- */

typedef enum {
    CM_BIGQUERY_FINE,
    CM_BIGQUERY_AGAIN,     /* the call may succeed if it is repeated */
    CM_BIGQUERY_NEW_TOKEN, /* 401 */
    CM_BIGQUERY_GONE,      /* 404: no such job, table, data set */
    CM_BIGQUERY_DUPLICATE, /* 409: the job is there */
    CM_BIGQUERY_NEVER      /* error tells why */
} cm_bigquery_verdict_t;

typedef struct {
    cm_bigquery_verdict_t verdict;
    bool by_reason;     /* Google said so, not something on the way */
    bool by_link;       /* no whole answer came: the connection is suspect */
    int retry_after_ms; /* that the server asked for; -1 = it did not */
    cm_error_t error;   /* code: the reason, else that of HTTP */
} cm_bigquery_refusal_t;

/* What an answer that is no 2xx means, by its reason, then by its code. */
void cm_bigquery_read_refusal(int http, cm_str_t body, const cm_error_t *http_error,
                              cm_bigquery_refusal_t *ret_refusal);
/* True for a job that failed with this reason and may succeed if it is run again. */
bool cm_bigquery_may_rerun(const char *reason);

typedef struct {
    bool done;
    bool failed;
    cm_error_t error; /* of a job that failed */
    int64_t bytes;    /* statistics.totalBytesProcessed; -1 = not told */
    int64_t billed;   /* statistics.query.totalBytesBilled; -1 = not told */
} cm_bigquery_job_t;

/* The answer of jobs.get and jobs.insert. CM_PERMANENT / "malformed". */
cm_status_t cm_bigquery_read_job(cm_str_t body, cm_bigquery_job_t *ret_job, cm_error_t *err);

typedef struct {
    bool complete; /* else nothing below is set */
    int64_t total_rows;
    size_t column_count;
    cm_bigquery_column_t columns[CM_BIGQUERY_COLUMNS_MAX];
} cm_bigquery_head_t;

/* The answer of getQueryResults for no rows. CM_PERMANENT / "malformed"; CM_MISCONFIGURED /
 * "columns". */
cm_status_t cm_bigquery_read_head(cm_str_t body, cm_bigquery_head_t *ret_head, cm_error_t *err);
#endif
