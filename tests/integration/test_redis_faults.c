/* A Redis in trouble, and one that refuses us: what its driver makes of each. */
#include "tests/integration/redis_case.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

TestSuite(redis_faults, .init = start_server, .fini = stop_server, .timeout = 60);
TestSuite(redis_durable, .init = start_durable, .fini = stop_server, .timeout = 60);

/* ---- a server in trouble --------------------------------------------------------------------- */

Test(redis_faults, goes_on_consuming_when_memory_is_full)
{
    cm_test_client_t client;
    open_client(&client, "a", 0);
    for (int i = 0; i < 4; i++)
        cm_test_publish(&client, STREAM, "x");
    cm_test_keep_pulling(&client, 0, 1);
    cm_test_await_deliveries(&client, 1);
    cm_test_redis_run(&server, "CONFIG SET maxmemory 1");
    cm_broker_publish(client.broker, STREAM, &(cm_message_t){.body = CM_STR("y")}, 9);
    cm_test_await_published(&client, 5);
    cr_expect(eq(int, client.published[4].status, CM_UNAVAILABLE));
    cr_expect(eq(str, client.published[4].code, "OOM"));
    cm_test_await_deliveries(&client, 4);
    for (size_t i = 0; i < 3; i++)
        cm_broker_ack(client.broker, &client.deliveries[i].lease, 1);
    cm_test_await_settled(&client);
    cr_expect(eq(i64, cm_test_depth(&client, 0).pending, 1));

    /* A defer needs memory: it waits, and is carried out once there is some. */
    cm_broker_defer(client.broker, client.deliveries[3].lease, 0);
    cm_test_client_t *clients[] = {&client};
    cm_test_run_for(clients, 1, 100);
    cr_expect(not(cm_broker_settled(client.broker)));
    cm_test_redis_run(&server, "CONFIG SET maxmemory 0");
    cm_test_keep_pulling(&client, 0, 1);
    cm_test_await_deliveries(&client, 5);
    cr_expect(eq(sz, client.downs, 0));
    cm_test_client_close(&client);
}

Test(redis_faults, opens_and_consumes_while_memory_is_full)
{
    cm_test_client_t first, client;
    open_client(&first, "a", 0);
    hold(&first, 1);
    cm_test_publish(&first, STREAM, "y");
    cm_test_client_close(&first);
    cm_test_redis_run(&server, "CONFIG SET maxmemory 1");
    open_client(&client, "b", 0);
    cm_test_keep_pulling(&client, 0, 1);
    cm_test_await_deliveries(&client, 1);
    cr_expect(eq(sz, client.refusals, 0));
    cm_test_client_close(&client);
}

Test(redis_faults, waits_for_a_replica_to_become_a_primary)
{
    cm_test_client_t client;
    open_client(&client, "a", 0);
    hold(&client, 2);
    cm_test_redis_run(&server, "REPLICAOF 127.0.0.1 1"); /* nobody there */
    cm_broker_ack(client.broker, &client.deliveries[0].lease, 1);
    cm_test_await_counter(&client, &client.downs, 1);
    cr_expect(eq(int, client.link_error.status, CM_UNAVAILABLE));
    cm_test_redis_run(&server, "REPLICAOF NO ONE");
    cm_test_await_settled(&client);
    cr_expect(eq(i64, cm_test_depth(&client, 0).pending, 1));
    cm_test_client_close(&client);
}

Test(redis_faults, waits_for_a_script_that_keeps_the_server_busy)
{
    cm_test_client_t client;
    cm_error_t err = {0};
    cm_redis_address_t address;
    redisContext *script = NULL;
    open_client(&client, "a", 0);
    hold(&client, 1);
    cm_test_redis_run(&server, "CONFIG SET busy-reply-threshold 1");
    cr_assert(eq(int, cm_redis_parse(server.uri, &address, &err), CM_OK));
    cr_assert(eq(int, cm_redis_connect(&address, 1000, &script, &err), CM_OK));
    redisAppendCommand(script, "EVAL %s 0", "while true do end");
    int done = 0;
    redisBufferWrite(script, &done);
    cm_test_client_t *clients[] = {&client};
    cm_test_run_for(clients, 1, 50);
    cm_broker_ack(client.broker, &client.deliveries[0].lease, 1);
    cm_broker_publish(client.broker, STREAM, &(cm_message_t){.body = CM_STR("y")}, 9);
    cm_test_await_published(&client, 2);
    cr_expect(eq(int, client.published[1].status, CM_UNAVAILABLE));
    cr_expect(eq(str, client.published[1].code, "BUSY"));
    cm_test_redis_run(&server, "SCRIPT KILL");
    cm_test_await_settled(&client);
    cr_expect(eq(i64, cm_test_depth(&client, 0).pending, 0));
    cm_redis_free(&script);
    cm_test_client_close(&client);
}

Test(redis_faults, leaves_a_server_that_hangs_and_finds_it_again)
{
    cm_test_client_t client;
    open_client(&client, "a", 0);
    hold(&client, 1);
    cm_test_keep_pulling(&client, 0, 1);
    kill(server.pid, SIGSTOP);
    cm_broker_publish(client.broker, STREAM, &(cm_message_t){.body = CM_STR("y")}, 9);
    cm_broker_ack(client.broker, &client.deliveries[0].lease, 1);
    cm_test_await_published(&client, 2); /* takes the patience of the driver, ten seconds */
    cr_expect(eq(int, client.published[1].status, CM_UNAVAILABLE));
    cm_test_await_counter(&client, &client.downs, 1);
    cr_expect(eq(str, client.link_error.code, "timeout"));
    kill(server.pid, SIGCONT);
    cm_test_await_counter(&client, &client.ups, 2);
    cm_test_await_deliveries(&client, 2); /* it was stored all the same: the outcome was unknown */
    ack_all(&client);
    cr_expect(eq(i64, cm_test_depth(&client, 0).pending, 0));
    cm_test_client_close(&client);
}

/* ---- rights ---------------------------------------------------------------------------------- */

Test(redis_faults, tells_a_wrong_password_as_a_misconfigured_link)
{
    char uri[256];
    cm_test_client_t client;
    cm_test_redis_run(&server, "CONFIG SET requirepass right");
    snprintf(uri, sizeof uri, "%s", server.uri); /* no password at all */
    cm_test_client_begin(&client, &cm_broker_redis_streams, uri, "a", 0);
    cm_test_await_counter(&client, &client.downs, 1);
    cr_expect(eq(int, client.link_error.status, CM_MISCONFIGURED));
    cr_expect(eq(str, client.link_error.code, "NOAUTH"));
    cr_expect(eq(sz, client.ups, 0));
    cm_test_client_close(&client);
}

/* Let the server listen on a port as well; 0 when there is none free. */
static int listen_on_tcp(void)
{
    for (int port = 20000 + getpid() % 20000; port < 60000; port += 7) {
        redisReply *reply = NULL;
        cm_redis_address_t address;
        cm_error_t err = {0};
        redisContext *context = NULL;
        cm_redis_parse(server.uri, &address, &err);
        if (cm_redis_connect(&address, 1000, &context, &err) == CM_OK)
            reply = redisCommand(context, "CONFIG SET port %d", port);
        bool taken = reply && reply->type == REDIS_REPLY_STATUS;
        cm_redis_free_reply(&reply);
        cm_redis_free(&context);
        if (taken)
            return port;
    }
    return 0;
}

Test(redis_faults, works_over_tcp_with_user_and_password)
{
    char uri[256];
    cm_test_client_t client;
    snprintf(uri, sizeof uri, "redis://app:s%%20cret@127.0.0.1:%d/1", listen_on_tcp());
    redisReply *reply = cm_test_redis_do(&server, "ACL SETUSER app on >%s ~* &* +@all", "s cret");
    cm_redis_free_reply(&reply);
    cm_test_client_open(&client, &cm_broker_redis_streams, uri, "a", 0);
    cm_broker_subscribe(client.broker, STREAM);
    cm_test_keep_pulling(&client, 0, 10);
    cm_test_publish(&client, STREAM, "x");
    cm_test_await_deliveries(&client, 1);
    ack_all(&client);
    cm_test_client_close(&client);
}

Test(redis_faults, tells_a_refused_password_by_the_word_of_the_server)
{
    char uri[256];
    cm_test_client_t client;
    snprintf(uri, sizeof uri, "redis://:wrong@localhost:%d", listen_on_tcp());
    cm_test_redis_run(&server, "CONFIG SET requirepass right");
    cm_test_client_begin(&client, &cm_broker_redis_streams, uri, "a", 0);
    cm_broker_subscribe(client.broker, STREAM);
    cm_broker_pull(client.broker, 0, 10);
    cm_test_await_counter(&client, &client.downs, 1);
    cr_expect(eq(int, client.link_error.status, CM_MISCONFIGURED));
    cr_expect(eq(str, client.link_error.code, "WRONGPASS"));
    cm_test_await_pulled(&client, 0, 1);
    cm_test_client_close(&client);
}

Test(redis_faults, refuses_a_database_that_does_not_exist)
{
    char uri[256];
    cm_test_client_t client;
    snprintf(uri, sizeof uri, "%s?db=99", server.uri);
    cm_test_client_begin(&client, &cm_broker_redis_streams, uri, "a", 0);
    cm_test_await_counter(&client, &client.downs, 1);
    cr_expect(eq(int, client.link_error.status, CM_MISCONFIGURED));
    cr_expect(eq(sz, client.ups, 0));
    cm_test_client_close(&client);
}

Test(redis_faults, works_in_another_database)
{
    char uri[256];
    cm_test_client_t client;
    snprintf(uri, sizeof uri, "%s?db=3", server.uri);
    cm_test_client_open(&client, &cm_broker_redis_streams, uri, "a", 0);
    cm_broker_subscribe(client.broker, STREAM);
    cm_test_keep_pulling(&client, 0, 1);
    cm_test_publish(&client, STREAM, "x");
    cm_test_await_deliveries(&client, 1);
    cr_expect(eq(int, (int)cm_test_redis_run(&server, "EXISTS %s", STREAM), 0));
    cm_test_client_close(&client);
}

Test(redis_faults, a_key_of_another_type_refuses_one_subscription_alone)
{
    cm_test_client_t client;
    cm_test_redis_run(&server, "SET occupied x");
    open_client(&client, "a", 0);
    int occupied = cm_broker_subscribe(client.broker, "occupied");
    cm_broker_pull(client.broker, occupied, 10);
    cm_test_keep_pulling(&client, 0, 10);
    cm_test_await_counter(&client, &client.refusals, 1);
    cr_expect(eq(int, client.refusal.status, CM_MISCONFIGURED));
    cr_expect(eq(str, client.refusal.code, "WRONGTYPE"));
    cm_test_await_pulled(&client, occupied, 1);
    cm_test_publish(&client, STREAM, "x");
    cm_test_await_deliveries(&client, 1);
    cr_expect(eq(sz, client.downs, 0));
    cm_test_client_close(&client);
}

Test(redis_faults, a_missing_right_refuses_one_subscription_alone)
{
    cm_test_client_t client;
    open_client(&client, "a", 0);
    int other = cm_broker_subscribe(client.broker, "secret");
    cm_test_keep_pulling(&client, 0, 10);
    cm_test_keep_pulling(&client, other, 10);
    cm_test_await_pulled(&client, other, 1);
    cm_test_redis_run(&server, "ACL SETUSER default resetkeys ~client-manager*");
    cm_test_await_counter(&client, &client.refusals, 1);
    cr_expect(eq(str, client.refusal.code, "NOPERM"));
    cm_test_publish(&client, STREAM, "x");
    cm_test_await_deliveries(&client, 1);
    cr_expect(eq(sz, client.refusals, 1)); /* asked again after half a minute, not at once */
    cm_test_client_close(&client);
}

Test(redis_faults, a_missing_right_to_claim_is_told_and_stops_the_subscription)
{
    cm_test_client_t client;
    cm_test_redis_run(&server, "ACL SETUSER default -eval");
    open_client(&client, "a", 0);
    cm_test_publish(&client, STREAM, "x");
    cm_test_keep_pulling(&client, 0, 10);
    cm_test_await_counter(&client, &client.refusals, 1);
    cr_expect(eq(str, client.refusal.code, "NOPERM"));
    cr_expect(eq(sz, client.downs, 0));
    cm_test_client_close(&client);
}

/* ---- a server that dies ---------------------------------------------------------------------- */

Test(redis_durable, loses_nothing_confirmed_when_the_server_is_killed)
{
    cm_test_client_t client;
    open_client(&client, "a", LEASE_MS);
    cm_message_t message = {.body = CM_STR("x")};
    for (uint64_t i = 0; i < 100; i++)
        cm_broker_publish(client.broker, STREAM, &message, i);
    cm_test_await_published(&client, 100);
    cm_broker_pull(client.broker, 0, 60);
    cm_test_await_deliveries(&client, 60);
    for (size_t i = 0; i < 30; i++)
        cm_broker_ack(client.broker, &client.deliveries[i].lease, 1);
    cm_test_await_settled(&client);
    cm_test_redis_kill(&server);
    for (size_t i = 30; i < 60; i++) /* while it is away */
        cm_broker_ack(client.broker, &client.deliveries[i].lease, 1);
    cm_test_await_counter(&client, &client.downs, 1);
    cm_test_redis_start(&server);
    cm_test_keep_pulling(&client, 0, 100);
    cm_test_await_deliveries(&client, 100);
    ack_all(&client);
    cm_broker_depth_t depth = cm_test_depth(&client, 0);
    cr_expect(eq(i64, depth.pending + depth.ready, 0));
    cr_expect(eq(sz, client.delivered, 100));
    cr_expect(eq(sz, client.lost_events, 0));
    cm_test_client_close(&client);
}

Test(redis_faults, tells_that_a_server_without_persistence_came_back_empty)
{
    cm_test_client_t client;
    open_client(&client, "a", LEASE_MS);
    hold(&client, 2);
    cm_test_redis_kill(&server);
    cm_broker_ack(client.broker, &client.deliveries[0].lease, 1);
    cm_test_redis_start(&server);
    cm_test_keep_pulling(&client, 0, 10);
    cm_test_await_counter(&client, &client.lost_events, 1);
    cm_test_await_counter(&client, &client.ups, 2);
    cm_test_publish(&client, STREAM, "new");
    cm_test_await_deliveries(&client, 3);
    ack_all(&client);
    cm_test_client_close(&client);
}
