/* The orphan deletion while the clock of this process is wrong. The functions below stand before
 * the C library's for every object of the program; the server is another process and has the right
 * time. */
#include "runtime/clock.h"
#include "schema/orphan_store.h"
#include "tests/schema/store_case.h"

#include <stdatomic.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

TestSuite(orphan_clock, .timeout = 60, .fini = cm_test_database_drop);

enum { TEN_YEARS_S = 10 * 365 * 24 * 3600 };

static _Atomic long shift_s;

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int status = (int)syscall(SYS_clock_gettime, clock, now);
    if (status == 0 && clock == CLOCK_REALTIME)
        now->tv_sec += shift_s;
    return status;
}

time_t time(time_t *ret_now)
{
    struct timespec now = {0};
    clock_gettime(CLOCK_REALTIME, &now);
    if (ret_now)
        *ret_now = now.tv_sec;
    return now.tv_sec;
}

/* Devices left of one of 29 and one of 31 days, with a clock that is wrong by wrong_s. */
static void expect_only_the_old_one_goes(long wrong_s)
{
    store_world_t world = {0};
    cm_orphan_rules_t *rules = NULL;
    cm_orphan_result_t result;
    store_set_up(&world);
    cm_test_sql(world.other,
                "INSERT INTO tenant_a.devices (application_code, client_id, created_at)"
                " VALUES ('app', 'young', now() - interval '29 days'),"
                " ('app', 'old', now() - interval '31 days')");
    int64_t right_ms = cm_clock_epoch_ms();
    shift_s = wrong_s;
    int64_t off_s = (cm_clock_epoch_ms() - right_ms) / 1000;
    cr_assert(le(i64, llabs(off_s - wrong_s), 60), "the clock could not be set wrong");
    cr_assert(
        eq(int, cm_orphan_rules_load(world.pg, CM_TEST_ADMIN, NULL, 0, &rules, &world.err), CM_OK));
    cm_orphan_options_t options = {.rules = rules};
    cm_status_t status = cm_orphan_delete(world.pg, "a", &options, &result, &world.err);
    shift_s = 0;
    cr_expect(eq(int, status, CM_OK), "%s", world.err.message);
    ROWS("young", "SELECT client_id FROM tenant_a.devices");
    ROWS("old|t", "SELECT client_id, abs(extract(epoch FROM now() - removed_at)) < 3600"
                  " FROM tenant_a.tombstones");
    cm_orphan_rules_destroy(&rules);
    store_tear_down(&world);
}

Test(orphan_clock, ten_years_ahead_deletes_nothing_early)
{
    expect_only_the_old_one_goes(TEN_YEARS_S);
}

Test(orphan_clock, ten_years_behind_deletes_nothing_late)
{
    expect_only_the_old_one_goes(-TEN_YEARS_S);
}
