#include "schema/dead_letter_erase.h"
#include "proto/letter_ids.h"
#include "runtime/cleanup.h"
#include "schema/pg_array.h"
#include "schema/sql.h"
#include "schema/text_array.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { PAGE = 50 };

/* ---- by their hashes ------------------------------------------------------------------------ */

/* clang-format off */
/* Scalar subqueries: the planner may read all letters for an EXISTS. */
const char cm_dead_letter_tenants_sql[] =
    "SELECT u.i, coalesce((SELECT true FROM @schema@.dead_letters AS l"
    " WHERE l.tenant = u.tenant AND l.unread LIMIT 1), false)"
    " FROM unnest($1) WITH ORDINALITY AS u(tenant, i)"
    " WHERE (SELECT true FROM @schema@.dead_letters AS l WHERE l.tenant = u.tenant LIMIT 1)";

#define OF(column, tenants, hashes, times)                                                         \
    "SELECT l.id FROM unnest(" tenants ", " hashes ", " times ") AS u(tenant, hash, until)"        \
    " JOIN @schema@.dead_letters AS l ON l.tenant = u.tenant AND l." column " = u.hash"            \
    " AND (l.event_at > u.until) IS NOT TRUE"
static const char erase_sql[] =
    "WITH gone AS (DELETE FROM @schema@.dead_letters WHERE id IN ("
    OF("contact_hash", "$1", "$2", "$3") " UNION ALL " OF("device_hash", "$4", "$5", "$6")
    ") RETURNING 1) SELECT count(*) FROM gone";
/* clang-format on */

static cm_erasure_hash_t contact_hash(const cm_erasure_t *erasure, size_t i)
{
    return cm_erasure_contact(erasure->key, erasure->contacts[i].contact_id);
}

static cm_erasure_hash_t device_hash(const cm_erasure_t *erasure, size_t i)
{
    const cm_erased_device_t *device = &erasure->devices[i];
    return cm_erasure_device(erasure->key, device->application_code, device->client_id);
}

static cm_erasure_hash_t token_hash(const cm_erasure_t *erasure, size_t i)
{
    const cm_erased_device_t *device = &erasure->devices[i];
    return cm_erasure_token(erasure->key, device->application_code, device->push_token);
}

/* Tenants, hashes, times: a column of the contacts of all erasures, then one of their devices with
 * the tokens that went. */
#define OF_CONTACTS(put)                                                                           \
    for (const cm_erasure_t *erasure = erasures; erasure < erasures + count; erasure++)            \
        for (size_t i = 0; i < erasure->contact_count; i++)                                        \
    put
#define OF_DEVICES(put_device, put_token)                                                          \
    for (const cm_erasure_t *erasure = erasures; erasure < erasures + count; erasure++)            \
        for (size_t i = 0; i < erasure->device_count; i++) {                                       \
            put_device;                                                                            \
            if (erasure->devices[i].push_token.ptr)                                                \
                put_token;                                                                         \
        }

static void put_hash(cm_pg_arrays_t *arrays, cm_erasure_hash_t hash)
{
    cm_pg_arrays_text(arrays, cm_erasure_hash_str(&hash));
}

static void bind_contacts(cm_pg_arrays_t *arrays, const cm_erasure_t *erasures, size_t count)
{
    size_t total = 0;
    for (size_t i = 0; i < count; i++)
        total += erasures[i].contact_count;
    cm_pg_arrays_open(arrays, CM_PG_TEXT, total);
    OF_CONTACTS(cm_pg_arrays_text(arrays, cm_str(erasure->tenant)));
    cm_pg_arrays_open(arrays, CM_PG_BYTEA, total);
    OF_CONTACTS(put_hash(arrays, contact_hash(erasure, i)));
    cm_pg_arrays_open(arrays, CM_PG_TIMESTAMPTZ, total);
    OF_CONTACTS(cm_pg_arrays_ms(arrays, erasure->contacts[i].deleted_ms));
}

static void bind_devices(cm_pg_arrays_t *arrays, const cm_erasure_t *erasures, size_t count)
{
    static const int64_t for_ever_ms = INT64_C(32503680000000); /* the token is gone */
    size_t total = 0;
    OF_DEVICES(total++, total++);
    cm_pg_arrays_open(arrays, CM_PG_TEXT, total);
    OF_DEVICES(cm_pg_arrays_text(arrays, cm_str(erasure->tenant)),
               cm_pg_arrays_text(arrays, cm_str(erasure->tenant)));
    cm_pg_arrays_open(arrays, CM_PG_BYTEA, total);
    OF_DEVICES(put_hash(arrays, device_hash(erasure, i)), put_hash(arrays, token_hash(erasure, i)));
    cm_pg_arrays_open(arrays, CM_PG_TIMESTAMPTZ, total);
    OF_DEVICES(cm_pg_arrays_ms(arrays, erasure->devices[i].removed_ms),
               cm_pg_arrays_ms(arrays, for_ever_ms));
}

/* Planned anew each time, as the table is now. */
static cm_status_t erase_known(cm_pg_t *pg, const char *admin_schema, const cm_erasure_t *erasures,
                               size_t count, int64_t *ret_erased, cm_error_t *err)
{
    CM_CLEANUP(cm_pg_arrays_destroy) cm_pg_arrays_t arrays = {0};
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t sql = {0};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    bind_contacts(&arrays, erasures, count);
    bind_devices(&arrays, erasures, count);
    cm_sql_in_schema(&sql, erase_sql, admin_schema);
    cm_pg_statement_t statement = cm_pg_arrays_statement(&arrays, NULL, cm_buffer_text(&sql));
    cm_status_t status = cm_pg_run(pg, &statement, &result, err);
    if (status == CM_OK)
        *ret_erased = cm_pg_binary_i64(result, 0, 0);
    return status;
}

/* ---- by their bytes ------------------------------------------------------------------------- */

static bool speaks_of(cm_str_t body, int64_t at_ms, const cm_erasure_t *erasure)
{
    for (size_t i = 0; i < erasure->contact_count; i++)
        if (at_ms <= erasure->contacts[i].deleted_ms &&
            cm_letter_mentions(body, erasure->contacts[i].contact_id))
            return true;
    for (size_t i = 0; i < erasure->device_count; i++) {
        const cm_erased_device_t *device = &erasure->devices[i];
        if ((at_ms <= device->removed_ms && cm_letter_quotes(body, device->client_id)) ||
            cm_letter_quotes(body, device->push_token))
            return true;
    }
    return false;
}

/* Add the ids of those letters of a page that speak of what is erased. */
static void search_page(const PGresult *page, const cm_erasure_t *erasure, cm_text_array_t *ids)
{
    for (int row = 0; row < PQntuples(page); row++) {
        size_t len = 0;
        unsigned char *bytes =
            PQunescapeBytea((const unsigned char *)cm_pg_text(page, row, 2), &len);
        if (!bytes)
            abort(); /* out of memory */
        if (speaks_of((cm_str_t){(const char *)bytes, len}, cm_pg_i64(page, row, 1), erasure))
            cm_text_array_add_i64(ids, cm_pg_i64(page, row, 0));
        PQfreemem(bytes);
    }
}

cm_status_t cm_dead_letter_erase_ids(cm_pg_t *pg, const char *admin_schema, const char *ids,
                                     int64_t *ret_erased, cm_error_t *err)
{
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    const char *values[] = {ids};
    cm_status_t status =
        cm_sql_query(pg,
                     "WITH gone AS (DELETE FROM @schema@.dead_letters"
                     " WHERE id = ANY ($1::bigint[]) RETURNING 1) SELECT count(*) FROM gone",
                     admin_schema, 1, values, &result, err);
    if (status == CM_OK)
        *ret_erased = cm_pg_i64(result, 0, 0);
    return status;
}

static cm_status_t erase_unread(cm_pg_t *pg, const char *admin_schema, const cm_erasure_t *erasure,
                                int64_t *erased, cm_error_t *err)
{
    char after[24] = "0", limit[24];
    snprintf(limit, sizeof limit, "%d", PAGE);
    CM_CLEANUP(cm_text_array_destroy) cm_text_array_t ids = {0};
    for (int rows = PAGE; rows == PAGE;) {
        const char *values[] = {erasure->tenant, after, limit};
        CM_CLEANUP(cm_pg_clear) PGresult *page = NULL;
        cm_status_t status = cm_sql_query(pg,
                                          "SELECT id, coalesce(" CM_SQL_TO_MS(
                                              "event_at") ", 0), body FROM @schema@.dead_letters"
                                                          " WHERE unread AND tenant = $1 AND id > "
                                                          "$2::bigint ORDER BY id LIMIT $3::bigint",
                                          admin_schema, 3, values, &page, err);
        if (status != CM_OK)
            return status;
        rows = PQntuples(page);
        search_page(page, erasure, &ids);
        if (rows > 0)
            snprintf(after, sizeof after, "%s", cm_pg_text(page, rows - 1, 0));
    }
    if (ids.count == 0)
        return CM_OK;
    int64_t found = 0;
    cm_status_t status =
        cm_dead_letter_erase_ids(pg, admin_schema, cm_text_array_end(&ids), &found, err);
    *erased += found;
    return status;
}

cm_status_t cm_dead_letter_erase(cm_pg_t *pg, const char *admin_schema,
                                 const cm_erasure_t *erasures, size_t count, int64_t *ret_erased,
                                 cm_error_t *err)
{
    *ret_erased = 0;
    cm_status_t status =
        count > 0 ? erase_known(pg, admin_schema, erasures, count, ret_erased, err) : CM_OK;
    for (size_t i = 0; status == CM_OK && i < count; i++)
        if (erasures[i].has_unread)
            status = erase_unread(pg, admin_schema, &erasures[i], ret_erased, err);
    return status;
}
