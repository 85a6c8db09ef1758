/* subscription - the table of topics: who consumes one, and where retry and reject lead.
 *
 * A sub-worker knows only outcomes; the gateway looks here for the topic that an outcome means.
 * Decided here, where events.md is silent: an activation or deletion that fails transiently has no
 * retry topic and is deferred with back-off; a rejected activation goes to writer-errors. A dead
 * letter is replayed to the republisher when it came from the writer or the republisher, else to
 * the topic it came from. Rule: events.md sections 1 and 7.
 */
#ifndef CM_PROTO_SUBSCRIPTION_H
#define CM_PROTO_SUBSCRIPTION_H
#include <stddef.h>

typedef enum {
    CM_SUBSCRIPTION_NONE = -1,
    CM_SUBSCRIPTION_WRITER,
    CM_SUBSCRIPTION_REPUBLISHER,
    CM_SUBSCRIPTION_WRITER_ERRORS,
    CM_SUBSCRIPTION_PUSH_TOKEN_STATUS,
    CM_SUBSCRIPTION_WEB_PUSH_TOKEN_STATUS,
    CM_SUBSCRIPTION_ACTIVATE_CUSTOMER,
    CM_SUBSCRIPTION_ACCOUNT_DELETION,
    CM_SUBSCRIPTION_CONTACT_DELETION,
    CM_SUBSCRIPTION_CONTACT_DELETION_ERRORS,
    CM_SUBSCRIPTION_COUNT
} cm_subscription_id_t;

/* What the ledger keeps apart: one balance a flow. A retry belongs to the flow of its message. */
typedef enum {
    CM_FLOW_DEVICES, /* writer and republisher together */
    CM_FLOW_TOKEN_STATUS,
    CM_FLOW_ACTIVATIONS,
    CM_FLOW_ACCOUNT_DELETIONS,
    CM_FLOW_CONTACT_DELETIONS,
    CM_FLOW_DEAD_LETTERS, /* what was counted dead in another flow, on its way to the table */
    CM_FLOW_COUNT
} cm_flow_t;
const char *cm_flow_name(cm_flow_t flow); /* "devices", "token-status", ... */

typedef struct {
    cm_subscription_id_t id;
    const char *suffix;         /* "writer": the topic is prefix + "." + suffix */
    const char *subworker;      /* who consumes it: "writer", "dead-letter" */
    cm_subscription_id_t retry; /* topic of a retry; NONE: the delivery is deferred instead */
    cm_subscription_id_t
        reject;     /* errors topic; NONE: an errors topic itself, nothing is rejected */
    cm_flow_t flow; /* of the ledger */
} cm_subscription_t;

enum { CM_TOPIC_NAME_MAX = 128 };

const cm_subscription_t *cm_subscription(cm_subscription_id_t id);
/* "client-manager.writer" into name; returns name. */
const char *cm_subscription_topic(cm_subscription_id_t id, const char *prefix,
                                  char name[CM_TOPIC_NAME_MAX]);
/* By topic name under prefix; NONE when it is not ours. */
cm_subscription_id_t cm_subscription_by_topic(const char *topic, const char *prefix);
#endif
