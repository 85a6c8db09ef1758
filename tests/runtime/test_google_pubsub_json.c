/* Requests out and answers in, of the Google Pub/Sub driver. */
#include "runtime/broker/google_pubsub_json.h"
#include "runtime/cleanup.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

static cm_arena_t *arena;
static cm_buffer_t out;

static void begin(void)
{
    arena = cm_arena_new(4096);
}

static void end(void)
{
    cm_arena_destroy(&arena);
    cm_buffer_destroy(&out);
}

TestSuite(pubsub_json, .init = begin, .fini = end, .timeout = 10);

/* ---- addresses ------------------------------------------------------------------------------- */

Test(pubsub_json, takes_an_address_apart)
{
    cm_pubsub_address_t address;
    cm_error_t err = {0};
    cr_assert(eq(int,
                 cm_pubsub_address_parse("https://pubsub.googleapis.com/projects/my-project-1",
                                         &address, &err),
                 CM_OK));
    cr_assert(eq(str, address.base, "https://pubsub.googleapis.com"));
    cr_assert(eq(str, address.project, "my-project-1"));
    cr_assert(not(address.emulator));
    cm_pubsub_address_destroy(&address);
    cr_assert(
        eq(int, cm_pubsub_address_parse("http://[::1]:8085/projects/p", &address, &err), CM_OK));
    cr_assert(eq(str, address.base, "http://[::1]:8085"));
    cr_assert(address.emulator);
    cm_pubsub_address_destroy(&address);
}

Test(pubsub_json, refuses_what_is_no_address)
{
    static const char *const bad[] = {
        "",
        "nonsense",
        "https://host",
        "https:///projects/p",
        "http:///projects/p",
        "ftp://host/projects/p",
        "https://host/projects/",
        "https://host/projects/p/",
        "https://host/projects/p?x=1",
        "https://me:secret@host/projects/p",
        "https://host/projects/a b",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cm_pubsub_address_t address;
        cm_error_t err = {0};
        cr_expect(eq(int, cm_pubsub_address_parse(bad[i], &address, &err), CM_MISCONFIGURED), "%s",
                  bad[i]);
        cr_expect(eq(str, err.code, "address"));
    }
}

Test(pubsub_json, escapes_what_a_path_cannot_carry)
{
    cm_pubsub_put_escaped(&out, CM_STR("client-manager.writer~1_a/%+ \xc3\xa9"));
    cr_assert(eq(str, (char *)cm_buffer_text(&out), "client-manager.writer~1_a%2F%25%2B%20%C3%A9"));
}

/* ---- requests -------------------------------------------------------------------------------- */

Test(pubsub_json, writes_the_requests_of_a_subscriber)
{
    cm_pubsub_put_pull(&out, 1000);
    cr_assert(eq(str, (char *)cm_buffer_text(&out), "{\"maxMessages\":1000}"));
    cm_buffer_clear(&out);
    cm_pubsub_ids_begin(&out);
    cm_pubsub_put_id(&out, CM_STR("a"));
    cm_pubsub_put_id(&out, CM_STR("b\"\\\n"));
    cm_pubsub_ids_end(&out, -1);
    cr_assert(eq(str, (char *)cm_buffer_text(&out), "{\"ackIds\":[\"a\",\"b\\\"\\\\\\u000a\"]}"));
    cm_buffer_clear(&out);
    cm_pubsub_ids_begin(&out);
    cm_pubsub_put_id(&out, CM_STR("a"));
    cm_pubsub_ids_end(&out, 0);
    cr_assert(
        eq(str, (char *)cm_buffer_text(&out), "{\"ackIds\":[\"a\"],\"ackDeadlineSeconds\":0}"));
}

static const char *message_text(const cm_message_t *message)
{
    cm_buffer_clear(&out);
    cm_pubsub_messages_begin(&out);
    cm_pubsub_put_message(&out, message);
    cm_pubsub_messages_end(&out);
    return cm_buffer_text(&out);
}

Test(pubsub_json, writes_a_message_with_attributes_and_ordering_key)
{
    cm_attribute_t attributes[] = {{CM_STR("a"), CM_STR("1")}, {CM_STR("b"), CM_STR("")}};
    cm_message_t message = {.body = CM_STR("\0\xff"),
                            .attributes = attributes,
                            .attribute_count = 2,
                            .ordering_key = CM_STR("k")};
    cr_assert(eq(str, (char *)message_text(&message),
                 "{\"messages\":[{\"attributes\":{\"a\":\"1\",\"b\":\"\"},\"data\":\"AP8=\","
                 "\"orderingKey\":\"k\"}]}"));
}

Test(pubsub_json, leaves_out_what_only_the_service_may_set)
{
    cm_attribute_t attributes[] = {{CM_STR("googX"), CM_STR("1")},
                                   {CM_STR("googclient_traceparent"), CM_STR("2")},
                                   {CM_STR("goo"), CM_STR("3")}};
    cm_message_t message = {.body = CM_STR("x"), .attributes = attributes, .attribute_count = 3};
    cr_assert(eq(str, (char *)message_text(&message),
                 "{\"messages\":[{\"attributes\":{\"googclient_traceparent\":\"2\",\"goo\":\"3\"},"
                 "\"data\":\"eA==\"}]}"));
}

Test(pubsub_json, marks_a_message_that_has_nothing)
{
    cm_attribute_t reserved = {CM_STR("googX"), CM_STR("1")};
    cm_message_t message = {.body = CM_STR(""), .attributes = &reserved, .attribute_count = 1};
    cr_assert(eq(str, (char *)message_text(&message),
                 "{\"messages\":[{\"attributes\":{\"cm-empty\":\"1\"}}]}"));
    message.body = CM_STR_NONE;
    message.attribute_count = 0;
    cr_assert(eq(str, (char *)message_text(&message),
                 "{\"messages\":[{\"attributes\":{\"cm-empty\":\"1\"}}]}"));
}

Test(pubsub_json, knows_what_the_service_would_refuse)
{
    static char large[CM_PUBSUB_MESSAGE_BYTES_MAX + 1];
    cm_attribute_t attributes[CM_ATTRIBUTES_MAX + 1];
    for (size_t i = 0; i <= CM_ATTRIBUTES_MAX; i++)
        attributes[i] = (cm_attribute_t){CM_STR("n"), CM_STR("v")};
    cm_message_t message = {.attributes = attributes, .attribute_count = CM_ATTRIBUTES_MAX};
    cr_assert(zero(ptr, (void *)cm_pubsub_unfit(&message)));
    message.attribute_count++;
    cr_assert(ne(ptr, (void *)cm_pubsub_unfit(&message), NULL));
    message = (cm_message_t){.body = {large, sizeof large}};
    cr_assert(ne(ptr, (void *)cm_pubsub_unfit(&message), NULL));
    message.body.len--;
    cr_assert(zero(ptr, (void *)cm_pubsub_unfit(&message)));
    cm_attribute_t bad = {CM_STR("n"), CM_STR("\xff")};
    message = (cm_message_t){.attributes = &bad, .attribute_count = 1};
    cr_assert(ne(ptr, (void *)cm_pubsub_unfit(&message), NULL));
    message = (cm_message_t){.ordering_key = CM_STR("\xc3")};
    cr_assert(ne(ptr, (void *)cm_pubsub_unfit(&message), NULL));
}

/* ---- pulls ----------------------------------------------------------------------------------- */

static cm_pubsub_message_t *messages;
static size_t count;

static cm_status_t read_pull(const char *text, size_t max)
{
    cm_error_t err = {0};
    messages = NULL;
    count = 0;
    cm_status_t status = cm_pubsub_read_pull(cm_str(text), max, arena, &messages, &count, &err);
    if (status != CM_OK) {
        cr_expect(eq(str, err.code, "malformed"));
        cr_expect(eq(int, err.status, CM_PERMANENT));
    }
    return status;
}

#define FULL                                                                                       \
    "{\"ackId\":\"ack-1\",\"message\":{\"data\":\"AP8=\",\"attributes\":{\"a\":\"1\",\"b\":\"\"}," \
    "\"messageId\":\"17\",\"publishTime\":\"2026-11-20T16:00:00.123456Z\",\"orderingKey\":\"k\"}," \
    "\"deliveryAttempt\":3}"
#define BARE                                                                                       \
    "{\"message\":{\"publishTime\":\"2026-11-20T16:00:00Z\",\"messageId\":\"18\"},"                \
    "\"ackId\":\"ack-2\"}"

Test(pubsub_json, reads_every_member_of_a_received_message)
{
    cr_assert(eq(int, read_pull("{\"receivedMessages\":[" FULL "," BARE "]}", 10), CM_OK));
    cr_assert(eq(sz, count, 2));
    cr_assert(cm_str_is(messages[0].ack_id, "ack-1"));
    cr_assert(cm_str_is(messages[0].message_id, "17"));
    cr_assert(eq(i64, messages[0].publish_ms, 1795190400123));
    cr_assert(eq(int, messages[0].attempt, 3));
    cr_assert(cm_str_eq(messages[0].message.body, CM_STR("\0\xff")));
    cr_assert(eq(sz, messages[0].message.attribute_count, 2));
    cr_assert(cm_str_is(messages[0].message.attributes[0].name, "a"));
    cr_assert(cm_str_is(messages[0].message.attributes[1].value, ""));
    cr_assert(cm_str_is(messages[0].message.ordering_key, "k"));
    cr_assert(eq(sz, messages[0].bytes, 2 + 2 + 1 + 1));
    cr_assert(cm_str_is(messages[1].ack_id, "ack-2"));
    cr_assert(eq(int, messages[1].attempt, 1));
    cr_assert(eq(sz, messages[1].message.body.len, 0));
    cr_assert(ne(ptr, (void *)messages[1].message.body.ptr, NULL));
    cr_assert(zero(ptr, (void *)messages[1].message.ordering_key.ptr));
    cr_assert(eq(sz, messages[1].message.attribute_count, 0));
}

Test(pubsub_json, an_answer_without_messages_is_fine)
{
    cr_assert(eq(int, read_pull("{}", 10), CM_OK));
    cr_assert(eq(sz, count, 0));
    cr_assert(eq(int, read_pull(" {\"receivedMessages\":[]} ", 10), CM_OK));
    cr_assert(eq(int, read_pull("{\"receivedMessages\":null}", 10), CM_OK));
}

Test(pubsub_json, skips_members_it_does_not_know)
{
    cr_assert(
        eq(int,
           read_pull("{\"new\":[1,{\"ackId\":\"no\",\"x\":[null,true]}],\"receivedMessages\":["
                     "{\"extra\":{\"messageId\":7},\"n\":1.5,\"ackId\":\"a\",\"message\":{"
                     "\"data\":null,\"more\":[[]],\"b\":false,\"messageId\":\"1\","
                     "\"publishTime\":\"2026-11-20T16:00:00Z\"}}]}",
                     10),
           CM_OK));
    cr_assert(eq(sz, count, 1));
    cr_assert(cm_str_is(messages[0].ack_id, "a"));
}

Test(pubsub_json, hides_the_mark_of_an_empty_message_and_leaves_out_too_many_attributes)
{
    cm_buffer_printf(&out,
                     "{\"receivedMessages\":[{\"ackId\":\"a\",\"message\":{\"messageId\":\"1\","
                     "\"publishTime\":\"2026-11-20T16:00:00Z\",\"attributes\":{\"cm-empty\":"
                     "\"1\"");
    for (int i = 0; i < 105; i++)
        cm_buffer_printf(&out, ",\"n%d\":\"v\"", i);
    cm_buffer_printf(&out, "}}}]}");
    cr_assert(eq(int, read_pull(cm_buffer_text(&out), 10), CM_OK));
    cr_assert(eq(sz, messages[0].message.attribute_count, CM_ATTRIBUTES_MAX));
    cr_assert(cm_str_is(messages[0].message.attributes[0].name, "n0"));
}

Test(pubsub_json, refuses_a_malformed_answer)
{
    static const char *const bad[] = {
        "",
        "null",
        "7",
        "\"x\"",
        "[]",
        "{} {}",
        "{",
        "{\"receivedMessages\":{}}",
        "{\"receivedMessages\":[7]}",
        "{\"receivedMessages\":[null]}",
        "{\"receivedMessages\":[[]]}",
        "{\"receivedMessages\":[\"x\"]}",
        "{\"receivedMessages\":\"x\"}",
        "{\"receivedMessages\":[{}]}",
        "{\"receivedMessages\":[" FULL "],\"receivedMessages\":[]}",
        "{\"receivedMessages\":[" FULL ",8]}",
        "{\"receivedMessages\":[{\"ackId\":\"\",\"message\":{\"messageId\":\"1\","
        "\"publishTime\":\"2026-11-20T16:00:00Z\"}}]}",
        "{\"receivedMessages\":[{\"ackId\":7,\"message\":{\"messageId\":\"1\","
        "\"publishTime\":\"2026-11-20T16:00:00Z\"}}]}",
        "{\"receivedMessages\":[{\"ackId\":\"a\",\"message\":{\"messageId\":\"1\","
        "\"publishTime\":\"yesterday\"}}]}",
        "{\"receivedMessages\":[{\"ackId\":\"a\",\"message\":{\"messageId\":\"1\"}}]}",
        "{\"receivedMessages\":[{\"ackId\":\"a\",\"message\":{\"messageId\":\"1\",\"data\":\"A\","
        "\"publishTime\":\"2026-11-20T16:00:00Z\"}}]}",
        "{\"receivedMessages\":[{\"ackId\":\"a\",\"message\":{\"messageId\":\"1\","
        "\"attributes\":{\"a\":1},\"publishTime\":\"2026-11-20T16:00:00Z\"}}]}",
        "{\"receivedMessages\":[{\"ackId\":\"a\",\"message\":{\"messageId\":\"1\","
        "\"attributes\":{\"a\":null},\"publishTime\":\"2026-11-20T16:00:00Z\"}}]}",
        "{\"receivedMessages\":[{\"ackId\":\"a\",\"deliveryAttempt\":true,\"message\":{}}]}",
        "{\"x\":\"\xff\"}",
        "{\"receivedMessages\":[{\"ackId\":\"\xed\xa0\x80\",\"message\":{}}]}",
        "{\"receivedMessages\":[{\"message\":{\"attributes\":{\"\xc0\x80\":\"\"}}}]}",
        "{\"receivedMessages\":[{\"message\":{\"attributes\":{\"a\":\"\xed\xa0\x80\"}}}]}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        cr_expect(eq(int, read_pull(bad[i], 10), CM_PERMANENT), "%s", bad[i]);
}

Test(pubsub_json, refuses_more_messages_than_were_asked_for)
{
    cr_assert(eq(int, read_pull("{\"receivedMessages\":[" FULL "," BARE "]}", 1), CM_PERMANENT));
}

/* ---- other answers --------------------------------------------------------------------------- */

Test(pubsub_json, finds_a_byte_that_is_no_text_wherever_it_stands)
{
    char text[42];
    cr_assert(cm_pubsub_is_text(CM_STR_NONE));
    for (size_t len = 1; len < sizeof text - 1; len++)
        for (size_t at = 0; at < len; at++) {
            memset(text, 'a', sizeof text);
            cr_assert(cm_pubsub_is_text((cm_str_t){text, len}));
            text[at] = (char)0xff;
            cr_assert(not(cm_pubsub_is_text((cm_str_t){text, len})));
            text[at] = (char)0xc3; /* with what follows: one letter */
            text[at + 1] = (char)0xa9;
            cr_assert(eq(int, cm_pubsub_is_text((cm_str_t){text, len}), at + 1 < len));
        }
}

Test(pubsub_json, counts_what_a_publish_confirms)
{
    cr_assert(eq(int, cm_pubsub_read_published(CM_STR("{\"messageIds\":[\"1\",\"2\"]}")), 2));
    static const char *const bad[] = {"",
                                      "<html>",
                                      "{}",
                                      "{\"messageIds\":7}",
                                      "{\"messageIds\":[\"1\",2]}",
                                      "{\"messageIds\":[\"\"]}"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        cr_expect(eq(int, cm_pubsub_read_published(cm_str(bad[i])), -1), "%s", bad[i]);
}

Test(pubsub_json, reads_what_became_of_each_id)
{
    cm_pubsub_fault_t fault;
    cm_pubsub_read_fault(
        CM_STR("{\"error\":{\"code\":400,\"message\":\"Some ids\\n were bad\",\"status\":"
               "\"INVALID_ARGUMENT\",\"details\":[{\"@type\":\"type.googleapis.com/google.rpc."
               "ErrorInfo\",\"reason\":\"EXACTLY_ONCE_ACKID_FAILURE\",\"metadata\":{\"z\":"
               "\"PERMANENT_FAILURE_INVALID_ACK_ID\",\"a\":\"TRANSIENT_FAILURE_X\",\"remark\":"
               "\"hello\"}},{\"@type\":\"type.googleapis.com/google.rpc.RetryInfo\","
               "\"retryDelay\":\"1.5s\"}]}}"),
        arena, &fault);
    cr_assert(eq(str, fault.status, "INVALID_ARGUMENT"));
    cr_assert(eq(str, fault.message, "Some ids? were bad"));
    cr_assert(eq(int, fault.retry_ms, 1500));
    cr_assert(eq(sz, fault.id_count, 2));
    cr_assert(eq(int, cm_pubsub_id_fate(&fault, CM_STR("z")), CM_PUBSUB_ID_GONE));
    cr_assert(eq(int, cm_pubsub_id_fate(&fault, CM_STR("a")), CM_PUBSUB_ID_AGAIN));
    cr_assert(eq(int, cm_pubsub_id_fate(&fault, CM_STR("b")), CM_PUBSUB_ID_DONE));
}

Test(pubsub_json, makes_do_without_an_error_body)
{
    static const char *const bodies[] = {
        "",
        "<html>Bad gateway</html>",
        "null",
        "{\"error\":7}",
        "{\"error\":\"invalid_grant\"}",
        "{\"error\":{\"details\":[7,{\"@type\":3},{\"@type\":\"x.RetryInfo\",\"retryDelay\":\"-"
        "1s\"},"
        "{\"@type\":\"x.RetryInfo\",\"retryDelay\":\"soon\"},{\"@type\":\"x.ErrorInfo\"}]}}"};
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        cm_pubsub_fault_t fault;
        cm_pubsub_read_fault(cm_str(bodies[i]), arena, &fault);
        cr_expect(eq(str, fault.status, ""), "%s", bodies[i]);
        cr_expect(eq(int, fault.retry_ms, -1), "%s", bodies[i]);
        cr_expect(eq(sz, fault.id_count, 0), "%s", bodies[i]);
        cr_expect(eq(int, cm_pubsub_id_fate(&fault, CM_STR("a")), CM_PUBSUB_ID_DONE));
    }
}

Test(pubsub_json, reads_the_newest_value_of_a_metric)
{
    int64_t value = -1;
    cr_assert(cm_pubsub_read_metric(
        CM_STR("{\"timeSeries\":[{\"points\":[{\"value\":{\"int64Value\":\"42\"}},"
               "{\"value\":{\"int64Value\":\"7\"}}]}]}"),
        &value));
    cr_assert(eq(i64, value, 42));
    static const char *const none[] = {
        "",
        "{}",
        "{\"timeSeries\":[]}",
        "{\"timeSeries\":[{\"points\":[]}]}",
        "{\"timeSeries\":[{\"points\":[{\"value\":{\"int64Value\":\"x\"}}]}]}",
        "{\"timeSeries\":[{\"points\":[{\"value\":{\"int64Value\":\"-1\"}}]}]}",
        "{\"timeSeries\":[{\"points\":[{\"value\":{\"doubleValue\":1.5}}]}]}"};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
        cr_expect(not(cm_pubsub_read_metric(cm_str(none[i]), &value)), "%s", none[i]);
}

/* ---- texts ----------------------------------------------------------------------------------- */

Test(pubsub_json, reads_times_with_any_number_of_digits)
{
    static const struct {
        const char *text;
        int64_t epoch_ms;
    } good[] = {{"1970-01-01T00:00:00Z", 0},
                {"2026-11-20T16:00:00Z", 1795190400000},
                {"2026-11-20T16:00:00.1Z", 1795190400100},
                {"2026-11-20T16:00:00.123456789Z", 1795190400123},
                {"2024-02-29T23:59:59.999Z", 1709251199999},
                {"2000-03-01T00:00:00Z", 951868800000}};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        int64_t epoch_ms = -1;
        cr_expect(cm_pubsub_parse_time(cm_str(good[i].text), &epoch_ms), "%s", good[i].text);
        cr_expect(eq(i64, epoch_ms, good[i].epoch_ms), "%s", good[i].text);
    }
    static const char *const bad[] = {"",
                                      "2026-11-20",
                                      "2026-11-20T16:00:00",
                                      "2026-11-20T16:00:00+00:00",
                                      "2026-11-20T16:00:00.Z",
                                      "2026-13-20T16:00:00Z",
                                      "2026-11-20T24:00:00Z",
                                      "2026-11-20t16:00:00z",
                                      "2026-11-20T16:00:00Zx",
                                      "1969-12-31T23:59:59Z"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        int64_t epoch_ms;
        cr_expect(not(cm_pubsub_parse_time(cm_str(bad[i]), &epoch_ms)), "%s", bad[i]);
    }
}

Test(pubsub_json, decodes_canonical_base64_only)
{
    static const struct {
        const char *text, *bytes;
        size_t len;
    } good[] = {{"", "", 0},
                {"Zg==", "f", 1},
                {"Zm8=", "fo", 2},
                {"Zm9v", "foo", 3},
                {"+/+/", "\xfb\xff\xbf", 3}};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        cm_str_t bytes;
        cr_expect(cm_pubsub_decode_base64(cm_str(good[i].text), arena, &bytes), "%s", good[i].text);
        cr_expect(cm_str_eq(bytes, (cm_str_t){good[i].bytes, good[i].len}), "%s", good[i].text);
    }
    static const char *const bad[] = {"Z",    "Zg",   "Zg=",  "Zh==",   "Zm9=", "=Zm9", "Zg=v",
                                      "====", "Z===", "-_-_", "Zm9v\n", " Zm9", "Zm 9", "Zm9v    "};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cm_str_t bytes;
        cr_expect(not(cm_pubsub_decode_base64(cm_str(bad[i]), arena, &bytes)), "%s", bad[i]);
    }
}
