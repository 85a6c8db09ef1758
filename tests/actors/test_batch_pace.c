#include "actors/batch_pace.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

enum { MS = 1000 };

typedef struct {
    cm_batch_run_t run;
    int asked, shown, stop_at; /* stop_at: which question is answered with yes; 0 = none */
} world_t;

static bool stopped(void *ctx)
{
    world_t *self = ctx;
    return ++self->asked == self->stop_at;
}

static void show(void *ctx, const cm_batch_progress_t *progress)
{
    world_t *self = ctx;
    (void)progress;
    self->shown++;
}

static world_t *world_init(world_t *self, int stop_at)
{
    *self = (world_t){.run = {.stopped = stopped, .show = show, .ctx = self}, .stop_at = stop_at};
    return self;
}

Test(batch_pace, it_rests_in_proportion_to_its_work)
{
    cm_batch_pace_t pace;
    cm_batch_pace_init(&pace, 20, 0);
    cr_expect(eq(i64, cm_batch_pace_rest_us(&pace, CM_PACE_READ, 10 * MS), 40 * MS));
    cr_expect(eq(i64, cm_batch_pace_rest_us(&pace, CM_PACE_WRITE, 100 * MS), 400 * MS));
    cm_batch_pace_init(&pace, 50, 0);
    cr_expect(eq(i64, cm_batch_pace_rest_us(&pace, CM_PACE_READ, 10 * MS), 10 * MS));
}

Test(batch_pace, a_hundred_percent_is_no_rest)
{
    cm_batch_pace_t pace;
    cm_batch_pace_init(&pace, 100, 0);
    cr_expect(eq(i64, cm_batch_pace_rest_us(&pace, CM_PACE_READ, 500 * MS), 0));
    cr_expect(eq(i64, cm_batch_pace_rest_us(&pace, CM_PACE_WRITE, 500 * MS), 0));
}

Test(batch_pace, between_two_writes_is_the_pause_at_least)
{
    cm_batch_pace_t pace;
    cm_batch_pace_init(&pace, 50, 30);
    cr_expect(eq(i64, cm_batch_pace_rest_us(&pace, CM_PACE_WRITE, 10 * MS), 30 * MS));
    cr_expect(eq(i64, cm_batch_pace_rest_us(&pace, CM_PACE_WRITE, 40 * MS), 40 * MS));
    cr_expect(eq(i64, cm_batch_pace_rest_us(&pace, CM_PACE_READ, 10 * MS), 10 * MS));
}

Test(batch_pace, rests_that_are_too_short_add_up)
{
    cm_batch_pace_t pace;
    cm_batch_pace_init(&pace, 50, 0);
    cr_expect(eq(i64, cm_batch_pace_rest_us(&pace, CM_PACE_READ, 2 * MS), 0));
    cr_expect(eq(i64, cm_batch_pace_rest_us(&pace, CM_PACE_READ, 2 * MS), 0));
    cr_expect(eq(i64, cm_batch_pace_rest_us(&pace, CM_PACE_READ, 2 * MS), 6 * MS));
    cr_expect(eq(i64, cm_batch_pace_rest_us(&pace, CM_PACE_READ, 1 * MS), 0));
}

Test(batch_pace, waits_for_locks_double_its_rest_up_to_2_s)
{
    cm_batch_pace_t pace;
    cm_batch_pace_init(&pace, 100, 20);
    cr_expect(eq(i64, cm_batch_pace_rest_us(&pace, CM_PACE_WAITED, 1 * MS), 50 * MS));
    cr_expect(eq(i64, cm_batch_pace_rest_us(&pace, CM_PACE_WAITED, 1 * MS), 100 * MS));
    for (int i = 0; i < 10; i++)
        cm_batch_pace_rest_us(&pace, CM_PACE_WAITED, 1 * MS);
    cr_expect(eq(i64, cm_batch_pace_rest_us(&pace, CM_PACE_WAITED, 1 * MS), 2000 * MS));
    cm_batch_pace_next(&pace); /* another tenant */
    cr_expect(eq(i64, cm_batch_pace_rest_us(&pace, CM_PACE_WAITED, 1 * MS), 50 * MS));
}

Test(batch_pace, waiting_for_a_lock_is_no_work)
{
    cm_batch_pace_t pace;
    cm_batch_pace_init(&pace, 1, 0);
    cr_expect(eq(i64, cm_batch_pace_rest_us(&pace, CM_PACE_WAITED, 1000 * MS), 50 * MS));
}

Test(batch_pace, writes_that_go_well_take_it_back)
{
    cm_batch_pace_t pace;
    cm_batch_pace_init(&pace, 100, 20);
    cm_batch_pace_rest_us(&pace, CM_PACE_WAITED, 1 * MS);
    cr_expect(eq(i64, cm_batch_pace_rest_us(&pace, CM_PACE_READ, 1 * MS), 0));
    cr_expect(eq(i64, cm_batch_pace_rest_us(&pace, CM_PACE_WRITE, 1 * MS), 37500));
    for (int i = 0; i < 10; i++)
        cm_batch_pace_rest_us(&pace, CM_PACE_WRITE, 1 * MS);
    cr_expect(eq(i64, cm_batch_pace_rest_us(&pace, CM_PACE_WRITE, 1 * MS), 20 * MS));
}

Test(batch_pace, a_step_that_took_long_costs_10_s_at_the_most)
{
    cm_batch_pace_t pace;
    cm_batch_pace_init(&pace, 1, 0);
    cr_expect(eq(i64, cm_batch_pace_rest_us(&pace, CM_PACE_READ, 1000 * MS), 10000 * MS));
}

Test(batch_pace, a_rest_ends_when_the_run_is_to_stop, .timeout = 30)
{
    world_t world;
    world_init(&world, 3);
    cr_expect(not(cm_batch_rest(&world.run, 3600 * 1000)));
    cr_expect(eq(int, world.asked, 3));
    cr_expect(eq(int, world.shown, 2)); /* a sign of life beside */
}

Test(batch_pace, a_step_without_rest_asks_and_tells_all_the_same)
{
    world_t world;
    cm_batch_pace_t pace;
    world_init(&world, 2);
    cm_batch_pace_init(&pace, 100, 0);
    cr_expect(cm_batch_pace_step(&pace, &world.run, CM_PACE_READ));
    cr_expect(eq(int, world.shown, 1));
    cr_expect(not(cm_batch_pace_step(&pace, &world.run, CM_PACE_READ)));
}
