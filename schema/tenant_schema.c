#include "schema/tenant_schema.h"
#include "runtime/cleanup.h"
#include "runtime/crash.h"
#include "schema/migration.h"
#include "schema/role.h"
#include "schema/sql.h"
#include "schema/tenant_generation.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

typedef struct {
    const char *name;          /* "": none given */
    const char *role_prefix;   /* of adopt */
    cm_tenant_change_t change; /* what came of it */
} wish_t;

/* ---- what a step does ----------------------------------------------------------------------- */

/* What is at or before the deletion must not come back into the new generation: one row that stands
 * for the tombstone of every device. No device has its key, events with an empty one are refused.
 */
static cm_status_t raise_fence(const cm_tenant_step_t *step, cm_error_t *err)
{
    char deleted[24];
    snprintf(deleted, sizeof deleted, "%" PRId64, step->deleted_ms);
    const char *values[] = {deleted};
    return cm_sql_query(step->pg,
                        "INSERT INTO @schema@.tombstones AS t"
                        " (application_code, client_id, removed_at)"
                        " VALUES ('', '', " CM_SQL_FROM_MS(
                            "$1") ")"
                                  " ON CONFLICT (application_code, client_id) DO UPDATE"
                                  " SET removed_at = greatest(t.removed_at, excluded.removed_at)",
                        step->schema, 1, values, NULL, err);
}

static cm_status_t run_ddl(const cm_tenant_step_t *step, bool create, int from, cm_error_t *err)
{
    char prefix[CM_ROLE_NAME_MAX];
    int version = 0;
    cm_status_t status = cm_role_begin_ddl(step->pg, step->admin_schema, prefix, err);
    if (status == CM_OK && create) {
        status = cm_sql_exec(step->pg, "CREATE SCHEMA @schema@", step->schema, err);
        cm_crash_point("ddl-step");
    }
    if (status == CM_OK)
        status =
            cm_migration_apply(step->pg, &cm_migrations_tenant, step->schema, from, &version, err);
    return status == CM_OK ? cm_role_end_ddl(step->pg, prefix, step->schema, err) : status;
}

/* Create the schema when it is not there, and bring it from version `from` to the newest. */
static cm_status_t build(cm_tenant_step_t *step, int from, cm_error_t *err)
{
    bool create = !step->schema_is_there;
    cm_status_t status = run_ddl(step, create, create ? 0 : from, err);
    if (status == CM_OK && step->deleted_ms != INT64_MIN)
        status = raise_fence(step, err);
    return status;
}

#define EVENT_TIME_6 CM_SQL_FROM_MS("$6")

static cm_status_t write_active(const cm_tenant_step_t *step, const char *name, int64_t generation,
                                bool changed, cm_error_t *err)
{
    char generation_text[24], version[16], event[24];
    snprintf(generation_text, sizeof generation_text, "%" PRId64, generation);
    snprintf(version, sizeof version, "%d", cm_migrations_tenant.count);
    snprintf(event, sizeof event, "%" PRId64, step->event_ms);
    const char *values[] = {step->id, step->schema,       name, generation_text, version,
                            event,    changed ? "t" : "f"};
    return cm_sql_query(
        step->pg,
        "INSERT INTO @schema@.tenants AS t"
        " (id, schema_name, name, state, generation, schema_version, activated_at)"
        " VALUES ($1, $2, $3, 'active', $4, $5, " EVENT_TIME_6 ")"
        " ON CONFLICT (id) DO UPDATE SET name = $3, state = 'active', generation = $4,"
        " schema_version = greatest(t.schema_version, $5::integer),"
        " activated_at = greatest(t.activated_at, excluded.activated_at),"
        " changed_at = CASE WHEN $7::boolean THEN now() ELSE t.changed_at END",
        step->admin_schema, CM_LENGTH(values), values, NULL, err);
}

cm_status_t cm_tenant_generation_make(cm_tenant_step_t *step, const char *name, cm_error_t *err)
{
    cm_status_t status = build(step, step->row.schema_version, err);
    return status == CM_OK ? write_active(step, name, step->row.generation + 1, true, err) : status;
}

cm_status_t cm_tenant_generation_tell(const cm_tenant_step_t *step, cm_error_t *err)
{
    char detail[96];
    snprintf(detail, sizeof detail, "{\"event_ms\": %" PRId64 ", \"schema_version\": %d}",
             step->event_ms, cm_migrations_tenant.count);
    return cm_tenant_step_tell(step, "tenant-activated", step->row.generation + 1, detail, err);
}

/* Absent, half made, or deleted before this activation. */
static cm_status_t activate_anew(cm_tenant_step_t *step, cm_error_t *err)
{
    bool ours = !step->schema_is_there || step->row.state == CM_TENANT_ACTIVATING;
    if (!ours) /* somebody else's tables: neither used nor touched */
        return cm_error_set(err, CM_PERMANENT, "schema-exists",
                            "schema %s exists, and the registry does not know it", step->schema);
    wish_t *wish = step->ctx;
    wish->change = CM_TENANT_CHANGED;
    cm_status_t status =
        cm_tenant_generation_make(step, *wish->name ? wish->name : step->row.name, err);
    if (status == CM_OK)
        status = cm_tenant_generation_tell(step, err);
    cm_crash_point("ddl-step");
    return status;
}

/* Active or suspended. The newest activation names the tenant; one newer than the suspension ends
 * it, so that a repetition of the first activation does not. */
static cm_status_t activate_again(cm_tenant_step_t *step, cm_error_t *err)
{
    wish_t *wish = step->ctx;
    const cm_tenant_t *row = &step->row;
    bool suspended = row->state == CM_TENANT_SUSPENDED;
    if (suspended && step->event_ms <= row->changed_ms)
        return CM_OK;
    bool names =
        *wish->name && (step->event_ms > row->activated_ms ||
                        (step->event_ms == row->activated_ms && strcmp(wish->name, row->name) > 0));
    const char *name = names ? wish->name : row->name;
    bool renamed = strcmp(name, row->name) != 0;
    bool behind = !step->schema_is_there || row->schema_version < cm_migrations_tenant.count;
    if (!suspended && !renamed && !behind && step->event_ms <= row->activated_ms)
        return CM_OK;
    if (suspended || renamed || behind)
        wish->change = CM_TENANT_CHANGED;
    cm_status_t status = behind ? build(step, row->schema_version, err) : CM_OK;
    if (status == CM_OK)
        status = write_active(step, name, row->generation, suspended || renamed, err);
    cm_crash_point("ddl-step");
    return status;
}

/* Newer than a deletion that is still at work: it must wait, or the erasure could not be told from
 * the new tenant. */
static cm_status_t activate_deleted(cm_tenant_step_t *step, cm_error_t *err)
{
    if (step->event_ms <= step->deleted_ms)
        return CM_OK;
    if (step->row.state == CM_TENANT_DELETED && !step->unfinished)
        return activate_anew(step, err);
    return cm_error_set(err, CM_TRANSIENT, "tenant-deleting", "tenant %s is being deleted",
                        step->id);
}

static cm_status_t activate(cm_tenant_step_t *step, cm_error_t *err)
{
    ((wish_t *)step->ctx)->change = CM_TENANT_UNCHANGED;
    switch (step->row.state) {
    case CM_TENANT_ABSENT:
    case CM_TENANT_ACTIVATING:
        return activate_anew(step, err);
    case CM_TENANT_ACTIVE:
    case CM_TENANT_SUSPENDED:
        return activate_again(step, err);
    case CM_TENANT_UNREADY:
        return cm_error_set(err, CM_TRANSIENT, "tenant-not-ready",
                            "tenant %s is in a state that only a newer program knows", step->id);
    case CM_TENANT_DELETING:
    case CM_TENANT_DELETED:
        break;
    }
    return activate_deleted(step, err);
}

static cm_status_t migrate(cm_tenant_step_t *step, cm_error_t *err)
{
    wish_t *wish = step->ctx;
    wish->change = CM_TENANT_UNCHANGED;
    if (step->row.state == CM_TENANT_ABSENT)
        return cm_error_set(err, CM_MISSING, "tenant-missing", "tenant %s is not in the registry",
                            step->id);
    bool alive = step->row.state == CM_TENANT_ACTIVE || step->row.state == CM_TENANT_SUSPENDED;
    if (!alive || step->row.schema_version >= cm_migrations_tenant.count)
        return CM_OK;
    cm_status_t status = run_ddl(step, false, step->row.schema_version, err);
    if (status != CM_OK)
        return status;
    char text[16];
    snprintf(text, sizeof text, "%d", cm_migrations_tenant.count);
    const char *values[] = {step->id, text};
    wish->change = CM_TENANT_CHANGED;
    status = cm_sql_query(step->pg, "UPDATE @schema@.tenants SET schema_version = $2 WHERE id = $1",
                          step->admin_schema, 2, values, NULL, err);
    cm_crash_point("ddl-step");
    return status;
}

static cm_status_t adopt(cm_tenant_step_t *step, cm_error_t *err)
{
    wish_t *wish = step->ctx;
    wish->change = CM_TENANT_UNCHANGED;
    if (!step->schema_is_there)
        return CM_OK;
    wish->change = CM_TENANT_CHANGED;
    return cm_role_adopt(step->pg, wish->role_prefix, step->schema, err);
}

/* ---- the interface -------------------------------------------------------------------------- */

cm_status_t cm_tenant_schema_activate(cm_pg_t *pg, const char *admin_schema, const char *id,
                                      const char *name, int64_t event_ms, cm_audit_trail_t *audit,
                                      cm_tenant_change_t *ret_change, cm_error_t *err)
{
    wish_t wish = {.name = name};
    cm_tenant_step_t step = {.pg = pg,
                             .admin_schema = admin_schema,
                             .id = id,
                             .event_ms = event_ms,
                             .audit = audit,
                             .ctx = &wish};
    cm_status_t status = cm_tenant_step_run(&step, activate, err);
    *ret_change = wish.change;
    return status;
}

cm_status_t cm_tenant_schema_migrate(cm_pg_t *pg, const char *admin_schema, const char *id,
                                     cm_tenant_change_t *ret_change, cm_error_t *err)
{
    wish_t wish = {.name = ""};
    cm_tenant_step_t step = {.pg = pg, .admin_schema = admin_schema, .id = id, .ctx = &wish};
    cm_status_t status = cm_tenant_step_run(&step, migrate, err);
    *ret_change = wish.change;
    return status;
}

cm_status_t cm_tenant_schema_adopt(cm_pg_t *pg, const char *admin_schema, const char *prefix,
                                   const char *id, cm_tenant_change_t *ret_change, cm_error_t *err)
{
    wish_t wish = {.role_prefix = prefix};
    cm_tenant_step_t step = {.pg = pg, .admin_schema = admin_schema, .id = id, .ctx = &wish};
    cm_status_t status = cm_tenant_step_run(&step, adopt, err);
    *ret_change = wish.change;
    return status;
}
