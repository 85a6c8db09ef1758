#include "runtime/broker/google_pubsub_admin.h"
#include "runtime/broker/google_pubsub.h"
#include "runtime/cleanup.h"
#include "runtime/google_credentials.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { CALL_MS = 30000, CONNECT_MS = 10000, ANSWER_MAX = 1 << 20, TRIES = 3 };

#define SCOPE "https://www.googleapis.com/auth/pubsub"

struct cm_pubsub_admin {
    zloop_t *loop;
    cm_http_t *http;
    cm_google_credentials_t *credentials; /* NULL: an emulator */
    char *base, *project;                 /* "https://...", "projects/p" */
    cm_error_t failure;                   /* of the last fetch of a token */
    json_t *answer;
    cm_error_t answer_error;
    bool answered;
};

/* ---- the loop ------------------------------------------------------------------------------- */

static int end_loop(zloop_t *loop, int timer, void *arg)
{
    (void)loop, (void)timer, (void)arg;
    return -1;
}

/* An event has no return value of its own by which it could end the loop. */
static void leave(cm_pubsub_admin_t *self)
{
    zloop_timer(self->loop, 0, 1, end_loop, NULL);
}

static void on_token(void *ctx)
{
    leave(ctx);
}

static void on_failed(void *ctx, const cm_error_t *error)
{
    cm_pubsub_admin_t *self = ctx;
    self->failure = *error;
    if (error->status == CM_MISCONFIGURED)
        leave(self);
}

static cm_status_t await_token(cm_pubsub_admin_t *self, cm_error_t *err)
{
    int deadline = zloop_timer(self->loop, CALL_MS, 1, end_loop, NULL);
    if (!cm_google_credentials_token(self->credentials))
        zloop_start(self->loop);
    zloop_timer_end(self->loop, deadline);
    if (cm_google_credentials_token(self->credentials))
        return CM_OK;
    if (self->failure.status == CM_OK)
        return cm_error_set(err, CM_UNAVAILABLE, "token", "no token came within %d s",
                            CALL_MS / 1000);
    *err = self->failure;
    return err->status;
}

/* ---- open and close ------------------------------------------------------------------------- */

static cm_status_t open_credentials(cm_pubsub_admin_t *self, const cm_pubsub_options_t *pubsub,
                                    cm_error_t *err)
{
    cm_google_credentials_options_t options = {.file = pubsub->credentials_file,
                                               .metadata_host = pubsub->metadata_host,
                                               .scope = SCOPE,
                                               .ctx = self,
                                               .on_token = on_token,
                                               .on_failed = on_failed};
    cm_status_t status =
        cm_google_credentials_open(&self->credentials, self->loop, self->http, &options, err);
    return status == CM_OK ? await_token(self, err) : status;
}

cm_status_t cm_pubsub_admin_open(cm_pubsub_admin_t **ret_self, const cm_broker_options_t *options,
                                 cm_error_t *err)
{
    static const cm_pubsub_options_t defaults = {0};
    const cm_pubsub_options_t *pubsub = options->driver ? options->driver : &defaults;
    const char *project = strstr(options->uri, "/projects/");
    bool secure = strncmp(options->uri, "https://", 8) == 0;
    if (!project || (!secure && strncmp(options->uri, "http://", 7) != 0))
        return cm_error_set(err, CM_MISCONFIGURED, "pubsub-address",
                            "no address of Pub/Sub: give https://HOST/projects/PROJECT");
    cm_pubsub_admin_t *self = calloc(1, sizeof *self);
    if (!self)
        abort();
    self->base = strndup(options->uri, (size_t)(project - options->uri));
    self->project = strdup(project + 1);
    self->loop = zloop_new();
    zloop_set_nonstop(self->loop, true);
    bool own_ca = pubsub->ca_file && *pubsub->ca_file;
    self->http =
        cm_http_new(self->loop, &(cm_http_options_t){.connections_max = 1,
                                                     .connect_timeout_ms = CONNECT_MS,
                                                     .ca_file = own_ca ? pubsub->ca_file : NULL});
    cm_status_t status = secure ? open_credentials(self, pubsub, err) : CM_OK;
    if (status == CM_OK)
        *ret_self = self;
    else
        cm_pubsub_admin_close(&self);
    return status;
}

void cm_pubsub_admin_close(cm_pubsub_admin_t **self_p)
{
    cm_pubsub_admin_t *self = *self_p;
    if (!self)
        return;
    cm_google_credentials_close(&self->credentials);
    cm_http_destroy(&self->http);
    zloop_destroy(&self->loop);
    free(self->base);
    free(self->project);
    free(self);
    *self_p = NULL;
}

const char *cm_pubsub_admin_project(const cm_pubsub_admin_t *self)
{
    return self->project;
}

/* ---- a call --------------------------------------------------------------------------------- */

/* {"error": {"message": ..., "status": ...}}; a proxy answers something else, or nothing. */
static void explain(json_t *answer, cm_error_t *err)
{
    const char *message = NULL, *status = NULL;
    json_unpack(answer, "{s:{s?s, s?s}}", "error", "message", &message, "status", &status);
    cm_status_t kind = err->status;
    if (message)
        cm_error_set(err, kind, status ? status : err->code, "%s", message);
    for (char *at = err->message; *at; at++)
        if (iscntrl((unsigned char)*at))
            *at = ' ';
}

static void on_answer(void *ctx, const cm_http_answer_t *answer)
{
    cm_pubsub_admin_t *self = ctx;
    self->answered = true;
    self->answer = json_loadb(answer->body.ptr ? answer->body.ptr : "", answer->body.len, 0, NULL);
    self->answer_error = answer->status == CM_OK ? (cm_error_t){0} : answer->error;
    if (answer->status != CM_OK) {
        if (answer->http == 404)
            self->answer_error.status = CM_MISSING;
        if (self->answer)
            explain(self->answer, &self->answer_error);
    } else if (!self->answer) {
        cm_error_set(&self->answer_error, CM_UNAVAILABLE, "answer", "the answer is no JSON");
    }
    leave(self);
}

static cm_status_t call_once(cm_pubsub_admin_t *self, const cm_http_request_t *request,
                             json_t **ret_answer, cm_error_t *err)
{
    self->answered = false;
    self->answer = NULL;
    cm_http_send(self->http, request);
    while (!self->answered)
        zloop_start(self->loop);
    if (self->answer_error.status == CM_OK && ret_answer)
        *ret_answer = self->answer;
    else
        json_decref(self->answer);
    if (self->answer_error.status != CM_OK && err)
        *err = self->answer_error;
    return self->answer_error.status;
}

cm_status_t cm_pubsub_admin_call(cm_pubsub_admin_t *self, cm_http_method_t method, const char *path,
                                 const json_t *body, json_t **ret_answer, cm_error_t *err)
{
    char url[1024];
    snprintf(url, sizeof url, "%s/v1/%s/%s", self->base, self->project, path);
    CM_CLEANUP(cm_free) char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    cm_http_request_t request = {.method = method,
                                 .url = url,
                                 .body = cm_str(text),
                                 .timeout_ms = CALL_MS,
                                 .body_max = ANSWER_MAX,
                                 .done = on_answer,
                                 .ctx = self};
    cm_status_t status = CM_UNAVAILABLE;
    /* What these calls ask for is a state, so they may be repeated. */
    for (int i = 0; status == CM_UNAVAILABLE && i < TRIES; i++) {
        request.bearer = self->credentials ? cm_google_credentials_token(self->credentials) : NULL;
        status = call_once(self, &request, ret_answer, err);
    }
    return status;
}
