/* What the Google Pub/Sub driver makes of a service that refuses, errs and falls silent. What it
 * shares with other brokers is tested in test_broker.c. After each test the service has seen no
 * request that breaks its rules. */
#include "runtime/broker/google_pubsub.h"
#include "runtime/clock.h"
#include "tests/support/broker_harness.h"
#include "tests/support/pubsub_server.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <jansson.h>
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

TestSuite(google_pubsub, .init = begin, .fini = end, .timeout = 60);

static void open_client(const cm_pubsub_options_t *own)
{
    cm_test_client_begin_with(&client, &cm_broker_google_pubsub, server.uri, "a", 0, own);
    cm_test_client_await_up(&client);
}

/* A subscription NAME and a client of it. */
static void open_with(const char *settings, const cm_pubsub_options_t *own)
{
    cm_test_pubsub_create(&server, NAME, settings);
    open_client(own);
    cr_assert(eq(int, cm_broker_subscribe(client.broker, NAME), 0));
}

static void publish(size_t count)
{
    size_t before = client.published_count;
    char body[24];
    for (size_t i = 0; i < count; i++) {
        snprintf(body, sizeof body, "%zu", i);
        cm_broker_publish(client.broker, NAME, &(cm_message_t){.body = cm_str(body)}, i);
    }
    cm_test_await_published(&client, before + count);
    for (size_t i = before; i < client.published_count; i++)
        cr_assert(eq(int, client.published[i].status, CM_OK));
}

static void hold(size_t count)
{
    publish(count);
    while (client.delivered < count) { /* a pull may end before a busy machine has answered it */
        size_t ended = client.pulled[0];
        cm_broker_pull(client.broker, 0, count);
        cm_test_await_pulled(&client, 0, ended + 1);
    }
}

static void ack_all(void)
{
    for (size_t i = 0; i < client.delivered; i++)
        cm_broker_ack(client.broker, &client.deliveries[i].lease, 1);
}

static long long stat_of(const char *name)
{
    char path[128];
    snprintf(path, sizeof path, STATS "%s", name);
    return cm_test_pubsub_stat(&server, path);
}

/* The ackId under which the service has delivered message, from /control/messages. */
static void ack_id_of(const cm_test_delivery_t *message, char ack_id[512])
{
    char *answer =
        cm_test_pubsub_call(&server, "GET", "/control/messages?subscription=" NAME, NULL, NULL);
    json_t *root = json_loads(answer, 0, NULL), *one;
    size_t i;
    ack_id[0] = '\0';
    json_array_foreach(json_object_get(root, "messages"), i, one)
    {
        if (strcmp(json_string_value(json_object_get(one, "messageId")), message->message_id) == 0)
            snprintf(ack_id, 512, "%s", json_string_value(json_object_get(one, "ackId")));
    }
    json_decref(root);
    free(answer);
    cr_assert(ne(chr, ack_id[0], 0));
}

/* ---- Retry-After ----------------------------------------------------------------------------- */

Test(google_pubsub, holds_publishes_back_for_as_long_as_the_service_asks)
{
    open_with(NULL, NULL);
    cm_test_pubsub_fault(&server, "{\"kind\":\"status\",\"call\":\"publish\",\"status\":429,"
                                  "\"retryAfter\":\"1\"}");
    cm_message_t message = {.body = CM_STR("x")};
    cm_broker_publish(client.broker, NAME, &message, 1);
    cm_test_await_published(&client, 1);
    cr_assert(eq(int, client.published[0].status, CM_UNAVAILABLE));
    cr_assert(eq(str, client.published[0].code, "http-429"));
    int64_t refused = cm_clock_mono_ms();
    cm_broker_publish(client.broker, NAME, &message, 2);
    cm_test_await_published(&client, 2);
    cr_assert(eq(int, client.published[1].status, CM_OK));
    cr_assert(ge(i64, cm_clock_mono_ms() - refused, 900));
    cr_assert(eq(sz, client.downs, 0));
}

Test(google_pubsub, publishes_that_are_refused_for_a_while_are_each_stored_once)
{
    enum { MESSAGES = 40 };
    cm_message_t message = {.body = CM_STR("x")};
    size_t stored = 0, told = 0;
    open_with(NULL, NULL);
    cm_test_pubsub_fault(&server, "{\"kind\":\"status\",\"call\":\"publish\",\"status\":429,"
                                  "\"count\":3}");
    for (uint64_t i = 0; i < MESSAGES; i++)
        cm_broker_publish(client.broker, NAME, &message, i);
    while (stored < MESSAGES) {
        cm_test_await_published(&client, told + 1);
        for (; told < client.published_count; told++) {
            const cm_test_published_t *one = &client.published[told];
            stored += one->status == CM_OK;
            if (one->status == CM_OK)
                continue;
            cr_assert(eq(str, (char *)one->code, "http-429"));
            cm_broker_publish(client.broker, NAME, &message, one->token);
        }
    }
    cr_assert(eq(llong, stat_of("backlog"), MESSAGES));
    cr_assert(eq(llong, cm_test_pubsub_stat(&server, "calls.publish.answers.429"), 3));
    cr_assert(eq(sz, client.downs, 0));
}

Test(google_pubsub, holds_acknowledgements_back_for_as_long_as_the_service_asks)
{
    open_with(NULL, NULL);
    hold(3);
    cm_test_pubsub_fault(&server, "{\"kind\":\"status\",\"call\":\"acknowledge\",\"status\":503,"
                                  "\"retryAfter\":\"1\"}");
    int64_t start = cm_clock_mono_ms();
    ack_all();
    cm_test_await_settled(&client);
    cr_assert(ge(i64, cm_clock_mono_ms() - start, 1000));
    cr_assert(eq(llong, stat_of("acked"), 3));
    cr_assert(eq(llong, cm_test_pubsub_stat(&server, "calls.acknowledge.count"), 2));
}

Test(google_pubsub, holds_pulls_back_for_as_long_as_the_service_asks)
{
    open_with(NULL, NULL);
    publish(1);
    cm_test_pubsub_fault(&server, "{\"kind\":\"status\",\"call\":\"pull\",\"status\":429,"
                                  "\"count\":2,\"retryAfter\":\"1\"}");
    int64_t start = cm_clock_mono_ms();
    cm_test_keep_pulling(&client, 0, 10);
    cm_test_await_deliveries(&client, 1);
    cr_assert(ge(i64, cm_clock_mono_ms() - start, 1000));
}

/* ---- refused requests ------------------------------------------------------------------------ */

Test(google_pubsub, one_bad_acknowledgement_does_not_cost_the_others)
{
    char fault[160];
    open_with(NULL, NULL);
    hold(9);
    snprintf(fault, sizeof fault, "{\"kind\":\"bad-ack-id\",\"share\":1.0,\"messageId\":\"%s\"}",
             client.deliveries[4].message_id);
    cm_test_pubsub_fault(&server, fault);
    ack_all();
    cm_test_await_settled(&client);
    cr_assert(eq(llong, stat_of("acked"), 8));
    cr_assert(eq(llong, stat_of("backlog"), 1));
}

Test(google_pubsub, one_bad_message_does_not_cost_the_others)
{
    char value[1100];
    open_with(NULL, NULL);
    memset(value, 'x', sizeof value);
    cm_attribute_t large = {CM_STR("n"), {value, sizeof value}};
    for (uint64_t i = 0; i < 11; i++) {
        cm_message_t message = {
            .body = CM_STR("x"), .attributes = &large, .attribute_count = i == 6};
        cm_broker_publish(client.broker, NAME, &message, i);
    }
    cm_test_await_published(&client, 11);
    for (size_t i = 0; i < 11; i++)
        cr_expect(eq(int, client.published[i].status,
                     client.published[i].token == 6 ? CM_PERMANENT : CM_OK));
    cr_assert(eq(llong, stat_of("backlog"), 10));
    free(cm_test_pubsub_call(&server, "POST", "/control/reset", "", NULL)); /* it was on purpose */
}

Test(google_pubsub, a_missing_topic_is_told_with_what_mends_it)
{
    open_with(NULL, NULL);
    cm_broker_publish(client.broker, "nowhere", &(cm_message_t){.body = CM_STR("x")}, 1);
    cm_test_await_published(&client, 1);
    cr_assert(eq(int, client.published[0].status, CM_MISCONFIGURED));
    cr_assert(eq(str, client.published[0].code, "http-404"));
    cr_assert(ne(ptr, strstr(client.published[0].message, "broker.prefix"), NULL));
    cr_assert(ne(ptr, strstr(client.published[0].message, "pubsub.project"), NULL));
    cr_assert(ne(ptr, strstr(client.published[0].message, "client-manager broker create"), NULL));
    cr_assert(eq(sz, client.downs, 0));
}

static void publish_refused(int status, const char *mends)
{
    char fault[96];
    open_with(NULL, NULL);
    snprintf(fault, sizeof fault, "{\"kind\":\"status\",\"call\":\"publish\",\"status\":%d}",
             status);
    cm_test_pubsub_fault(&server, fault);
    cm_broker_publish(client.broker, NAME, &(cm_message_t){.body = CM_STR("x")}, 1);
    cm_test_await_published(&client, 1);
    cr_assert(eq(int, client.published[0].status, CM_MISCONFIGURED));
    cr_assert(ne(ptr, strstr(client.published[0].message, "topic " NAME), NULL), "%s",
              client.published[0].message);
    cr_assert(ne(ptr, strstr(client.published[0].message, mends), NULL));
}

Test(google_pubsub, a_missing_right_to_a_topic_is_told_with_its_setting)
{
    publish_refused(403, "(pubsub.credentials_file) roles/pubsub.publisher");
}

Test(google_pubsub, whatever_else_refuses_a_publish_is_told_with_its_topic)
{
    publish_refused(302, "HTTP 302");
}

static void pull_both(void)
{
    cm_broker_subscribe(client.broker, "client-manager.other");
    cm_test_keep_pulling(&client, 0, 10);
    cm_test_keep_pulling(&client, 1, 10);
    cm_test_await_counter(&client, &client.refusals, 1);
    publish(1);
    cm_test_await_deliveries(&client, 1);
    cr_assert(eq(sz, client.refusals, 1)); /* of two requests, told once */
    cr_assert(eq(int, client.refusal.status, CM_MISCONFIGURED));
    cr_assert(eq(sz, client.downs, 0));
}

Test(google_pubsub, a_missing_subscription_is_told_while_another_goes_on)
{
    open_with(NULL, NULL);
    pull_both();
    cr_assert(ne(ptr, strstr(client.refusal.message, "client-manager.other"), NULL));
    cr_assert(ne(ptr, strstr(client.refusal.message, "client-manager broker create"), NULL));
}

Test(google_pubsub, a_missing_right_is_told_while_another_goes_on)
{
    open_with(NULL, NULL);
    cm_test_pubsub_create(&server, "client-manager.other", NULL);
    cm_test_pubsub_fault(&server, "{\"kind\":\"status\",\"call\":\"pull\",\"status\":403,"
                                  "\"share\":1.0,\"resource\":\"client-manager.other\"}");
    pull_both();
    cr_assert(ne(ptr, strstr(client.refusal.message, "roles/pubsub.subscriber"), NULL));
}

/* ---- exactly-once delivery ------------------------------------------------------------------- */

static const char exactly_once[] = "\"ackDeadlineSeconds\":10,\"enableExactlyOnceDelivery\":true";

Test(google_pubsub, repeats_only_the_acknowledgements_the_service_names)
{
    char ack_id[512], fault[1024];
    open_with(exactly_once, NULL);
    hold(3);
    ack_id_of(&client.deliveries[1], ack_id);
    snprintf(fault, sizeof fault,
             "{\"kind\":\"status\",\"call\":\"acknowledge\",\"status\":400,\"google\":"
             "\"INVALID_ARGUMENT\",\"details\":[{\"@type\":"
             "\"type.googleapis.com/google.rpc.ErrorInfo\",\"reason\":\"X\",\"metadata\":"
             "{\"%s\":\"TRANSIENT_FAILURE_TRY_AGAIN\"}}]}",
             ack_id);
    cm_test_pubsub_fault(&server, fault);
    ack_all();
    cm_test_await_settled(&client);
    cr_assert(eq(llong, stat_of("acked"), 1)); /* the fault did nothing for the two others */
    cr_assert(eq(llong, cm_test_pubsub_stat(&server, "calls.acknowledge.count"), 2));
}

Test(google_pubsub, forgets_an_acknowledgement_that_came_too_late)
{
    open_with(exactly_once, NULL);
    hold(3);
    cm_test_pubsub_fault(&server, "{\"kind\":\"expire-leases\"}");
    ack_all();
    cm_test_await_settled(&client);
    cr_assert(eq(llong, stat_of("acked"), 0));
    cr_assert(eq(llong, stat_of("staleAcks"), 3));
    cm_test_keep_pulling(&client, 0, 10);
    cm_test_await_deliveries(&client, 6); /* they come again */
    cm_test_await_counter(&client, &client.delivered, 6);
    for (size_t i = 3; i < 6; i++)
        cm_broker_ack(client.broker, &client.deliveries[i].lease, 1);
    cm_test_await_settled(&client);
    cr_assert(eq(llong, stat_of("backlog"), 0));
}

/* ---- what gets lost on the way --------------------------------------------------------------- */

Test(google_pubsub, a_message_whose_acknowledgement_was_lost_comes_again)
{
    open_with(NULL, NULL);
    hold(1);
    cm_test_pubsub_fault(&server, "{\"kind\":\"lose-acks\"}");
    ack_all();
    cm_test_await_settled(&client);
    cm_test_keep_pulling(&client, 0, 10);
    cm_test_await_deliveries(&client, 2);
    cr_assert(eq(str, client.deliveries[1].message_id, client.deliveries[0].message_id));
}

#define OTHER       "client-manager.other"
#define OTHER_STATS "subscriptions[" OTHER "]."

/* Publish to the other subscription, take it and acknowledge it. */
static void pass_through_other(size_t count)
{
    size_t delivered = client.delivered;
    long long acked = cm_test_pubsub_stat(&server, OTHER_STATS "acked");
    for (size_t i = 0; i < count; i++)
        cm_test_publish(&client, OTHER, "x");
    cm_test_await_deliveries(&client, delivered + count);
    for (size_t i = delivered; i < client.delivered; i++)
        cm_broker_ack(client.broker, &client.deliveries[i].lease, 1);
    while (cm_test_pubsub_stat(&server, OTHER_STATS "acked") < acked + (long long)count)
        cm_test_run_for(&(cm_test_client_t *){&client}, 1, 20);
}

Test(google_pubsub, an_acknowledgement_that_hangs_is_repeated_and_no_other_subscription_waits)
{
    cm_pubsub_options_t own = {.answer_ms = 3000};
    open_with(NULL, &own);
    cm_test_pubsub_create(&server, OTHER, NULL);
    cm_broker_subscribe(client.broker, OTHER);
    hold(1);
    cm_test_keep_pulling(&client, 1, 10);
    cm_test_pubsub_fault(&server, "{\"kind\":\"hang\",\"call\":\"acknowledge\"}");
    cm_broker_ack(client.broker, &client.deliveries[0].lease, 1);
    while (cm_test_pubsub_stat(&server, "calls.acknowledge.count") < 1)
        cm_test_run_for(&(cm_test_client_t *){&client}, 1, 20);
    pass_through_other(5);
    cr_assert(eq(sz, client.downs, 0)); /* it hangs all the while */
    cr_assert(eq(llong, stat_of("acked"), 0));
    while (stat_of("acked") < 1)
        cm_test_run_for(&(cm_test_client_t *){&client}, 1, 20);
    cm_test_await_counter(&client, &client.ups, 2);
    pass_through_other(5);
    cm_test_await_settled(&client);
    cr_assert(eq(llong, stat_of("redelivered"), 0));
    cr_assert(eq(sz, client.delivered, 11));
    cr_assert(eq(sz, client.lapsed_count, 0));
}

Test(google_pubsub, a_publish_whose_answer_was_lost_is_not_called_stored)
{
    open_with(NULL, NULL);
    /* Twice: libcurl itself repeats a request once whose connection had been used before. */
    cm_test_pubsub_fault(&server, "{\"kind\":\"drop-publish-answer\",\"count\":2}");
    cm_broker_publish(client.broker, NAME, &(cm_message_t){.body = CM_STR("x")}, 1);
    cm_test_await_published(&client, 1);
    cr_assert(eq(int, client.published[0].status, CM_UNAVAILABLE));
    cm_test_await_counter(&client, &client.downs, 1);
    cm_test_await_counter(&client, &client.ups, 2);
}

Test(google_pubsub, a_service_in_trouble_counts_as_away_until_it_answers)
{
    open_with(NULL, NULL);
    cm_test_pubsub_fault(&server, "{\"kind\":\"status\",\"call\":\"pull\",\"status\":503,"
                                  "\"count\":4,\"body\":\"html\"}");
    cm_test_keep_pulling(&client, 0, 10);
    cm_test_await_counter(&client, &client.downs, 1);
    cr_assert(eq(int, client.link_error.status, CM_UNAVAILABLE));
    cr_assert(eq(str, client.link_error.code, "http-503"));
    cm_test_await_counter(&client, &client.ups, 2);
    publish(1);
    cm_test_await_deliveries(&client, 1);
}

Test(google_pubsub, an_outage_of_cloud_monitoring_is_none_of_the_link)
{
    cm_test_client_t *clients[] = {&client};
    cm_pubsub_options_t own = {.monitoring = "http://127.0.0.1:1"}; /* nobody listens there */
    open_with(NULL, &own);
    for (int i = 0; i < 5; i++) {
        cm_broker_depth(client.broker, 0);
        cm_test_run_for(clients, 1, 60);
    }
    hold(1);
    cr_assert(eq(sz, client.downs, 0));
    cr_assert(eq(sz, client.depths, 0));
}

/* ---- answers that cannot be read ------------------------------------------------------------- */

static void survives(const char *fault)
{
    open_with(NULL, NULL);
    publish(5);
    cm_test_pubsub_fault(&server, fault);
    cm_test_keep_pulling(&client, 0, 10);
    cm_test_await_counter(&client, &client.warnings, 1);
    cr_expect(ne(ptr, strstr(client.warning, NAME), NULL));
    cm_test_await_deliveries(&client, 5); /* when the leases of the unread answer have lapsed */
    cr_assert(eq(sz, client.downs, 0));
    cr_assert(eq(sz, client.delivered, 5));
}

Test(google_pubsub, survives_an_answer_that_ends_too_soon)
{
    survives("{\"kind\":\"truncated-json\",\"call\":\"pull\"}");
}

Test(google_pubsub, survives_an_answer_of_the_wrong_shape)
{
    survives("{\"kind\":\"wrong-json\",\"call\":\"pull\"}");
}

Test(google_pubsub, survives_an_answer_that_is_too_large)
{
    survives("{\"kind\":\"oversized\",\"bytes\":40000000}");
}

Test(google_pubsub, an_answer_to_a_publish_that_cannot_be_read_confirms_nothing)
{
    open_with(NULL, NULL);
    cm_test_pubsub_fault(&server, "{\"kind\":\"wrong-json\",\"call\":\"publish\"}");
    cm_broker_publish(client.broker, NAME, &(cm_message_t){.body = CM_STR("x")}, 1);
    cm_test_await_published(&client, 1);
    cr_assert(eq(int, client.published[0].status, CM_UNAVAILABLE));
    cr_assert(eq(str, client.published[0].code, "malformed"));
}

/* ---- budget and fairness --------------------------------------------------------------------- */

Test(google_pubsub, never_takes_more_than_its_budget)
{
    cm_pubsub_options_t own = {.messages_max = 50, .pulls_max = 10};
    open_with(NULL, &own);
    publish(1000);
    for (size_t i = 1; i <= 40; i++) { /* what is delivered is held, and no longer of the budget */
        cm_broker_pull(client.broker, 0, 3);
        cm_test_await_pulled(&client, 0, i);
        cr_assert(le(llong, stat_of("outstanding"), 50 + (long long)client.delivered));
    }
    cr_assert(gt(sz, client.delivered, 50));
}

Test(google_pubsub, gives_back_what_nobody_pulls)
{
    open_with(NULL, NULL);
    publish(20);
    cm_broker_pull(client.broker, 0, 5);
    cm_test_await_deliveries(&client, 5);
    cm_test_await_settled(&client);
    cr_assert(eq(llong, stat_of("nacked"), 15));
    cr_assert(eq(llong, stat_of("outstanding"), 5));
    cr_assert(eq(llong, stat_of("pullsWaiting"), 0));
    cm_test_keep_pulling(&client, 0, 100);
    cm_test_await_deliveries(&client, 20);
    cr_assert(eq(sz, client.lapsed_count, 0));
}

Test(google_pubsub, waiting_pulls_do_not_hold_up_a_publish)
{
    enum { SUBSCRIPTIONS = 150 };
    char name[32];
    cm_test_pubsub_create(&server, NAME, NULL);
    open_client(NULL);
    for (int i = 0; i < SUBSCRIPTIONS; i++) {
        snprintf(name, sizeof name, "client-manager.n%d", i);
        cm_test_pubsub_create(&server, name, NULL);
        cm_test_keep_pulling(&client, cm_broker_subscribe(client.broker, name), 10);
    }
    while (cm_test_pubsub_stat(&server, "connections.open") < 2 * SUBSCRIPTIONS)
        cm_test_run_for(&(cm_test_client_t *){&client}, 1, 20);
    publish(1);
    cr_assert(eq(llong, cm_test_pubsub_stat(&server, "calls.pull.answers.200"), 0));
}

/* ---- leases, silence ------------------------------------------------------------------------- */

Test(google_pubsub, extends_no_lease_for_longer_than_it_may)
{
    cm_broker_options_t options = {.uri = server.uri,
                                   .consumer = "a",
                                   .lease_ms = 30000,
                                   .poll_ms = 250,
                                   .hold_max_ms = 1};
    cm_test_pubsub_create(&server, NAME, NULL);
    cm_test_client_begin_as(&client, &cm_broker_google_pubsub, &options);
    cm_test_client_await_up(&client);
    cm_broker_subscribe(client.broker, NAME);
    hold(1);
    cm_test_await_counter(&client, &client.lapsed_count, 1);
    cr_assert(eq(llong, cm_test_pubsub_stat(&server, "calls.modifyAckDeadline.count"), 0));
    ack_all(); /* of no effect */
    cm_test_await_settled(&client);
    cr_assert(eq(llong, cm_test_pubsub_stat(&server, "calls.acknowledge.count"), 0));
}

Test(google_pubsub, counts_a_lease_from_the_first_byte_of_its_answer)
{
    open_with(NULL, NULL);
    publish(1); /* some 350 bytes, at 30 a second: longer than the lease of 10 s */
    cm_test_pubsub_fault(&server, "{\"kind\":\"slow-body\",\"call\":\"pull\","
                                  "\"bytesPerSecond\":30}");
    cm_test_keep_pulling(&client, 0, 10);
    cm_test_await_deliveries(&client, 1); /* another request has got it by then */
    cm_test_await_counter(&client, &client.lapsed_count, 1); /* dropped, and counted */
    cr_assert(eq(sz, client.delivered, 1));
}

Test(google_pubsub, requests_that_bring_nothing_though_there_is_something_are_begun_anew)
{
    cm_pubsub_options_t own = {.watchdog_ms = 1500};
    open_with(NULL, &own);
    cm_test_pubsub_fault(&server, "{\"kind\":\"hang\",\"call\":\"pull\",\"count\":2}");
    cm_test_keep_pulling(&client, 0, 10);
    publish(1);
    cm_test_await_deliveries(&client, 1);
    cr_assert(eq(sz, client.warnings, 1));
    cr_assert(ne(ptr, strstr(client.warning, "there is a backlog"), NULL));
    cr_assert(eq(sz, client.downs, 0));
}
