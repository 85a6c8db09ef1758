/* fakes: broker */
/* A route that waits until a batch is full or old, beside one that does not. */
#include "actors/gateway.h"
#include "proto/endpoint.h"
#include "proto/outcome.h"
#include "runtime/actor.h"
#include "runtime/cleanup.h"
#include "runtime/frame.h"
#include "tests/fakes/fake_broker.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

enum { WAIT_MS = 5000, QUIET_MS = 200, FULL = 3, NEVER_MS = 3600000 };

typedef struct {
    zsock_t *in, *out; /* the broker's other end */
    zsock_t *eager, *patient, *outcomes;
    zactor_t *gateway;
    cm_options_t options;
    cm_gateway_route_t routes[2];
    cm_gateway_args_t args;
} mesh_t;

static bool leaves_web(const cm_options_t *options, cm_subscription_id_t id)
{
    (void)options;
    return id == CM_SUBSCRIPTION_WEB_PUSH_TOKEN_STATUS;
}

static void expect_said(mesh_t *mesh, const char *expected)
{
    zsock_set_rcvtimeo(mesh->out, WAIT_MS);
    CM_CLEANUP(zstr_free) char *said = zstr_recv(mesh->out);
    cr_assert(said != NULL, "nothing was said, expected: %s", expected);
    cr_assert(eq(str, said, (char *)expected));
}

static zsock_t *shard_of(const char *subworker)
{
    char endpoint[CM_ENDPOINT_MAX];
    zsock_t *work = zsock_new(ZMQ_PULL);
    zsock_connect(work, "%s", cm_endpoint_work(subworker, 0, endpoint));
    return work;
}

static void ready(mesh_t *mesh, const char *subworker)
{
    cm_buffer_t frame = {0};
    cm_outcome_ready(subworker, 0, 2, false, &frame);
    cm_frame_send(mesh->outcomes, &frame, 0);
}

static void start_as(mesh_t *mesh, const cm_gateway_route_t *route)
{
    cm_error_t err = {0};
    *mesh = (mesh_t){.in = zsock_new_push("@" CM_FAKE_BROKER_IN),
                     .out = zsock_new_pull("@" CM_FAKE_BROKER_OUT)};
    mesh->options.redis.uri = "unix:///nowhere";
    mesh->options.broker.prefix = "t";
    mesh->options.broker.lease_ms = 30000;
    mesh->options.broker.poll_ms = 100;
    mesh->options.gateway.pull_max = 100;
    mesh->options.gateway.batch_max = 10;
    mesh->options.gateway.batch_bytes = 1 << 20;
    mesh->options.gateway.batch_age_ms = NEVER_MS;
    mesh->options.gateway.publish_max = 10;
    mesh->routes[0] = *route;
    mesh->routes[1] = (cm_gateway_route_t){.subworker = "dead-letter", .shards = 1};
    mesh->args = (cm_gateway_args_t){&mesh->options, &cm_broker_fake, "me",
                                     NULL,           mesh->routes,    CM_LENGTH(mesh->routes)};
    cr_assert(eq(int,
                 cm_actor_start(&mesh->gateway, cm_gateway_actor, &mesh->args, 2 * WAIT_MS, &err),
                 CM_OK));
    mesh->patient = shard_of("push-token-status");
    mesh->eager = shard_of("dead-letter");
    mesh->outcomes = zsock_new(ZMQ_PUSH);
    zsock_connect(mesh->outcomes, "%s", CM_ENDPOINT_OUTCOMES);
    expect_said(mesh, "subscribe t.push-token-status");
    if (!route->leaves)
        expect_said(mesh, "subscribe t.web-push-token-status");
    expect_said(mesh, "subscribe t.writer-errors");
    expect_said(mesh, "subscribe t.contact-deletion-errors");
    ready(mesh, "push-token-status");
    ready(mesh, "dead-letter");
}

static void start(mesh_t *mesh, int64_t fill_ms)
{
    start_as(mesh, &(cm_gateway_route_t){.subworker = "push-token-status",
                                         .shards = 1,
                                         .batch_max = FULL,
                                         .fill_ms = fill_ms,
                                         .leaves = leaves_web});
}

static void stop(mesh_t *mesh)
{
    zactor_destroy(&mesh->gateway);
    zsock_destroy(&mesh->eager);
    zsock_destroy(&mesh->patient);
    zsock_destroy(&mesh->outcomes);
    zsock_destroy(&mesh->in);
    zsock_destroy(&mesh->out);
}

static void deliver(mesh_t *mesh, const char *topic)
{
    zstr_sendx(mesh->in, "deliver", topic, "{\"customerId\":1}", NULL);
}

/* Deliveries in the next batch; 0: none came. */
static size_t next_batch(zsock_t *work, int wait_ms)
{
    zmq_msg_t frame;
    cm_delivery_batch_t batch;
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(65536);
    zsock_set_rcvtimeo(work, wait_ms);
    if (!cm_frame_receive(work, &frame, 0))
        return 0;
    cm_status_t status =
        cm_delivery_batch_decode(zmq_msg_data(&frame), zmq_msg_size(&frame), arena, &batch, NULL);
    zmq_msg_close(&frame);
    cr_assert(eq(int, status, CM_OK));
    return batch.count;
}

Test(gateway_fill, an_idle_shard_gets_a_batch_when_it_is_full, .timeout = 20)
{
    mesh_t mesh;
    start(&mesh, NEVER_MS);
    deliver(&mesh, "t.push-token-status");
    deliver(&mesh, "t.push-token-status");
    cr_expect(eq(sz, next_batch(mesh.patient, QUIET_MS), 0));
    deliver(&mesh, "t.push-token-status");
    cr_expect(eq(sz, next_batch(mesh.patient, WAIT_MS), FULL));
    stop(&mesh);
}

Test(gateway_fill, or_when_it_is_old, .timeout = 20)
{
    mesh_t mesh;
    start(&mesh, 50);
    deliver(&mesh, "t.push-token-status");
    cr_expect(eq(sz, next_batch(mesh.patient, WAIT_MS), 1));
    stop(&mesh);
}

Test(gateway_fill, another_route_waits_for_nothing_beside_it, .timeout = 20)
{
    mesh_t mesh;
    start(&mesh, NEVER_MS);
    deliver(&mesh, "t.push-token-status");
    deliver(&mesh, "t.writer-errors");
    cr_expect(eq(sz, next_batch(mesh.eager, WAIT_MS), 1));
    cr_expect(eq(sz, next_batch(mesh.patient, QUIET_MS), 0));
    stop(&mesh);
}

Test(gateway_fill, a_drain_waits_for_no_batch_to_fill, .timeout = 20)
{
    mesh_t mesh;
    start(&mesh, NEVER_MS);
    deliver(&mesh, "t.push-token-status");
    cr_expect(eq(sz, next_batch(mesh.patient, QUIET_MS), 0));
    zstr_send(mesh.gateway, "DRAIN");
    cr_expect(eq(sz, next_batch(mesh.patient, WAIT_MS), 1));
    stop(&mesh);
}

/* Whether the next batch is of the web's subscription; answered, so that another may come. */
static bool next_is_web(mesh_t *mesh)
{
    zmq_msg_t frame;
    cm_delivery_batch_t batch;
    cm_outcome_builder_t builder = {0};
    cm_buffer_t answer = {0};
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(65536);
    zsock_set_rcvtimeo(mesh->patient, WAIT_MS);
    cr_assert(cm_frame_receive(mesh->patient, &frame, 0));
    cr_assert(eq(
        int,
        cm_delivery_batch_decode(zmq_msg_data(&frame), zmq_msg_size(&frame), arena, &batch, NULL),
        CM_OK));
    for (size_t i = 0; i < batch.count; i++)
        cm_outcome_builder_add(
            &builder, &(cm_outcome_t){.lease = batch.items[i].lease, .kind = CM_OUTCOME_APPLIED});
    cm_outcome_builder_seal(&builder, "push-token-status", 0, batch.batch_id, 1, &answer);
    cm_frame_send(mesh->outcomes, &answer, 0);
    zmq_msg_close(&frame);
    return batch.subscription == CM_SUBSCRIPTION_WEB_PUSH_TOKEN_STATUS;
}

Test(gateway_fill, a_busy_subscription_does_not_shut_out_another_of_its_shard, .timeout = 20)
{
    enum { BUSY = 40, SOON = 6 };
    mesh_t mesh;
    int served = 1;
    start_as(&mesh,
             &(cm_gateway_route_t){.subworker = "push-token-status", .shards = 1, .batch_max = 1});
    for (int i = 0; i < BUSY; i++) {
        deliver(&mesh, "t.push-token-status");
        if (i == 2) /* two are in the shard's hands, one waits */
            deliver(&mesh, "t.web-push-token-status");
    }
    while (served <= BUSY && !next_is_web(&mesh))
        served++;
    cr_expect(le(int, served, SOON));
    stop(&mesh);
}
