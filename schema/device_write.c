#include "runtime/cleanup.h"
#include "runtime/crash.h"
#include "runtime/hash.h"
#include "schema/device_sql.h"
#include "schema/device_store_private.h"
#include "schema/erasure.h"
#include "schema/sql.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    ROUNDS_MAX = 5,
    KEY_MAX = CM_TENANT_ID_MAX + 16,
    /* Written without asking for their keys: at one stale change in a hundred, settling a whole
     * group of them now and then costs as much as the keys do. */
    COUNTED_MAX = 16
};

/* ---- the connection ------------------------------------------------------------------------- */

struct cm_device_touched {
    char tenant[CM_TENANT_ID_MAX];
    cm_erasure_key_t erasure_key; /* drawn once: it costs as much as a dozen events */
    UT_hash_handle hh;
};

static const cm_erasure_key_t *touch(cm_device_store_t *self, const char *tenant)
{
    cm_device_touched_t *found = NULL;
    HASH_FIND_STR(self->touched, tenant, found);
    if (found)
        return &found->erasure_key;
    found = calloc(1, sizeof *found);
    if (!found)
        abort();
    snprintf(found->tenant, sizeof found->tenant, "%s", tenant);
    found->erasure_key = cm_erasure_tenant_key(self->erasure_key, tenant);
    HASH_ADD_STR(self->touched, tenant, found);
    self->stats.tenants_touched = HASH_COUNT(self->touched);
    return &found->erasure_key;
}

void cm_device_touched_clear(cm_device_store_t *self)
{
    cm_device_touched_t *item, *next;
    HASH_ITER(hh, self->touched, item, next)
    {
        HASH_DEL(self->touched, item);
        free(item);
    }
    self->stats.tenants_touched = 0;
}

static cm_status_t find_row_type(cm_device_store_t *self, cm_error_t *err)
{
    const char *values[] = {self->admin_schema};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_status_t status = cm_pg_query(self->pg, cm_device_sql_row_type, 1, values, &result, err);
    if (status != CM_OK)
        return status;
    if (PQntuples(result) != 1)
        return cm_error_set(err, CM_MISCONFIGURED, "admin-schema",
                            "schema %s has no type device_change: it is not there or not ours",
                            self->admin_schema);
    self->row_type = (cm_pg_row_type_t){(Oid)cm_pg_i64(result, 0, 0), (Oid)cm_pg_i64(result, 0, 1)};
    return CM_OK;
}

/* Once per connection: its session settings, and the type of a change. */
static cm_status_t prepare_session(cm_device_store_t *self, cm_error_t *err)
{
    int backend = cm_pg_is_connected(self->pg) ? PQbackendPID(cm_pg_raw(self->pg)) : 0;
    int64_t connected_at_ms = cm_pg_connected_at_ms(self->pg);
    if (backend && backend == self->backend && connected_at_ms == self->connected_at_ms)
        return CM_OK;
    cm_device_touched_clear(self);
    cm_status_t status = cm_pg_exec(self->pg, cm_device_sql_session, err);
    if (status == CM_OK)
        status = find_row_type(self, err);
    if (status == CM_OK) {
        self->backend = backend;
        self->connected_at_ms = connected_at_ms;
    }
    return status;
}

/* ---- sending -------------------------------------------------------------------------------- */

static void note_step(cm_device_store_t *self, cm_device_step_kind_t kind, size_t group)
{
    if (self->step_count == self->step_cap) {
        self->step_cap = self->step_cap ? self->step_cap * 2 : 64;
        self->steps = realloc(self->steps, self->step_cap * sizeof *self->steps);
        if (!self->steps)
            abort();
    }
    self->steps[self->step_count++] = (cm_device_step_t){kind, group};
}

typedef struct { /* the text of a statement, to be made only when it is not prepared yet */
    cm_buffer_t *room;
    const char *text, *tenant;
} lazy_sql_t;

static const char *make_sql(void *ctx)
{
    const lazy_sql_t *self = ctx;
    char schema[CM_TENANT_SCHEMA_MAX];
    cm_buffer_clear(self->room);
    cm_sql_in_schema(self->room, self->text, cm_tenant_id_schema(self->tenant, schema));
    return cm_buffer_text(self->room);
}

/* Add a statement of one group; its arguments stand in self->arrays. verb: prepare it under this
 * name and the tenant's, NULL: do not. */
static cm_status_t add(cm_device_store_t *self, cm_device_step_kind_t kind, size_t group,
                       const char *verb, const char *text, cm_error_t *err)
{
    char key[KEY_MAX];
    lazy_sql_t sql = {.room = &self->sql, .text = text, .tenant = self->groups[group].tenant};
    if (verb)
        snprintf(key, sizeof key, "%s %s", verb, sql.tenant);
    cm_pg_statement_t statement = cm_pg_arrays_statement(&self->arrays, verb ? key : NULL, NULL);
    statement.text = make_sql;
    statement.ctx = &sql;
    note_step(self, kind, group);
    return cm_pg_pipeline_add(self->pg, &statement, err);
}

static cm_status_t add_lock(cm_device_store_t *self, size_t group, const char *text,
                            cm_error_t *err)
{
    lazy_sql_t sql = {.room = &self->sql, .text = text, .tenant = self->groups[group].tenant};
    cm_pg_statement_t statement = {.sql = make_sql(&sql)};
    note_step(self, CM_DEVICE_STEP_LOCK, group);
    return cm_pg_pipeline_add(self->pg, &statement, err);
}

/* How long each statement may take from here to the end of the transaction. Never longer than the
 * connection's own limit, on which the time-out for its silence is built. */
static cm_status_t add_limit(cm_device_store_t *self, size_t group, int limit_ms, cm_error_t *err)
{
    char sql[256];
    if (limit_ms == self->limit_ms)
        return CM_OK;
    self->limit_ms = limit_ms;
    snprintf(sql, sizeof sql,
             "SELECT set_config('statement_timeout',"
             " coalesce(least(nullif(reset_val::bigint, 0), nullif(%d, 0)), 0)::text, true)"
             " FROM pg_settings WHERE name = 'statement_timeout'",
             limit_ms);
    note_step(self, CM_DEVICE_STEP_LIMIT, group);
    return cm_pg_pipeline_add(self->pg, &(cm_pg_statement_t){.sql = sql}, err);
}

/* What a deleted contact's device has left in the files is to be rid of. Under the locks of the
 * removal, so that it meets the sweep in order. */
static cm_status_t add_note(cm_device_store_t *self, size_t index, cm_error_t *err)
{
    static const Oid types[] = {CM_PG_TEXT};
    const char *values[] = {self->groups[index].tenant};
    if (!self->groups[index].erases)
        return CM_OK;
    cm_buffer_clear(&self->sql);
    cm_sql_in_schema(&self->sql, cm_erasure_note_sql, self->admin_schema);
    cm_pg_statement_t statement = {
        .sql = cm_buffer_text(&self->sql), .count = 1, .types = types, .values = values};
    note_step(self, CM_DEVICE_STEP_NOTE, index);
    return cm_pg_pipeline_add(self->pg, &statement, err);
}

static cm_status_t add_removals(cm_device_store_t *self, size_t index, cm_error_t *err)
{
    cm_device_group_t *group = &self->groups[index];
    if (cm_device_sql_bind_removals(&self->arrays, group->items, group->count) == 0)
        return CM_OK;
    cm_status_t status = add_lock(self, index, cm_device_sql_lock_devices, err);
    if (status == CM_OK)
        status = add_lock(self, index, cm_device_sql_lock_tombstones, err);
    if (status != CM_OK)
        return status;
    self->stats.statements++;
    status = add(self, CM_DEVICE_STEP_REMOVE, index, "remove", cm_device_sql_remove, err);
    return status == CM_OK ? add_note(self, index, err) : status;
}

static cm_status_t add_registers(cm_device_store_t *self, size_t index, bool exact, cm_error_t *err)
{
    cm_device_group_t *group = &self->groups[index];
    cm_device_binding_t binding = {self->row_type, group->erasure_key};
    size_t rows = cm_device_sql_bind_registers(&self->arrays, &binding, group->items, group->count);
    if (rows == 0)
        return CM_OK;
    self->stats.statements++;
    if (exact)
        return add(self, CM_DEVICE_STEP_UPSERT, index, NULL, cm_device_sql_upsert_exact, err);
    if (rows > COUNTED_MAX)
        return add(self, CM_DEVICE_STEP_UPSERT, index, "upsert", cm_device_sql_upsert, err);
    self->counts = true;
    return add(self, CM_DEVICE_STEP_UPSERT_COUNTED, index, "counted", cm_device_sql_upsert_counted,
               err);
}

/* By what the settling knows rows that were counted only. */
static cm_status_t add_xid(cm_device_store_t *self, cm_error_t *err)
{
    note_step(self, CM_DEVICE_STEP_XID, SIZE_MAX);
    cm_pg_statement_t statement = {.sql = "SELECT pg_current_xact_id_if_assigned()::xid"};
    return cm_pg_pipeline_add(self->pg, &statement, err);
}

static void take_xid(cm_device_store_t *self, const PGresult *result)
{
    snprintf(self->xid, sizeof self->xid, "%s", cm_pg_text(result, 0, 0));
}

static cm_status_t add_settle(cm_device_store_t *self, size_t index, cm_error_t *err)
{
    cm_device_group_t *group = &self->groups[index];
    cm_device_binding_t binding = {self->row_type, group->erasure_key};
    cm_device_sql_bind_settle(&self->arrays, &binding, group->items, group->count, self->xid);
    return add(self, CM_DEVICE_STEP_SETTLE, index, "settle", cm_device_sql_settle, err);
}

static cm_status_t add_group(cm_device_store_t *self, size_t index, bool exact, bool removals,
                             cm_error_t *err)
{
    cm_device_group_t *group = &self->groups[index];
    group->erasure_key = touch(self, group->tenant);
    int limit_ms = group->on_trial          ? self->patience.trial_ms
                   : self->isolate_until_ms ? self->patience.statement_ms
                                            : 0;
    cm_status_t status = add_limit(self, index, limit_ms, err);
    if (status != CM_OK)
        return status;
    if (self->phase == CM_DEVICE_PHASE_SETTLE) {
        group->wanted = cm_arena_alloc(self->arena, group->count * sizeof *group->wanted);
        memset(group->wanted, 0, group->count * sizeof *group->wanted);
        return add_settle(self, index, err);
    }
    group->parts = cm_arena_alloc(self->arena, group->count);
    memset(group->parts, 0, group->count);
    self->stats.rows += group->count;
    if (removals || group->erases)
        status = add_removals(self, index, err);
    return status == CM_OK ? add_registers(self, index, exact, err) : status;
}

static cm_pg_result_fn take_result;

/* One pipeline over all groups. Removals are for the first write alone, they are exact already; but
 * for those that settling made. */
static cm_status_t send_phase(cm_device_store_t *self, cm_device_phase_t phase, bool exact,
                              bool removals, cm_error_t *err)
{
    self->phase = phase;
    self->removals_sent = removals;
    self->step_count = 0;
    self->limit_ms = 0;
    self->counts = false;
    if (phase == CM_DEVICE_PHASE_WRITE)
        *self->xid = '\0';
    self->failed_group = SIZE_MAX;
    cm_status_t status = prepare_session(self, err);
    if (status == CM_OK)
        status = cm_pg_pipeline_begin(self->pg, take_result, self, err);
    for (size_t i = 0; status == CM_OK && i < self->group_count; i++)
        status = add_group(self, i, exact, removals, err);
    if (status == CM_OK && self->counts)
        status = add_xid(self, err);
    if (phase != CM_DEVICE_PHASE_SETTLE)
        cm_crash_point("before-commit");
    if (status == CM_OK)
        status = cm_pg_pipeline_send(self->pg, err);
    if (status != CM_OK)
        self->phase = CM_DEVICE_PHASE_NONE;
    return status;
}

/* ---- results -------------------------------------------------------------------------------- */

static bool has_key(const cm_store_item_t *item, cm_str_t application_code, cm_str_t client_id)
{
    return cm_str_eq(item->change.client_id, client_id) &&
           cm_str_eq(item->change.application_code, application_code);
}

static cm_str_t text_of(const PGresult *result, int row, int column)
{
    return (cm_str_t){PQgetvalue(result, row, column), (size_t)PQgetlength(result, row, column)};
}

static bool has_part(const cm_store_item_t *item, unsigned char part)
{
    return part == CM_DEVICE_PART_REMOVAL ? cm_device_sql_is_removal(&item->change)
                                          : cm_device_sql_has_register(&item->change);
}

/* Each row is written once, so as many as were sent are all of them: the usual case. */
static bool take_all_written(cm_device_group_t *group, unsigned char part, size_t rows)
{
    size_t sent = 0;
    for (size_t i = 0; i < group->count; i++)
        sent += has_part(group->items[i], part);
    if (sent != rows)
        return false;
    for (size_t i = 0; i < group->count; i++)
        if (has_part(group->items[i], part))
            group->parts[i] |= part;
    return true;
}

/* Rows written, by their keys. They come in the order of the items, so each is found a step on. */
static void take_written(cm_device_group_t *group, unsigned char part, const PGresult *result)
{
    size_t at = 0;
    if (take_all_written(group, part, (size_t)PQntuples(result)))
        return;
    for (int row = 0; row < PQntuples(result); row++) {
        cm_str_t application_code = text_of(result, row, 0), client_id = text_of(result, row, 1);
        size_t left = group->count;
        while (left > 0 && !has_key(group->items[at], application_code, client_id)) {
            at = at + 1 < group->count ? at + 1 : 0;
            left--;
        }
        if (left > 0)
            group->parts[at] |= part;
    }
}

/* If not all were written, those that were are told by the settling. */
static void take_counted(cm_device_group_t *group, const PGresult *result)
{
    take_all_written(group, CM_DEVICE_PART_REGISTERS,
                     strtoul(PQcmdTuples((PGresult *)result), NULL, 10));
}

/* The change would set a contact that was deleted: it is the removal of its device, for good. */
static void erase(cm_device_group_t *group, cm_store_item_t *item, int64_t deleted_ms)
{
    cm_device_change_t removal = {.application_code = item->change.application_code,
                                  .client_id = item->change.client_id,
                                  .device_ms = CM_TIME_NONE,
                                  .push_ms = CM_TIME_NONE,
                                  .contact_ms = CM_TIME_NONE,
                                  .removed_ms = deleted_ms};
    cm_device_change_merge(&item->change, &removal);
    item->erased = group->erases = true;
}

static void take_settled(cm_device_group_t *group, const PGresult *result)
{
    for (int row = 0; row < PQntuples(result); row++) {
        int64_t index = cm_pg_binary_i64(result, row, 0) - 1;
        if (index < 0 || (size_t)index >= group->count)
            continue;
        cm_store_item_t *item = group->items[index];
        group->wanted[index] = cm_pg_binary_bool(result, row, 1);
        if (cm_pg_binary_bool(result, row, 4))
            item->result = CM_CHANGE_APPLIED;
        if (!PQgetisnull(result, row, 3))
            erase(group, item, cm_pg_binary_i64(result, row, 3));
        else if (!group->wanted[index] && item->result != CM_CHANGE_APPLIED)
            item->result = cm_pg_binary_bool(result, row, 2) && !item->erased ? CM_CHANGE_DUPLICATE
                                                                              : CM_CHANGE_STALE;
    }
}

static void take_result(void *ctx, size_t index, cm_status_t status, const PGresult *result,
                        const cm_error_t *err)
{
    cm_device_store_t *self = ctx;
    const cm_device_step_t *step = &self->steps[index];
    (void)err; /* pump tells it, too */
    if (status != CM_OK)
        return;
    switch (step->kind) {
    case CM_DEVICE_STEP_LIMIT:
    case CM_DEVICE_STEP_LOCK:
    case CM_DEVICE_STEP_NOTE:
        break;
    case CM_DEVICE_STEP_REMOVE:
        take_written(&self->groups[step->group], CM_DEVICE_PART_REMOVAL, result);
        break;
    case CM_DEVICE_STEP_UPSERT:
        take_written(&self->groups[step->group], CM_DEVICE_PART_REGISTERS, result);
        break;
    case CM_DEVICE_STEP_UPSERT_COUNTED:
        take_counted(&self->groups[step->group], result);
        break;
    case CM_DEVICE_STEP_XID:
        take_xid(self, result);
        break;
    case CM_DEVICE_STEP_SETTLE:
        take_settled(&self->groups[step->group], result);
        break;
    }
}

/* ---- from phase to phase -------------------------------------------------------------------- */

typedef bool(keeps_fn)(const cm_device_store_t *self, const cm_device_group_t *group, size_t item);

/* Go on with the items that `keeps` says, and the groups that have any. */
static void keep(cm_device_store_t *self, keeps_fn *keeps)
{
    cm_device_group_t *rest = cm_arena_alloc(self->arena, self->group_count * sizeof *rest);
    size_t count = 0;
    for (size_t i = 0; i < self->group_count; i++) {
        const cm_device_group_t *group = &self->groups[i];
        size_t kept = 0;
        for (size_t k = 0; k < group->count; k++)
            kept += keeps(self, group, k);
        if (kept == 0)
            continue;
        cm_device_group_t *part = &rest[count++];
        *part = (cm_device_group_t){
            .tenant = group->tenant,
            .on_trial = group->on_trial,
            .erases = group->erases,
            .items = cm_arena_alloc(self->arena, kept * sizeof(cm_store_item_t *))};
        for (size_t k = 0; k < group->count; k++)
            if (keeps(self, group, k))
                part->items[part->count++] = group->items[k];
    }
    self->groups = rest;
    self->group_count = count;
}

/* After a write: something of the item was not written. */
static bool is_unsettled(const cm_device_store_t *self, const cm_device_group_t *group, size_t item)
{
    const cm_device_change_t *change = &group->items[item]->change;
    unsigned char sent = 0;
    if ((self->removals_sent || group->erases) && cm_device_sql_is_removal(change))
        sent |= CM_DEVICE_PART_REMOVAL;
    if (cm_device_sql_has_register(change))
        sent |= CM_DEVICE_PART_REGISTERS;
    return group->parts[item] != sent;
}

/* After settling: the full rule must write it. */
static bool is_wanted(const cm_device_store_t *self, const cm_device_group_t *group, size_t item)
{
    (void)self;
    return group->wanted[item];
}

/* Committed: whatever was written of an item, it is applied. */
static void mark_applied(cm_device_store_t *self)
{
    for (size_t i = 0; i < self->group_count; i++)
        for (size_t k = 0; k < self->groups[i].count; k++)
            if (self->groups[i].parts[k])
                self->groups[i].items[k]->result = CM_CHANGE_APPLIED;
}

/* The pipeline has succeeded: what next? */
static cm_status_t advance(cm_device_store_t *self, bool *ret_done, cm_error_t *err)
{
    bool settled = self->phase == CM_DEVICE_PHASE_SETTLE;
    if (!settled) {
        self->stats.transactions++;
        mark_applied(self);
    }
    keep(self, settled ? is_wanted : is_unsettled);
    *ret_done = self->group_count == 0;
    if (*ret_done) {
        self->phase = CM_DEVICE_PHASE_NONE;
        return CM_OK;
    }
    if (!settled)
        return send_phase(self, CM_DEVICE_PHASE_SETTLE, false, false, err);
    /* Each further round takes another writer who changed the very rows in between. */
    if (++self->rounds == ROUNDS_MAX) {
        self->failed_group = 0;
        return cm_error_set(err, CM_TRANSIENT, "40001", "rows keep changing under the write");
    }
    return send_phase(self, CM_DEVICE_PHASE_EXACT, true, false, err);
}

static cm_status_t fail(cm_device_store_t *self, cm_status_t status, const cm_error_t *err)
{
    self->phase = CM_DEVICE_PHASE_NONE;
    self->failure = *err;
    return status;
}

/* After a pipeline: blame the group whose statement failed, or go on. */
static cm_status_t end_phase(cm_device_store_t *self, cm_status_t status, int failed,
                             bool *ret_done, cm_error_t *err)
{
    if (status == CM_OK)
        status = advance(self, ret_done, err);
    else if (failed >= 0 && (size_t)failed < self->step_count)
        self->failed_group = self->steps[failed].group;
    return status == CM_OK ? CM_OK : fail(self, status, err);
}

/* ---- the interface of the other files ------------------------------------------------------- */

cm_status_t cm_device_attempt_start(cm_device_store_t *self, cm_device_group_t *groups,
                                    size_t count, bool exact, cm_error_t *err)
{
    self->groups = groups;
    self->group_count = count;
    self->rounds = 0;
    cm_status_t status = send_phase(self, CM_DEVICE_PHASE_WRITE, exact, true, err);
    return status == CM_OK ? CM_OK : fail(self, status, err);
}

cm_status_t cm_device_attempt_pump(cm_device_store_t *self, bool *ret_done, cm_error_t *err)
{
    bool over = false;
    int failed = -1;
    *ret_done = false;
    cm_status_t status = cm_pg_pipeline_pump(self->pg, &over, &failed, err);
    return status == CM_OK && !over ? CM_OK : end_phase(self, status, failed, ret_done, err);
}

cm_status_t cm_device_attempt_run(cm_device_store_t *self, cm_device_group_t *groups, size_t count,
                                  bool exact, cm_error_t *err)
{
    bool done = count == 0;
    cm_status_t status = done ? CM_OK : cm_device_attempt_start(self, groups, count, exact, err);
    while (status == CM_OK && !done) {
        int failed = -1;
        status = cm_pg_pipeline_wait(self->pg, &failed, err);
        status = end_phase(self, status, failed, &done, err);
    }
    return status;
}
