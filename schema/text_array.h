/* text_array - PostgreSQL arrays as text, "{...}", for statements that are sent one at a time.
 * Zero-initialise; destroy. Where a statement is sent often, use pg_array. */
#ifndef CM_SCHEMA_TEXT_ARRAY_H
#define CM_SCHEMA_TEXT_ARRAY_H
#include "runtime/buffer.h"
#include "runtime/str.h"

typedef struct {
    cm_buffer_t text;
    size_t count;
} cm_text_array_t;

void cm_text_array_add(cm_text_array_t *self, cm_str_t value); /* absent: NULL; no NUL byte */
void cm_text_array_add_i64(cm_text_array_t *self, int64_t value);
/* The literal; after it nothing is added. Borrowed. */
const char *cm_text_array_end(cm_text_array_t *self);
void cm_text_array_destroy(cm_text_array_t *self);
#endif
