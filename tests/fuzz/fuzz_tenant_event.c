/* fuzz_tenant_event - any bytes as an activation and as a deletion: refused with code and path, or
 * within all limits. */
#include "proto/tenant_event.h"
#include "runtime/cleanup.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool what)
{
    if (!what)
        __builtin_trap();
}

static void check(cm_status_t status, const cm_error_t *err, const char *tenant, int64_t event_ms)
{
    require(strlen(tenant) < CM_TENANT_ID_MAX);
    if (status == CM_OK)
        require(tenant[0] && event_ms >= 0);
    else
        require(status == CM_PERMANENT && strstr(err->message, ": ") > err->message);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int64_t now_ms = INT64_C(1795190400000);
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(4096);
    cm_tenant_activation_t activation;
    cm_account_deletion_t deletion;
    cm_error_t err = {0};
    cm_str_t body = {(const char *)data, size};
    cm_status_t status = cm_tenant_activation_decode(body, now_ms, arena, &activation, &err);
    check(status, &err, activation.tenant, activation.event_ms);
    require(strlen(activation.name) < sizeof activation.name);
    status = cm_account_deletion_decode(body, now_ms, arena, &deletion, &err);
    check(status, &err, deletion.tenant, deletion.event_ms);
    require(strlen(deletion.requested_by) < sizeof deletion.requested_by);
    require(strlen(deletion.reason) < sizeof deletion.reason);
    return 0;
}
