#include "runtime/log.h"

#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "runtime/str.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 2048 };
static const char cut_json[] = ",\"cut\":true}\n"; /* the longest end of a line */
enum { ROOM_FOR_END = 1 + sizeof cut_json };       /* and the quote of a cut value */

/* The one process-wide state of the program; see the header. */
static struct {
    cm_log_level_t level;
    bool json, colours;
} setup = {CM_LOG_INFO, true, false};

typedef struct {
    char text[LINE_MAX_BYTES];
    size_t len;
    bool cut; /* something did not fit; nothing more is added */
} line_t;

void cm_log_setup(cm_log_level_t level, cm_log_format_t format, bool no_color)
{
    bool terminal = isatty(STDERR_FILENO);
    setup.level = level;
    setup.json = format == CM_LOG_JSON || (format == CM_LOG_AUTO && !terminal);
    setup.colours = !setup.json && terminal && !no_color;
}

bool cm_log_enabled(cm_log_level_t level)
{
    return level >= setup.level;
}

/* All of bytes, or nothing and the line is cut. */
static void put(line_t *line, const char *bytes, size_t len)
{
    if (line->cut || len > sizeof line->text - ROOM_FOR_END - line->len) {
        line->cut = true;
        return;
    }
    memcpy(line->text + line->len, bytes, len);
    line->len += len;
}

static void put_text(line_t *line, const char *text)
{
    put(line, text, strlen(text));
}

/* ---- bytes to characters -------------------------------------------------------------------- */

/* Add text without anything a terminal obeys or JSON refuses. json also escapes quotes. */
static void put_escaped(line_t *line, cm_str_t text, bool json)
{
    const unsigned char *bytes = (const unsigned char *)text.ptr;
    for (size_t i = 0; i < text.len && !line->cut;) {
        char escape[8];
        size_t step = cm_utf8_length(text.ptr + i, text.len - i);
        unsigned control = bytes[i] < 0x20 || bytes[i] == 0x7f                    ? bytes[i]
                           : step == 2 && bytes[i] == 0xc2 && bytes[i + 1] < 0xa0 ? bytes[i + 1]
                                                                                  : 0;
        if (step == 0)
            put_text(line, json ? "\\ufffd" : "\xef\xbf\xbd");
        else if (control) {
            snprintf(escape, sizeof escape, "\\u%04x", control);
            put_text(line, bytes[i] == '\n' ? "\\n" : escape);
        } else if (json && (bytes[i] == '"' || bytes[i] == '\\')) {
            char pair[2] = {'\\', text.ptr[i]};
            put(line, pair, sizeof pair);
        } else
            put(line, text.ptr + i, step);
        i += step ? step : 1;
    }
}

/* ---- fields --------------------------------------------------------------------------------- */

typedef struct {
    cm_str_t key, value; /* value absent: the key stood alone */
    bool quoted;
} field_t;

static bool key_byte(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '.' || c == '-';
}

/* Does `key=` begin at text, or does the text end there? */
static bool field_or_end(const char *text)
{
    text += strspn(text, " ");
    size_t key = 0;
    while (key_byte(text[key]))
        key++;
    return *text == '\0' || (key > 0 && text[key] == '=');
}

/* Values are not escaped on their way through printf, so the closing quote is the one that the end
 * or another field follows: messages of PostgreSQL hold quotes of their own. */
static const char *closing_quote(const char *text)
{
    const char *quote = strchr(text, '"');
    while (quote && !(quote[1] == '\0' || (quote[1] == ' ' && field_or_end(quote + 1))))
        quote = strchr(quote + 1, '"');
    return quote;
}

static bool next_field(const char **at, field_t *ret_field)
{
    const char *text = *at + strspn(*at, " ");
    if (*text == '\0')
        return false;
    *ret_field = (field_t){.key = {text, strcspn(text, " =")}};
    text += ret_field->key.len;
    if (*text == '=' && text[1] == '"') {
        const char *value = text + 2, *end = closing_quote(value);
        ret_field->quoted = true;
        ret_field->value = (cm_str_t){value, end ? (size_t)(end - value) : strlen(value)};
        text = end ? end + 1 : value + ret_field->value.len;
    } else if (*text == '=') {
        ret_field->value = (cm_str_t){text + 1, strcspn(text + 1, " ")};
        text += 1 + ret_field->value.len;
    }
    *at = text;
    return true;
}

/* An integer JSON takes as it is, and 64 bits hold. */
static bool bare_integer(cm_str_t text)
{
    int64_t value;
    size_t sign = text.len > 0 && text.ptr[0] == '-' ? 1 : 0;
    bool leading_zero = text.len > sign + 1 && text.ptr[sign] == '0';
    return !leading_zero && cm_str_to_i64(text, &value);
}

static void put_json_field(line_t *line, const field_t *field)
{
    size_t before = line->len;
    put_text(line, ",\"");
    put_escaped(line, field->key, true);
    put_text(line, "\":");
    if (!field->value.ptr)
        put_text(line, "true");
    else if (!field->quoted && bare_integer(field->value))
        put(line, field->value.ptr, field->value.len);
    else
        put_text(line, "\"");
    if (line->cut) {
        line->len = before; /* no key without its value */
        return;
    }
    if (line->text[line->len - 1] != '"')
        return;
    put_escaped(line, field->value, true);
    if (!line->cut)
        put_text(line, "\"");
    else
        line->text[line->len++] = '"'; /* within the room kept free */
}

/* ---- lines ---------------------------------------------------------------------------------- */

static void build_json(line_t *line, const char *time, const char *level, const char *component,
                       const char *message, const char *fields)
{
    put_text(line, "{\"ts\":\"");
    put_text(line, time);
    put_text(line, "\",\"severity\":\"");
    put_text(line, level);
    put_text(line, "\"");
    put_json_field(line, &(field_t){CM_STR("component"), cm_str(component), true});
    put_json_field(line, &(field_t){CM_STR("msg"), cm_str(message), true});
    field_t field;
    while (!line->cut && next_field(&fields, &field))
        put_json_field(line, &field);
    const char *end = line->cut ? cut_json : "}\n";
    memcpy(line->text + line->len, end, strlen(end));
    line->len += strlen(end);
}

static void build_text(line_t *line, cm_log_level_t level, const char *time, const char *name,
                       const char *component, const char *message, const char *fields)
{
    static const char *const colours[] = {"\033[2m", "\033[32m", "\033[33m", "\033[31m"};
    put(line, time + strlen("2026-11-20T"), strlen("16:00:00.123"));
    put_text(line, " ");
    put_text(line, setup.colours ? colours[level] : "");
    put_text(line, name);
    put_text(line, setup.colours ? "\033[0m" : "");
    put(line, "     ", 6 - strlen(name));
    put_escaped(line, cm_str(component), false);
    put_text(line, "  ");
    put_escaped(line, cm_str(message), false);
    put_text(line, *fields ? "  " : "");
    put_escaped(line, cm_str(fields), false);
    const char *end = line->cut ? "...\n" : "\n";
    memcpy(line->text + line->len, end, strlen(end));
    line->len += strlen(end);
}

void cm_log(cm_log_level_t level, const char *component, const char *message, const char *fields,
            ...)
{
    static const char *const names[] = {"DEBUG", "INFO", "WARN", "ERROR"};
    if (!cm_log_enabled(level))
        return;
    int saved_errno = errno; /* a caller may log before it looks */
    char text[LINE_MAX_BYTES] = "", time[CM_TIME_TEXT_MAX];
    line_t line = {.len = 0};
    va_list args;
    va_start(args, fields);
    if (fields && vsnprintf(text, sizeof text, fields, args) < 0)
        text[0] = '\0';
    va_end(args);
    cm_clock_format(cm_clock_epoch_ms(), time);
    if (setup.json)
        build_json(&line, time, names[level], component, message, text);
    else
        build_text(&line, level, time, names[level], component, message, text);
    while (write(STDERR_FILENO, line.text, line.len) < 0 && errno == EINTR)
        continue;
    errno = saved_errno;
}

bool cm_log_allowed(cm_log_limit_t *limit, int interval_ms, unsigned *ret_withheld)
{
    int64_t now_ms = cm_clock_mono_ms();
    if (limit->last_ms != 0 && now_ms - limit->last_ms < interval_ms) {
        limit->withheld++;
        return false;
    }
    *ret_withheld = limit->withheld;
    limit->withheld = 0;
    limit->last_ms = now_ms;
    return true;
}
