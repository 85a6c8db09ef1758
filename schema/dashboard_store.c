#include "schema/dashboard_store.h"
#include "runtime/buffer.h"
#include "runtime/cleanup.h"
#include "schema/dashboard_sql.h"
#include "schema/orphan_store.h"
#include "schema/sql.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    TOP = 10,
    REFERENCE_MAX_AGE_S = CM_ORPHAN_DAY_S,
    KEEP_RUNS_DAYS = 14,
    KEEP_DAYS = 400,
    PRUNE_MAX = 50000, /* rows of the history a transaction */
    NUMBER_MAX = 24
};

/* Values of a JSON array, to be ended. */
typedef struct {
    cm_buffer_t text;
    size_t count;
} array_t;

struct cm_dashboard {
    cm_pg_t *admin;
    cm_dashboard_options_t options; /* with the defaults in place */
    cm_dashboard_totals_t totals;
    array_t rows, problems; /* measured and not committed */
    int64_t devices;        /* of rows */
};

/* ---- small things --------------------------------------------------------------------------- */

static void array_add(array_t *self, const char *value)
{
    cm_buffer_printf(&self->text, "%s", self->count++ ? "," : "[");
    cm_buffer_append(&self->text, value, strlen(value));
}

static const char *array_end(array_t *self)
{
    cm_buffer_printf(&self->text, "%s", self->count ? "]" : "[]");
    return cm_buffer_text(&self->text);
}

static void array_clear(array_t *self)
{
    cm_buffer_clear(&self->text);
    self->count = 0;
}

static void array_destroy(array_t *self)
{
    cm_buffer_destroy(&self->text);
    self->count = 0;
}

static const char *number(int64_t value, char text[NUMBER_MAX])
{
    snprintf(text, NUMBER_MAX, "%" PRId64, value);
    return text;
}

static cm_status_t ask(cm_dashboard_t *self, cm_pg_t *pg, const char *sql, const char *schema,
                       int count, const char *const *values, PGresult **ret_result, cm_error_t *err)
{
    self->totals.queries++;
    return cm_sql_query(pg, sql, schema, count, values, ret_result, err);
}

static cm_status_t ask_admin(cm_dashboard_t *self, const char *sql, int count,
                             const char *const *values, PGresult **ret_result, cm_error_t *err)
{
    return ask(self, self->admin, sql, self->options.admin_schema, count, values, ret_result, err);
}

/* A transaction that writes: begun and fenced. What its statements see of the registry must be
 * newer than their locks, whatever the server's default is: see tenant_purge.c. */
static cm_status_t open_write(cm_dashboard_t *self, cm_error_t *err)
{
    cm_status_t status = cm_pg_begin(self->admin, err);
    if (status == CM_OK)
        status = cm_pg_exec(self->admin, "SET TRANSACTION ISOLATION LEVEL READ COMMITTED", err);
    if (status == CM_OK && self->options.fence)
        status = self->options.fence(self->options.ctx, self->admin, err);
    return status;
}

/* Its end: status of what went before, or of the commit. */
static cm_status_t close_write(cm_dashboard_t *self, cm_status_t status, cm_error_t *err)
{
    if (status == CM_OK)
        status = cm_pg_commit(self->admin, err);
    if (status != CM_OK)
        cm_pg_rollback(self->admin);
    return status;
}

/* One statement as a transaction; *ret_number (may be NULL): its first value. */
static cm_status_t write_one(cm_dashboard_t *self, const char *sql, int count,
                             const char *const *values, int64_t *ret_number, cm_error_t *err)
{
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_status_t status = open_write(self, err);
    if (status == CM_OK)
        status = ask_admin(self, sql, count, values, &result, err);
    status = close_write(self, status, err);
    if (status == CM_OK && ret_number)
        *ret_number = cm_pg_i64(result, 0, 0);
    return status;
}

/* ---- life ----------------------------------------------------------------------------------- */

cm_dashboard_t *cm_dashboard_new(cm_pg_t *admin, const cm_dashboard_options_t *options)
{
    cm_dashboard_t *self = calloc(1, sizeof *self);
    if (!self)
        abort();
    assert(options->admin_schema && options->sample >= 0 && options->sample <= 256);
    self->admin = admin;
    self->options = *options;
    cm_dashboard_options_t *o = &self->options;
    o->orphan_age_s = o->orphan_age_s ? o->orphan_age_s : CM_ORPHAN_AGE_DEFAULT_S;
    o->top = o->top ? o->top : TOP;
    o->reference_max_age_s = o->reference_max_age_s ? o->reference_max_age_s : REFERENCE_MAX_AGE_S;
    o->keep_runs_days = o->keep_runs_days ? o->keep_runs_days : KEEP_RUNS_DAYS;
    o->keep_days = o->keep_days ? o->keep_days : KEEP_DAYS;
    return self;
}

void cm_dashboard_destroy(cm_dashboard_t **self_p)
{
    if (*self_p) {
        array_destroy(&(*self_p)->rows);
        array_destroy(&(*self_p)->problems);
        free(*self_p);
    }
    *self_p = NULL;
}

cm_dashboard_totals_t cm_dashboard_totals(const cm_dashboard_t *self)
{
    return self->totals;
}

/* ---- all tenants ---------------------------------------------------------------------------- */

cm_status_t cm_dashboard_begin(cm_dashboard_t *self, cm_pg_t *const *databases, size_t count,
                               cm_error_t *err)
{
    CM_CLEANUP(array_destroy) array_t catalogs = {.count = 0};
    cm_status_t status = CM_OK;
    for (size_t i = 0; status == CM_OK && i < count; i++) {
        CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
        status = ask(self, databases[i], cm_dashboard_sql_catalog, "", 0, NULL, &result, err);
        if (status == CM_OK)
            array_add(&catalogs, cm_pg_text(result, 0, 0));
    }
    if (status != CM_OK)
        return status;
    const char *values[] = {array_end(&catalogs)};
    status = open_write(self, err);
    if (status == CM_OK)
        status = ask_admin(self, cm_dashboard_sql_forget, 0, NULL, NULL, err);
    if (status == CM_OK)
        status = ask_admin(self, cm_dashboard_sql_list, 1, values, NULL, err);
    return close_write(self, status, err);
}

cm_status_t cm_dashboard_tenants(cm_dashboard_t *self, const char *after, size_t limit,
                                 cm_dashboard_tenant_t **ret_tenants, size_t *ret_count,
                                 cm_error_t *err)
{
    char room[NUMBER_MAX];
    const char *values[] = {after, number((int64_t)limit, room), self->options.only};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_status_t status = ask_admin(self, cm_dashboard_sql_tenants, 3, values, &result, err);
    if (status != CM_OK)
        return status;
    *ret_count = (size_t)PQntuples(result);
    *ret_tenants = calloc(*ret_count ? *ret_count : 1, sizeof **ret_tenants);
    if (!*ret_tenants)
        abort();
    for (size_t i = 0; i < *ret_count; i++) {
        cm_dashboard_tenant_t *tenant = &(*ret_tenants)[i];
        snprintf(tenant->id, sizeof tenant->id, "%s", cm_pg_text(result, (int)i, 0));
        tenant->state = strcmp(cm_pg_text(result, (int)i, 1), "active") == 0 ? CM_TENANT_ACTIVE
                                                                             : CM_TENANT_SUSPENDED;
        tenant->is_whole = strcmp(cm_pg_text(result, (int)i, 2), "t") == 0;
    }
    return CM_OK;
}

cm_status_t cm_dashboard_census(cm_dashboard_t *self, const char *after,
                                cm_dashboard_census_t *ret_census, cm_error_t *err)
{
    const char *values[] = {after, self->options.only};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_status_t status = ask_admin(self, cm_dashboard_sql_census, 2, values, &result, err);
    if (status == CM_OK)
        *ret_census = (cm_dashboard_census_t){cm_pg_i64(result, 0, 0), cm_pg_i64(result, 0, 1),
                                              cm_pg_i64(result, 0, 2), cm_pg_i64(result, 0, 3)};
    return status;
}

/* ---- one tenant ----------------------------------------------------------------------------- */

static void note_problem(cm_dashboard_t *self, const char *tenant)
{
    char text[CM_TENANT_ID_MAX + 2]; /* an id has nothing to escape */
    snprintf(text, sizeof text, "\"%s\"", tenant);
    array_add(&self->problems, text);
    self->totals.problems++;
}

cm_status_t cm_dashboard_measure(cm_dashboard_t *self, cm_pg_t *database, const char *tenant,
                                 cm_error_t *err)
{
    const cm_dashboard_options_t *o = &self->options;
    char schema[CM_TENANT_SCHEMA_MAX], age[NUMBER_MAX], top[NUMBER_MAX], sample[NUMBER_MAX];
    const char *values[] = {tenant, number(o->orphan_age_s, age), number(o->top, top),
                            number(o->sample, sample)};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_status_t status = ask(
        self, database, o->sample ? cm_dashboard_sql_measure_checksum : cm_dashboard_sql_measure,
        cm_tenant_id_schema(tenant, schema), o->sample ? 4 : 3, values, &result, err);
    if (status == CM_MISSING)
        note_problem(self, tenant);
    if (status != CM_OK)
        return status;
    array_add(&self->rows, cm_pg_text(result, 0, 0));
    self->devices += cm_pg_i64(result, 0, 1);
    return self->rows.count < CM_DASHBOARD_FLUSH_AT ? CM_OK : cm_dashboard_flush(self, err);
}

/* ---- keeping -------------------------------------------------------------------------------- */

static cm_status_t flush_rows(cm_dashboard_t *self, cm_error_t *err)
{
    char age[NUMBER_MAX];
    if (self->rows.count == 0)
        return CM_OK;
    /* The end is taken off again: when this fails, more is added and it is tried again. */
    size_t len = self->rows.text.len;
    const char *values[] = {array_end(&self->rows), number(self->options.reference_max_age_s, age)};
    cm_status_t status = write_one(self, cm_dashboard_sql_keep, 2, values, NULL, err);
    self->rows.text.len = len;
    if (status != CM_OK)
        return status;
    self->totals.tenants += (int64_t)self->rows.count;
    self->totals.devices += self->devices;
    self->devices = 0;
    array_clear(&self->rows);
    return CM_OK;
}

cm_status_t cm_dashboard_flush(cm_dashboard_t *self, cm_error_t *err)
{
    cm_status_t status = flush_rows(self, err);
    if (status != CM_OK || self->problems.count == 0)
        return status;
    size_t len = self->problems.text.len;
    const char *values[] = {array_end(&self->problems)};
    status = write_one(self, cm_dashboard_sql_keep_problems, 1, values, NULL, err);
    self->problems.text.len = len;
    if (status == CM_OK)
        array_clear(&self->problems);
    return status;
}

/* ---- the history ---------------------------------------------------------------------------- */

static cm_status_t prune(cm_dashboard_t *self, cm_error_t *err)
{
    char runs[NUMBER_MAX], days[NUMBER_MAX], most[NUMBER_MAX];
    const char *values[] = {number(self->options.keep_runs_days, runs),
                            number(self->options.keep_days, days), number(PRUNE_MAX, most)};
    int64_t gone = PRUNE_MAX;
    cm_status_t status = CM_OK;
    while (status == CM_OK && gone >= PRUNE_MAX) {
        status = write_one(self, cm_dashboard_sql_prune, 3, values, &gone, err);
        if (status == CM_OK)
            self->totals.pruned += gone;
    }
    return status;
}

cm_status_t cm_dashboard_finish(cm_dashboard_t *self, cm_error_t *err)
{
    cm_status_t status = cm_dashboard_flush(self, err);
    if (status == CM_OK)
        status = write_one(self, cm_dashboard_sql_remember, 0, NULL, NULL, err);
    return status == CM_OK ? prune(self, err) : status;
}

/* ---- references ----------------------------------------------------------------------------- */

static void add_reference(array_t *array, const cm_sync_reference_t *reference)
{
    char text[CM_TENANT_ID_MAX + 128], checksum[NUMBER_MAX], ms[NUMBER_MAX];
    snprintf(text, sizeof text,
             "{\"tenant\":\"%s\",\"devices\":%" PRId64 ",\"checksum\":%s,\"ms\":%s}",
             reference->tenant, reference->devices,
             reference->has_checksum ? number(reference->checksum, checksum) : "null",
             reference->counted_ms ? number(reference->counted_ms, ms) : "null");
    array_add(array, text);
}

static cm_status_t put_array(cm_dashboard_t *self, array_t *array, cm_error_t *err)
{
    const char *values[] = {array_end(array)};
    return write_one(self, cm_dashboard_sql_put, 1, values, NULL, err);
}

cm_status_t cm_dashboard_reference_put(cm_dashboard_t *self, const cm_sync_reference_t *references,
                                       size_t count, cm_error_t *err)
{
    CM_CLEANUP(array_destroy) array_t array = {.count = 0};
    for (size_t i = 0; i < count; i++)
        add_reference(&array, &references[i]);
    return put_array(self, &array, err);
}

static cm_status_t read_only(cm_dashboard_t *self, cm_pg_t *source, const char *query,
                             PGresult **ret_result, cm_error_t *err)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t sql = {0};
    cm_buffer_printf(&sql, "%s%s%s", cm_dashboard_sql_query_head, query,
                     cm_dashboard_sql_query_tail);
    cm_status_t status = cm_pg_begin(source, err);
    if (status == CM_OK)
        status = cm_pg_exec(source, "SET TRANSACTION READ ONLY", err);
    self->totals.queries++;
    if (status == CM_OK)
        status = cm_pg_query(source, cm_buffer_text(&sql), 0, NULL, ret_result, err);
    cm_pg_rollback(source);
    return status;
}

static cm_status_t read_row(const PGresult *result, int row, cm_sync_reference_t *ret_reference,
                            cm_error_t *err)
{
    *ret_reference = (cm_sync_reference_t){.devices = cm_pg_i64(result, row, 1),
                                           .has_checksum = !PQgetisnull(result, row, 2),
                                           .checksum = cm_pg_i64(result, row, 2),
                                           .counted_ms = cm_pg_i64(result, row, 3)};
    if (!PQgetisnull(result, row, 1) && ret_reference->devices >= 0 &&
        cm_tenant_id_canonical(cm_str(cm_pg_text(result, row, 0)), ret_reference->tenant, NULL) ==
            CM_OK)
        return CM_OK;
    return cm_error_set(err, CM_PERMANENT, "sync-reference",
                        "row %d of the query for counts holds no tenant or no count", row + 1);
}

/* Not of the server or the moment. 25006: it writes; 0A000: it does in a way that has no place
 * here. */
static bool is_of_the_query(const cm_error_t *err)
{
    return err->status == CM_PERMANENT || err->status == CM_MISSING ||
           err->status == CM_MISCONFIGURED || strcmp(err->code, "25006") == 0 ||
           strcmp(err->code, "0A000") == 0;
}

cm_status_t cm_dashboard_reference_query(cm_dashboard_t *self, cm_pg_t *source, const char *query,
                                         size_t *ret_count, cm_error_t *err)
{
    CM_CLEANUP(array_destroy) array_t array = {.count = 0};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_error_t failure = {0};
    cm_status_t status = read_only(self, source, query, &result, &failure);
    if (is_of_the_query(&failure))
        return cm_error_set(err, CM_MISCONFIGURED, "sync-query",
                            "the query for counts cannot be used: %s %s", failure.code,
                            failure.message);
    if (status != CM_OK && err)
        *err = failure;
    if (status != CM_OK)
        return status;
    for (int row = 0; status == CM_OK && row < PQntuples(result); row++) {
        cm_sync_reference_t reference;
        status = read_row(result, row, &reference, err);
        if (status == CM_OK)
            add_reference(&array, &reference);
    }
    *ret_count = array.count;
    return status == CM_OK ? put_array(self, &array, err) : status;
}

static void close_file(FILE **file_p)
{
    if (*file_p)
        fclose(*file_p);
    *file_p = NULL;
}

static cm_status_t read_lines(FILE *file, array_t *array, cm_error_t *err)
{
    CM_CLEANUP(cm_free) char *line = NULL;
    size_t room = 0;
    ssize_t len = 0;
    for (int at = 1; (len = getline(&line, &room, file)) != -1; at++) {
        cm_sync_reference_t reference;
        bool holds = false;
        if (len > 0 && line[len - 1] == '\n')
            len--;
        if (cm_sync_reference_parse((cm_str_t){line, (size_t)len}, &reference, &holds, err) !=
            CM_OK)
            return cm_error_prefix(err, "line %d of the file of counts", at);
        if (holds)
            add_reference(array, &reference);
    }
    return ferror(file) ? cm_error_set(err, CM_MISCONFIGURED, "sync-file",
                                       "the file of counts cannot be read: %m")
                        : CM_OK;
}

cm_status_t cm_dashboard_reference_file(cm_dashboard_t *self, const char *path, size_t *ret_count,
                                        cm_error_t *err)
{
    CM_CLEANUP(array_destroy) array_t array = {.count = 0};
    CM_CLEANUP(close_file) FILE *file = fopen(path, "re");
    if (!file)
        return cm_error_set(err, CM_MISCONFIGURED, "sync-file",
                            "the file of counts %s cannot be opened: %m", path);
    cm_status_t status = read_lines(file, &array, err);
    *ret_count = array.count;
    return status == CM_OK ? put_array(self, &array, err) : status;
}
