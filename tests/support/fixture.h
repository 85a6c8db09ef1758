/* fixture - what tests against real servers need: a fresh database, a unique name, a deadline.
 *
 * The servers come from the environment: run the program as
 *     tests/support/with-servers build/debug/tests/test_x
 * Without them a test that asks for one fails and says so; it is never skipped.
 */
#ifndef CM_TESTS_SUPPORT_FIXTURE_H
#define CM_TESTS_SUPPORT_FIXTURE_H
#include <stdbool.h>

enum { CM_TEST_URI_MAX = 512, CM_TEST_NAME_MAX = 64 };

/* Create an empty database in the server of CM_TEST_PG_URI and write its URI. It is dropped,
 * sessions and all, by cm_test_database_drop() or at the latest when the process exits by itself.
 */
void cm_test_database(char uri[CM_TEST_URI_MAX]);
/* Drop every database that this process created; usable as .fini of a test. Safe twice. */
void cm_test_database_drop(void);

/* URI of the server's own database, for tests that only look at the server. */
const char *cm_test_pg_uri(void);
const char *cm_test_redis_uri(void);

/* "stem_<process>_<random>": lower case letters, digits and '_', unique across processes and runs.
 */
void cm_test_unique(char name[CM_TEST_NAME_MAX], const char *stem);

/* Poll condition(ctx) until it is true (true) or deadline_ms have passed (false). */
bool cm_test_wait(bool (*condition)(void *ctx), void *ctx, int deadline_ms);
#endif
