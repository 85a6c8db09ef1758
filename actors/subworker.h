/* subworker - what every sub-worker is given, and the loop of those that handle a batch at a time.
 *
 * work      PULL from gateway   [delivery batch]   proto/delivery.h, one frame per message
 * outcomes  PUSH to gateway     [outcome frame]    one per batch, every delivery once, in order;
 *                               [READY] when it can take work again
 * reports   PUSH to monitor     [report]
 * pipe      "DRAIN": answer "DRAINED" as soon as nothing is in hand; "$TERM": finish the batch in
 *           hand, give back the rest, exit
 * Owns one PostgreSQL connection (actors/pg_link.h). While the database is away, a batch in hand is
 * kept for breaker.hold_ms and then given back; no retry is spent on it. It reports while a handler
 * or a tick waits for the database, too; each such wait ends by postgres.statement_timeout_ms.
 *
 * A sub-worker with nothing to overlap is a cm_subworker_handler_t: open, handle, close, and a tick
 * for what is due without a delivery. Adding one
 * costs its file pair, a row in wiring.c, a row in proto/subscription.c and a test.
 */
#ifndef CM_ACTORS_SUBWORKER_H
#define CM_ACTORS_SUBWORKER_H
#include "actors/options.h"
#include "actors/pg_link.h"
#include "actors/reporter.h"
#include "proto/delivery.h"
#include "proto/outcome.h"

#include <czmq.h>

typedef struct {           /* borrowed for the life of the actor */
    char name[64];         /* "writer/0": actor, log component, connection name */
    const char *subworker; /* as in the subscriptions table */
    unsigned shard;
    cm_role_t role; /* of its connection */
    const cm_options_t *options;
    const char *reports; /* endpoint, NULL for none */
} cm_subworker_args_t;

typedef struct {
    /* Make *ret_state; once, before the first batch. */
    cm_status_t (*open)(void **ret_state, const cm_subworker_args_t *args, cm_metrics_t *metrics,
                        cm_error_t *err);
    /* Handle batch on a connected pg: one outcome for each delivery into outcomes[i] (lease is set
     * already), memory from arena. Anything but CM_OK: nothing is known of the batch; it is handled
     * again (CM_UNAVAILABLE, CM_MISCONFIGURED) once the connection is back. */
    cm_status_t (*handle)(void *state, cm_pg_t *pg, const cm_delivery_batch_t *batch,
                          cm_outcome_t *outcomes, cm_arena_t *arena, cm_error_t *err);
    void (*close)(void *state_p); /* address of the state; sets it to NULL */
    /* What is to be done without a delivery: NULL for nothing. Called between batches, with a
     * connected pg, tick_ms after the last call ended; not while draining or while the database is
     * away. CM_UNAVAILABLE and CM_MISCONFIGURED are the connection's; it logs all else itself. */
    cm_status_t (*tick)(void *state, cm_pg_t *pg, cm_error_t *err);
    int tick_ms;
} cm_subworker_handler_t;

/* The body of an actor made of handler. args: const cm_subworker_args_t *. */
void cm_subworker_run(zsock_t *pipe, const cm_subworker_args_t *args,
                      const cm_subworker_handler_t *handler);

/* Sockets of a sub-worker, shared with those that have a loop of their own. */
typedef struct {
    zsock_t *work, *outcomes;
} cm_subworker_sockets_t;
cm_status_t cm_subworker_open_sockets(cm_subworker_sockets_t *self, const cm_subworker_args_t *args,
                                      cm_error_t *err);
void cm_subworker_close_sockets(cm_subworker_sockets_t *self);
/* Tell the gateway that a new incarnation is here and holds nothing; it takes nothing yet. */
void cm_subworker_fresh(cm_subworker_sockets_t *self, const cm_subworker_args_t *args);
/* Tell the gateway that the database is there: two batches may come. */
void cm_subworker_ready(cm_subworker_sockets_t *self, const cm_subworker_args_t *args);
#endif
