#include "proto/token_status_event.h"
#include "proto/device_event.h"
#include "proto/event_field.h"
#include "runtime/cleanup.h"

enum {
    STATUS_MIN = 100,
    STATUS_MAX = 599,
    CODE_MAX = 256,
    REASON_MAX = 256,
    DETAIL_MAX = 8 * 1024
};

typedef struct {
    cm_token_status_event_t *event;
    int64_t now_ms;
    bool has_time, has_response;
    bool in_response; /* values at depth 2 are members of response */
} decoder_t;

typedef cm_status_t(field_fn)(decoder_t *self, const cm_json_value_t *value, cm_error_t *err);

typedef struct {
    const char *name;
    field_fn *read;
} field_t;

static cm_status_t malformed(cm_error_t *err, const char *message)
{
    return cm_error_set(err, CM_PERMANENT, "malformed", "%s", message);
}

/* ---- members of the response ----------------------------------------------------------------- */

static cm_status_t read_http_status(decoder_t *self, const cm_json_value_t *value, cm_error_t *err)
{
    bool has = false;
    int64_t number = 0;
    cm_status_t status = cm_event_i64(value, &has, &number, err);
    if (status != CM_OK || !has)
        return status;
    if (number < STATUS_MIN || number > STATUS_MAX)
        return cm_error_set(err, CM_PERMANENT, "malformed", "must be from %d to %d", STATUS_MIN,
                            STATUS_MAX);
    self->event->answer.status = (int)number;
    return CM_OK;
}

static cm_status_t read_error_code(decoder_t *self, const cm_json_value_t *value, cm_error_t *err)
{
    int64_t number = 0;
    if (value->type == CM_JSON_NUMBER && cm_json_i64(value->text, &number)) {
        self->event->answer.code = value->text;
        return CM_OK;
    }
    if (value->type == CM_JSON_NUMBER)
        return malformed(err, "must be a string or an integer of 64 bits");
    return cm_event_text(value, CODE_MAX, &self->event->answer.code, err);
}

static cm_status_t read_detail(decoder_t *self, const cm_json_value_t *value, cm_error_t *err)
{
    return cm_event_text(value, DETAIL_MAX, &self->event->answer.detail, err);
}

static cm_status_t read_timestamp(decoder_t *self, const cm_json_value_t *value, cm_error_t *err)
{
    if (value->type == CM_JSON_NULL)
        return CM_OK;
    self->event->answer.has_timestamp = true;
    return cm_json_time(value, self->now_ms, &self->event->answer.timestamp_ms, err);
}

static const field_t response_fields[] = {
    {"httpStatus", read_http_status},
    {"errorCode", read_error_code},
    {"detail", read_detail},
    {"timestamp", read_timestamp},
};

/* ---- members of the event -------------------------------------------------------------------- */

static cm_status_t read_customer_id(decoder_t *self, const cm_json_value_t *value, cm_error_t *err)
{
    return cm_event_tenant(value, self->event->tenant, err);
}

static cm_status_t read_application_code(decoder_t *self, const cm_json_value_t *value,
                                         cm_error_t *err)
{
    return cm_event_key(value, CM_EVENT_KEY_MAX, &self->event->application_code, err);
}

static cm_status_t read_client_id(decoder_t *self, const cm_json_value_t *value, cm_error_t *err)
{
    return cm_event_text(value, CM_EVENT_KEY_MAX, &self->event->client_id, err);
}

static cm_status_t read_token(decoder_t *self, const cm_json_value_t *value, cm_error_t *err)
{
    return cm_event_text(value, CM_EVENT_TOKEN_MAX, &self->event->token, err);
}

static cm_status_t read_event_time(decoder_t *self, const cm_json_value_t *value, cm_error_t *err)
{
    self->has_time = true;
    return cm_json_time(value, self->now_ms, &self->event->event_ms, err);
}

static cm_status_t read_status(decoder_t *self, const cm_json_value_t *value, cm_error_t *err)
{
    cm_token_status_event_t *event = self->event;
    if (value->type == CM_JSON_NULL)
        return CM_OK;
    event->is_valid = value->type == CM_JSON_STRING && cm_str_is(value->text, "valid");
    if (!event->is_valid && (value->type != CM_JSON_STRING || !cm_str_is(value->text, "invalid")))
        return malformed(err, "must be valid or invalid");
    event->is_judged = true;
    return CM_OK;
}

static cm_status_t read_reason(decoder_t *self, const cm_json_value_t *value, cm_error_t *err)
{
    return cm_event_text(value, REASON_MAX, &self->event->reason, err);
}

static cm_status_t read_provider(decoder_t *self, const cm_json_value_t *value, cm_error_t *err)
{
    cm_token_status_event_t *event = self->event;
    if (value->type == CM_JSON_NULL)
        return CM_OK;
    event->has_provider = value->type == CM_JSON_STRING &&
                          cm_push_provider_parse(value->text, &event->answer.provider);
    return event->has_provider ? CM_OK : malformed(err, "must be fcm, apns, hms, webpush or sns");
}

static cm_status_t read_response(decoder_t *self, const cm_json_value_t *value, cm_error_t *err)
{
    if (value->type == CM_JSON_NULL)
        return CM_OK;
    if (value->type != CM_JSON_OBJECT)
        return malformed(err, "must be an object or null");
    self->has_response = true;
    self->in_response = true;
    return CM_OK;
}

static const field_t event_fields[] = {
    {"customerId", read_customer_id}, {"applicationCode", read_application_code},
    {"clientId", read_client_id},     {"token", read_token},
    {"eventTime", read_event_time},   {"status", read_status},
    {"reason", read_reason},          {"provider", read_provider},
    {"response", read_response},
};

/* ---- the whole event ------------------------------------------------------------------------- */

static cm_status_t read_member(decoder_t *self, const field_t *fields, size_t count,
                               const cm_json_value_t *value, cm_error_t *err)
{
    for (size_t i = 0; i < count; i++) {
        if (cm_str_is(value->key, fields[i].name))
            return fields[i].read(self, value, err);
    }
    return CM_OK; /* unknown members are ignored */
}

static cm_status_t on_value(void *ctx, const cm_json_value_t *value, cm_error_t *err)
{
    decoder_t *self = ctx;
    if (value->type == CM_JSON_END) {
        if (value->depth == 1)
            self->in_response = false;
        return CM_OK;
    }
    if (value->depth == 1)
        return read_member(self, event_fields, CM_LENGTH(event_fields), value, err);
    if (value->depth == 2 && self->in_response)
        return read_member(self, response_fields, CM_LENGTH(response_fields), value, err);
    return CM_OK;
}

static cm_status_t check_whole(const decoder_t *self, cm_error_t *err)
{
    const cm_token_status_event_t *event = self->event;
    const char *missing = event->tenant[0] == '\0'                     ? "customerId"
                          : !event->application_code.ptr               ? "applicationCode"
                          : !self->has_time                            ? "eventTime"
                          : self->has_response && !event->has_provider ? "provider"
                                                                       : NULL;
    if (missing)
        return cm_error_set(err, CM_PERMANENT, "malformed", "%s: is missing", missing);
    if (!event->client_id.ptr && !event->token.ptr)
        return malformed(err, "(body): has neither clientId nor token");
    if (event->is_judged == self->has_response)
        return malformed(err, event->is_judged ? "(body): has both status and response"
                                               : "(body): has neither status nor response");
    return CM_OK;
}

cm_status_t cm_token_status_event_decode(cm_str_t body, int64_t now_ms, cm_arena_t *arena,
                                         cm_token_status_event_t *ret_event, cm_error_t *err)
{
    *ret_event = (cm_token_status_event_t){0};
    decoder_t self = {.event = ret_event, .now_ms = now_ms};
    cm_status_t status = cm_event_read(body, arena, on_value, &self, ret_event->tenant, err);
    if (status == CM_OK)
        status = check_whole(&self, err);
    ret_event->answer.event_ms = ret_event->event_ms;
    return status;
}

cm_push_judgement_t cm_token_status_event_judge(const cm_token_status_event_t *event)
{
    if (!event->is_judged)
        return cm_push_verdict_judge(&event->answer);
    return (cm_push_judgement_t){.verdict =
                                     event->is_valid ? CM_PUSH_VERDICT_VALID : CM_PUSH_VERDICT_GONE,
                                 .at_ms = event->event_ms};
}
