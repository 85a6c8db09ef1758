/* store_case - device changes and tenants for the tests of the device store. */
#ifndef CM_TESTS_SCHEMA_STORE_CASE_H
#define CM_TESTS_SCHEMA_STORE_CASE_H
#include "runtime/cleanup.h"
#include "schema/device_store.h"
#include "tests/support/schema_fixture.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    char uri[CM_TEST_URI_MAX];
    cm_pg_t *pg, *other; /* of the store; for looking */
    cm_device_store_t *store;
    cm_error_t err;
} store_world_t;

static inline void store_set_up(store_world_t *self)
{
    self->pg = cm_test_admin(self->uri);
    self->other = cm_test_connect(self->uri);
    self->store = cm_device_store_new(self->pg, CM_TEST_ADMIN);
    cm_test_tenant(self->other, "a");
}

static inline void store_tear_down(store_world_t *self)
{
    cm_device_store_destroy(&self->store);
    cm_pg_destroy(&self->pg);
    cm_pg_destroy(&self->other);
}

static inline cm_device_change_t change_of(const char *client_id)
{
    return (cm_device_change_t){.application_code = CM_STR("app"),
                                .client_id = cm_str(client_id),
                                .device_ms = CM_TIME_NONE,
                                .push_ms = CM_TIME_NONE,
                                .contact_ms = CM_TIME_NONE,
                                .removed_ms = CM_TIME_NONE};
}

static inline cm_device_change_t device_of(const char *client_id, int64_t ms, const char *platform)
{
    cm_device_change_t change = change_of(client_id);
    change.device_ms = ms;
    change.device[CM_DEVICE_PLATFORM] = cm_str(platform);
    return change;
}

static inline cm_device_change_t push_of(const char *client_id, int64_t ms, const char *token)
{
    cm_device_change_t change = change_of(client_id);
    change.push_ms = ms;
    change.push_token = cm_str(token);
    change.push_address_type = cm_str(token ? "fcm" : NULL);
    return change;
}

static inline cm_device_change_t contact_of(const char *client_id, int64_t ms, int64_t contact)
{
    cm_device_change_t change = change_of(client_id);
    change.contact_ms = ms;
    change.has_contact_id = true;
    change.contact_id = contact;
    return change;
}

static inline cm_device_change_t removal_of(const char *client_id, int64_t ms)
{
    cm_device_change_t change = change_of(client_id);
    change.removed_ms = ms;
    return change;
}

/* Write changes (in order of the key) to one tenant. */
static inline cm_status_t write_items(store_world_t *self, const char *tenant,
                                      cm_store_item_t *items, size_t count)
{
    cm_store_tenant_t one = {.items = items, .count = count};
    snprintf(one.tenant, sizeof one.tenant, "%s", tenant);
    return cm_device_store_write(self->store, &one, 1, &self->err);
}

/* Write one change to tenant a, tell its result. */
static inline cm_change_result_t write_one(store_world_t *self, cm_device_change_t change)
{
    cm_store_item_t item = {.change = change};
    cr_assert(eq(int, write_items(self, "a", &item, 1), CM_OK), "%s %s", self->err.code,
              self->err.message);
    return item.result;
}

#define WROTE(change, result) cr_expect(eq(int, write_one(&world, change), result))

/* Rows of a query on tenant a equal text. */
#define ROWS(text, ...)                                                                            \
    do {                                                                                           \
        CM_CLEANUP(cm_free) char *rows_ = cm_test_rows(world.other, __VA_ARGS__);                  \
        cr_expect(eq(str, rows_, text));                                                           \
    } while (0)

static inline char *client_name(char name[32], size_t number)
{
    snprintf(name, 32, "c%06zu", number);
    return name;
}
#endif
