#include "proto/endpoint.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <limits.h>

Test(endpoint, a_shard_has_an_address_of_its_own)
{
    char endpoint[CM_ENDPOINT_MAX];
    cr_expect(eq(str, (char *)cm_endpoint_work("writer", 0, endpoint), "inproc://shard/writer/0"));
    cr_expect(eq(str, (char *)cm_endpoint_work("push-token-status", UINT_MAX, endpoint),
                 "inproc://shard/push-token-status/4294967295"));
}
