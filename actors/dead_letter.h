/* dead_letter - keep what the errors topics carry in a table one can query and replay.
 *
 * Contract: actors/subworker.h. Bytes are kept untouched; the same dead letter twice is kept once.
 * One that cannot be stored is deferred and stays with the broker: nothing is lost here. One of a
 * tenant, contact or device that was deleted since is DROPPED: acknowledged, counted, kept nowhere.
 * Rule: events.md sections 6 and 7, reliability sections 3.6 and 4.4.
 */
#ifndef CM_ACTORS_DEAD_LETTER_H
#define CM_ACTORS_DEAD_LETTER_H
#include <czmq.h>

void cm_dead_letter_actor(zsock_t *pipe, void *args); /* args: const cm_subworker_args_t * */
#endif
