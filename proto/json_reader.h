/* json_reader - strict streaming JSON with the path of every fault; yajl inside.
 *
 * Calls one function per value. Refuses what events.md section 3 refuses: over-long input, depth
 * over the limit, bytes after the value, duplicate keys of one object, invalid UTF-8, lone
 * surrogates, a NUL in a string, numbers that are no finite double, more than 200 members in one
 * object. The path
 * ("device.platform", "a[3].b", "(body)" for the whole) is at most 200 bytes of printable ASCII,
 * keys in it at most 64; it is built only when a fault is told. No message quotes a value.
 */
#ifndef CM_PROTO_JSON_READER_H
#define CM_PROTO_JSON_READER_H
#include "runtime/status.h"
#include "runtime/str.h"

#include <stdbool.h>

typedef enum {
    CM_JSON_NULL,
    CM_JSON_BOOL,
    CM_JSON_NUMBER, /* text as it stands */
    CM_JSON_STRING, /* text decoded */
    CM_JSON_OBJECT,
    CM_JSON_ARRAY,
    CM_JSON_END /* of the object or array last opened */
} cm_json_type_t;

typedef struct {
    cm_json_type_t type;
    size_t depth;  /* 0: the outermost value; of END: as of its opening */
    cm_str_t key;  /* member name when the parent is an object, else absent */
    cm_str_t text; /* NUMBER, STRING; points into the body or, when it had escapes, the arena */
    bool boolean;
} cm_json_value_t;

/* Called in document order. Return CM_OK to go on; otherwise set err without a path: the reader
 * puts the path before the message and stops. */
typedef cm_status_t(cm_json_value_fn)(void *ctx, const cm_json_value_t *value, cm_error_t *err);

/* Read one value that must be an object. CM_PERMANENT / "malformed" ("too-large" above max_bytes).
 * max_depth: containers open at once, at most 64. */
cm_status_t cm_json_read(cm_str_t body, size_t max_bytes, size_t max_depth, cm_arena_t *arena,
                         cm_json_value_fn *on_value, void *ctx, cm_error_t *err);

/* A JSON number as int64: digits only, no fraction or exponent. */
bool cm_json_i64(cm_str_t number, int64_t *ret_value);
/* A time: RFC 3339 with an offset (string), or epoch milliseconds (number). CM_PERMANENT /
 * "bad-time", also when before 1970 or more than 24 h after now_ms, and for a leap second;
 * "malformed" for every other type. Fractions beyond ms are cut. */
cm_status_t cm_json_time(const cm_json_value_t *value, int64_t now_ms, int64_t *ret_epoch_ms,
                         cm_error_t *err);
#endif
