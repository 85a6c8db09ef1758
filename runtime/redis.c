#include "runtime/redis.h"

#include "runtime/cleanup.h"
#include "runtime/str.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/un.h>

enum { DEFAULT_PORT = 6379, READER_KEEPS_BYTES = 1 << 20 };

/* ---- addresses ------------------------------------------------------------------------------- */

static cm_status_t malformed(cm_error_t *err, const char *what)
{
    return cm_error_set(err, CM_MISCONFIGURED, "redis-uri",
                        "redis address: %s; use redis://[[user]:password@]host[:port][/db] or "
                        "unix:///path/to/socket[?db=n]",
                        what);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)tolower((unsigned char)c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Percent-decode `from` into text[size]; false when it does not fit or is no valid encoding. */
static bool decode(char *text, size_t size, cm_str_t from)
{
    size_t used = 0;
    for (size_t i = 0; i < from.len; i++) {
        char c = from.ptr[i];
        if (c == '%') {
            int high = i + 2 < from.len ? hex_digit(from.ptr[i + 1]) : -1;
            int low = high >= 0 ? hex_digit(from.ptr[i + 2]) : -1;
            if (low < 0 || high + low == 0)
                return false;
            c = (char)(high * 16 + low);
            i += 2;
        }
        if (used + 1 >= size)
            return false;
        text[used++] = c;
    }
    text[used] = '\0';
    return true;
}

static bool number(cm_str_t text, int64_t low, int64_t high, int *ret_value)
{
    int64_t value;
    if (!cm_str_to_i64(text, &value) || value < low || value > high)
        return false;
    *ret_value = (int)value;
    return true;
}

static cm_status_t parse_unix(cm_str_t rest, cm_redis_address_t *address, cm_error_t *err)
{
    const char *query = memchr(rest.ptr, '?', rest.len);
    cm_str_t path = {rest.ptr, query ? (size_t)(query - rest.ptr) : rest.len};
    if (path.len == 0 || path.ptr[0] != '/')
        return malformed(err, "the socket path must begin with /");
    if (path.len >= sizeof((struct sockaddr_un *)0)->sun_path)
        return malformed(err, "the socket path is longer than 107 bytes");
    memcpy(address->host, path.ptr, path.len);
    if (!query)
        return CM_OK;
    cm_str_t parameter = {query + 1, rest.len - path.len - 1};
    if (parameter.len < 3 || memcmp(parameter.ptr, "db=", 3) != 0)
        return malformed(err, "the only parameter known is db");
    cm_str_t database = {parameter.ptr + 3, parameter.len - 3};
    if (!number(database, 0, INT32_MAX, &address->database))
        return malformed(err, "db is no number");
    return CM_OK;
}

static cm_status_t parse_user(cm_str_t user_info, cm_redis_address_t *address, cm_error_t *err)
{
    const char *colon = memchr(user_info.ptr, ':', user_info.len);
    if (!colon)
        return malformed(err, "a ':' is missing before the password");
    cm_str_t user = {user_info.ptr, (size_t)(colon - user_info.ptr)};
    cm_str_t password = {colon + 1, user_info.len - user.len - 1};
    if (!decode(address->user, sizeof address->user, user) ||
        !decode(address->password, sizeof address->password, password))
        return malformed(err, "user or password is too long or badly encoded");
    return CM_OK;
}

static cm_status_t parse_tcp(cm_str_t rest, cm_redis_address_t *address, cm_error_t *err)
{
    const char *at = memrchr(rest.ptr, '@', rest.len);
    if (at) {
        cm_str_t user_info = {rest.ptr, (size_t)(at - rest.ptr)};
        if (parse_user(user_info, address, err) != CM_OK)
            return CM_MISCONFIGURED;
        rest = (cm_str_t){at + 1, rest.len - user_info.len - 1};
    }
    const char *slash = memchr(rest.ptr, '/', rest.len);
    if (slash) {
        cm_str_t database = {slash + 1, rest.len - (size_t)(slash - rest.ptr) - 1};
        if (database.len && !number(database, 0, INT32_MAX, &address->database))
            return malformed(err, "the database is no number");
        rest.len = (size_t)(slash - rest.ptr);
    }
    const char *bracket = rest.len && rest.ptr[0] == '[' ? memchr(rest.ptr, ']', rest.len) : NULL;
    size_t skip = bracket ? (size_t)(bracket - rest.ptr) : 0;
    const char *colon = memchr(rest.ptr + skip, ':', rest.len - skip);
    address->port = DEFAULT_PORT;
    if (colon) {
        cm_str_t port = {colon + 1, rest.len - (size_t)(colon - rest.ptr) - 1};
        if (!number(port, 1, 65535, &address->port))
            return malformed(err, "the port must be a number from 1 to 65535");
        rest.len = (size_t)(colon - rest.ptr);
    }
    if (bracket) /* an IPv6 address: hiredis wants it bare */
        rest = (cm_str_t){rest.ptr + 1, rest.len - 2};
    if (rest.len == 0 || rest.len >= sizeof address->host)
        return malformed(err, rest.len ? "the host name is too long" : "the host is missing");
    memcpy(address->host, rest.ptr, rest.len);
    return CM_OK;
}

cm_status_t cm_redis_parse(const char *uri, cm_redis_address_t *ret_address, cm_error_t *err)
{
    cm_redis_address_t address = {0};
    cm_status_t status;
    if (!uri || !*uri)
        return malformed(err, "it is empty");
    if (strncmp(uri, "redis://", 8) == 0)
        status = parse_tcp(cm_str(uri + 8), &address, err);
    else if (strncmp(uri, "unix://", 7) == 0)
        status = parse_unix(cm_str(uri + 7), &address, err);
    else if (strncmp(uri, "rediss://", 9) == 0)
        status = cm_error_set(err, CM_MISCONFIGURED, "redis-uri",
                              "redis address: TLS is not supported; run a local tunnel such as "
                              "stunnel and use redis:// to it");
    else
        status = malformed(err, "the scheme is unknown");
    if (status == CM_OK)
        *ret_address = address;
    return status;
}

/* ---- replies --------------------------------------------------------------------------------- */

typedef struct {
    const char *prefix;
    cm_status_t status;
} reply_class_t;

/* Reliability, section 3.3; the first match wins. */
static const reply_class_t classes[] = {
    {"LOADING", CM_UNAVAILABLE},
    {"MASTERDOWN", CM_UNAVAILABLE},
    {"CLUSTERDOWN", CM_UNAVAILABLE},
    {"TRYAGAIN", CM_UNAVAILABLE},
    {"BUSYGROUP", CM_OK},
    {"BUSYKEY", CM_PERMANENT},
    {"BUSY", CM_UNAVAILABLE},
    {"NOREPLICAS", CM_UNAVAILABLE},
    {"MISCONF", CM_UNAVAILABLE},
    {"UNBLOCKED", CM_UNAVAILABLE},
    {"READONLY", CM_UNAVAILABLE},
    {"OOM", CM_UNAVAILABLE},
    {"ERR max number of clients", CM_UNAVAILABLE},
    {"NOGROUP", CM_MISSING},
    {"NOSCRIPT", CM_TRANSIENT},
    {"NOAUTH", CM_MISCONFIGURED},
    {"WRONGPASS", CM_MISCONFIGURED},
    {"NOPERM", CM_MISCONFIGURED},
    {"WRONGTYPE", CM_MISCONFIGURED},
    {"CROSSSLOT", CM_MISCONFIGURED},
    {"EXECABORT", CM_MISCONFIGURED},
    {"MOVED", CM_MISCONFIGURED},
    {"ASK", CM_MISCONFIGURED},
    {"DENIED", CM_MISCONFIGURED},
    {"NOPROTO", CM_MISCONFIGURED},
    {"ERR invalid password", CM_MISCONFIGURED},
    {"ERR AUTH", CM_MISCONFIGURED},
    {"ERR Client sent AUTH", CM_MISCONFIGURED},
    {"ERR DB index", CM_MISCONFIGURED},
    {"ERR invalid DB index", CM_MISCONFIGURED},
    {"ERR unknown command", CM_MISCONFIGURED},
};

/* An error of a command inside a script begins with its word since Redis 7; before, it came as
 * "ERR Error running script (call to f_...): @user_script:1: OOM ...". */
static const char *script_cause(const char *text)
{
    const char *mark =
        strncmp(text, "ERR Error running script", 24) == 0 ? strstr(text, "-") : NULL;
    return mark ? mark + 1 : text;
}

cm_status_t cm_redis_classify(const char *reply_error, cm_error_t *err)
{
    if (!reply_error)
        return cm_error_set(err, CM_UNAVAILABLE, "link", "redis: the link was lost");
    const char *text = script_cause(reply_error);
    char code[CM_ERROR_CODE_MAX];
    size_t len = strcspn(text, " \r\n");
    snprintf(code, sizeof code, "%.*s", (int)(len < sizeof code ? len : sizeof code - 1), text);
    int line = (int)strcspn(text, "\r\n");
    for (size_t i = 0; i < CM_LENGTH(classes); i++)
        if (strncmp(text, classes[i].prefix, strlen(classes[i].prefix)) == 0)
            return cm_error_set(err, classes[i].status, code, "redis: %.*s", line, text);
    return cm_error_set(err, CM_PERMANENT, code, "redis: %.*s", line, text);
}

/* ---- blocking -------------------------------------------------------------------------------- */

void cm_redis_free(redisContext **context_p)
{
    if (*context_p)
        redisFree(*context_p);
    *context_p = NULL;
}

void cm_redis_free_reply(redisReply **reply_p)
{
    if (*reply_p)
        freeReplyObject(*reply_p);
    *reply_p = NULL;
}

/* AUTH and SELECT as far as the address asks for them. argv borrows from address and database. */
typedef struct {
    int argc;
    const char *argv[3];
} setup_command_t;

static size_t setup_commands(const cm_redis_address_t *address, char database[16],
                             setup_command_t commands[2])
{
    size_t count = 0;
    if (address->password[0] && address->user[0])
        commands[count++] = (setup_command_t){3, {"AUTH", address->user, address->password}};
    else if (address->password[0])
        commands[count++] = (setup_command_t){2, {"AUTH", address->password}};
    snprintf(database, 16, "%d", address->database);
    if (address->database)
        commands[count++] = (setup_command_t){2, {"SELECT", database}};
    return count;
}

cm_status_t cm_redis_connect(const cm_redis_address_t *address, int timeout_ms,
                             redisContext **ret_context, cm_error_t *err)
{
    struct timeval timeout = {timeout_ms / 1000, timeout_ms % 1000 * 1000};
    CM_CLEANUP(cm_redis_free)
    redisContext *context = address->port
                                ? redisConnectWithTimeout(address->host, address->port, timeout)
                                : redisConnectUnixWithTimeout(address->host, timeout);
    if (!context)
        abort();
    if (context->err)
        return cm_error_set(err, CM_UNAVAILABLE, "link", "redis: %s", context->errstr);
    redisSetTimeout(context, timeout);

    char database[16];
    setup_command_t commands[2];
    size_t count = setup_commands(address, database, commands);
    for (size_t i = 0; i < count; i++) {
        CM_CLEANUP(cm_redis_free_reply)
        redisReply *reply = redisCommandArgv(context, commands[i].argc, commands[i].argv, NULL);
        if (!reply)
            return cm_error_set(err, CM_UNAVAILABLE, "link", "redis: %s", context->errstr);
        if (reply->type == REDIS_REPLY_ERROR)
            return cm_redis_classify(reply->str, err);
    }
    *ret_context = CM_TAKE(context);
    return CM_OK;
}

/* ---- in a loop ------------------------------------------------------------------------------- */

typedef struct {
    zloop_t *loop;
    redisAsyncContext *context; /* NULL once hiredis has freed it */
    int fd;
    short wanted, polled; /* ZMQ_POLLIN, ZMQ_POLLOUT */
    bool busy;            /* inside on_ready: interest is settled at its end */
} attachment_t;

static int on_ready(zloop_t *loop, zmq_pollitem_t *item, void *arg);

static void settle_interest(attachment_t *self)
{
    if (self->wanted == self->polled)
        return;
    zmq_pollitem_t item = {.fd = self->fd, .events = self->wanted};
    if (self->polled)
        zloop_poller_end(self->loop, &item);
    if (self->wanted) {
        zloop_poller(self->loop, &item, on_ready, self);
        zloop_poller_set_tolerant(self->loop, &item); /* or an error would end it silently */
    }
    self->polled = self->wanted;
}

static void change_interest(attachment_t *self, short add, short remove)
{
    self->wanted = (short)((self->wanted | add) & ~remove);
    if (!self->busy)
        settle_interest(self);
}

static void add_read(void *arg)
{
    change_interest(arg, ZMQ_POLLIN, 0);
}

static void del_read(void *arg)
{
    change_interest(arg, 0, ZMQ_POLLIN);
}

static void add_write(void *arg)
{
    change_interest(arg, ZMQ_POLLOUT, 0);
}

static void del_write(void *arg)
{
    change_interest(arg, 0, ZMQ_POLLOUT);
}

/* hiredis calls this just before it closes the descriptor and frees the context. */
static void detach(void *arg)
{
    attachment_t *self = arg;
    self->wanted = 0;
    settle_interest(self);
    self->context->ev.data = NULL;
    self->context = NULL;
    if (!self->busy)
        free(self);
}

/* hiredis reads 16 KiB at a time; a batch is read here in one turn of the loop, up to 1 MiB. */
static void read_what_is_there(attachment_t *self)
{
    for (int turn = 0; turn < 64 && self->context; turn++) {
        int waiting = 0;
        if (turn > 0 && (ioctl(self->fd, FIONREAD, &waiting) == -1 || waiting <= 0))
            return;
        redisAsyncHandleRead(self->context);
    }
}

static int on_ready(zloop_t *loop, zmq_pollitem_t *item, void *arg)
{
    (void)loop;
    attachment_t *self = arg;
    self->busy = true;
    if (item->revents & (ZMQ_POLLIN | ZMQ_POLLERR))
        read_what_is_there(self);
    /* Commands queued by the replies just read go out at once, without another turn. */
    if (self->context && (self->wanted & ZMQ_POLLOUT))
        redisAsyncHandleWrite(self->context);
    self->busy = false;
    if (self->context)
        settle_interest(self);
    else
        free(self);
    return 0;
}

/* A refused AUTH or SELECT ends the context: what follows would run without rights or, worse, in
 * another database. */
static void on_setup_reply(redisAsyncContext *context, void *reply_p, void *unused)
{
    (void)unused;
    const redisReply *reply = reply_p;
    if (!reply || reply->type != REDIS_REPLY_ERROR || context->err)
        return;
    context->c.err = REDIS_ERR_OTHER;
    snprintf(context->c.errstr, sizeof context->c.errstr, "%s", reply->str);
    context->err = context->c.err;
    context->errstr = context->c.errstr;
    redisAsyncFree(context);
}

cm_status_t cm_redis_attach(zloop_t *loop, const cm_redis_address_t *address,
                            redisAsyncContext **ret_context, cm_error_t *err)
{
    redisAsyncContext *context = address->port ? redisAsyncConnect(address->host, address->port)
                                               : redisAsyncConnectUnix(address->host);
    if (!context)
        abort();
    if (context->err) {
        cm_error_set(err, CM_UNAVAILABLE, "link", "redis: %s", context->errstr);
        redisAsyncFree(context);
        return CM_UNAVAILABLE;
    }
    if (address->port)
        redisEnableKeepAlive(&context->c);
    context->c.reader->maxbuf = READER_KEEPS_BYTES;

    attachment_t *self = calloc(1, sizeof *self);
    if (!self)
        abort();
    *self = (attachment_t){.loop = loop, .context = context, .fd = context->c.fd};
    context->ev.data = self;
    context->ev.addRead = add_read;
    context->ev.delRead = del_read;
    context->ev.addWrite = add_write;
    context->ev.delWrite = del_write;
    context->ev.cleanup = detach;
    add_write(self); /* the first write event tells that the connection stands */

    char database[16];
    setup_command_t commands[2];
    size_t count = setup_commands(address, database, commands);
    for (size_t i = 0; i < count; i++)
        redisAsyncCommandArgv(context, on_setup_reply, NULL, commands[i].argc, commands[i].argv,
                              NULL);
    *ret_context = context;
    return CM_OK;
}
