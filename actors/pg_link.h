/* pg_link - an actor's connection: made when needed, watched by a breaker, made anew when it is
 * old.
 *
 * Logs and reports each change of state once: away, away because a person must act, back. Who waits
 * for an answer ticks the reporter meanwhile: work that takes long is no thread that hangs. Rule:
 * DESIGN section 7, reliability sections 2.3, 3.5.
 */
#ifndef CM_ACTORS_PG_LINK_H
#define CM_ACTORS_PG_LINK_H
#include "actors/options.h"
#include "actors/reporter.h"
#include "runtime/breaker.h"
#include "runtime/pg.h"

typedef struct {
    const char *name; /* of the actor, borrowed */
    char application[96];
    const cm_options_t *options;
    cm_reporter_t *reporter; /* borrowed */
    cm_pg_t *pg;             /* valid from open to close, connected or not */
    cm_breaker_t breaker;
    int64_t recycle_at_ms;         /* monotonic */
    int64_t recycle_tenants_at_ms; /* monotonic; not before for its tenants */
    cm_status_t told;              /* CM_OK: it is there; else the class that was told last */
    bool doubted; /* it failed although a server answers: a new connection proves nothing */
    cm_metric_t *connects, *failures, *state;
} cm_pg_link_t;

/* role: of its sessions, while postgres.roles is on. */
void cm_pg_link_open(cm_pg_link_t *self, const cm_options_t *options, const char *name,
                     cm_role_t role, cm_reporter_t *reporter);
void cm_pg_link_close(cm_pg_link_t *self);

/* A usable connection: the one that is there, or a new one if the breaker allows an attempt now.
 * tenants_touched: since the connection was made; it is made anew beyond its age or, once it is
 * some minutes old, beyond that number: it loses all its prepared statements. CM_UNAVAILABLE,
 * CM_MISCONFIGURED: not now, see cm_pg_link_wait_ms(); CM_CANCELLED: pipe has something to say. */
cm_status_t cm_pg_link_up(cm_pg_link_t *self, zsock_t *pipe, size_t tenants_touched,
                          cm_error_t *err);
/* Tell how a use of the connection went. */
void cm_pg_link_record(cm_pg_link_t *self, cm_status_t status, const cm_error_t *err);
/* Milliseconds until the next attempt makes sense; 0 = now. */
int cm_pg_link_wait_ms(const cm_pg_link_t *self);
#endif
