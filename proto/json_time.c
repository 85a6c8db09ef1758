/* json_time - the times of events.md section 3; declared in json_reader.h. */
#include "proto/json_reader.h"

#include <string.h>

enum { DAY_SECONDS = 86400 };

static const int64_t LAST_MS = 253402300799999; /* 9999-12-31T23:59:59.999Z */
static const int64_t FUTURE_MAX_MS = INT64_C(24) * 3600 * 1000;

typedef struct {
    const char *p, *end;
} scanner_t;

static bool scan_digits(scanner_t *self, int count, int *ret_value)
{
    int value = 0;
    for (int i = 0; i < count; i++) {
        if (self->p == self->end || *self->p < '0' || *self->p > '9')
            return false;
        value = value * 10 + (*self->p++ - '0');
    }
    *ret_value = value;
    return true;
}

static bool scan_char(scanner_t *self, const char *any_of)
{
    if (self->p == self->end || *self->p == '\0' || !strchr(any_of, *self->p))
        return false;
    self->p++;
    return true;
}

/* Milliseconds of ".123456"; without a dot 0. At least one digit must follow the dot. */
static bool scan_fraction(scanner_t *self, int *ret_ms)
{
    *ret_ms = 0;
    if (!scan_char(self, "."))
        return true;
    int digits = 0, digit = 0;
    for (int weight = 100; scan_digits(self, 1, &digit); weight /= 10, digits++)
        *ret_ms += digit * weight;
    return digits > 0;
}

static bool scan_offset(scanner_t *self, int *ret_seconds)
{
    *ret_seconds = 0;
    if (scan_char(self, "Zz"))
        return true;
    bool west = self->p < self->end && *self->p == '-';
    int hours = 0, minutes = 0;
    if (!scan_char(self, "+-") || !scan_digits(self, 2, &hours) || !scan_char(self, ":") ||
        !scan_digits(self, 2, &minutes) || hours > 23 || minutes > 59)
        return false;
    *ret_seconds = (hours * 60 + minutes) * (west ? -60 : 60);
    return true;
}

static int days_in_month(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return days[month - 1] + (month == 2 && leap);
}

/* Days since 1970-01-01 in the proleptic Gregorian calendar; the year begins in March, so that the
 * leap day is its last. */
static int64_t days_since_epoch(int year, int month, int day)
{
    int64_t y = year - (month <= 2);
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return y * 365 + y / 4 - y / 100 + y / 400 + day_of_year - 719468;
}

/* RFC 3339 section 5.6. A leap second (":60") is refused: it has no epoch time of its own. */
static bool scan_rfc3339(cm_str_t text, int64_t *ret_epoch_ms)
{
    scanner_t s = {text.ptr, text.ptr + text.len};
    int year, month, day, hour, minute, second, ms, offset;
    if (!scan_digits(&s, 4, &year) || !scan_char(&s, "-") || !scan_digits(&s, 2, &month) ||
        !scan_char(&s, "-") || !scan_digits(&s, 2, &day) || !scan_char(&s, "Tt") ||
        !scan_digits(&s, 2, &hour) || !scan_char(&s, ":") || !scan_digits(&s, 2, &minute) ||
        !scan_char(&s, ":") || !scan_digits(&s, 2, &second) || !scan_fraction(&s, &ms) ||
        !scan_offset(&s, &offset) || s.p != s.end)
        return false;
    if (month < 1 || month > 12 || day < 1 || day > days_in_month(year, month) || hour > 23 ||
        minute > 59 || second > 59)
        return false;
    int64_t seconds = days_since_epoch(year, month, day) * DAY_SECONDS + hour * 3600 + minute * 60 +
                      second - offset;
    *ret_epoch_ms = seconds * 1000 + ms;
    return true;
}

cm_status_t cm_json_time(const cm_json_value_t *value, int64_t now_ms, int64_t *ret_epoch_ms,
                         cm_error_t *err)
{
    int64_t epoch_ms = 0;
    if (value->type == CM_JSON_STRING) {
        if (!scan_rfc3339(value->text, &epoch_ms))
            return cm_error_set(err, CM_PERMANENT, "bad-time",
                                "must be RFC 3339 with an offset, or epoch ms");
    } else if (value->type == CM_JSON_NUMBER) {
        if (!cm_json_i64(value->text, &epoch_ms))
            return cm_error_set(err, CM_PERMANENT, "bad-time", "epoch ms must be an integer");
    } else {
        return cm_error_set(err, CM_PERMANENT, "malformed", "must be a string or an integer");
    }
    if (epoch_ms < 0 || epoch_ms > LAST_MS)
        return cm_error_set(err, CM_PERMANENT, "bad-time", "outside of 1970 to 9999");
    if (epoch_ms > now_ms + FUTURE_MAX_MS)
        return cm_error_set(err, CM_PERMANENT, "bad-time", "more than 24 h in the future");
    *ret_epoch_ms = epoch_ms;
    return CM_OK;
}
