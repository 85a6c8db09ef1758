#include "runtime/actor.h"
#include "runtime/supervisor.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- a body that does as its args say ------------------------------------------------------- */

typedef enum { ON_DRAIN_ANSWER, ON_DRAIN_NOTHING, ON_DRAIN_LEAVE } on_drain_t;

typedef struct {
    int failing_starts; /* that many report `status` */
    cm_status_t status;
    bool leaves_early;  /* its first life ends by itself */
    bool never_reports; /* but stops when asked */
    atomic_int *hold;   /* reports only when this is set */
    bool deaf;          /* never reads its pipe after the report, until let_go */
    bool talks;         /* says what nobody knows */
    on_drain_t on_drain;
    atomic_int let_go, starts, drains, ends;
} script_t;

static bool obey(zsock_t *pipe, script_t *self)
{
    char *word = zstr_recv(pipe);
    bool stop = !word || strcmp(word, "$TERM") == 0;
    if (word && strcmp(word, "DRAIN") == 0) {
        self->drains++;
        if (self->on_drain == ON_DRAIN_ANSWER)
            zstr_send(pipe, "DRAINED");
        stop = self->on_drain == ON_DRAIN_LEAVE;
    }
    if (word && strcmp(word, "NAME") == 0)
        zstr_send(pipe, "scripted");
    zstr_free(&word);
    return !stop;
}

static void scripted_body(zsock_t *pipe, void *args)
{
    script_t *self = args;
    int start = ++self->starts;
    zsock_signal(pipe, 0);
    while (self->hold && !*self->hold)
        zclock_sleep(1);
    cm_error_t err = {0};
    if (start <= self->failing_starts) {
        cm_error_set(&err, self->status, "scripted", "start %d fails", start);
        cm_actor_report(pipe, self->status, &err);
    } else if (!self->never_reports) {
        cm_actor_report(pipe, CM_OK, NULL);
    }
    if (self->talks)
        for (int i = 0; i < 100; i++)
            zstr_sendx(pipe, i % 2 ? "PORT" : "", "what nobody knows", NULL);
    while (self->deaf && !self->let_go)
        zclock_sleep(1);
    bool running = start > self->failing_starts && !(self->leaves_early && start == 1);
    while (running)
        running = obey(pipe, self);
    self->ends++;
}

/* ---- what the supervisor told --------------------------------------------------------------- */

enum { STORY_MAX = 2048 };
typedef struct {
    char story[STORY_MAX]; /* "a:running b:failed(unavailable) ready ..." */
    int signal_on_ready;   /* to our own process; 0 = none */
    const char *signal_on; /* a piece of story that brings the signal on */
    int signal_at_start;   /* n: the signal comes when a service runs for the n-th time */
    int signal_again;      /* a second one, with the first DRAINING */
    atomic_int *set_on_ready;
} record_t;

static void tell(record_t *self, const char *text)
{
    size_t used = strlen(self->story);
    snprintf(self->story + used, sizeof self->story - used, "%s%s", used ? " " : "", text);
}

static void on_state(void *ctx, const cm_service_t *service, cm_service_state_t state,
                     const cm_error_t *err)
{
    record_t *self = ctx;
    char text[128];
    snprintf(text, sizeof text, "%s:%s%s%s%s", service->name, cm_service_state_name(state),
             err ? "(" : "", err ? err->code : "", err ? ")" : "");
    tell(self, text);
    if (self->signal_on && strstr(self->story, self->signal_on)) {
        self->signal_on = NULL;
        kill(getpid(), SIGTERM);
    }
    if (state == CM_SERVICE_RUNNING && self->signal_at_start == ((script_t *)service->args)->starts)
        kill(getpid(), SIGTERM);
    if (state == CM_SERVICE_DRAINING && self->signal_again) {
        kill(getpid(), self->signal_again);
        self->signal_again = 0;
    }
}

static void on_ready(void *ctx)
{
    record_t *self = ctx;
    tell(self, "ready");
    if (self->set_on_ready)
        *self->set_on_ready = 1;
    if (self->signal_on_ready)
        kill(getpid(), self->signal_on_ready);
}

static int run(const cm_service_t *services, size_t count, record_t *record)
{
    cm_supervisor_options_t options = {.start_timeout_ms = 5000,
                                       .drain_ms = 10000,
                                       .stop_timeout_ms = 5000,
                                       .on_state = on_state,
                                       .on_ready = on_ready,
                                       .ctx = record};
    cm_supervisor_block_signals();
    return cm_supervisor_run(services, count, &options);
}

static int run_hasty(const cm_service_t *services, size_t count, record_t *record)
{
    cm_supervisor_options_t options = {.start_timeout_ms = 100,
                                       .drain_ms = 100,
                                       .stop_timeout_ms = 100,
                                       .on_state = on_state,
                                       .on_ready = on_ready,
                                       .ctx = record};
    cm_supervisor_block_signals();
    return cm_supervisor_run(services, count, &options);
}

#define SERVICE(letter, script, ...)                                                               \
    {                                                                                              \
        .name = letter, .body = scripted_body, .args = (script), __VA_ARGS__                       \
    }

/* ---- up ------------------------------------------------------------------------------------- */

Test(supervisor, starts_in_table_order_and_stops_in_stop_order, .timeout = 20)
{
    script_t a = {0}, b = {0}, c = {0};
    cm_service_t services[] = {SERVICE("a", &a, .stop_order = 3), SERVICE("b", &b, .stop_order = 1),
                               SERVICE("c", &c, .stop_order = 2)};
    record_t record = {.signal_on_ready = SIGTERM};
    cr_assert(eq(int, run(services, 3, &record), 0));
    cr_expect(
        eq(str, record.story, "a:running b:running c:running ready b:stopped c:stopped a:stopped"));
    cr_expect(eq(int, a.ends + b.ends + c.ends, 3));
}

Test(supervisor, runs_without_callbacks_and_without_services, .timeout = 20)
{
    cm_supervisor_options_t options = {.start_timeout_ms = 1, .drain_ms = 1, .stop_timeout_ms = 1};
    cm_supervisor_block_signals();
    kill(getpid(), SIGTERM);
    cr_expect(eq(int, cm_supervisor_run(NULL, 0, &options), 0));
}

Test(supervisor, the_next_first_start_waits_for_the_one_before, .timeout = 20)
{
    atomic_int hold = 0;
    script_t a = {.hold = &hold}, b = {0};
    cm_service_t services[] = {SERVICE("a", &a), SERVICE("b", &b)};
    record_t record = {.signal_on_ready = SIGTERM};
    /* a is late and comes after all; b starts when a has been given up. */
    record.set_on_ready = &hold;
    record.signal_on_ready = 0;
    record.signal_on = "a:running";
    cr_assert(eq(int, run_hasty(services, 2, &record), 0));
    cr_expect(eq(int, strncmp(record.story, "a:failed(timeout) b:running ready a:running ", 44), 0),
              "%s", record.story);
    cr_expect(eq(int, a.starts, 1));
}

Test(supervisor, a_body_that_cannot_open_is_failed_and_tried_again, .timeout = 30)
{
    script_t a = {.failing_starts = 1, .status = CM_MISCONFIGURED}, b = {0};
    cm_service_t services[] = {SERVICE("a", &a), SERVICE("b", &b)};
    record_t record = {.signal_on = "a:running"};
    cr_assert(eq(int, run(services, 2, &record), 0));
    cr_expect(
        eq(int, strncmp(record.story, "a:failed(scripted) b:running ready a:running ", 45), 0),
        "%s", record.story);
    cr_expect(eq(int, a.starts, 2));
    cr_expect(eq(int, b.starts, 1));
}

Test(supervisor, each_failed_start_is_told, .timeout = 30)
{
    script_t a = {.failing_starts = 3, .status = CM_UNAVAILABLE};
    cm_service_t services[] = {SERVICE("a", &a)};
    record_t record = {.signal_on = "a:running"};
    cr_assert(eq(int, run(services, 1, &record), 0));
    cr_expect(eq(str, record.story,
                 "a:failed(scripted) ready a:failed(scripted) a:failed(scripted) a:running "
                 "a:stopped"));
}

Test(supervisor, a_body_that_ends_by_itself_is_started_again, .timeout = 30)
{
    script_t a = {.leaves_early = true}, b = {0};
    cm_service_t services[] = {SERVICE("a", &a, .required = true), SERVICE("b", &b)};
    record_t record = {.signal_at_start = 2};
    cr_assert(eq(int, run(services, 2, &record), 0));
    cr_expect(ne(ptr, strstr(record.story, "a:waiting(ended)"), NULL), "%s", record.story);
    cr_expect(eq(int, a.starts, 2));
    cr_expect(eq(int, b.starts, 1));
}

Test(supervisor, a_body_that_never_reports_is_failed_and_stopped_at_the_end, .timeout = 20)
{
    script_t a = {.never_reports = true};
    cm_service_t services[] = {SERVICE("a", &a)};
    record_t record = {.signal_on_ready = SIGTERM};
    cr_assert(eq(int, run_hasty(services, 1, &record), 0));
    cr_expect(eq(str, record.story, "a:failed(timeout) ready a:stopped"));
    cr_expect(eq(int, a.ends, 1));
}

Test(supervisor, a_required_first_start_that_is_misconfigured_ends_the_run_with_78, .timeout = 20)
{
    script_t a = {0}, b = {.failing_starts = 1, .status = CM_MISCONFIGURED}, c = {0};
    cm_service_t services[] = {SERVICE("a", &a, .drains = true), SERVICE("b", &b, .required = true),
                               SERVICE("c", &c)};
    record_t record = {0};
    cr_assert(eq(int, run(services, 3, &record), 78));
    cr_expect(eq(str, record.story,
                 "a:running b:failed(scripted) a:draining b:stopped c:stopped a:stopped"));
    cr_expect(eq(int, c.starts, 0));
    cr_expect(eq(int, a.ends, 1));
}

Test(supervisor, a_required_first_start_that_is_unavailable_ends_the_run_with_69, .timeout = 20)
{
    script_t a = {.failing_starts = 1, .status = CM_UNAVAILABLE};
    cm_service_t services[] = {SERVICE("a", &a, .required = true)};
    record_t record = {0};
    cr_expect(eq(int, run(services, 1, &record), 69));
}

Test(supervisor, a_required_first_start_that_never_reports_ends_the_run_with_69, .timeout = 20)
{
    script_t a = {.never_reports = true};
    cm_service_t services[] = {SERVICE("a", &a, .required = true)};
    record_t record = {0};
    cr_expect(eq(int, run_hasty(services, 1, &record), 69));
    cr_expect(eq(int, a.ends, 1));
}

/* ---- down ----------------------------------------------------------------------------------- */

Test(supervisor, services_that_drain_are_asked_before_any_is_stopped, .timeout = 20)
{
    script_t a = {0}, b = {0};
    cm_service_t services[] = {SERVICE("a", &a, .stop_order = 2),
                               SERVICE("b", &b, .stop_order = 1, .drains = true)};
    record_t record = {.signal_on_ready = SIGINT};
    cr_assert(eq(int, run(services, 2, &record), 0));
    cr_expect(eq(str, record.story, "a:running b:running ready b:draining b:stopped a:stopped"));
    cr_expect(eq(int, a.drains, 0));
    cr_expect(eq(int, b.drains, 1));
}

Test(supervisor, a_body_that_drains_by_leaving_has_drained, .timeout = 20)
{
    script_t a = {.on_drain = ON_DRAIN_LEAVE};
    cm_service_t services[] = {SERVICE("a", &a, .drains = true)};
    record_t record = {.signal_on_ready = SIGTERM};
    cr_assert(eq(int, run(services, 1, &record), 0));
    cr_expect(eq(str, record.story, "a:running ready a:draining a:stopped"));
}

Test(supervisor, the_drain_deadline_ends_the_wait_with_1, .timeout = 20)
{
    script_t a = {.on_drain = ON_DRAIN_NOTHING}, b = {0};
    cm_service_t services[] = {SERVICE("a", &a, .drains = true), SERVICE("b", &b, .drains = true)};
    record_t record = {.signal_on_ready = SIGTERM};
    cr_assert(eq(int, run_hasty(services, 2, &record), 1));
    cr_expect(ne(ptr, strstr(record.story, "a:draining(timeout)"), NULL), "%s", record.story);
    cr_expect(eq(ptr, strstr(record.story, "b:draining("), NULL), "%s", record.story);
    cr_expect(eq(int, a.ends + b.ends, 2)); /* both were stopped all the same */
}

Test(supervisor, a_body_that_does_not_stop_is_left_behind_with_1, .timeout = 20)
{
    script_t a = {.deaf = true}, b = {0};
    cm_service_t services[] = {SERVICE("a", &a, .stop_order = 1),
                               SERVICE("b", &b, .stop_order = 2)};
    record_t record = {.signal_on_ready = SIGTERM};
    cr_assert(eq(int, run_hasty(services, 2, &record), 1));
    cr_expect(eq(str, record.story, "a:running b:running ready a:stopped(timeout) b:stopped"));
    cr_expect(eq(int, b.ends, 1));
    a.let_go = 1;
    while (a.ends == 0) /* it finds the stop word in its pipe */
        zclock_sleep(1);
}

Test(supervisor, a_signal_while_starting_stops_what_has_started, .timeout = 20)
{
    atomic_int hold = 0;
    script_t a = {0}, b = {.hold = &hold}, c = {0};
    cm_service_t services[] = {SERVICE("a", &a, .stop_order = 2), SERVICE("b", &b, .stop_order = 1),
                               SERVICE("c", &c)};
    record_t record = {.signal_on = "a:running"};
    cr_assert(eq(int, run_hasty(services, 3, &record), 1)); /* b hangs in its start */
    cr_expect(eq(str, record.story, "a:running c:stopped b:stopped(timeout) a:stopped"));
    cr_expect(eq(int, c.starts, 0));
    hold = 1;
    while (b.ends == 0)
        zclock_sleep(1);
}

Test(supervisor, a_service_that_waits_for_its_next_start_is_not_started_to_be_stopped,
     .timeout = 20)
{
    script_t a = {.failing_starts = 1000, .status = CM_UNAVAILABLE};
    cm_service_t services[] = {SERVICE("a", &a)};
    record_t record = {.signal_on_ready = SIGTERM};
    cr_assert(eq(int, run(services, 1, &record), 0));
    cr_expect(eq(str, record.story, "a:failed(scripted) ready a:stopped"));
}

static void ask_name(void *ctx, const cm_service_t *service, zactor_t *actor)
{
    char text[64];
    zstr_send(actor, "NAME");
    char *answer = zstr_recv(actor);
    snprintf(text, sizeof text, "%s=%s", service->name, answer);
    zstr_free(&answer);
    tell(ctx, text);
}

Test(supervisor, each_running_service_can_be_asked_before_its_stop, .timeout = 20)
{
    script_t a = {0}, b = {.failing_starts = 1000, .status = CM_UNAVAILABLE}, c = {0};
    cm_service_t services[] = {SERVICE("a", &a, .stop_order = 2), SERVICE("b", &b),
                               SERVICE("c", &c, .stop_order = 1)};
    record_t record = {.signal_on_ready = SIGTERM};
    cm_supervisor_options_t options = {.start_timeout_ms = 5000,
                                       .drain_ms = 10000,
                                       .stop_timeout_ms = 5000,
                                       .on_state = on_state,
                                       .on_ready = on_ready,
                                       .before_stop = ask_name,
                                       .ctx = &record};
    cm_supervisor_block_signals();
    cr_assert(eq(int, cm_supervisor_run(services, 3, &options), 0));
    char *end = strstr(record.story, "ready ");
    cr_assert(ne(ptr, end, NULL));
    cr_expect(eq(str, end, "ready b:stopped c=scripted c:stopped a=scripted a:stopped"));
}

Test(supervisor, a_write_to_a_peer_that_went_away_does_not_kill, .timeout = 20)
{
    int ends[2];
    cm_supervisor_block_signals();
    cr_assert(eq(int, pipe(ends), 0));
    close(ends[0]);
    cr_expect(eq(long, write(ends[1], "x", 1), -1));
    close(ends[1]);
}

Test(supervisor, a_second_signal_leaves_at_once, .timeout = 20)
{
    script_t a = {.on_drain = ON_DRAIN_NOTHING};
    cm_service_t services[] = {SERVICE("a", &a, .drains = true)};
    record_t record = {.signal_on_ready = SIGTERM, .signal_again = SIGINT};
    cr_assert(eq(int, run(services, 1, &record), 128 + SIGINT));
    cr_expect(eq(str, record.story, "a:running ready a:draining"));
    while (a.ends == 0) /* let go, it ends by itself */
        zclock_sleep(1);
}

/* As timeout(1) sends it: to the process, and to its group. */
Test(supervisor, one_signal_told_twice_is_one_wish, .timeout = 20)
{
    script_t a = {0};
    cm_service_t services[] = {SERVICE("a", &a, .drains = true)};
    record_t record = {.signal_on_ready = SIGTERM, .signal_again = SIGTERM};
    cr_assert(eq(int, run(services, 1, &record), 0));
    cr_expect(eq(str, record.story, "a:running ready a:draining a:stopped"));
}

Test(supervisor, a_hang_up_changes_nothing, .timeout = 20)
{
    script_t a = {.leaves_early = true};
    cm_service_t services[] = {SERVICE("a", &a)};
    record_t record = {.signal_on_ready = SIGHUP, .signal_on = "a:waiting(ended)"};
    cr_assert(eq(int, run(services, 1, &record), 0));
}

Test(supervisor, words_nobody_knows_are_passed_over, .timeout = 20)
{
    script_t a = {.talks = true};
    cm_service_t services[] = {SERVICE("a", &a, .drains = true)};
    record_t record = {.signal_on_ready = SIGTERM};
    cr_assert(eq(int, run(services, 1, &record), 0));
    cr_expect(eq(str, record.story, "a:running ready a:draining a:stopped"));
}

Test(supervisor, every_state_has_a_name, .timeout = 20)
{
    cr_expect(eq(str, (char *)cm_service_state_name(CM_SERVICE_WAITING), "waiting"));
    cr_expect(eq(str, (char *)cm_service_state_name(CM_SERVICE_FAILED), "failed"));
    cr_expect(eq(str, (char *)cm_service_state_name((cm_service_state_t)99), "unknown"));
}
