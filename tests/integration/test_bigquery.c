/* The BigQuery client against a strict stand-in: each fault of the service is met, survived or
 * told. The data: three customers with 1000 contacts each, whose ids are 1 to 3000. */
#include "tests/integration/bigquery_case.h"

#include <malloc.h>

typedef struct {
    cm_bigquery_t *client;
    cm_error_t err;
    unsigned char *seen; /* how often a contact came */
    long long rows;
    int stop_after; /* looks of the client at the flag; -1 = never */
    bool end;
} world_t;

static world_t world;

static bool stopped(void *ctx)
{
    (void)ctx;
    return world.stop_after >= 0 && world.stop_after-- == 0;
}

static void open_client(int64_t page_rows, int give_up_ms)
{
    cm_bigquery_options_t options = {.endpoint = endpoint,
                                     .project = "test",
                                     .timeout_ms = 5000,
                                     .give_up_ms = give_up_ms,
                                     .retry_base_ms = 5,
                                     .page_rows = page_rows,
                                     .stopped = stopped};
    cm_bigquery_close(&world.client);
    cr_assert(eq(int, cm_bigquery_open(&world.client, &options, &world.err), CM_OK), "%s",
              world.err.message);
}

static void begin(void)
{
    begin_server();
    world.stop_after = -1;
    world.seen = calloc(SEEN_MAX, 1);
    open_client(300, 20000);
}

static void end(void)
{
    cm_bigquery_close(&world.client);
    free(world.seen);
    end_server();
}

TestSuite(bigquery, .init = begin, .fini = end, .timeout = 60);

static cm_status_t run_with(const char *sql, const char *customer, int64_t bytes_billed)
{
    cm_bigquery_parameter_t parameters[] = {
        {"customer", CM_BIGQUERY_STRING, customer},
        {"since", CM_BIGQUERY_TIMESTAMP, "2023-01-01T00:00:00Z"}};
    cm_bigquery_query_t query = {.sql = sql,
                                 .location = "EU",
                                 .parameters = parameters,
                                 .parameter_count = 2,
                                 .maximum_bytes_billed = bytes_billed};
    return cm_bigquery_run(world.client, &query, &world.err);
}

static cm_status_t run(void)
{
    return run_with(BIGQUERY_SQL, "1001", 0);
}

static void on_row(void *ctx, const cm_str_t *values)
{
    (void)ctx;
    int64_t contact = 0;
    cr_assert(cm_str_to_i64(values[1], &contact) && contact > 0 && contact < SEEN_MAX);
    world.seen[contact]++;
    world.rows++;
}

/* Until the end, or until that many rows have come. */
static cm_status_t read_until(long long rows)
{
    cm_status_t status = CM_OK;
    world.end = false;
    while (status == CM_OK && !world.end && world.rows < rows)
        status = cm_bigquery_next(world.client, on_row, NULL, &world.end, &world.err);
    return status;
}

static cm_status_t read_all(void)
{
    return read_until(INT64_MAX);
}

static void expect_each_once(long long contacts)
{
    cr_expect(eq(llong, world.rows, contacts));
    for (long long i = 1; i <= contacts; i++)
        if (world.seen[i] != 1)
            cr_fatal("contact %lld came %d times", i, world.seen[i]);
    cr_expect(world.end);
}

static void fault(const char *json)
{
    cm_test_pubsub_fault(&server, json);
}

static void run_and_read(void)
{
    cr_assert(eq(int, run(), CM_OK), "%s: %s", world.err.code, world.err.message);
    cr_assert(eq(int, read_all(), CM_OK), "%s: %s", world.err.code, world.err.message);
    expect_each_once(1000);
}

/* What comes of it is err, and its class status, its code code. */
static void expect_failure(cm_status_t got, cm_status_t status, const char *code)
{
    cr_expect(eq(int, got, status), "%s: %s", world.err.code, world.err.message);
    cr_expect(eq(str, world.err.code, (char *)code));
    cr_expect(eq(int, world.err.status, got));
}

/* ---- as it should go ------------------------------------------------------------------------- */

Test(bigquery, every_row_comes_once_page_by_page)
{
    const cm_bigquery_column_t *columns;
    cr_assert(eq(int, run(), CM_OK), "%s", world.err.message);
    cr_expect(eq(sz, cm_bigquery_columns(world.client, &columns), 3));
    cr_expect(eq(str, (char *)columns[1].name, "contact_id"));
    cr_expect(eq(str, (char *)columns[1].type, "INTEGER"));
    cr_expect(eq(llong, cm_bigquery_total(world.client), 1000));
    cr_assert(eq(int, read_all(), CM_OK), "%s", world.err.message);
    expect_each_once(1000);
    cr_expect(eq(llong, calls_of("getQueryResults"), 1 + 4)); /* one without rows, four pages */
    cr_expect(eq(llong, cm_test_pubsub_stat(&server, "rowsRepeated"), 0));
}

static void check_time(void *ctx, const cm_str_t *values)
{
    int64_t us = 0;
    bool *good = ctx; /* contacts of this customer went one a second, from 1700000000 on */
    *good = *good && cm_str_to_i64(values[2], &us) && us >= INT64_C(1700000000000000) &&
            us < INT64_C(1700001000000000) && us % 1000000 == 0;
}

Test(bigquery, times_come_as_microseconds)
{
    bool good = true;
    cr_assert(eq(int, run(), CM_OK));
    while (!world.end)
        cr_assert(eq(int, cm_bigquery_next(world.client, check_time, &good, &world.end, &world.err),
                     CM_OK));
    cr_expect(good);
    cr_expect(eq(llong, cm_bigquery_position(world.client).row, 1000));
}

Test(bigquery, a_result_without_rows_ends_at_once)
{
    cr_assert(eq(int, run_with(BIGQUERY_SQL, "9", 0), CM_OK), "%s", world.err.message);
    cr_assert(eq(int, read_all(), CM_OK));
    cr_expect(world.end);
    cr_expect(eq(llong, world.rows, 0));
}

Test(bigquery, a_dry_run_tells_the_bytes_and_runs_nothing)
{
    int64_t bytes = 0;
    cm_bigquery_query_t query = {.sql = "SELECT note FROM `crm.deleted_contacts`",
                                 .location = "EU"};
    cr_assert(eq(int, cm_bigquery_dry_run(world.client, &query, &bytes, &world.err), CM_OK), "%s",
              world.err.message);
    cr_expect(eq(llong, bytes, 10000000));
    cr_expect(eq(llong, cm_test_pubsub_stat(&server, "jobs"), 0));
    query.sql = "SELECT nothing FROM `crm.deleted_contacts`";
    expect_failure(cm_bigquery_dry_run(world.client, &query, &bytes, &world.err), CM_PERMANENT,
                   "invalidQuery");
}

Test(bigquery, a_client_reads_one_result_after_another)
{
    run_and_read();
    cr_assert(eq(int, run_with(BIGQUERY_SQL, "1002", 0), CM_OK));
    cr_assert(eq(int, read_until(1100), CM_OK)); /* left in the middle */
    cr_assert(eq(int, run_with(BIGQUERY_SQL, "1003", 0), CM_OK));
    cr_assert(eq(int, read_all(), CM_OK), "%s", world.err.message);
    for (int i = 2001; i <= 3000; i++)
        cr_assert(eq(int, world.seen[i], 1));
}

/* ---- resuming -------------------------------------------------------------------------------- */

Test(bigquery, a_result_is_read_on_by_another_client)
{
    cr_assert(eq(int, run(), CM_OK));
    cr_assert(eq(int, read_until(1), CM_OK));
    cm_bigquery_position_t position = cm_bigquery_position(world.client);
    cr_assert(eq(llong, position.row, world.rows));
    open_client(300, 20000);
    cr_assert(eq(int, cm_bigquery_resume(world.client, &position, &world.err), CM_OK), "%s",
              world.err.message);
    cr_assert(eq(int, read_all(), CM_OK), "%s", world.err.message);
    expect_each_once(1000);
    cr_expect(eq(llong, cm_test_pubsub_stat(&server, "jobs"), 1));
}

Test(bigquery, a_result_read_to_its_end_resumes_there)
{
    run_and_read();
    cm_bigquery_position_t position = cm_bigquery_position(world.client);
    cr_assert(eq(int, cm_bigquery_resume(world.client, &position, &world.err), CM_OK));
    cr_assert(eq(int, read_all(), CM_OK));
    cr_expect(world.end);
    cr_expect(eq(llong, world.rows, 1000));
}

Test(bigquery, what_is_no_position_is_refused)
{
    run_and_read();
    cm_bigquery_position_t good = cm_bigquery_position(world.client), bad = good;
    bad.row = 1001;
    expect_failure(cm_bigquery_resume(world.client, &bad, &world.err), CM_PERMANENT, "position");
    bad.row = -1;
    expect_failure(cm_bigquery_resume(world.client, &bad, &world.err), CM_PERMANENT, "position");
    bad = good;
    strcpy(bad.job, "a/../b");
    expect_failure(cm_bigquery_resume(world.client, &bad, &world.err), CM_PERMANENT, "position");
    bad = (cm_bigquery_position_t){0};
    expect_failure(cm_bigquery_resume(world.client, &bad, &world.err), CM_PERMANENT, "position");
}

Test(bigquery, a_job_that_is_gone_or_elsewhere_is_told)
{
    cm_bigquery_position_t position = {.job = "never", .location = "EU"};
    expect_failure(cm_bigquery_resume(world.client, &position, &world.err), CM_TRANSIENT,
                   "job-lost");
    run_and_read();
    position = cm_bigquery_position(world.client);
    strcpy(position.location, "US");
    expect_failure(cm_bigquery_resume(world.client, &position, &world.err), CM_TRANSIENT,
                   "job-lost");
}

/* ---- calls that fail on the way -------------------------------------------------------------- */

static void survive(const char *json)
{
    fault(json);
    run_and_read();
}

Test(bigquery, a_rate_limit_is_waited_for_by_every_call)
{
    fault("{\"kind\":\"status\",\"status\":403,\"reason\":\"rateLimitExceeded\",\"call\":"
          "\"insertJob\",\"count\":2}");
    fault("{\"kind\":\"status\",\"status\":403,\"reason\":\"rateLimitExceeded\",\"call\":"
          "\"getQueryResults\",\"resource\":\"poll\",\"count\":2}");
    fault("{\"kind\":\"status\",\"status\":403,\"reason\":\"rateLimitExceeded\",\"call\":"
          "\"getQueryResults\",\"resource\":\"next\",\"count\":2}");
    run_and_read();
    cr_expect(eq(llong, cm_test_pubsub_stat(&server, "rowsRepeated"), 0));
}

Test(bigquery, a_server_that_fails_is_asked_again)
{
    survive("{\"kind\":\"status\",\"status\":503,\"share\":0.4}");
    mend();
    cr_expect(eq(llong, cm_test_pubsub_stat(&server, "rowsRepeated"), 0));
}

Test(bigquery, a_proxy_that_answers_html_or_nothing_is_asked_again)
{
    fault("{\"kind\":\"status\",\"status\":502,\"body\":\"html\",\"count\":2}");
    fault("{\"kind\":\"status\",\"status\":500,\"body\":\"empty\",\"call\":\"getQueryResults\","
          "\"count\":2}");
    run_and_read();
}

Test(bigquery, a_retry_after_is_honoured)
{
    fault("{\"kind\":\"status\",\"status\":429,\"reason\":\"rateLimitExceeded\",\"retryAfter\":"
          "\"30\",\"call\":\"getQueryResults\",\"resource\":\"next\"}");
    cr_assert(eq(int, run(), CM_OK));
    expect_failure(read_all(), CM_UNAVAILABLE, "rateLimitExceeded"); /* 30 s are past give_up_ms */
    mend();
    cr_assert(eq(int, read_all(), CM_OK), "%s", world.err.message); /* and it can be read on */
    expect_each_once(1000);
}

Test(bigquery, a_submission_whose_answer_was_lost_is_not_made_twice)
{
    survive("{\"kind\":\"reset-mid-body\",\"call\":\"insertJob\",\"count\":2}");
    cr_expect(eq(llong, cm_test_pubsub_stat(&server, "jobs"), 1));
    cr_expect(gt(llong, cm_test_pubsub_stat(&server, "calls.insertJob.answers.409"), 0));
}

Test(bigquery, a_connection_cut_before_an_answer_is_made_anew)
{
    survive("{\"kind\":\"reset\",\"share\":0.3}");
    mend();
}

Test(bigquery, an_answer_that_does_not_come_is_given_up)
{
    cm_bigquery_options_t options = {.endpoint = endpoint,
                                     .project = "test",
                                     .timeout_ms = 200,
                                     .retry_base_ms = 5,
                                     .page_rows = 300};
    cm_bigquery_close(&world.client);
    cr_assert(eq(int, cm_bigquery_open(&world.client, &options, &world.err), CM_OK));
    survive("{\"kind\":\"hang\",\"call\":\"getQueryResults\",\"count\":2}");
}

Test(bigquery, failing_calls_are_given_up_in_the_end)
{
    open_client(300, 200);
    fault("{\"kind\":\"status\",\"status\":503,\"share\":1.0,\"call\":\"insertJob\"}");
    expect_failure(run(), CM_UNAVAILABLE, "backendError");
    mend();
    fault("{\"kind\":\"reset\",\"share\":1.0,\"call\":\"getQueryResults\"}");
    cr_expect(eq(int, run(), CM_UNAVAILABLE));
    cr_expect(eq(int, strncmp(world.err.code, "curl-", 5), 0));
    mend();
    fault("{\"kind\":\"status\",\"status\":503,\"share\":1.0,\"call\":\"getQueryResults\"}");
    expect_failure(run(), CM_UNAVAILABLE, "backendError"); /* though jobs.get answers */
    mend();
}

/* ---- a job that waits, fails, is lost -------------------------------------------------------- */

Test(bigquery, a_job_is_waited_for)
{
    survive("{\"kind\":\"incomplete\",\"count\":4}");
    cr_expect(eq(llong, calls_of("getQueryResults"), 4 + 1 + 4));
}

Test(bigquery, a_job_that_google_failed_runs_again_under_a_new_id)
{
    survive("{\"kind\":\"job-fails\",\"reason\":\"jobBackendError\",\"resource\":\"poll\","
            "\"count\":2}");
    cr_expect(eq(llong, cm_test_pubsub_stat(&server, "jobs"), 3));
}

Test(bigquery, a_job_that_google_fails_each_time_is_told)
{
    fault("{\"kind\":\"job-fails\",\"reason\":\"backendError\",\"share\":1.0}");
    expect_failure(run(), CM_TRANSIENT, "backendError");
    cr_expect(eq(llong, cm_test_pubsub_stat(&server, "jobs"), 3));
}

Test(bigquery, a_job_that_fails_for_its_query_is_told_with_the_reason)
{
    expect_failure(
        run_with("SELECT x FROM `crm.deleted_contacts` WHERE customer_id = @customer AND "
                 "deleted_at > @since",
                 "1001", 0),
        CM_PERMANENT, "invalidQuery");
    expect_failure(run_with("SELECT note FROM `crm.other` WHERE customer_id = @customer AND "
                            "deleted_at > @since",
                            "1001", 0),
                   CM_MISCONFIGURED, "notFound");
    cr_expect(ne(ptr, strstr(world.err.message, "crm.other"), NULL));
    cr_expect(eq(llong, cm_test_pubsub_stat(&server, "jobs"), 2));
}

Test(bigquery, a_query_that_bills_too_much_is_refused)
{
    expect_failure(run_with(BIGQUERY_SQL, "1001", 9999999), CM_MISCONFIGURED,
                   "bytesBilledLimitExceeded");
    cr_expect(eq(int, run_with(BIGQUERY_SQL, "1001", 10000000), CM_OK));
}

Test(bigquery, a_quota_that_is_used_up_is_told_at_once)
{
    fault(
        "{\"kind\":\"status\",\"status\":403,\"reason\":\"quotaExceeded\",\"call\":\"insertJob\"}");
    expect_failure(run(), CM_TRANSIENT, "quotaExceeded");
    cr_expect(eq(llong, calls_of("insertJob"), 1));
}

Test(bigquery, a_missing_right_is_told_at_once)
{
    fault(
        "{\"kind\":\"status\",\"status\":403,\"reason\":\"accessDenied\",\"call\":\"insertJob\"}");
    expect_failure(run(), CM_MISCONFIGURED, "accessDenied");
}

Test(bigquery, a_job_that_fails_while_it_is_read_is_told_with_the_reason)
{
    fault("{\"kind\":\"job-fails\",\"reason\":\"backendError\",\"resource\":\"next\",\"skip\":1}");
    cr_assert(eq(int, run(), CM_OK));
    expect_failure(read_all(), CM_TRANSIENT, "backendError");
    cr_expect(eq(llong, world.rows, 600));
    cr_expect(eq(llong, cm_bigquery_position(world.client).row, 600));
}

Test(bigquery, a_job_that_is_lost_while_it_is_read_is_told)
{
    fault("{\"kind\":\"lost-job\",\"resource\":\"next\"}");
    cr_assert(eq(int, run(), CM_OK));
    expect_failure(read_all(), CM_TRANSIENT, "job-lost");
}

Test(bigquery, columns_that_hold_lists_are_refused)
{
    expect_failure(run_with("SELECT labels FROM `crm.deleted_contacts` WHERE customer_id = "
                            "@customer AND deleted_at > @since",
                            "1001", 0),
                   CM_MISCONFIGURED, "columns");
}

/* ---- pages that break ------------------------------------------------------------------------ */

Test(bigquery, a_stale_page_token_is_gone_on_with_at_its_row)
{
    survive("{\"kind\":\"stale-token\",\"count\":2}");
    cr_expect(eq(llong, cm_test_pubsub_stat(&server, "rowsRepeated"), 0));
}

Test(bigquery, a_page_that_is_cut_goes_on_at_the_row_that_comes_next)
{
    open_client(0, 20000); /* one page */
    survive("{\"kind\":\"reset-mid-body\",\"call\":\"getQueryResults\",\"resource\":\"page\","
            "\"count\":3}");
}

Test(bigquery, a_page_whose_json_ends_early_goes_on_at_the_row_that_comes_next)
{
    open_client(0, 20000);
    survive("{\"kind\":\"truncated-json\",\"call\":\"getQueryResults\",\"resource\":\"page\","
            "\"count\":3}");
}

Test(bigquery, wrong_json_is_asked_for_again_and_told_in_the_end)
{
    survive("{\"kind\":\"wrong-json\",\"call\":\"getQueryResults\",\"count\":3}");
    fault("{\"kind\":\"wrong-json\",\"call\":\"getQueryResults\",\"share\":1.0}");
    expect_failure(run(), CM_PERMANENT, "malformed");
    mend();
    fault("{\"kind\":\"wrong-json\",\"call\":\"getQueryResults\",\"share\":1.0,\"resource\":"
          "\"next\"}");
    fault("{\"kind\":\"wrong-json\",\"call\":\"getQueryResults\",\"share\":1.0,\"resource\":"
          "\"page\"}");
    cr_assert(eq(int, run(), CM_OK));
    expect_failure(read_all(), CM_PERMANENT, "malformed");
    mend();
}

Test(bigquery, rows_with_too_few_cells_are_told)
{
    fault("{\"kind\":\"rows\",\"share\":1.0,\"resource\":\"page\",\"last\":true,\"rows\":"
          "[{\"f\":[{\"v\":\"1\"}]}]}");
    cr_assert(eq(int, run(), CM_OK));
    expect_failure(read_all(), CM_PERMANENT, "malformed");
    cr_expect(eq(llong, world.rows, 0));
    mend();
}

Test(bigquery, rows_that_do_not_add_up_are_told)
{
    fault("{\"kind\":\"wrong-total\",\"by\":1,\"share\":1.0}");
    cr_assert(eq(int, run(), CM_OK));
    expect_failure(read_all(), CM_TRANSIENT, "row-count");
    cr_expect(not(world.end));
    expect_failure(read_all(), CM_TRANSIENT, "row-count"); /* and stays so */
    mend();
    fault("{\"kind\":\"wrong-total\",\"by\":-400,\"resource\":\"next\"}");
    cr_assert(eq(int, run(), CM_OK));
    expect_failure(read_all(), CM_TRANSIENT, "row-count");
}

Test(bigquery, a_job_that_says_it_is_not_complete_while_it_is_read_is_asked_again)
{
    survive("{\"kind\":\"incomplete\",\"resource\":\"next\",\"count\":2}");
}

Test(bigquery, a_warning_beside_rows_is_none_of_ours)
{
    survive("{\"kind\":\"warning\",\"share\":1.0}");
}

Test(bigquery, a_slow_page_is_waited_for_as_long_as_it_comes)
{
    set_data("{\"contacts\":200}");
    fault("{\"kind\":\"slow-body\",\"call\":\"getQueryResults\",\"resource\":\"page\","
          "\"bytesPerSecond\":20000}");
    cr_assert(eq(int, run(), CM_OK));
    cr_assert(eq(int, read_all(), CM_OK), "%s", world.err.message);
    expect_each_once(200);
}

/* ---- stopping -------------------------------------------------------------------------------- */

Test(bigquery, a_stop_ends_every_wait)
{
    fault("{\"kind\":\"hang\",\"call\":\"insertJob\"}");
    world.stop_after = 3;
    expect_failure(run(), CM_CANCELLED, "stopped");
    fault("{\"kind\":\"incomplete\",\"share\":1.0}");
    world.stop_after = 8;
    expect_failure(run(), CM_CANCELLED, "stopped");
    mend();
    cr_assert(eq(int, run(), CM_OK));
    fault("{\"kind\":\"hang\",\"call\":\"getQueryResults\"}");
    world.stop_after = 3;
    expect_failure(read_all(), CM_CANCELLED, "stopped");
    cm_bigquery_position_t position = cm_bigquery_position(world.client);
    open_client(300, 20000);
    cr_assert(eq(int, cm_bigquery_resume(world.client, &position, &world.err), CM_OK));
    cr_assert(eq(int, read_all(), CM_OK));
    expect_each_once(1000);
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* Bytes of heap in use, looked at while rows come; a sanitizer's own heap tells none. */
static size_t heap_most;

static void on_row_and_look(void *ctx, const cm_str_t *values)
{
    on_row(ctx, values);
    if (world.rows % 1000)
        return;
    struct mallinfo2 heap = mallinfo2();
    if (heap.uordblks + heap.hblkhd > heap_most)
        heap_most = heap.uordblks + heap.hblkhd;
}

Test(bigquery, a_page_of_a_million_rows_needs_no_memory, .timeout = 120)
{
    set_data("{\"customers\":1,\"contacts\":1000000}");
    fault("{\"kind\":\"huge-page\",\"resource\":\"page\"}");
    cr_assert(eq(int, run(), CM_OK), "%s", world.err.message);
    struct mallinfo2 before = mallinfo2();
    while (!world.end)
        cr_assert(eq(int,
                     cm_bigquery_next(world.client, on_row_and_look, NULL, &world.end, &world.err),
                     CM_OK),
                  "%s", world.err.message);
    expect_each_once(1000000);
    cr_expect(eq(llong, calls_of("getQueryResults"), 2));
    cr_expect(lt(sz, heap_most, before.uordblks + before.hblkhd + (1 << 20))); /* of 70 MB */
}

/* ---- tokens ---------------------------------------------------------------------------------- */

static void begin_with_tokens(void)
{
    static const char *const options[] = {"--token-check", "--gzip", NULL};
    begin_server_with(options);
    world.stop_after = -1;
    world.seen = calloc(SEEN_MAX, 1);
    cm_bigquery_options_t client = {.endpoint = endpoint,
                                    .project = "test",
                                    .metadata_host = metadata,
                                    .retry_base_ms = 5,
                                    .page_rows = 300};
    cr_assert(eq(int, cm_bigquery_open(&world.client, &client, &world.err), CM_OK), "%s",
              world.err.message);
}

TestSuite(bigquery_token, .init = begin_with_tokens, .fini = end, .timeout = 60);

Test(bigquery_token, calls_carry_a_token_and_answers_come_compressed)
{
    run_and_read();
}

Test(bigquery_token, a_refused_token_is_replaced_once)
{
    cr_assert(eq(int, run(), CM_OK), "%s", world.err.message);
    fault("{\"kind\":\"revoke-tokens\"}");
    cr_assert(eq(int, read_all(), CM_OK), "%s", world.err.message);
    expect_each_once(1000);
    cr_expect(eq(llong, cm_test_pubsub_stat(&server, "tokensIssued"), 2));
}

Test(bigquery_token, a_token_that_is_refused_each_time_is_told)
{
    fault("{\"kind\":\"status\",\"status\":401,\"share\":1.0,\"call\":\"insertJob\"}");
    expect_failure(run(), CM_MISCONFIGURED, "authError");
    mend();
}
