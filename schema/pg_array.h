/* pg_array - the arguments of one statement as binary PostgreSQL arrays, in one reusable buffer,
 * and the values of a binary answer.
 *
 * Open a column, put as many values as it was opened for, and so on; seal when the last is full. An
 * absent text and a missing number are SQL NULL. Binary costs a quarter less than text and needs no
 * quoting. Source: PostgreSQL's array_recv(), record_recv() and timestamptz_recv().
 */
#ifndef CM_SCHEMA_PG_ARRAY_H
#define CM_SCHEMA_PG_ARRAY_H
#include "runtime/buffer.h"
#include "runtime/pg.h"
#include "runtime/str.h"

enum { CM_PG_ARRAYS_MAX = 20 };

typedef enum { /* element types, by their OID in every PostgreSQL */
               CM_PG_BYTEA = 17,
               CM_PG_INT8 = 20,
               CM_PG_INT4 = 23,
               CM_PG_TEXT = 25,
               CM_PG_JSON = 114,
               CM_PG_TIMESTAMPTZ = 1184
} cm_pg_element_t;

#define CM_PG_MS_NONE INT64_MIN /* a time that is not set */

typedef struct {
    cm_buffer_t bytes;
    int count;
    size_t starts[CM_PG_ARRAYS_MAX];
    Oid types[CM_PG_ARRAYS_MAX];
    const char *values[CM_PG_ARRAYS_MAX];
    int lengths[CM_PG_ARRAYS_MAX], formats[CM_PG_ARRAYS_MAX];
} cm_pg_arrays_t; /* zero-initialise */

typedef struct {
    Oid row, array; /* of a composite type and its array type; unlike in every database */
} cm_pg_row_type_t;

void cm_pg_arrays_clear(cm_pg_arrays_t *self); /* keeps the memory */
void cm_pg_arrays_destroy(cm_pg_arrays_t *self);

void cm_pg_arrays_open(cm_pg_arrays_t *self, cm_pg_element_t element, size_t count);
void cm_pg_arrays_text(cm_pg_arrays_t *self, cm_str_t value); /* text, json, bytea */
void cm_pg_arrays_i64(cm_pg_arrays_t *self, int64_t value);
void cm_pg_arrays_i32(cm_pg_arrays_t *self, int32_t value);
/* Epoch milliseconds; CM_PG_MS_NONE is NULL. One outside PostgreSQL's range is sent as such and
 * fails there with 22008. */
void cm_pg_arrays_ms(cm_pg_arrays_t *self, int64_t epoch_ms);
void cm_pg_arrays_null(cm_pg_arrays_t *self);
/* An array of rows: begin each, for each of its columns say the type and put the value, end. Many
 * columns at few rows cost the server half of what an array for each of them does. */
void cm_pg_arrays_open_rows(cm_pg_arrays_t *self, const cm_pg_row_type_t *type, size_t count);
size_t cm_pg_row_begin(cm_pg_arrays_t *self, int columns); /* returns where: for its end */
void cm_pg_row_column(cm_pg_arrays_t *self, cm_pg_element_t type);
void cm_pg_row_end(cm_pg_arrays_t *self, size_t row);
/* A statement with these arguments; valid until the next clear or open. */
cm_pg_statement_t cm_pg_arrays_statement(cm_pg_arrays_t *self, const char *key, const char *sql);

/* Values of a binary answer; 0 and false for NULL and what has another length. */
int64_t cm_pg_binary_i64(const PGresult *result, int row, int column);
bool cm_pg_binary_bool(const PGresult *result, int row, int column);
#endif
