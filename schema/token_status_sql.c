#include "schema/token_status_sql.h"

/* The statements are laid out by their clauses, not as C strings. */
/* clang-format off */

/* Locks. A verdict changes rows of devices that it finds by key or by token, and the writer locks such
 * rows in order of the key; an UPDATE that joins locks them in the order of its plan and would deadlock
 * with it. So the rows are locked first, by one ordered SELECT ... FOR NO KEY UPDATE, and decided on as
 * they are then: what it returns is the newest version of each, whatever the snapshot shows.
 *
 * The brake. A statement that writes verdicts may write push_verdicts_held, so it holds ROW EXCLUSIVE on
 * that table until its transaction ends, and it takes its snapshot after it got that lock. Whoever turns
 * a brake on or off takes SHARE ROW EXCLUSIVE before. If the verdict's lock comes first, the other waits
 * for its commit and sees what it applied; if the other's comes first, the verdict sees the brake. So no
 * instance slips past a brake that another one turned on. The same trick keeps older changes from
 * slipping in beside a removal (device_sql.c). Table locks are taken in the order devices,
 * push_verdicts_held, as everybody does. */

#define KEY "application_code, client_id"
#define SAME_KEY(a, b)                                                                             \
    a ".application_code = " b ".application_code AND " a ".client_id = " b ".client_id"

/* A verdict v about row d counts when the row holds its token and is not registered anew since; it is
 * news when it is newer than the one that is there, at equal times valid before gone. */
#define COUNTS(v, token, d)                                                                        \
    v ".verdict_at >= " d ".push_at AND " d ".push_token IS NOT NULL"                              \
    " AND coalesce(" token " = " d ".push_token, true)"
#define NEWS(v, is_valid, d)                                                                       \
    "(" v ".verdict_at, " is_valid ") > (coalesce(" d ".push_status_at, '-infinity'),"             \
    " coalesce(" d ".push_status = 'valid', false))"

/* Verdicts of r that say gone: held, or what a brake may take back. */
#define KEEP_HELD                                                                                  \
    "  INSERT INTO @schema@.push_verdicts_held AS h"                                               \
    "    (" KEY ", provider, push_token, verdict_at, held)"                                        \
    "  SELECT " KEY ", provider, CASE WHEN braked THEN push_token END, verdict_at, braked FROM r"
#define KEEP_NEWEST                                                                                \
    "  ON CONFLICT (" KEY ", provider) DO UPDATE SET push_token = excluded.push_token,"            \
    "    verdict_at = excluded.verdict_at, held = excluded.held, kept_at = now()"                  \
    "    WHERE NOT excluded.held OR NOT h.held OR h.verdict_at < excluded.verdict_at"              \
    "  RETURNING " KEY ", provider, held"

/* Nothing here joins what it has made itself, but for what is held: the planner takes every array for
 * ten elements, would loop over such a join, and a batch of 1000 would cost a million steps. */
const char cm_token_status_sql_write[] =
    "WITH brake AS MATERIALIZED (\n"
    "  SELECT b.application_code, b.provider FROM @admin@.push_brakes AS b"
    "  WHERE b.tenant = ($7::text[])[1]\n"
    "), n AS MATERIALIZED (\n"
    "  SELECT v.*, v.gone = 1 AND EXISTS (SELECT FROM brake AS b"
    "    WHERE b.application_code = v.application_code AND b.provider = v.provider) AS braked"
    "  FROM unnest($1, $2, $3, $4, $5, $6) WITH ORDINALITY"
    "    AS v(application_code, named_id, named_token, provider, verdict_at, gone, i)\n"
    "), hit AS MATERIALIZED (\n" /* which rows each verdict is about */
    "  SELECT n.*, n.named_id AS client_id FROM n WHERE n.named_id IS NOT NULL"
    "  UNION ALL"
    "  SELECT n.*, d.client_id FROM n JOIN @schema@.devices AS d"
    "    ON hashtextextended(d.push_token, 0) = hashtextextended(n.named_token, 0)"
    "    AND d.push_token = n.named_token AND d.push_token IS NOT NULL"
    "    AND (d.application_code = n.application_code) IS TRUE"
    "  WHERE n.named_id IS NULL\n"
    "), p AS MATERIALIZED (\n" /* ... locked, and as they are now */
    "  SELECT n.i, n.provider, n.named_token, n.verdict_at, n.gone, n.braked, d.application_code,"
    "    d.client_id, d.push_at, d.push_token, d.push_status, d.push_status_at"
    "  FROM hit AS n JOIN @schema@.devices AS d ON " SAME_KEY("d", "n")
    "  ORDER BY d.application_code, d.client_id FOR NO KEY UPDATE OF d\n"
    "), r AS MATERIALIZED (\n" /* the best of each row is written, the best of each brake held */
    "  SELECT q.*, row_number() OVER (best ORDER BY verdict_at DESC, gone, i) AS place,"
    "    dense_rank() OVER (best ORDER BY verdict_at DESC, gone) AS rank,"
    "    max(verdict_at) FILTER (WHERE NOT braked) OVER (PARTITION BY " KEY ") AS rival_at"
    "  FROM p AS q"
    "  WHERE " COUNTS("q", "q.named_token", "q") " AND " NEWS("q", "q.gone = 0", "q") "\n"
    "  WINDOW best AS (PARTITION BY " KEY ", braked, CASE WHEN braked THEN provider END)\n"
    "), written AS (\n"
    "  UPDATE @schema@.devices AS d SET"
    "    push_status = CASE r.gone WHEN 1 THEN 'invalid' ELSE 'valid' END,"
    "    push_status_at = r.verdict_at"
    "  FROM r WHERE r.place = 1 AND NOT r.braked AND " SAME_KEY("d", "r") "\n"
    "), kept AS (\n" KEEP_HELD
    "    WHERE place = 1 AND gone = 1 AND (braked AND rival_at >= verdict_at) IS NOT TRUE" KEEP_NEWEST
    "\n"
    ")\n"
    "SELECT i, max(answer)::bigint, bool_or(braked) FROM ("
    "  SELECT i, 1 AS answer, braked FROM n"
    "  UNION ALL"
    "  SELECT i, 2, false FROM p"
    "    WHERE " COUNTS("p", "p.named_token", "p") " AND verdict_at = push_status_at"
    "    AND (gone = 0) = (push_status = 'valid')"
    "  UNION ALL"
    "  SELECT i, CASE WHEN place = 1 THEN 4 WHEN rank = 1 THEN 2 ELSE 1 END, false FROM r"
    "    WHERE NOT braked"
    "  UNION ALL"
    "  SELECT r.i, CASE WHEN r.rival_at >= r.verdict_at THEN 1 WHEN r.place = 1 AND kept.held THEN 3"
    "    WHEN r.rank = 1 THEN 2 ELSE 1 END, false"
    "    FROM r LEFT JOIN kept ON " SAME_KEY("kept", "r") " AND kept.provider = r.provider"
    "    WHERE r.braked"
    ") AS told GROUP BY i";

/* The same where no two verdicts can be about one row: of each row there is one, and it is the best. */
const char cm_token_status_sql_write_apart[] =
    "WITH p AS MATERIALIZED (\n"
    "  SELECT v.*, d.push_at, d.push_token, d.push_status, d.push_status_at,"
    "    v.gone = 1 AND EXISTS (SELECT FROM @admin@.push_brakes AS b"
    "      WHERE b.tenant = ($7::text[])[1] AND b.application_code = v.application_code"
    "      AND b.provider = v.provider) AS braked"
    "  FROM unnest($1, $2, $3, $4, $5, $6) WITH ORDINALITY"
    "    AS v(application_code, client_id, named_token, provider, verdict_at, gone, i)"
    "  JOIN @schema@.devices AS d ON " SAME_KEY("d", "v") "\n"
    "  ORDER BY d.application_code, d.client_id FOR NO KEY UPDATE OF d\n"
    "), r AS MATERIALIZED (\n"
    "  SELECT q.*, (" COUNTS("q", "q.named_token", "q") ") IS TRUE AS counts,"
    "    " NEWS("q", "q.gone = 0", "q") " AS news FROM p AS q\n"
    "), written AS (\n"
    "  UPDATE @schema@.devices AS d SET"
    "    push_status = CASE r.gone WHEN 1 THEN 'invalid' ELSE 'valid' END,"
    "    push_status_at = r.verdict_at"
    "  FROM r WHERE r.counts AND r.news AND NOT r.braked AND " SAME_KEY("d", "r") "\n"
    "), kept AS (\n" KEEP_HELD
    "    WHERE counts AND news AND gone = 1" KEEP_NEWEST "\n"
    ")\n"
    "SELECT r.i, CASE WHEN NOT r.counts THEN 1::bigint WHEN r.news AND NOT r.braked THEN 4"
    "  WHEN r.news THEN CASE WHEN kept.held THEN 3 ELSE 2 END"
    "  WHEN r.verdict_at = r.push_status_at AND (r.gone = 0) = (r.push_status = 'valid') THEN 2"
    "  ELSE 1 END, r.braked\n"
    "FROM r LEFT JOIN kept ON r.braked AND " SAME_KEY("kept", "r")
    "  AND kept.provider = r.provider";

/* Neither says that one is gone: there is nothing to hold, and no brake to ask for. */
const char cm_token_status_sql_write_valid[] =
    "WITH p AS MATERIALIZED (\n"
    "  SELECT v.*, d.push_at, d.push_token, d.push_status, d.push_status_at"
    "  FROM unnest($1, $2, $3, $4, $5, $6) WITH ORDINALITY"
    "    AS v(application_code, client_id, named_token, provider, verdict_at, gone, i)"
    "  JOIN @schema@.devices AS d ON " SAME_KEY("d", "v") " AND ($7::text[])[1] IS NOT NULL\n"
    "  ORDER BY d.application_code, d.client_id FOR NO KEY UPDATE OF d\n"
    "), written AS (\n"
    "  UPDATE @schema@.devices AS d SET push_status = 'valid', push_status_at = p.verdict_at FROM p"
    "  WHERE " COUNTS("p", "p.named_token", "p") " AND " NEWS("p", "true", "p") " AND " SAME_KEY("d", "p") "\n"
    ")\n"
    "SELECT i, CASE WHEN (" COUNTS("p", "p.named_token", "p") ") IS NOT TRUE THEN 1::bigint"
    "  WHEN " NEWS("p", "true", "p") " THEN 4"
    "  WHEN verdict_at = push_status_at AND push_status = 'valid' THEN 2 ELSE 1 END, false FROM p";

/* ---- the brake ------------------------------------------------------------------------------ */

const char cm_token_status_sql_lock_devices[] = "LOCK TABLE @schema@.devices IN ROW EXCLUSIVE MODE";
const char cm_token_status_sql_lock_held[] =
    "LOCK TABLE @schema@.push_verdicts_held IN SHARE ROW EXCLUSIVE MODE";

/* What was applied lately goes back to unknown, unless something newer has come over it. */
const char cm_token_status_sql_trip[] =
    "WITH k AS MATERIALIZED (\n"
    "  SELECT * FROM unnest($1, $2, $3, $4, $5, $6) WITH ORDINALITY"
    "    AS k(application_code, provider, judged, gone, since_ms, newest, i)\n"
    "), brake AS (\n"
    "  INSERT INTO @admin@.push_brakes (tenant, application_code, provider, judged, gone)"
    "  SELECT ($7::text[])[1], application_code, provider, judged, gone FROM k"
    "  ON CONFLICT DO NOTHING RETURNING application_code, provider\n"
    "), h AS MATERIALIZED (\n"
    "  SELECT h.application_code, h.client_id, h.provider, h.verdict_at, k.i,"
    "    h.kept_at >= now() - k.since_ms * interval '1 millisecond'"
    "    OR row_number() OVER (PARTITION BY k.i ORDER BY h.kept_at DESC) <= k.newest AS is_lately"
    "  FROM k JOIN @schema@.push_verdicts_held AS h"
    "    ON h.application_code = k.application_code AND h.provider = k.provider AND NOT h.held\n"
    "), d AS MATERIALIZED (\n"
    "  SELECT d.application_code, d.client_id, d.push_token, h.i, h.provider"
    "  FROM h JOIN @schema@.devices AS d ON " SAME_KEY("d", "h")
    "  WHERE h.is_lately AND d.push_status = 'invalid' AND d.push_status_at = h.verdict_at"
    "  ORDER BY d.application_code, d.client_id FOR NO KEY UPDATE OF d\n"
    "), back AS (\n"
    "  UPDATE @schema@.devices AS t SET push_status = NULL, push_status_at = NULL"
    "  FROM d WHERE " SAME_KEY("t", "d") "\n"
    "), kept AS (\n"
    "  UPDATE @schema@.push_verdicts_held AS t SET held = true, push_token = d.push_token"
    "  FROM d WHERE " SAME_KEY("t", "d") " AND t.provider = d.provider\n"
    ")\n"
    "SELECT k.i, brake.provider IS NOT NULL, (SELECT count(*) FROM d WHERE d.i = k.i)"
    " FROM k LEFT JOIN brake ON brake.application_code = k.application_code"
    " AND brake.provider = k.provider";

/* Longer than the longest window of a brake, push_token_status.brake_window_ms. What somebody else has
 * locked is not waited for: it is about to be newer, or gone. */
const char cm_token_status_sql_prune[] =
    "DELETE FROM @schema@.push_verdicts_held WHERE ctid = ANY (ARRAY("
    "  SELECT ctid FROM @schema@.push_verdicts_held"
    "  WHERE NOT held AND kept_at < now() - interval '25 hours'"
    "  LIMIT $1::bigint FOR UPDATE SKIP LOCKED))";

/* ---- the operator's decision ---------------------------------------------------------------- */

#define OF_BRAKE(h) h ".application_code = $1 AND " h ".provider = $2"
#define NEXT_HELD                                                                                  \
    "h AS MATERIALIZED (\n"                                                                        \
    "  SELECT client_id, verdict_at FROM @schema@.push_verdicts_held AS h"                         \
    "  WHERE " OF_BRAKE("h") " AND held ORDER BY client_id LIMIT $3::bigint\n)"

/* Rows of devices are locked before those held, so the deletion looks at the locked ones first. */
const char cm_token_status_sql_release[] =
    "WITH " NEXT_HELD ", d AS MATERIALIZED (\n"
    "  SELECT d.client_id, d.push_at, d.push_token, d.push_status, d.push_status_at"
    "  FROM @schema@.devices AS d"
    "  WHERE d.application_code = $1 AND d.client_id IN (SELECT client_id FROM h)"
    "  ORDER BY d.client_id FOR NO KEY UPDATE\n"
    "), x AS (\n"
    "  DELETE FROM @schema@.push_verdicts_held AS t USING h"
    "  WHERE " OF_BRAKE("t") " AND t.client_id = h.client_id AND t.held"
    "    AND t.verdict_at = h.verdict_at AND (SELECT count(*) FROM d) >= 0"
    "  RETURNING t.client_id, t.push_token, t.verdict_at\n"
    "), w AS MATERIALIZED (\n"
    "  SELECT x.client_id, x.verdict_at FROM x JOIN d ON d.client_id = x.client_id"
    "  WHERE " COUNTS("x", "x.push_token", "d") " AND " NEWS("x", "false", "d") "\n"
    "), written AS (\n"
    "  UPDATE @schema@.devices AS t SET push_status = 'invalid', push_status_at = w.verdict_at"
    "  FROM w WHERE t.application_code = $1 AND t.client_id = w.client_id\n"
    ")\n"
    "SELECT (SELECT count(*) FROM x), (SELECT count(*) FROM w)";

const char cm_token_status_sql_discard[] =
    "WITH " NEXT_HELD ", x AS (\n"
    "  DELETE FROM @schema@.push_verdicts_held AS t USING h"
    "  WHERE " OF_BRAKE("t") " AND t.client_id = h.client_id AND t.held RETURNING t.client_id\n"
    ")\n"
    "SELECT (SELECT count(*) FROM x), 0";

/* clang-format on */

/* ---- arguments ------------------------------------------------------------------------------ */

#define COLUMN(element, items, put)                                                                \
    do {                                                                                           \
        cm_pg_arrays_open(arrays, element, count);                                                 \
        for (size_t i = 0; i < count; i++) {                                                       \
            const __typeof__(*(items)) *item = &(items)[i];                                        \
            put;                                                                                   \
        }                                                                                          \
    } while (0)

static void bind_tenant(cm_pg_arrays_t *arrays, const char *tenant)
{
    cm_pg_arrays_open(arrays, CM_PG_TEXT, 1);
    cm_pg_arrays_text(arrays, cm_str(tenant));
}

void cm_token_status_sql_bind_write(cm_pg_arrays_t *arrays, const char *tenant,
                                    const cm_token_verdict_t *verdicts, size_t count)
{
    cm_pg_arrays_clear(arrays);
    COLUMN(CM_PG_TEXT, verdicts, cm_pg_arrays_text(arrays, item->application_code));
    COLUMN(CM_PG_TEXT, verdicts, cm_pg_arrays_text(arrays, item->client_id));
    COLUMN(CM_PG_TEXT, verdicts, cm_pg_arrays_text(arrays, item->token));
    COLUMN(CM_PG_TEXT, verdicts, cm_pg_arrays_text(arrays, cm_str(item->provider)));
    COLUMN(CM_PG_TIMESTAMPTZ, verdicts, cm_pg_arrays_ms(arrays, item->at_ms));
    COLUMN(CM_PG_INT4, verdicts, cm_pg_arrays_i32(arrays, item->is_gone));
    bind_tenant(arrays, tenant);
}

void cm_token_status_sql_bind_trip(cm_pg_arrays_t *arrays, const char *tenant,
                                   const cm_token_trip_t *trips, size_t count)
{
    cm_pg_arrays_clear(arrays);
    COLUMN(CM_PG_TEXT, trips, cm_pg_arrays_text(arrays, item->application_code));
    COLUMN(CM_PG_TEXT, trips, cm_pg_arrays_text(arrays, cm_str(item->provider)));
    COLUMN(CM_PG_INT8, trips, cm_pg_arrays_i64(arrays, item->judged));
    COLUMN(CM_PG_INT8, trips, cm_pg_arrays_i64(arrays, item->gone));
    COLUMN(CM_PG_INT8, trips, cm_pg_arrays_i64(arrays, item->since_ms));
    COLUMN(CM_PG_INT8, trips, cm_pg_arrays_i64(arrays, item->newest));
    bind_tenant(arrays, tenant);
}
