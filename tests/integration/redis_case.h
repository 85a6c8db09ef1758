/* redis_case - the driver of Redis Streams beside a server of the test's own, which may be killed,
 * filled and emptied. */
#ifndef CM_TESTS_INTEGRATION_REDIS_CASE_H
#define CM_TESTS_INTEGRATION_REDIS_CASE_H
#include "tests/support/broker_harness.h"
#include "tests/support/redis_server.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#define STREAM "client-manager.writer"

enum { LEASE_MS = 1000 };

static cm_test_redis_t server;

static inline void start_server(void)
{
    cm_test_redis_start(&server);
}

static inline void start_durable(void)
{
    server.durable = true;
    cm_test_redis_start(&server);
}

static inline void stop_server(void)
{
    cm_test_redis_stop(&server);
}

static inline void open_client(cm_test_client_t *client, const char *consumer, int lease_ms)
{
    cm_test_client_open(client, &cm_broker_redis_streams, server.uri, consumer, lease_ms);
    cm_broker_subscribe(client->broker, STREAM);
}

static inline void hold(cm_test_client_t *client, size_t count)
{
    for (size_t i = 0; i < count; i++)
        cm_test_publish(client, STREAM, "x");
    while (client->delivered < count) { /* a pull may end before a busy machine has answered it */
        size_t ended = client->pulled[0];
        cm_broker_pull(client->broker, 0, count);
        cm_test_await_pulled(client, 0, ended + 1);
    }
}

static inline void ack_all(cm_test_client_t *client)
{
    for (size_t i = 0; i < client->delivered; i++)
        cm_broker_ack(client->broker, &client->deliveries[i].lease, 1);
    cm_test_await_settled(client);
}
#endif
