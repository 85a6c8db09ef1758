#include "tests/support/fixture.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <libpq-fe.h>
#include <stdlib.h>
#include <unistd.h>

static int ask(const char *uri, const char *sql)
{
    PGconn *conn = PQconnectdb(uri);
    PGresult *result = PQexec(conn, sql);
    cr_assert(eq(int, PQresultStatus(result), PGRES_TUPLES_OK), "%s", PQerrorMessage(conn));
    int answer = atoi(PQgetvalue(result, 0, 0));
    PQclear(result);
    PQfinish(conn);
    return answer;
}

Test(fixture, gives_an_empty_database_of_its_own, .timeout = 20)
{
    char first[CM_TEST_URI_MAX], second[CM_TEST_URI_MAX];
    cm_test_database(first);
    cm_test_database(second);
    cr_expect(ne(str, first, second));
    cr_expect(eq(int, ask(first, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), 0));
}

Test(fixture, drops_the_databases_of_this_process_only, .timeout = 20)
{
    char uri[CM_TEST_URI_MAX], sql[128];
    snprintf(sql, sizeof sql,
             "SELECT count(*) FROM pg_database WHERE datname LIKE 'cm\\_test\\_%d\\_%%'",
             (int)getpid());
    cm_test_database(uri);
    cm_test_database(uri);
    cr_expect(eq(int, ask(cm_test_pg_uri(), sql), 2));
    cm_test_database_drop();
    cm_test_database_drop();
    cr_expect(eq(int, ask(cm_test_pg_uri(), sql), 0));
}

static bool third_time(void *ctx)
{
    return ++*(int *)ctx == 3;
}

static bool never(void *ctx)
{
    (void)ctx;
    return false;
}

Test(fixture, waits_until_the_condition_holds, .timeout = 20)
{
    int calls = 0;
    cr_expect(cm_test_wait(third_time, &calls, 10000));
    cr_expect(eq(int, calls, 3));
}

Test(fixture, gives_up_at_the_deadline, .timeout = 20)
{
    cr_expect(not(cm_test_wait(never, NULL, 10)));
}

Test(fixture, unique_names_differ)
{
    char first[CM_TEST_NAME_MAX], second[CM_TEST_NAME_MAX];
    cm_test_unique(first, "stem");
    cm_test_unique(second, "stem");
    cr_expect(ne(str, first, second));
}
