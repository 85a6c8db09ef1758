/* fuzz_msgpack - what the scan accepts, msgpack-c unpacks, and both agree where the value ends. */
#include "runtime/msgpack_check.h"

#include <msgpack.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t used = 0;
    if (!cm_msgpack_check(data, size, CM_MSGPACK_DEPTH, &used))
        return 0;
    if (used == 0 || used > size)
        abort();
    msgpack_unpacked unpacked;
    msgpack_unpacked_init(&unpacked);
    size_t end = 0;
    msgpack_unpack_return result = msgpack_unpack_next(&unpacked, (const char *)data, size, &end);
    if (result != MSGPACK_UNPACK_SUCCESS || end != used)
        abort();
    msgpack_unpacked_destroy(&unpacked);
    /* Cut anywhere, the value is no longer complete. */
    if (cm_msgpack_check(data, used - 1, CM_MSGPACK_DEPTH, NULL))
        abort();
    return 0;
}
