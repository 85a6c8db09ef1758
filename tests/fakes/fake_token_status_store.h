/* fake_token_status_store - the result of each verdict is told by its client id: "applied",
 * "stale", "duplicate", "transient", "locked", "bad" (permanent), "missing"; one that says gone is
 * held while `braked`. Totals of brakes count queries only. Of old verdicts there are those of
 * tenant "a", which is locked, and of "b". */
#ifndef CM_TESTS_FAKE_TOKEN_STATUS_STORE_H
#define CM_TESTS_FAKE_TOKEN_STATUS_STORE_H
#include "schema/push_brake_store.h"
#include "schema/token_status_store.h"

#include <stdatomic.h>

typedef struct {
    atomic_int failures;       /* so many writes end with CM_UNAVAILABLE */
    atomic_int braked;         /* brakes are on */
    atomic_int totals_failure; /* cm_status_t with which the totals of brakes end */
    atomic_int writes, verdicts, trips, totals;
    atomic_int old_chunks;     /* how often "b" has as many as are asked for */
    atomic_int prunes, rounds; /* of a tenant, of all */
} cm_fake_token_status_store_t;

extern cm_fake_token_status_store_t fake_token_status_store;
#endif
