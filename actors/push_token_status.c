#include "actors/push_token_status.h"
#include "actors/push_brake.h"
#include "actors/push_token_job.h"
#include "actors/push_token_metrics.h"
#include "actors/rejections.h"
#include "actors/tenant_directory.h"
#include "proto/retry.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "runtime/crash.h"
#include "runtime/log.h"
#include "schema/push_brake_store.h"

#include <inttypes.h>
#include <string.h>

enum {
    SUSPENDED_MS = 30000,
    DEFER_MIN_MS = 1000,
    DEFER_JITTER_MS = 4000,
    SINCE_MIN_MS = 10 * 60000, /* take back at least this, for what another instance applied */
    NEWEST = 10,               /* ... and so many times brake_min, however long ago */
    TOTALS_MS = 10000,         /* between two looks at all brakes */
    TICK_MS = 1000,
    TOTALS_CHANGED_MS = 1000, /* ... after something was held */
    PRUNE_TENANTS = 16,       /* in one tick: batches wait meanwhile */
    PRUNE_ROWS = 5000,        /* likewise, of one tenant */
    PRUNE_EVERY_MS = 3600000, /* from the end of one round of all tenants to the next */
    LOG_INTERVAL_MS = 10000
};

typedef struct {
    const cm_subworker_args_t *args;
    const char *admin_schema;
    uint64_t random;
    cm_tenant_directory_t *directory;
    cm_token_status_store_t *store; /* of the connection below */
    cm_pg_t *pg;
    cm_push_brakes_t *brakes;
    cm_push_token_metrics_t metrics;
    cm_log_limit_t unknown_log, failure_log, prune_log;
    int64_t totals_ms;             /* monotonic: the next look at all brakes */
    int64_t prune_ms;              /* monotonic: the next round of forgetting what is old */
    char pruned[CM_TENANT_ID_MAX]; /* the tenant that this round was at last */
} updater_t;

typedef struct { /* a batch on its way */
    updater_t *self;
    cm_pg_t *pg;
    const cm_delivery_batch_t *batch;
    cm_outcome_t *outcomes;
    cm_arena_t *arena;
    cm_push_job_t job;
    cm_rejections_t rejections;
    int64_t now_ms, mono_ms;
} batch_t;

/* ---- open and close ------------------------------------------------------------------------- */

static cm_status_t updater_open(void **ret_state, const cm_subworker_args_t *args,
                                cm_metrics_t *metrics, cm_error_t *err)
{
    (void)err;
    const cm_options_t *options = args->options;
    updater_t *self = calloc(1, sizeof *self);
    if (!self)
        abort();
    self->args = args;
    self->admin_schema = options->postgres.admin_schema;
    self->random = cm_random_u64();
    self->directory = cm_tenant_directory_new(self->admin_schema);
    self->brakes = cm_push_brakes_new(&(cm_push_brake_rule_t){
        .window_ms = options->push_token_status.brake_window_ms,
        .share_percent = (unsigned)options->push_token_status.brake_share_percent,
        .min = (uint64_t)options->push_token_status.brake_min,
        .windows_max = CM_PUSH_BRAKE_WINDOWS_MAX});
    cm_push_token_metrics_open(&self->metrics, metrics);
    *ret_state = self;
    return CM_OK;
}

static void updater_close(void *state_p)
{
    updater_t *self = *(void **)state_p;
    cm_token_status_store_destroy(&self->store);
    cm_push_brakes_destroy(&self->brakes);
    cm_tenant_directory_destroy(&self->directory);
    cm_free(state_p);
}

/* ---- outcomes ------------------------------------------------------------------------------- */

static void decide(batch_t *batch, const cm_push_entry_t *entry, cm_outcome_kind_t kind)
{
    batch->outcomes[entry->index].kind = kind;
}

static void defer(batch_t *batch, const cm_push_entry_t *entry, int64_t delay_ms)
{
    uint64_t *random = &batch->self->random;
    decide(batch, entry, CM_OUTCOME_DEFER);
    batch->outcomes[entry->index].until_ms =
        batch->now_ms + delay_ms + (int64_t)cm_random_below(random, DEFER_JITTER_MS);
}

static void reject(batch_t *batch, const cm_push_entry_t *entry, const cm_error_t *err)
{
    cm_rejections_add(&batch->rejections, entry->index, entry->event.tenant, err);
}

static void count(batch_t *batch, const cm_push_entry_t *entry, cm_push_result_t result)
{
    cm_push_token_metrics_count(&batch->self->metrics, entry->provider, entry->judgement.verdict,
                                result);
}

static void log_failure(batch_t *batch, const char *tenant, const cm_error_t *err)
{
    unsigned withheld = 0;
    if (cm_log_allowed(&batch->self->failure_log, 1000, &withheld))
        cm_log(CM_LOG_WARN, batch->self->args->name, "verdict failed",
               "tenant=\"%s\" class=%s code=\"%s\" withheld=%u cause=\"%s\"", tenant,
               cm_status_name(err->status), err->code, withheld, err->message);
}

/* One that changes no token. */
static void settle_without_write(batch_t *batch, const cm_push_entry_t *entry)
{
    const cm_push_answer_t *answer = &entry->event.answer;
    unsigned withheld = 0;
    decide(batch, entry, CM_OUTCOME_STALE);
    count(batch, entry, CM_PUSH_RESULT_IGNORED);
    if (entry->judgement.verdict == CM_PUSH_VERDICT_UNKNOWN &&
        cm_log_allowed(&batch->self->unknown_log, LOG_INTERVAL_MS, &withheld))
        cm_log(CM_LOG_WARN, batch->self->args->name, "answer not in the verdict table",
               "provider=%s http_status=%d table_version=%u withheld=%u",
               cm_push_provider_name(answer->provider), answer->status,
               entry->judgement.table_version, withheld);
}

/* ---- tenants -------------------------------------------------------------------------------- */

static void settle_all(batch_t *batch, cm_push_tenant_t *tenant, cm_outcome_kind_t kind,
                       int64_t delay_ms)
{
    tenant->settled = true;
    for (size_t i = 0; i < tenant->count; i++) {
        if (kind == CM_OUTCOME_DEFER)
            defer(batch, tenant->entries[i], delay_ms);
        else
            decide(batch, tenant->entries[i], kind);
    }
}

/* Its activation may be on its way. */
static void settle_absent(batch_t *batch, cm_push_tenant_t *tenant, cm_tenant_state_t state)
{
    cm_error_t err = {0};
    cm_error_set(&err, CM_MISSING, "tenant-missing", "tenant is %s", cm_tenant_state_name(state));
    tenant->settled = true;
    for (size_t i = 0; i < tenant->count; i++) {
        const cm_push_entry_t *entry = tenant->entries[i];
        int64_t *until_ms = &batch->outcomes[entry->index].until_ms;
        if (cm_retry_await_tenant(&batch->batch->items[entry->index], batch->now_ms,
                                  &batch->self->random, until_ms))
            decide(batch, entry, CM_OUTCOME_DEFER);
        else
            reject(batch, entry, entry->status == CM_OK ? &err : entry->failure);
    }
}

/* By the registry; true when it is settled now. */
static bool settle_by_state(batch_t *batch, cm_push_tenant_t *tenant, cm_tenant_state_t state)
{
    switch (state) {
    case CM_TENANT_ACTIVE:
        return false;
    case CM_TENANT_SUSPENDED:
    case CM_TENANT_UNREADY:
        settle_all(batch, tenant, CM_OUTCOME_DEFER, SUSPENDED_MS);
        break;
    case CM_TENANT_DELETING:
    case CM_TENANT_DELETED:
        settle_all(batch, tenant, CM_OUTCOME_DROPPED, 0);
        break;
    case CM_TENANT_ABSENT:
    case CM_TENANT_ACTIVATING:
        settle_absent(batch, tenant, state);
        break;
    }
    return true;
}

static cm_status_t ask_registry(batch_t *batch, cm_error_t *err)
{
    updater_t *self = batch->self;
    size_t tenant_count = batch->job.tenant_count;
    char(*ids)[CM_TENANT_ID_MAX] = cm_arena_alloc(batch->arena, (tenant_count + 1) * sizeof *ids);
    cm_tenant_state_t *states = cm_arena_alloc(batch->arena, (tenant_count + 1) * sizeof *states);
    for (size_t i = 0; i < tenant_count; i++)
        memcpy(ids[i], batch->job.tenants[i].id, sizeof ids[i]);
    cm_status_t status =
        cm_tenant_directory_states(self->directory, batch->pg, (const char(*)[CM_TENANT_ID_MAX])ids,
                                   tenant_count, states, err);
    if (status != CM_OK)
        return status;
    for (size_t i = 0; i < tenant_count; i++) {
        cm_push_tenant_t *tenant = &batch->job.tenants[i];
        if (settle_by_state(batch, tenant, states[i]))
            continue;
        int parked_ms = cm_tenant_directory_parked_ms(self->directory, tenant->id, batch->mono_ms);
        if (parked_ms)
            settle_all(batch, tenant, CM_OUTCOME_DEFER, parked_ms);
    }
    return CM_OK;
}

/* ---- the brake ------------------------------------------------------------------------------ */

static cm_push_brake_key_t key_of(const cm_push_tenant_t *tenant, const cm_push_group_t *group)
{
    return (cm_push_brake_key_t){tenant->id, group->verdicts[0].application_code,
                                 group->verdicts[0].provider};
}

/* Whether each verdict of group says gone, in their order. */
static bool *flags_of(batch_t *batch, const cm_push_group_t *group)
{
    bool *flags = cm_arena_alloc(batch->arena, group->count * sizeof *flags);
    for (size_t i = 0; i < group->count; i++)
        flags[i] = group->verdicts[i].is_gone;
    return flags;
}

static void ask_brake(batch_t *batch, cm_push_tenant_t *tenant, cm_token_tenant_t *out)
{
    int64_t brake_min = batch->self->args->options->push_token_status.brake_min;
    out->trips = cm_arena_alloc(batch->arena, (tenant->group_count + 1) * sizeof *out->trips);
    for (size_t i = 0; i < tenant->group_count; i++) {
        cm_push_group_t *group = &tenant->groups[i];
        cm_push_run_t run;
        cm_push_brake_key_t key = key_of(tenant, group);
        if (!cm_push_brakes_trips(batch->self->brakes, &key, flags_of(batch, group), group->count,
                                  batch->mono_ms, &run))
            continue;
        cm_token_trip_t *trip = &out->trips[out->trip_count++];
        *trip = (cm_token_trip_t){.application_code = key.application_code,
                                  .provider = key.provider,
                                  .judged = (int64_t)run.judged,
                                  .gone = (int64_t)run.gone,
                                  .since_ms = run.age_ms + SINCE_MIN_MS,
                                  .newest = NEWEST * brake_min};
        group->trip = trip;
    }
}

static void tell_trip(batch_t *batch, const cm_push_tenant_t *tenant, const cm_token_trip_t *trip)
{
    cm_push_token_metrics_t *metrics = &batch->self->metrics;
    cm_metric_add(metrics->taken_back, (uint64_t)trip->taken_back);
    if (!trip->is_new)
        return; /* another instance was first, and told it */
    cm_metric_add(metrics->tripped, 1);
    cm_log(CM_LOG_ERROR, batch->self->args->name, "push brake on, verdicts that say gone are held",
           "tenant=\"%s\" application=\"%.*s\" provider=\"%s\" judged=%" PRId64 " gone=%" PRId64
           " taken_back=%" PRId64,
           tenant->id, CM_STR_ARG(trip->application_code),
           *trip->provider ? trip->provider : "none", trip->judged, trip->gone, trip->taken_back);
}

/* What was written is counted; whether a brake is on is what the database said. */
static void learn_group(batch_t *batch, const cm_push_tenant_t *tenant,
                        const cm_push_group_t *group, bool is_tripped)
{
    updater_t *self = batch->self;
    cm_push_brake_key_t key = key_of(tenant, group);
    bool *flags = cm_arena_alloc(batch->arena, group->count * sizeof *flags);
    bool is_on = group->trip && is_tripped, says = is_on;
    size_t written = 0;
    for (size_t i = 0; i < group->count; i++) {
        const cm_token_verdict_t *verdict = &group->verdicts[i];
        if (verdict->result == CM_TOKEN_FAILED)
            continue;
        flags[written++] = verdict->is_gone;
        is_on |= verdict->is_braked;
        says |= verdict->is_gone; /* of the others nothing is said */
    }
    if (says)
        cm_push_brakes_seen(self->brakes, &key, is_on);
    if (written)
        cm_push_brakes_count(self->brakes, &key, flags, written, batch->mono_ms);
    if (is_on && batch->mono_ms + TOTALS_CHANGED_MS < self->totals_ms)
        self->totals_ms = batch->mono_ms + TOTALS_CHANGED_MS;
}

static void learn(batch_t *batch, const cm_push_tenant_t *tenant, bool is_tripped)
{
    for (size_t i = 0; i < tenant->group_count; i++) {
        if (tenant->groups[i].trip && is_tripped)
            tell_trip(batch, tenant, tenant->groups[i].trip);
        learn_group(batch, tenant, &tenant->groups[i], is_tripped);
    }
}

/* ---- writing -------------------------------------------------------------------------------- */

/* Failures of a whole tenant; UNAVAILABLE means that its files are damaged. */
static bool parks(const cm_error_t *err)
{
    return strcmp(err->code, "55P03") == 0 || strcmp(err->code, "57014") == 0 ||
           err->status == CM_MISCONFIGURED || err->status == CM_UNAVAILABLE;
}

static void park(batch_t *batch, cm_push_tenant_t *tenant, const cm_error_t *err)
{
    updater_t *self = batch->self;
    int ms = cm_tenant_directory_park(self->directory, tenant->id, batch->mono_ms);
    cm_log(CM_LOG_WARN, self->args->name, "tenant parked",
           "tenant=\"%s\" ms=%d code=\"%s\" cause=\"%s\"", tenant->id, ms, err->code, err->message);
    settle_all(batch, tenant, CM_OUTCOME_DEFER, ms);
}

/* A schema or table that is not there although the tenant was thought active. */
static cm_status_t settle_missing(batch_t *batch, cm_push_tenant_t *tenant, const cm_error_t *cause,
                                  cm_error_t *err)
{
    cm_tenant_state_t state = CM_TENANT_ABSENT;
    cm_tenant_directory_t *directory = batch->self->directory;
    cm_tenant_directory_doubt(directory, tenant->id);
    cm_status_t status = cm_tenant_directory_states(
        directory, batch->pg, (const char(*)[CM_TENANT_ID_MAX])tenant->id, 1, &state, err);
    if (status == CM_OK && !settle_by_state(batch, tenant, state))
        park(batch, tenant, cause); /* active, but not migrated, or somebody had his hands in */
    return status;
}

static const cm_error_t *first_failure(const cm_push_tenant_t *tenant)
{
    for (size_t i = 0; i < tenant->verdict_count; i++)
        if (tenant->verdicts[i].result == CM_TOKEN_FAILED)
            return tenant->verdicts[i].error;
    return NULL;
}

/* Why it is to be rejected: it cannot be read, or the database refuses it; NULL: it is not. */
static const cm_error_t *fault_of(const cm_push_entry_t *entry)
{
    if (entry->status != CM_OK)
        return entry->failure;
    bool is_refused = entry->verdict && entry->verdict->result == CM_TOKEN_FAILED &&
                      entry->verdict->error->status == CM_PERMANENT;
    return is_refused ? entry->verdict->error : NULL;
}

static void reject_faulty(batch_t *batch, cm_push_entry_t *const *entries, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const cm_error_t *fault = fault_of(entries[i]);
        if (!fault)
            continue;
        log_failure(batch, entries[i]->event.tenant, fault);
        reject(batch, entries[i], fault);
    }
}

static void settle_entry(batch_t *batch, const cm_push_tenant_t *tenant,
                         const cm_push_entry_t *entry)
{
    static const cm_outcome_kind_t kinds[] = {[CM_TOKEN_APPLIED] = CM_OUTCOME_APPLIED,
                                              [CM_TOKEN_HELD] = CM_OUTCOME_APPLIED,
                                              [CM_TOKEN_STALE] = CM_OUTCOME_STALE,
                                              [CM_TOKEN_DUPLICATE] = CM_OUTCOME_DUPLICATE};
    static const cm_push_result_t results[] = {[CM_TOKEN_APPLIED] = CM_PUSH_RESULT_APPLIED,
                                               [CM_TOKEN_HELD] = CM_PUSH_RESULT_HELD,
                                               [CM_TOKEN_STALE] = CM_PUSH_RESULT_STALE,
                                               [CM_TOKEN_DUPLICATE] = CM_PUSH_RESULT_DUPLICATE};
    if (fault_of(entry))
        return;
    if (!entry->verdict) {
        settle_without_write(batch, entry);
        return;
    }
    if (entry->verdict->result != CM_TOKEN_FAILED) {
        decide(batch, entry, kinds[entry->verdict->result]);
        count(batch, entry, results[entry->verdict->result]);
        return;
    }
    log_failure(batch, tenant->id, entry->verdict->error);
    defer(batch, entry, DEFER_MIN_MS);
}

/* A tenant that failed as a whole. */
static cm_status_t settle_failed(batch_t *batch, cm_push_tenant_t *tenant, cm_error_t *err)
{
    const cm_error_t *failure = first_failure(tenant);
    if (failure && failure->status == CM_MISSING)
        return settle_missing(batch, tenant, failure, err);
    if (failure && parks(failure))
        park(batch, tenant, failure);
    else if (tenant->verdict_count)
        cm_tenant_directory_unpark(batch->self->directory, tenant->id);
    return CM_OK;
}

/* The connection is the actor's own and the same for its life; it is told with each batch. */
static cm_token_status_store_t *store_of(updater_t *self, cm_pg_t *pg)
{
    if (self->pg != pg)
        cm_token_status_store_destroy(&self->store);
    if (!self->store)
        self->store = cm_token_status_store_new(pg, self->admin_schema);
    self->pg = pg;
    return self->store;
}

static cm_status_t write_tenants(batch_t *batch, cm_error_t *err)
{
    cm_push_job_t *job = &batch->job;
    cm_token_tenant_t *out = cm_arena_alloc(batch->arena, (job->tenant_count + 1) * sizeof *out);
    size_t writing = 0;
    for (size_t i = 0; i < job->tenant_count; i++) {
        cm_push_tenant_t *tenant = &job->tenants[i];
        if (tenant->settled || !tenant->verdict_count)
            continue;
        tenant->written = &out[writing++];
        *tenant->written =
            (cm_token_tenant_t){.verdicts = tenant->verdicts, .count = tenant->verdict_count};
        memcpy(tenant->written->tenant, tenant->id, sizeof tenant->id);
        ask_brake(batch, tenant, tenant->written);
    }
    if (!writing)
        return CM_OK;
    cm_status_t status =
        cm_token_status_store_write(store_of(batch->self, batch->pg), out, writing, err);
    cm_crash_point("after-commit");
    return status;
}

/* First what may fail, then what is counted, so that a batch handled again is counted once. */
static cm_status_t settle(batch_t *batch, cm_error_t *err)
{
    cm_push_job_t *job = &batch->job;
    cm_status_t status = CM_OK;
    for (size_t i = 0; status == CM_OK && i < job->tenant_count; i++)
        if (!job->tenants[i].settled)
            status = settle_failed(batch, &job->tenants[i], err);
    for (size_t i = 0; status == CM_OK && i < job->tenant_count; i++)
        if (!job->tenants[i].settled)
            reject_faulty(batch, job->tenants[i].entries, job->tenants[i].count);
    if (status == CM_OK) {
        reject_faulty(batch, job->order, job->without_tenant);
        status = cm_rejections_settle(&batch->rejections, batch->pg, err);
    }
    for (size_t i = 0; status == CM_OK && i < job->tenant_count; i++) {
        cm_push_tenant_t *tenant = &job->tenants[i];
        if (tenant->written)
            learn(batch, tenant, tenant->written->is_tripped);
        for (size_t k = 0; !tenant->settled && k < tenant->count; k++)
            settle_entry(batch, tenant, tenant->entries[k]);
    }
    return status;
}

/* ---- the handler ---------------------------------------------------------------------------- */

/* Brakes may go off by a command, or on by another instance: look now and then. */
static cm_status_t look_at_brakes(updater_t *self, cm_pg_t *pg, cm_error_t *err)
{
    int64_t brakes = 0, held = 0, mono_ms = cm_clock_mono_ms();
    if (mono_ms < self->totals_ms)
        return CM_OK;
    self->totals_ms = mono_ms + TOTALS_MS;
    cm_status_t status = cm_push_brake_totals(pg, self->admin_schema, &brakes, &held, err);
    if (status == CM_OK) {
        cm_metric_set(self->metrics.brakes_on, (double)brakes);
        cm_metric_set(self->metrics.held, (double)held);
        return CM_OK;
    }
    if (status == CM_UNAVAILABLE || status == CM_MISCONFIGURED)
        return status; /* the link's, which logs it */
    cm_log(CM_LOG_WARN, self->args->name, "push brakes not counted",
           "class=%s code=\"%s\" cause=\"%s\"", cm_status_name(status), err->code, err->message);
    return CM_OK;
}

/* Some tenants of a round; one with more than a tick has time for is first in the next. What is
 * wrong with one holds up no other. */
static cm_status_t prune(updater_t *self, cm_pg_t *pg, cm_error_t *err)
{
    for (int i = 0; i < PRUNE_TENANTS && cm_clock_mono_ms() >= self->prune_ms; i++) {
        char tenant[CM_TENANT_ID_MAX];
        int64_t forgotten = 0;
        unsigned withheld = 0;
        cm_status_t status = cm_token_status_prune_next(pg, self->admin_schema, self->pruned,
                                                        PRUNE_ROWS, tenant, &forgotten, err);
        if (status == CM_UNAVAILABLE && !cm_pg_is_isolable(err))
            return status;
        if (status != CM_OK && cm_log_allowed(&self->prune_log, LOG_INTERVAL_MS, &withheld))
            cm_log(CM_LOG_WARN, self->args->name, "old verdicts not forgotten, tried again",
                   "tenant=\"%s\" class=%s code=\"%s\" withheld=%u cause=\"%s\"", tenant,
                   cm_status_name(status), err->code, withheld, err->message);
        if (forgotten == PRUNE_ROWS)
            break;
        memcpy(self->pruned, tenant, sizeof tenant);
        if (!*tenant)
            self->prune_ms = cm_clock_mono_ms() + PRUNE_EVERY_MS;
    }
    return CM_OK;
}

static cm_status_t updater_tick(void *state, cm_pg_t *pg, cm_error_t *err)
{
    cm_status_t status = look_at_brakes(state, pg, err);
    return status == CM_OK ? prune(state, pg, err) : status;
}

static cm_status_t updater_handle(void *state, cm_pg_t *pg, const cm_delivery_batch_t *deliveries,
                                  cm_outcome_t *outcomes, cm_arena_t *arena, cm_error_t *err)
{
    updater_t *self = state;
    batch_t batch = {.self = self,
                     .pg = pg,
                     .batch = deliveries,
                     .outcomes = outcomes,
                     .arena = arena,
                     .rejections = {.args = self->args,
                                    .batch = deliveries,
                                    .outcomes = outcomes,
                                    .arena = arena},
                     .now_ms = cm_clock_epoch_ms(),
                     .mono_ms = cm_clock_mono_ms()};
    cm_push_job_load(&batch.job, deliveries, batch.now_ms, arena);
    cm_status_t status = ask_registry(&batch, err);
    if (status == CM_OK)
        status = write_tenants(&batch, err);
    if (status == CM_OK)
        status = settle(&batch, err);
    return status;
}

void cm_push_token_status_actor(zsock_t *pipe, void *args)
{
    static const cm_subworker_handler_t handler = {.open = updater_open,
                                                   .handle = updater_handle,
                                                   .close = updater_close,
                                                   .tick = updater_tick,
                                                   .tick_ms = TICK_MS};
    cm_subworker_run(pipe, args, &handler);
}
