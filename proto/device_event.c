#include "proto/device_event.h"
#include "proto/event_field.h"
#include "proto/json_reader.h"
#include "proto/json_text.h"
#include "runtime/cleanup.h"

#include <assert.h>
#include <string.h>
#include <strings.h>

enum { DEVICE_TEXT_MAX = 1024, PUSH_SETTINGS_MAX = 8 * 1024, ADDRESS_TYPE_MAX = 64 };

#define NAME(literal)                                                                              \
    {                                                                                              \
        (literal), sizeof(literal) - 1                                                             \
    }

typedef struct group group_t;

typedef struct {
    cm_device_event_t *event;
    int64_t now_ms;
    cm_arena_t *arena;
    const group_t *group; /* whose members are read at depth 2, or NULL */
    bool has_time;
    bool in_settings; /* inside pushSettings: every value goes to settings */
    cm_json_text_t settings;
    cm_str_t address_type; /* as sent */
} decoder_t;

typedef cm_status_t(field_fn)(decoder_t *self, const cm_json_value_t *value, int arg,
                              cm_error_t *err);

typedef struct {
    cm_str_t name;
    field_fn *read;
    int arg;
} field_t;

struct group {
    const field_t *fields;
    size_t count;
};

static cm_status_t malformed(cm_error_t *err, const char *message)
{
    return cm_error_set(err, CM_PERMANENT, "malformed", "%s", message);
}

/* ---- members of the groups ------------------------------------------------------------------- */

static cm_status_t read_device_text(decoder_t *self, const cm_json_value_t *value, int arg,
                                    cm_error_t *err)
{
    return cm_event_text(value, DEVICE_TEXT_MAX, &self->event->device[arg], err);
}

static cm_status_t read_settings(decoder_t *self, const cm_json_value_t *value, int arg,
                                 cm_error_t *err)
{
    if (value->type == CM_JSON_NULL)
        return CM_OK;
    if (value->type != CM_JSON_OBJECT)
        return malformed(err, "must be an object");
    self->in_settings = true;
    cm_json_text_init(&self->settings, PUSH_SETTINGS_MAX, self->arena);
    bool done = false;
    return cm_json_text_add(&self->settings, value, &done, &self->event->device[arg], err);
}

static cm_status_t read_token(decoder_t *self, const cm_json_value_t *value, int arg,
                              cm_error_t *err)
{
    (void)arg;
    return cm_event_text(value, CM_EVENT_TOKEN_MAX, &self->event->push_token, err);
}

static cm_status_t read_address_type(decoder_t *self, const cm_json_value_t *value, int arg,
                                     cm_error_t *err)
{
    (void)arg; /* its value is judged at the end: without a token it is ignored */
    return cm_event_text(value, ADDRESS_TYPE_MAX, &self->address_type, err);
}

static cm_status_t read_contact_id(decoder_t *self, const cm_json_value_t *value, int arg,
                                   cm_error_t *err)
{
    (void)arg;
    cm_device_event_t *event = self->event;
    return cm_event_i64(value, &event->has_contact_id, &event->contact_id, err);
}

static cm_status_t read_contact_field_id(decoder_t *self, const cm_json_value_t *value, int arg,
                                         cm_error_t *err)
{
    (void)arg;
    cm_device_event_t *event = self->event;
    return cm_event_i64(value, &event->has_contact_field_id, &event->contact_field_id, err);
}

static const field_t device_fields[CM_DEVICE_FIELDS] = {
    [CM_DEVICE_PLATFORM] = {NAME("platform"), read_device_text, CM_DEVICE_PLATFORM},
    [CM_DEVICE_APPLICATION_VERSION] = {NAME("applicationVersion"), read_device_text,
                                       CM_DEVICE_APPLICATION_VERSION},
    [CM_DEVICE_MODEL] = {NAME("deviceModel"), read_device_text, CM_DEVICE_MODEL},
    [CM_DEVICE_OS_VERSION] = {NAME("osVersion"), read_device_text, CM_DEVICE_OS_VERSION},
    [CM_DEVICE_SDK_VERSION] = {NAME("sdkVersion"), read_device_text, CM_DEVICE_SDK_VERSION},
    [CM_DEVICE_LANGUAGE] = {NAME("language"), read_device_text, CM_DEVICE_LANGUAGE},
    [CM_DEVICE_TIMEZONE] = {NAME("timezone"), read_device_text, CM_DEVICE_TIMEZONE},
    [CM_DEVICE_PUSH_SETTINGS] = {NAME("pushSettings"), read_settings, CM_DEVICE_PUSH_SETTINGS},
};

static const field_t push_fields[] = {
    {NAME("token"), read_token, 0},
    {NAME("addressType"), read_address_type, 0},
};

static const field_t contact_fields[] = {
    {NAME("contactId"), read_contact_id, 0},
    {NAME("contactFieldId"), read_contact_field_id, 0},
};

static const group_t device_group = {device_fields, CM_LENGTH(device_fields)};
static const group_t push_group = {push_fields, CM_LENGTH(push_fields)};
static const group_t contact_group = {contact_fields, CM_LENGTH(contact_fields)};

const char *cm_device_field_name(cm_device_field_t field)
{
    assert(field < CM_DEVICE_FIELDS);
    return device_fields[field].name.ptr;
}

/* ---- members of the event -------------------------------------------------------------------- */

static cm_status_t read_customer_id(decoder_t *self, const cm_json_value_t *value, int arg,
                                    cm_error_t *err)
{
    (void)arg;
    return cm_event_tenant(value, self->event->tenant, err);
}

static cm_status_t read_application_code(decoder_t *self, const cm_json_value_t *value, int arg,
                                         cm_error_t *err)
{
    (void)arg;
    return cm_event_key(value, CM_EVENT_KEY_MAX, &self->event->application_code, err);
}

static cm_status_t read_client_id(decoder_t *self, const cm_json_value_t *value, int arg,
                                  cm_error_t *err)
{
    (void)arg;
    return cm_event_key(value, CM_EVENT_KEY_MAX, &self->event->client_id, err);
}

static cm_status_t read_event_time(decoder_t *self, const cm_json_value_t *value, int arg,
                                   cm_error_t *err)
{
    (void)arg;
    self->has_time = true;
    return cm_json_time(value, self->now_ms, &self->event->event_ms, err);
}

static cm_status_t read_removed(decoder_t *self, const cm_json_value_t *value, int arg,
                                cm_error_t *err)
{
    (void)arg;
    if (value->type != CM_JSON_BOOL)
        return malformed(err, "must be true or false");
    self->event->removed = value->boolean;
    return CM_OK;
}

/* Open a group; its members follow. A null, where allowed, is the group with all members absent. */
static cm_status_t open_group(decoder_t *self, const cm_json_value_t *value, const group_t *group,
                              bool *ret_present, cm_error_t *err)
{
    if (value->type == CM_JSON_OBJECT)
        self->group = group;
    else if (value->type != CM_JSON_NULL || group == &device_group)
        return malformed(err, group == &device_group ? "must be an object"
                                                     : "must be an object or null");
    *ret_present = true;
    return CM_OK;
}

static cm_status_t read_device(decoder_t *self, const cm_json_value_t *value, int arg,
                               cm_error_t *err)
{
    (void)arg;
    return open_group(self, value, &device_group, &self->event->has_device, err);
}

static cm_status_t read_push(decoder_t *self, const cm_json_value_t *value, int arg,
                             cm_error_t *err)
{
    (void)arg;
    return open_group(self, value, &push_group, &self->event->has_push, err);
}

static cm_status_t read_contact(decoder_t *self, const cm_json_value_t *value, int arg,
                                cm_error_t *err)
{
    (void)arg;
    return open_group(self, value, &contact_group, &self->event->has_contact, err);
}

static const field_t event_fields[] = {
    {NAME("customerId"), read_customer_id, 0}, {NAME("applicationCode"), read_application_code, 0},
    {NAME("clientId"), read_client_id, 0},     {NAME("eventTime"), read_event_time, 0},
    {NAME("device"), read_device, 0},          {NAME("push"), read_push, 0},
    {NAME("contact"), read_contact, 0},        {NAME("removed"), read_removed, 0},
};

static const group_t event_group = {event_fields, CM_LENGTH(event_fields)};

/* ---- dispatch -------------------------------------------------------------------------------- */

static cm_status_t read_member(decoder_t *self, const group_t *group, const cm_json_value_t *value,
                               cm_error_t *err)
{
    for (size_t i = 0; i < group->count; i++) {
        const field_t *field = &group->fields[i];
        if (field->name.len == value->key.len &&
            memcmp(field->name.ptr, value->key.ptr, value->key.len) == 0)
            return field->read(self, value, field->arg, err);
    }
    return CM_OK; /* unknown members are ignored */
}

static cm_status_t on_value(void *ctx, const cm_json_value_t *value, cm_error_t *err)
{
    decoder_t *self = ctx;
    if (self->in_settings) {
        bool done = false;
        cm_status_t status = cm_json_text_add(&self->settings, value, &done,
                                              &self->event->device[CM_DEVICE_PUSH_SETTINGS], err);
        self->in_settings = !done;
        return status;
    }
    if (value->type == CM_JSON_END) {
        if (value->depth == 1)
            self->group = NULL;
        return CM_OK;
    }
    if (value->depth == 1)
        return read_member(self, &event_group, value, err);
    if (value->depth == 2 && self->group)
        return read_member(self, self->group, value, err);
    return CM_OK;
}

/* ---- the whole event ------------------------------------------------------------------------- */

static cm_status_t check_required(const decoder_t *self, cm_error_t *err)
{
    const cm_device_event_t *event = self->event;
    const char *missing = event->tenant[0] == '\0'       ? "customerId"
                          : !event->application_code.ptr ? "applicationCode"
                          : !event->client_id.ptr        ? "clientId"
                          : !self->has_time              ? "eventTime"
                                                         : NULL;
    if (missing)
        return cm_error_set(err, CM_PERMANENT, "malformed", "%s: is missing", missing);
    if (!event->has_device && !event->has_push && !event->has_contact && !event->removed)
        return malformed(err, "(body): has neither device, push, contact nor removed");
    return CM_OK;
}

static bool is_platform(const cm_device_event_t *event, const char *name)
{
    cm_str_t platform = event->device[CM_DEVICE_PLATFORM];
    return platform.len == strlen(name) && strncasecmp(platform.ptr, name, platform.len) == 0;
}

static cm_status_t settle_address_type(decoder_t *self, cm_error_t *err)
{
    static const char *const known[] = {"fcm", "fcm-fid", "apns", "apns-sandbox", "hms", "webpush"};
    cm_device_event_t *event = self->event;
    if (!event->push_token.ptr)
        return CM_OK;
    if (!self->address_type.ptr) {
        event->push_address_type = is_platform(event, "ios") ? CM_STR("apns") : CM_STR("fcm");
        return CM_OK;
    }
    for (size_t i = 0; i < CM_LENGTH(known); i++) {
        if (cm_str_is(self->address_type, known[i])) {
            event->push_address_type = self->address_type;
            return CM_OK;
        }
    }
    return malformed(err, "push.addressType: must be fcm, fcm-fid, apns, apns-sandbox, hms or "
                          "webpush");
}

cm_status_t cm_device_event_decode(cm_str_t body, int64_t now_ms, cm_arena_t *arena,
                                   cm_device_event_t *ret_event, cm_error_t *err)
{
    *ret_event = (cm_device_event_t){0};
    decoder_t self = {.event = ret_event, .now_ms = now_ms, .arena = arena};
    cm_status_t status = cm_event_read(body, arena, on_value, &self, ret_event->tenant, err);
    if (status == CM_OK)
        status = check_required(&self, err);
    if (status == CM_OK)
        status = settle_address_type(&self, err);
    if (!ret_event->has_contact_id) { /* nothing to be a field of: unlinked is one state */
        ret_event->has_contact_field_id = false;
        ret_event->contact_field_id = 0;
    }
    return status;
}
