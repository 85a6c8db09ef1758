/* account_deletion - deletes a customer: its schema, its dead letters, its brakes; provably.
 *
 * Contract of every sub-worker: actors/subworker.h. A delivery is one deletion
 * (proto/tenant_event.h), handled up to the drop of the schema and acknowledged then; what is left
 * (purge, verification) is done at once or, when that fails, by the sweeper: a tick that goes on
 * with every deletion that is unfinished, of whichever instance, and with those whose legal hold
 * was released.
 *
 *   applied    recorded now and carried out, or recorded under a legal hold
 *   duplicate  it was recorded or carried out before
 *   reject     malformed; dropped when its customer is deleted already
 *   defer      its tables are held by somebody else; it is tried again
 *
 * Each step is logged once, with tenant and the head of the audit log, never with who asked or why.
 * Rule: reliability section 4.2.
 */
#ifndef CM_ACTORS_ACCOUNT_DELETION_H
#define CM_ACTORS_ACCOUNT_DELETION_H
#include <czmq.h>

void cm_account_deletion_actor(zsock_t *pipe, void *args); /* const cm_subworker_args_t * */
#endif
