/* The HTTP client against a real server that misbehaves as told. */
#include "tests/integration/http_case.h"

#include <jansson.h>

TestSuite(http, .init = begin, .fini = finish, .timeout = 60);

static json_t *echo_of(const result_t *result)
{
    json_t *echo = json_loads(result->body, 0, NULL);
    cr_assert(ne(ptr, echo, NULL), "%s", result->body);
    return echo;
}

static const char *header_of(const json_t *echo, const char *name)
{
    const char *value = json_string_value(json_object_get(json_object_get(echo, "headers"), name));
    return value ? value : "";
}

/* ---- what is sent ---------------------------------------------------------------------------- */

static void sends(cm_http_method_t method, const char *word, cm_str_t body)
{
    result_t result = answer_with("/echo", &(cm_http_request_t){.method = method, .body = body});
    cr_assert(eq(int, result.answer.status, CM_OK), "%s", result.answer.error.message);
    json_t *echo = echo_of(&result);
    cr_expect(eq(str, json_string_value(json_object_get(echo, "method")), word));
    cr_expect(eq(sz, strlen(json_string_value(json_object_get(echo, "body"))), body.len));
    json_decref(echo);
    free(result.body);
}

Test(http, sends_each_method_with_and_without_a_body)
{
    sends(CM_HTTP_GET, "GET", CM_STR_NONE);
    sends(CM_HTTP_POST, "POST", CM_STR("{\"a\":1}"));
    sends(CM_HTTP_PUT, "PUT", CM_STR("{}"));
    sends(CM_HTTP_GET, "GET", CM_STR_NONE); /* the same handle again */
    sends(CM_HTTP_PATCH, "PATCH", CM_STR("{\"a\":2}"));
    sends(CM_HTTP_DELETE, "DELETE", CM_STR_NONE);
    sends(CM_HTTP_POST, "POST", CM_STR_NONE);
    sends(CM_HTTP_PUT, "PUT", CM_STR_NONE);
    sends(CM_HTTP_DELETE, "DELETE", CM_STR("{}"));
}

Test(http, sends_token_type_and_further_headers)
{
    const char *headers[] = {"X-One: 1", "X-Two: 2"};
    result_t result = answer_with("/echo", &(cm_http_request_t){.method = CM_HTTP_POST,
                                                                .bearer = "secret-token",
                                                                .headers = headers,
                                                                .header_count = 2,
                                                                .body = CM_STR("{}")});
    json_t *echo = echo_of(&result);
    cr_expect(eq(str, header_of(echo, "authorization"), "Bearer secret-token"));
    cr_expect(eq(str, header_of(echo, "content-type"), "application/json"));
    cr_expect(eq(str, header_of(echo, "x-one"), "1"));
    cr_expect(eq(str, header_of(echo, "x-two"), "2"));
    cr_expect(eq(str, header_of(echo, "expect"), ""));
    json_decref(echo);
    free(result.body);
}

Test(http, forgets_token_and_headers_with_the_next_request)
{
    const char *headers[] = {"X-One: 1"};
    result_t first = answer_with(
        "/echo",
        &(cm_http_request_t){.bearer = "secret-token", .headers = headers, .header_count = 1});
    result_t second = answer_with("/echo", &(cm_http_request_t){.method = CM_HTTP_POST,
                                                                .content_type = "text/plain",
                                                                .body = CM_STR("x")});
    json_t *echo = echo_of(&second);
    cr_expect(eq(str, header_of(echo, "authorization"), ""));
    cr_expect(eq(str, header_of(echo, "x-one"), ""));
    cr_expect(eq(str, header_of(echo, "content-type"), "text/plain"));
    json_decref(echo);
    free(first.body);
    free(second.body);
}

Test(http, copies_the_body_before_it_returns)
{
    result_t result = {0};
    size_t len = 4 << 20;
    char *body = malloc(len);
    memset(body, 'b', len);
    ask_with(
        &result, server.url, "/echo",
        &(cm_http_request_t){.method = CM_HTTP_POST, .body = {body, len}, .body_max = len + 4096});
    memset(body, 'X', len);
    free(body);
    await(&result, 1);
    cr_assert(eq(int, result.answer.status, CM_OK), "%s", result.answer.error.message);
    json_t *echo = echo_of(&result);
    const char *came = json_string_value(json_object_get(echo, "body"));
    cr_expect(eq(sz, strspn(came, "b"), len));
    json_decref(echo);
    free(result.body);
}

Test(http, ignores_a_proxy_in_the_environment)
{
    setenv("http_proxy", "http://127.0.0.1:1", 1);
    setenv("ALL_PROXY", "http://127.0.0.1:1", 1);
    result_t result = answer_of("/echo");
    cr_expect(eq(int, result.answer.status, CM_OK), "%s", result.answer.error.message);
    free(result.body);
}

/* ---- what comes back ------------------------------------------------------------------------- */

Test(http, tells_status_code_class_and_body)
{
    result_t result = answer_of("/status/503?body=busy");
    cr_expect(eq(int, result.times, 1));
    cr_expect(eq(int, result.answer.status, CM_UNAVAILABLE));
    cr_expect(eq(int, result.answer.error.status, CM_UNAVAILABLE));
    cr_expect(eq(int, result.answer.http, 503));
    cr_expect(eq(int, result.answer.curl, 0));
    cr_expect(eq(int, result.answer.retry_after_ms, -1));
    cr_expect(result.answer.sent);
    cr_expect(eq(str, result.answer.error.code, "http-503"));
    cr_expect(eq(str, result.body, "busy"));
    cr_expect(ne(ptr, strstr(result.answer.error.message, "127.0.0.1"), NULL));
    free(result.body);
}

Test(http, takes_an_answer_without_a_body)
{
    result_t result = answer_of("/status/204");
    cr_expect(eq(int, result.answer.status, CM_OK));
    cr_expect(eq(int, result.answer.http, 204));
    cr_expect(eq(sz, result.answer.body.len, 0));
    free(result.body);
}

Test(http, tells_when_the_server_wants_to_be_asked_again)
{
    result_t result = answer_of("/status/429?retry_after=7");
    cr_expect(eq(int, result.answer.retry_after_ms, 7000));
    free(result.body);
    result = answer_of("/status/503?retry_after=Fri%2C%2021%20Oct%202050%2007%3A28%3A00%20GMT");
    cr_expect(eq(int, result.answer.retry_after_ms, CM_HTTP_RETRY_AFTER_MAX_MS));
    free(result.body);
}

Test(http, does_not_follow_a_redirect)
{
    result_t result = answer_of("/redirect");
    cr_expect(eq(int, result.answer.status, CM_MISCONFIGURED));
    cr_expect(eq(int, result.answer.http, 302));
    cr_expect(eq(int, cm_test_http_count(&server, "/echo"), 0));
    free(result.body);
}

Test(http, decompresses_an_answer)
{
    result_t result = answer_of("/gzip?bytes=100000");
    cr_assert(eq(int, result.answer.status, CM_OK), "%s", result.answer.error.message);
    cr_expect(eq(sz, result.answer.body.len, 100000));
    cr_expect(eq(sz, strspn(result.body, "0"), 100000));
    free(result.body);
}

static void too_large(const char *path, size_t cap)
{
    result_t result = answer_with(path, &(cm_http_request_t){.body_max = cap});
    cr_expect(eq(int, result.answer.status, CM_PERMANENT));
    cr_expect(eq(str, result.answer.error.code, "answer-too-large"));
    cr_expect(eq(int, result.answer.http, 200));
    cr_expect(le(sz, result.answer.body.len, cap));
    free(result.body);
}

Test(http, refuses_a_body_over_its_cap_announced_or_not_or_compressed)
{
    too_large("/huge?bytes=100000000", 4096);
    too_large("/status/200?body=0123456789", 4);
    too_large("/gzip?bytes=100000000", 4096);
}

Test(http, takes_a_body_of_exactly_its_cap)
{
    result_t result = answer_with("/gzip?bytes=4096", &(cm_http_request_t){.body_max = 4096});
    cr_expect(eq(int, result.answer.status, CM_OK));
    cr_expect(eq(sz, result.answer.body.len, 4096));
    free(result.body);
    result = answer_with("/gzip?bytes=4097", &(cm_http_request_t){.body_max = 4096});
    cr_expect(eq(int, result.answer.status, CM_PERMANENT));
    free(result.body);
}

Test(http, keeps_the_class_of_a_refusal_with_a_body_over_the_cap)
{
    result_t result =
        answer_with("/status/503?body=0123456789", &(cm_http_request_t){.body_max = 4});
    cr_expect(eq(int, result.answer.status, CM_UNAVAILABLE));
    cr_expect(eq(str, result.answer.error.code, "http-503"));
    cr_expect(eq(str, result.body, "0123"));
    free(result.body);
}

static void link_fails(const char *path, int curl, bool sent)
{
    result_t result = answer_of(path);
    cr_expect(eq(int, result.answer.status, CM_UNAVAILABLE), "%s", path);
    cr_expect(eq(int, result.answer.curl, curl), "%s: %s", path, result.answer.error.message);
    cr_expect(eq(int, result.answer.sent, sent), "%s", path);
    free(result.body);
}

Test(http, tells_an_answer_that_is_reset_cut_or_missing_from_one_that_came)
{
    link_fails("/reset", 56, true);
    link_fails("/cut", 18, true);
    link_fails("/drop", 52, true);
}

Test(http, takes_no_babble_for_an_answer)
{
    result_t result = answer_of("/garbage");
    cr_expect(eq(int, result.answer.status, CM_MISCONFIGURED));
    cr_expect(eq(int, result.answer.http, 0));
    free(result.body);
}

Test(http, tells_that_a_request_was_not_sent)
{
    cm_test_http_kill(&server);
    link_fails("/echo", 7, false);
}

Test(http, takes_nothing_but_http_and_https)
{
    result_t result = {0};
    ask_with(&result, "file://", "/etc/hostname", NULL);
    await(&result, 1);
    cr_expect(eq(int, result.answer.status, CM_MISCONFIGURED));
    cr_expect(eq(str, result.answer.error.code, "curl-1"));
    free(result.body);
}

Test(http, never_puts_the_token_into_a_message)
{
    static const char *const paths[] = {"/status/401", "/status/400", "/reset",
                                        "/drop",       "/garbage",    "/redirect"};
    for (size_t i = 0; i < CM_LENGTH(paths); i++) {
        result_t result = answer_with(paths[i], &(cm_http_request_t){.bearer = "secret-token"});
        cr_expect(ne(int, result.answer.status, CM_OK));
        cr_expect(eq(ptr, strstr(result.answer.error.message, "secret"), NULL));
        free(result.body);
    }
}

/* ---- time ------------------------------------------------------------------------------------ */

static void times_out(const char *path, int http_code)
{
    result_t result = answer_with(path, &(cm_http_request_t){.timeout_ms = 100});
    cr_expect(eq(int, result.answer.status, CM_UNAVAILABLE));
    cr_expect(eq(str, result.answer.error.code, "curl-28"));
    cr_expect(eq(int, result.answer.http, http_code));
    cr_expect(result.answer.sent);
    free(result.body);
}

Test(http, gives_up_on_an_answer_that_does_not_come)
{
    times_out("/hold?ms=20000", 0);
}

Test(http, gives_up_on_a_body_that_does_not_end)
{
    times_out("/slow?bytes=10000&ms=10", 200);
}

Test(http, waits_for_a_slow_body_within_its_time)
{
    result_t result = answer_of("/slow?bytes=20&ms=5");
    cr_expect(eq(int, result.answer.status, CM_OK));
    cr_expect(eq(str, result.body, "ssssssssssssssssssss"));
    free(result.body);
}

Test(http, counts_the_time_from_the_asking_also_without_a_connection)
{
    cm_http_destroy(&http);
    open_http(1, NULL);
    result_t first = {0}, second = {0};
    ask(&first, "/hold?ms=1500");
    ask_with(&second, server.url, "/echo", &(cm_http_request_t){.timeout_ms = 100});
    await(&second, 1);
    cr_expect(eq(int, first.times, 0));
    cr_expect(eq(str, second.answer.error.code, "curl-28"));
    cr_expect(not(second.answer.sent));
    await(&first, 1);
    cr_expect(eq(int, first.answer.status, CM_OK));
    cr_expect(eq(int, cm_test_http_count(&server, "/echo"), 0));
    free(first.body);
    free(second.body);
}

/* ---- done, cancel, destroy ------------------------------------------------------------------- */

Test(http, calls_done_from_the_loop_alone_and_once)
{
    result_t result = {0};
    ask(&result, "/echo");
    cr_expect(eq(int, result.times, 0));
    cr_expect(eq(sz, cm_http_under_way(http), 1));
    await(&result, 1);
    for (int i = 0; i < 20; i++)
        turn();
    cr_expect(eq(int, result.times, 1));
    cr_expect(eq(sz, cm_http_under_way(http), 0));
    free(result.body);
}

Test(http, answers_every_one_of_many_requests_once)
{
    enum { COUNT = 200 };
    result_t *results = calloc(COUNT, sizeof *results);
    for (int i = 0; i < COUNT; i++)
        ask(&results[i], i % 7 == 3 ? "/drop" : "/echo");
    await(results, COUNT);
    for (int i = 0; i < COUNT; i++) {
        cr_expect(eq(int, results[i].times, 1));
        cr_expect(eq(int, results[i].answer.status, i % 7 == 3 ? CM_UNAVAILABLE : CM_OK));
        free(results[i].body);
    }
    free(results);
}

Test(http, opens_no_more_connections_than_it_may)
{
    result_t results[10] = {0};
    for (size_t i = 0; i < CM_LENGTH(results); i++)
        ask(&results[i], "/hold?ms=100");
    await_count("/hold", 4);
    cr_expect(le(sz, cm_test_http_connections(server.port), 4));
    await(results, CM_LENGTH(results));
    cr_expect(le(sz, cm_test_http_connections(server.port), 4));
    for (size_t i = 0; i < CM_LENGTH(results); i++) {
        cr_expect(eq(int, results[i].answer.status, CM_OK));
        free(results[i].body);
    }
}

Test(http, uses_a_connection_again)
{
    long connection[2];
    for (int i = 0; i < 2; i++) {
        result_t result = answer_of("/echo");
        json_t *echo = echo_of(&result);
        connection[i] = json_integer_value(json_object_get(echo, "connection"));
        json_decref(echo);
        free(result.body);
    }
    cr_expect(eq(i64, connection[0], connection[1]));
}

Test(http, does_not_call_done_of_a_cancelled_request)
{
    result_t waiting = {0}, fresh = {0}, other = {0};
    cm_http_call_t *call = ask(&waiting, "/hold?ms=200");
    await_count("/hold", 1);
    cm_http_cancel(http, call);
    cm_http_cancel(http, ask(&fresh, "/echo")); /* before the loop saw it */
    cr_expect(eq(sz, cm_http_under_way(http), 0));
    ask(&other, "/hold?ms=300");
    await(&other, 1);
    cr_expect(eq(int, waiting.times, 0));
    cr_expect(eq(int, fresh.times, 0));
    free(other.body);
}

Test(http, lets_done_cancel_another_request_that_is_done_as_well)
{
    enum { PAIRS = 20 };
    static result_t first[PAIRS], second[PAIRS];
    for (int i = 0; i < PAIRS; i++) {
        ask(&first[i], "/echo");
        first[i].cancels = ask(&second[i], "/echo");
        second[i].cancelled_by = &first[i];
    }
    await(first, PAIRS);
    for (int i = 0; i < PAIRS; i++) {
        cr_expect(le(int, second[i].times, 1));
        free(first[i].body);
        free(second[i].body);
    }
}

Test(http, lets_done_send_the_next_request)
{
    char url[128];
    snprintf(url, sizeof url, "%s/echo", server.url);
    result_t result = {.sends = 50};
    result.request = (cm_http_request_t){.url = url,
                                         .timeout_ms = PATIENT_MS,
                                         .body_max = BODY_MAX,
                                         .done = on_done,
                                         .ctx = &result};
    cm_http_send(http, &result.request);
    int64_t deadline = cm_clock_mono_ms() + DEADLINE_MS;
    while (result.times < 51 && cm_clock_mono_ms() < deadline)
        turn();
    cr_expect(eq(int, result.times, 51));
    cr_expect(eq(int, result.answer.status, CM_OK));
    free(result.body);
}

Test(http, is_destroyed_with_requests_in_every_state)
{
    result_t results[12] = {0};
    for (size_t i = 0; i < 8; i++) /* some of them without a connection */
        ask(&results[i], i % 2 ? "/hold?ms=5000" : "/slow?bytes=1000&ms=20");
    await_count("/hold", 1);
    for (size_t i = 8; i < 12; i++)
        ask(&results[i], "/echo");
    cm_http_destroy(&http);
    cr_expect(eq(ptr, http, NULL));
    await_connections(0);
    for (size_t i = 0; i < 12; i++)
        cr_expect(eq(int, results[i].times, 0));
}

/* ---- an answer in pieces --------------------------------------------------------------------- */

typedef struct {
    result_t result; /* first: on_done() takes the whole for it */
    size_t bytes, pieces, refuses_from;
} piecewise_t;

static bool on_piece(void *ctx, cm_str_t piece)
{
    piecewise_t *self = ctx;
    self->pieces++;
    self->bytes += piece.len;
    return !self->refuses_from || self->bytes < self->refuses_from;
}

static void ask_piecewise(piecewise_t *self, const char *path, size_t body_max, int timeout_ms)
{
    cm_http_request_t request = {
        .on_piece = on_piece, .body_max = body_max, .timeout_ms = timeout_ms};
    ask_with(&self->result, server.url, path, &request);
}

Test(http, hands_on_a_body_in_pieces_and_keeps_nothing_of_it)
{
    piecewise_t huge = {0}, packed = {0};
    ask_piecewise(&huge, "/huge?bytes=50000000", 50000000, PATIENT_MS);
    await(&huge.result, 1);
    cr_expect(eq(int, huge.result.answer.status, CM_OK), "%s", huge.result.answer.error.message);
    cr_expect(eq(sz, huge.bytes, 50000000));
    cr_expect(gt(sz, huge.pieces, 100));
    cr_expect(eq(sz, huge.result.answer.body.len, 0));
    ask_piecewise(&packed, "/gzip?bytes=100000", 100000, PATIENT_MS);
    await(&packed.result, 1);
    cr_expect(eq(sz, packed.bytes, 100000));
    free(huge.result.body);
    free(packed.result.body);
}

Test(http, keeps_the_body_of_a_refusal_though_pieces_are_wanted)
{
    piecewise_t asked = {0};
    ask_piecewise(&asked, "/status/403?body=why", 100, PATIENT_MS);
    await(&asked.result, 1);
    cr_expect(eq(int, asked.result.answer.http, 403));
    cr_expect(eq(str, asked.result.body, "why"));
    cr_expect(eq(sz, asked.pieces, 0));
    free(asked.result.body);
}

Test(http, cuts_an_answer_in_pieces_that_its_reader_refuses_or_that_is_over_its_cap)
{
    piecewise_t refused = {.refuses_from = 100000}, over = {0};
    ask_piecewise(&refused, "/huge?bytes=50000000", 50000000, PATIENT_MS);
    await(&refused.result, 1);
    cr_expect(eq(int, refused.result.answer.status, CM_PERMANENT));
    cr_expect(eq(str, (char *)refused.result.answer.error.code, "answer-refused"));
    cr_expect(lt(sz, refused.bytes, 200000));
    ask_piecewise(&over, "/huge?bytes=50000000", 100000, PATIENT_MS);
    await(&over.result, 1);
    cr_expect(eq(int, over.result.answer.status, CM_PERMANENT));
    cr_expect(eq(str, (char *)over.result.answer.error.code, "answer-too-large"));
    cr_expect(le(sz, over.bytes, 100000));
    free(refused.result.body);
    free(over.result.body);
}

/* 30 bytes, one every 50 ms: longer in all than the 1000 ms that are allowed for silence. */
Test(http, counts_the_time_of_an_answer_in_pieces_from_the_last_one)
{
    piecewise_t slow = {0}, silent = {0};
    ask_piecewise(&slow, "/slow?bytes=30&ms=50", 100, 1000);
    await(&slow.result, 1);
    cr_expect(eq(int, slow.result.answer.status, CM_OK), "%s", slow.result.answer.error.message);
    cr_expect(eq(sz, slow.bytes, 30));
    ask_piecewise(&silent, "/slow?bytes=2&ms=2000", 100, 100);
    await(&silent.result, 1);
    cr_expect(eq(int, silent.result.answer.status, CM_UNAVAILABLE));
    free(slow.result.body);
    free(silent.result.body);
}

Test(http, leaves_its_loop_in_order_when_destroyed)
{
    result_t result = {0};
    ask(&result, "/hold?ms=5000");
    await_count("/hold", 1);
    cm_http_destroy(&http);
    for (int i = 0; i < 5; i++)
        turn();
    open_http(4, NULL);
    result = answer_of("/echo");
    cr_expect(eq(int, result.answer.status, CM_OK));
    free(result.body);
}
