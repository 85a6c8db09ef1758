#include "runtime/metrics.h"

#include "runtime/metrics_private.h"
#include "runtime/msgpack_check.h"
#include "runtime/str.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <msgpack.h>
#include <string.h>

typedef struct {
    char *name;
    uint64_t run;    /* of the actor's life that sent the latest snapshot */
    uint64_t puts;   /* snapshots taken */
    int64_t seen_ms; /* of the latest */
    UT_hash_handle hh;
} source_t;

/* What one source says of one series. */
typedef struct cell {
    const source_t *source;
    uint64_t put;                  /* the snapshot that last told it; older: the series is gone */
    cm_metric_value_t now, former; /* former: sum over the actor's former lives */
    struct cell *next;
} cell_t;

typedef struct {
    char *labels;
    cell_t *cells;
    UT_hash_handle hh; /* by labels, kept sorted */
} series_t;

typedef struct {
    char *name, *help;
    cm_metric_kind_t kind;
    series_t *series;
    UT_hash_handle hh; /* by name, kept sorted */
} family_t;

struct cm_metrics_board {
    source_t *sources;
    family_t *families;
};

static void *new_zeroed(size_t size)
{
    void *memory = calloc(1, size);
    if (!memory)
        abort();
    return memory;
}

static char *copy_text(cm_str_t text)
{
    char *copy = new_zeroed(text.len + 1);
    if (text.len)
        memcpy(copy, text.ptr, text.len);
    return copy;
}

cm_metrics_board_t *cm_metrics_board_new(void)
{
    return new_zeroed(sizeof(cm_metrics_board_t));
}

static void series_free(series_t *series)
{
    while (series->cells) {
        cell_t *cell = series->cells;
        series->cells = cell->next;
        free(cell);
    }
    free(series->labels);
    free(series);
}

static void family_free(family_t *family)
{
    series_t *series, *next;
    HASH_ITER(hh, family->series, series, next)
    {
        HASH_DELETE(hh, family->series, series);
        series_free(series);
    }
    free(family->name);
    free(family->help);
    free(family);
}

void cm_metrics_board_destroy(cm_metrics_board_t **self_p)
{
    cm_metrics_board_t *self = *self_p;
    if (!self)
        return;
    family_t *family, *next_family;
    HASH_ITER(hh, self->families, family, next_family)
    {
        HASH_DELETE(hh, self->families, family);
        family_free(family);
    }
    source_t *source, *next_source;
    HASH_ITER(hh, self->sources, source, next_source)
    {
        HASH_DELETE(hh, self->sources, source);
        free(source->name);
        free(source);
    }
    free(self);
    *self_p = NULL;
}

/* ---- values --------------------------------------------------------------------------------- */

static void value_add(cm_metric_value_t *total, const cm_metric_value_t *more)
{
    total->number += more->number;
    for (size_t i = 0; i < CM_METRIC_BUCKETS; i++)
        total->counts[i] += more->counts[i];
}

static bool went_back(const cm_metric_value_t *before, const cm_metric_value_t *after)
{
    for (size_t i = 0; i < CM_METRIC_BUCKETS; i++)
        if (after->counts[i] < before->counts[i])
            return true;
    return false;
}

static bool is_current(const cell_t *cell)
{
    return cell->put == cell->source->puts;
}

/* Sum over all sources. False when no source shows the series any more: a gauge of the past. What
 * was counted stays counted, also when the actor is gone. */
static bool series_total(const series_t *series, cm_metric_kind_t kind,
                         cm_metric_value_t *ret_total)
{
    bool shown = false;
    *ret_total = (cm_metric_value_t){0};
    for (const cell_t *cell = series->cells; cell; cell = cell->next) {
        if (kind == CM_METRIC_GAUGE && !is_current(cell))
            continue;
        shown = true;
        value_add(ret_total, &cell->now);
        value_add(ret_total, &cell->former);
    }
    return shown;
}

static uint64_t observations(const cm_metric_value_t *value)
{
    uint64_t count = 0;
    for (size_t i = 0; i < CM_METRIC_BUCKETS; i++)
        count += value->counts[i];
    return count;
}

/* ---- taking a snapshot ---------------------------------------------------------------------- */

/* A valid frame, taken apart; `families` is checked in all its depth. */
typedef struct {
    cm_str_t source;
    uint64_t run;
    const msgpack_object_array *families;
} snapshot_t;

static bool is_array(const msgpack_object *object, uint32_t size)
{
    return object->type == MSGPACK_OBJECT_ARRAY && object->via.array.size == size;
}

static bool has_byte(cm_str_t text, char byte)
{
    return text.len > 0 && memchr(text.ptr, byte, text.len);
}

static cm_str_t text_of(const msgpack_object *object)
{
    return (cm_str_t){object->via.str.size ? object->via.str.ptr : "", object->via.str.size};
}

/* Text that can be kept as a C string. */
static bool is_text(const msgpack_object *object)
{
    return object->type == MSGPACK_OBJECT_STR && !has_byte(text_of(object), '\0');
}

static bool is_number(const msgpack_object *object)
{
    return object->type == MSGPACK_OBJECT_FLOAT64 || object->type == MSGPACK_OBJECT_FLOAT32;
}

static bool read_value(const msgpack_object *object, cm_metric_kind_t kind,
                       cm_metric_value_t *ret_value)
{
    *ret_value = (cm_metric_value_t){0};
    if (kind == CM_METRIC_COUNTER) {
        ret_value->counts[0] = object->via.u64;
        return object->type == MSGPACK_OBJECT_POSITIVE_INTEGER;
    }
    if (kind == CM_METRIC_GAUGE) {
        ret_value->number = object->via.f64;
        return is_number(object);
    }
    if (!is_array(object, 1 + CM_METRIC_BUCKETS))
        return false;
    const msgpack_object *parts = object->via.array.ptr;
    ret_value->number = parts[0].via.f64;
    for (size_t i = 0; i < CM_METRIC_BUCKETS; i++) {
        if (parts[1 + i].type != MSGPACK_OBJECT_POSITIVE_INTEGER)
            return false;
        ret_value->counts[i] = parts[1 + i].via.u64;
    }
    return is_number(&parts[0]);
}

static bool check_series(const msgpack_object *object, cm_metric_kind_t kind)
{
    if (!is_array(object, 2))
        return false;
    const msgpack_object *parts = object->via.array.ptr;
    cm_metric_value_t value;
    return is_text(&parts[0]) && !has_byte(text_of(&parts[0]), '\n') &&
           read_value(&parts[1], kind, &value);
}

static family_t *find_family(const cm_metrics_board_t *self, cm_str_t name)
{
    family_t *family;
    HASH_FIND(hh, self->families, name.ptr, name.len, family);
    return family;
}

static bool check_family(const cm_metrics_board_t *self, const msgpack_object *object)
{
    if (!is_array(object, 4))
        return false;
    const msgpack_object *parts = object->via.array.ptr;
    if (parts[0].type != MSGPACK_OBJECT_POSITIVE_INTEGER || parts[0].via.u64 > CM_METRIC_HISTOGRAM)
        return false;
    cm_metric_kind_t kind = (cm_metric_kind_t)parts[0].via.u64;
    if (!is_text(&parts[1]) || !is_text(&parts[2]) || parts[3].type != MSGPACK_OBJECT_ARRAY)
        return false;
    cm_str_t name = text_of(&parts[1]);
    const family_t *known = cm_metric_name_valid(name) ? find_family(self, name) : NULL;
    if (!cm_metric_name_valid(name) || (known && known->kind != kind))
        return false;
    for (uint32_t i = 0; i < parts[3].via.array.size; i++)
        if (!check_series(&parts[3].via.array.ptr[i], kind))
            return false;
    return true;
}

/* Twice in one frame, a family could be of two kinds. */
static bool named_before(const msgpack_object_array *families, uint32_t index)
{
    cm_str_t name = text_of(&families->ptr[index].via.array.ptr[1]);
    for (uint32_t i = 0; i < index; i++)
        if (cm_str_eq(text_of(&families->ptr[i].via.array.ptr[1]), name))
            return true;
    return false;
}

static bool read_snapshot(const cm_metrics_board_t *self, const msgpack_object *object,
                          snapshot_t *ret_snapshot)
{
    if (!is_array(object, 4))
        return false;
    const msgpack_object *parts = object->via.array.ptr;
    if (parts[0].type != MSGPACK_OBJECT_POSITIVE_INTEGER ||
        parts[0].via.u64 != CM_METRICS_FRAME_VERSION || !is_text(&parts[1]) ||
        parts[1].via.str.size == 0 || parts[2].type != MSGPACK_OBJECT_POSITIVE_INTEGER ||
        parts[3].type != MSGPACK_OBJECT_ARRAY)
        return false;
    const msgpack_object_array *families = &parts[3].via.array;
    for (uint32_t i = 0; i < families->size; i++)
        if (!check_family(self, &families->ptr[i]) || named_before(families, i))
            return false;
    *ret_snapshot = (snapshot_t){text_of(&parts[1]), parts[2].via.u64, families};
    return true;
}

static int family_order(const family_t *a, const family_t *b)
{
    return strcmp(a->name, b->name);
}

static int series_order(const series_t *a, const series_t *b)
{
    return strcmp(a->labels, b->labels);
}

static family_t *take_family(cm_metrics_board_t *self, cm_str_t name, cm_str_t help,
                             cm_metric_kind_t kind)
{
    family_t *family = find_family(self, name);
    if (!family) {
        family = new_zeroed(sizeof *family);
        family->name = copy_text(name);
        family->help = copy_text(help);
        family->kind = kind;
        HASH_ADD_KEYPTR_INORDER(hh, self->families, family->name, name.len, family, family_order);
    }
    return family;
}

static cell_t *take_cell(family_t *family, cm_str_t labels, const source_t *source)
{
    series_t *series;
    HASH_FIND(hh, family->series, labels.ptr, labels.len, series);
    if (!series) {
        series = new_zeroed(sizeof *series);
        series->labels = copy_text(labels);
        HASH_ADD_KEYPTR_INORDER(hh, family->series, series->labels, labels.len, series,
                                series_order);
    }
    cell_t *cell = series->cells;
    while (cell && cell->source != source)
        cell = cell->next;
    if (!cell) {
        cell = new_zeroed(sizeof *cell);
        cell->source = source;
        cell->next = series->cells;
        series->cells = cell;
    }
    return cell;
}

static void put_series(family_t *family, const source_t *source, const msgpack_object *object)
{
    const msgpack_object *parts = object->via.array.ptr;
    cell_t *cell = take_cell(family, text_of(&parts[0]), source);
    cm_metric_value_t value;
    bool fits = read_value(&parts[1], family->kind, &value);
    assert(fits); /* checked with the whole frame */
    (void)fits;
    if (family->kind != CM_METRIC_GAUGE && went_back(&cell->now, &value))
        value_add(&cell->former, &cell->now);
    cell->now = value;
    cell->put = source->puts;
}

/* A new life of the actor counts from zero, also what it has not counted yet. */
static void end_life(cm_metrics_board_t *self, const source_t *source)
{
    for (family_t *family = self->families; family; family = family->hh.next) {
        if (family->kind == CM_METRIC_GAUGE)
            continue;
        for (series_t *series = family->series; series; series = series->hh.next)
            for (cell_t *cell = series->cells; cell; cell = cell->next)
                if (cell->source == source) {
                    value_add(&cell->former, &cell->now);
                    cell->now = (cm_metric_value_t){0};
                }
    }
}

static void put_snapshot(cm_metrics_board_t *self, const snapshot_t *snapshot, int64_t now_ms)
{
    source_t *source;
    HASH_FIND(hh, self->sources, snapshot->source.ptr, snapshot->source.len, source);
    if (!source) {
        source = new_zeroed(sizeof *source);
        source->name = copy_text(snapshot->source);
        HASH_ADD_KEYPTR(hh, self->sources, source->name, snapshot->source.len, source);
    } else if (source->run != snapshot->run)
        end_life(self, source);
    source->run = snapshot->run;
    source->seen_ms = now_ms;
    source->puts++;
    for (uint32_t i = 0; i < snapshot->families->size; i++) {
        const msgpack_object *parts = snapshot->families->ptr[i].via.array.ptr;
        family_t *family = take_family(self, text_of(&parts[1]), text_of(&parts[2]),
                                       (cm_metric_kind_t)parts[0].via.u64);
        for (uint32_t s = 0; s < parts[3].via.array.size; s++)
            put_series(family, source, &parts[3].via.array.ptr[s]);
    }
}

cm_status_t cm_metrics_board_put(cm_metrics_board_t *self, const void *frame, size_t len,
                                 int64_t now_ms, cm_error_t *err)
{
    size_t used = 0;
    if (!cm_msgpack_check(frame, len, CM_MSGPACK_DEPTH, &used) || used != len)
        return cm_error_set(err, CM_PERMANENT, "malformed", "metrics frame is not one value");
    msgpack_unpacked unpacked;
    msgpack_unpacked_init(&unpacked);
    snapshot_t snapshot;
    size_t offset = 0;
    bool valid = msgpack_unpack_next(&unpacked, frame, len, &offset) == MSGPACK_UNPACK_SUCCESS &&
                 read_snapshot(self, &unpacked.data, &snapshot);
    if (valid)
        put_snapshot(self, &snapshot, now_ms);
    msgpack_unpacked_destroy(&unpacked);
    if (!valid)
        return cm_error_set(err, CM_PERMANENT, "malformed", "metrics frame is no snapshot");
    return CM_OK;
}

/* ---- asking --------------------------------------------------------------------------------- */

int64_t cm_metrics_board_age_ms(const cm_metrics_board_t *self, const char *source, int64_t now_ms)
{
    const source_t *found;
    HASH_FIND_STR(self->sources, source, found);
    return found ? now_ms - found->seen_ms : -1;
}

double cm_metrics_board_value(const cm_metrics_board_t *self, const char *name, const char *labels)
{
    const family_t *family = find_family(self, cm_str(name));
    const series_t *series = NULL;
    if (family)
        HASH_FIND_STR(family->series, labels, series);
    cm_metric_value_t total;
    if (!series || !series_total(series, family->kind, &total))
        return 0;
    return family->kind == CM_METRIC_GAUGE ? total.number : (double)observations(&total);
}

/* ---- text ----------------------------------------------------------------------------------- */

/* The same in both formats: a series must not change its name with the scraper's wishes. */
static const char *const bound_texts[CM_METRIC_BUCKETS] = {
    "0.005", "0.01", "0.025", "0.05", "0.075", "0.1",  "0.25", "0.5",
    "0.75",  "1.0",  "2.5",   "5.0",  "7.5",   "10.0", "+Inf"};

static void put_number(cm_buffer_t *out, double number)
{
    char text[32];
    if (isnan(number) || isinf(number)) {
        cm_buffer_printf(out, "%s\n", isnan(number) ? "NaN" : number > 0 ? "+Inf" : "-Inf");
        return;
    }
    snprintf(text, sizeof text, "%.15g", number); /* as short as reads back the same */
    if (strtod(text, NULL) != number)
        snprintf(text, sizeof text, "%.17g", number);
    cm_buffer_printf(out, "%s\n", text);
}

static void put_histogram(cm_buffer_t *out, const char *name, const char *labels,
                          const cm_metric_value_t *value)
{
    const char *comma = *labels ? "," : "", *open = *labels ? "{" : "", *close = *labels ? "}" : "";
    uint64_t cumulated = 0;
    for (size_t i = 0; i < CM_METRIC_BUCKETS; i++) {
        cumulated += value->counts[i];
        cm_buffer_printf(out, "%s_bucket{%s%sle=\"%s\"} %" PRIu64 "\n", name, labels, comma,
                         bound_texts[i], cumulated);
    }
    cm_buffer_printf(out, "%s_sum%s%s%s ", name, open, labels, close);
    put_number(out, value->number);
    cm_buffer_printf(out, "%s_count%s%s%s %" PRIu64 "\n", name, open, labels, close, cumulated);
}

/* OpenMetrics names a counter without "_total", and its sample with it. */
static size_t counter_base_len(const char *name)
{
    size_t len = strlen(name), suffix = strlen("_total");
    return len > suffix && strcmp(name + len - suffix, "_total") == 0 ? len - suffix : len;
}

static void put_head(cm_buffer_t *out, const family_t *family, int name_len)
{
    static const char *const kinds[] = {"counter", "gauge", "histogram"};
    cm_buffer_printf(out, "# HELP %.*s ", name_len, family->name);
    for (const char *c = family->help; *c; c++)
        if (*c == '\n' || *c == '\\')
            cm_buffer_append(out, *c == '\n' ? "\\n" : "\\\\", 2);
        else
            cm_buffer_append(out, c, 1);
    cm_buffer_printf(out, "\n# TYPE %.*s %s\n", name_len, family->name, kinds[family->kind]);
}

static void put_sample(cm_buffer_t *out, const family_t *family, const char *suffix,
                       const char *labels, const cm_metric_value_t *value)
{
    if (family->kind == CM_METRIC_HISTOGRAM) {
        put_histogram(out, family->name, labels, value);
        return;
    }
    cm_buffer_printf(out, "%s%s%s%s%s ", family->name, suffix, *labels ? "{" : "", labels,
                     *labels ? "}" : "");
    if (family->kind == CM_METRIC_COUNTER)
        cm_buffer_printf(out, "%" PRIu64 "\n", value->counts[0]);
    else
        put_number(out, value->number);
}

static void put_family(cm_buffer_t *out, const family_t *family, int openmetrics)
{
    size_t name_len = strlen(family->name);
    const char *suffix = "";
    if (openmetrics && family->kind == CM_METRIC_COUNTER) {
        size_t base_len = counter_base_len(family->name);
        suffix = base_len == name_len ? "_total" : "";
        name_len = base_len;
    }
    bool headed = false;
    for (const series_t *series = family->series; series; series = series->hh.next) {
        cm_metric_value_t total;
        if (!series_total(series, family->kind, &total))
            continue;
        if (!headed)
            put_head(out, family, (int)name_len);
        headed = true;
        put_sample(out, family, suffix, series->labels, &total);
    }
}

void cm_metrics_board_render(const cm_metrics_board_t *self, int openmetrics, cm_buffer_t *out)
{
    for (const family_t *family = self->families; family; family = family->hh.next)
        put_family(out, family, openmetrics);
    if (openmetrics)
        cm_buffer_printf(out, "# EOF\n");
}
