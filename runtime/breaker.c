#include "runtime/breaker.h"

#include "runtime/cleanup.h"

#include <assert.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

enum {
    WINDOW_MS = 10000,
    WINDOW_MIN = 10, /* fewer results say too little about a share */
};

void cm_breaker_init(cm_breaker_t *self, int open_after, int probe_min_ms, int probe_max_ms,
                     uint64_t seed)
{
    assert(open_after > 0);
    *self = (cm_breaker_t){.state = CM_BREAKER_CLOSED, .open_after = open_after};
    cm_backoff_init(&self->backoff, probe_min_ms, probe_max_ms, seed);
}

/* At least half of the last results within the window failed. */
static bool window_tripped(const cm_breaker_t *self, int64_t now_ms)
{
    unsigned total = 0, failed = 0;
    for (unsigned i = 0; i < self->window.count; i++) {
        if (now_ms - self->window.at_ms[i] > WINDOW_MS)
            continue;
        total++;
        failed += self->window.failed[i];
    }
    return total >= WINDOW_MIN && failed * 2 >= total;
}

static void window_add(cm_breaker_t *self, bool failed, int64_t now_ms)
{
    const unsigned size = CM_LENGTH(self->window.at_ms);
    self->window.at_ms[self->window.next] = now_ms;
    self->window.failed[self->window.next] = failed;
    self->window.next = (self->window.next + 1) % size;
    if (self->window.count < size)
        self->window.count++;
}

static void set_reason(cm_breaker_t *self, cm_status_t status, const cm_error_t *err)
{
    const char *text = err && err->message[0] ? err->message : cm_status_name(status);
    snprintf(self->reason, sizeof self->reason, "%s", text);
}

/* From half-open the outage goes on: its beginning and the back-off are kept. */
static void open_up(cm_breaker_t *self, cm_status_t status, const cm_error_t *err, int64_t now_ms)
{
    if (self->state == CM_BREAKER_CLOSED)
        self->opened_at_ms = now_ms;
    self->state = CM_BREAKER_OPEN;
    self->next_probe_ms = now_ms + cm_backoff_next_ms(&self->backoff);
    set_reason(self, status, err);
}

/* What was seen before the outage says nothing about the time after it. */
static void close_down(cm_breaker_t *self)
{
    self->state = CM_BREAKER_CLOSED;
    self->opened_at_ms = 0;
    self->next_probe_ms = 0;
    self->reason[0] = '\0';
    memset(&self->window, 0, sizeof self->window);
    cm_backoff_reset(&self->backoff);
}

static bool record_closed(cm_breaker_t *self, cm_status_t status, const cm_error_t *err,
                          bool failed, int64_t now_ms)
{
    window_add(self, failed, now_ms);
    if (failed && (self->failures >= (unsigned)self->open_after || window_tripped(self, now_ms))) {
        open_up(self, status, err, now_ms);
        return true;
    }
    return false;
}

bool cm_breaker_record(cm_breaker_t *self, cm_status_t status, const cm_error_t *err,
                       int64_t now_ms)
{
    /* A shutdown says nothing about the dependency; nor does what was under way when it opened. */
    if (status == CM_CANCELLED || self->state == CM_BREAKER_OPEN)
        return false;
    bool failed = status == CM_UNAVAILABLE || status == CM_MISCONFIGURED;
    if (!failed)
        self->failures = 0;
    else if (self->failures < UINT_MAX)
        self->failures++;
    if (self->state == CM_BREAKER_CLOSED)
        return record_closed(self, status, err, failed, now_ms);
    if (failed)
        open_up(self, status, err, now_ms);
    else
        close_down(self);
    return true;
}

bool cm_breaker_allows(cm_breaker_t *self, int64_t now_ms)
{
    if (self->state == CM_BREAKER_OPEN && now_ms >= self->next_probe_ms)
        self->state = CM_BREAKER_HALF_OPEN;
    return self->state != CM_BREAKER_OPEN;
}

int cm_breaker_wait_ms(const cm_breaker_t *self, int64_t now_ms)
{
    if (self->state != CM_BREAKER_OPEN || now_ms >= self->next_probe_ms)
        return 0;
    int64_t wait_ms = self->next_probe_ms - now_ms;
    return wait_ms > INT_MAX ? INT_MAX : (int)wait_ms;
}

const char *cm_breaker_state_name(cm_breaker_state_t state)
{
    static const char *const names[] = {"closed", "open", "half-open"};
    return (size_t)state < CM_LENGTH(names) ? names[state] : "unknown";
}
