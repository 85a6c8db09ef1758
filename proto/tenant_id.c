#include "proto/tenant_id.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { UUID_DIGITS = 32, UUID_DASHED = 36 };

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_alnum(char c) /* of ASCII, whatever the locale */
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_dash_place(size_t i) /* 8-4-4-4-12 */
{
    return i == 8 || i == 13 || i == 18 || i == 23;
}

/* The 32 digits in lower case; false when text is no UUID (id is then undefined). */
static bool uuid_canonical(cm_str_t text, char id[CM_TENANT_ID_MAX])
{
    if (text.len != UUID_DIGITS && text.len != UUID_DASHED)
        return false;
    size_t digits = 0;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (text.len == UUID_DASHED && is_dash_place(i)) {
            if (c != '-')
                return false;
            continue;
        }
        if (c >= 'A' && c <= 'F')
            c = (char)(c - 'A' + 'a');
        if (!is_digit(c) && (c < 'a' || c > 'f'))
            return false;
        id[digits++] = c;
    }
    id[digits] = '\0';
    return true;
}

static bool canonical(cm_str_t text, char id[CM_TENANT_ID_MAX])
{
    if (!text.ptr || text.len == 0 || text.len >= CM_TENANT_ID_MAX)
        return false;
    if (uuid_canonical(text, id)) /* first: a UUID matches the pattern below too */
        return true;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (!is_alnum(c) && (i == 0 || (c != '_' && c != '-')))
            return false;
    }
    memcpy(id, text.ptr, text.len);
    id[text.len] = '\0';
    return true;
}

cm_status_t cm_tenant_id_canonical(cm_str_t text, char id[CM_TENANT_ID_MAX], cm_error_t *err)
{
    if (canonical(text, id))
        return CM_OK;
    id[0] = '\0';
    return cm_error_set(err, CM_PERMANENT, "invalid-tenant",
                        "no UUID, and not 1 to %d of A-Z a-z 0-9 _ - beginning with one of "
                        "A-Z a-z 0-9",
                        CM_TENANT_ID_MAX - 1);
}

static cm_str_t trim(cm_str_t s)
{
    while (s.len > 0 && strchr(" \t\r\n", s.ptr[0])) {
        s.ptr++;
        s.len--;
    }
    while (s.len > 0 && strchr(" \t\r\n", s.ptr[s.len - 1]))
        s.len--;
    return s;
}

cm_status_t cm_tenant_id_list(cm_str_t text, char (**ret_ids)[CM_TENANT_ID_MAX], size_t *ret_count,
                              cm_error_t *err)
{
    size_t commas = 0, count = 0;
    cm_str_t left = text.ptr ? trim(text) : CM_STR("");
    for (size_t i = 0; i < left.len; i++)
        commas += left.ptr[i] == ',';
    char(*ids)[CM_TENANT_ID_MAX] = calloc(commas + 1, sizeof *ids);
    if (!ids)
        abort();
    for (bool more = left.len > 0; more;) {
        const char *comma = memchr(left.ptr, ',', left.len);
        size_t len = comma ? (size_t)(comma - left.ptr) : left.len;
        if (cm_tenant_id_canonical(trim((cm_str_t){left.ptr, len}), ids[count++], err) != CM_OK) {
            free(ids);
            return cm_error_prefix(err, "entry %zu is no tenant id", count);
        }
        more = comma != NULL;
        left = (cm_str_t){left.ptr + len + more, left.len - len - more};
    }
    *ret_ids = ids;
    *ret_count = count;
    return CM_OK;
}

const char *cm_tenant_id_schema(const char *id, char schema[CM_TENANT_SCHEMA_MAX])
{
    assert(strlen(id) < CM_TENANT_ID_MAX);
    snprintf(schema, CM_TENANT_SCHEMA_MAX, "tenant_%.*s", CM_TENANT_ID_MAX - 1, id);
    return schema;
}

unsigned cm_tenant_id_shard(cm_str_t id, unsigned shards)
{
    assert(shards > 0);
    return (unsigned)(XXH3_64bits(id.ptr, id.len) % shards);
}

/* ---- peek ----------------------------------------------------------------------------------- */

static const char *skip_space(const char *at, const char *end)
{
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r'))
        at++;
    return at;
}

/* The value at `at` when it is an integer or a string that can be an id; absent otherwise. Looks no
 * further than an id is long, so that hostile bodies cost no more than others. */
static cm_str_t id_value(const char *at, const char *end)
{
    bool quoted = at < end && *at == '"';
    const char *start = quoted ? at + 1 : at, *stop = start;
    while (stop < end && stop - start < CM_TENANT_ID_MAX &&
           (is_digit(*stop) || (quoted && (is_alnum(*stop) || *stop == '_' || *stop == '-'))))
        stop++;
    if (stop == end || stop == start)
        return CM_STR_NONE;
    bool complete =
        quoted ? *stop == '"' : skip_space(stop, end) != stop || *stop == ',' || *stop == '}';
    return complete ? (cm_str_t){start, (size_t)(stop - start)} : CM_STR_NONE;
}

bool cm_tenant_id_peek(cm_str_t body, char id[CM_TENANT_ID_MAX])
{
    static const char key[] = "\"customerId\"";
    id[0] = '\0';
    if (!body.ptr)
        return false;
    const char *at = body.ptr, *end = body.ptr + body.len;
    while ((at = memmem(at, (size_t)(end - at), key, sizeof key - 1)) != NULL) {
        bool escaped = at > body.ptr && at[-1] == '\\'; /* the quote belongs to a longer string */
        at += sizeof key - 1;
        const char *colon = skip_space(at, end);
        if (escaped || colon == end || *colon != ':')
            continue;
        if (canonical(id_value(skip_space(colon + 1, end), end), id))
            return true;
    }
    id[0] = '\0';
    return false;
}
