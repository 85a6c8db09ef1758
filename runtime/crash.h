/* crash - named points at which a test build can kill its own process.
 *
 * CM_CRASH=point:n (read by main) makes the n-th arrival at `point` raise SIGKILL. Compiled in only
 * with -DCM_CRASH_POINTS=ON; otherwise the macro is nothing. The points are listed in crash.c;
 * arming an unknown one is an error. Rule: reliability, section 1.3.
 */
#ifndef CM_RUNTIME_CRASH_H
#define CM_RUNTIME_CRASH_H
#include "runtime/status.h"

#ifdef CM_CRASH_POINTS
cm_status_t cm_crash_arm(const char *spec, cm_error_t *err); /* once, before threads start */
void cm_crash_point(const char *name);
#else
#define cm_crash_point(name) ((void)0)
#endif
#endif
