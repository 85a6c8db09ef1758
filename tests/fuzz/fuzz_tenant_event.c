/* fuzz_tenant_event - any bytes as an activation: refused with code and path, or within all limits.
 */
#include "proto/tenant_event.h"
#include "runtime/cleanup.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool what)
{
    if (!what)
        __builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(4096);
    cm_tenant_activation_t activation;
    cm_error_t err = {0};
    cm_str_t body = {(const char *)data, size};
    cm_status_t status =
        cm_tenant_activation_decode(body, INT64_C(1795190400000), arena, &activation, &err);
    require(strlen(activation.tenant) < sizeof activation.tenant);
    require(strlen(activation.name) < sizeof activation.name);
    if (status != CM_OK) {
        require(status == CM_PERMANENT && strstr(err.message, ": ") > err.message);
        return 0;
    }
    require(activation.tenant[0] && activation.event_ms >= 0);
    return 0;
}
