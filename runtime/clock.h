/* clock - the two clocks and the random source. Epoch time is for data, monotonic time for waiting.
 */
#ifndef CM_RUNTIME_CLOCK_H
#define CM_RUNTIME_CLOCK_H
#include <stdint.h>

int64_t cm_clock_epoch_ms(void); /* milliseconds since 1970-01-01 UTC */
int64_t cm_clock_mono_ms(void);  /* milliseconds, never steps back */
int64_t cm_clock_mono_us(void);  /* microseconds, never steps back */
uint64_t cm_random_u64(void);    /* from the kernel, for seeds and ids */

/* Small deterministic generator (splitmix64), for jitter and test traffic. State is yours. */
uint64_t cm_random_next(uint64_t *state);
/* Uniform in [0, bound); 0 when bound is 0. */
uint64_t cm_random_below(uint64_t *state, uint64_t bound);

enum { CM_TIME_TEXT_MAX = 32 };
/* "2026-11-20T16:00:00.123Z" into text[CM_TIME_TEXT_MAX]; returns text. */
const char *cm_clock_format(int64_t epoch_ms, char text[CM_TIME_TEXT_MAX]);
#endif
