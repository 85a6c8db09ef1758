#include "proto/frame.h"

#include <endian.h>
#include <string.h>

/* ---- packing -------------------------------------------------------------------------------- */

static int write_buffer(void *data, const char *bytes, size_t len)
{
    cm_buffer_append(data, bytes, len);
    return 0;
}

msgpack_packer cm_frame_packer(cm_buffer_t *out)
{
    msgpack_packer packer;
    msgpack_packer_init(&packer, out, write_buffer);
    return packer;
}

void cm_frame_pack_text(msgpack_packer *packer, cm_str_t text)
{
    msgpack_pack_bin(packer, text.len);
    msgpack_pack_bin_body(packer, text.ptr, text.len);
}

void cm_frame_pack_message(msgpack_packer *packer, const cm_message_t *message)
{
    msgpack_pack_array(packer, 2 * message->attribute_count);
    for (size_t i = 0; i < message->attribute_count; i++) {
        cm_frame_pack_text(packer, message->attributes[i].name);
        cm_frame_pack_text(packer, message->attributes[i].value);
    }
    cm_frame_pack_text(packer, message->body);
}

void cm_frame_put_array32(char *at, size_t count)
{
    uint32_t big = htobe32((uint32_t)count);
    at[0] = (char)0xdd;
    memcpy(at + 1, &big, sizeof big);
}

/* ---- reading -------------------------------------------------------------------------------- */

cm_frame_reader_t cm_frame_reader(const void *bytes, size_t len)
{
    const char *start = bytes ? bytes : "";
    return (cm_frame_reader_t){.start = start, .at = start, .end = start + (bytes ? len : 0)};
}

void cm_frame_fail(cm_frame_reader_t *self, const char *expected)
{
    if (!self->fault)
        self->fault = expected;
}

/* The type byte, or one that no MessagePack value begins with. */
static unsigned char peek_type(const cm_frame_reader_t *self)
{
    return !self->fault && self->at < self->end ? (unsigned char)*self->at : 0xc1;
}

/* The big-endian number of `width` bytes, of constant size each: that makes them single loads. */
static uint64_t load(const char *at, size_t width)
{
    uint16_t two;
    uint32_t four;
    uint64_t eight;
    switch (width) {
    case 1:
        return (unsigned char)*at;
    case 2:
        memcpy(&two, at, sizeof two);
        return be16toh(two);
    case 4:
        memcpy(&four, at, sizeof four);
        return be32toh(four);
    default:
        memcpy(&eight, at, sizeof eight);
        return be64toh(eight);
    }
}

/* The number of 1, 2, 4 or 8 bytes behind the type byte; false when the frame ends before. */
static bool take_number(cm_frame_reader_t *self, size_t width, uint64_t *ret_value)
{
    if ((size_t)(self->end - self->at) <= width)
        return false;
    *ret_value = load(self->at + 1, width);
    self->at += 1 + width;
    return true;
}

/* Types that carry a length or a number of 1, 2, 4 or 8 bytes stand in a row: base, base + 1, ...
 */
static size_t width_of(unsigned char type, unsigned char base)
{
    return (size_t)1 << (type - base);
}

size_t cm_frame_array(cm_frame_reader_t *self, size_t min_bytes)
{
    const char *at = self->at;
    unsigned char type = peek_type(self);
    uint64_t count = 0;
    bool found = false;
    if (type >= 0x90 && type <= 0x9f) {
        count = type & 0x0f;
        self->at++;
        found = true;
    } else if (type == 0xdc || type == 0xdd) {
        found = take_number(self, 2 * width_of(type, 0xdc), &count);
    }
    if (found && count <= (size_t)(self->end - self->at) / min_bytes)
        return (size_t)count;
    if (!self->fault)
        self->at = at;
    cm_frame_fail(self, "an array");
    return 0;
}

void cm_frame_array_of(cm_frame_reader_t *self, size_t count)
{
    const char *at = self->at;
    if (cm_frame_array(self, 1) == count || self->fault)
        return;
    self->at = at;
    cm_frame_fail(self, "an array of another length");
}

/* Any integer: *ret_negative tells whether value is to be read as int64. */
static bool take_integer(cm_frame_reader_t *self, uint64_t *ret_value, bool *ret_negative)
{
    unsigned char type = peek_type(self);
    *ret_negative = false;
    if (type < 0x80) {
        self->at++;
        *ret_value = type;
        return true;
    }
    if (type >= 0xe0) {
        self->at++;
        *ret_value = (uint64_t)(int64_t)(int8_t)type;
        *ret_negative = true;
        return true;
    }
    if (type >= 0xcc && type <= 0xcf)
        return take_number(self, width_of(type, 0xcc), ret_value);
    if (type < 0xd0 || type > 0xd3)
        return false;
    size_t width = width_of(type, 0xd0);
    if (!take_number(self, width, ret_value))
        return false;
    unsigned shift = (unsigned)(64 - 8 * width); /* the sign bit to the top and back */
    *ret_value = (uint64_t)((int64_t)(*ret_value << shift) >> shift);
    *ret_negative = (int64_t)*ret_value < 0;
    return true;
}

uint64_t cm_frame_u64(cm_frame_reader_t *self, uint64_t max)
{
    const char *at = self->at;
    uint64_t value;
    bool negative;
    if (take_integer(self, &value, &negative) && !negative && value <= max)
        return value;
    if (!self->fault)
        self->at = at;
    cm_frame_fail(self, "a natural number in range");
    return 0;
}

int64_t cm_frame_i64(cm_frame_reader_t *self, int64_t min, int64_t max)
{
    const char *at = self->at;
    uint64_t value;
    bool negative;
    if (take_integer(self, &value, &negative) && (negative || value <= INT64_MAX) &&
        (int64_t)value >= min && (int64_t)value <= max)
        return (int64_t)value;
    if (!self->fault)
        self->at = at;
    cm_frame_fail(self, "an integer in range");
    return 0;
}

cm_str_t cm_frame_text(cm_frame_reader_t *self)
{
    const char *at = self->at;
    unsigned char type = peek_type(self);
    uint64_t len;
    if (type >= 0xc4 && type <= 0xc6 && take_number(self, width_of(type, 0xc4), &len) &&
        len <= (size_t)(self->end - self->at)) {
        cm_str_t text = {self->at, (size_t)len};
        self->at += len;
        return text;
    }
    if (!self->fault)
        self->at = at;
    cm_frame_fail(self, "bin within the frame");
    return (cm_str_t){"", 0};
}

cm_message_t cm_frame_message(cm_frame_reader_t *self, cm_arena_t *arena)
{
    cm_message_t message = {0};
    size_t texts = cm_frame_array(self, 2); /* the shortest bin has two bytes */
    if (texts % 2)
        cm_frame_fail(self, "a value for each attribute name");
    if (texts && !self->fault) {
        message.attribute_count = texts / 2;
        cm_attribute_t *items = cm_arena_alloc(arena, message.attribute_count * sizeof *items);
        for (size_t i = 0; i < message.attribute_count; i++) {
            items[i].name = cm_frame_text(self);
            items[i].value = cm_frame_text(self);
        }
        message.attributes = items;
    }
    message.body = cm_frame_text(self);
    return message;
}

cm_status_t cm_frame_end(cm_frame_reader_t *self, const char *what, cm_error_t *err)
{
    if (!self->fault && self->at != self->end)
        cm_frame_fail(self, "the end of the frame");
    if (!self->fault)
        return CM_OK;
    return cm_error_set(err, CM_PERMANENT, "malformed", "%s: expected %s at offset %zu of %zu",
                        what, self->fault, (size_t)(self->at - self->start),
                        (size_t)(self->end - self->start));
}
