/* child - the program under test, as a child process with its standard output caught. */
#ifndef CM_BENCH_CHILD_H
#define CM_BENCH_CHILD_H
#include "runtime/buffer.h"

#include <sys/types.h>

typedef struct {
    pid_t pid;
    int output; /* read end of its standard output */
} cm_bench_child_t;

void cm_bench_child_start(cm_bench_child_t *self, char *const *command);
/* Ends the program when the child has ended by itself. */
void cm_bench_child_check(const cm_bench_child_t *self);
/* Ask it to stop, read the rest of its output, reap it; ends the program when its exit code is not
 * 0. Returns its peak resident memory in kB. */
long cm_bench_child_stop(cm_bench_child_t *self, cm_buffer_t *output);
#endif
