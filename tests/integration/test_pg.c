#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "runtime/pg.h"
#include "tests/support/fixture.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static cm_pg_t *new_pg(const char *uri)
{
    return cm_pg_new(&(cm_pg_options_t){.uri = uri,
                                        .application_name = "test_pg",
                                        .connect_timeout_ms = 10000,
                                        .statement_timeout_ms = 10000,
                                        .lock_timeout_ms = 5000,
                                        .prepared_max = 8});
}

static cm_pg_t *connected(const char *uri)
{
    cm_error_t err = {0};
    cm_pg_t *pg = new_pg(uri);
    cr_assert(eq(int, cm_pg_connect(pg, NULL, &err), CM_OK), "%s %s", err.code, err.message);
    return pg;
}

static void must(cm_pg_t *pg, const char *sql)
{
    cm_error_t err = {0};
    cr_assert(eq(int, cm_pg_exec(pg, sql, &err), CM_OK), "%s: %s %s", sql, err.code, err.message);
}

static void ask(cm_pg_t *pg, const char *sql, char answer[128])
{
    cm_error_t err = {0};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cr_assert(eq(int, cm_pg_query(pg, sql, 0, NULL, &result, &err), CM_OK), "%s: %s", sql,
              err.message);
    snprintf(answer, 128, "%s", cm_pg_text(result, 0, 0));
}

/* Expect that sql ends with status and code; 4711 stands for a value, which no message may hold. */
static void fails(cm_pg_t *pg, const char *sql, cm_status_t status, const char *code)
{
    cm_error_t err = {0};
    cr_expect(eq(int, cm_pg_exec(pg, sql, &err), status), "%s: %s %s", sql, err.code, err.message);
    cr_expect(eq(str, err.code, (char *)code), "%s: %s", sql, err.message);
    cr_expect(ne(int, err.message[0], 0));
    cr_expect(eq(ptr, strstr(err.message, "4711"), NULL), "%s", err.message);
}

static void refuses(const char *uri, cm_status_t status, const char *code)
{
    cm_error_t err = {0};
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = new_pg(uri);
    cr_expect(eq(int, cm_pg_connect(pg, NULL, &err), status), "%s: %s", uri, err.message);
    cr_expect(eq(str, err.code, (char *)code), "%s: %s", uri, err.message);
    cr_expect(ne(int, err.message[0], 0));
    cr_expect(eq(ptr, strstr(err.message, "hunter2"), NULL), "%s", err.message);
    cr_expect(eq(ptr, strpbrk(err.message, "\n\t"), NULL), "%s", err.message);
    cr_expect(not(cm_pg_is_connected(pg)));
    cr_expect(eq(int, cm_pg_fd(pg), -1));
}

/* ---- connecting ---------------------------------------------------------------------------- */

Test(pg_connect, sets_up_the_session, .timeout = 30)
{
    char uri[CM_TEST_URI_MAX], answer[128];
    cm_test_database(uri);
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = connected(uri);
    static char *const settings[][2] = {
        {"statement_timeout", "10s"},
        {"lock_timeout", "5s"},
        {"idle_in_transaction_session_timeout", "30s"},
        {"plan_cache_mode", "force_generic_plan"},
        {"search_path", "pg_catalog,pg_temp"},
        {"TimeZone", "UTC"},
        {"client_min_messages", "warning"},
        {"client_encoding", "UTF8"},
        {"application_name", "test_pg"},
    };
    for (size_t i = 0; i < CM_LENGTH(settings); i++) {
        char sql[64];
        snprintf(sql, sizeof sql, "SHOW %s", settings[i][0]);
        ask(pg, sql, answer);
        cr_expect(eq(str, answer, settings[i][1]), "%s", settings[i][0]);
    }
    cr_expect(cm_pg_is_connected(pg));
    cr_expect(ge(int, cm_pg_fd(pg), 0));
    cr_expect(ne(ptr, cm_pg_raw(pg), NULL));
    cr_expect(le(i64, cm_pg_connected_at_ms(pg), cm_clock_mono_ms()));
}

Test(pg_connect, commits_are_durable_whatever_the_server_prefers, .timeout = 30)
{
    char uri[CM_TEST_URI_MAX], answer[128];
    cm_error_t err = {0};
    cm_test_database(uri);
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = connected(uri);
    const char *off = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off',"
                      " current_database()); END $$";
    cr_assert(eq(int, cm_pg_exec(pg, off, &err), CM_OK));
    cr_assert(eq(int, cm_pg_connect(pg, NULL, &err), CM_OK));
    ask(pg, "SHOW synchronous_commit", answer);
    cr_expect(eq(str, answer, "on"));
}

Test(pg_connect, options_of_the_uri_win, .timeout = 30)
{
    char uri[CM_TEST_URI_MAX + 64], answer[128];
    cm_test_database(uri);
    strcat(uri, "&options=-c%20lock_timeout%3D77ms");
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = connected(uri);
    ask(pg, "SHOW lock_timeout", answer);
    cr_expect(eq(str, answer, "77ms"));
    ask(pg, "SHOW statement_timeout", answer);
    cr_expect(eq(str, answer, "10s"));
}

Test(pg_connect, nobody_listening_is_unavailable, .timeout = 30)
{
    refuses("postgresql:///postgres?host=/nonexistent", CM_UNAVAILABLE, "connect");
    refuses("postgresql://u:hunter2@127.0.0.1:1/postgres", CM_UNAVAILABLE, "connect");
}

Test(pg_connect, unknown_database_is_misconfigured, .timeout = 30)
{
    char uri[CM_TEST_URI_MAX];
    cm_test_database(uri);
    cm_test_database_drop();
    refuses(uri, CM_MISCONFIGURED, "3D000");
}

static void as_role(char uri[CM_TEST_URI_MAX], const char *role)
{
    char *user = strstr(uri, "user=");
    cr_assert(ne(ptr, user, NULL));
    snprintf(user, CM_TEST_URI_MAX - (size_t)(user - uri), "user=%s", role);
}

Test(pg_connect, unknown_role_is_misconfigured, .timeout = 30)
{
    char uri[CM_TEST_URI_MAX], role[CM_TEST_NAME_MAX];
    cm_test_database(uri);
    cm_test_unique(role, "role");
    as_role(uri, role);
    refuses(uri, CM_MISCONFIGURED, "28000");
}

Test(pg_connect, too_many_connections_are_unavailable, .timeout = 30)
{
    char uri[CM_TEST_URI_MAX], role[CM_TEST_NAME_MAX], sql[128];
    cm_test_database(uri);
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = connected(uri);
    cm_test_unique(role, "role");
    snprintf(sql, sizeof sql, "CREATE ROLE %s LOGIN CONNECTION LIMIT 0", role);
    must(pg, sql);
    as_role(uri, role);
    refuses(uri, CM_UNAVAILABLE, "53300");
    snprintf(sql, sizeof sql, "DROP ROLE %s", role);
    must(pg, sql);
}

Test(pg_connect, bad_uri_is_misconfigured_and_not_repeated, .timeout = 30)
{
    refuses("postgresql://u:hunter2@[h/x", CM_MISCONFIGURED, "connect");
    refuses("postgresql://u:hunter2@h/x?nonsense=1", CM_MISCONFIGURED, "connect");
    refuses("postgresql://u:hunter2@h:99999999/x", CM_MISCONFIGURED, "connect");
    refuses("postgresql://u:hunter2@h/x?sslmode=hunter2", CM_MISCONFIGURED, "connect");
    refuses("not a uri hunter2", CM_MISCONFIGURED, "connect");
}

Test(pg_connect, setting_that_the_server_refuses_is_misconfigured, .timeout = 30)
{
    char uri[CM_TEST_URI_MAX + 64];
    cm_test_database(uri);
    strcat(uri, "&options=-c%20no_such_setting%3D1");
    refuses(uri, CM_MISCONFIGURED, "42704");
}

/* A port whose connections are accepted by the kernel and never answered. */
static int silent_listener(char uri[CM_TEST_URI_MAX])
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    cr_assert(zero(int, bind(fd, (struct sockaddr *)&address, sizeof address)));
    cr_assert(zero(int, listen(fd, 8)));
    cr_assert(zero(int, getsockname(fd, (struct sockaddr *)&address, &length)));
    snprintf(uri, CM_TEST_URI_MAX, "postgresql://u@127.0.0.1:%d/x", ntohs(address.sin_port));
    return fd;
}

Test(pg_connect, silent_server_is_unavailable_at_the_timeout, .timeout = 30)
{
    char uri[CM_TEST_URI_MAX];
    int fd = silent_listener(uri);
    cm_error_t err = {0};
    CM_CLEANUP(cm_pg_destroy)
    cm_pg_t *pg = cm_pg_new(&(cm_pg_options_t){.uri = uri, .connect_timeout_ms = 50});
    cr_expect(eq(int, cm_pg_connect(pg, NULL, &err), CM_UNAVAILABLE));
    cr_expect(eq(str, err.code, "connect"));
    cr_expect(not(cm_pg_is_connected(pg)));
    close(fd);
}

Test(pg_connect, interrupt_cancels_and_stays_unread, .timeout = 30)
{
    char uri[CM_TEST_URI_MAX];
    int fd = silent_listener(uri);
    cm_error_t err = {0};
    CM_CLEANUP(zsock_destroy) zsock_t *control = zsock_new_pair("@inproc://interrupt");
    CM_CLEANUP(zsock_destroy) zsock_t *interrupt = zsock_new_pair(">inproc://interrupt");
    zstr_send(control, "$TERM");
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = new_pg(uri);
    cr_expect(eq(int, cm_pg_connect(pg, interrupt, &err), CM_CANCELLED));
    cr_expect(not(cm_pg_is_connected(pg)));
    CM_CLEANUP(zstr_free) char *word = zstr_recv_nowait(interrupt);
    cr_expect(eq(str, word ? word : "", "$TERM"));
    close(fd);
}

Test(pg_connect, interrupt_that_is_quiet_does_not_disturb, .timeout = 30)
{
    char uri[CM_TEST_URI_MAX];
    cm_test_database(uri);
    cm_error_t err = {0};
    CM_CLEANUP(zsock_destroy) zsock_t *control = zsock_new_pair("@inproc://quiet");
    CM_CLEANUP(zsock_destroy) zsock_t *interrupt = zsock_new_pair(">inproc://quiet");
    cr_assert(ne(ptr, control, NULL));
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = new_pg(uri);
    cr_expect(eq(int, cm_pg_connect(pg, interrupt, &err), CM_OK), "%s", err.message);
}

Test(pg_connect, read_only_server_is_unavailable, .timeout = 30)
{
    char uri[CM_TEST_URI_MAX + 64];
    cm_test_database(uri);
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = connected(uri);
    must(pg, "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only "
             "= on', current_database()); END $$");
    refuses(uri, CM_UNAVAILABLE, "connect");
}

Test(pg_connect, write_to_a_read_only_server_closes, .timeout = 30)
{
    char uri[CM_TEST_URI_MAX];
    cm_test_database(uri);
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = connected(uri);
    must(pg, "SET default_transaction_read_only = on");
    fails(pg, "CREATE TABLE public.t (a int)", CM_UNAVAILABLE, "25006");
    cr_expect(not(cm_pg_is_connected(pg)));
}

Test(pg_connect, new_and_closed_say_so, .timeout = 30)
{
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = new_pg("postgresql:///");
    fails(pg, "SELECT 1", CM_UNAVAILABLE, "link");
    cm_pg_close(pg);
    cm_pg_rollback(pg);
    cr_expect(eq(int, cm_pg_fd(pg), -1));
    cr_expect(eq(int, cm_pg_query(pg, "SELECT 1", 0, NULL, NULL, NULL), CM_UNAVAILABLE));
}

/* ---- one at a time ------------------------------------------------------------------------- */

Test(pg_query, parameters_and_values_pass_as_text, .timeout = 30)
{
    char uri[CM_TEST_URI_MAX];
    cm_test_database(uri);
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = connected(uri);
    cm_error_t err = {0};
    const char *values[] = {"9007199254740993", NULL, "gr\xc3\xbc\xc3\x9f"};
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cr_assert(eq(int,
                 cm_pg_query(pg, "SELECT $1::bigint, $2::text, $3::text", 3, values, &result, &err),
                 CM_OK));
    cr_expect(eq(i64, cm_pg_i64(result, 0, 0), 9007199254740993));
    cr_expect(eq(str, (char *)cm_pg_text(result, 0, 1), ""));
    cr_expect(eq(str, (char *)cm_pg_text(result, 0, 2), (char *)values[2]));
}

Test(pg_query, statement_timeout_is_transient, .timeout = 30)
{
    char uri[CM_TEST_URI_MAX];
    cm_test_database(uri);
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = connected(uri);
    must(pg, "SET statement_timeout = '20ms'");
    fails(pg, "SELECT pg_sleep(20)", CM_TRANSIENT, "57014");
    cr_expect(cm_pg_is_connected(pg));
}

Test(pg_query, lock_timeout_is_transient, .timeout = 30)
{
    char uri[CM_TEST_URI_MAX];
    cm_test_database(uri);
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *holder = connected(uri);
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = connected(uri);
    must(holder, "CREATE TABLE public.t (a int)");
    cr_assert(eq(int, cm_pg_begin(holder, NULL), CM_OK));
    must(holder, "LOCK TABLE public.t IN ACCESS EXCLUSIVE MODE");
    must(pg, "SET lock_timeout = '20ms'");
    fails(pg, "INSERT INTO public.t VALUES (1)", CM_TRANSIENT, "55P03");
    cr_expect(cm_pg_is_connected(pg));
}

Test(pg_query, messages_hold_no_values, .timeout = 30)
{
    char uri[CM_TEST_URI_MAX];
    cm_test_database(uri);
    cm_error_t err = {0};
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = connected(uri);
    must(pg, "CREATE TABLE public.t (a int CONSTRAINT small CHECK (a < 5000), b text NOT NULL,"
             " CONSTRAINT one_a UNIQUE (a));"
             "INSERT INTO public.t VALUES (4711, '')");
    fails(pg, "SELECT 'x4711'::int", CM_PERMANENT, "22P02");
    fails(pg, "SELECT '47114711471147114711'::bigint", CM_PERMANENT, "22003");
    fails(pg, "SELECT '{4711'::jsonb", CM_PERMANENT, "22P02");
    fails(pg, "INSERT INTO public.t VALUES (4711, '')", CM_PERMANENT, "23505");
    fails(pg, "INSERT INTO public.t VALUES (64711, '')", CM_PERMANENT, "23514");
    fails(pg, "INSERT INTO public.t VALUES (1, NULL)", CM_PERMANENT, "23502");
    cm_pg_exec(pg, "INSERT INTO public.t VALUES (4711, '')", &err);
    cr_expect(eq(str, err.message, "duplicate key: constraint one_a"));
    cm_pg_exec(pg, "INSERT INTO public.t VALUES (1, NULL)", &err);
    cr_expect(eq(str, err.message, "null in a column that needs a value: column b"));
    cr_expect(eq(i64, (int64_t)cm_pg_unclassified(pg), 0));
}

Test(pg_query, missing_table_and_schema_are_missing, .timeout = 30)
{
    char uri[CM_TEST_URI_MAX];
    cm_test_database(uri);
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = connected(uri);
    fails(pg, "SELECT * FROM tenant_1.devices", CM_MISSING, "42P01");
    fails(pg, "CREATE TABLE tenant_1.devices ()", CM_MISSING, "3F000");
}

Test(pg_query, duplicate_in_the_catalog_is_a_race_not_bad_data, .timeout = 30)
{
    char uri[CM_TEST_URI_MAX];
    cm_test_database(uri);
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = connected(uri);
    must(pg, "SET allow_system_table_mods = on");
    fails(pg, "INSERT INTO pg_namespace VALUES (99999, 'public', 10, NULL)", CM_TRANSIENT, "23505");
}

Test(pg_query, unknown_sqlstate_is_transient_and_counted, .timeout = 30)
{
    char uri[CM_TEST_URI_MAX];
    cm_test_database(uri);
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = connected(uri);
    fails(pg, "DO $$ BEGIN RAISE 'odd' USING ERRCODE = 'ZZ001'; END $$", CM_TRANSIENT, "ZZ001");
    cr_expect(eq(i64, (int64_t)cm_pg_unclassified(pg), 1));
}

Test(pg_query, copy_is_refused_and_closes, .timeout = 30)
{
    char uri[CM_TEST_URI_MAX];
    cm_test_database(uri);
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = connected(uri);
    must(pg, "CREATE TABLE public.t (a int)");
    fails(pg, "COPY public.t FROM STDIN", CM_PERMANENT, "copy");
    cr_expect(not(cm_pg_is_connected(pg)));
}

static void pid_of(cm_pg_t *pg, char pid[128])
{
    ask(pg, "SELECT pg_backend_pid()", pid);
}

Test(pg_query, terminated_session_is_unavailable_and_reconnects, .timeout = 30)
{
    char uri[CM_TEST_URI_MAX], pid[128];
    cm_test_database(uri);
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = connected(uri);
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *other = connected(uri);
    pid_of(pg, pid);
    const char *values[] = {pid};
    cm_error_t err = {0};
    cr_assert(
        eq(int, cm_pg_query(other, "SELECT pg_terminate_backend($1, 10000)", 1, values, NULL, &err),
           CM_OK));
    cr_expect(eq(int, cm_pg_exec(pg, "SELECT 1", &err), CM_UNAVAILABLE));
    cr_expect(not(cm_pg_is_connected(pg)));
    cr_expect(eq(int, cm_pg_connect(pg, NULL, &err), CM_OK));
    must(pg, "SELECT 1");
}

Test(pg_query, cut_link_is_unavailable, .timeout = 30)
{
    char uri[CM_TEST_URI_MAX];
    cm_test_database(uri);
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = connected(uri);
    shutdown(cm_pg_fd(pg), SHUT_RDWR);
    fails(pg, "SELECT 1", CM_UNAVAILABLE, "link");
    cr_expect(not(cm_pg_is_connected(pg)));
}

Test(pg_query, server_that_hangs_is_given_up, .timeout = 60)
{
    char uri[CM_TEST_URI_MAX], pid[128];
    cm_test_database(uri);
    cm_error_t err = {0};
    CM_CLEANUP(cm_pg_destroy)
    cm_pg_t *pg = cm_pg_new(&(cm_pg_options_t){.uri = uri, .statement_timeout_ms = 100});
    cr_assert(eq(int, cm_pg_connect(pg, NULL, &err), CM_OK));
    pid_of(pg, pid);
    kill(atoi(pid), SIGSTOP);
    fails(pg, "SELECT 1", CM_UNAVAILABLE, "link");
    cr_expect(not(cm_pg_is_connected(pg)));
    kill(atoi(pid), SIGCONT);
}

/* ---- transactions -------------------------------------------------------------------------- */

Test(pg_transaction, commit_is_seen_by_others, .timeout = 30)
{
    char uri[CM_TEST_URI_MAX], answer[128];
    cm_test_database(uri);
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = connected(uri);
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *other = connected(uri);
    must(pg, "CREATE TABLE public.t (a int)");
    cr_assert(eq(int, cm_pg_begin(pg, NULL), CM_OK));
    must(pg, "INSERT INTO public.t VALUES (1); INSERT INTO public.t VALUES (2)");
    ask(other, "SELECT count(*) FROM public.t", answer);
    cr_expect(eq(str, answer, "0"));
    cr_assert(eq(int, cm_pg_commit(pg, NULL), CM_OK));
    ask(other, "SELECT count(*) FROM public.t", answer);
    cr_expect(eq(str, answer, "2"));
}

Test(pg_transaction, commit_after_a_failure_is_no_success, .timeout = 30)
{
    char uri[CM_TEST_URI_MAX];
    cm_test_database(uri);
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = connected(uri);
    cm_error_t err = {0};
    cr_assert(eq(int, cm_pg_begin(pg, NULL), CM_OK));
    fails(pg, "SELECT 1/0", CM_PERMANENT, "22012");
    cr_expect(eq(int, cm_pg_commit(pg, &err), CM_TRANSIENT));
    cr_expect(eq(str, err.code, "25P02"));
}

Test(pg_transaction, commit_without_begin_is_no_success, .timeout = 30)
{
    char uri[CM_TEST_URI_MAX];
    cm_test_database(uri);
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = connected(uri);
    cm_error_t err = {0};
    cr_expect(eq(int, cm_pg_commit(pg, &err), CM_TRANSIENT));
    cr_expect(eq(str, err.code, "25P01"));
}

Test(pg_transaction, statement_after_a_failure_closes, .timeout = 30)
{
    char uri[CM_TEST_URI_MAX];
    cm_test_database(uri);
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = connected(uri);
    cr_assert(eq(int, cm_pg_begin(pg, NULL), CM_OK));
    fails(pg, "SELECT 1/0", CM_PERMANENT, "22012");
    fails(pg, "SELECT 1", CM_TRANSIENT, "25P02");
    cr_expect(not(cm_pg_is_connected(pg)));
}

Test(pg_transaction, rollback_after_a_failure_heals, .timeout = 30)
{
    char uri[CM_TEST_URI_MAX];
    cm_test_database(uri);
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = connected(uri);
    cr_assert(eq(int, cm_pg_begin(pg, NULL), CM_OK));
    fails(pg, "SELECT 1/0", CM_PERMANENT, "22012");
    cm_pg_rollback(pg);
    cm_pg_rollback(pg);
    cr_expect(cm_pg_is_connected(pg));
    must(pg, "SELECT 1");
}

Test(pg_transaction, begin_inside_a_transaction_closes, .timeout = 30)
{
    char uri[CM_TEST_URI_MAX];
    cm_test_database(uri);
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = connected(uri);
    cm_error_t err = {0};
    cr_assert(eq(int, cm_pg_begin(pg, NULL), CM_OK));
    cr_expect(eq(int, cm_pg_begin(pg, &err), CM_TRANSIENT));
    cr_expect(eq(str, err.code, "25001"));
    cr_expect(not(cm_pg_is_connected(pg)));
}
