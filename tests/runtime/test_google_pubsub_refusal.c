/* When a subscription that the service refuses is tried again, by kind of call. */
#include "runtime/broker/google_pubsub_private.h"
#include "runtime/clock.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

enum { REFUSED_MS = 60000 };

static cm_pubsub_t driver;
static cm_pubsub_sub_t sub;
static cm_pubsub_refusal_t *const acks = &sub.ops[CM_PUBSUB_ACK].refused;
static size_t told;

static void on_refused(void *ctx, int subscription, const cm_error_t *err)
{
    (void)ctx, (void)subscription, (void)err;
    told++;
}

static void refuse(cm_pubsub_refusal_t *kind, int64_t sent_at)
{
    static const cm_error_t right = {.status = CM_MISCONFIGURED, .code = "http-403"};
    cm_pubsub_refuse(&sub, kind, sent_at, &right);
}

static void begin(void)
{
    driver.own.refused_ms = REFUSED_MS;
    driver.events.on_refused = on_refused;
    driver.address.project = "test";
    sub.driver = &driver;
    sub.name = "writer";
}

TestSuite(google_pubsub_refusal, .init = begin);

Test(google_pubsub_refusal, a_refused_acknowledgement_does_not_put_off_the_next_pull)
{
    int64_t now = cm_clock_mono_ms();
    refuse(&sub.refused, now);
    int64_t until = sub.refused.until;
    sub.refused.until = until - REFUSED_MS; /* its time has come, and nobody pulls */
    refuse(acks, now);
    cr_assert(eq(i64, sub.refused.until, until - REFUSED_MS));
    cr_assert(ge(i64, acks->until, now + REFUSED_MS));
    cr_assert(eq(sz, told, 1));
}

Test(google_pubsub_refusal, a_refused_pull_does_not_put_off_acknowledgements)
{
    refuse(&sub.refused, cm_clock_mono_ms());
    cr_assert(eq(i64, acks->until, 0));
    cr_assert(sub.stopped);
}

Test(google_pubsub_refusal, a_refused_acknowledgement_stops_pulls_that_were_served)
{
    int64_t now = cm_clock_mono_ms();
    refuse(acks, now);
    cr_assert(sub.stopped);
    cr_assert(ge(i64, sub.refused.until, now + REFUSED_MS));
    cr_assert(eq(sz, told, 1));
}

Test(google_pubsub_refusal, a_call_that_was_under_way_does_not_put_off_the_next_try)
{
    refuse(acks, 1);
    acks->at = 100; /* long ago */
    acks->until = 200;
    refuse(acks, 99);
    cr_assert(eq(i64, acks->until, 200));
    refuse(acks, 200);
    cr_assert(gt(i64, acks->until, 200));
    cr_assert(eq(sz, told, 1));
}

Test(google_pubsub_refusal, each_try_that_is_refused_is_told)
{
    refuse(&sub.refused, 1);
    refuse(acks, 1); /* of the same try */
    cr_assert(eq(sz, told, 1));
    sub.refused = (cm_pubsub_refusal_t){.at = 100, .until = 200};
    sub.told_at -= REFUSED_MS;
    refuse(&sub.refused, 200);
    cr_assert(eq(sz, told, 2));
}
