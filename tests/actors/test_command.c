#include "actors/command.h"
#include "actors/dev_view.h"
#include "actors/progress.h"
#include "actors/table.h"
#include "runtime/cleanup.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <criterion/redirect.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- a command line, without a shell -------------------------------------------------------- */

enum { WORDS_MAX = 16 };

static char *no_environment[] = {"CM_CONFIG=", NULL};

/* line: words parted by single spaces. What it says goes where the test redirects it. */
static int run(const char *line)
{
    char text[512], *argv[WORDS_MAX] = {"client-manager"};
    int argc = 1;
    snprintf(text, sizeof text, "%s", line);
    for (char *rest = text, *word; (word = strsep(&rest, " ")) && argc < WORDS_MAX - 1;)
        if (*word)
            argv[argc++] = word;
    int code = cm_command_main(argc, argv, no_environment);
    fflush(NULL);
    return code;
}

static void redirect(void)
{
    cr_redirect_stdout();
    cr_redirect_stderr();
}

/* All that comes on a stream that was redirected. */
static const char *all_of(FILE *stream, char text[16384])
{
    size_t used = fread(text, 1, 16383, stream);
    text[used] = '\0';
    return text;
}

static bool says(FILE *stream, const char *words)
{
    char text[16384];
    return strstr(all_of(stream, text), words) != NULL;
}

/* The whole of stderr for a line that is wrong. */
static void expect_refused(const char *line, const char *complaint)
{
    char wanted[600];
    redirect();
    cr_expect(eq(int, run(line), CM_EXIT_USAGE));
    snprintf(wanted, sizeof wanted, "client-manager%s\n", complaint);
    cr_assert_stderr_eq_str(wanted);
}

/* ---- help and version ----------------------------------------------------------------------- */

Test(command, help_is_data_when_it_was_asked_for)
{
    redirect();
    cr_expect(eq(int, run("--help"), CM_EXIT_OK));
    cr_expect(says(cr_get_redirected_stdout(), "usage: client-manager COMMAND"));
}

Test(command, help_is_talk_when_the_command_is_missing)
{
    redirect();
    cr_expect(eq(int, run(""), CM_EXIT_USAGE));
    cr_expect(says(cr_get_redirected_stderr(), "usage: client-manager COMMAND"));
}

Test(command, a_group_alone_tells_its_verbs_on_stderr)
{
    redirect();
    cr_expect(eq(int, run("tenant"), CM_EXIT_USAGE));
    cr_expect(says(cr_get_redirected_stderr(), "tenant migrate"));
}

Test(command, a_group_with_help_tells_its_verbs_on_stdout)
{
    redirect();
    cr_expect(eq(int, run("tenant --help"), CM_EXIT_OK));
    cr_expect(says(cr_get_redirected_stdout(), "tenant migrate"));
}

Test(command, help_stands_before_or_behind_the_words)
{
    static const char *const lines[] = {"help tenant list", "--help tenant list",
                                        "tenant list --help", "tenant list -h"};
    redirect();
    for (size_t i = 0; i < CM_LENGTH(lines); i++)
        cr_expect(eq(int, run(lines[i]), CM_EXIT_OK), "%s", lines[i]);
    char text[16384];
    const char *all = all_of(cr_get_redirected_stdout(), text);
    for (size_t i = 0; i < CM_LENGTH(lines); i++) {
        all = strstr(all, "usage: client-manager tenant list [FLAG...]\n");
        cr_assert(ne(ptr, (void *)all, NULL), "%s", lines[i]);
        all++;
    }
}

Test(command, every_command_has_help_and_version)
{
    redirect();
    for (size_t i = 0; i < cm_command_count; i++) {
        char line[128];
        snprintf(line, sizeof line, "%s --help", cm_commands[i].name);
        cr_expect(eq(int, run(line), CM_EXIT_OK), "%s", line);
        snprintf(line, sizeof line, "%s --version", cm_commands[i].name);
        cr_expect(eq(int, run(line), CM_EXIT_OK), "%s", line);
    }
}

Test(command, version_can_be_read_by_a_program)
{
    redirect();
    cr_expect(eq(int, run("--version --output json"), CM_EXIT_OK));
    cr_expect(says(cr_get_redirected_stdout(), "{\"version\": \"" CM_VERSION "\", \"build\": \""));
}

Test(command, flags_of_every_command_may_stand_before_it)
{
    redirect();
    cr_expect(eq(int, run("--output json config show"), CM_EXIT_OK));
    cr_expect(says(cr_get_redirected_stdout(), "{\"key\": \"postgres.uri\""));
}

/* ---- what is wrong is named ----------------------------------------------------------------- */

Test(command, an_unknown_command_is_named)
{
    expect_refused("tennant list", ": there is no command \"tennant\"; see client-manager --help");
}

Test(command, an_unknown_verb_is_named_with_its_group)
{
    redirect();
    cr_expect(eq(int, run("tenant lst"), CM_EXIT_USAGE));
    cr_expect(says(cr_get_redirected_stderr(), "there is no command \"tenant lst\"\n"));
}

Test(command, an_unknown_long_flag_is_named)
{
    expect_refused("tenant list --bogus", " tenant list: there is no flag --bogus, or more than "
                                          "one begins so; see --help");
}

Test(command, an_unknown_letter_is_named_even_in_a_bundle)
{
    expect_refused("tenant list -yZn5", " tenant list: there is no flag -Z; see --help");
}

Test(command, a_missing_value_is_told_of_a_long_flag)
{
    expect_refused("tenant list --limit", " tenant list: --limit needs a value; see --help");
}

Test(command, a_missing_value_is_told_of_a_letter)
{
    expect_refused("tenant list -n", " tenant list: -n needs a value; see --help");
}

Test(command, a_value_too_many_is_told)
{
    expect_refused("tenant list --yes=no", " tenant list: --yes takes no value; see --help");
}

Test(command, a_wrong_flag_before_the_command_is_told)
{
    expect_refused("--bogus tenant list",
                   ": there is no flag --bogus, or more than one begins so; see --help");
}

Test(command, an_unknown_output_is_told)
{
    expect_refused("tenant list -o xml", ": --output is \"xml\"; give table or json");
}

Test(command, a_flag_given_twice_is_refused_unless_it_repeats)
{
    expect_refused("publish --rate 1 -r 2", " publish: --rate is given twice; give it once");
}

Test(command, a_missing_argument_is_named)
{
    expect_refused("tenant show",
                   " tenant show: ID is missing; usage: client-manager tenant show [FLAG...] ID");
}

Test(command, an_argument_too_many_is_named)
{
    expect_refused("tenant list 5", " tenant list: \"5\" is one argument too many; usage: "
                                    "client-manager tenant list [FLAG...]");
}

Test(command, a_number_outside_its_bounds_is_told_with_them)
{
    expect_refused("dead-letters replay --all -r 0",
                   " dead-letters replay: --rate is \"0\"; give a whole number from 1 to 100000");
}

Test(command, a_number_without_upper_bound_is_told_so)
{
    expect_refused("tenant list -n x",
                   " tenant list: --limit is \"x\"; give a whole number from 1 up");
}

Test(command, a_wrong_tenant_id_stops_before_anything_is_done)
{
    expect_refused("tenant activate 5 a/b",
                   " tenant activate: \"a/b\" is no tenant id: no UUID, and not 1 to 56 of A-Z "
                   "a-z 0-9 _ - beginning with one of A-Z a-z 0-9");
}

Test(command, a_wrong_dead_letter_id_stops_before_anything_is_done)
{
    expect_refused("dead-letters purge --yes 5 six",
                   " dead-letters purge: \"six\" is no id of a dead letter");
}

Test(command, replay_of_everything_must_be_said)
{
    expect_refused("dead-letters replay",
                   " dead-letters replay: give either ids, or filters or --all");
}

Test(command, a_wrong_time_is_told_with_right_ones)
{
    expect_refused("dead-letters list --since soon", " dead-letters list: --since is \"soon\"; "
                                                     "give 2026-11-20T16:00:00Z, or 30m, 12h, 7d");
}

Test(command, an_unknown_subworker_is_told_with_the_known_ones)
{
    expect_refused("run writer wrter",
                   " run: there is no sub-worker \"wrter\"; give writer, "
                   "republisher, push-token-status, tenant-activator, "
                   "account-deletion, contact-deletion, dead-letter, scheduler");
}

Test(command, a_subworker_named_twice_is_refused)
{
    expect_refused("run writer writer", " run: \"writer\" is named twice");
}

Test(command, dev_decides_on_its_servers_by_its_own_flags)
{
    expect_refused("dev -s redis.uri=x", " dev: give --redis instead of --set redis.uri=...");
}

Test(command, dev_without_an_end_cannot_exit_when_done)
{
    expect_refused("dev --exit-when-done", " dev: --exit-when-done needs --events N");
}

Test(command, publish_to_no_topic_of_ours_is_told_with_them)
{
    redirect();
    cr_expect(eq(int, run("publish -t foo"), CM_EXIT_USAGE));
    cr_expect(says(cr_get_redirected_stderr(), "give one of: writer republisher"));
}

Test(command, a_file_that_cannot_be_read_stops_a_publish_before_it_begins)
{
    redirect();
    cr_expect(eq(int, run("publish /nonexistent /tmp"), CM_EXIT_FAILED));
    cr_assert_stderr_eq_str("client-manager publish: /nonexistent: No such file or directory\n"
                            "client-manager publish: /tmp: Is a directory\n");
}

/* ---- configuration -------------------------------------------------------------------------- */

static void expect_fault(const char *setting, const char *fault)
{
    char line[300], wanted[300];
    redirect();
    snprintf(line, sizeof line, "config check -s %s", setting);
    cr_expect(eq(int, run(line), CM_EXIT_CONFIG));
    snprintf(wanted, sizeof wanted, "%s\n", fault);
    cr_assert_stderr_eq_str(wanted);
}

Test(command, a_redis_uri_that_is_none_is_found_before_a_server_is_asked)
{
    redirect();
    cr_expect(eq(int, run("run -s redis.uri=foo"), CM_EXIT_CONFIG));
    cr_expect(says(cr_get_redirected_stderr(), "redis.uri (flag): redis address: the scheme"));
}

Test(command, a_postgres_uri_that_is_none_is_told_without_it)
{
    expect_fault("postgres.uri=foo://:secret@",
                 "postgres.uri (flag) is no connection string; write "
                 "postgresql://user@host:5432/database, or host=... dbname=...");
}

Test(command, an_address_without_port_is_a_fault_of_the_configuration)
{
    expect_fault("monitor.listen=localhost",
                 "monitor.listen (flag) is \"localhost\"; give address:port, as 127.0.0.1:8089, or "
                 "nothing for none");
}

Test(command, what_a_reference_of_the_dashboard_needs_must_be_given)
{
    expect_fault("dashboard_job.reference=query",
                 "dashboard_job.reference_query is not set, and dashboard_job.reference (flag) "
                 "needs it; give a query for tenant, devices, checksum and counted_at");
}

Test(command, a_file_of_counts_without_its_path_is_a_fault_of_the_configuration)
{
    expect_fault("dashboard_job.reference=file",
                 "dashboard_job.reference_path is not set, and dashboard_job.reference (flag) "
                 "needs it; give the path of a file of counts");
}

Test(command, the_uri_of_a_reference_that_is_none_is_told_without_it)
{
    expect_fault("dashboard_job.reference_uri=foo://:secret@",
                 "dashboard_job.reference_uri (flag) is no connection string; write "
                 "postgresql://user@host:5432/database, or host=... dbname=...");
}

Test(command, the_days_of_the_history_outlive_its_runs)
{
    expect_fault("dashboard_job.keep_days=7",
                 "dashboard_job.keep_days (flag) must not be below dashboard_job.keep_runs_days");
}

Test(command, a_role_prefix_that_names_no_role_is_a_fault_of_the_configuration)
{
    expect_fault(
        "postgres.role_prefix=My-App",
        "postgres.role_prefix (flag) is \"My-App\"; give lower-case letters, digits and _, "
        "a letter first, not pg_");
}

Test(command, an_excluded_tenant_that_is_none_is_a_fault_of_the_configuration)
{
    expect_fault("orphan_job.exclude=42,a:b",
                 "orphan_job.exclude (flag): entry 2 is no tenant id: no UUID, and not 1 to 56 of "
                 "A-Z a-z 0-9 _ - beginning with one of A-Z a-z 0-9; give ids of tenants with "
                 "commas between them");
}

Test(command, a_schedule_that_is_none_is_a_fault_of_the_configuration)
{
    expect_fault("orphan_job.schedule=@never",
                 "orphan_job.schedule (flag): expected five fields: minute hour day-of-month month "
                 "day-of-week, or @hourly, @daily, @weekly, @monthly, @yearly");
}

Test(command, a_time_zone_that_is_none_is_a_fault_of_the_configuration)
{
    expect_fault("contact_job.time_zone=Berlin", "contact_job.time_zone (flag): a time zone is UTC "
                                                 "or a name as Europe/Berlin");
}

Test(command, checking_a_configuration_with_roles_tells_who_looks_for_them)
{
    redirect();
    cr_expect(eq(int, run("config check -s postgres.roles=true"), CM_EXIT_OK));
    cr_expect(says(cr_get_redirected_stderr(), "postgres.roles is on"));
}

Test(command, a_connection_has_a_role_only_while_roles_are_on)
{
    cm_options_t options = {.postgres = {.uri = "", .role_prefix = "eu"}};
    cr_expect(eq(str, cm_options_pg_as(&options, "test", CM_ROLE_WRITER).role, ""));
    options.postgres.roles = true;
    cr_expect(eq(str, cm_options_pg_as(&options, "test", CM_ROLE_WRITER).role, "eu_writer"));
    cr_expect(eq(str, cm_options_pg_as(&options, "test", CM_ROLE_NONE).role, ""));
    cr_expect(eq(str, cm_options_pg(&options, "test").role, ""));
}

Test(command, logins_without_roles_are_a_fault_of_usage)
{
    redirect();
    cr_expect(eq(int, run("database prepare --login app"), CM_EXIT_USAGE));
    cr_expect(says(cr_get_redirected_stderr(), "belong to --roles"));
}

Test(command, no_address_at_all_means_no_monitor)
{
    redirect();
    cr_expect(eq(int, run("config check -s monitor.listen="), CM_EXIT_OK));
}

Test(command, config_show_hides_the_password_and_nothing_else)
{
    redirect();
    cr_expect(eq(int, run("config show -o json -s postgres.uri=postgresql://me:geheim@db/x"),
                 CM_EXIT_OK));
    cr_expect(says(cr_get_redirected_stdout(), "\"value\": \"postgresql://me:***@db/x\""));
}

static const char *file_of(const char *flag, char **environment, const char *usual)
{
    cm_invocation_t invocation = {.config_file = flag,
                                  .environment = (const char *const *)environment};
    const char *file = cm_command_file(&invocation, usual);
    return file ? file : "none";
}

Test(command, the_configuration_file_is_the_nearest_that_is_named)
{
    char path[] = "/tmp/cm-test-XXXXXX";
    close(mkstemp(path));
    char *named[] = {"CM_CONFIG=/a", NULL}, *nothing[] = {NULL};
    cr_expect(eq(str, file_of("/b", named, path), "/b"));
    cr_expect(eq(str, file_of(NULL, named, path), "/a"));
    cr_expect(eq(str, file_of(NULL, no_environment, path), "none"));
    cr_expect(eq(str, file_of(NULL, nothing, path), path));
    unlink(path);
    cr_expect(eq(str, file_of(NULL, nothing, path), "none"));
}

/* ---- tables and numbers --------------------------------------------------------------------- */

static void print_two_rows(bool json, const char *text)
{
    static const cm_column_t columns[] = {{"name", false}, {"n", true}, {"note", false}};
    cm_table_t table;
    cm_table_start(&table, columns, CM_LENGTH(columns), json);
    cm_table_cell(&table, text);
    cm_table_cell_i64(&table, 7);
    cm_table_cell(&table, "");
    cm_table_cell(&table, "b");
    cm_table_cell(&table, "");
    cm_table_cell(&table, "x");
    cm_table_end(&table);
    fflush(stdout);
}

Test(table, columns_are_aligned_by_character_and_lines_end_without_spaces)
{
    redirect();
    print_two_rows(false, "Zwölf");
    cr_assert_stdout_eq_str("name   n  note\nZwölf  7\nb         x\n");
}

Test(table, what_a_terminal_would_obey_is_shown_not_sent)
{
    redirect();
    print_two_rows(false, "\033[2J\n\xc2\x9b");
    cr_assert_stdout_eq_str(
        "name             n  note\n\\x1b[2J\\x0a\\x9b  7\nb                   x\n");
}

Test(table, json_is_one_object_a_line_with_bare_numbers)
{
    redirect();
    print_two_rows(true, "\033\"");
    cr_assert_stdout_eq_str("{\"name\": \"\\u001B\\\"\", \"n\": 7, \"note\": \"\"}\n"
                            "{\"name\": \"b\", \"n\": null, \"note\": \"x\"}\n");
}

Test(progress, the_bar_is_full_at_the_end_and_no_longer)
{
    char bar[CM_BAR_MAX];
    cr_expect(eq(str, (char *)cm_progress_bar(bar, 0, 0), ""));
    cr_expect(eq(str, (char *)cm_progress_bar(bar, 1, 2), "[############------------]"));
    cr_expect(eq(str, (char *)cm_progress_bar(bar, 9, 2), "[########################]"));
}

Test(progress, lines_are_plain_where_there_is_no_terminal)
{
    cm_progress_t progress;
    redirect();
    cm_progress_start(&progress, "events", false);
    cm_progress_say(&progress, "line %d is bad", 3);
    cm_progress_update(&progress, 1, 2, "");
    fflush(stderr);
    cr_assert_stderr_eq_str("line 3 is bad\n");
}

Test(dev_view, counts_keep_three_digits)
{
    static const struct {
        uint64_t count;
        const char *text;
    } cases[] = {{0, "0"},          {999, "999"},        {1000, "1.00k"},      {9994, "9.99k"},
                 {9996, "10.0k"},   {99949, "99.9k"},    {99951, "100k"},      {999499, "999k"},
                 {999501, "1.00M"}, {45600000, "45.6M"}, {UINT64_MAX, "18.4E"}};
    char text[CM_COUNT_MAX];
    for (size_t i = 0; i < CM_LENGTH(cases); i++)
        cr_expect(eq(str, (char *)cm_dev_view_count(text, cases[i].count), (char *)cases[i].text));
}
