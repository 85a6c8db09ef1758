/* traffic - deterministic messages for demos and benchmarks.
 *
 * Event i of a seed is a pure function of (options, i): the same options give the same bytes.
 * Tenants are skewed (a few send most), devices come back, tokens move, some events are repeated,
 * late or out of order, a few remove a device, and a share of `poison` is malformed. With `known`
 * devices there from the start, events are updates of these, but for a share that brings new ones.
 *
 * With shares of verdicts and contact deletions, message i is an event or one of these, about an
 * event shortly before.
 */
#ifndef CM_ACTORS_TRAFFIC_H
#define CM_ACTORS_TRAFFIC_H
#include "proto/subscription.h"
#include "runtime/buffer.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    uint64_t seed;
    uint32_t tenants; /* ids 1001 .. 1000 + tenants */
    int64_t base_ms;  /* epoch time of event 0 */
    uint32_t rate;    /* events a second of event time; 0: 1000 */
    double poison;    /* share of malformed events, 0 .. 1 */
    bool uniform;     /* all tenants send alike */
    bool plain;       /* only registrations and updates: no repeats, late events, removals */
    uint32_t devices; /* per tenant at most; 0: grows with the events */
    uint64_t known;   /* devices over all tenants, spread as the traffic is; 0: see devices */
    double fresh;     /* with known: share of events that bring a device of their own, 0 .. 1 */
    double verdicts, contact_deletions; /* shares of the messages, 0 .. 1 */
} cm_traffic_t;

/* Message i, replacing what is in out; returns its topic. */
cm_subscription_id_t cm_traffic_message(const cm_traffic_t *self, uint64_t i, cm_buffer_t *out);
/* Body of event i, replacing what is in out. */
void cm_traffic_event(const cm_traffic_t *self, uint64_t i, cm_buffer_t *out);
/* Body of the registration of known device d (0 .. known - 1; in order of d they are in order of
 * tenants), a millisecond before event 0. */
void cm_traffic_registration(const cm_traffic_t *self, uint64_t d, cm_buffer_t *out);
/* Body of verdict i, at the time of event i: mostly that a token is valid, sometimes that it is
 * gone, now and then that the provider was busy. About an event shortly before; with known devices
 * about the registration of one of them. */
void cm_traffic_verdict(const cm_traffic_t *self, uint64_t i, cm_buffer_t *out);
/* Body of contact deletion i, at the time of event i: of a contact of an event shortly before; with
 * known devices of theirs, each once before one comes again. */
void cm_traffic_contact_deletion(const cm_traffic_t *self, uint64_t i, cm_buffer_t *out);
uint32_t cm_traffic_tenant(uint32_t t); /* id of tenant number t (0 ..) */
/* Body of the activation of tenant number t. */
void cm_traffic_activation(const cm_traffic_t *self, uint32_t t, cm_buffer_t *out);
/* Body of the deletion of tenant number t at at_ms, epoch. */
void cm_traffic_account_deletion(uint32_t t, int64_t at_ms, cm_buffer_t *out);
#endif
