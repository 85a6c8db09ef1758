/* token_status_store - push verdicts of many tenants into their devices, in one commit.
 *
 * One prepared statement a tenant over binary unnest arrays, all in one pipeline. A verdict is
 * about the row of its client id, about every row of the application that holds its token when it
 * names none, and about the row of its client id only while it holds that very token when it has
 * both. It is stale when no row is, or when the row was registered after it (equal times count);
 * else it is a last-writer-wins register of its own, at equal times valid wins. Several verdicts of
 * a batch may be about one row: the best is written, the others are stale, or duplicate when they
 * say the same. Only push_status and push_status_at change, so that updates stay heap-only.
 *
 * A verdict that a token is gone does not reach the device while a brake is on for its tenant,
 * application and provider: it is held, one for each device and provider, the newest. What was
 * applied as gone is noted for 25 hours, so that a brake that goes on can take it back in the same
 * transaction. Where no instance can slip past: token_status_sql.c. Rule: events.md section 5.
 */
#ifndef CM_SCHEMA_TOKEN_STATUS_STORE_H
#define CM_SCHEMA_TOKEN_STATUS_STORE_H
#include "proto/tenant_id.h"
#include "runtime/pg.h"
#include "runtime/str.h"

#include <stdbool.h>

typedef enum {
    CM_TOKEN_PENDING, /* nothing known yet */
    CM_TOKEN_APPLIED, /* it changed at least one device */
    CM_TOKEN_HELD,    /* a brake is on */
    CM_TOKEN_STALE,
    CM_TOKEN_DUPLICATE,
    CM_TOKEN_FAILED /* see error */
} cm_token_result_t;

typedef struct {
    cm_str_t application_code;
    cm_str_t client_id, token; /* one may be absent */
    const char *provider;      /* "fcm"; "": judged by a sender that named none */
    bool is_gone;              /* else valid */
    int64_t at_ms;             /* epoch */
    cm_token_result_t result;
    bool is_braked; /* a brake was on for it, whatever its result; not told without a row */
    const cm_error_t *error; /* FAILED: owned by the store, valid until the next write */
} cm_token_verdict_t;

typedef struct { /* a brake to be put on before the verdicts of its tenant are written */
    cm_str_t application_code;
    const char *provider;
    int64_t judged, gone; /* verdicts that tripped it, for the record */
    int64_t since_ms;     /* take back what was applied as gone in so many milliseconds, */
    int64_t newest;       /* and at least so many verdicts, the newest */
    bool is_new;          /* result: it was off until now */
    int64_t taken_back;   /* result: devices whose status is unknown again */
} cm_token_trip_t;

typedef struct {
    char tenant[CM_TENANT_ID_MAX];
    cm_token_verdict_t *verdicts; /* in any order; caller's memory */
    size_t count;
    cm_token_trip_t *trips;
    size_t trip_count;
    bool is_tripped; /* result: the brakes of trips are on, whatever became of the verdicts */
} cm_token_tenant_t;

typedef struct cm_token_status_store cm_token_status_store_t;

/* pg and admin_schema are borrowed and must outlive it. */
cm_token_status_store_t *cm_token_status_store_new(cm_pg_t *pg, const char *admin_schema);
void cm_token_status_store_destroy(cm_token_status_store_t **self_p);

/* Write tenants (sorted by id, unique: asserted) in one transaction; blocking. CM_OK: every verdict
 * has its result. Should a tenant fail, the others are written without it, and it alone: deadlocks
 * and the like are tried again in place up to three times, a permanent fault is bisected until the
 * bad verdicts stand alone, anything else (a lock, a time-out, a missing schema, table or column)
 * fails the whole tenant. The error of a FAILED verdict is CM_TRANSIENT, CM_PERMANENT, CM_MISSING,
 * or CM_MISCONFIGURED or CM_UNAVAILABLE of its tenant alone. CM_UNAVAILABLE, CM_MISCONFIGURED (of
 * the whole connection): nothing is known; writing all again is safe. */
cm_status_t cm_token_status_store_write(cm_token_status_store_t *self, cm_token_tenant_t *tenants,
                                        size_t count, cm_error_t *err);

/* Forget what was noted too long ago to be taken back, at most `most` of it, in the schema of the
 * first tenant behind `after` ("": of all); one transaction, which waits for no row and 100 ms for
 * the table. ret_tenant tells whose, on failure, too; "": there is none behind `after`. */
cm_status_t cm_token_status_prune_next(cm_pg_t *pg, const char *admin_schema, const char *after,
                                       int64_t most, char ret_tenant[CM_TENANT_ID_MAX],
                                       int64_t *ret_forgotten, cm_error_t *err);

typedef struct {
    uint64_t statements;   /* that write verdicts */
    uint64_t transactions; /* committed */
    uint64_t isolations;
} cm_token_status_stats_t;
cm_token_status_stats_t cm_token_status_store_stats(const cm_token_status_store_t *self);
#endif
