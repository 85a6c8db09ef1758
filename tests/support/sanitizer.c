/* sanitizer - linked into each test program: what LeakSanitizer has to know of Criterion.
 *
 * Criterion 2.4's runner can leak the timers of tests that have a timeout. Each test runs in a child,
 * which boxfort marks with BXFI_MAP; there nothing is suppressed, although all stacks of a test begin
 * in libcriterion. */
#include <stdlib.h>

const char *__lsan_default_suppressions(void);

const char *__lsan_default_suppressions(void)
{
    return getenv("BXFI_MAP") ? "" : "leak:libcriterion\n";
}
