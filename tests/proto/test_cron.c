#include "proto/cron.h"
#include "runtime/cleanup.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

TestSuite(cron, .timeout = 20);

static int64_t moment(const char *text) /* "2026-03-28 01:30:00", UTC */
{
    struct tm tm = {0};
    if (!strptime(text, "%Y-%m-%d %H:%M:%S", &tm))
        cr_fatal("no time: %s", text);
    return timegm(&tm);
}

static const char *told(int64_t epoch_s, char text[32])
{
    struct tm tm;
    time_t time = epoch_s;
    strftime(text, 32, "%Y-%m-%d %H:%M:%S", gmtime_r(&time, &tm));
    return text;
}

static cm_cron_t parsed(const char *text)
{
    cm_cron_t cron;
    cm_error_t err = {0};
    if (cm_cron_parse(&cron, cm_str(text), &err) != CM_OK)
        cr_fatal("%s: %s", text, err.message);
    return cron;
}

static cm_zone_t *zone_of(const char *name)
{
    cm_zone_t *zone = NULL;
    cm_error_t err = {0};
    if (cm_zone_open(&zone, name, &err) != CM_OK)
        cr_fatal("%s: %s", name, err.message);
    return zone;
}

/* ---- times ---------------------------------------------------------------------------------- */

typedef struct {
    size_t vectors, differing;
} counts_t;

/* cron;zone;after;systemd's expressions;systemd;ours;why */
static void check_vector(char *line, unsigned number, counts_t *counts)
{
    char *field[7], *rest = line;
    line[strcspn(line, "\n")] = '\0';
    for (size_t i = 0; i < CM_LENGTH(field); i++) {
        field[i] = strsep(&rest, ";");
        cr_assert(field[i] != NULL, "line %u", number);
    }
    bool same = strcmp(field[5], "=") == 0;
    cr_assert(eq(int, *field[6] == '\0', same), "line %u: a difference has its reason", number);
    CM_CLEANUP(cm_zone_destroy) cm_zone_t *zone = zone_of(field[1]);
    cm_cron_t cron = parsed(field[0]);
    char text[32];
    int64_t next = cm_cron_next_s(&cron, zone, moment(field[2]));
    cr_expect(eq(str, (char *)told(next, text), field[same ? 4 : 5]), "line %u", number);
    cr_expect(eq(i64, cm_cron_last_s(&cron, zone, moment(field[2]), next), next), "line %u",
              number);
    counts->vectors++;
    counts->differing += !same;
}

Test(cron, every_recorded_time_is_found)
{
    FILE *file = fopen(CM_VECTORS, "re");
    cr_assert(file != NULL, "%s", CM_VECTORS);
    counts_t counts = {0};
    char *line = NULL;
    size_t size = 0;
    for (unsigned number = 1; getline(&line, &size, file) > 0; number++)
        if (line[0] != '#')
            check_vector(line, number, &counts);
    free(line);
    fclose(file);
    cr_expect(ge(sz, counts.vectors, 120));
    cr_expect(ge(sz, counts.differing, 10));
}

/* The rule told otherwise: walk through all seconds' minutes of some days around a change and write
 * down what is due. */
static size_t walk(const cm_cron_t *cron, const cm_zone_t *zone, int64_t from_s, int64_t until_s,
                   int64_t *ticks, size_t max)
{
    bool real = cron->hours == (1U << 24) - 1;
    size_t count = 0;
    int64_t shown = from_s - 86400 + cm_zone_offset_s(zone, from_s - 86400); /* up to before */
    for (int64_t now = from_s - 86400 + 60; now <= until_s; now += 60) {
        int64_t local = now + cm_zone_offset_s(zone, now);
        bool due = false;
        for (int64_t at = real ? local : shown + 60; at <= local; at += 60) {
            struct tm tm;
            time_t time = at;
            gmtime_r(&time, &tm);
            bool by_month = cron->days >> tm.tm_mday & 1,
                 by_week = cron->weekdays >> tm.tm_wday & 1;
            due |= (cron->minutes >> tm.tm_min & 1) && (cron->hours >> tm.tm_hour & 1) &&
                   (cron->months >> (tm.tm_mon + 1) & 1) &&
                   (cron->either_day ? by_month || by_week : by_month && by_week);
        }
        shown = local > shown ? local : shown;
        if (due && now > from_s && count < max)
            ticks[count++] = now;
    }
    return count;
}

Test(cron, agrees_with_a_walk_through_every_minute_around_each_change)
{
    static const char *const crons[] = {
        "30 2 * * *",    "*/7 * * * *", "0 */2 * * *",     "15 1,2,3 * * *",
        "59 0-22 * * *", "5 2 * * sun", "0,45 3 4 4,10 *", "*/10 1-2 1,8,25,29 * sun"};
    static const struct {
        const char *zone, *around;
    } changes[] = {{"Europe/Berlin", "2026-03-29 01:00:00"},
                   {"Europe/Berlin", "2026-10-25 01:00:00"},
                   {"America/New_York", "2026-03-08 07:00:00"},
                   {"America/New_York", "2026-11-01 06:00:00"},
                   {"Australia/Lord_Howe", "2026-10-03 15:30:00"},
                   {"Australia/Lord_Howe", "2026-04-04 15:00:00"},
                   {"Pacific/Apia", "2011-12-30 10:00:00"},
                   {"America/Caracas", "2016-05-01 07:00:00"}};
    enum { DAYS_S = 3 * 86400, TICKS = 2000 };
    int64_t *ticks = calloc(TICKS, sizeof *ticks);
    for (size_t z = 0; z < CM_LENGTH(changes); z++) {
        CM_CLEANUP(cm_zone_destroy) cm_zone_t *zone = zone_of(changes[z].zone);
        int64_t from = moment(changes[z].around) - DAYS_S, until = from + 2 * DAYS_S;
        for (size_t c = 0; c < CM_LENGTH(crons); c++) {
            cm_cron_t cron = parsed(crons[c]);
            size_t count = walk(&cron, zone, from, until, ticks, TICKS), found = 0;
            for (int64_t at = from; (at = cm_cron_next_s(&cron, zone, at)) <= until; found++)
                cr_assert(found < count && at == ticks[found], "%s in %s: %zu of %zu, %ld",
                          crons[c], changes[z].zone, found, count, (long)at);
            cr_expect(eq(sz, found, count), "%s in %s", crons[c], changes[z].zone);
        }
    }
    free(ticks);
}

Test(cron, seven_is_sunday)
{
    cm_cron_t seven = parsed("0 0 * * 7"), zero = parsed("0 0 * * 0"), name = parsed("0 0 * * Sun");
    cr_expect(eq(uint, seven.weekdays, 1));
    cr_expect(eq(uint, zero.weekdays, 1));
    cr_expect(eq(uint, name.weekdays, 1));
    cr_expect(eq(uint, parsed("0 0 * * 5-7").weekdays, 0x61));
    cr_expect(eq(uint, parsed("0 0 * * FRI-SUN").weekdays, 0x61));
    cr_expect(eq(uint, parsed("0 0 * * sun-sat").weekdays, 0x7f));
}

Test(cron, lists_ranges_and_steps_add_up)
{
    cm_cron_t cron = parsed(" 0-10/5,59\t*/6  1,31 feb-apr,DEC * ");
    cr_expect(eq(u64, cron.minutes, 1ull << 0 | 1ull << 5 | 1ull << 10 | 1ull << 59));
    cr_expect(eq(uint, cron.hours, 1u << 0 | 1u << 6 | 1u << 12 | 1u << 18));
    cr_expect(eq(uint, cron.days, 1u << 1 | 1u << 31));
    cr_expect(eq(uint, cron.months, 1u << 2 | 1u << 3 | 1u << 4 | 1u << 12));
    cr_expect(eq(uint, cron.weekdays, 0x7f));
}

Test(cron, a_day_field_that_begins_with_a_star_is_not_restricted)
{
    cr_expect(parsed("0 0 1 * mon").either_day);
    cr_expect(not(parsed("0 0 * * mon").either_day));
    cr_expect(not(parsed("0 0 1 * *").either_day));
    cr_expect(not(parsed("0 0 */2 * mon").either_day));
}

Test(cron, the_last_tick_before_a_time_is_found)
{
    CM_CLEANUP(cm_zone_destroy) cm_zone_t *zone = zone_of("Europe/Berlin");
    cm_cron_t cron = parsed("30 5 29 2 *");
    int64_t leap_day = moment("2024-02-29 04:30:00");
    cr_expect(eq(i64, cm_cron_last_s(&cron, zone, 0, moment("2026-06-01 00:00:00")), leap_day));
    cr_expect(eq(i64, cm_cron_last_s(&cron, zone, leap_day - 1, leap_day), leap_day));
    cr_expect(eq(i64, cm_cron_last_s(&cron, zone, leap_day, moment("2026-06-01 00:00:00")),
                 CM_CRON_NEVER));
    cr_expect(eq(i64, cm_cron_last_s(&cron, zone, leap_day, leap_day), CM_CRON_NEVER));
}

Test(cron, there_is_no_tick_after_the_last_year)
{
    CM_CLEANUP(cm_zone_destroy) cm_zone_t *zone = zone_of("UTC");
    cm_cron_t cron = parsed("0 0 1 1 *");
    cr_expect(eq(i64, cm_cron_next_s(&cron, zone, CM_CRON_LAST_S - 1), CM_CRON_NEVER));
    cr_expect(eq(i64, cm_cron_next_s(&cron, zone, INT64_MAX), CM_CRON_NEVER));
    cr_expect(eq(i64, cm_cron_next_s(&cron, zone, INT64_MIN), 0));
    cr_expect(
        eq(i64, cm_cron_last_s(&cron, zone, INT64_MIN, INT64_MAX), moment("9999-01-01 00:00:00")));
}

/* ---- refused -------------------------------------------------------------------------------- */

Test(cron, what_is_wrong_is_told_by_field_and_what_it_takes)
{
    static const struct {
        const char *text, *told;
    } cases[] = {
        {"", "expected five fields"},
        {"* * * *", "expected five fields"},
        {"* * * * * *", "expected five fields"},
        {"@reboot", "expected five fields"},
        {"@daily x", "expected five fields"},
        {"60 * * * *", "minute: a value is 0 to 59"},
        {"-1 * * * *", "minute: a value is 0 to 59"},
        {"1, * * * *", "minute: a value is 0 to 59"},
        {",1 * * * *", "minute: a value is 0 to 59"},
        {"1-99 * * * *", "minute: a value is 0 to 59"},
        {"1- * * * *", "minute: a value is 0 to 59"},
        {"** * * * *", "minute: a value is 0 to 59"},
        {"1x * * * *", "minute: a value is 0 to 59"},
        {"0000001 * * * *", "minute: a value is 0 to 59"},
        {"5-1 * * * *", "minute: a range goes from the lower"},
        {"5/2 * * * *", "minute: a step stands behind * or a range"},
        {"*/0 * * * *", "minute: a step is 1 to 59"},
        {"*/60 * * * *", "minute: a step is 1 to 59"},
        {"*/ * * * *", "minute: a step is 1 to 59"},
        {"* 24 * * *", "hour: a value is 0 to 23"},
        {"* mon * * *", "hour: a value is 0 to 23"},
        {"* * 0 * *", "day of month: a value is 1 to 31"},
        {"* * L * *", "day of month: a value is 1 to 31"},
        {"* * * 13 *", "month: a value is 1 to 12 or jan to dec"},
        {"* * * janu *", "month: a value is 1 to 12 or jan to dec"},
        {"* * * dec-jan *", "month: a range goes from the lower"},
        {"* * * * 8", "day of week: a value is 0 to 7 or sun to sat"},
        {"* * * * sat-mon", "day of week: a range goes from the lower"},
        {"0 0 31 2 *", "day of month: no month given has such a day"},
        {"0 0 30,31 feb */2", "day of month: no month given has such a day"},
        {"0 0 31 4,6,9,11 *", "day of month: no month given has such a day"},
    };
    for (size_t i = 0; i < CM_LENGTH(cases); i++) {
        cm_cron_t cron;
        cm_error_t err = {0};
        cr_expect(eq(int, cm_cron_parse(&cron, cm_str(cases[i].text), &err), CM_MISCONFIGURED),
                  "%s", cases[i].text);
        cr_expect(eq(str, err.code, "bad-cron"));
        cr_expect(strncmp(err.message, cases[i].told, strlen(cases[i].told)) == 0, "%s: %s",
                  cases[i].text, err.message);
    }
}

Test(cron, an_impossible_day_of_month_is_fine_beside_a_day_of_week)
{
    CM_CLEANUP(cm_zone_destroy) cm_zone_t *zone = zone_of("UTC");
    cm_cron_t cron = parsed("0 0 31 2 mon");
    cr_expect(eq(i64, cm_cron_next_s(&cron, zone, moment("2026-01-01 00:00:00")),
                 moment("2026-02-02 00:00:00")));
}

Test(cron, a_text_too_long_is_refused)
{
    char text[1024];
    cm_cron_t cron;
    memset(text, ' ', sizeof text);
    memcpy(text, "* * * * *", 9);
    cr_expect(eq(int, cm_cron_parse(&cron, (cm_str_t){text, 512}, NULL), CM_OK));
    cr_expect(eq(int, cm_cron_parse(&cron, (cm_str_t){text, 513}, NULL), CM_MISCONFIGURED));
    cr_expect(eq(int, cm_cron_parse(&cron, CM_STR_NONE, NULL), CM_MISCONFIGURED));
}
