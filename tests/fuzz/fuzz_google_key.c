/* fuzz_google_key - no key file and no answer of a token endpoint harms us; what passes is usable.
 * The first byte tells which of them the rest is. */
#include "runtime/cleanup.h"
#include "runtime/google_key.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static void check_error(const cm_error_t *err)
{
    if (!err->code[0] || !err->message[0] || strpbrk(err->message, "\r\n"))
        abort();
}

static void try_file(cm_str_t json)
{
    CM_CLEANUP(cm_google_key_destroy) cm_google_key_t *key = NULL;
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t form = {0};
    cm_error_t err = {0};
    if (cm_google_key_parse(&key, "fuzz", json, &err) != CM_OK) {
        if (err.status != CM_MISCONFIGURED || key)
            abort();
        check_error(&err);
        return;
    }
    if (!*cm_google_key_name(key) || strpbrk(cm_google_key_token_uri(key), " \r\n"))
        abort();
    if (cm_google_key_form(key, "scope", 1700000000, &form, &err) != CM_OK)
        check_error(&err);
    for (size_t i = 0; i < form.len; i++)
        if (!isalnum((unsigned char)form.data[i]) && !strchr("-._~%&=", form.data[i]))
            abort();
}

static void try_token(cm_str_t json)
{
    char *token = NULL;
    int64_t life_ms = 0;
    cm_error_t err = {0};
    if (cm_google_token_parse(json, &token, &life_ms, &err) != CM_OK) {
        if (err.status != CM_UNAVAILABLE || token)
            abort();
        check_error(&err);
    } else if (!*token || strpbrk(token, " \r\n") || life_ms < 0) {
        abort();
    }
    cm_google_wipe(&token);
}

static void try_refusal(cm_str_t json, int http)
{
    cm_http_answer_t answer = {.http = http, .body = json};
    cm_error_t err = {0};
    answer.status = cm_http_classify(http, 0, &answer.error);
    if (cm_google_token_refusal(NULL, &answer, &err) == CM_OK || err.status == CM_OK)
        abort();
    check_error(&err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    cm_str_t rest = {(const char *)data + 1, size - 1};
    switch (data[0] % 4) {
    case 0:
        try_token(rest);
        break;
    case 1:
        try_refusal(rest, 400 + data[0] % 64);
        break;
    default:
        try_file(rest);
    }
    return 0;
}
