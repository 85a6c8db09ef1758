/* erasure - the key that erased contacts are known by, and the rewrite that rids files of their
 * bytes.
 *
 * A deleted row's bytes stay in the free space of its page after VACUUM, when other rows live
 * there; an index keeps them likewise. So each erasure notes its tenant, and later its tables are
 * rewritten, with all their indexes and TOAST, from the rows that are: a rewriting ALTER TABLE,
 * which, unlike VACUUM FULL, runs in a transaction, copies no row that is dead, however old the
 * oldest snapshot, and removes the note in the same commit. The old files are emptied at the commit
 * and unlinked with the next checkpoint. WAL and backups keep the bytes until they age out. It
 * holds the tables ACCESS EXCLUSIVE until the commit: their writers wait, or park that tenant.
 *
 * The rewriting needs the owner of the tables. Blocking. Rule: reliability sections 4.3 and 4.4.
 */
#ifndef CM_SCHEMA_ERASURE_H
#define CM_SCHEMA_ERASURE_H
#include "proto/tenant_id.h"
#include "runtime/pg.h"

/* Is key the one that this database's tombstones are made with? The first one asked about is
 * recorded and is it. CM_MISCONFIGURED / "erasure-key" for another. One query; two the first time.
 */
cm_status_t cm_erasure_key_check(cm_pg_t *pg, const char *admin_schema, const char *key,
                                 cm_error_t *err);

/* Note, inside the erasure's transaction, that tables are to be rewritten: those of tenant, or with
 * "" the dead letters. After the locks of what was erased. */
extern const char cm_erasure_note_sql[]; /* $1: tenant; admin schema */
cm_status_t cm_erasure_note(cm_pg_t *pg, const char *admin_schema, const char *tenant,
                            cm_error_t *err);
/* Several at once, $1: text[], in order of id but "" last. */
extern const char cm_erasure_note_all_sql[];

typedef struct {
    int64_t tenants;       /* noted, the dead letters among them */
    int64_t oldest_age_ms; /* since the oldest erasure, 0: none */
} cm_erasure_pending_t;
cm_status_t cm_erasure_pending(cm_pg_t *pg, const char *admin_schema,
                               cm_erasure_pending_t *ret_pending, cm_error_t *err);

typedef struct {
    const char *after; /* only notes of tenants behind this id; NULL: from the first, "" included */
    int64_t older_ms;  /* only notes as old as this that are not put off; 0: all */
    const char *only;  /* only this tenant, NULL: any */
    bool noted_or_not; /* with only: whether noted or not */
    const char *key;   /* erasure.key */
    int64_t lock_ms;   /* wait so long for a table */
} cm_erasure_choice_t;

typedef enum {
    CM_ERASURE_NONE,      /* nothing (more) is noted, or others are at it */
    CM_ERASURE_REWRITTEN, /* ret_tenant tells whose tables */
    CM_ERASURE_ABSENT     /* it has no schema: nothing to rewrite, no longer noted */
} cm_erasure_step_t;

/* Rewrite the tables of the next tenant that choice fits, in order of id; one transaction. First it
 * catches up on what an erasure could not see: dead letters and held verdicts of devices that were
 * removed since. On failure ret_tenant tells whose it was ("" too: the dead letters); CM_TRANSIENT
 * / 55P03: its tables are busy; CM_MISSING: one is not there although the schema is. It stays
 * noted. */
cm_status_t cm_erasure_sweep_next(cm_pg_t *pg, const char *admin_schema,
                                  const cm_erasure_choice_t *choice,
                                  char ret_tenant[CM_TENANT_ID_MAX], cm_erasure_step_t *ret_step,
                                  cm_error_t *err);
/* Tables that cannot be rewritten in the time there is must not be locked again and again: leave
 * them alone for 10 minutes, then 20, up to a day. */
cm_status_t cm_erasure_put_off(cm_pg_t *pg, const char *admin_schema, const char *tenant,
                               cm_error_t *err);
#endif
