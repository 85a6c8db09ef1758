#include "schema/erasure_late.h"
#include "proto/erasure_hash.h"
#include "proto/tenant_id.h"
#include "runtime/cleanup.h"
#include "schema/dead_letter_erase.h"
#include "schema/sql.h"
#include "schema/text_array.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_MAX = 1025, LETTERS_AT_ONCE = 20000, NUMBER_MAX = 24 };
#define TOMBSTONES_AT_ONCE "5000"

typedef struct {
    cm_erasure_hash_t hash;
    int64_t id, at_ms;
} letter_t;

typedef struct {
    cm_pg_t *pg;
    const char *admin_schema, *tenant;
    char schema[CM_TENANT_SCHEMA_MAX];
    cm_erasure_key_t key;
    int64_t last_id;   /* of the letters read so far */
    letter_t *letters; /* of this page, sorted by hash */
    size_t count;
    cm_text_array_t ids; /* of letters to erase */
} late_t;

static void late_end(late_t *self)
{
    cm_free(&self->letters);
    cm_text_array_destroy(&self->ids);
}

static int by_hash(const void *a, const void *b)
{
    return memcmp(((const letter_t *)a)->hash.bytes, ((const letter_t *)b)->hash.bytes,
                  CM_ERASURE_HASH_BYTES);
}

static cm_status_t read_letters(late_t *self, cm_error_t *err)
{
    char last_id[NUMBER_MAX], limit[NUMBER_MAX];
    snprintf(last_id, sizeof last_id, "%" PRId64, self->last_id);
    snprintf(limit, sizeof limit, "%d", LETTERS_AT_ONCE);
    const char *values[] = {self->tenant, last_id, limit};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_status_t status = cm_sql_query(
        self->pg,
        "SELECT id, coalesce(" CM_SQL_TO_MS(
            "event_at") ", 0), device_hash"
                        " FROM @schema@.dead_letters WHERE tenant = $1 AND device_hash IS NOT NULL"
                        " AND id > $2::bigint ORDER BY id LIMIT $3::bigint",
        self->admin_schema, 3, values, &result, err);
    self->count = 0;
    if (status != CM_OK || PQntuples(result) == 0)
        return status;
    if (!self->letters && !(self->letters = calloc(LETTERS_AT_ONCE, sizeof *self->letters)))
        abort();
    self->last_id = cm_pg_i64(result, PQntuples(result) - 1, 0);
    for (int row = 0; row < PQntuples(result); row++) {
        letter_t *letter = &self->letters[self->count++];
        size_t len = 0;
        unsigned char *bytes =
            PQunescapeBytea((const unsigned char *)cm_pg_text(result, row, 2), &len);
        if (!bytes)
            abort();
        letter->id = cm_pg_i64(result, row, 0);
        letter->at_ms = cm_pg_i64(result, row, 1);
        memcpy(letter->hash.bytes, bytes, len < sizeof letter->hash.bytes ? len : 16);
        PQfreemem(bytes);
    }
    qsort(self->letters, self->count, sizeof *self->letters, by_hash);
    return CM_OK;
}

static void match(late_t *self, const PGresult *result, int row)
{
    letter_t wanted = {.hash = cm_erasure_device(&self->key, cm_str(cm_pg_text(result, row, 0)),
                                                 cm_str(cm_pg_text(result, row, 1)))};
    int64_t removed_ms = cm_pg_i64(result, row, 2);
    letter_t *found = bsearch(&wanted, self->letters, self->count, sizeof *self->letters, by_hash);
    const letter_t *end = self->letters + self->count;
    while (found && found > self->letters && by_hash(found - 1, &wanted) == 0)
        found--;
    for (; found && found < end && by_hash(found, &wanted) == 0; found++)
        if (found->at_ms <= removed_ms)
            cm_text_array_add_i64(&self->ids, found->id);
}

static cm_status_t match_tombstones(late_t *self, cm_error_t *err)
{
    char application_code[KEY_MAX] = "", client_id[KEY_MAX] = "";
    for (int rows = 1; rows > 0;) {
        const char *values[] = {application_code, client_id};
        CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
        cm_status_t status = cm_sql_query(
            self->pg,
            "SELECT application_code, client_id, " CM_SQL_TO_MS(
                "removed_at") " FROM @schema@.tombstones WHERE (application_code, "
                              "client_id) > ($1, $2)"
                              " ORDER BY application_code, client_id LIMIT " TOMBSTONES_AT_ONCE,
            self->schema, 2, values, &result, err);
        if (status != CM_OK)
            return status;
        rows = PQntuples(result);
        for (int row = 0; row < rows; row++)
            match(self, result, row);
        if (rows > 0) {
            snprintf(application_code, KEY_MAX, "%s", cm_pg_text(result, rows - 1, 0));
            snprintf(client_id, KEY_MAX, "%s", cm_pg_text(result, rows - 1, 1));
        }
    }
    return CM_OK;
}

static cm_status_t erase_letters(late_t *self, int64_t *ret_erased, cm_error_t *err)
{
    cm_status_t status = CM_OK;
    do {
        status = read_letters(self, err);
        if (status == CM_OK && self->count > 0)
            status = match_tombstones(self, err);
    } while (status == CM_OK && self->count == LETTERS_AT_ONCE);
    if (status != CM_OK || self->ids.count == 0)
        return status;
    return cm_dead_letter_erase_ids(self->pg, self->admin_schema, cm_text_array_end(&self->ids),
                                    ret_erased, err);
}

cm_status_t cm_erasure_late(cm_pg_t *pg, const char *admin_schema, const char *tenant,
                            const char *erasure_key, bool *ret_letters, cm_error_t *err)
{
    int64_t erased = 0;
    CM_CLEANUP(late_end)
    late_t self = {.pg = pg,
                   .admin_schema = admin_schema,
                   .tenant = tenant,
                   .key = cm_erasure_tenant_key(erasure_key, tenant)};
    cm_tenant_id_schema(tenant, self.schema);
    cm_status_t status =
        cm_sql_exec(pg,
                    "DELETE FROM @schema@.push_verdicts_held AS h USING @schema@.tombstones AS t"
                    " WHERE h.application_code = t.application_code AND h.client_id = t.client_id"
                    " AND h.verdict_at <= t.removed_at",
                    self.schema, err);
    if (status == CM_OK)
        status = erase_letters(&self, &erased, err);
    *ret_letters = erased > 0;
    return status;
}
