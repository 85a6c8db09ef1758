/* status - what went wrong, told twice: once to the program, once to a person.
 *
 * The status says what the caller does next; the error says what happened. A function that can fail
 * returns a status and fills a cm_error_t, its last argument. Nothing below actors/ logs.
 * Rule: DESIGN section 7, four error classes and the two that need another question first.
 */
#ifndef CM_RUNTIME_STATUS_H
#define CM_RUNTIME_STATUS_H

typedef enum {
    CM_OK = 0,
    CM_TRANSIENT, /* may succeed if this message is repeated: deadlock, lock or statement timeout */
    CM_PERMANENT, /* will fail again for this message: malformed, constraint, out of range */
    CM_UNAVAILABLE,   /* infrastructure: the link or the server is away; says nothing of the message
                       */
    CM_MISCONFIGURED, /* deployment: wrong password, missing right or column; a person must act */
    CM_MISSING,       /* a tenant's schema or table is not there: ask the tenant registry why */
    CM_CANCELLED      /* shutdown arrived while waiting */
} cm_status_t;

enum { CM_ERROR_CODE_MAX = 32, CM_ERROR_MESSAGE_MAX = 256 };

typedef struct {
    cm_status_t status;
    char code[CM_ERROR_CODE_MAX];       /* SQLSTATE, or one of our words: "malformed", "bad-time" */
    char message[CM_ERROR_MESSAGE_MAX]; /* one line, lower case, without personal data */
} cm_error_t;

/* Lower-case word for a status ("ok", "transient", ...); never NULL. */
const char *cm_status_name(cm_status_t status);

/* Fill err (may be NULL) with status, code and a printf message cut at 255 bytes; code may be NULL.
 * Returns status, so that a function can end in `return cm_error_set(...)`. */
cm_status_t cm_error_set(cm_error_t *err, cm_status_t status, const char *code, const char *format,
                         ...) __attribute__((format(printf, 4, 5)));

/* Put "prefix: " before the message of err, keeping status and code. Returns err->status. */
cm_status_t cm_error_prefix(cm_error_t *err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
#endif
