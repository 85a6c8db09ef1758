/* schema_fixture - a database with an admin schema, and short ways to talk to it. Faults end the
 * test. */
#ifndef CM_TESTS_SUPPORT_SCHEMA_FIXTURE_H
#define CM_TESTS_SUPPORT_SCHEMA_FIXTURE_H
#include "runtime/pg.h"
#include "tests/support/fixture.h"

#define CM_TEST_ADMIN "cm_admin"

/* A connection with prepared statements and generous time-outs; uri must outlive it. */
cm_pg_t *cm_test_connect(const char *uri);
/* Create a database with an admin schema, write its URI, return a connection. */
cm_pg_t *cm_test_admin(char uri[CM_TEST_URI_MAX]);
/* Activate a tenant at event time 1000 ms. */
void cm_test_tenant(cm_pg_t *pg, const char *id);

/* Carry out a deletion at event time event_ms to its end; the number of steps it took. */
int cm_test_delete(cm_pg_t *pg, const char *id, int64_t event_ms);

void cm_test_sql(cm_pg_t *pg, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* First value of the first row. */
int64_t cm_test_number(cm_pg_t *pg, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* All rows as text, columns joined by '|', rows by a line break, NULL as "-"; yours (free). */
char *cm_test_rows(cm_pg_t *pg, const char *format, ...) __attribute__((format(printf, 2, 3)));
#endif
