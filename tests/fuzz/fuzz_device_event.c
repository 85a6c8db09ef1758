/* fuzz_device_event - any bytes as a device event: refused with a documented code and a path, or
 * accepted within all limits; and the order rule holds for what was accepted. */
#include "proto/device_event.h"
#include "proto/device_order.h"
#include "runtime/cleanup.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const int64_t NOW_MS = INT64_C(1795190400000);

static void require(bool what)
{
    if (!what)
        __builtin_trap();
}

static void check_fault(const cm_error_t *err)
{
    static const char *const codes[] = {"malformed", "too-large", "bad-time", "invalid-tenant"};
    bool known = false;
    for (size_t i = 0; i < CM_LENGTH(codes); i++)
        known |= strcmp(err->code, codes[i]) == 0;
    require(known && err->status == CM_PERMANENT);
    require(strstr(err->message, ": ") > err->message);
    for (const char *p = err->message; *p; p++)
        require(*p >= 0x20 && *p < 0x7f);
}

static void check_text(cm_str_t text, size_t min, size_t max)
{
    require(text.ptr ? text.len >= min && text.len <= max : min == 0);
    require(!text.ptr || !memchr(text.ptr, '\0', text.len));
}

static void check_event(const cm_device_event_t *event)
{
    require(event->tenant[0] && strlen(event->tenant) < CM_TENANT_ID_MAX);
    check_text(event->application_code, 1, CM_EVENT_KEY_MAX);
    check_text(event->client_id, 1, CM_EVENT_KEY_MAX);
    check_text(event->push_token, 0, CM_EVENT_TOKEN_MAX);
    for (int i = 0; i < CM_DEVICE_FIELDS; i++)
        check_text(event->device[i], 0, i == CM_DEVICE_PUSH_SETTINGS ? 8192 : 1024);
    require(event->event_ms >= 0 && event->event_ms <= NOW_MS + CM_EVENT_FUTURE_MAX_MS);
    require((event->push_token.ptr != NULL) == (event->push_address_type.ptr != NULL));
    require(event->has_device || event->has_push || event->has_contact || event->removed);
    require(event->has_contact || !event->has_contact_id);
}

static void check_order(const cm_device_event_t *event)
{
    cm_device_change_t change, again;
    cm_device_change_from_event(&change, event);
    again = change;
    require(cm_device_change_merge(&again, &change) == CM_MERGE_DUPLICATE);
    cm_device_event_t removal = {.application_code = event->application_code,
                                 .client_id = event->client_id,
                                 .event_ms = event->event_ms,
                                 .removed = true};
    cm_device_change_t removed;
    cm_device_change_from_event(&removed, &removal);
    again = removed;
    require(cm_device_change_merge(&again, &change) != CM_MERGE_APPLIED);
    (void)cm_device_change_merge(&change, &removed);
    require(change.device_ms == CM_TIME_NONE && change.contact_ms == CM_TIME_NONE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(4096);
    cm_device_event_t event;
    cm_error_t err = {0};
    if (cm_device_event_decode((cm_str_t){(const char *)data, size}, NOW_MS, arena, &event, &err)) {
        check_fault(&err);
        require(strlen(event.tenant) < CM_TENANT_ID_MAX);
        return 0;
    }
    check_event(&event);
    check_order(&event);
    return 0;
}
