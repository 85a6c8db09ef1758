/* fake_tenant_deletion - steps of deletions as the test wrote them down. */
#ifndef CM_TESTS_FAKE_TENANT_DELETION_H
#define CM_TESTS_FAKE_TENANT_DELETION_H
#include "schema/tenant_deletion.h"

#include <stdatomic.h>

enum { CM_FAKE_STEPS_MAX = 16 };

typedef struct {
    cm_status_t status; /* CM_OK: the step is done */
    cm_deletion_step_t step;
} cm_fake_step_t;

typedef struct {                             /* filled before the actor starts */
    cm_fake_step_t request;                  /* of every request */
    cm_fake_step_t steps[CM_FAKE_STEPS_MAX]; /* of advance, one after the other; then NONE */
    const char *unfinished; /* the only tenant that the sweeper finds; NULL: none */
    atomic_int requests, advances, censuses;
    char tenant[CM_TENANT_ID_MAX], requested_by[64], reason[64]; /* of the last request */
    int64_t event_ms;
} cm_fake_tenant_deletion_t;

extern cm_fake_tenant_deletion_t fake_tenant_deletion;
#endif
