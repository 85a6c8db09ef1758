#include "actors/reporter.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "runtime/frame.h"

#include <stdio.h>
#include <string.h>

static void send_report(cm_reporter_t *self, const cm_report_t *report)
{
    if (!self->socket)
        return;
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t frame = {0};
    cm_report_encode(report, &frame);
    cm_frame_send(self->socket, &frame, ZMQ_DONTWAIT);
}

static void send_state(cm_reporter_t *self)
{
    send_report(self, &(cm_report_t){.kind = CM_REPORT_STATE,
                                     .source = cm_str(self->source),
                                     .state = self->state,
                                     .text = cm_str(self->text)});
}

static void send_metrics(cm_reporter_t *self)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t snapshot = {0};
    cm_metrics_encode(self->metrics, &snapshot);
    send_report(self, &(cm_report_t){.kind = CM_REPORT_METRICS,
                                     .source = cm_str(self->source),
                                     .metrics = {snapshot.data, snapshot.len}});
}

cm_status_t cm_reporter_open(cm_reporter_t *self, const char *endpoint, const char *source,
                             cm_error_t *err)
{
    *self = (cm_reporter_t){.state = CM_ACTOR_STARTING};
    snprintf(self->source, sizeof self->source, "%s", source);
    self->metrics = cm_metrics_new(source);
    if (!endpoint)
        return CM_OK;
    self->socket = zsock_new(ZMQ_PUSH);
    if (!self->socket || zsock_connect(self->socket, "%s", endpoint) != 0)
        return cm_error_set(err, CM_MISCONFIGURED, "socket", "cannot connect %s", endpoint);
    zsock_set_linger(self->socket, 1000); /* the last snapshot must outlive the actor */
    return CM_OK;
}

void cm_reporter_close(cm_reporter_t *self)
{
    if (self->metrics)
        send_metrics(self);
    zsock_destroy(&self->socket);
    cm_metrics_destroy(&self->metrics);
}

void cm_reporter_state(cm_reporter_t *self, cm_actor_state_t state, const char *text)
{
    bool known = state == self->state && strcmp(text, self->text) == 0;
    self->state = state;
    snprintf(self->text, sizeof self->text, "%s", text);
    if (!known)
        send_state(self);
}

bool cm_reporter_due(const cm_reporter_t *self)
{
    return cm_clock_mono_ms() >= self->next_ms;
}

void cm_reporter_tick(cm_reporter_t *self)
{
    if (!cm_reporter_due(self))
        return;
    self->next_ms = cm_clock_mono_ms() + CM_REPORT_INTERVAL_MS;
    send_state(self); /* again and again: the monitor may have been away */
    send_metrics(self);
}

void cm_reporter_beat(void *self)
{
    cm_reporter_tick(self);
}

void cm_reporter_ledgers(cm_reporter_t *self, const cm_ledgers_t *ledgers)
{
    send_report(self, &(cm_report_t){.kind = CM_REPORT_LEDGER,
                                     .source = cm_str(self->source),
                                     .ledgers = *ledgers});
}
