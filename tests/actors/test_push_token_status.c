/* fakes: token_status_store push_brake_store tenant_registry pg */
#include "actors/push_token_status.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "tests/fakes/fake_pg.h"
#include "tests/fakes/fake_tenant_registry.h"
#include "tests/fakes/fake_token_status_store.h"
#include "tests/support/subworker_mesh.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MINUTES_MS(n) ((n)*INT64_C(60000))

static void start(cm_subworker_mesh_t *mesh)
{
    cm_mesh_start(mesh, "push-token-status", CM_SUBSCRIPTION_PUSH_TOKEN_STATUS,
                  cm_push_token_status_actor, 60000);
    cm_mesh_expect_ready(mesh);
}

static void add_judged(cm_subworker_mesh_t *mesh, const char *tenant, const char *client_id,
                       const char *status)
{
    char body[512];
    snprintf(body, sizeof body,
             "{\"customerId\":\"%s\",\"applicationCode\":\"app\",\"clientId\":\"%s\","
             "\"eventTime\":1000,\"status\":\"%s\"}",
             tenant, client_id, status);
    cm_mesh_add(mesh, body, NULL, 0);
}

static void add_answer(cm_subworker_mesh_t *mesh, const char *tenant, int http_status,
                       const char *code)
{
    char body[512];
    snprintf(body, sizeof body,
             "{\"customerId\":\"%s\",\"applicationCode\":\"app\",\"token\":\"tok\","
             "\"eventTime\":1000,\"provider\":\"fcm\","
             "\"response\":{\"httpStatus\":%d,\"errorCode\":\"%s\"}}",
             tenant, http_status, code);
    cm_mesh_add(mesh, body, NULL, 0);
}

static void hand_over(cm_subworker_mesh_t *mesh, cm_outcome_frame_t *frame)
{
    cm_mesh_expect_batch(mesh, cm_mesh_send(mesh), frame);
}

static cm_outcome_kind_t outcome_of(const char *tenant, const char *client_id)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    start(&mesh);
    add_judged(&mesh, tenant, client_id, "invalid");
    hand_over(&mesh, &frame);
    cm_outcome_kind_t kind = frame.items[0].kind;
    cm_mesh_stop(&mesh);
    return kind;
}

Test(push_token_status, what_the_store_says_of_each_is_its_outcome, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    static const char *const clients[] = {"applied", "stale", "duplicate", "bad", "transient"};
    static const int kinds[] = {CM_OUTCOME_APPLIED, CM_OUTCOME_STALE, CM_OUTCOME_DUPLICATE,
                                CM_OUTCOME_REJECT, CM_OUTCOME_DEFER};
    start(&mesh);
    for (size_t i = 0; i < 5; i++)
        add_judged(&mesh, "a", clients[i], i % 2 ? "valid" : "invalid");
    hand_over(&mesh, &frame);
    for (size_t i = 0; i < 5; i++)
        cr_expect(eq(int, frame.items[i].kind, kinds[i]), "%s", clients[i]);
    cr_expect(cm_str_is(cm_mesh_attribute(&frame.items[3], "errorCode"), "23514"));
    cr_expect(cm_str_is(cm_mesh_attribute(&frame.items[3], "errorClass"), "permanent"));
    cm_mesh_stop(&mesh);
}

Test(push_token_status, a_held_verdict_is_acknowledged, .timeout = 20)
{
    atomic_store(&fake_token_status_store.braked, 1);
    cr_expect(eq(int, outcome_of("a", "applied"), CM_OUTCOME_APPLIED));
}

Test(push_token_status, a_malformed_one_is_rejected_alone, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    start(&mesh);
    add_judged(&mesh, "a", "applied", "invalid");
    cm_mesh_add(&mesh, "{", NULL, 0);
    cm_mesh_add(&mesh, "{\"customerId\":\"a\"}", NULL, 0);
    add_judged(&mesh, "a", "applied", "valid");
    hand_over(&mesh, &frame);
    cr_expect(eq(int, frame.items[0].kind, CM_OUTCOME_APPLIED));
    cr_expect(eq(int, frame.items[1].kind, CM_OUTCOME_REJECT));
    cr_expect(eq(int, frame.items[2].kind, CM_OUTCOME_REJECT));
    cr_expect(eq(int, frame.items[3].kind, CM_OUTCOME_APPLIED));
    cr_expect(cm_str_is(cm_mesh_attribute(&frame.items[1], "errorCode"), "malformed"));
    cr_expect(cm_str_is(cm_mesh_attribute(&frame.items[1], "originTopic"), "t.push-token-status"));
    cm_mesh_stop(&mesh);
}

Test(push_token_status, an_answer_that_says_nothing_of_the_token_never_reaches_the_store,
     .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    start(&mesh);
    add_answer(&mesh, "a", 429, "QUOTA_EXCEEDED");
    add_answer(&mesh, "a", 503, "UNAVAILABLE");
    add_answer(&mesh, "a", 403, "SENDER_ID_MISMATCH");
    add_answer(&mesh, "a", 404, "NEVER_HEARD_OF");
    hand_over(&mesh, &frame);
    for (size_t i = 0; i < 4; i++)
        cr_expect(eq(int, frame.items[i].kind, CM_OUTCOME_STALE), "%d", (int)i);
    cr_expect(eq(int, atomic_load(&fake_token_status_store.verdicts), 0));
    add_answer(&mesh, "a", 404, "UNREGISTERED");
    add_answer(&mesh, "a", 200, "");
    hand_over(&mesh, &frame);
    cr_expect(eq(int, frame.items[0].kind, CM_OUTCOME_APPLIED));
    cr_expect(eq(int, frame.items[1].kind, CM_OUTCOME_APPLIED));
    cr_expect(eq(int, atomic_load(&fake_token_status_store.verdicts), 2));
    cm_mesh_stop(&mesh);
}

/* ---- tenants -------------------------------------------------------------------------------- */

Test(push_token_status, all_of_a_deleted_tenant_is_dropped_what_cannot_be_read_too, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    atomic_store(&fake_tenant_registry.state, CM_TENANT_DELETED);
    start(&mesh);
    add_judged(&mesh, "x", "applied", "invalid");
    cm_mesh_add(&mesh, "{\"customerId\":\"x\"}", NULL, 0);
    add_answer(&mesh, "x", 404, "NEVER_HEARD_OF");
    hand_over(&mesh, &frame);
    for (size_t i = 0; i < 3; i++)
        cr_expect(eq(int, frame.items[i].kind, CM_OUTCOME_DROPPED), "%d", (int)i);
    cr_expect(eq(int, atomic_load(&fake_token_status_store.writes), 0));
    cm_mesh_stop(&mesh);
}

Test(push_token_status, before_a_reject_the_registry_is_asked_whatever_was_believed, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    atomic_store(&fake_tenant_registry.state, CM_TENANT_ACTIVE);
    start(&mesh);
    add_judged(&mesh, "x", "applied", "invalid"); /* believed active from now on */
    hand_over(&mesh, &frame);
    atomic_store(&fake_tenant_registry.state, CM_TENANT_DELETED);
    cm_mesh_add(&mesh, "{\"customerId\":\"x\"}", NULL, 0);
    cm_mesh_add(&mesh, "{", &(cm_attribute_t){CM_STR("customerId"), CM_STR("x")}, 1);
    add_judged(&mesh, "x", "bad", "invalid");
    add_judged(&mesh, "a", "bad", "invalid");
    cm_mesh_add(&mesh, "{", NULL, 0);
    hand_over(&mesh, &frame);
    for (size_t i = 0; i < 3; i++)
        cr_expect(eq(int, frame.items[i].kind, CM_OUTCOME_DROPPED), "%d", (int)i);
    cr_expect(eq(int, frame.items[3].kind, CM_OUTCOME_REJECT));
    cr_expect(eq(int, frame.items[4].kind, CM_OUTCOME_REJECT));
    cm_mesh_stop(&mesh);
}

Test(push_token_status, of_a_suspended_tenant_it_is_deferred, .timeout = 20)
{
    atomic_store(&fake_tenant_registry.state, CM_TENANT_SUSPENDED);
    cr_expect(eq(int, outcome_of("x", "applied"), CM_OUTCOME_DEFER));
}

static void add_published(cm_subworker_mesh_t *mesh, int64_t publish_ms)
{
    cm_broker_delivery_t delivery = {
        .lease = ++mesh->next_lease,
        .message_id = CM_STR("1-1"),
        .publish_ms = publish_ms,
        .message = {.body = CM_STR("{\"customerId\":\"x\",\"applicationCode\":\"app\","
                                   "\"clientId\":\"c\",\"eventTime\":1000,\"status\":\"valid\"}")}};
    cm_delivery_builder_add(&mesh->builder, delivery.lease, &delivery, 1);
}

Test(push_token_status, a_tenant_not_known_is_waited_for_longer_and_longer_up_to_ten_minutes,
     .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    atomic_store(&fake_tenant_registry.state, CM_TENANT_ABSENT);
    start(&mesh);
    int64_t now_ms = cm_clock_epoch_ms();
    add_published(&mesh, now_ms);
    add_published(&mesh, now_ms - MINUTES_MS(9));
    add_published(&mesh, now_ms - MINUTES_MS(11));
    add_published(&mesh, 0); /* nobody knows when */
    hand_over(&mesh, &frame);
    cr_expect(eq(int, frame.items[0].kind, CM_OUTCOME_DEFER));
    cr_expect(lt(i64, frame.items[0].until_ms, now_ms + 30000));
    cr_expect(eq(int, frame.items[1].kind, CM_OUTCOME_DEFER));
    cr_expect(ge(i64, frame.items[1].until_ms, now_ms + 30000));
    cr_expect(eq(int, frame.items[2].kind, CM_OUTCOME_REJECT));
    cr_expect(cm_str_is(cm_mesh_attribute(&frame.items[2], "errorCode"), "tenant-missing"));
    cr_expect(eq(int, frame.items[3].kind, CM_OUTCOME_DEFER));
    cm_mesh_stop(&mesh);
}

Test(push_token_status, a_locked_tenant_is_parked_the_others_run_on, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    start(&mesh);
    add_judged(&mesh, "a", "locked", "invalid");
    add_judged(&mesh, "b", "applied", "invalid");
    hand_over(&mesh, &frame);
    cr_expect(eq(int, frame.items[0].kind, CM_OUTCOME_DEFER));
    cr_expect(eq(int, frame.items[1].kind, CM_OUTCOME_APPLIED));
    int written = atomic_load(&fake_token_status_store.verdicts);
    add_judged(&mesh, "a", "applied", "invalid");
    hand_over(&mesh, &frame);
    cr_expect(eq(int, frame.items[0].kind, CM_OUTCOME_DEFER));
    cr_expect(eq(int, atomic_load(&fake_token_status_store.verdicts), written));
    cm_mesh_stop(&mesh);
}

Test(push_token_status, when_the_schema_is_not_there_the_registry_is_asked, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    atomic_store(&fake_tenant_registry.state, CM_TENANT_ACTIVE);
    start(&mesh);
    add_judged(&mesh, "x", "applied", "invalid"); /* believed active from now on */
    hand_over(&mesh, &frame);
    atomic_store(&fake_tenant_registry.state, CM_TENANT_DELETED);
    add_judged(&mesh, "x", "missing", "invalid");
    hand_over(&mesh, &frame);
    cr_expect(eq(int, frame.items[0].kind, CM_OUTCOME_DROPPED));
    add_judged(&mesh, "active", "missing", "invalid");
    hand_over(&mesh, &frame);
    cr_expect(eq(int, frame.items[0].kind, CM_OUTCOME_DEFER));
    cm_mesh_stop(&mesh);
}

/* ---- the database --------------------------------------------------------------------------- */

Test(push_token_status, a_batch_whose_database_went_away_is_written_when_it_is_back, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    atomic_store(&fake_token_status_store.failures, 2);
    start(&mesh);
    add_judged(&mesh, "a", "applied", "invalid");
    hand_over(&mesh, &frame);
    cr_expect(eq(int, frame.items[0].kind, CM_OUTCOME_APPLIED));
    cr_expect(eq(int, atomic_load(&fake_token_status_store.writes), 1));
    cm_mesh_stop(&mesh);
}

Test(push_token_status, brakes_are_looked_at_without_a_batch_too, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    start(&mesh);
    cm_mesh_await(&fake_token_status_store.totals, 1);
    cm_mesh_stop(&mesh);
}

/* Nothing ticks while draining: a look at them now would be the batch's. */
Test(push_token_status, a_batch_does_not_wait_for_a_look_at_the_brakes, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    atomic_store(&fake_pg.refuses, CM_UNAVAILABLE);
    cm_mesh_start(&mesh, "push-token-status", CM_SUBSCRIPTION_PUSH_TOKEN_STATUS,
                  cm_push_token_status_actor, 60000);
    zstr_send(mesh.actor, "DRAIN");
    CM_CLEANUP(zstr_free) char *word = zstr_recv(mesh.actor);
    cr_assert(eq(str, word, "DRAINED"));
    atomic_store(&fake_pg.refuses, CM_OK);
    cm_mesh_expect_ready(&mesh);
    add_judged(&mesh, "a", "applied", "invalid");
    hand_over(&mesh, &frame);
    cr_expect(eq(int, frame.items[0].kind, CM_OUTCOME_APPLIED));
    cm_mesh_stop(&mesh);
    cr_expect(eq(int, atomic_load(&fake_token_status_store.totals), 0));
}

Test(push_token_status, a_look_at_the_brakes_that_fails_is_told_and_harms_nothing, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    char said[8192] = "";
    int ends[2], stderr_was = dup(STDERR_FILENO);
    cr_assert(zero(int, pipe(ends)));
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
    atomic_store(&fake_token_status_store.totals_failure, CM_TRANSIENT);
    start(&mesh);
    cm_mesh_await(&fake_token_status_store.totals, 1);
    add_judged(&mesh, "a", "applied", "invalid");
    hand_over(&mesh, &frame);
    cr_expect(eq(int, frame.items[0].kind, CM_OUTCOME_APPLIED));
    cm_mesh_stop(&mesh);
    dup2(stderr_was, STDERR_FILENO);
    close(stderr_was);
    ssize_t len = read(ends[0], said, sizeof said - 1); /* far less than a pipe holds */
    close(ends[0]);
    cr_assert(gt(i64, (int64_t)len, 0));
    cr_expect(strstr(said, "push brakes not counted") != NULL, "%s", said);
    cr_expect(strstr(said, "57014") != NULL, "%s", said);
}

Test(push_token_status, old_verdicts_of_each_tenant_are_forgotten_without_a_batch, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    atomic_store(&fake_token_status_store.old_chunks, 2);
    start(&mesh);
    cm_mesh_await(&fake_token_status_store.rounds, 1);
    cr_expect(eq(int, atomic_load(&fake_token_status_store.old_chunks), 0));
    cr_expect(eq(int, atomic_load(&fake_token_status_store.prunes), 4)); /* a, and b thrice */
    cm_mesh_await(&fake_token_status_store.totals, 1);
    cm_mesh_stop(&mesh);
}

/* ---- the brake ------------------------------------------------------------------------------ */

enum { MIN = 20 };

static void start_with_brake(cm_subworker_mesh_t *mesh)
{
    /* The options are read when the actor opens, so it is started on a mesh that has them. */
    cm_mesh_start_with(mesh, "push-token-status", CM_SUBSCRIPTION_PUSH_TOKEN_STATUS,
                       cm_push_token_status_actor,
                       &(cm_options_t){.push_token_status = {.brake_share_percent = 50,
                                                             .brake_window_ms = 600000,
                                                             .brake_min = MIN}});
    cm_mesh_expect_ready(mesh);
}

static void send_many(cm_subworker_mesh_t *mesh, int count, const char *status)
{
    cm_outcome_frame_t frame;
    for (int i = 0; i < count; i++)
        add_judged(mesh, "a", "applied", status);
    hand_over(mesh, &frame);
}

Test(push_token_status, the_brake_goes_on_with_the_batch_that_passes_the_limit_and_only_once,
     .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    start_with_brake(&mesh);
    send_many(&mesh, MIN - 1, "invalid");
    cr_expect(eq(int, atomic_load(&fake_token_status_store.trips), 0));
    send_many(&mesh, 1, "invalid");
    cr_expect(eq(int, atomic_load(&fake_token_status_store.trips), 1));
    send_many(&mesh, MIN, "invalid");
    cr_expect(eq(int, atomic_load(&fake_token_status_store.trips), 1));
    cm_mesh_stop(&mesh);
}

Test(push_token_status, a_brake_that_was_taken_off_counts_anew, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    start_with_brake(&mesh);
    send_many(&mesh, MIN, "invalid");
    atomic_store(&fake_token_status_store.braked, 0); /* released */
    send_many(&mesh, MIN - 1, "invalid");
    cr_expect(eq(int, atomic_load(&fake_token_status_store.trips), 1));
    send_many(&mesh, 1, "invalid");
    cr_expect(eq(int, atomic_load(&fake_token_status_store.trips), 2));
    cm_mesh_stop(&mesh);
}

Test(push_token_status, a_batch_that_failed_is_counted_once, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    atomic_store(&fake_token_status_store.failures, 2);
    start_with_brake(&mesh);
    send_many(&mesh, MIN / 2, "invalid");
    cr_expect(eq(int, atomic_load(&fake_token_status_store.trips), 0));
    send_many(&mesh, MIN / 2, "invalid");
    cr_expect(eq(int, atomic_load(&fake_token_status_store.trips), 1));
    cm_mesh_stop(&mesh);
}

Test(push_token_status, answers_that_change_no_token_are_no_part_of_the_share, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    start_with_brake(&mesh);
    for (int i = 0; i < 10 * MIN; i++)
        add_answer(&mesh, "a", 503, "UNAVAILABLE");
    for (int i = 0; i < MIN; i++)
        add_answer(&mesh, "a", 404, "UNREGISTERED");
    hand_over(&mesh, &frame);
    cr_expect(eq(int, atomic_load(&fake_token_status_store.trips), 1));
    cm_mesh_stop(&mesh);
}
