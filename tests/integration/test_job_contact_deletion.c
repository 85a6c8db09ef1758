/* The contact deletion job on real servers: each deleted contact of an active customer is
 * published, what a kill repeats is bounded, and a watermark never passes what was not taken. */
#include "tests/integration/contact_job_case.h"

/* ---- what holds for each source -------------------------------------------------------------- */

static void each_contact_is_published_once(void)
{
    configure();
    must_run();
    expect_published(2 * CONTACTS);
    expect_each(1, 2 * CONTACTS, 1, 1);
    cr_expect(eq(llong, told("contacts"), 2 * CONTACTS));
    cr_expect(eq(llong, told("malformed"), 0));
    cr_expect(eq(llong, told_customers("done"), 2));
    cr_expect(eq(llong, told_customers("failed"), 0));
    cr_expect(eq(u64, world.run.progress.done, 2));
    cr_expect(eq(u64, world.run.progress.total, 2));
    cr_expect(eq(llong,
                 cm_test_number(world.pg,
                                "SELECT sum((detail->>'contacts')::int) FROM " CM_TEST_ADMIN
                                ".job_run_tenants WHERE run_id = %lld AND state = 'done'",
                                (long long)world.run.run_id),
                 2 * CONTACTS));
}

static void a_further_run_takes_only_what_is_new(void)
{
    configure();
    must_run();
    forget_stream();
    must_run();
    expect_published(2); /* at the very time of the watermark there may be more */
    set("contact_job.overlap_minutes=1");
    configure();
    must_run();
    expect_published(2 + 2 * 61);
}

static void a_killed_run_goes_on_at_its_checkpoint(void)
{
    enum { PAGE = 150 };
    set("contact_job.page_size=%d", PAGE);
    configure();
    begin_run();
    for (uint64_t at = 400; at < 2 * CONTACTS; at += 400)
        die_at(at);
    world.run.resumed = true;
    cr_assert(eq(int, call_body(), CM_OK), "%s", world.err.message);
    read_stream();
    expect_each(1, 2 * CONTACTS, 1, 5);
    cr_expect(le(llong, world.published, 2 * CONTACTS + 4 * PAGE));
    cr_expect(eq(llong, told("contacts"), 2 * CONTACTS));
    end_run(CM_RUN_DONE);
    forget_stream();
    must_run(); /* what the killed ones read counts for the watermarks */
    expect_published(2);
}

/* A stop is heard between pages, so nothing comes again; on a machine so slow that a page takes a
 * second it is heard in the middle of one, and that page does. */
static void a_run_that_is_stopped_goes_on(void)
{
    enum { PAGE = 150 };
    int stops = 0;
    set("contact_job.page_size=150");
    configure();
    begin_run();
    for (world.stop_at = 500; world.stop_at < 2 * CONTACTS; world.stop_at += 500, stops++)
        cr_assert(eq(int, call_body(), CM_CANCELLED));
    world.stop_at = 0;
    cr_assert(eq(int, call_body(), CM_OK), "%s", world.err.message);
    read_stream();
    cr_expect(ge(llong, world.published, 2 * CONTACTS));
    cr_expect(le(llong, world.published, 2 * CONTACTS + stops * PAGE));
}

static void a_dry_run_publishes_and_keeps_nothing(void)
{
    configure();
    world.run.dry_run = true;
    cr_assert(eq(int, call_body(), CM_OK), "%s", world.err.message);
    cr_expect(eq(llong, told("contacts"), 2 * CONTACTS));
    bool is_dry = json_is_true(json_object_get(world.told, "dry_run"));
    cr_expect(is_dry);
    expect_published(0);
    cr_expect(eq(llong,
                 cm_test_number(world.pg, "SELECT count(*) FROM " CM_TEST_ADMIN ".job_checkpoints"),
                 0));
}

static void one_customer_can_be_asked_for(void)
{
    configure();
    world.run.tenant = "1002";
    must_run();
    expect_published(CONTACTS);
    expect_each(CONTACTS + 1, 2 * CONTACTS, 1, 1);
    world.run.tenant = NULL;
    must_run();
    read_stream();
    expect_each(1, CONTACTS, 1, 1);
    cr_expect(eq(llong, world.published, 2 * CONTACTS + 1));
    world.run.tenant = "1003";
    begin_run();
    cr_expect(eq(int, call_body(), CM_PERMANENT));
    cr_expect(eq(str, world.err.code, "not-active"));
}

static void whoever_lost_the_lease_moves_no_watermark(void)
{
    configure();
    begin_run();
    cm_test_sql(world.pg, "UPDATE " CM_TEST_ADMIN ".leases SET term = term + 1");
    cr_expect(eq(int, call_body(), CM_PERMANENT));
    cr_expect(eq(str, world.err.code, "lease-lost"));
    expect_published(0);
    cr_expect(eq(llong,
                 cm_test_number(world.pg, "SELECT count(*) FROM " CM_TEST_ADMIN ".job_checkpoints"),
                 0));
}

#define FOR_EACH_SOURCE(rule)                                                                      \
    Test(contact_job_file, rule, .init = begin_file, .fini = end_file, .timeout = 60)              \
    {                                                                                              \
        rule();                                                                                    \
    }                                                                                              \
    Test(contact_job_postgres, rule, .init = begin_postgres, .fini = end_world, .timeout = 60)     \
    {                                                                                              \
        rule();                                                                                    \
    }                                                                                              \
    Test(contact_job_bigquery, rule, .init = begin_bigquery, .fini = end_bigquery, .timeout = 60)  \
    {                                                                                              \
        rule();                                                                                    \
    }                                                                                              \
    Test(contact_job_one, rule, .init = begin_postgres, .fini = end_world, .timeout = 60)          \
    {                                                                                              \
        set("contact_job.queries=one");                                                            \
        rule();                                                                                    \
    }                                                                                              \
    Test(contact_job_each, rule, .init = begin_bigquery, .fini = end_bigquery, .timeout = 60)      \
    {                                                                                              \
        set("contact_job.queries=each");                                                           \
        rule();                                                                                    \
    }

FOR_EACH_SOURCE(each_contact_is_published_once)
FOR_EACH_SOURCE(a_further_run_takes_only_what_is_new)
FOR_EACH_SOURCE(a_killed_run_goes_on_at_its_checkpoint)
FOR_EACH_SOURCE(a_run_that_is_stopped_goes_on)
FOR_EACH_SOURCE(a_dry_run_publishes_and_keeps_nothing)
FOR_EACH_SOURCE(one_customer_can_be_asked_for)
FOR_EACH_SOURCE(whoever_lost_the_lease_moves_no_watermark)
