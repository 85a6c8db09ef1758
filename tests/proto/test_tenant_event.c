#include "proto/device_event.h"
#include "proto/tenant_event.h"
#include "runtime/cleanup.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <string.h>

static const int64_t NOW_MS = INT64_C(1795190400000); /* 2026-11-20T16:00:00Z */

static cm_status_t decode(const char *body, cm_tenant_activation_t *ret_activation, cm_error_t *err)
{
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(1024);
    return cm_tenant_activation_decode(cm_str(body), NOW_MS, arena, ret_activation, err);
}

static void check_fault(const char *body, const char *code, const char *path, const char *tenant)
{
    cm_tenant_activation_t activation;
    cm_error_t err = {0};
    cr_expect(eq(int, decode(body, &activation, &err), CM_PERMANENT), "%s", body);
    cr_expect(eq(str, err.code, (char *)code), "%s", body);
    cr_expect(eq(int, strncmp(err.message, path, strlen(path)), 0), "%s", err.message);
    cr_expect(eq(str, activation.tenant, (char *)tenant));
}

Test(tenant_event, an_activation_is_decoded, .timeout = 5)
{
    cm_tenant_activation_t activation;
    cm_error_t err = {0};
    cr_assert(
        eq(int,
           decode("{\"customerId\":218524530,\"name\":\"acme \\ud83d\\ude00\","
                  "\"eventTime\":\"2026-11-20T16:00:00Z\",\"x\":{\"name\":1,\"customerId\":2}}",
                  &activation, &err),
           CM_OK),
        "%s", err.message);
    cr_expect(eq(str, activation.tenant, "218524530"));
    cr_expect(eq(str, activation.name, "acme \xf0\x9f\x98\x80"));
    cr_expect(eq(i64, activation.event_ms, NOW_MS));
}

Test(tenant_event, the_name_may_be_absent_null_or_empty, .timeout = 5)
{
    static const char *const bodies[] = {"{\"customerId\":\"a\",\"eventTime\":1}",
                                         "{\"customerId\":\"a\",\"eventTime\":1,\"name\":null}",
                                         "{\"customerId\":\"a\",\"eventTime\":1,\"name\":\"\"}"};
    for (size_t i = 0; i < CM_LENGTH(bodies); i++) {
        cm_tenant_activation_t activation;
        cr_assert(eq(int, decode(bodies[i], &activation, NULL), CM_OK));
        cr_expect(eq(str, activation.name, ""));
    }
}

Test(tenant_event, a_name_has_at_most_256_bytes, .timeout = 5)
{
    for (int len = 255; len <= 257; len++) {
        char body[512];
        snprintf(body, sizeof body, "{\"customerId\":1,\"eventTime\":1,\"name\":\"%0*d\"}", len, 0);
        cm_tenant_activation_t activation;
        cm_error_t err = {0};
        cr_expect(eq(int, decode(body, &activation, &err), len <= 256 ? CM_OK : CM_PERMANENT));
        if (len > 256)
            cr_expect(eq(str, err.code, "too-large"));
        else
            cr_expect(eq(sz, strlen(activation.name), (size_t)len));
    }
}

Test(tenant_event, a_fault_tells_code_path_and_the_tenant_where_it_can, .timeout = 5)
{
    check_fault("{\"eventTime\":1}", "malformed", "customerId: ", "");
    check_fault("{\"customerId\":7}", "malformed", "eventTime: ", "7");
    check_fault("{\"customerId\":7,\"eventTime\":1,\"name\":[]}", "malformed", "name: ", "7");
    check_fault("{\"name\":1,\"eventTime\":1,\"customerId\":7}", "malformed", "name: ", "7");
    check_fault("{\"customerId\":7,\"eventTime\":\"soon\"}", "bad-time", "eventTime: ", "7");
    check_fault("{\"customerId\":\"a b\",\"eventTime\":1}", "invalid-tenant", "customerId: ", "");
    check_fault("{\"customerId\":7,\"eventTime\":1", "malformed", "eventTime: ", "7");
    check_fault("", "malformed", "(body): ", "");
}

Test(tenant_event, a_body_above_the_limit_is_too_large, .timeout = 5)
{
    static char body[CM_EVENT_BODY_MAX + 2];
    memset(body, ' ', sizeof body - 1);
    memcpy(body, "{\"customerId\":7}", 16);
    check_fault(body, "too-large", "(body): ", "7");
}

/* ---- account deletion ----------------------------------------------------------------------- */

static cm_status_t decode_deletion(const char *body, cm_account_deletion_t *ret_deletion,
                                   cm_error_t *err)
{
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(1024);
    return cm_account_deletion_decode(cm_str(body), NOW_MS, arena, ret_deletion, err);
}

Test(tenant_event, a_deletion_is_decoded, .timeout = 5)
{
    cm_account_deletion_t deletion;
    cm_error_t err = {0};
    cr_assert(eq(int,
                 decode_deletion("{\"customerId\":218524530,\"requestedBy\":\"ops@acme\","
                                 "\"reason\":\"contract end\",\"name\":[],"
                                 "\"eventTime\":\"2026-11-20T16:00:00Z\"}",
                                 &deletion, &err),
                 CM_OK),
              "%s", err.message);
    cr_expect(eq(str, deletion.tenant, "218524530"));
    cr_expect(eq(str, deletion.requested_by, "ops@acme"));
    cr_expect(eq(str, deletion.reason, "contract end"));
    cr_expect(eq(i64, deletion.event_ms, NOW_MS));
}

Test(tenant_event, who_requested_it_and_why_may_be_absent_or_null, .timeout = 5)
{
    static const char *const bodies[] = {
        "{\"customerId\":\"a\",\"eventTime\":1}",
        "{\"customerId\":\"a\",\"eventTime\":1,\"requestedBy\":null,\"reason\":null}"};
    for (size_t i = 0; i < CM_LENGTH(bodies); i++) {
        cm_account_deletion_t deletion;
        cr_assert(eq(int, decode_deletion(bodies[i], &deletion, NULL), CM_OK));
        cr_expect(eq(str, deletion.requested_by, ""));
        cr_expect(eq(str, deletion.reason, ""));
    }
}

Test(tenant_event, a_reason_has_at_most_1024_bytes, .timeout = 5)
{
    for (int len = 1023; len <= 1025; len++) {
        char body[2048];
        snprintf(body, sizeof body, "{\"customerId\":1,\"eventTime\":1,\"reason\":\"%0*d\"}", len,
                 0);
        cm_account_deletion_t deletion;
        cm_error_t err = {0};
        cr_expect(
            eq(int, decode_deletion(body, &deletion, &err), len <= 1024 ? CM_OK : CM_PERMANENT));
        cr_expect(eq(str, err.code, len <= 1024 ? "" : "too-large"));
    }
}

Test(tenant_event, a_fault_of_a_deletion_tells_code_path_and_tenant, .timeout = 5)
{
    static const struct {
        const char *body, *code, *path, *tenant;
    } faults[] = {
        {"{\"eventTime\":1}", "malformed", "customerId: ", ""},
        {"{\"customerId\":7}", "malformed", "eventTime: ", "7"},
        {"{\"reason\":1,\"eventTime\":1,\"customerId\":7}", "malformed", "reason: ", "7"},
        {"{\"customerId\":7,\"requestedBy\":{}}", "malformed", "requestedBy: ", "7"},
        {"{\"customerId\":7,\"eventTime\":\"soon\"}", "bad-time", "eventTime: ", "7"},
    };
    for (size_t i = 0; i < CM_LENGTH(faults); i++) {
        cm_account_deletion_t deletion;
        cm_error_t err = {0};
        cr_expect(eq(int, decode_deletion(faults[i].body, &deletion, &err), CM_PERMANENT));
        cr_expect(eq(str, err.code, (char *)faults[i].code));
        cr_expect(eq(int, strncmp(err.message, faults[i].path, strlen(faults[i].path)), 0));
        cr_expect(eq(str, deletion.tenant, (char *)faults[i].tenant));
    }
}
