#include "runtime/config_private.h"

#include "runtime/cleanup.h"

#include <inttypes.h>
#include <string.h>
#include <strings.h>

/* ---- parsing -------------------------------------------------------------------------------- */

static void *member(const cm_config_key_t *key, void *values)
{
    return (char *)values + key->offset;
}

/* min and max both 0: no bounds. */
static bool in_bounds(const cm_config_key_t *key, int64_t value)
{
    return (key->min == 0 && key->max == 0) || (value >= key->min && value <= key->max);
}

static bool same_word(cm_str_t text, const char *word)
{
    return text.len == strlen(word) && strncasecmp(text.ptr, word, text.len) == 0;
}

static bool parse_bool(cm_str_t text, bool *ret_value)
{
    static const char *const words[] = {"false", "no", "off", "true", "yes", "on"};
    for (size_t i = 0; i < CM_LENGTH(words); i++)
        if (same_word(text, words[i])) {
            *ret_value = i >= 3;
            return true;
        }
    return false;
}

/* Cut the next part off rest, which ends at the separator. False after the last. */
static bool next_part(cm_str_t *rest, char separator, cm_str_t *ret_part)
{
    if (!rest->ptr)
        return false;
    const char *end = rest->len ? memchr(rest->ptr, separator, rest->len) : NULL;
    size_t len = end ? (size_t)(end - rest->ptr) : rest->len;
    *ret_part = (cm_str_t){rest->ptr, len};
    *rest = end ? (cm_str_t){end + 1, rest->len - len - 1} : CM_STR_NONE;
    return true;
}

static bool parse_choice(cm_str_t text, const char *choices, int *ret_index)
{
    cm_str_t rest = cm_str(choices), word;
    for (int i = 0; next_part(&rest, '|', &word); i++)
        if (cm_str_eq(word, text)) {
            *ret_index = i;
            return true;
        }
    return false;
}

static cm_str_t trim(cm_str_t text)
{
    for (; text.len && text.ptr[0] == ' '; text.len--)
        text.ptr++;
    while (text.len && text.ptr[text.len - 1] == ' ')
        text.len--;
    return text;
}

static bool parse_list(const cm_config_key_t *key, cm_str_t text, cm_config_list_t *ret_list)
{
    cm_config_list_t list = {0};
    cm_str_t rest = trim(text).len ? text : CM_STR_NONE, part;
    while (next_part(&rest, ',', &part)) {
        if (list.count == CM_CONFIG_LIST_MAX ||
            !cm_str_to_i64(trim(part), &list.value[list.count]) ||
            !in_bounds(key, list.value[list.count]))
            return false;
        list.count++;
    }
    *ret_list = list;
    return true;
}

bool cm_config_parse(const cm_config_key_t *key, cm_str_t text, void *values, cm_arena_t *arena)
{
    int64_t number;
    switch (key->type) {
    case CM_CONFIG_TEXT:
        if (!in_bounds(key, (int64_t)text.len) || (text.len && memchr(text.ptr, '\0', text.len)))
            return false;
        *(const char **)member(key, values) = cm_arena_copy(arena, text).ptr;
        return true;
    case CM_CONFIG_INT:
        if (!cm_str_to_i64(text, &number) || !in_bounds(key, number))
            return false;
        *(int64_t *)member(key, values) = number;
        return true;
    case CM_CONFIG_BOOL:
        return parse_bool(text, member(key, values));
    case CM_CONFIG_CHOICE:
        return parse_choice(text, key->choices, member(key, values));
    case CM_CONFIG_INT_LIST:
        return parse_list(key, text, member(key, values));
    }
    return false;
}

void cm_config_expectation(const cm_config_key_t *key, cm_buffer_t *out)
{
    bool bounded = key->min != 0 || key->max != 0;
    cm_str_t rest = cm_str(key->choices), word;
    switch (key->type) {
    case CM_CONFIG_TEXT:
        cm_buffer_printf(out, "a text");
        if (bounded)
            cm_buffer_printf(out, " of %" PRId64 " to %" PRId64 " bytes", key->min, key->max);
        return;
    case CM_CONFIG_BOOL:
        cm_buffer_printf(out, "true or false");
        return;
    case CM_CONFIG_CHOICE:
        for (const char *lead = "one of "; next_part(&rest, '|', &word); lead = ", ")
            cm_buffer_printf(out, "%s%.*s", lead, CM_STR_ARG(word));
        return;
    case CM_CONFIG_INT:
        cm_buffer_printf(out, "an integer");
        break;
    case CM_CONFIG_INT_LIST:
        cm_buffer_printf(out, "at most %d integers", CM_CONFIG_LIST_MAX);
        break;
    }
    if (bounded)
        cm_buffer_printf(out, " from %" PRId64 " to %" PRId64, key->min, key->max);
}

/* ---- redaction ------------------------------------------------------------------------------ */

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Where the run of bytes that are not in `stops` and no space ends, from `at` on. */
static size_t run_end(cm_str_t text, size_t at, const char *stops)
{
    while (at < text.len && !is_space(text.ptr[at]) && !memchr(stops, text.ptr[at], strlen(stops)))
        at++;
    return at;
}

/* The password of "//user:password@host" when `at` stands after the slashes: [*ret_begin,
 * *ret_end). An unescaped slash or space in a password is an error, yet a common one: then hide all
 * up to the last '@', rather too much than too little. */
static bool uri_password(cm_str_t text, size_t at, size_t *ret_begin, size_t *ret_end)
{
    size_t colon = run_end(text, at, ":@/?#");
    if (colon == text.len || text.ptr[colon] != ':')
        return false;
    size_t end = run_end(text, at, "/?#");
    const char *sign = memrchr(text.ptr + at, '@', end - at);
    if (!sign) {
        sign = memrchr(text.ptr + at, '@', text.len - at);
    }
    if (!sign || sign < text.ptr + colon)
        return false;
    *ret_begin = colon + 1;
    *ret_end = (size_t)(sign - text.ptr);
    return *ret_end > *ret_begin;
}

/* Does text up to `at` end in a word that names a secret, like "password" or "sslpassword"? */
static bool names_secret(cm_str_t text, size_t at)
{
    static const char *const words[] = {"password", "passwd", "pwd", "secret", "token"};
    while (at > 0 && is_space(text.ptr[at - 1]))
        at--;
    for (size_t i = 0; i < CM_LENGTH(words); i++) {
        size_t len = strlen(words[i]);
        if (at >= len && strncasecmp(text.ptr + at - len, words[i], len) == 0)
            return true;
    }
    return false;
}

/* The value after "password=", `at` standing after the sign; quoted and escaped as libpq takes it.
 */
static bool keyword_password(cm_str_t text, size_t at, bool uri, size_t *ret_begin, size_t *ret_end)
{
    while (at < text.len && is_space(text.ptr[at]))
        at++;
    bool quoted = at < text.len && text.ptr[at] == '\'';
    *ret_begin = at;
    for (at += quoted; at < text.len; at++) {
        char c = text.ptr[at];
        if (quoted ? c == '\'' : is_space(c) || (uri && (c == '&' || c == '#')))
            break;
        if (c == '\\' && at + 1 < text.len)
            at++;
    }
    *ret_end = at < text.len && quoted ? at + 1 : at;
    return *ret_end > *ret_begin;
}

void cm_config_redact(cm_str_t text, cm_buffer_t *out)
{
    bool uri = false;
    size_t copied = 0, begin, end;
    for (size_t at = 1; at <= text.len;) {
        bool found = false;
        if (text.ptr[at - 1] == '=' && names_secret(text, at - 1))
            found = keyword_password(text, at, uri, &begin, &end);
        else if (at >= 3 && memcmp(text.ptr + at - 3, "://", 3) == 0) {
            uri = true;
            found = uri_password(text, at, &begin, &end);
        }
        if (!found) {
            at++;
            continue;
        }
        cm_buffer_append(out, text.ptr + copied, begin - copied);
        cm_buffer_append(out, "***", 3);
        copied = end;
        at = end + 1;
    }
    if (text.len > copied)
        cm_buffer_append(out, text.ptr + copied, text.len - copied);
}

/* ---- values as text ------------------------------------------------------------------------- */

void cm_config_value_text(const cm_config_t *self, const cm_config_key_t *key, cm_buffer_t *out)
{
    const void *value = member(key, self->values);
    const cm_config_list_t *list = value;
    cm_str_t rest = cm_str(key->choices), word = CM_STR_NONE;
    if (key->secret) {
        bool set = key->type != CM_CONFIG_TEXT || **(const char *const *)value;
        cm_buffer_append(out, "***", set ? 3 : 0);
        return;
    }
    switch (key->type) {
    case CM_CONFIG_TEXT:
        cm_config_redact(cm_str(*(const char *const *)value), out);
        return;
    case CM_CONFIG_INT:
        cm_buffer_printf(out, "%" PRId64, *(const int64_t *)value);
        return;
    case CM_CONFIG_BOOL:
        cm_buffer_printf(out, "%s", *(const bool *)value ? "true" : "false");
        return;
    case CM_CONFIG_CHOICE:
        for (int i = *(const int *)value; i >= 0 && next_part(&rest, '|', &word); i--)
            continue;
        cm_buffer_append(out, word.ptr, word.len);
        return;
    case CM_CONFIG_INT_LIST:
        for (size_t i = 0; i < list->count; i++)
            cm_buffer_printf(out, "%s%" PRId64, i ? "," : "", list->value[i]);
        return;
    }
}

/* ---- suggestions ---------------------------------------------------------------------------- */

enum { GUESS_MAX_EDITS = 2, GUESS_WORD_MAX = 64 };

/* Insertions, deletions, replacements and swaps of neighbours that turn a into b. */
static size_t edits(cm_str_t a, cm_str_t b)
{
    size_t rows[3][GUESS_WORD_MAX + 1]; /* of the table, the last three */
    for (size_t j = 0; j <= b.len; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= a.len; i++) {
        size_t *row = rows[i % 3], *above = rows[(i + 2) % 3], *swap = rows[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= b.len; j++) {
            size_t best = above[j - 1] + (a.ptr[i - 1] != b.ptr[j - 1]);
            best = above[j] + 1 < best ? above[j] + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            if (i > 1 && j > 1 && a.ptr[i - 1] == b.ptr[j - 2] && a.ptr[i - 2] == b.ptr[j - 1] &&
                swap[j - 2] + 1 < best)
                best = swap[j - 2] + 1;
            row[j] = best;
        }
    }
    return rows[a.len % 3][b.len];
}

void cm_config_guess_offer(cm_config_guess_t *self, cm_str_t candidate)
{
    if (self->word.len > GUESS_WORD_MAX || candidate.len > GUESS_WORD_MAX)
        return;
    size_t distance = edits(self->word, candidate);
    if (distance <= GUESS_MAX_EDITS && (!self->best.ptr || distance < self->distance)) {
        self->best = candidate;
        self->distance = distance;
    }
}
