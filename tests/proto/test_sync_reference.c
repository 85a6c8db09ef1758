#include "proto/sync_reference.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

TestSuite(sync_reference, .timeout = 10);

static cm_status_t parse(const char *line, cm_sync_reference_t *ret, bool *ret_holds,
                         cm_error_t *err)
{
    return cm_sync_reference_parse(cm_str(line), ret, ret_holds, err);
}

Test(sync_reference, a_line_of_four_values_is_read)
{
    cm_sync_reference_t reference;
    bool holds = false;
    cr_expect(eq(int, parse("42, 100 ,-7,1764000000000\r", &reference, &holds, NULL), CM_OK));
    cr_expect(holds);
    cr_expect(eq(str, reference.tenant, "42"));
    cr_expect(eq(i64, reference.devices, 100));
    cr_expect(reference.has_checksum);
    cr_expect(eq(i64, reference.checksum, -7));
    cr_expect(eq(i64, reference.counted_ms, INT64_C(1764000000000)));
}

Test(sync_reference, checksum_and_time_may_be_absent_or_empty)
{
    const char *lines[] = {"42,100", "42,100,", "42,100,,", " 42 , 100 , , "};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        cm_sync_reference_t reference;
        bool holds = false;
        cr_expect(eq(int, parse(lines[i], &reference, &holds, NULL), CM_OK), "%s", lines[i]);
        cr_expect(holds);
        cr_expect(not(reference.has_checksum));
        cr_expect(eq(i64, reference.counted_ms, 0));
    }
}

Test(sync_reference, the_tenant_becomes_canonical)
{
    cm_sync_reference_t reference;
    bool holds = false;
    cr_expect(
        eq(int, parse("0A000000-0000-4000-8000-00000000000F,1", &reference, &holds, NULL), CM_OK));
    cr_expect(eq(str, reference.tenant, "0a00000000004000800000000000000f"));
}

Test(sync_reference, headings_comments_and_empty_lines_hold_nothing)
{
    const char *lines[] = {"", "  \t\r", "# 42,100", " #", "tenant,devices", "tenant"};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        cm_sync_reference_t reference;
        bool holds = true;
        cr_expect(eq(int, parse(lines[i], &reference, &holds, NULL), CM_OK), "%s", lines[i]);
        cr_expect(not(holds), "%s", lines[i]);
    }
}

Test(sync_reference, what_is_wrong_is_told)
{
    static const struct {
        const char *line, *code;
    } wrong[] = {
        {"42", "malformed"},
        {"42,", "malformed"},
        {"42,-1", "malformed"},
        {"42,1.5", "malformed"},
        {"42,9223372036854775808", "malformed"},
        {"42,1,x", "malformed"},
        {"42,1,2,x", "malformed"},
        {"42,1,2,0", "malformed"},
        {"42,1,2,253402300800000", "malformed"},
        {"42,1,2,3,", "malformed"},
        {",1", "invalid-tenant"},
        {"no id!,1", "invalid-tenant"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        cm_sync_reference_t reference;
        cm_error_t err = {0};
        bool holds = false;
        cr_expect(eq(int, parse(wrong[i].line, &reference, &holds, &err), CM_PERMANENT), "%s",
                  wrong[i].line);
        cr_expect(eq(str, err.code, (char *)wrong[i].code), "%s", wrong[i].line);
    }
}
