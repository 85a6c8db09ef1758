#include "proto/device_event.h"
#include "proto/json_reader.h"
#include "runtime/buffer.h"
#include "runtime/cleanup.h"
#include "tests/support/hostile.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const int64_t NOW_MS = INT64_C(1795190400000); /* 2026-11-20T16:00:00Z */

#define HEAD                                                                                       \
    "{\"customerId\":7,\"applicationCode\":\"A\",\"clientId\":\"C\",\"eventTime\":"                \
    "\"2026-11-20T16:00:00.123Z\","

typedef struct {
    cm_arena_t *arena;
    char *body; /* exactly as long as it is, so that a sanitizer sees what goes beyond */
    cm_device_event_t event;
    cm_error_t err;
    cm_status_t status;
} decoding_t;

static void decoding_end(decoding_t *self)
{
    cm_arena_destroy(&self->arena);
    cm_free(&self->body);
}

static decoding_t decode_str(cm_str_t body)
{
    decoding_t self = {.arena = cm_arena_new(512), .body = malloc(body.len ? body.len : 1)};
    memcpy(self.body, body.ptr, body.len);
    self.status = cm_device_event_decode((cm_str_t){self.body, body.len}, NOW_MS, self.arena,
                                         &self.event, &self.err);
    return self;
}

static decoding_t decode(const char *body)
{
    return decode_str(cm_str(body));
}

/* HEAD + members + "}" */
static decoding_t decode_with(const char *members)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t body = {0};
    cm_buffer_printf(&body, HEAD "%s}", members);
    return decode_str((cm_str_t){body.data, body.len});
}

static void check_fault(const char *members, const char *code, const char *path)
{
    CM_CLEANUP(decoding_end) decoding_t self = decode_with(members);
    cr_expect(eq(int, self.status, CM_PERMANENT), "%s", members);
    cr_expect(eq(str, self.err.code, (char *)code), "%s", members);
    size_t len = strlen(path);
    cr_expect(strncmp(self.err.message, path, len) == 0 &&
                  strncmp(self.err.message + len, ": ", 2) == 0,
              "%s", self.err.message);
    cr_expect(eq(str, self.event.tenant, "7"));
}

static void check_text(cm_str_t text, const char *expected)
{
    cr_expect(cm_str_eq(text, cm_str(expected)), "%.*s", CM_STR_ARG(text));
}

/* ---- what is read ---------------------------------------------------------------------------- */

Test(device_event, the_example_of_the_specification_is_decoded, .timeout = 5)
{
    CM_CLEANUP(decoding_end)
    decoding_t self = decode(
        "{\"customerId\": 218524530, \"applicationCode\": \"EMS11-C3FD3\","
        "\"clientId\": \"6a2f4bd8-6d5c-4a53-9dd3-21c8f0f0a6a1\","
        "\"eventTime\": \"2026-11-20T16:00:00.123Z\", \"device\": {\"platform\": \"android\","
        "\"applicationVersion\": \"3.2.1\", \"deviceModel\": \"Pixel 8\", \"osVersion\": \"15\","
        "\"sdkVersion\": \"3.7.6\", \"language\": \"en-US\", \"timezone\": \"+0100\","
        "\"pushSettings\": {\"areNotificationsEnabled\": true, \"importance\": -1000}},"
        "\"push\": {\"token\": \"fcm-registration-token\", \"addressType\": \"fcm\"},"
        "\"contact\": {\"contactId\": 77120011, \"contactFieldId\": 3}}");
    static const char *const device[CM_DEVICE_FIELDS] = {
        "android", "3.2.1", "Pixel 8", "15",
        "3.7.6",   "en-US", "+0100",   "{\"areNotificationsEnabled\":true,\"importance\":-1000}"};
    cr_assert(eq(int, self.status, CM_OK), "%s", self.err.message);
    const cm_device_event_t *event = &self.event;
    cr_expect(eq(str, (char *)event->tenant, "218524530"));
    check_text(event->application_code, "EMS11-C3FD3");
    check_text(event->client_id, "6a2f4bd8-6d5c-4a53-9dd3-21c8f0f0a6a1");
    cr_expect(eq(i64, event->event_ms, NOW_MS + 123));
    cr_expect(not(event->removed));
    cr_expect(event->has_device && event->has_push && event->has_contact);
    for (int i = 0; i < CM_DEVICE_FIELDS; i++)
        check_text(event->device[i], device[i]);
    check_text(event->push_token, "fcm-registration-token");
    check_text(event->push_address_type, "fcm");
    cr_expect(event->has_contact_id && event->has_contact_field_id);
    cr_expect(eq(i64, event->contact_id, 77120011));
    cr_expect(eq(i64, event->contact_field_id, 3));
}

Test(device_event, field_names_are_those_of_the_json, .timeout = 5)
{
    cr_expect(eq(str, (char *)cm_device_field_name(CM_DEVICE_PLATFORM), "platform"));
    cr_expect(eq(str, (char *)cm_device_field_name(CM_DEVICE_MODEL), "deviceModel"));
    cr_expect(eq(str, (char *)cm_device_field_name(CM_DEVICE_PUSH_SETTINGS), "pushSettings"));
}

Test(device_event, groups_are_present_only_when_sent, .timeout = 5)
{
    CM_CLEANUP(decoding_end) decoding_t device = decode_with("\"device\":{}");
    cr_assert(eq(int, device.status, CM_OK));
    cr_expect(device.event.has_device && !device.event.has_push && !device.event.has_contact);
    CM_CLEANUP(decoding_end) decoding_t push = decode_with("\"push\":{}");
    cr_assert(eq(int, push.status, CM_OK));
    cr_expect(push.event.has_push && !push.event.has_device && !push.event.has_contact);
    CM_CLEANUP(decoding_end) decoding_t contact = decode_with("\"contact\":{}");
    cr_assert(eq(int, contact.status, CM_OK));
    cr_expect(contact.event.has_contact && !contact.event.has_device && !contact.event.has_push);
}

Test(device_event, a_null_push_or_token_clears_the_token, .timeout = 5)
{
    static const char *const members[] = {"\"push\":null", "\"push\":{\"token\":null}",
                                          "\"push\":{\"token\":\"\",\"addressType\":\"apns\"}",
                                          "\"push\":{\"addressType\":\"nonsense\"}"};
    for (size_t i = 0; i < CM_LENGTH(members); i++) {
        CM_CLEANUP(decoding_end) decoding_t self = decode_with(members[i]);
        cr_assert(eq(int, self.status, CM_OK), "%s", members[i]);
        cr_expect(self.event.has_push);
        cr_expect(eq(ptr, (void *)self.event.push_token.ptr, NULL));
        cr_expect(eq(ptr, (void *)self.event.push_address_type.ptr, NULL));
    }
}

Test(device_event, a_null_contact_or_contact_id_unlinks, .timeout = 5)
{
    static const char *const members[] = {"\"contact\":null", "\"contact\":{\"contactId\":null}",
                                          "\"contact\":{\"contactFieldId\":3}"};
    for (size_t i = 0; i < CM_LENGTH(members); i++) {
        CM_CLEANUP(decoding_end) decoding_t self = decode_with(members[i]);
        cr_assert(eq(int, self.status, CM_OK), "%s", members[i]);
        cr_expect(self.event.has_contact);
        cr_expect(not(self.event.has_contact_id || self.event.has_contact_field_id));
    }
}

Test(device_event, the_address_type_defaults_by_platform, .timeout = 5)
{
    static const struct {
        const char *members, *type;
    } rows[] = {
        {"\"push\":{\"token\":\"t\"}", "fcm"},
        {"\"push\":{\"token\":\"t\"},\"device\":{\"platform\":\"android\"}", "fcm"},
        {"\"push\":{\"token\":\"t\"},\"device\":{\"platform\":\"ios\"}", "apns"},
        {"\"device\":{\"platform\":\"iOS\"},\"push\":{\"token\":\"t\"}", "apns"},
        {"\"device\":{\"platform\":\"ios2\"},\"push\":{\"token\":\"t\",\"addressType\":\"\"}",
         "fcm"},
        {"\"device\":{\"platform\":\"ios\"},\"push\":{\"addressType\":null,\"token\":\"t\"}",
         "apns"},
        {"\"device\":{\"platform\":\"ios\"},\"push\":{\"addressType\":\"hms\",\"token\":\"t\"}",
         "hms"},
        {"\"push\":{\"addressType\":\"fcm-fid\",\"token\":\"t\"}", "fcm-fid"},
        {"\"push\":{\"addressType\":\"apns\",\"token\":\"t\"}", "apns"},
        {"\"push\":{\"addressType\":\"apns-sandbox\",\"token\":\"t\"}", "apns-sandbox"},
        {"\"push\":{\"addressType\":\"webpush\",\"token\":\"t\"}", "webpush"},
    };
    for (size_t i = 0; i < CM_LENGTH(rows); i++) {
        CM_CLEANUP(decoding_end) decoding_t self = decode_with(rows[i].members);
        cr_assert(eq(int, self.status, CM_OK), "%s: %s", rows[i].members, self.err.message);
        check_text(self.event.push_address_type, rows[i].type);
    }
}

Test(device_event, a_removal_needs_no_group, .timeout = 5)
{
    CM_CLEANUP(decoding_end) decoding_t self = decode_with("\"removed\":true");
    cr_assert(eq(int, self.status, CM_OK));
    cr_expect(self.event.removed);
    CM_CLEANUP(decoding_end) decoding_t both = decode_with("\"removed\":true,\"device\":{}");
    cr_expect(eq(int, both.status, CM_OK));
    check_fault("\"removed\":false", "malformed", "(body)");
    CM_CLEANUP(decoding_end) decoding_t kept = decode_with("\"removed\":false,\"push\":null");
    cr_expect(eq(int, kept.status, CM_OK));
    cr_expect(not(kept.event.removed));
}

Test(device_event, push_settings_are_compact_and_in_the_senders_order, .timeout = 5)
{
    CM_CLEANUP(decoding_end)
    decoding_t self = decode_with(
        "\"device\":{\"pushSettings\": { \"z\" : [ 1 , -0.50e+3 , [ ] , { } , \"a\\u0041\\/\" ] ,"
        " \"\\u0022k\\n\" : { \"b\" : null , \"a\" : [ true , false ] } , \"\" : \"\\u0001\\t\" } ,"
        " \"platform\":\"x\"}");
    cr_assert(eq(int, self.status, CM_OK), "%s", self.err.message);
    check_text(self.event.device[CM_DEVICE_PUSH_SETTINGS],
               "{\"z\":[1,-0.50e+3,[],{},\"aA/\"],\"\\\"k\\n\":{\"b\":null,\"a\":[true,false]},"
               "\"\":\"\\u0001\\t\"}");
    check_text(self.event.device[CM_DEVICE_PLATFORM], "x");
}

Test(device_event, written_push_settings_read_as_the_same_settings, .timeout = 5)
{
    static const char settings[] = "{\"a\\\\b\":[\"\\u0007\\u001f\x7f\xc3\xa9\xf0\x9f\x98\x80\","
                                   "{\"x\":[[],[{}],\"{\",\"[\"]}],\"c\":1e5}";
    cm_buffer_t members = {0};
    cm_buffer_printf(&members, "\"device\":{\"pushSettings\":%s}", settings);
    CM_CLEANUP(decoding_end) decoding_t self = decode_with(cm_buffer_text(&members));
    cr_assert(eq(int, self.status, CM_OK), "%s", self.err.message);
    check_text(self.event.device[CM_DEVICE_PUSH_SETTINGS], settings);
    cm_buffer_destroy(&members);
}

Test(device_event, unknown_members_are_ignored_at_every_level, .timeout = 5)
{
    CM_CLEANUP(decoding_end)
    decoding_t self = decode_with(
        "\"x\":{\"platform\":1,\"token\":[],\"contactId\":{}},\"device\":{\"y\":{"
        "\"platform\":2,\"pushSettings\":3},\"platform\":\"p\"},\"z\":[{\"clientId\":0}]");
    cr_assert(eq(int, self.status, CM_OK), "%s", self.err.message);
    check_text(self.event.device[CM_DEVICE_PLATFORM], "p");
    check_text(self.event.client_id, "C");
    cr_expect(not(self.event.has_push || self.event.has_contact));
}

Test(device_event, unknown_members_are_still_checked, .timeout = 5)
{
    check_fault("\"push\":null,\"x\":{\"y\":[0,1e999]}", "malformed", "x.y[1]");
    check_fault("\"push\":null,\"x\":{\"y\":1,\"y\":2}", "malformed", "x.y");
}

Test(device_event, an_empty_or_null_text_is_absent, .timeout = 5)
{
    CM_CLEANUP(decoding_end)
    decoding_t self = decode_with("\"device\":{\"platform\":\"\",\"language\":null,"
                                  "\"pushSettings\":null}");
    cr_assert(eq(int, self.status, CM_OK), "%s", self.err.message);
    for (int i = 0; i < CM_DEVICE_FIELDS; i++)
        cr_expect(eq(ptr, (void *)self.event.device[i].ptr, NULL));
}

Test(device_event, contact_ids_take_all_64_bits, .timeout = 5)
{
    CM_CLEANUP(decoding_end)
    decoding_t self = decode_with("\"contact\":{\"contactId\":-9223372036854775808,"
                                  "\"contactFieldId\":9223372036854775807}");
    cr_assert(eq(int, self.status, CM_OK));
    cr_expect(eq(i64, self.event.contact_id, INT64_MIN));
    cr_expect(eq(i64, self.event.contact_field_id, INT64_MAX));
}

Test(device_event, a_tenant_is_an_integer_or_a_text_in_canonical_form, .timeout = 5)
{
    static const struct {
        const char *json, *tenant;
    } rows[] = {{"218524530", "218524530"},
                {"0", "0"},
                {"9223372036854775807", "9223372036854775807"},
                {"\"acme_1-x\"", "acme_1-x"},
                {"\"\\u0061\"", "a"},
                {"\"007\"", "007"},
                {"\"6A2F4BD8-6D5C-4A53-9DD3-21C8F0F0A6A1\"", "6a2f4bd86d5c4a539dd321c8f0f0a6a1"}};
    for (size_t i = 0; i < CM_LENGTH(rows); i++) {
        char body[256];
        snprintf(body, sizeof body,
                 "{\"customerId\":%s,\"applicationCode\":\"A\",\"clientId\":\"C\","
                 "\"eventTime\":1,\"push\":null}",
                 rows[i].json);
        CM_CLEANUP(decoding_end) decoding_t self = decode(body);
        cr_assert(eq(int, self.status, CM_OK), "%s: %s", body, self.err.message);
        cr_expect(eq(str, self.event.tenant, (char *)rows[i].tenant));
    }
}

/* ---- what is refused ------------------------------------------------------------------------- */

Test(device_event, each_missing_required_member_is_named, .timeout = 5)
{
    static const char *const members[][2] = {{"customerId", "\"customerId\":7,"},
                                             {"applicationCode", "\"applicationCode\":\"A\","},
                                             {"clientId", "\"clientId\":\"C\","},
                                             {"eventTime", "\"eventTime\":1,"}};
    for (size_t leave = 0; leave < CM_LENGTH(members); leave++) {
        CM_CLEANUP(cm_buffer_destroy) cm_buffer_t body = {0};
        char message[64];
        cm_buffer_printf(&body, "{");
        for (size_t i = 0; i < CM_LENGTH(members); i++)
            cm_buffer_printf(&body, "%s", i == leave ? "" : members[i][1]);
        cm_buffer_printf(&body, "\"push\":null}");
        snprintf(message, sizeof message, "%s: is missing", members[leave][0]);
        CM_CLEANUP(decoding_end) decoding_t self = decode_str((cm_str_t){body.data, body.len});
        cr_expect(eq(int, self.status, CM_PERMANENT));
        cr_expect(eq(str, self.err.code, "malformed"));
        cr_expect(eq(str, self.err.message, message));
    }
}

Test(device_event, a_fault_names_the_path_of_its_value, .timeout = 5)
{
    check_fault("\"device\":{\"platform\":1}", "malformed", "device.platform");
    check_fault("\"device\":null", "malformed", "device");
    check_fault("\"device\":{\"pushSettings\":{\"importance\":\"\\u0000\"}}", "malformed",
                "device.pushSettings.importance");
    check_fault("\"device\":{\"pushSettings\":[]}", "malformed", "device.pushSettings");
    check_fault("\"push\":{\"token\":\"t\",\"addressType\":\"gcm\"}", "malformed",
                "push.addressType");
    check_fault("\"contact\":{\"contactId\":\"77\"}", "malformed", "contact.contactId");
    check_fault("\"contact\":{\"contactId\":9223372036854775808}", "malformed",
                "contact.contactId");
    check_fault("\"removed\":null", "malformed", "removed");
    check_fault("\"push\":null,\"eventTime\":1", "malformed", "eventTime");
}

Test(device_event, texts_are_too_large_above_their_limit_only, .timeout = 5)
{
    static const struct {
        const char *path, *before, *after;
        size_t max;
    } rows[] = {
        {"device.deviceModel", "\"device\":{\"deviceModel\":\"", "\"}", 1024},
        {"push.token", "\"push\":{\"token\":\"", "\"}", 4096},
        {"device.pushSettings.x", "\"device\":{\"pushSettings\":{\"x\":\"", "\"}}", 8192 - 8},
    };
    for (size_t i = 0; i < CM_LENGTH(rows); i++) {
        for (size_t len = rows[i].max - 1; len <= rows[i].max + 1; len++) {
            CM_CLEANUP(cm_buffer_destroy) cm_buffer_t members = {0};
            cm_buffer_printf(&members, "%s", rows[i].before);
            for (size_t k = 0; k < len; k++)
                cm_buffer_append(&members, "x", 1);
            cm_buffer_printf(&members, "%s", rows[i].after);
            if (len > rows[i].max) {
                /* the settings outgrow their limit when they are closed */
                check_fault(cm_buffer_text(&members), "too-large",
                            i == 2 ? "device.pushSettings" : rows[i].path);
                continue;
            }
            CM_CLEANUP(decoding_end) decoding_t self = decode_with(cm_buffer_text(&members));
            cr_expect(eq(int, self.status, CM_OK), "%s", self.err.message);
        }
    }
}

Test(device_event, keys_have_1_to_256_bytes, .timeout = 5)
{
    static const char *const names[] = {"applicationCode", "clientId"};
    for (size_t i = 0; i < 2; i++) {
        for (int len = 0; len <= 257; len += len == 1 ? 254 : 1) {
            char body[512], text[300] = "";
            memset(text, 'k', (size_t)len);
            snprintf(body, sizeof body,
                     "{\"customerId\":7,\"%s\":\"A\",\"%s\":\"%s\",\"eventTime\":1,\"push\":null}",
                     names[1 - i], names[i], text);
            CM_CLEANUP(decoding_end) decoding_t self = decode(body);
            cr_expect(eq(int, self.status, len > 0 && len <= 256 ? CM_OK : CM_PERMANENT));
            if (len == 0)
                cr_expect(eq(str, self.err.code, "malformed"));
            if (len == 257)
                cr_expect(eq(str, self.err.code, "too-large"));
        }
    }
}

Test(device_event, the_tenant_is_told_although_the_fault_comes_before_it, .timeout = 5)
{
    CM_CLEANUP(decoding_end)
    decoding_t self = decode("{\"push\":1,\"customerId\":\"acme\",\"x\"");
    cr_expect(eq(int, self.status, CM_PERMANENT));
    cr_expect(eq(str, self.event.tenant, "acme"));
    CM_CLEANUP(decoding_end) decoding_t invalid = decode("{\"customerId\":\"a b\"}");
    cr_expect(eq(str, invalid.err.code, "invalid-tenant"));
    cr_expect(eq(str, invalid.event.tenant, ""));
    CM_CLEANUP(decoding_end) decoding_t junk = decode("junk");
    cr_expect(eq(str, junk.event.tenant, ""));
}

/* ---- the hostile corpus ---------------------------------------------------------------------- */

static void check_hostile(size_t i)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t body = {0};
    const char *name = NULL, *code = NULL;
    cm_hostile_get(i, &body, &name, &code);
    CM_CLEANUP(decoding_end) decoding_t self = decode_str((cm_str_t){body.data, body.len});
    cr_expect(eq(int, self.status, CM_PERMANENT), "%s", name);
    cr_expect(eq(str, self.err.code, (char *)code), "%s: %s", name, self.err.message);
    size_t path = strcspn(self.err.message, ": ");
    cr_expect(path > 0 && self.err.message[path] == ':', "%s: %s", name, self.err.message);
    cr_expect(eq(ptr, strstr(self.err.message, CM_HOSTILE_CANARY), NULL), "%s", self.err.message);
    for (const char *p = self.err.message; *p; p++)
        cr_expect(0x20 <= *p && *p < 0x7f, "%s: byte %d", name, *p);
}

Test(device_event, each_hostile_body_is_refused_with_code_and_path_and_no_value, .timeout = 60)
{
    size_t count = cm_hostile_count();
    cr_assert(ge(sz, count, 240));
    for (size_t i = 0; i < count; i++)
        check_hostile(i);
}

Test(device_event, each_odd_but_legal_body_is_accepted, .timeout = 60)
{
    size_t count = cm_hostile_good_count();
    for (size_t i = 0; i < count; i++) {
        CM_CLEANUP(cm_buffer_destroy) cm_buffer_t body = {0};
        const char *name = NULL;
        cm_hostile_good_get(i, &body, &name);
        CM_CLEANUP(decoding_end) decoding_t self = decode_str((cm_str_t){body.data, body.len});
        cr_expect(eq(int, self.status, CM_OK), "%s: %s", name, self.err.message);
        cr_expect(eq(str, self.event.tenant, CM_HOSTILE_TENANT));
    }
}

Test(device_event, a_body_cut_anywhere_is_malformed, .timeout = 60)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t body = {0};
    const char *name = NULL;
    cm_hostile_good_get(0, &body, &name);
    for (size_t len = 0; len < body.len; len++) {
        CM_CLEANUP(decoding_end) decoding_t self = decode_str((cm_str_t){body.data, len});
        cr_expect(eq(str, self.err.code, "malformed"), "%zu", len);
    }
}
