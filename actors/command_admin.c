#include "actors/command.h"
#include "schema/migration.h"

/* An operator waits longer for a lock than the write path, which would hold up other tenants. */
enum { LOCK_TIMEOUT_MS = 5000 };

cm_pg_options_t cm_command_pg(const cm_invocation_t *invocation, const char *application_name)
{
    cm_pg_options_t options = cm_options_pg(invocation->options, application_name);
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
    cm_pg_options_t options = cm_command_pg(invocation, application_name);
    *ret_pg = cm_pg_new(&options);
    cm_status_t status = cm_pg_connect(*ret_pg, NULL, err);
    if (status == CM_OK)
        status = cm_admin_prepare(*ret_pg, invocation->options->postgres.admin_schema, err);
    return status;
}

void cm_command_tell_head(const cm_audit_head_t *head)
{
    char text[CM_AUDIT_HEAD_TEXT_MAX];
    if (head->position)
        fprintf(stderr, "audit head %s\n", cm_audit_head_text(head, text));
}
