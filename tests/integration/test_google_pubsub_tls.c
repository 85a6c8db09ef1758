/* The Google Pub/Sub driver as in production: TLS, HTTP/2, and a token for each request. */
#include "runtime/broker/google_pubsub.h"
#include "tests/support/broker_harness.h"
#include "tests/support/pubsub_server.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME "client-manager.writer"

static cm_test_pubsub_t server;
static cm_test_client_t client;
static char metadata_host[64], monitoring[64];
static cm_pubsub_options_t own;

static void begin(void)
{
    static const char *const options[] = {"--token-check", NULL};
    cm_test_pubsub_start(&server, options);
    cm_test_pubsub_take_token(&server);
    cm_test_pubsub_start_tls(&server);
    snprintf(metadata_host, sizeof metadata_host, "127.0.0.1:%d", server.port);
    snprintf(monitoring, sizeof monitoring, "http://127.0.0.1:%d", server.port);
    own = (cm_pubsub_options_t){
        .metadata_host = metadata_host, .ca_file = server.ca_file, .monitoring = monitoring};
}

static void end(void)
{
    cm_test_client_close(&client);
    if (cm_test_pubsub_stat(&server, "violations.count"))
        cr_fatal("a rule of the API was broken: %s",
                 cm_test_pubsub_call(&server, "GET", "/control/stats", NULL, NULL));
    cm_test_pubsub_stop(&server);
}

TestSuite(google_pubsub_tls, .init = begin, .fini = end, .timeout = 60);

static void begin_client(void)
{
    cm_test_client_begin_with(&client, &cm_broker_google_pubsub, server.tls_uri, "a", 0, &own);
}

static void open_client(void)
{
    cm_test_pubsub_create(&server, NAME, NULL);
    begin_client();
    cm_test_client_await_up(&client);
    cm_broker_subscribe(client.broker, NAME);
}

Test(google_pubsub_tls, publishes_delivers_and_acknowledges)
{
    open_client();
    for (int i = 0; i < 3; i++)
        cm_test_publish(&client, NAME, "x");
    cm_test_keep_pulling(&client, 0, 10);
    cm_test_await_deliveries(&client, 3);
    cr_assert(eq(i64, cm_test_depth(&client, 0).pending, 3));
    for (size_t i = 0; i < 3; i++)
        cm_broker_ack(client.broker, &client.deliveries[i].lease, 1);
    cm_test_await_settled(&client);
    cr_assert(eq(llong, cm_test_pubsub_stat(&server, "subscriptions[" NAME "].acked"), 3));
}

Test(google_pubsub_tls, a_token_that_is_void_is_replaced_and_nothing_is_lost)
{
    open_client();
    cm_test_publish(&client, NAME, "x");
    cm_broker_pull(client.broker, 0, 10);
    cm_test_await_deliveries(&client, 1);
    cm_test_pubsub_fault(&server, "{\"kind\":\"revoke-tokens\"}");
    cm_broker_ack(client.broker, &client.deliveries[0].lease, 1);
    cm_test_publish(&client, NAME, "y"); /* the refusal is not even told */
    cm_test_keep_pulling(&client, 0, 10);
    cm_test_await_deliveries(&client, 2);
    cm_broker_ack(client.broker, &client.deliveries[1].lease, 1);
    cm_test_await_settled(&client);
    cr_assert(eq(llong, cm_test_pubsub_stat(&server, "subscriptions[" NAME "].acked"), 2));
    cr_assert(eq(llong, cm_test_pubsub_stat(&server, "tokensIssued"), 2));
    cr_assert(eq(sz, client.downs, 0));
}

Test(google_pubsub_tls, a_token_that_is_refused_for_good_is_told_with_its_setting)
{
    open_client();
    cm_test_pubsub_fault(&server, "{\"kind\":\"status\",\"status\":401,\"share\":1.0,\"call\":"
                                  "\"pull\"}");
    cm_test_keep_pulling(&client, 0, 10);
    cm_test_await_counter(&client, &client.downs, 1);
    cr_assert(eq(int, client.link_error.status, CM_MISCONFIGURED));
    cr_assert(eq(str, client.link_error.code, "http-401"));
    cr_assert(ne(ptr, strstr(client.link_error.message, "pubsub.credentials_file"), NULL));
    cr_assert(ne(ptr, strstr(client.link_error.message, "metadata server"), NULL));
}

Test(google_pubsub_tls, without_a_token_the_link_is_down_and_says_why)
{
    own.metadata_host = "127.0.0.1:1";
    begin_client();
    cm_test_await_counter(&client, &client.downs, 1);
    cr_assert(eq(int, client.link_error.status, CM_UNAVAILABLE));
    cr_assert(ne(ptr, strstr(client.link_error.message, "pubsub.credentials_file"), NULL));
    cr_assert(eq(sz, client.ups, 0));
}

Test(google_pubsub_tls, a_key_file_that_is_none_is_refused_when_opening)
{
    cm_broker_t *broker = NULL;
    cm_error_t err = {0};
    zloop_t *loop = zloop_new();
    own.credentials_file = "/nonexistent/key.json";
    cm_broker_options_t options = {
        .uri = server.tls_uri, .consumer = "a", .lease_ms = 1000, .poll_ms = 100, .driver = &own};
    cm_broker_events_t events;
    memset(&events, 1, sizeof events); /* never called */
    cr_assert(eq(int,
                 cm_broker_open(&broker, &cm_broker_google_pubsub, loop, &options, &events, &err),
                 CM_MISCONFIGURED));
    cr_assert(ne(ptr, strstr(err.message, "pubsub.credentials_file"), NULL));
    cr_assert(ne(ptr, strstr(err.message, "/nonexistent/key.json"), NULL));
    zloop_destroy(&loop);
}

Test(google_pubsub_tls, a_service_that_cannot_be_verified_is_not_used)
{
    own.ca_file = NULL; /* the system's, which do not know ours */
    begin_client();
    cm_test_await_counter(&client, &client.downs, 1);
    cr_assert(eq(int, client.link_error.status, CM_MISCONFIGURED));
    cr_assert(eq(sz, client.ups, 0));
}

static bool is_misconfigured(void *ctx)
{
    (void)ctx;
    return client.downs && client.link_error.status == CM_MISCONFIGURED;
}

Test(google_pubsub_tls, a_certificate_that_is_another_one_day_is_told_at_the_third_try)
{
    open_client();
    cm_test_publish(&client, NAME, "x");
    cm_test_keep_pulling(&client, 0, 10);
    cm_test_await_deliveries(&client, 1);
    cm_test_pubsub_use_certificate(&server, "other");
    long long before = cm_test_pubsub_stat(&server, "calls.pull.count");
    cm_test_await_counter(&client, &client.downs, 1);
    cr_assert(eq(int, client.link_error.status, CM_UNAVAILABLE));
    cm_broker_ack(client.broker, &client.deliveries[0].lease, 1);
    cr_assert(cm_test_run(&client, is_misconfigured, NULL));
    cr_assert(eq(sz, client.downs, 2)); /* the tries before the third are no news */
    cr_assert(eq(llong, cm_test_pubsub_stat(&server, "calls.pull.count"), before));
    cr_assert(eq(llong, cm_test_pubsub_stat(&server, "calls.acknowledge.count"), 0));
    cm_test_pubsub_use_certificate(&server, "first");
    cm_test_await_counter(&client, &client.ups, 2);
    cm_test_await_settled(&client);
    cr_assert(eq(llong, cm_test_pubsub_stat(&server, "subscriptions[" NAME "].acked"), 1));
}

Test(google_pubsub_tls, three_hundred_waiting_pulls_on_few_connections_do_not_hold_up_a_publish)
{
    enum { SUBSCRIPTIONS = 150 };
    char name[32];
    own.connections_max = 4;
    open_client();
    for (int i = 0; i < SUBSCRIPTIONS; i++) {
        snprintf(name, sizeof name, "client-manager.n%d", i);
        cm_test_pubsub_create(&server, name, NULL);
        cm_test_keep_pulling(&client, cm_broker_subscribe(client.broker, name), 10);
    }
    while (cm_test_pubsub_stat(&server, "calls.pull.count") < 2 * SUBSCRIPTIONS)
        cm_test_run_for(&(cm_test_client_t *){&client}, 1, 20);
    cm_test_publish(&client, NAME, "x");
    cr_assert(eq(llong, cm_test_pubsub_stat(&server, "calls.pull.answers.200"), 0));
}
