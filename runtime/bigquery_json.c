#include "runtime/bigquery_json.h"

#include "runtime/cleanup.h"

#include <ctype.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

enum { JOB_TIMEOUT_MS = 3600000 };

static void forget(json_t **json_p)
{
    json_decref(*json_p);
    *json_p = NULL;
}

/* ---- requests -------------------------------------------------------------------------------- */

static void *must(void *memory)
{
    if (!memory)
        abort();
    return memory;
}

static json_t *pack_parameters(const cm_bigquery_query_t *query)
{
    static const char *const types[] = {"STRING", "INT64", "TIMESTAMP"};
    json_t *list = must(json_array());
    for (size_t i = 0; i < query->parameter_count; i++) {
        const cm_bigquery_parameter_t *one = &query->parameters[i];
        json_array_append_new(
            list, must(json_pack("{s:s, s:{s:s}, s:{s:s?}}", "name", one->name, "parameterType",
                                 "type", types[one->type], "parameterValue", "value", one->value)));
    }
    return list;
}

static void set_text_of(json_t *object, const char *name, int64_t number)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRId64, number); /* int64 are texts in this API */
    json_object_set_new(object, name, must(json_string(text)));
}

void cm_bigquery_put_job(cm_buffer_t *body, const cm_bigquery_query_t *query, const char *job,
                         const char *location)
{
    json_t *config = must(json_pack("{s:s, s:b}", "query", query->sql, "useLegacySql", 0));
    if (query->parameter_count) {
        json_object_set_new(config, "parameterMode", must(json_string("NAMED")));
        json_object_set_new(config, "queryParameters", pack_parameters(query));
    }
    if (query->maximum_bytes_billed > 0)
        set_text_of(config, "maximumBytesBilled", query->maximum_bytes_billed);
    json_t *reference = must(json_pack("{s:s}", "location", location));
    if (job)
        json_object_set_new(reference, "jobId", must(json_string(job)));
    json_t *all = must(json_pack("{s:o, s:b, s:{s:s}}", "query", config, "dryRun", job == NULL,
                                 "labels", "service", "client-manager"));
    set_text_of(all, "jobTimeoutMs",
                query->job_timeout_ms > 0 ? query->job_timeout_ms : JOB_TIMEOUT_MS);
    CM_CLEANUP(forget)
    json_t *root = must(json_pack("{s:o, s:o}", "jobReference", reference, "configuration", all));
    CM_CLEANUP(cm_free) char *text = must(json_dumps(root, JSON_COMPACT));
    cm_buffer_append(body, text, strlen(text));
}

void cm_bigquery_put_parameter(cm_buffer_t *url, const char *name, const char *value)
{
    cm_buffer_printf(url, "&%s=", name);
    for (; *value; value++) {
        unsigned char c = (unsigned char)*value;
        cm_buffer_printf(url, isalnum(c) || strchr("-_.~", c) ? "%c" : "%%%02X", c);
    }
}

/* ---- reasons --------------------------------------------------------------------------------- */

typedef struct {
    const char *reason;
    cm_bigquery_verdict_t verdict;
    cm_status_t status;
    bool in_full; /* Google's text names things of the configuration only */
} reason_t;

static const reason_t reasons[] = {
    {"rateLimitExceeded", CM_BIGQUERY_AGAIN, CM_UNAVAILABLE, true},
    {"backendError", CM_BIGQUERY_AGAIN, CM_UNAVAILABLE, false},
    {"internalError", CM_BIGQUERY_AGAIN, CM_UNAVAILABLE, false},
    {"badGateway", CM_BIGQUERY_AGAIN, CM_UNAVAILABLE, false},
    {"jobBackendError", CM_BIGQUERY_NEVER, CM_TRANSIENT, false},
    {"jobInternalError", CM_BIGQUERY_NEVER, CM_TRANSIENT, false},
    {"jobRateLimitExceeded", CM_BIGQUERY_NEVER, CM_TRANSIENT, false},
    {"invalidQuery", CM_BIGQUERY_NEVER, CM_PERMANENT, false},
    {"invalid", CM_BIGQUERY_NEVER, CM_PERMANENT, false},
    {"resourcesExceeded", CM_BIGQUERY_NEVER, CM_PERMANENT, false},
    {"responseTooLarge", CM_BIGQUERY_NEVER, CM_PERMANENT, false},
    {"quotaExceeded", CM_BIGQUERY_NEVER, CM_TRANSIENT, true},
    {"stopped", CM_BIGQUERY_NEVER, CM_TRANSIENT, false},
    {"timeout", CM_BIGQUERY_NEVER, CM_TRANSIENT, false},
    {"authError", CM_BIGQUERY_NEW_TOKEN, CM_MISCONFIGURED, true},
    {"accessDenied", CM_BIGQUERY_NEVER, CM_MISCONFIGURED, true},
    {"billingNotEnabled", CM_BIGQUERY_NEVER, CM_MISCONFIGURED, true},
    {"bytesBilledLimitExceeded", CM_BIGQUERY_NEVER, CM_MISCONFIGURED, true},
    {"notFound", CM_BIGQUERY_GONE, CM_MISCONFIGURED, true},
    {"duplicate", CM_BIGQUERY_DUPLICATE, CM_PERMANENT, true},
};

static const reason_t *find_reason(const char *reason)
{
    for (size_t i = 0; i < CM_LENGTH(reasons); i++)
        if (strcmp(reason, reasons[i].reason) == 0)
            return &reasons[i];
    return NULL;
}

bool cm_bigquery_may_rerun(const char *reason)
{
    static const char *const of_google[] = {"jobBackendError",      "jobInternalError",
                                            "jobRateLimitExceeded", "backendError",
                                            "internalError",        "rateLimitExceeded"};
    for (size_t i = 0; i < CM_LENGTH(of_google); i++)
        if (strcmp(reason, of_google[i]) == 0)
            return true;
    return false;
}

/* Printable, not too much of it; unless it may be told in full, no further than its first colon,
 * behind which values of rows can stand ("Bad int64 value: ..."), and the place in the query. */
static void copy_words(char *to, size_t size, const char *from, bool in_full)
{
    size_t len = 0, end = in_full ? strlen(from) : strcspn(from, ":");
    for (size_t i = 0; i < end && len + 1 < size; i++)
        to[len++] = isprint((unsigned char)from[i]) ? from[i] : ' ';
    to[len] = '\0';
    unsigned line, column;
    const char *place = strrchr(from, '[');
    if (!in_full && from[end] && place && sscanf(place, "[%u:%u]", &line, &column) == 2)
        snprintf(to + len, size - len, " at [%u:%u]", line, column);
}

static const char *text_of(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text ? text : "";
}

/* A reason with Google's text as an error; fallback for what the table does not name. */
static void explain(const char *reason, const char *text, cm_status_t fallback, cm_error_t *err)
{
    const reason_t *known = find_reason(reason);
    char code[CM_ERROR_CODE_MAX], words[200];
    copy_words(code, sizeof code, reason, true);
    copy_words(words, sizeof words, text, known && known->in_full);
    cm_error_set(err, known ? known->status : fallback, code, "%s: %s", code,
                 words[0] ? words : "without an explanation");
}

static cm_bigquery_verdict_t by_code(int http, cm_status_t status)
{
    switch (http) {
    case 401:
        return CM_BIGQUERY_NEW_TOKEN;
    case 404:
        return CM_BIGQUERY_GONE;
    case 409:
        return CM_BIGQUERY_DUPLICATE;
    default:
        return status == CM_UNAVAILABLE ? CM_BIGQUERY_AGAIN : CM_BIGQUERY_NEVER;
    }
}

void cm_bigquery_read_refusal(int http, cm_str_t body, const cm_error_t *http_error,
                              cm_bigquery_refusal_t *ret_refusal)
{
    CM_CLEANUP(forget) json_t *root = json_loadb(body.ptr, body.len, 0, NULL);
    const json_t *error = json_object_get(root, "error");
    const json_t *first = json_array_get(json_object_get(error, "errors"), 0);
    const char *reason = text_of(first, "reason"), *text = text_of(first, "message");
    cm_bigquery_verdict_t verdict = by_code(http, http_error->status);
    *ret_refusal = (cm_bigquery_refusal_t){.verdict = verdict, .error = *http_error};
    if (http < 400 || !reason[0])
        return;
    const reason_t *known = find_reason(reason);
    ret_refusal->by_reason = true;
    if (known)
        ret_refusal->verdict = known->verdict;
    if (http == 429) /* whatever the reason */
        ret_refusal->verdict = CM_BIGQUERY_AGAIN;
    explain(reason, text, http_error->status == CM_OK ? CM_PERMANENT : http_error->status,
            &ret_refusal->error);
    if (ret_refusal->verdict == CM_BIGQUERY_AGAIN)
        ret_refusal->error.status = CM_UNAVAILABLE;
}

/* ---- answers --------------------------------------------------------------------------------- */

static cm_status_t malformed(const char *what, cm_error_t *err)
{
    return cm_error_set(err, CM_PERMANENT, "malformed", "the answer is malformed: %s", what);
}

static bool number_of(const json_t *value, int64_t *ret_number)
{
    if (json_is_integer(value)) {
        *ret_number = json_integer_value(value);
        return true;
    }
    return json_is_string(value) && cm_str_to_i64(cm_str(json_string_value(value)), ret_number);
}

cm_status_t cm_bigquery_read_job(cm_str_t body, cm_bigquery_job_t *ret_job, cm_error_t *err)
{
    CM_CLEANUP(forget)
    json_t *root = json_loadb(body.ptr, body.len, JSON_REJECT_DUPLICATES, NULL);
    const json_t *status = json_object_get(root, "status");
    const json_t *failure = json_object_get(status, "errorResult");
    const json_t *statistics = json_object_get(root, "statistics");
    const char *state = text_of(status, "state");
    *ret_job = (cm_bigquery_job_t){.done = strcmp(state, "DONE") == 0, .bytes = -1, .billed = -1};
    if (!state[0])
        return malformed("a job without a state", err);
    number_of(json_object_get(statistics, "totalBytesProcessed"), &ret_job->bytes);
    number_of(json_object_get(json_object_get(statistics, "query"), "totalBytesBilled"),
              &ret_job->billed);
    if (!failure || json_is_null(failure))
        return CM_OK;
    ret_job->failed = true;
    explain(text_of(failure, "reason"), text_of(failure, "message"), CM_PERMANENT, &ret_job->error);
    if (ret_job->error.status == CM_UNAVAILABLE) /* of the job, not of a call */
        ret_job->error.status = CM_TRANSIENT;
    return CM_OK;
}

static cm_status_t read_column(const json_t *field, cm_bigquery_column_t *column, cm_error_t *err)
{
    static const char *const spellings[][2] = {
        {"INT64", "INTEGER"}, {"FLOAT64", "FLOAT"}, {"BOOL", "BOOLEAN"}, {"STRUCT", "RECORD"}};
    const char *name = text_of(field, "name"), *type = text_of(field, "type");
    for (size_t i = 0; i < CM_LENGTH(spellings); i++)
        if (strcmp(type, spellings[i][0]) == 0)
            type = spellings[i][1];
    if (!name[0] || strlen(name) >= sizeof column->name || !type[0])
        return malformed("a column without name or type", err);
    if (strcmp(text_of(field, "mode"), "REPEATED") == 0 || strcmp(type, "RECORD") == 0)
        return cm_error_set(err, CM_MISCONFIGURED, "columns",
                            "column %.64s holds lists or records, which are not read", name);
    snprintf(column->name, sizeof column->name, "%s", name);
    snprintf(column->type, sizeof column->type, "%.15s", type);
    return CM_OK;
}

cm_status_t cm_bigquery_read_head(cm_str_t body, cm_bigquery_head_t *ret_head, cm_error_t *err)
{
    CM_CLEANUP(forget)
    json_t *root = json_loadb(body.ptr, body.len, JSON_REJECT_DUPLICATES, NULL);
    const json_t *complete = json_object_get(root, "jobComplete");
    const json_t *fields = json_object_get(json_object_get(root, "schema"), "fields");
    *ret_head = (cm_bigquery_head_t){.complete = json_is_true(complete)};
    if (!json_is_boolean(complete))
        return malformed("jobComplete is missing", err);
    if (!ret_head->complete)
        return CM_OK;
    if (!number_of(json_object_get(root, "totalRows"), &ret_head->total_rows) ||
        ret_head->total_rows < 0 || json_array_size(fields) == 0)
        return malformed("schema or totalRows is missing", err);
    if (json_array_size(fields) > CM_BIGQUERY_COLUMNS_MAX)
        return cm_error_set(err, CM_MISCONFIGURED, "columns",
                            "the query has %zu columns, at most %d are read",
                            json_array_size(fields), CM_BIGQUERY_COLUMNS_MAX);
    cm_status_t status = CM_OK;
    for (size_t i = 0; i < json_array_size(fields) && status == CM_OK; i++) {
        status = read_column(json_array_get(fields, i), &ret_head->columns[i], err);
        ret_head->column_count = i + 1;
    }
    return status;
}
