/* dev: private servers, the service as a child process, demo tenants, traffic, a live view. */
#include "actors/command.h"
#include "actors/dev_servers.h"
#include "actors/dev_view.h"
#include "actors/monitor_client.h"
#include "actors/publisher.h"
#include "actors/traffic.h"
#include "proto/tenant_id.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "runtime/pg.h"
#include "runtime/process.h"
#include "runtime/supervisor.h"
#include "schema/census.h"
#include "schema/migration.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    CHECK_EVERY = 64,
    PORTS = 100,
    ACTIVATE_MS = 120000,
    QUIET_MS = 900000,
    SETTLED_MS = 3000, /* nothing changes any more */
    STOP_MS = 60000,
    DELETED_AFTER = 100000, /* messages, when there is no end */
    DELETE_MS = 120000,
    LATE_EVENTS = 20,
    LATE_LOOKED_AT = 200000
};
#define VERDICTS          0.15 /* shares of the messages */
#define CONTACT_DELETIONS 0.001

typedef struct {
    const cm_invocation_t *invocation;
    cm_dev_servers_t servers;
    const char *file; /* the configuration; NULL = none, not even that of /etc */
    cm_config_t *config;
    const cm_options_t *options;
    cm_pg_t *pg;
    cm_publisher_t *publisher;
    cm_traffic_t traffic;
    int64_t tenants, events, rate;
    bool exit_when_done;
    int stopped; /* the signal that ends us; 0 = none */
    char listen[64];
    pid_t service;
    int ledger_fd;      /* read end of the service's stdout */
    uint64_t published; /* on all topics */
    int64_t dead_before;
    int64_t active_before; /* tenants, when one was deleted; 0: none was */
    cm_dev_view_t view;
} demo_t;

static const char *admin_schema(const demo_t *self)
{
    return self->options->postgres.admin_schema;
}

/* ---- flags ---------------------------------------------------------------------------------- */

/* What dev decides itself must not be set behind its back. */
static bool check_settings(const cm_invocation_t *invocation)
{
    static const char *const ours[][2] = {
        {"postgres.uri=", "--pg"}, {"redis.uri=", "--redis"}, {"monitor.listen=", "--listen"}};
    for (size_t i = 0; i < invocation->setting_count; i++) {
        for (size_t k = 0; k < CM_LENGTH(ours); k++) {
            if (strncmp(invocation->settings[i], ours[k][0], strlen(ours[k][0])) != 0)
                continue;
            fprintf(stderr, "client-manager dev: give %s instead of --set %s...\n", ours[k][1],
                    ours[k][0]);
            return false;
        }
    }
    return true;
}

static bool parse_flags(demo_t *self)
{
    const cm_invocation_t *invocation = self->invocation;
    int64_t seed = 0;
    char *end = NULL;
    const char *poison = cm_flag_text(invocation, "poison");
    self->traffic.poison = strtod(poison, &end);
    if (*end || end == poison || !(self->traffic.poison >= 0 && self->traffic.poison <= 1)) {
        fprintf(stderr, "client-manager dev: --poison is \"%s\"; give a share from 0 to 1\n",
                poison);
        return false;
    }
    if (!cm_flag_i64(invocation, "tenants", 1, 100000, &self->tenants) ||
        !cm_flag_i64(invocation, "events", 0, INT64_MAX, &self->events) ||
        !cm_flag_i64(invocation, "rate", 0, 10000000, &self->rate) ||
        !cm_flag_i64(invocation, "seed", INT64_MIN, INT64_MAX, &seed) ||
        !check_settings(invocation))
        return false;
    self->exit_when_done = cm_flag_given(invocation, "exit-when-done");
    if (self->exit_when_done && !self->events) {
        fputs("client-manager dev: --exit-when-done needs --events N\n", stderr);
        return false;
    }
    if (self->exit_when_done && !cm_flag_given(invocation, "rate"))
        self->rate = 0;
    self->traffic.seed = (uint64_t)seed;
    self->traffic.tenants = (uint32_t)self->tenants;
    self->traffic.verdicts = VERDICTS;
    self->traffic.contact_deletions = CONTACT_DELETIONS;
    return true;
}

/* ---- the service ---------------------------------------------------------------------------- */

static bool port_is_free(const char *host, const char *port, const char **ret_why)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *address = NULL;
    int unknown = getaddrinfo(host, port, &hints, &address), one = 1;
    if (unknown) {
        *ret_why = gai_strerror(unknown);
        return false;
    }
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    bool is_free = fd >= 0 && bind(fd, address->ai_addr, address->ai_addrlen) == 0;
    *ret_why = strerror(errno);
    if (fd >= 0)
        close(fd);
    freeaddrinfo(address);
    return is_free;
}

/* The first free port from the one asked for. */
static cm_status_t choose_port(demo_t *self, cm_error_t *err)
{
    const char *asked = cm_flag_text(self->invocation, "listen"), *colon = strrchr(asked, ':');
    const char *why = "";
    char host[48], port[16];
    int64_t first = 0;
    size_t len = colon ? (size_t)(colon - asked) : 0;
    if (!len || len >= sizeof host || !cm_str_to_i64(cm_str(colon + 1), &first) || first < 1 ||
        first > 65535)
        return cm_error_set(err, CM_MISCONFIGURED, CM_CODE_USAGE,
                            "--listen is \"%s\"; give address:port, as 127.0.0.1:8089", asked);
    bool brackets = asked[0] == '[' && colon[-1] == ']';
    snprintf(host, sizeof host, "%.*s", (int)(len - 2 * brackets), asked + brackets);
    for (int64_t next = first; next < first + PORTS && next <= 65535; next++) {
        snprintf(port, sizeof port, "%d", (int)next);
        if (!port_is_free(host, port, &why))
            continue;
        snprintf(self->listen, sizeof self->listen, "%.*s:%s", (int)len, asked, port);
        return CM_OK;
    }
    return cm_error_set(err, CM_MISCONFIGURED, CM_CODE_USAGE, "--listen is \"%s\": %s", asked, why);
}

static cm_status_t load_options(demo_t *self)
{
    char postgres[CM_DEV_URI_MAX + 32], redis[CM_DEV_URI_MAX + 32];
    snprintf(postgres, sizeof postgres, "postgres.uri=%s", self->servers.postgres_uri);
    snprintf(redis, sizeof redis, "redis.uri=%s", self->servers.redis_uri);
    const char *settings[] = {postgres, redis};
    cm_config_destroy(&self->config);
    cm_status_t status =
        cm_command_load(self->invocation, self->file, settings, CM_LENGTH(settings), &self->config);
    if (status == CM_OK)
        self->options = cm_config_values(self->config);
    return status;
}

static cm_status_t start_service(demo_t *self, cm_error_t *err)
{
    char postgres[CM_DEV_URI_MAX + 32], redis[CM_DEV_URI_MAX + 32], listen[80], log[128];
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return cm_error_set(err, CM_UNAVAILABLE, NULL, "no pipe for the service");
    snprintf(postgres, sizeof postgres, "postgres.uri=%s", self->servers.postgres_uri);
    snprintf(redis, sizeof redis, "redis.uri=%s", self->servers.redis_uri);
    snprintf(listen, sizeof listen, "monitor.listen=%s", self->listen);
    snprintf(log, sizeof log, "%s/client-manager.log", self->servers.directory);
    const char *argv[16 + 2 * CM_SETTINGS_MAX] = {self->invocation->program,
                                                  "run",
                                                  "--print-ledger",
                                                  "--set",
                                                  postgres,
                                                  "--set",
                                                  redis,
                                                  "--set",
                                                  listen};
    size_t count = 9;
    if (self->file) {
        argv[count++] = "--config";
        argv[count++] = self->file;
    }
    for (size_t i = 0; i < self->invocation->setting_count; i++) {
        argv[count++] = "--set";
        argv[count++] = self->invocation->settings[i];
    }
    static const char *const no_file[] = {"CM_CONFIG=", NULL};
    cm_process_args_t args = {
        .argv = argv, .env = self->file ? NULL : no_file, .output_path = log, .stdout_fd = ends[1]};
    cm_status_t status = cm_process_start(&args, &self->service, err);
    close(ends[1]);
    self->ledger_fd = ends[0];
    return status;
}

/* Ctrl-C, a request to stop, or the terminal was closed. */
static bool signalled(demo_t *self, int wait_ms)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    struct timespec time = {wait_ms / 1000, (wait_ms % 1000) * 1000000L};
    int got = self->stopped ? 0 : sigtimedwait(&set, NULL, &time);
    if (got > 0)
        self->stopped = got;
    return self->stopped != 0;
}

static cm_status_t check_service(const demo_t *self, cm_error_t *err)
{
    if (cm_process_alive(self->service))
        return CM_OK;
    return cm_error_set(err, CM_UNAVAILABLE, NULL, "the service ended; see %s/client-manager.log",
                        self->servers.directory);
}

/* ---- tenants -------------------------------------------------------------------------------- */

static cm_status_t publish(demo_t *self, cm_subscription_id_t topic, const cm_buffer_t *body,
                           cm_error_t *err)
{
    cm_message_t message = {.body = {body->data, body->len}};
    cm_status_t status = cm_publisher_send(self->publisher, topic, &message, err);
    self->published += status == CM_OK;
    return status;
}

static cm_status_t activate_tenants(demo_t *self, cm_error_t *err)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t body = {0};
    cm_status_t status = CM_OK;
    for (uint32_t t = 0; status == CM_OK && t < self->traffic.tenants; t++) {
        cm_traffic_activation(&self->traffic, t, &body);
        status = publish(self, CM_SUBSCRIPTION_ACTIVATE_CUSTOMER, &body, err);
    }
    if (status == CM_OK)
        status = cm_publisher_flush(self->publisher, err);
    int64_t active = 0, deadline_ms = cm_clock_mono_ms() + ACTIVATE_MS;
    while (status == CM_OK && active < self->tenants && !signalled(self, 50)) {
        status = check_service(self, err);
        if (status == CM_OK)
            status = cm_census_active_tenants(self->pg, admin_schema(self), &active, err);
        cm_dev_view_tenants(&self->view, active, self->tenants);
        if (status == CM_OK && active < self->tenants && cm_clock_mono_ms() > deadline_ms)
            status = cm_error_set(err, CM_UNAVAILABLE, NULL, "tenants are not activated in time");
    }
    cm_dev_view_tenants_done(&self->view, active, self->tenants);
    return status;
}

/* ---- traffic -------------------------------------------------------------------------------- */

/* One of several tenants is deleted near the end: the last one, which sends least. */
static bool deletes_tenant(const demo_t *self)
{
    return self->tenants > 1;
}

static uint64_t deletion_at(const demo_t *self)
{
    return self->events ? (uint64_t)self->events - (uint64_t)self->events / 20 : DELETED_AFTER;
}

/* All messages there will be; 0: no end. */
static uint64_t total(const demo_t *self)
{
    uint64_t more = (uint64_t)self->tenants + (deletes_tenant(self) ? 1 + LATE_EVENTS : 0);
    return self->events ? (uint64_t)self->events + more : 0;
}

static void show(demo_t *self)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t json = {0};
    cm_ledgers_t ledgers;
    if (!cm_dev_view_due(&self->view) ||
        cm_monitor_get(self->listen, "/ledger", 1000, &json, NULL) != CM_OK ||
        cm_monitor_parse_ledgers(cm_buffer_text(&json), &ledgers, NULL) != CM_OK)
        return;
    cm_dev_view_flow(&self->view, &ledgers, self->published, total(self));
}

static cm_status_t delete_tenant(demo_t *self, cm_error_t *err)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t body = {0};
    cm_status_t status =
        cm_census_active_tenants(self->pg, admin_schema(self), &self->active_before, err);
    if (status != CM_OK)
        return status;
    cm_traffic_account_deletion(self->traffic.tenants - 1, cm_clock_epoch_ms(), &body);
    return publish(self, CM_SUBSCRIPTION_ACCOUNT_DELETION, &body, err);
}

/* Events of the deleted tenant that come late: kept nowhere, and counted as dropped. */
static cm_status_t publish_late(demo_t *self, uint64_t from, cm_error_t *err)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t body = {0};
    char deleted[CM_TENANT_ID_MAX], tenant[CM_TENANT_ID_MAX];
    int64_t active = self->active_before, deadline_ms = cm_clock_mono_ms() + DELETE_MS;
    cm_status_t status = CM_OK;
    while (status == CM_OK && active >= self->active_before && !signalled(self, 50)) {
        show(self);
        status = check_service(self, err);
        if (status == CM_OK)
            status = cm_census_active_tenants(self->pg, admin_schema(self), &active, err);
        if (status == CM_OK && cm_clock_mono_ms() > deadline_ms)
            status = cm_error_set(err, CM_UNAVAILABLE, NULL, "the tenant is not deleted in time");
    }
    unsigned sent = 0;
    snprintf(deleted, sizeof deleted, "%u", cm_traffic_tenant(self->traffic.tenants - 1));
    for (uint64_t i = from; status == CM_OK && !self->stopped && sent < LATE_EVENTS; i++) {
        if (i - from == LATE_LOOKED_AT)
            break; /* of very many tenants one sends next to nothing */
        cm_traffic_event(&self->traffic, i, &body);
        if (!cm_tenant_id_peek((cm_str_t){body.data, body.len}, tenant) ||
            strcmp(tenant, deleted) != 0)
            continue;
        status = publish(self, CM_SUBSCRIPTION_WRITER, &body, err);
        sent++;
    }
    return status;
}

static cm_status_t publish_all(demo_t *self, cm_error_t *err)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t body = {0};
    cm_status_t status = CM_OK;
    uint64_t i = 0;
    for (; status == CM_OK && (!self->events || i < (uint64_t)self->events); i++) {
        cm_subscription_id_t topic = cm_traffic_message(&self->traffic, i, &body);
        status = publish(self, topic, &body, err);
        if (status == CM_OK && deletes_tenant(self) && i == deletion_at(self))
            status = delete_tenant(self, err);
        if (i % CHECK_EVERY)
            continue;
        if (signalled(self, 0))
            break;
        show(self);
        if (status == CM_OK)
            status = check_service(self, err);
    }
    if (status == CM_OK)
        status = cm_publisher_flush(self->publisher, err);
    if (status == CM_OK && self->active_before && !self->stopped)
        status = publish_late(self, i, err);
    return status == CM_OK ? cm_publisher_flush(self->publisher, err) : status;
}

typedef enum { UNDER_WAY, ALL_ENDED, ALL_AND_MORE } progress_t;

/* Has every message come to its end, and every dead letter to the keeper? More than was published
 * comes in when a kept directory holds messages or dead letters of an earlier run. */
static progress_t progress(const demo_t *self, const cm_ledgers_t *ledgers)
{
    const cm_ledger_t sum = cm_ledgers_sum(ledgers);
    const cm_ledger_t *letters = &ledgers->flows[CM_FLOW_DEAD_LETTERS];
    if (sum.received < self->published || sum.in_flight || sum.retrying ||
        letters->received < sum.dead || letters->in_flight)
        return UNDER_WAY;
    bool exact = sum.received == self->published && letters->received == sum.dead;
    return exact ? ALL_ENDED : ALL_AND_MORE;
}

/* Has this been so for SETTLED_MS? What an earlier run left may still be coming in. */
static bool settled(uint64_t received, uint64_t *last_received, int64_t *since_ms)
{
    int64_t now_ms = cm_clock_mono_ms();
    if (received != *last_received)
        *since_ms = now_ms;
    *last_received = received;
    return now_ms - *since_ms > SETTLED_MS;
}

static cm_status_t await_quiet(demo_t *self, cm_error_t *err)
{
    int64_t deadline_ms = cm_clock_mono_ms() + QUIET_MS, since_ms = 0;
    uint64_t last_received = UINT64_MAX;
    while (!signalled(self, 50)) {
        CM_CLEANUP(cm_buffer_destroy) cm_buffer_t json = {0};
        cm_ledgers_t ledgers = {0};
        cm_status_t status = check_service(self, err);
        if (status == CM_OK)
            status = cm_monitor_get(self->listen, "/ledger", 2000, &json, err);
        if (status == CM_OK)
            status = cm_monitor_parse_ledgers(cm_buffer_text(&json), &ledgers, err);
        if (status != CM_OK)
            return status;
        uint64_t received =
            cm_ledgers_sum(&ledgers).received + ledgers.flows[CM_FLOW_DEAD_LETTERS].received;
        progress_t now = progress(self, &ledgers);
        if (now == ALL_ENDED ||
            (settled(received, &last_received, &since_ms) && now == ALL_AND_MORE))
            return CM_OK;
        show(self);
        if (cm_clock_mono_ms() > deadline_ms)
            return cm_error_set(err, CM_UNAVAILABLE, NULL, "messages are still under way");
    }
    return CM_OK;
}

/* ---- the end -------------------------------------------------------------------------------- */

/* Drain the service and take its last word. */
static cm_status_t stop_service(demo_t *self, cm_ledgers_t *ret_ledgers, cm_error_t *err)
{
    char text[8192];
    size_t used = 0;
    ssize_t got;
    kill(self->service, SIGTERM);
    while (used < sizeof text - 1 &&
           (got = read(self->ledger_fd, text + used, sizeof text - 1 - used)) > 0)
        used += (size_t)got;
    text[used] = '\0';
    int code = cm_process_stop(self->service, SIGTERM, STOP_MS);
    self->service = 0;
    if (code != 0)
        return cm_error_set(err, CM_UNAVAILABLE, NULL,
                            "the service ended with code %d; see %s/client-manager.log", code,
                            self->servers.directory);
    return cm_monitor_parse_ledgers(text, ret_ledgers, err);
}

/* Everything came to an end, and the table holds what the keeper has kept and no deletion took. */
static bool complete(const demo_t *self, const cm_ledgers_t *ledgers, int64_t kept)
{
    const cm_ledger_t *letters = &ledgers->flows[CM_FLOW_DEAD_LETTERS];
    return progress(self, ledgers) != UNDER_WAY && kept <= (int64_t)letters->applied;
}

static void print_balance(const cm_ledger_t *ledger)
{
    printf("\"received\": %llu, \"applied\": %llu, \"stale\": %llu, \"duplicate\": %llu, "
           "\"dropped\": %llu, \"retrying\": %llu, \"dead\": %llu, \"in_flight\": %llu",
           (unsigned long long)ledger->received, (unsigned long long)ledger->applied,
           (unsigned long long)ledger->stale, (unsigned long long)ledger->duplicate,
           (unsigned long long)ledger->dropped, (unsigned long long)ledger->retrying,
           (unsigned long long)ledger->dead, (unsigned long long)ledger->in_flight);
}

static void print_ledgers(const demo_t *self, const cm_ledgers_t *ledgers, int64_t kept,
                          int64_t devices, bool balanced)
{
    cm_ledger_t sum = cm_ledgers_sum(ledgers);
    printf("{\"published\": %llu, ", (unsigned long long)self->published);
    print_balance(&sum);
    printf(", \"flows\": {");
    for (int flow = 0; flow < CM_FLOW_COUNT; flow++) {
        printf("%s\"%s\": {", flow ? ", " : "", cm_flow_name((cm_flow_t)flow));
        print_balance(&ledgers->flows[flow]);
        printf("}");
    }
    printf("}, \"dead_letters\": %lld, \"tenants\": %lld, \"devices\": %lld, \"balanced\": %s}\n",
           (long long)kept, (long long)self->tenants, (long long)devices,
           balanced ? "true" : "false");
}

static int finish(demo_t *self)
{
    cm_error_t err = {0};
    cm_ledgers_t ledgers = {0};
    int64_t kept = 0, devices = 0;
    cm_status_t status = stop_service(self, &ledgers, &err);
    if (status == CM_OK)
        status = cm_census_dead_letters(self->pg, admin_schema(self), &kept, &err);
    if (status == CM_OK)
        status = cm_census_devices(self->pg, admin_schema(self), &devices, &err);
    if (status != CM_OK) {
        self->servers.keep = true;
        return cm_command_fail(self->invocation, &err);
    }
    kept -= self->dead_before;
    bool balanced =
        cm_ledgers_balanced(&ledgers) && (self->stopped || complete(self, &ledgers, kept));
    cm_dev_view_end(&self->view, &ledgers, balanced);
    if (self->exit_when_done || self->invocation->json || !isatty(STDOUT_FILENO))
        print_ledgers(self, &ledgers, kept, devices, balanced);
    if (!balanced)
        return CM_EXIT_FAILED;
    return self->exit_when_done && self->stopped ? 128 + self->stopped : CM_EXIT_OK;
}

static cm_status_t start_all(demo_t *self, cm_error_t *err)
{
    const cm_invocation_t *invocation = self->invocation;
    cm_status_t status = cm_dev_servers_start(&self->servers, cm_flag_text(invocation, "keep"),
                                              cm_flag_text(invocation, "pg"),
                                              cm_flag_text(invocation, "redis"), err);
    if (status == CM_OK && load_options(self) != CM_OK)
        status = cm_error_set(err, CM_MISCONFIGURED, NULL, "--pg or --redis cannot be used");
    if (status != CM_OK)
        return status;
    cm_dev_view_start(&self->view, invocation->terminal, invocation->color, &self->servers,
                      self->listen);
    cm_pg_options_t pg = cm_options_pg(self->options, "client-manager dev");
    self->pg = cm_pg_new(&pg);
    status = cm_pg_connect(self->pg, NULL, err);
    if (status == CM_OK)
        status = cm_admin_prepare(self->pg, admin_schema(self), err);
    if (status == CM_OK)
        status = cm_census_dead_letters(self->pg, admin_schema(self), &self->dead_before, err);
    if (status == CM_OK)
        status = start_service(self, err);
    if (status == CM_OK)
        status = cm_publisher_open(&self->publisher, self->options, self->rate, err);
    return status;
}

static cm_status_t run_demo(demo_t *self, cm_error_t *err)
{
    cm_status_t status = start_all(self, err);
    if (status == CM_OK)
        status = activate_tenants(self, err);
    if (status == CM_OK && !self->stopped)
        status = publish_all(self, err);
    if (status == CM_OK && !self->stopped)
        status = await_quiet(self, err);
    while (status == CM_OK && !self->exit_when_done && !signalled(self, 200)) {
        show(self);
        status = check_service(self, err);
    }
    return status;
}

int cm_command_dev(const cm_invocation_t *invocation)
{
    demo_t self = {.invocation = invocation, .ledger_fd = -1, .servers.lock_fd = -1};
    cm_error_t err = {0};
    if (!parse_flags(&self))
        return CM_EXIT_USAGE;
    if (choose_port(&self, &err) != CM_OK)
        return cm_command_fail(invocation, &err);
    self.file = cm_command_file(invocation, NULL);
    if (cm_command_load(invocation, self.file, NULL, 0, &self.config) != CM_OK)
        return CM_EXIT_CONFIG;
    self.traffic.base_ms = cm_clock_epoch_ms();
    cm_supervisor_block_signals();
    cm_status_t status = run_demo(&self, &err);
    cm_publisher_close(&self.publisher);
    int code = CM_EXIT_OK;
    if (status != CM_OK) {
        self.servers.keep |= self.service != 0; /* its log tells why */
        cm_dev_view_break(&self.view);
        code = cm_command_fail(invocation, &err);
        if (self.servers.keep && self.servers.directory[0])
            fprintf(stderr, "data and logs stay in %s\n", self.servers.directory);
    } else if (self.service) {
        cm_dev_view_stop(&self.view);
        code = finish(&self);
    }
    if (self.service)
        cm_process_stop(self.service, SIGTERM, STOP_MS);
    cm_pg_destroy(&self.pg);
    cm_config_destroy(&self.config);
    cm_dev_servers_stop(&self.servers);
    return code;
}
