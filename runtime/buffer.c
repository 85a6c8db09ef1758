#include "runtime/buffer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void cm_buffer_reserve(cm_buffer_t *self, size_t more)
{
    if (self->cap - self->len >= more)
        return;
    size_t cap = self->cap ? self->cap : 256;
    while (cap - self->len < more)
        cap *= 2;
    self->data = realloc(self->data, cap);
    if (!self->data)
        abort();
    self->cap = cap;
}

void cm_buffer_append(cm_buffer_t *self, const void *bytes, size_t len)
{
    if (len == 0)
        return;
    cm_buffer_reserve(self, len);
    memcpy(self->data + self->len, bytes, len);
    self->len += len;
}

void cm_buffer_printf(cm_buffer_t *self, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (len > 0) {
        cm_buffer_reserve(self, (size_t)len + 1);
        vsnprintf(self->data + self->len, (size_t)len + 1, format, again);
        self->len += (size_t)len;
    }
    va_end(again);
}

const char *cm_buffer_text(cm_buffer_t *self)
{
    cm_buffer_reserve(self, 1);
    self->data[self->len] = '\0';
    return self->data;
}

void cm_buffer_clear(cm_buffer_t *self)
{
    self->len = 0;
}

void cm_buffer_destroy(cm_buffer_t *self)
{
    free(self->data);
    *self = (cm_buffer_t){0};
}
