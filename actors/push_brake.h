/* push_brake - when so many verdicts say that a token is gone that the fault must be ours. Pure: no
 * I/O, time is an argument.
 *
 * A wrong credential makes a provider call every token of an application gone. So verdicts are
 * counted in a sliding window for each (tenant, application, provider), and the brake is to go on
 * when gone ones are more than share_percent of those that say gone or valid. The others
 * (throttled, misconfigured, ...) say nothing of tokens and are not counted.
 *
 * The window is the last window_ms (give or take a twelfth), or the last `min` verdicts when those
 * are older, up to a day: so an application with a few verdicts an hour is guarded too. Below min
 * verdicts nothing trips, as a share of few says little: at 25 % gone, 100 verdicts have more than
 * 50 gone once in ten million times. An application with fewer than min verdicts a day is not
 * guarded.
 *
 * Of at most windows_max windows, the one not used for longest is forgotten; so is everything with
 * a restart. A brake is then later by what was forgotten, and takes back all the same: what was
 * applied is noted in the database (schema/token_status_store.h). While a brake is on nothing is
 * counted, and when it is off again counting begins anew, so that what it held does not put it on
 * again.
 */
#ifndef CM_ACTORS_PUSH_BRAKE_H
#define CM_ACTORS_PUSH_BRAKE_H
#include "runtime/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CM_PUSH_BRAKE_WINDOWS_MAX = 20000,           /* about 400 bytes each */
    CM_PUSH_BRAKE_STRETCH_MAX_MS = 24 * 3600000, /* token_status_sql.c notes for longer */
    CM_PUSH_BRAKE_OFF_PERCENT = 100              /* a share never exceeds it: no brake */
};

typedef struct {
    int64_t window_ms;
    unsigned share_percent;
    uint64_t min;
    size_t windows_max;
} cm_push_brake_rule_t;

typedef struct {
    const char *tenant; /* canonical id */
    cm_str_t application_code;
    const char *provider; /* "" where the sender named none */
} cm_push_brake_key_t;

typedef struct {
    uint64_t judged, gone; /* in the window */
    int64_t age_ms;        /* of all that a fault may have begun with and is not forgotten */
} cm_push_window_t;

typedef struct cm_push_brakes cm_push_brakes_t;

cm_push_brakes_t *cm_push_brakes_new(const cm_push_brake_rule_t *rule);
void cm_push_brakes_destroy(cm_push_brakes_t **self_p);

/* Would the brake go on with so many verdicts more? Counts nothing, as they may fail to be written.
 * now_ms: monotonic, never going back. ret_window: with these. */
bool cm_push_brakes_trips(cm_push_brakes_t *self, const cm_push_brake_key_t *key, uint64_t judged,
                          uint64_t gone, int64_t now_ms, cm_push_window_t *ret_window);
/* They were written: count them. */
void cm_push_brakes_count(cm_push_brakes_t *self, const cm_push_brake_key_t *key, uint64_t judged,
                          uint64_t gone, int64_t now_ms);
/* The database says whether the brake is on: it may have been put on by another instance, or taken
 * off by an operator. */
void cm_push_brakes_seen(cm_push_brakes_t *self, const cm_push_brake_key_t *key, bool is_on);

size_t cm_push_brakes_windows(const cm_push_brakes_t *self); /* kept now */
#endif
