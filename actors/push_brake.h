/* push_brake - when so many verdicts say that a token is gone that the fault must be ours. Pure: no
 * I/O, time is an argument.
 *
 * A wrong credential makes a provider call every token of an application gone. So verdicts are
 * watched for each (tenant, application, provider): the brake is to go on when in some run of them
 * that ends now, and began within window_ms, those that say gone exceed share_percent by as much as
 * min of them in a row do: min when all are gone, twice as many at 75 % gone, ten times at 55 %
 * (with a share of 50). Verdicts that say neither gone nor valid say nothing of tokens and are not
 * counted.
 *
 * Every run is looked at, not one window of fixed length: a fault is then noticed after min
 * verdicts whatever went well before it. What is kept of all runs is the one with the greatest
 * excess, one number and its beginning (Page's cumulative sum): it falls back to nothing as long as
 * fewer are gone than the share, which is why ordinary traffic cannot add up. At 25 % gone, what
 * 100 in a row exceed comes about as often as heads 160 times in a row.
 *
 * An application with fewer than min verdicts in window_ms is not guarded. Of more than windows_max
 * runs the one not used for longest is forgotten; so are all with a restart. A brake is then later,
 * and takes back all the same: what was applied is noted in the database
 * (schema/token_status_store.h). While a brake is on nothing is counted, and when it is off again
 * counting begins anew, so that what it held does not put it on again.
 */
#ifndef CM_ACTORS_PUSH_BRAKE_H
#define CM_ACTORS_PUSH_BRAKE_H
#include "runtime/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CM_PUSH_BRAKE_WINDOWS_MAX = 50000, /* about 200 bytes each */
    CM_PUSH_BRAKE_OFF_PERCENT = 100    /* a share never exceeds it: no brake */
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
    uint64_t judged, gone;
    int64_t age_ms; /* of its beginning */
} cm_push_run_t;

typedef struct cm_push_brakes cm_push_brakes_t;

cm_push_brakes_t *cm_push_brakes_new(const cm_push_brake_rule_t *rule);
void cm_push_brakes_destroy(cm_push_brakes_t **self_p);

/* Would the brake go on with these verdicts more, in this order? Counts nothing, as they may fail
 * to be written. now_ms: monotonic, never going back. ret_run: the run with them. */
bool cm_push_brakes_trips(const cm_push_brakes_t *self, const cm_push_brake_key_t *key,
                          const bool *gone, size_t count, int64_t now_ms, cm_push_run_t *ret_run);
/* They were written: count them. */
void cm_push_brakes_count(cm_push_brakes_t *self, const cm_push_brake_key_t *key, const bool *gone,
                          size_t count, int64_t now_ms);
/* The database says whether the brake is on: it may have been put on by another instance, or taken
 * off by an operator. */
void cm_push_brakes_seen(cm_push_brakes_t *self, const cm_push_brake_key_t *key, bool is_on);

size_t cm_push_brakes_windows(const cm_push_brakes_t *self); /* runs kept now */
#endif
