#include "proto/letter_ids.h"
#include "runtime/cleanup.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

typedef struct {
    cm_arena_t *arena;
    cm_letter_ids_t ids;
} reading_t;

static void reading_end(reading_t *self)
{
    cm_arena_destroy(&self->arena);
}

#define READ(body)                                                                                 \
    CM_CLEANUP(reading_end) reading_t reading = {.arena = cm_arena_new(1024)};                     \
    cm_letter_ids_read(body, INT64_C(1795190400000), reading.arena, &reading.ids)

static void check_text(cm_str_t text, const char *wanted)
{
    cr_expect(cm_str_eq(text, cm_str(wanted)), "%.*s, not %s", CM_STR_ARG(text), wanted);
}

Test(letter_ids, all_that_a_device_event_tells_is_read, .timeout = 5)
{
    READ(CM_STR("{\"customerId\":1,\"applicationCode\":\"A\",\"clientId\":\"C\",\"eventTime\":1000,"
                "\"push\":{\"token\":\"T\"},\"contact\":{\"contactId\":-7,\"clientId\":\"x\"}}"));
    check_text(reading.ids.application_code, "A");
    check_text(reading.ids.client_id, "C");
    check_text(reading.ids.token, NULL);
    cr_expect(reading.ids.has_contact_id && reading.ids.whole);
    cr_expect(eq(i64, reading.ids.contact_id, -7));
    cr_expect(eq(i64, reading.ids.at_ms, 1000));
}

Test(letter_ids, a_verdict_and_a_contact_deletion_are_read, .timeout = 5)
{
    {
        READ(CM_STR("{\"token\":\"T\",\"applicationCode\":\"A\",\"eventTime\":5}"));
        check_text(reading.ids.token, "T");
    }
    READ(CM_STR("{\"contactId\":\"77\",\"deletedAt\":\"1970-01-01T00:00:01Z\"}"));
    cr_expect(reading.ids.has_contact_id);
    cr_expect(eq(i64, reading.ids.contact_id, 77));
    cr_expect(eq(i64, reading.ids.at_ms, 1000));
}

Test(letter_ids, what_stands_before_a_fault_counts, .timeout = 5)
{
    static const char *const tails[] = {
        "", "}", ",", ",\"clientId\":\"D\"}", ",nonsense", ",\"x\":\"\xff\"}"};
    for (size_t i = 0; i < CM_LENGTH(tails); i++) {
        char body[256] =
            "{\"applicationCode\":\"A\",\"clientId\":\"C\",\"contact\":{\"contactId\":9}";
        strcat(body, tails[i]);
        READ(cm_str(body));
        check_text(reading.ids.client_id, "C");
        cr_expect(eq(i64, reading.ids.contact_id, 9), "%s", body);
        cr_expect(eq(int, reading.ids.whole, strcmp(tails[i], "}") == 0), "%s", body);
    }
}

Test(letter_ids, what_stands_behind_a_fault_is_looked_for, .timeout = 5)
{
    static const char *const bodies[] = {"{\"x\":tru,\"applicationCode\":\"A\", \"clientId\" : "
                                         "\"C\",\"contactId\":-9,\"eventTime\":7}",
                                         "{\"clientId\":0,\"clientId\":\"C\",\"applicationCode\":"
                                         "\"A\",\"contact\":{\"contactId\":\"-9\""
                                         ",\"eventTime\":\"1970-01-01T00:00:00.007Z\"",
                                         "no json: \"clientId\" clientId \"clientId\":\"C\" "
                                         "\"applicationCode\":\"A\" \"contactId\": -9 "
                                         "\"deletedAt\":7 \"token\":\"T\""};
    for (size_t i = 0; i < CM_LENGTH(bodies); i++) {
        READ(cm_str(bodies[i]));
        check_text(reading.ids.application_code, "A");
        check_text(reading.ids.client_id, "C");
        check_text(reading.ids.token, NULL);
        cr_expect(reading.ids.has_contact_id && !reading.ids.whole, "%zu", i);
        cr_expect(eq(i64, reading.ids.contact_id, -9), "%zu", i);
        cr_expect(eq(i64, reading.ids.at_ms, 7), "%zu", i);
    }
}

Test(letter_ids, what_cannot_be_read_by_itself_is_not_found, .timeout = 5)
{
    static const char *const bodies[] = {"x \"clientId\":\"a\\\"b\" \"applicationCode\":\"cut",
                                         "\"clientId\":",
                                         "\"clientId\"",
                                         "clientId\":\"C\"",
                                         "\"clientId\" \"C\"",
                                         "\"clientId\":[\"C\"]",
                                         "\"clientId\":\"\""};
    for (size_t i = 0; i < CM_LENGTH(bodies); i++) {
        READ(cm_str(bodies[i]));
        check_text(reading.ids.client_id, NULL);
        check_text(reading.ids.application_code, NULL);
    }
}

Test(letter_ids, a_value_that_is_no_text_is_not_found, .timeout = 5)
{
    READ(CM_STR("{\"applicationCode\":\"app\",\"clientId\":\"c\xff\",\"eventTime\":5}"));
    cr_expect(not(reading.ids.whole));
    check_text(reading.ids.application_code, "app");
    check_text(reading.ids.client_id, NULL);
    cr_expect(eq(i64, reading.ids.at_ms, 5));
}

Test(letter_ids, values_of_other_types_are_not_found, .timeout = 5)
{
    READ(CM_STR("{\"applicationCode\":1,\"clientId\":[\"C\"],\"contact\":{\"x\":{\"contactId\":1}},"
                "\"contactId\":1.5,\"eventTime\":\"soon\"}"));
    check_text(reading.ids.application_code, NULL);
    check_text(reading.ids.client_id, NULL);
    cr_expect(not(reading.ids.has_contact_id));
    cr_expect(eq(i64, reading.ids.at_ms, 0));
}

Test(letter_ids, bytes_that_are_no_json_give_nothing, .timeout = 5)
{
    READ(CM_STR("\0\xff{"));
    cr_expect(not(reading.ids.whole));
    cm_letter_ids_read(CM_STR_NONE, 1000, reading.arena, &reading.ids);
    cr_expect(not(reading.ids.whole));
}

Test(letter_ids, a_text_is_looked_for_between_quotes, .timeout = 5)
{
    cr_expect(cm_letter_quotes(CM_STR("x:\"abc\" abcd"), CM_STR("abc")));
    cr_expect(cm_letter_quotes(CM_STR("\"abcd\" \"abc\""), CM_STR("abc")));
    cr_expect(not(cm_letter_quotes(CM_STR("\"abcd\" abc \"abc"), CM_STR("abc"))));
    cr_expect(not(cm_letter_quotes(CM_STR("\"\""), CM_STR(""))));
    cr_expect(not(cm_letter_quotes(CM_STR_NONE, CM_STR("abc"))));
}

Test(letter_ids, a_number_is_looked_for_whole, .timeout = 5)
{
    cr_expect(cm_letter_mentions(CM_STR("{\"contactId\":77"), 77));
    cr_expect(cm_letter_mentions(CM_STR("177 77\xff"), 77));
    cr_expect(cm_letter_mentions(CM_STR("-77"), -77));
    cr_expect(not(cm_letter_mentions(CM_STR("177 771 -77"), 77)));
    cr_expect(not(cm_letter_mentions(CM_STR_NONE, 77)));
}

Test(letter_ids, digits_within_a_longer_word_are_no_number, .timeout = 5)
{
    static const char *const bodies[] = {"{\"clientId\":\"3f77a\"",
                                         "a77",
                                         "77a",
                                         "Z77",
                                         "77Z",
                                         "caf\xc3\xa9"
                                         "77",
                                         "77\xc3\xa9",
                                         "\xe6\x97\xa5"
                                         "77",
                                         "77\xf0\x90\x90\x80",
                                         "{\"x\":\"0x77\"",
                                         "\\u0077"};
    for (size_t i = 0; i < CM_LENGTH(bodies); i++)
        cr_expect(not(cm_letter_mentions(cm_str(bodies[i]), 77)), "%s", bodies[i]);
}

Test(letter_ids, a_number_is_found_whatever_mark_or_fault_stands_beside_it, .timeout = 5)
{
    static const char *const bodies[] = {"contact_id=123,",
                                         "\"123\"",
                                         "contact_123_x",
                                         "a123 123",
                                         "(123)",
                                         "123.0",
                                         "\"id\\n123\\n\"",
                                         "\\u000a123",
                                         "contactId%3D123%26",
                                         "\xe2\x80\x9c"
                                         "123\xe2\x80\x9d",
                                         "\xc2\xa0"
                                         "123\xc2\xa0",
                                         "\xef\xbc\x9a"
                                         "123\xef\xbc\x8c",
                                         "\xef\xbb\xbf"
                                         "123",
                                         "\xa3"
                                         "123\xa9",
                                         "123\xe6\x97",
                                         "\x97\xa5"
                                         "123"};
    for (size_t i = 0; i < CM_LENGTH(bodies); i++)
        cr_expect(cm_letter_mentions(cm_str(bodies[i]), 123), "%s", bodies[i]);
    cr_expect(cm_letter_mentions(CM_STR("\0"
                                        "123\0"),
                                 123));
    cr_expect(cm_letter_mentions(CM_STR("x: -123;"), -123));
    cr_expect(not(cm_letter_mentions(CM_STR("0-123"), -123)));
}
