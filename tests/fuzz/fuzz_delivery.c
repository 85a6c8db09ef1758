/* A frame that is read is written again as the same deliveries; no text lies outside the frame, and
 * memory stays in proportion to it. */
#include "proto/delivery.h"
#include "runtime/cleanup.h"

#include <stdlib.h>

static void check(bool holds)
{
    if (!holds)
        abort();
}

static void check_inside(cm_str_t text, const uint8_t *data, size_t size)
{
    const char *begin = (const char *)data;
    check(text.ptr &&
          (text.len == 0 || (text.ptr >= begin && text.ptr + text.len <= begin + size)));
}

static void check_same(const cm_delivery_t *a, const cm_delivery_t *b)
{
    check(a->lease == b->lease && a->publish_ms == b->publish_ms && a->attempt == b->attempt);
    check(cm_str_eq(a->message_id, b->message_id) && cm_str_eq(a->body, b->body));
    check(a->attribute_count == b->attribute_count);
    for (size_t i = 0; i < a->attribute_count; i++)
        check(cm_str_eq(a->attributes[i].name, b->attributes[i].name) &&
              cm_str_eq(a->attributes[i].value, b->attributes[i].value));
}

static void check_again(const cm_delivery_batch_t *batch, cm_arena_t *arena)
{
    cm_delivery_builder_t builder = {0};
    for (size_t i = 0; i < batch->count; i++) {
        const cm_delivery_t *item = &batch->items[i];
        cm_broker_delivery_t delivery = {
            .message_id = item->message_id,
            .publish_ms = item->publish_ms,
            .attempt = item->attempt,
            .message = {item->body, item->attributes, item->attribute_count}};
        cm_delivery_builder_add(&builder, item->lease, &delivery, 1);
    }
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t frame = {0};
    cm_delivery_builder_seal(&builder, batch->batch_id, batch->subscription, &frame);
    cm_delivery_batch_t again;
    check(cm_delivery_batch_decode(frame.data, frame.len, arena, &again, NULL) == CM_OK);
    check(again.batch_id == batch->batch_id && again.subscription == batch->subscription);
    check(again.count == batch->count);
    for (size_t i = 0; i < again.count; i++)
        check_same(&again.items[i], &batch->items[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size); /* called by libFuzzer */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(4096);
    cm_delivery_batch_t batch;
    cm_error_t err = {0};
    cm_status_t status = cm_delivery_batch_decode(data, size, arena, &batch, &err);
    check(cm_arena_used(arena) <= 24 * size);
    if (status != CM_OK) {
        check(status == CM_PERMANENT && err.message[0]);
        return 0;
    }
    for (size_t i = 0; i < batch.count; i++) {
        const cm_delivery_t *item = &batch.items[i];
        check_inside(item->message_id, data, size);
        check_inside(item->body, data, size);
        for (size_t j = 0; j < item->attribute_count; j++) {
            check_inside(item->attributes[j].name, data, size);
            check_inside(item->attributes[j].value, data, size);
        }
    }
    check_again(&batch, arena);
    return 0;
}
