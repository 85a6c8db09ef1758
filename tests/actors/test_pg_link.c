/* fakes: pg */
/* When a connection is made anew. */
#include "actors/pg_link.h"
#include "tests/fakes/fake_pg.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

enum { TENANTS = 100 };

typedef struct {
    cm_options_t options;
    cm_reporter_t reporter;
    cm_pg_link_t link;
} world_t;

static void set_up(world_t *self)
{
    cm_error_t err = {0};
    self->options =
        (cm_options_t){.postgres = {.recycle_minutes = 45, .recycle_tenants = TENANTS},
                       .breaker = {.open_after = 3, .probe_min_ms = 10, .probe_max_ms = 100}};
    cr_assert(eq(int, cm_reporter_open(&self->reporter, NULL, "test", &err), CM_OK));
    cm_pg_link_open(&self->link, &self->options, "test", CM_ROLE_NONE, &self->reporter);
    cr_assert(eq(int, cm_pg_link_up(&self->link, NULL, 0, &err), CM_OK));
}

static void tear_down(world_t *self)
{
    cm_pg_link_close(&self->link);
    cm_reporter_close(&self->reporter);
}

static void expect_connects(world_t *self, size_t tenants, int expected)
{
    cm_error_t err = {0};
    cr_assert(eq(int, cm_pg_link_up(&self->link, NULL, tenants, &err), CM_OK));
    cr_expect(eq(int, atomic_load(&fake_pg.connects), expected));
}

Test(pg_link, a_young_connection_is_kept_however_many_tenants_it_touched)
{
    world_t world = {0};
    set_up(&world);
    expect_connects(&world, 10 * TENANTS, 1);
    tear_down(&world);
}

Test(pg_link, one_of_some_age_is_made_anew_beyond_its_tenants)
{
    world_t world = {0};
    set_up(&world);
    world.link.recycle_tenants_at_ms = 0;
    expect_connects(&world, TENANTS, 1);
    expect_connects(&world, TENANTS + 1, 2);
    expect_connects(&world, TENANTS + 1, 2);
    tear_down(&world);
}

Test(pg_link, an_old_one_is_made_anew)
{
    world_t world = {0};
    set_up(&world);
    world.link.recycle_at_ms = 0;
    expect_connects(&world, 0, 2);
    tear_down(&world);
}

static void record(world_t *self, cm_status_t status, const char *message)
{
    cm_error_t err = {0};
    cm_error_set(&err, status, "test", "%s", message);
    cm_pg_link_record(&self->link, status, &err);
}

/* A server that was away may come back and refuse us; that takes a person, so it is told. */
Test(pg_link, a_refusal_is_told_although_the_database_was_away_already)
{
    world_t world = {0};
    set_up(&world);
    record(&world, CM_UNAVAILABLE, "away");
    cr_expect(eq(int, world.reporter.state, CM_ACTOR_PAUSED));
    record(&world, CM_MISCONFIGURED, "role is missing");
    cr_expect(eq(int, world.reporter.state, CM_ACTOR_STOPPED));
    cr_expect(eq(str, world.reporter.text, "role is missing"));
    record(&world, CM_UNAVAILABLE, "away");
    cr_expect(eq(str, world.reporter.text, "role is missing"));
    record(&world, CM_OK, "");
    cr_expect(eq(int, world.reporter.state, CM_ACTOR_RUNNING));
    tear_down(&world);
}
