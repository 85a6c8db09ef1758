/* erasure_sweeper - rewrite the tables of tenants from which contacts were erased, off the batch
 * path.
 *
 * reports   PUSH to monitor     [report]
 * pipe      "$TERM"             finish the tenant in hand, exit
 * Once a minute it looks for tenants whose oldest erasure is erasure.sweep_minutes old and rewrites
 * their tables, one tenant a transaction (schema/erasure.h); so a tenant is rewritten at most once
 * in that time. A tenant whose tables are busy, take longer than a minute, or cannot be rewritten,
 * stays noted, is told and holds up no other; `client-manager erasure sweep` has the time. A lost
 * connection ends the look and is told once. It reports during a rewrite, too; a stop in the middle
 * of a long one is not waited for, and nothing of it is committed then. Any number of instances may
 * run it. Started with the contact-deletion sub-worker. Owns a connection while it looks, none in
 * between.
 */
#ifndef CM_ACTORS_ERASURE_SWEEPER_H
#define CM_ACTORS_ERASURE_SWEEPER_H
#include <czmq.h>

void cm_erasure_sweeper_actor(zsock_t *pipe, void *args); /* args: const cm_subworker_args_t * */
#endif
