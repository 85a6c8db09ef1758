#include "actors/progress.h"
#include "runtime/clock.h"

#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum {
    TERMINAL_MS = 100,
    PLAIN_MS = 10000,
    WIDTH_UNKNOWN = 80,
    ROOM_FOR_KEYS = 3,
    LINE_MAX_BYTES = 256
};

void cm_progress_start(cm_progress_t *self, const char *what, bool terminal)
{
    *self = (cm_progress_t){.what = what, .terminal = terminal, .started_ms = cm_clock_mono_ms()};
    self->drawn_ms = terminal ? 0 : self->started_ms;
}

const char *cm_progress_bar(char bar[CM_BAR_MAX], uint64_t done, uint64_t total)
{
    bar[0] = '\0';
    if (!total)
        return bar;
    double share = done < total ? (double)done / (double)total : 1;
    int filled = (int)(share * CM_BAR_WIDTH);
    bar[0] = '[';
    for (int i = 0; i < CM_BAR_WIDTH; i++)
        bar[i + 1] = i < filled ? '#' : '-';
    bar[CM_BAR_WIDTH + 1] = ']';
    bar[CM_BAR_WIDTH + 2] = '\0';
    return bar;
}

void cm_progress_draw(const char *line, bool terminal, bool last)
{
    if (!terminal) {
        fprintf(stderr, "%s\n", line);
        return;
    }
    struct winsize size = {0};
    /* Room for the "^C" that the terminal shows, or it would wrap. */
    int width = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
    fprintf(stderr, "\r%.*s\033[K%s", (width > 8 ? width : WIDTH_UNKNOWN) - ROOM_FOR_KEYS, line,
            last ? "\n" : "");
    fflush(stderr);
}

static void draw(cm_progress_t *self, uint64_t done, uint64_t total, const char *more, bool last)
{
    double seconds = (double)(cm_clock_mono_ms() - self->started_ms) / 1000;
    double rate = seconds >= 0.001 ? (double)done / seconds : 0;
    char line[LINE_MAX_BYTES], bar[CM_BAR_MAX], left[32] = "", share[48];
    if (total)
        snprintf(share, sizeof share, "%llu/%llu", (unsigned long long)done,
                 (unsigned long long)total);
    else
        snprintf(share, sizeof share, "%llu", (unsigned long long)done);
    if (rate > 0 && done < total && !last)
        snprintf(left, sizeof left, "  %.0fs left", (double)(total - done) / rate);
    cm_progress_bar(bar, done, total);
    snprintf(line, sizeof line, "%s%s%s %s  %.0f/s%s%s%s", bar, *bar ? " " : "", self->what, share,
             rate, left, *more ? "  " : "", more);
    cm_progress_draw(line, self->terminal, last);
    self->open = self->terminal && !last;
}

void cm_progress_update(cm_progress_t *self, uint64_t done, uint64_t total, const char *more)
{
    int64_t now_ms = cm_clock_mono_ms();
    if (now_ms - self->drawn_ms < (self->terminal ? TERMINAL_MS : PLAIN_MS))
        return;
    self->drawn_ms = now_ms;
    draw(self, done, total, more, false);
}

void cm_progress_say(cm_progress_t *self, const char *format, ...)
{
    va_list args;
    if (self->open)
        fputs("\r\033[K", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    self->open = false;
}

void cm_progress_end(cm_progress_t *self, uint64_t done, uint64_t total, const char *more)
{
    draw(self, done, total, more, true);
}
