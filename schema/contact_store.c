#include "schema/contact_store.h"
#include "proto/erasure_hash.h"
#include "runtime/cleanup.h"
#include "runtime/crash.h"
#include "schema/dead_letter_erase.h"
#include "schema/device_sql.h"
#include "schema/erasure.h"
#include "schema/pg_array.h"
#include "schema/sql.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    /* Tenants of one transaction. Their writers wait for all of it: tens of milliseconds, for its
     * contacts are bounded by the batch. While it waits for the table of one tenant, they wait as
     * well, so not the whole batch at once; fewer would pay a commit each. */
    TENANTS_AT_ONCE = 64,
    TIMEOUTS_MAX = 3,         /* in one tenant: the others wait behind each of them */
    STATEMENTS_OF_TENANT = 3, /* two locks, the deletion */
    ARENA_BLOCK_BYTES = 64 * 1024,
    KEY_MAX = CM_TENANT_ID_MAX + 16
};

typedef struct { /* a tenant of the transaction */
    cm_contact_tenant_t *tenant;
    cm_erasure_key_t key;
    cm_erased_device_t *devices; /* that went */
    size_t device_count;
    bool has_letters, has_unread;
} group_t;

typedef struct {
    cm_pg_t *pg;
    const cm_contact_place_t *place;
    cm_arena_t *arena; /* of one transaction, and so the rest */
    cm_pg_arrays_t arrays;
    cm_buffer_t sql;
    group_t *groups;
    size_t group_count;
    cm_contact_totals_t totals;
    int timeouts_left; /* of the tenant that is done alone; below 0: no more tries */
} deletion_t;

static void deletion_end(deletion_t *self)
{
    cm_pg_arrays_destroy(&self->arrays);
    cm_buffer_destroy(&self->sql);
    cm_arena_destroy(&self->arena);
}

/* ---- the deletion: one pipeline over all tenants -------------------------------------------- */

/* What is read must be newer than the locks, whatever the server's default is. As for a writer, a
 * plan made while the tables are small must not scan them; nor may it join otherwise than row by
 * row through an index. The held verdicts have to be scanned, and at that price every statement
 * would be compiled. */
static const char settings_sql[] =
    "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; SET LOCAL enable_seqscan = off;"
    " SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; SET LOCAL jit = off";

typedef struct { /* the text of a statement, made only when it is not prepared yet */
    deletion_t *deletion;
    const char *text, *tenant;
} lazy_sql_t;

static const char *make_sql(void *ctx)
{
    const lazy_sql_t *self = ctx;
    char schema[CM_TENANT_SCHEMA_MAX];
    cm_buffer_clear(&self->deletion->sql);
    cm_sql_in_schema(&self->deletion->sql, self->text, cm_tenant_id_schema(self->tenant, schema));
    return cm_buffer_text(&self->deletion->sql);
}

/* Add a statement of one tenant with the arguments in self->arrays. */
static cm_status_t add(deletion_t *self, const group_t *group, const char *verb, const char *text,
                       cm_error_t *err)
{
    char key[KEY_MAX];
    lazy_sql_t sql = {self, text, group->tenant->tenant};
    snprintf(key, sizeof key, "%s %s", verb ? verb : "", sql.tenant);
    cm_pg_statement_t statement = cm_pg_arrays_statement(&self->arrays, verb ? key : NULL, NULL);
    statement.text = make_sql;
    statement.ctx = &sql;
    return cm_pg_pipeline_add(self->pg, &statement, err);
}

static void bind_contacts(cm_pg_arrays_t *arrays, const group_t *group)
{
    const cm_contact_tenant_t *tenant = group->tenant;
    char hex[CM_ERASURE_HEX_MAX];
    cm_pg_arrays_open(arrays, CM_PG_TEXT, tenant->count);
    for (size_t i = 0; i < tenant->count; i++) {
        cm_erasure_hash_t hash = cm_erasure_contact(&group->key, tenant->items[i].contact_id);
        cm_pg_arrays_text(arrays, cm_erasure_hash_hex(&hash, hex));
    }
    cm_pg_arrays_open(arrays, CM_PG_INT8, tenant->count);
    for (size_t i = 0; i < tenant->count; i++)
        cm_pg_arrays_i64(arrays, tenant->items[i].contact_id);
    cm_pg_arrays_open(arrays, CM_PG_TIMESTAMPTZ, tenant->count);
    for (size_t i = 0; i < tenant->count; i++)
        cm_pg_arrays_ms(arrays, tenant->items[i].deleted_ms);
}

static cm_status_t add_tenant(deletion_t *self, const group_t *group, cm_error_t *err)
{
    cm_pg_arrays_clear(&self->arrays);
    cm_status_t status = add(self, group, NULL, cm_device_sql_lock_devices, err);
    if (status == CM_OK)
        status = add(self, group, NULL, cm_device_sql_lock_tombstones, err);
    bind_contacts(&self->arrays, group);
    return status == CM_OK ? add(self, group, "contacts", cm_device_sql_delete_contacts, err)
                           : status;
}

/* A statement of the admin schema with one array of tenants, in self->arrays. Planned anew each
 * time, as its tables are now. */
static cm_pg_statement_t of_tenants(deletion_t *self, const char *text)
{
    cm_buffer_clear(&self->sql);
    cm_sql_in_schema(&self->sql, text, self->place->admin_schema);
    return cm_pg_arrays_statement(&self->arrays, NULL, cm_buffer_text(&self->sql));
}

static cm_status_t add_letters(deletion_t *self, cm_error_t *err)
{
    cm_pg_arrays_clear(&self->arrays);
    cm_pg_arrays_open(&self->arrays, CM_PG_TEXT, self->group_count);
    for (size_t i = 0; i < self->group_count; i++)
        cm_pg_arrays_text(&self->arrays, cm_str(self->groups[i].tenant->tenant));
    cm_pg_statement_t statement = of_tenants(self, cm_dead_letter_tenants_sql);
    return cm_pg_pipeline_add(self->pg, &statement, err);
}

static cm_str_t text_of(deletion_t *self, const PGresult *result, int row, int column)
{
    if (PQgetisnull(result, row, column))
        return CM_STR_NONE;
    return cm_arena_copy(self->arena, (cm_str_t){PQgetvalue(result, row, column),
                                                 (size_t)PQgetlength(result, row, column)});
}

static void take_deleted(deletion_t *self, group_t *group, const PGresult *result)
{
    cm_contact_tenant_t *tenant = group->tenant;
    size_t room = (size_t)PQntuples(result) + 1;
    group->devices = cm_arena_alloc(self->arena, room * sizeof *group->devices);
    self->totals.contacts += (int64_t)tenant->count;
    for (size_t i = 0; i < tenant->count; i++)
        tenant->items[i].result = CM_CONTACT_APPLIED;
    for (int row = 0; row < PQntuples(result); row++) {
        int64_t index = cm_pg_binary_i64(result, row, 0);
        if (index < 1 || (size_t)index > tenant->count) {
            self->totals.verdicts++;
            continue;
        }
        cm_contact_item_t *item = &tenant->items[index - 1];
        if (PQgetisnull(result, row, 2)) {
            bool same = cm_pg_binary_bool(result, row, 1);
            item->result = same ? CM_CONTACT_DUPLICATE : CM_CONTACT_STALE;
            self->totals.contacts--;
            continue;
        }
        group->devices[group->device_count++] =
            (cm_erased_device_t){.application_code = text_of(self, result, row, 2),
                                 .client_id = text_of(self, result, row, 3),
                                 .push_token = text_of(self, result, row, 4),
                                 .removed_ms = item->deleted_ms};
    }
    self->totals.devices += (int64_t)group->device_count;
}

static void take_result(void *ctx, size_t index, cm_status_t status, const PGresult *result,
                        const cm_error_t *err)
{
    deletion_t *self = ctx;
    size_t at = index / STATEMENTS_OF_TENANT;
    (void)err; /* the pipeline tells it, too */
    if (status != CM_OK)
        return;
    if (at < self->group_count) {
        if (index % STATEMENTS_OF_TENANT == STATEMENTS_OF_TENANT - 1)
            take_deleted(self, &self->groups[at], result);
        return;
    }
    for (int row = 0; row < PQntuples(result); row++) {
        int64_t tenant = cm_pg_binary_i64(result, row, 0);
        if (tenant < 1 || (size_t)tenant > self->group_count)
            continue;
        self->groups[tenant - 1].has_letters = true;
        self->groups[tenant - 1].has_unread = cm_pg_binary_bool(result, row, 1);
    }
}

static cm_status_t delete_contacts(deletion_t *self, cm_error_t *err)
{
    int failed = -1;
    cm_status_t status = cm_pg_pipeline_begin_within(self->pg, take_result, self, err);
    for (size_t i = 0; status == CM_OK && i < self->group_count; i++)
        status = add_tenant(self, &self->groups[i], err);
    if (status == CM_OK)
        status = add_letters(self, err);
    if (status == CM_OK)
        status = cm_pg_pipeline_send(self->pg, err);
    return status == CM_OK ? cm_pg_pipeline_wait(self->pg, &failed, err) : status;
}

/* ---- what follows from it: dead letters, notes ---------------------------------------------- */

static cm_erasure_t erasure_of(deletion_t *self, const group_t *group)
{
    const cm_contact_tenant_t *tenant = group->tenant;
    cm_erased_contact_t *contacts = cm_arena_alloc(self->arena, tenant->count * sizeof *contacts);
    for (size_t i = 0; i < tenant->count; i++)
        contacts[i] = (cm_erased_contact_t){tenant->items[i].contact_id, //
                                            tenant->items[i].deleted_ms};
    return (cm_erasure_t){.tenant = tenant->tenant,
                          .key = &group->key,
                          .contacts = contacts,
                          .contact_count = tenant->count,
                          .devices = group->devices,
                          .device_count = group->device_count,
                          .has_unread = group->has_unread};
}

static cm_status_t erase_letters(deletion_t *self, cm_error_t *err)
{
    size_t count = 0;
    cm_erasure_t *erasures = cm_arena_alloc(self->arena, self->group_count * sizeof *erasures);
    for (size_t i = 0; i < self->group_count; i++)
        if (self->groups[i].has_letters)
            erasures[count++] = erasure_of(self, &self->groups[i]);
    return cm_dead_letter_erase(self->pg, self->place->admin_schema, erasures, count,
                                &self->totals.letters, err);
}

static cm_status_t note(deletion_t *self, cm_error_t *err)
{
    size_t count = self->totals.letters > 0;
    for (size_t i = 0; i < self->group_count; i++)
        count += self->groups[i].device_count > 0;
    if (count == 0)
        return CM_OK;
    cm_pg_arrays_clear(&self->arrays);
    cm_pg_arrays_open(&self->arrays, CM_PG_TEXT, count);
    for (size_t i = 0; i < self->group_count; i++)
        if (self->groups[i].device_count > 0)
            cm_pg_arrays_text(&self->arrays, cm_str(self->groups[i].tenant->tenant));
    if (self->totals.letters > 0)
        cm_pg_arrays_text(&self->arrays, cm_str(""));
    cm_pg_statement_t statement = of_tenants(self, cm_erasure_note_all_sql);
    return cm_pg_run(self->pg, &statement, NULL, err);
}

/* ---- transactions --------------------------------------------------------------------------- */

static void start(deletion_t *self, cm_contact_tenant_t *tenants, size_t count)
{
    self->totals = (cm_contact_totals_t){.transactions = 1};
    cm_arena_reset(self->arena);
    self->groups = cm_arena_alloc(self->arena, count * sizeof *self->groups);
    self->group_count = count;
    for (size_t i = 0; i < count; i++)
        self->groups[i] =
            (group_t){.tenant = &tenants[i],
                      .key = cm_erasure_tenant_key(self->place->erasure_key, tenants[i].tenant)};
}

/* Results of an attempt that was rolled back are none. */
static void forget_results(deletion_t *self)
{
    for (size_t i = 0; i < self->group_count; i++)
        for (size_t k = 0; k < self->groups[i].tenant->count; k++)
            self->groups[i].tenant->items[k].result = CM_CONTACT_PENDING;
}

static cm_status_t try_tenants(deletion_t *self, cm_contact_tenant_t *tenants, size_t count,
                               cm_error_t *err)
{
    start(self, tenants, count);
    cm_status_t status = cm_pg_begin(self->pg, err);
    if (status == CM_OK)
        status = cm_pg_exec(self->pg, settings_sql, err);
    if (status == CM_OK)
        status = delete_contacts(self, err);
    if (status == CM_OK)
        status = erase_letters(self, err);
    if (status == CM_OK)
        status = note(self, err);
    cm_crash_point("before-commit");
    if (status == CM_OK)
        status = cm_pg_commit(self->pg, err);
    if (status != CM_OK) {
        cm_pg_rollback(self->pg);
        forget_results(self);
    }
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

static void fail_items(cm_contact_tenant_t *tenant, const cm_error_t *failure)
{
    for (size_t i = 0; i < tenant->count; i++) {
        tenant->items[i].result = CM_CONTACT_FAILED;
        tenant->items[i].error = *failure;
    }
}

/* A permanent fault is that of some item; a time-out may be of their number. */
static bool may_be_of_some(deletion_t *self, const cm_error_t *failure)
{
    if (strcmp(failure->code, "57014") == 0)
        return self->timeouts_left-- > 0;
    return failure->status == CM_PERMANENT;
}

/* One tenant, whose items fail with what it fails with, unless that may be of some of them. */
static cm_status_t delete_alone(deletion_t *self, cm_contact_tenant_t *tenant,
                                cm_contact_totals_t *totals, cm_error_t *err)
{
    cm_error_t failure = {0};
    cm_status_t status = try_tenants(self, tenant, 1, &failure);
    if (status == CM_OK) {
        add_totals(self, totals);
        return CM_OK;
    }
    if (!cm_pg_is_isolable(&failure)) {
        *err = failure;
        return status;
    }
    if (!may_be_of_some(self, &failure) || tenant->count == 1) {
        fail_items(tenant, &failure);
        return CM_OK;
    }
    cm_contact_tenant_t first = *tenant, second = *tenant;
    first.count = tenant->count / 2;
    second.items += first.count;
    second.count -= first.count;
    status = delete_alone(self, &first, totals, err);
    if (status == CM_OK && self->timeouts_left < 0 && failure.status != CM_PERMANENT)
        fail_items(&second, &failure); /* a permanent fault may be none of theirs */
    else if (status == CM_OK)
        status = delete_alone(self, &second, totals, err);
    return status;
}

static cm_status_t delete_some(deletion_t *self, cm_contact_tenant_t *tenants, size_t count,
                               cm_contact_totals_t *totals, cm_error_t *err)
{
    cm_status_t status = count > 1 ? try_tenants(self, tenants, count, err) : CM_TRANSIENT;
    if (count > 1 && status == CM_OK) {
        add_totals(self, totals);
        return CM_OK;
    }
    if (count > 1 && !cm_pg_is_isolable(err))
        return status;
    status = CM_OK;
    for (size_t i = 0; status == CM_OK && i < count; i++) {
        self->timeouts_left = TIMEOUTS_MAX;
        status = delete_alone(self, &tenants[i], totals, err);
    }
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
    CM_CLEANUP(deletion_end)
    deletion_t self = {.pg = pg, .place = place, .arena = cm_arena_new(ARENA_BLOCK_BYTES)};
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
