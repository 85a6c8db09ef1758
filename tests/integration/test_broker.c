/* The conformance suite: what every driver of runtime/broker promises, on each row of
 * cm_test_brokers that can be had here (Google's emulator: where it is installed). What only one
 * broker can do or suffer is tested beside, as in test_redis_streams.c. */
#include "runtime/clock.h"
#include "tests/support/broker_harness.h"

#include <criterion/criterion.h>
#include <criterion/hooks.h>
#include <criterion/new/assert.h>
#include <criterion/parameterized.h>
#include <stdio.h>
#include <string.h>

#define TOPIC "client-manager.writer"

enum { LEASE_MS = 1000 };

typedef struct {
    const cm_test_broker_row_t *row;
    cm_test_server_t *server;
    char uri[256];
} world_t;

/* A test for each row, given by its number: parameters may hold no pointers. */
#define BROKER_TEST(name)                                                                          \
    static void name(world_t *world);                                                              \
    ParameterizedTestParameters(broker, name)                                                      \
    {                                                                                              \
        static size_t rows[CM_TEST_BROKERS_MAX];                                                   \
        return cr_make_param_array(size_t, rows, cm_test_broker_rows(rows));                       \
    }                                                                                              \
    ParameterizedTest(size_t *row, broker, name, .timeout = 60)                                    \
    {                                                                                              \
        world_t world = {.row = &cm_test_brokers[*row]};                                           \
        cm_test_broker_need(world.row, #name);                                                     \
        world.server = world.row->start(world.uri);                                                \
        name(&world);                                                                              \
        world.row->stop(world.server);                                                             \
    }                                                                                              \
    static void name(world_t *world)

ReportHook(PRE_ALL)(struct criterion_test_set *tests)
{
    (void)tests;
    cm_test_broker_note_absent();
}

static void open_client(world_t *world, cm_test_client_t *client, const char *consumer,
                        int lease_ms)
{
    cm_test_client_open(client, world->row->driver, world->uri, consumer, lease_ms);
    cr_assert(eq(int, cm_broker_subscribe(client->broker, TOPIC), 0));
}

static const char *text_of(const cm_test_delivery_t *delivery)
{
    return delivery->body.ptr; /* the copy in the arena ends with a NUL */
}

static void ack(cm_test_client_t *client, size_t delivery)
{
    cm_broker_ack(client->broker, &client->deliveries[delivery].lease, 1);
}

/* ---- publish and deliver --------------------------------------------------------------------- */

BROKER_TEST(delivers_in_the_order_of_publishing)
{
    cm_test_client_t client;
    open_client(world, &client, "a", 0);
    char body[16];
    for (int i = 0; i < 300; i++) {
        snprintf(body, sizeof body, "%d", i);
        cm_broker_publish(client.broker, TOPIC, &(cm_message_t){.body = cm_str(body)}, 1);
    }
    cm_test_keep_pulling(&client, 0, 70);
    cm_test_await_deliveries(&client, 300);
    for (int i = 0; i < 300; i++) {
        snprintf(body, sizeof body, "%d", i);
        cr_assert(eq(str, (char *)text_of(&client.deliveries[i]), body));
        cr_assert(eq(int, client.deliveries[i].attempt, 1));
    }
    cm_test_client_close(&client);
}

BROKER_TEST(keeps_body_and_attributes_byte_for_byte)
{
    cm_test_client_t client;
    open_client(world, &client, "a", 0);
    char bytes[256], long_value[1024];
    for (int i = 0; i < 256; i++)
        bytes[i] = (char)i;
    memset(long_value, 'x', sizeof long_value);
    cm_attribute_t attributes[] = {
        {CM_STR("retryCount"), CM_STR("3")},
        {CM_STR("empty"), CM_STR("")},
        {CM_STR("utf-8"), CM_STR("gr\xc3\xbc\xc3\x9f")},
        {CM_STR("long"), {long_value, sizeof long_value}},
    };
    cm_message_t message = {{bytes, sizeof bytes}, attributes, 4};
    cm_broker_publish(client.broker, TOPIC, &message, 7);
    cm_test_take(&client, 0, 1);
    const cm_test_delivery_t *got = &client.deliveries[0];
    cr_assert(cm_str_eq(got->body, message.body));
    cr_assert(eq(sz, got->attribute_count, 4));
    for (size_t i = 0; i < 4; i++) { /* a broker may reorder them */
        bool found = false;
        for (size_t j = 0; j < 4; j++)
            found |= cm_str_eq(got->attributes[j].name, attributes[i].name) &&
                     cm_str_eq(got->attributes[j].value, attributes[i].value);
        cr_assert(found);
    }
    cm_test_client_close(&client);
}

BROKER_TEST(carries_an_empty_body_and_a_hundred_attributes)
{
    cm_test_client_t client;
    open_client(world, &client, "a", 0);
    char names[CM_ATTRIBUTES_MAX][8];
    cm_attribute_t attributes[CM_ATTRIBUTES_MAX];
    for (int i = 0; i < CM_ATTRIBUTES_MAX; i++) {
        snprintf(names[i], sizeof names[i], "n%d", i);
        attributes[i] = (cm_attribute_t){cm_str(names[i]), cm_str(names[i])};
    }
    cm_message_t message = {CM_STR(""), attributes, CM_ATTRIBUTES_MAX};
    cm_broker_publish(client.broker, TOPIC, &message, 7);
    cm_test_take(&client, 0, 1);
    cr_assert(ne(ptr, (void *)client.deliveries[0].body.ptr, NULL));
    cr_assert(eq(sz, client.deliveries[0].body.len, 0));
    cr_assert(eq(sz, client.deliveries[0].attribute_count, CM_ATTRIBUTES_MAX));
    cm_test_client_close(&client);
}

BROKER_TEST(confirms_each_publish_under_its_token)
{
    cm_test_client_t client;
    open_client(world, &client, "a", 0);
    cm_message_t message = {.body = CM_STR("x")};
    cm_broker_publish(client.broker, TOPIC, &message, UINT64_MAX);
    cm_broker_publish(client.broker, "somewhere-else", &message, 0);
    cm_test_await_published(&client, 2);
    for (int i = 0; i < 2; i++)
        cr_assert(eq(int, client.published[i].status, CM_OK));
    cr_assert(ne(u64, client.published[0].token, client.published[1].token));
    cr_assert(eq(u64, client.published[0].token + client.published[1].token, UINT64_MAX));
    cm_test_client_close(&client);
}

BROKER_TEST(refuses_a_message_with_too_many_attributes)
{
    cm_test_client_t client;
    open_client(world, &client, "a", 0);
    cm_attribute_t attributes[CM_ATTRIBUTES_MAX + 1];
    for (size_t i = 0; i <= CM_ATTRIBUTES_MAX; i++)
        attributes[i] = (cm_attribute_t){CM_STR("n"), CM_STR("v")};
    cm_message_t message = {CM_STR(""), attributes, CM_ATTRIBUTES_MAX + 1};
    cm_broker_publish(client.broker, TOPIC, &message, 7);
    cr_assert(eq(sz, client.published_count, 0)); /* told as an event, not from inside the call */
    cm_test_await_published(&client, 1);
    cr_assert(eq(int, client.published[0].status, CM_PERMANENT));
    cm_test_client_close(&client);
}

BROKER_TEST(tells_when_a_message_was_published)
{
    cm_test_client_t client;
    open_client(world, &client, "a", 0);
    int64_t before = cm_clock_epoch_ms();
    cm_test_publish(&client, TOPIC, "x");
    int64_t after = cm_clock_epoch_ms();
    cm_test_take(&client, 0, 1);
    cr_assert(ge(i64, client.deliveries[0].publish_ms, before - 1));
    cr_assert(le(i64, client.deliveries[0].publish_ms, after + 1));
    cr_assert(ne(chr, client.deliveries[0].message_id[0], 0));
    cm_test_client_close(&client);
}

BROKER_TEST(never_delivers_more_than_a_pull_asked_for)
{
    cm_test_client_t client;
    open_client(world, &client, "a", 0);
    for (int i = 0; i < 20; i++)
        cm_test_publish(&client, TOPIC, "x");
    cm_broker_pull(client.broker, 0, 7);
    cm_test_await_pulled(&client, 0, 1);
    cr_assert(le(sz, client.delivered, 7));
    cr_assert(eq(sz, client.delivered, client.last_pull[0]));
    cm_test_client_close(&client);
}

BROKER_TEST(ends_a_pull_that_finds_nothing)
{
    cm_test_client_t client;
    open_client(world, &client, "a", 0);
    cm_broker_pull(client.broker, 0, 10);
    cm_test_await_pulled(&client, 0, 1);
    cr_assert(eq(sz, client.last_pull[0], 0));
    cr_assert(cm_broker_settled(client.broker));
    cm_test_client_close(&client);
}

BROKER_TEST(keeps_subscriptions_apart)
{
    cm_test_client_t client;
    open_client(world, &client, "a", 0);
    int other = cm_broker_subscribe(client.broker, "client-manager.republisher");
    cr_assert(eq(int, other, 1));
    cm_test_keep_pulling(&client, 0, 10);
    cm_test_keep_pulling(&client, other, 10);
    cm_test_publish(&client, "client-manager.republisher", "second");
    cm_test_publish(&client, TOPIC, "first");
    cm_test_await_deliveries(&client, 2);
    for (int i = 0; i < 2; i++)
        cr_assert(eq(str, (char *)text_of(&client.deliveries[i]),
                     client.deliveries[i].subscription == other ? "second" : "first"));
    cm_test_client_close(&client);
}

/* ---- acknowledge, defer, release ------------------------------------------------------------- */

BROKER_TEST(an_acknowledged_message_is_gone)
{
    cm_test_client_t client;
    open_client(world, &client, "a", 0);
    cm_test_publish(&client, TOPIC, "x");
    cm_test_take(&client, 0, 1);
    cr_assert(eq(i64, cm_test_depth(&client, 0).pending, 1));
    ack(&client, 0);
    cr_assert(not(cm_broker_settled(client.broker)));
    cm_test_await_settled(&client);
    cm_broker_depth_t depth = cm_test_depth(&client, 0);
    cr_assert(eq(i64, depth.pending, 0));
    cr_assert(eq(i64, depth.ready, 0));
    cm_test_client_close(&client);
}

BROKER_TEST(a_lease_given_back_twice_or_unknown_changes_nothing)
{
    cm_test_client_t client;
    open_client(world, &client, "a", 0);
    cm_test_publish(&client, TOPIC, "x");
    cm_test_keep_pulling(&client, 0, 10);
    cm_test_await_deliveries(&client, 1);
    cm_broker_lease_t leases[] = {client.deliveries[0].lease, client.deliveries[0].lease, 0, 12345,
                                  UINT64_MAX};
    cm_broker_ack(client.broker, leases, 5);
    cm_broker_defer(client.broker, leases[0], 0);
    cm_broker_release(client.broker, leases, 5);
    cm_test_await_settled(&client);
    cm_broker_depth_t depth = cm_test_depth(&client, 0);
    cr_assert(eq(i64, depth.pending + depth.ready + depth.deferred, 0));
    cm_test_client_close(&client);
}

BROKER_TEST(a_deferred_message_comes_again_unchanged_and_not_before_its_time)
{
    cm_test_client_t client;
    open_client(world, &client, "a", 0);
    cm_attribute_t attribute = {CM_STR("retryCount"), CM_STR("2")};
    cm_message_t message = {{"\0\xff\r\n", 4}, &attribute, 1};
    cm_broker_publish(client.broker, TOPIC, &message, 1);
    cm_test_keep_pulling(&client, 0, 10);
    for (size_t round = 1; round <= 2; round++) { /* its id survives more than one defer */
        cm_test_await_deliveries(&client, round);
        int64_t until = cm_clock_epoch_ms() + 300;
        cm_broker_defer(client.broker, client.deliveries[round - 1].lease, until);
        cm_test_await_deliveries(&client, round + 1);
        const cm_test_delivery_t *first = &client.deliveries[0], *again = &client.deliveries[round];
        cr_assert(ge(i64, again->arrived_ms, until));
        cr_assert(eq(str, (char *)again->message_id, (char *)first->message_id));
        cr_assert(eq(i64, again->publish_ms, first->publish_ms));
        cr_assert(cm_str_eq(again->body, message.body));
        cr_assert(eq(sz, again->attribute_count, 1));
        cr_assert(cm_str_is(again->attributes[0].name, "retryCount"));
        cr_assert(cm_str_is(again->attributes[0].value, "2"));
        cr_assert(ne(u64, again->lease, client.deliveries[round - 1].lease));
    }
    ack(&client, 2);
    cm_test_await_settled(&client);
    cm_broker_depth_t depth = cm_test_depth(&client, 0);
    cr_assert(eq(i64, depth.pending + depth.ready + depth.deferred, 0));
    cm_test_client_close(&client);
}

BROKER_TEST(a_due_message_is_not_held_up_by_waiting_ones)
{
    cm_test_client_t client;
    open_client(world, &client, "a", 0);
    cm_test_publish(&client, TOPIC, "later");
    cm_test_publish(&client, TOPIC, "soon");
    cm_test_keep_pulling(&client, 0, 10);
    cm_test_await_deliveries(&client, 2);
    int64_t now = cm_clock_epoch_ms();
    cm_broker_defer(client.broker, client.deliveries[0].lease, now + 3600000);
    cm_broker_defer(client.broker, client.deliveries[1].lease, now + 100);
    cm_test_await_deliveries(&client, 3);
    cr_assert(eq(str, (char *)text_of(&client.deliveries[2]), "soon"));
    cr_assert(eq(i64, cm_test_depth(&client, 0).deferred, 1));
    cm_test_client_close(&client);
}

BROKER_TEST(a_deferred_message_outlives_the_client_that_deferred_it)
{
    cm_test_client_t first, second;
    open_client(world, &first, "a", 0);
    cm_test_publish(&first, TOPIC, "x");
    cm_test_take(&first, 0, 1);
    cm_broker_defer(first.broker, first.deliveries[0].lease, cm_clock_epoch_ms() + 200);
    cm_test_await_settled(&first);
    cm_test_client_close(&first);
    open_client(world, &second, "b", 0);
    cm_test_keep_pulling(&second, 0, 10);
    cm_test_await_deliveries(&second, 1);
    cr_assert(eq(str, (char *)text_of(&second.deliveries[0]), "x"));
    cm_test_client_close(&second);
}

static bool has_one(void *ctx)
{
    return ((cm_test_client_t *)ctx)->delivered > 0;
}

BROKER_TEST(a_released_message_goes_to_another_client_with_its_attempt_not_counted)
{
    cm_test_client_t first, second, *both[] = {&first, &second};
    open_client(world, &first, "a", 0); /* leases of 30 s: waiting for a lapse would fail */
    cm_test_publish(&first, TOPIC, "x");
    cm_test_take(&first, 0, 1);
    open_client(world, &second, "b", 0);
    cm_test_keep_pulling(&second, 0, 10); /* is waiting already when the message is given back */
    cm_test_await_pulled(&second, 0, 2);
    cm_broker_release(first.broker, &first.deliveries[0].lease, 1);
    cm_test_await_settled(&first);
    /* Both are alive: what a request of the first that still waits is given, it gives back. */
    cr_assert(cm_test_run_all(both, 2, has_one, &second, CM_TEST_DEADLINE_MS));
    cr_assert(
        eq(str, (char *)second.deliveries[0].message_id, (char *)first.deliveries[0].message_id));
    cr_assert(eq(int, second.deliveries[0].attempt, 1));
    cm_test_client_close(&second);
    cm_test_client_close(&first);
}

BROKER_TEST(a_released_message_can_come_back_to_the_same_client)
{
    cm_test_client_t client;
    open_client(world, &client, "a", 0);
    cm_test_publish(&client, TOPIC, "x");
    cm_test_keep_pulling(&client, 0, 10);
    cm_test_await_deliveries(&client, 1);
    cm_broker_release(client.broker, &client.deliveries[0].lease, 1);
    cm_test_await_deliveries(&client, 2);
    cr_assert(eq(int, client.deliveries[1].attempt, 1));
    cm_test_client_close(&client);
}

/* ---- leases ---------------------------------------------------------------------------------- */

BROKER_TEST(what_a_dead_client_held_goes_to_another)
{
    cm_test_client_t dead, alive;
    open_client(world, &dead, "a", LEASE_MS);
    for (int i = 0; i < 5; i++)
        cm_test_publish(&dead, TOPIC, "x");
    cm_test_take(&dead, 0, 5);
    ack(&dead, 0);
    cm_test_await_settled(&dead);
    cm_test_client_close(&dead);
    open_client(world, &alive, "b", LEASE_MS);
    cm_test_keep_pulling(&alive, 0, 10);
    cm_test_await_deliveries(&alive, 4);
    for (int i = 0; i < 4; i++)
        cr_assert(eq(int, alive.deliveries[i].attempt, 2));
    cm_test_client_close(&alive);
}

BROKER_TEST(what_is_held_is_kept_from_others_for_many_leases)
{
    cm_test_client_t holder, other, *both[] = {&holder, &other};
    open_client(world, &holder, "a", LEASE_MS);
    cm_test_publish(&holder, TOPIC, "x");
    cm_test_take(&holder, 0, 1);
    open_client(world, &other, "b", LEASE_MS);
    cm_test_keep_pulling(&other, 0, 10);
    cm_test_run_for(both, 2, 4 * LEASE_MS);
    cr_assert(eq(sz, other.delivered, 0));
    cr_assert(eq(sz, holder.lapsed_count, 0));
    cm_test_client_close(&holder); /* and not because the other could not have it */
    cm_test_await_deliveries(&other, 1);
    cr_assert(eq(int, other.deliveries[0].attempt, 2)); /* the extensions count for nothing */
    cm_test_client_close(&other);
}

static bool has_lapsed(void *ctx)
{
    return ((cm_test_client_t *)ctx)->lapsed_count > 0;
}

BROKER_TEST(no_lease_is_extended_for_longer_than_it_may)
{
    cm_test_client_t holder, other, *both[] = {&holder, &other};
    cm_broker_options_t options = {
        .uri = world->uri, .consumer = "a", .lease_ms = LEASE_MS, .poll_ms = 250, .hold_max_ms = 1};
    cm_test_client_begin_as(&holder, world->row->driver, &options);
    cm_test_client_await_up(&holder);
    cr_assert(eq(int, cm_broker_subscribe(holder.broker, TOPIC), 0));
    cm_test_publish(&holder, TOPIC, "x");
    cm_test_take(&holder, 0, 1);
    open_client(world, &other, "b", LEASE_MS);
    cm_test_keep_pulling(&other, 0, 10);
    cr_assert(cm_test_run_all(both, 2, has_lapsed, &holder, CM_TEST_DEADLINE_MS));
    cr_assert(cm_test_run_all(both, 2, has_one, &other, CM_TEST_DEADLINE_MS));
    ack(&holder, 0); /* of no effect */
    cm_test_await_settled(&holder);
    ack(&other, 0);
    cm_test_await_settled(&other);
    cr_assert(eq(sz, other.lapsed_count, 0));
    cm_test_client_close(&other);
    cm_test_client_close(&holder);
}

BROKER_TEST(a_client_that_was_stopped_is_told_what_lapsed_and_takes_nothing_back)
{
    cm_test_client_t stopped, other, *both[] = {&stopped, &other};
    open_client(world, &stopped, "a", LEASE_MS);
    cm_test_publish(&stopped, TOPIC, "x");
    cm_test_take(&stopped, 0, 1);
    open_client(world, &other, "b", LEASE_MS);
    cm_test_keep_pulling(&other, 0, 10);
    cm_test_await_deliveries(&other, 1); /* meanwhile the first client's loop does not run */
    cm_test_run_for(both, 2, 2 * LEASE_MS);
    cr_assert(eq(sz, stopped.lapsed_count, 1));
    cr_assert(eq(u64, stopped.lapsed[0], stopped.deliveries[0].lease));
    cr_assert(eq(sz, other.lapsed_count, 0));
    cm_broker_release(stopped.broker, &stopped.deliveries[0].lease, 1);
    cm_broker_defer(stopped.broker, stopped.deliveries[0].lease, 0);
    cm_test_await_settled(&stopped);
    cr_assert(eq(i64, cm_test_depth(&other, 0).pending, 1)); /* still the other's */
    ack(&other, 0);
    cm_test_await_settled(&other);
    cr_assert(eq(i64, cm_test_depth(&other, 0).pending, 0));
    cm_test_client_close(&other);
    cm_test_client_close(&stopped);
}

BROKER_TEST(giving_back_late_takes_nothing_from_the_client_that_has_it_now)
{
    cm_test_client_t stopped, other;
    open_client(world, &stopped, "a", LEASE_MS);
    for (int i = 0; i < 2; i++)
        cm_test_publish(&stopped, TOPIC, "x");
    cm_test_take(&stopped, 0, 2);
    open_client(world, &other, "b", LEASE_MS);
    cm_test_keep_pulling(&other, 0, 10);
    cm_test_await_deliveries(&other, 2);
    /* The lapse is not noticed yet: no turn of this client's loop has passed. */
    cm_broker_release(stopped.broker, &stopped.deliveries[0].lease, 1);
    cm_broker_defer(stopped.broker, stopped.deliveries[1].lease, 0);
    cm_test_await_settled(&stopped);
    cm_broker_depth_t depth = cm_test_depth(&other, 0);
    cr_assert(eq(i64, depth.pending, 2));
    cr_assert(eq(i64, depth.deferred, 0));
    cr_assert(eq(sz, other.delivered, 2));
    cm_test_client_close(&other);
    cm_test_client_close(&stopped);
}

BROKER_TEST(a_client_that_was_stopped_does_not_take_an_old_answer_for_new)
{
    cm_test_client_t stopped, other, *stopped_p = &stopped;
    open_client(world, &stopped, "a", LEASE_MS);
    open_client(world, &other, "b", LEASE_MS);
    cm_broker_pull(stopped.broker, 0, 10);
    cm_test_run_for(&stopped_p, 1, 30); /* the pull waits at the broker, and there it is answered */
    cm_test_publish(&other, TOPIC, "x");
    cm_test_keep_pulling(&other, 0, 10);
    cm_test_await_deliveries(&other, 1);
    cm_test_await_pulled(&stopped, 0, 1);
    cr_assert(eq(sz, stopped.delivered, 0));
    cm_test_client_close(&other);
    cm_test_client_close(&stopped);
}

/* ---- a broker that goes away ----------------------------------------------------------------- */

static bool is_up_again(void *ctx)
{
    return ((cm_test_client_t *)ctx)->ups > 1;
}

BROKER_TEST(what_was_acknowledged_during_a_cut_is_confirmed_after_it)
{
    cm_test_client_t client;
    open_client(world, &client, "a", 0);
    for (int i = 0; i < 3; i++)
        cm_test_publish(&client, TOPIC, "x");
    cm_test_take(&client, 0, 3);
    world->row->cut(world->server);
    ack(&client, 0);
    cm_broker_defer(client.broker, client.deliveries[1].lease, cm_clock_epoch_ms() + 3600000);
    cm_broker_release(client.broker, &client.deliveries[2].lease, 1);
    cr_assert(cm_test_run(&client, is_up_again, &client));
    cm_test_await_settled(&client);
    cm_broker_depth_t depth = cm_test_depth(&client, 0);
    cr_assert(eq(i64, depth.pending + depth.ready, 1)); /* the released one */
    cr_assert(eq(i64, depth.deferred, 1));
    cr_assert(eq(sz, client.downs, 1));
    cr_assert(eq(int, client.link_error.status, CM_UNAVAILABLE));
    cm_test_client_close(&client);
}

BROKER_TEST(pulls_go_on_after_a_cut)
{
    cm_test_client_t client;
    open_client(world, &client, "a", 0);
    cm_test_keep_pulling(&client, 0, 10);
    cm_test_await_pulled(&client, 0, 1);
    for (size_t i = 1; i <= 3; i++) {
        world->row->cut(world->server);
        size_t before = client.ups;
        while (client.ups == before) /* each cut is noticed before the next */
            cm_test_run_for(&(cm_test_client_t *){&client}, 1, 5);
        cm_test_publish(&client, TOPIC, "x");
        cm_test_await_deliveries(&client, i);
    }
    cr_assert(eq(sz, client.lapsed_count, 0));
    cr_assert(eq(sz, client.lost_events, 0));
    cm_test_client_close(&client);
}

BROKER_TEST(a_publish_during_a_cut_ends_as_unavailable)
{
    cm_test_client_t client;
    open_client(world, &client, "a", 0);
    world->row->cut(world->server);
    cm_broker_publish(client.broker, TOPIC, &(cm_message_t){.body = CM_STR("x")}, 5);
    cm_test_await_published(&client, 1);
    cr_assert(eq(int, client.published[0].status, CM_UNAVAILABLE));
    cr_assert(eq(u64, client.published[0].token, 5));
    cm_test_client_close(&client);
}

static bool is_down(void *ctx)
{
    return ((cm_test_client_t *)ctx)->downs > 0;
}

BROKER_TEST(a_broker_that_is_away_at_the_start_is_no_error)
{
    cm_test_client_t client;
    world->row->stop(world->server);
    cm_test_client_begin(&client, world->row->driver, world->uri, "a", 0);
    cm_broker_subscribe(client.broker, TOPIC);
    cm_broker_pull(client.broker, 0, 10);
    cr_assert(cm_test_run(&client, is_down, &client));
    cr_assert(eq(int, client.link_error.status, CM_UNAVAILABLE));
    cm_test_await_pulled(&client, 0, 1);
    cr_assert(eq(sz, client.last_pull[0], 0));
    cm_test_client_close(&client);
    world->server = world->row->start(world->uri);
}

/* ---- depth ----------------------------------------------------------------------------------- */

BROKER_TEST(tells_how_much_waits_and_since_when)
{
    cm_test_client_t client;
    open_client(world, &client, "a", 0);
    cr_assert(eq(i64, cm_test_depth(&client, 0).oldest_ms, 0));
    int64_t before = cm_clock_epoch_ms();
    for (int i = 0; i < 6; i++)
        cm_test_publish(&client, TOPIC, "x");
    cm_test_take(&client, 0, 3);
    cm_broker_defer(client.broker, client.deliveries[0].lease, cm_clock_epoch_ms() + 3600000);
    cm_test_await_settled(&client);
    cm_broker_depth_t depth = cm_test_depth(&client, 0);
    cr_assert(eq(i64, depth.ready, 3));
    cr_assert(eq(i64, depth.pending, 2));
    cr_assert(eq(i64, depth.deferred, 1));
    cr_assert(ge(i64, depth.oldest_ms, before - 1));
    cr_assert(le(i64, depth.oldest_ms, cm_clock_epoch_ms() + 1));
    cm_test_client_close(&client);
}

BROKER_TEST(refuses_an_address_that_is_none)
{
    cm_broker_t *broker = NULL;
    cm_error_t err = {0};
    zloop_t *loop = zloop_new();
    cm_test_client_t sample;
    cm_broker_options_t options = {
        .uri = "nonsense", .consumer = "a", .lease_ms = 1000, .poll_ms = 100};
    cm_broker_events_t events;
    memset(&events, 1, sizeof events); /* never called */
    (void)sample;
    cr_assert(eq(int, cm_broker_open(&broker, world->row->driver, loop, &options, &events, &err),
                 CM_MISCONFIGURED));
    cr_assert(zero(ptr, broker));
    zloop_destroy(&loop);
}
