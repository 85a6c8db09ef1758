/* broker_choice - the broker that the configuration names: driver, address, options.
 *
 * Borrows from options and consumer, which must outlive whoever opens it; keep it in place as long
 * as the broker is open. A further driver is one more branch here.
 */
#ifndef CM_ACTORS_BROKER_CHOICE_H
#define CM_ACTORS_BROKER_CHOICE_H
#include "actors/options.h"
#include "runtime/broker/broker.h"
#include "runtime/broker/google_pubsub.h"

enum { CM_BROKER_URI_MAX = 512 };

typedef struct {
    const cm_broker_driver_t *driver;
    cm_broker_options_t options;
    cm_pubsub_options_t pubsub;
    char uri[CM_BROKER_URI_MAX];
} cm_broker_choice_t;

void cm_broker_choose(cm_broker_choice_t *self, const cm_options_t *options, const char *consumer);
const cm_broker_driver_t *cm_broker_driver_of(const cm_options_t *options);
#endif
