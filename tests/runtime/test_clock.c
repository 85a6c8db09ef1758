#include "runtime/clock.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <time.h>

static void expect_time(int64_t epoch_ms, const char *expected)
{
    char text[CM_TIME_TEXT_MAX];
    cr_expect(eq(str, (char *)cm_clock_format(epoch_ms, text), (char *)expected));
}

Test(clock, times_are_written_in_utc_to_the_millisecond)
{
    expect_time(0, "1970-01-01T00:00:00.000Z");
    expect_time(1795190400123, "2026-11-20T16:00:00.123Z");
    expect_time(951782400007, "2000-02-29T00:00:00.007Z");
}

Test(clock, times_before_1970_count_backwards)
{
    expect_time(-1, "1969-12-31T23:59:59.999Z");
    expect_time(-1000, "1969-12-31T23:59:59.000Z");
}

Test(clock, the_farthest_times_fit_the_text)
{
    char text[CM_TIME_TEXT_MAX];
    cr_expect(eq(ptr, (void *)cm_clock_format(INT64_MAX, text), text));
    cr_expect(eq(ptr, (void *)cm_clock_format(INT64_MIN, text), text));
}

Test(clock, monotonic_time_never_steps_back)
{
    int64_t before_us = cm_clock_mono_us();
    for (int i = 0; i < 10000; i++) {
        int64_t now_us = cm_clock_mono_us();
        cr_assert(ge(i64, now_us, before_us));
        before_us = now_us;
    }
    cr_expect(ge(i64, cm_clock_mono_ms(), before_us / 1000));
}

Test(clock, epoch_time_is_the_time_of_the_system)
{
    int64_t before_ms = (int64_t)time(NULL) * 1000;
    cr_expect(ge(i64, cm_clock_epoch_ms(), before_ms));
}

Test(clock, random_numbers_of_one_seed_repeat_and_of_two_differ)
{
    uint64_t a = 1, b = 1, c = 2;
    uint64_t first = cm_random_next(&a);
    cr_expect(eq(u64, first, cm_random_next(&b)));
    cr_expect(ne(u64, first, cm_random_next(&c)));
    cr_expect(ne(u64, first, cm_random_next(&a)));
    cr_expect(ne(u64, cm_random_u64(), cm_random_u64()));
}

Test(clock, the_generator_is_splitmix64)
{
    uint64_t state = 1234567; /* test vector of the reference implementation */
    cr_expect(eq(u64, cm_random_next(&state), 6457827717110365317u));
    cr_expect(eq(u64, cm_random_next(&state), 3203168211198807973u));
}

Test(clock, bounded_random_numbers_reach_every_value_and_no_other)
{
    uint64_t state = 7;
    int seen[5] = {0};
    for (int i = 0; i < 5000; i++) {
        uint64_t value = cm_random_below(&state, 5);
        cr_assert(lt(u64, value, 5));
        seen[value]++;
    }
    for (int i = 0; i < 5; i++)
        cr_expect(gt(int, seen[i], 800), "%d", i);
    cr_expect(eq(u64, cm_random_below(&state, 1), 0));
    cr_expect(eq(u64, cm_random_below(&state, 0), 0));
}
