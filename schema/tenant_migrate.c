#include "runtime/backoff.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "schema/migration.h"
#include "schema/sql.h"
#include "schema/tenant_schema.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 64, LOCK_TIMEOUT_MS = 2000, CONNECT_TRIES_MAX = 4 };

typedef struct {  /* from a thread to the caller's; one write(), smaller than PIPE_BUF */
    size_t index; /* of the tenant; SIZE_MAX: the thread has ended */
    cm_tenant_change_t change;
    cm_error_t err;
} report_t;
_Static_assert(sizeof(report_t) <= 512, "a report must be written whole");

typedef struct { /* shared by the threads: read-only but for the atomics */
    const cm_pg_options_t *options;
    const char *admin_schema;
    char (*ids)[CM_TENANT_ID_MAX];
    size_t count;
    atomic_size_t next;
    atomic_bool stop; /* no connection can be had: what is left waits for the next run */
    int reports;      /* pipe, for writing */
} work_t;

/* ---- the threads ---------------------------------------------------------------------------- */

static cm_status_t connect_again(cm_pg_t *pg, cm_error_t *err)
{
    cm_backoff_t backoff;
    cm_backoff_init(&backoff, 50, 1000, cm_random_u64());
    cm_status_t status = CM_OK;
    for (int tries = 0; tries < CONNECT_TRIES_MAX; tries++) {
        if (tries > 0) {
            int wait_ms = cm_backoff_next_ms(&backoff);
            nanosleep(&(struct timespec){wait_ms / 1000, wait_ms % 1000 * 1000000L}, NULL);
        }
        status = cm_pg_connect(pg, NULL, err);
        if (status != CM_UNAVAILABLE)
            break;
    }
    return status;
}

static void tell(const work_t *work, const report_t *report)
{
    while (write(work->reports, report, sizeof *report) == -1 && errno == EINTR)
        ;
}

static void migrate_one(work_t *work, cm_pg_t *pg, report_t *report)
{
    cm_status_t status = CM_OK;
    if (!cm_pg_is_connected(pg))
        status = connect_again(pg, &report->err);
    if (status != CM_OK)
        atomic_store(&work->stop, true);
    else
        status = cm_tenant_schema_migrate(pg, work->admin_schema, work->ids[report->index],
                                          &report->change, &report->err);
    report->err.status = status;
}

static void *run_thread(void *ctx)
{
    work_t *work = ctx;
    cm_pg_options_t options = *work->options;
    options.lock_timeout_ms = LOCK_TIMEOUT_MS;
    cm_pg_t *pg = cm_pg_new(&options);
    while (!atomic_load(&work->stop)) {
        report_t report = {.index = atomic_fetch_add(&work->next, 1)};
        if (report.index >= work->count)
            break;
        migrate_one(work, pg, &report);
        tell(work, &report);
    }
    cm_pg_destroy(&pg);
    tell(work, &(report_t){.index = SIZE_MAX});
    return NULL;
}

/* ---- the caller ----------------------------------------------------------------------------- */

static cm_status_t list_work(cm_pg_t *pg, work_t *work, cm_error_t *err)
{
    char newest[16];
    snprintf(newest, sizeof newest, "%d", cm_migrations_tenant.count);
    const char *values[] = {newest};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_status_t status =
        cm_sql_query(pg,
                     "SELECT id FROM @schema@.tenants WHERE state IN ('active', 'suspended')"
                     " AND schema_version < $1 ORDER BY id",
                     work->admin_schema, 1, values, &result, err);
    if (status != CM_OK)
        return status;
    work->count = (size_t)PQntuples(result);
    work->ids = calloc(work->count + 1, sizeof *work->ids);
    if (!work->ids)
        abort();
    for (size_t i = 0; i < work->count; i++)
        snprintf(work->ids[i], sizeof work->ids[i], "%s", cm_pg_text(result, (int)i, 0));
    return CM_OK;
}

static size_t start_threads(work_t *work, pthread_t *threads, int connections)
{
    size_t wanted = connections < 1 ? 1 : (size_t)connections;
    if (wanted > CONNECTIONS_MAX)
        wanted = CONNECTIONS_MAX;
    if (wanted > work->count)
        wanted = work->count;
    size_t started = 0;
    while (started < wanted && pthread_create(&threads[started], NULL, run_thread, work) == 0)
        started++;
    return started;
}

/* Read reports until every thread has ended. */
static void follow(const work_t *work, int reports, size_t threads,
                   void (*on_progress)(void *ctx, const cm_migrate_progress_t *now), void *ctx,
                   cm_migrate_progress_t *now, cm_error_t *last_error)
{
    while (threads > 0) {
        report_t report;
        ssize_t got = read(reports, &report, sizeof report);
        if (got == -1 && errno == EINTR)
            continue;
        assert(got == sizeof report);
        if (report.index == SIZE_MAX) {
            threads--;
            continue;
        }
        now->done++;
        now->changed += report.err.status == CM_OK && report.change == CM_TENANT_CHANGED;
        if (report.err.status != CM_OK) {
            now->failed++;
            *last_error = report.err;
            now->last_failed = work->ids[report.index];
            now->last_error = last_error;
        }
        if (on_progress)
            on_progress(ctx, now);
    }
}

static cm_status_t run_threads(work_t *work, int connections,
                               void (*on_progress)(void *ctx, const cm_migrate_progress_t *now),
                               void *ctx, cm_migrate_progress_t *now, cm_error_t *err)
{
    int ends[2];
    pthread_t threads[CONNECTIONS_MAX];
    cm_error_t last_error = {0};
    if (pipe2(ends, O_CLOEXEC) == -1)
        return cm_error_set(err, CM_UNAVAILABLE, "pipe", "pipe: %s", strerror(errno));
    work->reports = ends[1];
    size_t started = start_threads(work, threads, connections);
    follow(work, ends[0], started, on_progress, ctx, now, &last_error);
    for (size_t i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    close(ends[0]);
    close(ends[1]);
    now->last_failed = NULL; /* they end with this call */
    now->last_error = NULL;
    if (started == 0)
        return cm_error_set(err, CM_UNAVAILABLE, "thread", "no thread can be started");
    if (!atomic_load(&work->stop))
        return CM_OK;
    if (err)
        *err = last_error;
    return last_error.status;
}

cm_status_t
cm_tenant_schema_migrate_all(cm_pg_t *pg, const cm_pg_options_t *options, const char *admin_schema,
                             int connections,
                             void (*on_progress)(void *ctx, const cm_migrate_progress_t *now),
                             void *ctx, cm_migrate_progress_t *ret_progress, cm_error_t *err)
{
    work_t work = {.options = options, .admin_schema = admin_schema};
    cm_migrate_progress_t now = {0};
    cm_status_t status = list_work(pg, &work, err);
    now.total = work.count;
    if (status == CM_OK && work.count > 0)
        status = run_threads(&work, connections, on_progress, ctx, &now, err);
    *ret_progress = now;
    free(work.ids);
    return status;
}
