/* fuzz_letter_ids - any bytes as the body of a dead letter: whatever is found stands within it. */
#include "proto/letter_ids.h"
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
    cm_letter_ids_t ids;
    cm_str_t body = {(const char *)data, size};
    cm_letter_ids_read(body, INT64_C(1795190400000), arena, &ids);
    require(ids.application_code.len + ids.client_id.len + ids.token.len <= size);
    require(ids.at_ms >= 0);
    if (ids.client_id.len > 0 && !memchr(data, '\\', size))
        require(cm_letter_quotes(body, ids.client_id));
    if (ids.has_contact_id)
        (void)cm_letter_mentions(body, ids.contact_id);
    return 0;
}
