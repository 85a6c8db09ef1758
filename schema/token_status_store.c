#include "schema/token_status_store.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "runtime/crash.h"
#include "runtime/hash.h"
#include "schema/device_sql.h"
#include "schema/sql.h"
#include "schema/tenant_registry.h"
#include "schema/token_status_sql.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <xxhash.h>

enum {
    ARENA_BLOCK_BYTES = 64 * 1024,
    QUICK_TRIES_MAX = 3,
    QUICK_WAIT_MIN_MS = 5,
    QUICK_WAIT_MAX_MS = 50,
    KEY_MAX = CM_TENANT_ID_MAX + 16
};

typedef struct { /* a tenant and some of its verdicts: what one attempt writes of it */
    cm_token_tenant_t *tenant;
    cm_token_verdict_t *verdicts;
    size_t count;
} group_t;

typedef enum { STEP_OTHER, STEP_TRIP, STEP_WRITE } step_kind_t;

typedef struct { /* a statement sent */
    step_kind_t kind;
    size_t group;
} step_t;

struct cm_token_status_store {
    cm_pg_t *pg;
    const char *admin_schema;
    cm_arena_t *arena; /* groups, errors; until the next write */
    cm_pg_arrays_t arrays;
    cm_buffer_t sql;
    int64_t connected_at_ms; /* the connection that has our session settings */
    cm_token_status_stats_t stats;
    const group_t *groups; /* of the attempt under way */
    size_t group_count;
    step_t *steps;
    size_t step_count, step_cap;
};

cm_token_status_store_t *cm_token_status_store_new(cm_pg_t *pg, const char *admin_schema)
{
    cm_token_status_store_t *self = calloc(1, sizeof *self);
    if (!self)
        abort();
    self->pg = pg;
    self->admin_schema = admin_schema;
    self->connected_at_ms = -1;
    self->arena = cm_arena_new(ARENA_BLOCK_BYTES);
    return self;
}

void cm_token_status_store_destroy(cm_token_status_store_t **self_p)
{
    cm_token_status_store_t *self = *self_p;
    if (!self)
        return;
    cm_pg_arrays_destroy(&self->arrays);
    cm_buffer_destroy(&self->sql);
    cm_arena_destroy(&self->arena);
    free(self->steps);
    free(self);
    *self_p = NULL;
}

cm_token_status_stats_t cm_token_status_store_stats(const cm_token_status_store_t *self)
{
    return self->stats;
}

/* ---- sending -------------------------------------------------------------------------------- */

static cm_status_t prepare_session(cm_token_status_store_t *self, cm_error_t *err)
{
    int64_t connected_at_ms = cm_pg_connected_at_ms(self->pg);
    if (cm_pg_is_connected(self->pg) && connected_at_ms == self->connected_at_ms)
        return CM_OK;
    cm_status_t status = cm_pg_exec(self->pg, cm_device_sql_session, err);
    if (status == CM_OK)
        self->connected_at_ms = connected_at_ms;
    return status;
}

typedef struct { /* the text of a statement, made only when it is not prepared yet */
    cm_token_status_store_t *store;
    const char *text, *tenant;
} lazy_sql_t;

static const char *make_sql(void *ctx)
{
    const lazy_sql_t *self = ctx;
    char schema[CM_TENANT_SCHEMA_MAX];
    cm_buffer_clear(&self->store->sql);
    cm_sql_in_schemas(&self->store->sql, self->text, cm_tenant_id_schema(self->tenant, schema),
                      self->store->admin_schema);
    return cm_buffer_text(&self->store->sql);
}

/* Add a statement of one group with the arguments in self->arrays. verb: prepare it under this name
 * and the tenant's, NULL: do not. */
static cm_status_t add(cm_token_status_store_t *self, step_kind_t kind, size_t group,
                       const char *text, const char *verb, cm_error_t *err)
{
    char key[KEY_MAX];
    lazy_sql_t sql = {self, text, self->groups[group].tenant->tenant};
    if (verb)
        snprintf(key, sizeof key, "%s %s", verb, sql.tenant);
    cm_pg_statement_t statement = cm_pg_arrays_statement(&self->arrays, verb ? key : NULL, NULL);
    statement.text = make_sql;
    statement.ctx = &sql;
    if (self->step_count == self->step_cap) {
        self->step_cap = self->step_cap ? self->step_cap * 2 : 64;
        self->steps = realloc(self->steps, self->step_cap * sizeof *self->steps);
        if (!self->steps)
            abort();
    }
    self->steps[self->step_count++] = (step_t){kind, group};
    return cm_pg_pipeline_add(self->pg, &statement, err);
}

static cm_status_t add_trips(cm_token_status_store_t *self, size_t index, cm_error_t *err)
{
    const cm_token_tenant_t *tenant = self->groups[index].tenant;
    cm_pg_arrays_clear(&self->arrays);
    cm_status_t status = add(self, STEP_OTHER, index, cm_token_status_sql_lock_devices, NULL, err);
    if (status == CM_OK)
        status = add(self, STEP_OTHER, index, cm_token_status_sql_lock_held, NULL, err);
    cm_token_status_sql_bind_trip(&self->arrays, tenant->tenant, tenant->trips, tenant->trip_count);
    return status == CM_OK ? add(self, STEP_TRIP, index, cm_token_status_sql_trip, NULL, err)
                           : status;
}

static bool has_gone(const group_t *group)
{
    for (size_t i = 0; i < group->count; i++)
        if (group->verdicts[i].is_gone)
            return true;
    return false;
}

static bool is_same_device(const cm_token_verdict_t *a, const cm_token_verdict_t *b)
{
    return cm_str_eq(a->client_id, b->client_id) &&
           cm_str_eq(a->application_code, b->application_code);
}

/* Does each verdict name its device, and no two the same? An open-addressed table of twice their
 * number; 0 is a free place. */
static bool are_apart(cm_token_status_store_t *self, const group_t *group)
{
    size_t places = 8;
    while (places < group->count * 2)
        places *= 2;
    uint32_t *table = cm_arena_alloc(self->arena, places * sizeof *table);
    memset(table, 0, places * sizeof *table);
    for (uint32_t i = 0; i < group->count; i++) {
        const cm_token_verdict_t *verdict = &group->verdicts[i];
        if (!verdict->client_id.ptr)
            return false;
        size_t at = XXH3_64bits(verdict->client_id.ptr, verdict->client_id.len) & (places - 1);
        for (; table[at]; at = (at + 1) & (places - 1))
            if (is_same_device(verdict, &group->verdicts[table[at] - 1]))
                return false;
        table[at] = i + 1;
    }
    return true;
}

static cm_status_t add_write(cm_token_status_store_t *self, size_t index, cm_error_t *err)
{
    const group_t *group = &self->groups[index];
    if (!are_apart(self, group))
        return add(self, STEP_WRITE, index, cm_token_status_sql_write, "verdicts", err);
    return has_gone(group)
               ? add(self, STEP_WRITE, index, cm_token_status_sql_write_apart, "apart", err)
               : add(self, STEP_WRITE, index, cm_token_status_sql_write_valid, "valid", err);
}

static cm_status_t add_group(cm_token_status_store_t *self, size_t index, cm_error_t *err)
{
    const group_t *group = &self->groups[index];
    cm_status_t status = CM_OK;
    if (group->tenant->trip_count && !group->tenant->is_tripped)
        status = add_trips(self, index, err);
    if (status == CM_OK && group->count) {
        cm_token_status_sql_bind_write(&self->arrays, group->tenant->tenant, group->verdicts,
                                       group->count);
        self->stats.statements++;
        status = add_write(self, index, err);
    }
    return status;
}

/* ---- results -------------------------------------------------------------------------------- */

static cm_token_result_t result_of(int64_t answer)
{
    switch (answer) {
    case CM_TOKEN_ANSWER_APPLIED:
        return CM_TOKEN_APPLIED;
    case CM_TOKEN_ANSWER_HELD:
        return CM_TOKEN_HELD;
    case CM_TOKEN_ANSWER_DUPLICATE:
        return CM_TOKEN_DUPLICATE;
    default:
        return CM_TOKEN_STALE;
    }
}

static void take_written(const group_t *group, const PGresult *result)
{
    for (size_t i = 0; i < group->count; i++) { /* what no row is there for */
        group->verdicts[i].result = CM_TOKEN_STALE;
        group->verdicts[i].is_braked = false;
    }
    for (int row = 0; row < PQntuples(result); row++) {
        int64_t index = cm_pg_binary_i64(result, row, 0) - 1;
        if (index < 0 || (size_t)index >= group->count)
            continue;
        cm_token_verdict_t *verdict = &group->verdicts[index];
        verdict->result = result_of(cm_pg_binary_i64(result, row, 1));
        verdict->is_braked = cm_pg_binary_bool(result, row, 2);
    }
}

static void take_tripped(const cm_token_tenant_t *tenant, const PGresult *result)
{
    for (int row = 0; row < PQntuples(result); row++) {
        int64_t index = cm_pg_binary_i64(result, row, 0) - 1;
        if (index < 0 || (size_t)index >= tenant->trip_count)
            continue;
        tenant->trips[index].is_new |= cm_pg_binary_bool(result, row, 1);
        tenant->trips[index].taken_back += cm_pg_binary_i64(result, row, 2);
    }
}

static void take_result(void *ctx, size_t index, cm_status_t status, const PGresult *result,
                        const cm_error_t *err)
{
    const cm_token_status_store_t *self = ctx;
    const step_t *step = &self->steps[index];
    (void)err; /* the pipeline tells it, too */
    if (status == CM_OK && step->kind == STEP_WRITE)
        take_written(&self->groups[step->group], result);
    else if (status == CM_OK && step->kind == STEP_TRIP)
        take_tripped(self->groups[step->group].tenant, result);
}

/* Results of an attempt that was rolled back are none. */
static void forget_results(const group_t *groups, size_t count)
{
    for (size_t g = 0; g < count; g++) {
        const cm_token_tenant_t *tenant = groups[g].tenant;
        for (size_t i = 0; i < groups[g].count; i++)
            groups[g].verdicts[i].result = CM_TOKEN_PENDING;
        for (size_t i = 0; i < tenant->trip_count && !tenant->is_tripped; i++) {
            tenant->trips[i].is_new = false;
            tenant->trips[i].taken_back = 0;
        }
    }
}

/* One transaction for groups. On failure *ret_bad is the one to blame, SIZE_MAX: none. */
static cm_status_t attempt(cm_token_status_store_t *self, const group_t *groups, size_t count,
                           size_t *ret_bad, cm_error_t *err)
{
    int failed = -1;
    *ret_bad = SIZE_MAX;
    if (count == 0)
        return CM_OK;
    self->groups = groups;
    self->group_count = count;
    self->step_count = 0;
    cm_status_t status = prepare_session(self, err);
    if (status == CM_OK)
        status = cm_pg_pipeline_begin(self->pg, take_result, self, err);
    for (size_t i = 0; status == CM_OK && i < count; i++)
        status = add_group(self, i, err);
    cm_crash_point("before-commit");
    if (status == CM_OK)
        status = cm_pg_pipeline_send(self->pg, err);
    if (status == CM_OK)
        status = cm_pg_pipeline_wait(self->pg, &failed, err);
    if (status == CM_OK) {
        self->stats.transactions++;
        for (size_t i = 0; i < count; i++)
            groups[i].tenant->is_tripped = groups[i].tenant->trip_count > 0;
        return CM_OK;
    }
    if (failed >= 0 && (size_t)failed < self->step_count)
        *ret_bad = self->steps[failed].group;
    forget_results(groups, count);
    return status;
}

/* ---- isolation ------------------------------------------------------------------------------ */

static void wait_a_little(void)
{
    uint64_t span = QUICK_WAIT_MAX_MS - QUICK_WAIT_MIN_MS + 1;
    long wait_ms = QUICK_WAIT_MIN_MS + (long)(cm_random_u64() % span);
    nanosleep(&(struct timespec){.tv_nsec = wait_ms * 1000000L}, NULL);
}

static void fail_group(cm_token_status_store_t *self, const group_t *group,
                       const cm_error_t *failure)
{
    cm_error_t *kept = cm_arena_alloc(self->arena, sizeof *kept);
    *kept = *failure;
    for (size_t i = 0; i < group->count; i++) {
        group->verdicts[i].result = CM_TOKEN_FAILED;
        group->verdicts[i].error = kept;
    }
}

static group_t part_of(const group_t *group, size_t first, size_t count)
{
    return (group_t){group->tenant, group->verdicts + first, count};
}

/* A group that is known to fail, and how. CM_OK: each of its verdicts has its result. */
static cm_status_t isolate(cm_token_status_store_t *self, const group_t *group, cm_error_t failure,
                           cm_error_t *err)
{
    size_t bad = 0;
    for (int tries = 0; tries < QUICK_TRIES_MAX && cm_pg_is_quick_retry(failure.code); tries++) {
        wait_a_little();
        if (attempt(self, group, 1, &bad, &failure) == CM_OK)
            return CM_OK;
    }
    if (!cm_pg_is_isolable(&failure)) {
        *err = failure;
        return failure.status;
    }
    if (failure.status != CM_PERMANENT || group->count <= 1) {
        fail_group(self, group, &failure);
        return CM_OK;
    }
    for (int half = 0; half < 2; half++) {
        size_t first = half ? group->count / 2 : 0;
        size_t count = half ? group->count - group->count / 2 : group->count / 2;
        group_t part = part_of(group, first, count);
        cm_status_t status = attempt(self, &part, 1, &bad, &failure);
        if (status != CM_OK)
            status = isolate(self, &part, failure, err);
        if (status != CM_OK)
            return status;
    }
    return CM_OK;
}

/* The groups without the one to blame, that one alone; nobody knows whom to blame: each alone. */
static cm_status_t write_groups(cm_token_status_store_t *self, const group_t *groups, size_t count,
                                cm_error_t *err)
{
    cm_status_t status = CM_OK;
    while (count) {
        cm_error_t failure = {0};
        size_t bad = SIZE_MAX;
        if (attempt(self, groups, count, &bad, &failure) == CM_OK)
            return CM_OK;
        if (!cm_pg_is_isolable(&failure)) {
            *err = failure;
            return failure.status;
        }
        self->stats.isolations++;
        if (count == 1)
            return isolate(self, groups, failure, err);
        if (bad >= count) {
            for (size_t i = 0; status == CM_OK && i < count; i++)
                status = write_groups(self, &groups[i], 1, err);
            return status;
        }
        status = write_groups(self, groups, bad, err);
        if (status == CM_OK)
            status = isolate(self, &groups[bad], failure, err);
        if (status != CM_OK)
            return status;
        groups += bad + 1;
        count -= bad + 1;
    }
    return CM_OK;
}

cm_status_t cm_token_status_store_write(cm_token_status_store_t *self, cm_token_tenant_t *tenants,
                                        size_t count, cm_error_t *err)
{
    cm_error_t failure = {0};
    cm_arena_reset(self->arena);
    group_t *groups = cm_arena_alloc(self->arena, (count + 1) * sizeof *groups);
    for (size_t i = 0; i < count; i++) {
        assert(i == 0 || strcmp(tenants[i - 1].tenant, tenants[i].tenant) < 0);
        tenants[i].is_tripped = false;
        groups[i] = (group_t){&tenants[i], tenants[i].verdicts, tenants[i].count};
    }
    forget_results(groups, count);
    cm_status_t status = write_groups(self, groups, count, &failure);
    if (status != CM_OK && err)
        *err = failure;
    return status;
}

/* ---- forgetting ----------------------------------------------------------------------------- */

static cm_status_t next_tenant(cm_pg_t *pg, const char *admin_schema, const char *after,
                               char ret_tenant[CM_TENANT_ID_MAX], cm_error_t *err)
{
    char needed[16];
    snprintf(needed, sizeof needed, "%d", CM_TENANT_SCHEMA_NEEDED);
    const char *values[] = {after, needed};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_status_t status = cm_sql_query(pg,
                                      "SELECT id FROM @schema@.tenants WHERE id > $1 AND state IN"
                                      " ('active', 'suspended') AND schema_version >= $2::integer"
                                      " ORDER BY id LIMIT 1",
                                      admin_schema, 2, values, &result, err);
    if (status == CM_OK && PQntuples(result) > 0)
        snprintf(ret_tenant, CM_TENANT_ID_MAX, "%s", cm_pg_text(result, 0, 0));
    return status;
}

static cm_status_t prune(cm_pg_t *pg, const char *tenant, int64_t most, int64_t *ret_forgotten,
                         cm_error_t *err)
{
    char schema[CM_TENANT_SCHEMA_MAX], limit[24];
    snprintf(limit, sizeof limit, "%" PRId64, most);
    const char *values[] = {limit};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_status_t status = cm_pg_exec(pg, "SET LOCAL lock_timeout = '100ms'", err);
    if (status == CM_OK)
        status = cm_sql_query(pg, cm_token_status_sql_prune, cm_tenant_id_schema(tenant, schema), 1,
                              values, &result, err);
    if (status == CM_OK)
        *ret_forgotten = strtoll(PQcmdTuples(result), NULL, 10);
    return status;
}

cm_status_t cm_token_status_prune_next(cm_pg_t *pg, const char *admin_schema, const char *after,
                                       int64_t most, char ret_tenant[CM_TENANT_ID_MAX],
                                       int64_t *ret_forgotten, cm_error_t *err)
{
    int64_t forgotten = 0;
    char tenant[CM_TENANT_ID_MAX] = "";
    *ret_forgotten = 0;
    cm_status_t status = next_tenant(pg, admin_schema, after, tenant, err);
    memcpy(ret_tenant, tenant, sizeof tenant);
    if (status != CM_OK || !*tenant)
        return status;
    status = cm_pg_begin(pg, err);
    if (status == CM_OK)
        status = prune(pg, tenant, most, &forgotten, err);
    if (status == CM_OK)
        status = cm_pg_commit(pg, err);
    if (status != CM_OK)
        cm_pg_rollback(pg);
    else
        *ret_forgotten = forgotten;
    return status;
}
