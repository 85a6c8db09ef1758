#include "actors/tenant_directory.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "runtime/hash.h"

#include <stdlib.h>
#include <string.h>

enum { ACTIVE_MS = 30000, OTHER_MS = 1000, PARK_MIN_MS = 1000, PARK_MAX_MS = 60000 };
enum { FORGET_MS = 600000, SWEEP_MS = 60000 };

typedef struct {
    char id[CM_TENANT_ID_MAX];
    cm_tenant_state_t state;
    int64_t checked_ms, used_ms; /* monotonic; checked 0 = never */
    int park_ms;                 /* length of the last parking; 0 = none */
    int64_t parked_until_ms;
    UT_hash_handle hh;
} entry_t;

struct cm_tenant_directory {
    const char *admin_schema;
    entry_t *entries;
    int64_t next_sweep_ms;
};

cm_tenant_directory_t *cm_tenant_directory_new(const char *admin_schema)
{
    cm_tenant_directory_t *self = calloc(1, sizeof *self);
    if (!self)
        abort();
    self->admin_schema = admin_schema;
    return self;
}

static void forget_before(cm_tenant_directory_t *self, int64_t limit_ms)
{
    entry_t *entry, *next;
    HASH_ITER(hh, self->entries, entry, next)
    {
        if (entry->used_ms >= limit_ms)
            continue;
        HASH_DEL(self->entries, entry);
        free(entry);
    }
}

void cm_tenant_directory_destroy(cm_tenant_directory_t **self_p)
{
    if (!*self_p)
        return;
    forget_before(*self_p, INT64_MAX);
    free(*self_p);
    *self_p = NULL;
}

static entry_t *find(const cm_tenant_directory_t *self, const char *id)
{
    entry_t *entry = NULL;
    HASH_FIND_STR(self->entries, id, entry);
    return entry;
}

static entry_t *obtain(cm_tenant_directory_t *self, const char *id)
{
    entry_t *entry = find(self, id);
    if (entry)
        return entry;
    entry = calloc(1, sizeof *entry);
    if (!entry)
        abort();
    memcpy(entry->id, id, strnlen(id, sizeof entry->id - 1));
    HASH_ADD_STR(self->entries, id, entry);
    return entry;
}

static bool believed(const entry_t *entry, int64_t now_ms)
{
    int limit_ms = entry->state == CM_TENANT_ACTIVE ? ACTIVE_MS : OTHER_MS;
    return entry->checked_ms && now_ms - entry->checked_ms < limit_ms;
}

cm_status_t cm_tenant_directory_ask(cm_pg_t *pg, const char *admin_schema,
                                    const char (*ids)[CM_TENANT_ID_MAX], size_t count,
                                    cm_tenant_state_t *ret_states, cm_error_t *err)
{
    cm_error_t failure = {0};
    cm_status_t status =
        cm_tenant_registry_states(pg, admin_schema, ids, count, ret_states, &failure);
    if (status == CM_OK)
        return CM_OK;
    bool heals = status == CM_UNAVAILABLE || status == CM_TRANSIENT;
    failure.status = heals ? CM_UNAVAILABLE : CM_MISCONFIGURED;
    cm_error_prefix(&failure, "tenant registry");
    if (err)
        *err = failure;
    return failure.status;
}

cm_status_t cm_tenant_directory_states(cm_tenant_directory_t *self, cm_pg_t *pg,
                                       const char (*ids)[CM_TENANT_ID_MAX], size_t count,
                                       cm_tenant_state_t *ret_states, cm_error_t *err)
{
    int64_t now_ms = cm_clock_mono_ms();
    if (now_ms >= self->next_sweep_ms) {
        forget_before(self, now_ms - FORGET_MS);
        self->next_sweep_ms = now_ms + SWEEP_MS;
    }
    CM_CLEANUP(cm_free) char(*ask)[CM_TENANT_ID_MAX] = calloc(count ? count : 1, sizeof *ask);
    CM_CLEANUP(cm_free) cm_tenant_state_t *states = calloc(count ? count : 1, sizeof *states);
    if (!ask || !states)
        abort();
    size_t asked = 0;
    for (size_t i = 0; i < count; i++) {
        entry_t *entry = obtain(self, ids[i]);
        entry->used_ms = now_ms;
        if (!believed(entry, now_ms))
            memcpy(ask[asked++], ids[i], sizeof *ask);
    }
    cm_status_t status =
        asked ? cm_tenant_directory_ask(pg, self->admin_schema,
                                        (const char(*)[CM_TENANT_ID_MAX])ask, asked, states, err)
              : CM_OK;
    if (status != CM_OK)
        return status;
    for (size_t i = 0; i < asked; i++) {
        entry_t *entry = find(self, ask[i]);
        entry->state = states[i];
        entry->checked_ms = now_ms;
    }
    for (size_t i = 0; i < count; i++)
        ret_states[i] = find(self, ids[i])->state;
    return CM_OK;
}

void cm_tenant_directory_doubt(cm_tenant_directory_t *self, const char *id)
{
    entry_t *entry = find(self, id);
    if (entry)
        entry->checked_ms = 0;
}

int cm_tenant_directory_park(cm_tenant_directory_t *self, const char *id, int64_t now_ms)
{
    entry_t *entry = obtain(self, id);
    int park_ms = entry->park_ms ? entry->park_ms * 2 : PARK_MIN_MS;
    entry->park_ms = park_ms < PARK_MAX_MS ? park_ms : PARK_MAX_MS;
    entry->parked_until_ms = now_ms + entry->park_ms;
    entry->used_ms = now_ms;
    return entry->park_ms;
}

void cm_tenant_directory_unpark(cm_tenant_directory_t *self, const char *id)
{
    entry_t *entry = find(self, id);
    if (entry)
        entry->park_ms = 0;
}

int cm_tenant_directory_parked_ms(const cm_tenant_directory_t *self, const char *id, int64_t now_ms)
{
    const entry_t *entry = find(self, id);
    return entry && entry->park_ms && entry->parked_until_ms > now_ms
               ? (int)(entry->parked_until_ms - now_ms)
               : 0;
}

bool cm_tenant_directory_on_trial(const cm_tenant_directory_t *self, const char *id, int64_t now_ms)
{
    const entry_t *entry = find(self, id);
    return entry && entry->park_ms && entry->parked_until_ms <= now_ms;
}

size_t cm_tenant_directory_parked_count(const cm_tenant_directory_t *self, int64_t now_ms)
{
    size_t count = 0;
    for (const entry_t *entry = self->entries; entry; entry = entry->hh.next)
        count += entry->park_ms && entry->parked_until_ms > now_ms;
    return count;
}
