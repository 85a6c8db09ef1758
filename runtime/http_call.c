#include "runtime/clock.h"
#include "runtime/http_private.h"

#include <assert.h>
#include <openssl/crypto.h>
#include <string.h>

enum {
    REQUEST_KEEPS_BYTES = 64 << 10,
    KEEPALIVE_IDLE_S = 30,
    KEEPALIVE_EVERY_S = 10,
};

/* ---- the answer's body ----------------------------------------------------------------------- */

/* A body over its cap is cut there; what came of a refusal is still worth reading. */
static size_t on_kept(cm_http_call_t *call, const char *data, size_t len)
{
    size_t room = call->body_max - call->body.len;
    cm_http_t *self = call->pool->http;
    if (!call->body.data && self->spare_count && !call->secret)
        call->body = self->spare[--self->spare_count];
    if (!call->body.data && call->secret)
        cm_buffer_reserve(&call->body, call->body_max); /* growing would leave copies behind */
    cm_buffer_append(&call->body, data, len < room ? len : room);
    call->over = len > room;
    return call->over ? 0 : len;
}

static size_t on_handed_on(cm_http_call_t *call, const char *data, size_t len)
{
    call->over = len > call->body_max - call->handed_on;
    if (call->over)
        return 0;
    call->handed_on += len;
    call->deadline_us = cm_clock_mono_us() + (int64_t)call->timeout_ms * 1000;
    call->refused = !call->on_piece(call->ctx, (cm_str_t){data, len});
    return call->refused ? 0 : len;
}

static size_t on_body(char *data, size_t size, size_t count, void *arg)
{
    cm_http_call_t *call = arg;
    long http = 0;
    if (call->on_piece)
        curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &http);
    bool hands_on = http >= 200 && http < 300;
    return hands_on ? on_handed_on(call, data, size * count) : on_kept(call, data, size * count);
}

/* ---- a call ---------------------------------------------------------------------------------- */

cm_http_call_t *cm_http_call_new(const cm_http_options_t *options)
{
    cm_http_call_t *call = cm_http_must(calloc(1, sizeof *call));
    call->easy = cm_http_must(curl_easy_init());
    CM_HTTP_SET(call, CURLOPT_PRIVATE, call);
    CM_HTTP_SET(call, CURLOPT_ERRORBUFFER, call->why);
    CM_HTTP_SET(call, CURLOPT_WRITEFUNCTION, on_body);
    CM_HTTP_SET(call, CURLOPT_WRITEDATA, call);
    CM_HTTP_SET(call, CURLOPT_NOSIGNAL, 1L);
    CM_HTTP_SET(call, CURLOPT_QUICK_EXIT,
                1L); /* or cutting a call waits for its name to be resolved */
    CM_HTTP_SET(call, CURLOPT_PROTOCOLS_STR, "http,https");
    CM_HTTP_SET(call, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
    CM_HTTP_SET(call, CURLOPT_FOLLOWLOCATION, 0L);
    CM_HTTP_SET(call, CURLOPT_PROXY, "");
    CM_HTTP_SET(call, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    CM_HTTP_SET(call, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
    CM_HTTP_SET(call, CURLOPT_ACCEPT_ENCODING, "");
    CM_HTTP_SET(call, CURLOPT_USERAGENT, "client-manager/" CM_VERSION);
    CM_HTTP_SET(call, CURLOPT_CONNECTTIMEOUT_MS, (long)options->connect_timeout_ms);
    CM_HTTP_SET(call, CURLOPT_MAXLIFETIME_CONN, (long)options->connection_age_s);
    CM_HTTP_SET(call, CURLOPT_TCP_KEEPALIVE, 1L);
    CM_HTTP_SET(call, CURLOPT_TCP_KEEPIDLE, (long)KEEPALIVE_IDLE_S);
    CM_HTTP_SET(call, CURLOPT_TCP_KEEPINTVL, (long)KEEPALIVE_EVERY_S);
    CM_HTTP_SET(call, CURLOPT_SSL_VERIFYPEER, 1L);
    CM_HTTP_SET(call, CURLOPT_SSL_VERIFYHOST, 2L);
    CM_HTTP_SET(call, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (options->ca_file) {
        CM_HTTP_SET(call, CURLOPT_CAINFO, options->ca_file);
        CM_HTTP_SET(call, CURLOPT_CAPATH, NULL); /* or the system's are trusted as well */
    }
    return call;
}

void cm_http_call_free(cm_http_call_t *call)
{
    curl_easy_cleanup(call->easy);
    cm_buffer_destroy(&call->request);
    cm_buffer_destroy(&call->body);
    cm_buffer_destroy(&call->head);
    free(call->lines);
    free(call);
}

/* ---- what it asks for ------------------------------------------------------------------------ */

static void add_line(cm_http_call_t *call, const char *name, const char *value)
{
    assert(!strpbrk(value, "\r\n"));
    struct curl_slist *line = &call->lines[call->line_count++];
    *line = (struct curl_slist){.data = call->head.data + call->head.len};
    if (call->line_count > 1)
        line[-1].next = line;
    cm_buffer_append(&call->head, name, strlen(name));
    cm_buffer_append(&call->head, value, strlen(value) + 1);
}

/* The list of header lines in memory of our own, which libcurl reads and we can wipe. */
static void set_lines(cm_http_call_t *call, const cm_http_request_t *request, bool has_body)
{
    const char *type = request->content_type ? request->content_type : "application/json";
    size_t bytes = 64 + strlen(type) + (request->bearer ? strlen(request->bearer) : 0);
    for (size_t i = 0; i < request->header_count; i++)
        bytes += strlen(request->headers[i]) + 1;
    cm_buffer_reserve(&call->head, bytes); /* no pointer into it may move */
    if (call->line_cap < request->header_count + 3) {
        call->line_cap = request->header_count + 3;
        call->lines = cm_http_must(realloc(call->lines, call->line_cap * sizeof *call->lines));
    }
    call->line_count = 0;
    if (request->bearer)
        add_line(call, "Authorization: Bearer ", request->bearer);
    if (has_body) {
        add_line(call, "Content-Type: ", type);
        add_line(call, "Expect:", ""); /* no second of waiting for a 100 before a large body */
    }
    for (size_t i = 0; i < request->header_count; i++)
        add_line(call, "", request->headers[i]);
    CM_HTTP_SET(call, CURLOPT_HTTPHEADER, call->line_count ? call->lines : NULL);
}

static void set_method(cm_http_call_t *call, const cm_http_request_t *request, bool has_body)
{
    static const char *const words[] = {"GET", "POST", "PUT", "PATCH", "DELETE"};
    if (has_body) {
        cm_buffer_append(&call->request, request->body.ptr, request->body.len);
        CM_HTTP_SET(call, CURLOPT_POST, 1L);
        CM_HTTP_SET(call, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body.len);
        CM_HTTP_SET(call, CURLOPT_POSTFIELDS, call->request.data ? call->request.data : "");
    } else {
        CM_HTTP_SET(call, CURLOPT_HTTPGET, 1L);
    }
    CM_HTTP_SET(call, CURLOPT_CUSTOMREQUEST, words[request->method]);
}

/* For messages: host and port, not the rest of the address. */
static void note_host(cm_http_call_t *call, const char *url)
{
    const char *host = strstr(url, "://");
    host = host ? host + 3 : url;
    snprintf(call->host, sizeof call->host, "%.*s", (int)strcspn(host, "/?#"), host);
}

void cm_http_call_prepare(cm_http_call_t *call, const cm_http_request_t *request)
{
    assert(request->timeout_ms > 0 && request->done);
    bool has_body =
        request->body.ptr || (request->method != CM_HTTP_GET && request->method != CM_HTTP_DELETE);
    call->done = request->done;
    call->on_piece = request->on_piece;
    call->ctx = request->ctx;
    call->timeout_ms = request->timeout_ms;
    call->body_max = request->body_max;
    call->secret = request->secret;
    call->handed_on = 0;
    call->over = call->refused = false;
    call->why[0] = '\0';
    note_host(call, request->url);
    set_lines(call, request, has_body);
    set_method(call, request, has_body);
    CM_HTTP_SET(call, CURLOPT_URL, request->url);
    /* Tried on cleartext it made requests wait for each other. */
    CM_HTTP_SET(call, CURLOPT_PIPEWAIT, strncmp(request->url, "https:", 6) == 0 ? 1L : 0L);
}

static void wipe(cm_buffer_t *buffer)
{
    if (buffer->data)
        OPENSSL_cleanse(buffer->data, buffer->len);
    cm_buffer_clear(buffer);
}

void cm_http_call_clear(cm_http_call_t *call)
{
    wipe(&call->head);
    if (call->secret) {
        wipe(&call->request);
        wipe(&call->body);
    }
    cm_buffer_clear(&call->request);
    cm_buffer_clear(&call->body);
    if (call->request.cap > REQUEST_KEEPS_BYTES)
        cm_buffer_destroy(&call->request);
}
