#include "proto/letter_ids.h"
#include "proto/device_event.h"
#include "proto/json_reader.h"
#include "runtime/cleanup.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

typedef struct {
    cm_letter_ids_t *ids;
    int64_t now_ms;
    bool in_contact;
    bool has_application, has_client, has_token, has_time; /* as of update_found() */
} reader_t;

static void update_found(reader_t *self)
{
    self->has_application = self->ids->application_code.len > 0;
    self->has_client = self->ids->client_id.len > 0;
    self->has_token = self->ids->token.len > 0;
    self->has_time = self->ids->at_ms > 0;
}

static const char *find(cm_str_t in, size_t from, cm_str_t what)
{
    return in.len > from ? memmem(in.ptr + from, in.len - from, what.ptr, what.len) : NULL;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static void take_text(const cm_json_value_t *value, cm_str_t *text)
{
    if (value->type == CM_JSON_STRING && value->text.len > 0)
        *text = value->text;
}

static void take_contact(reader_t *self, const cm_json_value_t *value)
{
    bool is_id = value->type == CM_JSON_NUMBER || value->type == CM_JSON_STRING;
    int64_t id;
    if (is_id && cm_str_to_i64(value->text, &id)) {
        self->ids->has_contact_id = true;
        self->ids->contact_id = id;
    }
}

static void take_time(reader_t *self, const cm_json_value_t *value)
{
    int64_t at_ms = 0;
    if (cm_json_time(value, self->now_ms, &at_ms, NULL) == CM_OK && at_ms > 0)
        self->ids->at_ms = at_ms;
}

static cm_status_t on_value(void *ctx, const cm_json_value_t *value, cm_error_t *err)
{
    reader_t *self = ctx;
    (void)err;
    if (value->depth == 1 && value->type == CM_JSON_END)
        self->in_contact = false;
    else if (value->depth == 1 && value->type == CM_JSON_OBJECT)
        self->in_contact = cm_str_is(value->key, "contact");
    else if (value->depth == 1 && cm_str_is(value->key, "applicationCode"))
        take_text(value, &self->ids->application_code);
    else if (value->depth == 1 && cm_str_is(value->key, "clientId"))
        take_text(value, &self->ids->client_id);
    else if (value->depth == 1 && cm_str_is(value->key, "token"))
        take_text(value, &self->ids->token);
    else if ((value->depth == 1 || (value->depth == 2 && self->in_contact)) &&
             cm_str_is(value->key, "contactId"))
        take_contact(self, value);
    else if (value->depth == 1 &&
             (cm_str_is(value->key, "eventTime") || cm_str_is(value->key, "deletedAt")))
        take_time(self, value);
    return CM_OK;
}

/* ---- behind a fault ------------------------------------------------------------------------- */

static size_t skip_space(cm_str_t body, size_t at)
{
    while (at < body.len && memchr(" \t\r\n", body.ptr[at], 4))
        at++;
    return at;
}

/* A string of text without escapes, or digits; CM_JSON_NULL for all else. */
static cm_json_value_t value_at(cm_str_t body, size_t at)
{
    cm_json_value_t value = {.type = CM_JSON_NULL, .depth = 1};
    size_t end = at;
    if (at < body.len && body.ptr[at] == '"') {
        for (end = ++at; end < body.len && body.ptr[end] != '"' && body.ptr[end] != '\\';)
            end++;
        value.type = end < body.len && body.ptr[end] == '"' ? CM_JSON_STRING : CM_JSON_NULL;
    } else {
        while (end < body.len && (is_digit(body.ptr[end]) || (end == at && body.ptr[end] == '-')))
            end++;
        value.type = end > at ? CM_JSON_NUMBER : CM_JSON_NULL;
    }
    value.text = (cm_str_t){body.ptr + at, end - at};
    if (value.type == CM_JSON_STRING && !cm_str_is_text(value.text))
        value.type = CM_JSON_NULL;
    return value;
}

/* Give the values of members of this name to on_value(), until it has found what it wants. */
static void look_for(reader_t *self, cm_str_t body, const char *name, const bool *found)
{
    cm_str_t key = cm_str(name);
    size_t from = 0;
    for (const char *at; !*found && (at = find(body, from, key));) {
        size_t start = (size_t)(at - body.ptr), end = start + key.len;
        from = start + 1;
        if (start == 0 || body.ptr[start - 1] != '"' || end >= body.len || body.ptr[end] != '"')
            continue;
        end = skip_space(body, end + 1);
        if (end >= body.len || body.ptr[end] != ':')
            continue;
        cm_json_value_t value = value_at(body, skip_space(body, end + 1));
        value.key = key;
        if (value.type != CM_JSON_NULL)
            on_value(self, &value, NULL);
        update_found(self);
    }
}

static void look_for_all(reader_t *self, cm_str_t body)
{
    update_found(self);
    look_for(self, body, "applicationCode", &self->has_application);
    look_for(self, body, "clientId", &self->has_client);
    look_for(self, body, "contactId", &self->ids->has_contact_id);
    look_for(self, body, "eventTime", &self->has_time);
    look_for(self, body, "deletedAt", &self->has_time);
    if (!self->has_client)
        look_for(self, body, "token", &self->has_token);
}

void cm_letter_ids_read(cm_str_t body, int64_t now_ms, cm_arena_t *arena, cm_letter_ids_t *ret_ids)
{
    *ret_ids = (cm_letter_ids_t){0};
    reader_t self = {.ids = ret_ids, .now_ms = now_ms};
    ret_ids->whole =
        cm_json_read(body, body.len, CM_EVENT_DEPTH_MAX, arena, on_value, &self, NULL) == CM_OK;
    if (!ret_ids->whole && body.len > 0)
        look_for_all(&self, body);
}

/* ---- bodies that could not be read ---------------------------------------------------------- */

bool cm_letter_quotes(cm_str_t body, cm_str_t text)
{
    const char *end = body.ptr + body.len;
    size_t from = 0;
    if (text.len == 0 || body.len < text.len + 2)
        return false;
    for (const char *at; (at = find(body, from, text)); from = (size_t)(at - body.ptr) + 1)
        if (at > body.ptr && at[-1] == '"' && at + text.len < end && at[text.len] == '"')
            return true;
    return false;
}

static bool is_alnum(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* A character beyond ASCII. One of a block of spaces and marks, such as curly quotes, is no letter;
 * nor are bytes that make no character, since they are what such a body is cut and broken by. */
static bool is_wide_letter(const char *at, size_t left)
{
    static const char *const marks[] = {"\xc2",     "\xe2\x80",     "\xe2\x81",
                                        "\xe3\x80", "\xef\xbb\xbf", "\xef\xbc"};
    size_t len = left > 0 ? cm_utf8_length(at, left) : 0;
    if (len < 2)
        return false;
    for (size_t i = 0; i < CM_LENGTH(marks); i++)
        if (strncmp(at, marks[i], strlen(marks[i])) == 0)
            return false;
    return true;
}

/* \n, \u0020 or %20 before at: the letters and digits of an escape are no word. */
static bool is_escape_before(cm_str_t body, size_t at)
{
    const char *here = body.ptr + at;
    return (at >= 2 && here[-2] == '\\' && memchr("bfnrt", here[-1], 5)) ||
           (at >= 3 && here[-3] == '%') || (at >= 6 && here[-6] == '\\' && here[-5] == 'u');
}

static bool is_word_before(cm_str_t body, size_t at)
{
    const char *here = body.ptr + at;
    if (at > 0 && is_alnum(here[-1]))
        return !is_escape_before(body, at);
    for (size_t len = 2; len <= 4 && len <= at; len++)
        if (cm_utf8_length(here - len, len) == len)
            return is_wide_letter(here - len, len);
    return false;
}

static bool is_word_behind(cm_str_t body, size_t end)
{
    return end < body.len &&
           (is_alnum(body.ptr[end]) || is_wide_letter(body.ptr + end, body.len - end));
}

bool cm_letter_mentions(cm_str_t body, int64_t number)
{
    char digits[24];
    cm_str_t text = {digits, (size_t)snprintf(digits, sizeof digits, "%" PRId64, number)};
    size_t from = 0;
    for (const char *at; (at = find(body, from, text));) {
        size_t start = (size_t)(at - body.ptr);
        bool is_other = number >= 0 && start > 0 && at[-1] == '-';
        from = start + 1;
        if (!is_other && !is_word_before(body, start) && !is_word_behind(body, start + text.len))
            return true;
    }
    return false;
}
