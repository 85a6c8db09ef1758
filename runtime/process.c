#include "runtime/process.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

enum { EXIT_NOT_STARTED = 127, NAP_MS = 5 };

/* All that the child needs, made ready by the parent: between fork and exec of a program with
 * threads only async-signal-safe calls are allowed. */
typedef struct {
    const cm_process_args_t *args;
    char **env; /* the array is owned, its texts are not */
    bool drops;
    uid_t uid;
    gid_t gid;
    gid_t *groups;
    int group_count;
    int input, output; /* /dev/null; -1 = inherit */
    int status[2];     /* the child writes a fault_t; both ends close on exec */
    pid_t parent;
} launch_t;

typedef struct {
    const char *step; /* constant text, so the pointer means the same on both sides of a fork */
    int error;
} fault_t;

/* ---- before the fork ------------------------------------------------------------------------ */

static void *must(void *memory)
{
    if (!memory)
        abort();
    return memory;
}

static bool same_name(const char *a, const char *b)
{
    size_t len = strcspn(a, "=");
    return len == strcspn(b, "=") && strncmp(a, b, len) == 0;
}

/* Our environment with each of `more` added, or put in the place of its namesake. */
static char **make_env(const char *const *more)
{
    size_t ours = 0, added = 0;
    while (environ[ours])
        ours++;
    while (more && more[added])
        added++;
    char **env = must(calloc(ours + added + 1, sizeof *env));
    memcpy(env, environ, ours * sizeof *env);
    for (size_t i = 0; i < added; i++) {
        size_t at = 0;
        while (at < ours && !same_name(env[at], more[i]))
            at++;
        env[at] = (char *)(uintptr_t)more[i]; /* execvpe() does not write to it */
        ours += at == ours;
    }
    return env;
}

static cm_status_t find_user(launch_t *self, cm_error_t *err)
{
    const char *name = self->args->user;
    if (!name || geteuid() != 0)
        return CM_OK;
    struct passwd entry, *found = NULL;
    CM_CLEANUP(cm_free) char *text = must(malloc(16384));
    int error = getpwnam_r(name, &entry, text, 16384, &found);
    if (!found)
        return cm_error_set(err, CM_MISCONFIGURED, "no-user", "cannot find the user %s: %s", name,
                            error ? strerror(error) : "no such user");
    self->drops = true;
    self->uid = entry.pw_uid;
    self->gid = entry.pw_gid;
    getgrouplist(name, entry.pw_gid, NULL, &self->group_count);
    self->groups = must(calloc((size_t)self->group_count, sizeof *self->groups));
    if (getgrouplist(name, entry.pw_gid, self->groups, &self->group_count) == -1)
        self->group_count = 1; /* it grew meanwhile; the first one is the user's own */
    return CM_OK;
}

static cm_status_t fail(cm_error_t *err, cm_status_t status, const char *what, const char *name,
                        int error)
{
    return cm_error_set(err, status, strerrorname_np(error), "cannot %s %s: %s", what, name,
                        strerror(error));
}

static cm_status_t open_all(launch_t *self, cm_error_t *err)
{
    const char *path = self->args->output_path;
    self->env = make_env(self->args->env);
    if (pipe2(self->status, O_CLOEXEC) == -1)
        return fail(err, CM_UNAVAILABLE, "open a pipe to", self->args->argv[0], errno);
    self->input = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (self->input == -1)
        return fail(err, CM_UNAVAILABLE, "open", "/dev/null", errno);
    if (path)
        self->output = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (path && self->output == -1)
        return fail(err, CM_MISCONFIGURED, "open", path, errno);
    return find_user(self, err);
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void close_all(launch_t *self)
{
    close_fd(&self->status[0]);
    close_fd(&self->status[1]);
    close_fd(&self->input);
    close_fd(&self->output);
    free(self->groups);
    free(self->env);
}

/* ---- the child ------------------------------------------------------------------------------ */

static void reset_signals(void)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    for (int number = 1; number < NSIG; number++)
        sigaction(number, &action, NULL); /* refused for a few; they have no handler */
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static bool redirect(const launch_t *self)
{
    int out = self->args->stdout_fd >= 0 ? self->args->stdout_fd : self->output;
    /* Lifted out of 0..2 first, else one dup2() may overwrite what the next one copies. */
    int lifted_out = out >= 0 ? fcntl(out, F_DUPFD_CLOEXEC, 3) : -1;
    int lifted_err = self->output >= 0 ? fcntl(self->output, F_DUPFD_CLOEXEC, 3) : -1;
    if ((out >= 0 && lifted_out == -1) || (self->output >= 0 && lifted_err == -1))
        return false;
    return dup2(self->input, 0) != -1 && (lifted_out == -1 || dup2(lifted_out, 1) != -1) &&
           (lifted_err == -1 || dup2(lifted_err, 2) != -1);
}

static const char *prepare_child(const launch_t *self)
{
    setpgid(0, 0);
    reset_signals();
    if (!redirect(self))
        return "redirect the output of";
    if (self->drops && (setgroups((size_t)self->group_count, self->groups) == -1 ||
                        setgid(self->gid) == -1 || setuid(self->uid) == -1))
        return "drop privileges for";
    /* After the change of user, which takes the setting back. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) == -1)
        return "bind the life of";
    if (getppid() != self->parent)
        _exit(EXIT_NOT_STARTED); /* it died before it could take us along */
    if (self->args->directory && chdir(self->args->directory) == -1)
        return "enter the directory of";
    if (close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) == -1 && errno != ENOSYS && errno != EPERM)
        return "close the descriptors of";
    execvpe(self->args->argv[0], (char *const *)(uintptr_t)self->args->argv, self->env);
    return "run";
}

_Noreturn static void run_child(const launch_t *self)
{
    fault_t fault = {prepare_child(self), errno};
    ssize_t written = write(self->status[1], &fault, sizeof fault);
    (void)written; /* without a reader there is nobody left to tell */
    _exit(EXIT_NOT_STARTED);
}

/* ---- the parent ----------------------------------------------------------------------------- */

static bool read_fault(int fd, fault_t *ret_fault)
{
    ssize_t count;
    do
        count = read(fd, ret_fault, sizeof *ret_fault);
    while (count == -1 && errno == EINTR);
    return count == (ssize_t)sizeof *ret_fault; /* the end of the file says that exec has worked */
}

cm_status_t cm_process_start(const cm_process_args_t *args, pid_t *ret_pid, cm_error_t *err)
{
    launch_t self = {.args = args, .input = -1, .output = -1, .status = {-1, -1}};
    self.parent = getpid();
    cm_status_t status = open_all(&self, err);
    pid_t pid = status == CM_OK ? fork() : -1;
    if (pid == 0)
        run_child(&self);
    if (status == CM_OK && pid == -1)
        status = fail(err, CM_UNAVAILABLE, "fork for", args->argv[0], errno);
    fault_t fault;
    close_fd(&self.status[1]);
    if (pid > 0 && read_fault(self.status[0], &fault)) {
        cm_process_wait(pid, INT32_MAX, NULL);
        status = fail(err, CM_MISCONFIGURED, fault.step, args->argv[0], fault.error);
    }
    close_all(&self);
    if (status == CM_OK)
        *ret_pid = pid;
    return status;
}

/* 1 ended and reaped, 0 still there, -1 no child of ours. */
static int reap(pid_t pid, int *ret_code)
{
    int state = 0;
    pid_t ended;
    do
        ended = waitpid(pid, &state, WNOHANG);
    while (ended == -1 && errno == EINTR);
    if (ended > 0 && ret_code)
        *ret_code = WIFSIGNALED(state) ? 128 + WTERMSIG(state) : WEXITSTATUS(state);
    return ended > 0 ? 1 : ended;
}

/* As reap(), with a deadline. A process descriptor would need no naps, but a sandbox may refuse it.
 */
static int await_end(pid_t pid, int timeout_ms, int *ret_code)
{
    int64_t deadline_ms = cm_clock_mono_ms() + timeout_ms;
    const struct timespec nap = {0, NAP_MS * 1000000L};
    int ended;
    while ((ended = reap(pid, ret_code)) == 0 && cm_clock_mono_ms() < deadline_ms)
        nanosleep(&nap, NULL);
    return ended;
}

bool cm_process_wait(pid_t pid, int timeout_ms, int *ret_code)
{
    return await_end(pid, timeout_ms, ret_code) == 1;
}

bool cm_process_alive(pid_t pid)
{
    siginfo_t info = {0};
    if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0)
        return info.si_pid == 0;
    return kill(pid, 0) == 0 || errno == EPERM; /* no child of ours */
}

int cm_process_stop(pid_t pid, int signal, int timeout_ms)
{
    int code = -1;
    int ended = reap(pid, &code); /* a pid that is no child of ours must not be signalled */
    if (ended != 0)
        return code;
    kill(pid, signal);
    if (await_end(pid, timeout_ms, &code) == 0) {
        kill(-pid, SIGKILL);
        await_end(pid, INT32_MAX, &code);
    }
    return code;
}

cm_status_t cm_process_run(const cm_process_args_t *args, int timeout_ms, cm_error_t *err)
{
    pid_t pid = -1;
    cm_status_t status = cm_process_start(args, &pid, err);
    if (status != CM_OK)
        return status;
    int code = -1;
    if (!cm_process_wait(pid, timeout_ms, &code)) {
        cm_process_stop(pid, SIGKILL, 0);
        return cm_error_set(err, CM_UNAVAILABLE, "timeout", "%s has not ended within %d ms",
                            args->argv[0], timeout_ms);
    }
    if (code == 0)
        return CM_OK;
    char word[CM_ERROR_CODE_MAX];
    snprintf(word, sizeof word, "exit-%d", code);
    return cm_error_set(err, CM_UNAVAILABLE, word, "%s ended with exit code %d", args->argv[0],
                        code);
}
