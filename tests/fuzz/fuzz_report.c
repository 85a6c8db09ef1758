/* A report that is read is written again as the same report. */
#include "proto/report.h"
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
    cm_report_t report, again;
    cm_error_t err = {0};
    cm_status_t status = cm_report_decode(data, size, &report, &err);
    if (status != CM_OK) {
        check(status == CM_PERMANENT && err.message[0]);
        return 0;
    }
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t frame = {0};
    cm_report_encode(&report, &frame);
    check(cm_report_decode(frame.data, frame.len, &again, NULL) == CM_OK);
    check(again.kind == report.kind && again.state == report.state);
    check(cm_str_eq(again.source, report.source) && cm_str_eq(again.text, report.text));
    check(cm_str_eq(again.metrics, report.metrics));
    check(memcmp(&again.ledgers, &report.ledgers, sizeof again.ledgers) == 0);
    return 0;
}
