/* token_status_event - the body of client-manager.push-token-status and .web-push-token-status.
 *
 * Either a verdict that the sender judged (status) or a provider's answer (provider, response) for
 * cm_push_verdict_judge(). Every fault names the path of the offending value: "response.httpStatus:
 * ...". Decided here, where events.md is silent: a body with both or with neither is malformed;
 * response without provider is malformed, provider beside status is kept; null and "" in an
 * optional field are absent; httpStatus is 100 to 599; errorCode may be an integer and is its text
 * then, at most 256 bytes as reason is; detail is at most 8 KiB; timestamp is a time as eventTime
 * is, and counts for APNs only. Both topics take every provider. Rule: events.md sections 3 and 5.
 */
#ifndef CM_PROTO_TOKEN_STATUS_EVENT_H
#define CM_PROTO_TOKEN_STATUS_EVENT_H
#include "proto/push_verdict.h"
#include "proto/tenant_id.h"
#include "runtime/status.h"

typedef struct {
    char tenant[CM_TENANT_ID_MAX]; /* canonical */
    cm_str_t application_code;
    cm_str_t client_id, token; /* one may be absent; both: the row must hold that very token */
    int64_t event_ms;          /* epoch */
    bool is_judged;            /* status, reason; else answer */
    bool is_valid;             /* the judged status */
    cm_str_t reason;           /* of a judged status, absent = not given */
    bool has_provider;         /* false only when judged; answer.provider when true */
    cm_push_answer_t answer;   /* its event_ms is set in any case */
} cm_token_status_event_t;     /* texts point into the body or the arena */

/* Decode body. now_ms: epoch, for the limit on times ahead. CM_PERMANENT with the codes of
 * cm_device_event_decode(), "too-large" also for one text above its limit. When the tenant could be
 * read, ret_event->tenant is set even on failure. */
cm_status_t cm_token_status_event_decode(cm_str_t body, int64_t now_ms, cm_arena_t *arena,
                                         cm_token_status_event_t *ret_event, cm_error_t *err);

/* The verdict of event: as its sender judged it, else as the table does. */
cm_push_judgement_t cm_token_status_event_judge(const cm_token_status_event_t *event);
#endif
