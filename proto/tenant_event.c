#include "proto/tenant_event.h"
#include "proto/event_field.h"

#include <string.h>

typedef struct { /* a text of the body and where it goes */
    const char *name;
    char *text;
    size_t size; /* with the NUL */
} field_t;

typedef struct {
    char *tenant;
    int64_t *event_ms;
    field_t fields[2];
    int64_t now_ms;
    bool has_time;
} decoder_t;

static cm_status_t on_value(void *ctx, const cm_json_value_t *value, cm_error_t *err)
{
    decoder_t *self = ctx;
    if (value->depth != 1 || value->type == CM_JSON_END)
        return CM_OK;
    if (cm_str_is(value->key, "customerId"))
        return cm_event_tenant(value, self->tenant, err);
    if (cm_str_is(value->key, "eventTime")) {
        self->has_time = true;
        return cm_json_time(value, self->now_ms, self->event_ms, err);
    }
    for (size_t i = 0; i < 2; i++) {
        const field_t *field = &self->fields[i];
        if (!field->name || !cm_str_is(value->key, field->name))
            continue;
        cm_str_t text = CM_STR_NONE;
        cm_status_t status = cm_event_text(value, field->size - 1, &text, err);
        if (status == CM_OK && text.ptr) /* no NUL within: the reader refuses it */
            memcpy(field->text, text.ptr, text.len);
        return status;
    }
    return CM_OK;
}

static cm_status_t decode(decoder_t *self, cm_str_t body, cm_arena_t *arena, cm_error_t *err)
{
    cm_status_t status = cm_event_read(body, arena, on_value, self, self->tenant, err);
    if (status != CM_OK)
        return status;
    const char *missing = self->tenant[0] == '\0' ? "customerId"
                          : !self->has_time       ? "eventTime"
                                                  : NULL;
    if (missing)
        return cm_error_set(err, CM_PERMANENT, "malformed", "%s: is missing", missing);
    return CM_OK;
}

cm_status_t cm_tenant_activation_decode(cm_str_t body, int64_t now_ms, cm_arena_t *arena,
                                        cm_tenant_activation_t *ret_activation, cm_error_t *err)
{
    *ret_activation = (cm_tenant_activation_t){0};
    decoder_t self = {
        .tenant = ret_activation->tenant,
        .event_ms = &ret_activation->event_ms,
        .fields = {{"name", ret_activation->name, sizeof ret_activation->name}},
        .now_ms = now_ms,
    };
    return decode(&self, body, arena, err);
}

cm_status_t cm_account_deletion_decode(cm_str_t body, int64_t now_ms, cm_arena_t *arena,
                                       cm_account_deletion_t *ret_deletion, cm_error_t *err)
{
    *ret_deletion = (cm_account_deletion_t){0};
    decoder_t self = {
        .tenant = ret_deletion->tenant,
        .event_ms = &ret_deletion->event_ms,
        .fields = {{"requestedBy", ret_deletion->requested_by, sizeof ret_deletion->requested_by},
                   {"reason", ret_deletion->reason, sizeof ret_deletion->reason}},
        .now_ms = now_ms,
    };
    return decode(&self, body, arena, err);
}
