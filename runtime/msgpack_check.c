#include "runtime/msgpack_check.h"

#include <assert.h>
#include <stdint.h>

/* What the head of a value says: its own fixed bytes, then bytes to skip, then child values. */
typedef struct {
    uint8_t count_bytes; /* big-endian count after the tag; 0 = `fixed` holds it */
    bool container;
    uint8_t factor; /* container: children per count; else bytes per count */
    uint8_t extra;  /* bytes beside the counted ones: the type byte of an extension */
    uint32_t fixed; /* the count when count_bytes is 0 */
} shape_t;

static shape_t payload(uint8_t count_bytes, uint8_t extra, uint32_t fixed)
{
    return (shape_t){count_bytes, false, 1, extra, fixed};
}

static shape_t children(uint8_t count_bytes, uint8_t factor, uint32_t fixed)
{
    return (shape_t){count_bytes, true, factor, 0, fixed};
}

/* False for 0xc1, the one tag the format leaves unused. */
static bool shape_of(uint8_t tag, shape_t *ret_shape)
{
    shape_t shape = payload(0, 0, 0); /* nil, booleans, small integers */
    if (tag >= 0x80 && tag <= 0x8f)
        shape = children(0, 2, tag & 0x0f);
    else if (tag >= 0x90 && tag <= 0x9f)
        shape = children(0, 1, tag & 0x0f);
    else if (tag >= 0xa0 && tag <= 0xbf)
        shape = payload(0, 0, tag & 0x1f);
    else if (tag == 0xc1)
        return false;
    else if (tag >= 0xc4 && tag <= 0xc6) /* bin */
        shape = payload((uint8_t)(1u << (tag - 0xc4)), 0, 0);
    else if (tag >= 0xc7 && tag <= 0xc9) /* ext */
        shape = payload((uint8_t)(1u << (tag - 0xc7)), 1, 0);
    else if (tag == 0xca || tag == 0xcb) /* float, double */
        shape = payload(0, 0, tag == 0xca ? 4 : 8);
    else if (tag >= 0xcc && tag <= 0xd3) /* uint 8..64, int 8..64 */
        shape = payload(0, 0, 1u << ((tag - 0xcc) & 3));
    else if (tag >= 0xd4 && tag <= 0xd8) /* fixext 1..16 */
        shape = payload(0, 1, 1u << (tag - 0xd4));
    else if (tag >= 0xd9 && tag <= 0xdb) /* str */
        shape = payload((uint8_t)(1u << (tag - 0xd9)), 0, 0);
    else if (tag == 0xdc || tag == 0xdd)
        shape = children(tag == 0xdc ? 2 : 4, 1, 0);
    else if (tag == 0xde || tag == 0xdf)
        shape = children(tag == 0xde ? 2 : 4, 2, 0);
    *ret_shape = shape;
    return true;
}

/* Read one head at *at and step over it and its payload. *ret_children: values that must follow. */
static bool scan_head(const uint8_t *bytes, size_t len, size_t *at, bool *ret_container,
                      uint64_t *ret_children)
{
    shape_t shape;
    if (*at == len || !shape_of(bytes[(*at)++], &shape) || len - *at < shape.count_bytes)
        return false;
    uint64_t count = shape.fixed;
    for (unsigned i = 0; i < shape.count_bytes; i++)
        count = count << 8 | bytes[(*at)++];
    uint64_t needed = count * shape.factor + shape.extra; /* a child is at least one byte */
    if (needed > len - *at)
        return false;
    *ret_container = shape.container;
    *ret_children = shape.container ? needed : 0;
    if (!shape.container)
        *at += (size_t)needed;
    return true;
}

bool cm_msgpack_check(const void *bytes, size_t len, size_t max_depth, size_t *ret_used)
{
    assert(max_depth <= CM_MSGPACK_DEPTH_MAX);
    uint64_t left[CM_MSGPACK_DEPTH_MAX + 1] = {1}; /* values still missing, by depth */
    size_t depth = 0, at = 0;
    for (;;) {
        while (left[depth] == 0) {
            if (depth == 0) {
                if (ret_used)
                    *ret_used = at;
                return true;
            }
            depth--;
        }
        bool container;
        uint64_t inner;
        if (!scan_head(bytes, len, &at, &container, &inner))
            return false;
        left[depth]--;
        if (container) {
            if (depth == max_depth)
                return false;
            left[++depth] = inner;
        }
    }
}
