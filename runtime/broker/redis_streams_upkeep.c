#include "runtime/broker/redis_streams.h"
#include "runtime/clock.h"

#include <string.h>

enum {
    MOVE_MS = 100,        /* between two looks at a set that holds something, plus jitter */
    MOVE_EMPTY_MS = 1000, /* another instance may defer; it moves itself, unless it dies */
    MOVE_MOST = 500,
    TRIM_MS = 1000,
    REAP_MS = 60000,
    DEAD_CONSUMER_MS = 3600000,
};

static int64_t jittered(cm_streams_t *self, int64_t now, int interval_ms)
{
    return now + interval_ms +
           (int64_t)cm_random_below(&self->random, (uint64_t)interval_ms / 4 + 1);
}

static void eval(cm_streams_sub_t *sub, redisCallbackFn *fn, const char *script, const char *first,
                 const char *second)
{
    const cm_str_t arguments[] = {cm_str(sub->name), cm_str(sub->deferred), cm_str(first),
                                  cm_str(second)};
    cm_streams_eval(&sub->driver->link, fn, sub, script, arguments, 4, 2);
}

/* The integer at index of an array reply; 0 for anything else. */
static int64_t integer_at(const redisReply *reply, size_t index)
{
    if (!reply || reply->type != REDIS_REPLY_ARRAY || index >= reply->elements ||
        reply->element[index]->type != REDIS_REPLY_INTEGER)
        return 0;
    return reply->element[index]->integer;
}

/* ---- messages that are due ------------------------------------------------------------------- */

/* By the server's clock, the one that all instances share. Each move is whole: the stream has the
 * message again before the set forgets it. A member that is no message (nobody should write there)
 * must not stop the others: it is set aside for a person to look at, the latest thousand of them.
 * Also answers how many still wait, whether somebody gave messages back, and how many were set
 * aside. */
static const char move_script[] =
    "local function is_message(fields) "
    "  if type(fields) ~= 'table' or #fields == 0 or #fields % 2 == 1 then return false end "
    "  for _, text in ipairs(fields) do "
    "    if type(text) ~= 'string' then return false end "
    "  end "
    "  return #fields < 7900 " /* what unpack() can carry */
    "end "
    "local bad = 0 "
    "local time = redis.call('TIME') "
    "local now = time[1] * 1000 + math.floor(time[2] / 1000) "
    "local due = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, ARGV[1]) "
    "for _, member in ipairs(due) do "
    "  local read, fields = pcall(cmsgpack.unpack, member) "
    "  if read and is_message(fields) then "
    "    redis.call('XADD', KEYS[1], '*', unpack(fields)) "
    "  else "
    "    redis.call('RPUSH', KEYS[2] .. ':bad', member) "
    "    redis.call('LTRIM', KEYS[2] .. ':bad', -1000, -1) "
    "    bad = bad + 1 "
    "  end "
    "  redis.call('ZREM', KEYS[2], member) "
    "end "
    "local released = redis.pcall('XPENDING', KEYS[1], KEYS[1], '-', '+', 1, ARGV[2]) "
    "return {#due, redis.call('ZCARD', KEYS[2]), released.err and 0 or #released, "
    "    bad}";

static void on_moved(redisAsyncContext *context, void *reply_p, void *privdata)
{
    const redisReply *reply = reply_p;
    cm_streams_sub_t *sub = privdata;
    cm_streams_link_t *link = cm_streams_heard(context, reply);
    cm_error_t err = {0};
    if (!link)
        return;
    int64_t now = cm_clock_mono_ms();
    sub->moving = false;
    bool waiting = integer_at(reply, 1) > 0;
    if (integer_at(reply, 0) == MOVE_MOST)
        sub->move_at = now;
    else if (sub->move_at) /* 0: something was deferred meanwhile */
        sub->move_at = jittered(sub->driver, now, waiting ? MOVE_MS : MOVE_EMPTY_MS);
    if (integer_at(reply, 2) > 0 && sub->claim_at > now)
        sub->claim_at = now;
    if (integer_at(reply, 3) > 0)
        link->driver->events.on_lost(link->driver->events.ctx, sub->number,
                                     (uint64_t)integer_at(reply, 3),
                                     "deferred messages that cannot be read; they are kept in the "
                                     "list <topic>:deferred:bad");
    if (reply && reply->type == REDIS_REPLY_ERROR) {
        bool passes = cm_redis_classify(reply->str, &err) == CM_UNAVAILABLE;
        sub->move_at = jittered(sub->driver, now, passes ? MOVE_EMPTY_MS : CM_STREAMS_REFUSED_MS);
        cm_streams_command_failed(sub, &err);
    }
}

static void move(cm_streams_sub_t *sub, int64_t now)
{
    char most[16];
    snprintf(most, sizeof most, "%d", MOVE_MOST);
    sub->moving = true;
    sub->move_at = now + MOVE_MS;
    eval(sub, on_moved, move_script, most, CM_STREAMS_RELEASED);
}

/* ---- what nobody needs any more -------------------------------------------------------------- */

/* Ids compare as text once both halves are 20 digits wide; Lua's numbers would round them. */
#define LUA_IDS                                                                                    \
    "local function wide(id) "                                                                     \
    "  local ms, seq = id:match('^(%d+)-(%d+)$') "                                                 \
    "  return string.rep('0', 20 - #ms) .. ms .. string.rep('0', 20 - #seq) .. seq "               \
    "end "                                                                                         \
    "local function named(pairs_of) "                                                              \
    "  local t = {} "                                                                              \
    "  for i = 1, #pairs_of, 2 do t[pairs_of[i]] = pairs_of[i + 1] end "                           \
    "  return t "                                                                                  \
    "end "

/* Below the oldest id that any group has pending or has not been given. Exact, not "~": what is
 * acknowledged is personal data that has served its purpose, and a quiet stream would keep the last
 * hundred entries for ever. */
static const char trim_script[] = LUA_IDS
    "local least "
    "local function keep(id) if not least or wide(id) < wide(least) then least = id end end "
    "for _, raw in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do "
    "  local group = named(raw) "
    "  if group.pending > 0 then keep(redis.call('XPENDING', KEYS[1], group.name)[2]) end "
    "  local ms, seq = group['last-delivered-id']:match('^(%d+)-(%d+)$') "
    "  if #seq < 15 then seq = string.format('%d', seq + 1) end "
    "  keep(ms .. '-' .. seq) "
    "end "
    "return least and redis.call('XTRIM', KEYS[1], 'MINID', '=', least) or 0";

/* Consumers that left nothing behind. Checked and deleted in one step: deleting one that has
 * something pending would lose it. */
static const char reap_script[] =
    LUA_IDS "local gone = 0 "
            "for _, raw in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], KEYS[1])) do "
            "  local consumer = named(raw) "
            "  if consumer.pending == 0 and consumer.idle > tonumber(ARGV[2]) "
            "      and consumer.name ~= ARGV[1] then "
            "    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], KEYS[1], consumer.name) "
            "    gone = gone + 1 "
            "  end "
            "end "
            "return gone";

/* Neither matters today if it failed: both come round again. */
static void on_cleaned(redisAsyncContext *context, void *reply, void *unused)
{
    (void)unused;
    cm_streams_heard(context, reply);
}

static void reap(cm_streams_sub_t *sub)
{
    char idle[16];
    snprintf(idle, sizeof idle, "%d", DEAD_CONSUMER_MS);
    eval(sub, on_cleaned, reap_script, sub->driver->options.consumer, idle);
}

/* ---- depth ----------------------------------------------------------------------------------- */

/* The lag is unknown after some deletions; then all that is neither pending nor trimmed counts. No
 * stream is an empty one; any other error is the answer. */
static const char depth_script[] = LUA_IDS
    "local depth = {0, 0, redis.call('ZCARD', KEYS[2]), 0} "
    "local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1]) "
    "if groups.err then return groups.err:find('no such key') and depth or groups end "
    "for _, raw in ipairs(groups) do "
    "  local group = named(raw) "
    "  if group.name == KEYS[1] then "
    "    local first = redis.call('XRANGE', KEYS[1], '(' .. group['last-delivered-id'], '+', "
    "        'COUNT', 1)[1] "
    "    local oldest = first and first[1] "
    "    depth[1] = group.lag "
    "        or first and math.max(1, redis.call('XLEN', KEYS[1]) - group.pending) or 0 "
    "    depth[2] = group.pending "
    "    if group.pending > 0 then "
    "      local pending = redis.call('XPENDING', KEYS[1], KEYS[1])[2] "
    "      if not oldest or wide(pending) < wide(oldest) then oldest = pending end "
    "    end "
    "    if oldest then depth[4] = tonumber(oldest:match('^(%d+)')) end "
    "  end "
    "end "
    "return depth";

static void on_depth(redisAsyncContext *context, void *reply_p, void *privdata)
{
    const redisReply *reply = reply_p;
    cm_streams_sub_t *sub = privdata;
    cm_streams_link_t *link = cm_streams_heard(context, reply);
    if (!link)
        return;
    sub->depth_asked = false;
    sub->depth_wanted |= !reply;
    if (!reply || reply->type != REDIS_REPLY_ARRAY)
        return; /* an error is not an empty stream; what is wrong the pull tells */
    cm_broker_depth_t depth = {
        .ready = integer_at(reply, 0),
        .pending = integer_at(reply, 1),
        .deferred = integer_at(reply, 2),
        .oldest_ms = integer_at(reply, 3),
    };
    link->driver->events.on_depth(link->driver->events.ctx, sub->number, &depth);
}

static void ask_depth(cm_streams_sub_t *sub)
{
    sub->depth_wanted = false;
    sub->depth_asked = true;
    eval(sub, on_depth, depth_script, "", "");
}

void cm_streams_upkeep(cm_streams_sub_t *sub, int64_t now)
{
    if (sub->driver->link.state != CM_STREAMS_UP)
        return;
    if (sub->depth_wanted && !sub->depth_asked)
        ask_depth(sub);
    if (now >= sub->move_at && !sub->moving)
        move(sub, now);
    if (now >= sub->trim_at && sub->acked) {
        sub->acked = false;
        sub->trim_at = jittered(sub->driver, now, TRIM_MS);
        eval(sub, on_cleaned, trim_script, "", "");
    }
    if (now >= sub->reap_at) {
        sub->reap_at = jittered(sub->driver, now, REAP_MS);
        reap(sub);
    }
}

/* ---- the server's own settings --------------------------------------------------------------- */

static void on_setting(redisAsyncContext *context, void *reply_p, void *privdata)
{
    const redisReply *reply = reply_p;
    const char *wanted = privdata;
    cm_streams_link_t *link = cm_streams_heard(context, reply);
    if (!link || !reply || reply->type != REDIS_REPLY_ARRAY || reply->elements != 2)
        return; /* hosted servers often refuse CONFIG */
    cm_str_t value = cm_streams_text(reply->element[1]);
    const cm_broker_events_t *events = &link->driver->events;
    if (!value.ptr || cm_str_is(value, wanted))
        return;
    events->on_warning(
        events->ctx,
        strcmp(wanted, "yes") == 0
            ? "redis: append-only persistence is off (appendonly no): messages that were accepted "
              "are lost when Redis restarts; set appendonly yes"
            : "redis: the eviction policy may delete messages when memory runs short; set "
              "maxmemory-policy noeviction");
}

static void ask_setting(cm_streams_t *self, const char *name, const char *wanted)
{
    cm_streams_put_head(&self->command, 3);
    cm_streams_put(&self->command, CM_STR("CONFIG"));
    cm_streams_put(&self->command, CM_STR("GET"));
    cm_streams_put(&self->command, cm_str(name));
    cm_streams_send(&self->link, on_setting, (void *)(uintptr_t)wanted);
}

void cm_streams_check_server(cm_streams_t *self)
{
    ask_setting(self, "appendonly", "yes");
    ask_setting(self, "maxmemory-policy", "noeviction");
}
