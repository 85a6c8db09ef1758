/* fake_pg - a connection that opens, or not, as the test says; what would use it is faked, too. */
#ifndef CM_TESTS_FAKE_PG_H
#define CM_TESTS_FAKE_PG_H
#include "runtime/pg.h"

#include <stdatomic.h>

typedef struct {
    atomic_int refuses; /* cm_status_t with which connecting ends; CM_OK: it succeeds */
    atomic_int connects, closes;
} cm_fake_pg_t;

extern cm_fake_pg_t fake_pg;
#endif
