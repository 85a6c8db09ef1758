#include "runtime/google_credentials.h"

#include "runtime/backoff.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "runtime/google_key.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum {
    EARLY_MS =
        240000, /* a metadata server gives the old token until about 5 minutes before its end */
    EARLY_JITTER_MS = 60000,
    REFRESH_MIN_MS = 1000,
    RETRY_BASE_MS = 1000,
    RETRY_CAP_MS = 60000,
    REFUSED_MS = 60000, /* between tries that a person must mend, and between forced ones */
    METADATA_SETTLES_MS = 30000, /* on GKE it refuses for the first seconds of a pod */
    TOKEN_TIMEOUT_MS = 10000,
    METADATA_TIMEOUT_MS = 5000,
    ANSWER_MAX = 64 << 10,
};

struct cm_google_credentials {
    cm_google_credentials_options_t options;
    zloop_t *loop;
    cm_http_t *http;
    cm_google_key_t *key; /* NULL = metadata server */
    char metadata_url[512];
    int timer_fd; /* the next fetch; fires once. All events come from it or from an answer */
    cm_http_call_t *call;
    cm_backoff_t backoff;
    uint64_t random;
    bool reread; /* the key was refused: perhaps there is another in its file by now */
    char *token;
    bool refused; /* token got a 401, its successor is not there yet */
    int64_t opened_ms, asked_ms, expires_ms, forced_ms; /* monotonic; forced_ms 0 = never */
};

static void fetch_in(cm_google_credentials_t *self, int64_t ms)
{
    struct itimerspec when = {.it_value = {ms / 1000, ms % 1000 * 1000000 + 1}};
    if (timerfd_settime(self->timer_fd, 0, &when, NULL) == -1)
        abort();
}

/* ---- answers --------------------------------------------------------------------------------- */

/* The last thing its caller does: on_failed may close us. */
static void failed(cm_google_credentials_t *self, cm_error_t *err, bool by_person, int at_least_ms)
{
    int wait = by_person ? REFUSED_MS : cm_backoff_next_ms(&self->backoff);
    fetch_in(self, wait > at_least_ms ? wait : at_least_ms);
    cm_error_prefix(err, "token of %s", cm_google_credentials_name(self));
    if (self->options.on_failed)
        self->options.on_failed(self->options.ctx, err);
}

static void refuse(cm_google_credentials_t *self, const cm_http_answer_t *answer)
{
    cm_error_t err;
    cm_google_token_refusal(self->key, answer, &err);
    bool by_person = err.status == CM_MISCONFIGURED && answer->http >= 300;
    if (by_person && !self->key && cm_clock_mono_ms() - self->opened_ms < METADATA_SETTLES_MS) {
        err.status = CM_UNAVAILABLE;
        by_person = false;
    }
    self->reread = by_person;
    failed(self, &err, by_person, answer->retry_after_ms);
}

static void accept_token(cm_google_credentials_t *self, char *token_owned, int64_t life_ms)
{
    cm_google_wipe(&self->token);
    self->token = token_owned;
    self->refused = false;
    self->expires_ms = self->asked_ms + life_ms;
    cm_backoff_reset(&self->backoff);
    int64_t left = self->expires_ms - cm_clock_mono_ms();
    int64_t early = EARLY_MS - (int64_t)cm_random_below(&self->random, EARLY_JITTER_MS);
    int64_t wait = left - (early < left / 2 ? early : left / 2);
    fetch_in(self, wait > REFRESH_MIN_MS ? wait : REFRESH_MIN_MS);
    if (self->options.on_token)
        self->options.on_token(self->options.ctx);
}

static void on_answer(void *ctx, const cm_http_answer_t *answer)
{
    cm_google_credentials_t *self = ctx;
    cm_error_t err;
    char *token;
    int64_t life_ms;
    self->call = NULL;
    if (answer->status != CM_OK)
        refuse(self, answer);
    else if (cm_google_token_parse(answer->body, &token, &life_ms, &err) != CM_OK)
        failed(self, &err, false, 0);
    else
        accept_token(self, token, life_ms);
}

/* ---- asking ---------------------------------------------------------------------------------- */

static void ask_metadata(cm_google_credentials_t *self)
{
    static const char *const headers[] = {"Metadata-Flavor: Google"};
    cm_http_request_t request = {
        .method = CM_HTTP_GET,
        .url = self->metadata_url,
        .headers = headers,
        .header_count = CM_LENGTH(headers),
        .secret = true,
        .timeout_ms = METADATA_TIMEOUT_MS,
        .body_max = ANSWER_MAX,
        .done = on_answer,
        .ctx = self,
    };
    self->call = cm_http_send(self->http, &request);
}

/* A file that cannot be read now leaves the key we have. */
static void reread_key(cm_google_credentials_t *self)
{
    cm_google_key_t *key = NULL;
    cm_error_t err;
    self->reread = false;
    if (cm_google_key_read(&key, self->options.file, &err) != CM_OK)
        return;
    cm_google_key_destroy(&self->key);
    self->key = key;
}

static void ask_token_endpoint(cm_google_credentials_t *self)
{
    cm_error_t err;
    cm_buffer_t form = {0};
    if (self->reread)
        reread_key(self);
    if (cm_google_key_form(self->key, self->options.scope, cm_clock_epoch_ms() / 1000, &form,
                           &err) != CM_OK) {
        cm_buffer_destroy(&form);
        self->reread = true;
        failed(self, &err, true, 0);
        return;
    }
    cm_http_request_t request = {
        .method = CM_HTTP_POST,
        .url = cm_google_key_token_uri(self->key),
        .content_type = "application/x-www-form-urlencoded",
        .body = {form.data, form.len},
        .secret = true,
        .timeout_ms = TOKEN_TIMEOUT_MS,
        .body_max = ANSWER_MAX,
        .done = on_answer,
        .ctx = self,
    };
    self->call = cm_http_send(self->http, &request);
    OPENSSL_cleanse(form.data, form.len);
    cm_buffer_destroy(&form);
}

static int on_due(zloop_t *loop, zmq_pollitem_t *item, void *arg)
{
    (void)loop, (void)item;
    cm_google_credentials_t *self = arg;
    uint64_t fired;
    if (read(self->timer_fd, &fired, sizeof fired) != sizeof fired || self->call)
        return 0;
    self->asked_ms = cm_clock_mono_ms();
    if (self->key)
        ask_token_endpoint(self);
    else
        ask_metadata(self);
    return 0;
}

/* ---- for the caller -------------------------------------------------------------------------- */

static bool is_given(const char *text)
{
    return text && *text;
}

static cm_status_t make_metadata_url(cm_google_credentials_t *self, cm_error_t *err)
{
    const char *host = is_given(self->options.metadata_host) ? self->options.metadata_host
                                                             : "metadata.google.internal";
    /* A scope is an address of Google's: nothing in it must be escaped in a query. */
    int len = snprintf(self->metadata_url, sizeof self->metadata_url,
                       "http://%s/computeMetadata/v1/instance/service-accounts/default/token"
                       "?scopes=%s",
                       host, self->options.scope);
    for (char *at = self->metadata_url; (at = strchr(at, ' '));)
        *at = ','; /* several scopes: in a key file's request by blanks, here by commas */
    if (len >= (int)sizeof self->metadata_url || strpbrk(host, "/@?# \t\r\n"))
        return cm_error_set(err, CM_MISCONFIGURED, "metadata-host",
                            "metadata host %.100s is not of the form host[:port]", host);
    return CM_OK;
}

cm_status_t cm_google_credentials_open(cm_google_credentials_t **ret_self, zloop_t *loop,
                                       cm_http_t *http,
                                       const cm_google_credentials_options_t *options,
                                       cm_error_t *err)
{
    CM_CLEANUP(cm_google_credentials_close)
    cm_google_credentials_t *self = calloc(1, sizeof *self);
    if (!self)
        abort();
    *self = (cm_google_credentials_t){.options = *options,
                                      .loop = loop,
                                      .http = http,
                                      .timer_fd = -1,
                                      .random = cm_random_u64(),
                                      .opened_ms = cm_clock_mono_ms()};
    cm_backoff_init(&self->backoff, RETRY_BASE_MS, RETRY_CAP_MS, cm_random_u64());
    cm_status_t status = is_given(options->file)
                             ? cm_google_key_read(&self->key, options->file, err)
                             : make_metadata_url(self, err);
    if (status != CM_OK)
        return status;
    self->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    zmq_pollitem_t item = {.fd = self->timer_fd, .events = ZMQ_POLLIN};
    if (self->timer_fd == -1 || zloop_poller(loop, &item, on_due, self) == -1)
        abort();
    zloop_poller_set_tolerant(loop, &item);
    fetch_in(self, 0);
    *ret_self = CM_TAKE(self);
    return CM_OK;
}

void cm_google_credentials_close(cm_google_credentials_t **self_p)
{
    cm_google_credentials_t *self = *self_p;
    if (!self)
        return;
    if (self->call)
        cm_http_cancel(self->http, self->call);
    if (self->timer_fd != -1) {
        zloop_poller_end(self->loop, &(zmq_pollitem_t){.fd = self->timer_fd});
        close(self->timer_fd);
    }
    cm_google_wipe(&self->token);
    cm_google_key_destroy(&self->key);
    free(self);
    *self_p = NULL;
}

const char *cm_google_credentials_token(const cm_google_credentials_t *self)
{
    return self->token && !self->refused && cm_clock_mono_ms() < self->expires_ms ? self->token
                                                                                  : NULL;
}

bool cm_google_credentials_refused(cm_google_credentials_t *self, const char *token)
{
    int64_t now = cm_clock_mono_ms();
    if (!self->token || strcmp(token, self->token) != 0 || self->refused)
        return true;
    if (self->forced_ms && now - self->forced_ms < REFUSED_MS)
        return false;
    self->forced_ms = now;
    self->refused = true;
    if (!self->call)
        fetch_in(self, 0);
    return true;
}

const char *cm_google_credentials_name(const cm_google_credentials_t *self)
{
    return self->key ? cm_google_key_name(self->key) : "metadata server";
}
