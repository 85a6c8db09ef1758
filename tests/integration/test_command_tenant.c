/* Suspending, holding and deleting tenants as an operator does: the built program, a real server.
 */
#include "runtime/cleanup.h"
#include "tests/support/program.h"
#include "tests/support/schema_fixture.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

TestSuite(tenant_commands, .timeout = 120, .fini = cm_test_database_drop);

#define ARGS(...)                                                                                  \
    (const char *const[])                                                                          \
    {                                                                                              \
        __VA_ARGS__, NULL                                                                          \
    }

typedef struct {
    char uri[CM_TEST_URI_MAX], variable[CM_TEST_URI_MAX + 32];
    const char *env[2];
    cm_pg_t *pg;
    cm_program_t program;
} world_t;

static const cm_program_t *manager(world_t *self, const char *input, const char *const *argv)
{
    if (self->program.out)
        cm_program_destroy(&self->program);
    cm_program_run(&self->program, input, self->env, argv);
    return &self->program;
}

/* Tenants 7 and 8, active. */
static void world_open(world_t *self)
{
    *self = (world_t){0};
    cm_test_database(self->uri);
    snprintf(self->variable, sizeof self->variable, "CM_POSTGRES_URI=%s", self->uri);
    self->env[0] = self->variable;
    self->pg = cm_test_connect(self->uri);
    cr_assert(eq(int, manager(self, NULL, ARGS("tenant", "activate", "7", "8"))->code, 0));
}

static void world_close(world_t *self)
{
    cm_pg_destroy(&self->pg);
    cm_program_destroy(&self->program);
}

static void expect_end(const cm_program_t *done, int code, const char *out, const char *said)
{
    cr_expect(eq(int, done->code, code), "stderr: %s", done->err);
    cr_expect(eq(str, done->out, (char *)out));
    cr_expect(strstr(done->err, said) != NULL, "\"%s\" is not in: %s", said, done->err);
}

static void expect_rows(world_t *self, const char *query, const char *expected)
{
    CM_CLEANUP(cm_free) char *rows = cm_test_rows(self->pg, "%s", query);
    cr_expect(eq(str, rows, (char *)expected));
}

/* ---- suspend, resume, hold, release --------------------------------------------------------- */

Test(tenant_commands, suspending_and_resuming_is_idempotent_and_told_with_the_operator)
{
    world_t world;
    world_open(&world);
    expect_end(manager(&world, NULL, ARGS("tenant", "suspend", "7", "--yes", "-o", "json")), 0,
               "{\"id\": \"7\", \"result\": \"suspended\"}\n", "audit head 3:");
    expect_end(manager(&world, NULL, ARGS("tenant", "suspend", "7", "--yes", "-o", "json")), 0,
               "{\"id\": \"7\", \"result\": \"unchanged\"}\n", "");
    expect_end(manager(&world, NULL, ARGS("tenant", "resume", "7", "-o", "json")), 0,
               "{\"id\": \"7\", \"result\": \"resumed\"}\n", "audit head 4:");
    expect_rows(&world,
                "SELECT action, actor ~ '^operator:[0-9]+$' FROM client_manager.audit_log"
                " WHERE position > 2 ORDER BY position",
                "tenant-suspended|t\ntenant-resumed|t");
    world_close(&world);
}

Test(tenant_commands, one_that_is_not_there_is_told_and_the_others_are_done)
{
    world_t world;
    world_open(&world);
    expect_end(manager(&world, NULL, ARGS("tenant", "hold", "9", "7", "-o", "json")), 3,
               "{\"id\": \"9\", \"result\": \"failed\"}\n{\"id\": \"7\", \"result\": \"held\"}\n",
               "tenant 9 is not in the registry (tenant-missing)");
    world_close(&world);
}

Test(tenant_commands, what_cannot_be_taken_back_needs_a_yes_or_a_terminal)
{
    world_t world;
    world_open(&world);
    static const char *const verbs[] = {"delete", "release", "suspend"};
    for (size_t i = 0; i < CM_LENGTH(verbs); i++)
        expect_end(manager(&world, "7\n", ARGS("tenant", verbs[i], "7")), 2, "",
                   "stdin is no terminal; say --yes");
    expect_rows(&world, "SELECT state FROM client_manager.tenants", "active\nactive");
    world_close(&world);
}

Test(tenant_commands, a_held_tenant_is_deleted_after_its_release)
{
    world_t world;
    world_open(&world);
    manager(&world, NULL, ARGS("tenant", "hold", "7", "--reason", "a lawsuit"));
    expect_end(manager(&world, NULL, ARGS("tenant", "delete", "7", "-y", "-o", "json")), 75,
               "{\"id\": \"7\", \"result\": \"held\", \"counted\": \"\", \"dead_letters\": 0}\n",
               "tenant 7 is under legal hold; its deletion is recorded and waits");
    cr_expect(eq(int, manager(&world, NULL, ARGS("tenant", "certificate", "7"))->code, 3));
    expect_end(manager(&world, NULL, ARGS("tenant", "release", "7", "-y", "-o", "json")), 0,
               "{\"id\": \"7\", \"result\": \"released\"}\n",
               "tenant 7 has a deletion that waited");
    cr_expect(eq(int, manager(&world, NULL, ARGS("tenant", "delete", "7", "-y"))->code, 0));
    expect_rows(&world, "SELECT state FROM client_manager.tenants WHERE id = '7'", "deleted");
    world_close(&world);
}

/* The one line of `tenant show` as JSON. */
static json_t *shown(world_t *self)
{
    const cm_program_t *done = manager(self, NULL, ARGS("tenant", "show", "7", "-o", "json"));
    cr_assert(eq(int, done->code, 0), "%s", done->err);
    json_t *made = json_loads(done->out, JSON_DISABLE_EOF_CHECK, NULL);
    cr_assert(made != NULL, "%s", done->out);
    return made;
}

Test(tenant_commands, show_tells_of_a_legal_hold_while_there_is_one)
{
    world_t world;
    world_open(&world);
    static const char *const reasons[] = {"", "a \"lawsuit\"", ""};
    for (size_t i = 0; i < CM_LENGTH(reasons); i++) {
        if (i == 1)
            manager(&world, NULL, ARGS("tenant", "hold", "7", "--reason", reasons[i]));
        if (i == 2)
            manager(&world, NULL, ARGS("tenant", "release", "7", "-y"));
        json_t *made = shown(&world);
        const char *held_at = json_string_value(json_object_get(made, "held_at"));
        const char *reason = json_string_value(json_object_get(made, "hold_reason"));
        cr_assert(held_at && reason);
        cr_expect(eq(int, *held_at != '\0', i == 1));
        cr_expect(eq(str, (char *)reason, (char *)reasons[i]));
        json_decref(made);
    }
    manager(&world, NULL, ARGS("tenant", "hold", "7", "--reason", "a lawsuit"));
    const cm_program_t *done = manager(&world, NULL, ARGS("tenant", "show", "7"));
    cr_expect(strstr(done->out, "held_at") && strstr(done->out, "a lawsuit"), "%s", done->out);
    world_close(&world);
}

/* ---- delete and certificate ----------------------------------------------------------------- */

Test(tenant_commands, a_deletion_prints_what_was_counted)
{
    world_t world;
    world_open(&world);
    cm_test_sql(world.pg, "INSERT INTO tenant_7.devices (application_code, client_id)"
                          " VALUES ('A', '1'), ('A', '2')");
    expect_end(manager(&world, NULL, ARGS("tenant", "delete", "7", "-y", "-o", "json")), 0,
               "{\"id\": \"7\", \"result\": \"deleted\", \"counted\": \"{\\\"devices\\\": 2,"
               " \\\"tombstones\\\": 0,"
               " \\\"push_verdicts_held\\\": 0}\", \"dead_letters\": 0}\n",
               "audit head 5:");
    expect_end(manager(&world, NULL, ARGS("tenant", "delete", "7", "-y", "-o", "json")), 0,
               "{\"id\": \"7\", \"result\": \"unchanged\", \"counted\": \"\", \"dead_letters\": "
               "0}\n",
               "");
    world_close(&world);
}

static json_t *certificate(world_t *self, const char *const *argv)
{
    const cm_program_t *done = manager(self, NULL, argv);
    cr_assert(eq(int, done->code, 0), "%s", done->err);
    json_t *made = json_loads(done->out, 0, NULL);
    cr_assert(made != NULL, "%s", done->out);
    return made;
}

static const char *text(const json_t *object, const char *name)
{
    const char *value = json_string_value(json_object_get(object, name));
    return value ? value : "";
}

Test(tenant_commands, the_certificate_tells_what_was_deleted_and_where_the_log_has_it)
{
    world_t world;
    world_open(&world);
    cm_test_sql(world.pg, "INSERT INTO tenant_7.devices (application_code, client_id)"
                          " VALUES ('A', '1'), ('A', '2')");
    manager(&world, NULL, ARGS("tenant", "delete", "7", "-y", "--reason", "end of \"contract\""));
    json_t *made = certificate(&world, ARGS("tenant", "certificate", "7"));
    cr_expect(eq(str, (char *)text(made, "tenant"), "7"));
    cr_expect(eq(str, (char *)text(made, "reason"), "end of \"contract\""));
    bool complete = json_is_true(json_object_get(made, "complete"));
    cr_expect(complete);
    cr_expect(
        eq(i64, json_integer_value(json_object_get(json_object_get(made, "rows"), "devices")), 2));
    const json_t *left = json_object_get(json_object_get(made, "left"), "found_by_place");
    cr_expect(eq(sz, json_object_size(left), 16));
    const json_t *audit = json_object_get(made, "audit");
    static const char *const actions[] = {"deletion-requested", "deletion-dropped",
                                          "deletion-verified"};
    cr_assert(eq(sz, json_array_size(audit), CM_LENGTH(actions)));
    for (size_t i = 0; i < CM_LENGTH(actions); i++) {
        const json_t *entry = json_array_get(audit, i);
        cr_expect(eq(str, (char *)text(entry, "action"), (char *)actions[i]));
        cr_expect(eq(i64, json_integer_value(json_object_get(entry, "position")), (int)i + 3));
        cr_expect(eq(sz, strlen(text(entry, "hash")), 64));
    }
    cr_expect(eq(int, strncmp(text(made, "audit_head"), "5:", 2), 0));
    json_decref(made);
    world_close(&world);
}

Test(tenant_commands, each_generation_has_its_certificate)
{
    world_t world;
    world_open(&world);
    for (int round = 0; round < 2; round++) {
        cr_assert(eq(int, manager(&world, NULL, ARGS("tenant", "delete", "7", "-y"))->code, 0));
        cr_assert(eq(int, manager(&world, NULL, ARGS("tenant", "activate", "7"))->code, 0));
    }
    static const char *const asked[] = {"1", "2"};
    for (int i = 0; i < 2; i++) {
        json_t *made =
            certificate(&world, ARGS("tenant", "certificate", "7", "--generation", asked[i]));
        cr_expect(eq(i64, json_integer_value(json_object_get(made, "generation")), i + 1));
        cr_expect(eq(sz, json_array_size(json_object_get(made, "audit")), 3));
        json_decref(made);
    }
    expect_end(manager(&world, NULL, ARGS("tenant", "certificate", "8")), 1, "",
               "no such deletion of tenant 8 (deletion-missing)");
    world_close(&world);
}
