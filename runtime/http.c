#include "runtime/http.h"

#include "runtime/clock.h"
#include "runtime/http_private.h"

#include <assert.h>
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum {
    IDLE_CALLS_MAX = 64,
    SPARE_BODY_BYTES = 4 << 20,
    EVENTS_A_TURN = 64,
    CONNECTION_AGE_S = 600,
    TIMER_SERIAL = 0, /* in an event's tag; pools count from 1 */
};

/* ---- the timer ------------------------------------------------------------------------------- */

/* An earlier setting is left alone: it fires in vain once, which is cheaper than to move it. */
static void arm(cm_http_t *self)
{
    int64_t at = self->deadline_us;
    for (const cm_http_pool_t *pool = self->pools; pool; pool = pool->next)
        if (pool->due_us && (!at || pool->due_us < at))
            at = pool->due_us;
    if (!at || (self->armed_us && self->armed_us <= at))
        return;
    self->armed_us = at;
    struct itimerspec when = {.it_value = {at / 1000000, at % 1000000 * 1000}};
    if (timerfd_settime(self->timer_fd, TFD_TIMER_ABSTIME, &when, NULL) == -1)
        abort();
}

static int on_timer_wanted(CURLM *multi, long timeout_ms, void *arg)
{
    (void)multi;
    cm_http_pool_t *pool = arg;
    pool->due_us = timeout_ms < 0 ? 0 : cm_clock_mono_us() + timeout_ms * 1000;
    arm(pool->http);
    return 0;
}

/* ---- sockets --------------------------------------------------------------------------------- */

static cm_http_link_t *find_link(cm_http_pool_t *pool, int fd)
{
    for (size_t i = 0; i < pool->link_count; i++)
        if (pool->links[i].fd == fd)
            return &pool->links[i];
    return NULL;
}

static curl_socket_t on_open(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
    (void)purpose;
    cm_http_pool_t *pool = arg;
    int fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
    if (fd == -1)
        return CURL_SOCKET_BAD;
    if (pool->link_count == pool->link_cap) {
        pool->link_cap = pool->link_cap ? pool->link_cap * 2 : 8;
        pool->links = cm_http_must(realloc(pool->links, pool->link_cap * sizeof *pool->links));
    }
    pool->links[pool->link_count++] = (cm_http_link_t){.fd = fd};
    return fd;
}

static int on_close(void *arg, curl_socket_t fd)
{
    cm_http_pool_t *pool = arg;
    cm_http_link_t *link = find_link(pool, fd);
    if (link)
        *link = pool->links[--pool->link_count];
    return close(fd);
}

/* known: set with curl_multi_assign() while the socket is in the epoll set. */
static int on_interest(CURL *easy, curl_socket_t fd, int what, void *arg, void *known)
{
    (void)easy;
    cm_http_pool_t *pool = arg;
    cm_http_link_t *link = find_link(pool, fd); /* libcurl's own pipes are not among them */
    if (link)
        link->watched = what != CURL_POLL_REMOVE;
    if (what == CURL_POLL_REMOVE) {
        epoll_ctl(pool->http->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
        return 0;
    }
    struct epoll_event event = {.data.u64 = (uint64_t)pool->serial << 32 | (uint32_t)fd};
    event.events |= what & CURL_POLL_IN ? EPOLLIN : 0;
    event.events |= what & CURL_POLL_OUT ? EPOLLOUT : 0;
    int rc = epoll_ctl(pool->http->epoll_fd, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event);
    if (rc == -1 && errno == ENOENT) /* closed and opened again unsaid: the kernel forgot the old */
        rc = epoll_ctl(pool->http->epoll_fd, EPOLL_CTL_ADD, fd, &event);
    if (rc == -1)
        abort();
    curl_multi_assign(pool->multi, fd, pool);
    return 0;
}

/* ---- pools ----------------------------------------------------------------------------------- */

static void push_pool(cm_http_t *self)
{
    cm_http_pool_t *pool = cm_http_must(calloc(1, sizeof *pool));
    *pool = (cm_http_pool_t){.http = self,
                             .next = self->pools,
                             .multi = cm_http_must(curl_multi_init()),
                             .serial = ++self->last_serial};
    self->pools = pool;
    long connections = self->options.connections_max;
    curl_multi_setopt(pool->multi, CURLMOPT_SOCKETFUNCTION, on_interest);
    curl_multi_setopt(pool->multi, CURLMOPT_SOCKETDATA, pool);
    curl_multi_setopt(pool->multi, CURLMOPT_TIMERFUNCTION, on_timer_wanted);
    curl_multi_setopt(pool->multi, CURLMOPT_TIMERDATA, pool);
    curl_multi_setopt(pool->multi, CURLMOPT_PIPELINING, CURLPIPE_MULTIPLEX);
    curl_multi_setopt(pool->multi, CURLMOPT_MAX_HOST_CONNECTIONS, connections);
    /* Kept unused, of all hosts; by default a multiple of the requests that happen to be under way.
     */
    curl_multi_setopt(pool->multi, CURLMOPT_MAXCONNECTS, connections * 4);
}

static void free_pool(cm_http_pool_t *pool)
{
    curl_multi_cleanup(pool->multi);
    free(pool->links);
    free(pool);
}

static void sweep(cm_http_t *self)
{
    for (cm_http_pool_t **at = &self->pools->next; *at;) {
        cm_http_pool_t *pool = *at;
        if (pool->calls) {
            at = &pool->next;
            continue;
        }
        *at = pool->next;
        free_pool(pool);
    }
}

void cm_http_renew(cm_http_t *self)
{
    cm_http_pool_t *old = self->pools;
    push_pool(self);
    for (size_t i = 0; i < old->link_count; i++)
        if (!old->links[i].watched) /* libcurl closes no single connection when asked */
            shutdown(old->links[i].fd, SHUT_RDWR);
    if (!self->busy)
        sweep(self);
}

/* ---- calls ----------------------------------------------------------------------------------- */

static void enqueue(cm_http_t *self, cm_http_call_t *call)
{
    call->previous = NULL;
    call->next = self->under_way;
    if (call->next)
        call->next->previous = call;
    self->under_way = call;
    self->under_way_count++;
    call->deadline_us = cm_clock_mono_us() + (int64_t)call->timeout_ms * 1000;
    if (!self->deadline_us || call->deadline_us < self->deadline_us)
        self->deadline_us = call->deadline_us;
    call->pool = self->pools;
    call->pool->calls++;
    CM_HTTP_SET(call, CURLOPT_OPENSOCKETDATA, call->pool);
    CM_HTTP_SET(call, CURLOPT_CLOSESOCKETDATA, call->pool);
    if (curl_multi_add_handle(call->pool->multi, call->easy) != CURLM_OK)
        abort();
    arm(self);
}

cm_http_call_t *cm_http_send(cm_http_t *self, const cm_http_request_t *request)
{
    cm_http_call_t *call = self->idle;
    if (call) {
        self->idle = call->next;
        self->idle_count--;
    } else {
        call = cm_http_call_new(&self->options);
        CM_HTTP_SET(call, CURLOPT_OPENSOCKETFUNCTION, on_open);
        CM_HTTP_SET(call, CURLOPT_CLOSESOCKETFUNCTION, on_close);
    }
    cm_http_call_prepare(call, request);
    enqueue(self, call);
    return call;
}

/* Out of libcurl's and of our hands, but its buffers stand. */
static void dequeue(cm_http_t *self, cm_http_call_t *call)
{
    curl_multi_remove_handle(call->pool->multi, call->easy);
    call->pool->calls--;
    call->pool = NULL;
    if (call->next)
        call->next->previous = call->previous;
    if (call->previous)
        call->previous->next = call->next;
    else
        self->under_way = call->next;
    self->under_way_count--;
}

static void recycle(cm_http_t *self, cm_http_call_t *call)
{
    cm_http_call_clear(call);
    if (call->body.data && self->spare_count < CM_HTTP_SPARE_BODIES_MAX &&
        call->body.cap <= SPARE_BODY_BYTES) {
        self->spare[self->spare_count++] = call->body;
        call->body = (cm_buffer_t){0};
    }
    cm_buffer_destroy(&call->body);
    if (self->idle_count == IDLE_CALLS_MAX) {
        cm_http_call_free(call);
        return;
    }
    call->next = self->idle;
    self->idle = call;
    self->idle_count++;
}

void cm_http_cancel(cm_http_t *self, cm_http_call_t *call)
{
    if (!call->pool) /* from inside its own done */
        return;
    dequeue(self, call);
    recycle(self, call);
    if (!self->busy)
        sweep(self);
}

size_t cm_http_under_way(const cm_http_t *self)
{
    return self->under_way_count;
}

/* ---- answers --------------------------------------------------------------------------------- */

static void explain(const cm_http_call_t *call, cm_http_answer_t *answer)
{
    cm_error_t *err = &answer->error;
    answer->status = cm_http_classify(answer->http, answer->curl, err);
    if (answer->status == CM_OK)
        return;
    if (call->over && answer->status == CM_PERMANENT && answer->curl)
        cm_error_set(err, err->status, "answer-too-large", "the answer has more than %zu bytes",
                     call->body_max);
    else if (call->refused)
        cm_error_set(err, err->status, "answer-refused", "the answer was refused by its reader");
    else if (answer->curl == CURLE_OPERATION_TIMEDOUT && !call->why[0])
        cm_error_set(err, err->status, err->code, "%s within %d ms",
                     answer->sent ? "no answer" : "not sent", call->timeout_ms);
    else if (answer->curl && call->why[0] && !call->over)
        cm_error_set(err, err->status, err->code, "%s", call->why);
    cm_error_prefix(err, "%s", call->host);
}

static void finish(cm_http_t *self, cm_http_call_t *call, CURLcode code)
{
    cm_http_answer_t answer = {.curl = (int)code, .retry_after_ms = -1};
    long http = 0, request_bytes = 0;
    curl_off_t total_us = 0, first_us = 0;
    struct curl_header *header;
    curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &http);
    curl_easy_getinfo(call->easy, CURLINFO_REQUEST_SIZE, &request_bytes);
    curl_easy_getinfo(call->easy, CURLINFO_TOTAL_TIME_T, &total_us);
    curl_easy_getinfo(call->easy, CURLINFO_STARTTRANSFER_TIME_T, &first_us);
    answer.receiving_ms = http > 0 ? (int)((total_us - first_us) / 1000) : 0;
    answer.sent = request_bytes > 0 || http > 0;
    answer.http = http < 200 ? 0 : (int)http; /* a 1xx announces an answer that did not come */
    if (answer.http >= 300 &&
        curl_easy_header(call->easy, "Retry-After", 0, CURLH_HEADER, -1, &header) == CURLHE_OK)
        answer.retry_after_ms = cm_http_retry_after_ms(cm_str(header->value), cm_clock_epoch_ms());
    explain(call, &answer);
    dequeue(self, call);
    answer.body = (cm_str_t){call->body.data ? call->body.data : "", call->body.len};
    call->done(call->ctx, &answer);
    recycle(self, call);
}

/* done may send, cancel and renew; so nothing is remembered over it but the pool, which is freed
 * in sweep() alone. */
static void deliver(cm_http_t *self)
{
    for (cm_http_pool_t *pool = self->pools; pool; pool = pool->next) {
        int left;
        for (CURLMsg *m; (m = curl_multi_info_read(pool->multi, &left));) {
            CURLcode code = m->data.result; /* m is gone with its handle */
            cm_http_call_t *call = NULL;
            curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&call);
            finish(self, call, code);
        }
    }
}

static cm_http_call_t *find_expired(const cm_http_t *self, int64_t now)
{
    for (cm_http_call_t *call = self->under_way; call; call = call->next)
        if (call->deadline_us <= now)
            return call;
    return NULL;
}

/* libcurl's own time-out does not hold for a request that waits for a connection. */
static void expire(cm_http_t *self)
{
    int64_t now = cm_clock_mono_us();
    if (!self->deadline_us || now < self->deadline_us)
        return;
    for (cm_http_call_t *call; (call = find_expired(self, now));)
        finish(self, call, CURLE_OPERATION_TIMEDOUT);
    self->deadline_us = 0;
    for (const cm_http_call_t *call = self->under_way; call; call = call->next)
        if (!self->deadline_us || call->deadline_us < self->deadline_us)
            self->deadline_us = call->deadline_us;
}

/* ---- the loop -------------------------------------------------------------------------------- */

static void serve_socket(cm_http_t *self, const struct epoll_event *event)
{
    int running, mask = 0;
    mask |= event->events & (EPOLLIN | EPOLLHUP) ? CURL_CSELECT_IN : 0;
    mask |= event->events & EPOLLOUT ? CURL_CSELECT_OUT : 0;
    mask |= event->events & EPOLLERR ? CURL_CSELECT_ERR : 0;
    for (cm_http_pool_t *pool = self->pools; pool; pool = pool->next)
        if (pool->serial == event->data.u64 >> 32)
            curl_multi_socket_action(pool->multi, (int)(uint32_t)event->data.u64, mask, &running);
}

static void serve_timer(cm_http_t *self)
{
    uint64_t fired;
    if (read(self->timer_fd, &fired, sizeof fired) == sizeof fired)
        self->armed_us = 0;
}

static int on_ready(zloop_t *loop, zmq_pollitem_t *item, void *arg)
{
    (void)loop, (void)item;
    cm_http_t *self = arg;
    struct epoll_event events[EVENTS_A_TURN];
    int running, count = epoll_wait(self->epoll_fd, events, EVENTS_A_TURN, 0);
    self->busy = true;
    for (int i = 0; i < count; i++) {
        if (events[i].data.u64 >> 32 == TIMER_SERIAL)
            serve_timer(self);
        else
            serve_socket(self, &events[i]);
    }
    int64_t now = cm_clock_mono_us();
    for (cm_http_pool_t *pool = self->pools; pool; pool = pool->next) {
        if (pool->due_us && pool->due_us <= now) {
            pool->due_us = 0;
            curl_multi_socket_action(pool->multi, CURL_SOCKET_TIMEOUT, 0, &running);
        }
    }
    deliver(self);
    expire(self);
    sweep(self);
    self->busy = false;
    arm(self);
    return 0;
}

/* ---- life ------------------------------------------------------------------------------------ */

cm_http_t *cm_http_new(zloop_t *loop, const cm_http_options_t *options)
{
    assert(options->connections_max > 0 && options->connect_timeout_ms > 0);
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        abort();
    cm_http_t *self = cm_http_must(calloc(1, sizeof *self));
    self->loop = loop;
    self->options = *options;
    if (self->options.connection_age_s == 0)
        self->options.connection_age_s = CONNECTION_AGE_S;
    self->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    self->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uint64_t)TIMER_SERIAL << 32};
    if (epoll_ctl(self->epoll_fd, EPOLL_CTL_ADD, self->timer_fd, &event) == -1)
        abort();
    push_pool(self);
    zmq_pollitem_t item = {.fd = self->epoll_fd, .events = ZMQ_POLLIN};
    if (zloop_poller(loop, &item, on_ready, self) == -1)
        abort();
    zloop_poller_set_tolerant(loop, &item);
    return self;
}

void cm_http_destroy(cm_http_t **self_p)
{
    cm_http_t *self = *self_p;
    if (!self)
        return;
    assert(!self->busy);
    zloop_poller_end(self->loop, &(zmq_pollitem_t){.fd = self->epoll_fd});
    while (self->under_way)
        cm_http_cancel(self, self->under_way);
    for (cm_http_pool_t *next, *pool = self->pools; pool; pool = next) {
        next = pool->next;
        free_pool(pool);
    }
    for (cm_http_call_t *next, *call = self->idle; call; call = next) {
        next = call->next;
        cm_http_call_free(call);
    }
    while (self->spare_count)
        cm_buffer_destroy(&self->spare[--self->spare_count]);
    close(self->timer_fd);
    close(self->epoll_fd);
    free(self);
    *self_p = NULL;
    curl_global_cleanup();
}
