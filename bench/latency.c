/* latency - from publish to commit, at a steady rate.
 *
 *   bench_latency OPTION... COMMAND ARG...     --rate events a second, --seconds after a warm-up
 *
 * The event time is the time at which the event was due to be published, so a stall of the
 * publisher hides nothing. PostgreSQL tells when each row was committed (track_commit_timestamp
 * must be on); the difference is taken over every row whose last change was published after the
 * warm-up. The service's own histogram stands beside it.
 */
#include "actors/monitor_client.h"
#include "bench/child.h"
#include "bench/setup.h"
#include "runtime/clock.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WARM_UP_S = 2, READY_MS = 30000, DRAIN_MS = 60000, ASK_EVERY_US = 5000, NAP_US = 500 };

typedef struct {
    double *values; /* milliseconds */
    size_t count, cap;
} samples_t;

static void await_ready(const cm_bench_t *bench, const cm_bench_child_t *child)
{
    int64_t deadline_ms = cm_clock_mono_ms() + READY_MS;
    cm_buffer_t body = {0};
    cm_error_t err = {0};
    while (cm_monitor_get(bench->listen, "/readyz", 1000, &body, &err) != CM_OK) {
        cm_bench_child_check(child);
        if (cm_clock_mono_ms() > deadline_ms)
            cm_bench_fail("the service does not get ready: %s", err.message);
        usleep(ASK_EVERY_US);
    }
    cm_buffer_destroy(&body);
}

/* Everything that is due, in one pipeline; then a nap. */
static void publish(cm_bench_t *bench, redisContext *redis, uint64_t total)
{
    cm_buffer_t body = {0};
    uint64_t rate = bench->traffic.rate, first = bench->first;
    /* so that event `first` is due now */
    bench->traffic.base_ms = cm_clock_epoch_ms() - (int64_t)(first * 1000 / rate);
    for (uint64_t i = 0; i < total;) {
        uint64_t passed_ms = (uint64_t)(cm_clock_epoch_ms() - bench->traffic.base_ms);
        unsigned sent = 0;
        for (; i < total && (first + i) * 1000 / rate <= passed_ms; i++, sent++) {
            cm_traffic_event(&bench->traffic, first + i, &body);
            redisAppendCommand(redis, "XADD %s * data %b", cm_bench_group_name(bench), body.data,
                               body.len);
        }
        for (; sent; sent--)
            freeReplyObject(cm_bench_reply(redis));
        usleep(NAP_US);
    }
    cm_buffer_destroy(&body);
}

static void await_drained(const cm_bench_t *bench, const cm_bench_child_t *child,
                          redisContext *redis, uint64_t total)
{
    int64_t deadline_ms = cm_clock_mono_ms() + DRAIN_MS;
    uint64_t given = 0, pending = 0;
    while (given < total || pending) {
        cm_bench_child_check(child);
        if (cm_clock_mono_ms() > deadline_ms)
            cm_bench_fail("not drained: %" PRIu64 " of %" PRIu64 ", %" PRIu64 " pending", given,
                          total, pending);
        usleep(ASK_EVERY_US);
        cm_bench_group(bench, redis, &given, &pending);
    }
}

/* ---- what the database says ------------------------------------------------------------------ */

static PGresult *ask(PGconn *pg, const char *sql)
{
    PGresult *result = PQexec(pg, sql);
    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        cm_bench_fail("postgres: %s", PQerrorMessage(pg));
    return result;
}

static void take_tenant(samples_t *self, PGconn *pg, const char *schema, int64_t since_ms)
{
    char sql[512];
    snprintf(sql, sizeof sql,
             "SELECT 1000 * extract(epoch FROM pg_xact_commit_timestamp(xmin) - device_at) "
             "FROM %s.devices WHERE device_at >= to_timestamp(%" PRId64 " / 1000.0)",
             schema, since_ms);
    PGresult *result = ask(pg, sql);
    size_t count = (size_t)PQntuples(result);
    if (self->count + count > self->cap) {
        self->cap = 2 * (self->count + count);
        self->values = realloc(self->values, self->cap * sizeof *self->values);
        if (!self->values)
            abort();
    }
    for (size_t i = 0; i < count; i++)
        self->values[self->count++] = strtod(PQgetvalue(result, (int)i, 0), NULL);
    PQclear(result);
}

static int by_value(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static void take_samples(samples_t *self, const char *postgres, int64_t since_ms)
{
    PGconn *pg = PQconnectdb(postgres);
    if (PQstatus(pg) != CONNECTION_OK)
        cm_bench_fail("postgres: %s", PQerrorMessage(pg));
    PGresult *schemas =
        ask(pg, "SELECT quote_ident(nspname) FROM pg_namespace WHERE nspname LIKE 'tenant\\_%'");
    for (int i = 0; i < PQntuples(schemas); i++)
        take_tenant(self, pg, PQgetvalue(schemas, i, 0), since_ms);
    PQclear(schemas);
    PQfinish(pg);
    if (!self->count)
        cm_bench_fail("no row was written after the warm-up");
    qsort(self->values, self->count, sizeof *self->values, by_value);
}

static double at_share(const samples_t *self, double share)
{
    size_t index = (size_t)(share * (double)self->count);
    return self->values[index < self->count ? index : self->count - 1];
}

/* The bound in seconds under which the service itself counts 99 % of its deliveries. */
static double own_bound(const cm_bench_t *bench, uint64_t total)
{
    cm_buffer_t body = {0};
    cm_error_t err = {0};
    cm_bench_must(cm_monitor_get(bench->listen, "/metrics", 5000, &body, &err), &err, "metrics");
    static const char head[] = "client_manager_delivery_seconds_bucket{subscription=\"writer\"";
    double bound = 0;
    for (const char *at = strstr(cm_buffer_text(&body), head); at; at = strstr(at + 1, head)) {
        const char *le = strstr(at, "le=\""), *value = strchr(at, '}');
        if (!le || !value)
            break;
        bound = strtod(le + 4, NULL);
        if (strtod(value + 1, NULL) >= 0.99 * (double)total)
            break;
    }
    cm_buffer_destroy(&body);
    return bound;
}

int main(int argc, char **argv)
{
    cm_bench_t bench;
    cm_bench_child_t child;
    samples_t samples = {0};
    cm_buffer_t output = {0};
    cm_bench_parse(&bench, argc, argv);
    if (!bench.traffic.rate || !bench.seconds || !bench.listen)
        cm_bench_fail("give --rate, --seconds and --listen");
    uint64_t total = (uint64_t)(bench.seconds + WARM_UP_S) * bench.traffic.rate;
    redisContext *redis = cm_bench_connect_redis(&bench);
    cm_bench_child_start(&child, bench.command);
    await_ready(&bench, &child);
    int64_t since_ms = cm_clock_epoch_ms() + WARM_UP_S * 1000;
    publish(&bench, redis, total);
    await_drained(&bench, &child, redis, total);
    usleep(500 * 1000);    /* metrics are handed in a few times a second */
    char own[32] = "null"; /* above the last bound */
    double bound = own_bound(&bench, total);
    if (isfinite(bound))
        snprintf(own, sizeof own, "%.0f", bound * 1000);
    cm_bench_child_stop(&child, &output);
    take_samples(&samples, bench.postgres, since_ms);
    printf("{%s, \"rate\": %u, \"events\": %" PRIu64 ", \"samples\": %zu, \"p50_ms\": %.1f, "
           "\"p99_ms\": %.1f, \"p999_ms\": %.1f, \"max_ms\": %.1f, \"own_p99_below_ms\": %s}\n",
           bench.label, bench.traffic.rate, total, samples.count, at_share(&samples, 0.5),
           at_share(&samples, 0.99), at_share(&samples, 0.999), at_share(&samples, 1), own);
    free(samples.values);
    cm_buffer_destroy(&output);
    redisFree(redis);
    return 0;
}
