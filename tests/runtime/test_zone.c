#include "runtime/cleanup.h"
#include "runtime/zone.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BERLIN_SPRING = 1774746000, BERLIN_AUTUMN = 1792890000 }; /* 2026, 01:00 UTC both */

static cm_zone_t *open_zone(const char *name)
{
    cm_zone_t *zone = NULL;
    cm_error_t err = {0};
    if (cm_zone_open(&zone, name, &err) != CM_OK)
        cr_fatal("%s: %s", name, err.message);
    return zone;
}

Test(zone, knows_the_offset_on_either_side_of_a_change, .timeout = 5)
{
    CM_CLEANUP(cm_zone_destroy) cm_zone_t *zone = open_zone("Europe/Berlin");
    cr_expect(eq(str, cm_zone_name(zone), "Europe/Berlin"));
    cr_expect(eq(i64, cm_zone_offset_s(zone, BERLIN_SPRING - 1), 3600));
    cr_expect(eq(i64, cm_zone_offset_s(zone, BERLIN_SPRING), 7200));
    cr_expect(eq(i64, cm_zone_offset_s(zone, BERLIN_AUTUMN - 1), 7200));
    cr_expect(eq(i64, cm_zone_offset_s(zone, BERLIN_AUTUMN), 3600));
}

Test(zone, finds_the_first_change_after_a_time_up_to_another, .timeout = 5)
{
    CM_CLEANUP(cm_zone_destroy) cm_zone_t *zone = open_zone("Europe/Berlin");
    cr_expect(
        eq(i64, cm_zone_next_change_s(zone, BERLIN_SPRING - 1, BERLIN_SPRING), BERLIN_SPRING));
    cr_expect(
        eq(i64, cm_zone_next_change_s(zone, BERLIN_SPRING - 86400, BERLIN_AUTUMN), BERLIN_SPRING));
    cr_expect(
        eq(i64, cm_zone_next_change_s(zone, BERLIN_SPRING, INT64_C(4102444800)), BERLIN_AUTUMN));
    cr_expect(
        eq(i64, cm_zone_next_change_s(zone, BERLIN_SPRING, BERLIN_AUTUMN - 1), CM_ZONE_NO_CHANGE));
    cr_expect(
        eq(i64, cm_zone_next_change_s(zone, BERLIN_SPRING, BERLIN_SPRING), CM_ZONE_NO_CHANGE));
}

Test(zone, follows_the_rules_beyond_what_the_file_lists, .timeout = 5)
{
    CM_CLEANUP(cm_zone_destroy) cm_zone_t *zone = open_zone("Europe/Berlin");
    cr_expect(eq(i64, cm_zone_offset_s(zone, INT64_C(4089000000)), 7200)); /* July 2099 */
    cr_expect(eq(i64, cm_zone_offset_s(zone, INT64_C(4103000000)), 3600)); /* January 2100 */
}

Test(zone, utc_never_changes, .timeout = 5)
{
    CM_CLEANUP(cm_zone_destroy) cm_zone_t *zone = open_zone("UTC");
    cr_expect(eq(i64, cm_zone_offset_s(zone, BERLIN_SPRING), 0));
    cr_expect(eq(i64, cm_zone_next_change_s(zone, 0, INT64_C(253402300799)), CM_ZONE_NO_CHANGE));
}

Test(zone, a_name_that_is_none_is_refused, .timeout = 5)
{
    static const char *const names[] = {
        "",
        "Berlin",
        "Europe/Nowhere",
        "europe/berlin",
        "../../etc/passwd",
        "/etc/group",
        "+02:00",
        "CET-1CEST",
        "Europe/",
        "Europe/../Europe/Berlin",
        "leapseconds",
        "UTC+2",
        "right/UTC",
        "Europe/Ber3",
        "Europe/Berlin ",
        "Europe/Berlin/Berlin/Berlin/Berlin/Berlin/Berlin/Berlin/Berlin/Berlin"};
    for (size_t i = 0; i < CM_LENGTH(names); i++) {
        cm_zone_t *zone = NULL;
        cm_error_t err = {0};
        cr_expect(eq(int, cm_zone_open(&zone, names[i], &err), CM_MISCONFIGURED), "%s", names[i]);
        cr_expect(eq(str, err.code, "bad-time-zone"), "%s", names[i]);
        cr_expect(eq(ptr, zone, NULL));
    }
}

Test(zone, leaves_the_zone_of_the_process_alone, .timeout = 5)
{
    setenv("TZ", "America/New_York", 1);
    tzset();
    CM_CLEANUP(cm_zone_destroy) cm_zone_t *zone = open_zone("Europe/Berlin");
    cr_expect(eq(i64, cm_zone_offset_s(zone, BERLIN_SPRING), 7200));
    cr_expect(eq(str, getenv("TZ"), "America/New_York"));
    cr_expect(eq(long, timezone, 5 * 3600));
}
