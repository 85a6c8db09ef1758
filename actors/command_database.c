#include "actors/command.h"
#include "actors/progress.h"
#include "actors/table.h"
#include "runtime/cleanup.h"
#include "schema/database_prepare.h"

#include <stdio.h>
#include <string.h>

#define APPLICATION "client-manager database"

enum { LOGINS_MAX = CM_REPEATS_MAX + 1 };

static const cm_column_t columns[] = {{"result", false}, {"what", false}, {"mend", false}};

static size_t show_notes(const cm_invocation_t *invocation, const cm_database_notes_t *notes,
                         bool dry)
{
    size_t left = 0;
    cm_table_t table;
    cm_table_start(&table, columns, CM_LENGTH(columns), invocation->json);
    for (size_t i = 0; i < notes->count; i++) {
        const cm_database_note_t *note = &notes->items[i];
        bool done = !*note->mend;
        const char *result = "left";
        if (done)
            result = dry ? "would" : "done";
        cm_table_cell(&table, result);
        cm_table_cell(&table, note->what);
        cm_table_cell(&table, note->mend);
        left += !done;
    }
    cm_table_end(&table);
    fflush(stdout); /* before the progress of the tenants */
    return left;
}

/* ---- tenants -------------------------------------------------------------------------------- */

static void on_progress(void *ctx, const cm_migrate_progress_t *now)
{
    cm_progress_t *progress = ctx;
    char more[32] = "";
    if (now->last_failed)
        cm_progress_say(progress, "tenant %s: %s (%s)", now->last_failed, now->last_error->message,
                        now->last_error->code);
    if (now->failed)
        snprintf(more, sizeof more, "%zu failed", now->failed);
    cm_progress_update(progress, now->done, now->total, more);
}

static int adopt_tenants(const cm_invocation_t *invocation, cm_pg_t *pg,
                         const cm_database_plan_t *plan)
{
    cm_progress_t progress;
    cm_error_t err = {0};
    cm_migrate_progress_t result = {0};
    cm_progress_start(&progress, "tenants", invocation->terminal);
    cm_status_t status = cm_database_adopt_tenants(pg, plan, on_progress, &progress, &result, &err);
    if (result.total)
        cm_progress_end(&progress, result.done, result.total, "under the roles");
    if (status != CM_OK)
        return cm_command_fail(invocation, &err);
    if (result.failed)
        fprintf(stderr, "%zu tenants failed; started again, it does only what is left\n",
                result.failed);
    return result.failed ? CM_EXIT_PARTIAL : CM_EXIT_OK;
}

/* ---- the command ---------------------------------------------------------------------------- */

static size_t take_logins(const cm_invocation_t *invocation, const char **logins)
{
    size_t count = 0;
    const char *login = NULL;
    while (count < LOGINS_MAX && (login = cm_flag_nth(invocation, "login", count)))
        logins[count++] = login;
    return count;
}

static bool check_flags(const cm_database_plan_t *plan)
{
    for (size_t i = 0; i < plan->login_count; i++) {
        if (*plan->logins[i] && strlen(plan->logins[i]) < CM_ROLE_NAME_MAX)
            continue;
        fprintf(stderr, "client-manager database prepare: --login \"%s\" is no name of a role\n",
                plan->logins[i]);
        return false;
    }
    if (plan->prefix || !(plan->login_count || plan->revoke_public))
        return true;
    fputs("client-manager database prepare: --login and --revoke-public belong to --roles\n",
          stderr);
    return false;
}

static int prepare(const cm_invocation_t *invocation, const cm_database_plan_t *plan)
{
    cm_error_t err = {0};
    int64_t tenants = 0;
    cm_pg_options_t options = cm_command_pg(invocation, APPLICATION);
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = cm_pg_new(&options);
    CM_CLEANUP(cm_database_notes_destroy) cm_database_notes_t notes = {0};
    cm_status_t status = cm_pg_connect(pg, NULL, &err);
    if (status == CM_OK)
        status = cm_database_prepare(pg, plan, &notes, &tenants, &err);
    if (status != CM_OK)
        return cm_command_fail(invocation, &err);
    size_t left = show_notes(invocation, &notes, plan->dry_run);
    if (!notes.count)
        fputs("all is as it should be already\n", stderr);
    if (left)
        fputs("what is left undone does not keep the service from running\n", stderr);
    if (plan->dry_run)
        fprintf(stderr,
                "%lld tenant schemas would be brought under the roles; nothing was "
                "changed\n",
                (long long)tenants);
    return plan->dry_run || !plan->prefix ? CM_EXIT_OK : adopt_tenants(invocation, pg, plan);
}

int cm_command_database_prepare(const cm_invocation_t *invocation)
{
    const char *logins[LOGINS_MAX];
    const cm_options_t *options = invocation->options;
    bool roles = cm_flag_given(invocation, "roles") || options->postgres.roles;
    cm_database_plan_t plan = {.admin_schema = options->postgres.admin_schema,
                               .prefix = roles ? options->postgres.role_prefix : NULL,
                               .logins = logins,
                               .login_count = take_logins(invocation, logins),
                               .revoke_public = cm_flag_given(invocation, "revoke-public"),
                               .dry_run = cm_flag_given(invocation, "dry-run")};
    return check_flags(&plan) ? prepare(invocation, &plan) : CM_EXIT_USAGE;
}
