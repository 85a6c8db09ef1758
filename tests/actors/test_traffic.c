#include "actors/traffic.h"
#include "proto/device_event.h"
#include "proto/tenant_event.h"
#include "proto/token_status_event.h"
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

/* ---- messages of every kind --------------------------------------------------------------------
 */

static cm_traffic_t mixed(void)
{
    cm_traffic_t traffic = {.seed = 7, .tenants = 10, .base_ms = NOW_MS * INT64_C(1000)};
    traffic.verdicts = 0.3;
    traffic.contact_deletions = 0.1;
    return traffic;
}

static cm_token_status_event_t decode_verdict(const cm_buffer_t *body, cm_arena_t *arena)
{
    cm_error_t err = {0};
    cm_token_status_event_t event;
    cm_status_t status = cm_token_status_event_decode((cm_str_t){body->data, body->len},
                                                      NOW_MS * INT64_C(1000), arena, &event, &err);
    cr_assert(eq(int, status, CM_OK), "%s: %s", err.message, cm_buffer_text((cm_buffer_t *)body));
    return event;
}

Test(traffic, messages_are_of_each_kind_in_their_shares_and_the_same_each_time, .timeout = 20)
{
    cm_traffic_t traffic = mixed();
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t body = {0}, again = {0};
    unsigned counts[CM_SUBSCRIPTION_COUNT] = {0};
    for (uint64_t i = 0; i < EVENTS; i++) {
        cm_subscription_id_t topic = cm_traffic_message(&traffic, i, &body);
        counts[topic]++;
        cr_assert(eq(int, cm_traffic_message(&traffic, i, &again), topic));
        cr_assert(eq(sz, again.len, body.len));
        cr_assert(eq(int, memcmp(again.data, body.data, body.len), 0));
    }
    unsigned verdicts =
        counts[CM_SUBSCRIPTION_PUSH_TOKEN_STATUS] + counts[CM_SUBSCRIPTION_WEB_PUSH_TOKEN_STATUS];
    cr_expect(gt(u32, counts[CM_SUBSCRIPTION_WEB_PUSH_TOKEN_STATUS], 0));
    cr_expect(gt(u32, verdicts, EVENTS / 4));
    cr_expect(lt(u32, verdicts, EVENTS * 7 / 20));
    cr_expect(gt(u32, counts[CM_SUBSCRIPTION_CONTACT_DELETION], EVENTS / 20));
    cr_expect(lt(u32, counts[CM_SUBSCRIPTION_CONTACT_DELETION], EVENTS * 3 / 20));
    cr_expect(eq(u32, counts[CM_SUBSCRIPTION_WRITER],
                 EVENTS - verdicts - counts[CM_SUBSCRIPTION_CONTACT_DELETION]));
    cm_buffer_destroy(&again);
}

Test(traffic, without_shares_every_message_is_an_event_as_ever)
{
    cm_traffic_t traffic = mixed();
    traffic.verdicts = traffic.contact_deletions = 0;
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t body = {0}, event = {0};
    for (uint64_t i = 0; i < 500; i++) {
        cr_assert(eq(int, cm_traffic_message(&traffic, i, &body), CM_SUBSCRIPTION_WRITER));
        cm_traffic_event(&traffic, i, &event);
        cr_assert(eq(sz, event.len, body.len));
        cr_assert(eq(int, memcmp(event.data, body.data, body.len), 0));
    }
    cm_buffer_destroy(&event);
}

Test(traffic, most_verdicts_are_valid_some_gone_a_few_neither, .timeout = 20)
{
    cm_traffic_t traffic = mixed();
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t body = {0};
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(65536);
    unsigned counts[CM_PUSH_VERDICTS] = {0};
    for (uint64_t i = 1; i < EVENTS; i++) {
        cm_arena_reset(arena);
        cm_traffic_verdict(&traffic, i, &body);
        cm_token_status_event_t event = decode_verdict(&body, arena);
        counts[cm_token_status_event_judge(&event).verdict]++;
    }
    cr_expect(gt(u32, counts[CM_PUSH_VERDICT_VALID], EVENTS * 8 / 10));
    cr_expect(gt(u32, counts[CM_PUSH_VERDICT_GONE], 0));
    cr_expect(lt(u32, counts[CM_PUSH_VERDICT_GONE], EVENTS / 10), "no brake goes on");
    cr_expect(gt(u32, counts[CM_PUSH_VERDICT_THROTTLED], 0));
    cr_expect(gt(u32, counts[CM_PUSH_VERDICT_UNAVAILABLE], 0));
    cr_expect(eq(u32, counts[CM_PUSH_VERDICT_UNKNOWN], 0));
}

static void expect_said_before(const cm_traffic_t *traffic, uint64_t i, cm_str_t what)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t body = {0};
    bool found = false;
    for (uint64_t j = 0; j < i && !found; j++)
        found = cm_traffic_message(traffic, j, &body) == CM_SUBSCRIPTION_WRITER &&
                memmem(body.data, body.len, what.ptr, what.len);
    cr_expect(found, "%.*s", CM_STR_ARG(what));
}

Test(traffic, a_verdict_is_about_a_token_or_a_device_of_an_event_before, .timeout = 60)
{
    cm_traffic_t traffic = mixed();
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t body = {0};
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(65536);
    for (uint64_t i = 1; i < 200; i++) {
        cm_arena_reset(arena);
        cm_traffic_verdict(&traffic, i, &body);
        cm_token_status_event_t event = decode_verdict(&body, arena);
        cr_expect(eq(i64, event.event_ms, traffic.base_ms + (int64_t)i));
        expect_said_before(&traffic, i, event.token.ptr ? event.token : event.client_id);
    }
}

Test(traffic, a_verdict_on_known_devices_names_the_token_of_a_registration, .timeout = 20)
{
    cm_traffic_t traffic = bench_traffic();
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t body = {0}, registration = {0};
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(65536);
    for (uint64_t i = 0; i < 50; i++) {
        bool found = false;
        cm_arena_reset(arena);
        cm_traffic_verdict(&traffic, i, &body);
        cm_token_status_event_t event = decode_verdict(&body, arena);
        cr_assert(ne(ptr, (void *)event.token.ptr, NULL));
        for (uint64_t d = 0; d < KNOWN && !found; d++) {
            cm_traffic_registration(&traffic, d, &registration);
            found = memmem(registration.data, registration.len, event.token.ptr, event.token.len);
        }
        cr_expect(found);
    }
    cm_buffer_destroy(&registration);
}

Test(traffic, each_contact_of_known_devices_is_deleted_once_before_one_comes_again)
{
    cm_traffic_t traffic = bench_traffic();
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t body = {0};
    bool deleted[KNOWN / 2] = {false};
    for (uint64_t i = 0; i < KNOWN / 2; i++) {
        cm_traffic_contact_deletion(&traffic, i, &body);
        const char *at = strstr(cm_buffer_text(&body), "\"contactId\":");
        cr_assert(ne(ptr, (void *)at, NULL));
        long contact = atol(at + strlen("\"contactId\":")) - 77000000;
        cr_assert(contact >= 0 && contact < KNOWN / 2 && !deleted[contact]);
        deleted[contact] = true;
    }
}

Test(traffic, the_deletion_of_a_tenant_names_it_and_its_time)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t body = {0};
    cm_traffic_account_deletion(3, NOW_MS * INT64_C(1000) + 250, &body);
    cr_expect(eq(str, (char *)cm_buffer_text(&body),
                 "{\"customerId\":1004,\"requestedBy\":\"demo\",\"reason\":\"contract end\","
                 "\"eventTime\":\"2026-11-20T18:40:00.250Z\"}"));
}
