#include "runtime/pg.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "runtime/pg_private.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    CONNECT_TIMEOUT_MS = 10000, /* when the options say 0 */
    TCP_USER_TIMEOUT_MS = 10000,
    SILENCE_GRACE_MIN_MS = 1000, /* for the answer of a cancelled statement to arrive */
    SILENCE_GRACE_MAX_MS = 5000,
    POLL_MAX_MS = 1000,
    CONNECT_PARAMETERS_MAX = 16,
    SESSION_OPTIONS_MAX = 1024
};

cm_pg_t *cm_pg_new(const cm_pg_options_t *options)
{
    assert(options->uri);
    cm_pg_t *self = calloc(1, sizeof *self);
    if (!self)
        abort();
    self->options = *options;
    if (self->options.connect_timeout_ms <= 0)
        self->options.connect_timeout_ms = CONNECT_TIMEOUT_MS;
    if (self->options.tcp_user_timeout_ms <= 0)
        self->options.tcp_user_timeout_ms = TCP_USER_TIMEOUT_MS;
    return self;
}

void cm_pg_destroy(cm_pg_t **self_p)
{
    cm_pg_t *self = *self_p;
    if (!self)
        return;
    cm_pg_close(self);
    free(self->pipeline.items);
    free(self);
    *self_p = NULL;
}

void cm_pg_close(cm_pg_t *self)
{
    PQfinish(self->conn); /* does not wait: the connection is non-blocking */
    self->conn = NULL;
    self->connected_at_ms = 0;
    self->pipeline.phase = CM_PG_PHASE_NONE;
    self->pipeline.wants_write = false;
    cm_pg_cache_clear(&self->cache);
}

bool cm_pg_is_connected(const cm_pg_t *self)
{
    return self->conn && PQstatus(self->conn) == CONNECTION_OK;
}

int64_t cm_pg_connected_at_ms(const cm_pg_t *self)
{
    return self->connected_at_ms;
}

int cm_pg_fd(const cm_pg_t *self)
{
    return self->conn ? PQsocket(self->conn) : -1;
}

PGconn *cm_pg_raw(cm_pg_t *self)
{
    return self->conn;
}

uint64_t cm_pg_unclassified(const cm_pg_t *self)
{
    return self->unclassified;
}

/* ---- connecting ---------------------------------------------------------------------------- */

typedef struct { /* for PQconnectStartParams: a later parameter wins over an earlier one */
    const char *keywords[CONNECT_PARAMETERS_MAX], *values[CONNECT_PARAMETERS_MAX];
    int count;
    char tcp_user_timeout[16], session[SESSION_OPTIONS_MAX];
} parameters_t;

static void add_parameter(parameters_t *self, const char *keyword, const char *value)
{
    assert(self->count < CONNECT_PARAMETERS_MAX - 1);
    self->keywords[self->count] = keyword;
    self->values[self->count++] = value;
}

/* Session settings travel in the start-up packet: no further round trip, nothing to forget. What
 * the URI itself sets comes later and wins, but for the role: whoever may choose the URI may not
 * choose another. False when it does not fit. */
static bool format_session(parameters_t *self, const cm_pg_options_t *options, const char *of_uri)
{
    int used = snprintf(self->session, sizeof self->session,
                        "-c statement_timeout=%d -c lock_timeout=%d"
                        " -c idle_in_transaction_session_timeout=30000"
                        " -c plan_cache_mode=force_generic_plan"
                        " -c search_path=pg_catalog,pg_temp -c TimeZone=UTC"
                        " -c synchronous_commit=on"
                        " -c client_min_messages=warning %s%s%s",
                        options->statement_timeout_ms, options->lock_timeout_ms, of_uri,
                        *options->role ? " -c role=" : "", options->role);
    return used < (int)sizeof self->session;
}

static const char *option_of(const PQconninfoOption *parsed, const char *keyword)
{
    for (; parsed->keyword; parsed++)
        if (strcmp(parsed->keyword, keyword) == 0 && parsed->val)
            return parsed->val;
    return "";
}

static void free_conninfo(PQconninfoOption **parsed_p)
{
    PQconninfoFree(*parsed_p);
    *parsed_p = NULL;
}

static void free_libpq_text(char **text_p)
{
    PQfreemem(*text_p);
    *text_p = NULL;
}

static cm_status_t fill_parameters(parameters_t *self, const cm_pg_options_t *options,
                                   cm_error_t *err)
{
    CM_CLEANUP(free_libpq_text) char *why = NULL;
    CM_CLEANUP(free_conninfo) PQconninfoOption *parsed = PQconninfoParse(options->uri, &why);
    if (!parsed) {
        char line[CM_ERROR_MESSAGE_MAX];
        cm_pg_first_line(line, sizeof line, why, true); /* the quoted part can hold the password */
        return cm_error_set(err, CM_MISCONFIGURED, "connect", "bad connection string: %s", line);
    }
    if (!format_session(self, options, option_of(parsed, "options")))
        return cm_error_set(err, CM_MISCONFIGURED, "connect",
                            "bad connection string: its options are too long");
    snprintf(self->tcp_user_timeout, sizeof self->tcp_user_timeout, "%d",
             options->tcp_user_timeout_ms);
    /* Defaults, for the URI to replace. tcp_user_timeout alone misses a peer that dies while we
     * wait for its answer; keepalives notice that after 5 + 2 * 2 s. */
    add_parameter(self, "target_session_attrs", "read-write");
    add_parameter(self, "keepalives", "1");
    add_parameter(self, "keepalives_idle", "5");
    add_parameter(self, "keepalives_interval", "2");
    add_parameter(self, "keepalives_count", "2");
    add_parameter(self, "tcp_user_timeout", self->tcp_user_timeout);
    add_parameter(self, "dbname", options->uri); /* expanded by libpq */
    add_parameter(self, "client_encoding", "UTF8");
    if (options->application_name)
        add_parameter(self, "application_name", options->application_name);
    add_parameter(self, "options", self->session);
    return CM_OK;
}

static void drop_notice(void *ctx, const PGresult *result)
{
    (void)ctx;
    (void)result; /* libpq would print it */
}

/* Wait until the socket is ready for what libpq asked, the deadline, or the interrupt. */
static cm_status_t await_socket(cm_pg_t *self, PostgresPollingStatusType wanted, zsock_t *interrupt,
                                int64_t deadline_ms, cm_error_t *err)
{
    for (;;) {
        int64_t left = deadline_ms - cm_clock_mono_ms();
        if (left <= 0)
            return cm_error_set(err, CM_UNAVAILABLE, "connect", "no connection within %d ms",
                                self->options.connect_timeout_ms);
        zmq_pollitem_t items[2] = {
            {.fd = PQsocket(self->conn),
             .events = wanted == PGRES_POLLING_READING ? ZMQ_POLLIN : ZMQ_POLLOUT},
            {.socket = interrupt ? zsock_resolve(interrupt) : NULL, .events = ZMQ_POLLIN},
        };
        int ready = zmq_poll(items, interrupt ? 2 : 1, (long)left);
        if (interrupt && (items[1].revents || (ready == -1 && errno == ETERM)))
            return cm_error_set(err, CM_CANCELLED, NULL, "interrupted while connecting");
        if (ready > 0)
            return CM_OK;
        if (ready == -1 && errno != EINTR)
            return cm_error_set(err, CM_UNAVAILABLE, "connect", "poll: %s", strerror(errno));
    }
}

static cm_status_t finish_start(cm_pg_t *self, zsock_t *interrupt, cm_error_t *err)
{
    int64_t deadline_ms = cm_clock_mono_ms() + self->options.connect_timeout_ms;
    PostgresPollingStatusType wanted = PGRES_POLLING_WRITING;
    if (PQstatus(self->conn) == CONNECTION_BAD)
        wanted = PGRES_POLLING_FAILED;
    while (wanted == PGRES_POLLING_READING || wanted == PGRES_POLLING_WRITING) {
        cm_status_t status = await_socket(self, wanted, interrupt, deadline_ms, err);
        if (status != CM_OK)
            return status;
        wanted = PQconnectPoll(self->conn);
    }
    if (wanted != PGRES_POLLING_OK)
        return cm_pg_error_of_connect(self, self->conn, err);
    PQsetErrorVerbosity(self->conn, PQERRORS_DEFAULT);
    if (PQsetnonblocking(self->conn, 1) != 0)
        return cm_error_set(err, CM_UNAVAILABLE, "connect",
                            "cannot make the connection non-blocking");
    return CM_OK;
}

cm_status_t cm_pg_connect(cm_pg_t *self, zsock_t *interrupt, cm_error_t *err)
{
    cm_pg_close(self);
    parameters_t parameters = {0};
    cm_status_t status = fill_parameters(&parameters, &self->options, err);
    if (status != CM_OK)
        return status;
    self->conn = PQconnectStartParams(parameters.keywords, parameters.values, 1);
    if (!self->conn)
        abort();                                       /* out of memory */
    PQsetErrorVerbosity(self->conn, PQERRORS_VERBOSE); /* else the SQLSTATE of a refusal is lost */
    PQsetNoticeReceiver(self->conn, drop_notice, NULL);
    status = finish_start(self, interrupt, err);
    if (status == CM_OK)
        self->connected_at_ms = cm_clock_mono_ms();
    else
        cm_pg_close(self);
    return status;
}

/* ---- one at a time ------------------------------------------------------------------------- */

int64_t cm_pg_silence_ms(const cm_pg_t *self, int statements)
{
    int64_t timeout_ms = self->options.statement_timeout_ms, grace_ms = timeout_ms;
    if (timeout_ms <= 0)
        return 0;
    if (grace_ms < SILENCE_GRACE_MIN_MS)
        grace_ms = SILENCE_GRACE_MIN_MS;
    if (grace_ms > SILENCE_GRACE_MAX_MS)
        grace_ms = SILENCE_GRACE_MAX_MS;
    return timeout_ms * statements + grace_ms;
}

void cm_pg_tell_wait(const cm_pg_t *self)
{
    if (self->options.on_wait)
        self->options.on_wait(self->options.wait_ctx);
}

/* Flush and read until a result can be had without blocking. */
static cm_status_t await_result(cm_pg_t *self, int64_t silence_ms, cm_error_t *err)
{
    int64_t progress_at_ms = cm_clock_mono_ms();
    for (;;) {
        int pending = PQflush(self->conn);
        cm_pg_tell_wait(self);
        if (!PQisBusy(self->conn) || pending == -1)
            return CM_OK; /* a failed link is found as a result, too */
        if (self->options.stopped && self->options.stopped(self->options.wait_ctx))
            return cm_error_set(err, CM_CANCELLED, "stopped", "stopped while waiting");
        struct pollfd item = {.fd = PQsocket(self->conn), .events = POLLIN};
        if (pending == 1)
            item.events |= POLLOUT;
        /* Not for ever, because TLS may hold bytes that the socket no longer shows. */
        if (poll(&item, 1, POLL_MAX_MS) > 0)
            progress_at_ms = cm_clock_mono_ms();
        else if (silence_ms > 0 && cm_clock_mono_ms() - progress_at_ms >= silence_ms)
            return cm_pg_error_silent(silence_ms, err);
        if (!PQconsumeInput(self->conn))
            return CM_OK;
    }
}

static bool is_success(const PGresult *result)
{
    ExecStatusType status = PQresultStatus(result);
    return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK || status == PGRES_EMPTY_QUERY;
}

static bool is_copy(const PGresult *result)
{
    ExecStatusType status = PQresultStatus(result);
    return status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH;
}

/* Read all results of what was sent; *ret_result (may be NULL) is the last one. Closes on doubt. */
static cm_status_t collect(cm_pg_t *self, int statements, PGresult **ret_result, cm_error_t *err)
{
    CM_CLEANUP(cm_pg_clear) PGresult *last = NULL;
    cm_status_t status = CM_OK;
    bool close = false;
    while (!close) {
        int64_t silence_ms = cm_pg_silence_ms(self, statements);
        cm_status_t waited = await_result(self, silence_ms, status == CM_OK ? err : NULL);
        close = waited != CM_OK;
        PGresult *result = close ? NULL : PQgetResult(self->conn);
        if (status == CM_OK && close)
            status = waited;
        if (!result)
            break;
        cm_pg_clear(&last);
        last = result;
        if (is_copy(last)) { /* it would wait for our data for ever */
            close = true;
            status = cm_error_set(err, CM_PERMANENT, "copy", "COPY cannot be run here");
        } else if (status == CM_OK && !is_success(last)) {
            status = cm_pg_error_of_result(self, last, &close, err);
        }
    }
    if (status == CM_OK && !last)
        status = cm_pg_error_of_result(self, NULL, &close, err);
    if (close || !cm_pg_is_connected(self))
        cm_pg_close(self);
    if (status == CM_OK && ret_result)
        *ret_result = CM_TAKE(last);
    return status;
}

cm_status_t cm_pg_send_failed(cm_pg_t *self, cm_error_t *err)
{
    bool close = false;
    cm_status_t status = cm_pg_error_of_result(self, NULL, &close, err);
    cm_pg_close(self);
    return status;
}

/* An upper bound for the statements in sql: each has its own statement_timeout. */
static int count_statements(const char *sql)
{
    int count = 1;
    for (; *sql; sql++)
        count += *sql == ';';
    return count;
}

cm_status_t cm_pg_exec(cm_pg_t *self, const char *sql, cm_error_t *err)
{
    assert(self->pipeline.phase == CM_PG_PHASE_NONE);
    if (!self->conn)
        return cm_pg_error_closed(err);
    if (!PQsendQuery(self->conn, sql))
        return cm_pg_send_failed(self, err);
    return collect(self, count_statements(sql), NULL, err);
}

cm_status_t cm_pg_query(cm_pg_t *self, const char *sql, int count, const char *const *values,
                        PGresult **ret_result, cm_error_t *err)
{
    assert(self->pipeline.phase == CM_PG_PHASE_NONE);
    if (!self->conn)
        return cm_pg_error_closed(err);
    if (!PQsendQueryParams(self->conn, sql, count, NULL, values, NULL, NULL, 0))
        return cm_pg_send_failed(self, err);
    return collect(self, 1, ret_result, err);
}

cm_status_t cm_pg_run(cm_pg_t *self, const cm_pg_statement_t *statement, PGresult **ret_result,
                      cm_error_t *err)
{
    assert(self->pipeline.phase == CM_PG_PHASE_NONE);
    if (!self->conn)
        return cm_pg_error_closed(err);
    if (!PQsendQueryParams(self->conn, statement->sql, statement->count, statement->types,
                           statement->values, statement->lengths, statement->formats,
                           statement->result_format))
        return cm_pg_send_failed(self, err);
    return collect(self, 1, ret_result, err);
}

void cm_pg_clear(PGresult **result_p)
{
    PQclear(*result_p);
    *result_p = NULL;
}

const char *cm_pg_text(const PGresult *result, int row, int column)
{
    return PQgetvalue(result, row, column); /* "" for NULL */
}

int64_t cm_pg_i64(const PGresult *result, int row, int column)
{
    return strtoll(PQgetvalue(result, row, column), NULL, 10);
}

/* ---- transactions -------------------------------------------------------------------------- */

cm_status_t cm_pg_begin(cm_pg_t *self, cm_error_t *err)
{
    if (self->conn && PQtransactionStatus(self->conn) != PQTRANS_IDLE) {
        cm_pg_close(self); /* PostgreSQL would only warn, and go on in the older transaction */
        return cm_error_set(err, CM_TRANSIENT, "25001", "a transaction was already open");
    }
    return cm_pg_exec(self, "BEGIN", err);
}

cm_status_t cm_pg_commit(cm_pg_t *self, cm_error_t *err)
{
    /* COMMIT of a failed transaction rolls back and reports success. */
    if (self->conn && PQtransactionStatus(self->conn) != PQTRANS_INTRANS) {
        const char *code = PQtransactionStatus(self->conn) == PQTRANS_INERROR ? "25P02" : "25P01";
        cm_pg_rollback(self);
        return cm_error_set(err, CM_TRANSIENT, code, "no transaction that can be committed");
    }
    return cm_pg_exec(self, "COMMIT", err);
}

void cm_pg_rollback(cm_pg_t *self)
{
    if (!self->conn || PQtransactionStatus(self->conn) == PQTRANS_IDLE)
        return;
    if (cm_pg_exec(self, "ROLLBACK", NULL) != CM_OK ||
        PQtransactionStatus(self->conn) != PQTRANS_IDLE)
        cm_pg_close(self);
}
