/* push_verdict - what a push provider's answer means for the token it was about.
 *
 * The table is data: proto/push_verdicts.csv, one rule a line with the document it comes from,
 * compiled in by the build. The first row that fits decides; an answer that no row fits is unknown,
 * to be counted, and changes nothing. Decided here, where events.md is silent: codes are compared
 * byte by byte; a row that says gone fits only a documented status with a documented code, so an
 * unknown code never ends a token, nor does a known one beside a status it does not belong to.
 * Rule: events.md section 5.
 */
#ifndef CM_PROTO_PUSH_VERDICT_H
#define CM_PROTO_PUSH_VERDICT_H
#include "runtime/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum {
    CM_PUSH_FCM,
    CM_PUSH_APNS,
    CM_PUSH_HMS,
    CM_PUSH_WEBPUSH,
    CM_PUSH_SNS,
    CM_PUSH_PROVIDERS
} cm_push_provider_t;

typedef enum {
    CM_PUSH_VERDICT_UNKNOWN,       /* not in the table: changes no token, count it */
    CM_PUSH_VERDICT_VALID,         /* the provider took a message for the token */
    CM_PUSH_VERDICT_GONE,          /* the token is dead: stored as invalid */
    CM_PUSH_VERDICT_MISCONFIGURED, /* our credentials, topic or payload: changes no token */
    CM_PUSH_VERDICT_THROTTLED,     /* changes no token */
    CM_PUSH_VERDICT_UNAVAILABLE,   /* changes no token */
    CM_PUSH_VERDICTS
} cm_push_verdict_t;

const char *cm_push_provider_name(cm_push_provider_t provider); /* "fcm", ... */
bool cm_push_provider_parse(cm_str_t name, cm_push_provider_t *ret_provider);
const char *cm_push_verdict_name(cm_push_verdict_t verdict); /* "unknown", ... */

typedef struct {
    unsigned line; /* in push_verdicts.csv: names the rule within one version of the table */
    cm_push_provider_t provider;
    int status_min, status_max; /* both 0: an answer without a status */
    const char *code;           /* NULL: any; "": an answer without one */
    const char *detail;         /* NULL: any; else part of the answer's detail */
    cm_push_verdict_t verdict;
    const char *source; /* the document of the rule */
} cm_push_verdict_row_t;

typedef struct {
    unsigned version;
    const cm_push_verdict_row_t *rows;
    size_t count;
} cm_push_verdict_table_t;

extern const cm_push_verdict_table_t cm_push_verdict_table;

typedef struct {
    cm_push_provider_t provider;
    int status;      /* of HTTP; 0: none */
    cm_str_t code;   /* error code or reason; absent and empty are the same */
    cm_str_t detail; /* the provider's text */
    bool has_timestamp;
    int64_t timestamp_ms; /* epoch; APNs: since when it knows the token as dead */
    int64_t event_ms;     /* epoch; when the answer was received */
} cm_push_answer_t;

typedef struct {
    cm_push_verdict_t verdict;
    unsigned table_version;           /* 0: judged by the sender */
    const cm_push_verdict_row_t *row; /* NULL: unknown, or judged by the sender */
    /* Epoch; the token's registration must not be newer for the verdict to count. The answer's
     * time, but for a gone of APNs with an earlier timestamp, that: a device registered since then
     * has a token that works again. */
    int64_t at_ms;
} cm_push_judgement_t;

cm_push_judgement_t cm_push_verdict_judge(const cm_push_answer_t *answer);
#endif
