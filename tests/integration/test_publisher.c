/* Publishing at a rate, with a clock that the test can set forward. */
#include "actors/publisher.h"
#include "runtime/clock.h"
#include "tests/support/redis_server.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <string.h>

enum { RATE = 100, SENT = 51, SECOND_US = 1000 * 1000 };

/* ---- the clock (linked with --wrap=cm_clock_mono_us) ---------------------------------------- */

static int64_t ahead_us;

int64_t __real_cm_clock_mono_us(void);
int64_t __wrap_cm_clock_mono_us(void);
int64_t __wrap_cm_clock_mono_us(void)
{
    return __real_cm_clock_mono_us() + ahead_us;
}

/* ---- a publisher ----------------------------------------------------------------------------- */

typedef struct {
    cm_test_redis_t redis;
    char flag[192];
    cm_config_t *config;
    cm_publisher_t *publisher;
    cm_error_t err;
} world_t;

static void set_up(world_t *self)
{
    cm_buffer_t faults = {0};
    cm_test_redis_start(&self->redis);
    snprintf(self->flag, sizeof self->flag, "redis.uri=%s", self->redis.uri);
    cm_config_sources_t sources = {.environ_ = (const char *const[]){NULL},
                                   .flags = (const char *const[]){self->flag},
                                   .flag_count = 1};
    cr_assert(eq(int,
                 cm_config_load(&self->config, &cm_options_table, &sources, &faults, &self->err),
                 CM_OK),
              "%s", self->err.message);
    cm_buffer_destroy(&faults);
    cr_assert(
        eq(int,
           cm_publisher_open(&self->publisher, cm_config_values(self->config), RATE, &self->err),
           CM_OK),
        "%s", self->err.message);
}

static void tear_down(world_t *self)
{
    cm_publisher_close(&self->publisher);
    cm_config_destroy(&self->config);
    cm_test_redis_stop(&self->redis);
}

/* The time that it takes at the least. */
static void send_at_rate(world_t *self)
{
    cm_message_t message = {.body = CM_STR("{}")};
    int64_t began_us = cm_clock_mono_us();
    for (int i = 0; i < SENT; i++)
        cr_assert(eq(int,
                     cm_publisher_send(self->publisher, CM_SUBSCRIPTION_CONTACT_DELETION, &message,
                                       &self->err),
                     CM_OK),
                  "%s", self->err.message);
    int64_t took_us = cm_clock_mono_us() - began_us;
    cr_expect(ge(i64, took_us, (SENT - 1) * SECOND_US / RATE - 1000));
}

Test(publisher, a_pause_is_not_made_up_for, .timeout = 60)
{
    world_t world = {0};
    set_up(&world);
    for (int i = 0; i < 2; i++) {
        ahead_us += 60 * (int64_t)SECOND_US;
        send_at_rate(&world);
    }
    cr_assert(eq(int, cm_publisher_flush(world.publisher, &world.err), CM_OK));
    cr_expect(eq(u64, cm_publisher_confirmed(world.publisher), 2 * SENT));
    tear_down(&world);
}
