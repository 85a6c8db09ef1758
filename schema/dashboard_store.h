/* dashboard_store - the figures of every tenant: counts them, keeps them, and how they went.
 *
 * A run: cm_dashboard_begin(), for each page of cm_dashboard_tenants() cm_dashboard_measure() each
 * tenant, cm_dashboard_finish(). One query a tenant; everything else is a statement for all tenants
 * or for 200 of them, so a run costs the same however often it is repeated. What was measured
 * is committed in portions; a run that was cut off is repeated from any tenant on.
 *
 * Tables, and what each figure means: schema/admin/0006_dashboard.sql. Figures that come out of the
 * catalog (bytes, tombstones) are those of a table's last vacuum or analyze: asking for sizes would
 * wait for whoever has locked one table of one tenant.
 *
 * Sync validation. The publisher of the events says in dashboard_sync_reference how many devices a
 * tenant has, itself, or by a query or a file that is taken over here; it may add a checksum over a
 * sample of their keys, so that devices lost and devices too many do not cancel out:
 *
 *     h = SHA-256 of application code, one byte 0x1F, client id (UTF-8)
 *     a device is in the sample when byte 0 of h is below `sample` (of 256)
 *     checksum = sum of the numbers in bytes 1 to 5 of h, big-endian, over the sample
 *
 * Each measuring is held against the reference: match, drift (here minus there), stale when the
 * reference is older than reference_max_age_s, none.
 */
#ifndef CM_SCHEMA_DASHBOARD_STORE_H
#define CM_SCHEMA_DASHBOARD_STORE_H
#include "proto/sync_reference.h"
#include "schema/tenant_registry.h"

typedef struct {              /* borrowed until the store is destroyed; a 0 is the default */
    const char *admin_schema; /* never NULL */
    int64_t orphan_age_s;     /* 30 days: what counts as orphaned */
    int top;                  /* 10 versions and platforms a tenant are told; the rest: 'other' */
    int sample;               /* 0: no checksum; 1 to 256 of 256 devices are in it */
    int64_t reference_max_age_s; /* a day */
    int keep_runs_days;          /* 14: of older days the history keeps the last run */
    int keep_days;               /* 400: older days of the history go */
    const char *only;            /* the one tenant (canonical id) to measure; NULL: all */
    /* Called first inside each transaction that writes; anything but CM_OK ends the call with it.
     * NULL: none. */
    cm_status_t (*fence)(void *ctx, cm_pg_t *pg, cm_error_t *err);
    void *ctx;
} cm_dashboard_options_t;

enum { CM_DASHBOARD_FLUSH_AT = 200 }; /* tenants */

typedef struct cm_dashboard cm_dashboard_t;

typedef struct {
    int64_t tenants;  /* measured and committed */
    int64_t devices;  /* of these */
    int64_t problems; /* tenants whose tables are not there, when measured */
    int64_t queries;  /* statements sent, those of the transactions aside */
    int64_t pruned;   /* rows of the history */
} cm_dashboard_totals_t;

/* admin: where the admin schema is. Its transactions are the store's; borrowed. */
cm_dashboard_t *cm_dashboard_new(cm_pg_t *admin, const cm_dashboard_options_t *options);
void cm_dashboard_destroy(
    cm_dashboard_t **self_p); /* what was measured and not committed is lost */
cm_dashboard_totals_t cm_dashboard_totals(const cm_dashboard_t *self);

/* Read the catalog of each database that holds tenants (one query each), then give each tenant of
 * the registry that has or should have a schema its row, with figures of catalog, registry and dead
 * letters, and take away the rows of all others, history included, and the references of deleted
 * tenants. Give all databases: tenants of
 * one that was left out look lost. */
cm_status_t cm_dashboard_begin(cm_dashboard_t *self, cm_pg_t *const *databases, size_t count,
                               cm_error_t *err);

typedef struct {
    char id[CM_TENANT_ID_MAX];
    cm_tenant_state_t state;
    bool is_whole; /* the catalog has its tables; else create them (cm_tenant_schema_activate) */
} cm_dashboard_tenant_t;

/* The tenants to measure (states active and suspended) behind the id `after`, "" from the
 * beginning, at most limit. *ret_tenants is yours (free). */
cm_status_t cm_dashboard_tenants(cm_dashboard_t *self, const char *after, size_t limit,
                                 cm_dashboard_tenant_t **ret_tenants, size_t *ret_count,
                                 cm_error_t *err);

typedef struct {
    int64_t tenants;         /* to measure */
    int64_t before;          /* of these, those up to the id `after`, itself included */
    int64_t drifting, stale; /* by their latest figures */
} cm_dashboard_census_t;
cm_status_t cm_dashboard_census(cm_dashboard_t *self, const char *after,
                                cm_dashboard_census_t *ret_census, cm_error_t *err);

/* Count one tenant (canonical id) in its database: one query, outside of a transaction. Whenever
 * CM_DASHBOARD_FLUSH_AT of them are measured they are committed, so that an error may be about the
 * store. CM_MISSING: its tables are not there; that is kept as its problem, its former figures
 * stay; go on. CM_TRANSIENT (a lock, a time-out): its former figures stay; try it again later. A
 * database that is the admin schema's is given as the connection of cm_dashboard_new(). */
cm_status_t cm_dashboard_measure(cm_dashboard_t *self, cm_pg_t *database, const char *tenant,
                                 cm_error_t *err);
/* Commit what is measured. */
cm_status_t cm_dashboard_flush(cm_dashboard_t *self, cm_error_t *err);
/* Flush; add each tenant's figures to the history, once for each time they were counted, and as
 * those of their day; prune the history in portions. */
cm_status_t cm_dashboard_finish(cm_dashboard_t *self, cm_error_t *err);

/* ---- references from elsewhere -------------------------------------------------------------- */

/* Put references in place of those of the same tenants, but none of a deleted one; without a time
 * they count as of now. Of several for one tenant the newest counts. */
cm_status_t cm_dashboard_reference_put(cm_dashboard_t *self, const cm_sync_reference_t *references,
                                       size_t count, cm_error_t *err);
/* Put what a query answers: columns tenant, devices, checksum, counted_at (timestamptz), the last
 * two may be NULL. It runs on source in a transaction that cannot write. CM_MISCONFIGURED /
 * "sync-query" when it cannot be run or lacks a column, CM_PERMANENT / "sync-reference" when a row
 * holds no tenant id or no count; then nothing is put. */
cm_status_t cm_dashboard_reference_query(cm_dashboard_t *self, cm_pg_t *source, const char *query,
                                         size_t *ret_count, cm_error_t *err);
/* Put the lines of a file (proto/sync_reference.h). CM_MISCONFIGURED / "sync-file" when it cannot
 * be read, CM_PERMANENT with the line's number when a line is wrong; then nothing is put. */
cm_status_t cm_dashboard_reference_file(cm_dashboard_t *self, const char *path, size_t *ret_count,
                                        cm_error_t *err);
#endif
