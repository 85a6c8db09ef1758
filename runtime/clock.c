#include "runtime/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

static int64_t read_us(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t cm_clock_epoch_ms(void)
{
    return read_us(CLOCK_REALTIME) / 1000;
}

int64_t cm_clock_mono_ms(void)
{
    return read_us(CLOCK_MONOTONIC) / 1000;
}

int64_t cm_clock_mono_us(void)
{
    return read_us(CLOCK_MONOTONIC);
}

uint64_t cm_random_u64(void)
{
    uint64_t value;
    if (getrandom(&value, sizeof value, 0) != sizeof value)
        abort();
    return value;
}

uint64_t cm_random_next(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t cm_random_below(uint64_t *state, uint64_t bound)
{
    return bound ? (uint64_t)(((__uint128_t)cm_random_next(state) * bound) >> 64) : 0;
}

const char *cm_clock_format(int64_t epoch_ms, char text[CM_TIME_TEXT_MAX])
{
    time_t seconds = (time_t)(epoch_ms / 1000);
    int ms = (int)(epoch_ms % 1000);
    if (ms < 0) {
        ms += 1000;
        seconds--;
    }
    struct tm parts;
    gmtime_r(&seconds, &parts);
    size_t used = strftime(text, CM_TIME_TEXT_MAX, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(text + used, CM_TIME_TEXT_MAX - used, ".%03dZ", ms);
    return text;
}
