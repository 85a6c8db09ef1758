/* The contact deletion job on real servers: each deleted contact of an active customer is
 * published, what a kill repeats is bounded, and a watermark never passes what was not taken. */
#include "actors/contact_marks.h"
#include "actors/job_contact_deletion.h"
#include "proto/contact_record.h"
#include "runtime/clock.h"
#include "tests/integration/bigquery_case.h"
#include "tests/support/redis_server.h"
#include "tests/support/schema_fixture.h"

#include <jansson.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CONTACTS = 1000, IDS_MAX = 5000, FLAGS_MAX = 24, LEASE_MS = 3600 * 1000 };

#define FIRST_MS INT64_C(1700000000000)
#define STREAM   "client-manager.contact-deletion"
#define BIGQUERY_QUERY                                                                             \
    "SELECT customer_id, contact_id, deleted_at FROM `crm.deleted_contacts` WHERE "                \
    "(@customer IS NULL OR customer_id = @customer) AND deleted_at >= @since"
#define POSTGRES_QUERY                                                                             \
    "SELECT customer AS customer_id, contact AS contact_id, at AS deleted_at FROM public.deleted " \
    "WHERE ($1::text IS NULL OR customer = $1) AND at >= $2"

typedef struct {
    char uri[CM_TEST_URI_MAX], path[64];
    cm_pg_t *pg;
    cm_test_redis_t redis;
    cm_lease_t lease;
    char *flags[FLAGS_MAX];
    size_t flag_count;
    cm_config_t *config;
    cm_batch_run_t run;
    cm_buffer_t summary;
    json_t *told; /* the summary, read */
    int64_t tick;
    int seen[IDS_MAX];
    long long published;
    uint64_t stop_at, exit_at; /* rows; 0 = never */
    cm_error_t err;
} world_t;

static world_t world;

/* ---- configuration --------------------------------------------------------------------------- */

static void set(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    cr_assert(lt(sz, world.flag_count, FLAGS_MAX));
    cr_assert(ge(int, vasprintf(&world.flags[world.flag_count++], format, list), 0));
    va_end(list);
}

static void configure(void)
{
    cm_buffer_t faults = {0};
    cm_config_destroy(&world.config);
    cm_config_sources_t sources = {.environ_ = (const char *const[]){NULL},
                                   .flags = (const char *const *)world.flags,
                                   .flag_count = world.flag_count};
    if (cm_config_load(&world.config, &cm_options_table, &sources, &faults, &world.err) != CM_OK ||
        cm_options_check(world.config, &world.err) != CM_OK)
        cr_fatal("%s", world.err.message);
    cm_buffer_destroy(&faults);
}

/* ---- three sources with the same contacts ---------------------------------------------------- */

static void begin_world(void)
{
    world = (world_t){.tick = 1795230000000};
    world.pg = cm_test_admin(world.uri);
    cm_test_redis_start(&world.redis);
    cm_test_tenant(world.pg, "1001");
    cm_test_tenant(world.pg, "1002");
    bool acquired = false;
    cr_assert(eq(int, cm_job_register(world.pg, CM_TEST_ADMIN, CM_CONTACT_JOB, &world.err), CM_OK));
    cr_assert(eq(int,
                 cm_lease_acquire(world.pg, CM_TEST_ADMIN, CM_CONTACT_JOB, "a", LEASE_MS, &acquired,
                                  &world.lease, &world.err),
                 CM_OK));
    set("postgres.uri=%s", world.uri);
    set("postgres.admin_schema=" CM_TEST_ADMIN);
    set("redis.uri=%s", world.redis.uri);
    set("contact_job.retry_ms=1");
    set("contact_job.overlap_minutes=0");
}

static void end_world(void)
{
    json_decref(world.told);
    cm_buffer_destroy(&world.summary);
    cm_config_destroy(&world.config);
    for (size_t i = 0; i < world.flag_count; i++)
        free(world.flags[i]);
    cm_test_redis_stop(&world.redis);
    cm_pg_destroy(&world.pg);
    cm_test_database_drop();
}

static void begin_file(void)
{
    begin_world();
    strcpy(world.path, "/tmp/cm-contacts-XXXXXX");
    FILE *file = fdopen(mkstemp(world.path), "w");
    for (int i = 1; i <= 2 * CONTACTS; i++)
        fprintf(file, "{\"customerId\":%d,\"contactId\":%d,\"deletedAt\":%lld}\n",
                i <= CONTACTS ? 1001 : 1002, i, (long long)FIRST_MS + (i - 1) % CONTACTS * 1000);
    fclose(file);
    set("contact_job.source=file");
    set("contact_job.path=%s", world.path);
}

static void end_file(void)
{
    unlink(world.path);
    end_world();
}

static void begin_postgres(void)
{
    begin_world();
    cm_test_sql(world.pg,
                "CREATE TABLE public.deleted (customer text, contact bigint, at timestamptz)");
    cm_test_sql(world.pg,
                "INSERT INTO public.deleted SELECT CASE WHEN i <= %d THEN '1001' ELSE '1002' END,"
                " i, to_timestamp(1700000000 + (i - 1) %% %d) FROM generate_series(1, %d) i",
                CONTACTS, CONTACTS, 2 * CONTACTS);
    set("contact_job.source=postgres");
    set("contact_job.postgres_uri=%s", world.uri);
    set("contact_job.query=" POSTGRES_QUERY);
}

static void begin_bigquery(void)
{
    begin_world();
    begin_server();
    set_data("{\"customers\":2}");
    set("contact_job.source=bigquery");
    set("contact_job.endpoint=%s", endpoint);
    set("contact_job.project=test");
    set("contact_job.location=EU");
    set("contact_job.query=" BIGQUERY_QUERY);
}

static void end_bigquery(void)
{
    end_world();
    end_server();
}

/* ---- running it ------------------------------------------------------------------------------ */

static bool stopped(void *ctx)
{
    (void)ctx;
    return world.stop_at && world.run.progress.rows >= world.stop_at;
}

static void show(void *ctx, const cm_batch_progress_t *progress)
{
    (void)ctx;
    if (world.exit_at && progress->rows >= world.exit_at)
        _exit(9);
}

static cm_status_t call_body(void)
{
    cm_buffer_clear(&world.summary);
    world.run.options = cm_config_values(world.config);
    world.run.name = "job/" CM_CONTACT_JOB;
    world.run.pg = world.pg;
    world.run.lease = world.run.dry_run ? NULL : &world.lease;
    world.run.summary = &world.summary;
    world.run.stopped = stopped;
    world.run.show = show;
    world.run.progress = (cm_batch_progress_t){0};
    cm_status_t status = cm_job_contact_deletion(&world.run, &world.err);
    json_decref(world.told);
    world.told = json_loads(cm_buffer_text(&world.summary), 0, NULL);
    return status;
}

static void begin_run(void)
{
    bool begun = false;
    world.tick += 1000;
    cr_assert(eq(int,
                 cm_job_run_begin(world.pg, CM_TEST_ADMIN, &world.lease, CM_RUN_SCHEDULED,
                                  world.tick, &begun, &world.run.run_id, &world.err),
                 CM_OK),
              "%s", world.err.message);
    cr_assert(begun);
}

static void end_run(cm_run_state_t state)
{
    cr_assert(eq(int,
                 cm_job_run_finish(world.pg, CM_TEST_ADMIN, &world.lease, world.run.run_id, state,
                                   cm_buffer_text(&world.summary), NULL, &world.err),
                 CM_OK),
              "%s", world.err.message);
}

/* A run of its own from begin to end. */
static void must_run(void)
{
    begin_run();
    cm_status_t status = call_body();
    cr_assert(eq(int, status, CM_OK), "%s %s", world.err.code, world.err.message);
    end_run(CM_RUN_DONE);
}

/* The process dies as soon as so many contacts were published. */
static void die_at(uint64_t rows)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        world.exit_at = rows;
        world.pg = cm_test_connect(world.uri);
        call_body();
        _exit(0);
    }
    int code = 0;
    waitpid(pid, &code, 0);
    cr_assert(eq(int, WEXITSTATUS(code), 9));
}

/* ---- what came of it ------------------------------------------------------------------------- */

static void read_stream(void)
{
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(4096);
    redisReply *reply = cm_test_redis_do(&world.redis, "XRANGE " STREAM " - +");
    memset(world.seen, 0, sizeof world.seen);
    world.published = (long long)reply->elements;
    for (size_t i = 0; i < reply->elements; i++) {
        const redisReply *body = reply->element[i]->element[1]->element[1];
        cm_contact_t contact = {0};
        cm_arena_reset(arena);
        cm_status_t status = cm_contact_from_json((cm_str_t){body->str, body->len},
                                                  cm_clock_epoch_ms(), arena, &contact, &world.err);
        cr_assert(eq(int, status, CM_OK), "%s", body->str);
        cr_assert(contact.contact_id > 0 && contact.contact_id < IDS_MAX);
        world.seen[contact.contact_id]++;
    }
    freeReplyObject(reply);
}

static void forget_stream(void)
{
    cm_test_redis_run(&world.redis, "DEL " STREAM);
}

static void expect_each(int first, int last, int least, int most)
{
    for (int i = first; i <= last; i++)
        if (world.seen[i] < least || world.seen[i] > most)
            cr_fatal("contact %d was published %d times", i, world.seen[i]);
}

static void expect_published(long long count)
{
    read_stream();
    cr_expect(eq(llong, world.published, count));
}

static long long told(const char *name)
{
    return json_integer_value(json_object_get(world.told, name));
}

static long long told_customers(const char *name)
{
    return json_integer_value(json_object_get(json_object_get(world.told, "customers"), name));
}

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

static void a_run_that_is_stopped_repeats_nothing(void)
{
    set("contact_job.page_size=150");
    configure();
    begin_run();
    for (world.stop_at = 500; world.stop_at < 2 * CONTACTS; world.stop_at += 500)
        cr_assert(eq(int, call_body(), CM_CANCELLED));
    world.stop_at = 0;
    cr_assert(eq(int, call_body(), CM_OK), "%s", world.err.message);
    expect_published(2 * CONTACTS);
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
FOR_EACH_SOURCE(a_run_that_is_stopped_repeats_nothing)
FOR_EACH_SOURCE(a_dry_run_publishes_and_keeps_nothing)
FOR_EACH_SOURCE(one_customer_can_be_asked_for)
FOR_EACH_SOURCE(whoever_lost_the_lease_moves_no_watermark)

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
