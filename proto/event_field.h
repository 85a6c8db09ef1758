/* event_field - what the bodies of several topics have in common: their limits and shared fields.
 *
 * The readers are called from a cm_json_value_fn and set err without a path, as json_reader wants
 * it. Rule: events.md section 3.
 */
#ifndef CM_PROTO_EVENT_FIELD_H
#define CM_PROTO_EVENT_FIELD_H
#include "proto/json_reader.h"
#include "proto/tenant_id.h"

/* Read body with the limits of section 3. On failure, tenant (when still empty) is what
 * cm_tenant_id_peek() finds: whom to tell, although the message is refused. */
cm_status_t cm_event_read(cm_str_t body, cm_arena_t *arena, cm_json_value_fn *on_value, void *ctx,
                          char tenant[CM_TENANT_ID_MAX], cm_error_t *err);

/* Canonical tenant of an integer or a string. "malformed" for every other type, a fraction and what
 * is no int64; "invalid-tenant" as cm_tenant_id_canonical(). */
cm_status_t cm_event_tenant(const cm_json_value_t *value, char tenant[CM_TENANT_ID_MAX],
                            cm_error_t *err);
/* A string; null and "" are absent. "malformed" for other types, "too-large" above max_bytes. */
cm_status_t cm_event_text(const cm_json_value_t *value, size_t max_bytes, cm_str_t *ret_text,
                          cm_error_t *err);
/* A string that must not be empty; null is "malformed" too. */
cm_status_t cm_event_key(const cm_json_value_t *value, size_t max_bytes, cm_str_t *ret_text,
                         cm_error_t *err);
/* An integer of 64 bits, or null: *ret_has tells. "malformed" for all else. */
cm_status_t cm_event_i64(const cm_json_value_t *value, bool *ret_has, int64_t *ret_value,
                         cm_error_t *err);
#endif
