#include "actors/command.h"
#include "actors/progress.h"
#include "actors/table.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "schema/audit_log.h"
#include "schema/migration.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static cm_status_t open_admin(const cm_invocation_t *invocation, cm_pg_t **ret_pg, cm_error_t *err)
{
    return cm_command_admin_read(invocation, "client-manager audit", CM_ADMIN_AUDIT_LOG, ret_pg,
                                 err);
}

/* ---- list ----------------------------------------------------------------------------------- */

static void add_text(cm_table_t *table, cm_str_t text)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t copy = {0};
    cm_buffer_append(&copy, text.ptr, text.len);
    cm_table_cell(table, cm_buffer_text(&copy));
}

static bool add_row(void *ctx, const cm_audit_row_t *row)
{
    cm_table_t *table = ctx;
    cm_table_cell_i64(table, row->position);
    cm_table_cell_time(table, row->at_us / 1000);
    add_text(table, row->actor);
    add_text(table, row->action);
    add_text(table, row->tenant);
    cm_table_cell_i64(table, row->generation);
    add_text(table, row->detail);
    return true;
}

int cm_command_audit_list(const cm_invocation_t *invocation)
{
    static const cm_column_t columns[] = {
        {"position", true}, {"at", false},        {"actor", false}, {"action", false},
        {"tenant", false},  {"generation", true}, {"detail", false}};
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = NULL;
    cm_error_t err = {0};
    cm_audit_filter_t filter = {.tenant = cm_flag_text(invocation, "tenant"),
                                .action = cm_flag_text(invocation, "action"),
                                .newest_first = true};
    if (!cm_flag_time(invocation, "since", &filter.since_ms) ||
        !cm_flag_time(invocation, "until", &filter.until_ms) ||
        !cm_flag_i64(invocation, "limit", 1, INT64_MAX, &filter.limit))
        return CM_EXIT_USAGE;
    cm_table_t table;
    cm_table_start(&table, columns, CM_LENGTH(columns), invocation->json);
    cm_status_t status = open_admin(invocation, &pg, &err);
    if (status == CM_OK)
        status = cm_audit_each(pg, invocation->options->postgres.admin_schema, &filter, add_row,
                               &table, &err);
    if (status != CM_OK) {
        cm_table_drop(&table);
        return cm_command_fail(invocation, &err);
    }
    bool full = table.rows / CM_LENGTH(columns) == (size_t)filter.limit;
    cm_table_end(&table);
    if (full && !cm_flag_given(invocation, "limit"))
        fprintf(stderr, "the newest %s are shown; --limit N shows more\n",
                cm_flag_text(invocation, "limit"));
    return CM_EXIT_OK;
}

/* ---- verify --------------------------------------------------------------------------------- */

static const char *meaning(cm_audit_fault_t fault)
{
    switch (fault) {
    case CM_AUDIT_INTACT:
        break;
    case CM_AUDIT_GAP:
        return "its row is not there, and later ones are";
    case CM_AUDIT_ORDER:
        return "there is a second row of this position";
    case CM_AUDIT_PREVIOUS:
        return "it does not name the hash of the row before: one of the two was replaced";
    case CM_AUDIT_HASH:
        return "its hash is not that of its fields: it was changed, or made without the key";
    case CM_AUDIT_KEY:
        return "it was made with another key than audit.key";
    case CM_AUDIT_UNKEYED:
        return "it was made without key; if that was before there was one, say --unkeyed-until";
    case CM_AUDIT_ANCHOR:
        return "it is another row than --head tells of: the log was written anew";
    case CM_AUDIT_TRUNCATED:
        return "the log ends before it, and --head tells of later rows: they were cut off";
    }
    return "nothing is wrong";
}

static void explain(const cm_invocation_t *invocation, const cm_audit_report_t *report)
{
    if (report->fault != CM_AUDIT_INTACT)
        fprintf(stderr, "client-manager audit verify: position %lld: %s\n",
                (long long)report->position, meaning(report->fault));
    if (report->clock_back)
        fprintf(stderr,
                "position %lld is the first of %lld with a time before that of the row before: the "
                "server's clock was set back\n",
                (long long)report->clock_back_position, (long long)report->clock_back);
    if (!*invocation->options->audit.key)
        fputs("there is no audit.key: the chain is plain SHA-256, which whoever can write to the "
              "table can compute\n",
              stderr);
    else if (report->unkeyed)
        fprintf(stderr, "the first %lld rows were made without key\n", (long long)report->unkeyed);
}

static void print_report(const cm_invocation_t *invocation, const cm_audit_report_t *report)
{
    static const cm_column_t columns[] = {
        {"result", false}, {"rows", true},       {"unkeyed", true}, {"position", true},
        {"fault", false},  {"clock_back", true}, {"head", false}};
    char head[CM_AUDIT_HEAD_TEXT_MAX];
    bool broken = report->fault != CM_AUDIT_INTACT;
    cm_table_t table;
    cm_table_start(&table, columns, CM_LENGTH(columns), invocation->json);
    cm_table_cell(&table, broken ? "broken" : "intact");
    cm_table_cell_i64(&table, report->rows);
    cm_table_cell_i64(&table, report->unkeyed);
    if (broken)
        cm_table_cell_i64(&table, report->position);
    else
        cm_table_cell(&table, "");
    cm_table_cell(&table, broken ? cm_audit_fault_name(report->fault) : "");
    cm_table_cell_i64(&table, report->clock_back);
    cm_table_cell(&table, report->rows ? cm_audit_head_text(&report->head, head) : "");
    cm_table_end(&table);
}

static void on_progress(void *ctx, int64_t done, int64_t total)
{
    cm_progress_update(ctx, (uint64_t)done, (uint64_t)total, "");
}

int cm_command_audit_verify(const cm_invocation_t *invocation)
{
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = NULL;
    cm_error_t err = {0};
    cm_progress_t progress;
    cm_audit_head_t expected;
    cm_audit_report_t report;
    cm_audit_verify_t how = {.on_progress = on_progress, .ctx = &progress};
    const char *head = cm_flag_text(invocation, "head");
    if (!cm_flag_i64(invocation, "unkeyed-until", 0, INT64_MAX, &how.unkeyed_until))
        return CM_EXIT_USAGE;
    if (head && !cm_audit_head_parse(head, &expected)) {
        fprintf(stderr,
                "client-manager audit verify: --head is \"%s\"; give POSITION:HASH, the hash in "
                "64 hex digits\n",
                head);
        return CM_EXIT_USAGE;
    }
    how.expected = head ? &expected : NULL;
    cm_status_t status = open_admin(invocation, &pg, &err);
    cm_progress_start(&progress, "rows", invocation->terminal);
    if (status == CM_OK)
        status = cm_audit_verify(pg, invocation->options->postgres.admin_schema,
                                 invocation->options->audit.key, &how, &report, &err);
    if (status != CM_OK)
        return cm_command_fail(invocation, &err);
    if (progress.open)
        cm_progress_end(&progress, (uint64_t)report.rows, (uint64_t)report.rows, "");
    print_report(invocation, &report);
    explain(invocation, &report);
    return report.fault == CM_AUDIT_INTACT ? CM_EXIT_OK : CM_EXIT_FAILED;
}

/* ---- export --------------------------------------------------------------------------------- */

static void print_member(const char *name, cm_str_t text)
{
    printf(", \"%s\": ", name);
    cm_json_print_text(text.ptr, text.len);
}

static void print_hash(const char *name, const unsigned char hash[CM_AUDIT_HASH_BYTES])
{
    printf(", \"%s\": \"", name);
    for (size_t i = 0; i < CM_AUDIT_HASH_BYTES; i++)
        printf("%02x", hash[i]);
    putchar('"');
}

static bool print_line(void *ctx, const cm_audit_row_t *row)
{
    char at[CM_TIME_TEXT_MAX];
    (void)ctx;
    printf("{\"version\": 1, \"position\": %lld, \"at\": \"%s\", \"at_us\": %lld",
           (long long)row->position, cm_clock_format(row->at_us / 1000, at), (long long)row->at_us);
    print_member("actor", row->actor);
    print_member("action", row->action);
    print_member("tenant", row->tenant);
    printf(", \"generation\": %lld", (long long)row->generation);
    print_member("detail", row->detail); /* as a text: a JSON library would change its bytes */
    print_member("key_id", row->key_id);
    print_hash("previous_hash", row->previous_hash);
    print_hash("hash", row->hash);
    puts("}");
    return !ferror(stdout);
}

int cm_command_audit_export(const cm_invocation_t *invocation)
{
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = NULL;
    cm_error_t err = {0};
    cm_status_t status = open_admin(invocation, &pg, &err);
    if (status == CM_OK)
        status = cm_audit_each(pg, invocation->options->postgres.admin_schema,
                               &(cm_audit_filter_t){0}, print_line, NULL, &err);
    if (status == CM_OK && (fflush(stdout) != 0 || ferror(stdout)))
        status = cm_error_set(&err, CM_PERMANENT, "write", "cannot write: %s", strerror(errno));
    return status == CM_OK ? CM_EXIT_OK : cm_command_fail(invocation, &err);
}
