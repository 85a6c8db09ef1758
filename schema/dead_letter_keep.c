#include "proto/attributes.h"
#include "proto/tenant_id.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "schema/dead_letter_store.h"
#include "schema/pg_array.h"
#include "schema/sql.h"

#include <stdint.h>
#include <string.h>

enum { TEXT_MAX = 1024, ARENA_BLOCK_BYTES = 64 * 1024 };

/* ---- text that PostgreSQL takes ------------------------------------------------------------- */

/* Length of the UTF-8 character at text, 0 when there is none that a text column takes. */
static size_t character_at(const unsigned char *text, size_t len)
{
    static const struct {
        unsigned char mask, lead;
        uint32_t least; /* below it, the form is too long for the character */
    } forms[] = {{0x80, 0x00, 1}, {0xe0, 0xc0, 0x80}, {0xf0, 0xe0, 0x800}, {0xf8, 0xf0, 0x10000}};
    for (size_t size = 1; size <= CM_LENGTH(forms) && size <= len; size++) {
        if ((text[0] & forms[size - 1].mask) != forms[size - 1].lead)
            continue;
        uint32_t code = text[0] & (unsigned char)~forms[size - 1].mask;
        for (size_t i = 1; i < size; i++) {
            if ((text[i] & 0xc0) != 0x80)
                return 0;
            code = code << 6 | (text[i] & 0x3f);
        }
        bool surrogate = code >= 0xd800 && code <= 0xdfff;
        return code >= forms[size - 1].least && code <= 0x10ffff && !surrogate ? size : 0;
    }
    return 0;
}

/* For a column that one searches by; attributes may hold any bytes. '?' for what is no text,
 * control characters, too: these columns are shown. Cut at TEXT_MAX. Absent is "". */
static cm_str_t searchable(cm_arena_t *arena, cm_str_t text)
{
    char *copy = cm_arena_alloc(arena, (text.len < TEXT_MAX ? text.len : TEXT_MAX) + 4);
    size_t used = 0;
    for (size_t at = 0; at < text.len && used < TEXT_MAX;) {
        size_t size = character_at((const unsigned char *)text.ptr + at, text.len - at);
        if (size == 0 || (size == 1 && ((unsigned char)text.ptr[at] < ' ' || text.ptr[at] == 127)))
            copy[used++] = '?';
        else
            used = (size_t)((char *)mempcpy(copy + used, text.ptr + at, size) - copy);
        at += size ? size : 1;
    }
    return (cm_str_t){copy, used};
}

/* ---- a delivery as a row -------------------------------------------------------------------- */

static cm_str_t attribute(const cm_delivery_t *delivery, const char *name)
{
    return cm_attribute_get(delivery->attributes, delivery->attribute_count, name);
}

static int32_t count_of(const cm_delivery_t *delivery, const char *name)
{
    int64_t value = cm_attribute_i64(delivery->attributes, delivery->attribute_count, name, 0);
    return value < 0 || value > INT32_MAX ? 0 : (int32_t)value;
}

/* A time in an attribute, which may hold anything; what no clock shows is not one. */
static int64_t time_of(const cm_delivery_t *delivery, const char *name, int64_t fallback)
{
    static const int64_t year_3000_ms = INT64_C(32503680000000);
    int64_t value =
        cm_attribute_i64(delivery->attributes, delivery->attribute_count, name, fallback);
    return value > 0 && value < year_3000_ms ? value : fallback;
}

static cm_str_t tenant_of(cm_arena_t *arena, const cm_delivery_t *delivery)
{
    char id[CM_TENANT_ID_MAX];
    cm_str_t named = attribute(delivery, CM_ATTRIBUTE_CUSTOMER_ID);
    bool known = (named.ptr && cm_tenant_id_canonical(named, id, NULL) == CM_OK) ||
                 cm_tenant_id_peek(delivery->body, id);
    return known ? cm_arena_copy(arena, cm_str(id)) : CM_STR("");
}

/* The origin that the message names, else where and as what it was found. */
static cm_str_t origin_of(cm_arena_t *arena, const cm_delivery_t *delivery, const char *name,
                          cm_str_t fallback)
{
    cm_str_t origin = attribute(delivery, name);
    return searchable(arena, origin.len ? origin : fallback);
}

/* Ids are drawn before the insert, so that the answer tells which of the deliveries are new: two
 * that are one conflict even inside the statement, and then the first is kept. $13 and $14 are all
 * attributes in one run, name, value, name, value, with the number of the delivery they belong to.
 */
static const char keep_sql[] =
    "WITH n AS MATERIALIZED (\n"
    " SELECT nextval('@schema@.dead_letters_id_seq') AS id, u.*"
    " FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) WITH ORDINALITY AS u("
    "tenant, class, code, message, topic, origin_topic, origin_id, first_failed, last_failed,"
    " retries, replays, body, i)\n"
    "), a AS MATERIALIZED (\n"
    " SELECT u.owner, array_agg(u.value ORDER BY u.k) AS attributes"
    " FROM unnest($13, $14) WITH ORDINALITY AS u(owner, value, k) GROUP BY u.owner\n"
    "), kept AS (\n"
    " INSERT INTO @schema@.dead_letters (id, tenant, error_class, error_code, error_message,"
    " errors_topic, origin_topic, origin_message_id, first_failed_at, last_failed_at, retry_count,"
    " kept_replay_count, replay_count, body, attributes)"
    " SELECT n.id, tenant, class, code, message, topic, origin_topic, origin_id, first_failed,"
    " last_failed, retries, replays, replays, body, coalesce(a.attributes, '{}')"
    " FROM n LEFT JOIN a ON a.owner = n.i ORDER BY n.i"
    " ON CONFLICT (origin_topic, origin_message_id, kept_replay_count, body_hash) DO NOTHING"
    " RETURNING id\n"
    ")\n"
    "SELECT n.i::integer FROM n JOIN kept ON kept.id = n.id";

#define COLUMN(element, put)                                                                       \
    do {                                                                                           \
        cm_pg_arrays_open(arrays, element, count);                                                 \
        for (size_t i = 0; i < count; i++) {                                                       \
            const cm_delivery_t *delivery = &deliveries[i];                                        \
            put;                                                                                   \
        }                                                                                          \
    } while (0)
#define TEXT(value) COLUMN(CM_PG_TEXT, cm_pg_arrays_text(arrays, value))

static void bind_columns(cm_pg_arrays_t *arrays, cm_arena_t *arena, cm_str_t topic,
                         const cm_delivery_t *deliveries, size_t count)
{
    int64_t now_ms = cm_clock_epoch_ms();
    TEXT(tenant_of(arena, delivery));
    TEXT(searchable(arena, attribute(delivery, CM_ATTRIBUTE_ERROR_CLASS)));
    TEXT(searchable(arena, attribute(delivery, CM_ATTRIBUTE_ERROR_CODE)));
    TEXT(searchable(arena, attribute(delivery, CM_ATTRIBUTE_ERROR_MESSAGE)));
    COLUMN(CM_PG_TEXT, ((void)delivery, cm_pg_arrays_text(arrays, topic)));
    TEXT(origin_of(arena, delivery, CM_ATTRIBUTE_ORIGIN_TOPIC, topic));
    TEXT(origin_of(arena, delivery, CM_ATTRIBUTE_ORIGIN_MESSAGE_ID, delivery->message_id));
    COLUMN(CM_PG_TIMESTAMPTZ,
           cm_pg_arrays_ms(arrays, time_of(delivery, CM_ATTRIBUTE_FIRST_FAILED_AT, CM_PG_MS_NONE)));
    COLUMN(
        CM_PG_TIMESTAMPTZ,
        cm_pg_arrays_ms(arrays, time_of(delivery, CM_ATTRIBUTE_LAST_FAILED_AT,
                                        delivery->publish_ms > 0 ? delivery->publish_ms : now_ms)));
    COLUMN(CM_PG_INT4, cm_pg_arrays_i32(arrays, count_of(delivery, CM_ATTRIBUTE_RETRY_COUNT)));
    COLUMN(CM_PG_INT4, cm_pg_arrays_i32(arrays, count_of(delivery, CM_ATTRIBUTE_REPLAY_COUNT)));
    COLUMN(CM_PG_BYTEA,
           cm_pg_arrays_text(arrays, delivery->body.ptr ? delivery->body : CM_STR("")));
}

static void bind_attributes(cm_pg_arrays_t *arrays, const cm_delivery_t *deliveries, size_t count)
{
    size_t total = 0;
    for (size_t i = 0; i < count; i++)
        total += deliveries[i].attribute_count;
    cm_pg_arrays_open(arrays, CM_PG_INT8, 2 * total);
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < 2 * deliveries[i].attribute_count; k++)
            cm_pg_arrays_i64(arrays, (int64_t)i + 1);
    cm_pg_arrays_open(arrays, CM_PG_BYTEA, 2 * total);
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < deliveries[i].attribute_count; k++) {
            cm_str_t name = deliveries[i].attributes[k].name;
            cm_str_t value = deliveries[i].attributes[k].value;
            cm_pg_arrays_text(arrays, name.ptr ? name : CM_STR(""));
            cm_pg_arrays_text(arrays, value.ptr ? value : CM_STR(""));
        }
}

typedef struct {
    bool *is_new; /* may be NULL */
    size_t count;
} answer_t;

static void take_answer(void *ctx, size_t index, cm_status_t status, const PGresult *result,
                        const cm_error_t *err)
{
    (void)index;
    (void)err; /* wait tells it, too */
    answer_t *self = ctx;
    if (status != CM_OK || !self->is_new)
        return;
    for (int row = 0; row < PQntuples(result); row++) {
        size_t i = (size_t)cm_pg_i64(result, row, 0) - 1;
        if (i < self->count)
            self->is_new[i] = true;
    }
}

cm_status_t cm_dead_letter_keep(cm_pg_t *pg, const char *admin_schema, const char *errors_topic,
                                const cm_delivery_t *deliveries, size_t count, bool *ret_new,
                                cm_error_t *err)
{
    if (count == 0)
        return CM_OK;
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(ARENA_BLOCK_BYTES);
    CM_CLEANUP(cm_pg_arrays_destroy) cm_pg_arrays_t arrays = {0};
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t sql = {0};
    answer_t answer = {ret_new, count};
    if (ret_new)
        memset(ret_new, 0, count * sizeof *ret_new);
    bind_columns(&arrays, arena, searchable(arena, cm_str(errors_topic)), deliveries, count);
    bind_attributes(&arrays, deliveries, count);
    cm_sql_in_schema(&sql, keep_sql, admin_schema);
    cm_pg_statement_t statement =
        cm_pg_arrays_statement(&arrays, "dead letters keep", cm_buffer_text(&sql));
    statement.result_format = 0;
    int failed = -1;
    cm_status_t status = cm_pg_pipeline_begin(pg, take_answer, &answer, err);
    if (status == CM_OK)
        status = cm_pg_pipeline_add(pg, &statement, err);
    if (status == CM_OK)
        status = cm_pg_pipeline_send(pg, err);
    return status == CM_OK ? cm_pg_pipeline_wait(pg, &failed, err) : status;
}
