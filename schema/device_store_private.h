/* device_store_private - what the files of the device store share; included by them alone.
 *
 * An attempt writes groups (a tenant and some of its items) in one transaction and then finds out
 * what became of each item:
 *
 *     WRITE --all rows written--> over        the usual case: one round trip
 *     WRITE --some were not--> SETTLE --stale or there already--> over
 *                                 ^ \--the short statement left them alone--> EXACT --+
 *                                 +----------------------------------------------------+
 *
 * Of a group of few items WRITE learns only how many rows were written. If not all, SETTLE looks at
 * every one of them, and knows the written ones by their transaction; one that somebody has changed
 * since is told as a duplicate or stale.
 *
 * What settle finds to be of a deleted contact becomes a removal there and then, and EXACT sends
 * it.
 */
#ifndef CM_SCHEMA_DEVICE_STORE_PRIVATE_H
#define CM_SCHEMA_DEVICE_STORE_PRIVATE_H
#include "proto/erasure_hash.h"
#include "schema/device_store.h"
#include "schema/pg_array.h"

typedef struct {
    const char *tenant;
    cm_store_item_t **items;
    size_t count;
    bool on_trial;
    unsigned char *parts; /* per item: what of it PostgreSQL wrote, CM_DEVICE_PART_... */
    bool *wanted;         /* while settling, per item: to be written by EXACT */
    bool erases;          /* some of its items became removals: EXACT sends those, too */
    const cm_erasure_key_t *erasure_key;
} cm_device_group_t;

enum { CM_DEVICE_PART_REMOVAL = 1, CM_DEVICE_PART_REGISTERS = 2 };

typedef enum {
    CM_DEVICE_PHASE_NONE,
    CM_DEVICE_PHASE_WRITE,
    CM_DEVICE_PHASE_SETTLE,
    CM_DEVICE_PHASE_EXACT
} cm_device_phase_t;

typedef enum {
    CM_DEVICE_STEP_LIMIT,
    CM_DEVICE_STEP_LOCK,
    CM_DEVICE_STEP_REMOVE,
    CM_DEVICE_STEP_NOTE,
    CM_DEVICE_STEP_UPSERT,
    CM_DEVICE_STEP_UPSERT_COUNTED,
    CM_DEVICE_STEP_XID,
    CM_DEVICE_STEP_SETTLE
} cm_device_step_kind_t;

typedef struct { /* a statement sent */
    cm_device_step_kind_t kind;
    size_t group;
} cm_device_step_t;

typedef struct cm_device_touched cm_device_touched_t; /* set of tenants, in device_write.c */

struct cm_device_store {
    cm_pg_t *pg;
    cm_arena_t *arena; /* groups, errors; until the next begin */
    cm_pg_arrays_t arrays;
    cm_buffer_t sql;
    cm_device_store_stats_t stats;
    int backend; /* the connection that session settings and `touched` belong to */
    int64_t connected_at_ms;
    cm_device_touched_t *touched;
    cm_device_patience_t patience;
    const char *admin_schema, *erasure_key;
    cm_pg_row_type_t row_type; /* of this connection's database */
    int64_t isolate_until_ms;  /* monotonic; 0: not isolating */
    int limit_ms;              /* of the next statement, 0: that of the connection */

    cm_device_phase_t phase;
    cm_device_group_t *groups; /* of this phase; after a failure those without a result */
    size_t group_count;
    cm_device_step_t *steps;
    size_t step_count, step_cap;
    bool removals_sent; /* in this phase */
    bool counts;        /* in this phase rows are counted only */
    char xid[24];       /* of the last write that did so */
    int rounds;

    cm_error_t failure;
    size_t failed_group; /* SIZE_MAX: no group is to blame */
};

/* Send the first transaction. exact: use the full order rule at once; unprepared, for few groups.
 */
cm_status_t cm_device_attempt_start(cm_device_store_t *self, cm_device_group_t *groups,
                                    size_t count, bool exact, cm_error_t *err);
/* As cm_device_store_pump(). */
cm_status_t cm_device_attempt_pump(cm_device_store_t *self, bool *ret_done, cm_error_t *err);
/* start, and pump until over. */
cm_status_t cm_device_attempt_run(cm_device_store_t *self, cm_device_group_t *groups, size_t count,
                                  bool exact, cm_error_t *err);

void cm_device_touched_clear(cm_device_store_t *self);
#endif
