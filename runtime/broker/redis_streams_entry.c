#include "runtime/broker/redis_streams.h"

#include <string.h>

/* ---- replies in ------------------------------------------------------------------------------ */

static bool parse_u64(const char *text, size_t len, uint64_t *ret_value)
{
    if (len == 0 || len > 20)
        return false;
    uint64_t value = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned digit = (unsigned)(text[i] - '0');
        if (digit > 9)
            return false;
        /* 19 digits cannot overflow; the twentieth can. */
        if (i == 19 && (value > UINT64_MAX / 10 || value * 10 > UINT64_MAX - digit))
            return false;
        value = value * 10 + digit;
    }
    *ret_value = value;
    return true;
}

bool cm_streams_parse_id(cm_str_t text, cm_streams_id_t *ret_id)
{
    const char *dash = text.len ? memchr(text.ptr, '-', text.len) : NULL;
    if (!dash)
        return false;
    size_t ms_len = (size_t)(dash - text.ptr);
    return parse_u64(text.ptr, ms_len, &ret_id->ms) &&
           parse_u64(dash + 1, text.len - ms_len - 1, &ret_id->seq);
}

int cm_streams_compare_id(cm_streams_id_t a, cm_streams_id_t b)
{
    if (a.ms != b.ms)
        return a.ms < b.ms ? -1 : 1;
    return (a.seq > b.seq) - (a.seq < b.seq);
}

cm_str_t cm_streams_text(const redisReply *reply)
{
    if (reply && (reply->type == REDIS_REPLY_STRING || reply->type == REDIS_REPLY_STATUS))
        return (cm_str_t){reply->str, reply->len};
    return CM_STR_NONE;
}

static const redisReply *array_at(const redisReply *reply, size_t index)
{
    if (!reply || reply->type != REDIS_REPLY_ARRAY || index >= reply->elements)
        return NULL;
    const redisReply *element = reply->element[index];
    return element && element->type == REDIS_REPLY_ARRAY ? element : NULL;
}

const redisReply *cm_streams_read_entries(const redisReply *reply)
{
    return array_at(array_at(reply, 0), 1);
}

bool cm_streams_claimed(const redisReply *reply, cm_streams_claimed_t *ret_claimed)
{
    *ret_claimed = (cm_streams_claimed_t){
        .entries = array_at(reply, 1),
        .deleted = array_at(reply, 2),
        .attempts = array_at(reply, 3),
    };
    if (!ret_claimed->entries || !ret_claimed->deleted || !ret_claimed->attempts)
        return false;
    ret_claimed->cursor = cm_streams_text(reply->element[0]);
    return ret_claimed->cursor.ptr && ret_claimed->entries->elements <= CM_STREAMS_CHUNK &&
           ret_claimed->deleted->elements <= CM_STREAMS_CHUNK;
}

static bool is(cm_str_t name, const char *text, size_t len)
{
    return name.len == len && memcmp(name.ptr, text, len) == 0;
}

/* The first id of a deferred message. A stranger's field of that name which is no id is only
 * hidden.
 */
static void take_origin(cm_streams_entry_t *entry, cm_str_t value)
{
    cm_streams_id_t origin;
    if (!cm_streams_parse_id(value, &origin) || origin.ms > INT64_MAX)
        return;
    entry->message_id = value;
    entry->publish_ms = (int64_t)origin.ms;
}

bool cm_streams_decode(const redisReply *reply, cm_streams_entry_t *entry)
{
    const redisReply *fields = array_at(reply, 1);
    if (!fields)
        return false;
    entry->message_id = cm_streams_text(reply->element[0]);
    if (!cm_streams_parse_id(entry->message_id, &entry->id) || entry->id.ms > INT64_MAX)
        return false;
    entry->publish_ms = (int64_t)entry->id.ms;
    entry->body = CM_STR("");
    entry->attribute_count = 0;
    for (size_t i = 0; i + 1 < fields->elements; i += 2) {
        cm_str_t name = cm_streams_text(fields->element[i]);
        cm_str_t value = cm_streams_text(fields->element[i + 1]);
        if (!name.ptr || !value.ptr)
            return false;
        if (is(name, "data", 4))
            entry->body = value;
        else if (is(name, CM_STREAMS_ORIGIN, sizeof CM_STREAMS_ORIGIN - 1))
            take_origin(entry, value);
        else if (entry->attribute_count < CM_ATTRIBUTES_MAX)
            entry->attributes[entry->attribute_count++] = (cm_attribute_t){name, value};
    }
    return true;
}

/* ---- commands out ---------------------------------------------------------------------------- */

enum { DIGITS_MAX = 20 };

/* Decimal digits of value at the end of text[DIGITS_MAX]; returns how many. By hand, since every
 * acknowledged message costs two of them. */
static size_t digits(uint64_t value, char text[DIGITS_MAX])
{
    char *at = text + DIGITS_MAX;
    do {
        *--at = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    return (size_t)(text + DIGITS_MAX - at);
}

static char *copy(char *to, const char *bytes, size_t len)
{
    memcpy(to, bytes, len);
    return to + len;
}

static char *put_length(char *to, char mark, size_t length)
{
    char text[DIGITS_MAX];
    size_t len = digits(length, text);
    *to++ = mark;
    to = copy(to, text + DIGITS_MAX - len, len);
    return copy(to, "\r\n", 2);
}

void cm_streams_put_head(cm_buffer_t *command, size_t argc)
{
    cm_buffer_clear(command);
    cm_buffer_reserve(command, DIGITS_MAX + 3);
    command->len = (size_t)(put_length(command->data, '*', argc) - command->data);
}

void cm_streams_put(cm_buffer_t *command, cm_str_t argument)
{
    cm_buffer_reserve(command, argument.len + DIGITS_MAX + 5);
    char *at = put_length(command->data + command->len, '$', argument.len);
    if (argument.len)
        at = copy(at, argument.ptr, argument.len);
    at = copy(at, "\r\n", 2);
    command->len = (size_t)(at - command->data);
}

void cm_streams_put_i64(cm_buffer_t *command, int64_t value)
{
    char text[DIGITS_MAX];
    size_t len = digits(value > 0 ? (uint64_t)value : 0, text);
    cm_streams_put(command, (cm_str_t){text + DIGITS_MAX - len, len});
}

void cm_streams_put_id(cm_buffer_t *command, cm_streams_id_t id)
{
    char ms[DIGITS_MAX], seq[DIGITS_MAX];
    size_t ms_len = digits(id.ms, ms), seq_len = digits(id.seq, seq);
    cm_buffer_reserve(command, 2 * DIGITS_MAX + DIGITS_MAX + 6);
    char *at = put_length(command->data + command->len, '$', ms_len + 1 + seq_len);
    at = copy(at, ms + DIGITS_MAX - ms_len, ms_len);
    *at++ = '-';
    at = copy(at, seq + DIGITS_MAX - seq_len, seq_len);
    at = copy(at, "\r\n", 2);
    command->len = (size_t)(at - command->data);
}
