/* progress - how far a long operation is, on stderr: one line redrawn on a terminal, else a plain
 * line every ten seconds and one at the end.
 */
#ifndef CM_ACTORS_PROGRESS_H
#define CM_ACTORS_PROGRESS_H
#include <stdbool.h>
#include <stdint.h>

typedef struct {
    const char *what; /* "tenants" */
    bool terminal;
    bool open;                    /* a line stands on the terminal without its end */
    int64_t started_ms, drawn_ms; /* monotonic */
} cm_progress_t;

void cm_progress_start(cm_progress_t *self, const char *what, bool terminal);
/* done of total (0 = unknown); more: further words ("3 failed"), may be "". Draws at most 10 a
 * second. Shows share, rate per second and time left. */
void cm_progress_update(cm_progress_t *self, uint64_t done, uint64_t total, const char *more);
/* A line of its own in between: a failure, without its "\n". */
void cm_progress_say(cm_progress_t *self, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void cm_progress_end(cm_progress_t *self, uint64_t done, uint64_t total, const char *more);

enum { CM_BAR_WIDTH = 24, CM_BAR_MAX = CM_BAR_WIDTH + 3 };
/* "[####----]", or "" when total is 0. Returns bar. */
const char *cm_progress_bar(char bar[CM_BAR_MAX], uint64_t done, uint64_t total);
/* Draw line over the one before on a terminal, cut to its width so that it never wraps; elsewhere
 * it is a line of its own. last: it stays. */
void cm_progress_draw(const char *line, bool terminal, bool last);
#endif
