/* watch - run COMMAND until it has drained the stream, and measure it from outside.
 *
 *   bench_watch OPTION... COMMAND ARG...     prints one JSON line
 *
 * The service and the floor are watched alike: the clock starts when the group is given its first
 * entry and stops when the last one is acknowledged, which both do after their commit. Start-up is
 * outside, the first preparing of statements inside.
 */
#include "actors/monitor_client.h"
#include "bench/child.h"
#include "bench/measure.h"
#include "runtime/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { START_EVERY_US = 1000, ASK_EVERY_US = 5000, STALLED_MS = 60000 };

static void follow(cm_bench_measure_t *measure, const cm_bench_child_t *child, redisContext *redis)
{
    const cm_bench_t *bench = measure->bench;
    uint64_t given = 0, pending = 0, seen = 0;
    int64_t moved_ms = cm_clock_mono_ms();
    do {
        cm_bench_measure_start(measure);
        cm_bench_group(bench, redis, &given, &pending);
        if (given)
            break;
        cm_bench_child_check(child);
        usleep(START_EVERY_US);
    } while (cm_clock_mono_ms() - moved_ms < STALLED_MS);
    while (given < bench->events || pending) {
        if (given - pending != seen) {
            seen = given - pending;
            moved_ms = cm_clock_mono_ms();
        } else if (cm_clock_mono_ms() - moved_ms > STALLED_MS) {
            cm_bench_fail("no progress: %" PRIu64 " of %" PRIu64 " read, %" PRIu64 " pending",
                          given, bench->events, pending);
        }
        if (given >= bench->events / 2)
            cm_bench_measure_checkpoint(measure);
        if (given < bench->events)
            cm_bench_child_check(child);
        usleep(ASK_EVERY_US);
        cm_bench_group(bench, redis, &given, &pending);
    }
    cm_bench_measure_end(measure);
}

/* What the child said: the ledger of the service, which must tell the same, or members as they are.
 */
static void explain(const cm_bench_t *bench, cm_buffer_t *output, cm_buffer_t *more)
{
    cm_ledgers_t ledgers;
    const char *text = cm_buffer_text(output);
    if (*text != '{') {
        cm_buffer_printf(more, "%.*s", (int)strcspn(text, "\n"), text);
        return;
    }
    cm_error_t err = {0};
    cm_bench_must(cm_monitor_parse_ledgers(text, &ledgers, &err), &err, "ledger");
    cm_ledger_t ledger = cm_ledgers_sum(&ledgers);
    if (ledger.applied + ledger.stale + ledger.duplicate != bench->events || ledger.in_flight)
        cm_bench_fail("the ledger tells another story than the stream: %s", text);
    cm_buffer_printf(more,
                     "\"applied\": %" PRIu64 ", \"stale\": %" PRIu64 ", \"duplicate\": %" PRIu64,
                     ledger.applied, ledger.stale, ledger.duplicate);
}

int main(int argc, char **argv)
{
    cm_bench_t bench;
    cm_bench_child_t child;
    cm_bench_measure_t measure;
    cm_buffer_t output = {0}, more = {0};
    cm_bench_parse(&bench, argc, argv);
    redisContext *redis = cm_bench_connect_redis(&bench);
    cm_bench_measure_open(&measure, &bench);
    cm_bench_child_start(&child, bench.command);
    measure.client = child.pid;
    follow(&measure, &child, redis);
    measure.peak_rss_kb = cm_bench_child_stop(&child, &output);
    explain(&bench, &output, &more);
    cm_bench_measure_print(&measure, bench.events, cm_buffer_text(&more));
    cm_buffer_destroy(&output);
    cm_buffer_destroy(&more);
    redisFree(redis);
    return 0;
}
