/* verdict_case - devices and verdicts for the tests of push verdicts. */
#ifndef CM_TESTS_SCHEMA_VERDICT_CASE_H
#define CM_TESTS_SCHEMA_VERDICT_CASE_H
#include "runtime/cleanup.h"
#include "schema/device_store.h"
#include "schema/token_status_store.h"
#include "tests/support/schema_fixture.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <string.h>

enum { VALID, GONE };

typedef struct {
    char uri[CM_TEST_URI_MAX];
    cm_pg_t *pg, *other; /* of the store; for devices and for looking */
    cm_token_status_store_t *store;
    cm_device_store_t *devices;
    cm_error_t err;
} verdict_world_t;

static inline void verdict_set_up(verdict_world_t *self)
{
    *self = (verdict_world_t){0};
    self->other = cm_test_admin(self->uri);
    self->pg = cm_test_connect(self->uri);
    self->store = cm_token_status_store_new(self->pg, CM_TEST_ADMIN);
    self->devices = cm_device_store_new(self->other, CM_TEST_ADMIN);
    cm_test_tenant(self->other, "a");
}

static inline void verdict_tear_down(verdict_world_t *self)
{
    cm_token_status_store_destroy(&self->store);
    cm_device_store_destroy(&self->devices);
    cm_pg_destroy(&self->pg);
    cm_pg_destroy(&self->other);
}

/* A registration of token (NULL: none) at ms, by the writer's own store. */
static inline void device_of_application(verdict_world_t *self, const char *application,
                                         const char *client_id, const char *token, int64_t ms)
{
    cm_store_item_t item = {.change = {.application_code = cm_str(application),
                                       .client_id = cm_str(client_id),
                                       .device_ms = CM_TIME_NONE,
                                       .push_ms = ms,
                                       .push_token = cm_str(token),
                                       .push_address_type = cm_str(token ? "fcm" : NULL),
                                       .contact_ms = CM_TIME_NONE,
                                       .removed_ms = CM_TIME_NONE}};
    cm_store_tenant_t tenant = {.tenant = "a", .items = &item, .count = 1};
    cr_assert(eq(int, cm_device_store_write(self->devices, &tenant, 1, &self->err), CM_OK), "%s",
              self->err.message);
    cr_assert(eq(int, item.result, CM_CHANGE_APPLIED));
}

static inline void device(verdict_world_t *self, const char *client_id, const char *token,
                          int64_t ms)
{
    device_of_application(self, "app", client_id, token, ms);
}

static inline cm_token_verdict_t by_both(const char *client_id, const char *token, int gone,
                                         int64_t ms)
{
    return (cm_token_verdict_t){.application_code = CM_STR("app"),
                                .client_id = cm_str(client_id),
                                .token = cm_str(token),
                                .provider = "fcm",
                                .is_gone = gone == GONE,
                                .at_ms = ms};
}

static inline cm_token_verdict_t by_client(const char *client_id, int gone, int64_t ms)
{
    return by_both(client_id, NULL, gone, ms);
}

static inline cm_token_verdict_t by_token(const char *token, int gone, int64_t ms)
{
    return by_both(NULL, token, gone, ms);
}

static inline void write_with(verdict_world_t *self, cm_token_verdict_t *verdicts, size_t count,
                              cm_token_trip_t *trips, size_t trip_count)
{
    cm_token_tenant_t tenant = {.tenant = "a",
                                .verdicts = verdicts,
                                .count = count,
                                .trips = trips,
                                .trip_count = trip_count};
    cr_assert(eq(int, cm_token_status_store_write(self->store, &tenant, 1, &self->err), CM_OK),
              "%s %s", self->err.code, self->err.message);
    for (size_t i = 0; i < count; i++)
        cr_assert(ne(int, verdicts[i].result, CM_TOKEN_PENDING));
}

static inline void write_many(verdict_world_t *self, cm_token_verdict_t *verdicts, size_t count)
{
    write_with(self, verdicts, count, NULL, 0);
}

static inline cm_token_result_t write_one(verdict_world_t *self, cm_token_verdict_t verdict)
{
    write_many(self, &verdict, 1);
    if (verdict.result == CM_TOKEN_FAILED)
        cr_fatal("%s %s", verdict.error->code, verdict.error->message);
    return verdict.result;
}

/* "invalid@20", "-" for unknown. */
static inline void expect_status(verdict_world_t *self, const char *client_id, const char *expected)
{
    CM_CLEANUP(cm_free)
    char *rows = cm_test_rows(self->other,
                              "SELECT push_status || '@' || (extract(epoch FROM push_status_at) *"
                              " 1000)::bigint FROM tenant_a.devices WHERE application_code = 'app'"
                              " AND client_id = '%s'",
                              client_id);
    cr_expect(eq(str, rows, (char *)expected), "%s", client_id);
}
#endif
