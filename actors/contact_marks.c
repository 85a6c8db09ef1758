#include "actors/contact_marks.h"

#include "runtime/cleanup.h"
#include "schema/job_checkpoint.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { LIST_PAGE = 1000, ARENA_BYTES = 64 << 10, NO_RUN = -1 };

static const cm_contact_counts_t no_counts = {.billed = CM_CONTACT_MS_NONE};

/* ---- one ------------------------------------------------------------------------------------- */

void cm_contact_mark_set_source(cm_contact_mark_t *self, const char *checkpoint)
{
    char *copy = checkpoint ? strdup(checkpoint) : NULL;
    if (checkpoint && !copy)
        abort();
    free(self->source);
    self->source = copy;
    self->dirty = true;
}

void cm_contact_mark_begin(cm_contact_mark_t *self, int64_t run_id, int64_t now_ms,
                           int64_t since_ms)
{
    cm_contact_mark_set_source(self, NULL);
    self->pass = run_id ? run_id : NO_RUN;
    self->resumed = 0;
    self->counted_run = run_id;
    self->begun_ms = now_ms;
    self->since_ms = since_ms;
    self->newest_ms = CM_CONTACT_MS_NONE;
    self->counts = no_counts;
}

void cm_contact_mark_go_on(cm_contact_mark_t *self, int64_t run_id)
{
    self->resumed++;
    self->dirty = true;
    if (self->counted_run == run_id)
        return;
    self->counted_run = run_id;
    self->counts = no_counts;
}

bool cm_contact_mark_is_of(const cm_contact_mark_t *customer, const cm_contact_mark_t *whole)
{
    return customer->pass == whole->pass && customer->resumed == whole->resumed;
}

void cm_contact_mark_drop(cm_contact_mark_t *self)
{
    cm_contact_mark_set_source(self, NULL);
    self->pass = 0;
}

void cm_contact_mark_raise(cm_contact_mark_t *self, const cm_contact_mark_t *pass, int64_t ms)
{
    if (ms > pass->begun_ms)
        ms = pass->begun_ms;
    if (ms <= self->watermark_ms)
        return;
    self->watermark_ms = ms;
    self->dirty = true;
}

void cm_contact_mark_end(cm_contact_mark_t *self, int64_t run_id)
{
    cm_contact_mark_raise(self, self, self->newest_ms);
    self->done_run = run_id;
    cm_contact_mark_drop(self);
}

void cm_contact_counts_add(cm_contact_counts_t *self, const cm_contact_counts_t *more)
{
    self->published += more->published;
    self->known += more->known;
    self->strangers += more->strangers;
    self->malformed += more->malformed;
    self->pages += more->pages;
    if (more->billed != CM_CONTACT_MS_NONE)
        self->billed = (self->billed == CM_CONTACT_MS_NONE ? 0 : self->billed) + more->billed;
}

#define NUMBER "%" PRId64 " "
#define FORM                                                                                       \
    "2 %016" PRIx64 " " NUMBER NUMBER NUMBER NUMBER NUMBER NUMBER NUMBER NUMBER NUMBER NUMBER      \
        NUMBER NUMBER NUMBER NUMBER NUMBER
#define SCAN_NUMBER "%" SCNd64 " "
#define SCAN                                                                                       \
    "2 %" SCNx64 " " SCAN_NUMBER SCAN_NUMBER SCAN_NUMBER SCAN_NUMBER SCAN_NUMBER SCAN_NUMBER       \
        SCAN_NUMBER SCAN_NUMBER SCAN_NUMBER SCAN_NUMBER SCAN_NUMBER SCAN_NUMBER SCAN_NUMBER        \
            SCAN_NUMBER SCAN_NUMBER "%n"

void cm_contact_mark_put(const cm_contact_mark_t *self, uint64_t digest, cm_buffer_t *out)
{
    const cm_contact_counts_t *counts = &self->counts;
    cm_buffer_printf(out, FORM "%s", digest, self->generation, self->watermark_ms, self->done_run,
                     self->pass, self->resumed, self->counted_run, self->begun_ms, self->since_ms,
                     self->newest_ms, counts->published, counts->known, counts->strangers,
                     counts->malformed, counts->pages, counts->billed,
                     self->source ? self->source : "");
}

bool cm_contact_mark_read(cm_contact_mark_t *self, uint64_t digest, cm_str_t text)
{
    char copy[CM_JOB_CHECKPOINT_MAX + 1];
    uint64_t told = 0;
    int len = 0;
    cm_contact_mark_t read = *self;
    cm_contact_counts_t *counts = &read.counts;
    snprintf(copy, sizeof copy, "%.*s", CM_STR_ARG(text));
    if (sscanf(copy, SCAN, &told, &read.generation, &read.watermark_ms, &read.done_run, &read.pass,
               &read.resumed, &read.counted_run, &read.begun_ms, &read.since_ms, &read.newest_ms,
               &counts->published, &counts->known, &counts->strangers, &counts->malformed,
               &counts->pages, &counts->billed, &len) != 16 ||
        len == 0 || told != digest || read.generation != self->generation)
        return false;
    *self = read;
    if (copy[len])
        cm_contact_mark_set_source(self, copy + len);
    self->dirty = false;
    return true;
}

/* ---- all of them ----------------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
    return strcmp(((const cm_contact_mark_t *)a)->tenant, ((const cm_contact_mark_t *)b)->tenant);
}

cm_contact_mark_t *cm_contact_marks_find(const cm_contact_marks_t *self, const char *customer)
{
    cm_contact_mark_t key;
    snprintf(key.tenant, sizeof key.tenant, "%s", customer);
    return self->count ? bsearch(&key, self->customers, self->count, sizeof key, compare) : NULL;
}

static cm_contact_mark_t fresh(const char *tenant, int64_t generation)
{
    cm_contact_mark_t mark = {.generation = generation,
                              .watermark_ms = CM_CONTACT_MS_NONE,
                              .newest_ms = CM_CONTACT_MS_NONE,
                              .counts = no_counts};
    snprintf(mark.tenant, sizeof mark.tenant, "%s", tenant);
    return mark;
}

static void add(cm_contact_marks_t *self, const cm_tenant_t *tenants, size_t count)
{
    self->customers = realloc(self->customers, (self->count + count + 1) * sizeof *self->customers);
    if (!self->customers)
        abort();
    for (size_t i = 0; i < count; i++)
        self->customers[self->count++] = fresh(tenants[i].id, tenants[i].generation);
}

static cm_status_t list_active(cm_contact_marks_t *self, cm_pg_t *pg, const char *admin_schema,
                               cm_error_t *err)
{
    char after[CM_TENANT_ID_MAX] = "";
    for (size_t count = LIST_PAGE; count == LIST_PAGE;) {
        CM_CLEANUP(cm_free) cm_tenant_t *tenants = NULL;
        cm_status_t status = cm_tenant_registry_list(pg, admin_schema, true, CM_TENANT_ACTIVE,
                                                     after, LIST_PAGE, &tenants, &count, err);
        if (status != CM_OK)
            return status;
        add(self, tenants, count);
        if (count)
            snprintf(after, sizeof after, "%s", tenants[count - 1].id);
    }
    qsort(self->customers, self->count, sizeof *self->customers, compare);
    return CM_OK;
}

static cm_status_t find_one(cm_contact_marks_t *self, cm_pg_t *pg, const char *admin_schema,
                            const char *only, cm_error_t *err)
{
    cm_tenant_t tenant;
    cm_status_t status = cm_tenant_registry_get(pg, admin_schema, only, &tenant, err);
    if (status != CM_OK && status != CM_MISSING)
        return status;
    if (status == CM_MISSING || tenant.state != CM_TENANT_ACTIVE)
        return cm_error_set(err, CM_PERMANENT, "not-active", "tenant %s is not active", only);
    add(self, &tenant, 1);
    return CM_OK;
}

cm_status_t cm_contact_marks_load(cm_contact_marks_t *self, cm_pg_t *pg, const char *admin_schema,
                                  const char *only, uint64_t digest, cm_error_t *err)
{
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(ARENA_BYTES);
    cm_job_checkpoint_t *found = NULL;
    size_t count = 0;
    self->digest = digest;
    self->whole = fresh("", 0);
    cm_status_t status = only ? find_one(self, pg, admin_schema, only, err)
                              : list_active(self, pg, admin_schema, err);
    if (status == CM_OK)
        status =
            cm_job_checkpoints_load(pg, admin_schema, CM_CONTACT_JOB, arena, &found, &count, err);
    for (size_t i = 0; status == CM_OK && i < count; i++) {
        char tenant[CM_TENANT_ID_MAX];
        snprintf(tenant, sizeof tenant, "%.*s", CM_STR_ARG(found[i].tenant));
        cm_contact_mark_t *mark = tenant[0] ? cm_contact_marks_find(self, tenant) : &self->whole;
        if (mark)
            cm_contact_mark_read(mark, digest, found[i].checkpoint);
    }
    return status;
}

static void forget(cm_contact_mark_t *mark)
{
    free(mark->source);
    free(mark->failure);
}

void cm_contact_marks_destroy(cm_contact_marks_t *self)
{
    forget(&self->whole);
    for (size_t i = 0; i < self->count; i++)
        forget(&self->customers[i]);
    free(self->customers);
    *self = (cm_contact_marks_t){0};
}

/* Where 0 is the whole. */
static cm_contact_mark_t *at(cm_contact_marks_t *self, size_t place)
{
    return place ? &self->customers[place - 1] : &self->whole;
}

cm_status_t cm_contact_marks_save(cm_contact_marks_t *self, cm_pg_t *pg, const char *admin_schema,
                                  const cm_lease_t *lease, cm_error_t *err)
{
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(ARENA_BYTES);
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t text = {0};
    size_t count = 0;
    cm_job_checkpoint_t *changed = cm_arena_alloc(arena, (self->count + 1) * sizeof *changed);
    for (size_t i = 0; i <= self->count; i++) {
        const cm_contact_mark_t *mark = at(self, i);
        if (!mark->dirty)
            continue;
        cm_buffer_clear(&text);
        cm_contact_mark_put(mark, self->digest, &text);
        changed[count++] = (cm_job_checkpoint_t){
            cm_str(mark->tenant), cm_arena_copy(arena, (cm_str_t){text.data, text.len})};
    }
    cm_status_t status = cm_job_checkpoints_save(pg, admin_schema, lease, changed, count, err);
    for (size_t i = 0; status == CM_OK && i <= self->count; i++)
        at(self, i)->dirty = false;
    return status;
}
