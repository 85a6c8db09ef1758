#include "proto/subscription.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define TOPIC(name) CM_SUBSCRIPTION_##name
static const cm_subscription_t table[CM_SUBSCRIPTION_COUNT] = {
    /* id, suffix, sub-worker, retry, reject, flow */
    {TOPIC(WRITER), "writer", "writer", TOPIC(REPUBLISHER), TOPIC(WRITER_ERRORS), CM_FLOW_DEVICES},
    {TOPIC(REPUBLISHER), "republisher", "republisher", TOPIC(REPUBLISHER), TOPIC(WRITER_ERRORS),
     CM_FLOW_DEVICES},
    {TOPIC(WRITER_ERRORS), "writer-errors", "dead-letter", TOPIC(NONE), TOPIC(NONE),
     CM_FLOW_DEAD_LETTERS},
    {TOPIC(PUSH_TOKEN_STATUS), "push-token-status", "push-token-status", TOPIC(NONE),
     TOPIC(WRITER_ERRORS), CM_FLOW_TOKEN_STATUS},
    {TOPIC(WEB_PUSH_TOKEN_STATUS), "web-push-token-status", "push-token-status", TOPIC(NONE),
     TOPIC(WRITER_ERRORS), CM_FLOW_TOKEN_STATUS},
    {TOPIC(ACTIVATE_CUSTOMER), "activate-customer", "tenant-activator", TOPIC(NONE),
     TOPIC(WRITER_ERRORS), CM_FLOW_ACTIVATIONS},
    {TOPIC(ACCOUNT_DELETION), "account-deletion", "account-deletion", TOPIC(NONE),
     TOPIC(WRITER_ERRORS), CM_FLOW_ACCOUNT_DELETIONS},
    {TOPIC(CONTACT_DELETION), "contact-deletion", "contact-deletion", TOPIC(NONE),
     TOPIC(CONTACT_DELETION_ERRORS), CM_FLOW_CONTACT_DELETIONS},
    {TOPIC(CONTACT_DELETION_ERRORS), "contact-deletion-errors", "dead-letter", TOPIC(NONE),
     TOPIC(NONE), CM_FLOW_DEAD_LETTERS},
};
#undef TOPIC

static const char *const flows[CM_FLOW_COUNT] = {
    [CM_FLOW_DEVICES] = "devices",
    [CM_FLOW_TOKEN_STATUS] = "token-status",
    [CM_FLOW_ACTIVATIONS] = "activations",
    [CM_FLOW_ACCOUNT_DELETIONS] = "account-deletions",
    [CM_FLOW_CONTACT_DELETIONS] = "contact-deletions",
    [CM_FLOW_DEAD_LETTERS] = "dead-letters",
};

const char *cm_flow_name(cm_flow_t flow)
{
    assert(flow < CM_FLOW_COUNT);
    return flows[flow];
}

const cm_subscription_t *cm_subscription(cm_subscription_id_t id)
{
    assert(id > CM_SUBSCRIPTION_NONE && id < CM_SUBSCRIPTION_COUNT);
    return &table[id];
}

const char *cm_subscription_topic(cm_subscription_id_t id, const char *prefix,
                                  char name[CM_TOPIC_NAME_MAX])
{
    snprintf(name, CM_TOPIC_NAME_MAX, "%s.%s", prefix, cm_subscription(id)->suffix);
    return name;
}

cm_subscription_id_t cm_subscription_by_topic(const char *topic, const char *prefix)
{
    size_t len = strlen(prefix);
    if (strncmp(topic, prefix, len) != 0 || topic[len] != '.')
        return CM_SUBSCRIPTION_NONE;
    for (int id = 0; id < CM_SUBSCRIPTION_COUNT; id++) {
        if (strcmp(topic + len + 1, table[id].suffix) == 0)
            return (cm_subscription_id_t)id;
    }
    return CM_SUBSCRIPTION_NONE;
}
