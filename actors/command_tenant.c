#include "actors/command_tenant.h"
#include "actors/progress.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "schema/migration.h"
#include "schema/tenant_schema.h"
#include "schema/tenant_state.h"

#include <stdio.h>
#include <string.h>

enum { PAGE = 1000 };

#define APPLICATION "client-manager tenant"

static cm_status_t open_admin(const cm_invocation_t *invocation, bool writes, cm_pg_t **ret_pg,
                              cm_error_t *err)
{
    return writes ? cm_command_admin_write(invocation, APPLICATION, ret_pg, err)
                  : cm_command_admin_read(invocation, APPLICATION, CM_ADMIN_BASE, ret_pg, err);
}

static const cm_column_t tenant_columns[] = {
    {"id", false},         {"state", false},        {"generation", true}, {"schema_version", true},
    {"schema", false},     {"activated_at", false}, {"name", false},      {"held_at", false},
    {"hold_reason", false}};
enum { LIST_COLUMNS = 7 }; /* of them; the rest is shown of a tenant that is asked for */

static void add_tenant(cm_table_t *table, const cm_tenant_t *tenant)
{
    cm_table_cell(table, tenant->id);
    cm_table_cell(table, cm_tenant_state_name(tenant->state));
    cm_table_cell_i64(table, tenant->generation);
    cm_table_cell_i64(table, tenant->schema_version);
    cm_table_cell(table, tenant->schema);
    cm_table_cell_time(table, tenant->activated_ms);
    cm_table_cell(table, tenant->name);
}

static bool parse_state(const cm_invocation_t *invocation, cm_tenant_state_t *ret_state)
{
    const char *text = cm_flag_text(invocation, "state");
    for (int state = CM_TENANT_ACTIVATING; state <= CM_TENANT_DELETED; state++) {
        if (strcmp(text, cm_tenant_state_name((cm_tenant_state_t)state)) == 0) {
            *ret_state = (cm_tenant_state_t)state;
            return true;
        }
    }
    fprintf(stderr,
            "client-manager tenant list: --state is \"%s\"; give activating, active, "
            "suspended, deleting or deleted\n",
            text);
    return false;
}

int cm_command_tenant_list(const cm_invocation_t *invocation)
{
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = NULL;
    cm_error_t err = {0};
    int64_t left = 0;
    cm_tenant_state_t state = CM_TENANT_ACTIVE;
    bool with_state = cm_flag_given(invocation, "state");
    if (!cm_flag_i64(invocation, "limit", 1, INT64_MAX, &left) ||
        (with_state && !parse_state(invocation, &state)))
        return CM_EXIT_USAGE;
    cm_status_t status = open_admin(invocation, false, &pg, &err);
    char after[CM_TENANT_ID_MAX] = "";
    size_t count = 1;
    cm_table_t table;
    cm_table_start(&table, tenant_columns, LIST_COLUMNS, invocation->json);
    while (status == CM_OK && count && left > 0) {
        CM_CLEANUP(cm_free) cm_tenant_t *tenants = NULL;
        status = cm_tenant_registry_list(pg, invocation->options->postgres.admin_schema, with_state,
                                         state, after, left < PAGE ? (size_t)left : PAGE, &tenants,
                                         &count, &err);
        for (size_t i = 0; status == CM_OK && i < count; i++)
            add_tenant(&table, &tenants[i]);
        if (status == CM_OK && count)
            memcpy(after, tenants[count - 1].id, sizeof after);
        left -= (int64_t)count;
    }
    if (status != CM_OK) {
        cm_table_drop(&table);
        return cm_command_fail(invocation, &err);
    }
    cm_table_end(&table);
    if (left <= 0 && !cm_flag_given(invocation, "limit"))
        fprintf(stderr, "the first %s are shown; --limit N shows more\n",
                cm_flag_text(invocation, "limit"));
    return CM_EXIT_OK;
}

void cm_tenant_args_id(const cm_invocation_t *invocation, size_t index, char id[CM_TENANT_ID_MAX])
{
    cm_tenant_id_canonical(cm_str(invocation->args[index]), id, NULL);
}

bool cm_tenant_args_check(const cm_invocation_t *invocation)
{
    bool good = true;
    for (size_t i = 0; i < invocation->arg_count; i++) {
        char id[CM_TENANT_ID_MAX];
        cm_error_t err = {0};
        if (cm_tenant_id_canonical(cm_str(invocation->args[i]), id, &err) == CM_OK)
            continue;
        fprintf(stderr, "client-manager %s: \"%s\" is no tenant id: %s\n",
                invocation->command->name, invocation->args[i], err.message);
        good = false;
    }
    return good;
}

static const cm_column_t change_columns[] = {{"id", false}, {"result", false}};

static void add_change(cm_table_t *table, const char *id, const char *result)
{
    cm_table_cell(table, id);
    cm_table_cell(table, result);
}

int cm_command_tenant_show(const cm_invocation_t *invocation)
{
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = NULL;
    CM_CLEANUP(cm_free) char *reason = NULL;
    const char *admin = invocation->options->postgres.admin_schema;
    cm_error_t err = {0};
    char id[CM_TENANT_ID_MAX];
    int64_t held_ms = 0;
    cm_tenant_t tenant;
    if (!cm_tenant_args_check(invocation))
        return CM_EXIT_USAGE;
    cm_tenant_args_id(invocation, 0, id);
    cm_status_t status =
        cm_command_admin_read(invocation, APPLICATION, CM_ADMIN_DELETIONS, &pg, &err);
    if (status == CM_OK)
        status = cm_tenant_registry_get(pg, admin, id, &tenant, &err);
    if (status == CM_OK)
        status = cm_tenant_hold_get(pg, admin, id, &held_ms, &reason, &err);
    if (status != CM_OK)
        return cm_command_fail(invocation, &err);
    cm_table_t table;
    cm_table_start(&table, tenant_columns, CM_LENGTH(tenant_columns), invocation->json);
    add_tenant(&table, &tenant);
    cm_table_cell_time(&table, held_ms);
    cm_table_cell(&table, reason);
    cm_table_end(&table);
    return CM_EXIT_OK;
}

bool cm_tenant_args_end(cm_status_t status)
{
    return status == CM_UNAVAILABLE || status == CM_MISCONFIGURED;
}

int cm_tenant_args_failed(const cm_invocation_t *invocation, const char *id, cm_error_t *err)
{
    char tenant[CM_TENANT_ID_MAX + 16];
    snprintf(tenant, sizeof tenant, "tenant %s", id);
    if (!strstr(err->message, tenant))
        cm_error_prefix(err, "%s", tenant);
    return cm_command_fail(invocation, err);
}

int cm_tenant_args_code(const cm_invocation_t *invocation, size_t failed, cm_status_t last,
                        int code)
{
    if (!failed)
        return CM_EXIT_OK;
    return failed == invocation->arg_count || cm_tenant_args_end(last) ? code : CM_EXIT_PARTIAL;
}

int cm_command_tenant_activate(const cm_invocation_t *invocation)
{
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = NULL;
    cm_error_t err = {0};
    const char *name = cm_flag_text(invocation, "name");
    if (!cm_tenant_args_check(invocation))
        return CM_EXIT_USAGE;
    cm_status_t status = open_admin(invocation, true, &pg, &err);
    if (status != CM_OK)
        return cm_command_fail(invocation, &err);
    int code = CM_EXIT_OK;
    size_t failed = 0;
    char actor[CM_OPERATOR_MAX];
    cm_audit_head_t last = {0};
    cm_command_operator(actor);
    cm_table_t table;
    cm_table_start(&table, change_columns, CM_LENGTH(change_columns), invocation->json);
    for (size_t i = 0; i < invocation->arg_count && !cm_tenant_args_end(status); i++) {
        char id[CM_TENANT_ID_MAX];
        cm_tenant_change_t change;
        cm_audit_trail_t audit = {.key = invocation->options->audit.key, .actor = actor};
        cm_tenant_args_id(invocation, i, id);
        status =
            cm_tenant_schema_activate(pg, invocation->options->postgres.admin_schema, id,
                                      name ? name : "", cm_clock_epoch_ms(), &audit, &change, &err);
        if (status == CM_OK) {
            last = audit.head.position ? audit.head : last;
            add_change(&table, id, change == CM_TENANT_CHANGED ? "activated" : "unchanged");
            continue;
        }
        add_change(&table, id, "failed");
        code = cm_tenant_args_failed(invocation, id, &err);
        failed++;
    }
    cm_table_end(&table);
    cm_command_tell_head(&last);
    return cm_tenant_args_code(invocation, failed, status, code);
}

/* ---- migrate -------------------------------------------------------------------------------- */

typedef struct {
    cm_progress_t progress;
    size_t failed_told;
} migrate_view_t;

static void on_progress(void *ctx, const cm_migrate_progress_t *now)
{
    migrate_view_t *self = ctx;
    char more[32] = "";
    if (now->failed > self->failed_told) {
        cm_progress_say(&self->progress, "tenant %s: %s (%s)", now->last_failed,
                        now->last_error->message, now->last_error->code);
        self->failed_told = now->failed;
    }
    if (now->failed)
        snprintf(more, sizeof more, "%zu failed", now->failed);
    cm_progress_update(&self->progress, now->done, now->total, more);
}

static int migrate_all(const cm_invocation_t *invocation, cm_pg_t *pg)
{
    int64_t connections = 0;
    if (!cm_flag_i64(invocation, "connections", 1, 64, &connections))
        return CM_EXIT_USAGE;
    migrate_view_t view = {0};
    cm_migrate_progress_t result = {0};
    cm_error_t err = {0};
    cm_pg_options_t options = cm_command_pg(invocation, APPLICATION);
    cm_progress_start(&view.progress, "tenants", invocation->terminal);
    cm_status_t status =
        cm_tenant_schema_migrate_all(pg, &options, invocation->options->postgres.admin_schema,
                                     (int)connections, on_progress, &view, &result, &err);
    if (status != CM_OK)
        return cm_command_fail(invocation, &err);
    if (result.total)
        cm_progress_end(&view.progress, result.done, result.total, "");
    static const cm_column_t columns[] = {{"total", true}, {"migrated", true}, {"failed", true}};
    cm_table_t table;
    cm_table_start(&table, columns, CM_LENGTH(columns), invocation->json);
    cm_table_cell_i64(&table, (int64_t)result.total);
    cm_table_cell_i64(&table, (int64_t)result.changed);
    cm_table_cell_i64(&table, (int64_t)result.failed);
    cm_table_end(&table);
    return result.failed ? CM_EXIT_PARTIAL : CM_EXIT_OK;
}

static const cm_column_t below_columns[] = {
    {"id", false}, {"schema_version", true}, {"newest", true}};

/* Is it one that migrate would work on? */
static bool add_below(cm_table_t *table, const cm_tenant_t *tenant)
{
    bool open = tenant->state == CM_TENANT_ACTIVE || tenant->state == CM_TENANT_SUSPENDED;
    if (!open || tenant->schema_version >= cm_migrations_tenant.count)
        return false;
    cm_table_cell(table, tenant->id);
    cm_table_cell_i64(table, tenant->schema_version);
    cm_table_cell_i64(table, cm_migrations_tenant.count);
    return true;
}

static cm_status_t list_below(const char *admin, cm_pg_t *pg, cm_table_t *table, size_t *ret_below,
                              cm_error_t *err)
{
    char after[CM_TENANT_ID_MAX] = "";
    size_t count = 1;
    while (count) {
        CM_CLEANUP(cm_free) cm_tenant_t *tenants = NULL;
        cm_status_t status = cm_tenant_registry_list(pg, admin, false, CM_TENANT_ABSENT, after,
                                                     PAGE, &tenants, &count, err);
        if (status != CM_OK)
            return status;
        for (size_t i = 0; i < count; i++)
            *ret_below += add_below(table, &tenants[i]);
        if (count)
            memcpy(after, tenants[count - 1].id, sizeof after);
    }
    return CM_OK;
}

static int migrate_dry(const cm_invocation_t *invocation, cm_pg_t *pg)
{
    const char *admin = invocation->options->postgres.admin_schema;
    size_t below = 0;
    cm_error_t err = {0};
    cm_status_t status = CM_OK;
    cm_table_t table;
    cm_table_start(&table, below_columns, CM_LENGTH(below_columns), invocation->json);
    if (!invocation->arg_count)
        status = list_below(admin, pg, &table, &below, &err);
    for (size_t i = 0; status == CM_OK && i < invocation->arg_count; i++) {
        char id[CM_TENANT_ID_MAX];
        cm_tenant_t tenant;
        cm_tenant_args_id(invocation, i, id);
        status = cm_tenant_registry_get(pg, admin, id, &tenant, &err);
        if (status == CM_OK)
            below += add_below(&table, &tenant);
    }
    if (status != CM_OK) {
        cm_table_drop(&table);
        return cm_command_fail(invocation, &err);
    }
    cm_table_end(&table);
    fprintf(stderr, "%zu below version %d; nothing was changed\n", below,
            cm_migrations_tenant.count);
    return CM_EXIT_OK;
}

static int migrate_named(const cm_invocation_t *invocation, cm_pg_t *pg)
{
    size_t failed = 0;
    int code = CM_EXIT_OK;
    cm_status_t status = CM_OK;
    cm_table_t table;
    cm_table_start(&table, change_columns, CM_LENGTH(change_columns), invocation->json);
    for (size_t i = 0; i < invocation->arg_count && !cm_tenant_args_end(status); i++) {
        char id[CM_TENANT_ID_MAX];
        cm_error_t err = {0};
        cm_tenant_change_t change;
        cm_tenant_args_id(invocation, i, id);
        status = cm_tenant_schema_migrate(pg, invocation->options->postgres.admin_schema, id,
                                          &change, &err);
        if (status == CM_OK) {
            add_change(&table, id, change == CM_TENANT_CHANGED ? "migrated" : "unchanged");
            continue;
        }
        add_change(&table, id, "failed");
        code = cm_tenant_args_failed(invocation, id, &err);
        failed++;
    }
    cm_table_end(&table);
    return cm_tenant_args_code(invocation, failed, status, code);
}

int cm_command_tenant_migrate(const cm_invocation_t *invocation)
{
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = NULL;
    cm_error_t err = {0};
    bool all = cm_flag_given(invocation, "all"), dry = cm_flag_given(invocation, "dry-run");
    if (all == (invocation->arg_count > 0)) {
        fputs("client-manager tenant migrate: give either tenant ids or --all\n", stderr);
        return CM_EXIT_USAGE;
    }
    if (!cm_tenant_args_check(invocation))
        return CM_EXIT_USAGE;
    if (open_admin(invocation, !dry, &pg, &err) != CM_OK)
        return cm_command_fail(invocation, &err);
    if (dry)
        return migrate_dry(invocation, pg);
    return all ? migrate_all(invocation, pg) : migrate_named(invocation, pg);
}

int cm_command_tenant_status(const cm_invocation_t *invocation)
{
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = NULL;
    CM_CLEANUP(cm_free) cm_tenant_count_t *counts = NULL;
    cm_error_t err = {0};
    size_t count = 0;
    cm_status_t status = open_admin(invocation, false, &pg, &err);
    if (status == CM_OK)
        status = cm_tenant_registry_counts(pg, invocation->options->postgres.admin_schema, &counts,
                                           &count, &err);
    if (status != CM_OK)
        return cm_command_fail(invocation, &err);
    static const cm_column_t columns[] = {
        {"state", false}, {"schema_version", true}, {"newest", true}, {"tenants", true}};
    cm_table_t table;
    cm_table_start(&table, columns, CM_LENGTH(columns), invocation->json);
    for (size_t i = 0; i < count; i++) {
        cm_table_cell(&table, cm_tenant_state_name(counts[i].state));
        cm_table_cell_i64(&table, counts[i].schema_version);
        cm_table_cell_i64(&table, cm_migrations_tenant.count);
        cm_table_cell_i64(&table, counts[i].tenants);
    }
    cm_table_end(&table);
    return CM_EXIT_OK;
}
