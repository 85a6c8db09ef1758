#include "runtime/broker/google_pubsub_json.h"

#include <jansson.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

/* ---- addresses ------------------------------------------------------------------------------- */

static bool is_project(const char *text)
{
    size_t len = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:");
    return len > 0 && text[len] == '\0';
}

cm_status_t cm_pubsub_address_parse(const char *uri, cm_pubsub_address_t *ret_address,
                                    cm_error_t *err)
{
    static const char mark[] = "/projects/";
    bool emulator = strncmp(uri, "http://", 7) == 0;
    size_t scheme = emulator ? 7 : 8;
    const char *at = emulator || strncmp(uri, "https://", 8) == 0 ? strstr(uri, mark) : NULL;
    if (!at || (size_t)(at - uri) <= scheme || uri[scheme] == '/' || strpbrk(uri, " \t?#@") ||
        !is_project(at + sizeof mark - 1))
        return cm_error_set(err, CM_MISCONFIGURED, "address",
                            "'%.100s' is no address of Pub/Sub; it looks like "
                            "https://pubsub.googleapis.com/projects/my-project",
                            uri);
    *ret_address = (cm_pubsub_address_t){.base = strndup(uri, (size_t)(at - uri)),
                                         .project = strdup(at + sizeof mark - 1),
                                         .emulator = emulator};
    if (!ret_address->base || !ret_address->project)
        abort();
    return CM_OK;
}

void cm_pubsub_address_destroy(cm_pubsub_address_t *self)
{
    free(self->base);
    free(self->project);
    *self = (cm_pubsub_address_t){0};
}

static bool is_plain(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.' || c == '~';
}

void cm_pubsub_put_escaped(cm_buffer_t *url, cm_str_t text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (is_plain(text.ptr[i]))
            cm_buffer_append(url, &text.ptr[i], 1);
        else
            cm_buffer_printf(url, "%%%02X", (unsigned char)text.ptr[i]);
    }
}

/* ---- requests -------------------------------------------------------------------------------- */

#define PUT(buffer, literal) cm_buffer_append(buffer, literal, sizeof(literal) - 1)

static void put_string(cm_buffer_t *body, cm_str_t text)
{
    PUT(body, "\"");
    size_t done = 0;
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        cm_buffer_append(body, text.ptr + done, i - done);
        cm_buffer_printf(body, c < 0x20 ? "\\u%04x" : "\\%c", c);
        done = i + 1;
    }
    cm_buffer_append(body, text.ptr + done, text.len - done);
    PUT(body, "\"");
}

void cm_pubsub_put_pull(cm_buffer_t *body, size_t max)
{
    cm_buffer_printf(body, "{\"maxMessages\":%zu}", max);
}

void cm_pubsub_ids_begin(cm_buffer_t *body)
{
    PUT(body, "{\"ackIds\":[");
}

static void put_comma(cm_buffer_t *body)
{
    if (body->data[body->len - 1] != '[' && body->data[body->len - 1] != '{')
        PUT(body, ",");
}

void cm_pubsub_put_id(cm_buffer_t *body, cm_str_t id)
{
    put_comma(body);
    put_string(body, id);
}

void cm_pubsub_ids_end(cm_buffer_t *body, int seconds)
{
    if (seconds < 0)
        PUT(body, "]}");
    else
        cm_buffer_printf(body, "],\"ackDeadlineSeconds\":%d}", seconds);
}

void cm_pubsub_messages_begin(cm_buffer_t *body)
{
    PUT(body, "{\"messages\":[");
}

static void put_base64(cm_buffer_t *body, cm_str_t bytes)
{
    size_t len = (bytes.len + 2) / 3 * 4;
    PUT(body, "\"");
    cm_buffer_reserve(body, len + 1); /* it writes a NUL */
    EVP_EncodeBlock((unsigned char *)body->data + body->len, (const unsigned char *)bytes.ptr,
                    (int)bytes.len);
    body->len += len;
    PUT(body, "\"");
}

static bool starts_with(cm_str_t text, const char *start)
{
    size_t len = strlen(start);
    return text.len >= len && memcmp(text.ptr, start, len) == 0;
}

static bool is_reserved(cm_str_t name)
{
    return starts_with(name, "goog") && !starts_with(name, "googclient_");
}

void cm_pubsub_put_message(cm_buffer_t *body, const cm_message_t *message)
{
    size_t members = 0;
    put_comma(body);
    PUT(body, "{\"attributes\":{");
    for (size_t i = 0; i < message->attribute_count; i++) {
        if (is_reserved(message->attributes[i].name))
            continue;
        put_comma(body);
        put_string(body, message->attributes[i].name);
        PUT(body, ":");
        put_string(body, message->attributes[i].value);
        members++;
    }
    if (members == 0 && message->body.len == 0)
        PUT(body, "\"" CM_PUBSUB_EMPTY "\":\"1\"");
    PUT(body, "}");
    if (message->body.len) {
        PUT(body, ",\"data\":");
        put_base64(body, message->body);
    }
    if (message->ordering_key.len) {
        PUT(body, ",\"orderingKey\":");
        put_string(body, message->ordering_key);
    }
    PUT(body, "}");
}

void cm_pubsub_messages_end(cm_buffer_t *body)
{
    PUT(body, "]}");
}

/* Nearly all text is, and every byte of every answer passes here: eight at a time. */
static bool is_ascii(cm_str_t text)
{
    uint64_t bits = 0, eight;
    size_t i = 0;
    for (; text.len - i >= sizeof eight; i += sizeof eight) {
        memcpy(&eight, text.ptr + i, sizeof eight);
        bits |= eight;
    }
    for (; i < text.len; i++)
        bits |= (unsigned char)text.ptr[i];
    return (bits & UINT64_C(0x8080808080808080)) == 0;
}

bool cm_pubsub_is_text(cm_str_t text)
{
    if (is_ascii(text))
        return true;
    json_t *string = json_stringn(text.ptr, text.len); /* NULL: no UTF-8 */
    json_decref(string);
    return string;
}

const char *cm_pubsub_unfit(const cm_message_t *message)
{
    if (message->attribute_count > CM_ATTRIBUTES_MAX)
        return "more than 100 attributes";
    if (cm_pubsub_message_bytes(message) > CM_PUBSUB_MESSAGE_BYTES_MAX)
        return "the message is larger than 10 MB";
    for (size_t i = 0; i < message->attribute_count; i++)
        if (!cm_pubsub_is_text(message->attributes[i].name) ||
            !cm_pubsub_is_text(message->attributes[i].value))
            return "an attribute is not UTF-8";
    return cm_pubsub_is_text(message->ordering_key) ? NULL : "the ordering key is not UTF-8";
}

size_t cm_pubsub_message_bytes(const cm_message_t *message)
{
    size_t bytes = message->body.len + message->ordering_key.len;
    for (size_t i = 0; i < message->attribute_count; i++)
        bytes += message->attributes[i].name.len + message->attributes[i].value.len;
    return bytes;
}

/* ---- answers --------------------------------------------------------------------------------- */

static json_t *load(cm_str_t text)
{
    return text.len ? json_loadb(text.ptr, text.len, 0, NULL) : NULL;
}

int cm_pubsub_read_published(cm_str_t answer)
{
    json_t *root = load(answer), *ids = json_object_get(root, "messageIds"), *id;
    int count = json_is_array(ids) ? (int)json_array_size(ids) : -1;
    size_t i;
    json_array_foreach(ids, i, id)
    {
        if (json_string_length(id) == 0)
            count = -1;
    }
    json_decref(root);
    return count;
}

/* A member of an error for people and for decisions: printable ASCII, cut. */
static void copy_plain(char *to, size_t size, const char *from)
{
    size_t used = 0;
    for (; from && *from && used + 1 < size; from++)
        to[used++] = *from >= 0x20 && *from < 0x7f ? *from : '?';
    to[used] = '\0';
}

static int compare_ids(const void *a, const void *b)
{
    return cm_str_cmp(((const cm_pubsub_id_result_t *)a)->id,
                      ((const cm_pubsub_id_result_t *)b)->id);
}

static void read_ids(json_t *metadata, cm_arena_t *arena, cm_pubsub_fault_t *fault)
{
    size_t most = json_object_size(metadata);
    const char *id;
    json_t *value;
    if (most == 0 || fault->ids)
        return;
    fault->ids = cm_arena_alloc(arena, most * sizeof *fault->ids);
    json_object_foreach(metadata, id, value)
    {
        cm_str_t word = cm_str(json_string_value(value));
        if (!starts_with(word, "PERMANENT_") && !starts_with(word, "TRANSIENT_"))
            continue; /* some other remark */
        fault->ids[fault->id_count++] = (cm_pubsub_id_result_t){
            cm_arena_copy(arena, cm_str(id)),
            starts_with(word, "TRANSIENT_") ? CM_PUBSUB_ID_AGAIN : CM_PUBSUB_ID_GONE};
    }
    qsort(fault->ids, fault->id_count, sizeof *fault->ids, compare_ids);
}

/* A duration of protobuf's JSON: "1.500s". */
static int read_duration_ms(const char *text)
{
    char *end = NULL;
    double seconds = text ? strtod(text, &end) : -1;
    bool good = end && end != text && strcmp(end, "s") == 0 && seconds >= 0 && seconds <= 600;
    return good ? (int)(seconds * 1000) : -1;
}

void cm_pubsub_read_fault(cm_str_t body, cm_arena_t *arena, cm_pubsub_fault_t *ret_fault)
{
    *ret_fault = (cm_pubsub_fault_t){.retry_ms = -1};
    json_t *root = load(body), *error = json_object_get(root, "error"), *detail;
    copy_plain(ret_fault->status, sizeof ret_fault->status,
               json_string_value(json_object_get(error, "status")));
    copy_plain(ret_fault->message, sizeof ret_fault->message,
               json_string_value(json_object_get(error, "message")));
    size_t i;
    json_array_foreach(json_object_get(error, "details"), i, detail)
    {
        const char *type = json_string_value(json_object_get(detail, "@type"));
        const char *name = type ? strrchr(type, '.') : NULL;
        if (name && strcmp(name, ".ErrorInfo") == 0)
            read_ids(json_object_get(detail, "metadata"), arena, ret_fault);
        else if (name && strcmp(name, ".RetryInfo") == 0)
            ret_fault->retry_ms =
                read_duration_ms(json_string_value(json_object_get(detail, "retryDelay")));
    }
    json_decref(root);
}

cm_pubsub_id_fate_t cm_pubsub_id_fate(const cm_pubsub_fault_t *fault, cm_str_t id)
{
    cm_pubsub_id_result_t key = {id, CM_PUBSUB_ID_DONE};
    const cm_pubsub_id_result_t *found =
        fault->id_count
            ? bsearch(&key, fault->ids, fault->id_count, sizeof *fault->ids, compare_ids)
            : NULL;
    return found ? found->fate : CM_PUBSUB_ID_DONE;
}

/* Points come newest first; an int64 is a string in protobuf's JSON. */
bool cm_pubsub_read_metric(cm_str_t answer, int64_t *ret_value)
{
    json_t *root = load(answer);
    json_t *series = json_array_get(json_object_get(root, "timeSeries"), 0);
    json_t *point = json_array_get(json_object_get(series, "points"), 0);
    json_t *value = json_object_get(point, "value");
    json_t *integer = json_object_get(value, "int64Value");
    bool good = true;
    if (json_is_string(integer))
        good = cm_str_to_i64(cm_str(json_string_value(integer)), ret_value);
    else if (json_is_integer(integer))
        *ret_value = json_integer_value(integer);
    else
        good = false;
    json_decref(root);
    return good && *ret_value >= 0;
}

/* ---- texts ----------------------------------------------------------------------------------- */

/* `digits` decimal digits of text at *at, which moves on; -1 when they are not there. */
static int take_number(cm_str_t text, size_t *at, size_t digits)
{
    int value = 0;
    if (text.len < *at + digits)
        return -1;
    for (size_t i = 0; i < digits; i++) {
        char c = text.ptr[*at + i];
        if (c < '0' || c > '9')
            return -1;
        value = value * 10 + (c - '0');
    }
    *at += digits;
    return value;
}

static bool take(cm_str_t text, size_t *at, char c)
{
    bool there = *at < text.len && text.ptr[*at] == c;
    *at += there;
    return there;
}

/* Days since 1970 of a date of the Gregorian calendar. */
static int64_t days_of(int year, int month, int day)
{
    int64_t y = month <= 2 ? year - 1 : year; /* years begin in March: the leap day is the last */
    int64_t era = (y >= 0 ? y : y - 399) / 400, of_era = y - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

bool cm_pubsub_parse_time(cm_str_t text, int64_t *ret_epoch_ms)
{
    size_t at = 0;
    int year = take_number(text, &at, 4);
    int month = take(text, &at, '-') ? take_number(text, &at, 2) : -1;
    int day = take(text, &at, '-') ? take_number(text, &at, 2) : -1;
    int hour = take(text, &at, 'T') ? take_number(text, &at, 2) : -1;
    int minute = take(text, &at, ':') ? take_number(text, &at, 2) : -1;
    int second = take(text, &at, ':') ? take_number(text, &at, 2) : -1;
    if (year < 1970 || month < 1 || month > 12 || day < 1 || day > 31 || hour < 0 || hour > 23 ||
        minute < 0 || minute > 59 || second < 0 || second > 60)
        return false;
    int ms = 0;
    if (take(text, &at, '.')) {
        int digit, scale = 100;
        size_t start = at;
        while ((digit = take_number(text, &at, 1)) >= 0) {
            ms += digit * scale;
            scale /= 10;
        }
        if (at == start)
            return false;
    }
    if (!take(text, &at, 'Z') || at != text.len)
        return false;
    *ret_epoch_ms =
        (((days_of(year, month, day) * 24 + hour) * 60 + minute) * 60 + second) * 1000 + ms;
    return true;
}

bool cm_pubsub_decode_base64(cm_str_t text, cm_arena_t *arena, cm_str_t *ret_bytes)
{
    if (text.len % 4 || text.len > INT32_MAX)
        return false;
    size_t padding = 0, size = text.len / 4 * 3;
    while (padding < 2 && padding < text.len && text.ptr[text.len - 1 - padding] == '=')
        padding++;
    /* The library takes a padding character for a zero wherever it stands. */
    if (text.len && memchr(text.ptr, '=', text.len - padding))
        return false;
    unsigned char *bytes = cm_arena_alloc(arena, size + 1);
    if (size && EVP_DecodeBlock(bytes, (const unsigned char *)text.ptr, (int)text.len) != (int)size)
        return false;
    for (size_t i = size - padding; i < size; i++)
        if (bytes[i]) /* bits that stand for nothing */
            return false;
    *ret_bytes = (cm_str_t){(const char *)bytes, size - padding};
    return true;
}
