#include "bench/batch.h"
#include "bench/setup.h"
#include "proto/device_event.h"

#include <stdlib.h>
#include <string.h>

void cm_bench_batch_init(cm_bench_batch_t *self, size_t cap)
{
    *self = (cm_bench_batch_t){.arena = cm_arena_new(1024 * 1024), .cap = cap};
    cm_bench_batch_clear(self);
}

void cm_bench_batch_destroy(cm_bench_batch_t *self)
{
    cm_arena_destroy(&self->arena);
}

void cm_bench_batch_clear(cm_bench_batch_t *self)
{
    cm_arena_reset(self->arena);
    self->events = cm_arena_alloc(self->arena, self->cap * sizeof *self->events);
    self->count = self->tenant_count = 0;
    self->tenants = NULL;
}

void cm_bench_batch_add(cm_bench_batch_t *self, cm_str_t body, int64_t now_ms)
{
    cm_device_event_t decoded;
    cm_error_t err = {0};
    cm_bench_must(cm_device_event_decode(body, now_ms, self->arena, &decoded, &err), &err, "event");
    if (self->count == self->cap)
        cm_bench_fail("batch is full");
    cm_bench_event_t *event = &self->events[self->count];
    cm_device_change_from_event(&event->change, &decoded);
    memcpy(event->tenant, decoded.tenant, sizeof event->tenant);
    event->index = (uint32_t)self->count++;
}

static int by_tenant_and_key(const void *a, const void *b)
{
    const cm_bench_event_t *left = *(const cm_bench_event_t *const *)a;
    const cm_bench_event_t *right = *(const cm_bench_event_t *const *)b;
    int order = strcmp(left->tenant, right->tenant);
    if (order == 0)
        order = cm_device_change_cmp_key(&left->change, &right->change);
    return order ? order : (left->index > right->index) - (left->index < right->index);
}

void cm_bench_batch_group(cm_bench_batch_t *self)
{
    size_t count = self->count;
    cm_bench_event_t **sorted = cm_arena_alloc(self->arena, (count + 1) * sizeof *sorted);
    cm_store_item_t *items = cm_arena_alloc(self->arena, (count + 1) * sizeof *items);
    self->tenants = cm_arena_alloc(self->arena, (count + 1) * sizeof *self->tenants);
    for (size_t i = 0; i < count; i++)
        sorted[i] = &self->events[i];
    qsort(sorted, count, sizeof *sorted, by_tenant_and_key);
    cm_store_tenant_t *tenant = NULL;
    for (size_t i = 0; i < count; i++) {
        if (!tenant || strcmp(tenant->tenant, sorted[i]->tenant) != 0) {
            tenant = &self->tenants[self->tenant_count++];
            *tenant = (cm_store_tenant_t){.items = items};
            memcpy(tenant->tenant, sorted[i]->tenant, sizeof tenant->tenant);
        }
        cm_store_item_t *last = tenant->count ? &tenant->items[tenant->count - 1] : NULL;
        if (last && cm_device_change_cmp_key(&last->change, &sorted[i]->change) == 0) {
            cm_device_change_merge(&last->change, &sorted[i]->change);
            continue;
        }
        *items++ = (cm_store_item_t){.change = sorted[i]->change};
        tenant->count++;
    }
}

uint64_t cm_bench_batch_results(const cm_bench_batch_t *self, cm_change_result_t result)
{
    uint64_t count = 0;
    for (size_t t = 0; t < self->tenant_count; t++)
        for (size_t i = 0; i < self->tenants[t].count; i++)
            count += self->tenants[t].items[i].result == result;
    return count;
}
