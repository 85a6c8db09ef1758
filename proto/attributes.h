/* attributes - the message attributes that we read and write, and lists of them.
 * Names and meaning: events.md section 2. Unknown attributes are carried along untouched.
 */
#ifndef CM_PROTO_ATTRIBUTES_H
#define CM_PROTO_ATTRIBUTES_H
#include "runtime/broker/broker.h"
#include "runtime/str.h"

#define CM_ATTRIBUTE_RETRY_COUNT       "retryCount"
#define CM_ATTRIBUTE_NOT_BEFORE        "notBefore"
#define CM_ATTRIBUTE_FIRST_FAILED_AT   "firstFailedAt"
#define CM_ATTRIBUTE_LAST_FAILED_AT    "lastFailedAt"
#define CM_ATTRIBUTE_ERROR_CLASS       "errorClass"
#define CM_ATTRIBUTE_ERROR_CODE        "errorCode"
#define CM_ATTRIBUTE_ERROR_MESSAGE     "errorMessage"
#define CM_ATTRIBUTE_ORIGIN_TOPIC      "originTopic"
#define CM_ATTRIBUTE_ORIGIN_MESSAGE_ID "originMessageId"
#define CM_ATTRIBUTE_REPLAY_COUNT      "replayCount"
#define CM_ATTRIBUTE_CUSTOMER_ID       "customerId"
#define CM_ATTRIBUTE_TRACE             "traceparent"
#define CM_ATTRIBUTE_TRACE_GOOGLE      "googclient_traceparent" /* what Google's clients read */

typedef struct { /* a list in an arena, room for CM_ATTRIBUTES_MAX; later sets replace earlier */
    cm_attribute_t items[CM_ATTRIBUTES_MAX];
    size_t count;
} cm_attribute_list_t;

/* Value of name, or absent. */
cm_str_t cm_attribute_get(const cm_attribute_t *items, size_t count, const char *name);
/* As decimal; `fallback` when absent, not a number, or out of int64 range. */
int64_t cm_attribute_i64(const cm_attribute_t *items, size_t count, const char *name,
                         int64_t fallback);
/* Set or replace. When the list is full of unknown attributes, the last unknown one makes room:
 * ours are never dropped. value is borrowed. */
void cm_attribute_set(cm_attribute_list_t *list, const char *name, cm_str_t value);
#endif
