/* buffer - bytes that grow at the end. Zero-initialise; out of memory aborts. */
#ifndef CM_RUNTIME_BUFFER_H
#define CM_RUNTIME_BUFFER_H
#include <stddef.h>
#include <stdint.h>

typedef struct {
    char *data; /* owned; not NUL-terminated unless cm_buffer_text() was called */
    size_t len, cap;
} cm_buffer_t;

void cm_buffer_reserve(cm_buffer_t *self, size_t more); /* room for `more` bytes after len */
void cm_buffer_append(cm_buffer_t *self, const void *bytes, size_t len);
void cm_buffer_printf(cm_buffer_t *self, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
const char *cm_buffer_text(cm_buffer_t *self); /* NUL-terminate (not counted in len); borrowed */
void cm_buffer_clear(cm_buffer_t *self);       /* keep the memory */
void cm_buffer_destroy(cm_buffer_t *self);     /* free; safe twice; usable with CM_CLEANUP */
#endif
