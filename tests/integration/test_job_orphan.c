/* The orphan deletion over all tenants: whom it takes, whom it leaves, what it notes. */
#include "tests/integration/orphan_job_case.h"

TestSuite(job_orphan, .timeout = 60, .fini = cm_test_database_drop);

Test(job_orphan, it_deletes_the_orphans_of_all_active_tenants)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    put(&world, "a", 10, 3);
    put(&world, "c", 10, 10);
    cm_test_sql(world.other, "UPDATE " CM_TEST_ADMIN ".tenants SET state = 'suspended'"
                             " WHERE id = 'b'");
    put(&world, "b", 10, 10);
    WORKS(CM_OK);
    LEFT("a", 7);
    LEFT("b", 10);
    LEFT("c", 0);
    NOTED("a|done|\nc|done|");
    cr_expect(eq(u64, world.run.progress.total, 2));
    cr_expect(eq(u64, world.run.progress.done, 2));
    cr_expect(eq(u64, world.run.progress.failed, 0));
    cr_expect(eq(u64, world.run.progress.rows, 13));
    FIGURE("tenants_done", 2);
    FIGURE("devices", 20);
    FIGURE("orphans", 13);
    FIGURE("deleted", 13);
    FIGURE("batches", 2);
    CM_CLEANUP(cm_free)
    char *detail = cm_test_rows(world.other, "SELECT detail FROM " CM_TEST_ADMIN
                                             ".job_run_tenants WHERE tenant = 'a'");
    cr_expect(eq(str, detail,
                 "{\"end\": \"done\", \"devices\": 10, \"orphans\": 3, \"deleted\": 3,"
                 " \"batches\": 1, \"lock_waits\": 0}"));
}

Test(job_orphan, more_tenants_than_a_page_are_all_dealt_with)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    cm_test_sql(world.other, "INSERT INTO " CM_TEST_ADMIN ".tenants (id, schema_name, state,"
                             " generation, schema_version) SELECT 'm' || i, 'tenant_m' || i,"
                             " 'active', 1, 1 FROM generate_series(1, 1100) AS i");
    world.options.orphan_job.retry_rounds = 0;
    put(&world, "c", 10, 3);
    cm_test_tenant(world.other, "z");
    put(&world, "z", 10, 4);
    WORKS(CM_OK);
    LEFT("c", 7);
    LEFT("z", 6);
    cr_expect(eq(u64, world.run.progress.total, 1104));
    cr_expect(eq(u64, world.run.progress.done, 1104));
    cr_expect(eq(u64, world.run.progress.failed, 1100)); /* older than this program needs */
    FIGURE("tenants_failed", 1100);
    FIGURE("tenants_done", 4);
    cr_expect(eq(i64,
                 cm_test_number(world.other, "SELECT count(*) FROM " CM_TEST_ADMIN
                                             ".job_run_tenants WHERE error_code ="
                                             " 'schema-version'"),
                 1100));
}

Test(job_orphan, one_tenant_that_is_named_is_the_only_one)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    put(&world, "a", 10, 3);
    put(&world, "b", 10, 3);
    world.run.tenant = "b";
    WORKS(CM_OK);
    LEFT("a", 10);
    LEFT("b", 7);
    cr_expect(eq(u64, world.run.progress.total, 1));
    NOTED("b|done|");
    world.run.tenant = "nobody";
    WORKS(CM_PERMANENT);
    cr_expect(eq(str, world.err.code, "not-active"));
    cr_expect(eq(str, world.err.message, "tenant nobody is absent, not active"));
}

/* ---- whom it leaves ------------------------------------------------------------------------- */

Test(job_orphan, excluded_tenants_are_left_and_noted)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    for (const char *id = "abc"; *id; id++)
        put(&world, (char[]){*id, '\0'}, 10, 3);
    world.options.orphan_job.exclude = "zebra, a";
    cm_test_sql(world.other,
                "INSERT INTO " CM_TEST_ADMIN ".orphan_rules (tenant, excluded) VALUES ('c', true)");
    WORKS(CM_OK);
    LEFT("a", 10);
    LEFT("b", 7);
    LEFT("c", 10);
    NOTED("a|skipped|\nb|done|\nc|skipped|");
    FIGURE("tenants_excluded", 2);
    FIGURE("tenants_done", 1);
}

Test(job_orphan, a_tenant_has_an_age_of_its_own)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    put(&world, "a", 10, 3);
    put(&world, "b", 10, 3);
    cm_test_sql(world.other,
                "INSERT INTO " CM_TEST_ADMIN ".orphan_rules (tenant, age_days) VALUES ('b', 60)");
    WORKS(CM_OK);
    LEFT("a", 7);
    LEFT("b", 10);
    world.options.orphan_job.age_days = 50;
    put(&world, "c", 10, 3);
    WORKS(CM_OK);
    LEFT("c", 10);
}

Test(job_orphan, rules_that_cannot_be_read_stop_it_before_anything_is_deleted)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    put(&world, "a", 10, 3);
    world.options.orphan_job.exclude = "a b";
    WORKS(CM_MISCONFIGURED);
    cr_expect(eq(str, world.err.code, "orphan-rules"));
    world.options.orphan_job.exclude = "";
    cm_test_sql(world.other, "DROP TABLE " CM_TEST_ADMIN ".orphan_rules");
    WORKS(CM_MISCONFIGURED);
    cr_expect(eq(str, world.err.code, "orphan-rules"));
    LEFT("a", 10);
    NOTED("");
}

Test(job_orphan, a_tenant_under_legal_hold_is_left)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    put(&world, "a", 10, 3);
    cm_test_sql(world.other, "UPDATE " CM_TEST_ADMIN ".tenants SET held_at = now()"
                             " WHERE id = 'a'");
    WORKS(CM_OK);
    LEFT("a", 10);
    NOTED("a|skipped|\nb|done|\nc|done|");
    FIGURE("tenants_held", 1);
}

static void delete_c(void *ctx)
{
    world_t *self = ctx;
    self->on_shown = NULL;
    cm_test_delete(self->other, "c", 2000);
}

Test(job_orphan, a_tenant_that_is_deleted_meanwhile_is_no_failure)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    put(&world, "c", 10, 3);
    world.on_shown = delete_c; /* the list was read before */
    WORKS(CM_OK);
    NOTED(
        "a|done|\nb|done|"); /* of a deleted tenant nothing is kept, that it was skipped neither */
    FIGURE("tenants_gone", 1);
}

Test(job_orphan, a_dry_run_tells_all_and_changes_nothing)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    put(&world, "a", 10, 3);
    put(&world, "b", 200, 50);
    world.run.dry_run = true;
    world.run.lease = NULL;
    world.run.run_id = 0;
    WORKS(CM_OK);
    LEFT("a", 10);
    LEFT("b", 200);
    NOTED("");
    FIGURE("devices", 210);
    FIGURE("orphans", 53);
    FIGURE("deleted", 0);
    FIGURE("tenants_guarded", 1);
    cr_expect(eq(u64, world.run.progress.done, 3));
    cr_expect(eq(u64, world.run.progress.failed, 1)); /* as the run would */
}

/* ---- the guard ------------------------------------------------------------------------------ */

Test(job_orphan, the_guard_stops_one_tenant_until_a_person_lets_it_through)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    put(&world, "a", 200, 50);
    put(&world, "b", 10, 3);
    WORKS(CM_OK);
    LEFT("a", 200);
    LEFT("b", 7);
    NOTED("a|failed|orphan-guard\nb|done|\nc|done|");
    FIGURE("tenants_failed", 1);
    FIGURE("tenants_guarded", 1);
    FIGURE("retry_rounds", 0); /* once more cannot help */
    cr_expect(ne(ptr,
                 strstr(cm_buffer_text(&world.summary),
                        "{\"tenant\": \"a\", \"devices\": 200, \"orphans\": 50}"),
                 NULL));
    world.run.tenant = "a";
    world.options.orphan_job.guard_percent = 100;
    world.run.progress = (cm_batch_progress_t){0};
    WORKS(CM_OK);
    LEFT("a", 150);
    NOTED("a|done|\nb|done|\nc|done|");
}

Test(job_orphan, the_guard_is_as_configured)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    put(&world, "a", 200, 50);
    put(&world, "b", 50, 20);
    world.options.orphan_job.guard_percent = 30;
    world.options.orphan_job.guard_above = 40;
    WORKS(CM_OK);
    LEFT("a", 150);
    LEFT("b", 50);
}
