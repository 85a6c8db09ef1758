/* tenant_id - the canonical form of a customerId, and the shard and schema that follow from it.
 * Rule: events.md section 3.
 */
#ifndef CM_PROTO_TENANT_ID_H
#define CM_PROTO_TENANT_ID_H
#include "runtime/status.h"
#include "runtime/str.h"

enum { CM_TENANT_ID_MAX = 57, CM_TENANT_SCHEMA_MAX = 64 }; /* with the NUL */

/* Canonical form of text into id, NUL-terminated. CM_PERMANENT / "invalid-tenant" otherwise. */
cm_status_t cm_tenant_id_canonical(cm_str_t text, char id[CM_TENANT_ID_MAX], cm_error_t *err);
/* The ids of a list that a person writes: "42, acme,7", "" for none. *ret_ids is yours (free).
 * CM_PERMANENT / "invalid-tenant" tells which entry is none; two commas with nothing between them
 * are a slip, too. */
cm_status_t cm_tenant_id_list(cm_str_t text, char (**ret_ids)[CM_TENANT_ID_MAX], size_t *ret_count,
                              cm_error_t *err);
/* "tenant_" + id, unquoted; id must be canonical. Returns schema. */
const char *cm_tenant_id_schema(const char *id, char schema[CM_TENANT_SCHEMA_MAX]);
/* Shard of a canonical id: stable over processes and versions (XXH3), 0 .. shards-1. */
unsigned cm_tenant_id_shard(cm_str_t id, unsigned shards);
/* Find customerId in a JSON body without parsing it whole, for routing only; canonical into id.
 * False when none is found: route to shard 0, the decoder will tell what is wrong. */
bool cm_tenant_id_peek(cm_str_t body, char id[CM_TENANT_ID_MAX]);
#endif
