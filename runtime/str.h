/* str - a borrowed run of bytes, and an arena that owns such runs.
 *
 * cm_str_t never owns: it points into a frame, an arena or a literal. ptr == NULL means absent,
 * which is not the same as empty. The arena frees everything at once; out of memory aborts.
 */
#ifndef CM_RUNTIME_STR_H
#define CM_RUNTIME_STR_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    const char *ptr; /* not NUL-terminated; NULL = absent */
    size_t len;      /* bytes */
} cm_str_t;

#define CM_STR(literal) ((cm_str_t){(literal), sizeof(literal) - 1})
#define CM_STR_NONE     ((cm_str_t){NULL, 0})
#define CM_STR_ARG(s)   (int)(s).len, (s).ptr ? (s).ptr : "" /* for "%.*s" */

cm_str_t cm_str(const char *text);      /* NUL-terminated text, or NULL for absent */
bool cm_str_eq(cm_str_t a, cm_str_t b); /* absent equals only absent */
bool cm_str_is(cm_str_t a, const char *text);
/* Order by bytes, then by length; absent is lowest. < 0, 0, > 0 like strcmp(). */
int cm_str_cmp(cm_str_t a, cm_str_t b);
/* Parse decimal text. False when empty, not all digits (one leading '-' allowed) or out of range.
 */
bool cm_str_to_i64(cm_str_t s, int64_t *ret_value);
/* Bytes of the well-formed UTF-8 character at text, of which left (at least 1) are there; 0 when
 * there is none. Rule: Unicode, table 3-7; RFC 3629, section 4. */
size_t cm_utf8_length(const char *text, size_t left);
/* Present, UTF-8, and without a NUL: what PostgreSQL takes as text. */
bool cm_str_is_text(cm_str_t s);

typedef struct cm_arena cm_arena_t;

cm_arena_t *cm_arena_new(size_t block_bytes); /* grows by blocks of at least block_bytes */
void cm_arena_destroy(cm_arena_t **self_p);
void cm_arena_reset(cm_arena_t *self);                /* forget everything, keep the first block */
void *cm_arena_alloc(cm_arena_t *self, size_t size);  /* 8-aligned, not zeroed, never NULL */
cm_str_t cm_arena_copy(cm_arena_t *self, cm_str_t s); /* absent stays absent */
cm_str_t cm_arena_printf(cm_arena_t *self, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
size_t cm_arena_used(const cm_arena_t *self); /* bytes handed out since the last reset */
#endif
