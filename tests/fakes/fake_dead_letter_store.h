/* fake_dead_letter_store - keeps every letter but those with the body "bad"; counts statements. */
#ifndef CM_TESTS_FAKE_DEAD_LETTER_STORE_H
#define CM_TESTS_FAKE_DEAD_LETTER_STORE_H
#include "schema/dead_letter_store.h"

#include <stdatomic.h>

typedef struct {
    atomic_int failure; /* cm_status_t of every statement; CM_OK: none fails but for a bad letter */
    atomic_int statements;
} cm_fake_dead_letter_store_t;

extern cm_fake_dead_letter_store_t fake_dead_letter_store;
#endif
