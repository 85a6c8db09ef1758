#include "actors/push_brake.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <string.h>

enum { WINDOW_MS = 86400000, MIN = 100, SHARE = 50, BATCH = 1000 };

static const cm_push_brake_rule_t rule = {WINDOW_MS, SHARE, MIN, CM_PUSH_BRAKE_WINDOWS_MAX};

static cm_push_brake_key_t key_of(const char *tenant, const char *application, const char *provider)
{
    return (cm_push_brake_key_t){tenant, cm_str(application), provider};
}

/* What the sub-worker does with a batch: ask, then count or learn that the brake is on. The valid
 * ones come first. */
static bool take(cm_push_brakes_t *brakes, const cm_push_brake_key_t *key, size_t valid,
                 size_t gone, int64_t now_ms)
{
    bool flags[BATCH];
    cm_push_run_t run;
    cr_assert(valid + gone <= BATCH);
    memset(flags, false, valid);
    memset(flags + valid, true, gone);
    bool trips = cm_push_brakes_trips(brakes, key, flags, valid + gone, now_ms, &run);
    if (trips)
        cm_push_brakes_seen(brakes, key, true);
    else
        cm_push_brakes_count(brakes, key, flags, valid + gone, now_ms);
    return trips;
}

static cm_push_run_t look(cm_push_brakes_t *brakes, const cm_push_brake_key_t *key, int64_t now_ms)
{
    cm_push_run_t run;
    cm_push_brakes_trips(brakes, key, NULL, 0, now_ms, &run);
    return run;
}

Test(push_brake, trips_when_as_many_as_the_least_number_are_gone_in_a_row)
{
    CM_CLEANUP(cm_push_brakes_destroy) cm_push_brakes_t *brakes = cm_push_brakes_new(&rule);
    cm_push_brake_key_t key = key_of("a", "app", "fcm");
    cm_push_run_t run;
    bool one = true;
    cr_expect(not(take(brakes, &key, 0, MIN - 1, 1000)));
    cr_expect(cm_push_brakes_trips(brakes, &key, &one, 1, 3000, &run));
    cr_expect(eq(u64, run.judged, MIN));
    cr_expect(eq(u64, run.gone, MIN));
    cr_expect(eq(i64, run.age_ms, 2000));
}

Test(push_brake, whatever_went_well_before_makes_it_no_slower)
{
    CM_CLEANUP(cm_push_brakes_destroy) cm_push_brakes_t *brakes = cm_push_brakes_new(&rule);
    cm_push_brake_key_t key = key_of("a", "app", "fcm");
    for (int i = 0; i < 100; i++)
        take(brakes, &key, BATCH, 0, i);
    cr_expect(not(take(brakes, &key, 500, MIN - 1, 200)), "in the middle of a batch, too");
    cr_expect(take(brakes, &key, 0, 1, 200));
}

Test(push_brake, the_nearer_to_the_share_the_more_verdicts_it_takes)
{
    static const struct {
        size_t valid, gone; /* of each batch */
        int batches;
    } cases[] = {{25, 75, 2}, {40, 60, 5}, {45, 55, 10}};
    for (size_t i = 0; i < CM_LENGTH(cases); i++) {
        CM_CLEANUP(cm_push_brakes_destroy) cm_push_brakes_t *brakes = cm_push_brakes_new(&rule);
        cm_push_brake_key_t key = key_of("a", "app", "fcm");
        int batches = 1;
        cm_push_run_t run = {0};
        bool flags[100];
        for (size_t k = 0; k < 100; k++) /* evenly mixed */
            flags[k] = (k + 1) * cases[i].gone / 100 > k * cases[i].gone / 100;
        while (!cm_push_brakes_trips(brakes, &key, flags, 100, batches, &run) && batches < 100) {
            cm_push_brakes_count(brakes, &key, flags, 100, batches);
            batches++;
        }
        cr_expect(eq(int, batches, cases[i].batches), "%d gone of 100", (int)cases[i].gone);
    }
}

Test(push_brake, at_or_below_the_share_it_never_trips)
{
    CM_CLEANUP(cm_push_brakes_destroy) cm_push_brakes_t *brakes = cm_push_brakes_new(&rule);
    cm_push_brake_key_t key = key_of("a", "app", "fcm");
    for (int i = 0; i < 10000; i++)
        cr_assert(not(take(brakes, &key, 50, 50, i)));
    cr_expect(le(u64, look(brakes, &key, 10000).judged, 100));
}

Test(push_brake, asking_counts_nothing)
{
    CM_CLEANUP(cm_push_brakes_destroy) cm_push_brakes_t *brakes = cm_push_brakes_new(&rule);
    cm_push_brake_key_t key = key_of("a", "app", "fcm");
    bool flags[50];
    cm_push_run_t run;
    memset(flags, true, sizeof flags);
    for (int i = 0; i < 100; i++)
        cr_expect(not(cm_push_brakes_trips(brakes, &key, flags, 50, i, &run)));
    cr_expect(eq(sz, cm_push_brakes_windows(brakes), 0));
}

Test(push_brake, with_a_share_of_a_hundred_percent_there_is_none)
{
    cm_push_brake_rule_t none = rule;
    none.share_percent = CM_PUSH_BRAKE_OFF_PERCENT;
    CM_CLEANUP(cm_push_brakes_destroy) cm_push_brakes_t *brakes = cm_push_brakes_new(&none);
    cm_push_brake_key_t key = key_of("a", "app", "fcm");
    for (int i = 0; i < 100; i++)
        cr_expect(not(take(brakes, &key, 0, BATCH, i)));
}

Test(push_brake, each_tenant_application_and_provider_is_watched_by_itself)
{
    CM_CLEANUP(cm_push_brakes_destroy) cm_push_brakes_t *brakes = cm_push_brakes_new(&rule);
    cm_push_brake_key_t keys[] = {key_of("a", "app", "fcm"), key_of("b", "app", "fcm"),
                                  key_of("a", "app2", "fcm"), key_of("a", "app", ""),
                                  key_of("a", "fcm", "app")};
    for (size_t i = 0; i < CM_LENGTH(keys); i++)
        cr_expect(not(take(brakes, &keys[i], 0, MIN - 1, 0)), "%d", (int)i);
    cr_expect(eq(sz, cm_push_brakes_windows(brakes), CM_LENGTH(keys)));
}

Test(push_brake, guards_an_application_with_as_many_verdicts_in_the_window_and_none_with_fewer)
{
    CM_CLEANUP(cm_push_brakes_destroy) cm_push_brakes_t *brakes = cm_push_brakes_new(&rule);
    cm_push_brake_key_t slow = key_of("a", "slow", "fcm"), rare = key_of("a", "rare", "fcm");
    bool tripped = false;
    for (int i = 0; i < MIN; i++) /* all in the window, just */
        tripped = take(brakes, &slow, 0, 1, (int64_t)i * WINDOW_MS / MIN);
    cr_expect(tripped);
    for (int i = 0; i < 10 * MIN; i++)
        cr_assert(not(take(brakes, &rare, 0, 1, (int64_t)i * WINDOW_MS / (MIN - 2))));
}

Test(push_brake, goes_on_counting_anew_when_it_is_taken_off)
{
    CM_CLEANUP(cm_push_brakes_destroy) cm_push_brakes_t *brakes = cm_push_brakes_new(&rule);
    cm_push_brake_key_t key = key_of("a", "app", "fcm");
    cr_expect(take(brakes, &key, 0, MIN, 0));
    cr_expect(not(take(brakes, &key, 0, MIN, 1)), "it is on");
    cm_push_brakes_seen(brakes, &key, false);
    cr_expect(eq(u64, look(brakes, &key, 2).judged, 0));
    cr_expect(not(take(brakes, &key, 0, MIN - 1, 2)));
    cr_expect(take(brakes, &key, 0, 1, 3));
}

Test(push_brake, that_another_instance_put_on_is_learnt)
{
    CM_CLEANUP(cm_push_brakes_destroy) cm_push_brakes_t *brakes = cm_push_brakes_new(&rule);
    cm_push_brake_key_t key = key_of("a", "app", "fcm");
    cm_push_brakes_seen(brakes, &key, true);
    cr_expect(not(take(brakes, &key, 0, MIN, 0)));
    cm_push_brakes_seen(brakes, &key, true); /* again: nothing changes */
    cm_push_brakes_seen(brakes, &key, false);
    cm_push_brakes_seen(brakes, &key, false);
    cr_expect(take(brakes, &key, 0, MIN, 0));
}

Test(push_brake, of_too_many_the_one_not_used_for_longest_is_forgotten)
{
    cm_push_brake_rule_t few = rule;
    few.windows_max = 3;
    CM_CLEANUP(cm_push_brakes_destroy) cm_push_brakes_t *brakes = cm_push_brakes_new(&few);
    static const char *const names[] = {"app0", "app1", "app2", "app3"};
    for (int i = 0; i < 3; i++)
        take(brakes, &(cm_push_brake_key_t){"a", cm_str(names[i]), "fcm"}, 0, 7, i);
    cm_push_brake_key_t first = key_of("a", names[0], "fcm"), second = key_of("a", names[1], "fcm"),
                        last = key_of("a", names[3], "fcm");
    take(brakes, &first, 0, 1, 10);
    take(brakes, &last, 0, 1, 11);
    cr_expect(eq(sz, cm_push_brakes_windows(brakes), 3));
    cr_expect(eq(u64, look(brakes, &first, 12).judged, 8));
    cr_expect(eq(u64, look(brakes, &second, 12).judged, 0));
}

/* ---- a wrong credential --------------------------------------------------------------------- */

/* Whatever rate and rhythm: it trips after the least number at the latest, and the run reaches back
 * to the fault, so that all it applied is taken back. */
Test(push_brake, when_all_are_gone_it_trips_at_once_and_reaches_back_to_the_fault)
{
    uint64_t random = 7;
    for (int round = 0; round < 300; round++) {
        CM_CLEANUP(cm_push_brakes_destroy) cm_push_brakes_t *brakes = cm_push_brakes_new(&rule);
        cm_push_brake_key_t key = key_of("a", "app", "fcm");
        uint64_t gap_ms = 1 + cm_random_below(&random, 20000), churn = cm_random_below(&random, 30);
        uint64_t fault_gap_ms = 1 + cm_random_below(&random, 400000);
        int64_t now_ms = 0, fault_ms;
        for (int i = 0; i < 3000; i++, now_ms += (int64_t)cm_random_below(&random, 2 * gap_ms)) {
            bool gone = cm_random_below(&random, 100) < churn;
            cr_assert(not(take(brakes, &key, !gone, gone, now_ms)));
        }
        fault_ms = now_ms;
        bool trips = false, one = true;
        int bad = 0;
        for (cm_push_run_t run; !trips && bad < 2 * MIN; bad++) {
            now_ms += (int64_t)cm_random_below(&random, 2 * fault_gap_ms);
            trips = cm_push_brakes_trips(brakes, &key, &one, 1, now_ms, &run);
            cm_push_brakes_count(brakes, &key, &one, 1, now_ms);
            if (bad == 0) /* the first bad one is what the run must hold */
                fault_ms = now_ms;
            if (trips)
                cr_assert(ge(i64, run.age_ms, now_ms - fault_ms), "round %d", round);
        }
        cr_assert(trips, "round %d", round);
        cr_assert(le(int, bad, MIN), "round %d", round);
    }
}

/* ---- a million verdicts of every day -------------------------------------------------------- */

enum { VERDICTS = 1000000, APPLICATIONS = 300, WAVE_MS = 1800000 };

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
        all[i].weight = i < 20 ? 1000 : i < 100 ? 30 : 1; /* two thirds: 1 to 20 in ten minutes */
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

static unsigned gone_percent(application_t *application, uint64_t *random, int64_t now_ms)
{
    if (cm_random_below(random, 2000) == 0)
        application->wave_end = now_ms + WAVE_MS;
    return now_ms < application->wave_end ? 25 : application->churn;
}

/* In bursts of 2000, a thousand a second, all verdicts are of one application: a campaign. */
static void simulate(uint64_t seed)
{
    CM_CLEANUP(cm_push_brakes_destroy) cm_push_brakes_t *brakes = cm_push_brakes_new(&rule);
    uint64_t random = seed, greatest = 0;
    unsigned total = 0, burst = 0;
    CM_CLEANUP(cm_free) application_t *all = make_applications(&random, &total);
    application_t *application = all;
    int64_t now_ms = 0;
    uint64_t gone_all = 0, in_waves = 0;
    for (int i = 0; i < VERDICTS; i++) {
        if (!burst && cm_random_below(&random, 5000) == 0)
            burst = 2000 + 1;
        if (burst == 0 || burst == 2000 + 1)
            application = choose(all, total, &random);
        now_ms += burst ? 1 : (int64_t)cm_random_below(&random, 201);
        burst -= burst > 0;
        unsigned percent = gone_percent(application, &random, now_ms);
        bool gone = cm_random_below(&random, 100) < percent;
        gone_all += gone;
        in_waves += percent == 25;
        cm_push_brake_key_t key = key_of("a", application->name, "fcm");
        cr_assert(not(take(brakes, &key, !gone, gone, now_ms)), "seed %d, verdict %d, %s",
                  (int)seed, i, application->name);
        uint64_t run = look(brakes, &key, now_ms).gone;
        greatest = run > greatest ? run : greatest;
    }
    cr_assert(gt(u64, gone_all, VERDICTS / 30), "churn was there");
    cr_assert(gt(u64, in_waves, VERDICTS / 10), "waves were there");
    cr_assert(lt(u64, greatest, MIN / 2), "not even near");
}

Test(push_brake, a_million_verdicts_of_every_day_never_trip_it, .timeout = 120)
{
    for (uint64_t seed = 1; seed <= 5; seed++)
        simulate(seed);
}
