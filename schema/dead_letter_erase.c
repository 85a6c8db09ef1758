#include "schema/dead_letter_erase.h"
#include "proto/letter_ids.h"
#include "runtime/cleanup.h"
#include "schema/sql.h"
#include "schema/text_array.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { PAGE = 50 };

/* ---- by their hashes ------------------------------------------------------------------------ */

/* clang-format off */
#define OF(column, hashes, times)                                                                  \
    "SELECT l.id FROM unnest(" hashes "::bytea[], " times "::bigint[]) AS u(hash, ms)"             \
    " JOIN @schema@.dead_letters AS l ON l.tenant = $1 AND l." column " = u.hash"                  \
    " AND (l.event_at > " CM_SQL_FROM_MS("u.ms") ") IS NOT TRUE"
static const char erase_sql[] =
    "WITH gone AS (DELETE FROM @schema@.dead_letters WHERE id IN ("
    OF("contact_hash", "$2", "$3") " UNION ALL " OF("device_hash", "$4", "$5")
    ") RETURNING 1) SELECT count(*) FROM gone";
/* clang-format on */

static cm_status_t erase_known(cm_pg_t *pg, const char *admin_schema, const cm_erasure_t *erasure,
                               int64_t *ret_erased, cm_error_t *err)
{
    CM_CLEANUP(cm_text_array_destroy) cm_text_array_t contacts = {0};
    CM_CLEANUP(cm_text_array_destroy) cm_text_array_t contact_times = {0};
    CM_CLEANUP(cm_text_array_destroy) cm_text_array_t devices = {0};
    CM_CLEANUP(cm_text_array_destroy) cm_text_array_t device_times = {0};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    for (size_t i = 0; i < erasure->contact_count; i++) {
        const cm_erased_contact_t *contact = &erasure->contacts[i];
        cm_erasure_hash_t hash = cm_erasure_contact(erasure->key, contact->contact_id);
        cm_text_array_add_bytes(&contacts, cm_erasure_hash_str(&hash));
        cm_text_array_add_i64(&contact_times, contact->deleted_ms);
    }
    for (size_t i = 0; i < erasure->device_count; i++) {
        const cm_erased_device_t *device = &erasure->devices[i];
        cm_erasure_hash_t hash =
            cm_erasure_device(erasure->key, device->application_code, device->client_id);
        cm_text_array_add_bytes(&devices, cm_erasure_hash_str(&hash));
        cm_text_array_add_i64(&device_times, device->removed_ms);
        if (!device->push_token.ptr)
            continue;
        hash = cm_erasure_token(erasure->key, device->application_code, device->push_token);
        cm_text_array_add_bytes(&devices, cm_erasure_hash_str(&hash));
        cm_text_array_add_i64(&device_times, INT64_C(32503680000000)); /* the token is gone */
    }
    const char *values[] = {erasure->tenant, cm_text_array_end(&contacts),
                            cm_text_array_end(&contact_times), cm_text_array_end(&devices),
                            cm_text_array_end(&device_times)};
    cm_status_t status = cm_sql_query(pg, erase_sql, admin_schema, 5, values, &result, err);
    if (status == CM_OK)
        *ret_erased = cm_pg_i64(result, 0, 0);
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

cm_status_t cm_dead_letter_erase(cm_pg_t *pg, const char *admin_schema, const cm_erasure_t *erasure,
                                 int64_t *ret_erased, cm_error_t *err)
{
    *ret_erased = 0;
    cm_status_t status = erase_known(pg, admin_schema, erasure, ret_erased, err);
    return status == CM_OK ? erase_unread(pg, admin_schema, erasure, ret_erased, err) : status;
}
