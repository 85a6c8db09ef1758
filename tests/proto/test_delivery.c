#include "proto/delivery.h"
#include "runtime/cleanup.h"
#include "tests/proto/frame_cases.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <limits.h>

static cm_broker_delivery_t random_delivery(cm_arena_t *arena, uint64_t *random)
{
    return (cm_broker_delivery_t){.lease = random_number(random),
                                  .message_id = random_text(arena, random),
                                  .publish_ms = (int64_t)cm_random_next(random) >>
                                                cm_random_below(random, 64),
                                  .attempt = (int)(random_number(random) & INT_MAX),
                                  .message = random_message(arena, random)};
}

static void expect_same(const cm_delivery_t *got, const cm_broker_delivery_t *sent)
{
    cr_expect(eq(u64, got->lease, sent->lease));
    cr_expect(cm_str_eq(got->message_id, sent->message_id));
    cr_expect(eq(i64, got->publish_ms, sent->publish_ms));
    cr_expect(eq(int, got->attempt, sent->attempt));
    cr_expect(same_attributes(got->attributes, got->attribute_count, sent->message.attributes,
                              sent->message.attribute_count));
    cr_expect(cm_str_eq(got->body, sent->message.body));
}

/* A frame of two deliveries. */
static cm_buffer_t small_frame(void)
{
    const cm_attribute_t attributes[] = {{CM_STR("customerId"), CM_STR("42")},
                                         {CM_STR("retryCount"), CM_STR("1")}};
    cm_broker_delivery_t delivery = {.message_id = CM_STR("1-0"),
                                     .publish_ms = 1763654400000,
                                     .attempt = 200,
                                     .message = {CM_STR("{\"customerId\":42}"), attributes, 2}};
    cm_delivery_builder_t builder = {0};
    cm_delivery_builder_add(&builder, 70000, &delivery, 5);
    cm_delivery_builder_add(&builder, UINT64_MAX, &delivery, 6);
    cm_buffer_t frame;
    cm_delivery_builder_seal(&builder, 9, CM_SUBSCRIPTION_REPUBLISHER, &frame);
    return frame;
}

static cm_status_t decode(const void *bytes, size_t len, size_t *ret_used, cm_error_t *err)
{
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(1024);
    CM_CLEANUP(cm_free) void *copy = exact_copy(bytes, len);
    cm_delivery_batch_t batch;
    cm_status_t status = cm_delivery_batch_decode(copy, len, arena, &batch, err);
    *ret_used = cm_arena_used(arena);
    return status;
}

static void expect_malformed(const void *bytes, size_t len)
{
    cm_error_t err = {0};
    size_t used;
    cr_expect(eq(int, decode(bytes, len, &used, &err), CM_PERMANENT));
    cr_expect(eq(str, err.code, "malformed"));
    cr_expect(strstr(err.message, "offset") != NULL, "%s", err.message);
}

Test(delivery, random_batches_come_out_as_they_went_in, .timeout = 60)
{
    uint64_t random = 42;
    for (int round = 0; round < 200; round++) {
        CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(1 << 16);
        cm_broker_delivery_t sent[40];
        size_t count = cm_random_below(&random, CM_LENGTH(sent));
        uint64_t batch_id = random_number(&random);
        int subscription = (int)cm_random_below(&random, CM_SUBSCRIPTION_COUNT);
        cm_delivery_builder_t builder = {0};
        for (size_t i = 0; i < count; i++) {
            sent[i] = random_delivery(arena, &random);
            cm_delivery_builder_add(&builder, sent[i].lease, &sent[i], 1);
        }
        CM_CLEANUP(cm_buffer_destroy) cm_buffer_t frame = {0};
        cm_delivery_builder_seal(&builder, batch_id, (cm_subscription_id_t)subscription, &frame);

        cm_delivery_batch_t batch;
        cm_error_t err = {0};
        cr_assert(
            eq(int, cm_delivery_batch_decode(frame.data, frame.len, arena, &batch, &err), CM_OK));
        cr_expect(eq(u64, batch.batch_id, batch_id));
        cr_expect(eq(int, batch.subscription, subscription));
        cr_assert(eq(sz, batch.count, count));
        for (size_t i = 0; i < count; i++)
            expect_same(&batch.items[i], &sent[i]);
    }
}

Test(delivery, the_limits_of_every_number_travel)
{
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(1024);
    const int64_t times[] = {INT64_MIN, INT32_MIN, -32769,    -32768,     -129,     -128,  -33,
                             -32,       -1,        0,         127,        128,      32767, 32768,
                             65535,     65536,     INT32_MAX, UINT32_MAX, INT64_MAX};
    cm_delivery_builder_t builder = {0};
    for (size_t i = 0; i < CM_LENGTH(times); i++) {
        cm_broker_delivery_t delivery = {.publish_ms = times[i], .attempt = i % 2 ? INT_MAX : 0};
        cm_delivery_builder_add(&builder, (uint64_t)times[i], &delivery, 1);
    }
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t frame = {0};
    cm_delivery_builder_seal(&builder, UINT64_MAX, CM_SUBSCRIPTION_WRITER, &frame);
    cm_delivery_batch_t batch;
    cr_assert(eq(int, cm_delivery_batch_decode(frame.data, frame.len, arena, &batch, NULL), CM_OK));
    cr_expect(eq(u64, batch.batch_id, UINT64_MAX));
    for (size_t i = 0; i < CM_LENGTH(times); i++) {
        cr_expect(eq(i64, batch.items[i].publish_ms, times[i]));
        cr_expect(eq(u64, batch.items[i].lease, (uint64_t)times[i]));
        cr_expect(eq(int, batch.items[i].attempt, i % 2 ? INT_MAX : 0));
    }
}

Test(delivery, a_builder_remembers_when_its_batch_began_and_is_empty_after_the_seal)
{
    cm_delivery_builder_t builder = {0};
    const cm_broker_delivery_t delivery = {.attempt = 1};
    cm_delivery_builder_add(&builder, 1, &delivery, 100);
    cm_delivery_builder_add(&builder, 2, &delivery, 200);
    cr_expect(eq(i64, builder.first_ms, 100));
    cr_expect(eq(sz, builder.count, 2));
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t frame = {0};
    cm_delivery_builder_seal(&builder, 1, CM_SUBSCRIPTION_WRITER, &frame);
    cr_expect(eq(sz, builder.count, 0));
    cr_expect(eq(i64, builder.first_ms, 0));
    cr_expect(builder.frame.data == NULL);
    cm_delivery_builder_add(&builder, 1, &delivery, 300);
    cr_expect(eq(i64, builder.first_ms, 300));
    cm_delivery_builder_destroy(&builder);
    cr_expect(eq(sz, builder.count, 0));
    cm_delivery_builder_destroy(&builder);
}

Test(delivery, absent_texts_arrive_empty)
{
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(1024);
    cm_delivery_builder_t builder = {0};
    cm_delivery_builder_add(&builder, 1, &(cm_broker_delivery_t){0}, 1);
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t frame = {0};
    cm_delivery_builder_seal(&builder, 1, CM_SUBSCRIPTION_WRITER, &frame);
    cm_delivery_batch_t batch;
    cr_assert(eq(int, cm_delivery_batch_decode(frame.data, frame.len, arena, &batch, NULL), CM_OK));
    cr_expect(batch.items[0].body.ptr != NULL && batch.items[0].body.len == 0);
    cr_expect(batch.items[0].message_id.ptr != NULL && batch.items[0].message_id.len == 0);
    cr_expect(eq(sz, batch.items[0].attribute_count, 0));
}

Test(delivery, every_truncated_frame_is_refused)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t frame = small_frame();
    for (size_t len = 0; len < frame.len; len++)
        expect_malformed(frame.data, len);
}

Test(delivery, bytes_after_the_frame_are_refused)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t frame = small_frame();
    cm_buffer_append(&frame, "\xc0", 1);
    expect_malformed(frame.data, frame.len);
}

Test(delivery, a_spoiled_byte_is_refused_or_read_but_never_oversteps, .timeout = 60)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t frame = small_frame();
    for (size_t i = 0; i < frame.len; i++) {
        char original = frame.data[i];
        for (int value = 0; value < 256; value++) {
            frame.data[i] = (char)value;
            size_t used;
            cm_error_t err = {0};
            cm_status_t status = decode(frame.data, frame.len, &used, &err);
            cr_assert(status == CM_OK || status == CM_PERMANENT);
            cr_assert(le(sz, used, 24 * frame.len));
        }
        frame.data[i] = original;
    }
}

Test(delivery, another_version_an_unknown_subscription_and_other_shapes_are_refused)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t frame = small_frame();
    frame.data[1] = 2;
    expect_malformed(frame.data, frame.len);
    frame.data[1] = 1;
    frame.data[11] = CM_SUBSCRIPTION_COUNT;
    expect_malformed(frame.data, frame.len);
    expect_malformed("\x80", 1);                     /* a map */
    expect_malformed("\x93\x01\x01\x00", 4);         /* an element short */
    expect_malformed("\x94\x01\x01\x00\xc0", 5);     /* nil for the deliveries */
    expect_malformed("\x94\x01\xff\x00\x90", 5);     /* negative batch id */
    expect_malformed("\x94\xd0\xff\x01\x00\x90", 6); /* negative version */
    expect_malformed("\x94\x01\x01\x00\x91\x96\x01\xa1xC\x01\x90\xc4\x00", 13); /* str for bin */
    expect_malformed("\x94\x01\x01\x00\x91\x96\x01\xc4\x00\x00\x01\x91\xc4\x00\xc4\x00", 16);
}

Test(delivery, a_frame_without_bytes_is_refused)
{
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(64);
    cm_delivery_batch_t batch;
    cr_expect(eq(int, cm_delivery_batch_decode(NULL, 0, arena, &batch, NULL), CM_PERMANENT));
}

Test(delivery, a_huge_declared_count_reserves_nothing)
{
    static const char batch[] = "\x94\x01\x01\x00\xdd\x10\x00\x00\x00";
    static const char attributes[] =
        "\x94\x01\x01\x00\x91\x96\x01\xc4\x00\x00\x01\xdd\x10\x00\x00\x00";
    static const char body[] =
        "\x94\x01\x01\x00\x91\x96\x01\xc4\x00\x00\x01\x90\xc6\xff\xff\xff\xff";
    const cm_str_t frames[] = {CM_STR(batch), CM_STR(attributes), CM_STR(body)};
    for (size_t i = 0; i < CM_LENGTH(frames); i++) {
        size_t used;
        cm_error_t err = {0};
        cr_expect(eq(int, decode(frames[i].ptr, frames[i].len, &used, &err), CM_PERMANENT));
        cr_expect(le(sz, used, 128));
    }
}

Test(delivery, the_fault_is_told_with_its_offset)
{
    cm_error_t err = {0};
    size_t used;
    decode("\x94\x01\x01\x00\xc0", 5, &used, &err);
    cr_expect(eq(str, err.message, "delivery batch: expected an array at offset 4 of 5"));
}

Test(delivery, its_attribute_may_name_its_tenant)
{
    static const struct {
        const char *name, *value, *id;
    } cases[] = {{"customerId", "42", "42"},
                 {"customerId", "a b", ""},
                 {"customerId", "", ""},
                 {"other", "42", ""}};
    for (size_t i = 0; i < CM_LENGTH(cases); i++) {
        char id[CM_TENANT_ID_MAX] = "before";
        cm_attribute_t attribute = {cm_str(cases[i].name), cm_str(cases[i].value)};
        cm_delivery_t delivery = {.attributes = &attribute, .attribute_count = 1};
        cr_expect(eq(int, cm_delivery_tenant(&delivery, id), cases[i].id[0] != '\0'));
        cr_expect(eq(str, id, (char *)cases[i].id));
    }
}
