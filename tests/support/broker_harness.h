/* broker_harness - a client of a broker that writes down every event, and the loop that drives it.
 *
 * A row of cm_test_brokers is a driver with a server; the conformance suite runs once for each row
 * that can be had here. A test opens one or more clients, each with a loop of its own: a client
 * whose loop is not run is a process that is stopped.
 */
#ifndef CM_TESTS_SUPPORT_BROKER_HARNESS_H
#define CM_TESTS_SUPPORT_BROKER_HARNESS_H
#include "runtime/broker/broker.h"

enum { CM_TEST_SUBSCRIPTIONS = 160, CM_TEST_DEADLINE_MS = 15000 };

typedef struct cm_test_server cm_test_server_t;

typedef struct { /* what a row's server cannot show, and why */
    const char *behaviour, *reason;
} cm_test_lack_t;

typedef struct {
    const char *name;
    const cm_broker_driver_t *driver;
    /* A fresh, empty broker and its address. stop ends it; cut closes every client's connection. */
    cm_test_server_t *(*start)(char uri[256]);
    void (*stop)(cm_test_server_t *server);
    void (*cut)(cm_test_server_t *server);
    void (*find)(char why_not[256]); /* "" when it can be had here; NULL = always */
    const cm_test_lack_t *lacks;     /* ends with {0}; NULL = none */
} cm_test_broker_row_t;

enum { CM_TEST_BROKERS_MAX = 8 };

extern const cm_test_broker_row_t cm_test_brokers[];
/* Numbers of the rows that can be had here, of those that CM_TEST_BROKERS names ("redis,pubsub");
 * unset = those two. Returns how many. */
size_t cm_test_broker_rows(size_t rows[CM_TEST_BROKERS_MAX]);
/* Print which rows cannot be had, and why. */
void cm_test_broker_note_absent(void);
/* Skip the running test when row lacks this behaviour, and print a line that says so. */
void cm_test_broker_need(const cm_test_broker_row_t *row, const char *behaviour);

typedef struct { /* a delivery, copied */
    cm_broker_lease_t lease;
    int subscription, attempt;
    char message_id[64];
    int64_t publish_ms, arrived_ms; /* epoch */
    cm_str_t body, ordering_key;
    cm_attribute_t *attributes;
    size_t attribute_count;
} cm_test_delivery_t;

typedef struct {
    uint64_t token;
    cm_status_t status;
    char code[CM_ERROR_CODE_MAX], message[CM_ERROR_MESSAGE_MAX];
} cm_test_published_t;

typedef struct {
    zloop_t *loop;
    cm_broker_t *broker;
    cm_arena_t *arena;
    size_t keep_pulling[CM_TEST_SUBSCRIPTIONS]; /* max of the next pull; 0 = none follows */

    cm_test_delivery_t *deliveries;
    size_t delivered;
    size_t pulled[CM_TEST_SUBSCRIPTIONS];    /* pulls ended */
    size_t last_pull[CM_TEST_SUBSCRIPTIONS]; /* received by the last */
    cm_test_published_t *published;
    size_t published_count;
    cm_broker_lease_t *lapsed;
    size_t lapsed_count;
    size_t lost_events;
    uint64_t lost_count;
    size_t ups, downs;
    cm_error_t link_error;
    size_t refusals;
    cm_error_t refusal;
    size_t depths;
    cm_broker_depth_t depth;
    size_t warnings;
    char warning[512]; /* all of them */
} cm_test_client_t;

/* Open a client called consumer and wait until its link is up; lease_ms 0 = 30 s. */
void cm_test_client_open(cm_test_client_t *self, const cm_broker_driver_t *driver, const char *uri,
                         const char *consumer, int lease_ms);
/* The same without waiting. */
void cm_test_client_begin(cm_test_client_t *self, const cm_broker_driver_t *driver, const char *uri,
                          const char *consumer, int lease_ms);
/* As begin, with the driver's own options (cm_broker_options_t.driver). */
void cm_test_client_begin_with(cm_test_client_t *self, const cm_broker_driver_t *driver,
                               const char *uri, const char *consumer, int lease_ms,
                               const void *own);
/* As begin, with all options as they are given. */
void cm_test_client_begin_as(cm_test_client_t *self, const cm_broker_driver_t *driver,
                             const cm_broker_options_t *options);
void cm_test_client_await_up(cm_test_client_t *self);
void cm_test_client_close(cm_test_client_t *self); /* as a crash: nothing is given back */

/* Run the loops of count clients until condition(ctx) holds; false after deadline_ms. */
bool cm_test_run_all(cm_test_client_t **clients, size_t count, bool (*condition)(void *ctx),
                     void *ctx, int deadline_ms);
bool cm_test_run(cm_test_client_t *self, bool (*condition)(void *ctx), void *ctx);
void cm_test_run_for(cm_test_client_t **clients, size_t count, int ms);

/* Run until there are `count` of them, or fail the test. */
void cm_test_await_deliveries(cm_test_client_t *self, size_t count);
void cm_test_await_published(cm_test_client_t *self, size_t count);
void cm_test_await_pulled(cm_test_client_t *self, int subscription, size_t count);
/* Any counter of self. */
void cm_test_await_counter(cm_test_client_t *self, const size_t *counter, size_t count);
void cm_test_await_settled(cm_test_client_t *self);
cm_broker_depth_t cm_test_depth(cm_test_client_t *self, int subscription);

/* Pull until `count` more are delivered, never more. A pull may find nothing while the broker is
 * busy: it is repeated. No pull is open afterwards. */
void cm_test_take(cm_test_client_t *self, int subscription, size_t count);
/* Publish body (text) without attributes and wait for the confirmation. */
void cm_test_publish(cm_test_client_t *self, const char *topic, const char *body);
/* Pull again whenever a pull ends, each up to max. */
void cm_test_keep_pulling(cm_test_client_t *self, int subscription, size_t max);
#endif
