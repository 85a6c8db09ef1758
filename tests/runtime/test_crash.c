#include "runtime/crash.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef CM_CRASH_POINTS

/* Arrive `times` times in a child; the signal that ended it, 0 when it lived on. */
static int signal_after(const char *spec, const char *point, int times)
{
    pid_t child = fork();
    if (child == 0) {
        cm_error_t err;
        if (cm_crash_arm(spec, &err) != CM_OK)
            _exit(1);
        for (int i = 0; i < times; i++)
            cm_crash_point(point);
        _exit(0);
    }
    int status = -1;
    cr_assert(eq(int, waitpid(child, &status, 0), child));
    bool killed = WIFSIGNALED(status);
    cr_assert(killed || WEXITSTATUS(status) == 0);
    return killed ? WTERMSIG(status) : 0;
}

static void expect_refused(const char *spec, const char *words)
{
    cm_error_t err = {0};
    cr_expect(eq(int, cm_crash_arm(spec, &err), CM_MISCONFIGURED), "%s", spec);
    cr_expect(strstr(err.message, words) != NULL, "%s: %s", spec, err.message);
}

Test(crash, the_nth_arrival_kills_the_process, .timeout = 10)
{
    cr_expect(eq(int, signal_after("before-commit:3", "before-commit", 2), 0));
    cr_expect(eq(int, signal_after("before-commit:3", "before-commit", 3), SIGKILL));
    cr_expect(eq(int, signal_after("before-commit:1", "before-commit", 1), SIGKILL));
}

Test(crash, another_point_is_passed_unharmed, .timeout = 10)
{
    cr_expect(eq(int, signal_after("after-commit:1", "before-commit", 5), 0));
}

Test(crash, every_listed_point_can_be_armed, .timeout = 10)
{
    static const char *const points[] = {
        "after-decode",    "before-commit",    "after-commit",       "after-republish",
        "ddl-step",        "deletion-request", "deletion-requested", "deletion-count",
        "deletion-drop",   "after-drop",       "deletion-purge",     "deletion-purged",
        "deletion-verify", "deletion-verified"};
    for (size_t i = 0; i < sizeof points / sizeof points[0]; i++) {
        char spec[64];
        snprintf(spec, sizeof spec, "%s:1", points[i]);
        cr_expect(eq(int, signal_after(spec, points[i], 1), SIGKILL), "%s", spec);
    }
}

Test(crash, nothing_armed_nothing_happens)
{
    cm_crash_point("after-drop");
}

Test(crash, an_unknown_point_is_refused_with_the_known_ones)
{
    expect_refused("before-lunch:1", "after-republish");
    expect_refused("", "after-republish");
    expect_refused(":1", "after-republish");
}

Test(crash, a_missing_or_wrong_count_is_refused)
{
    expect_refused("ddl-step", "count from 1");
    expect_refused("ddl-step:", "count from 1");
    expect_refused("ddl-step:0", "count from 1");
    expect_refused("ddl-step:-1", "count from 1");
    expect_refused("ddl-step:two", "count from 1");
}

#else

Test(crash, without_crash_points_a_point_is_nothing)
{
    cm_crash_point("after-drop");
}

#endif
