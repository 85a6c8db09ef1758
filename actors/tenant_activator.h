/* tenant_activator - create and migrate the schema of a customer that was activated.
 *
 * Contract: actors/subworker.h. The only event-driven sub-worker that creates a schema. Idempotent:
 * an activation delivered twice is a duplicate. A malformed one is rejected, or dropped when its
 * customer is deleted; one that meets a lock or a race, or comes while an older deletion of its
 * customer is at work, is deferred. Rule: events.md section 6, DESIGN section 8.
 */
#ifndef CM_ACTORS_TENANT_ACTIVATOR_H
#define CM_ACTORS_TENANT_ACTIVATOR_H
#include <czmq.h>

void cm_tenant_activator_actor(zsock_t *pipe, void *args); /* args: const cm_subworker_args_t * */
#endif
