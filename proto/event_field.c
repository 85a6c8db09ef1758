#include "proto/event_field.h"
#include "proto/device_event.h"

cm_status_t cm_event_read(cm_str_t body, cm_arena_t *arena, cm_json_value_fn *on_value, void *ctx,
                          char tenant[CM_TENANT_ID_MAX], cm_error_t *err)
{
    cm_status_t status =
        cm_json_read(body, CM_EVENT_BODY_MAX, CM_EVENT_DEPTH_MAX, arena, on_value, ctx, err);
    if (status != CM_OK && tenant[0] == '\0' && !cm_tenant_id_peek(body, tenant))
        tenant[0] = '\0';
    return status;
}

cm_status_t cm_event_tenant(const cm_json_value_t *value, char tenant[CM_TENANT_ID_MAX],
                            cm_error_t *err)
{
    int64_t number = 0;
    bool is_id = value->type == CM_JSON_STRING ||
                 (value->type == CM_JSON_NUMBER && cm_json_i64(value->text, &number));
    if (!is_id)
        return cm_error_set(err, CM_PERMANENT, "malformed",
                            "must be a string or an integer of 64 bits");
    /* JSON allows no leading zeros: the text of an integer is its canonical form. */
    cm_status_t status = cm_tenant_id_canonical(value->text, tenant, err);
    if (status != CM_OK)
        tenant[0] = '\0';
    return status;
}

cm_status_t cm_event_text(const cm_json_value_t *value, size_t max_bytes, cm_str_t *ret_text,
                          cm_error_t *err)
{
    if (value->type != CM_JSON_STRING && value->type != CM_JSON_NULL)
        return cm_error_set(err, CM_PERMANENT, "malformed", "must be a string");
    if (value->text.len > max_bytes)
        return cm_error_set(err, CM_PERMANENT, "too-large", "%zu bytes, at most %zu",
                            value->text.len, max_bytes);
    *ret_text = value->text.len > 0 ? value->text : CM_STR_NONE;
    return CM_OK;
}

cm_status_t cm_event_key(const cm_json_value_t *value, size_t max_bytes, cm_str_t *ret_text,
                         cm_error_t *err)
{
    cm_status_t status = cm_event_text(value, max_bytes, ret_text, err);
    if (status == CM_OK && !ret_text->ptr)
        return cm_error_set(err, CM_PERMANENT, "malformed", "must be a string that is not empty");
    return status;
}

cm_status_t cm_event_i64(const cm_json_value_t *value, bool *ret_has, int64_t *ret_value,
                         cm_error_t *err)
{
    *ret_has = value->type == CM_JSON_NUMBER && cm_json_i64(value->text, ret_value);
    if (!*ret_has && value->type != CM_JSON_NULL)
        return cm_error_set(err, CM_PERMANENT, "malformed", "must be an integer of 64 bits");
    return CM_OK;
}
