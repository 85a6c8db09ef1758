/* batch_runner - run a batch job: look what is to be done, hold the lease, call the body, keep what
 * became of it. What the scheduler and `client-manager job run` share.
 *
 * One runner is one job on one thread. It looks without the lease (which would be a write each
 * time), takes it only when there is something to do, looks again under it, and goes on until there
 * is nothing more. While a body works, a keeper renews the lease (actors/job_keeper.h).
 *
 * How a run ends follows from what its body returns (actors/batch_job.h):
 *
 *     CM_OK                        done, or partial when tenants of it failed
 *     CM_CANCELLED                 cancelled, when someone asked for that; else left
 *     CM_UNAVAILABLE, _TRANSIENT   left: a scheduler puts it off by keeping the lease for a while,
 *                                  longer each time; none of the instances is quicker then
 *     anything else                failed
 *
 * A run that is left is resumed, by whoever comes first; when its process ends, or it was begun by
 * hand, the lease is given back at once, and an attempt that the process's end has cut off does not
 * count. A lost lease leaves the run, too: it is another's now.
 * Rule: DESIGN section 9.
 */
#ifndef CM_ACTORS_BATCH_RUNNER_H
#define CM_ACTORS_BATCH_RUNNER_H
#include "actors/batch_job.h"
#include "actors/job_schedule.h"

typedef enum {
    CM_BATCH_BEGUN,
    CM_BATCH_RESUMED,
    CM_BATCH_ENDED, /* in event->state */
    CM_BATCH_LEFT,  /* unfinished */
    CM_BATCH_PASSED,
    CM_BATCH_RESET /* the database's clock had been wrong; ticks count from now on */
} cm_batch_happening_t;

typedef struct { /* borrowed for the call */
    cm_batch_happening_t what;
    int64_t run_id; /* 0: none */
    cm_run_kind_t kind;
    int64_t tick_ms;
    int attempt;
    int ticks; /* that passed */
    cm_run_state_t state;
    int64_t took_ms;
    const cm_batch_progress_t *progress;
    const cm_error_t *why; /* of a run that failed or was left; CM_OK: nothing to say */
} cm_batch_event_t;

typedef struct { /* borrowed for the life of the runner */
    const cm_options_t *options;
    const cm_batch_job_t *job;
    const cm_job_schedule_t *schedule;
    const char *holder;        /* cm_batch_holder() */
    zsock_t *interrupt;        /* readable: connect no more; NULL: none */
    bool (*ending)(void *ctx); /* does the process end? */
    /* All of these may be NULL. beat: called often while a body works or a server is waited for. */
    void (*show)(void *ctx, const cm_batch_progress_t *progress);
    void (*told)(void *ctx, const cm_batch_event_t *event);
    void (*beat)(void *ctx);
    void *ctx;
} cm_batch_runner_args_t;

/* host, process and a number that no other start of a process has. */
const char *cm_batch_holder(char holder[CM_LEASE_HOLDER_MAX]);

typedef struct cm_batch_runner cm_batch_runner_t;
cm_batch_runner_t *cm_batch_runner_new(const cm_batch_runner_args_t *args); /* not yet connected */
void cm_batch_runner_destroy(cm_batch_runner_t **self_p);

/* Do what is due now. *ret_wait_ms: when to come again, scheduler.poll_seconds at the most; written
 * on CM_OK. *ret_job: as it was at the last look. Errors are those of the connection and of the
 * store: what became of a run is an event, and is no error of this. */
cm_status_t cm_batch_runner_round(cm_batch_runner_t *self, int64_t *ret_wait_ms, cm_job_t *ret_job,
                                  cm_error_t *err);

typedef struct {
    const char *by;     /* who asks: cm_command_operator() */
    const char *tenant; /* only this one, canonical; NULL: all */
    bool dry_run;
} cm_batch_request_t;

typedef struct {
    int64_t run_id; /* 0: of a dry run, or of one tenant: they are no part of the history */
    bool resumed;
    cm_run_state_t state; /* CM_RUN_RUNNING: it was left */
    cm_batch_progress_t progress;
    int64_t took_ms;
    cm_buffer_t summary; /* JSON; the caller's */
    cm_error_t why;      /* of one that failed or was left */
} cm_batch_result_t;

/* Run it now, whatever schedule and pause say: go on with a run that was left, else begin one. A
 * run of one tenant leaves one that was left alone, and is not resumed itself. CM_TRANSIENT /
 * "lease-held": it is at work elsewhere; err tells where and until when. CM_OK: *ret_result tells
 * what became of it, its body's errors too. */
cm_status_t cm_batch_runner_once(cm_batch_runner_t *self, const cm_batch_request_t *request,
                                 cm_batch_result_t *ret_result, cm_error_t *err);
void cm_batch_runner_close(cm_batch_runner_t *self); /* the connection, until it is wanted again */
#endif
