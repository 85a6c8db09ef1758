#include "runtime/bigquery_private.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"

#include <string.h>
#include <sys/eventfd.h>

enum { BROKEN_MAX = 5 }; /* answers of no use in a row */

/* ---- turns of the loop ----------------------------------------------------------------------- */

static bool is_stopped(const cm_bigquery_t *self)
{
    return self->options.stopped && self->options.stopped(self->options.ctx);
}

cm_status_t cm_bigquery_turn(cm_bigquery_t *self, cm_error_t *err)
{
    if (is_stopped(self))
        return cm_error_set(err, CM_CANCELLED, "stopped", "stopped");
    zloop_start(self->loop); /* ends by the tick or by wake_fd */
    return CM_OK;
}

cm_status_t cm_bigquery_wait(cm_bigquery_t *self, int64_t ms, cm_error_t *err)
{
    int64_t end = cm_clock_mono_ms() + ms;
    cm_status_t status = CM_OK;
    while (status == CM_OK && cm_clock_mono_ms() < end)
        status = cm_bigquery_turn(self, err);
    return status;
}

void cm_bigquery_wake(cm_bigquery_t *self)
{
    eventfd_write(self->wake_fd, 1);
}

/* ---- tokens ---------------------------------------------------------------------------------- */

/* CM_OK: self->token is one, or none is wanted. */
static cm_status_t take_token(cm_bigquery_t *self, cm_error_t *err)
{
    const char *token = NULL;
    self->token[0] = '\0';
    if (!self->credentials)
        return CM_OK;
    int64_t end = cm_clock_mono_ms() + self->options.give_up_ms;
    while (!(token = cm_google_credentials_token(self->credentials))) {
        bool for_a_person = self->token_failed && self->token_error.status == CM_MISCONFIGURED;
        if (for_a_person || cm_clock_mono_ms() >= end) {
            if (!self->token_failed)
                return cm_error_set(err, CM_UNAVAILABLE, "token", "no token of %s has come",
                                    cm_google_credentials_name(self->credentials));
            *err = self->token_error;
            return err->status;
        }
        cm_status_t status = cm_bigquery_turn(self, err);
        if (status != CM_OK)
            return status;
    }
    if (strlen(token) >= sizeof self->token)
        return cm_error_set(err, CM_MISCONFIGURED, "token", "the token is too long");
    strcpy(self->token, token);
    return CM_OK;
}

/* ---- one call -------------------------------------------------------------------------------- */

static void on_done(void *ctx, const cm_http_answer_t *answer)
{
    cm_bigquery_t *self = ctx;
    self->call = NULL;
    self->answered = true;
    self->status = answer->status;
    self->http_code = answer->http;
    self->retry_after_ms = answer->retry_after_ms;
    self->error = answer->error;
    cm_buffer_clear(&self->body);
    cm_buffer_append(&self->body, answer->body.ptr, answer->body.len);
    cm_bigquery_wake(self);
}

cm_status_t cm_bigquery_send(cm_bigquery_t *self, const cm_bigquery_call_t *call, cm_error_t *err)
{
    cm_status_t status = take_token(self, err);
    if (status != CM_OK)
        return status;
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t url = {0};
    cm_buffer_printf(&url, "%s%s", self->base, call->path);
    self->answered = false;
    self->page_error = (cm_error_t){0};
    cm_http_request_t request = {
        .method = call->method,
        .url = cm_buffer_text(&url),
        .bearer = self->token[0] ? self->token : NULL,
        .body = call->body,
        .timeout_ms = self->options.timeout_ms,
        .body_max = call->body_max,
        .on_piece = call->on_piece,
        .done = on_done,
        .ctx = self,
    };
    self->call = cm_http_send(self->http, &request);
    return CM_OK;
}

void cm_bigquery_cut(cm_bigquery_t *self)
{
    if (self->call)
        cm_http_cancel(self->http, CM_TAKE(self->call));
    self->answered = false;
}

/* ---- again and again ------------------------------------------------------------------------- */

void cm_bigquery_went_well(cm_bigquery_t *self)
{
    self->streak.since_ms = 0;
    self->streak.broken = 0;
    cm_backoff_reset(&self->streak.backoff);
}

void cm_bigquery_refused(cm_bigquery_t *self, cm_bigquery_refusal_t *ret_refusal)
{
    cm_str_t body = {self->body.data ? self->body.data : "", self->body.len};
    cm_bigquery_read_refusal(self->http_code, body, &self->error, ret_refusal);
    if (self->status == CM_PERMANENT && self->http_code < 300) /* an answer of no use */
        ret_refusal->verdict = CM_BIGQUERY_AGAIN;
    ret_refusal->by_link = strncmp(self->error.code, "curl-", 5) == 0;
    ret_refusal->retry_after_ms = self->retry_after_ms;
}

static cm_status_t give_up(const cm_bigquery_refusal_t *refusal, cm_error_t *err)
{
    *err = refusal->error;
    return err->status;
}

/* One forced refresh; a second refusal within a minute is for a person. */
static cm_status_t renew_token(cm_bigquery_t *self, const cm_bigquery_refusal_t *refusal,
                               cm_error_t *err)
{
    if (!self->credentials || !cm_google_credentials_refused(self->credentials, self->token))
        return give_up(refusal, err);
    return CM_OK; /* the next call waits for it */
}

cm_status_t cm_bigquery_again(cm_bigquery_t *self, const cm_bigquery_refusal_t *refusal,
                              cm_error_t *err)
{
    int64_t now = cm_clock_mono_ms();
    if (refusal->verdict == CM_BIGQUERY_NEW_TOKEN)
        return renew_token(self, refusal, err);
    bool broken = refusal->error.status == CM_PERMANENT;
    if (refusal->verdict != CM_BIGQUERY_AGAIN || (broken && ++self->streak.broken >= BROKEN_MAX))
        return give_up(refusal, err);
    if (!self->streak.since_ms)
        self->streak.since_ms = now;
    int64_t left = self->streak.since_ms + self->options.give_up_ms - now;
    int64_t wait = cm_backoff_next_ms(&self->streak.backoff);
    if (wait < refusal->retry_after_ms)
        wait = refusal->retry_after_ms;
    if (wait > left)
        return give_up(refusal, err);
    if (refusal->by_link)
        cm_http_renew(self->http);
    return cm_bigquery_wait(self, wait, err);
}

cm_status_t cm_bigquery_ask(cm_bigquery_t *self, const cm_bigquery_call_t *call,
                            cm_bigquery_refusal_t *ret_refusal, cm_error_t *err)
{
    cm_status_t status;
    while ((status = cm_bigquery_send(self, call, err)) == CM_OK) {
        while (status == CM_OK && !self->answered)
            status = cm_bigquery_turn(self, err);
        if (status != CM_OK)
            break;
        *ret_refusal = (cm_bigquery_refusal_t){0};
        if (self->status == CM_OK) {
            cm_bigquery_went_well(self);
            return CM_OK;
        }
        cm_bigquery_refused(self, ret_refusal);
        if (ret_refusal->verdict != CM_BIGQUERY_AGAIN &&
            ret_refusal->verdict != CM_BIGQUERY_NEW_TOKEN)
            return CM_OK;
        status = cm_bigquery_again(self, ret_refusal, err);
        if (status != CM_OK)
            break;
    }
    cm_bigquery_cut(self);
    return status;
}
