/* program - run the built client-manager as a user does: arguments, input, environment; what it
 * said on stdout and stderr, and its exit code.
 *
 * It sees PATH, the sanitizers' options and what the test gives, nothing else; CM_CONFIG is empty,
 * so that the configuration of this machine is not read.
 */
#ifndef CM_TESTS_SUPPORT_PROGRAM_H
#define CM_TESTS_SUPPORT_PROGRAM_H
#include <stdbool.h>
#include <sys/types.h>

typedef struct {
    pid_t pid;
    int in_fd, out_fd, err_fd;
    int code;        /* exit code, or 128 + signal; after cm_program_finish() */
    char *out, *err; /* after cm_program_finish() */
} cm_program_t;

/* input: its stdin, NULL for none. env, argv: NULL-terminated, argv without the program's name. */
void cm_program_start(cm_program_t *self, const char *input, const char *const *env,
                      const char *const *argv);
/* The same with another program: client-manager with something of it replaced. */
void cm_program_start_at(cm_program_t *self, const char *path, const char *input,
                         const char *const *env, const char *const *argv);
/* Has it written text to stderr within the deadline? */
bool cm_program_said(cm_program_t *self, const char *text, int deadline_ms);
/* Wait for its end; the test fails after two minutes. */
void cm_program_finish(cm_program_t *self);
/* Start and finish. */
void cm_program_run(cm_program_t *self, const char *input, const char *const *env,
                    const char *const *argv);
void cm_program_destroy(cm_program_t *self); /* kills what still runs */
#endif
