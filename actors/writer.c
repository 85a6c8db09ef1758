#include "actors/writer.h"
#include "actors/device_actor.h"

void cm_writer_actor(zsock_t *pipe, void *args)
{
    cm_device_actor_run(pipe, args, false);
}
