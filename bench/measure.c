#include "bench/measure.h"
#include "runtime/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SESSIONS_GONE_MS = 15000, ASK_EVERY_MS = 20 };

/* ---- processes ------------------------------------------------------------------------------ */

/* User and system time of pid, with that of its ended children; 0 when it is gone. */
static int64_t ticks_of(pid_t pid, bool ended_children)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "r");
    if (!file)
        return 0;
    size_t len = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[len] = '\0';
    const char *at = strrchr(text, ')'); /* the name may hold blanks */
    long user = 0, system = 0, children_user = 0, children_system = 0;
    if (!at || sscanf(at + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %ld %ld %ld %ld", &user,
                      &system, &children_user, &children_system) != 4)
        return 0;
    return user + system + (ended_children ? children_user + children_system : 0);
}

static int64_t ticks_of_children(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)pid, (int)pid);
    FILE *file = fopen(path, "r");
    if (!file)
        cm_bench_fail("%s cannot be read", path);
    int64_t ticks = 0;
    int child = 0;
    while (fscanf(file, "%d", &child) == 1)
        ticks += ticks_of((pid_t)child, false);
    fclose(file);
    return ticks;
}

static cm_bench_cpu_t cpu_now(const cm_bench_measure_t *self)
{
    int64_t tick_us = 1000000 / sysconf(_SC_CLK_TCK);
    pid_t postmaster = self->bench->postmaster;
    return (cm_bench_cpu_t){
        .client_us = tick_us * ticks_of(self->client, false),
        .postgres_us = tick_us * (ticks_of(postmaster, true) + ticks_of_children(postmaster)),
        .redis_us = tick_us * ticks_of(self->bench->redis_pid, false),
    };
}

/* ---- the database --------------------------------------------------------------------------- */

static PGresult *ask(PGconn *pg, const char *sql)
{
    PGresult *result = PQexec(pg, sql);
    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        cm_bench_fail("postgres: %s", PQerrorMessage(pg));
    return result;
}

static cm_bench_rows_t count_rows(PGconn *pg)
{
    PGresult *result =
        ask(pg, "SELECT coalesce(sum(n_tup_ins), 0)::bigint, coalesce(sum(n_tup_upd), 0)::bigint, "
                "coalesce(sum(n_tup_hot_upd), 0)::bigint, coalesce(sum(n_tup_del), 0)::bigint "
                "FROM pg_stat_user_tables "
                "WHERE relname = 'devices' AND schemaname LIKE 'tenant\\_%'");
    cm_bench_rows_t rows = {.inserted = cm_pg_i64(result, 0, 0),
                            .updated = cm_pg_i64(result, 0, 1),
                            .hot = cm_pg_i64(result, 0, 2),
                            .deleted = cm_pg_i64(result, 0, 3)};
    PQclear(result);
    return rows;
}

/* A session hands in its counts when it ends. */
static void await_sessions_gone(PGconn *pg)
{
    int64_t deadline_ms = cm_clock_mono_ms() + SESSIONS_GONE_MS, others = 1;
    while (others) {
        PGresult *result = ask(pg, "SELECT count(*) FROM pg_stat_activity WHERE datname = "
                                   "current_database() AND pid <> pg_backend_pid()");
        others = cm_pg_i64(result, 0, 0);
        PQclear(result);
        if (cm_clock_mono_ms() > deadline_ms)
            cm_bench_fail("%" PRId64 " sessions are still open", others);
        if (others)
            usleep(ASK_EVERY_MS * 1000);
    }
}

/* ---- a run ---------------------------------------------------------------------------------- */

void cm_bench_measure_open(cm_bench_measure_t *self, const cm_bench_t *bench)
{
    *self = (cm_bench_measure_t){.bench = bench};
    self->pg = PQconnectdb(bench->postgres);
    if (PQstatus(self->pg) != CONNECTION_OK)
        cm_bench_fail("postgres: %s", PQerrorMessage(self->pg));
    self->rows_before = count_rows(self->pg);
}

void cm_bench_measure_start(cm_bench_measure_t *self)
{
    self->cpu_before = cpu_now(self);
    self->started_us = cm_clock_mono_us();
}

void cm_bench_measure_checkpoint(cm_bench_measure_t *self)
{
    if (!self->bench->checkpoint || self->checkpoint_sent)
        return;
    self->checkpoint_sent = true;
    if (!PQsendQuery(self->pg, "CHECKPOINT"))
        cm_bench_fail("postgres: %s", PQerrorMessage(self->pg));
}

void cm_bench_measure_end(cm_bench_measure_t *self)
{
    self->ended_us = cm_clock_mono_us();
    self->cpu_after = cpu_now(self);
}

void cm_bench_measure_print(cm_bench_measure_t *self, uint64_t events, const char *more)
{
    PGresult *result;
    while (self->checkpoint_sent && (result = PQgetResult(self->pg)))
        PQclear(result);
    await_sessions_gone(self->pg);
    self->rows_after = count_rows(self->pg);
    PQfinish(self->pg);
    double seconds = (double)(self->ended_us - self->started_us) / 1e6, each = (double)events;
    const cm_bench_cpu_t *before = &self->cpu_before, *after = &self->cpu_after;
    printf("{%s, \"events\": %" PRIu64 ", \"seconds\": %.4f, \"rate\": %.1f, "
           "\"client_us\": %.3f, \"postgres_us\": %.3f, \"redis_us\": %.3f, "
           "\"peak_rss_kb\": %" PRId64 ", \"inserted\": %" PRId64 ", \"updated\": %" PRId64
           ", \"hot\": %" PRId64 ", \"deleted\": %" PRId64 "%s%s}\n",
           self->bench->label, events, seconds, each / seconds,
           (double)(after->client_us - before->client_us) / each,
           (double)(after->postgres_us - before->postgres_us) / each,
           (double)(after->redis_us - before->redis_us) / each, self->peak_rss_kb,
           self->rows_after.inserted - self->rows_before.inserted,
           self->rows_after.updated - self->rows_before.updated,
           self->rows_after.hot - self->rows_before.hot,
           self->rows_after.deleted - self->rows_before.deleted, *more ? ", " : "", more);
}
