#include "runtime/broker/google_pubsub_private.h"
#include "runtime/clock.h"

#include <curl/curl.h>
#include <stdio.h>
#include <string.h>

enum {
    RETRY_BASE_MS = 250,
    RETRY_CAP_MS = 5000,
    STABLE_MS = 5000, /* a link that stood so long starts its back-off anew */
    PROBE_MS = 5000,
    FAILURES_MAX = 3, /* answers of a service in trouble, until it counts as away */
    TLS_TRIES = 3,    /* until a handshake that fails is for a person to mend */
};

static const char scope[] = "https://www.googleapis.com/auth/pubsub "
                            "https://www.googleapis.com/auth/monitoring.read";

/* ---- gates ----------------------------------------------------------------------------------- */

void cm_pubsub_gate_init(cm_pubsub_t *self, cm_pubsub_gate_t *gate, int base_ms, int cap_ms)
{
    gate->until = 0;
    cm_backoff_init(&gate->backoff, base_ms, cap_ms, cm_random_next(&self->random));
}

static void gate_shut(cm_pubsub_gate_t *gate, int retry_after_ms)
{
    int wait = retry_after_ms >= 0 ? retry_after_ms : cm_backoff_next_ms(&gate->backoff);
    int64_t until = cm_clock_mono_ms() + wait;
    if (until > gate->until)
        gate->until = until;
}

/* ---- up and down ----------------------------------------------------------------------------- */

static void tell(cm_pubsub_t *self, bool up, const cm_error_t *why)
{
    cm_pubsub_link_t *link = &self->link;
    if (!up && !link->told && link->unverified && why->status == CM_UNAVAILABLE)
        return; /* the first word may end the process: it is said when the tries are over */
    /* Each way in which a connection fails has a code of its own: they are one and the same news.
     */
    const char *code = up || why->status == CM_UNAVAILABLE ? "" : why->code;
    bool news = !link->told || link->was_up != up || strcmp(link->code, code) != 0;
    link->told = true;
    link->was_up = up;
    snprintf(link->code, sizeof link->code, "%s", code);
    cm_pubsub_wake(self); /* what waits for the link, and what is lost with it */
    if (news)
        self->events.on_link(self->events.ctx, up, why);
}

static void go_down(cm_pubsub_t *self, const cm_error_t *why, int wait_ms)
{
    cm_pubsub_link_t *link = &self->link;
    int64_t now = cm_clock_mono_ms();
    if (link->state == CM_PUBSUB_UP && now - link->up_at >= STABLE_MS)
        cm_backoff_reset(&link->backoff);
    link->state = CM_PUBSUB_DOWN;
    link->failures = 0;
    link->why = *why;
    link->retry_at = now + (wait_ms ? wait_ms : cm_backoff_next_ms(&link->backoff));
    tell(self, false, &link->why);
}

/* A handshake that was cut looks like one that was refused; it is never done without. */
static void lose(cm_pubsub_t *self, const cm_error_t *why)
{
    cm_pubsub_link_t *link = &self->link;
    cm_error_t judged = *why;
    bool tls = why->status == CM_MISCONFIGURED && strncmp(why->code, "curl-", 5) == 0;
    link->unverified = tls ? link->unverified + 1 : 0;
    if (tls && link->unverified < TLS_TRIES)
        judged.status = CM_UNAVAILABLE;
    go_down(self, &judged, 0);
}

void cm_pubsub_link_down(cm_pubsub_t *self, const cm_error_t *why)
{
    if (self->link.state == CM_PUBSUB_UP)
        lose(self, why);
}

static void on_probed(void *ctx, const cm_http_answer_t *answer)
{
    cm_pubsub_t *self = ctx;
    cm_pubsub_link_t *link = &self->link;
    if (link->state != CM_PUBSUB_PROBING)
        return;
    if (answer->http == 0 || answer->http >= 500) {
        cm_error_t why = answer->error;
        cm_error_prefix(&why, "pubsub");
        lose(self, &why);
        return;
    }
    link->unverified = 0;
    link->state = CM_PUBSUB_UP;
    link->up_at = cm_clock_mono_ms();
    tell(self, true, NULL);
}

static void probe(cm_pubsub_t *self)
{
    cm_buffer_clear(&self->url);
    cm_buffer_printf(&self->url, "%s/", self->address.base);
    cm_http_request_t request = {
        .method = CM_HTTP_GET,
        .url = cm_buffer_text(&self->url),
        .timeout_ms = PROBE_MS,
        .body_max = CM_PUBSUB_FAULT_MAX,
        .done = on_probed,
        .ctx = self,
    };
    self->link.state = CM_PUBSUB_PROBING;
    cm_http_send(self->calls, &request);
}

static bool has_token(const cm_pubsub_t *self)
{
    return !self->credentials || cm_google_credentials_token(self->credentials);
}

void cm_pubsub_link_tick(cm_pubsub_t *self, int64_t now)
{
    if (self->link.state == CM_PUBSUB_DOWN && now >= self->link.retry_at && has_token(self))
        probe(self);
}

bool cm_pubsub_may_send(const cm_pubsub_t *self)
{
    return self->link.state == CM_PUBSUB_UP && !self->link.token_wanted && has_token(self);
}

/* ---- tokens ---------------------------------------------------------------------------------- */

const char *cm_pubsub_bearer(const cm_pubsub_t *self)
{
    return self->credentials ? cm_google_credentials_token(self->credentials) : NULL;
}

static void on_token(void *ctx)
{
    cm_pubsub_t *self = ctx;
    self->link.token++;
    self->link.token_wanted = false;
    if (self->link.state == CM_PUBSUB_DOWN && self->link.why.status != CM_UNAVAILABLE)
        self->link.retry_at = 0; /* it was down for want of this, or had not begun */
    cm_pubsub_wake(self);
}

static void on_token_failed(void *ctx, const cm_error_t *error)
{
    cm_pubsub_t *self = ctx;
    if (self->credentials && has_token(self) && !self->link.token_wanted)
        return; /* the one in force lives on */
    cm_error_t why = *error;
    cm_error_prefix(&why, "pubsub.credentials_file");
    go_down(self, &why, 0);
}

cm_status_t cm_pubsub_link_open(cm_pubsub_t *self, cm_error_t *err)
{
    cm_backoff_init(&self->link.backoff, RETRY_BASE_MS, RETRY_CAP_MS,
                    cm_random_next(&self->random));
    if (self->address.emulator)
        return CM_OK;
    cm_google_credentials_options_t options = {
        .file = self->own.credentials_file,
        .metadata_host = self->own.metadata_host,
        .scope = scope,
        .ctx = self,
        .on_token = on_token,
        .on_failed = on_token_failed,
    };
    cm_status_t status =
        cm_google_credentials_open(&self->credentials, self->loop, self->calls, &options, err);
    if (status != CM_OK)
        cm_error_prefix(err, "pubsub.credentials_file");
    return status;
}

/* A 401. One new token is tried; if that is refused as well, a person must act. */
static void unauthorized(cm_pubsub_t *self, unsigned token)
{
    cm_error_t why;
    if (self->credentials && (token != self->link.token || self->link.token_wanted))
        return; /* it was sent with an older one */
    const char *refused = cm_pubsub_bearer(self);
    if (self->credentials &&
        (!refused || cm_google_credentials_refused(self->credentials, refused))) {
        self->link.token_wanted = token == self->link.token;
        return;
    }
    cm_error_set(&why, CM_MISCONFIGURED, "http-401",
                 "pubsub: the service refuses the token of %s; check pubsub.credentials_file",
                 self->credentials ? cm_google_credentials_name(self->credentials)
                                   : "nobody (an http:// address is used without credentials)");
    if (self->link.state == CM_PUBSUB_UP)
        go_down(self, &why, self->own.refused_ms);
}

/* ---- answers --------------------------------------------------------------------------------- */

/* No answer in time: the network may have changed under us, and whatever else waits on these
 * connections waits for nothing. */
static void renew_all(cm_pubsub_t *self)
{
    for (size_t i = 0; i < self->sub_count; i++)
        cm_pubsub_pull_cancel(self->subs[i]);
    cm_http_renew(self->pulls);
    cm_http_renew(self->calls);
}

static bool is_one_of(int http, const int *codes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (codes[i] == http)
            return true;
    return false;
}

static void in_trouble(cm_pubsub_t *self, const cm_http_answer_t *answer, cm_pubsub_gate_t *gate,
                       const cm_pubsub_fault_t *fault, const cm_error_t *err)
{
    int retry_ms = answer->retry_after_ms >= 0 ? answer->retry_after_ms : fault->retry_ms;
    gate_shut(gate, retry_ms);
    bool away = answer->http == 500 || answer->http == 502 || answer->http == 503;
    if (away && retry_ms < 0 && ++self->link.failures >= FAILURES_MAX)
        cm_pubsub_link_down(self, err);
}

static cm_pubsub_verdict_t judge_status(cm_pubsub_t *self, const cm_http_answer_t *answer,
                                        cm_pubsub_gate_t *gate, const cm_pubsub_fault_t *fault,
                                        cm_error_t *err)
{
    static const int bad[] = {400, 413, 414, 415, 422};
    static const int later[] = {408, 409, 425, 429, 499};
    bool precondition = strcmp(fault->status, "FAILED_PRECONDITION") == 0 && !fault->id_count;
    if (is_one_of(answer->http, bad, sizeof bad / sizeof bad[0]) && !precondition) {
        err->status = CM_PERMANENT;
        return CM_PUBSUB_BAD;
    }
    if (answer->http >= 500 || is_one_of(answer->http, later, sizeof later / sizeof later[0])) {
        err->status = CM_UNAVAILABLE;
        in_trouble(self, answer, gate, fault, err);
        return CM_PUBSUB_LATER;
    }
    err->status = CM_MISCONFIGURED;
    return CM_PUBSUB_REFUSED;
}

/* No answer, or only a part of one. */
static cm_pubsub_verdict_t judge_loss(cm_pubsub_t *self, const cm_http_answer_t *answer,
                                      cm_error_t *err)
{
    cm_error_prefix(err, "pubsub");
    if (err->status == CM_PERMANENT) /* too large */
        return CM_PUBSUB_BAD;
    if (answer->curl == CURLE_OPERATION_TIMEDOUT && self->link.state == CM_PUBSUB_UP)
        renew_all(self);
    cm_pubsub_link_down(self, err);
    return CM_PUBSUB_LATER;
}

cm_pubsub_verdict_t cm_pubsub_judge(cm_pubsub_t *self, const cm_http_answer_t *answer,
                                    cm_pubsub_gate_t *gate, unsigned token,
                                    cm_pubsub_fault_t *ret_fault, cm_error_t *ret_err)
{
    *ret_fault = (cm_pubsub_fault_t){.retry_ms = -1};
    if (answer->status == CM_OK) {
        self->link.failures = 0;
        cm_backoff_reset(&gate->backoff);
        return CM_PUBSUB_FINE;
    }
    *ret_err = answer->error;
    if (answer->http == 0 || answer->curl != 0)
        return judge_loss(self, answer, ret_err);
    cm_arena_reset(self->arena);
    cm_pubsub_read_fault(answer->body, self->arena, ret_fault);
    cm_error_set(ret_err, answer->error.status, answer->error.code, "pubsub: HTTP %d %s%s%s",
                 answer->http, ret_fault->status, ret_fault->message[0] ? ": " : "",
                 ret_fault->message);
    if (answer->http == 401) {
        unauthorized(self, token);
        ret_err->status = CM_UNAVAILABLE;
        return CM_PUBSUB_LATER;
    }
    return judge_status(self, answer, gate, ret_fault, ret_err);
}
