/* http - requests on curl_multi inside a zloop: nothing blocks, each answer comes as one event.
 *
 * One cm_http_t is one pool of connections in one thread. HTTP/2 by ALPN on TLS (many requests on
 * one connection), HTTP/1.1 on cleartext. Redirects are not followed, certificates always verified,
 * proxies and ~/.netrc ignored. A request whose answers may take long (a waiting pull) and one that
 * must go at once (an acknowledgement) belong into two pools: waiting requests can occupy every
 * stream. Bounds: connections_max, and per request timeout_ms and body_max; how many requests are
 * under way is the caller's to bound. Rule: reliability, section 3.2.
 */
#ifndef CM_RUNTIME_HTTP_H
#define CM_RUNTIME_HTTP_H
#include "runtime/status.h"
#include "runtime/str.h"

#include <czmq.h>

enum { CM_HTTP_RETRY_AFTER_MAX_MS = 600000 };

typedef enum {
    CM_HTTP_GET,
    CM_HTTP_POST,
    CM_HTTP_PUT,
    CM_HTTP_PATCH,
    CM_HTTP_DELETE
} cm_http_method_t;

typedef struct {
    int connections_max;    /* to one host; further requests wait for a free stream */
    int connect_timeout_ms; /* name, TCP and TLS */
    int connection_age_s;   /* an older one is not used again: DNS changes, drains; 0 = 600 */
    const char *ca_file;    /* PEM; NULL = the system's */
} cm_http_options_t;

typedef struct {        /* borrowed for the time of the event */
    cm_status_t status; /* CM_OK for 2xx, else error.status */
    int http;           /* status code; 0 = none came */
    int curl;           /* CURLcode; not 0: the answer is missing or incomplete */
    int retry_after_ms; /* asked for by the server, capped at CM_HTTP_RETRY_AFTER_MAX_MS; -1 = not
                         */
    bool sent;          /* the request may have had its effect */
    cm_str_t body;      /* of any status code; empty when there is none; decompressed */
    int receiving_ms;   /* from the first byte of the answer to its last */
    cm_error_t error;   /* class by cm_http_classify(); code "http-503" or "curl-28" */
} cm_http_answer_t;

typedef void(cm_http_done_fn)(void *ctx, const cm_http_answer_t *answer);
/* A piece of a body, borrowed for the call, which must not call this client. False cuts the answer:
 * CM_PERMANENT, code "answer-refused". */
typedef bool(cm_http_piece_fn)(void *ctx, cm_str_t piece);

typedef struct { /* all borrowed until cm_http_send() returns, ctx until done */
    cm_http_method_t method;
    const char *url;    /* http:// or https:// */
    const char *bearer; /* access token; NULL = no Authorization; never logged, wiped after use */
    const char *content_type;   /* of body; NULL = application/json */
    const char *const *headers; /* more, "Name: value" */
    size_t header_count;
    cm_str_t body;   /* copied; absent = none */
    bool secret;     /* both bodies carry credentials: wiped after use */
    int timeout_ms;  /* of the whole exchange, from when it was asked for */
    size_t body_max; /* bytes of answer; more is CM_PERMANENT, code "answer-too-large" */
    /* NULL = the body is kept for done. Else that of a 2xx is handed on as it comes, and done gets
     * none; bodies of other answers are kept. timeout_ms then counts anew from each piece. Nothing
     * is read while the loop does not run: that is how a slow reader slows the server. */
    cm_http_piece_fn *on_piece;
    cm_http_done_fn *done;
    void *ctx; /* of done and on_piece */
} cm_http_request_t;

typedef struct cm_http cm_http_t;
typedef struct cm_http_call cm_http_call_t;

/* Attach a pool to loop. Options are copied, their text borrowed for life. Aborts when libcurl
 * cannot start. */
cm_http_t *cm_http_new(zloop_t *loop, const cm_http_options_t *options);
/* Cuts what is under way; its done is not called. Not from inside done, nor from a timer of a loop
 * that runs on: a zloop may still serve what was ready before the timer. */
void cm_http_destroy(cm_http_t **self_p);

/* Start a request; done is called exactly once, from the loop, never from inside this call. The
 * call is valid until done returns. */
cm_http_call_t *cm_http_send(cm_http_t *self, const cm_http_request_t *request);
/* Cut a call; its done is not called. */
void cm_http_cancel(cm_http_t *self, cm_http_call_t *call);
size_t cm_http_under_way(const cm_http_t *self);
/* Close the connections not in use and let no later request join those in use: after a time-out
 * the connection is suspect, not only the request. */
void cm_http_renew(cm_http_t *self);

/* Class of an answer without its body, reliability section 3.2: CM_OK for 2xx; CM_UNAVAILABLE for
 * 408 425 429, 5xx and the link errors of libcurl, also when the answer was cut behind its status;
 * CM_MISCONFIGURED for 401 403 404, 3xx, TLS errors and an address that is none; CM_PERMANENT for
 * 400 413 414 415 422, other 4xx and a 2xx with a body over its cap. Fills err (code "http-N" or
 * "curl-N"). */
cm_status_t cm_http_classify(int http, int curl, cm_error_t *err);
/* Retry-After as seconds or as an HTTP date (relative to now_ms epoch), in milliseconds, capped;
 * -1 when it is neither. */
int cm_http_retry_after_ms(cm_str_t value, int64_t now_ms);
#endif
