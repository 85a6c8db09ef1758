#include "bench/child.h"
#include "bench/setup.h"
#include "runtime/process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

enum { STOP_MS = 60000 };

void cm_bench_child_start(cm_bench_child_t *self, char *const *command)
{
    int ends[2];
    cm_error_t err = {0};
    if (!command[0])
        cm_bench_fail("give the command to run");
    if (pipe2(ends, O_CLOEXEC) != 0)
        cm_bench_fail("no pipe");
    cm_process_args_t args = {.argv = (const char *const *)command, .stdout_fd = ends[1]};
    cm_bench_must(cm_process_start(&args, &self->pid, &err), &err, command[0]);
    close(ends[1]);
    self->output = ends[0];
}

void cm_bench_child_check(const cm_bench_child_t *self)
{
    if (!cm_process_alive(self->pid))
        cm_bench_fail("the program under test ended early");
}

long cm_bench_child_stop(cm_bench_child_t *self, cm_buffer_t *output)
{
    char text[4096];
    ssize_t got;
    struct rusage usage;
    kill(self->pid, SIGTERM); /* one that has ended waits to be reaped and does not mind */
    while ((got = read(self->output, text, sizeof text)) > 0)
        cm_buffer_append(output, text, (size_t)got);
    close(self->output);
    int code = cm_process_stop(self->pid, SIGTERM, STOP_MS);
    if (code != 0)
        cm_bench_fail("the program under test ended with code %d", code);
    getrusage(RUSAGE_CHILDREN, &usage);
    return usage.ru_maxrss;
}
