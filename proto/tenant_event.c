#include "proto/tenant_event.h"
#include "proto/event_field.h"

#include <string.h>

typedef struct {
    cm_tenant_activation_t *activation;
    int64_t now_ms;
    bool has_time;
} decoder_t;

static cm_status_t on_value(void *ctx, const cm_json_value_t *value, cm_error_t *err)
{
    decoder_t *self = ctx;
    cm_tenant_activation_t *activation = self->activation;
    if (value->depth != 1 || value->type == CM_JSON_END)
        return CM_OK;
    if (cm_str_is(value->key, "customerId"))
        return cm_event_tenant(value, activation->tenant, err);
    if (cm_str_is(value->key, "eventTime")) {
        self->has_time = true;
        return cm_json_time(value, self->now_ms, &activation->event_ms, err);
    }
    if (cm_str_is(value->key, "name")) {
        cm_str_t name = CM_STR_NONE;
        cm_status_t status = cm_event_text(value, CM_TENANT_NAME_MAX - 1, &name, err);
        if (status == CM_OK && name.ptr) /* no NUL within: the reader refuses it */
            memcpy(activation->name, name.ptr, name.len);
        return status;
    }
    return CM_OK;
}

cm_status_t cm_tenant_activation_decode(cm_str_t body, int64_t now_ms, cm_arena_t *arena,
                                        cm_tenant_activation_t *ret_activation, cm_error_t *err)
{
    *ret_activation = (cm_tenant_activation_t){0};
    decoder_t self = {.activation = ret_activation, .now_ms = now_ms};
    cm_status_t status = cm_event_read(body, arena, on_value, &self, ret_activation->tenant, err);
    if (status != CM_OK)
        return status;
    const char *missing = ret_activation->tenant[0] == '\0' ? "customerId"
                          : !self.has_time                  ? "eventTime"
                                                            : NULL;
    if (missing)
        return cm_error_set(err, CM_PERMANENT, "malformed", "%s: is missing", missing);
    return CM_OK;
}
