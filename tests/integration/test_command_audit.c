/* The audit commands as an operator uses them: the built program, a real server. */
#include "schema/audit_log.h"
#include "tests/integration/command_case.h"

#include <stdlib.h>
#include <unistd.h>

TestSuite(audit_commands, .timeout = 120, .fini = cm_test_database_drop);

static cm_audit_head_t appended; /* what the test itself did to the log */

#define KEY "0123456789abcdef0123456789abcdef"

static void append(world_t *self, const char *key, const char *action, const char *tenant)
{
    cm_error_t err = {0};
    cm_audit_entry_t entry = {"a \"test\"", action, tenant, 2, "{\"devices\":  12}"};
    cr_assert(eq(int, cm_pg_begin(self->pg, &err), CM_OK));
    cr_assert(
        eq(int, cm_audit_append(self->pg, "client_manager", key, &entry, &appended, &err), CM_OK),
        "%s", err.message);
    cr_assert(eq(int, cm_pg_commit(self->pg, &err), CM_OK));
}

static void expect_says(const char *where, const char *what)
{
    cr_expect(ne(ptr, strstr(where, what), NULL), "\"%s\" is not in: %s", what, where);
}

static int lines_of(const char *text)
{
    int lines = 0;
    for (; *text; text++)
        lines += *text == '\n';
    return lines;
}

/* ---- list ----------------------------------------------------------------------------------- */

Test(audit_commands, list_shows_the_newest_first)
{
    CM_CLEANUP(world_close) world_t world;
    command_set_up(&world, "CM_AUDIT_KEY=" KEY);
    append(&world, KEY, "first", "7");
    append(&world, KEY, "second", "8");
    const cm_program_t *done = manager(&world, ARGS("audit", "list", "-o", "json"));
    cr_expect(eq(int, done->code, 0), "%s", done->err);
    cr_expect(eq(int, lines_of(done->out), 2));
    cr_expect(eq(int, strncmp(done->out, "{\"position\": 2, \"at\": \"2", 24), 0), "%s", done->out);
    expect_says(done->out, "\"actor\": \"a \\\"test\\\"\", \"action\": \"second\", \"tenant\": "
                           "\"8\", \"generation\": 2, \"detail\": \"{\\\"devices\\\":  12}\"}");
    cr_expect(eq(str, done->err, ""));
}

Test(audit_commands, list_is_narrowed_by_each_filter)
{
    static const char *const cases[][2] = {
        {"--tenant", "7"}, {"--action", "first"}, {"--until", "2999-01-01T00:00:00Z"}, {"-n", "1"}};
    CM_CLEANUP(world_close) world_t world;
    command_set_up(&world, "CM_AUDIT_KEY=" KEY);
    append(&world, KEY, "first", "7");
    append(&world, KEY, "second", "8");
    for (size_t i = 0; i < CM_LENGTH(cases); i++) {
        const cm_program_t *done = manager(
            &world, ARGS("audit", "list", "-o", "json", "--since", "1h", cases[i][0], cases[i][1]));
        cr_expect(eq(int, lines_of(done->out), i == 2 ? 2 : 1), "%s: %s", cases[i][0], done->out);
    }
    cr_expect(
        eq(str, manager(&world, ARGS("audit", "list", "-o", "json", "--until", "1h"))->out, ""));
    cr_expect(eq(int, manager(&world, ARGS("audit", "list", "--since", "soon"))->code, 2));
}

/* ---- verify --------------------------------------------------------------------------------- */

Test(audit_commands, verify_of_a_whole_log_tells_its_head)
{
    CM_CLEANUP(world_close) world_t world;
    command_set_up(&world, "CM_AUDIT_KEY=" KEY);
    append(&world, KEY, "first", "7");
    append(&world, KEY, "second", "8");
    char head[CM_AUDIT_HEAD_TEXT_MAX], expected[256];
    cm_audit_head_text(&appended, head);
    snprintf(expected, sizeof expected,
             "{\"result\": \"intact\", \"rows\": 2, \"unkeyed\": 0, \"position\": null, \"fault\": "
             "\"\", \"clock_back\": 0, \"head\": \"%s\"}\n",
             head);
    const cm_program_t *done =
        manager(&world, ARGS("audit", "verify", "-o", "json", "--head", head));
    cr_expect(eq(int, done->code, 0));
    cr_expect(eq(str, done->out, expected));
    cr_expect(eq(str, done->err, ""));
}

Test(audit_commands, verify_of_a_broken_log_fails_and_tells_where)
{
    CM_CLEANUP(world_close) world_t world;
    command_set_up(&world, "CM_AUDIT_KEY=" KEY);
    append(&world, KEY, "first", "7");
    append(&world, KEY, "second", "8");
    cm_test_sql(world.pg, "ALTER TABLE client_manager.audit_log DISABLE TRIGGER ALL");
    cm_test_sql(world.pg, "UPDATE client_manager.audit_log SET tenant = '9' WHERE position = 2");
    const cm_program_t *done = manager(&world, ARGS("audit", "verify", "-o", "json"));
    cr_expect(eq(int, done->code, 1));
    expect_says(done->out, "{\"result\": \"broken\", \"rows\": 1, \"unkeyed\": 0, \"position\": 2, "
                           "\"fault\": \"hash\"");
    expect_says(done->err, "client-manager audit verify: position 2: its hash is not that of its");
}

Test(audit_commands, verify_finds_a_cut_off_end_by_the_head_it_is_given)
{
    CM_CLEANUP(world_close) world_t world;
    command_set_up(&world, "CM_AUDIT_KEY=" KEY);
    char head[CM_AUDIT_HEAD_TEXT_MAX];
    append(&world, KEY, "first", "7");
    append(&world, KEY, "second", "8");
    cm_audit_head_text(&appended, head);
    cm_test_sql(world.pg, "ALTER TABLE client_manager.audit_log DISABLE TRIGGER ALL");
    cm_test_sql(world.pg, "DELETE FROM client_manager.audit_log WHERE position = 2");
    cr_expect(eq(int, manager(&world, ARGS("audit", "verify"))->code, 0));
    const cm_program_t *done = manager(&world, ARGS("audit", "verify", "--head", head));
    cr_expect(eq(int, done->code, 1));
    expect_says(done->err, "position 2: the log ends before it");
    cr_expect(eq(int, manager(&world, ARGS("audit", "verify", "--head", "2:beef"))->code, 2));
}

Test(audit_commands, verify_without_a_key_says_what_it_is_worth)
{
    CM_CLEANUP(world_close) world_t world;
    command_set_up(&world, NULL);
    append(&world, NULL, "first", "7");
    const cm_program_t *done = manager(&world, ARGS("audit", "verify", "-o", "json"));
    cr_expect(eq(int, done->code, 0));
    expect_says(done->out, "\"rows\": 1, \"unkeyed\": 1,");
    expect_says(done->err, "there is no audit.key: the chain is plain SHA-256");
}

Test(audit_commands, rows_from_before_the_key_are_let_pass_when_it_is_said)
{
    CM_CLEANUP(world_close) world_t world;
    command_set_up(&world, "CM_AUDIT_KEY=" KEY);
    append(&world, NULL, "first", "7");
    append(&world, KEY, "second", "8");
    const cm_program_t *done = manager(&world, ARGS("audit", "verify"));
    cr_expect(eq(int, done->code, 1));
    expect_says(done->err, "position 1: it was made without key");
    done = manager(&world, ARGS("audit", "verify", "--unkeyed-until", "1"));
    cr_expect(eq(int, done->code, 0));
    cr_expect(eq(str, done->err, "the first 1 rows were made without key\n"));
}

/* ---- export --------------------------------------------------------------------------------- */

Test(audit_commands, export_has_what_a_third_party_needs)
{
    CM_CLEANUP(world_close) world_t world;
    command_set_up(&world, "CM_AUDIT_KEY=" KEY);
    append(&world, KEY, "first", "7");
    append(&world, KEY, "second", "");
    CM_CLEANUP(cm_free)
    char *expected = cm_test_rows(
        world.pg,
        "SELECT '{\"version\": 1, \"position\": ' || position || ', \"at\": \"' ||"
        " to_char(date_trunc('milliseconds', at), 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') ||"
        " '\", \"at_us\": ' || (extract(epoch FROM at) * 1000000)::bigint ||"
        " ', \"actor\": \"a \\\"test\\\"\", \"action\": \"' || action || '\", \"tenant\": \"' ||"
        " tenant || '\", \"generation\": 2, \"detail\": \"{\\\"devices\\\":  12}\", \"key_id\": \"'"
        " || key_id || '\", \"previous_hash\": \"' || encode(previous_hash, 'hex') ||"
        " '\", \"hash\": \"' || encode(hash, 'hex') || '\"}' FROM client_manager.audit_log"
        " ORDER BY position");
    const cm_program_t *done = manager(&world, ARGS("audit", "export"));
    cr_expect(eq(int, done->code, 0), "%s", done->err);
    size_t len = strlen(expected);
    cr_expect(eq(int, strncmp(done->out, expected, len), 0), "%s\n%s", done->out, expected);
    cr_expect(eq(str, done->out + len, "\n"));
}

/* ---- what tells the log --------------------------------------------------------------------- */

Test(audit_commands, activating_a_tenant_is_told_once)
{
    CM_CLEANUP(world_close) world_t world;
    command_set_up(&world, "CM_AUDIT_KEY=" KEY);
    cr_expect(eq(int, manager(&world, ARGS("tenant", "activate", "7"))->code, 0));
    cr_expect(eq(int, manager(&world, ARGS("tenant", "activate", "7"))->code, 0));
    CM_CLEANUP(cm_free)
    char *rows = cm_test_rows(world.pg, "SELECT position, actor LIKE 'operator:%%', action, tenant,"
                                        " generation, detail->>'schema_version' <> ''"
                                        " FROM client_manager.audit_log");
    cr_expect(eq(str, rows, "1|t|tenant-activated|7|1|t"));
    cr_expect(eq(int, manager(&world, ARGS("audit", "verify"))->code, 0));
}

static void keep_dead_letters(world_t *self, int count)
{
    cm_test_sql(self->pg,
                "INSERT INTO client_manager.dead_letters (tenant, error_class, error_code,"
                " error_message, errors_topic, origin_topic, origin_message_id, last_failed_at,"
                " retry_count, kept_replay_count, replay_count, attributes, body)"
                " SELECT '7', 'permanent', '23514', '', '', '', n, now(), 0, 0, 0, '{}', ''"
                " FROM generate_series(1, %d) AS n",
                count);
}

Test(audit_commands, purging_dead_letters_is_told)
{
    CM_CLEANUP(world_close) world_t world;
    command_set_up(&world, "CM_AUDIT_KEY=" KEY);
    keep_dead_letters(&world, 3);
    manager(&world, ARGS("dead-letters", "purge", "1", "--yes"));
    manager(&world, ARGS("dead-letters", "purge", "--tenant", "7", "--code", "23514", "--yes"));
    cr_expect(eq(int, world.program.code, 0), "%s", world.program.err);
    CM_CLEANUP(cm_free)
    char *rows = cm_test_rows(world.pg, "SELECT position, action, tenant, detail"
                                        " FROM client_manager.audit_log ORDER BY position");
    cr_expect(
        eq(str, rows,
           "1|dead-letters-purged||{\"removed\": 1, \"by_id\": true}\n"
           "2|dead-letters-purged|7|{\"removed\": 2, \"by_id\": false, \"code\": \"23514\"}"));
}

Test(audit_commands, a_long_purge_goes_in_chunks_and_each_is_told)
{
    CM_CLEANUP(world_close) world_t world;
    command_set_up(&world, "CM_POSTGRES_STATEMENT_TIMEOUT_MS=1000");
    keep_dead_letters(&world, 10001);
    cm_test_sql(world.pg, "CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS"
                          " $$ BEGIN PERFORM pg_sleep(1.5); RETURN NULL; END $$");
    cm_test_sql(world.pg, "CREATE TRIGGER t BEFORE DELETE ON client_manager.dead_letters"
                          " FOR EACH STATEMENT EXECUTE FUNCTION public.slow()");
    const cm_program_t *done = manager(&world, ARGS("dead-letters", "purge", "--all", "--yes"));
    cr_expect(eq(int, done->code, 0), "%s", done->err);
    expect_says(done->out, "10001");
    CM_CLEANUP(cm_free)
    char *rows = cm_test_rows(world.pg, "SELECT detail->>'removed'"
                                        " FROM client_manager.audit_log ORDER BY position");
    cr_expect(eq(str, rows, "10000\n1"));
}

Test(audit_commands, what_takes_too_long_is_not_taken_for_a_lock)
{
    CM_CLEANUP(world_close) world_t world;
    command_set_up(&world, "CM_POSTGRES_STATEMENT_TIMEOUT_MS=1000");
    keep_dead_letters(&world, 1);
    cm_test_sql(world.pg, "ALTER TABLE client_manager.dead_letters RENAME TO slowly");
    cm_test_sql(world.pg, "CREATE VIEW client_manager.dead_letters AS"
                          " SELECT s.* FROM pg_sleep(60), client_manager.slowly AS s");
    const cm_program_t *done = manager(&world, ARGS("dead-letters", "list"));
    cr_expect(eq(int, done->code, 1), "%s", done->err);
    expect_says(done->err, "postgres.statement_timeout_ms");
}

Test(audit_commands, a_purge_that_cannot_be_told_removes_nothing)
{
    CM_CLEANUP(world_close) world_t world;
    command_set_up(&world, "CM_AUDIT_KEY=" KEY);
    keep_dead_letters(&world, 2);
    append(&world, "another key, as long as this", "first", "");
    const cm_program_t *done = manager(&world, ARGS("dead-letters", "purge", "--all", "--yes"));
    cr_expect(eq(int, done->code, 78));
    expect_says(done->err, "(audit-key)");
    cr_expect(
        eq(i64, cm_test_number(world.pg, "SELECT count(*) FROM client_manager.dead_letters"), 2));
}

/* ---- the key -------------------------------------------------------------------------------- */

Test(audit_commands, a_key_that_is_too_short_is_refused)
{
    CM_CLEANUP(world_close) world_t world;
    command_set_up(&world, "CM_AUDIT_KEY=short");
    const cm_program_t *done = manager(&world, ARGS("audit", "verify"));
    cr_expect(eq(int, done->code, 78));
    expect_says(done->err, "audit.key (CM_AUDIT_KEY) has 5 bytes; give 16 or more");
}

Test(audit_commands, the_key_comes_from_a_file_and_is_never_shown)
{
    CM_CLEANUP(world_close) world_t world;
    char path[] = "/tmp/cm-key-XXXXXX", variable[64];
    int fd = mkstemp(path);
    cr_assert(ge(int, fd, 0));
    cr_assert(gt(int, dprintf(fd, KEY "\n"), 0));
    close(fd);
    snprintf(variable, sizeof variable, "CM_AUDIT_KEY_FILE=%s", path);
    command_set_up(&world, variable);
    append(&world, KEY, "first", "7");
    cr_expect(eq(int, manager(&world, ARGS("audit", "verify"))->code, 0));
    const cm_program_t *done = manager(&world, ARGS("config", "show"));
    cr_expect(eq(ptr, strstr(done->out, KEY), NULL));
    unlink(path);
}
