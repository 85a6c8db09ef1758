/* http_fault_server - a private HTTP server that answers as told (http_fault_server.py lists the
 * paths), and on demand TLS with HTTP/2 in front of it.
 *
 * Dies with the test's process. A failing step fails the test.
 */
#ifndef CM_TESTS_SUPPORT_HTTP_FAULT_SERVER_H
#define CM_TESTS_SUPPORT_HTTP_FAULT_SERVER_H
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

typedef struct {
    bool keys; /* set before the start: service_account.json and authorized_user.json in dir */
    pid_t pid, proxy_pid;
    int port; /* 0 before the first start: any; kept over a restart */
    int tls_port;
    char dir[32]; /* temporary */
    char url[64], tls_url[64];
    char ca_file[64]; /* the self-signed certificate of tls_url */
} cm_test_http_t;

void cm_test_http_start(cm_test_http_t *self);
/* nghttpx in front: HTTP/2, at most `streams` of them on a connection. */
void cm_test_http_start_tls(cm_test_http_t *self, int streams);
void cm_test_http_kill(cm_test_http_t *self); /* SIGKILL the server; its port refuses from now on */
void cm_test_http_stop(cm_test_http_t *self);

/* Ask for path, by POST when body is not NULL; the answer's text is yours. Not a 2xx fails. */
char *cm_test_http_ask(const cm_test_http_t *self, const char *path, const char *body);
/* How often path was asked for. */
long cm_test_http_count(const cm_test_http_t *self, const char *path);
/* What path answers first, before what it always does: a JSON list of {status, body, headers}. */
void cm_test_http_script(const cm_test_http_t *self, const char *path, const char *answers);
/* The connections made to the TLS front so far, and the requests on them, told by its log. */
size_t cm_test_http_tls_connections(const cm_test_http_t *self, const char *protocol,
                                    size_t *ret_requests);
/* The connections to a port of this machine that stand now. */
size_t cm_test_http_connections(int port);
/* A TCP port on which nobody listens now. */
int cm_test_http_free_port(void);
#endif
