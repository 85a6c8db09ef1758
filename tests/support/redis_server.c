#include "tests/support/redis_server.h"

#include "runtime/clock.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { START_MS = 10000 };

static redisContext *connect_to(const cm_test_redis_t *self, cm_error_t *err)
{
    cm_redis_address_t address;
    redisContext *context = NULL;
    if (cm_redis_parse(self->uri, &address, err) == CM_OK)
        cm_redis_connect(&address, 5000, &context, err);
    return context;
}

static bool answers(const cm_test_redis_t *self)
{
    cm_error_t err = {0};
    redisContext *context = connect_to(self, &err);
    redisReply *reply = context ? redisCommand(context, "PING") : NULL;
    bool ready = reply && reply->type == REDIS_REPLY_STATUS; /* an error while it loads */
    cm_redis_free_reply(&reply);
    cm_redis_free(&context);
    return ready;
}

static void become_server(const cm_test_redis_t *self)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int null = open("/dev/null", O_WRONLY);
    dup2(null, STDOUT_FILENO);
    dup2(null, STDERR_FILENO);
    execlp("redis-server", "redis-server", "--port", "0", "--unixsocket", self->uri + 7, "--dir",
           self->dir, "--save", "", "--appendonly", self->durable ? "yes" : "no", "--daemonize",
           "no", (char *)NULL);
    _exit(127);
}

void cm_test_redis_start(cm_test_redis_t *self)
{
    if (!self->dir[0]) {
        snprintf(self->dir, sizeof self->dir, "/tmp/cm-redis-XXXXXX");
        if (!mkdtemp(self->dir))
            cr_fatal("cannot make %s", self->dir);
        snprintf(self->uri, sizeof self->uri, "unix://%s/s", self->dir);
    }
    self->pid = fork();
    if (self->pid == 0)
        become_server(self);
    int64_t deadline = cm_clock_mono_ms() + START_MS;
    while (!answers(self)) {
        if (cm_clock_mono_ms() > deadline)
            cr_fatal("redis-server does not start in %s", self->dir);
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
}

void cm_test_redis_kill(cm_test_redis_t *self)
{
    if (self->pid <= 0)
        return;
    kill(self->pid, SIGKILL);
    waitpid(self->pid, NULL, 0);
    self->pid = 0;
}

void cm_test_redis_stop(cm_test_redis_t *self)
{
    char command[128];
    cm_test_redis_kill(self);
    snprintf(command, sizeof command, "rm -rf '%s'", self->dir);
    if (self->dir[0] && system(command) != 0)
        cr_log_warn("cannot remove %s", self->dir);
    self->dir[0] = '\0';
}

static redisReply *run(const cm_test_redis_t *self, const char *format, va_list args)
{
    cm_error_t err = {0};
    redisContext *context = connect_to(self, &err);
    redisReply *reply = context ? redisvCommand(context, format, args) : NULL;
    cm_redis_free(&context);
    if (!reply)
        cr_fatal("%s: no answer: %s", format, err.message);
    if (reply->type == REDIS_REPLY_ERROR)
        cr_fatal("%s: %s", format, reply->str);
    return reply;
}

redisReply *cm_test_redis_do(const cm_test_redis_t *self, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    redisReply *reply = run(self, format, args);
    va_end(args);
    return reply;
}

long long cm_test_redis_run(const cm_test_redis_t *self, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    redisReply *reply = run(self, format, args);
    va_end(args);
    long long value = reply->type == REDIS_REPLY_INTEGER ? reply->integer : 0;
    cm_redis_free_reply(&reply);
    return value;
}
