#include "schema/job_checkpoint.h"

#include "runtime/cleanup.h"
#include "schema/sql.h"
#include "schema/text_array.h"

static cm_str_t text_of(const PGresult *result, int row, int column, cm_arena_t *arena)
{
    return cm_arena_copy(arena, (cm_str_t){PQgetvalue(result, row, column),
                                           (size_t)PQgetlength(result, row, column)});
}

cm_status_t cm_job_checkpoints_load(cm_pg_t *pg, const char *admin_schema, const char *job,
                                    cm_arena_t *arena, cm_job_checkpoint_t **ret_checkpoints,
                                    size_t *ret_count, cm_error_t *err)
{
    const char *values[] = {job};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_status_t status =
        cm_sql_query(pg, "SELECT tenant, checkpoint FROM @schema@.job_checkpoints WHERE job = $1",
                     admin_schema, 1, values, &result, err);
    if (status != CM_OK)
        return status;
    *ret_count = (size_t)PQntuples(result);
    *ret_checkpoints = cm_arena_alloc(arena, *ret_count * sizeof **ret_checkpoints);
    for (int i = 0; i < PQntuples(result); i++)
        (*ret_checkpoints)[i] =
            (cm_job_checkpoint_t){text_of(result, i, 0, arena), text_of(result, i, 1, arena)};
    return CM_OK;
}

static cm_status_t save(cm_pg_t *pg, const char *schema, const cm_lease_t *lease,
                        const cm_job_checkpoint_t *checkpoints, size_t count, cm_error_t *err)
{
    CM_CLEANUP(cm_text_array_destroy) cm_text_array_t tenants = {0};
    CM_CLEANUP(cm_text_array_destroy) cm_text_array_t texts = {0};
    for (size_t i = 0; i < count; i++) {
        cm_text_array_add(&tenants, checkpoints[i].tenant);
        cm_text_array_add(&texts, checkpoints[i].checkpoint);
    }
    const char *values[] = {lease->name, cm_text_array_end(&tenants), cm_text_array_end(&texts)};
    return cm_sql_query(pg,
                        "INSERT INTO @schema@.job_checkpoints SELECT $1, given.tenant, given.text,"
                        " date_trunc('milliseconds', clock_timestamp())"
                        " FROM unnest($2::text[], $3::text[]) AS given (tenant, text)"
                        " WHERE NOT EXISTS (SELECT FROM @schema@.tenants AS d"
                        " WHERE d.id = given.tenant AND d.state = 'deleted')" /* see job_run.c */
                        " ON CONFLICT (job, tenant) DO UPDATE"
                        " SET checkpoint = excluded.checkpoint, changed_at = excluded.changed_at",
                        schema, CM_LENGTH(values), values, NULL, err);
}

cm_status_t cm_job_checkpoints_save(cm_pg_t *pg, const char *admin_schema, const cm_lease_t *lease,
                                    const cm_job_checkpoint_t *checkpoints, size_t count,
                                    cm_error_t *err)
{
    bool own = PQtransactionStatus(cm_pg_raw(pg)) != PQTRANS_INTRANS;
    cm_status_t status = own ? cm_job_write_begin(pg, err) : CM_OK;
    if (status == CM_OK)
        status = cm_lease_check(pg, admin_schema, lease, err);
    if (status == CM_OK && count)
        status = save(pg, admin_schema, lease, checkpoints, count, err);
    if (own && status == CM_OK)
        status = cm_pg_commit(pg, err);
    if (own && status != CM_OK)
        cm_pg_rollback(pg);
    return status;
}
