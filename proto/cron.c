#include "proto/cron.h"
#include "runtime/cleanup.h"

#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { TEXT_MAX = 512, MINUTE = 60, HOUR = 3600, DAY = 86400, CYCLE_DAYS = 146097 };

/* ---- reading -------------------------------------------------------------------------------- */

typedef struct {
    const char *name, *takes;
    int first, last;
    const char *words; /* three letters each, for first and what follows it */
} field_t;

enum { FIELDS = 5 };
static const field_t fields[FIELDS] = {
    {"minute", "0 to 59", 0, 59, ""},
    {"hour", "0 to 23", 0, 23, ""},
    {"day of month", "1 to 31", 1, 31, ""},
    {"month", "1 to 12 or jan to dec", 1, 12, "janfebmaraprmayjunjulaugsepoctnovdec"},
    {"day of week", "0 to 7 or sun to sat", 0, 7, "sunmontuewedthufrisat"},
};

static cm_status_t refuse(cm_error_t *err, const field_t *field, const char *what)
{
    return cm_error_set(err, CM_MISCONFIGURED, "bad-cron", "%s: %s", field->name, what);
}

static cm_status_t refuse_value(cm_error_t *err, const field_t *field)
{
    return cm_error_set(err, CM_MISCONFIGURED, "bad-cron",
                        "%s: a value is %s; write *, 1, 1-5, 1-5/2, */2 or several with commas",
                        field->name, field->takes);
}

/* Up to three digits; false when there is none, or a fourth. */
static bool read_number(cm_str_t *rest, int *ret_value)
{
    size_t digits = 0;
    int value = 0;
    while (digits < rest->len && digits < 4 && isdigit((unsigned char)rest->ptr[digits]))
        value = value * 10 + (rest->ptr[digits++] - '0');
    *rest = (cm_str_t){rest->ptr + digits, rest->len - digits};
    *ret_value = value;
    return digits > 0 && digits < 4;
}

static bool read_value(const field_t *field, cm_str_t *rest, int *ret_value)
{
    if (read_number(rest, ret_value))
        return *ret_value >= field->first && *ret_value <= field->last;
    for (int i = 0; rest->len >= 3 && field->words[3 * i]; i++)
        if (strncasecmp(field->words + 3 * i, rest->ptr, 3) == 0) {
            *rest = (cm_str_t){rest->ptr + 3, rest->len - 3};
            *ret_value = field->first + i;
            return true;
        }
    return false;
}

static bool skip(cm_str_t *rest, char c)
{
    if (rest->len == 0 || *rest->ptr != c)
        return false;
    *rest = (cm_str_t){rest->ptr + 1, rest->len - 1};
    return true;
}

/* One part of a list, up to its comma or the end of the field. */
static cm_status_t read_part(const field_t *field, cm_str_t *rest, uint64_t *bits, cm_error_t *err)
{
    int first = field->first, last = field->last, step = 1;
    bool is_range = skip(rest, '*');
    if (!is_range) {
        if (!read_value(field, rest, &first))
            return refuse_value(err, field);
        last = first;
        is_range = skip(rest, '-');
        if (is_range && !read_value(field, rest, &last))
            return refuse_value(err, field);
        if (last == 0 && first > 0 && field->last == 7)
            last = 7; /* fri-sun */
        if (last < first)
            return refuse(err, field, "a range goes from the lower value to the higher");
    }
    if (skip(rest, '/')) {
        if (!is_range)
            return refuse(err, field, "a step stands behind * or a range");
        if (!read_number(rest, &step) || step < 1 || step > field->last)
            return cm_error_set(err, CM_MISCONFIGURED, "bad-cron", "%s: a step is 1 to %d",
                                field->name, field->last);
    }
    for (int value = first; value <= last; value += step)
        *bits |= UINT64_C(1) << value;
    return CM_OK;
}

static cm_status_t read_field(const field_t *field, cm_str_t text, uint64_t *ret_bits,
                              cm_error_t *err)
{
    *ret_bits = 0;
    do {
        cm_status_t status = read_part(field, &text, ret_bits, err);
        if (status != CM_OK)
            return status;
    } while (skip(&text, ','));
    return text.len ? refuse_value(err, field) : CM_OK;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* Cut text at blanks; the number of words, FIELDS + 1 when there are more. */
static int split(cm_str_t text, cm_str_t words[FIELDS])
{
    int count = 0;
    for (size_t i = 0; i < text.len;) {
        size_t start = i;
        while (i < text.len && !is_blank(text.ptr[i]))
            i++;
        if (i > start && count == FIELDS)
            return FIELDS + 1;
        if (i > start)
            words[count++] = (cm_str_t){text.ptr + start, i - start};
        i += i < text.len;
    }
    return count;
}

static cm_str_t replace_nickname(cm_str_t text)
{
    static const char *const names[][2] = {{"@hourly", "0 * * * *"},
                                           {"@daily", "0 0 * * *"},
                                           {"@weekly", "0 0 * * 0"},
                                           {"@monthly", "0 0 1 * *"},
                                           {"@yearly", "0 0 1 1 *"}};
    for (size_t i = 0; i < CM_LENGTH(names); i++)
        if (cm_str_is(text, names[i][0]))
            return cm_str(names[i][1]);
    return text;
}

/* Does any of the months have any of the days? */
static bool is_possible(const cm_cron_t *cron)
{
    static const int lengths[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    for (int month = 1; month <= 12; month++)
        if (cron->months >> month & 1 &&
            cron->days & ((UINT64_C(1) << (lengths[month - 1] + 1)) - 1))
            return true;
    return false;
}

cm_status_t cm_cron_parse(cm_cron_t *ret_cron, cm_str_t text, cm_error_t *err)
{
    cm_str_t words[FIELDS];
    uint64_t bits[FIELDS];
    int count = text.len <= TEXT_MAX ? split(text, words) : 0;
    if (count == 1 && words[0].ptr[0] == '@')
        count = split(replace_nickname(words[0]), words);
    if (count != FIELDS)
        return cm_error_set(err, CM_MISCONFIGURED, "bad-cron",
                            "expected five fields: minute hour day-of-month month day-of-week, or "
                            "@hourly, @daily, @weekly, @monthly, @yearly");
    for (int i = 0; i < FIELDS; i++) {
        cm_status_t status = read_field(&fields[i], words[i], &bits[i], err);
        if (status != CM_OK)
            return status;
    }
    *ret_cron = (cm_cron_t){
        .minutes = bits[0],
        .hours = (uint32_t)bits[1],
        .days = (uint32_t)bits[2],
        .months = (uint32_t)bits[3],
        .weekdays = (uint32_t)((bits[4] | bits[4] >> 7) & 0x7f), /* 7 is Sunday, too */
        .either_day = *words[2].ptr != '*' && *words[4].ptr != '*',
    };
    if (!ret_cron->either_day && !is_possible(ret_cron))
        return refuse(err, &fields[2], "no month given has such a day");
    return CM_OK;
}

/* ---- local times ---------------------------------------------------------------------------- */

/* Year, month, day of a day since 1970 (Hinnant, "chrono-compatible low-level date algorithms"). */
static void civil(int64_t day, int *ret_month, int *ret_day)
{
    int64_t shifted = day + 719468; /* since 0000-03-01 */
    int64_t in_era = ((shifted % CYCLE_DAYS) + CYCLE_DAYS) % CYCLE_DAYS;
    int64_t year = (in_era - in_era / 1460 + in_era / 36524 - in_era / 146096) / 365;
    int64_t in_year = in_era - (365 * year + year / 4 - year / 100);
    int64_t month = (5 * in_year + 2) / 153; /* from March */
    *ret_day = (int)(in_year - (153 * month + 2) / 5 + 1);
    *ret_month = (int)(month < 10 ? month + 3 : month - 9);
}

static bool day_matches(const cm_cron_t *cron, int64_t day)
{
    int month, of_month, of_week = (int)((day % 7 + 7 + 4) % 7); /* 1970-01-01 was a Thursday */
    civil(day, &month, &of_month);
    if (!(cron->months >> month & 1))
        return false;
    bool by_month = cron->days >> of_month & 1, by_week = cron->weekdays >> of_week & 1;
    return cron->either_day ? by_month || by_week : by_month && by_week;
}

/* The first minute of a day, from `from` on, that matches; -1: none. */
static int minute_of_day(const cm_cron_t *cron, int from)
{
    for (int hour = from / 60; hour < 24; hour++) {
        if (!(cron->hours >> hour & 1))
            continue;
        int first = hour == from / 60 ? from % 60 : 0;
        uint64_t minutes = cron->minutes >> first;
        if (minutes)
            return hour * 60 + first + __builtin_ctzll(minutes);
    }
    return -1;
}

static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

/* The first local time that matches, at `from` or later. Calendars repeat after 400 years, days of
 * the week included, and whatever was parsed matches some day of these. */
static int64_t match(const cm_cron_t *cron, int64_t from_s)
{
    int64_t minute = floor_div(from_s + MINUTE - 1, MINUTE);
    int64_t day = floor_div(minute, 24 * 60);
    int from = (int)(minute - day * 24 * 60);
    for (int64_t end = day + CYCLE_DAYS + 1; day <= end; day++, from = 0) {
        int found = day_matches(cron, day) ? minute_of_day(cron, from) : -1;
        if (found >= 0)
            return day * DAY + found * MINUTE;
    }
    assert(false); /* not one that cm_cron_parse() made */
    return CM_CRON_LAST_S;
}

/* ---- real times ----------------------------------------------------------------------------- */

/* The latest time that the clocks have shown up to a moment. */
static int64_t latest_shown(const cm_zone_t *zone, int64_t epoch_s)
{
    int64_t latest = INT64_MIN;
    for (int64_t from = epoch_s - 2 * DAY; from != CM_ZONE_NO_CHANGE;) {
        int64_t change = cm_zone_next_change_s(zone, from, epoch_s);
        int64_t end = change == CM_ZONE_NO_CHANGE ? epoch_s : change - 1;
        int64_t shown = end + cm_zone_offset_s(zone, from);
        latest = shown > latest ? shown : latest;
        from = change;
    }
    return latest;
}

/* The first moment at which the clocks show a local time or one beyond it. */
static int64_t first_shown(const cm_zone_t *zone, int64_t local_s)
{
    int64_t from = local_s - 2 * DAY;
    for (;;) {
        int64_t change = cm_zone_next_change_s(zone, from, local_s + 2 * DAY);
        int64_t moment = local_s - cm_zone_offset_s(zone, from);
        moment = moment < from ? from : moment; /* jumped over */
        if (moment < change)
            return moment;
        from = change;
    }
}

static int64_t next_of_named_hours(const cm_cron_t *cron, const cm_zone_t *zone, int64_t after_s)
{
    return first_shown(zone, match(cron, latest_shown(zone, after_s) + 1));
}

static int64_t next_of_real_hours(const cm_cron_t *cron, const cm_zone_t *zone, int64_t after_s)
{
    for (int64_t from = after_s + 1;;) {
        int64_t offset = cm_zone_offset_s(zone, from);
        int64_t moment = match(cron, from + offset) - offset;
        int64_t change = cm_zone_next_change_s(zone, from, moment);
        if (change == CM_ZONE_NO_CHANGE)
            return moment;
        from = change; /* the clocks are set before they show it */
    }
}

int64_t cm_cron_next_s(const cm_cron_t *self, const cm_zone_t *zone, int64_t after_s)
{
    const uint32_t all_hours = (1U << 24) - 1;
    if (after_s >= CM_CRON_LAST_S)
        return CM_CRON_NEVER;
    after_s = after_s < 0 ? -1 : after_s;
    int64_t next = self->hours == all_hours ? next_of_real_hours(self, zone, after_s)
                                            : next_of_named_hours(self, zone, after_s);
    return next < CM_CRON_LAST_S ? next : CM_CRON_NEVER;
}

int64_t cm_cron_last_s(const cm_cron_t *self, const cm_zone_t *zone, int64_t after_s,
                       int64_t until_s)
{
    until_s = until_s < CM_CRON_LAST_S ? until_s : CM_CRON_LAST_S;
    after_s = after_s < 0 ? -1 : after_s;
    if (until_s <= after_s || cm_cron_next_s(self, zone, after_s) > until_s)
        return CM_CRON_NEVER;
    while (until_s - after_s > 1) { /* there is a tick after `after`, up to the end; none later */
        int64_t middle = after_s + (until_s - after_s) / 2;
        if (cm_cron_next_s(self, zone, middle) <= until_s)
            after_s = middle;
        else
            until_s = middle;
    }
    return until_s;
}
