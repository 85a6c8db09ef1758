#include "proto/sync_reference.h"

#include <string.h>

enum { TENANT, DEVICES, CHECKSUM, COUNTED, FIELDS };

static const int64_t latest_ms = INT64_C(253402300799999); /* the year 9999, which PostgreSQL has */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static cm_str_t trimmed(cm_str_t text)
{
    while (text.len && is_blank(text.ptr[0])) {
        text.ptr++;
        text.len--;
    }
    while (text.len && is_blank(text.ptr[text.len - 1]))
        text.len--;
    return text;
}

/* False when there are more than FIELDS. */
static bool split(cm_str_t line, cm_str_t fields[FIELDS])
{
    for (int i = 0; i < FIELDS; i++) {
        const char *comma = line.len ? memchr(line.ptr, ',', line.len) : NULL;
        size_t len = comma ? (size_t)(comma - line.ptr) : line.len;
        fields[i] = trimmed((cm_str_t){line.ptr, len});
        if (!comma) {
            while (++i < FIELDS)
                fields[i] = CM_STR("");
            return true;
        }
        line = (cm_str_t){comma + 1, line.len - len - 1};
    }
    return false;
}

cm_status_t cm_sync_reference_parse(cm_str_t line, cm_sync_reference_t *ret_reference,
                                    bool *ret_holds, cm_error_t *err)
{
    cm_str_t fields[FIELDS];
    line = trimmed(line);
    *ret_reference = (cm_sync_reference_t){.devices = 0};
    *ret_holds = line.len > 0 && line.ptr[0] != '#';
    if (!*ret_holds)
        return CM_OK;
    if (!split(line, fields))
        return cm_error_set(err, CM_PERMANENT, "malformed", "a line has more than four values");
    *ret_holds = !cm_str_is(fields[TENANT], "tenant");
    if (!*ret_holds)
        return CM_OK;
    if (!cm_str_to_i64(fields[DEVICES], &ret_reference->devices) || ret_reference->devices < 0)
        return cm_error_set(err, CM_PERMANENT, "malformed", "the second value is no count");
    ret_reference->has_checksum = fields[CHECKSUM].len > 0;
    if (ret_reference->has_checksum && !cm_str_to_i64(fields[CHECKSUM], &ret_reference->checksum))
        return cm_error_set(err, CM_PERMANENT, "malformed", "the third value is no checksum");
    if (fields[COUNTED].len > 0 &&
        (!cm_str_to_i64(fields[COUNTED], &ret_reference->counted_ms) ||
         ret_reference->counted_ms <= 0 || ret_reference->counted_ms > latest_ms))
        return cm_error_set(err, CM_PERMANENT, "malformed", "the fourth value is no time");
    return cm_tenant_id_canonical(fields[TENANT], ret_reference->tenant, err);
}
