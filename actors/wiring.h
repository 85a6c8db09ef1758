/* wiring - the table of sub-workers, and the list of actors that a choice of them means.
 *
 * A new sub-worker is one row here and one in proto/subscription.c. Beside them there is the name
 * "scheduler" for the schedulers of all batch jobs (actors/batch_jobs.c), which need no gateway.
 */
#ifndef CM_ACTORS_WIRING_H
#define CM_ACTORS_WIRING_H
#include "actors/gateway.h"
#include "actors/monitor.h"
#include "actors/scheduler.h"
#include "actors/subworker.h"
#include "runtime/supervisor.h"

typedef struct {
    const char *subworker; /* name on the command line and in the subscriptions table */
    zactor_fn *body;
    unsigned (*shards)(const cm_options_t *options);
    size_t batch_max; /* deliveries handled at once; 0 = gateway.batch_max */
    const char *help;
    cm_role_t role; /* what it works as in the database, while postgres.roles is on */
    /* What of its route follows from the configuration; NULL: nothing. */
    void (*route)(const cm_options_t *options, cm_gateway_route_t *route);
} cm_wiring_t;

extern const cm_wiring_t cm_wiring[];
extern const size_t cm_wiring_count;
const cm_wiring_t *cm_wiring_find(const char *subworker); /* NULL when unknown */

enum { CM_SERVICES_MAX = 160, CM_SCHEDULERS_MAX = 16 };
#define CM_SCHEDULER "scheduler" /* as a name on the command line */

typedef struct { /* everything the actors borrow, in one place for the life of the run */
    cm_service_t services[CM_SERVICES_MAX];
    size_t service_count;
    cm_subworker_args_t subworkers[CM_SERVICES_MAX];
    size_t subworker_count;
    cm_scheduler_args_t schedulers[CM_SCHEDULERS_MAX];
    size_t scheduler_count;
    cm_gateway_route_t routes[CM_SUBSCRIPTION_COUNT];
    size_t route_count;
    const char *expected[CM_SERVICES_MAX];
    size_t expected_count;
    char consumer[192], holder[CM_LEASE_HOLDER_MAX];
    cm_gateway_args_t gateway;
    cm_monitor_args_t monitor;
} cm_mesh_t;

/* Lay out monitor, sub-workers and gateway for names. When count is 0 that is all of them, and the
 * schedulers unless scheduler.enabled is off; otherwise these run when "scheduler" is among the
 * names. Without a sub-worker there is no gateway. options is borrowed. CM_MISCONFIGURED for an
 * unknown name, listing the known ones. Before other threads start: it opens time zones. */
cm_status_t cm_mesh_lay_out(cm_mesh_t *self, const cm_options_t *options, const char *const *names,
                            size_t count, cm_error_t *err);
void cm_mesh_close(cm_mesh_t *self); /* the time zones; when no actor runs any more */
/* A role that an actor of it works as. */
cm_role_t cm_mesh_role(const cm_mesh_t *self);
#endif
