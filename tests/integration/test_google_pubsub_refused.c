/* What the Google Pub/Sub driver does when the service refuses a call that only a person can make
 * possible: each kind of call waits for itself, the subscription stops, and goes on by itself. */
#include "runtime/broker/google_pubsub.h"
#include "tests/support/broker_harness.h"
#include "tests/support/pubsub_server.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME  "client-manager.writer"
#define STATS "subscriptions[" NAME "]."

static cm_test_pubsub_t server;
static cm_test_client_t client;

static void begin(void)
{
    cm_test_pubsub_start(&server, NULL);
}

static void end(void)
{
    cm_test_client_close(&client);
    if (cm_test_pubsub_stat(&server, "violations.count"))
        cr_fatal("a rule of the API was broken: %s",
                 cm_test_pubsub_call(&server, "GET", "/control/stats", NULL, NULL));
    cm_test_pubsub_stop(&server);
}

TestSuite(google_pubsub_refused, .init = begin, .fini = end, .timeout = 60);

static void open_client(const cm_pubsub_options_t *own)
{
    cm_test_pubsub_create(&server, NAME, NULL);
    cm_test_client_begin_with(&client, &cm_broker_google_pubsub, server.uri, "a", 0, own);
    cm_test_client_await_up(&client);
    cr_assert(eq(int, cm_broker_subscribe(client.broker, NAME), 0));
}

/* From now on every call of that kind is refused. */
static void refuse(const char *call)
{
    char fault[160];
    snprintf(fault, sizeof fault,
             "{\"kind\":\"status\",\"call\":\"%s\",\"status\":403,\"share\":1.0}", call);
    cm_test_pubsub_fault(&server, fault);
}

static void mend(void)
{
    free(cm_test_pubsub_call(&server, "DELETE", "/control/fault", NULL, NULL));
}

static void publish(size_t count)
{
    for (size_t i = 0; i < count; i++)
        cm_test_publish(&client, NAME, "x");
}

static void ack_all(void)
{
    for (size_t i = 0; i < client.delivered; i++)
        cm_broker_ack(client.broker, &client.deliveries[i].lease, 1);
}

Test(google_pubsub_refused, pulls_are_tried_again_when_the_time_is_over_and_each_refusal_is_told)
{
    cm_pubsub_options_t own = {.refused_ms = 200};
    open_client(&own);
    refuse("pull");
    cm_test_keep_pulling(&client, 0, 10);
    cm_test_await_counter(&client, &client.refusals, 4);
    cr_assert(gt(llong, cm_test_pubsub_stat(&server, "calls.pull.answers.403"), 1));
    mend();
    publish(1);
    cm_test_await_deliveries(&client, 1);
    cr_assert(eq(sz, client.downs, 0));
}

Test(google_pubsub_refused, that_it_still_is_is_told_between_two_tries)
{
    cm_pubsub_options_t own = {.refused_ms = 6000};
    open_client(&own);
    refuse("pull");
    cm_test_keep_pulling(&client, 0, 10);
    cm_test_await_counter(&client, &client.refusals, 1);
    long long pulls = cm_test_pubsub_stat(&server, "calls.pull.count");
    cm_test_await_counter(&client, &client.refusals, 2);
    cr_assert(eq(llong, cm_test_pubsub_stat(&server, "calls.pull.count"), pulls));
    cr_assert(ne(ptr, strstr(client.refusal.message, "roles/pubsub.subscriber"), NULL));
}

Test(google_pubsub_refused, what_waits_here_is_given_back_and_not_delivered)
{
    open_client(NULL);
    publish(20);
    cm_broker_pull(client.broker, 0, 5);
    cm_test_await_deliveries(&client, 5);
    refuse("pull");
    publish(1); /* a request that waits is served; the one after it is refused */
    cm_test_await_counter(&client, &client.refusals, 1);
    cm_test_keep_pulling(&client, 0, 5);
    while (cm_test_pubsub_stat(&server, STATS "outstanding") > 5)
        cm_test_run_for(&(cm_test_client_t *){&client}, 1, 20);
    cm_test_await_pulled(&client, 0, client.pulled[0] + 2);
    cr_assert(eq(sz, client.delivered, 5));
    cr_assert(ge(llong, cm_test_pubsub_stat(&server, STATS "nacked"), 15));
}

Test(google_pubsub_refused, what_is_held_is_acknowledged_though_pulls_are_refused)
{
    open_client(NULL);
    publish(3);
    cm_test_keep_pulling(&client, 0, 10);
    cm_test_await_deliveries(&client, 3);
    refuse("pull");
    publish(1); /* a request that waits is served; the one after it is refused */
    cm_test_await_counter(&client, &client.refusals, 1);
    ack_all();
    cm_test_await_settled(&client);
    cr_assert(ge(llong, cm_test_pubsub_stat(&server, STATS "acked"), 3));
}

Test(google_pubsub_refused, nothing_is_pulled_while_acknowledgements_are_refused)
{
    cm_pubsub_options_t own = {.refused_ms = 60000};
    open_client(&own);
    publish(1);
    cm_test_keep_pulling(&client, 0, 10);
    cm_test_await_deliveries(&client, 1);
    refuse("acknowledge");
    ack_all();
    cm_test_await_counter(&client, &client.refusals, 1);
    long long pulls = cm_test_pubsub_stat(&server, "calls.pull.count");
    publish(3);
    cm_test_await_pulled(&client, 0, client.pulled[0] + 2);
    cr_assert(eq(llong, cm_test_pubsub_stat(&server, "calls.pull.count"), pulls));
    cr_assert(eq(sz, client.delivered, 1));
    cr_assert(eq(sz, client.refusals, 1));
}

Test(google_pubsub_refused, refused_acknowledgements_are_made_up_for_by_themselves)
{
    cm_pubsub_options_t own = {.refused_ms = 300};
    open_client(&own);
    publish(2);
    cm_test_keep_pulling(&client, 0, 10);
    cm_test_await_deliveries(&client, 2);
    refuse("acknowledge");
    ack_all();
    cm_test_await_counter(&client, &client.refusals, 2);
    cr_assert(eq(llong, cm_test_pubsub_stat(&server, STATS "acked"), 0));
    mend();
    cm_test_await_settled(&client);
    cr_assert(eq(llong, cm_test_pubsub_stat(&server, STATS "acked"), 2));
    cr_assert(eq(llong, cm_test_pubsub_stat(&server, STATS "staleAcks"), 0));
}

/* With exactly-once delivery the service may say of single ids that they are void. */
Test(google_pubsub_refused, void_ack_ids_are_forgotten_and_stop_nothing)
{
    open_client(NULL);
    publish(1);
    cm_test_keep_pulling(&client, 0, 10);
    cm_test_await_deliveries(&client, 1);
    cm_test_pubsub_fault(
        &server, "{\"kind\":\"status\",\"call\":\"acknowledge\",\"status\":400,\"google\":"
                 "\"FAILED_PRECONDITION\",\"details\":[{\"@type\":"
                 "\"type.googleapis.com/google.rpc.ErrorInfo\",\"reason\":\"X\",\"metadata\":"
                 "{\"gone\":\"PERMANENT_FAILURE_INVALID_ACK_ID\"}}]}");
    ack_all();
    cm_test_await_settled(&client);
    cr_assert(eq(sz, client.refusals, 0));
    cr_assert(eq(llong, cm_test_pubsub_stat(&server, "calls.acknowledge.count"), 1));
}
