#include "schema/dead_letter_fence.h"
#include "runtime/cleanup.h"
#include "schema/sql.h"
#include "schema/text_array.h"

#include <stdlib.h>
#include <string.h>

typedef struct { /* letters of one tenant */
    cm_letter_t *letters;
    size_t count;
} run_t;

static int by_tenant(const void *a, const void *b)
{
    const cm_letter_t *left = a, *right = b;
    int order = cm_str_cmp(left->tenant, right->tenant);
    return order ? order : (left->index > right->index) - (left->index < right->index);
}

static run_t run_at(cm_letter_t *letters, size_t count)
{
    run_t run = {letters, 1};
    while (run.count < count && cm_str_eq(letters[run.count].tenant, letters[0].tenant))
        run.count++;
    return run;
}

static void decide(run_t run, cm_letter_result_t result)
{
    for (size_t i = 0; i < run.count; i++)
        run.letters[i].result = result;
}

/* ---- tombstones of one tenant --------------------------------------------------------------- */

/* A tombstone without a key counts for all that is older than the tenant's generation; that of a
 * contact has its hash for a key. */
static const char fenced_sql[] = "WITH u AS (SELECT u.*, " CM_SQL_FROM_MS(
    "u.ms") " AS at"
            " FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[])"
            " WITH ORDINALITY AS u(app, client, contact, ms, i))\n"
            "SELECT u.i FROM u WHERE EXISTS (SELECT FROM @schema@.tombstones AS t"
            " WHERE t.application_code = u.app AND t.client_id = u.client AND t.removed_at >= u.at)"
            " OR EXISTS (SELECT FROM @schema@.tombstones AS f"
            " WHERE f.application_code = '' AND f.client_id = '' AND f.removed_at >= u.at)"
            " OR EXISTS (SELECT FROM @schema@.tombstones AS c"
            " WHERE c.application_code = '' AND c.client_id = u.contact AND c.removed_at >= u.at)";

/* An id that no text column takes has no tombstone. */
static cm_str_t searchable(cm_str_t text)
{
    return cm_str_is_text(text) ? text : CM_STR_NONE;
}

static cm_status_t look_up(cm_pg_t *pg, run_t run, PGresult **ret_result, cm_error_t *err)
{
    char id[CM_TENANT_ID_MAX], schema[CM_TENANT_SCHEMA_MAX], hex[CM_ERASURE_HEX_MAX];
    CM_CLEANUP(cm_text_array_destroy) cm_text_array_t apps = {0};
    CM_CLEANUP(cm_text_array_destroy) cm_text_array_t clients = {0};
    CM_CLEANUP(cm_text_array_destroy) cm_text_array_t contacts = {0};
    CM_CLEANUP(cm_text_array_destroy) cm_text_array_t times = {0};
    for (size_t i = 0; i < run.count; i++) {
        const cm_letter_t *letter = &run.letters[i];
        cm_text_array_add(&apps, searchable(letter->ids.application_code));
        cm_text_array_add(&clients, searchable(letter->ids.client_id));
        cm_text_array_add(&contacts, letter->has_contact
                                         ? cm_erasure_hash_hex(&letter->contact, hex)
                                         : CM_STR_NONE);
        cm_text_array_add_i64(&times, letter->at_ms);
    }
    snprintf(id, sizeof id, "%.*s", CM_STR_ARG(run.letters[0].tenant));
    const char *values[] = {cm_text_array_end(&apps), cm_text_array_end(&clients),
                            cm_text_array_end(&contacts), cm_text_array_end(&times)};
    return cm_sql_query(pg, fenced_sql, cm_tenant_id_schema(id, schema), 4, values, ret_result,
                        err);
}

/* With a savepoint around it: that one tenant's tables are locked or gone must not hold up the
 * rest. */
static cm_status_t fence_tenant(cm_pg_t *pg, run_t run, cm_error_t *err)
{
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_error_t failure = {0};
    cm_status_t status = cm_pg_exec(pg, "SAVEPOINT fence", err);
    if (status != CM_OK)
        return status;
    status = look_up(pg, run, &result, &failure);
    if (status == CM_TRANSIENT || status == CM_MISSING) {
        decide(run, CM_LETTER_BUSY);
        return cm_pg_exec(pg, "ROLLBACK TO SAVEPOINT fence", err);
    }
    if (status != CM_OK) {
        *err = failure;
        return status;
    }
    for (int row = 0; row < PQntuples(result); row++)
        run.letters[cm_pg_i64(result, row, 0) - 1].result = CM_LETTER_DROPPED;
    return CM_OK;
}

/* ---- the registry --------------------------------------------------------------------------- */

/* A row that is locked belongs to somebody who activates or deletes: its state is not known then.
 */
static const char states_sql[] =
    "WITH l AS MATERIALIZED (SELECT id, state FROM @schema@.tenants WHERE id = ANY ($1::text[])"
    " ORDER BY id FOR SHARE SKIP LOCKED)\n"
    "SELECT t.id, coalesce(l.state, '') FROM @schema@.tenants AS t LEFT JOIN l ON l.id = t.id"
    " WHERE t.id = ANY ($1::text[])";

static cm_status_t read_states(cm_pg_t *pg, const char *admin_schema, cm_letter_t *letters,
                               size_t count, PGresult **ret_result, cm_error_t *err)
{
    CM_CLEANUP(cm_text_array_destroy) cm_text_array_t ids = {0};
    for (size_t at = 0; at < count; at += run_at(letters + at, count - at).count)
        cm_text_array_add(&ids, letters[at].tenant);
    const char *values[] = {cm_text_array_end(&ids)};
    return cm_sql_query(pg, states_sql, admin_schema, 1, values, ret_result, err);
}

static const char *state_of(const PGresult *states, cm_str_t tenant)
{
    for (int row = 0; row < PQntuples(states); row++)
        if (cm_str_is(tenant, cm_pg_text(states, row, 0)))
            return cm_pg_text(states, row, 1);
    return "absent";
}

cm_status_t cm_dead_letter_fence(cm_pg_t *pg, const cm_dead_letter_place_t *place,
                                 cm_letter_t *letters, size_t count, cm_error_t *err)
{
    CM_CLEANUP(cm_pg_clear) PGresult *states = NULL;
    qsort(letters, count, sizeof *letters, by_tenant);
    cm_status_t status = read_states(pg, place->admin_schema, letters, count, &states, err);
    run_t run;
    for (size_t at = 0; status == CM_OK && at < count; at += run.count) {
        run = run_at(letters + at, count - at);
        const char *state = state_of(states, letters[at].tenant);
        if (strcmp(state, "deleting") == 0 || strcmp(state, "deleted") == 0)
            decide(run, CM_LETTER_DROPPED);
        else if (!*state)
            decide(run, CM_LETTER_BUSY);
        else if (strcmp(state, "active") == 0 || strcmp(state, "suspended") == 0)
            status = fence_tenant(pg, run, err);
    }
    return status;
}
