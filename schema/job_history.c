/* job_history - reading of runs, and forgetting them; declared in job_store.h. */
#include "runtime/cleanup.h"
#include "schema/job_store.h"
#include "schema/sql.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { NUMBER_MAX = 24 };

static cm_status_t no_run(int64_t run_id, cm_error_t *err)
{
    return cm_error_set(err, CM_PERMANENT, "not-found", "there is no run %" PRId64, run_id);
}

static const char *number(int64_t value, char text[NUMBER_MAX])
{
    snprintf(text, NUMBER_MAX, "%" PRId64, value);
    return text;
}

static cm_str_t text_of(const PGresult *result, int row, int column, cm_arena_t *arena)
{
    return cm_arena_copy(arena, (cm_str_t){PQgetvalue(result, row, column),
                                           (size_t)PQgetlength(result, row, column)});
}

/* ---- runs ----------------------------------------------------------------------------------- */

/* clang-format off */
#define COLUMNS                                                                                    \
    "id, " CM_SQL_TO_MS("tick") ", " CM_SQL_TO_MS("first_tick") ", ticks, kind, state, term,"      \
    " attempts, " CM_SQL_TO_MS("started_at") ", " CM_SQL_TO_MS("ended_at") ", "                    \
    CM_SQL_TO_MS("cancel_requested_at") ", job, holder, requested_by, summary, error_code,"        \
    " error_message"
/* clang-format on */

/* Names come from the table, which allows no others (CHECK). */
static int index_of(const char *name, const char *(*name_of)(int index), int count)
{
    int i = 0;
    while (i < count - 1 && strcmp(name, name_of(i)) != 0)
        i++;
    return i;
}

static const char *kind_name(int index)
{
    return cm_run_kind_name((cm_run_kind_t)index);
}

static const char *state_name(int index)
{
    return cm_run_state_name((cm_run_state_t)index);
}

static const char *tenant_name(int index)
{
    return cm_run_tenant_name((cm_run_tenant_t)index);
}

static void read_run(cm_job_run_t *run, const PGresult *result, int row, cm_arena_t *arena)
{
    *run = (cm_job_run_t){
        .id = cm_pg_i64(result, row, 0),
        .tick_ms = cm_pg_i64(result, row, 1),
        .first_tick_ms = cm_pg_i64(result, row, 2),
        .ticks = cm_pg_i64(result, row, 3),
        .kind = (cm_run_kind_t)index_of(cm_pg_text(result, row, 4), kind_name, CM_RUN_KINDS),
        .state = (cm_run_state_t)index_of(cm_pg_text(result, row, 5), state_name, CM_RUN_STATES),
        .term = cm_pg_i64(result, row, 6),
        .attempts = (int)cm_pg_i64(result, row, 7),
        .started_ms = cm_pg_i64(result, row, 8),
        .ended_ms = cm_pg_i64(result, row, 9),
        .cancel_requested_ms = cm_pg_i64(result, row, 10),
        .job = text_of(result, row, 11, arena),
        .holder = text_of(result, row, 12, arena),
        .requested_by = text_of(result, row, 13, arena),
        .summary = text_of(result, row, 14, arena),
        .error_code = text_of(result, row, 15, arena),
        .error_message = text_of(result, row, 16, arena),
    };
}

cm_status_t cm_job_run_cancelled(cm_pg_t *pg, const char *admin_schema, int64_t run_id,
                                 bool *ret_cancelled, cm_error_t *err)
{
    char id[NUMBER_MAX];
    const char *values[] = {number(run_id, id)};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_status_t status = cm_sql_query(
        pg, "SELECT (cancel_requested_at IS NOT NULL)::int FROM @schema@.job_runs WHERE id = $1",
        admin_schema, 1, values, &result, err);
    if (status != CM_OK)
        return status;
    if (PQntuples(result) == 0)
        return no_run(run_id, err);
    *ret_cancelled = cm_pg_i64(result, 0, 0);
    return CM_OK;
}

cm_status_t cm_job_history(cm_pg_t *pg, const char *admin_schema, const char *job,
                           int64_t before_id, size_t limit, cm_arena_t *arena,
                           cm_job_run_t **ret_runs, size_t *ret_count, cm_error_t *err)
{
    char before[NUMBER_MAX], most[NUMBER_MAX];
    const char *values[] = {number(before_id > 0 ? before_id : INT64_MAX, before),
                            number((int64_t)limit, most), job};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_status_t status = cm_sql_query(
        pg,
        job ? "SELECT " COLUMNS " FROM @schema@.job_runs WHERE id < $1::bigint AND job = $3"
              " ORDER BY id DESC LIMIT $2::bigint"
            : "SELECT " COLUMNS " FROM @schema@.job_runs WHERE id < $1::bigint"
              " ORDER BY id DESC LIMIT $2::bigint",
        admin_schema, job ? 3 : 2, values, &result, err);
    if (status != CM_OK)
        return status;
    *ret_count = (size_t)PQntuples(result);
    *ret_runs = cm_arena_alloc(arena, *ret_count * sizeof **ret_runs);
    for (size_t i = 0; i < *ret_count; i++)
        read_run(&(*ret_runs)[i], result, (int)i, arena);
    return CM_OK;
}

cm_status_t cm_job_run_find(cm_pg_t *pg, const char *admin_schema, int64_t run_id,
                            cm_arena_t *arena, cm_job_run_t *ret_run, cm_error_t *err)
{
    char id[NUMBER_MAX];
    const char *values[] = {number(run_id, id)};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_status_t status = cm_sql_query(pg, "SELECT " COLUMNS " FROM @schema@.job_runs WHERE id = $1",
                                      admin_schema, 1, values, &result, err);
    if (status != CM_OK)
        return status;
    if (PQntuples(result) == 0)
        return no_run(run_id, err);
    read_run(ret_run, result, 0, arena);
    return CM_OK;
}

/* ---- tenants -------------------------------------------------------------------------------- */

cm_status_t cm_job_run_count(cm_pg_t *pg, const char *admin_schema, int64_t run_id,
                             cm_job_tenant_counts_t *ret_counts, cm_error_t *err)
{
    char id[NUMBER_MAX];
    const char *values[] = {number(run_id, id)};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_status_t status = cm_sql_query(pg,
                                      "SELECT count(*) FILTER (WHERE state = 'done'),"
                                      " count(*) FILTER (WHERE state = 'failed'),"
                                      " count(*) FILTER (WHERE state = 'skipped')"
                                      " FROM @schema@.job_run_tenants WHERE run_id = $1",
                                      admin_schema, 1, values, &result, err);
    if (status == CM_OK)
        *ret_counts = (cm_job_tenant_counts_t){.done = cm_pg_i64(result, 0, 0),
                                               .failed = cm_pg_i64(result, 0, 1),
                                               .skipped = cm_pg_i64(result, 0, 2)};
    return status;
}

cm_status_t cm_job_run_tenants(cm_pg_t *pg, const char *admin_schema, int64_t run_id,
                               const char *after, size_t limit, cm_arena_t *arena,
                               cm_job_tenant_result_t **ret_results, size_t *ret_count,
                               cm_error_t *err)
{
    char id[NUMBER_MAX], most[NUMBER_MAX];
    const char *values[] = {number(run_id, id), after, number((int64_t)limit, most)};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_status_t status = cm_sql_query(
        pg,
        "SELECT tenant, state, detail, error_code, error_message, attempts, " CM_SQL_TO_MS(
            "at") " FROM @schema@.job_run_tenants WHERE run_id = $1 AND tenant > $2 ORDER BY tenant"
                  " LIMIT $3::bigint",
        admin_schema, 3, values, &result, err);
    if (status != CM_OK)
        return status;
    *ret_count = (size_t)PQntuples(result);
    *ret_results = cm_arena_alloc(arena, *ret_count * sizeof **ret_results);
    for (int i = 0; i < (int)*ret_count; i++)
        (*ret_results)[i] = (cm_job_tenant_result_t){
            .tenant = text_of(result, i, 0, arena),
            .state = (cm_run_tenant_t)index_of(cm_pg_text(result, i, 1), tenant_name,
                                               CM_RUN_TENANT_SKIPPED + 1),
            .detail = text_of(result, i, 2, arena),
            .error_code = text_of(result, i, 3, arena),
            .error_message = text_of(result, i, 4, arena),
            .attempts = (int)cm_pg_i64(result, i, 5),
            .at_ms = cm_pg_i64(result, i, 6),
        };
    return CM_OK;
}

cm_status_t cm_job_checkpoint_get(cm_pg_t *pg, const char *admin_schema, const char *job,
                                  const char *tenant, cm_arena_t *arena, cm_str_t *ret_checkpoint,
                                  cm_error_t *err)
{
    const char *values[] = {job, tenant};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_status_t status = cm_sql_query(pg,
                                      "SELECT checkpoint FROM @schema@.job_checkpoints"
                                      " WHERE job = $1 AND tenant = $2",
                                      admin_schema, 2, values, &result, err);
    if (status == CM_OK)
        *ret_checkpoint = PQntuples(result) ? text_of(result, 0, 0, arena) : CM_STR_NONE;
    return status;
}

/* ---- forgetting ----------------------------------------------------------------------------- */

cm_status_t cm_job_prune(cm_pg_t *pg, const char *admin_schema, int age_days, int limit,
                         int64_t *ret_deleted, cm_error_t *err)
{
    char days[NUMBER_MAX], most[NUMBER_MAX];
    const char *values[] = {number(age_days, days), number(limit, most)};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    assert(age_days >= 1);
    cm_status_t status = cm_sql_query(
        pg,
        "WITH gone AS (DELETE FROM @schema@.job_runs WHERE id IN (SELECT r.id FROM"
        " @schema@.job_runs AS r WHERE r.ended_at <= clock_timestamp() - $1::int * interval '1 day'"
        " AND EXISTS (SELECT FROM @schema@.job_runs AS n WHERE n.job = r.job AND n.id > r.id)"
        " ORDER BY r.ended_at LIMIT $2::int) RETURNING 1) SELECT count(*) FROM gone",
        admin_schema, 2, values, &result, err);
    if (status == CM_OK)
        *ret_deleted = cm_pg_i64(result, 0, 0);
    return status;
}
