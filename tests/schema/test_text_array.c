#include "runtime/cleanup.h"
#include "schema/text_array.h"
#include "tests/support/schema_fixture.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>

TestSuite(text_array, .timeout = 30, .fini = cm_test_database_drop);

/* What PostgreSQL reads in the literal as an array of this type, as rows of text. */
static char *read_back(const char *literal, const char *type)
{
    char uri[CM_TEST_URI_MAX], sql[128];
    cm_error_t err = {0};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_buffer_t text = {0};
    cm_test_database(uri);
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = cm_test_connect(uri);
    snprintf(sql, sizeof sql, "SELECT a::text FROM unnest($1::%s) AS u(a)", type);
    const char *values[] = {literal};
    cr_assert(eq(int, cm_pg_query(pg, sql, 1, values, &result, &err), CM_OK), "%s: %s", literal,
              err.message);
    for (int row = 0; row < PQntuples(result); row++)
        cm_buffer_printf(&text, "%s[%s]", row ? " " : "",
                         PQgetisnull(result, row, 0) ? "NULL" : cm_pg_text(result, row, 0));
    cm_buffer_text(&text);
    return text.data;
}

#define EXPECT(array, type, expected)                                                              \
    do {                                                                                           \
        CM_CLEANUP(cm_free) char *back = read_back(cm_text_array_end(&(array)), type);             \
        cr_expect(eq(str, back, expected));                                                        \
    } while (0)

Test(text_array, an_empty_one_has_no_element)
{
    CM_CLEANUP(cm_text_array_destroy) cm_text_array_t array = {0};
    EXPECT(array, "text[]", "");
    cr_expect(eq(str, array.text.data, "{}"));
}

Test(text_array, texts_are_read_back_as_they_are)
{
    CM_CLEANUP(cm_text_array_destroy) cm_text_array_t array = {0};
    static const char *const texts[] = {"plain",
                                        "",
                                        " ",
                                        "a,b",
                                        "{}",
                                        "NULL",
                                        "null",
                                        "\"",
                                        "\\",
                                        "\\\"",
                                        "'",
                                        "a\nb\tc",
                                        "\xc3\xa9\xf0\x9f\x98\x80",
                                        "$1"};
    for (size_t i = 0; i < CM_LENGTH(texts); i++)
        cm_text_array_add(&array, cm_str(texts[i]));
    EXPECT(array, "text[]",
           "[plain] [] [ ] [a,b] [{}] [NULL] [null] [\"] [\\] [\\\"] ['] [a\nb\tc] "
           "[\xc3\xa9\xf0\x9f\x98\x80] [$1]");
}

Test(text_array, what_is_absent_is_null_and_what_is_empty_is_not)
{
    CM_CLEANUP(cm_text_array_destroy) cm_text_array_t array = {0};
    cm_text_array_add(&array, CM_STR_NONE);
    cm_text_array_add(&array, CM_STR(""));
    cm_text_array_add(&array, CM_STR_NONE);
    cr_expect(eq(str, cm_text_array_end(&array), "{NULL,\"\",NULL}"));
    CM_CLEANUP(cm_free) char *back = read_back("{NULL,\"\",NULL}", "text[]");
    cr_expect(eq(str, back, "[NULL] [] [NULL]"));
}

Test(text_array, a_text_ends_where_its_length_says)
{
    CM_CLEANUP(cm_text_array_destroy) cm_text_array_t array = {0};
    cm_text_array_add(&array, (cm_str_t){"abcdef", 3});
    EXPECT(array, "text[]", "[abc]");
}

Test(text_array, numbers_keep_all_their_digits)
{
    CM_CLEANUP(cm_text_array_destroy) cm_text_array_t array = {0};
    static const int64_t numbers[] = {0, -1, INT64_MAX, INT64_MIN};
    for (size_t i = 0; i < CM_LENGTH(numbers); i++)
        cm_text_array_add_i64(&array, numbers[i]);
    EXPECT(array, "bigint[]", "[0] [-1] [9223372036854775807] [-9223372036854775808]");
}
