/* report - medians, spreads and ratios of the runs on standard input, as tables and as JSON.
 *
 *   bench_report [FILE] <RESULTS     FILE takes the JSON
 *
 * RESULTS is a JSON object a line: the conditions, then runs and latencies (see bench/run). A ratio
 * is taken within each round, since the machine drifts between rounds, and the median of these is
 * told.
 */
#include "bench/setup.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS_MAX = 1000, BAR_WIDTH = 40 };
#define TARGET            0.85 /* of the floor */
#define TARGET_STATEMENTS 0.7  /* of the bare statements, of verdicts and contact deletions */

typedef struct {
    double median, min, max;
    size_t count;
} figure_t;

typedef struct {
    json_t *lines;      /* all runs and latencies */
    json_t *conditions; /* borrowed from lines */
    json_t *names;      /* profiles in order of appearance */
    json_t *result;
} report_t;

static int by_value(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static figure_t figure_of(double *values, size_t count)
{
    if (!count)
        return (figure_t){0};
    qsort(values, count, sizeof *values, by_value);
    double middle = count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
    return (figure_t){middle, values[0], values[count - 1], count};
}

/* ---- reading -------------------------------------------------------------------------------- */

static const char *text_of(const json_t *line, const char *key)
{
    const char *text = json_string_value(json_object_get(line, key));
    return text ? text : "";
}

static double number_of(const json_t *line, const char *key)
{
    return json_number_value(json_object_get(line, key));
}

static bool is_in(const json_t *names, const char *name)
{
    size_t i;
    json_t *item;
    json_array_foreach(names, i, item)
    {
        if (strcmp(json_string_value(item), name) == 0)
            return true;
    }
    return false;
}

static void read_all(report_t *self)
{
    char *line = NULL;
    size_t cap = 0;
    self->lines = json_array();
    self->names = json_array();
    self->result = json_object();
    while (getline(&line, &cap, stdin) > 0) {
        json_t *item = json_loads(line, 0, NULL);
        if (!item)
            cm_bench_fail("no JSON: %s", line);
        json_array_append_new(self->lines, item);
        if (strcmp(text_of(item, "kind"), "conditions") == 0)
            self->conditions = item;
        else if (!is_in(self->names, text_of(item, "profile")))
            json_array_append_new(self->names, json_string(text_of(item, "profile")));
    }
    free(line);
    if (!self->conditions)
        cm_bench_fail("no conditions");
}

static bool is_run(const json_t *line, const char *profile, const char *variant)
{
    return strcmp(text_of(line, "kind"), "run") == 0 &&
           strcmp(text_of(line, "profile"), profile) == 0 &&
           (!variant || strcmp(text_of(line, "variant"), variant) == 0);
}

static json_t *variants_of(const report_t *self, const char *profile)
{
    json_t *variants = json_array();
    size_t i;
    json_t *line;
    json_array_foreach(self->lines, i, line)
    {
        if (is_run(line, profile, NULL) && !is_in(variants, text_of(line, "variant")))
            json_array_append_new(variants, json_string(text_of(line, "variant")));
    }
    return variants;
}

static figure_t figure(const report_t *self, const char *profile, const char *variant,
                       const char *key)
{
    double values[ROUNDS_MAX];
    size_t count = 0, i;
    json_t *line;
    json_array_foreach(self->lines, i, line)
    {
        if (is_run(line, profile, variant) && count < ROUNDS_MAX)
            values[count++] = number_of(line, key);
    }
    return figure_of(values, count);
}

static const json_t *run_in_round(const report_t *self, const char *profile, const char *variant,
                                  double round)
{
    size_t i;
    json_t *line;
    json_array_foreach(self->lines, i, line)
    {
        if (is_run(line, profile, variant) && number_of(line, "round") == round)
            return line;
    }
    return NULL;
}

static double cpu_us(const json_t *line)
{
    return number_of(line, "client_us") + number_of(line, "postgres_us") +
           number_of(line, "redis_us");
}

typedef enum { BY_RATE, BY_CPU } ratio_t;

/* Rate of the service over that of variant, round by round; or the same of events a CPU second,
 * which other work on the machine does not bend. */
static figure_t ratio(const report_t *self, const char *profile, const char *variant, ratio_t by)
{
    double values[ROUNDS_MAX];
    size_t count = 0, i;
    json_t *line;
    json_array_foreach(self->lines, i, line)
    {
        if (!is_run(line, profile, "service") || count == ROUNDS_MAX)
            continue;
        const json_t *other = run_in_round(self, profile, variant, number_of(line, "round"));
        if (other && by == BY_RATE)
            values[count++] = number_of(line, "rate") / number_of(other, "rate");
        else if (other && cpu_us(line) > 0)
            values[count++] = cpu_us(other) / cpu_us(line);
    }
    return figure_of(values, count);
}

/* The fastest floor that has the service's connections; "" when none was run. */
static const char *floor_of(const report_t *self, const char *profile)
{
    const char *best = "";
    double best_rate = 0;
    size_t i;
    json_t *line;
    json_array_foreach(self->lines, i, line)
    {
        if (!is_run(line, profile, NULL) || strcmp(text_of(line, "ceiling"), "floor") != 0)
            continue;
        double rate = figure(self, profile, text_of(line, "variant"), "rate").median;
        if (rate > best_rate) {
            best_rate = rate;
            best = text_of(line, "variant");
        }
    }
    return best;
}

/* ---- tables --------------------------------------------------------------------------------- */

/* 1234567 as "1,234,567" into text; returns text. */
static const char *grouped(double value, char text[32])
{
    char digits[32];
    snprintf(digits, sizeof digits, "%.0f", value);
    size_t len = strlen(digits), used = 0;
    for (size_t i = 0; i < len; i++) {
        if (i && (len - i) % 3 == 0)
            text[used++] = ',';
        text[used++] = digits[i];
    }
    text[used] = '\0';
    return text;
}

static json_t *figure_json(figure_t figure)
{
    return json_pack("{s:f, s:f, s:f}", "median", figure.median, "min", figure.min, "max",
                     figure.max);
}

static void print_variant(const report_t *self, const char *profile, const char *variant,
                          json_t *out)
{
    static const char *const keys[] = {"rate",     "client_us", "postgres_us",
                                       "redis_us", "inserted",  "updated",
                                       "hot",      "deleted",   "peak_rss_kb"};
    enum { RATE, CLIENT, POSTGRES, REDIS, INSERTED, UPDATED, HOT, DELETED, RSS, KEYS };
    figure_t figures[KEYS];
    json_t *member = json_object();
    for (int k = 0; k < KEYS; k++) {
        figures[k] = figure(self, profile, variant, keys[k]);
        json_object_set_new(member, keys[k], figure_json(figures[k]));
    }
    double spread = (figures[RATE].max - figures[RATE].min) / figures[RATE].median;
    json_object_set_new(member, "spread", json_real(spread));
    json_object_set_new(out, variant, member);
    char rate[32], inserted[32], updated[32], hot[32], deleted[32];
    char rss[32] = "-"; /* the statements hold all events in memory, which says nothing */
    if (figures[RSS].max > 0)
        snprintf(rss, sizeof rss, "%.1f", figures[RSS].max / 1024);
    double cores = figures[RATE].median / 1e6 *
                   (figures[CLIENT].median + figures[POSTGRES].median + figures[REDIS].median);
    printf("  %-19s %9s %5.0f %% %8.2f %8.2f %7.2f %6.2f %7s %10s %10s %10s %10s\n", variant,
           grouped(figures[RATE].median, rate), spread * 100, figures[CLIENT].median,
           figures[POSTGRES].median, figures[REDIS].median, cores, rss,
           grouped(figures[INSERTED].median, inserted), grouped(figures[UPDATED].median, updated),
           grouped(figures[HOT].median, hot), grouped(figures[DELETED].median, deleted));
}

static void print_ratio(const report_t *self, const char *profile, const char *variant, json_t *out)
{
    figure_t rate = ratio(self, profile, variant, BY_RATE);
    figure_t cpu = ratio(self, profile, variant, BY_CPU);
    printf("  service / %-22s %.2f   (%.2f .. %.2f)   a CPU second %.2f\n", variant, rate.median,
           rate.min, rate.max, cpu.median);
    json_object_set_new(
        out, variant, json_pack("{s:o, s:o}", "rate", figure_json(rate), "cpu", figure_json(cpu)));
}

static void print_latency(const report_t *self, const char *profile, json_t *out)
{
    size_t i;
    json_t *line;
    char rate[32], samples[32];
    json_array_foreach(self->lines, i, line)
    {
        if (strcmp(text_of(line, "kind"), "latency") != 0 ||
            strcmp(text_of(line, "profile"), profile) != 0)
            continue;
        printf("  publish to commit at %s events/s: p50 %.0f ms, p99 %.0f ms, p99.9 %.0f ms, "
               "max %.0f ms (%s rows)\n",
               grouped(number_of(line, "rate"), rate), number_of(line, "p50_ms"),
               number_of(line, "p99_ms"), number_of(line, "p999_ms"), number_of(line, "max_ms"),
               grouped(number_of(line, "samples"), samples));
        json_object_set(out, "latency", line);
    }
}

static void print_profile(report_t *self, const char *profile)
{
    json_t *member = json_object(), *variants = json_object(), *ratios = json_object();
    json_t *names = variants_of(self, profile);
    printf("\ntenants: %-17s                    CPU microseconds an event            MiB      "
           "     "
           "rows of "
           "devices\n",
           profile);
    printf("  %-19s %9s %7s %8s %8s %7s %6s %7s %10s %10s %10s %10s\n", "", "events/s", "spread",
           "client", "postgres", "redis", "cores", "RSS", "inserted", "updated", "HOT", "deleted");
    size_t i;
    json_t *name;
    json_array_foreach(names, i, name)
    {
        print_variant(self, profile, json_string_value(name), variants);
    }
    json_array_foreach(names, i, name)
    {
        const char *variant = json_string_value(name);
        if (strcmp(variant, "service") != 0)
            print_ratio(self, profile, variant, ratios);
    }
    print_latency(self, profile, member);
    const char *floor = floor_of(self, profile);
    json_object_set_new(member, "floor", json_string(floor));
    json_object_set_new(member, "service/floor", figure_json(ratio(self, profile, floor, BY_RATE)));
    json_object_set_new(member, "service/statements",
                        figure_json(ratio(self, profile, "statements", BY_RATE)));
    json_object_set_new(member, "variants", variants);
    json_object_set_new(member, "ratios", ratios);
    json_object_set_new(self->result, profile, member);
    json_decref(names);
}

/* ---- the picture ----------------------------------------------------------------------------- */

static void print_bar(const char *what, double value, double wanted)
{
    int target = (int)(wanted * BAR_WIDTH + 0.5), filled = (int)(value * BAR_WIDTH + 0.5);
    printf("    %-21s %5.2f  ", what, value);
    for (int i = 0; i < BAR_WIDTH || i < filled; i++)
        putchar(i == target ? '|' : i < filled ? '#' : '.');
    putchar('\n');
}

static void print_shares(const report_t *self, const char *profile)
{
    const char *const ceilings[] = {floor_of(self, profile), "statements"};
    printf("  tenants: %s\n", profile);
    for (size_t i = 0; i < sizeof ceilings / sizeof ceilings[0]; i++) {
        figure_t share = ratio(self, profile, ceilings[i], BY_RATE);
        if (share.count)
            print_bar(ceilings[i], share.median, *ceilings[0] ? TARGET : TARGET_STATEMENTS);
    }
}

static void print_picture(const report_t *self)
{
    size_t i;
    json_t *name;
    printf("\nThe service as a share of its ceilings (| at the target, full width 1.00)\n");
    json_array_foreach(self->names, i, name)
    {
        print_shares(self, json_string_value(name));
    }
}

static bool has_ceilings(const report_t *self)
{
    size_t i;
    json_t *line;
    json_array_foreach(self->lines, i, line)
    {
        if (strcmp(text_of(line, "variant"), "statements") == 0)
            return true;
    }
    return false;
}

static void print_conditions(const report_t *self)
{
    const json_t *given = self->conditions;
    char events[32], devices[32];
    if (number_of(given, "event_bytes") > 0)
        printf("%s events of %.0f bytes a run, 90 %% updates, 10 %% new devices; ",
               grouped(number_of(given, "events"), events), number_of(given, "event_bytes"));
    printf(
        "%s verdicts a run, a tenth as many contact deletions; %s devices, %.0f rounds, medians\n",
        grouped(number_of(given, "events"), events), grouped(number_of(given, "devices"), devices),
        number_of(given, "rounds"));
    printf("%.0f cores (%s), %s, load before %.2f, PostgreSQL %s, Redis %s, %.0f writer shards\n"
           "commit %s, %s\n",
           number_of(given, "cores"), text_of(given, "cpu"), text_of(given, "filesystem"),
           number_of(given, "load_before"), text_of(given, "postgres"), text_of(given, "redis"),
           number_of(given, "shards"), text_of(given, "commit"), text_of(given, "when"));
}

int main(int argc, char **argv)
{
    report_t self = {0};
    read_all(&self);
    print_conditions(&self);
    size_t i;
    json_t *name;
    json_array_foreach(self.names, i, name)
    {
        print_profile(&self, json_string_value(name));
    }
    if (has_ceilings(&self))
        print_picture(&self);
    if (argc > 1) {
        json_t *all = json_pack("{s:O, s:O, s:O}", "conditions", self.conditions, "profiles",
                                self.result, "runs", self.lines);
        if (json_dump_file(all, argv[1], JSON_INDENT(1)) != 0)
            cm_bench_fail("%s cannot be written", argv[1]);
        json_decref(all);
    }
    json_decref(self.lines);
    json_decref(self.names);
    json_decref(self.result);
    return 0;
}
