/* The bytes as one line: what is read can be written and read again, and is what the store relies
 * on. */
#include "proto/sync_reference.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check(bool holds)
{
    if (!holds)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size); /* called by libFuzzer */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cm_sync_reference_t one, two;
    cm_error_t err = {0};
    bool holds = false;
    char line[256];
    if (cm_sync_reference_parse((cm_str_t){(const char *)data, size}, &one, &holds, &err) !=
        CM_OK) {
        check(err.status == CM_PERMANENT && err.code[0] && !strchr(err.message, '\n'));
        return 0;
    }
    if (!holds)
        return 0;
    check(one.devices >= 0 && one.counted_ms >= 0);
    check(strspn(one.tenant, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") ==
          strlen(one.tenant));
    int len = snprintf(line, sizeof line, "%s,%" PRId64 ",", one.tenant, one.devices);
    if (one.has_checksum)
        len += snprintf(line + len, sizeof line - (size_t)len, "%" PRId64, one.checksum);
    if (one.counted_ms)
        snprintf(line + len, sizeof line - (size_t)len, ",%" PRId64, one.counted_ms);
    check(cm_sync_reference_parse(cm_str(line), &two, &holds, NULL) == CM_OK);
    check(holds || strcmp(one.tenant, "tenant") == 0);
    check(!holds || (strcmp(one.tenant, two.tenant) == 0 && one.devices == two.devices &&
                     one.has_checksum == two.has_checksum && one.checksum == two.checksum &&
                     one.counted_ms == two.counted_ms));
    return 0;
}
