/* The HTTP client behind real TLS and HTTP/2, and with its connections renewed. */
#include "tests/integration/http_case.h"

TestSuite(http_tls, .init = begin, .fini = finish, .timeout = 60);

/* ---- renewing -------------------------------------------------------------------------------- */

Test(http_tls, closes_what_is_not_in_use_when_renewed)
{
    result_t result = answer_of("/echo");
    free(result.body);
    await_connections(1);
    cm_http_renew(http);
    await_connections(0);
}

Test(http_tls, closes_the_unused_beside_one_in_use_when_renewed)
{
    result_t results[3] = {0};
    for (int i = 0; i < 2; i++)
        ask(&results[i], "/hold?ms=50");
    ask(&results[2], "/hold?ms=3000");
    await(results, 2);
    await_connections(3);
    cm_http_renew(http);
    await_connections(1);
    await(&results[2], 1);
    cr_expect(eq(int, results[2].answer.status, CM_OK));
    await_connections(0);
    for (int i = 0; i < 3; i++)
        free(results[i].body);
}

Test(http_tls, can_be_renewed_from_done)
{
    result_t results[6] = {0};
    for (size_t i = 0; i < CM_LENGTH(results); i++) {
        results[i].renews = true;
        ask(&results[i], "/hold?ms=20");
    }
    await(results, CM_LENGTH(results));
    for (size_t i = 0; i < CM_LENGTH(results); i++) {
        cr_expect(eq(int, results[i].times, 1));
        cr_expect(eq(int, results[i].answer.status, CM_OK));
        free(results[i].body);
    }
}

/* ---- TLS and HTTP/2 -------------------------------------------------------------------------- */

static void open_tls(int connections, int streams)
{
    cm_test_http_start_tls(&server, streams);
    cm_http_destroy(&http);
    open_http(connections, server.ca_file);
}

/* The log is written when an answer has gone out. */
static size_t connections_of(size_t requests)
{
    size_t logged = 0, connections = 0;
    int64_t deadline = cm_clock_mono_ms() + DEADLINE_MS;
    while (logged < requests && cm_clock_mono_ms() < deadline) {
        connections = cm_test_http_tls_connections(&server, "h2", &logged);
        turn();
    }
    cr_assert(eq(sz, logged, requests));
    return connections;
}

Test(http_tls, puts_many_requests_on_few_connections_with_http2)
{
    enum { COUNT = 100 };
    open_tls(4, 100);
    result_t *results = calloc(COUNT, sizeof *results);
    for (int i = 0; i < COUNT; i++)
        ask_with(&results[i], server.tls_url, "/hold?ms=50", NULL);
    await(results, COUNT);
    for (int i = 0; i < COUNT; i++) {
        cr_expect(eq(int, results[i].answer.status, CM_OK), "%s", results[i].answer.error.message);
        free(results[i].body);
    }
    cr_expect(eq(sz, connections_of(COUNT), 1));
    free(results);
}

Test(http_tls, stays_within_its_connections_when_streams_are_short)
{
    enum { COUNT = 100 };
    open_tls(3, 10);
    size_t most = 0;
    result_t *results = calloc(COUNT, sizeof *results);
    for (int i = 0; i < COUNT; i++)
        ask_with(&results[i], server.tls_url, "/hold?ms=20", NULL);
    while (cm_http_under_way(http)) {
        size_t now = cm_test_http_connections(server.tls_port);
        most = now > most ? now : most;
        turn();
    }
    for (int i = 0; i < COUNT; i++) {
        cr_expect(eq(int, results[i].answer.status, CM_OK), "%s", results[i].answer.error.message);
        free(results[i].body);
    }
    cr_expect(gt(sz, most, 1));
    cr_expect(le(sz, most, 3));
    free(results);
}

Test(http_tls, cuts_one_stream_and_keeps_its_connection)
{
    open_tls(1, 100);
    result_t cut = {0}, other = {0};
    ask_with(&other, server.tls_url, "/hold?ms=600", NULL);
    ask_with(&cut, server.tls_url, "/hold?ms=20000", &(cm_http_request_t){.timeout_ms = 300});
    await(&cut, 1);
    cr_expect(eq(str, cut.answer.error.code, "curl-28"));
    cr_expect(cut.answer.sent);
    await(&other, 1);
    cr_expect(eq(int, other.answer.status, CM_OK));
    free(cut.body);
    free(other.body);
}

Test(http_tls, never_talks_to_a_server_it_cannot_verify)
{
    open_tls(4, 100);
    cm_http_destroy(&http);
    open_http(4, NULL); /* the system's authorities do not know it */
    result_t result = {0};
    ask_with(&result, server.tls_url, "/echo", &(cm_http_request_t){.bearer = "secret-token"});
    await(&result, 1);
    cr_expect(eq(int, result.answer.status, CM_MISCONFIGURED));
    cr_expect(eq(int, result.answer.curl, 60));
    cr_expect(not(result.answer.sent));
    cr_expect(ne(ptr, strstr(result.answer.error.message, "certificate"), NULL), "%s",
              result.answer.error.message);
    cr_expect(eq(int, cm_test_http_count(&server, "/echo"), 0));
    free(result.body);
}

Test(http_tls, never_talks_to_a_server_of_another_name)
{
    open_tls(4, 100);
    char url[64];
    result_t result = {0};
    snprintf(url, sizeof url, "https://127.0.0.1:%d", server.tls_port); /* made for localhost */
    ask_with(&result, url, "/echo", NULL);
    await(&result, 1);
    cr_expect(eq(int, result.answer.status, CM_MISCONFIGURED));
    cr_expect(eq(int, cm_test_http_count(&server, "/echo"), 0));
    free(result.body);
}

Test(http_tls, tells_a_ca_file_it_cannot_read)
{
    open_tls(4, 100);
    cm_http_destroy(&http);
    open_http(4, "/nonexistent.pem");
    result_t result = {0};
    ask_with(&result, server.tls_url, "/echo", NULL);
    await(&result, 1);
    cr_expect(eq(int, result.answer.status, CM_MISCONFIGURED));
    cr_expect(eq(str, result.answer.error.code, "curl-77"));
    free(result.body);
}

Test(http_tls, is_destroyed_with_streams_under_way)
{
    open_tls(2, 100);
    result_t results[20] = {0};
    for (size_t i = 0; i < CM_LENGTH(results); i++)
        ask_with(&results[i], server.tls_url, "/hold?ms=5000", NULL);
    await_count("/hold", 1);
    cm_http_destroy(&http);
    for (size_t i = 0; i < CM_LENGTH(results); i++)
        cr_expect(eq(int, results[i].times, 0));
}
