/* bare - the ceiling of verdicts and contact deletions: their statements alone, messages in memory.
 *
 *   bench_bare OPTION...     --subject, --count messages a batch; prints one JSON line
 *
 * One connection, as the sub-workers have, and one transaction a batch: each tenant's messages as
 * arrays to one statement, all in one pipeline. No broker, no actors, no answer to each message, no
 * brake, no dead letters: what a deletion or a verdict cannot do without. Decoding and grouping
 * happen before the clock starts.
 */
#include "bench/measure.h"
#include "proto/tenant_id.h"
#include "proto/token_status_event.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "schema/device_sql.h"
#include "schema/sql.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* clang-format off */

/* ---- statements ----------------------------------------------------------------------------- */

#define SAME_KEY(a, b)                                                                             \
    a ".application_code = " b ".application_code AND " a ".client_id = " b ".client_id"

/* The rows are locked in order of the key before any is changed, beside a writer. IS TRUE: else the
 * planner reads the key's index of a whole application for each token. */
static const char verdict_sql[] =
    "WITH v AS MATERIALIZED ("
    " SELECT * FROM unnest($1, $2, $3, $4, $5)"
    " AS v(application_code, client_id, push_token, status, verdict_at)\n"
    "), hit AS MATERIALIZED ("
    " SELECT d.application_code, d.client_id, v.push_token, v.status, v.verdict_at"
    " FROM v JOIN @schema@.devices AS d ON " SAME_KEY("d", "v")
    " UNION ALL SELECT d.application_code, d.client_id, v.push_token, v.status, v.verdict_at"
    " FROM v JOIN @schema@.devices AS d"
    " ON hashtextextended(d.push_token, 0) = hashtextextended(v.push_token, 0)"
    " AND d.push_token = v.push_token AND d.push_token IS NOT NULL"
    " AND (d.application_code = v.application_code) IS TRUE WHERE v.client_id IS NULL\n"
    "), d AS MATERIALIZED ("
    " SELECT d.application_code, d.client_id, d.push_at, d.push_token, d.push_status, d.push_status_at"
    " FROM @schema@.devices AS d"
    " WHERE (d.application_code, d.client_id) IN (SELECT application_code, client_id FROM hit)"
    " ORDER BY d.application_code, d.client_id FOR NO KEY UPDATE\n"
    "), best AS ("
    " SELECT DISTINCT ON (d.application_code, d.client_id) d.application_code, d.client_id,"
    " hit.status, hit.verdict_at FROM hit JOIN d ON " SAME_KEY("d", "hit")
    " WHERE hit.verdict_at >= d.push_at AND coalesce(hit.push_token = d.push_token, true)"
    " AND (hit.verdict_at, hit.status = 'valid')"
    " > (coalesce(d.push_status_at, '-infinity'), coalesce(d.push_status = 'valid', false))"
    " ORDER BY d.application_code, d.client_id, hit.verdict_at DESC, hit.status DESC\n"
    ") UPDATE @schema@.devices AS d SET push_status = best.status, push_status_at = best.verdict_at"
    " FROM best WHERE " SAME_KEY("d", "best");

#define NEWEST "greatest(d.device_at, d.push_at, d.contact_at)"
#define OLDEST "least(d.device_at, d.push_at, d.contact_at)"
#define KEEP(at, column) column " = CASE WHEN d." at " > r.removed_at THEN d." column " END"

static const char lock_tombstones_sql[] =
    "LOCK TABLE @schema@.tombstones IN ACCESS EXCLUSIVE MODE";

static const char deletion_sql[] =
    "WITH c AS MATERIALIZED ("
    " SELECT * FROM unnest($1, $2, $3) AS c(contact_key, contact_id, deleted_at)\n"
    "), buried AS ("
    " INSERT INTO @schema@.tombstones AS t (application_code, client_id, removed_at)"
    " SELECT '', contact_key, deleted_at FROM c ORDER BY contact_key"
    " ON CONFLICT (application_code, client_id) DO UPDATE SET removed_at = excluded.removed_at"
    " WHERE t.removed_at < excluded.removed_at\n"
    "), r AS MATERIALIZED ("
    " SELECT d.application_code, d.client_id, c.deleted_at AS removed_at"
    " FROM c JOIN @schema@.devices AS d ON d.contact_id = c.contact_id"
    " AND d.contact_at <= c.deleted_at"
    " ORDER BY d.application_code, d.client_id FOR UPDATE OF d\n"
    "), gone AS ("
    " DELETE FROM @schema@.devices AS d USING r"
    " WHERE " SAME_KEY("d", "r") " AND (" NEWEST " > r.removed_at) IS NOT TRUE\n"
    "), cleared AS ("
    " UPDATE @schema@.devices AS d SET " KEEP("device_at", "device_at") ","
    " " KEEP("device_at", "platform") ", " KEEP("device_at", "application_version") ","
    " " KEEP("device_at", "device_model") ", " KEEP("device_at", "os_version") ","
    " " KEEP("device_at", "sdk_version") ", " KEEP("device_at", "language") ","
    " " KEEP("device_at", "timezone") ", " KEEP("device_at", "push_settings") ","
    " " KEEP("push_at", "push_at") ", " KEEP("push_at", "push_token") ","
    " " KEEP("push_at", "push_address_type") ", " KEEP("push_at", "push_status") ","
    " " KEEP("push_at", "push_status_at") ", " KEEP("contact_at", "contact_at") ","
    " " KEEP("contact_at", "contact_id") ", " KEEP("contact_at", "contact_field_id")
    " FROM r WHERE " SAME_KEY("d", "r")
    " AND " NEWEST " > r.removed_at AND " OLDEST " <= r.removed_at\n"
    ") INSERT INTO @schema@.tombstones AS t (application_code, client_id, removed_at)"
    " SELECT application_code, client_id, removed_at FROM r"
    " ON CONFLICT (application_code, client_id) DO UPDATE SET removed_at = excluded.removed_at"
    " WHERE t.removed_at < excluded.removed_at";

/* clang-format on */

/* ---- messages ------------------------------------------------------------------------------- */

typedef struct {
    char tenant[CM_TENANT_ID_MAX];
    cm_str_t application_code, client_id, token; /* of a verdict, in the arena */
    bool is_valid;
    int64_t contact_id;
    char contact_key[33]; /* as long as a hash in hex */
    int64_t at_ms;
} message_t;

typedef struct { /* the texts of one tenant, kept for the connection to prepare once */
    char tenant[CM_TENANT_ID_MAX];
    cm_buffer_t lock_devices, lock_tombstones, change;
    char keys[3][CM_TENANT_ID_MAX + 2];
} texts_t;

typedef struct {
    const cm_bench_t *bench;
    cm_arena_t *arena;
    message_t *messages;
    size_t count;
    texts_t *texts; /* by tenant, sorted */
    size_t tenants;
    cm_pg_t *pg;
    cm_pg_arrays_t arrays;
    uint64_t rows, statements;
} bare_t;

static void read_verdict(bare_t *self, cm_str_t body, message_t *message)
{
    cm_error_t err = {0};
    cm_token_status_event_t event;
    cm_bench_must(
        cm_token_status_event_decode(body, cm_clock_epoch_ms(), self->arena, &event, &err), &err,
        "verdict");
    cm_push_judgement_t judged = cm_token_status_event_judge(&event);
    memcpy(message->tenant, event.tenant, sizeof message->tenant);
    message->application_code = event.application_code;
    message->client_id = event.client_id;
    message->token = event.token;
    message->is_valid = judged.verdict == CM_PUSH_VERDICT_VALID;
    message->at_ms = judged.at_ms;
    if (!message->is_valid && judged.verdict != CM_PUSH_VERDICT_GONE)
        message->tenant[0] = '\0'; /* changes no token */
}

static void read_deletion(cm_str_t body, message_t *message)
{
    json_t *root = json_loadb(body.ptr, body.len, 0, NULL);
    json_int_t tenant = 0, contact = 0, at_ms = 0;
    if (json_unpack(root, "{s:I, s:I, s:I}", "customerId", &tenant, "contactId", &contact,
                    "deletedAt", &at_ms) != 0)
        cm_bench_fail("this is no contact deletion");
    json_decref(root);
    snprintf(message->tenant, sizeof message->tenant, "%" PRId64, (int64_t)tenant);
    message->contact_id = contact;
    message->at_ms = at_ms;
    uint64_t state = (uint64_t)contact; /* as scattered as a hash is */
    uint64_t high = cm_random_next(&state), low = cm_random_next(&state);
    snprintf(message->contact_key, sizeof message->contact_key, "%016" PRIx64 "%016" PRIx64, high,
             low);
}

static int by_tenant_and_key(const void *a, const void *b)
{
    const message_t *left = a, *right = b;
    int order = strcmp(left->tenant, right->tenant);
    if (order == 0)
        order = cm_str_cmp(left->application_code, right->application_code);
    return order ? order : cm_str_cmp(left->client_id, right->client_id);
}

/* All of it, and in each batch in order of tenants. */
static void load(bare_t *self)
{
    const cm_bench_t *bench = self->bench;
    cm_buffer_t body = {0};
    self->messages = calloc(bench->events, sizeof *self->messages);
    if (!self->messages)
        abort();
    for (uint64_t i = 0; i < bench->events; i++) {
        message_t *message = &self->messages[self->count];
        cm_bench_message(bench, bench->first + i, &body);
        cm_str_t kept = cm_arena_copy(self->arena, (cm_str_t){body.data, body.len});
        if (bench->subject == CM_BENCH_VERDICTS)
            read_verdict(self, kept, message);
        else
            read_deletion(kept, message);
        self->count++;
    }
    for (size_t at = 0; at < self->count; at += bench->count) {
        size_t left = self->count - at;
        qsort(&self->messages[at], left < bench->count ? left : bench->count,
              sizeof *self->messages, by_tenant_and_key);
    }
    cm_buffer_destroy(&body);
}

/* ---- one batch ------------------------------------------------------------------------------ */

static int by_name(const void *a, const void *b)
{
    return strcmp(a, ((const texts_t *)b)->tenant);
}

static int by_tenant(const void *a, const void *b)
{
    return strcmp(((const texts_t *)a)->tenant, ((const texts_t *)b)->tenant);
}

static void write_texts(bare_t *self)
{
    bool verdicts = self->bench->subject == CM_BENCH_VERDICTS;
    self->tenants = self->bench->traffic.tenants;
    self->texts = calloc(self->tenants, sizeof *self->texts);
    if (!self->texts)
        abort();
    for (size_t t = 0; t < self->tenants; t++) {
        texts_t *texts = &self->texts[t];
        char schema[CM_TENANT_SCHEMA_MAX];
        snprintf(texts->tenant, sizeof texts->tenant, "%zu", 1001 + t);
        cm_tenant_id_schema(texts->tenant, schema);
        cm_sql_in_schema(&texts->lock_devices, cm_device_sql_lock_devices, schema);
        cm_sql_in_schema(&texts->lock_tombstones, lock_tombstones_sql, schema);
        cm_sql_in_schema(&texts->change, verdicts ? verdict_sql : deletion_sql, schema);
        for (int k = 0; k < 3; k++)
            snprintf(texts->keys[k], sizeof texts->keys[k], "%c%s", "dtc"[k], texts -> tenant);
    }
    qsort(self->texts, self->tenants, sizeof *self->texts, by_tenant);
}

static void bind_verdicts(cm_pg_arrays_t *arrays, const message_t *messages, size_t count)
{
    cm_pg_arrays_open(arrays, CM_PG_TEXT, count);
    for (size_t i = 0; i < count; i++)
        cm_pg_arrays_text(arrays, messages[i].application_code);
    cm_pg_arrays_open(arrays, CM_PG_TEXT, count);
    for (size_t i = 0; i < count; i++)
        cm_pg_arrays_text(arrays, messages[i].client_id);
    cm_pg_arrays_open(arrays, CM_PG_TEXT, count);
    for (size_t i = 0; i < count; i++)
        cm_pg_arrays_text(arrays, messages[i].token);
    cm_pg_arrays_open(arrays, CM_PG_TEXT, count);
    for (size_t i = 0; i < count; i++)
        cm_pg_arrays_text(arrays, cm_str(messages[i].is_valid ? "valid" : "invalid"));
    cm_pg_arrays_open(arrays, CM_PG_TIMESTAMPTZ, count);
    for (size_t i = 0; i < count; i++)
        cm_pg_arrays_ms(arrays, messages[i].at_ms);
}

static void bind_deletions(cm_pg_arrays_t *arrays, const message_t *messages, size_t count)
{
    cm_pg_arrays_open(arrays, CM_PG_TEXT, count);
    for (size_t i = 0; i < count; i++)
        cm_pg_arrays_text(arrays, cm_str(messages[i].contact_key));
    cm_pg_arrays_open(arrays, CM_PG_INT8, count);
    for (size_t i = 0; i < count; i++)
        cm_pg_arrays_i64(arrays, messages[i].contact_id);
    cm_pg_arrays_open(arrays, CM_PG_TIMESTAMPTZ, count);
    for (size_t i = 0; i < count; i++)
        cm_pg_arrays_ms(arrays, messages[i].at_ms);
}

static void add(bare_t *self, const char *key, cm_buffer_t *sql)
{
    cm_error_t err = {0};
    cm_pg_statement_t statement = cm_pg_arrays_statement(&self->arrays, key, cm_buffer_text(sql));
    cm_bench_must(cm_pg_pipeline_add(self->pg, &statement, &err), &err, "statement");
    self->statements++;
}

static void add_tenant(bare_t *self, const message_t *messages, size_t count)
{
    texts_t *texts =
        bsearch(messages->tenant, self->texts, self->tenants, sizeof *self->texts, by_name);
    if (!texts)
        cm_bench_fail("a tenant that is not there");
    cm_pg_arrays_clear(&self->arrays);
    if (self->bench->subject == CM_BENCH_DELETIONS) {
        add(self, texts->keys[0], &texts->lock_devices);
        add(self, texts->keys[1], &texts->lock_tombstones);
        bind_deletions(&self->arrays, messages, count);
    } else {
        bind_verdicts(&self->arrays, messages, count);
    }
    add(self, texts->keys[2], &texts->change);
}

static void take_result(void *ctx, size_t index, cm_status_t status, const PGresult *result,
                        const cm_error_t *err)
{
    bare_t *self = ctx;
    (void)index;
    cm_bench_must(status, err, "statement");
    self->rows += strtoull(PQcmdTuples((PGresult *)result), NULL, 10);
}

static void run_batch(bare_t *self, const message_t *messages, size_t count)
{
    cm_error_t err = {0};
    int failed = 0;
    cm_bench_must(cm_pg_pipeline_begin(self->pg, take_result, self, &err), &err, "begin");
    for (size_t from = 0, to; from < count; from = to) {
        for (to = from + 1; to < count && !strcmp(messages[to].tenant, messages[from].tenant);)
            to++;
        if (messages[from].tenant[0])
            add_tenant(self, &messages[from], to - from);
    }
    cm_bench_must(cm_pg_pipeline_send(self->pg, &err), &err, "send");
    cm_bench_must(cm_pg_pipeline_wait(self->pg, &failed, &err), &err, "commit");
}

static void close_all(bare_t *self)
{
    for (size_t t = 0; t < self->tenants; t++) {
        cm_buffer_destroy(&self->texts[t].lock_devices);
        cm_buffer_destroy(&self->texts[t].lock_tombstones);
        cm_buffer_destroy(&self->texts[t].change);
    }
    free(self->texts);
    free(self->messages);
    cm_arena_destroy(&self->arena);
    cm_pg_arrays_destroy(&self->arrays);
    cm_pg_destroy(&self->pg);
}

int main(int argc, char **argv)
{
    cm_bench_t bench;
    cm_bench_measure_t measure;
    cm_error_t err = {0};
    char more[96];
    cm_bench_parse(&bench, argc, argv);
    if (bench.subject == CM_BENCH_DEVICES)
        cm_bench_fail("--subject is verdicts or deletions; bench_statements does devices");
    bare_t self = {.bench = &bench, .arena = cm_arena_new(1024 * 1024)};
    load(&self);
    write_texts(&self);
    cm_bench_measure_open(&measure, &bench);
    measure.client = getpid();
    self.pg = cm_bench_connect_pg(&bench, "client-manager bench bare");
    cm_bench_must(cm_pg_exec(self.pg, cm_device_sql_session, &err), &err, "session");
    if (bench.subject == CM_BENCH_DELETIONS) /* as the service does: row by row through indexes */
        cm_bench_must(
            cm_pg_exec(self.pg,
                       "SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off",
                       &err),
            &err, "session");
    cm_bench_measure_start(&measure);
    for (size_t at = 0; at < self.count; at += bench.count) {
        size_t left = self.count - at;
        run_batch(&self, &self.messages[at], left < bench.count ? left : bench.count);
    }
    cm_bench_measure_end(&measure);
    snprintf(more, sizeof more, "\"rows\": %" PRIu64 ", \"statements\": %" PRIu64, self.rows,
             self.statements);
    close_all(&self);
    cm_bench_measure_print(&measure, bench.events, more);
    return 0;
}
