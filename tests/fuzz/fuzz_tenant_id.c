/* The bytes once as an id and once as a body: what comes out is canonical, and stays so. */
#include "proto/tenant_id.h"

#include <stdlib.h>
#include <string.h>

static void check(bool holds)
{
    if (!holds)
        abort();
}

static void check_canonical(const char *id)
{
    char again[CM_TENANT_ID_MAX], schema[CM_TENANT_SCHEMA_MAX];
    check(id[0] && strlen(id) < CM_TENANT_ID_MAX);
    check(cm_tenant_id_canonical(cm_str(id), again, NULL) == CM_OK && strcmp(id, again) == 0);
    check(strlen(cm_tenant_id_schema(id, schema)) == strlen("tenant_") + strlen(id));
    check(cm_tenant_id_shard(cm_str(id), 7) < 7);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size); /* called by libFuzzer */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cm_str_t text = {(const char *)data, size};
    char id[CM_TENANT_ID_MAX];
    cm_error_t err = {0};
    if (cm_tenant_id_canonical(text, id, &err) == CM_OK)
        check_canonical(id);
    else
        check(err.status == CM_PERMANENT && strcmp(err.code, "invalid-tenant") == 0);
    if (cm_tenant_id_peek(text, id))
        check_canonical(id);
    return 0;
}
