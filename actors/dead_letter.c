#include "actors/dead_letter.h"
#include "actors/subworker.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "runtime/log.h"
#include "schema/dead_letter_store.h"

enum { DEFER_MS = 60000, BUSY_MS = 2000 };

typedef struct {
    const cm_subworker_args_t *args;
    cm_metric_t *kept, *dropped;
} keeper_t;

static cm_status_t keeper_open(void **ret_state, const cm_subworker_args_t *args,
                               cm_metrics_t *metrics, cm_error_t *err)
{
    (void)err;
    keeper_t *self = calloc(1, sizeof *self);
    if (!self)
        abort();
    self->args = args;
    self->kept = cm_metrics_counter(metrics, "client_manager_dead_letters_kept_total",
                                    "Dead letters stored, each once.", "");
    self->dropped = cm_metrics_counter(
        metrics, "client_manager_dead_letters_dropped_total",
        "Dead letters of deleted tenants, contacts and devices, not stored.", "");
    *ret_state = self;
    return CM_OK;
}

static void settle(keeper_t *self, cm_letter_result_t result, cm_outcome_t *outcome)
{
    switch (result) {
    case CM_LETTER_KEPT:
        outcome->kind = CM_OUTCOME_APPLIED;
        cm_metric_add(self->kept, 1);
        break;
    case CM_LETTER_KEPT_BEFORE:
        outcome->kind = CM_OUTCOME_DUPLICATE;
        break;
    case CM_LETTER_DROPPED:
        outcome->kind = CM_OUTCOME_DROPPED;
        cm_metric_add(self->dropped, 1);
        break;
    case CM_LETTER_BUSY:
        outcome->kind = CM_OUTCOME_DEFER;
        outcome->until_ms = cm_clock_epoch_ms() + BUSY_MS;
        break;
    }
}

/* Store deliveries [from, from + count); halves when one of them cannot be stored. A lock or a
 * time-out is no letter's fault: each half would wait for it again. */
static cm_status_t keep(keeper_t *self, cm_pg_t *pg, const cm_delivery_batch_t *batch, size_t from,
                        size_t count, cm_outcome_t *outcomes, cm_arena_t *arena, cm_error_t *err)
{
    char topic[CM_TOPIC_NAME_MAX];
    const cm_options_t *options = self->args->options;
    cm_subscription_topic(batch->subscription, options->broker.prefix, topic);
    cm_dead_letter_place_t place = {options->postgres.admin_schema, options->erasure.key};
    cm_letter_result_t *results = cm_arena_alloc(arena, count * sizeof *results);
    cm_status_t status =
        cm_dead_letter_keep(pg, &place, topic, &batch->items[from], count, results, err);
    if (status == CM_PERMANENT && count > 1) {
        size_t half = count / 2;
        status = keep(self, pg, batch, from, half, outcomes, arena, err);
        return status == CM_OK
                   ? keep(self, pg, batch, from + half, count - half, outcomes, arena, err)
                   : status;
    }
    if (status == CM_PERMANENT) {
        cm_log(CM_LOG_ERROR, self->args->name, "dead letter cannot be stored, left with the broker",
               "code=\"%s\" cause=\"%s\"", err->code, err->message);
        outcomes[from].kind = CM_OUTCOME_DEFER;
        outcomes[from].until_ms = cm_clock_epoch_ms() + DEFER_MS;
        return CM_OK;
    }
    for (size_t i = 0; status == CM_OK && i < count; i++)
        settle(self, results[i], &outcomes[from + i]);
    return status;
}

static cm_status_t keeper_handle(void *state, cm_pg_t *pg, const cm_delivery_batch_t *batch,
                                 cm_outcome_t *outcomes, cm_arena_t *arena, cm_error_t *err)
{
    return batch->count ? keep(state, pg, batch, 0, batch->count, outcomes, arena, err) : CM_OK;
}

void cm_dead_letter_actor(zsock_t *pipe, void *args)
{
    static const cm_subworker_handler_t handler = {
        .open = keeper_open, .handle = keeper_handle, .close = cm_free};
    cm_subworker_run(pipe, args, &handler);
}
