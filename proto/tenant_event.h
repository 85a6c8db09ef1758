/* tenant_event - the bodies of client-manager.activate-customer and
 * client-manager.account-deletion.
 *
 * Decided here, where events.md is silent: who requested a deletion and why may be left out; the
 * one is at most 256 bytes, the other 1024. Rule: events.md section 6.
 */
#ifndef CM_PROTO_TENANT_EVENT_H
#define CM_PROTO_TENANT_EVENT_H
#include "proto/tenant_id.h"
#include "runtime/status.h"

enum { CM_TENANT_NAME_MAX = 257, CM_DELETION_REASON_MAX = 1025 }; /* with the NUL */

typedef struct {
    char tenant[CM_TENANT_ID_MAX];
    char name[CM_TENANT_NAME_MAX]; /* "" when absent */
    int64_t event_ms;              /* epoch */
} cm_tenant_activation_t;

/* CM_PERMANENT with the codes of cm_device_event_decode(). */
cm_status_t cm_tenant_activation_decode(cm_str_t body, int64_t now_ms, cm_arena_t *arena,
                                        cm_tenant_activation_t *ret_activation, cm_error_t *err);

typedef struct {
    char tenant[CM_TENANT_ID_MAX];
    char requested_by[CM_TENANT_NAME_MAX], reason[CM_DELETION_REASON_MAX]; /* "" when absent */
    int64_t event_ms;                                                      /* epoch */
} cm_account_deletion_t;

/* CM_PERMANENT with the codes of cm_device_event_decode(). When the tenant could be read,
 * ret_deletion->tenant is set even on failure. */
cm_status_t cm_account_deletion_decode(cm_str_t body, int64_t now_ms, cm_arena_t *arena,
                                       cm_account_deletion_t *ret_deletion, cm_error_t *err);
#endif
