/* breaker - stop asking a dependency that is away; ask again carefully.
 *
 * A pure state machine over results and time; it does no I/O. closed -> open after `open_after`
 * unavailable results in a row, or when at least half of the last 20 results within 10 s were
 * unavailable (given ten of them); open -> half-open when the probe is due (full jitter between
 * probe_min and probe_max); half-open -> closed by a success, -> open by a failure. Only
 * CM_UNAVAILABLE and CM_MISCONFIGURED count as failures; CM_CANCELLED, and whatever arrives while
 * open, count as nothing. Rule: reliability, section 3.5.
 */
#ifndef CM_RUNTIME_BREAKER_H
#define CM_RUNTIME_BREAKER_H
#include "runtime/backoff.h"
#include "runtime/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum { CM_BREAKER_CLOSED, CM_BREAKER_OPEN, CM_BREAKER_HALF_OPEN } cm_breaker_state_t;

typedef struct {
    cm_breaker_state_t state;
    int open_after;        /* results in a row */
    int64_t opened_at_ms;  /* monotonic, of the outage; 0 when closed */
    int64_t next_probe_ms; /* monotonic; meaningful when open */
    unsigned failures;     /* in a row */
    cm_backoff_t backoff;
    struct {
        int64_t at_ms[20];
        bool failed[20];
        unsigned next, count;
    } window;
    char reason[CM_ERROR_MESSAGE_MAX];
} cm_breaker_t;

void cm_breaker_init(cm_breaker_t *self, int open_after, int probe_min_ms, int probe_max_ms,
                     uint64_t seed);
/* Tell the outcome of one use at monotonic now_ms; err may be NULL. True when the state changed. */
bool cm_breaker_record(cm_breaker_t *self, cm_status_t status, const cm_error_t *err,
                       int64_t now_ms);
/* May the dependency be used now? Open becomes half-open when the probe is due. */
bool cm_breaker_allows(cm_breaker_t *self, int64_t now_ms);
/* Milliseconds until cm_breaker_allows() turns true; 0 when it is. */
int cm_breaker_wait_ms(const cm_breaker_t *self, int64_t now_ms);
const char *cm_breaker_state_name(cm_breaker_state_t state);
#endif
