#include "actors/monitor_view.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "runtime/hash.h"
#include "runtime/metrics.h"

#include <dirent.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { SOURCE_MAX = 96 };

typedef struct {
    char name[SOURCE_MAX];
    bool expected;
    cm_actor_state_t state;
    int64_t since_ms;                 /* epoch */
    int64_t beat_ms;                  /* monotonic */
    char error[CM_ERROR_MESSAGE_MAX]; /* the last one told */
    cm_ledgers_t ledgers, former;     /* former: what its former lives brought to an end */
    UT_hash_handle hh;                /* by name, kept sorted */
} actor_t;

struct cm_monitor_view {
    char *version;
    int beat_timeout_ms;
    double process_start_s; /* epoch */
    actor_t *actors;
    cm_metrics_board_t *board;
};

/* ---- the actors ----------------------------------------------------------------------------- */

static int by_name(const actor_t *a, const actor_t *b)
{
    return strcmp(a->name, b->name);
}

static actor_t *find_or_add(cm_monitor_view_t *self, cm_str_t name, cm_moment_t now)
{
    char key[SOURCE_MAX];
    snprintf(key, sizeof key, "%.*s", CM_STR_ARG(name));
    actor_t *actor = NULL;
    HASH_FIND_STR(self->actors, key, actor);
    if (actor)
        return actor;
    actor = calloc(1, sizeof *actor);
    if (!actor)
        abort();
    memcpy(actor->name, key, sizeof key);
    actor->since_ms = now.epoch_ms;
    actor->beat_ms = now.mono_ms;
    HASH_ADD_STR(self->actors, name, actor);
    HASH_SRT(hh, self->actors, by_name);
    return actor;
}

/* Seconds since the epoch at which this process started; 0 when /proc does not tell. */
static double process_start(cm_moment_t now)
{
    struct timespec uptime;
    unsigned long long ticks = 0;
    char line[1024] = "";
    FILE *file = fopen("/proc/self/stat", "re");
    bool known =
        clock_gettime(CLOCK_BOOTTIME, &uptime) == 0 && file && fgets(line, sizeof line, file);
    if (file)
        fclose(file);
    /* The name in field 2 may hold anything, so count from its end: field 22 is the start. */
    const char *at = strrchr(line, ')');
    for (int field = 2; at && field < 22; field++)
        at = strchr(at + 1, ' ');
    known = known && at && sscanf(at, " %llu", &ticks) == 1;
    double age = (double)uptime.tv_sec + (double)uptime.tv_nsec / 1e9 -
                 (double)ticks / (double)sysconf(_SC_CLK_TCK);
    return known ? (double)now.epoch_ms / 1000 - age : 0;
}

cm_monitor_view_t *cm_monitor_view_new(const char *version, const char *const *expected,
                                       size_t expected_count, int beat_timeout_ms, cm_moment_t now)
{
    cm_monitor_view_t *self = calloc(1, sizeof *self);
    if (!self)
        abort();
    self->version = strdup(version);
    if (!self->version)
        abort();
    self->beat_timeout_ms = beat_timeout_ms;
    self->process_start_s = process_start(now);
    self->board = cm_metrics_board_new();
    for (size_t i = 0; i < expected_count; i++)
        find_or_add(self, cm_str(expected[i]), now)->expected = true;
    return self;
}

void cm_monitor_view_destroy(cm_monitor_view_t **self_p)
{
    cm_monitor_view_t *self = *self_p;
    if (!self)
        return;
    actor_t *actor, *next;
    HASH_ITER(hh, self->actors, actor, next)
    {
        HASH_DEL(self->actors, actor);
        free(actor);
    }
    cm_metrics_board_destroy(&self->board);
    free(self->version);
    free(self);
    *self_p = NULL;
}

static void take_state(actor_t *actor, const cm_report_t *report, cm_moment_t now)
{
    if (actor->state != report->state)
        actor->since_ms = now.epoch_ms;
    actor->state = report->state;
    if (report->state == CM_ACTOR_RUNNING || report->text.len == 0)
        return; /* what went wrong before stays to be seen */
    snprintf(actor->error, sizeof actor->error, "%.*s", CM_STR_ARG(report->text));
    for (char *c = actor->error; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = ' '; /* it is shown as one line */
}

/* One life of a source never takes back what it brought to an end. */
static bool took_back(const cm_ledger_t *now, const cm_ledger_t *before)
{
    return now->applied < before->applied || now->stale < before->stale ||
           now->duplicate < before->duplicate || now->dropped < before->dropped ||
           now->dead < before->dead;
}

static bool is_new_life(const cm_ledgers_t *now, const cm_ledgers_t *before)
{
    for (int flow = 0; flow < CM_FLOW_COUNT; flow++)
        if (took_back(&now->flows[flow], &before->flows[flow]))
            return true;
    return false;
}

static void add(cm_ledgers_t *sum, const cm_ledgers_t *more)
{
    for (int flow = 0; flow < CM_FLOW_COUNT; flow++)
        cm_ledger_add(&sum->flows[flow], &more->flows[flow]);
}

static void take_ledgers(actor_t *actor, const cm_ledgers_t *ledgers)
{
    if (is_new_life(ledgers, &actor->ledgers)) {
        cm_ledgers_t all_ended = actor->ledgers;
        for (int flow = 0; flow < CM_FLOW_COUNT; flow++) {
            cm_ledger_t *ended = &all_ended.flows[flow];
            ended->retrying = ended->in_flight = 0;
            ended->received =
                ended->applied + ended->stale + ended->duplicate + ended->dropped + ended->dead;
        }
        add(&actor->former, &all_ended);
    }
    actor->ledgers = *ledgers;
}

cm_status_t cm_monitor_view_put(cm_monitor_view_t *self, const cm_report_t *report, cm_moment_t now,
                                cm_error_t *err)
{
    if (report->source.len == 0 || memchr(report->source.ptr, '\0', report->source.len))
        return cm_error_set(err, CM_PERMANENT, "malformed", "a report whose source has no name");
    actor_t *actor = find_or_add(self, report->source, now);
    actor->beat_ms = now.mono_ms;
    switch (report->kind) {
    case CM_REPORT_STATE:
        take_state(actor, report, now);
        break;
    case CM_REPORT_LEDGER:
        take_ledgers(actor, &report->ledgers);
        break;
    case CM_REPORT_METRICS:
        return cm_metrics_board_put(self->board, report->metrics.ptr, report->metrics.len,
                                    now.mono_ms, err);
    }
    return CM_OK;
}

/* ---- health --------------------------------------------------------------------------------- */

bool cm_monitor_view_live(const cm_monitor_view_t *self, cm_moment_t now, cm_buffer_t *out)
{
    bool live = true;
    for (const actor_t *actor = self->actors; actor; actor = actor->hh.next) {
        int64_t silent_ms = now.mono_ms - actor->beat_ms;
        if (!actor->expected || silent_ms <= self->beat_timeout_ms)
            continue;
        cm_buffer_printf(out, "%s is silent for %" PRId64 " ms\n", actor->name, silent_ms);
        live = false;
    }
    if (live)
        cm_buffer_printf(out, "ok\n");
    return live;
}

static void tell_actor(const actor_t *actor, cm_buffer_t *out)
{
    char since[CM_TIME_TEXT_MAX];
    cm_buffer_printf(out, "[%c] %s %s since %s", actor->state == CM_ACTOR_RUNNING ? '+' : '-',
                     actor->name, cm_actor_state_name(actor->state),
                     cm_clock_format(actor->since_ms, since));
    if (*actor->error)
        cm_buffer_printf(out, ", last error: %s", actor->error);
    cm_buffer_printf(out, "\n");
}

bool cm_monitor_view_ready(const cm_monitor_view_t *self, bool verbose, cm_buffer_t *out)
{
    bool ready = true;
    for (const actor_t *actor = self->actors; actor; actor = actor->hh.next) {
        bool in_the_way = actor->expected && actor->state != CM_ACTOR_RUNNING;
        ready = ready && !in_the_way;
        if (verbose)
            tell_actor(actor, out);
        else if (in_the_way)
            cm_buffer_printf(out, "%s is %s\n", actor->name, cm_actor_state_name(actor->state));
    }
    if (ready || verbose)
        cm_buffer_printf(out, ready ? "ready\n" : "not ready\n");
    return ready;
}

/* ---- the ledger ----------------------------------------------------------------------------- */

cm_ledgers_t cm_monitor_view_ledgers(const cm_monitor_view_t *self)
{
    cm_ledgers_t sum = {0};
    for (const actor_t *actor = self->actors; actor; actor = actor->hh.next) {
        add(&sum, &actor->former);
        add(&sum, &actor->ledgers);
    }
    return sum;
}

typedef struct {
    const char *name;
    uint64_t count;
} bucket_t;
enum { BUCKETS = 8, COUNTS = 11 }; /* the balance; and what stands beside it */

static void list_counts(const cm_ledger_t *ledger, bucket_t ret_counts[COUNTS])
{
    const bucket_t counts[COUNTS] = {
        {"received", ledger->received},
        {"applied", ledger->applied},
        {"stale", ledger->stale},
        {"duplicate", ledger->duplicate},
        {"dropped", ledger->dropped},
        {"retrying", ledger->retrying},
        {"dead", ledger->dead},
        {"in_flight", ledger->in_flight},
        {"deferred_total", ledger->deferred_total},
        {"released_total", ledger->released_total},
        {"retried_total", ledger->retried_total},
    };
    memcpy(ret_counts, counts, sizeof counts);
}

static json_t *ledger_object(const cm_ledger_t *ledger)
{
    bucket_t counts[COUNTS];
    list_counts(ledger, counts);
    json_t *object = json_object();
    for (size_t i = 0; i < COUNTS; i++)
        json_object_set_new(object, counts[i].name, json_integer((json_int_t)counts[i].count));
    json_object_set_new(object, "drift", json_integer(cm_ledger_drift(ledger)));
    return object;
}

void cm_monitor_view_ledger_json(const cm_monitor_view_t *self, cm_buffer_t *out)
{
    cm_ledgers_t ledgers = cm_monitor_view_ledgers(self);
    cm_ledger_t sum = cm_ledgers_sum(&ledgers);
    json_t *root = ledger_object(&sum), *flows = json_object();
    for (int flow = 0; flow < CM_FLOW_COUNT; flow++)
        json_object_set_new(flows, cm_flow_name((cm_flow_t)flow),
                            ledger_object(&ledgers.flows[flow]));
    json_object_set_new(root, "balanced", json_boolean(cm_ledgers_balanced(&ledgers)));
    json_object_set_new(root, "flows", flows);
    CM_CLEANUP(cm_free) char *text = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    if (!text)
        abort();
    cm_buffer_printf(out, "%s", text);
}

/* ---- metrics -------------------------------------------------------------------------------- */

static double resident_bytes(void)
{
    unsigned long long total = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (!file || fscanf(file, "%llu %llu", &total, &resident) != 2)
        resident = 0;
    if (file)
        fclose(file);
    return (double)resident * (double)sysconf(_SC_PAGESIZE);
}

static double open_fds(void)
{
    DIR *directory = opendir("/proc/self/fd");
    if (!directory)
        return 0;
    int count = -3; /* ".", ".." and the one that reads */
    while (readdir(directory))
        count++;
    closedir(directory);
    return count;
}

static double cpu_seconds(void)
{
    struct timespec used = {0, 0};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (double)used.tv_sec + (double)used.tv_nsec / 1e9;
}

static void set_gauge(cm_metrics_t *own, const char *name, const char *help, const char *labels,
                      double value)
{
    cm_metric_set(cm_metrics_gauge(own, name, help, labels), value);
}

static void set_labelled(cm_metrics_t *own, const char *name, const char *help, const char *label,
                         const char *label_value, double value)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t labels = {0};
    cm_metrics_label(&labels, label, label_value);
    set_gauge(own, name, help, cm_buffer_text(&labels), value);
}

static void set_states(cm_metrics_t *own, const cm_monitor_view_t *self)
{
    for (const actor_t *actor = self->actors; actor; actor = actor->hh.next) {
        CM_CLEANUP(cm_buffer_destroy) cm_buffer_t labels = {0};
        cm_metrics_label(&labels, "actor", actor->name);
        cm_metrics_label(&labels, "state", cm_actor_state_name(actor->state));
        set_gauge(own, "client_manager_actor_state", "1 for the state each actor is in.",
                  cm_buffer_text(&labels), 1);
    }
}

static void set_flow(cm_metrics_t *own, const char *flow, const cm_ledger_t *ledger)
{
    bucket_t counts[COUNTS];
    list_counts(ledger, counts);
    for (size_t i = 0; i < BUCKETS; i++) {
        CM_CLEANUP(cm_buffer_destroy) cm_buffer_t labels = {0};
        cm_metrics_label(&labels, "flow", flow);
        cm_metrics_label(&labels, "bucket", counts[i].name);
        set_gauge(own, "client_manager_ledger",
                  "Messages received, and what has become of them, by flow.",
                  cm_buffer_text(&labels), (double)counts[i].count);
    }
    set_labelled(own, "client_manager_ledger_drift",
                 "Messages received minus all other buckets; 0 when balanced.", "flow", flow,
                 (double)cm_ledger_drift(ledger));
}

static void set_ledgers(cm_metrics_t *own, const cm_monitor_view_t *self)
{
    cm_ledgers_t ledgers = cm_monitor_view_ledgers(self);
    for (int flow = 0; flow < CM_FLOW_COUNT; flow++)
        set_flow(own, cm_flow_name((cm_flow_t)flow), &ledgers.flows[flow]);
}

void cm_monitor_view_metrics(cm_monitor_view_t *self, cm_moment_t now, bool openmetrics,
                             cm_buffer_t *out)
{
    /* A fresh set each time: a series that is not told again, as a former state, is gone. */
    CM_CLEANUP(cm_metrics_destroy) cm_metrics_t *own = cm_metrics_new("monitor");
    set_states(own, self);
    set_ledgers(own, self);
    set_labelled(own, "client_manager_build_info", "1, with the version as label.", "version",
                 self->version, 1);
    set_gauge(own, "process_resident_memory_bytes", "Resident memory size in bytes.", "",
              resident_bytes());
    set_gauge(own, "process_open_fds", "Number of open file descriptors.", "", open_fds());
    set_gauge(own, "process_start_time_seconds", "Start of the process, seconds since 1970.", "",
              self->process_start_s);
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t frame = {0};
    cm_metrics_encode(own, &frame);
    cm_metrics_board_put(self->board, frame.data, frame.len, now.mono_ms, NULL);

    /* By hand, since our counters count whole things. */
    const char *family = openmetrics ? "process_cpu_seconds" : "process_cpu_seconds_total";
    cm_buffer_printf(out,
                     "# HELP %s User and system CPU time spent in seconds.\n"
                     "# TYPE %s counter\nprocess_cpu_seconds_total %.6f\n",
                     family, family, cpu_seconds());
    cm_metrics_board_render(self->board, openmetrics, out);
}
