/* contact_deletion - delete the devices of contacts that were deleted, and what else is kept of
 * them.
 *
 * Contract: actors/subworker.h. All deletions of one tenant in a batch go into one statement
 * (schema/contact_store.h); of several for one contact the latest counts. Outcomes: APPLIED when
 * the contact's tombstone is new or newer, DUPLICATE and STALE when it was deleted at that time or
 * later, DROPPED when the tenant is deleted, DEFER while the tenant is suspended, its tables are
 * busy, or it is unknown and the message younger than ten minutes, REJECT when malformed or the
 * tenant never came. Safe to redeliver. One log line a batch, without ids. Rule: events.md sections
 * 4 and 6.
 */
#ifndef CM_ACTORS_CONTACT_DELETION_H
#define CM_ACTORS_CONTACT_DELETION_H
#include <czmq.h>

void cm_contact_deletion_actor(zsock_t *pipe, void *args); /* args: const cm_subworker_args_t * */
#endif
