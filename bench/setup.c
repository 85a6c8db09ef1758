#include "bench/setup.h"
#include "actors/options.h"
#include "runtime/cleanup.h"
#include "runtime/redis.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TIMEOUT_MS = 120000, LOCK_TIMEOUT_MS = 30000, PREPARED_MAX = 5000 };

typedef enum {
    OPTION_PG = 1,
    OPTION_SUBJECT,
    OPTION_REDIS,
    OPTION_LABEL,
    OPTION_TENANTS,
    OPTION_SKEWED,
    OPTION_DEVICES,
    OPTION_FRESH,
    OPTION_BASE_MS,
    OPTION_RATE,
    OPTION_FIRST,
    OPTION_EVENTS,
    OPTION_CONNECTIONS,
    OPTION_COUNT,
    OPTION_SECONDS,
    OPTION_CHECKPOINT,
    OPTION_STREAMS,
    OPTION_LISTEN,
    OPTION_POSTMASTER,
    OPTION_REDIS_PID
} option_t;

static const struct option words[] = {
    {"pg", required_argument, NULL, OPTION_PG},
    {"subject", required_argument, NULL, OPTION_SUBJECT},
    {"redis", required_argument, NULL, OPTION_REDIS},
    {"label", required_argument, NULL, OPTION_LABEL},
    {"tenants", required_argument, NULL, OPTION_TENANTS},
    {"skewed", no_argument, NULL, OPTION_SKEWED},
    {"devices", required_argument, NULL, OPTION_DEVICES},
    {"fresh", required_argument, NULL, OPTION_FRESH},
    {"base-ms", required_argument, NULL, OPTION_BASE_MS},
    {"rate", required_argument, NULL, OPTION_RATE},
    {"first", required_argument, NULL, OPTION_FIRST},
    {"events", required_argument, NULL, OPTION_EVENTS},
    {"connections", required_argument, NULL, OPTION_CONNECTIONS},
    {"count", required_argument, NULL, OPTION_COUNT},
    {"seconds", required_argument, NULL, OPTION_SECONDS},
    {"checkpoint", no_argument, NULL, OPTION_CHECKPOINT},
    {"streams", required_argument, NULL, OPTION_STREAMS},
    {"listen", required_argument, NULL, OPTION_LISTEN},
    {"postmaster", required_argument, NULL, OPTION_POSTMASTER},
    {"redis-pid", required_argument, NULL, OPTION_REDIS_PID},
    {NULL, 0, NULL, 0},
};

void cm_bench_fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "%s: ", program_invocation_short_name);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

void cm_bench_must(cm_status_t status, const cm_error_t *err, const char *what)
{
    if (status != CM_OK)
        cm_bench_fail("%s: %s (%s, %s)", what, err->message, cm_status_name(status), err->code);
}

static uint64_t number(const char *text)
{
    char *end = NULL;
    uint64_t value = strtoull(text, &end, 10);
    if (end == text || *end)
        cm_bench_fail("\"%s\" is no number", text);
    return value;
}

static const char *const subjects[] = {"devices", "verdicts", "deletions"};

static cm_bench_subject_t subject(const char *text)
{
    for (size_t i = 0; i < CM_LENGTH(subjects); i++)
        if (strcmp(subjects[i], text) == 0)
            return (cm_bench_subject_t)i;
    cm_bench_fail("there is no subject \"%s\"", text);
}

static void take(cm_bench_t *self, option_t option, const char *text)
{
    switch (option) {
    case OPTION_PG:
        self->postgres = text;
        break;
    case OPTION_SUBJECT:
        self->subject = subject(text);
        break;
    case OPTION_REDIS:
        self->redis = text;
        break;
    case OPTION_LABEL:
        self->label = text;
        break;
    case OPTION_TENANTS:
        self->traffic.tenants = (uint32_t)number(text);
        break;
    case OPTION_SKEWED:
        self->traffic.uniform = false;
        break;
    case OPTION_DEVICES:
        self->traffic.known = number(text);
        break;
    case OPTION_FRESH:
        self->traffic.fresh = strtod(text, NULL);
        break;
    case OPTION_BASE_MS:
        self->traffic.base_ms = (int64_t)number(text);
        break;
    case OPTION_RATE:
        self->traffic.rate = (uint32_t)number(text);
        break;
    case OPTION_FIRST:
        self->first = number(text);
        break;
    case OPTION_EVENTS:
        self->events = number(text);
        break;
    case OPTION_CONNECTIONS:
        self->connections = (unsigned)number(text);
        break;
    case OPTION_COUNT:
        self->count = number(text);
        break;
    case OPTION_SECONDS:
        self->seconds = (int64_t)number(text);
        break;
    case OPTION_CHECKPOINT:
        self->checkpoint = true;
        break;
    case OPTION_STREAMS:
        self->streams = (unsigned)number(text);
        break;
    case OPTION_LISTEN:
        self->listen = text;
        break;
    case OPTION_POSTMASTER:
        self->postmaster = (pid_t)number(text);
        break;
    case OPTION_REDIS_PID:
        self->redis_pid = (pid_t)number(text);
        break;
    }
}

void cm_bench_parse(cm_bench_t *self, int argc, char **argv)
{
    *self = (cm_bench_t){
        .label = "\"variant\": \"\"",
        .traffic = {.seed = 1, .tenants = 1, .uniform = true, .plain = true, .fresh = 0.1},
        .connections = 2,
        .count = 5000,
    };
    int option;
    while ((option = getopt_long(argc, argv, "+", words, NULL)) != -1) {
        if (option == '?')
            exit(2);
        take(self, (option_t)option, optarg);
    }
    self->command = argv + optind;
    if (!self->traffic.tenants || !self->connections || !self->count)
        cm_bench_fail("tenants, connections and count start at 1");
}

cm_pg_t *cm_bench_connect_pg(const cm_bench_t *self, const char *application_name)
{
    cm_pg_options_t options = {.uri = self->postgres,
                               .application_name = application_name,
                               .connect_timeout_ms = TIMEOUT_MS,
                               .statement_timeout_ms = TIMEOUT_MS,
                               .lock_timeout_ms = LOCK_TIMEOUT_MS,
                               .prepared_max = PREPARED_MAX};
    cm_error_t err = {0};
    cm_pg_t *pg = cm_pg_new(&options);
    cm_bench_must(cm_pg_connect(pg, NULL, &err), &err, "postgres");
    return pg;
}

redisContext *cm_bench_connect_redis(const cm_bench_t *self)
{
    cm_redis_address_t address;
    cm_error_t err = {0};
    redisContext *redis = NULL;
    cm_bench_must(cm_redis_parse(self->redis, &address, &err), &err, "redis address");
    cm_bench_must(cm_redis_connect(&address, TIMEOUT_MS, &redis, &err), &err, "redis");
    return redis;
}

redisReply *cm_bench_reply(redisContext *redis)
{
    void *reply = NULL;
    if (redisGetReply(redis, &reply) != REDIS_OK)
        cm_bench_fail("redis: %s", redis->errstr);
    redisReply *typed = reply;
    if (typed->type == REDIS_REPLY_ERROR)
        cm_bench_fail("redis: %s", typed->str);
    return typed;
}

const char *cm_bench_group_name(const cm_bench_t *self)
{
    static const char *const names[] = {CM_BENCH_PREFIX ".writer",
                                        CM_BENCH_PREFIX ".push-token-status",
                                        CM_BENCH_PREFIX ".contact-deletion"};
    return names[self->subject];
}

void cm_bench_message(const cm_bench_t *self, uint64_t i, cm_buffer_t *body)
{
    switch (self->subject) {
    case CM_BENCH_DEVICES:
        cm_traffic_event(&self->traffic, i, body);
        break;
    case CM_BENCH_VERDICTS:
        cm_traffic_verdict(&self->traffic, i, body);
        break;
    case CM_BENCH_DELETIONS:
        cm_traffic_contact_deletion(&self->traffic, i, body);
        break;
    }
}

const char *cm_bench_stream(const cm_bench_t *self, unsigned shard, char key[CM_BENCH_STREAM_MAX])
{
    if (self->streams)
        snprintf(key, CM_BENCH_STREAM_MAX, "%s:%u", cm_bench_group_name(self), shard);
    else
        snprintf(key, CM_BENCH_STREAM_MAX, "%s", cm_bench_group_name(self));
    return key;
}

void cm_bench_group(const cm_bench_t *self, redisContext *redis, uint64_t *ret_read,
                    uint64_t *ret_pending)
{
    *ret_read = *ret_pending = 0;
    for (unsigned shard = 0; shard == 0 || shard < self->streams; shard++) {
        char key[CM_BENCH_STREAM_MAX];
        redisAppendCommand(redis, "XINFO GROUPS %s", cm_bench_stream(self, shard, key));
        redisReply *reply = cm_bench_reply(redis);
        const redisReply *group = reply->elements ? reply->element[0] : NULL;
        for (size_t i = 0; group && i + 1 < group->elements; i += 2) {
            uint64_t value = (uint64_t)group->element[i + 1]->integer;
            if (strcmp(group->element[i]->str, "entries-read") == 0)
                *ret_read += value;
            else if (strcmp(group->element[i]->str, "pending") == 0)
                *ret_pending += value;
        }
        freeReplyObject(reply);
    }
}
