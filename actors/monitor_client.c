#include "actors/monitor_client.h"
#include "runtime/cleanup.h"

#include <curl/curl.h>
#include <jansson.h>
#include <stdio.h>

enum { BODY_MAX = 16 * 1024 * 1024 };

static size_t take(char *bytes, size_t size, size_t count, void *arg)
{
    cm_buffer_t *out = arg;
    if (out->len + size * count > BODY_MAX)
        return 0;
    cm_buffer_append(out, bytes, size * count);
    return size * count;
}

cm_status_t cm_monitor_get(const char *address, const char *path, int timeout_ms, cm_buffer_t *out,
                           cm_error_t *err)
{
    char url[512];
    snprintf(url, sizeof url, "http://%s%s", address, path);
    CURL *curl = curl_easy_init();
    if (!curl)
        return cm_error_set(err, CM_UNAVAILABLE, NULL, "cannot start an HTTP request");
    long code = 0;
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, out);
    CURLcode result = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &code);
    curl_easy_cleanup(curl);
    if (result != CURLE_OK)
        return cm_error_set(err, CM_UNAVAILABLE, NULL, "%s: %s", url, curl_easy_strerror(result));
    if (code != 200)
        return cm_error_set(err, CM_UNAVAILABLE, NULL, "%s: HTTP status %ld", url, code);
    return CM_OK;
}

/* -1 unless all of the balance is there. */
static int read_ledger(json_t *object, cm_ledger_t *ret_ledger)
{
    json_int_t received = 0, applied = 0, stale = 0, duplicate = 0, dropped = 0, retrying = 0,
               dead = 0, in_flight = 0;
    int bad = json_unpack(object, "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "received", &received,
                          "applied", &applied, "stale", &stale, "duplicate", &duplicate, "dropped",
                          &dropped, "retrying", &retrying, "dead", &dead, "in_flight", &in_flight);
    *ret_ledger = (cm_ledger_t){.received = (uint64_t)received,
                                .applied = (uint64_t)applied,
                                .stale = (uint64_t)stale,
                                .duplicate = (uint64_t)duplicate,
                                .dropped = (uint64_t)dropped,
                                .retrying = (uint64_t)retrying,
                                .dead = (uint64_t)dead,
                                .in_flight = (uint64_t)in_flight};
    return bad;
}

cm_status_t cm_monitor_parse_ledgers(const char *json, cm_ledgers_t *ret_ledgers, cm_error_t *err)
{
    json_t *root = json_loads(json, 0, NULL), *flows = json_object_get(root, "flows");
    cm_ledgers_t ledgers = {0};
    int bad = 0;
    for (int flow = 0; !bad && flow < CM_FLOW_COUNT; flow++)
        bad = read_ledger(json_object_get(flows, cm_flow_name((cm_flow_t)flow)),
                          &ledgers.flows[flow]);
    json_decref(root);
    if (bad)
        return cm_error_set(err, CM_PERMANENT, "malformed", "this is no ledger");
    *ret_ledgers = ledgers;
    return CM_OK;
}
