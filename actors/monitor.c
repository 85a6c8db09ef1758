#include "actors/monitor.h"
#include "actors/monitor_view.h"
#include "runtime/actor.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "runtime/frame.h"
#include "runtime/log.h"

#include <errno.h>
#include <limits.h>
#include <microhttpd.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 64, HEAD_MAX_BYTES = 16 * 1024, CONNECTION_TIMEOUT_S = 10 };
enum { LISTEN_BACKLOG = 64, REPORTS_AT_ONCE = 10000, LOG_INTERVAL_MS = 10000 };

typedef struct {
    zsock_t *pipe, *reports;
    struct MHD_Daemon *daemon; /* NULL: no HTTP */
    int epoll_fd;
    int port;
    cm_monitor_view_t *view;
    cm_log_limit_t bad_reports;
} monitor_t;

static cm_moment_t moment_now(void)
{
    return (cm_moment_t){cm_clock_epoch_ms(), cm_clock_mono_ms()};
}

/* ---- HTTP ----------------------------------------------------------------------------------- */

static enum MHD_Result reply(struct MHD_Connection *connection, unsigned status, const char *type,
                             const cm_buffer_t *body)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(body->len, body->data, MHD_RESPMEM_MUST_COPY);
    if (!response)
        return MHD_NO;
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
        MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
    enum MHD_Result result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return result;
}

#define TEXT "text/plain; charset=utf-8"

static enum MHD_Result reply_metrics(monitor_t *self, struct MHD_Connection *connection,
                                     cm_buffer_t *body)
{
    const char *accept =
        MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_ACCEPT);
    bool openmetrics = accept && strstr(accept, "application/openmetrics-text");
    cm_monitor_view_metrics(self->view, moment_now(), openmetrics, body);
    return reply(connection, MHD_HTTP_OK,
                 openmetrics ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
                             : "text/plain; version=0.0.4; charset=utf-8",
                 body);
}

static enum MHD_Result route(monitor_t *self, struct MHD_Connection *connection, const char *path)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t body = {0};
    if (strcmp(path, "/livez") == 0 || strcmp(path, "/healthz") == 0) {
        bool live = cm_monitor_view_live(self->view, moment_now(), &body);
        return reply(connection, live ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE, TEXT, &body);
    }
    if (strcmp(path, "/readyz") == 0) {
        bool verbose = MHD_lookup_connection_value_n(connection, MHD_GET_ARGUMENT_KIND, "verbose",
                                                     strlen("verbose"), NULL, NULL) == MHD_YES;
        bool ready = cm_monitor_view_ready(self->view, verbose, &body);
        return reply(connection, ready ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE, TEXT, &body);
    }
    if (strcmp(path, "/metrics") == 0)
        return reply_metrics(self, connection, &body);
    if (strcmp(path, "/ledger") == 0) {
        cm_monitor_view_ledger_json(self->view, &body);
        return reply(connection, MHD_HTTP_OK, "application/json", &body);
    }
    cm_buffer_printf(&body, "there are /livez, /readyz, /metrics and /ledger\n");
    return reply(connection, MHD_HTTP_NOT_FOUND, TEXT, &body);
}

static enum MHD_Result on_request(void *context, struct MHD_Connection *connection,
                                  const char *path, const char *method, const char *version,
                                  const char *upload, size_t *upload_bytes, void **request)
{
    (void)version;
    (void)upload;
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0) {
        CM_CLEANUP(cm_buffer_destroy) cm_buffer_t body = {0};
        cm_buffer_printf(&body, "only GET and HEAD\n");
        return reply(connection, MHD_HTTP_METHOD_NOT_ALLOWED, TEXT, &body);
    }
    bool first_call = !*request; /* another one follows when all of the request is there */
    *request = context;
    if (first_call || *upload_bytes > 0) {
        *upload_bytes = 0;
        return MHD_YES;
    }
    return route(context, connection, path);
}

/* ---- the listening socket ------------------------------------------------------------------- */

static cm_status_t bad_listen(cm_error_t *err, const char *text, const char *why)
{
    return cm_error_set(err, CM_MISCONFIGURED, "listen",
                        "monitor.listen is \"%.80s\": %s; give host:port as in 127.0.0.1:8089 or "
                        "[::1]:8089, port 0 for any free one, or nothing for no HTTP",
                        text, why);
}

/* "host:port" or "[host]:port" into its parts; NULL, or what is wrong. */
static const char *split_listen(const char *text, char host[NI_MAXHOST], const char **ret_port)
{
    const char *colon = strrchr(text, ':');
    if (!colon)
        return "there is no port";
    int64_t port = 0;
    if (!cm_str_to_i64(cm_str(colon + 1), &port) || port < 0 || port > 65535)
        return "the port is no number from 0 to 65535";
    size_t len = (size_t)(colon - text);
    bool brackets = len >= 2 && text[0] == '[' && text[len - 1] == ']';
    if (brackets) {
        text++;
        len -= 2;
    }
    if (!brackets && memchr(text, ':', len))
        return "an IPv6 address needs brackets";
    if (len == 0 || len >= NI_MAXHOST)
        return "there is no host";
    memcpy(host, text, len);
    host[len] = '\0';
    *ret_port = colon + 1;
    return NULL;
}

static cm_status_t bind_address(const char *text, const struct addrinfo *address, int *ret_fd,
                                cm_error_t *err)
{
    int on = 1;
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd == -1)
        return bad_listen(err, text, strerror(errno));
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, address->ai_addr, address->ai_addrlen) == 0 && listen(fd, LISTEN_BACKLOG) == 0) {
        *ret_fd = fd;
        return CM_OK;
    }
    int error = errno;
    close(fd);
    if (error != EADDRINUSE)
        return bad_listen(err, text, strerror(error));
    return cm_error_set(err, CM_UNAVAILABLE, "EADDRINUSE",
                        "monitor.listen is \"%.80s\": another program listens there; stop it, or "
                        "give another port, 0 for any free one",
                        text);
}

static int port_of(int fd)
{
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    char port[NI_MAXSERV] = "0";
    getsockname(fd, (struct sockaddr *)&address, &size);
    getnameinfo((struct sockaddr *)&address, size, NULL, 0, port, sizeof port, NI_NUMERICSERV);
    return atoi(port);
}

static cm_status_t open_http(monitor_t *self, const char *text, cm_error_t *err)
{
    char host[NI_MAXHOST];
    const char *port = NULL, *fault = split_listen(text, host, &port);
    if (fault)
        return bad_listen(err, text, fault);
    const struct addrinfo hints = {.ai_flags = AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
    struct addrinfo *address = NULL;
    int unknown = getaddrinfo(host, port, &hints, &address);
    if (unknown)
        return bad_listen(err, text, gai_strerror(unknown));
    int fd = -1;
    cm_status_t status = bind_address(text, address, &fd, err);
    freeaddrinfo(address);
    if (status != CM_OK)
        return status;
    self->port = port_of(fd);
    self->daemon = MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, on_request, self,
                                    MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT,
                                    (unsigned)CONNECTIONS_MAX, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                                    (size_t)HEAD_MAX_BYTES, MHD_OPTION_CONNECTION_TIMEOUT,
                                    (unsigned)CONNECTION_TIMEOUT_S, MHD_OPTION_END);
    if (!self->daemon)
        return cm_error_set(err, CM_UNAVAILABLE, "http", "cannot start the HTTP server on %.80s",
                            text);
    self->epoll_fd = MHD_get_daemon_info(self->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    return CM_OK;
}

/* ---- the actor ------------------------------------------------------------------------------ */

static cm_status_t open_all(monitor_t *self, const cm_monitor_args_t *args, cm_error_t *err)
{
    self->view = cm_monitor_view_new(args->version, args->expected, args->expected_count,
                                     args->beat_timeout_ms, moment_now());
    self->reports = zsock_new(ZMQ_PULL);
    if (!self->reports)
        return cm_error_set(err, CM_UNAVAILABLE, "socket", "cannot open a socket: %s",
                            zmq_strerror(zmq_errno()));
    if (zsock_bind(self->reports, "%s", args->reports) == -1)
        return cm_error_set(err, CM_UNAVAILABLE, "bind", "cannot bind %s: %s", args->reports,
                            zmq_strerror(zmq_errno()));
    return *args->listen ? open_http(self, args->listen, err) : CM_OK;
}

static void close_all(monitor_t *self)
{
    if (self->daemon)
        MHD_stop_daemon(self->daemon);
    zsock_destroy(&self->reports);
    cm_monitor_view_destroy(&self->view);
}

static void take_report(monitor_t *self, const void *bytes, size_t len)
{
    cm_report_t report;
    cm_error_t err = {0};
    unsigned withheld = 0;
    cm_status_t status = cm_report_decode(bytes, len, &report, &err);
    if (status == CM_OK)
        status = cm_monitor_view_put(self->view, &report, moment_now(), &err);
    if (status != CM_OK && cm_log_allowed(&self->bad_reports, LOG_INTERVAL_MS, &withheld))
        cm_log(CM_LOG_WARN, "monitor", "report is not readable",
               "code=\"%s\" withheld=%u cause=\"%s\"", err.code, withheld, err.message);
}

static void take_reports(monitor_t *self)
{
    zmq_msg_t frame;
    for (int i = 0; i < REPORTS_AT_ONCE && cm_frame_receive(self->reports, &frame, ZMQ_DONTWAIT);
         i++) {
        take_report(self, zmq_msg_data(&frame), zmq_msg_size(&frame));
        zmq_msg_close(&frame);
    }
}

/* False when it is time to stop. */
static bool obey(monitor_t *self)
{
    CM_CLEANUP(zmsg_destroy) zmsg_t *message = zmsg_recv(self->pipe);
    CM_CLEANUP(zstr_free) char *word = message ? zmsg_popstr(message) : NULL;
    if (!message)
        return false; /* the context ended */
    if (word && strcmp(word, "PORT") == 0)
        zstr_sendf(self->pipe, "%d", self->port);
    if (word && strcmp(word, "LEDGER") == 0) {
        CM_CLEANUP(cm_buffer_destroy) cm_buffer_t json = {0};
        take_reports(self);
        cm_monitor_view_ledger_json(self->view, &json);
        zstr_send(self->pipe, cm_buffer_text(&json));
    }
    return !word || strcmp(word, "$TERM") != 0;
}

/* How long libmicrohttpd lets us wait; -1 for ever. */
static long http_timeout_ms(const monitor_t *self)
{
    MHD_UNSIGNED_LONG_LONG timeout_ms = 0;
    if (!self->daemon || MHD_get_timeout(self->daemon, &timeout_ms) != MHD_YES)
        return -1;
    return timeout_ms < INT_MAX ? (long)timeout_ms : INT_MAX;
}

static unsigned connections(const monitor_t *self)
{
    return MHD_get_daemon_info(self->daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS)->num_connections;
}

static void serve_http(monitor_t *self)
{
    /* At its limit libmicrohttpd stops listening, and listens again only in the run after the one
     * that closed a connection; nothing would wake us for that. */
    unsigned before;
    do {
        before = connections(self);
        MHD_run(self->daemon);
    } while (connections(self) < before);
}

static void serve(monitor_t *self)
{
    zmq_pollitem_t items[] = {{zsock_resolve(self->pipe), 0, ZMQ_POLLIN, 0},
                              {zsock_resolve(self->reports), 0, ZMQ_POLLIN, 0},
                              {NULL, self->epoll_fd, ZMQ_POLLIN, 0}};
    bool running = true;
    while (running) {
        if (zmq_poll(items, self->daemon ? 3 : 2, http_timeout_ms(self)) == -1) {
            running = zmq_errno() == EINTR;
            continue;
        }
        take_reports(self); /* before an answer that would call a waiting beat missing */
        if (items[0].revents & ZMQ_POLLIN)
            running = obey(self);
        if (self->daemon)
            serve_http(self);
    }
}

void cm_monitor_actor(zsock_t *pipe, void *args)
{
    monitor_t self = {.pipe = pipe};
    cm_error_t err = {0};
    zsock_signal(pipe, 0);
    if (cm_actor_report(pipe, open_all(&self, args, &err), &err) == CM_OK)
        serve(&self);
    close_all(&self);
}
