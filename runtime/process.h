/* process - start and stop child processes that die with us (private servers, the service in dev).
 */
#ifndef CM_RUNTIME_PROCESS_H
#define CM_RUNTIME_PROCESS_H
#include "runtime/status.h"

#include <stdbool.h>
#include <sys/types.h>

typedef struct {
    const char *const *argv; /* NULL-terminated; argv[0] is a path or looked up in PATH */
    const char *const *env;  /* NULL-terminated "K=V" added to our environment; may be NULL */
    const char *user;        /* drop to this user when we are root; NULL = stay */
    const char *directory;   /* working directory; NULL = stay */
    const char *output_path; /* stdout and stderr appended to this file; NULL = inherit */
    int stdout_fd;           /* stdout goes here instead when >= 0; use -1 for none */
} cm_process_args_t;

/* Fork and exec; the child gets SIGKILL when the thread that called this dies (PR_SET_PDEATHSIG),
 * so call it from one that lives as long as the child should. The child leads a process group of
 * its own, has no signal blocked, standard input from /dev/null and none of our other descriptors.
 * What fails up to and in the exec is reported here, with the errno's name as code:
 * CM_MISCONFIGURED
 * ("ENOENT" when the program is missing; "no-user"), CM_UNAVAILABLE when fork lacks resources. */
cm_status_t cm_process_start(const cm_process_args_t *args, pid_t *ret_pid, cm_error_t *err);
/* Start and wait; CM_UNAVAILABLE with code "exit-<n>" when the exit code n is not 0, and with code
 * "timeout" when it had to be killed. */
cm_status_t cm_process_run(const cm_process_args_t *args, int timeout_ms, cm_error_t *err);
/* False once it has ended, reaped or not. */
bool cm_process_alive(pid_t pid);
/* Send signal, wait up to timeout_ms, then SIGKILL to its process group, and reap. Exit code, or
 * 128 + signal; -1 when pid is no child of ours. */
int cm_process_stop(pid_t pid, int signal, int timeout_ms);
/* Wait up to timeout_ms; true when it has ended and is reaped, with its exit code as above. */
bool cm_process_wait(pid_t pid, int timeout_ms, int *ret_code);
#endif
