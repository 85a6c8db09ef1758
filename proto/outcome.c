#include "proto/outcome.h"
#include "proto/frame.h"
#include "runtime/cleanup.h"

#include <limits.h>
#include <string.h>

enum { VERSION = 1, FRAME_ELEMENTS = 7, ITEM_MIN_BYTES = 3 };

const char *cm_outcome_name(cm_outcome_kind_t kind)
{
    static const char *const names[CM_OUTCOME_COUNT] = {
        [CM_OUTCOME_APPLIED] = "applied",     [CM_OUTCOME_STALE] = "stale",
        [CM_OUTCOME_DUPLICATE] = "duplicate", [CM_OUTCOME_DROPPED] = "dropped",
        [CM_OUTCOME_RETRY] = "retry",         [CM_OUTCOME_REJECT] = "reject",
        [CM_OUTCOME_DEFER] = "defer",         [CM_OUTCOME_RELEASE] = "release",
    };
    return (unsigned)kind < CM_OUTCOME_COUNT ? names[kind] : "unknown";
}

cm_outcome_kind_t cm_outcome_for(cm_status_t status)
{
    switch (status) {
    case CM_TRANSIENT:
    case CM_MISSING:
        return CM_OUTCOME_RETRY;
    case CM_PERMANENT:
        return CM_OUTCOME_REJECT;
    case CM_OK:
    case CM_UNAVAILABLE:
    case CM_MISCONFIGURED:
    case CM_CANCELLED:
        break;
    }
    return CM_OUTCOME_RELEASE;
}

/* Elements of an item of this kind. */
static size_t item_elements(cm_outcome_kind_t kind)
{
    if (kind == CM_OUTCOME_RETRY || kind == CM_OUTCOME_REJECT)
        return 4;
    return kind == CM_OUTCOME_DEFER ? 3 : 2;
}

/* ---- writing -------------------------------------------------------------------------------- */

void cm_outcome_builder_add(cm_outcome_builder_t *self, const cm_outcome_t *outcome)
{
    msgpack_packer packer = cm_frame_packer(&self->frame);
    size_t elements = item_elements(outcome->kind);
    msgpack_pack_array(&packer, elements);
    msgpack_pack_uint64(&packer, outcome->lease);
    msgpack_pack_unsigned_int(&packer, outcome->kind);
    if (elements == 3)
        msgpack_pack_int64(&packer, outcome->until_ms);
    if (elements == 4)
        cm_frame_pack_message(&packer, &outcome->message);
    self->count++;
}

/* All of the frame before its items; the array32 header of the items is its last five bytes. */
static void pack_header(cm_buffer_t *out, cm_outcome_frame_kind_t kind, const char *subworker,
                        unsigned shard, uint64_t batch_id, unsigned credits, size_t count)
{
    msgpack_packer packer = cm_frame_packer(out);
    msgpack_pack_array(&packer, FRAME_ELEMENTS);
    msgpack_pack_int(&packer, VERSION);
    msgpack_pack_unsigned_int(&packer, kind);
    cm_frame_pack_text(&packer, cm_str(subworker));
    msgpack_pack_unsigned_int(&packer, shard);
    msgpack_pack_uint64(&packer, batch_id);
    msgpack_pack_unsigned_int(&packer, credits);
    char items[5];
    cm_frame_put_array32(items, count);
    cm_buffer_append(out, items, sizeof items);
}

/* The header varies in length, so items are moved up to make room; most are a dozen bytes each. */
void cm_outcome_builder_seal(cm_outcome_builder_t *self, const char *subworker, unsigned shard,
                             uint64_t batch_id, unsigned credits, cm_buffer_t *ret_frame)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t header = {0};
    pack_header(&header, CM_OUTCOME_FRAME_BATCH, subworker, shard, batch_id, credits, self->count);
    cm_buffer_t *frame = &self->frame;
    cm_buffer_reserve(frame, header.len);
    memmove(frame->data + header.len, frame->data, frame->len);
    memcpy(frame->data, header.data, header.len);
    frame->len += header.len;
    *ret_frame = *frame;
    *self = (cm_outcome_builder_t){0};
}

void cm_outcome_ready(const char *subworker, unsigned shard, unsigned credits, bool fresh,
                      cm_buffer_t *ret_frame)
{
    *ret_frame = (cm_buffer_t){0};
    pack_header(ret_frame, fresh ? CM_OUTCOME_FRAME_FRESH : CM_OUTCOME_FRAME_READY, subworker,
                shard, 0, credits, 0);
}

/* ---- reading -------------------------------------------------------------------------------- */

static void read_item(cm_frame_reader_t *reader, cm_arena_t *arena, cm_outcome_t *item)
{
    const char *start = reader->at;
    *item = (cm_outcome_t){0};
    size_t elements = cm_frame_array(reader, 1);
    item->lease = cm_frame_u64(reader, UINT64_MAX);
    item->kind = (cm_outcome_kind_t)cm_frame_u64(reader, CM_OUTCOME_COUNT - 1);
    if (!reader->fault && elements != item_elements(item->kind)) {
        reader->at = start;
        cm_frame_fail(reader, "an item as long as its kind asks");
    }
    if (elements == 3)
        item->until_ms = cm_frame_i64(reader, INT64_MIN, INT64_MAX);
    if (elements == 4)
        item->message = cm_frame_message(reader, arena);
}

static void read_subworker(cm_frame_reader_t *reader, char *name, size_t size)
{
    const char *start = reader->at;
    cm_str_t text = cm_frame_text(reader);
    if (!reader->fault && (text.len == 0 || text.len >= size || memchr(text.ptr, '\0', text.len))) {
        reader->at = start;
        cm_frame_fail(reader, "the name of a sub-worker");
    }
    if (reader->fault)
        return;
    memcpy(name, text.ptr, text.len);
    name[text.len] = '\0';
}

cm_status_t cm_outcome_frame_decode(const void *bytes, size_t len, cm_arena_t *arena,
                                    cm_outcome_frame_t *ret_frame, cm_error_t *err)
{
    cm_frame_reader_t reader = cm_frame_reader(bytes, len);
    cm_outcome_frame_t frame = {0};
    cm_frame_array_of(&reader, FRAME_ELEMENTS);
    if (cm_frame_u64(&reader, UINT8_MAX) != VERSION)
        cm_frame_fail(&reader, "version 1 before it");
    frame.kind = (cm_outcome_frame_kind_t)cm_frame_u64(&reader, CM_OUTCOME_FRAME_BATCH);
    read_subworker(&reader, frame.subworker, sizeof frame.subworker);
    frame.shard = (unsigned)cm_frame_u64(&reader, UINT_MAX);
    frame.batch_id = cm_frame_u64(&reader, UINT64_MAX);
    frame.credits = (unsigned)cm_frame_u64(&reader, UINT_MAX);
    frame.count = cm_frame_array(&reader, ITEM_MIN_BYTES);
    if (frame.kind != CM_OUTCOME_FRAME_BATCH && frame.count)
        cm_frame_fail(&reader, "no items in a ready frame");
    frame.items = cm_arena_alloc(arena, frame.count * sizeof *frame.items);
    for (size_t i = 0; i < frame.count && !reader.fault; i++)
        read_item(&reader, arena, &frame.items[i]);
    cm_status_t status = cm_frame_end(&reader, "outcome frame", err);
    if (status == CM_OK)
        *ret_frame = frame;
    return status;
}
