#include "actors/dead_letter.h"
#include "actors/subworker.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "runtime/log.h"
#include "schema/dead_letter_store.h"

enum { DEFER_MS = 60000 };

typedef struct {
    const cm_subworker_args_t *args;
    cm_metric_t *kept;
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
    *ret_state = self;
    return CM_OK;
}

/* Store deliveries [from, from + count); halves when one of them cannot be stored. A lock or a
 * time-out is no letter's fault: each half would wait for it again. */
static cm_status_t keep(keeper_t *self, cm_pg_t *pg, const cm_delivery_batch_t *batch, size_t from,
                        size_t count, cm_outcome_t *outcomes, cm_arena_t *arena, cm_error_t *err)
{
    char topic[CM_TOPIC_NAME_MAX];
    const cm_options_t *options = self->args->options;
    cm_subscription_topic(batch->subscription, options->broker.prefix, topic);
    bool *is_new = cm_arena_alloc(arena, count * sizeof *is_new);
    cm_status_t status = cm_dead_letter_keep(pg, options->postgres.admin_schema, topic,
                                             &batch->items[from], count, is_new, err);
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
    for (size_t i = 0; status == CM_OK && i < count; i++) {
        outcomes[from + i].kind = is_new[i] ? CM_OUTCOME_APPLIED : CM_OUTCOME_DUPLICATE;
        cm_metric_add(self->kept, is_new[i]);
    }
    return status;
}

static cm_status_t keeper_handle(void *state, cm_pg_t *pg, const cm_delivery_batch_t *batch,
                                 cm_outcome_t *outcomes, cm_arena_t *arena, cm_error_t *err)
{
    return batch->count ? keep(state, pg, batch, 0, batch->count, outcomes, arena, err) : CM_OK;
}

void cm_dead_letter_actor(zsock_t *pipe, void *args)
{
    static const cm_subworker_handler_t handler = {keeper_open, keeper_handle, cm_free, NULL};
    cm_subworker_run(pipe, args, &handler);
}
