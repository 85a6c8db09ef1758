#include "schema/device_sql.h"
#include "schema/sql.h"

#include <assert.h>

/* The statements are laid out by their clauses, not as C strings. */
/* clang-format off */

/* ---- pieces --------------------------------------------------------------------------------- */

#define KEY "application_code, client_id"
#define DEVICE_COLUMNS                                                                             \
    "device_at, platform, application_version, device_model, os_version, sdk_version, language, "  \
    "timezone, push_settings"
#define PUSH_COLUMNS "push_at, push_token, push_address_type"
#define CONTACT_COLUMNS "contact_at, contact_id, contact_field_id"
#define COLUMNS KEY ", " DEVICE_COLUMNS ", " PUSH_COLUMNS ", " CONTACT_COLUMNS

/* n: the changes. Scalar subqueries for the tombstones, not joins: they leave the rows in the order of
 * the arrays, so that all writers lock them in one order. A tenant that was deleted and activated anew
 * has a tombstone without a key, which counts for all devices; asked once a statement. That of a
 * contact has its hash for a key: a table of their own would be one more relation to open and lock in
 * every statement, a tenth of the write at few rows each. */
#define CHANGES "unnest($1) AS n(" COLUMNS ", contact_key)"
#define FENCE                                                                                      \
    "(SELECT f.removed_at FROM @schema@.tombstones AS f"                                           \
    " WHERE f.application_code = '' AND f.client_id = '')"
#define TOMBSTONE                                                                                  \
    "greatest((SELECT t.removed_at FROM @schema@.tombstones AS t"                                  \
    " WHERE t.application_code = n.application_code AND t.client_id = n.client_id), " FENCE ")"
/* When the contact was deleted that a change sets; NULL: it sets none, or one that was not. */
#define CONTACT_DELETED                                                                            \
    "(SELECT c.removed_at FROM @schema@.tombstones AS c"                                           \
    " WHERE c.application_code = '' AND c.client_id = n.contact_key)"

/* A register as it compares: time, then content field by field, absent lowest. The order of the
 * fields is that of proto/device_order.c; the columns have collation "C". */
#define NOT_SET "'-infinity'"
#define DEVICE_ROW(r)                                                                              \
    "(coalesce(" r ".device_at, " NOT_SET "), coalesce(" r ".platform, ''),"                       \
    " coalesce(" r ".application_version, ''), coalesce(" r ".device_model, ''),"                  \
    " coalesce(" r ".os_version, ''), coalesce(" r ".sdk_version, ''),"                            \
    " coalesce(" r ".language, ''), coalesce(" r ".timezone, ''),"                                 \
    " coalesce(" r ".push_settings::text, '') COLLATE \"C\")"
#define PUSH_ROW(r)                                                                                \
    "(coalesce(" r ".push_at, " NOT_SET "), coalesce(" r ".push_token, ''),"                       \
    " coalesce(" r ".push_address_type, ''))"
#define CONTACT_ROW(r)                                                                             \
    "(coalesce(" r ".contact_at, " NOT_SET "), " r ".contact_id IS NOT NULL,"                      \
    " coalesce(" r ".contact_id, 0), " r ".contact_field_id IS NOT NULL,"                          \
    " coalesce(" r ".contact_field_id, 0))"

const char cm_device_sql_row_type[] =
    "SELECT t.oid::bigint, typarray::bigint FROM pg_type AS t"
    " JOIN pg_namespace AS n ON n.oid = typnamespace"
    " WHERE nspname = $1 AND typname = 'device_change'";

const char cm_device_sql_session[] =
    /* A plan made while the tombstones were empty would scan them all once they are many. */
    "SET enable_seqscan = off;"
    /* Each statement must see what was committed before it got its locks: see below. */
    " SET default_transaction_isolation = 'read committed'";

/* ---- removals ------------------------------------------------------------------------------- */

/* Why no older change can slip in beside a removal. An upsert reads the tombstones, so it holds ACCESS
 * SHARE on them until its transaction ends, and it takes its snapshot after it got that lock. A removal
 * first takes ACCESS EXCLUSIVE. If the upsert's lock comes first, the removal waits for its commit, sees
 * the row and clears it. If the removal's comes first, the upsert waits for that commit, and its snapshot
 * holds the tombstone. So it is with a contact deletion (schema/contact_store.c).
 *
 * Why devices is locked before: an upsert locks devices, then the tombstones, and so must everybody
 * who may meet it (a drop of the tenant, too), else they deadlock. The whole order: devices,
 * tombstones, push_verdicts_held. */
const char cm_device_sql_lock_devices[] = "LOCK TABLE @schema@.devices IN ROW EXCLUSIVE MODE";
const char cm_device_sql_lock_tombstones[] =
    "LOCK TABLE @schema@.tombstones IN ACCESS EXCLUSIVE MODE";
const char cm_device_sql_try_lock[] =
    "BEGIN; LOCK TABLE @schema@.devices, @schema@.tombstones IN ROW EXCLUSIVE MODE NOWAIT";

#define KEEP(at, column) column " = CASE WHEN d." at " > r.removed_at THEN d." column " END"
#define OF_REMOVED "d.application_code = r.application_code AND d.client_id = r.client_id"
#define NEWEST "greatest(d.device_at, d.push_at, d.contact_at)"
#define OLDEST "least(d.device_at, d.push_at, d.contact_at)"

/* r: keys and times of the removals. */
#define REMOVE                                                                                     \
    "gone AS ("                                                                                    \
    "  DELETE FROM @schema@.devices AS d USING r"                                                  \
    "  WHERE " OF_REMOVED " AND (" NEWEST " > r.removed_at) IS NOT TRUE\n"                         \
    "), cleared AS ("                                                                              \
    "  UPDATE @schema@.devices AS d SET"                                                           \
    "    " KEEP("device_at", "device_at") ", " KEEP("device_at", "platform") ","                   \
    "    " KEEP("device_at", "application_version") ", " KEEP("device_at", "device_model") ","     \
    "    " KEEP("device_at", "os_version") ", " KEEP("device_at", "sdk_version") ","               \
    "    " KEEP("device_at", "language") ", " KEEP("device_at", "timezone") ","                    \
    "    " KEEP("device_at", "push_settings") ","                                                  \
    "    " KEEP("push_at", "push_at") ", " KEEP("push_at", "push_token") ","                       \
    "    " KEEP("push_at", "push_address_type") ", " KEEP("push_at", "push_status") ","            \
    "    " KEEP("push_at", "push_status_at") ","                                                   \
    "    " KEEP("contact_at", "contact_at") ", " KEEP("contact_at", "contact_id") ","              \
    "    " KEEP("contact_at", "contact_field_id")                                                  \
    "  FROM r"                                                                                     \
    "  WHERE " OF_REMOVED " AND " NEWEST " > r.removed_at AND " OLDEST " <= r.removed_at\n"        \
    ")"
#define BURY                                                                                       \
    "INSERT INTO @schema@.tombstones AS t (" KEY ", removed_at)"                                   \
    " SELECT " KEY ", removed_at FROM r"                                                           \
    " ON CONFLICT (" KEY ") DO UPDATE SET removed_at = excluded.removed_at"                        \
    " WHERE t.removed_at < excluded.removed_at"

const char cm_device_sql_remove[] =
    "WITH r AS MATERIALIZED ("
    "  SELECT * FROM unnest($1, $2, $3) AS r(" KEY ", removed_at)\n"
    "), " REMOVE "\n" BURY " RETURNING " KEY;

/* One statement, because a tenant costs by their number; under the locks, so what its snapshot shows
 * holds. The devices are locked in order of the key before the first is changed or a held verdict goes:
 * r is read to its end first. No join but from r or n into an index, see cm_contact_store_delete(): the
 * planner takes every array for ten elements. Tokens of held verdicts have no index, so these are read
 * once and looked up among those that went; IS TRUE keeps the planner from making a join of it. */
const char cm_device_sql_delete_contacts[] =
    "WITH n AS MATERIALIZED ("
    "  SELECT u.*, (SELECT t.removed_at FROM @schema@.tombstones AS t"
    "    WHERE t.application_code = '' AND t.client_id = u.contact_key) AS known_at"
    "  FROM unnest($1, $2, $3) WITH ORDINALITY AS u(contact_key, contact_id, deleted_at, i)\n"
    "), deleted AS ("
    "  INSERT INTO @schema@.tombstones AS t (" KEY ", removed_at)"
    "  SELECT '', contact_key, deleted_at FROM n WHERE (known_at >= deleted_at) IS NOT TRUE"
    "  ORDER BY contact_key"
    "  ON CONFLICT (" KEY ") DO UPDATE SET removed_at = excluded.removed_at\n"
    "), r AS MATERIALIZED ("
    "  SELECT d.application_code, d.client_id, n.deleted_at AS removed_at, n.i,"
    "    CASE WHEN d.push_at <= n.deleted_at THEN d.push_token END AS push_token"
    "  FROM n JOIN @schema@.devices AS d"
    "    ON d.contact_id = n.contact_id AND d.contact_at <= n.deleted_at"
    "  ORDER BY d.application_code, d.client_id FOR UPDATE OF d\n"
    "), " REMOVE ", buried AS (" BURY "), held_of_device AS ("
    "  DELETE FROM @schema@.push_verdicts_held AS h USING r"
    "  WHERE h.application_code = r.application_code AND h.client_id = r.client_id"
    "    AND h.verdict_at <= r.removed_at RETURNING 1\n"
    "), held_of_token AS ("
    "  DELETE FROM @schema@.push_verdicts_held AS h"
    "  WHERE h.push_token IS NOT NULL AND ((h.application_code, h.push_token) IN"
    "    (SELECT application_code, push_token FROM r WHERE push_token IS NOT NULL)) IS TRUE"
    "  RETURNING 1\n"
    ")\n"
    "SELECT i, false, application_code, client_id, push_token FROM r"
    " UNION ALL"
    " SELECT i, known_at = deleted_at, NULL, NULL, NULL FROM n WHERE known_at >= deleted_at"
    " UNION ALL SELECT 0, false, NULL, NULL, NULL FROM held_of_device"
    " UNION ALL SELECT 0, false, NULL, NULL, NULL FROM held_of_token";

/* ---- the write of every day ----------------------------------------------------------------- */

/* It is prepared once per tenant and connection, so its plan is kept small: no content is compared,
 * and whether a register is given is asked instead of whether it is newer, which WHERE has settled. */
#define GIVEN(at, column)                                                                          \
    column " = CASE WHEN excluded." at " IS NULL THEN d." column " ELSE excluded." column " END"
#define NOT_OLDER(at) "(excluded." at " > d." at ") IS NOT FALSE"

#define UPSERT                                                                                     \
    "INSERT INTO @schema@.devices AS d (" COLUMNS ")\n"                                            \
    "SELECT " COLUMNS " FROM " CHANGES "\n"                                                        \
    "WHERE coalesce(" TOMBSTONE " < least(n.device_at, n.push_at, n.contact_at), true)"            \
    " AND coalesce(" CONTACT_DELETED " < n.contact_at, true)\n"                                    \
    "ON CONFLICT (" KEY ") DO UPDATE SET\n"                                                        \
    " device_at = coalesce(excluded.device_at, d.device_at),"                                      \
    " " GIVEN("device_at", "platform") ", " GIVEN("device_at", "application_version") ","          \
    " " GIVEN("device_at", "device_model") ", " GIVEN("device_at", "os_version") ","               \
    " " GIVEN("device_at", "sdk_version") ", " GIVEN("device_at", "language") ","                  \
    " " GIVEN("device_at", "timezone") ", " GIVEN("device_at", "push_settings") ",\n"              \
    " push_at = coalesce(excluded.push_at, d.push_at),"                                            \
    " " GIVEN("push_at", "push_token") ", " GIVEN("push_at", "push_address_type") ","              \
    " push_status = CASE WHEN excluded.push_at IS NULL THEN d.push_status END,"                    \
    " push_status_at = CASE WHEN excluded.push_at IS NULL THEN d.push_status_at END,\n"            \
    " contact_at = coalesce(excluded.contact_at, d.contact_at),"                                   \
    " " GIVEN("contact_at", "contact_id") ", " GIVEN("contact_at", "contact_field_id") "\n"        \
    "WHERE " NOT_OLDER("device_at") " AND " NOT_OLDER("push_at") " AND " NOT_OLDER("contact_at")   \
    " AND (excluded.push_at <= d.push_status_at) IS NOT TRUE"

const char cm_device_sql_upsert[] = UPSERT "\nRETURNING " KEY;
const char cm_device_sql_upsert_counted[] = UPSERT;

/* ---- the order rule in full ----------------------------------------------------------------- */

#define SURVIVES(at, column) "CASE WHEN n.removed_at >= n." at " THEN NULL ELSE n." column " END"
/* A change that would set a deleted contact is a removal and left alone: settle tells. It would not
 * when the row's own register is newer; rows that go take the tombstones, so what the snapshot shows
 * holds. Then the rest of it counts. */
#define DELETED                                                                                    \
    "(n.contact_deleted_at >= n.contact_at"                                                        \
    " AND n.contact_at > coalesce(n.removed_at, " NOT_SET ")) IS TRUE"
#define SURVIVES_CONTACT(column)                                                                   \
    "CASE WHEN n.removed_at >= n.contact_at OR n.contact_deleted_at >= n.contact_at THEN NULL"     \
    " ELSE n." column " END"
#define TAKE(group, column)                                                                        \
    "CASE WHEN k.take_" group " THEN excluded." column " ELSE d." column " END"
/* A verdict for this very token outlives the registration of the token when it is not older. */
#define TAKE_VERDICT(column)                                                                       \
    "CASE WHEN k.take_push AND (d.push_status_at >= excluded.push_at"                              \
    " AND d.push_token = excluded.push_token) IS NOT TRUE THEN NULL ELSE d." column " END"

const char cm_device_sql_upsert_exact[] =
    "INSERT INTO @schema@.devices AS d (" COLUMNS ")\n"
    "SELECT n.application_code, n.client_id,"
    " " SURVIVES("device_at", "device_at") ", " SURVIVES("device_at", "platform") ","
    " " SURVIVES("device_at", "application_version") ", " SURVIVES("device_at", "device_model") ","
    " " SURVIVES("device_at", "os_version") ", " SURVIVES("device_at", "sdk_version") ","
    " " SURVIVES("device_at", "language") ", " SURVIVES("device_at", "timezone") ","
    " " SURVIVES("device_at", "push_settings") ","
    " " SURVIVES("push_at", "push_at") ", " SURVIVES("push_at", "push_token") ","
    " " SURVIVES("push_at", "push_address_type") ","
    " " SURVIVES_CONTACT("contact_at") ", " SURVIVES_CONTACT("contact_id") ","
    " " SURVIVES_CONTACT("contact_field_id") "\n"
    "FROM (SELECT n.*, " TOMBSTONE " AS removed_at, " CONTACT_DELETED " AS contact_deleted_at"
    " FROM " CHANGES " OFFSET 0) AS n\n"
    "WHERE (n.removed_at >= greatest(n.device_at, n.push_at, n.contact_at)) IS NOT TRUE\n"
    " AND (NOT (" DELETED ") OR EXISTS (SELECT FROM @schema@.devices AS o"
    " WHERE o.application_code = n.application_code AND o.client_id = n.client_id"
    " AND " CONTACT_ROW("o") " >= " CONTACT_ROW("n") "))\n"
    "ON CONFLICT (" KEY ") DO UPDATE SET\n"
    "(" DEVICE_COLUMNS ", " PUSH_COLUMNS ", push_status, push_status_at, " CONTACT_COLUMNS ") = ("
    "SELECT " TAKE("device", "device_at") ", " TAKE("device", "platform") ","
    " " TAKE("device", "application_version") ", " TAKE("device", "device_model") ","
    " " TAKE("device", "os_version") ", " TAKE("device", "sdk_version") ","
    " " TAKE("device", "language") ", " TAKE("device", "timezone") ","
    " " TAKE("device", "push_settings") ","
    " " TAKE("push", "push_at") ", " TAKE("push", "push_token") ","
    " " TAKE("push", "push_address_type") ","
    " " TAKE_VERDICT("push_status") ", " TAKE_VERDICT("push_status_at") ","
    " " TAKE("contact", "contact_at") ", " TAKE("contact", "contact_id") ","
    " " TAKE("contact", "contact_field_id") "\n"
    "FROM (SELECT " DEVICE_ROW("excluded") " > " DEVICE_ROW("d") " AS take_device,"
    " " PUSH_ROW("excluded") " > " PUSH_ROW("d") " AS take_push,"
    " " CONTACT_ROW("excluded") " > " CONTACT_ROW("d") " AS take_contact OFFSET 0) AS k)\n"
    "WHERE " DEVICE_ROW("excluded") " > " DEVICE_ROW("d")
    " OR " PUSH_ROW("excluded") " > " PUSH_ROW("d")
    " OR " CONTACT_ROW("excluded") " > " CONTACT_ROW("d") "\n"
    "RETURNING " KEY;

/* ---- settling ------------------------------------------------------------------------------- */

#define WANTED(at, row)                                                                            \
    "(n." at " > coalesce(greatest(t.removed_at, " FENCE "), " NOT_SET ")"                         \
    " AND " row("n") " > " row("d") ") IS TRUE"
#define THERE(at, row) "(n." at " IS NULL OR " row("n") " = " row("d") ")"

/* A register only ever grows, so what is found stale or there already stays so. */
const char cm_device_sql_settle[] =
    "SELECT n.i::bigint,"
    " " WANTED("device_at", DEVICE_ROW) " OR " WANTED("push_at", PUSH_ROW)
    " OR " WANTED("contact_at", CONTACT_ROW) ","
    " " THERE("device_at", DEVICE_ROW) " AND " THERE("push_at", PUSH_ROW)
    " AND " THERE("contact_at", CONTACT_ROW)
    " AND (n.removed_at IS NULL OR n.removed_at IS NOT DISTINCT FROM t.removed_at),"
    " CASE WHEN " WANTED("contact_at", CONTACT_ROW) " AND c.removed_at >= n.contact_at"
    " THEN " CM_SQL_TO_MS("c.removed_at") " END,"
    " (d.xmin = $3[1]::xid) IS TRUE\n"
    "FROM unnest($1, $2) WITH ORDINALITY AS n(" COLUMNS ", contact_key, removed_at, i)\n"
    "LEFT JOIN @schema@.devices AS d"
    " ON d.application_code = n.application_code AND d.client_id = n.client_id\n"
    "LEFT JOIN @schema@.tombstones AS t"
    " ON t.application_code = n.application_code AND t.client_id = n.client_id\n"
    "LEFT JOIN @schema@.tombstones AS c"
    " ON c.application_code = '' AND c.client_id = n.contact_key";

/* clang-format on */

/* ---- arguments ------------------------------------------------------------------------------ */

typedef bool(takes_fn)(const cm_device_change_t *change);

bool cm_device_sql_is_removal(const cm_device_change_t *change)
{
    return change->removed_ms != CM_TIME_NONE;
}

bool cm_device_sql_has_register(const cm_device_change_t *change)
{
    return change->device_ms != CM_TIME_NONE || change->push_ms != CM_TIME_NONE ||
           change->contact_ms != CM_TIME_NONE;
}

static bool takes_all(const cm_device_change_t *change)
{
    (void)change;
    return true;
}

/* What an array is made of. Empty and absent are one in the table, as they are in an event. */
static void put_text(cm_pg_arrays_t *arrays, cm_str_t text)
{
    cm_pg_arrays_text(arrays, text.len ? text : CM_STR_NONE);
}

enum { CHANGE_COLUMNS = 9 + CM_DEVICE_FIELDS + 1 };
_Static_assert(CM_TIME_NONE == CM_PG_MS_NONE, "a register that is not set is NULL");

/* One column of all items that `takes` accepts; `change` names the current one in `put`. */
#define COLUMN(element, put)                                                                       \
    do {                                                                                           \
        cm_pg_arrays_open(arrays, element, taken);                                                 \
        for (size_t i = 0; i < count; i++) {                                                       \
            const cm_device_change_t *change = &items[i]->change;                                  \
            if (takes(change))                                                                     \
                put;                                                                               \
        }                                                                                          \
    } while (0)

static size_t count_taken(cm_store_item_t *const *items, size_t count, takes_fn *takes)
{
    size_t taken = 0;
    for (size_t i = 0; i < count; i++)
        taken += takes(&items[i]->change);
    return taken;
}

static void bind_key(cm_pg_arrays_t *arrays, cm_store_item_t *const *items, size_t count,
                     takes_fn *takes, size_t taken)
{
    COLUMN(CM_PG_TEXT, cm_pg_arrays_text(arrays, change->application_code));
    COLUMN(CM_PG_TEXT, cm_pg_arrays_text(arrays, change->client_id));
}

static void text_column(cm_pg_arrays_t *arrays, cm_str_t text)
{
    cm_pg_row_column(arrays, CM_PG_TEXT);
    put_text(arrays, text);
}

static void time_column(cm_pg_arrays_t *arrays, int64_t ms)
{
    cm_pg_row_column(arrays, CM_PG_TIMESTAMPTZ);
    cm_pg_arrays_ms(arrays, ms);
}

static void number_column(cm_pg_arrays_t *arrays, bool has, int64_t value)
{
    cm_pg_row_column(arrays, CM_PG_INT8);
    if (has)
        cm_pg_arrays_i64(arrays, value);
    else
        cm_pg_arrays_null(arrays);
}

static void contact_key_column(cm_pg_arrays_t *arrays, const cm_erasure_key_t *key,
                               const cm_device_change_t *change)
{
    char hex[CM_ERASURE_HEX_MAX];
    cm_str_t text = CM_STR_NONE;
    if (change->has_contact_id) {
        cm_erasure_hash_t hash = cm_erasure_contact(key, change->contact_id);
        text = cm_erasure_hash_hex(&hash, hex);
    }
    text_column(arrays, text);
}

/* As the type device_change has its columns. */
static void put_change(cm_pg_arrays_t *arrays, const cm_erasure_key_t *key,
                       const cm_device_change_t *change)
{
    size_t row = cm_pg_row_begin(arrays, CHANGE_COLUMNS);
    text_column(arrays, change->application_code);
    text_column(arrays, change->client_id);
    time_column(arrays, change->device_ms);
    for (int field = 0; field < CM_DEVICE_FIELDS; field++) {
        cm_pg_row_column(arrays, field == CM_DEVICE_PUSH_SETTINGS ? CM_PG_JSON : CM_PG_TEXT);
        put_text(arrays, change->device[field]);
    }
    time_column(arrays, change->push_ms);
    text_column(arrays, change->push_token);
    text_column(arrays, change->push_address_type);
    time_column(arrays, change->contact_ms);
    number_column(arrays, change->has_contact_id, change->contact_id);
    number_column(arrays, change->has_contact_field_id, change->contact_field_id);
    contact_key_column(arrays, key, change);
    cm_pg_row_end(arrays, row);
}

static void bind_changes(cm_pg_arrays_t *arrays, const cm_device_binding_t *binding,
                         cm_store_item_t *const *items, size_t count, takes_fn *takes, size_t taken)
{
    cm_pg_arrays_open_rows(arrays, &binding->type, taken);
    for (size_t i = 0; i < count; i++)
        if (takes(&items[i]->change))
            put_change(arrays, binding->key, &items[i]->change);
}

size_t cm_device_sql_bind_removals(cm_pg_arrays_t *arrays, cm_store_item_t *const *items,
                                   size_t count)
{
    takes_fn *takes = cm_device_sql_is_removal;
    size_t taken = count_taken(items, count, takes);
    cm_pg_arrays_clear(arrays);
    if (taken == 0)
        return 0;
    bind_key(arrays, items, count, takes, taken);
    COLUMN(CM_PG_TIMESTAMPTZ, cm_pg_arrays_ms(arrays, change->removed_ms));
    return taken;
}

size_t cm_device_sql_bind_registers(cm_pg_arrays_t *arrays, const cm_device_binding_t *binding,
                                    cm_store_item_t *const *items, size_t count)
{
    takes_fn *takes = cm_device_sql_has_register;
    size_t taken = count_taken(items, count, takes);
    cm_pg_arrays_clear(arrays);
    if (taken > 0)
        bind_changes(arrays, binding, items, count, takes, taken);
    return taken;
}

size_t cm_device_sql_bind_settle(cm_pg_arrays_t *arrays, const cm_device_binding_t *binding,
                                 cm_store_item_t *const *items, size_t count, const char *xid)
{
    takes_fn *takes = takes_all;
    size_t taken = count;
    cm_pg_arrays_clear(arrays);
    if (taken == 0)
        return 0;
    bind_changes(arrays, binding, items, count, takes, taken);
    COLUMN(CM_PG_TIMESTAMPTZ, cm_pg_arrays_ms(arrays, change->removed_ms));
    cm_pg_arrays_open(arrays, CM_PG_TEXT, 1);
    cm_pg_arrays_text(arrays, *xid ? cm_str(xid) : CM_STR_NONE);
    return taken;
}
