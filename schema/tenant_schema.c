#include "schema/tenant_schema.h"
#include "runtime/backoff.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "runtime/crash.h"
#include "schema/migration.h"
#include "schema/role.h"
#include "schema/sql.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { TRIES_MAX = 8, RETRY_BASE_MS = 10, RETRY_CAP_MS = 200 };

/* One step of a tenant's life: what it was asked, and what the registry says under the locks. */
typedef struct {
    cm_pg_t *pg;
    const char *admin_schema, *id, *name;
    const char *role_prefix; /* of adopt */
    int64_t event_ms;
    char schema[CM_TENANT_SCHEMA_MAX];
    bool schema_is_there;
    cm_tenant_t row;
    int64_t deleted_ms;      /* INT64_MIN: never */
    cm_audit_trail_t *audit; /* NULL: none */
} step_t;

typedef cm_status_t(step_fn)(step_t *step, cm_tenant_change_t *ret_change, cm_error_t *err);

/* ---- the frame of every step ---------------------------------------------------------------- */

static cm_status_t lock_tenant(step_t *step, cm_error_t *err)
{
    /* What is read below must be newer than the lock, whatever the server's default is. */
    cm_status_t status =
        cm_pg_exec(step->pg, "SET TRANSACTION ISOLATION LEVEL READ COMMITTED", err);
    const char *values[] = {step->id};
    if (status == CM_OK)
        status =
            cm_pg_query(step->pg, "SELECT pg_advisory_xact_lock(hashtextextended('cm:' || $1, 0))",
                        1, values, NULL, err);
    /* Whoever waits for a table stops everybody behind him: give up soon and try again. */
    return status == CM_OK ? cm_pg_exec(step->pg, "SET LOCAL lock_timeout = '2s'", err) : status;
}

/* Asked of the table: to_regnamespace() may answer from a cache older than the lock. */
static cm_status_t find_schema(step_t *step, cm_error_t *err)
{
    const char *values[] = {step->schema};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_status_t status = cm_pg_query(step->pg, "SELECT FROM pg_namespace WHERE nspname = $1", 1,
                                     values, &result, err);
    if (status == CM_OK)
        step->schema_is_there = PQntuples(result) > 0;
    return status;
}

static cm_status_t read_registry(step_t *step, cm_error_t *err)
{
    const char *values[] = {step->id};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    step->row = (cm_tenant_t){.state = CM_TENANT_ABSENT};
    step->deleted_ms = INT64_MIN;
    cm_status_t status = cm_sql_query(step->pg,
                                      "SELECT " CM_SQL_TO_MS("deleted_at") //
                                      " FROM @schema@.tenants WHERE id = $1 FOR UPDATE",
                                      step->admin_schema, 1, values, &result, err);
    if (status != CM_OK || PQntuples(result) == 0)
        return status;
    if (!PQgetisnull(result, 0, 0))
        step->deleted_ms = cm_pg_i64(result, 0, 0);
    return cm_tenant_registry_get(step->pg, step->admin_schema, step->id, &step->row, err);
}

static cm_status_t try_step(step_t *step, step_fn *body, cm_tenant_change_t *ret_change,
                            cm_error_t *err)
{
    cm_status_t status = cm_pg_begin(step->pg, err);
    if (status == CM_OK)
        status = lock_tenant(step, err);
    if (status == CM_OK)
        status = find_schema(step, err);
    if (status == CM_OK)
        status = read_registry(step, err);
    if (status == CM_OK)
        status = body(step, ret_change, err);
    if (status == CM_OK)
        status = cm_pg_commit(step->pg, err);
    if (status != CM_OK)
        cm_pg_rollback(step->pg);
    return status;
}

/* Races of two who create, a deadlock with a writer, a table somebody holds: all pass. */
static bool passes(const cm_error_t *err)
{
    return err->status == CM_TRANSIENT &&
           (cm_pg_is_quick_retry(err->code) || strcmp(err->code, "23505") == 0 ||
            strcmp(err->code, "55P03") == 0);
}

static cm_status_t run_step(step_t *step, step_fn *body, cm_tenant_change_t *ret_change,
                            cm_error_t *err)
{
    cm_error_t failure = {0};
    cm_backoff_t backoff;
    cm_backoff_init(&backoff, RETRY_BASE_MS, RETRY_CAP_MS, cm_random_u64());
    cm_tenant_id_schema(step->id, step->schema);
    cm_status_t status = CM_OK;
    for (int tries = 0; tries < TRIES_MAX; tries++) {
        if (tries > 0) {
            int wait_ms = cm_backoff_next_ms(&backoff);
            nanosleep(&(struct timespec){.tv_nsec = wait_ms * 1000000L}, NULL);
        }
        *ret_change = CM_TENANT_UNCHANGED;
        if (step->audit)
            step->audit->head = (cm_audit_head_t){0};
        status = try_step(step, body, ret_change, &failure);
        if (status == CM_OK || !passes(&failure))
            break;
    }
    if (status != CM_OK && err)
        *err = failure;
    return status;
}

/* ---- what a step does ----------------------------------------------------------------------- */

static cm_status_t run_ddl(step_t *step, bool create, int from, cm_error_t *err)
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
static cm_status_t build(step_t *step, int from, cm_error_t *err)
{
    bool create = !step->schema_is_there;
    return run_ddl(step, create, create ? 0 : from, err);
}

#define EVENT_TIME_6 CM_SQL_FROM_MS("$6")
#define EVENT_TIME_3 CM_SQL_FROM_MS("$3")

static cm_status_t write_active(const step_t *step, const char *name, int64_t generation,
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

/* The last statement of a step: others wait for the end of the log until the commit. */
static cm_status_t tell(const step_t *step, const char *action, int64_t generation, cm_error_t *err)
{
    char detail[96];
    if (!step->audit)
        return CM_OK;
    snprintf(detail, sizeof detail, "{\"event_ms\": %" PRId64 ", \"schema_version\": %d}",
             step->event_ms, cm_migrations_tenant.count);
    cm_audit_entry_t entry = {step->audit->actor, action, step->id, generation, detail};
    return cm_audit_append(step->pg, step->admin_schema, step->audit->key, &entry,
                           &step->audit->head, err);
}

/* Absent, half made, or deleted before this activation. */
static cm_status_t activate_anew(step_t *step, cm_tenant_change_t *ret_change, cm_error_t *err)
{
    bool ours = !step->schema_is_there || step->row.state == CM_TENANT_ACTIVATING;
    if (!ours) /* somebody else's tables: neither used nor touched */
        return cm_error_set(err, CM_PERMANENT, "schema-exists",
                            "schema %s exists, and the registry does not know it", step->schema);
    *ret_change = CM_TENANT_CHANGED;
    cm_status_t status = build(step, step->row.schema_version, err);
    if (status == CM_OK)
        status = write_active(step, *step->name ? step->name : step->row.name,
                              step->row.generation + 1, true, err);
    if (status == CM_OK)
        status = tell(step, "tenant-activated", step->row.generation + 1, err);
    cm_crash_point("ddl-step");
    return status;
}

/* Active or suspended. The newest activation names the tenant; one newer than the suspension ends
 * it, so that a repetition of the first activation does not. */
static cm_status_t activate_again(step_t *step, cm_tenant_change_t *ret_change, cm_error_t *err)
{
    const cm_tenant_t *row = &step->row;
    bool suspended = row->state == CM_TENANT_SUSPENDED;
    if (suspended && step->event_ms <= row->changed_ms)
        return CM_OK;
    bool names =
        *step->name && (step->event_ms > row->activated_ms ||
                        (step->event_ms == row->activated_ms && strcmp(step->name, row->name) > 0));
    const char *name = names ? step->name : row->name;
    bool renamed = strcmp(name, row->name) != 0;
    bool behind = !step->schema_is_there || row->schema_version < cm_migrations_tenant.count;
    if (!suspended && !renamed && !behind && step->event_ms <= row->activated_ms)
        return CM_OK;
    if (suspended || renamed || behind)
        *ret_change = CM_TENANT_CHANGED;
    cm_status_t status = behind ? build(step, row->schema_version, err) : CM_OK;
    if (status == CM_OK)
        status = write_active(step, name, row->generation, suspended || renamed, err);
    cm_crash_point("ddl-step");
    return status;
}

static cm_status_t activate(step_t *step, cm_tenant_change_t *ret_change, cm_error_t *err)
{
    switch (step->row.state) {
    case CM_TENANT_ABSENT:
    case CM_TENANT_ACTIVATING:
        return activate_anew(step, ret_change, err);
    case CM_TENANT_ACTIVE:
    case CM_TENANT_SUSPENDED:
        return activate_again(step, ret_change, err);
    case CM_TENANT_DELETED:
        return step->event_ms > step->deleted_ms ? activate_anew(step, ret_change, err) : CM_OK;
    case CM_TENANT_DELETING:
        break;
    }
    return cm_error_set(err, CM_PERMANENT, "tenant-deleting", "tenant %s is being deleted",
                        step->id);
}

static cm_status_t migrate(step_t *step, cm_tenant_change_t *ret_change, cm_error_t *err)
{
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
    *ret_change = CM_TENANT_CHANGED;
    status = cm_sql_query(step->pg, "UPDATE @schema@.tenants SET schema_version = $2 WHERE id = $1",
                          step->admin_schema, 2, values, NULL, err);
    cm_crash_point("ddl-step");
    return status;
}

/* The tables in the order in which writers lock them, so that a drop can wait for a writer without
 * a deadlock; one may be missing when somebody else had his hands in. */
static cm_status_t drop_schema(step_t *step, cm_error_t *err)
{
    const char *values[] = {step->schema};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_status_t status = cm_pg_query(
        step->pg,
        "SELECT relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
        " WHERE nspname = $1 AND relname IN ('devices', 'device_tombstones') AND relkind = 'r'"
        " ORDER BY relname = 'devices' DESC",
        1, values, &result, err);
    for (int i = 0; status == CM_OK && i < PQntuples(result); i++) {
        char sql[64];
        snprintf(sql, sizeof sql, "LOCK TABLE @schema@.%s", cm_pg_text(result, i, 0));
        status = cm_sql_exec(step->pg, sql, step->schema, err);
    }
    if (status == CM_OK)
        status = cm_sql_exec(step->pg, "DROP SCHEMA @schema@ CASCADE", step->schema, err);
    cm_crash_point("ddl-step");
    return status;
}

static cm_status_t drop(step_t *step, cm_tenant_change_t *ret_change, cm_error_t *err)
{
    cm_tenant_state_t state = step->row.state;
    bool gone = state == CM_TENANT_DELETED && !step->schema_is_there;
    /* A deletion that was carried out before, of a tenant that was activated again since. */
    bool repeated = state != CM_TENANT_DELETED && state != CM_TENANT_DELETING &&
                    step->deleted_ms >= step->event_ms;
    if (repeated || (gone && step->deleted_ms >= step->event_ms))
        return CM_OK;
    *ret_change = gone ? CM_TENANT_UNCHANGED : CM_TENANT_CHANGED;
    cm_status_t status = step->schema_is_there ? drop_schema(step, err) : CM_OK;
    char event[24];
    snprintf(event, sizeof event, "%" PRId64, step->event_ms);
    const char *values[] = {step->id, step->schema, event};
    if (status == CM_OK)
        status = cm_sql_query(
            step->pg,
            "INSERT INTO @schema@.tenants AS t (id, schema_name, state, deleted_at)"
            " VALUES ($1, $2, 'deleted', " EVENT_TIME_3 ")"
            " ON CONFLICT (id) DO UPDATE SET state = 'deleted', schema_version = 0, name = '',"
            " deleted_at = greatest(t.deleted_at, excluded.deleted_at), changed_at ="
            " CASE WHEN t.state = 'deleted' THEN t.changed_at ELSE now() END",
            step->admin_schema, 3, values, NULL, err);
    cm_crash_point("ddl-step");
    return status;
}

static cm_status_t adopt(step_t *step, cm_tenant_change_t *ret_change, cm_error_t *err)
{
    if (!step->schema_is_there)
        return CM_OK;
    *ret_change = CM_TENANT_CHANGED;
    return cm_role_adopt(step->pg, step->role_prefix, step->schema, err);
}

/* ---- the interface -------------------------------------------------------------------------- */

cm_status_t cm_tenant_schema_activate(cm_pg_t *pg, const char *admin_schema, const char *id,
                                      const char *name, int64_t event_ms, cm_audit_trail_t *audit,
                                      cm_tenant_change_t *ret_change, cm_error_t *err)
{
    step_t step = {.pg = pg,
                   .admin_schema = admin_schema,
                   .id = id,
                   .name = name,
                   .event_ms = event_ms,
                   .audit = audit};
    return run_step(&step, activate, ret_change, err);
}

cm_status_t cm_tenant_schema_migrate(cm_pg_t *pg, const char *admin_schema, const char *id,
                                     cm_tenant_change_t *ret_change, cm_error_t *err)
{
    step_t step = {.pg = pg, .admin_schema = admin_schema, .id = id};
    return run_step(&step, migrate, ret_change, err);
}

cm_status_t cm_tenant_schema_drop(cm_pg_t *pg, const char *admin_schema, const char *id,
                                  int64_t event_ms, cm_tenant_change_t *ret_change, cm_error_t *err)
{
    step_t step = {.pg = pg, .admin_schema = admin_schema, .id = id, .event_ms = event_ms};
    return run_step(&step, drop, ret_change, err);
}

cm_status_t cm_tenant_schema_adopt(cm_pg_t *pg, const char *admin_schema, const char *prefix,
                                   const char *id, cm_tenant_change_t *ret_change, cm_error_t *err)
{
    step_t step = {.pg = pg, .admin_schema = admin_schema, .id = id, .role_prefix = prefix};
    return run_step(&step, adopt, ret_change, err);
}
