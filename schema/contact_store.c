#include "schema/contact_store.h"
#include "proto/erasure_hash.h"
#include "runtime/cleanup.h"
#include "runtime/crash.h"
#include "schema/dead_letter_erase.h"
#include "schema/device_sql.h"
#include "schema/erasure.h"
#include "schema/sql.h"
#include "schema/text_array.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Tenants of one transaction: their writers wait for all of it. */
enum { TENANTS_AT_ONCE = 8, ARENA_BLOCK_BYTES = 64 * 1024 };

typedef struct {
    cm_pg_t *pg;
    const cm_contact_place_t *place;
    cm_arena_t *arena;          /* of one transaction */
    cm_contact_totals_t totals; /* likewise */
    bool letters_went;
} deletion_t;

/* ---- one tenant, inside a transaction ------------------------------------------------------- */

static const char lock_sql[] =
    "LOCK TABLE @schema@.devices IN ROW EXCLUSIVE MODE;"
    " LOCK TABLE @schema@.device_tombstones, @schema@.contact_tombstones IN ACCESS EXCLUSIVE MODE;"
    " LOCK TABLE @schema@.push_verdicts_held IN ROW EXCLUSIVE MODE;"
    /* As for a writer: a plan made while the tables are small would scan them. The held verdicts
     * have to be scanned, and at that price every statement would be compiled. */
    " SET LOCAL enable_seqscan = off; SET LOCAL jit = off";

/* Which tombstones moved, and of the others which stand at this very time. */
static const char bury_sql[] =
    "WITH n AS MATERIALIZED ("
    " SELECT u.hash, " CM_SQL_FROM_MS(
        "u.ms") " AS deleted_at, u.i"
                " FROM unnest($1::bytea[], $2::bigint[]) WITH ORDINALITY AS u(hash, ms, i)\n"
                "), moved AS ("
                " INSERT INTO @schema@.contact_tombstones AS t (contact_hash, deleted_at)"
                " SELECT hash, deleted_at FROM n ORDER BY hash"
                " ON CONFLICT (contact_hash) DO UPDATE SET deleted_at = excluded.deleted_at"
                " WHERE t.deleted_at < excluded.deleted_at RETURNING contact_hash\n"
                ")\n"
                "SELECT n.i, moved.contact_hash IS NOT NULL, t.deleted_at = n.deleted_at"
                " FROM n LEFT JOIN moved ON moved.contact_hash = n.hash"
                " LEFT JOIN @schema@.contact_tombstones AS t ON t.contact_hash = n.hash";

/* Verdicts for a device that went, up to its removal, and all for a token that went. Two searches,
 * by key and by token, and the latter reads all verdicts once (OFFSET 0: not by the application for
 * each device): an OR of both would look at each verdict for each device. */
/* clang-format off */
static const char held_sql[] =
    "WITH r AS MATERIALIZED (SELECT u.app, u.client, " CM_SQL_FROM_MS("u.ms") " AS removed_at, u.token"
    " FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[]) AS u(app, client, ms, token)),\n"
    "found AS MATERIALIZED (SELECT h.application_code, h.client_id, h.provider"
    " FROM r JOIN @schema@.push_verdicts_held AS h ON h.application_code = r.app"
    " AND h.client_id = r.client AND h.verdict_at <= r.removed_at"
    " UNION SELECT h.application_code, h.client_id, h.provider"
    " FROM r JOIN (SELECT * FROM @schema@.push_verdicts_held WHERE push_token IS NOT NULL OFFSET 0)"
    " AS h ON h.application_code = r.app AND h.push_token = r.token),\n"
    "gone AS (DELETE FROM @schema@.push_verdicts_held AS h USING found AS f"
    " WHERE h.application_code = f.application_code AND h.client_id = f.client_id"
    " AND h.provider = f.provider RETURNING 1)\n"
    "SELECT count(*) FROM gone";
/* clang-format on */

static bool is_true(const PGresult *result, int row, int column)
{
    return strcmp(cm_pg_text(result, row, column), "t") == 0;
}

static cm_status_t bury(deletion_t *self, cm_contact_tenant_t *tenant, const char *schema,
                        const cm_erasure_key_t *key, cm_error_t *err)
{
    CM_CLEANUP(cm_text_array_destroy) cm_text_array_t hashes = {0};
    CM_CLEANUP(cm_text_array_destroy) cm_text_array_t times = {0};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    for (size_t i = 0; i < tenant->count; i++) {
        cm_erasure_hash_t hash = cm_erasure_contact(key, tenant->items[i].contact_id);
        cm_text_array_add_bytes(&hashes, cm_erasure_hash_str(&hash));
        cm_text_array_add_i64(&times, tenant->items[i].deleted_ms);
    }
    const char *values[] = {cm_text_array_end(&hashes), cm_text_array_end(&times)};
    cm_status_t status = cm_sql_query(self->pg, bury_sql, schema, 2, values, &result, err);
    for (int row = 0; status == CM_OK && row < PQntuples(result); row++) {
        cm_contact_item_t *item = &tenant->items[cm_pg_i64(result, row, 0) - 1];
        item->result = is_true(result, row, 1)   ? CM_CONTACT_APPLIED
                       : is_true(result, row, 2) ? CM_CONTACT_DUPLICATE
                                                 : CM_CONTACT_STALE;
        self->totals.contacts += item->result == CM_CONTACT_APPLIED;
    }
    return status;
}

static cm_status_t remove_held(deletion_t *self, const char *schema,
                               const cm_erased_device_t *devices, size_t count, cm_error_t *err)
{
    CM_CLEANUP(cm_text_array_destroy) cm_text_array_t apps = {0};
    CM_CLEANUP(cm_text_array_destroy) cm_text_array_t clients = {0};
    CM_CLEANUP(cm_text_array_destroy) cm_text_array_t times = {0};
    CM_CLEANUP(cm_text_array_destroy) cm_text_array_t tokens = {0};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    for (size_t i = 0; i < count; i++) {
        cm_text_array_add(&apps, devices[i].application_code);
        cm_text_array_add(&clients, devices[i].client_id);
        cm_text_array_add_i64(&times, devices[i].removed_ms);
        cm_text_array_add(&tokens, devices[i].push_token);
    }
    const char *values[] = {cm_text_array_end(&apps), cm_text_array_end(&clients),
                            cm_text_array_end(&times), cm_text_array_end(&tokens)};
    cm_status_t status = cm_sql_query(self->pg, held_sql, schema, 4, values, &result, err);
    if (status == CM_OK)
        self->totals.verdicts += cm_pg_i64(result, 0, 0);
    return status;
}

static cm_str_t text_of(deletion_t *self, const PGresult *result, int row, int column)
{
    if (PQgetisnull(result, row, column))
        return CM_STR_NONE;
    return cm_arena_copy(self->arena, cm_str(PQgetvalue(result, row, column)));
}

/* Remove the devices of the contacts; tell which. */
static cm_status_t remove_devices(deletion_t *self, const cm_contact_tenant_t *tenant,
                                  const char *schema, cm_erased_device_t **ret_devices,
                                  size_t *ret_count, cm_error_t *err)
{
    CM_CLEANUP(cm_text_array_destroy) cm_text_array_t ids = {0};
    CM_CLEANUP(cm_text_array_destroy) cm_text_array_t times = {0};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    for (size_t i = 0; i < tenant->count; i++) {
        cm_text_array_add_i64(&ids, tenant->items[i].contact_id);
        cm_text_array_add_i64(&times, tenant->items[i].deleted_ms);
    }
    const char *values[] = {cm_text_array_end(&ids), cm_text_array_end(&times)};
    cm_status_t status =
        cm_sql_query(self->pg, cm_device_sql_remove_of_contacts, schema, 2, values, &result, err);
    if (status != CM_OK)
        return status;
    *ret_count = (size_t)PQntuples(result);
    *ret_devices = cm_arena_alloc(self->arena, (*ret_count + 1) * sizeof **ret_devices);
    for (int row = 0; row < PQntuples(result); row++)
        (*ret_devices)[row] =
            (cm_erased_device_t){.application_code = text_of(self, result, row, 0),
                                 .client_id = text_of(self, result, row, 1),
                                 .removed_ms = cm_pg_i64(result, row, 2),
                                 .push_token = text_of(self, result, row, 3)};
    self->totals.devices += PQntuples(result);
    return CM_OK;
}

static cm_status_t erase_letters(deletion_t *self, const cm_contact_tenant_t *tenant,
                                 const cm_erasure_key_t *key, const cm_erased_device_t *devices,
                                 size_t count, cm_error_t *err)
{
    int64_t letters = 0;
    cm_erased_contact_t *contacts = cm_arena_alloc(self->arena, tenant->count * sizeof *contacts);
    for (size_t i = 0; i < tenant->count; i++)
        contacts[i] = (cm_erased_contact_t){tenant->items[i].contact_id, //
                                            tenant->items[i].deleted_ms};
    cm_erasure_t erasure = {.tenant = tenant->tenant,
                            .key = key,
                            .contacts = contacts,
                            .contact_count = tenant->count,
                            .devices = devices,
                            .device_count = count};
    cm_status_t status =
        cm_dead_letter_erase(self->pg, self->place->admin_schema, &erasure, &letters, err);
    self->totals.letters += letters;
    self->letters_went |= letters > 0;
    return status;
}

static cm_status_t delete_of_tenant(deletion_t *self, cm_contact_tenant_t *tenant, cm_error_t *err)
{
    char schema[CM_TENANT_SCHEMA_MAX];
    cm_tenant_id_schema(tenant->tenant, schema);
    cm_erasure_key_t key = cm_erasure_tenant_key(self->place->erasure_key, tenant->tenant);
    cm_erased_device_t *devices = NULL;
    size_t count = 0;
    cm_status_t status = cm_sql_exec(self->pg, lock_sql, schema, err);
    if (status == CM_OK)
        status = bury(self, tenant, schema, &key, err);
    if (status == CM_OK)
        status = remove_devices(self, tenant, schema, &devices, &count, err);
    if (status == CM_OK && count > 0)
        status = remove_held(self, schema, devices, count, err);
    if (status == CM_OK)
        status = erase_letters(self, tenant, &key, devices, count, err);
    if (status == CM_OK && count > 0)
        status = cm_erasure_note(self->pg, self->place->admin_schema, tenant->tenant, err);
    return status;
}

/* ---- transactions --------------------------------------------------------------------------- */

static cm_status_t try_tenants(deletion_t *self, cm_contact_tenant_t *tenants, size_t count,
                               cm_error_t *err)
{
    self->totals = (cm_contact_totals_t){.transactions = 1};
    self->letters_went = false;
    cm_arena_reset(self->arena);
    cm_status_t status = cm_pg_begin(self->pg, err);
    /* What is read must be newer than the locks, whatever the server's default is. */
    if (status == CM_OK)
        status = cm_pg_exec(self->pg, "SET TRANSACTION ISOLATION LEVEL READ COMMITTED", err);
    for (size_t i = 0; status == CM_OK && i < count; i++)
        status = delete_of_tenant(self, &tenants[i], err);
    if (status == CM_OK && self->letters_went)
        status = cm_erasure_note(self->pg, self->place->admin_schema, "", err);
    cm_crash_point("before-commit");
    if (status == CM_OK)
        status = cm_pg_commit(self->pg, err);
    if (status != CM_OK)
        cm_pg_rollback(self->pg);
    cm_crash_point("after-commit");
    return status;
}

static void add_totals(const deletion_t *self, cm_contact_totals_t *totals)
{
    totals->contacts += self->totals.contacts;
    totals->devices += self->totals.devices;
    totals->verdicts += self->totals.verdicts;
    totals->letters += self->totals.letters;
    totals->transactions += self->totals.transactions;
}

/* Of a tenant or its rows, not of the connection as a whole. */
static bool is_isolable(const cm_error_t *err)
{
    bool schema = strncmp(err->code, "42", 2) == 0 && strcmp(err->code, "42501") != 0;
    return err->status == CM_TRANSIENT || err->status == CM_PERMANENT ||
           err->status == CM_MISSING || (err->status == CM_MISCONFIGURED && schema);
}

/* One tenant, whose items fail with what it fails with; a permanent fault is that of some item. */
static cm_status_t delete_alone(deletion_t *self, cm_contact_tenant_t *tenant,
                                cm_contact_totals_t *totals, cm_error_t *err)
{
    cm_error_t failure = {0};
    cm_status_t status = try_tenants(self, tenant, 1, &failure);
    if (status == CM_OK) {
        add_totals(self, totals);
        return CM_OK;
    }
    if (!is_isolable(&failure)) {
        *err = failure;
        return status;
    }
    if (status != CM_PERMANENT || tenant->count == 1) {
        for (size_t i = 0; i < tenant->count; i++) {
            tenant->items[i].result = CM_CONTACT_FAILED;
            tenant->items[i].error = failure;
        }
        return CM_OK;
    }
    cm_contact_tenant_t first = *tenant, second = *tenant;
    first.count = tenant->count / 2;
    second.items += first.count;
    second.count -= first.count;
    status = delete_alone(self, &first, totals, err);
    return status == CM_OK ? delete_alone(self, &second, totals, err) : status;
}

static cm_status_t delete_some(deletion_t *self, cm_contact_tenant_t *tenants, size_t count,
                               cm_contact_totals_t *totals, cm_error_t *err)
{
    cm_status_t status = count > 1 ? try_tenants(self, tenants, count, err) : CM_TRANSIENT;
    if (count > 1 && status == CM_OK) {
        add_totals(self, totals);
        return CM_OK;
    }
    if (count > 1 && !is_isolable(err))
        return status;
    status = CM_OK;
    for (size_t i = 0; status == CM_OK && i < count; i++)
        status = delete_alone(self, &tenants[i], totals, err);
    return status;
}

static void check_order(const cm_contact_tenant_t *tenants, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        assert(i == 0 || strcmp(tenants[i - 1].tenant, tenants[i].tenant) < 0);
        for (size_t k = 1; k < tenants[i].count; k++)
            assert(tenants[i].items[k - 1].contact_id < tenants[i].items[k].contact_id);
    }
}

cm_status_t cm_contact_store_delete(cm_pg_t *pg, const cm_contact_place_t *place,
                                    cm_contact_tenant_t *tenants, size_t count,
                                    cm_contact_totals_t *totals, cm_error_t *err)
{
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(ARENA_BLOCK_BYTES);
    deletion_t self = {.pg = pg, .place = place, .arena = arena};
    cm_error_t failure = {0};
    cm_status_t status = CM_OK;
    check_order(tenants, count);
    for (size_t at = 0; status == CM_OK && at < count; at += TENANTS_AT_ONCE) {
        size_t some = count - at < TENANTS_AT_ONCE ? count - at : TENANTS_AT_ONCE;
        status = delete_some(&self, tenants + at, some, totals, &failure);
    }
    if (status != CM_OK && err)
        *err = failure;
    return status;
}
