#include "actors/monitor.h"
#include "proto/report.h"
#include "runtime/actor.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "runtime/frame.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>
#include <sys/socket.h>

enum { TEXT_MAX = 64 * 1024, WAIT_MS = 10000 };

static const char *const expected[] = {"gateway"};
static cm_monitor_args_t args = {.reports = "inproc://test/reports",
                                 .listen = "127.0.0.1:0",
                                 .version = "1.2.3",
                                 .expected = expected,
                                 .expected_count = 1,
                                 .beat_timeout_ms = 60000};

typedef struct {
    zactor_t *actor;
    zsock_t *reports;
    int port;
    char text[TEXT_MAX]; /* of the last answer */
} rig_t;

static void rig_open(rig_t *self)
{
    cm_error_t err = {0};
    cm_status_t status = cm_actor_start(&self->actor, cm_monitor_actor, &args, WAIT_MS, &err);
    cr_assert(eq(int, status, CM_OK), "%s", err.message);
    self->reports = zsock_new_push(">inproc://test/reports");
    zstr_send(self->actor, "PORT");
    char *port = zstr_recv(self->actor);
    self->port = atoi(port);
    zstr_free(&port);
}

static void rig_close(rig_t *self)
{
    zsock_destroy(&self->reports);
    cr_expect(cm_actor_stop(&self->actor, WAIT_MS));
}

static void rig_state(rig_t *self, cm_actor_state_t state)
{
    cm_report_t report = {.kind = CM_REPORT_STATE,
                          .source = CM_STR("gateway"),
                          .state = state,
                          .text = CM_STR("because")};
    cm_buffer_t frame = {0};
    cm_report_encode(&report, &frame);
    cr_assert(cm_frame_send(self->reports, &frame, 0));
}

static int dial(const rig_t *self)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)self->port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct timeval limit = {WAIT_MS / 1000, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    cr_assert(eq(int, connect(fd, (struct sockaddr *)&address, sizeof address), 0));
    return fd;
}

/* Read until the peer closes; the status code. */
static int hear(rig_t *self, int fd)
{
    size_t used = 0;
    ssize_t count;
    while (used < TEXT_MAX - 1 && (count = recv(fd, self->text + used, TEXT_MAX - 1 - used, 0)) > 0)
        used += (size_t)count;
    self->text[used] = '\0';
    close(fd);
    return used > 12 ? atoi(self->text + 9) : 0;
}

static int ask(rig_t *self, const char *method, const char *path, const char *headers)
{
    char request[512];
    snprintf(request, sizeof request, "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s\r\n",
             method, path, headers);
    int fd = dial(self);
    cr_assert(gt(long, send(fd, request, strlen(request), MSG_NOSIGNAL), 0));
    return hear(self, fd);
}

static int get(rig_t *self, const char *path)
{
    return ask(self, "GET", path, "");
}

static bool has(const rig_t *self, const char *piece)
{
    return strstr(self->text, piece) != NULL;
}

static char *body(rig_t *self)
{
    char *end = strstr(self->text, "\r\n\r\n");
    return end ? end + 4 : self->text;
}

/* ---- routes --------------------------------------------------------------------------------- */

Test(monitor, livez_and_its_alias_say_ok, .timeout = 30)
{
    rig_t rig;
    rig_open(&rig);
    cr_expect(eq(int, get(&rig, "/livez"), 200));
    cr_expect(eq(str, body(&rig), "ok\n"));
    cr_expect(eq(int, get(&rig, "/healthz"), 200));
    cr_expect(eq(str, body(&rig), "ok\n"));
    rig_close(&rig);
}

Test(monitor, livez_names_an_actor_that_does_not_beat, .timeout = 30)
{
    rig_t rig;
    args.beat_timeout_ms = 1;
    rig_open(&rig);
    while (get(&rig, "/livez") == 200)
        ;
    cr_expect(has(&rig, "HTTP/1.1 503 "));
    cr_expect(has(&rig, "gateway is silent for "));
    rig_close(&rig);
}

Test(monitor, readyz_follows_the_states_reported, .timeout = 30)
{
    rig_t rig;
    rig_open(&rig);
    cr_expect(eq(int, get(&rig, "/readyz"), 503));
    rig_state(&rig, CM_ACTOR_RUNNING);
    while (get(&rig, "/readyz") != 200)
        ;
    cr_expect(eq(str, body(&rig), "ready\n"));
    rig_state(&rig, CM_ACTOR_PAUSED);
    while (get(&rig, "/readyz") != 503)
        ;
    cr_expect(eq(str, body(&rig), "gateway is paused\n"));
    rig_close(&rig);
}

Test(monitor, readyz_verbose_lists_the_actors, .timeout = 30)
{
    rig_t rig;
    rig_open(&rig);
    rig_state(&rig, CM_ACTOR_PAUSED);
    while (get(&rig, "/readyz?verbose") && !has(&rig, "paused"))
        ;
    cr_expect(has(&rig, "HTTP/1.1 503 "));
    cr_expect(has(&rig, "[-] gateway paused since 20"));
    cr_expect(has(&rig, "Z, last error: because\nnot ready\n"));
    rig_close(&rig);
}

Test(monitor, metrics_are_prometheus_text_by_default, .timeout = 30)
{
    rig_t rig;
    rig_open(&rig);
    cr_expect(eq(int, get(&rig, "/metrics"), 200));
    cr_expect(has(&rig, "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    cr_expect(has(&rig, "client_manager_build_info{version=\"1.2.3\"} 1\n"));
    cr_expect(not(has(&rig, "# EOF")));
    rig_close(&rig);
}

Test(monitor, metrics_are_openmetrics_for_those_who_accept_it, .timeout = 30)
{
    rig_t rig;
    rig_open(&rig);
    cr_expect(eq(int,
                 ask(&rig, "GET", "/metrics",
                     "Accept: application/openmetrics-text;version=1.0.0;q=0.75,text/plain;q=0.5"
                     "\r\n"),
                 200));
    cr_expect(has(&rig, "Content-Type: application/openmetrics-text; version=1.0.0; "
                        "charset=utf-8\r\n"));
    cr_expect(has(&rig, "\n# EOF\n"));
    rig_close(&rig);
}

Test(monitor, ledger_is_json, .timeout = 30)
{
    rig_t rig;
    rig_open(&rig);
    cr_expect(eq(int, get(&rig, "/ledger"), 200));
    cr_expect(has(&rig, "Content-Type: application/json\r\n"));
    cr_expect(eq(int, strncmp(body(&rig), "{\"received\":0,", 14), 0));
    cr_expect(has(&rig, "\"drift\":0,\"balanced\":true,\"flows\":{"));
    rig_close(&rig);
}

Test(monitor, an_unknown_path_is_404, .timeout = 30)
{
    rig_t rig;
    rig_open(&rig);
    cr_expect(eq(int, get(&rig, "/"), 404));
    cr_expect(eq(int, get(&rig, "/livez/"), 404));
    rig_close(&rig);
}

Test(monitor, head_is_answered_without_a_body, .timeout = 30)
{
    rig_t rig;
    rig_open(&rig);
    cr_expect(eq(int, ask(&rig, "HEAD", "/livez", ""), 200));
    cr_expect(has(&rig, "Content-Length: 3\r\n"));
    cr_expect(eq(str, body(&rig), ""));
    rig_close(&rig);
}

Test(monitor, another_method_is_405_whatever_the_path, .timeout = 30)
{
    rig_t rig;
    rig_open(&rig);
    cr_expect(eq(int, ask(&rig, "POST", "/livez", "Content-Length: 0\r\n"), 405));
    cr_expect(has(&rig, "Allow: GET, HEAD\r\n"));
    cr_expect(eq(int, ask(&rig, "DELETE", "/nowhere", ""), 405));
    cr_expect(eq(int, ask(&rig, "PUT", "/ledger", "Content-Length: 100000000\r\n"), 405));
    rig_close(&rig);
}

/* ---- bounds --------------------------------------------------------------------------------- */

Test(monitor, a_connection_serves_more_than_one_request, .timeout = 30)
{
    rig_t rig;
    rig_open(&rig);
    const char *requests = "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
                           "GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    int fd = dial(&rig);
    cr_assert(gt(long, send(fd, requests, strlen(requests), 0), 0));
    cr_expect(eq(int, hear(&rig, fd), 200));
    cr_expect(has(&rig, "\r\nok\n"));
    cr_expect(has(&rig, "503 "));
    rig_close(&rig);
}

Test(monitor, a_head_that_is_too_large_is_refused, .timeout = 30)
{
    rig_t rig;
    rig_open(&rig);
    CM_CLEANUP(cm_free) char *header = malloc(40000);
    memset(header, 'a', 40000);
    const char *start = "GET /livez HTTP/1.1\r\nHost: x\r\nX-Long: ";
    int fd = dial(&rig);
    cr_assert(gt(long, send(fd, start, strlen(start), MSG_NOSIGNAL), 0));
    send(fd, header, 40000, MSG_NOSIGNAL);
    int status = hear(&rig, fd);
    cr_expect(status == 431 || status == 0, "%d", status); /* or just closed */
    cr_expect(eq(int, get(&rig, "/livez"), 200));
    rig_close(&rig);
}

Test(monitor, what_is_no_http_does_no_harm, .timeout = 30)
{
    rig_t rig;
    rig_open(&rig);
    int fd = dial(&rig);
    cr_assert(gt(long, send(fd, "\x16\x03\x01\x02\x00\r\n\r\n", 9, MSG_NOSIGNAL), 0));
    hear(&rig, fd);
    close(dial(&rig)); /* says nothing at all */
    cr_expect(eq(int, get(&rig, "/livez"), 200));
    rig_close(&rig);
}

Test(monitor, a_connection_too_many_waits_for_its_turn, .timeout = 30)
{
    enum { MANY = 70 };
    rig_t rig;
    int fds[MANY];
    rig_open(&rig);
    for (int i = 0; i < MANY; i++)
        fds[i] = dial(&rig);
    const char *request = "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    cr_assert(gt(long, send(fds[MANY - 1], request, strlen(request), 0), 0));
    for (int i = 0; i < MANY - 1; i++)
        close(fds[i]);
    cr_expect(eq(int, hear(&rig, fds[MANY - 1]), 200));
    rig_close(&rig);
}

/* ---- the pipe ------------------------------------------------------------------------------- */

Test(monitor, the_ledger_on_the_pipe_holds_every_report_sent_before, .timeout = 30)
{
    rig_t rig;
    rig_open(&rig);
    for (unsigned i = 1; i <= 200; i++) {
        cm_report_t report = {.kind = CM_REPORT_LEDGER,
                              .source = CM_STR("gateway"),
                              .ledgers.flows[0] = {.received = i, .applied = i}};
        cm_buffer_t frame = {0};
        cm_report_encode(&report, &frame);
        cr_assert(cm_frame_send(rig.reports, &frame, 0));
    }
    zstr_send(rig.actor, "LEDGER");
    CM_CLEANUP(zstr_free) char *ledger = zstr_recv(rig.actor);
    cr_expect(eq(int, strncmp(ledger, "{\"received\":200,\"applied\":200,", 29), 0), "%s", ledger);
    rig_close(&rig);
}

Test(monitor, words_and_reports_it_cannot_read_are_passed_over, .timeout = 30)
{
    rig_t rig;
    rig_open(&rig);
    zstr_send(rig.actor, "DRAIN");
    zstr_send(rig.reports, "no report");
    zstr_send(rig.reports, "");
    cr_expect(eq(int, get(&rig, "/livez"), 200));
    rig_close(&rig);
}

Test(monitor, without_http_the_port_is_0_and_reports_are_still_taken, .timeout = 30)
{
    rig_t rig;
    args.listen = "";
    rig_open(&rig);
    cr_expect(eq(int, rig.port, 0));
    zstr_send(rig.actor, "LEDGER");
    CM_CLEANUP(zstr_free) char *ledger = zstr_recv(rig.actor);
    cr_expect(ne(ptr, strstr(ledger, "\"balanced\":true"), NULL));
    rig_close(&rig);
}

/* ---- the listen address --------------------------------------------------------------------- */

static cm_status_t try_listen(const char *listen, cm_error_t *err)
{
    args.listen = listen;
    zactor_t *actor = NULL;
    cm_status_t status = cm_actor_start(&actor, cm_monitor_actor, &args, WAIT_MS, err);
    cr_expect(cm_actor_stop(&actor, WAIT_MS));
    return status;
}

static void expect_bad_listen(const char *listen)
{
    cm_error_t err = {0};
    cr_expect(eq(int, try_listen(listen, &err), CM_MISCONFIGURED), "%s", listen);
    cr_expect(ne(ptr, strstr(err.message, "monitor.listen"), NULL), "%s", err.message);
    cr_expect(ne(ptr, strstr(err.message, "127.0.0.1:8089"), NULL), "%s", err.message);
}

Test(monitor, a_listen_address_without_a_port_is_misconfigured, .timeout = 30)
{
    expect_bad_listen("127.0.0.1");
}

Test(monitor, a_port_that_is_no_port_is_misconfigured, .timeout = 30)
{
    expect_bad_listen("127.0.0.1:http");
}

Test(monitor, a_port_out_of_range_is_misconfigured, .timeout = 30)
{
    expect_bad_listen("127.0.0.1:65536");
}

Test(monitor, a_listen_address_without_a_host_is_misconfigured, .timeout = 30)
{
    expect_bad_listen(":8089");
}

Test(monitor, an_ipv6_address_without_brackets_is_misconfigured, .timeout = 30)
{
    expect_bad_listen("::1:8089");
}

Test(monitor, a_host_nobody_has_is_misconfigured, .timeout = 30)
{
    expect_bad_listen("256.0.0.1:8089");
}

Test(monitor, an_address_of_another_machine_is_misconfigured, .timeout = 30)
{
    expect_bad_listen("192.0.2.1:8089");
}

Test(monitor, a_port_in_use_is_unavailable, .timeout = 30)
{
    rig_t rig;
    char listen[32];
    cm_error_t err = {0};
    rig_open(&rig);
    snprintf(listen, sizeof listen, "127.0.0.1:%d", rig.port);
    args.reports = "inproc://test/others";
    cr_expect(eq(int, try_listen(listen, &err), CM_UNAVAILABLE));
    cr_expect(eq(str, err.code, "EADDRINUSE"));
    cr_expect(ne(ptr, strstr(err.message, "monitor.listen"), NULL));
    rig_close(&rig);
}

Test(monitor, a_reports_endpoint_in_use_is_unavailable, .timeout = 30)
{
    rig_t rig;
    cm_error_t err = {0};
    rig_open(&rig);
    cr_expect(eq(int, try_listen("", &err), CM_UNAVAILABLE));
    cr_expect(eq(str, err.code, "bind"));
    rig_close(&rig);
}
