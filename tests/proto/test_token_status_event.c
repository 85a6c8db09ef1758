#include "proto/device_event.h"
#include "proto/token_status_event.h"
#include "runtime/buffer.h"
#include "runtime/cleanup.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const int64_t NOW_MS = INT64_C(1795190400000); /* 2026-11-20T16:00:00Z */

#define HEAD                                                                                       \
    "{\"customerId\":7,\"applicationCode\":\"A\",\"clientId\":\"C\",\"eventTime\":"                \
    "\"2026-11-20T15:00:00.250Z\","
#define ANSWER(members) HEAD "\"provider\":\"apns\",\"response\":{" members "}}"

typedef struct {
    cm_arena_t *arena;
    char *body; /* exactly as long as it is, so that a sanitizer sees what goes beyond */
    cm_token_status_event_t event;
    cm_error_t err;
    cm_status_t status;
} decoding_t;

static void decoding_end(decoding_t *self)
{
    cm_arena_destroy(&self->arena);
    cm_free(&self->body);
}

static decoding_t decode(const char *body)
{
    size_t len = strlen(body);
    decoding_t self = {.arena = cm_arena_new(512), .body = malloc(len ? len : 1)};
    memcpy(self.body, body, len);
    self.status = cm_token_status_event_decode((cm_str_t){self.body, len}, NOW_MS, self.arena,
                                               &self.event, &self.err);
    return self;
}

static void check_ok(const char *body)
{
    CM_CLEANUP(decoding_end) decoding_t decoding = decode(body);
    cr_expect(eq(int, decoding.status, CM_OK), "%s: %s", body, decoding.err.message);
}

static void check_fault(const char *body, const char *code, const char *path)
{
    CM_CLEANUP(decoding_end) decoding_t decoding = decode(body);
    cr_expect(eq(int, decoding.status, CM_PERMANENT), "%s", body);
    cr_expect(eq(str, decoding.err.code, (char *)code), "%s: %s", body, decoding.err.message);
    cr_expect(eq(int, strncmp(decoding.err.message, path, strlen(path)), 0), "%s: %s", body,
              decoding.err.message);
}

static void check_text(cm_str_t got, const char *wanted)
{
    cr_expect(cm_str_eq(got, cm_str(wanted)), "%.*s instead of %s", CM_STR_ARG(got),
              wanted ? wanted : "(absent)");
}

/* ---- judged by the sender -------------------------------------------------------------------- */

Test(token_status_event, a_judged_verdict_is_decoded, .timeout = 5)
{
    CM_CLEANUP(decoding_end)
    decoding_t decoding = decode(
        "{\"customerId\":218524530,\"applicationCode\":\"EMS11-C3FD3\",\"clientId\":\"6a2f\","
        "\"token\":\"t\\u00e9\",\"eventTime\":\"2026-11-20T16:00:00Z\",\"status\":\"invalid\","
        "\"reason\":\"UNREGISTERED\",\"more\":{\"status\":1,\"httpStatus\":[]}}");
    cm_token_status_event_t *event = &decoding.event;
    cr_assert(eq(int, decoding.status, CM_OK), "%s", decoding.err.message);
    cr_expect(eq(str, event->tenant, "218524530"));
    check_text(event->application_code, "EMS11-C3FD3");
    check_text(event->client_id, "6a2f");
    check_text(event->token, "t\xc3\xa9");
    check_text(event->reason, "UNREGISTERED");
    cr_expect(eq(i64, event->event_ms, NOW_MS));
    cr_expect(event->is_judged);
    cr_expect(eq(int, event->is_valid, false));
    cr_expect(eq(int, event->has_provider, false));
}

Test(token_status_event, a_judged_verdict_stands_whatever_its_reason, .timeout = 5)
{
    CM_CLEANUP(decoding_end)
    decoding_t gone = decode(HEAD "\"status\":\"invalid\",\"reason\":\"QUOTA_EXCEEDED\"}");
    cm_push_judgement_t judgement = cm_token_status_event_judge(&gone.event);
    cr_expect(eq(int, judgement.verdict, CM_PUSH_VERDICT_GONE));
    cr_expect(eq(i64, judgement.at_ms, NOW_MS - 3599750));
    cr_expect(eq(uint, judgement.table_version, 0));
    cr_expect(judgement.row == NULL);
    CM_CLEANUP(decoding_end)
    decoding_t valid = decode(HEAD "\"status\":\"valid\",\"provider\":\"hms\"}");
    judgement = cm_token_status_event_judge(&valid.event);
    cr_expect(eq(int, judgement.verdict, CM_PUSH_VERDICT_VALID));
    cr_expect(valid.event.has_provider);
    cr_expect(eq(int, valid.event.answer.provider, CM_PUSH_HMS));
}

/* ---- a provider's answer --------------------------------------------------------------------- */

Test(token_status_event, an_answer_is_decoded_and_judged_by_the_table, .timeout = 5)
{
    CM_CLEANUP(decoding_end)
    decoding_t decoding = decode(
        "{\"response\":{\"timestamp\":1795186000000,\"detail\":\"a \\\"b\\\"\",\"errorCode\":"
        "\"Unregistered\",\"httpStatus\":410,\"other\":{\"httpStatus\":200}},\"provider\":\"apns\","
        "\"eventTime\":1795190400000,\"token\":\"abc\",\"applicationCode\":\"A\","
        "\"customerId\":\"A1B2C3D4-0000-4000-8000-00000000000F\"}");
    cm_token_status_event_t *event = &decoding.event;
    cr_assert(eq(int, decoding.status, CM_OK), "%s", decoding.err.message);
    cr_expect(eq(str, event->tenant,
                 "a1b2c3d40000400080000000"
                 "0000000f"));
    check_text(event->client_id, NULL);
    check_text(event->token, "abc");
    check_text(event->answer.code, "Unregistered");
    check_text(event->answer.detail, "a \"b\"");
    cr_expect(eq(int, event->is_judged, false));
    cr_expect(eq(int, event->answer.provider, CM_PUSH_APNS));
    cr_expect(eq(int, event->answer.status, 410));
    cr_expect(event->answer.has_timestamp);
    cr_expect(eq(i64, event->answer.event_ms, NOW_MS));
    cm_push_judgement_t judgement = cm_token_status_event_judge(event);
    cr_expect(eq(int, judgement.verdict, CM_PUSH_VERDICT_GONE));
    cr_expect(eq(i64, judgement.at_ms, INT64_C(1795186000000)));
    cr_assert(judgement.row != NULL);
    cr_expect(eq(uint, judgement.table_version, cm_push_verdict_table.version));
}

Test(token_status_event, null_and_empty_members_of_an_answer_are_absent, .timeout = 5)
{
    static const char *const bodies[] = {
        ANSWER(""),
        ANSWER("\"httpStatus\":null,\"errorCode\":null,\"detail\":null,\"timestamp\":null"),
        ANSWER("\"errorCode\":\"\",\"detail\":\"\"")};
    for (size_t i = 0; i < CM_LENGTH(bodies); i++) {
        CM_CLEANUP(decoding_end) decoding_t decoding = decode(bodies[i]);
        cr_assert(eq(int, decoding.status, CM_OK), "%s", decoding.err.message);
        cr_expect(eq(int, decoding.event.answer.status, 0));
        check_text(decoding.event.answer.code, NULL);
        check_text(decoding.event.answer.detail, NULL);
        cr_expect(eq(int, decoding.event.answer.has_timestamp, false));
        cr_expect(
            eq(int, cm_token_status_event_judge(&decoding.event).verdict, CM_PUSH_VERDICT_UNKNOWN));
    }
}

Test(token_status_event, an_error_code_may_be_an_integer, .timeout = 5)
{
    CM_CLEANUP(decoding_end)
    decoding_t decoding = decode(HEAD "\"provider\":\"hms\",\"response\":{\"httpStatus\":200,"
                                      "\"errorCode\":80300007}}");
    cr_assert(eq(int, decoding.status, CM_OK), "%s", decoding.err.message);
    check_text(decoding.event.answer.code, "80300007");
    cr_expect(eq(int, cm_token_status_event_judge(&decoding.event).verdict, CM_PUSH_VERDICT_GONE));
    check_fault(ANSWER("\"errorCode\":1.5"), "malformed", "response.errorCode: ");
    check_fault(ANSWER("\"errorCode\":99999999999999999999"), "malformed", "response.errorCode: ");
    check_fault(ANSWER("\"errorCode\":true"), "malformed", "response.errorCode: ");
}

/* ---- the address ----------------------------------------------------------------------------- */

Test(token_status_event, a_client_or_a_token_or_both_are_an_address, .timeout = 5)
{
#define BODY(address)                                                                              \
    "{\"customerId\":7,\"applicationCode\":\"A\",\"eventTime\":1," address "\"status\":\"valid\"}"
    check_ok(BODY("\"clientId\":\"C\","));
    check_ok(BODY("\"token\":\"T\","));
    check_ok(BODY("\"token\":\"https://push.example/a?b\",\"clientId\":null,"));
    check_ok(BODY("\"clientId\":\"C\",\"token\":\"\","));
    check_ok(BODY("\"clientId\":\"C\",\"token\":\"T\","));
    check_fault(BODY(""), "malformed", "(body): has neither clientId nor token");
    check_fault(BODY("\"clientId\":\"\",\"token\":null,"), "malformed", "(body): ");
    check_fault(BODY("\"clientId\":5,"), "malformed", "clientId: ");
    check_fault(BODY("\"token\":[],"), "malformed", "token: ");
    check_fault(BODY("\"token\":\"a\\u0000b\","), "malformed", "token: ");
    check_fault(BODY("\"token\":\"a\",\"token\":\"b\","), "malformed", "token: ");
#undef BODY
}

Test(token_status_event, each_text_has_a_limit, .timeout = 10)
{
    static const struct {
        const char *before, *after, *path;
        int max;
    } texts[] = {
        {"{\"customerId\":7,\"applicationCode\":\"",
         "\",\"clientId\":\"C\",\"eventTime\":1,"
         "\"status\":\"valid\"}",
         "applicationCode: ", CM_EVENT_KEY_MAX},
        {"{\"customerId\":7,\"applicationCode\":\"A\",\"eventTime\":1,\"status\":\"valid\","
         "\"clientId\":\"",
         "\"}", "clientId: ", CM_EVENT_KEY_MAX},
        {HEAD "\"status\":\"valid\",\"token\":\"", "\"}", "token: ", CM_EVENT_TOKEN_MAX},
        {HEAD "\"status\":\"valid\",\"reason\":\"", "\"}", "reason: ", 256},
        {HEAD "\"provider\":\"fcm\",\"response\":{\"errorCode\":\"", "\"}}",
         "response.errorCode: ", 256},
        {HEAD "\"provider\":\"fcm\",\"response\":{\"detail\":\"", "\"}}",
         "response.detail: ", 8192},
    };
    for (size_t i = 0; i < CM_LENGTH(texts); i++) {
        for (int len = texts[i].max - 1; len <= texts[i].max + 1; len++) {
            char body[9000];
            snprintf(body, sizeof body, "%s%0*d%s", texts[i].before, len, 0, texts[i].after);
            if (len <= texts[i].max)
                check_ok(body);
            else
                check_fault(body, "too-large", texts[i].path);
        }
    }
}

/* ---- faults ---------------------------------------------------------------------------------- */

Test(token_status_event, what_is_missing_is_named, .timeout = 5)
{
    check_fault(
        "{\"applicationCode\":\"A\",\"clientId\":\"C\",\"eventTime\":1,\"status\":\"valid\"}",
        "malformed", "customerId: is missing");
    check_fault("{\"customerId\":7,\"clientId\":\"C\",\"eventTime\":1,\"status\":\"valid\"}",
                "malformed", "applicationCode: is missing");
    check_fault(
        "{\"customerId\":7,\"applicationCode\":\"A\",\"clientId\":\"C\",\"status\":\"valid\"}",
        "malformed", "eventTime: is missing");
    check_fault(HEAD "\"response\":{\"httpStatus\":200}}", "malformed", "provider: is missing");
    check_fault(HEAD "\"provider\":\"fcm\"}", "malformed",
                "(body): has neither status nor response");
    check_fault(HEAD "\"status\":null,\"response\":null}", "malformed", "(body): has neither");
    check_fault(HEAD "\"status\":\"valid\",\"provider\":\"fcm\",\"response\":{}}", "malformed",
                "(body): has both status and response");
}

Test(token_status_event, a_value_of_the_wrong_kind_is_named_by_its_path, .timeout = 5)
{
    check_fault(HEAD "\"status\":\"gone\"}", "malformed", "status: ");
    check_fault(HEAD "\"status\":\"\"}", "malformed", "status: ");
    check_fault(HEAD "\"status\":true}", "malformed", "status: ");
    check_fault(HEAD "\"status\":\"valid\",\"reason\":7}", "malformed", "reason: ");
    check_fault(HEAD "\"provider\":\"gcm\",\"response\":{}}", "malformed", "provider: ");
    check_fault(HEAD "\"provider\":\"APNS\",\"response\":{}}", "malformed", "provider: ");
    check_fault(HEAD "\"provider\":{},\"response\":{}}", "malformed", "provider: ");
    check_fault(HEAD "\"provider\":\"fcm\",\"response\":200}", "malformed", "response: ");
    check_fault(HEAD "\"provider\":\"fcm\",\"response\":[]}", "malformed", "response: ");
    check_fault(ANSWER("\"httpStatus\":\"404\""), "malformed", "response.httpStatus: ");
    check_fault(ANSWER("\"httpStatus\":404.0"), "malformed", "response.httpStatus: ");
    check_fault(ANSWER("\"detail\":{}"), "malformed", "response.detail: ");
    check_fault(ANSWER("\"timestamp\":false"), "malformed", "response.timestamp: ");
}

Test(token_status_event, an_http_status_is_100_to_599, .timeout = 5)
{
    check_ok(ANSWER("\"httpStatus\":100"));
    check_ok(ANSWER("\"httpStatus\":599"));
    check_fault(ANSWER("\"httpStatus\":99"), "malformed", "response.httpStatus: ");
    check_fault(ANSWER("\"httpStatus\":0"), "malformed", "response.httpStatus: ");
    check_fault(ANSWER("\"httpStatus\":600"), "malformed", "response.httpStatus: ");
    check_fault(ANSWER("\"httpStatus\":-404"), "malformed", "response.httpStatus: ");
    check_fault(ANSWER("\"httpStatus\":4294967700"), "malformed", "response.httpStatus: ");
}

Test(token_status_event, a_time_that_is_none_or_far_ahead_is_a_bad_time, .timeout = 5)
{
#define AT(time)                                                                                   \
    "{\"customerId\":7,\"applicationCode\":\"A\",\"token\":\"T\",\"status\":\"valid\","            \
    "\"eventTime\":" time "}"
    check_ok(AT("\"2026-11-21T15:59:59Z\""));
    check_ok(AT("\"2026-11-20T17:00:00.999+01:00\""));
    check_fault(AT("\"2026-11-21T16:00:01Z\""), "bad-time", "eventTime: ");
    check_fault(AT("\"yesterday\""), "bad-time", "eventTime: ");
    check_fault(AT("-1"), "bad-time", "eventTime: ");
    check_fault(AT("null"), "malformed", "eventTime: ");
    check_fault(ANSWER("\"timestamp\":\"2026-11-22T00:00:00Z\""), "bad-time",
                "response.timestamp: ");
#undef AT
}

Test(token_status_event, the_tenant_is_told_although_the_event_is_refused, .timeout = 5)
{
    static const char *const bodies[] = {
        HEAD "\"status\":\"gone\"}", "{\"status\":5,\"customerId\":7}",
        "{\"customerId\":7,\"eventTime\":\"soon\"}", "{\"customerId\":7,"};
    for (size_t i = 0; i < CM_LENGTH(bodies); i++) {
        CM_CLEANUP(decoding_end) decoding_t decoding = decode(bodies[i]);
        cr_expect(eq(int, decoding.status, CM_PERMANENT));
        cr_expect(eq(str, decoding.event.tenant, "7"), "%s", bodies[i]);
    }
    check_fault("{\"customerId\":\"a b\",\"status\":\"valid\"}", "invalid-tenant", "customerId: ");
    check_fault("{\"customerId\":1.5,\"status\":\"valid\"}", "malformed", "customerId: ");
}

Test(token_status_event, a_body_is_one_object_of_at_most_256_kib, .timeout = 5)
{
    check_fault("", "malformed", "(body): ");
    check_fault("[]", "malformed", "(body): ");
    check_fault(HEAD "\"status\":\"valid\"}x", "malformed", "(body): ");
    check_fault(HEAD "\"status\":\"valid\",\"x\":\"\xff\"}", "malformed", "");
    static char body[CM_EVENT_BODY_MAX + 2];
    memset(body, ' ', sizeof body - 1);
    memcpy(body, "{\"customerId\":7}", 16);
    check_fault(body, "too-large", "(body): ");
}
