/* push_token_metrics - what is counted of push verdicts. Labels have bounded values: provider,
 * verdict and result, never a code or an application from outside. */
#ifndef CM_ACTORS_PUSH_TOKEN_METRICS_H
#define CM_ACTORS_PUSH_TOKEN_METRICS_H
#include "proto/push_verdict.h"
#include "runtime/metrics.h"

typedef enum {
    CM_PUSH_RESULT_APPLIED,
    CM_PUSH_RESULT_HELD,
    CM_PUSH_RESULT_STALE,
    CM_PUSH_RESULT_DUPLICATE,
    CM_PUSH_RESULT_IGNORED, /* it changes no token */
    CM_PUSH_RESULTS
} cm_push_result_t;

enum { CM_PUSH_NO_PROVIDER = CM_PUSH_PROVIDERS }; /* the sender judged and named none */

typedef struct {
    cm_metrics_t *metrics;                                                           /* borrowed */
    cm_metric_t *verdicts[CM_PUSH_PROVIDERS + 1][CM_PUSH_VERDICTS][CM_PUSH_RESULTS]; /* when used */
    cm_metric_t *brakes_on, *held, *tripped, *taken_back;
} cm_push_token_metrics_t;

void cm_push_token_metrics_open(cm_push_token_metrics_t *self, cm_metrics_t *metrics);
void cm_push_token_metrics_count(cm_push_token_metrics_t *self, unsigned provider,
                                 cm_push_verdict_t verdict, cm_push_result_t result);
#endif
