/* bigquery - one query of BigQuery (REST v2): run as a job, read row by row, resumed where it
 * stopped.
 *
 * Blocking, for a thread that does nothing else: the loop it runs is its own. `stopped` is asked
 * ten times a second; CM_CANCELLED then. Memory is flat whatever a page holds: rows are told as
 * they come, and while nobody calls cm_bigquery_next() nothing is read. Credentials are those of
 * Pub/Sub (google_credentials) with BigQuery's scope.
 *
 * A job's id is chosen here, so that a submission may be repeated: 409 means that the first one
 * arrived. Pages are walked by their tokens. A page that was cut, or whose token has gone stale, is
 * gone on with at the row that comes next (startIndex): the result of a finished job is a snapshot
 * in a fixed order, so no row is told twice or left out. It lives for about a day.
 *
 * Calls that fail on the way (the link, 408 429 5xx, rateLimitExceeded, backendError,
 * internalError, badGateway, a broken answer) are repeated with full jitter, not before the time a
 * Retry-After names, until nothing has come back well for give_up_ms; a broken answer five times. A
 * 401 gets one new token. A job that failed for no fault of the query is run again under a new id,
 * three times in all, as long as no row of it was told.
 *
 * Statuses and codes, of run, resume and next alike; a code is Google's reason where there is one:
 *   CM_CANCELLED                stopped
 *   CM_UNAVAILABLE              given up; code of the last failure, as "http-503", "curl-28"
 *   CM_MISCONFIGURED            accessDenied, billingNotEnabled, bytesBilledLimitExceeded, notFound
 *                               (the table), "columns" (too many, nested), the credentials' codes
 *   CM_PERMANENT                invalidQuery, invalid, resourcesExceeded, responseTooLarge,
 *                               "malformed" (answers of no use); what has another reason
 *                               or none goes by its HTTP code
 *   CM_TRANSIENT                run the query anew later: quotaExceeded, stopped, timeout,
 *                               jobBackendError and its like, "job-lost" (the job or its result is
 *                               gone), "row-count" (rows and totalRows differ)
 * Messages hold no values of rows: Google's text is told in full for a few reasons, and up to its
 * first colon for the others.
 * Rule: pubsub-bigquery, part B; reliability, section 3.2.
 */
#ifndef CM_RUNTIME_BIGQUERY_H
#define CM_RUNTIME_BIGQUERY_H
#include "runtime/bigquery_page.h"
#include "runtime/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct {                  /* copied; texts borrowed for life */
    const char *endpoint;         /* NULL or "" = https://bigquery.googleapis.com */
    const char *project;          /* that pays for the job */
    const char *credentials_file; /* as in google_credentials; */
    const char *metadata_host;    /* an endpoint of http:// with neither goes without a token */
    const char *ca_file;          /* PEM; NULL or "" = the system's */
    int timeout_ms;               /* without an answer, or a further piece of it; 0 = 120 s */
    int give_up_ms;               /* of failing calls; 0 = 600 s */
    int retry_base_ms;            /* of the waits between them; 0 = 1 s */
    int64_t page_rows;            /* asked for at once; 0 = as the service likes, some 20 MB */
    bool (*stopped)(void *ctx);   /* NULL = never */
    void *ctx;
} cm_bigquery_options_t;

typedef enum { CM_BIGQUERY_STRING, CM_BIGQUERY_INT64, CM_BIGQUERY_TIMESTAMP } cm_bigquery_type_t;

typedef struct {
    const char *name; /* without its @ */
    cm_bigquery_type_t type;
    const char *value; /* text: decimal for INT64, RFC 3339 for TIMESTAMP; NULL = NULL */
} cm_bigquery_parameter_t;

typedef struct {
    const char *sql;      /* standard SQL */
    const char *location; /* of the data set: "EU", "europe-west1"; NULL or "" = "US" */
    const cm_bigquery_parameter_t *parameters;
    size_t parameter_count;
    int64_t maximum_bytes_billed; /* 0 = no limit */
    int64_t job_timeout_ms;       /* Google ends the job then; 0 = 1 h */
} cm_bigquery_query_t;

enum { CM_BIGQUERY_JOB_MAX = 64, CM_BIGQUERY_LOCATION_MAX = 64, CM_BIGQUERY_NAME_MAX = 129 };

typedef struct { /* where a result is to be read on */
    char job[CM_BIGQUERY_JOB_MAX], location[CM_BIGQUERY_LOCATION_MAX];
    int64_t row; /* rows told before */
} cm_bigquery_position_t;

typedef struct {
    char name[CM_BIGQUERY_NAME_MAX];
    char type[16]; /* in Google's old spelling: STRING INTEGER FLOAT BOOLEAN TIMESTAMP DATE ... */
} cm_bigquery_column_t;

typedef struct cm_bigquery cm_bigquery_t;

/* Does no I/O but to read the key file. CM_MISCONFIGURED: the credentials, the endpoint or the
 * project are of no use. */
cm_status_t cm_bigquery_open(cm_bigquery_t **ret_self, const cm_bigquery_options_t *options,
                             cm_error_t *err);
/* Cuts what is under way. A job that runs is left to run: it may be resumed. */
void cm_bigquery_close(cm_bigquery_t **self_p);

/* What the query would process, in bytes, without running it: for a check at start. */
cm_status_t cm_bigquery_dry_run(cm_bigquery_t *self, const cm_bigquery_query_t *query,
                                int64_t *ret_bytes, cm_error_t *err);
/* Submit the query and wait until its job is done. Whatever was read before is forgotten. */
cm_status_t cm_bigquery_run(cm_bigquery_t *self, const cm_bigquery_query_t *query, cm_error_t *err);
/* After run or resume, before the first row is asked for: bytes that the job is billed for; -1 =
 * Google does not tell. */
cm_status_t cm_bigquery_billed(cm_bigquery_t *self, int64_t *ret_bytes, cm_error_t *err);
/* Go on with a job of before, of this process or another; waits for one that still runs. A position
 * that cannot be one is CM_PERMANENT / "position". */
cm_status_t cm_bigquery_resume(cm_bigquery_t *self, const cm_bigquery_position_t *position,
                               cm_error_t *err);

/* After run or resume. Columns are borrowed until the next of them. */
size_t cm_bigquery_columns(const cm_bigquery_t *self, const cm_bigquery_column_t **ret_columns);
int64_t cm_bigquery_total(const cm_bigquery_t *self); /* rows of the whole result */
cm_bigquery_position_t
cm_bigquery_position(const cm_bigquery_t *self); /* behind the last row told */

/* Tell at least one further row, and with it all that one turn of the loop reads: up to some 1.6 MB
 * of the answer, compressed as it may be. *ret_end: there are no more, and as many came as the job
 * has. TIMESTAMP values are epoch microseconds. After a failure the position stands where it was;
 * next may be called again, though "row-count" stays. */
cm_status_t cm_bigquery_next(cm_bigquery_t *self, cm_bigquery_row_fn *on_row, void *ctx,
                             bool *ret_end, cm_error_t *err);
#endif
