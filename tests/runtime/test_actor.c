#include "runtime/actor.h"
#include "runtime/cleanup.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdatomic.h>

static atomic_int bodies_ended;

static void serve_until_stopped(zsock_t *pipe)
{
    while (!cm_actor_stop_requested(pipe))
        ;
    bodies_ended++;
}

static void good_body(zsock_t *pipe, void *args)
{
    (void)args;
    zsock_signal(pipe, 0);
    cm_actor_report(pipe, CM_OK, NULL);
    serve_until_stopped(pipe);
}

static void failing_body(zsock_t *pipe, void *args)
{
    zsock_signal(pipe, 0);
    cm_error_t err = {0};
    cm_error_set(&err, CM_MISCONFIGURED, "28P01", "cannot open %s", (char *)args);
    cm_actor_report(pipe, CM_MISCONFIGURED, &err);
    bodies_ended++;
}

static void talking_body(zsock_t *pipe, void *args)
{
    zsock_signal(pipe, 0);
    zstr_send(pipe, "too early");
    cm_actor_report(pipe, CM_OK, args);
    serve_until_stopped(pipe);
}

static void leaving_body(zsock_t *pipe, void *args)
{
    (void)args;
    zsock_signal(pipe, 0);
}

static void one_shot_body(zsock_t *pipe, void *args)
{
    zsock_signal(pipe, 0);
    cm_actor_report(pipe, CM_OK, args);
}

static void silent_body(zsock_t *pipe, void *args)
{
    (void)args;
    zsock_signal(pipe, 0);
    serve_until_stopped(pipe);
}

typedef struct {
    atomic_int let_go, got_term;
} deaf_t;

/* Reads its pipe only when let go, like a body inside a long call. */
static void deaf_body(zsock_t *pipe, void *args)
{
    deaf_t *deaf = args;
    zsock_signal(pipe, 0);
    while (!deaf->let_go)
        zclock_sleep(1);
    cm_actor_report(pipe, CM_OK, NULL);
    deaf->got_term = cm_actor_stop_requested(pipe);
    bodies_ended++;
}

static void deaf_after_report_body(zsock_t *pipe, void *args)
{
    deaf_t *deaf = args;
    zsock_signal(pipe, 0);
    cm_actor_report(pipe, CM_OK, NULL);
    while (!deaf->let_go)
        zclock_sleep(1);
    deaf->got_term = cm_actor_stop_requested(pipe);
}

static void chatting_body(zsock_t *pipe, void *args)
{
    zsock_signal(pipe, 0);
    cm_actor_report(pipe, CM_OK, args);
    for (int i = 0; i < 500; i++)
        zstr_send(pipe, "word");
    serve_until_stopped(pipe);
}

static void await(const atomic_int *counter, int value)
{
    while (*counter < value) /* the test's own time limit is the deadline */
        zclock_sleep(1);
}

Test(actor, starts_a_body_that_reports_ok, .timeout = 10)
{
    zactor_t *actor = NULL;
    cm_error_t err = {0};
    cr_assert(eq(int, cm_actor_start(&actor, good_body, NULL, 5000, &err), CM_OK));
    cr_assert(ne(ptr, actor, NULL));
    cr_expect(cm_actor_stop(&actor, 5000));
    cr_expect(eq(ptr, actor, NULL));
    cr_expect(eq(int, bodies_ended, 1));
}

Test(actor, can_be_destroyed_by_czmq_alone, .timeout = 10)
{
    zactor_t *actor = NULL;
    cr_assert(eq(int, cm_actor_start(&actor, good_body, NULL, 5000, NULL), CM_OK));
    zactor_destroy(&actor);
    cr_expect(eq(int, bodies_ended, 1));
}

Test(actor, words_before_the_report_are_passed_over, .timeout = 10)
{
    CM_CLEANUP(zactor_destroy) zactor_t *actor = NULL;
    cr_expect(eq(int, cm_actor_start(&actor, talking_body, NULL, 5000, NULL), CM_OK));
}

Test(actor, a_body_that_cannot_open_hands_back_its_error_and_is_gone, .timeout = 10)
{
    zactor_t *actor = NULL;
    cm_error_t err = {0};
    cr_assert(eq(int, cm_actor_start(&actor, failing_body, "pg", 5000, &err), CM_MISCONFIGURED));
    cr_expect(eq(ptr, actor, NULL));
    cr_expect(eq(int, err.status, CM_MISCONFIGURED));
    cr_expect(eq(str, err.code, "28P01"));
    cr_expect(eq(str, err.message, "cannot open pg"));
    cr_expect(eq(int, bodies_ended, 1));
}

Test(actor, a_body_that_leaves_without_a_report_is_unavailable, .timeout = 10)
{
    zactor_t *actor = NULL;
    cm_error_t err = {0};
    cr_assert(eq(int, cm_actor_start(&actor, leaving_body, NULL, 60000, &err), CM_UNAVAILABLE));
    cr_expect(eq(str, err.code, "ended"));
    cr_expect(eq(ptr, actor, NULL));
}

Test(actor, a_body_that_never_reports_is_unavailable_and_stopped, .timeout = 10)
{
    zactor_t *actor = NULL;
    cm_error_t err = {0};
    cr_assert(eq(int, cm_actor_start(&actor, silent_body, NULL, 100, &err), CM_UNAVAILABLE));
    cr_expect(eq(str, err.code, "timeout"));
    cr_expect(eq(ptr, actor, NULL));
    await(&bodies_ended, 1);
}

Test(actor, a_body_given_up_at_start_ends_by_itself_when_it_comes_to, .timeout = 10)
{
    deaf_t deaf = {0};
    zactor_t *actor = NULL;
    cr_assert(eq(int, cm_actor_start(&actor, deaf_body, &deaf, 50, NULL), CM_UNAVAILABLE));
    cr_expect(eq(ptr, actor, NULL));
    deaf.let_go = 1;
    await(&bodies_ended, 1);
    cr_expect(eq(int, deaf.got_term, 1));
}

Test(actor, stop_gives_up_at_its_deadline_and_leaves_the_actor_alone, .timeout = 10)
{
    deaf_t deaf = {0};
    zactor_t *actor = NULL;
    cr_assert(eq(int, cm_actor_start(&actor, deaf_after_report_body, &deaf, 5000, NULL), CM_OK));
    cr_expect(not(cm_actor_stop(&actor, 50)));
    cr_assert(ne(ptr, actor, NULL));
    deaf.let_go = 1;
    cr_expect(cm_actor_stop(&actor, 5000));
    cr_expect(eq(int, deaf.got_term, 1));
}

Test(actor, stop_of_a_body_that_has_ended_by_itself_does_not_wait, .timeout = 10)
{
    zactor_t *actor = NULL;
    cr_assert(eq(int, cm_actor_start(&actor, one_shot_body, NULL, 5000, NULL), CM_OK));
    cr_expect(cm_actor_stop(&actor, 60000));
}

Test(actor, stop_reads_past_what_the_body_said, .timeout = 10)
{
    zactor_t *actor = NULL;
    cr_assert(eq(int, cm_actor_start(&actor, chatting_body, NULL, 5000, NULL), CM_OK));
    cr_expect(cm_actor_stop(&actor, 5000));
}

Test(actor, stop_of_nothing_is_done_at_once, .timeout = 10)
{
    zactor_t *actor = NULL;
    cr_expect(cm_actor_stop(&actor, 60000));
    cm_actor_release(&actor);
}

Test(actor, only_the_stop_word_asks_to_stop, .timeout = 10)
{
    zactor_t *actor = NULL;
    cr_assert(eq(int, cm_actor_start(&actor, good_body, NULL, 5000, NULL), CM_OK));
    zstr_send(actor, "DRAIN");
    zstr_sendx(actor, "", "more", NULL);
    zsock_signal(actor, 7);
    cr_expect(not(cm_actor_stop(&actor, 0))); /* sent, not yet answered */
    cr_expect(cm_actor_stop(&actor, 5000));
}

Test(actor, read_tells_words_report_and_end_apart, .timeout = 10)
{
    cm_error_t report = {0};
    char word[CM_ACTOR_WORD_MAX] = "";
    zactor_t *actor = zactor_new(chatting_body, NULL);
    cr_expect(eq(int, cm_actor_read(actor, &report, word), CM_ACTOR_REPORTED));
    cr_expect(eq(int, report.status, CM_OK));
    cr_expect(eq(int, cm_actor_read(actor, &report, word), CM_ACTOR_SAID));
    cr_expect(eq(str, word, "word"));
    zstr_send(actor, "$TERM");
    while (cm_actor_read(actor, NULL, NULL) != CM_ACTOR_ENDED)
        ;
    cm_actor_release(&actor);
    cr_expect(eq(ptr, actor, NULL));
}
