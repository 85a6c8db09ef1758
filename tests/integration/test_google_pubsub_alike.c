/* What only Pub/Sub has and needs no fault to be shown: the stand-in and Google's emulator, where
 * it is installed, do it alike. Runs once for each of these rows of cm_test_brokers. */
#include "runtime/broker/google_pubsub.h"
#include "tests/support/broker_harness.h"
#include "tests/support/pubsub_server.h"

#include <criterion/criterion.h>
#include <criterion/hooks.h>
#include <criterion/new/assert.h>
#include <criterion/parameterized.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME "client-manager.writer"

typedef struct {
    cm_test_pubsub_t server;
    cm_test_client_t client;
    bool emulator;
} world_t;

/* The rows "pubsub" and "emulator"; what differs in others is no matter here. */
static size_t choose(size_t rows[CM_TEST_BROKERS_MAX])
{
    size_t all[CM_TEST_BROKERS_MAX], count = 0;
    size_t found = cm_test_broker_rows(all);
    for (size_t i = 0; i < found; i++) {
        const char *name = cm_test_brokers[all[i]].name;
        if (strcmp(name, "pubsub") == 0 || strcmp(name, "emulator") == 0)
            rows[count++] = all[i];
    }
    return count;
}

static void begin(world_t *self, size_t row)
{
    self->emulator = strcmp(cm_test_brokers[row].name, "emulator") == 0;
    if (self->emulator)
        cm_test_pubsub_start_emulator(&self->server, NULL);
    else
        cm_test_pubsub_start(&self->server, NULL);
}

static void end(world_t *self)
{
    cm_test_client_close(&self->client);
    if (!self->emulator)
        cr_assert(eq(llong, cm_test_pubsub_stat(&self->server, "violations.count"), 0));
    cm_test_pubsub_stop(&self->server);
}

#define PUBSUB_TEST(name)                                                                          \
    static void name(world_t *world, cm_test_client_t *client);                                    \
    ParameterizedTestParameters(google_pubsub_alike, name)                                         \
    {                                                                                              \
        static size_t rows[CM_TEST_BROKERS_MAX];                                                   \
        return cr_make_param_array(size_t, rows, choose(rows));                                    \
    }                                                                                              \
    ParameterizedTest(size_t *row, google_pubsub_alike, name, .timeout = 60)                       \
    {                                                                                              \
        world_t world = {0};                                                                       \
        begin(&world, *row);                                                                       \
        name(&world, &world.client);                                                               \
        end(&world);                                                                               \
    }                                                                                              \
    static void name(world_t *world, cm_test_client_t *client)

ReportHook(PRE_ALL)(struct criterion_test_set *tests)
{
    (void)tests;
    cm_test_broker_note_absent();
}

/* A subscription NAME and the client of it. */
static void open_with(world_t *self, const char *settings)
{
    cm_test_pubsub_create(&self->server, NAME, settings);
    cm_test_client_open(&self->client, &cm_broker_google_pubsub, self->server.uri, "a", 0);
    cr_assert(eq(int, cm_broker_subscribe(self->client.broker, NAME), 0));
}

static void expect_nothing_left(cm_test_client_t *client)
{
    cm_test_await_settled(client);
    cm_broker_depth_t depth = cm_test_depth(client, 0);
    cr_assert(eq(i64, depth.pending + depth.ready + depth.deferred, 0));
}

/* ---- keys and contents ----------------------------------------------------------------------- */

PUBSUB_TEST(carries_ordering_keys_and_their_order)
{
    open_with(world, "\"ackDeadlineSeconds\":10,\"enableMessageOrdering\":true");
    char body[8];
    for (int i = 0; i < 30; i++) {
        snprintf(body, sizeof body, "%d", i);
        cm_message_t message = {.body = cm_str(body),
                                .ordering_key =
                                    i % 3 ? cm_str(i % 3 == 1 ? "a" : "b") : CM_STR_NONE};
        cm_broker_publish(client->broker, NAME, &message, 1);
    }
    cm_test_keep_pulling(client, 0, 100);
    int last[2] = {0, 0};
    for (size_t done = 0; done < 30;) { /* of one key the next comes after an acknowledgement */
        cm_test_await_deliveries(client, done + 1);
        for (; done < client->delivered; done++) {
            const cm_test_delivery_t *got = &client->deliveries[done];
            int number = atoi(got->body.ptr);
            if (number % 3) {
                cr_assert(cm_str_is(got->ordering_key, number % 3 == 1 ? "a" : "b"));
                cr_assert(gt(int, number, last[number % 3 - 1]));
                last[number % 3 - 1] = number;
            } else {
                cr_assert(zero(ptr, (void *)got->ordering_key.ptr));
            }
            cm_broker_ack(client->broker, &got->lease, 1);
        }
    }
    expect_nothing_left(client);
}

PUBSUB_TEST(carries_a_message_that_has_nothing)
{
    open_with(world, NULL);
    cm_broker_publish(client->broker, NAME, &(cm_message_t){.body = CM_STR("")}, 1);
    cm_test_take(client, 0, 1);
    cr_assert(eq(sz, client->deliveries[0].body.len, 0));
    cr_assert(eq(sz, client->deliveries[0].attribute_count, 0));
}

PUBSUB_TEST(carries_the_trace_context_of_others)
{
    open_with(world, NULL);
    cm_attribute_t trace = {CM_STR("googclient_traceparent"), CM_STR("00-1-2-01")};
    cm_message_t message = {.body = CM_STR("x"), .attributes = &trace, .attribute_count = 1};
    cm_broker_publish(client->broker, NAME, &message, 1);
    cm_test_take(client, 0, 1);
    cr_assert(eq(sz, client->deliveries[0].attribute_count, 1));
    cr_assert(cm_str_eq(client->deliveries[0].attributes[0].name, trace.name));
    cr_assert(cm_str_eq(client->deliveries[0].attributes[0].value, trace.value));
}

/* ---- batches --------------------------------------------------------------------------------- */

static void pass_all(world_t *self, const char *settings, size_t count)
{
    cm_test_client_t *client = &self->client;
    bool *seen = calloc(count, sizeof *seen);
    char body[24];
    open_with(self, settings);
    for (size_t i = 0; i < count; i++) {
        snprintf(body, sizeof body, "%zu", i);
        cm_broker_publish(client->broker, NAME, &(cm_message_t){.body = cm_str(body)}, i);
    }
    cm_test_await_published(client, count);
    cm_test_keep_pulling(client, 0, count);
    for (size_t done = 0; done < count; done++) {
        cm_test_await_deliveries(client, done + 1);
        size_t number = strtoul(client->deliveries[done].body.ptr, NULL, 10);
        cr_assert(lt(sz, number, count));
        cr_assert(not(seen[number]));
        seen[number] = true;
        cm_broker_ack(client->broker, &client->deliveries[done].lease, 1);
    }
    expect_nothing_left(client);
    free(seen);
}

PUBSUB_TEST(more_than_one_request_may_carry_comes_and_goes_whole)
{
    pass_all(world, NULL, 2500); /* a publish and an acknowledgement carry 1000 each */
    cr_assert(eq(sz, client->downs, 0));
}

PUBSUB_TEST(exactly_once_delivery_is_spoken)
{
    pass_all(world, "\"ackDeadlineSeconds\":10,\"enableExactlyOnceDelivery\":true", 300);
    cr_assert(eq(sz, client->downs, 0));
}

/* ---- what is missing ------------------------------------------------------------------------- */

PUBSUB_TEST(a_topic_that_is_missing_is_told_to_who_publishes)
{
    open_with(world, NULL);
    cm_broker_publish(client->broker, "nowhere", &(cm_message_t){.body = CM_STR("x")}, 1);
    cm_test_await_published(client, 1);
    cr_assert(eq(int, client->published[0].status, CM_MISCONFIGURED));
    cr_assert(eq(str, client->published[0].code, "http-404"));
    cr_assert(eq(sz, client->downs, 0));
}

PUBSUB_TEST(a_subscription_that_is_missing_is_refused_and_another_goes_on)
{
    open_with(world, NULL);
    cr_assert(eq(int, cm_broker_subscribe(client->broker, "client-manager.other"), 1));
    cm_test_keep_pulling(client, 1, 10);
    cm_test_await_counter(client, &client->refusals, 1);
    cr_assert(eq(int, client->refusal.status, CM_MISCONFIGURED));
    cr_assert(ne(ptr, strstr(client->refusal.message, "client-manager broker create"), NULL));
    cm_test_publish(client, NAME, "x");
    cm_test_take(client, 0, 1);
    cr_assert(eq(sz, client->downs, 0));
}
