/* pg_private - what the files of runtime/pg share; included by them alone. */
#ifndef CM_RUNTIME_PG_PRIVATE_H
#define CM_RUNTIME_PG_PRIVATE_H
#include "runtime/hash.h"
#include "runtime/pg.h"

/* ---- prepared statements (pg_prepared.c) --------------------------------------------------- */

enum { CM_PG_PREPARED_NAME_MAX = 16 };

/* One prepared statement. It is cached (in use, found by key) or retired (to be deallocated); a
 * retired one is kept until PostgreSQL has confirmed, because a failing pipeline skips its
 * DEALLOCATE. */
typedef struct cm_pg_prepared {
    char *key;
    char name[CM_PG_PREPARED_NAME_MAX]; /* never used twice on a connection */
    bool on_server;                     /* its PREPARE was confirmed */
    uint64_t used_at;                   /* uses of the cache, up to its last */
    struct cm_pg_prepared *prev, *next; /* while retired */
    UT_hash_handle hh;                  /* while cached */
} cm_pg_prepared_t;

typedef struct {
    cm_pg_prepared_t *cached; /* hash; its insertion order is the order of last use */
    cm_pg_prepared_t *retired;
    uint32_t last_id;
    uint64_t uses;
    bool deallocate_all; /* the server lost some: make it forget the rest, too */
} cm_pg_cache_t;

/* The cached statement of key, now the most recently used one; NULL when there is none. */
cm_pg_prepared_t *cm_pg_cache_use(cm_pg_cache_t *self, const char *key);
cm_pg_prepared_t *cm_pg_cache_add(cm_pg_cache_t *self, const char *key);
size_t cm_pg_cache_count(const cm_pg_cache_t *self);
cm_pg_prepared_t *cm_pg_cache_oldest(const cm_pg_cache_t *self);
/* It was used lately: within a few times as many uses as there may be statements. */
bool cm_pg_cache_is_in_use(const cm_pg_cache_t *self, const cm_pg_prepared_t *prepared, size_t max);
bool cm_pg_cache_is_retired(const cm_pg_cache_t *self, const cm_pg_prepared_t *prepared);
void cm_pg_cache_retire(cm_pg_cache_t *self, cm_pg_prepared_t *prepared); /* no-op when it is */
void cm_pg_cache_remove(cm_pg_cache_t *self, cm_pg_prepared_t *prepared); /* and free */
void cm_pg_cache_clear(cm_pg_cache_t *self);

/* ---- the connection ------------------------------------------------------------------------ */

typedef enum {
    CM_PG_ITEM_BEGIN,
    CM_PG_ITEM_DEALLOCATE,
    CM_PG_ITEM_DEALLOCATE_ALL,
    CM_PG_ITEM_PREPARE,
    CM_PG_ITEM_STATEMENT,
    CM_PG_ITEM_COMMIT,
    CM_PG_ITEM_ROLLBACK,
    CM_PG_ITEM_SYNC
} cm_pg_item_kind_t;

typedef struct { /* a command sent, whose result is awaited */
    cm_pg_item_kind_t kind;
    int index;                  /* statement it belongs to; -1 when none */
    cm_pg_prepared_t *prepared; /* not to be followed once the item was skipped */
} cm_pg_item_t;

typedef enum {
    CM_PG_PHASE_NONE,    /* no pipeline */
    CM_PG_PHASE_ADDING,  /* between begin and send */
    CM_PG_PHASE_RUNNING, /* sent up to the Sync */
    CM_PG_PHASE_UNDOING, /* failed; ROLLBACK and its Sync are under way */
    CM_PG_PHASE_OVER     /* all results are in */
} cm_pg_phase_t;

typedef struct {
    cm_pg_phase_t phase;
    cm_pg_result_fn *on_result;
    void *ctx;
    cm_pg_item_t *items; /* in the order sent */
    size_t item_count, item_cap, item_next;
    int statement_count, statements_over; /* added; of these, done or failed */
    bool answered; /* the item at item_next has had its result, its end is awaited */
    bool wants_write, failed, close_after;
    bool is_within; /* the transaction is the caller's, to be left open */
    int failed_index;
    cm_error_t failure;
    int64_t progress_at_ms; /* monotonic; when the socket last moved */
} cm_pg_pipeline_t;

struct cm_pg {
    cm_pg_options_t options;
    PGconn *conn; /* NULL when closed; non-blocking */
    int64_t connected_at_ms;
    uint64_t unclassified;
    cm_pg_cache_t cache;
    cm_pg_pipeline_t pipeline;
};

/* Fill err from a failed result (pg_sqlstate.c) and count what the table does not know. Sets
 * *ret_close when the connection must not be used again. A result without SQLSTATE, or NULL, means
 * that the link is lost. */
cm_status_t cm_pg_error_of_result(cm_pg_t *self, const PGresult *result, bool *ret_close,
                                  cm_error_t *err);
/* True for FATAL and PANIC, and for what libpq itself made of a lost link. */
bool cm_pg_ends_session(const PGresult *result);
/* libpq could not send: the link is lost. Fills err and closes. */
cm_status_t cm_pg_send_failed(cm_pg_t *self, cm_error_t *err);
/* The first line of text that a library wrote, cut before any quoted text when unquoted is true. */
void cm_pg_first_line(char *line, size_t size, const char *text, bool unquoted);
/* Fill err from what libpq says of a connection attempt that failed (verbosity VERBOSE). */
cm_status_t cm_pg_error_of_connect(cm_pg_t *self, const PGconn *conn, cm_error_t *err);
cm_status_t cm_pg_error_closed(cm_error_t *err);
/* Milliseconds of silence after which a server is given up while `statements` of them run; the
 * server's own statement_timeout does not fire when it hangs. 0 = wait for ever. */
int64_t cm_pg_silence_ms(const cm_pg_t *self, int statements);
cm_status_t cm_pg_error_silent(int64_t silence_ms, cm_error_t *err);
/* A blocking call is about to wait, or waits still. */
void cm_pg_tell_wait(const cm_pg_t *self);
#endif
