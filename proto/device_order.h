/* device_order - the order rule, as pure functions over one device.
 *
 * A change is what one or more events of a device amount to: three last-writer-wins registers
 * (device, push, contact) and a removal, each with its time. Merging is commutative, associative
 * and idempotent, so every order of delivery ends in the same change; the statement in schema/
 * applies the same rule between a change and the row. Equal times: the greater content wins,
 * compared field by field in the order of the table's columns, bytewise, absent lowest (integers by
 * value, absent lowest). A removal wins against a register of the same time. Rule: events.md
 * section 4.
 */
#ifndef CM_PROTO_DEVICE_ORDER_H
#define CM_PROTO_DEVICE_ORDER_H
#include "proto/device_event.h"

#define CM_TIME_NONE INT64_MIN /* a register that is not set */

typedef struct {
    cm_str_t application_code, client_id;
    int64_t device_ms, push_ms, contact_ms, removed_ms; /* epoch, or CM_TIME_NONE */
    cm_str_t device[CM_DEVICE_FIELDS];
    cm_str_t push_token, push_address_type;
    bool has_contact_id, has_contact_field_id;
    int64_t contact_id, contact_field_id;
} cm_device_change_t;

typedef enum {
    CM_MERGE_APPLIED,  /* it changed the change */
    CM_MERGE_STALE,    /* everything in it is older */
    CM_MERGE_DUPLICATE /* everything in it is there already, with its time */
} cm_merge_t;

void cm_device_change_from_event(cm_device_change_t *ret_change, const cm_device_event_t *event);
/* Merge event's change `from` into `into` (same device). */
cm_merge_t cm_device_change_merge(cm_device_change_t *into, const cm_device_change_t *from);
/* Order of the key: application_code, then client_id, bytewise. */
int cm_device_change_cmp_key(const cm_device_change_t *a, const cm_device_change_t *b);
#endif
