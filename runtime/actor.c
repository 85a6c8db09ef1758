#include "runtime/actor.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"

#include <stdlib.h>
#include <string.h>

static const char REPORT[] = "REPORT";
static const char TERM[] = "$TERM";

/* ---- the body's side ------------------------------------------------------------------------ */

cm_status_t cm_actor_report(zsock_t *pipe, cm_status_t status, const cm_error_t *err)
{
    /* A PAIR without its peer blocks for ever, and a parent may have given up on us. */
    zsock_set_sndtimeo(pipe, 0);
    char number[16];
    snprintf(number, sizeof number, "%d", (int)status);
    zstr_sendx(pipe, REPORT, number, err ? err->code : "", err ? err->message : "", NULL);
    return status;
}

bool cm_actor_stop_requested(zsock_t *pipe)
{
    CM_CLEANUP(zmsg_destroy) zmsg_t *message = zmsg_recv(pipe);
    zframe_t *word = message ? zmsg_first(message) : NULL;
    return !message || (word && zframe_streq(word, TERM));
}

/* ---- the parent's side ---------------------------------------------------------------------- */

static void take_report(zmsg_t *message, cm_error_t *ret_report)
{
    CM_CLEANUP(zstr_free) char *status = zmsg_popstr(message);
    CM_CLEANUP(zstr_free) char *code = zmsg_popstr(message);
    CM_CLEANUP(zstr_free) char *text = zmsg_popstr(message);
    cm_error_set(ret_report, status ? (cm_status_t)atoi(status) : CM_PERMANENT, code, "%s",
                 text ? text : "");
}

cm_actor_event_t cm_actor_read(zactor_t *actor, cm_error_t *ret_report,
                               char ret_word[CM_ACTOR_WORD_MAX])
{
    CM_CLEANUP(zmsg_destroy) zmsg_t *message = zmsg_recv(actor);
    if (!message || zmsg_signal(message) >= 0)
        return CM_ACTOR_ENDED;
    CM_CLEANUP(zstr_free) char *word = zmsg_popstr(message);
    if (word && strcmp(word, REPORT) == 0) {
        take_report(message, ret_report);
        return CM_ACTOR_REPORTED;
    }
    if (ret_word)
        snprintf(ret_word, CM_ACTOR_WORD_MAX, "%s", word ? word : "");
    return CM_ACTOR_SAID;
}

void cm_actor_release(zactor_t **actor_p)
{
    if (*actor_p)
        zsock_set_rcvtimeo(zactor_sock(*actor_p), 0); /* zactor_destroy() waits with a receive */
    zactor_destroy(actor_p);
}

static int left_ms(int64_t deadline_ms)
{
    int64_t left = deadline_ms - cm_clock_mono_ms();
    return left > 0 ? (int)left : 0;
}

/* The events of the actor's pipe that hold before the deadline; 0 when it passed. */
static int wait_pipe(zactor_t *actor, short events, int64_t deadline_ms)
{
    zmq_pollitem_t item = {zsock_resolve(actor), 0, events, 0};
    while (zmq_poll(&item, 1, left_ms(deadline_ms)) == -1 && zmq_errno() == EINTR)
        ;
    return item.revents;
}

bool cm_actor_stop(zactor_t **actor_p, int timeout_ms)
{
    int64_t deadline_ms = cm_clock_mono_ms() + timeout_ms;
    bool asked = false;
    while (*actor_p) {
        int events =
            wait_pipe(*actor_p, asked ? ZMQ_POLLIN : ZMQ_POLLIN | ZMQ_POLLOUT, deadline_ms);
        if (events & ZMQ_POLLOUT) {
            /* It may end in between, and a PAIR without its peer blocks for ever. */
            zsock_set_sndtimeo(zactor_sock(*actor_p), 0);
            asked = zstr_send(*actor_p, TERM) == 0;
        }
        if ((events & ZMQ_POLLIN) && cm_actor_read(*actor_p, NULL, NULL) == CM_ACTOR_ENDED)
            cm_actor_release(actor_p);
        else if (events == 0 || (asked && left_ms(deadline_ms) == 0)) /* it may talk all the time */
            return false;
    }
    return true;
}

static cm_status_t wait_report(zactor_t **actor_p, int timeout_ms, cm_error_t *err)
{
    int64_t deadline_ms = cm_clock_mono_ms() + timeout_ms;
    cm_actor_event_t event = CM_ACTOR_SAID;
    cm_error_t report = {0};
    while (event == CM_ACTOR_SAID) {
        if (wait_pipe(*actor_p, ZMQ_POLLIN, deadline_ms) == 0)
            return cm_error_set(err, CM_UNAVAILABLE, "timeout", "no report within %d ms",
                                timeout_ms);
        event = cm_actor_read(*actor_p, &report, NULL);
    }
    if (event == CM_ACTOR_ENDED) {
        cm_actor_release(actor_p);
        return cm_error_set(err, CM_UNAVAILABLE, "ended", "ended without a report");
    }
    if (report.status != CM_OK && err)
        *err = report;
    return report.status;
}

cm_status_t cm_actor_start(zactor_t **ret_actor, zactor_fn body, void *args, int timeout_ms,
                           cm_error_t *err)
{
    *ret_actor = NULL;
    zactor_t *actor = zactor_new(body, args);
    cm_status_t status = wait_report(&actor, timeout_ms, err);
    if (status == CM_OK)
        *ret_actor = actor;
    else if (!cm_actor_stop(&actor, timeout_ms))
        cm_actor_release(&actor);
    return status;
}
