#include "schema/contact_query.h"

#include "runtime/buffer.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

/* Around the operator's query, whose last line may be a comment. */
#define BEFORE                                                                                     \
    "DECLARE contact_rows NO SCROLL CURSOR FOR "                                                   \
    "SELECT q.customer_id::text, q.contact_id::bigint, "                                           \
    "CASE WHEN isfinite(q.deleted_at::timestamptz) "                                               \
    "THEN (extract(epoch FROM q.deleted_at::timestamptz) * 1000000)::bigint END FROM (\n"
#define BEHIND                                                                                     \
    "\n) AS q WHERE $2::timestamptz IS NOT NULL AND ($3::bigint IS NULL OR "                       \
    "(q.deleted_at::timestamptz, q.customer_id::text COLLATE \"C\", q.contact_id::bigint) > "      \
    "('epoch'::timestamptz + $3::bigint * interval '1 microsecond', $4::text COLLATE \"C\", "      \
    "$5::bigint)) "                                                                                \
    "ORDER BY q.deleted_at::timestamptz NULLS FIRST, q.customer_id::text COLLATE \"C\", "          \
    "q.contact_id::bigint"

static void put_query(cm_buffer_t *sql, const char *query)
{
    size_t len = strlen(query);
    while (len && (isspace((unsigned char)query[len - 1]) || query[len - 1] == ';'))
        len--;
    cm_buffer_printf(sql, "%s", BEFORE);
    cm_buffer_append(sql, query, len);
    cm_buffer_printf(sql, "%s", BEHIND);
}

static cm_status_t declare(cm_pg_t *pg, const char *query, const char *customer_id,
                           int64_t since_ms, const cm_contact_key_t *after, cm_error_t *err)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t sql = {0};
    char since[CM_TIME_TEXT_MAX];
    const char *values[] = {customer_id, cm_clock_format(since_ms, since),
                            after ? after->deleted_us : NULL, after ? after->customer_id : NULL,
                            after ? after->contact_id : NULL};
    put_query(&sql, query);
    cm_status_t status = cm_pg_exec(
        pg,
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;"
        "SET LOCAL idle_in_transaction_session_timeout = 0;" /* who reads may be slow */
        /* Who goes away need not be waited for; as of version 14, and of some systems. */
        "SELECT set_config(name, '2s', true) FROM pg_settings"
        " WHERE name = 'client_connection_check_interval' AND version() ~ 'linux'",
        err);
    if (status == CM_OK)
        status = cm_pg_query(pg, cm_buffer_text(&sql), CM_LENGTH(values), values, NULL, err);
    if (status != CM_OK && strcmp(err->code, "42P18") == 0)
        return cm_error_set(err, CM_MISCONFIGURED, "42P18",
                            "the query does not use $1, the customer, or not with a type");
    return status;
}

cm_status_t cm_contact_query_open(cm_pg_t *pg, const char *query, const char *customer_id,
                                  int64_t since_ms, const cm_contact_key_t *after, cm_error_t *err)
{
    cm_status_t status = cm_pg_begin(pg, err);
    if (status == CM_OK)
        status = declare(pg, query, customer_id, since_ms, after, err);
    if (status != CM_OK)
        cm_contact_query_close(pg);
    return status;
}

static cm_str_t value_of(const PGresult *result, int row, int column)
{
    if (PQgetisnull(result, row, column))
        return CM_STR_NONE;
    return (cm_str_t){PQgetvalue(result, row, column), (size_t)PQgetlength(result, row, column)};
}

cm_status_t cm_contact_query_fetch(cm_pg_t *pg, size_t max,
                                   void (*on_row)(void *ctx, const cm_contact_row_t *row),
                                   void *ctx, size_t *ret_count, cm_error_t *err)
{
    char sql[64];
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    snprintf(sql, sizeof sql, "FETCH %zu FROM contact_rows", max);
    *ret_count = 0;
    cm_status_t status = cm_pg_query(pg, sql, 0, NULL, &result, err);
    if (status != CM_OK) {
        cm_contact_query_close(pg);
        return status;
    }
    *ret_count = (size_t)PQntuples(result);
    for (int i = 0; i < PQntuples(result); i++) {
        cm_contact_row_t row = {value_of(result, i, 0), value_of(result, i, 1),
                                value_of(result, i, 2)};
        on_row(ctx, &row);
    }
    return CM_OK;
}

void cm_contact_query_close(cm_pg_t *pg)
{
    cm_pg_rollback(pg);
}
