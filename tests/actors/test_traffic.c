#include "actors/traffic.h"
#include "proto/device_event.h"
#include "proto/tenant_event.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdlib.h>
#include <string.h>

static cm_traffic_t traffic(double poison)
{
    return (cm_traffic_t){.seed = 7, .tenants = 10, .base_ms = 1700000000000, .poison = poison};
}

Test(traffic, the_same_seed_gives_the_same_bytes)
{
    cm_traffic_t one = traffic(0.1), two = traffic(0.1);
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t a = {0}, b = {0};
    for (uint64_t i = 0; i < 1000; i++) {
        cm_traffic_event(&one, i, &a);
        cm_traffic_event(&two, i, &b);
        cr_assert(eq(sz, a.len, b.len));
        cr_assert(eq(int, memcmp(a.data, b.data, a.len), 0));
    }
    cm_buffer_destroy(&b);
}

Test(traffic, every_event_without_poison_is_valid)
{
    cm_traffic_t good = traffic(0);
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t body = {0};
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(65536);
    for (uint64_t i = 0; i < 5000; i++) {
        cm_device_event_t event;
        cm_error_t err = {0};
        cm_arena_reset(arena);
        cm_traffic_event(&good, i, &body);
        cr_assert(eq(int,
                     cm_device_event_decode((cm_str_t){body.data, body.len}, cm_clock_epoch_ms(),
                                            arena, &event, &err),
                     CM_OK),
                  "event %llu: %s: %s", (unsigned long long)i, err.message, cm_buffer_text(&body));
    }
}

Test(traffic, every_poisoned_event_is_malformed)
{
    cm_traffic_t bad = traffic(1);
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t body = {0};
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(65536);
    for (uint64_t i = 0; i < 1000; i++) {
        cm_device_event_t event;
        cm_error_t err = {0};
        cm_arena_reset(arena);
        cm_traffic_event(&bad, i, &body);
        cr_assert(eq(int,
                     cm_device_event_decode((cm_str_t){body.data, body.len}, cm_clock_epoch_ms(),
                                            arena, &event, &err),
                     CM_PERMANENT),
                  "event %llu is accepted: %s", (unsigned long long)i, cm_buffer_text(&body));
    }
}

Test(traffic, an_activation_is_valid_and_names_its_tenant)
{
    cm_traffic_t good = traffic(0);
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t body = {0};
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(65536);
    cm_tenant_activation_t activation;
    cm_traffic_activation(&good, 3, &body);
    cr_assert(eq(int,
                 cm_tenant_activation_decode((cm_str_t){body.data, body.len}, cm_clock_epoch_ms(),
                                             arena, &activation, NULL),
                 CM_OK));
    cr_expect(eq(str, activation.tenant, "1004"));
    cr_expect(eq(str, activation.name, "demo-4"));
}

/* ---- known devices -----------------------------------------------------------------------------
 */

enum { NOW_MS = 1795200000, TENANTS = 10, KNOWN = 5000, EVENTS = 4000 };

static cm_traffic_t bench_traffic(void)
{
    return (cm_traffic_t){.seed = 7,
                          .tenants = TENANTS,
                          .base_ms = NOW_MS * INT64_C(1000),
                          .plain = true,
                          .known = KNOWN,
                          .fresh = 0.1};
}

static void decode(const cm_buffer_t *body, cm_arena_t *arena, cm_device_event_t *event)
{
    cm_error_t err = {0};
    cm_status_t status = cm_device_event_decode((cm_str_t){body->data, body->len},
                                                NOW_MS * INT64_C(1000), arena, event, &err);
    cr_assert(eq(int, status, CM_OK), "%s", err.message);
}

/* The number that ends a client id. */
static uint64_t device_of(const cm_device_event_t *event)
{
    char digits[13] = {0};
    memcpy(digits, event->client_id.ptr + event->client_id.len - 12, 12);
    return strtoull(digits, NULL, 16);
}

Test(traffic, known_devices_are_registered_in_order_of_tenants_before_event_0, .timeout = 20)
{
    cm_traffic_t traffic = bench_traffic();
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t body = {0};
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(4096);
    cm_device_event_t event;
    int former = 0;
    for (uint64_t d = 0; d < KNOWN; d++) {
        cm_arena_reset(arena);
        cm_traffic_registration(&traffic, d, &body);
        decode(&body, arena, &event);
        cr_assert(ge(int, atoi(event.tenant), former));
        cr_assert(lt(i64, event.event_ms, traffic.base_ms));
        cr_assert(eq(u64, device_of(&event), d));
        former = atoi(event.tenant);
    }
}

Test(traffic, an_event_of_a_known_device_goes_to_the_tenant_that_has_it, .timeout = 20)
{
    cm_traffic_t traffic = bench_traffic();
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t body = {0};
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(4096);
    cm_device_event_t event, registration;
    unsigned fresh = 0;
    for (uint64_t i = 0; i < EVENTS; i++) {
        cm_arena_reset(arena);
        cm_traffic_event(&traffic, i, &body);
        decode(&body, arena, &event);
        uint64_t device = device_of(&event);
        if (device >= KNOWN) {
            cr_assert(eq(u64, device, KNOWN + i));
            fresh++;
            continue;
        }
        cm_traffic_registration(&traffic, device, &body);
        decode(&body, arena, &registration);
        cr_assert(eq(str, event.tenant, registration.tenant));
        cr_assert(cm_str_eq(event.application_code, registration.application_code));
    }
    cr_assert(gt(u32, fresh, EVENTS / 20));
    cr_assert(lt(u32, fresh, EVENTS / 5));
}

Test(traffic, rate_says_how_far_apart_the_event_times_are, .timeout = 20)
{
    cm_traffic_t traffic = bench_traffic();
    traffic.rate = 4000;
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t body = {0};
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(4096);
    cm_device_event_t event;
    cm_traffic_event(&traffic, 4001, &body);
    decode(&body, arena, &event);
    cr_assert(eq(i64, event.event_ms, traffic.base_ms + 1000));
}
