#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "runtime/pg_private.h"

#include <assert.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

enum {
    POLL_MAX_MS = 1000,
    /* PostgreSQL keeps its answers until 8 kB are full or the Sync comes. Asking for them now and
     * then shows that it is alive and lets us read while it works; each time costs it a system
     * call. */
    FLUSH_EVERY = 8, /* statements between two answers, each a system call of the server */
    SILENT_MAX = 4   /* of them may take their whole time-out: no healthy server is slower */
};

/* ---- sending ------------------------------------------------------------------------------- */

static void expect(cm_pg_pipeline_t *self, cm_pg_item_kind_t kind, int index,
                   cm_pg_prepared_t *prepared)
{
    if (self->item_count == self->item_cap) {
        self->item_cap = self->item_cap ? self->item_cap * 2 : 64;
        self->items = realloc(self->items, self->item_cap * sizeof *self->items);
        if (!self->items)
            abort();
    }
    self->items[self->item_count++] = (cm_pg_item_t){kind, index, prepared};
}

static bool send_plain(cm_pg_t *self, const char *sql, cm_pg_item_kind_t kind,
                       cm_pg_prepared_t *prepared)
{
    expect(&self->pipeline, kind, -1, prepared);
    return PQsendQueryParams(self->conn, sql, 0, NULL, NULL, NULL, NULL, 0) == 1;
}

static bool send_sync(cm_pg_t *self)
{
    expect(&self->pipeline, CM_PG_ITEM_SYNC, -1, NULL);
    return PQpipelineSync(self->conn) == 1;
}

static bool send_deallocate(cm_pg_t *self, cm_pg_prepared_t *prepared)
{
    char sql[sizeof "DEALLOCATE " + CM_PG_PREPARED_NAME_MAX] = "DEALLOCATE ";
    strcat(sql, prepared->name);
    return send_plain(self, sql, CM_PG_ITEM_DEALLOCATE, prepared);
}

/* What earlier pipelines have left to forget. */
static bool send_leftovers(cm_pg_t *self)
{
    if (self->cache.deallocate_all)
        return send_plain(self, "DEALLOCATE ALL", CM_PG_ITEM_DEALLOCATE_ALL, NULL);
    for (cm_pg_prepared_t *item = self->cache.retired; item; item = item->next)
        if (!send_deallocate(self, item))
            return false;
    return true;
}

static const char *sql_of(const cm_pg_statement_t *statement)
{
    return statement->sql ? statement->sql : statement->text(statement->ctx);
}

/* The statement of key, sent to be prepared when it is new. The least recently used one makes room,
 * unless that is still in use: then *ret_prepared stays NULL, and this one runs unprepared. */
static bool send_prepare(cm_pg_t *self, const cm_pg_statement_t *statement, int index,
                         cm_pg_prepared_t **ret_prepared)
{
    *ret_prepared = cm_pg_cache_use(&self->cache, statement->key);
    if (*ret_prepared)
        return true;
    if (cm_pg_cache_count(&self->cache) >= self->options.prepared_max) {
        cm_pg_prepared_t *oldest = cm_pg_cache_oldest(&self->cache);
        if (cm_pg_cache_is_in_use(&self->cache, oldest, self->options.prepared_max))
            return true;
        cm_pg_cache_retire(&self->cache, oldest);
        if (!send_deallocate(self, oldest))
            return false;
    }
    *ret_prepared = cm_pg_cache_add(&self->cache, statement->key);
    expect(&self->pipeline, CM_PG_ITEM_PREPARE, index, *ret_prepared);
    return PQsendPrepare(self->conn, (*ret_prepared)->name, sql_of(statement), statement->count,
                         statement->types) == 1;
}

static bool send_statement(cm_pg_t *self, const cm_pg_statement_t *statement, int index)
{
    cm_pg_prepared_t *prepared = NULL;
    if (statement->key && self->options.prepared_max > 0 &&
        !send_prepare(self, statement, index, &prepared))
        return false;
    expect(&self->pipeline, CM_PG_ITEM_STATEMENT, index, prepared);
    if (!prepared)
        return PQsendQueryParams(self->conn, sql_of(statement), statement->count, statement->types,
                                 statement->values, statement->lengths, statement->formats,
                                 statement->result_format) == 1;
    return PQsendQueryPrepared(self->conn, prepared->name, statement->count, statement->values,
                               statement->lengths, statement->formats,
                               statement->result_format) == 1;
}

static cm_status_t sent(cm_pg_t *self, bool success, cm_error_t *err)
{
    return success ? CM_OK : cm_pg_send_failed(self, err); /* closing ends the pipeline, too */
}

static void start(cm_pg_pipeline_t *self, cm_pg_result_fn *on_result, void *ctx, bool is_within)
{
    cm_pg_item_t *items = self->items;
    size_t item_cap = self->item_cap;
    *self = (cm_pg_pipeline_t){.phase = CM_PG_PHASE_ADDING,
                               .on_result = on_result,
                               .ctx = ctx,
                               .items = items,
                               .item_cap = item_cap,
                               .is_within = is_within,
                               .failed_index = -1};
}

cm_status_t cm_pg_pipeline_begin(cm_pg_t *self, cm_pg_result_fn *on_result, void *ctx,
                                 cm_error_t *err)
{
    assert(self->pipeline.phase == CM_PG_PHASE_NONE);
    if (!self->conn)
        return cm_pg_error_closed(err);
    if (PQtransactionStatus(self->conn) != PQTRANS_IDLE) {
        cm_pg_close(self);
        return cm_error_set(err, CM_TRANSIENT, "25001", "a transaction was already open");
    }
    start(&self->pipeline, on_result, ctx, false);
    return sent(self,
                PQenterPipelineMode(self->conn) == 1 &&
                    send_plain(self, "BEGIN", CM_PG_ITEM_BEGIN, NULL) && send_leftovers(self),
                err);
}

cm_status_t cm_pg_pipeline_begin_within(cm_pg_t *self, cm_pg_result_fn *on_result, void *ctx,
                                        cm_error_t *err)
{
    assert(self->pipeline.phase == CM_PG_PHASE_NONE);
    if (!self->conn)
        return cm_pg_error_closed(err);
    if (PQtransactionStatus(self->conn) != PQTRANS_INTRANS)
        return cm_error_set(err, CM_TRANSIENT,
                            PQtransactionStatus(self->conn) == PQTRANS_INERROR ? "25P02" : "25P01",
                            "no transaction to go on in");
    start(&self->pipeline, on_result, ctx, true);
    return sent(self, PQenterPipelineMode(self->conn) == 1 && send_leftovers(self), err);
}

cm_status_t cm_pg_pipeline_add(cm_pg_t *self, const cm_pg_statement_t *statement, cm_error_t *err)
{
    if (!self->conn)
        return cm_pg_error_closed(err);
    assert(self->pipeline.phase == CM_PG_PHASE_ADDING);
    assert(statement->count >= 0 && statement->count <= PQ_QUERY_PARAM_MAX_LIMIT);
    int index = self->pipeline.statement_count++;
    bool success = send_statement(self, statement, index);
    if (success && (index + 1) % FLUSH_EVERY == 0)
        success = PQsendFlushRequest(self->conn) == 1;
    return sent(self, success, err);
}

cm_status_t cm_pg_pipeline_send(cm_pg_t *self, cm_error_t *err)
{
    if (!self->conn)
        return cm_pg_error_closed(err);
    assert(self->pipeline.phase == CM_PG_PHASE_ADDING);
    self->pipeline.phase = CM_PG_PHASE_RUNNING;
    self->pipeline.progress_at_ms = cm_clock_mono_ms();
    bool success =
        (self->pipeline.is_within || send_plain(self, "COMMIT", CM_PG_ITEM_COMMIT, NULL)) &&
        send_sync(self);
    if (success)
        self->pipeline.wants_write = PQflush(self->conn) == 1;
    return sent(self, success, err);
}

/* ---- results ------------------------------------------------------------------------------- */

static void fail(cm_pg_pipeline_t *self, int index, const cm_error_t *err)
{
    if (self->failed)
        return; /* the first failure is the cause of the others */
    self->failed = true;
    self->failed_index = index;
    self->failure = *err;
}

static void link_lost(cm_pg_t *self, const PGresult *result)
{
    cm_error_t err;
    cm_pg_error_of_result(self, result, &self->pipeline.close_after, &err);
    fail(&self->pipeline, -1, &err);
    self->pipeline.phase = CM_PG_PHASE_OVER;
}

/* A PREPARE that failed or was skipped has prepared nothing; a skipped DEALLOCATE is sent again. */
static void item_not_done(cm_pg_t *self, const cm_pg_item_t *item)
{
    if (item->kind == CM_PG_ITEM_PREPARE) {
        /* When retired, its own DEALLOCATE, skipped as well, decides. */
        if (!cm_pg_cache_is_retired(&self->cache, item->prepared))
            cm_pg_cache_remove(&self->cache, item->prepared);
    } else if (item->kind == CM_PG_ITEM_DEALLOCATE && !item->prepared->on_server) {
        cm_pg_cache_remove(&self->cache, item->prepared);
    }
}

static void item_failed(cm_pg_t *self, const cm_pg_item_t *item, const PGresult *result)
{
    cm_pg_pipeline_t *pipeline = &self->pipeline;
    cm_error_t err;
    cm_status_t status = cm_pg_error_of_result(self, result, &pipeline->close_after, &err);
    fail(pipeline, item->index, &err);
    if (item->index >= 0 && pipeline->on_result)
        pipeline->on_result(pipeline->ctx, (size_t)item->index, status, result, &err);
    /* A statement that is gone was lost with others (DISCARD, a pooler), a stale one alone. */
    if (strcmp(err.code, "26000") == 0)
        self->cache.deallocate_all = true;
    else if (strcmp(err.code, "0A000") == 0 && item->kind == CM_PG_ITEM_STATEMENT && item->prepared)
        cm_pg_cache_retire(&self->cache, item->prepared);
    if (item->kind == CM_PG_ITEM_ROLLBACK)
        pipeline->close_after = true;
    item_not_done(self, item);
}

static void item_done(cm_pg_t *self, const cm_pg_item_t *item, const PGresult *result)
{
    static const cm_error_t none = {0};
    cm_pg_pipeline_t *pipeline = &self->pipeline;
    switch (item->kind) {
    case CM_PG_ITEM_PREPARE:
        item->prepared->on_server = true;
        break;
    case CM_PG_ITEM_DEALLOCATE:
        cm_pg_cache_remove(&self->cache, item->prepared);
        break;
    case CM_PG_ITEM_DEALLOCATE_ALL:
        self->cache.deallocate_all = false;
        break;
    case CM_PG_ITEM_STATEMENT:
        if (pipeline->on_result)
            pipeline->on_result(pipeline->ctx, (size_t)item->index, CM_OK, result, &none);
        break;
    case CM_PG_ITEM_BEGIN:
    case CM_PG_ITEM_COMMIT: /* a failed transaction never gets here: all up to the Sync is skipped
                             */
    case CM_PG_ITEM_ROLLBACK:
    case CM_PG_ITEM_SYNC:
        break;
    }
}

/* The Sync ends what was sent; a failed transaction is still open behind it, as its owner, when
 * that is another, wants it. */
static void sync_reached(cm_pg_t *self)
{
    cm_pg_pipeline_t *pipeline = &self->pipeline;
    if (pipeline->phase == CM_PG_PHASE_UNDOING || !pipeline->failed || pipeline->is_within ||
        PQtransactionStatus(self->conn) == PQTRANS_IDLE) {
        pipeline->phase = CM_PG_PHASE_OVER;
        return;
    }
    pipeline->phase = CM_PG_PHASE_UNDOING;
    if (!send_plain(self, "ROLLBACK", CM_PG_ITEM_ROLLBACK, NULL) || !send_sync(self))
        link_lost(self, NULL);
}

static void copy_refused(cm_pg_pipeline_t *self, int index)
{
    cm_error_t err;
    cm_error_set(&err, CM_PERMANENT, "copy", "COPY cannot be run here");
    fail(self, index, &err);
    self->close_after = true;
    self->phase = CM_PG_PHASE_OVER;
}

/* One answer of PQgetResult(): each command gives one result and then NULL, a Sync gives no NULL.
 */
static void take(cm_pg_t *self, const PGresult *result)
{
    cm_pg_pipeline_t *pipeline = &self->pipeline;
    if (!result && pipeline->answered) {
        pipeline->answered = false;
        pipeline->item_next++;
        return;
    }
    if (!result || pipeline->item_next == pipeline->item_count) {
        link_lost(self, NULL);
        return;
    }
    const cm_pg_item_t item = pipeline->items[pipeline->item_next];
    pipeline->answered = item.kind != CM_PG_ITEM_SYNC;
    pipeline->statements_over += item.kind == CM_PG_ITEM_STATEMENT;
    switch (PQresultStatus(result)) {
    case PGRES_PIPELINE_SYNC:
        pipeline->item_next++;
        sync_reached(self);
        break;
    case PGRES_COMMAND_OK:
    case PGRES_TUPLES_OK:
    case PGRES_EMPTY_QUERY:
        item_done(self, &item, result);
        break;
    case PGRES_PIPELINE_ABORTED:
        item_not_done(self, &item);
        break;
    case PGRES_COPY_IN:
    case PGRES_COPY_OUT:
    case PGRES_COPY_BOTH:
        copy_refused(pipeline, item.index);
        break;
    default:
        if (cm_pg_ends_session(result))
            link_lost(self, result);
        else
            item_failed(self, &item, result);
    }
}

/* True when the socket has moved since the last look: something came, or something can go. */
static bool socket_moved(const cm_pg_t *self, int timeout_ms)
{
    struct pollfd item = {.fd = PQsocket(self->conn), .events = POLLIN};
    if (self->pipeline.wants_write)
        item.events |= POLLOUT;
    return poll(&item, 1, timeout_ms) > 0;
}

static void move(cm_pg_t *self)
{
    cm_pg_pipeline_t *pipeline = &self->pipeline;
    bool lost = PQflush(self->conn) == -1;
    /* Under TLS one call can leave bytes of a record unread that the socket no longer shows. */
    for (int rounds = PQsslInUse(self->conn) ? 2 : 1; rounds > 0; rounds--)
        lost = !PQconsumeInput(self->conn) || lost;
    while (pipeline->phase != CM_PG_PHASE_OVER && !PQisBusy(self->conn)) {
        CM_CLEANUP(cm_pg_clear) PGresult *result = PQgetResult(self->conn);
        take(self, result);
    }
    if (pipeline->phase == CM_PG_PHASE_OVER)
        return;
    if (lost)
        link_lost(self, NULL);
    else
        pipeline->wants_write = PQflush(self->conn) == 1;
}

/* The transaction is as it must be behind the pipeline. */
static bool is_settled(const cm_pg_t *self)
{
    const cm_pg_pipeline_t *pipeline = &self->pipeline;
    PGTransactionStatusType wanted = !pipeline->is_within ? PQTRANS_IDLE
                                     : pipeline->failed   ? PQTRANS_INERROR
                                                          : PQTRANS_INTRANS;
    return PQtransactionStatus(self->conn) == wanted;
}

static cm_status_t finish(cm_pg_t *self, bool *ret_done, int *ret_failed, cm_error_t *err)
{
    cm_pg_pipeline_t *pipeline = &self->pipeline;
    pipeline->phase = CM_PG_PHASE_NONE;
    pipeline->wants_write = false;
    if (self->cache.deallocate_all) {
        cm_pg_cache_clear(&self->cache);
        self->cache.deallocate_all = true;
    }
    if (pipeline->close_after || !cm_pg_is_connected(self) || PQexitPipelineMode(self->conn) != 1 ||
        !is_settled(self))
        cm_pg_close(self);
    *ret_done = true;
    if (!pipeline->failed)
        return CM_OK;
    *ret_failed = pipeline->failed_index;
    if (err)
        *err = pipeline->failure;
    return pipeline->failure.status;
}

/* How many statements may run before a healthy server has to say something. */
static int unheard_statements(const cm_pg_pipeline_t *self)
{
    int left = self->statement_count - self->statements_over;
    if (self->phase == CM_PG_PHASE_UNDOING || left < 1)
        return 1; /* COMMIT or ROLLBACK */
    return left < SILENT_MAX ? left : SILENT_MAX;
}

cm_status_t cm_pg_pipeline_pump(cm_pg_t *self, bool *ret_done, int *ret_failed, cm_error_t *err)
{
    cm_pg_pipeline_t *pipeline = &self->pipeline;
    *ret_done = false;
    *ret_failed = -1;
    if (!self->conn)
        return cm_pg_error_closed(err);
    assert(pipeline->phase == CM_PG_PHASE_RUNNING || pipeline->phase == CM_PG_PHASE_UNDOING);
    if (socket_moved(self, 0))
        pipeline->progress_at_ms = cm_clock_mono_ms();
    move(self);
    int64_t silence_ms = cm_pg_silence_ms(self, unheard_statements(pipeline));
    if (pipeline->phase != CM_PG_PHASE_OVER && silence_ms > 0 &&
        cm_clock_mono_ms() - pipeline->progress_at_ms >= silence_ms) {
        cm_error_t silent;
        cm_pg_error_silent(silence_ms, &silent);
        fail(pipeline, -1, &silent);
        pipeline->close_after = true;
        pipeline->phase = CM_PG_PHASE_OVER;
    }
    return pipeline->phase == CM_PG_PHASE_OVER ? finish(self, ret_done, ret_failed, err) : CM_OK;
}

bool cm_pg_pipeline_wants_write(const cm_pg_t *self)
{
    return self->pipeline.wants_write;
}

cm_status_t cm_pg_pipeline_wait(cm_pg_t *self, int *ret_failed, cm_error_t *err)
{
    for (;;) {
        bool done = false;
        cm_status_t status = cm_pg_pipeline_pump(self, &done, ret_failed, err);
        if (status != CM_OK || done)
            return status;
        cm_pg_tell_wait(self);
        socket_moved(self, POLL_MAX_MS);
    }
}
