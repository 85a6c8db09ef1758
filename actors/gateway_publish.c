#include "actors/gateway_private.h"
#include "proto/attributes.h"
#include "runtime/broker/message.h"
#include "runtime/clock.h"

#include <inttypes.h>
#include <stdlib.h>

/* Between two tries of one publish. Thousands may wait while Redis is short of memory, and each try
 * costs it a refusal; each has its own time, since one topic may be at fault alone. */
enum { REPEAT_MIN_MS = 100, REPEAT_MAX_MS = 5000, REPEAT_DOUBLINGS = 6 };

/* What the broker will not store as it is comes again after as long as it is old, within these: it
 * may have been the broker's error, or somebody may raise a limit, and until then it is in nobody's
 * way. Within what any broker can defer. */
enum { UNFIT_MIN_MS = 5000, UNFIT_MAX_MS = 300000 };

static void set_refused(gateway_t *self, publish_t *publish, const cm_error_t *err)
{
    bool refused = err && err->status == CM_MISCONFIGURED; /* no topic, no right */
    if (refused)
        snprintf(self->publish_refusal, sizeof self->publish_refusal, "%s", err->message);
    self->publish_refused += refused;
    self->publish_refused -= publish->refused;
    publish->refused = refused;
}

static void publish_free(gateway_t *self, publish_t *publish)
{
    set_refused(self, publish, NULL);
    HASH_DEL(self->publishes, publish);
    HASH_DELETE(by_lease, self->publishes_by_lease, publish);
    free(publish->message);
    free(publish);
}

void cm_gateway_publish(gateway_t *self, source_t *source, const cm_outcome_t *outcome,
                        int64_t publish_ms)
{
    cm_subscription_id_t to =
        outcome->kind == CM_OUTCOME_RETRY ? source->table->retry : source->table->reject;
    if (to == CM_SUBSCRIPTION_NONE) { /* an errors topic cannot reject: the message stays */
        cm_log(CM_LOG_ERROR, "gateway", "outcome has no topic", "subscription=%s outcome=%s",
               source->table->suffix, cm_outcome_name(outcome->kind));
        cm_broker_release(self->broker, &outcome->lease, 1);
        cm_gateway_ledger_ended(self, source, CM_OUTCOME_RELEASE, 1);
        return;
    }
    publish_t *publish = calloc(1, sizeof *publish);
    if (!publish)
        abort();
    /* The frame an outcome came in is gone before the broker confirms: keep a copy. */
    publish->message = cm_message_copy(&outcome->message);
    publish->token = ++self->next_token;
    publish->source = source;
    publish->lease = outcome->lease;
    publish->kind = outcome->kind;
    publish->publish_ms = publish_ms;
    cm_subscription_topic(to, self->options->broker.prefix, publish->topic);
    HASH_ADD(hh, self->publishes, token, sizeof publish->token, publish);
    HASH_ADD(by_lease, self->publishes_by_lease, lease, sizeof publish->lease, publish);
    cm_broker_publish(self->broker, publish->topic, publish->message, publish->token);
}

static void tell_failure(gateway_t *self, const publish_t *publish, const cm_error_t *err)
{
    unsigned withheld = 0;
    cm_metric_add(self->publish_failures, 1);
    if (cm_log_allowed(&self->publish_log, 1000, &withheld))
        cm_log(publish->refused ? CM_LOG_ERROR : CM_LOG_WARN, "gateway",
               "publish failed, will repeat", "topic=%s code=\"%s\" withheld=%u cause=\"%s\"",
               publish->topic, err->code, withheld, err->message);
}

/* Repeating changes nothing, and an acknowledgement would lose it: the delivery goes back. */
static void give_up(gateway_t *self, publish_t *publish, const cm_error_t *err)
{
    const cm_message_t *message = publish->message;
    cm_str_t id = cm_attribute_get(message->attributes, message->attribute_count,
                                   CM_ATTRIBUTE_ORIGIN_MESSAGE_ID);
    unsigned withheld = 0;
    int64_t now_ms = cm_clock_epoch_ms(), wait_ms = now_ms - publish->publish_ms;
    wait_ms = wait_ms < UNFIT_MIN_MS   ? UNFIT_MIN_MS
              : wait_ms > UNFIT_MAX_MS ? UNFIT_MAX_MS
                                       : wait_ms;
    cm_metric_add(self->publishes_unfit, 1);
    if (cm_log_allowed(&self->unfit_log, 1000, &withheld))
        cm_log(CM_LOG_ERROR, "gateway", "publish refused for good, delivery deferred",
               "topic=%s message=\"%.*s\" body_bytes=%zu deferred_ms=%" PRId64
               " code=\"%s\" withheld=%u cause=\"%s\"",
               publish->topic, CM_STR_ARG(id), message->body.len, wait_ms, err->code, withheld,
               err->message);
    cm_broker_defer(self->broker, publish->lease, now_ms + wait_ms);
    cm_gateway_ledger_ended(self, publish->source, CM_OUTCOME_DEFER, 1);
    publish_free(self, publish);
}

/* Its delivery comes again and makes a publish of its own: with this one it would be stored twice.
 */
static void leave_to_next(gateway_t *self, publish_t *publish)
{
    cm_gateway_ledger_ended(self, publish->source, CM_OUTCOME_RELEASE, 1);
    publish_free(self, publish);
}

static void repeat_later(gateway_t *self, publish_t *publish, const cm_error_t *err)
{
    unsigned doublings =
        publish->failures < REPEAT_DOUBLINGS ? publish->failures++ : REPEAT_DOUBLINGS;
    int64_t wait_ms = (int64_t)REPEAT_MIN_MS << doublings;
    publish->waiting = true;
    publish->repeat_at_ms =
        cm_clock_mono_ms() + (wait_ms < REPEAT_MAX_MS ? wait_ms : REPEAT_MAX_MS);
    set_refused(self, publish, err);
    tell_failure(self, publish, err);
    if (publish->lapsed)
        leave_to_next(self, publish);
}

static void finish(gateway_t *self, publish_t *publish)
{
    cm_crash_point("after-republish");
    cm_broker_ack(self->broker, &publish->lease, 1);
    cm_gateway_ledger_ended(self, publish->source, publish->kind, 1);
    publish_free(self, publish);
}

void cm_gateway_published(gateway_t *self, uint64_t token, cm_status_t status,
                          const cm_error_t *err)
{
    publish_t *publish = NULL;
    HASH_FIND(hh, self->publishes, &token, sizeof token, publish);
    if (!publish)
        return;
    size_t refused = self->publish_refused;
    if (status == CM_OK)
        finish(self, publish);
    else if (status == CM_PERMANENT)
        give_up(self, publish, err);
    else
        repeat_later(self, publish, err);
    if (refused && !self->publish_refused)
        cm_log(CM_LOG_INFO, "gateway", "publishes accepted again", NULL);
    cm_gateway_show_state(self);
}

/* One under way may be stored already, so its answer is awaited. */
bool cm_gateway_publish_lapsed(gateway_t *self, cm_broker_lease_t lease)
{
    publish_t *publish = NULL;
    HASH_FIND(by_lease, self->publishes_by_lease, &lease, sizeof lease, publish);
    if (!publish)
        return false;
    publish->lapsed = true;
    if (publish->waiting)
        leave_to_next(self, publish);
    cm_gateway_show_state(self);
    return true;
}

void cm_gateway_republish(gateway_t *self)
{
    if (!self->link_up)
        return;
    int64_t now_ms = cm_clock_mono_ms();
    publish_t *publish, *next;
    HASH_ITER(hh, self->publishes, publish, next)
    {
        if (!publish->waiting || now_ms < publish->repeat_at_ms)
            continue;
        publish->waiting = false;
        cm_broker_publish(self->broker, publish->topic, publish->message, publish->token);
    }
}

void cm_gateway_forget_publishes(gateway_t *self)
{
    publish_t *publish, *next;
    HASH_ITER(hh, self->publishes, publish, next)
    {
        publish_free(self, publish);
    }
}
