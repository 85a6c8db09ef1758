#include "actors/command.h"
#include "runtime/cleanup.h"
#include "schema/migration.h"

#include <string.h>

/* An operator waits longer for a lock than the write path, which would hold up other tenants. */
enum { LOCK_TIMEOUT_MS = 5000 };

/* What a command works as; any other as ddl, which may do whatever the service may. */
static const struct {
    const char *command;
    cm_role_t role;
} roles[] = {
    {"database prepare", CM_ROLE_NONE},
    {"tenant list", CM_ROLE_DASH},
    {"tenant show", CM_ROLE_DASH},
    {"tenant status", CM_ROLE_DASH},
    {"dead-letters list", CM_ROLE_WRITER},
    {"dead-letters show", CM_ROLE_WRITER},
    {"dead-letters replay", CM_ROLE_WRITER},
    {"audit list", CM_ROLE_AUDIT_WRITER},
    {"audit verify", CM_ROLE_AUDIT_WRITER},
    {"audit export", CM_ROLE_AUDIT_WRITER},
    {"job list", CM_ROLE_DASH},
    {"job history", CM_ROLE_DASH},
    {"job show", CM_ROLE_DASH},
};

static cm_role_t role_of(const cm_command_t *command)
{
    for (size_t i = 0; i < CM_LENGTH(roles); i++)
        if (strcmp(roles[i].command, command->name) == 0)
            return roles[i].role;
    return CM_ROLE_DDL;
}

cm_pg_options_t cm_command_pg(const cm_invocation_t *invocation, const char *application_name)
{
    cm_pg_options_t options =
        cm_options_pg_as(invocation->options, application_name, role_of(invocation->command));
    options.lock_timeout_ms = LOCK_TIMEOUT_MS;
    options.statement_timeout_ms = 0; /* an index or a purge takes as long as it takes */
    return options;
}

cm_status_t cm_command_admin_read(const cm_invocation_t *invocation, const char *application_name,
                                  int needed, cm_pg_t **ret_pg, cm_error_t *err)
{
    cm_pg_options_t options = cm_command_pg(invocation, application_name);
    options.statement_timeout_ms = (int)invocation->options->postgres.statement_timeout_ms;
    *ret_pg = cm_pg_new(&options);
    cm_status_t status = cm_pg_connect(*ret_pg, NULL, err);
    if (status == CM_OK)
        status = cm_admin_check(*ret_pg, invocation->options->postgres.admin_schema, needed, err);
    return status;
}

cm_status_t cm_command_admin_write(const cm_invocation_t *invocation, const char *application_name,
                                   cm_pg_t **ret_pg, cm_error_t *err)
{
    const char *admin_schema = invocation->options->postgres.admin_schema;
    cm_pg_options_t options = cm_command_pg(invocation, application_name);
    *ret_pg = cm_pg_new(&options);
    cm_status_t status = cm_pg_connect(*ret_pg, NULL, err);
    if (status != CM_OK)
        return status;
    return invocation->options->postgres.roles
               ? cm_command_admin_check_newest(*ret_pg, admin_schema, err)
               : cm_admin_prepare(*ret_pg, admin_schema, err);
}

cm_status_t cm_command_admin_check_newest(cm_pg_t *pg, const char *admin_schema, cm_error_t *err)
{
    cm_error_t found = {0};
    cm_status_t status = cm_admin_check(pg, admin_schema, cm_migrations_admin.count, &found);
    bool mends = strcmp(found.code, "schema-absent") == 0 ||
                 strcmp(found.code, "schema-older") == 0 || strcmp(found.code, "42501") == 0;
    if (!mends)
        return status == CM_OK ? status
                               : cm_error_set(err, status, found.code, "%s", found.message);
    return cm_error_set(err, CM_MISCONFIGURED, found.code,
                        "schema %s is not prepared for this version with roles; run "
                        "`client-manager database prepare --roles`",
                        admin_schema);
}

void cm_command_tell_head(const cm_audit_head_t *head)
{
    char text[CM_AUDIT_HEAD_TEXT_MAX];
    if (head->position)
        fprintf(stderr, "audit head %s\n", cm_audit_head_text(head, text));
}
