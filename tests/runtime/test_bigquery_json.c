#include "runtime/bigquery_json.h"
#include "runtime/cleanup.h"
#include "runtime/http.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

static cm_bigquery_refusal_t refusal_of(int http, const char *body)
{
    cm_bigquery_refusal_t refusal;
    cm_error_t http_error;
    cm_http_classify(http, 0, &http_error);
    cm_bigquery_read_refusal(http, cm_str(body), &http_error, &refusal);
    return refusal;
}

static cm_bigquery_refusal_t refusal_for(int http, const char *reason, const char *text)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t body = {0};
    cm_buffer_printf(
        &body, "{\"error\":{\"code\":%d,\"errors\":[{\"reason\":\"%s\",\"message\":\"%s\"}]}}",
        http, reason, text);
    return refusal_of(http, cm_buffer_text(&body));
}

Test(bigquery_json, a_refusal_is_judged_by_its_reason_first)
{
    static const struct {
        int http;
        const char *reason;
        cm_bigquery_verdict_t verdict;
        cm_status_t status;
    } cases[] = {
        {403, "rateLimitExceeded", CM_BIGQUERY_AGAIN, CM_UNAVAILABLE},
        {503, "backendError", CM_BIGQUERY_AGAIN, CM_UNAVAILABLE},
        {500, "internalError", CM_BIGQUERY_AGAIN, CM_UNAVAILABLE},
        {502, "badGateway", CM_BIGQUERY_AGAIN, CM_UNAVAILABLE},
        {429, "quotaExceeded", CM_BIGQUERY_AGAIN, CM_UNAVAILABLE},
        {503, "somethingNew", CM_BIGQUERY_AGAIN, CM_UNAVAILABLE},
        {401, "authError", CM_BIGQUERY_NEW_TOKEN, CM_MISCONFIGURED},
        {404, "notFound", CM_BIGQUERY_GONE, CM_MISCONFIGURED},
        {409, "duplicate", CM_BIGQUERY_DUPLICATE, CM_PERMANENT},
        {403, "quotaExceeded", CM_BIGQUERY_NEVER, CM_TRANSIENT},
        {400, "jobBackendError", CM_BIGQUERY_NEVER, CM_TRANSIENT},
        {400, "stopped", CM_BIGQUERY_NEVER, CM_TRANSIENT},
        {403, "accessDenied", CM_BIGQUERY_NEVER, CM_MISCONFIGURED},
        {403, "billingNotEnabled", CM_BIGQUERY_NEVER, CM_MISCONFIGURED},
        {400, "bytesBilledLimitExceeded", CM_BIGQUERY_NEVER, CM_MISCONFIGURED},
        {400, "invalidQuery", CM_BIGQUERY_NEVER, CM_PERMANENT},
        {403, "responseTooLarge", CM_BIGQUERY_NEVER, CM_PERMANENT},
        {400, "somethingNew", CM_BIGQUERY_NEVER, CM_PERMANENT},
        {403, "somethingNew", CM_BIGQUERY_NEVER, CM_MISCONFIGURED},
    };
    for (size_t i = 0; i < CM_LENGTH(cases); i++) {
        cm_bigquery_refusal_t refusal = refusal_for(cases[i].http, cases[i].reason, "why");
        cr_expect(eq(int, refusal.verdict, cases[i].verdict), "%s", cases[i].reason);
        cr_expect(eq(int, refusal.error.status, cases[i].status), "%s", cases[i].reason);
        cr_expect(eq(str, refusal.error.code, (char *)cases[i].reason));
        cr_expect(refusal.by_reason);
    }
}

Test(bigquery_json, a_refusal_without_a_reason_is_judged_by_its_code)
{
    static const char *const bodies[] = {
        "", "<html>", "{}", "[1]", "{\"error\":\"x\"}", "{\"error\":{\"errors\":[7]}}"};
    for (size_t i = 0; i < CM_LENGTH(bodies); i++) {
        cr_expect(eq(int, refusal_of(503, bodies[i]).verdict, CM_BIGQUERY_AGAIN));
        cr_expect(eq(int, refusal_of(401, bodies[i]).verdict, CM_BIGQUERY_NEW_TOKEN));
        cr_expect(eq(int, refusal_of(404, bodies[i]).verdict, CM_BIGQUERY_GONE));
        cr_expect(eq(int, refusal_of(403, bodies[i]).verdict, CM_BIGQUERY_NEVER));
        cr_expect(eq(str, refusal_of(403, bodies[i]).error.code, "http-403"));
        cr_expect(not(refusal_of(403, bodies[i]).by_reason));
    }
}

Test(bigquery_json, no_value_of_a_row_gets_into_a_message)
{
    cm_bigquery_refusal_t refusal =
        refusal_for(400, "invalidQuery", "Bad int64 value: jane@example.com at [3:14]");
    cr_expect(eq(str, refusal.error.message, "invalidQuery: Bad int64 value at [3:14]"));
    refusal = refusal_for(404, "notFound", "Not found: Table p:crm.contacts");
    cr_expect(eq(str, refusal.error.message, "notFound: Not found: Table p:crm.contacts"));
    refusal = refusal_for(503, "backendError", "line\\nbreak\\u0001");
    cr_expect(eq(str, refusal.error.message, "backendError: line break "));
}

Test(bigquery_json, a_job_that_failed_for_no_fault_of_its_query_may_run_again)
{
    cr_expect(cm_bigquery_may_rerun("jobBackendError"));
    cr_expect(cm_bigquery_may_rerun("backendError"));
    cr_expect(not(cm_bigquery_may_rerun("invalidQuery")));
    cr_expect(not(cm_bigquery_may_rerun("stopped")));
}

Test(bigquery_json, a_job_tells_its_state_its_failure_and_its_bytes)
{
    cm_bigquery_job_t job;
    cm_error_t err = {0};
    cr_assert(eq(int,
                 cm_bigquery_read_job(CM_STR("{\"status\":{\"state\":\"DONE\"},\"statistics\":"
                                             "{\"totalBytesProcessed\":\"77\"}}"),
                                      &job, &err),
                 CM_OK));
    cr_expect(job.done && !job.failed && job.bytes == 77);
    cr_assert(eq(int,
                 cm_bigquery_read_job(CM_STR("{\"status\":{\"state\":\"DONE\",\"errorResult\":{"
                                             "\"reason\":\"backendError\",\"message\":\"m\"}}}"),
                                      &job, &err),
                 CM_OK));
    cr_expect(job.failed && job.bytes == -1);
    cr_expect(eq(int, job.error.status, CM_TRANSIENT)); /* run it anew; no call is to be repeated */
    cr_expect(eq(int, cm_bigquery_read_job(CM_STR("{}"), &job, &err), CM_PERMANENT));
    cr_expect(eq(int, cm_bigquery_read_job(CM_STR("no"), &job, &err), CM_PERMANENT));
    cr_expect(eq(str, err.code, "malformed"));
}

Test(bigquery_json, a_result_tells_its_columns_in_one_spelling)
{
    cm_bigquery_head_t head;
    cm_error_t err = {0};
    cr_assert(eq(int,
                 cm_bigquery_read_head(
                     CM_STR("{\"jobComplete\":true,\"totalRows\":\"5\",\"schema\":{\"fields\":["
                            "{\"name\":\"a\",\"type\":\"INT64\"},{\"name\":\"b\",\"type\":"
                            "\"STRING\",\"mode\":\"NULLABLE\"}]}}"),
                     &head, &err),
                 CM_OK),
              "%s", err.message);
    cr_expect(eq(llong, head.total_rows, 5));
    cr_expect(eq(sz, head.column_count, 2));
    cr_expect(eq(str, head.columns[0].type, "INTEGER"));
    cr_expect(eq(str, head.columns[1].name, "b"));
    cr_assert(
        eq(int, cm_bigquery_read_head(CM_STR("{\"jobComplete\":false}"), &head, &err), CM_OK));
    cr_expect(not(head.complete));
}

Test(bigquery_json, a_result_that_cannot_be_read_is_refused)
{
    cm_bigquery_head_t head;
    cm_error_t err = {0};
    cr_expect(eq(int, cm_bigquery_read_head(CM_STR("{}"), &head, &err), CM_PERMANENT));
    cr_expect(eq(int, cm_bigquery_read_head(CM_STR("{\"jobComplete\":true}"), &head, &err),
                 CM_PERMANENT));
    cr_expect(
        eq(int,
           cm_bigquery_read_head(CM_STR("{\"jobComplete\":true,\"totalRows\":\"5\",\"schema\":"
                                        "{\"fields\":[{\"name\":\"tags\",\"type\":\"STRING\","
                                        "\"mode\":\"REPEATED\"}]}}"),
                                 &head, &err),
           CM_MISCONFIGURED));
    cr_expect(eq(str, err.code, "columns"));
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t wide = {0};
    cm_buffer_printf(&wide, "{\"jobComplete\":true,\"totalRows\":\"5\",\"schema\":{\"fields\":[");
    for (int i = 0; i <= CM_BIGQUERY_COLUMNS_MAX; i++)
        cm_buffer_printf(&wide, "%s{\"name\":\"c%d\",\"type\":\"STRING\"}", i ? "," : "", i);
    cm_buffer_printf(&wide, "]}}");
    cr_expect(eq(int, cm_bigquery_read_head((cm_str_t){wide.data, wide.len}, &head, &err),
                 CM_MISCONFIGURED));
}

Test(bigquery_json, a_query_is_told_with_its_parameters_and_limits)
{
    cm_bigquery_parameter_t parameters[] = {{"customer", CM_BIGQUERY_STRING, "42"},
                                            {"since", CM_BIGQUERY_TIMESTAMP, NULL}};
    cm_bigquery_query_t query = {.sql = "SELECT \"x\"",
                                 .parameters = parameters,
                                 .parameter_count = 2,
                                 .maximum_bytes_billed = 1000,
                                 .job_timeout_ms = 5000};
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t body = {0};
    cm_bigquery_put_job(&body, &query, "j-1", "EU");
    cr_expect(eq(str, (char *)cm_buffer_text(&body),
                 "{\"jobReference\":{\"location\":\"EU\",\"jobId\":\"j-1\"},\"configuration\":{"
                 "\"query\":{\"query\":\"SELECT \\\"x\\\"\",\"useLegacySql\":false,"
                 "\"parameterMode\":\"NAMED\",\"queryParameters\":["
                 "{\"name\":\"customer\",\"parameterType\":{\"type\":\"STRING\"},"
                 "\"parameterValue\":{\"value\":\"42\"}},"
                 "{\"name\":\"since\",\"parameterType\":{\"type\":\"TIMESTAMP\"},"
                 "\"parameterValue\":{\"value\":null}}],\"maximumBytesBilled\":\"1000\"},"
                 "\"dryRun\":false,\"labels\":{\"service\":\"client-manager\"},"
                 "\"jobTimeoutMs\":\"5000\"}}"));
}

Test(bigquery_json, a_value_in_an_address_is_escaped)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t url = {0};
    cm_bigquery_put_parameter(&url, "pageToken", "a+b/c=&%\xc3");
    cr_expect(eq(str, (char *)cm_buffer_text(&url), "&pageToken=a%2Bb%2Fc%3D%26%25%C3"));
}
