/* republisher - the retry engine: events that failed, again at their time, five times at most.
 *
 * Contract: actors/subworker.h. A message before its notBefore is deferred at the broker, so that
 * it never holds up one that is due. The write is the writer's; a further transient failure is
 * published again with retryCount + 1, the fifth one goes to the errors topic as exhausted. Rule:
 * events.md section 7.
 */
#ifndef CM_ACTORS_REPUBLISHER_H
#define CM_ACTORS_REPUBLISHER_H
#include <czmq.h>

void cm_republisher_actor(zsock_t *pipe, void *args); /* args: const cm_subworker_args_t * */
#endif
