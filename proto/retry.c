#include "proto/retry.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

enum {
    ERROR_MESSAGE_BYTES = 256,
    TENANT_WAIT_MIN_MS = 5000,
    TENANT_WAIT_MAX_MS = 60000,
    TENANT_GIVE_UP_MS = 10 * 60000
};

/* Decimal text; out of range is still a number and yields the nearest limit. */
static bool read_number(cm_str_t text, int64_t *ret_value)
{
    if (cm_str_to_i64(text, ret_value))
        return true;
    size_t digits = 0;
    bool negative = text.len > 0 && text.ptr[0] == '-';
    for (size_t i = negative; i < text.len; i++, digits++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9')
            return false;
    }
    *ret_value = negative ? INT64_MIN : INT64_MAX;
    return digits > 0;
}

static bool read_attribute(const cm_delivery_t *delivery, const char *name, int64_t *ret_value)
{
    return read_number(cm_attribute_get(delivery->attributes, delivery->attribute_count, name),
                       ret_value);
}

int cm_retry_count(const cm_delivery_t *delivery)
{
    int64_t count;
    if (!read_attribute(delivery, CM_ATTRIBUTE_RETRY_COUNT, &count) || count < 0)
        return 0;
    return count > CM_RETRY_MAX ? CM_RETRY_MAX : (int)count;
}

static int64_t longest_window(const cm_retry_policy_t *policy)
{
    int64_t longest = 0;
    for (size_t i = 0; i < CM_RETRY_MAX; i++) {
        if (policy->window_ms[i] > longest)
            longest = policy->window_ms[i];
    }
    return longest;
}

/* When it was published; now when that is unknown or ahead. */
static int64_t published_by(const cm_delivery_t *delivery, int64_t now_ms)
{
    int64_t published_ms = delivery->publish_ms;
    return published_ms > 0 && published_ms < now_ms ? published_ms : now_ms;
}

int64_t cm_retry_not_before(const cm_delivery_t *delivery, const cm_retry_policy_t *policy,
                            int64_t now_ms)
{
    int64_t due;
    if (!read_attribute(delivery, CM_ATTRIBUTE_NOT_BEFORE, &due))
        return 0;
    /* From the publishing, which stays the same when the message is deferred: counted from now, a
     * time in the far future would be deferred for ever. */
    int64_t latest = published_by(delivery, now_ms) + longest_window(policy);
    if (due > latest)
        due = latest;
    return due > now_ms ? due : 0;
}

/* ---- the message that follows ---------------------------------------------------------------- */

/* Attributes that tell of the latest failure: each failure writes them anew. retryCount is one on a
 * retry only. */
static bool is_renewed(cm_str_t name, cm_outcome_kind_t kind)
{
    static const char *const renewed[] = {
        CM_ATTRIBUTE_NOT_BEFORE, CM_ATTRIBUTE_LAST_FAILED_AT, CM_ATTRIBUTE_ERROR_CLASS,
        CM_ATTRIBUTE_ERROR_CODE, CM_ATTRIBUTE_ERROR_MESSAGE,
    };
    for (size_t i = 0; i < CM_LENGTH(renewed); i++) {
        if (cm_str_is(name, renewed[i]))
            return true;
    }
    return kind == CM_OUTCOME_RETRY && cm_str_is(name, CM_ATTRIBUTE_RETRY_COUNT);
}

static cm_attribute_list_t *carry_attributes(const cm_delivery_t *delivery, cm_outcome_kind_t kind,
                                             cm_arena_t *arena)
{
    cm_attribute_list_t *list = cm_arena_alloc(arena, sizeof *list);
    list->count = 0;
    for (size_t i = 0; i < delivery->attribute_count; i++) {
        /* a driver delivers no more than fit, so the second condition only guards the memory */
        if (!is_renewed(delivery->attributes[i].name, kind) && list->count < CM_ATTRIBUTES_MAX)
            list->items[list->count++] = delivery->attributes[i];
    }
    return list;
}

static void set_number(cm_attribute_list_t *list, const char *name, int64_t value,
                       cm_arena_t *arena)
{
    cm_attribute_set(list, name, cm_arena_printf(arena, "%" PRId64, value));
}

static void set_if_absent(cm_attribute_list_t *list, const char *name, cm_str_t value)
{
    if (!cm_attribute_get(list->items, list->count, name).ptr)
        cm_attribute_set(list, name, value);
}

/* Bytes of the UTF-8 character that begins with this byte; 1 for one that begins none. */
static size_t character_bytes(unsigned char first)
{
    if (first < 0xc0)
        return 1;
    if (first < 0xe0)
        return 2;
    return first < 0xf0 ? 3 : 4;
}

/* One line of at most ERROR_MESSAGE_BYTES that ends with a whole character, also when the text was
 * cut before it came here. */
static cm_str_t message_line(const char *text, cm_arena_t *arena)
{
    size_t len = strnlen(text, ERROR_MESSAGE_BYTES);
    size_t last = len; /* begin of the last character */
    while (last > 0 && last + 4 > len && ((unsigned char)text[last - 1] & 0xc0) == 0x80)
        last--;
    if (last > 0 && last - 1 + character_bytes((unsigned char)text[last - 1]) > len)
        len = last - 1;
    char *line = cm_arena_alloc(arena, len);
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        line[i] = c < 0x20 || c == 0x7f ? ' ' : (char)c;
    }
    return (cm_str_t){line, len};
}

static cm_str_t code_of(const cm_error_t *err, bool exhausted)
{
    if (err->status == CM_MISSING && (exhausted || !err->code[0]))
        return CM_STR("tenant-missing");
    return cm_str(err->code[0] ? err->code : cm_status_name(err->status));
}

static const char *class_of(const cm_error_t *err, bool exhausted)
{
    if (err->status == CM_PERMANENT)
        return "permanent";
    if (exhausted)
        return "exhausted";
    return err->status == CM_MISSING ? "tenant-missing" : "transient";
}

/* A trace goes on under both names; a name that is there keeps what it has. */
static void carry_trace(cm_attribute_list_t *list)
{
    cm_str_t google = cm_attribute_get(list->items, list->count, CM_ATTRIBUTE_TRACE_GOOGLE);
    cm_str_t plain = cm_attribute_get(list->items, list->count, CM_ATTRIBUTE_TRACE);
    if (!google.ptr == !plain.ptr || list->count == CM_ATTRIBUTES_MAX)
        return;
    cm_attribute_set(list, google.ptr ? CM_ATTRIBUTE_TRACE : CM_ATTRIBUTE_TRACE_GOOGLE,
                     google.ptr ? google : plain);
}

/* The outcome with everything but retryCount and notBefore, which only a retry sets. */
static cm_attribute_list_t *describe_failure(const cm_delivery_t *delivery, cm_outcome_kind_t kind,
                                             const char *origin_topic, const cm_error_t *err,
                                             int64_t now_ms, cm_arena_t *arena)
{
    bool exhausted = kind == CM_OUTCOME_REJECT;
    cm_attribute_list_t *list = carry_attributes(delivery, kind, arena);
    cm_str_t now = cm_arena_printf(arena, "%" PRId64, now_ms);
    set_if_absent(list, CM_ATTRIBUTE_FIRST_FAILED_AT, now);
    cm_attribute_set(list, CM_ATTRIBUTE_LAST_FAILED_AT, now);
    cm_attribute_set(list, CM_ATTRIBUTE_ERROR_CLASS, cm_str(class_of(err, exhausted)));
    cm_attribute_set(list, CM_ATTRIBUTE_ERROR_CODE, cm_arena_copy(arena, code_of(err, exhausted)));
    cm_attribute_set(list, CM_ATTRIBUTE_ERROR_MESSAGE, message_line(err->message, arena));
    set_if_absent(list, CM_ATTRIBUTE_ORIGIN_TOPIC, cm_arena_copy(arena, cm_str(origin_topic)));
    set_if_absent(list, CM_ATTRIBUTE_ORIGIN_MESSAGE_ID, delivery->message_id);
    carry_trace(list);
    return list;
}

static cm_outcome_t outcome_of(const cm_delivery_t *delivery, cm_outcome_kind_t kind,
                               const cm_attribute_list_t *list)
{
    return (cm_outcome_t){.lease = delivery->lease,
                          .kind = kind,
                          .message = {.body = delivery->body,
                                      .attributes = list->items,
                                      .attribute_count = list->count}};
}

/* Equal jitter: w/2 for certain, so that five tries always outlive a failover, and a random part of
 * w/2, so that what failed together does not come back together. */
static int64_t jittered(int64_t window_ms, uint64_t *random)
{
    int64_t half = window_ms / 2;
    return half + (int64_t)cm_random_below(random, (uint64_t)(window_ms - half) + 1);
}

void cm_retry_decide(const cm_retry_policy_t *policy, const cm_delivery_t *delivery,
                     const char *origin_topic, const cm_error_t *err, int64_t now_ms,
                     uint64_t *random, cm_arena_t *arena, cm_outcome_t *ret_outcome)
{
    assert(err->status == CM_TRANSIENT || err->status == CM_MISSING || err->status == CM_PERMANENT);
    int count = cm_retry_count(delivery);
    if (err->status == CM_PERMANENT || count == CM_RETRY_MAX) {
        cm_retry_reject(delivery, origin_topic, err, now_ms, arena, ret_outcome);
        return;
    }
    cm_attribute_list_t *list =
        describe_failure(delivery, CM_OUTCOME_RETRY, origin_topic, err, now_ms, arena);
    set_number(list, CM_ATTRIBUTE_RETRY_COUNT, count + 1, arena);
    set_number(list, CM_ATTRIBUTE_NOT_BEFORE, now_ms + jittered(policy->window_ms[count], random),
               arena);
    *ret_outcome = outcome_of(delivery, CM_OUTCOME_RETRY, list);
}

void cm_retry_reject(const cm_delivery_t *delivery, const char *origin_topic, const cm_error_t *err,
                     int64_t now_ms, cm_arena_t *arena, cm_outcome_t *ret_outcome)
{
    const cm_attribute_list_t *list =
        describe_failure(delivery, CM_OUTCOME_REJECT, origin_topic, err, now_ms, arena);
    *ret_outcome = outcome_of(delivery, CM_OUTCOME_REJECT, list);
}

bool cm_retry_await_tenant(const cm_delivery_t *delivery, int64_t now_ms, uint64_t *random,
                           int64_t *ret_until_ms)
{
    int64_t age_ms = now_ms - published_by(delivery, now_ms);
    if (age_ms >= TENANT_GIVE_UP_MS)
        return false;
    int64_t window_ms = age_ms < TENANT_WAIT_MIN_MS   ? TENANT_WAIT_MIN_MS
                        : age_ms > TENANT_WAIT_MAX_MS ? TENANT_WAIT_MAX_MS
                                                      : age_ms;
    *ret_until_ms = now_ms + jittered(window_ms, random);
    return true;
}
