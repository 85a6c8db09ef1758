#include "runtime/cleanup.h"
#include "runtime/crash.h"
#include "schema/migration.h"
#include "schema/tenant_deletion.h"
#include "schema/tenant_schema.h"
#include "schema/tenant_state.h"
#include "tests/support/schema_fixture.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

TestSuite(tenant_deletion, .timeout = 60, .fini = cm_test_database_drop);

typedef struct {
    char uri[CM_TEST_URI_MAX];
    cm_pg_t *pg;
    cm_deletion_step_t step;
    cm_audit_trail_t audit;
    cm_error_t err;
} world_t;

static void set_up(world_t *self)
{
    self->pg = cm_test_admin(self->uri);
    self->audit.actor = "a test";
}

static void tear_down(world_t *self)
{
    cm_pg_destroy(&self->pg);
}

static cm_status_t request(world_t *self, const char *id, int64_t ms)
{
    cm_deletion_request_t request = {id, ms, "Jane Doe", "end of contract"};
    return cm_tenant_deletion_request(self->pg, CM_TEST_ADMIN, &request, &self->audit, &self->step,
                                      &self->err);
}

static cm_status_t advance(world_t *self, const char *id)
{
    return cm_tenant_deletion_advance(self->pg, CM_TEST_ADMIN, id, &self->audit, &self->step,
                                      &self->err);
}

static cm_status_t activate(world_t *self, const char *id, int64_t ms)
{
    cm_tenant_change_t change;
    return cm_tenant_schema_activate(self->pg, CM_TEST_ADMIN, id, "", ms, NULL, &change,
                                     &self->err);
}

static void expect_state(world_t *self, const char *id, const char *state)
{
    CM_CLEANUP(cm_free)
    char *found =
        cm_test_rows(self->pg, "SELECT state FROM " CM_TEST_ADMIN ".tenants WHERE id = '%s'", id);
    cr_expect(eq(str, found, (char *)state));
}

/* The actions told of a tenant, in their order. */
static void expect_told(world_t *self, const char *id, const char *actions)
{
    CM_CLEANUP(cm_free)
    char *told = cm_test_rows(self->pg,
                              "SELECT coalesce(string_agg(action, ' ' ORDER BY position), '')"
                              " FROM " CM_TEST_ADMIN ".audit_log WHERE tenant = '%s'",
                              id);
    cr_expect(eq(str, told, (char *)actions));
}

static bool is_there(world_t *self, const char *schema)
{
    return cm_test_number(self->pg, "SELECT count(*) FROM pg_namespace WHERE nspname = '%s'",
                          schema) == 1;
}

static void add_dead_letters(world_t *self, const char *id, int count)
{
    cm_test_sql(self->pg,
                "INSERT INTO " CM_TEST_ADMIN ".dead_letters (tenant, error_class, error_code,"
                " error_message, errors_topic, origin_topic, origin_message_id, last_failed_at,"
                " retry_count, kept_replay_count, replay_count, attributes, body)"
                " SELECT '%s', 'permanent', 'malformed', '', 'e', 'o', '%s-' || i, now(), 0, 0, 0,"
                " '{}', '' FROM generate_series(1, %d) AS i",
                id, id, count);
}

static void hold(world_t *self, const char *id)
{
    cm_tenant_change_t change;
    cr_assert(eq(
        int,
        cm_tenant_hold(self->pg, CM_TEST_ADMIN, id, "a lawsuit", &self->audit, &change, &self->err),
        CM_OK));
}

static bool release(world_t *self, const char *id)
{
    cm_tenant_change_t change;
    bool waits = false;
    cr_assert(eq(
        int,
        cm_tenant_release(self->pg, CM_TEST_ADMIN, id, &self->audit, &change, &waits, &self->err),
        CM_OK));
    return waits;
}

#define DOES(call, expected)                                                                       \
    do {                                                                                           \
        cr_assert(eq(int, call, CM_OK), "%s %s", world.err.code, world.err.message);               \
        cr_expect(eq(str, (char *)cm_deletion_step_name(world.step),                               \
                     (char *)cm_deletion_step_name(expected)));                                    \
    } while (0)

/* ---- the steps ------------------------------------------------------------------------------ */

Test(tenant_deletion, each_step_is_done_and_told_once)
{
    world_t world = {0};
    set_up(&world);
    cm_test_tenant(world.pg, "42");
    DOES(request(&world, "42", 2000), CM_DELETION_REQUESTED);
    cr_expect(gt(i64, world.audit.head.position, 0));
    expect_state(&world, "42", "deleting");
    cr_expect(is_there(&world, "tenant_42"));
    DOES(advance(&world, "42"), CM_DELETION_DROPPED);
    expect_state(&world, "42", "deleted");
    cr_expect(not(is_there(&world, "tenant_42")));
    DOES(advance(&world, "42"), CM_DELETION_PURGED);
    DOES(advance(&world, "42"), CM_DELETION_VERIFIED);
    DOES(advance(&world, "42"), CM_DELETION_NONE);
    expect_told(&world, "42", "deletion-requested deletion-dropped deletion-verified");
    tear_down(&world);
}

Test(tenant_deletion, a_repeated_request_changes_nothing_at_any_step)
{
    world_t world = {0};
    set_up(&world);
    cm_test_tenant(world.pg, "42");
    DOES(request(&world, "42", 2000), CM_DELETION_REQUESTED);
    do {
        DOES(request(&world, "42", 2000), CM_DELETION_NONE);
        cr_expect(eq(i64, world.audit.head.position, 0));
        cr_assert(eq(int, advance(&world, "42"), CM_OK));
    } while (world.step != CM_DELETION_NONE);
    expect_told(&world, "42", "deletion-requested deletion-dropped deletion-verified");
    tear_down(&world);
}

Test(tenant_deletion, rows_are_counted_exactly_by_table)
{
    world_t world = {0};
    set_up(&world);
    cm_test_tenant(world.pg, "42");
    cm_test_sql(world.pg, "INSERT INTO tenant_42.devices (application_code, client_id)"
                          " SELECT 'A', i::text FROM generate_series(1, 123) AS i");
    cm_test_sql(world.pg, "INSERT INTO tenant_42.tombstones"
                          " SELECT 'A', i::text, now() FROM generate_series(1, 45) AS i");
    cm_test_sql(world.pg, "CREATE TABLE tenant_42.\"by hand\" AS SELECT 1");
    cm_test_delete(world.pg, "42", 2000);
    CM_CLEANUP(cm_free)
    char *told = cm_test_rows(world.pg, "SELECT detail->'rows'->>'devices', detail->'rows'->>"
                                        "'tombstones', detail->'rows'->>'by hand'"
                                        " FROM " CM_TEST_ADMIN ".audit_log"
                                        " WHERE action = 'deletion-dropped'");
    cr_expect(eq(str, told, "123|45|1"));
    tear_down(&world);
}

Test(tenant_deletion, who_asked_and_why_are_not_in_the_log)
{
    world_t world = {0};
    set_up(&world);
    cm_test_tenant(world.pg, "42");
    DOES(request(&world, "42", 2000), CM_DELETION_REQUESTED);
    cr_expect(eq(i64,
                 cm_test_number(world.pg, "SELECT count(*) FROM " CM_TEST_ADMIN ".audit_log AS a"
                                          " WHERE a::text ~ 'Jane|contract'"),
                 0));
    cr_expect(eq(i64,
                 cm_test_number(world.pg, "SELECT count(*) FROM " CM_TEST_ADMIN ".tenant_deletions"
                                          " WHERE requested_by = 'Jane Doe'"
                                          " AND reason = 'end of contract'"),
                 1));
    tear_down(&world);
}

Test(tenant_deletion, dead_letters_and_brakes_of_the_tenant_go_and_no_others)
{
    world_t world = {0};
    set_up(&world);
    cm_test_tenant(world.pg, "42");
    add_dead_letters(&world, "42", 10001); /* more than one commit takes */
    add_dead_letters(&world, "43", 2);
    cm_test_sql(world.pg, "INSERT INTO " CM_TEST_ADMIN ".push_brakes VALUES"
                          " ('42', 'A', 'fcm', now(), 1, 1), ('43', 'A', 'fcm', now(), 1, 1)");
    cr_expect(eq(int, cm_test_delete(world.pg, "42", 2000), 5));
    CM_CLEANUP(cm_free)
    char *left =
        cm_test_rows(world.pg, "SELECT tenant FROM " CM_TEST_ADMIN ".dead_letters"
                               " UNION ALL SELECT tenant FROM " CM_TEST_ADMIN ".push_brakes");
    cr_expect(eq(str, left, "43\n43\n43"));
    CM_CLEANUP(cm_free)
    char *told = cm_test_rows(world.pg, "SELECT detail->>'dead_letters', detail->>'push_brakes'"
                                        " FROM " CM_TEST_ADMIN ".audit_log"
                                        " WHERE action = 'deletion-verified'");
    cr_expect(eq(str, told, "10001|1"));
    tear_down(&world);
}

Test(tenant_deletion, a_drop_needs_no_table_to_be_there)
{
    world_t world = {0};
    set_up(&world);
    cm_test_tenant(world.pg, "42");
    cm_test_sql(world.pg, "DROP TABLE tenant_42.devices");
    cr_expect(eq(int, cm_test_delete(world.pg, "42", 2000), 4));
    cr_expect(not(is_there(&world, "tenant_42")));
    tear_down(&world);
}

Test(tenant_deletion, a_drop_needs_no_schema_to_be_there)
{
    world_t world = {0};
    set_up(&world);
    cm_test_tenant(world.pg, "42");
    cm_test_sql(world.pg, "DROP SCHEMA tenant_42 CASCADE");
    cr_expect(eq(int, cm_test_delete(world.pg, "42", 2000), 4));
    expect_told(&world, "42", "deletion-requested deletion-dropped deletion-verified");
    tear_down(&world);
}

Test(tenant_deletion, a_table_that_somebody_holds_is_transient_and_nothing_is_done)
{
    world_t world = {0};
    set_up(&world);
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *other = cm_test_connect(world.uri);
    cm_test_tenant(world.pg, "42");
    DOES(request(&world, "42", 2000), CM_DELETION_REQUESTED);
    cm_test_sql(other, "BEGIN");
    cm_test_sql(other, "LOCK TABLE tenant_42.push_verdicts_held IN ROW EXCLUSIVE MODE");
    cr_expect(eq(int, advance(&world, "42"), CM_TRANSIENT));
    cr_expect(eq(str, world.err.code, "55P03"));
    cr_expect(eq(i64, world.audit.head.position, 0));
    cm_test_sql(other, "ROLLBACK");
    DOES(advance(&world, "42"), CM_DELETION_DROPPED);
    tear_down(&world);
}

/* ---- times and generations ------------------------------------------------------------------ */

Test(tenant_deletion, an_unknown_tenant_gets_its_tombstone_and_is_told_as_such)
{
    world_t world = {0};
    set_up(&world);
    add_dead_letters(&world, "42", 3); /* they waited for an activation that never came */
    DOES(request(&world, "42", 2000), CM_DELETION_NOTHING);
    expect_state(&world, "42", "deleted");
    cm_test_delete(world.pg, "42", 2000);
    cr_expect(eq(
        i64, cm_test_number(world.pg, "SELECT count(*) FROM " CM_TEST_ADMIN ".dead_letters"), 0));
    expect_told(&world, "42", "nothing-to-delete deletion-verified");
    cr_expect(eq(int, activate(&world, "42", 2000), CM_OK));
    cr_expect(not(is_there(&world, "tenant_42")));
    tear_down(&world);
}

Test(tenant_deletion, the_newest_deletion_is_the_tombstone)
{
    world_t world = {0};
    set_up(&world);
    cm_test_delete(world.pg, "42", 2000);
    DOES(request(&world, "42", 3000), CM_DELETION_NONE);
    DOES(request(&world, "42", 1000), CM_DELETION_NONE);
    cr_expect(eq(int, activate(&world, "42", 3000), CM_OK));
    cr_expect(not(is_there(&world, "tenant_42")));
    cr_expect(eq(int, activate(&world, "42", 3001), CM_OK));
    cr_expect(is_there(&world, "tenant_42"));
    tear_down(&world);
}

Test(tenant_deletion, one_that_was_carried_out_before_an_activation_changes_nothing)
{
    world_t world = {0};
    set_up(&world);
    cm_test_tenant(world.pg, "42");
    cm_test_delete(world.pg, "42", 2000);
    cr_assert(eq(int, activate(&world, "42", 3000), CM_OK));
    DOES(request(&world, "42", 2000), CM_DELETION_NONE);
    DOES(advance(&world, "42"), CM_DELETION_NONE);
    cr_expect(is_there(&world, "tenant_42"));
    cr_expect(eq(int, cm_test_delete(world.pg, "42", 4000), 4));
    tear_down(&world);
}

Test(tenant_deletion, one_that_comes_behind_a_later_activation_erases_and_the_tenant_begins_anew)
{
    world_t world = {0};
    set_up(&world);
    cm_tenant_change_t change;
    cm_test_tenant(world.pg, "42");
    cm_test_sql(world.pg, "INSERT INTO tenant_42.devices (application_code, client_id)"
                          " VALUES ('A', '1')");
    cr_assert(eq(int,
                 cm_tenant_schema_activate(world.pg, CM_TEST_ADMIN, "42", "acme", 3000, NULL,
                                           &change, &world.err),
                 CM_OK));
    cr_expect(eq(int, cm_test_delete(world.pg, "42", 2000), 4));
    CM_CLEANUP(cm_free)
    char *found = cm_test_rows(world.pg, "SELECT state, generation, name, (SELECT count(*) FROM"
                                         " tenant_42.devices), (SELECT count(*) FROM"
                                         " tenant_42.tombstones WHERE client_id = '')"
                                         " FROM " CM_TEST_ADMIN ".tenants");
    cr_expect(eq(str, found, "active|2|acme|0|1"));
    expect_told(&world, "42",
                "deletion-requested deletion-dropped deletion-verified tenant-activated");
    tear_down(&world);
}

Test(tenant_deletion, an_activation_waits_until_the_erasure_is_verified)
{
    world_t world = {0};
    set_up(&world);
    cm_test_tenant(world.pg, "42");
    DOES(request(&world, "42", 2000), CM_DELETION_REQUESTED);
    while (world.step != CM_DELETION_VERIFIED) {
        cr_expect(eq(int, activate(&world, "42", 3000), CM_TRANSIENT));
        cr_expect(eq(str, world.err.code, "tenant-deleting"));
        cr_assert(eq(int, advance(&world, "42"), CM_OK));
    }
    cr_expect(eq(int, activate(&world, "42", 3000), CM_OK));
    cr_expect(is_there(&world, "tenant_42"));
    tear_down(&world);
}

Test(tenant_deletion, a_deleted_tenant_that_has_a_schema_again_is_a_case_for_a_person)
{
    world_t world = {0};
    set_up(&world);
    cm_test_delete(world.pg, "42", 2000);
    cm_test_sql(world.pg, "CREATE SCHEMA tenant_42");
    cr_expect(eq(int, request(&world, "42", 3000), CM_PERMANENT));
    cr_expect(eq(str, world.err.code, "schema-exists"));
    tear_down(&world);
}

/* ---- legal hold ----------------------------------------------------------------------------- */

Test(tenant_deletion, under_legal_hold_it_is_recorded_and_told_once_and_rests)
{
    world_t world = {0};
    set_up(&world);
    cm_test_tenant(world.pg, "42");
    hold(&world, "42");
    DOES(request(&world, "42", 2000), CM_DELETION_BLOCKED);
    DOES(request(&world, "42", 2000), CM_DELETION_NONE);
    DOES(advance(&world, "42"), CM_DELETION_BLOCKED);
    expect_state(&world, "42", "active");
    cr_expect(is_there(&world, "tenant_42"));
    expect_told(&world, "42", "legal-hold-placed deletion-blocked-by-hold");
    tear_down(&world);
}

Test(tenant_deletion, after_the_release_it_is_carried_out)
{
    world_t world = {0};
    set_up(&world);
    cm_test_tenant(world.pg, "42");
    hold(&world, "42");
    DOES(request(&world, "42", 2000), CM_DELETION_BLOCKED);
    cr_expect(release(&world, "42"));
    DOES(advance(&world, "42"), CM_DELETION_REQUESTED);
    DOES(advance(&world, "42"), CM_DELETION_DROPPED);
    DOES(advance(&world, "42"), CM_DELETION_PURGED);
    DOES(advance(&world, "42"), CM_DELETION_VERIFIED);
    expect_told(&world, "42",
                "legal-hold-placed deletion-blocked-by-hold legal-hold-released"
                " deletion-requested deletion-dropped deletion-verified");
    tear_down(&world);
}

Test(tenant_deletion, a_hold_stops_one_that_has_not_dropped_yet)
{
    world_t world = {0};
    set_up(&world);
    cm_test_tenant(world.pg, "42");
    DOES(request(&world, "42", 2000), CM_DELETION_REQUESTED);
    hold(&world, "42");
    DOES(advance(&world, "42"), CM_DELETION_BLOCKED);
    DOES(advance(&world, "42"), CM_DELETION_BLOCKED);
    cr_expect(is_there(&world, "tenant_42"));
    release(&world, "42");
    DOES(advance(&world, "42"), CM_DELETION_DROPPED);
    expect_told(&world, "42",
                "deletion-requested legal-hold-placed deletion-blocked-by-hold"
                " legal-hold-released deletion-dropped");
    tear_down(&world);
}

/* ---- verification --------------------------------------------------------------------------- */

Test(tenant_deletion, what_is_left_is_told_once_and_the_next_verification_can_succeed)
{
    world_t world = {0};
    set_up(&world);
    cm_test_tenant(world.pg, "42");
    DOES(request(&world, "42", 2000), CM_DELETION_REQUESTED);
    DOES(advance(&world, "42"), CM_DELETION_DROPPED);
    DOES(advance(&world, "42"), CM_DELETION_PURGED);
    cm_test_sql(world.pg, "CREATE SCHEMA tenant_42");
    DOES(advance(&world, "42"), CM_DELETION_UNVERIFIED);
    DOES(advance(&world, "42"), CM_DELETION_UNVERIFIED);
    cm_test_sql(world.pg, "DROP SCHEMA tenant_42");
    DOES(advance(&world, "42"), CM_DELETION_VERIFIED);
    expect_told(&world, "42",
                "deletion-requested deletion-dropped deletion-verification-failed"
                " deletion-verified");
    tear_down(&world);
}

Test(tenant_deletion, a_dead_letter_that_came_after_the_purge_is_found_and_purged)
{
    world_t world = {0};
    set_up(&world);
    cm_test_tenant(world.pg, "42");
    DOES(request(&world, "42", 2000), CM_DELETION_REQUESTED);
    DOES(advance(&world, "42"), CM_DELETION_DROPPED);
    DOES(advance(&world, "42"), CM_DELETION_PURGED);
    add_dead_letters(&world, "42", 1);
    DOES(advance(&world, "42"), CM_DELETION_UNVERIFIED);
    DOES(advance(&world, "42"), CM_DELETION_PURGED);
    DOES(advance(&world, "42"), CM_DELETION_VERIFIED);
    tear_down(&world);
}

Test(tenant_deletion, default_privileges_in_the_schema_go_with_it)
{
    world_t world = {0};
    set_up(&world);
    cm_test_tenant(world.pg, "42");
    cm_test_sql(world.pg, "ALTER DEFAULT PRIVILEGES IN SCHEMA tenant_42 GRANT SELECT ON TABLES"
                          " TO PUBLIC");
    cr_expect(eq(int, cm_test_delete(world.pg, "42", 2000), 4));
    CM_CLEANUP(cm_free)
    char *checks = cm_test_rows(world.pg, "SELECT string_agg(key || ' ' || value, ', '"
                                          " ORDER BY key) FROM " CM_TEST_ADMIN
                                          ".tenant_deletions, jsonb_each(checks)");
    cr_expect(eq(str, checks,
                 "dashboard_sync_reference 0, dashboard_tenant_metrics 0,"
                 " dashboard_tenant_metrics_history 0, dead_letters 0, job_checkpoints 0,"
                 " job_run_tenants 0, orphan_rules 0,"
                 " pg_class 0, pg_default_acl 0, pg_depend 0, pg_namespace 0,"
                 " pg_proc 0, pg_shdepend 0, pg_type 0, push_brakes 0, tenants 0"));
    tear_down(&world);
}

/* ---- reading -------------------------------------------------------------------------------- */

Test(tenant_deletion, what_can_go_on_is_found_tenant_by_tenant)
{
    world_t world = {0};
    set_up(&world);
    char id[CM_TENANT_ID_MAX];
    cm_deletion_census_t census;
    static const char *const ids[] = {"1", "2", "3", "4"};
    for (size_t i = 0; i < CM_LENGTH(ids); i++)
        cm_test_tenant(world.pg, ids[i]);
    hold(&world, "2");
    cm_test_delete(world.pg, "4", 2000);
    for (size_t i = 0; i < 3; i++)
        cr_assert(eq(int, request(&world, ids[i], 2000), CM_OK));
    static const char *const found[] = {"1", "3", ""};
    for (size_t i = 0; i < CM_LENGTH(found); i++) {
        cr_assert(eq(
            int,
            cm_tenant_deletion_next(world.pg, CM_TEST_ADMIN, i ? found[i - 1] : "", id, &world.err),
            CM_OK));
        cr_expect(eq(str, id, (char *)found[i]));
    }
    cr_assert(
        eq(int, cm_tenant_deletion_census(world.pg, CM_TEST_ADMIN, &census, &world.err), CM_OK));
    cr_expect(eq(i64, census.unfinished, 2));
    cr_expect(eq(i64, census.held, 1));
    tear_down(&world);
}

Test(tenant_deletion, the_record_of_each_generation_can_be_read)
{
    world_t world = {0};
    set_up(&world);
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(1024);
    cm_deletion_record_t record;
    cr_expect(eq(
        int, cm_tenant_deletion_get(world.pg, CM_TEST_ADMIN, "42", -1, arena, &record, &world.err),
        CM_MISSING));
    cm_test_tenant(world.pg, "42");
    cm_test_delete(world.pg, "42", 2000);
    cr_assert(eq(int, activate(&world, "42", 3000), CM_OK));
    DOES(request(&world, "42", 4000), CM_DELETION_REQUESTED);
    static const int64_t asked[] = {-1, 1, 2}, found[] = {2, 1, 2}, events[] = {4000, 2000, 4000};
    for (size_t i = 0; i < CM_LENGTH(asked); i++) {
        cr_assert(eq(int,
                     cm_tenant_deletion_get(world.pg, CM_TEST_ADMIN, "42", asked[i], arena, &record,
                                            &world.err),
                     CM_OK));
        cr_expect(eq(i64, record.generation, found[i]));
        cr_expect(eq(i64, record.event_ms, events[i]));
        cr_expect(eq(int, record.verified_ms > 0, found[i] == 1));
    }
    cr_expect(eq(str, (char *)record.requested_by, "Jane Doe"));
    tear_down(&world);
}

/* ---- crashes -------------------------------------------------------------------------------- */

#ifdef CM_CRASH_POINTS
static int reap(pid_t child)
{
    int status = -1;
    cr_assert(eq(int, waitpid(child, &status, 0), child));
    return status;
}

/* Delete "42" in a child that is killed at point. */
static void die_deleting(const world_t *world, const char *point)
{
    pid_t child = fork();
    if (child == 0) {
        char spec[64];
        cm_error_t err;
        snprintf(spec, sizeof spec, "%s:1", point);
        if (cm_crash_arm(spec, &err) != CM_OK)
            _exit(1);
        cm_pg_t *pg = cm_test_connect(world->uri);
        cm_test_delete(pg, "42", 2000);
        _exit(0);
    }
    int status = reap(child);
    bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    cr_expect(killed, "%s", point);
}

Test(tenant_deletion, killed_at_any_step_it_ends_with_one_entry_each)
{
    static const char *const points[] = {
        "deletion-request", "deletion-requested", "deletion-count",
        "deletion-drop",    "after-drop",         "deletion-purge",
        "deletion-purged",  "deletion-verify",    "deletion-verified"};
    world_t world = {0};
    set_up(&world);
    cm_test_tenant(world.pg, "42");
    for (size_t i = 0; i < CM_LENGTH(points); i++)
        die_deleting(&world, points[i]);
    cm_test_delete(world.pg, "42", 2000);
    expect_told(&world, "42", "deletion-requested deletion-dropped deletion-verified");
    cr_expect(not(is_there(&world, "tenant_42")));
    tear_down(&world);
}
#endif
