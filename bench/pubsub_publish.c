/* pubsub_publish - how long a publish takes over Google Pub/Sub while many pulls wait.
 *
 *   bench_pubsub_publish URI CA_FILE CREDENTIALS_FILE TOPIC PULLS [COUNT [BURST]]
 *
 * Opens one client on the subscriptions TOPIC.idle-0 .. TOPIC.idle-N, which must be there and
 * empty, each with two requests waiting at the service as the driver has them for an idle one, and
 * publishes COUNT (1000) messages to TOPIC one after the other, then as many in bursts of BURST
 * (50), timed from the call to its confirmation. Waits for the line "go" first, so that whoever
 * started it can see that the pulls are there. Prints one JSON line.
 */
#include "bench/setup.h"
#include "runtime/broker/broker.h"
#include "runtime/broker/google_pubsub.h"
#include "runtime/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PULLS_EACH = 2, LINK_MS = 15000, COUNT = 1000, BURST = 50, PAUSE_MS = 20, BODY_BYTES = 400 };

typedef struct {
    zloop_t *loop;
    cm_broker_t *broker;
    const char *topic;
    unsigned subscriptions, burst;
    size_t count, sent, confirmed; /* of this round */
    int64_t *sent_us;
    double *took_ms;
    bool up;
    uint64_t received;
} client_t;

/* ---- events ---------------------------------------------------------------------------------- */

static void on_link(void *ctx, bool up, const cm_error_t *err)
{
    client_t *self = ctx;
    if (!up)
        fprintf(stderr, "pubsub_publish: link down: %s\n", err->message);
    self->up = up;
}

static void on_delivery(void *ctx, const cm_broker_delivery_t *delivery)
{
    client_t *self = ctx;
    self->received++;
    cm_broker_ack(self->broker, &delivery->lease, 1);
}

static void on_pulled(void *ctx, int subscription, size_t received)
{
    client_t *self = ctx;
    (void)received;
    cm_broker_pull(self->broker, subscription, BURST);
}

static void on_lapsed(void *ctx, cm_broker_lease_t lease)
{
    (void)ctx, (void)lease;
}

static void on_lost(void *ctx, int subscription, uint64_t count, const char *why)
{
    (void)ctx, (void)subscription, (void)count;
    cm_bench_fail("lost: %s", why);
}

static void on_refused(void *ctx, int subscription, const cm_error_t *err)
{
    (void)ctx, (void)subscription;
    cm_bench_fail("refused: %s", err->message);
}

static void on_depth(void *ctx, int subscription, const cm_broker_depth_t *depth)
{
    (void)ctx, (void)subscription, (void)depth;
}

static void publish_some(client_t *self)
{
    static char body[BODY_BYTES];
    memset(body, 'x', sizeof body);
    for (unsigned i = 0; i < self->burst && self->sent < self->count; i++, self->sent++) {
        self->sent_us[self->sent] = cm_clock_mono_us();
        cm_broker_publish(self->broker, self->topic, &(cm_message_t){.body = {body, sizeof body}},
                          self->sent);
    }
}

static void on_published(void *ctx, uint64_t token, cm_status_t status, const cm_error_t *err)
{
    client_t *self = ctx;
    if (status != CM_OK)
        cm_bench_fail("a publish failed: %s", err->message);
    self->took_ms[token] = (double)(cm_clock_mono_us() - self->sent_us[token]) / 1000;
    self->confirmed++;
}

/* ---- the loop -------------------------------------------------------------------------------- */

static int stop(zloop_t *loop, int timer_id, void *arg)
{
    (void)loop, (void)timer_id, (void)arg;
    return -1;
}

static void run_for(client_t *self, size_t ms)
{
    int timer = zloop_timer(self->loop, ms, 1, stop, NULL);
    zloop_start(self->loop);
    zloop_timer_end(self->loop, timer);
}

static int on_pause(zloop_t *loop, int timer_id, void *arg)
{
    client_t *self = arg;
    (void)loop, (void)timer_id;
    if (self->confirmed == self->count)
        return -1;
    if (self->confirmed == self->sent)
        publish_some(self);
    return 0;
}

static int on_go(zloop_t *loop, zmq_pollitem_t *item, void *arg)
{
    char line[16];
    (void)loop, (void)arg;
    return read(item->fd, line, sizeof line) >= 0 ? -1 : 0;
}

static void await_go(client_t *self)
{
    zmq_pollitem_t item = {.fd = STDIN_FILENO, .events = ZMQ_POLLIN};
    zloop_poller(self->loop, &item, on_go, self);
    zloop_start(self->loop);
    zloop_poller_end(self->loop, &item);
}

/* ---- figures --------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static void round_of(client_t *self, unsigned burst, const char *name, const char *before)
{
    self->burst = burst;
    self->sent = self->confirmed = 0;
    int timer = zloop_timer(self->loop, PAUSE_MS, 0, on_pause, self);
    zloop_start(self->loop);
    zloop_timer_end(self->loop, timer);
    qsort(self->took_ms, self->count, sizeof *self->took_ms, by_value);
    printf("%s\"%s_p50_ms\": %.2f, \"%s_p99_ms\": %.2f, \"%s_max_ms\": %.2f", before, name,
           self->took_ms[self->count / 2], name, self->took_ms[self->count * 99 / 100], name,
           self->took_ms[self->count - 1]);
}

static void subscribe_all(client_t *self)
{
    char name[128];
    for (unsigned i = 0; i < self->subscriptions; i++) {
        snprintf(name, sizeof name, "%s.idle-%u", self->topic, i);
        cm_broker_pull(self->broker, cm_broker_subscribe(self->broker, name), BURST);
    }
}

static void open_client(client_t *self, char **argv)
{
    cm_error_t err = {0};
    cm_pubsub_options_t own = {.ca_file = argv[2], .credentials_file = argv[3], .monitoring = ""};
    cm_broker_options_t options = {
        .uri = argv[1], .consumer = "bench", .lease_ms = 30000, .poll_ms = 500, .driver = &own};
    cm_broker_events_t events = {.ctx = self,
                                 .on_delivery = on_delivery,
                                 .on_pulled = on_pulled,
                                 .on_published = on_published,
                                 .on_lapsed = on_lapsed,
                                 .on_lost = on_lost,
                                 .on_link = on_link,
                                 .on_refused = on_refused,
                                 .on_depth = on_depth};
    self->loop = zloop_new();
    cm_bench_must(cm_broker_open(&self->broker, &cm_broker_google_pubsub, self->loop, &options,
                                 &events, &err),
                  &err, argv[1]);
    int64_t deadline_ms = cm_clock_mono_ms() + LINK_MS;
    while (!self->up && cm_clock_mono_ms() < deadline_ms)
        run_for(self, 20);
    if (!self->up)
        cm_bench_fail("no link to %s", argv[1]);
}

static size_t number(const char *text, size_t by_default)
{
    size_t value = text ? strtoul(text, NULL, 10) : by_default;
    return value ? value : by_default;
}

int main(int argc, char **argv)
{
    if (argc < 6 || argc > 8)
        cm_bench_fail("usage: URI CA_FILE CREDENTIALS_FILE TOPIC PULLS [COUNT [BURST]]");
    size_t count = number(argv[6], COUNT);
    client_t self = {.topic = argv[4],
                     .subscriptions = (unsigned)(number(argv[5], 300) / PULLS_EACH),
                     .count = count,
                     .sent_us = calloc(count, sizeof(int64_t)),
                     .took_ms = calloc(count, sizeof(double))};
    if (!self.sent_us || !self.took_ms)
        abort();
    open_client(&self, argv);
    subscribe_all(&self);
    await_go(&self);
    round_of(&self, 1, "single", "{");
    round_of(&self, argc > 7 ? (unsigned)number(argv[7], BURST) : BURST, "burst", ", ");
    printf("}\n");
    if (self.received)
        cm_bench_fail("the pulls did not wait: %" PRIu64 " messages came", self.received);
    cm_broker_close(&self.broker);
    zloop_destroy(&self.loop);
    free(self.sent_us);
    free(self.took_ms);
    return 0;
}
