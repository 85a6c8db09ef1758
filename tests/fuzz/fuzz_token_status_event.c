/* fuzz_token_status_event - any bytes as a token's status: refused with code and path, or within
 * all limits; what the table does not know by name never ends a token.
 */
#include "proto/device_event.h"
#include "proto/token_status_event.h"
#include "runtime/cleanup.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool what)
{
    if (!what)
        __builtin_trap();
}

static void check_judgement(const cm_token_status_event_t *event)
{
    cm_push_judgement_t judgement = cm_token_status_event_judge(event);
    require(judgement.verdict < CM_PUSH_VERDICTS && judgement.at_ms <= event->event_ms);
    if (event->is_judged) {
        require(!judgement.row && judgement.table_version == 0);
        return;
    }
    require(judgement.table_version > 0);
    require((judgement.verdict == CM_PUSH_VERDICT_UNKNOWN) == !judgement.row);
    if (judgement.verdict == CM_PUSH_VERDICT_GONE) {
        const char *code = judgement.row->code;
        require(code && strlen(code) == event->answer.code.len &&
                (!*code || memcmp(code, event->answer.code.ptr, event->answer.code.len) == 0));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(4096);
    cm_token_status_event_t event;
    cm_error_t err = {0};
    cm_str_t body = {(const char *)data, size};
    cm_status_t status =
        cm_token_status_event_decode(body, INT64_C(1795190400000), arena, &event, &err);
    require(strlen(event.tenant) < sizeof event.tenant);
    if (status != CM_OK) {
        require(status == CM_PERMANENT && strstr(err.message, ": ") > err.message);
        return 0;
    }
    require(event.tenant[0] && event.event_ms >= 0 && event.application_code.len > 0);
    require(event.client_id.len > 0 || event.token.len > 0);
    require(event.client_id.len <= CM_EVENT_KEY_MAX && event.token.len <= CM_EVENT_TOKEN_MAX);
    require(event.is_judged || event.has_provider);
    check_judgement(&event);
    return 0;
}
