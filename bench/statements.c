/* statements - the ceiling of the statements: the same writes with the events in memory.
 *
 *   bench_statements OPTION...     --connections threads, --count changes a batch; prints one JSON
 * line
 *
 * Tenants belong to connections as in the service; decoding, grouping and merging happen before the
 * clock starts. No broker at all.
 */
#include "bench/batch.h"
#include "bench/measure.h"
#include "runtime/clock.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { ASK_EVERY_US = 5000 };

typedef struct {
    const cm_bench_t *bench;
    pthread_t thread;
    pthread_barrier_t *start;
    cm_pg_t *pg;
    cm_device_store_t *store;
    cm_bench_batch_t *batches;
    size_t count, cap;
    _Atomic uint64_t *done; /* events, over all threads */
    uint64_t applied;
} worker_t;

static cm_bench_batch_t *new_batch(worker_t *self)
{
    if (self->count == self->cap) {
        self->cap = self->cap ? self->cap * 2 : 16;
        self->batches = realloc(self->batches, self->cap * sizeof *self->batches);
        if (!self->batches)
            abort();
    }
    cm_bench_batch_t *batch = &self->batches[self->count++];
    cm_bench_batch_init(batch, self->bench->count);
    return batch;
}

static void load(const cm_bench_t *bench, worker_t *workers)
{
    cm_buffer_t body = {0};
    int64_t now_ms = cm_clock_epoch_ms();
    for (uint64_t i = 0; i < bench->events; i++) {
        char tenant[CM_TENANT_ID_MAX];
        cm_traffic_event(&bench->traffic, bench->first + i, &body);
        if (!cm_tenant_id_peek((cm_str_t){body.data, body.len}, tenant))
            cm_bench_fail("event without tenant");
        worker_t *worker = &workers[cm_tenant_id_shard(cm_str(tenant), bench->connections)];
        cm_bench_batch_t *batch = worker->count ? &worker->batches[worker->count - 1] : NULL;
        if (!batch || batch->count == bench->count)
            batch = new_batch(worker);
        cm_str_t kept = cm_arena_copy(batch->arena, (cm_str_t){body.data, body.len});
        cm_bench_batch_add(batch, kept, now_ms);
    }
    for (unsigned w = 0; w < bench->connections; w++)
        for (size_t b = 0; b < workers[w].count; b++)
            cm_bench_batch_group(&workers[w].batches[b]);
    cm_buffer_destroy(&body);
}

static void *work(void *arg)
{
    worker_t *self = arg;
    cm_error_t err = {0};
    pthread_barrier_wait(self->start);
    for (size_t i = 0; i < self->count; i++) {
        cm_bench_batch_t *batch = &self->batches[i];
        cm_bench_must(cm_device_store_write(self->store, batch->tenants, batch->tenant_count, &err),
                      &err, "write");
        atomic_fetch_add(self->done, batch->count);
    }
    return NULL;
}

static void run(const cm_bench_t *bench, worker_t *workers, cm_bench_measure_t *measure)
{
    pthread_barrier_t start;
    _Atomic uint64_t done = 0;
    if (pthread_barrier_init(&start, NULL, bench->connections + 1) != 0)
        abort();
    for (unsigned i = 0; i < bench->connections; i++) {
        workers[i].start = &start;
        workers[i].done = &done;
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
            abort();
    }
    cm_bench_measure_start(measure);
    pthread_barrier_wait(&start);
    while (bench->checkpoint && atomic_load(&done) < bench->events / 2)
        usleep(ASK_EVERY_US);
    cm_bench_measure_checkpoint(measure);
    for (unsigned i = 0; i < bench->connections; i++)
        pthread_join(workers[i].thread, NULL);
    cm_bench_measure_end(measure);
    pthread_barrier_destroy(&start);
}

int main(int argc, char **argv)
{
    cm_bench_t bench;
    cm_bench_measure_t measure;
    cm_bench_parse(&bench, argc, argv);
    worker_t *workers = calloc(bench.connections, sizeof *workers);
    if (!workers)
        abort();
    for (unsigned i = 0; i < bench.connections; i++)
        workers[i].bench = &bench;
    load(&bench, workers);
    cm_bench_measure_open(&measure, &bench);
    measure.client = getpid();
    for (unsigned i = 0; i < bench.connections; i++) {
        workers[i].pg = cm_bench_connect_pg(&bench, "client-manager bench statements");
        workers[i].store = cm_device_store_new(workers[i].pg, CM_BENCH_SCHEMA);
    }
    run(&bench, workers, &measure);
    uint64_t applied = 0, statements = 0;
    char more[96];
    for (unsigned i = 0; i < bench.connections; i++) {
        worker_t *worker = &workers[i];
        statements += cm_device_store_stats(worker->store).statements;
        for (size_t b = 0; b < worker->count; b++) {
            applied += cm_bench_batch_results(&worker->batches[b], CM_CHANGE_APPLIED);
            cm_bench_batch_destroy(&worker->batches[b]);
        }
        free(worker->batches);
        cm_device_store_destroy(&worker->store);
        cm_pg_destroy(&worker->pg);
    }
    snprintf(more, sizeof more, "\"rows\": %" PRIu64 ", \"statements\": %" PRIu64, applied,
             statements);
    cm_bench_measure_print(&measure, bench.events, more);
    free(workers);
    return 0;
}
