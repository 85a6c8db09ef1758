/* tenant_purge - what the admin tables hold of a tenant, and its removal. Private to
 * tenant_deletion, inside its transactions, once the tenant is deleted.
 *
 * Nothing of these is personal but what people wrote as the reason of a rule; all of it is the
 * customer's.
 *
 * Nobody writes such a row again. Whoever does looks in the same statement
 * whether the registry calls the tenant deleted (dead_letter_keep.c, dashboard_sql.c, job_run.c,
 * job_checkpoint.c),
 * with a snapshot younger than his lock on the table. The purge takes a lock that waits for all who
 * began before and saw the tenant alive, then removes; who waited for the purge sees it deleted.
 * Rule: reliability section 4.2.
 */
#ifndef CM_SCHEMA_TENANT_PURGE_H
#define CM_SCHEMA_TENANT_PURGE_H
#include "schema/tenant_step.h"

/* The tables, each with a column `tenant`; in the order in which they are locked. The last two are
 * written with the events of all tenants: whoever holds them must wait for no job any more, whose
 * transactions take longer than an event waits for a lock. */
#define CM_TENANT_PURGED(TABLE)                                                                    \
    TABLE(dashboard_tenant_metrics)                                                                \
    TABLE(dashboard_sync_reference)                                                                \
    TABLE(dashboard_tenant_metrics_history)                                                        \
    TABLE(job_run_tenants)                                                                         \
    TABLE(job_checkpoints)                                                                         \
    TABLE(orphan_rules)                                                                            \
    TABLE(dead_letters)                                                                            \
    TABLE(push_brakes)

/* Remove a portion: 10,000 dead letters, or with fewer of them all there is. Sets purged_at of the
 * recorded deletion when nothing is left. */
cm_status_t cm_tenant_purge(cm_tenant_step_t *step, cm_error_t *err);
#endif
