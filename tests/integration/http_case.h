/* http_case - a fault server, a loop and an HTTP client, and how to ask and wait. */
#ifndef CM_TESTS_INTEGRATION_HTTP_CASE_H
#define CM_TESTS_INTEGRATION_HTTP_CASE_H
#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "runtime/http.h"
#include "tests/support/http_fault_server.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdlib.h>
#include <string.h>

enum { DEADLINE_MS = 20000, PATIENT_MS = 15000, BODY_MAX = 1 << 20 };

static cm_test_http_t server;
static zloop_t *loop;
static cm_http_t *http;

typedef struct result result_t;
struct result {
    int times; /* done was called */
    cm_http_answer_t answer;
    char *body;              /* with a NUL behind */
    cm_http_call_t *cancels; /* while that is under way */
    result_t *cancelled_by;
    bool renews;
    int sends; /* as many more of the same, one after the other */
    cm_http_request_t request;
};

static inline void open_http(int connections, const char *ca_file)
{
    cm_http_options_t options = {
        .connections_max = connections, .connect_timeout_ms = 5000, .ca_file = ca_file};
    http = cm_http_new(loop, &options);
}

static inline void begin(void)
{
    cm_test_http_start(&server);
    loop = zloop_new();
    open_http(4, NULL);
}

static inline void finish(void)
{
    cm_http_destroy(&http);
    zloop_destroy(&loop);
    cm_test_http_stop(&server);
}

/* ---- asking ---------------------------------------------------------------------------------- */

static inline void on_done(void *ctx, const cm_http_answer_t *answer)
{
    result_t *result = ctx;
    result->times++;
    result->answer = *answer;
    free(result->body);
    result->body = calloc(1, answer->body.len + 1);
    memcpy(result->body, answer->body.ptr, answer->body.len);
    if (result->cancelled_by)
        result->cancelled_by->cancels = NULL;
    if (result->cancels)
        cm_http_cancel(http, CM_TAKE(result->cancels));
    if (result->renews)
        cm_http_renew(http);
    if (result->sends-- > 0)
        cm_http_send(http, &result->request);
}

static inline cm_http_call_t *ask_with(result_t *result, const char *base, const char *path,
                                       const cm_http_request_t *more)
{
    static char url[512]; /* borrowed for the time of the call, says the header */
    snprintf(url, sizeof url, "%s%s", base, path);
    cm_http_request_t request = more ? *more : (cm_http_request_t){0};
    request.url = url;
    request.done = on_done;
    request.ctx = result;
    if (!request.timeout_ms)
        request.timeout_ms = PATIENT_MS;
    if (!request.body_max)
        request.body_max = BODY_MAX;
    return cm_http_send(http, &request);
}

static inline cm_http_call_t *ask(result_t *result, const char *path)
{
    return ask_with(result, server.url, path, NULL);
}

static inline int end_turn(zloop_t *unused, int timer, void *arg)
{
    (void)unused, (void)timer, (void)arg;
    return -1;
}

static inline void turn(void)
{
    zloop_timer(loop, 2, 1, end_turn, NULL);
    zloop_start(loop);
}

static inline void await(const result_t *results, size_t count)
{
    int64_t deadline = cm_clock_mono_ms() + DEADLINE_MS;
    for (size_t i = 0; i < count; i++) {
        while (results[i].times == 0) {
            if (cm_clock_mono_ms() > deadline)
                cr_fatal("no answer %zu of %zu", i + 1, count);
            turn();
        }
    }
}

static inline result_t answer_with(const char *path, const cm_http_request_t *more)
{
    result_t result = {0};
    ask_with(&result, server.url, path, more);
    await(&result, 1);
    return result;
}

static inline result_t answer_of(const char *path)
{
    return answer_with(path, NULL);
}

/* Wait till the server has seen that many requests for path, done or not. */
static inline void await_count(const char *path, long count)
{
    int64_t deadline = cm_clock_mono_ms() + DEADLINE_MS;
    while (cm_test_http_count(&server, path) < count) {
        if (cm_clock_mono_ms() > deadline)
            cr_fatal("the server did not get %ld requests for %s", count, path);
        turn();
    }
}

static inline void await_connections(size_t count)
{
    int64_t deadline = cm_clock_mono_ms() + DEADLINE_MS;
    while (cm_test_http_connections(server.port) != count) {
        if (cm_clock_mono_ms() > deadline)
            cr_fatal("%zu connections are open, not %zu", cm_test_http_connections(server.port),
                     count);
        turn();
    }
}
#endif
