/* device_store - device changes of many tenants into their schemas, by the order rule, in one
 * commit.
 *
 * One prepared statement per tenant over binary unnest arrays, all in one pipeline; names
 * qualified. The order rule is in the statement: a register is taken when its time is newer than
 * the row's (equal times: proto/device_order.h), and not at or before the device's tombstone; what
 * changes nothing writes nothing. Removals take the tenant's tombstone table first, so that no
 * older change can slip in beside them from another connection. A change that would set a contact
 * at or before its deletion is the removal of its device as of that deletion: APPLIED when that
 * removed something or left a tombstone, else STALE. Rule: DESIGN section 6, events.md section 4,
 * reliability section 3.4, limits section 1.
 */
#ifndef CM_SCHEMA_DEVICE_STORE_H
#define CM_SCHEMA_DEVICE_STORE_H
#include "proto/device_order.h"
#include "proto/tenant_id.h"
#include "runtime/pg.h"

typedef enum {
    CM_CHANGE_PENDING, /* nothing known yet */
    CM_CHANGE_APPLIED,
    CM_CHANGE_STALE,
    CM_CHANGE_DUPLICATE,
    CM_CHANGE_FAILED /* see error */
} cm_change_result_t;

typedef struct {
    cm_device_change_t change;
    cm_change_result_t result;
    const cm_error_t *error; /* FAILED: owned by the store, valid until the next begin */
    bool erased; /* its contact was deleted: change became the removal that this means */
} cm_store_item_t;

typedef struct {
    char tenant[CM_TENANT_ID_MAX];
    cm_store_item_t *items; /* sorted by key, keys unique (asserted); caller's memory */
    size_t count;
    bool on_trial; /* it timed out lately: its statements get little time, see patience */
} cm_store_tenant_t;

typedef struct cm_device_store cm_device_store_t;

/* Both are borrowed and must outlive it. In admin_schema tenants are noted in whose tables a
 * deleted contact's device was found (schema/erasure.h). */
cm_device_store_t *cm_device_store_new(cm_pg_t *pg, const char *admin_schema);
void cm_device_store_destroy(cm_device_store_t **self_p);
/* Before the first write; borrowed. By which deleted contacts are known, "" until it is set
 * (proto/erasure_hash.h). */
void cm_device_store_set_erasure_key(cm_device_store_t *self, const char *key);

/* How long one tenant may hold up the others; 0 = the default. All are bounded by
 * statement_timeout. */
typedef struct {
    int statement_ms; /* 3 s: a statement while isolating */
    int trial_ms;     /* 1 s: a statement of a tenant on trial */
    int isolate_ms;   /* 20 s: then isolate decides no more, but for what is under way */
} cm_device_patience_t;
void cm_device_store_set_patience(cm_device_store_t *self, const cm_device_patience_t *patience);

/* Build and send one transaction for tenants (sorted by id, unique), without waiting for it (but
 * for one round trip on a new connection, which sets session settings). tenants and the texts in
 * them are borrowed until the write has ended. */
cm_status_t cm_device_store_begin(cm_device_store_t *self, cm_store_tenant_t *tenants, size_t count,
                                  cm_error_t *err);
/* Continue without blocking when the connection's socket is ready. CM_OK with *ret_done true: the
 * write is committed and every item is APPLIED, STALE or DUPLICATE. CM_TRANSIENT, CM_PERMANENT,
 * CM_MISSING: the failure of a tenant (a column that is missing in its table, too) or a row, call
 * cm_device_store_isolate(). CM_UNAVAILABLE, CM_MISCONFIGURED: nothing known; reconnect and begin
 * again, which is safe to do whatever became of it. */
cm_status_t cm_device_store_pump(cm_device_store_t *self, bool *ret_done, cm_error_t *err);
bool cm_device_store_wants_write(const cm_device_store_t *self);

/* Is the device table of tenant free of locks that a write would wait for? Does not wait itself:
 * one round trip, a second one when it is. CM_TRANSIENT with 55P03 when it is locked; CM_MISSING
 * and the others as for a write. Not during a write. */
cm_status_t cm_device_store_try_lock(cm_device_store_t *self, const char *tenant, cm_error_t *err);

/* After a failed write, find what is to blame; blocking. The tenant whose statement failed is set
 * apart and the others are written again; within it, deadlocks and the like are tried again in
 * place up to three times, a permanent fault is bisected until the bad rows stand alone (at most
 * 2 k log2(n) + 1 statements more for k bad rows of n, twice that where removals are among them), a
 * lock time-out, a missing schema or a missing column fails the whole tenant, a statement time-out
 * halves it; after the fourth time-out the rest of it fails, of a tenant on trial after the first.
 * Another passing fault is bisected too, but it has to be of some rows: after twelve without a
 * success between them the rest fails.
 * What the patience does not suffice for fails as CM_TRANSIENT / "isolation", unless the tenant's
 * own failure is as good. CM_OK: every item of the write has its result; the error of a FAILED one
 * is CM_TRANSIENT, CM_PERMANENT, CM_MISSING, or CM_MISCONFIGURED of its tenant. CM_UNAVAILABLE,
 * CM_MISCONFIGURED (of the whole connection): as above, items already written say so again when
 * repeated. */
cm_status_t cm_device_store_isolate(cm_device_store_t *self, cm_error_t *err);

/* begin, pump until done, isolate if need be: for tools and tests. Blocking. */
cm_status_t cm_device_store_write(cm_device_store_t *self, cm_store_tenant_t *tenants, size_t count,
                                  cm_error_t *err);

typedef struct {
    uint64_t statements;   /* data statements sent, prepared or not */
    uint64_t rows;         /* changes sent in them */
    uint64_t transactions; /* committed */
    uint64_t isolations;
    size_t tenants_touched; /* since the connection was made: for recycling it */
} cm_device_store_stats_t;
cm_device_store_stats_t cm_device_store_stats(const cm_device_store_t *self);
#endif
