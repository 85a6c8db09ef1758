#include "proto/contact_record.h"

#include "proto/event_field.h"

#include <ctype.h>
#include <string.h>

static const char *const names[CM_CONTACT_VALUES] = {"customerId", "contactId", "deletedAt"};

static bool is_named(cm_str_t name, const char *wanted)
{
    for (size_t i = 0; i < name.len; i++) {
        if (name.ptr[i] == '_')
            continue;
        if (!*wanted || tolower((unsigned char)name.ptr[i]) != tolower((unsigned char)*wanted))
            return false;
        wanted++;
    }
    return *wanted == '\0' && name.len > 0;
}

int cm_contact_column(cm_str_t name)
{
    for (int i = 0; i < CM_CONTACT_VALUES; i++)
        if (is_named(name, names[i]))
            return i;
    return -1;
}

/* ---- from texts ------------------------------------------------------------------------------ */

static bool is_integer(cm_str_t text)
{
    int64_t unused;
    return cm_str_to_i64(text, &unused);
}

cm_status_t cm_contact_from_texts(const cm_str_t texts[CM_CONTACT_VALUES], int64_t now_ms,
                                  cm_contact_t *ret_contact, cm_error_t *err)
{
    for (int i = 0; i < CM_CONTACT_VALUES; i++)
        if (!texts[i].ptr)
            return cm_error_set(err, CM_PERMANENT, "malformed", "%s: is missing", names[i]);
    cm_str_t customer = texts[CM_CONTACT_CUSTOMER_ID], deleted = texts[CM_CONTACT_DELETED_AT];
    cm_status_t status = cm_tenant_id_canonical(customer, ret_contact->customer_id, err);
    if (status != CM_OK)
        return cm_error_prefix(err, "%s", names[CM_CONTACT_CUSTOMER_ID]);
    if (!cm_str_to_i64(texts[CM_CONTACT_CONTACT_ID], &ret_contact->contact_id))
        return cm_error_set(err, CM_PERMANENT, "malformed", "contactId: is no 64-bit integer");
    cm_json_value_t time = {.type = is_integer(deleted) ? CM_JSON_NUMBER : CM_JSON_STRING,
                            .text = deleted};
    status = cm_json_time(&time, now_ms, &ret_contact->deleted_ms, err);
    return status == CM_OK ? CM_OK : cm_error_prefix(err, "%s", names[CM_CONTACT_DELETED_AT]);
}

/* ---- from JSON ------------------------------------------------------------------------------- */

typedef struct {
    cm_contact_t *contact;
    int64_t now_ms;
    bool has[CM_CONTACT_VALUES];
} decoder_t;

static cm_status_t on_value(void *ctx, const cm_json_value_t *value, cm_error_t *err)
{
    decoder_t *self = ctx;
    bool *has = self->has;
    if (value->depth != 1 || value->type == CM_JSON_END)
        return CM_OK;
    int which = cm_contact_column(value->key);
    if (which >= 0 && has[which])
        return cm_error_set(err, CM_PERMANENT, "malformed", "is there twice");
    if (which >= 0)
        has[which] = true;
    switch (which) {
    case CM_CONTACT_CUSTOMER_ID:
        return cm_event_tenant(value, self->contact->customer_id, err);
    case CM_CONTACT_CONTACT_ID:
        return cm_event_i64(value, &has[which], &self->contact->contact_id, err);
    case CM_CONTACT_DELETED_AT:
        return cm_json_time(value, self->now_ms, &self->contact->deleted_ms, err);
    default:
        return CM_OK;
    }
}

cm_status_t cm_contact_from_json(cm_str_t line, int64_t now_ms, cm_arena_t *arena,
                                 cm_contact_t *ret_contact, cm_error_t *err)
{
    *ret_contact = (cm_contact_t){0};
    decoder_t self = {.contact = ret_contact, .now_ms = now_ms};
    char unused[CM_TENANT_ID_MAX] = "";
    cm_status_t status = cm_event_read(line, arena, on_value, &self, unused, err);
    for (int i = 0; status == CM_OK && i < CM_CONTACT_VALUES; i++)
        if (!self.has[i])
            status = cm_error_set(err, CM_PERMANENT, "malformed", "%s: is missing", names[i]);
    return status;
}

/* ---- from CSV -------------------------------------------------------------------------------- */

static cm_status_t bad_csv(cm_error_t *err, const char *what)
{
    return cm_error_set(err, CM_PERMANENT, "malformed", "(line): %s", what);
}

/* A field in quotes at *at, which ends up behind it. Absent: the quotes do not end. */
static cm_str_t quoted_field(cm_str_t line, size_t *at, cm_arena_t *arena)
{
    char *text = cm_arena_alloc(arena, line.len - *at);
    size_t len = 0;
    for (size_t i = *at + 1; i < line.len; i++) {
        if (line.ptr[i] == '"') {
            if (i + 1 == line.len || line.ptr[i + 1] != '"') {
                *at = i + 1;
                return (cm_str_t){text, len};
            }
            i++;
        }
        text[len++] = line.ptr[i];
    }
    return CM_STR_NONE;
}

static cm_str_t plain_field(cm_str_t line, size_t *at)
{
    const char *start = line.ptr + *at, *comma = memchr(start, ',', line.len - *at);
    size_t len = comma ? (size_t)(comma - start) : line.len - *at;
    *at += len;
    return memchr(start, '"', len) ? CM_STR_NONE : (cm_str_t){start, len};
}

static cm_status_t split(cm_str_t line, cm_arena_t *arena, cm_str_t fields[CM_CONTACT_COLUMNS_MAX],
                         size_t *ret_count, cm_error_t *err)
{
    size_t at = 0, count = 0;
    for (;;) {
        if (count == CM_CONTACT_COLUMNS_MAX)
            return bad_csv(err, "too many fields");
        bool is_quoted = at < line.len && line.ptr[at] == '"';
        cm_str_t field = is_quoted ? quoted_field(line, &at, arena) : plain_field(line, &at);
        if (!field.ptr || (at < line.len && line.ptr[at] != ','))
            return bad_csv(err, "quotes within a field or without an end");
        fields[count++] = field;
        if (at == line.len)
            break;
        at++;
    }
    *ret_count = count;
    return CM_OK;
}

cm_status_t cm_contact_csv_head(cm_str_t line, cm_arena_t *arena, cm_contact_csv_t *ret_csv,
                                cm_error_t *err)
{
    cm_str_t fields[CM_CONTACT_COLUMNS_MAX];
    bool has[CM_CONTACT_VALUES] = {false};
    *ret_csv = (cm_contact_csv_t){0};
    cm_status_t status = split(line, arena, fields, &ret_csv->columns, err);
    for (size_t i = 0; status == CM_OK && i < ret_csv->columns; i++) {
        int which = cm_contact_column(fields[i]);
        if (which < 0)
            continue;
        if (has[which])
            return bad_csv(err, "a column is there twice");
        has[which] = true;
        ret_csv->column_of[which] = i;
    }
    for (int i = 0; status == CM_OK && i < CM_CONTACT_VALUES; i++)
        if (!has[i])
            status = cm_error_set(err, CM_PERMANENT, "malformed", "(line): no column %s", names[i]);
    return status;
}

cm_status_t cm_contact_from_csv(const cm_contact_csv_t *csv, cm_str_t line, int64_t now_ms,
                                cm_arena_t *arena, cm_contact_t *ret_contact, cm_error_t *err)
{
    cm_str_t fields[CM_CONTACT_COLUMNS_MAX], texts[CM_CONTACT_VALUES];
    size_t count = 0;
    cm_status_t status = split(line, arena, fields, &count, err);
    if (status != CM_OK)
        return status;
    if (count != csv->columns)
        return bad_csv(err, "not as many fields as columns");
    for (int i = 0; i < CM_CONTACT_VALUES; i++)
        texts[i] = fields[csv->column_of[i]].len ? fields[csv->column_of[i]] : CM_STR_NONE;
    return cm_contact_from_texts(texts, now_ms, ret_contact, err);
}
