/* zone - the rules of a time zone: how far its clocks are from UTC, and when that changes.
 *
 * Read once, from the system's zoneinfo, into an object of its own: the process-wide zone of
 * setenv() and tzset() is neither read nor changed, so that threads do not disturb each other.
 * Never changed afterwards, may be read by several threads. GLib's GTimeZone does the work: it
 * follows the rules beyond the last change listed in the file, for some centuries.
 * Source: RFC 8536 (TZif), the tz database.
 */
#ifndef CM_RUNTIME_ZONE_H
#define CM_RUNTIME_ZONE_H
#include "runtime/status.h"

#include <stdint.h>

#define CM_ZONE_NO_CHANGE INT64_MAX

typedef struct cm_zone cm_zone_t;

/* name: "UTC", or one of the tz database with a slash, as "Europe/Berlin", letters as they stand
 * there. CM_MISCONFIGURED / "bad-time-zone": another form, or the system has no such zone (Debian
 * keeps them in the package tzdata). */
cm_status_t cm_zone_open(cm_zone_t **ret_zone, const char *name, cm_error_t *err);
void cm_zone_destroy(cm_zone_t **self_p);
const char *cm_zone_name(const cm_zone_t *self); /* lives as long as self */

/* Seconds east of UTC at a time, in seconds since 1970 UTC. */
int64_t cm_zone_offset_s(const cm_zone_t *self, int64_t epoch_s);
/* The first time t, after < t <= until, at which the rules change (what the clocks show may stay);
 * CM_ZONE_NO_CHANGE: there is none. */
int64_t cm_zone_next_change_s(const cm_zone_t *self, int64_t after_s, int64_t until_s);
#endif
