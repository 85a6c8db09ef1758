#include "proto/push_verdict.h"
#include "runtime/cleanup.h"

#include <assert.h>
#include <string.h>

static const char *const providers[CM_PUSH_PROVIDERS] = {
    [CM_PUSH_FCM] = "fcm",         [CM_PUSH_APNS] = "apns", [CM_PUSH_HMS] = "hms",
    [CM_PUSH_WEBPUSH] = "webpush", [CM_PUSH_SNS] = "sns",
};

static const char *const verdicts[CM_PUSH_VERDICTS] = {
    [CM_PUSH_VERDICT_UNKNOWN] = "unknown",     [CM_PUSH_VERDICT_VALID] = "valid",
    [CM_PUSH_VERDICT_GONE] = "gone",           [CM_PUSH_VERDICT_MISCONFIGURED] = "misconfigured",
    [CM_PUSH_VERDICT_THROTTLED] = "throttled", [CM_PUSH_VERDICT_UNAVAILABLE] = "unavailable",
};

const char *cm_push_provider_name(cm_push_provider_t provider)
{
    assert(provider < CM_PUSH_PROVIDERS);
    return providers[provider];
}

bool cm_push_provider_parse(cm_str_t name, cm_push_provider_t *ret_provider)
{
    for (size_t i = 0; i < CM_LENGTH(providers); i++) {
        if (cm_str_is(name, providers[i])) {
            *ret_provider = (cm_push_provider_t)i;
            return true;
        }
    }
    return false;
}

const char *cm_push_verdict_name(cm_push_verdict_t verdict)
{
    assert(verdict < CM_PUSH_VERDICTS);
    return verdicts[verdict];
}

static bool code_fits(const char *wanted, cm_str_t code)
{
    if (!wanted)
        return true;
    return code.len == 0 ? *wanted == '\0' : cm_str_is(code, wanted);
}

static bool detail_fits(const char *wanted, cm_str_t detail)
{
    return !wanted ||
           (detail.len > 0 && memmem(detail.ptr, detail.len, wanted, strlen(wanted)) != NULL);
}

static bool row_fits(const cm_push_verdict_row_t *row, const cm_push_answer_t *answer)
{
    return row->provider == answer->provider && row->status_min <= answer->status &&
           answer->status <= row->status_max && code_fits(row->code, answer->code) &&
           detail_fits(row->detail, answer->detail);
}

cm_push_judgement_t cm_push_verdict_judge(const cm_push_answer_t *answer)
{
    const cm_push_verdict_table_t *table = &cm_push_verdict_table;
    cm_push_judgement_t judgement = {.verdict = CM_PUSH_VERDICT_UNKNOWN,
                                     .table_version = table->version,
                                     .at_ms = answer->event_ms};
    for (size_t i = 0; i < table->count && !judgement.row; i++) {
        if (row_fits(&table->rows[i], answer))
            judgement.row = &table->rows[i];
    }
    if (judgement.row)
        judgement.verdict = judgement.row->verdict;
    if (judgement.verdict == CM_PUSH_VERDICT_GONE && answer->provider == CM_PUSH_APNS &&
        answer->has_timestamp && answer->timestamp_ms < answer->event_ms)
        judgement.at_ms = answer->timestamp_ms;
    return judgement;
}
