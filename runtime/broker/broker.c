#include "runtime/broker/broker.h"

#include <assert.h>
#include <stdlib.h>

enum { HOLD_MAX_MS = 3600000 };

struct cm_broker {
    const cm_broker_driver_t *driver;
    void *impl;
    bool consumes, publishes; /* the events for it are set */
};

cm_status_t cm_broker_open(cm_broker_t **ret_broker, const cm_broker_driver_t *driver,
                           zloop_t *loop, const cm_broker_options_t *options,
                           const cm_broker_events_t *events, cm_error_t *err)
{
    assert(loop && options->uri && options->consumer && options->consumer[0]);
    assert(options->lease_ms >= 1000 && options->poll_ms > 0);
    assert(events->on_link);
    cm_broker_t *self = calloc(1, sizeof *self);
    if (!self)
        abort();
    self->driver = driver;
    self->consumes = events->on_delivery && events->on_pulled && events->on_lapsed &&
                     events->on_lost && events->on_refused && events->on_depth;
    self->publishes = events->on_published;
    cm_broker_options_t complete = *options;
    if (complete.hold_max_ms <= 0)
        complete.hold_max_ms = HOLD_MAX_MS;
    cm_status_t status = driver->open(&self->impl, loop, &complete, events, err);
    if (status == CM_OK)
        *ret_broker = self;
    else
        free(self);
    return status;
}

void cm_broker_close(cm_broker_t **self_p)
{
    if (!*self_p)
        return;
    (*self_p)->driver->close(&(*self_p)->impl);
    free(*self_p);
    *self_p = NULL;
}

int cm_broker_subscribe(cm_broker_t *self, const char *subscription)
{
    assert(self->consumes && subscription && subscription[0]);
    return self->driver->subscribe(self->impl, subscription);
}

void cm_broker_pull(cm_broker_t *self, int subscription, size_t max)
{
    assert(subscription >= 0 && max >= 1 && max <= 100000);
    self->driver->pull(self->impl, subscription, max);
}

void cm_broker_ack(cm_broker_t *self, const cm_broker_lease_t *leases, size_t count)
{
    if (count)
        self->driver->ack(self->impl, leases, count);
}

void cm_broker_defer(cm_broker_t *self, cm_broker_lease_t lease, int64_t until_ms)
{
    self->driver->defer(self->impl, lease, until_ms);
}

void cm_broker_release(cm_broker_t *self, const cm_broker_lease_t *leases, size_t count)
{
    if (count)
        self->driver->release(self->impl, leases, count);
}

void cm_broker_publish(cm_broker_t *self, const char *topic, const cm_message_t *message,
                       uint64_t token)
{
    assert(self->publishes && topic && topic[0]);
    self->driver->publish(self->impl, topic, message, token);
}

void cm_broker_depth(cm_broker_t *self, int subscription)
{
    assert(subscription >= 0);
    self->driver->depth(self->impl, subscription);
}

bool cm_broker_settled(cm_broker_t *self)
{
    return self->driver->settled(self->impl);
}
