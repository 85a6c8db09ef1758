#include "schema/erasure_late.h"
#include "proto/erasure_hash.h"
#include "proto/tenant_id.h"
#include "runtime/cleanup.h"
#include "schema/dead_letter_erase.h"
#include "schema/erasure.h"
#include "schema/sql.h"
#include "schema/text_array.h"

#include <stdlib.h>
#include <string.h>

enum { KEY_MAX = 1025 };
#define LETTERS_AT_ONCE    "20000"
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
    letter_t *letters; /* sorted by hash */
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
    const char *values[] = {self->tenant};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_status_t status = cm_sql_query(
        self->pg,
        "SELECT id, coalesce(" CM_SQL_TO_MS(
            "event_at") ", 0), device_hash"
                        " FROM @schema@.dead_letters WHERE tenant = $1 AND device_hash IS NOT NULL"
                        " ORDER BY id LIMIT " LETTERS_AT_ONCE,
        self->admin_schema, 1, values, &result, err);
    if (status != CM_OK || PQntuples(result) == 0)
        return status;
    self->letters = calloc((size_t)PQntuples(result), sizeof *self->letters);
    if (!self->letters)
        abort();
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
                "removed_at") " FROM @schema@.device_tombstones WHERE (application_code, "
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

static cm_status_t erase_letters(late_t *self, cm_error_t *err)
{
    int64_t erased = 0;
    cm_status_t status = read_letters(self, err);
    if (status == CM_OK && self->count > 0)
        status = match_tombstones(self, err);
    if (status != CM_OK || self->ids.count == 0)
        return status;
    status = cm_dead_letter_erase_ids(self->pg, self->admin_schema, cm_text_array_end(&self->ids),
                                      &erased, err);
    return status == CM_OK ? cm_erasure_note(self->pg, self->admin_schema, "", err) : status;
}

cm_status_t cm_erasure_late(cm_pg_t *pg, const char *admin_schema, const char *tenant,
                            const char *erasure_key, cm_error_t *err)
{
    CM_CLEANUP(late_end)
    late_t self = {.pg = pg,
                   .admin_schema = admin_schema,
                   .tenant = tenant,
                   .key = cm_erasure_tenant_key(erasure_key, tenant)};
    cm_tenant_id_schema(tenant, self.schema);
    cm_status_t status = cm_sql_exec(
        pg,
        "DELETE FROM @schema@.push_verdicts_held AS h USING @schema@.device_tombstones AS t"
        " WHERE h.application_code = t.application_code AND h.client_id = t.client_id"
        " AND h.verdict_at <= t.removed_at",
        self.schema, err);
    return status == CM_OK ? erase_letters(&self, err) : status;
}
