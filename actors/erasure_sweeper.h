/* erasure_sweeper - rewrite the tables of tenants from which contacts were erased, off the batch
 * path.
 *
 * reports   PUSH to monitor     [report]
 * pipe      "$TERM"             finish the tenant in hand, exit
 * Once a minute it looks for tenants whose oldest erasure is erasure.sweep_minutes old and rewrites
 * their tables, one tenant a transaction (schema/erasure.h); so a tenant is rewritten at most once
 * in that time. Tables that are busy, or take longer than a sign of life may (45 s), stay noted and
 * are told; `client-manager erasure sweep` has the time. Any number of instances may run it.
 * Started with the contact-deletion sub-worker. Owns a connection while it looks, none in between.
 */
#ifndef CM_ACTORS_ERASURE_SWEEPER_H
#define CM_ACTORS_ERASURE_SWEEPER_H
#include <czmq.h>

void cm_erasure_sweeper_actor(zsock_t *pipe, void *args); /* args: const cm_subworker_args_t * */
#endif
