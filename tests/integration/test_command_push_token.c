/* push-token brake, and run -t, as an operator uses them: the built program, a real server. */
#include "tests/integration/command_case.h"

TestSuite(push_token_commands, .timeout = 120, .fini = cm_test_database_drop);

#define BRAKE(...) ARGS("push-token", "brake", __VA_ARGS__)

static void world_open(world_t *self)
{
    command_set_up(self, NULL);
    command_tenant(self, "42");
}

/* A brake that is on and holds verdicts about so many devices. */
static void hold(world_t *self, const char *application, const char *provider, int count)
{
    cm_test_sql(self->pg,
                "INSERT INTO client_manager.push_brakes (tenant, application_code, provider,"
                " tripped_at, judged, gone) VALUES ('42', '%s', '%s', '2026-01-02 03:04:05Z', 200,"
                " 150)",
                application, provider);
    cm_test_sql(self->pg,
                "INSERT INTO tenant_42.devices (application_code, client_id, push_at, push_token)"
                " SELECT '%s', 'c' || i, to_timestamp(1), 'tok' FROM generate_series(1, %d) AS i"
                " ON CONFLICT DO NOTHING",
                application, count);
    cm_test_sql(self->pg,
                "INSERT INTO tenant_42.push_verdicts_held (application_code, client_id, provider,"
                " push_token, verdict_at) SELECT '%s', 'c' || i, '%s', 'tok', to_timestamp(2)"
                " FROM generate_series(1, %d) AS i",
                application, provider, count);
}

static int64_t invalid(world_t *self)
{
    return cm_test_number(self->pg, "SELECT count(*) FROM tenant_42.devices"
                                    " WHERE push_status = 'invalid'");
}

static void expect_says(const char *where, const char *what)
{
    cr_expect(ne(ptr, strstr(where, what), NULL), "\"%s\" is not in: %s", what, where);
}

Test(push_token_commands, list_shows_what_is_on_as_json)
{
    world_t world;
    world_open(&world);
    hold(&world, "app", "fcm", 3);
    hold(&world, "other", "", 2);
    const cm_program_t *program = manager(&world, BRAKE("list", "--output", "json"));
    cr_expect(eq(int, program->code, 0), "%s", program->err);
    cr_expect(eq(str, program->out,
                 "{\"tenant\": \"42\", \"application\": \"app\", \"provider\": \"fcm\", "
                 "\"held\": 3, \"since\": \"2026-01-02T03:04:05.000Z\", \"share\": 75, "
                 "\"gone\": 150, \"judged\": 200}\n"
                 "{\"tenant\": \"42\", \"application\": \"other\", \"provider\": \"none\", "
                 "\"held\": 2, \"since\": \"2026-01-02T03:04:05.000Z\", \"share\": 75, "
                 "\"gone\": 150, \"judged\": 200}\n"));
    program = manager(&world, BRAKE("list", "7", "-o", "json"));
    cr_expect(eq(str, program->out, ""));
    expect_says(manager(&world, BRAKE("list", "42"))->out, "application");
    world_close(&world);
}

Test(push_token_commands, release_applies_what_is_held_and_is_audited_once)
{
    world_t world;
    world_open(&world);
    hold(&world, "app", "fcm", 3);
    cm_test_sql(world.pg, "UPDATE tenant_42.devices SET push_at = now() WHERE client_id = 'c2'");
    const cm_program_t *program =
        manager(&world, BRAKE("release", "42", "app", "--yes", "-o", "json"));
    cr_expect(eq(int, program->code, 0), "%s", program->err);
    cr_expect(eq(str, program->out,
                 "{\"tenant\": \"42\", \"application\": \"app\", \"provider\": \"fcm\", "
                 "\"result\": \"released\", \"verdicts\": 3, \"applied\": 2, \"dropped\": 1}\n"));
    expect_says(program->err, "audit head ");
    cr_expect(eq(i64, invalid(&world), 2));
    program = manager(&world, BRAKE("release", "42", "app", "fcm", "-o", "json"));
    cr_expect(eq(int, program->code, 0));
    expect_says(program->out, "\"result\": \"off\", \"verdicts\": 0");
    CM_CLEANUP(cm_free)
    char *rows = cm_test_rows(world.pg, "SELECT action, tenant, detail FROM"
                                        " client_manager.audit_log WHERE action LIKE 'push%%'");
    cr_expect(eq(str, rows,
                 "push-brake-released|42|{\"application\": \"app\", \"provider\": \"fcm\", "
                 "\"verdicts\": 3, \"applied\": 2, \"over\": true}"));
    world_close(&world);
}

Test(push_token_commands, discard_forgets_what_is_held_of_all_of_a_tenant)
{
    world_t world;
    world_open(&world);
    hold(&world, "app", "fcm", 3);
    hold(&world, "app", "", 2);
    const cm_program_t *program = manager(&world, BRAKE("discard", "42", "--all", "--yes"));
    cr_expect(eq(int, program->code, 0), "%s", program->err);
    expect_says(program->out, "discarded");
    cr_expect(eq(i64, invalid(&world), 0));
    cr_expect(
        eq(i64, cm_test_number(world.pg, "SELECT count(*) FROM tenant_42.push_verdicts_held"), 0));
    cr_expect(
        eq(i64, cm_test_number(world.pg, "SELECT count(*) FROM client_manager.push_brakes"), 0));
    world_close(&world);
}

Test(push_token_commands, the_provider_is_asked_for_when_several_brakes_are_on)
{
    world_t world;
    world_open(&world);
    hold(&world, "app", "fcm", 3);
    hold(&world, "app", "", 2);
    const cm_program_t *program = manager(&world, BRAKE("release", "42", "app", "--yes"));
    cr_expect(eq(int, program->code, 2));
    expect_says(program->err, "name the provider: none, fcm");
    cr_expect(eq(i64, invalid(&world), 0));
    program = manager(&world, BRAKE("release", "42", "app", "none", "--yes"));
    cr_expect(eq(int, program->code, 0), "%s", program->err);
    cr_expect(eq(i64, invalid(&world), 2));
    world_close(&world);
}

Test(push_token_commands, nothing_is_decided_without_a_yes)
{
    world_t world;
    world_open(&world);
    hold(&world, "app", "fcm", 3);
    const cm_program_t *program = manager(&world, BRAKE("discard", "42", "app"));
    cr_expect(eq(int, program->code, 2));
    expect_says(program->err, "say --yes");
    cr_expect(
        eq(i64, cm_test_number(world.pg, "SELECT count(*) FROM tenant_42.push_verdicts_held"), 3));
    world_close(&world);
}

Test(push_token_commands, what_makes_no_sense_is_told_with_what_would)
{
    static const struct {
        const char *argv[6], *says;
    } cases[] = {{{"push-token", "brake", "relase", "42"}, "none of list, release, discard"},
                 {{"push-token", "brake", "release"}, "give a tenant"},
                 {{"push-token", "brake", "release", "42"}, "an application or --all"},
                 {{"push-token", "brake", "release", "42", "app", "fmc"}, "give fcm, apns, hms"},
                 {{"push-token", "brake", "list", "not a tenant"}, "is no tenant id"},
                 {{"push-token", "brake"}, "is missing"},
                 {{"run", "push-token-status", "-t", "wob"}, "give push, web or both"}};
    world_t world;
    world_open(&world);
    for (size_t i = 0; i < CM_LENGTH(cases); i++) {
        const char *argv[7] = {NULL};
        memcpy(argv, cases[i].argv, sizeof cases[i].argv);
        const cm_program_t *program = manager(&world, argv);
        cr_expect(eq(int, program->code, 2), "%s", cases[i].says);
        expect_says(program->err, cases[i].says);
    }
    world_close(&world);
}

Test(push_token_commands, a_tenant_without_schema_is_told)
{
    world_t world;
    world_open(&world);
    const cm_program_t *program = manager(&world, BRAKE("release", "7", "app", "fcm", "--yes"));
    cr_expect(ne(int, program->code, 0));
    expect_says(program->err, "client-manager push-token brake: ");
    world_close(&world);
}
