/* bigquery_case - the stand-in for BigQuery, a client of it, and how to read a whole result. */
#ifndef CM_TESTS_INTEGRATION_BIGQUERY_CASE_H
#define CM_TESTS_INTEGRATION_BIGQUERY_CASE_H
#include "runtime/bigquery.h"
#include "runtime/cleanup.h"
#include "tests/support/pubsub_server.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BIGQUERY_SQL                                                                               \
    "SELECT customer_id, contact_id, deleted_at FROM `crm.deleted_contacts` "                      \
    "WHERE customer_id = @customer AND deleted_at >= @since"

enum { SEEN_MAX = 2000000 };

static cm_test_pubsub_t server;
static char endpoint[64], metadata[64];

static inline void begin_server_with(const char *const *options)
{
    cm_test_pubsub_start_other(&server, "bigquery_server", options);
    snprintf(endpoint, sizeof endpoint, "http://127.0.0.1:%d", server.port);
    snprintf(metadata, sizeof metadata, "127.0.0.1:%d", server.port);
}

static inline void begin_server(void)
{
    begin_server_with(NULL);
}

static inline void end_server(void)
{
    long long broken = cm_test_pubsub_stat(&server, "violations.count");
    cm_test_pubsub_stop(&server);
    if (broken)
        cr_fatal("%lld requests broke a rule of the API", broken);
}

static inline void set_data(const char *json)
{
    free(cm_test_pubsub_call(&server, "POST", "/control/data", json, NULL));
}

static inline void mend(void)
{
    free(cm_test_pubsub_call(&server, "DELETE", "/control/fault", NULL, NULL));
}

static inline long long calls_of(const char *call)
{
    char path[64];
    snprintf(path, sizeof path, "calls.%s.count", call);
    return cm_test_pubsub_stat(&server, path);
}
#endif
