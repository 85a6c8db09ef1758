#include "actors/job_orphan_deletion.h"
#include "actors/batch_pace.h"
#include "actors/job_orphan_figures.h"
#include "runtime/cleanup.h"
#include "runtime/log.h"
#include "schema/tenant_registry.h"
#include "schema/tenant_state.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    PAGE = 500,
    RETRY_MAX_MS = 5 * 60 * 1000,
    LAST_LOCK_TIMEOUT_MS = 1500, /* see orphan_store.h */
    LAST_LOCK_TRIES = 2          /* the tenant's writers wait as long */
};

typedef struct {
    cm_batch_run_t *run;
    cm_orphan_rules_t *rules;
    cm_orphan_options_t options;
    cm_batch_pace_t pace;
    const char *tenant;         /* in hand */
    cm_status_t fence_status;   /* of the last transaction, as far as it is of all tenants */
    int64_t deleted, committed; /* devices before the tenant in hand; its batches that were paced */
    cm_orphan_tenants_t ended;  /* before the run was resumed, in order of id */
    cm_orphan_tenants_t failed; /* to be tried again */
    cm_orphan_figures_t figures;
} job_t;

static const char *admin_schema(const job_t *self)
{
    return self->run->options->postgres.admin_schema;
}

static cm_status_t may_go_on(const job_t *self, cm_error_t *err)
{
    if (!cm_batch_stopped(self->run))
        return CM_OK;
    return cm_error_set(err, CM_CANCELLED, "cancelled", "the orphan deletion was told to stop");
}

/* ---- what became of a tenant ---------------------------------------------------------------- */

static cm_status_t note(job_t *self, const cm_orphan_tenant_t *tenant, cm_orphan_end_t end,
                        const cm_error_t *failure, cm_error_t *err)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t detail = {0};
    cm_run_tenant_t state = failure                 ? CM_RUN_TENANT_FAILED
                            : end == CM_ORPHAN_DONE ? CM_RUN_TENANT_DONE
                                                    : CM_RUN_TENANT_SKIPPED;
    cm_orphan_figures_add(&self->figures, end, tenant);
    cm_orphan_detail_write(&detail, end, &tenant->result);
    return cm_batch_note(self->run, tenant->id, state, cm_buffer_text(&detail), failure, err);
}

static cm_status_t note_guarded(job_t *self, const cm_orphan_tenant_t *tenant,
                                const cm_error_t *failure, cm_error_t *err)
{
    cm_log(CM_LOG_ERROR, self->run->name, "too many devices of a tenant would go, none does",
           "tenant=\"%s\" code=\"%s\" cause=\"%s\" mend=\"see whether that is right, then job run "
           "orphan-deletion --tenant %s --set orphan_job.guard_percent=100\"",
           tenant->id, failure->code, failure->message, tenant->id);
    return note(self, tenant, CM_ORPHAN_GUARDED, failure, err);
}

static cm_status_t note_failed(job_t *self, const cm_orphan_tenant_t *tenant,
                               const cm_error_t *failure, cm_error_t *err)
{
    int left = (int)self->run->options->orphan_job.retry_rounds - self->figures.rounds;
    cm_log(CM_LOG_WARN, self->run->name, "the orphans of a tenant were not all deleted",
           "tenant=\"%s\" class=%s code=\"%s\" cause=\"%s\" tries_left=%d", tenant->id,
           cm_status_name(failure->status), failure->code, failure->message, left);
    cm_orphan_tenants_add(&self->failed, tenant);
    return note(self, tenant, CM_ORPHAN_FAILED, failure, err);
}

/* ---- one tenant ----------------------------------------------------------------------------- */

/* A hold, a suspension or a deletion that comes after the tenant was looked up counts at once. */
static cm_status_t fence(void *ctx, cm_pg_t *pg, cm_error_t *err)
{
    job_t *self = ctx;
    self->fence_status = cm_batch_fence(self->run, pg, err);
    if (self->fence_status != CM_OK)
        return self->fence_status;
    cm_status_t status = cm_tenant_fence(pg, admin_schema(self), self->tenant, err);
    if (status != CM_MISSING)
        self->fence_status = status;
    return status;
}

static bool pace(void *ctx, const cm_orphan_result_t *so_far, bool waited)
{
    job_t *self = ctx;
    cm_pace_step_t step = waited                              ? CM_PACE_WAITED
                          : so_far->batches > self->committed ? CM_PACE_WRITE
                                                              : CM_PACE_READ;
    self->committed = so_far->batches;
    self->run->progress.rows = (uint64_t)(self->deleted + so_far->deleted);
    return cm_batch_pace_step(&self->pace, self->run, step);
}

static cm_status_t look_up(job_t *self, const char *id, cm_tenant_state_t *ret_state,
                           bool *ret_held, cm_error_t *err)
{
    char ids[1][CM_TENANT_ID_MAX];
    CM_CLEANUP(cm_free) char *reason = NULL;
    int64_t held_ms = 0;
    snprintf(ids[0], sizeof ids[0], "%s", id);
    cm_status_t status =
        cm_tenant_registry_states(self->run->pg, admin_schema(self), ids, 1, ret_state, err);
    if (status == CM_OK && *ret_state == CM_TENANT_ACTIVE)
        status = cm_tenant_hold_get(self->run->pg, admin_schema(self), id, &held_ms, &reason, err);
    *ret_held = held_ms != 0;
    return status;
}

static cm_status_t attempt(job_t *self, cm_orphan_tenant_t *tenant, cm_error_t *err)
{
    cm_orphan_result_t result;
    self->tenant = tenant->id;
    self->fence_status = CM_OK;
    self->committed = 0;
    cm_batch_pace_next(&self->pace);
    cm_status_t status = cm_orphan_delete(self->run->pg, tenant->id, &self->options, &result, err);
    self->deleted += result.deleted;
    self->run->progress.rows = (uint64_t)self->deleted;
    cm_orphan_attempt_add(&tenant->result, &result);
    if (status == CM_OK && result.guarded) /* of a dry run */
        return cm_error_set(err, CM_PERMANENT, "orphan-guard",
                            "%" PRId64 " of %" PRId64 " devices would go, too many for a run",
                            result.orphans, result.devices);
    return status;
}

/* Nothing of this tenant: no other's turn can come either. Damage to its tables is. */
static bool is_of_all(const job_t *self, const cm_error_t *failure)
{
    return failure->status == CM_CANCELLED ||
           (failure->status == CM_UNAVAILABLE && !cm_pg_is_isolable(failure)) ||
           !cm_pg_is_connected(self->run->pg) ||
           (self->fence_status != CM_OK && self->fence_status != CM_TRANSIENT);
}

static cm_status_t judge(job_t *self, const cm_orphan_tenant_t *tenant, cm_status_t status,
                         const cm_error_t *failure, cm_error_t *err)
{
    cm_tenant_state_t state = CM_TENANT_ACTIVE;
    bool held = false;
    if (status == CM_OK)
        return note(self, tenant, tenant->result.excluded ? CM_ORPHAN_EXCLUDED : CM_ORPHAN_DONE,
                    NULL, err);
    if (is_of_all(self, failure)) {
        cm_orphan_result_add(&self->figures.sum, &tenant->result); /* as far as it came */
        if (err)
            *err = *failure;
        return status;
    }
    if (tenant->result.guarded)
        return note_guarded(self, tenant, failure, err);
    if (status == CM_MISSING) /* the registry tells what that means */
        status = look_up(self, tenant->id, &state, &held, err);
    else
        status = CM_OK;
    if (status == CM_OK && (state != CM_TENANT_ACTIVE || held))
        return note(self, tenant, held ? CM_ORPHAN_HELD : CM_ORPHAN_GONE, NULL, err);
    return status == CM_OK ? note_failed(self, tenant, failure, err) : status;
}

/* CM_OK: it is dealt with, or among those that failed. */
static cm_status_t try_tenant(job_t *self, cm_orphan_tenant_t *tenant, cm_error_t *err)
{
    cm_tenant_state_t state;
    cm_error_t failure = {0};
    bool held = false;
    cm_status_t status = may_go_on(self, err);
    if (status == CM_OK)
        status = look_up(self, tenant->id, &state, &held, err);
    if (status != CM_OK)
        return status;
    if (state == CM_TENANT_UNREADY) {
        cm_error_set(&failure, CM_MISCONFIGURED, "schema-version",
                     "its schema is older than this program needs: tenant migrate");
        return note_failed(self, tenant, &failure, err);
    }
    if (state != CM_TENANT_ACTIVE || held)
        return note(self, tenant, held ? CM_ORPHAN_HELD : CM_ORPHAN_GONE, NULL, err);
    status = attempt(self, tenant, &failure);
    return judge(self, tenant, status, &failure, err);
}

/* ---- all of them ---------------------------------------------------------------------------- */

static int compare_tenants(const void *a, const void *b)
{
    return strcmp(((const cm_orphan_tenant_t *)a)->id, ((const cm_orphan_tenant_t *)b)->id);
}

static bool has_ended(const job_t *self, const char *id)
{
    cm_orphan_tenant_t key = {.result = {0}};
    snprintf(key.id, sizeof key.id, "%s", id);
    return self->ended.count && bsearch(&key, self->ended.items, self->ended.count,
                                        sizeof *self->ended.items, compare_tenants);
}

static void count_ended(job_t *self, const cm_job_tenant_result_t *result)
{
    cm_orphan_tenant_t tenant;
    cm_orphan_end_t end;
    snprintf(tenant.id, sizeof tenant.id, "%.*s", CM_STR_ARG(result->tenant));
    cm_orphan_detail_read(result->detail, &end, &tenant.result);
    if (result->state == CM_RUN_TENANT_FAILED) /* its turn comes again */
        return;
    cm_orphan_tenants_add(&self->ended, &tenant);
    cm_orphan_figures_add(&self->figures, end, &tenant);
    self->deleted += tenant.result.deleted;
    self->run->progress.done++;
}

static cm_status_t read_ended(job_t *self, cm_error_t *err)
{
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(64 * 1024);
    cm_job_tenant_result_t *results = NULL;
    char after[CM_TENANT_ID_MAX] = "";
    size_t count = PAGE;
    while (count == PAGE) {
        cm_arena_reset(arena);
        cm_status_t status =
            cm_job_run_tenants(self->run->pg, admin_schema(self), self->run->run_id, after, PAGE,
                               arena, &results, &count, err);
        if (status != CM_OK)
            return status;
        for (size_t i = 0; i < count; i++)
            count_ended(self, &results[i]);
        if (count > 0)
            snprintf(after, sizeof after, "%.*s", CM_STR_ARG(results[count - 1].tenant));
    }
    return CM_OK;
}

static cm_status_t read_rules(job_t *self, cm_error_t *err)
{
    CM_CLEANUP(cm_free) char(*ids)[CM_TENANT_ID_MAX] = NULL;
    CM_CLEANUP(cm_free) const char **excluded = NULL;
    size_t count = 0;
    if (cm_tenant_id_list(cm_str(self->run->options->orphan_job.exclude), &ids, &count, err) !=
        CM_OK)
        return cm_error_set(err, CM_MISCONFIGURED, "orphan-rules",
                            "orphan_job.exclude is no list of tenants");
    excluded = calloc(count + 1, sizeof *excluded);
    if (!excluded)
        abort();
    for (size_t i = 0; i < count; i++)
        excluded[i] = ids[i];
    return cm_orphan_rules_load(self->run->pg, admin_schema(self), excluded, count, &self->rules,
                                err);
}

/* How many there will be, for the progress. */
static cm_status_t count_tenants(job_t *self, cm_error_t *err)
{
    CM_CLEANUP(cm_free) cm_tenant_count_t *counts = NULL;
    size_t count = 0;
    if (self->run->tenant) {
        self->run->progress.total = 1;
        return CM_OK;
    }
    cm_status_t status =
        cm_tenant_registry_counts(self->run->pg, admin_schema(self), &counts, &count, err);
    self->run->progress.total = 0;
    for (size_t i = 0; i < count; i++)
        if (counts[i].state == CM_TENANT_ACTIVE)
            self->run->progress.total += (uint64_t)counts[i].tenants;
    return status;
}

static cm_status_t try_page(job_t *self, char after[CM_TENANT_ID_MAX], bool *ret_more,
                            cm_error_t *err)
{
    CM_CLEANUP(cm_free) cm_tenant_t *page = NULL;
    size_t count = 0;
    cm_status_t status = cm_tenant_registry_list(self->run->pg, admin_schema(self), true,
                                                 CM_TENANT_ACTIVE, after, PAGE, &page, &count, err);
    for (size_t i = 0; status == CM_OK && i < count; i++) {
        cm_orphan_tenant_t tenant = {.result = {0}};
        snprintf(tenant.id, sizeof tenant.id, "%s", page[i].id);
        memcpy(after, tenant.id, sizeof tenant.id);
        if (!has_ended(self, tenant.id))
            status = try_tenant(self, &tenant, err);
    }
    *ret_more = count == PAGE;
    return status;
}

static cm_status_t try_named(job_t *self, cm_error_t *err)
{
    cm_orphan_tenant_t tenant = {.result = {0}};
    cm_tenant_state_t state;
    bool held = false;
    snprintf(tenant.id, sizeof tenant.id, "%s", self->run->tenant);
    if (has_ended(self, tenant.id))
        return CM_OK;
    cm_status_t status = look_up(self, tenant.id, &state, &held, err);
    if (status == CM_OK && state != CM_TENANT_ACTIVE && state != CM_TENANT_UNREADY)
        return cm_error_set(err, CM_PERMANENT, "not-active", "tenant %s is %s, not active",
                            tenant.id, cm_tenant_state_name(state));
    return status == CM_OK ? try_tenant(self, &tenant, err) : status;
}

static cm_status_t pass(job_t *self, cm_error_t *err)
{
    char after[CM_TENANT_ID_MAX] = "";
    cm_status_t status = CM_OK;
    if (self->run->tenant)
        return try_named(self, err);
    for (bool more = true; status == CM_OK && more;)
        status = try_page(self, after, &more, err);
    return status;
}

/* Those that failed, once more. Whose turn does not come stays failed. */
static cm_status_t try_again(job_t *self, cm_error_t *err)
{
    cm_orphan_tenants_t again = self->failed;
    cm_status_t status = CM_OK;
    self->failed = (cm_orphan_tenants_t){0};
    for (size_t i = 0; status == CM_OK && i < again.count; i++) {
        cm_orphan_figures_take(&self->figures, CM_ORPHAN_FAILED, &again.items[i]);
        self->run->progress.done--;
        self->run->progress.failed--;
        status = try_tenant(self, &again.items[i], err);
    }
    cm_orphan_tenants_destroy(&again);
    return status;
}

/* One run at a time tries them, so its waits need no jitter. */
static cm_status_t retry(job_t *self, cm_error_t *err)
{
    int64_t wait_ms = self->run->options->orphan_job.retry_ms;
    cm_status_t status = CM_OK;
    while (status == CM_OK && self->failed.count > 0 &&
           self->figures.rounds < self->run->options->orphan_job.retry_rounds) {
        self->figures.rounds++;
        if (self->figures.rounds == self->run->options->orphan_job.retry_rounds) {
            self->options.lock_timeout_ms = LAST_LOCK_TIMEOUT_MS;
            self->options.lock_tries = LAST_LOCK_TRIES;
        }
        cm_batch_rest(self->run, wait_ms);
        status = may_go_on(self, err);
        if (status == CM_OK)
            status = try_again(self, err);
        wait_ms = wait_ms < RETRY_MAX_MS / 2 ? 2 * wait_ms : RETRY_MAX_MS;
    }
    return status;
}

static cm_status_t work(job_t *self, cm_error_t *err)
{
    cm_status_t status = read_rules(self, err);
    self->options.rules = self->rules;
    if (status == CM_OK)
        status = count_tenants(self, err);
    if (status == CM_OK && self->run->resumed)
        status = read_ended(self, err);
    if (status == CM_OK)
        status = pass(self, err);
    return status == CM_OK ? retry(self, err) : status;
}

cm_status_t cm_job_orphan_deletion(cm_batch_run_t *run, cm_error_t *err)
{
    const cm_options_t *o = run->options;
    job_t self = {.run = run};
    self.options = (cm_orphan_options_t){
        .age_s = o->orphan_job.age_days * CM_ORPHAN_DAY_S,
        .dry_run = run->dry_run,
        .guard_percent = (int)o->orphan_job.guard_percent,
        .guard_above = o->orphan_job.guard_above,
        .batch_max = (int)o->orphan_job.batch_max,
        .fence = fence,
        .pace = pace,
        .ctx = &self,
    };
    cm_batch_pace_init(&self.pace, o->orphan_job.busy_percent, o->orphan_job.pause_ms);
    cm_status_t status = work(&self, err);
    cm_buffer_clear(run->summary);
    cm_orphan_summary_write(run->summary, &self.figures);
    cm_orphan_rules_destroy(&self.rules);
    cm_orphan_tenants_destroy(&self.ended);
    cm_orphan_tenants_destroy(&self.failed);
    cm_orphan_figures_destroy(&self.figures);
    return status;
}
