/* supervisor - start actors in order, restart one that ended, stop them in flow order.
 *
 * Runs in the main thread, which alone receives signals (through a signalfd). Services are started
 * in table order; each must report, and the next one waits for that. One that ends by itself is
 * started again after a back-off (0.5 to 30 s, full jitter), the others run on. One that is late
 * with its report has failed, but its thread cannot be taken: it is RUNNING when the report comes
 * after all. On SIGTERM or SIGINT: every service with `drains` gets "DRAIN" on its pipe and answers
 * "DRAINED" when nothing is in hand (deadline drain_ms); then all are stopped in stop order
 * (ascending `stop_order`, equal ones together, stop_timeout_ms each). A second signal leaves at
 * once with 128 + signal; the same one again within a second is the first one told twice. Nothing
 * here waits except for all of this at once. Rule: DESIGN section 4.
 */
#ifndef CM_RUNTIME_SUPERVISOR_H
#define CM_RUNTIME_SUPERVISOR_H
#include "runtime/status.h"

#include <czmq.h>
#include <stdbool.h>
#include <stddef.h>

typedef enum {
    CM_SERVICE_WAITING, /* not started, or waiting for its back-off */
    CM_SERVICE_RUNNING,
    CM_SERVICE_DRAINING,
    CM_SERVICE_STOPPED,
    CM_SERVICE_FAILED /* did not start, err tells why; tried again with back-off */
} cm_service_state_t;

typedef struct {
    const char *name; /* "writer/0"; borrowed for the run */
    zactor_fn *body;
    void *args; /* borrowed for the run */
    int stop_order;
    bool drains;
    bool required;  /* its first start must succeed, else the run fails */
    bool essential; /* others are connected to it and would stay mute (inproc does not reconnect):
                     * when it ends by itself the run drains and ends with 1 */
} cm_service_t;

typedef struct {
    int start_timeout_ms, drain_ms, stop_timeout_ms;
    /* Called in the supervisor's thread at each change, at each start that failed again, and for a
     * service that holds up the end (DRAINING or STOPPED with an error: the deadline passed). err
     * may be NULL; so may the callback. */
    void (*on_state)(void *ctx, const cm_service_t *service, cm_service_state_t state,
                     const cm_error_t *err);
    /* Called once when all first starts are through, before waiting for signals; may be NULL. */
    void (*on_ready)(void *ctx);
    /* Called before each running service is stopped at the end of the run; may be NULL. actor's
     * pipe may be used for a question that the body answers at once; set a receive timeout first.
     */
    void (*before_stop)(void *ctx, const cm_service_t *service, zactor_t *actor);
    void *ctx;
} cm_supervisor_options_t;

/* Block SIGTERM, SIGINT and SIGHUP in the calling thread (threads started later inherit it), take
 * czmq's own handlers away and ignore SIGPIPE: a peer that went away is an error of that write
 * alone. Call first thing in main. */
void cm_supervisor_block_signals(void);

/* Run until stopped. Exit code: 0 drained and stopped, 1 the deadline passed with work in hand or
 * an actor that would not stop, 78 a required first start failed as misconfigured, 69 in any other
 * way, 128 + n second signal. After 1 and 128 + n threads may still run: leave with _exit(), since
 * exit() lets czmq close sockets under them. The same holds for 69 after a start that timed out. */
int cm_supervisor_run(const cm_service_t *services, size_t count,
                      const cm_supervisor_options_t *options);
const char *cm_service_state_name(cm_service_state_t state);
#endif
