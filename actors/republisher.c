#include "actors/republisher.h"
#include "actors/device_actor.h"

void cm_republisher_actor(zsock_t *pipe, void *args)
{
    cm_device_actor_run(pipe, args, true);
}
