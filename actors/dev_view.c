#include "actors/dev_view.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"

#include <stdio.h>

enum { TERMINAL_MS = 250, PLAIN_MS = 10000 };

/* The URI of a server of others can hold a password. */
static const char *shown(const char *uri, bool ours, const char *instead)
{
    return ours ? uri : instead;
}

void cm_dev_view_start(cm_dev_view_t *self, bool terminal, bool color,
                       const cm_dev_servers_t *servers, const char *listen)
{
    *self = (cm_dev_view_t){.terminal = terminal, .color = color};
    fprintf(stderr, "client-manager %s dev   data %s (%s)\n", CM_VERSION, servers->directory,
            servers->keep ? "kept" : "removed on exit");
    if (servers->postgres)
        fprintf(stderr, "[ok] postgres private %.1fs   ", (double)servers->postgres_ms / 1000);
    else
        fprintf(stderr, "[ok] postgres as given   ");
    if (servers->redis)
        fprintf(stderr, "[ok] redis private %.1fs\n", (double)servers->redis_ms / 1000);
    else
        fprintf(stderr, "[ok] redis as given\n");
    fprintf(stderr,
            "metrics http://%s/metrics\n"
            "health  http://%s/readyz?verbose\n"
            "look inside, in another terminal:\n"
            "  export CM_POSTGRES_URI='%s'\n"
            "  export CM_REDIS_URI='%s'\n"
            "  client-manager dead-letters list    or    psql \"$CM_POSTGRES_URI\"\n",
            listen, listen,
            shown(servers->postgres_uri, servers->postgres != 0, "postgresql://..."),
            shown(servers->redis_uri, servers->redis != 0, "redis://..."));
    cm_progress_start(&self->tenants, "tenants", terminal);
    self->rate_ms = self->shown_ms = cm_clock_mono_ms();
}

void cm_dev_view_tenants(cm_dev_view_t *self, int64_t active, int64_t total)
{
    cm_progress_update(&self->tenants, (uint64_t)active, (uint64_t)total, "activated");
}

void cm_dev_view_tenants_done(cm_dev_view_t *self, int64_t active, int64_t total)
{
    cm_progress_end(&self->tenants, (uint64_t)active, (uint64_t)total, "activated");
}

bool cm_dev_view_due(cm_dev_view_t *self)
{
    int64_t now_ms = cm_clock_mono_ms();
    if (now_ms - self->shown_ms < (self->terminal ? TERMINAL_MS : PLAIN_MS))
        return false;
    self->shown_ms = now_ms;
    return true;
}

static uint64_t ended(const cm_ledger_t *ledger)
{
    return ledger->applied + ledger->stale + ledger->duplicate + ledger->dropped + ledger->dead;
}

static void measure(cm_dev_view_t *self, uint64_t ended_now)
{
    int64_t now_ms = cm_clock_mono_ms(), passed_ms = now_ms - self->rate_ms;
    if (passed_ms < 1000)
        return;
    self->events_per_second = (double)(ended_now - self->ended) * 1000 / (double)passed_ms;
    self->rate_ms = now_ms;
    self->ended = ended_now;
}

const char *cm_dev_view_count(char text[CM_COUNT_MAX], uint64_t count)
{
    static const char units[] = "kMGTPE";
    if (count < 1000) {
        snprintf(text, CM_COUNT_MAX, "%d", (int)count);
        return text;
    }
    double value = (double)count / 1000;
    int unit = 0;
    for (; value >= 999.5; unit++)
        value /= 1000;
    snprintf(text, CM_COUNT_MAX, "%.*f%c",
             value < 9.995   ? 2
             : value < 99.95 ? 1
                             : 0,
             value, units[unit]);
    return text;
}

/* What matters most stands first: a narrow terminal cuts the end off. */
void cm_dev_view_flow(cm_dev_view_t *self, const cm_ledgers_t *ledgers, uint64_t published,
                      uint64_t events)
{
    cm_ledger_t sum = cm_ledgers_sum(ledgers);
    const struct {
        const char *name;
        uint64_t count;
    } parts[] = {{"published", published},     {"applied", sum.applied},     {"dead", sum.dead},
                 {"retrying", sum.retrying},   {"in flight", sum.in_flight}, {"stale", sum.stale},
                 {"duplicate", sum.duplicate}, {"dropped", sum.dropped}};
    char bar[CM_BAR_MAX], line[320], count[CM_COUNT_MAX];
    measure(self, ended(&sum));
    cm_progress_bar(bar, ended(&sum), events);
    size_t used = (size_t)snprintf(line, sizeof line, "%s%s%s/s  %s", bar, *bar ? " " : "",
                                   cm_dev_view_count(count, (uint64_t)self->events_per_second),
                                   cm_ledgers_balanced(ledgers) ? "balanced" : "NOT BALANCED");
    for (size_t i = 0; i < CM_LENGTH(parts); i++)
        used += (size_t)snprintf(line + used, sizeof line - used, "  %s %s", parts[i].name,
                                 cm_dev_view_count(count, parts[i].count));
    cm_progress_draw(line, self->terminal, false);
    self->open = self->terminal;
}

void cm_dev_view_break(cm_dev_view_t *self)
{
    if (self->open)
        fputc('\n', stderr);
    self->open = false;
}

void cm_dev_view_stop(cm_dev_view_t *self)
{
    cm_dev_view_break(self);
    fputs("stopping: what is in hand is finished first\n", stderr);
}

static void tell_ledger(const cm_dev_view_t *self, const char *name, const cm_ledger_t *ledger,
                        bool balanced)
{
    const char *on = self->color ? (balanced ? "\033[32m" : "\033[31m") : "";
    fprintf(stderr,
            "%s: %llu in = %llu applied + %llu stale + %llu duplicate + %llu dropped + %llu "
            "retrying + %llu dead + %llu in flight: %s%s%s\n",
            name, (unsigned long long)ledger->received, (unsigned long long)ledger->applied,
            (unsigned long long)ledger->stale, (unsigned long long)ledger->duplicate,
            (unsigned long long)ledger->dropped, (unsigned long long)ledger->retrying,
            (unsigned long long)ledger->dead, (unsigned long long)ledger->in_flight, on,
            balanced ? "balanced" : "NOT BALANCED", self->color ? "\033[0m" : "");
}

void cm_dev_view_end(cm_dev_view_t *self, const cm_ledgers_t *ledgers, bool balanced)
{
    cm_ledger_t sum = cm_ledgers_sum(ledgers);
    for (int i = 0; i < CM_FLOW_COUNT; i++) {
        const cm_ledger_t *flow = &ledgers->flows[i];
        char name[32];
        if (!flow->received && cm_ledger_drift(flow) == 0)
            continue;
        snprintf(name, sizeof name, "  %s", cm_flow_name((cm_flow_t)i));
        tell_ledger(self, name, flow, cm_ledger_drift(flow) == 0);
    }
    tell_ledger(self, "ledger", &sum, balanced);
}
