/* lease - one holder at a time across all instances, by the database's clock, with fencing.
 *
 * A lease is a row of the admin schema's table leases. Each time it is acquired its term rises; a
 * holder is who knows the current term, and only until the lease runs out. All comparisons are done
 * by the server with its own clock: what the clocks of the instances show does not matter.
 *
 * Every transaction that writes on behalf of a lease begins with cm_lease_check(), which holds the
 * row FOR KEY SHARE until the transaction ends. So whoever takes the lease over waits for such a
 * transaction, and one that begins after the take-over is refused: an instance that slept through
 * its lease writes nothing. Renewing and releasing wait for no such transaction. One that stands
 * still is ended by the connection's idle_in_transaction_session_timeout (runtime/pg.h).
 *
 * Rule: DESIGN section 9; fencing as in Kleppmann, "How to do distributed locking".
 */
#ifndef CM_SCHEMA_LEASE_H
#define CM_SCHEMA_LEASE_H
#include "runtime/pg.h"

enum { CM_LEASE_NAME_MAX = 64, CM_LEASE_HOLDER_MAX = 128 };

typedef struct {
    char name[CM_LEASE_NAME_MAX];
    char holder[CM_LEASE_HOLDER_MAX];
    int64_t term;        /* from 1 */
    int64_t acquired_ms; /* epoch, the database's clock, as the next two */
    int64_t expires_ms;
    int64_t now_ms; /* when this was read */
} cm_lease_t;

/* Take the lease if nobody holds it. name and holder: text that fits above (asserted); holder is
 * unlike for every process, and for every start of it: who calls again while the lease is held gets
 * false even under the same holder. duration_ms: 1 ms to 24 h (asserted). Outside any
 * transaction (asserted); after a lost link nobody may know of a lease that was taken: it runs out.
 * CM_TRANSIENT / 55P03 when it waits for a
 * write of the last holder longer than lock_timeout. *ret_acquired false: *ret_lease tells who
 * holds it; its term is not yours. */
cm_status_t cm_lease_acquire(cm_pg_t *pg, const char *admin_schema, const char *name,
                             const char *holder, int64_t duration_ms, bool *ret_acquired,
                             cm_lease_t *ret_lease, cm_error_t *err);

/* Let it last duration_ms from now on; lease is updated. CM_PERMANENT / "lease-lost": it ran out or
 * was taken; then it stays lost, though nobody may have taken it. */
cm_status_t cm_lease_renew(cm_pg_t *pg, const char *admin_schema, cm_lease_t *lease,
                           int64_t duration_ms, cm_error_t *err);

/* Give it back, so that the next need not wait. CM_PERMANENT / "lease-lost" as above. */
cm_status_t cm_lease_release(cm_pg_t *pg, const char *admin_schema, const cm_lease_t *lease,
                             cm_error_t *err);

/* The fence: first statement of a transaction that writes on behalf of the lease, which must be
 * open (asserted). CM_PERMANENT / "lease-lost": it is held by another term or ran out; roll back
 * and stop. CM_TRANSIENT / 55P03 when it waits for a take-over longer than lock_timeout. */
cm_status_t cm_lease_check(cm_pg_t *pg, const char *admin_schema, const cm_lease_t *lease,
                           cm_error_t *err);

/* Who holds it, or held it last (expires_ms <= now_ms). CM_PERMANENT / "not-found": nobody ever. */
cm_status_t cm_lease_find(cm_pg_t *pg, const char *admin_schema, const char *name,
                          cm_lease_t *ret_lease, cm_error_t *err);
#endif
