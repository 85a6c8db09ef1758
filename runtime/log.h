/* log - one line per event on stderr: JSON, or short and coloured on a terminal.
 *
 * The one process-wide state of the program: level and format, set once by main before any thread
 * starts. A line is written with one write(2), so lines of two threads never mix. Values must not
 * hold push tokens, contact ids or payloads (DESIGN section 10).
 */
#ifndef CM_RUNTIME_LOG_H
#define CM_RUNTIME_LOG_H
#include <stdbool.h>

typedef enum { CM_LOG_DEBUG, CM_LOG_INFO, CM_LOG_WARN, CM_LOG_ERROR } cm_log_level_t;
typedef enum { CM_LOG_AUTO, CM_LOG_JSON, CM_LOG_TEXT } cm_log_format_t;

/* AUTO: text with colours when stderr is a terminal (no colours with no_color), else JSON. */
void cm_log_setup(cm_log_level_t level, cm_log_format_t format, bool no_color);
bool cm_log_enabled(cm_log_level_t level);

/* component: the actor or module, becomes the field "component". message: what happened, constant
 * words. fields: printf format yielding `key=value key="value with spaces" ...`; each becomes a
 * JSON field of its own (a bare integer stays a number: quote what is a name or a code). Quotes
 * inside a quoted value may stay as they are. Control bytes are escaped. cm_log(CM_LOG_WARN,
 * "writer", "batch failed", "tenant=%s code=%s cause=\"%s\"", ...); fields may be NULL. A line is
 * cut at 2 KiB, and then ends in the field "cut". */
void cm_log(cm_log_level_t level, const char *component, const char *message, const char *fields,
            ...) __attribute__((format(printf, 4, 5)));

/* At most one line per interval for one call site: returns true when it may log now, and then the
 * number of lines withheld since the last one. State is the caller's, zero-initialised. */
typedef struct {
    long long last_ms;
    unsigned withheld;
} cm_log_limit_t;
bool cm_log_allowed(cm_log_limit_t *limit, int interval_ms, unsigned *ret_withheld);
#endif
