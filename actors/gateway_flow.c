#include "actors/gateway_private.h"
#include "proto/endpoint.h"
#include "proto/tenant_id.h"
#include "runtime/clock.h"
#include "runtime/frame.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* ---- routes --------------------------------------------------------------------------------- */

static cm_status_t open_worker(gateway_t *self, worker_t *worker, const cm_gateway_route_t *route,
                               cm_error_t *err)
{
    worker->name = route->subworker;
    worker->batch_max =
        route->batch_max ? route->batch_max : (size_t)self->options->gateway.batch_max;
    worker->fill_ms = route->fill_ms;
    worker->shards = calloc(route->shards, sizeof *worker->shards);
    if (!worker->shards)
        abort();
    worker->shard_count = route->shards;
    for (unsigned i = 0; i < route->shards; i++) {
        char endpoint[CM_ENDPOINT_MAX];
        shard_t *shard = &worker->shards[i];
        *shard = (shard_t){.worker = worker, .number = i, .work = zsock_new(ZMQ_PUSH)};
        cm_endpoint_work(route->subworker, i, endpoint);
        if (!shard->work || zsock_bind(shard->work, "%s", endpoint) < 0)
            return cm_error_set(err, CM_MISCONFIGURED, "socket", "cannot bind %s", endpoint);
    }
    unsigned place = 0;
    for (int id = 0; id < CM_SUBSCRIPTION_COUNT; id++) {
        const cm_subscription_t *table = cm_subscription((cm_subscription_id_t)id);
        if (strcmp(table->subworker, route->subworker) != 0 ||
            (route->leaves && route->leaves(self->options, table->id)))
            continue;
        assert(place < CM_SOURCES_PER_WORKER);
        self->sources[self->source_count++] = (source_t){.gateway = self,
                                                         .table = table,
                                                         .worker = worker,
                                                         .place = place++,
                                                         .size_estimate = 1024,
                                                         .pull_limit = CM_PULL_FIRST};
    }
    return CM_OK;
}

cm_status_t cm_gateway_open_routes(gateway_t *self, cm_error_t *err)
{
    self->worker_count = self->args->route_count;
    self->workers = calloc(self->worker_count ? self->worker_count : 1, sizeof *self->workers);
    if (!self->workers)
        abort();
    cm_status_t status = CM_OK;
    for (size_t i = 0; status == CM_OK && i < self->worker_count; i++)
        status = open_worker(self, &self->workers[i], &self->args->routes[i], err);
    return status;
}

static void batch_free(batch_t *batch)
{
    free(batch->leases);
    free(batch->publish_ms);
    *batch = (batch_t){0};
}

void cm_gateway_close_routes(gateway_t *self)
{
    for (size_t w = 0; w < self->worker_count; w++) {
        worker_t *worker = &self->workers[w];
        for (unsigned i = 0; i < worker->shard_count; i++) {
            shard_t *shard = &worker->shards[i];
            for (size_t b = 0; b < CM_BATCHES_IN_FLIGHT; b++)
                batch_free(&shard->batches[b]);
            for (size_t p = 0; p < CM_SOURCES_PER_WORKER; p++) {
                cm_delivery_builder_destroy(&shard->pending[p].builder);
                free(shard->pending[p].leases);
                free(shard->pending[p].publish_ms);
            }
            zsock_destroy(&shard->work);
        }
        free(worker->shards);
    }
    free(self->workers);
    self->workers = NULL;
    self->worker_count = 0;
}

/* ---- in ------------------------------------------------------------------------------------- */

static unsigned route(const worker_t *worker, const cm_broker_delivery_t *delivery)
{
    if (worker->shard_count == 1)
        return 0;
    char id[CM_TENANT_ID_MAX];
    cm_str_t named = cm_attribute_get(delivery->message.attributes,
                                      delivery->message.attribute_count, CM_ATTRIBUTE_CUSTOMER_ID);
    bool known = named.ptr ? cm_tenant_id_canonical(named, id, NULL) == CM_OK
                           : cm_tenant_id_peek(delivery->message.body, id);
    return known ? cm_tenant_id_shard(cm_str(id), worker->shard_count) : 0;
}

static void remember(pending_t *pending, cm_broker_lease_t lease, int64_t publish_ms)
{
    size_t at = pending->builder.count;
    if (at == pending->cap) {
        pending->cap = pending->cap ? pending->cap * 2 : 256;
        pending->leases = realloc(pending->leases, pending->cap * sizeof *pending->leases);
        pending->publish_ms =
            realloc(pending->publish_ms, pending->cap * sizeof *pending->publish_ms);
        if (!pending->leases || !pending->publish_ms)
            abort();
    }
    pending->leases[at] = lease;
    pending->publish_ms[at] = publish_ms;
}

void cm_gateway_take(gateway_t *self, const cm_broker_delivery_t *delivery)
{
    source_t *source = NULL;
    for (size_t i = 0; i < self->source_count && !source; i++)
        if (self->sources[i].number == delivery->subscription)
            source = &self->sources[i];
    assert(source);
    shard_t *shard = &source->worker->shards[route(source->worker, delivery)];
    pending_t *pending = &shard->pending[source->place];
    int64_t now_ms = 0; /* asked of the first of a batch alone */
    if (pending->builder.count == 0) {
        cm_buffer_reserve(&pending->builder.frame, pending->usual_bytes);
        now_ms = cm_clock_mono_ms();
    }
    remember(pending, delivery->lease, delivery->publish_ms);
    cm_delivery_builder_add(&pending->builder, delivery->lease, delivery, now_ms);
    source->pulled_bytes += delivery->message.body.len;
    cm_metric_add(source->received, 1);
    cm_gateway_ledger_received(self, source);
}

/* How many messages may be pulled: any of them may go to any shard, so the fullest one decides. */
static size_t room_for(const gateway_t *self, const source_t *source)
{
    size_t batch_max = source->worker->batch_max;
    size_t bytes_max = (size_t)self->options->gateway.batch_bytes;
    size_t pull_max = (size_t)self->options->gateway.pull_max;
    size_t room = source->pull_limit < pull_max ? source->pull_limit : pull_max;
    bool waiting = false;
    for (unsigned i = 0; i < source->worker->shard_count; i++) {
        const shard_t *shard = &source->worker->shards[i];
        const cm_delivery_builder_t *builder = &shard->pending[source->place].builder;
        if (!shard->ready || builder->count >= batch_max || builder->frame.len >= bytes_max)
            return 0;
        waiting |= builder->count > 0;
        size_t by_count = batch_max - builder->count;
        size_t by_bytes = (bytes_max - builder->frame.len) / source->size_estimate;
        room = by_count < room ? by_count : room;
        room = by_bytes < room ? by_bytes : room;
    }
    /* Many small pulls cost more than they bring: wait until a fair part of a batch fits, but only
     * while there is something to wait for. A single message larger than the room left goes alone.
     */
    size_t fair = batch_max / 16;
    if (waiting && room < fair && room < pull_max && room < source->pull_limit)
        return 0;
    return room ? room : 1;
}

static void pull(gateway_t *self, source_t *source)
{
    bool may = self->link_up && !self->draining && !source->pulling &&
               HASH_COUNT(self->publishes) < (size_t)self->options->gateway.publish_max;
    size_t room = may ? room_for(self, source) : 0;
    if (!room)
        return;
    source->pulling = true;
    source->pulled_bytes = 0;
    cm_broker_pull(self->broker, source->number, room);
}

/* ---- out to the shards ---------------------------------------------------------------------- */

static void send_batch(gateway_t *self, shard_t *shard, source_t *source)
{
    pending_t *pending = &shard->pending[source->place];
    batch_t *batch = NULL;
    for (size_t i = 0; i < CM_BATCHES_IN_FLIGHT && !batch; i++)
        if (shard->batches[i].id == 0)
            batch = &shard->batches[i];
    assert(batch); /* credits never exceed the places */
    *batch = (batch_t){.id = ++self->next_batch,
                       .source = source,
                       .count = pending->builder.count,
                       .leases = pending->leases,
                       .publish_ms = pending->publish_ms};
    pending->leases = NULL;
    pending->publish_ms = NULL;
    pending->cap = 0;
    cm_buffer_t frame;
    cm_delivery_builder_seal(&pending->builder, batch->id, source->table->id, &frame);
    size_t decayed = pending->usual_bytes - pending->usual_bytes / 4;
    pending->usual_bytes = frame.len > decayed ? frame.len : decayed;
    shard->credits--;
    shard->last_place = source->place;
    cm_metric_add(self->batches, 1);
    cm_metric_add(self->batch_rows, batch->count);
    if (cm_frame_send(shard->work, &frame, ZMQ_DONTWAIT))
        return;
    /* The shard is gone; its next incarnation will say so. Never wait for it here. */
    shard->ready = false;
    shard->credits = 0;
    cm_gateway_release_batches(self, shard);
}

static bool shard_idle(const shard_t *shard)
{
    for (size_t i = 0; i < CM_BATCHES_IN_FLIGHT; i++)
        if (shard->batches[i].id)
            return false;
    return true;
}

static int on_flush(zloop_t *loop, int timer, void *arg)
{
    (void)loop;
    (void)timer;
    source_t *source = arg;
    source->flush_armed = false;
    cm_gateway_pump(source->gateway);
    return 0;
}

static int64_t age_max_ms(const gateway_t *self, const worker_t *worker)
{
    return worker->fill_ms ? worker->fill_ms : self->options->gateway.batch_age_ms;
}

/* Full by count, bytes or age goes, and, unless the route wants to wait, whatever is there when the
 * shard has nothing to do. */
static bool is_due(const gateway_t *self, const shard_t *shard,
                   const cm_delivery_builder_t *builder, int64_t now_ms)
{
    const worker_t *worker = shard->worker;
    return self->draining || (!worker->fill_ms && shard_idle(shard)) ||
           now_ms - builder->first_ms >= age_max_ms(self, worker) ||
           builder->count >= worker->batch_max ||
           builder->frame.len >= (size_t)self->options->gateway.batch_bytes;
}

/* Has another subscription of the shard waited longer? A busy one would shut it out else. */
static bool must_yield(const gateway_t *self, const shard_t *shard, const source_t *source,
                       int64_t now_ms)
{
    const cm_delivery_builder_t *own = &shard->pending[source->place].builder;
    for (size_t place = 0; place < CM_SOURCES_PER_WORKER; place++) {
        const cm_delivery_builder_t *other = &shard->pending[place].builder;
        bool first = other->first_ms < own->first_ms ||
                     (other->first_ms == own->first_ms && shard->last_place == source->place);
        if (place != source->place && other->count && first && is_due(self, shard, other, now_ms))
            return true;
    }
    return false;
}

static void flush(gateway_t *self, source_t *source)
{
    int64_t now_ms = cm_clock_mono_ms();
    for (unsigned i = 0; i < source->worker->shard_count; i++) {
        shard_t *shard = &source->worker->shards[i];
        const cm_delivery_builder_t *builder = &shard->pending[source->place].builder;
        /* Nothing waits here for a shard without database. */
        if (!shard->ready || shard->pending[source->place].lapsed)
            cm_gateway_release_pending(self, shard);
        if (!builder->count || !shard->credits)
            continue;
        if (is_due(self, shard, builder, now_ms)) {
            if (!must_yield(self, shard, source, now_ms))
                send_batch(self, shard, source);
        } else if (!source->flush_armed) {
            int64_t age_ms = now_ms - builder->first_ms;
            source->flush_armed = true;
            zloop_timer(self->loop, (size_t)(age_max_ms(self, source->worker) - age_ms), 1,
                        on_flush, source);
        }
    }
}

void cm_gateway_pump(gateway_t *self)
{
    for (size_t i = 0; i < self->source_count; i++) {
        flush(self, &self->sources[i]);
        pull(self, &self->sources[i]);
    }
}

/* ---- outcomes ------------------------------------------------------------------------------- */

/* Every delivery of a batch to its end. Acknowledgements and releases go in bulk: they are gathered
 * at the front of the batch's own leases and in the arena. */
static void settle_batch(gateway_t *self, batch_t *batch, const cm_outcome_frame_t *frame)
{
    source_t *source = batch->source;
    uint64_t kinds[CM_OUTCOME_COUNT] = {0};
    size_t acks = 0, releases = 0;
    cm_broker_lease_t *released = cm_arena_alloc(self->arena, frame->count * sizeof *released);
    int64_t now_ms = cm_clock_epoch_ms();
    for (size_t i = 0; i < frame->count; i++) {
        const cm_outcome_t *outcome = &frame->items[i];
        assert(outcome->lease == batch->leases[i]); /* outcomes keep the order of the batch */
        if (outcome->kind == CM_OUTCOME_RETRY || outcome->kind == CM_OUTCOME_REJECT) {
            cm_gateway_publish(self, source, outcome, batch->publish_ms[i]);
            continue;
        }
        kinds[outcome->kind]++;
        if (outcome->kind == CM_OUTCOME_DEFER) {
            cm_broker_defer(self->broker, outcome->lease, outcome->until_ms);
        } else if (outcome->kind == CM_OUTCOME_RELEASE) {
            released[releases++] = outcome->lease;
        } else {
            double seconds = (double)(now_ms - batch->publish_ms[i]) / 1000;
            cm_metric_observe(source->seconds, seconds > 0 ? seconds : 0);
            batch->leases[acks++] = outcome->lease;
        }
    }
    if (acks)
        cm_broker_ack(self->broker, batch->leases, acks);
    if (releases)
        cm_broker_release(self->broker, released, releases);
    for (int kind = 0; kind < CM_OUTCOME_COUNT; kind++)
        if (kinds[kind])
            cm_gateway_ledger_ended(self, source, (cm_outcome_kind_t)kind, kinds[kind]);
    batch_free(batch);
}

/* A delivery that waits here and is another instance's by now must not be started. It cannot be
 * taken out of a batch: the batch goes back, and what of it is still ours comes again. */
void cm_gateway_lapsed(gateway_t *self, cm_broker_lease_t lease)
{
    if (cm_gateway_publish_lapsed(self, lease))
        return;
    for (size_t i = 0; i < self->source_count; i++) {
        const source_t *source = &self->sources[i];
        for (unsigned s = 0; s < source->worker->shard_count; s++) {
            pending_t *pending = &source->worker->shards[s].pending[source->place];
            for (size_t k = 0; k < pending->builder.count && !pending->lapsed; k++)
                pending->lapsed = pending->leases[k] == lease;
        }
    }
}

void cm_gateway_release_pending(gateway_t *self, shard_t *shard)
{
    for (size_t i = 0; i < self->source_count; i++) {
        source_t *source = &self->sources[i];
        pending_t *pending = &shard->pending[source->place];
        if (source->worker != shard->worker || !pending->builder.count)
            continue;
        cm_broker_release(self->broker, pending->leases, pending->builder.count);
        cm_gateway_ledger_ended(self, source, CM_OUTCOME_RELEASE, pending->builder.count);
        cm_delivery_builder_destroy(&pending->builder);
        pending->lapsed = false;
    }
}

void cm_gateway_release_batches(gateway_t *self, shard_t *shard)
{
    for (size_t i = 0; i < CM_BATCHES_IN_FLIGHT; i++) {
        batch_t *batch = &shard->batches[i];
        if (!batch->id)
            continue;
        cm_broker_release(self->broker, batch->leases, batch->count);
        cm_gateway_ledger_ended(self, batch->source, CM_OUTCOME_RELEASE, batch->count);
        batch_free(batch);
    }
}

static shard_t *find_shard(gateway_t *self, const cm_outcome_frame_t *frame)
{
    for (size_t i = 0; i < self->worker_count; i++)
        if (strcmp(self->workers[i].name, frame->subworker) == 0 &&
            frame->shard < self->workers[i].shard_count)
            return &self->workers[i].shards[frame->shard];
    return NULL;
}

/* A credit beyond the places in flight would be a batch without a place. */
static void add_credits(shard_t *shard, unsigned credits)
{
    unsigned used = 0;
    for (size_t i = 0; i < CM_BATCHES_IN_FLIGHT; i++)
        used += shard->batches[i].id != 0;
    shard->credits += credits;
    if (shard->credits > CM_BATCHES_IN_FLIGHT - used)
        shard->credits = CM_BATCHES_IN_FLIGHT - used;
}

void cm_gateway_outcomes(gateway_t *self, const void *bytes, size_t len)
{
    cm_error_t err = {0};
    cm_outcome_frame_t frame;
    cm_arena_reset(self->arena);
    cm_status_t status = cm_outcome_frame_decode(bytes, len, self->arena, &frame, &err);
    shard_t *shard = status == CM_OK ? find_shard(self, &frame) : NULL;
    if (!shard) {
        cm_log(CM_LOG_ERROR, "gateway", "outcome frame refused", "cause=\"%s\"", err.message);
        return;
    }
    if (frame.kind == CM_OUTCOME_FRAME_FRESH) { /* a new incarnation holds nothing */
        cm_gateway_release_batches(self, shard);
    } else if (frame.kind == CM_OUTCOME_FRAME_BATCH) {
        for (size_t i = 0; i < CM_BATCHES_IN_FLIGHT; i++)
            if (shard->batches[i].id == frame.batch_id && shard->batches[i].count == frame.count)
                settle_batch(self, &shard->batches[i], &frame);
    }
    shard->ready = frame.credits > 0;
    if (shard->ready)
        add_credits(shard, frame.credits);
    else /* its database is away: what credit it had is void */
        shard->credits = 0;
    cm_gateway_pump(self);
}

size_t cm_gateway_in_hand(const gateway_t *self, cm_in_hand_t *ret_in_hand)
{
    *ret_in_hand = (cm_in_hand_t){0};
    for (size_t i = 0; i < self->source_count; i++) {
        const source_t *source = &self->sources[i];
        size_t *count = &ret_in_hand->flows[source->table->flow];
        for (unsigned s = 0; s < source->worker->shard_count; s++) {
            const shard_t *shard = &source->worker->shards[s];
            *count += shard->pending[source->place].builder.count;
            for (size_t b = 0; b < CM_BATCHES_IN_FLIGHT; b++)
                if (shard->batches[b].source == source)
                    *count += shard->batches[b].count;
        }
    }
    const publish_t *publish, *next;
    HASH_ITER(hh, self->publishes, publish, next)
    {
        ret_in_hand->flows[publish->source->table->flow]++;
    }
    size_t all = 0;
    for (int flow = 0; flow < CM_FLOW_COUNT; flow++)
        all += ret_in_hand->flows[flow];
    return all;
}
