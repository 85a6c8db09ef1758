#include "runtime/str.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

cm_str_t cm_str(const char *text)
{
    return (cm_str_t){text, text ? strlen(text) : 0};
}

bool cm_str_eq(cm_str_t a, cm_str_t b)
{
    if (!a.ptr || !b.ptr)
        return !a.ptr && !b.ptr;
    return a.len == b.len && memcmp(a.ptr, b.ptr, a.len) == 0;
}

bool cm_str_is(cm_str_t a, const char *text)
{
    return cm_str_eq(a, cm_str(text));
}

int cm_str_cmp(cm_str_t a, cm_str_t b)
{
    if (!a.ptr || !b.ptr)
        return (a.ptr != NULL) - (b.ptr != NULL);
    size_t shorter = a.len < b.len ? a.len : b.len;
    int order = shorter ? memcmp(a.ptr, b.ptr, shorter) : 0;
    return order ? order : (a.len > b.len) - (a.len < b.len);
}

bool cm_str_to_i64(cm_str_t s, int64_t *ret_value)
{
    bool negative = s.len > 0 && s.ptr[0] == '-';
    size_t i = negative ? 1 : 0;
    if (!s.ptr || i == s.len)
        return false;
    int64_t value = 0; /* built below zero: INT64_MIN has no positive twin */
    for (; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9')
            return false;
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_sub_overflow(value, s.ptr[i] - '0', &value))
            return false;
    }
    if (!negative && value == INT64_MIN)
        return false;
    *ret_value = negative ? value : -value;
    return true;
}

size_t cm_utf8_length(const char *text, size_t left)
{
    const unsigned char *p = (const unsigned char *)text;
    unsigned char low = 0x80, high = 0xbf;
    size_t len = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    if (p[0] < 0x80)
        return 1;
    if (p[0] < 0xc2 || p[0] > 0xf4 || len > left)
        return 0;
    if (p[0] == 0xe0) /* overlong forms, surrogates, and what is above U+10FFFF */
        low = 0xa0;
    else if (p[0] == 0xed)
        high = 0x9f;
    else if (p[0] == 0xf0)
        low = 0x90;
    else if (p[0] == 0xf4)
        high = 0x8f;
    if (p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < len; i++) {
        if (p[i] < 0x80 || p[i] > 0xbf)
            return 0;
    }
    return len;
}

bool cm_str_is_text(cm_str_t s)
{
    for (size_t at = 0; at < s.len;) {
        size_t len = s.ptr[at] ? cm_utf8_length(s.ptr + at, s.len - at) : 0;
        if (len == 0)
            return false;
        at += len;
    }
    return s.ptr;
}

/* ---- arena ---------------------------------------------------------------------------------- */

typedef struct block {
    struct block *next;
    size_t cap, len;
    char bytes[] __attribute__((aligned(16)));
} block_t;

struct cm_arena {
    block_t *first, *current;
    size_t block_bytes, used;
};

static block_t *block_new(size_t cap)
{
    block_t *block = malloc(sizeof *block + cap);
    if (!block)
        abort();
    block->next = NULL;
    block->cap = cap;
    block->len = 0;
    return block;
}

cm_arena_t *cm_arena_new(size_t block_bytes)
{
    cm_arena_t *self = calloc(1, sizeof *self);
    if (!self)
        abort();
    self->block_bytes = block_bytes;
    self->first = self->current = block_new(block_bytes);
    return self;
}

static void free_after(block_t *block)
{
    block_t *next = block->next;
    block->next = NULL;
    while (next) {
        block_t *after = next->next;
        free(next);
        next = after;
    }
}

void cm_arena_destroy(cm_arena_t **self_p)
{
    if (!*self_p)
        return;
    free_after((*self_p)->first);
    free((*self_p)->first);
    free(*self_p);
    *self_p = NULL;
}

void cm_arena_reset(cm_arena_t *self)
{
    free_after(self->first);
    self->first->len = 0;
    self->current = self->first;
    self->used = 0;
}

void *cm_arena_alloc(cm_arena_t *self, size_t size)
{
    size = (size + 7) & ~(size_t)7;
    block_t *block = self->current;
    if (block->cap - block->len < size) {
        block = block_new(size > self->block_bytes ? size : self->block_bytes);
        self->current->next = block;
        self->current = block;
    }
    void *memory = block->bytes + block->len;
    block->len += size;
    self->used += size;
    return memory;
}

cm_str_t cm_arena_copy(cm_arena_t *self, cm_str_t s)
{
    if (!s.ptr)
        return s;
    char *copy = cm_arena_alloc(self, s.len + 1);
    memcpy(copy, s.ptr, s.len);
    copy[s.len] = '\0';
    return (cm_str_t){copy, s.len};
}

cm_str_t cm_arena_printf(cm_arena_t *self, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    size_t size = len > 0 ? (size_t)len : 0;
    char *text = cm_arena_alloc(self, size + 1);
    vsnprintf(text, size + 1, format, again);
    va_end(again);
    return (cm_str_t){text, size};
}

size_t cm_arena_used(const cm_arena_t *self)
{
    return self->used;
}
