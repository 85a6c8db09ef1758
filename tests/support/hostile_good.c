#include "runtime/cleanup.h"
#include "tests/support/hostile.h"
#include "tests/support/hostile_case.h"

#include <stdio.h>
#include <string.h>

static void good_texts(hostile_t *self)
{
    static const char *const odd[] = {
        "'; DROP TABLE devices; --",
        "1' OR '1'='1",
        "\\\"; DROP SCHEMA tenant_1 CASCADE; --",
        "$1 $$ %s %n {0}",
        "\\\\ \\/ \\b\\f\\n\\r\\t",
        "\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x92\xbb",
        "\\ud83d\\ude00 \\u00e9 \\uffff",
        "\xef\xbb\xbf\xe2\x80\xae\xcc\x81",
        "<script>alert(1)</script>",
        "NULL",
        "\\u0001\\u001f\\u007f",
        "\xf4\x8f\xbf\xbf\xed\x9f\xbf\xee\x80\x80",
        "{\\\"a\\\":[1]}",
        "customerId\\\":7",
        " leading and trailing ",
    };
    for (size_t i = 0; i < CM_LENGTH(odd); i++) {
        char text[128];
        snprintf(text, sizeof text, "\"%s\"", odd[i]);
        for (size_t k = 0; k < HOSTILE_TEXTS; k++)
            hostile_with(self, NULL, "odd text", hostile_text_path(k), text);
    }
    hostile_with_run(self, NULL, "clientId", "\"", "a", 256, "\"");
    hostile_with_run(self, NULL, "clientId", "\"", "\\u00e9", 128, "\"");
    for (size_t i = 2; i < HOSTILE_TEXTS - 1; i++)
        hostile_with_run(self, NULL, hostile_text_path(i), "\"", "a", 1024, "\"");
    hostile_with_run(self, NULL, "push.token", "\"", "a", 4096, "\"");
    hostile_with_run(self, NULL, "push.token", "\"", "\\u00e9", 2048, "\"");
    hostile_with_run(self, NULL, "device.pushSettings", "{\"x\":\"", "a", 8192 - 8, "\"}");
    hostile_with_run(self, NULL, "+", "\"x\":\"", "a", 200 * 1024, "\"");
    hostile_with_run(self, NULL, "+", "\"x\":", "[", 31, "]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]");
}

static void good_cases(hostile_t *self)
{
    static const struct {
        const char *path, *value;
    } rows[] = {
        {"", NULL},
        {"device", NULL},
        {"push", NULL},
        {"contact", NULL},
        {"push", "null"},
        {"contact", "null"},
        {"device", "{}"},
        {"push", "{}"},
        {"contact", "{}"},
        {"push.token", "null"},
        {"push.token", "\"\""},
        {"push.addressType", NULL},
        {"push.addressType", "\"apns-sandbox\""},
        {"contact.contactId", "null"},
        {"contact.contactId", "9223372036854775807"},
        {"contact.contactId", "-9223372036854775808"},
        {"contact.contactId", "-0"},
        {"contact.contactFieldId", NULL},
        {"customerId", "\"" CM_HOSTILE_TENANT "\""},
        {"eventTime", "0"},
        {"eventTime", "1732118400123"},
        {"eventTime", "\"2024-02-29t23:59:59.999999999z\""},
        {"eventTime", "\"2000-02-29T00:00:00-00:00\""},
        {"eventTime", "\"1970-01-01T00:00:00Z\""},
        {"eventTime", "\"2024-11-20T16:00:00+23:59\""},
        {"device.platform", "\"iOS\""},
        {"device.platform", "\"\""},
        {"device.language", "null"},
        {"device.pushSettings", "null"},
        {"device.pushSettings", "{}"},
        {"device.pushSettings", " {\n\t\"a\" : [ 1 , -0.5e+3 , \"\\u0041\\\"\" , null ] } "},
        {"+", "\"removed\":false"},
        {"+", "\"removed\":true"},
        {"+", "\"unknown\":{\"customerId\":1,\"device\":[null,{}]},\"\":0"},
        {"device.+", "\"unknown\":[{},[],1e300],\"x.y[3]\":\"\""},
    };
    for (size_t i = 0; i < CM_LENGTH(rows); i++)
        hostile_with(self, NULL, "plain", rows[i].path, rows[i].value);
    good_texts(self);
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t wide = {0};
    for (int i = 0; i < 200; i++)
        cm_buffer_printf(&wide, "%s\"k%d\":1", i ? "," : "{", i);
    cm_buffer_printf(&wide, "}");
    hostile_with_bytes(self, NULL, "200 members", "device.pushSettings",
                       (cm_str_t){wide.data, wide.len});
}

size_t cm_hostile_good_count(void)
{
    hostile_t self = {.wanted = SIZE_MAX};
    good_cases(&self);
    return self.next;
}

void cm_hostile_good_get(size_t i, cm_buffer_t *ret_body, const char **ret_name)
{
    hostile_t self = {.wanted = i, .body = ret_body, .name = ret_name};
    good_cases(&self);
}
