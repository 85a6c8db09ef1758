/* A frame that is read is written again as the same outcomes; memory stays in proportion to it. */
#include "proto/outcome.h"
#include "runtime/cleanup.h"

#include <stdlib.h>
#include <string.h>

static void check(bool holds)
{
    if (!holds)
        abort();
}

static void check_same(const cm_outcome_t *a, const cm_outcome_t *b)
{
    const cm_message_t *x = &a->message, *y = &b->message;
    check(a->lease == b->lease && a->kind == b->kind && a->until_ms == b->until_ms);
    check(cm_str_eq(x->body, y->body) && x->attribute_count == y->attribute_count);
    for (size_t i = 0; i < x->attribute_count; i++)
        check(cm_str_eq(x->attributes[i].name, y->attributes[i].name) &&
              cm_str_eq(x->attributes[i].value, y->attributes[i].value));
}

static void check_again(const cm_outcome_frame_t *frame, cm_arena_t *arena)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t bytes = {0};
    if (frame->kind == CM_OUTCOME_FRAME_BATCH) {
        cm_outcome_builder_t builder = {0};
        for (size_t i = 0; i < frame->count; i++)
            cm_outcome_builder_add(&builder, &frame->items[i]);
        cm_outcome_builder_seal(&builder, frame->subworker, frame->shard, frame->batch_id,
                                frame->credits, &bytes);
    } else {
        cm_outcome_ready(frame->subworker, frame->shard, frame->credits,
                         frame->kind == CM_OUTCOME_FRAME_FRESH, &bytes);
    }
    cm_outcome_frame_t again;
    check(cm_outcome_frame_decode(bytes.data, bytes.len, arena, &again, NULL) == CM_OK);
    check(again.kind == frame->kind && strcmp(again.subworker, frame->subworker) == 0);
    check(again.shard == frame->shard && again.credits == frame->credits);
    check(again.count == frame->count);
    for (size_t i = 0; i < again.count; i++)
        check_same(&again.items[i], &frame->items[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size); /* called by libFuzzer */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(4096);
    cm_outcome_frame_t frame;
    cm_error_t err = {0};
    cm_status_t status = cm_outcome_frame_decode(data, size, arena, &frame, &err);
    check(cm_arena_used(arena) <= 24 * size);
    if (status == CM_OK)
        check_again(&frame, arena);
    else
        check(status == CM_PERMANENT && err.message[0]);
    return 0;
}
