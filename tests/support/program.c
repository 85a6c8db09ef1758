#include "tests/support/program.h"
#include "tests/support/fixture.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WORDS_MAX = 64, FINISH_MS = 120000 };

/* A file without a name: the child writes, we read, and nobody waits for a full pipe. */
static int scratch(void)
{
    int fd = memfd_create("cm-test", MFD_CLOEXEC);
    if (fd < 0)
        cr_fatal("memfd_create: %s", strerror(errno));
    return fd;
}

static char *content(int fd)
{
    struct stat info;
    fstat(fd, &info);
    char *text = calloc(1, (size_t)info.st_size + 1);
    if (!text || pread(fd, text, (size_t)info.st_size, 0) != info.st_size)
        cr_fatal("cannot read what the program wrote");
    return text;
}

static void run_child(const cm_program_t *self, char *const *env, char *const *argv)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(self->in_fd, STDIN_FILENO);
    dup2(self->out_fd, STDOUT_FILENO);
    dup2(self->err_fd, STDERR_FILENO);
    execve(argv[0], argv, env);
    _exit(127);
}

void cm_program_start(cm_program_t *self, const char *input, const char *const *env,
                      const char *const *argv)
{
    cm_program_start_at(self, CM_PROGRAM, input, env, argv);
}

void cm_program_start_at(cm_program_t *self, const char *path, const char *input,
                         const char *const *env, const char *const *argv)
{
    static const char *const kept[] = {"PATH", "ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS"};
    char *environment[WORDS_MAX] = {strdup("CM_CONFIG=")}, *words[WORDS_MAX] = {(char *)path};
    size_t count = 1;
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        if (getenv(kept[i]) && asprintf(&environment[count], "%s=%s", kept[i], getenv(kept[i])) > 0)
            count++;
    for (; env && *env && count < WORDS_MAX - 1; env++)
        environment[count++] = strdup(*env);
    for (size_t i = 1; *argv && i < WORDS_MAX - 1; i++)
        words[i] = (char *)*argv++;
    *self = (cm_program_t){.in_fd = scratch(), .out_fd = scratch(), .err_fd = scratch()};
    if (input && (write(self->in_fd, input, strlen(input)) != (ssize_t)strlen(input) ||
                  lseek(self->in_fd, 0, SEEK_SET) != 0))
        cr_fatal("cannot write the input");
    self->pid = fork();
    if (self->pid == 0)
        run_child(self, environment, words);
    for (size_t i = 0; i < count; i++)
        free(environment[i]);
    if (self->pid < 0)
        cr_fatal("fork: %s", strerror(errno));
}

typedef struct {
    cm_program_t *program;
    const char *text;
} wanted_t;

static bool is_said(void *ctx)
{
    const wanted_t *wanted = ctx;
    char *said = content(wanted->program->err_fd);
    bool found = strstr(said, wanted->text) != NULL;
    free(said);
    return found;
}

bool cm_program_said(cm_program_t *self, const char *text, int deadline_ms)
{
    wanted_t wanted = {self, text};
    return cm_test_wait(is_said, &wanted, deadline_ms);
}

static bool has_ended(void *ctx)
{
    cm_program_t *self = ctx;
    int status = 0;
    if (waitpid(self->pid, &status, WNOHANG) != self->pid)
        return false;
    self->pid = 0;
    self->code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    return true;
}

void cm_program_finish(cm_program_t *self)
{
    bool ended = cm_test_wait(has_ended, self, FINISH_MS);
    self->out = content(self->out_fd);
    self->err = content(self->err_fd);
    if (!ended)
        cr_fatal("the program does not end; it said:\n%s%s", self->out, self->err);
}

void cm_program_run(cm_program_t *self, const char *input, const char *const *env,
                    const char *const *argv)
{
    cm_program_start(self, input, env, argv);
    cm_program_finish(self);
}

void cm_program_destroy(cm_program_t *self)
{
    if (self->pid > 0) {
        kill(self->pid, SIGKILL);
        waitpid(self->pid, NULL, 0);
    }
    close(self->in_fd);
    close(self->out_fd);
    close(self->err_fd);
    free(self->out);
    free(self->err);
    *self = (cm_program_t){0};
}
