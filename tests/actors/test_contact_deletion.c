/* fakes: contact_store tenant_registry pg */
#include "actors/contact_deletion.h"
#include "proto/attributes.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "tests/fakes/fake_contact_store.h"
#include "tests/fakes/fake_pg.h"
#include "tests/fakes/fake_tenant_registry.h"
#include "tests/support/subworker_mesh.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>

TestSuite(contact_deletion, .timeout = 20);

static void start(cm_subworker_mesh_t *mesh)
{
    cm_mesh_start(mesh, "contact-deletion", CM_SUBSCRIPTION_CONTACT_DELETION,
                  cm_contact_deletion_actor, 60000);
    cm_mesh_expect_ready(mesh);
}

static void add(cm_subworker_mesh_t *mesh, const char *tenant, int contact, int64_t ms)
{
    char body[256];
    snprintf(body, sizeof body, "{\"customerId\":\"%s\",\"contactId\":%d,\"deletedAt\":%lld}",
             tenant, contact, (long long)ms);
    cm_mesh_add(mesh, body, NULL, 0);
}

static void expect_kinds(cm_subworker_mesh_t *mesh, const cm_outcome_kind_t *kinds, size_t count,
                         cm_outcome_frame_t *frame)
{
    cm_mesh_expect_batch(mesh, cm_mesh_send(mesh), frame);
    cr_assert(eq(sz, frame->count, count));
    for (size_t i = 0; i < count; i++)
        cr_expect(eq(int, frame->items[i].kind, kinds[i]), "delivery %zu", i);
}

#define KINDS(...)                                                                                 \
    (const cm_outcome_kind_t[]){__VA_ARGS__},                                                      \
        sizeof((const cm_outcome_kind_t[]){__VA_ARGS__}) / sizeof(cm_outcome_kind_t)

Test(contact_deletion, what_the_store_says_is_the_outcome)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    start(&mesh);
    for (int contact = 1; contact <= 3; contact++)
        add(&mesh, "a", contact, 1000);
    expect_kinds(&mesh, KINDS(CM_OUTCOME_APPLIED, CM_OUTCOME_DUPLICATE, CM_OUTCOME_STALE), &frame);
    cm_mesh_stop(&mesh);
}

Test(contact_deletion, many_of_a_tenant_go_at_once_and_of_one_contact_the_latest)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    start(&mesh);
    add(&mesh, "b", 1, 1000);
    add(&mesh, "a", 1, 1000);
    add(&mesh, "a", 1, 3000);
    add(&mesh, "a", 1, 3000);
    add(&mesh, "a", 2, 1000);
    expect_kinds(&mesh,
                 KINDS(CM_OUTCOME_APPLIED, CM_OUTCOME_STALE, CM_OUTCOME_APPLIED,
                       CM_OUTCOME_DUPLICATE, CM_OUTCOME_DUPLICATE),
                 &frame);
    cr_expect(eq(int, atomic_load(&fake_contact_store.calls), 1));
    cr_expect(eq(int, atomic_load(&fake_contact_store.tenants), 2));
    cr_expect(eq(int, atomic_load(&fake_contact_store.items), 3));
    cm_mesh_stop(&mesh);
}

Test(contact_deletion, a_malformed_one_is_rejected_alone)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    start(&mesh);
    cm_mesh_add(&mesh, "{\"customerId\":\"a\",\"contactId\":null,\"deletedAt\":1}", NULL, 0);
    add(&mesh, "a", 1, 1000);
    expect_kinds(&mesh, KINDS(CM_OUTCOME_REJECT, CM_OUTCOME_APPLIED), &frame);
    cr_expect(cm_str_is(cm_mesh_attribute(&frame.items[0], CM_ATTRIBUTE_ERROR_CODE), "malformed"));
    cr_expect(cm_str_is(cm_mesh_attribute(&frame.items[0], CM_ATTRIBUTE_ORIGIN_TOPIC),
                        "t.contact-deletion"));
    cm_mesh_stop(&mesh);
}

/* Asked after the deletions, so that no belief of the batch counts. */
Test(contact_deletion, of_a_deleted_tenant_nothing_malformed_or_refused_is_rejected)
{
    static const cm_tenant_state_t states[] = {CM_TENANT_DELETING, CM_TENANT_DELETED};
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    start(&mesh);
    for (size_t i = 0; i < CM_LENGTH(states); i++) {
        atomic_store(&fake_tenant_registry.state, states[i]);
        cm_mesh_add(&mesh, "{\"customerId\":\"x\",\"contactId\":null,\"deletedAt\":1}", NULL, 0);
        cm_mesh_add(&mesh, "{", &(cm_attribute_t){CM_STR("customerId"), CM_STR("x")}, 1);
        cm_mesh_add(&mesh, "{", NULL, 0);
        add(&mesh, "a", 5, 1000);
        expect_kinds(
            &mesh,
            KINDS(CM_OUTCOME_DROPPED, CM_OUTCOME_DROPPED, CM_OUTCOME_REJECT, CM_OUTCOME_REJECT),
            &frame);
    }
    cm_mesh_stop(&mesh);
}

Test(contact_deletion, a_failure_that_passes_defers_and_a_permanent_one_rejects)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    start(&mesh);
    add(&mesh, "a", 4, 1000);
    add(&mesh, "b", 5, 1000);
    add(&mesh, "c", 6, 1000);
    add(&mesh, "d", 1, 1000);
    int64_t now_ms = cm_clock_epoch_ms();
    expect_kinds(&mesh,
                 KINDS(CM_OUTCOME_DEFER, CM_OUTCOME_REJECT, CM_OUTCOME_DEFER, CM_OUTCOME_APPLIED),
                 &frame);
    cr_expect(ge(i64, frame.items[0].until_ms, now_ms + 1000));
    cm_mesh_stop(&mesh);
}

Test(contact_deletion, the_registry_says_what_becomes_of_a_tenant_that_is_not_active)
{
    static const struct {
        cm_tenant_state_t state;
        cm_outcome_kind_t kind;
    } cases[] = {
        {CM_TENANT_SUSPENDED, CM_OUTCOME_DEFER},  {CM_TENANT_UNREADY, CM_OUTCOME_DEFER},
        {CM_TENANT_DELETING, CM_OUTCOME_DROPPED}, {CM_TENANT_DELETED, CM_OUTCOME_DROPPED},
        {CM_TENANT_ABSENT, CM_OUTCOME_DEFER},     {CM_TENANT_ACTIVATING, CM_OUTCOME_DEFER}};
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    start(&mesh);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        atomic_store(&fake_tenant_registry.state, cases[i].state);
        add(&mesh, "x", 1, 1000);
        add(&mesh, "a", 1, 1000);
        expect_kinds(&mesh, KINDS(cases[i].kind, CM_OUTCOME_APPLIED), &frame);
    }
    cm_mesh_stop(&mesh);
}

static void add_published(cm_subworker_mesh_t *mesh, int64_t publish_ms)
{
    cm_broker_delivery_t delivery = {
        .lease = ++mesh->next_lease,
        .message_id = CM_STR("1-1"),
        .publish_ms = publish_ms,
        .attempt = 1,
        .message = {.body = CM_STR("{\"customerId\":\"x\",\"contactId\":1,\"deletedAt\":1}")}};
    cm_delivery_builder_add(&mesh->builder, delivery.lease, &delivery, cm_clock_mono_ms());
}

Test(contact_deletion, a_tenant_that_does_not_come_within_ten_minutes_is_missing)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    start(&mesh);
    atomic_store(&fake_tenant_registry.state, CM_TENANT_ABSENT);
    int64_t now_ms = cm_clock_epoch_ms();
    add_published(&mesh, now_ms - 9 * 60000);
    add_published(&mesh, now_ms - 10 * 60000);
    add_published(&mesh, 0); /* nobody knows when */
    expect_kinds(&mesh, KINDS(CM_OUTCOME_DEFER, CM_OUTCOME_REJECT, CM_OUTCOME_DEFER), &frame);
    cr_expect(le(i64, frame.items[0].until_ms, now_ms + 61000));
    cr_expect(
        cm_str_is(cm_mesh_attribute(&frame.items[1], CM_ATTRIBUTE_ERROR_CODE), "tenant-missing"));
    cm_mesh_stop(&mesh);
}

Test(contact_deletion, the_database_away_keeps_the_batch_until_it_is_back)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    start(&mesh);
    atomic_store(&fake_contact_store.failure, CM_UNAVAILABLE);
    add(&mesh, "a", 1, 1000);
    uint64_t batch = cm_mesh_send(&mesh);
    cm_mesh_await(&fake_contact_store.calls, 2);
    atomic_store(&fake_contact_store.failure, CM_OK);
    cm_mesh_expect_batch(&mesh, batch, &frame);
    cr_expect(eq(int, frame.items[0].kind, CM_OUTCOME_APPLIED));
    cm_mesh_stop(&mesh);
}

Test(contact_deletion, with_another_erasure_key_nothing_is_deleted)
{
    cm_subworker_mesh_t mesh;
    cm_outcome_frame_t frame;
    atomic_store(&fake_contact_store.other_key, 1);
    start(&mesh);
    add(&mesh, "a", 1, 1000);
    uint64_t batch = cm_mesh_send(&mesh);
    cm_mesh_await(&fake_pg.closes, 2);
    cr_expect(eq(int, atomic_load(&fake_contact_store.calls), 0));
    atomic_store(&fake_contact_store.other_key, 0);
    cm_mesh_expect_batch(&mesh, batch, &frame);
    cr_expect(eq(int, frame.items[0].kind, CM_OUTCOME_APPLIED));
    cm_mesh_stop(&mesh);
}
