#include "runtime/cleanup.h"
#include "runtime/str.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

Test(str, absent_is_not_empty)
{
    cr_expect(cm_str_eq(CM_STR_NONE, CM_STR_NONE));
    cr_expect(cm_str_eq(CM_STR(""), cm_str("")));
    cr_expect(not(cm_str_eq(CM_STR(""), CM_STR_NONE)));
    cr_expect(not(cm_str_eq(CM_STR_NONE, CM_STR(""))));
    cr_expect(eq(ptr, (void *)cm_str(NULL).ptr, NULL));
    cr_expect(cm_str_is(CM_STR_NONE, NULL));
    cr_expect(not(cm_str_is(CM_STR_NONE, "")));
}

Test(str, equality_is_by_bytes_and_length)
{
    cr_expect(cm_str_eq(CM_STR("abc"), (cm_str_t){"abcd", 3}));
    cr_expect(not(cm_str_eq(CM_STR("abc"), CM_STR("abd"))));
    cr_expect(not(cm_str_eq(CM_STR("abc"), CM_STR("ab"))));
    cr_expect(not(cm_str_is((cm_str_t){"a\0b", 3}, "a")));
}

Test(str, order_is_by_bytes_then_by_length_with_absent_lowest)
{
    static const cm_str_t sorted[] = {{NULL, 0}, {"", 0},  {"a", 1},
                                      {"ab", 2}, {"b", 1}, {"\xff", 1}};
    for (size_t i = 0; i < CM_LENGTH(sorted); i++)
        for (size_t j = 0; j < CM_LENGTH(sorted); j++) {
            int order = cm_str_cmp(sorted[i], sorted[j]);
            cr_expect(eq(int, (order > 0) - (order < 0), (i > j) - (i < j)), "%zu %zu", i, j);
        }
}

static void expect_number(const char *text, int64_t expected)
{
    int64_t value = 77;
    cr_expect(cm_str_to_i64(cm_str(text), &value), "%s", text);
    cr_expect(eq(i64, value, expected));
}

Test(str, decimal_text_becomes_a_number)
{
    expect_number("0", 0);
    expect_number("-0", 0);
    expect_number("007", 7);
    expect_number("-12", -12);
    expect_number("9223372036854775807", INT64_MAX);
    expect_number("-9223372036854775808", INT64_MIN);
}

Test(str, what_is_no_number_leaves_the_value_alone)
{
    static const char *const texts[] = {"",
                                        "-",
                                        "--1",
                                        "+1",
                                        " 1",
                                        "1 ",
                                        "1.0",
                                        "1e3",
                                        "0x1",
                                        "a",
                                        "9223372036854775808",
                                        "-9223372036854775809",
                                        "99999999999999999999999"};
    int64_t value = 77;
    for (size_t i = 0; i < CM_LENGTH(texts); i++)
        cr_expect(not(cm_str_to_i64(cm_str(texts[i]), &value)), "%s", texts[i]);
    cr_expect(not(cm_str_to_i64(CM_STR_NONE, &value)));
    cr_expect(not(cm_str_to_i64((cm_str_t){"1\0", 2}, &value)));
    cr_expect(eq(i64, value, 77));
}

/* ---- arena ---------------------------------------------------------------------------------- */

Test(str, the_length_of_a_character_is_told_and_none_of_what_is_none)
{
    static const struct {
        const char *bytes;
        size_t left, length;
    } cases[] = {
        {"a", 1, 1},
        {"\x7f", 1, 1},
        {"\xc2\x80", 2, 2},
        {"\xe0\xa0\x80", 3, 3},
        {"\xed\x9f\xbf", 3, 3},
        {"\xf4\x8f\xbf\xbf", 4, 4},
        {"\x80", 1, 0},             /* a continuation */
        {"\xc1\xbf", 2, 0},         /* overlong */
        {"\xe0\x9f\xbf", 3, 0},     /* overlong */
        {"\xf0\x8f\xbf\xbf", 4, 0}, /* overlong */
        {"\xed\xa0\x80", 3, 0},     /* a surrogate */
        {"\xf4\x90\x80\x80", 4, 0}, /* above U+10FFFF */
        {"\xf5\x80\x80\x80", 4, 0},
        {"\xc3\xa9", 1, 0}, /* cut */
        {"\xe2\x82z", 3, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        cr_expect(eq(sz, cm_utf8_length(cases[i].bytes, cases[i].left), cases[i].length), "%zu", i);
}

Test(str, text_is_what_a_text_column_takes)
{
    cr_expect(cm_str_is_text(CM_STR("")));
    cr_expect(cm_str_is_text(CM_STR("caf\xc3\xa9")));
    cr_expect(not(cm_str_is_text(CM_STR("a\0b"))));
    cr_expect(not(cm_str_is_text(CM_STR("caf\xc3"))));
    cr_expect(not(cm_str_is_text(CM_STR_NONE)));
}

Test(arena, memory_is_aligned_and_does_not_overlap)
{
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(64);
    char *parts[200];
    for (size_t i = 0; i < CM_LENGTH(parts); i++) {
        parts[i] = cm_arena_alloc(arena, i);
        cr_assert(eq(sz, (uintptr_t)parts[i] % 8, 0));
        memset(parts[i], (int)i, i);
    }
    for (size_t i = 0; i < CM_LENGTH(parts); i++)
        for (size_t j = 0; j < i; j++)
            cr_assert(eq(int, (unsigned char)parts[i][j], (int)i));
}

Test(arena, more_than_a_block_is_served)
{
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(16);
    char *large = cm_arena_alloc(arena, 100000);
    memset(large, 1, 100000);
    cr_expect(ge(sz, cm_arena_used(arena), 100000));
}

Test(arena, copies_end_in_nul_and_absent_stays_absent)
{
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(64);
    cm_str_t copy = cm_arena_copy(arena, (cm_str_t){"hello", 4});
    cr_expect(eq(sz, copy.len, 4));
    cr_expect(eq(str, (char *)copy.ptr, "hell"));
    cr_expect(eq(str, (char *)cm_arena_copy(arena, CM_STR("")).ptr, ""));
    cr_expect(eq(ptr, (void *)cm_arena_copy(arena, CM_STR_NONE).ptr, NULL));
}

Test(arena, printf_gives_text_of_any_length)
{
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(16);
    cm_str_t text = cm_arena_printf(arena, "%0500d-%s", 7, "end");
    cr_expect(eq(sz, text.len, 504));
    cr_expect(eq(str, (char *)text.ptr + 499, "7-end"));
    cr_expect(eq(sz, cm_arena_printf(arena, "%s", "").len, 0));
}

Test(arena, reset_forgets_all_and_reuses_the_first_block)
{
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(64);
    void *first = cm_arena_alloc(arena, 8);
    for (int i = 0; i < 100; i++)
        cm_arena_alloc(arena, 60);
    cm_arena_reset(arena);
    cr_expect(eq(sz, cm_arena_used(arena), 0));
    cr_expect(eq(ptr, cm_arena_alloc(arena, 8), first));
    cr_expect(eq(sz, cm_arena_used(arena), 8));
}

Test(arena, destroying_twice_is_safe)
{
    cm_arena_t *arena = cm_arena_new(64);
    cm_arena_destroy(&arena);
    cm_arena_destroy(&arena);
    cr_expect(eq(ptr, arena, NULL));
}
