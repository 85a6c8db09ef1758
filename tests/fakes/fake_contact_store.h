/* fake_contact_store - contact deletions without a database.
 *
 * The result of a contact is its id: 1 APPLIED, 2 DUPLICATE, 3 STALE; 4 fails CM_TRANSIENT, 5
 * CM_PERMANENT, 6 CM_MISSING. */
#ifndef CM_TESTS_FAKE_CONTACT_STORE_H
#define CM_TESTS_FAKE_CONTACT_STORE_H
#include <stdatomic.h>

typedef struct {
    atomic_int calls, tenants, items;
    atomic_int failure;   /* cm_status_t of the whole call */
    atomic_int other_key; /* the erasure key is another one */
} cm_fake_contact_store_t;

extern cm_fake_contact_store_t fake_contact_store;
#endif
