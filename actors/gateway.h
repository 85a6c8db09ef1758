/* gateway - the only actor that knows a broker: pulls, routes by tenant, publishes, acknowledges.
 *
 * work      PUSH to each shard, bound   [delivery batch]   proto/delivery.h
 * outcomes  PULL from all shards, bound [outcome frame]    proto/outcome.h
 * reports   PUSH to monitor             [report]           proto/report.h
 * pipe      "DRAIN": pull no more, answer "DRAINED" when nothing is in hand; "$TERM": give back
 * what is left and exit Owns the broker link; never blocks.
 *
 * Reports its start when the broker has said its first word, or nothing for 5 s: CM_MISCONFIGURED
 * when it refuses us (password, credentials); one that is away is waited for in running.
 *
 * Bounds: a shard is sent a batch only against its credit (two in flight); what is pulled beyond
 * that waits in one batch per shard and subscription (gateway.batch_max, gateway.batch_bytes). It
 * goes when it is full or old, or at once to a shard with nothing to do, but for a route that wants
 * to wait (fill_ms). No
 * pull brings more than gateway.pull_max messages, nor, by the sizes seen lately, more bytes than
 * fit, and the first ones ask for few;
 * pulling stops when any shard has no room, or gateway.publish_max messages wait for confirmation.
 * Order of effects: publish, confirmed, then acknowledge. Rule: DESIGN sections 2 and 4.
 */
#ifndef CM_ACTORS_GATEWAY_H
#define CM_ACTORS_GATEWAY_H
#include "actors/options.h"
#include "proto/subscription.h"
#include "runtime/broker/broker.h"

#include <czmq.h>

typedef struct {
    const char *subworker; /* as in the subscriptions table */
    unsigned shards;
    size_t batch_max; /* deliveries in a batch for it; 0 = gateway.batch_max */
    int64_t fill_ms;  /* even for an idle shard a batch waits so long to fill; 0 = not at all */
    bool (*leaves)(const cm_options_t *options, /* its subscriptions that are not consumed; */
                   cm_subscription_id_t id);    /* NULL: none */
} cm_gateway_route_t;

typedef struct { /* borrowed for the life of the actor */
    const cm_options_t *options;
    const cm_broker_driver_t *driver;
    const char *consumer; /* unique name of this instance at the broker */
    const char *reports;  /* endpoint, NULL for none */
    const cm_gateway_route_t *routes;
    size_t route_count;
} cm_gateway_args_t;

void cm_gateway_actor(zsock_t *pipe, void *args); /* body for cm_actor_start() */
#endif
