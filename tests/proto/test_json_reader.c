#include "proto/json_reader.h"
#include "runtime/buffer.h"
#include "runtime/cleanup.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BYTES_MAX = 4096, DEPTH_MAX = 32 };
static const int64_t NOW_MS = INT64_C(1795190400000); /* 2026-11-20T16:00:00Z */

/* ---- what the reader told, as one line of text ----------------------------------------------- */

static cm_status_t record(void *ctx, const cm_json_value_t *value, cm_error_t *err)
{
    static const char *const types[] = {"null", "bool", "number", "string", "{", "[", "end"};
    cm_buffer_t *out = ctx;
    cm_buffer_printf(out, "%s%zu", out->len ? " " : "", value->depth);
    if (value->key.ptr)
        cm_buffer_printf(out, "/%.*s", CM_STR_ARG(value->key));
    cm_buffer_printf(out, ":%s", types[value->type]);
    if (value->type == CM_JSON_BOOL)
        cm_buffer_printf(out, "=%s", value->boolean ? "true" : "false");
    if (value->text.ptr)
        cm_buffer_printf(out, "=%.*s", CM_STR_ARG(value->text));
    return cm_str_is(value->text, "stop")
               ? cm_error_set(err, CM_TRANSIENT, "stopped", "as the test wanted")
               : CM_OK;
}

typedef struct {
    cm_arena_t *arena;
    char *body;
    cm_buffer_t told;
    cm_error_t err;
    cm_status_t status;
} reading_t;

static void reading_end(reading_t *self)
{
    cm_arena_destroy(&self->arena);
    cm_free(&self->body);
    cm_buffer_destroy(&self->told);
}

/* The body is read from memory of exactly its size, so that a sanitizer sees what goes beyond. */
static reading_t read_str(cm_str_t body)
{
    reading_t self = {.arena = cm_arena_new(256)};
    self.body = malloc(body.len ? body.len : 1);
    memcpy(self.body, body.ptr, body.len);
    self.status = cm_json_read((cm_str_t){self.body, body.len}, BYTES_MAX, DEPTH_MAX, self.arena,
                               record, &self.told, &self.err);
    cm_buffer_text(&self.told);
    return self;
}

static reading_t read_text(const char *body)
{
    return read_str(cm_str(body));
}

static void check_told(const char *body, const char *told)
{
    CM_CLEANUP(reading_end) reading_t self = read_text(body);
    cr_expect(eq(int, self.status, CM_OK), "%s", self.err.message);
    cr_expect(eq(str, self.told.data, told));
}

static void check_fault(const char *body, const char *message)
{
    CM_CLEANUP(reading_end) reading_t self = read_text(body);
    cr_expect(eq(int, self.status, CM_PERMANENT), "%s", body);
    cr_expect(eq(str, self.err.code, "malformed"));
    cr_expect(eq(str, self.err.message, message));
}

static bool reads(const char *body)
{
    CM_CLEANUP(reading_end) reading_t self = read_text(body);
    return self.status == CM_OK;
}

/* ---- values ---------------------------------------------------------------------------------- */

Test(json_reader, values_come_in_document_order_with_depth_and_key, .timeout = 5)
{
    check_told("{\"a\":1,\"b\":{\"c\":\"x\",\"d\":[true,null,{\"e\":false}]},\"f\":-1.5e3}",
               "0:{ 1/a:number=1 1/b:{ 2/c:string=x 2/d:[ 3:bool=true 3:null 3:{ 4/e:bool=false "
               "3:end 2/d:end 1/b:end 1/f:number=-1.5e3 0:end");
}

Test(json_reader, white_space_of_json_is_allowed_around_everything, .timeout = 5)
{
    check_told(" \t\r\n{ \"a\" : [ 1 , 2 ] }\n", "0:{ 1/a:[ 2:number=1 2:number=2 1/a:end 0:end");
}

Test(json_reader, escapes_are_decoded_in_values_and_keys, .timeout = 5)
{
    check_told("{\"\\u0061\\n\":\"\\\"\\\\\\/\\b\\f\\r\\t\\u00e9\\ud83d\\ude00\"}",
               "0:{ 1/a\n:string=\"\\/\b\f\r\t\xc3\xa9\xf0\x9f\x98\x80 0:end");
}

Test(json_reader, an_escaped_value_outlives_the_next_one, .timeout = 5)
{
    check_told("{\"\\u006b\":{\"a\":\"\\n\",\"b\":\"\\t\"},\"c\":\"\\r\"}",
               "0:{ 1/k:{ 2/a:string=\n 2/b:string=\t 1/k:end 1/c:string=\r 0:end");
}

Test(json_reader, every_valid_utf8_length_passes, .timeout = 5)
{
    check_told("{\"a\":\"\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xf0\x90\x80\x80"
               "\xf4\x8f\xbf\xbf\"}",
               "0:{ 1/a:string=\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80"
               "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf 0:end");
}

Test(json_reader, a_text_without_escapes_points_into_the_body, .timeout = 5)
{
    const char *body = "{\"key\":\"value\"}";
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(256);
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t told = {0};
    cr_assert(eq(int, cm_json_read(cm_str(body), BYTES_MAX, 1, arena, record, &told, NULL), CM_OK));
    cr_expect(eq(sz, cm_arena_used(arena), 0));
}

/* ---- faults and their paths ------------------------------------------------------------------ */

Test(json_reader, a_fault_of_the_callback_gets_the_path_and_keeps_its_status, .timeout = 5)
{
    CM_CLEANUP(reading_end) reading_t self = read_text("{\"a\":[0,{},2,{\"b\":\"stop\"}]}");
    cr_expect(eq(int, self.status, CM_TRANSIENT));
    cr_expect(eq(str, self.err.code, "stopped"));
    cr_expect(eq(str, self.err.message, "a[3].b: as the test wanted"));
}

Test(json_reader, the_path_names_members_and_elements_from_the_outermost, .timeout = 5)
{
    check_fault("{\"device\":{\"pushSettings\":{\"importance\":\"\\u0000\"}}}",
                "device.pushSettings.importance: NUL in a string");
    check_fault("{\"a\":[[1],[2,\"\\ud800\"]]}", "a[1][1]: lone surrogate in a string");
    check_fault("{\"a\":{\"b\":{\"c\":1}},\"d\":\"\\udc00\"}", "d: lone surrogate in a string");
}

Test(json_reader, the_path_is_printable_ascii_of_at_most_200_bytes, .timeout = 5)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t body = {0};
    for (int i = 0; i < 8; i++)
        cm_buffer_printf(&body, "{\"\\n\xc3\xa9%0100d\":", i);
    cm_buffer_printf(&body, "\"\\u0000\"");
    CM_CLEANUP(reading_end) reading_t self = read_text(cm_buffer_text(&body));
    const char *colon = strchr(self.err.message, ':');
    cr_assert(ne(ptr, (void *)colon, NULL));
    cr_expect(eq(sz, (size_t)(colon - self.err.message), 200));
    cr_expect(eq(int, strncmp(self.err.message, "???000", 6), 0));
    cr_expect(eq(chr, self.err.message[64], '.'));
}

Test(json_reader, a_key_cannot_pass_for_the_end_of_the_path, .timeout = 5)
{
    check_fault("{\": x\\\"\\n\":\"\\u0000\"}", "??x??: NUL in a string");
}

Test(json_reader, the_outermost_value_must_be_an_object, .timeout = 5)
{
    static const char *const bodies[] = {"[]", "[{}]", "null", "true", "\"x\"", "1 "};
    for (size_t i = 0; i < CM_LENGTH(bodies); i++)
        cr_expect(not(reads(bodies[i])), "%s", bodies[i]);
    check_fault("[1]", "(body): must be an object");
}

Test(json_reader, an_unfinished_body_is_refused_wherever_it_ends, .timeout = 5)
{
    const char *body = "{\"a\":[1,\"x\\u0041\",true],\"b\":{\"c\":null}}";
    for (size_t len = 0; len < strlen(body); len++) {
        CM_CLEANUP(reading_end) reading_t self = read_str((cm_str_t){body, len});
        cr_expect(eq(int, self.status, CM_PERMANENT), "%.*s", (int)len, body);
        cr_expect(eq(str, self.err.code, "malformed"));
    }
    cr_expect(reads(body));
}

Test(json_reader, bytes_behind_the_object_are_refused, .timeout = 5)
{
    static const char *const tails[] = {"{}", ",", "}", "x", "\"", "\"abc", "tru", "1", "/", "-"};
    for (size_t i = 0; i < CM_LENGTH(tails); i++) {
        char body[32];
        snprintf(body, sizeof body, "{} \n%s", tails[i]);
        check_fault(body, "(body): bytes after the object at offset 4");
    }
    CM_CLEANUP(reading_end) reading_t self = read_str((cm_str_t){"{}\0", 3});
    cr_expect(eq(int, self.status, CM_PERMANENT));
}

Test(json_reader, comments_and_other_dialects_are_refused, .timeout = 5)
{
    static const char *const bodies[] = {"{/**/}",         "{}//",        "{'a':1}",
                                         "{a:1}",          "{\"a\":1,}",  "{\"a\":[1,]}",
                                         "\xef\xbb\xbf{}", "{\"a\":NaN}", "{\"a\":Infinity}",
                                         "{\"a\":TRUE}",   "{\"a\":1;}",  "{\"a\" 1}"};
    for (size_t i = 0; i < CM_LENGTH(bodies); i++)
        cr_expect(not(reads(bodies[i])), "%s", bodies[i]);
}

Test(json_reader, a_fault_of_syntax_tells_the_offset_but_not_the_text, .timeout = 5)
{
    CM_CLEANUP(reading_end) reading_t self = read_text("{\"a\":\"secret\",\"b\":!}");
    cr_expect(eq(str, self.err.code, "malformed"));
    cr_expect(
        eq(str, self.err.message, "b: lexical error: invalid char in json text at offset 19"));
}

Test(json_reader, vertical_tab_and_form_feed_are_no_white_space, .timeout = 5)
{
    cr_expect(not(reads("{\"a\":\v1}")));
    cr_expect(not(reads("{\"a\":1\f}")));
    cr_expect(not(reads("{\"a\":1}\v")));
    cr_expect(not(reads("\f{\"a\":1}")));
}

Test(json_reader, what_is_no_utf8_is_refused_with_its_offset, .timeout = 5)
{
    static const char *const bad[] = {
        "\x80",     "\xc0\x80",         "\xc1\xbf",         "\xe0\x9f\xbf",     "\xed\xa0\x80",
        "\xe2\x82", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf8\x88\x80\x80", "\xff",
        "\xc2",     "\xf0\x9f\x92",     "\xe2\x28\xa1"};
    for (size_t i = 0; i < CM_LENGTH(bad); i++) {
        char body[64];
        snprintf(body, sizeof body, "{\"a\":\"12%s\"}", bad[i]);
        check_fault(body, "a: invalid UTF-8 or control byte at offset 8");
        snprintf(body, sizeof body, "{\"a\":\"\\t%s\"}", bad[i]);
        check_fault(body, "a: invalid UTF-8 or control byte at offset 8");
        snprintf(body, sizeof body, "{\"123456%s\":0}", bad[i]);
        check_fault(body, "(body): invalid UTF-8 or control byte at offset 8");
    }
}

Test(json_reader, invalid_utf8_is_found_at_every_alignment, .timeout = 5)
{
    for (size_t before = 0; before < 40; before++) {
        for (size_t after = 0; after < 20; after++) {
            char body[128];
            int len = snprintf(body, sizeof body, "{\"a\":\"%.*s\xed\xa0\x80%.*s\"}", (int)before,
                               "........................................", (int)after,
                               "....................");
            CM_CLEANUP(reading_end) reading_t self = read_str((cm_str_t){body, (size_t)len});
            cr_expect(eq(int, self.status, CM_PERMANENT));
        }
    }
}

Test(json_reader, lone_surrogates_are_refused_in_values_and_keys, .timeout = 5)
{
    static const char *const bad[] = {"\\ud800",          "\\udbffx",       "\\udc00",
                                      "\\ud83d\\u0041",   "\\ud83d\\ud83d", "\\ud83d\\n",
                                      "\\ud83d\\\\ude00", "\\ude00\\ud83d", "\\uD83D\\uE000"};
    for (size_t i = 0; i < CM_LENGTH(bad); i++) {
        char body[64];
        snprintf(body, sizeof body, "{\"a\":\"x%s\"}", bad[i]);
        check_fault(body, "a: lone surrogate in a string");
        snprintf(body, sizeof body, "{\"%s\":0}", bad[i]);
        check_fault(body, "(body): lone surrogate in a string");
    }
    cr_expect(reads("{\"a\":\"\\uD83d\\uDe00\\\\ud800 ?\"}"));
}

Test(json_reader, nul_is_refused_in_values_and_keys, .timeout = 5)
{
    check_fault("{\"a\":\"\\u0000\"}", "a: NUL in a string");
    check_fault("{\"\\u0000\":1}", "(body): NUL in a string");
    CM_CLEANUP(reading_end) reading_t self = read_str(CM_STR("{\"a\":\"x\0\"}"));
    cr_expect(eq(str, self.err.message, "a: invalid UTF-8 or control byte at offset 7"));
    cr_expect(reads("{\"a\":\"\\\\u0000\"}"));
}

Test(json_reader, raw_control_bytes_are_refused_in_a_string, .timeout = 5)
{
    for (char c = 1; c < 0x20; c++) {
        char body[16];
        snprintf(body, sizeof body, "{\"a\":\"%c\"}", c);
        cr_expect(not(reads(body)), "%d", c);
    }
}

Test(json_reader, a_duplicate_key_is_refused_in_its_object_only, .timeout = 5)
{
    check_fault("{\"a\":1,\"b\":2,\"a\":3}", "a: duplicate key");
    check_fault("{\"x\":{\"ab\":1,\"\\u0061b\":3}}", "x.ab: duplicate key");
    check_fault("{\"x\":[{},{\"y\":1,\"y\":{}}]}", "x[1].y: duplicate key");
    check_fault("{\"\":1,\"\":2}", "(body): duplicate key");
    cr_expect(
        reads("{\"a\":{\"a\":1,\"b\":{\"a\":1}},\"b\":{\"a\":1},\"\":[{\"a\":1},{\"a\":1}]}"));
    cr_expect(reads("{\"axa\":1,\"aya\":1,\"azzza\":1,\"axxxa\":2,\"ayxya\":3}"));
}

Test(json_reader, an_object_has_at_most_200_members, .timeout = 5)
{
    for (int members = 199; members <= 201; members++) {
        CM_CLEANUP(cm_buffer_destroy) cm_buffer_t body = {0};
        cm_buffer_printf(&body, "{\"x\":{\"y\":0},\"o\":{");
        for (int i = 0; i < members; i++)
            cm_buffer_printf(&body, "%s\"m%d\":%d", i ? "," : "", i, i);
        cm_buffer_printf(&body, "}}");
        CM_CLEANUP(reading_end) reading_t self = read_text(cm_buffer_text(&body));
        cr_expect(eq(int, self.status, members <= 200 ? CM_OK : CM_PERMANENT));
        if (members > 200)
            cr_expect(eq(str, self.err.message, "o.m200: more than 200 members in one object"));
    }
}

Test(json_reader, duplicates_are_found_among_many_keys_of_many_levels, .timeout = 5)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t body = {0};
    for (int level = 0; level < 5; level++) {
        cm_buffer_printf(&body, "{");
        for (int i = 0; i < 60; i++)
            cm_buffer_printf(&body, "\"m%d\":0,", i);
        cm_buffer_printf(&body, "\"down\":");
    }
    cm_buffer_printf(&body, "{}");
    size_t len = body.len;
    cm_buffer_printf(&body, "}}}}}");
    cr_expect(reads(cm_buffer_text(&body)));
    body.len = len;
    cm_buffer_printf(&body, "},\"m7\":0}}}}");
    check_fault(cm_buffer_text(&body), "down.down.down.m7: duplicate key");
}

Test(json_reader, numbers_must_be_finite_doubles, .timeout = 5)
{
    char body[1024], digits[512];
    check_fault("{\"a\":1e309}", "a: number outside of what a double holds");
    check_fault("{\"a\":[0,-1E+400]}", "a[1]: number outside of what a double holds");
    check_fault("{\"a\":1e-400}", "a: number outside of what a double holds");
    cr_expect(reads("{\"a\":[1.7976931348623157e308,-1e308,5e-324,0e999,123456789012345678901]}"));
    memset(digits, '9', sizeof digits);
    snprintf(body, sizeof body, "{\"a\":%.*s}", 308, digits);
    cr_expect(reads(body));
    snprintf(body, sizeof body, "{\"a\":%.*s}", 310, digits);
    cr_expect(not(reads(body)));
    snprintf(body, sizeof body, "{\"a\":0.%.*s}", 500, digits);
    cr_expect(reads(body));
}

Test(json_reader, only_the_number_grammar_of_json_passes, .timeout = 5)
{
    static const char *const bad[] = {"01", "+1",  ".5",  "1.",  "-",
                                      "1e", "1e+", "0x1", "--1", "1.e1"};
    for (size_t i = 0; i < CM_LENGTH(bad); i++) {
        char body[32];
        snprintf(body, sizeof body, "{\"a\":%s}", bad[i]);
        cr_expect(not(reads(body)), "%s", bad[i]);
    }
    cr_expect(reads("{\"a\":[0,-0,10,1.0,1e1,1E-1,0.0e+0]}"));
}

Test(json_reader, depth_is_limited_over_objects_and_arrays_alike, .timeout = 5)
{
    for (int levels = DEPTH_MAX - 1; levels <= DEPTH_MAX + 1; levels++) {
        CM_CLEANUP(cm_buffer_destroy) cm_buffer_t body = {0};
        cm_buffer_printf(&body, "{\"a\":");
        for (int i = 1; i < levels; i++)
            cm_buffer_printf(&body, i % 2 ? "[" : "{\"b\":");
        cm_buffer_printf(&body, "1");
        for (int i = levels - 1; i > 0; i--)
            cm_buffer_printf(&body, i % 2 ? "]" : "}");
        cm_buffer_printf(&body, "}");
        cr_expect(eq(int, reads(cm_buffer_text(&body)), levels <= DEPTH_MAX), "%d", levels);
    }
    check_fault("{\"a\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
                "a[0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0]"
                "[0][0][0][0]: nested deeper than 32 levels");
}

Test(json_reader, a_body_is_too_large_above_its_limit_only, .timeout = 5)
{
    char body[BYTES_MAX + 1];
    for (size_t len = BYTES_MAX - 1; len <= BYTES_MAX + 1; len++) {
        memset(body, ' ', sizeof body);
        memcpy(body, "{}", 2);
        CM_CLEANUP(reading_end) reading_t self = read_str((cm_str_t){body, len});
        cr_expect(eq(int, self.status, len <= BYTES_MAX ? CM_OK : CM_PERMANENT));
        if (len > BYTES_MAX)
            cr_expect(eq(str, self.err.code, "too-large"));
    }
}

Test(json_reader, an_empty_or_absent_body_is_malformed, .timeout = 5)
{
    check_fault("", "(body): is empty");
    cm_error_t err = {0};
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(64);
    cr_expect(eq(int, cm_json_read(CM_STR_NONE, 10, 10, arena, record, NULL, &err), CM_PERMANENT));
}

Test(json_reader, a_caller_without_an_error_gets_the_status, .timeout = 5)
{
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(64);
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t told = {0};
    cr_expect(eq(int, cm_json_read(CM_STR("{\"a\":!}"), 99, 9, arena, record, &told, NULL),
                 CM_PERMANENT));
}

/* ---- integers and times ---------------------------------------------------------------------- */

Test(json_reader, an_int64_has_neither_fraction_nor_exponent_nor_more_bits, .timeout = 5)
{
    int64_t value = 0;
    cr_expect(cm_json_i64(CM_STR("-9223372036854775808"), &value));
    cr_expect(eq(i64, value, INT64_MIN));
    cr_expect(cm_json_i64(CM_STR("9223372036854775807"), &value));
    cr_expect(eq(i64, value, INT64_MAX));
    cr_expect(not(cm_json_i64(CM_STR("9223372036854775808"), &value)));
    cr_expect(not(cm_json_i64(CM_STR("1.0"), &value)));
    cr_expect(not(cm_json_i64(CM_STR("1e3"), &value)));
}

static cm_status_t time_of(cm_json_type_t type, const char *text, int64_t *ret_ms, cm_error_t *err)
{
    cm_json_value_t value = {.type = type, .text = cm_str(text)};
    return cm_json_time(&value, NOW_MS, ret_ms, err);
}

Test(json_reader, a_time_is_rfc3339_with_an_offset_cut_to_milliseconds, .timeout = 5)
{
    static const struct {
        const char *text;
        int64_t ms;
    } rows[] = {
        {"1970-01-01T00:00:00Z", 0},
        {"1970-01-01T00:00:00.001Z", 1},
        {"2026-11-20T16:00:00.123Z", NOW_MS + 123},
        {"2026-11-20t16:00:00.1z", NOW_MS + 100},
        {"2026-11-20T16:00:00.1239999999Z", NOW_MS + 123},
        {"2026-11-20T17:30:00+01:30", NOW_MS},
        {"2026-11-20T00:00:00-16:00", NOW_MS},
        {"2026-11-20T16:00:00-00:00", NOW_MS},
        {"1969-12-31T23:00:00-01:00", 0},
        {"2000-02-29T00:00:00Z", INT64_C(951782400000)},
        {"2024-02-29T23:59:59Z", INT64_C(1709251199000)},
        {"2024-12-31T23:59:59.999Z", INT64_C(1735689599999)},
        {"2025-03-01T00:00:00Z", INT64_C(1740787200000)},
    };
    for (size_t i = 0; i < CM_LENGTH(rows); i++) {
        int64_t ms = -1;
        cr_expect(eq(int, time_of(CM_JSON_STRING, rows[i].text, &ms, NULL), CM_OK), "%s",
                  rows[i].text);
        cr_expect(eq(i64, ms, rows[i].ms), "%s", rows[i].text);
    }
}

Test(json_reader, a_time_may_be_epoch_milliseconds, .timeout = 5)
{
    int64_t ms = -1;
    cr_expect(eq(int, time_of(CM_JSON_NUMBER, "0", &ms, NULL), CM_OK));
    cr_expect(eq(i64, ms, 0));
    cr_expect(eq(int, time_of(CM_JSON_NUMBER, "1795190400123", &ms, NULL), CM_OK));
    cr_expect(eq(i64, ms, NOW_MS + 123));
}

Test(json_reader, any_other_time_is_a_bad_time, .timeout = 5)
{
    static const char *const bad[] = {
        "",
        "2026",
        "2026-11-20",
        "2026-11-20T16:00:00",
        "2026-11-20 16:00:00Z",
        "2026-11-20T16:00:00Zx",
        "2026-11-20T16:00:00+01",
        "2026-11-20T16:00:00+0100",
        "2026-11-20T16:00:00+24:00",
        "2026-11-20T16:00:00+00:60",
        "2026-11-20T16:00:00.Z",
        "2026-11-20T16:00:60Z",
        "2026-11-20T16:60:00Z",
        "2026-11-20T24:00:00Z",
        "2026-11-31T16:00:00Z",
        "2026-02-29T16:00:00Z",
        "1900-02-29T16:00:00Z",
        "2026-00-10T16:00:00Z",
        "2026-13-10T16:00:00Z",
        "2026-11-00T16:00:00Z",
        "1969-12-31T23:59:59.999Z",
        "1970-01-01T00:00:00+00:01",
        "0000-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
    };
    for (size_t i = 0; i < CM_LENGTH(bad); i++) {
        int64_t ms = 0;
        cm_error_t err = {0};
        cr_expect(eq(int, time_of(CM_JSON_STRING, bad[i], &ms, &err), CM_PERMANENT), "%s", bad[i]);
        cr_expect(eq(str, err.code, "bad-time"));
    }
    static const char *const numbers[] = {"-1", "1.5", "1e3", "253402300800000",
                                          "9223372036854775808"};
    for (size_t i = 0; i < CM_LENGTH(numbers); i++) {
        int64_t ms = 0;
        cm_error_t err = {0};
        cr_expect(eq(int, time_of(CM_JSON_NUMBER, numbers[i], &ms, &err), CM_PERMANENT));
        cr_expect(eq(str, err.code, "bad-time"));
    }
}

Test(json_reader, a_time_may_be_24_hours_ahead_and_no_more, .timeout = 5)
{
    cm_error_t err = {0};
    int64_t ms = 0;
    cr_expect(eq(int, time_of(CM_JSON_STRING, "2026-11-21T16:00:00Z", &ms, &err), CM_OK));
    cr_expect(
        eq(int, time_of(CM_JSON_STRING, "2026-11-21T16:00:00.001Z", &ms, &err), CM_PERMANENT));
    cr_expect(eq(str, err.code, "bad-time"));
}

Test(json_reader, a_time_of_another_type_is_malformed, .timeout = 5)
{
    cm_error_t err = {0};
    int64_t ms = 0;
    cr_expect(eq(int, time_of(CM_JSON_BOOL, NULL, &ms, &err), CM_PERMANENT));
    cr_expect(eq(str, err.code, "malformed"));
}
