#include "runtime/metrics.h"

#include "runtime/clock.h"
#include "runtime/metrics_private.h"

#include <assert.h>
#include <math.h>
#include <msgpack.h>
#include <string.h>

const double cm_metric_bounds[CM_METRIC_BOUNDS] = {0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25,
                                                   0.5,   0.75, 1,     2.5,  5,     7.5, 10};

struct cm_metric {
    char *labels;
    cm_metric_kind_t kind;
    cm_metric_value_t value;
    UT_hash_handle hh; /* by labels, in its family */
};

typedef struct {
    char *name, *help;
    cm_metric_kind_t kind;
    cm_metric_t *series;
    UT_hash_handle hh; /* by name */
} family_t;

struct cm_metrics {
    char *source;
    uint64_t run;
    family_t *families;
};

static void *new_zeroed(size_t size)
{
    void *memory = calloc(1, size);
    if (!memory)
        abort();
    return memory;
}

static char *copy_text(const char *text)
{
    char *copy = strdup(text);
    if (!copy)
        abort();
    return copy;
}

cm_metrics_t *cm_metrics_new(const char *source)
{
    cm_metrics_t *self = new_zeroed(sizeof *self);
    self->source = copy_text(source);
    self->run = cm_random_u64();
    return self;
}

static void family_free(family_t *family)
{
    cm_metric_t *metric, *next;
    HASH_ITER(hh, family->series, metric, next)
    {
        HASH_DELETE(hh, family->series, metric);
        free(metric->labels);
        free(metric);
    }
    free(family->name);
    free(family->help);
    free(family);
}

void cm_metrics_destroy(cm_metrics_t **self_p)
{
    cm_metrics_t *self = *self_p;
    if (!self)
        return;
    family_t *family, *next;
    HASH_ITER(hh, self->families, family, next)
    {
        HASH_DELETE(hh, self->families, family);
        family_free(family);
    }
    free(self->source);
    free(self);
    *self_p = NULL;
}

/* ---- registering ---------------------------------------------------------------------------- */

bool cm_metric_name_valid(cm_str_t name)
{
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == ':';
        if (!letter && (i == 0 || c < '0' || c > '9'))
            return false;
    }
    return name.len > 0;
}

static family_t *find_family(cm_metrics_t *self, cm_metric_kind_t kind, const char *name,
                             const char *help)
{
    assert(cm_metric_name_valid(cm_str(name)));
    family_t *family;
    HASH_FIND_STR(self->families, name, family);
    if (!family) {
        family = new_zeroed(sizeof *family);
        family->name = copy_text(name);
        family->help = copy_text(help);
        family->kind = kind;
        HASH_ADD_KEYPTR(hh, self->families, family->name, strlen(name), family);
    }
    assert(family->kind == kind && strcmp(family->help, help) == 0);
    return family;
}

static cm_metric_t *find_series(cm_metrics_t *self, cm_metric_kind_t kind, const char *name,
                                const char *help, const char *labels)
{
    family_t *family = find_family(self, kind, name, help);
    cm_metric_t *metric;
    HASH_FIND_STR(family->series, labels, metric);
    if (!metric) {
        metric = new_zeroed(sizeof *metric);
        metric->labels = copy_text(labels);
        metric->kind = kind;
        HASH_ADD_KEYPTR(hh, family->series, metric->labels, strlen(labels), metric);
    }
    return metric;
}

cm_metric_t *cm_metrics_counter(cm_metrics_t *self, const char *name, const char *help,
                                const char *labels)
{
    return find_series(self, CM_METRIC_COUNTER, name, help, labels);
}

cm_metric_t *cm_metrics_gauge(cm_metrics_t *self, const char *name, const char *help,
                              const char *labels)
{
    return find_series(self, CM_METRIC_GAUGE, name, help, labels);
}

cm_metric_t *cm_metrics_histogram(cm_metrics_t *self, const char *name, const char *help,
                                  const char *labels)
{
    return find_series(self, CM_METRIC_HISTOGRAM, name, help, labels);
}

void cm_metrics_label(cm_buffer_t *labels, const char *name, const char *value)
{
    cm_buffer_printf(labels, "%s%s=\"", labels->len ? "," : "", name);
    for (const char *c = value; *c; c++) {
        if (*c == '"' || *c == '\\')
            cm_buffer_append(labels, "\\", 1);
        cm_buffer_append(labels, *c == '\n' ? "\\n" : c, *c == '\n' ? 2 : 1);
    }
    cm_buffer_append(labels, "\"", 1);
}

/* ---- counting ------------------------------------------------------------------------------- */

void cm_metric_add(cm_metric_t *self, uint64_t count)
{
    assert(self->kind == CM_METRIC_COUNTER);
    self->value.counts[0] += count;
}

void cm_metric_set(cm_metric_t *self, double value)
{
    assert(self->kind == CM_METRIC_GAUGE);
    self->value.number = value;
}

void cm_metric_observe(cm_metric_t *self, double seconds)
{
    assert(self->kind == CM_METRIC_HISTOGRAM);
    if (isnan(seconds))
        return;
    if (seconds < 0) /* a wall clock stepped back; a negative sum would look like a restart */
        seconds = 0;
    size_t bucket = 0;
    while (bucket < CM_METRIC_BOUNDS && seconds > cm_metric_bounds[bucket])
        bucket++;
    self->value.counts[bucket]++;
    self->value.number += seconds;
}

uint64_t cm_metric_count(const cm_metric_t *self)
{
    uint64_t count = 0;
    for (size_t i = 0; i < CM_METRIC_BUCKETS; i++)
        count += self->value.counts[i];
    return count;
}

/* ---- the frame ------------------------------------------------------------------------------ */

static int append_packed(void *buffer, const char *bytes, size_t len)
{
    cm_buffer_append(buffer, bytes, len);
    return 0;
}

static void pack_text(msgpack_packer *packer, const char *text)
{
    msgpack_pack_str_with_body(packer, text, strlen(text));
}

static void pack_value(msgpack_packer *packer, const cm_metric_t *metric)
{
    if (metric->kind == CM_METRIC_COUNTER) {
        msgpack_pack_uint64(packer, metric->value.counts[0]);
    } else if (metric->kind == CM_METRIC_GAUGE) {
        msgpack_pack_double(packer, metric->value.number);
    } else {
        msgpack_pack_array(packer, 1 + CM_METRIC_BUCKETS);
        msgpack_pack_double(packer, metric->value.number);
        for (size_t i = 0; i < CM_METRIC_BUCKETS; i++)
            msgpack_pack_uint64(packer, metric->value.counts[i]);
    }
}

static void pack_family(msgpack_packer *packer, const family_t *family)
{
    msgpack_pack_array(packer, 4);
    msgpack_pack_int(packer, family->kind);
    pack_text(packer, family->name);
    pack_text(packer, family->help);
    msgpack_pack_array(packer, HASH_COUNT(family->series));
    for (const cm_metric_t *metric = family->series; metric; metric = metric->hh.next) {
        msgpack_pack_array(packer, 2);
        pack_text(packer, metric->labels);
        pack_value(packer, metric);
    }
}

void cm_metrics_encode(const cm_metrics_t *self, cm_buffer_t *out)
{
    msgpack_packer packer;
    msgpack_packer_init(&packer, out, append_packed);
    msgpack_pack_array(&packer, 4);
    msgpack_pack_int(&packer, CM_METRICS_FRAME_VERSION);
    pack_text(&packer, self->source);
    msgpack_pack_uint64(&packer, self->run);
    msgpack_pack_array(&packer, HASH_COUNT(self->families));
    for (const family_t *family = self->families; family; family = family->hh.next)
        pack_family(&packer, family);
}
