#include "schema/device_store.h"
#include "runtime/cleanup.h"
#include "schema/device_sql.h"
#include "schema/device_store_private.h"
#include "schema/sql.h"

#include <assert.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

enum {
    ARENA_BLOCK_BYTES = 256 * 1024,
    POLL_MAX_MS = 1000,
    ISOLATED_STATEMENT_MS = 3000,
    TRIAL_STATEMENT_MS = 1000,
    ISOLATE_MS = 20000
};

cm_device_store_t *cm_device_store_new(cm_pg_t *pg, const char *admin_schema)
{
    cm_device_store_t *self = calloc(1, sizeof *self);
    if (!self)
        abort();
    self->pg = pg;
    self->admin_schema = admin_schema;
    self->arena = cm_arena_new(ARENA_BLOCK_BYTES);
    self->erasure_key = "";
    cm_device_store_set_patience(self, &(cm_device_patience_t){0});
    return self;
}

void cm_device_store_set_erasure_key(cm_device_store_t *self, const char *key)
{
    assert(!self->touched); /* the keys of tenants are kept */
    self->erasure_key = key;
}

void cm_device_store_set_patience(cm_device_store_t *self, const cm_device_patience_t *patience)
{
    self->patience = *patience;
    if (!patience->statement_ms)
        self->patience.statement_ms = ISOLATED_STATEMENT_MS;
    if (!patience->trial_ms)
        self->patience.trial_ms = TRIAL_STATEMENT_MS;
    if (!patience->isolate_ms)
        self->patience.isolate_ms = ISOLATE_MS;
}

void cm_device_store_destroy(cm_device_store_t **self_p)
{
    cm_device_store_t *self = *self_p;
    if (!self)
        return;
    cm_device_touched_clear(self);
    cm_pg_arrays_destroy(&self->arrays);
    cm_buffer_destroy(&self->sql);
    cm_arena_destroy(&self->arena);
    free(self->steps);
    free(self);
    *self_p = NULL;
}

/* A group of what there is to send; a change without any register or removal is there already. */
static cm_device_group_t group_of(cm_device_store_t *self, cm_store_tenant_t *tenant)
{
    cm_device_group_t group = {.tenant = tenant->tenant, .on_trial = tenant->on_trial};
    group.items = cm_arena_alloc(self->arena, tenant->count * sizeof(cm_store_item_t *));
    for (size_t i = 0; i < tenant->count; i++) {
        cm_store_item_t *item = &tenant->items[i];
        assert(i == 0 || cm_device_change_cmp_key(&item[-1].change, &item->change) < 0);
        bool sends =
            cm_device_sql_has_register(&item->change) || cm_device_sql_is_removal(&item->change);
        item->result = sends ? CM_CHANGE_PENDING : CM_CHANGE_DUPLICATE;
        item->error = NULL;
        item->erased = false;
        if (sends)
            group.items[group.count++] = item;
    }
    return group;
}

cm_status_t cm_device_store_begin(cm_device_store_t *self, cm_store_tenant_t *tenants, size_t count,
                                  cm_error_t *err)
{
    assert(self->phase == CM_DEVICE_PHASE_NONE);
    cm_error_t failure = {0};
    cm_arena_reset(self->arena);
    cm_device_group_t *groups = cm_arena_alloc(self->arena, count * sizeof *groups);
    size_t filled = 0;
    for (size_t i = 0; i < count; i++) {
        assert(i == 0 || strcmp(tenants[i - 1].tenant, tenants[i].tenant) < 0);
        groups[filled] = group_of(self, &tenants[i]);
        filled += groups[filled].count > 0;
    }
    cm_status_t status = CM_OK;
    self->group_count = filled;
    if (filled > 0)
        status = cm_device_attempt_start(self, groups, filled, false, &failure);
    if (status != CM_OK && err)
        *err = failure;
    return status;
}

cm_status_t cm_device_store_pump(cm_device_store_t *self, bool *ret_done, cm_error_t *err)
{
    cm_error_t failure = {0};
    *ret_done = self->phase == CM_DEVICE_PHASE_NONE; /* begun with nothing to send */
    if (*ret_done)
        return CM_OK;
    cm_status_t status = cm_device_attempt_pump(self, ret_done, &failure);
    /* A tenant whose tables are not as we know them is no matter of the whole connection. */
    bool whole = status == CM_MISCONFIGURED || status == CM_UNAVAILABLE;
    if (whole && cm_pg_is_isolable(&failure))
        status = failure.status = CM_TRANSIENT;
    if (status != CM_OK && err)
        *err = failure;
    return status;
}

cm_status_t cm_device_store_try_lock(cm_device_store_t *self, const char *tenant, cm_error_t *err)
{
    assert(self->phase == CM_DEVICE_PHASE_NONE);
    char schema[CM_TENANT_SCHEMA_MAX];
    cm_status_t status =
        cm_sql_exec(self->pg, cm_device_sql_try_lock, cm_tenant_id_schema(tenant, schema), err);
    cm_pg_rollback(self->pg);
    return status;
}

bool cm_device_store_wants_write(const cm_device_store_t *self)
{
    return cm_pg_pipeline_wants_write(self->pg);
}

cm_device_store_stats_t cm_device_store_stats(const cm_device_store_t *self)
{
    cm_device_store_stats_t stats = self->stats;
    if (self->connected_at_ms != cm_pg_connected_at_ms(self->pg))
        stats.tenants_touched = 0;
    return stats;
}

static void await_socket(const cm_device_store_t *self)
{
    struct pollfd item = {.fd = cm_pg_fd(self->pg), .events = POLLIN};
    if (cm_device_store_wants_write(self))
        item.events |= POLLOUT;
    poll(&item, 1, POLL_MAX_MS);
}

cm_status_t cm_device_store_write(cm_device_store_t *self, cm_store_tenant_t *tenants, size_t count,
                                  cm_error_t *err)
{
    cm_error_t failure = {0};
    bool done = false;
    cm_status_t status = cm_device_store_begin(self, tenants, count, &failure);
    while (status == CM_OK && !done) {
        status = cm_device_store_pump(self, &done, &failure);
        if (status == CM_OK && !done)
            await_socket(self);
    }
    if (status != CM_OK && cm_pg_is_isolable(&failure))
        status = cm_device_store_isolate(self, &failure);
    if (status != CM_OK && err)
        *err = failure;
    return status;
}
