/* pg - one PostgreSQL connection: connects without blocking, pipelines, classifies every failure.
 *
 * Owned by one thread. Statements given a key are prepared once and kept in an LRU of prepared_max;
 * while all of them are in use, a further one runs unprepared. A statement that PostgreSQL says is
 * gone or stale (26000, 0A000) is forgotten, so that a repetition prepares it anew.
 *
 * Session settings on connect: statement_timeout, lock_timeout, idle_in_transaction_session_timeout
 * 30 s, plan_cache_mode=force_generic_plan, search_path=pg_catalog,pg_temp, TimeZone=UTC,
 * client_min_messages=warning, synchronous_commit=on (we acknowledge what is committed, whatever
 * the server's default), target_session_attrs=read-write unless the URI says otherwise; keepalives
 * and tcp_user_timeout so that a dead peer is noticed within 10 s. A hung server times nothing out,
 * so one that is silent for statement_timeout + 1 to 5 s is given up (four of these time-outs in a
 * pipeline, where it answers every eighth statement): never raise that timeout with SET. Resolving
 * a host name blocks.
 *
 * A role that is named is taken in the start-up packet, too, so no statement ever runs as the login
 * itself. One that does not exist or is not granted to the login: CM_MISCONFIGURED / "role".
 *
 * Error messages carry the primary text only, never DETAIL or CONTEXT: those hold values. For
 * classes 22 and 23 even that one can, so they are told in our words, with the constraint or
 * column. Codes beside the SQLSTATEs: "connect", "link" (lost, silent, not open), "copy" (COPY is
 * refused), "role", "stopped".
 *
 * Rule: reliability, sections 2.3, 3.1.
 */
#ifndef CM_RUNTIME_PG_H
#define CM_RUNTIME_PG_H
#include "runtime/status.h"

#include <czmq.h>
#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CM_PG_ROLE_MAX = 64 };

typedef struct {                  /* borrowed texts must outlive the connection */
    const char *uri;              /* libpq URI or conninfo */
    const char *application_name; /* "client-manager writer/0" */
    char role[CM_PG_ROLE_MAX];    /* the session's role; letters, digits and '_'. "": the login */
    const char *role_mend;    /* command that grants it, told with the login when it is refused */
    int connect_timeout_ms;   /* 0 = 10 s; for all hosts of the URI together */
    int statement_timeout_ms; /* 0 = none */
    int lock_timeout_ms;      /* 0 = none */
    int tcp_user_timeout_ms;  /* 0 = 10 s */
    size_t prepared_max;      /* 0 = keys are ignored, nothing is prepared */
    /* NULL, or: called with every answer that a blocking call awaits, and once a second until it
     * comes, so that who waits can show a sign of life. It leaves the connection alone. */
    void (*on_wait)(void *ctx);
    /* NULL, or: asked as often while a call of "one at a time" waits for its answer. True ends the
     * wait with CM_CANCELLED / "stopped", and the connection with it: the outcome is unknown. */
    bool (*stopped)(void *ctx);
    void *wait_ctx; /* of both */
} cm_pg_options_t;

typedef struct cm_pg cm_pg_t;

cm_pg_t *cm_pg_new(const cm_pg_options_t *options); /* not yet connected; never NULL */
void cm_pg_destroy(cm_pg_t **self_p);

/* Connect (or reconnect), polling the socket; returns early with CM_CANCELLED when interrupt (may
 * be NULL) becomes readable, without reading it. CM_UNAVAILABLE: refused, timed out, starting up,
 * too many connections. CM_MISCONFIGURED: wrong password or database, bad URI; code is the SQLSTATE
 * when the server gave one (read from the verbose message), else "connect". */
cm_status_t cm_pg_connect(cm_pg_t *self, zsock_t *interrupt, cm_error_t *err);
void cm_pg_close(cm_pg_t *self);
bool cm_pg_is_connected(const cm_pg_t *self);
int64_t cm_pg_connected_at_ms(const cm_pg_t *self); /* monotonic; for recycling by age */
int cm_pg_fd(const cm_pg_t *self);                  /* -1 when closed */
PGconn *cm_pg_raw(cm_pg_t *self);                   /* for PQescapeIdentifier and the like */

/* ---- one at a time, blocking --------------------------------------------------------------- */

/* Run one or more statements without parameters. */
cm_status_t cm_pg_exec(cm_pg_t *self, const char *sql, cm_error_t *err);
/* Run one statement with text parameters (NULL = SQL NULL); *ret_result (may be NULL) is yours. */
cm_status_t cm_pg_query(cm_pg_t *self, const char *sql, int count, const char *const *values,
                        PGresult **ret_result, cm_error_t *err);
void cm_pg_clear(PGresult **result_p); /* for CM_CLEANUP */
/* Value of a result as text; "" for NULL. */
const char *cm_pg_text(const PGresult *result, int row, int column);
int64_t cm_pg_i64(const PGresult *result, int row, int column);
/* BEGIN / COMMIT / ROLLBACK. After a failed statement call rollback; it closes on doubt. BEGIN
 * inside a transaction, COMMIT of a failed one or of none: CM_TRANSIENT with 25001, 25P02, 25P01.
 */
cm_status_t cm_pg_begin(cm_pg_t *self, cm_error_t *err);
cm_status_t cm_pg_commit(cm_pg_t *self, cm_error_t *err);
void cm_pg_rollback(cm_pg_t *self);

/* ---- a pipeline: many statements, one transaction, one round trip -------------------------- */

typedef struct {
    const char *key; /* prepare under this key and keep; NULL = do not prepare */
    const char *sql; /* may be freed after the call; NULL: ask text */
    const char *(*text)(
        void *ctx); /* asked when it is not prepared yet; valid until the call is over */
    void *ctx;      /* of text */
    int count;
    const Oid *types;
    const char *const *values; /* copied before the call returns */
    const int *lengths;
    const int *formats; /* 0 text, 1 binary */
    int result_format;
} cm_pg_statement_t;

/* Called from pump for each statement in the order added (index from 0), except those never run
 * because an earlier one failed. On failure result holds the error; err is its class. The result is
 * borrowed. */
typedef void(cm_pg_result_fn)(void *ctx, size_t index, cm_status_t status, const PGresult *result,
                              const cm_error_t *err);

/* Open a pipeline that runs as one transaction (BEGIN and COMMIT are added). When begin or add
 * fails, or cm_pg_close() is called, the pipeline is over, the connection closed and nothing
 * committed; after a failed send the outcome is unknown. */
cm_status_t cm_pg_pipeline_begin(cm_pg_t *self, cm_pg_result_fn *on_result, void *ctx,
                                 cm_error_t *err);
/* The same inside the transaction of a cm_pg_begin(), which the caller ends: done means that all
 * statements have run, and after a failure the transaction has failed and is to be rolled back.
 * When none is open, or a failed one: CM_TRANSIENT with 25P01 or 25P02, and the connection as it
 * was. */
cm_status_t cm_pg_pipeline_begin_within(cm_pg_t *self, cm_pg_result_fn *on_result, void *ctx,
                                        cm_error_t *err);
cm_status_t cm_pg_pipeline_add(cm_pg_t *self, const cm_pg_statement_t *statement, cm_error_t *err);
/* COMMIT, Sync and a first flush; returns without waiting. */
cm_status_t cm_pg_pipeline_send(cm_pg_t *self, cm_error_t *err);
/* Continue without blocking: call when the socket is readable (or writable, see below), and once a
 * second or so in between, so that a silent server is noticed.
 * CM_OK with *ret_done false: not finished. CM_OK with *ret_done true: committed. Anything else:
 * the pipeline is over and nothing of it is committed, err tells the first failure and *ret_failed
 * its statement index (-1: BEGIN, COMMIT or the link; CM_UNAVAILABLE then means outcome unknown).
 * The connection is usable again unless cm_pg_is_connected() says no. */
cm_status_t cm_pg_pipeline_pump(cm_pg_t *self, bool *ret_done, int *ret_failed, cm_error_t *err);
bool cm_pg_pipeline_wants_write(const cm_pg_t *self);
/* pump until done, polling the socket; CM_CANCELLED is never returned: a commit is awaited. */
cm_status_t cm_pg_pipeline_wait(cm_pg_t *self, int *ret_failed, cm_error_t *err);

/* One statement, blocking, inside a transaction of cm_pg_begin() or alone; it is not prepared, its
 * key and text are left aside (sql must be set). *ret_result (may be NULL) is yours. */
cm_status_t cm_pg_run(cm_pg_t *self, const cm_pg_statement_t *statement, PGresult **ret_result,
                      cm_error_t *err);

/* ---- classes ------------------------------------------------------------------------------- */

/* The class of an SQLSTATE outside DDL: reliability section 3.1, each line tested. "" is
 * CM_UNAVAILABLE (link lost). *ret_known (may be NULL) false: not in the table, treated as
 * transient, to be counted as unclassified. */
cm_status_t cm_pg_classify(const char *sqlstate, bool *ret_known);
/* True for deadlock and serialisation failures and the like, worth up to three retries in place. */
bool cm_pg_is_quick_retry(const char *sqlstate);
/* True when err is about the rows or tables that were written, and others may do well: a class that
 * is none of the connection's, tables that are not as we know them (42..., but 42501 is our right),
 * damage to one table or index (XX001, XX002), which is no outage. */
bool cm_pg_is_isolable(const cm_error_t *err);
/* Number of SQLSTATEs seen on this connection that the table does not know. */
uint64_t cm_pg_unclassified(const cm_pg_t *self);
#endif
