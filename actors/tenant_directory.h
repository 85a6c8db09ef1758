/* tenant_directory - what one shard knows of its tenants: state by the registry, and who is parked.
 *
 * Owned by one thread. An active tenant is believed for ACTIVE_MS, any other state for OTHER_MS, so
 * that an activation is noticed at once. A tenant is parked after a lock time-out or a fault of its
 * own schema, for 1 s doubling to 60 s; parked tenants are not written, the others run on.
 * Bound: entries not used for ten minutes are forgotten. Rule: DESIGN section 7.
 */
#ifndef CM_ACTORS_TENANT_DIRECTORY_H
#define CM_ACTORS_TENANT_DIRECTORY_H
#include "schema/tenant_registry.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct cm_tenant_directory cm_tenant_directory_t;

cm_tenant_directory_t *cm_tenant_directory_new(const char *admin_schema); /* borrowed */
void cm_tenant_directory_destroy(cm_tenant_directory_t **self_p);

/* States of ids, from memory or, for those unknown or too old, by one query on pg. That it fails
 * says nothing of any message, so it is CM_UNAVAILABLE whatever may pass (a lock, a time-out), and
 * CM_MISCONFIGURED whatever a person must repair (the table is not there). */
cm_status_t cm_tenant_directory_states(cm_tenant_directory_t *self, cm_pg_t *pg,
                                       const char (*ids)[CM_TENANT_ID_MAX], size_t count,
                                       cm_tenant_state_t *ret_states, cm_error_t *err);
/* The same by a query, whatever is remembered; the answers are not. */
cm_status_t cm_tenant_directory_ask(cm_pg_t *pg, const char *admin_schema,
                                    const char (*ids)[CM_TENANT_ID_MAX], size_t count,
                                    cm_tenant_state_t *ret_states, cm_error_t *err);
/* Forget the state of id: the next question asks the registry. */
void cm_tenant_directory_doubt(cm_tenant_directory_t *self, const char *id);

/* Park id from now_ms (monotonic) on; returns for how many milliseconds. */
int cm_tenant_directory_park(cm_tenant_directory_t *self, const char *id, int64_t now_ms);
void cm_tenant_directory_unpark(cm_tenant_directory_t *self,
                                const char *id); /* a write went well */
/* Milliseconds that id stays parked; 0 when it is not. */
int cm_tenant_directory_parked_ms(const cm_tenant_directory_t *self, const char *id,
                                  int64_t now_ms);
/* It was parked, its time is over, and no write has gone well since: try it with care. */
bool cm_tenant_directory_on_trial(const cm_tenant_directory_t *self, const char *id,
                                  int64_t now_ms);
size_t cm_tenant_directory_parked_count(const cm_tenant_directory_t *self, int64_t now_ms);
#endif
