#include "proto/outcome.h"
#include "runtime/cleanup.h"
#include "tests/proto/frame_cases.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <limits.h>

static bool has_message(cm_outcome_kind_t kind)
{
    return kind == CM_OUTCOME_RETRY || kind == CM_OUTCOME_REJECT;
}

static cm_outcome_t random_outcome(cm_arena_t *arena, uint64_t *random)
{
    cm_outcome_t outcome = {.lease = random_number(random),
                            .kind = (cm_outcome_kind_t)cm_random_below(random, CM_OUTCOME_COUNT)};
    if (outcome.kind == CM_OUTCOME_DEFER)
        outcome.until_ms = (int64_t)random_number(random);
    if (has_message(outcome.kind))
        outcome.message = random_message(arena, random);
    return outcome;
}

static cm_buffer_t small_frame(void)
{
    const cm_attribute_t attribute = {CM_STR("retryCount"), CM_STR("1")};
    cm_outcome_builder_t builder = {0};
    for (int kind = 0; kind < CM_OUTCOME_COUNT; kind++)
        cm_outcome_builder_add(&builder, &(cm_outcome_t){.lease = 1000,
                                                         .kind = (cm_outcome_kind_t)kind,
                                                         .until_ms = 1763654400000,
                                                         .message = {CM_STR("{}"), &attribute, 1}});
    cm_buffer_t frame;
    cm_outcome_builder_seal(&builder, "writer", 3, 77, 1, &frame);
    return frame;
}

static cm_status_t decode(const void *bytes, size_t len, cm_error_t *err)
{
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(1024);
    CM_CLEANUP(cm_free) void *copy = exact_copy(bytes, len);
    cm_outcome_frame_t frame;
    cm_status_t status = cm_outcome_frame_decode(copy, len, arena, &frame, err);
    cr_assert(le(sz, cm_arena_used(arena), 24 * len));
    return status;
}

static void expect_malformed(const void *bytes, size_t len)
{
    cm_error_t err = {0};
    cr_expect(eq(int, decode(bytes, len, &err), CM_PERMANENT));
    cr_expect(eq(str, err.code, "malformed"));
    cr_expect(strstr(err.message, "offset") != NULL, "%s", err.message);
}

Test(outcome, random_frames_come_out_as_they_went_in, .timeout = 60)
{
    uint64_t random = 7;
    for (int round = 0; round < 200; round++) {
        CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(1 << 16);
        cm_outcome_t sent[40];
        size_t count = cm_random_below(&random, CM_LENGTH(sent));
        uint64_t batch_id = random_number(&random);
        unsigned shard = (unsigned)random_number(&random),
                 credits = (unsigned)random_number(&random);
        cm_outcome_builder_t builder = {0};
        for (size_t i = 0; i < count; i++) {
            sent[i] = random_outcome(arena, &random);
            cm_outcome_builder_add(&builder, &sent[i]);
        }
        CM_CLEANUP(cm_buffer_destroy) cm_buffer_t bytes = {0};
        cm_outcome_builder_seal(&builder, "republisher", shard, batch_id, credits, &bytes);

        cm_outcome_frame_t frame;
        cm_error_t err = {0};
        cr_assert(
            eq(int, cm_outcome_frame_decode(bytes.data, bytes.len, arena, &frame, &err), CM_OK));
        cr_expect(eq(int, frame.kind, CM_OUTCOME_FRAME_BATCH));
        cr_expect(eq(str, frame.subworker, "republisher"));
        cr_expect(eq(uint, frame.shard, shard));
        cr_expect(eq(u64, frame.batch_id, batch_id));
        cr_expect(eq(uint, frame.credits, credits));
        cr_assert(eq(sz, frame.count, count));
        for (size_t i = 0; i < count; i++) {
            const cm_outcome_t *got = &frame.items[i];
            cr_expect(eq(u64, got->lease, sent[i].lease));
            cr_expect(eq(int, got->kind, sent[i].kind));
            cr_expect(eq(i64, got->until_ms, sent[i].until_ms));
            cr_expect(same_attributes(got->message.attributes, got->message.attribute_count,
                                      sent[i].message.attributes, sent[i].message.attribute_count));
            if (has_message(got->kind))
                cr_expect(cm_str_eq(got->message.body, sent[i].message.body));
        }
    }
}

Test(outcome, only_a_defer_carries_a_time_and_only_a_publish_a_message)
{
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(1024);
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t bytes = small_frame();
    cm_outcome_frame_t frame;
    cr_assert(eq(int, cm_outcome_frame_decode(bytes.data, bytes.len, arena, &frame, NULL), CM_OK));
    cr_assert(eq(sz, frame.count, CM_OUTCOME_COUNT));
    for (size_t i = 0; i < frame.count; i++) {
        const cm_outcome_t *item = &frame.items[i];
        cr_expect(eq(i64, item->until_ms, item->kind == CM_OUTCOME_DEFER ? 1763654400000 : 0));
        cr_expect(eq(int, item->message.body.ptr != NULL, has_message(item->kind)));
        cr_expect(eq(sz, item->message.attribute_count, has_message(item->kind)));
    }
}

Test(outcome, a_builder_is_empty_after_the_seal)
{
    cm_outcome_builder_t builder = {0};
    cm_outcome_builder_add(&builder, &(cm_outcome_t){.lease = 1});
    cr_expect(eq(sz, builder.count, 1));
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t frame = {0};
    cm_outcome_builder_seal(&builder, "writer", 0, 1, 1, &frame);
    cr_expect(eq(sz, builder.count, 0));
    cr_expect(builder.frame.data == NULL);
}

static void expect_ready(bool fresh, cm_outcome_frame_kind_t kind)
{
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(1024);
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t bytes = {0};
    cm_outcome_ready("push-token-status", 2, 5, fresh, &bytes);
    cm_outcome_frame_t frame;
    cr_assert(eq(int, cm_outcome_frame_decode(bytes.data, bytes.len, arena, &frame, NULL), CM_OK));
    cr_expect(eq(int, frame.kind, kind));
    cr_expect(eq(str, frame.subworker, "push-token-status"));
    cr_expect(eq(uint, frame.shard, 2));
    cr_expect(eq(uint, frame.credits, 5));
    cr_expect(eq(sz, frame.count, 0));
}

Test(outcome, a_ready_frame_tells_credits_and_whether_the_shard_is_new)
{
    expect_ready(false, CM_OUTCOME_FRAME_READY);
    expect_ready(true, CM_OUTCOME_FRAME_FRESH);
}

Test(outcome, every_truncated_frame_is_refused)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t frame = small_frame();
    for (size_t len = 0; len < frame.len; len++)
        expect_malformed(frame.data, len);
}

Test(outcome, bytes_after_the_frame_are_refused)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t frame = small_frame();
    cm_buffer_append(&frame, "\x00", 1);
    expect_malformed(frame.data, frame.len);
}

Test(outcome, a_spoiled_byte_is_refused_or_read_but_never_oversteps, .timeout = 60)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t frame = small_frame();
    for (size_t i = 0; i < frame.len; i++) {
        char original = frame.data[i];
        for (int value = 0; value < 256; value++) {
            frame.data[i] = (char)value;
            cm_error_t err = {0};
            cm_status_t status = decode(frame.data, frame.len, &err);
            cr_assert(status == CM_OK || status == CM_PERMANENT);
        }
        frame.data[i] = original;
    }
}

/* [1, kind, "w", 0, 1, 1, [item]] */
static void expect_item_malformed(unsigned char kind, cm_str_t item)
{
    const char head[] = {(char)0x97, 1, (char)kind, (char)0xc4, 1, 'w', 0, 1, 1, (char)0x91};
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t frame = {0};
    cm_buffer_append(&frame, head, sizeof head);
    cm_buffer_append(&frame, item.ptr, item.len);
    expect_malformed(frame.data, frame.len);
}

Test(outcome, an_item_must_be_as_long_as_its_kind_asks)
{
    expect_item_malformed(CM_OUTCOME_FRAME_BATCH, CM_STR("\x91\x01"));
    expect_item_malformed(CM_OUTCOME_FRAME_BATCH, CM_STR("\x93\x01\x00\x05"));
    expect_item_malformed(CM_OUTCOME_FRAME_BATCH, CM_STR("\x92\x01\x06"));
    expect_item_malformed(CM_OUTCOME_FRAME_BATCH, CM_STR("\x92\x01\x04"));
    expect_item_malformed(CM_OUTCOME_FRAME_BATCH, CM_STR("\x92\x01\x08"));
    expect_item_malformed(CM_OUTCOME_FRAME_BATCH, CM_STR("\x94\x01\x04\x91\xc4\x00\xc4\x00"));
}

Test(outcome, a_ready_frame_with_items_is_refused)
{
    expect_item_malformed(CM_OUTCOME_FRAME_READY, CM_STR("\x92\x01\x00"));
    expect_item_malformed(CM_OUTCOME_FRAME_FRESH, CM_STR("\x92\x01\x00"));
}

Test(outcome, a_subworker_name_must_fit_and_be_text)
{
    static const char *const names[] = {"", "a name that is longer than 31 bytes"};
    for (size_t i = 0; i < CM_LENGTH(names); i++) {
        CM_CLEANUP(cm_buffer_destroy) cm_buffer_t frame = {0};
        cm_outcome_ready(names[i], 0, 1, false, &frame);
        expect_malformed(frame.data, frame.len);
    }
    expect_malformed("\x97\x01\x00\xc4\x02w\0\x00\x01\x01\x90", 11);
}

Test(outcome, the_class_of_a_failure_decides)
{
    cr_expect(eq(int, cm_outcome_for(CM_TRANSIENT), CM_OUTCOME_RETRY));
    cr_expect(eq(int, cm_outcome_for(CM_MISSING), CM_OUTCOME_RETRY));
    cr_expect(eq(int, cm_outcome_for(CM_PERMANENT), CM_OUTCOME_REJECT));
    cr_expect(eq(int, cm_outcome_for(CM_UNAVAILABLE), CM_OUTCOME_RELEASE));
    cr_expect(eq(int, cm_outcome_for(CM_MISCONFIGURED), CM_OUTCOME_RELEASE));
    cr_expect(eq(int, cm_outcome_for(CM_CANCELLED), CM_OUTCOME_RELEASE));
}

Test(outcome, every_kind_has_a_name_of_its_own)
{
    for (int a = 0; a < CM_OUTCOME_COUNT; a++) {
        for (int b = 0; b < a; b++)
            cr_expect(strcmp(cm_outcome_name((cm_outcome_kind_t)a),
                             cm_outcome_name((cm_outcome_kind_t)b)) != 0);
    }
    cr_expect(eq(str, (char *)cm_outcome_name(CM_OUTCOME_APPLIED), "applied"));
    cr_expect(eq(str, (char *)cm_outcome_name(CM_OUTCOME_COUNT), "unknown"));
}
