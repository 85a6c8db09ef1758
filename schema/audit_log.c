#include "schema/audit_log.h"
#include "runtime/buffer.h"
#include "runtime/cleanup.h"
#include "schema/sql.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { PAGE_ROWS = 2000, NUMBER_MAX = 24, HEX_HASH_MAX = 2 * CM_AUDIT_HASH_BYTES + 3 };

#define TO_US(time) "(extract(epoch FROM " time ") * 1000000)::bigint"

static int nibble(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* A bytea in its text form, "\x" and 64 digits; false when it is anything else. */
static bool read_hash(const PGresult *result, int row, int column,
                      unsigned char hash[CM_AUDIT_HASH_BYTES])
{
    const char *text = PQgetvalue(result, row, column);
    if (PQgetlength(result, row, column) != HEX_HASH_MAX - 1 || text[0] != '\\' || text[1] != 'x')
        return false;
    for (size_t i = 0; i < CM_AUDIT_HASH_BYTES; i++) {
        int high = nibble(text[2 + 2 * i]), low = nibble(text[3 + 2 * i]);
        if (high < 0 || low < 0)
            return false;
        hash[i] = (unsigned char)(high << 4 | low);
    }
    return true;
}

static void write_hash(const unsigned char hash[CM_AUDIT_HASH_BYTES], char text[HEX_HASH_MAX])
{
    memcpy(text, "\\x", 2);
    for (size_t i = 0; i < CM_AUDIT_HASH_BYTES; i++)
        snprintf(text + 2 + 2 * i, 3, "%02x", hash[i]);
}

/* ---- append --------------------------------------------------------------------------------- */

/* Two statements: what the second one sees is newer than the lock. */
static cm_status_t lock_end(cm_pg_t *pg, const char *schema, PGresult **ret_end, cm_error_t *err)
{
    const char *values[] = {schema};
    cm_status_t status =
        cm_pg_query(pg, "SELECT pg_advisory_xact_lock(hashtextextended('cm-audit:' || $1, 0))", 1,
                    values, NULL, err);
    if (status != CM_OK)
        return status;
    return cm_sql_query(pg,
                        "SELECT current_setting('transaction_isolation'), " //
                        TO_US("clock_timestamp()") ", a.position, a.hash, a.key_id"
                                                   " FROM (VALUES (true)) AS one LEFT JOIN (SELECT "
                                                   "position, hash, key_id"
                                                   " FROM @schema@.audit_log ORDER BY position "
                                                   "DESC LIMIT 1) AS a ON true",
                        schema, 0, NULL, ret_end, err);
}

static cm_status_t refuse_key(const char *theirs, const char *ours, cm_error_t *err)
{
    if (!*theirs || strcmp(theirs, ours) == 0)
        return CM_OK;
    return *ours
               ? cm_error_set(err, CM_MISCONFIGURED, "audit-key",
                              "the audit log is kept with key %.16s, audit.key is key %s", theirs,
                              ours)
               : cm_error_set(err, CM_MISCONFIGURED, "audit-key",
                              "the audit log is kept with key %.16s, audit.key is not set", theirs);
}

static cm_status_t read_end(const PGresult *end, const char *key_id, cm_audit_row_t *row,
                            cm_error_t *err)
{
    if (strcmp(cm_pg_text(end, 0, 0), "read committed") != 0)
        return cm_error_set(err, CM_PERMANENT, "audit-isolation",
                            "an audit entry wants a transaction that is read committed, not %s",
                            cm_pg_text(end, 0, 0));
    row->at_us = cm_pg_i64(end, 0, 1);
    row->position = cm_pg_i64(end, 0, 2) + 1;
    if (row->position > 1 && !read_hash(end, 0, 3, row->previous_hash))
        return cm_error_set(err, CM_PERMANENT, "audit-damaged",
                            "the last row of the audit log has no hash");
    return refuse_key(cm_pg_text(end, 0, 4), key_id, err);
}

static cm_status_t insert(cm_pg_t *pg, const char *schema, const cm_audit_row_t *row,
                          const cm_audit_entry_t *entry, cm_error_t *err)
{
    char position[NUMBER_MAX], at[NUMBER_MAX], generation[NUMBER_MAX];
    char previous[HEX_HASH_MAX], hash[HEX_HASH_MAX];
    snprintf(position, sizeof position, "%" PRId64, row->position);
    snprintf(at, sizeof at, "%" PRId64, row->at_us);
    snprintf(generation, sizeof generation, "%" PRId64, row->generation);
    write_hash(row->previous_hash, previous);
    write_hash(row->hash, hash);
    const char *values[] = {position,        at,         entry->actor,    entry->action,
                            row->tenant.ptr, generation, row->detail.ptr, row->key_id.ptr,
                            previous,        hash};
    return cm_sql_query(pg,
                        "INSERT INTO @schema@.audit_log (position, at, actor, action, tenant,"
                        " generation, detail, key_id, previous_hash, hash) VALUES ($1,"
                        " 'epoch'::timestamptz + $2::bigint * interval '1 microsecond',"
                        " $3, $4, $5, $6, $7, $8, $9, $10)",
                        schema, CM_LENGTH(values), values, NULL, err);
}

static cm_str_t text_or(const char *text, const char *otherwise)
{
    return cm_str(text && *text ? text : otherwise);
}

cm_status_t cm_audit_append(cm_pg_t *pg, const char *admin_schema, const char *key,
                            const cm_audit_entry_t *entry, cm_audit_head_t *ret_head,
                            cm_error_t *err)
{
    assert(!cm_pg_is_connected(pg) || PQtransactionStatus(cm_pg_raw(pg)) != PQTRANS_IDLE);
    CM_CLEANUP(cm_audit_chain_destroy) cm_audit_chain_t *chain = cm_audit_chain_new(key);
    CM_CLEANUP(cm_pg_clear) PGresult *end = NULL;
    cm_audit_row_t row = {.actor = cm_str(entry->actor),
                          .action = cm_str(entry->action),
                          .tenant = text_or(entry->tenant, ""),
                          .generation = entry->generation,
                          .detail = text_or(entry->detail, "{}"),
                          .key_id = cm_str(cm_audit_chain_key_id(chain))};
    cm_status_t status = lock_end(pg, admin_schema, &end, err);
    if (status == CM_OK)
        status = read_end(end, cm_audit_chain_key_id(chain), &row, err);
    if (status != CM_OK)
        return status;
    cm_audit_chain_hash(chain, &row, row.hash);
    status = insert(pg, admin_schema, &row, entry, err);
    if (status == CM_OK && ret_head) {
        ret_head->position = row.position;
        memcpy(ret_head->hash, row.hash, sizeof row.hash);
    }
    return status;
}

/* ---- read ----------------------------------------------------------------------------------- */

enum { POSITION, AT, ACTOR, ACTION, TENANT, GENERATION, DETAIL, KEY_ID, PREVIOUS, HASH, COLUMNS };

/* A time that is no number was never written: NULL then, and so damaged. */
#define COLUMN_LIST                                                                                \
    "position, CASE WHEN isfinite(at) THEN " TO_US(                                                \
        "at") " END, actor, action, tenant,"                                                       \
              " generation, detail, key_id, previous_hash, hash"

static cm_str_t text_of(const PGresult *result, int row, int column)
{
    return (cm_str_t){PQgetvalue(result, row, column), (size_t)PQgetlength(result, row, column)};
}

static void read_row(const PGresult *result, int row, cm_audit_row_t *ret_row)
{
    *ret_row = (cm_audit_row_t){
        .position = cm_pg_i64(result, row, POSITION),
        .at_us = cm_pg_i64(result, row, AT),
        .generation = cm_pg_i64(result, row, GENERATION),
        .actor = text_of(result, row, ACTOR),
        .action = text_of(result, row, ACTION),
        .tenant = text_of(result, row, TENANT),
        .detail = text_of(result, row, DETAIL),
        .key_id = text_of(result, row, KEY_ID),
    };
    bool good = read_hash(result, row, PREVIOUS, ret_row->previous_hash) &&
                read_hash(result, row, HASH, ret_row->hash);
    for (int column = 0; column < COLUMNS; column++)
        good &= !PQgetisnull(result, row, column);
    ret_row->damaged = !good;
}

/* "WHERE" or "AND", the condition, its parameter. */
static void append_condition(cm_buffer_t *sql, int *count, const char **values,
                             const char *condition, const char *value)
{
    values[(*count)++] = value;
    cm_buffer_printf(sql, *count == 1 ? " WHERE %s$%d" : " AND %s$%d", condition, *count);
}

static void append_time(cm_buffer_t *sql, int *count, const char **values, const char *operation,
                        int64_t ms, char room[NUMBER_MAX])
{
    char condition[80];
    if (ms == 0)
        return;
    snprintf(room, NUMBER_MAX, "%" PRId64, ms);
    snprintf(condition, sizeof condition,
             "at %s 'epoch'::timestamptz + interval '1 millisecond' * ", operation);
    append_condition(sql, count, values, condition, room);
    cm_buffer_append(sql, "::bigint", strlen("::bigint"));
}

static cm_status_t declare(cm_pg_t *pg, const char *schema, const cm_audit_filter_t *filter,
                           cm_error_t *err)
{
    static const char select[] =
        "DECLARE audit_rows NO SCROLL CURSOR FOR SELECT " COLUMN_LIST " FROM @schema@.audit_log";
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t sql = {0};
    char since[NUMBER_MAX], until[NUMBER_MAX];
    const char *values[4];
    int count = 0;
    cm_buffer_append(&sql, select, sizeof select - 1);
    if (filter->tenant && *filter->tenant)
        append_condition(&sql, &count, values, "tenant = ", filter->tenant);
    if (filter->action && *filter->action)
        append_condition(&sql, &count, values, "action = ", filter->action);
    append_time(&sql, &count, values, ">=", filter->since_ms, since);
    append_time(&sql, &count, values, "<", filter->until_ms, until);
    cm_buffer_printf(&sql, " ORDER BY position%s", filter->newest_first ? " DESC" : "");
    if (filter->limit > 0)
        cm_buffer_printf(&sql, " LIMIT %" PRId64, filter->limit);
    cm_status_t status =
        cm_pg_exec(pg,
                   "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;"
                   "SET LOCAL idle_in_transaction_session_timeout = 0", /* a pager waits for you */
                   err);
    if (status == CM_OK)
        status = cm_sql_query(pg, cm_buffer_text(&sql), schema, count, values, NULL, err);
    return status;
}

static cm_status_t fetch_all(cm_pg_t *pg, bool (*on_row)(void *ctx, const cm_audit_row_t *row),
                             void *ctx, cm_error_t *err)
{
    char sql[48];
    snprintf(sql, sizeof sql, "FETCH %d FROM audit_rows", PAGE_ROWS);
    for (;;) {
        CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
        cm_status_t status = cm_pg_query(pg, sql, 0, NULL, &result, err);
        if (status != CM_OK)
            return status;
        int rows = PQntuples(result);
        for (int i = 0; i < rows; i++) {
            cm_audit_row_t row;
            read_row(result, i, &row);
            if (!on_row(ctx, &row))
                return CM_OK;
        }
        if (rows < PAGE_ROWS)
            return CM_OK;
    }
}

cm_status_t cm_audit_each(cm_pg_t *pg, const char *admin_schema, const cm_audit_filter_t *filter,
                          bool (*on_row)(void *ctx, const cm_audit_row_t *row), void *ctx,
                          cm_error_t *err)
{
    cm_status_t status = cm_pg_begin(pg, err);
    if (status == CM_OK)
        status = declare(pg, admin_schema, filter, err);
    if (status == CM_OK)
        status = fetch_all(pg, on_row, ctx, err);
    if (status == CM_OK)
        status = cm_pg_commit(pg, err);
    if (status != CM_OK)
        cm_pg_rollback(pg);
    return status;
}
