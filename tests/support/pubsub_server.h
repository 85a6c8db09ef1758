/* pubsub_server - a private stand-in for Google Pub/Sub: tests/support/pubsub_server, which says
 * what it checks and which faults it makes.
 *
 * Listens on a free port of 127.0.0.1 and dies with the test's process. A failing step fails the
 * test.
 */
#ifndef CM_TESTS_SUPPORT_PUBSUB_SERVER_H
#define CM_TESTS_SUPPORT_PUBSUB_SERVER_H
#include <stdio.h>
#include <sys/types.h>

typedef struct {
    pid_t pid;       /* 0 = not running */
    int stdin_fd;    /* the server ends when it is closed */
    int port;        /* kept by a stop: started again, it listens there again, empty */
    char uri[64];    /* of the project "test": http://127.0.0.1:PORT/projects/test */
    char token[256]; /* sent with each request of the test; "" = none */
    pid_t tls_pid;   /* of pubsub_tls in front of it; 0 = none */
    int tls_stdin_fd;
    FILE *tls_said;
    char tls_uri[64], ca_file[64]; /* the same project over TLS and HTTP/2, whom to trust */
} cm_test_pubsub_t;

/* options: of the command line, "--hold", "2", NULL; NULL = none. */
void cm_test_pubsub_start(cm_test_pubsub_t *self, const char *const *options);
/* The stand-in for another API in its place, tests/support/<program>: calls, faults, cuts and
 * statistics are alike. */
void cm_test_pubsub_start_other(cm_test_pubsub_t *self, const char *program,
                                const char *const *options);
/* Google's own emulator in its place, where it is installed (tests/support/pubsub_emulator): no
 * faults and no statistics, only calls of the API and cuts. option: "--poll" or NULL. */
void cm_test_pubsub_start_emulator(cm_test_pubsub_t *self, const char *option);
/* "" when the emulator is installed, else why it cannot be had, in one line. */
void cm_test_pubsub_find_emulator(char why[256]);
/* TLS and HTTP/2 in front of a server that runs. */
void cm_test_pubsub_start_tls(cm_test_pubsub_t *self);
/* The same with another certificate, which ca_file does not vouch for, and with its own again. */
void cm_test_pubsub_use_certificate(cm_test_pubsub_t *self, const char *first_or_other);
void cm_test_pubsub_stop(cm_test_pubsub_t *self);

/* Create topic and subscription of that name. settings: more fields of the subscription as JSON,
 * "\"ackDeadlineSeconds\":60"; NULL = 10 s. */
void cm_test_pubsub_create(const cm_test_pubsub_t *self, const char *name, const char *settings);
/* The same for every subscription of the service, under the prefix "client-manager". */
void cm_test_pubsub_create_all(const cm_test_pubsub_t *self, const char *settings);

/* Take a token of the server's own metadata server, for one that wants them (--token-check). */
void cm_test_pubsub_take_token(cm_test_pubsub_t *self);
/* A request to any path, "/v1/projects/test/topics/x"; body NULL = none. Returns the answer, yours
 * to free; ret_code NULL: other than 200 fails the test. */
char *cm_test_pubsub_call(const cm_test_pubsub_t *self, const char *method, const char *path,
                          const char *body, long *ret_code);
/* Put a fault in force: "{\"kind\":\"status\",\"call\":\"pull\",\"status\":503}". */
void cm_test_pubsub_fault(const cm_test_pubsub_t *self, const char *fault);
/* Reset every connection of a client, whatever it is in the middle of. */
void cm_test_pubsub_cut(const cm_test_pubsub_t *self);
/* A whole number of GET /control/stats by its path: "violations.count", "calls.pull.count"; dots
 * in a subscription's own name do not count: "subscriptions[client-manager.writer].acked".
 * 0 when it is not there. */
long long cm_test_pubsub_stat(const cm_test_pubsub_t *self, const char *path);
#endif
