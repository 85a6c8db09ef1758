#include "tests/support/broker_harness.h"

#include "runtime/clock.h"
#include "tests/support/pubsub_server.h"
#include "tests/support/redis_server.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

/* ---- the drivers ----------------------------------------------------------------------------- */

struct cm_test_server {
    cm_test_redis_t redis;
    cm_test_pubsub_t pubsub;
};

static cm_test_server_t *redis_start(char uri[256])
{
    cm_test_server_t *server = calloc(1, sizeof *server);
    cm_test_redis_start(&server->redis);
    snprintf(uri, 256, "%s", server->redis.uri);
    return server;
}

static void redis_stop(cm_test_server_t *server)
{
    cm_test_redis_stop(&server->redis);
    free(server);
}

static void redis_cut(cm_test_server_t *server)
{
    cm_test_redis_run(&server->redis, "CLIENT KILL TYPE normal");
}

static const char counting[] =
    "\"ackDeadlineSeconds\":10,\"deadLetterPolicy\":{\"deadLetterTopic\":"
    "\"projects/test/topics/somewhere-else\",\"maxDeliveryAttempts\":100}";

/* The service tells attempts only where a dead-letter policy wants them counted, and then counts a
 * message given back as well; here it does not, as the suite expects of brokers that can choose. */
static cm_test_server_t *pubsub_start(char uri[256])
{
    static const char *const options[] = {"--nacks-uncounted", NULL};
    cm_test_server_t *server = calloc(1, sizeof *server);
    cm_test_pubsub_start(&server->pubsub, options);
    cm_test_pubsub_create(&server->pubsub, "somewhere-else", NULL); /* of the suite */
    cm_test_pubsub_create_all(&server->pubsub, counting);
    snprintf(uri, 256, "%s", server->pubsub.uri);
    return server;
}

/* Whatever a test was about, the driver has kept the API's rules in it. */
static void pubsub_stop(cm_test_server_t *server)
{
    if (cm_test_pubsub_stat(&server->pubsub, "violations.count") != 0)
        cr_fatal("broke a rule of the API: %s",
                 cm_test_pubsub_call(&server->pubsub, "GET", "/control/stats", NULL, NULL));
    cm_test_pubsub_stop(&server->pubsub);
    free(server);
}

/* Away for a moment: a connection that is made anew at once would not be noticed by a client that
 * has no request under way. */
static void pubsub_cut(cm_test_server_t *server)
{
    free(cm_test_pubsub_call(&server->pubsub, "POST", "/control/cut", "{\"ms\":200}", NULL));
}

static cm_test_server_t *emulator_start_with(char uri[256], const char *settings)
{
    cm_test_server_t *server = calloc(1, sizeof *server);
    cm_test_pubsub_start_emulator(&server->pubsub, "--poll");
    cm_test_pubsub_create(&server->pubsub, "somewhere-else", NULL);
    cm_test_pubsub_create_all(&server->pubsub, settings);
    snprintf(uri, 256, "%s", server->pubsub.uri);
    return server;
}

/* Without a dead-letter policy, as `broker create` makes subscriptions. */
static cm_test_server_t *emulator_start(char uri[256])
{
    return emulator_start_with(uri, "\"ackDeadlineSeconds\":10");
}

static cm_test_server_t *counting_emulator_start(char uri[256])
{
    return emulator_start_with(uri, counting);
}

static void emulator_stop(cm_test_server_t *server)
{
    cm_test_pubsub_stop(&server->pubsub);
    free(server);
}

static const cm_test_lack_t emulator_lacks[] = {
    {"what_a_dead_client_held_goes_to_another",
     "attempts are told only with a dead-letter policy; emulator-counting has one"},
    {"what_is_held_is_kept_from_others_for_many_leases",
     "attempts are told only with a dead-letter policy; emulator-counting has one"},
    {0},
};

static const cm_test_lack_t counting_emulator_lacks[] = {
    {"a_released_message_goes_to_another_client_with_its_attempt_not_counted",
     "with a dead-letter policy what is given back counts as well; emulator has none"},
    {"a_released_message_can_come_back_to_the_same_client",
     "with a dead-letter policy what is given back counts as well; emulator has none"},
    {0},
};

const cm_test_broker_row_t cm_test_brokers[] = {
    {"redis", &cm_broker_redis_streams, redis_start, redis_stop, redis_cut, NULL, NULL},
    {"pubsub", &cm_broker_google_pubsub, pubsub_start, pubsub_stop, pubsub_cut, NULL, NULL},
    {"emulator", &cm_broker_google_pubsub, emulator_start, emulator_stop, pubsub_cut,
     cm_test_pubsub_find_emulator, emulator_lacks},
    {"emulator-counting", &cm_broker_google_pubsub, counting_emulator_start, emulator_stop,
     pubsub_cut, cm_test_pubsub_find_emulator, counting_emulator_lacks},
};
enum { BROKERS = sizeof cm_test_brokers / sizeof cm_test_brokers[0] };

/* ---- which of them --------------------------------------------------------------------------- */

static bool is_asked_for(const char *name)
{
    const char *names = getenv("CM_TEST_BROKERS");
    size_t length = strlen(name);
    if (!names || !names[0])
        names = "redis,pubsub"; /* an emulator is a Java process for each test */
    for (; *names; names += strcspn(names, ","), names += *names == ',')
        if (strcspn(names, ",") == length && strncmp(names, name, length) == 0)
            return true;
    return false;
}

/* Looked for once: every test asks. */
static const char *why_absent(size_t row)
{
    static char why[BROKERS][256];
    static bool known[BROKERS];
    if (!known[row] && cm_test_brokers[row].find)
        cm_test_brokers[row].find(why[row]);
    known[row] = true;
    return why[row];
}

size_t cm_test_broker_rows(size_t rows[CM_TEST_BROKERS_MAX])
{
    size_t count = 0;
    for (size_t i = 0; i < BROKERS; i++)
        if (is_asked_for(cm_test_brokers[i].name) && !why_absent(i)[0])
            rows[count++] = i;
    return count;
}

/* One line for all that lack the same. */
void cm_test_broker_note_absent(void)
{
    for (size_t i = 0; i < BROKERS; i++) {
        if (!why_absent(i)[0] || (i && cm_test_brokers[i].find == cm_test_brokers[i - 1].find))
            continue;
        fprintf(stderr, "note: no broker row %s", cm_test_brokers[i].name);
        for (size_t j = i + 1; j < BROKERS && cm_test_brokers[j].find == cm_test_brokers[i].find;)
            fprintf(stderr, ", %s", cm_test_brokers[j++].name);
        fprintf(stderr, ": %s\n", why_absent(i));
    }
}

void cm_test_broker_need(const cm_test_broker_row_t *row, const char *behaviour)
{
    for (const cm_test_lack_t *lack = row->lacks; lack && lack->behaviour; lack++) {
        if (strcmp(lack->behaviour, behaviour) != 0)
            continue;
        fprintf(stderr, "not applicable: %s on %s: %s\n", behaviour, row->name, lack->reason);
        cr_skip_test("%s", lack->reason);
    }
}

/* ---- events ---------------------------------------------------------------------------------- */

/* Room for one more item in an array that doubles at powers of two. */
static void *grown(void *items, size_t count, size_t size)
{
    if (count & (count - 1))
        return items;
    items = realloc(items, (count ? count * 2 : 1) * size);
    if (!items)
        abort();
    return items;
}

static void on_delivery(void *ctx, const cm_broker_delivery_t *from)
{
    cm_test_client_t *self = ctx;
    self->deliveries = grown(self->deliveries, self->delivered, sizeof *self->deliveries);
    cm_test_delivery_t *to = &self->deliveries[self->delivered++];
    *to = (cm_test_delivery_t){
        .lease = from->lease,
        .subscription = from->subscription,
        .attempt = from->attempt,
        .publish_ms = from->publish_ms,
        .arrived_ms = cm_clock_epoch_ms(),
        .body = cm_arena_copy(self->arena, from->message.body),
        .ordering_key = cm_arena_copy(self->arena, from->message.ordering_key),
        .attribute_count = from->message.attribute_count,
    };
    snprintf(to->message_id, sizeof to->message_id, "%.*s", CM_STR_ARG(from->message_id));
    to->attributes =
        cm_arena_alloc(self->arena, (to->attribute_count + 1) * sizeof *to->attributes);
    for (size_t i = 0; i < to->attribute_count; i++)
        to->attributes[i] =
            (cm_attribute_t){cm_arena_copy(self->arena, from->message.attributes[i].name),
                             cm_arena_copy(self->arena, from->message.attributes[i].value)};
}

static void on_pulled(void *ctx, int subscription, size_t received)
{
    cm_test_client_t *self = ctx;
    self->pulled[subscription]++;
    self->last_pull[subscription] = received;
    if (self->keep_pulling[subscription])
        cm_broker_pull(self->broker, subscription, self->keep_pulling[subscription]);
}

static void on_published(void *ctx, uint64_t token, cm_status_t status, const cm_error_t *err)
{
    cm_test_client_t *self = ctx;
    self->published = grown(self->published, self->published_count, sizeof *self->published);
    cm_test_published_t *to = &self->published[self->published_count++];
    to->token = token;
    to->status = status;
    snprintf(to->code, sizeof to->code, "%s", status == CM_OK ? "" : err->code);
    snprintf(to->message, sizeof to->message, "%s", status == CM_OK ? "" : err->message);
}

static void on_lapsed(void *ctx, cm_broker_lease_t lease)
{
    cm_test_client_t *self = ctx;
    self->lapsed = grown(self->lapsed, self->lapsed_count, sizeof *self->lapsed);
    self->lapsed[self->lapsed_count++] = lease;
}

static void on_lost(void *ctx, int subscription, uint64_t count, const char *why)
{
    (void)subscription, (void)why;
    cm_test_client_t *self = ctx;
    self->lost_events++;
    self->lost_count += count;
}

static void on_link(void *ctx, bool up, const cm_error_t *err)
{
    cm_test_client_t *self = ctx;
    if (up) {
        self->ups++;
    } else {
        self->downs++;
        self->link_error = *err;
    }
}

static void on_refused(void *ctx, int subscription, const cm_error_t *err)
{
    (void)subscription;
    cm_test_client_t *self = ctx;
    self->refusals++;
    self->refusal = *err;
}

static void on_depth(void *ctx, int subscription, const cm_broker_depth_t *depth)
{
    (void)subscription;
    cm_test_client_t *self = ctx;
    self->depths++;
    self->depth = *depth;
}

static void on_warning(void *ctx, const char *text)
{
    cm_test_client_t *self = ctx;
    size_t used = strlen(self->warning);
    self->warnings++;
    snprintf(self->warning + used, sizeof self->warning - used, "%s\n", text);
}

/* ---- the loop -------------------------------------------------------------------------------- */

static int end_turn(zloop_t *loop, int timer, void *arg)
{
    (void)loop, (void)timer, (void)arg;
    return -1;
}

/* Serve events for a few milliseconds. */
static void turn(cm_test_client_t *self, int ms)
{
    zloop_timer(self->loop, (size_t)ms, 1, end_turn, NULL);
    zloop_start(self->loop);
}

bool cm_test_run_all(cm_test_client_t **clients, size_t count, bool (*condition)(void *ctx),
                     void *ctx, int deadline_ms)
{
    int64_t deadline = cm_clock_mono_ms() + deadline_ms;
    while (!condition(ctx)) {
        if (cm_clock_mono_ms() > deadline)
            return false;
        for (size_t i = 0; i < count; i++)
            turn(clients[i], 2);
    }
    return true;
}

bool cm_test_run(cm_test_client_t *self, bool (*condition)(void *ctx), void *ctx)
{
    return cm_test_run_all(&self, 1, condition, ctx, CM_TEST_DEADLINE_MS);
}

static bool never(void *ctx)
{
    (void)ctx;
    return false;
}

void cm_test_run_for(cm_test_client_t **clients, size_t count, int ms)
{
    cm_test_run_all(clients, count, never, NULL, ms);
}

/* ---- a client -------------------------------------------------------------------------------- */

void cm_test_client_begin(cm_test_client_t *self, const cm_broker_driver_t *driver, const char *uri,
                          const char *consumer, int lease_ms)
{
    cm_test_client_begin_with(self, driver, uri, consumer, lease_ms, NULL);
}

void cm_test_client_begin_with(cm_test_client_t *self, const cm_broker_driver_t *driver,
                               const char *uri, const char *consumer, int lease_ms, const void *own)
{
    cm_broker_options_t options = {
        .uri = uri,
        .consumer = consumer,
        .lease_ms = lease_ms ? lease_ms : 30000,
        .poll_ms = 250,
        .driver = own,
    };
    cm_test_client_begin_as(self, driver, &options);
}

void cm_test_client_begin_as(cm_test_client_t *self, const cm_broker_driver_t *driver,
                             const cm_broker_options_t *options)
{
    signal(SIGPIPE, SIG_IGN); /* as the program does: links are cut here */
    *self = (cm_test_client_t){.loop = zloop_new(), .arena = cm_arena_new(65536)};
    cm_broker_events_t events = {
        .ctx = self,
        .on_delivery = on_delivery,
        .on_pulled = on_pulled,
        .on_published = on_published,
        .on_lapsed = on_lapsed,
        .on_lost = on_lost,
        .on_link = on_link,
        .on_refused = on_refused,
        .on_depth = on_depth,
        .on_warning = on_warning,
    };
    cm_error_t err = {0};
    if (cm_broker_open(&self->broker, driver, self->loop, options, &events, &err) != CM_OK)
        cr_fatal("cannot open %s: %s", options->uri, err.message);
}

static bool is_up(void *ctx)
{
    return ((cm_test_client_t *)ctx)->ups > 0;
}

void cm_test_client_await_up(cm_test_client_t *self)
{
    if (!cm_test_run(self, is_up, self))
        cr_fatal("the link does not come up: %s", self->link_error.message);
}

void cm_test_client_open(cm_test_client_t *self, const cm_broker_driver_t *driver, const char *uri,
                         const char *consumer, int lease_ms)
{
    cm_test_client_begin(self, driver, uri, consumer, lease_ms);
    cm_test_client_await_up(self);
}

void cm_test_client_close(cm_test_client_t *self)
{
    cm_broker_close(&self->broker);
    zloop_destroy(&self->loop);
    cm_arena_destroy(&self->arena);
    free(self->deliveries);
    free(self->published);
    free(self->lapsed);
    *self = (cm_test_client_t){0};
}

/* ---- waiting --------------------------------------------------------------------------------- */

typedef struct {
    cm_test_client_t *client;
    const size_t *counter;
    size_t count;
} counted_t;

static bool reached(void *ctx)
{
    const counted_t *goal = ctx;
    return *goal->counter >= goal->count;
}

static void await(cm_test_client_t *self, const size_t *counter, size_t count, const char *what)
{
    counted_t goal = {self, counter, count};
    if (!cm_test_run(self, reached, &goal))
        cr_fatal("waited for %zu %s, there are %zu", count, what, *counter);
}

void cm_test_await_counter(cm_test_client_t *self, const size_t *counter, size_t count)
{
    await(self, counter, count, "events");
}

void cm_test_await_deliveries(cm_test_client_t *self, size_t count)
{
    await(self, &self->delivered, count, "deliveries");
}

void cm_test_await_published(cm_test_client_t *self, size_t count)
{
    await(self, &self->published_count, count, "confirmations");
}

void cm_test_await_pulled(cm_test_client_t *self, int subscription, size_t count)
{
    await(self, &self->pulled[subscription], count, "ended pulls");
}

void cm_test_take(cm_test_client_t *self, int subscription, size_t count)
{
    size_t goal = self->delivered + count;
    int64_t deadline = cm_clock_mono_ms() + CM_TEST_DEADLINE_MS;
    while (self->delivered < goal) {
        if (cm_clock_mono_ms() > deadline)
            cr_fatal("waited for %zu deliveries, there are %zu", goal, self->delivered);
        size_t ended = self->pulled[subscription];
        cm_broker_pull(self->broker, subscription, goal - self->delivered);
        cm_test_await_pulled(self, subscription, ended + 1);
    }
}

static bool is_settled(void *ctx)
{
    return cm_broker_settled(((cm_test_client_t *)ctx)->broker);
}

void cm_test_await_settled(cm_test_client_t *self)
{
    memset(self->keep_pulling, 0, sizeof self->keep_pulling);
    if (!cm_test_run(self, is_settled, self))
        cr_fatal("the broker does not settle");
}

cm_broker_depth_t cm_test_depth(cm_test_client_t *self, int subscription)
{
    size_t before = self->depths;
    cm_broker_depth(self->broker, subscription);
    await(self, &self->depths, before + 1, "depths");
    return self->depth;
}

void cm_test_publish(cm_test_client_t *self, const char *topic, const char *body)
{
    size_t before = self->published_count;
    cm_message_t message = {.body = cm_str(body)};
    cm_broker_publish(self->broker, topic, &message, before + 1);
    cm_test_await_published(self, before + 1);
    if (self->published[before].status != CM_OK)
        cr_fatal("publishing failed: %s", self->published[before].code);
}

void cm_test_keep_pulling(cm_test_client_t *self, int subscription, size_t max)
{
    self->keep_pulling[subscription] = max;
    cm_broker_pull(self->broker, subscription, max);
}
