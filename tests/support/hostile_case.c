#include "tests/support/hostile_case.h"
#include "runtime/cleanup.h"
#include "tests/support/hostile.h"

#include <stdio.h>
#include <string.h>

typedef struct {
    const char *path, *value; /* value NULL: "hostile-<index>" */
} member_t;

static const member_t members[HOSTILE_MEMBERS] = {
    {"customerId", CM_HOSTILE_TENANT},
    {"applicationCode", "\"" CM_HOSTILE_CANARY "-app\""},
    {"clientId", NULL},
    {"eventTime", "\"2024-11-20T16:00:00.123Z\""},
    {"device.platform", "\"android\""},
    {"device.applicationVersion", "\"" CM_HOSTILE_CANARY "-3.2.1\""},
    {"device.deviceModel", "\"" CM_HOSTILE_CANARY " Pixel 8\""},
    {"device.osVersion", "\"" CM_HOSTILE_CANARY "-15\""},
    {"device.sdkVersion", "\"" CM_HOSTILE_CANARY "-3.7.6\""},
    {"device.language", "\"" CM_HOSTILE_CANARY "-en-US\""},
    {"device.timezone", "\"" CM_HOSTILE_CANARY "+0100\""},
    {"device.pushSettings", "{\"areNotificationsEnabled\":true,\"importance\":-1000}"},
    {"push.token", "\"" CM_HOSTILE_CANARY "-token\""},
    {"push.addressType", "\"fcm\""},
    {"contact.contactId", "77120011"},
    {"contact.contactFieldId", "3"},
};

static const char *const texts[HOSTILE_TEXTS] = {
    "applicationCode",    "clientId",         "device.platform",   "device.applicationVersion",
    "device.deviceModel", "device.osVersion", "device.sdkVersion", "device.language",
    "device.timezone",    "push.token"};

const char *hostile_member_path(size_t i)
{
    return members[i].path;
}

const char *hostile_text_path(size_t i)
{
    return texts[i];
}

/* ---- composing ------------------------------------------------------------------------------- */

/* Add the members below prefix ("" or "device."), with the value of path replaced (left out when
 * absent), and for path = prefix + "+" the members in value behind them. */
static void add_members(cm_buffer_t *out, const char *prefix, const char *path, cm_str_t value,
                        size_t index)
{
    size_t skip = strlen(prefix);
    for (size_t i = 0; i < CM_LENGTH(members); i++) {
        const char *name = members[i].path + skip;
        if (strncmp(members[i].path, prefix, skip) != 0 || strchr(name, '.'))
            continue;
        bool replaced = strcmp(members[i].path, path) == 0;
        if (replaced && !value.ptr)
            continue;
        bool first = out->len > 0 && out->data[out->len - 1] == '{';
        cm_buffer_printf(out, "%s\"%s\":", first ? "" : ",", name);
        if (replaced)
            cm_buffer_append(out, value.ptr, value.len);
        else if (members[i].value)
            cm_buffer_printf(out, "%s", members[i].value);
        else
            cm_buffer_printf(out, "\"" CM_HOSTILE_CANARY "-%zu\"", index);
    }
    if (strncmp(path, prefix, skip) == 0 && strcmp(path + skip, "+") == 0) {
        cm_buffer_printf(out, ",");
        cm_buffer_append(out, value.ptr, value.len);
    }
}

void hostile_compose(cm_buffer_t *out, const char *path, cm_str_t value, size_t index)
{
    static const char *const groups[] = {"device", "push", "contact"};
    cm_buffer_printf(out, "{");
    add_members(out, "", path, value, index);
    for (size_t i = 0; i < CM_LENGTH(groups); i++) {
        char prefix[16];
        snprintf(prefix, sizeof prefix, "%s.", groups[i]);
        bool replaced = strcmp(groups[i], path) == 0 || strcmp("groups", path) == 0;
        if (replaced && !value.ptr)
            continue;
        cm_buffer_printf(out, "%s\"%s\":", out->data[out->len - 1] == '{' ? "" : ",", groups[i]);
        if (replaced) {
            cm_buffer_append(out, value.ptr, value.len);
            continue;
        }
        cm_buffer_printf(out, "{");
        add_members(out, prefix, path, value, index);
        cm_buffer_printf(out, "}");
    }
    cm_buffer_printf(out, "}");
}

void hostile_raw(hostile_t *self, const char *code, const char *kind, const char *path,
                 cm_str_t body)
{
    size_t index = self->next++;
    if (index != self->wanted)
        return;
    cm_buffer_clear(self->body);
    cm_buffer_append(self->body, body.ptr, body.len);
    size_t len = self->body->len;
    cm_buffer_append(self->body, "", 1);
    cm_buffer_printf(self->body, "%s: %s (case %zu)", kind, path, index);
    cm_buffer_append(self->body, "", 1);
    self->body->len = len;
    *self->name = self->body->data + len + 1;
    if (self->code)
        *self->code = code;
}

void hostile_with_bytes(hostile_t *self, const char *code, const char *kind, const char *path,
                        cm_str_t value)
{
    if (self->next != self->wanted) {
        self->next++;
        return;
    }
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t body = {0};
    hostile_compose(&body, path, value, self->next);
    hostile_raw(self, code, kind, path, (cm_str_t){body.data, body.len});
}

void hostile_with(hostile_t *self, const char *code, const char *kind, const char *path,
                  const char *value)
{
    hostile_with_bytes(self, code, kind, path, cm_str(value));
}

void hostile_with_run(hostile_t *self, const char *code, const char *path, const char *before,
                      const char *repeat, size_t count, const char *after)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t value = {0};
    cm_buffer_printf(&value, "%s", before);
    for (size_t i = 0; i < count; i++)
        cm_buffer_append(&value, repeat, strlen(repeat));
    cm_buffer_printf(&value, "%s", after);
    hostile_with_bytes(self, code, "long", path, (cm_str_t){value.data, value.len});
}
