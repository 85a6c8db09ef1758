/* push_token_status - verdicts on push tokens into the tenants' devices, under a brake.
 *
 * Contract: actors/subworker.h. Takes client-manager.push-token-status and
 * client-manager.web-push-token-status. A verdict that its sender judged is taken as it is, a
 * provider's answer is judged by the verdict table (proto/push_verdict.h). Valid and gone go to
 * schema/token_status_store; the others change no token and are acknowledged, as is what the table
 * does not know, which is logged, too, by provider and status only.
 *
 * When actors/push_brake says so, the brake of a (tenant, application, provider) goes on in the
 * transaction that writes the verdicts, and those that say gone are held from then on, whichever
 * instance takes them, until an operator decides: client-manager push-token brake.
 *
 * A tick looks at all brakes for the metrics, and forgets what was noted too long ago to be taken
 * back: of some tenants at a time, of all of them once an hour.
 *
 * Outcomes: applied (a held one, too: it is kept), stale (also what changes no token), duplicate,
 * dropped (the tenant is deleted); reject (malformed, refused by the database, or of a tenant not
 * known ten minutes after it was published); defer: the tenant is not known yet, suspended, locked
 * or at fault. Rule: events.md section 5; DESIGN section 4.
 */
#ifndef CM_ACTORS_PUSH_TOKEN_STATUS_H
#define CM_ACTORS_PUSH_TOKEN_STATUS_H
#include <czmq.h>

void cm_push_token_status_actor(zsock_t *pipe, void *args); /* args: const cm_subworker_args_t * */
#endif
