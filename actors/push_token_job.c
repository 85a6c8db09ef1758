#include "actors/push_token_job.h"
#include "actors/push_token_metrics.h"

#include <stdlib.h>
#include <string.h>

static void load_entry(cm_push_entry_t *entry, const cm_delivery_t *delivery, int64_t now_ms,
                       cm_arena_t *arena)
{
    cm_error_t err = {0};
    entry->status =
        cm_token_status_event_decode(delivery->body, now_ms, arena, &entry->event, &err);
    if (entry->status != CM_OK) {
        entry->failure = cm_arena_alloc(arena, sizeof err);
        *entry->failure = err;
        return;
    }
    entry->provider =
        entry->event.has_provider ? (unsigned)entry->event.answer.provider : CM_PUSH_NO_PROVIDER;
    entry->judgement = cm_token_status_event_judge(&entry->event);
    entry->changes_token = entry->judgement.verdict == CM_PUSH_VERDICT_GONE ||
                           entry->judgement.verdict == CM_PUSH_VERDICT_VALID;
}

/* By tenant; those that change a token before the others, by provider and application. */
static int compare(const void *a_p, const void *b_p)
{
    const cm_push_entry_t *a = *(cm_push_entry_t *const *)a_p;
    const cm_push_entry_t *b = *(cm_push_entry_t *const *)b_p;
    int by_tenant = strcmp(a->event.tenant, b->event.tenant);
    if (by_tenant != 0)
        return by_tenant;
    if (a->changes_token != b->changes_token)
        return a->changes_token ? -1 : 1;
    if (a->provider != b->provider)
        return a->provider < b->provider ? -1 : 1;
    int by_application = cm_str_cmp(a->event.application_code, b->event.application_code);
    if (by_application != 0)
        return by_application;
    return a->index < b->index ? -1 : a->index > b->index;
}

static cm_token_verdict_t verdict_of(const cm_push_entry_t *entry)
{
    bool named = entry->event.has_provider;
    return (cm_token_verdict_t){
        .application_code = entry->event.application_code,
        .client_id = entry->event.client_id,
        .token = entry->event.token,
        .provider = named ? cm_push_provider_name(entry->event.answer.provider) : "",
        .is_gone = entry->judgement.verdict == CM_PUSH_VERDICT_GONE,
        .at_ms = entry->judgement.at_ms};
}

static bool same_group(const cm_token_verdict_t *a, const cm_token_verdict_t *b)
{
    return strcmp(a->provider, b->provider) == 0 &&
           cm_str_eq(a->application_code, b->application_code);
}

static void load_tenant(cm_push_tenant_t *tenant, cm_push_entry_t **entries, size_t count,
                        cm_arena_t *arena)
{
    *tenant = (cm_push_tenant_t){.entries = entries, .count = count};
    memcpy(tenant->id, entries[0]->event.tenant, sizeof tenant->id);
    tenant->verdicts = cm_arena_alloc(arena, (count + 1) * sizeof *tenant->verdicts);
    tenant->groups = cm_arena_alloc(arena, (count + 1) * sizeof *tenant->groups);
    for (size_t i = 0; i < count && entries[i]->changes_token; i++) {
        cm_token_verdict_t *verdict = &tenant->verdicts[tenant->verdict_count++];
        *verdict = verdict_of(entries[i]);
        entries[i]->verdict = verdict;
        if (i == 0 || !same_group(verdict - 1, verdict))
            tenant->groups[tenant->group_count++] = (cm_push_group_t){.verdicts = verdict};
        tenant->groups[tenant->group_count - 1].count++;
    }
}

void cm_push_job_load(cm_push_job_t *self, const cm_delivery_batch_t *batch, int64_t now_ms,
                      cm_arena_t *arena)
{
    size_t count = batch->count;
    *self = (cm_push_job_t){.count = count};
    self->entries = cm_arena_alloc(arena, (count + 1) * sizeof *self->entries);
    self->order = cm_arena_alloc(arena, (count + 1) * sizeof(cm_push_entry_t *));
    self->tenants = cm_arena_alloc(arena, (count + 1) * sizeof *self->tenants);
    for (size_t i = 0; i < count; i++) {
        self->entries[i] = (cm_push_entry_t){.index = i};
        self->order[i] = &self->entries[i];
        load_entry(&self->entries[i], &batch->items[i], now_ms, arena);
        self->without_tenant += self->entries[i].event.tenant[0] == '\0';
    }
    qsort(self->order, count, sizeof(cm_push_entry_t *), compare);
    for (size_t i = self->without_tenant; i < count;) {
        size_t end = i + 1;
        while (end < count &&
               strcmp(self->order[i]->event.tenant, self->order[end]->event.tenant) == 0)
            end++;
        load_tenant(&self->tenants[self->tenant_count++], &self->order[i], end - i, arena);
        i = end;
    }
}
