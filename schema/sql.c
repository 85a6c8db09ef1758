#include "schema/sql.h"
#include "runtime/cleanup.h"

#include <assert.h>
#include <string.h>

const char *cm_sql_identifier(const char *name, char quoted[CM_SQL_IDENTIFIER_MAX])
{
    assert(strlen(name) <= 63);
    char *to = quoted;
    *to++ = '"';
    for (; *name; name++) {
        if (*name == '"')
            *to++ = '"';
        *to++ = *name;
    }
    *to++ = '"';
    *to = '\0';
    return quoted;
}

static const char *next_mark(const char *text, const char *mark)
{
    const char *found = mark ? strstr(text, mark) : NULL;
    return found ? found : text + strlen(text);
}

void cm_sql_in_schemas(cm_buffer_t *out, const char *text, const char *schema,
                       const char *admin_schema)
{
    static const char mark[] = "@schema@", admin_mark[] = "@admin@";
    char quoted[CM_SQL_IDENTIFIER_MAX], admin_quoted[CM_SQL_IDENTIFIER_MAX] = "";
    cm_sql_identifier(schema, quoted);
    if (admin_schema)
        cm_sql_identifier(admin_schema, admin_quoted);
    for (;;) {
        const char *own = next_mark(text, mark);
        const char *admin = next_mark(text, admin_schema ? admin_mark : NULL);
        const char *next = own < admin ? own : admin;
        cm_buffer_append(out, text, (size_t)(next - text));
        if (!*next)
            return;
        const char *name = next == own ? quoted : admin_quoted;
        cm_buffer_append(out, name, strlen(name));
        text = next + (next == own ? sizeof mark : sizeof admin_mark) - 1;
    }
}

void cm_sql_in_schema(cm_buffer_t *out, const char *text, const char *schema)
{
    cm_sql_in_schemas(out, text, schema, NULL);
}

cm_status_t cm_sql_exec(cm_pg_t *pg, const char *text, const char *schema, cm_error_t *err)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t sql = {0};
    cm_sql_in_schema(&sql, text, schema);
    return cm_pg_exec(pg, cm_buffer_text(&sql), err);
}

cm_status_t cm_sql_query(cm_pg_t *pg, const char *text, const char *schema, int count,
                         const char *const *values, PGresult **ret_result, cm_error_t *err)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t sql = {0};
    cm_sql_in_schema(&sql, text, schema);
    return cm_pg_query(pg, cm_buffer_text(&sql), count, values, ret_result, err);
}

cm_status_t cm_sql_end_with_client(cm_pg_t *pg, cm_error_t *err)
{
    return cm_pg_exec(pg,
                      "SELECT set_config(name, '2s', false) FROM pg_settings"
                      " WHERE name = 'client_connection_check_interval' AND version() ~ 'linux'",
                      err);
}
