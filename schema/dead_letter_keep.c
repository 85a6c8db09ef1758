#include "proto/attributes.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "schema/dead_letter_fence.h"
#include "schema/pg_array.h"
#include "schema/sql.h"

#include <stdint.h>
#include <string.h>

enum { TEXT_MAX = 1024, ARENA_BLOCK_BYTES = 64 * 1024 };

/* ---- text that PostgreSQL takes ------------------------------------------------------------- */

/* For a column that one searches by; attributes may hold any bytes. '?' for what is no text,
 * control characters, too: these columns are shown. Cut at TEXT_MAX. Absent is "". */
static cm_str_t searchable(cm_arena_t *arena, cm_str_t text)
{
    char *copy = cm_arena_alloc(arena, (text.len < TEXT_MAX ? text.len : TEXT_MAX) + 4);
    size_t used = 0;
    for (size_t at = 0; at < text.len && used < TEXT_MAX;) {
        size_t size = cm_utf8_length(text.ptr + at, text.len - at);
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
    return known ? cm_arena_printf(arena, "%s", id) : CM_STR(""); /* with a NUL */
}

/* The origin that the message names, else where and as what it was found. */
static cm_str_t origin_of(cm_arena_t *arena, const cm_delivery_t *delivery, const char *name,
                          cm_str_t fallback)
{
    cm_str_t origin = attribute(delivery, name);
    return searchable(arena, origin.len ? origin : fallback);
}

/* Ids are drawn before the insert, so that the answer tells which of the deliveries are new: two
 * that are one conflict even inside the statement, and then the first is kept. $17 and $18 are all
 * attributes in one run, name, value, name, value, with the number of the delivery they belong to.
 *
 * gone: the fence cannot lock the row of a tenant that has none, so it may have been deleted since,
 * and purged. This statement has its lock on dead_letters before its snapshot: either the purge
 * waits for it, or it sees the deletion. */
static const char keep_sql[] =
    "WITH n AS MATERIALIZED (\n"
    " SELECT nextval('@schema@.dead_letters_id_seq') AS id, u.*, EXISTS (SELECT"
    " FROM @schema@.tenants AS t WHERE t.id = u.tenant AND t.state IN ('deleting', 'deleted')) AS "
    "gone"
    " FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)"
    " WITH ORDINALITY AS u("
    "tenant, class, code, message, topic, origin_topic, origin_id, first_failed, last_failed,"
    " retries, replays, body, device_hash, contact_hash, event_at, unread, i)\n"
    "), a AS MATERIALIZED (\n"
    " SELECT u.owner, array_agg(u.value ORDER BY u.k) AS attributes"
    " FROM unnest($17, $18) WITH ORDINALITY AS u(owner, value, k) GROUP BY u.owner\n"
    "), kept AS (\n"
    " INSERT INTO @schema@.dead_letters (id, tenant, error_class, error_code, error_message,"
    " errors_topic, origin_topic, origin_message_id, first_failed_at, last_failed_at, retry_count,"
    " kept_replay_count, replay_count, body, device_hash, contact_hash, event_at, unread,"
    " attributes)"
    " SELECT n.id, tenant, class, code, message, topic, origin_topic, origin_id, first_failed,"
    " last_failed, retries, replays, replays, body, device_hash, contact_hash, event_at,"
    " unread = 1, coalesce(a.attributes, '{}')"
    " FROM n LEFT JOIN a ON a.owner = n.i WHERE NOT gone ORDER BY n.i"
    " ON CONFLICT (origin_topic, origin_message_id, kept_replay_count, body_hash) DO NOTHING"
    " RETURNING id\n"
    ")\n"
    "SELECT n.i::integer, n.gone FROM n LEFT JOIN kept ON kept.id = n.id"
    " WHERE n.gone OR kept.id IS NOT NULL";

#define COLUMN(element, put)                                                                       \
    do {                                                                                           \
        cm_pg_arrays_open(arrays, element, count);                                                 \
        for (size_t i = 0; i < count; i++) {                                                       \
            const cm_delivery_t *delivery = letters[i].delivery;                                   \
            put;                                                                                   \
        }                                                                                          \
    } while (0)
#define TEXT(value) COLUMN(CM_PG_TEXT, cm_pg_arrays_text(arrays, value))

static void put_hash(cm_pg_arrays_t *arrays, bool has, const cm_erasure_hash_t *hash)
{
    cm_pg_arrays_text(arrays, has ? cm_erasure_hash_str(hash) : CM_STR_NONE);
}

static void bind_columns(cm_pg_arrays_t *arrays, cm_arena_t *arena, cm_str_t topic,
                         const cm_letter_t *letters, size_t count)
{
    int64_t now_ms = cm_clock_epoch_ms();
    COLUMN(CM_PG_TEXT, ((void)delivery, cm_pg_arrays_text(arrays, letters[i].tenant)));
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
    COLUMN(CM_PG_BYTEA,
           ((void)delivery, put_hash(arrays, letters[i].has_device, &letters[i].device)));
    COLUMN(CM_PG_BYTEA,
           ((void)delivery, put_hash(arrays, letters[i].has_contact, &letters[i].contact)));
    COLUMN(CM_PG_TIMESTAMPTZ, ((void)delivery, cm_pg_arrays_ms(arrays, letters[i].at_ms)));
    COLUMN(CM_PG_INT4, ((void)delivery, cm_pg_arrays_i32(arrays, !letters[i].ids.whole)));
}

static void bind_attributes(cm_pg_arrays_t *arrays, const cm_letter_t *letters, size_t count)
{
    size_t total = 0;
    for (size_t i = 0; i < count; i++)
        total += letters[i].delivery->attribute_count;
    cm_pg_arrays_open(arrays, CM_PG_INT8, 2 * total);
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < 2 * letters[i].delivery->attribute_count; k++)
            cm_pg_arrays_i64(arrays, (int64_t)i + 1);
    cm_pg_arrays_open(arrays, CM_PG_BYTEA, 2 * total);
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < letters[i].delivery->attribute_count; k++) {
            cm_str_t name = letters[i].delivery->attributes[k].name;
            cm_str_t value = letters[i].delivery->attributes[k].value;
            cm_pg_arrays_text(arrays, name.ptr ? name : CM_STR(""));
            cm_pg_arrays_text(arrays, value.ptr ? value : CM_STR(""));
        }
}

/* ---- keeping -------------------------------------------------------------------------------- */

/* What a letter is about, and when that was. */
static cm_letter_t letter_of(const cm_dead_letter_place_t *place, cm_arena_t *arena,
                             const cm_delivery_t *delivery, size_t index, int64_t now_ms)
{
    cm_letter_t letter = {.delivery = delivery,
                          .tenant = tenant_of(arena, delivery),
                          .index = index,
                          .result = CM_LETTER_KEPT_BEFORE};
    cm_letter_ids_t *ids = &letter.ids;
    cm_letter_ids_read(delivery->body, now_ms, arena, ids);
    int64_t published_ms = delivery->publish_ms > 0 ? delivery->publish_ms : now_ms;
    letter.at_ms =
        ids->at_ms ? ids->at_ms : time_of(delivery, CM_ATTRIBUTE_FIRST_FAILED_AT, published_ms);
    cm_erasure_key_t key =
        cm_erasure_tenant_key(place->erasure_key, letter.tenant.len ? letter.tenant.ptr : "");
    letter.has_contact = ids->has_contact_id;
    letter.contact = cm_erasure_contact(&key, ids->contact_id);
    letter.has_device = ids->application_code.len > 0 && (ids->client_id.len || ids->token.len);
    if (letter.has_device && ids->client_id.len)
        letter.device = cm_erasure_device(&key, ids->application_code, ids->client_id);
    else if (letter.has_device)
        letter.device = cm_erasure_token(&key, ids->application_code, ids->token);
    return letter;
}

static cm_status_t insert(cm_pg_t *pg, const cm_dead_letter_place_t *place, cm_arena_t *arena,
                          cm_str_t topic, cm_letter_t *letters, size_t count, cm_error_t *err)
{
    CM_CLEANUP(cm_pg_arrays_destroy) cm_pg_arrays_t arrays = {0};
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t sql = {0};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    bind_columns(&arrays, arena, topic, letters, count);
    bind_attributes(&arrays, letters, count);
    cm_sql_in_schema(&sql, keep_sql, place->admin_schema);
    cm_pg_statement_t statement = cm_pg_arrays_statement(&arrays, NULL, cm_buffer_text(&sql));
    statement.result_format = 0;
    cm_status_t status = cm_pg_run(pg, &statement, &result, err);
    for (int row = 0; status == CM_OK && row < PQntuples(result); row++) {
        size_t i = (size_t)cm_pg_i64(result, row, 0) - 1;
        if (i < count)
            letters[i].result =
                strcmp(cm_pg_text(result, row, 1), "t") == 0 ? CM_LETTER_DROPPED : CM_LETTER_KEPT;
    }
    return status;
}

/* Those that may be kept to the front, in the order they came; returns how many they are. */
static size_t select_kept(cm_letter_t *letters, size_t count, cm_letter_t *kept)
{
    size_t selected = 0;
    for (size_t i = 0; i < count; i++)
        if (letters[i].result == CM_LETTER_KEPT_BEFORE)
            kept[selected++] = letters[i];
    return selected;
}

static int by_index(const void *a, const void *b)
{
    const cm_letter_t *left = a, *right = b;
    return (left->index > right->index) - (left->index < right->index);
}

cm_status_t cm_dead_letter_keep(cm_pg_t *pg, const cm_dead_letter_place_t *place,
                                const char *errors_topic, const cm_delivery_t *deliveries,
                                size_t count, cm_letter_result_t *ret_results, cm_error_t *err)
{
    if (count == 0)
        return CM_OK;
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(ARENA_BLOCK_BYTES);
    cm_letter_t *letters = cm_arena_alloc(arena, count * sizeof *letters);
    cm_letter_t *kept = cm_arena_alloc(arena, count * sizeof *kept);
    int64_t now_ms = cm_clock_epoch_ms();
    for (size_t i = 0; i < count; i++)
        letters[i] = letter_of(place, arena, &deliveries[i], i, now_ms);
    size_t kept_count = 0;
    cm_status_t status = cm_pg_begin(pg, err);
    /* What is read must be newer than the locks, whatever the server's default is. */
    if (status == CM_OK)
        status = cm_pg_exec(pg, "SET TRANSACTION ISOLATION LEVEL READ COMMITTED", err);
    if (status == CM_OK)
        status = cm_dead_letter_fence(pg, place, letters, count, err);
    qsort(letters, count, sizeof *letters, by_index);
    if (status == CM_OK)
        kept_count = select_kept(letters, count, kept);
    if (status == CM_OK && kept_count > 0)
        status = insert(pg, place, arena, searchable(arena, cm_str(errors_topic)), kept, kept_count,
                        err);
    if (status == CM_OK)
        status = cm_pg_commit(pg, err);
    if (status != CM_OK) {
        cm_pg_rollback(pg);
        return status;
    }
    for (size_t i = 0; ret_results && i < count; i++)
        ret_results[i] = letters[i].result;
    for (size_t i = 0; ret_results && i < kept_count; i++)
        ret_results[kept[i].index] = kept[i].result;
    return CM_OK;
}
