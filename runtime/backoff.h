/* backoff - how long to wait before the next attempt at something that is away.
 *
 * Full jitter: a wait is uniform in (0, min(cap, base * 2^n)]. Rule: reliability, section 3.4.
 */
#ifndef CM_RUNTIME_BACKOFF_H
#define CM_RUNTIME_BACKOFF_H
#include <stdint.h>

typedef struct {
    int base_ms, cap_ms;
    unsigned attempts; /* since the last reset */
    uint64_t random;   /* generator state */
} cm_backoff_t;

void cm_backoff_init(cm_backoff_t *self, int base_ms, int cap_ms, uint64_t seed);
int cm_backoff_next_ms(cm_backoff_t *self); /* 1 .. cap_ms; counts one attempt */
void cm_backoff_reset(cm_backoff_t *self);  /* after a success */
#endif
