/* bigquery_pages - read a whole result of BigQuery through runtime/bigquery and nothing else: what
 * the contact deletion job is measured against.
 *
 *     bigquery_pages ENDPOINT PROJECT LOCATION QUERY     {"rows":N,"seconds":S} on stdout
 *
 * The query has @customer and @since, which are NULL and 1970. Exit code 1 when it fails.
 */
#include "runtime/bigquery.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"

#include <inttypes.h>
#include <stdio.h>

static void count_row(void *ctx, const cm_str_t *values)
{
    (void)values;
    ++*(int64_t *)ctx;
}

static cm_status_t read_all(const char *const *argv, int64_t *rows, cm_error_t *err)
{
    CM_CLEANUP(cm_bigquery_close) cm_bigquery_t *client = NULL;
    cm_bigquery_options_t options = {.endpoint = argv[1], .project = argv[2]};
    cm_bigquery_parameter_t parameters[] = {
        {"customer", CM_BIGQUERY_STRING, NULL},
        {"since", CM_BIGQUERY_TIMESTAMP, "1970-01-01T00:00:00Z"}};
    cm_bigquery_query_t query = {.location = argv[3],
                                 .sql = argv[4],
                                 .parameters = parameters,
                                 .parameter_count = CM_LENGTH(parameters)};
    cm_status_t status = cm_bigquery_open(&client, &options, err);
    if (status == CM_OK)
        status = cm_bigquery_run(client, &query, err);
    for (bool end = false; status == CM_OK && !end;)
        status = cm_bigquery_next(client, count_row, rows, &end, err);
    return status;
}

int main(int argc, const char *const *argv)
{
    cm_error_t err = {0};
    int64_t rows = 0, began_us = cm_clock_mono_us();
    if (argc != 5)
        return 64;
    if (read_all(argv, &rows, &err) != CM_OK) {
        fprintf(stderr, "bigquery_pages: %s (%s)\n", err.message, err.code);
        return 1;
    }
    printf("{\"rows\":%" PRId64 ",\"seconds\":%.3f}\n", rows,
           (double)(cm_clock_mono_us() - began_us) / 1e6);
    return 0;
}
