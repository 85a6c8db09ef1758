/* What tests in C use of the stand-in for Pub/Sub; what it does itself is tested in
 * test_pubsub_server and test_pubsub_faults. */
#include "tests/support/pubsub_server.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PULL    "/v1/projects/test/subscriptions/client-manager.writer:pull"
#define PUBLISH "/v1/projects/test/topics/client-manager.writer:publish"

static void start(cm_test_pubsub_t *server)
{
    const char *options[] = {"--hold", "0.1", NULL};
    cm_test_pubsub_start(server, options);
}

static bool listens(const cm_test_pubsub_t *server)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(server->port)};
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool connected = connect(fd, (struct sockaddr *)&address, sizeof address) == 0;
    close(fd);
    return connected;
}

Test(pubsub_harness, creates_every_subscription_of_the_service, .timeout = 30)
{
    cm_test_pubsub_t server = {0};
    start(&server);
    cm_test_pubsub_create_all(&server, "\"ackDeadlineSeconds\":60");
    char *list = cm_test_pubsub_call(&server, "GET", "/v1/projects/test/subscriptions", NULL, NULL);
    cr_assert(ne(ptr, strstr(list, "client-manager.contact-deletion-errors"), NULL));
    cr_assert(ne(ptr, strstr(list, "\"ackDeadlineSeconds\":60"), NULL));
    free(list);
    cm_test_pubsub_stop(&server);
}

Test(pubsub_harness, counts_what_was_done_and_what_was_wrong, .timeout = 30)
{
    cm_test_pubsub_t server = {0};
    start(&server);
    cm_test_pubsub_create(&server, "client-manager.writer", NULL);
    free(cm_test_pubsub_call(&server, "POST", PUBLISH, "{\"messages\":[{\"data\":\"eA==\"}]}",
                             NULL));
    free(cm_test_pubsub_call(&server, "POST", PULL, "{\"maxMessages\":1}", NULL));
    long code = 0;
    free(cm_test_pubsub_call(&server, "POST", PULL, "{\"maxMessages\":0}", &code));
    cr_assert(eq(long, code, 400));
    cr_assert(eq(llong, cm_test_pubsub_stat(&server, "violations.count"), 1));
    cr_assert(eq(llong, cm_test_pubsub_stat(&server, "calls.pull.answers.400"), 1));
    cr_assert(eq(
        llong, cm_test_pubsub_stat(&server, "subscriptions[client-manager.writer].delivered"), 1));
    cm_test_pubsub_stop(&server);
}

Test(pubsub_harness, puts_faults_in_force, .timeout = 30)
{
    cm_test_pubsub_t server = {0};
    start(&server);
    cm_test_pubsub_create(&server, "client-manager.writer", NULL);
    cm_test_pubsub_fault(&server, "{\"kind\":\"status\",\"call\":\"pull\",\"status\":503}");
    long code = 0;
    free(cm_test_pubsub_call(&server, "POST", PULL, "{\"maxMessages\":1}", &code));
    cr_assert(eq(long, code, 503));
    cm_test_pubsub_cut(&server);
    free(cm_test_pubsub_call(&server, "POST", PULL, "{\"maxMessages\":1}", NULL));
    cm_test_pubsub_stop(&server);
}

Test(pubsub_harness, listens_at_the_same_port_when_started_again, .timeout = 30)
{
    cm_test_pubsub_t server = {0};
    start(&server);
    int port = server.port;
    cm_test_pubsub_stop(&server);
    cr_assert(not(listens(&server)));
    start(&server);
    cr_assert(eq(int, server.port, port));
    cr_assert(listens(&server));
    cm_test_pubsub_stop(&server);
}
