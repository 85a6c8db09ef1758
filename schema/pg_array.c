#include "schema/pg_array.h"

#include <assert.h>
#include <endian.h>
#include <stdlib.h>
#include <string.h>

/* array types of the elements above; pg_type.dat */
static Oid array_type(cm_pg_element_t element)
{
    switch (element) {
    case CM_PG_BYTEA:
        return 1001;
    case CM_PG_INT8:
        return 1016;
    case CM_PG_INT4:
        return 1007;
    case CM_PG_TEXT:
        return 1009;
    case CM_PG_JSON:
        return 199;
    case CM_PG_TIMESTAMPTZ:
        return 1185;
    }
    abort(); /* no such element */
}

static void put_u32(char *to, uint32_t value)
{
    value = htobe32(value);
    memcpy(to, &value, sizeof value);
}

void cm_pg_arrays_clear(cm_pg_arrays_t *self)
{
    cm_buffer_clear(&self->bytes);
    self->count = 0;
}

void cm_pg_arrays_destroy(cm_pg_arrays_t *self)
{
    cm_buffer_destroy(&self->bytes);
    *self = (cm_pg_arrays_t){0};
}

static void open_array(cm_pg_arrays_t *self, Oid element, Oid array, size_t count)
{
    assert(self->count < CM_PG_ARRAYS_MAX && count <= INT32_MAX);
    self->starts[self->count] = self->bytes.len;
    self->types[self->count] = array;
    self->count++;
    cm_buffer_reserve(&self->bytes, 20 + 12 * count);
    char *header = self->bytes.data + self->bytes.len;
    put_u32(header, count > 0); /* dimensions */
    put_u32(header + 4, 1);     /* may hold NULLs */
    put_u32(header + 8, element);
    if (count == 0) {
        self->bytes.len += 12;
        return;
    }
    put_u32(header + 12, (uint32_t)count);
    put_u32(header + 16, 1); /* lower bound */
    self->bytes.len += 20;
}

void cm_pg_arrays_open(cm_pg_arrays_t *self, cm_pg_element_t element, size_t count)
{
    open_array(self, element, array_type(element), count);
}

void cm_pg_arrays_open_rows(cm_pg_arrays_t *self, const cm_pg_row_type_t *type, size_t count)
{
    open_array(self, type->row, type->array, count);
}

size_t cm_pg_row_begin(cm_pg_arrays_t *self, int columns)
{
    size_t row = self->bytes.len;
    cm_buffer_reserve(&self->bytes, 8);
    put_u32(self->bytes.data + row + 4, (uint32_t)columns);
    self->bytes.len += 8;
    return row;
}

void cm_pg_row_column(cm_pg_arrays_t *self, cm_pg_element_t type)
{
    cm_buffer_reserve(&self->bytes, 4);
    put_u32(self->bytes.data + self->bytes.len, type);
    self->bytes.len += 4;
}

void cm_pg_row_end(cm_pg_arrays_t *self, size_t row)
{
    size_t len = self->bytes.len - row - 4;
    assert(len <= INT32_MAX);
    put_u32(self->bytes.data + row, (uint32_t)len);
}

void cm_pg_arrays_null(cm_pg_arrays_t *self)
{
    cm_buffer_reserve(&self->bytes, 4);
    put_u32(self->bytes.data + self->bytes.len, UINT32_MAX);
    self->bytes.len += 4;
}

void cm_pg_arrays_text(cm_pg_arrays_t *self, cm_str_t value)
{
    if (!value.ptr) {
        cm_pg_arrays_null(self);
        return;
    }
    assert(value.len <= INT32_MAX);
    cm_buffer_reserve(&self->bytes, 4 + value.len);
    put_u32(self->bytes.data + self->bytes.len, (uint32_t)value.len);
    memcpy(self->bytes.data + self->bytes.len + 4, value.ptr, value.len);
    self->bytes.len += 4 + value.len;
}

void cm_pg_arrays_i32(cm_pg_arrays_t *self, int32_t value)
{
    cm_buffer_reserve(&self->bytes, 8);
    put_u32(self->bytes.data + self->bytes.len, 4);
    put_u32(self->bytes.data + self->bytes.len + 4, (uint32_t)value);
    self->bytes.len += 8;
}

void cm_pg_arrays_i64(cm_pg_arrays_t *self, int64_t value)
{
    uint64_t big_endian = htobe64((uint64_t)value);
    cm_buffer_reserve(&self->bytes, 12);
    put_u32(self->bytes.data + self->bytes.len, 8);
    memcpy(self->bytes.data + self->bytes.len + 4, &big_endian, sizeof big_endian);
    self->bytes.len += 12;
}

void cm_pg_arrays_ms(cm_pg_arrays_t *self, int64_t epoch_ms)
{
    static const int64_t ms_to_2000 = INT64_C(946684800000);
    int64_t us;
    if (epoch_ms == CM_PG_MS_NONE) {
        cm_pg_arrays_null(self);
        return;
    }
    if (__builtin_sub_overflow(epoch_ms, ms_to_2000, &us) || __builtin_mul_overflow(us, 1000, &us))
        us = epoch_ms < 0 ? INT64_MIN + 1 : INT64_MAX - 1; /* not the infinities: out of range */
    cm_pg_arrays_i64(self, us);
}

cm_pg_statement_t cm_pg_arrays_statement(cm_pg_arrays_t *self, const char *key, const char *sql)
{
    for (int i = 0; i < self->count; i++) {
        size_t end = i + 1 < self->count ? self->starts[i + 1] : self->bytes.len;
        self->values[i] = self->bytes.data + self->starts[i];
        self->lengths[i] = (int)(end - self->starts[i]);
        self->formats[i] = 1;
    }
    return (cm_pg_statement_t){.key = key,
                               .sql = sql,
                               .count = self->count,
                               .types = self->types,
                               .values = self->values,
                               .lengths = self->lengths,
                               .formats = self->formats,
                               .result_format = 1};
}

/* ---- answers -------------------------------------------------------------------------------- */

int64_t cm_pg_binary_i64(const PGresult *result, int row, int column)
{
    uint64_t value = 0;
    if (PQgetlength(result, row, column) == sizeof value)
        memcpy(&value, PQgetvalue(result, row, column), sizeof value);
    return (int64_t)be64toh(value);
}

bool cm_pg_binary_bool(const PGresult *result, int row, int column)
{
    return PQgetlength(result, row, column) == 1 && *PQgetvalue(result, row, column) != 0;
}
