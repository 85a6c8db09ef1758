/* setup - what the benchmark programs are told on their command line, the same words for all.
 *
 * A benchmark has nobody to hand an error to: what fails ends the program with one line on stderr.
 */
#ifndef CM_BENCH_SETUP_H
#define CM_BENCH_SETUP_H
#include "actors/traffic.h"
#include "runtime/pg.h"
#include "runtime/status.h"

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define CM_BENCH_PREFIX "client-manager"
#define CM_BENCH_SCHEMA "client_manager"

typedef enum { CM_BENCH_DEVICES, CM_BENCH_VERDICTS, CM_BENCH_DELETIONS } cm_bench_subject_t;

typedef struct {
    cm_bench_subject_t subject;   /* what the messages are */
    const char *postgres, *redis; /* addresses */
    const char *label;            /* JSON members that go into the result as they are */
    cm_traffic_t traffic;
    uint64_t first, events; /* messages first .. first + events - 1 of the traffic */
    unsigned connections;   /* threads, each with one connection */
    size_t count;           /* messages read at once, changes written at once */
    int64_t seconds;
    bool checkpoint;    /* one in the middle of the run */
    unsigned streams;   /* 0: the one of the service; else so many, by shard of the tenant */
    const char *listen; /* of the service's monitor */
    pid_t postmaster, redis_pid;
    char **command; /* what follows the options; NULL-terminated */
} cm_bench_t;

/* Ends the program on a word it does not know. */
void cm_bench_parse(cm_bench_t *self, int argc, char **argv);
void cm_bench_fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
/* Fails with err unless status is CM_OK. */
void cm_bench_must(cm_status_t status, const cm_error_t *err, const char *what);

/* A connection with the service's settings; application_name is borrowed. */
cm_pg_t *cm_bench_connect_pg(const cm_bench_t *self, const char *application_name);
redisContext *cm_bench_connect_redis(const cm_bench_t *self);
/* The next reply, which must not be an error; yours. */
redisReply *cm_bench_reply(redisContext *redis);
enum { CM_BENCH_STREAM_MAX = 64 };
/* The subject's topic, as the service names it: stream and group. */
const char *cm_bench_group_name(const cm_bench_t *self);
/* Body of message i of the subject. */
void cm_bench_message(const cm_bench_t *self, uint64_t i, cm_buffer_t *body);
/* Key of stream number `shard` of bench->streams; returns key. */
const char *cm_bench_stream(const cm_bench_t *self, unsigned shard, char key[CM_BENCH_STREAM_MAX]);
/* How many entries the group has been given so far, over all streams, and how many of these are not
 * acknowledged. */
void cm_bench_group(const cm_bench_t *self, redisContext *redis, uint64_t *ret_read,
                    uint64_t *ret_pending);
#endif
