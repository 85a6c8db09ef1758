#include "runtime/bigquery.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

Test(bigquery_open, what_cannot_be_used_is_told)
{
    cm_bigquery_t *client = NULL;
    cm_error_t err = {0};
    cm_bigquery_options_t options = {.project = "p", .credentials_file = "/nowhere/key.json"};
    cr_expect(eq(int, cm_bigquery_open(&client, &options, &err), CM_MISCONFIGURED));
    options = (cm_bigquery_options_t){.project = "a/b"};
    cr_expect(eq(int, cm_bigquery_open(&client, &options, &err), CM_MISCONFIGURED));
    cr_expect(eq(str, err.code, "project"));
    options = (cm_bigquery_options_t){.project = "p", .endpoint = "ftp://x"};
    cr_expect(eq(int, cm_bigquery_open(&client, &options, &err), CM_MISCONFIGURED));
    cr_expect(eq(str, err.code, "endpoint"));
    cr_expect(eq(ptr, client, NULL));
}
