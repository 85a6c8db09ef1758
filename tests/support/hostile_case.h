/* hostile_case - how the cases of hostile.h are made: one good event with one thing changed. */
#ifndef CM_TESTS_SUPPORT_HOSTILE_CASE_H
#define CM_TESTS_SUPPORT_HOSTILE_CASE_H
#include "runtime/buffer.h"
#include "runtime/str.h"

typedef struct {
    size_t next;   /* index of the case made next */
    size_t wanted; /* its body is handed out; SIZE_MAX: only count */
    cm_buffer_t *body;
    const char **name, **code; /* code may be NULL */
} hostile_t;

/* Paths of all members of an event, and of those that take any text. */
enum { HOSTILE_MEMBERS = 16, HOSTILE_TEXTS = 10 };
const char *hostile_member_path(size_t i);
const char *hostile_text_path(size_t i);

/* The good event with the value of path replaced; absent: left out. path is that of a member
 * ("device.language") or of a group ("push"), "groups" for all three, or "+", "device.+" to add the
 * members in value behind those that are there, or "" for no change. */
void hostile_compose(cm_buffer_t *out, const char *path, cm_str_t value, size_t index);

/* One more case: a body as it stands; the good event with a value replaced; and with before + count
 * times repeat + after. */
void hostile_raw(hostile_t *self, const char *code, const char *kind, const char *path,
                 cm_str_t body);
void hostile_with_bytes(hostile_t *self, const char *code, const char *kind, const char *path,
                        cm_str_t value);
void hostile_with(hostile_t *self, const char *code, const char *kind, const char *path,
                  const char *value);
void hostile_with_run(hostile_t *self, const char *code, const char *path, const char *before,
                      const char *repeat, size_t count, const char *after);
#endif
