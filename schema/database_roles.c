/* The roles themselves, who is a member of which, and the logins that work as them. */
#include "runtime/cleanup.h"
#include "schema/database_prepare_private.h"

#include <stdio.h>
#include <string.h>

/* ---- roles ---------------------------------------------------------------------------------- */

/* A role of the name that we did not make, and that would give the service more than it should have
 * or let somebody in. ddl must inherit, or it has no right of owner. */
static cm_status_t check_role(cm_database_work_t *self, cm_role_t role, bool *ret_there,
                              cm_error_t *err)
{
    bool taken = false;
    const char *name = self->role[role];
    cm_status_t status = cm_database_is(
        self, ret_there, "SELECT true FROM pg_roles WHERE rolname = $1", name, NULL, err);
    if (status == CM_OK)
        status = cm_database_is(self, &taken,
                                "SELECT rolcanlogin OR rolsuper OR rolcreaterole OR rolcreatedb"
                                " OR rolbypassrls OR rolreplication OR NOT rolinherit"
                                " FROM pg_roles WHERE rolname = $1",
                                name, NULL, err);
    if (status == CM_OK && taken)
        return cm_error_set(err, CM_MISCONFIGURED, "role-taken",
                            "role %s exists and is none of ours: it can log in, has an attribute "
                            "or does not inherit; choose another postgres.role_prefix",
                            name);
    return status;
}

static cm_status_t grant_role(cm_database_work_t *self, const char *role, const char *member,
                              cm_error_t *err)
{
    bool there = false;
    char quoted[CM_SQL_IDENTIFIER_MAX];
    cm_status_t status = cm_database_is(
        self, &there,
        "SELECT true FROM pg_auth_members AS m JOIN pg_roles AS r ON r.oid = m.roleid"
        " JOIN pg_roles AS u ON u.oid = m.member WHERE r.rolname = $1 AND u.rolname = $2",
        role, member, err);
    if (status != CM_OK || there)
        return status;
    cm_database_note(self, NULL, "role %s granted to %s", role, member);
    return cm_database_run(self, err, "GRANT \"%s\" TO %s", role,
                           cm_sql_identifier(member, quoted));
}

cm_status_t cm_database_make_roles(cm_database_work_t *self, cm_error_t *err)
{
    bool may = false;
    cm_status_t status =
        cm_database_is(self, &may,
                       "SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname ="
                       " current_user",
                       NULL, NULL, err);
    if (status == CM_OK && !may)
        return cm_error_set(err, CM_MISCONFIGURED, "role-rights",
                            "login %s may not create roles; as a superuser: ALTER ROLE \"%s\" "
                            "CREATEROLE; or prepare as a superuser",
                            self->caller, self->caller);
    for (int role = CM_ROLE_OWNER; status == CM_OK && role < CM_ROLE_COUNT; role++) {
        bool there = false;
        status = check_role(self, (cm_role_t)role, &there, err);
        if (status != CM_OK || there)
            continue;
        cm_database_note(self, NULL, "role %s created", self->role[role]);
        status = cm_database_run(self, err, "CREATE ROLE \"%s\" NOLOGIN", self->role[role]);
    }
    if (status == CM_OK)
        status = grant_role(self, self->role[CM_ROLE_OWNER], self->role[CM_ROLE_DDL], err);
    if (status == CM_OK)
        status = grant_role(self, self->role[CM_ROLE_AUDIT_WRITER], self->role[CM_ROLE_DDL], err);
    return status;
}

/* ---- the login that prepares ---------------------------------------------------------------- */

static const cm_role_t owners[] = {CM_ROLE_OWNER, CM_ROLE_AUDIT_OWNER};

cm_status_t cm_database_join_owners(cm_database_work_t *self, cm_error_t *err)
{
    cm_status_t status = CM_OK;
    char quoted[CM_SQL_IDENTIFIER_MAX];
    for (size_t i = 0; status == CM_OK && !self->superuser && i < CM_LENGTH(owners); i++)
        status = cm_database_run(self, err, "GRANT \"%s\" TO %s", self->role[owners[i]],
                                 cm_sql_identifier(self->caller, quoted));
    return status;
}

cm_status_t cm_database_leave_owners(cm_database_work_t *self, cm_error_t *err)
{
    cm_status_t status = CM_OK;
    char quoted[CM_SQL_IDENTIFIER_MAX];
    for (size_t i = 0; status == CM_OK && !self->superuser && i < CM_LENGTH(owners); i++)
        status = cm_database_run(self, err, "REVOKE \"%s\" FROM %s", self->role[owners[i]],
                                 cm_sql_identifier(self->caller, quoted));
    return status;
}

/* ---- logins that work as the roles ---------------------------------------------------------- */

/* They are read when one logs in, not when a role is taken, so it is the logins that need them. The
 * last four keep what a statement that failed or took long was given, push tokens among it, out of
 * the server's log. */
static const struct {
    const char *name, *value; /* as SET takes it */
} settings[] = {
    {"search_path", "pg_catalog, pg_temp"}, {"log_parameter_max_length_on_error", "0"},
    {"log_parameter_max_length", "0"},      {"log_min_error_statement", "panic"},
    {"log_error_verbosity", "terse"},
};

static cm_status_t set_one(cm_database_work_t *self, const char *login, size_t index,
                           cm_error_t *err)
{
    const char *name = settings[index].name, *value = settings[index].value;
    char entry[96], statement[176], role[CM_SQL_IDENTIFIER_MAX], database[CM_SQL_IDENTIFIER_MAX];
    bool there = false, may = false;
    snprintf(entry, sizeof entry, "%s=%s", name, value);
    cm_status_t status = cm_database_is(
        self, &there,
        "SELECT true FROM pg_db_role_setting AS s JOIN pg_roles AS r ON r.oid = s.setrole"
        " LEFT JOIN pg_database AS d ON d.oid = s.setdatabase WHERE rolname = $1"
        " AND (setdatabase = 0 OR datname = current_database()) AND $2 = ANY(setconfig)",
        login, entry, err);
    if (status == CM_OK)
        status = cm_database_is(self, &may,
                                "SELECT context = 'user' OR has_parameter_privilege(name, 'SET')"
                                " FROM pg_settings WHERE name = $1",
                                name, NULL, err);
    if (status != CM_OK || there)
        return status;
    if (!may) {
        snprintf(statement, sizeof statement, "as a superuser: ALTER ROLE \"%.63s\" SET %s = %s",
                 login, name, value);
        cm_database_note(self, statement, "%s of login %s", name, login);
        return CM_OK;
    }
    cm_database_note(self, NULL, "%s of login %s set to %s", name, login, value);
    return cm_database_run(self, err, "ALTER ROLE %s IN DATABASE %s SET %s = %s",
                           cm_sql_identifier(login, role),
                           cm_sql_identifier(self->database, database), name, value);
}

static cm_status_t check_login(cm_database_work_t *self, const char *login, cm_error_t *err)
{
    bool there = false;
    cm_status_t status = cm_database_is(
        self, &there, "SELECT rolcanlogin FROM pg_roles WHERE rolname = $1", login, NULL, err);
    if (status == CM_OK && !there)
        return cm_error_set(err, CM_MISCONFIGURED, "role-login",
                            "there is no login %.63s; CREATE ROLE \"%.63s\" LOGIN NOINHERIT, with "
                            "a password",
                            login, login);
    if (status == CM_OK && strcmp(login, self->caller) == 0)
        return cm_error_set(err, CM_MISCONFIGURED, "role-login",
                            "login %.63s prepares the database; give the service one of its own",
                            login);
    return status;
}

/* Before the roles are granted: from version 16 on it is the membership that inherits or does not,
 * and takes after the login when it is made. */
static cm_status_t take_inheritance(cm_database_work_t *self, const char *login, cm_error_t *err)
{
    bool inherits = false;
    char quoted[CM_SQL_IDENTIFIER_MAX];
    cm_status_t status = cm_database_is(
        self, &inherits, "SELECT rolinherit FROM pg_roles WHERE rolname = $1", login, NULL, err);
    if (status != CM_OK || !inherits)
        return status;
    cm_database_note(self, NULL, "login %s inherits no rights any more", login);
    return cm_database_run(self, err, "ALTER ROLE %s NOINHERIT", cm_sql_identifier(login, quoted));
}

/* What makes roles of little use; it may be on purpose, so it is told and left. */
static cm_status_t doubt_login(cm_database_work_t *self, const char *login, cm_error_t *err)
{
    char mend[192];
    bool super = false, creates = false;
    cm_status_t status = cm_database_is(
        self, &super, "SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = $1", login,
        NULL, err);
    if (status == CM_OK)
        status = cm_database_is(self, &creates,
                                "SELECT has_database_privilege($1, current_database(), 'CREATE')",
                                login, NULL, err);
    if (status == CM_OK && super)
        cm_database_note(self, "give the service a login without these attributes",
                         "login %s is bound by no role: SUPERUSER or CREATEROLE", login);
    snprintf(mend, sizeof mend, "REVOKE CREATE ON DATABASE \"%s\" FROM \"%.63s\"", self->database,
             login);
    if (status == CM_OK && creates && !super)
        cm_database_note(self, mend, "login %s may create schemas on its own", login);
    return status;
}

cm_status_t cm_database_make_logins(cm_database_work_t *self, cm_error_t *err)
{
    static const cm_role_t worked_as[] = {CM_ROLE_DDL, CM_ROLE_WRITER, CM_ROLE_PURGER, CM_ROLE_DASH,
                                          CM_ROLE_AUDIT_WRITER};
    cm_status_t status = CM_OK;
    for (size_t i = 0; status == CM_OK && i < self->plan->login_count; i++) {
        const char *login = self->plan->logins[i];
        status = check_login(self, login, err);
        if (status == CM_OK)
            status = take_inheritance(self, login, err);
        for (size_t k = 0; status == CM_OK && k < CM_LENGTH(worked_as); k++)
            status = grant_role(self, self->role[worked_as[k]], login, err);
        for (size_t k = 0; status == CM_OK && k < CM_LENGTH(settings); k++)
            status = set_one(self, login, k, err);
        if (status == CM_OK)
            status = doubt_login(self, login, err);
    }
    return status;
}
