/* Deleted contacts from a file, a database and BigQuery: each is given once; a reader that is
 * killed goes on at its checkpoint and repeats no more than what came after it. */
#include "tests/integration/contact_source_case.h"

/* ---- what holds for each kind ---------------------------------------------------------------- */

static void customers_are_given_one_after_another(void)
{
    must_begin("1002", 0, NULL);
    read_all(333);
    expect_each_once(CONTACTS + 1, 2 * CONTACTS);
    must_begin("1001", 0, "");
    read_all(5000);
    expect_each_once(1, 2 * CONTACTS);
    must_begin("nobody", 0, NULL);
    read_all(10);
    expect_each_once(1, 2 * CONTACTS);
}

static void all_customers_are_given_together(void)
{
    must_begin(NULL, 0, NULL);
    read_all(700);
    expect_each_once(1, 2 * CONTACTS);
}

static void contacts_before_the_watermark_are_left_out(void)
{
    must_begin("1001", FIRST_MS + 500 * 1000, NULL); /* when contact 501 was deleted */
    read_all(100);
    cr_expect(eq(llong, world.given, 500));
}

/* A reader that is killed after each batch, before or after it has saved the checkpoint. */
static void a_killed_reader_goes_on_at_its_checkpoint(void)
{
    enum { BATCH = 90 };
    char checkpoint[CM_CONTACT_CHECKPOINT_MAX] = "";
    long long lost = 0;
    size_t count = 1;
    for (int kill = 0; count; kill++) {
        open_source();
        must_begin("1001", 0, checkpoint);
        cr_assert(eq(int, cm_contact_source_resumed(world.source), checkpoint[0] != '\0'));
        snprintf(checkpoint, sizeof checkpoint, "%s", cm_contact_source_checkpoint(world.source));
        cr_assert(eq(int, next(BATCH, &count), CM_OK), "%s", world.err.message);
        if (kill % 2)
            snprintf(checkpoint, sizeof checkpoint, "%s",
                     cm_contact_source_checkpoint(world.source));
        else
            lost += (long long)count;
    }
    cr_expect(eq(llong, world.given, CONTACTS + lost));
    for (int i = 1; i <= CONTACTS; i++)
        if (world.seen[i] < 1 || world.seen[i] > 2)
            cr_fatal("contact %d was given %d times", i, world.seen[i]);
    for (int i = CONTACTS + 1; i < IDS_MAX; i++)
        cr_assert(eq(int, world.seen[i], 0));
}

static void a_checkpoint_of_no_use_is_passed_over(void)
{
    static const char *const texts[] = {"nonsense",
                                        "file 1 2",
                                        "postgres x y z",
                                        "bigquery 1 EU",
                                        "bigquery 5 EU never",
                                        "file 99999999 1 0123456789abcdef",
                                        "file 0 0 ffffffffffffffff"};
    for (size_t i = 0; i < CM_LENGTH(texts); i++) {
        world.given = 0;
        memset(world.seen, 0, sizeof world.seen);
        must_begin("1001", 0, texts[i]);
        cr_expect(not(cm_contact_source_resumed(world.source)));
        read_all(1000);
        expect_each_once(1, CONTACTS);
    }
}

static void a_stop_is_heard_and_can_be_taken_back(void)
{
    size_t count;
    must_begin("1001", 0, NULL);
    cr_assert(eq(int, next(10, &count), CM_OK));
    world.stop = true;
    cr_expect(eq(int, next(10, &count), CM_CANCELLED));
    world.stop = false;
    read_all(100);
    expect_each_once(1, CONTACTS);
    world.stop = true;
    cr_expect(eq(int, begin_at("1001", 0, NULL), CM_CANCELLED));
}

#define FOR_EACH_KIND(rule)                                                                        \
    Test(contact_file, rule, .init = begin_json_contacts, .fini = end_file, .timeout = 60)         \
    {                                                                                              \
        rule();                                                                                    \
    }                                                                                              \
    Test(contact_csv, rule, .init = begin_csv_contacts, .fini = end_file, .timeout = 60)           \
    {                                                                                              \
        rule();                                                                                    \
    }                                                                                              \
    Test(contact_postgres, rule, .init = begin_postgres, .fini = end_postgres, .timeout = 60)      \
    {                                                                                              \
        rule();                                                                                    \
    }                                                                                              \
    Test(contact_bigquery, rule, .init = begin_bigquery, .fini = end_bigquery, .timeout = 60)      \
    {                                                                                              \
        rule();                                                                                    \
    }

FOR_EACH_KIND(customers_are_given_one_after_another)
FOR_EACH_KIND(all_customers_are_given_together)
FOR_EACH_KIND(contacts_before_the_watermark_are_left_out)
FOR_EACH_KIND(a_killed_reader_goes_on_at_its_checkpoint)
FOR_EACH_KIND(a_checkpoint_of_no_use_is_passed_over)
FOR_EACH_KIND(a_stop_is_heard_and_can_be_taken_back)

/* ---- PostgreSQL ------------------------------------------------------------------------------ */

TestSuite(contact_postgres, .timeout = 60);

Test(contact_postgres, rows_that_lack_a_value_are_counted, .init = begin_postgres,
     .fini = end_postgres)
{
    cm_test_sql(world.pg,
                "INSERT INTO public.deleted VALUES ('1001', NULL, to_timestamp(1700000500)), "
                "('1001', 9, 'infinity')");
    world.options.malformed_max = 2;
    must_begin("1001", 0, NULL);
    read_all(100);
    expect_each_once(1, CONTACTS);
    const char *first;
    cr_expect(eq(llong, cm_contact_source_malformed(world.source, &first), 2));
    cr_expect(ne(ptr, strstr(first, "contactId: is missing"), NULL), "%s", first);
}

static void refuse_query(const char *query, cm_status_t status, const char *code)
{
    world.options.query = query;
    open_source();
    cr_expect(eq(int, begin_at("1001", 0, NULL), status), "%s: %s", query, world.err.message);
    cr_expect(eq(str, world.err.code, (char *)code), "%s: %s", query, world.err.message);
}

Test(contact_postgres, a_query_of_no_use_is_told, .init = begin_postgres, .fini = end_postgres)
{
    refuse_query("SELECT 1 AS customer_id, 2 AS contact_id, now() AS deleted_at", CM_MISCONFIGURED,
                 "42P18");
    refuse_query("SELECT customer AS customer_id FROM public.deleted WHERE customer = $1",
                 CM_MISCONFIGURED, "42703");
    refuse_query("SELEKT", CM_MISCONFIGURED, "42601");
    refuse_query("SELECT 1) AS q; DROP TABLE public.deleted; --", CM_MISCONFIGURED, "42601");
    cr_expect(
        eq(llong, cm_test_number(world.pg, "SELECT count(*) FROM public.deleted"), 2 * CONTACTS));
}

Test(contact_postgres, a_query_writes_nothing, .init = begin_postgres, .fini = end_postgres)
{
    cm_test_sql(
        world.pg,
        "CREATE FUNCTION public.wipe() RETURNS bigint LANGUAGE sql AS "
        "'WITH gone AS (DELETE FROM public.deleted RETURNING 1) SELECT count(*) FROM gone'");
    size_t count;
    world.options.query =
        "SELECT $1::text AS customer_id, public.wipe() AS contact_id, now() AS deleted_at";
    must_begin("1001", 0, NULL);
    cr_expect(ne(int, next(10, &count), CM_OK));
    cr_expect(eq(str, world.err.code, "25006"));
    cr_expect(
        eq(llong, cm_test_number(world.pg, "SELECT count(*) FROM public.deleted"), 2 * CONTACTS));
}

Test(contact_postgres, a_query_that_looks_at_no_customer_is_told, .init = begin_postgres,
     .fini = end_postgres)
{
    size_t count;
    world.options.query =
        "SELECT customer AS customer_id, contact AS contact_id, at AS deleted_at FROM "
        "public.deleted WHERE $1::text IS NOT NULL ORDER BY contact";
    must_begin("1002", 0, NULL);
    cr_expect(eq(int, next(10, &count), CM_MISCONFIGURED));
    cr_expect(eq(str, world.err.code, "foreign-customer"));
}

Test(contact_postgres, a_lost_connection_is_made_anew_by_the_next_begin, .init = begin_postgres,
     .fini = end_postgres)
{
    size_t count;
    char checkpoint[CM_CONTACT_CHECKPOINT_MAX];
    must_begin("1001", 0, NULL);
    cr_assert(eq(int, next(100, &count), CM_OK));
    snprintf(checkpoint, sizeof checkpoint, "%s", cm_contact_source_checkpoint(world.source));
    cm_test_number(world.pg,
                   "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE "
                   "datname = current_database() AND application_name LIKE '%%contact source'");
    cr_expect(eq(int, next(100, &count), CM_UNAVAILABLE));
    must_begin("1001", 0, checkpoint);
    read_all(100);
    expect_each_once(1, CONTACTS);
}

static bool is_gone(void *arg)
{
    (void)arg;
    return cm_test_number(world.pg, "SELECT count(*) FROM pg_stat_activity WHERE datname = "
                                    "current_database() AND application_name "
                                    "LIKE '%%contact source'") == 0;
}

Test(contact_postgres, a_stop_is_heard_while_the_query_runs, .init = begin_postgres,
     .fini = end_postgres)
{
    size_t count;
    world.options.query =
        "SELECT customer AS customer_id, contact AS contact_id, at AS deleted_at FROM "
        "public.deleted WHERE customer = $1 AND pg_sleep(300)::text IS NOT NULL";
    must_begin("1001", 0, NULL);
    world.stop_at = world.asks + 4; /* before the step, and as it begins to wait */
    cr_expect(eq(int, next(10, &count), CM_CANCELLED));
    cr_expect(eq(str, world.err.code, "stopped"));
    world.stop_at = 0;
    cr_expect(eq(int, next(10, &count), CM_UNAVAILABLE)); /* which is no end of the contacts */
    cr_expect(cm_test_wait(is_gone, NULL, 30000));
}

/* ---- BigQuery -------------------------------------------------------------------------------- */

TestSuite(contact_bigquery, .timeout = 60);

Test(contact_bigquery, a_job_runs_once_however_often_its_reader_is_killed, .init = begin_bigquery,
     .fini = end_bigquery)
{
    a_killed_reader_goes_on_at_its_checkpoint();
    cr_expect(eq(llong, cm_test_pubsub_stat(&server, "jobs"), 1));
}

Test(contact_bigquery, a_result_that_is_gone_is_made_anew, .init = begin_bigquery,
     .fini = end_bigquery)
{
    size_t count;
    char checkpoint[CM_CONTACT_CHECKPOINT_MAX];
    must_begin("1001", 0, NULL);
    cr_assert(eq(int, next(100, &count), CM_OK));
    snprintf(checkpoint, sizeof checkpoint, "%s", cm_contact_source_checkpoint(world.source));
    cm_test_pubsub_fault(&server, "{\"kind\":\"lost-job\"}");
    must_begin("1001", 0, checkpoint);
    cr_expect(not(cm_contact_source_resumed(world.source)));
    world.given = 0;
    memset(world.seen, 0, sizeof world.seen);
    read_all(100);
    expect_each_once(1, CONTACTS);
}

Test(contact_bigquery, rows_that_lack_a_value_are_counted, .init = begin_bigquery,
     .fini = end_bigquery)
{
    size_t count;
    set_data("{\"customers\":2,\"null_every\":100}");
    world.options.malformed_max = 10;
    must_begin("1001", 0, NULL);
    read_all(100);
    cr_expect(eq(llong, world.given, 990));
    world.options.malformed_max = 9;
    open_source();
    must_begin("1001", 0, NULL);
    cm_status_t status = CM_OK;
    for (count = 1; status == CM_OK && count;)
        status = next(1000, &count);
    cr_expect(eq(int, status, CM_PERMANENT));
    cr_expect(eq(str, world.err.code, "malformed"));
    cr_expect(ne(ptr, strstr(world.err.message, "contactId: is missing"), NULL));
}

Test(contact_bigquery, what_came_before_a_failure_is_given_first, .init = begin_bigquery,
     .fini = end_bigquery)
{
    size_t count;
    cm_test_pubsub_fault(&server, "{\"kind\":\"job-fails\",\"reason\":\"stopped\",\"resource\":"
                                  "\"next\"}");
    must_begin("1001", 0, NULL);
    cr_assert(eq(int, next(5000, &count), CM_OK), "%s", world.err.message);
    cr_expect(eq(sz, count, 300));
    cr_expect(eq(int, next(5000, &count), CM_TRANSIENT));
    cr_expect(eq(str, world.err.code, "stopped"));
}

Test(contact_bigquery, a_query_that_looks_at_no_customer_or_lacks_a_column_is_told,
     .init = begin_bigquery, .fini = end_bigquery)
{
    size_t count;
    world.options.query = "SELECT customer_id FROM `crm.deleted_contacts` WHERE customer_id = "
                          "@customer AND deleted_at >= @since";
    cr_expect(eq(int, begin_at("1001", 0, NULL), CM_MISCONFIGURED));
    cr_expect(eq(str, world.err.code, "columns"));
    cm_test_pubsub_fault(&server,
                         "{\"kind\":\"rows\",\"resource\":\"page\",\"rows\":[{\"f\":["
                         "{\"v\":\"1002\"},{\"v\":\"5\"},{\"v\":\"1700000000000000\"}]}]}");
    world.options.query = BIGQUERY_SQL;
    open_source();
    must_begin("1001", 0, NULL);
    cr_expect(eq(int, next(10, &count), CM_MISCONFIGURED));
    cr_expect(eq(str, world.err.code, "foreign-customer"));
}
