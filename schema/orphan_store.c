#include "schema/orphan_store.h"
#include "proto/tenant_id.h"
#include "runtime/cleanup.h"
#include "schema/device_sql.h"
#include "schema/orphan_sql.h"
#include "schema/sql.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- rules ---------------------------------------------------------------------------------- */

typedef struct {
    char tenant[CM_TENANT_ID_MAX];
    bool excluded;
    int64_t age_s; /* 0: not set */
} rule_t;

struct cm_orphan_rules {
    rule_t *rows, *listed; /* of the table, of the caller; each in order of the tenant */
    size_t row_count, listed_count;
};

static int compare_rules(const void *a, const void *b)
{
    return strcmp(((const rule_t *)a)->tenant, ((const rule_t *)b)->tenant);
}

static const rule_t *find(const rule_t *rules, size_t count, const char *tenant)
{
    rule_t key = {.excluded = false};
    snprintf(key.tenant, sizeof key.tenant, "%s", tenant);
    return count ? bsearch(&key, rules, count, sizeof *rules, compare_rules) : NULL;
}

static rule_t *allocate(size_t count)
{
    rule_t *rules = calloc(count ? count : 1, sizeof *rules);
    if (!rules)
        abort();
    return rules;
}

static cm_status_t read_listed(cm_orphan_rules_t *self, const char *const *excluded, size_t count,
                               cm_error_t *err)
{
    self->listed = allocate(count);
    self->listed_count = count;
    for (size_t i = 0; i < count; i++)
        if (cm_tenant_id_canonical(cm_str(excluded[i]), self->listed[i].tenant, NULL) != CM_OK)
            return cm_error_set(err, CM_MISCONFIGURED, "orphan-rules",
                                "entry %zu of the excluded tenants is no tenant id", i + 1);
    qsort(self->listed, count, sizeof *self->listed, compare_rules);
    return CM_OK;
}

static cm_status_t read_rows(cm_orphan_rules_t *self, cm_pg_t *pg, const char *admin_schema,
                             cm_error_t *err)
{
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_status_t status = cm_sql_query(pg,
                                      "SELECT tenant, excluded, age_days FROM @schema@.orphan_rules"
                                      " ORDER BY tenant",
                                      admin_schema, 0, NULL, &result, err);
    if (status != CM_OK)
        return status;
    self->row_count = (size_t)PQntuples(result);
    self->rows = allocate(self->row_count);
    for (size_t i = 0; i < self->row_count; i++) {
        rule_t *rule = &self->rows[i];
        snprintf(rule->tenant, sizeof rule->tenant, "%s", cm_pg_text(result, (int)i, 0));
        rule->excluded = strcmp(cm_pg_text(result, (int)i, 1), "t") == 0;
        rule->age_s = cm_pg_i64(result, (int)i, 2) * CM_ORPHAN_DAY_S;
    }
    return CM_OK;
}

cm_status_t cm_orphan_rules_load(cm_pg_t *pg, const char *admin_schema, const char *const *excluded,
                                 size_t count, cm_orphan_rules_t **ret_rules, cm_error_t *err)
{
    CM_CLEANUP(cm_orphan_rules_destroy) cm_orphan_rules_t *self = calloc(1, sizeof *self);
    cm_error_t failure = {0};
    if (!self)
        abort();
    cm_status_t status = read_listed(self, excluded, count, err);
    if (status != CM_OK)
        return status;
    status = read_rows(self, pg, admin_schema, &failure);
    if (status == CM_MISSING || status == CM_PERMANENT || status == CM_MISCONFIGURED)
        return cm_error_set(err, CM_MISCONFIGURED, "orphan-rules",
                            "the rules of the orphan deletion cannot be read: %s %s", failure.code,
                            failure.message);
    if (status == CM_OK)
        *ret_rules = CM_TAKE(self);
    else if (err)
        *err = failure;
    return status;
}

void cm_orphan_rules_destroy(cm_orphan_rules_t **self_p)
{
    if (*self_p) {
        free((*self_p)->rows);
        free((*self_p)->listed);
        free(*self_p);
    }
    *self_p = NULL;
}

bool cm_orphan_rules_excludes(const cm_orphan_rules_t *self, const char *tenant)
{
    const rule_t *rule = find(self->rows, self->row_count, tenant);
    return (rule && rule->excluded) || find(self->listed, self->listed_count, tenant);
}

int64_t cm_orphan_rules_age_s(const cm_orphan_rules_t *self, const char *tenant, int64_t age_s)
{
    const rule_t *rule = find(self->rows, self->row_count, tenant);
    return rule && rule->age_s ? rule->age_s : age_s;
}

/* ---- statements ----------------------------------------------------------------------------- */

/* The statements are laid out by their clauses, not as C strings. */
/* clang-format off */

#define KEY "application_code, client_id"
/* Times have milliseconds, as in events. */
#define REMOVED_AT "date_trunc('milliseconds', statement_timestamp())"
#define DELETABLE(age_s)                                                                           \
    CM_ORPHAN_SQL("d", age_s)                                                                      \
    " AND (greatest(d.device_at, d.push_at, d.contact_at) > " REMOVED_AT ") IS NOT TRUE"

/* $1, $2: behind this key, $3: age, $4: rows to read. Keys are never empty. */
#define PAGE                                                                                       \
    "WITH page AS MATERIALIZED ("                                                                  \
    "  SELECT d.application_code, d.client_id, " DELETABLE("$3::bigint") " AS orphan"              \
    "  FROM @schema@.devices AS d WHERE (d.application_code, d.client_id) > ($1, $2)"              \
    "  ORDER BY d.application_code, d.client_id LIMIT $4::bigint\n"                                \
    "), last AS (SELECT " KEY " FROM page ORDER BY application_code DESC, client_id DESC LIMIT 1)"

/* In AT_ROWS find_sql tells only whether there is one. */
enum { AT_ROWS, AT_LAST_APPLICATION, AT_LAST_CLIENT, AT_ORPHANS, AT_APPLICATIONS, AT_CLIENTS };

static const char count_sql[] =
    PAGE "\nSELECT (SELECT count(*) FROM page), (SELECT application_code FROM last),"
    " (SELECT client_id FROM last), (SELECT count(*) FROM page WHERE orphan)";

/* $5: orphans to find. When as many are found, the rest of the page is not read and the next begins
 * behind the last of them. The keys come as arrays, to be handed back as they are. */
static const char find_sql[] =
    PAGE ", found AS MATERIALIZED ("
    "  SELECT " KEY " FROM page WHERE orphan LIMIT $5::bigint\n"
    "), is_full AS (SELECT count(*) = $5::bigint AS yes FROM found\n"
    "), last_found AS ("
    "  SELECT " KEY " FROM found ORDER BY application_code DESC, client_id DESC LIMIT 1\n"
    ")\n"
    "SELECT (SELECT count(*) FROM (SELECT FROM page LIMIT 1) AS one),"
    " CASE WHEN (SELECT yes FROM is_full) THEN (SELECT application_code FROM last_found)"
    " ELSE (SELECT application_code FROM last) END,"
    " CASE WHEN (SELECT yes FROM is_full) THEN (SELECT client_id FROM last_found)"
    " ELSE (SELECT client_id FROM last) END,"
    " count(*), array_agg(application_code ORDER BY " KEY "),"
    " array_agg(client_id ORDER BY " KEY ") FROM found";

/* $1, $2: keys, $3: age. A verdict that is held for a device goes with it. */
static const char delete_sql[] =
    "WITH gone AS ("
    "  DELETE FROM @schema@.devices AS d USING unnest($1::text[], $2::text[]) AS k(" KEY ")"
    "  WHERE d.application_code = k.application_code AND d.client_id = k.client_id"
    "  AND " DELETABLE("$3::bigint") " RETURNING d.application_code, d.client_id\n"
    "), kept AS ("
    "  INSERT INTO @schema@.tombstones AS t (" KEY ", removed_at)"
    "  SELECT " KEY ", " REMOVED_AT " FROM gone ORDER BY " KEY
    "  ON CONFLICT (" KEY ") DO UPDATE SET removed_at = excluded.removed_at"
    "  WHERE t.removed_at < excluded.removed_at\n"
    "), held AS ("
    "  DELETE FROM @schema@.push_verdicts_held AS h USING gone AS g"
    "  WHERE h.application_code = g.application_code AND h.client_id = g.client_id\n"
    ")\n"
    "SELECT count(*) FROM gone";

/* clang-format on */

/* ---- one tenant ----------------------------------------------------------------------------- */

enum {
    GUARD_PERCENT = 20,
    GUARD_ABOVE = 100,
    BATCH_MAX = 1000,
    PAGE_MAX = 20000,
    LOCK_TIMEOUT_MS = 100,
    LOCK_TRIES = 5,
    NUMBER_MAX = 24
};

typedef struct {
    cm_pg_t *pg;
    cm_orphan_options_t options; /* with the defaults in place */
    const char *tenant;
    char schema[CM_TENANT_SCHEMA_MAX];
    char age[NUMBER_MAX], page[NUMBER_MAX], batch[NUMBER_MAX];
    cm_orphan_result_t *result;
    PGresult *read; /* of the last page */
} run_t;

static void run_init(run_t *self, cm_pg_t *pg, const char *tenant,
                     const cm_orphan_options_t *options, cm_orphan_result_t *result)
{
    *self = (run_t){.pg = pg, .options = *options, .tenant = tenant, .result = result};
    cm_orphan_options_t *o = &self->options;
    o->age_s =
        cm_orphan_rules_age_s(o->rules, tenant, o->age_s ? o->age_s : CM_ORPHAN_AGE_DEFAULT_S);
    o->guard_percent = o->guard_percent ? o->guard_percent : GUARD_PERCENT;
    o->guard_above = o->guard_above ? o->guard_above : GUARD_ABOVE;
    o->batch_max = o->batch_max ? o->batch_max : BATCH_MAX;
    o->page_max = o->page_max ? o->page_max : PAGE_MAX;
    o->lock_timeout_ms = o->lock_timeout_ms ? o->lock_timeout_ms : LOCK_TIMEOUT_MS;
    o->lock_tries = o->lock_tries ? o->lock_tries : LOCK_TRIES;
    cm_tenant_id_schema(tenant, self->schema);
    snprintf(self->age, sizeof self->age, "%" PRId64, o->age_s);
    snprintf(self->page, sizeof self->page, "%d", o->page_max);
    snprintf(self->batch, sizeof self->batch, "%d", o->batch_max);
}

static cm_status_t pace(run_t *self, bool waited, cm_error_t *err)
{
    if (!self->options.pace || self->options.pace(self->options.ctx, self->result, waited))
        return CM_OK;
    return cm_error_set(err, CM_CANCELLED, "cancelled", "the orphan deletion was told to stop");
}

/* Read the page behind the one in self->read (NULL: the first). Its first value is 0 at the end. */
static cm_status_t read_page(run_t *self, const char *sql, int count, cm_error_t *err)
{
    CM_CLEANUP(cm_pg_clear) PGresult *last = CM_TAKE(self->read);
    const char *values[] = {last ? cm_pg_text(last, 0, AT_LAST_APPLICATION) : "",
                            last ? cm_pg_text(last, 0, AT_LAST_CLIENT) : "", self->age, self->page,
                            self->batch};
    return cm_sql_query(self->pg, sql, self->schema, count, values, &self->read, err);
}

static bool at_end(const run_t *self)
{
    return cm_pg_i64(self->read, 0, AT_ROWS) == 0;
}

static cm_status_t count_tenant(run_t *self, cm_error_t *err)
{
    cm_status_t status = read_page(self, count_sql, 4, err);
    while (status == CM_OK && !at_end(self)) {
        self->result->devices += cm_pg_i64(self->read, 0, AT_ROWS);
        self->result->orphans += cm_pg_i64(self->read, 0, AT_ORPHANS);
        status = pace(self, false, err);
        if (status == CM_OK)
            status = read_page(self, count_sql, 4, err);
    }
    cm_pg_clear(&self->read);
    return status;
}

/* Would the guard stop it if `going` devices went in this run? */
static bool is_guarded(const run_t *self, int64_t going)
{
    const cm_orphan_options_t *o = &self->options;
    int64_t devices = self->result->devices;
    return !o->force && devices > o->guard_above &&
           going > devices / 100 * o->guard_percent + devices % 100 * o->guard_percent / 100;
}

static cm_status_t guard(run_t *self, int64_t going, cm_error_t *err)
{
    self->result->guarded = is_guarded(self, going);
    if (!self->result->guarded)
        return CM_OK;
    return cm_error_set(err, CM_PERMANENT, "orphan-guard",
                        "%" PRId64 " of %" PRId64 " devices would go, at most %d %% may in a run",
                        going, self->result->devices, self->options.guard_percent);
}

/* Inside a transaction. */
static cm_status_t lock(run_t *self, cm_error_t *err)
{
    char sql[64];
    cm_status_t status =
        cm_pg_exec(self->pg, "SET TRANSACTION ISOLATION LEVEL READ COMMITTED", err);
    snprintf(sql, sizeof sql, "SET LOCAL lock_timeout = %d", self->options.lock_timeout_ms);
    if (status == CM_OK)
        status = cm_pg_exec(self->pg, sql, err);
    if (status == CM_OK && self->options.fence)
        status = self->options.fence(self->options.ctx, self->pg, err);
    if (status == CM_OK)
        status = cm_sql_exec(self->pg, cm_device_sql_lock_devices, self->schema, err);
    if (status == CM_OK)
        status = cm_sql_exec(self->pg, cm_device_sql_lock_tombstones, self->schema, err);
    return status;
}

static cm_status_t try_batch(run_t *self, cm_error_t *err)
{
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    const char *values[] = {cm_pg_text(self->read, 0, AT_APPLICATIONS),
                            cm_pg_text(self->read, 0, AT_CLIENTS), self->age};
    cm_status_t status = cm_pg_begin(self->pg, err);
    if (status == CM_OK)
        status = lock(self, err);
    if (status == CM_OK)
        status = cm_sql_query(self->pg, delete_sql, self->schema, 3, values, &result, err);
    if (status == CM_OK)
        status = cm_pg_commit(self->pg, err);
    if (status != CM_OK) {
        cm_pg_rollback(self->pg);
        return status;
    }
    self->result->batches++;
    self->result->deleted += cm_pg_i64(result, 0, 0);
    return pace(self, false, err);
}

static bool is_lock_trouble(const cm_error_t *err)
{
    return err->status == CM_TRANSIENT &&
           (strcmp(err->code, "55P03") == 0 || cm_pg_is_quick_retry(err->code));
}

static cm_status_t delete_batch(run_t *self, cm_error_t *err)
{
    cm_error_t failure = {0};
    cm_status_t status = CM_OK;
    for (int tries = 0; tries < self->options.lock_tries; tries++) {
        status = try_batch(self, &failure);
        if (status == CM_OK || !is_lock_trouble(&failure))
            break;
        self->result->lock_waits++;
        if (pace(self, true, err) != CM_OK)
            return CM_CANCELLED;
    }
    if (status != CM_OK && err)
        *err = failure;
    return status;
}

static cm_status_t delete_all(run_t *self, cm_error_t *err)
{
    cm_status_t status = read_page(self, find_sql, 5, err);
    while (status == CM_OK && !at_end(self)) {
        int64_t found = cm_pg_i64(self->read, 0, AT_ORPHANS);
        if (found)
            status = guard(self, self->result->deleted + found, err);
        if (status == CM_OK)
            status = found ? delete_batch(self, err) : pace(self, false, err);
        if (status == CM_OK)
            status = read_page(self, find_sql, 5, err);
    }
    return status;
}

cm_status_t cm_orphan_delete(cm_pg_t *pg, const char *tenant, const cm_orphan_options_t *options,
                             cm_orphan_result_t *ret_result, cm_error_t *err)
{
    run_t run;
    assert(options->rules);
    *ret_result = (cm_orphan_result_t){0};
    run_init(&run, pg, tenant, options, ret_result);
    if (run.options.age_s < CM_ORPHAN_DAY_S && !options->force)
        return cm_error_set(err, CM_MISCONFIGURED, "orphan-age",
                            "orphans younger than a day are deleted by force only");
    ret_result->excluded = cm_orphan_rules_excludes(options->rules, tenant);
    if (ret_result->excluded)
        return CM_OK;
    cm_status_t status = count_tenant(&run, err);
    if (status == CM_OK && options->dry_run)
        ret_result->guarded = is_guarded(&run, ret_result->orphans);
    else if (status == CM_OK && ret_result->orphans > 0) {
        status = guard(&run, ret_result->orphans, err);
        if (status == CM_OK)
            status = delete_all(&run, err);
    }
    cm_pg_clear(&run.read);
    return status;
}
