#include "schema/text_array.h"

#include <inttypes.h>
#include <string.h>

static void separate(cm_text_array_t *self)
{
    cm_buffer_append(&self->text, self->count++ ? "," : "{", 1);
}

/* Quoted always: a text may read "NULL". */
void cm_text_array_add(cm_text_array_t *self, cm_str_t value)
{
    separate(self);
    if (!value.ptr) {
        cm_buffer_append(&self->text, "NULL", 4);
        return;
    }
    cm_buffer_reserve(&self->text, 2 * value.len + 2);
    cm_buffer_append(&self->text, "\"", 1);
    for (size_t i = 0; i < value.len; i++) {
        if (value.ptr[i] == '"' || value.ptr[i] == '\\')
            cm_buffer_append(&self->text, "\\", 1);
        cm_buffer_append(&self->text, value.ptr + i, 1);
    }
    cm_buffer_append(&self->text, "\"", 1);
}

void cm_text_array_add_i64(cm_text_array_t *self, int64_t value)
{
    separate(self);
    cm_buffer_printf(&self->text, "%" PRId64, value);
}

const char *cm_text_array_end(cm_text_array_t *self)
{
    if (self->count == 0)
        cm_buffer_append(&self->text, "{", 1);
    cm_buffer_append(&self->text, "}", 1);
    return cm_buffer_text(&self->text);
}

void cm_text_array_destroy(cm_text_array_t *self)
{
    cm_buffer_destroy(&self->text);
}
