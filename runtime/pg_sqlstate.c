#include "runtime/pg_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Reliability, section 3.1. The longest matching prefix wins: two characters are a class. */
typedef struct {
    char prefix[6];
    cm_status_t status;
    bool quick_retry;
} sqlstate_t;

static const sqlstate_t sqlstates[] = {
    {"08", CM_UNAVAILABLE, false},      /* connection */
    {"0A000", CM_TRANSIENT, true},      /* cached plan must not change result type */
    {"21000", CM_PERMANENT, false},     /* one row twice in an upsert */
    {"22", CM_PERMANENT, false},        /* bad data */
    {"23", CM_PERMANENT, false},        /* constraint */
    {"25001", CM_TRANSIENT, false},     /* transaction already open: our bug */
    {"25006", CM_UNAVAILABLE, false},   /* read-only: a standby */
    {"25P01", CM_TRANSIENT, false},     /* no transaction: our bug */
    {"25P02", CM_TRANSIENT, false},     /* transaction already failed: our bug */
    {"25P03", CM_TRANSIENT, false},     /* idle in transaction for too long */
    {"26000", CM_TRANSIENT, true},      /* prepared statement gone */
    {"28", CM_MISCONFIGURED, false},    /* credentials */
    {"34000", CM_TRANSIENT, true},      /* cursor gone */
    {"38", CM_PERMANENT, false},        /* raised by a function */
    {"3D000", CM_MISCONFIGURED, false}, /* no such database */
    {"3F000", CM_MISSING, false},       /* no such schema */
    {"40001", CM_TRANSIENT, true},      /* serialisation */
    {"40003", CM_UNAVAILABLE, false},   /* completion unknown */
    {"40P01", CM_TRANSIENT, true},      /* deadlock */
    {"42501", CM_MISCONFIGURED, false}, /* missing right */
    {"42601", CM_MISCONFIGURED, false}, /* syntax */
    {"42701", CM_TRANSIENT, true}, /* column exists: a race of two creators, as the next four */
    {"42703", CM_MISCONFIGURED, false},                                     /* no such column */
    {"42710", CM_TRANSIENT, true},      {"42804", CM_MISCONFIGURED, false}, /* type mismatch */
    {"42883", CM_MISCONFIGURED, false},                                     /* no such function */
    {"42P01", CM_MISSING, false},                                           /* no such table */
    {"42P06", CM_TRANSIENT, true},      {"42P07", CM_TRANSIENT, true},
    {"42P10", CM_MISCONFIGURED, false}, /* no index for ON CONFLICT */
    {"44000", CM_PERMANENT, false},     /* check option of a view */
    {"53000", CM_UNAVAILABLE, false},   /* resources */
    {"53100", CM_UNAVAILABLE, false},   /* disk full */
    {"53200", CM_TRANSIENT, false},     /* memory or lock table */
    {"53300", CM_UNAVAILABLE, false},   /* too many connections */
    {"53400", CM_UNAVAILABLE, false},   /* configured limit */
    {"54", CM_PERMANENT, false},        /* too big */
    {"55006", CM_TRANSIENT, false},     /* object in use */
    {"55P03", CM_TRANSIENT, false},     /* lock timeout */
    {"57014", CM_TRANSIENT, false},     /* statement timeout or cancel */
    {"57P01", CM_UNAVAILABLE, false},   /* shutdown */
    {"57P02", CM_UNAVAILABLE, false},   /* crash */
    {"57P03", CM_UNAVAILABLE, false},   /* starting */
    {"57P04", CM_MISCONFIGURED, false}, /* database dropped */
    {"57P05", CM_UNAVAILABLE, false},   /* idle session ended */
    {"58", CM_UNAVAILABLE, false},      /* I/O of the server */
    {"P0001", CM_PERMANENT, false},     /* RAISE */
    {"XX000", CM_TRANSIENT, true},      /* internal; "tuple concurrently updated" */
    {"XX001", CM_UNAVAILABLE, false},   /* corrupt data */
    {"XX002", CM_UNAVAILABLE, false},   /* corrupt index */
};

static const sqlstate_t *find(const char *sqlstate)
{
    const sqlstate_t *best = NULL;
    for (size_t i = 0; i < sizeof sqlstates / sizeof sqlstates[0]; i++) {
        size_t length = strlen(sqlstates[i].prefix);
        if (strncmp(sqlstate, sqlstates[i].prefix, length) == 0 &&
            (!best || length > strlen(best->prefix)))
            best = &sqlstates[i];
    }
    return best;
}

cm_status_t cm_pg_classify(const char *sqlstate, bool *ret_known)
{
    const sqlstate_t *row = find(sqlstate);
    bool lost = !*sqlstate;
    if (ret_known)
        *ret_known = lost || row;
    if (lost)
        return CM_UNAVAILABLE;
    return row ? row->status : CM_TRANSIENT;
}

bool cm_pg_is_quick_retry(const char *sqlstate)
{
    const sqlstate_t *row = find(sqlstate);
    return row && row->quick_retry;
}

bool cm_pg_is_isolable(const cm_error_t *err)
{
    switch (err->status) {
    case CM_TRANSIENT:
    case CM_PERMANENT:
    case CM_MISSING:
        return true;
    case CM_MISCONFIGURED:
        return strncmp(err->code, "42", 2) == 0 && strcmp(err->code, "42501") != 0;
    case CM_UNAVAILABLE:
        return strcmp(err->code, "XX001") == 0 || strcmp(err->code, "XX002") == 0;
    case CM_OK:
    case CM_CANCELLED:
        break;
    }
    return false;
}

/* ---- messages ------------------------------------------------------------------------------ */

void cm_pg_first_line(char *line, size_t size, const char *text, bool unquoted)
{
    size_t length = strcspn(text ? text : "", unquoted ? "\n\"" : "\n");
    while (length > 0 && (text[length - 1] == ' ' || text[length - 1] == ':'))
        length--;
    snprintf(line, size, "%.*s", (int)length, text ? text : "");
    for (char *c = line; *c; c++)
        if ((unsigned char)*c < ' ')
            *c = ' ';
}

/* The primary messages of classes 22 and 23 may quote a value, so they are told in our words. */
static const char *text_of_data_error(const char *sqlstate)
{
    static const struct {
        char code[6];
        const char *text;
    } texts[] = {
        {"22001", "value too long"},
        {"22003", "number out of range"},
        {"22004", "null where a value is needed"},
        {"22007", "malformed time"},
        {"22008", "time out of range"},
        {"22012", "division by zero"},
        {"22021", "bytes are not valid in this encoding"},
        {"22023", "parameter value is not allowed"},
        {"22026", "text length does not match"},
        {"22P02", "malformed text for this type"},
        {"22P03", "malformed binary value"},
        {"22P05", "character has no equivalent"},
        {"23502", "null in a column that needs a value"},
        {"23503", "foreign key violated"},
        {"23505", "duplicate key"},
        {"23514", "check violated"},
        {"23P01", "exclusion violated"},
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (strcmp(sqlstate, texts[i].code) == 0)
            return texts[i].text;
    return strncmp(sqlstate, "22", 2) == 0 ? "data error" : "constraint violated";
}

static const char *field(const PGresult *result, int code)
{
    const char *text = result ? PQresultErrorField(result, code) : NULL;
    return text ? text : "";
}

static void set_message(cm_error_t *err, cm_status_t status, const PGresult *result,
                        const char *sqlstate)
{
    if (strncmp(sqlstate, "22", 2) != 0 && strncmp(sqlstate, "23", 2) != 0) {
        char line[CM_ERROR_MESSAGE_MAX];
        cm_pg_first_line(line, sizeof line, field(result, PG_DIAG_MESSAGE_PRIMARY), false);
        cm_error_set(err, status, sqlstate, "%s", line);
        return;
    }
    const char *text = text_of_data_error(sqlstate);
    const char *constraint = field(result, PG_DIAG_CONSTRAINT_NAME);
    const char *column = field(result, PG_DIAG_COLUMN_NAME);
    if (*constraint)
        cm_error_set(err, status, sqlstate, "%s: constraint %s", text, constraint);
    else if (*column)
        cm_error_set(err, status, sqlstate, "%s: column %s", text, column);
    else
        cm_error_set(err, status, sqlstate, "%s", text);
}

bool cm_pg_ends_session(const PGresult *result)
{
    const char *severity = field(result, PG_DIAG_SEVERITY_NONLOCALIZED);
    return !*field(result, PG_DIAG_SQLSTATE) || strcmp(severity, "FATAL") == 0 ||
           strcmp(severity, "PANIC") == 0;
}

cm_status_t cm_pg_error_of_result(cm_pg_t *self, const PGresult *result, bool *ret_close,
                                  cm_error_t *err)
{
    const char *sqlstate = field(result, PG_DIAG_SQLSTATE);
    if (!*sqlstate) {
        char line[CM_ERROR_MESSAGE_MAX];
        const char *text = result ? PQresultErrorMessage(result) : NULL;
        cm_pg_first_line(line, sizeof line, text && *text ? text : PQerrorMessage(self->conn),
                         false);
        *ret_close = true;
        return cm_error_set(err, CM_UNAVAILABLE, "link", "%s", *line ? line : "connection lost");
    }
    bool known = false;
    cm_status_t status = cm_pg_classify(sqlstate, &known);
    self->unclassified += known ? 0 : 1;
    /* Two sessions created the same object at once; the loser meets the winner's catalog row. */
    if (strcmp(sqlstate, "23505") == 0 &&
        strcmp(field(result, PG_DIAG_SCHEMA_NAME), "pg_catalog") == 0)
        status = CM_TRANSIENT;
    /* 25006: only a new connection can find the primary. 25001, 25P01, 25P02: a transaction is not
     * where we believe it to be, so nothing may follow on this connection. */
    if (cm_pg_ends_session(result) || strcmp(sqlstate, "25006") == 0 ||
        strcmp(sqlstate, "25001") == 0 || strcmp(sqlstate, "25P01") == 0 ||
        strcmp(sqlstate, "25P02") == 0)
        *ret_close = true;
    set_message(err, status, result, sqlstate);
    return status;
}

/* ---- failures to connect ------------------------------------------------------------------- */

/* With VERBOSE, libpq writes "SEVERITY:  SQLSTATE: text"; the severity may be translated. Returns
 * where the last such code starts (of several hosts the last one tried decides), or NULL. */
static const char *find_code(const char *text)
{
    const char *found = NULL;
    for (const char *at = strstr(text, ":  "); at; at = strstr(at + 1, ":  ")) {
        const char *code = at + 3;
        if (strspn(code, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 5 && code[5] == ':')
            found = code;
    }
    return found;
}

/* What a person must repair, although no credentials are wrong: an option that the server refuses.
 */
static bool is_refused_option(const char *sqlstate)
{
    return strncmp(sqlstate, "22", 2) == 0 || strncmp(sqlstate, "42", 2) == 0 ||
           strncmp(sqlstate, "0A", 2) == 0;
}

/* Other things are refused with these codes, too, but the server names what it means. */
static bool is_refused_role(const cm_pg_options_t *options, const char *code, const char *text)
{
    return *options->role && (strcmp(code, "22023") == 0 || strcmp(code, "42501") == 0) &&
           strstr(text, options->role);
}

static cm_status_t refuse_role(const cm_pg_options_t *options, const PGconn *conn, const char *code,
                               cm_error_t *err)
{
    const char *login = PQuser(conn) ? PQuser(conn) : "";
    if (strcmp(code, "22023") == 0)
        cm_error_set(err, CM_MISCONFIGURED, "role", "role %s does not exist", options->role);
    else
        cm_error_set(err, CM_MISCONFIGURED, "role", "role %s is not granted to login %.63s",
                     options->role, login);
    if (err && options->role_mend)
        cm_error_set(err, CM_MISCONFIGURED, "role", "%s; run `%s %.63s`", err->message,
                     options->role_mend, login);
    return CM_MISCONFIGURED;
}

cm_status_t cm_pg_error_of_connect(cm_pg_t *self, const PGconn *conn, cm_error_t *err)
{
    char line[CM_ERROR_MESSAGE_MAX];
    const char *text = PQerrorMessage(conn);
    const char *found = find_code(text);
    if (found) {
        char code[6];
        bool known = false;
        snprintf(code, sizeof code, "%.5s", found);
        if (is_refused_role(&self->options, code, found))
            return refuse_role(&self->options, conn, code, err);
        cm_status_t status = cm_pg_classify(code, &known);
        self->unclassified += known || is_refused_option(code) ? 0 : 1;
        if (status != CM_MISCONFIGURED)
            status = is_refused_option(code) ? CM_MISCONFIGURED : CM_UNAVAILABLE;
        cm_pg_first_line(line, sizeof line, found + 7, false);
        return cm_error_set(err, status, code, "%s", line);
    }
    if (PQconnectionNeedsPassword(conn))
        return cm_error_set(err, CM_MISCONFIGURED, "28P01", "the server asks for a password");
    /* Values that libpq itself refuses start so; all else (refused, unknown host) can heal. */
    if (strncmp(text, "invalid ", 8) == 0 || strncmp(text, "could not match ", 16) == 0) {
        cm_pg_first_line(line, sizeof line, text, true);
        return cm_error_set(err, CM_MISCONFIGURED, "connect", "%s in the connection string", line);
    }
    cm_pg_first_line(line, sizeof line, text, false);
    return cm_error_set(err, CM_UNAVAILABLE, "connect", "%s", line);
}

cm_status_t cm_pg_error_closed(cm_error_t *err)
{
    return cm_error_set(err, CM_UNAVAILABLE, "link", "not connected");
}

cm_status_t cm_pg_error_silent(int64_t silence_ms, cm_error_t *err)
{
    return cm_error_set(err, CM_UNAVAILABLE, "link", "no answer for %" PRId64 " ms", silence_ms);
}
