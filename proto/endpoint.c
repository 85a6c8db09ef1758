#include "proto/endpoint.h"

#include <stdio.h>

const char *cm_endpoint_work(const char *subworker, unsigned shard, char endpoint[CM_ENDPOINT_MAX])
{
    snprintf(endpoint, CM_ENDPOINT_MAX, "inproc://shard/%s/%u", subworker, shard);
    return endpoint;
}
