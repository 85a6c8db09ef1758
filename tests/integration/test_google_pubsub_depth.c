/* How often the Google Pub/Sub driver asks Cloud Monitoring for the depth of a subscription, and
 * what Monitoring in trouble means for the rest: nothing. */
#include "runtime/broker/google_pubsub.h"
#include "runtime/clock.h"
#include "tests/support/broker_harness.h"
#include "tests/support/pubsub_server.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <string.h>

#define NAME     "client-manager.writer"
#define PROJECT  "/projects/test"
#define CALLS    "calls.listTimeSeries.count"
#define NO_CALLS "127.0.0.1:1"

static cm_test_pubsub_t server;
static cm_test_client_t client;
static char monitoring[96]; /* behind TLS */

static void begin(void)
{
    cm_test_pubsub_start(&server, NULL);
    cm_test_pubsub_create(&server, NAME, NULL);
}

static void end(void)
{
    cm_test_client_close(&client);
    cr_assert(eq(i64, cm_test_pubsub_stat(&server, "violations.count"), 0));
    cm_test_pubsub_stop(&server);
}

TestSuite(google_pubsub_depth, .init = begin, .fini = end, .timeout = 60);

static void start_front(void)
{
    cm_test_pubsub_start_tls(&server);
    snprintf(monitoring, sizeof monitoring, "%.*s", (int)(strlen(server.tls_uri) - strlen(PROJECT)),
             server.tls_uri);
}

/* A client of NAME whose depth is asked for at `base`; NULL = as the broker's own base. */
static void open_client(const char *base)
{
    cm_pubsub_options_t own = {.monitoring = base, .ca_file = server.ca_file};
    cm_test_client_begin_with(&client, &cm_broker_google_pubsub, server.uri, "a", 0, &own);
    cm_test_client_await_up(&client);
    cr_assert(eq(int, cm_broker_subscribe(client.broker, NAME), 0));
}

Test(google_pubsub_depth, an_emulator_is_asked_each_time)
{
    open_client(NULL);
    for (int i = 0; i < 3; i++)
        cm_test_depth(&client, 0);
    cr_assert(eq(i64, cm_test_pubsub_stat(&server, CALLS), 6)); /* of two metrics */
}

Test(google_pubsub_depth, the_service_is_asked_once_a_minute_and_answered_for_in_between)
{
    start_front();
    open_client(monitoring);
    int64_t before = cm_clock_epoch_ms();
    cm_test_publish(&client, NAME, "1");
    cm_broker_depth_t first = cm_test_depth(&client, 0);
    cr_assert(eq(i64, first.ready, 1));
    cm_test_publish(&client, NAME, "2");
    for (int i = 0; i < 3; i++) {
        cm_broker_depth_t again = cm_test_depth(&client, 0);
        cr_assert(eq(i64, again.ready, 1));
        cr_assert(ge(i64, again.oldest_ms, before - 1100)); /* the age has whole seconds */
        cr_assert(le(i64, again.oldest_ms, cm_clock_epoch_ms()));
    }
    cr_assert(eq(i64, cm_test_pubsub_stat(&server, CALLS), 2));
}

Test(google_pubsub_depth, what_is_held_is_told_as_it_is_now)
{
    start_front();
    open_client(monitoring);
    cm_test_publish(&client, NAME, "1");
    cr_assert(eq(i64, cm_test_depth(&client, 0).pending, 0));
    cm_broker_pull(client.broker, 0, 1);
    cm_test_await_deliveries(&client, 1);
    cm_broker_depth_t depth = cm_test_depth(&client, 0);
    cr_assert(eq(i64, depth.pending, 1));
    cr_assert(eq(i64, depth.ready, 0));
}

Test(google_pubsub_depth, the_link_stays_up_while_monitoring_is_away)
{
    open_client("http://" NO_CALLS);
    cm_broker_depth(client.broker, 0);
    cm_test_run_for((cm_test_client_t *[]){&client}, 1, 500);
    cm_test_publish(&client, NAME, "1");
    cr_assert(eq(sz, client.downs, 0));
    cr_assert(eq(sz, client.depths, 0));
}

Test(google_pubsub_depth, a_certificate_of_monitoring_that_is_not_trusted_is_told_and_harms_nothing)
{
    start_front();
    server.ca_file[0] = '\0';
    open_client(monitoring);
    cm_broker_depth(client.broker, 0);
    cm_test_await_counter(&client, &client.warnings, 1);
    cr_assert(ne(ptr, strstr(client.warning, "depth"), NULL));
    cm_test_publish(&client, NAME, "1");
    cr_assert(eq(sz, client.downs, 0));
}
