#include "runtime/status.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

Test(status, every_status_has_its_name)
{
    cr_expect(eq(str, cm_status_name(CM_OK), "ok"));
    cr_expect(eq(str, cm_status_name(CM_TRANSIENT), "transient"));
    cr_expect(eq(str, cm_status_name(CM_PERMANENT), "permanent"));
    cr_expect(eq(str, cm_status_name(CM_UNAVAILABLE), "unavailable"));
    cr_expect(eq(str, cm_status_name(CM_MISCONFIGURED), "misconfigured"));
    cr_expect(eq(str, cm_status_name(CM_MISSING), "missing"));
    cr_expect(eq(str, cm_status_name(CM_CANCELLED), "cancelled"));
    cr_expect(eq(str, cm_status_name((cm_status_t)7), "unknown"));
    cr_expect(eq(str, cm_status_name((cm_status_t)-1), "unknown"));
}

Test(status, setting_an_error_returns_and_keeps_status_code_and_message)
{
    cm_error_t err = {0};
    cr_expect(eq(int, cm_error_set(&err, CM_PERMANENT, "23505", "row %d", 7), CM_PERMANENT));
    cr_expect(eq(int, err.status, CM_PERMANENT));
    cr_expect(eq(str, err.code, "23505"));
    cr_expect(eq(str, err.message, "row 7"));
}

Test(status, an_error_without_code_or_without_place_is_fine)
{
    cm_error_t err = {.code = "old"};
    cm_error_set(&err, CM_TRANSIENT, NULL, "x");
    cr_expect(eq(str, err.code, ""));
    cr_expect(eq(int, cm_error_set(NULL, CM_MISSING, "c", "x"), CM_MISSING));
    cm_error_prefix(NULL, "x");
}

Test(status, what_is_too_long_is_cut)
{
    char word[300];
    memset(word, 'w', sizeof word - 1);
    word[sizeof word - 1] = '\0';
    cm_error_t err = {0};
    cm_error_set(&err, CM_PERMANENT, word, "%s", word);
    cr_expect(eq(sz, strlen(err.code), CM_ERROR_CODE_MAX - 1));
    cr_expect(eq(sz, strlen(err.message), CM_ERROR_MESSAGE_MAX - 1));
    cm_error_prefix(&err, "batch");
    cr_expect(eq(sz, strlen(err.message), CM_ERROR_MESSAGE_MAX - 1));
    cr_expect(zero(int, strncmp(err.message, "batch: www", 10)));
    cm_error_prefix(&err, "%s", word);
    cr_expect(eq(sz, strlen(err.message), CM_ERROR_MESSAGE_MAX - 1));
}

Test(status, a_prefix_keeps_status_and_code)
{
    cm_error_t err = {0};
    cm_error_set(&err, CM_UNAVAILABLE, "08006", "connection lost");
    cr_expect(eq(int, cm_error_prefix(&err, "database %s", "main"), CM_UNAVAILABLE));
    cr_expect(eq(str, err.code, "08006"));
    cr_expect(eq(str, err.message, "database main: connection lost"));
}

Test(status, an_error_may_be_set_from_its_own_parts)
{
    cm_error_t err = {0};
    cm_error_set(&err, CM_TRANSIENT, "40P01", "deadlock");
    cm_error_set(&err, CM_PERMANENT, err.code, "gave up: %s, %s", err.message, err.code);
    cr_expect(eq(str, err.code, "40P01"));
    cr_expect(eq(str, err.message, "gave up: deadlock, 40P01"));
    cm_error_prefix(&err, "%s", err.code);
    cr_expect(eq(str, err.message, "40P01: gave up: deadlock, 40P01"));
}
