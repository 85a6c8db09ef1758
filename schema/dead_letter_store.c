#include "schema/dead_letter_store.h"
#include "runtime/buffer.h"
#include "runtime/cleanup.h"
#include "schema/sql.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { VALUES_MAX = 8, ROOM = 24 };

/* ---- which ---------------------------------------------------------------------------------- */

/* A statement that grows: the conditions that a filter sets and no others, so that each finds its
 * index. */
typedef struct {
    cm_buffer_t sql;
    const char *values[VALUES_MAX];
    char room[VALUES_MAX][ROOM];
    int count;
} query_t;

static void query_destroy(query_t *self)
{
    cm_buffer_destroy(&self->sql);
}

static void append(query_t *self, const char *text)
{
    cm_buffer_append(&self->sql, text, strlen(text));
}

/* "before", the next parameter, "after". */
static void append_value(query_t *self, const char *before, const char *value, const char *after)
{
    assert(self->count < VALUES_MAX);
    self->values[self->count++] = value;
    append(self, before);
    cm_buffer_printf(&self->sql, "$%d", self->count);
    append(self, after);
}

static void append_text(query_t *self, const char *column, const char *value)
{
    if (!value || !*value)
        return;
    append(self, self->count ? " AND " : " WHERE ");
    append(self, column);
    append_value(self, " = ", value, "");
}

static const char *number(query_t *self, int64_t value)
{
    snprintf(self->room[self->count], ROOM, "%" PRId64, value);
    return self->room[self->count];
}

static void append_number(query_t *self, const char *before, int64_t value, const char *after)
{
    if (value == 0)
        return;
    append(self, self->count ? " AND " : " WHERE ");
    append_value(self, before, number(self, value), after);
}

static void append_filter(query_t *self, const cm_dead_letter_filter_t *filter)
{
    append_text(self, "tenant", filter->tenant);
    append_text(self, "error_class", filter->error_class);
    append_text(self, "error_code", filter->error_code);
    append_number(self, "last_failed_at >= 'epoch'::timestamptz + ", filter->since_ms,
                  "::bigint * interval '1 millisecond'");
    append_number(self, "last_failed_at < 'epoch'::timestamptz + ", filter->until_ms,
                  "::bigint * interval '1 millisecond'");
    append_number(self, "id = ", filter->id, "");
    append_number(self, "id > ", filter->after_id, "");
}

static cm_status_t run(query_t *self, cm_pg_t *pg, const char *schema, PGresult **ret_result,
                       cm_error_t *err)
{
    return cm_sql_query(pg, cm_buffer_text(&self->sql), schema, self->count, self->values,
                        ret_result, err);
}

/* ---- find ----------------------------------------------------------------------------------- */

static cm_str_t text_of(const PGresult *result, int row, int column, cm_arena_t *arena)
{
    return cm_arena_copy(arena, (cm_str_t){PQgetvalue(result, row, column),
                                           (size_t)PQgetlength(result, row, column)});
}

/* The bytes of a bytea in its text form; text is NUL-terminated. */
static cm_str_t bytes_of(const char *text, cm_arena_t *arena)
{
    size_t len = 0;
    unsigned char *bytes = PQunescapeBytea((const unsigned char *)text, &len);
    if (!bytes)
        abort(); /* out of memory */
    cm_str_t copy = cm_arena_copy(arena, (cm_str_t){(const char *)bytes, len});
    PQfreemem(bytes);
    return copy;
}

/* From one text: the attributes as bytea, in the order kept, each ended by a line feed. */
static void read_attributes(cm_dead_letter_t *item, const char *text, cm_arena_t *arena)
{
    size_t lines = 0;
    for (const char *c = text; *c; c++)
        lines += *c == '\n';
    cm_attribute_t *attributes = cm_arena_alloc(arena, lines / 2 * sizeof *attributes);
    cm_str_t copy = cm_arena_copy(arena, cm_str(text));
    char *rest = NULL, *line = strtok_r((char *)copy.ptr, "\n", &rest);
    for (size_t i = 0; i < lines / 2; i++) {
        attributes[i].name = bytes_of(line, arena);
        attributes[i].value = bytes_of(strtok_r(NULL, "\n", &rest), arena);
        line = strtok_r(NULL, "\n", &rest);
    }
    item->attributes = attributes;
    item->attribute_count = lines / 2;
}

/* clang-format off */
#define COLUMNS                                                                                    \
    "id, tenant, error_class, error_code, error_message, origin_topic, origin_message_id, "        \
    CM_SQL_TO_MS("first_failed_at") ", " CM_SQL_TO_MS("last_failed_at") ", "                       \
    CM_SQL_TO_MS("kept_at") ", " CM_SQL_TO_MS("replayed_at") ", retry_count, replay_count"
#define BODY_COLUMNS                                                                               \
    ", body, (SELECT string_agg(a.value::text || E'\\n', '' ORDER BY a.i)"                         \
    " FROM unnest(attributes) WITH ORDINALITY AS a(value, i))"
/* clang-format on */

static void read_item(cm_dead_letter_t *item, const PGresult *result, int row, bool with_body,
                      cm_arena_t *arena)
{
    *item = (cm_dead_letter_t){
        .id = cm_pg_i64(result, row, 0),
        .tenant = text_of(result, row, 1, arena),
        .error_class = text_of(result, row, 2, arena),
        .error_code = text_of(result, row, 3, arena),
        .error_message = text_of(result, row, 4, arena),
        .origin_topic = text_of(result, row, 5, arena),
        .origin_message_id = text_of(result, row, 6, arena),
        .first_failed_ms = cm_pg_i64(result, row, 7),
        .last_failed_ms = cm_pg_i64(result, row, 8),
        .kept_ms = cm_pg_i64(result, row, 9),
        .replayed_ms = cm_pg_i64(result, row, 10),
        .retry_count = (int)cm_pg_i64(result, row, 11),
        .replay_count = (int)cm_pg_i64(result, row, 12),
    };
    if (!with_body)
        return;
    item->body = bytes_of(PQgetvalue(result, row, 13), arena);
    read_attributes(item, PQgetvalue(result, row, 14), arena);
}

cm_status_t cm_dead_letter_list(cm_pg_t *pg, const char *admin_schema,
                                const cm_dead_letter_filter_t *filter, bool with_body,
                                cm_arena_t *arena, cm_dead_letter_t **ret_items, size_t *ret_count,
                                cm_error_t *err)
{
    CM_CLEANUP(query_destroy) query_t query = {0};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    append(&query, with_body ? "SELECT " COLUMNS BODY_COLUMNS : "SELECT " COLUMNS);
    append(&query, " FROM @schema@.dead_letters");
    append_filter(&query, filter);
    append(&query, " ORDER BY id");
    if (filter->limit > 0 && filter->limit < INT64_MAX)
        append_value(&query, " LIMIT ", number(&query, (int64_t)filter->limit), "::bigint");
    cm_status_t status = run(&query, pg, admin_schema, &result, err);
    if (status != CM_OK)
        return status;
    *ret_count = (size_t)PQntuples(result);
    *ret_items = cm_arena_alloc(arena, *ret_count * sizeof **ret_items);
    for (size_t i = 0; i < *ret_count; i++)
        read_item(&(*ret_items)[i], result, (int)i, with_body, arena);
    return CM_OK;
}

cm_status_t cm_dead_letter_count(cm_pg_t *pg, const char *admin_schema,
                                 const cm_dead_letter_filter_t *filter, int64_t *ret_count,
                                 cm_error_t *err)
{
    CM_CLEANUP(query_destroy) query_t query = {0};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    append(&query, "SELECT count(*) FROM @schema@.dead_letters");
    append_filter(&query, filter);
    cm_status_t status = run(&query, pg, admin_schema, &result, err);
    if (status == CM_OK)
        *ret_count = cm_pg_i64(result, 0, 0);
    return status;
}

/* ---- change --------------------------------------------------------------------------------- */

cm_status_t cm_dead_letter_mark_replayed(cm_pg_t *pg, const char *admin_schema, int64_t id,
                                         cm_error_t *err)
{
    char text[ROOM], most[ROOM];
    const char *values[] = {text, most};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    snprintf(text, sizeof text, "%" PRId64, id);
    snprintf(most, sizeof most, "%d", CM_DEAD_LETTER_REPLAYS_MAX);
    cm_status_t status = cm_sql_query(
        pg,
        "WITH found AS (SELECT FROM @schema@.dead_letters WHERE id = $1), marked AS ("
        "UPDATE @schema@.dead_letters SET replay_count = replay_count + 1, replayed_at = now()"
        " WHERE id = $1 AND replay_count < $2 RETURNING id)"
        " SELECT EXISTS (SELECT FROM found), EXISTS (SELECT FROM marked)",
        admin_schema, 2, values, &result, err);
    if (status != CM_OK || strcmp(cm_pg_text(result, 0, 1), "t") == 0)
        return status;
    if (strcmp(cm_pg_text(result, 0, 0), "t") != 0)
        return cm_error_set(err, CM_PERMANENT, "not-found", "there is no dead letter %" PRId64, id);
    return cm_error_set(err, CM_PERMANENT, "replayed-out",
                        "dead letter %" PRId64 " was replayed %d times", id,
                        CM_DEAD_LETTER_REPLAYS_MAX);
}

cm_status_t cm_dead_letter_purge(cm_pg_t *pg, const char *admin_schema,
                                 const cm_dead_letter_filter_t *filter, int64_t *ret_deleted,
                                 cm_error_t *err)
{
    CM_CLEANUP(query_destroy) query_t query = {0};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    append(&query, "WITH gone AS (DELETE FROM @schema@.dead_letters WHERE id IN"
                   " (SELECT id FROM @schema@.dead_letters");
    append_filter(&query, filter);
    if (filter->limit > 0 && filter->limit < INT64_MAX)
        append_value(&query, " ORDER BY id LIMIT ", number(&query, (int64_t)filter->limit),
                     "::bigint");
    append(&query, ") RETURNING 1) SELECT count(*) FROM gone");
    cm_status_t status = run(&query, pg, admin_schema, &result, err);
    if (status == CM_OK)
        *ret_deleted = cm_pg_i64(result, 0, 0);
    return status;
}
