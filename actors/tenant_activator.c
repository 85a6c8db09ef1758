#include "actors/tenant_activator.h"
#include "actors/rejections.h"
#include "proto/tenant_event.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "runtime/log.h"
#include "schema/tenant_schema.h"

#include <string.h>

enum { DEFER_MIN_MS = 1000, DEFER_JITTER_MS = 4000 };

typedef struct {
    const cm_subworker_args_t *args;
    uint64_t random;
    cm_metric_t *activated;
} activator_t;

static cm_status_t activator_open(void **ret_state, const cm_subworker_args_t *args,
                                  cm_metrics_t *metrics, cm_error_t *err)
{
    (void)err;
    activator_t *self = calloc(1, sizeof *self);
    if (!self)
        abort();
    *self = (activator_t){.args = args, .random = cm_random_u64()};
    self->activated = cm_metrics_counter(metrics, "client_manager_tenants_activated_total",
                                         "Tenant schemas created or activated again.", "");
    *ret_state = self;
    return CM_OK;
}

static cm_status_t activate(activator_t *self, cm_pg_t *pg, const cm_delivery_t *delivery,
                            cm_outcome_kind_t *ret_kind, cm_arena_t *arena,
                            char tenant[CM_TENANT_ID_MAX], cm_error_t *err)
{
    cm_tenant_activation_t activation;
    cm_tenant_change_t change = CM_TENANT_UNCHANGED;
    cm_audit_trail_t audit = {.key = self->args->options->audit.key, .actor = "tenant-activator"};
    cm_status_t status =
        cm_tenant_activation_decode(delivery->body, cm_clock_epoch_ms(), arena, &activation, err);
    memcpy(tenant, activation.tenant, sizeof activation.tenant);
    if (status == CM_OK)
        status = cm_tenant_schema_activate(pg, self->args->options->postgres.admin_schema,
                                           activation.tenant, activation.name, activation.event_ms,
                                           &audit, &change, err);
    if (status != CM_OK)
        return status;
    *ret_kind = change == CM_TENANT_CHANGED ? CM_OUTCOME_APPLIED : CM_OUTCOME_DUPLICATE;
    if (change == CM_TENANT_CHANGED) {
        char head[CM_AUDIT_HEAD_TEXT_MAX] = "";
        if (audit.head.position) /* the anchor of the audit log outside the database */
            cm_audit_head_text(&audit.head, head);
        cm_metric_add(self->activated, 1);
        cm_log(CM_LOG_INFO, self->args->name, "tenant activated", "tenant=\"%s\" audit_head=\"%s\"",
               activation.tenant, head);
    }
    return CM_OK;
}

static cm_status_t activator_handle(void *state, cm_pg_t *pg, const cm_delivery_batch_t *batch,
                                    cm_outcome_t *outcomes, cm_arena_t *arena, cm_error_t *err)
{
    activator_t *self = state;
    cm_rejections_t rejections = {
        .args = self->args, .batch = batch, .outcomes = outcomes, .arena = arena};
    for (size_t i = 0; i < batch->count; i++) {
        char tenant[CM_TENANT_ID_MAX];
        cm_status_t status =
            activate(self, pg, &batch->items[i], &outcomes[i].kind, arena, tenant, err);
        if (status == CM_UNAVAILABLE || status == CM_MISCONFIGURED)
            return status;
        if (status == CM_OK)
            continue;
        cm_log(CM_LOG_WARN, self->args->name, "activation failed",
               "class=%s code=\"%s\" cause=\"%s\"", cm_status_name(status), err->code,
               err->message);
        if (status == CM_PERMANENT) {
            cm_rejections_add(&rejections, i, tenant, err);
        } else {
            outcomes[i].kind = CM_OUTCOME_DEFER;
            outcomes[i].until_ms = cm_clock_epoch_ms() + DEFER_MIN_MS +
                                   (int64_t)cm_random_below(&self->random, DEFER_JITTER_MS);
        }
    }
    return cm_rejections_settle(&rejections, pg, err);
}

void cm_tenant_activator_actor(zsock_t *pipe, void *args)
{
    static const cm_subworker_handler_t handler = {
        .open = activator_open, .handle = activator_handle, .close = cm_free};
    cm_subworker_run(pipe, args, &handler);
}
