/* dev_servers - a private PostgreSQL and Redis on sockets in one directory, for `dev`.
 *
 * A directory that was there before is used only when dev made it (it holds a mark, which is the
 * lock as well) or when it is empty and ours alone: nothing of others is written to or changes its
 * owner. Nothing outside the directory is written and no port is opened. As root the servers run as
 * user postgres (or nobody), since PostgreSQL refuses root. They die with us.
 */
#ifndef CM_ACTORS_DEV_SERVERS_H
#define CM_ACTORS_DEV_SERVERS_H
#include "runtime/status.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { CM_DEV_URI_MAX = 2100 };

typedef struct {
    char directory[64];    /* short: a socket path has 107 bytes at most */
    int lock_fd;           /* holds the mark in the directory locked */
    bool keep;             /* do not remove the directory at the end */
    const char *user;      /* NULL = ourselves */
    pid_t postgres, redis; /* 0 = not ours */
    char postgres_uri[CM_DEV_URI_MAX], redis_uri[CM_DEV_URI_MAX];
    int64_t postgres_ms, redis_ms; /* how long the starts took */
} cm_dev_servers_t;

/* keep_directory NULL: a temporary one. external URIs (may be NULL) replace a private server.
 * CM_UNAVAILABLE when a program is missing, naming the package, or does not come up, naming its
 * log; CM_MISCONFIGURED with code "usage" for a directory that is not for us; CM_TRANSIENT when
 * another dev uses it. On failure what was started is stopped. */
cm_status_t cm_dev_servers_start(cm_dev_servers_t *self, const char *keep_directory,
                                 const char *external_postgres, const char *external_redis,
                                 cm_error_t *err);
void cm_dev_servers_stop(cm_dev_servers_t *self);
#endif
