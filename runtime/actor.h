/* actor - start a zactor and know that it opened; ask it to stop and know that it did.
 *
 * zactor_new() returns a live pointer even when the body failed to open anything, so the body
 * reports through its pipe: zsock_signal(pipe, 0) first (releases zactor_new), then
 * cm_actor_report(). Pipe, from parent: "$TERM" stop now after the delivery in hand. Pipe, to
 * parent:   [REPORT][status][code][message] once; a signal when the body has returned.
 */
#ifndef CM_RUNTIME_ACTOR_H
#define CM_RUNTIME_ACTOR_H
#include "runtime/status.h"

#include <czmq.h>
#include <stdbool.h>

/* Start body(pipe, args) and wait up to timeout_ms for its report. args is borrowed until this
 * returns. CM_OK: *ret_actor is running and yours (zactor_destroy, or cm_actor_stop). Otherwise the
 * body's own status and error, or CM_UNAVAILABLE when it ended or timeout_ms passed without a
 * report; *ret_actor is NULL and nothing is left, except after a timeout of a body that does not
 * read its pipe either (it gets another timeout_ms for that): see cm_actor_release, and args must
 * stay. */
cm_status_t cm_actor_start(zactor_t **ret_actor, zactor_fn body, void *args, int timeout_ms,
                           cm_error_t *err);

/* In the body: report how opening went; returns status. Call it exactly once. From here on a send
 * to the pipe never blocks the body, even when the parent has gone. */
cm_status_t cm_actor_report(zsock_t *pipe, cm_status_t status, const cm_error_t *err);

/* In the body: read one message off the pipe. True when it asks to stop, or the context ended. */
bool cm_actor_stop_requested(zsock_t *pipe);

/* Ask to stop and wait up to timeout_ms for the body to return; then the actor is destroyed and
 * *actor_p is NULL. False when the deadline passed: the actor is then left alone and *actor_p kept,
 * since its thread cannot be taken from outside; the caller may only exit the process. */
bool cm_actor_stop(zactor_t **actor_p, int timeout_ms);

/* ---- for a parent that waits for several actors at once -------------------------------------- */

typedef enum {
    CM_ACTOR_SAID,     /* a word of the body's own, in ret_word */
    CM_ACTOR_REPORTED, /* how opening went, in ret_report */
    CM_ACTOR_ENDED     /* the body has returned; what is left to do is cm_actor_release */
} cm_actor_event_t;
enum { CM_ACTOR_WORD_MAX = 32 };

/* Read one message off the pipe of an actor; blocks when there is none. ret_report and ret_word may
 * be NULL; a longer word is cut. */
cm_actor_event_t cm_actor_read(zactor_t *actor, cm_error_t *ret_report,
                               char ret_word[CM_ACTOR_WORD_MAX]);

/* Destroy without waiting, which zactor_destroy() would do for an ending signal that has already
 * been read, or never comes. A body that still runs finds "$TERM" in its pipe and ends by itself.
 */
void cm_actor_release(zactor_t **actor_p);
#endif
