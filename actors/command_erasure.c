#include "actors/command.h"
#include "actors/table.h"
#include "runtime/cleanup.h"
#include "schema/erasure.h"
#include "schema/migration.h"

#include <stdio.h>
#include <string.h>

#define APPLICATION "client-manager erasure"
enum { LOCK_MS = 5000 };

typedef struct {
    const cm_invocation_t *invocation;
    cm_pg_t *pg;
    cm_table_t table;
    size_t rewritten, failed;
    int code; /* of the last failure */
} sweep_t;

static void add_result(sweep_t *self, const char *tenant, const char *result)
{
    cm_table_cell(&self->table, *tenant ? tenant : "(dead letters)");
    cm_table_cell(&self->table, result);
}

/* One step; false when there is nothing (more) that choice fits, or nothing can follow. */
static bool sweep_one(sweep_t *self, const cm_erasure_choice_t *choice, char id[CM_TENANT_ID_MAX])
{
    cm_erasure_step_t step = CM_ERASURE_NONE;
    cm_error_t err = {0};
    cm_status_t status = cm_erasure_sweep_next(
        self->pg, self->invocation->options->postgres.admin_schema, choice, id, &step, &err);
    if (status == CM_OK) {
        if (step != CM_ERASURE_NONE)
            add_result(self, id, step == CM_ERASURE_REWRITTEN ? "rewritten" : "absent");
        self->rewritten += step == CM_ERASURE_REWRITTEN;
        return step != CM_ERASURE_NONE;
    }
    self->failed++;
    if (*id) {
        add_result(self, id, "failed");
        cm_error_prefix(&err, "tenant %s", id);
    }
    self->code = cm_command_fail(self->invocation, &err);
    return *id && status != CM_UNAVAILABLE && status != CM_MISCONFIGURED;
}

static void sweep_all(sweep_t *self, const char *key)
{
    char id[CM_TENANT_ID_MAX] = "", after[CM_TENANT_ID_MAX] = "";
    cm_erasure_choice_t choice = {.after = after, .key = key, .lock_ms = LOCK_MS};
    while (sweep_one(self, &choice, id))
        memcpy(after, id, sizeof after);
}

int cm_command_erasure_sweep(const cm_invocation_t *invocation)
{
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = NULL;
    static const cm_column_t columns[] = {{"tenant", false}, {"result", false}};
    const cm_options_t *options = invocation->options;
    cm_error_t err = {0};
    char id[CM_TENANT_ID_MAX];
    if (cm_flag_given(invocation, "all") == (invocation->arg_count > 0)) {
        fputs("client-manager erasure sweep: give either tenant ids or --all\n", stderr);
        return CM_EXIT_USAGE;
    }
    for (size_t i = 0; i < invocation->arg_count; i++) {
        if (cm_tenant_id_canonical(cm_str(invocation->args[i]), id, &err) == CM_OK)
            continue;
        fprintf(stderr, "client-manager erasure sweep: \"%s\" is no tenant id: %s\n",
                invocation->args[i], err.message);
        return CM_EXIT_USAGE;
    }
    cm_status_t status = cm_command_admin_write(invocation, APPLICATION, &pg, &err);
    if (status == CM_OK)
        status =
            cm_erasure_key_check(pg, options->postgres.admin_schema, options->erasure.key, &err);
    if (status != CM_OK)
        return cm_command_fail(invocation, &err);
    sweep_t self = {.invocation = invocation, .pg = pg};
    cm_table_start(&self.table, columns, CM_LENGTH(columns), invocation->json);
    if (!invocation->arg_count)
        sweep_all(&self, options->erasure.key);
    for (size_t i = 0; i < invocation->arg_count; i++) {
        char named[CM_TENANT_ID_MAX];
        cm_tenant_id_canonical(cm_str(invocation->args[i]), named, NULL);
        cm_erasure_choice_t choice = {
            .only = named, .noted_or_not = true, .key = options->erasure.key, .lock_ms = LOCK_MS};
        sweep_one(&self, &choice, id);
    }
    /* Last: what a tenant's rewrite erased of the dead letters is then among it. */
    sweep_one(&self,
              &(cm_erasure_choice_t){.only = "", .key = options->erasure.key, .lock_ms = LOCK_MS},
              id);
    cm_table_end(&self.table);
    return !self.failed ? CM_EXIT_OK : self.rewritten ? CM_EXIT_PARTIAL : self.code;
}

int cm_command_erasure_status(const cm_invocation_t *invocation)
{
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = NULL;
    static const cm_column_t columns[] = {{"pending", true}, {"oldest_seconds", true}};
    cm_error_t err = {0};
    cm_erasure_pending_t pending = {0};
    cm_status_t status =
        cm_command_admin_read(invocation, APPLICATION, CM_ADMIN_ERASURE, &pg, &err);
    if (status == CM_OK)
        status = cm_erasure_pending(pg, invocation->options->postgres.admin_schema, &pending, &err);
    if (status != CM_OK)
        return cm_command_fail(invocation, &err);
    cm_table_t table;
    cm_table_start(&table, columns, CM_LENGTH(columns), invocation->json);
    cm_table_cell_i64(&table, pending.tenants);
    cm_table_cell_i64(&table, pending.oldest_age_ms / 1000);
    cm_table_end(&table);
    return CM_EXIT_OK;
}
