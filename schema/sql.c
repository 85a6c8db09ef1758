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

void cm_sql_in_schema(cm_buffer_t *out, const char *text, const char *schema)
{
    static const char mark[] = "@schema@";
    char quoted[CM_SQL_IDENTIFIER_MAX];
    size_t len = strlen(cm_sql_identifier(schema, quoted));
    for (const char *next; (next = strstr(text, mark)); text = next + sizeof mark - 1) {
        cm_buffer_append(out, text, (size_t)(next - text));
        cm_buffer_append(out, quoted, len);
    }
    cm_buffer_append(out, text, strlen(text));
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
