/* monitor_client - ask a running instance over HTTP: its ledger, for `dev` and the tools. */
#ifndef CM_ACTORS_MONITOR_CLIENT_H
#define CM_ACTORS_MONITOR_CLIENT_H
#include "proto/report.h"
#include "runtime/buffer.h"
#include "runtime/status.h"

/* GET http://address/path into out; CM_UNAVAILABLE unless the answer is 200 within timeout_ms. */
cm_status_t cm_monitor_get(const char *address, const char *path, int timeout_ms, cm_buffer_t *out,
                           cm_error_t *err);
/* The ledgers out of the JSON of GET /ledger or `run --print-ledger`, but for what stands beside
 * the balance. CM_PERMANENT when it is none. */
cm_status_t cm_monitor_parse_ledgers(const char *json, cm_ledgers_t *ret_ledgers, cm_error_t *err);
#endif
