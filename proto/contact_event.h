/* contact_event - the body of client-manager.contact-deletion. Rule: events.md sections 3 and 6. */
#ifndef CM_PROTO_CONTACT_EVENT_H
#define CM_PROTO_CONTACT_EVENT_H
#include "proto/tenant_id.h"
#include "runtime/status.h"

typedef struct {
    char tenant[CM_TENANT_ID_MAX]; /* canonical */
    int64_t contact_id;
    int64_t deleted_ms; /* epoch */
} cm_contact_deletion_event_t;

/* CM_PERMANENT with the codes of cm_device_event_decode(). contactId is an integer of 64 bits, as
 * in a device event; null is malformed. When the tenant could be read, ret_event->tenant is set
 * even on failure. */
cm_status_t cm_contact_deletion_decode(cm_str_t body, int64_t now_ms, cm_arena_t *arena,
                                       cm_contact_deletion_event_t *ret_event, cm_error_t *err);
#endif
