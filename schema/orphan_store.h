/* orphan_store - delete the devices of one tenant that have had no contact for long.
 *
 * What an orphan is: schema/orphan_sql.h. Everything is by the database's clock; this process's is
 * never asked. First the tenant is counted; when more would go than the guard allows, nothing does.
 * Then batches in order of the key: a page of rows is read without any lock but a reader's, the
 * orphans in it are deleted in a transaction of their own, which asks the condition anew, so that a
 * device whose contact came meanwhile stays.
 *
 * A deletion is a removal (events.md, section 4) at the time of its statement: it leaves a
 * tombstone, so that older events stay stale and a later registration makes the device anew. A
 * device with a register from the future (a sender's clock may be a day ahead) would outlive such a
 * removal, so it is left for a later run.
 *
 * Locks: devices, then tombstones in ACCESS EXCLUSIVE mode, as every removal
 * (schema/device_sql.c). Row locks alone cannot do: an upsert that waits for the row of a deletion
 * inserts it anew when that has committed, with a snapshot from before the tombstone, and an older
 * event would bring the device back. So the locks are held for a batch of 1,000 keys that are known
 * already, and waited for only as long as writers may be made to queue behind. Whoever reads for
 * long (a backup) is waited for in vain, and so is an autovacuum: it gives way only to one who has
 * waited longer than deadlock_timeout (1 s), which is what a longer lock_timeout_ms is for.
 *
 * No index serves it: one over created_at would cost every insert, and reading pages of a thousand
 * tenants does not hurt. Rule: DESIGN section 6, reliability section 4.5.
 */
#ifndef CM_SCHEMA_ORPHAN_STORE_H
#define CM_SCHEMA_ORPHAN_STORE_H
#include "runtime/pg.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CM_ORPHAN_DAY_S = 24 * 60 * 60, CM_ORPHAN_AGE_DEFAULT_S = 30 * CM_ORPHAN_DAY_S };

/* ---- whom it does not touch ----------------------------------------------------------------- */

/* The table orphan_rules of the admin schema and the caller's list of tenants, read once a run. */
typedef struct cm_orphan_rules cm_orphan_rules_t;

/* excluded[0..count): ids as a person writes them. Whatever goes wrong must stop the job, not the
 * tenant, and says so: CM_MISCONFIGURED / "orphan-rules" when the table is not there, cannot be
 * read, or an id is none; CM_UNAVAILABLE and CM_TRANSIENT as they come. */
cm_status_t cm_orphan_rules_load(cm_pg_t *pg, const char *admin_schema, const char *const *excluded,
                                 size_t count, cm_orphan_rules_t **ret_rules, cm_error_t *err);
void cm_orphan_rules_destroy(cm_orphan_rules_t **self_p);
bool cm_orphan_rules_excludes(const cm_orphan_rules_t *self, const char *tenant);
/* The age for a tenant: its own, else age_s. */
int64_t cm_orphan_rules_age_s(const cm_orphan_rules_t *self, const char *tenant, int64_t age_s);

/* ---- deleting ------------------------------------------------------------------------------- */

typedef struct {
    bool excluded;      /* by the rules: nothing was read */
    bool guarded;       /* the guard does not let it go */
    int64_t devices;    /* of the tenant, when counted */
    int64_t orphans;    /* of these */
    int64_t deleted;    /* committed */
    int64_t batches;    /* transactions committed */
    int64_t lock_waits; /* transactions given up because somebody held a lock too long */
} cm_orphan_result_t;

typedef struct {                    /* a number that is 0 is the default */
    int64_t age_s;                  /* CM_ORPHAN_AGE_DEFAULT_S; the rules of a tenant go before */
    bool force;                     /* allows an age below a day, and lets the guard go by */
    bool dry_run;                   /* count only */
    int guard_percent;              /* 20: at most this share of the devices may go in a run ... */
    int64_t guard_above;            /* 100: ... of a tenant that has more devices than this */
    int batch_max;                  /* 1,000 devices a transaction */
    int page_max;                   /* 20,000 rows a read */
    int lock_timeout_ms;            /* 100: writers of the tenant queue behind a wait for a lock */
    int lock_tries;                 /* 5 attempts at a batch */
    const cm_orphan_rules_t *rules; /* never NULL (asserted) */
    /* Called first inside each transaction that deletes; anything but CM_OK ends the call with it.
     * NULL: none. */
    cm_status_t (*fence)(void *ctx, cm_pg_t *pg, cm_error_t *err);
    /* Called outside of transactions: after each read of a page, after each batch, and after a lock
     * could not be had, then with waited true. May sleep as long as it thinks right; false: stop.
     * NULL: goes on at once. */
    bool (*pace)(void *ctx, const cm_orphan_result_t *so_far, bool waited);
    void *ctx; /* of both */
} cm_orphan_options_t;

/* Delete the orphans of one tenant (canonical id). Repeating it, after a kill too, deletes what is
 * left; the guard then counts anew. *ret_result tells what was done, whatever is returned:
 *
 * CM_OK: all gone, or excluded, or a dry run (see guarded). CM_PERMANENT / "orphan-guard": more
 * would go than may; before the first batch, or, when orphans became more meanwhile, in between.
 * CM_MISCONFIGURED / "orphan-age": below a day without force. CM_TRANSIENT / 55P03 and deadlocks:
 * lock_tries were not enough, try this tenant again later. CM_MISSING: its tables are not there.
 * CM_CANCELLED: pace said stop. Of the fence what it returns; of PostgreSQL, see cm_pg_classify().
 */
cm_status_t cm_orphan_delete(cm_pg_t *pg, const char *tenant, const cm_orphan_options_t *options,
                             cm_orphan_result_t *ret_result, cm_error_t *err);
#endif
