/* fake_tenant_registry - every tenant is active, unless the test says otherwise. */
#ifndef CM_TESTS_FAKE_TENANT_REGISTRY_H
#define CM_TESTS_FAKE_TENANT_REGISTRY_H
#include "schema/tenant_registry.h"

#include <stdatomic.h>

typedef struct {
    atomic_int failure; /* cm_status_t with which the query ends */
    atomic_int state;   /* of every tenant whose id begins with "x" */
    atomic_int queries, asked;
} cm_fake_tenant_registry_t;

extern cm_fake_tenant_registry_t fake_tenant_registry;
#endif
