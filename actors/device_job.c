#include "actors/device_job.h"
#include "runtime/clock.h"
#include "runtime/crash.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

typedef struct { /* an event that decoded, before grouping */
    cm_device_change_t change;
    char tenant[CM_TENANT_ID_MAX];
    uint32_t index; /* of its delivery */
    uint32_t next;  /* next event of the same tenant; CM_JOB_END */
    bool malformed; /* there is no change */
} event_t;

typedef struct { /* a tenant of the batch while grouping */
    const event_t *first;
    uint32_t head, tail, count;
} group_t; /* of events, malformed ones included */

void cm_device_job_init(cm_device_job_t *self)
{
    *self = (cm_device_job_t){.arena = cm_arena_new(2 * 1024 * 1024)};
}

static void unload(cm_device_job_t *self)
{
    if (self->loaded)
        zmq_msg_close(&self->frame);
    *self = (cm_device_job_t){.arena = self->arena};
    cm_arena_reset(self->arena);
}

void cm_device_job_destroy(cm_device_job_t *self)
{
    unload(self);
    cm_arena_destroy(&self->arena);
}

/* ---- deciding ------------------------------------------------------------------------------- */

static void decide(cm_device_job_t *self, size_t index, cm_outcome_kind_t kind, int64_t until_ms)
{
    cm_job_entry_t *entry = &self->entries[index];
    entry->decided = true;
    entry->outcome =
        (cm_outcome_t){.lease = self->batch.items[index].lease, .kind = kind, .until_ms = until_ms};
}

void cm_device_job_fail_entry(cm_device_job_t *self, size_t index, cm_device_rules_t *rules,
                              const cm_error_t *err)
{
    const cm_delivery_t *delivery = &self->batch.items[index];
    char topic[CM_TOPIC_NAME_MAX];
    if (cm_outcome_for(err->status) == CM_OUTCOME_RELEASE) {
        decide(self, index, CM_OUTCOME_RELEASE, 0);
        return;
    }
    cm_subscription_topic(self->batch.subscription, rules->prefix, topic);
    cm_str_t kept = cm_arena_copy(self->arena, cm_str(topic));
    cm_job_entry_t *entry = &self->entries[index];
    entry->decided = true;
    cm_retry_decide(&rules->retry, delivery, kept.ptr, err, cm_clock_epoch_ms(), &rules->random,
                    self->arena, &entry->outcome);
}

void cm_device_job_settle(cm_device_job_t *self, cm_job_tenant_t *tenant, cm_outcome_kind_t kind,
                          int64_t until_ms)
{
    tenant->settled = true;
    for (uint32_t i = tenant->first; i != CM_JOB_END; i = self->entries[i].next) {
        const cm_job_entry_t *entry = &self->entries[i];
        if (!entry->decided && (!entry->malformed || kind == CM_OUTCOME_DROPPED))
            decide(self, i, kind, until_ms);
    }
}

void cm_device_job_fail(cm_device_job_t *self, cm_job_tenant_t *tenant, cm_device_rules_t *rules,
                        const cm_error_t *err)
{
    tenant->settled = true;
    for (uint32_t i = tenant->first; i != CM_JOB_END; i = self->entries[i].next)
        if (!self->entries[i].decided && !self->entries[i].malformed)
            cm_device_job_fail_entry(self, i, rules, err);
}

/* ---- loading -------------------------------------------------------------------------------- */

/* A malformed delivery: false when nobody can tell whose it is. */
static bool keep_malformed(cm_device_job_t *self, size_t index, const char *tenant,
                           const cm_error_t *err, event_t *event)
{
    *event = (event_t){.index = (uint32_t)index, .next = CM_JOB_END, .malformed = true};
    if (*tenant)
        memcpy(event->tenant, tenant, sizeof event->tenant);
    else if (!cm_delivery_tenant(&self->batch.items[index], event->tenant))
        return false;
    cm_error_t *kept = cm_arena_alloc(self->arena, sizeof *kept);
    *kept = *err;
    self->entries[index].malformed = kept;
    return true;
}

/* Decode one delivery; false when its outcome is decided already. */
static bool decode(cm_device_job_t *self, size_t index, cm_device_rules_t *rules, int64_t now_ms,
                   event_t *event)
{
    const cm_delivery_t *delivery = &self->batch.items[index];
    if (rules->waits) {
        int64_t due_ms = cm_retry_not_before(delivery, &rules->retry, now_ms);
        if (due_ms > now_ms) {
            decide(self, index, CM_OUTCOME_DEFER, due_ms);
            return false;
        }
    }
    cm_device_event_t decoded;
    cm_error_t err = {0};
    if (cm_device_event_decode(delivery->body, now_ms, self->arena, &decoded, &err) != CM_OK) {
        bool known = keep_malformed(self, index, decoded.tenant, &err, event);
        if (!known)
            cm_device_job_fail_entry(self, index, rules, &err);
        return known;
    }
    cm_device_change_from_event(&event->change, &decoded);
    memcpy(event->tenant, decoded.tenant, sizeof event->tenant);
    event->index = (uint32_t)index;
    event->next = CM_JOB_END;
    event->malformed = false;
    return true;
}

/* Group events by tenant through an open-addressed table of twice their number. */
static size_t group(cm_device_job_t *self, event_t *events, size_t count, group_t *groups)
{
    size_t places = 64;
    while (places < count * 2)
        places *= 2;
    uint32_t *table = cm_arena_alloc(self->arena, places * sizeof *table);
    memset(table, 0, places * sizeof *table);
    size_t group_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        size_t at = XXH3_64bits(events[i].tenant, strlen(events[i].tenant)) & (places - 1);
        while (table[at] && strcmp(groups[table[at] - 1].first->tenant, events[i].tenant) != 0)
            at = (at + 1) & (places - 1);
        if (!table[at]) {
            groups[group_count] = (group_t){.first = &events[i], .head = i, .tail = i, .count = 1};
            table[at] = (uint32_t)++group_count;
            continue;
        }
        group_t *found = &groups[table[at] - 1];
        events[found->tail].next = i;
        found->tail = i;
        found->count++;
    }
    return group_count;
}

static int by_tenant(const void *a, const void *b)
{
    return strcmp(((const group_t *)a)->first->tenant, ((const group_t *)b)->first->tenant);
}

static int by_key(const void *a, const void *b)
{
    const event_t *left = *(const event_t *const *)a, *right = *(const event_t *const *)b;
    int order = cm_device_change_cmp_key(&left->change, &right->change);
    return order ? order : (left->index > right->index) - (left->index < right->index);
}

/* Sort the events of one tenant by key and merge those of one device, in the order they came. */
static void merge(cm_device_job_t *self, event_t *events, const group_t *group,
                  cm_job_tenant_t *tenant)
{
    event_t **sorted = cm_arena_alloc(self->arena, group->count * sizeof(event_t *));
    tenant->first = events[group->head].index;
    size_t count = 0;
    uint32_t at = group->head;
    for (size_t i = 0; i < group->count; i++, at = events[at].next) {
        if (!events[at].malformed)
            sorted[count++] = &events[at];
        self->entries[events[at].index].next =
            events[at].next == CM_JOB_END ? CM_JOB_END : events[events[at].next].index;
    }
    tenant->has_malformed = count < group->count;
    qsort(sorted, count, sizeof(event_t *), by_key);
    cm_store_tenant_t *store = &tenant->store;
    memcpy(store->tenant, group->first->tenant, sizeof store->tenant);
    for (size_t i = 0; i < count; i++) {
        cm_job_entry_t *entry = &self->entries[sorted[i]->index];
        cm_store_item_t *last = store->count ? &store->items[store->count - 1] : NULL;
        if (last && cm_device_change_cmp_key(&last->change, &sorted[i]->change) == 0) {
            entry->merge = cm_device_change_merge(&last->change, &sorted[i]->change);
        } else {
            last = &store->items[store->count++];
            *last = (cm_store_item_t){.change = sorted[i]->change};
            entry->merge = CM_MERGE_APPLIED;
        }
        entry->item = last;
    }
}

bool cm_device_job_load(cm_device_job_t *self, zmq_msg_t *frame, cm_device_rules_t *rules,
                        cm_error_t *err)
{
    self->loaded = true;
    zmq_msg_init(&self->frame);
    zmq_msg_move(&self->frame, frame);
    if (cm_delivery_batch_decode(zmq_msg_data(&self->frame), zmq_msg_size(&self->frame),
                                 self->arena, &self->batch, err) != CM_OK) {
        unload(self);
        return false;
    }
    size_t count = self->batch.count;
    self->entries = cm_arena_alloc(self->arena, count * sizeof *self->entries);
    memset(self->entries, 0, count * sizeof *self->entries);
    event_t *events = cm_arena_alloc(self->arena, count * sizeof *events);
    int64_t now_ms = cm_clock_epoch_ms();
    size_t decoded = 0;
    for (size_t i = 0; i < count; i++)
        decoded += decode(self, i, rules, now_ms, &events[decoded]);
    group_t *groups = cm_arena_alloc(self->arena, (decoded + 1) * sizeof *groups);
    self->tenant_count = group(self, events, decoded, groups);
    qsort(groups, self->tenant_count, sizeof *groups, by_tenant);
    self->tenants = cm_arena_alloc(self->arena, self->tenant_count * sizeof *self->tenants);
    cm_store_item_t *items = cm_arena_alloc(self->arena, decoded * sizeof *items);
    for (size_t i = 0; i < self->tenant_count; i++) {
        self->tenants[i] = (cm_job_tenant_t){.store = {.items = items}};
        items += groups[i].count;
        merge(self, events, &groups[i], &self->tenants[i]);
    }
    cm_crash_point("after-decode");
    return true;
}

/* ---- after the write ------------------------------------------------------------------------ */

static void reject_malformed(cm_device_job_t *self, cm_job_tenant_t *tenant,
                             cm_device_rules_t *rules)
{
    for (uint32_t i = tenant->first; i != CM_JOB_END; i = self->entries[i].next)
        if (!self->entries[i].decided && self->entries[i].malformed)
            cm_device_job_fail_entry(self, i, rules, self->entries[i].malformed);
    if (!tenant->store.count)
        tenant->settled = true;
}

void cm_device_job_select(cm_device_job_t *self, cm_device_rules_t *rules)
{
    for (size_t i = 0; i < self->tenant_count; i++)
        if (self->tenants[i].has_malformed)
            reject_malformed(self, &self->tenants[i], rules);
    if (!self->writing) /* this may be called again and again while the database is away */
        self->writing =
            cm_arena_alloc(self->arena, (self->tenant_count + 1) * sizeof *self->writing);
    self->writing_count = 0;
    for (size_t i = 0; i < self->tenant_count; i++)
        if (!self->tenants[i].settled)
            self->writing[self->writing_count++] = self->tenants[i].store;
}

/* What the row said counts for an event that was news inside its batch; one that was not stays so.
 */
static cm_outcome_kind_t outcome_of(cm_merge_t merge, cm_change_result_t result)
{
    if (merge == CM_MERGE_STALE)
        return CM_OUTCOME_STALE;
    if (merge == CM_MERGE_DUPLICATE)
        return CM_OUTCOME_DUPLICATE;
    return result == CM_CHANGE_APPLIED ? CM_OUTCOME_APPLIED
           : result == CM_CHANGE_STALE ? CM_OUTCOME_STALE
                                       : CM_OUTCOME_DUPLICATE;
}

void cm_device_job_decide_entry(cm_device_job_t *self, size_t index, cm_change_result_t result)
{
    decide(self, index, outcome_of(CM_MERGE_APPLIED, result), 0);
}

/* The store forgets its errors when it is used again, say to try a delivery alone. One error often
 * stands for many items. */
static void keep_errors(cm_device_job_t *self)
{
    const cm_error_t *last = NULL, *copy = NULL;
    for (size_t t = 0; t < self->writing_count; t++) {
        for (size_t i = 0; i < self->writing[t].count; i++) {
            cm_store_item_t *item = &self->writing[t].items[i];
            if (item->result != CM_CHANGE_FAILED)
                continue;
            if (item->error != last) {
                last = item->error;
                cm_error_t *kept = cm_arena_alloc(self->arena, sizeof *kept);
                *kept = *last;
                copy = kept;
            }
            item->error = copy;
        }
    }
}

void cm_device_job_written(cm_device_job_t *self)
{
    keep_errors(self);
    for (size_t i = 0; i < self->batch.count; i++) {
        const cm_job_entry_t *entry = &self->entries[i];
        if (entry->decided || !entry->item || entry->item->result == CM_CHANGE_PENDING ||
            entry->item->result == CM_CHANGE_FAILED)
            continue;
        decide(self, i, outcome_of(entry->merge, entry->item->result), 0);
    }
}

void cm_device_job_finish(cm_device_job_t *self, const cm_device_rules_t *rules, unsigned credits,
                          cm_buffer_t *ret_frame)
{
    cm_outcome_builder_t builder = {0};
    for (size_t i = 0; i < self->batch.count; i++) {
        if (!self->entries[i].decided)
            decide(self, i, CM_OUTCOME_RELEASE, 0);
        cm_outcome_builder_add(&builder, &self->entries[i].outcome);
    }
    cm_outcome_builder_seal(&builder, rules->subworker, rules->shard, self->batch.batch_id, credits,
                            ret_frame);
    unload(self);
}
