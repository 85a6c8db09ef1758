/* fuzz_metrics - a board takes a frame or refuses it whole; what it renders it can always render.
 */
#include "runtime/cleanup.h"
#include "runtime/metrics.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CM_CLEANUP(cm_metrics_board_destroy) cm_metrics_board_t *board = cm_metrics_board_new();
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t text = {0};
    cm_status_t first = cm_metrics_board_put(board, data, size, 0, NULL);
    cm_metrics_board_render(board, 0, &text);
    if (first != CM_OK && text.len != 0)
        abort();
    if (cm_metrics_board_put(board, data, size, 1, NULL) != first)
        abort();
    cm_metrics_board_render(board, 1, &text);
    return 0;
}
