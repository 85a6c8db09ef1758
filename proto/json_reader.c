#include "proto/json_reader.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yajl/yajl_parse.h>

/* yajl lexes and decodes; this file adds what yajl 2.1 lets pass: \v and \f as white space,
 * over-long and surrogate UTF-8, code points above 10FFFF, lone surrogates (it makes '?' of them),
 * \u0000, duplicate keys, any depth, 1e999. */

enum {
    DEPTH_LIMIT = 64, /* hard bound of max_depth */
    MEMBERS_MAX =
        200,          /* of one object: reliability section 5.3; bounds the search for duplicates */
    KEYS_INLINE = 64, /* keys of all open objects that fit without the arena */
    SCRATCH_BYTES = 4096, /* yajl's own state, with its first 2 KiB string buffer */
    PATH_BYTES = 201,
    PATH_KEY_BYTES = 64, /* keys are the sender's: show no more than a name */
};

static const size_t NOWHERE = SIZE_MAX;

typedef struct {
    const char *ptr;
    uint32_t len;
    uint32_t digest; /* length and three bytes: tells most keys apart without touching them */
} seen_key_t;

typedef struct {
    cm_str_t key;     /* of the member at hand, when an object */
    size_t index;     /* of the element at hand + 1, when an array */
    size_t first_key; /* of this object in seen[] */
    uint64_t digests; /* a bit for each digest seen: a clear bit spares the search */
    bool is_array;
} frame_t;

typedef struct {
    cm_str_t body;
    size_t max_depth;
    cm_arena_t *arena;
    cm_json_value_fn *on_value;
    void *ctx;
    cm_error_t *err;
    yajl_handle yajl;
    cm_status_t status;
    size_t end;        /* offset behind the outermost object, 0 until it is closed */
    size_t bad;        /* offset of the first byte that may stand nowhere, or NOWHERE */
    size_t string_end; /* offset behind the string last read */
    size_t depth;      /* containers open */
    size_t seen_count, seen_cap;
    seen_key_t *seen; /* seen_inline until it is full, then in the arena */
    size_t scratch_used;
    frame_t frames[DEPTH_LIMIT + 1]; /* [0] is the document, [n] the n-th open container */
    seen_key_t seen_inline[KEYS_INLINE];
    char scratch[SCRATCH_BYTES] __attribute__((aligned(16)));
} reader_t;

/* ---- bytes that may stand nowhere ------------------------------------------------------------ */

/* Eight bytes at a time: has one of them its top bit set, or is one below 0x20? */
static inline bool needs_a_look(const unsigned char *p)
{
    uint64_t word;
    memcpy(&word, p, sizeof word);
    return ((word - 0x2020202020202020U) | word) & 0x8080808080808080U;
}

/* Offset of the first byte that may stand nowhere in a JSON text: a control byte other than tab,
 * line feed and carriage return, or a byte that is not part of well-formed UTF-8. */
static size_t find_bad_byte(cm_str_t body)
{
    const unsigned char *p = (const unsigned char *)body.ptr;
    size_t i = 0;
    while (i < body.len) {
        while (body.len - i >= 8 && !needs_a_look(p + i))
            i += 8;
        size_t stop = body.len - i > 8 ? i + 8 : body.len;
        while (i < stop) {
            size_t len = 1;
            if (p[i] >= 0x80)
                len = cm_utf8_length(body.ptr + i, body.len - i);
            else if (p[i] < 0x20 && p[i] != '\t' && p[i] != '\n' && p[i] != '\r')
                len = 0;
            if (len == 0)
                return i;
            i += len;
        }
    }
    return NOWHERE;
}

/* ---- memory for yajl ------------------------------------------------------------------------- */

static void *scratch_malloc(void *ctx, size_t size)
{
    reader_t *self = ctx;
    size_t need = ((size + 15) & ~(size_t)15) + 16; /* 16 in front for the size */
    char *block = NULL;
    if (SCRATCH_BYTES - self->scratch_used >= need) {
        block = self->scratch + self->scratch_used;
        self->scratch_used += need;
    } else {
        block = cm_arena_alloc(self->arena, need);
    }
    memcpy(block, &size, sizeof size);
    return block + 16;
}

static void scratch_free(void *ctx, void *memory)
{
    (void)ctx;
    (void)memory; /* goes with the reader or with the arena */
}

static void *scratch_realloc(void *ctx, void *memory, size_t size)
{
    size_t old = 0;
    if (memory)
        memcpy(&old, (char *)memory - 16, sizeof old);
    if (memory && old >= size)
        return memory;
    void *grown = scratch_malloc(ctx, size);
    if (memory)
        memcpy(grown, memory, old);
    return grown;
}

/* ---- faults ---------------------------------------------------------------------------------- */

/* Note a fault without its path; 0 stops yajl. */
static int __attribute__((format(printf, 2, 3))) fault(reader_t *self, const char *format, ...)
{
    char message[CM_ERROR_MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    self->status = cm_error_set(self->err, CM_PERMANENT, "malformed", "%s", message);
    return 0;
}

static void fault_of_bad_byte(reader_t *self)
{
    fault(self, "invalid UTF-8 or control byte at offset %zu", self->bad);
}

/* What may spoil a log line or pass for the end of the path (": ") shows as '?'. */
static size_t path_add(char *path, size_t len, cm_str_t part)
{
    size_t shown = part.len < PATH_KEY_BYTES ? part.len : PATH_KEY_BYTES;
    for (size_t i = 0; i < shown && len < PATH_BYTES - 1; i++) {
        char c = part.ptr[i];
        bool plain = c > ' ' && c < 0x7f && c != ':' && c != '"' && c != '\\';
        path[len++] = plain ? c : '?';
    }
    return len;
}

/* Path of the value at hand: "device.pushSettings.importance", "a[3].b", "(body)". */
static void build_path(const reader_t *self, char path[PATH_BYTES])
{
    size_t len = 0;
    for (size_t i = 1; i <= self->depth; i++) {
        const frame_t *frame = &self->frames[i];
        char index[24];
        if (frame->is_array) {
            if (frame->index == 0)
                break;
            snprintf(index, sizeof index, "[%zu]", frame->index - 1);
            len = path_add(path, len, cm_str(index));
        } else {
            if (!frame->key.ptr)
                break;
            if (len > 0)
                len = path_add(path, len, CM_STR("."));
            len = path_add(path, len, frame->key);
        }
    }
    if (len == 0)
        len = path_add(path, len, CM_STR("(body)"));
    path[len] = '\0';
}

static cm_status_t finish(reader_t *self)
{
    if (self->status == CM_OK)
        return CM_OK;
    char path[PATH_BYTES];
    build_path(self, path);
    cm_error_prefix(self->err, "%s", path);
    return self->status;
}

/* ---- strings --------------------------------------------------------------------------------- */

static unsigned hex4(const char *p) /* yajl has seen that they are four hex digits */
{
    unsigned value = 0;
    for (int i = 0; i < 4; i++) {
        unsigned digit = (unsigned char)p[i];
        value = value << 4 | (digit <= '9' ? digit - '0' : (digit | 0x20) - 'a' + 10);
    }
    return value;
}

/* The escapes of a string as it stands in the body; yajl has seen that each is complete. */
static int check_escapes(reader_t *self, const char *p, const char *end)
{
    while (p < end && (p = memchr(p, '\\', (size_t)(end - p)))) {
        if (p[1] != 'u') {
            p += 2;
            continue;
        }
        unsigned unit = hex4(p + 2);
        p += 6;
        if (unit == 0)
            return fault(self, "NUL in a string");
        if (unit < 0xd800 || unit > 0xdfff)
            continue;
        bool paired = unit < 0xdc00 && end - p >= 6 && p[0] == '\\' && p[1] == 'u' &&
                      (hex4(p + 2) & 0xfc00) == 0xdc00;
        if (!paired)
            return fault(self, "lone surrogate in a string");
        p += 6;
    }
    return 1;
}

/* A string that had escapes, decoded in yajl's buffer: check the escapes and copy it. They are
 * looked up in the body: between the string before and this one stand no quotes. */
static cm_str_t __attribute__((noinline)) take_escaped(reader_t *self, cm_str_t decoded)
{
    const char *from = self->body.ptr + self->string_end;
    self->string_end = yajl_get_bytes_consumed(self->yajl);
    const char *end = self->body.ptr + self->string_end - 1;
    const char *start = memchr(from, '"', (size_t)(end - from));
    assert(start);
    return check_escapes(self, start + 1, end) ? cm_arena_copy(self->arena, decoded) : CM_STR_NONE;
}

/* A string from yajl; it points into the body unless it had escapes. Absent on a fault. */
static inline cm_str_t take_string(reader_t *self, const unsigned char *ptr, size_t len)
{
    cm_str_t text = {(const char *)ptr, len};
    size_t at = (uintptr_t)ptr - (uintptr_t)self->body.ptr;
    if (at < self->body.len)
        self->string_end = at + len + 1;
    else
        text = take_escaped(self, text);
    if (self->bad < self->string_end) {
        fault_of_bad_byte(self);
        return CM_STR_NONE;
    }
    return text;
}

/* ---- yajl's callbacks ------------------------------------------------------------------------ */

/* Each value but END begins here, so that the path of a fault in it names it. */
static int begin_value(reader_t *self, cm_json_type_t type)
{
    self->frames[self->depth].index++; /* nobody reads it of an object */
    if (self->depth == 0 && type != CM_JSON_OBJECT)
        return fault(self, "must be an object");
    return 1;
}

static int emit(reader_t *self, cm_json_type_t type, cm_str_t text, bool boolean)
{
    cm_json_value_t value = {.type = type,
                             .depth = self->depth,
                             .key = self->frames[self->depth].key,
                             .text = text,
                             .boolean = boolean};
    self->status = self->on_value(self->ctx, &value, self->err);
    return self->status == CM_OK;
}

static int on_null(void *ctx)
{
    return begin_value(ctx, CM_JSON_NULL) && emit(ctx, CM_JSON_NULL, CM_STR_NONE, false);
}

static int on_boolean(void *ctx, int boolean)
{
    return begin_value(ctx, CM_JSON_BOOL) && emit(ctx, CM_JSON_BOOL, CM_STR_NONE, boolean != 0);
}

/* Up to 300 digits without an exponent are below DBL_MAX: no need to look closer. */
static bool is_plain(const char *number, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if ((number[i] | 0x20) == 'e')
            return false;
    }
    return len <= 300;
}

static int on_number(void *ctx, const char *ptr, size_t len)
{
    reader_t *self = ctx;
    cm_str_t text = {ptr, len};
    if (!begin_value(self, CM_JSON_NUMBER))
        return 0;
    if (!is_plain(ptr, len)) {
        text = cm_arena_copy(self->arena, text); /* strtod() wants its NUL */
        errno = 0;
        double number = strtod(text.ptr, NULL);
        if (!isfinite(number) || (number == 0 && errno == ERANGE))
            return fault(self, "number outside of what a double holds");
    }
    return emit(self, CM_JSON_NUMBER, text, false);
}

static int on_string(void *ctx, const unsigned char *ptr, size_t len)
{
    reader_t *self = ctx;
    if (!begin_value(self, CM_JSON_STRING))
        return 0;
    cm_str_t text = take_string(self, ptr, len);
    return text.ptr && emit(self, CM_JSON_STRING, text, false);
}

static int open_container(reader_t *self, cm_json_type_t type)
{
    if (!begin_value(self, type))
        return 0;
    if (self->depth >= self->max_depth)
        return fault(self, "nested deeper than %zu levels", self->max_depth);
    if (!emit(self, type, CM_STR_NONE, false))
        return 0;
    frame_t *frame = &self->frames[++self->depth];
    *frame = (frame_t){.first_key = self->seen_count, .is_array = type == CM_JSON_ARRAY};
    return 1;
}

static int on_start_map(void *ctx)
{
    return open_container(ctx, CM_JSON_OBJECT);
}

static int on_start_array(void *ctx)
{
    return open_container(ctx, CM_JSON_ARRAY);
}

static int on_end(void *ctx)
{
    reader_t *self = ctx;
    self->seen_count = self->frames[self->depth].first_key;
    self->depth--;
    if (!emit(self, CM_JSON_END, CM_STR_NONE, false))
        return 0;
    if (self->depth > 0)
        return 1;
    self->end = yajl_get_bytes_consumed(self->yajl);
    return 0; /* stop here: yajl overlooks an unfinished token behind the object */
}

static void grow_seen(reader_t *self)
{
    seen_key_t *grown = cm_arena_alloc(self->arena, self->seen_cap * 2 * sizeof *grown);
    memcpy(grown, self->seen, self->seen_count * sizeof *grown);
    self->seen = grown;
    self->seen_cap *= 2;
}

static uint32_t digest_key(cm_str_t key)
{
    if (key.len == 0)
        return 0;
    const unsigned char *p = (const unsigned char *)key.ptr;
    return (uint32_t)key.len ^ (uint32_t)p[0] << 8 ^ (uint32_t)p[key.len / 2] << 16 ^
           (uint32_t)p[key.len - 1] << 24;
}

static bool is_seen(const reader_t *self, const frame_t *frame, cm_str_t key, uint32_t digest)
{
    for (size_t i = frame->first_key; i < self->seen_count; i++) {
        const seen_key_t *seen = &self->seen[i];
        if (seen->digest == digest && seen->len == key.len &&
            memcmp(seen->ptr, key.ptr, key.len) == 0)
            return true;
    }
    return false;
}

static int on_map_key(void *ctx, const unsigned char *ptr, size_t len)
{
    reader_t *self = ctx;
    frame_t *frame = &self->frames[self->depth];
    frame->key = CM_STR_NONE;
    cm_str_t key = take_string(self, ptr, len);
    if (!key.ptr)
        return 0;
    frame->key = key;
    uint32_t digest = digest_key(key);
    uint64_t bit = UINT64_C(1) << (digest * 0x9e3779b1U >> 26);
    if ((frame->digests & bit) && is_seen(self, frame, key, digest))
        return fault(self, "duplicate key");
    frame->digests |= bit;
    if (self->seen_count - frame->first_key >= MEMBERS_MAX)
        return fault(self, "more than %d members in one object", MEMBERS_MAX);
    if (self->seen_count == self->seen_cap)
        grow_seen(self);
    self->seen[self->seen_count++] = (seen_key_t){key.ptr, (uint32_t)key.len, digest};
    return 1;
}

/* ---- reading --------------------------------------------------------------------------------- */

static void fault_of_syntax(reader_t *self)
{
    size_t offset = yajl_get_bytes_consumed(self->yajl);
    if (self->bad <= offset) { /* it is the cause */
        fault_of_bad_byte(self);
        return;
    }
    /* Not verbose: yajl would quote the body. */
    const char *text = (const char *)yajl_get_error(
        self->yajl, 0, (const unsigned char *)self->body.ptr, self->body.len);
    fault(self, "%.*s at offset %zu", (int)strcspn(text, ".\n"), text, offset);
}

static void check_end(reader_t *self)
{
    if (self->end == 0) {
        fault(self, "ends before it is complete");
        return;
    }
    for (size_t i = self->end; i < self->body.len; i++) {
        if (!memchr(" \t\n\r", self->body.ptr[i], 4)) {
            fault(self, "bytes after the object at offset %zu", i);
            return;
        }
    }
    if (self->bad != NOWHERE) /* \v or \f between two tokens */
        fault_of_bad_byte(self);
}

static void parse(reader_t *self)
{
    static const yajl_callbacks callbacks = {.yajl_null = on_null,
                                             .yajl_boolean = on_boolean,
                                             .yajl_number = on_number,
                                             .yajl_string = on_string,
                                             .yajl_start_map = on_start_map,
                                             .yajl_map_key = on_map_key,
                                             .yajl_end_map = on_end,
                                             .yajl_start_array = on_start_array,
                                             .yajl_end_array = on_end};
    yajl_alloc_funcs memory = {scratch_malloc, scratch_realloc, scratch_free, self};
    self->yajl = yajl_alloc(&callbacks, &memory, self);
    /* find_bad_byte() has looked at every byte, and closer than yajl does. */
    yajl_config(self->yajl, yajl_dont_validate_strings, 1);
    yajl_status parsed =
        yajl_parse(self->yajl, (const unsigned char *)self->body.ptr, self->body.len);
    if (parsed == yajl_status_error)
        fault_of_syntax(self);
    else if (self->status == CM_OK)
        check_end(self);
    yajl_free(self->yajl);
}

cm_status_t cm_json_read(cm_str_t body, size_t max_bytes, size_t max_depth, cm_arena_t *arena,
                         cm_json_value_fn *on_value, void *ctx, cm_error_t *err)
{
    assert(max_depth <= DEPTH_LIMIT);
    if (body.len > max_bytes)
        return cm_error_set(err, CM_PERMANENT, "too-large", "(body): %zu bytes, at most %zu",
                            body.len, max_bytes);
    if (body.len == 0)
        return cm_error_set(err, CM_PERMANENT, "malformed", "(body): is empty");
    /* Not zeroed: it is 8 KiB, of which a message touches few. */
    reader_t self __attribute__((uninitialized));
    self.body = body;
    self.max_depth = max_depth;
    self.arena = arena;
    self.on_value = on_value;
    self.ctx = ctx;
    self.err = err;
    self.yajl = NULL;
    self.status = CM_OK;
    self.end = 0;
    self.bad = find_bad_byte(body);
    self.string_end = 0;
    self.depth = 0;
    self.seen_count = 0;
    self.seen_cap = KEYS_INLINE;
    self.seen = self.seen_inline;
    self.scratch_used = 0;
    self.frames[0] = (frame_t){0};
    parse(&self);
    return finish(&self);
}

bool cm_json_i64(cm_str_t number, int64_t *ret_value)
{
    return cm_str_to_i64(number, ret_value);
}
