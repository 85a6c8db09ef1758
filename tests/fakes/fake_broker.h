/* fake_broker - a broker driver whose other end is the test.
 *
 * The test pushes commands to CM_FAKE_BROKER_IN and reads what the gateway did from
 * CM_FAKE_BROKER_OUT, in order:
 *   in   "deliver SUBSCRIPTION BODY"   next message; delivered when a pull allows it
 *        "confirm" / "refuse" / "deny" the oldest open publish ends: stored, unavailable, or
 *                                      forbidden
 *        "spoil"                       the same: refused for good
 *        "up" / "down"                 the link
 *        "lose SUBSCRIPTION"           it lost messages, nobody knows how many
 *        "lapse LEASE"                  it is another's by now
 *        "forbid SUBSCRIPTION"         it is refused, until the next delivery
 *   out  "subscribe TOPIC", "ack N", "release N", "defer N", "publish TOPIC BODY"
 * The link is up at once, unless the address is one of those below.
 * Leases count from 1 in the order of deliveries. Attributes of a delivery: retryCount=0.
 */
#ifndef CM_TESTS_FAKE_BROKER_H
#define CM_TESTS_FAKE_BROKER_H
#include "runtime/broker/broker.h"

#define CM_FAKE_BROKER_IN  "inproc://fake-broker/in"
#define CM_FAKE_BROKER_OUT "inproc://fake-broker/out"

#define CM_FAKE_BROKER_REFUSES "fake://refuses"
#define CM_FAKE_BROKER_AWAY    "fake://away"
#define CM_FAKE_BROKER_SILENT  "fake://silent"

extern const cm_broker_driver_t cm_broker_fake;
#endif
