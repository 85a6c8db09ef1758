/* json_text - values of json_reader written out again as compact JSON, in their order.
 *
 * Numbers verbatim, strings with the fewest escapes: never longer than the text they were read
 * from.
 */
#ifndef CM_PROTO_JSON_TEXT_H
#define CM_PROTO_JSON_TEXT_H
#include "proto/json_reader.h"

typedef struct {
    cm_arena_t *arena;
    size_t max_bytes;
    char *data; /* in the arena */
    size_t len, cap;
    size_t depth;    /* containers open */
    uint64_t arrays; /* bit n: the container n levels down is an array */
} cm_json_text_t;

/* max_bytes: of the whole text. */
void cm_json_text_init(cm_json_text_t *self, size_t max_bytes, cm_arena_t *arena);
/* Add the next value; the first is an object or an array, whose own key is left out. *ret_done: it
 * is closed, *ret_text is the text, in the arena. CM_PERMANENT / "too-large" above max_bytes. */
cm_status_t cm_json_text_add(cm_json_text_t *self, const cm_json_value_t *value, bool *ret_done,
                             cm_str_t *ret_text, cm_error_t *err);
#endif
