#include "actors/command.h"
#include "actors/progress.h"
#include "actors/publisher.h"
#include "actors/table.h"
#include "proto/attributes.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "schema/audit_log.h"
#include "schema/dead_letter_store.h"
#include "schema/migration.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PAGE = 200, REPLAYS_MAX = 3, PURGE_CHUNK = 10000 };

/* ---- filters -------------------------------------------------------------------------------- */

static bool parse_filter(const cm_invocation_t *invocation, cm_dead_letter_filter_t *ret_filter)
{
    *ret_filter = (cm_dead_letter_filter_t){.tenant = cm_flag_text(invocation, "tenant"),
                                            .error_class = cm_flag_text(invocation, "class"),
                                            .error_code = cm_flag_text(invocation, "code"),
                                            .limit = PAGE};
    return cm_flag_time(invocation, "since", &ret_filter->since_ms) &&
           cm_flag_time(invocation, "until", &ret_filter->until_ms);
}

/* Replay and purge want to be told what; nothing at all must not mean everything. */
static bool is_chosen(const cm_invocation_t *invocation)
{
    static const char *const names[] = {"tenant", "class", "code", "since", "until", "all"};
    bool filtered = false;
    for (size_t i = 0; i < CM_LENGTH(names); i++)
        filtered |= cm_flag_given(invocation, names[i]);
    if (filtered != (invocation->arg_count > 0))
        return true;
    fprintf(stderr, "client-manager %s: give either ids, or filters or --all\n",
            invocation->command->name);
    return false;
}

#define APPLICATION "client-manager dead-letters"

static cm_status_t open_admin(const cm_invocation_t *invocation, bool writes, cm_pg_t **ret_pg,
                              cm_error_t *err)
{
    return writes ? cm_command_admin_write(invocation, APPLICATION, ret_pg, err)
                  : cm_command_admin_read(invocation, APPLICATION, CM_ADMIN_BASE, ret_pg, err);
}

static const char *text_of(cm_str_t text, char *room, size_t size)
{
    snprintf(room, size, "%.*s", CM_STR_ARG(text));
    return room;
}

/* ---- list, show ----------------------------------------------------------------------------- */

static void add_row(cm_table_t *table, const cm_dead_letter_t *item)
{
    char room[512];
    cm_table_cell_i64(table, item->id);
    cm_table_cell(table, text_of(item->tenant, room, sizeof room));
    cm_table_cell(table, text_of(item->error_class, room, sizeof room));
    cm_table_cell(table, text_of(item->error_code, room, sizeof room));
    cm_table_cell_i64(table, item->retry_count);
    cm_table_cell_i64(table, item->replay_count);
    cm_table_cell_time(table, item->last_failed_ms);
    cm_table_cell(table, text_of(item->error_message, room, sizeof room));
}

int cm_command_dead_letters_list(const cm_invocation_t *invocation)
{
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = NULL;
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(64 * 1024);
    cm_dead_letter_filter_t filter;
    cm_error_t err = {0};
    int64_t left = 0;
    if (!parse_filter(invocation, &filter) ||
        !cm_flag_i64(invocation, "limit", 1, INT64_MAX, &left))
        return CM_EXIT_USAGE;
    static const cm_column_t columns[] = {
        {"id", true},      {"tenant", false}, {"class", false},     {"code", false},
        {"retries", true}, {"replays", true}, {"failed_at", false}, {"message", false}};
    cm_table_t table;
    cm_table_start(&table, columns, CM_LENGTH(columns), invocation->json);
    cm_status_t status = open_admin(invocation, false, &pg, &err);
    size_t count = 1;
    while (status == CM_OK && count && left > 0) {
        cm_dead_letter_t *items = NULL;
        filter.limit = left < PAGE ? (size_t)left : PAGE;
        status = cm_dead_letter_list(pg, invocation->options->postgres.admin_schema, &filter, false,
                                     arena, &items, &count, &err);
        for (size_t i = 0; status == CM_OK && i < count; i++)
            add_row(&table, &items[i]);
        if (status == CM_OK && count)
            filter.after_id = items[count - 1].id;
        left -= (int64_t)count;
    }
    if (status != CM_OK) {
        cm_table_drop(&table);
        return cm_command_fail(invocation, &err);
    }
    cm_table_end(&table);
    if (left <= 0 && !cm_flag_given(invocation, "limit"))
        fprintf(stderr, "the oldest %s are shown; --limit N shows more, --since 1h the newest\n",
                cm_flag_text(invocation, "limit"));
    return CM_EXIT_OK;
}

static void print_member(const char *name, cm_str_t text)
{
    printf(", \"%s\": ", name);
    cm_json_print_text(text.ptr ? text.ptr : "", text.len);
}

static void print_body(cm_str_t body)
{
    printf(", \"body\": ");
    cm_json_print_text(body.ptr ? body.ptr : "", body.len);
    printf(", \"body_hex\": \"");
    for (size_t i = 0; i < body.len; i++)
        printf("%02x", (unsigned char)body.ptr[i]);
    puts("\"}");
}

static void print_dead_letter_json(const cm_dead_letter_t *item)
{
    char time[CM_TIME_TEXT_MAX];
    printf("{\"id\": %lld", (long long)item->id);
    print_member("tenant", item->tenant);
    print_member("class", item->error_class);
    print_member("code", item->error_code);
    print_member("message", item->error_message);
    print_member("origin_topic", item->origin_topic);
    print_member("origin_message_id", item->origin_message_id);
    print_member("first_failed_at", cm_str(cm_clock_format(item->first_failed_ms, time)));
    print_member("last_failed_at", cm_str(cm_clock_format(item->last_failed_ms, time)));
    print_member("replayed_at",
                 cm_str(item->replayed_ms ? cm_clock_format(item->replayed_ms, time) : ""));
    printf(", \"retries\": %d, \"replays\": %d, \"attributes\": {", item->retry_count,
           item->replay_count);
    for (size_t i = 0; i < item->attribute_count; i++) {
        fputs(i ? ", " : "", stdout);
        cm_json_print_text(item->attributes[i].name.ptr, item->attributes[i].name.len);
        fputs(": ", stdout);
        cm_json_print_text(item->attributes[i].value.ptr, item->attributes[i].value.len);
    }
    putchar('}');
    print_body(item->body);
}

static void add_field(cm_table_t *table, const char *name, cm_str_t value)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t text = {0};
    cm_buffer_append(&text, value.ptr ? value.ptr : "", value.len);
    cm_table_cell(table, name);
    cm_table_cell(table, cm_buffer_text(&text)); /* up to a NUL; --output json shows all */
}

static void add_number(cm_table_t *table, const char *name, int64_t value)
{
    cm_table_cell(table, name);
    cm_table_cell_i64(table, value);
}

static void print_dead_letter(const cm_dead_letter_t *item)
{
    static const cm_column_t columns[] = {{"field", false}, {"value", false}};
    cm_table_t table;
    cm_table_start(&table, columns, CM_LENGTH(columns), false);
    add_number(&table, "id", item->id);
    add_field(&table, "tenant", item->tenant);
    add_field(&table, "class", item->error_class);
    add_field(&table, "code", item->error_code);
    add_field(&table, "message", item->error_message);
    add_field(&table, "origin_topic", item->origin_topic);
    add_field(&table, "origin_message_id", item->origin_message_id);
    cm_table_cell(&table, "first_failed_at");
    cm_table_cell_time(&table, item->first_failed_ms);
    cm_table_cell(&table, "last_failed_at");
    cm_table_cell_time(&table, item->last_failed_ms);
    cm_table_cell(&table, "replayed_at");
    cm_table_cell_time(&table, item->replayed_ms);
    add_number(&table, "retries", item->retry_count);
    add_number(&table, "replays", item->replay_count);
    for (size_t i = 0; i < item->attribute_count; i++) {
        char name[64];
        snprintf(name, sizeof name, "attribute %.*s", CM_STR_ARG(item->attributes[i].name));
        add_field(&table, name, item->attributes[i].value);
    }
    add_number(&table, "bytes", (int64_t)item->body.len);
    add_field(&table, "body", item->body);
    cm_table_end(&table);
}

static bool parse_id(const cm_invocation_t *invocation, size_t index, int64_t *ret_id)
{
    if (cm_str_to_i64(cm_str(invocation->args[index]), ret_id) && *ret_id > 0)
        return true;
    fprintf(stderr, "client-manager %s: \"%s\" is no id of a dead letter\n",
            invocation->command->name, invocation->args[index]);
    return false;
}

/* All of them before the first is touched. */
static bool check_ids(const cm_invocation_t *invocation)
{
    bool good = true;
    int64_t id;
    for (size_t i = 0; i < invocation->arg_count; i++)
        good &= parse_id(invocation, i, &id);
    return good;
}

int cm_command_dead_letters_show(const cm_invocation_t *invocation)
{
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = NULL;
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(64 * 1024);
    cm_dead_letter_filter_t filter = {.limit = 1};
    cm_dead_letter_t *items = NULL;
    size_t count = 0;
    cm_error_t err = {0};
    if (!parse_id(invocation, 0, &filter.id))
        return CM_EXIT_USAGE;
    cm_status_t status = open_admin(invocation, false, &pg, &err);
    if (status == CM_OK)
        status = cm_dead_letter_list(pg, invocation->options->postgres.admin_schema, &filter, true,
                                     arena, &items, &count, &err);
    if (status == CM_OK && !count)
        status = cm_error_set(&err, CM_MISSING, NULL, "there is no dead letter %lld",
                              (long long)filter.id);
    if (status != CM_OK)
        return cm_command_fail(invocation, &err);
    if (invocation->json)
        print_dead_letter_json(&items[0]);
    else
        print_dead_letter(&items[0]);
    return CM_EXIT_OK;
}

/* ---- replay --------------------------------------------------------------------------------- */

typedef struct {
    const cm_invocation_t *invocation;
    cm_pg_t *pg;
    cm_publisher_t *publisher;
    bool dry;
    cm_progress_t progress;
    cm_table_t table; /* --dry-run: what would go where */
    uint64_t replayed, refused, missing;
} replay_t;

/* The message as it first came, but for what the retry path had written into it. */
static void original(const cm_dead_letter_t *item, cm_attribute_list_t *list)
{
    static const char *const ours[] = {CM_ATTRIBUTE_RETRY_COUNT,     CM_ATTRIBUTE_NOT_BEFORE,
                                       CM_ATTRIBUTE_FIRST_FAILED_AT, CM_ATTRIBUTE_LAST_FAILED_AT,
                                       CM_ATTRIBUTE_ERROR_CLASS,     CM_ATTRIBUTE_ERROR_CODE,
                                       CM_ATTRIBUTE_ERROR_MESSAGE,   CM_ATTRIBUTE_REPLAY_COUNT};
    list->count = 0;
    for (size_t i = 0; i < item->attribute_count && list->count < CM_ATTRIBUTES_MAX; i++) {
        bool skip = false;
        for (size_t k = 0; k < CM_LENGTH(ours); k++)
            skip |= cm_str_is(item->attributes[i].name, ours[k]);
        if (!skip)
            list->items[list->count++] = item->attributes[i];
    }
}

static cm_subscription_id_t replay_topic(const replay_t *self, const cm_dead_letter_t *item)
{
    char topic[CM_TOPIC_NAME_MAX];
    cm_subscription_id_t id = cm_subscription_by_topic(
        text_of(item->origin_topic, topic, sizeof topic), self->invocation->options->broker.prefix);
    return id == CM_SUBSCRIPTION_NONE || cm_subscription(id)->flow == CM_FLOW_DEVICES
               ? CM_SUBSCRIPTION_REPUBLISHER
               : id;
}

/* Publish it and mark it. *ret_published: it went out, whatever became of the mark. */
static cm_status_t publish_one(replay_t *self, const cm_dead_letter_t *item,
                               cm_subscription_id_t topic, bool *ret_published, cm_error_t *err)
{
    char count[16];
    cm_attribute_list_t list;
    original(item, &list);
    snprintf(count, sizeof count, "%d", item->replay_count + 1);
    cm_attribute_set(&list, CM_ATTRIBUTE_REPLAY_COUNT, cm_str(count));
    cm_attribute_set(&list, CM_ATTRIBUTE_ORIGIN_TOPIC, item->origin_topic);
    cm_attribute_set(&list, CM_ATTRIBUTE_ORIGIN_MESSAGE_ID, item->origin_message_id);
    cm_message_t message = {
        .body = item->body, .attributes = list.items, .attribute_count = list.count};
    cm_status_t status = cm_publisher_send(self->publisher, topic, &message, err);
    if (status == CM_OK) /* confirmed before it is marked: a crash between replays it twice */
        status = cm_publisher_flush(self->publisher, err);
    *ret_published = status == CM_OK;
    if (status == CM_OK)
        status = cm_dead_letter_mark_replayed(
            self->pg, self->invocation->options->postgres.admin_schema, item->id, err);
    return status;
}

/* What is about this one alone is told and counted, and the next one follows. */
static cm_status_t replay_one(replay_t *self, const cm_dead_letter_t *item, cm_error_t *err)
{
    if (item->replay_count >= REPLAYS_MAX) {
        cm_progress_say(&self->progress, "dead letter %lld was replayed %d times already, refused",
                        (long long)item->id, item->replay_count);
        self->refused++;
        return CM_OK;
    }
    cm_subscription_id_t topic = replay_topic(self, item);
    if (self->dry) {
        char tenant[512];
        cm_table_cell_i64(&self->table, item->id);
        cm_table_cell(&self->table, text_of(item->tenant, tenant, sizeof tenant));
        cm_table_cell(&self->table, cm_subscription(topic)->suffix);
        self->replayed++;
        return CM_OK;
    }
    bool published = false;
    cm_status_t status = publish_one(self, item, topic, &published, err);
    self->replayed += status == CM_OK;
    if (status == CM_OK || status == CM_UNAVAILABLE || status == CM_MISCONFIGURED)
        return status;
    cm_progress_say(&self->progress, "dead letter %lld %s: %s (%s)", (long long)item->id,
                    published ? "was published but not marked" : "was refused", err->message,
                    err->code);
    self->refused++;
    return CM_OK;
}

static cm_status_t replay_matching(replay_t *self, cm_dead_letter_filter_t *filter,
                                   cm_arena_t *arena, cm_error_t *err)
{
    const char *admin = self->invocation->options->postgres.admin_schema;
    int64_t total = 0;
    cm_status_t status = cm_dead_letter_count(self->pg, admin, filter, &total, err);
    size_t count = 1;
    while (status == CM_OK && count) {
        cm_dead_letter_t *items = NULL;
        cm_arena_reset(arena);
        status = cm_dead_letter_list(self->pg, admin, filter, true, arena, &items, &count, err);
        for (size_t i = 0; status == CM_OK && i < count; i++) {
            status = replay_one(self, &items[i], err);
            cm_progress_update(&self->progress, self->replayed, (uint64_t)total, "");
        }
        if (status == CM_OK && count)
            filter->after_id = items[count - 1].id;
        if (filter->id)
            break;
    }
    if (status == CM_OK && filter->id && !total) {
        cm_progress_say(&self->progress, "there is no dead letter %lld", (long long)filter->id);
        self->missing++;
    }
    return status;
}

/* What came of it, on stdout; a dry run lists each instead. */
static void report(replay_t *self)
{
    static const cm_column_t columns[] = {{"replayed", true}, {"refused", true}, {"missing", true}};
    if (self->dry) {
        cm_table_end(&self->table);
        fprintf(stderr, "%llu would be replayed, %llu refused\n",
                (unsigned long long)self->replayed, (unsigned long long)self->refused);
        return;
    }
    cm_table_start(&self->table, columns, CM_LENGTH(columns), self->invocation->json);
    cm_table_cell_i64(&self->table, (int64_t)self->replayed);
    cm_table_cell_i64(&self->table, (int64_t)self->refused);
    cm_table_cell_i64(&self->table, (int64_t)self->missing);
    cm_table_end(&self->table);
}

int cm_command_dead_letters_replay(const cm_invocation_t *invocation)
{
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = NULL;
    CM_CLEANUP(cm_publisher_close) cm_publisher_t *publisher = NULL;
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(256 * 1024);
    cm_dead_letter_filter_t filter;
    cm_error_t err = {0};
    int64_t rate = 0;
    static const cm_column_t dry_columns[] = {{"id", true}, {"tenant", false}, {"topic", false}};
    if (!is_chosen(invocation) || !check_ids(invocation) || !parse_filter(invocation, &filter) ||
        !cm_flag_i64(invocation, "rate", 1, 100000, &rate))
        return CM_EXIT_USAGE;
    replay_t self = {.invocation = invocation, .dry = cm_flag_given(invocation, "dry-run")};
    cm_status_t status = open_admin(invocation, !self.dry, &pg, &err);
    if (status == CM_OK && !self.dry)
        status = cm_publisher_open(&publisher, invocation->options, rate, &err);
    self.pg = pg;
    self.publisher = publisher;
    cm_table_start(&self.table, dry_columns, CM_LENGTH(dry_columns), invocation->json);
    cm_progress_start(&self.progress, "replayed", invocation->terminal);
    for (size_t i = 0; status == CM_OK && i < invocation->arg_count; i++) {
        parse_id(invocation, i, &filter.id);
        filter.after_id = 0;
        status = replay_matching(&self, &filter, arena, &err);
    }
    if (status == CM_OK && !invocation->arg_count)
        status = replay_matching(&self, &filter, arena, &err);
    report(&self);
    if (status != CM_OK)
        return cm_command_fail(invocation, &err);
    if (!self.refused && !self.missing)
        return CM_EXIT_OK;
    return self.replayed ? CM_EXIT_PARTIAL : CM_EXIT_FAILED;
}

/* ---- purge ---------------------------------------------------------------------------------- */

/* Ask before something that cannot be undone. */
static int confirm(const cm_invocation_t *invocation, int64_t count)
{
    if (invocation->yes)
        return CM_EXIT_OK;
    if (!isatty(STDIN_FILENO)) {
        fputs("client-manager dead-letters purge: stdin is no terminal; say --yes\n", stderr);
        return CM_EXIT_USAGE;
    }
    char answer[8] = "";
    fprintf(stderr, "remove %lld dead letters for good? [y/N] ", (long long)count);
    if (fgets(answer, sizeof answer, stdin) && (answer[0] == 'y' || answer[0] == 'Y'))
        return CM_EXIT_OK;
    fputs("nothing was removed\n", stderr);
    return CM_EXIT_FAILED;
}

/* Count, then with `remove` remove, what the filters or the ids match. */
static cm_status_t for_each_match(const cm_invocation_t *invocation, cm_pg_t *pg,
                                  cm_dead_letter_filter_t filter, bool remove, int64_t *ret_total,
                                  cm_error_t *err)
{
    const char *admin = invocation->options->postgres.admin_schema;
    size_t times = invocation->arg_count ? invocation->arg_count : 1;
    cm_status_t status = CM_OK;
    *ret_total = 0;
    for (size_t i = 0; status == CM_OK && i < times; i++) {
        int64_t count = 0;
        if (invocation->arg_count)
            parse_id(invocation, i, &filter.id);
        status = remove ? cm_dead_letter_purge(pg, admin, &filter, &count, err)
                        : cm_dead_letter_count(pg, admin, &filter, &count, err);
        *ret_total += count;
        if (status == CM_OK && invocation->arg_count && !count)
            fprintf(stderr, "there is no dead letter %lld\n", (long long)filter.id);
    }
    return status;
}

/* What was chosen and how many that were; ids, classes and codes are nobody's personal data. */
static cm_status_t tell_audit(const cm_invocation_t *invocation, cm_pg_t *pg,
                              const cm_dead_letter_filter_t *filter, int64_t removed,
                              cm_audit_head_t *ret_head, cm_error_t *err)
{
    char actor[CM_OPERATOR_MAX];
    json_t *detail = json_pack("{s:I, s:b, s:s*, s:s*}", "removed", (json_int_t)removed, "by_id",
                               invocation->arg_count > 0, "class", filter->error_class, "code",
                               filter->error_code);
    CM_CLEANUP(cm_free) char *text = detail ? json_dumps(detail, 0) : NULL;
    json_decref(detail);
    cm_audit_entry_t entry = {.actor = cm_command_operator(actor),
                              .action = "dead-letters-purged",
                              .tenant = filter->tenant,
                              .detail = text};
    return cm_audit_append(pg, invocation->options->postgres.admin_schema,
                           invocation->options->audit.key, &entry, ret_head, err);
}

/* One transaction: what it removes and its audit entry, or nothing. */
static cm_status_t purge_chunk(const cm_invocation_t *invocation, cm_pg_t *pg,
                               const cm_dead_letter_filter_t *filter, int64_t *ret_removed,
                               cm_audit_head_t *ret_head, cm_error_t *err)
{
    cm_audit_head_t head = *ret_head;
    cm_status_t status = cm_pg_begin(pg, err);
    if (status == CM_OK)
        status = cm_pg_exec(pg, "SET TRANSACTION ISOLATION LEVEL READ COMMITTED", err);
    if (status == CM_OK)
        status = for_each_match(invocation, pg, *filter, true, ret_removed, err);
    if (status == CM_OK && *ret_removed)
        status = tell_audit(invocation, pg, filter, *ret_removed, &head, err);
    if (status == CM_OK)
        status = cm_pg_commit(pg, err);
    if (status == CM_OK)
        *ret_head = head;
    else
        cm_pg_rollback(pg);
    return status;
}

/* Ids at once, what filters match in chunks: one transaction over millions would hold its locks and
 * its dead rows for hours, and lose all when it is interrupted. */
static cm_status_t purge(const cm_invocation_t *invocation, cm_pg_t *pg,
                         const cm_dead_letter_filter_t *filter, int64_t found, int64_t *ret_removed,
                         cm_error_t *err)
{
    cm_progress_t progress;
    cm_audit_head_t head = {0};
    int64_t removed = 0;
    cm_status_t status = CM_OK;
    cm_progress_start(&progress, "removed", invocation->terminal);
    do {
        status = purge_chunk(invocation, pg, filter, &removed, &head, err);
        if (status != CM_OK)
            break;
        *ret_removed += removed;
        if (invocation->terminal)
            cm_progress_update(&progress, (uint64_t)*ret_removed, (uint64_t)found, "");
    } while (!invocation->arg_count && removed == PURGE_CHUNK);
    if (progress.open)
        cm_progress_end(&progress, (uint64_t)*ret_removed, (uint64_t)found, "");
    cm_command_tell_head(&head);
    if (status != CM_OK && *ret_removed)
        fprintf(stderr, "%lld dead letters were removed before this:\n", (long long)*ret_removed);
    return status;
}

int cm_command_dead_letters_purge(const cm_invocation_t *invocation)
{
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = NULL;
    cm_dead_letter_filter_t filter;
    cm_error_t err = {0};
    int64_t found = 0, removed = 0;
    bool dry = cm_flag_given(invocation, "dry-run");
    if (!is_chosen(invocation) || !check_ids(invocation) || !parse_filter(invocation, &filter))
        return CM_EXIT_USAGE;
    cm_status_t status = open_admin(invocation, !dry, &pg, &err);
    if (status == CM_OK)
        status = for_each_match(invocation, pg, filter, false, &found, &err);
    if (status == CM_OK && found && !dry) {
        int refused = confirm(invocation, found);
        if (refused)
            return refused;
        filter.limit = PURGE_CHUNK;
        status = purge(invocation, pg, &filter, found, &removed, &err);
    }
    if (status != CM_OK)
        return cm_command_fail(invocation, &err);
    static const cm_column_t columns[] = {{"matching", true}, {"removed", true}};
    cm_table_t table;
    cm_table_start(&table, columns, CM_LENGTH(columns), invocation->json);
    cm_table_cell_i64(&table, found);
    cm_table_cell_i64(&table, removed);
    cm_table_end(&table);
    if (found >= (int64_t)invocation->arg_count)
        return CM_EXIT_OK;
    return found ? CM_EXIT_PARTIAL : CM_EXIT_FAILED;
}
