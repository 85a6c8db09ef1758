/* http_private - what the two sources of the HTTP client share: http.c moves requests through
 * libcurl, http_call.c says them to it. */
#ifndef CM_RUNTIME_HTTP_PRIVATE_H
#define CM_RUNTIME_HTTP_PRIVATE_H
#include "runtime/buffer.h"
#include "runtime/http.h"

#include <curl/curl.h>
#include <stdlib.h>

enum { CM_HTTP_SPARE_BODIES_MAX = 8 };

typedef struct { /* a socket libcurl has open */
    int fd;
    bool watched; /* else its connection is not in use */
} cm_http_link_t;

/* One multi handle with its connections. The first of the list takes new calls, the others were
 * renewed away and go with their last call. */
typedef struct cm_http_pool cm_http_pool_t;
struct cm_http_pool {
    cm_http_t *http;
    cm_http_pool_t *next;
    CURLM *multi;
    uint32_t serial;
    int64_t due_us; /* when libcurl wants to be called; 0 = not */
    size_t calls;
    cm_http_link_t *links;
    size_t link_count, link_cap;
};

struct cm_http_call {
    cm_http_call_t *previous, *next; /* of those under way; of the idle, next alone */
    cm_http_pool_t *pool;            /* NULL = not under way */
    CURL *easy;
    cm_http_done_fn *done;
    cm_http_piece_fn *on_piece;
    void *ctx;
    int timeout_ms;
    int64_t deadline_us;
    size_t body_max, handed_on; /* bytes of pieces so far */
    bool over, refused, secret;
    cm_buffer_t request, body; /* body has memory only once bytes came: many calls wait long */
    cm_buffer_t head;          /* the text of lines, among it the token */
    struct curl_slist *lines;
    size_t line_count, line_cap;
    char host[128];
    char why[CURL_ERROR_SIZE];
};

/* libcurl's sockets and the timer are in one epoll set, and that alone is in the loop: a zloop
 * builds its poll set anew, and leaves what else is ready for the next turn, each time an interest
 * changes. */
struct cm_http {
    zloop_t *loop;
    cm_http_options_t options;
    int epoll_fd, timer_fd;
    int64_t armed_us;    /* what timer_fd is set to; 0 = not */
    int64_t deadline_us; /* no call expires before; 0 = none under way */
    uint32_t last_serial;
    bool busy; /* inside on_ready */
    cm_http_pool_t *pools;
    cm_http_call_t *under_way;
    size_t under_way_count;
    cm_http_call_t *idle;
    size_t idle_count;
    cm_buffer_t spare[CM_HTTP_SPARE_BODIES_MAX];
    size_t spare_count;
};

/* libcurl's setopt fails for want of memory or of the option. */
#define CM_HTTP_SET(call, option, value)                                                           \
    do {                                                                                           \
        if (curl_easy_setopt((call)->easy, option, value) != CURLE_OK)                             \
            abort();                                                                               \
    } while (0)

static inline void *cm_http_must(void *memory)
{
    if (!memory)
        abort();
    return memory;
}

cm_http_call_t *cm_http_call_new(const cm_http_options_t *options);
void cm_http_call_free(cm_http_call_t *call);
/* Fill call, new or used before, with all that request asks for. */
void cm_http_call_prepare(cm_http_call_t *call, const cm_http_request_t *request);
/* Forget it again: what is secret is wiped, large memory is given back. */
void cm_http_call_clear(cm_http_call_t *call);
#endif
