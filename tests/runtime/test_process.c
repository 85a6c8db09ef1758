#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "runtime/process.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Run `sh -c script` with its standard output in text. */
static cm_status_t run_script(const char *script, cm_process_args_t args, char *text, size_t size,
                              cm_error_t *err)
{
    const char *argv[] = {"sh", "-c", script, NULL};
    int ends[2];
    cr_assert(eq(int, pipe2(ends, O_CLOEXEC), 0));
    args.argv = argv;
    args.stdout_fd = ends[1];
    cm_status_t status = cm_process_run(&args, 10000, err);
    close(ends[1]);
    ssize_t count = read(ends[0], text, size - 1);
    text[count > 0 ? count : 0] = '\0';
    close(ends[0]);
    return status;
}

static pid_t start_script(const char *script, int stdout_fd)
{
    const char *argv[] = {"sh", "-c", script, NULL};
    cm_process_args_t args = {.argv = argv, .stdout_fd = stdout_fd};
    pid_t pid = -1;
    cm_error_t err = {0};
    cm_process_start(&args, &pid, &err);
    cr_assert(gt(int, pid, 0), "%s", err.message);
    return pid;
}

/* A child that has written "ready" on its way, so that its traps are set. */
static pid_t start_ready(const char *script)
{
    int ends[2];
    char text[8] = "";
    cr_assert(eq(int, pipe2(ends, O_CLOEXEC), 0));
    pid_t pid = start_script(script, ends[1]);
    close(ends[1]);
    cr_assert(gt(long, read(ends[0], text, sizeof text - 1), 0));
    close(ends[0]);
    return pid;
}

static const cm_process_args_t plain = {.stdout_fd = -1};

Test(process, runs_a_program_found_in_path, .timeout = 20)
{
    char text[64];
    cm_error_t err = {0};
    cr_assert(eq(int, run_script("echo hello", plain, text, sizeof text, &err), CM_OK));
    cr_expect(eq(str, text, "hello\n"));
}

Test(process, a_missing_program_is_misconfigured_with_its_errno, .timeout = 20)
{
    const char *argv[] = {"/nowhere/cm-no-such-program", NULL};
    cm_process_args_t args = {.argv = argv, .stdout_fd = -1};
    cm_error_t err = {0};
    pid_t pid = -1;
    cr_assert(eq(int, cm_process_start(&args, &pid, &err), CM_MISCONFIGURED));
    cr_expect(eq(str, err.code, "ENOENT"));
    cr_expect(ne(ptr, strstr(err.message, "cm-no-such-program"), NULL));
    cr_expect(eq(int, pid, -1));
    cr_expect(eq(int, waitpid(-1, NULL, WNOHANG), -1)); /* nothing left to reap */
}

Test(process, a_program_without_the_right_to_run_is_misconfigured, .timeout = 20)
{
    const char *argv[] = {"/etc/passwd", NULL};
    cm_process_args_t args = {.argv = argv, .stdout_fd = -1};
    cm_error_t err = {0};
    pid_t pid = -1;
    cr_assert(eq(int, cm_process_start(&args, &pid, &err), CM_MISCONFIGURED));
    cr_expect(eq(str, err.code, "EACCES"));
}

Test(process, a_missing_directory_is_misconfigured, .timeout = 20)
{
    char text[8];
    cm_error_t err = {0};
    cm_process_args_t args = {.directory = "/nowhere/at/all"};
    cr_assert(eq(int, run_script("true", args, text, sizeof text, &err), CM_MISCONFIGURED));
    cr_expect(eq(str, err.code, "ENOENT"));
}

Test(process, an_output_file_that_cannot_be_opened_is_misconfigured, .timeout = 20)
{
    char text[8];
    cm_error_t err = {0};
    cm_process_args_t args = {.output_path = "/nowhere/at/all"};
    cr_assert(eq(int, run_script("true", args, text, sizeof text, &err), CM_MISCONFIGURED));
    cr_expect(eq(str, err.code, "ENOENT"));
}

Test(process, an_unknown_user_is_misconfigured, .timeout = 20)
{
    if (geteuid() != 0)
        return; /* the user counts for root alone */
    char text[8];
    cm_error_t err = {0};
    cm_process_args_t args = {.user = "cm-no-such-user"};
    cr_assert(eq(int, run_script("true", args, text, sizeof text, &err), CM_MISCONFIGURED));
    cr_expect(eq(str, err.code, "no-user"));
}

Test(process, root_drops_to_the_user_with_its_groups, .timeout = 20)
{
    if (geteuid() != 0)
        return;
    char text[64];
    cm_process_args_t args = {.user = "nobody"};
    cr_assert(eq(int, run_script("id -un; id -G", args, text, sizeof text, NULL), CM_OK));
    cr_expect(eq(str, text, "nobody\n65534\n"));
}

Test(process, env_is_added_and_replaces_its_namesake, .timeout = 20)
{
    char text[64];
    setenv("CM_TEST_A", "ours", 1);
    setenv("CM_TEST_AB", "kept", 1);
    const char *env[] = {"CM_TEST_A=new", "CM_TEST_B=more", NULL};
    cm_process_args_t args = {.env = env};
    cr_assert(
        eq(int, run_script("echo $CM_TEST_A $CM_TEST_AB $CM_TEST_B", args, text, sizeof text, NULL),
           CM_OK));
    cr_expect(eq(str, text, "new kept more\n"));
}

Test(process, directory_is_entered, .timeout = 20)
{
    char text[64];
    cm_process_args_t args = {.directory = "/usr"};
    cr_assert(eq(int, run_script("pwd", args, text, sizeof text, NULL), CM_OK));
    cr_expect(eq(str, text, "/usr\n"));
}

Test(process, both_outputs_are_appended_to_the_file, .timeout = 20)
{
    char path[] = "/tmp/cm-process-XXXXXX", text[64] = "";
    int fd = mkstemp(path);
    const char *argv[] = {"sh", "-c", "echo out; echo err >&2", NULL};
    cm_process_args_t args = {.argv = argv, .output_path = path, .stdout_fd = -1};
    cr_assert(eq(int, cm_process_run(&args, 10000, NULL), CM_OK));
    cr_assert(eq(int, cm_process_run(&args, 10000, NULL), CM_OK));
    cr_assert(gt(long, read(fd, text, sizeof text - 1), 0));
    cr_expect(eq(str, text, "out\nerr\nout\nerr\n"));
    close(fd);
    unlink(path);
}

Test(process, stdout_can_go_elsewhere_than_stderr, .timeout = 20)
{
    char path[] = "/tmp/cm-process-XXXXXX", text[64] = "", errors[64] = "";
    int fd = mkstemp(path);
    cm_process_args_t args = {.output_path = path};
    cr_assert(eq(int, run_script("echo out; echo err >&2", args, text, sizeof text, NULL), CM_OK));
    cr_assert(gt(long, read(fd, errors, sizeof errors - 1), 0));
    cr_expect(eq(str, text, "out\n"));
    cr_expect(eq(str, errors, "err\n"));
    close(fd);
    unlink(path);
}

Test(process, the_child_inherits_no_descriptor_and_no_terminal_input, .timeout = 20)
{
    char text[256];
    int leak = open("/etc/passwd", O_RDONLY); /* no O_CLOEXEC, as a library might */
    cr_assert(eq(
        int, run_script("readlink /proc/$$/fd/0; ls /proc/$$/fd", plain, text, sizeof text, NULL),
        CM_OK));
    cr_expect(eq(str, text, "/dev/null\n0\n1\n2\n"));
    close(leak);
}

Test(process, the_child_has_no_signal_blocked_or_ignored, .timeout = 20)
{
    char text[256];
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    signal(SIGPIPE, SIG_IGN);
    cr_assert(eq(int,
                 run_script("exec grep -E 'SigBlk|SigIgn' /proc/self/status", plain, text,
                            sizeof text, NULL),
                 CM_OK));
    cr_expect(eq(str, text, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"));
}

Test(process, the_child_leads_a_process_group_of_its_own, .timeout = 20)
{
    pid_t pid = start_script("exec sleep 60", -1);
    cr_expect(eq(int, getpgid(pid), pid));
    cm_process_stop(pid, SIGKILL, 0);
}

Test(process, run_tells_the_exit_code, .timeout = 20)
{
    char text[8];
    cm_error_t err = {0};
    cr_assert(eq(int, run_script("exit 3", plain, text, sizeof text, &err), CM_UNAVAILABLE));
    cr_expect(eq(str, err.code, "exit-3"));
}

Test(process, run_kills_what_takes_too_long, .timeout = 20)
{
    const char *argv[] = {"sleep", "60", NULL};
    cm_process_args_t args = {.argv = argv, .stdout_fd = -1};
    cm_error_t err = {0};
    cr_assert(eq(int, cm_process_run(&args, 50, &err), CM_UNAVAILABLE));
    cr_expect(eq(str, err.code, "timeout"));
    cr_expect(eq(int, waitpid(-1, NULL, WNOHANG), -1));
}

Test(process, alive_until_it_ends_and_its_code_is_kept_for_wait, .timeout = 20)
{
    pid_t pid = start_ready("trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done");
    cr_expect(cm_process_alive(pid));
    cr_expect(not(cm_process_wait(pid, 0, NULL)));
    kill(pid, SIGTERM);
    while (cm_process_alive(pid))
        usleep(1000);
    int code = -1;
    cr_expect(cm_process_wait(pid, 0, &code));
    cr_expect(eq(int, code, 7));
    cr_expect(not(cm_process_alive(pid)));
}

Test(process, stop_gives_the_exit_code, .timeout = 20)
{
    pid_t pid = start_ready("trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done");
    cr_expect(eq(int, cm_process_stop(pid, SIGTERM, 10000), 7));
}

Test(process, stop_tells_a_death_by_signal, .timeout = 20)
{
    pid_t pid = start_script("exec sleep 60", -1);
    cr_expect(eq(int, cm_process_stop(pid, SIGTERM, 10000), 128 + SIGTERM));
}

Test(process, stop_kills_what_does_not_listen_with_its_group, .timeout = 20)
{
    int ends[2];
    char text[64] = "";
    cr_assert(eq(int, pipe2(ends, O_CLOEXEC), 0));
    pid_t pid = start_script("trap '' TERM; sleep 60 & echo $!; wait", ends[1]);
    close(ends[1]);
    cr_assert(gt(long, read(ends[0], text, sizeof text - 1), 0));
    cr_expect(eq(int, cm_process_stop(pid, SIGTERM, 50), 128 + SIGKILL));
    /* The grandchild held the pipe as well: its end is the end of the file. */
    cr_expect(eq(long, read(ends[0], text, sizeof text), 0));
    close(ends[0]);
}

Test(process, stop_leaves_alone_what_is_no_child_of_ours, .timeout = 20)
{
    cr_expect(eq(int, cm_process_stop(getppid(), SIGKILL, 0), -1));
    cr_expect(cm_process_alive(getppid()));
}

static void *start_and_leave(void *ret_pid)
{
    *(pid_t *)ret_pid = start_script("exec sleep 60", -1);
    return NULL;
}

Test(process, the_child_dies_with_the_thread_that_started_it, .timeout = 20)
{
    pid_t pid = -1;
    int code = -1;
    pthread_t thread;
    cr_assert(eq(int, pthread_create(&thread, NULL, start_and_leave, &pid), 0));
    pthread_join(thread, NULL);
    cr_expect(cm_process_wait(pid, 10000, &code));
    cr_expect(eq(int, code, 128 + SIGKILL));
}

Test(process, a_child_of_another_user_dies_with_the_thread_too, .timeout = 20)
{
    if (geteuid() != 0)
        return;
    /* A process in between: it starts a child as nobody, tells its pid and dies. */
    int ends[2];
    pid_t pid = -1;
    cr_assert(eq(int, pipe2(ends, O_CLOEXEC), 0));
    pid_t between = fork();
    if (between == 0) {
        const char *argv[] = {"sleep", "60", NULL};
        cm_process_args_t args = {.argv = argv, .user = "nobody", .stdout_fd = ends[1]};
        cm_process_start(&args, &pid, NULL);
        ssize_t written = write(ends[1], &pid, sizeof pid);
        _exit(written == (ssize_t)sizeof pid ? 0 : 1);
    }
    close(ends[1]);
    cr_assert(eq(long, read(ends[0], &pid, sizeof pid), (long)sizeof pid));
    cr_assert(gt(int, pid, 0));
    cr_expect(eq(long, read(ends[0], &pid, sizeof pid), 0)); /* nobody holds the pipe any more */
    cr_expect(eq(int, waitpid(between, NULL, 0), between));
    close(ends[0]);
}
