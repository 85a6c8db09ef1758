#include "tests/support/hostile.h"
#include "runtime/cleanup.h"
#include "tests/support/hostile_case.h"

#include <stdio.h>
#include <string.h>

#define MALFORMED      "malformed"
#define BYTES(literal) ((cm_str_t){(literal), sizeof(literal) - 1})

static void truncated(hostile_t *self)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t body = {0};
    hostile_compose(&body, "", CM_STR_NONE, 0);
    for (size_t len = 0; len < body.len; len += len + 12 < body.len ? 11 : 1)
        hostile_raw(self, MALFORMED, "truncated", "(body)", (cm_str_t){body.data, len});
}

static void wrong_types(hostile_t *self)
{
    static const char *const values[] = {"true", "7", "\"x\"", "[]", "{}", "null"};
    /* one letter per value: x refused, '.' accepted, t bad-time */
    static const struct {
        const char *path, *verdicts;
    } rows[] = {
        {"customerId", "x..xxx"},
        {"applicationCode", "xx.xxx"},
        {"clientId", "xx.xxx"},
        {"eventTime", "x.txxx"},
        {"device", "xxxx.x"},
        {"push", "xxxx.."},
        {"contact", "xxxx.."},
        {"device.platform", "xx.xx."},
        {"device.applicationVersion", "xx.xx."},
        {"device.deviceModel", "xx.xx."},
        {"device.osVersion", "xx.xx."},
        {"device.sdkVersion", "xx.xx."},
        {"device.language", "xx.xx."},
        {"device.timezone", "xx.xx."},
        {"device.pushSettings", "xxxx.."},
        {"push.token", "xx.xx."},
        {"push.addressType", "xxxxx."},
        {"contact.contactId", "x.xxx."},
        {"contact.contactFieldId", "x.xxx."},
    };
    for (size_t i = 0; i < CM_LENGTH(rows); i++) {
        for (size_t k = 0; k < CM_LENGTH(values); k++) {
            if (rows[i].verdicts[k] != '.')
                hostile_with(self, rows[i].verdicts[k] == 't' ? "bad-time" : MALFORMED,
                             "wrong type", rows[i].path, values[k]);
        }
    }
    static const char *const removed[] = {"1", "0", "\"true\"", "[]", "{}", "null"};
    for (size_t i = 0; i < CM_LENGTH(removed); i++) {
        char member[32];
        snprintf(member, sizeof member, "\"removed\":%s", removed[i]);
        hostile_with(self, MALFORMED, "wrong type", "+", member);
    }
}

static void missing(hostile_t *self)
{
    for (size_t i = 0; i < 4; i++)
        hostile_with(self, MALFORMED, "missing", hostile_member_path(i), NULL);
    hostile_with(self, MALFORMED, "missing", "groups", NULL);
    hostile_with(self, MALFORMED, "empty", "applicationCode", "\"\"");
    hostile_with(self, MALFORMED, "empty", "clientId", "\"\"");
    hostile_raw(
        self, MALFORMED, "removed false is no group", "(body)",
        BYTES("{\"customerId\":1,\"applicationCode\":\"a\",\"clientId\":\"b\",\"eventTime\":0,"
              "\"removed\":false}"));
    static const char *const types[] = {"FCM", "gcm", "apns ", " fcm", "fcm-", "apns_sandbox"};
    for (size_t i = 0; i < CM_LENGTH(types); i++) {
        char value[32];
        snprintf(value, sizeof value, "\"%s\"", types[i]);
        hostile_with(self, MALFORMED, "unknown address type", "push.addressType", value);
    }
}

static void utf8(hostile_t *self)
{
    static const char *const sequences[] = {"\x80",
                                            "\xbf",
                                            "\xc0\x80",
                                            "\xc1\xbf",
                                            "\xc2",
                                            "\xc2\x20",
                                            "\xe0\x80\x80",
                                            "\xe0\x9f\xbf",
                                            "\xe2\x82",
                                            "\xe2\x28\xa1",
                                            "\xed\xa0\x80",
                                            "\xed\xbf\xbf",
                                            "\xf0\x80\x80\x80",
                                            "\xf0\x8f\xbf\xbf",
                                            "\xf0\x9f\x92",
                                            "\xf4\x90\x80\x80",
                                            "\xf5\x80\x80\x80",
                                            "\xf8\x88\x80\x80",
                                            "\xfe",
                                            "\xff",
                                            "\xed\xa0\xbd\xed\xb8\x80"};
    for (size_t i = 0; i < CM_LENGTH(sequences); i++) {
        char text[64];
        snprintf(text, sizeof text, "\"a%sz\"", sequences[i]);
        hostile_with(self, MALFORMED, "bad UTF-8", "clientId", text);
        snprintf(text, sizeof text, "\"%s\\u0041\"", sequences[i]);
        hostile_with(self, MALFORMED, "bad UTF-8 beside an escape", "push.token", text);
        snprintf(text, sizeof text, "{\"x\":\"%s\"}", sequences[i]);
        hostile_with(self, MALFORMED, "bad UTF-8", "device.pushSettings", text);
        snprintf(text, sizeof text, "\"%s\":1", sequences[i]);
        hostile_with(self, MALFORMED, "bad UTF-8 in a key", "+", text);
    }
    hostile_with(self, MALFORMED, "bad byte between tokens", "clientId", "\xff\"a\"");
}

static void escapes(hostile_t *self)
{
    static const char *const bad[] = {"\\u0000",
                                      "a\\u0000b",
                                      "\\ud800",
                                      "\\udc00",
                                      "\\ud83d\\u0041",
                                      "\\ud83dx",
                                      "\\udbff\\",
                                      "\\ude00\\ud83d",
                                      "\\ud83d\\ud83d",
                                      "\\x41",
                                      "\\u12",
                                      "\\u12g4",
                                      "\\U0041",
                                      "\\'",
                                      "\\ud83d\\\\ude00",
                                      "a\nb",
                                      "a\tb",
                                      "a\x01\x02",
                                      "\\uD83D\\n",
                                      "\\u-123"};
    for (size_t i = 0; i < CM_LENGTH(bad); i++) {
        char text[64];
        snprintf(text, sizeof text, "\"%s\"", bad[i]);
        hostile_with(self, MALFORMED, "bad escape", "device.deviceModel", text);
        snprintf(text, sizeof text, "\"k%s\":1", bad[i]);
        hostile_with(self, MALFORMED, "bad escape in a key", "device.+", text);
    }
    for (size_t i = 0; i < HOSTILE_TEXTS; i++) {
        hostile_with(self, MALFORMED, "NUL", hostile_text_path(i), "\"a\\u0000\"");
        hostile_with_bytes(self, MALFORMED, "raw NUL", hostile_text_path(i), BYTES("\"a\0b\""));
    }
    hostile_with_bytes(self, MALFORMED, "raw NUL between tokens", "clientId", BYTES("\0\"a\""));
    hostile_with(self, MALFORMED, "vertical tab between tokens", "clientId", "\v\"a\"");
    hostile_with(self, MALFORMED, "form feed between tokens", "clientId", "\f\"a\"");
}

static void duplicates(hostile_t *self)
{
    for (size_t i = 0; i < HOSTILE_MEMBERS; i++) {
        char prefix[16] = "+", member[64];
        const char *dot = strchr(hostile_member_path(i), '.');
        const char *name = dot ? dot + 1 : hostile_member_path(i);
        if (dot)
            snprintf(prefix, sizeof prefix, "%.*s.+", (int)(dot - hostile_member_path(i)),
                     hostile_member_path(i));
        snprintf(member, sizeof member, "\"%s\":null", name);
        hostile_with(self, MALFORMED, "duplicate key", prefix, member);
    }
    hostile_with(self, MALFORMED, "duplicate key, escaped", "+", "\"client\\u0049d\":\"x\"");
    hostile_with(self, MALFORMED, "duplicate group", "+", "\"x\":{},\"x\":{}");
    hostile_with(self, MALFORMED, "duplicate empty key", "+", "\"\":1,\"\":2");
    hostile_with(self, MALFORMED, "duplicate key", "device.pushSettings",
                 "{\"a\":1,\"b\":{},\"a\":1}");
    hostile_with(self, MALFORMED, "duplicate key, deep", "+",
                 "\"x\":[[{\"y\":{\"z\":1,\"z\":2}}]]");
}

static void numbers(hostile_t *self)
{
    static const char *const syntax[] = {"01",  "-",   "+1",   ".5",  "1.",       "1.e3",
                                         "1e",  "1e+", "0x10", "NaN", "Infinity", "-Infinity",
                                         "1_0", "--1", "1,5",  "١",   "nan",      "1e999"};
    static const char *const no_int64[] = {
        "1.5", "1e3", "1.0", "9223372036854775808", "-9223372036854775809", "1E2", "0.0"};
    static const char *const paths[] = {"customerId", "contact.contactId",
                                        "contact.contactFieldId"};
    for (size_t p = 0; p < CM_LENGTH(paths); p++) {
        for (size_t i = 0; i < CM_LENGTH(syntax); i++)
            hostile_with(self, MALFORMED, "no number", paths[p], syntax[i]);
        for (size_t i = 0; i < CM_LENGTH(no_int64); i++)
            hostile_with(self, MALFORMED, "no int64", paths[p], no_int64[i]);
    }
    hostile_with(self, MALFORMED, "infinite", "+", "\"x\":-1e400");
    hostile_with(self, MALFORMED, "infinite", "device.pushSettings", "{\"x\":[1,1E+309]}");
    hostile_with(self, MALFORMED, "underflow", "device.pushSettings", "{\"x\":1e-999}");
    hostile_with_run(self, MALFORMED, "+", "\"x\":1", "0", 400, "");
}

static void tenants(hostile_t *self)
{
    static const char *const ids[] = {"-5",
                                      "-9223372036854775808",
                                      "\"\"",
                                      "\" \"",
                                      "\" a\"",
                                      "\"a \"",
                                      "\"-a\"",
                                      "\"_a\"",
                                      "\"a.b\"",
                                      "\"a/b\"",
                                      "\"../../etc\"",
                                      "\"a\\\"b\"",
                                      "\"a'b\"",
                                      "\"a;b\"",
                                      "\"tenant 1\"",
                                      "\"1; DROP SCHEMA tenant_1 CASCADE\"",
                                      "\"1\\\"; DROP TABLE devices; --\"",
                                      "\"' OR '1'='1\"",
                                      "\"x\\\\\"",
                                      "\"a\\nb\"",
                                      "\"a\\tb\"",
                                      "\"\xf0\x9f\x98\x80\"",
                                      "\"\\ud83d\\ude00\"",
                                      "\"M\xc3\xbcller\"",
                                      "\"\xce\xb1\"",
                                      "\"a%s%n\"",
                                      "\"a$b\"",
                                      "\"*\"",
                                      "\"{1-2}\"",
                                      "\"6a2f4bd8-6d5c-4a53-9dd3-21c8f0f0a6a1 \"",
                                      "\"\\u007f\"",
                                      "\"a\\u202eb\""};
    for (size_t i = 0; i < CM_LENGTH(ids); i++)
        hostile_with(self, "invalid-tenant", "tenant", "customerId", ids[i]);
    hostile_with_run(self, "invalid-tenant", "customerId", "\"", "a", 57, "\"");
    hostile_with_run(self, "invalid-tenant", "customerId", "\"", "7", 63, "\"");
    hostile_with_run(self, "invalid-tenant", "customerId", "\"", "b", 100000, "\"");
}

static void times(hostile_t *self)
{
    static const char *const bad[] = {"\"\"",
                                      "\"now\"",
                                      "\"2024-11-20\"",
                                      "\"2024-11-20T16:00:00\"",
                                      "\"2024-11-20T16:00Z\"",
                                      "\"2024-11-20 16:00:00Z\"",
                                      "\"2024-13-01T00:00:00Z\"",
                                      "\"2024-00-01T00:00:00Z\"",
                                      "\"2024-11-31T00:00:00Z\"",
                                      "\"2024-11-00T00:00:00Z\"",
                                      "\"2023-02-29T00:00:00Z\"",
                                      "\"2100-02-29T00:00:00Z\"",
                                      "\"2024-11-20T24:00:00Z\"",
                                      "\"2024-11-20T16:60:00Z\"",
                                      "\"2016-12-31T23:59:60Z\"",
                                      "\"2024-11-20T16:00:61Z\"",
                                      "\"2024-11-20T16:00:00.Z\"",
                                      "\"2024-11-20T16:00:00,5Z\"",
                                      "\"2024-11-20T16:00:00+0100\"",
                                      "\"2024-11-20T16:00:00+1\"",
                                      "\"2024-11-20T16:00:00+24:00\"",
                                      "\"2024-11-20T16:00:00+01:60\"",
                                      "\"2024-11-20T16:00:00ZZ\"",
                                      "\" 2024-11-20T16:00:00Z\"",
                                      "\"2024-11-20T16:00:00Z \"",
                                      "\"24-11-20T16:00:00Z\"",
                                      "\"12024-11-20T16:00:00Z\"",
                                      "\"-024-11-20T16:00:00Z\"",
                                      "\"2024-1-20T16:00:00Z\"",
                                      "\"1969-12-31T23:59:59.999Z\"",
                                      "\"1970-01-01T00:59:59+01:00\"",
                                      "\"9999-12-31T23:59:59Z\"",
                                      "\"9999-12-31T23:59:59-01:00\"",
                                      "\"2999-01-01T00:00:00Z\"",
                                      "\"1732118400000\"",
                                      "\"2024\\u002d11-20T16:00:00\"",
                                      "-1",
                                      "1.5",
                                      "1732118400000.5",
                                      "1.7321184e12",
                                      "253402300799999",
                                      "253402300800000",
                                      "9223372036854775807",
                                      "9223372036854775808"};
    for (size_t i = 0; i < CM_LENGTH(bad); i++)
        hostile_with(self, "bad-time", "time", "eventTime", bad[i]);
    hostile_with_run(self, "bad-time", "eventTime", "\"2024-11-20T16:00:00.", "1", 5000, "\"");
}

static void structures(hostile_t *self)
{
    static const char *const bodies[] = {"[]",
                                         "[{}]",
                                         "null",
                                         "true",
                                         "1",
                                         "\"x\"",
                                         " ",
                                         "\n\r\t ",
                                         "{",
                                         "}",
                                         "{}",
                                         "{]",
                                         "[}",
                                         "{,}",
                                         "{\"a\"}",
                                         "{\"a\":}",
                                         "{:1}",
                                         "{\"a\":1,}",
                                         "{\"a\" 1}",
                                         "{a:1}",
                                         "{'a':1}",
                                         "{\"a\":1 \"b\":2}",
                                         "{\"a\":[1,]}",
                                         "{\"a\":[,1]}",
                                         "{\"a\":tru}",
                                         "{\"a\":TRUE}",
                                         "{\"a\":undefined}",
                                         "{\"a\":nul",
                                         "{1:2}",
                                         "{null:1}",
                                         "{\"a\":1;\"b\":2}",
                                         "\xef\xbb\xbf{}",
                                         "\xff\xfe{\0}",
                                         "// x\n{}",
                                         "/* x */{}",
                                         "{/* x */}",
                                         "{\"a\":1/**/}",
                                         "# x\n{}",
                                         "data",
                                         "<xml/>",
                                         "{\"a\":\"",
                                         "{\"a\":\"\\",
                                         "{\"a\":\"\\u",
                                         "\x83\xa1\x61\x01"};
    static const char *const tails[] = {"{}", "x",  ",",    "}",    "]",      "\"", "\"abc", "tru",
                                        "1",  "//", "/* ",  "\x1e", "\f",     "\v", "null",  "\xff",
                                        "[",  "{",  "\xef", "-",    " \n x ", ";"};
    for (size_t i = 0; i < CM_LENGTH(bodies); i++)
        hostile_raw(self, MALFORMED, "no event", "(body)", cm_str(bodies[i]));
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t body = {0};
    hostile_compose(&body, "", CM_STR_NONE, 0);
    size_t len = body.len;
    for (size_t i = 0; i < CM_LENGTH(tails); i++) {
        body.len = len;
        cm_buffer_printf(&body, "%s", tails[i]);
        hostile_raw(self, MALFORMED, "bytes behind", "(body)", (cm_str_t){body.data, body.len});
    }
    body.len = len;
    cm_buffer_append(&body, "", 1);
    hostile_raw(self, MALFORMED, "NUL behind", "(body)", (cm_str_t){body.data, body.len});
}

static void sizes(hostile_t *self)
{
    hostile_with_run(self, "too-large", "applicationCode", "\"", "a", 257, "\"");
    hostile_with_run(self, "too-large", "clientId", "\"", "\xc3\xa9", 129, "\"");
    for (size_t i = 2; i < HOSTILE_TEXTS - 1; i++)
        hostile_with_run(self, "too-large", hostile_text_path(i), "\"", "a", 1025, "\"");
    hostile_with_run(self, "too-large", "push.token", "\"", "a", 4097, "\"");
    hostile_with_run(self, "too-large", "push.token", "\"", "\\n", 4097, "\"");
    hostile_with_run(self, "too-large", "device.pushSettings", "{\"x\":\"", "a", 8192 - 7, "\"}");
    hostile_with_run(self, "too-large", "device.pushSettings", "{\"x\":[0", ", 0", 5000, "]}");
    hostile_with_run(self, "too-large", "push.addressType", "\"", "a", 100000, "\"");
    hostile_with_run(self, "too-large", "+", "\"x\":\"", "a", 256 * 1024, "\"");
    hostile_with_run(self, "too-large", "+", "\"x\":\"a\"", " ", 256 * 1024, "");
    hostile_with_run(self, "too-large", "+", "\"x\":", "[", 300 * 1024, "");
    hostile_with_run(self, MALFORMED, "+", "\"x\":", "[", 200 * 1024, "");
    hostile_with_run(self, MALFORMED, "+", "\"x\":", "{\"\":", 50 * 1024, "");
    hostile_with_run(self, MALFORMED, "+", "\"x\":", "[", 32, "]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]");
    hostile_with_run(self, MALFORMED, "device.pushSettings", "{\"x\":", "[", 31,
                     "]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}");
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t wide = {0};
    for (int i = 0; i < 20000; i++)
        cm_buffer_printf(&wide, "%s\"k%d\":1", i ? "," : "\"x\":{", i);
    cm_buffer_printf(&wide, "}");
    hostile_with_bytes(self, MALFORMED, "20000 members", "+", (cm_str_t){wide.data, wide.len});
    wide.len = 0;
    for (int i = 0; i < 201; i++)
        cm_buffer_printf(&wide, "%s\"k%d\":1", i ? "," : "{", i);
    cm_buffer_printf(&wide, "}");
    hostile_with_bytes(self, MALFORMED, "201 members", "device.pushSettings",
                       (cm_str_t){wide.data, wide.len});
}

static void bad_cases(hostile_t *self)
{
    truncated(self);
    wrong_types(self);
    missing(self);
    utf8(self);
    escapes(self);
    duplicates(self);
    numbers(self);
    tenants(self);
    times(self);
    structures(self);
    sizes(self);
}

size_t cm_hostile_count(void)
{
    hostile_t self = {.wanted = SIZE_MAX};
    bad_cases(&self);
    return self.next;
}

void cm_hostile_get(size_t i, cm_buffer_t *ret_body, const char **ret_name, const char **ret_code)
{
    hostile_t self = {.wanted = i, .body = ret_body, .name = ret_name, .code = ret_code};
    bad_cases(&self);
}
