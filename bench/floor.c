/* floor - the ceiling of the whole way: a bare loop a thread, no actors, retries, leases, metrics.
 *
 *   bench_floor OPTION...     --connections threads, --count messages a read; to be run by
 * bench_watch
 *
 * Without --streams all threads read one stream, so that two of them may want the same row at once
 * and one waits for the other. With as many streams as threads each reads its own, which holds the
 * tenants that are its shard's in the service: nobody had to route them, so this is the higher
 * ceiling.
 *
 * XREADGROUP, the service's decoder, group by tenant and merge, the service's statements in one
 * pipeline, XACK. The acknowledgement travels with the next read, and while PostgreSQL works the
 * next batch is read and decoded. Ends when the stream is empty.
 */
#include "bench/batch.h"
#include "bench/setup.h"
#include "runtime/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PUMP_EVERY = 100 };

typedef struct {
    redisReply *reply; /* owns the bodies and ids */
    cm_bench_batch_t batch;
} read_t;

typedef struct {
    const cm_bench_t *bench;
    unsigned number;
    char stream[CM_BENCH_STREAM_MAX];
    pthread_t thread;
    pthread_barrier_t *start;
    redisContext *redis;
    cm_pg_t *pg;
    cm_device_store_t *store;
    bool writing;
    uint64_t applied, batches, statements;
} worker_t;

/* [[stream, [[id, [field, value]]...]]], or nil when the stream is at its end. */
static const redisReply *entries_of(const redisReply *reply)
{
    return reply->type == REDIS_REPLY_ARRAY ? reply->element[0]->element[1] : NULL;
}

static cm_str_t body_of(const redisReply *entry)
{
    const redisReply *fields = entry->element[1];
    for (size_t i = 0; i + 1 < fields->elements; i += 2)
        if (strcmp(fields->element[i]->str, "data") == 0)
            return (cm_str_t){fields->element[i + 1]->str, fields->element[i + 1]->len};
    cm_bench_fail("entry without data");
}

static void append_ack(worker_t *self, const redisReply *reply)
{
    const redisReply *entries = entries_of(reply);
    size_t count = entries->elements + 3;
    const char **argv = calloc(count, sizeof *argv);
    size_t *lengths = calloc(count, sizeof *lengths);
    if (!argv || !lengths)
        abort();
    argv[0] = "XACK";
    argv[1] = self->stream;
    argv[2] = cm_bench_group_name(self->bench);
    for (size_t i = 0; i < count; i++) {
        if (i >= 3)
            argv[i] = entries->element[i - 3]->element[0]->str;
        lengths[i] = i < 3 ? strlen(argv[i]) : entries->element[i - 3]->element[0]->len;
    }
    redisAppendCommandArgv(self->redis, (int)count, argv, lengths);
    free(argv);
    free(lengths);
}

/* Pump what is under way, once without waiting or until it is committed. */
static void pump(worker_t *self, bool until_committed)
{
    cm_error_t err = {0};
    while (self->writing) {
        short events = cm_device_store_wants_write(self->store) ? POLLIN | POLLOUT : POLLIN;
        struct pollfd item = {.fd = cm_pg_fd(self->pg), .events = events};
        int ready = poll(&item, 1, until_committed ? -1 : 0);
        if (ready < 0 && errno != EINTR)
            cm_bench_fail("poll: %s", strerror(errno));
        bool done = false;
        if (ready > 0)
            cm_bench_must(cm_device_store_pump(self->store, &done, &err), &err, "write");
        self->writing = !done;
        if (!until_committed)
            return;
    }
}

/* Acknowledge what slot holds, if anything, and read the next into it, in one round trip. False at
 * the end of the stream. */
static bool read_next(worker_t *self, read_t *slot)
{
    if (slot->reply)
        append_ack(self, slot->reply);
    redisAppendCommand(self->redis, "XREADGROUP GROUP %s floor-%u COUNT %lu STREAMS %s >",
                       cm_bench_group_name(self->bench), self->number,
                       (unsigned long)self->bench->count, self->stream);
    if (slot->reply) {
        freeReplyObject(cm_bench_reply(self->redis));
        freeReplyObject(slot->reply);
    }
    slot->reply = cm_bench_reply(self->redis);
    const redisReply *entries = entries_of(slot->reply);
    if (!entries) {
        freeReplyObject(slot->reply);
        slot->reply = NULL;
        return false;
    }
    int64_t now_ms = cm_clock_epoch_ms();
    cm_bench_batch_clear(&slot->batch);
    for (size_t i = 0; i < entries->elements; i++) {
        if (i % PUMP_EVERY == 0)
            pump(self, false); /* a pipeline is larger than its socket's buffer */
        cm_bench_batch_add(&slot->batch, body_of(entries->element[i]), now_ms);
    }
    cm_bench_batch_group(&slot->batch);
    return true;
}

static void *work(void *arg)
{
    worker_t *self = arg;
    cm_error_t err = {0};
    read_t reads[2] = {{0}}, *current = &reads[0], *other = &reads[1];
    cm_bench_batch_init(&reads[0].batch, self->bench->count);
    cm_bench_batch_init(&reads[1].batch, self->bench->count);
    pthread_barrier_wait(self->start);
    bool more = read_next(self, current);
    while (more) {
        cm_store_tenant_t *tenants = current->batch.tenants;
        cm_bench_must(
            cm_device_store_begin(self->store, tenants, current->batch.tenant_count, &err), &err,
            "write");
        self->writing = true;
        more = read_next(self, other);
        pump(self, true);
        self->batches++;
        self->applied += cm_bench_batch_results(&current->batch, CM_CHANGE_APPLIED);
        read_t *written = current;
        current = other;
        other = written;
    }
    if (other->reply) {
        append_ack(self, other->reply);
        freeReplyObject(cm_bench_reply(self->redis));
        freeReplyObject(other->reply);
    }
    self->statements = cm_device_store_stats(self->store).statements;
    cm_bench_batch_destroy(&reads[0].batch);
    cm_bench_batch_destroy(&reads[1].batch);
    return NULL;
}

int main(int argc, char **argv)
{
    cm_bench_t bench;
    cm_bench_parse(&bench, argc, argv);
    if (bench.streams && bench.streams != bench.connections)
        cm_bench_fail("give as many streams as connections");
    signal(SIGTERM, SIG_IGN); /* meant for the service; this one ends by itself */
    worker_t *workers = calloc(bench.connections, sizeof *workers);
    pthread_barrier_t start;
    if (!workers || pthread_barrier_init(&start, NULL, bench.connections) != 0)
        abort();
    for (unsigned i = 0; i < bench.connections; i++) {
        workers[i] = (worker_t){.bench = &bench, .number = i, .start = &start};
        cm_bench_stream(&bench, i, workers[i].stream);
        workers[i].redis = cm_bench_connect_redis(&bench);
        workers[i].pg = cm_bench_connect_pg(&bench, "client-manager bench floor");
        workers[i].store = cm_device_store_new(workers[i].pg, CM_BENCH_SCHEMA);
    }
    for (unsigned i = 0; i < bench.connections; i++)
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
            abort();
    uint64_t applied = 0, batches = 0, statements = 0;
    for (unsigned i = 0; i < bench.connections; i++) {
        worker_t *worker = &workers[i];
        pthread_join(worker->thread, NULL);
        applied += worker->applied;
        batches += worker->batches;
        statements += worker->statements;
        cm_device_store_destroy(&worker->store);
        cm_pg_destroy(&worker->pg);
        redisFree(worker->redis);
    }
    printf("\"rows\": %" PRIu64 ", \"batches\": %" PRIu64 ", \"statements\": %" PRIu64 "\n",
           applied, batches, statements);
    free(workers);
    return 0;
}
