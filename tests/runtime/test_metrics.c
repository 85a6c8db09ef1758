#include "runtime/cleanup.h"
#include "runtime/metrics.h"
#include "runtime/metrics_private.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <math.h>
#include <msgpack.h>
#include <string.h>

#define EVENTS "client_manager_events_total"
#define DEPTH  "client_manager_depth"
#define TIME   "client_manager_commit_seconds"

static cm_status_t put(cm_metrics_board_t *board, const cm_metrics_t *metrics, int64_t now_ms)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t frame = {0};
    cm_metrics_encode(metrics, &frame);
    cm_error_t err = {0};
    return cm_metrics_board_put(board, frame.data, frame.len, now_ms, &err);
}

static void must_put(cm_metrics_board_t *board, const cm_metrics_t *metrics)
{
    cr_assert(eq(int, put(board, metrics, 0), CM_OK));
}

static cm_metric_t *events(cm_metrics_t *metrics, const char *labels)
{
    return cm_metrics_counter(metrics, EVENTS, "Events.", labels);
}

static cm_metric_t *depth(cm_metrics_t *metrics)
{
    return cm_metrics_gauge(metrics, DEPTH, "Waiting.", "");
}

static cm_metric_t *commit_time(cm_metrics_t *metrics)
{
    return cm_metrics_histogram(metrics, TIME, "Time of a commit.", "");
}

static void observe_many(cm_metric_t *metric, double seconds, uint64_t count)
{
    while (count--)
        cm_metric_observe(metric, seconds);
}

static void expect_text(const cm_metrics_board_t *board, int openmetrics, const char *expected)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t text = {0};
    cm_metrics_board_render(board, openmetrics, &text);
    cr_expect(eq(str, (char *)cm_buffer_text(&text), expected));
}

/* ---- counting ------------------------------------------------------------------------------- */

Test(metrics, registering_again_finds_the_same_series)
{
    CM_CLEANUP(cm_metrics_destroy) cm_metrics_t *metrics = cm_metrics_new("writer/0");
    cm_metric_t *applied = events(metrics, "outcome=\"applied\"");
    cm_metric_t *stale = events(metrics, "outcome=\"stale\"");
    cr_expect(ne(ptr, applied, stale));
    cr_expect(eq(ptr, events(metrics, "outcome=\"applied\""), applied));
    cm_metric_add(applied, 2);
    cm_metric_add(applied, 3);
    cr_expect(eq(u64, cm_metric_count(applied), 5));
    cr_expect(eq(u64, cm_metric_count(stale), 0));
}

Test(metrics, a_value_on_a_bound_belongs_to_its_bucket)
{
    CM_CLEANUP(cm_metrics_destroy) cm_metrics_t *metrics = cm_metrics_new("w");
    CM_CLEANUP(cm_metrics_board_destroy) cm_metrics_board_t *board = cm_metrics_board_new();
    cm_metric_t *time = commit_time(metrics);
    cm_metric_observe(time, 0.005);
    cm_metric_observe(time, 0.0051);
    observe_many(time, 10, 2);
    cm_metric_observe(time, 11);
    cm_metric_observe(time, -1);
    cm_metric_observe(time, NAN);
    cr_expect(eq(u64, cm_metric_count(time), 6));
    must_put(board, metrics);
    expect_text(board, 0,
                "# HELP " TIME " Time of a commit.\n"
                "# TYPE " TIME " histogram\n" TIME "_bucket{le=\"0.005\"} 2\n" TIME
                "_bucket{le=\"0.01\"} 3\n" TIME "_bucket{le=\"0.025\"} 3\n" TIME
                "_bucket{le=\"0.05\"} 3\n" TIME "_bucket{le=\"0.075\"} 3\n" TIME
                "_bucket{le=\"0.1\"} 3\n" TIME "_bucket{le=\"0.25\"} 3\n" TIME
                "_bucket{le=\"0.5\"} 3\n" TIME "_bucket{le=\"0.75\"} 3\n" TIME
                "_bucket{le=\"1.0\"} 3\n" TIME "_bucket{le=\"2.5\"} 3\n" TIME
                "_bucket{le=\"5.0\"} 3\n" TIME "_bucket{le=\"7.5\"} 3\n" TIME
                "_bucket{le=\"10.0\"} 5\n" TIME "_bucket{le=\"+Inf\"} 6\n" TIME
                "_sum 31.0101\n" TIME "_count 6\n");
}

Test(metrics, label_values_are_escaped)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t labels = {0};
    cm_metrics_label(&labels, "tenant", "a\"b\\c\nd");
    cm_metrics_label(&labels, "outcome", "");
    cr_expect(eq(str, (char *)cm_buffer_text(&labels), "tenant=\"a\\\"b\\\\c\\nd\",outcome=\"\""));
}

/* ---- the board ------------------------------------------------------------------------------ */

Test(metrics, a_series_is_summed_over_its_sources)
{
    CM_CLEANUP(cm_metrics_destroy) cm_metrics_t *a = cm_metrics_new("writer/0");
    CM_CLEANUP(cm_metrics_destroy) cm_metrics_t *b = cm_metrics_new("writer/1");
    CM_CLEANUP(cm_metrics_board_destroy) cm_metrics_board_t *board = cm_metrics_board_new();
    cm_metric_add(events(a, "k=\"1\""), 5);
    cm_metric_add(events(b, "k=\"1\""), 7);
    cm_metric_add(events(b, "k=\"2\""), 100);
    cm_metric_set(depth(a), 1.5);
    cm_metric_set(depth(b), 2);
    observe_many(commit_time(a), 0.2, 3);
    observe_many(commit_time(b), 0.2, 4);
    must_put(board, a);
    must_put(board, b);
    cr_expect(epsilon_eq(dbl, cm_metrics_board_value(board, EVENTS, "k=\"1\""), 12, 0));
    cr_expect(epsilon_eq(dbl, cm_metrics_board_value(board, EVENTS, "k=\"2\""), 100, 0));
    cr_expect(epsilon_eq(dbl, cm_metrics_board_value(board, DEPTH, ""), 3.5, 0));
    cr_expect(epsilon_eq(dbl, cm_metrics_board_value(board, TIME, ""), 7, 0));
}

Test(metrics, an_unknown_series_is_zero)
{
    CM_CLEANUP(cm_metrics_destroy) cm_metrics_t *metrics = cm_metrics_new("w");
    CM_CLEANUP(cm_metrics_board_destroy) cm_metrics_board_t *board = cm_metrics_board_new();
    cm_metric_add(events(metrics, "k=\"1\""), 5);
    must_put(board, metrics);
    cr_expect(epsilon_eq(dbl, cm_metrics_board_value(board, EVENTS, ""), 0, 0));
    cr_expect(epsilon_eq(dbl, cm_metrics_board_value(board, "client_manager_none", ""), 0, 0));
}

Test(metrics, a_later_snapshot_replaces_the_former_one)
{
    CM_CLEANUP(cm_metrics_destroy) cm_metrics_t *metrics = cm_metrics_new("w");
    CM_CLEANUP(cm_metrics_board_destroy) cm_metrics_board_t *board = cm_metrics_board_new();
    cm_metric_add(events(metrics, ""), 5);
    cm_metric_set(depth(metrics), 9);
    must_put(board, metrics);
    cm_metric_add(events(metrics, ""), 1);
    cm_metric_set(depth(metrics), 4);
    must_put(board, metrics);
    cr_expect(epsilon_eq(dbl, cm_metrics_board_value(board, EVENTS, ""), 6, 0));
    cr_expect(epsilon_eq(dbl, cm_metrics_board_value(board, DEPTH, ""), 4, 0));
}

/* One life of the actor "w": it counts and sends once. */
static void live(cm_metrics_board_t *board, uint64_t count, bool with_gauge)
{
    CM_CLEANUP(cm_metrics_destroy) cm_metrics_t *metrics = cm_metrics_new("w");
    if (count > 0) {
        cm_metric_add(events(metrics, ""), count);
        observe_many(commit_time(metrics), 0.5, count);
    }
    if (with_gauge)
        cm_metric_set(depth(metrics), 3);
    must_put(board, metrics);
}

Test(metrics, a_restarted_actor_goes_on_from_its_former_counts)
{
    CM_CLEANUP(cm_metrics_board_destroy) cm_metrics_board_t *board = cm_metrics_board_new();
    live(board, 10, false);
    live(board, 4, false);
    cr_expect(epsilon_eq(dbl, cm_metrics_board_value(board, EVENTS, ""), 14, 0));
    live(board, 50, false); /* more than before: the run tells the restart, not the count */
    cr_expect(epsilon_eq(dbl, cm_metrics_board_value(board, EVENTS, ""), 64, 0));
    cr_expect(epsilon_eq(dbl, cm_metrics_board_value(board, TIME, ""), 64, 0));
    live(board, 0, false); /* not counted anything yet */
    cr_expect(epsilon_eq(dbl, cm_metrics_board_value(board, EVENTS, ""), 64, 0));
}

Test(metrics, a_gauge_that_is_no_longer_told_is_gone)
{
    CM_CLEANUP(cm_metrics_board_destroy) cm_metrics_board_t *board = cm_metrics_board_new();
    live(board, 0, true);
    cr_expect(epsilon_eq(dbl, cm_metrics_board_value(board, DEPTH, ""), 3, 0));
    live(board, 0, false);
    cr_expect(epsilon_eq(dbl, cm_metrics_board_value(board, DEPTH, ""), 0, 0));
    expect_text(board, 0, "");
}

Test(metrics, the_age_of_a_source_runs_from_its_last_snapshot)
{
    CM_CLEANUP(cm_metrics_destroy) cm_metrics_t *metrics = cm_metrics_new("writer/0");
    CM_CLEANUP(cm_metrics_board_destroy) cm_metrics_board_t *board = cm_metrics_board_new();
    cr_expect(eq(i64, cm_metrics_board_age_ms(board, "writer/0", 500), -1));
    cr_assert(eq(int, put(board, metrics, 1000), CM_OK));
    cr_assert(eq(int, put(board, metrics, 2000), CM_OK));
    cr_expect(eq(i64, cm_metrics_board_age_ms(board, "writer/0", 2500), 500));
}

/* ---- text ----------------------------------------------------------------------------------- */

static void fill(cm_metrics_board_t *board)
{
    CM_CLEANUP(cm_metrics_destroy) cm_metrics_t *metrics = cm_metrics_new("w");
    cm_metric_set(cm_metrics_gauge(metrics, "client_manager_z", "a \\ and\na line", ""), 0.1);
    cm_metric_add(events(metrics, "k=\"b\""), UINT64_MAX);
    cm_metric_add(events(metrics, "k=\"a\""), 1);
    cm_metric_set(depth(metrics), INFINITY);
    must_put(board, metrics);
}

Test(metrics, text_is_sorted_and_has_help_and_type_once)
{
    CM_CLEANUP(cm_metrics_board_destroy) cm_metrics_board_t *board = cm_metrics_board_new();
    fill(board);
    expect_text(board, 0,
                "# HELP client_manager_depth Waiting.\n"
                "# TYPE client_manager_depth gauge\n"
                "client_manager_depth +Inf\n"
                "# HELP client_manager_events_total Events.\n"
                "# TYPE client_manager_events_total counter\n"
                "client_manager_events_total{k=\"a\"} 1\n"
                "client_manager_events_total{k=\"b\"} 18446744073709551615\n"
                "# HELP client_manager_z a \\\\ and\\na line\n"
                "# TYPE client_manager_z gauge\n"
                "client_manager_z 0.1\n");
}

Test(metrics, openmetrics_names_counters_without_total_and_ends_with_eof)
{
    CM_CLEANUP(cm_metrics_board_destroy) cm_metrics_board_t *board = cm_metrics_board_new();
    fill(board);
    expect_text(board, 1,
                "# HELP client_manager_depth Waiting.\n"
                "# TYPE client_manager_depth gauge\n"
                "client_manager_depth +Inf\n"
                "# HELP client_manager_events Events.\n"
                "# TYPE client_manager_events counter\n"
                "client_manager_events_total{k=\"a\"} 1\n"
                "client_manager_events_total{k=\"b\"} 18446744073709551615\n"
                "# HELP client_manager_z a \\\\ and\\na line\n"
                "# TYPE client_manager_z gauge\n"
                "client_manager_z 0.1\n"
                "# EOF\n");
}

Test(metrics, labels_of_a_histogram_stand_before_le)
{
    CM_CLEANUP(cm_metrics_destroy) cm_metrics_t *metrics = cm_metrics_new("w");
    CM_CLEANUP(cm_metrics_board_destroy) cm_metrics_board_t *board = cm_metrics_board_new();
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t text = {0};
    cm_metric_observe(cm_metrics_histogram(metrics, TIME, "Time.", "k=\"v\""), 0.25);
    must_put(board, metrics);
    cm_metrics_board_render(board, 0, &text);
    const char *got = cm_buffer_text(&text);
    const char *bucket = strstr(got, "\n" TIME "_bucket{k=\"v\",le=\"0.25\"} 1\n");
    const char *sum = strstr(got, "\n" TIME "_sum{k=\"v\"} 0.25\n" TIME "_count{k=\"v\"} 1\n");
    cr_expect(ne(ptr, (void *)bucket, NULL), "%s", got);
    cr_expect(ne(ptr, (void *)sum, NULL), "%s", got);
}

/* ---- malformed frames ----------------------------------------------------------------------- */

static int append(void *buffer, const char *bytes, size_t len)
{
    cm_buffer_append(buffer, bytes, len);
    return 0;
}

typedef struct {
    int version, kind;
    const char *source, *name, *labels;
    bool text_value;
} forged_t;

static cm_status_t put_forged(cm_metrics_board_t *board, const forged_t *forged)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t frame = {0};
    msgpack_packer packer;
    msgpack_packer_init(&packer, &frame, append);
    msgpack_pack_array(&packer, 4);
    msgpack_pack_int(&packer, forged->version);
    msgpack_pack_str_with_body(&packer, forged->source, strlen(forged->source));
    msgpack_pack_uint64(&packer, 1);
    msgpack_pack_array(&packer, 1);
    msgpack_pack_array(&packer, 4);
    msgpack_pack_int(&packer, forged->kind);
    msgpack_pack_str_with_body(&packer, forged->name, strlen(forged->name));
    msgpack_pack_str_with_body(&packer, "help", 4);
    msgpack_pack_array(&packer, 1);
    msgpack_pack_array(&packer, 2);
    msgpack_pack_str_with_body(&packer, forged->labels, strlen(forged->labels));
    if (forged->text_value)
        msgpack_pack_str_with_body(&packer, "5", 1);
    else
        msgpack_pack_int(&packer, 5);
    cm_error_t err = {0};
    cm_status_t status = cm_metrics_board_put(board, frame.data, frame.len, 0, &err);
    cr_expect(eq(str, err.code, status == CM_OK ? "" : "malformed"));
    return status;
}

Test(metrics, a_frame_that_is_no_snapshot_is_refused)
{
    CM_CLEANUP(cm_metrics_board_destroy) cm_metrics_board_t *board = cm_metrics_board_new();
    const forged_t good = {1, CM_METRIC_COUNTER, "w", "name_total", "", false};
    forged_t bad[] = {good, good, good, good, good, good, good, good};
    bad[0].version = 2;
    bad[1].kind = 3;
    bad[2].source = "";
    bad[3].name = "name-total";
    bad[4].name = "";
    bad[5].labels = "a=\"b\"} 1\nforged{";
    bad[6].text_value = true;
    bad[7].kind = CM_METRIC_HISTOGRAM; /* an integer is none */
    for (size_t i = 0; i < CM_LENGTH(bad); i++)
        cr_expect(eq(int, put_forged(board, &bad[i]), CM_PERMANENT), "case %zu", i);
    cr_expect(eq(i64, cm_metrics_board_age_ms(board, "w", 0), -1), "nothing was taken");
    cr_expect(eq(int, put_forged(board, &good), CM_OK));
}

Test(metrics, a_family_keeps_its_kind)
{
    CM_CLEANUP(cm_metrics_destroy) cm_metrics_t *metrics = cm_metrics_new("other");
    CM_CLEANUP(cm_metrics_board_destroy) cm_metrics_board_t *board = cm_metrics_board_new();
    cr_assert(eq(int, put_forged(board, &(forged_t){1, 0, "w", "n_total", "", false}), CM_OK));
    cm_metric_set(cm_metrics_gauge(metrics, "n_total", "help", ""), 1);
    cr_expect(eq(int, put(board, metrics, 0), CM_PERMANENT));
}

Test(metrics, a_frame_that_names_a_family_twice_is_refused_whole)
{
    static const char frame[] = "\x94\x01\xa1w\x01\x92"          /* version, source, run, two */
                                "\x94\x01\xa1g\xa1h\x91\x92\xa0" /* gauge g without labels */
                                "\xcb\x3f\xf8\0\0\0\0\0\0"
                                "\x94\x00\xa1g\xa1h\x90"; /* counter g */
    CM_CLEANUP(cm_metrics_board_destroy) cm_metrics_board_t *board = cm_metrics_board_new();
    cr_expect(eq(int, cm_metrics_board_put(board, frame, sizeof frame - 1, 0, NULL), CM_PERMANENT));
    expect_text(board, 0, "");
}

Test(metrics, a_frame_cut_or_continued_is_refused)
{
    CM_CLEANUP(cm_metrics_destroy) cm_metrics_t *metrics = cm_metrics_new("w");
    CM_CLEANUP(cm_metrics_board_destroy) cm_metrics_board_t *board = cm_metrics_board_new();
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t frame = {0};
    cm_metric_add(events(metrics, ""), 1);
    cm_metric_set(depth(metrics), 1);
    cm_metric_observe(commit_time(metrics), 1);
    cm_metrics_encode(metrics, &frame);
    for (size_t len = 0; len < frame.len; len++)
        cr_expect(eq(int, cm_metrics_board_put(board, frame.data, len, 0, NULL), CM_PERMANENT));
    cm_buffer_append(&frame, "", 1);
    cr_expect(eq(int, cm_metrics_board_put(board, frame.data, frame.len, 0, NULL), CM_PERMANENT));
}

Test(metrics, no_flipped_byte_of_a_frame_harms_the_board)
{
    CM_CLEANUP(cm_metrics_destroy) cm_metrics_t *metrics = cm_metrics_new("w");
    CM_CLEANUP(cm_metrics_board_destroy) cm_metrics_board_t *board = cm_metrics_board_new();
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t frame = {0}, text = {0};
    cm_metric_add(events(metrics, "k=\"a\""), 1);
    cm_metric_observe(commit_time(metrics), 1);
    cm_metrics_encode(metrics, &frame);
    for (size_t i = 0; i < frame.len; i++)
        for (int bit = 0; bit < 8; bit++) {
            frame.data[i] = (char)(frame.data[i] ^ (1 << bit));
            cm_metrics_board_put(board, frame.data, frame.len, 0, NULL);
            frame.data[i] = (char)(frame.data[i] ^ (1 << bit));
        }
    cm_metrics_board_render(board, 1, &text);
    cr_expect(eq(int, put(board, metrics, 0), CM_OK));
}

Test(metrics, destroying_twice_or_nothing_is_safe)
{
    cm_metrics_t *metrics = cm_metrics_new("w");
    cm_metrics_destroy(&metrics);
    cm_metrics_destroy(&metrics);
    cm_metrics_board_t *board = cm_metrics_board_new();
    cm_metrics_board_destroy(&board);
    cm_metrics_board_destroy(&board);
    cr_expect(eq(ptr, metrics, NULL));
    cr_expect(eq(ptr, board, NULL));
}
