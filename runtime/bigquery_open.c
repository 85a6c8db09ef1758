#include "runtime/bigquery_private.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"

#include <openssl/crypto.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    TICK_MS = 100, /* the longest turn of the loop */
    CONNECTIONS = 2,
    CONNECT_TIMEOUT_MS = 10000,
    RETRY_CAP_MS = 60000,
};

/* ---- what ends a turn ------------------------------------------------------------------------ */

static int on_tick(zloop_t *loop, int timer, void *arg)
{
    (void)loop, (void)timer, (void)arg;
    return -1;
}

static int on_wake(zloop_t *loop, zmq_pollitem_t *item, void *arg)
{
    (void)loop, (void)item;
    cm_bigquery_t *self = arg;
    eventfd_t count;
    eventfd_read(self->wake_fd, &count);
    return -1;
}

static void on_token(void *ctx)
{
    cm_bigquery_t *self = ctx;
    self->token_failed = false;
    cm_bigquery_wake(self);
}

static void on_token_failed(void *ctx, const cm_error_t *error)
{
    cm_bigquery_t *self = ctx;
    self->token_failed = true;
    self->token_error = *error;
    cm_bigquery_wake(self);
}

/* ---- life ------------------------------------------------------------------------------------ */

static bool is_given(const char *text)
{
    return text && *text;
}

/* The project is a part of every address, so nothing in it may mean something there. */
static cm_status_t make_base(cm_bigquery_t *self, cm_error_t *err)
{
    const char *endpoint = is_given(self->options.endpoint) ? self->options.endpoint
                                                            : "https://bigquery.googleapis.com";
    const char *project = is_given(self->options.project) ? self->options.project : "";
    size_t len = strlen(endpoint);
    while (len && endpoint[len - 1] == '/')
        len--;
    if (strspn(project, "abcdefghijklmnopqrstuvwxyz0123456789:.-") != strlen(project) || !*project)
        return cm_error_set(err, CM_MISCONFIGURED, "project", "%.64s is no project of Google Cloud",
                            *project ? project : "nothing");
    if ((strncmp(endpoint, "https://", 8) != 0 && strncmp(endpoint, "http://", 7) != 0) ||
        strpbrk(endpoint, " ?#@\r\n"))
        return cm_error_set(err, CM_MISCONFIGURED, "endpoint",
                            "endpoint %.100s is not of the form https://host", endpoint);
    cm_buffer_t base = {0};
    cm_buffer_printf(&base, "%.*s/bigquery/v2/projects/%s/", (int)len, endpoint, project);
    cm_buffer_text(&base);
    self->base = base.data;
    return CM_OK;
}

static cm_status_t open_credentials(cm_bigquery_t *self, cm_error_t *err)
{
    cm_google_credentials_options_t options = {
        .file = self->options.credentials_file,
        .metadata_host = self->options.metadata_host,
        .scope = "https://www.googleapis.com/auth/bigquery",
        .ctx = self,
        .on_token = on_token,
        .on_failed = on_token_failed,
    };
    if (strncmp(self->base, "http://", 7) == 0 && !is_given(options.file) &&
        !is_given(options.metadata_host))
        return CM_OK;
    return cm_google_credentials_open(&self->credentials, self->loop, self->http, &options, err);
}

static void open_loop(cm_bigquery_t *self)
{
    self->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    self->loop = zloop_new();
    zmq_pollitem_t item = {.fd = self->wake_fd, .events = ZMQ_POLLIN};
    if (self->wake_fd == -1 || !self->loop ||
        zloop_poller(self->loop, &item, on_wake, self) == -1 ||
        zloop_timer(self->loop, TICK_MS, 0, on_tick, NULL) == -1)
        abort();
    zloop_poller_set_tolerant(self->loop, &item);
    cm_http_options_t options = {.connections_max = CONNECTIONS,
                                 .connect_timeout_ms = CONNECT_TIMEOUT_MS,
                                 .ca_file = is_given(self->options.ca_file) ? self->options.ca_file
                                                                            : NULL};
    self->http = cm_http_new(self->loop, &options);
}

static void set_defaults(cm_bigquery_options_t *options)
{
    if (options->timeout_ms <= 0)
        options->timeout_ms = 120000;
    if (options->give_up_ms <= 0)
        options->give_up_ms = 600000;
    if (options->retry_base_ms <= 0)
        options->retry_base_ms = 1000;
}

cm_status_t cm_bigquery_open(cm_bigquery_t **ret_self, const cm_bigquery_options_t *options,
                             cm_error_t *err)
{
    CM_CLEANUP(cm_bigquery_close) cm_bigquery_t *self = calloc(1, sizeof *self);
    if (!self)
        abort();
    self->options = *options;
    self->wake_fd = -1;
    set_defaults(&self->options);
    cm_backoff_init(&self->streak.backoff, self->options.retry_base_ms, RETRY_CAP_MS,
                    cm_random_u64());
    cm_status_t status = make_base(self, err);
    if (status != CM_OK)
        return status;
    open_loop(self);
    status = open_credentials(self, err);
    if (status == CM_OK)
        *ret_self = CM_TAKE(self);
    return status;
}

void cm_bigquery_close(cm_bigquery_t **self_p)
{
    cm_bigquery_t *self = *self_p;
    if (!self)
        return;
    cm_google_credentials_close(&self->credentials);
    cm_http_destroy(&self->http);
    zloop_destroy(&self->loop);
    if (self->wake_fd != -1)
        close(self->wake_fd);
    cm_bigquery_page_destroy(&self->page);
    cm_buffer_destroy(&self->body);
    OPENSSL_cleanse(self->token, sizeof self->token);
    free(self->base);
    free(self);
    *self_p = NULL;
}
