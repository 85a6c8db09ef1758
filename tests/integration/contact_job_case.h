/* contact_job_case - the contact deletion job on real servers: three sources with the same contacts
 * (customer 1001 has 1 to 1000, 1002 has 1001 to 2000), a run of it, and what it published. */
#ifndef CM_TESTS_INTEGRATION_CONTACT_JOB_CASE_H
#define CM_TESTS_INTEGRATION_CONTACT_JOB_CASE_H
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

__attribute__((format(printf, 1, 2))) static inline void set(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    cr_assert(lt(sz, world.flag_count, FLAGS_MAX));
    cr_assert(ge(int, vasprintf(&world.flags[world.flag_count++], format, list), 0));
    va_end(list);
}

static inline void configure(void)
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

static inline void begin_world(void)
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

static inline void end_world(void)
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

static inline void begin_file(void)
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

static inline void end_file(void)
{
    unlink(world.path);
    end_world();
}

static inline void begin_postgres(void)
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

static inline void begin_bigquery(void)
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

static inline void end_bigquery(void)
{
    end_world();
    end_server();
}

/* ---- running it ------------------------------------------------------------------------------ */

static inline bool stopped(void *ctx)
{
    (void)ctx;
    return world.stop_at && world.run.progress.rows >= world.stop_at;
}

static inline void show(void *ctx, const cm_batch_progress_t *progress)
{
    (void)ctx;
    if (world.exit_at && progress->rows >= world.exit_at)
        _exit(9);
}

static inline cm_status_t call_body(void)
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

static inline void begin_run(void)
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

static inline void end_run(cm_run_state_t state)
{
    cr_assert(eq(int,
                 cm_job_run_finish(world.pg, CM_TEST_ADMIN, &world.lease, world.run.run_id, state,
                                   cm_buffer_text(&world.summary), NULL, &world.err),
                 CM_OK),
              "%s", world.err.message);
}

/* A run of its own from begin to end. */
static inline void must_run(void)
{
    begin_run();
    cm_status_t status = call_body();
    cr_assert(eq(int, status, CM_OK), "%s %s", world.err.code, world.err.message);
    end_run(CM_RUN_DONE);
}

/* The process dies as soon as so many contacts were published. */
static inline void die_at(uint64_t rows)
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

static inline void read_stream(void)
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

static inline void forget_stream(void)
{
    cm_test_redis_run(&world.redis, "DEL " STREAM);
}

static inline void expect_each(int first, int last, int least, int most)
{
    for (int i = first; i <= last; i++)
        if (world.seen[i] < least || world.seen[i] > most)
            cr_fatal("contact %d was published %d times", i, world.seen[i]);
}

static inline void expect_published(long long count)
{
    read_stream();
    cr_expect(eq(llong, world.published, count));
}

static inline long long told(const char *name)
{
    return json_integer_value(json_object_get(world.told, name));
}

static inline long long told_customers(const char *name)
{
    return json_integer_value(json_object_get(json_object_get(world.told, "customers"), name));
}
#endif
