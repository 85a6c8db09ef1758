#include "actors/job_dashboard.h"
#include "runtime/backoff.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "runtime/log.h"
#include "schema/dashboard_store.h"
#include "schema/orphan_store.h"
#include "schema/sql.h"
#include "schema/tenant_schema.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    PAGE = 100, /* tenants a commit; below CM_DASHBOARD_FLUSH_AT, so that measuring commits none */
    TRIES_MAX = 5,
    RETRY_BASE_MS = 50,
    RETRY_CAP_MS = 1000,
    NAME_MAX_BYTES = 96
};
_Static_assert((int)PAGE < (int)CM_DASHBOARD_FLUSH_AT, "an error of measuring is the tenant's");

typedef struct {
    char id[CM_TENANT_ID_MAX];
    cm_tenant_state_t state;
    bool is_whole;
} tenant_t;

typedef struct {
    cm_batch_run_t *run;
    const char *schema; /* of the admin tables */
    cm_pg_t *pg;        /* to count, with a time-out of its own, and to keep */
    cm_pg_t *ddl;       /* NULL until a schema is to be created */
    char ddl_name[NAME_MAX_BYTES];
    cm_dashboard_t *store;
    tenant_t *failed;
    size_t failed_count, failed_room;
    size_t known; /* the first of these failed before the run was resumed; in order of id */
    int64_t created, gone;
    int64_t touched; /* tenants, on this connection */
    size_t references;
    cm_backoff_t backoff;
} job_t;

/* What came of one tenant. */
typedef struct {
    bool created, gone;
    cm_error_t failure; /* status CM_OK: none */
} outcome_t;

/* ---- small things --------------------------------------------------------------------------- */

/* Whoever deletes a tenant holds the tables for a moment; for that no run is given up. */
static bool again(job_t *self, cm_status_t status, int *tries)
{
    if (status != CM_TRANSIENT || ++*tries >= TRIES_MAX || cm_batch_stopped(self->run))
        return false;
    int wait_ms = cm_backoff_next_ms(&self->backoff);
    nanosleep(&(struct timespec){wait_ms / 1000, wait_ms % 1000 * 1000000L}, NULL);
    return true;
}

/* Not of a tenant: the rest would meet it, too. Damage to its tables is the tenant's. */
static bool is_of_the_run(const cm_error_t *failure)
{
    return failure->status == CM_CANCELLED ||
           (failure->status == CM_UNAVAILABLE && !cm_pg_is_isolable(failure));
}

static void on_wait(void *ctx)
{
    cm_batch_show(ctx);
}

static bool is_stopped(void *ctx)
{
    return cm_batch_stopped(ctx);
}

/* A count may take minutes; who stops does not wait for it, and the server notices soon. */
static cm_status_t connect_pg(cm_pg_t *pg, cm_error_t *err)
{
    cm_status_t status = cm_pg_connect(pg, NULL, err);
    return status == CM_OK ? cm_sql_end_with_client(pg, err) : status;
}

static cm_status_t connect_as(cm_batch_run_t *run, cm_pg_options_t options, cm_pg_t **ret_pg,
                              cm_error_t *err)
{
    options.on_wait = on_wait;
    options.wait_ctx = run;
    cm_pg_t *pg = cm_pg_new(&options);
    cm_status_t status = connect_pg(pg, err);
    if (status != CM_OK)
        cm_pg_destroy(&pg);
    *ret_pg = pg;
    return status;
}

static void add_failed(job_t *self, const tenant_t *tenant)
{
    if (self->failed_count == self->failed_room) {
        self->failed_room = self->failed_room ? 2 * self->failed_room : 64;
        self->failed = realloc(self->failed, self->failed_room * sizeof *self->failed);
        if (!self->failed)
            abort();
    }
    self->failed[self->failed_count++] = *tenant;
}

static int by_id(const void *a, const void *b)
{
    return strcmp(((const tenant_t *)a)->id, ((const tenant_t *)b)->id);
}

static cm_status_t flush(job_t *self, cm_error_t *err)
{
    cm_status_t status;
    int tries = 0;
    do
        status = cm_dashboard_flush(self->store, err);
    while (again(self, status, &tries));
    self->run->progress.rows = (uint64_t)cm_dashboard_totals(self->store).devices;
    return status;
}

/* ---- one tenant ----------------------------------------------------------------------------- */

/* At the oldest time there is, so that it wakes no suspended tenant and no deleted one; under the
 * tenant's lock, so that a deletion is seen. */
static cm_status_t create(job_t *self, const tenant_t *tenant, bool *ret_created, cm_error_t *err)
{
    cm_tenant_change_t change = CM_TENANT_UNCHANGED;
    cm_status_t status = CM_OK;
    if (!self->ddl)
        status =
            connect_as(self->run, cm_options_pg_as(self->run->options, self->ddl_name, CM_ROLE_DDL),
                       &self->ddl, err);
    if (status == CM_OK)
        status = cm_tenant_schema_activate(self->ddl, self->schema, tenant->id, "", 0, NULL,
                                           &change, err);
    *ret_created = status == CM_OK && change == CM_TENANT_CHANGED;
    return status;
}

/* Its tables are not there: because it is being deleted, or lost since the catalog was read, or in
 * a way that no activation mends. */
static cm_status_t mend(job_t *self, const tenant_t *tenant, outcome_t *outcome, cm_error_t *err)
{
    cm_tenant_t row = {.state = CM_TENANT_ABSENT};
    cm_status_t status = cm_tenant_registry_get(self->pg, self->schema, tenant->id, &row, err);
    if (status != CM_OK && status != CM_MISSING)
        return status;
    outcome->gone = row.state != CM_TENANT_ACTIVE && row.state != CM_TENANT_SUSPENDED;
    if (outcome->gone)
        return CM_OK;
    if (row.state == CM_TENANT_ACTIVE && !outcome->created) {
        status = create(self, tenant, &outcome->created, err);
        if (status == CM_OK && outcome->created)
            status =
                flush(self, err); /* the problem that was noted, or it would be the last word */
        if (status == CM_OK && outcome->created)
            return cm_dashboard_measure(self->store, self->pg, tenant->id, err);
        if (status != CM_OK)
            return status;
    }
    return cm_error_set(err, CM_PERMANENT, "tables-missing",
                        "tenant %s is %s and has no tables, or not all", tenant->id,
                        cm_tenant_state_name(row.state));
}

/* A session of PostgreSQL remembers each table it has seen. Between transactions, with nothing to
 * keep. */
static cm_status_t recycle(job_t *self, cm_error_t *err)
{
    int64_t most = self->run->options->postgres.recycle_tenants;
    if (most == 0 || self->touched < most)
        return CM_OK;
    self->touched = 0;
    cm_pg_close(self->pg);
    return connect_pg(self->pg, err);
}

/* Anything but CM_OK ends the run. */
static cm_status_t measure(job_t *self, const tenant_t *tenant, outcome_t *outcome, cm_error_t *err)
{
    cm_status_t status = CM_OK;
    *outcome = (outcome_t){.created = false};
    self->touched++;
    if (!tenant->is_whole && tenant->state == CM_TENANT_ACTIVE)
        status = create(self, tenant, &outcome->created, &outcome->failure);
    if (status == CM_OK)
        status = cm_dashboard_measure(self->store, self->pg, tenant->id, &outcome->failure);
    if (status == CM_MISSING)
        status = mend(self, tenant, outcome, &outcome->failure);
    if (status != CM_OK && (is_of_the_run(&outcome->failure) || !cm_pg_is_connected(self->pg) ||
                            strcmp(outcome->failure.code, "lease-lost") == 0)) {
        *err = outcome->failure;
        return status;
    }
    if (status == CM_OK)
        outcome->failure = (cm_error_t){.status = CM_OK};
    return CM_OK;
}

static cm_status_t note(job_t *self, const tenant_t *tenant, const outcome_t *outcome,
                        cm_error_t *err)
{
    bool failed = outcome->failure.status != CM_OK;
    return cm_batch_note(self->run, tenant->id,
                         failed          ? CM_RUN_TENANT_FAILED
                         : outcome->gone ? CM_RUN_TENANT_SKIPPED
                                         : CM_RUN_TENANT_DONE,
                         outcome->created ? "{\"created\": true}" : NULL,
                         failed ? &outcome->failure : NULL, err);
}

/* noted: something of it is kept with the run already, and must be made true. */
static cm_status_t conclude(job_t *self, const tenant_t *tenant, const outcome_t *outcome,
                            bool noted, cm_error_t *err)
{
    bool failed = outcome->failure.status != CM_OK;
    self->created += outcome->created;
    self->gone += outcome->gone;
    if (outcome->created)
        cm_log(CM_LOG_WARN, self->run->name, "missing schema created", "tenant=\"%s\"", tenant->id);
    if (failed)
        cm_log(CM_LOG_WARN, self->run->name, "tenant not counted",
               "tenant=\"%s\" code=\"%s\" cause=\"%s\"", tenant->id, outcome->failure.code,
               outcome->failure.message);
    if (failed || outcome->created || noted)
        return note(self, tenant, outcome, err);
    self->run->progress.done++;
    cm_batch_show(self->run);
    return CM_OK;
}

/* ---- the pass ------------------------------------------------------------------------------- */

static bool failed_before(const job_t *self, const tenant_t *tenant)
{
    return self->known > 0 && bsearch(tenant, self->failed, self->known, sizeof *tenant, by_id);
}

static cm_status_t take(job_t *self, const tenant_t *tenant, cm_error_t *err)
{
    outcome_t outcome;
    cm_status_t status = measure(self, tenant, &outcome, err);
    if (status == CM_OK)
        status = conclude(self, tenant, &outcome, false, err);
    if (status == CM_OK && outcome.failure.status != CM_OK)
        add_failed(self, tenant);
    return status;
}

static cm_status_t set_checkpoint(job_t *self, const char *after, cm_error_t *err)
{
    char text[CM_TENANT_ID_MAX + 32];
    cm_status_t status;
    int tries = 0;
    if (!self->run->run_id || self->run->tenant)
        return CM_OK;
    snprintf(text, sizeof text, "%" PRId64 " %s", self->run->run_id, after);
    do
        status = cm_job_checkpoint_set(self->run->pg, self->schema, self->run->lease, "",
                                       *after ? cm_str(text) : CM_STR_NONE, err);
    while (again(self, status, &tries));
    return status;
}

static cm_status_t take_page(job_t *self, const cm_dashboard_tenant_t *page, size_t count,
                             cm_error_t *err)
{
    for (size_t i = 0; i < count; i++) {
        tenant_t tenant = {.state = page[i].state, .is_whole = page[i].is_whole};
        snprintf(tenant.id, sizeof tenant.id, "%s", page[i].id);
        if (cm_batch_stopped(self->run))
            return cm_error_set(err, CM_CANCELLED, "cancelled", "asked to stop");
        cm_status_t status = failed_before(self, &tenant) ? CM_OK : take(self, &tenant, err);
        if (status != CM_OK)
            return status;
    }
    cm_status_t status = flush(self, err);
    if (status == CM_OK && count > 0)
        status = set_checkpoint(self, page[count - 1].id, err);
    return status == CM_OK ? recycle(self, err) : status;
}

static cm_status_t pass(job_t *self, char after[CM_TENANT_ID_MAX], cm_error_t *err)
{
    size_t count = PAGE;
    cm_status_t status = CM_OK;
    while (status == CM_OK && count == PAGE) {
        CM_CLEANUP(cm_free) cm_dashboard_tenant_t *page = NULL;
        status = cm_dashboard_tenants(self->store, after, PAGE, &page, &count, err);
        if (status == CM_OK)
            status = take_page(self, page, count, err);
        if (status == CM_OK && count > 0)
            snprintf(after, CM_TENANT_ID_MAX, "%s", page[count - 1].id);
    }
    return status;
}

static cm_status_t retry(job_t *self, cm_error_t *err)
{
    for (size_t i = 0; i < self->failed_count; i++) {
        outcome_t outcome;
        if (cm_batch_stopped(self->run))
            return cm_error_set(err, CM_CANCELLED, "cancelled", "asked to stop");
        cm_status_t status = measure(self, &self->failed[i], &outcome, err);
        if (status != CM_OK)
            return status;
        self->run->progress.done--;
        self->run->progress.failed--;
        status = conclude(self, &self->failed[i], &outcome, true, err);
        if (status == CM_OK && i % PAGE == PAGE - 1)
            status = flush(self, err);
        if (status != CM_OK)
            return status;
    }
    return CM_OK;
}

/* ---- a run that is resumed ------------------------------------------------------------------ */

static cm_status_t load_failed(job_t *self, cm_arena_t *arena, cm_error_t *err)
{
    char after[CM_TENANT_ID_MAX] = "";
    size_t count = PAGE;
    while (count == PAGE) {
        cm_job_tenant_result_t *results = NULL;
        cm_status_t status = cm_job_run_tenants(self->run->pg, self->schema, self->run->run_id,
                                                after, PAGE, arena, &results, &count, err);
        if (status != CM_OK)
            return status;
        for (size_t i = 0; i < count; i++) { /* looked at anew: what the page said is gone */
            tenant_t tenant = {.state = CM_TENANT_ACTIVE, .is_whole = true};
            snprintf(tenant.id, sizeof tenant.id, "%.*s", CM_STR_ARG(results[i].tenant));
            if (results[i].state == CM_RUN_TENANT_FAILED)
                add_failed(self, &tenant);
            memcpy(after, tenant.id, sizeof after);
        }
    }
    self->known = self->failed_count;
    return CM_OK;
}

static cm_status_t resume(job_t *self, char after[CM_TENANT_ID_MAX], cm_error_t *err)
{
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(4096);
    cm_str_t checkpoint = CM_STR_NONE;
    char prefix[32];
    if (!self->run->resumed || !self->run->run_id || self->run->tenant)
        return CM_OK;
    cm_status_t status = cm_job_checkpoint_get(self->run->pg, self->schema, self->run->lease->name,
                                               "", arena, &checkpoint, err);
    int len = snprintf(prefix, sizeof prefix, "%" PRId64 " ", self->run->run_id);
    if (status == CM_OK && checkpoint.ptr && checkpoint.len > (size_t)len &&
        checkpoint.len - (size_t)len < CM_TENANT_ID_MAX &&
        memcmp(checkpoint.ptr, prefix, (size_t)len) == 0)
        snprintf(after, CM_TENANT_ID_MAX, "%.*s", (int)checkpoint.len - len, checkpoint.ptr + len);
    return status == CM_OK ? load_failed(self, arena, err) : status;
}

/* Those that failed are done, too; which of them the checkpoint counts already, the order tells. */
static cm_status_t count_tenants(job_t *self, const char *after, cm_error_t *err)
{
    cm_dashboard_census_t census;
    cm_batch_progress_t *progress = &self->run->progress;
    cm_status_t status = cm_dashboard_census(self->store, after, &census, err);
    if (status == CM_OK && self->run->tenant && census.tenants == 0)
        return cm_error_set(err, CM_PERMANENT, "tenant-missing",
                            "tenant %s is not active, so it has no devices to count",
                            self->run->tenant);
    if (status != CM_OK)
        return status;
    progress->total = (uint64_t)census.tenants;
    progress->done = (uint64_t)census.before;
    progress->failed = self->known;
    for (size_t i = 0; i < self->known; i++)
        progress->done += strcmp(self->failed[i].id, after) > 0;
    cm_batch_show(self->run);
    return CM_OK;
}

/* ---- references ----------------------------------------------------------------------------- */

static cm_status_t query_references(job_t *self, cm_error_t *err)
{
    const cm_options_t *options = self->run->options;
    const char *query = options->dashboard_job.reference_query;
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *source = NULL;
    if (!*options->dashboard_job.reference_uri)
        return cm_dashboard_reference_query(self->store, self->pg, query, &self->references, err);
    cm_pg_options_t where = cm_options_pg(options, self->run->name);
    where.uri = options->dashboard_job.reference_uri;
    where.statement_timeout_ms = (int)options->dashboard_job.tenant_timeout_ms;
    where.stopped = is_stopped;
    cm_status_t status = connect_as(self->run, where, &source, err);
    return status == CM_OK
               ? cm_dashboard_reference_query(self->store, source, query, &self->references, err)
               : status;
}

static cm_status_t take_references(job_t *self, cm_error_t *err)
{
    const cm_options_t *options = self->run->options;
    switch ((cm_reference_kind_t)options->dashboard_job.reference) {
    case CM_REFERENCE_QUERY:
        return query_references(self, err);
    case CM_REFERENCE_FILE:
        return cm_dashboard_reference_file(self->store, options->dashboard_job.reference_path,
                                           &self->references, err);
    case CM_REFERENCE_TABLE:
        break;
    }
    return CM_OK;
}

/* ---- a run ---------------------------------------------------------------------------------- */

static cm_status_t begin(job_t *self, cm_error_t *err)
{
    cm_status_t status;
    int tries = 0;
    do
        status = cm_dashboard_begin(self->store, &self->pg, 1, err);
    while (again(self, status, &tries));
    return status;
}

static cm_status_t finish(job_t *self, cm_error_t *err)
{
    cm_status_t status;
    int tries = 0;
    do
        status = cm_dashboard_finish(self->store, err);
    while (again(self, status, &tries));
    return status == CM_OK ? set_checkpoint(self, "", err) : status;
}

static cm_status_t summarize(job_t *self, int64_t measure_ms, int64_t all_ms, cm_error_t *err)
{
    cm_dashboard_census_t census;
    cm_status_t status = cm_dashboard_census(self->store, "", &census, err);
    if (status != CM_OK)
        return status;
    cm_dashboard_totals_t totals = cm_dashboard_totals(self->store);
    self->run->progress.rows = (uint64_t)totals.devices;
    self->run->progress.total = self->run->progress.done; /* some were deleted before their turn */
    cm_batch_show(self->run);
    cm_buffer_printf(self->run->summary,
                     "{\"tenants\": %" PRId64 ", \"failed\": %" PRIu64 ", \"created\": %" PRId64
                     ", \"gone\": %" PRId64 ", \"devices\": %" PRId64 ", \"drifting\": %" PRId64
                     ", \"stale\": %" PRId64 ", \"references\": %zu, \"pruned\": %" PRId64
                     ", \"statements\": %" PRId64
                     ", \"seconds\": %.3f, \"seconds_per_tenant\": %.6f}",
                     totals.tenants, self->run->progress.failed, self->created, self->gone,
                     totals.devices, census.drifting, census.stale, self->references, totals.pruned,
                     totals.queries, (double)all_ms / 1000,
                     totals.tenants ? (double)measure_ms / 1000 / (double)totals.tenants : 0.0);
    return CM_OK;
}

static cm_status_t work(job_t *self, cm_error_t *err)
{
    char after[CM_TENANT_ID_MAX] = "";
    cm_error_t reference = {0};
    int64_t began_ms = cm_clock_mono_ms();
    cm_status_t status = take_references(self, &reference);
    if (status == CM_CANCELLED) {
        *err = reference;
        return status;
    }
    if (status != CM_OK)
        cm_log(CM_LOG_WARN, self->run->name, "the publisher's counts cannot be taken over",
               "code=\"%s\" cause=\"%s\"", reference.code, reference.message);
    status = begin(self, err);
    if (status == CM_OK)
        status = resume(self, after, err);
    if (status == CM_OK)
        status = count_tenants(self, after, err);
    int64_t measure_ms = cm_clock_mono_ms();
    if (status == CM_OK)
        status = pass(self, after, err);
    if (status == CM_OK)
        status = retry(self, err);
    measure_ms = cm_clock_mono_ms() - measure_ms;
    if (status == CM_OK)
        status = finish(self, err);
    if (status == CM_OK)
        status = summarize(self, measure_ms, cm_clock_mono_ms() - began_ms, err);
    if (status != CM_OK || reference.status == CM_OK)
        return status;
    return cm_error_set(err, CM_PERMANENT, reference.code,
                        "all tenants are counted, but without the publisher's counts: %s",
                        reference.message);
}

static cm_dashboard_options_t store_options(cm_batch_run_t *run)
{
    const cm_options_t *o = run->options;
    return (cm_dashboard_options_t){
        .admin_schema = o->postgres.admin_schema,
        .orphan_age_s = o->orphan_job.age_days * CM_ORPHAN_DAY_S,
        .top = (int)o->dashboard_job.top,
        .sample = (int)o->dashboard_job.sample,
        .reference_max_age_s = o->dashboard_job.reference_max_age_hours * 3600,
        .keep_runs_days = (int)o->dashboard_job.keep_runs_days,
        .keep_days = (int)o->dashboard_job.keep_days,
        .only = run->tenant,
        .fence = cm_batch_fence,
        .ctx = run,
    };
}

cm_status_t cm_job_dashboard(cm_batch_run_t *run, cm_error_t *err)
{
    const cm_options_t *options = run->options;
    job_t self = {.run = run, .schema = options->postgres.admin_schema};
    cm_pg_options_t pg = cm_options_pg_as(options, run->name, CM_ROLE_DASH);
    pg.statement_timeout_ms = (int)options->dashboard_job.tenant_timeout_ms;
    pg.stopped = is_stopped;
    if (run->dry_run)
        return cm_error_set(err, CM_PERMANENT, "no-dry-run",
                            "counting changes nothing of a tenant");
    snprintf(self.ddl_name, sizeof self.ddl_name, "%s ddl", run->name);
    cm_backoff_init(&self.backoff, RETRY_BASE_MS, RETRY_CAP_MS, cm_random_u64());
    cm_status_t status = connect_as(run, pg, &self.pg, err);
    if (status == CM_OK) {
        cm_dashboard_options_t store = store_options(run);
        self.store = cm_dashboard_new(self.pg, &store);
        status = work(&self, err);
    }
    cm_dashboard_destroy(&self.store);
    cm_pg_destroy(&self.ddl);
    cm_pg_destroy(&self.pg);
    free(self.failed);
    return status;
}
