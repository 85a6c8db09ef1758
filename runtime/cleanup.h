/* cleanup - locals that clean up after themselves, and how to hand one on.
 *
 * CM_CLEANUP(f) calls f(&local) when the local leaves its scope; f has the czmq shape: it accepts a
 * pointer to NULL and sets it to NULL. CM_TAKE(x) yields x and empties it, to hand a local on.
 */
#ifndef CM_RUNTIME_CLEANUP_H
#define CM_RUNTIME_CLEANUP_H
#include <stdlib.h>

#define CM_CLEANUP(destructor) __attribute__((cleanup(destructor)))

#define CM_TAKE(x)                                                                                 \
    __extension__({                                                                                \
        __typeof__(x) cm_taken_ = (x);                                                             \
        (x) = NULL;                                                                                \
        cm_taken_;                                                                                 \
    })

#define CM_LENGTH(array) (sizeof(array) / sizeof((array)[0]))

/* free() in the shape CM_CLEANUP wants; `p` is the address of any object pointer. */
static inline void cm_free(void *p)
{
    void **pointer = p;
    free(*pointer);
    *pointer = NULL;
}
#endif
