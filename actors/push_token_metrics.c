#include "actors/push_token_metrics.h"

#include <stdio.h>

static const char *const results[CM_PUSH_RESULTS] = {
    [CM_PUSH_RESULT_APPLIED] = "applied", [CM_PUSH_RESULT_HELD] = "held",
    [CM_PUSH_RESULT_STALE] = "stale",     [CM_PUSH_RESULT_DUPLICATE] = "duplicate",
    [CM_PUSH_RESULT_IGNORED] = "ignored",
};

void cm_push_token_metrics_open(cm_push_token_metrics_t *self, cm_metrics_t *metrics)
{
    *self = (cm_push_token_metrics_t){.metrics = metrics};
    self->brakes_on = cm_metrics_gauge(metrics, "client_manager_push_brakes_on",
                                       "Brakes of push verdicts that are on, all tenants; alert "
                                       "on this one.",
                                       "");
    self->held = cm_metrics_gauge(metrics, "client_manager_push_verdicts_held",
                                  "Verdicts held by brakes that are on, all tenants.", "");
    self->tripped = cm_metrics_counter(metrics, "client_manager_push_brakes_tripped_total",
                                       "Brakes put on by this instance.", "");
    self->taken_back = cm_metrics_counter(metrics, "client_manager_push_verdicts_taken_back_total",
                                          "Verdicts applied before a brake went on and held "
                                          "since.",
                                          "");
}

void cm_push_token_metrics_count(cm_push_token_metrics_t *self, unsigned provider,
                                 cm_push_verdict_t verdict, cm_push_result_t result)
{
    cm_metric_t **metric = &self->verdicts[provider][verdict][result];
    if (!*metric) {
        char labels[96];
        snprintf(labels, sizeof labels, "provider=\"%s\",verdict=\"%s\",result=\"%s\"",
                 provider == CM_PUSH_NO_PROVIDER
                     ? "none"
                     : cm_push_provider_name((cm_push_provider_t)provider),
                 cm_push_verdict_name(verdict), results[result]);
        *metric = cm_metrics_counter(self->metrics, "client_manager_push_verdicts_total",
                                     "Push verdicts by provider, verdict and what became of them.",
                                     labels);
    }
    cm_metric_add(*metric, 1);
}
