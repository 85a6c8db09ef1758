/* What only Redis can do to its driver, and what only this driver promises; the rest is in
 * test_broker.c. */
#include "runtime/clock.h"
#include "tests/integration/redis_case.h"

#include <stdio.h>
#include <string.h>

TestSuite(redis_streams, .init = start_server, .fini = stop_server, .timeout = 60);
TestSuite(redis_durable, .init = start_durable, .fini = stop_server, .timeout = 60);

typedef struct {
    cm_broker_t *broker;
    int published;
} publisher_t;

static void publish_when_up(void *ctx, bool up, const cm_error_t *err)
{
    (void)err;
    publisher_t *self = ctx;
    if (up)
        cm_broker_publish(self->broker, STREAM, &(cm_message_t){.body = CM_STR("x")}, 1);
}

static void note_published(void *ctx, uint64_t token, cm_status_t status, const cm_error_t *err)
{
    (void)token, (void)err;
    publisher_t *self = ctx;
    self->published += status == CM_OK;
}

static int end_when_published(zloop_t *loop, int timer, void *ctx)
{
    (void)loop, (void)timer;
    return ((publisher_t *)ctx)->published ? -1 : 0;
}

Test(redis_streams, serves_a_client_that_only_publishes)
{
    publisher_t self = {0};
    cm_error_t err = {0};
    zloop_t *loop = zloop_new();
    cm_broker_options_t options = {server.uri, "a", LEASE_MS, 100};
    cm_broker_events_t events = {
        .ctx = &self, .on_published = note_published, .on_link = publish_when_up};
    cr_assert(eq(
        int, cm_broker_open(&self.broker, &cm_broker_redis_streams, loop, &options, &events, &err),
        CM_OK));
    zloop_timer(loop, 5, 0, end_when_published, &self);
    zloop_start(loop);
    cr_expect(eq(int, (int)cm_test_redis_run(&server, "XLEN %s", STREAM), 1));
    cm_broker_close(&self.broker);
    zloop_destroy(&loop);
}

/* ---- entries --------------------------------------------------------------------------------- */

Test(redis_streams, reads_what_others_write)
{
    cm_test_client_t client;
    open_client(&client, "a", 0);
    cm_test_redis_run(&server, "XADD %s 5-7 data first traceparent 00-1", STREAM);
    cm_test_redis_run(&server, "XADD %s 6-0 only attributes", STREAM);
    cm_test_redis_run(&server, "XADD %s 7-0 data x cm-id nonsense", STREAM);
    cm_test_redis_run(&server, "XADD %s 8-0 data x cm-id 3-4", STREAM);
    cm_test_keep_pulling(&client, 0, 10);
    cm_test_await_deliveries(&client, 4);
    cr_expect(eq(str, client.deliveries[0].message_id, "5-7"));
    cr_expect(eq(i64, client.deliveries[0].publish_ms, 5));
    cr_expect(cm_str_is(client.deliveries[0].body, "first"));
    cr_expect(cm_str_is(client.deliveries[0].attributes[0].name, "traceparent"));
    cr_expect(eq(sz, client.deliveries[1].body.len, 0));
    cr_expect(eq(sz, client.deliveries[1].attribute_count, 1));
    cr_expect(eq(str, client.deliveries[2].message_id, "7-0"));
    cr_expect(eq(sz, client.deliveries[2].attribute_count, 0)); /* never shown */
    cr_expect(eq(str, client.deliveries[3].message_id, "3-4"));
    cr_expect(eq(i64, client.deliveries[3].publish_ms, 3));
    ack_all(&client);
    cr_expect(eq(i64, cm_test_depth(&client, 0).pending, 0));
    cm_test_client_close(&client);
}

Test(redis_streams, refuses_to_publish_attributes_with_reserved_names)
{
    cm_test_client_t client;
    open_client(&client, "a", 0);
    cm_attribute_t data = {CM_STR("data"), CM_STR("x")}, origin = {CM_STR("cm-id"), CM_STR("1-1")};
    cm_broker_publish(client.broker, STREAM, &(cm_message_t){CM_STR(""), &data, 1}, 1);
    cm_broker_publish(client.broker, STREAM, &(cm_message_t){CM_STR(""), &origin, 1}, 2);
    cm_test_await_published(&client, 2);
    for (size_t i = 0; i < 2; i++)
        cr_expect(eq(int, client.published[i].status, CM_PERMANENT));
    cr_expect(eq(int, (int)cm_test_redis_run(&server, "XLEN %s", STREAM), 0));
    cm_test_client_close(&client);
}

Test(redis_streams, moves_a_thousand_deferred_messages_in_a_short_time)
{
    cm_test_client_t client;
    open_client(&client, "a", 0);
    cm_message_t message = {.body = CM_STR("x")};
    for (uint64_t i = 0; i < 1200; i++)
        cm_broker_publish(client.broker, STREAM, &message, i);
    cm_test_keep_pulling(&client, 0, 10000);
    cm_test_await_deliveries(&client, 1200);
    int64_t until = cm_clock_epoch_ms() + 200;
    for (size_t i = 0; i < 1200; i++)
        cm_broker_defer(client.broker, client.deliveries[i].lease, until);
    cm_test_await_deliveries(&client, 2400);
    ack_all(&client);
    cm_broker_depth_t depth = cm_test_depth(&client, 0);
    cr_expect(eq(i64, depth.pending + depth.ready + depth.deferred, 0));
    cm_test_client_close(&client);
}

Test(redis_streams, claims_all_that_a_dead_client_held_even_one_by_one)
{
    cm_test_client_t dead, alive;
    open_client(&dead, "a", LEASE_MS);
    cm_message_t message = {.body = CM_STR("x")};
    for (uint64_t i = 0; i < 1500; i++)
        cm_broker_publish(dead.broker, STREAM, &message, i);
    cm_broker_pull(dead.broker, 0, 1500);
    cm_test_await_deliveries(&dead, 1500);
    cm_test_client_close(&dead);
    open_client(&alive, "b", LEASE_MS);
    cm_test_keep_pulling(&alive, 0, 1);
    cm_test_await_deliveries(&alive, 30);
    alive.keep_pulling[0] = 10000;
    cm_test_await_deliveries(&alive, 1500);
    ack_all(&alive);
    cr_expect(eq(sz, alive.delivered, 1500));
    cr_expect(eq(i64, cm_test_depth(&alive, 0).pending, 0));
    cm_test_client_close(&alive);
}

Test(redis_streams, new_messages_are_read_between_claims)
{
    cm_test_client_t dead, alive;
    open_client(&dead, "a", LEASE_MS);
    hold(&dead, 20);
    cm_test_client_close(&dead);
    open_client(&alive, "b", LEASE_MS);
    for (int i = 0; i < 20; i++)
        cm_test_publish(&alive, STREAM, "new");
    cm_test_keep_pulling(&alive, 0, 1);
    cm_test_await_deliveries(&alive, 40);
    ack_all(&alive);
    cr_expect(eq(sz, alive.delivered, 40));
    cm_test_client_close(&alive);
}

/* ---- lost messages --------------------------------------------------------------------------- */

Test(redis_streams, tells_what_was_trimmed_while_a_dead_client_had_it_pending)
{
    cm_test_client_t dead, alive;
    open_client(&dead, "a", LEASE_MS);
    hold(&dead, 3);
    cm_test_client_close(&dead);
    cm_test_redis_run(&server, "XTRIM %s MAXLEN 0", STREAM);
    open_client(&alive, "b", LEASE_MS);
    cm_test_keep_pulling(&alive, 0, 10);
    cm_test_await_counter(&alive, &alive.lost_events, 1);
    cr_expect(eq(u64, alive.lost_count, 3));
    cr_expect(eq(sz, alive.delivered, 0));
    cm_test_client_close(&alive);
}

Test(redis_streams, tells_once_what_was_trimmed_while_held_and_lets_it_be_finished)
{
    cm_test_client_t client, *clients[] = {&client};
    open_client(&client, "a", LEASE_MS);
    hold(&client, 3);
    cm_test_redis_run(&server, "XTRIM %s MAXLEN 1", STREAM);
    cm_test_await_counter(&client, &client.lost_events, 1);
    cm_test_keep_pulling(&client, 0, 10);
    cm_test_run_for(clients, 1, 3 * LEASE_MS);
    cr_expect(eq(u64, client.lost_count, 2));
    cr_expect(eq(sz, client.lapsed_count, 0));
    ack_all(&client);
    cm_test_client_close(&client);
}

Test(redis_streams, tells_what_was_deleted_before_it_could_be_deferred_or_released)
{
    cm_test_client_t client;
    open_client(&client, "a", 0);
    hold(&client, 3);
    cm_test_redis_run(&server, "XTRIM %s MAXLEN 1", STREAM);
    cm_broker_defer(client.broker, client.deliveries[0].lease, 0);
    cm_broker_release(client.broker, &client.deliveries[1].lease, 1);
    cm_test_await_settled(&client);
    cr_expect(eq(u64, client.lost_count, 2));
    cm_test_client_close(&client);
}

Test(redis_streams, creates_a_group_again_that_vanished_and_tells)
{
    static const char *const ways[] = {"FLUSHALL", "DEL " STREAM,
                                       "XGROUP DESTROY " STREAM " " STREAM};
    cm_test_client_t client;
    open_client(&client, "a", LEASE_MS);
    cm_test_keep_pulling(&client, 0, 10);
    for (size_t i = 0; i < 3; i++) {
        cm_test_await_pulled(&client, 0, client.pulled[0] + 1);
        cm_test_redis_run(&server, ways[i]);
        cm_test_redis_run(&server, "XADD %s * data after", STREAM); /* not skipped: from id 0 on */
        cm_test_await_counter(&client, &client.lost_events, i + 1);
        cm_test_await_deliveries(&client, i + 1);
        cr_expect(eq(u64, client.lost_count, 0));
        ack_all(&client);
        cm_test_redis_run(&server, "XTRIM %s MAXLEN 0", STREAM);
        cm_test_keep_pulling(&client, 0, 10);
    }
    cr_expect(eq(sz, client.refusals, 0));
    cm_test_client_close(&client);
}

/* ---- upkeep ---------------------------------------------------------------------------------- */

static bool is_trimmed(void *length)
{
    return cm_test_redis_run(&server, "XLEN %s", STREAM) == *(int *)length;
}

Test(redis_streams, trims_what_every_group_has_acknowledged_and_nothing_else)
{
    cm_test_client_t client;
    open_client(&client, "a", 0);
    hold(&client, 8);
    cm_test_redis_run(&server, "XGROUP CREATE %s other 0", STREAM);
    redisReply *read = cm_test_redis_do(&server, "XREADGROUP GROUP other o COUNT 4 STREAMS %s >",
                                        STREAM); /* 4 of 8 */
    cm_redis_free_reply(&read);
    cm_test_redis_run(&server, "XACK %s other %s", STREAM, client.deliveries[0].message_id);
    cm_test_redis_run(&server, "XACK %s other %s", STREAM, client.deliveries[1].message_id);
    ack_all(&client);
    int left = 6; /* two pending in the other group, four it has not been given */
    cr_expect(cm_test_run(&client, is_trimmed, &left));

    cm_test_redis_run(&server, "XGROUP DESTROY %s other", STREAM);
    cm_test_publish(&client, STREAM, "undelivered");
    cm_test_publish(&client, STREAM, "undelivered");
    cm_broker_pull(client.broker, 0, 1);
    cm_test_await_deliveries(&client, 9);
    cm_broker_ack(client.broker, &client.deliveries[8].lease, 1);
    left = 1; /* the one that nobody has read */
    cr_expect(cm_test_run(&client, is_trimmed, &left));
    cm_test_client_close(&client);
}

Test(redis_streams, forgets_consumers_without_work_only_when_long_idle)
{
    cm_test_client_t client;
    cm_test_redis_run(&server, "XGROUP CREATE %s %s 0 MKSTREAM", STREAM, STREAM);
    cm_test_redis_run(&server, "XGROUP CREATECONSUMER %s %s fresh", STREAM, STREAM);
    open_client(&client, "a", 0);
    hold(&client, 1);
    redisReply *reply = cm_test_redis_do(&server, "XINFO CONSUMERS %s %s", STREAM, STREAM);
    cr_expect(eq(sz, reply->elements, 2));
    cm_redis_free_reply(&reply);
    cm_test_client_close(&client);
}

Test(redis_streams, sets_a_deferred_member_aside_that_is_no_message_and_moves_the_others)
{
    static const char *const bad[] = {"\xc1",           /* no MessagePack */
                                      "\x92\x01",       /* cut short */
                                      "\x07",           /* a number */
                                      "\x81\xa1x\xa1y", /* a map */
                                      "\x90",           "\x91\xa1x", "\x92\xa1x\x91\xa1y"};
    cm_test_client_t client;
    open_client(&client, "a", 0);
    hold(&client, 1);
    for (size_t i = 0; i < 7; i++)
        cm_test_redis_run(&server, "ZADD %s:deferred 1 %b", STREAM, bad[i], strlen(bad[i]));
    cm_broker_defer(client.broker, client.deliveries[0].lease, 2);
    cm_test_keep_pulling(&client, 0, 10);
    cm_test_await_deliveries(&client, 2);
    cm_test_await_counter(&client, &client.lost_events, 1);
    cr_expect(eq(u64, client.lost_count, 7));
    cr_expect(eq(sz, client.refusals, 0));
    cr_expect(eq(str, client.deliveries[1].message_id, client.deliveries[0].message_id));
    cr_expect(eq(int, (int)cm_test_redis_run(&server, "LLEN %s:deferred:bad", STREAM), 7));
    cr_expect(eq(int, (int)cm_test_redis_run(&server, "ZCARD %s:deferred", STREAM), 0));
    cm_test_client_close(&client);
}

Test(redis_streams, does_not_take_an_error_for_an_empty_stream)
{
    cm_test_client_t client;
    open_client(&client, "a", 0);
    int other = cm_broker_subscribe(client.broker, "other");
    cm_test_publish(&client, STREAM, "x");
    cm_test_publish(&client, "other", "x");
    cm_test_publish(&client, "other", "x");
    cm_broker_pull(client.broker, other, 1); /* its group is there from now on */
    cm_test_await_deliveries(&client, 1);
    cm_test_redis_run(&server, "SET %s:deferred x", STREAM); /* of the wrong type */
    cm_broker_depth(client.broker, 0);
    cm_broker_depth(client.broker, other); /* asked after it, answered after it */
    cm_test_await_counter(&client, &client.depths, 1);
    cr_expect(eq(i64, client.depth.pending, 1));
    cr_expect(eq(sz, client.depths, 1));
    cm_test_client_close(&client);
}

Test(redis_streams, warns_when_persistence_is_off_or_messages_may_be_evicted)
{
    cm_test_client_t client;
    cm_test_redis_run(&server, "CONFIG SET maxmemory-policy allkeys-lru");
    open_client(&client, "a", 0);
    cm_test_await_counter(&client, &client.warnings, 2);
    cr_expect(ne(ptr, strstr(client.warning, "appendonly"), NULL));
    cr_expect(ne(ptr, strstr(client.warning, "noeviction"), NULL));
    cm_test_client_close(&client);
}

Test(redis_durable, does_not_warn_when_all_is_well)
{
    cm_test_client_t client;
    open_client(&client, "a", 0);
    cm_test_depth(&client, 0); /* answered after the questions */
    cr_expect(eq(sz, client.warnings, 0));
    cm_test_client_close(&client);
}
