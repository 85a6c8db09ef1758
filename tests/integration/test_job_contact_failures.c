/* The contact deletion job: customers that come, go and are silent, and what fails. */
#include "tests/integration/contact_job_case.h"

/* ---- customers ------------------------------------------------------------------------------- */

TestSuite(contact_job_customers, .timeout = 60);

Test(contact_job_customers, one_that_is_unknown_or_not_active_is_counted_and_not_published,
     .init = begin_bigquery, .fini = end_bigquery)
{
    set_data("{\"customers\":4}");
    cm_test_tenant(world.pg, "1003");
    cm_test_sql(world.pg,
                "UPDATE " CM_TEST_ADMIN ".tenants SET state = 'suspended' WHERE id = '1003'");
    configure();
    must_run();
    expect_published(2 * CONTACTS);
    cr_expect(eq(llong, told("strangers"), 2 * CONTACTS));
    cm_test_sql(world.pg,
                "UPDATE " CM_TEST_ADMIN ".tenants SET state = 'active' WHERE id = '1003'");
    forget_stream();
    must_run(); /* from its first contact on */
    read_stream();
    expect_each(2 * CONTACTS + 1, 3 * CONTACTS, 1, 1);
    cr_expect(eq(llong, world.published, CONTACTS + 2));
    cr_expect(eq(llong, told("known"), 2 * CONTACTS - 2));
}

Test(contact_job_customers, one_activated_while_a_reading_is_open_is_left_to_the_next_run,
     .init = begin_bigquery, .fini = end_bigquery)
{
    set_data("{\"customers\":3}");
    configure();
    begin_run();
    world.stop_at = 500;
    cr_assert(eq(int, call_body(), CM_CANCELLED));
    world.stop_at = 0;
    cm_test_tenant(world.pg, "1003");
    cr_assert(eq(int, call_body(), CM_OK), "%s", world.err.message);
    cr_expect(eq(llong, told_customers("done"), 2));
    cr_expect(eq(llong, told_customers("skipped"), 1));
    end_run(CM_RUN_DONE);
    forget_stream();
    must_run();
    read_stream();
    expect_each(2 * CONTACTS + 1, 3 * CONTACTS, 1, 1);
}

Test(contact_job_customers, one_that_comes_back_is_asked_for_from_its_first_contact,
     .init = begin_postgres, .fini = end_world)
{
    configure();
    must_run();
    forget_stream();
    cm_test_sql(world.pg, "UPDATE " CM_TEST_ADMIN
                          ".tenants SET generation = generation + 1 WHERE id = '1002'");
    must_run();
    read_stream();
    expect_each(CONTACTS + 1, 2 * CONTACTS, 1, 1);
    cr_expect(eq(llong, world.published, CONTACTS + 1));
}

static void silence_follows(const char *queries)
{
    set("contact_job.queries=%s", queries);
    set("contact_job.lag_hours=1");
    cm_test_sql(world.pg, "DELETE FROM public.deleted WHERE customer = '1001'");
    configure();
    must_run();
    if (strcmp(queries, "each") == 0) /* it was asked for before the newest was known */
        must_run();
    /* The newest of all came at +999 s: an hour before that, and not from the first. */
    cm_test_sql(world.pg,
                "INSERT INTO public.deleted VALUES ('1001', 1, to_timestamp(1700000000 - 2700)),"
                " ('1001', 2, to_timestamp(1700000000 - 2500))");
    forget_stream();
    must_run();
    read_stream();
    expect_each(1, 1, 0, 0);
    expect_each(2, 2, 1, 1);
}

Test(contact_job_customers, a_silent_one_follows_the_newest_of_all, .init = begin_postgres,
     .fini = end_world)
{
    silence_follows("one");
}

Test(contact_job_customers, a_silent_one_with_a_query_of_its_own_follows_as_well,
     .init = begin_postgres, .fini = end_world)
{
    silence_follows("each");
}

Test(contact_job_customers, where_no_row_comes_at_all_no_watermark_moves, .init = begin_postgres,
     .fini = end_world)
{
    cm_test_sql(world.pg, "ALTER TABLE public.deleted RENAME TO away");
    cm_test_sql(world.pg, "CREATE TABLE public.deleted (LIKE public.away)");
    configure();
    must_run();
    cm_test_sql(world.pg, "INSERT INTO public.deleted SELECT * FROM public.away");
    must_run();
    expect_published(2 * CONTACTS);
}

Test(contact_job_customers, another_query_begins_at_the_first_contact, .init = begin_postgres,
     .fini = end_world)
{
    configure();
    must_run();
    forget_stream();
    set("contact_job.query=" POSTGRES_QUERY " -- anew");
    configure();
    must_run();
    expect_published(2 * CONTACTS);
}

/* ---- failures -------------------------------------------------------------------------------- */

TestSuite(contact_job_failures, .timeout = 60);

Test(contact_job_failures, of_one_customer_hold_up_no_other, .init = begin_postgres,
     .fini = end_world)
{
    set("contact_job.query=SELECT customer AS customer_id, contact / (customer <> '1001')::int AS "
        "contact_id, at AS deleted_at FROM public.deleted WHERE customer = $1");
    configure();
    begin_run();
    cr_assert(eq(int, call_body(), CM_OK), "%s", world.err.message);
    cr_expect(eq(llong, told_customers("failed"), 1));
    cr_expect(eq(llong, told_customers("done"), 1));
    cr_expect(eq(u64, world.run.progress.failed, 1));
    expect_published(CONTACTS);
    char *rows = cm_test_rows(world.pg, "SELECT tenant, state, error_code FROM " CM_TEST_ADMIN
                                        ".job_run_tenants ORDER BY tenant");
    cr_expect(eq(str, rows, "1001|failed|22012\n1002|done|"));
    free(rows);
    end_run(CM_RUN_PARTIAL);
    forget_stream();
    set("contact_job.query=" POSTGRES_QUERY);
    configure();
    must_run();
    read_stream();
    expect_each(1, CONTACTS, 1, 1);
}

Test(contact_job_failures, that_pass_are_tried_again_after_the_others, .init = begin_bigquery,
     .fini = end_bigquery)
{
    set("contact_job.queries=each");
    cm_test_pubsub_fault(&server, "{\"kind\":\"job-fails\",\"reason\":\"stopped\","
                                  "\"call\":\"getQueryResults\",\"resource\":\"page\"}");
    configure();
    must_run();
    expect_published(2 * CONTACTS);
    cr_expect(eq(llong, told_customers("done"), 2));
    cr_expect(eq(llong, cm_test_pubsub_stat(&server, "jobs"), 3));
}

Test(contact_job_failures, that_stay_are_told_when_tries_are_used_up, .init = begin_bigquery,
     .fini = end_bigquery)
{
    set("contact_job.queries=each");
    set("contact_job.retries=2");
    cm_test_pubsub_fault(&server, "{\"kind\":\"job-fails\",\"reason\":\"stopped\","
                                  "\"call\":\"getQueryResults\",\"count\":1000}");
    configure();
    begin_run();
    cr_assert(eq(int, call_body(), CM_OK), "%s", world.err.message);
    cr_expect(eq(llong, told_customers("failed"), 2));
    expect_published(0);
    mend();
    cr_assert(eq(int, call_body(), CM_OK), "%s", world.err.message);
    expect_published(2 * CONTACTS);
}

/* As many as make a source away, were it the source. */
Test(contact_job_failures, of_damaged_rows_hold_up_no_other_customer, .init = begin_postgres,
     .fini = end_world)
{
    for (const char *id = "123"; *id; id++)
        cm_test_tenant(world.pg, (char[]){*id, '\0'});
    cm_test_sql(world.pg,
                "CREATE FUNCTION public.deleted_of(text) RETURNS SETOF public.deleted LANGUAGE"
                " plpgsql AS $$BEGIN IF length($1) = 1 THEN RAISE 'invalid page' USING ERRCODE ="
                " 'XX001'; END IF; RETURN QUERY SELECT * FROM public.deleted WHERE customer = $1;"
                " END$$");
    set("contact_job.queries=each");
    set("contact_job.retries=1");
    set("contact_job.query=SELECT customer AS customer_id, contact AS contact_id, at AS deleted_at"
        " FROM public.deleted_of($1)");
    configure();
    begin_run();
    cr_assert(eq(int, call_body(), CM_OK), "%s %s", world.err.code, world.err.message);
    cr_expect(eq(llong, told_customers("failed"), 3));
    cr_expect(eq(llong, told_customers("done"), 2));
    expect_published(2 * CONTACTS);
    CM_CLEANUP(cm_free)
    char *rows = cm_test_rows(world.pg, "SELECT DISTINCT state, error_code FROM " CM_TEST_ADMIN
                                        ".job_run_tenants ORDER BY state");
    cr_expect(eq(str, rows, "done|\nfailed|XX001"));
}

Test(contact_job_failures, of_the_one_query_end_the_call_when_tries_are_used_up,
     .init = begin_bigquery, .fini = end_bigquery)
{
    set("contact_job.retries=2");
    set("contact_job.page_size=300");
    cm_test_pubsub_fault(&server, "{\"kind\":\"job-fails\",\"reason\":\"stopped\","
                                  "\"call\":\"getQueryResults\",\"resource\":\"next\","
                                  "\"count\":1000}");
    configure();
    begin_run();
    cr_expect(eq(int, call_body(), CM_TRANSIENT));
    cr_expect(eq(str, world.err.code, "stopped"));
    cr_expect(eq(llong, cm_test_pubsub_stat(&server, "jobs"), 3)); /* each is paid for */
    mend();
    cr_assert(eq(int, call_body(), CM_OK), "%s", world.err.message);
    read_stream();
    expect_each(1, 2 * CONTACTS, 1, 5);
}

Test(contact_job_failures, a_wrong_query_fails_the_run, .init = begin_bigquery,
     .fini = end_bigquery)
{
    set("contact_job.maximum_bytes_billed=1000");
    configure();
    begin_run();
    cr_expect(eq(int, call_body(), CM_MISCONFIGURED));
    cr_expect(eq(str, world.err.code, "bytesBilledLimitExceeded"));
    end_run(CM_RUN_FAILED);
    set("contact_job.maximum_bytes_billed=100000000");
    configure();
    must_run();
    expect_published(2 * CONTACTS);
    cr_expect(eq(llong, told("bytes_billed"), 10000000));
}

Test(contact_job_failures, too_many_malformed_records_fail_the_run_and_move_no_watermark,
     .init = begin_bigquery, .fini = end_bigquery)
{
    set_data("{\"customers\":2,\"null_every\":100}");
    set("contact_job.malformed_max=19");
    set("contact_job.page_size=300");
    configure();
    begin_run();
    cr_expect(eq(int, call_body(), CM_PERMANENT));
    cr_expect(eq(str, world.err.code, "malformed"));
    cr_expect(ne(ptr, strstr(world.err.message, "contactId: is missing"), NULL));
    end_run(CM_RUN_FAILED);
    set("contact_job.malformed_max=20");
    configure();
    forget_stream();
    must_run();
    expect_published(2 * CONTACTS - 20);
    cr_expect(eq(llong, told("malformed"), 20));
}

Test(contact_job_failures, malformed_records_add_up_over_kills, .init = begin_bigquery,
     .fini = end_bigquery)
{
    set_data("{\"customers\":2,\"null_every\":100}");
    set("contact_job.malformed_max=19");
    set("contact_job.page_size=100");
    configure();
    begin_run();
    die_at(1500);
    cr_expect(eq(int, call_body(), CM_PERMANENT));
    cr_expect(eq(str, world.err.code, "malformed"));
}

Test(contact_job_failures, a_broker_that_is_away_leaves_the_run_to_be_resumed,
     .init = begin_postgres, .fini = end_world)
{
    configure();
    begin_run();
    cm_test_redis_kill(&world.redis);
    cr_expect(eq(int, call_body(), CM_UNAVAILABLE));
    cm_test_redis_start(&world.redis);
    cr_assert(eq(int, call_body(), CM_OK), "%s", world.err.message);
    expect_published(2 * CONTACTS);
}

Test(contact_job_failures, without_a_source_there_is_nothing_to_run, .init = begin_world,
     .fini = end_world)
{
    configure();
    begin_run();
    cr_expect(eq(int, call_body(), CM_MISCONFIGURED));
    cr_expect(eq(str, world.err.code, "no-source"));
    cr_expect(ne(ptr, strstr(world.err.message, "contact_job.source"), NULL));
}

Test(contact_job_failures, a_run_that_was_settled_and_not_ended_asks_for_nothing_again,
     .init = begin_bigquery, .fini = end_bigquery)
{
    configure();
    begin_run();
    cr_assert(eq(int, call_body(), CM_OK));
    forget_stream();
    cr_assert(eq(int, call_body(), CM_OK));
    expect_published(0);
    cr_expect(eq(llong, told("contacts"), 2 * CONTACTS));
    cr_expect(eq(llong, cm_test_pubsub_stat(&server, "jobs"), 1));
}
