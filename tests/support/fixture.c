#include "tests/support/fixture.h"
#include "runtime/clock.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <inttypes.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { DATABASES_MAX = 32 };

/* Static, because atexit() passes nothing; Criterion gives each test a process of its own. */
static struct {
    char names[DATABASES_MAX][CM_TEST_NAME_MAX];
    int count;
    pid_t owner;
} databases;

static const char *from_environment(const char *variable)
{
    const char *value = getenv(variable);
    if (!value || !*value)
        cr_fatal("%s is not set: run this program under tests/support/with-servers", variable);
    return value;
}

const char *cm_test_pg_uri(void)
{
    return from_environment("CM_TEST_PG_URI");
}

const char *cm_test_redis_uri(void)
{
    return from_environment("CM_TEST_REDIS_URI");
}

void cm_test_unique(char name[CM_TEST_NAME_MAX], const char *stem)
{
    snprintf(name, CM_TEST_NAME_MAX, "%.30s_%d_%08" PRIx32, stem, (int)getpid(),
             (uint32_t)cm_random_u64());
}

/* The URI of the server with its database replaced; "scheme://authority/database?parameters". */
static void uri_of(char uri[CM_TEST_URI_MAX], const char *database)
{
    const char *server = cm_test_pg_uri();
    const char *authority = strstr(server, "://");
    const char *path = authority ? strchr(authority + 3, '/') : NULL;
    if (!path)
        cr_fatal("CM_TEST_PG_URI must be like postgresql://HOST/DATABASE, it is %s", server);
    const char *parameters = strchr(path, '?');
    int used = snprintf(uri, CM_TEST_URI_MAX, "%.*s/%s%s", (int)(path - server), server, database,
                        parameters ? parameters : "");
    if (used >= CM_TEST_URI_MAX)
        cr_fatal("CM_TEST_PG_URI is too long");
}

/* Empty when it worked, else the server's message. */
static void run(char why[256], const char *verb, const char *database, const char *options)
{
    char sql[64 + CM_TEST_NAME_MAX];
    snprintf(sql, sizeof sql, "%s %s %s", verb, database, options);
    PGconn *conn = PQconnectdb(cm_test_pg_uri());
    PGresult *result = PQexec(conn, sql);
    bool done = PQresultStatus(result) == PGRES_COMMAND_OK;
    snprintf(why, 256, "%s", done ? "" : PQerrorMessage(conn));
    PQclear(result);
    PQfinish(conn);
}

void cm_test_database_drop(void)
{
    char why[256];
    if (databases.owner != getpid())
        return;
    /* A server that the test has stopped takes its databases along. */
    while (databases.count > 0)
        run(why, "DROP DATABASE IF EXISTS", databases.names[--databases.count], "WITH (FORCE)");
}

void cm_test_database(char uri[CM_TEST_URI_MAX])
{
    char why[256];
    if (databases.owner != getpid()) {
        databases.owner = getpid();
        databases.count = 0;
        atexit(cm_test_database_drop);
    }
    if (databases.count == DATABASES_MAX)
        cr_fatal("a test may create %d databases", DATABASES_MAX);
    char *name = databases.names[databases.count];
    cm_test_unique(name, "cm_test");
    run(why, "CREATE DATABASE", name, "TEMPLATE template0");
    if (*why)
        cr_fatal("cannot create database %s: %s", name, why);
    databases.count++;
    uri_of(uri, name);
}

bool cm_test_wait(bool (*condition)(void *ctx), void *ctx, int deadline_ms)
{
    int64_t deadline = cm_clock_mono_ms() + deadline_ms;
    for (;;) {
        if (condition(ctx))
            return true;
        if (cm_clock_mono_ms() >= deadline)
            return false;
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    }
}
