#include "runtime/http.h"

#include <ctype.h>
#include <curl/curl.h>
#include <stdio.h>
#include <string.h>

typedef struct {
    int code;
    cm_status_t status;
} class_t;

/* Reliability, section 3.2. What is not listed goes by its hundreds. */
static const class_t http_classes[] = {
    {401, CM_MISCONFIGURED}, {403, CM_MISCONFIGURED}, {404, CM_MISCONFIGURED},
    {408, CM_UNAVAILABLE},   {425, CM_UNAVAILABLE},   {429, CM_UNAVAILABLE},
};

/* What is not listed is taken for the link's fault: waiting loses nothing. */
static const class_t curl_classes[] = {
    {CURLE_UNSUPPORTED_PROTOCOL, CM_MISCONFIGURED},
    {CURLE_URL_MALFORMAT, CM_MISCONFIGURED},
    {CURLE_WRITE_ERROR, CM_PERMANENT}, /* our own cap on the body, as the next */
    {CURLE_FILESIZE_EXCEEDED, CM_PERMANENT},
    {CURLE_SSL_CONNECT_ERROR, CM_MISCONFIGURED},
    {CURLE_SSL_ENGINE_NOTFOUND, CM_MISCONFIGURED},
    {CURLE_SSL_ENGINE_SETFAILED, CM_MISCONFIGURED},
    {CURLE_SSL_CERTPROBLEM, CM_MISCONFIGURED},
    {CURLE_SSL_CIPHER, CM_MISCONFIGURED},
    {CURLE_PEER_FAILED_VERIFICATION, CM_MISCONFIGURED},
    {51, CM_MISCONFIGURED}, /* the same in a libcurl before 7.62 */
    {CURLE_USE_SSL_FAILED, CM_MISCONFIGURED},
    {CURLE_SSL_CACERT_BADFILE, CM_MISCONFIGURED},
    {CURLE_SSL_CRL_BADFILE, CM_MISCONFIGURED},
    {CURLE_SSL_ISSUER_ERROR, CM_MISCONFIGURED},
    {CURLE_SSL_PINNEDPUBKEYNOTMATCH, CM_MISCONFIGURED},
    {CURLE_SSL_INVALIDCERTSTATUS, CM_MISCONFIGURED},
    {CURLE_SSL_CLIENTCERT, CM_MISCONFIGURED},
};

static cm_status_t look_up(const class_t *classes, size_t count, int code, cm_status_t otherwise)
{
    for (size_t i = 0; i < count; i++)
        if (classes[i].code == code)
            return classes[i].status;
    return otherwise;
}

static cm_status_t by_http(int http)
{
    if (http >= 200 && http < 300)
        return CM_OK;
    if (http >= 300 && http < 400)
        return CM_MISCONFIGURED;
    return look_up(http_classes, sizeof http_classes / sizeof *http_classes, http,
                   http >= 400 && http < 500 ? CM_PERMANENT : CM_UNAVAILABLE);
}

cm_status_t cm_http_classify(int http, int curl, cm_error_t *err)
{
    char code[CM_ERROR_CODE_MAX];
    bool cut = curl == CURLE_WRITE_ERROR || curl == CURLE_FILESIZE_EXCEEDED;
    cm_status_t status = by_http(http);
    /* A refusal stays one when its explanation is over the cap. */
    if (curl != CURLE_OK && !(cut && http >= 300)) {
        snprintf(code, sizeof code, "curl-%d", curl);
        status =
            look_up(curl_classes, sizeof curl_classes / sizeof *curl_classes, curl, CM_UNAVAILABLE);
        return cm_error_set(err, status, code, "%s", curl_easy_strerror((CURLcode)curl));
    }
    snprintf(code, sizeof code, "http-%d", http);
    return cm_error_set(
        err, status, code,
        http >= 300 && http < 400 ? "http %d, a redirect, which is not followed" : "http %d", http);
}

/* ---- Retry-After ----------------------------------------------------------------------------- */

static cm_str_t trimmed(cm_str_t s)
{
    while (s.len && (s.ptr[0] == ' ' || s.ptr[0] == '\t'))
        s = (cm_str_t){s.ptr + 1, s.len - 1};
    while (s.len && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t'))
        s.len--;
    return s;
}

/* Of any length: ten years are as good as the cap. False when it is no number. */
static bool seconds(cm_str_t s, int *ret_ms)
{
    int64_t ms = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9')
            return false;
        if (ms <= CM_HTTP_RETRY_AFTER_MAX_MS)
            ms = ms * 10 + (s.ptr[i] - '0') * 1000;
    }
    *ret_ms = ms > CM_HTTP_RETRY_AFTER_MAX_MS ? CM_HTTP_RETRY_AFTER_MAX_MS : (int)ms;
    return s.len > 0;
}

int cm_http_retry_after_ms(cm_str_t value, int64_t now_ms)
{
    char text[64]; /* an HTTP date has 29 characters, its oldest form 33 */
    int ms;
    value = trimmed(value);
    if (seconds(value, &ms))
        return ms;
    /* curl_getdate() takes much more than HTTP dates; those begin with the day of the week. */
    if (value.len == 0 || value.len >= sizeof text || !isalpha((unsigned char)value.ptr[0]) ||
        memchr(value.ptr, '\0', value.len))
        return -1;
    memcpy(text, value.ptr, value.len);
    text[value.len] = '\0';
    int64_t when = curl_getdate(text, NULL);
    if (when < 0)
        return -1;
    int64_t wait = when > INT64_MAX / 1000 ? CM_HTTP_RETRY_AFTER_MAX_MS : when * 1000 - now_ms;
    if (wait < 0)
        return 0;
    return wait > CM_HTTP_RETRY_AFTER_MAX_MS ? CM_HTTP_RETRY_AFTER_MAX_MS : (int)wait;
}
