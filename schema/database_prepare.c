#include "runtime/backoff.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "schema/database_prepare_private.h"
#include "schema/migration.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TRIES_MAX = 8, RETRY_BASE_MS = 20, RETRY_CAP_MS = 500 };

/* ---- asking, doing, noting ------------------------------------------------------------------ */

void cm_database_notes_destroy(cm_database_notes_t *self)
{
    free(self->items);
    *self = (cm_database_notes_t){0};
}

void cm_database_note(cm_database_work_t *self, const char *mend, const char *format, ...)
{
    cm_database_notes_t *notes = self->notes;
    if (notes->count == notes->cap) {
        notes->cap = notes->cap ? 2 * notes->cap : 32;
        notes->items = realloc(notes->items, notes->cap * sizeof *notes->items);
        if (!notes->items)
            abort();
    }
    cm_database_note_t *note = &notes->items[notes->count++];
    va_list args;
    va_start(args, format);
    vsnprintf(note->what, sizeof note->what, format, args);
    va_end(args);
    snprintf(note->mend, sizeof note->mend, "%s", mend ? mend : "");
}

cm_status_t cm_database_ask(cm_database_work_t *self, char *text, size_t size, const char *sql,
                            const char *a, const char *b, cm_error_t *err)
{
    const char *values[] = {a, b};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    *text = '\0';
    cm_status_t status = cm_pg_query(self->pg, sql, !!a + !!b, values, &result, err);
    if (status == CM_OK && PQntuples(result) > 0)
        snprintf(text, size, "%s", cm_pg_text(result, 0, 0));
    return status;
}

cm_status_t cm_database_is(cm_database_work_t *self, bool *ret_true, const char *sql, const char *a,
                           const char *b, cm_error_t *err)
{
    char text[8];
    cm_status_t status = cm_database_ask(self, text, sizeof text, sql, a, b, err);
    *ret_true = strcmp(text, "t") == 0;
    return status;
}

cm_status_t cm_database_run(cm_database_work_t *self, cm_error_t *err, const char *format, ...)
{
    char sql[1024];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(sql, sizeof sql, format, args);
    va_end(args);
    if (len >= (int)sizeof sql)
        return cm_error_set(err, CM_PERMANENT, "too-long", "a statement is too long");
    return cm_pg_exec(self->pg, sql, err);
}

static cm_status_t refuse(const cm_database_work_t *self, cm_error_t *err, const char *what,
                          const char *mend)
{
    return cm_error_set(err, CM_MISCONFIGURED, "role-rights", "login %s %s; run %s", self->caller,
                        what, mend);
}

/* ---- steps ---------------------------------------------------------------------------------- */

static cm_status_t look_around(cm_database_work_t *self, cm_error_t *err)
{
    cm_status_t status = cm_database_ask(self, self->caller, sizeof self->caller,
                                         "SELECT current_user", NULL, NULL, err);
    if (status == CM_OK)
        status = cm_database_ask(self, self->database, sizeof self->database,
                                 "SELECT current_database()", NULL, NULL, err);
    if (status == CM_OK)
        status = cm_database_is(self, &self->superuser,
                                "SELECT rolsuper FROM pg_roles WHERE rolname = current_user", NULL,
                                NULL, err);
    return status;
}

/* To make schemas. Without the right to grant, GRANT only warns. */
static cm_status_t grant_database(cm_database_work_t *self, cm_error_t *err)
{
    static const char granted[] = "SELECT has_database_privilege($1, current_database(), 'CREATE')";
    const char *owner = self->role[CM_ROLE_OWNER];
    char quoted[CM_SQL_IDENTIFIER_MAX], statement[CM_SQL_IDENTIFIER_MAX + CM_ROLE_NAME_MAX + 64];
    bool may = false;
    cm_status_t status = cm_database_is(self, &may, granted, owner, NULL, err);
    if (status != CM_OK || may)
        return status;
    snprintf(statement, sizeof statement, "GRANT CREATE ON DATABASE %s TO \"%s\"",
             cm_sql_identifier(self->database, quoted), owner);
    status = cm_database_run(self, err, "%s", statement);
    if (status == CM_OK)
        status = cm_database_is(self, &may, granted, owner, NULL, err);
    if (status == CM_OK && !may)
        return refuse(self, err, "does not own the database", statement);
    cm_database_note(self, NULL, "role %s may create schemas in database %s", owner,
                     self->database);
    return status;
}

static cm_status_t migrate_admin(cm_database_work_t *self, cm_error_t *err)
{
    int from = 0, to = 0;
    cm_status_t status =
        cm_admin_prepare_within(self->pg, self->plan->admin_schema, &from, &to, err);
    if (status == CM_OK && from < to)
        cm_database_note(self, NULL, "schema %s brought from version %d to %d",
                         self->plan->admin_schema, from, to);
    return status;
}

/* What belongs to somebody whose rights we do not have can be handed to nobody. */
static cm_status_t check_owners(cm_database_work_t *self, cm_error_t *err)
{
    const char *values[] = {self->plan->admin_schema};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_status_t status =
        cm_sql_query(self->pg,
                     "SELECT nspname, pg_get_userbyid(owner) FROM ("
                     " SELECT nspname, nspowner AS owner FROM pg_namespace WHERE nspname = $1"
                     " OR nspname IN (SELECT schema_name FROM @schema@.tenants) UNION ALL"
                     " SELECT nspname, relowner FROM pg_class AS c"
                     " JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE nspname = $1) AS o"
                     " WHERE NOT pg_has_role(current_user, owner, 'USAGE') LIMIT 1",
                     self->plan->admin_schema, 1, values, &result, err);
    if (status != CM_OK || PQntuples(result) == 0)
        return status;
    char what[128], mend[192];
    snprintf(what, sizeof what, "has not the rights of the owner of schema %s",
             cm_pg_text(result, 0, 0));
    snprintf(mend, sizeof mend, "GRANT \"%s\" TO \"%s\", or prepare as a superuser",
             cm_pg_text(result, 0, 1), self->caller);
    return refuse(self, err, what, mend);
}

/* The audit log's table and functions to its owner, all else to ours. */
static cm_status_t hand_over_admin(cm_database_work_t *self, cm_error_t *err)
{
    const char *schema = self->plan->admin_schema, *owner = self->role[CM_ROLE_OWNER];
    const char *values[] = {schema, owner, self->role[CM_ROLE_AUDIT_OWNER]};
    CM_CLEANUP(cm_pg_clear) PGresult *todo = NULL;
    cm_status_t status =
        cm_pg_query(self->pg,
                    "SELECT format('ALTER %s OWNER TO %I', what, wanted) FROM ("
                    " SELECT format('TABLE %I.%I', nspname, relname) AS what, relowner AS owner,"
                    " CASE WHEN relname LIKE 'audit\\_log%' THEN $3 ELSE $2 END AS wanted"
                    " FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
                    " WHERE nspname = $1 AND relkind IN ('r', 'p') UNION ALL"
                    " SELECT format('ROUTINE %s', p.oid::regprocedure), proowner,"
                    " CASE WHEN proname LIKE 'audit\\_log%' THEN $3 ELSE $2 END"
                    " FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace"
                    " WHERE nspname = $1) AS o"
                    " WHERE pg_get_userbyid(owner)::text <> wanted ORDER BY what",
                    3, values, &todo, err);
    for (int i = 0; status == CM_OK && i < PQntuples(todo); i++)
        status = cm_database_run(self, err, "%s", cm_pg_text(todo, i, 0));
    if (status == CM_OK && PQntuples(todo))
        cm_database_note(self, NULL, "%d tables and functions of schema %s handed to %s and %s",
                         PQntuples(todo), schema, values[1], values[2]);
    return status;
}

/* Whoever owns a schema may drop what is in it: the audit log's owner, then. */
static cm_status_t hand_over_schema(cm_database_work_t *self, cm_error_t *err)
{
    bool owned = false;
    char quoted[CM_SQL_IDENTIFIER_MAX];
    const char *schema = self->plan->admin_schema, *owner = self->role[CM_ROLE_AUDIT_OWNER];
    cm_status_t status = cm_database_is(
        self, &owned, "SELECT pg_get_userbyid(nspowner) = $2 FROM pg_namespace WHERE nspname = $1",
        schema, owner, err);
    if (status != CM_OK || owned)
        return status;
    cm_database_note(self, NULL, "schema %s handed to %s", schema, owner);
    return cm_database_run(self, err, "ALTER SCHEMA %s OWNER TO \"%s\"",
                           cm_sql_identifier(schema, quoted), owner);
}

static cm_status_t read_rights(cm_database_work_t *self, char digest[64], cm_error_t *err)
{
    return cm_database_ask(
        self, digest, 64,
        "SELECT md5(string_agg(a::text, ' ' ORDER BY k, a::text)) FROM ("
        " SELECT 'schema' AS k, nspacl AS a FROM pg_namespace WHERE nspname = $1 UNION ALL"
        " SELECT relname, relacl FROM pg_class WHERE relnamespace = (SELECT oid FROM pg_namespace"
        " WHERE nspname = $1) UNION ALL"
        " SELECT attrelid::text || attname, attacl FROM pg_attribute JOIN pg_class AS c"
        " ON c.oid = attrelid WHERE attacl IS NOT NULL AND relnamespace ="
        " (SELECT oid FROM pg_namespace WHERE nspname = $1)) AS r",
        self->plan->admin_schema, NULL, err);
}

static cm_status_t own_admin(cm_database_work_t *self, cm_error_t *err)
{
    char before[64], after[64], quoted[CM_SQL_IDENTIFIER_MAX];
    const char *schema = self->plan->admin_schema;
    cm_status_t status = check_owners(self, err);
    if (status == CM_OK)
        status = read_rights(self, before, err);
    if (status == CM_OK)
        status = cm_database_run(self, err, "GRANT USAGE, CREATE ON SCHEMA %s TO \"%s\"",
                                 cm_sql_identifier(schema, quoted), self->role[CM_ROLE_OWNER]);
    if (status == CM_OK) /* first: who is to own a table must have the right to create there */
        status = hand_over_schema(self, err);
    if (status == CM_OK)
        status = hand_over_admin(self, err);
    if (status == CM_OK)
        status = cm_role_grant(self->pg, self->plan->prefix, CM_ROLE_ADMIN, schema, err);
    if (status == CM_OK)
        status = read_rights(self, after, err);
    if (status == CM_OK && strcmp(before, after) != 0)
        cm_database_note(self, NULL, "rights to the tables of schema %s granted", schema);
    return status;
}

/* For schemas that somebody makes as owner without us: they can be looked into by name, as ours.
 * Rights to tables are given by name, see role.c. */
static cm_status_t set_defaults(cm_database_work_t *self, cm_error_t *err)
{
    static const char ask[] =
        "SELECT md5(string_agg(defaclobjtype::text || defaclacl::text, ' ' ORDER BY defaclobjtype))"
        " FROM pg_default_acl AS d JOIN pg_roles AS r ON r.oid = defaclrole WHERE rolname = $1";
    const char *owner = self->role[CM_ROLE_OWNER];
    char before[64], after[64];
    cm_status_t status = cm_database_ask(self, before, sizeof before, ask, owner, NULL, err);
    if (status == CM_OK)
        status = cm_database_run(self, err,
                                 "ALTER DEFAULT PRIVILEGES FOR ROLE \"%s\" GRANT USAGE ON SCHEMAS"
                                 " TO \"%s\", \"%s\", \"%s\"",
                                 owner, self->role[CM_ROLE_WRITER], self->role[CM_ROLE_PURGER],
                                 self->role[CM_ROLE_DASH]);
    if (status == CM_OK)
        status = cm_database_run(self, err,
                                 "ALTER DEFAULT PRIVILEGES FOR ROLE \"%s\" REVOKE EXECUTE ON"
                                 " FUNCTIONS FROM PUBLIC",
                                 owner);
    if (status == CM_OK)
        status = cm_database_ask(self, after, sizeof after, ask, owner, NULL, err);
    if (status == CM_OK && strcmp(before, after) != 0)
        cm_database_note(self, NULL, "default privileges of %s set", owner);
    return status;
}

/* Others may rely on it, so it is done when asked for. */
static cm_status_t close_public(cm_database_work_t *self, cm_error_t *err)
{
    static const char ask[] = "SELECT has_schema_privilege('public', oid, 'CREATE')"
                              " FROM pg_namespace WHERE nspname = 'public'";
    bool open = false;
    cm_status_t status = cm_database_is(self, &open, ask, NULL, NULL, err);
    if (status != CM_OK || !open)
        return status;
    if (!self->plan->revoke_public) {
        cm_database_note(self, "--revoke-public takes it from them, if nobody needs it",
                         "everybody may create tables in schema public");
        return CM_OK;
    }
    status = cm_database_run(self, err, "REVOKE CREATE ON SCHEMA public FROM PUBLIC");
    if (status == CM_OK)
        status = cm_database_is(self, &open, ask, NULL, NULL, err);
    if (status == CM_OK && open)
        return refuse(self, err, "does not own schema public",
                      "it as the owner of the database or a superuser");
    cm_database_note(self, NULL, "nobody but its owner may create tables in schema public");
    return status;
}

/* ---- the transaction ------------------------------------------------------------------------ */

static cm_status_t count_outside(cm_database_work_t *self, int64_t *ret_tenants, cm_error_t *err)
{
    CM_CLEANUP(cm_pg_clear) PGresult *ids = NULL;
    cm_status_t status =
        cm_database_list_outside(self->pg, self->plan->admin_schema, self->plan->prefix, &ids, err);
    if (status == CM_OK)
        *ret_tenants = PQntuples(ids);
    return status;
}

static cm_status_t run_steps(cm_database_work_t *self, int64_t *ret_tenants, cm_error_t *err)
{
    typedef cm_status_t(step_fn)(cm_database_work_t *, cm_error_t *);
    static step_fn *const with_roles[] = {cm_database_make_roles,
                                          cm_database_join_owners,
                                          grant_database,
                                          migrate_admin,
                                          own_admin,
                                          set_defaults,
                                          close_public,
                                          cm_database_make_logins};
    if (!self->plan->prefix)
        return migrate_admin(self, err);
    cm_status_t status =
        cm_pg_exec(self->pg, "SELECT pg_advisory_xact_lock(hashtextextended('cm-roles', 0))", err);
    if (status == CM_OK)
        status = look_around(self, err);
    for (size_t i = 0; status == CM_OK && i < CM_LENGTH(with_roles); i++)
        status = with_roles[i](self, err);
    return status == CM_OK ? count_outside(self, ret_tenants, err) : status;
}

static cm_status_t try_prepare(cm_database_work_t *self, int64_t *ret_tenants, cm_error_t *err)
{
    *ret_tenants = 0;
    self->notes->count = 0;
    cm_status_t status = cm_pg_begin(self->pg, err);
    if (status == CM_OK)
        status = cm_pg_exec(self->pg, "SET TRANSACTION ISOLATION LEVEL READ COMMITTED", err);
    if (status == CM_OK)
        status = run_steps(self, ret_tenants, err);
    if (status == CM_OK && !self->plan->dry_run)
        status = cm_pg_commit(self->pg, err);
    if (status != CM_OK || self->plan->dry_run)
        cm_pg_rollback(self->pg);
    if (status != CM_OK && strcmp(err->code, "42501") == 0)
        return cm_error_set(err, CM_MISCONFIGURED, "role-rights",
                            "%s; prepare as a superuser, or as who owns the database and its "
                            "schemas and has CREATEROLE",
                            err->message);
    return status;
}

static bool passes(const cm_error_t *err)
{
    return err->status == CM_TRANSIENT &&
           (cm_pg_is_quick_retry(err->code) || strcmp(err->code, "23505") == 0);
}

cm_status_t cm_database_prepare(cm_pg_t *pg, const cm_database_plan_t *plan,
                                cm_database_notes_t *notes, int64_t *ret_tenants, cm_error_t *err)
{
    cm_error_t failure = {0};
    cm_database_work_t self = {.pg = pg, .plan = plan, .notes = notes};
    cm_backoff_t backoff;
    cm_backoff_init(&backoff, RETRY_BASE_MS, RETRY_CAP_MS, cm_random_u64());
    for (int role = CM_ROLE_OWNER; plan->prefix && role < CM_ROLE_COUNT; role++)
        cm_role_name(plan->prefix, (cm_role_t)role, self.role[role]);
    cm_status_t status = try_prepare(&self, ret_tenants, &failure);
    for (int tries = 1; status != CM_OK && passes(&failure) && tries < TRIES_MAX; tries++) {
        int wait_ms = cm_backoff_next_ms(&backoff);
        nanosleep(&(struct timespec){.tv_nsec = wait_ms * 1000000L}, NULL);
        status = try_prepare(&self, ret_tenants, &failure);
    }
    if (status != CM_OK && err)
        *err = failure;
    return status;
}

/* ---- tenants -------------------------------------------------------------------------------- */

cm_status_t cm_database_list_outside(cm_pg_t *pg, const char *admin_schema, const char *prefix,
                                     PGresult **ret_ids, cm_error_t *err)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t sql = {0};
    char owner[CM_ROLE_NAME_MAX];
    cm_role_name(prefix, CM_ROLE_OWNER, owner);
    cm_buffer_printf(&sql, "WITH wanted AS (SELECT t.name, array_agg(grantee || ' ' || privilege"
                           " ORDER BY grantee, privilege) AS rights FROM (VALUES ");
    cm_role_tenant_grants(&sql, prefix);
    /* pg_class in one pass: no index of it finds the relations of a schema. */
    cm_buffer_printf(
        &sql,
        ") AS t(name, grantee, list), unnest(string_to_array(list, ', ')) AS privilege"
        " GROUP BY t.name), ours AS (SELECT oid, rolname::text COLLATE \"default\" AS name"
        " FROM pg_roles WHERE rolname = ANY($2)), me AS (SELECT oid FROM pg_roles"
        " WHERE rolname = $1), schemas AS (SELECT relnamespace AS oid,"
        " bool_or(relowner <> me.oid OR w.rights IS DISTINCT FROM"
        " (SELECT array_agg(o.name || ' ' || privilege_type ORDER BY o.name, privilege_type)"
        " FROM aclexplode(relacl) AS a JOIN ours AS o ON o.oid = a.grantee)) AS outside"
        " FROM pg_class CROSS JOIN me LEFT JOIN wanted AS w ON w.name = relname"
        " WHERE relkind IN ('r', 'p') GROUP BY relnamespace)"
        " SELECT t.id FROM @schema@.tenants AS t JOIN pg_namespace AS n ON nspname = t.schema_name"
        " LEFT JOIN me ON true LEFT JOIN schemas AS s ON s.oid = n.oid"
        " WHERE nspowner <> me.oid OR me.oid IS NULL OR s.outside ORDER BY t.id");
    char others[4 * CM_ROLE_NAME_MAX + 8], names[4][CM_ROLE_NAME_MAX];
    snprintf(others, sizeof others, "{%s,%s,%s,%s}", cm_role_name(prefix, CM_ROLE_WRITER, names[0]),
             cm_role_name(prefix, CM_ROLE_PURGER, names[1]),
             cm_role_name(prefix, CM_ROLE_DASH, names[2]),
             cm_role_name(prefix, CM_ROLE_AUDIT_WRITER, names[3]));
    const char *values[] = {owner, others};
    return cm_sql_query(pg, cm_buffer_text(&sql), admin_schema, 2, values, ret_ids, err);
}

static cm_status_t adopt_all(cm_pg_t *pg, const cm_database_plan_t *plan, const PGresult *ids,
                             void (*on_progress)(void *ctx, const cm_migrate_progress_t *now),
                             void *ctx, cm_migrate_progress_t *now, cm_error_t *err)
{
    now->total = (size_t)PQntuples(ids);
    for (size_t i = 0; i < now->total; i++) {
        cm_error_t failure = {0};
        cm_tenant_change_t change = CM_TENANT_UNCHANGED;
        const char *id = cm_pg_text(ids, (int)i, 0);
        cm_status_t status =
            cm_tenant_schema_adopt(pg, plan->admin_schema, plan->prefix, id, &change, &failure);
        if (status == CM_UNAVAILABLE) /* what is left waits for the next run */
            return cm_error_set(err, status, failure.code, "%s", failure.message);
        now->done++;
        now->changed += status == CM_OK && change == CM_TENANT_CHANGED;
        now->failed += status != CM_OK;
        now->last_failed = status == CM_OK ? NULL : id;
        now->last_error = status == CM_OK ? NULL : &failure;
        if (on_progress)
            on_progress(ctx, now);
        now->last_failed = NULL;
        now->last_error = NULL;
    }
    return CM_OK;
}

cm_status_t
cm_database_adopt_tenants(cm_pg_t *pg, const cm_database_plan_t *plan,
                          void (*on_progress)(void *ctx, const cm_migrate_progress_t *now),
                          void *ctx, cm_migrate_progress_t *ret_progress, cm_error_t *err)
{
    CM_CLEANUP(cm_pg_clear) PGresult *ids = NULL;
    cm_database_work_t self = {.pg = pg, .plan = plan};
    *ret_progress = (cm_migrate_progress_t){0};
    for (int role = CM_ROLE_OWNER; role < CM_ROLE_COUNT; role++)
        cm_role_name(plan->prefix, (cm_role_t)role, self.role[role]);
    cm_status_t status = look_around(&self, err);
    if (status == CM_OK)
        status = cm_database_list_outside(pg, plan->admin_schema, plan->prefix, &ids, err);
    if (status == CM_OK)
        status = adopt_all(pg, plan, ids, on_progress, ctx, ret_progress, err);
    cm_status_t left = cm_database_leave_owners(&self, status == CM_OK ? err : NULL);
    return status == CM_OK ? left : status;
}
