/* redis - hiredis, wrapped: address parsing, a blocking client for tools, an async one for a loop.
 *
 * Addresses: redis://[[user]:password@]host[:port][/db], unix:///path/to/socket[?db=n]; user and
 * password percent-encoded where needed. No TLS: the packaged hiredis has none. A failed or
 * timed-out context is closed, never used again: a late reply would answer the next command. Rule:
 * reliability, section 3.3.
 */
#ifndef CM_RUNTIME_REDIS_H
#define CM_RUNTIME_REDIS_H
#include "runtime/status.h"
#include "runtime/str.h"

#include <czmq.h>
#include <hiredis/async.h>
#include <hiredis/hiredis.h>

typedef struct {
    char host[256]; /* host name or socket path */
    int port;       /* 0 = host is a unix socket path */
    int database;
    char user[128];     /* empty = the default user */
    char password[256]; /* empty = no AUTH */
} cm_redis_address_t;

/* CM_MISCONFIGURED with what would be right. */
cm_status_t cm_redis_parse(const char *uri, cm_redis_address_t *ret_address, cm_error_t *err);

/* Connect, AUTH, SELECT; blocking, each step within timeout_ms. *ret_context is yours (redisFree).
 * CM_UNAVAILABLE when there is no answer, else the class of what the server replied. */
cm_status_t cm_redis_connect(const cm_redis_address_t *address, int timeout_ms,
                             redisContext **ret_context, cm_error_t *err);
/* Start an async context attached to loop: reads and writes happen in the loop's thread. AUTH and
 * SELECT are queued first; when one is refused the context ends and its errstr is the refusal. Set
 * your connect and disconnect callbacks on *ret_context before the loop runs again. hiredis frees
 * it on disconnect; redisAsyncFree() ends it early. Only resolving a host name blocks.
 * CM_UNAVAILABLE when connecting fails at once (no such socket, unknown host). */
cm_status_t cm_redis_attach(zloop_t *loop, const cm_redis_address_t *address,
                            redisAsyncContext **ret_context, cm_error_t *err);

/* Let the replies that reader parses from now on live in arena, which must outlive it and is reset
 * when a reply is freed. For connections that carry many large replies. */
void cm_redis_use_arena(redisReader *reader, cm_arena_t *arena);

/* Class and code (its first word) of an error reply text ("LOADING Redis is ..."), or of a lost
 * link when NULL. CM_OK for BUSYGROUP; CM_MISSING for NOGROUP; CM_TRANSIENT for NOSCRIPT;
 * CM_UNAVAILABLE, CM_MISCONFIGURED as in reliability, section 3.3; CM_PERMANENT for everything
 * else. */
cm_status_t cm_redis_classify(const char *reply_error, cm_error_t *err);
void cm_redis_free(redisContext **context_p);   /* for CM_CLEANUP */
void cm_redis_free_reply(redisReply **reply_p); /* for CM_CLEANUP */
#endif
