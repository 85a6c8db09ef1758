/* measure - time, CPU, memory and rows of a run, the same way for every variant.
 *
 * CPU is user and system time of whole processes from /proc (10 ms ticks); that of PostgreSQL is
 * its postmaster, all its living children, and those that ended. Rows are what PostgreSQL counted.
 */
#ifndef CM_BENCH_MEASURE_H
#define CM_BENCH_MEASURE_H
#include "bench/setup.h"

typedef struct {
    int64_t client_us, postgres_us, redis_us;
} cm_bench_cpu_t;

typedef struct {
    int64_t inserted, updated, hot, deleted;
} cm_bench_rows_t;

typedef struct {
    const cm_bench_t *bench;
    pid_t client;                 /* set by the caller before the start */
    PGconn *pg;                   /* for the counts and the checkpoint */
    int64_t started_us, ended_us; /* monotonic */
    cm_bench_cpu_t cpu_before, cpu_after;
    cm_bench_rows_t rows_before, rows_after;
    int64_t peak_rss_kb; /* set by the caller */
    bool checkpoint_sent;
} cm_bench_measure_t;

/* Connect and count rows. */
void cm_bench_measure_open(cm_bench_measure_t *self, const cm_bench_t *bench);
void cm_bench_measure_start(cm_bench_measure_t *self);
/* Send a CHECKPOINT without waiting for it, once, if the run is to have one. */
void cm_bench_measure_checkpoint(cm_bench_measure_t *self);
void cm_bench_measure_end(cm_bench_measure_t *self);
/* Count rows once no other session is left in the database, and print the result as one JSON line;
 * more: further members, may be "". */
void cm_bench_measure_print(cm_bench_measure_t *self, uint64_t events, const char *more);
#endif
