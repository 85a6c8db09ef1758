#include "tests/support/subworker_mesh.h"
#include "proto/endpoint.h"
#include "runtime/actor.h"
#include "runtime/clock.h"
#include "runtime/frame.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#define REPORTS "inproc://mesh-reports"

enum { LIFE_WAIT_MS = 30000 };

static void fill_options(cm_options_t *options, int hold_ms)
{
    if (!options->postgres.admin_schema)
        options->postgres.admin_schema = "client_manager";
    options->postgres.recycle_minutes = 45;
    options->postgres.recycle_tenants = 2000;
    options->broker.prefix = "t";
    options->breaker.open_after = 3;
    options->breaker.probe_min_ms = 10;
    options->breaker.probe_max_ms = 20;
    options->breaker.hold_ms = hold_ms;
    for (size_t i = 0; i < CM_RETRY_MAX; i++)
        options->retry.windows_ms.value[i] = 1000;
}

static void start(cm_subworker_mesh_t *self, const char *subworker,
                  cm_subscription_id_t subscription, zactor_fn *body, int hold_ms,
                  const cm_options_t *options)
{
    char endpoint[CM_ENDPOINT_MAX];
    cm_error_t err = {0};
    cm_outcome_frame_t frame;
    *self = (cm_subworker_mesh_t){.arena = cm_arena_new(65536), .subscription = subscription};
    self->options = *options;
    fill_options(&self->options, hold_ms);
    self->args = (cm_subworker_args_t){
        .name = "tested/0", .subworker = subworker, .options = &self->options, .reports = REPORTS};
    self->work = zsock_new(ZMQ_PUSH);
    self->outcomes = zsock_new(ZMQ_PULL);
    zsock_bind(self->work, "%s", cm_endpoint_work(subworker, 0, endpoint));
    zsock_bind(self->outcomes, "%s", CM_ENDPOINT_OUTCOMES);
    self->reports = zsock_new(ZMQ_PULL);
    zsock_bind(self->reports, "%s", REPORTS);
    cm_status_t status = cm_actor_start(&self->actor, body, &self->args, CM_MESH_WAIT_MS, &err);
    cr_assert(eq(int, status, CM_OK));
    cr_assert(cm_mesh_next(self, CM_MESH_WAIT_MS, &frame), "not fresh");
    cr_assert(eq(int, frame.kind, CM_OUTCOME_FRAME_FRESH));
}

void cm_mesh_start(cm_subworker_mesh_t *self, const char *subworker,
                   cm_subscription_id_t subscription, zactor_fn *body, int hold_ms)
{
    cm_options_t options = {
        .push_token_status = {.brake_share_percent = 100, .brake_window_ms = 1000, .brake_min = 1}};
    start(self, subworker, subscription, body, hold_ms, &options);
}

void cm_mesh_start_with(cm_subworker_mesh_t *self, const char *subworker,
                        cm_subscription_id_t subscription, zactor_fn *body,
                        const cm_options_t *options)
{
    start(self, subworker, subscription, body, 60000, options);
}

void cm_mesh_stop(cm_subworker_mesh_t *self)
{
    zactor_destroy(&self->actor);
    zsock_destroy(&self->work);
    zsock_destroy(&self->outcomes);
    zsock_destroy(&self->reports);
    cm_arena_destroy(&self->arena);
    cm_buffer_destroy(&self->frame);
    cm_delivery_builder_destroy(&self->builder);
}

void cm_mesh_add(cm_subworker_mesh_t *self, const char *body, const cm_attribute_t *attributes,
                 size_t attribute_count)
{
    cm_broker_delivery_t delivery = {.lease = ++self->next_lease,
                                     .message_id = CM_STR("1-1"),
                                     .publish_ms = cm_clock_epoch_ms(),
                                     .attempt = 1,
                                     .message = {cm_str(body), attributes, attribute_count}};
    cm_delivery_builder_add(&self->builder, delivery.lease, &delivery, 1);
}

uint64_t cm_mesh_send(cm_subworker_mesh_t *self)
{
    cm_buffer_t frame;
    cm_delivery_builder_seal(&self->builder, ++self->next_batch, self->subscription, &frame);
    cm_frame_send(self->work, &frame, 0);
    return self->next_batch;
}

void cm_mesh_expect_end_by_garbage(cm_subworker_mesh_t *self)
{
    zstr_send(self->work, "no batch");
    zsock_set_rcvtimeo(zactor_sock(self->actor), CM_MESH_WAIT_MS);
    cr_assert(eq(int, zsock_wait(self->actor), 0), "the actor goes on"); /* its last signal */
}

bool cm_mesh_next(cm_subworker_mesh_t *self, int wait_ms, cm_outcome_frame_t *ret_frame)
{
    zmq_msg_t frame;
    zsock_set_rcvtimeo(self->outcomes, wait_ms);
    if (!cm_frame_receive(self->outcomes, &frame, 0))
        return false;
    cm_buffer_clear(&self->frame);
    cm_buffer_append(&self->frame, zmq_msg_data(&frame), zmq_msg_size(&frame));
    zmq_msg_close(&frame);
    cm_arena_reset(self->arena);
    cm_status_t status =
        cm_outcome_frame_decode(self->frame.data, self->frame.len, self->arena, ret_frame, NULL);
    cr_assert(eq(int, status, CM_OK));
    return true;
}

void cm_mesh_expect_ready(cm_subworker_mesh_t *self)
{
    cm_outcome_frame_t frame;
    cr_assert(cm_mesh_next(self, CM_MESH_WAIT_MS, &frame), "not ready");
    cr_assert(eq(int, frame.kind, CM_OUTCOME_FRAME_READY));
    cr_assert(eq(uint, frame.credits, 2));
}

void cm_mesh_expect_batch(cm_subworker_mesh_t *self, uint64_t id, cm_outcome_frame_t *ret_frame)
{
    cr_assert(cm_mesh_next(self, CM_MESH_WAIT_MS, ret_frame), "no outcomes of batch %d", (int)id);
    cr_assert(eq(int, ret_frame->kind, CM_OUTCOME_FRAME_BATCH));
    cr_assert(eq(u64, ret_frame->batch_id, id));
}

cm_str_t cm_mesh_attribute(const cm_outcome_t *outcome, const char *name)
{
    return cm_attribute_get(outcome->message.attributes, outcome->message.attribute_count, name);
}

static bool take_report(cm_subworker_mesh_t *self, int wait_ms)
{
    zmq_msg_t frame;
    zsock_set_rcvtimeo(self->reports, wait_ms);
    bool came = cm_frame_receive(self->reports, &frame, 0);
    if (came)
        zmq_msg_close(&frame);
    return came;
}

void cm_mesh_expect_life(cm_subworker_mesh_t *self)
{
    while (take_report(self, 0)) {
    }
    cr_assert(take_report(self, LIFE_WAIT_MS), "no sign of life");
}

void cm_mesh_await(const atomic_int *counter, int number)
{
    int64_t end_ms = cm_clock_mono_ms() + CM_MESH_WAIT_MS;
    while (atomic_load(counter) < number && cm_clock_mono_ms() < end_ms)
        zclock_sleep(2);
    cr_assert(atomic_load(counter) >= number, "waited in vain");
}
