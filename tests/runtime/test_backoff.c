#include "runtime/backoff.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <limits.h>

/* The longest of many first-to-n-th waits shows the ceiling of that attempt. */
static int longest_wait(unsigned attempt, int base_ms, int cap_ms)
{
    int longest = 0;
    for (uint64_t seed = 0; seed < 2000; seed++) {
        cm_backoff_t backoff;
        cm_backoff_init(&backoff, base_ms, cap_ms, seed * 7919);
        int wait_ms = 0;
        for (unsigned i = 0; i < attempt; i++) {
            wait_ms = cm_backoff_next_ms(&backoff);
            cr_assert(ge(int, wait_ms, 1));
            cr_assert(le(int, wait_ms, cap_ms));
        }
        longest = wait_ms > longest ? wait_ms : longest;
    }
    return longest;
}

Test(backoff, the_ceiling_doubles_with_each_attempt_up_to_the_cap)
{
    cr_expect(eq(int, longest_wait(1, 10, 45), 10));
    cr_expect(eq(int, longest_wait(2, 10, 45), 20));
    cr_expect(eq(int, longest_wait(3, 10, 45), 40));
    cr_expect(eq(int, longest_wait(4, 10, 45), 45));
    cr_expect(eq(int, longest_wait(9, 10, 45), 45));
}

Test(backoff, waits_spread_over_the_whole_range)
{
    cm_backoff_t backoff;
    cm_backoff_init(&backoff, 1000, 1000, 1);
    int quarter[4] = {0};
    for (int i = 0; i < 4000; i++)
        quarter[(cm_backoff_next_ms(&backoff) - 1) / 250]++;
    for (int i = 0; i < 4; i++)
        cr_expect(gt(int, quarter[i], 800), "quarter %d", i);
}

Test(backoff, reset_starts_again_at_the_base)
{
    cm_backoff_t backoff;
    cm_backoff_init(&backoff, 1, 1000000, 5);
    for (int i = 0; i < 15; i++)
        cm_backoff_next_ms(&backoff);
    cr_expect(eq(u32, backoff.attempts, 15));
    cm_backoff_reset(&backoff);
    cr_expect(eq(u32, backoff.attempts, 0));
    cr_expect(eq(int, cm_backoff_next_ms(&backoff), 1));
}

Test(backoff, same_seed_gives_the_same_waits)
{
    cm_backoff_t a, b;
    cm_backoff_init(&a, 100, 5000, 42);
    cm_backoff_init(&b, 100, 5000, 42);
    for (int i = 0; i < 20; i++)
        cr_assert(eq(int, cm_backoff_next_ms(&a), cm_backoff_next_ms(&b)));
}

Test(backoff, the_largest_cap_and_endless_attempts_do_not_overflow)
{
    cm_backoff_t backoff;
    cm_backoff_init(&backoff, INT_MAX, INT_MAX, 3);
    backoff.attempts = UINT_MAX;
    cr_expect(ge(int, cm_backoff_next_ms(&backoff), 1));
    cr_expect(eq(u32, backoff.attempts, UINT_MAX));
}

Test(backoff, a_cap_below_the_base_wins)
{
    cr_expect(eq(int, longest_wait(3, 100, 7), 7));
}
