#include "actors/monitor_view.h"
#include "runtime/metrics.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

static const char *const expected[] = {"writer/0", "gateway"};
static cm_monitor_view_t *view;
static cm_buffer_t text;
static const cm_moment_t start = {1763654400000, 50000}; /* 2025-11-20T16:00:00Z */

static cm_moment_t after(int64_t ms)
{
    return (cm_moment_t){start.epoch_ms + ms, start.mono_ms + ms};
}

static void set_up(void)
{
    view = cm_monitor_view_new("1.2.3", expected, 2, 1000, start);
}

static void tear_down(void)
{
    cm_monitor_view_destroy(&view);
    cm_monitor_view_destroy(&view); /* safe twice */
    cm_buffer_destroy(&text);
}

TestSuite(monitor_view, .init = set_up, .fini = tear_down, .timeout = 20);

static void put_state(const char *source, cm_actor_state_t state, const char *why, int64_t ms)
{
    cm_report_t report = {
        .kind = CM_REPORT_STATE, .source = cm_str(source), .state = state, .text = cm_str(why)};
    cr_assert(eq(int, cm_monitor_view_put(view, &report, after(ms), NULL), CM_OK));
}

/* Of the devices alone. */
static void put_ledger(const char *source, cm_ledger_t ledger)
{
    cm_report_t report = {.kind = CM_REPORT_LEDGER,
                          .source = cm_str(source),
                          .ledgers.flows[CM_FLOW_DEVICES] = ledger};
    cr_assert(eq(int, cm_monitor_view_put(view, &report, start, NULL), CM_OK));
}

static char *live(int64_t ms, bool *ret_live)
{
    cm_buffer_clear(&text);
    *ret_live = cm_monitor_view_live(view, after(ms), &text);
    return (char *)cm_buffer_text(&text);
}

static char *ready(bool verbose, bool *ret_ready)
{
    cm_buffer_clear(&text);
    *ret_ready = cm_monitor_view_ready(view, verbose, &text);
    return (char *)cm_buffer_text(&text);
}

static char *metrics(bool openmetrics)
{
    cm_buffer_clear(&text);
    cm_monitor_view_metrics(view, start, openmetrics, &text);
    return (char *)cm_buffer_text(&text);
}

static bool has(const char *piece)
{
    return strstr(cm_buffer_text(&text), piece) != NULL;
}

/* ---- health --------------------------------------------------------------------------------- */

Test(monitor_view, is_live_while_nobody_had_the_time_to_speak)
{
    bool is = false;
    cr_expect(eq(str, live(1000, &is), "ok\n"));
    cr_expect(is);
}

Test(monitor_view, names_each_expected_actor_that_is_silent)
{
    bool is = true;
    put_state("gateway", CM_ACTOR_PAUSED, "", 500);
    cr_expect(eq(str, live(1001, &is), "writer/0 is silent for 1001 ms\n"));
    cr_expect(not(is));
    cr_expect(eq(str, live(2001, &is),
                 "gateway is silent for 1501 ms\nwriter/0 is silent for 2001 ms\n"));
}

Test(monitor_view, every_kind_of_report_is_a_beat)
{
    bool is = false;
    cm_metrics_t *counted = cm_metrics_new("gateway");
    cm_buffer_t frame = {0};
    cm_metrics_encode(counted, &frame);
    cm_report_t beat = {
        .kind = CM_REPORT_METRICS, .source = CM_STR("gateway"), .metrics = {frame.data, frame.len}};
    cr_assert(eq(int, cm_monitor_view_put(view, &beat, after(5000), NULL), CM_OK));
    cm_report_t ledger = {.kind = CM_REPORT_LEDGER, .source = CM_STR("writer/0")};
    cr_assert(eq(int, cm_monitor_view_put(view, &ledger, after(5000), NULL), CM_OK));
    cr_expect(eq(str, live(6000, &is), "ok\n"));
    cm_buffer_destroy(&frame);
    cm_metrics_destroy(&counted);
}

Test(monitor_view, an_actor_nobody_expects_may_fall_silent)
{
    bool is = false;
    put_state("job", CM_ACTOR_RUNNING, "", 0);
    put_state("gateway", CM_ACTOR_RUNNING, "", 9000);
    put_state("writer/0", CM_ACTOR_RUNNING, "", 9000);
    live(9500, &is);
    cr_expect(is);
}

Test(monitor_view, is_not_ready_before_every_expected_actor_runs)
{
    bool is = true;
    put_state("gateway", CM_ACTOR_RUNNING, "", 1);
    cr_expect(eq(str, ready(false, &is), "writer/0 is starting\n"));
    cr_expect(not(is));
    put_state("writer/0", CM_ACTOR_RUNNING, "", 1);
    cr_expect(eq(str, ready(false, &is), "ready\n"));
    cr_expect(is);
    put_state("gateway", CM_ACTOR_DRAINING, "", 1);
    cr_expect(eq(str, ready(false, &is), "gateway is draining\n"));
    cr_expect(not(is));
}

Test(monitor_view, an_actor_nobody_expects_is_not_in_the_way)
{
    bool is = false;
    put_state("gateway", CM_ACTOR_RUNNING, "", 1);
    put_state("writer/0", CM_ACTOR_RUNNING, "", 1);
    put_state("job", CM_ACTOR_STOPPED, "no right", 1);
    ready(false, &is);
    cr_expect(is);
}

Test(monitor_view, verbose_lists_state_since_and_last_error)
{
    bool is = true;
    put_state("gateway", CM_ACTOR_PAUSED, "cannot\nconnect", 1000);
    put_state("gateway", CM_ACTOR_PAUSED, "connection refused\x1b", 2000); /* since stays */
    put_state("job", CM_ACTOR_RUNNING, "", 3000);
    cr_expect(eq(str, ready(true, &is),
                 "[-] gateway paused since 2025-11-20T16:00:01.000Z, last error: connection "
                 "refused \n"
                 "[+] job running since 2025-11-20T16:00:03.000Z\n"
                 "[-] writer/0 starting since 2025-11-20T16:00:00.000Z\n"
                 "not ready\n"));
    cr_expect(not(is));
}

Test(monitor_view, the_last_error_outlives_the_recovery)
{
    bool is = false;
    put_state("gateway", CM_ACTOR_PAUSED, "connection refused", 1000);
    put_state("gateway", CM_ACTOR_RUNNING, "connected again", 2000);
    put_state("writer/0", CM_ACTOR_RUNNING, "", 2000);
    cr_expect(eq(str, ready(true, &is),
                 "[+] gateway running since 2025-11-20T16:00:02.000Z, last error: connection "
                 "refused\n"
                 "[+] writer/0 running since 2025-11-20T16:00:02.000Z\n"
                 "ready\n"));
    cr_expect(is);
}

Test(monitor_view, a_report_without_a_source_is_refused)
{
    cm_error_t err = {0};
    cm_report_t report = {.kind = CM_REPORT_STATE, .source = CM_STR("")};
    cr_expect(eq(int, cm_monitor_view_put(view, &report, start, &err), CM_PERMANENT));
    cr_expect(eq(str, err.code, "malformed"));
}

Test(monitor_view, metrics_that_are_no_snapshot_are_refused)
{
    cm_error_t err = {0};
    cm_report_t report = {
        .kind = CM_REPORT_METRICS, .source = CM_STR("gateway"), .metrics = CM_STR("no snapshot")};
    cr_expect(eq(int, cm_monitor_view_put(view, &report, start, &err), CM_PERMANENT));
}

/* ---- ledger --------------------------------------------------------------------------------- */

static const cm_ledger_t ten = {.received = 10,
                                .applied = 3,
                                .stale = 2,
                                .duplicate = 1,
                                .dropped = 1,
                                .retrying = 1,
                                .dead = 1,
                                .in_flight = 1,
                                .deferred_total = 7,
                                .released_total = 8,
                                .retried_total = 9};

static char *ledger_json(void)
{
    cm_buffer_clear(&text);
    cm_monitor_view_ledger_json(view, &text);
    return (char *)cm_buffer_text(&text);
}

#define NOTHING                                                                                    \
    "\"received\":0,\"applied\":0,\"stale\":0,\"duplicate\":0,\"dropped\":0,\"retrying\":0,"       \
    "\"dead\":0,\"in_flight\":0,\"deferred_total\":0,\"released_total\":0,\"retried_total\":0,"    \
    "\"drift\":0"
#define TWICE_TEN                                                                                  \
    "\"received\":20,\"applied\":6,\"stale\":4,\"duplicate\":2,\"dropped\":2,\"retrying\":2,"      \
    "\"dead\":2,\"in_flight\":2,\"deferred_total\":14,\"released_total\":16,\"retried_total\":18," \
    "\"drift\":0"

Test(monitor_view, an_empty_ledger_is_balanced_and_names_every_flow)
{
    cr_expect(eq(str, ledger_json(),
                 "{" NOTHING ",\"balanced\":true,\"flows\":{\"devices\":{" NOTHING
                 "},\"token-status\":{" NOTHING "},\"activations\":{" NOTHING
                 "},\"account-deletions\":{" NOTHING "},\"contact-deletions\":{" NOTHING
                 "},\"dead-letters\":{" NOTHING "}}}"));
}

Test(monitor_view, sums_the_latest_ledger_of_each_source)
{
    put_ledger("gateway", (cm_ledger_t){.received = 1, .in_flight = 1});
    put_ledger("gateway", ten);
    put_ledger("gateway/1", ten);
    ledger_json();
    cr_expect(has("{" TWICE_TEN ",\"balanced\":true"));
    cr_expect(has("\"devices\":{" TWICE_TEN "},\"token-status\":{" NOTHING "}"));
}

Test(monitor_view, the_sum_is_over_all_flows_but_the_dead_letters)
{
    cm_report_t report = {.kind = CM_REPORT_LEDGER, .source = CM_STR("gateway")};
    report.ledgers.flows[CM_FLOW_TOKEN_STATUS] = report.ledgers.flows[CM_FLOW_DEVICES] = ten;
    report.ledgers.flows[CM_FLOW_DEAD_LETTERS] = (cm_ledger_t){.received = 2, .applied = 2};
    cr_assert(eq(int, cm_monitor_view_put(view, &report, start, NULL), CM_OK));
    ledger_json();
    cr_expect(has("{" TWICE_TEN ",\"balanced\":true"));
    cr_expect(has("\"dead-letters\":{\"received\":2,\"applied\":2,"));
}

Test(monitor_view, one_flow_that_drifts_unbalances_all)
{
    cm_report_t report = {.kind = CM_REPORT_LEDGER, .source = CM_STR("gateway")};
    report.ledgers.flows[CM_FLOW_ACTIVATIONS].received = 1;
    report.ledgers.flows[CM_FLOW_ACCOUNT_DELETIONS].applied = 1;
    cr_assert(eq(int, cm_monitor_view_put(view, &report, start, NULL), CM_OK));
    ledger_json();
    cr_expect(has("\"drift\":0,\"balanced\":false"));
    metrics(false);
    cr_expect(has("client_manager_ledger_drift{flow=\"activations\"} 1\n"));
    cr_expect(has("client_manager_ledger_drift{flow=\"account-deletions\"} -1\n"));
}

Test(monitor_view, a_drift_is_told_with_its_sign)
{
    cm_ledger_t lost = ten;
    lost.received += 5;
    put_ledger("gateway", lost);
    ledger_json();
    cr_expect(has("\"drift\":5,\"balanced\":false"));
    lost.received -= 7;
    put_ledger("gateway", lost);
    ledger_json();
    cr_expect(has("\"drift\":-2,\"balanced\":false"));
}

Test(monitor_view, received_and_retrying_may_go_back_within_one_life)
{
    cm_ledger_t later = ten;
    later.received = 9;
    later.retrying = 0;
    put_ledger("gateway", ten);
    put_ledger("gateway", later);
    cr_expect(eq(u64, cm_monitor_view_ledgers(view).flows[CM_FLOW_DEVICES].received, 9));
}

Test(monitor_view, a_new_life_keeps_what_the_former_one_brought_to_an_end)
{
    put_ledger("gateway", ten);
    put_ledger("gateway", (cm_ledger_t){.received = 3, .applied = 1, .in_flight = 2});
    cm_ledgers_t ledgers = cm_monitor_view_ledgers(view);
    cm_ledger_t sum = ledgers.flows[CM_FLOW_DEVICES];
    cr_expect(eq(u64, sum.applied, 4));
    cr_expect(eq(u64, sum.in_flight, 2));
    cr_expect(eq(u64, sum.retrying, 0));
    cr_expect(eq(u64, sum.received, 8 + 3));
    cr_expect(eq(u64, sum.released_total, 8));
    cr_expect(eq(i64, cm_ledger_drift(&sum), 0));
}

/* ---- metrics -------------------------------------------------------------------------------- */

Test(monitor_view, metrics_show_ledger_states_build_and_process)
{
    put_ledger("gateway", ten);
    put_state("gateway", CM_ACTOR_RUNNING, "", 0);
    metrics(false);
    cr_expect(has("# TYPE client_manager_ledger gauge\n"));
    cr_expect(has("client_manager_ledger{flow=\"devices\",bucket=\"received\"} 10\n"));
    cr_expect(has("client_manager_ledger{flow=\"devices\",bucket=\"in_flight\"} 1\n"));
    cr_expect(not(has("deferred_total")));
    cr_expect(has("client_manager_ledger_drift{flow=\"devices\"} 0\n"));
    cr_expect(has("client_manager_build_info{version=\"1.2.3\"} 1\n"));
    cr_expect(has("client_manager_actor_state{actor=\"gateway\",state=\"running\"} 1\n"));
    cr_expect(has("client_manager_actor_state{actor=\"writer/0\",state=\"starting\"} 1\n"));
    cr_expect(has("# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total "));
    cr_expect(has("\nprocess_resident_memory_bytes "));
    cr_expect(has("\nprocess_open_fds "));
    cr_expect(has("\nprocess_start_time_seconds "));
    cr_expect(not(has("# EOF")));
}

Test(monitor_view, a_state_that_is_over_is_gone_from_the_metrics)
{
    metrics(false);
    put_state("gateway", CM_ACTOR_RUNNING, "", 0);
    metrics(false);
    cr_expect(has("actor=\"gateway\",state=\"running\""));
    cr_expect(not(has("actor=\"gateway\",state=\"starting\"")));
}

Test(monitor_view, openmetrics_names_the_counter_family_without_total_and_ends)
{
    metrics(true);
    cr_expect(has("# TYPE process_cpu_seconds counter\nprocess_cpu_seconds_total "));
    cr_expect(eq(str, (char *)text.data + text.len - strlen("\n# EOF\n"), "\n# EOF\n"));
}

Test(monitor_view, metrics_of_the_actors_are_shown)
{
    cm_metrics_t *counted = cm_metrics_new("gateway");
    cm_metric_add(cm_metrics_counter(counted, "client_manager_pulls_total", "Pulls.", ""), 5);
    cm_buffer_t frame = {0};
    cm_metrics_encode(counted, &frame);
    cm_report_t report = {
        .kind = CM_REPORT_METRICS, .source = CM_STR("gateway"), .metrics = {frame.data, frame.len}};
    cr_assert(eq(int, cm_monitor_view_put(view, &report, start, NULL), CM_OK));
    metrics(false);
    cr_expect(has("client_manager_pulls_total 5\n"));
    cm_buffer_destroy(&frame);
    cm_metrics_destroy(&counted);
}

Test(monitor_view, the_process_started_before_now_and_after_the_machine)
{
    cm_monitor_view_t *mine = cm_monitor_view_new("1", NULL, 0, 1, start);
    cm_buffer_t out = {0};
    cm_monitor_view_metrics(mine, start, false, &out);
    char *line = strstr(cm_buffer_text(&out), "\nprocess_start_time_seconds ");
    double at = line ? strtod(strchr(line + 1, ' '), NULL) : 0;
    cr_expect(le(dbl, at, (double)start.epoch_ms / 1000 + 1));
    cr_expect(gt(dbl, at, (double)start.epoch_ms / 1000 - 3600));
    cm_buffer_destroy(&out);
    cm_monitor_view_destroy(&mine);
}
