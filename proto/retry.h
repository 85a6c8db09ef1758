/* retry - what a failed device event becomes: another try at a later time, or a dead letter.
 *
 * Six tries in all: one by the Writer, five by the Republisher, each preceded by an equal-jitter
 * wait (w/2 plus a random part of w/2). retryCount that is absent, negative or not a number counts
 * as 0, above 5 as 5. Where there is no retry topic, only an unknown tenant is waited for, by
 * deferring. Rule: events.md section 7, reliability section 3.4. Pure functions.
 */
#ifndef CM_PROTO_RETRY_H
#define CM_PROTO_RETRY_H
#include "proto/attributes.h"
#include "proto/delivery.h"
#include "proto/outcome.h"

enum { CM_RETRY_MAX = 5 };

typedef struct {
    int64_t window_ms[CM_RETRY_MAX]; /* 5, 15, 45, 135, 405 s */
} cm_retry_policy_t;

int cm_retry_count(const cm_delivery_t *delivery); /* 0 .. 5 */
/* Epoch ms before which a retry is not due; 0 when due at once, absent or not a number. A time
 * further ahead than the longest window counts as that window from the delivery's publishing (from
 * now when that is unknown or ahead of now): so it ends, however often the delivery is deferred. */
int64_t cm_retry_not_before(const cm_delivery_t *delivery, const cm_retry_policy_t *policy,
                            int64_t now_ms);
/* Decide for a delivery that failed with err (TRANSIENT, MISSING or PERMANENT): *ret_outcome is
 * RETRY with retryCount + 1, notBefore and errorClass transient or tenant-missing, or REJECT with
 * errorClass permanent or exhausted (errorCode tenant-missing when it is the tenant that never
 * came); both keep the body untouched, carry unknown attributes, set originTopic and
 * originMessageId when absent, and cut errorMessage at 256 bytes. Texts are in arena.
 * origin_topic: topic of delivery. */
void cm_retry_decide(const cm_retry_policy_t *policy, const cm_delivery_t *delivery,
                     const char *origin_topic, const cm_error_t *err, int64_t now_ms,
                     uint64_t *random, cm_arena_t *arena, cm_outcome_t *ret_outcome);
/* The same rule for a subscription without retry topic: REJECT as above, never RETRY; what is not
 * permanent is exhausted. */
void cm_retry_reject(const cm_delivery_t *delivery, const char *origin_topic, const cm_error_t *err,
                     int64_t now_ms, cm_arena_t *arena, cm_outcome_t *ret_outcome);
/* For a subscription without retry topic: its tenant is not known, or not active yet. True with the
 * epoch ms until which to defer it, since its activation may be on its way: half its age to its age
 * (that between 5 s and 60 s) from now. False once it is ten minutes old, the span of the retries
 * together: to be rejected as tenant-missing. One whose publishing is unknown, or ahead of now,
 * counts as published now: it waits, since nothing tells that its tenant never came. */
bool cm_retry_await_tenant(const cm_delivery_t *delivery, int64_t now_ms, uint64_t *random,
                           int64_t *ret_until_ms);
#endif
