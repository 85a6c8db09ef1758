#include "actors/push_brake.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>

enum { WINDOW_MS = 600000, MIN = 100, SHARE = 50 };

static const cm_push_brake_rule_t rule = {WINDOW_MS, SHARE, MIN, CM_PUSH_BRAKE_WINDOWS_MAX};

static cm_push_brake_key_t key_of(const char *tenant, const char *application, const char *provider)
{
    return (cm_push_brake_key_t){tenant, cm_str(application), provider};
}

/* What the sub-worker does with a batch: ask, then count or learn that the brake is on. */
static bool take(cm_push_brakes_t *brakes, const cm_push_brake_key_t *key, uint64_t judged,
                 uint64_t gone, int64_t now_ms)
{
    cm_push_window_t window;
    bool trips = cm_push_brakes_trips(brakes, key, judged, gone, now_ms, &window);
    if (trips)
        cm_push_brakes_seen(brakes, key, true);
    else
        cm_push_brakes_count(brakes, key, judged, gone, now_ms);
    return trips;
}

static cm_push_window_t look(cm_push_brakes_t *brakes, const cm_push_brake_key_t *key,
                             int64_t now_ms)
{
    cm_push_window_t window;
    cm_push_brakes_trips(brakes, key, 0, 0, now_ms, &window);
    return window;
}

Test(push_brake, trips_when_the_share_passes_the_limit_not_when_it_meets_it)
{
    CM_CLEANUP(cm_push_brakes_destroy) cm_push_brakes_t *brakes = cm_push_brakes_new(&rule);
    cm_push_brake_key_t key = key_of("a", "app", "fcm");
    cm_push_window_t window;
    cr_expect(not(take(brakes, &key, 100, 50, 1000)));
    cr_expect(not(cm_push_brakes_trips(brakes, &key, 2, 1, 1000, &window)));
    cr_expect(cm_push_brakes_trips(brakes, &key, 1, 1, 3000, &window));
    cr_expect(eq(u64, window.judged, 101));
    cr_expect(eq(u64, window.gone, 51));
    cr_expect(eq(i64, window.age_ms, 2000));
}

Test(push_brake, asking_counts_nothing)
{
    CM_CLEANUP(cm_push_brakes_destroy) cm_push_brakes_t *brakes = cm_push_brakes_new(&rule);
    cm_push_brake_key_t key = key_of("a", "app", "fcm");
    cm_push_window_t window;
    for (int i = 0; i < 100; i++)
        cr_expect(not(cm_push_brakes_trips(brakes, &key, 50, 50, i, &window)));
    cr_expect(eq(sz, cm_push_brakes_windows(brakes), 0));
}

Test(push_brake, below_the_least_number_nothing_trips)
{
    CM_CLEANUP(cm_push_brakes_destroy) cm_push_brakes_t *brakes = cm_push_brakes_new(&rule);
    cm_push_brake_key_t key = key_of("a", "app", "fcm");
    for (int i = 0; i < MIN - 1; i++)
        cr_expect(not(take(brakes, &key, 1, 1, i)));
    cr_expect(take(brakes, &key, 1, 1, MIN));
}

Test(push_brake, with_a_share_of_a_hundred_percent_there_is_none)
{
    cm_push_brake_rule_t none = rule;
    none.share_percent = CM_PUSH_BRAKE_OFF_PERCENT;
    CM_CLEANUP(cm_push_brakes_destroy) cm_push_brakes_t *brakes = cm_push_brakes_new(&none);
    cm_push_brake_key_t key = key_of("a", "app", "fcm");
    for (int i = 0; i < 100; i++)
        cr_expect(not(take(brakes, &key, 100, 100, i)));
}

Test(push_brake, each_tenant_application_and_provider_has_a_window_of_its_own)
{
    CM_CLEANUP(cm_push_brakes_destroy) cm_push_brakes_t *brakes = cm_push_brakes_new(&rule);
    cm_push_brake_key_t keys[] = {key_of("a", "app", "fcm"), key_of("b", "app", "fcm"),
                                  key_of("a", "app2", "fcm"), key_of("a", "app", ""),
                                  key_of("a", "fcm", "app")};
    for (size_t i = 0; i < CM_LENGTH(keys); i++)
        cr_expect(not(take(brakes, &keys[i], MIN - 1, MIN - 1, 0)), "%zu", i);
    cr_expect(eq(sz, cm_push_brakes_windows(brakes), CM_LENGTH(keys)));
}

Test(push_brake, what_the_window_has_passed_by_counts_no_more)
{
    CM_CLEANUP(cm_push_brakes_destroy) cm_push_brakes_t *brakes = cm_push_brakes_new(&rule);
    cm_push_brake_key_t key = key_of("a", "app", "fcm");
    take(brakes, &key, 10000, 0, 0);
    int64_t now_ms = WINDOW_MS + WINDOW_MS / 4;
    cr_expect(not(take(brakes, &key, MIN - 1, MIN - 1, now_ms)), "too few without the old ones");
    cr_expect(take(brakes, &key, 1, 1, now_ms));
}

Test(push_brake, the_window_of_few_verdicts_reaches_back_for_them_for_a_day_at_the_most)
{
    CM_CLEANUP(cm_push_brakes_destroy) cm_push_brakes_t *brakes = cm_push_brakes_new(&rule);
    cm_push_brake_key_t slow = key_of("a", "slow", "fcm"), rare = key_of("a", "rare", "fcm");
    int64_t now_ms = 0;
    bool tripped = false;
    for (int i = 0; i < MIN; i++, now_ms += WINDOW_MS) /* one in each window: 16 hours in all */
        tripped = take(brakes, &slow, 1, 1, now_ms);
    cr_expect(tripped, "100 of 100 are gone");
    for (int i = 0; i < 1000; i++, now_ms += 3600000 / 2) /* 48 a day */
        cr_expect(not(take(brakes, &rare, 1, 1, now_ms)));
    cr_expect(le(u64, look(brakes, &rare, now_ms).judged, 60));
}

Test(push_brake, goes_on_counting_anew_when_it_is_taken_off)
{
    CM_CLEANUP(cm_push_brakes_destroy) cm_push_brakes_t *brakes = cm_push_brakes_new(&rule);
    cm_push_brake_key_t key = key_of("a", "app", "fcm");
    cr_expect(take(brakes, &key, MIN, MIN, 0));
    cr_expect(not(take(brakes, &key, MIN, MIN, 1)), "it is on");
    cm_push_brakes_seen(brakes, &key, false);
    cr_expect(eq(u64, look(brakes, &key, 2).judged, 0));
    cr_expect(not(take(brakes, &key, MIN - 1, MIN - 1, 2)));
    cr_expect(take(brakes, &key, 1, 1, 3));
}

Test(push_brake, that_another_instance_put_on_is_learnt)
{
    CM_CLEANUP(cm_push_brakes_destroy) cm_push_brakes_t *brakes = cm_push_brakes_new(&rule);
    cm_push_brake_key_t key = key_of("a", "app", "fcm");
    cm_push_brakes_seen(brakes, &key, true);
    cr_expect(not(take(brakes, &key, MIN, MIN, 0)));
    cm_push_brakes_seen(brakes, &key, true); /* again: nothing changes */
    cm_push_brakes_seen(brakes, &key, false);
    cm_push_brakes_seen(brakes, &key, false);
    cr_expect(take(brakes, &key, MIN, MIN, 0));
}

Test(push_brake, of_too_many_windows_the_one_not_used_for_longest_is_forgotten)
{
    cm_push_brake_rule_t few = rule;
    few.windows_max = 3;
    CM_CLEANUP(cm_push_brakes_destroy) cm_push_brakes_t *brakes = cm_push_brakes_new(&few);
    static const char *const names[] = {"app0", "app1", "app2", "app3"};
    for (int i = 0; i < 3; i++)
        take(brakes, &(cm_push_brake_key_t){"a", cm_str(names[i]), "fcm"}, 7, 0, i);
    cm_push_brake_key_t first = key_of("a", names[0], "fcm"), second = key_of("a", names[1], "fcm"),
                        last = key_of("a", names[3], "fcm");
    take(brakes, &first, 1, 0, 10);
    take(brakes, &last, 1, 0, 11);
    cr_expect(eq(sz, cm_push_brakes_windows(brakes), 3));
    cr_expect(eq(u64, look(brakes, &first, 12).judged, 8));
    cr_expect(eq(u64, look(brakes, &second, 12).judged, 0));
}

/* ---- a wrong credential --------------------------------------------------------------------- */

/* Whatever rate and rhythm, all gone since the fault were counted in the window that trips: those
 * are taken back. */
Test(push_brake, when_all_are_gone_it_trips_while_the_fault_is_in_the_window)
{
    uint64_t random = 7;
    for (int round = 0; round < 300; round++) {
        CM_CLEANUP(cm_push_brakes_destroy) cm_push_brakes_t *brakes = cm_push_brakes_new(&rule);
        cm_push_brake_key_t key = key_of("a", "app", "fcm");
        int64_t now_ms = 0, gap_ms = 1 + (int64_t)cm_random_below(&random, 20000);
        int64_t fault_gap_ms = 1 + (int64_t)cm_random_below(&random, 20000);
        for (int i = 0; i < 3000; i++, now_ms += (int64_t)cm_random_below(&random, 2 * gap_ms + 1))
            cr_assert(not(take(brakes, &key, 1, cm_random_below(&random, 20) == 0, now_ms)));
        int64_t fault_ms = now_ms;
        uint64_t bad = 0;
        bool trips = false;
        cm_push_window_t window = {0};
        while (!trips && bad < 100000) {
            trips = cm_push_brakes_trips(brakes, &key, 1, 1, now_ms, &window);
            cm_push_brakes_count(brakes, &key, 1, 1, now_ms);
            bad++;
            now_ms += trips ? 0 : (int64_t)cm_random_below(&random, 2 * fault_gap_ms + 1);
        }
        cr_assert(trips, "round %d", round);
        cr_assert(ge(i64, window.age_ms, now_ms - fault_ms), "round %d: %d before", round,
                  (int)(now_ms - fault_ms - window.age_ms));
    }
}

Test(push_brake, a_fault_that_begins_in_drops_before_a_flood_is_reached_back_for)
{
    CM_CLEANUP(cm_push_brakes_destroy) cm_push_brakes_t *brakes = cm_push_brakes_new(&rule);
    cm_push_brake_key_t key = key_of("a", "app", "fcm");
    cm_push_window_t window;
    take(brakes, &key, MIN - 1, MIN - 1, 0);
    int64_t now_ms = 3 * WINDOW_MS;
    cr_expect(cm_push_brakes_trips(brakes, &key, MIN, MIN, now_ms, &window));
    cr_expect(eq(i64, window.age_ms, now_ms));
}

/* ---- a million verdicts of every day -------------------------------------------------------- */

enum { VERDICTS = 1000000, APPLICATIONS = 300 };

typedef struct {
    char name[16];
    unsigned weight;  /* its share of the traffic */
    unsigned churn;   /* percent gone on an ordinary day: 3 to 10 */
    int64_t wave_end; /* of an uninstall wave: 25 % gone */
} application_t;

static application_t *make_applications(uint64_t *random, unsigned *ret_total)
{
    application_t *all = calloc(APPLICATIONS, sizeof *all);
    *ret_total = 0;
    for (int i = 0; i < APPLICATIONS; i++) {
        snprintf(all[i].name, sizeof all[i].name, "app%d", i);
        all[i].weight = i < 20 ? 1000 : i < 100 ? 30 : 1; /* two thirds have 1 to 20 a window */
        all[i].churn = 3 + (unsigned)cm_random_below(random, 8);
        *ret_total += all[i].weight;
    }
    return all;
}

static application_t *choose(application_t *all, unsigned total, uint64_t *random)
{
    unsigned at = (unsigned)cm_random_below(random, total);
    while (at >= all->weight)
        at -= (all++)->weight;
    return all;
}

/* Campaigns: for a while all verdicts are of one application, a thousand a second. */
static unsigned gone_percent(application_t *application, uint64_t *random, int64_t now_ms)
{
    if (cm_random_below(random, 2000) == 0)
        application->wave_end = now_ms + 3 * WINDOW_MS;
    return now_ms < application->wave_end ? 25 : application->churn;
}

static void simulate(uint64_t seed)
{
    CM_CLEANUP(cm_push_brakes_destroy) cm_push_brakes_t *brakes = cm_push_brakes_new(&rule);
    uint64_t random = seed;
    unsigned total = 0, burst = 0;
    CM_CLEANUP(cm_free) application_t *all = make_applications(&random, &total);
    application_t *application = all;
    int64_t now_ms = 0;
    uint64_t gone_all = 0, in_waves = 0;
    for (int i = 0; i < VERDICTS; i++) {
        if (!burst && cm_random_below(&random, 5000) == 0) {
            burst = 2000;
            application = choose(all, total, &random);
        } else if (!burst) {
            application = choose(all, total, &random);
        }
        now_ms += burst ? 1 : (int64_t)cm_random_below(&random, 201);
        burst -= burst > 0;
        unsigned percent = gone_percent(application, &random, now_ms);
        bool gone = cm_random_below(&random, 100) < percent;
        gone_all += gone;
        in_waves += percent == 25;
        cm_push_brake_key_t key = key_of("a", application->name, "fcm");
        cr_assert(not(take(brakes, &key, 1, gone, now_ms)), "seed %d, verdict %d, %s", (int)seed, i,
                  application->name);
    }
    cr_assert(gt(u64, gone_all, VERDICTS / 30), "churn was there");
    cr_assert(gt(u64, in_waves, VERDICTS / 10), "waves were there");
}

Test(push_brake, a_million_verdicts_of_every_day_never_trip_it, .timeout = 120)
{
    for (uint64_t seed = 1; seed <= 5; seed++)
        simulate(seed);
}
