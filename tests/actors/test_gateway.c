/* fakes: broker */
/* The gateway between a fake broker and shards played by the test. */
#include "actors/gateway.h"
#include "proto/endpoint.h"
#include "proto/outcome.h"
#include "proto/report.h"
#include "runtime/actor.h"
#include "runtime/cleanup.h"
#include "runtime/frame.h"
#include "runtime/metrics.h"
#include "tests/fakes/fake_broker.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <string.h>

enum { SHARDS = 2, WAIT_MS = 5000, QUIET_MS = 200 };

typedef struct {
    zsock_t *in, *out;     /* the broker's other end */
    zsock_t *work[SHARDS]; /* as the shards see it */
    zsock_t *outcomes;
    zactor_t *gateway;
    cm_options_t options;
    cm_gateway_route_t route;
    cm_gateway_args_t args;
    cm_arena_t *arena;
} mesh_t;

static void expect_said(mesh_t *mesh, const char *expected)
{
    zsock_set_rcvtimeo(mesh->out, WAIT_MS);
    CM_CLEANUP(zstr_free) char *said = zstr_recv(mesh->out);
    cr_assert(said != NULL, "nothing was said, expected: %s", expected);
    cr_assert(eq(str, said, (char *)expected));
}

static void expect_silence(mesh_t *mesh)
{
    zsock_set_rcvtimeo(mesh->out, QUIET_MS);
    CM_CLEANUP(zstr_free) char *said = zstr_recv(mesh->out);
    cr_assert(said == NULL, "unexpected: %s", said ? said : "");
}

static void expect_drained(mesh_t *mesh)
{
    zsock_set_rcvtimeo(zactor_sock(mesh->gateway), WAIT_MS);
    CM_CLEANUP(zstr_free) char *drained = zstr_recv(mesh->gateway);
    cr_assert(drained != NULL, "the drain does not end");
    cr_expect(eq(str, drained, "DRAINED"));
}

static cm_status_t try_start(mesh_t *mesh, const char *uri, const char *reports, cm_error_t *err)
{
    mesh->in = zsock_new_push("@" CM_FAKE_BROKER_IN);
    mesh->out = zsock_new_pull("@" CM_FAKE_BROKER_OUT);
    mesh->arena = cm_arena_new(65536);
    mesh->options.redis.uri = uri;
    mesh->options.broker.prefix = "t";
    mesh->options.broker.lease_ms = 30000;
    mesh->options.broker.poll_ms = 100;
    mesh->options.gateway.pull_max = 100;
    mesh->options.gateway.batch_age_ms = 5;
    mesh->options.gateway.publish_max = 10;
    mesh->route = (cm_gateway_route_t){"writer", SHARDS, 0};
    mesh->args =
        (cm_gateway_args_t){&mesh->options, &cm_broker_fake, "me", reports, &mesh->route, 1};
    return cm_actor_start(&mesh->gateway, cm_gateway_actor, &mesh->args, 2 * WAIT_MS, err);
}

static void start_with(mesh_t *mesh, int batch_max, int batch_bytes, const char *reports)
{
    cm_error_t err = {0};
    *mesh = (mesh_t){0};
    mesh->options.gateway.batch_max = batch_max;
    mesh->options.gateway.batch_bytes = batch_bytes;
    cr_assert(eq(int, try_start(mesh, "unix:///nowhere", reports, &err), CM_OK));
    for (unsigned i = 0; i < SHARDS; i++) {
        char endpoint[CM_ENDPOINT_MAX];
        mesh->work[i] = zsock_new(ZMQ_PULL);
        zsock_connect(mesh->work[i], "%s", cm_endpoint_work("writer", i, endpoint));
    }
    mesh->outcomes = zsock_new(ZMQ_PUSH);
    zsock_connect(mesh->outcomes, "%s", CM_ENDPOINT_OUTCOMES);
    expect_said(mesh, "subscribe t.writer");
}

static void start(mesh_t *mesh)
{
    start_with(mesh, 10, 1 << 20, NULL);
}

static void stop(mesh_t *mesh)
{
    zactor_destroy(&mesh->gateway);
    for (unsigned i = 0; i < SHARDS; i++)
        zsock_destroy(&mesh->work[i]);
    zsock_destroy(&mesh->outcomes);
    zsock_destroy(&mesh->in);
    zsock_destroy(&mesh->out);
    cm_arena_destroy(&mesh->arena);
}

static void ready(mesh_t *mesh, unsigned shard, unsigned credits)
{
    cm_buffer_t frame = {0};
    cm_outcome_ready("writer", shard, credits, false, &frame);
    cm_frame_send(mesh->outcomes, &frame, 0);
}

static void deliver(mesh_t *mesh, const char *body)
{
    zstr_sendx(mesh->in, "deliver", "t.writer", body, NULL);
}

/* The next batch of a shard; ids and leases only, the frame is gone. */
static bool next_batch(mesh_t *mesh, unsigned shard, int wait_ms, cm_delivery_batch_t *batch)
{
    zmq_msg_t frame;
    zsock_set_rcvtimeo(mesh->work[shard], wait_ms);
    if (!cm_frame_receive(mesh->work[shard], &frame, 0))
        return false;
    cm_arena_reset(mesh->arena);
    char *copy = cm_arena_alloc(mesh->arena, zmq_msg_size(&frame));
    memcpy(copy, zmq_msg_data(&frame), zmq_msg_size(&frame));
    cm_status_t status =
        cm_delivery_batch_decode(copy, zmq_msg_size(&frame), mesh->arena, batch, NULL);
    zmq_msg_close(&frame);
    cr_assert(eq(int, status, CM_OK));
    return true;
}

/* Answer a batch with the same outcome for all. */
static void answer(mesh_t *mesh, unsigned shard, const cm_delivery_batch_t *batch,
                   cm_outcome_kind_t kind, unsigned credits)
{
    cm_outcome_builder_t builder = {0};
    cm_buffer_t frame = {0};
    for (size_t i = 0; i < batch->count; i++) {
        cm_outcome_t outcome = {.lease = batch->items[i].lease,
                                .kind = kind,
                                .until_ms = 1,
                                .message = {.body = batch->items[i].body}};
        cm_outcome_builder_add(&builder, &outcome);
    }
    cm_outcome_builder_seal(&builder, "writer", shard, batch->batch_id, credits, &frame);
    cm_frame_send(mesh->outcomes, &frame, 0);
}

static void both_ready(mesh_t *mesh)
{
    ready(mesh, 0, 2);
    ready(mesh, 1, 2);
}

/* Wherever the tenant of the body belongs. */
static unsigned take_from_any(mesh_t *mesh, cm_delivery_batch_t *batch)
{
    for (int tries = 0; tries < WAIT_MS / 10; tries++)
        for (unsigned shard = 0; shard < SHARDS; shard++)
            if (next_batch(mesh, shard, 10, batch))
                return shard;
    cr_assert(false, "no shard got a batch");
    return 0;
}

Test(gateway, nothing_is_pulled_before_every_shard_is_ready, .timeout = 20)
{
    mesh_t mesh;
    cm_delivery_batch_t batch;
    start(&mesh);
    ready(&mesh, 0, 2);
    deliver(&mesh, "{\"customerId\":1}");
    cr_expect(not(next_batch(&mesh, 0, QUIET_MS, &batch)));
    cr_expect(not(next_batch(&mesh, 1, QUIET_MS, &batch)));
    ready(&mesh, 1, 2);
    /* the pull that is open now takes it at the next delivery */
    deliver(&mesh, "{\"customerId\":1}");
    take_from_any(&mesh, &batch);
    stop(&mesh);
}

Test(gateway, one_tenant_always_goes_to_one_shard, .timeout = 20)
{
    mesh_t mesh;
    cm_delivery_batch_t batch;
    start(&mesh);
    both_ready(&mesh);
    deliver(&mesh, "{\"customerId\":\"6A2F4BD8-6d5c-4a53-9dd3-21c8f0f0a6a1\"}");
    unsigned first = take_from_any(&mesh, &batch);
    answer(&mesh, first, &batch, CM_OUTCOME_APPLIED, 1);
    deliver(&mesh, "{ \"customerId\" : \"6a2f4bd86d5c4a539dd321c8f0f0a6a1\"}");
    cr_expect(eq(uint, take_from_any(&mesh, &batch), first));
    stop(&mesh);
}

Test(gateway, applied_stale_duplicate_and_dropped_are_acknowledged, .timeout = 20)
{
    mesh_t mesh;
    cm_delivery_batch_t batch;
    const cm_outcome_kind_t kinds[] = {CM_OUTCOME_APPLIED, CM_OUTCOME_STALE, CM_OUTCOME_DUPLICATE,
                                       CM_OUTCOME_DROPPED};
    start(&mesh);
    both_ready(&mesh);
    for (size_t i = 0; i < CM_LENGTH(kinds); i++) {
        char expected[32];
        deliver(&mesh, "{\"customerId\":1}");
        unsigned shard = take_from_any(&mesh, &batch);
        answer(&mesh, shard, &batch, kinds[i], 1);
        snprintf(expected, sizeof expected, "ack %zu", i + 1);
        expect_said(&mesh, expected);
    }
    stop(&mesh);
}

Test(gateway, a_retry_is_acknowledged_only_after_its_publish_is_confirmed, .timeout = 20)
{
    mesh_t mesh;
    cm_delivery_batch_t batch;
    start(&mesh);
    both_ready(&mesh);
    deliver(&mesh, "{\"customerId\":1}");
    answer(&mesh, take_from_any(&mesh, &batch), &batch, CM_OUTCOME_RETRY, 1);
    expect_said(&mesh, "publish t.republisher {\"customerId\":1}");
    expect_silence(&mesh);
    zstr_sendx(mesh.in, "confirm", NULL);
    expect_said(&mesh, "ack 1");
    stop(&mesh);
}

Test(gateway, a_publish_that_fails_is_repeated_and_never_acknowledged_before, .timeout = 20)
{
    mesh_t mesh;
    cm_delivery_batch_t batch;
    start(&mesh);
    both_ready(&mesh);
    deliver(&mesh, "bad");
    answer(&mesh, take_from_any(&mesh, &batch), &batch, CM_OUTCOME_REJECT, 1);
    expect_said(&mesh, "publish t.writer-errors bad");
    zstr_sendx(mesh.in, "refuse", NULL);
    expect_said(&mesh, "publish t.writer-errors bad");
    zstr_sendx(mesh.in, "confirm", NULL);
    expect_said(&mesh, "ack 1");
    stop(&mesh);
}

Test(gateway, a_publish_that_the_broker_refuses_for_good_defers_its_delivery, .timeout = 20)
{
    mesh_t mesh;
    cm_delivery_batch_t batch;
    start(&mesh);
    both_ready(&mesh);
    deliver(&mesh, "bad");
    answer(&mesh, take_from_any(&mesh, &batch), &batch, CM_OUTCOME_REJECT, 1);
    expect_said(&mesh, "publish t.writer-errors bad");
    zstr_sendx(mesh.in, "spoil", NULL);
    expect_said(&mesh, "defer 1");
    expect_silence(&mesh); /* neither repeated nor acknowledged */
    zstr_send(mesh.gateway, "DRAIN");
    expect_drained(&mesh);
    stop(&mesh);
}

Test(gateway, defer_and_release_give_the_delivery_back, .timeout = 20)
{
    mesh_t mesh;
    cm_delivery_batch_t batch;
    start(&mesh);
    both_ready(&mesh);
    deliver(&mesh, "{\"customerId\":1}");
    answer(&mesh, take_from_any(&mesh, &batch), &batch, CM_OUTCOME_DEFER, 1);
    expect_said(&mesh, "defer 1");
    deliver(&mesh, "{\"customerId\":1}");
    answer(&mesh, take_from_any(&mesh, &batch), &batch, CM_OUTCOME_RELEASE, 1);
    expect_said(&mesh, "release 2");
    stop(&mesh);
}

Test(gateway, no_more_than_two_batches_are_in_the_hands_of_a_shard, .timeout = 20)
{
    mesh_t mesh;
    cm_delivery_batch_t batch;
    start(&mesh);
    both_ready(&mesh);
    for (int i = 0; i < 3; i++) {
        deliver(&mesh, "{\"customerId\":1}");
        if (i < 2)
            take_from_any(&mesh, &batch);
    }
    cr_expect(not(next_batch(&mesh, 0, QUIET_MS, &batch)));
    cr_expect(not(next_batch(&mesh, 1, QUIET_MS, &batch)));
    stop(&mesh);
}

Test(gateway, after_messages_of_which_few_fit_in_a_batch_pulling_goes_on, .timeout = 20)
{
    mesh_t mesh;
    cm_delivery_batch_t batch;
    char body[2048];
    snprintf(body, sizeof body, "{\"customerId\":1,\"x\":\"%02000d\"}", 0);
    start_with(&mesh, 160, 4096, NULL);
    both_ready(&mesh);
    for (unsigned i = 1; i <= 5; i++) {
        char acknowledged[16];
        deliver(&mesh, body);
        answer(&mesh, take_from_any(&mesh, &batch), &batch, CM_OUTCOME_APPLIED, 1);
        snprintf(acknowledged, sizeof acknowledged, "ack %u", i);
        expect_said(&mesh, acknowledged);
    }
    stop(&mesh);
}

Test(gateway, a_new_incarnation_of_a_shard_gives_back_what_the_old_one_held, .timeout = 20)
{
    mesh_t mesh;
    cm_delivery_batch_t batch;
    cm_buffer_t frame = {0};
    start(&mesh);
    both_ready(&mesh);
    deliver(&mesh, "{\"customerId\":1}");
    unsigned shard = take_from_any(&mesh, &batch);
    cm_outcome_ready("writer", shard, 0, true, &frame);
    cm_frame_send(mesh.outcomes, &frame, 0);
    expect_said(&mesh, "release 1");
    stop(&mesh);
}

Test(gateway, a_shard_without_database_gets_nothing_and_its_waiting_batch_goes_back, .timeout = 20)
{
    mesh_t mesh;
    cm_delivery_batch_t batch;
    start(&mesh);
    both_ready(&mesh);
    deliver(&mesh, "{\"customerId\":1}");
    unsigned shard = take_from_any(&mesh, &batch);
    answer(&mesh, shard, &batch, CM_OUTCOME_RELEASE, 0);
    expect_said(&mesh, "release 1");
    deliver(&mesh, "{\"customerId\":1}");
    deliver(&mesh, "{\"customerId\":2}");
    cr_expect(not(next_batch(&mesh, shard, QUIET_MS, &batch)));
    ready(&mesh, shard, 2);
    stop(&mesh);
}

Test(gateway, what_lapsed_while_it_waited_is_not_started, .timeout = 20)
{
    mesh_t mesh;
    cm_delivery_batch_t first, second;
    start(&mesh);
    both_ready(&mesh);
    deliver(&mesh, "{\"customerId\":1}");
    unsigned shard = take_from_any(&mesh, &first);
    deliver(&mesh, "{\"customerId\":1}");
    cr_assert(next_batch(&mesh, shard, WAIT_MS, &second));
    deliver(&mesh, "{\"customerId\":1}"); /* no credit is left for it */
    zstr_sendx(mesh.in, "lapse", "3", NULL);
    ready(&mesh, 1 - shard, 1); /* lets the gateway look */
    expect_said(&mesh, "release 3");
    stop(&mesh);
}

static void fail_and_lapse(const char *first, const char *second)
{
    mesh_t mesh;
    cm_delivery_batch_t batch;
    start(&mesh);
    both_ready(&mesh);
    deliver(&mesh, "bad");
    answer(&mesh, take_from_any(&mesh, &batch), &batch, CM_OUTCOME_REJECT, 1);
    expect_said(&mesh, "publish t.writer-errors bad");
    zstr_sendx(mesh.in, first, "1", NULL);
    zstr_sendx(mesh.in, second, "1", NULL);
    expect_silence(&mesh);
    zstr_send(mesh.gateway, "DRAIN");
    expect_drained(&mesh);
    stop(&mesh);
}

Test(gateway, a_publish_whose_delivery_lapsed_while_it_waited_is_not_repeated, .timeout = 20)
{
    fail_and_lapse("refuse", "lapse");
}

Test(gateway, a_publish_whose_delivery_lapsed_under_way_is_not_repeated_either, .timeout = 20)
{
    fail_and_lapse("lapse", "refuse");
}

Test(gateway, drain_is_over_when_nothing_is_in_hand, .timeout = 20)
{
    mesh_t mesh;
    cm_delivery_batch_t batch;
    start(&mesh);
    both_ready(&mesh);
    deliver(&mesh, "{\"customerId\":1}");
    unsigned shard = take_from_any(&mesh, &batch);
    zstr_send(mesh.gateway, "DRAIN");
    zsock_set_rcvtimeo(zactor_sock(mesh.gateway), QUIET_MS);
    CM_CLEANUP(zstr_free) char *early = zstr_recv(mesh.gateway);
    cr_expect(early == NULL);
    answer(&mesh, shard, &batch, CM_OUTCOME_APPLIED, 1);
    expect_said(&mesh, "ack 1");
    expect_drained(&mesh);
    stop(&mesh);
}

Test(gateway, stopping_releases_what_is_left_in_the_hands_of_shards, .timeout = 20)
{
    mesh_t mesh;
    cm_delivery_batch_t batch;
    start(&mesh);
    both_ready(&mesh);
    deliver(&mesh, "{\"customerId\":1}");
    take_from_any(&mesh, &batch);
    zactor_destroy(&mesh.gateway);
    expect_said(&mesh, "release 1");
    stop(&mesh);
}

static cm_actor_state_t next_state(zsock_t *reports)
{
    zsock_set_rcvtimeo(reports, WAIT_MS);
    for (;;) {
        zmq_msg_t frame;
        cm_report_t report;
        cr_assert(cm_frame_receive(reports, &frame, 0), "no report");
        cm_status_t status =
            cm_report_decode(zmq_msg_data(&frame), zmq_msg_size(&frame), &report, NULL);
        cm_actor_state_t state = report.state;
        bool tells = status == CM_OK && report.kind == CM_REPORT_STATE;
        zmq_msg_close(&frame);
        if (tells)
            return state;
    }
}

static void await_state(zsock_t *reports, cm_actor_state_t state)
{
    int tries = 0;
    while (next_state(reports) != state)
        cr_assert(lt(int, ++tries, 40), "the state does not come");
}

Test(gateway, a_subscription_that_delivers_again_is_refused_no_longer, .timeout = 20)
{
    mesh_t mesh;
    cm_delivery_batch_t batch;
    zsock_t *reports = zsock_new_pull("@" CM_ENDPOINT_REPORTS);
    start_with(&mesh, 10, 1 << 20, CM_ENDPOINT_REPORTS);
    both_ready(&mesh);
    await_state(reports, CM_ACTOR_RUNNING);
    zstr_sendx(mesh.in, "forbid", "t.writer", NULL);
    await_state(reports, CM_ACTOR_STOPPED);
    deliver(&mesh, "{\"customerId\":1}");
    take_from_any(&mesh, &batch);
    await_state(reports, CM_ACTOR_RUNNING);
    stop(&mesh);
    zsock_destroy(&reports);
}

Test(gateway, a_publish_that_a_person_must_make_possible_is_told_and_heals, .timeout = 20)
{
    mesh_t mesh;
    cm_delivery_batch_t batch;
    zsock_t *reports = zsock_new_pull("@" CM_ENDPOINT_REPORTS);
    start_with(&mesh, 10, 1 << 20, CM_ENDPOINT_REPORTS);
    both_ready(&mesh);
    await_state(reports, CM_ACTOR_RUNNING);
    deliver(&mesh, "{\"customerId\":1}");
    unsigned shard = take_from_any(&mesh, &batch);
    answer(&mesh, shard, &batch, CM_OUTCOME_RETRY, 1);
    expect_said(&mesh, "publish t.republisher {\"customerId\":1}");
    zstr_sendx(mesh.in, "deny", NULL);
    await_state(reports, CM_ACTOR_STOPPED);
    expect_said(&mesh, "publish t.republisher {\"customerId\":1}");
    zstr_sendx(mesh.in, "confirm", NULL);
    await_state(reports, CM_ACTOR_RUNNING);
    expect_said(&mesh, "ack 1");
    stop(&mesh);
    zsock_destroy(&reports);
}

static void expect_state(zsock_t *reports, cm_actor_state_t state)
{
    for (int i = 0; i < 3; i++) { /* the first may have been on its way */
        cm_actor_state_t told = next_state(reports);
        cr_assert(i == 0 || told == state, "state %d", told);
    }
}

/* Nothing refused may be forgotten because something else is well. */
Test(gateway, is_stopped_as_long_as_anything_is_refused, .timeout = 30)
{
    mesh_t mesh;
    cm_delivery_batch_t batch;
    zsock_t *reports = zsock_new_pull("@" CM_ENDPOINT_REPORTS);
    start_with(&mesh, 10, 1 << 20, CM_ENDPOINT_REPORTS);
    both_ready(&mesh);
    await_state(reports, CM_ACTOR_RUNNING);
    for (int i = 0; i < 2; i++) {
        deliver(&mesh, "{\"customerId\":1}");
        answer(&mesh, take_from_any(&mesh, &batch), &batch, CM_OUTCOME_RETRY, 1);
        expect_said(&mesh, "publish t.republisher {\"customerId\":1}");
    }
    zstr_sendx(mesh.in, "deny", NULL);
    zstr_sendx(mesh.in, "down", NULL);
    zstr_sendx(mesh.in, "confirm", NULL); /* another topic is accepted */
    await_state(reports, CM_ACTOR_STOPPED);
    await_state(reports, CM_ACTOR_PAUSED);
    expect_said(&mesh, "ack 2");
    zstr_sendx(mesh.in, "up", NULL); /* the link is well, the first publish is not */
    await_state(reports, CM_ACTOR_STOPPED);
    zstr_sendx(mesh.in, "forbid", "t.writer", NULL);
    expect_said(&mesh, "publish t.republisher {\"customerId\":1}");
    zstr_sendx(mesh.in, "confirm", NULL);
    expect_said(&mesh, "ack 1");
    expect_state(reports, CM_ACTOR_STOPPED); /* the subscription still is */
    deliver(&mesh, "{\"customerId\":1}");
    take_from_any(&mesh, &batch);
    await_state(reports, CM_ACTOR_RUNNING);
    stop(&mesh);
    zsock_destroy(&reports);
}

/* Refused without end: what Redis says when it is short of memory. */
Test(gateway, a_publish_that_is_refused_is_repeated_less_and_less_often, .timeout = 20)
{
    mesh_t mesh;
    cm_delivery_batch_t batch;
    start(&mesh);
    both_ready(&mesh);
    deliver(&mesh, "bad");
    answer(&mesh, take_from_any(&mesh, &batch), &batch, CM_OUTCOME_REJECT, 1);
    for (int i = 0; i < 5; i++) { /* 100, 200, 400, 800, 1600 ms */
        expect_said(&mesh, "publish t.writer-errors bad");
        zstr_sendx(mesh.in, "refuse", NULL);
    }
    expect_silence(&mesh);
    expect_said(&mesh, "publish t.writer-errors bad");
    stop(&mesh);
}

/* Wait until a counter of the gateway has a value. */
static void await_count(zsock_t *reports, const char *name, double value)
{
    cm_metrics_board_t *board = cm_metrics_board_new();
    zsock_set_rcvtimeo(reports, WAIT_MS);
    for (int tries = 0; cm_metrics_board_value(board, name, "") < value; tries++) {
        zmq_msg_t frame;
        cm_report_t report;
        cr_assert(cm_frame_receive(reports, &frame, 0), "no report");
        cr_assert(lt(int, tries, 100), "%s does not come to %g", name, value);
        if (cm_report_decode(zmq_msg_data(&frame), zmq_msg_size(&frame), &report, NULL) == CM_OK &&
            report.kind == CM_REPORT_METRICS)
            cm_metrics_board_put(board, report.metrics.ptr, report.metrics.len, 1, NULL);
        zmq_msg_close(&frame);
    }
    cm_metrics_board_destroy(&board);
}

Test(gateway, a_loss_is_counted_even_if_nobody_knows_how_much_was_lost, .timeout = 20)
{
    mesh_t mesh;
    zsock_t *reports = zsock_new_pull("@" CM_ENDPOINT_REPORTS);
    start_with(&mesh, 10, 1 << 20, CM_ENDPOINT_REPORTS);
    zstr_sendx(mesh.in, "lose", "t.writer", NULL);
    await_count(reports, "client_manager_broker_losses_total", 1);
    stop(&mesh);
    zsock_destroy(&reports);
}

/* ---- the first word of the broker ------------------------------------------------------------ */

static cm_status_t start_at(const char *uri, cm_error_t *err)
{
    mesh_t mesh = {0};
    cm_status_t status = try_start(&mesh, uri, NULL, err);
    stop(&mesh);
    return status;
}

Test(start, fails_when_the_broker_refuses_us, .timeout = 20)
{
    cm_error_t err = {0};
    cr_expect(eq(int, start_at(CM_FAKE_BROKER_REFUSES, &err), CM_MISCONFIGURED));
    cr_expect(eq(str, err.message, "refused by the test"));
}

Test(start, does_not_wait_for_a_broker_that_is_away, .timeout = 20)
{
    cm_error_t err = {0};
    cr_expect(eq(int, start_at(CM_FAKE_BROKER_AWAY, &err), CM_OK));
}

Test(start, does_not_wait_for_ever_for_a_word_of_the_broker, .timeout = 30)
{
    cm_error_t err = {0};
    cr_expect(eq(int, start_at(CM_FAKE_BROKER_SILENT, &err), CM_OK));
}
