#include "runtime/zone.h"

#include <ctype.h>
#include <glib.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_MAX_BYTES = 63 };

struct cm_zone {
    GTimeZone *rules;
    char name[NAME_MAX_BYTES + 1];
};

/* GLib also takes offsets, POSIX rules, and paths to any file: none of them is meant here. Zones
 * under right/ count leap seconds, which no other clock of this program does. */
static bool is_name(const char *name)
{
    if (strcmp(name, "UTC") == 0)
        return true;
    size_t length = strlen(name);
    if (length > NAME_MAX_BYTES || !isalpha((unsigned char)name[0]) || !strchr(name, '/') ||
        strncmp(name, "right/", strlen("right/")) == 0)
        return false;
    return strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-+/") ==
           length;
}

cm_status_t cm_zone_open(cm_zone_t **ret_zone, const char *name, cm_error_t *err)
{
    if (!is_name(name))
        return cm_error_set(err, CM_MISCONFIGURED, "bad-time-zone",
                            "a time zone is UTC or a name as Europe/Berlin");
    GTimeZone *rules = g_time_zone_new_identifier(name);
    if (!rules)
        return cm_error_set(err, CM_MISCONFIGURED, "bad-time-zone",
                            "the system has no time zone %s; is tzdata installed?", name);
    cm_zone_t *self = calloc(1, sizeof *self);
    if (!self)
        abort();
    self->rules = rules;
    memcpy(self->name, name, strlen(name) + 1);
    *ret_zone = self;
    return CM_OK;
}

void cm_zone_destroy(cm_zone_t **self_p)
{
    cm_zone_t *self = *self_p;
    if (!self)
        return;
    g_time_zone_unref(self->rules);
    free(self);
    *self_p = NULL;
}

const char *cm_zone_name(const cm_zone_t *self)
{
    return self->name;
}

/* Intervals are numbered in order of time. */
static int interval_at(const cm_zone_t *self, int64_t epoch_s)
{
    return g_time_zone_find_interval(self->rules, G_TIME_TYPE_UNIVERSAL, epoch_s);
}

int64_t cm_zone_offset_s(const cm_zone_t *self, int64_t epoch_s)
{
    return g_time_zone_get_offset(self->rules, interval_at(self, epoch_s));
}

int64_t cm_zone_next_change_s(const cm_zone_t *self, int64_t after_s, int64_t until_s)
{
    int interval = interval_at(self, after_s);
    if (until_s <= after_s || interval_at(self, until_s) == interval)
        return CM_ZONE_NO_CHANGE;
    while (until_s - after_s > 1) { /* after is in the interval, until beyond it */
        int64_t middle = after_s + (until_s - after_s) / 2;
        if (interval_at(self, middle) == interval)
            after_s = middle;
        else
            until_s = middle;
    }
    return until_s;
}
