#include "proto/contact_event.h"
#include "proto/device_event.h"
#include "runtime/cleanup.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

static const int64_t NOW_MS = INT64_C(1795190400000); /* 2026-11-20T16:00:00Z */

static cm_status_t decode(const char *body, cm_contact_deletion_event_t *event, cm_error_t *err)
{
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(1024);
    return cm_contact_deletion_decode(cm_str(body), NOW_MS, arena, event, err);
}

static void check_fault(const char *body, const char *code, const char *path, const char *tenant)
{
    cm_contact_deletion_event_t event;
    cm_error_t err = {0};
    cr_expect(eq(int, decode(body, &event, &err), CM_PERMANENT), "%s", body);
    cr_expect(eq(str, err.code, (char *)code), "%s", body);
    cr_expect(eq(int, strncmp(err.message, path, strlen(path)), 0), "%s", err.message);
    cr_expect(eq(str, event.tenant, (char *)tenant));
}

Test(contact_event, a_deletion_is_decoded, .timeout = 5)
{
    cm_contact_deletion_event_t event;
    cm_error_t err = {0};
    cr_assert(eq(int,
                 decode("{\"customerId\":218524530,\"contactId\":77120011,\"deletedAt\":"
                        "\"2026-11-20T16:00:00Z\",\"x\":{\"contactId\":\"1\"}}",
                        &event, &err),
                 CM_OK),
              "%s", err.message);
    cr_expect(eq(str, event.tenant, "218524530"));
    cr_expect(eq(i64, event.contact_id, 77120011));
    cr_expect(eq(i64, event.deleted_ms, NOW_MS));
}

Test(contact_event, a_contact_is_any_integer_of_64_bits, .timeout = 5)
{
    cm_contact_deletion_event_t event;
    cr_expect(eq(int,
                 decode("{\"customerId\":1,\"contactId\":-9223372036854775808,\"deletedAt\":1}",
                        &event, NULL),
                 CM_OK));
    cr_expect(eq(i64, event.contact_id, INT64_MIN));
    cr_expect(
        eq(int, decode("{\"customerId\":1,\"contactId\":0,\"deletedAt\":1}", &event, NULL), CM_OK));
    cr_expect(eq(i64, event.contact_id, 0));
    check_fault("{\"customerId\":1,\"contactId\":9223372036854775808,\"deletedAt\":1}", "malformed",
                "contactId: ", "1");
    check_fault("{\"customerId\":1,\"contactId\":\"77\",\"deletedAt\":1}", "malformed",
                "contactId: ", "1");
    check_fault("{\"customerId\":1,\"contactId\":1.5,\"deletedAt\":1}", "malformed",
                "contactId: ", "1");
}

Test(contact_event, a_fault_tells_code_path_and_the_tenant_where_it_can, .timeout = 5)
{
    check_fault("{\"contactId\":1,\"deletedAt\":1}", "malformed", "customerId: ", "");
    check_fault("{\"customerId\":7,\"deletedAt\":1}", "malformed", "contactId: ", "7");
    check_fault("{\"customerId\":7,\"contactId\":null,\"deletedAt\":1}", "malformed",
                "contactId: ", "7");
    check_fault("{\"customerId\":7,\"contactId\":1}", "malformed", "deletedAt: ", "7");
    check_fault("{\"customerId\":7,\"contactId\":1,\"deletedAt\":null}", "malformed",
                "deletedAt: ", "7");
    check_fault("{\"customerId\":7,\"contactId\":1,\"deletedAt\":\"2026-11-22T16:00:00Z\"}",
                "bad-time", "deletedAt: ", "7");
    check_fault("{\"customerId\":\"a b\",\"contactId\":1,\"deletedAt\":1}", "invalid-tenant",
                "customerId: ", "");
    check_fault("{\"customerId\":7,\"contactId\":1,\"contactId\":1,\"deletedAt\":1}", "malformed",
                "contactId: ", "7");
    check_fault("{\"customerId\":7,\"contactId\":1,\"deletedAt\":1} x", "malformed",
                "(body): ", "7");
    check_fault("", "malformed", "(body): ", "");
}

Test(contact_event, a_body_above_the_limit_is_too_large, .timeout = 5)
{
    static char body[CM_EVENT_BODY_MAX + 2];
    memset(body, ' ', sizeof body - 1);
    memcpy(body, "{\"customerId\":7}", 16);
    check_fault(body, "too-large", "(body): ", "7");
}
