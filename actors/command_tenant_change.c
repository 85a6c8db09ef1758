/* tenant suspend, resume, hold, release and delete. */
#include "actors/command_tenant.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "schema/tenant_deletion.h"
#include "schema/tenant_state.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* One command, over its arguments. */
typedef struct {
    const cm_invocation_t *invocation;
    cm_pg_t *pg;
    const char *admin;
    char actor[CM_OPERATOR_MAX];
    cm_audit_trail_t audit;
    cm_audit_head_t last; /* end of the log after what was told last */
    cm_table_t table;
} change_t;

/* Do it to one tenant and add its row. *ret_code: what a tenant that is not done, without an error,
 * means for the exit code. */
typedef cm_status_t(change_fn)(change_t *self, const char *id, int *ret_code, cm_error_t *err);

/* What cannot be taken back is asked for by the id itself, so that nobody confirms by habit. */
static bool confirmed(const cm_invocation_t *invocation, size_t index, const char *what)
{
    char id[CM_TENANT_ID_MAX], answer[CM_TENANT_ID_MAX + 2] = "";
    cm_tenant_args_id(invocation, index, id);
    fprintf(stderr, "%s tenant %s; type its id to go on: ", what, id);
    if (fgets(answer, sizeof answer, stdin))
        answer[strcspn(answer, "\n")] = '\0';
    if (strcmp(answer, id) == 0)
        return true;
    fputs("nothing was done\n", stderr);
    return false;
}

static int confirm_all(const cm_invocation_t *invocation, const char *what)
{
    if (invocation->yes)
        return CM_EXIT_OK;
    if (!isatty(STDIN_FILENO)) {
        fprintf(stderr, "client-manager %s: stdin is no terminal; say --yes\n",
                invocation->command->name);
        return CM_EXIT_USAGE;
    }
    for (size_t i = 0; i < invocation->arg_count; i++)
        if (!confirmed(invocation, i, what))
            return CM_EXIT_FAILED;
    return CM_EXIT_OK;
}

static int run_each(change_t *self, change_fn *change)
{
    const cm_invocation_t *invocation = self->invocation;
    cm_status_t status = CM_OK;
    int code = CM_EXIT_OK;
    size_t failed = 0;
    for (size_t i = 0; i < invocation->arg_count && !cm_tenant_args_end(status); i++) {
        char id[CM_TENANT_ID_MAX];
        cm_error_t err = {0};
        int undone = CM_EXIT_OK;
        cm_tenant_args_id(invocation, i, id);
        status = change(self, id, &undone, &err);
        if (status != CM_OK)
            undone = cm_tenant_args_failed(invocation, id, &err);
        code = undone ? undone : code;
        failed += undone != CM_EXIT_OK;
    }
    return cm_tenant_args_code(invocation, failed, status, code);
}

/* question: NULL for what can be taken back. */
static int run(const cm_invocation_t *invocation, const char *question, change_fn *change,
               const cm_column_t *columns, size_t column_count)
{
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = NULL;
    cm_error_t err = {0};
    if (!cm_tenant_args_check(invocation))
        return CM_EXIT_USAGE;
    int code = question ? confirm_all(invocation, question) : CM_EXIT_OK;
    if (code != CM_EXIT_OK)
        return code;
    if (cm_command_admin_write(invocation, "client-manager tenant", &pg, &err) != CM_OK)
        return cm_command_fail(invocation, &err);
    change_t self = {
        .invocation = invocation, .pg = pg, .admin = invocation->options->postgres.admin_schema};
    self.audit = (cm_audit_trail_t){.key = invocation->options->audit.key,
                                    .actor = cm_command_operator(self.actor)};
    cm_table_start(&self.table, columns, column_count, invocation->json);
    code = run_each(&self, change);
    cm_table_end(&self.table);
    cm_command_tell_head(&self.last);
    return code;
}

static void note_head(change_t *self)
{
    if (self->audit.head.position)
        self->last = self->audit.head;
}

/* ---- suspend, resume, hold, release --------------------------------------------------------- */

static const cm_column_t change_columns[] = {{"id", false}, {"result", false}};

/* The row of a tenant that was changed, was so already, or could not be. */
static cm_status_t add_row(change_t *self, const char *id, cm_status_t status,
                           cm_tenant_change_t change, const char *done)
{
    note_head(self);
    cm_table_cell(&self->table, id);
    cm_table_cell(&self->table, status != CM_OK               ? "failed"
                                : change == CM_TENANT_CHANGED ? done
                                                              : "unchanged");
    return status;
}

static cm_status_t suspend(change_t *self, const char *id, int *ret_code, cm_error_t *err)
{
    (void)ret_code;
    cm_tenant_change_t change = CM_TENANT_UNCHANGED;
    cm_status_t status = cm_tenant_suspend(self->pg, self->admin, id, &self->audit, &change, err);
    return add_row(self, id, status, change, "suspended");
}

static cm_status_t resume(change_t *self, const char *id, int *ret_code, cm_error_t *err)
{
    (void)ret_code;
    cm_tenant_change_t change = CM_TENANT_UNCHANGED;
    cm_status_t status = cm_tenant_resume(self->pg, self->admin, id, &self->audit, &change, err);
    return add_row(self, id, status, change, "resumed");
}

static const char *reason_of(const cm_invocation_t *invocation)
{
    const char *reason = cm_flag_text(invocation, "reason");
    return reason ? reason : "";
}

static cm_status_t hold(change_t *self, const char *id, int *ret_code, cm_error_t *err)
{
    (void)ret_code;
    cm_tenant_change_t change = CM_TENANT_UNCHANGED;
    cm_status_t status = cm_tenant_hold(self->pg, self->admin, id, reason_of(self->invocation),
                                        &self->audit, &change, err);
    return add_row(self, id, status, change, "held");
}

static cm_status_t release(change_t *self, const char *id, int *ret_code, cm_error_t *err)
{
    (void)ret_code;
    bool waits = false;
    cm_tenant_change_t change = CM_TENANT_UNCHANGED;
    cm_status_t status =
        cm_tenant_release(self->pg, self->admin, id, &self->audit, &change, &waits, err);
    if (waits)
        fprintf(stderr, "tenant %s has a deletion that waited; the service carries it out now\n",
                id);
    return add_row(self, id, status, change, "released");
}

int cm_command_tenant_suspend(const cm_invocation_t *invocation)
{
    return run(invocation, "suspend", suspend, change_columns, CM_LENGTH(change_columns));
}

int cm_command_tenant_resume(const cm_invocation_t *invocation)
{
    return run(invocation, NULL, resume, change_columns, CM_LENGTH(change_columns));
}

int cm_command_tenant_hold(const cm_invocation_t *invocation)
{
    return run(invocation, NULL, hold, change_columns, CM_LENGTH(change_columns));
}

int cm_command_tenant_release(const cm_invocation_t *invocation)
{
    return run(invocation, "release from legal hold", release, change_columns,
               CM_LENGTH(change_columns));
}

/* ---- delete --------------------------------------------------------------------------------- */

/* An operator means now and for good, also of a tenant whose activation bears a time to come. */
static int64_t deletion_time(change_t *self, const char *id)
{
    cm_tenant_t tenant;
    int64_t now_ms = cm_clock_epoch_ms();
    bool ahead = cm_tenant_registry_get(self->pg, self->admin, id, &tenant, NULL) == CM_OK &&
                 tenant.activated_ms > now_ms;
    return ahead ? tenant.activated_ms : now_ms;
}

/* All steps of one tenant, from wherever it is. *ret_last: the last that was done; NONE when there
 * was nothing to do. */
static cm_status_t delete_whole(change_t *self, const char *id, cm_deletion_step_t *ret_last,
                                cm_error_t *err)
{
    cm_deletion_step_t step = CM_DELETION_NONE;
    cm_deletion_request_t request = {id, deletion_time(self, id), self->actor,
                                     reason_of(self->invocation)};
    cm_status_t status =
        cm_tenant_deletion_request(self->pg, self->admin, &request, &self->audit, &step, err);
    *ret_last = step;
    do {
        note_head(self);
        if (status == CM_OK)
            status =
                cm_tenant_deletion_advance(self->pg, self->admin, id, &self->audit, &step, err);
        if (status == CM_OK && step != CM_DELETION_NONE)
            *ret_last = step;
    } while (status == CM_OK && step != CM_DELETION_NONE && step != CM_DELETION_BLOCKED &&
             step != CM_DELETION_UNVERIFIED);
    note_head(self);
    return status;
}

static cm_status_t add_deleted(change_t *self, const char *id, const char *result, bool counted,
                               cm_error_t *err)
{
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(4096);
    cm_deletion_record_t record = {.counts = ""};
    cm_status_t status =
        counted ? cm_tenant_deletion_get(self->pg, self->admin, id, -1, arena, &record, err)
                : CM_OK;
    cm_table_cell(&self->table, id);
    cm_table_cell(&self->table, result);
    cm_table_cell(&self->table, counted && status == CM_OK ? record.counts : "");
    cm_table_cell_i64(&self->table, record.dead_letters);
    return status;
}

static cm_status_t delete_one(change_t *self, const char *id, int *ret_code, cm_error_t *err)
{
    cm_deletion_step_t last = CM_DELETION_NONE;
    cm_status_t status = delete_whole(self, id, &last, err);
    if (status != CM_OK) {
        add_deleted(self, id, "failed", false, NULL);
        return status;
    }
    if (last == CM_DELETION_NONE)
        return add_deleted(self, id, "unchanged", false, err);
    if (last == CM_DELETION_BLOCKED) {
        fprintf(stderr, "tenant %s is under legal hold; its deletion is recorded and waits\n", id);
        *ret_code = CM_EXIT_TRY_LATER;
        return add_deleted(self, id, "held", false, err);
    }
    if (last == CM_DELETION_UNVERIFIED) {
        fprintf(stderr, "tenant %s: something is left, see `tenant certificate %s`\n", id, id);
        *ret_code = CM_EXIT_FAILED;
    }
    return add_deleted(self, id, last == CM_DELETION_VERIFIED ? "deleted" : "unverified", true,
                       err);
}

int cm_command_tenant_delete(const cm_invocation_t *invocation)
{
    static const cm_column_t columns[] = {
        {"id", false}, {"result", false}, {"counted", false}, {"dead_letters", true}};
    return run(invocation, "delete for good", delete_one, columns, CM_LENGTH(columns));
}
