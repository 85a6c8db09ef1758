#include "proto/retry.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <string.h>

enum { NOW = 1763654400 }; /* seconds */
static const int64_t now_ms = NOW * INT64_C(1000);
static const cm_retry_policy_t policy = {{5000, 15000, 45000, 135000, 405000}};

static cm_arena_t *arena;

static void open_arena(void)
{
    arena = cm_arena_new(4096);
}

static void close_arena(void)
{
    cm_arena_destroy(&arena);
}

TestSuite(retry, .init = open_arena, .fini = close_arena, .timeout = 30);

static cm_delivery_t delivery_with(const cm_attribute_t *attributes, size_t count)
{
    return (cm_delivery_t){.lease = 17,
                           .message_id = CM_STR("1763654400000-5"),
                           .publish_ms = now_ms - 100,
                           .attempt = 1,
                           .attributes = attributes,
                           .attribute_count = count,
                           .body = CM_STR("{\"customerId\":42}")};
}

static cm_error_t error_of(cm_status_t status, const char *code, const char *message)
{
    cm_error_t err = {0};
    cm_error_set(&err, status, code, "%s", message);
    return err;
}

static cm_outcome_t decide(const cm_delivery_t *delivery, cm_status_t status, const char *code,
                           uint64_t seed)
{
    cm_error_t err = error_of(status, code, "it failed");
    cm_outcome_t outcome;
    cm_retry_decide(&policy, delivery, "client-manager.writer", &err, now_ms, &seed, arena,
                    &outcome);
    return outcome;
}

static cm_str_t get(const cm_outcome_t *outcome, const char *name)
{
    return cm_attribute_get(outcome->message.attributes, outcome->message.attribute_count, name);
}

static void expect(const cm_outcome_t *outcome, const char *name, const char *value)
{
    cm_str_t got = get(outcome, name);
    cr_expect(cm_str_eq(got, cm_str(value)), "%s is %.*s, not %s", name, CM_STR_ARG(got),
              value ? value : "absent");
}

static int count_of(const char *text)
{
    const cm_attribute_t attribute = {CM_STR("retryCount"), cm_str(text)};
    cm_delivery_t delivery = delivery_with(&attribute, text ? 1 : 0);
    return cm_retry_count(&delivery);
}

Test(retry, a_count_between_1_and_5_is_read)
{
    cr_expect(eq(int, count_of("1"), 1));
    cr_expect(eq(int, count_of("5"), 5));
    cr_expect(eq(int, count_of("0003"), 3));
}

Test(retry, a_count_that_is_none_counts_as_0)
{
    static const char *const none[] = {NULL,   "",    "-1", "abc", "0", "-99999999999999999999",
                                       "1.5",  " 1",  "1 ", "+1",  "-", "99999999999999999999x",
                                       "0x10", "5e0", "--5"};
    for (size_t i = 0; i < CM_LENGTH(none); i++)
        cr_expect(eq(int, count_of(none[i]), 0), "%s", none[i] ? none[i] : "absent");
}

Test(retry, a_count_above_5_counts_as_5)
{
    cr_expect(eq(int, count_of("6"), 5));
    cr_expect(eq(int, count_of("9223372036854775807"), 5));
    cr_expect(eq(int, count_of("99999999999999999999"), 5));
}

/* ---- waiting -------------------------------------------------------------------------------- */

static int64_t due_of(const char *text, int64_t publish_ms)
{
    const cm_attribute_t attribute = {CM_STR("notBefore"), cm_str(text)};
    cm_delivery_t delivery = delivery_with(&attribute, text ? 1 : 0);
    delivery.publish_ms = publish_ms;
    return cm_retry_not_before(&delivery, &policy, now_ms);
}

static int64_t due_at(int64_t not_before_ms, int64_t publish_ms)
{
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)not_before_ms);
    return due_of(text, publish_ms);
}

Test(retry, a_retry_is_due_at_its_time)
{
    cr_expect(eq(i64, due_at(now_ms + 3000, now_ms - 100), now_ms + 3000));
    cr_expect(eq(i64, due_at(now_ms + 1, now_ms), now_ms + 1));
}

Test(retry, a_time_that_came_is_absent_or_is_none_means_at_once)
{
    cr_expect(eq(i64, due_at(now_ms, now_ms), 0));
    cr_expect(eq(i64, due_at(now_ms - 1, now_ms), 0));
    cr_expect(eq(i64, due_at(INT64_MIN, now_ms), 0));
    cr_expect(eq(i64, due_of(NULL, now_ms), 0));
    cr_expect(eq(i64, due_of("", now_ms), 0));
    cr_expect(eq(i64, due_of("soon", now_ms), 0));
    cr_expect(eq(i64, due_of("-99999999999999999999", now_ms), 0));
}

Test(retry, a_far_time_waits_one_longest_window_at_most)
{
    cr_expect(eq(i64, due_at(now_ms + 405000, now_ms), now_ms + 405000));
    cr_expect(eq(i64, due_at(now_ms + 405001, now_ms), now_ms + 405000));
    cr_expect(eq(i64, due_at(INT64_MAX, now_ms), now_ms + 405000));
    cr_expect(eq(i64, due_of("99999999999999999999", now_ms), now_ms + 405000));
    cr_expect(
        eq(i64, due_at(INT64_MAX, now_ms + 5000), now_ms + 405000)); /* broker's clock ahead */
    cr_expect(eq(i64, due_at(INT64_MAX, 0), now_ms + 405000));       /* unknown */
}

Test(retry, a_far_time_is_not_deferred_again_and_again)
{
    cr_expect(eq(i64, due_at(INT64_MAX, now_ms - 400000), now_ms + 5000));
    cr_expect(eq(i64, due_at(INT64_MAX, now_ms - 405000), 0));
}

Test(retry, the_wait_is_between_half_a_window_and_the_window)
{
    for (int count = 0; count < CM_RETRY_MAX; count++) {
        int64_t window = policy.window_ms[count], least = INT64_MAX, most = 0;
        char text[4];
        snprintf(text, sizeof text, "%d", count);
        const cm_attribute_t attribute = {CM_STR("retryCount"), cm_str(text)};
        cm_delivery_t delivery = delivery_with(&attribute, 1);
        for (uint64_t seed = 0; seed < 2000; seed++) {
            cm_outcome_t outcome = decide(&delivery, CM_TRANSIENT, "40P01", seed);
            int64_t wait = cm_attribute_i64(outcome.message.attributes,
                                            outcome.message.attribute_count, "notBefore", 0) -
                           now_ms;
            least = wait < least ? wait : least;
            most = wait > most ? wait : most;
            cm_arena_reset(arena);
        }
        cr_expect(ge(i64, least, window / 2));
        cr_expect(le(i64, most, window));
        cr_expect(lt(i64, least, window / 2 + window / 50)); /* and uses all of that range */
        cr_expect(gt(i64, most, window - window / 50));
    }
}

Test(retry, odd_and_empty_windows_stay_in_bounds)
{
    const cm_retry_policy_t odd = {{0, 1, 3, 5, 7}};
    const cm_error_t err = error_of(CM_TRANSIENT, "40P01", "x");
    for (int count = 0; count < CM_RETRY_MAX; count++) {
        char text[4];
        snprintf(text, sizeof text, "%d", count);
        const cm_attribute_t attribute = {CM_STR("retryCount"), cm_str(text)};
        cm_delivery_t delivery = delivery_with(&attribute, 1);
        uint64_t random = 5;
        for (int i = 0; i < 200; i++) {
            cm_outcome_t outcome;
            cm_retry_decide(&odd, &delivery, "t", &err, now_ms, &random, arena, &outcome);
            int64_t wait = cm_attribute_i64(outcome.message.attributes,
                                            outcome.message.attribute_count, "notBefore", 0) -
                           now_ms;
            cr_assert(wait >= odd.window_ms[count] / 2 && wait <= odd.window_ms[count]);
        }
    }
}

/* ---- deciding ------------------------------------------------------------------------------- */

Test(retry, a_first_transient_failure_is_tried_again)
{
    cm_delivery_t delivery = delivery_with(NULL, 0);
    cm_outcome_t outcome = decide(&delivery, CM_TRANSIENT, "40P01", 1);
    cr_expect(eq(int, outcome.kind, CM_OUTCOME_RETRY));
    cr_expect(eq(u64, outcome.lease, 17));
    cr_expect(cm_str_eq(outcome.message.body, delivery.body));
    expect(&outcome, "retryCount", "1");
    expect(&outcome, "firstFailedAt", "1763654400000");
    expect(&outcome, "lastFailedAt", "1763654400000");
    expect(&outcome, "errorClass", "transient");
    expect(&outcome, "errorCode", "40P01");
    expect(&outcome, "errorMessage", "it failed");
    expect(&outcome, "originTopic", "client-manager.writer");
    expect(&outcome, "originMessageId", "1763654400000-5");
    expect(&outcome, "customerId", NULL);
    cr_expect(get(&outcome, "notBefore").ptr != NULL);
    cr_expect(eq(sz, outcome.message.attribute_count, 9));
}

static const cm_attribute_t tried_before[] = {
    {{"retryCount", 10}, {"2", 1}},         {{"notBefore", 9}, {"1", 1}},
    {{"firstFailedAt", 13}, {"123", 3}},    {{"lastFailedAt", 12}, {"456", 3}},
    {{"errorClass", 10}, {"transient", 9}}, {{"errorCode", 9}, {"40001", 5}},
    {{"errorMessage", 12}, {"earlier", 7}}, {{"originTopic", 11}, {"elsewhere", 9}},
    {{"originMessageId", 15}, {"7-7", 3}},  {{"customerId", 10}, {"42", 2}},
    {{"replayCount", 11}, {"1", 1}},        {{"traceparent", 11}, {"00-ab-cd-01", 11}},
};

Test(retry, a_later_failure_keeps_the_first_and_tells_the_last)
{
    cm_delivery_t delivery = delivery_with(tried_before, CM_LENGTH(tried_before));
    cm_outcome_t outcome = decide(&delivery, CM_TRANSIENT, "55P03", 1);
    cr_expect(eq(sz, outcome.message.attribute_count,
                 CM_LENGTH(tried_before) + 1)); /* the trace, twice */
    expect(&outcome, "retryCount", "3");
    expect(&outcome, "firstFailedAt", "123");
    expect(&outcome, "lastFailedAt", "1763654400000");
    expect(&outcome, "errorCode", "55P03");
    expect(&outcome, "errorMessage", "it failed");
    expect(&outcome, "originTopic", "elsewhere");
    expect(&outcome, "originMessageId", "7-7");
    expect(&outcome, "customerId", "42");
    expect(&outcome, "replayCount", "1");
    expect(&outcome, "traceparent", "00-ab-cd-01");
}

Test(retry, a_permanent_failure_is_rejected_at_once)
{
    cm_delivery_t delivery = delivery_with(NULL, 0);
    cm_outcome_t outcome = decide(&delivery, CM_PERMANENT, "malformed", 1);
    cr_expect(eq(int, outcome.kind, CM_OUTCOME_REJECT));
    cr_expect(cm_str_eq(outcome.message.body, delivery.body));
    expect(&outcome, "errorClass", "permanent");
    expect(&outcome, "errorCode", "malformed");
    expect(&outcome, "retryCount", NULL);
    expect(&outcome, "notBefore", NULL);
}

Test(retry, a_reject_keeps_the_count_and_loses_the_time)
{
    cm_delivery_t delivery = delivery_with(tried_before, CM_LENGTH(tried_before));
    cm_outcome_t outcome = decide(&delivery, CM_PERMANENT, "23502", 1);
    expect(&outcome, "retryCount", "2");
    expect(&outcome, "notBefore", NULL);
    expect(&outcome, "firstFailedAt", "123");
    expect(&outcome, "customerId", "42");
}

static cm_outcome_t decide_at(const char *count, cm_status_t status, const char *code)
{
    cm_attribute_t *attribute = cm_arena_alloc(arena, sizeof *attribute);
    *attribute = (cm_attribute_t){CM_STR("retryCount"), cm_str(count)};
    cm_delivery_t delivery = delivery_with(attribute, 1);
    return decide(&delivery, status, code, 1);
}

Test(retry, the_sixth_failure_is_exhausted)
{
    cm_outcome_t outcome = decide_at("5", CM_TRANSIENT, "40001");
    cr_expect(eq(int, outcome.kind, CM_OUTCOME_REJECT));
    expect(&outcome, "errorClass", "exhausted");
    expect(&outcome, "errorCode", "40001");
    expect(&outcome, "retryCount", "5");
    cr_expect(eq(int, decide_at("4", CM_TRANSIENT, "40001").kind, CM_OUTCOME_RETRY));
}

Test(retry, a_count_out_of_range_is_exhausted_and_one_that_is_none_starts_at_1)
{
    cm_outcome_t outcome = decide_at("99999999999999999999", CM_TRANSIENT, "40001");
    expect(&outcome, "errorClass", "exhausted");
    expect(&outcome, "retryCount", "99999999999999999999");
    outcome = decide_at("abc", CM_TRANSIENT, "40001");
    expect(&outcome, "retryCount", "1");
}

Test(retry, a_missing_tenant_is_awaited_through_all_retries)
{
    cm_outcome_t outcome = decide_at("0", CM_MISSING, "3F000");
    cr_expect(eq(int, outcome.kind, CM_OUTCOME_RETRY));
    expect(&outcome, "errorClass", "tenant-missing");
    expect(&outcome, "errorCode", "3F000");
    expect(&outcome, "retryCount", "1");
    outcome = decide_at("5", CM_MISSING, "3F000");
    cr_expect(eq(int, outcome.kind, CM_OUTCOME_REJECT));
    expect(&outcome, "errorClass", "exhausted");
    expect(&outcome, "errorCode", "tenant-missing");
}

Test(retry, an_error_without_code_still_has_one)
{
    cm_outcome_t outcome = decide_at("0", CM_TRANSIENT, NULL);
    expect(&outcome, "errorCode", "transient");
    outcome = decide_at("0", CM_MISSING, NULL);
    expect(&outcome, "errorCode", "tenant-missing");
}

Test(retry, without_a_retry_topic_every_failure_is_rejected)
{
    cm_delivery_t delivery = delivery_with(tried_before, CM_LENGTH(tried_before));
    const cm_status_t statuses[] = {CM_PERMANENT, CM_TRANSIENT, CM_MISSING};
    const char *const classes[] = {"permanent", "exhausted", "exhausted"};
    const char *const codes[] = {"x1", "x1", "tenant-missing"};
    for (size_t i = 0; i < CM_LENGTH(statuses); i++) {
        cm_error_t err = error_of(statuses[i], "x1", "it failed");
        cm_outcome_t outcome;
        cm_retry_reject(&delivery, "client-manager.contact-deletion", &err, now_ms, arena,
                        &outcome);
        cr_expect(eq(int, outcome.kind, CM_OUTCOME_REJECT));
        expect(&outcome, "errorClass", classes[i]);
        expect(&outcome, "errorCode", codes[i]);
        expect(&outcome, "retryCount", "2");
        expect(&outcome, "notBefore", NULL);
        expect(&outcome, "originTopic", "elsewhere");
    }
}

/* ---- what comes from outside ----------------------------------------------------------------- */

/* ---- without a retry topic ------------------------------------------------------------------ */

static int64_t tenant_wait_ms(int64_t publish_ms, uint64_t seed)
{
    cm_delivery_t delivery = delivery_with(NULL, 0);
    int64_t until_ms = 0;
    delivery.publish_ms = publish_ms;
    return cm_retry_await_tenant(&delivery, now_ms, &seed, &until_ms) ? until_ms - now_ms : -1;
}

Test(retry, an_unknown_tenant_is_awaited_the_longer_the_older_the_message)
{
    static const struct {
        int64_t age_ms, window_ms;
    } cases[] = {{0, 5000}, {4000, 5000}, {20000, 20000}, {60000, 60000}, {599999, 60000}};
    for (size_t i = 0; i < CM_LENGTH(cases); i++) {
        for (uint64_t seed = 1; seed <= 50; seed++) {
            int64_t wait_ms = tenant_wait_ms(now_ms - cases[i].age_ms, seed);
            cr_expect(ge(i64, wait_ms, cases[i].window_ms / 2));
            cr_expect(le(i64, wait_ms, cases[i].window_ms));
        }
    }
}

Test(retry, an_unknown_tenant_is_given_up_after_ten_minutes)
{
    cr_expect(eq(i64, tenant_wait_ms(now_ms - 600000, 1), -1));
    cr_expect(eq(i64, tenant_wait_ms(1, 1), -1));
}

Test(retry, without_a_time_of_publishing_an_unknown_tenant_is_awaited)
{
    static const int64_t unknown[] = {0, -1, INT64_MIN, INT64_MAX};
    for (size_t i = 0; i < CM_LENGTH(unknown); i++) {
        cr_expect(ge(i64, tenant_wait_ms(unknown[i], 1), 2500));
        cr_expect(le(i64, tenant_wait_ms(unknown[i], 1), 5000));
    }
}

/* ---- attributes ----------------------------------------------------------------------------- */

Test(retry, unknown_attributes_are_carried_byte_for_byte_and_in_order)
{
    const cm_attribute_t odd[] = {{CM_STR("\0\xff\n"), CM_STR("a\0b\xfe")},
                                  {CM_STR(""), CM_STR("")},
                                  {CM_STR("RETRYCOUNT"), CM_STR("9")},
                                  {CM_STR("same"), CM_STR("1")},
                                  {CM_STR("same"), CM_STR("2")}};
    cm_delivery_t delivery = delivery_with(odd, CM_LENGTH(odd));
    cm_outcome_t outcome = decide(&delivery, CM_TRANSIENT, "40001", 1);
    for (size_t i = 0; i < CM_LENGTH(odd); i++) {
        cr_expect(cm_str_eq(outcome.message.attributes[i].name, odd[i].name));
        cr_expect(cm_str_eq(outcome.message.attributes[i].value, odd[i].value));
    }
}

static cm_outcome_t decide_with(const cm_attribute_t *attributes, size_t count)
{
    cm_delivery_t delivery = delivery_with(attributes, count);
    return decide(&delivery, CM_TRANSIENT, "40001", 1);
}

Test(retry, a_trace_goes_on_under_both_names)
{
    const cm_attribute_t plain = {CM_STR("traceparent"), CM_STR("00-aa-bb-01")};
    const cm_attribute_t google = {CM_STR("googclient_traceparent"), CM_STR("00-cc-dd-01")};
    cm_outcome_t outcome = decide_with(&plain, 1);
    cr_expect(cm_str_is(get(&outcome, "traceparent"), "00-aa-bb-01"));
    cr_expect(cm_str_is(get(&outcome, "googclient_traceparent"), "00-aa-bb-01"));
    outcome = decide_with(&google, 1);
    cr_expect(cm_str_is(get(&outcome, "traceparent"), "00-cc-dd-01"));
    cr_expect(cm_str_is(get(&outcome, "googclient_traceparent"), "00-cc-dd-01"));
}

Test(retry, two_traces_stay_as_they_are)
{
    const cm_attribute_t both[] = {{CM_STR("googclient_traceparent"), CM_STR("00-cc-dd-01")},
                                   {CM_STR("traceparent"), CM_STR("00-aa-bb-01")}};
    cm_outcome_t outcome = decide_with(both, 2);
    cr_expect(cm_str_is(get(&outcome, "traceparent"), "00-aa-bb-01"));
    cr_expect(cm_str_is(get(&outcome, "googclient_traceparent"), "00-cc-dd-01"));
}

Test(retry, no_trace_stays_none)
{
    cm_outcome_t outcome = decide_with(NULL, 0);
    cr_expect(zero(ptr, (void *)get(&outcome, "traceparent").ptr));
    cr_expect(zero(ptr, (void *)get(&outcome, "googclient_traceparent").ptr));
}

Test(retry, repeated_attributes_of_the_failure_end_as_one)
{
    const cm_attribute_t twice[] = {{CM_STR("retryCount"), CM_STR("1")},
                                    {CM_STR("retryCount"), CM_STR("4")},
                                    {CM_STR("notBefore"), CM_STR("1")},
                                    {CM_STR("notBefore"), CM_STR("2")}};
    cm_delivery_t delivery = delivery_with(twice, CM_LENGTH(twice));
    cm_outcome_t outcome = decide(&delivery, CM_TRANSIENT, "40001", 1);
    cr_expect(eq(sz, outcome.message.attribute_count, 9));
    expect(&outcome, "retryCount", "2");
    outcome = decide(&delivery, CM_PERMANENT, "40001", 1);
    expect(&outcome, "notBefore", NULL);
}

Test(retry, a_full_or_overfull_list_keeps_all_of_ours)
{
    const size_t counts[] = {CM_ATTRIBUTES_MAX, CM_ATTRIBUTES_MAX + 50};
    for (size_t c = 0; c < CM_LENGTH(counts); c++) {
        cm_attribute_t *many = cm_arena_alloc(arena, counts[c] * sizeof *many);
        for (size_t i = 0; i < counts[c]; i++)
            many[i] = (cm_attribute_t){cm_arena_printf(arena, "x%zu", i), CM_STR("v")};
        many[3] = (cm_attribute_t){CM_STR("retryCount"), CM_STR("2")};
        cm_delivery_t delivery = delivery_with(many, counts[c]);
        cm_outcome_t outcome = decide(&delivery, CM_TRANSIENT, "40001", 1);
        cr_expect(eq(sz, outcome.message.attribute_count, CM_ATTRIBUTES_MAX));
        expect(&outcome, "retryCount", "3");
        expect(&outcome, "errorClass", "transient");
        expect(&outcome, "originTopic", "client-manager.writer");
        expect(&outcome, "x0", "v");
    }
}

static cm_str_t message_of(const char *text)
{
    cm_error_t err = {.status = CM_TRANSIENT};
    memcpy(err.message, text, strlen(text)); /* as long as err.message: then without a NUL */
    cm_delivery_t delivery = delivery_with(NULL, 0);
    uint64_t random = 1;
    cm_outcome_t *outcome = cm_arena_alloc(arena, sizeof *outcome);
    cm_retry_decide(&policy, &delivery, "t", &err, now_ms, &random, arena, outcome);
    return get(outcome, "errorMessage");
}

Test(retry, the_message_is_one_line)
{
    cr_expect(cm_str_is(message_of("a\nb\r\tc\x01\x7f d"), "a b  c   d"));
    cr_expect(cm_str_is(message_of(""), ""));
}

Test(retry, the_message_ends_with_a_whole_character)
{
    cr_expect(cm_str_is(message_of("caf\xc3\xa9"), "caf\xc3\xa9"));
    cr_expect(cm_str_is(message_of("\xf0\x9f\x98\x80"), "\xf0\x9f\x98\x80"));
    cr_expect(cm_str_is(message_of("caf\xc3"), "caf"));
    cr_expect(cm_str_is(message_of("x\xe2\x82"), "x"));
    cr_expect(cm_str_is(message_of("x\xe2"), "x"));
    cr_expect(cm_str_is(message_of("x\xf0\x9f\x98"), "x"));
    cr_expect(cm_str_is(message_of("\xc3"), ""));
}

Test(retry, the_message_has_256_bytes_at_most)
{
    char text[CM_ERROR_MESSAGE_MAX + 1] = {0};
    memset(text, 'x', CM_ERROR_MESSAGE_MAX);
    cr_expect(eq(sz, message_of(text).len, 256));
    memcpy(text + CM_ERROR_MESSAGE_MAX - 2, "\xe2\x82", 2);
    cr_expect(eq(sz, message_of(text).len, 254));
}
