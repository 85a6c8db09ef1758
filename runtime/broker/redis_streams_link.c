#include "runtime/broker/redis_streams.h"
#include "runtime/clock.h"

#include <string.h>

enum {
    RETRY_BASE_MS = 250,
    RETRY_CAP_MS = 5000,
    ANSWER_BYTES = 1 << 16,
    DELIVERIES_BYTES = 8 << 20, /* address space: what no reply needs is never touched */
};

void cm_streams_link_init(cm_streams_link_t *self, cm_streams_t *driver, cm_streams_sub_t *sub)
{
    *self = (cm_streams_link_t){.driver = driver,
                                .sub = sub,
                                .replies = cm_arena_new(sub ? DELIVERIES_BYTES : ANSWER_BYTES),
                                .patience_ms = CM_STREAMS_PATIENCE_MS};
    cm_error_set(&self->why, CM_UNAVAILABLE, "link", "redis: not connected yet");
    cm_backoff_init(&self->backoff, RETRY_BASE_MS, RETRY_CAP_MS, cm_random_next(&driver->random));
}

/* ---- losing ---------------------------------------------------------------------------------- */

/* The context is gone, or will be when hiredis gets control back. */
static void lost(cm_streams_link_t *self)
{
    int64_t now = cm_clock_mono_ms();
    if (self->up_at && now - self->up_at >= CM_STREAMS_STABLE_MS)
        cm_backoff_reset(&self->backoff);
    self->context = NULL;
    self->state = CM_STREAMS_DOWN;
    self->up_at = 0;
    self->outstanding = 0;
    self->retry_at = now + cm_backoff_next_ms(&self->backoff);
    if (self->sub)
        cm_streams_pull_lost(self->sub);
    else
        cm_streams_link_changed(self->driver, false, &self->why);
}

/* REDIS_ERR_OTHER carries what the server replied: a refused AUTH, "max number of clients". */
static void note_why(cm_streams_link_t *self, const redisAsyncContext *context)
{
    if (context->c.err == REDIS_ERR_OTHER &&
        cm_redis_classify(context->c.errstr, &self->why) != CM_PERMANENT)
        return;
    cm_error_set(&self->why, CM_UNAVAILABLE, "link", "redis: %s",
                 context->c.errstr[0] ? context->c.errstr : "the connection was closed");
}

static void on_disconnect(const redisAsyncContext *context, int status)
{
    (void)status;
    cm_streams_link_t *self = context->data;
    if (!self || self->context != context)
        return;
    if (self->why.status == CM_OK)
        note_why(self, context);
    lost(self);
}

/* Without success hiredis frees the context after this, and calls no on_disconnect. */
static void on_connect(const redisAsyncContext *context, int status)
{
    cm_streams_link_t *self = context->data;
    if (!self || status == REDIS_OK)
        return;
    note_why(self, context);
    lost(self);
}

void cm_streams_link_fail(cm_streams_link_t *self, const cm_error_t *why)
{
    redisAsyncContext *context = self->context;
    if (!context || self->why.status != CM_OK) /* going already */
        return;
    self->why = *why;
    self->state = CM_STREAMS_DOWN;
    bool connected = context->c.flags & REDIS_CONNECTED; /* else on_disconnect does not come */
    redisAsyncFree(context);
    if (!connected)
        lost(self);
}

bool cm_streams_link_unfit(cm_streams_link_t *self, const cm_error_t *err)
{
    /* A replica, a server that loads or lost its master: another address, or later, may do. What is
     * short of memory, disk or replicas still reads and acknowledges. */
    static const char *const codes[] = {"READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN",
                                        "NOAUTH"};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        if (strcmp(err->code, codes[i]) == 0) {
            cm_streams_link_fail(self, err);
            return true;
        }
    }
    return false;
}

void cm_streams_link_close(cm_streams_link_t *self)
{
    if (self->context) {
        self->context->data = NULL;
        redisAsyncFree(self->context);
        self->context = NULL;
    }
    cm_arena_destroy(&self->replies);
}

/* ---- sending --------------------------------------------------------------------------------- */

static bool append(cm_streams_link_t *self, redisCallbackFn *fn, void *privdata)
{
    cm_buffer_t *command = &self->driver->command;
    /* hiredis looks at the byte behind a command of one word */
    if (redisAsyncFormattedCommand(self->context, fn, privdata, cm_buffer_text(command),
                                   command->len) != REDIS_OK)
        return false;
    if (self->outstanding++ == 0)
        self->heard_at = cm_clock_mono_ms();
    return true;
}

bool cm_streams_send(cm_streams_link_t *self, redisCallbackFn *fn, void *privdata)
{
    return self->state == CM_STREAMS_UP && append(self, fn, privdata);
}

bool cm_streams_eval(cm_streams_link_t *self, redisCallbackFn *fn, void *privdata,
                     const char *script, const cm_str_t *arguments, size_t count, int keys)
{
    cm_buffer_t *command = &self->driver->command;
    cm_streams_put_head(command, 3 + count);
    cm_streams_put(command, CM_STR("EVAL"));
    cm_streams_put(command, cm_str(script));
    cm_streams_put_i64(command, keys);
    for (size_t i = 0; i < count; i++)
        cm_streams_put(command, arguments[i]);
    return cm_streams_send(self, fn, privdata);
}

cm_streams_link_t *cm_streams_heard(redisAsyncContext *context, const redisReply *reply)
{
    cm_streams_link_t *self = context->data;
    if (self && reply && self->context == context) {
        self->outstanding--;
        self->heard_at = cm_clock_mono_ms();
    }
    return self;
}

/* ---- opening --------------------------------------------------------------------------------- */

static void on_ping(redisAsyncContext *context, void *reply_p, void *unused)
{
    (void)unused;
    const redisReply *reply = reply_p;
    cm_streams_link_t *self = cm_streams_heard(context, reply);
    cm_error_t err = {0};
    if (!self || !reply)
        return;
    if (reply->type != REDIS_REPLY_ERROR || cm_redis_classify(reply->str, &err) == CM_OK)
        cm_streams_link_up(self);
    else
        cm_streams_link_fail(self, &err);
}

static bool probe(cm_streams_link_t *self)
{
    if (self->sub)
        return cm_streams_group_create(self->sub);
    cm_streams_put_head(&self->driver->command, 1);
    cm_streams_put(&self->driver->command, CM_STR("PING"));
    return cm_streams_send(self, on_ping, NULL);
}

static void start(cm_streams_link_t *self)
{
    cm_error_t err = {0};
    if (cm_redis_attach(self->driver->loop, &self->driver->address, &self->context, &err) !=
        CM_OK) {
        self->why = err;
        lost(self);
        return;
    }
    self->context->data = self;
    cm_redis_use_arena(self->context->c.reader, self->replies);
    self->why = (cm_error_t){0};
    redisAsyncSetConnectCallback(self->context, on_connect);
    redisAsyncSetDisconnectCallback(self->context, on_disconnect);
    self->state = CM_STREAMS_UP; /* for the probe alone, sent when the connection stands */
    probe(self);
    self->state = CM_STREAMS_CONNECTING;
}

void cm_streams_link_up(cm_streams_link_t *self)
{
    if (self->state != CM_STREAMS_CONNECTING)
        return;
    self->state = CM_STREAMS_UP;
    self->up_at = cm_clock_mono_ms();
    if (!self->sub)
        cm_streams_link_changed(self->driver, true, NULL);
}

void cm_streams_link_tick(cm_streams_link_t *self, int64_t now)
{
    if (!self->context) {
        if (now >= self->retry_at)
            start(self);
        return;
    }
    if (self->outstanding && now - self->heard_at > self->patience_ms) {
        cm_error_t err;
        cm_error_set(&err, CM_UNAVAILABLE, "timeout", "redis: no answer within %d ms",
                     self->patience_ms);
        cm_streams_link_fail(self, &err);
    }
}
