#include "runtime/crash.h"

#ifdef CM_CRASH_POINTS
#include "runtime/cleanup.h"
#include "runtime/str.h"

#include <assert.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* Every point of the program; the call site tells what lies before and after it. */
static const char *const points[] = {
    "after-decode",    /* a batch is decoded, no statement sent */
    "before-commit",   /* all statements of the transaction are done */
    "after-commit",    /* committed, no outcome sent yet */
    "after-republish", /* the copy is confirmed, the original not acknowledged */
    "ddl-step",        /* between two steps of creating or migrating a schema */
    /* deletion of a tenant, in order; the first of a pair is before the commit, the other after */
    "deletion-request", "deletion-requested", /* recorded */
    "deletion-count",                         /* locked and counted, the schema is still there */
    "deletion-drop", "after-drop",          /* the schema is gone, the delivery not acknowledged */
    "deletion-purge", "deletion-purged",    /* side tables are purged */
    "deletion-verify", "deletion-verified", /* all done, the delivery not acknowledged */
    "job-begun",     /* the run of a tick is committed, its body not called */
    "job-body-done", /* all is done, the end of the run not written */
    "job-finished",  /* it is, and the lease not given back */
};

/* Mutable and static, in test builds only: a point has no object to carry its state. */
static const char *armed;
static atomic_llong arrivals_left;

static const char *find_point(cm_str_t name)
{
    for (size_t i = 0; i < CM_LENGTH(points); i++)
        if (cm_str_is(name, points[i]))
            return points[i];
    return NULL;
}

static cm_status_t refuse_unknown(const char *spec, cm_error_t *err)
{
    char known[CM_ERROR_MESSAGE_MAX] = "";
    for (size_t i = 0, used = 0; i < CM_LENGTH(points); i++)
        used += (size_t)snprintf(known + used, sizeof known - used, " %s", points[i]);
    return cm_error_set(err, CM_MISCONFIGURED, "crash-point",
                        "no crash point named in \"%s\"; known are%s", spec, known);
}

cm_status_t cm_crash_arm(const char *spec, cm_error_t *err)
{
    const char *colon = strrchr(spec, ':');
    const char *point = find_point((cm_str_t){spec, colon ? (size_t)(colon - spec) : strlen(spec)});
    if (!point)
        return refuse_unknown(spec, err);
    int64_t count;
    if (!colon || !cm_str_to_i64(cm_str(colon + 1), &count) || count < 1)
        return cm_error_set(err, CM_MISCONFIGURED, "crash-point",
                            "crash point \"%s\" must end in a colon and a count from 1", spec);
    armed = point;
    atomic_store(&arrivals_left, count);
    return CM_OK;
}

void cm_crash_point(const char *name)
{
    assert(find_point(cm_str(name)));
    if (armed && strcmp(armed, name) == 0 && atomic_fetch_sub(&arrivals_left, 1) == 1)
        raise(SIGKILL);
}
#endif
