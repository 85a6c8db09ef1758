/* fakes: device_store tenant_registry pg */
/* A writer between a gateway played by the test and a database that does what the test says. */
#include "actors/republisher.h"
#include "actors/writer.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "tests/fakes/fake_device_store.h"
#include "tests/fakes/fake_pg.h"
#include "tests/fakes/fake_tenant_registry.h"
#include "tests/support/subworker_mesh.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>

enum { QUIET_MS = 300, HOLD_MS = 60000 };

static void start_writer(cm_subworker_mesh_t *mesh, int hold_ms)
{
    cm_mesh_start(mesh, "writer", CM_SUBSCRIPTION_WRITER, cm_writer_actor, hold_ms);
}

/* Add an event of a device whose group says `model` to the batch that is being made. */
static void add(cm_subworker_mesh_t *mesh, const char *tenant, const char *client,
                const char *model)
{
    char body[256];
    snprintf(body, sizeof body,
             "{\"customerId\":\"%s\",\"applicationCode\":\"A\",\"clientId\":\"%s\","
             "\"eventTime\":%d,\"device\":{\"deviceModel\":\"%s\"}}",
             tenant, client, (int)(1000 + mesh->next_lease), model);
    cm_mesh_add(mesh, body, NULL, 0);
}

static void fail_rule(size_t index, const char *tenant, const char *client, const char *model,
                      cm_status_t status, const char *code)
{
    cm_fake_rule_t *rule = &fake_device_store.rules[index];
    *rule = (cm_fake_rule_t){.tenant = tenant, .client_id = client, .model = model};
    cm_error_set(&rule->error, status, code, "by the test");
}

/* ---- outcomes ------------------------------------------------------------------------------- */

Test(device_actor, a_batch_is_answered_with_one_outcome_each_and_one_credit, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    start_writer(&mesh, HOLD_MS);
    cm_mesh_expect_ready(&mesh);
    add(&mesh, "1", "a", "m");
    add(&mesh, "2", "b", "m");
    cm_mesh_expect_batch(&mesh, cm_mesh_send(&mesh), &frame);
    cr_expect(eq(uint, frame.credits, 1));
    cr_assert(eq(sz, frame.count, 2));
    cr_expect(eq(int, frame.items[0].kind, CM_OUTCOME_APPLIED));
    cr_expect(eq(int, frame.items[1].kind, CM_OUTCOME_APPLIED));
    cm_mesh_stop(&mesh);
}

Test(device_actor, a_transient_failure_of_one_tenant_leaves_the_others_applied, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    fail_rule(0, "2", NULL, NULL, CM_TRANSIENT, "40P01");
    start_writer(&mesh, HOLD_MS);
    cm_mesh_expect_ready(&mesh);
    add(&mesh, "1", "a", "m");
    add(&mesh, "2", "b", "m");
    add(&mesh, "3", "c", "m");
    cm_mesh_expect_batch(&mesh, cm_mesh_send(&mesh), &frame);
    cr_expect(eq(int, frame.items[0].kind, CM_OUTCOME_APPLIED));
    cr_expect(eq(int, frame.items[1].kind, CM_OUTCOME_RETRY));
    cr_expect(eq(int, frame.items[2].kind, CM_OUTCOME_APPLIED));
    cr_expect(cm_str_is(cm_mesh_attribute(&frame.items[1], "errorCode"), "40P01"));
    cr_expect(cm_str_is(cm_mesh_attribute(&frame.items[1], "retryCount"), "1"));
    cm_mesh_stop(&mesh);
}

/* Trying the deliveries of "a" alone uses the store again, which forgets the error of "b". */
Test(device_actor, each_bad_device_is_rejected_with_its_own_error, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    fail_rule(0, NULL, "a", "bad", CM_PERMANENT, "23514");
    fail_rule(1, NULL, "b", NULL, CM_PERMANENT, "22001");
    fail_rule(2, "9", NULL, NULL, CM_PERMANENT, "54000");
    start_writer(&mesh, HOLD_MS);
    cm_mesh_expect_ready(&mesh);
    add(&mesh, "1", "a", "good");
    add(&mesh, "1", "a", "bad");
    add(&mesh, "1", "b", "m");
    add(&mesh, "9", "c", "m");
    cm_mesh_expect_batch(&mesh, cm_mesh_send(&mesh), &frame);
    cr_expect(eq(int, frame.items[0].kind, CM_OUTCOME_APPLIED));
    for (size_t i = 1; i < 4; i++)
        cr_expect(eq(int, frame.items[i].kind, CM_OUTCOME_REJECT));
    cr_expect(cm_str_is(cm_mesh_attribute(&frame.items[1], "errorCode"), "23514"));
    cr_expect(cm_str_is(cm_mesh_attribute(&frame.items[2], "errorCode"), "22001"));
    cr_expect(cm_str_is(cm_mesh_attribute(&frame.items[3], "errorCode"), "54000"));
    cm_mesh_stop(&mesh);
}

Test(device_actor, a_locked_tenant_is_parked_and_its_next_deliveries_are_deferred, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    fail_rule(0, "2", NULL, NULL, CM_TRANSIENT, "55P03");
    start_writer(&mesh, HOLD_MS);
    cm_mesh_expect_ready(&mesh);
    add(&mesh, "2", "a", "m");
    cm_mesh_expect_batch(&mesh, cm_mesh_send(&mesh), &frame);
    cr_expect(eq(int, frame.items[0].kind, CM_OUTCOME_RETRY));
    add(&mesh, "1", "a", "m");
    add(&mesh, "2", "a", "m");
    cm_mesh_expect_batch(&mesh, cm_mesh_send(&mesh), &frame);
    cr_expect(eq(int, frame.items[0].kind, CM_OUTCOME_APPLIED));
    cr_expect(eq(int, frame.items[1].kind, CM_OUTCOME_DEFER));
    cr_expect(gt(i64, frame.items[1].until_ms, cm_clock_epoch_ms() - 1));
    cm_mesh_stop(&mesh);
}

/* The second round comes when the tenant's time is over: a write would wait for the lock. */
Test(device_actor, a_tenant_that_is_still_locked_is_not_written_to_find_out, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    fail_rule(0, "2", NULL, NULL, CM_TRANSIENT, "55P03");
    start_writer(&mesh, HOLD_MS);
    cm_mesh_expect_ready(&mesh);
    add(&mesh, "2", "a", "m");
    cm_mesh_expect_batch(&mesh, cm_mesh_send(&mesh), &frame);
    cr_expect(eq(int, frame.items[0].kind, CM_OUTCOME_RETRY));
    while (atomic_load(&fake_device_store.lock_tries) == 0) {
        add(&mesh, "2", "a", "m");
        cm_mesh_expect_batch(&mesh, cm_mesh_send(&mesh), &frame);
        cr_assert(eq(int, frame.items[0].kind, CM_OUTCOME_DEFER));
    }
    cr_expect(eq(int, atomic_load(&fake_device_store.tenants_written), 1));
    cm_mesh_stop(&mesh);
}

/* No lock is in the way then, and the write of all tenants would wait for the whole time-out. */
Test(device_actor, a_tenant_that_timed_out_is_written_on_trial, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    fail_rule(0, "2", NULL, NULL, CM_TRANSIENT, "57014");
    start_writer(&mesh, HOLD_MS);
    cm_mesh_expect_ready(&mesh);
    do {
        add(&mesh, "1", "a", "m");
        add(&mesh, "2", "a", "m");
        cm_mesh_expect_batch(&mesh, cm_mesh_send(&mesh), &frame);
        cr_assert(eq(int, frame.items[0].kind, CM_OUTCOME_APPLIED));
    } while (atomic_load(&fake_device_store.lock_tries) == 0);
    cr_expect(eq(int, atomic_load(&fake_device_store.trials), 1));
    cr_expect(eq(int, frame.items[1].kind, CM_OUTCOME_RETRY));
    cm_mesh_stop(&mesh);
}

static void expect_one_tenant_deferred(cm_status_t status, const char *code)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    fail_rule(0, "2", NULL, NULL, status, code);
    start_writer(&mesh, HOLD_MS);
    cm_mesh_expect_ready(&mesh);
    add(&mesh, "1", "a", "m");
    add(&mesh, "2", "a", "m");
    cm_mesh_expect_batch(&mesh, cm_mesh_send(&mesh), &frame);
    cr_expect(eq(int, frame.items[0].kind, CM_OUTCOME_APPLIED));
    cr_expect(eq(int, frame.items[1].kind, CM_OUTCOME_DEFER));
    cm_mesh_stop(&mesh);
}

Test(device_actor, a_tenant_without_a_column_is_deferred_and_spends_no_retry, .timeout = 20)
{
    expect_one_tenant_deferred(CM_MISCONFIGURED, "42703");
}

Test(device_actor, a_damaged_tenant_is_deferred_and_stops_no_other, .timeout = 20)
{
    expect_one_tenant_deferred(CM_UNAVAILABLE, "XX001");
}

Test(device_actor, events_of_a_tenant_that_is_not_migrated_wait_unwritten, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    atomic_store(&fake_tenant_registry.state, CM_TENANT_UNREADY);
    start_writer(&mesh, HOLD_MS);
    cm_mesh_expect_ready(&mesh);
    add(&mesh, "x1", "a", "m");
    cm_mesh_expect_batch(&mesh, cm_mesh_send(&mesh), &frame);
    cr_expect(eq(int, frame.items[0].kind, CM_OUTCOME_DEFER));
    cr_expect(eq(int, atomic_load(&fake_device_store.begins), 0));
    cm_mesh_stop(&mesh);
}

Test(device_actor, events_of_a_deleted_tenant_are_dropped_unwritten, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    atomic_store(&fake_tenant_registry.state, CM_TENANT_DELETED);
    start_writer(&mesh, HOLD_MS);
    cm_mesh_expect_ready(&mesh);
    add(&mesh, "x1", "a", "m");
    cm_mesh_expect_batch(&mesh, cm_mesh_send(&mesh), &frame);
    cr_expect(eq(int, frame.items[0].kind, CM_OUTCOME_DROPPED));
    cr_expect(eq(int, atomic_load(&fake_device_store.begins), 0));
    cm_mesh_stop(&mesh);
}

static const char malformed[] = "{\"customerId\":\"x1\",\"applicationCode\":7}";

Test(device_actor, a_malformed_event_of_a_deleted_tenant_is_dropped, .timeout = 20)
{
    static const cm_tenant_state_t states[] = {CM_TENANT_DELETING, CM_TENANT_DELETED};
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    start_writer(&mesh, HOLD_MS);
    cm_mesh_expect_ready(&mesh);
    for (size_t i = 0; i < CM_LENGTH(states); i++) {
        atomic_store(&fake_tenant_registry.state, states[i]);
        cm_mesh_add(&mesh, malformed, NULL, 0);
        cm_mesh_add(&mesh, "no event", &(cm_attribute_t){CM_STR("customerId"), CM_STR("x1")}, 1);
        cm_mesh_expect_batch(&mesh, cm_mesh_send(&mesh), &frame);
        cr_expect(eq(int, frame.items[0].kind, CM_OUTCOME_DROPPED));
        cr_expect(eq(int, frame.items[1].kind, CM_OUTCOME_DROPPED));
    }
    cm_mesh_stop(&mesh);
}

Test(device_actor, a_malformed_event_asks_the_registry_whatever_was_believed, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    atomic_store(&fake_tenant_registry.state, CM_TENANT_ACTIVE);
    start_writer(&mesh, HOLD_MS);
    cm_mesh_expect_ready(&mesh);
    add(&mesh, "x1", "a", "m");
    cm_mesh_expect_batch(&mesh, cm_mesh_send(&mesh), &frame);
    cr_expect(eq(int, frame.items[0].kind, CM_OUTCOME_APPLIED));
    atomic_store(&fake_tenant_registry.state, CM_TENANT_DELETED);
    cm_mesh_add(&mesh, malformed, NULL, 0);
    cm_mesh_expect_batch(&mesh, cm_mesh_send(&mesh), &frame);
    cr_expect(eq(int, frame.items[0].kind, CM_OUTCOME_DROPPED));
    cm_mesh_stop(&mesh);
}

Test(device_actor, a_malformed_event_of_any_other_tenant_is_rejected_beside_good_ones,
     .timeout = 20)
{
    static const cm_tenant_state_t states[] = {CM_TENANT_ACTIVE, CM_TENANT_SUSPENDED,
                                               CM_TENANT_ABSENT};
    static const cm_outcome_kind_t good[] = {CM_OUTCOME_APPLIED, CM_OUTCOME_DEFER,
                                             CM_OUTCOME_RETRY};
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    start_writer(&mesh, HOLD_MS);
    cm_mesh_expect_ready(&mesh);
    for (size_t i = 0; i < CM_LENGTH(states); i++) {
        atomic_store(&fake_tenant_registry.state, states[i]);
        add(&mesh, "x1", "a", "m");
        cm_mesh_add(&mesh, malformed, NULL, 0);
        cm_mesh_add(&mesh, "{\"customerId\":\"y2\"}", NULL, 0);
        cm_mesh_expect_batch(&mesh, cm_mesh_send(&mesh), &frame);
        cr_expect(eq(int, frame.items[0].kind, good[i]));
        for (size_t bad = 1; bad < 3; bad++) {
            cr_expect(eq(int, frame.items[bad].kind, CM_OUTCOME_REJECT));
            cr_expect(cm_str_is(cm_mesh_attribute(&frame.items[bad], "errorCode"), "malformed"));
        }
    }
    cm_mesh_stop(&mesh);
}

/* Held tables of a tenant that is being dropped, and a row that it would not take: neither may
 * become a dead letter, at the last try or at once. */
Test(device_actor, a_failed_write_of_a_tenant_deleted_meanwhile_is_dropped, .timeout = 20)
{
    static const cm_attribute_t last_try = {CM_STR("retryCount"), CM_STR("5")};
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    atomic_store(&fake_tenant_registry.state, CM_TENANT_ACTIVE);
    fail_rule(0, "x1", "held", NULL, CM_TRANSIENT, "40P01");
    fail_rule(1, "x1", "bad", NULL, CM_PERMANENT, "23514");
    cm_mesh_start(&mesh, "republisher", CM_SUBSCRIPTION_REPUBLISHER, cm_republisher_actor, HOLD_MS);
    cm_mesh_expect_ready(&mesh);
    add(&mesh, "x1", "a", "m");
    cm_mesh_expect_batch(&mesh, cm_mesh_send(&mesh), &frame);
    atomic_store(&fake_tenant_registry.state, CM_TENANT_DELETING);
    static const char *const clients[] = {"held", "bad"};
    for (size_t i = 0; i < CM_LENGTH(clients); i++) {
        char body[256];
        snprintf(body, sizeof body,
                 "{\"customerId\":\"x1\",\"applicationCode\":\"A\",\"clientId\":\"%s\","
                 "\"eventTime\":9,\"device\":{}}",
                 clients[i]);
        cm_mesh_add(&mesh, body, &last_try, 1);
        cm_mesh_expect_batch(&mesh, cm_mesh_send(&mesh), &frame);
        cr_expect(eq(int, frame.items[0].kind, CM_OUTCOME_DROPPED), "%s", clients[i]);
    }
    cm_mesh_stop(&mesh);
}

Test(device_actor, of_all_tenants_that_failed_the_registry_is_asked_at_once, .timeout = 20)
{
    static const char *const tenants[] = {"x1", "2", "x3", "4", "x5"};
    static const cm_outcome_kind_t kinds[] = {CM_OUTCOME_DROPPED, CM_OUTCOME_RETRY,
                                              CM_OUTCOME_APPLIED, CM_OUTCOME_REJECT,
                                              CM_OUTCOME_DROPPED};
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    atomic_store(&fake_tenant_registry.state, CM_TENANT_ACTIVE);
    fail_rule(0, "x1", "bad", NULL, CM_PERMANENT, "23514");
    fail_rule(1, "2", "bad", NULL, CM_TRANSIENT, "40P01");
    fail_rule(2, "4", "bad", NULL, CM_PERMANENT, "23514");
    fail_rule(3, "x5", "bad", NULL, CM_MISSING, "42P01");
    start_writer(&mesh, HOLD_MS);
    cm_mesh_expect_ready(&mesh);
    for (size_t i = 0; i < CM_LENGTH(tenants); i++)
        add(&mesh, tenants[i], "good", "m"); /* believed active from now on */
    cm_mesh_expect_batch(&mesh, cm_mesh_send(&mesh), &frame);
    cr_expect(eq(int, atomic_load(&fake_tenant_registry.queries), 1));
    atomic_store(&fake_tenant_registry.state, CM_TENANT_DELETED);
    for (size_t i = 0; i < CM_LENGTH(tenants); i++)
        add(&mesh, tenants[i], "bad", "m");
    cm_mesh_expect_batch(&mesh, cm_mesh_send(&mesh), &frame);
    for (size_t i = 0; i < CM_LENGTH(tenants); i++)
        cr_expect(eq(int, frame.items[i].kind, kinds[i]), "%s", tenants[i]);
    cr_expect(eq(int, atomic_load(&fake_tenant_registry.queries), 2));
    cr_expect(eq(int, atomic_load(&fake_tenant_registry.asked), 5 + 4));
    cm_mesh_stop(&mesh);
}

Test(device_actor, a_missing_schema_asks_the_registry_again, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    atomic_store(&fake_tenant_registry.state, CM_TENANT_ACTIVE);
    fail_rule(0, "x1", "gone", NULL, CM_MISSING, "42P01");
    start_writer(&mesh, HOLD_MS);
    cm_mesh_expect_ready(&mesh);
    add(&mesh, "x1", "a", "m");
    cm_mesh_expect_batch(&mesh, cm_mesh_send(&mesh), &frame);
    cr_expect(eq(int, frame.items[0].kind, CM_OUTCOME_APPLIED));
    atomic_store(&fake_tenant_registry.state, CM_TENANT_DELETED);
    add(&mesh, "x1", "gone", "m");
    cm_mesh_expect_batch(&mesh, cm_mesh_send(&mesh), &frame);
    cr_expect(eq(int, frame.items[0].kind, CM_OUTCOME_DROPPED));
    cm_mesh_stop(&mesh);
}

/* ---- the database is away ------------------------------------------------------------------- */

Test(device_actor, nothing_is_asked_for_before_the_database_is_there, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    atomic_store(&fake_pg.refuses, CM_UNAVAILABLE);
    start_writer(&mesh, HOLD_MS);
    cm_mesh_await(&fake_pg.connects, 4);
    cr_expect(not(cm_mesh_next(&mesh, 0, &frame)));
    atomic_store(&fake_pg.refuses, CM_OK);
    cm_mesh_expect_ready(&mesh);
    cm_mesh_stop(&mesh);
}

Test(device_actor, a_batch_is_kept_while_the_database_is_away_and_then_written, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    atomic_store(&fake_device_store.away, CM_UNAVAILABLE);
    start_writer(&mesh, HOLD_MS);
    cm_mesh_expect_ready(&mesh);
    add(&mesh, "1", "a", "m");
    cm_mesh_send(&mesh);
    cm_mesh_await(&fake_device_store.begins, 5);
    cr_expect(not(cm_mesh_next(&mesh, 0, &frame)));
    atomic_store(&fake_device_store.away, CM_OK);
    cm_mesh_expect_batch(&mesh, 1, &frame);
    cr_expect(eq(int, frame.items[0].kind, CM_OUTCOME_APPLIED));
    cm_mesh_stop(&mesh);
}

/* A full disk answers every connection: only the hold may end it. */
Test(device_actor, what_is_held_too_long_is_given_back_and_spends_no_retry, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    atomic_store(&fake_device_store.away, CM_UNAVAILABLE);
    start_writer(&mesh, 200);
    cm_mesh_expect_ready(&mesh);
    add(&mesh, "1", "a", "m");
    cm_mesh_send(&mesh);
    add(&mesh, "1", "b", "m");
    cm_mesh_send(&mesh);
    for (uint64_t id = 1; id <= 2; id++) {
        cm_mesh_expect_batch(&mesh, id, &frame);
        cr_expect(eq(uint, frame.credits, 0));
        cr_expect(eq(int, frame.items[0].kind, CM_OUTCOME_RELEASE));
    }
    atomic_store(&fake_device_store.away, CM_OK);
    cm_mesh_expect_ready(&mesh);
    cm_mesh_stop(&mesh);
}

Test(device_actor, a_database_that_refuses_every_write_is_asked_at_the_pace_of_the_breaker,
     .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    atomic_store(&fake_device_store.away, CM_UNAVAILABLE);
    start_writer(&mesh, HOLD_MS);
    cm_mesh_expect_ready(&mesh);
    add(&mesh, "1", "a", "m");
    cm_mesh_send(&mesh);
    cm_mesh_await(&fake_device_store.begins, 3); /* the breaker is open now */
    cr_expect(not(cm_mesh_next(&mesh, QUIET_MS, &frame)));
    /* full jitter up to 20 ms: some 30 probes; without the breaker there are thousands */
    cr_expect(lt(int, atomic_load(&fake_device_store.begins), 200));
    cm_mesh_stop(&mesh);
}

Test(device_actor, a_missing_right_is_not_taken_for_healed_by_a_new_connection, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    atomic_store(&fake_device_store.away, CM_MISCONFIGURED);
    start_writer(&mesh, HOLD_MS);
    cm_mesh_expect_ready(&mesh);
    add(&mesh, "1", "a", "m");
    cm_mesh_send(&mesh);
    cm_mesh_await(&fake_device_store.begins, 3);
    cr_expect(not(cm_mesh_next(&mesh, QUIET_MS, &frame)));
    cr_expect(lt(int, atomic_load(&fake_pg.connects), 200));
    atomic_store(&fake_device_store.away, CM_OK);
    cm_mesh_expect_batch(&mesh, 1, &frame);
    cr_expect(eq(int, frame.items[0].kind, CM_OUTCOME_APPLIED));
    cm_mesh_stop(&mesh);
}

static void expect_registry_trouble_to_release(cm_status_t failure)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    atomic_store(&fake_tenant_registry.failure, failure);
    start_writer(&mesh, 100);
    cm_mesh_expect_ready(&mesh);
    add(&mesh, "1", "a", "m");
    cm_mesh_send(&mesh);
    cm_mesh_expect_batch(&mesh, 1, &frame);
    cr_expect(eq(int, frame.items[0].kind, CM_OUTCOME_RELEASE));
    cr_expect(eq(int, atomic_load(&fake_device_store.begins), 0));
    cr_expect(lt(int, atomic_load(&fake_tenant_registry.queries), 100));
    cm_mesh_stop(&mesh);
}

Test(device_actor, a_locked_registry_spends_no_retry, .timeout = 20)
{
    expect_registry_trouble_to_release(CM_TRANSIENT);
}

Test(device_actor, a_registry_that_is_gone_spends_no_retry, .timeout = 20)
{
    expect_registry_trouble_to_release(CM_MISSING);
}

/* After an outage the batch in hand can be settled without a write, with the next one waiting. */
Test(device_actor, no_batch_is_forgotten_when_another_is_settled_unwritten, .timeout = 30)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    atomic_store(&fake_tenant_registry.state, CM_TENANT_DELETED);
    start_writer(&mesh, HOLD_MS);
    cm_mesh_expect_ready(&mesh);
    for (int round = 0; round < 4; round++) {
        char tenant[16];
        int queries = atomic_load(&fake_tenant_registry.queries);
        atomic_store(&fake_tenant_registry.failure, CM_UNAVAILABLE);
        snprintf(tenant, sizeof tenant, "x%d", round);
        add(&mesh, tenant, "a", "m");
        uint64_t first = cm_mesh_send(&mesh);
        cm_mesh_await(&fake_tenant_registry.queries, queries + 1);
        add(&mesh, tenant, "b", "m");
        uint64_t second = cm_mesh_send(&mesh);
        add(&mesh, tenant, "c", "m");
        uint64_t third = cm_mesh_send(&mesh);
        cm_mesh_await(&fake_tenant_registry.queries, queries + 5);
        atomic_store(&fake_tenant_registry.failure, CM_OK);
        cm_mesh_expect_batch(&mesh, first, &frame);
        cm_mesh_expect_batch(&mesh, second, &frame);
        cm_mesh_expect_batch(&mesh, third, &frame);
        if (round % 2 == 0) { /* so that each of the two places is the current one */
            add(&mesh, "1", "c", "m");
            cm_mesh_expect_batch(&mesh, cm_mesh_send(&mesh), &frame);
        }
    }
    cm_mesh_stop(&mesh);
}

/* ---- stopping ------------------------------------------------------------------------------- */

Test(device_actor, a_drain_gives_back_what_an_absent_database_holds_up, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    atomic_store(&fake_device_store.away, CM_UNAVAILABLE);
    start_writer(&mesh, HOLD_MS);
    cm_mesh_expect_ready(&mesh);
    add(&mesh, "1", "a", "m");
    cm_mesh_send(&mesh);
    cm_mesh_await(&fake_device_store.begins, 3);
    zstr_send(mesh.actor, "DRAIN");
    cm_mesh_expect_batch(&mesh, 1, &frame);
    cr_expect(eq(int, frame.items[0].kind, CM_OUTCOME_RELEASE));
    CM_CLEANUP(zstr_free) char *word = zstr_recv(mesh.actor);
    cr_expect(eq(str, word, "DRAINED"));
    cm_mesh_stop(&mesh);
}

Test(device_actor, a_stop_gives_back_what_is_in_hand, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    atomic_store(&fake_device_store.away, CM_UNAVAILABLE);
    start_writer(&mesh, HOLD_MS);
    cm_mesh_expect_ready(&mesh);
    add(&mesh, "1", "a", "m");
    cm_mesh_send(&mesh);
    cm_mesh_await(&fake_device_store.begins, 1);
    zactor_destroy(&mesh.actor);
    cm_mesh_expect_batch(&mesh, 1, &frame);
    cr_expect(eq(int, frame.items[0].kind, CM_OUTCOME_RELEASE));
    cm_mesh_stop(&mesh);
}

Test(device_actor, the_republisher_defers_what_is_not_due, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    char due[32];
    const char body[] = "{\"customerId\":1,\"applicationCode\":\"A\",\"clientId\":\"c\","
                        "\"eventTime\":5,\"removed\":true}";
    cm_mesh_start(&mesh, "republisher", CM_SUBSCRIPTION_REPUBLISHER, cm_republisher_actor, HOLD_MS);
    cm_mesh_expect_ready(&mesh);
    snprintf(due, sizeof due, "%lld", (long long)cm_clock_epoch_ms() + 900);
    cm_attribute_t attribute = {CM_STR("notBefore"), cm_str(due)};
    cm_mesh_add(&mesh, body, &attribute, 1);
    cm_mesh_expect_batch(&mesh, cm_mesh_send(&mesh), &frame);
    cr_expect(eq(int, frame.items[0].kind, CM_OUTCOME_DEFER));
    cr_expect(eq(int, atomic_load(&fake_device_store.begins), 0));
    cm_mesh_stop(&mesh);
}

Test(device_actor, ends_at_a_batch_that_cannot_be_read_so_that_it_is_given_back, .timeout = 20)
{
    cm_subworker_mesh_t mesh;
    start_writer(&mesh, HOLD_MS);
    cm_mesh_expect_ready(&mesh);
    cm_mesh_expect_end_by_garbage(&mesh);
    cm_mesh_stop(&mesh);
}
