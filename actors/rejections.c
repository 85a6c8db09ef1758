#include "actors/rejections.h"
#include "actors/tenant_directory.h"
#include "proto/retry.h"
#include "runtime/clock.h"

#include <assert.h>
#include <string.h>

void cm_rejections_add(cm_rejections_t *self, size_t index, const char *tenant,
                       const cm_error_t *err)
{
    const cm_delivery_t *delivery = &self->batch->items[index];
    char topic[CM_TOPIC_NAME_MAX];
    assert(self->count < self->batch->count);
    if (!self->indexes) {
        size_t room = self->batch->count;
        self->indexes = cm_arena_alloc(self->arena, room * sizeof *self->indexes);
        self->tenants = cm_arena_alloc(self->arena, room * sizeof *self->tenants);
    }
    char *id = self->tenants[self->count];
    self->indexes[self->count++] = index;
    if (*tenant)
        memcpy(id, tenant, strlen(tenant) + 1);
    else
        cm_delivery_tenant(delivery, id);
    self->known += *id != '\0';
    cm_subscription_topic(self->batch->subscription, self->args->options->broker.prefix, topic);
    cm_str_t kept = cm_arena_printf(self->arena, "%s", topic);
    cm_retry_reject(delivery, kept.ptr, err, cm_clock_epoch_ms(), self->arena,
                    &self->outcomes[index]);
}

cm_status_t cm_rejections_settle(cm_rejections_t *self, cm_pg_t *pg, cm_error_t *err)
{
    if (!self->known)
        return CM_OK;
    cm_tenant_state_t *states = cm_arena_alloc(self->arena, self->count * sizeof *states);
    cm_status_t status = cm_tenant_directory_ask(pg, self->args->options->postgres.admin_schema,
                                                 (const char(*)[CM_TENANT_ID_MAX])self->tenants,
                                                 self->count, states, err);
    for (size_t i = 0; status == CM_OK && i < self->count; i++)
        if (states[i] == CM_TENANT_DELETING || states[i] == CM_TENANT_DELETED)
            self->outcomes[self->indexes[i]].kind = CM_OUTCOME_DROPPED;
    return status;
}
