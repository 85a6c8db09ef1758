#include "runtime/bigquery.h"

#include "runtime/bigquery_private.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"

#include <inttypes.h>
#include <string.h>

enum {
    RUNS_MAX = 3,         /* of a query whose job fails for no fault of its own */
    RERUN_AFTER = 10,     /* base waits at most, before it is run again */
    SMALL_MAX = 1 << 20,  /* bytes of an answer without rows */
    PAGE_MAX = 1 << 30,   /* and of one with rows, which nobody keeps */
    POLL_MS = 10000,      /* how long the server may hold a poll */
    POLL_PAUSE_MS = 1000, /* at most, where it did not */
    EMPTY_PAGES_MAX = 100,
};

static cm_str_t kept(const cm_bigquery_t *self)
{
    return (cm_str_t){self->body.data ? self->body.data : "", self->body.len};
}

static const char *location_of(const cm_bigquery_query_t *query)
{
    return query->location && query->location[0] ? query->location : "US";
}

/* "jobs/ID?location=L" and the like. */
static void put_path(cm_buffer_t *path, const char *collection, const cm_bigquery_position_t *at)
{
    cm_buffer_printf(path, "%s/%s?prettyPrint=false", collection, at->job);
    cm_bigquery_put_parameter(path, "location", at->location);
}

/* ---- a job ----------------------------------------------------------------------------------- */

static cm_status_t insert(cm_bigquery_t *self, const cm_bigquery_query_t *query, const char *job,
                          cm_error_t *err)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t body = {0};
    cm_bigquery_refusal_t refusal;
    cm_bigquery_put_job(&body, query, job, location_of(query));
    cm_bigquery_call_t call = {.method = CM_HTTP_POST,
                               .path = "jobs?prettyPrint=false",
                               .body = {body.data, body.len},
                               .body_max = SMALL_MAX};
    cm_status_t status = cm_bigquery_ask(self, &call, &refusal, err);
    if (status != CM_OK || refusal.verdict == CM_BIGQUERY_FINE ||
        refusal.verdict == CM_BIGQUERY_DUPLICATE) /* an earlier try arrived */
        return status;
    *err = refusal.error;
    return err->status;
}

static cm_status_t get_job(cm_bigquery_t *self, cm_bigquery_job_t *ret_job, cm_error_t *err)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t path = {0};
    cm_bigquery_refusal_t refusal;
    put_path(&path, "jobs", &self->position);
    cm_bigquery_call_t call = {
        .method = CM_HTTP_GET, .path = cm_buffer_text(&path), .body_max = SMALL_MAX};
    cm_status_t status = cm_bigquery_ask(self, &call, &refusal, err);
    if (status != CM_OK)
        return status;
    if (refusal.verdict == CM_BIGQUERY_GONE)
        return cm_error_set(err, CM_TRANSIENT, "job-lost", "the job or its result is gone");
    if (refusal.verdict != CM_BIGQUERY_FINE) {
        *err = refusal.error;
        return err->status;
    }
    return cm_bigquery_read_job(kept(self), ret_job, err);
}

/* Google refused results, which it also does when the job has failed: ask the job. CM_OK: it has
 * not, the fault is the call's own. */
static cm_status_t blame_job(cm_bigquery_t *self, const cm_bigquery_refusal_t *refusal,
                             cm_error_t *err)
{
    if (!refusal->by_reason || refusal->verdict == CM_BIGQUERY_NEW_TOKEN)
        return CM_OK;
    cm_bigquery_job_t job;
    cm_bigquery_streak_t streak = self->streak; /* that this call goes well changes nothing */
    cm_status_t status = get_job(self, &job, err);
    self->streak = streak;
    if (status != CM_OK || !job.failed)
        return status;
    *err = job.error;
    cm_error_prefix(err, "job %s", self->position.job);
    return err->status;
}

/* One long poll; CM_OK with an incomplete head: poll again. */
static cm_status_t poll_once(cm_bigquery_t *self, const char *path, cm_error_t *err)
{
    cm_bigquery_refusal_t refusal = {.verdict = CM_BIGQUERY_AGAIN, .retry_after_ms = -1};
    cm_bigquery_call_t call = {.method = CM_HTTP_GET, .path = path, .body_max = SMALL_MAX};
    self->head.complete = false;
    cm_status_t status = cm_bigquery_send(self, &call, err);
    while (status == CM_OK && !self->answered)
        status = cm_bigquery_turn(self, err);
    if (status != CM_OK)
        return status;
    if (self->status == CM_OK) {
        status = cm_bigquery_read_head(kept(self), &self->head, &refusal.error);
        if (status == CM_OK)
            cm_bigquery_went_well(self);
        if (status != CM_PERMANENT) {
            *err = refusal.error;
            return status;
        }
        self->head.complete = false;
    } else {
        cm_bigquery_refused(self, &refusal);
        status = blame_job(self, &refusal, err);
        if (status != CM_OK)
            return status;
    }
    return cm_bigquery_again(self, &refusal, err);
}

static cm_status_t await_job(cm_bigquery_t *self, cm_error_t *err)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t path = {0};
    cm_backoff_t pause;
    cm_backoff_init(&pause, POLL_PAUSE_MS / 10, POLL_PAUSE_MS, cm_random_u64());
    put_path(&path, "queries", &self->position);
    cm_buffer_printf(&path, "&maxResults=0&timeoutMs=%d", POLL_MS);
    for (;;) {
        int64_t asked_ms = cm_clock_mono_ms();
        cm_status_t status = poll_once(self, cm_buffer_text(&path), err);
        if (status != CM_OK)
            return status;
        if (self->head.complete)
            break;
        if (cm_clock_mono_ms() - asked_ms < POLL_PAUSE_MS) /* the server did not wait */
            status = cm_bigquery_wait(self, cm_backoff_next_ms(&pause), err);
        if (status != CM_OK)
            return status;
    }
    return CM_OK;
}

/* ---- the three ways to begin ----------------------------------------------------------------- */

static void forget(cm_bigquery_t *self)
{
    cm_bigquery_cut(self);
    cm_bigquery_page_destroy(&self->page);
    cm_bigquery_went_well(self);
    self->position = (cm_bigquery_position_t){0};
    self->head = (cm_bigquery_head_t){0};
    self->page_token[0] = '\0';
    self->empty_pages = 0;
    self->reading = self->at_end = false;
    self->verdict = (cm_error_t){0};
}

static cm_status_t run_once(cm_bigquery_t *self, const cm_bigquery_query_t *query, cm_error_t *err)
{
    forget(self);
    snprintf(self->position.job, sizeof self->position.job,
             "client-manager_%016" PRIx64 "%016" PRIx64, cm_random_u64(), cm_random_u64());
    snprintf(self->position.location, sizeof self->position.location, "%s", location_of(query));
    cm_status_t status = insert(self, query, self->position.job, err);
    return status == CM_OK ? await_job(self, err) : status;
}

cm_status_t cm_bigquery_run(cm_bigquery_t *self, const cm_bigquery_query_t *query, cm_error_t *err)
{
    if (strlen(location_of(query)) >= CM_BIGQUERY_LOCATION_MAX)
        return cm_error_set(err, CM_MISCONFIGURED, "location", "the location is too long");
    uint64_t random = cm_random_u64();
    for (int run = 1;; run++) {
        cm_status_t status = run_once(self, query, err);
        if (status != CM_TRANSIENT || run == RUNS_MAX || !cm_bigquery_may_rerun(err->code))
            return status;
        int64_t most = (int64_t)self->options.retry_base_ms * RERUN_AFTER;
        status = cm_bigquery_wait(self, (int64_t)cm_random_below(&random, (uint64_t)most), err);
        if (status != CM_OK)
            return status;
    }
}

/* A position comes from outside: it becomes part of an address. */
static bool is_position(const cm_bigquery_position_t *at)
{
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
    size_t job = strnlen(at->job, sizeof at->job);
    size_t location = strnlen(at->location, sizeof at->location);
    return job && job < sizeof at->job && strspn(at->job, letters) == job && location &&
           location < sizeof at->location && strspn(at->location, letters) == location &&
           at->row >= 0;
}

cm_status_t cm_bigquery_resume(cm_bigquery_t *self, const cm_bigquery_position_t *position,
                               cm_error_t *err)
{
    forget(self);
    if (!is_position(position))
        return cm_error_set(err, CM_PERMANENT, "position", "this is no position in a result");
    self->position = *position;
    cm_status_t status = await_job(self, err);
    if (status == CM_OK && position->row > self->head.total_rows)
        return cm_error_set(err, CM_PERMANENT, "position", "the position is behind the last row");
    return status;
}

cm_status_t cm_bigquery_dry_run(cm_bigquery_t *self, const cm_bigquery_query_t *query,
                                int64_t *ret_bytes, cm_error_t *err)
{
    cm_bigquery_job_t job;
    forget(self);
    cm_status_t status = insert(self, query, NULL, err);
    if (status == CM_OK)
        status = cm_bigquery_read_job(kept(self), &job, err);
    if (status == CM_OK && job.failed) {
        *err = job.error;
        return err->status;
    }
    if (status == CM_OK)
        *ret_bytes = job.bytes;
    return status;
}

cm_status_t cm_bigquery_billed(cm_bigquery_t *self, int64_t *ret_bytes, cm_error_t *err)
{
    cm_bigquery_job_t job;
    cm_status_t status = get_job(self, &job, err);
    if (status == CM_OK)
        *ret_bytes = job.billed;
    return status;
}

size_t cm_bigquery_columns(const cm_bigquery_t *self, const cm_bigquery_column_t **ret_columns)
{
    *ret_columns = self->head.columns;
    return self->head.column_count;
}

int64_t cm_bigquery_total(const cm_bigquery_t *self)
{
    return self->head.total_rows;
}

cm_bigquery_position_t cm_bigquery_position(const cm_bigquery_t *self)
{
    return self->position;
}

/* ---- pages ----------------------------------------------------------------------------------- */

static void tell_row(void *ctx, const cm_str_t *values)
{
    cm_bigquery_t *self = ctx;
    self->position.row++;
    self->on_row(self->row_ctx, values);
}

static bool on_piece(void *ctx, cm_str_t piece)
{
    cm_bigquery_t *self = ctx;
    int64_t before = self->position.row;
    bool fine = cm_bigquery_page_feed(self->page, piece, &self->page_error) == CM_OK;
    if (self->position.row > before)
        cm_bigquery_wake(self);
    return fine;
}

static cm_status_t begin_page(cm_bigquery_t *self, cm_error_t *err)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t path = {0};
    if (!self->page)
        self->page = cm_bigquery_page_new(self->head.column_count, tell_row, self);
    cm_bigquery_page_reset(self->page);
    put_path(&path, "queries", &self->position);
    cm_bigquery_put_parameter(&path, "fields", "jobComplete,totalRows,pageToken,rows");
    cm_bigquery_put_parameter(&path, "formatOptions.useInt64Timestamp", "true");
    if (self->options.page_rows > 0)
        cm_buffer_printf(&path, "&maxResults=%" PRId64, self->options.page_rows);
    if (self->page_token[0])
        cm_bigquery_put_parameter(&path, "pageToken", self->page_token);
    else
        cm_buffer_printf(&path, "&startIndex=%" PRId64, self->position.row);
    cm_bigquery_call_t call = {.method = CM_HTTP_GET,
                               .path = cm_buffer_text(&path),
                               .on_piece = on_piece,
                               .body_max = PAGE_MAX};
    cm_status_t status = cm_bigquery_send(self, &call, err);
    self->reading = status == CM_OK;
    return status;
}

static cm_status_t check_count(cm_bigquery_t *self, const cm_bigquery_page_info_t *info,
                               cm_error_t *err)
{
    int64_t total = self->head.total_rows;
    bool is_last = !info->token[0];
    if (info->total_rows != total || self->position.row > total ||
        (is_last && self->position.row != total))
        return cm_error_set(err, CM_TRANSIENT, "row-count",
                            "%" PRId64 " rows of %" PRId64 " have come, totalRows is now %" PRId64,
                            self->position.row, total, info->total_rows);
    self->empty_pages = info->row_count ? 0 : self->empty_pages + 1;
    if (!is_last && self->empty_pages == EMPTY_PAGES_MAX)
        return cm_error_set(err, CM_PERMANENT, "malformed", "%d pages without a row",
                            EMPTY_PAGES_MAX);
    return CM_OK;
}

/* A whole page came. */
static cm_status_t accept_page(cm_bigquery_t *self, const cm_bigquery_page_info_t *info,
                               cm_error_t *err)
{
    cm_bigquery_went_well(self);
    cm_status_t status = check_count(self, info, err);
    if (status != CM_OK) {
        self->verdict = *err;
        return status;
    }
    snprintf(self->page_token, sizeof self->page_token, "%s", info->token);
    self->at_end = !info->token[0];
    return CM_OK;
}

/* What came of the page stays told; go on at the row behind it, unless that cannot help. */
static cm_status_t refuse_page(cm_bigquery_t *self, const cm_bigquery_page_info_t *info,
                               cm_error_t *err)
{
    cm_bigquery_refusal_t refusal = {
        .verdict = CM_BIGQUERY_AGAIN, .error = self->page_error, .retry_after_ms = -1};
    bool had_token = self->page_token[0];
    self->page_token[0] = '\0';
    if (info->row_count)
        cm_bigquery_went_well(self);
    if (!self->page_error.status)
        cm_bigquery_refused(self, &refusal);
    cm_status_t status = blame_job(self, &refusal, err);
    if (status != CM_OK)
        return status;
    bool is_final =
        refusal.verdict != CM_BIGQUERY_AGAIN && refusal.verdict != CM_BIGQUERY_NEW_TOKEN;
    if (is_final && had_token) /* it has gone stale: its place in the result has not */
        return CM_OK;
    return cm_bigquery_again(self, &refusal, err);
}

static cm_status_t end_page(cm_bigquery_t *self, cm_error_t *err)
{
    self->reading = false;
    cm_bigquery_page_info_t info = cm_bigquery_page_info(self->page);
    if (self->status == CM_OK && !self->page_error.status) {
        cm_status_t status = cm_bigquery_page_end(self->page, &self->page_error);
        if (status == CM_OK && info.complete)
            return accept_page(self, &info, err);
        if (status == CM_OK)
            cm_error_set(&self->page_error, CM_UNAVAILABLE, "not-complete",
                         "a job that was done is not complete");
    }
    return refuse_page(self, &info, err);
}

cm_status_t cm_bigquery_next(cm_bigquery_t *self, cm_bigquery_row_fn *on_row, void *ctx,
                             bool *ret_end, cm_error_t *err)
{
    int64_t before = self->position.row;
    cm_status_t status = CM_OK;
    self->on_row = on_row;
    self->row_ctx = ctx;
    *ret_end = false;
    if (self->verdict.status != CM_OK) {
        *err = self->verdict;
        return err->status;
    }
    if (!self->reading && !self->page_token[0] && before == self->head.total_rows)
        self->at_end = true; /* none at all, or resumed behind the last */
    while (status == CM_OK && !self->at_end && self->position.row == before) {
        if (!self->reading)
            status = begin_page(self, err);
        else if (self->answered)
            status = end_page(self, err);
        else
            status = cm_bigquery_turn(self, err);
    }
    *ret_end = status == CM_OK && self->at_end;
    return status;
}
