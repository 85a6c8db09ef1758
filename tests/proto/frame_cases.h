/* frame_cases - what the tests of the frame codecs share: random content and spoiled frames. */
#ifndef CM_TESTS_PROTO_FRAME_CASES_H
#define CM_TESTS_PROTO_FRAME_CASES_H
#include "runtime/broker/broker.h"
#include "runtime/buffer.h"
#include "runtime/clock.h"
#include "runtime/str.h"

#include <stdlib.h>
#include <string.h>

/* Random bytes of a length around every MessagePack size boundary. */
static inline cm_str_t random_text(cm_arena_t *arena, uint64_t *random)
{
    static const size_t lengths[] = {0, 1, 9, 31, 32, 127, 128, 255, 256, 257, 700, 65535, 65536};
    size_t pick =
        cm_random_below(random, 100) ? cm_random_below(random, 11) : cm_random_below(random, 13);
    size_t len = lengths[pick];
    char *bytes = cm_arena_alloc(arena, len + 8);
    for (size_t i = 0; i < len; i += 8) {
        uint64_t word = cm_random_next(random);
        memcpy(bytes + i, &word, 8);
    }
    return (cm_str_t){bytes, len};
}

/* Random with every magnitude about equally frequent. */
static inline uint64_t random_number(uint64_t *random)
{
    return cm_random_next(random) >> cm_random_below(random, 64);
}

static inline cm_message_t random_message(cm_arena_t *arena, uint64_t *random)
{
    size_t count = cm_random_below(random, 20) ? cm_random_below(random, 4)
                                               : cm_random_below(random, CM_ATTRIBUTES_MAX + 1);
    cm_attribute_t *items = cm_arena_alloc(arena, (count + 1) * sizeof *items);
    for (size_t i = 0; i < count; i++)
        items[i] = (cm_attribute_t){random_text(arena, random), random_text(arena, random)};
    return (cm_message_t){random_text(arena, random), items, count};
}

static inline bool same_attributes(const cm_attribute_t *a, size_t a_count, const cm_attribute_t *b,
                                   size_t b_count)
{
    bool same = a_count == b_count;
    for (size_t i = 0; same && i < a_count; i++)
        same = cm_str_eq(a[i].name, b[i].name) && cm_str_eq(a[i].value, b[i].value);
    return same;
}

/* A copy of exactly len bytes, so that a sanitizer sees a read beyond the frame. Free it. */
static inline void *exact_copy(const void *bytes, size_t len)
{
    void *copy = malloc(len ? len : 1);
    if (!copy)
        abort();
    memcpy(copy, bytes, len);
    return copy;
}
#endif
