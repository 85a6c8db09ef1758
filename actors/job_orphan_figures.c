#include "actors/job_orphan_figures.h"
#include "runtime/cleanup.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { GUARDED_MAX = 100 };

static const char *const names[CM_ORPHAN_ENDS] = {"done",     "failed", "guarded",
                                                  "excluded", "held",   "gone"};

void cm_orphan_tenants_add(cm_orphan_tenants_t *self, const cm_orphan_tenant_t *tenant)
{
    if (self->count == self->cap) {
        self->cap = self->cap ? 2 * self->cap : 16;
        self->items = realloc(self->items, self->cap * sizeof *self->items);
        if (!self->items)
            abort();
    }
    self->items[self->count++] = *tenant;
}

void cm_orphan_tenants_destroy(cm_orphan_tenants_t *self)
{
    free(self->items);
    *self = (cm_orphan_tenants_t){0};
}

void cm_orphan_figures_destroy(cm_orphan_figures_t *self)
{
    cm_orphan_tenants_destroy(&self->guarded);
}

/* ---- sums ----------------------------------------------------------------------------------- */

void cm_orphan_result_add(cm_orphan_result_t *sum, const cm_orphan_result_t *result)
{
    sum->devices += result->devices;
    sum->orphans += result->orphans;
    sum->deleted += result->deleted;
    sum->batches += result->batches;
    sum->lock_waits += result->lock_waits;
}

void cm_orphan_attempt_add(cm_orphan_result_t *all, const cm_orphan_result_t *attempt)
{
    int64_t devices = all->deleted + attempt->devices, orphans = all->deleted + attempt->orphans;
    if (devices > all->devices) /* one that failed early has not counted all */
        all->devices = devices;
    if (orphans > all->orphans)
        all->orphans = orphans;
    all->deleted += attempt->deleted;
    all->batches += attempt->batches;
    all->lock_waits += attempt->lock_waits;
    all->excluded = attempt->excluded;
    all->guarded = attempt->guarded;
}

void cm_orphan_figures_add(cm_orphan_figures_t *self, cm_orphan_end_t end,
                           const cm_orphan_tenant_t *tenant)
{
    self->tenants[end]++;
    cm_orphan_result_add(&self->sum, &tenant->result);
    if (end == CM_ORPHAN_GUARDED && self->guarded.count < GUARDED_MAX)
        cm_orphan_tenants_add(&self->guarded, tenant);
}

void cm_orphan_figures_take(cm_orphan_figures_t *self, cm_orphan_end_t end,
                            const cm_orphan_tenant_t *tenant)
{
    const cm_orphan_result_t *r = &tenant->result;
    self->tenants[end]--;
    cm_orphan_result_add(&self->sum, &(cm_orphan_result_t){.devices = -r->devices,
                                                           .orphans = -r->orphans,
                                                           .deleted = -r->deleted,
                                                           .batches = -r->batches,
                                                           .lock_waits = -r->lock_waits});
}

/* ---- JSON ----------------------------------------------------------------------------------- */

static void append_result(cm_buffer_t *out, const cm_orphan_result_t *result)
{
    cm_buffer_printf(out,
                     "\"devices\": %" PRId64 ", \"orphans\": %" PRId64 ", \"deleted\": %" PRId64
                     ", \"batches\": %" PRId64 ", \"lock_waits\": %" PRId64,
                     result->devices, result->orphans, result->deleted, result->batches,
                     result->lock_waits);
}

void cm_orphan_detail_write(cm_buffer_t *out, cm_orphan_end_t end, const cm_orphan_result_t *result)
{
    cm_buffer_printf(out, "{\"end\": \"%s\", ", names[end]);
    append_result(out, result);
    cm_buffer_printf(out, "}");
}

void cm_orphan_detail_read(cm_str_t detail, cm_orphan_end_t *ret_end,
                           cm_orphan_result_t *ret_result)
{
    json_t *root = json_loadb(detail.ptr ? detail.ptr : "", detail.len, 0, NULL);
    const char *name = json_string_value(json_object_get(root, "end"));
    *ret_end = CM_ORPHAN_DONE;
    for (int end = 0; name && end < CM_ORPHAN_ENDS; end++)
        if (strcmp(names[end], name) == 0)
            *ret_end = (cm_orphan_end_t)end;
    *ret_result = (cm_orphan_result_t){
        .devices = json_integer_value(json_object_get(root, "devices")),
        .orphans = json_integer_value(json_object_get(root, "orphans")),
        .deleted = json_integer_value(json_object_get(root, "deleted")),
        .batches = json_integer_value(json_object_get(root, "batches")),
        .lock_waits = json_integer_value(json_object_get(root, "lock_waits")),
    };
    json_decref(root);
}

void cm_orphan_summary_write(cm_buffer_t *out, const cm_orphan_figures_t *self)
{
    cm_buffer_printf(out, "{");
    for (int end = 0; end < CM_ORPHAN_ENDS; end++) {
        uint64_t count = self->tenants[end];
        if (end == CM_ORPHAN_FAILED)
            count += self->tenants[CM_ORPHAN_GUARDED];
        cm_buffer_printf(out, "\"tenants_%s\": %" PRIu64 ", ", names[end], count);
    }
    append_result(out, &self->sum);
    cm_buffer_printf(out, ", \"retry_rounds\": %d, \"guarded\": [", self->rounds);
    for (size_t i = 0; i < self->guarded.count; i++) {
        const cm_orphan_tenant_t *tenant = &self->guarded.items[i]; /* no id needs escapes */
        cm_buffer_printf(
            out, "%s{\"tenant\": \"%s\", \"devices\": %" PRId64 ", \"orphans\": %" PRId64 "}",
            i ? ", " : "", tenant->id, tenant->result.devices, tenant->result.orphans);
    }
    cm_buffer_printf(out, "]}");
}
