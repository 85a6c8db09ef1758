#include "schema/tenant_purge.h"
#include "runtime/cleanup.h"
#include "schema/erasure.h"
#include "schema/sql.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PURGE_MAX = 10000 }; /* dead letters in one commit */

/* Without the lock, so that a portion need not wait for the tables of the rest. */
static cm_status_t is_portion(cm_tenant_step_t *step, bool *ret_portion, cm_error_t *err)
{
    char most[24];
    snprintf(most, sizeof most, "%d", PURGE_MAX);
    const char *values[] = {step->id, most};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_status_t status = cm_sql_query(step->pg,
                                      "SELECT count(*) FROM (SELECT FROM @schema@.dead_letters"
                                      " WHERE tenant = $1 LIMIT $2::bigint) AS found",
                                      step->admin_schema, 2, values, &result, err);
    *ret_portion = status == CM_OK && cm_pg_i64(result, 0, 0) == PURGE_MAX;
    return status;
}

static cm_status_t purge_letters(cm_tenant_step_t *step, int64_t *ret_gone, cm_error_t *err)
{
    char generation[24], most[24];
    snprintf(generation, sizeof generation, "%" PRId64, step->row.generation);
    snprintf(most, sizeof most, "%d", PURGE_MAX);
    const char *values[] = {step->id, generation, most};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_status_t status =
        cm_sql_exec(step->pg, "LOCK TABLE @schema@.dead_letters IN SHARE ROW EXCLUSIVE MODE",
                    step->admin_schema, err);
    if (status == CM_OK)
        status = cm_sql_query(
            step->pg,
            "WITH gone AS (DELETE FROM @schema@.dead_letters WHERE id IN (SELECT id"
            " FROM @schema@.dead_letters WHERE tenant = $1 ORDER BY id LIMIT $3::bigint)"
            " RETURNING 1)"
            " UPDATE @schema@.tenant_deletions SET"
            " dead_letters = dead_letters + (SELECT count(*) FROM gone)"
            " WHERE tenant = $1 AND generation = $2 RETURNING (SELECT count(*) FROM gone)",
            step->admin_schema, 3, values, &result, err);
    if (status != CM_OK)
        return status;
    *ret_gone = cm_pg_i64(result, 0, 0);
    return *ret_gone > 0 /* their bytes are in the file still */
               ? cm_erasure_note(step->pg, step->admin_schema, "", err)
               : CM_OK;
}

static cm_status_t purge_table(cm_tenant_step_t *step, const char *table, int64_t *ret_gone,
                               cm_error_t *err)
{
    char sql[128];
    const char *values[] = {step->id};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    snprintf(sql, sizeof sql, "LOCK TABLE @schema@.%s IN SHARE ROW EXCLUSIVE MODE", table);
    cm_status_t status = cm_sql_exec(step->pg, sql, step->admin_schema, err);
    snprintf(sql, sizeof sql, "DELETE FROM @schema@.%s WHERE tenant = $1", table);
    if (status == CM_OK)
        status = cm_sql_query(step->pg, sql, step->admin_schema, 1, values, &result, err);
    if (status == CM_OK)
        *ret_gone = strtoll(PQcmdTuples(result), NULL, 10);
    return status;
}

static cm_status_t purge_all(cm_tenant_step_t *step, cm_error_t *err)
{
#define NAME(table) #table,
    static const char *const tables[] = {CM_TENANT_PURGED(NAME)};
#undef NAME
    char generation[24], brakes_text[24], all[2];
    int64_t letters = 0, brakes = 0;
    cm_status_t status = CM_OK;
    for (size_t i = 0; status == CM_OK && i < CM_LENGTH(tables); i++) {
        int64_t gone = 0;
        if (strcmp(tables[i], "dead_letters") == 0)
            status = purge_letters(step, &letters, err);
        else
            status = purge_table(step, tables[i], &gone, err);
        if (strcmp(tables[i], "push_brakes") == 0)
            brakes = gone;
    }
    snprintf(generation, sizeof generation, "%" PRId64, step->row.generation);
    snprintf(brakes_text, sizeof brakes_text, "%" PRId64, brakes);
    snprintf(all, sizeof all, "%d", letters < PURGE_MAX); /* or more came since they were counted */
    const char *values[] = {step->id, generation, brakes_text, all};
    return status == CM_OK ? cm_sql_query(step->pg,
                                          "UPDATE @schema@.tenant_deletions SET"
                                          " purged_at = CASE $4 WHEN '1' THEN now() END,"
                                          " push_brakes = push_brakes + $3::bigint"
                                          " WHERE tenant = $1 AND generation = $2",
                                          step->admin_schema, 4, values, NULL, err)
                           : status;
}

cm_status_t cm_tenant_purge(cm_tenant_step_t *step, cm_error_t *err)
{
    bool portion = false;
    int64_t gone = 0;
    cm_status_t status = is_portion(step, &portion, err);
    if (status != CM_OK)
        return status;
    return portion ? purge_letters(step, &gone, err) : purge_all(step, err);
}
