/* contact_source_case - a contact source of each kind, with the same contacts, and reading them:
 * customer 1001 has 1 to 1000, 1002 has 1001 to 2000. */
#ifndef CM_TESTS_INTEGRATION_CONTACT_SOURCE_CASE_H
#define CM_TESTS_INTEGRATION_CONTACT_SOURCE_CASE_H
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

static inline bool stopped(void *ctx)
{
    (void)ctx;
    world.asks++;
    return world.stop || (world.stop_at && world.asks >= world.stop_at);
}

/* ---- the three kinds ------------------------------------------------------------------------- */

static inline void begin_file(void)
{
    strcpy(world.path, "/tmp/cm-contacts-XXXXXX");
    int fd = mkstemp(world.path);
    cr_assert(ne(int, fd, -1));
    close(fd);
    world.options = (cm_contact_source_options_t){
        .kind = CM_CONTACT_SOURCE_FILE, .stopped = stopped, .path = world.path};
}

static inline void end_file(void)
{
    cm_contact_source_close(&world.source);
    unlink(world.path);
}

static inline void write_file(const char *text)
{
    FILE *file = fopen(world.path, "w");
    fputs(text, file);
    fclose(file);
}

static inline void write_contacts(bool csv)
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

static inline void begin_json_contacts(void)
{
    begin_file();
    write_contacts(false);
}

static inline void begin_csv_contacts(void)
{
    begin_file();
    write_contacts(true);
}

static inline void begin_postgres(void)
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

static inline void end_postgres(void)
{
    cm_contact_source_close(&world.source);
    cm_pg_destroy(&world.pg);
    cm_test_database_drop();
}

static inline void begin_bigquery(void)
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

static inline void end_bigquery(void)
{
    cm_contact_source_close(&world.source);
    end_server();
}

/* ---- reading --------------------------------------------------------------------------------- */

static inline void open_source(void)
{
    cm_contact_source_close(&world.source);
    cr_assert(eq(int, cm_contact_source_open(&world.source, &world.options, &world.err), CM_OK),
              "%s", world.err.message);
}

static inline cm_status_t begin_at(const char *customer, int64_t since_ms, const char *checkpoint)
{
    if (!world.source)
        open_source();
    return cm_contact_source_begin(world.source, customer, since_ms, checkpoint, &world.err);
}

static inline void must_begin(const char *customer, int64_t since_ms, const char *checkpoint)
{
    cr_assert(eq(int, begin_at(customer, since_ms, checkpoint), CM_OK), "%s %s", world.err.code,
              world.err.message);
}

static inline cm_status_t next(size_t max, size_t *ret_count)
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

static inline void read_all(size_t max)
{
    for (size_t count = 1; count;)
        cr_assert(eq(int, next(max, &count), CM_OK), "%s %s", world.err.code, world.err.message);
}

static inline void expect_each_once(int first, int last)
{
    cr_expect(eq(llong, world.given, last - first + 1));
    for (int i = first; i <= last; i++)
        if (world.seen[i] != 1)
            cr_fatal("contact %d was given %d times", i, world.seen[i]);
}

static inline void expect_malformed(long long count, const char *first)
{
    const char *told;
    cr_expect(eq(llong, cm_contact_source_malformed(world.source, &told), count));
    cr_expect(eq(str, (char *)told, (char *)first));
}
#endif
