/* writer - device events of client-manager.writer into the tenants' schemas.
 *
 * Contract: actors/subworker.h. First try of every event: applied, stale and duplicate are
 * acknowledged; a transient failure goes to the retry topic, a permanent one to the errors topic.
 * Rule: events.md sections 4 and 7.
 */
#ifndef CM_ACTORS_WRITER_H
#define CM_ACTORS_WRITER_H
#include <czmq.h>

void cm_writer_actor(zsock_t *pipe, void *args); /* args: const cm_subworker_args_t * */
#endif
