/* redis_server - a private Redis for a test that disturbs it: kill, restart, fill, cut.
 *
 * Listens on a unix socket in a temporary directory and dies with the test's process. A failing
 * step fails the test.
 */
#ifndef CM_TESTS_SUPPORT_REDIS_SERVER_H
#define CM_TESTS_SUPPORT_REDIS_SERVER_H
#include "runtime/redis.h"

#include <stdbool.h>
#include <sys/types.h>

typedef struct {
    pid_t pid; /* 0 = not running */
    char dir[64];
    char uri[128];
    bool durable; /* appendonly everysec; kept over restarts */
} cm_test_redis_t;

void cm_test_redis_start(cm_test_redis_t *self); /* {.durable = ...} set by the caller */
void cm_test_redis_kill(cm_test_redis_t *self);  /* SIGKILL; start again with the data it left */
void cm_test_redis_stop(cm_test_redis_t *self);  /* kill, remove its directory */
/* Run a command as an administrator; the reply is yours. An error reply fails the test. */
redisReply *cm_test_redis_do(const cm_test_redis_t *self, const char *format, ...);
/* The same for commands whose reply is an integer, or does not matter (then 0). */
long long cm_test_redis_run(const cm_test_redis_t *self, const char *format, ...);
#endif
