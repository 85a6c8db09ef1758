#include "runtime/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *cm_status_name(cm_status_t status)
{
    static const char *const names[] = {
        "ok", "transient", "permanent", "unavailable", "misconfigured", "missing", "cancelled"};
    return (size_t)status < sizeof names / sizeof names[0] ? names[status] : "unknown";
}

cm_status_t cm_error_set(cm_error_t *err, cm_status_t status, const char *code, const char *format,
                         ...)
{
    if (!err)
        return status;
    cm_error_t made = {.status = status}; /* code and arguments may point into err */
    snprintf(made.code, sizeof made.code, "%s", code ? code : "");
    va_list args;
    va_start(args, format);
    vsnprintf(made.message, sizeof made.message, format, args);
    va_end(args);
    *err = made;
    return status;
}

cm_status_t cm_error_prefix(cm_error_t *err, const char *format, ...)
{
    if (!err)
        return CM_OK;
    char message[CM_ERROR_MESSAGE_MAX], prefix[CM_ERROR_MESSAGE_MAX];
    memcpy(message, err->message, sizeof message);
    va_list args;
    va_start(args, format);
    vsnprintf(prefix, sizeof prefix, format, args);
    va_end(args);
    size_t used = strlen(prefix), room = sizeof err->message - used;
    memcpy(err->message, prefix, used);
    if ((size_t)snprintf(err->message + used, room, ": %s", message) >= room)
        err->message[sizeof err->message - 1] = '\0'; /* cut, as promised */
    return err->status;
}
