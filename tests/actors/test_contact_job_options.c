/* An incomplete section contact_job stops the start, with the key and what would be right. */
#include "actors/contact_job_options.h"
#include "runtime/cleanup.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

TestSuite(contact_job_options, .timeout = 10);

#define FLAGS(...)                                                                                 \
    (const char *const[])                                                                          \
    {                                                                                              \
        __VA_ARGS__, NULL                                                                          \
    }
#define BIGQUERY                                                                                   \
    "contact_job.source=bigquery", "contact_job.project=p",                                        \
        "contact_job.query=SELECT 1 WHERE (@customer IS NULL OR c = @customer) AND d >= @since"
#define POSTGRES                                                                                   \
    "contact_job.source=postgres", "contact_job.postgres_uri=postgresql:///crm",                   \
        "contact_job.query=SELECT 1 WHERE c = $1 AND d >= $2"

static cm_config_t *load(const char *const *flags)
{
    cm_buffer_t faults = {0};
    cm_error_t err = {0};
    cm_config_t *config = NULL;
    size_t count = 0;
    while (flags[count])
        count++;
    cm_config_sources_t sources = {
        .environ_ = (const char *const[]){NULL}, .flags = flags, .flag_count = count};
    if (cm_config_load(&config, &cm_options_table, &sources, &faults, &err) != CM_OK)
        cr_fatal("%s", err.message);
    cm_buffer_destroy(&faults);
    return config;
}

static void expect_good(const char *const *flags)
{
    CM_CLEANUP(cm_config_destroy) cm_config_t *config = load(flags);
    cm_error_t err = {0};
    cr_expect(eq(int, cm_options_check(config, &err), CM_OK), "%s", err.message);
}

static void expect_refused(const char *const *flags, const char *key, const char *right)
{
    CM_CLEANUP(cm_config_destroy) cm_config_t *config = load(flags);
    cm_error_t err = {0};
    cr_expect(eq(int, cm_options_check(config, &err), CM_MISCONFIGURED), "%s: %s", key, right);
    cr_expect(ne(ptr, strstr(err.message, key), NULL), "%s is not in: %s", key, err.message);
    cr_expect(ne(ptr, strstr(err.message, right), NULL), "%s is not in: %s", right, err.message);
    cr_expect(ne(ptr, strstr(err.message, "(flag)"), NULL), "%s", err.message);
}

Test(contact_job_options, each_source_with_what_it_needs_is_fine)
{
    expect_good(FLAGS("contact_job.query=unused"));
    expect_good(FLAGS(BIGQUERY));
    expect_good(FLAGS(POSTGRES));
    expect_good(FLAGS("contact_job.source=file", "contact_job.path=/srv/deleted.csv"));
    expect_good(FLAGS(BIGQUERY, "contact_job.project=", "pubsub.project=shared"));
}

Test(contact_job_options, bigquery_wants_a_project_and_a_query_with_both_parameters)
{
    expect_refused(FLAGS("contact_job.source=bigquery"), "contact_job.project", "pubsub.project");
    expect_refused(FLAGS("contact_job.source=bigquery", "pubsub.project=p"), "contact_job.query",
                   "customer_id, contact_id and deleted_at");
    expect_refused(FLAGS(BIGQUERY, "contact_job.query=SELECT 1 WHERE c = @customer"),
                   "contact_job.query", "@since");
    expect_refused(FLAGS(BIGQUERY, "contact_job.query=SELECT 1 WHERE d >= @since"),
                   "contact_job.query", "@customer");
    expect_refused(FLAGS(BIGQUERY, "contact_job.endpoint=bigquery:9050"), "contact_job.endpoint",
                   "https://host");
}

Test(contact_job_options, one_query_for_all_must_find_something_where_the_customer_is_null)
{
#define NOBODY "contact_job.query=SELECT 1 WHERE c = @customer AND d >= @since"
    expect_refused(FLAGS(BIGQUERY, NOBODY), "contact_job.query", "contact_job.queries: each");
    expect_good(FLAGS(BIGQUERY, NOBODY, "contact_job.queries=each"));
    expect_refused(FLAGS(POSTGRES, "contact_job.queries=one"), "contact_job.query",
                   "$1 IS NULL OR customer_id = $1");
}

Test(contact_job_options, postgres_wants_a_connection_and_a_query_with_the_customer)
{
    expect_refused(FLAGS("contact_job.source=postgres"), "contact_job.postgres_uri",
                   "postgresql://user@host:5432/database");
    expect_refused(FLAGS(POSTGRES, "contact_job.postgres_uri=secret word"),
                   "contact_job.postgres_uri", "postgresql://user@host:5432/database");
    expect_refused(FLAGS(POSTGRES, "contact_job.query="), "contact_job.query",
                   "customer_id, contact_id and deleted_at");
    expect_refused(FLAGS(POSTGRES, "contact_job.query=SELECT 1"), "contact_job.query", "$1");
}

Test(contact_job_options, a_file_wants_its_path)
{
    expect_refused(FLAGS("contact_job.source=file"), "contact_job.path", "JSON lines or CSV");
}

static uint64_t digest_of(const char *const *flags)
{
    CM_CLEANUP(cm_config_destroy) cm_config_t *config = load(flags);
    return cm_contact_job_digest(cm_config_values(config));
}

Test(contact_job_options, another_source_has_another_digest)
{
    uint64_t first = digest_of(FLAGS(BIGQUERY));
    cr_expect(eq(u64, digest_of(FLAGS(BIGQUERY, "contact_job.page_size=10")), first));
    cr_expect(ne(u64, digest_of(FLAGS(BIGQUERY, "contact_job.project=q")), first));
    cr_expect(ne(u64, digest_of(FLAGS(BIGQUERY, "contact_job.location=EU")), first));
    cr_expect(ne(u64, digest_of(FLAGS(BIGQUERY, NOBODY)), first));
    cr_expect(ne(u64, digest_of(FLAGS(POSTGRES, NOBODY)), digest_of(FLAGS(BIGQUERY, NOBODY))));
}

Test(contact_job_options, no_key_of_the_cloud_goes_to_an_endpoint_without_tls)
{
    CM_CLEANUP(cm_config_destroy)
    cm_config_t *config = load(FLAGS(BIGQUERY, "pubsub.credentials_file=/key.json"));
    CM_CLEANUP(cm_config_destroy)
    cm_config_t *clear = load(FLAGS(BIGQUERY, "pubsub.credentials_file=/key.json",
                                    "contact_job.endpoint=http://127.0.0.1:9050"));
    cm_contact_source_options_t source = cm_contact_job_source(cm_config_values(config));
    cr_expect(eq(str, (char *)source.bigquery.credentials_file, "/key.json"));
    source = cm_contact_job_source(cm_config_values(clear));
    cr_expect(eq(ptr, (void *)source.bigquery.credentials_file, NULL));
}
