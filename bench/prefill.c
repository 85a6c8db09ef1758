/* prefill - what a run finds: `tables` makes tenants and their devices, `stream` the messages.
 *
 *   bench_prefill OPTION... tables     schemas, and every known device in its table
 *   bench_prefill OPTION... restore    every known device again, just before message `first`
 *   bench_prefill OPTION... stream     a new stream and group with the messages first .. first +
 * events
 */
#include "bench/batch.h"
#include "bench/setup.h"
#include "proto/tenant_event.h"
#include "runtime/clock.h"
#include "schema/migration.h"
#include "schema/tenant_schema.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { PIPELINE = 500, TOLD_EVERY_MS = 2000 };

typedef struct {
    const char *what;
    uint64_t total;
    int64_t told_ms;
} told_t;

static void tell(told_t *self, uint64_t done)
{
    int64_t now_ms = cm_clock_mono_ms();
    if (now_ms - self->told_ms < TOLD_EVERY_MS)
        return;
    if (self->told_ms)
        fprintf(stderr, "bench: %s %" PRIu64 " of %" PRIu64 "\n", self->what, done, self->total);
    self->told_ms = now_ms;
}

static void activate(const cm_bench_t *bench, cm_pg_t *pg)
{
    cm_error_t err = {0};
    cm_buffer_t body = {0};
    cm_arena_t *arena = cm_arena_new(4096);
    told_t told = {.what = "tenants", .total = bench->traffic.tenants};
    for (uint32_t t = 0; t < bench->traffic.tenants; t++) {
        cm_tenant_activation_t event;
        cm_tenant_change_t change;
        cm_arena_reset(arena);
        cm_traffic_activation(&bench->traffic, t, &body);
        cm_bench_must(cm_tenant_activation_decode((cm_str_t){body.data, body.len},
                                                  cm_clock_epoch_ms(), arena, &event, &err),
                      &err, "activation");
        cm_bench_must(cm_tenant_schema_activate(pg, CM_BENCH_SCHEMA, event.tenant, "",
                                                event.event_ms, NULL, &change, &err),
                      &err, "activation");
        tell(&told, t + 1);
    }
    cm_arena_destroy(&arena);
    cm_buffer_destroy(&body);
}

static void write_devices(const cm_bench_t *bench, cm_pg_t *pg)
{
    cm_error_t err = {0};
    cm_bench_batch_t batch;
    cm_buffer_t body = {0};
    cm_arena_t *bodies = cm_arena_new(1024 * 1024);
    cm_device_store_t *store = cm_device_store_new(pg, CM_BENCH_SCHEMA);
    told_t told = {.what = "devices", .total = bench->traffic.known};
    cm_bench_batch_init(&batch, bench->count);
    uint64_t written = 0;
    for (uint64_t d = 0; d < bench->traffic.known;) {
        for (; d < bench->traffic.known && batch.count < bench->count; d++) {
            cm_traffic_registration(&bench->traffic, d, &body);
            cm_str_t kept = cm_arena_copy(bodies, (cm_str_t){body.data, body.len});
            cm_bench_batch_add(&batch, kept, cm_clock_epoch_ms());
        }
        cm_bench_batch_group(&batch);
        cm_bench_must(cm_device_store_write(store, batch.tenants, batch.tenant_count, &err), &err,
                      "device");
        written += cm_bench_batch_results(&batch, CM_CHANGE_APPLIED);
        cm_bench_batch_clear(&batch);
        cm_arena_reset(bodies);
        tell(&told, d);
    }
    if (written != bench->traffic.known)
        cm_bench_fail("%" PRIu64 " of %" PRIu64 " devices were written", written,
                      bench->traffic.known);
    cm_device_store_destroy(&store);
    cm_bench_batch_destroy(&batch);
    cm_arena_destroy(&bodies);
    cm_buffer_destroy(&body);
}

static void fill_tables(const cm_bench_t *bench)
{
    cm_error_t err = {0};
    cm_pg_t *pg = cm_bench_connect_pg(bench, "client-manager bench prefill");
    cm_bench_must(cm_admin_prepare(pg, CM_BENCH_SCHEMA, &err), &err, "admin schema");
    activate(bench, pg);
    write_devices(bench, pg);
    cm_pg_destroy(&pg);
}

/* What a run of deletions took is registered anew: newer than these, older than those to come. */
static void restore_devices(const cm_bench_t *bench)
{
    cm_bench_t then = *bench;
    uint64_t rate = bench->traffic.rate ? bench->traffic.rate : 1000;
    cm_pg_t *pg = cm_bench_connect_pg(bench, "client-manager bench prefill");
    then.traffic.base_ms += (int64_t)(bench->first * 1000 / rate);
    write_devices(&then, pg);
    cm_pg_destroy(&pg);
}

/* Whatever a former run left is gone, also in streams that this one does not use. */
static void new_streams(const cm_bench_t *bench, redisContext *redis)
{
    char key[CM_BENCH_STREAM_MAX];
    freeReplyObject(redisCommand(redis, "FLUSHALL"));
    for (unsigned shard = 0; shard == 0 || shard < bench->streams; shard++) {
        redisAppendCommand(redis, "XGROUP CREATE %s %s 0 MKSTREAM",
                           cm_bench_stream(bench, shard, key), cm_bench_group_name(bench));
        freeReplyObject(cm_bench_reply(redis));
    }
}

static void append_event(const cm_bench_t *bench, redisContext *redis, const cm_buffer_t *body)
{
    char tenant[CM_TENANT_ID_MAX], key[CM_BENCH_STREAM_MAX];
    unsigned shard = 0;
    if (bench->streams && cm_tenant_id_peek((cm_str_t){body->data, body->len}, tenant))
        shard = cm_tenant_id_shard(cm_str(tenant), bench->streams);
    redisAppendCommand(redis, "XADD %s * data %b", cm_bench_stream(bench, shard, key), body->data,
                       body->len);
}

static void fill_stream(const cm_bench_t *bench)
{
    redisContext *redis = cm_bench_connect_redis(bench);
    cm_buffer_t body = {0};
    uint64_t bytes = 0;
    new_streams(bench, redis);
    for (uint64_t i = 0; i < bench->events;) {
        unsigned sent = 0;
        for (; sent < PIPELINE && i < bench->events; sent++, i++) {
            cm_bench_message(bench, bench->first + i, &body);
            bytes += body.len;
            append_event(bench, redis, &body);
        }
        for (; sent; sent--)
            freeReplyObject(cm_bench_reply(redis));
    }
    printf("%" PRIu64 "\n", bench->events ? bytes / bench->events : 0);
    cm_buffer_destroy(&body);
    redisFree(redis);
}

int main(int argc, char **argv)
{
    cm_bench_t bench;
    cm_bench_parse(&bench, argc, argv);
    if (!bench.command[0] || bench.command[1])
        cm_bench_fail("give one of: tables restore stream");
    if (strcmp(bench.command[0], "tables") == 0)
        fill_tables(&bench);
    else if (strcmp(bench.command[0], "stream") == 0)
        fill_stream(&bench);
    else if (strcmp(bench.command[0], "restore") == 0)
        restore_devices(&bench);
    else
        cm_bench_fail("give one of: tables restore stream");
    return 0;
}
