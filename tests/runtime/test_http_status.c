/* The tables of reliability section 3.2, line by line, and Retry-After. */
#include "runtime/http.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <locale.h>

/* Every status code of the list, told by its own code. */
static void all_http(const int *codes, size_t count, cm_status_t expected)
{
    for (size_t i = 0; i < count; i++) {
        cm_error_t err = {0};
        char code[CM_ERROR_CODE_MAX];
        snprintf(code, sizeof code, "http-%d", codes[i]);
        cr_expect(eq(int, cm_http_classify(codes[i], 0, &err), expected), "http %d", codes[i]);
        cr_expect(eq(int, err.status, expected));
        cr_expect(eq(str, err.code, code));
        cr_expect(ne(str, err.message, ""));
    }
}

static void all_curl(const int *codes, size_t count, cm_status_t expected)
{
    for (size_t i = 0; i < count; i++) {
        cm_error_t err = {0};
        char code[CM_ERROR_CODE_MAX];
        snprintf(code, sizeof code, "curl-%d", codes[i]);
        cr_expect(eq(int, cm_http_classify(0, codes[i], &err), expected), "curl %d", codes[i]);
        cr_expect(eq(int, err.status, expected));
        cr_expect(eq(str, err.code, code));
        cr_expect(ne(str, err.message, ""));
    }
}

#define ALL(kind, expected, ...)                                                                   \
    all_##kind((const int[]){__VA_ARGS__}, sizeof((int[]){__VA_ARGS__}) / sizeof(int), expected)

Test(http_status, success_is_any_2xx)
{
    ALL(http, CM_OK, 200, 201, 202, 204, 206, 299);
}

Test(http_status, a_server_in_trouble_is_unavailable)
{
    ALL(http, CM_UNAVAILABLE, 408, 425, 429, 500, 502, 503, 504);
}

Test(http_status, a_link_in_trouble_is_unavailable)
{
    ALL(curl, CM_UNAVAILABLE, 6, 7, 16, 18, 28, 52, 55, 56, 92);
}

Test(http_status, a_refused_token_is_for_the_caller_to_replace)
{
    ALL(http, CM_MISCONFIGURED, 401);
}

Test(http_status, a_missing_right_is_a_fault_of_the_deployment)
{
    ALL(http, CM_MISCONFIGURED, 403);
}

Test(http_status, a_missing_topic_is_a_fault_of_the_deployment)
{
    ALL(http, CM_MISCONFIGURED, 404);
}

Test(http_status, a_request_that_cannot_succeed_is_permanent)
{
    ALL(http, CM_PERMANENT, 400, 413, 414, 415, 422);
}

Test(http_status, what_is_left_of_4xx_is_permanent)
{
    ALL(http, CM_PERMANENT, 402, 405, 406, 407, 409, 410, 418, 499);
}

Test(http_status, what_is_left_of_5xx_is_unavailable)
{
    ALL(http, CM_UNAVAILABLE, 501, 505, 507, 520, 529, 599);
}

Test(http_status, an_answer_over_its_cap_is_permanent)
{
    cm_error_t err = {0};
    ALL(curl, CM_PERMANENT, 23, 63);
    cr_expect(eq(int, cm_http_classify(200, 23, &err), CM_PERMANENT));
}

Test(http_status, a_refusal_with_an_explanation_over_the_cap_stays_a_refusal)
{
    cm_error_t err = {0};
    cr_expect(eq(int, cm_http_classify(503, 23, &err), CM_UNAVAILABLE));
    cr_expect(eq(str, err.code, "http-503"));
}

Test(http_status, tls_that_cannot_be_trusted_is_a_fault_of_the_deployment)
{
    ALL(curl, CM_MISCONFIGURED, 35, 51, 58, 60, 77, 83, 90, 91);
}

Test(http_status, a_redirect_is_a_fault_of_the_deployment)
{
    ALL(http, CM_MISCONFIGURED, 300, 301, 302, 303, 307, 308);
}

Test(http_status, an_address_that_is_none_is_a_fault_of_the_deployment)
{
    ALL(curl, CM_MISCONFIGURED, 1, 3);
}

Test(http_status, a_cut_answer_is_the_links_fault_whatever_its_first_line_said)
{
    cm_error_t err = {0};
    cr_expect(eq(int, cm_http_classify(200, 18, &err), CM_UNAVAILABLE));
    cr_expect(eq(int, cm_http_classify(400, 56, &err), CM_UNAVAILABLE));
    cr_expect(eq(str, err.code, "curl-56"));
}

Test(http_status, the_cause_may_be_left_untold)
{
    cr_expect(eq(int, cm_http_classify(503, 0, NULL), CM_UNAVAILABLE));
    cr_expect(eq(int, cm_http_classify(0, 7, NULL), CM_UNAVAILABLE));
}

/* ---- Retry-After ----------------------------------------------------------------------------- */

enum { NOW_S = 1445412480 }; /* Wed, 21 Oct 2015 07:28:00 GMT */

static int after(const char *value)
{
    return cm_http_retry_after_ms(cm_str(value), (int64_t)NOW_S * 1000);
}

Test(retry_after, is_read_as_seconds)
{
    cr_expect(eq(int, after("0"), 0));
    cr_expect(eq(int, after("7"), 7000));
    cr_expect(eq(int, after(" 120\t"), 120000));
}

Test(retry_after, is_read_as_each_form_of_an_http_date)
{
    cr_expect(eq(int, after("Wed, 21 Oct 2015 07:28:30 GMT"), 30000));
    cr_expect(eq(int, after("Wednesday, 21-Oct-15 07:28:30 GMT"), 30000));
    cr_expect(eq(int, after("Wed Oct 21 07:28:30 2015"), 30000));
}

Test(retry_after, of_a_date_gone_by_is_now)
{
    cr_expect(eq(int, after("Wed, 21 Oct 2015 07:27:00 GMT"), 0));
}

Test(retry_after, is_capped)
{
    cr_expect(eq(int, after("600"), CM_HTTP_RETRY_AFTER_MAX_MS));
    cr_expect(eq(int, after("601"), CM_HTTP_RETRY_AFTER_MAX_MS));
    cr_expect(eq(int, after("99999999999999999999999999"), CM_HTTP_RETRY_AFTER_MAX_MS));
    cr_expect(eq(int, after("Fri, 21 Oct 2050 07:28:00 GMT"), CM_HTTP_RETRY_AFTER_MAX_MS));
}

Test(retry_after, that_is_neither_is_none)
{
    static const char *const values[] = {"",    " ",     "-1",   "1.5",
                                         "5s",  "soon",  "0x10", "+5",
                                         "1 2", "12:00", "Wed,", "2015-10-21T07:28:30Z"};
    cr_expect(eq(int, cm_http_retry_after_ms(CM_STR_NONE, 0), -1));
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        cr_expect(eq(int, after(values[i]), -1), "%s", values[i]);
    cr_expect(eq(int, cm_http_retry_after_ms(CM_STR("Wed, 21 Oct 2015\0 07:28:30 GMT"), 0), -1));
}

Test(retry_after, longer_than_any_date_is_none)
{
    char text[200];
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    cr_expect(eq(int, after(text), -1));
}
