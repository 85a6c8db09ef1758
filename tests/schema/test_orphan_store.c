#include "tests/schema/orphan_case.h"

#include <pthread.h>

TestSuite(orphan_store, .timeout = 60, .fini = cm_test_database_drop);

/* ---- what an orphan is ---------------------------------------------------------------------- */

Test(orphan_store, devices_without_contact_for_longer_than_the_age_go)
{
    orphan_world_t world = {0};
    set_up(&world);
    put_device(&world, "old", 31);
    put_device(&world, "young", 29);
    RUNS(CM_OK);
    LEFT("young");
    cr_expect(eq(i64, world.result.devices, 2));
    cr_expect(eq(i64, world.result.orphans, 1));
    cr_expect(eq(i64, world.result.deleted, 1));
    tear_down(&world);
}

Test(orphan_store, a_device_with_contact_stays)
{
    orphan_world_t world = {0};
    set_up(&world);
    put_device(&world, "linked", 90);
    cm_test_sql(world.base.other, "UPDATE tenant_a.devices SET contact_id = 7, contact_at ="
                                  " now() - interval '90 days'");
    RUNS(CM_OK);
    LEFT("linked");
    tear_down(&world);
}

Test(orphan_store, a_device_that_lost_its_contact_lately_stays)
{
    orphan_world_t world = {0};
    set_up(&world);
    put_device(&world, "long-ago", 90);
    put_device(&world, "lately", 90);
    cm_test_sql(world.base.other,
                "UPDATE tenant_a.devices SET contact_at = now() - CASE client_id WHEN 'lately'"
                " THEN interval '29 days' ELSE interval '31 days' END");
    RUNS(CM_OK);
    LEFT("lately");
    tear_down(&world);
}

Test(orphan_store, a_sender_with_a_clock_in_the_past_makes_no_orphan)
{
    orphan_world_t world = {0};
    set_up(&world);
    put_device(&world, "new", 0);
    cm_test_sql(world.base.other, "UPDATE tenant_a.devices SET device_at = 'epoch',"
                                  " contact_at = 'epoch'");
    RUNS(CM_OK);
    LEFT("new");
    tear_down(&world);
}

Test(orphan_store, a_device_with_a_register_from_the_future_waits_for_a_later_run)
{
    orphan_world_t world = {0};
    set_up(&world);
    put_device(&world, "ahead", 40);
    cm_test_sql(world.base.other,
                "UPDATE tenant_a.devices SET push_at = now() + interval '1 hour'");
    RUNS(CM_OK);
    LEFT("ahead");
    cr_expect(eq(i64, world.result.orphans, 0));
    tear_down(&world);
}

/* ---- what is left of it --------------------------------------------------------------------- */

Test(orphan_store, older_events_stay_stale_and_a_later_registration_counts)
{
    orphan_world_t world = {0};
    set_up(&world);
    put_device(&world, "c1", 40);
    RUNS(CM_OK);
    int64_t removed_ms =
        cm_test_number(world.base.other, "SELECT (extract(epoch FROM removed_at) * 1000)::bigint"
                                         " FROM tenant_a.tombstones");
    int64_t now_ms = cm_test_number(world.base.other, "SELECT (extract(epoch FROM"
                                                      " clock_timestamp()) * 1000)::bigint");
    cr_expect(le(i64, removed_ms, now_ms));
    cr_expect(gt(i64, removed_ms, now_ms - 60000));
    cr_expect(eq(int, write_one(&world.base, device_of("c1", removed_ms, "ios")), CM_CHANGE_STALE));
    cr_expect(
        eq(int, write_one(&world.base, device_of("c1", removed_ms + 1, "ios")), CM_CHANGE_APPLIED));
    LEFT("c1");
    tear_down(&world);
}

Test(orphan_store, an_older_tombstone_is_moved_on)
{
    orphan_world_t world = {0};
    set_up(&world);
    put_device(&world, "c1", 40);
    cm_test_sql(world.base.other, "INSERT INTO tenant_a.tombstones VALUES ('app', 'c1', 'epoch')");
    RUNS(CM_OK);
    cr_expect(eq(i64,
                 cm_test_number(world.base.other, "SELECT count(*) FROM tenant_a.tombstones"
                                                  " WHERE removed_at > now() - interval '1 h'"),
                 1));
    tear_down(&world);
}

Test(orphan_store, a_held_verdict_goes_with_its_device_and_no_other_does)
{
    orphan_world_t world = {0};
    set_up(&world);
    put_device(&world, "old", 40);
    put_device(&world, "young", 1);
    cm_test_sql(world.base.other,
                "INSERT INTO tenant_a.push_verdicts_held (application_code, provider, client_id,"
                " push_token, verdict_at) VALUES ('app', 'fcm', 'old', 't', now()),"
                " ('app', 'fcm', 'young', 't', now())");
    RUNS(CM_OK);
    CM_CLEANUP(cm_free)
    char *rows =
        cm_test_rows(world.base.other, "SELECT client_id FROM tenant_a.push_verdicts_held");
    cr_expect(eq(str, rows, "young"));
    tear_down(&world);
}

/* ---- batches -------------------------------------------------------------------------------- */

Test(orphan_store, batches_and_pages_cover_every_key_once)
{
    orphan_world_t world = {0};
    set_up(&world);
    put_devices(&world, 1000, 100);
    world.options.batch_max = 7;
    world.options.page_max = 64;
    RUNS(CM_OK);
    cr_expect(eq(i64, world.result.deleted, 100));
    cr_expect(ge(i64, world.result.batches, 100 / 7));
    cr_expect(eq(int, world.fences, (int)world.result.batches));
    cr_expect(eq(i64,
                 cm_test_number(world.base.other, "SELECT count(*) FROM tenant_a.devices WHERE"
                                                  " created_at < now() - interval '30 days'"),
                 0));
    cr_expect(
        eq(i64, cm_test_number(world.base.other, "SELECT count(*) FROM tenant_a.devices"), 900));
    tear_down(&world);
}

Test(orphan_store, several_applications_are_paged_through)
{
    orphan_world_t world = {0};
    set_up(&world);
    cm_test_sql(world.base.other,
                "INSERT INTO tenant_a.devices (application_code, client_id, created_at)"
                " SELECT 'app' || a, 'c' || c, now() - c %% 2 * interval '40 days'"
                " FROM generate_series(1, 9) AS a, generate_series(1, 9) AS c");
    world.options = (cm_orphan_options_t){
        .rules = world.rules, .batch_max = 2, .page_max = 5, .guard_percent = 100};
    RUNS(CM_OK);
    cr_expect(eq(i64, world.result.deleted, 45));
    cr_expect(
        eq(i64, cm_test_number(world.base.other, "SELECT count(*) FROM tenant_a.devices"), 36));
    tear_down(&world);
}

Test(orphan_store, keys_with_any_characters_go_and_come_as_they_are)
{
    orphan_world_t world = {0};
    set_up(&world);
    cm_test_sql(world.base.other,
                "INSERT INTO tenant_a.devices (application_code, client_id, created_at)"
                " SELECT 'a\"{}', c, now() - interval '40 days' FROM unnest(ARRAY['NULL', '{,}',"
                " E'\\\\\"', ' ', E'\\n', 'é', E'\\x01']) AS c");
    RUNS(CM_OK);
    LEFT("");
    cr_expect(eq(i64, world.result.deleted, 7));
    tear_down(&world);
}

Test(orphan_store, a_repetition_deletes_nothing)
{
    orphan_world_t world = {0};
    set_up(&world);
    put_device(&world, "old", 40);
    RUNS(CM_OK);
    RUNS(CM_OK);
    cr_expect(eq(i64, world.result.deleted, 0));
    cr_expect(eq(i64, world.result.batches, 0));
    tear_down(&world);
}

static bool stop(void *world)
{
    (void)world;
    return false;
}

Test(orphan_store, a_stop_leaves_the_rest_for_the_next_run)
{
    orphan_world_t world = {0};
    set_up(&world);
    put_device(&world, "old1", 40);
    put_device(&world, "old2", 40);
    world.options.batch_max = 1;
    world.on_pace = stop;
    RUNS(CM_CANCELLED);
    world.on_pace = NULL;
    RUNS(CM_OK);
    LEFT("");
    tear_down(&world);
}

/* ---- beside others -------------------------------------------------------------------------- */

static bool link_a_device(void *ctx)
{
    orphan_world_t *self = ctx;
    cm_test_sql(self->base.other, "UPDATE tenant_a.devices SET contact_id = 7, contact_at = now()"
                                  " WHERE client_id = 'linked'");
    return true;
}

Test(orphan_store, a_contact_that_comes_between_count_and_deletion_keeps_its_device)
{
    orphan_world_t world = {0};
    set_up(&world);
    put_device(&world, "linked", 40);
    put_device(&world, "old", 40);
    world.on_pace = link_a_device;
    RUNS(CM_OK);
    LEFT("linked");
    cr_expect(eq(i64, world.result.orphans, 2));
    cr_expect(eq(i64, world.result.deleted, 1));
    tear_down(&world);
}

/* The fence stands between the reading of the keys and the deletion, in its transaction. */
static cm_status_t link_in_the_fence(void *ctx, cm_pg_t *pg, cm_error_t *err)
{
    (void)pg, (void)err;
    link_a_device(ctx);
    return CM_OK;
}

Test(orphan_store, a_contact_that_comes_after_its_key_was_read_keeps_its_device)
{
    orphan_world_t world = {0};
    set_up(&world);
    put_device(&world, "linked", 40);
    put_device(&world, "old", 40);
    world.options.fence = link_in_the_fence;
    RUNS(CM_OK);
    LEFT("linked");
    cr_expect(eq(i64,
                 cm_test_number(world.base.other, "SELECT count(*) FROM tenant_a.tombstones"
                                                  " WHERE client_id = 'linked'"),
                 0));
    tear_down(&world);
}

static void *wait_and_commit(void *ctx)
{
    orphan_world_t *self = ctx;
    cm_pg_t *pg = cm_test_connect(self->base.uri);
    while (waiters(pg) == 0)
        ; /* until the deletion waits for us; the test's time-out is the deadline */
    cm_test_sql(self->base.other, "COMMIT");
    cm_pg_destroy(&pg);
    return NULL;
}

Test(orphan_store, a_contact_in_an_open_transaction_is_waited_for_and_keeps_its_device)
{
    orphan_world_t world = {0};
    pthread_t thread;
    set_up(&world);
    put_device(&world, "linked", 40);
    world.options.lock_timeout_ms = 30000;
    cm_test_sql(world.base.other, "BEGIN");
    cm_test_sql(world.base.other, "SELECT FROM tenant_a.tombstones"); /* as an upsert does */
    link_a_device(&world);
    cr_assert(eq(int, pthread_create(&thread, NULL, wait_and_commit, &world), 0));
    RUNS(CM_OK);
    pthread_join(thread, NULL);
    LEFT("linked");
    tear_down(&world);
}

Test(orphan_store, a_locked_tenant_is_transient_and_done_when_it_is_free)
{
    orphan_world_t world = {0};
    set_up(&world);
    put_device(&world, "old", 40);
    world.options.lock_timeout_ms = 1;
    world.options.lock_tries = 3;
    cm_test_sql(world.base.other, "BEGIN");
    cm_test_sql(world.base.other, "SELECT FROM tenant_a.tombstones");
    RUNS(CM_TRANSIENT);
    cr_expect(eq(str, world.base.err.code, "55P03"));
    cr_expect(eq(i64, world.result.lock_waits, 3));
    cr_expect(eq(int, world.waits, 3));
    cr_expect(eq(i64, world.result.deleted, 0));
    cm_test_sql(world.base.other, "COMMIT");
    RUNS(CM_OK);
    LEFT("");
    tear_down(&world);
}

static bool free_the_lock(void *ctx)
{
    orphan_world_t *self = ctx;
    if (self->waits == 1 && PQtransactionStatus(cm_pg_raw(self->base.other)) == PQTRANS_INTRANS)
        cm_test_sql(self->base.other, "COMMIT");
    return true;
}

Test(orphan_store, a_batch_that_could_not_be_locked_is_tried_again_after_the_pace)
{
    orphan_world_t world = {0};
    set_up(&world);
    put_device(&world, "old", 40);
    world.options.lock_timeout_ms = 1;
    world.on_pace = free_the_lock;
    cm_test_sql(world.base.other, "BEGIN");
    cm_test_sql(world.base.other, "SELECT FROM tenant_a.tombstones");
    RUNS(CM_OK);
    cr_expect(eq(i64, world.result.lock_waits, 1));
    LEFT("");
    tear_down(&world);
}

static cm_status_t lost_lease(void *ctx, cm_pg_t *pg, cm_error_t *err)
{
    (void)ctx, (void)pg;
    return cm_error_set(err, CM_PERMANENT, "lease-lost", "another instance has the lease");
}

Test(orphan_store, whoever_lost_the_lease_deletes_nothing)
{
    orphan_world_t world = {0};
    set_up(&world);
    put_device(&world, "old", 40);
    world.options.fence = lost_lease;
    RUNS(CM_PERMANENT);
    cr_expect(eq(str, world.base.err.code, "lease-lost"));
    LEFT("old");
    tear_down(&world);
}

Test(orphan_store, a_tenant_without_tables_is_missing)
{
    orphan_world_t world = {0};
    set_up(&world);
    cr_expect(eq(
        int,
        cm_orphan_delete(world.base.pg, "nobody", &world.options, &world.result, &world.base.err),
        CM_MISSING));
    tear_down(&world);
}
