#include "schema/dashboard_sql.h"
#include "schema/orphan_sql.h"
#include "schema/sql.h"

/* The statements are laid out by their clauses, not as C strings. */
/* clang-format off */

/* ---- all tenants ---------------------------------------------------------------------------- */

/* Pages of the tables, their indexes, and what lies beside them; never more than zero when a table
 * was not looked at yet. */
const char cm_dashboard_sql_catalog[] =
    "SELECT coalesce(json_agg(s), '[]') FROM ("
    "  SELECT n.nspname AS schema_name,"
    "    sum(c.relpages::bigint + coalesce(t.relpages, 0) + coalesce(ti.relpages, 0))"
    "      * current_setting('block_size')::bigint AS bytes,"
    "    greatest(sum(c.reltuples) FILTER (WHERE c.relname = 'tombstones'), 0)::bigint"
    "      AS tombstones,"
    "    count(*) FILTER (WHERE c.relkind = 'r' AND c.relname IN ('devices', 'tombstones'))"
    "      = 2 AS whole"
    "  FROM pg_namespace AS n"
    "  LEFT JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relkind IN ('r', 'i')"
    "  LEFT JOIN pg_class AS t ON t.oid = c.reltoastrelid AND c.reltoastrelid <> 0"
    "  LEFT JOIN pg_index AS i ON i.indrelid = t.oid"
    "  LEFT JOIN pg_class AS ti ON ti.oid = i.indexrelid"
    "  WHERE n.nspname LIKE 'tenant\\_%' GROUP BY n.nspname) AS s";

#define HAS_SCHEMA "t.state IN ('activating', 'active', 'suspended')"
#define IS_DELETED "t.state IN ('deleting', 'deleted')"

/* The figures of a generation end with it: see forget, which comes before. */
const char cm_dashboard_sql_list[] =
    "WITH c AS ("
    "  SELECT c.* FROM json_array_elements($1::json) AS of_database,"
    "    json_to_recordset(of_database)"
    "      AS c(schema_name text, bytes bigint, tombstones bigint, whole boolean)\n"
    "), l AS ("
    "  SELECT tenant, count(*) AS letters, sum(retry_count)::bigint AS retries,"
    "    count(*) FILTER (WHERE last_failed_at > now() - interval '1 day') AS of_a_day,"
    "    sum(replay_count)::bigint AS replays"
    "  FROM @schema@.dead_letters GROUP BY tenant\n"
    ")\n"
    "INSERT INTO @schema@.dashboard_tenant_metrics AS m (tenant, name, state, generation,"
    "  schema_version, problem, bytes, tombstones, dead_letters, dead_letters_1d,"
    "  dead_letters_retries, dead_letters_replays, listed_at)\n"
    "SELECT t.id, t.name, t.state, t.generation, t.schema_version,"
    "  CASE WHEN c.schema_name IS NULL THEN 'schema-missing'"
    "    WHEN NOT c.whole THEN 'tables-missing' ELSE '' END,"
    "  coalesce(c.bytes, 0), coalesce(c.tombstones, 0), coalesce(l.letters, 0),"
    "  coalesce(l.of_a_day, 0), coalesce(l.retries, 0), coalesce(l.replays, 0), now()\n"
    "FROM @schema@.tenants AS t LEFT JOIN c ON c.schema_name = t.schema_name"
    " LEFT JOIN l ON l.tenant = t.id WHERE " HAS_SCHEMA "\n"
    "ON CONFLICT (tenant) DO UPDATE SET name = excluded.name, state = excluded.state,"
    " generation = excluded.generation, schema_version = excluded.schema_version,"
    " problem = excluded.problem, bytes = excluded.bytes, tombstones = excluded.tombstones,"
    " dead_letters = excluded.dead_letters, dead_letters_1d = excluded.dead_letters_1d,"
    " dead_letters_retries = excluded.dead_letters_retries,"
    " dead_letters_replays = excluded.dead_letters_replays, listed_at = excluded.listed_at";

/* References of deleted tenants are here again when their publisher says so himself. */
const char cm_dashboard_sql_forget[] =
    "WITH gone AS ("
    "  DELETE FROM @schema@.dashboard_tenant_metrics AS m"
    "  WHERE NOT EXISTS (SELECT FROM @schema@.tenants AS t WHERE t.id = m.tenant"
    "    AND t.generation = m.generation AND " HAS_SCHEMA ") RETURNING m.tenant\n"
    "), of_deleted AS ("
    "  DELETE FROM @schema@.dashboard_sync_reference AS r USING @schema@.tenants AS t"
    "  WHERE t.id = r.tenant AND " IS_DELETED "\n"
    ")\n"
    "DELETE FROM @schema@.dashboard_tenant_metrics_history AS h USING gone AS g"
    " WHERE h.tenant = g.tenant";

const char cm_dashboard_sql_tenants[] =
    "SELECT tenant, state, problem = '' FROM @schema@.dashboard_tenant_metrics"
    " WHERE tenant > $1 AND state IN ('active', 'suspended')"
    " AND tenant = coalesce($3, tenant) ORDER BY tenant LIMIT $2::bigint";

const char cm_dashboard_sql_census[] =
    "SELECT count(*), count(*) FILTER (WHERE tenant <= $1),"
    " count(*) FILTER (WHERE sync_state = 'drift'), count(*) FILTER (WHERE sync_state = 'stale')"
    " FROM @schema@.dashboard_tenant_metrics WHERE state IN ('active', 'suspended')"
    " AND tenant = coalesce($2, tenant)";

/* ---- one tenant ----------------------------------------------------------------------------- */

#define COUNT_IF(condition) "count(*) FILTER (WHERE " condition ")"
#define WITHIN(time, days) time " > statement_timestamp() - interval '" days " days'"
#define NEWEST "greatest(d.device_at, d.push_at, d.contact_at)"
#define TOTAL(column) "'" column "', coalesce(sum(" column "), 0)::bigint"

/* Devices by a value that a sender states: the $3 most frequent, the rest as one, none too long. */
#define BY(column)                                                                                 \
    "'" column "s', (SELECT coalesce(json_object_agg(name, n ORDER BY n DESC, name), '{}') FROM (" \
    "SELECT CASE WHEN place <= $3::bigint THEN name ELSE 'other' END AS name, sum(n)::bigint AS n" \
    " FROM (SELECT name, n, row_number() OVER (ORDER BY n DESC, name) AS place FROM ("             \
    "SELECT left(coalesce(" column ", 'unknown'), 64) AS name, sum(n) AS n FROM g GROUP BY 1"      \
    ") AS by_name) AS placed GROUP BY 1) AS top)"

#define GROUPS(more)                                                                               \
    "WITH g AS MATERIALIZED (SELECT d.platform, d.sdk_version, d.application_version,"             \
    " count(*) AS n, "                                                                             \
    COUNT_IF("d.push_token IS NOT NULL AND d.push_status = 'valid'") " AS token_valid, "           \
    COUNT_IF("d.push_token IS NOT NULL AND d.push_status = 'invalid'") " AS token_invalid, "       \
    COUNT_IF("d.push_token IS NULL") " AS token_none, "                                            \
    COUNT_IF("d.contact_id IS NOT NULL") " AS with_contact, "                                      \
    COUNT_IF(CM_ORPHAN_SQL("d", "$2::bigint")) " AS orphaned, "                                    \
    COUNT_IF(WITHIN("d.created_at", "1")) " AS registered_1d, "                                    \
    COUNT_IF(WITHIN("d.created_at", "7")) " AS registered_7d, "                                    \
    COUNT_IF(WITHIN("d.created_at", "30")) " AS registered_30d, "                                  \
    COUNT_IF(WITHIN(NEWEST, "1")) " AS seen_1d, "                                                  \
    COUNT_IF(WITHIN(NEWEST, "7")) " AS seen_7d, "                                                  \
    COUNT_IF(WITHIN(NEWEST, "30")) " AS seen_30d" more                                             \
    " GROUP BY 1, 2, 3)\n"

#define FIGURES(more)                                                                              \
    "SELECT json_build_object('tenant', $1::text, 'collected_at', statement_timestamp(),"          \
    " 'devices', coalesce(sum(n), 0)::bigint, " TOTAL("token_valid") ", " TOTAL("token_invalid")   \
    ", 'token_unknown', coalesce(sum(n - token_valid - token_invalid - token_none), 0)::bigint, "  \
    TOTAL("token_none") ", " TOTAL("with_contact") ", " TOTAL("orphaned") ", "                     \
    TOTAL("registered_1d") ", " TOTAL("registered_7d") ", " TOTAL("registered_30d") ", "           \
    TOTAL("seen_1d") ", " TOTAL("seen_7d") ", " TOTAL("seen_30d") ", "                             \
    BY("platform") ", " BY("sdk_version") ", " BY("application_version") more                      \
    "), coalesce(sum(n), 0)::bigint FROM g"

const char cm_dashboard_sql_measure[] = GROUPS(" FROM @schema@.devices AS d") FIGURES("");

const char cm_dashboard_sql_measure_checksum[] =
    GROUPS(", sum(('x' || encode(substr(k.h, 2, 5), 'hex'))::bit(40)::bigint)"
           "    FILTER (WHERE get_byte(k.h, 0) < $4::integer) AS checksum"
           " FROM @schema@.devices AS d CROSS JOIN LATERAL (SELECT sha256(convert_to("
           "d.application_code || E'\\x1f' || d.client_id, 'UTF8')) AS h OFFSET 0) AS k")
    FIGURES(", 'checksum', coalesce(sum(checksum), 0)::bigint");

/* ---- keeping -------------------------------------------------------------------------------- */

#define COUNTED                                                                                    \
    "collected_at, devices, token_valid, token_invalid, token_unknown, token_none, "               \
    "with_contact, orphaned, registered_1d, registered_7d, registered_30d, seen_1d, "              \
    "seen_7d, seen_30d, platforms, sdk_versions, application_versions, checksum"
#define COUNTED_OF_N                                                                               \
    "n.collected_at, n.devices, n.token_valid, n.token_invalid, n.token_unknown, "                 \
    "n.token_none, n.with_contact, n.orphaned, n.registered_1d, n.registered_7d, "                 \
    "n.registered_30d, n.seen_1d, n.seen_7d, n.seen_30d, n.platforms, n.sdk_versions, "            \
    "n.application_versions, n.checksum"

const char cm_dashboard_sql_keep[] =
    "WITH n AS (SELECT n.*, r.devices AS there, r.counted_at,"
    "  CASE WHEN r.tenant IS NULL THEN 'none'"
    "    WHEN r.counted_at < n.collected_at - $2::bigint * interval '1 second' THEN 'stale'"
    "    WHEN r.devices = n.devices AND coalesce(r.checksum = n.checksum, true) THEN 'match'"
    "    ELSE 'drift' END AS now_sync_state"
    "  FROM json_populate_recordset(NULL::@schema@.dashboard_tenant_metrics, $1::json) AS n"
    "  LEFT JOIN @schema@.dashboard_sync_reference AS r ON r.tenant = n.tenant)\n"
    "UPDATE @schema@.dashboard_tenant_metrics AS m SET (" COUNTED ")"
    " = (" COUNTED_OF_N "),"
    " problem = '', sync_state = n.now_sync_state, sync_drift = n.devices - n.there,"
    " sync_reference_at = n.counted_at, sync_matched_at ="
    " CASE WHEN n.now_sync_state = 'match' THEN n.collected_at ELSE m.sync_matched_at END\n"
    "FROM n WHERE n.tenant = m.tenant";

const char cm_dashboard_sql_keep_problems[] =
    "UPDATE @schema@.dashboard_tenant_metrics SET problem = 'tables-missing'"
    " WHERE problem = '' AND tenant IN (SELECT json_array_elements_text($1::json))";

/* ---- the history ---------------------------------------------------------------------------- */

#define KEPT                                                                                       \
    "devices, token_valid, token_invalid, token_unknown, token_none, with_contact, orphaned,"      \
    " registered_1d, seen_1d, seen_7d, seen_30d, dead_letters, bytes, schema_version, platforms,"  \
    " sync_state, sync_drift"
#define HISTORY "@schema@.dashboard_tenant_metrics_history"

#define KEPT_OF_EXCLUDED                                                                           \
    "excluded.devices, excluded.token_valid, excluded.token_invalid, "                             \
    "excluded.token_unknown, excluded.token_none, excluded.with_contact, excluded.orphaned, "      \
    "excluded.registered_1d, excluded.seen_1d, excluded.seen_7d, excluded.seen_30d, "              \
    "excluded.dead_letters, excluded.bytes, excluded.schema_version, excluded.platforms, "         \
    "excluded.sync_state, excluded.sync_drift"

/* The row of the day is written over by every run of the day, so that the trend reads one row a day. */
const char cm_dashboard_sql_remember[] =
    "INSERT INTO " HISTORY " AS h (tenant, resolution, at, " KEPT ")"
    " SELECT m.tenant, r.resolution, r.at, " KEPT " FROM @schema@.dashboard_tenant_metrics AS m,"
    " LATERAL (VALUES ('run', m.collected_at), ('day', date_trunc('day', m.collected_at, 'UTC')))"
    " AS r(resolution, at) WHERE m.collected_at IS NOT NULL"
    " ON CONFLICT (tenant, resolution, at) DO UPDATE SET (" KEPT ") = (" KEPT_OF_EXCLUDED ")"
    " WHERE h.resolution = 'day'";

const char cm_dashboard_sql_prune[] =
    "WITH gone AS (DELETE FROM " HISTORY " WHERE ctid = ANY (ARRAY("
    "(SELECT ctid FROM " HISTORY " WHERE resolution = 'run'"
    " AND at < date_trunc('day', now(), 'UTC') - $1::integer * interval '24 hours'"
    " LIMIT $3::bigint) UNION ALL "
    "(SELECT ctid FROM " HISTORY " WHERE resolution = 'day'"
    " AND at < date_trunc('day', now(), 'UTC') - $2::integer * interval '24 hours'"
    " LIMIT $3::bigint))) RETURNING 1) SELECT count(*) FROM gone";

/* ---- references ----------------------------------------------------------------------------- */

const char cm_dashboard_sql_put[] =
    "INSERT INTO @schema@.dashboard_sync_reference AS r (tenant, devices, checksum, counted_at)"
    " SELECT DISTINCT ON (n.tenant) n.tenant, n.devices, n.checksum,"
    " coalesce(" CM_SQL_FROM_MS("n.ms") ", now())"
    " FROM json_to_recordset($1::json)"
    " AS n(tenant text, devices bigint, checksum bigint, ms bigint)"
    " WHERE NOT EXISTS (SELECT FROM @schema@.tenants AS t WHERE t.id = n.tenant AND " IS_DELETED ")"
    " ORDER BY n.tenant, n.ms DESC NULLS FIRST"
    " ON CONFLICT (tenant) DO UPDATE SET devices = excluded.devices,"
    " checksum = excluded.checksum, counted_at = excluded.counted_at";

const char cm_dashboard_sql_query_head[] = "SELECT tenant::text, devices::bigint, checksum::bigint, "
    CM_SQL_TO_MS("counted_at::timestamptz") " FROM (";
const char cm_dashboard_sql_query_tail[] = "\n) AS q(tenant, devices, checksum, counted_at)";

/* clang-format on */
