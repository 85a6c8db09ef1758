/* fuzz_http_retry_after - whatever a server says, the wait is none or within its bounds. */
#include "runtime/http.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cm_str_t value = {(const char *)data, size};
    int ms = cm_http_retry_after_ms(value, 1445412480000);
    if (ms < -1 || ms > CM_HTTP_RETRY_AFTER_MAX_MS)
        abort();
    return 0;
}
