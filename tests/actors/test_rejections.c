/* fakes: tenant_registry pg */
#include "actors/rejections.h"
#include "proto/attributes.h"
#include "runtime/cleanup.h"
#include "tests/fakes/fake_tenant_registry.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

TestSuite(rejections, .timeout = 5);

enum { DELIVERIES = 4 };

typedef struct {
    cm_options_t options;
    cm_subworker_args_t args;
    cm_attribute_t named; /* of the last delivery */
    cm_delivery_t items[DELIVERIES];
    cm_delivery_batch_t batch;
    cm_outcome_t outcomes[DELIVERIES];
    cm_rejections_t rejections;
} world_t;

static void world_close(world_t *self)
{
    cm_arena_destroy(&self->rejections.arena);
}

static void world_open(world_t *self)
{
    *self = (world_t){.named = {CM_STR("customerId"), CM_STR("x9")}};
    self->options.broker.prefix = "t";
    self->options.postgres.admin_schema = "client_manager";
    self->args = (cm_subworker_args_t){.options = &self->options};
    for (size_t i = 0; i < DELIVERIES; i++)
        self->items[i] = (cm_delivery_t){.lease = i + 1, .body = CM_STR("{")};
    self->items[DELIVERIES - 1].attributes = &self->named;
    self->items[DELIVERIES - 1].attribute_count = 1;
    self->batch = (cm_delivery_batch_t){.subscription = CM_SUBSCRIPTION_CONTACT_DELETION,
                                        .count = DELIVERIES,
                                        .items = self->items};
    self->rejections = (cm_rejections_t){.args = &self->args,
                                         .batch = &self->batch,
                                         .outcomes = self->outcomes,
                                         .arena = cm_arena_new(4096)};
}

static void reject(world_t *self, size_t index, const char *tenant)
{
    cm_error_t err = {0};
    cm_error_set(&err, CM_PERMANENT, "malformed", "by the test");
    cm_rejections_add(&self->rejections, index, tenant, &err);
}

Test(rejections, those_of_deleted_tenants_are_dropped_by_one_query_the_others_become_letters)
{
    static const cm_tenant_state_t states[] = {CM_TENANT_DELETING, CM_TENANT_DELETED};
    for (size_t s = 0; s < CM_LENGTH(states); s++) {
        CM_CLEANUP(world_close) world_t world;
        world_open(&world);
        atomic_store(&fake_tenant_registry.state, states[s]);
        atomic_store(&fake_tenant_registry.queries, 0);
        reject(&world, 2, "x1");
        reject(&world, 0, "1");
        reject(&world, 1, "x1");
        reject(&world, 3, ""); /* its attribute names x9 */
        cr_assert(eq(int, cm_rejections_settle(&world.rejections, NULL, NULL), CM_OK));
        cr_expect(eq(int, atomic_load(&fake_tenant_registry.queries), 1));
        cr_expect(eq(int, world.outcomes[0].kind, CM_OUTCOME_REJECT));
        for (size_t i = 1; i < DELIVERIES; i++) {
            cr_expect(eq(int, world.outcomes[i].kind, CM_OUTCOME_DROPPED), "%zu", i);
            cr_expect(eq(u64, world.outcomes[i].lease, i + 1));
        }
        const cm_message_t *letter = &world.outcomes[0].message;
        cr_expect(cm_str_is(cm_attribute_get(letter->attributes, letter->attribute_count,
                                             CM_ATTRIBUTE_ORIGIN_TOPIC),
                            "t.contact-deletion"));
    }
}

Test(rejections, of_any_other_state_they_become_letters)
{
    for (int state = CM_TENANT_ABSENT; state <= CM_TENANT_UNREADY; state++) {
        if (state == CM_TENANT_DELETING || state == CM_TENANT_DELETED)
            continue;
        CM_CLEANUP(world_close) world_t world;
        world_open(&world);
        atomic_store(&fake_tenant_registry.state, state);
        reject(&world, 0, "x1");
        cr_assert(eq(int, cm_rejections_settle(&world.rejections, NULL, NULL), CM_OK));
        cr_expect(eq(int, world.outcomes[0].kind, CM_OUTCOME_REJECT));
    }
}

Test(rejections, the_registry_is_not_asked_about_nobody)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    atomic_store(&fake_tenant_registry.failure, CM_UNAVAILABLE);
    cr_expect(eq(int, cm_rejections_settle(&world.rejections, NULL, NULL), CM_OK));
    reject(&world, 0, "");
    cr_expect(eq(int, cm_rejections_settle(&world.rejections, NULL, NULL), CM_OK));
    cr_expect(eq(int, world.outcomes[0].kind, CM_OUTCOME_REJECT));
}

Test(rejections, a_registry_that_cannot_be_asked_settles_nothing)
{
    CM_CLEANUP(world_close) world_t world;
    cm_error_t err = {0};
    world_open(&world);
    reject(&world, 0, "1");
    atomic_store(&fake_tenant_registry.failure, CM_TRANSIENT);
    cr_expect(eq(int, cm_rejections_settle(&world.rejections, NULL, &err), CM_UNAVAILABLE));
    atomic_store(&fake_tenant_registry.failure, CM_MISSING);
    cr_expect(eq(int, cm_rejections_settle(&world.rejections, NULL, &err), CM_MISCONFIGURED));
    cr_expect(eq(int, err.status, CM_MISCONFIGURED));
}
