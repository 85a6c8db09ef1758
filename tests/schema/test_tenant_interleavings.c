/* Two sessions on one tenant, in every order of their steps.
 *
 * As PostgreSQL's isolation tester does it: a session stops where a lock can be waited for and
 * before its commit; the test lets one of them go on to its next stop, or sees it wait for a lock
 * and lets the other go on. All choices are gone through, each time with a new tenant. The code is
 * that of the product: its statements stop here because the linker puts this file in between
 * (--wrap in tests/CMakeLists.txt). */
#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "schema/tenant_deletion.h"
#include "schema/tenant_schema.h"
#include "tests/support/schema_fixture.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>

TestSuite(tenant_interleavings, .timeout = 280, .fini = cm_test_database_drop);

enum { OPS_MAX = 3, CHOICES_MAX = 256, WAIT_MS = 20000 };
enum { FIRST_MS = 1000, DELETED_MS = 2000, AGAIN_MS = 3000 };

typedef enum { OP_NONE, ACTIVATE, REACTIVATE, WRITE_OLD, WRITE_NEW, DELETE } op_t;

typedef struct {
    cm_pg_t *pg;
    int backend;
    const char *tenant;
    const op_t *ops;
    sem_t go, stopped;
    bool finished; /* read only when stopped */
    bool waiting;  /* for a lock, as the test saw it */
    bool coarse;   /* purge and verification are one step each: there are enough orders */
    bool deferred[OPS_MAX];
    const char *failed; /* what should not happen */
    char cause[300];
} session_t;

static __thread session_t *own; /* NULL in the thread of the test: nothing stops there */

/* ---- where a session stops ------------------------------------------------------------------ */

cm_status_t __real_cm_pg_exec(cm_pg_t *self, const char *sql, cm_error_t *err);
cm_status_t __real_cm_pg_query(cm_pg_t *self, const char *sql, int count, const char *const *values,
                               PGresult **ret_result, cm_error_t *err);
cm_status_t __real_cm_pg_commit(cm_pg_t *self, cm_error_t *err);
cm_status_t __wrap_cm_pg_exec(cm_pg_t *self, const char *sql, cm_error_t *err);
cm_status_t __wrap_cm_pg_query(cm_pg_t *self, const char *sql, int count, const char *const *values,
                               PGresult **ret_result, cm_error_t *err);
cm_status_t __wrap_cm_pg_commit(cm_pg_t *self, cm_error_t *err);

static void stop_here(void)
{
    if (!own)
        return;
    sem_post(&own->stopped);
    sem_wait(&own->go);
}

static bool stops(const char *sql)
{
    return strstr(sql, "pg_advisory_xact_lock") || strstr(sql, "\"devices\"") ||
           strncmp(sql, "INSERT INTO tenant_", 19) == 0;
}

cm_status_t __wrap_cm_pg_exec(cm_pg_t *self, const char *sql, cm_error_t *err)
{
    if (strncmp(sql, "LOCK TABLE", 10) == 0 && stops(sql))
        stop_here();
    return __real_cm_pg_exec(self, sql, err);
}

cm_status_t __wrap_cm_pg_query(cm_pg_t *self, const char *sql, int count, const char *const *values,
                               PGresult **ret_result, cm_error_t *err)
{
    if (stops(sql))
        stop_here();
    return __real_cm_pg_query(self, sql, count, values, ret_result, err);
}

cm_status_t __wrap_cm_pg_commit(cm_pg_t *self, cm_error_t *err)
{
    if (!own || !own->coarse)
        stop_here();
    return __real_cm_pg_commit(self, err);
}

/* ---- what a session does -------------------------------------------------------------------- */

static cm_status_t activate(session_t *self, int64_t event_ms, cm_error_t *err)
{
    cm_tenant_change_t change;
    cm_audit_trail_t audit = {.actor = "a test"};
    return cm_tenant_schema_activate(self->pg, CM_TEST_ADMIN, self->tenant, "", event_ms, &audit,
                                     &change, err);
}

static cm_status_t delete_tenant(session_t *self, cm_error_t *err)
{
    cm_deletion_step_t step;
    cm_audit_trail_t audit = {.actor = "a test"};
    cm_deletion_request_t request = {self->tenant, DELETED_MS, "", ""};
    cm_status_t status =
        cm_tenant_deletion_request(self->pg, CM_TEST_ADMIN, &request, &audit, &step, err);
    do {
        if (status == CM_OK)
            status = cm_tenant_deletion_advance(self->pg, CM_TEST_ADMIN, self->tenant, &audit,
                                                &step, err);
        self->coarse = step == CM_DELETION_DROPPED || step == CM_DELETION_PURGED;
    } while (status == CM_OK && step != CM_DELETION_NONE && step != CM_DELETION_UNVERIFIED);
    return status == CM_OK && step == CM_DELETION_UNVERIFIED
               ? cm_error_set(err, CM_PERMANENT, "unverified", "something was left")
               : status;
}

/* A transaction that writes a device unless a tombstone, its own or the fence, is as new. */
static cm_status_t write_device(session_t *self, int64_t event_ms, cm_error_t *err)
{
    char sql[600];
    snprintf(sql, sizeof sql,
             "INSERT INTO tenant_%s.devices (application_code, client_id, device_at)"
             " SELECT 'A', '1', at FROM (SELECT 'epoch'::timestamptz + %d * interval '1 ms' AS at)"
             " AS event WHERE NOT EXISTS (SELECT FROM tenant_%s.tombstones WHERE"
             " (application_code, client_id) IN (('A', '1'), ('', '')) AND removed_at >= at)"
             " ON CONFLICT (application_code, client_id) DO NOTHING",
             self->tenant, (int)event_ms, self->tenant);
    cm_status_t status = cm_pg_begin(self->pg, err);
    if (status == CM_OK)
        status = cm_pg_query(self->pg, sql, 0, NULL, NULL, err);
    if (status == CM_OK)
        return cm_pg_commit(self->pg, err);
    cm_pg_rollback(self->pg);
    return status == CM_MISSING ? CM_OK
                                : status; /* the registry says why; that is not tested here */
}

static cm_status_t do_op(session_t *self, op_t op, cm_error_t *err)
{
    switch (op) {
    case ACTIVATE:
        return activate(self, FIRST_MS, err);
    case REACTIVATE:
        return activate(self, AGAIN_MS, err);
    case WRITE_OLD:
        return write_device(self, DELETED_MS - 500, err);
    case WRITE_NEW:
        return write_device(self, AGAIN_MS + 500, err);
    case DELETE:
        return delete_tenant(self, err);
    case OP_NONE:
        break;
    }
    return CM_OK;
}

/* What the broker would deliver again later is noted; all else must not fail. */
static void do_ops(session_t *self)
{
    for (size_t i = 0; i < OPS_MAX; i++) {
        cm_error_t err = {0};
        if (do_op(self, self->ops[i], &err) == CM_OK)
            continue;
        self->deferred[i] = strcmp(err.code, "tenant-deleting") == 0;
        if (self->deferred[i])
            continue;
        snprintf(self->cause, sizeof self->cause, "%s %s", err.code, err.message);
        self->failed = self->cause;
    }
}

static void *session_body(void *arg)
{
    session_t *self = own = arg;
    sem_wait(&self->go);
    do_ops(self);
    self->finished = true;
    sem_post(&self->stopped);
    return NULL;
}

/* ---- the test lets them go ------------------------------------------------------------------ */

typedef struct {
    char uri[CM_TEST_URI_MAX];
    cm_pg_t *pg;
    session_t sessions[2];
    bool choices[CHOICES_MAX]; /* which session went on where both could; the plan, then the past */
    size_t planned, chosen;
    int permutations, waits;
} world_t;

static bool waits_for_lock(world_t *self, const session_t *session)
{
    return cm_test_number(self->pg, "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = %d",
                          session->backend) > 0;
}

/* Until the session stands at its next stop (true) or waits for a lock. */
static bool settle(world_t *self, session_t *session)
{
    int64_t end_ms = cm_clock_mono_ms() + WAIT_MS;
    while (cm_clock_mono_ms() < end_ms) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 2000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        if (sem_timedwait(&session->stopped, &until) == 0) {
            session->waiting = false;
            return true;
        }
        if (waits_for_lock(self, session)) {
            session->waiting = true;
            return false;
        }
    }
    cr_assert(false, "a session neither goes on nor waits");
    return false;
}

#define COUNT_TOLD "(SELECT count(*) FROM " CM_TEST_ADMIN ".audit_log AS a WHERE a.tenant = '%s'"

/* What holds at every moment, as others see it. */
static void check_moment(world_t *self, const char *id)
{
    int64_t faults = cm_test_number(
        self->pg,
        "SELECT (n AND coalesce(state, 'absent') NOT IN ('active', 'deleting'))::integer"
        " + (NOT n AND state IN ('active', 'deleting'))::integer"
        " + (state = 'deleting' AND " COUNT_TOLD
        " AND action = 'deletion-requested') <> 1)::integer"
        " FROM (SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'tenant_%s') AS n) AS s"
        " LEFT JOIN " CM_TEST_ADMIN ".tenants ON id = '%s'",
        id, id, id);
    cr_assert(eq(i64, faults, 0), "tenant %s: registry and schema do not fit", id);
}

/* One of the sessions that can go on: as planned, else the first. */
static session_t *choose(world_t *self)
{
    session_t *first = &self->sessions[0], *second = &self->sessions[1];
    bool first_can = !first->finished && !first->waiting;
    bool second_can = !second->finished && !second->waiting;
    if (!first_can || !second_can)
        return first_can ? first : second_can ? second : NULL;
    cr_assert(lt(sz, self->chosen, CHOICES_MAX));
    if (self->chosen >= self->planned)
        self->choices[self->chosen] = false;
    return self->choices[self->chosen++] ? second : first;
}

static void run_to_the_end(world_t *self, const char *id)
{
    for (session_t *session; (session = choose(self)) != NULL;) {
        session_t *other = session == self->sessions ? session + 1 : session - 1;
        sem_post(&session->go);
        self->waits += !settle(self, session);
        if (other->waiting) /* what it waited for may be free now */
            settle(self, other);
        check_moment(self, id);
    }
    bool both = self->sessions[0].finished && self->sessions[1].finished;
    cr_assert(both, "both sessions wait for each other");
}

static void start(world_t *self, size_t index, const op_t *ops, const char *id, pthread_t *thread)
{
    session_t *session = &self->sessions[index];
    session->tenant = id;
    session->ops = ops;
    session->finished = session->waiting = session->coarse = false;
    session->failed = NULL;
    memset(session->deferred, 0, sizeof session->deferred);
    sem_init(&session->go, 0, 0);
    sem_init(&session->stopped, 0, 0);
    cr_assert(eq(int, pthread_create(thread, NULL, session_body, session), 0));
    sem_post(&session->go); /* to its first stop: nobody waits before it */
    settle(self, session);
}

/* What was deferred comes again, with nobody else about. */
static void deliver_again(session_t *self)
{
    for (size_t i = 0; i < OPS_MAX; i++) {
        cm_error_t err = {0};
        if (self->deferred[i])
            cr_assert(eq(int, do_op(self, self->ops[i], &err), CM_OK), "%s", err.message);
    }
}

/* ---- what must have come of it -------------------------------------------------------------- */

static bool has_op(const op_t ops[2][OPS_MAX], op_t op)
{
    for (size_t i = 0; i < OPS_MAX; i++)
        if (ops[0][i] == op || ops[1][i] == op)
            return true;
    return false;
}

static void check_end(world_t *self, const op_t ops[2][OPS_MAX], const char *id)
{
    bool deleted = has_op(ops, DELETE), again = has_op(ops, REACTIVATE);
    char expected[200];
    snprintf(expected, sizeof expected, "%s|%d|%d|%d|%d|%d",
             again || !deleted ? "active" : "deleted", again && deleted ? 2 : 1, deleted, deleted,
             deleted, again && deleted ? 2 : 1);
    CM_CLEANUP(cm_free)
    char *found = cm_test_rows(
        self->pg,
        "SELECT state, t.generation, count(*) FILTER (WHERE action = 'deletion-requested'),"
        " count(*) FILTER (WHERE action = 'deletion-dropped'),"
        " count(*) FILTER (WHERE action = 'deletion-verified'),"
        " count(*) FILTER (WHERE action = 'tenant-activated')"
        " FROM " CM_TEST_ADMIN ".tenants AS t JOIN " CM_TEST_ADMIN ".audit_log ON tenant = id"
        " WHERE id = '%s' GROUP BY 1, 2",
        id);
    cr_assert(eq(str, found, expected), "tenant %s", id);
    cr_expect(eq(i64,
                 cm_test_number(self->pg,
                                "SELECT count(*) FROM moves WHERE id = '%s' AND move NOT IN ("
                                "' active 1', 'active 1 active 1', 'active 1 deleting 1',"
                                " 'deleting 1 deleting 1', 'deleting 1 deleted 1',"
                                " 'deleted 1 deleted 1', 'deleted 1 active 2',"
                                " 'active 2 active 2')",
                                id),
                 0),
              "tenant %s: an illegal move", id);
    if (deleted && again)
        cr_expect(eq(i64,
                     cm_test_number(self->pg,
                                    "SELECT count(*) FROM tenant_%s.devices WHERE device_at <="
                                    " 'epoch'::timestamptz + %d * interval '1 ms'",
                                    id, DELETED_MS),
                     0),
                  "tenant %s: a row older than the deletion", id);
}

/* ---- every order ---------------------------------------------------------------------------- */

static void set_up(world_t *self)
{
    self->pg = cm_test_admin(self->uri);
    for (size_t i = 0; i < 2; i++) {
        self->sessions[i].pg = cm_test_connect(self->uri);
        self->sessions[i].backend = PQbackendPID(cm_pg_raw(self->sessions[i].pg));
    }
    cm_test_sql(self->pg, "CREATE TABLE public.moves (id text, move text)");
    cm_test_sql(
        self->pg,
        "CREATE FUNCTION public.note_move() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO public.moves VALUES (NEW.id, concat(CASE WHEN TG_OP = 'UPDATE' THEN"
        " concat(OLD.state, ' ', OLD.generation) END, ' ', NEW.state, ' ', NEW.generation));"
        " RETURN NULL; END $$");
    cm_test_sql(self->pg, "CREATE TRIGGER note_move AFTER INSERT OR UPDATE ON " CM_TEST_ADMIN
                          ".tenants FOR EACH ROW EXECUTE FUNCTION public.note_move()");
    cm_test_sql(self->pg, "SET search_path = public");
}

static void tear_down(world_t *self)
{
    for (size_t i = 0; i < 2; i++)
        cm_pg_destroy(&self->sessions[i].pg);
    cm_pg_destroy(&self->pg);
}

/* The last choice of the first session becomes one of the second; false: all were gone through. */
static bool plan_next(world_t *self)
{
    while (self->chosen && self->choices[self->chosen - 1])
        self->chosen--;
    if (!self->chosen)
        return false;
    self->choices[self->chosen - 1] = true;
    self->planned = self->chosen;
    return true;
}

static void run_once(world_t *self, bool active, const op_t ops[2][OPS_MAX])
{
    char id[24];
    pthread_t threads[2];
    snprintf(id, sizeof id, "%d", ++self->permutations);
    if (active)
        cr_assert(eq(
            int, activate(&(session_t){.pg = self->pg, .tenant = id}, FIRST_MS, &(cm_error_t){0}),
            CM_OK));
    self->chosen = 0;
    for (size_t i = 0; i < 2; i++)
        start(self, i, ops[i], id, &threads[i]);
    run_to_the_end(self, id);
    for (size_t i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        cr_assert(self->sessions[i].failed == NULL, "tenant %s: %s", id, self->sessions[i].cause);
        deliver_again(&self->sessions[i]);
    }
    check_end(self, ops, id);
    cm_test_sql(self->pg, "DROP SCHEMA IF EXISTS tenant_%s CASCADE", id);
}

static void run_all(bool active, const op_t ops[2][OPS_MAX], const char *what)
{
    world_t self = {0};
    set_up(&self);
    do
        run_once(&self, active, ops);
    while (plan_next(&self));
    printf("%s: %d permutations, %d waits for a lock\n", what, self.permutations, self.waits);
    cr_expect(gt(int, self.permutations, 1));
    tear_down(&self);
}

Test(tenant_interleavings, activate_and_activate)
{
    run_all(false, (const op_t[2][OPS_MAX]){{ACTIVATE}, {ACTIVATE}}, "activate, activate");
}

Test(tenant_interleavings, activate_and_write)
{
    run_all(false, (const op_t[2][OPS_MAX]){{ACTIVATE}, {WRITE_OLD, WRITE_NEW}},
            "activate, write twice");
}

Test(tenant_interleavings, delete_and_write)
{
    run_all(true, (const op_t[2][OPS_MAX]){{DELETE}, {WRITE_OLD}}, "delete, write");
}

Test(tenant_interleavings, delete_and_activate_late)
{
    run_all(true, (const op_t[2][OPS_MAX]){{DELETE}, {ACTIVATE}}, "delete, late activation");
}

Test(tenant_interleavings, delete_and_write_and_activate_again)
{
    run_all(true, (const op_t[2][OPS_MAX]){{DELETE}, {WRITE_OLD, REACTIVATE}},
            "delete, write and re-activate");
}

Test(tenant_interleavings, delete_and_activate_again_and_write)
{
    run_all(true, (const op_t[2][OPS_MAX]){{DELETE}, {REACTIVATE, WRITE_OLD}},
            "delete, re-activate and write");
}

Test(tenant_interleavings, delete_and_delete_again)
{
    run_all(true, (const op_t[2][OPS_MAX]){{DELETE}, {DELETE}}, "delete, delete again");
}
