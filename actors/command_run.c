#include "actors/command.h"
#include "actors/wiring.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "runtime/log.h"
#include "schema/erasure.h"
#include "schema/migration.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    START_TIMEOUT_MS = 10000,
    STOP_TIMEOUT_MS = 20000,
    LEDGER_TIMEOUT_MS = 2000,
    TELL_AGAIN_MS = 30000,
    LOCK_TIMEOUT_MS = 5000 /* for an instance beside us that migrates */
};

typedef struct {
    const cm_invocation_t *invocation;
    cm_options_t options; /* with what flags of this command say */
    cm_mesh_t mesh;
} run_t;

static void destroy_run(run_t **self_p)
{
    cm_mesh_close(&(*self_p)->mesh);
    free(*self_p);
}

static void on_state(void *ctx, const cm_service_t *service, cm_service_state_t state,
                     const cm_error_t *err)
{
    (void)ctx;
    bool bad = err && err->status != CM_OK;
    cm_log(bad ? CM_LOG_ERROR : CM_LOG_INFO, "supervisor", cm_service_state_name(state),
           "actor=%s%s%s%s", service->name, bad ? " cause=\"" : "", bad ? err->message : "",
           bad ? "\"" : "");
}

static void on_ready(void *ctx)
{
    run_t *self = ctx;
    cm_log(CM_LOG_INFO, "supervisor", "running", "version=%s actors=%zu listen=%s", CM_VERSION,
           self->mesh.service_count, self->invocation->options->monitor.listen);
}

/* The last word of the monitor before it goes: the ledger of the whole run. */
static void before_stop(void *ctx, const cm_service_t *service, zactor_t *actor)
{
    run_t *self = ctx;
    if (service->body != cm_monitor_actor)
        return;
    zsock_set_rcvtimeo(zactor_sock(actor), LEDGER_TIMEOUT_MS);
    CM_CLEANUP(zstr_free) char *ledger = NULL;
    if (zstr_send(actor, "LEDGER") == 0)
        ledger = zstr_recv(actor);
    cm_log(CM_LOG_INFO, "supervisor", "ledger", "ledger=%s", ledger ? ledger : "unknown");
    if (ledger && cm_flag_given(self->invocation, "print-ledger")) {
        puts(ledger);
        fflush(stdout);
    }
}

/* Wait for one of the signals that stop us; false when the time is over. */
static bool stopped_within(int ms)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    struct timespec time = {ms / 1000, (ms % 1000) * 1000000L};
    return sigtimedwait(&set, NULL, &time) > 0;
}

static const char *why_start_waits(const cm_error_t *err)
{
    if (strcmp(err->code, "55P03") == 0)
        return "another instance prepares the database, start waits";
    return err->status == CM_UNAVAILABLE ? "database away, start waits"
                                         : "database not prepared yet, start waits";
}

/* With roles it is `database prepare` that makes the admin schema; each role can tell whether it is
 * there, so the one of a sub-worker that will run serves, and its refusal is told at once. */
static cm_status_t prepare_schema(const cm_options_t *options, cm_pg_t *pg, cm_error_t *err)
{
    const char *admin_schema = options->postgres.admin_schema;
    return options->postgres.roles ? cm_command_admin_check_newest(pg, admin_schema, err)
                                   : cm_admin_prepare(pg, admin_schema, err);
}

/* The admin schema must be there before the actors. A database that is away is waited for; one that
 * refuses us stops the start. */
static cm_status_t prepare_database(const cm_options_t *options, cm_role_t role, cm_error_t *err)
{
    cm_pg_options_t pg_options = cm_options_pg_as(options, "client-manager start", role);
    pg_options.lock_timeout_ms = LOCK_TIMEOUT_MS;
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = cm_pg_new(&pg_options);
    int64_t told_ms = -TELL_AGAIN_MS;
    cm_backoff_t backoff;
    cm_backoff_init(&backoff, 250, 5000, cm_random_u64());
    for (;;) {
        cm_status_t status = cm_pg_connect(pg, NULL, err);
        if (status == CM_OK)
            status = prepare_schema(options, pg, err);
        if (status == CM_OK) /* with another key, deleted contacts would come back */
            status =
                cm_erasure_key_check(pg, options->postgres.admin_schema, options->erasure.key, err);
        if (status == CM_OK || status == CM_MISCONFIGURED || status == CM_PERMANENT)
            return status;
        int wait_ms = cm_backoff_next_ms(&backoff);
        if (cm_clock_mono_ms() >= told_ms + TELL_AGAIN_MS) {
            told_ms = cm_clock_mono_ms();
            cm_log(CM_LOG_WARN, "supervisor", why_start_waits(err), "code=\"%s\" cause=\"%s\"",
                   err->code, err->message);
        }
        cm_pg_close(pg);
        if (stopped_within(wait_ms))
            return cm_error_set(err, CM_CANCELLED, "signal", "stopped while waiting");
    }
}

/* Twice the same would be two routes to one name. */
static bool check_names(const cm_invocation_t *invocation)
{
    for (size_t i = 0; i < invocation->arg_count; i++) {
        for (size_t k = 0; k < i; k++) {
            if (strcmp(invocation->args[i], invocation->args[k]) != 0)
                continue;
            fprintf(stderr, "client-manager run: \"%s\" is named twice\n", invocation->args[i]);
            return false;
        }
    }
    return true;
}

/* -t: which of the two subscriptions push-token-status consumes. */
static bool take_type(const cm_invocation_t *invocation, cm_options_t *options)
{
    static const char *const types[] = {
        [CM_PUSH_TYPE_PUSH] = "push", [CM_PUSH_TYPE_WEB] = "web", [CM_PUSH_TYPE_BOTH] = "both"};
    const char *text = cm_flag_text(invocation, "type");
    if (!text)
        return true;
    for (int type = 0; type < (int)CM_LENGTH(types); type++) {
        if (strcmp(text, types[type]) == 0) {
            options->push_token_status.type = type;
            return true;
        }
    }
    fprintf(stderr, "client-manager run: --type is \"%s\"; give push, web or both\n", text);
    return false;
}

int cm_command_run(const cm_invocation_t *invocation)
{
    CM_CLEANUP(destroy_run) run_t *self = calloc(1, sizeof *self);
    cm_error_t err = {0};
    if (!self)
        abort();
    self->invocation = invocation;
    self->options = *invocation->options;
    const cm_options_t *options = &self->options;
    if (!check_names(invocation) || !take_type(invocation, &self->options))
        return CM_EXIT_USAGE;
    cm_status_t status =
        cm_mesh_lay_out(&self->mesh, options, invocation->args, invocation->arg_count, &err);
    if (status != CM_OK)
        return cm_command_fail(invocation, &err);
    cm_supervisor_block_signals();
    status = prepare_database(options, cm_mesh_role(&self->mesh), &err);
    if (status == CM_CANCELLED)
        return CM_EXIT_OK;
    if (status != CM_OK)
        return cm_command_fail(invocation, &err);
    cm_supervisor_options_t supervisor = {.start_timeout_ms = START_TIMEOUT_MS,
                                          .drain_ms = (int)options->drain.deadline_ms,
                                          .stop_timeout_ms = STOP_TIMEOUT_MS,
                                          .on_state = on_state,
                                          .on_ready = on_ready,
                                          .before_stop = before_stop,
                                          .ctx = self};
    zsys_set_max_sockets(0); /* as many as the system allows */
    int code = cm_supervisor_run(self->mesh.services, self->mesh.service_count, &supervisor);
    if (code == CM_EXIT_OK)
        return code;
    fflush(NULL);
    _exit(code); /* threads may still run, and exit() would take their sockets away */
}
