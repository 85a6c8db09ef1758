#include "actors/command.h"
#include "actors/progress.h"
#include "actors/table.h"
#include "proto/push_verdict.h"
#include "proto/tenant_id.h"
#include "runtime/cleanup.h"
#include "schema/migration.h"
#include "schema/push_brake_store.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { CHUNK = 2000 }; /* verdicts in one transaction */

#define NO_PROVIDER "none" /* on the command line: the sender named none */

typedef struct {
    const cm_invocation_t *invocation;
    const char *admin;
    char tenant[CM_TENANT_ID_MAX];
    const char *application, *provider; /* NULL: not given; provider "" is "none" */
    bool all, applies;
    cm_pg_t *pg;
    cm_arena_t *arena;
    cm_push_brake_t *brakes; /* of the tenant, those that are on */
    size_t brake_count;
} decision_t;

static const char *shown(const char *provider)
{
    return *provider ? provider : NO_PROVIDER;
}

static bool parse_tenant(const cm_invocation_t *invocation, size_t index, char id[CM_TENANT_ID_MAX])
{
    cm_error_t err = {0};
    const char *text = invocation->args[index];
    if (cm_tenant_id_canonical(cm_str(text), id, &err) == CM_OK)
        return true;
    fprintf(stderr, "client-manager push-token brake: \"%s\" is no tenant id: %s\n", text,
            err.message);
    return false;
}

static bool parse_provider(const char *text, const char **ret_provider)
{
    cm_push_provider_t provider;
    bool none = strcmp(text, NO_PROVIDER) == 0;
    if (none || cm_push_provider_parse(cm_str(text), &provider)) {
        *ret_provider = none ? "" : text;
        return true;
    }
    fprintf(stderr,
            "client-manager push-token brake: there is no provider \"%s\"; give fcm, apns, hms, "
            "webpush, sns or none\n",
            text);
    return false;
}

/* ---- list ----------------------------------------------------------------------------------- */

static void print_brakes(const cm_invocation_t *invocation, const cm_push_brake_t *brakes,
                         size_t count)
{
    static const cm_column_t columns[] = {
        {"tenant", false}, {"application", false}, {"provider", false}, {"held", true},
        {"since", false},  {"share", true},        {"gone", true},      {"judged", true}};
    cm_table_t table;
    cm_table_start(&table, columns, CM_LENGTH(columns), invocation->json);
    for (size_t i = 0; i < count; i++) {
        const cm_push_brake_t *brake = &brakes[i];
        cm_table_cell(&table, brake->tenant.ptr);
        cm_table_cell(&table, brake->application_code.ptr);
        cm_table_cell(&table, shown(brake->provider.ptr));
        cm_table_cell_i64(&table, brake->held);
        cm_table_cell_time(&table, brake->tripped_ms);
        cm_table_cell_i64(&table, brake->judged ? brake->gone * 100 / brake->judged : 0);
        cm_table_cell_i64(&table, brake->gone);
        cm_table_cell_i64(&table, brake->judged);
    }
    cm_table_end(&table);
}

static int list(const cm_invocation_t *invocation)
{
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = NULL;
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(16 * 1024);
    cm_error_t err = {0};
    char tenant[CM_TENANT_ID_MAX] = "";
    cm_push_brake_t *brakes = NULL;
    size_t count = 0;
    if (invocation->arg_count > 2 || cm_flag_given(invocation, "all")) {
        fputs("client-manager push-token brake list: give one tenant, or nothing for all\n",
              stderr);
        return CM_EXIT_USAGE;
    }
    if (invocation->arg_count > 1 && !parse_tenant(invocation, 1, tenant))
        return CM_EXIT_USAGE;
    cm_status_t status = cm_command_admin_read(invocation, "client-manager push-token",
                                               CM_ADMIN_PUSH_BRAKES, &pg, &err);
    if (status == CM_OK)
        status = cm_push_brake_list(pg, invocation->options->postgres.admin_schema,
                                    *tenant ? tenant : NULL, arena, &brakes, &count, &err);
    if (status != CM_OK)
        return cm_command_fail(invocation, &err);
    print_brakes(invocation, brakes, count);
    return CM_EXIT_OK;
}

/* ---- release and discard -------------------------------------------------------------------- */

static bool is_chosen(const decision_t *self, const cm_push_brake_t *brake)
{
    return self->all || (strcmp(brake->application_code.ptr, self->application) == 0 &&
                         (!self->provider || strcmp(brake->provider.ptr, self->provider) == 0));
}

/* Which of the brakes that are on; one that was named and is off comes along, so that what a
 * release that was cut off has left is seen to. False: told. */
static bool choose(decision_t *self)
{
    size_t kept = 0;
    for (size_t i = 0; i < self->brake_count; i++)
        if (is_chosen(self, &self->brakes[i]))
            self->brakes[kept++] = self->brakes[i];
    self->brake_count = kept;
    if (!self->all && !self->provider && kept > 1) {
        fprintf(stderr,
                "client-manager push-token brake: %zu brakes are on; name the provider:", kept);
        for (size_t i = 0; i < kept; i++)
            fprintf(stderr, "%s %s", i ? "," : "", shown(self->brakes[i].provider.ptr));
        fputc('\n', stderr);
        return false;
    }
    if (kept == 0 && self->provider) {
        self->brakes = cm_arena_alloc(self->arena, sizeof *self->brakes);
        self->brakes[0] = (cm_push_brake_t){.application_code = cm_str(self->application),
                                            .provider = cm_str(self->provider)};
        self->brake_count = 1;
    }
    return true;
}

/* Ask before something that cannot be undone. */
static int confirm(const decision_t *self)
{
    int64_t held = 0;
    for (size_t i = 0; i < self->brake_count; i++)
        held += self->brakes[i].held;
    if (self->invocation->yes || !held)
        return CM_EXIT_OK;
    if (!isatty(STDIN_FILENO)) {
        fputs("client-manager push-token brake: stdin is no terminal; say --yes\n", stderr);
        return CM_EXIT_USAGE;
    }
    char answer[8] = "";
    fprintf(stderr, "%s %lld verdicts that say gone? [y/N] ", self->applies ? "apply" : "forget",
            (long long)held);
    if (fgets(answer, sizeof answer, stdin) && (answer[0] == 'y' || answer[0] == 'Y'))
        return CM_EXIT_OK;
    fputs("nothing was changed\n", stderr);
    return CM_EXIT_FAILED;
}

/* One brake to its end; what was done is counted whatever the status. */
static cm_status_t carry_out(decision_t *self, const cm_push_brake_t *brake,
                             cm_audit_trail_t *audit, cm_push_brake_step_t *ret_done,
                             cm_error_t *err)
{
    cm_push_brake_decision_t decision = {.tenant = self->tenant,
                                         .application_code = brake->application_code.ptr,
                                         .provider = brake->provider.ptr,
                                         .applies = self->applies};
    cm_progress_t progress;
    cm_status_t status = CM_OK;
    *ret_done = (cm_push_brake_step_t){0};
    cm_progress_start(&progress, "verdicts", self->invocation->terminal);
    while (status == CM_OK && !ret_done->is_over) {
        cm_push_brake_step_t step = {0};
        status = cm_push_brake_decide(self->pg, self->admin, &decision, CHUNK, audit, &step, err);
        ret_done->taken += step.taken;
        ret_done->applied += step.applied;
        ret_done->was_on |= step.was_on;
        ret_done->is_over = step.is_over;
        if (self->invocation->terminal)
            cm_progress_update(&progress, (uint64_t)ret_done->taken, (uint64_t)brake->held, "");
    }
    if (progress.open)
        cm_progress_end(&progress, (uint64_t)ret_done->taken, (uint64_t)brake->held, "");
    return status;
}

static const char *word_for(const decision_t *self, const cm_push_brake_step_t *done)
{
    if (!done->is_over)
        return "interrupted";
    if (!done->was_on && !done->taken)
        return "off";
    return self->applies ? "released" : "discarded";
}

static int carry_out_all(decision_t *self)
{
    static const cm_column_t columns[] = {
        {"tenant", false},  {"application", false}, {"provider", false}, {"result", false},
        {"verdicts", true}, {"applied", true},      {"dropped", true}};
    char actor[CM_OPERATOR_MAX];
    cm_audit_trail_t audit = {.key = self->invocation->options->audit.key,
                              .actor = cm_command_operator(actor)};
    cm_error_t err = {0};
    cm_status_t status = CM_OK;
    cm_table_t table;
    cm_table_start(&table, columns, CM_LENGTH(columns), self->invocation->json);
    for (size_t i = 0; status == CM_OK && i < self->brake_count; i++) {
        cm_push_brake_step_t done;
        status = carry_out(self, &self->brakes[i], &audit, &done, &err);
        cm_table_cell(&table, self->tenant);
        cm_table_cell(&table, self->brakes[i].application_code.ptr);
        cm_table_cell(&table, shown(self->brakes[i].provider.ptr));
        cm_table_cell(&table, word_for(self, &done));
        cm_table_cell_i64(&table, done.taken);
        cm_table_cell_i64(&table, done.applied);
        cm_table_cell_i64(&table, done.taken - done.applied);
    }
    cm_table_end(&table);
    cm_command_tell_head(&audit.head);
    return status == CM_OK ? CM_EXIT_OK : cm_command_fail(self->invocation, &err);
}

static bool parse_decision(decision_t *self)
{
    const cm_invocation_t *invocation = self->invocation;
    size_t count = invocation->arg_count;
    self->all = cm_flag_given(invocation, "all");
    if (count < 2 || (self->all ? count > 2 : count < 3)) {
        fputs("client-manager push-token brake: give a tenant, and an application or --all\n",
              stderr);
        return false;
    }
    if (!self->all)
        self->application = invocation->args[2];
    return parse_tenant(invocation, 1, self->tenant) &&
           (count < 4 || parse_provider(invocation->args[3], &self->provider));
}

static int decide(const cm_invocation_t *invocation, bool applies)
{
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = NULL;
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(16 * 1024);
    cm_error_t err = {0};
    decision_t self = {.invocation = invocation,
                       .admin = invocation->options->postgres.admin_schema,
                       .applies = applies,
                       .arena = arena};
    if (!parse_decision(&self))
        return CM_EXIT_USAGE;
    cm_status_t status = cm_command_admin_write(invocation, "client-manager push-token", &pg, &err);
    self.pg = pg;
    if (status == CM_OK)
        status = cm_push_brake_list(pg, self.admin, self.tenant, arena, &self.brakes,
                                    &self.brake_count, &err);
    if (status != CM_OK)
        return cm_command_fail(invocation, &err);
    if (!choose(&self))
        return CM_EXIT_USAGE;
    int refused = confirm(&self);
    return refused == CM_EXIT_OK ? carry_out_all(&self) : refused;
}

/* ---- the command ---------------------------------------------------------------------------- */

int cm_command_push_token_brake(const cm_invocation_t *invocation)
{
    const char *verb = invocation->args[0];
    if (strcmp(verb, "list") == 0)
        return list(invocation);
    if (strcmp(verb, "release") == 0 || strcmp(verb, "discard") == 0)
        return decide(invocation, strcmp(verb, "release") == 0);
    fprintf(stderr, "client-manager push-token brake: \"%s\" is none of list, release, discard\n",
            verb);
    return CM_EXIT_USAGE;
}
