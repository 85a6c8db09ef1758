/* What is read is due again and again: each tick is later than the time asked for, it is the last
 * one up to itself, and there is none between the time asked for and it. The first byte chooses the
 * zone, the next four the time. */
#include "proto/cron.h"
#include "runtime/cleanup.h"

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
    static const char *const names[] = {"UTC", "Europe/Berlin", "America/New_York",
                                        "Australia/Lord_Howe", "Pacific/Apia"};
    uint32_t time;
    cm_cron_t cron;
    cm_error_t err = {0};
    if (size < 1 + sizeof time)
        return 0;
    memcpy(&time, data + 1, sizeof time);
    cm_str_t text = {(const char *)data + 1 + sizeof time, size - 1 - sizeof time};
    if (cm_cron_parse(&cron, text, &err) != CM_OK) {
        check(err.status == CM_MISCONFIGURED && err.message[0]);
        return 0;
    }
    CM_CLEANUP(cm_zone_destroy) cm_zone_t *zone = NULL;
    check(cm_zone_open(&zone, names[data[0] % CM_LENGTH(names)], NULL) == CM_OK);
    int64_t at = time;
    for (int i = 0; i < 3; i++) {
        int64_t next = cm_cron_next_s(&cron, zone, at);
        check(next > at && next < CM_CRON_LAST_S);
        check(cm_cron_next_s(&cron, zone, next - 1) == next);
        check(cm_cron_last_s(&cron, zone, at, next) == next);
        check(cm_cron_last_s(&cron, zone, at, next - 1) == CM_CRON_NEVER);
        at = next;
    }
    return 0;
}
