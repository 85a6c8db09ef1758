#include "proto/contact_event.h"
#include "proto/event_field.h"

typedef struct {
    cm_contact_deletion_event_t *event;
    int64_t now_ms;
    bool has_contact, has_time;
} decoder_t;

static cm_status_t on_value(void *ctx, const cm_json_value_t *value, cm_error_t *err)
{
    decoder_t *self = ctx;
    if (value->depth != 1 || value->type == CM_JSON_END)
        return CM_OK;
    if (cm_str_is(value->key, "customerId"))
        return cm_event_tenant(value, self->event->tenant, err);
    if (cm_str_is(value->key, "contactId"))
        return cm_event_i64(value, &self->has_contact, &self->event->contact_id, err);
    if (cm_str_is(value->key, "deletedAt")) {
        self->has_time = true;
        return cm_json_time(value, self->now_ms, &self->event->deleted_ms, err);
    }
    return CM_OK;
}

cm_status_t cm_contact_deletion_decode(cm_str_t body, int64_t now_ms, cm_arena_t *arena,
                                       cm_contact_deletion_event_t *ret_event, cm_error_t *err)
{
    *ret_event = (cm_contact_deletion_event_t){0};
    decoder_t self = {.event = ret_event, .now_ms = now_ms};
    cm_status_t status = cm_event_read(body, arena, on_value, &self, ret_event->tenant, err);
    if (status != CM_OK)
        return status;
    const char *missing = ret_event->tenant[0] == '\0' ? "customerId"
                          : !self.has_contact          ? "contactId"
                          : !self.has_time             ? "deletedAt"
                                                       : NULL;
    if (missing)
        return cm_error_set(err, CM_PERMANENT, "malformed", "%s: is missing", missing);
    return CM_OK;
}
