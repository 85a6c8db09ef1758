/* cron - when something is due: the five fields of a crontab, read by the clocks of a time zone.
 *
 *     minute        0-59
 *     hour          0-23
 *     day of month  1-31
 *     month         1-12 or jan-dec
 *     day of week   0-7 or sun-sat; 0 and 7 are Sunday
 *
 * A field is *, a value, a range a-b, each range or * with a step /n, or several of these joined by
 * commas. For all five: @hourly @daily @weekly @monthly @yearly. When both day fields are
 * restricted, a day matches by either; a field that begins with * is not, and then both must match.
 *
 * When clocks change: with an hour field that names hours, a local time that does not exist is due
 * at the moment of the jump, and one that exists twice is due at the first; several that fall on
 * one moment are due once. With every hour named (* or 0-23) each minute that the clocks really
 * show counts, those shown twice twice, so that an hourly job runs each real hour.
 * Rule: POSIX, crontab; crontab(5) for names, steps and the leading *.
 */
#ifndef CM_PROTO_CRON_H
#define CM_PROTO_CRON_H
#include "runtime/status.h"
#include "runtime/str.h"
#include "runtime/zone.h"

typedef struct {      /* a set bit is a value that matches; made by cm_cron_parse() alone */
    uint64_t minutes; /* 0-59 */
    uint32_t hours, days, months; /* 0-23, 1-31, 1-12 */
    uint32_t weekdays;            /* 0-6, from Sunday */
    bool either_day;              /* days or weekdays, else both */
} cm_cron_t;

#define CM_CRON_NEVER  INT64_MAX
#define CM_CRON_LAST_S INT64_C(253402214400) /* 9999-12-31 UTC: there is no tick from here on */

/* CM_MISCONFIGURED / "bad-cron": the message names the field and what it takes. Days that no month
 * given has (31 in February) are refused: whatever is accepted is due again and again. */
cm_status_t cm_cron_parse(cm_cron_t *ret_cron, cm_str_t text, cm_error_t *err);

/* The first tick after a time, in seconds since 1970 UTC; times before 1970 count as its begin.
 * CM_CRON_NEVER only when it would be at CM_CRON_LAST_S or later. */
int64_t cm_cron_next_s(const cm_cron_t *self, const cm_zone_t *zone, int64_t after_s);
/* The last tick t, after < t <= until; CM_CRON_NEVER: there is none. Costs some 40 times next. */
int64_t cm_cron_last_s(const cm_cron_t *self, const cm_zone_t *zone, int64_t after_s,
                       int64_t until_s);
#endif
