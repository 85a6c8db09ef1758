#include "schema/lease.h"
#include "runtime/cleanup.h"
#include "schema/sql.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { NUMBER_MAX = 24, DURATION_MAX_MS = 24 * 3600 * 1000 };

/* clock_timestamp(), never now(): that is when the transaction began, before any wait for a lock.
 */
#define NOW    "clock_timestamp()"
#define EXPIRY NOW " + $3::bigint * interval '1 millisecond'"
#define MINE   "l.name = $1 AND l.holder = $2 AND l.term = $4 AND l.expires_at > " NOW

#define COLUMNS                                                                                    \
    "l.name, l.holder, l.term, " CM_SQL_TO_MS("l.acquired_at") ", " CM_SQL_TO_MS(                  \
        "l.expires_at") ", " CM_SQL_TO_MS(NOW)

static void read_lease(const PGresult *result, cm_lease_t *lease)
{
    snprintf(lease->name, sizeof lease->name, "%s", cm_pg_text(result, 0, 0));
    snprintf(lease->holder, sizeof lease->holder, "%s", cm_pg_text(result, 0, 1));
    lease->term = cm_pg_i64(result, 0, 2);
    lease->acquired_ms = cm_pg_i64(result, 0, 3);
    lease->expires_ms = cm_pg_i64(result, 0, 4);
    lease->now_ms = cm_pg_i64(result, 0, 5);
}

static cm_status_t lost(const cm_lease_t *lease, cm_error_t *err)
{
    return cm_error_set(err, CM_PERMANENT, "lease-lost",
                        "the lease %s is no longer held by term %" PRId64, lease->name,
                        lease->term);
}

/* A statement about a lease of ours: $1 name, $2 holder, $3 duration, $4 term. No row: it is lost.
 */
static cm_status_t run_mine(cm_pg_t *pg, const char *schema, const char *sql,
                            const cm_lease_t *lease, int64_t duration_ms, PGresult **ret_result,
                            cm_error_t *err)
{
    char duration[NUMBER_MAX], term[NUMBER_MAX];
    const char *values[] = {lease->name, lease->holder, duration, term};
    snprintf(duration, sizeof duration, "%" PRId64, duration_ms);
    snprintf(term, sizeof term, "%" PRId64, lease->term);
    cm_status_t status = cm_sql_query(pg, sql, schema, CM_LENGTH(values), values, ret_result, err);
    if (status == CM_OK && PQntuples(*ret_result) == 0)
        return lost(lease, err);
    return status;
}

static void check_duration(int64_t duration_ms)
{
    assert(duration_ms > 0 && duration_ms <= DURATION_MAX_MS);
    (void)duration_ms;
}

/* FOR UPDATE waits for writes that hold FOR KEY SHARE, as a plain UPDATE would not; after the wait
 * the server asks again whether the lease is free. */
static cm_status_t take(cm_pg_t *pg, const char *schema, const char *const values[3],
                        PGresult **ret_result, cm_error_t *err)
{
    cm_status_t status =
        cm_sql_query(pg,
                     "INSERT INTO @schema@.leases (name, holder, term, acquired_at, expires_at)"
                     " VALUES ($1, '', 0, '-infinity', '-infinity') ON CONFLICT DO NOTHING",
                     schema, 1, values, NULL, err);
    if (status != CM_OK)
        return status;
    return cm_sql_query(
        pg,
        "UPDATE @schema@.leases AS l SET holder = $2, term = l.term + 1, acquired_at = " NOW
        ", expires_at = " EXPIRY " FROM (SELECT name FROM @schema@.leases WHERE name = $1"
        " AND expires_at <= " NOW
        " FOR UPDATE) AS free WHERE l.name = free.name RETURNING " COLUMNS,
        schema, 3, values, ret_result, err);
}

cm_status_t cm_lease_acquire(cm_pg_t *pg, const char *admin_schema, const char *name,
                             const char *holder, int64_t duration_ms, bool *ret_acquired,
                             cm_lease_t *ret_lease, cm_error_t *err)
{
    char duration[NUMBER_MAX];
    const char *values[] = {name, holder, duration};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    assert(*name && strlen(name) < CM_LEASE_NAME_MAX);
    assert(*holder && strlen(holder) < CM_LEASE_HOLDER_MAX);
    assert(PQtransactionStatus(cm_pg_raw(pg)) != PQTRANS_INTRANS);
    check_duration(duration_ms);
    snprintf(duration, sizeof duration, "%" PRId64, duration_ms);
    cm_status_t status = take(pg, admin_schema, values, &result, err);
    if (status != CM_OK)
        return status;
    *ret_acquired = PQntuples(result) == 1;
    if (!*ret_acquired)
        return cm_lease_find(pg, admin_schema, name, ret_lease, err);
    read_lease(result, ret_lease);
    return CM_OK;
}

cm_status_t cm_lease_renew(cm_pg_t *pg, const char *admin_schema, cm_lease_t *lease,
                           int64_t duration_ms, cm_error_t *err)
{
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    check_duration(duration_ms);
    cm_status_t status = run_mine(pg, admin_schema,
                                  "UPDATE @schema@.leases AS l SET expires_at = " EXPIRY
                                  " WHERE " MINE " RETURNING " COLUMNS,
                                  lease, duration_ms, &result, err);
    if (status == CM_OK)
        read_lease(result, lease);
    return status;
}

cm_status_t cm_lease_release(cm_pg_t *pg, const char *admin_schema, const cm_lease_t *lease,
                             cm_error_t *err)
{
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    return run_mine(pg, admin_schema,
                    "UPDATE @schema@.leases AS l SET expires_at = " EXPIRY " WHERE " MINE
                    " RETURNING 1",
                    lease, 0, &result, err);
}

cm_status_t cm_lease_check(cm_pg_t *pg, const char *admin_schema, const cm_lease_t *lease,
                           cm_error_t *err)
{
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    assert(!cm_pg_is_connected(pg) || PQtransactionStatus(cm_pg_raw(pg)) == PQTRANS_INTRANS);
    return run_mine(pg, admin_schema,
                    "SELECT $3::bigint FROM @schema@.leases AS l WHERE " MINE " FOR KEY SHARE",
                    lease, 0, &result, err);
}

cm_status_t cm_lease_find(cm_pg_t *pg, const char *admin_schema, const char *name,
                          cm_lease_t *ret_lease, cm_error_t *err)
{
    const char *values[] = {name};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_status_t status = cm_sql_query(
        pg, "SELECT " COLUMNS " FROM @schema@.leases AS l WHERE l.name = $1 AND l.term > 0",
        admin_schema, 1, values, &result, err);
    if (status != CM_OK)
        return status;
    if (PQntuples(result) == 0)
        return cm_error_set(err, CM_PERMANENT, "not-found", "there is no lease %s", name);
    read_lease(result, ret_lease);
    return CM_OK;
}
