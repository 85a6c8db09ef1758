/* The orphan deletion when something is in its way: locks, a stop, a lost lease, a kill, roles. */
#include "schema/tenant_deletion.h"
#include "schema/tenant_state.h"
#include "tests/integration/orphan_job_case.h"
#include "tests/schema/role_case.h"

TestSuite(job_orphan_faults, .timeout = 120, .fini = cm_test_database_drop);

/* As a long transaction of somebody else; ends with cm_pg_rollback(). */
static void lock(world_t *self, const char *tenant)
{
    cm_test_sql(self->other, "BEGIN");
    cm_test_sql(self->other, "LOCK TABLE tenant_%s.devices IN ACCESS EXCLUSIVE MODE", tenant);
}

static void unlock_after_pass(void *ctx)
{
    world_t *self = ctx;
    if (self->run.progress.done < self->run.progress.total)
        return;
    self->on_shown = NULL;
    cm_pg_rollback(self->other);
}

Test(job_orphan_faults, a_locked_tenant_holds_up_no_other_and_is_done_after_the_pass)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    put(&world, "a", 10, 3);
    put(&world, "b", 10, 4);
    /* A writer at work: in the way of the deletion alone, which counts the devices first. */
    cm_test_sql(world.other, "BEGIN");
    cm_test_sql(world.other, "LOCK TABLE tenant_a.tombstones IN ROW EXCLUSIVE MODE");
    world.on_shown = unlock_after_pass;
    WORKS(CM_OK);
    LEFT("a", 7);
    LEFT("b", 6);
    NOTED("a|done|\nb|done|\nc|done|");
    FIGURE("retry_rounds", 1);
    FIGURE("devices", 20);
    FIGURE("orphans", 7);
    FIGURE("deleted", 7);
    cr_expect(ge(i64, figure(&world, "lock_waits"), 5));
    cr_expect(eq(u64, world.run.progress.done, 3));
    cr_expect(eq(u64, world.run.progress.failed, 0));
}

/* The lock time-out under which the orphans of a went, in the first of `rounds` after the pass. */
static void expect_lock_timeout(int rounds, const char *timeout)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    put(&world, "a", 10, 3);
    cm_test_sql(world.other, "CREATE TABLE public.seen (timeout text)");
    cm_test_sql(world.other, "CREATE FUNCTION public.see() RETURNS trigger LANGUAGE plpgsql AS"
                             " $$BEGIN INSERT INTO public.seen VALUES"
                             " (current_setting('lock_timeout')); RETURN NULL; END$$");
    cm_test_sql(world.other, "CREATE TRIGGER see AFTER DELETE ON tenant_a.devices"
                             " EXECUTE FUNCTION public.see()");
    cm_test_sql(world.other, "BEGIN");
    cm_test_sql(world.other, "LOCK TABLE tenant_a.tombstones IN ROW EXCLUSIVE MODE");
    world.on_shown = unlock_after_pass;
    world.options.orphan_job.retry_rounds = rounds;
    WORKS(CM_OK);
    LEFT("a", 7);
    FIGURE("retry_rounds", 1);
    CM_CLEANUP(cm_free) char *seen = cm_test_rows(world.other, "SELECT timeout FROM public.seen");
    cr_expect(eq(str, seen, (char *)timeout));
}

Test(job_orphan_faults, the_last_round_waits_for_locks_until_an_autovacuum_gives_way)
{
    expect_lock_timeout(1, "1500ms");
}

Test(job_orphan_faults, a_round_before_the_last_lets_no_writer_wait_that_long)
{
    expect_lock_timeout(2, "100ms");
}

Test(job_orphan_faults, a_tenant_that_stays_locked_is_noted_after_the_last_round)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    put(&world, "a", 10, 3);
    put(&world, "b", 10, 4);
    lock(&world, "a");
    cm_test_sql(world.pg, "SET lock_timeout = 50"); /* of reading */
    WORKS(CM_OK);
    cm_pg_rollback(world.other);
    LEFT("a", 10);
    LEFT("b", 6);
    NOTED("a|failed|55P03\nb|done|\nc|done|");
    FIGURE("tenants_failed", 1);
    FIGURE("retry_rounds", 2);
    cr_expect(eq(u64, world.run.progress.done, 3));
    cr_expect(eq(u64, world.run.progress.failed, 1));
    cr_expect(eq(i64,
                 cm_test_number(world.other, "SELECT attempts FROM " CM_TEST_ADMIN
                                             ".job_run_tenants WHERE tenant = 'a'"),
                 3));
}

Test(job_orphan_faults, a_tenant_whose_tables_are_missing_is_a_failure)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    put(&world, "b", 10, 4);
    cm_test_sql(world.other, "DROP SCHEMA tenant_a CASCADE");
    world.options.orphan_job.retry_rounds = 0;
    WORKS(CM_OK);
    LEFT("b", 6);
    NOTED("a|failed|42P01\nb|done|\nc|done|");
}

Test(job_orphan_faults, a_tenant_with_a_damaged_table_holds_up_no_other)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    put(&world, "a", 10, 3);
    put(&world, "b", 10, 4);
    cm_test_sql(world.other, "CREATE FUNCTION tenant_a.damaged() RETURNS trigger LANGUAGE plpgsql"
                             " AS $$BEGIN RAISE 'invalid page' USING ERRCODE = 'XX001'; END$$");
    cm_test_sql(world.other, "CREATE TRIGGER damaged BEFORE DELETE ON tenant_a.devices"
                             " EXECUTE FUNCTION tenant_a.damaged()");
    WORKS(CM_OK);
    LEFT("a", 10);
    LEFT("b", 6);
    NOTED("a|failed|XX001\nb|done|\nc|done|");
    FIGURE("tenants_failed", 1);
    FIGURE("retry_rounds", 2);
}

/* ---- held, suspended, deleted in between ---------------------------------------------------- */

static bool is_in_a(const world_t *self)
{
    return self->run.progress.done == 0 && self->run.progress.rows >= 2;
}

static void hold_a(void *ctx)
{
    world_t *self = ctx;
    cm_tenant_change_t change;
    cm_status_t status = CM_OK;
    if (is_in_a(self))
        status = cm_tenant_hold(self->other, CM_TEST_ADMIN, "a", "", NULL, &change, &self->err);
    cr_expect(eq(int, status, CM_OK), "%s", self->err.message);
}

static void suspend_a(void *ctx)
{
    world_t *self = ctx;
    cm_tenant_change_t change;
    cm_status_t status = CM_OK;
    if (is_in_a(self))
        status = cm_tenant_suspend(self->other, CM_TEST_ADMIN, "a", NULL, &change, &self->err);
    cr_expect(eq(int, status, CM_OK), "%s", self->err.message);
}

static void request_deletion_of_a(void *ctx)
{
    world_t *self = ctx;
    cm_deletion_step_t step;
    cm_audit_trail_t audit = {.actor = "a test"};
    cm_deletion_request_t request = {"a", 2000, "", ""};
    cm_status_t status = CM_OK;
    if (is_in_a(self))
        status = cm_tenant_deletion_request(self->other, CM_TEST_ADMIN, &request, &audit, &step,
                                            &self->err);
    cr_expect(eq(int, status, CM_OK), "%s", self->err.message);
}

/* `happens` while the orphans of a are being deleted: those of the batch before are the last. */
static void expect_the_rest_is_left(void (*happens)(void *world), const char *figure_name)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    put(&world, "a", 10, 6);
    put(&world, "b", 10, 4);
    world.options.orphan_job.batch_max = 2;
    world.on_shown = happens;
    WORKS(CM_OK);
    LEFT("a", 8);
    LEFT("b", 6);
    NOTED("a|skipped|\nb|done|\nc|done|");
    FIGURE(figure_name, 1);
    FIGURE("tenants_failed", 0);
    FIGURE("tenants_done", 2);
    FIGURE("deleted", 6);
    FIGURE("retry_rounds", 0);
    cr_expect(eq(u64, world.run.progress.done, 3));
    cr_expect(eq(u64, world.run.progress.failed, 0));
}

Test(job_orphan_faults, a_legal_hold_placed_while_orphans_go_keeps_the_rest)
{
    expect_the_rest_is_left(hold_a, "tenants_held");
}

Test(job_orphan_faults, a_suspension_while_orphans_go_keeps_the_rest)
{
    expect_the_rest_is_left(suspend_a, "tenants_gone");
}

Test(job_orphan_faults, a_deletion_asked_for_while_orphans_go_keeps_the_rest)
{
    expect_the_rest_is_left(request_deletion_of_a, "tenants_gone");
}

/* ---- stopped, killed, overtaken ------------------------------------------------------------- */

static bool stop_in_b(void *ctx)
{
    world_t *self = ctx;
    return self->run.progress.done == 1 && self->run.progress.rows > 3;
}

Test(job_orphan_faults, a_run_that_was_stopped_is_gone_on_with_and_counts_all)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    put(&world, "a", 10, 3);
    put(&world, "b", 10, 4);
    put(&world, "c", 10, 5);
    world.options.orphan_job.batch_max = 2;
    world.on_asked = stop_in_b;
    WORKS(CM_CANCELLED);
    cr_expect(eq(str, world.err.code, "cancelled"));
    LEFT("a", 7);
    LEFT("b", 8);
    LEFT("c", 10);
    NOTED("a|done|");
    FIGURE("deleted", 5); /* what is committed is told */
    FIGURE("tenants_done", 1);
    resume(&world);
    world.on_asked = NULL;
    cm_test_sql(world.other, "UPDATE tenant_a.devices SET created_at = now() - interval '90 days'");
    WORKS(CM_OK);
    LEFT("a", 7); /* done by this run */
    LEFT("b", 6);
    LEFT("c", 5);
    cr_expect(eq(u64, world.run.progress.done, 3));
    FIGURE("tenants_done", 3);
    FIGURE("deleted", 10);
    FIGURE("devices", 28); /* of b those that were there when it was resumed */
}

Test(job_orphan_faults, a_resumed_run_tries_again_who_failed_and_counts_who_was_skipped)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    put(&world, "a", 10, 3);
    world.options.orphan_job.exclude = "b";
    world.options.orphan_job.retry_rounds = 0;
    lock(&world, "a");
    cm_test_sql(world.pg, "SET lock_timeout = 50");
    WORKS(CM_OK);
    cm_pg_rollback(world.other);
    NOTED("a|failed|55P03\nb|skipped|\nc|done|");
    resume(&world);
    WORKS(CM_OK);
    LEFT("a", 7);
    NOTED("a|done|\nb|skipped|\nc|done|");
    FIGURE("tenants_excluded", 1);
    FIGURE("tenants_done", 2);
    FIGURE("tenants_failed", 0);
    cr_expect(eq(u64, world.run.progress.done, 3));
}

static void overtake(void *ctx)
{
    world_t *self = ctx;
    if (self->run.progress.rows < 2)
        return;
    self->on_shown = NULL;
    cm_test_sql(self->other, "UPDATE " CM_TEST_ADMIN ".leases SET term = term + 1");
}

Test(job_orphan_faults, who_was_overtaken_deletes_and_notes_nothing_more)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    put(&world, "a", 10, 4);
    put(&world, "b", 10, 4);
    world.options.orphan_job.batch_max = 2;
    world.on_shown = overtake;
    WORKS(CM_PERMANENT);
    cr_expect(eq(str, world.err.code, "lease-lost"));
    LEFT("a", 8);
    LEFT("b", 10);
    NOTED("");
}

static bool wait_in_rest(void *ctx)
{
    world_t *self = ctx;
    return self->run.progress.failed == 1 && self->run.progress.done == self->run.progress.total;
}

Test(job_orphan_faults, a_stop_ends_the_wait_for_the_next_round)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    cm_test_sql(world.other, "DROP SCHEMA tenant_a CASCADE");
    world.options.orphan_job.retry_ms = 3600 * 1000;
    world.on_asked = wait_in_rest;
    WORKS(CM_CANCELLED);
    NOTED("a|failed|42P01\nb|done|\nc|done|");
    FIGURE("tenants_failed", 1);
}

static bool kill_backend(void *ctx)
{
    world_t *self = ctx;
    self->on_asked = NULL;
    cm_test_sql(self->other, "SELECT pg_terminate_backend(%d)", PQbackendPID(cm_pg_raw(self->pg)));
    return false;
}

Test(job_orphan_faults, a_lost_connection_ends_the_attempt_and_blames_no_tenant)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    put(&world, "a", 10, 3);
    world.on_asked = kill_backend;
    WORKS(CM_UNAVAILABLE);
    NOTED("");
    cr_assert(eq(int, cm_pg_connect(world.pg, NULL, &world.err), CM_OK));
    resume(&world);
    WORKS(CM_OK);
    LEFT("a", 7);
}

/* ---- roles ---------------------------------------------------------------------------------- */

Test(job_orphan_faults, the_purger_has_the_rights_it_takes)
{
    role_world_t roles;
    world_t world = {0};
    role_world_open(&roles);
    for (const char *id = "ab"; *id; id++)
        cm_test_tenant(roles.pg, (char[]){*id, '\0'});
    role_prepare_all(&roles, roles.pg);
    world_use(&world, role_session(&roles, CM_ROLE_PURGER), cm_test_connect(roles.uri));
    put(&world, "a", 10, 3);
    cm_test_sql(world.other,
                "INSERT INTO " CM_TEST_ADMIN ".orphan_rules (tenant, excluded) VALUES ('b', true)");
    WORKS(CM_OK);
    LEFT("a", 7);
    NOTED("a|done|\nb|skipped|");
    cr_expect(eq(i64, cm_test_number(world.other, "SELECT count(*) FROM tenant_a.tombstones"), 3));
    resume(&world);
    WORKS(CM_OK);
    world_close(&world);
    role_world_close(&roles);
}
