/* sql - SQL text that names a schema. */
#ifndef CM_SCHEMA_SQL_H
#define CM_SCHEMA_SQL_H
#include "runtime/buffer.h"
#include "runtime/pg.h"

enum { CM_SQL_IDENTIFIER_MAX = 2 * 63 + 3 }; /* every byte a quote, the quotes around it, the NUL */

/* name as a quoted identifier; returns quoted. A name longer than 63 bytes is the caller's fault
 * (asserted): PostgreSQL would cut it and find another object. */
const char *cm_sql_identifier(const char *name, char quoted[CM_SQL_IDENTIFIER_MAX]);
/* Append text with every "@schema@" replaced by the quoted schema. */
void cm_sql_in_schema(cm_buffer_t *out, const char *text, const char *schema);
/* The same, and every "@admin@" replaced by the quoted admin schema: for the few statements that
 * read both. */
void cm_sql_in_schemas(cm_buffer_t *out, const char *text, const char *schema,
                       const char *admin_schema);

/* cm_pg_exec() and cm_pg_query() with "@schema@" replaced. */
cm_status_t cm_sql_exec(cm_pg_t *pg, const char *text, const char *schema, cm_error_t *err);
cm_status_t cm_sql_query(cm_pg_t *pg, const char *text, const char *schema, int count,
                         const char *const *values, PGresult **ret_result, cm_error_t *err);

/* Let the server end what it does for this session soon after the client has gone, in the middle of
 * a statement, too. As of version 14 of PostgreSQL, on Linux; on others it goes on. */
cm_status_t cm_sql_end_with_client(cm_pg_t *pg, cm_error_t *err);

/* A time given as epoch milliseconds in parameter "$n", and a column as epoch milliseconds. */
#define CM_SQL_FROM_MS(parameter)                                                                  \
    "('epoch'::timestamptz + " parameter "::bigint * interval '1 millisecond')"
#define CM_SQL_TO_MS(column) "(extract(epoch FROM " column ") * 1000)::bigint"
#endif
