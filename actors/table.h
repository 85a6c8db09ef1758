/* table - rows on stdout: aligned columns for people, or JSON objects, one a line, for programs.
 *
 * A cell may hold anything: in columns control characters are shown as \xNN, never passed on.
 */
#ifndef CM_ACTORS_TABLE_H
#define CM_ACTORS_TABLE_H
#include "runtime/buffer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CM_TABLE_COLUMNS_MAX = 16 };

typedef struct {
    const char *title; /* heading in the table, member name in JSON */
    bool number;       /* right-aligned, bare in JSON; empty becomes null */
} cm_column_t;

typedef struct {
    const cm_column_t *columns; /* borrowed */
    size_t column_count;
    bool json;
    cm_buffer_t cells; /* texts, NUL-separated, row after row */
    size_t rows;
} cm_table_t;

void cm_table_start(cm_table_t *self, const cm_column_t *columns, size_t count, bool json);
void cm_table_cell(cm_table_t *self, const char *text); /* next cell; "" for none */
void cm_table_cell_i64(cm_table_t *self, int64_t value);
void cm_table_cell_time(cm_table_t *self, int64_t epoch_ms); /* 0: empty */
/* Print all and free; in JSON mode one object a line. */
void cm_table_end(cm_table_t *self);
void cm_table_drop(cm_table_t *self); /* free without printing */
/* text as a JSON string, quotes included, to stdout; invalid UTF-8 becomes U+FFFD. */
void cm_json_print_text(const char *text, size_t len);
#endif
