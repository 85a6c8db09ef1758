/* fuzz_contact_event - any bytes as a contact deletion: refused with code and path, or whole. */
#include "proto/contact_event.h"
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
    cm_contact_deletion_event_t event;
    cm_error_t err = {0};
    cm_str_t body = {(const char *)data, size};
    cm_status_t status =
        cm_contact_deletion_decode(body, INT64_C(1795190400000), arena, &event, &err);
    require(strlen(event.tenant) < sizeof event.tenant);
    if (status != CM_OK) {
        require(status == CM_PERMANENT && strstr(err.message, ": ") > err.message);
        return 0;
    }
    require(event.tenant[0] && event.deleted_ms >= 0);
    return 0;
}
