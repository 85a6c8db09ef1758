#include "actors/contact_deletion.h"
#include "actors/rejections.h"
#include "proto/contact_event.h"
#include "proto/retry.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "runtime/log.h"
#include "schema/contact_store.h"
#include "schema/erasure.h"
#include "schema/tenant_registry.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    BUSY_MS = 1000, /* a lock, a time-out; and as much again by chance */
    SUSPENDED_MS = 30000,
    BROKEN_MS = 60000, /* the tenant's tables are damaged, or not as we know them */
    UNKNOWN_MS = 5000  /* its tables are not there; the registry may know then */
};

typedef struct {
    const cm_subworker_args_t *args;
    cm_contact_place_t place;
    uint64_t random;
    bool key_checked;
    cm_metric_t *contacts, *devices, *letters, *verdicts;
} deleter_t;

typedef struct { /* a delivery that decoded */
    cm_contact_deletion_event_t event;
    size_t index;            /* of the delivery */
    cm_contact_item_t *item; /* NULL: its tenant is not to be written */
    bool decides;            /* the item stands for this one; others are older or the same */
} entry_t;

typedef struct {
    deleter_t *self;
    const cm_delivery_batch_t *batch;
    cm_outcome_t *outcomes;
    cm_arena_t *arena;
    cm_rejections_t rejections;
    int64_t now_ms;
    entry_t *entries; /* sorted by tenant, contact, latest first */
    size_t count;
    cm_contact_tenant_t *tenants;
    cm_tenant_state_t *states;
    size_t tenant_count;
} job_t;

static cm_status_t deleter_open(void **ret_state, const cm_subworker_args_t *args,
                                cm_metrics_t *metrics, cm_error_t *err)
{
    (void)err;
    deleter_t *self = calloc(1, sizeof *self);
    if (!self)
        abort();
    *self = (deleter_t){.args = args,
                        .place = {args->options->postgres.admin_schema, args->options->erasure.key},
                        .random = cm_random_u64()};
    self->contacts = cm_metrics_counter(metrics, "client_manager_contacts_deleted_total",
                                        "Contacts deleted, each deletion once.", "");
    self->devices = cm_metrics_counter(metrics, "client_manager_contact_devices_removed_total",
                                       "Devices removed with their contacts.", "");
    self->letters = cm_metrics_counter(metrics, "client_manager_dead_letters_erased_total",
                                       "Dead letters removed with the contacts they were of.", "");
    self->verdicts = cm_metrics_counter(metrics, "client_manager_held_verdicts_erased_total",
                                        "Held push verdicts removed with their devices.", "");
    *ret_state = self;
    return CM_OK;
}

/* ---- outcomes ------------------------------------------------------------------------------- */

static void defer(job_t *job, size_t index, int64_t wait_ms)
{
    uint64_t chance = cm_random_below(&job->self->random, (uint64_t)wait_ms);
    job->outcomes[index].kind = CM_OUTCOME_DEFER;
    job->outcomes[index].until_ms = job->now_ms + wait_ms + (int64_t)chance;
}

static void await_tenant(job_t *job, const entry_t *entry)
{
    cm_error_t err = {0};
    cm_outcome_t *outcome = &job->outcomes[entry->index];
    if (cm_retry_await_tenant(&job->batch->items[entry->index], job->now_ms, &job->self->random,
                              &outcome->until_ms)) {
        outcome->kind = CM_OUTCOME_DEFER;
        return;
    }
    cm_error_set(&err, CM_MISSING, "tenant-missing", "the tenant did not become active");
    cm_rejections_add(&job->rejections, entry->index, entry->event.tenant, &err);
}

static void settle_by_state(job_t *job, const entry_t *entry, cm_tenant_state_t state)
{
    switch (state) {
    case CM_TENANT_ACTIVE:
        break;
    case CM_TENANT_SUSPENDED:
        defer(job, entry->index, SUSPENDED_MS);
        break;
    case CM_TENANT_UNREADY:
        defer(job, entry->index, BROKEN_MS);
        break;
    case CM_TENANT_DELETING:
    case CM_TENANT_DELETED:
        job->outcomes[entry->index].kind = CM_OUTCOME_DROPPED;
        break;
    case CM_TENANT_ABSENT:
    case CM_TENANT_ACTIVATING:
        await_tenant(job, entry);
        break;
    }
}

static void settle_failure(job_t *job, const entry_t *entry, const cm_error_t *err)
{
    if (err->status == CM_PERMANENT)
        cm_rejections_add(&job->rejections, entry->index, entry->event.tenant, err);
    else
        defer(job, entry->index,
              err->status == CM_TRANSIENT ? BUSY_MS
              : err->status == CM_MISSING ? UNKNOWN_MS
                                          : BROKEN_MS);
}

static void settle_written(job_t *job, const entry_t *entry)
{
    cm_outcome_t *outcome = &job->outcomes[entry->index];
    const cm_contact_item_t *item = entry->item;
    if (item->result == CM_CONTACT_FAILED)
        settle_failure(job, entry, &item->error);
    else if (!entry->decides)
        outcome->kind =
            entry->event.deleted_ms == item->deleted_ms ? CM_OUTCOME_DUPLICATE : CM_OUTCOME_STALE;
    else
        outcome->kind = item->result == CM_CONTACT_APPLIED     ? CM_OUTCOME_APPLIED
                        : item->result == CM_CONTACT_DUPLICATE ? CM_OUTCOME_DUPLICATE
                                                               : CM_OUTCOME_STALE;
}

/* ---- a batch -------------------------------------------------------------------------------- */

static int by_tenant_contact_time(const void *a, const void *b)
{
    const entry_t *left = a, *right = b;
    int order = strcmp(left->event.tenant, right->event.tenant);
    if (order == 0)
        order = (left->event.contact_id > right->event.contact_id) -
                (left->event.contact_id < right->event.contact_id);
    if (order == 0)
        order = (left->event.deleted_ms < right->event.deleted_ms) -
                (left->event.deleted_ms > right->event.deleted_ms);
    return order ? order : (left->index > right->index) - (left->index < right->index);
}

static void decode_all(job_t *job)
{
    cm_error_t err = {0};
    job->entries = cm_arena_alloc(job->arena, (job->batch->count + 1) * sizeof *job->entries);
    for (size_t i = 0; i < job->batch->count; i++) {
        entry_t *entry = &job->entries[job->count];
        *entry = (entry_t){.index = i};
        if (cm_contact_deletion_decode(job->batch->items[i].body, job->now_ms, job->arena,
                                       &entry->event, &err) == CM_OK)
            job->count++;
        else
            cm_rejections_add(&job->rejections, i, entry->event.tenant, &err);
    }
    qsort(job->entries, job->count, sizeof *job->entries, by_tenant_contact_time);
}

static cm_status_t read_states(job_t *job, cm_pg_t *pg, cm_error_t *err)
{
    size_t room = job->count + 1;
    char(*ids)[CM_TENANT_ID_MAX] = cm_arena_alloc(job->arena, room * sizeof *ids);
    job->states = cm_arena_alloc(job->arena, room * sizeof *job->states);
    size_t count = 0;
    for (size_t i = 0; i < job->count; i++) {
        const char *tenant = job->entries[i].event.tenant;
        if (count == 0 || strcmp(ids[count - 1], tenant) != 0)
            memcpy(ids[count++], tenant, CM_TENANT_ID_MAX);
    }
    return cm_tenant_registry_states(pg, job->self->place.admin_schema,
                                     (const char(*)[CM_TENANT_ID_MAX])ids, count, job->states, err);
}

/* Take an entry of an active tenant into the tenant's items. */
static void take(job_t *job, entry_t *entry, cm_contact_item_t **next)
{
    cm_contact_tenant_t *tenant = job->tenant_count ? &job->tenants[job->tenant_count - 1] : NULL;
    if (!tenant || strcmp(tenant->tenant, entry->event.tenant) != 0) {
        tenant = &job->tenants[job->tenant_count++];
        *tenant = (cm_contact_tenant_t){.items = *next};
        memcpy(tenant->tenant, entry->event.tenant, sizeof tenant->tenant);
    }
    cm_contact_item_t *last = tenant->count ? &tenant->items[tenant->count - 1] : NULL;
    entry->decides = !last || last->contact_id != entry->event.contact_id;
    if (entry->decides) {
        last = (*next)++;
        *last = (cm_contact_item_t){.contact_id = entry->event.contact_id,
                                    .deleted_ms = entry->event.deleted_ms};
        tenant->count++;
    }
    entry->item = last;
}

static void group(job_t *job)
{
    size_t room = job->count + 1, state = 0;
    job->tenants = cm_arena_alloc(job->arena, room * sizeof *job->tenants);
    cm_contact_item_t *next = cm_arena_alloc(job->arena, room * sizeof *next);
    for (size_t i = 0; i < job->count; i++) {
        entry_t *entry = &job->entries[i];
        state += i > 0 && strcmp(entry[-1].event.tenant, entry->event.tenant) != 0;
        if (job->states[state] == CM_TENANT_ACTIVE)
            take(job, entry, &next);
        else
            settle_by_state(job, entry, job->states[state]);
    }
}

/* One line for what went, one for each tenant that could not be done. */
static void tell(job_t *job, const cm_contact_totals_t *totals)
{
    deleter_t *self = job->self;
    cm_metric_add(self->contacts, (uint64_t)totals->contacts);
    cm_metric_add(self->devices, (uint64_t)totals->devices);
    cm_metric_add(self->letters, (uint64_t)totals->letters);
    cm_metric_add(self->verdicts, (uint64_t)totals->verdicts);
    cm_log(CM_LOG_INFO, self->args->name, "contacts deleted",
           "deliveries=%zu tenants=%zu contacts=%" PRId64 " devices=%" PRId64
           " dead_letters=%" PRId64 " held_verdicts=%" PRId64,
           job->batch->count, job->tenant_count, totals->contacts, totals->devices, totals->letters,
           totals->verdicts);
    for (size_t i = 0; i < job->tenant_count; i++) {
        const cm_contact_item_t *item = &job->tenants[i].items[0];
        if (item->result == CM_CONTACT_FAILED)
            cm_log(CM_LOG_WARN, self->args->name, "contact deletion failed",
                   "tenant=\"%s\" class=%s code=\"%s\" cause=\"%s\"", job->tenants[i].tenant,
                   cm_status_name(item->error.status), item->error.code, item->error.message);
    }
}

static cm_status_t delete_all(job_t *job, cm_pg_t *pg, cm_error_t *err)
{
    cm_contact_totals_t totals = {0};
    cm_status_t status = read_states(job, pg, err);
    if (status != CM_OK)
        return status;
    group(job);
    status = cm_contact_store_delete(pg, &job->self->place, job->tenants, job->tenant_count,
                                     &totals, err);
    for (size_t i = 0; status == CM_OK && i < job->count; i++)
        if (job->entries[i].item)
            settle_written(job, &job->entries[i]);
    if (status == CM_OK)
        tell(job, &totals);
    return status;
}

static cm_status_t deleter_handle(void *state, cm_pg_t *pg, const cm_delivery_batch_t *batch,
                                  cm_outcome_t *outcomes, cm_arena_t *arena, cm_error_t *err)
{
    deleter_t *self = state;
    job_t job = {
        .self = self,
        .batch = batch,
        .outcomes = outcomes,
        .arena = arena,
        .rejections = {.args = self->args, .batch = batch, .outcomes = outcomes, .arena = arena},
        .now_ms = cm_clock_epoch_ms()};
    if (!self->key_checked) {
        cm_status_t status =
            cm_erasure_key_check(pg, self->place.admin_schema, self->place.erasure_key, err);
        if (status != CM_OK)
            return status;
        self->key_checked = true;
    }
    decode_all(&job);
    cm_status_t status = job.count > 0 ? delete_all(&job, pg, err) : CM_OK;
    return status == CM_OK ? cm_rejections_settle(&job.rejections, pg, err) : status;
}

void cm_contact_deletion_actor(zsock_t *pipe, void *args)
{
    static const cm_subworker_handler_t handler = {
        .open = deleter_open, .handle = deleter_handle, .close = cm_free};
    cm_subworker_run(pipe, args, &handler);
}
