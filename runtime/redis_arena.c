/* Replies in an arena: the stock functions of hiredis take two allocations an element, a third of
 * the time it takes to consume a message. */
#include "runtime/redis.h"

#include <string.h>

enum { ELEMENTS_MAX = 1 << 20 };

typedef struct {
    redisReply reply;  /* first: hiredis and the callbacks see only this */
    cm_arena_t *arena; /* freeing a reply is given nothing else */
} arena_reply_t;

static redisReply *create(const redisReadTask *task, size_t extra)
{
    cm_arena_t *arena = task->privdata;
    arena_reply_t *self = cm_arena_alloc(arena, sizeof *self + extra);
    self->reply = (redisReply){.type = task->type};
    self->arena = arena;
    if (task->parent) {
        redisReply *parent = task->parent->obj;
        parent->element[task->idx] = &self->reply;
    }
    return &self->reply;
}

static void *behind(redisReply *reply)
{
    return (arena_reply_t *)reply + 1;
}

static void *create_string(const redisReadTask *task, char *text, size_t len)
{
    redisReply *reply = create(task, len + 1);
    reply->str = behind(reply);
    reply->len = len;
    memcpy(reply->str, text, len);
    reply->str[len] = '\0';
    return reply;
}

/* A length that no command of ours can have asked for is noise on the line: NULL ends the
 * connection, where the allocation would end the process. */
static void *create_array(const redisReadTask *task, int elements)
{
    if (elements > ELEMENTS_MAX)
        return NULL;
    size_t bytes = (size_t)elements * sizeof(redisReply *);
    redisReply *reply = create(task, bytes);
    reply->element = memset(behind(reply), 0, bytes);
    reply->elements = (size_t)elements;
    return reply;
}

static void *create_integer(const redisReadTask *task, long long value)
{
    redisReply *reply = create(task, 0);
    reply->integer = value;
    return reply;
}

static void *create_nil(const redisReadTask *task)
{
    return create(task, 0);
}

/* hiredis frees a reply as a whole, and before it begins the next. */
static void free_reply(void *reply)
{
    cm_arena_reset(((arena_reply_t *)reply)->arena);
}

void cm_redis_use_arena(redisReader *reader, cm_arena_t *arena)
{
    static const redisReplyObjectFunctions functions = {
        .createString = create_string,
        .createArray = create_array,
        .createInteger = create_integer,
        .createNil = create_nil,
        .freeObject = free_reply,
    };
    reader->fn = (redisReplyObjectFunctions *)&functions; /* hiredis only reads it */
    reader->privdata = arena;
}
