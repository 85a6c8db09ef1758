/* sync_reference - how many devices of a tenant the publisher of the events knows: reading a file
 * of such counts.
 *
 * One tenant a line: `tenant,devices[,checksum[,counted_at]]`, with a decimal checksum and epoch
 * milliseconds, either of which may be empty. Blanks around a value do not count. Empty lines,
 * those that begin with '#' and a first value `tenant` (a heading) hold nothing.
 */
#ifndef CM_PROTO_SYNC_REFERENCE_H
#define CM_PROTO_SYNC_REFERENCE_H
#include "proto/tenant_id.h"

typedef struct {
    char tenant[CM_TENANT_ID_MAX]; /* canonical */
    int64_t devices;               /* >= 0 */
    bool has_checksum;
    int64_t checksum;   /* see schema/dashboard_store.h */
    int64_t counted_ms; /* epoch; 0: not said */
} cm_sync_reference_t;

/* Read one line, without its line feed (a carriage return may be there). *ret_holds false: it holds
 * nothing. CM_PERMANENT / "malformed" or "invalid-tenant". */
cm_status_t cm_sync_reference_parse(cm_str_t line, cm_sync_reference_t *ret_reference,
                                    bool *ret_holds, cm_error_t *err);
#endif
