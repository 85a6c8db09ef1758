#include "actors/gateway_private.h"

static cm_ledger_t *ledger_of(gateway_t *self, const source_t *source)
{
    return &self->ledgers.flows[source->table->flow];
}

/* retry_balance: retries handed on and confirmed, less retries taken up again. */
void cm_gateway_ledger_received(gateway_t *self, const source_t *source)
{
    if (source->table->id == CM_SUBSCRIPTION_REPUBLISHER)
        self->retry_balance--;
    else
        ledger_of(self, source)->received++;
}

/* Given back: a retry waits in the retry path again; anything else was never received. */
static void given_back(gateway_t *self, const source_t *source, uint64_t count)
{
    if (source->table->id == CM_SUBSCRIPTION_REPUBLISHER)
        self->retry_balance += (int64_t)count;
    else
        ledger_of(self, source)->received -= count;
}

void cm_gateway_ledger_ended(gateway_t *self, source_t *source, cm_outcome_kind_t kind,
                             uint64_t count)
{
    cm_metric_add(source->outcomes[kind], count);
    cm_ledger_t *ledger = ledger_of(self, source);
    switch (kind) {
    case CM_OUTCOME_APPLIED:
        ledger->applied += count;
        break;
    case CM_OUTCOME_STALE:
        ledger->stale += count;
        break;
    case CM_OUTCOME_DUPLICATE:
        ledger->duplicate += count;
        break;
    case CM_OUTCOME_DROPPED:
        ledger->dropped += count;
        break;
    case CM_OUTCOME_RETRY: /* of the devices: no other flow has a retry topic */
        self->retry_balance += (int64_t)count;
        ledger->retried_total += count;
        break;
    case CM_OUTCOME_REJECT:
        ledger->dead += count;
        break;
    case CM_OUTCOME_DEFER:
        given_back(self, source, count);
        ledger->deferred_total += count;
        break;
    case CM_OUTCOME_RELEASE:
        given_back(self, source, count);
        ledger->released_total += count;
        break;
    case CM_OUTCOME_COUNT:
        break;
    }
}

/* Retries on their way to the broker: published, not confirmed. */
static int64_t retries_published(const gateway_t *self)
{
    int64_t count = 0;
    const publish_t *publish, *next;
    HASH_ITER(hh, self->publishes, publish, next)
    {
        count += publish->kind == CM_OUTCOME_RETRY;
    }
    return count;
}

/* The balance below zero means retries that came in and were not handed on by us, as far as we know
 * yet: some may be ours, delivered before their publish was confirmed. Those are in hand twice; the
 * others come from another instance or an earlier run, and are received here. */
void cm_gateway_ledger_balance(gateway_t *self)
{
    cm_in_hand_t in_hand;
    cm_ledger_t *devices = &self->ledgers.flows[CM_FLOW_DEVICES];
    int64_t early = self->retry_balance < 0 ? -self->retry_balance : 0;
    int64_t published = early ? retries_published(self) : 0;
    if (early > published) {
        devices->received += (uint64_t)(early - published);
        self->retry_balance += early - published;
        early = published;
    }
    cm_gateway_in_hand(self, &in_hand);
    for (int flow = 0; flow < CM_FLOW_COUNT; flow++)
        self->ledgers.flows[flow].in_flight = in_hand.flows[flow];
    devices->retrying = self->retry_balance > 0 ? (uint64_t)self->retry_balance : 0;
    devices->in_flight -= (uint64_t)early;
}

void cm_gateway_ledger_report(gateway_t *self)
{
    cm_gateway_ledger_balance(self);
    cm_reporter_ledgers(&self->reporter, &self->ledgers);
    cm_metric_set(self->publishing, (double)HASH_COUNT(self->publishes));
}
