/* publisher - publish from a command: at a rate, within a window, each message confirmed.
 *
 * Owns a broker link and its loop; blocking. A message that is not confirmed is published again
 * when the link is back. Bound: window messages are kept until confirmed.
 */
#ifndef CM_ACTORS_PUBLISHER_H
#define CM_ACTORS_PUBLISHER_H
#include "actors/options.h"
#include "proto/subscription.h"
#include "runtime/broker/broker.h"

typedef struct cm_publisher cm_publisher_t;

enum { CM_PUBLISHER_WINDOW = 2000, CM_PUBLISHER_OPEN_MS = 3000, CM_PUBLISHER_PATIENCE_MS = 15000 };

/* rate: messages a second, 0 = no limit; what was not published for more than a second is not made
 * up for. options is borrowed. CM_UNAVAILABLE when the broker does
 * not answer within CM_PUBLISHER_OPEN_MS, CM_MISCONFIGURED when it refuses us. */
cm_status_t cm_publisher_open(cm_publisher_t **ret_publisher, const cm_options_t *options,
                              int64_t rate, cm_error_t *err);
/* Does not confirm what is still outstanding. */
void cm_publisher_close(cm_publisher_t **self_p);
/* Publish to a topic of the subscriptions table; message is copied. Blocks for the rate and while
 * the window is full. CM_UNAVAILABLE: nothing was confirmed for CM_PUBLISHER_PATIENCE_MS.
 * CM_PERMANENT: the broker refuses such a message. */
cm_status_t cm_publisher_send(cm_publisher_t *self, cm_subscription_id_t topic,
                              const cm_message_t *message, cm_error_t *err);
/* Wait until all is confirmed. */
cm_status_t cm_publisher_flush(cm_publisher_t *self, cm_error_t *err);
uint64_t cm_publisher_confirmed(const cm_publisher_t *self);
#endif
