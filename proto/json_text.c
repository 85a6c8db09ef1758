#include "proto/json_text.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

enum { FIRST_BYTES = 256 };

void cm_json_text_init(cm_json_text_t *self, size_t max_bytes, cm_arena_t *arena)
{
    *self = (cm_json_text_t){.arena = arena, .max_bytes = max_bytes, .cap = FIRST_BYTES};
    self->data = cm_arena_alloc(arena, self->cap);
}

static void put(cm_json_text_t *self, const char *bytes, size_t len)
{
    if (self->cap - self->len < len) {
        size_t cap = self->cap * 2;
        while (cap - self->len < len)
            cap *= 2;
        char *grown = cm_arena_alloc(self->arena, cap);
        memcpy(grown, self->data, self->len);
        self->data = grown;
        self->cap = cap;
    }
    memcpy(self->data + self->len, bytes, len);
    self->len += len;
}

static void put_escape(cm_json_text_t *self, char c)
{
    static const char plain[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    const char *found = memchr(plain, c, sizeof plain - 1);
    char text[8];
    int len = found ? snprintf(text, sizeof text, "\\%c", letters[found - plain])
                    : snprintf(text, sizeof text, "\\u%04x", (unsigned)(unsigned char)c);
    put(self, text, (size_t)len);
}

static void put_string(cm_json_text_t *self, cm_str_t text)
{
    put(self, "\"", 1);
    size_t from = 0;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if ((unsigned char)c >= 0x20 && c != '"' && c != '\\')
            continue;
        put(self, text.ptr + from, i - from);
        put_escape(self, c);
        from = i + 1;
    }
    put(self, text.ptr + from, text.len - from);
    put(self, "\"", 1);
}

static void put_value(cm_json_text_t *self, const cm_json_value_t *value)
{
    switch (value->type) {
    case CM_JSON_NULL:
        put(self, "null", 4);
        break;
    case CM_JSON_BOOL:
        put(self, value->boolean ? "true" : "false", value->boolean ? 4 : 5);
        break;
    case CM_JSON_NUMBER:
        put(self, value->text.ptr, value->text.len);
        break;
    case CM_JSON_STRING:
        put_string(self, value->text);
        break;
    case CM_JSON_OBJECT:
    case CM_JSON_ARRAY:
        assert(self->depth < 64);
        self->arrays = self->arrays << 1 | (value->type == CM_JSON_ARRAY);
        self->depth++;
        put(self, value->type == CM_JSON_ARRAY ? "[" : "{", 1);
        break;
    case CM_JSON_END:
        put(self, self->arrays & 1 ? "]" : "}", 1);
        self->arrays >>= 1;
        self->depth--;
        break;
    }
}

cm_status_t cm_json_text_add(cm_json_text_t *self, const cm_json_value_t *value, bool *ret_done,
                             cm_str_t *ret_text, cm_error_t *err)
{
    if (self->depth > 0 && value->type != CM_JSON_END) {
        char last = self->data[self->len - 1]; /* a bracket only when it was just opened */
        if (last != '{' && last != '[')
            put(self, ",", 1);
        if (value->key.ptr) {
            put_string(self, value->key);
            put(self, ":", 1);
        }
    }
    put_value(self, value);
    if (self->len > self->max_bytes)
        return cm_error_set(err, CM_PERMANENT, "too-large", "the object has more than %zu bytes",
                            self->max_bytes);
    *ret_done = self->depth == 0;
    if (*ret_done)
        *ret_text = (cm_str_t){self->data, self->len};
    return CM_OK;
}
