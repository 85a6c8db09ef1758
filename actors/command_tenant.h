/* command_tenant - what the commands that take tenant ids have in common. */
#ifndef CM_ACTORS_COMMAND_TENANT_H
#define CM_ACTORS_COMMAND_TENANT_H
#include "actors/command.h"
#include "actors/table.h"
#include "proto/tenant_id.h"

/* Are all arguments tenant ids? False: told on stderr. All or nothing: a mistyped id must not leave
 * half of the work done. */
bool cm_tenant_args_check(const cm_invocation_t *invocation);
/* The canonical form of an argument that was checked. */
void cm_tenant_args_id(const cm_invocation_t *invocation, size_t index, char id[CM_TENANT_ID_MAX]);
/* Nothing that follows can work either. */
bool cm_tenant_args_end(cm_status_t status);
/* One tenant failed: tell it at once; returns the exit code that fits. */
int cm_tenant_args_failed(const cm_invocation_t *invocation, const char *id, cm_error_t *err);
/* The exit code. failed: how many of the arguments; code: what the last of them, or one after which
 * nothing could work, means. */
int cm_tenant_args_code(const cm_invocation_t *invocation, size_t failed, cm_status_t last,
                        int code);
#endif
