#include "runtime/backoff.h"

#include "runtime/clock.h"

#include <assert.h>
#include <limits.h>

void cm_backoff_init(cm_backoff_t *self, int base_ms, int cap_ms, uint64_t seed)
{
    assert(base_ms > 0 && cap_ms > 0);
    *self = (cm_backoff_t){.base_ms = base_ms, .cap_ms = cap_ms, .random = seed};
}

int cm_backoff_next_ms(cm_backoff_t *self)
{
    int64_t ceiling = self->base_ms;
    for (unsigned i = 0; i < self->attempts && ceiling < self->cap_ms; i++)
        ceiling *= 2;
    if (ceiling > self->cap_ms)
        ceiling = self->cap_ms;
    if (self->attempts < UINT_MAX)
        self->attempts++;
    return 1 + (int)cm_random_below(&self->random, (uint64_t)ceiling);
}

void cm_backoff_reset(cm_backoff_t *self)
{
    self->attempts = 0;
}
