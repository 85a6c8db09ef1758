#include "proto/delivery.h"
#include "proto/attributes.h"
#include "proto/frame.h"
#include "runtime/cleanup.h"

#include <endian.h>
#include <limits.h>
#include <string.h>

enum {
    VERSION = 1,
    /* [4 elements][version][uint64 batch id][subscription][array32]: of fixed size, so that it can
     * be reserved first and written last */
    HEADER_BYTES = 1 + 1 + 9 + 1 + 5,
    DELIVERY_ELEMENTS = 6,
    DELIVERY_MIN_BYTES = 1 + 1 + 2 + 1 + 1 + 1 + 2
};
_Static_assert(CM_SUBSCRIPTION_COUNT <= 0x80, "a subscription is one byte in the header");

static void reserve_header(cm_delivery_builder_t *self)
{
    if (self->frame.len)
        return;
    cm_buffer_reserve(&self->frame, HEADER_BYTES);
    self->frame.len = HEADER_BYTES;
}

void cm_delivery_builder_add(cm_delivery_builder_t *self, cm_broker_lease_t lease,
                             const cm_broker_delivery_t *delivery, int64_t now_ms)
{
    reserve_header(self);
    if (self->count++ == 0)
        self->first_ms = now_ms;
    msgpack_packer packer = cm_frame_packer(&self->frame);
    msgpack_pack_array(&packer, DELIVERY_ELEMENTS);
    msgpack_pack_uint64(&packer, lease);
    cm_frame_pack_text(&packer, delivery->message_id);
    msgpack_pack_int64(&packer, delivery->publish_ms);
    msgpack_pack_int(&packer, delivery->attempt);
    cm_frame_pack_message(&packer, &delivery->message);
}

void cm_delivery_builder_seal(cm_delivery_builder_t *self, uint64_t batch_id,
                              cm_subscription_id_t subscription, cm_buffer_t *ret_frame)
{
    reserve_header(self); /* nothing added: an empty batch is a frame too */
    char *at = self->frame.data;
    uint64_t big = htobe64(batch_id);
    at[0] = (char)0x94;
    at[1] = VERSION;
    at[2] = (char)0xcf;
    memcpy(at + 3, &big, sizeof big);
    at[11] = (char)subscription;
    cm_frame_put_array32(at + 12, self->count);
    *ret_frame = self->frame;
    *self = (cm_delivery_builder_t){0};
}

void cm_delivery_builder_destroy(cm_delivery_builder_t *self)
{
    cm_buffer_destroy(&self->frame);
    *self = (cm_delivery_builder_t){0};
}

static void read_delivery(cm_frame_reader_t *reader, cm_arena_t *arena, cm_delivery_t *delivery)
{
    cm_frame_array_of(reader, DELIVERY_ELEMENTS);
    delivery->lease = cm_frame_u64(reader, UINT64_MAX);
    delivery->message_id = cm_frame_text(reader);
    delivery->publish_ms = cm_frame_i64(reader, INT64_MIN, INT64_MAX);
    delivery->attempt = (int)cm_frame_i64(reader, INT_MIN, INT_MAX);
    cm_message_t message = cm_frame_message(reader, arena);
    delivery->attributes = message.attributes;
    delivery->attribute_count = message.attribute_count;
    delivery->body = message.body;
}

cm_status_t cm_delivery_batch_decode(const void *frame, size_t len, cm_arena_t *arena,
                                     cm_delivery_batch_t *ret_batch, cm_error_t *err)
{
    cm_frame_reader_t reader = cm_frame_reader(frame, len);
    cm_delivery_batch_t batch = {0};
    cm_frame_array_of(&reader, 4);
    if (cm_frame_u64(&reader, UINT8_MAX) != VERSION)
        cm_frame_fail(&reader, "version 1 before it");
    batch.batch_id = cm_frame_u64(&reader, UINT64_MAX);
    batch.subscription = (cm_subscription_id_t)cm_frame_u64(&reader, CM_SUBSCRIPTION_COUNT - 1);
    batch.count = cm_frame_array(&reader, DELIVERY_MIN_BYTES);
    batch.items = cm_arena_alloc(arena, batch.count * sizeof *batch.items);
    for (size_t i = 0; i < batch.count && !reader.fault; i++)
        read_delivery(&reader, arena, &batch.items[i]);
    cm_status_t status = cm_frame_end(&reader, "delivery batch", err);
    if (status == CM_OK)
        *ret_batch = batch;
    return status;
}

bool cm_delivery_tenant(const cm_delivery_t *self, char id[CM_TENANT_ID_MAX])
{
    cm_str_t named =
        cm_attribute_get(self->attributes, self->attribute_count, CM_ATTRIBUTE_CUSTOMER_ID);
    id[0] = '\0';
    return named.ptr && cm_tenant_id_canonical(named, id, NULL) == CM_OK;
}
