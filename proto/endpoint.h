/* endpoint - the inproc addresses of the mesh. */
#ifndef CM_PROTO_ENDPOINT_H
#define CM_PROTO_ENDPOINT_H

enum { CM_ENDPOINT_MAX = 96 };
#define CM_ENDPOINT_OUTCOMES "inproc://gateway/outcomes" /* gateway binds PULL, shards PUSH */
#define CM_ENDPOINT_REPORTS  "inproc://monitor/reports"  /* monitor binds PULL, all PUSH */

/* "inproc://shard/writer/0": the gateway binds PUSH, the shard connects PULL. Returns endpoint. */
const char *cm_endpoint_work(const char *subworker, unsigned shard, char endpoint[CM_ENDPOINT_MAX]);
#endif
