#include "actors/device_actor.h"
#include "actors/device_job.h"
#include "actors/tenant_directory.h"
#include "runtime/actor.h"
#include "runtime/clock.h"
#include "runtime/crash.h"
#include "runtime/frame.h"
#include "runtime/log.h"

#include <stdlib.h>
#include <string.h>

enum { IDLE_MS = 250, SUSPENDED_MS = 30000, UNREADY_MS = 5000 };

typedef struct {
    const cm_subworker_args_t *args;
    zsock_t *pipe;
    cm_subworker_sockets_t sockets;
    cm_reporter_t reporter;
    cm_pg_link_t link;
    cm_device_store_t *store;
    cm_tenant_directory_t *directory;
    cm_device_rules_t rules;
    cm_device_job_t jobs[2];
    cm_device_job_t *current, *next; /* being written (or waiting for the database), decoded */
    bool writing;                    /* the store has current under way */
    bool waiting;                    /* the gateway knows that we take nothing */
    bool draining, drained_told, running;
    int64_t held_since_ms; /* monotonic, of the first failure; 0 = the last batch went through */
    int64_t begun_us;
    cm_log_limit_t failure_log;
    cm_metric_t *seconds, *statements, *isolations, *parked, *unclassified;
    char (*ids)[CM_TENANT_ID_MAX]; /* scratch, as many as a batch had tenants: see resolve() */
    cm_tenant_state_t *states;
    size_t scratch_cap;
    cm_device_store_stats_t told; /* store figures already in the metrics */
} device_actor_t;

/* ---- outcomes ------------------------------------------------------------------------------- */

static void send_outcomes(device_actor_t *self, cm_device_job_t *job, unsigned credits)
{
    cm_buffer_t frame = {0};
    cm_device_job_finish(job, &self->rules, credits, &frame);
    cm_frame_send(self->sockets.outcomes, &frame, ZMQ_DONTWAIT);
}

/* There is never a next batch without a current one: receive() relies on it. */
static void finish_current(device_actor_t *self)
{
    send_outcomes(self, self->current, 1);
    self->current = self->next;
    self->next = NULL;
    self->writing = false;
    self->held_since_ms = 0;
}

/* Give everything in hand back, and take nothing until the database is there again. */
static void release_all(device_actor_t *self)
{
    if (self->current)
        send_outcomes(self, self->current, 0);
    if (self->next)
        send_outcomes(self, self->next, 0);
    self->current = self->next = NULL;
    self->writing = false;
    self->waiting = true;
}

/* ---- failures ------------------------------------------------------------------------------- */

static void log_failure(device_actor_t *self, const char *tenant, const cm_error_t *err)
{
    unsigned withheld = 0;
    if (cm_log_allowed(&self->failure_log, 1000, &withheld))
        cm_log(CM_LOG_WARN, self->args->name, "write failed",
               "tenant=\"%s\" class=%s code=\"%s\" withheld=%u cause=\"%s\"", tenant,
               cm_status_name(err->status), err->code, withheld, err->message);
}

/* By the registry: what a tenant that cannot be written means for its deliveries. True when it is
 * settled now. */
static bool settle_by_state(device_actor_t *self, cm_job_tenant_t *tenant, cm_tenant_state_t state)
{
    cm_error_t err = {0};
    switch (state) {
    case CM_TENANT_ACTIVE:
        return false;
    case CM_TENANT_SUSPENDED:
        cm_device_job_settle(self->current, tenant, CM_OUTCOME_DEFER,
                             cm_clock_epoch_ms() + SUSPENDED_MS);
        return true;
    case CM_TENANT_UNREADY:
        cm_error_set(&err, CM_MISCONFIGURED, "tenant-not-ready",
                     "its schema has another version than this program; see `tenant migrate`");
        log_failure(self, tenant->store.tenant, &err);
        cm_device_job_settle(self->current, tenant, CM_OUTCOME_DEFER,
                             cm_clock_epoch_ms() + UNREADY_MS);
        return true;
    case CM_TENANT_DELETING:
    case CM_TENANT_DELETED:
        cm_device_job_settle(self->current, tenant, CM_OUTCOME_DROPPED, 0);
        return true;
    case CM_TENANT_ABSENT:
    case CM_TENANT_ACTIVATING:
        cm_error_set(&err, CM_MISSING, "tenant-missing", "tenant is %s",
                     cm_tenant_state_name(state));
        cm_device_job_fail(self->current, tenant, &self->rules, &err);
        return true;
    }
    return false;
}

/* A schema that is not there although the tenant was thought active; the registry was asked anew.
 */
static cm_status_t settle_missing(device_actor_t *self, cm_job_tenant_t *tenant, cm_error_t *err)
{
    cm_tenant_state_t state = CM_TENANT_ABSENT;
    const char(*id)[CM_TENANT_ID_MAX] = (const char(*)[CM_TENANT_ID_MAX])tenant->store.tenant;
    cm_status_t status =
        cm_tenant_directory_states(self->directory, self->link.pg, id, 1, &state, err);
    if (status != CM_OK || settle_by_state(self, tenant, state))
        return status;
    cm_error_t missing = {0};
    cm_error_set(&missing, CM_MISSING, "tenant-missing", "tenant is active but has no schema");
    cm_log(CM_LOG_ERROR, self->args->name, "schema is gone", "tenant=\"%s\"", tenant->store.tenant);
    cm_device_job_fail(self->current, tenant, &self->rules, &missing);
    return CM_OK;
}

static void park(device_actor_t *self, cm_job_tenant_t *tenant, const cm_error_t *err)
{
    int ms = cm_tenant_directory_park(self->directory, tenant->store.tenant, cm_clock_mono_ms());
    cm_log(CM_LOG_WARN, self->args->name, "tenant parked",
           "tenant=\"%s\" ms=%d code=\"%s\" cause=\"%s\"", tenant->store.tenant, ms, err->code,
           err->message);
    if (cm_outcome_for(err->status) == CM_OUTCOME_RELEASE) /* its schema is at fault, no message */
        cm_device_job_settle(self->current, tenant, CM_OUTCOME_DEFER, cm_clock_epoch_ms() + ms);
    else
        cm_device_job_fail(self->current, tenant, &self->rules, err);
}

/* Several events were merged into a change that cannot be stored: try each alone, in their order,
 * so that only the bad one is rejected. */
static cm_status_t write_alone(device_actor_t *self, cm_job_tenant_t *tenant,
                               const cm_store_item_t *item, cm_error_t *err)
{
    for (uint32_t i = tenant->first; i != CM_JOB_END; i = self->current->entries[i].next) {
        cm_job_entry_t *entry = &self->current->entries[i];
        if (entry->item != item || entry->decided)
            continue;
        cm_device_event_t event;
        cm_store_item_t alone = {0};
        cm_store_tenant_t store = {.items = &alone, .count = 1};
        memcpy(store.tenant, tenant->store.tenant, sizeof store.tenant);
        cm_device_event_decode(self->current->batch.items[i].body, cm_clock_epoch_ms(),
                               self->current->arena, &event, err);
        cm_device_change_from_event(&alone.change, &event);
        cm_status_t status = cm_device_store_write(self->store, &store, 1, err);
        if (status != CM_OK)
            return status;
        if (alone.result == CM_CHANGE_FAILED)
            cm_device_job_fail_entry(self->current, i, &self->rules, alone.error);
        else
            cm_device_job_decide_entry(self->current, i, alone.result);
    }
    return CM_OK;
}

static bool is_shared(const cm_device_job_t *job, const cm_job_tenant_t *tenant,
                      const cm_store_item_t *item)
{
    unsigned count = 0;
    for (uint32_t i = tenant->first; i != CM_JOB_END && count < 2; i = job->entries[i].next)
        count += job->entries[i].item == item;
    return count > 1;
}

/* Failures of a whole tenant; UNAVAILABLE means that its files are damaged. */
static bool parks(const cm_error_t *err)
{
    return strcmp(err->code, "55P03") == 0 || strcmp(err->code, "57014") == 0 ||
           err->status == CM_MISCONFIGURED || err->status == CM_UNAVAILABLE;
}

static bool has_failed(const cm_store_tenant_t *store)
{
    for (size_t i = 0; i < store->count; i++)
        if (store->items[i].result == CM_CHANGE_FAILED)
            return true;
    return false;
}

/* A tenant whose write failed may have been deleted since it was looked up, and nothing of it may
 * go to the errors topic then: ask the registry anew, for all of them at once. */
static cm_status_t settle_deleted(device_actor_t *self, cm_error_t *err)
{
    cm_device_job_t *job = self->current;
    size_t count = 0, asked = 0;
    for (size_t i = 0; i < job->tenant_count; i++) {
        const cm_job_tenant_t *tenant = &job->tenants[i];
        if (tenant->settled || !has_failed(&tenant->store))
            continue;
        cm_tenant_directory_doubt(self->directory, tenant->store.tenant);
        memcpy(self->ids[count++], tenant->store.tenant, sizeof *self->ids);
    }
    if (count == 0)
        return CM_OK;
    cm_status_t status = cm_tenant_directory_states(self->directory, self->link.pg,
                                                    (const char(*)[CM_TENANT_ID_MAX])self->ids,
                                                    count, self->states, err);
    for (size_t i = 0; status == CM_OK && asked < count; i++) {
        cm_job_tenant_t *tenant = &job->tenants[i];
        if (strcmp(tenant->store.tenant, self->ids[asked]) != 0)
            continue;
        cm_tenant_state_t state = self->states[asked++];
        if (state == CM_TENANT_DELETING || state == CM_TENANT_DELETED)
            settle_by_state(self, tenant, state);
    }
    return status;
}

/* The failed items of one tenant become outcomes. */
static cm_status_t settle_failures(device_actor_t *self, cm_job_tenant_t *tenant, cm_error_t *err)
{
    cm_device_job_t *job = self->current;
    for (uint32_t i = tenant->first; i != CM_JOB_END; i = job->entries[i].next) {
        cm_job_entry_t *entry = &job->entries[i];
        if (entry->decided || !entry->item || entry->item->result != CM_CHANGE_FAILED)
            continue;
        cm_error_t cause = *entry->item->error; /* the store may be used again below */
        log_failure(self, tenant->store.tenant, &cause);
        cm_status_t status = CM_OK;
        if (cause.status == CM_MISSING)
            status = settle_missing(self, tenant, err);
        else if (parks(&cause))
            park(self, tenant, &cause);
        else if (cause.status == CM_PERMANENT && is_shared(job, tenant, entry->item))
            status = write_alone(self, tenant, entry->item, err);
        else
            cm_device_job_fail_entry(job, i, &self->rules, &cause);
        if (status != CM_OK)
            return status;
    }
    return CM_OK;
}

/* ---- writing -------------------------------------------------------------------------------- */

static void database_away(device_actor_t *self, cm_status_t status, const cm_error_t *err)
{
    /* No other class tells of a whole batch: a transaction in the way, say, and that goes with the
     * connection. */
    bool misconfigured = status == CM_MISCONFIGURED;
    cm_pg_link_record(&self->link, misconfigured ? status : CM_UNAVAILABLE, err);
    if (misconfigured) /* the connection may be sound; begin anew all the same */
        cm_pg_close(self->link.pg);
    self->writing = false;
    if (!self->held_since_ms)
        self->held_since_ms = cm_clock_mono_ms();
}

static void written(device_actor_t *self)
{
    cm_error_t err = {0};
    cm_crash_point("after-commit");
    cm_device_job_written(self->current);
    cm_status_t status = settle_deleted(self, &err);
    for (size_t i = 0; status == CM_OK && i < self->current->tenant_count; i++) {
        cm_job_tenant_t *tenant = &self->current->tenants[i];
        if (!tenant->settled)
            status = settle_failures(self, tenant, &err);
        if (!tenant->settled)
            cm_tenant_directory_unpark(self->directory, tenant->store.tenant);
    }
    cm_metric_observe(self->seconds, (double)(cm_clock_mono_us() - self->begun_us) / 1e6);
    if (status != CM_OK) {
        database_away(self, status, &err);
        return;
    }
    cm_pg_link_record(&self->link, CM_OK, NULL);
    finish_current(self);
}

static void pump(device_actor_t *self)
{
    bool done = false;
    cm_error_t err = {0};
    cm_status_t status = cm_device_store_pump(self->store, &done, &err);
    if (status == CM_OK && !done)
        return;
    if (status != CM_OK && status != CM_UNAVAILABLE && status != CM_MISCONFIGURED)
        status = cm_device_store_isolate(self->store, &err);
    if (status == CM_OK)
        written(self);
    else
        database_away(self, status, &err);
}

/* Not from the arena of the job, which is resolved anew with every attempt. */
static void reserve_scratch(device_actor_t *self, size_t count)
{
    if (count <= self->scratch_cap)
        return;
    self->ids = realloc(self->ids, count * sizeof *self->ids);
    self->states = realloc(self->states, count * sizeof *self->states);
    if (!self->ids || !self->states)
        abort();
    self->scratch_cap = count;
}

/* Defer a tenant that is parked, or was for a lock that is still there. A write would find that out
 * by waiting for the lock, and every other tenant of this shard with it. Whatever else it was
 * parked for, it is given little time. */
static void wait_if_parked(device_actor_t *self, cm_job_tenant_t *tenant, int64_t now_ms)
{
    cm_error_t err = {0};
    const char *id = tenant->store.tenant;
    int wait_ms = cm_tenant_directory_parked_ms(self->directory, id, now_ms);
    tenant->store.on_trial = !wait_ms && cm_tenant_directory_on_trial(self->directory, id, now_ms);
    if (tenant->store.on_trial && cm_device_store_try_lock(self->store, id, &err) == CM_TRANSIENT)
        wait_ms = cm_tenant_directory_park(self->directory, id, now_ms);
    if (wait_ms)
        cm_device_job_settle(self->current, tenant, CM_OUTCOME_DEFER,
                             cm_clock_epoch_ms() + wait_ms);
}

/* Settle the tenants that are not to be written now: unknown, suspended, deleted, parked. */
static cm_status_t resolve(device_actor_t *self, cm_error_t *err)
{
    cm_device_job_t *job = self->current;
    size_t count = job->tenant_count;
    reserve_scratch(self, count);
    char(*ids)[CM_TENANT_ID_MAX] = self->ids;
    const cm_tenant_state_t *states = self->states;
    for (size_t i = 0; i < count; i++) {
        memcpy(ids[i], job->tenants[i].store.tenant, sizeof ids[i]);
        if (job->tenants[i].has_malformed) /* believed alive, its dead letters would be kept */
            cm_tenant_directory_doubt(self->directory, ids[i]);
    }
    cm_status_t status =
        cm_tenant_directory_states(self->directory, self->link.pg,
                                   (const char(*)[CM_TENANT_ID_MAX])ids, count, self->states, err);
    if (status != CM_OK)
        return status;
    int64_t now_ms = cm_clock_mono_ms();
    for (size_t i = 0; i < count; i++) {
        cm_job_tenant_t *tenant = &job->tenants[i];
        if (!tenant->settled && !settle_by_state(self, tenant, states[i]))
            wait_if_parked(self, tenant, now_ms);
    }
    cm_device_job_select(job, &self->rules);
    return CM_OK;
}

static void begin(device_actor_t *self)
{
    cm_error_t err = {0};
    size_t touched = cm_device_store_stats(self->store).tenants_touched;
    cm_status_t status = cm_pg_link_up(&self->link, self->pipe, touched, &err);
    if (status != CM_OK) {
        if (status != CM_CANCELLED && !self->held_since_ms)
            self->held_since_ms = cm_clock_mono_ms();
        return;
    }
    status = resolve(self, &err);
    if (status == CM_OK && self->current->writing_count == 0) {
        finish_current(self);
        return;
    }
    self->begun_us = cm_clock_mono_us();
    if (status == CM_OK)
        status = cm_device_store_begin(self->store, self->current->writing,
                                       self->current->writing_count, &err);
    cm_crash_point("before-commit");
    if (status != CM_OK)
        database_away(self, status, &err);
    else
        self->writing = true;
}

/* ---- the loop ------------------------------------------------------------------------------- */

/* A batch that cannot be read has no leases to answer with. It would stay in our hands, as the
 * gateway sees it, for as long as we live: end, and the next incarnation gives all of it back. */
static void receive(device_actor_t *self)
{
    zmq_msg_t frame;
    cm_error_t err = {0};
    if (!cm_frame_receive(self->sockets.work, &frame, ZMQ_DONTWAIT))
        return;
    cm_device_job_t *job = self->current == &self->jobs[0] ? &self->jobs[1] : &self->jobs[0];
    if (!cm_device_job_load(job, &frame, &self->rules, &err)) {
        cm_log(CM_LOG_ERROR, self->args->name, "batch refused, starting anew", "cause=\"%s\"",
               err.message);
        self->running = false;
        return;
    }
    if (self->current)
        self->next = job;
    else
        self->current = job;
}

static void on_pipe(device_actor_t *self)
{
    char *command = zstr_recv(self->pipe);
    if (!command || strcmp(command, "$TERM") == 0)
        self->running = false;
    else if (strcmp(command, "DRAIN") == 0)
        self->draining = true;
    zstr_free(&command);
}

/* The database is away: keep what is in hand for a while, then give it back; try to reconnect. */
static void mind_the_link(device_actor_t *self)
{
    int64_t held_ms = self->held_since_ms ? cm_clock_mono_ms() - self->held_since_ms : 0;
    if (self->held_since_ms && self->current && !self->writing &&
        (self->draining || held_ms >= self->args->options->breaker.hold_ms)) {
        cm_log(CM_LOG_WARN, self->args->name, "deliveries given back", "held_ms=%" PRId64, held_ms);
        release_all(self);
    }
    if (!self->waiting || cm_pg_link_wait_ms(&self->link) > 0)
        return;
    cm_error_t err = {0};
    if (cm_pg_link_up(&self->link, self->pipe, 0, &err) != CM_OK)
        return;
    self->held_since_ms = 0;
    self->waiting = false;
    cm_subworker_ready(&self->sockets, self->args);
}

static void tick(device_actor_t *self)
{
    if (self->draining && !self->drained_told && !self->current) {
        self->drained_told = true;
        zstr_send(self->pipe, "DRAINED");
    }
    if (!cm_reporter_due(&self->reporter))
        return;
    int64_t now_ms = cm_clock_mono_ms();
    cm_device_store_stats_t now = cm_device_store_stats(self->store);
    cm_metric_add(self->statements, now.statements - self->told.statements);
    cm_metric_add(self->isolations, now.isolations - self->told.isolations);
    self->told = now;
    cm_metric_set(self->parked, (double)cm_tenant_directory_parked_count(self->directory, now_ms));
    cm_metric_set(self->unclassified, (double)cm_pg_unclassified(self->link.pg));
    cm_reporter_tick(&self->reporter);
}

static int wait_ms(const device_actor_t *self)
{
    if (self->writing || (!self->current && !self->waiting))
        return IDLE_MS;
    if (self->current && !self->held_since_ms)
        return 0;
    int link_ms = cm_pg_link_wait_ms(&self->link);
    return link_ms < IDLE_MS ? link_ms + 1 : IDLE_MS;
}

static void step(device_actor_t *self)
{
    short pg_events = ZMQ_POLLIN;
    if (self->writing && cm_device_store_wants_write(self->store))
        pg_events |= ZMQ_POLLOUT;
    zmq_pollitem_t items[3] = {{zsock_resolve(self->pipe), 0, ZMQ_POLLIN, 0}};
    int count = 1, work = 0, pg = 0;
    if (!self->next) {
        work = count++;
        items[work] = (zmq_pollitem_t){zsock_resolve(self->sockets.work), 0, ZMQ_POLLIN, 0};
    }
    if (self->writing) {
        pg = count++;
        items[pg] = (zmq_pollitem_t){NULL, cm_pg_fd(self->link.pg), pg_events, 0};
    }
    if (zmq_poll(items, count, wait_ms(self)) < 0)
        return;
    if (items[0].revents)
        on_pipe(self);
    if (work && items[work].revents)
        receive(self);
    if (self->writing) /* also without an event: the store minds its deadline */
        pump(self);
    if (self->current && !self->writing)
        begin(self);
    if (self->held_since_ms || self->waiting)
        mind_the_link(self);
    tick(self);
}

/* Finish the write under way; its commit may have happened already. */
static void finish_in_hand(device_actor_t *self)
{
    while (self->writing) {
        short events = ZMQ_POLLIN;
        if (cm_device_store_wants_write(self->store))
            events |= ZMQ_POLLOUT;
        zmq_pollitem_t item = {NULL, cm_pg_fd(self->link.pg), events, 0};
        zmq_poll(&item, 1, IDLE_MS);
        pump(self);
    }
    release_all(self);
}

static void open_metrics(device_actor_t *self)
{
    cm_metrics_t *metrics = self->reporter.metrics;
    char labels[64];
    snprintf(labels, sizeof labels, "subworker=\"%s\"", self->args->subworker);
    self->seconds = cm_metrics_histogram(metrics, "client_manager_write_seconds",
                                         "One batch into PostgreSQL, commit included.", labels);
    self->statements = cm_metrics_counter(metrics, "client_manager_statements_total",
                                          "Data statements sent.", labels);
    self->isolations = cm_metrics_counter(metrics, "client_manager_isolations_total",
                                          "Batches searched for the row at fault.", labels);
    self->parked = cm_metrics_gauge(metrics, "client_manager_tenants_parked",
                                    "Tenants left alone after lock time-outs.", labels);
    self->unclassified = cm_metrics_gauge(metrics, "client_manager_unclassified_sqlstates",
                                          "SQLSTATEs that no rule names.", labels);
}

static cm_status_t open_all(device_actor_t *self, bool waits, cm_error_t *err)
{
    const cm_options_t *options = self->args->options;
    self->rules = (cm_device_rules_t){.subworker = self->args->subworker,
                                      .shard = self->args->shard,
                                      .prefix = options->broker.prefix,
                                      .waits = waits,
                                      .random = cm_random_u64()};
    cm_options_retry_policy(options, &self->rules.retry);
    cm_device_job_init(&self->jobs[0]);
    cm_device_job_init(&self->jobs[1]);
    self->directory = cm_tenant_directory_new(options->postgres.admin_schema);
    cm_status_t status =
        cm_reporter_open(&self->reporter, self->args->reports, self->args->name, err);
    if (status != CM_OK)
        return status;
    open_metrics(self);
    cm_pg_link_open(&self->link, options, self->args->name, self->args->role, &self->reporter);
    self->store = cm_device_store_new(self->link.pg, options->postgres.admin_schema);
    cm_device_store_set_erasure_key(self->store, options->erasure.key);
    return cm_subworker_open_sockets(&self->sockets, self->args, err);
}

void cm_device_actor_run(zsock_t *pipe, const cm_subworker_args_t *args, bool waits)
{
    device_actor_t self = {.args = args, .pipe = pipe, .waiting = true};
    cm_error_t err = {0};
    zsock_signal(pipe, 0);
    self.running = cm_actor_report(pipe, open_all(&self, waits, &err), &err) == CM_OK;
    if (self.running) {
        cm_subworker_fresh(&self.sockets, args);
        cm_reporter_state(&self.reporter, CM_ACTOR_RUNNING, "");
        while (self.running)
            step(&self);
        finish_in_hand(&self);
    }
    cm_device_store_destroy(&self.store);
    cm_pg_link_close(&self.link);
    cm_tenant_directory_destroy(&self.directory);
    cm_device_job_destroy(&self.jobs[0]);
    cm_device_job_destroy(&self.jobs[1]);
    free(self.ids);
    free(self.states);
    cm_subworker_close_sockets(&self.sockets);
    cm_reporter_close(&self.reporter);
}
