#include "actors/pg_link.h"
#include "runtime/clock.h"
#include "runtime/log.h"

#include <stdio.h>

/* With more active tenants than a connection may touch it would be made anew with every batch. */
enum { RECYCLE_TENANTS_AGE_MS = 5 * 60000 };

void cm_pg_link_open(cm_pg_link_t *self, const cm_options_t *options, const char *name,
                     cm_role_t role, cm_reporter_t *reporter)
{
    *self = (cm_pg_link_t){.name = name, .options = options, .reporter = reporter};
    snprintf(self->application, sizeof self->application, "client-manager %s", name);
    cm_pg_options_t pg = cm_options_pg_as(options, self->application, role);
    pg.on_wait = cm_reporter_beat;
    pg.wait_ctx = reporter;
    self->pg = cm_pg_new(&pg);
    cm_breaker_init(&self->breaker, (int)options->breaker.open_after,
                    (int)options->breaker.probe_min_ms, (int)options->breaker.probe_max_ms,
                    cm_random_u64());
    self->connects = cm_metrics_counter(reporter->metrics, "client_manager_pg_connects_total",
                                        "PostgreSQL connections made.", "");
    self->failures = cm_metrics_counter(reporter->metrics, "client_manager_pg_failures_total",
                                        "Connection attempts and links that failed.", "");
    self->state = cm_metrics_gauge(reporter->metrics, "client_manager_breakers_open",
                                   "Database breakers that are not closed.", "");
}

void cm_pg_link_close(cm_pg_link_t *self)
{
    cm_pg_destroy(&self->pg);
}

void cm_pg_link_record(cm_pg_link_t *self, cm_status_t status, const cm_error_t *err)
{
    bool failed = status == CM_UNAVAILABLE || status == CM_MISCONFIGURED;
    self->doubted = failed && cm_pg_is_connected(self->pg);
    cm_breaker_record(&self->breaker, status, err, cm_clock_mono_ms());
    cm_metric_set(self->state, self->breaker.state != CM_BREAKER_CLOSED);
    if (failed) {
        cm_metric_add(self->failures, 1);
        /* A server that was away may come back without our right: that is news. */
        if (self->told == CM_OK || (status == CM_MISCONFIGURED && self->told != status)) {
            cm_log(CM_LOG_WARN, self->name, "database away, consumption pauses",
                   "class=%s code=\"%s\" cause=\"%s\"", cm_status_name(status), err->code,
                   err->message);
            cm_reporter_state(self->reporter,
                              status == CM_UNAVAILABLE ? CM_ACTOR_PAUSED : CM_ACTOR_STOPPED,
                              err->message);
            self->told = status;
        }
    } else if (self->told != CM_OK) {
        self->told = CM_OK;
        cm_log(CM_LOG_INFO, self->name, "database back", NULL);
        cm_reporter_state(self->reporter, CM_ACTOR_RUNNING, "");
    }
}

static cm_status_t connect_now(cm_pg_link_t *self, zsock_t *pipe, cm_error_t *err)
{
    cm_status_t status = cm_pg_connect(self->pg, pipe, err);
    if (status == CM_CANCELLED)
        return status;
    /* A full disk or a missing right lets everybody in: what failed must succeed first. */
    if (status != CM_OK || !self->doubted)
        cm_pg_link_record(self, status, err);
    if (status != CM_OK)
        return status;
    cm_metric_add(self->connects, 1);
    int64_t age_ms = self->options->postgres.recycle_minutes * 60000;
    uint64_t seed = cm_random_u64();
    int64_t now_ms = cm_clock_mono_ms();
    self->recycle_tenants_at_ms = now_ms + RECYCLE_TENANTS_AGE_MS;
    self->recycle_at_ms =
        now_ms + age_ms - age_ms / 8 + (int64_t)cm_random_below(&seed, (uint64_t)age_ms / 4 + 1);
    return CM_OK;
}

cm_status_t cm_pg_link_up(cm_pg_link_t *self, zsock_t *pipe, size_t tenants_touched,
                          cm_error_t *err)
{
    if (!cm_breaker_allows(&self->breaker, cm_clock_mono_ms()))
        return cm_error_set(err, CM_UNAVAILABLE, "breaker", "waiting to probe the database");
    if (cm_pg_is_connected(self->pg)) {
        int64_t now_ms = cm_clock_mono_ms();
        bool full = tenants_touched > (size_t)self->options->postgres.recycle_tenants;
        bool old = now_ms >= self->recycle_at_ms || (full && now_ms >= self->recycle_tenants_at_ms);
        if (!old)
            return CM_OK;
        cm_pg_close(self->pg);
    }
    return connect_now(self, pipe, err);
}

int cm_pg_link_wait_ms(const cm_pg_link_t *self)
{
    int wait_ms = cm_breaker_wait_ms(&self->breaker, cm_clock_mono_ms());
    return wait_ms < 0 ? 0 : wait_ms;
}
