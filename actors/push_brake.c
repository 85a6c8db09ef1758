#include "actors/push_brake.h"
#include "runtime/hash.h"

#include <assert.h>
#include <string.h>

typedef struct {     /* the run with the greatest excess; with no excess there is none */
    uint64_t excess; /* of gone ones above the share, in hundredths of a verdict */
    uint64_t judged, gone;
    int64_t begun_ms;
} run_t;

typedef struct {
    run_t run;
    bool is_on;
    UT_hash_handle hh; /* in order of use, the oldest first */
    size_t key_len;
    char key[]; /* tenant, provider, application code */
} window_t;

struct cm_push_brakes {
    cm_push_brake_rule_t rule;
    window_t *windows;
};

cm_push_brakes_t *cm_push_brakes_new(const cm_push_brake_rule_t *rule)
{
    cm_push_brakes_t *self = calloc(1, sizeof *self);
    if (!self)
        abort();
    self->rule = *rule;
    return self;
}

void cm_push_brakes_destroy(cm_push_brakes_t **self_p)
{
    cm_push_brakes_t *self = *self_p;
    window_t *item, *next;
    if (!self)
        return;
    HASH_ITER(hh, self->windows, item, next)
    {
        HASH_DEL(self->windows, item);
        free(item);
    }
    free(self);
    *self_p = NULL;
}

size_t cm_push_brakes_windows(const cm_push_brakes_t *self)
{
    return HASH_COUNT(self->windows);
}

/* ---- finding a run -------------------------------------------------------------------------- */

enum {
    KEY_MAX = 1024
}; /* above the limits of its parts: proto/device_event.h, proto/tenant_id.h */

static size_t make_key(const cm_push_brake_key_t *key, char bytes[KEY_MAX])
{
    size_t tenant = strlen(key->tenant) + 1, provider = strlen(key->provider) + 1;
    size_t len = tenant + provider + key->application_code.len;
    assert(len <= KEY_MAX);
    memcpy(bytes, key->tenant, tenant);
    memcpy(bytes + tenant, key->provider, provider);
    if (key->application_code.len)
        memcpy(bytes + tenant + provider, key->application_code.ptr, key->application_code.len);
    return len;
}

static window_t *find(const cm_push_brakes_t *self, const cm_push_brake_key_t *key)
{
    char bytes[KEY_MAX];
    window_t *window = NULL;
    size_t len = make_key(key, bytes);
    HASH_FIND(hh, self->windows, bytes, len, window);
    return window;
}

static void keep(cm_push_brakes_t *self, window_t *window)
{
    HASH_ADD_KEYPTR(hh, self->windows, window->key, window->key_len, window);
}

/* That of key, made when it is not there, as the one used last. */
static window_t *use(cm_push_brakes_t *self, const cm_push_brake_key_t *key)
{
    char bytes[KEY_MAX];
    window_t *window = find(self, key);
    if (window) {
        HASH_DEL(self->windows, window);
        keep(self, window);
        return window;
    }
    if (HASH_COUNT(self->windows) >= self->rule.windows_max && self->windows) {
        window_t *oldest = self->windows;
        HASH_DEL(self->windows, oldest);
        free(oldest);
    }
    size_t len = make_key(key, bytes);
    window = calloc(1, sizeof *window + len);
    if (!window)
        abort();
    memcpy(window->key, bytes, len);
    window->key_len = len;
    keep(self, window);
    return window;
}

/* ---- a run ---------------------------------------------------------------------------------- */

/* One verdict more; true when it is the one that puts the brake on. */
static bool take(const cm_push_brake_rule_t *rule, run_t *run, bool is_gone, int64_t now_ms)
{
    uint64_t rise = is_gone ? CM_PUSH_BRAKE_OFF_PERCENT - rule->share_percent : 0;
    uint64_t fall = is_gone ? 0 : rule->share_percent;
    if (run->excess && now_ms - run->begun_ms > rule->window_ms)
        run->excess = 0;
    if (run->excess + rise <= fall) {
        *run = (run_t){0};
        return false;
    }
    if (!run->excess)
        *run = (run_t){.begun_ms = now_ms};
    run->excess += rise - fall;
    run->judged++;
    run->gone += is_gone;
    return run->excess >= rule->min * (CM_PUSH_BRAKE_OFF_PERCENT - rule->share_percent);
}

/* ---- the interface -------------------------------------------------------------------------- */

bool cm_push_brakes_trips(const cm_push_brakes_t *self, const cm_push_brake_key_t *key,
                          const bool *gone, size_t count, int64_t now_ms, cm_push_run_t *ret_run)
{
    const window_t *window = find(self, key);
    run_t run = window ? window->run : (run_t){0};
    bool trips = false;
    if (!window || !window->is_on)
        for (size_t i = 0; i < count && !trips; i++)
            trips = take(&self->rule, &run, gone[i], now_ms);
    *ret_run = (cm_push_run_t){run.judged, run.gone, run.judged ? now_ms - run.begun_ms : 0};
    return trips;
}

void cm_push_brakes_count(cm_push_brakes_t *self, const cm_push_brake_key_t *key, const bool *gone,
                          size_t count, int64_t now_ms)
{
    window_t *window = use(self, key);
    for (size_t i = 0; i < count && !window->is_on; i++)
        take(&self->rule, &window->run, gone[i], now_ms);
}

void cm_push_brakes_seen(cm_push_brakes_t *self, const cm_push_brake_key_t *key, bool is_on)
{
    window_t *window = is_on ? use(self, key) : find(self, key);
    if (!window || window->is_on == is_on)
        return;
    window->is_on = is_on;
    window->run = (run_t){0};
}
