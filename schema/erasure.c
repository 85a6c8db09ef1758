#include "schema/erasure.h"
#include "proto/erasure_hash.h"
#include "runtime/cleanup.h"
#include "runtime/crash.h"
#include "schema/erasure_late.h"
#include "schema/sql.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- the key -------------------------------------------------------------------------------- */

static cm_status_t read_key_id(cm_pg_t *pg, const char *admin_schema, bool *ret_has,
                               char id[CM_ERASURE_KEY_ID_MAX], cm_error_t *err)
{
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_status_t status = cm_sql_query(pg, "SELECT key_id FROM @schema@.erasure_key", admin_schema,
                                      0, NULL, &result, err);
    *ret_has = status == CM_OK && PQntuples(result) > 0;
    if (*ret_has)
        snprintf(id, CM_ERASURE_KEY_ID_MAX, "%s", cm_pg_text(result, 0, 0));
    return status;
}

cm_status_t cm_erasure_key_check(cm_pg_t *pg, const char *admin_schema, const char *key,
                                 cm_error_t *err)
{
    char id[CM_ERASURE_KEY_ID_MAX], known[CM_ERASURE_KEY_ID_MAX] = "";
    bool has = false;
    const char *values[] = {cm_erasure_key_id(key, id)};
    cm_status_t status = read_key_id(pg, admin_schema, &has, known, err);
    if (status == CM_OK && !has)
        status = cm_sql_query(
            pg, "INSERT INTO @schema@.erasure_key (key_id) VALUES ($1) ON CONFLICT DO NOTHING",
            admin_schema, 1, values, NULL, err);
    if (status == CM_OK && !has)
        status = read_key_id(pg, admin_schema, &has, known, err);
    if (status != CM_OK || strcmp(known, id) == 0)
        return status;
    return cm_error_set(err, CM_MISCONFIGURED, "erasure-key",
                        "erasure.key has the id \"%s\", deleted contacts are known by the key "
                        "\"%s\": with another one they would come back",
                        id, known);
}

/* ---- notes ---------------------------------------------------------------------------------- */

/* One that stands is left alone and not waited for: the rewrite that removes it has the tables'
 * locks, and so has the erasure. */
const char cm_erasure_note_sql[] =
    "INSERT INTO @schema@.erasures_pending (tenant) VALUES ($1) ON CONFLICT DO NOTHING";

const char cm_erasure_note_all_sql[] = "INSERT INTO @schema@.erasures_pending (tenant)"
                                       " SELECT * FROM unnest($1) ON CONFLICT DO NOTHING";

cm_status_t cm_erasure_note(cm_pg_t *pg, const char *admin_schema, const char *tenant,
                            cm_error_t *err)
{
    const char *values[] = {tenant};
    return cm_sql_query(pg, cm_erasure_note_sql, admin_schema, 1, values, NULL, err);
}

cm_status_t cm_erasure_pending(cm_pg_t *pg, const char *admin_schema,
                               cm_erasure_pending_t *ret_pending, cm_error_t *err)
{
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_status_t status = cm_sql_query(
        pg,
        "SELECT count(*), greatest((extract(epoch FROM clock_timestamp() - min(requested_at))"
        " * 1000)::bigint, 0) FROM @schema@.erasures_pending",
        admin_schema, 0, NULL, &result, err);
    if (status == CM_OK)
        *ret_pending = (cm_erasure_pending_t){cm_pg_i64(result, 0, 0), cm_pg_i64(result, 0, 1)};
    return status;
}

/* ---- one rewrite ---------------------------------------------------------------------------- */

typedef struct {
    cm_pg_t *pg;
    const char *admin_schema;
    const cm_erasure_choice_t *choice;
    char *tenant; /* "": the dead letters */
    char schema[CM_TENANT_SCHEMA_MAX];
} sweep_t;

/* The expression is what makes it a rewrite; it changes nothing. */
static const char rewrite_devices_sql[] =
    "ALTER TABLE @schema@.devices"
    " ALTER COLUMN created_at TYPE timestamptz USING created_at + interval '0';"
    " ALTER TABLE @schema@.push_verdicts_held"
    " ALTER COLUMN verdict_at TYPE timestamptz USING verdict_at + interval '0'";
static const char rewrite_letters_sql[] =
    "LOCK TABLE @schema@.dead_letters IN ACCESS EXCLUSIVE MODE;"
    " ALTER TABLE @schema@.dead_letters"
    " ALTER COLUMN kept_at TYPE timestamptz USING kept_at + interval '0'";
/* Whoever changes a tenant's rows locks devices first, so the order of the others is of no account.
 */
static const char lock_devices_sql[] =
    "LOCK TABLE @schema@.devices, @schema@.push_verdicts_held IN ACCESS EXCLUSIVE MODE";

/* The next note, locked, so that of several sweepers each takes another. */
static cm_status_t claim(sweep_t *self, bool *ret_found, cm_error_t *err)
{
    const cm_erasure_choice_t *choice = self->choice;
    char older[24];
    snprintf(older, sizeof older, "%" PRId64, choice->older_ms);
    const char *values[] = {choice->after, older, choice->only};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_status_t status = cm_sql_query(
        self->pg,
        "SELECT tenant FROM @schema@.erasures_pending WHERE ($1::text IS NULL OR tenant > $1)"
        " AND requested_at <= now() - $2::bigint * interval '1 millisecond'"
        " AND ($2::bigint = 0 OR retry_at <= now())"
        " AND ($3::text IS NULL OR tenant = $3) ORDER BY tenant LIMIT 1 FOR UPDATE SKIP LOCKED",
        self->admin_schema, 3, values, &result, err);
    *ret_found = status == CM_OK && PQntuples(result) > 0;
    if (*ret_found)
        snprintf(self->tenant, CM_TENANT_ID_MAX, "%s", cm_pg_text(result, 0, 0));
    else if (status == CM_OK && choice->only && choice->noted_or_not) {
        snprintf(self->tenant, CM_TENANT_ID_MAX, "%s", choice->only);
        *ret_found = true;
    }
    return status;
}

static cm_status_t lock_and_rewrite(sweep_t *self, cm_error_t *err)
{
    char limit[64];
    bool letters = false;
    snprintf(limit, sizeof limit, "SET LOCAL lock_timeout = %" PRId64, self->choice->lock_ms);
    cm_status_t status = cm_pg_exec(self->pg, limit, err);
    if (status == CM_OK && !*self->tenant)
        return cm_sql_exec(self->pg, rewrite_letters_sql, self->admin_schema, err);
    if (status == CM_OK)
        status = cm_sql_exec(self->pg, lock_devices_sql, self->schema, err);
    if (status == CM_OK)
        status = cm_erasure_late(self->pg, self->admin_schema, self->tenant, self->choice->key,
                                 &letters, err);
    cm_crash_point("ddl-step");
    if (status == CM_OK)
        status = cm_sql_exec(self->pg, rewrite_devices_sql, self->schema, err);
    /* Last: whoever erases letters of any tenant waits for this row until the commit. */
    return status == CM_OK && letters ? cm_erasure_note(self->pg, self->admin_schema, "", err)
                                      : status;
}

static cm_status_t forget(sweep_t *self, cm_error_t *err)
{
    const char *values[] = {self->tenant};
    return cm_sql_query(self->pg, "DELETE FROM @schema@.erasures_pending WHERE tenant = $1",
                        self->admin_schema, 1, values, NULL, err);
}

/* Something was not there. A tenant whose schema is gone has no files to rewrite; a table that is
 * missing in one that is there is a fault. */
static cm_status_t take_missing(sweep_t *self, const cm_error_t *failure, cm_error_t *err)
{
    const char *values[] = {self->schema};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_status_t status = cm_pg_exec(self->pg, "ROLLBACK TO SAVEPOINT rewrite", err);
    if (status == CM_OK)
        status = cm_pg_query(self->pg, "SELECT FROM pg_namespace WHERE nspname = $1", 1, values,
                             &result, err);
    if (status != CM_OK || (*self->tenant && PQntuples(result) == 0))
        return status;
    *err = *failure;
    return failure->status;
}

static cm_status_t sweep_claimed(sweep_t *self, cm_erasure_step_t *ret_step, cm_error_t *err)
{
    cm_error_t failure = {0};
    cm_tenant_id_schema(self->tenant, self->schema);
    cm_status_t status = cm_pg_exec(self->pg, "SAVEPOINT rewrite", err);
    if (status != CM_OK)
        return status;
    status = lock_and_rewrite(self, &failure);
    *ret_step = status == CM_MISSING ? CM_ERASURE_ABSENT : CM_ERASURE_REWRITTEN;
    if (status == CM_MISSING)
        status = take_missing(self, &failure, err);
    else if (status != CM_OK)
        *err = failure;
    return status == CM_OK ? forget(self, err) : status;
}

cm_status_t cm_erasure_put_off(cm_pg_t *pg, const char *admin_schema, const char *tenant,
                               cm_error_t *err)
{
    const char *values[] = {tenant};
    return cm_sql_query(pg,
                        "UPDATE @schema@.erasures_pending SET put_off = put_off + 1, retry_at ="
                        " now() + interval '10 minutes' * 2 ^ least(put_off, 7)"
                        " WHERE tenant = $1",
                        admin_schema, 1, values, NULL, err);
}

cm_status_t cm_erasure_sweep_next(cm_pg_t *pg, const char *admin_schema,
                                  const cm_erasure_choice_t *choice,
                                  char ret_tenant[CM_TENANT_ID_MAX], cm_erasure_step_t *ret_step,
                                  cm_error_t *err)
{
    sweep_t self = {.pg = pg, .admin_schema = admin_schema, .choice = choice, .tenant = ret_tenant};
    cm_erasure_step_t step = CM_ERASURE_NONE;
    bool found = false;
    ret_tenant[0] = '\0';
    *ret_step = CM_ERASURE_NONE;
    cm_status_t status = cm_pg_begin(pg, err);
    /* What is read must be newer than the locks, whatever the server's default is. */
    if (status == CM_OK)
        status = cm_pg_exec(pg, "SET TRANSACTION ISOLATION LEVEL READ COMMITTED", err);
    if (status == CM_OK)
        status = claim(&self, &found, err);
    if (status == CM_OK && found)
        status = sweep_claimed(&self, &step, err);
    if (status == CM_OK)
        status = cm_pg_commit(pg, err);
    if (status != CM_OK)
        cm_pg_rollback(pg);
    else
        *ret_step = step;
    return status;
}
