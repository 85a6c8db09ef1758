/* subworker_mesh - one sub-worker with its gateway played by the test. */
#ifndef CM_TESTS_SUBWORKER_MESH_H
#define CM_TESTS_SUBWORKER_MESH_H
#include "actors/subworker.h"

#include <stdatomic.h>

enum { CM_MESH_WAIT_MS = 5000 };

typedef struct {
    zsock_t *work, *outcomes, *reports;
    zactor_t *actor;
    cm_options_t options;
    cm_subworker_args_t args;
    cm_arena_t *arena; /* of the last outcome frame */
    cm_buffer_t frame;
    cm_delivery_builder_t builder; /* the batch that is being made */
    cm_subscription_id_t subscription;
    uint64_t next_batch; /* the first is 1; so are leases */
    cm_broker_lease_t next_lease;
} cm_subworker_mesh_t;

/* Start body as shard 0 of subworker and take its FRESH frame. The breaker opens after three
 * failures and probes every 20 ms at the latest. */
void cm_mesh_start(cm_subworker_mesh_t *self, const char *subworker,
                   cm_subscription_id_t subscription, zactor_fn *body, int hold_ms);
/* The same with what the test says beside it in options: push_token_status, postgres, erasure. */
void cm_mesh_start_with(cm_subworker_mesh_t *self, const char *subworker,
                        cm_subscription_id_t subscription, zactor_fn *body,
                        const cm_options_t *options);
void cm_mesh_stop(cm_subworker_mesh_t *self);

void cm_mesh_add(cm_subworker_mesh_t *self, const char *body, const cm_attribute_t *attributes,
                 size_t attribute_count);
uint64_t cm_mesh_send(cm_subworker_mesh_t *self); /* the batch; returns its id */

/* Send bytes that are no batch; the actor must end by itself. */
void cm_mesh_expect_end_by_garbage(cm_subworker_mesh_t *self);

/* The next frame, valid until the one after it; false when none comes. */
bool cm_mesh_next(cm_subworker_mesh_t *self, int wait_ms, cm_outcome_frame_t *ret_frame);
void cm_mesh_expect_ready(cm_subworker_mesh_t *self);
void cm_mesh_expect_batch(cm_subworker_mesh_t *self, uint64_t id, cm_outcome_frame_t *ret_frame);
cm_str_t cm_mesh_attribute(const cm_outcome_t *outcome, const char *name);

/* Forget the reports that came, and take one that comes now. */
void cm_mesh_expect_life(cm_subworker_mesh_t *self);

/* Wait until a counter of a fake has reached a number. */
void cm_mesh_await(const atomic_int *counter, int number);
#endif
