/* audit_log - the append-only, gapless, hash-chained table of what was done to tenants, by whom.
 *
 * Rows hold ids, counts, times and hashes, never personal data of a customer: the log outlives what
 * it tells of. How rows are chained: schema/audit_chain.h. What the database refuses, and to whom:
 * schema/admin/0002_audit_log.sql.
 *
 * A chain cannot show that its end was cut off, nor, without key, that all of it was written anew:
 * the caller of cm_audit_append() logs the head it got back, a command prints it on stderr, so that
 * there is an anchor outside the database, which cm_audit_verify() can be held against.
 * Rule: reliability, section 4.1.
 */
#ifndef CM_SCHEMA_AUDIT_LOG_H
#define CM_SCHEMA_AUDIT_LOG_H
#include "runtime/pg.h"
#include "schema/audit_chain.h"

typedef struct {
    const char *actor;  /* "tenant-activator", "operator:1000" */
    const char *action; /* "tenant-activated" */
    const char *tenant; /* canonical id; NULL or "": none */
    int64_t generation; /* of the tenant, 0: none */
    const char *detail; /* a JSON object without personal data, at most 64 KiB; NULL or "": {} */
} cm_audit_entry_t;

/* Append an entry inside the caller's open transaction (asserted), so that it is there exactly if
 * what it tells of is. key: NULL or "" for none. ret_head (may be NULL): the new end of the log.
 *
 * Appends of all connections wait for one another from here to the end of the transaction: make it
 * the last statement, or others wait for the rest of your work and may deadlock with it. The time
 * is the server's, taken when the wait is over.
 *
 * CM_TRANSIENT / 55P03 when the wait exceeds lock_timeout. CM_PERMANENT for a detail that is no
 * JSON object (22P02, 23514), and "audit-isolation" unless the transaction is READ COMMITTED: it
 * would not see what was appended while it waited. CM_MISCONFIGURED / "audit-key" when the log is
 * kept with another key, or with one and none was given; a log begun without one goes on with it.
 */
cm_status_t cm_audit_append(cm_pg_t *pg, const char *admin_schema, const char *key,
                            const cm_audit_entry_t *entry, cm_audit_head_t *ret_head,
                            cm_error_t *err);

/* For functions that append on behalf of their caller: who, with which key, and what came of it. */
typedef struct {
    const char *key, *actor;
    cm_audit_head_t head; /* written by the function; position 0: nothing was appended */
} cm_audit_trail_t;

/* ---- reading -------------------------------------------------------------------------------- */

typedef struct { /* a member that is empty, NULL or 0 does not filter */
    const char *tenant, *action;
    int64_t since_ms, until_ms; /* epoch, since <= t < until */
    int64_t limit;
    bool newest_first; /* else in order of position */
} cm_audit_filter_t;

/* Call on_row for each row until it says false. One snapshot, read page by page through a cursor in
 * a transaction of its own; row and its texts live during the call. CM_MISSING: there is no log. */
cm_status_t cm_audit_each(cm_pg_t *pg, const char *admin_schema, const cm_audit_filter_t *filter,
                          bool (*on_row)(void *ctx, const cm_audit_row_t *row), void *ctx,
                          cm_error_t *err);

typedef enum {
    CM_AUDIT_INTACT,
    CM_AUDIT_GAP,       /* the row of this position is not there, a later one is */
    CM_AUDIT_ORDER,     /* a second row of this position, or one without */
    CM_AUDIT_PREVIOUS,  /* it does not name the hash of the row before */
    CM_AUDIT_HASH,      /* its hash is not that of its fields */
    CM_AUDIT_KEY,       /* it names another key */
    CM_AUDIT_UNKEYED,   /* it has no key where it should */
    CM_AUDIT_ANCHOR,    /* it is not the row that the expected head tells of */
    CM_AUDIT_TRUNCATED, /* the log ends before this position, which the expected head has */
} cm_audit_fault_t;
const char *cm_audit_fault_name(cm_audit_fault_t fault); /* "intact", "gap", ... */

typedef struct {
    const cm_audit_head_t *expected; /* a head known from elsewhere; NULL: none */
    int64_t unkeyed_until;           /* with a key: rows up to here may be from before it */
    void (*on_progress)(void *ctx, int64_t done, int64_t total); /* may be NULL */
    void *ctx;
} cm_audit_verify_t;

typedef struct {
    cm_audit_fault_t fault;
    int64_t position;   /* first broken one; 0 when intact */
    int64_t rows;       /* found good */
    int64_t unkeyed;    /* of these, those with a plain hash */
    int64_t clock_back; /* rows with a time before that of their predecessor: the server's clock
                           was set back; the chain is not broken by it */
    int64_t clock_back_position; /* the first of these */
    cm_audit_head_t head;        /* the last good row */
} cm_audit_report_t;

/* Recompute the whole chain, up to the first fault. CM_OK whatever was found: see *ret_report. */
cm_status_t cm_audit_verify(cm_pg_t *pg, const char *admin_schema, const char *key,
                            const cm_audit_verify_t *how, cm_audit_report_t *ret_report,
                            cm_error_t *err);
#endif
