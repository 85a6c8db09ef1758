/* fake_device_store - a device store that does what the test says, device by device.
 *
 * The test says what becomes of a client id; what is not told is APPLIED. A whole write fails with
 * the error in fake_device_store.away. As with the real store, the errors of items are gone when
 * it is used again: they are overwritten at the next begin.
 */
#ifndef CM_TESTS_FAKE_DEVICE_STORE_H
#define CM_TESTS_FAKE_DEVICE_STORE_H
#include "schema/device_store.h"

#include <stdatomic.h>

enum { CM_FAKE_RULES = 8 };

typedef struct {
    const char *client_id; /* NULL: of every device */
    const char *tenant;    /* NULL: of every tenant */
    const char *model;     /* NULL: whatever the device group says */
    cm_error_t error;
} cm_fake_rule_t;

typedef struct { /* set before the actor starts, or atomically */
    cm_fake_rule_t rules[CM_FAKE_RULES];
    atomic_int away; /* cm_status_t with which a write ends; CM_OK: it does not */
    atomic_int begins, tenants_written, lock_tries, trials;
} cm_fake_device_store_t;

extern cm_fake_device_store_t fake_device_store;
#endif
