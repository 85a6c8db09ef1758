/* device_actor - the loop of the sub-workers that write devices: writer and republisher.
 *
 * The contract is that of actors/subworker.h. While PostgreSQL works on one batch the next one is
 * received and decoded. Transient and permanent failures become outcomes by proto/retry.h; a locked
 * or broken tenant is parked, the others run on. Rule: DESIGN sections 6 and 7.
 */
#ifndef CM_ACTORS_DEVICE_ACTOR_H
#define CM_ACTORS_DEVICE_ACTOR_H
#include "actors/subworker.h"

/* waits: deliveries before their notBefore are deferred instead of tried. */
void cm_device_actor_run(zsock_t *pipe, const cm_subworker_args_t *args, bool waits);
#endif
