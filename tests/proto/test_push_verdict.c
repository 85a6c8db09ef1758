#include "proto/push_verdict.h"
#include "runtime/cleanup.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

static const int64_t NOW_MS = INT64_C(1795190400000); /* 2026-11-20T16:00:00Z */

/* The version and what it holds. With a row changed, raise the version and note both anew. */
static const unsigned VERSION = 1;
static const uint64_t DIGEST = UINT64_C(0x23f525d34b479505);

static cm_push_judgement_t judge(cm_push_provider_t provider, int status, const char *code,
                                 const char *detail)
{
    cm_push_answer_t answer = {.provider = provider,
                               .status = status,
                               .code = cm_str(code),
                               .detail = cm_str(detail),
                               .event_ms = NOW_MS};
    return cm_push_verdict_judge(&answer);
}

static void check(cm_push_provider_t provider, int status, const char *code, const char *verdict)
{
    const char *got = cm_push_verdict_name(judge(provider, status, code, NULL).verdict);
    cr_expect(eq(str, (char *)got, (char *)verdict), "%s %d %s", cm_push_provider_name(provider),
              status, code);
}

/* ---- golden vectors ------------------------------------------------------------------------- */

typedef struct {
    size_t vectors;
    size_t of_provider[CM_PUSH_PROVIDERS], of_verdict[CM_PUSH_VERDICTS];
} counts_t;

static const char *given(const char *cell)
{
    return strcmp(cell, "-") == 0 ? NULL : cell;
}

static void check_vector(char *line, unsigned number, counts_t *counts)
{
    char *cells[6] = {NULL};
    line[strcspn(line, "\n")] = '\0';
    for (size_t i = 0; i < CM_LENGTH(cells); i++)
        cells[i] = strsep(&line, ",");
    cr_assert(cells[5] && *cells[5] && !line, "line %u: six cells", number);
    cm_push_provider_t provider = CM_PUSH_FCM;
    cr_assert(cm_push_provider_parse(cm_str(cells[0]), &provider), "line %u", number);
    cm_push_judgement_t judgement =
        judge(provider, given(cells[1]) ? atoi(cells[1]) : 0, given(cells[2]), given(cells[3]));
    cr_expect(eq(str, (char *)cm_push_verdict_name(judgement.verdict), cells[4]), "line %u: %s %s",
              number, cells[0], cells[2]);
    cr_expect(eq(int, judgement.row == NULL, strcmp(cells[4], "unknown") == 0), "line %u", number);
    cr_expect(eq(uint, judgement.table_version, VERSION));
    counts->vectors++;
    counts->of_provider[provider]++;
    counts->of_verdict[judgement.verdict]++;
}

Test(push_verdict, every_golden_vector_is_judged_right, .timeout = 10)
{
    FILE *file = fopen(CM_VECTORS, "re");
    cr_assert(file != NULL, "%s", CM_VECTORS);
    counts_t counts = {0};
    char *line = NULL;
    size_t size = 0;
    for (unsigned number = 1; getline(&line, &size, file) > 0; number++) {
        if (line[0] != '#')
            check_vector(line, number, &counts);
    }
    free(line);
    fclose(file);
    cr_expect(ge(sz, counts.vectors, 120));
    for (int i = 0; i < CM_PUSH_PROVIDERS; i++)
        cr_expect(ge(sz, counts.of_provider[i], 20), "%s", cm_push_provider_name(i));
    for (int i = 0; i < CM_PUSH_VERDICTS; i++)
        cr_expect(ge(sz, counts.of_verdict[i], 5), "%s", cm_push_verdict_name(i));
}

/* ---- the table itself ------------------------------------------------------------------------ */

Test(push_verdict, a_changed_table_has_a_new_version, .timeout = 5)
{
    const cm_push_verdict_table_t *table = &cm_push_verdict_table;
    XXH3_state_t *state = XXH3_createState();
    XXH3_64bits_reset(state);
    for (size_t i = 0; i < table->count; i++) {
        const cm_push_verdict_row_t *row = &table->rows[i];
        char text[1024];
        int len = snprintf(text, sizeof text, "%u,%s,%d-%d,%s,%s,%s\n", row->line,
                           cm_push_provider_name(row->provider), row->status_min, row->status_max,
                           row->code ? row->code : "*", row->detail ? row->detail : "*",
                           cm_push_verdict_name(row->verdict));
        XXH3_64bits_update(state, text, (size_t)len);
    }
    uint64_t digest = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    cr_expect(eq(uint, table->version, VERSION));
    cr_expect(eq(u64, digest, DIGEST), "version %u is %#llx", table->version,
              (unsigned long long)digest);
}

Test(push_verdict, no_row_that_says_gone_leaves_status_or_code_open, .timeout = 5)
{
    for (size_t i = 0; i < cm_push_verdict_table.count; i++) {
        const cm_push_verdict_row_t *row = &cm_push_verdict_table.rows[i];
        if (row->verdict != CM_PUSH_VERDICT_GONE)
            continue;
        cr_expect(row->code != NULL, "line %u", row->line);
        cr_expect(eq(int, row->status_min, row->status_max), "line %u", row->line);
        cr_expect(row->status_min > 0 || row->code[0] != '\0', "line %u", row->line);
    }
}

Test(push_verdict, every_row_can_be_reached_and_names_its_source, .timeout = 5)
{
    for (size_t i = 0; i < cm_push_verdict_table.count; i++) {
        const cm_push_verdict_row_t *row = &cm_push_verdict_table.rows[i];
        bool reached = false;
        for (int status = row->status_min; status <= row->status_max && !reached; status++)
            reached = judge(row->provider, status, row->code, row->detail).row == row;
        cr_expect(reached, "line %u, %s", row->line, row->code);
        cr_expect(row->source[0] != '\0', "line %u", row->line);
    }
}

/* ---- what never ends a token ----------------------------------------------------------------- */

Test(push_verdict, an_unknown_code_is_unknown_whatever_the_status_and_the_text, .timeout = 10)
{
    static const char *const codes[] = {
        "NEVER_SEEN", "unregistered", "UNREGISTERED ", "Unregistere", "\xff\xfe", "80300099", "0",
        "*"};
    static const char *const details[] = {
        NULL, "The registration token is not a valid FCM registration token",
        "No endpoint found for the target arn specified", "Endpoint does not exist"};
    for (int provider = 0; provider < CM_PUSH_PROVIDERS; provider++) {
        for (int status = 0; status < 600; status++) {
            for (size_t i = 0; i < CM_LENGTH(codes) * CM_LENGTH(details); i++) {
                cm_push_judgement_t judgement = judge(provider, status, codes[i % CM_LENGTH(codes)],
                                                      details[i / CM_LENGTH(codes)]);
                cr_assert(eq(int, judgement.verdict, CM_PUSH_VERDICT_UNKNOWN), "%d %d %zu",
                          provider, status, i);
                cr_assert(judgement.row == NULL);
            }
        }
    }
}

Test(push_verdict, a_code_of_another_provider_never_ends_a_token, .timeout = 10)
{
    for (size_t i = 0; i < cm_push_verdict_table.count; i++) {
        const cm_push_verdict_row_t *row = &cm_push_verdict_table.rows[i];
        if (row->verdict != CM_PUSH_VERDICT_GONE || row->code[0] == '\0')
            continue;
        for (int provider = 0; provider < CM_PUSH_PROVIDERS; provider++) {
            cm_push_verdict_t verdict =
                judge(provider, row->status_min, row->code, row->detail).verdict;
            /* Apple's push service serves the web too, with the same words. */
            bool apple = (provider == CM_PUSH_APNS && row->provider == CM_PUSH_WEBPUSH) ||
                         (provider == CM_PUSH_WEBPUSH && row->provider == CM_PUSH_APNS);
            cr_expect(
                eq(int, verdict == CM_PUSH_VERDICT_GONE,
                   provider == (int)row->provider || (apple && row->status_min == 410 &&
                                                      (strcmp(row->code, "Unregistered") == 0 ||
                                                       strcmp(row->code, "ExpiredToken") == 0))),
                "line %u for %s", row->line, cm_push_provider_name(provider));
        }
    }
}

Test(push_verdict, a_status_alone_ends_a_token_only_where_it_is_documented_so, .timeout = 5)
{
    for (int provider = 0; provider < CM_PUSH_PROVIDERS; provider++) {
        for (int status = 0; status < 600; status++) {
            bool gone = judge(provider, status, NULL, NULL).verdict == CM_PUSH_VERDICT_GONE;
            bool documented = (provider == CM_PUSH_APNS && status == 410) ||
                              (provider == CM_PUSH_WEBPUSH && (status == 404 || status == 410));
            cr_expect(eq(int, gone, documented), "%d %d", provider, status);
        }
    }
}

Test(push_verdict, a_limit_a_refused_credential_or_a_bad_payload_ends_no_token, .timeout = 5)
{
    check(CM_PUSH_FCM, 429, "QUOTA_EXCEEDED", "throttled");
    check(CM_PUSH_FCM, 401, "THIRD_PARTY_AUTH_ERROR", "misconfigured");
    check(CM_PUSH_FCM, 400, "INVALID_ARGUMENT", "misconfigured");
    check(CM_PUSH_APNS, 403, "ExpiredProviderToken", "misconfigured");
    check(CM_PUSH_APNS, 400, "DeviceTokenNotForTopic", "misconfigured");
    check(CM_PUSH_HMS, 200, "80300008", "misconfigured");
    check(CM_PUSH_WEBPUSH, 403, "VapidPkHashMismatch", "misconfigured");
    check(CM_PUSH_SNS, 403, "ExpiredToken", "misconfigured");
}

Test(push_verdict, the_text_is_searched_and_not_compared, .timeout = 5)
{
    const char *text = "Invalid parameter: TargetArn Reason: No endpoint found for the target arn "
                       "specified (Service: Sns)";
    cm_push_judgement_t judgement = judge(CM_PUSH_SNS, 400, "InvalidParameter", text);
    cr_expect(eq(int, judgement.verdict, CM_PUSH_VERDICT_GONE));
    judgement = judge(CM_PUSH_SNS, 400, "InvalidParameter", "No endpoint found");
    cr_expect(eq(int, judgement.verdict, CM_PUSH_VERDICT_MISCONFIGURED));
}

/* ---- times and names ------------------------------------------------------------------------- */

Test(push_verdict, a_gone_of_apns_speaks_as_of_its_timestamp_when_that_is_earlier, .timeout = 5)
{
    cm_push_answer_t answer = {.provider = CM_PUSH_APNS,
                               .status = 410,
                               .code = CM_STR("Unregistered"),
                               .has_timestamp = true,
                               .timestamp_ms = NOW_MS - 5000,
                               .event_ms = NOW_MS};
    cr_expect(eq(i64, cm_push_verdict_judge(&answer).at_ms, NOW_MS - 5000));
    answer.timestamp_ms = NOW_MS + 5000;
    cr_expect(eq(i64, cm_push_verdict_judge(&answer).at_ms, NOW_MS));
    answer.has_timestamp = false;
    answer.timestamp_ms = 0;
    cr_expect(eq(i64, cm_push_verdict_judge(&answer).at_ms, NOW_MS));
}

Test(push_verdict, a_timestamp_moves_no_other_verdict_and_no_other_provider, .timeout = 5)
{
    cm_push_answer_t answer = {.provider = CM_PUSH_APNS,
                               .status = 200,
                               .has_timestamp = true,
                               .timestamp_ms = 1,
                               .event_ms = NOW_MS};
    cr_expect(eq(i64, cm_push_verdict_judge(&answer).at_ms, NOW_MS));
    answer.provider = CM_PUSH_WEBPUSH;
    answer.status = 410;
    cm_push_judgement_t judgement = cm_push_verdict_judge(&answer);
    cr_expect(eq(int, judgement.verdict, CM_PUSH_VERDICT_GONE));
    cr_expect(eq(i64, judgement.at_ms, NOW_MS));
}

Test(push_verdict, a_provider_is_found_by_its_exact_name, .timeout = 5)
{
    for (int i = 0; i < CM_PUSH_PROVIDERS; i++) {
        cm_push_provider_t provider = CM_PUSH_PROVIDERS;
        cr_expect(cm_push_provider_parse(cm_str(cm_push_provider_name(i)), &provider));
        cr_expect(eq(int, provider, i));
    }
    static const char *const others[] = {"", "FCM", "apns-sandbox", "web", NULL};
    for (size_t i = 0; i < CM_LENGTH(others); i++) {
        cm_push_provider_t provider = CM_PUSH_HMS;
        cr_expect(eq(int, cm_push_provider_parse(cm_str(others[i]), &provider), false));
        cr_expect(eq(int, provider, CM_PUSH_HMS));
    }
}
