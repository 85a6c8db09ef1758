#include "actors/account_deletion.h"
#include "actors/rejections.h"
#include "proto/tenant_event.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "runtime/log.h"
#include "schema/tenant_deletion.h"

#include <string.h>

enum { DEFER_MIN_MS = 1000, DEFER_JITTER_MS = 4000, SWEEP_MS = 2000, SWEEP_LONG_MS = 2000 };

typedef struct {
    const cm_subworker_args_t *args;
    uint64_t random;
    char swept[CM_TENANT_ID_MAX]; /* the tenant that the sweeper was at */
    cm_metric_t *requested, *dropped, *verified, *failed;
    cm_metric_t *unfinished, *oldest, *held;
} deletion_t;

static cm_status_t deletion_open(void **ret_state, const cm_subworker_args_t *args,
                                 cm_metrics_t *metrics, cm_error_t *err)
{
    (void)err;
    deletion_t *self = calloc(1, sizeof *self);
    if (!self)
        abort();
    *self = (deletion_t){.args = args, .random = cm_random_u64()};
    self->requested = cm_metrics_counter(metrics, "client_manager_deletions_requested_total",
                                         "Account deletions begun, each once.", "");
    self->dropped = cm_metrics_counter(metrics, "client_manager_deletions_dropped_total",
                                       "Schemas dropped by account deletions.", "");
    self->verified = cm_metrics_counter(metrics, "client_manager_deletions_verified_total",
                                        "Account deletions verified: nothing is left.", "");
    self->failed =
        cm_metrics_counter(metrics, "client_manager_deletion_verifications_failed_total",
                           "Verifications of account deletions that found something.", "");
    self->unfinished = cm_metrics_gauge(metrics, "client_manager_deletions_unfinished",
                                        "Account deletions not verified yet, holds aside.", "");
    self->oldest = cm_metrics_gauge(metrics, "client_manager_deletions_unfinished_oldest_seconds",
                                    "Since the oldest unfinished one was requested.", "");
    self->held = cm_metrics_gauge(metrics, "client_manager_deletions_held",
                                  "Account deletions that wait for a legal hold's end.", "");
    *ret_state = self;
    return CM_OK;
}

static cm_metric_t *counter_of(deletion_t *self, cm_deletion_step_t step)
{
    switch (step) {
    case CM_DELETION_REQUESTED:
        return self->requested;
    case CM_DELETION_DROPPED:
        return self->dropped;
    case CM_DELETION_VERIFIED:
        return self->verified;
    case CM_DELETION_UNVERIFIED:
        return self->failed;
    case CM_DELETION_NONE:
    case CM_DELETION_BLOCKED:
    case CM_DELETION_NOTHING:
    case CM_DELETION_PURGED:
        break;
    }
    return NULL;
}

/* A step that was told in the audit log is told here with the log's head, its anchor outside the
 * database; one that was not is no news. */
static void tell(deletion_t *self, const char *tenant, cm_deletion_step_t step,
                 const cm_audit_head_t *head)
{
    char text[CM_AUDIT_HEAD_TEXT_MAX];
    cm_metric_t *counter = counter_of(self, step);
    if (counter)
        cm_metric_add(counter, 1);
    if (head->position)
        cm_log(step == CM_DELETION_UNVERIFIED ? CM_LOG_ERROR : CM_LOG_INFO, self->args->name,
               "account deletion", "step=\"%s\" tenant=\"%s\" audit_head=\"%s\"",
               cm_deletion_step_name(step), tenant, cm_audit_head_text(head, text));
    else if (step == CM_DELETION_PURGED)
        cm_log(CM_LOG_INFO, self->args->name, "account deletion", "step=\"%s\" tenant=\"%s\"",
               cm_deletion_step_name(step), tenant);
}

static void tell_failed(deletion_t *self, const char *tenant, const cm_error_t *err)
{
    cm_log(CM_LOG_WARN, self->args->name, "account deletion failed",
           "tenant=\"%s\" class=%s code=\"%s\" cause=\"%s\"", tenant, cm_status_name(err->status),
           err->code, err->message);
}

static cm_audit_trail_t trail(const deletion_t *self)
{
    return (cm_audit_trail_t){.key = self->args->options->audit.key, .actor = "account-deletion"};
}

/* Go on until nothing can be done now. *ret_dropped (may be NULL): there is no schema to drop, any
 * more or at present. */
static cm_status_t go_on(deletion_t *self, cm_pg_t *pg, const char *tenant, bool *ret_dropped,
                         cm_error_t *err)
{
    const char *admin = self->args->options->postgres.admin_schema;
    cm_status_t status = CM_OK;
    cm_deletion_step_t step;
    do {
        cm_audit_trail_t audit = trail(self);
        status = cm_tenant_deletion_advance(pg, admin, tenant, &audit, &step, err);
        if (status == CM_OK)
            tell(self, tenant, step, &audit.head);
        if (status == CM_OK && ret_dropped && step != CM_DELETION_REQUESTED)
            *ret_dropped = true;
    } while (status == CM_OK && step != CM_DELETION_NONE && step != CM_DELETION_BLOCKED &&
             step != CM_DELETION_UNVERIFIED);
    return status;
}

/* ---- a delivery ----------------------------------------------------------------------------- */

static cm_status_t delete_account(deletion_t *self, cm_pg_t *pg, const cm_delivery_t *delivery,
                                  cm_outcome_kind_t *ret_kind, cm_arena_t *arena,
                                  char tenant[CM_TENANT_ID_MAX], cm_error_t *err)
{
    cm_account_deletion_t deletion;
    cm_deletion_step_t step = CM_DELETION_NONE;
    cm_audit_trail_t audit = trail(self);
    bool dropped = false;
    cm_status_t status =
        cm_account_deletion_decode(delivery->body, cm_clock_epoch_ms(), arena, &deletion, err);
    memcpy(tenant, deletion.tenant, sizeof deletion.tenant);
    if (status != CM_OK)
        return status;
    cm_deletion_request_t request = {tenant, deletion.event_ms, deletion.requested_by,
                                     deletion.reason};
    status = cm_tenant_deletion_request(pg, self->args->options->postgres.admin_schema, &request,
                                        &audit, &step, err);
    if (status != CM_OK)
        return status;
    tell(self, tenant, step, &audit.head);
    *ret_kind = step == CM_DELETION_NONE ? CM_OUTCOME_DUPLICATE : CM_OUTCOME_APPLIED;
    status = go_on(self, pg, tenant, &dropped, err);
    if (status == CM_OK || !dropped)
        return status;
    tell_failed(self, tenant, err); /* the sweeper's from here */
    return status == CM_UNAVAILABLE || status == CM_MISCONFIGURED ? status : CM_OK;
}

static cm_status_t deletion_handle(void *state, cm_pg_t *pg, const cm_delivery_batch_t *batch,
                                   cm_outcome_t *outcomes, cm_arena_t *arena, cm_error_t *err)
{
    deletion_t *self = state;
    cm_rejections_t rejections = {
        .args = self->args, .batch = batch, .outcomes = outcomes, .arena = arena};
    for (size_t i = 0; i < batch->count; i++) {
        char tenant[CM_TENANT_ID_MAX] = "";
        cm_status_t status =
            delete_account(self, pg, &batch->items[i], &outcomes[i].kind, arena, tenant, err);
        if (status == CM_UNAVAILABLE || status == CM_MISCONFIGURED)
            return status;
        if (status == CM_OK)
            continue;
        tell_failed(self, tenant, err);
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

/* ---- the sweeper ---------------------------------------------------------------------------- */

static cm_status_t show_census(deletion_t *self, cm_pg_t *pg, cm_error_t *err)
{
    cm_deletion_census_t census = {0};
    cm_status_t status =
        cm_tenant_deletion_census(pg, self->args->options->postgres.admin_schema, &census, err);
    if (status == CM_OK) {
        cm_metric_set(self->unfinished, (double)census.unfinished);
        cm_metric_set(self->oldest, (double)census.oldest_s);
        cm_metric_set(self->held, (double)census.held);
    }
    return status;
}

/* Once around, from where the last sweep stopped, for a while: a tenant whose tables are held must
 * not stand before the others. */
static cm_status_t sweep(deletion_t *self, cm_pg_t *pg, cm_error_t *err)
{
    const char *admin = self->args->options->postgres.admin_schema;
    int64_t end_ms = cm_clock_mono_ms() + SWEEP_LONG_MS;
    cm_status_t status = CM_OK;
    do {
        char tenant[CM_TENANT_ID_MAX];
        status = cm_tenant_deletion_next(pg, admin, self->swept, tenant, err);
        if (status != CM_OK)
            return status;
        memcpy(self->swept, tenant, sizeof tenant);
        if (!*tenant)
            return CM_OK;
        status = go_on(self, pg, tenant, NULL, err);
        if (status == CM_UNAVAILABLE || status == CM_MISCONFIGURED)
            return status;
        if (status != CM_OK)
            tell_failed(self, tenant, err);
    } while (cm_clock_mono_ms() < end_ms);
    return CM_OK;
}

static cm_status_t deletion_tick(void *state, cm_pg_t *pg, cm_error_t *err)
{
    deletion_t *self = state;
    cm_status_t status = sweep(self, pg, err);
    if (status == CM_OK)
        status = show_census(self, pg, err);
    bool of_the_link = status == CM_OK || status == CM_UNAVAILABLE || status == CM_MISCONFIGURED;
    if (!of_the_link)
        tell_failed(self, "", err);
    return of_the_link ? status : CM_OK;
}

void cm_account_deletion_actor(zsock_t *pipe, void *args)
{
    static const cm_subworker_handler_t handler = {.open = deletion_open,
                                                   .handle = deletion_handle,
                                                   .close = cm_free,
                                                   .tick = deletion_tick,
                                                   .tick_ms = SWEEP_MS};
    cm_subworker_run(pipe, args, &handler);
}
