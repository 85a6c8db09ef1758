/* device_event - the body of client-manager.writer, decoded strictly.
 *
 * One pass over the JSON with yajl behind our own reader (proto/json_reader.h). Every fault names
 * the path of the offending value: "device.pushSettings.importance: ...". An empty text counts as
 * absent: both mean "empty". Decided here, where events.md is silent: applicationCode and clientId
 * are 1 to 256 bytes; a device field is at most 1024 bytes; pushSettings is an object of at most 8
 * KiB, kept as compact JSON in the sender's order; platform is any text; contactFieldId is a 64-bit
 * integer; a removed event may carry no group; addressType without token is ignored, so is
 * contactFieldId without contactId; null in an optional field is absent. Rule: events.md sections 3
 * and 4.
 */
#ifndef CM_PROTO_DEVICE_EVENT_H
#define CM_PROTO_DEVICE_EVENT_H
#include "proto/tenant_id.h"
#include "runtime/status.h"
#include "runtime/str.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    CM_EVENT_BODY_MAX = 256 * 1024,
    CM_EVENT_DEPTH_MAX = 32,
    CM_EVENT_KEY_MAX = 256,
    CM_EVENT_TOKEN_MAX = 4096,
    CM_EVENT_FUTURE_MAX_MS = 24 * 3600 * 1000
};

typedef enum { /* the device group, in the order of the table's columns */
               CM_DEVICE_PLATFORM,
               CM_DEVICE_APPLICATION_VERSION,
               CM_DEVICE_MODEL,
               CM_DEVICE_OS_VERSION,
               CM_DEVICE_SDK_VERSION,
               CM_DEVICE_LANGUAGE,
               CM_DEVICE_TIMEZONE,
               CM_DEVICE_PUSH_SETTINGS,
               CM_DEVICE_FIELDS
} cm_device_field_t;

/* JSON name of a device field: "applicationVersion". */
const char *cm_device_field_name(cm_device_field_t field);

typedef struct {
    char tenant[CM_TENANT_ID_MAX]; /* canonical */
    cm_str_t application_code, client_id;
    int64_t event_ms; /* epoch */
    bool removed;
    bool has_device, has_push, has_contact; /* group present */
    cm_str_t device[CM_DEVICE_FIELDS];      /* absent = empty */
    cm_str_t push_token;                    /* absent = cleared */
    cm_str_t push_address_type;             /* set whenever push_token is */
    bool has_contact_id, has_contact_field_id;
    int64_t contact_id, contact_field_id;
} cm_device_event_t; /* texts point into the body or the arena */

/* Decode body. now_ms: epoch, for the limit on times ahead. CM_PERMANENT with code "malformed"
 * (syntax, type, UTF-8, NUL, duplicate key, depth, missing field), "too-large", "bad-time",
 * "invalid-tenant". When the tenant could be read, ret_event->tenant is set even on failure. */
cm_status_t cm_device_event_decode(cm_str_t body, int64_t now_ms, cm_arena_t *arena,
                                   cm_device_event_t *ret_event, cm_error_t *err);
#endif
