#include "actors/push_brake.h"
#include "runtime/hash.h"

#include <string.h>

/* A window is a row of slices. A slice is closed when it is SLICE_PARTS-th of the window old; the
 * oldest goes when the window has passed it by and the others hold enough verdicts. */
enum { SLICES_MAX = 14, SLICE_PARTS = 12 };

typedef struct {
    int64_t begun_ms, last_ms;
    uint64_t judged, gone;
} slice_t;

typedef struct {
    slice_t slices[SLICES_MAX];
    unsigned count;
    bool is_begun;
    int64_t reach_ms; /* begun: where it begins, or the slice before it did, of which a part may be
                         of one fault with it */
    bool is_on;
    UT_hash_handle hh; /* in order of use, the oldest first */
    size_t key_len;
    char key[]; /* tenant, provider, application code */
} window_t;

struct cm_push_brakes {
    cm_push_brake_rule_t rule;
    window_t *windows;
    char *key; /* scratch */
    size_t key_cap;
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
    free(self->key);
    free(self);
    *self_p = NULL;
}

size_t cm_push_brakes_windows(const cm_push_brakes_t *self)
{
    return HASH_COUNT(self->windows);
}

/* ---- finding a window ----------------------------------------------------------------------- */

static size_t make_key(cm_push_brakes_t *self, const cm_push_brake_key_t *key)
{
    size_t tenant = strlen(key->tenant) + 1, provider = strlen(key->provider) + 1;
    size_t len = tenant + provider + key->application_code.len;
    if (len > self->key_cap) {
        self->key_cap = len * 2;
        self->key = realloc(self->key, self->key_cap);
        if (!self->key)
            abort();
    }
    memcpy(self->key, key->tenant, tenant);
    memcpy(self->key + tenant, key->provider, provider);
    if (key->application_code.len)
        memcpy(self->key + tenant + provider, key->application_code.ptr, key->application_code.len);
    return len;
}

static window_t *find(cm_push_brakes_t *self, const cm_push_brake_key_t *key)
{
    window_t *window = NULL;
    size_t len = make_key(self, key);
    HASH_FIND(hh, self->windows, self->key, len, window);
    return window;
}

static void keep(cm_push_brakes_t *self, window_t *window)
{
    HASH_ADD_KEYPTR(hh, self->windows, window->key, window->key_len, window);
}

/* The window of key, made when it is not there, as the one used last. */
static window_t *use(cm_push_brakes_t *self, const cm_push_brake_key_t *key)
{
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
    size_t len = make_key(self, key);
    window = calloc(1, sizeof *window + len);
    if (!window)
        abort();
    memcpy(window->key, self->key, len);
    window->key_len = len;
    keep(self, window);
    return window;
}

/* ---- a window ------------------------------------------------------------------------------- */

static cm_push_window_t sum_of(const window_t *window, int64_t now_ms)
{
    cm_push_window_t sum = {0};
    for (unsigned i = 0; i < window->count; i++) {
        sum.judged += window->slices[i].judged;
        sum.gone += window->slices[i].gone;
    }
    if (window->is_begun)
        sum.age_ms = now_ms - window->reach_ms;
    return sum;
}

static void drop_oldest(window_t *window)
{
    window->reach_ms = window->slices[0].begun_ms;
    window->count--;
    memmove(&window->slices[0], &window->slices[1], window->count * sizeof window->slices[0]);
}

static void merge_oldest(window_t *window)
{
    slice_t oldest = window->slices[0];
    int64_t reach_ms = window->reach_ms;
    drop_oldest(window);
    window->reach_ms = reach_ms;
    window->slices[0].begun_ms = oldest.begun_ms;
    window->slices[0].judged += oldest.judged;
    window->slices[0].gone += oldest.gone;
}

/* more: verdicts that are about to be counted. */
static void grow_older(const cm_push_brake_rule_t *rule, window_t *window, uint64_t more,
                       int64_t now_ms)
{
    while (window->count) {
        const slice_t *oldest = &window->slices[0];
        uint64_t others = sum_of(window, now_ms).judged - oldest->judged + more;
        bool is_past = now_ms - oldest->last_ms > rule->window_ms && others >= rule->min;
        if (!is_past && now_ms - oldest->begun_ms <= CM_PUSH_BRAKE_STRETCH_MAX_MS)
            return;
        drop_oldest(window);
    }
}

static slice_t *newest_slice(const cm_push_brake_rule_t *rule, window_t *window, int64_t now_ms)
{
    slice_t *newest = window->count ? &window->slices[window->count - 1] : NULL;
    if (newest && now_ms - newest->begun_ms < rule->window_ms / SLICE_PARTS)
        return newest;
    if (window->count == SLICES_MAX)
        merge_oldest(window);
    if (!window->is_begun)
        window->reach_ms = now_ms;
    window->is_begun = true;
    newest = &window->slices[window->count++];
    *newest = (slice_t){.begun_ms = now_ms};
    return newest;
}

/* ---- the interface -------------------------------------------------------------------------- */

bool cm_push_brakes_trips(cm_push_brakes_t *self, const cm_push_brake_key_t *key, uint64_t judged,
                          uint64_t gone, int64_t now_ms, cm_push_window_t *ret_window)
{
    window_t *window = find(self, key);
    *ret_window = (cm_push_window_t){0};
    if (window && window->is_on)
        return false;
    if (window) {
        grow_older(&self->rule, window, judged, now_ms);
        *ret_window = sum_of(window, now_ms);
    }
    ret_window->judged += judged;
    ret_window->gone += gone;
    return ret_window->judged >= self->rule.min &&
           ret_window->gone * 100 > ret_window->judged * self->rule.share_percent;
}

void cm_push_brakes_count(cm_push_brakes_t *self, const cm_push_brake_key_t *key, uint64_t judged,
                          uint64_t gone, int64_t now_ms)
{
    window_t *window = use(self, key);
    if (window->is_on)
        return;
    grow_older(&self->rule, window, judged, now_ms);
    slice_t *slice = newest_slice(&self->rule, window, now_ms);
    slice->last_ms = now_ms;
    slice->judged += judged;
    slice->gone += gone;
}

void cm_push_brakes_seen(cm_push_brakes_t *self, const cm_push_brake_key_t *key, bool is_on)
{
    window_t *window = is_on ? use(self, key) : find(self, key);
    if (!window || window->is_on == is_on)
        return;
    window->is_on = is_on;
    window->is_begun = false;
    window->count = 0;
}
