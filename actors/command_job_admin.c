/* job list, history, show, cancel, pause and resume. */
#include "actors/command_job.h"
#include "actors/job_schedule.h"
#include "actors/table.h"
#include "runtime/cleanup.h"
#include "schema/migration.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define APPLICATION "client-manager job"
enum { PAGE = 500 };

static const char *admin_of(const cm_invocation_t *invocation)
{
    return invocation->options->postgres.admin_schema;
}

static void cell_str(cm_table_t *table, cm_str_t text)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t copy = {0};
    cm_buffer_append(&copy, text.ptr ? text.ptr : "", text.len);
    cm_table_cell(table, cm_buffer_text(&copy));
}

/* ---- list ----------------------------------------------------------------------------------- */

typedef struct {
    const cm_invocation_t *invocation;
    cm_pg_t *pg;
    cm_arena_t *arena;
    cm_table_t table;
} list_t;

static const char *state_of(const cm_job_t *job, bool known, bool held)
{
    return !known                       ? "never seen"
           : job->unfinished_id && held ? "running"
           : job->unfinished_id         ? "unfinished"
           : job->schedule.requested_ms ? "requested"
           : job->schedule.paused       ? "paused"
                                        : "idle";
}

static cm_status_t find_holder(list_t *self, const char *job, cm_lease_t *lease, bool *ret_held,
                               cm_error_t *err)
{
    cm_status_t status = cm_lease_find(self->pg, admin_of(self->invocation), job, lease, err);
    *ret_held = status == CM_OK && lease->expires_ms > lease->now_ms;
    return strcmp(err->code, "not-found") == 0 ? CM_OK : status;
}

static void add_last(list_t *self, const cm_job_run_t *run)
{
    if (!run) {
        cm_table_cell(&self->table, "");
        cm_table_cell(&self->table, "");
        cm_table_cell_time(&self->table, 0);
        return;
    }
    cm_table_cell_i64(&self->table, run->id);
    cm_table_cell(&self->table, cm_run_state_name(run->state));
    cm_table_cell_time(&self->table, run->ended_ms);
}

static void add_job(list_t *self, const cm_batch_job_t *job, const cm_job_schedule_t *schedule,
                    const cm_job_t *state, bool known, const cm_lease_t *lease, bool held,
                    const cm_job_run_t *last)
{
    const cm_job_schedule_options_t *options =
        cm_batch_job_schedule(job, self->invocation->options);
    int64_t next_ms = cm_job_schedule_next_ms(schedule, &state->schedule);
    cm_table_cell(&self->table, job->name);
    cm_table_cell(&self->table, options->cron);
    cm_table_cell(&self->table, schedule->has_ticks ? options->time_zone : "");
    cm_table_cell(&self->table, state_of(state, known, held));
    cm_table_cell(&self->table, held ? lease->holder : "");
    cm_table_cell_time(&self->table,
                       !known || state->schedule.paused || next_ms == CM_SCHEDULE_NEVER ? 0
                                                                                        : next_ms);
    add_last(self, last);
    cm_table_cell(&self->table, state->paused_by);
}

static cm_status_t list_job(list_t *self, const cm_batch_job_t *job, cm_error_t *err)
{
    const char *admin = admin_of(self->invocation);
    cm_job_schedule_t schedule = {0};
    cm_job_t state = {0};
    cm_lease_t lease = {0};
    cm_job_run_t *last = NULL;
    size_t count = 0;
    bool held = false, known = true;
    cm_status_t status = cm_job_load(self->pg, admin, job->name, &state, err);
    if (status == CM_PERMANENT && strcmp(err->code, "not-found") == 0) {
        known = false; /* no scheduler has been here, and nobody has run it */
        status = CM_OK;
    }
    if (status == CM_OK)
        status = find_holder(self, job->name, &lease, &held, err);
    if (status == CM_OK)
        status = cm_job_history(self->pg, admin, job->name, 0, 1, self->arena, &last, &count, err);
    if (status == CM_OK)
        status = cm_job_schedule_open(&schedule, job->name,
                                      cm_batch_job_schedule(job, self->invocation->options), err);
    if (status == CM_OK)
        add_job(self, job, &schedule, &state, known, &lease, held, count ? last : NULL);
    cm_job_schedule_close(&schedule);
    return status;
}

int cm_command_job_list(const cm_invocation_t *invocation)
{
    static const cm_column_t columns[] = {
        {"job", false},           {"schedule", false}, {"time_zone", false}, {"state", false},
        {"holder", false},        {"next_at", false},  {"last_run", true},   {"last_state", false},
        {"last_ended_at", false}, {"paused_by", false}};
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = NULL;
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(16 * 1024);
    cm_error_t err = {0};
    cm_status_t status = cm_command_admin_read(invocation, APPLICATION, CM_ADMIN_JOBS, &pg, &err);
    list_t self = {.invocation = invocation, .pg = pg, .arena = arena};
    cm_table_start(&self.table, columns, CM_LENGTH(columns), invocation->json);
    for (size_t i = 0; status == CM_OK && i < cm_batch_job_count; i++)
        status = list_job(&self, &cm_batch_jobs[i], &err);
    if (status == CM_OK) {
        cm_table_end(&self.table);
        return CM_EXIT_OK;
    }
    cm_table_drop(&self.table);
    return cm_command_fail(invocation, &err);
}

/* ---- history -------------------------------------------------------------------------------- */

static void add_run(cm_table_t *table, const cm_job_run_t *run)
{
    cm_table_cell_i64(table, run->id);
    cell_str(table, run->job);
    cm_table_cell_time(table, run->tick_ms);
    cm_table_cell(table, cm_run_kind_name(run->kind));
    cm_table_cell(table, cm_run_state_name(run->state));
    cm_table_cell_i64(table, run->ticks);
    cm_table_cell_i64(table, run->attempts);
    cm_table_cell_time(table, run->started_ms);
    cm_table_cell_time(table, run->ended_ms);
    cell_str(table, run->holder);
    cell_str(table, run->requested_by);
    cell_str(table, run->error_code);
    cell_str(table, run->error_message);
}

int cm_command_job_history(const cm_invocation_t *invocation)
{
    static const cm_column_t columns[] = {
        {"run", true},           {"job", false},    {"tick", false},         {"kind", false},
        {"state", false},        {"ticks", true},   {"attempts", true},      {"started_at", false},
        {"ended_at", false},     {"holder", false}, {"requested_by", false}, {"error_code", false},
        {"error_message", false}};
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = NULL;
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(64 * 1024);
    cm_error_t err = {0};
    cm_table_t table;
    size_t count = 1;
    int64_t left = 0, before = 0;
    if (!cm_flag_i64(invocation, "limit", 1, INT64_MAX, &left))
        return CM_EXIT_USAGE;
    cm_status_t status = cm_command_admin_read(invocation, APPLICATION, CM_ADMIN_JOBS, &pg, &err);
    cm_table_start(&table, columns, CM_LENGTH(columns), invocation->json);
    while (status == CM_OK && count && left > 0) {
        cm_job_run_t *runs = NULL;
        cm_arena_reset(arena);
        status = cm_job_history(pg, admin_of(invocation),
                                invocation->arg_count ? invocation->args[0] : NULL, before,
                                left < PAGE ? (size_t)left : PAGE, arena, &runs, &count, &err);
        for (size_t i = 0; status == CM_OK && i < count; i++)
            add_run(&table, &runs[i]);
        if (status == CM_OK && count)
            before = runs[count - 1].id;
        left -= (int64_t)count;
    }
    if (status == CM_OK) {
        cm_table_end(&table);
        return CM_EXIT_OK;
    }
    cm_table_drop(&table);
    return cm_command_fail(invocation, &err);
}

/* ---- show ----------------------------------------------------------------------------------- */

static bool parse_run(const cm_invocation_t *invocation, int64_t *ret_id)
{
    if (cm_str_to_i64(cm_str(invocation->args[0]), ret_id) && *ret_id > 0)
        return true;
    fprintf(stderr, "client-manager %s: \"%s\" is no number of a run; see `job history`\n",
            invocation->command->name, invocation->args[0]);
    return false;
}

static cm_status_t add_tenants(const cm_invocation_t *invocation, cm_pg_t *pg, int64_t run_id,
                               cm_table_t *table, cm_error_t *err)
{
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(64 * 1024);
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t after = {0};
    bool failed_only = cm_flag_given(invocation, "failed");
    cm_status_t status = CM_OK;
    size_t count = PAGE;
    while (status == CM_OK && count == PAGE) {
        cm_job_tenant_result_t *results = NULL;
        cm_arena_reset(arena);
        status = cm_job_run_tenants(pg, admin_of(invocation), run_id, cm_buffer_text(&after), PAGE,
                                    arena, &results, &count, err);
        for (size_t i = 0; status == CM_OK && i < count; i++) {
            const cm_job_tenant_result_t *result = &results[i];
            if (failed_only && result->state != CM_RUN_TENANT_FAILED)
                continue;
            cell_str(table, result->tenant);
            cm_table_cell(table, cm_run_tenant_name(result->state));
            cm_table_cell_i64(table, result->attempts);
            cm_table_cell_time(table, result->at_ms);
            cell_str(table, result->error_code);
            cell_str(table, result->error_message);
            cell_str(table, result->detail);
        }
        if (status == CM_OK && count) {
            cm_buffer_clear(&after);
            cm_buffer_append(&after, results[count - 1].tenant.ptr, results[count - 1].tenant.len);
        }
    }
    return status;
}

/* On stderr: what is about the run, beside its tenants on stdout. */
static void tell_run(const cm_job_run_t *run)
{
    fprintf(stderr, "run %" PRId64 " of %.*s: %s, attempts %d, at %.*s%s\n", run->id,
            CM_STR_ARG(run->job), cm_run_state_name(run->state), run->attempts,
            CM_STR_ARG(run->holder),
            run->state == CM_RUN_RUNNING && run->cancel_requested_ms ? ", being cancelled" : "");
    if (run->error_code.len)
        fprintf(stderr, "error: %.*s (%.*s)\n", CM_STR_ARG(run->error_message),
                CM_STR_ARG(run->error_code));
    fprintf(stderr, "summary: %.*s\n", CM_STR_ARG(run->summary));
}

int cm_command_job_show(const cm_invocation_t *invocation)
{
    static const cm_column_t columns[] = {
        {"tenant", false},     {"state", false},         {"attempts", true}, {"at", false},
        {"error_code", false}, {"error_message", false}, {"detail", false}};
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = NULL;
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(64 * 1024);
    cm_job_run_t run = {0};
    cm_error_t err = {0};
    cm_table_t table;
    int64_t run_id = 0;
    if (!parse_run(invocation, &run_id))
        return CM_EXIT_USAGE;
    cm_status_t status = cm_command_admin_read(invocation, APPLICATION, CM_ADMIN_JOBS, &pg, &err);
    cm_table_start(&table, columns, CM_LENGTH(columns), invocation->json);
    if (status == CM_OK)
        status = cm_job_run_find(pg, admin_of(invocation), run_id, arena, &run, &err);
    if (status == CM_OK)
        status = add_tenants(invocation, pg, run_id, &table, &err);
    if (status != CM_OK) {
        cm_table_drop(&table);
        return cm_command_fail(invocation, &err);
    }
    tell_run(&run);
    cm_table_end(&table);
    return CM_EXIT_OK;
}

/* ---- what people ask ------------------------------------------------------------------------ */

int cm_command_job_cancel(const cm_invocation_t *invocation)
{
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = NULL;
    char by[CM_OPERATOR_MAX];
    cm_error_t err = {0};
    int64_t run_id = 0;
    if (!parse_run(invocation, &run_id))
        return CM_EXIT_USAGE;
    cm_status_t status = cm_command_admin_write(invocation, APPLICATION, &pg, &err);
    if (status == CM_OK)
        status = cm_job_cancel(pg, admin_of(invocation), run_id, cm_command_operator(by), &err);
    if (status != CM_OK)
        return cm_command_fail(invocation, &err);
    fprintf(stderr, "run %" PRId64 " is asked to stop at its next step\n", run_id);
    return CM_EXIT_OK;
}

static int pause_or_resume(const cm_invocation_t *invocation, bool pause)
{
    const cm_batch_job_t *job = cm_command_job_find(invocation, invocation->args[0]);
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = NULL;
    const char *admin = admin_of(invocation);
    char by[CM_OPERATOR_MAX];
    cm_error_t err = {0};
    if (!job)
        return CM_EXIT_USAGE;
    cm_status_t status = cm_command_admin_write(invocation, APPLICATION, &pg, &err);
    if (status == CM_OK)
        status = cm_job_register(pg, admin, job->name, &err);
    if (status == CM_OK)
        status = pause ? cm_job_pause(pg, admin, job->name, cm_command_operator(by), &err)
                       : cm_job_unpause(pg, admin, job->name, &err);
    if (status != CM_OK)
        return cm_command_fail(invocation, &err);
    fprintf(stderr,
            pause ? "%s is paused: it begins only what is asked for; a run under way goes on\n"
                  : "%s is resumed: its schedule counts from now on\n",
            job->name);
    return CM_EXIT_OK;
}

int cm_command_job_pause(const cm_invocation_t *invocation)
{
    return pause_or_resume(invocation, true);
}

int cm_command_job_resume(const cm_invocation_t *invocation)
{
    return pause_or_resume(invocation, false);
}
