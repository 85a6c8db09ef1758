/* fuzz_json_reader - any bytes: no fault of memory, a fault always with a path and printable, and
 * what is accepted is accepted again when written out, with the same text. */
#include "proto/json_reader.h"
#include "proto/json_text.h"
#include "runtime/cleanup.h"

#include <string.h>

enum { BYTES_MAX = 64 * 1024, DEPTH_MAX = 32 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct {
    cm_json_text_t writer;
    cm_str_t text; /* absent until the value is complete */
} rewrite_t;

static void require(bool what)
{
    if (!what)
        __builtin_trap();
}

static void check_value(const cm_json_value_t *value)
{
    bool has_text = value->type == CM_JSON_STRING || value->type == CM_JSON_NUMBER;
    require(has_text == (value->text.ptr != NULL));
    require(value->depth <= DEPTH_MAX);
    require(!has_text || !memchr(value->text.ptr, '\0', value->text.len));
    if (value->type == CM_JSON_NUMBER) {
        int64_t number = 0;
        (void)cm_json_i64(value->text, &number);
    }
    int64_t epoch_ms = 0;
    cm_error_t err = {0};
    if (has_text && cm_json_time(value, INT64_C(1795190400000), &epoch_ms, &err) == CM_OK)
        require(epoch_ms >= 0 && epoch_ms <= INT64_C(1795276800000));
}

static cm_status_t on_value(void *ctx, const cm_json_value_t *value, cm_error_t *err)
{
    rewrite_t *self = ctx;
    bool done = false;
    check_value(value);
    return cm_json_text_add(&self->writer, value, &done, &self->text, err);
}

static cm_status_t rewrite(cm_str_t body, cm_arena_t *arena, cm_str_t *ret_text)
{
    rewrite_t self = {.text = CM_STR_NONE};
    cm_error_t err = {0};
    cm_json_text_init(&self.writer, BYTES_MAX, arena);
    cm_status_t status = cm_json_read(body, BYTES_MAX, DEPTH_MAX, arena, on_value, &self, &err);
    if (status != CM_OK) {
        require(err.status == status && err.code[0] && strstr(err.message, ": ") > err.message);
        for (const char *p = err.message; *p; p++)
            require(*p >= 0x20 && *p < 0x7f);
    }
    *ret_text = self.text;
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(4096);
    cm_str_t once, twice;
    if (rewrite((cm_str_t){(const char *)data, size}, arena, &once) != CM_OK)
        return 0;
    require(once.ptr && once.len <= size);
    require(rewrite(once, arena, &twice) == CM_OK);
    require(cm_str_eq(once, twice));
    return 0;
}
