#include "actors/table.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"

#include <assert.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void cm_table_start(cm_table_t *self, const cm_column_t *columns, size_t count, bool json)
{
    assert(count <= CM_TABLE_COLUMNS_MAX);
    *self = (cm_table_t){.columns = columns, .column_count = count, .json = json};
}

void cm_table_cell(cm_table_t *self, const char *text)
{
    cm_buffer_append(&self->cells, text, strlen(text) + 1);
    self->rows++; /* cells so far; divided at the end */
}

void cm_table_cell_i64(cm_table_t *self, int64_t value)
{
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)value);
    cm_table_cell(self, text);
}

void cm_table_cell_time(cm_table_t *self, int64_t epoch_ms)
{
    char text[CM_TIME_TEXT_MAX];
    cm_table_cell(self, epoch_ms ? cm_clock_format(epoch_ms, text) : "");
}

void cm_json_print_text(const char *text, size_t len)
{
    json_t *value = json_stringn(text, len);
    if (!value) { /* not UTF-8: keep what is ASCII, mark the rest */
        cm_buffer_t clean = {0};
        for (size_t i = 0; i < len; i++) {
            if ((unsigned char)text[i] < 0x80)
                cm_buffer_append(&clean, text + i, 1);
            else
                cm_buffer_append(&clean, "\xef\xbf\xbd", 3);
        }
        value = json_stringn(clean.data ? clean.data : "", clean.len);
        cm_buffer_destroy(&clean);
    }
    json_dumpf(value, stdout, JSON_ENCODE_ANY);
    json_decref(value);
}

static void print_json(const cm_table_t *self, const char *cell, size_t rows)
{
    for (size_t row = 0; row < rows; row++) {
        for (size_t column = 0; column < self->column_count; column++) {
            fputs(column ? ", " : "{", stdout);
            cm_json_print_text(self->columns[column].title, strlen(self->columns[column].title));
            fputs(": ", stdout);
            if (self->columns[column].number)
                fputs(*cell ? cell : "null", stdout);
            else
                cm_json_print_text(cell, strlen(cell));
            cell += strlen(cell) + 1;
        }
        puts("}");
    }
}

/* ---- the table ------------------------------------------------------------------------------ */

/* What a terminal would act on is data of strangers here: shown as \xNN. */
static void append_plain(cm_buffer_t *out, const char *text)
{
    for (; *text; text++) {
        unsigned char byte = (unsigned char)*text, next = (unsigned char)text[1];
        bool c1 = byte == 0xc2 && next >= 0x80 && next < 0xa0; /* U+0080 .. U+009F in UTF-8 */
        if (byte < 0x20 || byte == 0x7f || c1)
            cm_buffer_printf(out, "\\x%02x", c1 ? next : byte);
        else
            cm_buffer_append(out, text, 1);
        text += c1;
    }
}

/* Columns of a terminal, one for each character. */
static size_t width_of(const char *text)
{
    size_t width = 0;
    for (; *text; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

static void append_spaces(cm_buffer_t *line, size_t count)
{
    while (count--)
        cm_buffer_append(line, " ", 1);
}

static void append_cell(cm_buffer_t *line, const char *text, size_t width, bool number)
{
    size_t pad = width - width_of(text);
    append_spaces(line, number ? pad : 0);
    cm_buffer_append(line, text, strlen(text));
    append_spaces(line, 2 + (number ? 0 : pad));
}

static void print_line(cm_buffer_t *line)
{
    while (line->len && line->data[line->len - 1] == ' ')
        line->len--;
    puts(cm_buffer_text(line));
    cm_buffer_clear(line);
}

static void print_table(const cm_table_t *self, const char *cells, size_t rows)
{
    size_t width[CM_TABLE_COLUMNS_MAX], columns = self->column_count;
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t plain = {0}, line = {0};
    for (size_t i = 0; i < rows * columns; i++, cells += strlen(cells) + 1) {
        append_plain(&plain, cells);
        cm_buffer_append(&plain, "", 1);
    }
    for (size_t column = 0; column < columns; column++)
        width[column] = width_of(self->columns[column].title);
    const char *cell = cm_buffer_text(&plain);
    for (size_t i = 0; i < rows * columns; i++, cell += strlen(cell) + 1)
        if (width_of(cell) > width[i % columns])
            width[i % columns] = width_of(cell);
    for (size_t column = 0; column < columns; column++)
        append_cell(&line, self->columns[column].title, width[column],
                    self->columns[column].number);
    print_line(&line);
    cell = cm_buffer_text(&plain);
    for (size_t i = 0; i < rows * columns; i++, cell += strlen(cell) + 1) {
        append_cell(&line, cell, width[i % columns], self->columns[i % columns].number);
        if (i % columns + 1 == columns)
            print_line(&line);
    }
}

void cm_table_end(cm_table_t *self)
{
    assert(self->rows % self->column_count == 0);
    size_t rows = self->rows / self->column_count;
    const char *cells = self->cells.data ? self->cells.data : "";
    if (self->json)
        print_json(self, cells, rows);
    else
        print_table(self, cells, rows);
    cm_table_drop(self);
}

void cm_table_drop(cm_table_t *self)
{
    cm_buffer_destroy(&self->cells);
}
