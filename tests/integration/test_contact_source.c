/* Deleted contacts from a file, a database and BigQuery: each is given once; a reader that is
 * killed goes on at its checkpoint and repeats no more than what came after it. */
#include "actors/contact_source.h"
#include "runtime/buffer.h"
#include "tests/integration/bigquery_case.h"
#include "tests/support/schema_fixture.h"

#include <sys/stat.h>
#include <unistd.h>

enum { CONTACTS = 1000, IDS_MAX = 5000 };

#define FIRST_MS INT64_C(1700000000000) /* as in the stand-in for BigQuery: one a second */

typedef struct {
    cm_contact_source_options_t options;
    cm_contact_source_t *source;
    cm_error_t err;
    char uri[CM_TEST_URI_MAX], path[64];
    cm_pg_t *pg;
    int seen[IDS_MAX];
    long long given;
    bool stop;
    int asks, stop_at; /* times that `stopped` was asked; 0 = never */
} world_t;

static world_t world;

static bool stopped(void *ctx)
{
    (void)ctx;
    world.asks++;
    return world.stop || (world.stop_at && world.asks >= world.stop_at);
}

/* ---- the three kinds, with the same contacts: customer 1001 has 1 to 1000, 1002 has 1001 to 2000
 * -- */

static void begin_file(void)
{
    strcpy(world.path, "/tmp/cm-contacts-XXXXXX");
    int fd = mkstemp(world.path);
    cr_assert(ne(int, fd, -1));
    close(fd);
    world.options = (cm_contact_source_options_t){
        .kind = CM_CONTACT_SOURCE_FILE, .stopped = stopped, .path = world.path};
}

static void end_file(void)
{
    cm_contact_source_close(&world.source);
    unlink(world.path);
}

static void write_file(const char *text)
{
    FILE *file = fopen(world.path, "w");
    fputs(text, file);
    fclose(file);
}

static void write_contacts(bool csv)
{
    FILE *file = fopen(world.path, "w");
    if (csv)
        fprintf(file, "customer_id,contact_id,deleted_at\r\n");
    for (int i = 1; i <= 2 * CONTACTS; i++)
        fprintf(file,
                csv ? "%d,%d,%lld\r\n"
                    : "{\"customerId\":%d,\"contactId\":%d,\"deletedAt\":%lld}\n",
                i <= CONTACTS ? 1001 : 1002, i, (long long)FIRST_MS + (i - 1) % CONTACTS * 1000);
    fclose(file);
}

static void begin_json_contacts(void)
{
    begin_file();
    write_contacts(false);
}

static void begin_csv_contacts(void)
{
    begin_file();
    write_contacts(true);
}

static void begin_postgres(void)
{
    cm_test_database(world.uri);
    world.pg = cm_test_connect(world.uri);
    cm_test_sql(world.pg,
                "CREATE TABLE public.deleted (customer text, contact bigint, at timestamptz)");
    /* Many at one moment: a bulk deletion, which no time alone can tell apart. */
    cm_test_sql(world.pg,
                "INSERT INTO public.deleted SELECT CASE WHEN i <= %d THEN '1001' ELSE '1002' "
                "END, i, to_timestamp(1700000000 + (i - 1) %% %d / 500 * 500) "
                "FROM generate_series(1, %d) i",
                CONTACTS, CONTACTS, 2 * CONTACTS);
    world.options = (cm_contact_source_options_t){
        .kind = CM_CONTACT_SOURCE_POSTGRES,
        .stopped = stopped,
        .postgres_uri = world.uri,
        .query = "SELECT customer AS customer_id, contact AS contact_id, at AS deleted_at "
                 "FROM public.deleted WHERE ($1::text IS NULL OR customer = $1) AND at >= $2 -- "
                 "end\n;\n"};
}

static void end_postgres(void)
{
    cm_contact_source_close(&world.source);
    cm_pg_destroy(&world.pg);
    cm_test_database_drop();
}

static void begin_bigquery(void)
{
    begin_server();
    world.options = (cm_contact_source_options_t){
        .kind = CM_CONTACT_SOURCE_BIGQUERY,
        .stopped = stopped,
        .location = "EU",
        .query = "SELECT customer_id, contact_id, deleted_at FROM `crm.deleted_contacts` WHERE "
                 "(@customer IS NULL OR customer_id = @customer) AND deleted_at >= @since",
        .bigquery = {
            .endpoint = endpoint, .project = "test", .retry_base_ms = 5, .page_rows = 300}};
    set_data("{\"customers\":2}");
}

static void end_bigquery(void)
{
    cm_contact_source_close(&world.source);
    end_server();
}

/* ---- reading --------------------------------------------------------------------------------- */

static void open_source(void)
{
    cm_contact_source_close(&world.source);
    cr_assert(eq(int, cm_contact_source_open(&world.source, &world.options, &world.err), CM_OK),
              "%s", world.err.message);
}

static cm_status_t begin_at(const char *customer, int64_t since_ms, const char *checkpoint)
{
    if (!world.source)
        open_source();
    return cm_contact_source_begin(world.source, customer, since_ms, checkpoint, &world.err);
}

static void must_begin(const char *customer, int64_t since_ms, const char *checkpoint)
{
    cr_assert(eq(int, begin_at(customer, since_ms, checkpoint), CM_OK), "%s %s", world.err.code,
              world.err.message);
}

static cm_status_t next(size_t max, size_t *ret_count)
{
    const cm_contact_t *contacts;
    cm_status_t status =
        cm_contact_source_next(world.source, max, &contacts, ret_count, &world.err);
    for (size_t i = 0; status == CM_OK && i < *ret_count; i++) {
        cr_assert(contacts[i].contact_id > 0 && contacts[i].contact_id < IDS_MAX);
        cr_assert(eq(str, (char *)contacts[i].customer_id,
                     contacts[i].contact_id <= CONTACTS ? "1001" : "1002"));
        cr_assert(contacts[i].deleted_ms >= FIRST_MS &&
                  contacts[i].deleted_ms < FIRST_MS + CONTACTS * 1000);
        world.seen[contacts[i].contact_id]++;
        world.given++;
    }
    cr_assert(le(sz, *ret_count, status == CM_OK ? max : SIZE_MAX));
    return status;
}

static void read_all(size_t max)
{
    for (size_t count = 1; count;)
        cr_assert(eq(int, next(max, &count), CM_OK), "%s %s", world.err.code, world.err.message);
}

static void expect_each_once(int first, int last)
{
    cr_expect(eq(llong, world.given, last - first + 1));
    for (int i = first; i <= last; i++)
        if (world.seen[i] != 1)
            cr_fatal("contact %d was given %d times", i, world.seen[i]);
}

static void expect_malformed(long long count, const char *first)
{
    const char *told;
    cr_expect(eq(llong, cm_contact_source_malformed(world.source, &told), count));
    cr_expect(eq(str, (char *)told, (char *)first));
}

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

/* ---- files ----------------------------------------------------------------------------------- */

TestSuite(contact_file, .timeout = 60);

#define GOOD(id) "{\"customerId\":1001,\"contactId\":" #id ",\"deletedAt\":1700000000000}\n"

Test(contact_file, malformed_lines_are_counted_up_to_a_limit, .init = begin_file, .fini = end_file)
{
    size_t count;
    world.options.malformed_max = 2;
    write_file("\xef\xbb\xbf" GOOD(1) "\n\r\n{\"customerId\":1001}\n" GOOD(2) "no\n" GOOD(3));
    must_begin("1001", 0, NULL);
    read_all(100);
    expect_each_once(1, 3);
    expect_malformed(2, "line 4: contactId: is missing");
    world.options.malformed_max = 1;
    open_source();
    must_begin("1001", 0, NULL);
    cr_assert(eq(int, next(100, &count), CM_OK)); /* what came before is given */
    cr_expect(eq(sz, count, 2));
    char checkpoint[CM_CONTACT_CHECKPOINT_MAX];
    snprintf(checkpoint, sizeof checkpoint, "%s", cm_contact_source_checkpoint(world.source));
    cr_expect(eq(int, next(100, &count), CM_PERMANENT));
    cr_expect(eq(str, world.err.code, "malformed"));
    cr_expect(ne(ptr, strstr(world.err.message, "line 6"), NULL));
    world.options.malformed_max = 0;
    open_source(); /* whoever comes back meets it again */
    must_begin("1001", 0, checkpoint);
    cr_expect(eq(int, next(100, &count), CM_PERMANENT));
    cr_expect(ne(ptr, strstr(world.err.message, "line 6"), NULL));
}

Test(contact_file, a_line_that_is_too_long_is_one_malformed_line, .init = begin_file,
     .fini = end_file)
{
    cm_buffer_t text = {0};
    world.options.malformed_max = 2;
    cm_buffer_printf(&text, "%s{\"x\":\"%0*d\"}\n%s{\"x\":\"%0*d", GOOD(1), 700000, 7, GOOD(2),
                     300000, 7);
    write_file(cm_buffer_text(&text));
    cm_buffer_destroy(&text);
    must_begin("1001", 0, NULL);
    read_all(100);
    expect_each_once(1, 2);
    expect_malformed(2, "line 2: (line): more than 65536 bytes");
}

Test(contact_file, the_last_line_needs_no_end, .init = begin_file, .fini = end_file)
{
    write_file(GOOD(1) "{\"customerId\":1001,\"contactId\":2,\"deletedAt\":1700000000000}");
    must_begin("1001", 0, NULL);
    read_all(1);
    expect_each_once(1, 2);
}

Test(contact_file, an_empty_file_holds_none, .init = begin_file, .fini = end_file)
{
    must_begin("1001", 0, NULL);
    read_all(1);
    cr_expect(eq(llong, world.given, 0));
}

Test(contact_file, a_file_that_was_replaced_is_read_from_its_beginning, .init = begin_json_contacts,
     .fini = end_file)
{
    size_t count;
    char checkpoint[CM_CONTACT_CHECKPOINT_MAX];
    must_begin("1001", 0, NULL);
    cr_assert(eq(int, next(100, &count), CM_OK));
    snprintf(checkpoint, sizeof checkpoint, "%s", cm_contact_source_checkpoint(world.source));
    write_contacts(true);
    must_begin("1001", 0, checkpoint);
    cr_expect(not(cm_contact_source_resumed(world.source)));
    read_all(5000);
    for (int i = 1; i <= CONTACTS; i++)
        cr_assert(world.seen[i] >= 1);
}

Test(contact_file, a_file_that_cannot_be_read_is_told, .init = begin_file, .fini = end_file)
{
    write_file("customerId,contactId\n");
    cr_expect(eq(int, begin_at("1001", 0, NULL), CM_MISCONFIGURED));
    cr_expect(ne(ptr, strstr(world.err.message, "deletedAt"), NULL));
    world.options.path = "/tmp";
    open_source();
    cr_expect(eq(int, begin_at("1001", 0, NULL), CM_MISCONFIGURED));
    world.options.path = "/nowhere/contacts";
    open_source();
    cr_expect(eq(int, begin_at("1001", 0, NULL), CM_MISCONFIGURED));
    cr_expect(eq(str, world.err.code, "file"));
}

Test(contact_file, a_source_without_what_it_needs_is_not_opened)
{
    cm_contact_source_t *source = NULL;
    cm_error_t err = {0};
    for (int kind = CM_CONTACT_SOURCE_BIGQUERY; kind <= CM_CONTACT_SOURCE_FILE; kind++) {
        cm_contact_source_options_t options = {.kind = (cm_contact_source_kind_t)kind};
        cr_expect(eq(int, cm_contact_source_open(&source, &options, &err), CM_MISCONFIGURED));
        cr_expect(ne(ptr, strstr(err.message, cm_contact_source_kind_name(options.kind)), NULL));
    }
    cm_contact_source_options_t options = {.kind = CM_CONTACT_SOURCE_POSTGRES, .query = "x"};
    cr_expect(eq(int, cm_contact_source_open(&source, &options, &err), CM_MISCONFIGURED));
    cr_expect(eq(ptr, source, NULL));
}

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
    cm_test_number(world.pg, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE "
                             "application_name LIKE '%%contact source'");
    cr_expect(eq(int, next(100, &count), CM_UNAVAILABLE));
    must_begin("1001", 0, checkpoint);
    read_all(100);
    expect_each_once(1, CONTACTS);
}

static bool is_gone(void *arg)
{
    (void)arg;
    return cm_test_number(world.pg, "SELECT count(*) FROM pg_stat_activity WHERE application_name "
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
